//! `cargo xtask instructions`: how many instructions the parts that every request passes through take, counted under
//! callgrind. Unlike times, counts are the same on a busy machine, so a budget can fail a build.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::cargo;

/// Where the budgets are, below the workspace.
const BUDGETS: &str = "bench/instructions.toml";
/// What a count may exceed its budget by.
const SLACK: f64 = 0.03;
/// And by so many instructions in any case: counts of a few hundred move as much with what the linker and chance lay where.
const SLACK_AT_LEAST: f64 = 50.0;

#[derive(Args)]
pub(crate) struct Options {
    /// Take what is counted now as the new budgets
    #[arg(long)]
    update: bool,
}

/// A program that does the same thing as often as its last argument says.
struct Program {
    name: &'static str,
    package: &'static str,
    example: &'static str,
    arguments: &'static [&'static str],
    turns: usize,
}

const PROGRAMS: &[Program] = &[
    Program { name: "codec", package: "bench", example: "codec", arguments: &[], turns: 5_000 },
    Program { name: "routing_10", package: "bench", example: "routing", arguments: &["10"], turns: 20_000 },
    Program { name: "routing_10000", package: "bench", example: "routing", arguments: &["10000"], turns: 20_000 },
    Program {
        name: "expression_tenant",
        package: "bench",
        example: "expression",
        arguments: &["identity.tenant == path.tenant"],
        turns: 20_000,
    },
    Program {
        name: "expression_three",
        package: "bench",
        example: "expression",
        arguments: &["'editor' in identity.roles && identity.tenant == path.tenant && header.x-channel == 'web'"],
        turns: 20_000,
    },
    Program {
        name: "whole_request",
        package: "tidegate-proxy",
        example: "whole_request",
        arguments: &[],
        turns: 2_000,
    },
    balance("balance_round_robin_10", &["round_robin", "10"]),
    balance("balance_round_robin_1000", &["round_robin", "1000"]),
    balance("balance_least_connections_10", &["least_connections", "10"]),
    balance("balance_least_connections_1000", &["least_connections", "1000"]),
    balance("balance_least_time_10", &["least_time", "10"]),
    balance("balance_least_time_1000", &["least_time", "1000"]),
    balance("balance_p2c_10", &["p2c", "10"]),
    balance("balance_p2c_1000", &["p2c", "1000"]),
    balance("balance_random_10", &["random", "10"]),
    balance("balance_random_1000", &["random", "1000"]),
    balance("balance_ip_hash_10", &["ip_hash", "10"]),
    balance("balance_ip_hash_1000", &["ip_hash", "1000"]),
    balance("balance_consistent_hash_10", &["consistent_hash", "10"]),
    balance("balance_consistent_hash_1000", &["consistent_hash", "1000"]),
    balance("balance_sticky_cookie_10", &["sticky_cookie", "10"]),
    balance("balance_sticky_cookie_1000", &["sticky_cookie", "1000"]),
    limiter("limiter_hit", &["hit"]),
    limiter("limiter_new", &["new"]),
    limiter("limiter_refused", &["refused"]),
    limiter("limiter_sliding_window", &["sliding_window"]),
    limiter("limiter_sliding_log", &["sliding_log"]),
    limiter("limiter_fixed_window", &["fixed_window"]),
    limiter("limiter_cell", &["cell"]),
    policies("policies_api_key", &["key"], 3_000),
    policies("policies_token", &["token"], 3_000),
    policies("es256_token", &["signature"], 100),
    policies("es256_library", &["library"], 100),
];

/// A strategy and a number of endpoints.
const fn balance(name: &'static str, arguments: &'static [&'static str]) -> Program {
    Program { name, package: "bench", example: "balance", arguments, turns: 20_000 }
}

/// A kind of decision.
const fn limiter(name: &'static str, arguments: &'static [&'static str]) -> Program {
    Program { name, package: "bench", example: "limiter", arguments, turns: 20_000 }
}

/// What a request passes.
const fn policies(name: &'static str, arguments: &'static [&'static str], turns: usize) -> Program {
    Program { name, package: "bench", example: "policies", arguments, turns }
}

/// One program may take at most so many times what another one takes.
const RATIOS: &[(&str, &str, f64)] = &[("routing_10000", "routing_10", 2.0), ("es256_token", "es256_library", 1.15)];

pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let programs = build(root)?;
    let mut counts = BTreeMap::new();
    for program in PROGRAMS {
        let count = program.count(&programs)?;
        println!("{:30} {count:8} instructions a turn", program.name);
        counts.insert(program.name.to_owned(), count);
    }
    let path = root.join(BUDGETS);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    if options.update {
        fs::write(&path, with_budgets(&text, &counts))?;
        return Ok(());
    }
    let mut complaints = over_budget(&budgets(&text)?, &counts);
    complaints.extend(out_of_proportion(&counts));
    ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
    Ok(())
}

/// With the profile whose programs are nearly as quick as the released one, and built in half the time.
fn build(root: &Path) -> Result<PathBuf> {
    let what: Vec<&str> =
        PROGRAMS.iter().flat_map(|program| ["--package", program.package, "--example", program.example]).collect();
    Ok(cargo::build(root, "quick", &what)?.join("examples"))
}

impl Program {
    /// Instructions for one turn. What start and end cost falls out, because it is the same for any number of turns.
    fn count(&self, programs: &Path) -> Result<u64> {
        let once = self.total(programs, self.turns)?;
        let twice = self.total(programs, self.turns * 2)?;
        Ok(twice.saturating_sub(once) / self.turns as u64)
    }

    fn total(&self, programs: &Path, turns: usize) -> Result<u64> {
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(programs.join(self.example));
        let output = command.args(self.arguments).arg(turns.to_string()).output().context("running valgrind")?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {text}", self.name);
        collected(&text).with_context(|| format!("valgrind printed: {text}"))
    }
}

/// Valgrind ends with `==1234== Collected : 567890`.
fn collected(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains("Collected :"))?;
    line.split_whitespace().next_back()?.parse().ok()
}

/// Reads the lines `name = 1234`; others are headings and comments.
fn budgets(text: &str) -> Result<BTreeMap<String, u64>> {
    let mut budgets = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with(['#', '['])) {
        if let Some((name, number)) = line.split_once(" = ") {
            let number = number.replace('_', "").parse().with_context(|| format!("reading the budget `{line}`"))?;
            budgets.insert(name.to_owned(), number);
        }
    }
    Ok(budgets)
}

/// The same text, with other numbers in the lines that have one, and new lines for new names.
fn with_budgets(text: &str, counts: &BTreeMap<String, u64>) -> String {
    let kept = text.lines().filter(|line| line.starts_with(['#', '[']) || line.is_empty());
    let mut lines: Vec<String> = kept.map(str::to_owned).collect();
    lines.extend(counts.iter().map(|(name, count)| format!("{name} = {count}")));
    lines.join("\n") + "\n"
}

#[expect(clippy::cast_precision_loss, reason = "counts of one turn are far below 2^52")]
fn over_budget(budgets: &BTreeMap<String, u64>, counts: &BTreeMap<String, u64>) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, count) in counts {
        match budgets.get(name) {
            None => complaints.push(format!("{name} has no budget; `cargo xtask instructions --update` writes one")),
            Some(budget) if *count as f64 > *budget as f64 + (*budget as f64 * SLACK).max(SLACK_AT_LEAST) => {
                let rise = (*count as f64 / *budget as f64 - 1.0) * 100.0;
                complaints.push(format!("{name} takes {count} instructions, {rise:.1} % above its budget of {budget}"));
            }
            Some(_) => {}
        }
    }
    complaints
}

#[expect(clippy::cast_precision_loss, reason = "counts of one turn are far below 2^52")]
fn out_of_proportion(counts: &BTreeMap<String, u64>) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, of, most) in RATIOS {
        let (Some(count), Some(base)) = (counts.get(*name), counts.get(*of)) else { continue };
        if *count as f64 > *base as f64 * most {
            complaints.push(format!("{name} takes {count} instructions, more than {most} times {of} with {base}"));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{budgets, collected, out_of_proportion, over_budget, with_budgets};

    fn counts(entries: &[(&str, u64)]) -> BTreeMap<String, u64> {
        entries.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn three_percent_above_the_budget_pass_and_more_do_not() {
        let budgets = counts(&[("codec", 10_000), ("pick", 100)]);
        assert!(over_budget(&budgets, &counts(&[("codec", 10_300), ("pick", 150)])).is_empty());
        assert_eq!(over_budget(&budgets, &counts(&[("codec", 10_301), ("pick", 151)])).len(), 2);
        assert_eq!(over_budget(&budgets, &counts(&[("other", 1)])).len(), 1);
    }

    #[test]
    fn many_routes_may_cost_twice_what_few_do() {
        assert!(out_of_proportion(&counts(&[("routing_10", 100), ("routing_10000", 200)])).is_empty());
        assert_eq!(out_of_proportion(&counts(&[("routing_10", 100), ("routing_10000", 201)])).len(), 1);
    }

    #[test]
    fn an_update_keeps_what_people_wrote() {
        let text = with_budgets("# why\n[budgets]\ncodec = 1\n", &counts(&[("codec", 2), ("routing_10", 3)]));
        assert_eq!(text, "# why\n[budgets]\ncodec = 2\nrouting_10 = 3\n");
        assert_eq!(budgets(&text).ok(), Some(counts(&[("codec", 2), ("routing_10", 3)])));
    }

    #[test]
    fn valgrinds_last_words_hold_the_count() {
        assert_eq!(collected("==7== Events    : Ir\n==7== Collected : 567890\n"), Some(567_890));
        assert_eq!(collected("killed"), None);
    }
}
