//! `cargo xtask pair ONE OTHER`: which of two builds of the gateway needs less CPU for a small GET, also where the machine is noisy.
//! Both work at the same time on the same CPU, in turns of milliseconds, so that whatever slows the machine slows both.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::{
    Bench,
    load::wrk,
    machine,
    process::{self, Background},
    samples::Spread,
    subject::{self, Mode},
};

/// What to compare, and how long.
#[derive(Args)]
pub(crate) struct Options {
    /// A gateway
    one: PathBuf,
    /// The one that it is compared with
    other: PathBuf,
    /// How often both are measured in the one order, and again in the other
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(2..))]
    rounds: u16,
    /// Seconds of load for each round
    #[arg(long, default_value_t = 1)]
    seconds: u32,
}

/// Where the two listen. Who comes first matters by about a percent, so that each is it in half of the rounds.
const PLACES: [Place; 2] = [
    Place { name: "first", address: subject::HTTP1, ports: "port: 18" },
    Place { name: "second", address: "127.0.0.1:28000", ports: "port: 28" },
];

struct Place {
    name: &'static str,
    address: &'static str,
    /// How the ports of its configuration begin.
    ports: &'static str,
}

pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    ensure!(machine::cpus()? >= 2, "a comparison needs two CPUs: one for the gateways, one for load and backend");
    let bench = Bench::prepare(root, &super::Options::of_get(options.seconds))?;
    let one = options.one.canonicalize().with_context(|| format!("looking for {}", options.one.display()))?;
    let other = options.other.canonicalize().with_context(|| format!("looking for {}", options.other.display()))?;
    let forth = bench.pair(root, [&one, &other], options)?;
    let back = bench.pair(root, [&other, &one], options)?;
    let back = back.into_iter().map(|[other, one]| [one, other]).collect::<Vec<_>>();
    let (ratio, error) = ratio(&forth, &back);
    for (program, which) in [(&one, 0), (&other, 1)] {
        let needed: Vec<f64> = forth.iter().chain(&back).filter_map(|round| round.get(which)).copied().collect();
        let needed = Spread::of(&needed).context("there are rounds")?;
        println!("{} us of CPU per request  {}", needed.show(1), program.display());
    }
    println!("the first one needs {ratio:.3} of the other, give or take {error:.3} (one standard error)");
    Ok(())
}

impl Bench {
    /// What each needed for a request in each round, in microseconds of CPU.
    fn pair(&self, root: &Path, programs: [&Path; 2], options: &Options) -> Result<Vec<[f64; 2]>> {
        let backend = self.tools.start_backend()?;
        let [first, second] = PLACES;
        let [one, other] = programs;
        let gateways = [first.start(root, one)?, second.start(root, other)?];
        let fields = self.tools.callers.fields(Mode::Plain);
        let load = |place: &Place| wrk(&format!("http://{}/", place.address), options.seconds, &fields, &[]);
        let used = || gateways.each_ref().map(|gateway| machine::cpu_seconds(gateway.id()));
        let mut rounds = Vec::new();
        // The first round warms up.
        for round in 0..=options.rounds {
            let before = used();
            let loaded = thread::scope(|scope| {
                let [first, second] = PLACES.each_ref().map(|place| scope.spawn(|| load(place)));
                [first.join(), second.join()]
            });
            let after = used();
            let mut needed = [0.0; 2];
            for (((needed, loaded), before), after) in needed.iter_mut().zip(loaded).zip(before).zip(after) {
                let loaded = loaded.ok().context("a load panicked")??;
                ensure!(loaded.failure.is_none(), "requests failed: {:?}", loaded.failure);
                *needed = (after - before) * 1e6 / loaded.requests;
            }
            if round > 0 {
                rounds.push(needed);
            }
        }
        for gateway in gateways {
            gateway.stop()?;
        }
        backend.stop()?;
        Ok(rounds)
    }
}

impl Place {
    /// Returns when it answers.
    fn start(&self, root: &Path, program: &Path) -> Result<Background> {
        let folder = root.join("target/bench");
        let template = fs::read_to_string(root.join("bench/tidegate.yaml"))?;
        let lines = template.lines().filter(|line| !line.contains("name: tls"));
        let template = lines.collect::<Vec<_>>().join("\n").replace("port: 18", self.ports);
        let config = folder.join(format!("pair-{}.yaml", self.name));
        fs::write(&config, subject::render(&template, Mode::Plain.marks(), &folder.to_string_lossy()))?;
        ensure!(!subject::answers(self.address, &[]), "somebody else listens on {}", self.address);
        let mut command = process::pinned(process::PROXY, program);
        let output = folder.join(format!("pair-{}.out", self.name));
        let mut background = Background::start(command.arg("run").arg(config), &output)?;
        for _ in 0..300 {
            background.expect_alive().with_context(|| fs::read_to_string(&output).unwrap_or_default())?;
            if subject::answers(self.address, &[]) {
                return Ok(background);
            }
            machine::pause(50);
        }
        anyhow::bail!("{} does not answer on {}", program.display(), self.address)
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
