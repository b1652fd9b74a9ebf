//! Real programs that tests put behind or in front of the gateway. `scripts/test` installs them; a missing one fails the test
//! and says so, because a test that skips itself proves nothing.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use crate::folder::Folder;

/// A Python with `grpc` and `websockets`.
///
/// # Panics
/// If there is none.
pub fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python/bin/python");
        let fits = |python: &PathBuf| {
            let import = Command::new(python).args(["-c", "import grpc, websockets"]).stderr(Stdio::null()).status();
            import.is_ok_and(|status| status.success())
        };
        let found = [own, "python3".into()].into_iter().find(fits);
        found.expect("a python3 with grpcio and websockets: run ./scripts/test once, it installs them")
    })
}

/// A program that runs beside a test and ends with it.
pub struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
    _folder: Folder,
}

impl Process {
    /// Runs a Python program with these arguments.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn python(program: &str, arguments: &[&str]) -> Self {
        let folder = Folder::new();
        let file = folder.write("program.py", program);
        let mut child = Command::new(python())
            .arg("-u")
            .arg(file)
            .args(arguments)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python runs");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        Self { child, output, _folder: folder }
    }

    /// Waits for a line `port N` of a server and gives its address.
    ///
    /// # Panics
    /// If the program ends before.
    pub fn address(&mut self) -> SocketAddr {
        let mut line = String::new();
        while self.output.read_line(&mut line).is_ok_and(|n| n > 0) {
            if let Some(port) = line.trim().strip_prefix("port ").and_then(|p| p.parse::<u16>().ok()) {
                return ([127, 0, 0, 1], port).into();
            }
            line.clear();
        }
        panic!("the server ended before it listened: {line:?}");
    }

    /// Runs to the end and gives what it printed.
    ///
    /// # Panics
    /// If it fails.
    pub fn finish(mut self) -> String {
        let mut text = String::new();
        self.output.read_to_string(&mut text).expect("its output");
        let status = self.child.wait().expect("its end");
        assert!(status.success(), "it failed: {text}");
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A real nginx with one server.
pub struct Nginx {
    folder: Folder,
    address: SocketAddr,
}

impl Nginx {
    /// Starts one whose `server` block has these directives besides `listen`.
    ///
    /// # Panics
    /// If nginx is missing or refuses its configuration.
    pub fn run(server: &str) -> Self {
        let folder = Folder::new();
        let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|l| l.local_addr()).expect("a free port");
        let config = format!(
            "worker_processes 1;\npid nginx.pid;\nerror_log stderr;\nevents {{ worker_connections 256; }}\n\
             http {{ access_log off; client_max_body_size 0; client_body_temp_path body; proxy_temp_path proxy;\n\
             fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
             server {{ listen {free}; {server} }} }}\n"
        );
        folder.write("nginx.conf", config);
        // It returns when its sockets are bound and its worker runs in the background.
        let started = nginx(&folder, &[]);
        assert!(started, "nginx did not start: run ./scripts/test once, it installs it");
        Self { folder, address: free }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The folder that relative paths of its configuration start from.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Kills its worker and its master, as `kill -9` does.
    pub fn kill(&self) {
        let pid = std::fs::read_to_string(self.folder.path().join("nginx.pid")).unwrap_or_default();
        // The master first: it would make a new worker in the moment between.
        let kill = format!("children=$(cat /proc/{0}/task/{0}/children); kill -KILL {0} $children", pid.trim());
        // A master that is gone already needs no second death.
        drop(Command::new("sh").arg("-c").arg(kill).stderr(Stdio::null()).status());
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        nginx(&self.folder, &["-s", "stop"]);
    }
}

fn nginx(folder: &Folder, arguments: &[&str]) -> bool {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let run = Command::new("nginx")
        .env("PATH", path)
        .arg("-p")
        .arg(folder.path())
        .args(["-c", "nginx.conf"])
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    run.is_ok_and(|status| status.success())
}

/// Runs curl with these arguments and gives its standard output.
///
/// # Panics
/// If curl is missing or fails.
pub fn curl(arguments: &[&str]) -> String {
    let run = Command::new("curl").args(["--silent", "--show-error", "--max-time", "30"]).args(arguments).output();
    let run = run.expect("curl: run ./scripts/test once, it installs it");
    let errors = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "curl {arguments:?}: {errors}");
    String::from_utf8_lossy(&run.stdout).into_owned()
}
