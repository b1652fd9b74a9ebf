//! What was measured, round by round, and which rounds say anything: a round in which the machine was disturbed is left out,
//! for everybody; and if that leaves too few, all are kept and no verdict is given.

use std::collections::BTreeSet;

use super::work::Work;

/// A calibration that is this share off the median of all says that the machine ran at another speed then.
const UNSTEADY: f64 = 0.15;
/// Somebody else's share of the proxy's CPU from which a measurement says little.
const CROWDED: f64 = 0.05;

/// One measurement.
pub(crate) struct Sample {
    pub(crate) work: &'static str,
    pub(crate) subject: &'static str,
    pub(crate) round: usize,
    pub(crate) value: f64,
    /// How fast the machine was just then; `None` where speed is not what is measured.
    pub(crate) calibration: Option<Calibration>,
    /// The share of the proxy's CPU that others used meanwhile; of all its CPUs for a program of ours.
    pub(crate) foreign: f64,
    pub(crate) failure: Option<String>,
}

/// A measurement of something that is the same in every round.
#[derive(Clone, Copy)]
pub(crate) struct Calibration {
    /// Whose. Only those of one kind are compared.
    pub(crate) of: &'static str,
    pub(crate) value: f64,
}

impl Sample {
    pub(crate) fn of(work: &'static str, subject: &'static str, round: usize) -> Self {
        Self { work, subject, round, value: 0.0, calibration: None, foreign: 0.0, failure: None }
    }
}

#[derive(Default)]
pub(crate) struct Samples(Vec<Sample>);

impl Samples {
    pub(crate) fn add(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    pub(crate) fn has(&self, wanted: impl Fn(&Sample) -> bool) -> bool {
        self.0.iter().any(wanted)
    }

    /// One value for each round that counts.
    pub(crate) fn series(&self, work: &Work, subject: &str) -> Vec<f64> {
        let counts = self.rounds_that_count(work);
        let samples = self.0.iter().filter(|sample| sample.work == work.key && sample.subject == subject);
        samples.filter(|sample| counts.contains(&sample.round)).map(|sample| sample.value).collect()
    }

    /// `4 of 5`.
    pub(crate) fn rounds(&self, work: &Work) -> String {
        format!("{} of {}", self.rounds_that_count(work).len(), self.all_rounds(work).len())
    }

    /// Why there can be no verdict, if so.
    pub(crate) fn noise(&self, work: &Work) -> Option<String> {
        if self.is_quiet_enough(work) {
            return None;
        }
        let crowd =
            self.0.iter().filter(|sample| sample.work == work.key).map(|sample| sample.foreign).fold(0.0, f64::max);
        let (disturbed, all) = (self.disturbed_rounds(work).len(), self.all_rounds(work).len());
        Some(format!("{disturbed} of {all} rounds disturbed, others used up to {:.0} % of its CPU", crowd * 100.0))
    }

    fn rounds_that_count(&self, work: &Work) -> BTreeSet<usize> {
        let all = self.all_rounds(work);
        if self.is_quiet_enough(work) { &all - &self.disturbed_rounds(work) } else { all }
    }

    /// Most rounds must be left.
    fn is_quiet_enough(&self, work: &Work) -> bool {
        self.disturbed_rounds(work).len() * 2 < self.all_rounds(work).len()
    }

    fn all_rounds(&self, work: &Work) -> BTreeSet<usize> {
        self.0.iter().filter(|sample| sample.work == work.key).map(|sample| sample.round).collect()
    }

    fn disturbed_rounds(&self, work: &Work) -> BTreeSet<usize> {
        let disturbed = |sample: &&Sample| sample.foreign > CROWDED || self.off(sample) > UNSTEADY;
        let samples = self.0.iter().filter(|sample| sample.work == work.key);
        samples.filter(disturbed).map(|sample| sample.round).collect()
    }

    /// How far the machine's speed was from what it usually was in this run.
    fn off(&self, sample: &Sample) -> f64 {
        let Some(Calibration { of, value }) = sample.calibration else { return 0.0 };
        let alike = self.0.iter().filter_map(|sample| sample.calibration).filter(|other| other.of == of);
        let usual = Spread::of(&alike.map(|other| other.value).collect::<Vec<_>>());
        usual.map_or(0.0, |usual| (value / usual.median - 1.0).abs())
    }
}

/// Median and extremes of a series.
pub(crate) struct Spread {
    pub(crate) median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    pub(crate) fn of(series: &[f64]) -> Option<Self> {
        let mut sorted = series.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        let lower = if sorted.len().is_multiple_of(2) { *sorted.get(middle - 1)? } else { upper };
        Some(Self { median: f64::midpoint(lower, upper), least: *sorted.first()?, most: *sorted.last()? })
    }

    pub(crate) fn show(&self, digits: usize) -> String {
        let Self { median, least, most } = self;
        format!("{median:.digits$} [{least:.digits$}-{most:.digits$}]")
    }
}

#[cfg(test)]
mod tests {
    use super::{Calibration, Sample, Samples, Spread};
    use crate::bench::work::{ALL, Work};

    fn post() -> &'static Work {
        ALL.iter().find(|work| work.key == "post").unwrap()
    }

    fn samples(rounds: &[(f64, f64, f64)]) -> Samples {
        let sample = |(round, (value, calibration, foreign)): (usize, &(f64, f64, f64))| Sample {
            work: "post",
            subject: "nginx",
            round,
            value: *value,
            calibration: Some(Calibration { of: "backend", value: *calibration }),
            foreign: *foreign,
            failure: None,
        };
        Samples(rounds.iter().enumerate().map(sample).collect())
    }

    #[test]
    fn a_disturbed_round_is_left_out() {
        let samples =
            samples(&[(1.0, 100.0, 0.0), (2.0, 101.0, 0.01), (9.0, 100.0, 0.3), (8.0, 60.0, 0.0), (3.0, 99.0, 0.0)]);
        assert_eq!(samples.series(post(), "nginx"), [1.0, 2.0, 3.0]);
        assert_eq!(samples.rounds(post()), "3 of 5");
        assert!(samples.noise(post()).is_none());
    }

    #[test]
    fn calibrations_of_other_kinds_say_nothing() {
        let mut samples = samples(&[(1.0, 100.0, 0.0), (2.0, 101.0, 0.0), (3.0, 99.0, 0.0)]);
        for round in 0..9 {
            let calibration = Some(Calibration { of: "memory", value: 7.0 });
            samples.add(Sample { calibration, ..Sample::of("limiter", "tidegate", round) });
        }
        assert_eq!(samples.rounds(post()), "3 of 3");
    }

    #[test]
    fn when_half_of_the_rounds_are_disturbed_all_are_shown_and_none_is_judged() {
        let samples = samples(&[(1.0, 100.0, 0.0), (2.0, 100.0, 0.25)]);
        assert_eq!(samples.series(post(), "nginx"), [1.0, 2.0]);
        let noise = samples.noise(post()).unwrap();
        assert_eq!(noise, "1 of 2 rounds disturbed, others used up to 25 % of its CPU");
    }

    #[test]
    fn a_spread_has_the_middle_of_an_even_series() {
        let spread = Spread::of(&[4.0, 1.0, 2.0, 3.0]).map(|spread| spread.show(1));
        assert_eq!(spread.as_deref(), Some("2.5 [1.0-4.0]"));
        assert!(Spread::of(&[]).is_none());
    }
}
