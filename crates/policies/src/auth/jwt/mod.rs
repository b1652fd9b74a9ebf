//! `jwt`: callers who show a signed token (RFC 7519). What a token must be is decided in `shared`; here it is found in the request,
//! and made an identity.

pub(in crate::auth) mod cache;
mod file;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tidegate_core::exchange::Exchange;
use tidegate_core::identity::Identity;
use tidegate_core::policy::World;
use tidegate_core::rejection::{Rejection, RejectionKind};

use self::cache::{Cache, Print};
pub(crate) use self::file::{JwtFile, may_be_changed_on_its_way};
use super::bearer::{self, Malformed, Place};
use super::mapping::Mapping;
use super::way::{Finding, Proof, Way};
use crate::shared::claims::Rules;
use crate::shared::jwks::Keys;
use crate::shared::jws::{self, Flaw, Token, Unverified};
use crate::shared::signing_key::Algorithm;

/// The way.
pub(crate) struct Jwt {
    name: Arc<str>,
    places: Vec<Place>,
    tokens: Tokens,
    keys: Arc<Keys>,
    cache: Cache,
}

/// What is asked of tokens.
#[derive(Debug, Clone)]
pub(crate) struct Tokens {
    /// Kinds that are taken, in lower case. A token that does not say its kind is a `jwt`.
    types: Vec<String>,
    algorithms: Vec<Algorithm>,
    rules: Rules,
    mapping: Mapping,
}

impl Jwt {
    /// Who a token says it is, verified with the keys that are there.
    fn verify(&self, text: &[u8], world: &dyn World) -> Result<Arc<Identity>, Unverified> {
        let keys = self.keys.now();
        let version = keys.as_ref().map_or(0, |keys| keys.version);
        // Nobody makes the gateway hash what is too long.
        let print = (text.len() <= jws::MOST_BYTES).then(|| Print::of(text));
        let (now, worker) = (world.wall(), world.worker());
        if let Some(known) = print.and_then(|print| self.cache.find(worker, &print, version, now)) {
            return Ok(known);
        }
        let token = self.tokens.read(text)?;
        let claims = token.verify(keys.as_ref().ok_or(Unverified::NoKey)?)?;
        let end = self.tokens.rules.check(&claims, now)?;
        let identity = Arc::new(self.tokens.mapping.identity(&self.name, claims, end));
        if let Some(print) = print.filter(|_| end.is_none_or(|end| now < end)) {
            self.cache.keep(worker, print, version, &identity);
        }
        Ok(identity)
    }

    /// What is found once there is nobody left to ask.
    fn conclude(&self, verified: Result<Arc<Identity>, Unverified>) -> Finding {
        match verified {
            Ok(identity) => Finding::Known(identity),
            Err(Unverified::Flawed(flaw)) => bearer::invalid(&self.name, flaw.0),
            Err(Unverified::NoKey) if self.keys.now().is_none() => {
                let detail = "Authentication is not available now";
                let rejection = Rejection::new(RejectionKind::Unavailable, "auth_unavailable", detail);
                let cause = format!("the keys of `{}` were never fetched", self.name);
                Finding::Refused(Box::new(rejection.cause(cause).retry_after(1)))
            }
            Err(Unverified::NoKey) => bearer::invalid(&self.name, "the token's key is not known"),
        }
    }
}

impl Tokens {
    /// Refuses what no key would make good.
    fn read<'t>(&self, text: &'t [u8]) -> Result<Token<'t>, Flaw> {
        let token = Token::read(text)?;
        if !self.types.iter().any(|taken| taken == token.kind().unwrap_or("jwt")) {
            return Err(Flaw("the token is of another type"));
        }
        if !self.algorithms.contains(&token.algorithm()) {
            return Err(Flaw("the token's algorithm is not allowed"));
        }
        Ok(token)
    }
}

impl Way for Jwt {
    fn prove<'a>(&'a self, exchange: &'a mut Exchange, world: &'a dyn World) -> Proof<'a> {
        let token = match bearer::token(&self.places, exchange) {
            None => return Proof::Ready(Finding::Absent),
            Some(Err(Malformed)) => return Proof::Ready(bearer::malformed(&self.name)),
            Some(Ok(token)) => token,
        };
        match self.verify(&token, world) {
            Err(Unverified::NoKey) if self.keys.may_change() => {
                let token = token.into_owned();
                Proof::Wait(Box::pin(async move {
                    self.keys.renew(world).await;
                    self.conclude(self.verify(&token, world))
                }))
            }
            verified => Proof::Ready(self.conclude(verified)),
        }
    }

    fn conceal(&self, exchange: &mut Exchange) {
        bearer::conceal(&self.places, exchange);
    }

    fn challenge(&self) -> Option<String> {
        Some(bearer::challenge(&self.name))
    }

    fn describe(&self) -> String {
        match self.keys.address() {
            Some(address) => format!("a token that is signed with a key of {address}"),
            None => "a token that is signed with a known key".to_owned(),
        }
    }

    fn missing(&self) -> &'static str {
        bearer::missing(&self.places)
    }
}
