//! Medians, spreads and ratios of what was measured, as Markdown, with a verdict or the reason why there is none.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::{
    samples::{Sample, Samples, Spread},
    work::{ALL, Demand, Work},
};

/// Between these lines of a document stands what the last run said.
const BEGIN: &str = "<!-- bench: begin -->";
const END: &str = "<!-- bench: end -->";

/// The gateway's name among the subjects.
pub(super) const GATEWAY: &str = "tidegate";

pub(super) struct Report {
    machine: String,
    versions: Vec<String>,
    samples: Samples,
    failures: Vec<String>,
}

impl Report {
    pub(super) fn new(machine: String, versions: Vec<String>) -> Self {
        Self { machine, versions, samples: Samples::default(), failures: Vec::new() }
    }

    /// Keeps a measurement, and shows it: a run takes minutes.
    pub(super) fn add(&mut self, sample: Sample) {
        let Sample { work, subject, round, value, foreign, failure, .. } = &sample;
        let failed = failure.as_deref().unwrap_or_default();
        let others = foreign * 100.0;
        println!("round {round}  {subject:9} {work:12} {value:9.2}  others on its CPU {others:4.1} %  {failed}");
        if let Some(failure) = failure {
            self.failures.push(format!("{subject} {work}: {failure}"));
        }
        self.samples.add(sample);
    }

    pub(super) fn failures(&self) -> &[String] {
        &self.failures
    }

    pub(super) fn render(&self) -> String {
        let mut text = format!("Measured {}.\n{}.\n\n", self.machine, self.versions.join(", "));
        self.values(&mut text);
        text.push('\n');
        self.ratios(&mut text);
        text
    }

    /// Medians alone, for those who want one glance.
    pub(super) fn summary(&self) -> String {
        let mut text = format!("Measured {}; {}.\n\n", self.machine, self.versions.join(", "));
        let works = self.works().filter(|work| work.measure.part().is_none());
        self.table(&mut text, works, |_, spread| format!("{:.1}", spread.median));
        text
    }

    fn values(&self, text: &mut String) {
        self.table(text, self.works(), |work, spread| spread.show(work.measure.digits()));
    }

    fn table<'w>(
        &self,
        text: &mut String,
        works: impl Iterator<Item = &'w Work>,
        show: impl Fn(&Work, Spread) -> String,
    ) {
        let subjects = self.subjects();
        row(text, ["work", "unit", "rounds"].into_iter().chain(subjects.iter().copied()));
        row(text, std::iter::repeat_n("---", subjects.len() + 3));
        for work in works {
            let series = |subject: &&str| Spread::of(&self.samples.series(work, subject));
            let cells = subjects.iter().map(|subject| series(subject).map(|spread| show(work, spread)));
            let cells: Vec<String> = cells.map(|cell| cell.unwrap_or_else(|| "-".to_owned())).collect();
            let rounds = self.samples.rounds(work);
            row(text, [work.title, work.measure.unit(), &rounds].into_iter().chain(cells.iter().map(String::as_str)));
        }
    }

    fn ratios(&self, text: &mut String) {
        let peers: Vec<&str> = self.subjects().into_iter().filter(|subject| *subject != GATEWAY).collect();
        let ours = self.samples.has(|sample| sample.subject == GATEWAY);
        if !ours {
            return;
        }
        let heads: Vec<String> = peers.iter().map(|peer| format!("of {peer}")).collect();
        row(text, ["work"].into_iter().chain(heads.iter().map(String::as_str)).chain(["must", "verdict"]));
        row(text, std::iter::repeat_n("---", peers.len() + 3));
        for work in self.works() {
            let cells: Vec<String> = peers
                .iter()
                .map(|peer| self.ratio(work, peer).map_or_else(|| "-".to_owned(), |spread| spread.show(2)))
                .chain([demands(work), self.verdict(work)])
                .collect();
            row(text, [work.title].into_iter().chain(cells.iter().map(String::as_str)));
        }
    }

    /// What the gateway needs of what `peer` needs, each round for itself.
    fn ratio(&self, work: &Work, peer: &str) -> Option<Spread> {
        let (ours, theirs) = (self.samples.series(work, GATEWAY), self.samples.series(work, peer));
        Spread::of(&ours.iter().zip(&theirs).map(|(our, their)| our / their).collect::<Vec<_>>())
    }

    fn verdict(&self, work: &Work) -> String {
        if let Some(noise) = self.samples.noise(work) {
            return format!("too noisy to tell: {noise}");
        }
        let ours = Spread::of(&self.samples.series(work, GATEWAY));
        let met = work.demands.iter().filter_map(|demand| match demand {
            Demand::Share(peer, most) => self.ratio(work, peer).map(|ratio| ratio.median <= *most),
            Demand::AtMost(most) => ours.as_ref().map(|ours| ours.median <= *most),
            Demand::AtLeast(least) => ours.as_ref().map(|ours| ours.median >= *least),
        });
        let met: Vec<bool> = met.collect();
        match (met.is_empty(), met.iter().all(|met| *met)) {
            (true, _) => "not measured".to_owned(),
            (false, true) => "met".to_owned(),
            (false, false) => "missed".to_owned(),
        }
    }

    fn works(&self) -> impl Iterator<Item = &'static Work> {
        ALL.iter().filter(|work| self.samples.has(|sample| sample.work == work.key))
    }

    /// In the order of the versions' line.
    fn subjects(&self) -> Vec<&str> {
        self.versions.iter().filter_map(|version| version.split(' ').next()).collect()
    }
}

/// Replaces what stands between the marks.
pub(super) fn write_into(document: &Path, text: &str) -> Result<()> {
    let old = fs::read_to_string(document).with_context(|| format!("reading {}", document.display()))?;
    let (before, rest) = old.split_once(BEGIN).context("the document has a mark where results begin")?;
    let (_, after) = rest.split_once(END).context("the document has a mark where results end")?;
    fs::write(document, format!("{before}{BEGIN}\n{text}{END}{after}"))?;
    Ok(())
}

fn demands(work: &Work) -> String {
    let unit = work.measure.unit();
    let demands = work.demands.iter().map(|demand| match demand {
        Demand::Share(peer, most) => format!("<= {most:.2} {peer}"),
        Demand::AtMost(most) => format!("<= {most} {unit}"),
        Demand::AtLeast(least) => format!(">= {least} {unit}"),
    });
    demands.map(|demand| demand.trim_end().to_owned()).collect::<Vec<_>>().join(", ")
}

fn row<'a>(text: &mut String, cells: impl Iterator<Item = &'a str>) {
    text.push('|');
    for cell in cells {
        text.push(' ');
        text.push_str(cell);
        text.push_str(" |");
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::{super::samples::Calibration, Report, Sample};

    fn sample(subject: &'static str, round: usize, value: f64) -> Sample {
        let calibration = Some(Calibration { of: "backend", value: 100.0 });
        Sample { value, calibration, ..Sample::of("post", subject, round) }
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let mut report = Report::new("somewhere".to_owned(), vec!["tidegate 1".to_owned(), "nginx 2".to_owned()]);
        report.add(sample("tidegate", 0, 5.0));
        report.add(sample("nginx", 0, 10.0));
        report.add(sample("nginx", 1, 12.0));
        report.add(sample("tidegate", 1, 9.0));
        let text = report.render();
        assert!(text.contains("| POST 10 KiB | us CPU | 2 of 2 | 7.0 [5.0-9.0] | 11.0 [10.0-12.0] |"), "{text}");
        assert!(text.contains("| POST 10 KiB | 0.62 [0.50-0.75] | <= 0.80 nginx | met |"), "{text}");
    }
    #[test]
    fn a_part_of_our_own_is_judged_alone() {
        let mut report = Report::new("somewhere".to_owned(), vec!["tidegate 1".to_owned(), "nginx 2".to_owned()]);
        for (work, value) in [("limiter", 149.6), ("limiter_key", 64.3), ("redis", 30_000.0), ("limiter_read", 1.234)] {
            report.add(Sample { value, ..Sample::of(work, "tidegate", 0) });
        }
        let text = report.render();
        assert!(text.contains("threads | ns | 1 of 1 | 150 [150-150] | - |"), "{text}");
        assert!(text.contains("threads | - | <= 150 ns | met |"), "{text}");
        assert!(text.contains("keys | - | <= 64 bytes | missed |"), "{text}");
        assert!(text.contains("worker | - | >= 30000 /s | met |"), "{text}");
        assert!(text.contains("place | - |  | not measured |"), "{text}");
        assert!(!report.summary().contains("threads"));
    }
}
