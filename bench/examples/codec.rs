//! `codec TURNS`: each turn is the codec's share of one proxied exchange: a request's head read, checked and written anew,
//! then a reply's. Nothing else happens, so that instructions can be counted.

use std::hint::black_box;

use anyhow::{Context, Result};
use tidegate_http1::{
    HeadReader, Limits, RequestHead, ResponseHead, authority, encode, request_framing, request_keep_alive,
    response_framing, response_keep_alive,
};

const REQUEST: &[u8] = b"GET /api/orders/1234?page=2 HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: curl/8.5.0\r\n\
    Accept: application/json\r\nAccept-Encoding: gzip, br\r\nAccept-Language: en\r\nCookie: session=0123456789abcdef\r\n\
    Authorization: Bearer 0123456789abcdef0123456789abcdef\r\nX-Trace: 1\r\n\r\n";

const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\nServer: backend\r\nDate: Sat, 21 Nov 2026 00:00:00 GMT\r\n\
    Content-Type: application/json\r\nCache-Control: no-store\r\nContent-Length: 1024\r\n\r\n";

fn main() -> Result<()> {
    let turns: usize = std::env::args().nth(1).context("usage: codec TURNS")?.parse()?;
    let mut codec = Codec::default();
    for _ in 0..turns {
        codec.turn()?;
    }
    Ok(())
}

/// Buffers that are used again and again, as a connection does.
#[derive(Default)]
struct Codec {
    limits: Limits,
    request: RequestHead,
    reply: ResponseHead,
    out: Vec<u8>,
}

impl Codec {
    fn turn(&mut self) -> Result<()> {
        let Self { limits, request, reply, out } = self;
        request.clear();
        HeadReader::default().request(black_box(REQUEST), limits, request)?.context("the head is complete")?;
        black_box((authority(request)?, request_framing(request)?, request_keep_alive(request)));
        out.clear();
        encode::request_line(out, &request.method, &request.target);
        encode::fields(out, &request.fields);
        encode::end(out);
        black_box(&out);

        reply.clear();
        HeadReader::default().response(black_box(REPLY), limits, reply)?.context("the head is complete")?;
        let framing = response_framing(&request.method, reply)?;
        black_box((framing, response_keep_alive(reply, framing)));
        out.clear();
        encode::status_line(out, reply.status, &reply.reason);
        encode::fields(out, &reply.fields);
        encode::end(out);
        black_box(&out);
        Ok(())
    }
}
