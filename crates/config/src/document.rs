//! A configuration with the places of everything in it: what turns the path of a problem into file, line, column and
//! excerpt.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use crate::problem::{Part, Path, Problem, Problems, Segment, Severity};
use crate::tree::{Entry, Node, Origin, Place};
use crate::vocabulary::Vocabulary;

/// What was read, merged, with the origin of every value.
#[derive(Debug, Clone)]
pub struct Document {
    pub(crate) files: Arc<[TextFile]>,
    pub(crate) tree: Arc<Node>,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) vocabulary: &'static Vocabulary,
}

/// What is never shown.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    /// Where secrets stand in the files, literally.
    pub places: Vec<Place>,
    /// What `${file:...}` stands for, none of it empty.
    pub from_files: Vec<String>,
}

/// A file of the configuration.
#[derive(Debug, Clone)]
pub(crate) struct TextFile {
    pub path: PathBuf,
    pub text: Arc<str>,
}

/// A position in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// As it was given: relative names stay relative.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

impl Document {
    /// What `${file:...}` stands for in this configuration, none of it empty. Whoever shows what comes of values, instead of the values
    /// themselves, covers it.
    pub fn from_files(&self) -> &[String] {
        &self.secrets.from_files
    }

    /// Where the value at `path` is written; the nearest object around it when it is not. `None` for what is built in or comes from
    /// the environment.
    pub fn locate(&self, path: &Path) -> Option<Location> {
        match self.origin(path, Part::Value)? {
            Origin::File(place) => self.location(place),
            Origin::Environment(_) | Origin::Default => None,
        }
    }

    /// Which of the places that a route starts from has the value at `path`: `route`, ``bundle `a` ``, `defaults`, and `gateway` for what stands
    /// at the top. What comes from the environment is said to be of its object.
    pub fn level(&self, path: &Path) -> String {
        let [Segment::Key(first), Segment::Index(_), below @ ..] = path.segments() else { return "gateway".to_owned() };
        if **first != *"routes" || below.is_empty() {
            return "route".to_owned();
        }
        let place = self.locate(path);
        let at = |object: Path| {
            let inner = below.iter().fold(object, |path, segment| match segment {
                Segment::Key(key) => path.join(key),
                Segment::Index(index) => path.index(*index),
            });
            place.is_some() && self.locate(&inner) == place
        };
        let bundles = self.tree.get("bundles").and_then(Node::as_map).into_iter().flat_map(|bundles| &bundles.0);
        for Entry { key, .. } in bundles {
            if at(Path::root().join("bundles").join(key)) {
                return format!("bundle `{key}`");
            }
        }
        let defaults = Path::root().join("defaults").join("route");
        if at(defaults) { "defaults".to_owned() } else { "route".to_owned() }
    }

    /// Problems as compilers show them: message, place, excerpt, advice. All of them, in the order of the file.
    pub fn render(&self, problems: &Problems, color: bool) -> String {
        let paint = Paint(color);
        let mut out = String::new();
        for (position, (origin, problem)) in self.sorted(problems).into_iter().enumerate() {
            if position > 0 {
                out.push('\n');
            }
            self.render_one(&mut out, problem, origin.as_ref(), paint);
        }
        out
    }

    /// Problems for programs: a list of objects with `severity`, `path`, `message`, `help`, `file`, `line`, `column`.
    pub fn problems_json(&self, problems: &Problems) -> serde_json::Value {
        let items = self.sorted(problems).into_iter().map(|(origin, problem)| {
            let location = origin.as_ref().and_then(Origin::place).and_then(|place| self.location(place));
            let environment = match &origin {
                Some(Origin::Environment(name)) => Some(name.to_string()),
                Some(Origin::File(_) | Origin::Default) | None => None,
            };
            serde_json::json!({
                "severity": match problem.severity { Severity::Error => "error", Severity::Warning => "warning" },
                "path": problem.path.to_string(),
                "message": problem.message,
                "help": problem.help,
                "file": location.as_ref().map(|location| location.file.display().to_string()),
                "line": location.as_ref().map(|location| location.line),
                "column": location.as_ref().map(|location| location.column),
                "environment": environment,
            })
        });
        serde_json::Value::Array(items.collect())
    }

    /// The folder that relative names in the value at `path` start from.
    pub(crate) fn folder(&self, path: &Path) -> &FilePath {
        let file = self.origin(path, Part::Value).and_then(|origin| origin.place()).map_or(0, |place| place.file);
        self.files.get(file).and_then(|file| file.path.parent()).unwrap_or(FilePath::new(""))
    }

    /// Who wrote the value at `path`, or else the nearest object around it.
    pub(crate) fn origin(&self, path: &Path, part: Part) -> Option<Origin> {
        let mut origin = None;
        let mut node = &*self.tree;
        for (position, segment) in path.segments().iter().enumerate() {
            let last = position + 1 == path.segments().len();
            let (next, key_origin) = match segment {
                Segment::Key(key) => match node.as_map().and_then(|map| map.entry(key)) {
                    Some(entry) => (&entry.node, Some(&entry.key_origin)),
                    None => break,
                },
                Segment::Index(index) => match node.as_list() {
                    Some(items) => match items.get(*index) {
                        Some(item) => (item, None),
                        None => break,
                    },
                    None => break,
                },
            };
            node = next;
            let is_object = node.as_text().is_none() && node.as_list().is_none_or(|_| last);
            origin = match key_origin {
                // Of a mapping or list, the key says more than the first thing in it.
                Some(key_origin) if (last && part == Part::Key) || (is_object && *key_origin != Origin::Default) => {
                    Some(key_origin.clone())
                }
                _ => Some(node.origin.clone()),
            };
        }
        origin
    }

    pub(crate) fn location(&self, place: Place) -> Option<Location> {
        let file = self.files.get(place.file)?;
        Some(Location { file: file.path.clone(), line: place.line, column: place.column })
    }

    /// How many errors are shown of these problems.
    pub fn errors(&self, problems: &Problems) -> usize {
        self.sorted(problems).iter().filter(|(_, problem)| problem.severity == Severity::Error).count()
    }

    /// Each problem once, with its origin: a mistake in `defaults` is found again in everything that starts from them.
    fn sorted<'p>(&self, problems: &'p Problems) -> Vec<(Option<Origin>, &'p Problem)> {
        let mut seen = HashSet::new();
        let mut all: Vec<_> = problems.iter().map(|problem| (self.origin_of(problem), problem)).collect();
        all.retain(|(origin, problem)| seen.insert((origin.clone(), &problem.message)));
        // What is said about a value that could not even be read is all there is to say about it.
        let unread: HashSet<_> =
            all.iter().filter(|(_, problem)| problem.spot.is_some()).map(|(origin, _)| origin.clone()).collect();
        all.retain(|(origin, problem)| problem.spot.is_some() || origin.is_none() || !unread.contains(origin));
        all.sort_by_key(|(origin, problem)| (origin.is_none(), origin.clone(), problem.severity));
        all
    }

    fn origin_of(&self, problem: &Problem) -> Option<Origin> {
        let spot = problem.spot.as_ref().and_then(|spot| spot.origin.clone());
        spot.or_else(|| self.origin(&problem.path, problem.part)).filter(|origin| *origin != Origin::Default)
    }

    fn render_one(&self, out: &mut String, problem: &Problem, origin: Option<&Origin>, paint: Paint) {
        let (word, colour) = match problem.severity {
            Severity::Error => ("error", RED),
            Severity::Warning => ("warning", YELLOW),
        };
        line(out, format_args!("{}{}", paint.bold(colour, word), paint.bold("", &format!(": {}", problem.message))));
        match origin {
            Some(Origin::File(place)) => self.excerpt(out, *place, "-->", paint.with(colour)),
            Some(Origin::Environment(name)) => {
                line(out, format_args!("  {} environment variable {name}", paint.bold(BLUE, "-->")));
            }
            Some(Origin::Default) | None => {
                if let Some(file) = self.files.first() {
                    line(out, format_args!("  {} {}", paint.bold(BLUE, "-->"), file.path.display()));
                }
            }
        }
        for (path, label) in &problem.related {
            if let Some(place) = self.origin(path, problem.part).and_then(|origin| origin.place()) {
                line(out, format_args!("  {} {label}", paint.bold(BLUE, "note:")));
                self.excerpt(out, place, ":::", paint.with(BLUE));
            }
        }
        if let Some((place, label)) = problem.spot.as_ref().and_then(|spot| spot.related.as_ref()) {
            line(out, format_args!("  {} {label}", paint.bold(BLUE, "note:")));
            self.excerpt(out, *place, ":::", paint.with(BLUE));
        }
        if let Some(help) = &problem.help {
            line(out, format_args!("  {} help: {help}", paint.bold(BLUE, "=")));
        }
    }

    fn excerpt(&self, out: &mut String, place: Place, arrow: &str, (paint, colour): (Paint, &str)) {
        let Some(file) = self.files.get(place.file) else { return };
        let arrow = paint.bold(BLUE, arrow);
        line(out, format_args!("  {arrow} {}:{}:{}", file.path.display(), place.line, place.column));
        let Some(text) = file.text.lines().nth(place.line - 1) else { return };
        let (text, column, length) = visible(&self.without_secrets(text, place), place);
        let number = place.line.to_string();
        let gutter = paint.bold(BLUE, "|");
        line(out, format_args!("{:width$} {gutter}", "", width = number.len() + 1));
        line(out, format_args!(" {} {gutter} {text}", paint.bold(BLUE, &number)));
        let carets = paint.bold(colour, &"^".repeat(length));
        line(
            out,
            format_args!("{:width$} {gutter} {:indent$}{carets}", "", "", width = number.len() + 1, indent = column),
        );
    }

    /// The line with every secret and every password in a URL covered.
    fn without_secrets(&self, text: &str, place: Place) -> String {
        let mut chars: Vec<char> = text.chars().collect();
        let on_line = self
            .secrets
            .places
            .iter()
            .filter(|secret| secret.file == place.file && (secret.line..=secret.end_line).contains(&place.line));
        for secret in on_line {
            let from = if secret.line == place.line { secret.column - 1 } else { 0 };
            let to = if secret.end_line == place.line { secret.end_column - 1 } else { chars.len() };
            let covered = chars.iter_mut().take(to).skip(from).filter(|c| !c.is_whitespace());
            covered.for_each(|c| *c = '*');
        }
        cover_tokens(&cover_userinfo(&chars.into_iter().collect::<String>()))
    }
}

/// The values after `token:` and such in a text, which may not be YAML.
fn cover_tokens(text: &str) -> String {
    ["token", "secret", "password"].iter().fold(text.to_owned(), |text, key| cover_values(&text, key))
}

fn cover_values(text: &str, key: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(key) {
        out.push_str(before);
        out.push_str(key);
        let value = after.trim_start_matches(['"', '\'', ' ']).strip_prefix(':').map_or(after, str::trim_start);
        out.push_str(after.strip_suffix(value).unwrap_or_default());
        let quoted = value.strip_prefix(['"', '\'']).and_then(|inner| inner.find(['"', '\''])).map(|end| end + 2);
        let end = quoted.or_else(|| value.find([',', '}'])).unwrap_or(value.len());
        let is_value = value.len() != after.len();
        let (covered, after) = value.split_at_checked(if is_value { end } else { 0 }).unwrap_or((value, ""));
        out.extend(covered.chars().map(|_| '*'));
        rest = after;
    }
    out.push_str(rest);
    out
}

fn cover_userinfo(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        out.push_str(before);
        out.push_str("://");
        let end = after.find(|c: char| c == '/' || c == '"' || c == '\'' || c.is_whitespace()).unwrap_or(after.len());
        let (authority, after) = after.split_at(end);
        match authority.rsplit_once('@') {
            Some((userinfo, host)) => {
                out.extend(userinfo.chars().map(|_| '*'));
                out.push('@');
                out.push_str(host);
            }
            None => out.push_str(authority),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// How much of a line is shown.
const WIDTH: usize = 140;

/// The part of a line around the place, where the place begins in it, and how long it is there.
fn visible(text: &str, place: Place) -> (String, usize, usize) {
    let chars: Vec<char> = text.chars().map(|c| if c == '\t' { ' ' } else { c }).collect();
    let start = (place.column - 1).min(chars.len());
    let end = if place.end_line == place.line { place.end_column - 1 } else { chars.len() };
    let mut end = end.clamp(start, chars.len());
    // A scalar's place goes on to the next token.
    while end > start + 1 && chars.get(end - 1).is_some_and(|c| c.is_whitespace()) {
        end -= 1;
    }
    let from = if start > WIDTH / 2 && chars.len() > WIDTH { start - WIDTH / 2 } else { 0 };
    let shown: String = chars.iter().skip(from).take(WIDTH).collect();
    let shown = shown.trim_end().to_owned();
    let length = (end - start).clamp(1, WIDTH.saturating_sub(start - from).max(1));
    (shown, start - from, length)
}

const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const BLUE: &str = "\x1b[1;34m";

#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn bold(self, colour: &str, text: &str) -> String {
        let colour = if colour.is_empty() { "\x1b[1m" } else { colour };
        if self.0 { format!("{colour}{text}\x1b[0m") } else { text.to_owned() }
    }

    fn with(self, colour: &str) -> (Self, &str) {
        (self, colour)
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    if out.write_fmt(text).is_ok() {
        out.push('\n');
    }
}
