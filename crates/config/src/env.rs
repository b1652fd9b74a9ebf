//! Environment variables that change the configuration. A name is the path in capitals, joined by `_`; since `_` is part
//! of keys too, the schema and the names that are written decide what is meant, and a real ambiguity is a problem.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::later;
use crate::problem::{Path, Problem, Problems, Segment};
use crate::schema::Shape;
use crate::tree::{Entry, Map, Node, Origin, Scalar, Value, switch};
use crate::value::closest;
use crate::vocabulary::Vocabulary;

const PREFIX: &str = "TIDEGATE_";

/// What is read without the prefix too.
const UNPREFIXED: [&str; 3] = ["SERVER_", "SERVICES_", "RATE_LIMIT_"];

/// Writes what the environment says over the tree. `used` are variables that the file itself asks for by `${...}`.
pub(crate) fn apply(
    tree: &mut Node,
    vocabulary: &'static Vocabulary,
    env: &[(String, String)],
    used: &BTreeSet<String>,
    problems: &mut Problems,
) {
    let mut passed_over = Vec::new();
    let (mut prefixed, mut plain): (Vec<_>, Vec<_>) = env.iter().partition(|(name, _)| name.starts_with(PREFIX));
    // An empty one without the prefix is what is left of somebody's unset variable.
    plain.retain(|(name, value)| !value.is_empty() && UNPREFIXED.iter().any(|prefix| name.starts_with(prefix)));
    plain.sort();
    prefixed.sort();
    // With the prefix last: it says most clearly who is meant.
    for (name, value) in plain.into_iter().chain(prefixed) {
        let variable = Variable {
            name,
            value,
            rest: name.strip_prefix(PREFIX).unwrap_or(name),
            prefixed: name.starts_with(PREFIX),
            vocabulary,
        };
        if variable.apply(tree, used, problems) == Verdict::PassedOver {
            passed_over.push(name.as_str());
        }
    }
    problems.extend(passed_over_problem(&passed_over));
}

/// Writes where Kubernetes says to its pods that the API server is, for every discovery that does not name one.
pub(crate) fn api_servers(tree: &mut Node, env: &[(String, String)]) {
    const HOST: &str = "KUBERNETES_SERVICE_HOST";
    let variable = |name: &str| {
        let found = env.iter().find(|(key, value)| key == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    };
    let Some(host) = variable(HOST) else { return };
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let url = format!("https://{host}:{}", variable("KUBERNETES_SERVICE_PORT").unwrap_or("443"));
    let origin = Origin::Environment(HOST.into());
    let services = tree.as_map_mut().and_then(|map| map.get_mut("services")).and_then(Node::as_map_mut);
    for service in services.into_iter().flat_map(|services| &mut services.0) {
        let path = Path::root().join("discovery").join("kubernetes");
        let Some(map) = service.node.find_mut(path.segments()).and_then(Node::as_map_mut) else { continue };
        if map.get("api_server").is_none_or(Node::is_null) {
            let node = Node::text(url.as_str(), origin.clone());
            map.set(Entry { key: "api_server".into(), key_origin: origin.clone(), node });
        }
    }
}

#[derive(PartialEq, Eq)]
enum Verdict {
    Done,
    PassedOver,
}

/// One for all of them: there are half a dozen for each Service.
fn passed_over_problem(names: &[&str]) -> Option<Problem> {
    let first = names.first()?;
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    let message = format!("passed over, because Kubernetes sets them for its Services: {}", names.join(", "));
    let problem = Problem::warning(Path::root(), message).at(Origin::Environment((*first).into()));
    Some(problem.help("set `enableServiceLinks: false` in the pod to be rid of these variables"))
}

struct Variable<'a> {
    name: &'a str,
    value: &'a str,
    /// Without the prefix.
    rest: &'a str,
    prefixed: bool,
    vocabulary: &'static Vocabulary,
}

impl Variable<'_> {
    fn apply(&self, tree: &mut Node, used: &BTreeSet<String>, problems: &mut Problems) -> Verdict {
        let mut targets = self.targets(tree);
        if !self.prefixed {
            targets.retain(|target| !target.shape.is_object());
        }
        match targets.as_slice() {
            [target] if self.is_link() && !target.shape.is_text() => return Verdict::PassedOver,
            [target] => self.set(tree, target, problems),
            [] if !self.prefixed || used.contains(self.name) => {}
            [] if self.is_link() || is_kubernetes(self.rest) => return Verdict::PassedOver,
            [] => problems.push(self.unknown(tree)),
            [..] => problems.push(self.ambiguous(&targets)),
        }
        Verdict::Done
    }

    /// Everything that the name may mean.
    fn targets(&self, tree: &Node) -> Vec<Target> {
        let mut found: Vec<Target> = Vec::new();
        search(Within::root(tree, self.vocabulary), self.rest, &Path::root(), &mut found);
        let mut seen = BTreeSet::new();
        found.retain(|target| seen.insert(target.path.clone()));
        found
    }

    fn is_link(&self) -> bool {
        ["tcp://", "udp://", "sctp://"].iter().any(|scheme| self.value.starts_with(scheme))
    }

    fn unknown(&self, tree: &Node) -> Problem {
        let problem = Problem::error(
            Path::root(),
            format!("the environment variable `{}` names nothing in the configuration", self.name),
        );
        let names = names(tree, self.vocabulary);
        self.at(match closest(self.rest, names.iter().map(String::as_str)) {
            Some(close) => problem.help(format!("did you mean `{PREFIX}{close}`?")),
            None => {
                problem.help("a name is the path in capitals, joined by `_`: `TIDEGATE_SERVER_PORT` is `server.port`")
            }
        })
    }

    fn ambiguous(&self, targets: &[Target]) -> Problem {
        let candidates: Vec<String> = targets.iter().map(|target| format!("`{}`", target.path)).collect();
        let problem = Problem::error(
            Path::root(),
            format!("the environment variable `{}` may mean {}", self.name, candidates.join(" or ")),
        );
        self.at(problem.help("write the value into the file, as `${NAME}`, under a name of its own"))
    }

    fn at(&self, problem: Problem) -> Problem {
        problem.at(Origin::Environment(self.name.into()))
    }

    fn set(&self, tree: &mut Node, target: &Target, problems: &mut Problems) {
        if target.shape.is_list_of_objects() {
            let problem = Problem::error(
                target.path.clone(),
                format!("`{}` is a list of mappings, which a variable cannot hold", target.path),
            );
            problems.push(self.at(problem.help("write it into the file")));
            return;
        }
        let origin = Origin::Environment(self.name.into());
        let text = |text: &str| Node {
            value: Value::Scalar(Scalar { text: text.into(), plain: true }),
            origin: origin.clone(),
            secret: false,
        };
        let node = if target.shape.is_list() {
            let items = self.value.split(',').map(str::trim).filter(|item| !item.is_empty());
            Node { value: Value::List(items.map(text).collect()), origin: origin.clone(), secret: false }
        } else {
            text(self.value)
        };
        let is_switch = switch(self.value).is_some();
        let short = if is_switch { Vec::new() } else { self.vocabulary.short_for(&target.path) };
        let path = short.into_iter().fold(target.path.clone(), |path, key| path.join(key));
        put(tree, path.segments(), node, &origin);
        let other = match target.path.last_key() {
            Some("url") => "endpoints",
            Some("endpoints") => "url",
            _ => return,
        };
        let parents = target.path.segments().split_last().map_or(&[][..], |(_, parents)| parents);
        if let Some(service) = tree.find_mut(parents).and_then(Node::as_map_mut) {
            service.remove(other);
        }
    }
}

/// Sets the value at the path; what is no mapping on the way becomes one.
fn put(node: &mut Node, segments: &[Segment], value: Node, origin: &Origin) {
    let Some((Segment::Key(key), rest)) = segments.split_first() else { return };
    if node.as_map().is_none() {
        *node = Node::map(origin.clone());
    }
    let Some(map) = node.as_map_mut() else { return };
    if rest.is_empty() {
        map.set(Entry { key: Arc::clone(key), key_origin: origin.clone(), node: value });
        return;
    }
    if map.get(key).is_none() {
        map.set(Entry { key: Arc::clone(key), key_origin: origin.clone(), node: Node::map(origin.clone()) });
    }
    if let Some(next) = map.get_mut(key) {
        put(next, rest, value, origin);
    }
}

/// Something that a name may mean.
struct Target {
    path: Path,
    shape: Shape,
}

/// What names are looked for in.
#[derive(Clone, Copy)]
struct Within<'t> {
    shape: Shape,
    node: Option<&'t Node>,
    vocabulary: &'static Vocabulary,
}

impl<'t> Within<'t> {
    fn root(tree: &'t Node, vocabulary: &'static Vocabulary) -> Self {
        Self { shape: Shape::root(vocabulary), node: Some(tree), vocabulary }
    }

    fn below(self, key: &str, shape: Shape) -> Self {
        Self { shape, node: self.node.and_then(|node| node.get(key)), ..self }
    }

    /// The names in a mapping of them: those that are written, and those that are built in.
    fn names(self, path: &Path) -> Vec<(&'t str, Shape)> {
        let Some(shape) = self.shape.named() else { return Vec::new() };
        let written = self.node.and_then(Node::as_map).into_iter().flat_map(Map::keys);
        let names: BTreeSet<&str> =
            written.chain(self.vocabulary.names(path).map(|name| -> &'t str { name })).collect();
        names.into_iter().map(|name| (name, shape)).collect()
    }
}

fn search(within: Within<'_>, rest: &str, path: &Path, found: &mut Vec<Target>) {
    for (key, shape) in within.shape.properties() {
        if path.segments().is_empty() && key == "include" {
            continue;
        }
        match after(rest, key) {
            Some("") => found.push(Target { path: path.join(key), shape }),
            Some(rest) => search(within.below(key, shape), rest, &path.join(key), found),
            None => {}
        }
    }
    for key in later::keys_of(path) {
        let path = path.join(key);
        found.extend(after(rest, key).map(|rest| Target {
            path: if rest.is_empty() { path } else { path.join(&rest.to_ascii_lowercase()) },
            shape: within.shape,
        }));
    }
    let before = found.len();
    for (key, shape) in within.names(path) {
        match after(rest, key) {
            Some("") => found.push(Target { path: path.join(key), shape }),
            Some(rest) => search(within.below(key, shape), rest, &path.join(key), found),
            None => {}
        }
    }
    if found.len() == before && *path == Path::root().join("services") {
        found.extend(within.shape.named().and_then(|named| new_service(named, rest, path)));
    }
}

/// A service that is not in the file is made by its address.
fn new_service(shape: Shape, rest: &str, path: &Path) -> Option<Target> {
    let (name, key) =
        rest.rsplit_once('_').filter(|(name, key)| !name.is_empty() && matches!(*key, "URL" | "ENDPOINTS"))?;
    let key = key.to_ascii_lowercase();
    let (_, shape) = shape.properties().into_iter().find(|(property, _)| *property == key)?;
    Some(Target { path: path.join(&name.to_ascii_lowercase()).join(&key), shape })
}

/// What follows `key` in a name: empty at its end, `None` when it does not begin with it.
fn after<'n>(rest: &'n str, key: &str) -> Option<&'n str> {
    let key = in_capitals(key);
    let after = rest.strip_prefix(&key)?;
    if after.is_empty() { Some(after) } else { after.strip_prefix('_').filter(|after| !after.is_empty()) }
}

fn in_capitals(key: &str) -> String {
    key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

/// Every name that means something, for advice.
fn names(tree: &Node, vocabulary: &'static Vocabulary) -> Vec<String> {
    let mut names = Vec::new();
    collect(Within::root(tree, vocabulary), "", &Path::root(), &mut names);
    names
}

fn collect(within: Within<'_>, prefix: &str, path: &Path, found: &mut Vec<String>) {
    if path.segments().len() > 8 {
        return;
    }
    for (key, shape) in within.shape.properties().into_iter().chain(within.names(path)) {
        let name = format!("{prefix}{}", in_capitals(key));
        if !shape.is_list_of_objects() && !shape.is_object() {
            found.push(name.clone());
        }
        collect(within.below(key, shape), &format!("{name}_"), &path.join(key), found);
    }
}

/// `NAME_SERVICE_HOST`, `NAME_PORT_80_TCP_ADDR` and such.
fn is_kubernetes(name: &str) -> bool {
    let ends = ["_SERVICE_HOST", "_SERVICE_PORT"].iter().any(|end| name.ends_with(end) || format!("_{name}") == *end);
    let port = name.find("PORT_").and_then(|at| name.get(at + "PORT_".len()..));
    let is_port = port.is_some_and(|port| {
        let digits = port.bytes().take_while(u8::is_ascii_digit).count();
        digits > 0
            && ["_TCP", "_UDP", "_SCTP"]
                .iter()
                .any(|protocol| port.get(digits..).is_some_and(|rest| rest.starts_with(protocol)))
    });
    ends || is_port || name.contains("SERVICE_PORT_")
}
