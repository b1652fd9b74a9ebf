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
    make_room(buffer, room);
    pin!(io.read_buf(buffer)).poll(cx)
}

#[inline]
fn make_room(buffer: &mut BytesMut, room: usize) {
    if buffer.capacity() - buffer.len() < room / 2 {
        if !buffer.is_empty() {
            buffer.reserve(room);
        } else if !buffer.try_reclaim(room) {
            // No more than is asked for; `reserve` would add what was read before.
            *buffer = BytesMut::with_capacity(room);
        }
    }
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
    if !buffer.is_empty() {
        return read_some(io, buffer, buffers.head(), cx);
    }
    let mut read = Poll::Pending;
    if io.poll_readable(cx)?.is_ready() {
        if buffer.capacity() == 0 {
            *buffer = buffers.take();
        }
        make_room(buffer, buffers.head());
        read = io.poll_read_now(buffer, cx);
    }
    if read.is_pending() {
        give_back(buffer, buffers);
    }
    read
}

fn give_back(buffer: &mut BytesMut, buffers: &Buffers) {
    let buffer = std::mem::take(buffer);
    // One that was read to its last byte has no room, but still its memory.
    if buffer.capacity() != 0 {
        buffers.put(buffer);
    }
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
