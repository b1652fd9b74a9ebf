//! `server`, `admin`, `status` and `log`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{
    AcceptRequestId, AccessFormat, AccessLog, Admin, Buffers, ClientAuth, Level, Listener, ListenerTls, Log, LogTarget,
    RequestId, Secret, Server, ServerLimits, ServerTimeouts, TlsVersion,
};
use crate::file::{
    AcceptFile, AccessFile, AdminFile, BuffersFile, ClientAuthFile, LevelFile, LimitsFile, ListenerFile, LogFile,
    RequestIdFile, ServerFile, StatusFile, TimeoutsFile, TlsFile, VersionFile, Workers,
};
use crate::problem::{Path, Problem};
use crate::resolve::Resolver;
use crate::resolve::files::Pem;
use crate::tree::Node;
use crate::value::{self, FieldName, Name, Size};

/// What `off` means for a timeout: ten years, which can still be added to a point in time.
const NEVER: Duration = Duration::from_hours(10 * 365 * 24);

impl Resolver<'_> {
    pub(super) fn server(&mut self, tree: &Node) -> Option<Server> {
        let path = Path::root().join("server");
        let file: ServerFile = self.read_top(tree, "server").or_else(|| {
            if !self.is_excused(&path) {
                self.error(&path, "`server` cannot be off");
            }
            None
        })?;
        let listeners = self.listeners(&file, &path);
        Some(Server {
            listeners,
            workers: match file.workers {
                Some(Workers::Count(count)) => Some(count),
                Some(Workers::Auto) | None => None,
            },
            timeouts: self.timeouts(file.timeouts, &path.join("timeouts")),
            limits: self.limits(file.limits, &path.join("limits")),
            buffers: self.buffers(file.buffers, &path.join("buffers")),
            trusted_proxies: self.trusted_proxies(&file.trusted_proxies, &path.join("trusted_proxies")),
            request_id: self.request_id(file.request_id, &path.join("request_id")),
            zone: file.zone.map(|Name(zone)| zone),
            require_auth: file.require_auth.unwrap_or(false),
        })
    }

    fn listeners(&mut self, file: &ServerFile, path: &Path) -> Vec<Listener> {
        if file.listeners.is_empty() {
            let addresses = self.addresses(path, file.host.as_deref(), file.port);
            let tls = file.tls.as_ref().map(|tls| self.tls(tls, &path.join("tls")));
            let at = path.clone();
            return vec![Listener {
                name: "default".into(),
                addresses,
                tls,
                proxy_protocol: false,
                http_to_https: false,
                at,
            }];
        }
        for key in ["host", "port", "tls"] {
            self.refuse_beside_listeners(key, &path.join(key));
        }
        let mut names: BTreeMap<Arc<str>, Path> = BTreeMap::new();
        let mut listeners = Vec::new();
        for (position, listener) in file.listeners.iter().enumerate() {
            let at = path.join("listeners").index(position);
            let listener = self.listener(listener, &at);
            if let Some(first) = names.get(&listener.name) {
                let problem = Problem::error(at.join("name"), format!("two listeners are called `{}`", listener.name));
                self.push(problem.see(first.clone(), "the first is here"));
            }
            names.entry(Arc::clone(&listener.name)).or_insert_with(|| at.join("name"));
            listeners.push(listener);
        }
        listeners
    }

    fn refuse_beside_listeners(&mut self, key: &str, path: &Path) {
        if self.document.tree.find(path).is_some_and(|node| !node.is_null() && !node.is_off()) {
            let problem =
                Problem::error(path.clone(), format!("`{key}` is for one listener, but there are `listeners`"));
            let from_env = self.origin_is_env(path);
            let help = if from_env { "unset the variable, or take `listeners` out" } else { "move it into a listener" };
            self.push(problem.on_key().help(help));
        }
    }

    fn listener(&mut self, file: &ListenerFile, at: &Path) -> Listener {
        let addresses = self.addresses(at, file.host.as_deref(), file.port);
        let tls = file.tls.as_ref().map(|tls| self.tls(tls, &at.join("tls")));
        let http_to_https = file.http_to_https.unwrap_or(false);
        if http_to_https && file.tls.is_some() {
            let problem = Problem::error(at.join("http_to_https"), "a listener with `tls` has nothing to redirect");
            self.push(problem.help("write it at the plain listener"));
        }
        Listener {
            name: file.name.as_ref().map_or_else(|| "listener".into(), |Name(name)| Arc::clone(name)),
            addresses,
            tls,
            proxy_protocol: file.proxy_protocol.unwrap_or(false),
            http_to_https,
            at: at.clone(),
        }
    }

    fn tls(&mut self, file: &TlsFile, path: &Path) -> Arc<ListenerTls> {
        if file.certificates.is_empty() {
            self.missing(path, "certificates", "write `certificates: [{ cert: server.pem, key: server.key }]`");
        }
        let client_auth = match file.client_auth {
            Some(ClientAuthFile::Required) => ClientAuth::Required,
            Some(ClientAuthFile::Optional) => ClientAuth::Optional,
            Some(ClientAuthFile::Off) | None => ClientAuth::Off,
        };
        if client_auth != ClientAuth::Off && file.client_ca.is_none() {
            self.missing(path, "client_ca", "name the PEM file of the authorities that sign client certificates");
        }
        if file.client_ca.is_some() && client_auth == ClientAuth::Off && self.is_default(&path.join("client_auth")) {
            let problem = Problem::error(
                path.join("client_ca"),
                "`client_ca` does nothing while clients are not asked for a certificate",
            )
            .on_key();
            self.push(problem.help("write `client_auth: required` or `client_auth: optional`"));
        }
        let mut certificates = Vec::new();
        for (position, certificate) in file.certificates.iter().enumerate() {
            let at = path.join("certificates").index(position);
            certificates.extend(self.certificate(
                &at,
                ("cert", certificate.cert.as_deref()),
                ("key", certificate.key.as_deref()),
            ));
        }
        let client_ca =
            file.client_ca.as_deref().and_then(|name| self.pem(&path.join("client_ca"), name, Pem::Certificate));
        let min_version = match file.min_version {
            Some(VersionFile::Tls13) => TlsVersion::Tls13,
            Some(VersionFile::Tls12) | None => TlsVersion::Tls12,
        };
        Arc::new(ListenerTls { certificates, min_version, client_ca, client_auth })
    }

    fn timeouts(&mut self, file: Option<TimeoutsFile>, path: &Path) -> ServerTimeouts {
        let none = TimeoutsFile {
            handshake: None,
            header: None,
            body_idle: None,
            write_idle: None,
            idle: None,
            stream_idle: None,
            drain_delay: None,
            drain: None,
        };
        let file = self.required(path, file, none);
        let handshake = self.required(&path.join("handshake"), file.handshake, value::Duration(NEVER));
        let header = self.required(&path.join("header"), file.header, value::Duration(NEVER));
        ServerTimeouts {
            handshake: self.positive(&path.join("handshake"), Some(handshake)),
            header: self.positive(&path.join("header"), Some(header)),
            body_idle: self.positive(&path.join("body_idle"), file.body_idle),
            write_idle: self.positive(&path.join("write_idle"), file.write_idle),
            idle: self.positive(&path.join("idle"), file.idle),
            stream_idle: self.positive(&path.join("stream_idle"), file.stream_idle),
            drain_delay: file.drain_delay.map_or(Duration::ZERO, |duration| duration.0),
            drain: file.drain.map_or(NEVER, |duration| duration.0),
        }
    }

    /// A timeout, which is some time or `off`: zero would end everything at once.
    pub(super) fn positive(&mut self, path: &Path, duration: Option<value::Duration>) -> Duration {
        match duration {
            Some(value::Duration(Duration::ZERO)) => {
                self.push(
                    Problem::error(path.clone(), "a timeout of zero would end everything at once")
                        .help("write `off` for no limit"),
                );
                NEVER
            }
            Some(value::Duration(duration)) => duration,
            None => NEVER,
        }
    }

    fn limits(&mut self, file: Option<LimitsFile>, path: &Path) -> ServerLimits {
        let none = LimitsFile {
            header_bytes: None,
            headers: None,
            uri_bytes: None,
            body: None,
            connections: None,
            connections_per_client: None,
            streams: None,
            min_rate: None,
        };
        let file = self.required(path, file, none);
        let limits = ServerLimits {
            header_bytes: self.size(&path.join("header_bytes"), file.header_bytes, (1 << 10, 1 << 20)),
            headers: self.number(&path.join("headers"), file.headers, (1, 10_000)),
            uri_bytes: self.size(&path.join("uri_bytes"), file.uri_bytes, (64, 1 << 20)),
            body: file.body.map(|size| size.0),
            connections: self.count(&path.join("connections"), file.connections),
            connections_per_client: self.count(&path.join("connections_per_client"), file.connections_per_client),
            streams: self.bounded(&path.join("streams"), file.streams, (1, 10_000)),
            min_rate: file.min_rate.map(|rate| rate.0),
        };
        if limits.uri_bytes > limits.header_bytes && !self.is_excused(path) {
            let problem = Problem::error(
                path.join("uri_bytes"),
                "`uri_bytes` is more than `header_bytes`, which contain the target too",
            );
            self.push(problem.help("raise `header_bytes`"));
        }
        limits
    }

    fn size(&mut self, path: &Path, size: Option<Size>, (min, max): (u64, u64)) -> usize {
        let Size(size) = self.required(path, size, Size(min));
        if !(min..=max).contains(&size) {
            self.error(path, format!("{} is not between {} and {}", Size(size), Size(min), Size(max)));
        }
        usize::try_from(size).unwrap_or(usize::MAX)
    }

    pub(super) fn number(&mut self, path: &Path, number: Option<u32>, range: (u32, u32)) -> usize {
        usize::try_from(self.bounded(path, number, range)).unwrap_or(usize::MAX)
    }

    pub(super) fn bounded(&mut self, path: &Path, number: Option<u32>, (min, max): (u32, u32)) -> u32 {
        let number = self.required(path, number, min);
        if !(min..=max).contains(&number) {
            let problem = if max == u32::MAX {
                format!("{number} is too few: there is at least {min}")
            } else {
                format!("{number} is not between {min} and {max}")
            };
            self.error(path, problem);
        }
        number
    }

    /// A number of connections; `off` is no limit.
    fn count(&mut self, path: &Path, number: Option<u32>) -> usize {
        match number {
            Some(0) => {
                self.push(
                    Problem::error(path.clone(), "with no connection at all nothing is served")
                        .help("write `off` for no limit"),
                );
                usize::MAX
            }
            Some(number) => usize::try_from(number).unwrap_or(usize::MAX),
            None => usize::MAX,
        }
    }

    fn buffers(&mut self, file: Option<BuffersFile>, path: &Path) -> Buffers {
        let file = self.required(path, file, BuffersFile { head: None, body: None });
        Buffers {
            head: self.size(&path.join("head"), file.head, (512, 1 << 20)),
            body: self.size(&path.join("body"), file.body, (1 << 10, 16 << 20)),
        }
    }

    fn trusted_proxies(&mut self, ranges: &[value::Cidr], path: &Path) -> Vec<ipnet::IpNet> {
        for (position, range) in ranges.iter().enumerate().filter(|(_, range)| range.0.prefix_len() == 0) {
            let problem =
                Problem::warning(path.index(position), format!("{} lets everybody claim to be any client", range.0));
            self.push(problem.help("name the addresses of the proxies in front of this gateway"));
        }
        ranges.iter().map(|range| range.0).collect()
    }

    fn request_id(&mut self, file: Option<RequestIdFile>, path: &Path) -> RequestId {
        let file = self.required(path, file, RequestIdFile { header: None, accept: None });
        let header = self.required(&path.join("header"), file.header, FieldName("x-request-id".into()));
        let accept = match file.accept {
            Some(AcceptFile::Trusted) => AcceptRequestId::Trusted,
            Some(AcceptFile::Any) => AcceptRequestId::Any,
            Some(AcceptFile::Never) | None => AcceptRequestId::Never,
        };
        RequestId { header: header.0, accept }
    }

    pub(super) fn admin(&mut self, tree: &Node) -> Option<Admin> {
        let path = Path::root().join("admin");
        let file: AdminFile = self.read_top(tree, "admin")?;
        let addresses = self.addresses(&path, file.host.as_deref(), file.port);
        let token = file.token.filter(|token| !token.is_empty()).map(|token| Secret(token.into()));
        let beyond = addresses.iter().find(|address| !address.ip().is_loopback());
        if let (Some(address), None, false) = (beyond, &token, self.is_excused(&path.join("token"))) {
            let problem = Problem::error(
                path.join("host"),
                format!("the admin listener on {} would be open to everybody: it has no token", address.ip()),
            );
            self.push(problem.help(
                "write `host: 127.0.0.1`, or `token: \"${TIDEGATE_ADMIN_TOKEN}\"`; probes and scrapers are served by `status`",
            ));
        }
        Some(Admin { addresses, token })
    }

    pub(super) fn status(&mut self, tree: &Node) -> Option<Vec<SocketAddr>> {
        let file: StatusFile = self.read_top(tree, "status")?;
        Some(self.addresses(&Path::root().join("status"), file.host.as_deref(), file.port))
    }

    pub(super) fn log(&mut self, tree: &Node) -> Option<Log> {
        let path = Path::root().join("log");
        let file: LogFile = self.read_top(tree, "log").or_else(|| {
            if !self.is_excused(&path) {
                self.push(
                    Problem::error(path.clone(), "`log` cannot be off")
                        .help("write `log: { access: off, level: error }`"),
                );
            }
            None
        })?;
        let level = match self.required(&path.join("level"), file.level, LevelFile::Info) {
            LevelFile::Debug => Level::Debug,
            LevelFile::Info => Level::Info,
            LevelFile::Warn => Level::Warn,
            LevelFile::Error => Level::Error,
        };
        let access = file.access.map(|access| self.access(&access, &path.join("access")));
        Some(Log { level, access })
    }

    fn access(&mut self, file: &AccessFile, path: &Path) -> AccessLog {
        let to = match file.to.as_deref() {
            Some("stdout") => LogTarget::Stdout,
            Some("stderr") => LogTarget::Stderr,
            Some("") | None => {
                self.missing(path, "to", "write `stdout`, `stderr` or the name of a file");
                LogTarget::Stdout
            }
            Some(name) => LogTarget::File(self.document.folder(&path.join("to")).join(name)),
        };
        // There is one format; `off` is said by the key above.
        if file.format.is_none() && !self.is_excused(&path.join("format")) {
            self.error(&path.join("format"), "`format` cannot be off");
        }
        let names = |names: &[FieldName]| names.iter().map(|name| Arc::clone(&name.0)).collect();
        AccessLog {
            format: AccessFormat::Json,
            to,
            sample: file.sample.map_or(0.0, |share| share.0),
            redact: names(&file.redact),
            headers: names(&file.headers),
        }
    }
}
