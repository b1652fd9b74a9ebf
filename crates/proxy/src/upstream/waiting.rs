//! The deadlines of a request whose reply's head is awaited, whatever protocol it was sent by.

use std::task::{Context, Poll};
use std::time::Instant;

use super::attempt::{Attempt, Failure};
use super::sender::Sending;

/// Since when nothing has moved.
#[derive(Default)]
pub(crate) struct Waiting {
    silent_since: Option<Instant>,
    stalled_since: Option<Instant>,
    /// It is the client that is waited for.
    is_client: bool,
    /// Instead of the try's own end, if the client was waited for.
    try_until: Option<Instant>,
}

impl Waiting {
    /// The endpoint took something of the request.
    pub(crate) fn request_moved(&mut self) {
        self.silent_since = None;
        self.stalled_since = None;
    }

    /// The endpoint sent something.
    pub(crate) fn reply_moved(&mut self) {
        self.silent_since = None;
    }

    /// Whether most of the request's time was spent on waiting for the endpoint, and not for the client, a queue or others.
    fn took_most(&self, sending: Sending, attempt: &Attempt<'_>) -> bool {
        let since = match sending {
            Sending::AwaitsBody => None,
            Sending::AwaitsUpstream => self.stalled_since,
            Sending::Done => self.silent_since,
        };
        let waited = since.map(|since| attempt.clock.now().saturating_duration_since(since));
        let all = attempt.deadline.map(|deadline| deadline.saturating_duration_since(attempt.began));
        waited.zip(all).is_some_and(|(waited, all)| waited * 2 >= all)
    }

    /// Ready when the wait is over, and why.
    pub(crate) fn poll(&mut self, sending: Sending, attempt: &Attempt<'_>, cx: &mut Context<'_>) -> Poll<Failure> {
        let mut alarm = attempt.alarm.borrow_mut();
        if let Some(deadline) = attempt.deadline
            && alarm.poll(cx, deadline).is_ready()
        {
            return Poll::Ready(Failure::DeadlinePassed { at_fault: self.took_most(sending, attempt) });
        }
        let was_client = std::mem::replace(&mut self.is_client, sending == Sending::AwaitsBody);
        if let Some(limit) = attempt.try_limit.filter(|_| !self.is_client) {
            if was_client {
                self.try_until = Some(attempt.clock.now() + limit.time);
            }
            if alarm.poll(cx, self.try_until.unwrap_or(limit.until)).is_ready() {
                return Poll::Ready(Failure::TryTimeout);
            }
        }
        let (since, patience, failure) = match sending {
            Sending::AwaitsBody => return Poll::Pending,
            Sending::AwaitsUpstream => (&mut self.stalled_since, attempt.write, Failure::WriteTimeout),
            Sending::Done => (&mut self.silent_since, attempt.read, Failure::ReadTimeout),
        };
        let since = *since.get_or_insert_with(|| attempt.clock.now());
        if alarm.poll(cx, since + patience).is_ready() {
            return Poll::Ready(failure);
        }
        Poll::Pending
    }
}
