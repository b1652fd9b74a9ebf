//! One tree out of a file and the files it includes.

use std::collections::BTreeSet;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use crate::Inputs;
use crate::document::TextFile;
use crate::parse::{self, MAX_BYTES, NoTree};
use crate::problem::{Path, Problem, Problems};
use crate::substitute::Substitution;
use crate::tree::{Map, Node, Origin, Place, Value};

/// How many files may belong to one configuration.
const MAX_FILES: usize = 1000;

/// Everything that was read.
pub(crate) struct Reading<'a> {
    pub inputs: &'a Inputs<'a>,
    /// The YAML files, for excerpts.
    pub texts: Vec<TextFile>,
    /// Every file, for the watcher.
    pub files: Vec<PathBuf>,
    /// Include patterns with a `*`, for the watcher.
    pub patterns: Vec<PathBuf>,
    /// A part could not be read: what it would have defined is not missing.
    pub broken: bool,
    /// Environment variables that were asked for by `${...}`.
    pub used: BTreeSet<String>,
    /// What `${file:...}` stands for.
    pub secrets: BTreeSet<String>,
    pub problems: Problems,
}

impl Reading<'_> {
    /// The main file with everything that it includes.
    pub(crate) fn whole(&mut self) -> Option<Node> {
        let tree = self.file(self.inputs.file, None);
        if tree.is_none() && !self.broken {
            let problem = Problem::error(Path::root(), "the file is empty");
            let smallest = "the smallest gateway is `services: { users: { url: http://127.0.0.1:9001 } }` and \
                            `routes: [{ match: { path_prefix: / }, service: users }]`";
            self.problems.push(problem.help(smallest));
        }
        tree.filter(|_| !self.broken)
    }

    /// One file with everything that it includes; `None` when it is empty or broken.
    fn file(&mut self, path: &FilePath, from: Option<Place>) -> Option<Node> {
        self.files.push(path.to_owned());
        let text = match self.text(path) {
            Ok(text) => text,
            Err(reason) => {
                let problem = Problem::error(Path::root(), format!("cannot read {}: {reason}", path.display()));
                self.fail(problem.at(from.map(Origin::File)));
                return None;
            }
        };
        let file = self.texts.len();
        self.texts.push(TextFile { path: path.to_owned(), text: Arc::clone(&text) });
        let parsed = parse::parse(&text, file, &mut self.problems);
        self.broken |= parsed == Err(NoTree::Broken);
        let mut node = parsed.ok()?;
        let folder = path.parent().unwrap_or(FilePath::new("")).to_owned();
        Substitution {
            env: self.inputs.env,
            source: self.inputs.source,
            files: &mut self.files,
            used: &mut self.used,
            secrets: &mut self.secrets,
            problems: &mut self.problems,
        }
        .apply(&mut node, &folder);
        if node.as_map().is_none() {
            let problem = Problem::error(Path::root(), "a configuration is a mapping of keys to values");
            self.fail(problem.at(node.origin).help("begin with `services:` and `routes:`"));
            return None;
        }
        self.includes(&mut node, &folder);
        Some(node)
    }

    fn fail(&mut self, problem: Problem) {
        self.broken = true;
        self.problems.push(problem);
    }

    fn text(&self, path: &FilePath) -> Result<Arc<str>, String> {
        let bytes = self.inputs.source.read(path).map_err(|error| crate::file_error(&error))?;
        if bytes.len() > MAX_BYTES {
            return Err(format!("it has more than {} MB", MAX_BYTES >> 20));
        }
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let line = 1 + bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count();
            format!("line {line} is not UTF-8 text")
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if let Some(position) = text.find(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{85}')) {
            let line = 1 + text.bytes().take(position).filter(|byte| *byte == b'\n').count();
            return Err(format!("line {line} has a control character"));
        }
        Ok(text.into())
    }

    fn includes(&mut self, node: &mut Node, folder: &FilePath) {
        let Some(include) = node.as_map_mut().and_then(|map| map.remove("include")) else { return };
        let patterns = match include.node.value {
            Value::List(items) => items,
            Value::Scalar(_) => vec![include.node],
            Value::Null => Vec::new(),
            Value::Map(_) => {
                let problem = Problem::error(Path::root().join("include"), "expected a list of files, found a mapping");
                self.problems.push(problem.at(include.node.origin.clone()));
                Vec::new()
            }
        };
        for pattern in patterns {
            for path in self.expand(&pattern, folder) {
                self.include(node, &path, &pattern);
            }
        }
    }

    fn include(&mut self, node: &mut Node, path: &FilePath, pattern: &Node) {
        if self.texts.len() >= MAX_FILES {
            let problem = Problem::error(Path::root().join("include"), format!("more than {MAX_FILES} files"));
            self.problems.push(problem.at(pattern.origin.clone()));
            return;
        }
        if let Some(included) = self.file(path, pattern.origin.place()) {
            combine_top(node, included, &mut self.problems);
        }
    }

    fn expand(&mut self, pattern: &Node, folder: &FilePath) -> Vec<PathBuf> {
        let path = Path::root().join("include");
        let Some(text) = pattern.as_text() else {
            self.problems.push(Problem::error(path, "expected the name of a file").at(pattern.origin.clone()));
            return Vec::new();
        };
        let full = folder.join(text);
        let found = if text.contains('*') { self.list(&full, pattern) } else { vec![full] };
        let (known, new): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|file| self.texts.iter().any(|text| text.path == *file));
        // A pattern may well fit the file that it stands in; a name that repeats is a mistake.
        if let Some(known) = known.first().filter(|_| !text.contains('*')) {
            let problem = Problem::error(path, format!("{} is included twice, or includes itself", known.display()));
            self.problems.push(problem.at(pattern.origin.clone()));
        }
        new
    }

    fn list(&mut self, full: &FilePath, pattern: &Node) -> Vec<PathBuf> {
        let stars_in_name = full.file_name().map_or(0, |name| name.to_string_lossy().matches('*').count());
        if stars_in_name != 1 || full.to_string_lossy().matches('*').count() != 1 {
            let problem =
                Problem::error(Path::root().join("include"), "a pattern has one `*`, in the name of the file")
                    .help("write `conf.d/*.yaml`");
            self.problems.push(problem.at(pattern.origin.clone()));
            return Vec::new();
        }
        self.patterns.push(full.to_owned());
        let found = self.inputs.source.list(full);
        let problem = match &found {
            Ok(found) if !found.is_empty() => None,
            Ok(_) => {
                let message = format!("no file fits {}", full.display());
                let help = "files that come later are read by themselves; is the folder the right one?";
                Some(Problem::warning(Path::root().join("include"), message).help(help))
            }
            Err(error) => {
                let message = format!("cannot list {}: {}", full.display(), crate::file_error(error));
                Some(Problem::error(Path::root().join("include"), message))
            }
        };
        self.problems.extend(problem.map(|problem| problem.at(pattern.origin.clone())));
        found.unwrap_or_default()
    }
}

/// Adds an included file: lists of routes follow one another, mappings are united, a value may be written once.
fn combine_top(node: &mut Node, included: Node, problems: &mut Problems) {
    if let (Some(map), Value::Map(included)) = (node.as_map_mut(), included.value) {
        combine(map, included, &Path::root(), problems);
    }
}

fn combine(map: &mut Map, included: Map, path: &Path, problems: &mut Problems) {
    for entry in included.0 {
        let top = path.segments().is_empty();
        // Anchors are a file's own, and each file may say which version it is written for.
        if top && (entry.key.starts_with("x-") || (&*entry.key == "version" && map.get("version").is_some())) {
            continue;
        }
        let here = path.join(&entry.key);
        let Some(position) = map.0.iter().position(|existing| existing.key == entry.key) else {
            map.0.push(entry);
            continue;
        };
        let Some(existing) = map.0.get_mut(position) else { continue };
        match (&mut existing.node.value, entry.node.value) {
            (_, Value::Null) => {}
            (value @ Value::Null, new) => *value = new,
            (Value::List(items), Value::List(more)) if top => items.extend(more),
            (Value::Map(inner), Value::Map(more)) if !is_named_object(&here) => combine(inner, more, &here, problems),
            _ => {
                let problem =
                    Problem::error(here.clone(), format!("`{here}` is defined in two files")).help("keep one of them");
                let problem = problem.at(entry.key_origin);
                problems.push(problem.see_place(existing.key_origin.place(), "it is defined here already"));
            }
        }
    }
}

/// Services and bundles are defined in one place; nobody completes another file's.
fn is_named_object(path: &Path) -> bool {
    let family = path.segments().first();
    let named = [crate::problem::Segment::Key("services".into()), crate::problem::Segment::Key("bundles".into())];
    path.segments().len() == 2 && family.is_some_and(|family| named.contains(family))
}
