//! What users see: every case in `cases/` is a configuration, and beside it what the loader says about it, or the effective
//! configuration when nothing is wrong. `UPDATE=1 cargo test -p tidegate-config` rewrites what is expected.

mod words;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use tidegate_config::{Disk, Inputs, Source, load};

use words::WORDS;

/// The environment of a case stands in its comments: `# env NAME=value`.
fn environment(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("# env "));
    lines.filter_map(|line| line.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Files as the cases see them: relative to their own folder, wherever the repository lies.
struct Cases(PathBuf);

impl Source for Cases {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        Disk.read(&self.0.join(path))
    }

    fn list(&self, pattern: &Path) -> std::io::Result<Vec<PathBuf>> {
        let found = Disk.list(&self.0.join(pattern))?;
        Ok(found.into_iter().filter_map(|path| path.strip_prefix(&self.0).ok().map(Path::to_owned)).collect())
    }
}

fn outcome(cases: &Cases, name: &Path) -> String {
    let text = String::from_utf8_lossy(&cases.read(name).unwrap_or_default()).into_owned();
    let env = environment(&text);
    match load(&Inputs { file: name, source: cases, env: &env, vocabulary: &WORDS }) {
        Ok(loaded) => {
            let mut out = loaded.document.render(&loaded.warnings, false);
            if !out.is_empty() {
                out.push('\n');
            }
            out.push_str(&loaded.document.show());
            out
        }
        Err(failure) => failure.document.render(&failure.problems, false),
    }
}

#[test]
fn every_case_reads_as_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let cases = Cases(folder.clone());
    let update = std::env::var_os("UPDATE").is_some();
    let mut differing = String::new();
    let mut count = 0;
    for name in cases.list(Path::new("*.yaml")).expect("the folder is there") {
        count += 1;
        let found = outcome(&cases, &name);
        let expected = folder.join(name.with_extension("expected"));
        if update {
            std::fs::write(&expected, &found).expect("writable");
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != found {
            writeln!(differing, "--- {}: found\n{found}", name.display()).expect("memory");
        }
    }
    assert!(differing.is_empty(), "run with UPDATE=1 if this is right\n{differing}");
    assert!(count >= 40, "only {count} cases");
}
