//! From what was written to what is effective: built-in values, then `defaults`, then bundles, then the object itself.
//! Mappings merge; lists, scalars and one-of objects replace; `off` removes.

use std::sync::Arc;

use crate::parse;
use crate::policy::Place;
use crate::problem::{Path, Problem, Problems};
use crate::tree::{Entry, Map, Node, Origin, Value};
use crate::value::closest;
use crate::vocabulary::Vocabulary;

/// What is built in; see the file itself.
pub(crate) const DEFAULTS: &str = include_str!("defaults.yaml");

/// The tree of [`DEFAULTS`].
pub(crate) fn defaults() -> Node {
    built_in(DEFAULTS)
}

/// The tree of a text that is built in; nothing, if there is none.
pub(crate) fn built_in(text: &str) -> Node {
    let nothing = Node { value: Value::Null, ..Node::map(Origin::Default) };
    let mut tree = parse::parse(text, 0, &mut Problems::new()).unwrap_or(nothing);
    tree.walk_mut(&Path::root(), &mut |_, node| {
        node.origin = Origin::Default;
        if let Some(map) = node.as_map_mut() {
            for entry in &mut map.0 {
                entry.key_origin = Origin::Default;
            }
        }
    });
    tree
}

/// Completes the tree of what was written. `defaults` and `bundles` stay in it, for places.
pub(crate) fn complete(tree: &mut Node, vocabulary: &'static Vocabulary, problems: &mut Problems) {
    let defaults = defaults();
    let empty = Node::map(Origin::Default);
    let part = |name: &str| defaults.get("when_present").and_then(|parts| parts.get(name)).unwrap_or(&empty);
    let Some(map) = tree.as_map_mut() else { return };
    server(map, &defaults, part("listener"), part("tls"));
    under(map, "log", defaults.get("log").unwrap_or(&empty));
    if let Some(log) = map.get_mut("log") {
        under_present(log, "access", part("access"));
    }
    under_present_in(map, "admin", part("admin"));
    under_present_in(map, "status", part("status"));
    services(map, part("service"), part("in_service"));
    routes(map, (part("route"), part("in_route")), vocabulary, problems);
    vocabulary.complete(Place::Top, map);
}

fn server(map: &mut Map, defaults: &Node, listener: &Node, tls: &Node) {
    let Some(base) = defaults.get("server") else { return };
    let mut base = base.clone();
    let has_listeners =
        map.get("server").and_then(|server| server.get("listeners")).is_some_and(|node| !node.is_null());
    if let (true, Some(base)) = (has_listeners, base.as_map_mut()) {
        base.remove("host");
        base.remove("port");
    }
    under(map, "server", &base);
    let Some(server) = map.get_mut("server") else { return };
    under_present(server, "tls", tls);
    let Some(Value::List(items)) =
        server.as_map_mut().and_then(|server| server.get_mut("listeners")).map(|node| &mut node.value)
    else {
        return;
    };
    for (position, item) in items.iter_mut().enumerate() {
        name_it(item, || format!("listener-{}", position + 1));
        *item = merged(listener, item);
        under_present(item, "tls", tls);
    }
}

fn services(map: &mut Map, builtin: &Node, parts: &Node) {
    let written = map.get("defaults").and_then(|defaults| defaults.get("service")).cloned();
    let base = written.map_or_else(|| builtin.clone(), |written| merged(builtin, &written));
    let Some(services) = map.get_mut("services").and_then(Node::as_map_mut) else { return };
    for entry in &mut services.0 {
        if entry.node.as_map().is_some() {
            entry.node = merged(&base, &entry.node);
            under_written(&mut entry.node, parts);
        }
    }
}

/// A service of which only the URL is known, completed like those of the file.
pub(crate) fn own_service(tree: &Node, url: &str) -> Node {
    let defaults = defaults();
    let empty = Node::map(Origin::Default);
    let builtin = defaults.get("when_present").and_then(|parts| parts.get("service")).unwrap_or(&empty);
    let parts = defaults.get("when_present").and_then(|parts| parts.get("in_service")).unwrap_or(&empty);
    let written = tree.get("defaults").and_then(|defaults| defaults.get("service"));
    let mut node = written.map_or_else(|| builtin.clone(), |written| merged(builtin, written));
    if let Some(map) = node.as_map_mut() {
        map.set(Entry { key: "url".into(), key_origin: Origin::Default, node: Node::text(url, Origin::Default) });
    }
    under_written(&mut node, parts);
    node
}

fn routes(map: &mut Map, (builtin, parts): (&Node, &Node), vocabulary: &'static Vocabulary, problems: &mut Problems) {
    let written = map.get("defaults").and_then(|defaults| defaults.get("route")).cloned();
    let base = written.map_or_else(|| builtin.clone(), |written| merged(builtin, &written));
    let bundles = map.get("bundles").cloned();
    let Some(Value::List(routes)) = map.get_mut("routes").map(|node| &mut node.value) else { return };
    for (position, route) in routes.iter_mut().enumerate() {
        if route.as_map().is_none() {
            continue;
        }
        name_it(route, || format!("route-{}", position + 1));
        let mut from = base.clone();
        for bundle in used_bundles(route, &Path::root().join("routes").index(position), bundles.as_ref(), problems) {
            from = merged(&from, &bundle);
        }
        *route = merged(&from, route);
        under_written(route, parts);
        if let Some(route) = route.as_map_mut() {
            vocabulary.complete(Place::Route, route);
        }
    }
}

/// The bundles that a route names, in order.
fn used_bundles(route: &Node, path: &Path, bundles: Option<&Node>, problems: &mut Problems) -> Vec<Node> {
    let Some(names) = route.get("use") else { return Vec::new() };
    let path = path.join("use");
    let wanted: Vec<(Path, &Node)> = match names.as_list() {
        Some(items) => items.iter().enumerate().map(|(index, node)| (path.index(index), node)).collect(),
        None => vec![(path, names)],
    };
    let mut found = Vec::new();
    for (path, node) in wanted {
        let Some(name) = node.as_text().filter(|_| !node.is_off()) else { continue };
        if let Some(bundle) = bundles.and_then(|bundles| bundles.get(name)) {
            found.push(bundle.clone());
            continue;
        }
        let shown = if node.secret { "***" } else { name };
        let problem = Problem::error(path, format!("there is no bundle `{shown}`"));
        let close = closest(name, bundles.and_then(Node::as_map).into_iter().flat_map(Map::keys));
        problems.push(match close {
            Some(close) => problem.help(format!("did you mean `{close}`?")),
            None => problem.help("bundles are defined at the top, under `bundles`"),
        });
    }
    found
}

fn name_it(node: &mut Node, name: impl Fn() -> String) {
    let Some(map) = node.as_map_mut() else { return };
    if map.get("name").is_none_or(Node::is_null) {
        map.remove("name");
        let entry =
            Entry { key: "name".into(), key_origin: Origin::Default, node: Node::text(name(), Origin::Default) };
        map.0.insert(0, entry);
    }
}

/// Puts `base` under `key`, whether it is written or not.
fn under(map: &mut Map, key: &str, base: &Node) {
    match map.get_mut(key) {
        Some(node) => *node = merged_under(key, base, node),
        None => map.0.push(Entry { key: key.into(), key_origin: Origin::Default, node: base.clone() }),
    }
}

fn under_present(node: &mut Node, key: &str, base: &Node) {
    if let Some(map) = node.as_map_mut() {
        under_present_in(map, key, base);
    }
}

/// Puts `base` under `key` if that is written, and not `off`.
fn under_present_in(map: &mut Map, key: &str, base: &Node) {
    if let Some(node) = map.get_mut(key).filter(|node| !node.is_null()) {
        *node = merged_under(key, base, node);
    }
}

/// Puts each value of `parts` under its key of `node` where that is written. Of some the keys
/// are forms that exclude one another, and then each form is completed where it is written.
fn under_written(node: &mut Node, parts: &Node) {
    const ONLY_KINDS: [&str; 3] = ["load_balancing", "fallback", "discovery"];
    let Some(map) = node.as_map_mut() else { return };
    for part in parts.as_map().into_iter().flat_map(|parts| &parts.0) {
        if !ONLY_KINDS.contains(&&*part.key) {
            under_present_in(map, &part.key, &part.node);
        } else if let Some(inner) = map.get_mut(&part.key) {
            under_written(inner, &part.node);
        }
    }
}

/// Forms of the object under a key that exclude one another, each with its own keys: the form that is written later takes the
/// others' place. Services and routes have no key.
const ONE_OF: [(&str, &[&[&str]]); 7] = [
    ("", &[&["url"], &["endpoints"]]),
    ("rewrite", &[&["strip_prefix"], &["path"]]),
    ("health", &[&["http"], &["tcp"], &["grpc"]]),
    ("circuit_breaker", &[&["failure_ratio", "min_requests", "window"], &["consecutive_failures"]]),
    ("load_balancing", &[&["consistent_hash"], &["sticky_cookie"]]),
    ("fallback", &[&["respond"], &["service"]]),
    ("discovery", &[&["dns"], &["consul"], &["etcd"], &["file"], &["kubernetes"], &["registry"]]),
];

/// `over` where it says something, `base` where it does not.
pub(crate) fn merged(base: &Node, over: &Node) -> Node {
    merged_under("", base, over)
}

/// The same for the values of `key`.
pub(crate) fn merged_under(key: &str, base: &Node, over: &Node) -> Node {
    let (Value::Map(base_map), Value::Map(over_map)) = (&base.value, &over.value) else {
        // Nothing written changes nothing; `on` keeps what is there.
        let keeps = over.is_null() || (over.is_on() && base.as_map().is_some());
        let mut node = if keeps { base.clone() } else { over.clone() };
        if keeps && !over.is_null() {
            node.origin = over.origin.clone();
        }
        return node;
    };
    let forms = ONE_OF.iter().find(|(object, _)| *object == key).map_or(&[][..], |(_, forms)| *forms);
    let is_written = |key: &&str| over_map.get(key).is_some_and(|node| !node.is_null() && !node.is_off());
    let replaced = |key: &str| {
        let (own, others): (Vec<&[&str]>, Vec<&[&str]>) = forms.iter().partition(|form| form.contains(&key));
        !own.is_empty() && others.into_iter().flatten().any(is_written)
    };
    let mut entries = Vec::with_capacity(over_map.0.len() + base_map.0.len());
    for entry in &over_map.0 {
        let node = match base_map.entry(&entry.key) {
            Some(base) => Entry {
                node: merged_under(&entry.key, &base.node, &entry.node),
                key_origin: key_origin(entry, base),
                key: Arc::clone(&entry.key),
            },
            None => entry.clone(),
        };
        entries.push(node);
    }
    let inherited = base_map.0.iter().filter(|entry| over_map.get(&entry.key).is_none() && !replaced(&entry.key));
    entries.extend(inherited.cloned());
    Node { value: Value::Map(Map(entries)), origin: over.origin.clone(), secret: over.secret }
}

fn key_origin(over: &Entry, base: &Entry) -> Origin {
    if over.node.is_null() { base.key_origin.clone() } else { over.key_origin.clone() }
}
