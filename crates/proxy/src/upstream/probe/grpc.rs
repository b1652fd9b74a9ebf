//! `grpc.health.v1.Health/Check` by hand: two small messages, which need no protobuf library.

/// The target of the request.
pub(super) const METHOD: &str = "/grpc.health.v1.Health/Check";

/// `HealthCheckRequest { string service = 1; }` as one message of a gRPC stream. An empty name asks for the whole server.
pub(super) fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(service.len() + 8);
    if !service.is_empty() {
        push_varint(&mut message, 1 << 3 | LENGTH_DELIMITED);
        push_varint(&mut message, service.len() as u64);
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0], &length.to_be_bytes()[..], &message].concat()
}

/// What the status of the call and its body, a stream of one message, say about the endpoint.
pub(super) fn verdict(status: Option<&str>, body: &[u8]) -> Result<(), String> {
    match status {
        Some("0") => {}
        Some("5") => return Err("it does not know the service".to_owned()),
        Some("12") => return Err("it does not offer grpc.health.v1.Health".to_owned()),
        Some(status) => return Err(format!("the call ended with grpc-status {status}")),
        None => return Err("its reply has no grpc-status".to_owned()),
    }
    match message(body).and_then(serving_status) {
        Some(1) => Ok(()),
        Some(2) => Err("it is not serving".to_owned()),
        Some(3) => Err("it does not know the service".to_owned()),
        Some(status) => Err(format!("its serving status is {status}")),
        None => Err("its reply is malformed".to_owned()),
    }
}

/// The first message of a stream: a byte that says whether it is compressed, four with its length, and then itself.
fn message(body: &[u8]) -> Option<&[u8]> {
    let (prefix, rest) = body.split_first_chunk::<5>()?;
    let [0, length @ ..] = *prefix else { return None };
    rest.get(..u32::from_be_bytes(length) as usize)
}

/// The `status` of `HealthCheckResponse { ServingStatus status = 1; }`; `None` if it is malformed. A default is left out: 0.
fn serving_status(mut message: &[u8]) -> Option<u64> {
    let mut status = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let skipped = match (tag >> 3, tag & 7) {
            (1, VARINT) => {
                status = varint(&mut message)?;
                0
            }
            (_, VARINT) => varint(&mut message).map(|_| 0)?,
            (_, FIXED_64) => 8,
            (_, LENGTH_DELIMITED) => usize::try_from(varint(&mut message)?).ok()?,
            (_, FIXED_32) => 4,
            _ => return None,
        };
        message = message.get(skipped..)?;
    }
    Some(status)
}

const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const FIXED_32: u64 = 5;

/// Seven bits a byte, the low ones first; the eighth says that more follow.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_the_service_or_nobody() {
        assert_eq!(request(""), [0, 0, 0, 0, 0]);
        assert_eq!(request("ab"), *b"\0\0\0\0\x04\x0a\x02ab");
        let long = request(&"x".repeat(300));
        assert_eq!(long.get(..8), Some(&b"\0\0\0\x01\x2f\x0a\xac\x02"[..]));
        assert_eq!(long.len(), 5 + 3 + 300);
    }

    #[test]
    fn only_serving_is_well() {
        assert_eq!(verdict(Some("0"), b"\0\0\0\0\x02\x08\x01"), Ok(()));
        for (status, body) in [
            (Some("0"), &b"\0\0\0\0\x02\x08\x02"[..]),
            (Some("0"), b"\0\0\0\0\x02\x08\x03"),
            (Some("0"), b"\0\0\0\0\0"),
            (Some("0"), b""),
            (Some("0"), b"\0\0\0\0\x03\x08\x01"),
            (Some("0"), b"\x01\0\0\0\x02\x08\x01"),
            (Some("5"), b"\0\0\0\0\x02\x08\x01"),
            (Some("12"), b""),
            (None, b"\0\0\0\0\x02\x08\x01"),
        ] {
            assert!(verdict(status, body).is_err(), "{status:?} {body:?}");
        }
    }

    #[test]
    fn fields_that_nobody_knows_are_passed_over() {
        let unknown = b"\x10\x96\x01\x1a\x02hi\x25abcd\x29abcdefgh\x08\x01";
        assert_eq!(serving_status(unknown), Some(1));
        for cut in 1..unknown.len() {
            let known_to_end = [0, 3, 7, 12, 21].contains(&cut);
            assert_eq!(serving_status(unknown.get(..cut).unwrap()).is_some(), known_to_end, "{cut}");
        }
        assert_eq!(serving_status(b"\x0b"), None, "groups are no more");
        assert_eq!(varint(&mut &[0xff; 11][..]), None);
    }
}
