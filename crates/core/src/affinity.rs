//! What keeps a client with its endpoint or its part of the traffic: a number made of something in its request. The numbers are
//! the same in every process and version, so that several gateways, and a gateway after a restart, agree.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use tidegate_config::config::Key;
use tidegate_config::value::PathPattern;

use crate::exchange::Exchange;
use crate::query;

/// The hash of what `key` names in a request, as its client sent it, whatever was rewritten since; `None` if it is not there or
/// empty. `pattern` is the path condition of the exchange's route.
///
/// A query is decoded, the first of several values counts, and IPv4-mapped addresses count as IPv4. Path parameters and
/// cookies are taken as they stand in the canonical path and in the field.
pub fn of(key: &Key, exchange: &Exchange, pattern: &PathPattern) -> Option<u64> {
    with_value(key, exchange, pattern, hash)
}

/// What `make` makes of what `key` names in a request, by the rules of [`of`].
pub fn with_value<T>(
    key: &Key,
    exchange: &Exchange,
    pattern: &PathPattern,
    make: impl FnOnce(&[u8]) -> T,
) -> Option<T> {
    let fields = &exchange.head.fields;
    // Nobody is told apart by nothing.
    let make = |value: &[u8]| (!value.is_empty()).then(|| make(value));
    match key {
        Key::ClientIp => match exchange.client.to_canonical() {
            IpAddr::V4(address) => make(&address.octets()),
            IpAddr::V6(address) => make(&address.octets()),
        },
        Key::Header(name) => make(fields.value(&**name)?),
        Key::Cookie(name) => make(query::cookies(fields, name).next()?),
        Key::Query(name) => make(query::values(exchange.asked_query(), name).next()?.as_bytes()),
        Key::Path(name) => make(exchange.params.value(pattern, name, exchange.asked_path())?.as_bytes()),
    }
}

/// The value of a `Set-Cookie` field for a cookie that the gateway makes: no script reads it, and other sites do not send it
/// along. Without `max_age` it ends with the browser's session; `secure` keeps it to https.
pub fn set_cookie(name: &str, value: &str, max_age: Option<Duration>, secure: bool) -> String {
    let mut cookie = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax");
    if let Some(age) = max_age {
        // Writing to a String cannot fail.
        write!(cookie, "; Max-Age={}", age.as_secs()).ok();
    }
    if secure {
        cookie.push_str("; Secure");
    }
    cookie
}

/// A hash of these bytes that never changes: FNV-1a of 64 bits, mixed once more, because its upper bits are poor for short texts
/// and choices are made by them. It is no defence against those who look for collisions: the worst that they get is the
/// same endpoint twice.
pub fn hash(bytes: &[u8]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    mix(bytes.iter().fold(OFFSET, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME)))
}

/// Another hash of the same thing, so that two choices made by one key do not depend on each other: the finalizer of
/// `SplitMix64`, in which every bit depends on all.
pub fn mix(hash: u64) -> u64 {
    finish(hash.wrapping_add(0x9e37_79b9_7f4a_7c15))
}

/// Every bit of the result depends on every bit of `bits`; different bits give different results (the end of `SplitMix64`).
pub(crate) fn finish(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
