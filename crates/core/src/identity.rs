//! Who a caller is, as a way of authentication found out: what authorization, limits, templates and services are told. It does not
//! say how it was proved.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::limiter::Limit;

/// A caller who has proved who they are. Whatever a way cannot tell is empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Identity {
    /// The way of authentication that found it out: a name under `auth`.
    pub way: Arc<str>,
    /// Who it is.
    pub user: Option<Arc<str>>,
    /// What they are.
    pub roles: Vec<Arc<str>>,
    /// What they may do.
    pub permissions: Vec<Arc<str>>,
    /// What their token was issued for (RFC 6749, 3.3).
    pub scopes: Vec<Arc<str>>,
    /// Whose customer they are.
    pub tenant: Option<Arc<str>>,
    /// When the proof ends, as time since 1970; `None` if it does not.
    pub expires: Option<Duration>,
    /// All that the proof says, as an object; `Null` where it says no more than the above.
    pub claims: Value,
    /// A rate limit of their own, over all routes.
    pub rate: Option<Limit>,
}

impl Identity {
    /// The claim of this name, or what lies in it: `["address", "country"]`.
    pub fn claim<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Option<&Value> {
        names.into_iter().try_fold(&self.claims, |claim, name| claim.as_object()?.get(name))
    }
}
