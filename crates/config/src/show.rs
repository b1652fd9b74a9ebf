//! The effective configuration as YAML, each value with who said so.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::document::Document;
use crate::problem::Path;
use crate::tree::{Entry, Node, Origin, Scalar, Value, switch};

/// The column that origins begin in, where the value leaves room.
const COLUMN: usize = 48;

/// What is shown before the words of policies, and after them. The rest has become part of it by now.
const SHOWN: [&[&str]; 2] = [&["version", "server", "admin", "status", "log", "services"], &["routes"]];

impl Document {
    /// Every effective value as YAML, defaults included, with its origin in a comment: `gateway.yaml:3`, `environment NAME` or `default`.
    /// Secrets are `***`.
    pub fn show(&self) -> String {
        let mut out = String::new();
        let [before, after] = SHOWN;
        let words = self.vocabulary.keys_of(&Path::root());
        let keys = before.iter().copied().chain(words).chain(after.iter().copied());
        for entry in keys.filter_map(|key| self.tree.as_map()?.entry(key)) {
            self.show_entry(&mut out, entry, 0);
        }
        out
    }

    fn show_entry(&self, out: &mut String, entry: &Entry, indent: usize) {
        let lead = format!("{:indent$}{}:", "", quoted(&Scalar { text: Arc::clone(&entry.key), plain: true }));
        self.show_node(out, &lead, &entry.node, indent);
    }

    /// `lead` is the line so far: a key, or the dash of a list.
    fn show_node(&self, out: &mut String, lead: &str, node: &Node, indent: usize) {
        if node.secret {
            self.show_line(out, &format!("{lead} '***'"), &node.origin);
            return;
        }
        match &node.value {
            Value::Null => self.show_line(out, lead, &node.origin),
            Value::Scalar(scalar) => self.show_line(out, &format!("{lead} {}", quoted(scalar)), &node.origin),
            Value::List(items) if items.iter().all(|item| item.as_text().is_some() && !item.secret) => {
                let items: Vec<String> = items.iter().map(inline).collect();
                self.show_line(out, &format!("{lead} [{}]", items.join(", ")), &node.origin);
            }
            Value::List(items) => {
                out.push_str(lead);
                out.push('\n');
                for item in items {
                    self.show_item(out, item, indent + 2);
                }
            }
            Value::Map(map) if map.0.is_empty() => self.show_line(out, &format!("{lead} {{}}"), &node.origin),
            Value::Map(map) => {
                out.push_str(lead);
                out.push('\n');
                for entry in &map.0 {
                    self.show_entry(out, entry, indent + 2);
                }
            }
        }
    }

    /// The first key of a mapping stands behind the dash.
    fn show_item(&self, out: &mut String, item: &Node, indent: usize) {
        match &item.value {
            Value::Map(map) if !map.0.is_empty() && !item.secret => {
                let mut inner = String::new();
                for entry in &map.0 {
                    self.show_entry(&mut inner, entry, indent + 2);
                }
                let rest = inner.get(indent + 2..).unwrap_or_default();
                // Writing to a String cannot fail.
                let _infallible = write!(out, "{:indent$}- {rest}", "");
            }
            Value::Null | Value::Scalar(_) | Value::List(_) | Value::Map(_) => {
                self.show_node(out, &format!("{:indent$}-", ""), item, indent);
            }
        }
    }

    fn show_line(&self, out: &mut String, text: &str, origin: &Origin) {
        let origin = match origin {
            Origin::File(place) => self.location(*place).map_or_else(String::new, |location| location.to_string()),
            Origin::Environment(name) => format!("environment {name}"),
            Origin::Default => "default".to_owned(),
        };
        let _infallible = writeln!(out, "{text:COLUMN$} # {origin}");
    }
}

fn inline(node: &Node) -> String {
    match &node.value {
        Value::Scalar(scalar) => quoted(scalar),
        Value::Null | Value::List(_) | Value::Map(_) => String::new(),
    }
}

/// The text as a YAML scalar that reads the same again.
fn quoted(scalar: &Scalar) -> String {
    let text = &*scalar.text;
    let simple = |c: char| c.is_ascii_alphanumeric() || "-_./%+".contains(c);
    let is_word =
        !text.is_empty() && !text.starts_with(['-', '%']) && text.chars().all(simple) && !text.contains("...");
    let is_url = text.contains("://") && text.chars().all(|c| simple(c) || c == ':') && !text.ends_with(':');
    if scalar.plain && text.parse::<f64>().is_ok() {
        return text.to_owned();
    }
    let reads_otherwise = !scalar.plain && (switch(text).is_some() || is_special(text));
    if (is_word || is_url) && !reads_otherwise {
        return text.to_owned();
    }
    if text.chars().any(char::is_control) {
        return serde_json::Value::from(text).to_string();
    }
    format!("'{}'", text.replace('\'', "''"))
}

/// Numbers and nothing: quoted where they were, because a text is meant.
fn is_special(text: &str) -> bool {
    matches!(text, "~" | "null" | "Null" | "NULL") || text.parse::<f64>().is_ok()
}
