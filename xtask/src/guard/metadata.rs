//! What cargo says about the workspace and everything below it, as far as the guards ask.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::cargo;

/// The workspace's packages, and a way to ask what each of them links.
pub(super) struct Metadata {
    root: PathBuf,
    described: Described,
}

#[derive(Deserialize)]
struct Described {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
}

#[derive(Deserialize)]
pub(super) struct Package {
    id: String,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) license: Option<String>,
    pub(super) dependencies: Vec<Dependency>,
}

/// One line of a manifest.
#[derive(Deserialize)]
pub(super) struct Dependency {
    pub(super) name: String,
    /// `None` for a path inside the workspace.
    pub(super) source: Option<String>,
    /// `None` for an ordinary dependency, otherwise `dev` or `build`.
    pub(super) kind: Option<String>,
}

/// A package as the tree names it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Linked {
    pub(super) name: String,
    pub(super) version: String,
}

impl Metadata {
    pub(super) fn of(root: &Path) -> Result<Self> {
        let described = locked(root, &["metadata", "--format-version", "1", "--filter-platform", &host_platform()?])?;
        let described = serde_json::from_str(&described).context("reading what cargo metadata printed")?;
        Ok(Self { root: root.to_path_buf(), described })
    }

    pub(super) fn package(&self, name: &str) -> Option<&Package> {
        self.described.packages.iter().find(|package| package.name == name)
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Package> {
        self.described.packages.iter().filter(|package| self.described.workspace_members.contains(&package.id))
    }

    /// Everything that the package called `name` links into a program, directly or not, itself included.
    /// What only its tests or build scripts need does not count.
    pub(super) fn linked_by(&self, name: &str) -> Result<BTreeSet<Linked>> {
        self.tree(&["--package", name, "--edges", "normal,no-proc-macro"])
    }

    /// Everything that any crate of the workspace is built or tested with on this platform.
    ///
    /// Not the lock file's packages: that also lists what no chosen feature asks for.
    pub(super) fn everything(&self) -> Result<BTreeSet<Linked>> {
        self.tree(&["--workspace", "--edges", "all"])
    }

    pub(super) fn described(&self, linked: &Linked) -> Option<&Package> {
        let mut packages = self.described.packages.iter();
        packages.find(|package| package.name == linked.name && package.version == linked.version)
    }

    fn tree(&self, arguments: &[&str]) -> Result<BTreeSet<Linked>> {
        let mut command = vec!["tree", "--prefix", "none", "--format", "{p}"];
        command.extend(arguments);
        Ok(locked(&self.root, &command)?.lines().filter_map(linked).collect())
    }
}

/// Reads `name v1.2.3`, after which may come a path or a mark.
fn linked(line: &str) -> Option<Linked> {
    let mut words = line.split_whitespace();
    let name = words.next()?.to_owned();
    let version = words.next()?.strip_prefix('v')?.to_owned();
    Some(Linked { name, version })
}

fn locked(root: &Path, arguments: &[&str]) -> Result<String> {
    cargo::printed(cargo::command(root).args(arguments).arg("--locked"))
}

fn host_platform() -> Result<String> {
    let text = cargo::printed(Command::new("rustc").arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names its host")?.to_owned())
}
