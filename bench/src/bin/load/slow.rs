//! Peers that keep a gateway waiting, the same number of every kind at any time: whoever is let go comes back at once.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
};

use anyhow::{Context, Result};
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, EventData, EventFlags},
    },
};

/// Every peer has a turn once a second, not all in the same moment.
const TURNS: usize = 10;
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// More than all buffers between a service and a client hold.
const REPLIES: usize = 100;

/// How a peer is slow.
#[derive(Clone, Copy)]
enum Kind {
    /// A head, byte by byte.
    Head,
    /// A body, byte by byte.
    Body,
    /// A chunk that began and does not go on.
    Chunk,
    /// Many replies, of which next to nothing is taken.
    Reader,
    /// A TLS handshake that began and does not go on.
    Handshake,
    /// A stream of HTTP/2 of whose reply nothing may be sent.
    Window,
}

const KINDS: [Kind; 6] = [Kind::Head, Kind::Body, Kind::Chunk, Kind::Reader, Kind::Handshake, Kind::Window];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Head => "head drip",
            Self::Body => "body drip",
            Self::Chunk => "half a chunk",
            Self::Reader => "slow reader",
            Self::Handshake => "half a handshake",
            Self::Window => "closed window",
        }
    }

    fn opening(self) -> Vec<u8> {
        match self {
            Self::Head => b"GET / HTTP/1.1\r\nHost: slow.test\r\nX: ".to_vec(),
            Self::Body => b"POST / HTTP/1.1\r\nHost: slow.test\r\nContent-Length: 1000000\r\n\r\n".to_vec(),
            Self::Chunk => {
                b"POST / HTTP/1.1\r\nHost: slow.test\r\nTransfer-Encoding: chunked\r\n\r\n400\r\nabc".to_vec()
            }
            Self::Reader => b"GET /100k HTTP/1.1\r\nHost: slow.test\r\n\r\n".repeat(REPLIES),
            // The beginning of a record of 512 bytes (RFC 8446, 5.1).
            Self::Handshake => b"\x16\x03\x01\x02\x00\x01".to_vec(),
            Self::Window => window(),
        }
    }

    /// What it says each second.
    fn drip(self) -> &'static [u8] {
        match self {
            Self::Head | Self::Body => b"a",
            Self::Chunk | Self::Reader | Self::Handshake | Self::Window => b"",
        }
    }

    /// How much it takes at most each second.
    fn takes(self) -> usize {
        match self {
            Self::Reader => 16,
            Self::Head | Self::Body | Self::Chunk | Self::Handshake | Self::Window => 4096,
        }
    }
}

/// The preface, settings with a window of nothing, and `GET /100k` by HPACK's static table (RFC 9113, 3.4 and 6.5.2; RFC 7541, A).
fn window() -> Vec<u8> {
    let fields = b"\x82\x86\x41\x09slow.test\x44\x05/100k";
    let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0";
    let headers = b"\0\0\x14\x01\x05\0\0\0\x01";
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), settings, headers, fields].concat()
}

/// Where the gateway listens.
#[derive(Clone, Copy)]
pub(crate) struct Gateway {
    pub(crate) plain: SocketAddr,
    pub(crate) tls: SocketAddr,
}

/// Holds `count` peers until the input ends, and then says how many of each kind were let go.
pub(crate) fn hold(gateway: Gateway, count: usize) -> Result<()> {
    let mut peers = Vec::with_capacity(count);
    for kind in KINDS.into_iter().cycle().take(count) {
        peers.push(Peer::open(gateway, kind)?);
    }
    println!("holding {count}");
    let input = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&input, std::io::stdin(), EventData::new_u64(0), EventFlags::IN)?;
    let mut let_go = BTreeMap::new();
    let mut events: Vec<epoll::Event> = Vec::with_capacity(1);
    for turn in (0..TURNS).cycle() {
        match epoll::wait(&input, spare_capacity(&mut events), Some(&TURN)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if !events.is_empty() {
            break;
        }
        for peer in peers.iter_mut().skip(turn).step_by(TURNS) {
            if !peer.goes_on() {
                *let_go.entry(peer.kind.name()).or_insert(0_u32) += 1;
                *peer = Peer::open(gateway, peer.kind)?;
            }
        }
    }
    let counts = let_go.iter().map(|(kind, count)| format!("{count} x {kind}"));
    println!("let go: {}", counts.collect::<Vec<_>>().join(", "));
    Ok(())
}

struct Peer {
    kind: Kind,
    socket: TcpStream,
}

impl Peer {
    fn open(gateway: Gateway, kind: Kind) -> Result<Self> {
        let address = if matches!(kind, Kind::Handshake) { gateway.tls } else { gateway.plain };
        let mut socket = TcpStream::connect(address).context("connecting")?;
        socket.set_nodelay(true)?;
        socket.write_all(&kind.opening()).context("beginning")?;
        socket.set_nonblocking(true)?;
        Ok(Self { kind, socket })
    }

    /// Has its turn; false once the gateway has let it go.
    fn goes_on(&mut self) -> bool {
        let is_open = |done: std::io::Result<usize>| match done {
            Ok(read) => read > 0,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        };
        let mut room = [0; 4096];
        let room = room.get_mut(..self.kind.takes()).unwrap_or_default();
        let drip = self.kind.drip();
        // A reset shows here before what came ahead of it is read.
        matches!(self.socket.take_error(), Ok(None))
            && (drip.is_empty() || is_open(self.socket.write(drip)))
            && is_open(self.socket.read(room))
    }
}

#[cfg(test)]
mod tests {
    use super::{KINDS, Kind, window};

    #[test]
    fn the_frames_have_the_lengths_that_they_announce() {
        let bytes = window();
        let (settings, headers) = (&bytes[24..], &bytes[24 + 15..]);
        assert_eq!((settings[2], settings[3], headers[2], headers[3]), (6, 4, 20, 1));
        assert_eq!(headers.len(), 9 + usize::from(headers[2]));
    }

    #[test]
    fn nobody_who_reads_slowly_takes_what_the_gateway_demands() {
        assert!(Kind::Reader.takes() < 240);
        assert!(KINDS.into_iter().all(|kind| !kind.opening().is_empty() && kind.drip().len() < 240));
    }
}
