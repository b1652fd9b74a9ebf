//! `cargo xtask pair ONE OTHER`: which of two builds of the gateway needs less CPU for a request, or how much it needs of what a peer does,
//! also where the machine is noisy. Both work at the same time on the same CPU, in turns of milliseconds, so that whatever slows the
//! machine slows both.

use std::{
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::{
    Bench, install, machine, report,
    samples::Spread,
    subject::{self, Place, Running, Subject},
    work::{self, Measure},
};

/// What to compare, and how long.
#[derive(Args)]
pub(crate) struct Options {
    /// A gateway's program, or `nginx`, `haproxy` or `envoy`
    one: String,
    /// What it is compared with
    other: String,
    /// The work; one of those of the bench that are told in CPU time
    #[arg(long, default_value = "get", value_parser = work::keys())]
    work: String,
    /// How often both are measured in the one order, and again in the other
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(2..))]
    rounds: u16,
    /// Seconds of load for each round
    #[arg(long, default_value_t = 1)]
    seconds: u32,
}

pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    ensure!(machine::cpus()? >= 2, "a comparison needs two CPUs: one for the two, one for load and backend");
    let Options { one, other, .. } = options;
    let peers = [one, other].into_iter().filter(|name| is_peer(name)).cloned().collect();
    let bench = Bench::prepare(root, &super::Options::once(vec![options.work.clone()], peers, options.seconds))?;
    // Who comes first matters by about a percent, so that each is it in half of the rounds.
    let forth = bench.pair([subject(root, one)?, subject(root, other)?], options)?;
    let back = bench.pair([subject(root, other)?, subject(root, one)?], options)?;
    let back = back.into_iter().map(|[other, one]| [one, other]).collect::<Vec<_>>();
    let (ratio, error) = ratio(&forth, &back);
    for (name, which) in [(one, 0), (other, 1)] {
        let needed: Vec<f64> = forth.iter().chain(&back).filter_map(|round| round.get(which)).copied().collect();
        let needed = Spread::of(&needed).context("there are rounds")?;
        println!("{} us of CPU per request  {name}", needed.show(1));
    }
    println!("the first one needs {ratio:.3} of the other, give or take {error:.3} (one standard error)");
    Ok(())
}

fn is_peer(name: &str) -> bool {
    name != report::GATEWAY && subject::PROXIES.iter().any(|kind| kind.name == name)
}

fn subject(root: &Path, name: &str) -> Result<Subject> {
    let (kind, program) = if is_peer(name) {
        (name, install::program(root, name, None)?)
    } else {
        let program = PathBuf::from(name).canonicalize().with_context(|| format!("looking for {name}"))?;
        (report::GATEWAY, program)
    };
    Ok(Subject::new(subject::named(subject::PROXIES, kind)?, program, root, &root.join("target/bench")))
}

impl Bench {
    /// What each needed for a request in each round, in microseconds of CPU.
    fn pair(&self, [first, second]: [Subject; 2], options: &Options) -> Result<Vec<[f64; 2]>> {
        let work = *self.works.first().context("there is a work")?;
        ensure!(matches!(work.measure, Measure::Cpu(_)), "`{}` is not told in CPU time", work.key);
        let subjects = [first.at(Place::First), second.at(Place::Second)];
        for subject in &subjects {
            ensure!(work.subjects.contains(&subject.name()), "{} cannot do `{}`", subject.name(), work.key);
        }
        let fields = self.tools.callers.fields(work.mode);
        let backend = self.tools.start_backend()?;
        let [first, second] = &subjects;
        let running = [first.start(work.mode, &fields)?, second.start(work.mode, &fields)?];
        let used = || running.each_ref().map(Running::cpu_seconds);
        let mut rounds = Vec::new();
        // The first round warms up.
        for round in 0..=options.rounds {
            let before = used();
            let loaded = thread::scope(|scope| {
                let loads = subjects.each_ref().map(|subject| scope.spawn(|| self.tools.load(work, subject)));
                loads.map(thread::ScopedJoinHandle::join)
            });
            let after = used();
            let mut needed = [0.0; 2];
            for (((needed, loaded), before), after) in needed.iter_mut().zip(loaded).zip(before).zip(after) {
                let loaded = loaded.ok().context("a load panicked")??.context("it is a work for a load generator")?;
                ensure!(loaded.failure.is_none(), "requests failed: {:?}", loaded.failure);
                *needed = (after - before) * 1e6 / loaded.requests;
            }
            if round > 0 {
                rounds.push(needed);
            }
        }
        for running in running {
            running.stop()?;
        }
        backend.stop()?;
        Ok(rounds)
    }
}

/// What the one needs of the other, and the standard error of that: by the means of the rounds' ratios, as geometric ones, so that
/// what the place does to a ratio in half of the rounds is undone by the other half.
fn ratio(forth: &[[f64; 2]], back: &[[f64; 2]]) -> (f64, f64) {
    let (halves, variances): (Vec<f64>, Vec<f64>) = [forth, back].map(mean_and_variance).into_iter().unzip();
    let ratio = (halves.iter().sum::<f64>() / 2.0).exp();
    (ratio, ratio * variances.iter().sum::<f64>().sqrt() / 2.0)
}

/// Of the logarithms of the ratios; the variance is that of the mean.
fn mean_and_variance(rounds: &[[f64; 2]]) -> (f64, f64) {
    let count: f64 = rounds.iter().map(|_| 1.0).sum();
    let ratios = || rounds.iter().map(|[one, other]| (one / other).ln());
    let mean = ratios().sum::<f64>() / count;
    let squares = ratios().map(|ratio| (ratio - mean).powi(2)).sum::<f64>();
    (mean, squares / (count - 1.0) / count)
}

#[cfg(test)]
mod tests {
    use super::ratio;

    #[test]
    fn neither_noise_that_both_have_nor_the_place_changes_the_ratio() {
        let noise = [1.0, 2.0, 1.5];
        let forth = noise.map(|noise| [0.9 * noise * 0.98, noise]);
        let back = noise.map(|noise| [0.9 * noise, noise * 0.98]);
        let (ratio, error) = ratio(&forth, &back);
        assert!((ratio - 0.9).abs() < 1e-9 && error < 1e-9, "{ratio} {error}");
    }

    #[test]
    fn rounds_that_differ_leave_a_doubt() {
        let rounds = [[1.0, 1.0], [1.1, 1.0], [1.0, 1.1], [1.0, 1.0]];
        let (ratio, error) = ratio(&rounds, &rounds);
        assert!((ratio - 1.0).abs() < 1e-9 && (0.02..0.04).contains(&error), "{ratio} {error}");
    }
}
