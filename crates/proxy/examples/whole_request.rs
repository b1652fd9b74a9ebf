//! `whole_request TURNS`: each turn is one proxied exchange over keep-alive connections in memory: routing, forwarded fields,
//! request id, metrics, deadlines and the access log's decision are all on. Nothing waits, so instructions can be counted.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use tidegate_core::client::{Peer, TrustedProxies};
use tidegate_core::clock::Clock;
use tidegate_core::policy::{NoPolicies, Rules};
use tidegate_proxy::Solo;
use tidegate_proxy::net::Net;
use tidegate_proxy::tasks::spawn_local;
use tidegate_proxy::telemetry::{LogWriter, Metrics};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const CONFIG: &str = "
services: { users: { url: http://users.test:80 }, orders: { url: http://orders.test:80 } }
routes:
  - { name: user, match: { host: api.example.com, path: '/users/{id}', methods: [GET, PUT] }, service: users }
  - { name: orders, match: { path_prefix: /api/orders }, service: orders }
  - { name: everything, match: { path_prefix: / }, service: users }
";

const REQUEST: &[u8] = b"GET /api/orders/1234?page=2 HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: wrk/4\r\n\
    Accept: */*\r\nAuthorization: Bearer 0123456789abcdef0123456789abcdef\r\n\r\n";

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nServer: backend\r\nDate: Sat, 21 Nov 2026 00:00:00 GMT\r\n\
    Content-Type: application/json\r\nCache-Control: no-store\r\nContent-Length: 1024\r\n\r\n";

fn main() -> Result<(), Box<dyn Error>> {
    let turns: usize = std::env::args().nth(1).ok_or("usage: whole_request TURNS")?.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, run(turns))
}

async fn run(turns: usize) -> Result<(), Box<dyn Error>> {
    let loaded = tidegate_config::from_yaml(CONFIG).map_err(|_| "the configuration is wrong")?;
    let metrics = Metrics::new();
    let log = LogWriter::start(None, Arc::clone(metrics.log()))?;
    let net = Net::Memory(Box::new(|_| {
        let (near, far) = tokio::io::duplex(64 * 1024);
        spawn_local(serve(far)).detach();
        Ok(near)
    }));
    let solo =
        Solo::new(&Arc::new(loaded.config), &Rules::new(&NoPolicies), Clock::System, net, (metrics, log.sender()));
    let solo = solo.map_err(|_| "the configuration cannot be run")?;
    let from: SocketAddr = "192.0.2.7:4711".parse()?;
    let mut client = solo.connect(Peer::new(from, "default".into(), 80, &TrustedProxies::default()));
    let mut buffer = vec![0; 8 * 1024];
    for _ in 0..turns {
        client.write_all(REQUEST).await?;
        let read = client.read(&mut buffer).await?;
        if read < 1024 || !buffer.starts_with(b"HTTP/1.1 200") {
            return Err("the reply is not what was expected".into());
        }
    }
    Ok(())
}

/// The cheapest service: every read is a request.
async fn serve(mut connection: DuplexStream) {
    let mut reply = HEAD.to_vec();
    reply.resize(HEAD.len() + 1024, b'x');
    let mut buffer = vec![0; 8 * 1024];
    while matches!(connection.read(&mut buffer).await, Ok(read) if read > 0) {
        if connection.write_all(&reply).await.is_err() {
            return;
        }
    }
}
