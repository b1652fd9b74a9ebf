use std::net::IpAddr;

use tidegate_core::client::{Scheme, TlsFacts, client_address, client_scheme, host_of};

use crate::world::{fields, networks, peer};

fn client(peer: &str, lines: &[&str]) -> String {
    let trusted = networks(&["10.0.0.0/8", "fd00::/8"]);
    client_address(peer.parse().expect("an address"), &trusted, &fields(lines)).to_string()
}

#[test]
fn nobody_is_believed_by_default() {
    let lines = ["x-forwarded-for: 1.1.1.1", "forwarded: for=2.2.2.2", "x-real-ip: 3.3.3.3"];
    let nobody = networks(&[]);
    let address = client_address(IpAddr::from([192, 0, 2, 7]), &nobody, &fields(&lines));
    assert_eq!(address.to_string(), "192.0.2.7");
    assert_eq!(client("192.0.2.7", &lines), "192.0.2.7");
}

#[test]
fn the_chain_is_walked_from_the_right() {
    for (chain, expected) in [
        ("203.0.113.7", "203.0.113.7"),
        ("6.6.6.6, 203.0.113.7", "203.0.113.7"),
        ("6.6.6.6, 203.0.113.7, 10.0.0.3", "203.0.113.7"),
        ("10.9.9.9, 203.0.113.7, 10.0.0.3, 10.0.0.4", "203.0.113.7"),
        ("10.0.0.5, 10.0.0.3", "10.0.0.5"),
        ("10.0.0.5", "10.0.0.5"),
        ("6.6.6.6, junk, 10.0.0.3", "10.0.0.3"),
        ("6.6.6.6, junk", "10.0.0.1"),
        ("6.6.6.6, unknown, 203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:4711", "203.0.113.7"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("2001:db8::1, fd00::2", "2001:db8::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("::ffff:10.0.0.9, 10.0.0.3", "10.0.0.9"),
        ("", "10.0.0.1"),
        (",,", "10.0.0.1"),
    ] {
        assert_eq!(client("10.0.0.1", &[&format!("x-forwarded-for: {chain}")]), expected, "{chain}");
    }
}

#[test]
fn several_fields_are_one_chain() {
    assert_eq!(
        client("10.0.0.1", &["x-forwarded-for: 6.6.6.6", "x-forwarded-for: 203.0.113.7, 10.0.0.2"]),
        "203.0.113.7"
    );
}

#[test]
fn the_standard_field_is_read_where_the_other_is_absent() {
    for (chain, expected) in [
        ("for=203.0.113.7", "203.0.113.7"),
        ("For=\"203.0.113.7:80\";proto=https", "203.0.113.7"),
        ("for=6.6.6.6, proto=http;for=\"[2001:db8::1]:80\", for=10.0.0.2", "2001:db8::1"),
        ("for=6.6.6.6, for=_hidden, for=10.0.0.2", "10.0.0.2"),
        ("for=6.6.6.6, proto=http", "10.0.0.1"),
    ] {
        assert_eq!(client("10.0.0.1", &[&format!("forwarded: {chain}")]), expected, "{chain}");
    }
    assert_eq!(client("10.0.0.1", &["forwarded: for=6.6.6.6", "x-forwarded-for: 203.0.113.7"]), "203.0.113.7");
}

#[test]
fn a_mapped_peer_is_its_ipv4_address() {
    assert_eq!(client("::ffff:192.0.2.1", &["x-forwarded-for: 1.1.1.1"]), "192.0.2.1");
    assert_eq!(client("::ffff:10.0.0.1", &["x-forwarded-for: 203.0.113.7"]), "203.0.113.7");
    let peer = peer("::ffff:10.0.0.1", &["10.0.0.0/8"]);
    assert!(peer.trusted);
    assert_eq!((peer.address.to_string(), peer.address_text()), ("10.0.0.1".to_owned(), "10.0.0.1"));
}

#[test]
fn the_scheme_is_that_of_the_connection_unless_a_trusted_proxy_says_otherwise() {
    let mut trusted = peer("10.0.0.1", &["10.0.0.0/8"]);
    let mut stranger = peer("192.0.2.1", &["10.0.0.0/8"]);
    let told = fields(&["x-forwarded-proto: HTTPS"]);
    assert_eq!(client_scheme(&trusted, &told), Scheme::Https);
    assert_eq!(client_scheme(&stranger, &told), Scheme::Http);
    assert_eq!(client_scheme(&trusted, &fields(&["x-forwarded-proto: ftp"])), Scheme::Http);
    // The other dialect, by whoever speaks it.
    let told = "forwarded: for=1.1.1.1;proto=http, for=2.2.2.2; Proto=\"https\"; host=a";
    assert_eq!(client_scheme(&trusted, &fields(&[told])), Scheme::Https);
    assert_eq!(client_scheme(&stranger, &fields(&[told])), Scheme::Http);
    assert_eq!(client_scheme(&trusted, &fields(&["forwarded: for=2.2.2.2;proto=https, for=3.3.3.3"])), Scheme::Http);
    assert_eq!(client_scheme(&trusted, &fields(&[told, "x-forwarded-for: 2.2.2.2"])), Scheme::Http, "a client's words");
    assert_eq!(client_scheme(&trusted, &fields(&[told, "x-forwarded-proto: http"])), Scheme::Http);
    let facts = TlsFacts { server_name: None, protocol: "TLSv1.3", client: None };
    stranger.tls = Some(facts.clone().into());
    trusted.tls = Some(facts.into());
    assert_eq!(client_scheme(&stranger, &fields(&["x-forwarded-proto: http"])), Scheme::Https);
    assert_eq!(client_scheme(&trusted, &fields(&["x-forwarded-proto: http"])), Scheme::Http);
    assert_eq!(client_scheme(&trusted, &fields(&[])), Scheme::Https);
}

#[test]
fn a_host_has_one_spelling() {
    for (authority, expected) in [
        ("Example.COM", "example.com"),
        ("example.com:8080", "example.com"),
        ("example.com.", "example.com"),
        ("example.com.:80", "example.com"),
        ("[::1]:80", "[::1]"),
        ("[0:0::0:1]", "[::1]"),
        ("[2001:DB8::A]", "[2001:db8::a]"),
        ("127.0.0.1:1", "127.0.0.1"),
        ("", ""),
    ] {
        let mut host = "left over".to_owned();
        host_of(authority, &mut host);
        assert_eq!(host, expected, "{authority}");
    }
}

#[test]
fn networks_overlap_and_touch_without_harm() {
    let set =
        networks(&["10.0.0.0/8", "10.1.0.0/16", "10.255.255.255/32", "192.168.0.0/24", "2001:db8::/32", "0.0.0.1/32"]);
    for (address, inside) in [
        ("10.0.0.0", true),
        ("10.1.2.3", true),
        ("10.255.255.255", true),
        ("11.0.0.0", false),
        ("9.255.255.255", false),
        ("192.168.0.255", true),
        ("192.168.1.0", false),
        ("::ffff:192.168.0.1", true),
        ("2001:db8:ffff::1", true),
        ("2001:db9::", false),
        ("::1", false),
        ("0.0.0.1", true),
    ] {
        assert_eq!(set.contains(address.parse().expect("an address")), inside, "{address}");
    }
    assert!(networks(&["0.0.0.0/0"]).contains(IpAddr::from([1, 2, 3, 4])));
    assert!(!networks(&["0.0.0.0/0"]).contains("2001:db8::1".parse().expect("an address")));
}
