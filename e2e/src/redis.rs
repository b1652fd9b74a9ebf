//! A real Redis, and a way to it that can be blocked. `scripts/test` installs it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::folder::Folder;
use crate::registries::Server;

/// A real Redis with nothing in it.
pub struct Redis {
    address: SocketAddr,
    arguments: Vec<String>,
    server: Option<Server>,
    folder: Folder,
}

impl Redis {
    /// Starts one.
    ///
    /// # Panics
    /// If it is missing or does not start.
    pub fn run() -> Self {
        Self::with(&[])
    }

    /// Starts one with more arguments, for instance `["--requirepass", "secret"]`.
    ///
    /// # Panics
    /// If it is missing or does not start.
    pub fn with(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let mut redis = Self { address: own_address(), arguments, server: None, folder: Folder::new() };
        redis.start();
        redis
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Starts it anew at the same address, empty.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(&mut self) {
        let mut command = Command::new("redis-server");
        command
            .args([
                "--bind",
                &self.address.ip().to_string(),
                "--save",
                "",
                "--appendonly",
                "no",
                "--logfile",
                "/dev/stderr",
            ])
            .args(["--port", &self.address.port().to_string()])
            .arg("--dir")
            .arg(self.folder.path())
            .args(&self.arguments);
        self.server = Some(Server::start(&mut command, "Ready to accept connections"));
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        self.server = None;
    }

    /// Stops it where it is: its port is open, and nobody answers.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    /// What `redis-cli` prints for a command.
    ///
    /// # Panics
    /// If it cannot be asked.
    pub fn cli(&self, command: &[&str]) -> String {
        let (host, port) = (self.address.ip().to_string(), self.address.port().to_string());
        let asked = Command::new("redis-cli").args(["-h", &host, "-p", &port]).args(command).output();
        let answer = asked.expect("redis-cli: run ./scripts/test once, it installs it");
        String::from_utf8_lossy(&answer.stdout).trim().to_owned()
    }

    fn signal(&self, signal: &str) {
        let id = self.server.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill {signal} {id}");
    }
}

/// A way to a server on which answers can be held up.
pub struct Valve {
    address: SocketAddr,
    held: Arc<(Mutex<bool>, Condvar)>,
}

impl Valve {
    /// An open one in front of `server`.
    ///
    /// # Panics
    /// If it cannot listen.
    pub fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("its port");
        let held = Arc::default();
        let valve = Self { address, held: Arc::clone(&held) };
        std::thread::spawn(move || {
            listener.incoming().map_while(Result::ok).for_each(|client| join(&client, server, &held));
        });
        valve
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Holds all answers up.
    pub fn hold(&self) {
        *self.held.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Lets them go on.
    pub fn release(&self) {
        *self.held.0.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.held.1.notify_all();
    }
}

/// An address that nobody else has, also while the server is down: no connection of this machine begins at it.
pub(crate) fn own_address() -> SocketAddr {
    static COUNT: AtomicU16 = AtomicU16::new(0);
    let [_, a, b, c] = std::process::id().to_be_bytes();
    (Ipv4Addr::new(127, 1 | a, b, c), 20_000 + COUNT.fetch_add(1, Ordering::Relaxed)).into()
}

fn join(client: &TcpStream, server: SocketAddr, held: &Arc<(Mutex<bool>, Condvar)>) {
    let Ok(server) = TcpStream::connect(server) else { return };
    let (up, down, held) = (both(client), both(&server), Arc::clone(held));
    std::thread::spawn(move || pour(up.0, down.0, &(Mutex::default(), Condvar::new())));
    std::thread::spawn(move || pour(down.1, up.1, &held));
}

fn both(socket: &TcpStream) -> (TcpStream, TcpStream) {
    (socket.try_clone().expect("a socket"), socket.try_clone().expect("a socket"))
}

fn pour(mut from: TcpStream, mut to: TcpStream, held: &(Mutex<bool>, Condvar)) {
    let mut some = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut some) {
        let open = held.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(held.1.wait_while(open, |held| *held));
        if to.write_all(some.get(..count).unwrap_or_default()).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Both));
}
