//! `backend ADDRESS`: the cheapest service we could make, so that a bench measures the proxy: one thread, one epoll set,
//! canned answers. `GET /100k` gives 100 KiB, everything else 1 KiB after the request's body.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
};

use anyhow::{Context, Result};
use bench::{Body, body_of, head_end};
use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, EventData, EventFlags},
    fd::OwnedFd,
};

const LISTENER: u64 = u64::MAX;
const READING: EventFlags = EventFlags::IN.union(EventFlags::RDHUP);

fn main() -> Result<()> {
    let address = std::env::args().nth(1).context("usage: backend ADDRESS")?;
    let listener = TcpListener::bind(&address).with_context(|| format!("binding {address}"))?;
    listener.set_nonblocking(true)?;
    rustix::net::listen(&listener, 4096)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    Backend { listener, epoll, answers: Answers::new(), connections: Vec::new(), free: Vec::new() }.serve()
}

struct Backend {
    listener: TcpListener,
    epoll: OwnedFd,
    answers: Answers,
    /// By the number that epoll knows each by.
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
}

impl Backend {
    fn serve(mut self) -> Result<()> {
        let mut events = Vec::with_capacity(512);
        let mut buffer = vec![0; 128 * 1024];
        loop {
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in events.drain(..) {
                self.handle(event, &mut buffer)?;
            }
        }
    }

    fn handle(&mut self, event: epoll::Event, buffer: &mut [u8]) -> Result<()> {
        let (flags, data) = (event.flags, event.data.u64());
        if data == LISTENER {
            return self.accept();
        }
        self.drive(usize::try_from(data)?, flags, buffer);
        Ok(())
    }

    fn accept(&mut self) -> Result<()> {
        while let Ok((socket, _)) = self.listener.accept() {
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            let number = self.free.pop().unwrap_or(self.connections.len());
            epoll::add(&self.epoll, &socket, EventData::new_u64(number as u64), READING)?;
            let connection =
                Some(Connection { socket, kept: Vec::new(), state: State::Head { big: false }, unsent: &[] });
            match self.connections.get_mut(number) {
                Some(slot) => *slot = connection,
                None => self.connections.push(connection),
            }
        }
        Ok(())
    }

    fn drive(&mut self, number: usize, flags: EventFlags, buffer: &mut [u8]) {
        let Some(slot) = self.connections.get_mut(number) else { return };
        let Some(connection) = slot.as_mut() else { return };
        let was_blocked = !connection.unsent.is_empty();
        let open = connection.progress(flags, &self.answers, buffer).is_ok();
        let is_blocked = !connection.unsent.is_empty();
        let interest = if is_blocked { EventFlags::OUT } else { READING };
        let data = EventData::new_u64(number as u64);
        let changed = was_blocked != is_blocked;
        if !open || (changed && epoll::modify(&self.epoll, &connection.socket, data, interest).is_err()) {
            *slot = None;
            self.free.push(number);
        }
    }
}

struct Connection {
    socket: TcpStream,
    /// The start of something of which the end has not come.
    kept: Vec<u8>,
    state: State,
    unsent: &'static [u8],
}

#[derive(Clone, Copy)]
enum State {
    Head { big: bool },
    Length { left: usize },
    Chunks,
}

impl Connection {
    /// An error means that the connection is over.
    fn progress(&mut self, flags: EventFlags, answers: &Answers, buffer: &mut [u8]) -> io::Result<()> {
        if flags.contains(EventFlags::OUT) {
            return self.send(self.unsent);
        }
        let read = match self.socket.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let fresh = buffer.get(..read).unwrap_or_default();
        if self.kept.is_empty() {
            return self.take(fresh, answers);
        }
        let mut joined = std::mem::take(&mut self.kept);
        joined.extend_from_slice(fresh);
        self.take(&joined, answers)
    }

    fn take(&mut self, mut bytes: &[u8], answers: &Answers) -> io::Result<()> {
        while !bytes.is_empty() {
            let Some(used) = self.step(bytes) else {
                self.kept = bytes.to_vec();
                return Ok(());
            };
            bytes = bytes.get(used..).unwrap_or_default();
            if let State::Head { big } = self.state {
                self.state = State::Head { big: false };
                self.send(answers.of(big))?;
            }
        }
        Ok(())
    }

    /// Consumes some bytes; afterwards the state is `Head` if a request ended with them. `None` if it takes more to tell.
    fn step(&mut self, bytes: &[u8]) -> Option<usize> {
        match self.state {
            State::Head { .. } => {
                let end = head_end(bytes)?;
                let head = bytes.get(..end)?;
                self.state = match body_of(head) {
                    Body::Length(0) => State::Head { big: head.starts_with(b"GET /100k") },
                    Body::Length(left) => State::Length { left },
                    Body::Chunked => State::Chunks,
                };
                Some(end)
            }
            State::Length { left } => {
                let used = left.min(bytes.len());
                self.state =
                    if used == left { State::Head { big: false } } else { State::Length { left: left - used } };
                Some(used)
            }
            State::Chunks => {
                if !bytes.ends_with(b"0\r\n\r\n") {
                    return bytes.len().checked_sub(4).filter(|used| *used > 0);
                }
                self.state = State::Head { big: false };
                Some(bytes.len())
            }
        }
    }

    fn send(&mut self, bytes: &'static [u8]) -> io::Result<()> {
        let sent = match self.socket.write(bytes) {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        self.unsent = bytes.get(sent..).unwrap_or_default();
        Ok(())
    }
}

struct Answers {
    small: &'static [u8],
    big: &'static [u8],
}

impl Answers {
    fn new() -> Self {
        Self { small: answer(1024), big: answer(100 * 1024) }
    }

    fn of(&self, big: bool) -> &'static [u8] {
        if big { self.big } else { self.small }
    }
}

/// Lives as long as the program.
fn answer(length: usize) -> &'static [u8] {
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\nServer: backend\r\nDate: Sat, 21 Nov 2026 00:00:00 GMT\r\n\
         Content-Type: application/json\r\nCache-Control: no-store\r\nContent-Length: {length}\r\n\r\n"
    )
    .into_bytes();
    bytes.resize(bytes.len() + length, b'x');
    bytes.leak()
}
