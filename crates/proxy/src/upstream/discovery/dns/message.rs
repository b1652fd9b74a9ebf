//! Questions and answers of DNS as bytes (RFC 1035, SRV of RFC 2782, EDNS of RFC 6891). Opens nothing.

use std::net::IpAddr;

use simple_dns::rdata::{OPT, RData};
use simple_dns::{
    CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord, TYPE, header_buffer,
};

/// What fits into a datagram that is not fragmented anywhere (DNS flag day 2020), in bytes.
pub(super) const DATAGRAM: u16 = 1232;

/// The longest chain of aliases that is followed.
const ALIASES: usize = 16;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    A,
    Aaaa,
    Srv,
}

/// What a server knows. Without records the name exists and has none of this kind.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) services: Vec<Service>,
    /// Seconds that all of it holds.
    pub(super) ttl: u32,
}

/// An SRV record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    pub(super) target: String,
    /// Addresses of the target that came along.
    pub(super) addresses: Vec<IpAddr>,
}

/// What a datagram or a message turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Answer(Answer),
    /// Nothing that was asked for: an old answer, a forged one, garbage.
    Foreign,
    /// It did not fit: to be asked again over TCP.
    Truncated,
    /// There is no such name.
    NoSuchName,
    /// The server cannot answer, with its reason.
    Refused(RCODE),
}

impl Kind {
    fn code(self) -> TYPE {
        match self {
            Self::A => TYPE::A,
            Self::Aaaa => TYPE::AAAA,
            Self::Srv => TYPE::SRV,
        }
    }
}

/// The question as bytes; `None` if `name` is not a name.
pub(super) fn question(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(asked(name, kind)?);
    *packet.opt_mut() = Some(OPT { opt_codes: Vec::new(), udp_packet_size: DATAGRAM, version: 0 });
    packet.build_bytes_vec().ok()
}

fn asked(name: &str, kind: Kind) -> Option<Question<'_>> {
    let name = Name::new(name).ok()?;
    Some(Question::new(name, QTYPE::TYPE(kind.code()), QCLASS::CLASS(CLASS::IN), false))
}

/// Reads what came as the answer to that question.
pub(super) fn read(bytes: &[u8], id: u16, name: &str, kind: Kind) -> Reading {
    if header_buffer::id(bytes) != Ok(id) || header_buffer::has_flags(bytes, PacketFlag::RESPONSE) != Ok(true) {
        return Reading::Foreign;
    }
    // What did not fit may end anywhere, so no more of it is read.
    if header_buffer::has_flags(bytes, PacketFlag::TRUNCATION) == Ok(true) {
        return Reading::Truncated;
    }
    let Ok(packet) = Packet::parse(bytes) else { return Reading::Foreign };
    let Some(asked) = asked(name, kind) else { return Reading::Foreign };
    match packet.questions.as_slice() {
        [question] if question.qname == asked.qname && question.qtype == asked.qtype => {}
        _ => return Reading::Foreign,
    }
    let code = packet.rcode();
    if code == RCODE::NoError {
        Reading::Answer(answer(&packet, &asked.qname, kind))
    } else if code == RCODE::NameError {
        Reading::NoSuchName
    } else {
        Reading::Refused(code)
    }
}

fn answer(packet: &Packet<'_>, name: &Name<'_>, kind: Kind) -> Answer {
    let (owner, aliases) = follow(&packet.answers, name);
    let wanted = || of(&packet.answers, owner).filter(|record| record.rdata.type_code() == kind.code());
    let services = wanted().filter_map(|record| service(&record.rdata, &packet.additional_records));
    let (services, along): (Vec<_>, Vec<_>) = services.unzip();
    Answer {
        addresses: wanted().filter_map(address).collect(),
        services,
        ttl: wanted().map(|record| record.ttl).chain(along).chain([aliases]).min().unwrap_or(0),
    }
}

/// What an SRV record says, and how long the addresses hold that came along. A target of `.` says that there is no such service.
fn service(data: &RData<'_>, additional: &[ResourceRecord<'_>]) -> Option<(Service, u32)> {
    let RData::SRV(srv) = data else { return None };
    if srv.target.get_labels().is_empty() {
        return None;
    }
    let along = || of(additional, &srv.target).filter_map(|record| Some((address(record)?, record.ttl)));
    let service = Service {
        priority: srv.priority,
        weight: srv.weight,
        port: srv.port,
        target: srv.target.to_string(),
        addresses: along().map(|(address, _)| address).collect(),
    };
    Some((service, along().map(|(_, ttl)| ttl).min().unwrap_or(u32::MAX)))
}

/// The name at the end of the aliases, and the shortest time that one of them holds.
fn follow<'a>(records: &'a [ResourceRecord<'a>], name: &'a Name<'a>) -> (&'a Name<'a>, u32) {
    let (mut owner, mut ttl) = (name, u32::MAX);
    for _ in 0..ALIASES {
        let alias = of(records, owner).find_map(|record| {
            let RData::CNAME(alias) = &record.rdata else { return None };
            Some((&alias.0, record.ttl))
        });
        let Some((next, holds)) = alias else { break };
        (owner, ttl) = (next, ttl.min(holds));
    }
    (owner, ttl)
}

fn of<'a>(records: &'a [ResourceRecord<'a>], owner: &'a Name<'a>) -> impl Iterator<Item = &'a ResourceRecord<'a>> {
    records.iter().filter(move |record| record.name == *owner && record.class == CLASS::IN)
}

fn address(record: &ResourceRecord<'_>) -> Option<IpAddr> {
    if let RData::A(a) = &record.rdata {
        return Some(IpAddr::V4(a.address.into()));
    }
    let RData::AAAA(aaaa) = &record.rdata else { return None };
    Some(IpAddr::V6(aaaa.address.into()))
}
