//! What must hold for any bytes at all. The fuzz targets call these, and so do ordinary tests over seeds and
//! generated messages. They panic when something does not hold.

use bytes::{BufMut, BytesMut};

use crate::{
    BodyError, BodyEvent, BodyReader, BodyWriter, Fields, Framing, HeadReader, Limits, RequestHead, ResponseHead,
    Version, authority, encode, request_framing, request_keep_alive, response_framing, response_keep_alive,
};

/// A request's head is read alike however it is split, and what was read is safe to write out again.
pub fn request(bytes: &[u8]) {
    let limits = small_limits();
    let whole = read_head(bytes, &[], |reader, bytes, head: &mut RequestHead| reader.request(bytes, &limits, head));
    for cuts in splits(bytes) {
        let read = |cut: &[u8]| {
            read_head(cut, &cuts, |reader, bytes, head: &mut RequestHead| reader.request(bytes, &limits, head))
        };
        assert_alike(bytes, &whole, read);
    }
    let Ok(Some((head, length))) = whole else { return };
    assert!(length <= bytes.len() && length <= limits.head_bytes, "took more than there was");
    assert!(head.target.len() <= limits.target_bytes && head.target.bytes().all(|b| b.is_ascii_graphic()));
    assert_fields(&head.fields, &limits);
    assert!(authority(&head).is_ok_and(|host| host.is_none_or(crate::is_authority)) || authority(&head).is_err());
    assert!(request_framing(&head) != Ok(Framing::Close), "a request has no end of connection to wait for");
    let _: bool = request_keep_alive(&head);

    let mut out = Vec::new();
    encode::request_line(&mut out, &head.method, &head.target);
    encode::fields(&mut out, &head.fields);
    encode::end(&mut out);
    let mut again = RequestHead::default();
    let read = HeadReader::default().request(&out, &Limits { head_bytes: out.len(), ..limits }, &mut again);
    assert_eq!(read, Ok(Some(out.len())), "what was written is not what was read");
    assert_eq!(again, RequestHead { version: Version::Http11, ..head });
}

/// A response's head is read alike however it is split, and what was read is safe to write out again.
pub fn response(bytes: &[u8]) {
    let limits = small_limits();
    let whole = read_head(bytes, &[], |reader, bytes, head: &mut ResponseHead| reader.response(bytes, &limits, head));
    for cuts in splits(bytes) {
        let read = |cut: &[u8]| {
            read_head(cut, &cuts, |reader, bytes, head: &mut ResponseHead| reader.response(bytes, &limits, head))
        };
        assert_alike(bytes, &whole, read);
    }
    let Ok(Some((head, length))) = whole else { return };
    assert!(length <= bytes.len() && length <= limits.head_bytes, "took more than there was");
    assert!((100..600).contains(&head.status.as_u16()));
    assert_fields(&head.fields, &limits);
    if let Ok(framing) = response_framing(&http::Method::GET, &head) {
        assert!(framing != Framing::Close || !response_keep_alive(&head, framing));
    }

    let mut out = Vec::new();
    encode::status_line(&mut out, head.status, &head.reason);
    encode::fields(&mut out, &head.fields);
    encode::end(&mut out);
    let mut again = ResponseHead::default();
    let read = HeadReader::default().response(&out, &Limits { head_bytes: out.len(), ..limits }, &mut again);
    assert_eq!(read, Ok(Some(out.len())), "what was written is not what was read");
    assert_eq!(again, ResponseHead { version: Version::Http11, ..head });
}

/// A chunked body is read alike however it is split, ends once, leaves alone what follows, and survives being
/// written and read again.
pub fn chunked(bytes: &[u8]) {
    let whole = read_body(Framing::Chunked, bytes, &[]);
    for cuts in splits(bytes) {
        let read = read_body(Framing::Chunked, bytes, &cuts);
        let late = whole.outcome == Outcome::Refused && read.outcome == Outcome::Unfinished;
        assert_eq!(read.data, whole.data, "split at {cuts:?}");
        assert!(late || read == whole, "split at {cuts:?}: {read:?} instead of {whole:?}");
    }
    if whole.outcome != Outcome::Ended {
        return;
    }
    let mut out = Vec::new();
    let mut writer = BodyWriter::new(Framing::Chunked);
    for piece in whole.data.chunks(7) {
        assert_eq!(writer.data(piece, &mut out), Ok(()));
    }
    assert_eq!(writer.data(b"", &mut out), Ok(()));
    assert_eq!(writer.finish(Some(&whole.trailers), &mut out), Ok(()));
    let again = read_body(Framing::Chunked, &out, &[]);
    assert_eq!((again.outcome, again.rest.len()), (Outcome::Ended, 0));
    assert_eq!((again.data, again.trailers), (whole.data, whole.trailers));
}

/// Everything that came out of a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Body {
    /// All the data.
    pub data: Vec<u8>,
    /// All the trailers.
    pub trailers: Fields,
    /// Where it ended.
    pub outcome: Outcome,
    /// What was left in the buffer, unless the body was refused.
    pub rest: Vec<u8>,
    /// Why it was refused.
    pub error: Option<BodyError>,
}

/// How far a body got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// To its end.
    Ended,
    /// There was an error.
    Refused,
    /// More bytes were needed.
    Unfinished,
}

/// Reads a body whose bytes arrive in the pieces between `cuts`.
pub fn read_body(framing: Framing, bytes: &[u8], cuts: &[usize]) -> Body {
    let mut reader = BodyReader::new(framing);
    let mut buffer = BytesMut::new();
    let mut body =
        Body { data: Vec::new(), trailers: Fields::new(), outcome: Outcome::Unfinished, rest: Vec::new(), error: None };
    for piece in pieces(bytes, cuts) {
        buffer.put_slice(piece);
        drain(&mut reader, &mut buffer, &mut body);
    }
    if body.outcome == Outcome::Ended {
        assert!(reader.is_end() && reader.finish().is_ok());
        assert_eq!(reader.read(&mut buffer), Ok(BodyEvent::End), "an ended body takes nothing more");
    }
    if body.outcome != Outcome::Refused {
        body.rest = buffer.to_vec();
    }
    body
}

fn drain(reader: &mut BodyReader, buffer: &mut BytesMut, body: &mut Body) {
    while body.outcome == Outcome::Unfinished {
        match reader.read(buffer) {
            Ok(BodyEvent::Data(data)) => {
                assert!(!data.is_empty(), "data is never empty");
                body.data.extend_from_slice(&data);
            }
            Ok(BodyEvent::Trailers(trailers)) => {
                assert!(body.trailers.is_empty() && !trailers.is_empty());
                body.trailers = trailers;
            }
            Ok(BodyEvent::End) => body.outcome = Outcome::Ended,
            Ok(BodyEvent::NeedMore) => return,
            Err(error) => {
                body.outcome = Outcome::Refused;
                body.error = Some(error);
            }
        }
    }
}

/// Small, so that short inputs reach them.
fn small_limits() -> Limits {
    Limits { head_bytes: 1024, fields: 8, target_bytes: 256 }
}

type Read<H, E> = Result<Option<(H, usize)>, E>;

fn read_head<H: Default, E>(
    bytes: &[u8],
    cuts: &[usize],
    mut read: impl FnMut(&mut HeadReader, &[u8], &mut H) -> Result<Option<usize>, E>,
) -> Read<H, E> {
    let mut reader = HeadReader::default();
    let mut head = H::default();
    for &cut in cuts.iter().chain([&bytes.len()]) {
        let seen = bytes.get(..cut).unwrap_or(bytes);
        if let Some(length) = read(&mut reader, seen, &mut head)? {
            return Ok(Some((head, length)));
        }
    }
    Ok(None)
}

/// A reader that is fed in pieces comes to the same result as one that gets everything at once. Only an error in a
/// long line that is not complete may be noticed later: when the line is, at the latest.
fn assert_alike<H: PartialEq + std::fmt::Debug, E: PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    whole: &Read<H, E>,
    read: impl Fn(&[u8]) -> Read<H, E>,
) {
    let mut split = read(bytes);
    if whole.is_err() && split == Ok(None) {
        split = read(&[bytes, b"\n"].concat());
    }
    assert_eq!(&split, whole, "{}", bytes.escape_ascii());
}

fn assert_fields(fields: &Fields, limits: &Limits) {
    assert!(fields.len() <= limits.fields);
    let mut copy = Fields::new();
    for field in fields {
        assert!(!field.name.is_empty() && field.name.bytes().all(crate::ascii::is_token_byte));
        assert!(field.value.iter().all(|&b| b == b'\t' || b >= b' ' && b != 0x7f));
        assert_eq!(field.value.trim_ascii(), field.value);
        assert_eq!(field.known, crate::Known::from_bytes(field.name.as_bytes()));
        assert!(fields.contains(field.name) && fields.values(field.name).any(|value| value == field.value));
        assert_eq!(copy.append(field, field.value), Ok(()));
    }
    assert_eq!(&copy, fields);
}

/// Every split in two, and byte by byte; of long inputs only some.
fn splits(bytes: &[u8]) -> impl Iterator<Item = Vec<usize>> {
    let step = bytes.len() / 64 + 1;
    let each = (1..bytes.len()).collect();
    (1..bytes.len()).step_by(step).map(|cut| vec![cut]).chain([each])
}

fn pieces<'a>(bytes: &'a [u8], cuts: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let starts = [0].into_iter().chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain([bytes.len()]);
    starts.zip(ends).filter_map(|(start, end)| bytes.get(start..end))
}
