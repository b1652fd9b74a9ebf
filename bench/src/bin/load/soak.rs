//! An open loop that no failure slows down: a request is sent when it is due, over a new connection if none is free, and
//! what went wrong is told by kind. Clients come from fifty addresses, as limits for each client expect.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::Result;
use bench::{head_end, message_length};
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, EventData, EventFlags},
    },
    fd::OwnedFd,
    net::{AddressFamily, SocketFlags, SocketType},
};

use crate::{REQUEST, drain};

/// How long a client waits for its answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// A connection that rested longer is not used again: the other side may be closing it at this moment.
const RESTED: Duration = Duration::from_secs(20);

/// What is sent, and which part of it counts.
pub(crate) struct Soak {
    pub(crate) rate: f64,
    pub(crate) duration: Duration,
    /// Requests that are due before are told apart.
    pub(crate) skip: Duration,
}

impl Soak {
    /// One line of JSON; times in microseconds.
    pub(crate) fn run(&self, address: SocketAddr) -> Result<String> {
        let mut clients = Clients::new(address)?;
        let mut sent: u32 = 0;
        loop {
            let mut due = self.due(sent);
            while due < self.duration && due <= clients.now() {
                clients.send(due);
                sent += 1;
                due = self.due(sent);
            }
            if due >= self.duration && clients.are_all_answered() {
                break;
            }
            let next = if due < self.duration { due } else { Duration::MAX };
            clients.receive(next.saturating_sub(clients.now()).min(Duration::from_millis(50)))?;
            clients.give_up_on_the_silent();
        }
        Ok(self.summary(&clients.results))
    }

    /// When the request of that number is to be sent, counted from the start.
    fn due(&self, number: u32) -> Duration {
        Duration::from_secs_f64(f64::from(number) / self.rate)
    }

    fn summary(&self, results: &[(Duration, Outcome)]) -> String {
        let counted = || results.iter().filter(|(due, _)| *due >= self.skip).map(|(_, outcome)| outcome);
        let mut errors: BTreeMap<&str, usize> = BTreeMap::new();
        for outcome in counted() {
            if let Outcome::Failed(kind) = outcome {
                *errors.entry(kind).or_default() += 1;
            }
        }
        let errors: Vec<String> = errors.iter().map(|(kind, count)| format!(r#""{kind}":{count}"#)).collect();
        let [p50, p99, p999] = percentiles(counted(), [500, 990, 999]);
        let second = |number: u64| {
            let within = || results.iter().filter(|(due, _)| due.as_secs() == number).map(|(_, outcome)| outcome);
            let failed = within().filter(|outcome| matches!(outcome, Outcome::Failed(_))).count();
            let [p99] = percentiles(within(), [990]);
            format!(r#"{{"failed":{failed},"p99":{p99:.0}}}"#)
        };
        let seconds: Vec<String> = (0..self.duration.as_secs()).map(second).collect();
        format!(
            r#"{{"sent":{},"counted":{},"p50":{p50:.0},"p99":{p99:.0},"p999":{p999:.0},"errors":{{{}}},"seconds":[{}]}}"#,
            results.len(),
            counted().count(),
            errors.join(","),
            seconds.join(","),
        )
    }
}

/// Of the latencies of what succeeded; the shares are in thousandths.
fn percentiles<'a, const N: usize>(outcomes: impl Iterator<Item = &'a Outcome>, shares: [usize; N]) -> [f64; N] {
    let latency = |outcome: &Outcome| match outcome {
        Outcome::Answered(latency) => Some(*latency),
        Outcome::Failed(_) => None,
    };
    let mut latencies: Vec<Duration> = outcomes.filter_map(latency).collect();
    latencies.sort_unstable();
    shares.map(|share| {
        let at = latencies.len().saturating_sub(1) * share / 1000;
        latencies.get(at).map_or(0.0, |latency| latency.as_secs_f64() * 1e6)
    })
}

enum Outcome {
    Answered(Duration),
    /// A status that is no success, or what became of the connection.
    Failed(String),
}

struct Client {
    socket: TcpStream,
    reply: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Idle { since: Duration },
    Waiting { due: Duration },
}

struct Clients {
    address: SocketAddr,
    began: Instant,
    epoll: OwnedFd,
    /// By the number that epoll knows each by; gone ones leave a hole.
    slots: Vec<Option<Client>>,
    holes: Vec<usize>,
    /// Those that were idle when they were put here, the latest last.
    idle: Vec<usize>,
    opened: usize,
    looked_for_silence: Duration,
    events: Vec<epoll::Event>,
    buffer: Vec<u8>,
    results: Vec<(Duration, Outcome)>,
}

impl Clients {
    fn new(address: SocketAddr) -> Result<Self> {
        Ok(Self {
            address,
            began: Instant::now(),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            slots: Vec::new(),
            holes: Vec::new(),
            idle: Vec::new(),
            opened: 0,
            looked_for_silence: Duration::ZERO,
            events: Vec::with_capacity(256),
            buffer: vec![0; 64 * 1024],
            results: Vec::new(),
        })
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn are_all_answered(&self) -> bool {
        !self.slots.iter().flatten().any(|client| matches!(client.state, State::Waiting { .. }))
    }

    fn send(&mut self, due: Duration) {
        let number = match self.rested().map_or_else(|| self.open(), Ok) {
            Ok(number) => number,
            Err(error) => return self.results.push((due, Outcome::Failed(format!("connect: {}", error.kind())))),
        };
        let Some(client) = self.slots.get_mut(number).and_then(Option::as_mut) else { return };
        client.state = State::Waiting { due };
        if !matches!(client.socket.write(REQUEST), Ok(written) if written == REQUEST.len()) {
            self.fail(number, "not taken".to_owned());
        }
    }

    /// An idle connection that may be used.
    fn rested(&mut self) -> Option<usize> {
        let now = self.now();
        while let Some(number) = self.idle.pop() {
            match self.slots.get(number).and_then(Option::as_ref).map(|client| client.state) {
                Some(State::Idle { since }) if now.saturating_sub(since) < RESTED => return Some(number),
                Some(State::Idle { .. }) => self.close(number),
                Some(State::Waiting { .. }) | None => {}
            }
        }
        None
    }

    fn open(&mut self) -> std::io::Result<usize> {
        let source = u8::try_from(self.opened % 50).unwrap_or_default() + 2;
        self.opened += 1;
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        rustix::net::bind(&socket, &SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, source)), 0))?;
        rustix::net::connect(&socket, &self.address)?;
        let socket = TcpStream::from(socket);
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let number = self.holes.pop().unwrap_or(self.slots.len());
        epoll::add(&self.epoll, &socket, EventData::new_u64(number as u64), EventFlags::IN)?;
        let client = Some(Client { socket, reply: Vec::new(), state: State::Idle { since: self.now() } });
        match self.slots.get_mut(number) {
            Some(hole) => *hole = client,
            None => self.slots.push(client),
        }
        Ok(number)
    }

    fn close(&mut self, number: usize) {
        if self.slots.get_mut(number).and_then(Option::take).is_some() {
            self.holes.push(number);
        }
    }

    /// Closes the connection, and what it waited for has failed.
    fn fail(&mut self, number: usize, kind: String) {
        let state = self.slots.get(number).and_then(Option::as_ref).map(|client| client.state);
        if let Some(State::Waiting { due }) = state {
            self.results.push((due, Outcome::Failed(kind)));
        }
        self.close(number);
    }

    fn receive(&mut self, pause: Duration) -> Result<()> {
        let pause = Timespec { tv_sec: 0, tv_nsec: i64::from(pause.subsec_nanos()) };
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&pause)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<u64> = self.events.drain(..).map(|event| event.data.u64()).collect();
        for number in ready {
            self.read(usize::try_from(number)?);
        }
        Ok(())
    }

    fn read(&mut self, number: usize) {
        let now = self.now();
        let Some(client) = self.slots.get_mut(number).and_then(Option::as_mut) else { return };
        let ended = drain(&mut client.socket, &mut client.reply, &mut self.buffer).err();
        if let (Some(length), State::Waiting { due }) = (message_length(&client.reply), client.state) {
            let outcome = match status(&client.reply) {
                200 => Outcome::Answered(now.saturating_sub(due)),
                status => Outcome::Failed(status.to_string()),
            };
            self.results.push((due, outcome));
            let last = is_last(&client.reply);
            client.reply.drain(..length);
            client.state = State::Idle { since: now };
            if last || ended.is_some() {
                return self.close(number);
            }
            return self.idle.push(number);
        }
        if let Some(error) = ended {
            let cut = if client.reply.is_empty() { "" } else { "cut off: " };
            self.fail(number, format!("{cut}{}", describe(error.kind())));
        }
    }

    fn give_up_on_the_silent(&mut self) {
        let now = self.now();
        if now.saturating_sub(self.looked_for_silence) < Duration::from_millis(100) {
            return;
        }
        self.looked_for_silence = now;
        for number in 0..self.slots.len() {
            let state = self.slots.get(number).and_then(Option::as_ref).map(|client| client.state);
            if matches!(state, Some(State::Waiting { due }) if now.saturating_sub(due) > PATIENCE) {
                self.fail(number, "no answer".to_owned());
            }
        }
    }
}

fn describe(kind: ErrorKind) -> String {
    if kind == ErrorKind::UnexpectedEof { "closed".to_owned() } else { kind.to_string() }
}

/// 0 if there is none.
fn status(reply: &[u8]) -> u16 {
    let digits = reply.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Whether the other side will close after this reply.
fn is_last(reply: &[u8]) -> bool {
    let head = reply.get(..head_end(reply).unwrap_or_default()).unwrap_or_default();
    head.to_ascii_lowercase().windows(17).any(|window| window == b"connection: close")
}
