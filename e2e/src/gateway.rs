//! The real program as a child process: started on free ports, read through its log, ended with the test.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use serde_json::Value;

use crate::client::Client;
use crate::folder::Folder;
use crate::stream::PATIENCE;
use crate::wire::Message;

/// What comes before a test's YAML unless it says `server:` itself.
const SERVER: &str = "server: { host: 127.0.0.1, port: 0, workers: 1 }\n";
/// The same for `admin:`.
const ADMIN: &str = "admin: { host: 127.0.0.1, port: 0 }\n";

/// The `server` of a test that sets more than the usual: loopback, port 0 and one worker are added.
pub fn server(more: &str) -> String {
    format!("server: {{ host: 127.0.0.1, port: 0, workers: 1, {more} }}\n")
}

/// A service `app` at this address and one route `all` that leads everything there.
pub fn forward(address: SocketAddr) -> String {
    forward_with(address, "", "")
}

/// As [`forward`], with more keys for the service and for the route.
pub fn forward_with(address: SocketAddr, service: &str, route: &str) -> String {
    format!(
        "services:\n  app: {{ url: \"http://{address}\", {service} }}\n\
         routes:\n  - {{ name: all, match: {{ path_prefix: / }}, service: app, {route} }}\n"
    )
}

/// A gateway that is about to be started.
pub struct Plan {
    folder: Folder,
    env: Vec<(String, String)>,
    descriptors: Option<u32>,
}

impl Plan {
    /// With nothing special.
    pub fn new() -> Self {
        Self { folder: Folder::new(), env: Vec::new(), descriptors: None }
    }

    /// The folder of the configuration: certificates and includes may be written there.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Lets the process open only that many files.
    #[must_use]
    pub fn descriptors(mut self, n: u32) -> Self {
        self.descriptors = Some(n);
        self
    }

    /// Starts it and waits until it listens.
    ///
    /// # Panics
    /// If it does not.
    pub fn run(self, yaml: &str) -> Gateway {
        let gateway = self.spawn(yaml);
        gateway.output.wait("the line `ready`", |lines| lines.ended || lines.errors.iter().any(|l| says(l, "ready")));
        assert!(!gateway.output.lock().ended, "the gateway did not start: {}", gateway.output.shown());
        gateway
    }

    /// Starts it and waits for nothing.
    ///
    /// # Panics
    /// If the program cannot be started at all.
    pub fn spawn(self, yaml: &str) -> Gateway {
        let config = self.folder.write("gateway.yaml", complete(yaml));
        let mut command = match self.descriptors {
            None => clean(program()),
            Some(n) => {
                let mut shell = clean("sh".as_ref());
                shell.arg("-c").arg(format!("ulimit -n {n}; exec \"$0\" \"$@\"")).arg(program());
                shell
            }
        };
        command.arg("run").arg(&config).envs(self.env);
        start(command, self.folder, config)
    }
}

fn start(mut command: Command, folder: Folder, config: PathBuf) -> Gateway {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{}: {e}", program().display()));
    let output = Arc::new(Output::default());
    collect(child.stderr.take(), &output, |lines| &mut lines.errors);
    collect(child.stdout.take(), &output, |lines| &mut lines.access);
    Gateway { child, folder, config, output }
}

/// Runs `tidegate demo`.
pub fn demo() -> Gateway {
    let mut command = clean(program());
    command.arg("demo");
    start(command, Folder::new(), PathBuf::new())
}

impl Default for Plan {
    fn default() -> Self {
        Self::new()
    }
}

/// A running gateway.
pub struct Gateway {
    child: Child,
    folder: Folder,
    config: PathBuf,
    output: Arc<Output>,
}

impl Gateway {
    /// Starts one with this configuration. `server` (loopback, port 0, one worker) and `admin` (loopback, port 0) are added when
    /// they are not written.
    pub fn run(yaml: &str) -> Self {
        Plan::new().run(yaml)
    }

    /// The default listener's address.
    pub fn address(&self) -> SocketAddr {
        self.listener("default")
    }

    /// The admin listener's address.
    pub fn admin(&self) -> SocketAddr {
        self.listener("admin")
    }

    /// The address of the listener with that name.
    ///
    /// # Panics
    /// If there is none.
    pub fn listener(&self, name: &str) -> SocketAddr {
        let lines = self.output.lock();
        let found = lines
            .errors
            .iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|line| text(line, "message") == Some("listening") && text(line, "listener") == Some(name));
        let address = found.as_ref().and_then(|line| text(line, "address")).and_then(|a| a.parse().ok());
        address.unwrap_or_else(|| panic!("no listener {name:?} in {:#?}", lines.errors))
    }

    /// Waits until that many lines with a curl command were printed, and gives them.
    ///
    /// # Panics
    /// If they are not.
    pub fn curl_lines(&self, n: usize) -> Vec<String> {
        let find = |lines: &Lines| -> Vec<String> {
            lines.access.iter().chain(&lines.errors).filter(|line| line.contains("curl ")).cloned().collect()
        };
        self.output.wait("lines to try", |lines| find(lines).len() >= n);
        find(&self.output.lock())
    }

    /// A new connection to the default listener.
    pub fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// One GET on a connection of its own.
    pub fn get(&self, target: &str) -> Message {
        self.connect().get(target)
    }

    /// One GET of the admin listener.
    pub fn admin_get(&self, target: &str) -> Message {
        let address = self.admin();
        let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        Client::connect(address).send(request).reply()
    }

    /// The value of a metric that counts: the sum of all series of that name whose labels contain all of `labels` (as `name="value"`).
    pub fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let text = self.admin_get("/metrics").text();
        let series = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|r| r.starts_with(['{', ' '])) && labels.iter().all(|label| line.contains(label))
        });
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Scrapes until a metric's value satisfies `ready`. Bounded by a count of scrapes, each of which waits for its answer.
    ///
    /// # Panics
    /// If it never does.
    pub fn wait_metric(&self, name: &str, labels: &[&str], ready: impl Fn(u64) -> bool) -> u64 {
        for _ in 0..20_000 {
            let value = self.metric(name, labels);
            if ready(value) {
                return value;
            }
        }
        panic!("{name}{labels:?} stays at {}", self.metric(name, labels));
    }

    /// Replaces the configuration file (in one step, as an editor does) and asks for a reload with SIGHUP. Waits for the line that
    /// says what came of it, and gives it.
    ///
    /// # Panics
    /// If there is no such line.
    pub fn reload(&self, yaml: &str) -> String {
        let from = self.output.lock().errors.len();
        self.write_config(yaml);
        self.signal("HUP");
        self.reloaded_after(from)
    }

    /// The first line about a reload after the line with that number.
    ///
    /// # Panics
    /// If there is none.
    pub fn reloaded_after(&self, from: usize) -> String {
        let reload = |lines: &Lines| lines.errors.iter().skip(from).find(|l| message(l).contains("reload")).cloned();
        self.output.wait("a line about the reload", |lines| reload(lines).is_some());
        reload(&self.output.lock()).unwrap_or_default()
    }

    /// How many lines the operational log has so far.
    pub fn log_lines(&self) -> usize {
        self.output.lock().errors.len()
    }

    /// Replaces the configuration file, in one step.
    pub fn write_config(&self, yaml: &str) {
        self.folder.write("gateway.yaml", complete(yaml));
    }

    /// The folder of the configuration.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Sends a signal by its name, such as `TERM`.
    ///
    /// # Panics
    /// If it cannot be sent.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.child.id())).status();
        assert!(sent.is_ok_and(|s| s.success()), "could not send SIG{name}");
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes.
    ///
    /// # Panics
    /// If the process is gone.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a running gateway");
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// Waits for the process to end.
    ///
    /// # Panics
    /// If it does not.
    pub fn exit(&mut self) -> ExitStatus {
        self.output.wait("the end of the process", |lines| lines.ended);
        self.child.wait().expect("an exit status")
    }

    /// Has the process not ended yet?
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for an access log line that satisfies `ready`, and gives it.
    ///
    /// # Panics
    /// If none comes.
    pub fn access_line(&self, what: &str, ready: impl Fn(&Value) -> bool) -> Value {
        let find = |lines: &Lines| lines.access.iter().filter_map(|l| serde_json::from_str(l).ok()).find(|l| ready(l));
        self.output.wait(what, |lines| find(lines).is_some());
        find(&self.output.lock()).unwrap_or_default()
    }

    /// Waits for a line of the operational log that satisfies `ready`, and gives it.
    ///
    /// # Panics
    /// If none comes.
    pub fn log_line(&self, what: &str, ready: impl Fn(&str) -> bool) -> String {
        let find = |lines: &Lines| lines.errors.iter().find(|l| ready(l)).cloned();
        self.output.wait(what, |lines| find(lines).is_some());
        find(&self.output.lock()).unwrap_or_default()
    }

    /// Everything it has written so far.
    pub fn shown(&self) -> String {
        self.output.shown()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "shown beside the failed assertion")]
            {
                eprintln!("---- the gateway said ----\n{}", self.output.shown());
            }
        }
    }
}

/// The finished run of a subcommand such as `check`.
pub struct Finished {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// What it wrote to standard output.
    pub output: String,
    /// What it wrote to standard error.
    pub errors: String,
}

/// Runs `tidegate` with these arguments to its end.
///
/// # Panics
/// If it cannot be started.
pub fn tidegate(arguments: &[&str], env: &[(&str, &str)]) -> Finished {
    let env: HashMap<_, _> = env.iter().copied().collect();
    let run = clean(program()).args(arguments).envs(env).stdin(Stdio::null()).output();
    let run = run.unwrap_or_else(|e| panic!("{}: {e}", program().display()));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Finished { code: run.status.code().unwrap_or(-1), output: text(&run.stdout), errors: text(&run.stderr) }
}

/// The gateway's program: `$GATEWAY_BIN` (not `TIDEGATE_...`, which the gateway would take for its own), or what `cargo build -p tidegate` makes, once for all tests.
///
/// # Panics
/// If it cannot be built.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| std::env::var_os("GATEWAY_BIN").map_or_else(build, PathBuf::from))
}

/// A command without the variables that the gateway reads, whatever the tests were started with.
fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars() {
        if ["TIDEGATE_", "SERVER_", "SERVICES_", "RATE_LIMIT_"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command
}

fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "-p", "tidegate", "--message-format", "json-render-diagnostics"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(built.status.success(), "`cargo build -p tidegate` failed");
    let messages = String::from_utf8_lossy(&built.stdout).into_owned();
    let executable = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line.pointer("/target/name").and_then(Value::as_str) == Some("tidegate"))
        .find_map(|line| line.get("executable").and_then(Value::as_str).map(PathBuf::from));
    executable.expect("cargo names the executable")
}

fn complete(yaml: &str) -> String {
    let has = |key: &str| yaml.lines().any(|line| line.starts_with(key));
    let server = if has("server:") { "" } else { SERVER };
    let admin = if has("admin:") { "" } else { ADMIN };
    format!("{server}{admin}{yaml}")
}

#[derive(Default)]
struct Lines {
    errors: Vec<String>,
    access: Vec<String>,
    /// Both streams have ended.
    ended: bool,
    streams_ended: usize,
}

#[derive(Default)]
struct Output {
    lines: Mutex<Lines>,
    changed: Condvar,
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, what: &str, ready: impl Fn(&Lines) -> bool) {
        let waiting = self.changed.wait_timeout_while(self.lock(), PATIENCE, |lines| !ready(lines));
        let (lines, waited) = waiting.unwrap_or_else(PoisonError::into_inner);
        drop(lines);
        assert!(!waited.timed_out(), "never seen: {what}");
    }

    fn shown(&self) -> String {
        let lines = self.lock();
        let last = |lines: &[String]| lines.get(lines.len().saturating_sub(60)..).unwrap_or_default().join("\n");
        format!("{}\n---- access log ----\n{}", last(&lines.errors), last(&lines.access))
    }
}

fn collect<R: Read + Send + 'static>(
    stream: Option<R>,
    output: &Arc<Output>,
    part: impl Fn(&mut Lines) -> &mut Vec<String> + Send + 'static,
) {
    let Some(stream) = stream else { return };
    let output = Arc::clone(output);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            part(&mut output.lock()).push(line);
            output.changed.notify_all();
        }
        let mut lines = output.lock();
        lines.streams_ended += 1;
        lines.ended = lines.streams_ended == 2;
        drop(lines);
        output.changed.notify_all();
    });
}

fn says(line: &str, what: &str) -> bool {
    message(line) == what
}

fn message(line: &str) -> String {
    let parsed = serde_json::from_str::<Value>(line).unwrap_or_default();
    text(&parsed, "message").unwrap_or_default().to_owned()
}

fn text<'a>(line: &'a Value, key: &str) -> Option<&'a str> {
    line.get(key).or_else(|| line.get("fields").and_then(|fields| fields.get(key))).and_then(Value::as_str)
}
