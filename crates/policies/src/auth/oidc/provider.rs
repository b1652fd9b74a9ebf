//! A provider: what it says of itself (OpenID Connect Discovery 1.0), fetched again and again, and its keys. It may be down when the gateway
//! starts; and nothing is ever asked at an address that the configuration does not name.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwapOption, Guard};
use bytes::Bytes;
use http::Uri;
use serde_json::Value;
use tidegate_core::policy::{Answer, Call, Job, Local, Shared, World};
use tidegate_http1::RequestHead;
use tokio::sync::Notify;

use super::refresh::Refreshes;
use super::tokens::Verifier;
use crate::origins::without_default_port;
use crate::shared::fetching::{Fetching, MOST_BYTES, Numbers, Published};
use crate::shared::json::{self, Object};
use crate::shared::jwks::{Keys, Source};
use crate::shared::waiting::within;

/// How often it is asked what it is, a tenth more or less.
const REFRESH: Duration = Duration::from_hours(1);

/// How often its keys are fetched.
const KEYS_REFRESH: Duration = Duration::from_mins(10);

/// Tokens with unknown keys, and logins while nothing is known, cause no more than one question in this time.
const MIN_REFRESH: Duration = Duration::from_secs(5);

/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(32);

/// Bytes of a URL that it names.
const MOST_URL: usize = 2048;

/// How the gateway proves to the provider who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientAuth {
    /// By `Authorization` (RFC 6749, 2.3.1).
    Basic,
    /// In the body.
    Post,
    /// Not at all.
    Public,
}

/// The gateway as the provider knows it. It has no `Debug`: it holds a secret.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) auth: ClientAuth,
}

/// Where a provider is.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Who asks.
    pub(super) way: Arc<str>,
    /// Letter for letter.
    pub(super) issuer: String,
    /// The path and query of what it says of itself.
    pub(super) target: String,
    /// Origins that are asked, each with its service. The first one is the issuer's.
    pub(super) origins: Vec<(String, Arc<str>)>,
    /// How long an answer may take.
    pub(super) timeout: Duration,
    /// Whether it is asked for claims that its ID tokens do not have.
    pub(super) userinfo: bool,
}

/// What is asked, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) service: Arc<str>,
    pub(super) target: String,
}

/// What a provider says of itself.
pub(super) struct Metadata {
    /// Where browsers log in.
    pub(super) authorization: String,
    /// Where browsers log out.
    pub(super) end_session: Option<String>,
    pub(super) token: Endpoint,
    pub(super) userinfo: Option<Endpoint>,
    /// Whether it says with each answer who it is (RFC 9207).
    pub(super) says_issuer: bool,
    pub(super) keys: Arc<Keys>,
    jwks: Endpoint,
}

/// A provider.
pub(super) struct Provider {
    pub(super) place: Place,
    pub(super) client: Client,
    pub(super) verifier: Verifier,
    pub(super) refreshes: Refreshes,
    known: ArcSwapOption<Metadata>,
    /// There are other keys.
    changed: Notify,
    /// Somebody wants to know now.
    wanted: Notify,
    shared: Arc<Shared>,
    numbers: Numbers,
}

impl Provider {
    /// Nothing is known of it until the job has asked.
    pub(super) fn new(place: Place, client: Client, verifier: Verifier, shared: &Arc<Shared>) -> Self {
        let names = ["tidegate_oidc_last_success_timestamp_seconds", "tidegate_oidc_discovery_failures_total"];
        let numbers = Numbers::new(shared.gauges(), &place.way, names);
        Self {
            place,
            client,
            verifier,
            refreshes: Refreshes::default(),
            known: ArcSwapOption::empty(),
            changed: Notify::new(),
            wanted: Notify::new(),
            shared: Arc::clone(shared),
            numbers,
        }
    }

    /// What is known of it; `None` as long as it never answered. Then it is asked soon.
    pub(super) fn known(&self) -> Option<Arc<Metadata>> {
        let known: Guard<Option<Arc<Metadata>>> = self.known.load();
        if known.is_none() {
            self.wanted.notify_one();
        }
        known.clone()
    }

    /// Asks something of it.
    pub(super) async fn ask(
        &self,
        service: &str,
        head: RequestHead,
        body: Bytes,
        world: &dyn World,
    ) -> Result<Answer, String> {
        let deadline = world.now() + self.place.timeout;
        let call = Call { head, body, deadline, retry: None, most: MOST_BYTES };
        world.call(service, call).await.map_err(|error| error.to_string())
    }

    async fn discover(&self, world: &dyn World) {
        let Place { way, issuer, target, origins, timeout, .. } = &self.place;
        // The issuer's own is always there.
        let Some((_, service)) = origins.first() else { return };
        let (timeout, refresh, longest_pause, numbers) = (*timeout, REFRESH, LONGEST_PAUSE, &self.numbers);
        let mut fetching = Fetching::new(Published { service, target, timeout, refresh, longest_pause, numbers });
        loop {
            let began = world.now();
            if let Err((reason, failed)) = fetching.once(world, |body| self.take_over(body)).await {
                tracing::warn!(%way, %issuer, reason, failed, "the provider cannot be asked what it is, what is known stays");
            }
            self.rest(world, began, fetching.due(world)).await;
        }
    }

    /// Waits until `due`, or until somebody wants to know what is not known yet.
    async fn rest(&self, world: &dyn World, began: Instant, due: Instant) {
        while world.now() < due {
            if within(world, due, self.wanted.notified()).await.is_some() && self.known.load().is_none() {
                return world.sleep(due.min(began + MIN_REFRESH)).await;
            }
        }
    }

    /// The keys go on as they are for as long as they are in the same place.
    fn take_over(&self, body: &[u8]) -> Result<(), String> {
        let said = json::object(body).map_err(|error| format!("the answer cannot be read: {error}"))?;
        let before = self.known.load_full();
        let metadata = self.read(&said, before.as_deref())?;
        let are_new = before.is_none_or(|before| !Arc::ptr_eq(&before.keys, &metadata.keys));
        self.known.store(Some(Arc::new(metadata)));
        if are_new {
            self.changed.notify_one();
        }
        Ok(())
    }

    fn read(&self, said: &Object, before: Option<&Metadata>) -> Result<Metadata, String> {
        let issuer = said.get("issuer").and_then(Value::as_str).unwrap_or_default();
        if issuer != self.place.issuer {
            return Err(format!("the provider calls itself `{issuer:.200}`: `issuer` must be that, letter for letter"));
        }
        let jwks = self.locate("jwks_uri", text(said, "jwks_uri")?)?;
        let userinfo = said.get("userinfo_endpoint").and_then(Value::as_str);
        let end_session = said.get("end_session_endpoint").and_then(Value::as_str);
        Ok(Metadata {
            authorization: self.for_browsers("authorization_endpoint", text(said, "authorization_endpoint")?)?,
            end_session: end_session.map(|url| self.for_browsers("end_session_endpoint", url)).transpose()?,
            token: self.locate("token_endpoint", text(said, "token_endpoint")?)?,
            // Nobody may need it.
            userinfo: userinfo.and_then(|url| self.locate("userinfo_endpoint", url).ok()),
            says_issuer: said.get("authorization_response_iss_parameter_supported") == Some(&Value::Bool(true)),
            keys: match before {
                Some(before) if before.jwks == jwks => Arc::clone(&before.keys),
                _ => Arc::new(Keys::fetched(self.source(&jwks), self.shared.gauges())),
            },
            jwks,
        })
    }

    fn source(&self, jwks: &Endpoint) -> Source {
        Source {
            way: Arc::clone(&self.place.way),
            address: format!("{} {}", jwks.service, jwks.target),
            service: Arc::clone(&jwks.service),
            target: jwks.target.clone(),
            algorithms: self.verifier.algorithms.clone(),
            refresh: KEYS_REFRESH,
            timeout: self.place.timeout,
            min_refresh: MIN_REFRESH,
        }
    }

    /// The service that stands for a URL's origin, and the rest of the URL.
    fn locate(&self, name: &str, url: &str) -> Result<Endpoint, String> {
        let (origin, target) = split(url).ok_or_else(|| format!("`{name}` is not a URL that can be asked"))?;
        let known = self.place.origins.iter().find(|(known, _)| *known == origin);
        let (_, service) =
            known.ok_or_else(|| format!("`{name}` is at {origin}, which is not asked unless `origins` names it"))?;
        Ok(Endpoint { service: Arc::clone(service), target })
    }

    /// A URL that browsers are sent to.
    fn for_browsers(&self, name: &str, url: &str) -> Result<String, String> {
        let (origin, _) = split(url).ok_or_else(|| format!("`{name}` is not a URL"))?;
        let is_safe = origin.starts_with("https://") || self.place.issuer.starts_with("http://");
        let is_plain = url.len() <= MOST_URL && url.bytes().all(|byte| byte.is_ascii_graphic()) && !url.contains('#');
        if is_safe && is_plain { Ok(url.to_owned()) } else { Err(format!("`{name}` is not a URL to send browsers to")) }
    }

    /// Fetches keys, from wherever they are now.
    async fn keep_keys(&self, world: &dyn World) {
        loop {
            match self.known.load().as_ref().map(|known| Arc::clone(&known.keys)) {
                None => self.changed.notified().await,
                Some(keys) => either(keys.run(world), self.other_than(&keys)).await,
            }
        }
    }

    /// Ends when the keys are others.
    async fn other_than(&self, keys: &Arc<Keys>) {
        while self.known.load().as_ref().is_some_and(|known| Arc::ptr_eq(&known.keys, keys)) {
            self.changed.notified().await;
        }
    }
}

impl Job for Provider {
    fn run<'a>(&'a self, world: &'a dyn World) -> Local<'a, ()> {
        Box::pin(async move {
            let (keys, refreshes) = (self.keep_keys(world), self.refreshes.go_on(self, world));
            either(self.discover(world), either(keys, refreshes)).await;
        })
    }
}

/// Lets both go on until one of them ends.
async fn either(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (std::pin::pin!(one), std::pin::pin!(other));
    poll_fn(|cx| match one.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(()),
        Poll::Pending => other.as_mut().poll(cx),
    })
    .await;
}

fn text<'a>(said: &'a Object, name: &str) -> Result<&'a str, String> {
    said.get(name).and_then(Value::as_str).ok_or_else(|| format!("the provider does not say its `{name}`"))
}

/// The origin of a URL, as browsers write it, and its path and query; `None` if it is no URL of a server.
pub(super) fn split(url: &str) -> Option<(String, String)> {
    let url: Uri = url.parse().ok()?;
    let scheme = url.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"))?;
    let authority =
        url.authority().filter(|authority| !authority.as_str().contains('@'))?.as_str().to_ascii_lowercase();
    let target = url.path_and_query().map_or("/", |target| target.as_str());
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    Some((format!("{scheme}://{}", without_default_port(scheme, &authority)), target))
}
