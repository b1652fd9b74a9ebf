//! A client that sends exactly the bytes it is told to and reads replies strictly.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use crate::stream::{PATIENCE, Stream, guarded};
use crate::wire::{Fields, Head, Message, Wire, WireError, latin1};

/// A connection to the gateway.
pub struct Client {
    wire: Wire,
}

impl Client {
    /// Connects.
    ///
    /// # Panics
    /// If nobody listens.
    pub fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect_timeout(&address, PATIENCE);
        Self::over(Stream::Plain(guarded(socket.unwrap_or_else(|e| panic!("connect to {address}: {e}")))))
    }

    /// Connects from another loopback address, to be another client.
    ///
    /// # Panics
    /// If nobody listens.
    pub fn connect_from(source: Ipv4Addr, address: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("socket");
        socket.bind(&SocketAddr::from((source, 0)).into()).expect("bind to a loopback address");
        socket.connect_timeout(&address.into(), PATIENCE).unwrap_or_else(|e| panic!("connect to {address}: {e}"));
        Self::over(Stream::Plain(guarded(socket.into())))
    }

    /// Connects with a small receive buffer, for clients that are slow to read.
    ///
    /// # Panics
    /// If nobody listens.
    pub fn connect_narrow(address: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("socket");
        socket.set_recv_buffer_size(4096).expect("small receive buffer");
        socket.connect_timeout(&address.into(), PATIENCE).unwrap_or_else(|e| panic!("connect to {address}: {e}"));
        Self::over(Stream::Plain(guarded(socket.into())))
    }

    /// Uses a connection that exists.
    pub fn over(stream: Stream) -> Self {
        Self { wire: Wire::new(stream) }
    }

    /// The address that the gateway sees.
    ///
    /// # Panics
    /// If the connection is gone.
    pub fn local(&self) -> SocketAddr {
        self.wire.stream.socket().and_then(|s| s.local_addr().ok()).expect("a local address")
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// If they cannot be written.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let bytes = bytes.as_ref();
        self.wire.write(bytes).unwrap_or_else(|e| panic!("sending {} bytes: {e}", bytes.len()));
        self
    }

    /// Sends bytes as they are, if the gateway still takes them.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.wire.write(bytes.as_ref()).is_ok()
    }

    /// A GET for `target`, and its reply.
    pub fn get(&mut self, target: &str) -> Message {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: example.test\r\n\r\n")).reply()
    }

    /// A GET for `target` with more field lines (each with its CRLF), and its reply.
    pub fn get_with(&mut self, target: &str, fields: &str) -> Message {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: example.test\r\n{fields}\r\n")).reply()
    }

    /// A POST with a Content-Length, and its reply.
    pub fn post(&mut self, target: &str, body: impl AsRef<[u8]>) -> Message {
        let body = body.as_ref();
        let head = format!("POST {target} HTTP/1.1\r\nHost: example.test\r\nContent-Length: {}\r\n\r\n", body.len());
        self.send([head.as_bytes(), body].concat()).reply()
    }

    /// The final reply to anything but HEAD.
    pub fn reply(&mut self) -> Message {
        self.reply_to("GET")
    }

    /// The final reply to a request with that method.
    ///
    /// # Panics
    /// If the reply is malformed, cut off or does not come.
    pub fn reply_to(&mut self, method: &str) -> Message {
        self.try_reply_to(method).unwrap_or_else(|e| panic!("no reply: {e:?}"))
    }

    /// The final reply, or why there is none.
    pub fn try_reply_to(&mut self, method: &str) -> Result<Message, WireError> {
        self.wire.reply(method)
    }

    /// The next head, be it interim or final; its body stays unread.
    ///
    /// # Panics
    /// If it is malformed or does not come.
    pub fn head(&mut self) -> Head {
        self.wire.head().unwrap_or_else(|e| panic!("no head: {e:?}"))
    }

    /// The next chunk of a chunked body.
    ///
    /// # Panics
    /// If there is none.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        self.wire.chunk().unwrap_or_else(|e| panic!("no chunk: {e:?}"))
    }

    /// The next chunk of a chunked body, or what came instead.
    pub fn try_chunk(&mut self) -> Result<Option<Vec<u8>>, WireError> {
        self.wire.chunk()
    }

    /// The trailers after the last chunk.
    ///
    /// # Panics
    /// If they do not come.
    pub fn trailers(&mut self) -> Fields {
        self.wire.trailers().unwrap_or_else(|e| panic!("no trailers: {e:?}"))
    }

    /// Exactly that many bytes.
    ///
    /// # Panics
    /// If they do not come.
    pub fn exactly(&mut self, n: usize) -> Vec<u8> {
        self.wire.exactly(n).unwrap_or_else(|e| panic!("no {n} bytes: {e:?}"))
    }

    /// Whatever comes next, at least a byte; `None` when the gateway is gone.
    ///
    /// # Panics
    /// If nothing comes.
    pub fn some(&mut self) -> Option<Vec<u8>> {
        self.wire.some().unwrap_or_else(|e| panic!("nothing came: {e:?}"))
    }

    /// Everything up to the gateway's close, orderly or not.
    ///
    /// # Panics
    /// If it does not close.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            match self.wire.some() {
                Ok(Some(bytes)) => all.extend(bytes),
                Ok(None) => return all,
                Err(e) => panic!("still open ({e:?}) after {:?}", latin1(&all)),
            }
        }
    }

    /// Asserts that the gateway closes and says nothing more.
    ///
    /// # Panics
    /// If it says more or stays open.
    pub fn assert_closed(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "more bytes before the close: {:?}", latin1(&rest));
    }

    /// Ends our half of the connection.
    pub fn half_close(&mut self) -> &mut Self {
        self.wire.stream.shutdown_write();
        self
    }

    /// Aborts the connection with a RST.
    pub fn reset(self) {
        self.wire.stream.linger_none();
    }

    /// Is the connection open, with nothing to read? Never waits.
    pub fn is_quiet(&self) -> bool {
        let Some(socket) = self.wire.stream.socket() else { return false };
        drop(socket.set_nonblocking(true));
        let seen = socket.peek(&mut [0; 1]);
        drop(socket.set_nonblocking(false));
        matches!(seen, Err(ref e) if e.kind() == ErrorKind::WouldBlock)
    }
}
