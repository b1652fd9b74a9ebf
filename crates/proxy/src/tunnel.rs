//! An upgraded connection: bytes both ways until both sides are done, one is gone, or nothing moves for too long.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

use crate::io::Io;
use crate::listener::wire::Wire;
use crate::read::read_some;
use crate::upstream::attempt::Tunnel;
use crate::worker::Worker;

/// Carries bytes both ways. Tells all along how many came from the client and how many went there, for this may be cut off.
pub(crate) async fn run(
    client: &RefCell<Wire>,
    tunnel: Box<Tunnel>,
    (worker, idle): (&Worker, Duration),
    mut told: impl FnMut(u64, u64),
) {
    let Tunnel { io: mut upstream, early, hold } = *tunnel;
    let room = worker.buffers.head();
    let mut up = Half::new(std::mem::take(&mut client.borrow_mut().inbox), room);
    let mut down = Half::new(early, room);
    let mut last = worker.clock.now();
    std::future::poll_fn(|cx| {
        let wire = &mut *client.borrow_mut();
        let mut wrote = 0;
        // The 101 itself leaves first.
        match wire.outbox.poll_flush(&mut wire.io, cx, &mut wrote) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(()),
            Poll::Pending => return wire.alarm.borrow_mut().poll(cx, last + idle),
        }
        let before = up.moved + down.moved;
        let upward = up.poll(&mut wire.io, &mut upstream, cx);
        let downward = down.poll(&mut upstream, &mut wire.io, cx);
        told(up.moved, down.moved);
        let (done_up, done_down) = (upward.is_ready(), downward.is_ready());
        let failed = |half: &Poll<Result<(), Gone>>| matches!(half, Poll::Ready(Err(Gone)));
        if failed(&upward) || failed(&downward) || done_up && done_down {
            return Poll::Ready(());
        }
        if up.moved + down.moved != before {
            last = worker.clock.now();
        }
        wire.alarm.borrow_mut().poll(cx, last + idle)
    })
    .await;
    drop(hold);
}

/// One side is gone.
struct Gone;

/// One direction.
struct Half {
    buffer: BytesMut,
    /// For one read, in bytes.
    room: usize,
    /// The source has ended.
    ended: bool,
    /// The end was told to the other side.
    closed: bool,
    moved: u64,
}

impl Half {
    fn new(buffer: BytesMut, room: usize) -> Self {
        Self { buffer, room, ended: false, closed: false, moved: 0 }
    }

    fn poll_write(&mut self, to: &mut Io, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        while !self.buffer.is_empty() {
            let wrote = ready!(Pin::new(&mut *to).poll_write(cx, &self.buffer)).unwrap_or(0);
            if wrote == 0 {
                return Poll::Ready(Err(Gone));
            }
            self.buffer.advance(wrote);
            self.moved += wrote as u64;
        }
        Poll::Ready(Ok(()))
    }

    fn poll(&mut self, from: &mut Io, to: &mut Io, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        if self.closed {
            return Poll::Ready(Ok(()));
        }
        loop {
            if let Err(gone) = ready!(self.poll_write(to, cx)) {
                return Poll::Ready(Err(gone));
            }
            if self.ended {
                let shut = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                self.closed = true;
                return Poll::Ready(shut.map_err(|_| Gone));
            }
            if ready!(Pin::new(&mut *to).poll_flush(cx)).is_err() {
                return Poll::Ready(Err(Gone));
            }
            match ready!(read_some(from, &mut self.buffer, self.room, cx)) {
                Ok(0) => self.ended = true,
                Ok(_) => {}
                Err(_) => return Poll::Ready(Err(Gone)),
            }
        }
    }
}
