//! Keys of the contract whose features later versions bring. They are known, refused unless they are `off`, and never
//! silently ignored: who writes `cache` relies on it.

use crate::policy::Place;
use crate::problem::{Path, Problem, Problems};
use crate::tree::{Map, Node, Value};

const HELP: &str = "take it out, or write `off`: this version of Tidegate does not have it";

const TOP: &[&str] = &["cache", "tracing", "tests"];
const ROUTE: &[&str] = &["cache", "transform", "compress", "aggregate"];

/// The later keys by the name of the struct that stands for the object in the schema; the empty one is the whole file.
pub(crate) const BY_DEFINITION: [(&str, &[&str]); 3] = [("", TOP), ("RouteFile", ROUTE), ("PoliciesFile", ROUTE)];

/// The later keys of the object at `path`.
pub(crate) fn keys_of(path: &Path) -> &'static [&'static str] {
    match Place::of(path.segments()) {
        Some(Place::Top) => TOP,
        Some(Place::Route) => ROUTE,
        None => &[],
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
    let problem = || Problem::error(object.join(key), format!("`{key}` is not supported yet")).on_key().help(HELP);
    if says_nothing(node) { None } else { Some(problem()) }
}

/// `off`, nothing, or a mapping or list in which nothing is on.
fn says_nothing(node: &Node) -> bool {
    match &node.value {
        Value::Null => true,
        Value::Scalar(_) => node.is_off(),
        Value::List(items) => items.is_empty(),
        Value::Map(Map(entries)) => !entries.is_empty() && entries.iter().all(|entry| entry.node.is_off()),
    }
}
