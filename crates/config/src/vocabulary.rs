//! The words that policies add to the file, and what follows from them for everything that looks at the file before a policy does:
//! short forms, completion, the schema.

use std::fmt;
use std::sync::OnceLock;

use serde_json::Value as Json;

use crate::merge;
use crate::policy::{Place, Word};
use crate::problem::{Path, Segment};
use crate::schema::{self, Shape};
use crate::tree::{Entry, Map, Node, Value};

/// All words that policies add to the file.
pub struct Vocabulary {
    list: fn() -> Vec<Word>,
    lines: OnceLock<Vec<Line>>,
    schema: OnceLock<Json>,
}

/// A word, and what follows from it.
pub(crate) struct Line {
    pub word: Word,
    /// The tree of [`Word::built_in`].
    pub built_in: Node,
    /// Whether its value is a mapping of names.
    pub is_named: bool,
}

/// The name of what a scalar says where a mapping of names is meant.
const ONLY_ONE: &str = "default";

impl Vocabulary {
    /// Nothing but what is built in.
    pub const EMPTY: &'static Self = {
        static EMPTY: Vocabulary = Vocabulary::new(Vec::new);
        &EMPTY
    };

    /// These words. Their order is that in which they are listed and shown.
    pub const fn new(list: fn() -> Vec<Word>) -> Self {
        Self { list, lines: OnceLock::new(), schema: OnceLock::new() }
    }

    /// In the order given.
    pub fn words(&'static self) -> impl Iterator<Item = &'static Word> {
        self.lines().iter().map(|line| &line.word)
    }

    /// The words of one place.
    pub(crate) fn of(&'static self, place: Place) -> impl Iterator<Item = &'static Line> {
        self.lines().iter().filter(move |line| line.word.place == place)
    }

    /// The keys of words in the object at `path`.
    pub(crate) fn keys_of(&'static self, path: &Path) -> impl Iterator<Item = &'static str> + use<> {
        let place = Place::of(path.segments());
        self.lines().iter().filter(move |line| Some(line.word.place) == place).map(|line| line.word.key)
    }

    /// The schema of the file as derived from structs, with these words in it.
    pub(crate) fn raw(&'static self) -> &'static Json {
        self.schema.get_or_init(|| schema::raw(&(self.list)()))
    }

    /// Takes every word out of `tree`, so that what is left can be read by itself.
    pub(crate) fn take(&'static self, tree: &mut Node) {
        tree.walk_mut(&Path::root(), &mut |path, node| {
            if let (Some(place), Some(map)) = (Place::of(path.segments()), node.as_map_mut()) {
                self.of(place).for_each(|line| drop(map.remove(line.word.key)));
            }
        });
    }

    /// Writes scalars that are short for a mapping as that mapping.
    pub(crate) fn widen(&'static self, tree: &mut Node) {
        tree.walk_mut(&Path::root(), &mut |path, node| {
            if node.as_text().is_some() && !node.is_off() && !node.is_on() {
                self.short_for(path).into_iter().rev().for_each(|key| wrap(node, key));
            }
        });
    }

    /// The keys, from the outermost on, that a scalar at `path` is short for; none where it stands for itself.
    pub(crate) fn short_for(&'static self, path: &Path) -> Vec<&'static str> {
        if path.last_key() == Some("mirror") && Place::of(path.parent().segments()) == Some(Place::Route) {
            return vec!["service"];
        }
        let Some((line, is_name)) = self.around(path) else { return Vec::new() };
        let outer = if line.is_named && !is_name { Some(ONLY_ONE) } else { None };
        if is_name && !line.is_named {
            return Vec::new();
        }
        line.word.short.map_or_else(Vec::new, |short| outer.into_iter().chain([short]).collect())
    }

    /// The names that are built in, where `path` leads to a mapping of names.
    pub(crate) fn names(&'static self, path: &Path) -> impl Iterator<Item = &'static str> + use<> {
        let line = self.around(path).filter(|(_, is_name)| !is_name).map(|(line, _)| line);
        let built_in = line.filter(|line| line.is_named).and_then(|line| line.built_in.as_map());
        built_in.into_iter().flat_map(Map::keys).filter(|name| *name != EVERY)
    }

    /// Completes the words that are written in an object of that place.
    pub(crate) fn complete(&'static self, place: Place, object: &mut Map) {
        for Line { word, built_in, .. } in self.of(place) {
            if let Some(node) = object.get_mut(word.key).filter(|node| !node.is_null() && !node.is_off()) {
                *node = merge::merged_under(word.key, &fitting(built_in, Some(node)), node);
            }
        }
    }

    fn lines(&'static self) -> &'static [Line] {
        self.lines.get_or_init(|| {
            let line = |word: Word| Line {
                word,
                built_in: merge::built_in(word.built_in),
                is_named: Shape::root(self).word(word.place, word.key).is_some_and(|shape| shape.named().is_some()),
            };
            (self.list)().into_iter().map(line).collect()
        })
    }

    /// The word that stands at `path`; or that of which `path` is a key, and then with `true`.
    fn around(&'static self, path: &Path) -> Option<(&'static Line, bool)> {
        let (last, object) = path.segments().split_last()?;
        let found = |object: &[Segment], key: &Segment| {
            let (place, Segment::Key(key)) = (Place::of(object)?, key) else { return None };
            self.of(place).find(|line| *line.word.key == **key)
        };
        found(object, last).map(|line| (line, false)).or_else(|| {
            let (word, object) = object.split_last()?;
            found(object, word).map(|line| (line, true))
        })
    }
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vocabulary").finish_non_exhaustive()
    }
}

/// Stands for every name in what is built in.
pub(crate) const EVERY: &str = "*";

/// Ends a key of what is built in that completes only what is written.
pub(crate) const IF_WRITTEN: char = '?';

/// What of `built_in` there is for `written`: names that are written, or all that are known where there are none; keys that end in
/// `?` where they are written.
fn fitting(built_in: &Node, written: Option<&Node>) -> Node {
    let Some(Map(entries)) = built_in.as_map() else { return built_in.clone() };
    let inside = |key: &str| written.and_then(|node| node.get(key)).filter(|node| !node.is_null() && !node.is_off());
    let every = built_in.get(EVERY);
    let names = written.and_then(Node::as_map).filter(|map| every.is_some() && !map.0.is_empty());
    let mut found = Map::default();
    for entry in names.map_or(&entries[..], |map| &map.0[..]) {
        let key = entry.key.trim_end_matches(IF_WRITTEN);
        let own = built_in.get(&entry.key);
        let base = match (every, own) {
            (Some(every), Some(own)) => merge::merged_under(key, every, own),
            (Some(one), None) | (None, Some(one)) => one.clone(),
            (None, None) => continue,
        };
        let is_wanted = inside(key).is_some() || (names.is_none() && key.len() == entry.key.len() && key != EVERY);
        if is_wanted {
            let node = fitting(&base, inside(key));
            found.set(Entry { key: key.into(), key_origin: built_in.origin.clone(), node });
        }
    }
    Node { value: Value::Map(found), ..built_in.clone() }
}

/// Makes `{ key: node }` of the node.
fn wrap(node: &mut Node, key: &str) {
    let origin = node.origin.clone();
    let inner = std::mem::replace(node, Node::map(origin.clone()));
    if let Some(map) = node.as_map_mut() {
        map.set(Entry { key: key.into(), key_origin: origin, node: inner });
    }
}
