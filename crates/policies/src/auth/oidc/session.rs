//! A session: who has logged in, and for how long that is true. It is kept by the browser, sealed, and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_core::identity::Identity;

use super::refresh::Renewed;
use super::tokens::Tokens;
use crate::auth::mapping::Mapping;
use crate::shared::json::Object;

/// How long sessions last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lifetimes {
    /// From the login on.
    pub(super) session: Duration,
    /// Without any request.
    pub(super) idle: Option<Duration>,
}

/// Access is renewed a tenth of its time before it ends, or this.
const EARLY: Duration = Duration::from_mins(1);

/// Who has logged in. It has no `Debug`: it holds secrets.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Session {
    /// Nobody can guess it.
    id: String,
    /// `sub` of the provider, which never changes.
    subject: String,
    user: Option<Arc<str>>,
    roles: Vec<Arc<str>>,
    permissions: Vec<Arc<str>>,
    scopes: Vec<Arc<str>>,
    tenant: Option<Arc<str>>,
    /// Claims that are kept besides.
    claims: Object,
    /// Seconds since 1970, as all times here.
    began: u64,
    seen: u64,
    access: Option<Access>,
    /// What tells the provider who logs out.
    id_token: Option<String>,
}

/// What the provider lets the gateway know, and for how long.
#[derive(Clone, Serialize, Deserialize)]
struct Access {
    refresh_token: String,
    renew: u64,
    until: u64,
}

/// What is kept of claims.
pub(super) struct Keeping {
    pub(super) mapping: Mapping,
    /// Names of claims.
    pub(super) claims: Vec<String>,
}

/// What is to be done with a session now.
pub(super) enum Due<'s> {
    /// It has ended.
    Ended,
    /// Nothing.
    Nothing,
    /// The browser is told that it was seen.
    Seen,
    /// Its access is renewed, with this.
    Renewal(&'s str),
}

impl Session {
    /// Begins now.
    pub(super) fn begin(
        (id, subject): (String, String),
        claims: &Object,
        keeping: &Keeping,
        (tokens, now): (&Tokens, Duration),
    ) -> Self {
        let now_s = now.as_secs();
        let mut session = Self {
            id,
            subject,
            user: None,
            roles: Vec::new(),
            permissions: Vec::new(),
            scopes: Vec::new(),
            tenant: None,
            claims: Object::new(),
            began: now_s,
            seen: now_s,
            access: None,
            id_token: None,
        };
        session.know(claims, keeping);
        session.take(tokens, now);
        session
    }

    /// Goes on with what is new.
    pub(super) fn renewed(&mut self, new: &Renewed, keeping: &Keeping, now: Duration) {
        if let Some(claims) = &new.claims {
            self.know(claims, keeping);
        }
        self.take(&new.tokens, now);
        self.seen = now.as_secs();
    }

    fn know(&mut self, claims: &Object, keeping: &Keeping) {
        let known = keeping.mapping.identity(&"".into(), claims.clone(), None);
        (self.user, self.tenant) = (known.user, known.tenant);
        (self.roles, self.permissions, self.scopes) = (known.roles, known.permissions, known.scopes);
        let kept = |name: &String| Some((name.clone(), claims.get(name)?.clone()));
        self.claims = keeping.claims.iter().filter_map(kept).collect();
    }

    fn take(&mut self, tokens: &Tokens, now: Duration) {
        let before = self.access.take().map(|access| access.refresh_token);
        // A provider that gives no other one goes on with the one that there is (RFC 6749, 6).
        let refresh_token = tokens.refresh_token.clone().or(before);
        if let (Some(refresh_token), Some(life)) = (refresh_token, tokens.life) {
            let until = now.saturating_add(life);
            let renew = until.saturating_sub((life / 10).min(EARLY));
            self.access = Some(Access { refresh_token, renew: renew.as_secs(), until: until.as_secs() });
        }
        self.id_token = tokens.id_token.clone().or(self.id_token.take());
    }

    /// Access is as it was, but the provider wants to be shown this refresh token the next time.
    pub(super) fn show_next(&mut self, refresh_token: &str) {
        if let Some(access) = &mut self.access {
            refresh_token.clone_into(&mut access.refresh_token);
        }
    }

    /// Which one it is.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Whose it is.
    pub(super) fn subject(&self) -> &str {
        &self.subject
    }

    /// What the provider said last of who it is.
    pub(super) fn id_token(&self) -> Option<&str> {
        self.id_token.as_deref()
    }

    /// Leaves out what a session can do without.
    pub(super) fn slim(&mut self) {
        self.id_token = None;
    }

    /// When it ends if nobody does anything.
    pub(super) fn end(&self, lifetimes: Lifetimes) -> Duration {
        let end = self.latest_end(lifetimes);
        lifetimes.idle.map_or(end, |idle| end.min(Duration::from_secs(self.seen).saturating_add(idle)))
    }

    /// When it ends whatever anybody does.
    pub(super) fn latest_end(&self, lifetimes: Lifetimes) -> Duration {
        Duration::from_secs(self.began).saturating_add(lifetimes.session)
    }

    /// What is to be done at `now`.
    pub(super) fn due(&self, lifetimes: Lifetimes, now: Duration) -> Due<'_> {
        if now >= self.end(lifetimes) || Duration::from_secs(self.began) > now.saturating_add(EARLY) {
            return Due::Ended;
        }
        if let Some(access) = &self.access
            && now.as_secs() >= access.renew
        {
            return Due::Renewal(&access.refresh_token);
        }
        let since = now.saturating_sub(Duration::from_secs(self.seen));
        // Not every request: an eighth of the time is not missed.
        if lifetimes.idle.is_some_and(|idle| since >= idle / 8) { Due::Seen } else { Due::Nothing }
    }

    /// Until when nothing is to be done, if that is so now.
    pub(super) fn rests_until(&self, lifetimes: Lifetimes) -> Duration {
        let end = self.end(lifetimes);
        let renew = self.access.as_ref().map_or(end, |access| Duration::from_secs(access.renew));
        let seen = lifetimes.idle.map_or(end, |idle| Duration::from_secs(self.seen).saturating_add(idle / 8));
        end.min(renew).min(seen)
    }

    /// Whether what the provider allowed still holds.
    pub(super) fn has_access(&self, now: Duration) -> bool {
        self.access.as_ref().is_none_or(|access| now.as_secs() < access.until)
    }

    /// It was seen now.
    pub(super) fn see(&mut self, now: Duration) {
        self.seen = now.as_secs();
    }

    /// Who it is, as the way called `way` knows.
    pub(super) fn identity(self, way: &Arc<str>, lifetimes: Lifetimes) -> Identity {
        let end = self.end(lifetimes);
        let access = self.access.as_ref().map(|access| Duration::from_secs(access.until));
        Identity {
            way: Arc::clone(way),
            expires: Some(access.map_or(end, |access| access.min(end))),
            user: self.user,
            roles: self.roles,
            permissions: self.permissions,
            scopes: self.scopes,
            tenant: self.tenant,
            claims: Value::Object(self.claims),
            rate: None,
        }
    }
}
