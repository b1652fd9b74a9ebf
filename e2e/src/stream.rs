//! What a test's bytes travel over: a TCP connection, plain or under TLS, or a buffer in memory.

use std::io::{self, Cursor, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use rustls::{ClientConnection, ServerConnection, StreamOwned};

/// Longest wait for anything that a test expects. It is a guard against hanging, never a measure.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A connection.
pub enum Stream {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS, the connecting side.
    TlsClient(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// TLS, the accepting side.
    TlsServer(Box<StreamOwned<ServerConnection, TcpStream>>),
    /// Bytes that were recorded before.
    Bytes(Cursor<Vec<u8>>),
}

impl Stream {
    /// The socket, if there is one.
    pub fn socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(socket) => Some(socket),
            Self::TlsClient(tls) => Some(&tls.sock),
            Self::TlsServer(tls) => Some(&tls.sock),
            Self::Bytes(_) => None,
        }
    }

    /// Closes our half: the peer reads an orderly end.
    pub fn shutdown_write(&mut self) {
        match self {
            Self::TlsClient(tls) => {
                tls.conn.send_close_notify();
                drop(tls.flush());
            }
            Self::TlsServer(tls) => {
                tls.conn.send_close_notify();
                drop(tls.flush());
            }
            Self::Plain(_) | Self::Bytes(_) => {}
        }
        if let Some(socket) = self.socket() {
            drop(socket.shutdown(Shutdown::Write));
        }
    }

    /// Makes the close that follows an abortive one (RST).
    pub fn linger_none(&self) {
        if let Some(socket) = self.socket() {
            drop(socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO)));
        }
    }
}

/// A socket with the guards of [`PATIENCE`] on.
pub fn guarded(socket: TcpStream) -> TcpStream {
    drop(socket.set_read_timeout(Some(PATIENCE)));
    drop(socket.set_write_timeout(Some(PATIENCE)));
    drop(socket.set_nodelay(true));
    socket
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(s) => s.read(buf),
            Self::TlsClient(s) => s.read(buf),
            Self::TlsServer(s) => s.read(buf),
            Self::Bytes(s) => s.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(s) => s.write(buf),
            Self::TlsClient(s) => s.write(buf),
            Self::TlsServer(s) => s.write(buf),
            Self::Bytes(s) => s.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(s) => s.flush(),
            Self::TlsClient(s) => s.flush(),
            Self::TlsServer(s) => s.flush(),
            Self::Bytes(s) => s.flush(),
        }
    }
}
