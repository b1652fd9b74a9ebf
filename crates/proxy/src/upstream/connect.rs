//! Opening a connection to an endpoint: resolve, connect, TLS, and which protocol it speaks.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use rustls::ClientConfig;
use tidegate_config::config::UpstreamProtocol;
use tidegate_core::clock::Clock;

use super::attempt::Failure;
use super::endpoint::{Endpoint, Permit};
use super::http1::Connection;
use super::http2::Session;
use super::tls;
use crate::listener::tls::Alpn;
use crate::net::{Net, Unreachable};

/// A connection that is ready for a request.
pub(crate) enum Opened {
    Http1(Box<Connection>),
    Http2(Rc<Session>),
}

/// What tells how to connect.
pub(crate) struct How<'a> {
    pub(crate) protocol: UpstreamProtocol,
    pub(crate) tls: Option<&'a Arc<ClientConfig>>,
    pub(crate) server_name: Option<&'a str>,
    pub(crate) clock: &'a Clock,
    pub(crate) net: &'a Net,
}

/// Opens a connection to `endpoint`; the caller bounds the time.
pub(crate) async fn open(endpoint: &Rc<Endpoint>, how: How<'_>, permit: Permit) -> Result<Opened, Failure> {
    let stream = how.net.connect(endpoint, how.clock).await.map_err(|unreachable| match unreachable {
        Unreachable::Resolve(error) => Failure::Resolve(error),
        Unreachable::Connect(error) => Failure::Connect(error),
    })?;
    let (stream, alpn) = match (endpoint.config.tls, how.tls) {
        (true, Some(config)) => {
            let name = how.server_name.unwrap_or(&endpoint.config.host);
            tls::connect(config, name, stream).await.map_err(Failure::Connect)?
        }
        // Never in clear what was meant to be private.
        (true, None) => {
            let reason = "the endpoint wants TLS, and this gateway has no authorities to trust";
            return Err(Failure::Connect(io::Error::new(io::ErrorKind::Unsupported, reason)));
        }
        (false, _) => (stream, Alpn::None),
    };
    let http2 = match how.protocol {
        UpstreamProtocol::Http2 => true,
        UpstreamProtocol::Http1 => false,
        UpstreamProtocol::Auto => alpn == Alpn::Http2,
    };
    if http2 {
        Session::open(stream, Rc::clone(endpoint), permit, how.clock).await.map(Opened::Http2).map_err(Failure::Connect)
    } else {
        let connection = Connection::new(stream, Rc::clone(endpoint), permit, how.clock.now());
        Ok(Opened::Http1(Box::new(connection)))
    }
}
