//! One part of a soak with one subject: endpoints, gateway and load are started, trouble is made, everything is ended.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Instant};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{Part, endpoints::Endpoints};
use crate::bench::{
    machine,
    process::{self, Background},
    subject::{HTTP1, Mode, Subject},
};

/// Seconds at the start of each run that do not count.
const SKIP: u32 = 2;

pub(super) struct Run {
    /// The folder of our own programs.
    pub(super) programs: PathBuf,
    /// Where logs and results go.
    pub(super) folder: PathBuf,
    pub(super) rate: u32,
}

/// What the load saw, and the endpoints.
pub(super) struct Outcome {
    pub(super) load: Load,
    /// Requests that reached endpoints; those of killed ones are not known.
    pub(super) seen: u64,
}

/// What `load soak` prints; times in microseconds, of the answered requests that count.
#[derive(Deserialize)]
pub(super) struct Load {
    pub(super) sent: u64,
    /// Due after the first seconds.
    pub(super) counted: u64,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    /// Among those that count.
    pub(super) errors: BTreeMap<String, u64>,
}

impl Run {
    pub(super) fn part(&self, subject: &Subject, part: &Part, seconds: u32) -> Result<Outcome> {
        let mut endpoints = Endpoints::start(&self.programs, &self.folder)?;
        let gateway = subject.start(Mode::Plain, &[])?;
        endpoints.turn(&part.modes)?;
        let before = endpoints.count()?;
        let result = self.folder.join(format!("{}-{}.json", subject.name(), part.name));
        let began = Instant::now();
        let (rate, length, skip) = (self.rate.to_string(), seconds.to_string(), SKIP.to_string());
        let mut command = process::pinned(process::LOAD, self.programs.join("load"));
        let load = Background::start(command.args(["soak", HTTP1, &rate, &length, &skip]), &result)?;
        for event in part.trouble.events(seconds) {
            pause_until(began + event.at);
            endpoints.suffer(event)?;
        }
        load.finish()?;
        let seen = endpoints.count()?.saturating_sub(before);
        gateway.stop()?;
        let text = fs::read_to_string(&result)?;
        let load = serde_json::from_str(&text).with_context(|| format!("load printed: {text}"))?;
        Ok(Outcome { load, seen })
    }
}

fn pause_until(moment: Instant) {
    let left = moment.saturating_duration_since(Instant::now());
    machine::pause(left.as_millis().try_into().unwrap_or(u64::MAX));
}

impl Outcome {
    pub(super) fn failed(&self) -> u64 {
        self.load.errors.values().sum()
    }

    /// In percent.
    #[expect(clippy::cast_precision_loss, reason = "far fewer requests than 2^52")]
    pub(super) fn success(&self) -> f64 {
        (self.load.counted - self.failed()) as f64 / self.load.counted.max(1) as f64 * 100.0
    }

    /// Requests that reached endpoints for each that was sent.
    #[expect(clippy::cast_precision_loss, reason = "far fewer requests than 2^52")]
    pub(super) fn amplification(&self) -> f64 {
        self.seen as f64 / self.load.sent.max(1) as f64
    }

    /// By kind.
    pub(super) fn errors(&self) -> String {
        if self.load.errors.is_empty() {
            return "none".to_owned();
        }
        let kinds = self.load.errors.iter().map(|(kind, count)| format!("{count} x {kind}"));
        kinds.collect::<Vec<_>>().join(", ")
    }

    /// For whoever waits for the table.
    pub(super) fn line(&self) -> String {
        let milliseconds = self.load.p99 / 1e3;
        let (success, errors) = (self.success(), self.errors());
        format!("{success:.3} % succeeded, p99 {milliseconds:.1} ms, errors: {errors}")
    }
}
