//! Why there is no decision: everything that a server, or the way to it, can have.

use std::fmt;

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why the store cannot decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unavailable {
    /// No connection can be made.
    Unreachable,
    /// It does not answer in time.
    Slow,
    /// The connection broke off.
    Closed,
    /// It wants other credentials, or does not let them do this.
    Denied,
    /// It is a replica.
    ReadOnly,
    /// It has no memory left.
    Full,
    /// It reads its data from disk, or waits for its master.
    Loading,
    /// Somebody else's value stands under the limit's key.
    Foreign,
    /// Anything else that it complains about.
    Failed,
}

const KINDS: [(ServerErrorKind, Unavailable); 4] = [
    (ServerErrorKind::NoPerm, Unavailable::Denied),
    (ServerErrorKind::ReadOnly, Unavailable::ReadOnly),
    (ServerErrorKind::BusyLoading, Unavailable::Loading),
    (ServerErrorKind::MasterDown, Unavailable::Loading),
];

impl Unavailable {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Unreachable,
        Self::Slow,
        Self::Closed,
        Self::Denied,
        Self::ReadOnly,
        Self::Full,
        Self::Loading,
        Self::Foreign,
        Self::Failed,
    ];

    /// One word, for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Slow => "slow",
            Self::Closed => "closed",
            Self::Denied => "denied",
            Self::ReadOnly => "read_only",
            Self::Full => "full",
            Self::Loading => "loading",
            Self::Foreign => "foreign_value",
            Self::Failed => "failed",
        }
    }

    /// Tells it from others, and from nothing.
    pub(super) fn number(self) -> u8 {
        self as u8 + 1
    }

    /// Whether it says something about the server; otherwise about one key alone.
    pub(super) fn is_of_server(self) -> bool {
        self != Self::Foreign
    }

    pub(super) fn of(error: &RedisError) -> Self {
        let kind = error.kind();
        if kind == ErrorKind::AuthenticationFailed {
            return Self::Denied;
        }
        if error.is_unrecoverable_error() {
            return Self::Closed;
        }
        let known = KINDS.iter().find(|(known, _)| kind == ErrorKind::Server(*known));
        known.map_or_else(|| Self::named(error), |(_, failure)| *failure)
    }

    /// Errors that the crate has no kind for. Before Redis 7, a script's error has its name somewhere in the text.
    fn named(error: &RedisError) -> Self {
        const NAMES: [(&str, Unavailable); 7] = [
            ("WRONGTYPE", Unavailable::Foreign),
            ("FOREIGN", Unavailable::Foreign),
            ("READONLY", Unavailable::ReadOnly),
            ("OOM", Unavailable::Full),
            ("NOAUTH", Unavailable::Denied),
            ("WRONGPASS", Unavailable::Denied),
            ("NOPERM", Unavailable::Denied),
        ];
        let (code, detail) = (error.code().unwrap_or_default(), error.detail().unwrap_or_default());
        let known = NAMES.iter().find(|(name, _)| code == *name || detail.contains(name));
        known.map_or(Self::Failed, |(_, failure)| *failure)
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "no connection can be made",
            Self::Slow => "it does not answer in time",
            Self::Closed => "the connection broke off",
            Self::Denied => "it wants other credentials or permissions",
            Self::ReadOnly => "it is a read-only replica",
            Self::Full => "it has no memory left",
            Self::Loading => "it is loading its data",
            Self::Foreign => "another program's value stands under a limit's key",
            Self::Failed => "it answers with an error",
        })
    }
}

impl std::error::Error for Unavailable {}
