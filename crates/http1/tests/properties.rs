//! What must hold for all messages, tried on generated ones: half sensible, half broken in one place or two.

#![expect(clippy::indexing_slicing, reason = "helpers of tests fail like tests")]

use proptest::{collection::vec, prelude::*, sample::select};
use tidegate_http1::{Fields, Known, NameRef, fuzzing};

const REQUESTS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "\r\nPOST /p?q=`x HTTP/1.1\r\nhost: a:8080\r\nContent-Length: 3\r\nX-Two: \t two\t\r\nEmpty:\r\n\r\nabcGET /next",
    "OPTIONS * HTTP/1.0\r\nConnection: keep-alive, x-two\r\n\r\n",
    "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n",
    "GET http://[::1]:80/abs HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
];

const RESPONSES: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.0 404 Nowhere to be found\r\nServer: x\r\nset-cookie: a=b\r\nSet-Cookie: c=d\r\n\r\n",
    "HTTP/1.1 101\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "HTTP/1.1 503 \r\nTransfer-Encoding: chunked\r\nRetry-After: 1\r\n\r\n0\r\n\r\n",
];

const CHUNKED: &[&str] = &[
    "5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n",
    "a;x=y;\"q\"\r\n0123456789\r\n00B\r\n0123456789a\r\n000\r\nGrpc-Status: 0\r\nX-Sum: 1\r\nHost: evil\r\n\r\n",
    "1;a\r\nx\r\n0;last=1\r\nx-a: 1\r\n\r\n",
];

/// The bytes that mean something to a parser, more often than others.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![select(&b"\r\n\0\t :;,/?#`\"[]@%+-_.0159afAFxGHT\x7f\x80\xff"[..]), any::<u8>(),]
}

fn broken(seeds: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), byte(), 0..4);
    (select(seeds), vec(edit, 0..3)).prop_map(|(seed, edits)| {
        let mut bytes = seed.as_bytes().to_vec();
        for (index, byte, kind) in edits {
            let at = index.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => drop(bytes.remove(at)),
                _ => drop(bytes.splice(at..at, [byte; 300])),
            }
        }
        bytes
    })
}

fn long_lines() -> impl Strategy<Value = Vec<u8>> {
    (1_usize..700, byte(), 1_usize..700, byte()).prop_map(|(path, a, value, b)| {
        let path = [b"/".repeat(path).as_slice(), &[a]].concat();
        let value = [b"v".repeat(value).as_slice(), &[b]].concat();
        [b"GET ", path.as_slice(), b" HTTP/1.1\r\nHost: a\r\nX-Long: ", &value, b"\r\n\r\n"].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_are_read_alike_in_any_pieces(bytes in broken(REQUESTS)) {
        fuzzing::request(&bytes);
    }

    #[test]
    fn requests_with_long_lines_are_read_alike_in_any_pieces(bytes in long_lines()) {
        fuzzing::request(&bytes);
    }

    #[test]
    fn responses_are_read_alike_in_any_pieces(bytes in broken(RESPONSES)) {
        fuzzing::response(&bytes);
    }

    #[test]
    fn chunked_bodies_are_read_alike_in_any_pieces(bytes in broken(CHUNKED)) {
        fuzzing::chunked(&bytes);
    }

    #[test]
    fn any_bytes_at_all_do_no_harm(bytes in vec(byte(), 0..200)) {
        fuzzing::request(&bytes);
        fuzzing::response(&bytes);
        fuzzing::chunked(&bytes);
    }

    /// `Fields` against the obvious list of pairs.
    #[test]
    fn fields_behave_like_a_list_of_pairs(steps in vec((0..6, select(NAMES), select(VALUES)), 0..24)) {
        let mut fields = Fields::new();
        let mut model: Vec<(&str, &[u8])> = Vec::new();
        for (step, name, value) in steps {
            let is = |(other, _): &(&str, &[u8])| other.eq_ignore_ascii_case(name);
            match step {
                0 | 1 => {
                    fields.append(name, value).unwrap();
                    model.push((name, value));
                }
                2 => {
                    fields.set(name, value).unwrap();
                    let first = model.iter().position(is);
                    model.retain(|pair| !is(pair));
                    model.insert(first.unwrap_or(model.len()), (name, value));
                }
                3 => {
                    let had = model.iter().any(is);
                    model.retain(|pair| !is(pair));
                    prop_assert_eq!(fields.remove(name), had);
                }
                4 => {
                    fields.retain_names(|kept| !NameRef::from(name).is(kept));
                    model.retain(|pair| !is(pair));
                }
                _ => {
                    fields.retain(|field| field.value != value);
                    model.retain(|(_, other)| *other != value);
                }
            }
            prop_assert!(fields.iter().map(|field| (field.name, field.value)).eq(model.iter().copied()));
            prop_assert_eq!(fields.contains(name), model.iter().any(is));
            prop_assert_eq!(fields.value(name), model.iter().find(|pair| is(pair)).map(|pair| pair.1));
            prop_assert!(fields.values(name).eq(model.iter().filter(|pair| is(pair)).map(|pair| pair.1)));
            prop_assert_eq!(fields.bytes(), model.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>());
            for field in &fields {
                prop_assert_eq!(field.known, Known::from_bytes(field.name.as_bytes()));
            }
        }
    }
}

const NAMES: &[&str] = &["Host", "host", "X-Mine", "x-mine", "TE", "te", "x-other", "Content-Length"];
const VALUES: &[&[u8]] = &[b"", b"1", b"a, b", b"\xff opaque", "gr\u{fc}n".as_bytes()];
