//! The client side: sockets, TLS, protocol detection and the connections of HTTP/1 and HTTP/2.

pub(crate) mod accept;
mod attendant;
pub mod bind;
pub mod certs;
pub(crate) mod http1;
pub(crate) mod http2;
mod http2_stream;
pub mod proxy_protocol;
pub mod sniff;
pub mod tls;
pub(crate) mod wire;
pub(crate) mod writing;
mod x509;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use tidegate_core::client::Peer;
use tidegate_core::exchange::Exchange;
use tidegate_core::rejection::{Rejection, RejectionKind};

pub(crate) use self::attendant::Attendants;
use crate::telemetry::ListenerCells;
use crate::worker::Worker;

/// A client connection: who is there, and what its listener demands.
pub(crate) struct Session {
    pub(crate) peer: Rc<Peer>,
    /// Every request is sent to https (`http_to_https`).
    pub(crate) redirects: bool,
    /// The listener asks for client certificates, so a name other than the handshake's may be under another policy.
    pub(crate) name_bound: bool,
    /// Its listener is gone, or is another one now.
    pub(crate) closed: Rc<Cell<bool>>,
    pub(crate) cells: Arc<ListenerCells>,
}

impl Session {
    /// True once the connection should end with the exchange that it carries.
    #[inline]
    pub(crate) fn is_leaving(&self, worker: &Worker) -> bool {
        worker.is_draining() || self.closed.get()
    }

    /// What was agreed on in the handshake holds for one name only where certificates are asked for (RFC 9110, 15.5.20).
    pub(crate) fn admits(&self, exchange: &Exchange) -> Result<(), Rejection> {
        let name = self.peer.tls.as_ref().and_then(|tls| tls.server_name.as_deref());
        match name {
            Some(name) if self.name_bound && name != exchange.host => Err(Rejection::new(
                RejectionKind::MisdirectedRequest,
                "misdirected_request",
                "This connection was made for another host",
            )),
            _ => Ok(()),
        }
    }
}
