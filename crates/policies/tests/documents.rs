//! Everything that users may copy loads: the examples, and the YAML in the documents. A block that begins with ```` ```yaml ````
//! is a whole configuration; `yaml fragment` is a piece, which a service and a route are added to where it has none.

use std::path::{Path, PathBuf};

use tidegate_config::{Disk, Inputs, Memory, Source, load};
use tidegate_policies::VOCABULARY;

const SERVICES: &str = "\nservices: { users: { url: http://127.0.0.1:1 }, orders: { url: http://127.0.0.1:2 } }\n";
const ROUTES: &str = "\nroutes: [{ match: { path_prefix: / }, service: users }]\n";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The files of a folder and of those below it that end so.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Any certificate, key and secret that a document speaks of.
struct Pretended<S>(S);

impl<S: Source> Source for Pretended<S> {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        let both = "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n";
        self.0.read(path).or_else(|_| Ok(both.as_bytes().to_vec()))
    }

    fn list(&self, pattern: &Path) -> std::io::Result<Vec<PathBuf>> {
        self.0.list(pattern)
    }
}

/// The YAML blocks of a document: whether one is a piece, its first line, and its text.
fn blocks(text: &str) -> Vec<(bool, usize, String)> {
    let mut found: Vec<(bool, usize, String)> = Vec::new();
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        match line.trim_end() {
            "```yaml" | "```yaml fragment" if !inside => {
                inside = true;
                found.push((line.ends_with("fragment"), number + 2, String::new()));
            }
            "```" => inside = false,
            _ if inside => found.last_mut().into_iter().for_each(|(_, _, block)| block.extend([line, "\n"])),
            _ => {}
        }
    }
    found
}

fn completed(block: &str) -> String {
    let has = |key: &str| block.lines().any(|line| line.starts_with(key));
    let services = if has("services:") { "" } else { SERVICES };
    let routes = if has("routes:") { "" } else { ROUTES };
    format!("{block}{services}{routes}")
}

fn loads_without_a_warning(file: &Path, source: &dyn Source) {
    let said = match load(&Inputs { file, source, env: &[], vocabulary: &VOCABULARY }) {
        Ok(loaded) => loaded.document.render(&loaded.warnings, false),
        Err(failure) => failure.to_string(),
    };
    assert!(said.is_empty(), "{said}");
}

#[test]
fn every_example_loads_without_a_warning() {
    let examples = Disk.list(&repository().join("examples/*.yaml")).unwrap_or_default();
    assert!(examples.len() >= 7, "only {} examples", examples.len());
    for file in examples {
        loads_without_a_warning(&file, &Disk);
    }
}

#[test]
fn the_configurations_of_deploy_and_bench_load_wherever_their_certificates_are() {
    for name in ["deploy/tidegate.yaml", "bench/tidegate.yaml"] {
        loads_without_a_warning(&repository().join(name), &Pretended(Disk));
    }
}

#[test]
fn every_yaml_block_of_the_documents_loads() {
    let mut count = 0;
    for file in std::iter::once(repository().join("README.md")).chain(files(&repository().join("docs"), ".md")) {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        for (piece, line, block) in blocks(&text) {
            count += 1;
            let yaml = if piece { completed(&block) } else { block };
            let source = Pretended(Memory::new().with("gateway.yaml", yaml));
            if let Err(failure) =
                load(&Inputs { file: Path::new("gateway.yaml"), source: &source, env: &[], vocabulary: &VOCABULARY })
            {
                panic!("{}, the block of line {line}:\n{failure}", file.display());
            }
        }
    }
    assert!(count >= 10, "only {count} blocks");
}
