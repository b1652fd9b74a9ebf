//! What a provider gives for a code or for a refresh token, and whether its ID token is good (OpenID Connect Core 1.0, 3.1.3.7).

use std::fmt::Write as _;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Algorithm as Hash, SHA256, SHA384, SHA512, digest};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::Value;
use tidegate_core::policy::World;
use tidegate_core::query;
use tidegate_http1::{Known, RequestHead};

use super::provider::{ClientAuth, Endpoint, Metadata, Provider};
use crate::shared::claims::Rules;
use crate::shared::json::{self, Object};
use crate::shared::jws::{Flaw, Token, Unverified};
use crate::shared::key_set::KeySet;
use crate::shared::signing_key::Algorithm;

/// Bytes of a refresh token, which a cookie must hold.
const MOST_REFRESH: usize = 6 * 1024;

/// What a provider gave.
pub(super) struct Tokens {
    pub(super) id_token: Option<String>,
    pub(super) access_token: String,
    pub(super) refresh_token: Option<String>,
    /// How long the access lasts.
    pub(super) life: Option<Duration>,
}

/// Why it gave nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// What was shown is worth nothing: why.
    Worthless(String),
    /// It cannot tell now, or refuses the gateway itself: why.
    Unavailable(String),
}

/// What is asked of an ID token.
pub(super) struct Verifier {
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) rules: Rules,
    pub(super) client_id: String,
}

impl Provider {
    /// Asks for tokens. `shown` is what they are given for, with its kind.
    pub(super) async fn tokens(&self, shown: &[(&str, &str)], world: &dyn World) -> Result<Tokens, Refusal> {
        let unavailable = |reason: &str| Refusal::Unavailable(reason.to_owned());
        let known = self.known().ok_or_else(|| unavailable("the provider was never reached"))?;
        let (head, body) =
            self.question(&known.token, shown).ok_or_else(|| unavailable("the question cannot be sent"))?;
        let answer = self.ask(&known.token.service, head, body, world).await.map_err(Refusal::Unavailable)?;
        let said = json::object(&answer.body);
        if answer.status != StatusCode::OK {
            let error = said.ok().and_then(|said| said.get("error").and_then(Value::as_str).map(error_code));
            let error = error.unwrap_or_default();
            let reason = format!("the provider answers {} {error}", answer.status.as_u16());
            // Anything else is about the gateway, not about what was shown (RFC 6749, 5.2).
            let is_worthless = answer.status == StatusCode::BAD_REQUEST && error == "invalid_grant";
            return Err(if is_worthless { Refusal::Worthless(reason) } else { Refusal::Unavailable(reason) });
        }
        let said = said.map_err(|error| Refusal::Unavailable(format!("the answer cannot be read: {error}")))?;
        Tokens::read(&said).map_err(unavailable)
    }

    fn question(&self, to: &Endpoint, shown: &[(&str, &str)]) -> Option<(RequestHead, Bytes)> {
        let mut head = RequestHead { method: Method::POST, target: to.target.clone(), ..RequestHead::default() };
        head.fields.append(Known::ContentType, b"application/x-www-form-urlencoded").ok()?;
        head.fields.append(Known::Accept, b"application/json").ok()?;
        let mut form = form(shown.iter().copied());
        let client = &self.client;
        match client.auth {
            ClientAuth::Basic => {
                let [id, secret] = [&client.id, &client.secret].map(|text| encoded(text));
                let credential = format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{secret}")));
                head.fields.append(Known::Authorization, credential.as_bytes()).ok()?;
            }
            ClientAuth::Post => {
                let more = [("client_id", &*client.id), ("client_secret", &*client.secret)];
                write!(form, "&{}", self::form(more.into_iter())).ok()?;
            }
            ClientAuth::Public => write!(form, "&client_id={}", encoded(&client.id)).ok()?,
        }
        Some((head, form.into()))
    }

    /// What is claimed of whose tokens these are; `None` if the provider does not say. `nonce` is that of the login.
    pub(super) async fn claims(
        &self,
        tokens: &Tokens,
        nonce: Option<&str>,
        world: &dyn World,
    ) -> Result<Option<Object>, Refusal> {
        let Some(id_token) = &tokens.id_token else { return Ok(None) };
        let known = self.known().ok_or_else(|| Refusal::Unavailable("the provider was never reached".to_owned()))?;
        let verify = || {
            let keys = known.keys.now();
            let keys = keys.as_ref().ok_or(Unverified::NoKey)?;
            self.verifier.verify((id_token, &tokens.access_token), nonce, keys, world.wall())
        };
        let mut verified = verify();
        if verified == Err(Unverified::NoKey) {
            known.keys.renew(world).await;
            verified = verify();
        }
        let mut claims = verified.map_err(|unverified| match unverified {
            Unverified::Flawed(flaw) => Refusal::Worthless(flaw.0.to_owned()),
            Unverified::NoKey if known.keys.now().is_none() => {
                Refusal::Unavailable("the provider's keys were never fetched".to_owned())
            }
            Unverified::NoKey => Refusal::Worthless("the token's key is not known".to_owned()),
        })?;
        if self.place.userinfo {
            let more = self.userinfo(&known, tokens, world).await.map_err(Refusal::Unavailable)?;
            // It may be an answer to somebody else (OpenID Connect Core 1.0, 5.3.2).
            if more.get("sub") != claims.get("sub") {
                return Err(Refusal::Worthless("the user's claims are of somebody else".to_owned()));
            }
            for (name, value) in more {
                claims.entry(name).or_insert(value);
            }
        }
        Ok(Some(claims))
    }

    /// What the provider says of whose access token this is (OpenID Connect Core 1.0, 5.3).
    async fn userinfo(&self, known: &Metadata, tokens: &Tokens, world: &dyn World) -> Result<Object, String> {
        let place = known.userinfo.as_ref().ok_or("the provider has no `userinfo_endpoint` that may be asked")?;
        let mut head = RequestHead { target: place.target.clone(), ..RequestHead::default() };
        let credential = format!("Bearer {}", tokens.access_token);
        for (name, value) in [(Known::Accept, "application/json"), (Known::Authorization, &*credential)] {
            head.fields.append(name, value.as_bytes()).map_err(|error| error.to_string())?;
        }
        let answer = self.ask(&place.service, head, Bytes::new(), world).await?;
        if answer.status != StatusCode::OK {
            return Err(format!("the user's claims are refused with {}", answer.status.as_u16()));
        }
        json::object(&answer.body).map_err(|error| format!("the user's claims cannot be read: {error}"))
    }
}

impl Tokens {
    fn read(said: &Object) -> Result<Self, &'static str> {
        let text = |name: &str| said.get(name).and_then(Value::as_str).map(str::to_owned);
        if !text("token_type").is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) {
            return Err("the access token is of an unknown type");
        }
        // Some providers write the number as text.
        let seconds = said.get("expires_in");
        let seconds = seconds.and_then(|value| value.as_u64().or_else(|| value.as_str()?.parse().ok()));
        Ok(Self {
            id_token: text("id_token"),
            access_token: text("access_token").ok_or("there is no access token")?,
            refresh_token: text("refresh_token").filter(|token| token.len() <= MOST_REFRESH),
            life: seconds.map(Duration::from_secs),
        })
    }
}

impl Verifier {
    fn verify(
        &self,
        (id_token, access_token): (&str, &str),
        nonce: Option<&str>,
        keys: &KeySet,
        now: Duration,
    ) -> Result<Object, Unverified> {
        let token = Token::read(id_token.as_bytes())?;
        if token.kind().is_some_and(|kind| kind != "jwt") {
            return Err(Flaw("the token is of another type").into());
        }
        if !self.algorithms.contains(&token.algorithm()) {
            return Err(Flaw("the token's algorithm is not allowed").into());
        }
        let claims = token.verify(keys)?;
        self.rules.check(&claims, now)?;
        self.check_party(&claims)?;
        let text = |name: &str| claims.get(name).map(|value| value.as_str().unwrap_or_default());
        if nonce.is_some_and(|nonce| !is_same(text("nonce").unwrap_or_default(), nonce)) {
            return Err(Flaw("the token belongs to another login").into());
        }
        if text("at_hash").is_some_and(|hash| !is_same(hash, &half_hash(token.algorithm(), access_token))) {
            return Err(Flaw("the token belongs to another access token").into());
        }
        if text("sub").is_none_or(str::is_empty) {
            return Err(Flaw("the token does not say whose it is").into());
        }
        Ok(claims)
    }

    /// A token for several says which of them has asked for it.
    fn check_party(&self, claims: &Object) -> Result<(), Flaw> {
        let is_for_several = claims.get("aud").and_then(Value::as_array).is_some_and(|all| all.len() > 1);
        match claims.get("azp") {
            None if is_for_several => Err(Flaw("the token is for several, and does not say for whom it was issued")),
            Some(party) if party.as_str() != Some(&*self.client_id) => {
                Err(Flaw("the token was issued for another client"))
            }
            _ => Ok(()),
        }
    }
}

/// Half of the hash that belongs to the algorithm (OpenID Connect Core 1.0, 3.1.3.6).
fn half_hash(algorithm: Algorithm, text: &str) -> String {
    let hash: &Hash = match algorithm {
        Algorithm::HS256 | Algorithm::RS256 | Algorithm::PS256 | Algorithm::ES256 => &SHA256,
        Algorithm::HS384 | Algorithm::RS384 | Algorithm::PS384 | Algorithm::ES384 => &SHA384,
        // Ed25519 hashes with SHA-512 too.
        Algorithm::HS512
        | Algorithm::RS512
        | Algorithm::PS512
        | Algorithm::ES512
        | Algorithm::EdDSA
        | Algorithm::Ed25519 => &SHA512,
    };
    let hash = digest(hash, text.as_bytes());
    let half = hash.as_ref().len() / 2;
    BASE64_URL_SAFE_NO_PAD.encode(hash.as_ref().get(..half).unwrap_or_default())
}

/// Whether two secrets are the same, in a time that does not tell where they differ.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

/// An error of a provider, as it may stand in a log (RFC 6749, 4.1.2.1): a short word.
pub(super) fn error_code(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')).take(64).collect()
}

/// Names and values as a form or a query.
pub(super) fn form<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    pairs.map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect::<Vec<_>>().join("&")
}

fn encoded(text: &str) -> String {
    let mut out = String::new();
    query::encode(text.as_bytes(), &mut out);
    out
}
