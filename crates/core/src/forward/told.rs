//! What a service is told about the client, in lines that are made once for as long as there is nothing new to tell.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

use tidegate_http1::{Fields, InvalidField, Known, Lines, Value, Version, is_authority};

use super::{Forwarding, PSEUDONYM, via};
use crate::client::{Scheme, forwarded};
use crate::path::is_unreserved;

/// Clients that are remembered at once.
const REMEMBERED: usize = 64;

/// What was told about clients lately. A client's next request is nearly always told of in the same words, and copying them costs a
/// fraction of making them.
#[derive(Debug)]
pub struct Told([RefCell<Option<Remembered>>; REMEMBERED]);

#[derive(Debug)]
struct Remembered {
    subject: Subject,
    host: Box<str>,
    lines: Rc<Lines>,
}

/// All that decides what is told about the client of a peer that is not trusted, whose own words count for nothing; but for the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Subject {
    address: IpAddr,
    port: u16,
    scheme: Scheme,
    version: Version,
}

impl Default for Told {
    fn default() -> Self {
        Self([const { RefCell::new(None) }; REMEMBERED])
    }
}

impl Told {
    /// The lines that tell a service about the client.
    ///
    /// # Errors
    /// A trusted peer's word could not be said again.
    pub(super) fn tell(&self, facts: &Facts<'_>) -> Result<Rc<Lines>, InvalidField> {
        let Forwarding { peer, client, scheme, .. } = *facts.forwarding;
        let place = self.0.get(place(client)).filter(|_| !peer.trusted && client == peer.address);
        let Some(place) = place else { return facts.lines().map(Rc::new) };
        let subject = Subject { address: client, port: peer.listener_port, scheme, version: facts.version };
        let host = facts.fields.text(Known::Host).unwrap_or_default();
        let mut place = place.borrow_mut();
        match &*place {
            Some(known) if known.subject == subject && *known.host == *host => Ok(Rc::clone(&known.lines)),
            _ => {
                let lines = Rc::new(facts.lines()?);
                *place = Some(Remembered { subject, host: host.into(), lines: Rc::clone(&lines) });
                Ok(lines)
            }
        }
    }
}

/// Where what is told about a client is kept.
fn place(client: IpAddr) -> usize {
    let bits = match client {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    // Multiplied by the golden ratio's fraction: the highest bits depend on all others.
    let mixed = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) >> (u128::BITS - REMEMBERED.ilog2());
    usize::try_from(mixed).unwrap_or_default()
}

/// What the service is told about the client, made from the head as it came, before fields are dropped.
pub(super) struct Facts<'a> {
    pub(super) fields: &'a Fields,
    pub(super) forwarding: &'a Forwarding<'a>,
    pub(super) version: Version,
}

impl Facts<'_> {
    fn lines(&self) -> Result<Lines, InvalidField> {
        let mut lines = Lines::new(String::with_capacity(512));
        lines.add(Known::XForwardedFor, |out| self.chain(out))?;
        lines.add(Known::XForwardedProto, |out| self.scheme(out))?;
        lines.add(Known::XForwardedHost, |out| self.host(out))?;
        lines.add(Known::XForwardedPort, |out| self.port(out))?;
        lines.add(Known::XRealIp, |out| self.client(out))?;
        lines.add(Known::Forwarded, |out| self.forwarded(out))?;
        lines.add(Known::Via, |out| out.push_str(via(self.version)))?;
        lines.add(Known::XGateway, |out| out.push_str(PSEUDONYM))?;
        Ok(lines)
    }

    /// The chain of a trusted peer, then the peer itself: `203.0.113.7, 10.0.0.2`.
    fn chain(&self, out: &mut Value<'_>) {
        let Forwarding { peer, client, .. } = *self.forwarding;
        if peer.trusted && self.fields.contains(Known::XForwardedFor) {
            for member in self.fields.tokens(Known::XForwardedFor).filter_map(|member| std::str::from_utf8(member).ok())
            {
                out.push_str(member);
                out.push_str(", ");
            }
        } else if client != peer.address {
            // The peer spoke only the other dialect (RFC 7239): translated.
            self.client(out);
            out.push_str(", ");
        }
        out.push_str(peer.address_text());
    }

    fn scheme(&self, out: &mut Value<'_>) {
        out.push_str(self.forwarding.scheme.as_str());
    }

    fn host(&self, out: &mut Value<'_>) {
        let host = self.told(Known::XForwardedHost).or_else(|| self.forwarded_host());
        out.push_str(host.or_else(|| self.fields.text(Known::Host)).unwrap_or_default());
    }

    fn port(&self, out: &mut Value<'_>) {
        let Forwarding { peer, scheme, .. } = self.forwarding;
        if let Some(port) = self.told(Known::XForwardedPort) {
            out.push_str(port);
        } else if self.told(Known::XForwardedProto).is_some() || self.says(b"proto").is_some() {
            push_number(scheme.default_port(), out);
        } else {
            push_number(peer.listener_port, out);
        }
    }

    fn client(&self, out: &mut Value<'_>) {
        let Forwarding { peer, client, .. } = *self.forwarding;
        if client == peer.address {
            out.push_str(peer.address_text());
        } else {
            out.push_str(&client.to_string());
        }
    }

    /// `for=203.0.113.7;host="example.com:8080";proto=http` (RFC 7239), then the peer if it is a proxy that spoke for the client.
    fn forwarded(&self, out: &mut Value<'_>) {
        let Forwarding { peer, client, .. } = *self.forwarding;
        out.push_str("for=");
        push_node(client, out, |out| self.client(out));
        // What would end a quoted string stands in no valid host.
        let quotable = |host: &&str| !host.is_empty() && !host.bytes().any(|byte| matches!(byte, b'"' | b'\\'));
        if let Some(host) = self.fields.text(Known::Host).filter(quotable) {
            out.push_str(";host=");
            push_quoted_if_needed(host, out);
        }
        out.push_str(";proto=");
        self.scheme(out);
        if client != peer.address {
            out.push_str(", for=");
            push_node(peer.address, out, |out| out.push_str(peer.address_text()));
        }
    }

    /// The host that a trusted peer names in `Forwarded`, if it can be one.
    fn forwarded_host(&self) -> Option<&str> {
        std::str::from_utf8(self.says(b"host")?).ok().filter(|host| is_authority(host))
    }

    /// What a trusted peer says in `Forwarded`.
    fn says(&self, parameter: &[u8]) -> Option<&[u8]> {
        if self.forwarding.peer.trusted { forwarded(self.fields, parameter) } else { None }
    }

    /// What a trusted peer says.
    fn told(&self, name: Known) -> Option<&str> {
        if self.forwarding.peer.trusted { self.fields.text(name) } else { None }
    }
}

/// A `node` of RFC 7239 6: IPv6 stands in brackets, and so in quotes.
fn push_node(address: IpAddr, out: &mut Value<'_>, write: impl Fn(&mut Value<'_>)) {
    if address.is_ipv4() {
        return write(out);
    }
    out.push_str("\"[");
    write(out);
    out.push_str("]\"");
}

/// A `value` of RFC 7239 4: a token as it is, anything else as a quoted string.
fn push_quoted_if_needed(value: &str, out: &mut Value<'_>) {
    if value.bytes().all(is_unreserved) {
        return out.push_str(value);
    }
    out.push('"');
    out.push_str(value);
    out.push('"');
}

fn push_number(number: u16, out: &mut Value<'_>) {
    let mut divisor = 10_000;
    while divisor > 1 && number < divisor {
        divisor /= 10;
    }
    while divisor > 0 {
        out.push(char::from(b'0' + (number / divisor % 10) as u8));
        divisor /= 10;
    }
}
