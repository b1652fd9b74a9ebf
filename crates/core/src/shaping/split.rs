//! Parts of a route's traffic: by condition, by weight, and the same part for the same client where that is asked for.

use std::sync::Arc;

use tidegate_config::config::{self, Key, When};
use tidegate_config::value::PathPattern;
use tidegate_http1::Fields;

use super::holds;
use crate::affinity;
use crate::exchange::Exchange;
use crate::request_id::uuid;

/// A split, ready to be asked.
#[derive(Debug)]
pub struct Split {
    parts: Vec<Part>,
    total: u64,
    sticky: Option<Key>,
}

#[derive(Debug)]
struct Part {
    service: usize,
    /// The sum of the weights up to and with this one.
    below: u64,
    when: Option<When>,
}

/// What was chosen for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The number of the service.
    pub service: usize,
    /// A cookie that the reply must set, so that the next request is decided alike: name and value.
    pub cookie: Option<(Arc<str>, String)>,
}

impl Split {
    /// Services become the numbers that `index` gives them.
    pub fn new(split: &config::Split, index: impl Fn(&Arc<str>) -> usize) -> Self {
        let mut total = 0;
        let parts = split.parts.iter().map(|part| {
            total += u64::from(part.weight);
            Part { service: index(&part.service), below: total, when: part.when.clone() }
        });
        Self { parts: parts.collect(), total, sticky: split.sticky.clone() }
    }

    /// The number of every service that may be chosen, in the order of the parts.
    pub fn services(&self) -> impl Iterator<Item = usize> {
        self.parts.iter().map(|part| part.service)
    }

    /// The service of the part whose condition holds for a request with these fields, the first one of them.
    pub fn by_condition(&self, fields: &Fields) -> Option<usize> {
        let named = self.parts.iter().find(|part| part.when.as_ref().is_some_and(|when| holds(when, fields)));
        named.map(|part| part.service)
    }

    /// The service of the part that this request belongs to whatever the dice say: by a condition, or by its key.
    pub fn settled(&self, exchange: &Exchange, pattern: &PathPattern) -> Option<usize> {
        let by_key = || self.by_key(affinity::of(self.sticky.as_ref()?, exchange, pattern)?);
        self.by_condition(&exchange.head.fields).or_else(by_key)
    }

    /// The part that a request belongs to: the first whose condition holds, whatever its weight; else by weight, where the same
    /// key gives the same part, and no key, any. `pattern` is the path condition of the route; `None` if no part has a weight.
    pub fn choose(&self, exchange: &Exchange, pattern: &PathPattern, random: u128) -> Option<Choice> {
        if let Some(service) = self.settled(exchange, pattern) {
            return Some(Choice { service, cookie: None });
        }
        if let Some(Key::Cookie(name)) = &self.sticky {
            // Always ASCII.
            let id = String::from_utf8_lossy(&uuid(random)).into_owned();
            let service = self.by_key(affinity::hash(id.as_bytes()))?;
            return Some(Choice { service, cookie: Some((Arc::clone(name), id)) });
        }
        Some(Choice { service: self.at((random >> 64) as u64)?, cookie: None })
    }

    /// Mixed, because a service may hash the same key to choose an endpoint: its share of the keys must not be a range of theirs.
    fn by_key(&self, hash: u64) -> Option<usize> {
        self.at(affinity::mix(hash))
    }

    /// The part that lies at this place, when all places are shared out by weight.
    fn at(&self, place: u64) -> Option<usize> {
        let at = (u128::from(place) * u128::from(self.total)) >> 64;
        self.parts.iter().find(|part| at < u128::from(part.below)).map(|part| part.service)
    }
}
