//! A login: a browser is sent to the provider, and comes back with a code (RFC 6749, 4.1; RFC 7636). What only this browser may know goes with it
//! in a cookie, sealed, so that nobody can have another one finish a login that they have begun.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_core::exchange::{Exchange, Reply};
use tidegate_core::policy::{Stop, World};
use tidegate_core::query;
use tidegate_core::rejection::{Rejection, RejectionKind};
use tidegate_http1::Known;

use super::browser::{is_navigation, is_own_target, own_origin, own_target};
use super::cookies::MOST_LOGINS;
use super::provider::Metadata;
use super::seal::{Purpose, random};
use super::session::Session;
use super::tokens::{Refusal, Tokens, error_code, form, is_same};
use super::{NO_RANDOMNESS, Oidc, refused, unavailable};
use crate::auth::way::{Bad, Finding};
use crate::shared::json::Object;

/// How long somebody may take to log in.
const PATIENCE: Duration = Duration::from_mins(10);

/// Bytes of a code.
const MOST_CODE: usize = 4096;

/// A login that is under way. It has no `Debug`: it holds secrets.
#[derive(Serialize, Deserialize)]
struct Login {
    state: String,
    nonce: String,
    verifier: String,
    /// Where the provider was told to send the browser.
    back: String,
    /// What was asked for.
    target: String,
    /// Seconds since 1970.
    began: u64,
}

impl Login {
    fn new(back: String, target: String, now: Duration) -> Option<Self> {
        let (state, nonce, verifier) = (random::<32>()?, random::<32>()?, random::<32>()?);
        Some(Self { state, nonce, verifier, back, target, began: now.as_secs() })
    }

    fn is_alive(&self, now: Duration) -> bool {
        now < Duration::from_secs(self.began) + PATIENCE
    }
}

impl Oidc {
    /// Sends a browser to the provider, if there is one that can be sent.
    pub(super) fn begin(&self, exchange: &mut Exchange, world: &dyn World) -> Option<Stop> {
        let back = format!("{}{}", own_origin(exchange).filter(|_| is_navigation(exchange))?, self.paths.redirect);
        let Some(known) = self.provider.known() else {
            return Some(unavailable("the provider was never reached").into());
        };
        let Some(login) = Login::new(back, self.target(exchange), world.wall()) else { return Some(no_randomness()) };
        let sealed = serde_json::to_vec(&login).ok();
        let Some(sealed) = sealed.and_then(|text| self.seal.seal(Purpose::Login, &exchange.host, &text)) else {
            return Some(no_randomness());
        };
        self.make_room(exchange, world.wall());
        self.cookies.keep_login(exchange, &login.state, &sealed, PATIENCE);
        Some(redirect(StatusCode::FOUND, &self.question(&known, &login)))
    }

    /// Where somebody comes back to. What the way answers by itself is no page.
    fn target(&self, exchange: &Exchange) -> String {
        let is_page = ![&self.paths.redirect, &self.paths.logout].into_iter().any(|own| own == exchange.asked_path());
        if is_page { own_target(exchange) } else { "/".to_owned() }
    }

    /// Where the browser is sent.
    fn question(&self, known: &Metadata, login: &Login) -> String {
        let challenge = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, login.verifier.as_bytes()));
        let usual = [
            ("response_type", "code"),
            ("client_id", &*self.provider.client.id),
            ("redirect_uri", &*login.back),
            ("scope", &*self.scopes),
            ("state", &*login.state),
            ("nonce", &*login.nonce),
            ("code_challenge", &*challenge),
            ("code_challenge_method", "S256"),
        ];
        let more = self.parameters.iter().map(|(name, value)| (&**name, &**value));
        with_query(&known.authorization, &form(usual.into_iter().chain(more)))
    }

    /// Has the browser forget logins that come to nothing, and the oldest of too many.
    fn make_room(&self, exchange: &mut Exchange, now: Duration) {
        let (mut alive, mut over) = (Vec::new(), Vec::new());
        for (called, sealed) in self.cookies.logins(exchange) {
            match self.open_login(exchange, sealed).filter(|login| login.is_alive(now)) {
                Some(login) => alive.push((login.began, called.to_owned())),
                None => over.push(called.to_owned()),
            }
        }
        alive.sort_unstable();
        let many = (alive.len() + 1).saturating_sub(MOST_LOGINS);
        over.extend(alive.into_iter().take(many).map(|(_, called)| called));
        for called in over {
            self.cookies.forget_login(exchange, &called);
        }
    }

    fn open_login(&self, exchange: &Exchange, sealed: &[u8]) -> Option<Login> {
        serde_json::from_slice(&self.seal.open(Purpose::Login, &exchange.host, sealed)?).ok()
    }

    /// What comes of a browser that the provider has sent back.
    pub(super) async fn finish(&self, exchange: &mut Exchange, world: &dyn World) -> Finding {
        match self.finished(exchange, world).await {
            Ok(reply) => Finding::Answered(Box::new(reply)),
            Err(finding) => finding,
        }
    }

    async fn finished(&self, exchange: &mut Exchange, world: &dyn World) -> Result<Reply, Finding> {
        let state = parameter(exchange, "state")?.unwrap_or_default();
        let now = world.wall();
        let login = self.cookies.login(exchange, &state).and_then(|sealed| self.open_login(exchange, &sealed));
        let login = login.filter(|login| login.is_alive(now) && is_same(&login.state, &state));
        let login = login.ok_or_else(|| bad_request("this browser has begun no such login, or too long ago"))?;
        // It is good for one answer.
        self.cookies.forget_login(exchange, &state);
        let known = self.provider.known().ok_or_else(|| refused(unavailable("the provider was never reached")))?;
        self.check_answer(exchange, &known, &login)?;
        let code = parameter(exchange, "code")?.filter(|code| !code.is_empty() && code.len() <= MOST_CODE);
        let code = code.ok_or_else(|| bad_request("the provider's answer has no code"))?;
        let (tokens, claims) = self.exchange_code(&code, &login, world).await.map_err(|refusal| match refusal {
            Refusal::Worthless(cause) => Finding::Bad(Bad { cause, detail: FAILED, challenge: None }),
            Refusal::Unavailable(cause) => refused(unavailable(&cause)),
        })?;
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default().to_owned();
        let id = random::<16>().ok_or_else(|| refused(Rejection::internal(NO_RANDOMNESS.to_owned())))?;
        let session = Session::begin((id, subject), &claims, &self.keeping, (&tokens, world.wall()));
        self.keep(session, exchange, world.wall()).map_err(Finding::Refused)?;
        let target = if is_own_target(&login.target) { &*login.target } else { "/" };
        match redirect(StatusCode::FOUND, target) {
            Stop::Answer(reply) => Ok(*reply),
            Stop::Refuse(rejection) => Err(Finding::Refused(rejection)),
        }
    }

    /// Whether it is this provider's answer, and not that somebody may not log in.
    fn check_answer(&self, exchange: &Exchange, known: &Metadata, login: &Login) -> Result<(), Finding> {
        let issuer = parameter(exchange, "iss")?;
        let is_right = issuer.as_ref().map_or(!known.says_issuer, |issuer| *issuer == self.provider.place.issuer);
        if !is_right {
            return Err(bad_request("the answer is of another provider, or does not say of which"));
        }
        let back = own_origin(exchange).map(|origin| format!("{origin}{}", self.paths.redirect));
        if back.as_deref() != Some(&*login.back) {
            return Err(bad_request("the browser did not come back to where it was sent"));
        }
        let Some(error) = parameter(exchange, "error")? else { return Ok(()) };
        let error = error_code(&error);
        let cause = format!("the provider answers `{error}`");
        Err(refused(match &*error {
            "temporarily_unavailable" | "server_error" => unavailable(&cause),
            _ => Rejection::new(RejectionKind::Forbidden, "login_refused", "You could not log in").cause(cause),
        }))
    }

    async fn exchange_code(&self, code: &str, login: &Login, world: &dyn World) -> Result<(Tokens, Object), Refusal> {
        let shown = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &*login.back),
            ("code_verifier", &*login.verifier),
        ];
        let tokens = self.provider.tokens(&shown, world).await?;
        let claims = self.provider.claims(&tokens, Some(&login.nonce), world).await?;
        let claims = claims.ok_or_else(|| Refusal::Worthless("the provider gave no ID token".to_owned()))?;
        Ok((tokens, claims))
    }
}

const FAILED: &str = "The login could not be completed: begin again";

fn bad_request(cause: &str) -> Finding {
    refused(Rejection::new(RejectionKind::BadRequest, "login_failed", FAILED).cause(cause))
}

fn no_randomness() -> Stop {
    Rejection::internal(NO_RANDOMNESS.to_owned()).into()
}

/// A parameter of a provider's answer, which is there once at most (RFC 6749, 3.1).
fn parameter(exchange: &Exchange, name: &'static str) -> Result<Option<String>, Finding> {
    let mut values = query::values(exchange.asked_query(), name);
    match (values.next(), values.next()) {
        (value, None) => Ok(value.map(std::borrow::Cow::into_owned)),
        (_, Some(_)) => Err(bad_request("the answer says something twice")),
    }
}

/// A URL with more parameters.
pub(super) fn with_query(url: &str, more: &str) -> String {
    let mark = match url.split_once('?') {
        None => "?",
        Some((_, "")) => "",
        Some(_) => "&",
    };
    format!("{url}{mark}{more}")
}

/// Sends a browser somewhere else, and nobody else after it.
pub(super) fn redirect(status: StatusCode, to: &str) -> Stop {
    let mut reply = Reply::new(status);
    let fields = [(Known::Location, to), (Known::CacheControl, "no-store")];
    if fields.into_iter().any(|(name, value)| reply.head.fields.append(name, value.as_bytes()).is_err()) {
        return Rejection::internal("a URL cannot stand in `Location`".to_owned()).into();
    }
    Stop::Answer(Box::new(reply))
}
