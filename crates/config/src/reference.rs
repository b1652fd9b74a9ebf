//! The reference of the configuration as Markdown, out of the schema and the built-in values: it cannot fall behind them.

use std::fmt::Write as _;

use serde_json::Value as Json;

use crate::merge;
use crate::policy::Place;
use crate::tree::{Node, Value};
use crate::vocabulary::{EVERY, IF_WRITTEN, Vocabulary};

const INTRODUCTION: &str = "# Configuration reference

Every key, its values and what it is by default. This page is made from the program: `cargo test -p tidegate-policies` compares
it, `UPDATE=1 cargo test -p tidegate-policies` writes it. The guide with examples is [configuration.md](../configuration.md), and
[tidegate.schema.json](tidegate.schema.json) teaches editors the same.

Durations are `250ms`, `30s`, `5m`, `1h`; sizes `16KB`, `10MB`, `1GB` (1 KB is 1024 bytes); shares `60%`. `off` and `false`, `on` and `true`
mean the same, in quotes or without. One scalar may stand where a list of them is meant.
";

/// The sections that most people look for.
const FIRST: [&str; 3] = ["server", "services", "routes"];

/// The reference as Markdown.
pub fn reference(vocabulary: &'static Vocabulary) -> String {
    let (out, defaults) = (INTRODUCTION.to_owned(), merge::defaults());
    let mut reference = Reference { out, seen: Vec::new(), defaults, vocabulary };
    reference.object("", vocabulary.raw());
    reference.out
}

struct Reference {
    out: String,
    /// Objects that have their section already, with its title.
    seen: Vec<(String, String)>,
    defaults: Node,
    vocabulary: &'static Vocabulary,
}

impl Reference {
    /// The section of an object, and after it those of the objects in it.
    fn object(&mut self, path: &str, schema: &Json) {
        let title = if path.is_empty() { "The file" } else { path };
        self.line(&format!(
            "\n## {}\n\n{}\n",
            if path.is_empty() { title.to_owned() } else { format!("`{title}`") },
            description(schema)
        ));
        self.line("| key | value | default | |");
        self.line("|---|---|---|---|");
        let properties = schema.get("properties").and_then(Json::as_object);
        for (key, property) in properties.into_iter().flatten() {
            let inner = join(path, key);
            let default = self.default(&inner).map_or_else(String::new, |default| format!("`{default}`"));
            self.line(&format!(
                "| `{key}` | {} | {default} | {} |",
                words(self.vocabulary.raw(), property),
                description(property)
            ));
        }
        let mut inner: Vec<_> = properties.into_iter().flatten().collect();
        // What a service shares with its discovery is explained with the service.
        inner.sort_by_key(|(key, _)| {
            let first = FIRST.iter().position(|first| first == key).filter(|_| path.is_empty());
            (first.unwrap_or(FIRST.len()), *key == "discovery")
        });
        for (key, property) in inner {
            self.below(&join(path, key), property);
        }
    }

    /// Sections for the objects in a value.
    fn below(&mut self, path: &str, schema: &Json) {
        if let Some(name) = reference_name(schema) {
            if let Some((_, title)) = self.seen.iter().find(|(seen, _)| seen == name) {
                let text = format!("\n## `{path}`\n\nThe keys are those of [`{title}`](#{}).", anchor(title));
                self.line(&text);
                return;
            }
            let target = definition(self.vocabulary.raw(), name);
            if target.get("properties").is_some() {
                self.seen.push((name.to_owned(), path.to_owned()));
                self.object(path, target);
            } else {
                self.below(path, target);
            }
        }
        for choice in schema.get("anyOf").and_then(Json::as_array).into_iter().flatten() {
            self.below(path, choice);
        }
        if let Some(items) = schema.get("items") {
            self.below(&format!("{path}[]"), items);
        }
        if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
            self.below(&format!("{path}.NAME"), values);
        }
    }

    /// The built-in value at a path, where it is a scalar or a list of them.
    fn default(&self, path: &str) -> Option<String> {
        const PARTS: [(&str, &str); 9] = [
            ("server.listeners[].", "listener"),
            ("server.tls.", "tls"),
            ("admin.", "admin"),
            ("status.", "status"),
            ("log.access.", "access"),
            ("services.NAME.", "service"),
            ("services.NAME.", "in_service"),
            ("routes[].", "route"),
            ("routes[].", "in_route"),
        ];
        let in_part = |(prefix, part): &(&str, &str)| {
            find(self.defaults.get("when_present")?.get(part)?, path.strip_prefix(prefix)?)
        };
        let built_in = PARTS.iter().find_map(in_part).or_else(|| find(&self.defaults, path));
        match &built_in.or_else(|| self.default_of_word(path))?.value {
            Value::Scalar(scalar) => Some(scalar.text.to_string()),
            Value::List(items) => {
                let items: Vec<&str> = items.iter().filter_map(Node::as_text).collect();
                Some(format!("[{}]", items.join(", ")))
            }
            Value::Null | Value::Map(_) => None,
        }
    }

    /// The same for what a policy completes.
    fn default_of_word(&self, path: &str) -> Option<&'static Node> {
        let (place, path) = match path.strip_prefix("routes[].") {
            Some(path) => (Place::Route, path),
            None => (Place::Top, path),
        };
        let mut keys = path.split('.');
        let word = keys.next()?;
        let line = self.vocabulary.of(place).find(|line| line.word.key == word)?;
        keys.try_fold(&line.built_in, |node, key| {
            let key = if key == "NAME" { EVERY } else { key };
            node.get(key).or_else(|| node.get(&format!("{key}{IF_WRITTEN}")))
        })
    }

    fn line(&mut self, text: &str) {
        // Writing to a String cannot fail.
        let _infallible = writeln!(self.out, "{text}");
    }
}

fn find<'n>(node: &'n Node, path: &str) -> Option<&'n Node> {
    path.split('.').try_fold(node, |node, key| node.get(key))
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The anchor that Markdown renderers make of a heading.
fn anchor(title: &str) -> String {
    title.to_ascii_lowercase().chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).collect()
}

fn description(schema: &Json) -> String {
    let text = schema.get("description").and_then(Json::as_str).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn reference_name(schema: &Json) -> Option<&str> {
    schema.get("$ref").and_then(Json::as_str).and_then(|name| name.rsplit('/').next())
}

fn definition<'v>(root: &'v Json, name: &str) -> &'v Json {
    root.get("$defs").and_then(|definitions| definitions.get(name)).unwrap_or(&Json::Null)
}

/// What may be written, in a few words.
fn words(root: &Json, schema: &Json) -> String {
    if let Some(name) = reference_name(schema) {
        return words(root, definition(root, name));
    }
    let choices = schema.get("anyOf").or(schema.get("oneOf")).and_then(Json::as_array);
    if let Some(choices) = choices {
        let words: Vec<String> =
            choices.iter().map(|choice| words(root, choice)).filter(|words| !words.is_empty()).collect();
        return words.join(" or ");
    }
    if let Some(word) = schema.get("const").and_then(Json::as_str) {
        return format!("`{word}`");
    }
    if let Some(words) = schema.get("enum").and_then(Json::as_array) {
        let words: Vec<String> = words.iter().filter_map(Json::as_str).map(|word| format!("`{word}`")).collect();
        return words.join(" or ");
    }
    if let Some(title) = schema.get("title").and_then(Json::as_str) {
        return title.to_owned();
    }
    match schema.get("type") {
        Some(Json::String(kind)) => kind_words(root, kind, schema),
        Some(Json::Array(kinds)) => {
            let kinds: Vec<&str> = kinds.iter().filter_map(Json::as_str).filter(|kind| *kind != "null").collect();
            match kinds.as_slice() {
                [kind] => kind_words(root, kind, schema),
                _ if kinds.contains(&"object") => "text, mapping or list".to_owned(),
                _ => "text".to_owned(),
            }
        }
        _ => String::new(),
    }
}

fn kind_words(root: &Json, kind: &str, schema: &Json) -> String {
    match kind {
        "integer" | "number" => "number".to_owned(),
        "boolean" => "`on` or `off`".to_owned(),
        "array" => format!("list: {}", schema.get("items").map(|items| words(root, items)).unwrap_or_default()),
        "object" => match schema.get("additionalProperties").filter(|values| values.is_object()) {
            Some(values) => format!("mapping of names: {}", words(root, values)),
            None => "mapping".to_owned(),
        },
        "null" => String::new(),
        _ => "text".to_owned(),
    }
}
