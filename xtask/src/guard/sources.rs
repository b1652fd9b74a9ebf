//! Rules about the text of the sources: sizes, leftovers, who may spawn, sleep and read a clock.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// Lines of one file, its tests not counted.
const LONGEST_FILE: usize = 600;

/// Text that must not stand in sources, with the reason and the places that may.
struct Rule {
    text: &'static str,
    reach: Reach,
    reason: &'static str,
    except: &'static [&'static str],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// All sources, tests and tools too.
    Everywhere,
    /// What the gateway is made of: `crates/`, without its tests.
    Gateway,
}

const RULES: &[Rule] = &[
    Rule { text: "TODO", reach: Reach::Everywhere, reason: LEFTOVER, except: HERE },
    Rule { text: "FIXME", reach: Reach::Everywhere, reason: LEFTOVER, except: HERE },
    Rule { text: "todo!", reach: Reach::Everywhere, reason: LEFTOVER, except: HERE },
    Rule { text: "unimplemented!", reach: Reach::Everywhere, reason: LEFTOVER, except: HERE },
    Rule { text: "#[ignore", reach: Reach::Everywhere, reason: "a test runs or does not exist", except: HERE },
    Rule { text: "thread::sleep", reach: Reach::Everywhere, reason: SLEEP, except: SLEEPERS },
    Rule { text: "time::sleep", reach: Reach::Everywhere, reason: SLEEP, except: SLEEPERS },
    Rule { text: "Instant::now", reach: Reach::Gateway, reason: CLOCK, except: CLOCKS },
    Rule { text: "SystemTime::now", reach: Reach::Gateway, reason: CLOCK, except: CLOCKS },
    Rule { text: "tokio::spawn", reach: Reach::Gateway, reason: SPAWN, except: SPAWNERS },
    Rule { text: "task::spawn", reach: Reach::Gateway, reason: SPAWN, except: SPAWNERS },
    Rule { text: "env::var", reach: Reach::Gateway, reason: ENVIRONMENT, except: &["crates/tidegate/"] },
    Rule { text: "thread::spawn", reach: Reach::Gateway, reason: SPAWN, except: SPAWNERS },
];

const LEFTOVER: &str = "finish it, or write it down where work is planned";
const SLEEP: &str = "wait for an event, or through the clock's seam";
const CLOCK: &str = "time comes from `Clock`";
const SPAWN: &str = "only `tasks.rs` spawns, so that a task dies with its handle";

const ENVIRONMENT: &str = "the program reads the environment and passes it on";

const HERE: &[&str] = &["xtask/src/guard/"];
/// The alarm is the seam through which the gateway sleeps; load and peers of a bench run on the real clock.
const SLEEPERS: &[&str] = &["crates/proxy/src/alarm.rs", "xtask/src/guard/", "xtask/src/bench/", "bench/"];
const CLOCKS: &[&str] = &["crates/core/src/clock.rs", "crates/proxy/src/clock.rs"];
const SPAWNERS: &[&str] = &["crates/proxy/src/tasks.rs"];

const FOLDERS: &[&str] = &["bench", "crates", "e2e", "fuzz", "xtask"];

/// A Rust file of the repository.
pub(super) struct Source {
    /// Relative to the workspace, with `/`.
    path: String,
    text: String,
}

impl Source {
    pub(super) fn all_below(root: &Path) -> Result<Vec<Self>> {
        let mut sources = Vec::new();
        for folder in FOLDERS {
            collect(root, &root.join(folder), &mut sources)?;
        }
        Ok(sources)
    }

    pub(super) fn violations(&self) -> Vec<String> {
        let mut violations = Vec::new();
        let shipped = self.lines_before_tests();
        if !self.is_test() && shipped > LONGEST_FILE {
            violations.push(format!("{}: {shipped} lines without tests, {LONGEST_FILE} are allowed", self.path));
        }
        for rule in RULES.iter().filter(|rule| self.is_reached_by(rule)) {
            let lines = if rule.reach == Reach::Everywhere { usize::MAX } else { shipped };
            violations.extend(self.matches(rule, lines));
        }
        violations
    }

    fn is_reached_by(&self, rule: &Rule) -> bool {
        let excepted = rule.except.iter().any(|place| self.path.starts_with(place));
        let reached = match rule.reach {
            Reach::Everywhere => true,
            Reach::Gateway => self.path.starts_with("crates/") && !self.is_test(),
        };
        reached && !excepted
    }

    fn matches(&self, rule: &Rule, lines: usize) -> Vec<String> {
        let numbered = self.text.lines().take(lines).zip(1..);
        numbered
            .filter(|(line, _)| stands_alone(line, rule.text) && !line.trim_start().starts_with("//!"))
            .map(|(_, number)| format!("{}:{number}: `{}`: {}", self.path, rule.text, rule.reason))
            .collect()
    }

    fn is_test(&self) -> bool {
        ["/tests/", "/tests.rs", "/benches/", "/examples/", "fuzz/"].iter().any(|part| self.path.contains(part))
            || self.path.starts_with("e2e/")
    }

    /// Unit tests stand last in a file, behind `#[cfg(test)]` and `mod tests`.
    fn lines_before_tests(&self) -> usize {
        let mut previous = "";
        for (index, line) in self.text.lines().enumerate() {
            if previous == "#[cfg(test)]" && line.starts_with("mod ") && line.ends_with('{') {
                return index - 1;
            }
            previous = line;
        }
        self.text.lines().count()
    }
}

/// Whether `line` has `text` as a word of its own: `todo!` is not in `mytodo!`.
fn stands_alone(line: &str, text: &str) -> bool {
    line.match_indices(text).any(|(at, _)| {
        let before = line.get(..at).and_then(|start| start.chars().next_back());
        !before.is_some_and(|character| character.is_alphanumeric() || character == '_')
    })
}

fn collect(root: &Path, folder: &Path, sources: &mut Vec<Source>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<PathBuf>, _>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() && !path.ends_with("target") {
            collect(root, &path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let relative = path.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
            sources.push(Source { path: relative, text });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Source;

    fn violations(path: &str, text: &str) -> Vec<String> {
        Source { path: path.to_owned(), text: text.to_owned() }.violations()
    }

    #[test]
    fn a_clock_is_read_in_one_place_only() {
        assert_eq!(violations("crates/proxy/src/serve.rs", "let now = Instant::now();\n").len(), 1);
        assert!(violations("crates/proxy/src/clock.rs", "let now = Instant::now();\n").is_empty());
    }

    #[test]
    fn tests_may_make_their_own_time_but_never_sleep() {
        let tests = "fn shipped() {}\n\n#[cfg(test)]\nmod tests {\n    let now = Instant::now();\n}\n";
        assert!(violations("crates/core/src/breaker.rs", tests).is_empty());
        assert_eq!(violations("e2e/tests/e2e/main.rs", "std::thread::sleep(second);\n").len(), 1);
    }

    #[test]
    fn the_tests_of_a_file_do_not_count_towards_its_size() {
        let long = "//\n".repeat(590) + "#[cfg(test)]\nmod tests {\n" + &"//\n".repeat(500) + "}\n";
        assert!(violations("crates/core/src/breaker.rs", &long).is_empty());
        assert_eq!(violations("crates/core/src/breaker.rs", &"//\n".repeat(601)).len(), 1);
    }

    #[test]
    fn a_longer_word_is_another_word() {
        assert!(violations("crates/core/src/a.rs", "fn respawn_local() {}\nlet METODO = 1;\n").is_empty());
        assert_eq!(violations("crates/core/src/a.rs", "// TODO: later\n").len(), 1);
    }
}
