//! Which server it is, and how a connection to it is made.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisError};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tidegate_core::policy::Local;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// Commands that may wait for the connection's task at once; more wait in line for that.
const QUEUE: usize = 1024;

/// A server, and who asks it.
#[derive(Clone)]
pub struct Target {
    place: Place,
    who: RedisConnectionInfo,
}

#[derive(Clone)]
enum Place {
    Tcp { host: String, port: u16, tls: Option<Tls> },
    Unix(PathBuf),
}

#[derive(Clone)]
struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// A connection that many ask at once, and what must be polled for it to answer. That ends when the connection does.
pub(super) type Opened = (MultiplexedConnection, Local<'static, ()>);

impl Target {
    /// What a URL says: `redis://user:password@host:6379/0`, the same with `rediss` for TLS, or `unix:///run/redis.sock?db=0`.
    ///
    /// # Errors
    /// In words for the operator; no password is in them.
    pub fn of(url: &str, authorities: impl FnOnce() -> RootCertStore) -> Result<Self, String> {
        // Whether there is TLS is settled here: the crate is built without its own.
        let encrypted = ["rediss://", "valkeys://"].iter().find_map(|scheme| url.strip_prefix(scheme));
        let plain = encrypted.map(|rest| format!("redis://{rest}"));
        let info = plain.as_deref().unwrap_or(url).into_connection_info();
        // What the crate says of a URL may have the password in it.
        let info = info.map_err(|_| "it is no URL of a Redis server".to_owned())?;
        let who = info.redis_settings().clone().set_skip_set_lib_name();
        let place = match info.addr() {
            ConnectionAddr::Unix(path) => Place::Unix(path.clone()),
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                let tls = plain.is_some().then(|| Tls::to(host, authorities())).transpose()?;
                Place::Tcp { host: host.clone(), port: *port, tls }
            }
            // The crate may add kinds of addresses.
            _ => return Err("this kind of address is not known".to_owned()),
        };
        Ok(Self { place, who })
    }

    /// With a name and a password that are not in the URL.
    #[must_use]
    pub fn with_credentials(mut self, username: Option<&str>, password: Option<&str>) -> Self {
        if let Some(username) = username {
            self.who = self.who.set_username(username);
        }
        if let Some(password) = password {
            self.who = self.who.set_password(password);
        }
        self
    }

    pub(super) async fn open(&self) -> Result<Opened, RedisError> {
        match &self.place {
            Place::Tcp { host, port, tls } => {
                let socket = TcpStream::connect((host.as_str(), *port)).await?;
                socket.set_nodelay(true)?;
                match tls {
                    None => self.greet(socket).await,
                    Some(tls) => {
                        let connector = TlsConnector::from(Arc::clone(&tls.config));
                        self.greet(connector.connect(tls.name.clone(), socket).await?).await
                    }
                }
            }
            Place::Unix(path) => self.greet(UnixStream::connect(path).await?).await,
        }
    }

    async fn greet<S>(&self, socket: S) -> Result<Opened, RedisError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // Time is limited by whoever asks.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE);
        let (connection, driver) = MultiplexedConnection::new_with_config(&self.who, socket, config).await?;
        Ok((connection, Box::pin(driver)))
    }
}

impl Tls {
    fn to(host: &str, authorities: RootCertStore) -> Result<Self, String> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("`{host}` is no name for TLS"))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|e| e.to_string())?.with_root_certificates(authorities).with_no_client_auth();
        Ok(Self { config: Arc::new(config), name })
    }
}

/// Without the password.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp { host, port, tls } => {
                write!(f, "redis{}://{host}:{port}/{}", if tls.is_some() { "s" } else { "" }, self.who.db())
            }
            Place::Unix(path) => write!(f, "unix://{}?db={}", path.display(), self.who.db()),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}
