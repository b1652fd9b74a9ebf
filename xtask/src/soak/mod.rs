//! `cargo xtask soak chaos`: eight endpoints in trouble behind the gateway, and behind Envoy and HAProxy with what they offer
//! for it. `cargo xtask soak slow`: clients that keep the gateway waiting, and what others notice. Real processes, a steady rate,
//! latencies from when each request was due; one table at the end.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};

use self::{part::Part, report::Report, run::Run};
use crate::{
    bench::{
        install, machine,
        subject::{self, Subject},
    },
    cargo,
};

mod endpoints;
mod part;
mod report;
mod run;
mod slow;
mod subjects;

/// Which soak.
#[derive(Subcommand)]
pub(crate) enum Kind {
    /// Sick, killed and restarted endpoints, a full outage, rolling restarts
    Chaos(Options),
    /// Hundreds of slow clients of every kind, beside others who must not notice
    Slow(slow::Options),
}

/// What to run of the chaos, and how long.
#[derive(Args)]
pub(crate) struct Options {
    /// Seconds of the healthy and of the chaotic run; the others last 20
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Requests per second
    #[arg(long, default_value_t = 2000)]
    rate: u32,
    /// Only these subjects
    #[arg(long, value_delimiter = ',', default_value = "tidegate,envoy,envoy-equal,haproxy", value_parser = subject::names(subjects::ALL))]
    subjects: Vec<String>,
    /// Only these parts; `chaos` takes its measure from `healthy`
    #[arg(long, value_delimiter = ',', value_parser = part::names())]
    only: Vec<String>,
    /// Soak this gateway instead of building one
    #[arg(long, value_name = "PROGRAM")]
    gateway: Option<PathBuf>,
}

pub(crate) fn run(root: &Path, kind: &Kind) -> Result<()> {
    ensure!(machine::cpus()? >= 2, "a soak needs two CPUs");
    let folder = root.join("target/soak");
    fs::create_dir_all(&folder).context("making the folder of the run")?;
    match kind {
        Kind::Chaos(options) => chaos(root, folder, options),
        Kind::Slow(options) => slow::run(root, &folder, options),
    }
}

fn chaos(root: &Path, folder: PathBuf, options: &Options) -> Result<()> {
    let subjects = prepare(root, &folder, options)?;
    let own = cargo::build(root, "quick", &["--package", "bench", "--bins"])?;
    let run = Run { programs: own, folder, rate: options.rate };
    let mut report = Report::new(machine::facts()?, options.rate, options.seconds);
    for subject in &subjects {
        println!("soaking {}", subject.description());
        for part in
            part::ALL.iter().filter(|part| options.only.is_empty() || options.only.iter().any(|n| n == part.name))
        {
            let outcome = run.part(subject, part, part.seconds.unwrap_or(options.seconds))?;
            println!("  {}: {}", part.name, outcome.line());
            report.add(subject.name(), part, outcome);
        }
    }
    println!("\n{}", report.render());
    let failures = report.failures();
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

fn prepare(root: &Path, folder: &Path, options: &Options) -> Result<Vec<Subject>> {
    if options.subjects.iter().any(|name| name == "haproxy") {
        install::debian_packages(&[("haproxy", "haproxy")])?;
    }
    let subject = |name: &String| {
        let kind = subject::named(subjects::ALL, name)?;
        let program = install::program(root, kind.program, options.gateway.as_deref())?;
        Ok(Subject::new(kind, program, root, folder))
    };
    options.subjects.iter().map(subject).collect()
}
