//! Clients and endpoints that speak HTTP/2.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use tidegate_proxy::tasks::spawn_local;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::world::{PATIENCE, Party, World, settle};

/// A client with a connection of its own.
pub(crate) struct Client {
    requests: SendRequest<Bytes>,
    ended: Rc<RefCell<bool>>,
}

impl Client {
    pub(crate) async fn connect(world: &World) -> Self {
        Self::with_window(world, 65_535).await
    }

    /// A client that takes this many bytes of a body before it has read some.
    pub(crate) async fn with_window(world: &World, window: u32) -> Self {
        let io = world.client().into_stream();
        let handshake = h2::client::Builder::new().initial_window_size(window).handshake(io).await;
        let (requests, connection) = handshake.unwrap();
        let ended = Rc::new(RefCell::new(false));
        let told = Rc::clone(&ended);
        spawn_local(async move {
            // Tests look at what streams see; how the connection ended shows there.
            connection.await.ok();
            *told.borrow_mut() = true;
        })
        .detach();
        Self { requests, ended }
    }

    /// Asks, and says whether a body follows.
    pub(crate) async fn ask(&mut self, request: Request<()>, bodiless: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let asked = self.requests.clone().ready().await.unwrap().send_request(request, bodiless).unwrap();
        settle().await;
        asked
    }

    pub(crate) async fn get(&mut self) -> ResponseFuture {
        self.ask(Request::get("http://x.test/a").body(()).unwrap(), true).await.0
    }

    pub(crate) async fn post(&mut self) -> (ResponseFuture, SendStream<Bytes>) {
        self.ask(Request::post("http://x.test/a").body(()).unwrap(), false).await
    }

    pub(crate) async fn has_ended(&self) -> bool {
        settle().await;
        *self.ended.borrow()
    }

    /// True if the connection takes no more requests.
    pub(crate) async fn was_told_to_leave(&self) -> bool {
        settle().await;
        self.requests.clone().ready().await.is_err()
    }
}

/// The status and the body of a reply that ends as it should.
pub(crate) async fn whole(reply: ResponseFuture) -> (u16, String) {
    let reply = reply.await.unwrap();
    let status = reply.status().as_u16();
    (status, text(&mut reply.into_body()).await.unwrap())
}

/// A body to its end.
pub(crate) async fn text(body: &mut RecvStream) -> Result<String, h2::Error> {
    let mut text = Vec::new();
    while let Some(part) = body.data().await {
        let part = part?;
        text.extend_from_slice(&part);
        body.flow_control().release_capacity(part.len())?;
    }
    Ok(String::from_utf8(text).unwrap())
}

type Asked = (Request<RecvStream>, SendResponse<Bytes>);

/// The endpoint's side of a connection that the gateway opened.
pub(crate) struct Endpoint {
    asked: Rc<RefCell<VecDeque<Asked>>>,
    leave: Rc<RefCell<bool>>,
    ended: Rc<RefCell<bool>>,
}

impl Endpoint {
    /// The next connection of the gateway.
    pub(crate) async fn accept(world: &World) -> Self {
        Self::accept_with(world, 100).await
    }

    /// The next connection of the gateway, on which this many streams may be open at once.
    pub(crate) async fn accept_with(world: &World, streams: u32) -> Self {
        let io = world.endpoint().await.into_stream();
        let connection = h2::server::Builder::new().max_concurrent_streams(streams).handshake(io).await.unwrap();
        let this = Self { asked: Rc::default(), leave: Rc::default(), ended: Rc::default() };
        spawn_local(drive(connection, Rc::clone(&this.asked), Rc::clone(&this.leave), Rc::clone(&this.ended))).detach();
        this
    }

    /// The next request.
    pub(crate) async fn asked(&self) -> Asked {
        for _ in 0..PATIENCE {
            if let Some(asked) = self.asked.borrow_mut().pop_front() {
                return asked;
            }
            tokio::task::yield_now().await;
        }
        panic!("the endpoint was asked nothing");
    }

    pub(crate) async fn was_asked(&self) -> bool {
        settle().await;
        !self.asked.borrow().is_empty()
    }

    /// Takes no more requests; those under way go on.
    pub(crate) async fn leave(&self) {
        *self.leave.borrow_mut() = true;
        settle().await;
    }

    pub(crate) async fn has_ended(&self) -> bool {
        settle().await;
        *self.ended.borrow()
    }
}

async fn drive(
    mut connection: h2::server::Connection<DuplexStream, Bytes>,
    asked: Rc<RefCell<VecDeque<Asked>>>,
    leave: Rc<RefCell<bool>>,
    ended: Rc<RefCell<bool>>,
) {
    loop {
        let next = std::future::poll_fn(|cx| {
            if std::mem::take(&mut *leave.borrow_mut()) {
                connection.graceful_shutdown();
            }
            // Nobody wakes it when it is told to leave.
            cx.waker().wake_by_ref();
            match connection.poll_accept(cx) {
                std::task::Poll::Pending => std::task::Poll::Ready(None),
                std::task::Poll::Ready(next) => std::task::Poll::Ready(Some(next)),
            }
        })
        .await;
        match next {
            None => tokio::task::yield_now().await,
            Some(Some(Ok(request))) => asked.borrow_mut().push_back(request),
            Some(Some(Err(_)) | None) => break,
        }
    }
    *ended.borrow_mut() = true;
}

/// Replies with these bytes.
pub(crate) fn answer(respond: &mut SendResponse<Bytes>, body: &'static str) {
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    stream.send_data(Bytes::from_static(body.as_bytes()), true).unwrap();
}

/// A client that makes its frames by hand.
pub(crate) struct Frames(DuplexStream);

impl Frames {
    /// Says the preface and empty settings.
    pub(crate) async fn connect(world: &World) -> Self {
        let mut this = Self(Party::into_stream(world.client()));
        this.0.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        this.say(4, 0, 0, b"").await;
        this
    }

    pub(crate) async fn say(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        // A connection that has ended takes nothing; the test sees that it has.
        self.0.write_all(&frame).await.ok();
    }

    /// The frames that came by now: kind, stream and payload. `None` if the connection ended after them.
    pub(crate) async fn heard(&mut self) -> (Vec<(u8, u32, Vec<u8>)>, bool) {
        let (bytes, ended) = self.bytes().await;
        (split(&bytes), ended)
    }

    /// The same, not taken apart.
    pub(crate) async fn bytes(&mut self) -> (Vec<u8>, bool) {
        settle().await;
        let mut bytes = Vec::new();
        let ended = loop {
            let mut room = [0; 4096];
            let mut read = std::pin::pin!(self.0.read(&mut room));
            match std::future::poll_fn(|cx| std::task::Poll::Ready(read.as_mut().poll(cx))).await {
                std::task::Poll::Ready(Ok(0) | Err(_)) => break true,
                std::task::Poll::Ready(Ok(length)) => bytes.extend(room.iter().take(length)),
                std::task::Poll::Pending => break false,
            }
        };
        (bytes, ended)
    }
}

pub(crate) fn split(mut bytes: &[u8]) -> Vec<(u8, u32, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let (payload, rest) = rest.split_at(length);
        frames.push((head[3], stream, payload.to_vec()));
        bytes = rest;
    }
    frames
}
