//! What waits to be written to a connection: a head, then a body frame, then what closes the frame, in one write where the
//! kernel takes it. It holds one frame at most; that is the backpressure.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tidegate_http1::{BodyWriter, WrongLength};
use tokio::io::AsyncWrite;

/// Frames up to this size are copied behind the head, which is cheaper than a vectored write, and gives the buffer that they were read
/// into back at once. Slow readers hold copies as well, so it is not larger.
const COPY_UP_TO: usize = 12 * 1024;

/// Small frames are gathered up to this, in bytes.
const GATHERED: usize = 16 * 1024;

/// Bytes on their way out.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Heads, chunk sizes, small frames.
    front: Vec<u8>,
    front_sent: usize,
    data: Bytes,
    /// What follows `data`: the CRLF of a chunk, the last chunk, trailers.
    back: Vec<u8>,
    back_sent: usize,
    /// Bytes that the connection took since it was made.
    taken: u64,
    /// The connection took bytes that it may still hold itself, as TLS does.
    unflushed: bool,
}

impl Outbox {
    /// True when nothing waits, neither here nor in the connection.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.is_written() && !self.unflushed
    }

    fn is_written(&self) -> bool {
        self.front_sent == self.front.len() && self.data.is_empty() && self.back_sent == self.back.len()
    }

    /// Bytes that the connection took since it was made, whoever flushed them.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// True if what waits can still be taken back: nothing of it was written.
    pub(crate) fn is_untouched(&self) -> bool {
        self.front_sent == 0 && self.back_sent == 0
    }

    /// Where to append bytes that come after all that already waits.
    #[inline]
    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        if self.data.is_empty() && self.back_sent == self.back.len() {
            if self.front_sent == self.front.len() {
                self.front.clear();
                self.front_sent = 0;
            }
            &mut self.front
        } else {
            &mut self.back
        }
    }

    /// Whether another frame may join what waits.
    pub(crate) fn has_room(&self) -> bool {
        self.data.is_empty() && self.back_sent == self.back.len() && self.front.len() < GATHERED
    }

    /// Appends a body frame with what the framing wants around it. A large one is not copied, and must then be the last until
    /// all is written; of one that was copied, the buffer is given back.
    #[inline]
    pub(crate) fn frame(&mut self, writer: &mut BodyWriter, data: Bytes) -> Result<Option<Bytes>, WrongLength> {
        if data.len() <= COPY_UP_TO || !self.data.is_empty() || self.back_sent < self.back.len() {
            writer.data(&data, self.tail())?;
            return Ok(Some(data));
        }
        writer.write(data.len())?;
        writer.chunk_prefix(data.len(), self.tail());
        self.back.clear();
        self.back_sent = 0;
        writer.chunk_suffix(data.len(), &mut self.back);
        self.data = data;
        Ok(None)
    }

    /// Writes until nothing waits. `wrote` is told of every write that took bytes.
    pub(crate) fn poll_flush<W: AsyncWrite + Unpin>(
        &mut self,
        io: &mut W,
        cx: &mut Context<'_>,
        wrote: &mut usize,
    ) -> Poll<io::Result<()>> {
        while !self.is_written() {
            let taken = match self.poll_write(io, cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(taken)) => taken,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            };
            *wrote += taken;
            self.advance(taken);
        }
        if self.unflushed {
            ready!(Pin::new(io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write<W: AsyncWrite + Unpin>(&self, io: &mut W, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let front = self.front.get(self.front_sent..).unwrap_or_default();
        let back = self.back.get(self.back_sent..).unwrap_or_default();
        let io = Pin::new(io);
        if self.data.is_empty() && back.is_empty() {
            io.poll_write(cx, front)
        } else if front.is_empty() && back.is_empty() {
            io.poll_write(cx, &self.data)
        } else {
            io.poll_write_vectored(cx, &[IoSlice::new(front), IoSlice::new(&self.data), IoSlice::new(back)])
        }
    }

    fn advance(&mut self, mut taken: usize) {
        self.taken += taken as u64;
        self.unflushed = true;
        let front = taken.min(self.front.len() - self.front_sent);
        self.front_sent += front;
        taken -= front;
        let data = taken.min(self.data.len());
        if data > 0 {
            self.data.advance(data);
            taken -= data;
        }
        self.back_sent += taken;
        if self.is_written() {
            self.clear();
        }
    }

    /// Forgets what waits.
    pub(crate) fn clear(&mut self) {
        self.front.clear();
        self.front_sent = 0;
        self.data = Bytes::new();
        self.back.clear();
        self.back_sent = 0;
    }

    /// True while there is no buffer to write into.
    pub(crate) fn is_spare(&self) -> bool {
        self.front.capacity() == 0
    }

    /// Gives it a buffer.
    pub(crate) fn lend(&mut self, buffer: Vec<u8>) {
        debug_assert!(self.is_spare(), "bytes would be lost");
        self.front = buffer;
    }

    /// Takes the buffer back, once nothing waits.
    pub(crate) fn take_buffer(&mut self) -> Vec<u8> {
        debug_assert!(self.is_empty(), "bytes would be lost");
        self.back = Vec::new();
        std::mem::take(&mut self.front)
    }
}
