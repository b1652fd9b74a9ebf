//! Policies, as far as the configuration is concerned: words that a vocabulary adds to the file, and what was meant by them. What a
//! policy does is not known here.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use schemars::{Schema, SchemaGenerator};
use serde::de::DeserializeOwned;

use crate::config::FileText;
use crate::problem::{Path, Problem, Segment};
use crate::resolve::Resolver;
use crate::tree::Node;
use crate::value::{Invalid, PathPattern};

pub use crate::file::{AnyText, Entries, KeyFile, ListOr, MethodName, TextOr};
pub use crate::vocabulary::Vocabulary;

/// A key that a policy adds to the file.
#[derive(Clone, Copy)]
pub struct Word {
    /// The key.
    pub key: &'static str,
    /// Where it stands.
    pub place: Place,
    /// What may stand there. The descriptions in it are the reference's text.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// YAML that completes the value where it is written. The key `*` stands for every name of a mapping of names, and names beside
    /// it are there when none is written. A key that ends in `?` completes only what is written under it.
    pub built_in: &'static str,
    /// The key that a scalar is short for: `rate` in `rate_limit: 5/s`. In a mapping of names this holds for its values, and a scalar
    /// in its place is one that is called `default`.
    pub short: Option<&'static str>,
    /// Keys whose values are never printed, each with the key of the object, or of the list of objects, that it stands in.
    pub secrets: &'static [[&'static str; 2]],
    /// Finds out what is meant.
    pub read: fn(&mut Reading<'_, '_>) -> Option<Meaning>,
}

/// Where a word stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At the top of the file.
    Top,
    /// In routes, bundles and `defaults.route`.
    Route,
}

impl Place {
    /// What the object at `path` is.
    pub(crate) fn of(path: &[Segment]) -> Option<Self> {
        match path {
            [] => Some(Self::Top),
            [Segment::Key(key), Segment::Index(_)] if **key == *"routes" => Some(Self::Route),
            [Segment::Key(key), Segment::Key(name)] => {
                let is_route = **key == *"bundles" || (**key == *"defaults" && **name == *"route");
                is_route.then_some(Self::Route)
            }
            [..] => None,
        }
    }
}

/// What was meant by a word: for the policy that reads it.
pub type Meaning = Arc<dyn Any + Send + Sync>;

/// A word that was written; at the top it may be `off`.
#[derive(Clone)]
pub struct Written {
    /// The word's key.
    pub key: &'static str,
    /// Where it stands.
    pub at: Path,
    pub(crate) meaning: Meaning,
}

/// The meaning of a word that is `off`.
struct Off;

impl Written {
    pub(crate) fn off(key: &'static str, at: Path) -> Self {
        Self { key, at, meaning: Arc::new(Off) }
    }

    /// Whether it was written as `off`.
    pub fn is_off(&self) -> bool {
        self.meaning.is::<Off>()
    }

    /// What was meant, for the policy whose word it is.
    pub fn meaning<T: 'static>(&self) -> Option<&T> {
        self.meaning.downcast_ref()
    }
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Written").field("key", &self.key).field("at", &self.at).finish_non_exhaustive()
    }
}

/// What a policy sees while it finds out what is meant by its word.
pub struct Reading<'a, 'r> {
    pub(crate) resolver: &'a mut Resolver<'r>,
    pub(crate) node: &'a Node,
    pub(crate) path: Path,
    pub(crate) around: Around<'a>,
}

/// What there is besides the word.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    pub(crate) services: &'a BTreeSet<Arc<str>>,
    /// Of the word's route; everything, where it stands at the top.
    pub(crate) pattern: &'a PathPattern,
    /// Whether it stands in what routes share.
    pub(crate) is_shared: bool,
}

impl Reading<'_, '_> {
    /// Where the word stands.
    pub fn path(&self) -> Path {
        self.path.clone()
    }

    /// What is written, as a struct. Mistakes are reported, and `None` is a value of which nothing can be made, or that only routes
    /// make something of: in `defaults.route` and in bundles it need not be whole.
    pub fn read<T: DeserializeOwned>(&mut self) -> Option<T> {
        let file = self.resolver.read(self.node, &self.path);
        file.filter(|_| !self.around.is_shared)
    }

    /// What is written, if it is one scalar.
    pub fn text(&self) -> Option<&str> {
        self.node.as_text()
    }

    /// Whether the value under these keys is written as `off`, which reads like one that is not there.
    pub fn is_off(&self, keys: &[&str]) -> bool {
        let mut node = Some(self.node);
        for key in keys {
            node = node.and_then(|node| node.get(key));
        }
        node.is_some_and(Node::is_off)
    }

    /// The path condition of the route that the word stands in; everything, where it stands at the top.
    pub fn pattern(&self) -> &PathPattern {
        self.around.pattern
    }

    /// Reports a mistake.
    pub fn error(&mut self, at: &Path, message: impl Into<String>) {
        self.report(Problem::error(at.clone(), message));
    }

    /// Reports a mistake or a warning with all that is to be said about it. It must have nothing of a secret's value.
    pub fn report(&mut self, problem: Problem) {
        self.resolver.push_as_is(problem);
    }

    /// Reports a value that its own type refuses.
    pub fn invalid(&mut self, at: &Path, invalid: Invalid) {
        self.resolver.invalid(at, invalid);
    }

    /// Reports that `key` of the object is missing, unless it is there and wrong.
    pub fn missing(&mut self, object: &Path, key: &str, help: &str) {
        self.resolver.missing(object, key, help);
    }

    /// Whether a mistake was reported already for what stands at or below `path`.
    pub fn is_excused(&self, path: &Path) -> bool {
        self.resolver.is_excused(path)
    }

    /// Reports keys that exclude one another, and that there is none of them: `rule` is for instance "a way is one of these".
    pub fn one_of(&mut self, object: &Path, keys: &[(&str, bool)], rule: &str) {
        self.resolver.one_of(object, keys, rule);
    }

    /// The path of a list's item; a scalar that stands for a list of one is the list itself.
    pub fn item(&self, list: &Path, position: usize) -> Path {
        self.resolver.item(list, position)
    }

    /// The service of this name; a mistake is reported if there is none.
    pub fn service(&mut self, at: &Path, name: &Arc<str>) -> Option<Arc<str>> {
        self.resolver.service_name(at, name, self.around.services)
    }

    /// The file of this name, which is watched from now on; a mistake is reported if it cannot be read.
    pub fn file(&mut self, at: &Path, name: &str) -> Option<FileText> {
        self.resolver.file(at, name)
    }

    /// The path of a file that the gateway opens itself, relative to the configuration.
    pub fn full_path(&self, at: &Path, name: &str) -> PathBuf {
        self.resolver.document.folder(at).join(name)
    }

    /// Adds a service for the address in a URL that no service of the file stands for, and gives its name and the URL's path and
    /// query. `name` must be unique and say what it is for: `auth/main`.
    pub fn own_service(&mut self, at: &Path, name: &str, url: &str) -> Option<(Arc<str>, String)> {
        self.resolver.own_service(at, name, url)
    }
}
