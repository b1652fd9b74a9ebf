//! The tables of a soak, as Markdown, and what the gateway must reach in them.

use super::{Part, run::Outcome};

/// Percent of the requests that must succeed in the chaos.
const SUCCESS: f64 = 99.9;
/// How much greater the chaos may make the 99th percentile.
const SLOWER: f64 = 3.0;
/// Retries in a full outage: one for so many requests, and so many each second.
const RETRIES: u64 = 5;
const FLOOR: u64 = 3;

pub(super) struct Report {
    machine: String,
    rate: u32,
    seconds: u32,
    rows: Vec<Row>,
}

struct Row {
    subject: &'static str,
    part: &'static str,
    outcome: Outcome,
}

impl Report {
    pub(super) fn new(machine: String, rate: u32, seconds: u32) -> Self {
        Self { machine, rate, seconds, rows: Vec::new() }
    }

    pub(super) fn add(&mut self, subject: &'static str, part: &Part, outcome: Outcome) {
        self.rows.push(Row { subject, part: part.name, outcome });
    }

    pub(super) fn render(&self) -> String {
        let Self { machine, rate, seconds, .. } = self;
        let mut text = format!("{machine}; {rate} requests per second for {seconds} s, latencies in milliseconds\n\n");
        text.push_str("| gateway | success % | p50 | p99 | p99.9 | p99 healthy | p99 ratio | errors |\n");
        text.push_str("|---|---|---|---|---|---|---|---|\n");
        for subject in self.subjects() {
            text.push_str(&self.chaos_row(subject).unwrap_or_default());
        }
        text.push_str(
            "\n| gateway | requests at endpoints for each in a full outage | lost in a rolling restart | lost ",
        );
        text.push_str("with `kill -9` |\n|---|---|---|---|\n");
        for subject in self.subjects() {
            text.push_str(&self.losses_row(subject));
        }
        text
    }

    fn chaos_row(&self, subject: &str) -> Option<String> {
        let chaos = self.outcome(subject, "chaos")?;
        let healthy = self.outcome(subject, "healthy")?;
        let [p50, p99, p999, usual] =
            [chaos.load.p50, chaos.load.p99, chaos.load.p999, healthy.load.p99].map(|time| time / 1e3);
        let (success, ratio, errors) = (chaos.success(), p99 / usual, chaos.errors());
        Some(format!(
            "| {subject} | {success:.3} | {p50:.1} | {p99:.1} | {p999:.1} | {usual:.1} | {ratio:.2} | {errors} |\n"
        ))
    }

    fn losses_row(&self, subject: &str) -> String {
        let show = |part: &str, cell: fn(&Outcome) -> String| self.outcome(subject, part).map_or("-".into(), cell);
        let lost = |outcome: &Outcome| match outcome.failed() {
            0 => "0".to_owned(),
            failed => format!("{failed} of {} ({})", outcome.load.counted, outcome.errors()),
        };
        let outage = show("outage", |outcome| format!("{:.3}", outcome.amplification()));
        let (rolling, killing) = (show("rolling", lost), show("killing", lost));
        format!("| {subject} | {outage} | {rolling} | {killing} |\n")
    }

    /// What the gateway has not reached. The peers may be as they are.
    pub(super) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        let mut demand = |holds: bool, failure: String| failures.extend((!holds).then_some(failure));
        let outcome = |part: &str| self.outcome("tidegate", part);
        if let Some(chaos) = outcome("chaos") {
            let success = chaos.success();
            demand(success >= SUCCESS, format!("chaos: {success:.3} % succeeded, {SUCCESS} % must"));
        }
        if let (Some(chaos), Some(healthy)) = (outcome("chaos"), outcome("healthy")) {
            let ratio = chaos.load.p99 / healthy.load.p99;
            demand(
                ratio < SLOWER,
                format!("chaos: the p99 is {ratio:.2} times that of the healthy run, not below {SLOWER}"),
            );
        }
        if let Some(outage) = outcome("outage") {
            let (sent, seen) = (outage.load.sent, outage.seen);
            let most = sent + sent / RETRIES + sent * FLOOR / u64::from(self.rate);
            demand(seen <= most, format!("outage: {seen} requests at endpoints for {sent}, {most} are allowed"));
        }
        for part in ["healthy", "rolling", "killing"] {
            let lost = outcome(part).map_or(0, Outcome::failed);
            demand(lost == 0, format!("{part}: {lost} requests were lost"));
        }
        failures
    }

    fn subjects(&self) -> Vec<&'static str> {
        let mut subjects: Vec<&str> = self.rows.iter().map(|row| row.subject).collect();
        subjects.dedup();
        subjects
    }

    fn outcome(&self, subject: &str, part: &str) -> Option<&Outcome> {
        self.rows.iter().find(|row| row.subject == subject && row.part == part).map(|row| &row.outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Report, Row};
    use crate::soak::run::Load;

    fn row(part: &'static str, p99: f64, failed: u64, seen: u64) -> Row {
        let errors = [("503".to_owned(), failed)].into_iter().filter(|(_, count)| *count > 0).collect();
        let load = Load { sent: 10_000, counted: 10_000, p50: 5_000.0, p99, p999: 2.0 * p99, errors };
        Row { subject: "tidegate", part, outcome: Outcome { load, seen } }
    }

    fn report(rows: Vec<Row>) -> Report {
        Report { machine: "a machine".to_owned(), rate: 1000, seconds: 10, rows }
    }

    #[test]
    fn a_gateway_that_reaches_everything_has_no_failures() {
        let rows = vec![
            row("healthy", 8_000.0, 0, 10_000),
            row("chaos", 23_900.0, 10, 11_000),
            row("outage", 1_000.0, 10_000, 12_030),
            row("rolling", 8_000.0, 0, 10_000),
        ];
        assert_eq!(report(rows).failures(), Vec::<String>::new());
    }

    #[test]
    fn every_demand_that_is_missed_is_told() {
        let rows = vec![
            row("healthy", 8_000.0, 1, 10_000),
            row("chaos", 24_000.0, 11, 11_000),
            row("outage", 1_000.0, 10_000, 12_031),
            row("rolling", 8_000.0, 2, 10_000),
            row("killing", 8_000.0, 3, 10_000),
        ];
        assert_eq!(report(rows).failures().len(), 6);
    }

    #[test]
    fn the_table_compares_chaos_with_health() {
        let text = report(vec![row("healthy", 8_000.0, 0, 0), row("chaos", 16_000.0, 5, 0)]).render();
        assert!(text.contains("| tidegate | 99.950 | 5.0 | 16.0 | 32.0 | 8.0 | 2.00 | 5 x 503 |"), "{text}");
        assert!(text.contains("| tidegate | - | - | - |"), "{text}");
    }
}
