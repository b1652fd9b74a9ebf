//! `cargo xtask documents`: every configuration that people may copy, from `examples/`, `deploy/` and the documents' YAML
//! blocks, passes `tidegate check`. A block that is only a part of a configuration is opened with ```` ```yaml fragment ````.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::cargo;

pub(crate) fn run(root: &Path) -> Result<()> {
    let gateway = cargo::build(root, "dev", &["--package", "tidegate"])?.join("tidegate");
    let mut configurations = files(&root.join("examples"), is_configuration)?;
    configurations.push(root.join("deploy/tidegate.yaml"));
    configurations.extend(blocks_as_files(root)?);
    let mut complaints = Vec::new();
    for configuration in &configurations {
        let output = Command::new(&gateway).arg("check").arg(configuration).output()?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            complaints.push(format!("{}:\n{}", configuration.display(), String::from_utf8_lossy(&said)));
        }
    }
    ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
    println!("documents: {} configurations pass `check`", configurations.len());
    Ok(())
}

/// Included files are parts: they lie in folders that end in `.d`.
fn is_configuration(path: &Path) -> bool {
    let included = path.components().any(|part| part.as_os_str().to_string_lossy().ends_with(".d"));
    !included && has_extension(path, &["yaml", "yml", "json"])
}

/// Writes each block to a file of its own, named after its document and line.
fn blocks_as_files(root: &Path) -> Result<Vec<PathBuf>> {
    let folder = root.join("target/documents");
    fs::create_dir_all(&folder)?;
    let mut documents = files(&root.join("docs"), |path| has_extension(path, &["md"]))?;
    documents.push(root.join("README.md"));
    let mut written = Vec::new();
    for document in documents {
        let name = document.file_stem().unwrap_or_default().to_string_lossy();
        let text = fs::read_to_string(&document).with_context(|| format!("reading {}", document.display()))?;
        for (line, block) in blocks(&text) {
            lend_certificates(root, &folder, &block)?;
            let path = folder.join(format!("{name}-line-{line}.yaml"));
            fs::write(&path, block)?;
            written.push(path);
        }
    }
    Ok(written)
}

/// Blocks speak of certificates that only their readers have: under each such name lies the one of the examples.
fn lend_certificates(root: &Path, folder: &Path, block: &str) -> Result<()> {
    let names = block.split([' ', ',', '"', '}', '\n']).filter(|word| word.starts_with("certs/"));
    for name in names {
        let own = if name.contains(".key") { "localhost.key" } else { "localhost.pem" };
        let place = folder.join(name);
        fs::create_dir_all(place.parent().unwrap_or(folder))?;
        fs::copy(root.join("examples/certs").join(own), place)?;
    }
    Ok(())
}

/// The YAML blocks of a document, each with the line of its fence.
fn blocks(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (line, number) in text.lines().zip(1..) {
        open = match open.take() {
            Some(block) if line.trim() == "```" => {
                found.push(block);
                None
            }
            Some((start, block)) => Some((start, block + line + "\n")),
            None if line.trim() == "```yaml" => Some((number, String::new())),
            None => None,
        };
    }
    found
}

/// All files below `folder` that are wanted; none if there is no such folder.
fn files(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
        let (below, here): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| path.is_dir());
        folders.extend(below);
        found.extend(here.into_iter().filter(|path| wanted(path)));
    }
    found.sort();
    Ok(found)
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension().and_then(|extension| extension.to_str()).is_some_and(|extension| extensions.contains(&extension))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{blocks, is_configuration};

    #[test]
    fn whole_blocks_are_found_and_parts_are_passed_over() {
        let text = "a\n```yaml\nb: 1\nc: 2\n```\n```yaml fragment\nd: 3\n```\n```\n```\n";
        assert_eq!(blocks(text), [(2, "b: 1\nc: 2\n".to_owned())]);
    }

    #[test]
    fn files_that_are_included_are_no_configurations() {
        assert!(is_configuration(Path::new("examples/a/gateway.yaml")));
        assert!(!is_configuration(Path::new("examples/a/conf.d/users.yaml")));
        assert!(!is_configuration(Path::new("examples/README.md")));
    }
}
