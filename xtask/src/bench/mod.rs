//! `cargo xtask bench`: the gateway against nginx, HAProxy and Envoy at the same work, on the same machine, in the same
//! minutes. The proxy alone has CPU 0; load and backend share CPU 1. What is compared is CPU time per request, which says
//! more than requests per second when both cores are busy; each round measures everyone, so that ratios are taken between
//! neighbours in time.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use clap::Args;

use self::{
    callers::Callers,
    load::Tools,
    machine::Cores,
    part::Found,
    report::Report,
    samples::{Calibration, Sample},
    subject::{Mode, Running, Subject},
    work::{Measure, Part, Work},
};

pub(crate) mod callers;
pub(crate) mod install;
pub(crate) mod load;
pub(crate) mod machine;
pub(crate) mod pair;
mod part;
pub(crate) mod process;
mod report;
pub(crate) mod samples;
pub(crate) mod subject;
pub(crate) mod work;

/// What to measure, and how long.
#[derive(Args)]
pub(crate) struct Options {
    /// How often everything is measured; medians and spreads are taken over the rounds
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of load for each measurement
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Only these works
    #[arg(long, value_delimiter = ',', value_parser = work::keys())]
    only: Vec<String>,
    /// Only these subjects
    #[arg(long, value_delimiter = ',', default_value = "tidegate,nginx,haproxy,envoy", value_parser = subject::names(subject::PROXIES))]
    subjects: Vec<String>,
    /// Put the result into docs/performance.md and README.md
    #[arg(long)]
    write: bool,
    /// What is built is built so; `quick` spares time while developing, `published` builds the gateway as `cargo xtask release` does
    #[arg(long, value_name = "PROFILE", default_value = "published")]
    profile: String,
    /// Measure this gateway instead of building one
    #[arg(long, value_name = "PROGRAM")]
    gateway: Option<PathBuf>,
}

impl Options {
    /// One round of these works.
    fn once(only: Vec<String>, subjects: Vec<String>, seconds: u32) -> Self {
        Self { rounds: 1, seconds, only, subjects, write: false, profile: "release".to_owned(), gateway: None }
    }
}

pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    ensure!(machine::cpus()? >= 2, "a bench needs two CPUs: one for the proxy, one for load and backend");
    let bench = Bench::prepare(root, options)?;
    let mut report = Report::new(machine::facts()?, bench.subjects.iter().map(Subject::description).collect());
    for round in 0..options.rounds {
        bench.round(round, &mut report)?;
    }
    let text = report.render();
    println!("\n{text}");
    let failures = report.failures();
    ensure!(failures.is_empty(), "requests failed, so the numbers do not count:\n{}", failures.join("\n"));
    if options.write {
        report::write_into(&root.join("docs/performance.md"), &text)?;
        report::write_into(&root.join("README.md"), &report.summary())?;
    }
    Ok(())
}

/// Gives a gateway that counts which way its code goes every kind of work to do.
pub(crate) fn train(root: &Path, gateway: &Path, seconds: u32) -> Result<()> {
    ensure!(machine::cpus()? >= 2, "training needs two CPUs: one for the gateway, one for load and backend");
    let works = work::ALL.iter().filter(|work| matches!(work.measure, Measure::Cpu(_) | Measure::Latency));
    let works = works.map(|work| work.key.to_owned()).collect();
    let once = Options::once(works, vec![report::GATEWAY.to_owned()], seconds);
    let options = Options { gateway: Some(gateway.to_path_buf()), ..once };
    let mut report = Report::new(machine::facts()?, Vec::new());
    Bench::prepare(root, &options)?.round(0, &mut report)?;
    let failures = report.failures();
    ensure!(failures.is_empty(), "requests failed, so the counts would be of failures:\n{}", failures.join("\n"));
    Ok(())
}

struct Bench {
    subjects: Vec<Subject>,
    works: Vec<&'static Work>,
    tools: Tools,
    /// Where the programs are that measure parts.
    examples: PathBuf,
}

impl Bench {
    fn prepare(root: &Path, options: &Options) -> Result<Self> {
        let folder = root.join("target/bench");
        fs::create_dir_all(&folder).context("making the folder of the run")?;
        let wanted = |work: &&Work| options.only.is_empty() || options.only.iter().any(|key| key == work.key);
        let works: Vec<&Work> = work::ALL.iter().filter(wanted).collect();
        let found = install::prepare(root, &folder, &works, options)?;
        let post = root.join("bench/post.lua");
        let tools = Tools { programs: found.own, post, callers: Callers::new()?, seconds: options.seconds };
        Ok(Self { subjects: found.subjects, works, tools, examples: found.examples })
    }

    /// Everyone once, beginning with another subject each time.
    fn round(&self, round: usize, report: &mut Report) -> Result<()> {
        let count = self.subjects.len();
        for subject in self.subjects.iter().cycle().skip(round % count).take(count) {
            for mode in Mode::ALL {
                self.slot(subject, mode, round, report)?;
            }
            let alone = |work: &&&Work| !work.measure.shares_a_process() && work.measure.part().is_none();
            for work in self.works.iter().filter(alone) {
                self.alone(subject, work, round, report)?;
            }
        }
        self.parts(round, report)
    }

    /// Programs of our own, each of which may be good for several works.
    fn parts(&self, round: usize, report: &mut Report) -> Result<()> {
        let subject = report::GATEWAY;
        let mut found: Vec<(&Part, Found)> = Vec::new();
        if !self.subjects.iter().any(|known| known.name() == subject) {
            return Ok(());
        }
        for work in &self.works {
            let Some((part, number)) = work.measure.part() else { continue };
            if !found.iter().any(|(known, _)| *known == part) {
                found.push((part, part.run(&self.examples, self.tools.seconds)?));
            }
            let Some((_, found)) = found.iter().find(|(known, _)| *known == part) else { continue };
            let calibration = found.calibration().map(|value| Calibration { of: part.name(), value });
            let (value, foreign) = (found.value(number.name)?, found.foreign);
            report.add(Sample { value, calibration, foreign, ..Sample::of(work.key, subject, round) });
        }
        Ok(())
    }

    /// Several works on one process, after a calibration that shows how fast the machine is just now.
    fn slot(&self, subject: &Subject, mode: Mode, round: usize, report: &mut Report) -> Result<()> {
        let can = |work: &Work| work.subjects.contains(&subject.name());
        let fits = |work: &&&Work| work.mode == mode && work.measure.shares_a_process() && can(work);
        let works: Vec<&'static Work> = self.works.iter().filter(fits).copied().collect();
        if works.is_empty() {
            return Ok(());
        }
        let backend = self.tools.start_backend()?;
        let calibration = Some(Calibration { of: "backend", value: self.tools.calibrate()? });
        let proxy = subject.start(mode, &self.tools.callers.fields(mode))?;
        self.tools.warm_up(mode)?;
        for work in works {
            let cores = Cores::now(process::PROXY)?;
            let cpu = proxy.cpu_seconds();
            let Some(loaded) = self.tools.load(work, subject)? else { continue };
            let used = proxy.cpu_seconds() - cpu;
            let foreign = cores.foreign(used)?;
            let value = match work.measure {
                Measure::Latency => loaded.p99.context("the open loop reports a p99")?,
                Measure::Cpu(_) | Measure::Resident | Measure::Start | Measure::Part(..) => {
                    used * 1e6 / loaded.requests
                }
            };
            let failure = loaded.failure;
            report.add(Sample { value, calibration, foreign, failure, ..Sample::of(work.key, subject.name(), round) });
        }
        proxy.stop()?;
        backend.stop()
    }

    /// A work that needs a fresh process.
    fn alone(&self, subject: &Subject, work: &'static Work, round: usize, report: &mut Report) -> Result<()> {
        let backend = self.tools.start_backend()?;
        let mut sample = Sample::of(work.key, subject.name(), round);
        let proxy = match work.measure {
            Measure::Start => {
                let (proxy, waited) = subject.start_and_time()?;
                sample.value = waited.as_secs_f64() * 1e3;
                proxy
            }
            Measure::Resident | Measure::Cpu(_) | Measure::Latency | Measure::Part(..) => {
                let proxy = subject.start(Mode::Plain, &[])?;
                let (resident, failure) = self.resident_with_idle_connections(&proxy)?;
                sample.value = resident;
                sample.failure = failure;
                proxy
            }
        };
        report.add(sample);
        proxy.stop()?;
        backend.stop()
    }

    fn resident_with_idle_connections(&self, proxy: &Running) -> Result<(f64, Option<String>)> {
        let idle = self.tools.hold(&["idle", subject::HTTP1, "5000"])?;
        let resident = proxy.resident_mib();
        let closed = idle.release()?;
        Ok((resident, (closed != "closed 0").then(|| format!("idle connections were {closed}"))))
    }
}
