//! Where a request may show a token, and how it is challenged to (RFC 6750).

use std::borrow::Cow;

use tidegate_config::config::Key;
use tidegate_config::policy::{KeyFile, Reading};
use tidegate_config::problem::Path;
use tidegate_core::exchange::Exchange;
use tidegate_http1::Known;

use super::credential::Credential;
use super::way::{Bad, Finding};

/// Where a token may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// In `Authorization`, after the scheme `Bearer`.
    Bearer,
    /// Anywhere else, with nothing around it.
    Bare(Credential),
}

/// There is something where a token may be, and it has not the form of one.
pub(super) struct Malformed;

impl Place {
    /// What is meant by the list that stands at `at`; without one it is `Authorization`.
    pub(super) fn read(places: &[KeyFile], at: &Path, reading: &mut Reading<'_, '_>) -> Vec<Self> {
        if places.is_empty() {
            return vec![Self::Bearer];
        }
        let mut found = Vec::with_capacity(places.len());
        for (position, place) in places.iter().enumerate() {
            match place {
                KeyFile(Key::Header(name)) if name.eq_ignore_ascii_case("authorization") => found.push(Self::Bearer),
                place => {
                    let at = reading.item(at, position);
                    let read = Credential::read(std::slice::from_ref(place), &at, reading);
                    found.extend(read.into_iter().map(Self::Bare));
                }
            }
        }
        found
    }

    fn token<'e>(&self, exchange: &'e Exchange) -> Result<Option<Cow<'e, [u8]>>, Malformed> {
        match self {
            Self::Bearer => {
                let mut values = exchange.head.fields.values(Known::Authorization);
                match (values.next(), values.next()) {
                    (None, _) => Ok(None),
                    (Some(value), None) => Ok(bearer(value)?.map(Cow::Borrowed)),
                    (Some(_), Some(_)) => Err(Malformed),
                }
            }
            Self::Bare(credential) => {
                let (mut found, mut count) = (None, 0);
                credential.visit(exchange, |value| {
                    count += 1;
                    found = Some(Cow::Owned(value.to_vec()));
                });
                if count > 1 { Err(Malformed) } else { Ok(found) }
            }
        }
    }
}

/// The token of a request: the first place that has one counts.
pub(super) fn token<'e>(places: &[Place], exchange: &'e Exchange) -> Option<Result<Cow<'e, [u8]>, Malformed>> {
    places.iter().find_map(|place| place.token(exchange).transpose())
}

/// Services may want the token, but not in a URL, which is written down in many places (RFC 6750, 5.3).
pub(super) fn conceal(places: &[Place], exchange: &mut Exchange) {
    for place in places {
        if let Place::Bare(credential @ Credential::Query(_)) = place {
            credential.remove(exchange);
        }
    }
}

/// What callers are told who show no token.
pub(super) fn missing(places: &[Place]) -> &'static str {
    let has_bearer = places.iter().any(|place| matches!(place, Place::Bearer));
    if has_bearer { "Missing authorization header" } else { "Missing token" }
}

/// What callers are challenged to by the way of this name (RFC 6750, 3).
pub(super) fn challenge(way: &str) -> String {
    format!("Bearer realm=\"{way}\"")
}

/// There is no single token where it should be.
pub(super) fn malformed(way: &str) -> Finding {
    let detail = "Invalid authorization header format";
    bad(way, "there is no single token where it should be", (detail, "invalid_request"))
}

/// The token proves nothing.
pub(super) fn invalid(way: &str, cause: &str) -> Finding {
    bad(way, cause, ("Invalid token", "invalid_token"))
}

fn bad(way: &str, cause: &str, (detail, error): (&'static str, &str)) -> Finding {
    let challenge = Some(format!("{}, error=\"{error}\"", challenge(way)));
    Finding::Bad(Bad { cause: cause.to_owned(), detail, challenge })
}

/// The token in `Bearer TOKEN` (RFC 6750, 2.1); `None` where there is another scheme. The scheme's case does not matter.
fn bearer(value: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    let mut parts = value.splitn(2, |byte| *byte == b' ');
    let (scheme, token) = (parts.next().unwrap_or_default(), parts.next().map(<[u8]>::trim_ascii));
    let is_bearer = scheme.eq_ignore_ascii_case(b"bearer");
    match token {
        Some(token) if is_bearer && !token.is_empty() && !token.contains(&b' ') => Ok(Some(token)),
        Some(_) if !is_bearer => Ok(None),
        _ => Err(Malformed),
    }
}
