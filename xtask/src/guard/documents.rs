//! Rules about manifests and documents: every dependency is accounted for, every link leads somewhere.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::metadata::Metadata;

const ACCOUNTS: &str = "docs/dependencies.md";

pub(super) fn violations(root: &Path, metadata: &Metadata) -> Result<Vec<String>> {
    let mut violations = accounts(root, metadata)?;
    violations.extend(lints(root)?);
    for document in documents(root)? {
        violations.extend(broken_links(root, &document)?);
        violations.extend(gone_places(root, &document)?);
    }
    Ok(violations)
}

/// The workspace's list of dependencies, the lines about them and what the crates use must be the same set.
fn accounts(root: &Path, metadata: &Metadata) -> Result<Vec<String>> {
    let declared = declared_dependencies(&read(&root.join("Cargo.toml"))?);
    let accounted = accounted_dependencies(&read(&root.join(ACCOUNTS))?);
    let used: BTreeSet<String> = metadata
        .members()
        .flat_map(|package| &package.dependencies)
        .filter(|dependency| dependency.source.is_some())
        .map(|dependency| dependency.name.clone())
        .collect();
    let mut violations = Vec::new();
    let mut missing = |from: &BTreeSet<String>, to: &BTreeSet<String>, complaint: &str| {
        violations.extend(from.difference(to).map(|name| format!("{name} {complaint}")));
    };
    missing(&declared, &accounted, "is a dependency without a line in docs/dependencies.md");
    missing(&accounted, &declared, "has a line in docs/dependencies.md, but is no dependency");
    missing(&declared, &used, "is declared in Cargo.toml, but no crate uses it");
    missing(&used, &declared, "is used by a crate, but not declared in the workspace's Cargo.toml");
    Ok(violations)
}

/// The names in `[workspace.dependencies]` that come from outside.
fn declared_dependencies(manifest: &str) -> BTreeSet<String> {
    manifest
        .lines()
        .skip_while(|line| *line != "[workspace.dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.contains("path = "))
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// The names at the start of the table's rows: `| [name](...) | why |` or `` | `name` | why | ``.
fn accounted_dependencies(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|rest| rest.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// Every member takes the workspace's lints.
fn lints(root: &Path) -> Result<Vec<String>> {
    let mut manifests: Vec<PathBuf> =
        ["bench", "e2e", "xtask"].iter().map(|name| root.join(name).join("Cargo.toml")).collect();
    for entry in fs::read_dir(root.join("crates"))? {
        manifests.push(entry?.path().join("Cargo.toml"));
    }
    let mut violations = Vec::new();
    for manifest in manifests.iter().filter(|manifest| manifest.exists()) {
        if !read(manifest)?.contains("[lints]\nworkspace = true") {
            violations.push(format!("{} does not take the workspace's lints", relative(root, manifest)));
        }
    }
    Ok(violations)
}

/// The Markdown files at the top and below `docs/`.
fn documents(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.join("docs"), root.join("examples")];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    for entry in fs::read_dir(root)? {
        found.push(entry?.path());
    }
    found.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    Ok(found)
}

/// Links to files of the repository that are not there. Links to the web are not followed.
fn broken_links(root: &Path, document: &Path) -> Result<Vec<String>> {
    let folder = document.parent().context("a document lies in a folder")?;
    let text = read(document)?;
    let broken = link_targets(&text).into_iter().filter(|target| !folder.join(target).exists());
    Ok(broken.map(|target| format!("{}: the link to {target} leads nowhere", relative(root, document))).collect())
}

fn link_targets(text: &str) -> Vec<&str> {
    let mut fenced = false;
    let mut targets = Vec::new();
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        if fenced {
            continue;
        }
        let links = line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        let local = links.filter(|target| !target.contains("://") && !target.starts_with(['#', '<']));
        targets.extend(local.filter_map(|target| target.split('#').next()));
    }
    targets
}

/// Files and folders of the sources that a document names in code quotes, and that are not there any more.
fn gone_places(root: &Path, document: &Path) -> Result<Vec<String>> {
    let text = read(document)?;
    let quoted = text.split('`').skip(1).step_by(2);
    let places = quoted.filter(|word| ["crates/", "xtask/", "bench/"].iter().any(|folder| word.starts_with(folder)));
    let gone = places.filter(|place| !root.join(place).exists());
    Ok(gone.map(|place| format!("{} names {place}, which is not there", relative(root, document))).collect())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::{accounted_dependencies, declared_dependencies, link_targets};

    #[test]
    fn only_the_workspaces_outside_dependencies_count_as_declared() {
        let manifest =
            "[workspace.dependencies]\nown = { path = \"own\" }\n\nbytes = { version = \"1\" }\n\n[x]\na = 1\n";
        assert_eq!(declared_dependencies(manifest).into_iter().collect::<Vec<_>>(), ["bytes"]);
    }

    #[test]
    fn a_row_of_the_table_accounts_for_one_dependency() {
        let text = "| name | why |\n|---|---|\n| `bytes` | shared buffers |\n";
        assert_eq!(accounted_dependencies(text).into_iter().collect::<Vec<_>>(), ["bytes"]);
    }

    #[test]
    fn only_links_to_files_of_the_repository_are_checked() {
        let text = "[a](docs/a.md#part) [b](https://example.com) [c](#here)\n```\n[d](gone.md)\n```\n";
        assert_eq!(link_targets(text), ["docs/a.md"]);
    }
}
