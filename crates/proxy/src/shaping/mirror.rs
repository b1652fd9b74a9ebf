//! Copies of requests, sent beside the originals and forgotten: they never delay or fail an original, their number and size are
//! bounded, and their replies are dropped.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tidegate_config::config;
use tidegate_core::body::{Body, BodyError, Frame, Stream};
use tidegate_core::exchange::Exchange;
use tidegate_core::shaping::{self, MIRRORED};
use tidegate_http1::RequestHead;

use crate::alarm::{Alarm, until};
use crate::live::Live;
use crate::tasks::spawn_local;
use crate::telemetry::{Cell, MirrorCells};
use crate::upstream::attempt::Attempt;
use crate::upstream::call::Tried;
use crate::upstream::service::Service;
use crate::worker::Worker;

/// A route's mirror on one worker.
pub(crate) struct Mirror {
    pub(super) config: config::Mirror,
    pub(super) service: Rc<Service>,
    pub(super) cells: Arc<MirrorCells>,
}

impl Mirror {
    pub(super) fn takes(&self, live: &Live<'_>) -> bool {
        let random = (live.worker.random() >> 64) as u64;
        shaping::is_mirrored(&self.config, &live.exchange.head.fields, random)
    }

    /// Copies a request whose head is as its service shall see it. The copy is sent at once where the body is in memory, else
    /// when the last of it has passed; it is dropped where there are too many copies already, or the body is too long.
    pub(crate) fn copy(&self, worker: &Rc<Worker>, exchange: &mut Exchange) {
        let place = Place::new(&self.cells);
        let too_many = self.cells.under_way.load() > self.config.max as u64;
        if too_many || exchange.body.length().is_some_and(|length| length > self.config.buffer) {
            return;
        }
        let mut head = exchange.head.clone();
        // Cannot fail: both are constants.
        head.fields.set(MIRRORED, b"1").ok();
        let copy = Copy { head, service: Rc::clone(&self.service), worker: Rc::clone(worker), place };
        if let Some(bytes) = exchange.body.replayable() {
            copy.send(Body::full(bytes));
        } else {
            let body = std::mem::take(&mut exchange.body);
            let recording = Recording { body, bytes: Vec::new(), limit: self.config.buffer, copy: Some(copy) };
            exchange.body = Body::stream(recording);
        }
    }
}

/// A copy's place among those that are under way. It counts what became of the copy when it is dropped, whoever drops it.
struct Place {
    cells: Arc<MirrorCells>,
    result: fn(&MirrorCells) -> &Cell,
}

impl Place {
    fn new(cells: &Arc<MirrorCells>) -> Self {
        cells.under_way.up();
        Self { cells: Arc::clone(cells), result: |cells| &cells.dropped }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.cells.under_way.down();
        (self.result)(&self.cells).up();
    }
}

/// A request that waits for its body, or is under way to the mirror.
struct Copy {
    head: RequestHead,
    service: Rc<Service>,
    worker: Rc<Worker>,
    place: Place,
}

impl Copy {
    /// Sends it from a task of its own, for no longer than the service may be silent. A worker that ends does not wait for it.
    fn send(mut self, body: Body) {
        spawn_local(async move {
            self.place.result = |cells| &cells.failed;
            let worker = Rc::clone(&self.worker);
            let deadline = worker.clock.now() + self.service.plan.config.timeouts.read;
            until(&worker.clock, deadline, self.exchange(body, deadline)).await;
        })
        .detach();
    }

    /// One call, whose reply is read to its end, so that the connection can be used again.
    async fn exchange(&mut self, body: Body, deadline: Instant) {
        let Self { head, service, worker, place } = self;
        let alarm = Rc::new(Alarm::new(&worker.clock).into());
        let mut attempt = Attempt::undriven(head, body, service.plan.config.timeouts, (&worker.means, &alarm));
        attempt.deadline = Some(deadline);
        if let Ok(mut reply) = service.call(&mut attempt, &mut Tried::default()).await {
            place.result = |cells| &cells.sent;
            while let Ok(Some(_)) = reply.body.data().await {}
        }
    }
}

/// A body on its way to its own service, of which a copy is kept. Trailers are not copied.
struct Recording {
    body: Body,
    bytes: Vec<u8>,
    limit: u64,
    /// Gone once it was sent, or cannot be sent any more.
    copy: Option<Copy>,
}

impl Recording {
    fn keep(&mut self, data: &[u8]) {
        if (self.bytes.len() + data.len()) as u64 > self.limit {
            self.give_up();
        } else if self.copy.is_some() {
            self.bytes.extend_from_slice(data);
        }
    }

    fn give_up(&mut self) {
        self.bytes = Vec::new();
        self.copy = None;
    }

    fn end(&mut self) {
        if let Some(copy) = self.copy.take() {
            copy.send(Body::full(std::mem::take(&mut self.bytes)));
        }
    }
}

impl Stream for Recording {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let polled = self.body.poll_frame(cx);
        match &polled {
            Poll::Pending => return polled,
            Poll::Ready(Some(Ok(Frame::Data(data)))) => self.keep(data),
            Poll::Ready(Some(Ok(Frame::Trailers(_))) | None) => self.end(),
            Poll::Ready(Some(Err(_))) => self.give_up(),
        }
        if self.body.is_end() {
            self.end();
        }
        polled
    }

    fn poll_progress(&mut self, cx: &mut Context<'_>) {
        self.body.poll_progress(cx);
    }

    fn limit(&mut self, bytes: Option<u64>) {
        self.body.limit(bytes);
    }

    fn length(&self) -> Option<u64> {
        self.body.length()
    }

    fn is_end(&self) -> bool {
        self.body.is_end()
    }
}
