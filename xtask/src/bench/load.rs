//! Starts the load generators and reads what they print.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::Stdio,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::{
    callers::Callers,
    machine,
    process::{self, Background},
    subject::{self, Mode, Subject},
    work::{Load, Measure, Work},
};
use crate::cargo::printed;

pub(crate) struct Tools {
    /// The folder of our own backend and load generator.
    pub(crate) programs: PathBuf,
    pub(crate) post: PathBuf,
    pub(crate) callers: Callers,
    /// How long each measurement lasts.
    pub(crate) seconds: u32,
}

/// What a load generator saw.
pub(crate) struct Loaded {
    pub(crate) requests: f64,
    /// Only of the open loop, in microseconds.
    pub(crate) p99: Option<f64>,
    pub(crate) failure: Option<String>,
}

impl Tools {
    pub(crate) fn start_backend(&self) -> Result<Background> {
        let mut command = process::pinned(process::LOAD, self.programs.join("backend"));
        let mut backend = Background::start_as_is(command.arg(subject::BACKEND))?;
        machine::pause(100);
        backend.expect_alive()?;
        Ok(backend)
    }

    /// `None` if the work is none for a load generator.
    pub(crate) fn load(&self, work: &Work, subject: &Subject) -> Result<Option<Loaded>> {
        let plain = format!("http://{}/", subject.http1());
        let fields = self.callers.fields(work.mode);
        let requests = |url: &str, more: &[&str]| wrk(url, self.seconds, &fields, more);
        let loaded = match work.measure {
            Measure::Cpu(Load::Get) => requests(&plain, &[]),
            Measure::Cpu(Load::Large) => requests(&format!("{plain}100k"), &[]),
            Measure::Cpu(Load::Tls) => requests(&format!("https://{}/", subject.tls()), &[]),
            Measure::Cpu(Load::Post) => {
                let script = self.post.to_str().context("paths are UTF-8")?;
                requests(&plain, &["-s", script])
            }
            Measure::Cpu(Load::Http2) => self.h2load(&subject.http2(), &fields),
            Measure::Latency => self.rate(5000),
            Measure::Resident | Measure::Start | Measure::Part(..) => return Ok(None),
        };
        loaded.map(Some)
    }

    fn h2load(&self, address: &str, fields: &[String]) -> Result<Loaded> {
        let requests = (self.seconds * 20_000).to_string();
        let mut command = process::pinned(process::LOAD, "h2load");
        command.args(["-t1", "-c16", "-m8", "-n", &requests]).args(each(fields)).arg(format!("http://{address}/"));
        let text = printed(&mut command)?;
        read_h2load(&text).with_context(|| format!("h2load printed: {text}"))
    }

    /// So many requests a second, over 64 connections.
    pub(crate) fn rate(&self, per_second: u32) -> Result<Loaded> {
        let (rate, seconds) = (per_second.to_string(), self.seconds.to_string());
        let mut command = process::pinned(process::LOAD, self.programs.join("load"));
        let text = printed(command.args(["rate", subject::HTTP1, "64", &rate, &seconds]))?;
        let open: OpenLoop = serde_json::from_str(&text).with_context(|| format!("load printed: {text}"))?;
        let failure = (open.failed > 0.0).then(|| format!("{} requests failed", open.failed));
        Ok(Loaded { requests: open.requests, p99: Some(open.p99), failure })
    }

    /// Requests per second straight to the backend: how fast the machine is now.
    pub(crate) fn calibrate(&self) -> Result<f64> {
        let fields = self.callers.fields(Mode::Plain);
        wrk(&format!("http://{}/", subject::BACKEND), 1, &fields, &[]).map(|loaded| loaded.requests)
    }

    pub(crate) fn warm_up(&self, mode: Mode) -> Result<()> {
        wrk(&format!("http://{}/", subject::HTTP1), 1, &self.callers.fields(mode), &[]).map(drop)
    }

    /// Starts a load that holds connections, and returns when they are there.
    pub(crate) fn hold(&self, arguments: &[&str]) -> Result<Held> {
        let mut command = process::pinned(process::LOAD, self.programs.join("load"));
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut background = Background::start_as_is(&mut command)?;
        let mut output = BufReader::new(background.child().stdout.take().context("its output is a pipe")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        if !line.starts_with("holding ") {
            bail!("the connections could not be made: {line}");
        }
        machine::pause(1000);
        Ok(Held { background, output })
    }
}

/// Connections that are held open.
pub(crate) struct Held {
    background: Background,
    output: BufReader<std::process::ChildStdout>,
}

impl Held {
    /// Lets go of them; returns what became of them meanwhile.
    pub(crate) fn release(mut self) -> Result<String> {
        drop(self.background.child().stdin.take());
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }
}

/// The fields as both generators take them.
fn each(fields: &[String]) -> impl Iterator<Item = &str> {
    fields.iter().flat_map(|field| ["-H", field])
}

fn wrk(url: &str, seconds: u32, fields: &[String], more: &[&str]) -> Result<Loaded> {
    let duration = format!("-d{seconds}s");
    let mut command = process::pinned(process::LOAD, "wrk");
    let text = printed(command.args(["-t1", "-c64", &duration]).args(each(fields)).args(more).arg(url))?;
    read_wrk(&text).with_context(|| format!("wrk printed: {text}"))
}

#[derive(Deserialize)]
struct OpenLoop {
    requests: f64,
    failed: f64,
    p99: f64,
}

fn read_wrk(text: &str) -> Option<Loaded> {
    let summary = text.lines().find(|line| line.contains(" requests in "))?;
    let requests: f64 = summary.split_whitespace().next()?.parse().ok()?;
    let complaint = |line: &&str| line.contains("Socket errors") || line.contains("Non-2xx");
    let failure = text.lines().find(complaint).map(|line| line.trim().to_owned());
    Some(Loaded { requests, p99: None, failure: failure.or_else(|| (requests == 0.0).then(|| "no answer".to_owned())) })
}

/// `requests: 100 total, 100 started, 100 done, 100 succeeded, 0 failed, 0 errored, 0 timeout`
fn read_h2load(text: &str) -> Option<Loaded> {
    let line = text.lines().find_map(|line| line.strip_prefix("requests: "))?;
    let count = |what: &str| -> Option<f64> {
        let entry = line.split(", ").find_map(|entry| entry.strip_suffix(what))?;
        entry.trim().parse().ok()
    };
    let (total, succeeded) = (count("total")?, count("succeeded")?);
    let statuses = text.lines().find_map(|line| line.strip_prefix("status codes: "))?;
    let good = statuses.split(" 2xx").next()?.parse::<f64>().ok()?;
    let failure = (good < total).then(|| format!("{} of {total} answered with 2xx", good.min(succeeded)));
    Some(Loaded { requests: succeeded, p99: None, failure })
}

#[cfg(test)]
mod tests {
    use super::{read_h2load, read_wrk};

    #[test]
    fn errors_that_wrk_reports_spoil_the_measurement() {
        let clean = "  122301 requests in 2.00s, 137.16MB read\nRequests/sec:  61002.17\n";
        assert!(read_wrk(clean).is_some_and(|loaded| loaded.requests > 122_300.0 && loaded.failure.is_none()));
        let refused = format!("{clean}  Non-2xx or 3xx responses: 12\n");
        assert!(read_wrk(&refused).is_some_and(|loaded| loaded.failure.is_some()));
    }

    #[test]
    fn requests_that_h2load_lost_spoil_the_measurement() {
        let text = "requests: 100 total, 100 started, 100 done, 98 succeeded, 2 failed, 2 errored, 0 timeout\n\
            status codes: 98 2xx, 0 3xx, 0 4xx, 2 5xx\n";
        assert!(read_h2load(text).is_some_and(|loaded| loaded.requests < 99.0 && loaded.failure.is_some()));
    }
}
