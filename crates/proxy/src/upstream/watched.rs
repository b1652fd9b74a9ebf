//! A reply's body under the eyes of who called: an endpoint that breaks it off has failed, and the call's place in the service is
//! taken until the body ends.

use std::task::{Context, Poll};

use tidegate_core::body::{Body, BodyError, Frame, Stream};
use tidegate_core::clock::Clock;
use tidegate_core::cluster::Ticket;
use tidegate_core::concurrency::Slot;

use super::attempt::Reply;
use super::shared::Counted;

/// What a call holds until its reply has ended.
pub(crate) struct Hold {
    pub(crate) ticket: Option<Ticket>,
    /// Present where the service's concurrency is limited.
    pub(crate) _slot: Option<Slot>,
    /// Present where the strategy wants to know how many requests there are.
    pub(crate) _counted: Option<Counted>,
}

/// Lets `reply` keep `hold`. A body that is here as a whole is no longer the endpoint's concern.
pub(crate) fn watch(reply: &mut Reply, hold: Hold, clock: &Clock) {
    if let Some(tunnel) = &mut reply.tunnel {
        let inner = std::mem::replace(&mut tunnel.hold, Box::new(()));
        tunnel.hold = Box::new((inner, hold));
    } else if !reply.body.is_whole() {
        let body = std::mem::take(&mut reply.body);
        reply.body = Body::stream(Watched { body, hold: Some(hold), clock: clock.clone() });
    }
}

struct Watched {
    body: Body,
    hold: Option<Hold>,
    clock: Clock,
}

impl Stream for Watched {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let polled = self.body.poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Err(error))) => {
                let ticket = self.hold.as_mut().and_then(|hold| hold.ticket.as_mut());
                if let Some(ticket) = ticket.filter(|_| error.is_upstream()) {
                    ticket.broken(self.clock.now());
                }
                self.hold = None;
            }
            Poll::Ready(None) => self.hold = None,
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        polled
    }

    fn poll_progress(&mut self, cx: &mut Context<'_>) {
        self.body.poll_progress(cx);
    }

    fn length(&self) -> Option<u64> {
        self.body.length()
    }

    fn is_end(&self) -> bool {
        self.body.is_end()
    }
}
