//! The way from a file to a [`Config`]: read, include, replace variables, widen short forms, apply the environment, complete, refuse what is
//! not built yet, read into structs, resolve. Each step goes on after a problem as long as that makes sense.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use crate::config::Config;
use crate::document::{Document, Secrets};
use crate::include::Reading;
use crate::problem::{Path, Problems, Segment};
use crate::source::{Memory, Source};
use crate::tree::{Node, Origin, Place};
use crate::value::closest;
use crate::vocabulary::Vocabulary;
use crate::{env, later, merge, resolve};

/// What a configuration is made from.
pub struct Inputs<'a> {
    /// The main file.
    pub file: &'a FilePath,
    /// Where files are read from.
    pub source: &'a dyn Source,
    /// All environment variables.
    pub env: &'a [(String, String)],
    /// What policies add to the file.
    pub vocabulary: &'static Vocabulary,
}

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// What it means.
    pub config: Config,
    /// What to look at all the same.
    pub warnings: Problems,
    /// Where everything stands.
    pub document: Document,
}

/// A configuration that cannot be used.
#[derive(Debug)]
pub struct Failure {
    /// Everything that is wrong, warnings included.
    pub problems: Problems,
    /// Where everything stands, as far as it could be read.
    pub document: Document,
    /// Every file that was read or should have been, for the watcher.
    pub files: Vec<PathBuf>,
    /// Include patterns with a `*`: a new file that one of them lists belongs to the configuration too.
    pub patterns: Vec<PathBuf>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.document.render(&self.problems, false))
    }
}

impl std::error::Error for Failure {}

/// Loads a configuration, and reports everything that is wrong with it.
pub fn load(inputs: &Inputs<'_>) -> Result<Loaded, Failure> {
    let mut reading = Reading {
        inputs,
        texts: Vec::new(),
        files: Vec::new(),
        patterns: Vec::new(),
        broken: false,
        used: std::collections::BTreeSet::new(),
        secrets: std::collections::BTreeSet::new(),
        problems: Problems::new(),
    };
    let tree = reading.whole();
    let Reading { texts, mut files, patterns, used, secrets, mut problems, .. } = reading;
    let from_files = secrets.into_iter().filter(|text| !text.is_empty()).collect();
    let Some(mut tree) = tree else {
        let (tree, vocabulary) = (Arc::new(Node::map(Origin::Default)), inputs.vocabulary);
        let document = Document { files: texts.into(), tree, secrets: Arc::default(), vocabulary };
        return Err(Failure { problems, document, files, patterns });
    };
    let vocabulary = inputs.vocabulary;
    vocabulary.widen(&mut tree);
    env::apply(&mut tree, vocabulary, inputs.env, &used, &mut problems);
    let places = mark_secrets(&mut tree, vocabulary);
    merge::complete(&mut tree, vocabulary, &mut problems);
    env::api_servers(&mut tree, inputs.env);
    let mut supported = tree.clone();
    let tree = Arc::new(tree);
    let secrets = Arc::new(Secrets { places, from_files });
    let document = Document { files: texts.into(), tree, secrets, vocabulary };
    vocabulary.take(&mut supported);
    later::refuse(&mut supported, &mut problems);
    let config = resolve::resolve(&supported, &document, inputs, &mut files, &mut problems);
    files.sort();
    files.dedup();
    match config {
        Some(config) if !problems.has_errors() => {
            Ok(Loaded { config: Config { files, patterns, ..config }, warnings: problems, document })
        }
        _ => Err(Failure { problems, document, files, patterns }),
    }
}

/// Loads a configuration from a text, without environment and other files: for tests and examples.
pub fn from_yaml(text: &str) -> Result<Loaded, Failure> {
    let file = FilePath::new("gateway.yaml");
    load(&Inputs { file, source: &Memory::new().with(file, text), env: &[], vocabulary: Vocabulary::EMPTY })
}

/// The keys of values that are never printed, each with the object that it belongs to.
const SECRETS: [[&str; 2]; 4] =
    [["admin", "token"], ["sticky_cookie", "secret"], ["consul", "token"], ["etcd", "password"]];

/// Marks the values of secret keys, and returns where they stand in the files.
fn mark_secrets(tree: &mut Node, vocabulary: &'static Vocabulary) -> Vec<Place> {
    let of_words = vocabulary.words().flat_map(|word| word.secrets);
    let secrets: Vec<&[&str; 2]> = SECRETS.iter().chain(of_words).collect();
    let mut places = Vec::new();
    tree.walk_mut(&Path::root(), &mut |path, node| {
        if secrets.iter().any(|secret| ends_with(path, secret)) {
            node.walk_mut(path, &mut |_, node| {
                node.secret = true;
                places.extend(node.origin.place());
            });
        }
    });
    places
}

/// Whether the path ends in these keys, the last of which may be misspelt: what is refused is shown too. The object may be an item
/// of a list.
fn ends_with(path: &Path, [object, key]: &[&str; 2]) -> bool {
    let [before @ .., Segment::Key(last)] = path.segments() else { return false };
    let keys = before.iter().rev().find_map(|segment| match segment {
        Segment::Key(key) => Some(key),
        Segment::Index(_) => None,
    });
    closest(last, [*key]).is_some() && keys.is_some_and(|found| **found == **object)
}
