//! Keys of the contract whose features later versions bring. They are known, refused unless they are `off`, and never
//! silently ignored: who writes `rate_limit` relies on it.

use crate::problem::{Path, Problem, Problems, Segment};
use crate::tree::{Map, Node, Value};

const HELP: &str = "take it out, or write `off`: this version of Tidegate has routing, balancing, health checks, breakers, retries, discovery and traffic shaping";

const TOP: &[&str] = &["rate_limit", "limits_store", "limits_memory", "auth", "cache", "tracing", "tests"];
const SERVER: &[&str] = &["require_auth"];
const ROUTE: &[&str] = &[
    "auth",
    "require",
    "require_tls",
    "rate_limit",
    "cache",
    "cors",
    "security_headers",
    "ip",
    "csrf",
    "identity_headers",
    "transform",
    "compress",
    "aggregate",
];

/// The later keys by the name of the struct that stands for the object in the schema; the empty one is the whole file.
pub(crate) const BY_DEFINITION: [(&str, &[&str]); 4] =
    [("", TOP), ("ServerFile", SERVER), ("RouteFile", ROUTE), ("PoliciesFile", ROUTE)];

/// The later keys of the object at `path`.
pub(crate) fn keys_of(path: &Path) -> &'static [&'static str] {
    let keys: Vec<Option<&str>> = path
        .segments()
        .iter()
        .map(|segment| match segment {
            Segment::Key(key) => Some(&**key),
            Segment::Index(_) => None,
        })
        .collect();
    match keys.as_slice() {
        [] => TOP,
        [Some("server")] => SERVER,
        [Some("routes"), None] | [Some("defaults"), Some("route")] | [Some("bundles"), Some(_)] => ROUTE,
        _ => &[],
    }
}

/// Every object that may have later keys, taken out of `tree`; each one that asks for something is a problem.
pub(crate) fn refuse(tree: &mut Node, problems: &mut Problems) {
    tree.walk_mut(&Path::root(), &mut |path, node| {
        if let Some(map) = node.as_map_mut() {
            for key in keys_of(path) {
                let entry = map.remove(key);
                problems.extend(entry.and_then(|entry| problem(path, key, &entry.node)));
            }
        }
    });
}

fn problem(object: &Path, key: &str, node: &Node) -> Option<Problem> {
    if says_nothing(key, node) {
        return None;
    }
    let path = object.join(key);
    match key {
        "require_auth" => Some(
            Problem::error(path, "`require_auth` is not supported yet")
                .on_key()
                .help("this version of Tidegate does not authenticate: keep it where only trusted clients reach it, and write `require_auth: off`"),
        ),
        "auth" => Some(
            Problem::error(path, "`auth` is not supported yet")
                .on_key()
                .help("this version of Tidegate does not authenticate; `auth: none` says that a route is public"),
        ),
        _ => Some(Problem::error(path, format!("`{key}` is not supported yet")).on_key().help(HELP)),
    }
}

/// `off`, nothing, or a mapping or list in which nothing is on.
fn says_nothing(key: &str, node: &Node) -> bool {
    match &node.value {
        Value::Null => true,
        Value::Scalar(scalar) => node.is_off() || (key == "auth" && &*scalar.text == "none"),
        Value::List(items) => items.is_empty(),
        Value::Map(Map(entries)) => !entries.is_empty() && entries.iter().all(|entry| entry.node.is_off()),
    }
}
