//! One call of a service: which endpoint takes it, for how long, and whether it is tried again. Whatever calls upstream, driven
//! by a client or not, goes through [`Service::call`].

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tidegate_config::config::{self, UpstreamProtocol};
use tidegate_core::balance::Pick;
use tidegate_core::body::{Body, Recording};
use tidegate_core::clock::Clock;
use tidegate_core::cluster::{Member, Outcome, Refusal, Ticket};
use tidegate_core::concurrency::{Entry, Slot};
use tidegate_core::retry::{self, Decision};
use tidegate_http1::Known;

use super::attempt::{Attempt, Failure, Reply, TryLimit};
use super::endpoint::Endpoint;
use super::service::{Seen, Service, over};
use super::watched::{Hold, watch};
use crate::alarm::{Alarm, pause, until};
use crate::telemetry::{self, PoolCells};

/// How often one looks whether the endpoint that is waited for is still in service.
const LOOK: Duration = Duration::from_secs(1);

/// How a call went, besides its reply: for the log.
#[derive(Default)]
pub(crate) struct Tried {
    pub(crate) attempts: u32,
    /// When the last one ended: with the reply's head, or in failure.
    pub(crate) ended: Option<Instant>,
    pub(crate) endpoint: Option<Rc<Endpoint>>,
    /// Of the reply, until that holds it.
    ticket: Option<Ticket>,
}

/// What a request's body leaves behind for another try.
enum Spare {
    /// All of it, in one piece.
    Whole(bytes::Bytes),
    /// What was read of it, and the rest of the stream.
    Recording(Recording),
    /// Nothing, unless nothing was taken.
    None,
}

impl Spare {
    /// `keep` is the longest stream that is worth keeping.
    fn of(body: &mut Body, keep: Option<u64>) -> Self {
        match (body.replayable(), keep) {
            (Some(whole), _) => Self::Whole(whole),
            (None, Some(limit)) => Self::Recording(body.record(limit)),
            (None, None) => Self::None,
        }
    }

    /// The body for another try, after one that failed and handed back `left`.
    fn after_failure(&self, left: &mut Body) -> Option<Body> {
        let left = std::mem::take(left);
        match self {
            Self::Whole(whole) => Some(Body::full(whole.clone())),
            Self::Recording(recording) => {
                drop(left);
                recording.replay()
            }
            // A stream of which nothing was taken was handed back.
            Self::None => (!left.is_end()).then_some(left),
        }
    }

    /// Whether there may be another try while this one waits.
    fn is_kept(&self) -> bool {
        match self {
            Self::Whole(_) => true,
            Self::Recording(recording) => !recording.is_torn(),
            Self::None => false,
        }
    }

    /// The body for another try, after one that got a reply, which may still be reading the request.
    fn after_reply(&self) -> Option<Body> {
        match self {
            Self::Whole(whole) => Some(Body::full(whole.clone())),
            Self::Recording(recording) if recording.is_whole() => recording.replay(),
            Self::Recording(_) | Self::None => None,
        }
    }
}

/// Where the tries of one call have been.
struct Trail {
    /// Members that were tried.
    used: Vec<u64>,
    /// How often the request may have been seen by an endpoint.
    tries: u32,
    /// When the next one begins.
    now: Instant,
}

impl Trail {
    fn new(now: Instant) -> Self {
        Self { used: Vec::new(), tries: 0, now }
    }
}

impl Service {
    /// Sends a request to an endpoint and returns the reply once its head is there.
    ///
    /// An endpoint that cannot be connected to is passed over for the next, as long as there is one. Other failures, and replies
    /// that the service's `retry` names, are tried again within its bounds.
    pub(crate) async fn call(&self, attempt: &mut Attempt<'_>, tried: &mut Tried) -> Result<Reply, Failure> {
        let slot = match &self.plan.config.concurrency {
            Some(limit) => Some(Box::pin(self.enter(limit, attempt)).await?),
            None => None,
        };
        let counted = self.plan.shared.count(&self.plan.config.balancing);
        let now = attempt.clock.now();
        self.plan.budget.request(now);
        let mut reply = match self.hedges_after(attempt) {
            Some(after) => Box::pin(self.hedged(attempt, tried, after)).await?,
            None => self.tries(attempt, tried, Trail::new(now)).await?,
        };
        watch(&mut reply, Hold { ticket: tried.ticket.take(), _slot: slot, _counted: counted }, attempt.clock);
        Ok(reply)
    }

    /// A place among the requests that the service takes at once.
    async fn enter(&self, limit: &config::Concurrency, attempt: &Attempt<'_>) -> Result<Slot, Failure> {
        let entering = match self.plan.shared.limit.enter() {
            Entry::Entered(slot) => return Ok(slot),
            Entry::Queued(entering) => entering,
            Entry::Full => return Err(Failure::Saturated),
        };
        let patience = attempt.clock.now() + limit.queue_timeout;
        let (at, too_late) = match attempt.deadline {
            Some(deadline) if deadline < patience => (deadline, Failure::DeadlinePassed { at_fault: false }),
            _ => (patience, Failure::Saturated),
        };
        until(attempt.clock, at, entering).await.ok_or(too_late)
    }

    async fn tries(&self, attempt: &mut Attempt<'_>, tried: &mut Tried, mut trail: Trail) -> Result<Reply, Failure> {
        let repeatable = repeatable(attempt);
        let keep = worth_keeping(attempt).filter(|_| repeatable || self.may_disown());
        let spare = Spare::of(&mut attempt.body, keep);
        loop {
            let (seen, mut ticket) = self.choose(attempt, &trail)?;
            let endpoint = seen.endpoints.get(ticket.index).ok_or(Failure::NoEndpoint { again_in: None })?;
            tried.attempts += 1;
            tried.endpoint = Some(Rc::clone(endpoint));
            if let Some(at) = attempt.at {
                at.set(Some(endpoint.id()));
            }
            attempt.moves_on = repeatable && !matches!(spare, Spare::None) && may_outwait(attempt.retry, &trail);
            attempt.try_limit = try_limit(attempt, trail.now);
            attempt.try_began = trail.now;
            let result = self.call_in_service(endpoint, attempt, &spare).await;
            let now = result.as_ref().map_or_else(|_| attempt.clock.now(), |reply| reply.at);
            tried.ended = Some(now);
            self.observe(&mut ticket, &result, (trail.now, now));
            trail.now = now;
            let body = match &result {
                Ok(reply) if !is_retryable(reply, attempt) => {
                    tried.ticket = Some(ticket);
                    return result;
                }
                Ok(_) => spare.after_reply(),
                Err(_) => spare.after_failure(&mut attempt.body),
            };
            let replayable = body.is_some();
            attempt.body = body.unwrap_or_default();
            let Some(again) = self.again(&result, attempt, (&mut trail, seen.usable(), replayable)) else {
                tried.ticket = result.is_ok().then_some(ticket);
                return result;
            };
            trail.used.push(endpoint.id());
            drop((result, ticket, seen));
            if !again.is_zero() {
                Box::pin(pause(attempt.clock, again)).await;
                trail.now = attempt.clock.now();
            }
        }
    }

    /// Whether an endpoint may say of a request, after it took a part of its body, that it has not looked at it: any method may be sent
    /// again then (RFC 9113, 8.7).
    fn may_disown(&self) -> bool {
        match self.plan.config.protocol {
            UpstreamProtocol::Http1 => false,
            UpstreamProtocol::Http2 => true,
            UpstreamProtocol::Auto => self.plan.tls.is_some(),
        }
    }

    /// The endpoint for the next try, and the admission to it.
    fn choose(&self, attempt: &Attempt<'_>, trail: &Trail) -> Result<(Rc<Seen>, Ticket), Failure> {
        let now = trail.now;
        let seen = self.seen(now);
        let mut excluded = Vec::new();
        if !trail.used.is_empty() {
            let used = |endpoint: &Rc<Endpoint>| trail.used.contains(&endpoint.id());
            excluded.extend(seen.endpoints.iter().enumerate().filter(|(_, at)| used(at)).map(|(index, _)| index));
        }
        let pick = Pick {
            excluded: &excluded,
            random: attempt.dice.borrow_mut().u64(..),
            affinity: attempt.choice.affinity,
            preferred: attempt.choice.preferred,
            active: self.plan.shared.active.load(Relaxed),
            ..Pick::new(&self.cursor)
        };
        let chosen = match seen.view.choose(&pick, now) {
            // Nobody is left who was not tried: better the same one again than nobody.
            Err(Refusal::AllTried) => seen.view.choose(&Pick { excluded: &[], ..pick }, now),
            chosen => chosen,
        };
        match chosen {
            Ok(ticket) => Ok((seen, ticket)),
            Err(Refusal::Open { retry_after }) => Err(Failure::CircuitOpen { again_in: Some(retry_after) }),
            Err(Refusal::NoEndpoint { retry_after }) => Err(Failure::NoEndpoint { again_in: retry_after }),
            Err(Refusal::AllTried) => Err(Failure::NoEndpoint { again_in: None }),
        }
    }

    /// Tells what judges the endpoint how the try went.
    fn observe(&self, ticket: &mut Ticket, result: &Result<Reply, Failure>, (began, now): (Instant, Instant)) {
        let Some(outcome) = outcome(result) else { return };
        ticket.head(outcome, now);
        if self.plan.config.hedge.is_some() && matches!(outcome, Outcome::Status(_) | Outcome::Timeout) {
            self.plan.shared.latencies.record(now.saturating_duration_since(began), now);
        }
    }

    /// How long to wait before the next try, if there is to be one.
    fn again(
        &self,
        result: &Result<Reply, Failure>,
        attempt: &Attempt<'_>,
        (trail, usable, replayable): (&mut Trail, usize, bool),
    ) -> Option<Duration> {
        let retry = attempt.retry?;
        let outcome = happened(result)?;
        let has_others = trail.used.len() + 1 < usable;
        if outcome == retry::Outcome::Connect && replayable && has_others {
            // Nothing was sent, and another endpoint is there: this was no try of the request.
            self.cells.passed_over.up();
            return Some(Duration::ZERO);
        }
        if matches!(result, Err(Failure::PoolExhausted)) && !has_others {
            // It has waited for a connection as long as it may.
            return None;
        }
        trail.tries += 1;
        let now = trail.now;
        let said = result.as_ref().ok().and_then(|reply| reply.head.fields.value(Known::RetryAfter));
        let tried = retry::Tried {
            outcome,
            method: &attempt.head.method,
            replayable,
            tries: trail.tries,
            left: attempt.deadline.map(|deadline| deadline.saturating_duration_since(now)),
            retry_after: said.and_then(|value| retry::retry_after(value, attempt.clock.wall())),
        };
        let Decision::After(wait) = retry::decide(retry, &tried, attempt.dice.borrow_mut().u64(..)) else {
            return None;
        };
        // Who gave up has paid for it before.
        let paid = matches!(result, Err(Failure::GivenUp)) || self.may_add(attempt.clock, |cells| &cells.retries);
        paid.then_some(wait)
    }

    /// Takes one try more than there are requests out of the budget.
    fn may_add(&self, clock: &Clock, cell: fn(&PoolCells) -> &telemetry::Cell) -> bool {
        let may = self.plan.budget.try_take(clock.now());
        if may {
            cell(&self.cells).up();
        } else {
            self.cells.budget_exhausted.up();
        }
        may
    }

    /// One try at one endpoint, for as long as that is not taken out of service: who waits for it then moves on to another, if the
    /// budget allows.
    async fn call_in_service(
        &self,
        endpoint: &Rc<Endpoint>,
        attempt: &mut Attempt<'_>,
        spare: &Spare,
    ) -> Result<Reply, Failure> {
        let member = endpoint.member.as_deref().filter(|_| attempt.moves_on);
        let (clock, alarm) = (attempt.clock, Rc::clone(attempt.alarm));
        let mut look = attempt.try_began + LOOK;
        let mut call = std::pin::pin!(self.call_endpoint(endpoint, attempt, spare));
        poll_fn(|cx| {
            if let Poll::Ready(done) = call.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            let Some(member) = member else { return Poll::Pending };
            self.poll_lost((member, spare), (clock, &mut alarm.borrow_mut()), &mut look, cx).map(Err)
        })
        .await
    }

    /// Ready if the endpoint has been taken out of service, and a further try is paid for; `look` is when to look next.
    fn poll_lost(
        &self,
        (member, spare): (&Member, &Spare),
        (clock, alarm): (&Clock, &mut Alarm),
        look: &mut Instant,
        cx: &mut Context<'_>,
    ) -> Poll<Failure> {
        while alarm.poll(cx, *look).is_ready() {
            *look += LOOK;
            if member.is_lost() && spare.is_kept() && self.may_add(clock, |cells| &cells.retries) {
                return Poll::Ready(Failure::GivenUp);
            }
        }
        Poll::Pending
    }

    /// One try at one endpoint. A pooled connection that turns out to be closed is replaced once, by a new one, if the service
    /// cannot have seen the request or may see it twice.
    async fn call_endpoint(
        &self,
        endpoint: &Rc<Endpoint>,
        attempt: &mut Attempt<'_>,
        spare: &Spare,
    ) -> Result<Reply, Failure> {
        let (channel, reused) = self.channel(endpoint, attempt, false).await?;
        let failure = match over(channel, attempt).await {
            Ok(reply) => return Ok(reply),
            Err(failure) => failure,
        };
        let Failure::Broken { sent, .. } = failure else { return Err(failure) };
        // A new connection that broke under a request was given up by the service, not by time.
        let may_repeat = !sent || reused && attempt.head.method.is_idempotent();
        if !may_repeat {
            return Err(failure);
        }
        let Some(body) = spare.after_failure(&mut attempt.body) else { return Err(failure) };
        attempt.body = body;
        self.cells.stale.up();
        let (channel, _) = self.channel(endpoint, attempt, true).await?;
        over(channel, attempt).await
    }

    /// When a second try is to be made beside the first: not for requests that may not be sent twice.
    fn hedges_after(&self, attempt: &Attempt<'_>) -> Option<Duration> {
        let hedge = self.plan.config.hedge?;
        if !attempt.head.method.is_idempotent() || attempt.upgrade.is_some() || !attempt.body.is_whole() {
            return None;
        }
        match hedge {
            config::Hedge::After(after) => Some(after),
            config::Hedge::Percentile(share) => self.plan.shared.latencies.percentile(share, attempt.clock.now()),
        }
    }

    /// The first answer of two: the second try begins, elsewhere and within the retry budget, if the first takes longer than
    /// `after`. Whoever comes second is cancelled.
    async fn hedged(&self, attempt: &mut Attempt<'_>, tried: &mut Tried, after: Duration) -> Result<Reply, Failure> {
        let began = attempt.clock.now();
        let at = Cell::new(None);
        let body = attempt.body.replayable().unwrap_or_default();
        let (first_alarm, second_alarm) = (attempt.new_alarm(), attempt.new_alarm());
        let mut first = attempt.twin(Body::full(body.clone()), &first_alarm);
        first.at = Some(&at);
        let mut second = attempt.twin(Body::full(body), &second_alarm);
        let (mut first_tried, mut second_tried) = (Tried::default(), Tried::default());
        let (result, by_second) = {
            let mut one = std::pin::pin!(self.tries(&mut first, &mut first_tried, Trail::new(began)));
            match until(attempt.clock, began + after, one.as_mut()).await {
                Some(done) => (done, false),
                None if !self.may_add(attempt.clock, |cells| &cells.hedges) => (one.await, false),
                None => {
                    let mut trail = Trail::new(attempt.clock.now());
                    trail.used.extend(at.get());
                    let other = std::pin::pin!(self.tries(&mut second, &mut second_tried, trail));
                    race(one, other).await
                }
            }
        };
        if by_second {
            // The first would have taken at least so long: without it, what is learnt would shrink with every hedge.
            let now = attempt.clock.now();
            self.plan.shared.latencies.record(now.saturating_duration_since(began), now);
        }
        let attempts = first_tried.attempts + second_tried.attempts;
        *tried = if by_second { second_tried } else { first_tried };
        tried.attempts = attempts;
        result
    }
}

/// The first of two that succeeds, or the failure of the first; and whether it was the second.
async fn race<T, E>(
    mut first: Pin<&mut impl Future<Output = Result<T, E>>>,
    mut second: Pin<&mut impl Future<Output = Result<T, E>>>,
) -> (Result<T, E>, bool) {
    let mut failures = (None, None);
    poll_fn(|cx| {
        if failures.0.is_none()
            && let Poll::Ready(done) = first.as_mut().poll(cx)
        {
            match done {
                Ok(won) => return Poll::Ready((Ok(won), false)),
                Err(failure) => failures.0 = Some(failure),
            }
        }
        if failures.1.is_none()
            && let Poll::Ready(done) = second.as_mut().poll(cx)
        {
            match done {
                Ok(won) => return Poll::Ready((Ok(won), true)),
                Err(failure) => failures.1 = Some(failure),
            }
        }
        match (&failures.1, failures.0.take()) {
            (Some(_), Some(failure)) => Poll::Ready((Err(failure), false)),
            (_, first) => {
                failures.0 = first;
                Poll::Pending
            }
        }
    })
    .await
}

/// Whether the request may reach an endpoint twice.
fn repeatable(attempt: &Attempt<'_>) -> bool {
    let all = attempt.retry.is_some_and(|retry| retry.methods == config::RetryMethods::All);
    attempt.upgrade.is_none() && (all || attempt.head.method.is_idempotent())
}

/// How long a streamed body may be that is kept for another try.
fn worth_keeping(attempt: &Attempt<'_>) -> Option<u64> {
    let retry = attempt.retry.filter(|retry| retry.attempts > 1 && retry.buffer > 0)?;
    attempt.body.length().is_none_or(|length| length <= retry.buffer).then_some(retry.buffer)
}

/// Whether another try may follow one that takes too long.
fn may_outwait(retry: Option<&config::Retry>, trail: &Trail) -> bool {
    retry.is_some_and(|retry| trail.tries + 1 < retry.attempts && (retry.on.timeout || retry.on.statuses.contains(504)))
}

/// When one try must have its reply's head: the last of them may use all the time that the request has.
fn try_limit(attempt: &Attempt<'_>, now: Instant) -> Option<TryLimit> {
    // Of a body whose length nobody knows, more may come than is kept.
    let fits = attempt.body.length().is_some();
    let time = attempt.retry.filter(|_| attempt.moves_on && fits)?.per_try_timeout?;
    Some(TryLimit { until: now + time, time })
}

/// What the endpoint is to be blamed or praised for; `None` if it had no part in what happened.
fn outcome(result: &Result<Reply, Failure>) -> Option<Outcome> {
    match result {
        Ok(reply) => Some(Outcome::Status(reply.head.status.as_u16())),
        Err(failure) => failure.outcome(),
    }
}

/// The same in the words of who decides about retries.
fn happened(result: &Result<Reply, Failure>) -> Option<retry::Outcome> {
    if let Err(Failure::PoolExhausted) = result {
        // Nothing was sent; whether the endpoint is well, nobody knows.
        return Some(retry::Outcome::Connect);
    }
    Some(match (outcome(result)?, result) {
        (Outcome::Connect, _) => retry::Outcome::Connect,
        (Outcome::Reset, Err(Failure::Broken { sent: false, .. })) => retry::Outcome::Reset { sent: false },
        (Outcome::Reset, _) => retry::Outcome::Reset { sent: true },
        (Outcome::Timeout, _) => retry::Outcome::Timeout,
        (Outcome::Status(status), _) => retry::Outcome::Status(status),
    })
}

/// Whether the reply is one that is worth another try.
fn is_retryable(reply: &Reply, attempt: &Attempt<'_>) -> bool {
    attempt.retry.is_some_and(|retry| retry.on.statuses.contains(reply.head.status.as_u16()))
}
