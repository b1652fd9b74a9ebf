//! `oidc`: people who log in at an OpenID Connect provider with their browser, and are known by a cookie from then on. Each file has one part:
//! what is written, the provider, the login, the tokens, the session with its cookies, its renewal and its end.

mod browser;
mod cookies;
mod ended;
mod file;
mod login;
mod logout;
mod provider;
mod reach;
mod refresh;
mod seal;
mod session;
#[cfg(test)]
mod tests;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tidegate_core::exchange::Exchange;
use tidegate_core::policy::{Stop, World};
use tidegate_core::rejection::{Rejection, RejectionKind};
use tidegate_http1::{Known, ResponseHead};

use self::cookies::{Cookies, TooLarge};
use self::ended::Ended;
pub(crate) use self::file::OidcFile;
use self::provider::Provider;
use self::refresh::Renewal;
use self::seal::{Purpose, Seal};
use self::session::{Due, Keeping, Lifetimes, Session};
use super::jwt::cache::{Cache, Print};
use super::way::{Finding, Proof, Way};

/// The way.
pub(crate) struct Oidc {
    name: Arc<str>,
    provider: Arc<Provider>,
    ended: Arc<Ended>,
    /// Separated by spaces.
    scopes: String,
    /// What the provider is told besides.
    parameters: Vec<(String, String)>,
    paths: Paths,
    cookies: Cookies,
    seal: Seal,
    keeping: Keeping,
    lifetimes: Lifetimes,
    /// Whose cookies were opened, until something is to be done about one.
    opened: Cache,
}

/// Sessions that each worker remembers.
const REMEMBERED: usize = 10_000;

/// Paths that the way answers by itself.
#[derive(Debug, Clone)]
struct Paths {
    redirect: String,
    logout: String,
    /// Where somebody is sent who has logged out.
    after_logout: Option<String>,
}

impl Oidc {
    /// The session that a request shows, if the gateway has made it for this host.
    fn session(&self, exchange: &Exchange) -> Option<Session> {
        self.open(&self.cookies.session(exchange)?, exchange)
    }

    fn open(&self, sealed: &[u8], exchange: &Exchange) -> Option<Session> {
        let text = self.seal.open(Purpose::Session, &exchange.host, sealed)?;
        let session: Session = serde_json::from_slice(&text).ok()?;
        (!self.ended.has(session.id())).then_some(session)
    }

    /// Has the browser keep a session.
    fn keep(&self, mut session: Session, exchange: &mut Exchange, now: Duration) -> Result<(), Box<Rejection>> {
        let age = session.end(self.lifetimes).saturating_sub(now);
        let mut kept = self.try_keep(&session, exchange, age)?;
        if kept.is_err() {
            session.slim();
            kept = self.try_keep(&session, exchange, age)?;
        }
        kept.map_err(|TooLarge(bytes)| {
            let cause =
                format!("the session of `{}` takes {bytes} bytes: `keep` fewer claims, or map shorter ones", self.name);
            Box::new(Rejection::internal(cause))
        })
    }

    fn try_keep(
        &self,
        session: &Session,
        exchange: &mut Exchange,
        age: Duration,
    ) -> Result<Result<(), TooLarge>, Box<Rejection>> {
        let text = serde_json::to_vec(session).unwrap_or_default();
        let sealed = self.seal.seal(Purpose::Session, &exchange.host, &text);
        let sealed = sealed.ok_or_else(|| Box::new(Rejection::internal(NO_RANDOMNESS.to_owned())))?;
        Ok(self.cookies.keep_session(exchange, &sealed, age))
    }

    /// What is known of somebody whose session has changed, which the browser is to keep.
    fn kept(&self, session: Session, exchange: &mut Exchange, now: Duration) -> Finding {
        match self.keep(session.clone(), exchange, now) {
            Ok(()) => self.known(session),
            Err(rejection) => Finding::Refused(rejection),
        }
    }

    fn known(&self, session: Session) -> Finding {
        Finding::Known(Arc::new(session.identity(&self.name, self.lifetimes)))
    }

    /// What is known of somebody whose access is to be renewed.
    async fn renew(&self, mut session: Session, token: String, exchange: &mut Exchange, world: &dyn World) -> Finding {
        let patience = self.provider.place.timeout.saturating_mul(2);
        let renewal = self.provider.refreshes.renew(&token, patience, world).await;
        let now = world.wall();
        match renewal {
            // Its user has logged out meanwhile.
            _ if self.ended.has(session.id()) => Finding::Absent,
            Renewal::Renewed(renewed) if renewed.is_of(session.subject()) => {
                session.renewed(&renewed, &self.keeping, now);
                self.kept(session, exchange, now)
            }
            Renewal::Renewed(_) | Renewal::Over => {
                self.cookies.forget_session(exchange);
                Finding::Absent
            }
            Renewal::Unavailable(other) => {
                let has_access = session.has_access(now);
                let found = match other {
                    Some(other) => {
                        session.show_next(&other);
                        self.kept(session, exchange, now)
                    }
                    None => self.known(session),
                };
                if has_access { found } else { refused(unavailable("the session cannot be renewed now")) }
            }
        }
    }
}

impl Way for Oidc {
    fn prove<'a>(&'a self, exchange: &'a mut Exchange, world: &'a dyn World) -> Proof<'a> {
        let (method, path) = (&exchange.head.method, exchange.asked_path());
        if path == self.paths.redirect && *method == Method::GET {
            return Proof::Wait(Box::pin(self.finish(exchange, world)));
        }
        if path == self.paths.logout && matches!(*method, Method::GET | Method::POST) {
            return Proof::Ready(self.log_out(exchange, world.wall()));
        }
        let Some(sealed) = self.cookies.session(exchange) else { return Proof::Ready(Finding::Absent) };
        let (now, worker) = (world.wall(), world.worker());
        // A session is one of its host.
        let print = Print::of(&[&sealed, &b"\0"[..], exchange.host.as_bytes()].concat());
        let version = self.ended.count();
        if let Some(known) = self.opened.find(worker, &print, version, now) {
            return Proof::Ready(Finding::Known(known));
        }
        let Some(mut session) = self.open(&sealed, exchange) else { return Proof::Ready(Finding::Absent) };
        Proof::Ready(match session.due(self.lifetimes, now) {
            Due::Ended => Finding::Absent,
            Due::Nothing => {
                let until = session.rests_until(self.lifetimes);
                let identity = Arc::new(session.identity(&self.name, self.lifetimes));
                self.opened.keep_until(until, (worker, print, version), &identity);
                Finding::Known(identity)
            }
            Due::Seen => {
                session.see(now);
                self.kept(session, exchange, now)
            }
            Due::Renewal(token) => {
                let token = token.to_owned();
                return Proof::Wait(Box::pin(self.renew(session, token, exchange, world)));
            }
        })
    }

    fn conceal(&self, exchange: &mut Exchange) {
        self.cookies.conceal(exchange);
    }

    fn is_shown_everywhere(&self) -> bool {
        true
    }

    fn invite(&self, exchange: &mut Exchange, world: &dyn World) -> Option<Stop> {
        self.begin(exchange, world)
    }

    /// Nobody else may be given somebody's session by a cache, whatever the service says.
    fn reply(&self, exchange: &Exchange, reply: &mut ResponseHead) {
        if self.cookies.are_told(exchange) {
            // Some caches obey these instead (RFC 9213).
            for targeted in ["cdn-cache-control", "surrogate-control"] {
                reply.fields.remove(targeted);
            }
            // Cannot fail: it is a field value.
            reply.fields.set(Known::CacheControl, b"no-store").ok();
        }
    }

    fn describe(&self) -> String {
        "a login with an OpenID Connect provider".to_owned()
    }

    fn challenge(&self) -> Option<String> {
        Some(format!("Cookie realm=\"{}\"", self.name))
    }

    fn missing(&self) -> &'static str {
        "Not logged in"
    }
}

const NO_RANDOMNESS: &str = "the system gives no randomness";

fn refused(rejection: Rejection) -> Finding {
    Finding::Refused(Box::new(rejection))
}

/// What is said while the provider cannot be asked.
fn unavailable(cause: &str) -> Rejection {
    let detail = "Authentication is not available now";
    Rejection::new(RejectionKind::Unavailable, "auth_unavailable", detail).cause(cause).retry_after(1)
}
