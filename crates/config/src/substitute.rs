//! `${NAME}`, `${NAME:-default}` and `${file:path}` in values, after the YAML is parsed: what comes in is always one value,
//! never structure.

use std::collections::BTreeSet;
use std::path::{Path as FilePath, PathBuf};

use crate::problem::{Path, Problem, Problems};
use crate::source::Source;
use crate::tree::{Node, Scalar, Value};
use crate::value::Invalid;

/// The largest file that a value may come from.
const MAX_FILE: usize = 1 << 20;

/// What variables are replaced from, and what was used.
pub(crate) struct Substitution<'a> {
    pub env: &'a [(String, String)],
    pub source: &'a dyn Source,
    /// Files that were read.
    pub files: &'a mut Vec<PathBuf>,
    /// Variables that were asked for.
    pub used: &'a mut BTreeSet<String>,
    /// What files said.
    pub secrets: &'a mut BTreeSet<String>,
    pub problems: &'a mut Problems,
}

impl Substitution<'_> {
    /// Replaces the variables in every value of a file's tree; `folder` is the file's.
    pub(crate) fn apply(&mut self, tree: &mut Node, folder: &FilePath) {
        tree.walk_mut(&Path::root(), &mut |path, node| {
            let Value::Scalar(scalar) = &node.value else { return };
            if !scalar.text.contains("${") {
                return;
            }
            let text = std::sync::Arc::clone(&scalar.text);
            match self.replace(&text, folder) {
                Ok((text, secret)) => {
                    node.value = Value::Scalar(Scalar { text: text.into(), plain: false });
                    node.secret |= secret;
                }
                Err(invalid) => {
                    let problem = Problem { help: invalid.help, ..Problem::error(path.clone(), invalid.message) };
                    self.problems.push(problem.at(node.origin.clone()));
                    node.value = Value::Null;
                }
            }
        });
    }

    /// The text with its variables replaced, and whether it holds a secret now.
    fn replace(&mut self, text: &str, folder: &FilePath) -> Result<(String, bool), Invalid> {
        let mut out = String::with_capacity(text.len());
        let mut secret = false;
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(before) = before.strip_suffix('$') {
                out.push_str(before);
                out.push_str("${");
                rest = after;
                continue;
            }
            out.push_str(before);
            let Some((expression, after)) = after.split_once('}') else {
                return Err(Invalid::new("a `${` without its `}`").help("write `$${` for the characters themselves"));
            };
            secret |= expression.starts_with("file:");
            out.push_str(&self.value(expression, folder)?);
            rest = after;
        }
        out.push_str(rest);
        Ok((out, secret))
    }

    fn value(&mut self, expression: &str, folder: &FilePath) -> Result<String, Invalid> {
        if let Some(path) = expression.strip_prefix("file:") {
            let text = self.file(&folder.join(path))?;
            self.secrets.insert(text.clone());
            return Ok(text);
        }
        let (name, default) = match expression.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (expression, None),
        };
        if !is_variable_name(name) {
            return Err(no_variable(expression));
        }
        self.used.insert(name.to_owned());
        let value = self.env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        match (value, default) {
            (Some("") | None, Some(default)) => Ok(default.to_owned()),
            (Some(value), _) => Ok(value.to_owned()),
            (None, None) => Err(Invalid::new(format!("the environment variable `{name}` is not set"))
                .help(format!("set it, or write `${{{name}:-default}}`"))),
        }
    }

    fn file(&mut self, path: &FilePath) -> Result<String, Invalid> {
        if !self.files.iter().any(|file| file == path) {
            self.files.push(path.to_owned());
        }
        let wrong = |reason: String| Invalid::new(format!("cannot read {}: {reason}", path.display()));
        let bytes = self.source.read(path).map_err(|error| wrong(crate::file_error(&error)))?;
        if bytes.len() > MAX_FILE {
            return Err(wrong(format!("it has more than {MAX_FILE} bytes")));
        }
        let text = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8 text".to_owned()))?;
        // Files end in a line break that is nobody's secret.
        Ok(text.strip_suffix('\n').map_or(&*text, |text| text.strip_suffix('\r').unwrap_or(text)).to_owned())
    }
}

fn is_variable_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn no_variable(expression: &str) -> Invalid {
    let problem = Invalid::new(format!("`${{{expression}}}` is not the name of an environment variable"));
    let family = expression.split('.').next().unwrap_or_default();
    if matches!(family, "path" | "query" | "header" | "cookie" | "request" | "client_ip" | "request_id") {
        return problem.help(format!("templates have no dollar sign: `{{{expression}}}`"));
    }
    problem
        .help("there are `${NAME}`, `${NAME:-default}` and `${file:path}`; `$${` stands for the characters themselves")
}
