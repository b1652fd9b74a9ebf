//! A way to prove who one is, and what may come of it.

use std::sync::Arc;

use tidegate_config::policy::Reading;
use tidegate_config::problem::Path;
use tidegate_core::exchange::{Exchange, Reply};
use tidegate_core::identity::Identity;
use tidegate_core::policy::{Local, Stop, World};
use tidegate_core::rejection::Rejection;
use tidegate_http1::ResponseHead;

use super::mapping::Mapping;
use crate::policy::Setup;

/// A way to prove who one is. It is shared by all workers.
pub(crate) trait Way: Send + Sync {
    /// What the request proves. Where somebody must be asked, nothing has happened before the future is polled: it may be dropped,
    /// and the same asked again.
    fn prove<'a>(&'a self, exchange: &'a mut Exchange, world: &'a dyn World) -> Proof<'a>;

    /// Takes away what nobody behind the gateway shall see. Every way of a route does this, whichever of them found out who it is.
    fn conceal(&self, _: &mut Exchange) {}

    /// Whether callers show it on every route of a host, as browsers do with cookies: then routes that do not ask this way conceal it too.
    fn is_shown_everywhere(&self) -> bool {
        false
    }

    /// What is done with a request that has shown nothing to any way of its route: a browser may be sent where somebody can log in. `None`
    /// refuses it.
    fn invite(&self, _: &mut Exchange, _: &dyn World) -> Option<Stop> {
        None
    }

    /// Adds to the reply on its way up, whatever it is.
    fn reply(&self, _: &Exchange, _: &mut ResponseHead) {}

    /// A `WWW-Authenticate` challenge for callers who have shown nothing (RFC 9110, 11.6.1), such as `Bearer`; `None` where there is no scheme for it.
    fn challenge(&self) -> Option<String>;

    /// What callers are told who have shown nothing.
    fn missing(&self) -> &'static str {
        "Missing authorization header"
    }

    /// What it asks for, in a few words for operators: "a client certificate".
    fn describe(&self) -> String {
        String::new()
    }

    /// Whether requests carry something that whoever reads it can use again.
    fn shows_secrets(&self) -> bool {
        true
    }
}

/// What a way says of a request.
pub(crate) enum Proof<'a> {
    /// It is known.
    Ready(Finding),
    /// Somebody must be asked.
    Wait(Local<'a, Finding>),
}

/// What was found.
#[derive(Debug)]
pub(crate) enum Finding {
    /// The request shows nothing of this kind: the next way is asked.
    Absent,
    /// It is proved.
    Known(Arc<Identity>),
    /// What it shows proves nothing.
    Bad(Bad),
    /// The same, where somebody else has said so, in their words.
    Denied(Box<Rejection>),
    /// The request is for the way itself, or the caller must do something else first: with this it is answered.
    Answered(Box<Reply>),
    /// Nobody can tell now, or something else stands against it: with this the request is refused.
    Refused(Box<Rejection>),
}

/// A credential that proves nothing. Clients are told the same of every one of them.
#[derive(Debug)]
pub(crate) struct Bad {
    /// For the log: why. It has nothing of the credential.
    pub(crate) cause: String,
    /// What the client is told: "Invalid token".
    pub(crate) detail: &'static str,
    /// A challenge that says what is wrong, such as `Bearer error="invalid_token"` (RFC 6750, 3); `None` is [`Way::challenge`].
    pub(crate) challenge: Option<String>,
}

/// A way as meant by the configuration.
pub(crate) trait Meant: Send + Sync {
    /// Makes the way called `name`. It has no effects; what goes on is told to `setup`.
    fn build(&self, name: &Arc<str>, at: &Path, setup: &mut Setup<'_>) -> Arc<dyn Way>;

    /// Which claim says what, where the way is shown claims.
    fn mapping(&self) -> Option<&Mapping> {
        None
    }

    /// The file of keys that the way looks into.
    fn key_store(&self) -> Option<&std::path::Path> {
        None
    }
}

/// A kind of way, as written: what stands below its key in `auth.NAME`.
pub(crate) trait Kind {
    /// Finds out what is meant. `at` is where it stands, `name` what the way is called.
    fn mean(self, name: &Arc<str>, at: &Path, reading: &mut Reading<'_, '_>) -> Option<Box<dyn Meant>>;
}
