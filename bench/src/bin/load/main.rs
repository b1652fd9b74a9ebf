//! Load that no packaged tool makes.
//!
//! `load rate ADDRESS CONNECTIONS PER_SECOND SECONDS`: open loop; a latency counts from when its request was due, so a
//! stall is felt by every request that should have been sent during it. Prints one line of JSON, latencies in microseconds.
//!
//! `load soak ADDRESS PER_SECOND SECONDS SKIP`: the same without a bound on connections, for gateways in trouble; what is due
//! in the first SKIP seconds does not count. Prints one line of JSON with the failures by kind and a row for each second.
//!
//! `load slow ADDRESS TLS_ADDRESS CONNECTIONS`: peers that are slow in every way, until its input ends; says when they are there.
//!
//! `load idle ADDRESS CONNECTIONS`: opens them, makes one request on each, says so, and holds them until its input ends.
#![expect(clippy::print_stdout, reason = "what it measures is printed")]
#![expect(clippy::disallowed_methods, reason = "measures on the real clock")]

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bench::message_length;
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, EventData, EventFlags},
    },
    fd::OwnedFd,
};

use self::{slow::Gateway, soak::Soak};

mod slow;
mod soak;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: api.example.test\r\nUser-Agent: load/1\r\nAccept: */*\r\n\
    Authorization: Bearer 0123456789abcdef0123456789abcdef\r\n\r\n";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["rate", address, connections, rate, seconds] => {
            let plan = Plan { rate: rate.parse()?, duration: Duration::from_secs_f64(seconds.parse()?) };
            println!("{}", plan.run(address.parse()?, connections.parse()?)?);
            Ok(())
        }
        ["soak", address, rate, length, skip] => {
            let seconds = |text: &str| anyhow::Ok(Duration::from_secs_f64(text.parse()?));
            let soak = Soak { rate: rate.parse()?, duration: seconds(length)?, skip: seconds(skip)? };
            println!("{}", soak.run(address.parse()?)?);
            Ok(())
        }
        ["slow", plain, tls, connections] => {
            slow::hold(Gateway { plain: plain.parse()?, tls: tls.parse()? }, connections.parse()?)
        }
        ["idle", address, connections] => idle(address.parse()?, connections.parse()?),
        _ => bail!(
            "usage: load rate ADDRESS CONNECTIONS PER_SECOND SECONDS | load soak ADDRESS PER_SECOND SECONDS SKIP | \
             load idle ADDRESS CONNECTIONS | load slow ADDRESS TLS_ADDRESS CONNECTIONS"
        ),
    }
}

/// Requests at a steady pace, whatever becomes of them.
struct Plan {
    rate: f64,
    duration: Duration,
}

impl Plan {
    fn run(&self, address: SocketAddr, connections: usize) -> Result<String> {
        let mut run = Run::open(address, connections)?;
        let total = (self.rate * self.duration.as_secs_f64()).round();
        let began = Instant::now();
        let give_up = self.duration + Duration::from_secs(3);
        while run.finished() < total && began.elapsed() < give_up {
            while run.sent < total && self.due(run.sent) <= began.elapsed() && run.send(self.due(run.sent)) {}
            let pause = if run.sent >= total || run.free.is_empty() {
                Duration::from_millis(20)
            } else {
                self.due(run.sent).saturating_sub(began.elapsed())
            };
            run.receive(pause, began)?;
        }
        Ok(run.summary(began.elapsed()))
    }

    /// When the request of that number is to be sent, counted from the start.
    fn due(&self, number: f64) -> Duration {
        Duration::from_secs_f64(number / self.rate)
    }
}

struct Run {
    epoll: OwnedFd,
    connections: Vec<Connection>,
    free: Vec<usize>,
    events: Vec<epoll::Event>,
    buffer: Vec<u8>,
    /// Whole numbers; floating point because they meet rates.
    sent: f64,
    failed: f64,
    latencies: Vec<Duration>,
}

struct Connection {
    socket: TcpStream,
    reply: Vec<u8>,
    due: Duration,
}

impl Run {
    fn open(address: SocketAddr, connections: usize) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut opened = Vec::new();
        for number in 0..connections {
            // Few are in use at once; the others must not look as if they never wanted anything.
            let socket = answered(address)?;
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
            epoll::add(&epoll, &socket, EventData::new_u64(number as u64), EventFlags::IN | EventFlags::ET)?;
            opened.push(Connection { socket, reply: Vec::new(), due: Duration::ZERO });
        }
        Ok(Self {
            epoll,
            connections: opened,
            free: (0..connections).collect(),
            events: Vec::with_capacity(256),
            buffer: vec![0; 256 * 1024],
            sent: 0.0,
            failed: 0.0,
            latencies: Vec::new(),
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "far fewer requests than 2^52")]
    fn finished(&self) -> f64 {
        self.latencies.len() as f64 + self.failed
    }

    /// False when every connection is waiting for a reply: the request stays due, and its latency grows.
    fn send(&mut self, due: Duration) -> bool {
        let Some(connection) = self.free.pop().and_then(|number| self.connections.get_mut(number)) else {
            return false;
        };
        connection.due = due;
        if !matches!(connection.socket.write(REQUEST), Ok(written) if written == REQUEST.len()) {
            self.failed += 1.0;
        }
        self.sent += 1.0;
        true
    }

    fn receive(&mut self, pause: Duration, began: Instant) -> Result<()> {
        let pause = Timespec { tv_sec: 0, tv_nsec: i64::from(pause.subsec_nanos()) };
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&pause)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<u64> = self.events.drain(..).map(|event| event.data.u64()).collect();
        for number in ready {
            self.read(usize::try_from(number)?, began);
        }
        Ok(())
    }

    fn read(&mut self, number: usize, began: Instant) {
        let Some(connection) = self.connections.get_mut(number) else { return };
        if drain(&mut connection.socket, &mut connection.reply, &mut self.buffer).is_err() {
            // Not given back to `free`, so not used again.
            self.failed += 1.0;
            return;
        }
        if message_length(&connection.reply).is_none() {
            return;
        }
        if connection.reply.starts_with(b"HTTP/1.1 200") {
            self.latencies.push(began.elapsed().saturating_sub(connection.due));
        } else {
            self.failed += 1.0;
        }
        connection.reply.clear();
        self.free.push(number);
    }

    fn summary(mut self, elapsed: Duration) -> String {
        self.latencies.sort_unstable();
        let percentile = |share: usize| {
            let at = (self.latencies.len().saturating_sub(1)) * share / 1000;
            self.latencies.get(at).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e6)
        };
        format!(
            r#"{{"requests":{},"failed":{},"per_second":{:.0},"p50":{:.1},"p99":{:.1},"p999":{:.1}}}"#,
            self.latencies.len(),
            self.failed,
            self.finished() / elapsed.as_secs_f64(),
            percentile(500),
            percentile(990),
            percentile(999),
        )
    }
}

/// Takes what has arrived; an error when the peer has closed.
fn drain(socket: &mut TcpStream, reply: &mut Vec<u8>, buffer: &mut [u8]) -> std::io::Result<()> {
    loop {
        let read = match socket.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        reply.extend_from_slice(buffer.get(..read).unwrap_or_default());
        // Less than asked for: there is no more, and epoll will say when there is.
        if read < buffer.len() {
            return Ok(());
        }
    }
}

fn idle(address: SocketAddr, connections: usize) -> Result<()> {
    let mut held = Vec::with_capacity(connections);
    for _ in 0..connections {
        held.push(answered(address)?);
    }
    println!("holding {}", held.len());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    let mut closed = 0;
    for socket in &mut held {
        socket.set_nonblocking(true)?;
        let open = matches!(socket.read(&mut [0; 64]), Err(error) if error.kind() == ErrorKind::WouldBlock);
        closed += usize::from(!open);
    }
    println!("closed {closed}");
    Ok(())
}

/// A connection on which one request has been answered.
fn answered(address: SocketAddr) -> Result<TcpStream> {
    let mut socket = TcpStream::connect(address).context("connecting")?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.write_all(REQUEST)?;
    let (mut reply, mut buffer) = (Vec::new(), [0; 8192]);
    while message_length(&reply).is_none() {
        let read = socket.read(&mut buffer)?;
        ensure!(read > 0, "closed before the reply was complete");
        reply.extend_from_slice(buffer.get(..read).unwrap_or_default());
    }
    Ok(socket)
}
