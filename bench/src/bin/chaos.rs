//! `chaos --port N --mode MODE [--latency-ms 5] [--seed 1]`: one endpoint of a service, well or sick in one way, for
//! `cargo xtask soak`. SIGTERM ends it in good order: it takes no more connections, closes those that are idle, answers
//! what it has begun, and prints how many requests it saw, which `GET /__count` tells at any time.
#![expect(clippy::print_stdout, reason = "the count is printed")]
#![expect(clippy::disallowed_methods, reason = "answers late on the real clock")]

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    net::Ipv4Addr,
    rc::Rc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bench::message_length;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::{JoinSet, LocalSet},
};

fn main() -> Result<()> {
    let (port, endpoint) = read(std::env::args().skip(1))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, Rc::new(endpoint).serve(port))
}

fn read(mut arguments: impl Iterator<Item = String>) -> Result<(u16, Endpoint)> {
    let mut given = HashMap::new();
    while let Some(name) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{name} needs a value"))?;
        given.insert(name, value);
    }
    let value = |name: &str, default: &str| given.get(name).map_or(default, String::as_str).to_owned();
    let endpoint = Endpoint {
        mode: Mode::named(&value("--mode", "well"))?,
        latency: Duration::from_millis(value("--latency-ms", "5").parse()?),
        dice: RefCell::new(fastrand::Rng::with_seed(value("--seed", "1").parse()?)),
        count: Cell::new(0),
    };
    Ok((value("--port", "").parse().context("--port is needed")?, endpoint))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Answers after 60 to 160 % of the latency.
    Well,
    /// Takes connections and requests, and says nothing.
    Hang,
    /// Resets the connection instead of the answer for 30 % of the requests.
    Reset,
    /// 500 for half of the requests.
    Errors,
    /// Ten times slower.
    Slow,
    /// 503 for every request, at once.
    Unavailable,
}

impl Mode {
    fn named(name: &str) -> Result<Self> {
        Ok(match name {
            "well" => Self::Well,
            "hang" => Self::Hang,
            "reset" => Self::Reset,
            "errors" => Self::Errors,
            "slow" => Self::Slow,
            "unavailable" => Self::Unavailable,
            _ => bail!("{name} is no mode: well, hang, reset, errors, slow or unavailable"),
        })
    }
}

/// What becomes of a request.
enum Fate {
    Answer(&'static str),
    Reset,
    Silence,
}

struct Endpoint {
    mode: Mode,
    latency: Duration,
    dice: RefCell<fastrand::Rng>,
    count: Cell<u64>,
}

impl Endpoint {
    async fn serve(self: Rc<Self>, port: u16) -> Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.context("binding")?;
        let mut terminate = signal(SignalKind::terminate())?;
        let (end, ending) = watch::channel(false);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                Ok((socket, _)) = listener.accept() => {
                    connections.spawn_local(Rc::clone(&self).converse(socket, ending.clone()));
                }
                _ = terminate.recv() => break,
                Some(_) = connections.join_next() => {}
            }
        }
        drop(listener);
        end.send_replace(true);
        while connections.join_next().await.is_some() {}
        println!("{}", self.count.get());
        Ok(())
    }

    /// An error is a client that has gone.
    async fn converse(self: Rc<Self>, mut socket: TcpStream, mut ending: watch::Receiver<bool>) -> io::Result<()> {
        socket.set_nodelay(true)?;
        let mut bytes = Vec::new();
        while let Some(length) = request(&mut socket, &mut bytes, &mut ending).await? {
            let asks_for_the_count = bytes.starts_with(b"GET /__count ");
            bytes.drain(..length);
            if asks_for_the_count {
                answer(&mut socket, "200 OK", &self.count.get().to_string(), true).await?;
                return Ok(());
            }
            self.count.set(self.count.get() + 1);
            let fate = self.fate().await;
            let last = *ending.borrow();
            match fate {
                Fate::Answer(status) => answer(&mut socket, status, BODY, last).await?,
                Fate::Reset => return socket.set_zero_linger(),
                Fate::Silence => return silence(&mut socket, &mut ending).await,
            }
            if last {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Returns when it is time for it.
    async fn fate(&self) -> Fate {
        let (share, luck) = {
            let mut dice = self.dice.borrow_mut();
            (0.6 + dice.f64(), dice.f64())
        };
        let usual = self.latency.mul_f64(share);
        let (wait, fate) = match self.mode {
            Mode::Reset if luck < 0.3 => (usual, Fate::Reset),
            Mode::Errors if luck < 0.5 => (usual, Fate::Answer("500 Internal Server Error")),
            Mode::Well | Mode::Reset | Mode::Errors => (usual, Fate::Answer("200 OK")),
            Mode::Slow => (usual * 10, Fate::Answer("200 OK")),
            Mode::Unavailable => (Duration::ZERO, Fate::Answer("503 Service Unavailable")),
            Mode::Hang => (Duration::ZERO, Fate::Silence),
        };
        tokio::time::sleep(wait).await;
        fate
    }
}

/// Until the client or the endpoint itself has had enough.
async fn silence(socket: &mut TcpStream, ending: &mut watch::Receiver<bool>) -> io::Result<()> {
    let mut buffer = [0; 1024];
    tokio::select! {
        read = socket.read(&mut buffer) => read.map(drop),
        _ = ending.wait_for(|ending| *ending) => Ok(()),
    }
}

/// A kilobyte.
const BODY: &str = match std::str::from_utf8(&[b'x'; 1024]) {
    Ok(body) => body,
    Err(_) => "",
};

async fn answer(socket: &mut TcpStream, status: &str, body: &str, last: bool) -> io::Result<()> {
    let connection = if last { "Connection: close\r\n" } else { "" };
    let length = body.len();
    let reply =
        format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n{connection}\r\n{body}");
    socket.write_all(reply.as_bytes()).await
}

/// Reads until a whole request stands first in `bytes`, and tells its length. `None` when there will be none: the client
/// has closed, or the endpoint ends and nothing of a request has come.
async fn request(
    socket: &mut TcpStream,
    bytes: &mut Vec<u8>,
    ending: &mut watch::Receiver<bool>,
) -> io::Result<Option<usize>> {
    loop {
        if let Some(length) = message_length(bytes) {
            return Ok(Some(length));
        }
        let begun = !bytes.is_empty();
        tokio::select! {
            biased;
            read = socket.read_buf(bytes) => if read? == 0 {
                return Ok(None);
            },
            _ = ending.wait_for(|ending| *ending), if !begun => return Ok(None),
        }
    }
}
