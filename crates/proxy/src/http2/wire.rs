//! The connection under `h2`. That crate writes every frame with a body on its own; here frames are gathered and written
//! once its turn is over. It also lets the meter see every byte.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::meter::Meter;
use crate::io::Rewind;

/// Bytes that are gathered at most. Beyond it, writes go through.
const GATHERED: usize = 32 * 1024;
/// What an idle connection may keep of it.
const KEPT: usize = 4 * 1024;

/// The connection, shared by `h2` and by the task that drives it.
pub(crate) struct Wire {
    io: RefCell<Rewind>,
    out: RefCell<Gathered>,
    /// Bytes that the connection took.
    taken: Cell<u64>,
    /// `None` towards endpoints, which are trusted more than clients.
    meter: Option<Rc<Meter>>,
}

#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    written: usize,
}

impl Wire {
    pub(crate) fn new(io: Rewind, meter: Option<&Rc<Meter>>) -> Rc<Self> {
        let (out, taken) = Default::default();
        Rc::new(Self { io: RefCell::new(io), out, taken, meter: meter.map(Rc::clone) })
    }

    /// What `h2` reads and writes.
    pub(crate) fn end(this: &Rc<Self>) -> End {
        End(Rc::clone(this))
    }

    /// After [`Self::poll_flush`]: whether something waits because the peer takes no more. `h2` may then hold more of it.
    pub(crate) fn is_blocked(&self) -> bool {
        !self.out.borrow().bytes.is_empty()
    }

    /// Bytes that the connection took since it was made.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.get()
    }

    fn took(&self, bytes: usize) {
        self.taken.set(self.taken.get() + bytes as u64);
    }

    /// Writes what was gathered. To be called whenever `h2` has had its turn, for its own flushing does nothing.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut io = self.io.borrow_mut();
        let mut out = self.out.borrow_mut();
        if out.bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while let Some(rest) = out.bytes.get(out.written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut *io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => {
                    out.written += written;
                    self.took(written);
                }
            }
        }
        out.written = 0;
        out.bytes.clear();
        out.bytes.shrink_to(KEPT);
        Pin::new(&mut *io).poll_flush(cx)
    }

    /// Makes room: ready once `bytes` can be gathered, or nothing is and they may go through.
    fn poll_room(&self, bytes: usize, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.fits(bytes) { Poll::Ready(Ok(())) } else { self.poll_flush(cx) }
    }

    fn fits(&self, bytes: usize) -> bool {
        self.out.borrow().bytes.len() + bytes <= GATHERED
    }

    fn gather(&self, bytes: &[u8]) {
        self.out.borrow_mut().bytes.extend_from_slice(bytes);
    }

    fn saw_written(&self, bytes: &[u8]) {
        if let Some(meter) = &self.meter {
            meter.wrote(bytes);
        }
    }
}

/// The side of a connection that `h2` sees.
pub(crate) struct End(Rc<Wire>);

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = &self.0;
        if wire.meter.as_ref().is_some_and(|meter| meter.is_overdrawn()) {
            // The connection's task decides whether time has paid for it.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = out.filled().len();
        let polled = Pin::new(&mut *wire.io.borrow_mut()).poll_read(cx, out);
        if let Some(meter) = &wire.meter {
            meter.read(out.filled().get(before..).unwrap_or_default());
        }
        polled
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wire = &self.0;
        let total = slices.iter().map(|slice| slice.len()).sum();
        ready!(wire.poll_room(total, cx))?;
        let gathers = wire.fits(total);
        let taken = if gathers {
            total
        } else {
            let taken = ready!(Pin::new(&mut *wire.io.borrow_mut()).poll_write_vectored(cx, slices))?;
            wire.took(taken);
            taken
        };
        let mut left = taken;
        for slice in slices {
            let part = slice.get(..left.min(slice.len())).unwrap_or_default();
            left -= part.len();
            wire.saw_written(part);
            if gathers {
                wire.gather(part);
            }
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.0.poll_flush(cx))?;
        Pin::new(&mut *self.0.io.borrow_mut()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use bytes::BytesMut;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::io::Io;
    use crate::io::testing::block_on;

    fn wire(room: usize) -> (Rc<Wire>, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(room);
        (Wire::new(Rewind::new(BytesMut::new(), Io::Memory(near)), None), far)
    }

    fn now(polled: Poll<io::Result<usize>>) -> Option<usize> {
        match polled {
            Poll::Ready(written) => Some(written.unwrap()),
            Poll::Pending => None,
        }
    }

    #[test]
    fn frames_are_gathered_until_the_turn_is_over() {
        block_on(async {
            let (wire, mut far) = wire(1024);
            let mut end = Wire::end(&wire);
            for part in ["one ", "two ", "three"] {
                end.write_all(part.as_bytes()).await.unwrap();
                end.flush().await.unwrap();
            }
            let mut room = [0; 64];
            let mut early = ReadBuf::new(&mut room);
            let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut far).poll_read(cx, &mut early).is_pending())).await;
            assert!(polled, "nothing is written before");
            poll_fn(|cx| wire.poll_flush(cx)).await.unwrap();
            let read = far.read(&mut room).await.unwrap();
            assert_eq!(&room[..read], b"one two three");
        });
    }

    #[test]
    fn a_peer_that_takes_nothing_holds_writes_back() {
        block_on(async {
            let (wire, mut far) = wire(16);
            let mut end = Wire::end(&wire);
            let part = [b'x'; 16 * 1024];
            let mut sent = 0;
            let mut taken = Some(0);
            while let Some(written) = taken {
                sent += written;
                assert!(sent <= GATHERED, "{sent}");
                taken = poll_fn(|cx| Poll::Ready(now(Pin::new(&mut end).poll_write(cx, &part)))).await;
            }
            assert_eq!(sent, GATHERED);
            let reader = async {
                let mut received = vec![0; GATHERED];
                far.read_exact(&mut received).await.unwrap();
            };
            let (flushed, ()) = tokio::join!(poll_fn(|cx| wire.poll_flush(cx)), reader);
            flushed.unwrap();
        });
    }

    #[test]
    fn shutting_down_writes_what_was_gathered() {
        block_on(async {
            let (wire, mut far) = wire(1024);
            let mut end = Wire::end(&wire);
            end.write_all(b"last").await.unwrap();
            end.shutdown().await.unwrap();
            let mut text = String::new();
            far.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "last");
        });
    }
}
