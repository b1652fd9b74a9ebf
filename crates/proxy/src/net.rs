//! The one seam for connections that the gateway opens: the system's network, or ends of pipes in memory for tests and dry runs.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tidegate_core::clock::Clock;
use tokio::io::DuplexStream;
use tokio::net::TcpStream;

use crate::alarm::Alarm;
use crate::io::{Io, UNSENT};
use crate::upstream::endpoint::Endpoint;

/// Gives the gateway's end of a connection to `host:port`.
pub type Connect = dyn Fn(&str) -> io::Result<DuplexStream>;

/// Where connections lead.
#[derive(Default)]
pub enum Net {
    /// To the system's network.
    #[default]
    System,
    /// To whatever this returns.
    Memory(Box<Connect>),
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "Net::System",
            Self::Memory(_) => "Net::Memory",
        })
    }
}

/// Why a connection could not be had.
pub(crate) enum Unreachable {
    Resolve(io::Error),
    Connect(io::Error),
}

impl Net {
    /// A connection to the first of the endpoint's addresses that accepts. One that is silent does not hold up the next for long.
    pub(crate) async fn connect(&self, endpoint: &Endpoint, clock: &Clock) -> Result<Io, Unreachable> {
        match self {
            Self::Memory(connect) => connect(endpoint.authority()).map(Io::Memory).map_err(Unreachable::Connect),
            Self::System => {
                let addresses = endpoint.addresses(clock).await.map_err(Unreachable::Resolve)?;
                dial(&addresses, clock).await.map(Io::Tcp).map_err(Unreachable::Connect)
            }
        }
    }
}

async fn dial(addresses: &[SocketAddr], clock: &Clock) -> io::Result<TcpStream> {
    let stream = match addresses {
        [only] => TcpStream::connect(only).await,
        several => {
            let attempts =
                alternating(several).into_iter().map(|address| -> Attempt<_> { Box::pin(TcpStream::connect(address)) });
            first(attempts.collect(), clock).await
        }
    }?;
    stream.set_nodelay(true)?;
    // A system that does not know it takes more.
    SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT).ok();
    watch(&stream);
    Ok(stream)
}

/// A peer that is gone without a word is noticed though nothing is sent to it. A limit on what is sent and not acknowledged
/// (`TCP_USER_TIMEOUT`) would also end connections to peers that are well and take nothing for a while; for those there are
/// `timeouts.write` and `stream_idle`. A system that does not know keep-alive still gives a connection that works.
fn watch(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(SILENCE).with_interval(PROBE_EVERY).with_retries(PROBES);
    socket.set_tcp_keepalive(&keepalive).ok();
}

/// How long a connection is silent before the peer's system is asked whether it is still there.
const SILENCE: Duration = Duration::from_secs(30);
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// So many unanswered probes end the connection.
const PROBES: u32 = 3;

type Attempt<T> = Pin<Box<dyn Future<Output = io::Result<T>>>>;

/// How long an address has before the next one is tried beside it (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// The address families in turn, beginning with that of the first address (RFC 8305, section 4).
fn alternating(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let leads = |address: &&SocketAddr| addresses.first().is_some_and(|first| first.is_ipv6() == address.is_ipv6());
    let (mut one, mut other) = (addresses.iter().filter(leads), addresses.iter().filter(|address| !leads(address)));
    let pairs = std::iter::from_fn(|| match (one.next(), other.next()) {
        (None, None) => None,
        (first, second) => Some(first.into_iter().chain(second)),
    });
    pairs.flatten().copied().collect()
}

/// What the first attempt that succeeds gives. The next one begins when the last has failed or has had its head start; if all
/// fail, the last failure counts.
async fn first<T>(mut attempts: VecDeque<Attempt<T>>, clock: &Clock) -> io::Result<T> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut running: Vec<Attempt<T>> = Vec::new();
    let mut alarm = Alarm::new(clock);
    let mut next = clock.now();
    poll_fn(|cx| {
        loop {
            let before = running.len();
            let mut done = None;
            running.retain_mut(|attempt| match attempt.as_mut().poll(cx) {
                Poll::Ready(Ok(won)) => {
                    done = Some(won);
                    true
                }
                Poll::Ready(Err(error)) => {
                    failure = error;
                    false
                }
                Poll::Pending => true,
            });
            if let Some(won) = done {
                return Poll::Ready(Ok(won));
            }
            let due = running.len() < before || running.is_empty() || alarm.poll(cx, next).is_ready();
            match due.then(|| attempts.pop_front()).flatten() {
                Some(attempt) => running.push(attempt),
                None if running.is_empty() => {
                    return Poll::Ready(Err(std::mem::replace(&mut failure, io::ErrorKind::Other.into())));
                }
                None => return Poll::Pending,
            }
            next = clock.now() + HEAD_START;
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use tidegate_core::clock::ManualClock;

    use super::*;
    use crate::io::testing::block_on;

    fn never() -> Attempt<u8> {
        Box::pin(std::future::pending())
    }

    fn at_once(result: io::Result<u8>) -> Attempt<u8> {
        Box::pin(std::future::ready(result))
    }

    #[test]
    fn a_silent_address_holds_the_next_one_up_for_its_head_start_and_no_longer() {
        block_on(async {
            let manual = ManualClock::new(Duration::ZERO);
            let clock = Clock::Manual(std::sync::Arc::clone(&manual));
            let mut won = Box::pin(first(VecDeque::from([never(), at_once(Ok(2))]), &clock));
            let mut poll = || won.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
            assert!(poll().is_pending());
            manual.advance(HEAD_START.saturating_sub(Duration::from_millis(1)));
            assert!(poll().is_pending());
            manual.advance(Duration::from_millis(1));
            assert!(matches!(poll(), Poll::Ready(Ok(2))));
        });
    }

    #[test]
    fn an_address_that_refuses_is_passed_over_at_once_and_the_last_failure_is_told() {
        block_on(async {
            let refused = || at_once(Err(io::ErrorKind::ConnectionRefused.into()));
            assert_eq!(first(VecDeque::from([refused(), at_once(Ok(2))]), &Clock::System).await.unwrap(), 2);
            let error = first(VecDeque::from([refused(), refused()]), &Clock::System).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        });
    }

    #[test]
    fn a_peer_that_is_gone_without_a_word_is_noticed() {
        block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let stream = dial(&[listener.local_addr().unwrap()], &Clock::System).await.unwrap();
            let socket = SockRef::from(&stream);
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), SILENCE);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), PROBE_EVERY);
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), PROBES);
            assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT, "and one that reads slowly is seen to read");
        });
    }

    #[test]
    fn families_take_turns() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let [a, b, c] = ["[::1]:1", "[::2]:1", "127.0.0.1:1"].map(address);
        assert_eq!(alternating(&[a, b, c]), [a, c, b]);
        assert_eq!(alternating(&[]), []);
    }
}
