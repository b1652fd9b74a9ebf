//! The PROXY protocol, versions 1 and 2: what a load balancer in front says about the client before the first byte of HTTP
//! or TLS. Pure: it neither reads nor waits, and whom to believe is the configuration's to say.
//!
//! The text that is followed here is `HAProxy`'s `proxy-protocol.txt`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Longest header that is accepted, in bytes. Version 1 has its own limit of 107. Version 2 could announce 65,551 bytes, but
/// what balancers send beside the addresses (names, identifiers, checksums) stays far below this.
pub const MAX_HEADER: usize = 4096;

/// A complete header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// How many bytes it takes; what follows is the client's.
    pub length: usize,
    /// `None` when the balancer speaks for itself (a health check) or knows no TCP address: the socket's own then hold.
    pub addresses: Option<Addresses>,
}

/// Both ends of the connection that the balancer took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// Where the client connected to.
    pub destination: SocketAddr,
}

/// Why the bytes are no header. The connection is closed then: nothing that follows could be attributed to anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocolError {
    /// Neither version's signature.
    Missing,
    /// The header is longer than its version allows, or than [`MAX_HEADER`].
    TooLong,
    /// A version or a command of the binary form that does not exist.
    Unsupported,
    /// An address block that is shorter than its family needs, or text that is not an address.
    Malformed,
}

impl std::fmt::Display for ProxyProtocolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Missing => "the connection does not begin with a PROXY protocol header",
            Self::TooLong => "the PROXY protocol header is too long",
            Self::Unsupported => "the PROXY protocol header has an unknown version or command",
            Self::Malformed => "the PROXY protocol header is malformed",
        })
    }
}

impl std::error::Error for ProxyProtocolError {}

/// Reads a header from the first bytes of a connection; `None` when more are needed. Bytes that can never become a header
/// are refused as soon as that shows.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, ProxyProtocolError> {
    if starts_like(bytes, SIGNATURE) {
        binary(bytes)
    } else if starts_like(bytes, b"PROXY ") {
        text(bytes)
    } else {
        Err(ProxyProtocolError::Missing)
    }
}

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Longest header of version 1, its line end included.
const MAX_TEXT: usize = 107;

fn starts_like(bytes: &[u8], signature: &[u8]) -> bool {
    bytes.starts_with(signature) || signature.starts_with(bytes)
}

fn text(bytes: &[u8]) -> Result<Option<Header>, ProxyProtocolError> {
    let window = bytes.get(..MAX_TEXT).unwrap_or(bytes);
    let Some(end) = window.iter().position(|&byte| byte == b'\n') else {
        return if bytes.len() < MAX_TEXT { Ok(None) } else { Err(ProxyProtocolError::TooLong) };
    };
    let line = window.get(..end).and_then(|line| line.strip_suffix(b"\r")).ok_or(ProxyProtocolError::Malformed)?;
    let line = std::str::from_utf8(line).map_err(|_| ProxyProtocolError::Malformed)?;
    Ok(Some(Header { length: end + 1, addresses: text_addresses(line)? }))
}

fn text_addresses(line: &str) -> Result<Option<Addresses>, ProxyProtocolError> {
    let words: Vec<&str> = line.split(' ').skip(1).collect();
    match words.as_slice() {
        // Whatever follows this word must be ignored.
        ["UNKNOWN", ..] => Ok(None),
        ["TCP4", source, destination, from, to] => text_pair::<Ipv4Addr>([source, destination], [from, to]).map(Some),
        ["TCP6", source, destination, from, to] => text_pair::<Ipv6Addr>([source, destination], [from, to]).map(Some),
        _ => Err(ProxyProtocolError::Malformed),
    }
}

fn text_pair<A: FromStr + Into<IpAddr>>(
    addresses: [&str; 2],
    ports: [&str; 2],
) -> Result<Addresses, ProxyProtocolError> {
    let [source, destination] = addresses.map(|text| text.parse::<A>().map(Into::into));
    let [from, to] = ports.map(decimal_port);
    let (Ok(source), Ok(destination), Some(from), Some(to)) = (source, destination, from, to) else {
        return Err(ProxyProtocolError::Malformed);
    };
    Ok(Addresses { source: SocketAddr::new(source, from), destination: SocketAddr::new(destination, to) })
}

/// Digits without a sign or leading zeros, up to 65,535.
fn decimal_port(text: &str) -> Option<u16> {
    let plain = text == "0" || text.starts_with(|first: char| matches!(first, '1'..='9'));
    text.parse().ok().filter(|_| plain)
}

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

fn binary(bytes: &[u8]) -> Result<Option<Header>, ProxyProtocolError> {
    let Some((&[command, family, high, low], rest)) =
        bytes.get(SIGNATURE.len()..).and_then(<[u8]>::split_first_chunk::<4>)
    else {
        return match bytes.get(SIGNATURE.len()) {
            None | Some(&(LOCAL | PROXY)) => Ok(None),
            Some(_) => Err(ProxyProtocolError::Unsupported),
        };
    };
    if !matches!(command, LOCAL | PROXY) {
        return Err(ProxyProtocolError::Unsupported);
    }
    let announced = usize::from(u16::from_be_bytes([high, low]));
    let length = SIGNATURE.len() + 4 + announced;
    if length > MAX_HEADER {
        return Err(ProxyProtocolError::TooLong);
    }
    let Some(block) = rest.get(..announced) else { return Ok(None) };
    let addresses = match (command, family) {
        (PROXY, TCP_OVER_IPV4) => Some(binary_pair::<4>(block)?),
        (PROXY, TCP_OVER_IPV6) => Some(binary_pair::<16>(block)?),
        // Said of the balancer itself, or of something that is not TCP.
        _ => None,
    };
    Ok(Some(Header { length, addresses }))
}

/// Both addresses, then both ports. What follows them are extensions, which nothing here needs.
fn binary_pair<const N: usize>(block: &[u8]) -> Result<Addresses, ProxyProtocolError>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = block.split_first_chunk::<N>().ok_or(ProxyProtocolError::Malformed)?;
    let (destination, rest) = rest.split_first_chunk::<N>().ok_or(ProxyProtocolError::Malformed)?;
    let (&[a, b, c, d], _) = rest.split_first_chunk::<4>().ok_or(ProxyProtocolError::Malformed)?;
    Ok(Addresses {
        source: SocketAddr::new(IpAddr::from(*source), u16::from_be_bytes([a, b])),
        destination: SocketAddr::new(IpAddr::from(*destination), u16::from_be_bytes([c, d])),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(source: &str, destination: &str) -> Addresses {
        Addresses { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, block].concat()
    }

    /// 192.0.2.1:4660 -> 198.51.100.2:443
    const IPV4_BLOCK: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x34, 0x01, 0xbb];

    #[test]
    fn version_1_names_both_addresses() {
        for (line, expected) in [
            ("PROXY TCP4 192.0.2.1 198.51.100.2 4660 443\r\n", Some(addresses("192.0.2.1:4660", "198.51.100.2:443"))),
            ("PROXY TCP6 2001:db8::1 ::1 1 0\r\n", Some(addresses("[2001:db8::1]:1", "[::1]:0"))),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff::1 whatever it says\r\n", None),
        ] {
            let header = Header { length: line.len(), addresses: expected };
            let with_request = [line, "GET / HTTP/1.1\r\n\r\n"].concat();
            assert_eq!(parse(with_request.as_bytes()), Ok(Some(header)), "{line:?}");
        }
    }

    #[test]
    fn version_2_names_both_addresses_and_skips_extensions() {
        let header = v2(PROXY, TCP_OVER_IPV4, &[IPV4_BLOCK, &[0x04, 0x00, 0x02, 0xaa, 0xbb]].concat());
        let expected =
            Header { length: header.len(), addresses: Some(addresses("192.0.2.1:4660", "198.51.100.2:443")) };
        assert_eq!(parse(&[&header[..], b"\x16\x03\x01"].concat()), Ok(Some(expected)));

        let block = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7], &[0; 15], &[1], &[0, 80, 0, 81]].concat();
        let header = v2(PROXY, TCP_OVER_IPV6, &block);
        let expected = Header { length: header.len(), addresses: Some(addresses("[2001:db8::7]:80", "[::1]:81")) };
        assert_eq!(parse(&header), Ok(Some(expected)));
    }

    #[test]
    fn a_balancer_that_speaks_for_itself_names_nobody() {
        for header in [
            v2(LOCAL, 0, b""),
            v2(LOCAL, TCP_OVER_IPV4, IPV4_BLOCK),
            v2(PROXY, 0, b""),
            v2(PROXY, 0x12, IPV4_BLOCK),
            v2(PROXY, 0x31, &[0; 216]),
        ] {
            assert_eq!(parse(&header), Ok(Some(Header { length: header.len(), addresses: None })));
        }
    }

    #[test]
    fn every_beginning_of_a_header_needs_more() {
        for header in [b"PROXY TCP6 2001:db8::1 ::1 65535 443\r\n".to_vec(), v2(PROXY, TCP_OVER_IPV4, IPV4_BLOCK)] {
            for length in 0..header.len() {
                assert_eq!(parse(&header[..length]), Ok(None), "{length} bytes of {header:?}");
            }
            assert!(parse(&header).unwrap().is_some());
        }
    }

    #[test]
    fn anything_else_is_refused_at_its_first_wrong_byte() {
        use ProxyProtocolError::{Malformed, Missing, TooLong, Unsupported};
        let long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 107]].concat();
        let announced = [SIGNATURE, &[PROXY, TCP_OVER_IPV4, 0xff, 0xff]].concat();
        let cases: &[(&[u8], ProxyProtocolError)] = &[
            (b"G", Missing),
            (b"proxy TCP4", Missing),
            (b"\x16\x03", Missing),
            (b"\r\n\r\n\0\r\nQUIX", Missing),
            (&long, TooLong),
            (&announced, TooLong),
            (&v2(0x22, TCP_OVER_IPV4, IPV4_BLOCK), Unsupported),
            (&v2(0x11, TCP_OVER_IPV4, IPV4_BLOCK), Unsupported),
            (&[SIGNATURE, &[0x01]].concat(), Unsupported),
            (&v2(PROXY, TCP_OVER_IPV4, &IPV4_BLOCK[..11]), Malformed),
            (&v2(PROXY, TCP_OVER_IPV6, IPV4_BLOCK), Malformed),
            (b"PROXY TCP4 192.0.2.1 198.51.100.2 4660 443\n", Malformed),
            (b"PROXY \r\n", Malformed),
            (b"PROXY TCP5 192.0.2.1 198.51.100.2 1 2\r\n", Malformed),
            (b"PROXY TCP4 2001:db8::1 ::1 1 2\r\n", Malformed),
            (b"PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n", Malformed),
            (b"PROXY TCP4 192.0.2.1 198.51.100.2 65536 2\r\n", Malformed),
            (b"PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n", Malformed),
            (b"PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n", Malformed),
            (b"PROXY TCP4 192.0.2.01 198.51.100.2 1 2\r\n", Malformed),
            (b"PROXY TCP4  192.0.2.1 198.51.100.2 1 2\r\n", Malformed),
            (b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n", Malformed),
            (b"PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n", Malformed),
            (b"PROXY UNKNOWN \xff\r\n", Malformed),
        ];
        for (bytes, expected) in cases {
            assert_eq!(parse(bytes), Err(*expected), "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
