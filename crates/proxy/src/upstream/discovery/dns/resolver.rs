//! Asks the servers that are configured, over UDP and, where an answer does not fit, TCP. It keeps nothing: its caller knows when
//! to ask again.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tidegate_core::clock::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::message::{self, Answer, DATAGRAM, Kind, Reading};
use crate::alarm::until;
use crate::listener::certs;

/// For one server to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often each server is asked.
const ROUNDS: usize = 2;

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// There is no such name.
    NoSuchName,
    /// No server gave an answer; what the last one did.
    Failed(String),
}

/// Asks the servers in turn until one of them answers.
pub(super) async fn ask(clock: &Clock, servers: &[SocketAddr], name: &str, kind: Kind) -> Result<Answer, Unanswered> {
    let mut last = "no DNS server is known: /etc/resolv.conf names none".to_owned();
    for server in std::iter::repeat_n(servers, ROUNDS).flatten() {
        let asked = until(clock, clock.now() + PATIENCE, exchange(*server, name, kind)).await;
        last = match asked {
            Some(Ok(Reading::Answer(answer))) => return Ok(answer),
            Some(Ok(Reading::NoSuchName)) => return Err(Unanswered::NoSuchName),
            Some(Ok(Reading::Refused(code))) => format!("the DNS server {server} answered {code:?}"),
            Some(Ok(Reading::Foreign | Reading::Truncated)) => format!("the DNS server {server} answered in no form"),
            Some(Err(error)) => format!("the DNS server {server} could not be asked: {error}"),
            None => format!("the DNS server {server} did not answer in time"),
        };
    }
    Err(Unanswered::Failed(last))
}

async fn exchange(server: SocketAddr, name: &str, kind: Kind) -> io::Result<Reading> {
    let id = unguessable()?;
    let not_a_name = || io::Error::new(io::ErrorKind::InvalidInput, "it is not a name");
    let question = message::question(id, name, kind).ok_or_else(not_a_name)?;
    let mut reading = over_udp(server, &question, |bytes| message::read(bytes, id, name, kind)).await?;
    if reading == Reading::Truncated {
        reading = message::read(&over_tcp(server, &question).await?, id, name, kind);
    }
    Ok(reading)
}

/// From a port that the kernel chooses anew for every question: who cannot see the question must guess it and the id.
async fn over_udp(server: SocketAddr, question: &[u8], read: impl Fn(&[u8]) -> Reading) -> io::Result<Reading> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut datagram = vec![0; usize::from(DATAGRAM)];
    loop {
        let length = socket.recv(&mut datagram).await?;
        let reading = read(datagram.get(..length).unwrap_or_default());
        if reading != Reading::Foreign {
            return Ok(reading);
        }
    }
}

async fn over_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn unguessable() -> io::Result<u16> {
    let mut bytes = [0; 2];
    certs::provider().secure_random.fill(&mut bytes).map_err(|_| io::Error::other("no randomness"))?;
    Ok(u16::from_be_bytes(bytes))
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchName => f.write_str("there is no such name"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}
