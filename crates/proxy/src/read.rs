//! Reading from a connection into a buffer that makes room only for what is expected.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

/// One read of what fits, after making room for about `room` bytes. `Ok(0)` is the end of the stream.
#[inline]
pub(crate) fn read_some<R: AsyncRead + Unpin>(
    io: &mut R,
    buffer: &mut BytesMut,
    room: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    if buffer.capacity() - buffer.len() < room / 2 {
        buffer.reserve(room);
    }
    pin!(io.read_buf(buffer)).poll(cx)
}
