//! The configuration as a tree that remembers where each piece came from. Everything between the text and the typed
//! structs (includes, variables, environment, merging) works on it, so that no place is ever lost.

use std::sync::Arc;

use crate::problem::{Path, Segment};

/// How deep a configuration may nest. Everything that walks a tree may recurse because of it.
pub(crate) const MAX_DEPTH: usize = 64;

/// A stretch of one file. Lines and columns count characters from 1; the end is exclusive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    /// Index into the document's files.
    pub file: usize,
    pub line: usize,
    pub column: usize,
    pub end_line: usize,
    pub end_column: usize,
}

/// Who said so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Origin {
    File(Place),
    Environment(Arc<str>),
    /// Built in.
    Default,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub value: Value,
    pub origin: Origin,
    /// Never printed.
    pub secret: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Map),
}

/// A text; what it means is known only where it is used.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scalar {
    pub text: Arc<str>,
    /// Written without quotes.
    pub plain: bool,
}

/// Keys in the order written, each once.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Map(pub Vec<Entry>);

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub key: Arc<str>,
    pub key_origin: Origin,
    pub node: Node,
}

impl Origin {
    pub(crate) fn place(&self) -> Option<Place> {
        match self {
            Self::File(place) => Some(*place),
            Self::Environment(_) | Self::Default => None,
        }
    }
}

impl Node {
    pub(crate) fn text(text: impl Into<Arc<str>>, origin: Origin) -> Self {
        Self { value: Value::Scalar(Scalar { text: text.into(), plain: false }), origin, secret: false }
    }

    pub(crate) fn map(origin: Origin) -> Self {
        Self { value: Value::Map(Map::default()), origin, secret: false }
    }

    pub(crate) fn as_map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            Value::Null | Value::Scalar(_) | Value::List(_) => None,
        }
    }

    pub(crate) fn as_map_mut(&mut self) -> Option<&mut Map> {
        match &mut self.value {
            Value::Map(map) => Some(map),
            Value::Null | Value::Scalar(_) | Value::List(_) => None,
        }
    }

    pub(crate) fn as_list(&self) -> Option<&[Node]> {
        match &self.value {
            Value::List(items) => Some(items),
            Value::Null | Value::Scalar(_) | Value::Map(_) => None,
        }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    /// `off` or `false`, in quotes or without.
    pub(crate) fn is_off(&self) -> bool {
        self.as_text().and_then(switch) == Some(false)
    }

    /// `on` or `true`, in quotes or without.
    pub(crate) fn is_on(&self) -> bool {
        self.as_text().and_then(switch) == Some(true)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.as_map()?.get(key)
    }

    /// The node at `path`.
    pub(crate) fn find(&self, path: &Path) -> Option<&Node> {
        path.segments().iter().try_fold(self, |node, segment| match segment {
            Segment::Key(key) => node.get(key),
            Segment::Index(index) => node.as_list()?.get(*index),
        })
    }

    pub(crate) fn find_mut(&mut self, segments: &[Segment]) -> Option<&mut Node> {
        segments.iter().try_fold(self, |node, segment| match segment {
            Segment::Key(key) => node.as_map_mut()?.get_mut(key),
            Segment::Index(index) => match &mut node.value {
                Value::List(items) => items.get_mut(*index),
                Value::Null | Value::Scalar(_) | Value::Map(_) => None,
            },
        })
    }

    /// Calls `visit` for this node and every one below it, each with its path.
    pub(crate) fn walk_mut(&mut self, path: &Path, visit: &mut dyn FnMut(&Path, &mut Node)) {
        visit(path, self);
        match &mut self.value {
            Value::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    item.walk_mut(&path.index(index), visit);
                }
            }
            Value::Map(map) => {
                for entry in &mut map.0 {
                    entry.node.walk_mut(&path.join(&entry.key), visit);
                }
            }
            Value::Null | Value::Scalar(_) => {}
        }
    }
}

impl Map {
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.0.iter().find(|entry| *entry.key == *key)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.0.iter_mut().find(|entry| *entry.key == *key).map(|entry| &mut entry.node)
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<Entry> {
        let position = self.0.iter().position(|entry| *entry.key == *key)?;
        Some(self.0.remove(position))
    }

    /// Replaces the value of the key, or adds it at the end.
    pub(crate) fn set(&mut self, entry: Entry) {
        match self.0.iter_mut().find(|existing| existing.key == entry.key) {
            Some(existing) => *existing = entry,
            None => self.0.push(entry),
        }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|entry| &*entry.key)
    }
}

/// `on`, `off`, `true` and `false`.
pub(crate) fn switch(text: &str) -> Option<bool> {
    match text {
        "on" | "On" | "ON" | "true" | "True" | "TRUE" => Some(true),
        "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}
