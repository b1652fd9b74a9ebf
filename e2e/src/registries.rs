//! Real programs that know where services are: dnsmasq and etcd. `scripts/test` installs them.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::client::Client;
use crate::folder::Folder;

/// A program that is ready once it has said so on its standard error.
pub(crate) struct Server(Child);

impl Server {
    pub(crate) fn start(command: &mut Command, ready: &str) -> Self {
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        let started =
            command.env("PATH", path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = started.unwrap_or_else(|e| panic!("{command:?}: {e}: run ./scripts/test once, it installs it"));
        let mut lines = BufReader::new(child.stderr.take().expect("its output")).lines().map_while(Result::ok);
        let mut said = Vec::new();
        let is_ready = lines.by_ref().any(|line| {
            let is_ready = line.contains(ready);
            said.push(line);
            is_ready
        });
        assert!(is_ready, "{command:?} ended: {said:#?}");
        // Nobody reads on, but a full pipe would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Self(child)
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A real dnsmasq that knows the domain `test.` and nothing else.
pub struct Dnsmasq {
    folder: Folder,
    address: SocketAddr,
    server: Option<Server>,
}

impl Dnsmasq {
    /// Starts one with these records, each a line of its configuration, for instance `host-record=app.test,127.0.0.2`.
    ///
    /// # Panics
    /// If dnsmasq is missing or refuses a record.
    pub fn run(records: &[&str]) -> Self {
        let mut dnsmasq = Self { folder: Folder::new(), address: free_for_both(), server: None };
        dnsmasq.serve(records);
        dnsmasq
    }

    /// Where it listens, over UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts it anew at the same address, with other records.
    ///
    /// # Panics
    /// If dnsmasq refuses a record.
    pub fn serve(&mut self, records: &[&str]) {
        self.stop();
        let config = format!(
            "port={}\nlisten-address={}\nbind-interfaces\nno-resolv\nno-hosts\nlocal=/test/\nlocal-ttl=1\nuser=\npid-file=\n{}\n",
            self.address.port(),
            self.address.ip(),
            records.join("\n")
        );
        let config = self.folder.write("dnsmasq.conf", config);
        let mut command = Command::new("dnsmasq");
        command.args(["--keep-in-foreground", "--log-facility=-"]).arg(format!("--conf-file={}", config.display()));
        self.server = Some(Server::start(&mut command, "started, version"));
    }

    /// Ends it: nobody answers any more.
    pub fn stop(&mut self) {
        self.server = None;
    }
}

/// A real etcd with one member.
pub struct Etcd {
    address: SocketAddr,
    _server: Server,
    _folder: Folder,
}

impl Etcd {
    /// Starts an empty one.
    ///
    /// # Panics
    /// If etcd is missing or does not start.
    pub fn run() -> Self {
        let folder = Folder::new();
        let (address, peers) = (free(), free());
        let (here, there) = (format!("http://{address}"), format!("http://{peers}"));
        let mut command = Command::new("etcd");
        command
            .args(["--listen-client-urls", &here, "--advertise-client-urls", &here])
            .args(["--listen-peer-urls", &there, "--initial-advertise-peer-urls", &there])
            .args(["--initial-cluster", &format!("default={there}"), "--unsafe-no-fsync"])
            .arg("--data-dir")
            .arg(folder.path().join("data"));
        let server = Server::start(&mut command, "ready to serve client requests");
        Self { address, _server: server, _folder: folder }
    }

    /// Where its JSON gateway listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets a key and returns the revision.
    pub fn put(&self, key: &str, value: &str) -> u64 {
        revision(&self.call("/v3/kv/put", &json!({ "key": base64(key), "value": base64(value) })))
    }

    /// Removes a key and returns the revision.
    pub fn delete(&self, key: &str) -> u64 {
        revision(&self.call("/v3/kv/deleterange", &json!({ "key": base64(key) })))
    }

    /// Forgets what was before this revision.
    pub fn compact(&self, revision: u64) {
        self.call("/v3/kv/compaction", &json!({ "revision": revision.to_string() }));
    }

    /// Asks for authentication from now on: user `root` with this password may do everything.
    pub fn authenticate(&self, password: &str) {
        self.call("/v3/auth/user/add", &json!({ "name": "root", "password": password }));
        self.call("/v3/auth/role/add", &json!({ "name": "root" }));
        self.call("/v3/auth/user/grant", &json!({ "user": "root", "role": "root" }));
        self.call("/v3/auth/enable", &json!({}));
    }

    /// The answer to a question.
    ///
    /// # Panics
    /// If it is no success.
    pub fn call(&self, path: &str, body: &Value) -> Value {
        let answer = Client::connect(self.address).post(path, body.to_string());
        assert_eq!(answer.status(), 200, "{path} {body}: {}", answer.text());
        answer.json()
    }
}

fn revision(answer: &Value) -> u64 {
    let revision = answer.pointer("/header/revision").and_then(Value::as_str);
    revision.and_then(|revision| revision.parse().ok()).expect("a revision")
}

/// RFC 4648, section 4.
fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for group in text.as_bytes().chunks(3) {
        let bits = group.iter().chain(&[0, 0]).take(3).fold(0, |bits, byte| bits << 8 | usize::from(*byte));
        for place in 0..4 {
            let digit = DIGITS.get(bits >> (18 - 6 * place) & 63).filter(|_| place <= group.len());
            encoded.push(digit.map_or('=', |digit| char::from(*digit)));
        }
    }
    encoded
}

fn free() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("a free port")
}

fn free_for_both() -> SocketAddr {
    std::iter::repeat_with(free).find(|address| UdpSocket::bind(address).is_ok()).expect("there are many")
}
