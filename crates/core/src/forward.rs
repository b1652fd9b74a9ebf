//! What a message's head becomes when the gateway passes it on: the one place that drops hop-by-hop fields, tells the service
//! about the client and signs the reply. `explain` prints what this makes. It does not frame bodies and does not route.

mod told;

use std::net::IpAddr;

use http::{Method, StatusCode};
use tidegate_http1::{Fields, Known, NameRef, Names, RequestHead, ResponseHead, Version, decimal};

use self::told::Facts;
pub use self::told::Told;
use crate::client::{Peer, Scheme};

use crate::shaping::MIRRORED;

/// The name by which the gateway signs `Via` and `X-Gateway`.
pub const PSEUDONYM: &str = "tidegate";

/// Everything that decides how a request's head is passed on.
#[derive(Debug, Clone, Copy)]
pub struct Forwarding<'a> {
    /// The other end of the connection.
    pub peer: &'a Peer,
    /// The client's address (see [`crate::client::client_address`]).
    pub client: IpAddr,
    /// The scheme that the client used (see [`crate::client::client_scheme`]).
    pub scheme: Scheme,
    /// What `Host` says to the service; `None` keeps what the client said.
    pub host: Option<&'a str>,
    /// Name and value of the field that carries the request's identifier.
    pub request_id: (NameRef<'a>, &'a str),
    /// The protocol to which the connection may be upgraded (see [`upgrade_requested`]); `None` drops the wish.
    pub upgrade: Option<&'a str>,
    /// What services were told about clients before.
    pub told: &'a Told,
}

/// Turns the head that a client sent into the head that the service gets, in place. The target is left alone: it is canonical or
/// rewritten already. `Content-Length` and `Transfer-Encoding` are gone afterwards: whoever sends the body frames it.
///
/// Dropped are the hop-by-hop fields (RFC 9110 7.6.1) with all that `Connection` names, `Expect`, and what only the gateway
/// may say: the forwarded family of peers that are not trusted, and every spelling of it with `_` or `.` instead of `-`.
/// What the gateway says itself is added after that, so a client can neither forge nor drop it.
pub fn request(head: &mut RequestHead, forwarding: &Forwarding<'_>) {
    let named = NamedByConnection::of(&head.fields);
    let trailers = head.fields.tokens(Known::Te).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
    let told = forwarding.told.tell(&Facts { fields: &head.fields, forwarding, version: head.version });
    let dropping = Dropping { trusted: forwarding.peer.trusted, request_id: forwarding.request_id.0, named: &named };
    head.fields.retain_names(|name| !dropping.drops(name));

    let fields = &mut head.fields;
    if let Some(host) = forwarding.host {
        set(fields, Known::Host, host.as_bytes());
    }
    let appended = told.and_then(|told| fields.append_lines(&told));
    debug_assert!(appended.is_ok(), "what is told is made here, or was a field's value before");
    // Only ours is left to stand: the client's own was dropped.
    let (name, value) = forwarding.request_id;
    identify(fields, name, value);
    connection_options(fields, trailers, forwarding.upgrade);
}

/// Counts a forwarding of OPTIONS or TRACE, where the client says how many there may be (`Max-Forwards`, RFC 9110, 7.6.2). False if there
/// may be no more: whoever has the request must answer it.
pub fn may_go_on(head: &mut RequestHead) -> bool {
    if !matches!(head.method, Method::OPTIONS | Method::TRACE) {
        return true;
    }
    let Some(left) = head.fields.text(MAX_FORWARDS).and_then(|left| left.parse::<u64>().ok()) else { return true };
    let Some(left) = left.checked_sub(1) else { return false };
    set(&mut head.fields, MAX_FORWARDS, &decimal(left));
    true
}

const MAX_FORWARDS: &str = "Max-Forwards";

/// What a reply's head needs on its way back.
#[derive(Debug, Clone, Copy)]
pub struct Returning<'a> {
    /// The version in which the service answered.
    pub version: Version,
    /// Name and value of the field that carries the request's identifier.
    pub request_id: (NameRef<'a>, &'a str),
    /// The protocol of a `101`, or the one that a `426` demands; `None` for every other reply.
    pub upgrade: Option<&'a str>,
}

/// Turns the fields that a service sent into those that the client gets, in place: hop-by-hop fields and what `Connection`
/// names are dropped, `Via` and the request's identifier added. Everything else keeps its order and its repetitions.
/// `Content-Length` stays, because a reply to `HEAD` and a `304` may state the length of what they do not carry
/// (RFC 9110 8.6); `Transfer-Encoding` is gone.
pub fn reply(fields: &mut Fields, returning: &Returning<'_>) {
    interim(fields);
    let signed = fields.append_line(Known::Via, via_line(returning.version));
    debug_assert!(signed.is_ok(), "it is written as lines are");
    let (name, value) = returning.request_id;
    if fields.contains(name) {
        set(fields, name, value.as_bytes());
    } else {
        identify(fields, name, value);
    }
    connection_options(fields, false, returning.upgrade);
}

/// The same for a `1xx`, which is passed on with what it says and no more.
pub fn interim(fields: &mut Fields) {
    if !fields.contains_any(HOP_BY_HOP) {
        return;
    }
    let named = NamedByConnection::of(fields);
    fields.retain_names(|name| match name {
        Ok(known) => !(HOP_BY_HOP.contains(known) || named.contains(name) && !KEPT_IN_REPLIES.contains(known)),
        Err(_) => !named.contains(name),
    });
}

/// The protocol to which a client wants to upgrade, if `allowed` (lower-case names) has it: `websocket`. Only an HTTP/1.1
/// `GET` without a body can be upgraded here (RFC 9110 7.8, RFC 6455 4.1); any other wish is dropped like the hop-by-hop
/// field it is.
pub fn upgrade_requested<'a>(head: &RequestHead, allowed: &'a [std::sync::Arc<str>]) -> Option<&'a str> {
    let fields = &head.fields;
    if !fields.contains(Known::Upgrade) || head.version != Version::Http11 || head.method != Method::GET {
        return None;
    }
    let empty = fields.value(Known::ContentLength).is_none_or(|length| length == b"0");
    let named = fields.tokens(Known::Connection).any(|option| option.eq_ignore_ascii_case(b"upgrade"));
    if !empty || fields.contains(Known::TransferEncoding) || !named {
        return None;
    }
    first_allowed(fields, allowed)
}

/// The protocol that a service demands by a `426` (RFC 9110 15.5.22), if `allowed` has it: a client of HTTP/1.1 may come back with it.
pub fn upgrade_demanded<'a>(
    reply: &ResponseHead,
    client: Version,
    allowed: &'a [std::sync::Arc<str>],
) -> Option<&'a str> {
    let demanded = reply.status == StatusCode::UPGRADE_REQUIRED && client == Version::Http11;
    if demanded { first_allowed(&reply.fields, allowed) } else { None }
}

fn first_allowed<'a>(fields: &Fields, allowed: &'a [std::sync::Arc<str>]) -> Option<&'a str> {
    let mut protocols = fields.tokens(Known::Upgrade);
    protocols
        .find_map(|wish| allowed.iter().find(|name| name.as_bytes().eq_ignore_ascii_case(wish)))
        .map(|name| &**name)
}

/// Whether these fields describe a reply that is a stream by nature, so that silence in it means nothing.
pub fn is_stream(fields: &Fields) -> bool {
    fields.value(Known::ContentType).is_some_and(|value| is_event_stream_type(value) || is_grpc_type(value))
}

/// Whether these fields describe a gRPC message: `application/grpc` with or without a suffix.
pub fn is_grpc(fields: &Fields) -> bool {
    fields.value(Known::ContentType).is_some_and(is_grpc_type)
}

/// Whether these fields describe a stream of server-sent events.
pub fn is_event_stream(fields: &Fields) -> bool {
    fields.value(Known::ContentType).is_some_and(is_event_stream_type)
}

fn is_grpc_type(value: &[u8]) -> bool {
    is_media_type(value, b"application/grpc", |next| matches!(next, b'+' | b';' | b' '))
}

fn is_event_stream_type(value: &[u8]) -> bool {
    is_media_type(value, b"text/event-stream", |next| matches!(next, b';' | b' '))
}

#[inline]
fn is_media_type(value: &[u8], media_type: &[u8], ends: impl Fn(u8) -> bool) -> bool {
    let Some((start, rest)) = value.split_at_checked(media_type.len()) else { return false };
    start.eq_ignore_ascii_case(media_type) && rest.first().is_none_or(|&next| ends(next))
}

/// The fields that `Connection` names.
struct NamedByConnection {
    known: Names,
    /// Almost always none, so almost never allocated.
    unknown: Vec<Box<[u8]>>,
    /// There were more than anybody needs: every field without a well-known name counts as named.
    countless: bool,
}

/// How many unknown names are compared with every field, so that a long list costs no more than its reading.
const COMPARED: usize = 64;

impl NamedByConnection {
    fn of(fields: &Fields) -> Self {
        let mut named = Self { known: Names::NONE, unknown: Vec::new(), countless: false };
        for option in fields.tokens(Known::Connection) {
            match Known::from_bytes(option) {
                Some(known) => _ = named.known.insert(known),
                None if option.eq_ignore_ascii_case(b"close") => {}
                None if named.unknown.len() < COMPARED => named.unknown.push(option.into()),
                None => named.countless = true,
            }
        }
        named
    }

    #[inline]
    fn contains(&self, name: Result<Known, &str>) -> bool {
        match name {
            Ok(known) => self.known.contains(known),
            Err(name) => self.countless || self.unknown.iter().any(|named| named.eq_ignore_ascii_case(name.as_bytes())),
        }
    }
}

const FROM_TRUSTED: Names = OWN.and(HOP_BY_HOP).and(DECIDED_ANEW);
const FROM_STRANGERS: Names = FROM_TRUSTED.and(TOLD_BY_PROXIES);
/// What a name with `_` or `.` may not become.
const FROM_NOBODY: Names = OWN.and(HOP_BY_HOP).and(Names::of(&[Known::Host, Known::ContentLength]));

/// Decides which of a client's fields the service never sees.
struct Dropping<'a> {
    trusted: bool,
    request_id: NameRef<'a>,
    named: &'a NamedByConnection,
}

impl Dropping<'_> {
    #[inline]
    fn drops(&self, name: Result<Known, &str>) -> bool {
        let by_name = match name {
            Ok(known) if self.trusted => FROM_TRUSTED.contains(known),
            Ok(known) => FROM_STRANGERS.contains(known),
            Err(name) => self.drops_unknown(name),
        };
        by_name || self.request_id.is(name) || (name != Ok(Known::Host) && self.named.contains(name))
    }

    /// Other members of the family (`X-Forwarded-User`, `-Ssl`, ...), the names by which some frameworks let a proxy say that
    /// another URL was meant than the one that was routed, and what becomes a name of the gateway when a server takes `_` or `.`
    /// for `-`, as CGI and its heirs do.
    fn drops_unknown(&self, name: &str) -> bool {
        if name.bytes().any(|byte| matches!(byte, b'_' | b'.')) {
            return self.drops_alias(name);
        }
        !self.trusted
            && (starts_with_ignoring_case(name, b"x-forwarded-")
                || name.eq_ignore_ascii_case("x-original-url")
                || name.eq_ignore_ascii_case("x-rewrite-url")
                || name.eq_ignore_ascii_case(MIRRORED))
    }

    fn drops_alias(&self, name: &str) -> bool {
        let mut plain = [0; LONGEST_ALIAS];
        let Some(plain) = plain.get_mut(..name.len()) else { return false };
        for (to, from) in plain.iter_mut().zip(name.bytes()) {
            *to = if matches!(from, b'_' | b'.') { b'-' } else { from.to_ascii_lowercase() };
        }
        plain.starts_with(b"x-forwarded-")
            || plain == b"x-original-url"
            || plain == b"x-rewrite-url"
            || plain == MIRRORED.as_bytes()
            || match Known::from_bytes(plain) {
                Some(known) => FROM_NOBODY.contains(known) || self.request_id.is(Ok(known)),
                None => std::str::from_utf8(plain).is_ok_and(|plain| self.request_id.is(Err(plain))),
            }
    }
}

/// Longer names are no spelling of any that the gateway sets.
const LONGEST_ALIAS: usize = 128;

/// What the gateway tells the service itself, a trusted peer's words included.
const OWN: Names = Names::of(&[
    Known::XForwardedFor,
    Known::XForwardedProto,
    Known::XForwardedHost,
    Known::XForwardedPort,
    Known::XRealIp,
    Known::Forwarded,
    Known::XGateway,
]);

/// What holds for one connection only (RFC 9110 7.6.1).
const HOP_BY_HOP: Names = Names::of(&[
    Known::Connection,
    Known::KeepAlive,
    Known::ProxyConnection,
    Known::ProxyAuthenticate,
    Known::ProxyAuthenticationInfo,
    Known::ProxyAuthorization,
    Known::Te,
    Known::TransferEncoding,
    Known::Upgrade,
    Known::Http2Settings,
]);

/// What the gateway decides anew for every request: the framing, and whether to wait for a `100`.
const DECIDED_ANEW: Names = Names::of(&[Known::ContentLength, Known::Expect]);

/// What only proxies say, and the gateway does not.
const TOLD_BY_PROXIES: Names = Names::of(&[Known::XForwardedPrefix, Known::XForwardedServer]);

/// What a service cannot make the gateway drop by naming it in `Connection`.
const KEPT_IN_REPLIES: Names = Names::of(&[Known::ContentLength, Known::Date, Known::CacheControl, Known::Via]);

fn starts_with_ignoring_case(name: &str, prefix: &[u8]) -> bool {
    name.as_bytes().get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// The version of the message that was received, and who received it (RFC 9110 7.6.3).
fn via(version: Version) -> &'static str {
    via_line(version).strip_prefix("via: ").unwrap_or_default().trim_end()
}

fn via_line(version: Version) -> &'static str {
    match version {
        Version::Http10 => "via: 1.0 tidegate\r\n",
        Version::Http11 => "via: 1.1 tidegate\r\n",
        Version::Http2 => "via: 2.0 tidegate\r\n",
    }
}

/// The options that the next hop must know about: what `TE` and `Upgrade` say holds for one connection (RFC 9110 7.6.1). A
/// sender of HTTP/2 leaves `connection` out.
fn connection_options(fields: &mut Fields, trailers: bool, upgrade: Option<&str>) {
    if trailers {
        add(fields, Known::Te, "trailers");
    }
    if let Some(protocol) = upgrade {
        add(fields, Known::Upgrade, protocol);
    }
    match (upgrade.is_some(), trailers) {
        (true, true) => add(fields, Known::Connection, "upgrade, te"),
        (true, false) => add(fields, Known::Connection, "upgrade"),
        (false, true) => add(fields, Known::Connection, "te"),
        (false, false) => {}
    }
}

/// Appends a value that is made here, or that was a field's value before, so that it cannot be refused.
fn add(fields: &mut Fields, name: Known, value: &str) {
    let appended = fields.append_text(name, value);
    debug_assert!(appended.is_ok(), "{name:?} is a field of the gateway's own");
}

/// Says the request's identifier, where no field of that name is left.
fn identify(fields: &mut Fields, name: NameRef<'_>, value: &str) {
    match name.known() {
        Some(known) => add(fields, known, value),
        None => set(fields, name, value.as_bytes()),
    }
}

/// Sets a field whose name and value were checked when they were made: the host by the rewriter, the identifier's name by
/// the configuration and its value by [`crate::request_id`].
fn set<'n>(fields: &mut Fields, name: impl Into<NameRef<'n>>, value: &[u8]) {
    let result = fields.set(name, value);
    debug_assert!(result.is_ok(), "the value was checked when it was made");
}
