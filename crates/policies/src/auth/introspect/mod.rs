//! `introspect`: callers who show a token that means something to its issuer alone, which is asked about it (RFC 7662). Where a token is
//! in a request and what is said about bad ones is the same as for tokens that are verified here.

mod file;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use std::time::Duration;
use tidegate_core::exchange::Exchange;
use tidegate_core::identity::Identity;
use tidegate_core::policy::{Answer, World};
use tidegate_core::query;
use tidegate_http1::{Fields, Known, RequestHead};

pub(crate) use self::file::IntrospectFile;
use super::bearer::{self, Malformed, Place};
use super::elsewhere::{Elsewhere, Judged, Question};
use super::mapping::Mapping;
use super::way::{Finding, Proof, Way};
use crate::shared::claims::Rules;
use crate::shared::json;
use crate::shared::jws::MOST_BYTES;

/// The way.
struct Introspect {
    name: Arc<str>,
    places: Vec<Place>,
    asking: Asking,
    elsewhere: Arc<Elsewhere<Verdict>>,
}

/// What is asked, and what becomes of answers.
#[derive(Clone)]
struct Asking {
    target: String,
    /// Who the gateway is: the value of `Authorization`.
    client: Arc<str>,
    rules: Rules,
    mapping: Mapping,
}

/// What is known of a token: whose it is, or why it proves nothing.
type Verdict = Result<Arc<Identity>, &'static str>;

impl Asking {
    /// RFC 7662, 2.1.
    fn question(&self, token: &[u8]) -> Question {
        let mut body = "token=".to_owned();
        query::encode(token, &mut body);
        body.push_str("&token_type_hint=access_token");
        let mut fields = Fields::new();
        for (name, value) in [
            (Known::Authorization, &*self.client),
            (Known::ContentType, "application/x-www-form-urlencoded"),
            (Known::Accept, "application/json"),
        ] {
            // Cannot fail: all of these are plain ASCII.
            fields.append(name, value.as_bytes()).ok();
        }
        let head = RequestHead { method: Method::POST, target: self.target.clone(), fields, ..RequestHead::default() };
        Question { head, body: Bytes::from(body) }
    }

    /// RFC 7662, 2.2.
    fn judge(&self, way: &Arc<str>, answer: &Answer, now: Duration) -> Result<Judged<Verdict>, String> {
        match answer.status {
            StatusCode::OK => {}
            // RFC 7662, 2.3: that is about the gateway, and not about the token.
            StatusCode::UNAUTHORIZED => return Err("`client_id` and `client_secret` are refused".to_owned()),
            status => return Err(format!("the answer is {}", status.as_u16())),
        }
        let claims = json::object(&answer.body).map_err(|_| "the answer is no object in proper JSON")?;
        let is_active = claims.get("active").and_then(serde_json::Value::as_bool);
        let is_active = is_active.ok_or("the answer does not say whether the token is active")?;
        let refused = |why| Judged { said: Err(why), alone: false, refused: true, ends: None };
        if !is_active {
            return Ok(refused("the token is not active"));
        }
        Ok(match self.rules.check(&claims, now) {
            Ok(ends) => {
                let identity = Arc::new(self.mapping.identity(way, claims, ends));
                Judged { said: Ok(identity), alone: false, refused: false, ends }
            }
            Err(flaw) => refused(flaw.0),
        })
    }
}

impl Introspect {
    fn conclude(&self, verdict: Verdict) -> Finding {
        verdict.map_or_else(|cause| bearer::invalid(&self.name, cause), Finding::Known)
    }
}

impl Way for Introspect {
    fn prove<'a>(&'a self, exchange: &'a mut Exchange, world: &'a dyn World) -> Proof<'a> {
        let question = match bearer::token(&self.places, exchange) {
            None => return Proof::Ready(Finding::Absent),
            Some(Err(Malformed)) => return Proof::Ready(bearer::malformed(&self.name)),
            Some(Ok(token)) if token.len() > MOST_BYTES => {
                return Proof::Ready(bearer::invalid(&self.name, "the token is larger than 8 KB"));
            }
            Some(Ok(token)) => self.asking.question(&token),
        };
        let print = self.elsewhere.print(&question);
        if let Some(verdict) = print.and_then(|print| self.elsewhere.remembered(&print, world)) {
            return Proof::Ready(self.conclude(verdict));
        }
        Proof::Wait(Box::pin(async move {
            let judge = |answer: &Answer| self.asking.judge(&self.name, answer, world.wall());
            match self.elsewhere.ask(world, print, question, judge).await {
                Ok(verdict) => self.conclude(verdict),
                Err(unavailable) => Finding::Refused(Box::new(unavailable.rejection(&self.name))),
            }
        }))
    }

    fn conceal(&self, exchange: &mut Exchange) {
        bearer::conceal(&self.places, exchange);
    }

    fn challenge(&self) -> Option<String> {
        Some(bearer::challenge(&self.name))
    }

    fn describe(&self) -> String {
        format!("a token that {} knows", self.elsewhere.address())
    }

    fn missing(&self) -> &'static str {
        bearer::missing(&self.places)
    }
}
