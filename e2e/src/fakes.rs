//! Fakes: small servers that speak as much of Consul's and Kubernetes' interfaces as discovery uses, with the answers that the
//! documentation of both shows. They are not Consul and not Kubernetes; what those do beyond their documentation is not tested.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::backend::{Backend, Conn, chunk};
use crate::stream::PATIENCE;
use crate::wire::Message;

/// What a fake knows, and a bell for those who wait for a change.
struct State<T> {
    known: Mutex<T>,
    changed: Condvar,
}

impl<T> State<T> {
    fn new(known: T) -> Arc<Self> {
        Arc::new(Self { known: Mutex::new(known), changed: Condvar::new() })
    }

    fn look(&self) -> MutexGuard<'_, T> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.look());
        self.changed.notify_all();
    }

    /// Waits while `same` holds, but not for ever: who asked is told then that nothing changed.
    fn wait(&self, same: impl Fn(&T) -> bool) -> MutexGuard<'_, T> {
        let waited = self.changed.wait_timeout_while(self.look(), PATIENCE, |known| same(known));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// A fake of Consul's health API: `/v1/health/service/app` with blocking queries, for the token `consul-token`.
pub struct FakeConsul {
    backend: Backend,
    state: Arc<State<Catalog>>,
}

struct Catalog {
    index: u64,
    entries: Vec<Value>,
    is_down: bool,
}

impl FakeConsul {
    /// Starts one that knows no instance.
    pub fn run() -> Self {
        let state = State::new(Catalog { index: 1, entries: Vec::new(), is_down: false });
        let shared = Arc::clone(&state);
        let backend = Backend::scripted(move |conn| {
            while let Some(request) = conn.request() {
                let reply = consul_reply(&request, &shared);
                conn.send(reply);
            }
        });
        Self { backend, state }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.backend.address()
    }

    /// How many questions were asked so far.
    pub fn questions(&self) -> usize {
        self.backend.requests().len()
    }

    /// Replaces all instances: the node's address, the service's own address (which may be empty), port and metadata.
    pub fn set(&self, instances: &[(&str, &str, u16, Value)]) {
        self.state.change(|catalog| {
            catalog.index += 1;
            catalog.entries = instances.iter().map(consul_entry).collect();
        });
    }

    /// From now on every question is answered with an error, or no longer.
    pub fn set_down(&self, is_down: bool) {
        self.state.change(|catalog| catalog.is_down = is_down);
    }
}

fn consul_entry((node, address, port, meta): &(&str, &str, u16, Value)) -> Value {
    json!({
        "Node": { "ID": "40e4a748-2192-161a-0510-9bf59fe950b5", "Node": "foobar", "Address": node, "Datacenter": "dc1",
                  "TaggedAddresses": { "lan": node, "wan": node }, "Meta": { "instance_type": "t2.medium" } },
        "Service": { "ID": format!("app-{port}"), "Service": "app", "Tags": ["primary"], "Address": address, "Meta": meta,
                     "Port": port, "Weights": { "Passing": 10, "Warning": 1 }, "Namespace": "default" },
        "Checks": [{ "Node": "foobar", "CheckID": format!("service:app-{port}"), "Name": "Service 'app' check",
                     "Status": "passing", "Notes": "", "Output": "", "ServiceID": format!("app-{port}"),
                     "ServiceName": "app", "ServiceTags": ["primary"], "Namespace": "default" }]
    })
}

fn consul_reply(request: &Message, state: &State<Catalog>) -> String {
    if request.field("x-consul-token") != Some("consul-token") {
        return reply(403, "", "Permission denied");
    }
    let (path, query) = split(request.head.target());
    if path != "/v1/health/service/app" || query.get("passing") != Some(&"true") {
        return reply(404, "", "this fake knows `/v1/health/service/app?passing=true`");
    }
    let index = query.get("index").and_then(|index| index.parse().ok()).unwrap_or(0);
    let catalog = state.wait(|catalog| catalog.index == index && !catalog.is_down);
    if catalog.is_down {
        return reply(500, "", "No cluster leader");
    }
    let fields = format!("X-Consul-Index: {}\r\nX-Consul-Knownleader: true\r\n", catalog.index);
    reply(200, &fields, &Value::Array(catalog.entries.clone()).to_string())
}

/// A fake of the Kubernetes API server: `EndpointSlice` objects of the namespace `shop`, listed and watched, for the bearer token
/// `kubernetes-token`.
pub struct FakeKubernetes {
    backend: Backend,
    state: Arc<State<Slices>>,
}

#[derive(Default)]
struct Slices {
    version: u64,
    objects: BTreeMap<String, Value>,
    /// What happened, each with the version that it led to.
    events: Vec<(u64, Value)>,
    /// Versions before this one are forgotten.
    oldest: u64,
}

impl FakeKubernetes {
    /// Starts one without slices.
    pub fn run() -> Self {
        let state = State::new(Slices { version: 1, ..Slices::default() });
        let shared = Arc::clone(&state);
        let backend = Backend::scripted(move |conn| {
            if let Some(request) = conn.request() {
                kubernetes(&request, conn, &shared);
            }
        });
        Self { backend, state }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.backend.address()
    }

    /// How many lists were asked for so far; watches do not count.
    pub fn lists(&self) -> usize {
        self.backend.requests().iter().filter(|request| !request.head.target().contains("watch=true")).count()
    }

    /// Waits until that many watches were begun.
    pub fn wait_watches(&self, n: usize) {
        let is_watch = |request: &&Message| request.head.target().contains("watch=true");
        self.backend.wait("the watch", |seen| seen.requests.iter().filter(is_watch).count() >= n);
    }

    /// Adds a slice or replaces it: each member with its address and whether it is ready; the port is called `http`.
    pub fn set(&self, name: &str, port: u16, members: &[(&str, bool)]) {
        self.state.change(|slices| {
            let kind = if slices.objects.contains_key(name) { "MODIFIED" } else { "ADDED" };
            let object = slice(name, slices.version + 1, port, members);
            slices.happened(kind, &object);
            slices.objects.insert(name.to_owned(), object);
        });
    }

    /// Removes a slice.
    pub fn remove(&self, name: &str) {
        self.state.change(|slices| {
            if let Some(object) = slices.objects.remove(name) {
                slices.happened("DELETED", &object);
            }
        });
    }

    /// Forgets all versions so far, as a server does that compacts its store; watches that are open end with an error.
    pub fn forget(&self) {
        self.state.change(|slices| {
            slices.version += 1;
            slices.oldest = slices.version;
        });
    }
}

impl Slices {
    fn happened(&mut self, kind: &str, object: &Value) {
        self.version += 1;
        self.events.push((self.version, json!({ "type": kind, "object": object })));
    }
}

fn slice(name: &str, version: u64, port: u16, members: &[(&str, bool)]) -> Value {
    let endpoints = members.iter().map(|(address, ready)| {
        json!({ "addresses": [address], "conditions": { "ready": ready, "serving": ready, "terminating": !ready },
                "hostname": "pod-1", "nodeName": "node-1", "zone": "us-west2-a" })
    });
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": name, "namespace": "shop", "resourceVersion": version.to_string(),
                      "labels": { "kubernetes.io/service-name": "app" } },
        "ports": [{ "name": "http", "protocol": "TCP", "port": port }],
        "endpoints": endpoints.collect::<Vec<_>>()
    })
}

fn kubernetes(request: &Message, conn: &mut Conn, state: &State<Slices>) {
    let (path, query) = split(request.head.target());
    if request.field("authorization") != Some("Bearer kubernetes-token") {
        conn.send(reply(401, "", &status(401, "Unauthorized").to_string()));
    } else if path != "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"
        || query.get("labelSelector") != Some(&"kubernetes.io%2Fservice-name%3Dapp")
    {
        conn.send(reply(404, "", &status(404, "this fake knows the slices of one service").to_string()));
    } else if query.get("watch") == Some(&"true") {
        let from = query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
        watch(from, conn, state);
    } else {
        let slices = state.look();
        let list = json!({
            "kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1",
            "metadata": { "resourceVersion": slices.version.to_string() },
            "items": slices.objects.values().collect::<Vec<_>>()
        });
        drop(slices);
        conn.send(reply(200, "", &list.to_string()));
    }
}

fn watch(from: u64, conn: &mut Conn, state: &State<Slices>) {
    conn.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut told = from;
    loop {
        let slices = state.wait(|slices| slices.version <= told && slices.oldest <= told);
        let is_gone = slices.oldest > told;
        let news: Vec<String> = slices
            .events
            .iter()
            .filter(|(version, _)| *version > told)
            .map(|(_, event)| format!("{event}\n"))
            .collect();
        let is_over = is_gone || news.is_empty();
        told = slices.version;
        drop(slices);
        if is_gone {
            let error = json!({ "type": "ERROR", "object": status(410, "too old resource version") });
            conn.send(chunk(&format!("{error}\n")));
        } else if !news.is_empty() && !conn.send(news.iter().map(|event| chunk(event)).collect::<String>()) {
            return;
        }
        if is_over {
            conn.send("0\r\n\r\n");
            return;
        }
    }
}

fn status(code: u16, message: &str) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "code": code })
}

fn reply(status: u16, fields: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{fields}\r\n{body}")
}

/// A target's path and its parameters as they stand.
fn split(target: &str) -> (&str, BTreeMap<&str, &str>) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    (path, query.split('&').filter_map(|parameter| parameter.split_once('=')).collect())
}
