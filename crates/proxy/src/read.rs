//! Reading from a connection into a buffer that makes room only for what is expected.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::buffers::Buffers;
use crate::io::Io;

/// One read of what fits, after making room for about `room` bytes. `Ok(0)` is the end of the stream.
#[inline]
pub(crate) fn read_some<R: AsyncRead + Unpin>(
    io: &mut R,
    buffer: &mut BytesMut,
    room: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    if buffer.capacity() - buffer.len() < room / 2 {
        if !buffer.is_empty() {
            buffer.reserve(room);
        } else if !buffer.try_reclaim(room) {
            // No more than is asked for; `reserve` would add what was read before.
            *buffer = BytesMut::with_capacity(room);
        }
    }
    pin!(io.read_buf(buffer)).poll(cx)
}

/// One read of what there is of a head. Who waits for one, as idle connections do, holds no buffer; so the next one to read finds
/// the buffer that was used last still in the processor's cache.
#[inline]
pub(crate) fn read_head(
    io: &mut Io,
    buffer: &mut BytesMut,
    buffers: &Buffers,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    if buffer.capacity() != 0 {
        let read = read_some(io, buffer, buffers.head(), cx);
        if read.is_pending() && buffer.is_empty() {
            buffers.put(std::mem::take(buffer));
        }
        return read;
    }
    // One that was read to its last byte has no room, but still its memory.
    *buffer = BytesMut::new();
    let mut lent = buffers.take();
    let read = read_some(io, &mut lent, buffers.head(), cx);
    if read.is_pending() {
        buffers.put_unused(lent);
    } else {
        *buffer = lent;
    }
    read
}

#[cfg(test)]
mod tests {
    use tidegate_config::config;

    use super::*;
    use crate::io::testing::block_on;

    #[test]
    fn who_waits_holds_no_memory_of_what_was_read_to_its_last_byte() {
        let buffers = Buffers::new(config::Buffers { head: 1024, body: 1024 });
        let (near, _far) = tokio::io::duplex(1024);
        let mut buffer = BytesMut::with_capacity(8);
        buffer.extend_from_slice(b"12345678");
        let read = buffer.split().freeze();
        assert!(buffer.capacity() == 0 && !read.is_unique());
        block_on(async {
            let mut io = Io::Memory(near);
            let polled = std::future::poll_fn(|cx| Poll::Ready(read_head(&mut io, &mut buffer, &buffers, cx))).await;
            assert!(polled.is_pending());
        });
        assert!(read.is_unique());
    }
}
