//! The few names that the gateway wants from an X.509 certificate (RFC 5280): whom it is for, and whom it names. It judges
//! nothing: chains, dates and signatures are rustls' business, and only certificates that rustls has parsed come here.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use tidegate_core::client::{ClientCert, San, SanKind};

/// The identity that a client's certificate states.
pub(crate) fn client(certificate: &[u8]) -> ClientCert {
    let names = Names::read(certificate).unwrap_or_default();
    ClientCert {
        subject: Arc::from(names.common_name.unwrap_or_default()),
        sans: names.alternatives.iter().filter_map(Alternative::san).collect(),
        fingerprint: hex(digest(&SHA256, certificate).as_ref()).into(),
    }
}

fn hex(bytes: &[u8]) -> String {
    // Writing to a String cannot fail.
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// The host names that a server's certificate is for, lower case: those of its alternative names, or the common name of a
/// certificate that has none.
pub(crate) fn server_names(certificate: &[u8]) -> Vec<String> {
    let names = Names::read(certificate).unwrap_or_default();
    let dns: Vec<String> = names.alternatives.iter().filter_map(Alternative::host).collect();
    if dns.is_empty() { names.common_name.map(str::to_ascii_lowercase).into_iter().collect() } else { dns }
}

#[derive(Default)]
struct Names<'a> {
    common_name: Option<&'a str>,
    alternatives: Vec<Alternative<'a>>,
}

/// A `GeneralName`.
struct Alternative<'a> {
    tag: u8,
    value: &'a [u8],
}

const EMAIL: u8 = 0x81;
const DNS: u8 = 0x82;
const URI: u8 = 0x86;
const ADDRESS: u8 = 0x87;

impl Alternative<'_> {
    fn san(&self) -> Option<San> {
        let kind = match self.tag {
            EMAIL => SanKind::Email,
            DNS => SanKind::Dns,
            URI => SanKind::Uri,
            ADDRESS => SanKind::Address,
            _ => return None,
        };
        let name = match kind {
            SanKind::Address => self.address()?.to_string(),
            SanKind::Email | SanKind::Dns | SanKind::Uri => printable(self.value)?.to_owned(),
        };
        Some(San { kind, name: name.into() })
    }

    fn host(&self) -> Option<String> {
        if self.tag == DNS { printable(self.value).map(str::to_ascii_lowercase) } else { None }
    }

    fn address(&self) -> Option<IpAddr> {
        let v4 = <[u8; 4]>::try_from(self.value).map(IpAddr::from);
        v4.or_else(|_| <[u8; 16]>::try_from(self.value).map(IpAddr::from)).ok()
    }
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const OCTET_STRING: u8 = 0x04;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// 2.5.29.17
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

impl<'a> Names<'a> {
    fn read(certificate: &'a [u8]) -> Option<Self> {
        let mut body = Der(Der(Der(certificate).expect(SEQUENCE)?).expect(SEQUENCE)?);
        body.optional(VERSION);
        // Serial number, signature algorithm, issuer, validity.
        for _ in 0..4 {
            body.next()?;
        }
        let subject = body.expect(SEQUENCE)?;
        let extensions = body.find(|(tag, _)| *tag == EXTENSIONS).map(|(_, value)| value);
        Some(Self {
            common_name: common_name(subject),
            alternatives: extensions.and_then(alternatives).unwrap_or_default(),
        })
    }
}

/// The most specific common name, which is the last.
fn common_name(subject: &[u8]) -> Option<&str> {
    let attributes = Der(subject).filter(|(tag, _)| *tag == SET).flat_map(|(_, set)| Der(set));
    let values = attributes.filter_map(|(_, attribute)| {
        let mut attribute = Der(attribute);
        let name = attribute.expect(OBJECT_IDENTIFIER)?;
        let (tag, value) = attribute.next()?;
        let is_text = matches!(tag, UTF8_STRING | PRINTABLE_STRING | IA5_STRING);
        (name == COMMON_NAME && is_text).then_some(value)
    });
    values.last().and_then(printable)
}

fn alternatives(extensions: &[u8]) -> Option<Vec<Alternative<'_>>> {
    for (_, extension) in Der(Der(extensions).expect(SEQUENCE)?) {
        let mut extension = Der(extension);
        if extension.expect(OBJECT_IDENTIFIER)? == SUBJECT_ALT_NAME {
            // Between name and value there may be a flag.
            let value = extension.find(|(tag, _)| *tag == OCTET_STRING)?.1;
            return Some(Der(Der(value).expect(SEQUENCE)?).map(|(tag, value)| Alternative { tag, value }).collect());
        }
    }
    None
}

/// Text without control characters: a NUL in the middle of a name has fooled others.
fn printable(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok().filter(|text| !text.is_empty() && !text.contains(char::is_control))
}

/// The elements of a DER value, as tag and content, up to the first that is malformed.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, value)| value)
    }

    fn optional(&mut self, tag: u8) {
        if self.0.first() == Some(&tag) {
            self.next();
        }
    }
}

impl<'a> Iterator for Der<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[tag, first], rest) = self.0.split_first_chunk::<2>()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // A certificate is far below 16 MiB.
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit)), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, value))
    }
}
