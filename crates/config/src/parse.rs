//! YAML text to a tree with places. Knows YAML (and so JSON), its anchors and merge keys; knows nothing of what is configured.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use crate::problem::{Path, Problem, Problems};
use crate::tree::{Entry, MAX_DEPTH, Map, Node, Origin, Place, Scalar, Value};

/// The largest file that is read.
pub(crate) const MAX_BYTES: usize = 16 << 20;

/// How many values one file may have, aliases written out.
const MAX_NODES: usize = 2_000_000;

/// How many problems of one file are reported before its reading stops.
const MAX_PROBLEMS: usize = 100;

/// Why there is no tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoTree {
    /// There is nothing in the text.
    Empty,
    /// The text is broken, and a part of a tree would only lead to follow-up problems.
    Broken,
}

/// The one document in `text`.
pub(crate) fn parse(text: &str, file: usize, problems: &mut Problems) -> Result<Node, NoTree> {
    let mut builder = Builder {
        file,
        frames: Vec::new(),
        anchors: HashMap::new(),
        nodes: 0,
        documents: 0,
        root: None,
        problems: Problems::new(),
    };
    let read = builder.run(text);
    problems.extend(builder.problems);
    match (read, builder.root) {
        (Err(Stop), _) => Err(NoTree::Broken),
        (Ok(()), Some(node)) if !node.is_null() => Ok(node),
        (Ok(()), _) => Err(NoTree::Empty),
    }
}

struct Builder {
    file: usize,
    frames: Vec<Frame>,
    anchors: HashMap<usize, Anchor>,
    nodes: usize,
    documents: usize,
    root: Option<Node>,
    problems: Problems,
}

/// A list or mapping that is not closed yet.
struct Frame {
    anchor: usize,
    place: Place,
    items: Items,
}

enum Items {
    List(Vec<Node>),
    Map(Pairs),
}

#[derive(Default)]
struct Pairs {
    map: Map,
    seen: HashMap<Arc<str>, Place>,
    key: Option<(Arc<str>, Place)>,
    /// Values of `<<`.
    merged: Vec<Node>,
}

/// A named node, and what repeating it costs.
struct Anchor {
    node: Node,
    nodes: usize,
    depth: usize,
}

/// Stops the reading of a file.
struct Stop;

impl Builder {
    fn run(&mut self, text: &str) -> Result<(), Stop> {
        let mut parser = Parser::new_from_str(text);
        loop {
            match parser.next_event() {
                None | Some(Ok((Event::StreamEnd, _))) => return Ok(()),
                Some(Ok((event, span))) => self.event(event, span)?,
                Some(Err(error)) => {
                    let problem = syntax_problem(&error, self.file);
                    self.problems.push(problem);
                    return Err(Stop);
                }
            }
            if self.problems.len() >= MAX_PROBLEMS {
                return Err(Stop);
            }
        }
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Stop> {
        let place = place(self.file, span);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => self.document(place),
            Event::Alias(anchor) => self.alias(anchor, place),
            Event::Scalar(text, style, anchor, tag) => {
                self.check_tag(tag.as_deref(), place);
                let value = scalar(text, style, tag.as_deref());
                self.add(Node { value, origin: Origin::File(place), secret: false }, anchor, 1)
            }
            Event::SequenceStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), place);
                self.open(anchor, place, Items::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), place);
                self.open(anchor, place, Items::Map(Pairs::default()))
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
        }
    }

    fn document(&mut self, place: Place) -> Result<(), Stop> {
        self.documents += 1;
        if self.documents == 1 {
            return Ok(());
        }
        let problem = Problem::error(Path::root(), "a second document begins here")
            .help("one file is one document: use `include` for further files");
        self.problems.push(problem.at(Origin::File(place)));
        Err(Stop)
    }

    fn check_tag(&mut self, tag: Option<&Tag>, place: Place) {
        let has_no_meaning = |tag: &Tag| !(tag.is_yaml_core_schema() || tag.handle == "!" && tag.suffix.is_empty());
        if tag.is_some_and(has_no_meaning) {
            let problem = Problem::error(Path::root(), "tags (`!name`) have no meaning here")
                .help("`include: [file.yaml]` at the top includes files, `${file:path}` takes a value from a file");
            self.problems.push(problem.at(Origin::File(place)));
        }
    }

    fn open(&mut self, anchor: usize, place: Place, items: Items) -> Result<(), Stop> {
        if self.frames.len() >= MAX_DEPTH {
            return Err(self.stop(place, format!("this is nested more than {MAX_DEPTH} levels deep")));
        }
        self.frames.push(Frame { anchor, place, items });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Stop> {
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        let value = match frame.items {
            Items::List(items) => Value::List(items),
            Items::Map(pairs) => Value::Map(self.merge_keys(pairs)),
        };
        self.add(Node { value, origin: Origin::File(frame.place), secret: false }, frame.anchor, 1)
    }

    /// `<<: *base` and `<<: [*a, *b]`: keys that are not written come from there, the first that has one wins.
    fn merge_keys(&mut self, pairs: Pairs) -> Map {
        let mut map = pairs.map;
        let mut seen = pairs.seen;
        let sources = pairs.merged.into_iter().flat_map(|node| match node.value {
            Value::List(items) => items,
            Value::Null | Value::Scalar(_) | Value::Map(_) => vec![node],
        });
        for source in sources {
            let (Value::Map(source_map), Some(place)) = (source.value, source.origin.place()) else {
                let problem = Problem::error(Path::root(), "`<<` takes mappings, such as `<<: *name`");
                self.problems.push(problem.at(source.origin));
                continue;
            };
            for entry in source_map.0 {
                let is_new = seen.insert(Arc::clone(&entry.key), place).is_none();
                map.0.extend(is_new.then_some(entry));
            }
        }
        map
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<(), Stop> {
        let Some(anchor) = self.anchors.get(&anchor) else {
            return Err(self.stop(place, "an alias cannot stand inside of what it names".to_owned()));
        };
        if self.frames.len() + anchor.depth > MAX_DEPTH {
            return Err(self.stop(place, format!("this is nested more than {MAX_DEPTH} levels deep")));
        }
        let (node, nodes) = (anchor.node.clone(), anchor.nodes);
        self.add(node, 0, nodes)
    }

    /// Puts a finished node where it belongs.
    fn add(&mut self, node: Node, anchor: usize, nodes: usize) -> Result<(), Stop> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            let place = node.origin.place().unwrap_or_default();
            return Err(self.stop(place, format!("the file has more than {MAX_NODES} values, aliases written out")));
        }
        if anchor > 0 {
            let (nodes, depth) = (count(&node), depth(&node));
            self.anchors.insert(anchor, Anchor { node: node.clone(), nodes, depth });
        }
        let Some(frame) = self.frames.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut frame.items {
            Items::List(items) => items.push(node),
            Items::Map(pairs) => match pairs.key.take() {
                Some(key) => {
                    if let Some(problem) = pairs.insert(key, node) {
                        self.problems.push(problem);
                    }
                }
                None => self.key(&node),
            },
        }
        Ok(())
    }

    fn key(&mut self, node: &Node) {
        let place = node.origin.place().unwrap_or_default();
        let text = match &node.value {
            Value::Scalar(scalar) => Arc::clone(&scalar.text),
            Value::Null => {
                self.problems
                    .push(Problem::error(Path::root(), "a key is missing before the `:`").at(Origin::File(place)));
                "".into()
            }
            Value::List(_) | Value::Map(_) => {
                let problem = Problem::error(Path::root(), "a key must be a text")
                    .help("put braces in a value into quotes: `\"{...}\"`");
                self.problems.push(problem.at(Origin::File(place)));
                "".into()
            }
        };
        if let Some(Frame { items: Items::Map(pairs), .. }) = self.frames.last_mut() {
            pairs.key = Some((text, place));
        }
    }

    fn stop(&mut self, place: Place, message: String) -> Stop {
        self.problems.push(Problem::error(Path::root(), message).at(Origin::File(place)));
        Stop
    }
}

impl Pairs {
    fn insert(&mut self, (key, place): (Arc<str>, Place), node: Node) -> Option<Problem> {
        if *key == *"<<" {
            self.merged.push(node);
            return None;
        }
        if let Some(first) = self.seen.get(&key) {
            let problem =
                Problem::error(Path::root(), format!("the key `{key}` is written twice")).help("keep one of them");
            return Some(problem.at(Origin::File(place)).see_place(Some(*first), "it is here already"));
        }
        self.seen.insert(Arc::clone(&key), place);
        self.map.0.push(Entry { key, key_origin: Origin::File(place), node });
        None
    }
}

fn place(file: usize, span: Span) -> Place {
    Place {
        file,
        line: span.start.line().max(1),
        column: span.start.col() + 1,
        end_line: span.end.line().max(1),
        end_column: span.end.col() + 1,
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let plain = style == ScalarStyle::Plain && tag.is_none_or(|tag| tag.suffix != "str");
    if plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
        return Value::Null;
    }
    Value::Scalar(Scalar { text: text.into(), plain })
}

fn count(node: &Node) -> usize {
    1 + match &node.value {
        Value::Null | Value::Scalar(_) => 0,
        Value::List(items) => items.iter().map(count).sum(),
        Value::Map(map) => map.0.iter().map(|entry| count(&entry.node)).sum(),
    }
}

fn depth(node: &Node) -> usize {
    match &node.value {
        Value::Null | Value::Scalar(_) => 0,
        Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Map(map) => 1 + map.0.iter().map(|entry| depth(&entry.node)).max().unwrap_or(0),
    }
}

fn syntax_problem(error: &ScanError, file: usize) -> Problem {
    let marker = error.marker();
    let (line, column) = (marker.line().max(1), marker.col() + 1);
    let place = Place { file, line, column, end_line: line, end_column: column + 1 };
    let info = error.info();
    let problem = Problem::error(Path::root(), format!("this is not YAML: {info}")).at(Origin::File(place));
    match syntax_help(info) {
        Some(help) => problem.help(help),
        None => problem,
    }
}

fn syntax_help(info: &str) -> Option<&'static str> {
    let advice = [
        ("escape", "backslashes are plain characters in single quotes: '\\d+'"),
        ("tab", "indent with spaces, never with tabs"),
        ("mapping values are not allowed", "is the line indented as the one above? A `: ` inside a value needs quotes"),
        (
            "unknown anchor",
            "an alias `*name` needs its anchor `&name` before it; a value that begins with `*` needs quotes",
        ),
        ("anchor", "a value that begins with `*` or `&` needs quotes: `\"*.example.com\"`"),
        ("alias", "a value that begins with `*` needs quotes: `\"*.example.com\"`"),
        ("did not find expected key", "is the line indented as the ones above?"),
        ("cannot start any token", "a value that begins with this character needs quotes"),
        ("block entries are not allowed", "a list begins on a line of its own"),
        (
            "expected ',' or",
            "is a comma, a closing bracket or a quote missing before this? Values with braces need quotes",
        ),
        ("quoted scalar", "is the closing quote missing?"),
        ("indent", "is the line indented as the ones above?"),
    ];
    advice.into_iter().find(|(part, _)| info.contains(part)).map(|(_, help)| help)
}
