//! Access that is renewed: once for each refresh token, however many requests want it, because a provider takes a token once and may take a second
//! time for a theft (RFC 9700, 4.14.2). It is done beside requests, so that a browser that goes away loses nothing.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;
use tidegate_core::policy::{Local, World};
use tokio::sync::{Notify, watch};

use super::provider::Provider;
use super::tokens::{Refusal, Tokens};
use crate::shared::json::Object;
use crate::shared::waiting::within;

/// Renewals that are known at once.
const MOST: usize = 10_000;

/// Renewals that the provider is asked for at the same time.
const AT_ONCE: usize = 32;

/// How long a renewal is remembered: for requests that were sent before the browser got the new session.
const MEMORY: Duration = Duration::from_mins(1);

/// After a failure that may pass it is tried again no sooner.
const PAUSE: Duration = Duration::from_secs(5);

/// What came of a renewal.
#[derive(Clone)]
pub(super) enum Renewal {
    /// There is new access.
    Renewed(Arc<Renewed>),
    /// There is none any more.
    Over,
    /// The provider cannot tell now. It may have given another refresh token all the same, and will not take the old one again.
    Unavailable(Option<Arc<str>>),
}

/// What is new.
pub(super) struct Renewed {
    pub(super) tokens: Tokens,
    /// What is claimed of whose it is, if the provider said it again.
    pub(super) claims: Option<Object>,
}

impl Renewed {
    /// Whether it is of the same user: nobody becomes somebody else (OpenID Connect Core 1.0, 12.2).
    pub(super) fn is_of(&self, subject: &str) -> bool {
        self.claims.as_ref().is_none_or(|claims| claims.get("sub").and_then(Value::as_str) == Some(subject))
    }
}

/// A refresh token, as it is known here.
type Print = [u8; 32];

/// All renewals.
#[derive(Default)]
pub(super) struct Refreshes {
    state: Mutex<State>,
    wanted: Notify,
}

#[derive(Default)]
struct State {
    flights: HashMap<Print, Flight>,
    waiting: VecDeque<(Print, String)>,
}

struct Flight {
    outcome: watch::Sender<Option<Renewal>>,
    /// When it may be forgotten; `None` as long as it goes on.
    until: Option<Instant>,
}

impl Refreshes {
    /// What comes of renewing with this token, waiting for it no longer than `patience`.
    pub(super) async fn renew(&self, token: &str, patience: Duration, world: &dyn World) -> Renewal {
        let now = world.now();
        let Some(mut outcome) = self.join(token, now) else { return Renewal::Unavailable(None) };
        let come = within(world, now + patience, outcome.wait_for(Option::is_some)).await;
        come.and_then(|outcome| outcome.ok().and_then(|outcome| outcome.clone())).unwrap_or(Renewal::Unavailable(None))
    }

    fn join(&self, token: &str, now: Instant) -> Option<watch::Receiver<Option<Renewal>>> {
        let print = print(token)?;
        let mut state = self.state();
        let is_alive = |flight: &Flight| flight.until.is_none_or(|until| now < until);
        if let Some(flight) = state.flights.get(&print).filter(|flight| is_alive(flight)) {
            return Some(flight.outcome.subscribe());
        }
        state.flights.retain(|_, flight| is_alive(flight));
        if state.flights.len() >= MOST {
            return None;
        }
        let (outcome, receiver) = watch::channel(None);
        state.flights.insert(print, Flight { outcome, until: None });
        state.waiting.push_back((print, token.to_owned()));
        drop(state);
        self.wanted.notify_one();
        Some(receiver)
    }

    /// Asks the provider for whatever is wanted, for ever.
    pub(super) async fn go_on(&self, provider: &Provider, world: &dyn World) {
        let mut going: Vec<Local<'_, ()>> = Vec::new();
        loop {
            let mut wanted = pin!(self.wanted.notified());
            poll_fn(|cx| {
                self.advance(&mut going, (provider, world), cx);
                wanted.as_mut().poll(cx)
            })
            .await;
        }
    }

    /// Lets all that are under way go on, and begins more while there is room.
    fn advance<'a>(
        &'a self,
        going: &mut Vec<Local<'a, ()>>,
        (provider, world): (&'a Provider, &'a dyn World),
        cx: &mut Context<'_>,
    ) {
        loop {
            going.retain_mut(|work| work.as_mut().poll(cx).is_pending());
            let new = self.take(AT_ONCE.saturating_sub(going.len()));
            if new.is_empty() {
                return;
            }
            going.extend(new.into_iter().map(|of| -> Local<'a, ()> { Box::pin(self.run(of, provider, world)) }));
        }
    }

    /// Some of those that somebody waits for. The others are forgotten: a token that was not shown is as good as before, and a new one would
    /// be lost.
    fn take(&self, most: usize) -> Vec<(Print, String)> {
        let mut state = self.state();
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some((print, token)) = state.waiting.pop_front()
        {
            if state.flights.get(&print).is_some_and(|flight| flight.outcome.receiver_count() > 0) {
                taken.push((print, token));
            } else {
                state.flights.remove(&print);
            }
        }
        taken
    }

    async fn run(&self, (print, token): (Print, String), provider: &Provider, world: &dyn World) {
        let outcome = provider.renewed(&token, world).await;
        let now = world.now();
        let mut state = self.state();
        let memory = match &outcome {
            Renewal::Unavailable(None) => PAUSE,
            Renewal::Unavailable(Some(other)) => {
                // The provider is given its rest for the other token too.
                let (outcome, _) = watch::channel(Some(Renewal::Unavailable(None)));
                let flight = Flight { outcome, until: Some(now + PAUSE) };
                if let Some(other) = self::print(other) {
                    state.flights.insert(other, flight);
                }
                MEMORY
            }
            Renewal::Renewed(_) | Renewal::Over => MEMORY,
        };
        if let Some(flight) = state.flights.get_mut(&print) {
            flight.until = Some(now + memory);
            flight.outcome.send_replace(Some(outcome));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn print(token: &str) -> Option<Print> {
    digest(&SHA256, token.as_bytes()).as_ref().try_into().ok()
}

impl Provider {
    async fn renewed(&self, token: &str, world: &dyn World) -> Renewal {
        let shown = [("grant_type", "refresh_token"), ("refresh_token", token)];
        let mut other = None;
        let renewed = match self.tokens(&shown, world).await {
            Ok(tokens) => {
                other = tokens.refresh_token.as_deref().filter(|other| *other != token).map(Arc::from);
                self.claims(&tokens, None, world).await.map(|claims| Renewed { tokens, claims })
            }
            Err(refusal) => Err(refusal),
        };
        let way = &self.place.way;
        match renewed {
            Ok(renewed) => Renewal::Renewed(Arc::new(renewed)),
            Err(Refusal::Worthless(reason)) => {
                tracing::debug!(%way, reason, "a session is over");
                Renewal::Over
            }
            Err(Refusal::Unavailable(reason)) => {
                tracing::warn!(%way, reason, "a session cannot be renewed now");
                Renewal::Unavailable(other)
            }
        }
    }
}
