//! What a policy table makes of a configuration. The gateway knows this, and not one single policy.

use std::fmt;
use std::sync::Arc;

use tidegate_config::config::Config;
use tidegate_config::problem::Problems;
use tidegate_http1::Fields;

use super::{Chain, Job, Shared};

/// All policies that there are.
pub trait Table: Send + Sync {
    /// Builds what `config` asks for, and tells all problems at once: with an error among them, nobody may use what was built. It has no
    /// effects: work that goes on is in [`Policies::jobs`].
    fn build(&self, config: &Config, shared: &Arc<Shared>) -> (Policies, Problems);
}

/// The policies that a gateway knows, and what they keep from one configuration to the next.
#[derive(Clone)]
pub struct Rules {
    /// All policies that there are.
    pub table: &'static dyn Table,
    /// What they keep.
    pub shared: Arc<Shared>,
}

impl Rules {
    /// Nothing is kept yet.
    pub fn new(table: &'static dyn Table) -> Self {
        Self { table, shared: Arc::default() }
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("shared", &self.shared).finish_non_exhaustive()
    }
}

/// The policies of one configuration.
#[derive(Default)]
pub struct Policies {
    /// One chain for each route, in the order of the configuration.
    pub routes: Vec<Arc<Chain>>,
    /// For replies that the router makes itself: 404, 405, OPTIONS and redirects to https.
    pub router: Arc<Chain>,
    /// Fields that only the gateway may send to services.
    pub guarded: Guarded,
    /// What goes on for as long as the configuration is in use. The same job in the next configuration goes on undisturbed.
    pub jobs: Vec<Arc<dyn Job>>,
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policies").field("routes", &self.routes).finish_non_exhaustive()
    }
}

/// Without any policy.
#[derive(Debug, Clone, Copy)]
pub struct NoPolicies;

impl Table for NoPolicies {
    fn build(&self, config: &Config, _: &Arc<Shared>) -> (Policies, Problems) {
        let routes = config.routes.iter().map(|_| Arc::default()).collect();
        (Policies { routes, ..Policies::default() }, Problems::new())
    }
}

/// Names of fields that only the gateway may send to services: a client's own never pass, in whatever spelling a service may
/// take for the same.
#[derive(Debug, Clone, Default)]
pub struct Guarded {
    /// As [`folded`].
    names: Vec<Box<[u8]>>,
}

impl Guarded {
    /// Guards these names.
    pub fn new<'n>(names: impl IntoIterator<Item = &'n str>) -> Self {
        let mut names: Vec<_> = names.into_iter().map(|name| folded(name.as_bytes()).collect()).collect();
        names.sort();
        names.dedup();
        Self { names }
    }

    /// Whether nothing is guarded.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether a field of this name is guarded.
    pub fn has(&self, name: &[u8]) -> bool {
        self.names.iter().any(|guarded| guarded.len() == name.len() && folded(name).eq(guarded.iter().copied()))
    }

    /// Takes every guarded field out.
    pub fn strip(&self, fields: &mut Fields) {
        fields.retain_names(|name| !self.has(name.map_or_else(str::as_bytes, |known| known.as_str().as_bytes())));
    }
}

/// Lower case, with `-` for the `_` and `.` that many servers take for it.
fn folded(name: &[u8]) -> impl Iterator<Item = u8> + '_ {
    name.iter().map(|byte| if matches!(byte, b'_' | b'.') { b'-' } else { byte.to_ascii_lowercase() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guarded_name_is_known_in_every_spelling() {
        let guarded = Guarded::new(["X-User-Context"]);
        for name in ["x-user-context", "X_User_Context", "x.user-context", "X-USER_CONTEXT"] {
            assert!(guarded.has(name.as_bytes()), "{name}");
        }
        for name in ["x-user", "x-user-contexts", "xuser-context"] {
            assert!(!guarded.has(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn guarded_fields_are_taken_out_and_others_stay() {
        let mut fields = Fields::new();
        for (name, value) in [("x-user", "a"), ("accept", "b"), ("X_User", "c")] {
            fields.append(name, value.as_bytes()).unwrap();
        }
        Guarded::new(["x-user"]).strip(&mut fields);
        assert_eq!(fields.len(), 1);
        assert_eq!(fields.value("accept"), Some(&b"b"[..]));
    }
}
