//! DNS over real sockets of this machine, with servers that the test plays and a clock that it moves.

use std::net::SocketAddr;
use std::time::Duration;

use simple_dns::rdata::{A, AAAA, CNAME, RData, SRV};
use simple_dns::{CLASS, Name, Packet, PacketFlag, RCODE, ResourceRecord};
use tidegate_config::config::{Discovery, DnsDiscovery, DnsRecords};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::message::{self, Kind, Reading};
use crate::upstream::discovery::testing::{World, tell, tell_with};

/// A socket that is bound before anything runs, so that its address is known.
fn bound() -> (std::net::UdpSocket, SocketAddr) {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn dns(records: DnsRecords, servers: &[SocketAddr]) -> DnsDiscovery {
    DnsDiscovery {
        name: "app.test".into(),
        port: (records != DnsRecords::Srv).then_some(8080),
        records,
        min_ttl: Duration::from_secs(5),
        servers: servers.to_vec(),
        tls: false,
    }
}

fn name(text: &str) -> Name<'_> {
    Name::new(text).unwrap()
}

fn record<'a>(owner: &'a str, ttl: u32, data: RData<'a>) -> ResourceRecord<'a> {
    ResourceRecord::new(name(owner), CLASS::IN, ttl, data)
}

fn a(owner: &str, ttl: u32, last: u8) -> ResourceRecord<'_> {
    record(owner, ttl, RData::A(A { address: u32::from_be_bytes([10, 0, 0, last]) }))
}

fn srv<'a>(owner: &'a str, (priority, weight, port): (u16, u16, u16), target: &'a str) -> ResourceRecord<'a> {
    record(owner, 60, RData::SRV(SRV { priority, weight, port, target: name(target) }))
}

/// The reply to a question, with these records.
fn reply(question: &[u8], code: RCODE, answers: &[ResourceRecord<'_>], more: &[ResourceRecord<'_>]) -> Vec<u8> {
    let mut packet = Packet::parse(question).unwrap().into_reply();
    packet.set_flags(PacketFlag::RESPONSE);
    *packet.rcode_mut() = code;
    packet.answers = answers.iter().cloned().map(ResourceRecord::into_owned).collect();
    packet.additional_records = more.iter().cloned().map(ResourceRecord::into_owned).collect();
    packet.build_bytes_vec_compressed().unwrap()
}

/// A server that the test plays.
struct Server(UdpSocket);

impl Server {
    fn new(socket: std::net::UdpSocket) -> Self {
        Self(UdpSocket::from_std(socket).unwrap())
    }

    async fn question(&self) -> (Vec<u8>, SocketAddr) {
        let mut bytes = vec![0; 1500];
        let (length, from) = self.0.recv_from(&mut bytes).await.unwrap();
        bytes.truncate(length);
        (bytes, from)
    }

    /// Waits for the question for this name and type, and answers it.
    async fn answer(&self, asked: &str, answers: &[ResourceRecord<'_>], more: &[ResourceRecord<'_>]) {
        self.reply(asked, RCODE::NoError, answers, more).await;
    }

    async fn reply(&self, asked: &str, code: RCODE, answers: &[ResourceRecord<'_>], more: &[ResourceRecord<'_>]) {
        let (question, from) = self.question().await;
        let packet = Packet::parse(&question).unwrap();
        let [only] = packet.questions.as_slice() else { panic!("one question: {packet:?}") };
        assert_eq!(format!("{} {:?}", only.qname, only.qtype), asked);
        assert_eq!(packet.opt().unwrap().udp_packet_size, message::DATAGRAM);
        self.0.send_to(&reply(&question, code, answers, more), from).await.unwrap();
    }
}

const SRV_OF_APP: &str = "app.test TYPE(SRV)";
const A_OF_APP: &str = "app.test TYPE(A)";
const AAAA_OF_APP: &str = "app.test TYPE(AAAA)";

fn tell_dns<F: Future<Output = ()>>(records: DnsRecords, story: impl FnOnce(World, Server) -> F) {
    let (socket, address) = bound();
    tell(&Discovery::Dns(dns(records, &[address])), |world| story(world, Server::new(socket)));
}

#[test]
fn addresses_of_both_families_become_endpoints() {
    tell_dns(DnsRecords::Addresses, |world, server| async move {
        server.answer(A_OF_APP, &[a("app.test", 60, 2), a("app.test", 60, 1)], &[]).await;
        let v6 = record("app.test", 60, RData::AAAA(AAAA { address: 1 }));
        server.answer(AAAA_OF_APP, &[v6], &[]).await;
        let told = ["http://10.0.0.1:8080 1 - 0", "http://10.0.0.2:8080 1 - 0", "http://[::1]:8080 1 - 0"];
        assert_eq!(world.endpoints().await, told);
    });
}

#[test]
fn an_answer_is_asked_for_again_when_its_time_is_over() {
    tell_dns(DnsRecords::A, |world, server| async move {
        server.answer(A_OF_APP, &[a("app.test", 60, 1), a("app.test", 20, 2)], &[]).await;
        world.endpoints().await;
        world.pass(Duration::from_secs(20)).await;
        // The order of records means nothing.
        server.answer(A_OF_APP, &[a("app.test", 10, 2), a("app.test", 10, 1)], &[]).await;
        while server.0.try_peek(&mut [0; 1]).is_err() {
            world.pass(Duration::from_secs(10)).await;
        }
        assert!(world.is_quiet().await);
        server.answer(A_OF_APP, &[a("app.test", 10, 2)], &[]).await;
        assert_eq!(world.endpoints().await, ["http://10.0.0.2:8080 1 - 0"]);
    });
}

#[test]
fn an_answer_of_no_duration_is_used_for_the_least_time() {
    tell_dns(DnsRecords::A, |world, server| async move {
        server.answer(A_OF_APP, &[a("app.test", 0, 1)], &[]).await;
        world.endpoints().await;
        world.pass(Duration::from_millis(4999)).await;
        let mut byte = [0; 1];
        assert!(server.0.try_recv(&mut byte).is_err(), "it was asked too early");
        world.pass(Duration::from_millis(1)).await;
        server.answer(A_OF_APP, &[a("app.test", 0, 2)], &[]).await;
        assert_eq!(world.endpoints().await, ["http://10.0.0.2:8080 1 - 0"]);
    });
}

#[test]
fn no_failure_takes_away_what_was_known() {
    tell_dns(DnsRecords::A, |world, server| async move {
        server.answer(A_OF_APP, &[a("app.test", 5, 1)], &[]).await;
        assert_eq!(world.endpoints().await.len(), 1);
        world.pass(Duration::from_secs(5)).await;
        server.reply(A_OF_APP, RCODE::NameError, &[], &[]).await;
        assert_eq!(world.failure().await, "app.test: there is no such name");
        world.pass(Duration::from_secs(1)).await;
        // An empty answer, then none at all: each server is asked twice.
        server.answer(A_OF_APP, &[], &[]).await;
        assert!(world.failure().await.contains("no records of the type"));
        world.pass(Duration::from_secs(2)).await;
        for _ in 0..2 {
            server.question().await;
            world.pass(Duration::from_secs(2)).await;
        }
        assert!(world.failure().await.ends_with("did not answer in time"));
        world.pass(Duration::from_secs(4)).await;
        // The same set again says that the source is back.
        server.answer(A_OF_APP, &[a("app.test", 5, 1)], &[]).await;
        assert_eq!(world.endpoints().await, ["http://10.0.0.1:8080 1 - 0"]);
    });
}

#[test]
fn a_server_that_cannot_answer_is_followed_by_the_next() {
    let ((first, one), (second, two)) = (bound(), bound());
    tell(&Discovery::Dns(dns(DnsRecords::A, &[one, two])), |world| async move {
        let (first, second) = (Server::new(first), Server::new(second));
        first.reply(A_OF_APP, RCODE::ServerFailure, &[], &[]).await;
        second.answer(A_OF_APP, &[a("app.test", 60, 1)], &[]).await;
        assert_eq!(world.endpoints().await, ["http://10.0.0.1:8080 1 - 0"]);
    });
}

#[test]
fn priority_is_the_tier_and_weight_the_weight() {
    tell_dns(DnsRecords::Srv, |world, server| async move {
        let records = [
            srv("app.test", (10, 5, 8001), "one.test"),
            srv("app.test", (20, 0, 8002), "two.test"),
            srv("app.test", (20, 7, 8003), "gone.test"),
            srv("app.test", (30, 7, 8004), "."),
        ];
        server.answer(SRV_OF_APP, &records, &[a("one.test", 60, 1)]).await;
        // What did not come along is asked for; a target without addresses is left out.
        server.answer("two.test TYPE(A)", &[a("two.test", 60, 2)], &[]).await;
        server.answer("two.test TYPE(AAAA)", &[], &[]).await;
        server.reply("gone.test TYPE(A)", RCODE::NameError, &[], &[]).await;
        assert_eq!(world.endpoints().await, ["http://10.0.0.1:8001 5 - 10", "http://10.0.0.2:8002 1 - 20"]);
    });
}

#[test]
fn an_alias_is_followed_and_what_belongs_to_another_name_is_not_taken() {
    tell_dns(DnsRecords::A, |world, server| async move {
        let alias = record("app.test", 60, RData::CNAME(CNAME(name("Real.test"))));
        server.answer(A_OF_APP, &[a("real.test", 7, 1), alias, a("other.test", 60, 2)], &[]).await;
        assert_eq!(world.endpoints().await, ["http://10.0.0.1:8080 1 - 0"]);
        world.pass(Duration::from_secs(7)).await;
        server.question().await;
    });
}

#[test]
fn an_answer_that_does_not_fit_is_asked_for_over_tcp() {
    let both = || {
        let (socket, address) = bound();
        Some((socket, address, std::net::TcpListener::bind(address).ok()?))
    };
    // A port that is free for datagrams may be taken by a connection.
    let (socket, address, stream) = std::iter::repeat_with(both).flatten().next().unwrap();
    stream.set_nonblocking(true).unwrap();
    tell(&Discovery::Dns(dns(DnsRecords::A, &[address])), |world| async move {
        let server = Server::new(socket);
        let stream = TcpListener::from_std(stream).unwrap();
        let (question, from) = server.question().await;
        let mut cut = reply(&question, RCODE::NoError, &[a("app.test", 60, 9)], &[]);
        cut[2] |= 2;
        cut.truncate(30);
        server.0.send_to(&cut, from).await.unwrap();
        let (mut stream, _) = stream.accept().await.unwrap();
        let mut question = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut question).await.unwrap();
        let records: Vec<_> = (1..=200).map(|last| a("app.test", 60, last)).collect();
        let answer = reply(&question, RCODE::NoError, &records, &[]);
        stream.write_u16(answer.len().try_into().unwrap()).await.unwrap();
        stream.write_all(&answer).await.unwrap();
        assert_eq!(world.endpoints().await.len(), 200);
    });
}

#[test]
fn forged_and_broken_answers_are_waited_out() {
    tell_dns(DnsRecords::A, |world, server| async move {
        let (question, from) = server.question().await;
        let good = reply(&question, RCODE::NoError, &[a("app.test", 60, 1)], &[]);
        let forged = reply(&question, RCODE::NoError, &[a("app.test", 60, 66)], &[]);
        let mut wrong_id = forged.clone();
        wrong_id[0] ^= 1;
        let mut wrong_name = forged.clone();
        wrong_name[13] ^= 1;
        let half = good[..good.len() - 3].to_vec();
        for bytes in [wrong_id, wrong_name, half, question, Vec::new(), vec![0; 3], good] {
            server.0.send_to(&bytes, from).await.unwrap();
        }
        assert_eq!(world.endpoints().await, ["http://10.0.0.1:8080 1 - 0"]);
    });
}

#[test]
fn any_cut_or_flipped_byte_of_an_answer_is_survived() {
    let question = message::question(7, "app.test", Kind::Srv).unwrap();
    let records = [srv("app.test", (10, 5, 8001), "one.test"), srv("app.test", (10, 5, 8001), "two.test")];
    let good = reply(&question, RCODE::NoError, &records, &[a("one.test", 60, 1)]);
    for end in 0..good.len() {
        assert!(!matches!(message::read(&good[..end], 7, "app.test", Kind::Srv), Reading::Answer(_)), "{end}");
    }
    for position in 0..good.len() {
        for value in 0..=255 {
            let mut bytes = good.clone();
            bytes[position] = value;
            // Whatever comes out: it ends, and nothing panics.
            message::read(&bytes, 7, "app.test", Kind::Srv);
        }
    }
}

#[test]
fn without_servers_the_settings_and_names_of_the_machine_hold() {
    let hosts = "127.0.0.1 localhost\n::1 localhost ip6-localhost # app.test\n";
    let config = DnsDiscovery { name: "LOCALHOST.".into(), ..dns(DnsRecords::Addresses, &[]) };
    let files = [("/etc/hosts", hosts), ("/etc/resolv.conf", "")];
    tell_with(&Discovery::Dns(config.clone()), &files, |world| async move {
        assert_eq!(world.endpoints().await, ["http://127.0.0.1:8080 1 - 0", "http://[::1]:8080 1 - 0"]);
    });
    let config = DnsDiscovery { name: "app.test".into(), ..config };
    tell_with(&Discovery::Dns(config), &files, |world| async move {
        assert!(world.failure().await.contains("/etc/resolv.conf names none"));
    });
    let settings =
        b"# a comment\nsearch test\nnameserver 10.0.0.1\nnameserver ::1 ; another\nnameserver fe80::1%eth0\n";
    assert_eq!(
        super::name_servers(settings),
        ["10.0.0.1:53".parse().unwrap(), "[::1]:53".parse::<SocketAddr>().unwrap()]
    );
}
