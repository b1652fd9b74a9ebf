//! Query strings and cookies, read without building maps. Names and values of a query are decoded as forms are: `+` is a space.

use std::borrow::Cow;

use tidegate_http1::{Fields, Known};

use crate::path::{hex_pair, is_unreserved, push_encoded};

/// Query parameters whose values are never logged, lower case.
pub const CREDENTIALS: [&str; 12] = [
    "token",
    "access_token",
    "refresh_token",
    "id_token",
    "api_key",
    "apikey",
    "key",
    "password",
    "secret",
    "client_secret",
    "signature",
    "code",
];

/// Whether the value of a query parameter is never logged. The name is read as a service would: percent-encoding undone, and in any case.
pub fn is_credential(name: &str) -> bool {
    let hides = |name: &str| CREDENTIALS.iter().any(|credential| credential.eq_ignore_ascii_case(name));
    if name.contains('%') { hides(&percent_decode(name.as_bytes())) } else { hides(name) }
}

/// All values of a query parameter, decoded. Bytes that are not UTF-8 become replacement characters.
pub fn values<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = Cow<'a, str>> + Clone {
    pairs(query).filter(move |(key, _)| decode(key) == name).map(|(_, value)| decode(value))
}

/// The names and values of a query, as they are.
pub fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> + Clone {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// All values of a cookie, as they are.
pub fn cookies<'a>(fields: &'a Fields, name: &'a str) -> impl Iterator<Item = &'a [u8]> + Clone {
    cookie_pairs(fields).filter_map(move |pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// All cookies, over all `Cookie` fields (RFC 6265 5.4), as they are: names, each with `=` and a value if it has one.
pub fn cookie_pairs(fields: &Fields) -> impl Iterator<Item = &[u8]> + Clone {
    let pairs = fields.values(Known::Cookie).flat_map(|value| value.split(|&byte| byte == b';'));
    pairs.map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty())
}

/// The name of a cookie, and its value if it has one.
pub fn split_cookie(pair: &[u8]) -> (&[u8], Option<&[u8]>) {
    let (name, rest) = pair.split_at(pair.iter().position(|&byte| byte == b'=').unwrap_or(pair.len()));
    (name, rest.strip_prefix(b"="))
}

/// Decodes a name or value of a query.
pub fn decode(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let spaced = text.bytes().map(|byte| if byte == b'+' { b' ' } else { byte }).collect::<Vec<_>>();
    Cow::Owned(percent_decode(&spaced))
}

/// A part of a path, decoded.
pub fn unescape(text: &str) -> Cow<'_, str> {
    if text.contains('%') { percent_decode(text.as_bytes()).into() } else { text.into() }
}

/// Decodes every `%XX`; a `%` without two digits stands for itself.
pub fn percent_decode(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = if byte == b'%' { hex_pair(after) } else { None };
        bytes.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Writes text so that it is one component of a path or query: everything but unreserved characters is percent-encoded.
pub fn encode(text: &[u8], out: &mut String) {
    for &byte in text {
        if is_unreserved(byte) {
            out.push(char::from(byte));
        } else {
            push_encoded(byte, out);
        }
    }
}
