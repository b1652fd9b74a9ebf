//! A client stays with the endpoint that its cookie names; one without a cookie, or whose endpoint is gone, goes where least is
//! in flight. Reading and signing cookies is not done here.

use super::field::Field;
use super::least_connections::in_flight;
use super::{Balance, Candidate, Pick};

/// Endpoints by key.
#[derive(Debug, Clone)]
pub struct StickyCookie {
    field: Field,
    /// Keys and indexes, in the order of keys.
    keys: Vec<(u64, u32)>,
}

impl StickyCookie {
    /// Among these.
    pub fn new(candidates: &[Candidate]) -> Self {
        let weighted = candidates.iter().filter(|candidate| candidate.weight > 0);
        let mut keys: Vec<_> = weighted.map(|candidate| (candidate.key, candidate.index)).collect();
        keys.sort_unstable();
        Self { field: Field::new(candidates), keys }
    }

    fn index_of(&self, key: u64) -> Option<u32> {
        let at = self.keys.binary_search_by_key(&key, |(key, _)| *key).ok()?;
        self.keys.get(at).map(|(_, index)| *index)
    }
}

impl Balance for StickyCookie {
    fn pick(&self, pick: &Pick<'_>) -> Option<usize> {
        let preferred = pick.preferred.and_then(|key| self.index_of(key)).filter(|index| pick.allows(*index));
        preferred.map_or_else(|| self.field.least(pick, in_flight), |index| Some(index as usize))
    }
}
