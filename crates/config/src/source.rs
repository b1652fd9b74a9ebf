//! Where files come from: the one way by which the configuration reads any, so that tests need no disk and the watcher
//! knows every file that mattered.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Reads files for the configuration.
pub trait Source {
    /// The whole content of one file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The files that match a pattern with at most one `*` in the file name, sorted by name; none is no error.
    fn list(&self, pattern: &Path) -> io::Result<Vec<PathBuf>>;
}

/// The real file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Source for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn list(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let folder = match pattern.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = pattern.with_file_name(entry?.file_name());
            if matches(pattern, &path) && path.is_file() {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Files in memory, for tests.
#[derive(Debug, Clone, Default)]
pub struct Memory(BTreeMap<PathBuf, Vec<u8>>);

impl Memory {
    /// No file at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more file.
    #[must_use]
    pub fn with(mut self, path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) -> Self {
        self.0.insert(path.into(), content.into());
        self
    }
}

impl Source for Memory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.get(path).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn list(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.0.keys().filter(|path| matches(pattern, path)).cloned().collect())
    }
}

/// Whether `path` lies in the pattern's folder and its name fits around the `*`. Hidden files are never meant:
/// editors and Kubernetes keep their own there.
fn matches(pattern: &Path, path: &Path) -> bool {
    if pattern.parent() != path.parent() {
        return false;
    }
    let (Some(pattern), Some(name)) = (file_name(pattern), file_name(path)) else { return false };
    let Some((before, after)) = pattern.split_once('*') else { return pattern == name };
    let hidden = name.starts_with('.') && !before.starts_with('.');
    !hidden && name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
}

fn file_name(path: &Path) -> Option<&str> {
    path.file_name().and_then(|name| name.to_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_part_of_a_file_name_in_that_folder_only() {
        let source = Memory::new()
            .with("conf.d/b.yaml", "")
            .with("conf.d/a.yaml", "")
            .with("conf.d/a.yml", "")
            .with("conf.d/.hidden.yaml", "")
            .with("conf.d/deep/c.yaml", "");
        let found = source.list(Path::new("conf.d/*.yaml")).expect("memory never fails");
        assert_eq!(found, [Path::new("conf.d/a.yaml"), Path::new("conf.d/b.yaml")]);
    }

    #[test]
    fn a_folder_that_does_not_exist_holds_no_files() {
        assert_eq!(Disk.list(Path::new("/nowhere/at/all/*.yaml")).expect("no error"), Vec::<PathBuf>::new());
    }
}
