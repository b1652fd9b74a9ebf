//! The one seam for connections that the gateway opens: the system's network, or ends of pipes in memory for tests and dry runs.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use tokio::io::DuplexStream;
use tokio::net::TcpStream;

use crate::io::Io;
use crate::upstream::endpoint::Endpoint;

/// Gives the gateway's end of a connection to `host:port`.
pub type Connect = dyn Fn(&str) -> io::Result<DuplexStream>;

/// Where connections lead.
#[derive(Default)]
pub enum Net {
    /// To the system's network.
    #[default]
    System,
    /// To whatever this returns.
    Memory(Box<Connect>),
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "Net::System",
            Self::Memory(_) => "Net::Memory",
        })
    }
}

/// Why a connection could not be had.
pub(crate) enum Unreachable {
    Resolve(io::Error),
    Connect(io::Error),
}

impl Net {
    /// A connection to the first of the endpoint's addresses that accepts.
    pub(crate) async fn connect(&self, endpoint: &Endpoint, now: std::time::Instant) -> Result<Io, Unreachable> {
        match self {
            Self::Memory(connect) => connect(endpoint.authority()).map(Io::Memory).map_err(Unreachable::Connect),
            Self::System => {
                let addresses = endpoint.addresses(now).await.map_err(Unreachable::Resolve)?;
                dial(&addresses).await.map(Io::Tcp).map_err(Unreachable::Connect)
            }
        }
    }
}

async fn dial(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
