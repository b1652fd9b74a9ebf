//! One worker's exact decisions in a Redis of its own, many at once, on one connection. Prints how many are made in a second, how often the
//! server is called for each, and how many calls it reads at once. One that fails ends the run.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustls::RootCertStore;
use tidegate_core::limiter::{Algorithm, Limit, Rate};
use tidegate_policies::shared::redis::{Mode, RedisStore, Settings, Target};
use tokio::task::LocalSet;

use super::world::Thread;

/// Requests that wait for a decision at once.
const AT_ONCE: u64 = 256;
const KEYS: u64 = 10_000;
/// Not what is measured: a run in which one decision fails says nothing.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Decides for so long.
pub(crate) fn measure(length: Duration) -> Result<()> {
    let server = Server::start()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, decide(&server, length))
}

async fn decide(server: &Server, length: Duration) -> Result<()> {
    let target =
        Target::of(&format!("redis://{}", server.address), RootCertStore::empty).map_err(anyhow::Error::msg)?;
    let settings = Settings { target, mode: Mode::Exact, timeout: TIMEOUT, prefix: "tidegate:".to_owned() };
    let store = Rc::new(RedisStore::new(settings));
    decisions(&store, length / 10).await?;
    let before = server.counts()?;
    let began = Instant::now();
    let made = decisions(&store, length).await?;
    let took = began.elapsed();
    print(made, took, &server.counts()?.since(before));
    Ok(())
}

#[expect(clippy::print_stdout, clippy::cast_precision_loss, reason = "prints what it has measured")]
fn print(made: u64, took: Duration, counts: &Counts) {
    println!(
        "{{\"decisions\": {:.0}, \"round_trips\": {:.6}, \"at_once\": {:.1}}}",
        made as f64 / took.as_secs_f64(),
        counts.calls as f64 / made as f64,
        counts.calls as f64 / counts.reads as f64,
    );
}

/// How many decisions are made in this time, each followed by the next.
async fn decisions(store: &Rc<RedisStore>, length: Duration) -> Result<u64> {
    let end = Instant::now() + length;
    let clients: Vec<_> =
        (0..AT_ONCE).map(|client| tokio::task::spawn_local(client_until(Rc::clone(store), client, end))).collect();
    let mut made = 0;
    for client in clients {
        made += client.await??;
    }
    Ok(made)
}

async fn client_until(store: Rc<RedisStore>, client: u64, end: Instant) -> Result<u64> {
    let rate = Rate::new(10, Duration::from_secs(1)).context("it is a rate")?;
    let limit = Limit::new(Algorithm::TokenBucket { burst: 20 }, rate).ok().context("it is a limit")?;
    let mut random = fastrand::Rng::with_seed(client);
    let mut made = 0;
    while Instant::now() < end {
        let key = format!("per_client/{}", random.u64(..KEYS));
        store.decide(&Thread, key.as_bytes(), &limit, 1).await?;
        made += 1;
    }
    Ok(made)
}

/// A Redis on a port of its own, and on another CPU if there is one.
struct Server {
    address: SocketAddr,
    child: Child,
}

/// What the server has counted.
#[derive(Clone, Copy)]
struct Counts {
    /// Of scripts.
    calls: u64,
    reads: u64,
}

impl Server {
    fn start() -> Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
        let (mine, other) = (cpus.next().context("there is a CPU")?, cpus.next());
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", &other.unwrap_or(mine).to_string(), "redis-server", "--bind", "127.0.0.1"]);
        command.args(["--port", &address.port().to_string(), "--save", "", "--appendonly", "no"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("starting redis-server")?;
        let mut set = CpuSet::new();
        set.set(mine);
        sched_setaffinity(None, &set)?;
        let server = Self { address, child };
        for _ in 0..500 {
            if server.counts().is_ok() {
                return Ok(server);
            }
            thread::sleep(Duration::from_millis(10));
        }
        bail!("redis-server does not answer on {address}")
    }

    fn counts(&self) -> Result<Counts> {
        let info = self.info()?;
        let number = |start: &str| {
            let rest = info.lines().find_map(|line| line.strip_prefix(start))?;
            rest.split(',').next()?.trim().parse::<u64>().ok()
        };
        let calls = ["cmdstat_evalsha:calls=", "cmdstat_eval:calls="].iter().filter_map(|start| number(start)).sum();
        Ok(Counts { calls, reads: number("total_reads_processed:").context("it counts reads")? })
    }

    fn info(&self) -> Result<String> {
        let mut socket = TcpStream::connect(self.address)?;
        socket.write_all(b"INFO all\r\nQUIT\r\n")?;
        let mut text = String::new();
        socket.read_to_string(&mut text)?;
        ensure!(text.starts_with('$'), "{text}");
        Ok(text)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Waited for, so that its processor time is known to whoever measures this program.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Counts {
    fn since(self, before: Self) -> Self {
        Self { calls: self.calls - before.calls, reads: self.reads - before.reads }
    }
}
