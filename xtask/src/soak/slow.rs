//! `cargo xtask soak slow`: what others notice of clients that keep the gateway waiting, and what it keeps for them. A steady
//! rate of ordinary requests is measured with and without them, in rounds; which rounds count is the bench's rule.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::{
    bench::{
        callers::Callers,
        install,
        load::{Held, Loaded, Tools},
        machine::{self, Cores},
        process,
        samples::{Calibration, Sample, Samples, Spread},
        subject::{HTTP1, Kind, Mode, Running, Subject, TLS},
        work::{Measure, Work},
    },
    cargo,
};

/// How much greater slow clients may make the 99th percentile of others.
const SLOWER: f64 = 1.5;
/// How much more memory they may cost, in MiB.
const MEMORY: f64 = 32.0;
/// The admin listener of the gateway's configuration.
const ADMIN: &str = "127.0.0.1:18900";
/// Seconds of the ordinary load before anything is measured.
const WARM_UP: u32 = 2;

const GATEWAY: Kind = Kind {
    name: "tidegate",
    program: "tidegate",
    config: "bench/soak/slow.yaml",
    http2: HTTP1,
    arguments: &["run", "CONFIG"],
    version: "--version",
    cpus: process::PROXY,
    mark: "",
};

const WORK: Work = Work {
    key: "slow",
    title: "slow clients",
    mode: Mode::Plain,
    measure: Measure::Latency,
    subjects: &["tidegate"],
    demands: &[],
};

/// How many slow clients, beside what.
#[derive(Args)]
pub(crate) struct Options {
    /// How often both are measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement; from eleven on, slow clients are let go and come back meanwhile
    #[arg(long, default_value_t = 15)]
    seconds: u32,
    /// Slow clients at once, of six kinds
    #[arg(long, default_value_t = 400)]
    peers: usize,
    /// Requests per second of the others
    #[arg(long, default_value_t = 2000)]
    rate: u32,
    /// Soak this gateway instead of building one
    #[arg(long, value_name = "PROGRAM")]
    gateway: Option<PathBuf>,
}

pub(super) fn run(root: &Path, folder: &Path, options: &Options) -> Result<()> {
    install::debian_packages(&[("wrk", "wrk"), ("openssl", "openssl")])?;
    install::certificate(folder)?;
    let programs = cargo::build(root, "quick", &["--package", "bench", "--bins"])?;
    let program = install::program(root, GATEWAY.program, options.gateway.as_deref())?;
    let soak = Soak {
        subject: Subject::new(&GATEWAY, program, root, folder),
        tools: Tools { programs, post: PathBuf::new(), callers: Callers::new()?, seconds: options.seconds },
        options,
    };
    let mut report = Report::default();
    for round in 0..options.rounds {
        // Each is first in every other round.
        let with = [round % 2 == 1, round.is_multiple_of(2)];
        for with in with {
            report.add(soak.measure(round, with)?);
        }
    }
    let Options { peers, rate, seconds, .. } = options;
    println!("\n{}; {}", machine::facts()?, soak.subject.description());
    println!("{peers} slow clients beside {rate} requests per second over 64 connections, {seconds} s each\n");
    println!("{}", report.render());
    let failures = report.failures();
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

struct Soak<'a> {
    subject: Subject,
    tools: Tools,
    options: &'a Options,
}

/// One measurement.
struct Measured {
    sample: Sample,
    /// What the memory has grown by beyond that of the ordinary load, in MiB.
    grown: f64,
    /// What became of the slow clients.
    told: Option<String>,
}

impl Soak<'_> {
    fn measure(&self, round: usize, with: bool) -> Result<Measured> {
        let backend = self.tools.start_backend()?;
        let calibration = Some(Calibration { of: "backend", value: self.tools.calibrate()? });
        let gateway = self.subject.start(Mode::Plain, &[])?;
        let Tools { programs, callers, .. } = &self.tools;
        let (programs, callers) = (programs.clone(), callers.clone());
        let warm_up = Tools { programs, post: PathBuf::new(), callers, seconds: WARM_UP };
        warm_up.rate(self.options.rate)?;
        let before = gateway.resident_mib();
        let peers = self.options.peers.to_string();
        let slow = with.then(|| self.tools.hold(&["slow", HTTP1, TLS, &peers])).transpose()?;
        let (loaded, foreign) = self.others(&gateway)?;
        let grown = gateway.peak_mib() - before;
        let mut failure = loaded.failure;
        if with {
            let open = connections()?;
            let missing = open < self.options.peers;
            failure = failure.or_else(|| missing.then(|| format!("only {open} connections are open")));
        }
        let told = slow.map(Held::release).transpose()?;
        gateway.stop()?;
        backend.stop()?;
        let value = loaded.p99.context("the open loop reports a p99")?;
        let subject = if with { "with" } else { "without" };
        let sample = Sample { work: WORK.key, subject, round, value, calibration, foreign, failure };
        Ok(Measured { sample, grown, told })
    }

    /// The ordinary load, and the share of the gateway's CPU that neither of them used.
    fn others(&self, gateway: &Running) -> Result<(Loaded, f64)> {
        let (cores, cpu) = (Cores::now(process::PROXY)?, gateway.cpu_seconds());
        let loaded = self.tools.rate(self.options.rate)?;
        let used = gateway.cpu_seconds() - cpu;
        Ok((loaded, cores.foreign(used)?))
    }
}

/// Client connections that the gateway has open.
fn connections() -> Result<usize> {
    let mut socket = TcpStream::connect(ADMIN)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    socket.read_to_string(&mut text)?;
    let open = text.lines().filter(|line| line.starts_with("tidegate_connections_active{"));
    Ok(open.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum())
}

#[derive(Default)]
struct Report {
    samples: Samples,
    /// With slow clients, without.
    grown: [Vec<f64>; 2],
    failures: Vec<String>,
}

impl Report {
    /// Keeps a measurement, and shows it: a run takes minutes.
    fn add(&mut self, measured: Measured) {
        let Measured { sample, grown, told } = measured;
        let Sample { round, subject, value, foreign, failure, .. } = &sample;
        let (milliseconds, others) = (value / 1e3, foreign * 100.0);
        let told = told.as_deref().unwrap_or_default();
        println!(
            "round {round}  {subject:8} p99 {milliseconds:7.2} ms  memory +{grown:5.1} MiB  others on the gateway's CPU \
             {others:4.1} %  {told}"
        );
        self.failures.extend(failure.iter().map(|failure| format!("round {round}, {subject}: {failure}")));
        let [with, without] = &mut self.grown;
        (if *subject == "with" { with } else { without }).push(grown);
        self.samples.add(sample);
    }

    fn render(&self) -> String {
        let cell = |spread: Option<Spread>| spread.map_or_else(|| "-".to_owned(), |spread| spread.show(2));
        let p99 = |subject| {
            let milliseconds = self.samples.series(&WORK, subject).iter().map(|p99| p99 / 1e3).collect::<Vec<_>>();
            cell(Spread::of(&milliseconds))
        };
        let [with, without] = &self.grown;
        let rounds = self.samples.rounds(&WORK);
        let difference = self.memory().map_or_else(|| "-".to_owned(), |difference| format!("{difference:.1}"));
        let verdict = if self.memory().is_some_and(|difference| difference <= MEMORY) { "met" } else { "missed" };
        format!(
            "| | without | with | ratio or difference | must | verdict |\n|---|---|---|---|---|---|\n\
             | p99 of others, ms ({rounds} rounds) | {} | {} | {} | <= {SLOWER} | {} |\n\
             | memory above the ordinary load's, MiB | {} | {} | {difference} | <= {MEMORY} | {verdict} |\n",
            p99("without"),
            p99("with"),
            cell(self.ratio()),
            self.latency_verdict(),
            cell(Spread::of(without)),
            cell(Spread::of(with)),
        )
    }

    /// Each round for itself.
    fn ratio(&self) -> Option<Spread> {
        let (with, without) = (self.samples.series(&WORK, "with"), self.samples.series(&WORK, "without"));
        Spread::of(&with.iter().zip(&without).map(|(with, without)| with / without).collect::<Vec<_>>())
    }

    fn latency_verdict(&self) -> String {
        if let Some(noise) = self.samples.noise(&WORK) {
            return format!("too noisy to tell: {noise}");
        }
        match self.ratio() {
            Some(ratio) if ratio.median <= SLOWER => "met".to_owned(),
            Some(_) => "missed".to_owned(),
            None => "not measured".to_owned(),
        }
    }

    /// What slow clients cost at the worst; noise does not make memory.
    fn memory(&self) -> Option<f64> {
        self.grown.first()?.iter().copied().reduce(f64::max)
    }

    fn failures(&self) -> Vec<String> {
        let mut failures = self.failures.clone();
        if self.latency_verdict() == "missed" {
            failures.push(format!("the p99 of others is more than {SLOWER} times as large beside slow clients"));
        }
        if self.memory().is_none_or(|difference| difference > MEMORY) {
            failures.push(format!("slow clients cost more than {MEMORY} MiB"));
        }
        failures
    }
}

#[cfg(test)]
mod tests {
    use super::{Calibration, Measured, Report, Sample, WORK};

    fn report(rounds: &[(f64, f64, f64)], foreign: f64) -> Report {
        let mut report = Report::default();
        for (round, (without, with, grown)) in rounds.iter().enumerate() {
            for (subject, value, grown) in [("without", *without, 0.5), ("with", *with, *grown)] {
                let calibration = Some(Calibration { of: "backend", value: 100.0 });
                let sample = Sample { work: WORK.key, subject, round, value, calibration, foreign, failure: None };
                report.add(Measured { sample, grown, told: None });
            }
        }
        report
    }

    #[test]
    fn what_stays_within_bounds_is_met() {
        let report = report(&[(1000.0, 1400.0, 10.0), (1000.0, 1600.0, 32.0), (1000.0, 1500.0, 8.0)], 0.0);
        assert_eq!(report.failures(), Vec::<String>::new());
        assert!(report.render().contains("1.50 [1.40-1.60] | <= 1.5 | met |"), "{}", report.render());
    }

    #[test]
    fn what_is_missed_is_told() {
        let report = report(&[(1000.0, 1510.0, 32.5)], 0.0);
        assert_eq!(report.failures().len(), 2);
        assert!(report.render().contains("| missed |"), "{}", report.render());
    }

    #[test]
    fn a_crowded_machine_tells_nothing_about_latency_but_all_about_memory() {
        let report = report(&[(1000.0, 9000.0, 40.0)], 0.3);
        assert_eq!(report.failures(), ["slow clients cost more than 32 MiB"]);
        assert!(report.render().contains("too noisy to tell"), "{}", report.render());
    }
}
