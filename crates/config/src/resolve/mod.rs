//! From the configuration as written to the configuration as meant: everything that takes more than one value to check.
//! A [`Config`] is made here and nowhere else.

mod files;
mod listen;
mod rewrite;
mod route;
mod server;
mod service;
mod shaping;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::config::{Config, Listener, Service};
use crate::document::Document;
use crate::file::{PoliciesFile, ServiceFile, TOP_KEYS};
use crate::load::Inputs;
use crate::policy::{Around, Place, Reading, Written};
use crate::problem::{Part, Path, Problem, Problems};
use crate::schema::KnownKeys;
use crate::source::Source;
use crate::tree::{Node, Origin, Value};
use crate::value::{Invalid, Name, PathPattern, closest};
use crate::vocabulary::{Line, Vocabulary};
use crate::{de, de::Keys};

pub use listen::overlap;
use route::enumerate;
pub use service::MAX_WEIGHT;
pub(crate) use service::parse_url;

/// Fields that the gateway writes itself, so that they are true.
const OWN_FIELDS: [&str; 7] =
    ["connection", "content-length", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"];

/// How many problems are collected before services and routes are no longer looked at.
const MAX_PROBLEMS: usize = 1000;

/// Makes the configuration of a completed tree. There may be problems, and then the result is to be thrown away.
pub(crate) fn resolve(
    tree: &Node,
    document: &Document,
    inputs: &Inputs<'_>,
    files: &mut Vec<PathBuf>,
    problems: &mut Problems,
) -> Option<Config> {
    let failed = problems.iter().filter_map(|problem| problem.spot.as_ref()?.origin.clone()).collect();
    let (source, vocabulary) = (inputs.source, inputs.vocabulary);
    let own_services = Vec::new();
    let excused = BTreeSet::new();
    let mut resolver = Resolver { document, source, vocabulary, files, problems, excused, failed, own_services };
    resolver.top_keys(tree);
    resolver.shared(tree);
    let server = resolver.server(tree);
    let admin = resolver.admin(tree);
    let status = resolver.status(tree);
    let log = resolver.log(tree);
    let mut services = resolver.services(tree);
    let listeners = server.as_ref().map_or(&[][..], |server| &server.listeners);
    let body_limit = server.as_ref().and_then(|server| server.limits.body);
    let routes = resolver.routes(tree, &route::Known { services: &services.names, listeners, body_limit });
    let around = Around { services: &services.names, pattern: &PathPattern::everything(), is_shared: false };
    let policies = resolver.policies(&Path::root(), Place::Top, around);
    resolver.check_hash_keys(&services.services, &routes);
    resolver.check_addresses(listeners, admin.as_ref(), status.as_deref());
    services.services.extend(resolver.own_services.drain(..).map(|own| (Arc::clone(&own.name), own)));
    Some(Config {
        server: server?,
        admin,
        status,
        log: log?,
        services: services.services,
        routes,
        policies,
        files: Vec::new(),
        patterns: Vec::new(),
    })
}

/// The services, and the names of those too that are broken: routes may name them.
struct Services {
    services: BTreeMap<Arc<str>, Arc<Service>>,
    names: BTreeSet<Arc<str>>,
}

pub(crate) struct Resolver<'a> {
    pub(crate) document: &'a Document,
    source: &'a dyn Source,
    vocabulary: &'static Vocabulary,
    files: &'a mut Vec<PathBuf>,
    problems: &'a mut Problems,
    /// Values that a problem was reported for already: nobody shall call them missing as well.
    excused: BTreeSet<Path>,
    /// Where values stand that could not be made from their variables.
    failed: BTreeSet<Origin>,
    /// Services for addresses that policies name.
    own_services: Vec<Arc<Service>>,
}

impl Resolver<'_> {
    pub(crate) fn error(&mut self, path: &Path, message: impl Into<String>) {
        self.push(Problem::error(path.clone(), message));
    }

    pub(crate) fn push(&mut self, problem: Problem) {
        let is_secret = self.document.tree.find(&problem.path).is_some_and(|node| node.secret);
        self.problems.push(if is_secret && problem.part == Part::Value { problem.without_value() } else { problem });
    }

    /// For problems that are known to have nothing of a secret's value.
    pub(crate) fn push_as_is(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Nobody reads on: what is the same mistake a thousand times shall not take minutes to say.
    fn is_full(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS
    }

    pub(crate) fn invalid(&mut self, path: &Path, invalid: Invalid) {
        self.push(Problem { help: invalid.help, ..Problem::error(path.clone(), invalid.message) });
    }

    /// Reports that `key` of the object is missing, unless it is there and wrong.
    pub(crate) fn missing(&mut self, object: &Path, key: &str, help: &str) {
        if !self.is_excused(&object.join(key)) {
            self.push(Problem::error(object.clone(), format!("`{key}` is missing")).on_key().help(help));
        }
    }

    pub(crate) fn is_excused(&self, path: &Path) -> bool {
        let failed =
            self.document.tree.find(path).is_some_and(|node| node.is_null() && self.failed.contains(&node.origin));
        failed || self.excused.iter().any(|excused| excused.starts_with(path) || path.starts_with(excused))
    }

    /// The value of a key that has a default, so it can lack only by `off`.
    fn required<T>(&mut self, path: &Path, value: Option<T>, fallback: T) -> T {
        value.unwrap_or_else(|| {
            if !self.is_excused(path) {
                let key = path.last_key().unwrap_or_default();
                self.error(path, format!("`{key}` cannot be off"));
                self.excused.insert(path.clone());
            }
            fallback
        })
    }

    /// Reports keys that exclude one another, and that there is none of them.
    pub(crate) fn one_of(&mut self, object: &Path, keys: &[(&str, bool)], rule: &str) {
        let written: Vec<&str> = keys.iter().filter(|(_, written)| *written).map(|(key, _)| *key).collect();
        match written.as_slice() {
            [first, second, ..] => {
                let message = format!("{rule}, but there are `{first}` and `{second}`");
                self.push(Problem::error(object.join(second), message).on_key().help("keep one of them"));
            }
            [] if !keys.iter().any(|(key, _)| self.is_excused(&object.join(key))) => {
                let keys: Vec<String> = keys.iter().map(|(key, _)| format!("`{key}`")).collect();
                let problem = Problem::error(object.clone(), format!("{rule}, but there is none")).on_key();
                self.push(problem.help(format!("write one of {}", keys.join(", "))));
            }
            _ => {}
        }
    }

    /// The path of a list's item; a scalar that stands for a list of one is the list itself.
    pub(crate) fn item(&self, list: &Path, position: usize) -> Path {
        match self.document.tree.find(list).and_then(Node::as_list) {
            Some(_) => list.index(position),
            None => list.clone(),
        }
    }

    pub(crate) fn read<T: DeserializeOwned>(&mut self, node: &Node, path: &Path) -> Option<T> {
        de::read(node, path, &KnownKeys(self.vocabulary), self.problems, &mut self.excused)
    }

    /// The object under a key at the top; `None` when it is absent or `off`.
    fn read_top<T: DeserializeOwned>(&mut self, tree: &Node, key: &str) -> Option<T> {
        let node = tree.get(key).filter(|node| !node.is_null() && !node.is_off())?;
        self.read(node, &Path::root().join(key))
    }

    /// What policies mean by the words of the object at `object`.
    fn policies(&mut self, object: &Path, place: Place, around: Around<'_>) -> Vec<Written> {
        let document = self.document;
        let Some(node) = document.tree.find(object) else { return Vec::new() };
        let mut found = Vec::new();
        for Line { word, .. } in self.vocabulary.of(place) {
            let Some(node) = node.get(word.key).filter(|node| !node.is_null()) else { continue };
            let at = object.join(word.key);
            if node.is_off() {
                // What is off by default need not be told; what is on unless it is written otherwise stands at the top.
                found.extend((place == Place::Top).then(|| Written::off(word.key, at)));
                continue;
            }
            let meaning = (word.read)(&mut Reading { resolver: self, node, path: at.clone(), around });
            found.extend(meaning.map(|meaning| Written { key: word.key, at, meaning }));
        }
        found
    }

    fn is_default(&self, path: &Path) -> bool {
        self.document.tree.find(path).is_none_or(|node| node.origin == Origin::Default)
    }

    fn top_keys(&mut self, tree: &Node) {
        let Some(map) = tree.as_map() else { return };
        let known = || TOP_KEYS.into_iter().chain(["routes"]);
        let (root, keys) = (Path::root(), KnownKeys(self.vocabulary));
        for key in map.keys().filter(|key| !key.starts_with("x-") && !known().any(|known| known == *key)) {
            let path = Path::root().join(key);
            let candidates = known().chain(keys.words(&root)).chain(keys.later(&root).iter().copied());
            if let Some(close) = closest(key, candidates) {
                self.excused.insert(Path::root().join(close));
                self.push(Problem::error(path, format!("unknown key `{key}`, did you mean `{close}`?")).on_key());
                continue;
            }
            let problem = Problem::error(path, format!("unknown key `{key}`")).on_key();
            self.push(match keys.elsewhere(key) {
                Some(place) => problem.help(format!("`{key}` belongs in `{place}`")),
                None => problem.help("keys of your own, for YAML anchors, begin with `x-`"),
            });
        }
        match map.get("version").and_then(Node::as_text) {
            None | Some("1") => {}
            Some(other) => {
                let problem = Problem::error(
                    Path::root().join("version"),
                    format!("version `{other}` of the format is not known here"),
                );
                self.push(problem.help("this version of Tidegate reads `version: 1`"));
            }
        }
    }

    /// Reads what services and routes start from, so that a mistake is reported where it stands and not where it is used.
    fn shared(&mut self, tree: &Node) {
        let defaults = Path::root().join("defaults");
        if let Some(node) = tree.get("defaults").filter(|node| !node.is_null()) {
            self.expect_keys(node, &defaults, &["service", "route"]);
            let service = node.get("service").and_then(|service| self.read(service, &defaults.join("service")));
            if let Some(ServiceFile { url: Some(_), .. } | ServiceFile { endpoints: Some(_), .. }) = service {
                let problem =
                    Problem::error(defaults.join("service"), "an address cannot be a default of every service");
                self.push(problem.help("write it into the service"));
            }
            node.get("route").into_iter().for_each(|route| self.shared_by_routes(route, &defaults.join("route")));
        }
        let path = Path::root().join("bundles");
        for (name, node) in self.named(tree, "bundles") {
            self.shared_by_routes(node, &path.join(&name));
        }
    }

    /// `defaults.route` or a bundle: only how it is written, since it need not be whole.
    fn shared_by_routes(&mut self, node: &Node, path: &Path) {
        let file: Option<PoliciesFile> = self.read(node, path);
        if let Some(file) = file {
            self.shadow(&file.shadow, &path.join("shadow"));
        }
        let around = Around { services: &BTreeSet::new(), pattern: &PathPattern::everything(), is_shared: true };
        self.policies(path, Place::Route, around);
    }

    /// The policies that only watch.
    fn shadow(&mut self, names: &[Name], path: &Path) -> Vec<Arc<str>> {
        let known = || self.vocabulary.of(Place::Route).map(|line| line.word.key);
        let mut found = Vec::new();
        for (position, Name(name)) in names.iter().enumerate() {
            if known().any(|key| *key == **name) {
                found.push(Arc::clone(name));
                continue;
            }
            let problem = Problem::error(self.item(path, position), format!("there is no policy `{name}`"));
            let help = closest(name, known()).map_or_else(
                || format!("the policies of a route {}", enumerate(known())),
                |close| format!("did you mean `{close}`?"),
            );
            self.push(problem.help(help));
        }
        found
    }

    /// The entries of a mapping of names at the top.
    fn named<'t>(&mut self, tree: &'t Node, key: &str) -> Vec<(Arc<str>, &'t Node)> {
        let path = Path::root().join(key);
        let Some(node) = tree.get(key) else { return Vec::new() };
        let map = match &node.value {
            Value::Map(map) => map,
            Value::Null => return Vec::new(),
            Value::Scalar(_) | Value::List(_) => {
                self.push(
                    Problem::error(path, format!("`{key}` is a mapping of names"))
                        .help(format!("write `{key}: {{ name: ... }}`")),
                );
                return Vec::new();
            }
        };
        let mut entries = Vec::new();
        for entry in &map.0 {
            if let Err(invalid) = entry.key.parse::<Name>() {
                let problem = Problem::error(path.join(&entry.key), invalid.message).on_key();
                self.push(Problem { help: invalid.help, ..problem });
            }
            entries.push((Arc::clone(&entry.key), &entry.node));
        }
        entries
    }

    fn expect_keys(&mut self, node: &Node, path: &Path, known: &[&str]) {
        let Some(map) = node.as_map() else {
            self.error(path, "expected a mapping of keys to values");
            return;
        };
        for key in map.keys().filter(|key| !known.contains(key)) {
            let problem = Problem::error(path.join(key), format!("unknown key `{key}`")).on_key();
            self.push(match closest(key, known.iter().copied()) {
                Some(close) => problem.help(format!("did you mean `{close}`?")),
                None => problem.help(format!(
                    "the keys here are {}",
                    known.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
                )),
            });
        }
    }

    fn check_addresses(
        &mut self,
        listeners: &[Listener],
        admin: Option<&crate::config::Admin>,
        status: Option<&[SocketAddr]>,
    ) {
        let root = Path::root();
        let mut bound: Vec<(SocketAddr, Path)> = Vec::new();
        let listening = listeners.iter().map(|listener| (listener.addresses.as_slice(), listener.at.clone()));
        let admin = admin.map(|admin| (admin.addresses.as_slice(), root.join("admin")));
        let status = status.map(|addresses| (addresses, root.join("status")));
        for (addresses, path) in listening.chain(admin).chain(status) {
            for address in addresses.iter().filter(|address| address.port() != 0) {
                self.bind(*address, &path, &mut bound);
            }
        }
    }

    fn bind(&mut self, address: SocketAddr, path: &Path, bound: &mut Vec<(SocketAddr, Path)>) {
        let taken = bound.iter().find(|(other, at)| at != path && listen::overlap(*other, address));
        let Some((other, at)) = taken else {
            bound.push((address, path.clone()));
            return;
        };
        let problem =
            Problem::error(path.clone(), format!("{address} cannot be listened on: {other} is taken already"));
        self.push(problem.help("give each listener a port of its own").see(at.clone(), "it is taken here"));
    }

    fn origin_is_env(&self, path: &Path) -> bool {
        matches!(self.document.origin(path, Part::Value), Some(Origin::Environment(_)))
    }
}
