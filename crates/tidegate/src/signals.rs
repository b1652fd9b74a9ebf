//! The signals that the process obeys.

use std::io;

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// What the outside asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGHUP: reload, reopen logs.
    Hangup,
    /// SIGINT or SIGTERM, with its number: end.
    End(u8),
}

/// Waits for signals.
pub(crate) struct Signals {
    hangup: Stream,
    interrupt: Stream,
    terminate: Stream,
}

impl Signals {
    /// From now on these signals come here, instead of ending the process.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::End(2),
            _ = self.terminate.recv() => Signal::End(15),
            _ = self.hangup.recv() => Signal::Hangup,
        }
    }

    /// The number of the next signal that asks to end.
    pub(crate) async fn end(&mut self) -> u8 {
        loop {
            if let Signal::End(number) = self.next().await {
                return number;
            }
        }
    }
}
