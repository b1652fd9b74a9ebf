//! One type for every byte stream that the gateway speaks HTTP on, so that nothing above it is generic over sockets.
//! It does not know deadlines, protocols or limits: those belong to whoever reads and writes.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

use crate::tasks::at_once;

/// Bytes that the system takes for a peer beyond what is on its way to it (`TCP_NOTSENT_LOWAT`). Without a bound it takes megabytes at once
/// and nothing more until a third of them were read: a peer that reads slowly but steadily would look as if it took nothing.
pub(crate) const UNSENT: u32 = 128 * 1024;

/// The protocol that both sides named in a TLS handshake (ALPN, RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// None: there was no TLS, or one side named none.
    None,
    /// `http/1.1`
    Http1,
    /// `h2`
    Http2,
}

pub(crate) const HTTP_1: &[u8] = b"http/1.1";
pub(crate) const HTTP_2: &[u8] = b"h2";

impl Alpn {
    pub(crate) fn agreed(protocol: Option<&[u8]>) -> Self {
        match protocol {
            Some(HTTP_2) => Self::Http2,
            Some(_) => Self::Http1,
            None => Self::None,
        }
    }
}

/// A connection to a client or to an endpoint.
#[derive(Debug)]
pub enum Io {
    /// A plain TCP connection.
    Tcp(TcpStream),
    /// A connection whose client speaks TLS.
    Tls(Box<server::TlsStream<Rewind>>),
    /// A connection to an endpoint that speaks TLS.
    TlsClient(Box<client::TlsStream<Rewind>>),
    /// Two ends in one process: tests, `explain` and the demonstration.
    Memory(DuplexStream),
}

impl Io {
    /// The TCP connection underneath; `None` in memory.
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(tcp) => Some(tcp),
            Self::Tls(tls) => tls.get_ref().0.io.tcp(),
            Self::TlsClient(tls) => tls.get_ref().0.io.tcp(),
            Self::Memory(_) => None,
        }
    }

    /// Makes the close that follows a reset: what is queued is thrown away and the peer sees an error, never an ordinary
    /// end. This is how a reply that is framed by the close of its connection can be aborted.
    pub fn reset_on_close(&self) {
        if let Some(tcp) = self.tcp() {
            // A socket that is gone already needs no reset.
            socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO)).ok();
        }
    }

    /// True if nothing has come, neither bytes nor the end nor an error. What has is lost, so whoever asks uses this no more if not.
    pub(crate) fn is_silent(&mut self) -> bool {
        let mut byte = [0; 1];
        if let Self::Tcp(tcp) = self {
            return tcp.try_read(&mut byte).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        }
        at_once(|cx| Pin::new(&mut *self).poll_read(cx, &mut ReadBuf::new(&mut byte))).is_pending()
    }

    /// Ready when a read would not wait, be it for bytes, the end or an error. Reads nothing from a plain socket, so an idle
    /// connection can be watched without a buffer. Wrong readiness is possible, as with any poll; a missed one is not.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) => tcp.poll_read_ready(cx),
            Self::Tls(tls) => {
                let (below, session) = tls.get_mut();
                poll_readable_below(session.reader(), below, cx)
            }
            Self::TlsClient(tls) => {
                let (below, session) = tls.get_mut();
                poll_readable_below(session.reader(), below, cx)
            }
            // A pipe in memory cannot be asked without reading, so whoever asks is told to try.
            Self::Memory(_) => Poll::Ready(Ok(())),
        }
    }

    /// Reads into `buffer`, which has room, right after [`Self::poll_readable`] was ready: the runtime need not be asked again.
    #[inline]
    pub(crate) fn poll_read_now(&mut self, buffer: &mut BytesMut, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let read = match self {
            Self::Tcp(tcp) => read_now(tcp, buffer),
            Self::Tls(_) | Self::TlsClient(_) | Self::Memory(_) => Err(io::ErrorKind::WouldBlock.into()),
        };
        match read {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                pin!(self.read_buf(buffer)).poll(cx)
            }
            read => Poll::Ready(read),
        }
    }
}

fn read_now(tcp: &TcpStream, buffer: &mut BytesMut) -> io::Result<usize> {
    let room = buffer.capacity() - buffer.len();
    let read = tcp.try_read_buf(buffer)?;
    if 0 < read && read < room {
        // There is no more until the system says so (epoll(7), edge-triggered), and that is what "would block" tells the runtime.
        tcp.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into())).ok();
    }
    Ok(read)
}

/// Text that is decrypted but not read counts as much as bytes on the socket.
fn poll_readable_below(
    mut decrypted: impl io::BufRead,
    below: &mut Rewind,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    let waiting = decrypted.fill_buf().is_ok();
    if waiting || !below.early.is_empty() { Poll::Ready(Ok(())) } else { below.io.poll_readable(cx) }
}

/// Asks the system first and the runtime only if it must wait, and not by the C library: in a program of several threads, that makes
/// every call cancellable, with two locked instructions before and after.
#[inline]
fn poll_send(
    tcp: &TcpStream,
    cx: &mut Context<'_>,
    send: impl Fn(&TcpStream) -> rustix::io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        let done = tcp.try_io(Interest::WRITABLE, || Ok(send(tcp)?));
        match done {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(tcp.poll_write_ready(cx))?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return Poll::Ready(other),
        }
    }
}

impl From<TcpStream> for Io {
    fn from(tcp: TcpStream) -> Self {
        Self::Tcp(tcp)
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_read(cx, out),
            Self::Tls(io) => Pin::new(io.as_mut()).poll_read(cx, out),
            Self::TlsClient(io) => Pin::new(io.as_mut()).poll_read(cx, out),
            Self::Memory(io) => Pin::new(io).poll_read(cx, out),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(io) => poll_send(io, cx, |tcp| send(tcp, bytes, SendFlags::NOSIGNAL)),
            Self::Tls(io) => Pin::new(io.as_mut()).poll_write(cx, bytes),
            Self::TlsClient(io) => Pin::new(io.as_mut()).poll_write(cx, bytes),
            Self::Memory(io) => Pin::new(io).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(io) => {
                poll_send(io, cx, |tcp| sendmsg(tcp, slices, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL))
            }
            Self::Tls(io) => Pin::new(io.as_mut()).poll_write_vectored(cx, slices),
            Self::TlsClient(io) => Pin::new(io.as_mut()).poll_write_vectored(cx, slices),
            Self::Memory(io) => Pin::new(io).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(io) => io.is_write_vectored(),
            Self::Tls(io) => io.is_write_vectored(),
            Self::TlsClient(io) => io.is_write_vectored(),
            Self::Memory(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io.as_mut()).poll_flush(cx),
            Self::TlsClient(io) => Pin::new(io.as_mut()).poll_flush(cx),
            Self::Memory(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io.as_mut()).poll_shutdown(cx),
            Self::TlsClient(io) => Pin::new(io.as_mut()).poll_shutdown(cx),
            Self::Memory(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}

/// A connection of which some bytes were read too early (behind a PROXY protocol header, or while the HTTP/2 preface was
/// looked for): they are read again before the connection's own.
#[derive(Debug)]
pub struct Rewind {
    early: BytesMut,
    io: Io,
}

impl Rewind {
    /// `early` comes before whatever `io` still holds.
    pub fn new(early: BytesMut, io: Io) -> Self {
        Self { early, io }
    }
}

impl From<Io> for Rewind {
    fn from(io: Io) -> Self {
        Self::new(BytesMut::new(), io)
    }
}

impl AsyncRead for Rewind {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.early.is_empty() {
            return Pin::new(&mut this.io).poll_read(cx, out);
        }
        let taken = this.early.len().min(out.remaining());
        out.put_slice(this.early.get(..taken).unwrap_or_default());
        this.early.advance(taken);
        if this.early.is_empty() {
            this.early = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewind {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::future::Future;

    /// Runs `future` to its end on a worker-like runtime.
    pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, future)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::testing::block_on;
    use super::*;

    fn pair() -> (Io, Io) {
        let (left, right) = tokio::io::duplex(1024);
        (Io::Memory(left), Io::Memory(right))
    }

    #[test]
    fn early_bytes_are_read_before_the_connections_own() {
        block_on(async {
            let (mut far, near) = pair();
            far.write_all(b" world").await.unwrap();
            drop(far);
            let mut rewound = Rewind::new(BytesMut::from(&b"hello"[..]), near);
            let mut text = String::new();
            rewound.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "hello world");
        });
    }

    #[test]
    fn early_bytes_survive_a_reader_with_little_room() {
        block_on(async {
            let (_far, near) = pair();
            let mut rewound = Rewind::new(BytesMut::from(&b"abc"[..]), near);
            let mut read = Vec::new();
            for _ in 0..3 {
                read.push(rewound.read_u8().await.unwrap());
            }
            assert_eq!(read, b"abc");
        });
    }

    #[test]
    fn writes_go_straight_through() {
        block_on(async {
            let (mut far, near) = pair();
            let mut rewound = Rewind::new(BytesMut::from(&b"unread"[..]), near);
            rewound.write_all(b"out").await.unwrap();
            rewound.shutdown().await.unwrap();
            let mut text = String::new();
            far.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "out");
        });
    }
}
