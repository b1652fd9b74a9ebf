//! The three services of the demo: ordinary little HTTP servers that know nothing of a gateway.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::wait::at_most;

/// What the echo shows of a body.
const SHOWN: usize = 64 * 1024;
const BETWEEN_EVENTS: Duration = Duration::from_secs(1);

/// The running services. They end when this is dropped.
pub(crate) struct Services {
    pub(crate) users: SocketAddr,
    pub(crate) orders: SocketAddr,
    pub(crate) echo: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Services {
    /// Starts all three on free ports. To be called inside a runtime.
    pub(crate) fn start() -> io::Result<Self> {
        let mut tasks = JoinSet::new();
        let mut start = |kind: Kind| -> io::Result<SocketAddr> {
            let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.set_nonblocking(true)?;
            let address = socket.local_addr()?;
            tasks.spawn(serve(TcpListener::from_std(socket)?, kind));
            Ok(address)
        };
        Ok(Self { users: start(Kind::Users)?, orders: start(Kind::Orders)?, echo: start(Kind::Echo)?, _tasks: tasks })
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Users,
    Orders,
    Echo,
}

type Reply = Response<Either<Full<Bytes>, Events>>;

async fn serve(socket: TcpListener, kind: Kind) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = socket.accept().await {
        while connections.try_join_next().is_some() {}
        let service = service_fn(move |request| async move { Ok::<_, Infallible>(answer(kind, request).await) });
        connections.spawn(async move {
            // Whoever breaks off the demo does so on purpose.
            http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
        });
    }
}

async fn answer(kind: Kind, request: Request<Incoming>) -> Reply {
    let path = request.uri().path();
    match kind {
        Kind::Users => match path.strip_prefix("/users/").and_then(|id| id.parse().ok()) {
            Some(id) => reply(StatusCode::OK, &user(id)),
            None => not_found(),
        },
        Kind::Orders if path == "/events" => events(),
        Kind::Orders if path.starts_with("/orders") => reply(StatusCode::OK, &orders()),
        Kind::Orders => not_found(),
        Kind::Echo => reply(StatusCode::OK, &echo(request).await),
    }
}

fn user(id: usize) -> Value {
    let names = ["Ada", "Alan", "Barbara", "Edsger", "Frances", "Grace", "Katherine", "Radia"];
    json!({ "id": id, "name": names.get(id % names.len()) })
}

fn orders() -> Value {
    json!([{ "id": 1, "item": "tide table", "count": 2 }, { "id": 2, "item": "lock gate", "count": 1 }])
}

/// What arrived here, after the gateway was done with it.
async fn echo(request: Request<Incoming>) -> Value {
    let (head, body) = request.into_parts();
    let fields = head.headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes());
        (name.as_str().to_owned(), Value::from(value))
    });
    let fields: Value = fields.collect();
    let body = Limited::new(body, SHOWN).collect().await.map(http_body_util::Collected::to_bytes);
    let body =
        body.map_or_else(|_| "(too long to show)".to_owned(), |body| String::from_utf8_lossy(&body).into_owned());
    json!({ "service": "echo", "method": head.method.as_str(), "target": head.uri.to_string(), "headers": fields, "body": body })
}

fn not_found() -> Reply {
    reply(StatusCode::NOT_FOUND, &json!({ "error": "no such thing in this service" }))
}

fn reply(status: StatusCode, body: &Value) -> Reply {
    let mut reply = Response::new(Either::Left(Full::new(format!("{body:#}\n").into())));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

fn events() -> Reply {
    let mut reply = Response::new(Either::Right(Events { count: 0, wait: Box::pin(std::future::ready(())) }));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    reply
}

/// Server-sent events without end, one a second.
struct Events {
    count: u64,
    wait: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::task::ready!(self.wait.as_mut().poll(cx));
        self.wait = Box::pin(async {
            at_most(BETWEEN_EVENTS, std::future::pending::<()>()).await;
        });
        self.count += 1;
        let event = format!("event: order\ndata: {{\"id\": {}, \"state\": \"shipped\"}}\n\n", self.count);
        Poll::Ready(Some(Ok(Frame::data(event.into()))))
    }
}
