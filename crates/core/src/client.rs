//! Who sent a request: the socket's peer, and behind trusted proxies the client that they name. It does not authenticate
//! anybody, and nobody is trusted by default.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use ipnet::IpNet;
use tidegate_http1::{Fields, Known};

/// The other end of a client connection. Made once per connection: the client of a request may be somebody else, see
/// [`client_address`].
#[derive(Debug, Clone)]
pub struct Peer {
    /// The address as the socket (or the PROXY protocol) gave it.
    pub socket: IpAddr,
    /// The port of the other end.
    pub port: u16,
    /// The same address, IPv4-mapped ones as IPv4.
    pub address: IpAddr,
    /// The socket's other end is a trusted proxy; a request of an older connection asks again, see [`Self::as_seen_by`].
    pub trusted: bool,
    /// What the handshake said; `None` on plain connections.
    pub tls: Option<Arc<TlsFacts>>,
    /// The listener's name.
    pub listener: Arc<str>,
    /// The listener's port.
    pub listener_port: u16,
    /// `address` as text, because every request is forwarded with it.
    text: Arc<str>,
}

impl Peer {
    /// The peer of a new connection.
    pub fn new(socket: SocketAddr, listener: Arc<str>, listener_port: u16, trusted: &TrustedProxies) -> Self {
        let address = socket.ip().to_canonical();
        let trusted = trusted.contains(address);
        let text = address.to_string().into();
        Self { socket: socket.ip(), port: socket.port(), address, trusted, tls: None, listener, listener_port, text }
    }

    /// The same, trusted as these proxies say now: a connection may be older than they are, and all of one request must be judged by the
    /// same ones.
    #[must_use]
    pub fn as_seen_by(self: Rc<Self>, proxies: &TrustedProxies) -> Rc<Self> {
        let trusted = proxies.contains(self.address);
        if trusted == self.trusted { self } else { Rc::new(Self { trusted, ..Self::clone(&self) }) }
    }

    /// The address as text.
    pub fn address_text(&self) -> &str {
        &self.text
    }

    /// The scheme of the connection itself.
    pub fn scheme(&self) -> Scheme {
        if self.tls.is_some() { Scheme::Https } else { Scheme::Http }
    }
}

/// What is known from a TLS handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFacts {
    /// The name that the client asked for (SNI), lower case.
    pub server_name: Option<Arc<str>>,
    /// `TLSv1.2` or `TLSv1.3`.
    pub protocol: &'static str,
    /// The client's certificate, if it sent one that was verified.
    pub client: Option<ClientCert>,
}

/// The identity that a verified client certificate states.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientCert {
    /// The common name of the subject; empty when there is none.
    pub subject: Arc<str>,
    /// Subject alternative names, in its order.
    pub sans: Vec<San>,
    /// SHA-256 of the whole certificate, in hexadecimal, lower case.
    pub fingerprint: Arc<str>,
}

/// A subject alternative name (RFC 5280, 4.2.1.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct San {
    /// What it names.
    pub kind: SanKind,
    /// The name.
    pub name: Arc<str>,
}

impl std::fmt::Display for San {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// What a subject alternative name names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SanKind {
    /// A host.
    Dns,
    /// A resource, such as `spiffe://example.com/robot`.
    Uri,
    /// A mailbox.
    Email,
    /// An address.
    Address,
}

/// `http` or `https`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Plain.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// As it stands in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that a URL need not write.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// The networks whose peers may say for whom they speak.
pub type TrustedProxies = Networks;

/// A set of addresses, given as networks. Asking an empty one costs nothing, a large one a binary search.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks {
    /// First and last address of each range, as IPv6 (IPv4-mapped), in order and disjoint.
    ranges: Vec<(u128, u128)>,
}

impl Networks {
    /// The union of these networks.
    pub fn new(networks: &[IpNet]) -> Self {
        let mut ranges: Vec<_> = networks.iter().map(|n| (number(n.network()), number(n.broadcast()))).collect();
        ranges.sort_unstable();
        ranges.dedup_by(|next, kept| {
            let joined = next.0 <= kept.1.saturating_add(1);
            if joined {
                kept.1 = kept.1.max(next.1);
            }
            joined
        });
        Self { ranges }
    }

    /// Whether the address lies in one of the networks. IPv4-mapped IPv6 addresses count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        if self.ranges.is_empty() {
            return false;
        }
        let address = number(address);
        let after = self.ranges.partition_point(|&(first, _)| first <= address);
        after.checked_sub(1).and_then(|at| self.ranges.get(at)).is_some_and(|&(_, last)| address <= last)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether every address of `other` is in this set.
    pub fn covers(&self, other: &Self) -> bool {
        other.ranges.iter().all(|&(first, last)| self.ranges.iter().any(|range| range.0 <= first && last <= range.1))
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The client's address. From a peer that is not trusted it is the peer's own. Else the chain in `X-Forwarded-For` (or, where
/// that is absent, in `Forwarded`, RFC 7239) is walked from the right, past trusted proxies, to the first that is not one;
/// what stands left of it is hearsay. A chain with something else than addresses ends where that stands.
pub fn client_address(peer: IpAddr, trusted: &TrustedProxies, fields: &Fields) -> IpAddr {
    let peer = peer.to_canonical();
    if !trusted.contains(peer) {
        return peer;
    }
    if fields.contains(Known::XForwardedFor) {
        walk(peer, trusted, fields.tokens(Known::XForwardedFor))
    } else if fields.contains(Known::Forwarded) {
        walk(
            peer,
            trusted,
            fields.tokens(Known::Forwarded).map(|element| parameter(element, b"for").unwrap_or_default()),
        )
    } else {
        peer
    }
}

/// The scheme that the client used: that of the connection, or what a trusted proxy says in `X-Forwarded-Proto` (or, where it
/// speaks that dialect, in `Forwarded`).
pub fn client_scheme(peer: &Peer, fields: &Fields) -> Scheme {
    let told = || fields.tokens(Known::XForwardedProto).last().or_else(|| forwarded(fields, b"proto"));
    match peer.trusted.then(told).flatten() {
        Some(proto) if proto.eq_ignore_ascii_case(b"https") || proto.eq_ignore_ascii_case(b"wss") => Scheme::Https,
        Some(proto) if proto.eq_ignore_ascii_case(b"http") || proto.eq_ignore_ascii_case(b"ws") => Scheme::Http,
        _ => peer.scheme(),
    }
}

/// The host of an authority (`host`, `host:port`, `[::1]:80`), written to `host` in lower case, without its port and without
/// the dot at the end that only says that a name is absolute. IPv6 keeps its brackets and gets its shortest form.
pub fn host_of(authority: &str, host: &mut String) {
    host.clear();
    if let Some((address, _)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let canonical = address.parse::<Ipv6Addr>().map_or_else(|_| address.to_owned(), |address| address.to_string());
        host.extend(["[", &canonical, "]"]);
        host.make_ascii_lowercase();
        return;
    }
    // By bytes: a search for a character is made for texts much longer than a host.
    let colon = authority.bytes().position(|byte| byte == b':');
    let name = colon.and_then(|at| authority.get(..at)).unwrap_or(authority);
    host.push_str(name.strip_suffix('.').unwrap_or(name));
    host.make_ascii_lowercase();
}

fn walk<'a>(peer: IpAddr, trusted: &TrustedProxies, chain: impl Iterator<Item = &'a [u8]>) -> IpAddr {
    // Only the addresses right of the last one that is not trusted matter, so one pass from the left can forget the others.
    let mut client = Some(peer);
    let mut leftmost = None;
    for member in chain {
        match parse_address(member) {
            Some(address) if trusted.contains(address) => {
                leftmost = leftmost.or(Some(address));
            }
            Some(address) => (client, leftmost) = (Some(address), None),
            None => (client, leftmost) = (None, None),
        }
    }
    // `leftmost` is what the walk reaches last before it ends at `client`, the nearest that is not trusted.
    match (client, leftmost) {
        (Some(client), _) if !trusted.contains(client) => client,
        (_, Some(leftmost)) => leftmost,
        (_, None) => peer,
    }
}

/// An address as it stands in these fields: plain, in brackets, with a port or without.
fn parse_address(member: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(member).ok()?.trim_matches('"');
    let address = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip())),
    };
    address.map(|address| address.to_canonical())
}

/// What the nearest proxy says of the client in `Forwarded` (RFC 7239, 4): the parameter of the last element. A proxy that writes
/// `X-Forwarded-For` or `-Proto` speaks the other dialect, and may pass on what its clients write in this one.
pub(crate) fn forwarded<'f>(fields: &'f Fields, name: &[u8]) -> Option<&'f [u8]> {
    if fields.contains(Known::XForwardedFor) || fields.contains(Known::XForwardedProto) {
        return None;
    }
    let value = parameter(fields.tokens(Known::Forwarded).last()?, name)?;
    Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
}

/// The value of a parameter in one element of `Forwarded`, quoted if it stands so.
fn parameter<'e>(element: &'e [u8], wanted: &[u8]) -> Option<&'e [u8]> {
    element.split(|&byte| byte == b';').find_map(|pair| {
        let (name, value) = pair.trim_ascii().split_at_checked(wanted.len())?;
        value.strip_prefix(b"=").filter(|_| name.eq_ignore_ascii_case(wanted))
    })
}
