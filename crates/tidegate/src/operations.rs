//! A gateway in operation: started, reloaded when its files change or SIGHUP comes, drained when it is told to end. Everything that
//! may fail is done before anything is changed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_config::{Config, Document};
use tidegate_core::clock::Clock;
use tidegate_proxy::gateway::{Options, StartError, Unbound};
use tidegate_proxy::telemetry::{LogWriter, Metrics, Names};
use tidegate_proxy::{Gateway, Upstreams};

use crate::admin::{BindError, Listeners};
use crate::cli::input::{Checked, Refused};
use crate::oplog::OpLog;
use crate::process::raise_open_files;
use crate::registry::Writer;
use crate::reload::{Origin, Seen};
use crate::signals::{Signal, Signals};
use crate::status::{InUse, Status};
use crate::wait::at_most;
use crate::watch::{POLL, Watch};

/// How long the access log may take to be written when the process ends.
const LAST_LINES: Duration = Duration::from_secs(2);

/// A gateway that serves.
pub(crate) struct Operations {
    origin: Origin,
    seen: Seen,
    gateway: Gateway,
    config: Arc<Config>,
    listeners: Listeners,
    status: Arc<Status>,
    writer: Writer,
    log: LogWriter,
    oplog: OpLog,
}

/// Why a gateway did not start.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something in the configuration.
    Configuration(String),
    /// Something on this machine.
    Machine(String),
}

impl Operations {
    /// Starts what the origin describes. To be called inside the control runtime.
    pub(crate) fn start(origin: Origin, color: bool) -> Result<Self, Failure> {
        let (loaded, seen) = origin.load();
        let Checked { config, document, warnings } =
            loaded.map_err(|refused| Failure::Configuration(refused.render(color)))?;
        let clock = Clock::System;
        let metrics = Metrics::new();
        let oplog =
            OpLog::start(config.log.level, clock.clone(), metrics.operational_log()).map_err(Failure::machine)?;
        raise_open_files(config.server.limits.connections);
        let target = config.log.access.as_ref().map(|access| access.to.clone());
        let log = LogWriter::start(target, Arc::clone(metrics.log())).map_err(Failure::machine)?;
        let upstreams = Upstreams::new(clock.clone());
        let status = Status::new(Arc::clone(&metrics), Arc::clone(&upstreams), clock.clone());
        let writer = Writer::start(&status.registry).map_err(Failure::machine)?;
        status.registry.load(&config);
        let mut listeners = Listeners::new(Arc::clone(&status));
        let prepared = listeners.prepare(&config).map_err(|error| Failure::Machine(unbound(&error)))?;
        let rules = status.rules.clone();
        let options = Options { metrics, log: log.sender(), rules, upstreams, clock };
        let gateway = Gateway::start(&config, &options).map_err(|error| Failure::of_start(&error, &document, color))?;
        let beside = listeners.adopt(prepared).map_err(Failure::machine)?;
        if !warnings.is_empty() {
            tracing::warn!(problems = document.render(&warnings, false), "the configuration has warnings");
        }
        let operations = Self { origin, seen, gateway, config, listeners, status, writer, log, oplog };
        operations.tell_use(&document);
        tell_listening(operations.gateway.addresses().into_iter().map(|(name, address)| (name.to_string(), address)));
        tell_listening(beside.into_iter().map(|(role, address)| (role.name().to_owned(), address)));
        tracing::info!(version = env!("CARGO_PKG_VERSION"), routes = operations.config.routes.len(), "ready");
        Ok(operations)
    }

    /// Where everything listens: names and addresses.
    pub(crate) fn addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        let beside = self.listeners.addresses().map(|(role, address)| (Arc::from(role.name()), address));
        self.gateway.addresses().into_iter().chain(beside).collect()
    }

    /// Serves until a signal asks to end. `Some` is the number of a second signal, which ended the drain at once.
    pub(crate) async fn run(mut self, mut signals: Signals, watching: bool) -> Option<u8> {
        let mut watch = watching.then(|| Watch::new(POLL));
        if let Some(watch) = &mut watch {
            watch.follow(&self.seen);
        }
        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Hangup => self.hangup(),
                    Signal::End(number) => {
                        tracing::info!(signal = number, "draining");
                        return self.end(signals).await;
                    }
                },
                () = changed(watch.as_mut()) => {
                    if self.origin.is_unchanged(&self.seen) {
                        continue;
                    }
                    self.reload();
                }
            }
            if let Some(watch) = &mut watch {
                watch.follow(&self.seen);
            }
        }
    }

    fn hangup(&mut self) {
        if let Err(error) = self.log.reopen() {
            tracing::error!(%error, "the access log stays with the old file");
        }
        if self.origin.is_unchanged(&self.seen) && !self.status.is_refused() {
            tracing::info!("nothing to reload: no file has changed");
        } else {
            self.reload();
        }
    }

    fn reload(&mut self) {
        let (loaded, seen) = self.origin.load();
        self.seen = seen;
        let applied = loaded.map_err(|refused| refused.render(false)).and_then(|checked| self.apply(checked));
        match applied {
            Ok(revision) => tracing::info!(revision, routes = self.config.routes.len(), "reloaded"),
            Err(why) => {
                tracing::error!(problems = why, "reload refused: the old configuration stays in use");
                self.status.refuse(why);
            }
        }
    }

    /// Opens and builds all that is new, then swaps. The text is why nothing was changed.
    fn apply(&mut self, checked: Checked) -> Result<u64, String> {
        let Checked { config, document, warnings } = checked;
        let beside = self.listeners.prepare(&config).map_err(|error| unbound(&error))?;
        let target = config.log.access.as_ref().map(|access| &access.to);
        let log = self.log.prepare(target).map_err(|error| error.to_string())?;
        self.status.registry.load(&config);
        let before = self.gateway.addresses();
        let revision = self.gateway.reload(&config).map_err(|error| shown(&error, &document, false))?;
        self.log.adopt(log);
        self.oplog.set_level(config.log.level);
        if !warnings.is_empty() {
            tracing::warn!(problems = document.render(&warnings, false), "the configuration has warnings");
        }
        if config.server.workers != self.config.server.workers {
            tracing::warn!("a new number of workers takes effect at the next start");
        }
        self.config = config;
        match self.listeners.adopt(beside) {
            Ok(added) => tell_listening(added.into_iter().map(|(role, address)| (role.name().to_owned(), address))),
            Err(error) => tracing::error!(%error, "an admin or status listener could not be opened"),
        }
        let added = self.gateway.addresses().into_iter().filter(|address| !before.contains(address));
        tell_listening(added.map(|(name, address)| (name.to_string(), address)));
        self.tell_use(&document);
        Ok(revision)
    }

    /// Tells the metrics and the admin listener what is in use.
    fn tell_use(&self, document: &Document) {
        let config = &self.config;
        self.status.metrics.retain(Names {
            routes: config.routes.iter().map(|route| Arc::clone(&route.name)).collect(),
            services: config.services.keys().cloned().collect(),
            listeners: config.server.listeners.iter().map(|listener| Arc::clone(&listener.name)).collect(),
        });
        self.status.use_now(InUse {
            revision: self.gateway.snapshot().revision,
            shown: document.show().into(),
            listeners: self.addresses(),
            token: config.admin.as_ref().and_then(|admin| admin.token.clone()),
            key_files: tidegate_policies::key_stores(&self.config),
        });
    }

    /// Readiness fails first, then accepting ends, then the last exchange.
    async fn end(self, mut signals: Signals) -> Option<u8> {
        let timeouts = self.config.server.timeouts;
        self.status.drain();
        let mut second = at_most(timeouts.drain_delay, signals.end()).await;
        if second.is_none() {
            second = tokio::select! {
                clean = self.gateway.drain(timeouts.drain) => {
                    if !clean {
                        tracing::warn!(after = ?timeouts.drain, "connections that were still open have been cut off");
                    }
                    None
                }
                number = signals.end() => Some(number),
            };
        }
        if let Some(number) = second {
            tracing::warn!(signal = number, "ending at once");
            // Its threads end with the process: waiting for them would be a drain after all.
            std::mem::forget(self.gateway);
        } else {
            drop(self.gateway);
            self.writer.finish();
            self.log.finish(LAST_LINES);
            tracing::info!("stopped");
        }
        second
    }
}

impl Failure {
    fn machine(error: impl std::fmt::Display) -> Self {
        Self::Machine(error.to_string())
    }

    fn of_start(error: &StartError, document: &Document, color: bool) -> Self {
        let text = shown(error, document, color);
        match error {
            StartError::Problems(_) => Self::Configuration(text),
            StartError::Bind(_) | StartError::Worker(_) => Self::Machine(text),
        }
    }
}

impl Refused {
    fn render(&self, color: bool) -> String {
        self.document.render(&self.problems, color)
    }
}

fn shown(error: &StartError, document: &Document, color: bool) -> String {
    match error {
        StartError::Problems(problems) => document.render(problems, color),
        StartError::Bind(unbound) => {
            let each = unbound.iter().map(|Unbound { listener, address, error }| {
                format!("the listener `{listener}` cannot listen on {address}: {error}{}", advice(error, *address))
            });
            each.collect::<Vec<_>>().join("\n")
        }
        StartError::Worker(error) => format!("a worker could not be started: {error}"),
    }
}

fn advice(error: &io::Error, address: SocketAddr) -> &'static str {
    if error.kind() == io::ErrorKind::AddrInUse {
        "\n  = help: another process has it; `ss -ltnp` shows which"
    } else if error.kind() == io::ErrorKind::PermissionDenied && address.port() < 1024 {
        "\n  = help: ports below 1024 need CAP_NET_BIND_SERVICE, or choose a higher one"
    } else {
        ""
    }
}

fn unbound(error: &BindError) -> String {
    format!("{error}{}", advice(&error.error, error.address))
}

async fn changed(watch: Option<&mut Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

fn tell_listening(all: impl Iterator<Item = (String, SocketAddr)>) {
    for (listener, address) in all {
        tracing::info!(listener, address = address.to_string(), "listening");
    }
}
