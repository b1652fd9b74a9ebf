//! The cookies of a way: one session, in as many parts as it needs, and the logins that are under way, one cookie each. Other cookies are not
//! touched.

use std::time::Duration;

use tidegate_core::affinity::set_cookie;
use tidegate_core::client::Scheme;
use tidegate_core::exchange::Exchange;
use tidegate_core::query;

use crate::auth::credential::remove_cookies;

/// Bytes of a part. Browsers keep 4096, with the name and what is said about it (RFC 6265, 6.1).
const PART: usize = 3800;

/// Parts of a session: with all logins they must fit into the fields that a request may have.
const MOST_PARTS: usize = 4;

/// Logins that may be under way in one browser.
pub(super) const MOST_LOGINS: usize = 5;

/// Logins that are looked at: browsers that have opened many tabs at once show more than they may have, and whoever shows more than this is none.
const MOST_SHOWN: usize = 4 * MOST_LOGINS;

/// Characters of a login's state that its cookie is called by. The others remain a secret of both.
const CALLED: usize = 8;

/// What stands between the name and what tells cookies of one way apart: no name of a way has it.
const MARK: char = '~';

/// The name of a cookie that only its own host can have set, over TLS (RFC 6265bis, 4.1.3.2).
const HOST: &str = "__Host-";

/// What cookies are called.
pub(super) struct Cookies {
    plain: String,
    /// Over TLS.
    host: String,
}

/// The session does not fit into cookies; this is its length in bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge(pub(super) usize);

impl Cookies {
    /// Cookies whose names begin with this.
    pub(super) fn new(name: &str) -> Self {
        Self { plain: name.to_owned(), host: format!("{HOST}{name}") }
    }

    fn name(&self, exchange: &Exchange) -> &str {
        if is_secure(exchange) { &self.host } else { &self.plain }
    }

    /// The session that a request shows, sealed.
    pub(super) fn session(&self, exchange: &Exchange) -> Option<Vec<u8>> {
        let fields = &exchange.head.fields;
        let name = self.name(exchange);
        let first = query::cookies(fields, name).next()?;
        let (count, first) = (first.first()?, first.get(1..)?.strip_prefix(b".")?);
        let count = usize::from(count.checked_sub(b'0')?);
        if !(1..=MOST_PARTS).contains(&count) {
            return None;
        }
        let mut whole = first.to_vec();
        for number in 1..count {
            whole.extend(query::cookies(fields, &part(name, number)).next()?);
        }
        Some(whole)
    }

    /// Has the browser keep a session for so long, instead of any other.
    pub(super) fn keep_session(&self, exchange: &mut Exchange, sealed: &str, age: Duration) -> Result<(), TooLarge> {
        let name = self.name(exchange).to_owned();
        let count = sealed.len().div_ceil(PART);
        if count > MOST_PARTS {
            return Err(TooLarge(sealed.len()));
        }
        let secure = is_secure(exchange);
        let first = sealed.get(..sealed.len().min(PART)).unwrap_or_default();
        exchange.cookies.push(set_cookie(&name, &format!("{count}.{first}"), Some(age), secure));
        for number in 1..count {
            let (from, to) = (number * PART, sealed.len().min((number + 1) * PART));
            let value = sealed.get(from..to).unwrap_or_default();
            exchange.cookies.push(set_cookie(&part(&name, number), value, Some(age), secure));
        }
        self.forget_parts(exchange, count);
        Ok(())
    }

    /// Has the browser forget the session.
    pub(super) fn forget_session(&self, exchange: &mut Exchange) {
        let name = self.name(exchange).to_owned();
        forget(exchange, &name);
        self.forget_parts(exchange, 1);
    }

    /// Parts from this one on that the browser still has.
    fn forget_parts(&self, exchange: &mut Exchange, from: usize) {
        let name = self.name(exchange).to_owned();
        for number in from..MOST_PARTS {
            let part = part(&name, number);
            if query::cookies(&exchange.head.fields, &part).next().is_some() {
                forget(exchange, &part);
            }
        }
    }

    /// The login that a state belongs to, sealed.
    pub(super) fn login(&self, exchange: &Exchange, state: &str) -> Option<Vec<u8>> {
        let name = login(self.name(exchange), state)?;
        query::cookies(&exchange.head.fields, &name).next().map(<[u8]>::to_vec)
    }

    /// The logins that are under way, but no more than a browser could have: what their states begin with, and they themselves, sealed.
    pub(super) fn logins<'e>(&self, exchange: &'e Exchange) -> Vec<(&'e str, &'e [u8])> {
        let prefix = format!("{}{MARK}", self.name(exchange));
        let of_login = |pair: &'e [u8]| {
            let (name, sealed) = query::split_cookie(pair);
            let called = std::str::from_utf8(name).ok()?.strip_prefix(&prefix)?;
            Some((called, sealed?)).filter(|_| called.len() == CALLED)
        };
        query::cookie_pairs(&exchange.head.fields).filter_map(of_login).take(MOST_SHOWN).collect()
    }

    /// Has the browser keep a login for so long.
    pub(super) fn keep_login(&self, exchange: &mut Exchange, state: &str, sealed: &str, age: Duration) {
        if let Some(name) = login(self.name(exchange), state) {
            exchange.cookies.push(set_cookie(&name, sealed, Some(age), is_secure(exchange)));
        }
    }

    /// Has the browser forget a login.
    pub(super) fn forget_login(&self, exchange: &mut Exchange, state: &str) {
        if let Some(name) = login(self.name(exchange), state) {
            forget(exchange, &name);
        }
    }

    /// Takes them out of what the service will see, under both names.
    pub(super) fn conceal(&self, exchange: &mut Exchange) {
        remove_cookies(exchange, |name| self.is_own(name));
    }

    /// Whether the browser is told to keep or to forget any of them.
    pub(super) fn are_told(&self, exchange: &Exchange) -> bool {
        let name = |line: &String| line.split('=').next().is_some_and(|name| self.is_own(name.as_bytes()));
        exchange.cookies.iter().any(name)
    }

    fn is_own(&self, name: &[u8]) -> bool {
        [&self.host, &self.plain].into_iter().any(|own| {
            let rest = name.strip_prefix(own.as_bytes());
            rest.is_some_and(|rest| rest.first().is_none_or(|&byte| char::from(byte) == MARK))
        })
    }
}

fn is_secure(exchange: &Exchange) -> bool {
    exchange.scheme == Scheme::Https
}

fn part(name: &str, number: usize) -> String {
    format!("{name}{MARK}{number}")
}

/// The cookie of a login; `None` if nothing of the gateway has such a state.
fn login(name: &str, state: &str) -> Option<String> {
    let fits = |text: &&str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    Some(format!("{name}{MARK}{}", state.get(..CALLED).filter(fits)?))
}

fn forget(exchange: &mut Exchange, name: &str) {
    exchange.cookies.push(set_cookie(name, "", Some(Duration::ZERO), is_secure(exchange)));
}
