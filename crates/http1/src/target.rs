//! The target of a request and the host it is for (RFC 9112 3.2 and 3.3). Which path spellings mean the same is not
//! decided here but in routing.

use std::net::Ipv6Addr;

use http::Method;

use crate::{Known, RequestError, RequestHead, Version, ascii};

/// A request target in its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// `http` or `https` in the case it came in; absolute form only.
    pub scheme: Option<&'a str>,
    /// `host[:port]`; absolute and authority form only.
    pub authority: Option<&'a str>,
    /// The path, `*` for the asterisk form, empty in authority form and where the absolute form has none.
    pub path: &'a str,
    /// What follows the first `?`.
    pub query: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// Takes a target apart without judging it.
    pub fn of(target: &'a str) -> Self {
        let (scheme, authority, rest) = if target.starts_with('/') || target == "*" {
            (None, None, target)
        } else if let Some((scheme, rest)) = target.split_once("://") {
            let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            (Some(scheme), Some(authority), rest)
        } else {
            (None, Some(target), "")
        };
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        Self { scheme, authority, path, query }
    }
}

/// The host a request is for, as `host[:port]`: from the target if it names one, else from the Host field. `None` is
/// possible in HTTP/1.0 and HTTP/2 only.
///
/// The Host field must be there in HTTP/1.1, once at most and valid in every version, and agree with the target:
/// RFC 9112 3.2.2 lets the target win, but then others on the way may have believed the field.
pub fn authority(head: &RequestHead) -> Result<Option<&str>, RequestError> {
    let host = match head.fields.single_text(Known::Host) {
        Ok(Some(host)) if is_authority(host) => host,
        Ok(Some(_)) => return Err(RequestError::Host),
        Ok(None) if head.version == Version::Http11 => return Err(RequestError::HostMissing),
        Ok(None) => return target_authority(&head.target).map(|named| named.map(|(_, authority)| authority)),
        Err(_) => return Err(RequestError::HostRepeated),
    };
    match target_authority(&head.target)? {
        Some((scheme, named)) if !same_host(scheme, named, host) => Err(RequestError::HostMismatch),
        Some((_, named)) => Ok(Some(named)),
        None => Ok(Some(host)),
    }
}

/// Whether this is `host[:port]`: a name of unreserved characters (RFC 3986 2.3) or an IPv6 address in brackets, and
/// a port up to 65535. Of what RFC 3986 3.2 also knows, user names, percent escapes, commas and the like are
/// refused: they only ever serve to confuse whoever reads the name next.
pub fn is_authority(text: &str) -> bool {
    let (valid, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        (address.parse::<Ipv6Addr>().is_ok(), port.as_bytes())
    } else {
        let length = text.bytes().position(|b| !ascii::is_host_byte(b)).unwrap_or(text.len());
        ((1..=255).contains(&length), text.as_bytes().get(length..).unwrap_or_default())
    };
    valid && is_empty_or_port(port)
}

/// Whether the method may come with a target of this form (RFC 9112 3.2.1 to 3.2.4). The characters were checked.
pub(crate) fn check_form(method: &Method, target: &str) -> Result<(), RequestError> {
    let fits = if *method == Method::CONNECT {
        is_authority(target)
            && Target::of(target).authority.is_some_and(|host| !host.ends_with(']') && host.contains(':'))
    } else {
        target.starts_with('/') || target == "*" && *method == Method::OPTIONS || is_absolute(target)
    };
    if fits { Ok(()) } else { Err(RequestError::Target) }
}

fn is_absolute(target: &str) -> bool {
    let Target { scheme: Some(scheme), authority: Some(authority), .. } = Target::of(target) else { return false };
    default_port(scheme).is_some() && is_authority(authority)
}

/// The scheme and authority that the target names. Checked again: the head may have been made by others than the
/// reader.
fn target_authority(target: &str) -> Result<Option<(&str, &str)>, RequestError> {
    if target.starts_with('/') {
        return Ok(None);
    }
    let target = Target::of(target);
    match target.authority {
        Some(authority) if is_authority(authority) => Ok(Some((target.scheme.unwrap_or_default(), authority))),
        Some(_) => Err(RequestError::Target),
        None => Ok(None),
    }
}

fn is_empty_or_port(text: &[u8]) -> bool {
    match text {
        [] => true,
        [b':', digits @ ..] if (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit) => {
            digits.iter().fold(0, |number: u32, digit| number * 10 + u32::from(digit - b'0')) <= 65_535
        }
        _ => false,
    }
}

fn same_host(scheme: &str, a: &str, b: &str) -> bool {
    let port = default_port(scheme).unwrap_or_default();
    let (a, b) = (a.strip_suffix(port).unwrap_or(a), b.strip_suffix(port).unwrap_or(b));
    a.eq_ignore_ascii_case(b)
}

fn default_port(scheme: &str) -> Option<&'static str> {
    if scheme.eq_ignore_ascii_case("http") {
        Some(":80")
    } else if scheme.eq_ignore_ascii_case("https") {
        Some(":443")
    } else {
        None
    }
}
