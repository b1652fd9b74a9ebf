//! Where the configuration comes from, and whether it is still what was last read. It remembers hashes of contents, not times: a
//! file that was touched is not a new configuration, and one that was replaced within the clock's grain is.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use tidegate_config::Source;

use crate::cli::input::{self, Checked, Refused};

/// What a gateway is configured by.
pub(crate) struct Origin {
    pub(crate) file: PathBuf,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) source: Box<dyn Source>,
}

impl Origin {
    /// Reads and checks, and tells what was looked at on the way, whatever came of it.
    pub(crate) fn load(&self) -> (Result<Checked, Refused>, Seen) {
        let recorder = Recorder { source: &*self.source, seen: RefCell::default() };
        let loaded = input::load(&self.file, &self.environment, &recorder);
        (loaded, recorder.seen.into_inner())
    }

    /// Whether everything still reads as it did then.
    pub(crate) fn is_unchanged(&self, seen: &Seen) -> bool {
        let file = |(path, hash): (&PathBuf, &Option<u64>)| hash_of(&self.source.read(path)) == *hash;
        let list = |(pattern, hash): (&PathBuf, &Option<u64>)| hash_of(&self.source.list(pattern)) == *hash;
        seen.files.iter().all(file) && seen.lists.iter().all(list)
    }
}

/// Which files were read and which folders were listed, and what was in them; `None` is what could not be read.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    pub(crate) files: BTreeMap<PathBuf, Option<u64>>,
    pub(crate) lists: BTreeMap<PathBuf, Option<u64>>,
}

struct Recorder<'a> {
    source: &'a dyn Source,
    seen: RefCell<Seen>,
}

impl Source for Recorder<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let content = self.source.read(path);
        self.seen.borrow_mut().files.insert(path.to_owned(), hash_of(&content));
        content
    }

    fn list(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let found = self.source.list(pattern);
        self.seen.borrow_mut().lists.insert(pattern.to_owned(), hash_of(&found));
        found
    }
}

fn hash_of<T: Hash>(content: &io::Result<T>) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    content.as_ref().ok()?.hash(&mut hasher);
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tidegate_config::source::Memory;

    use super::*;

    /// Files that a test may replace.
    #[derive(Clone, Default)]
    struct Files(Arc<Mutex<Memory>>);

    impl Files {
        fn write(&self, path: &str, text: &str) {
            let mut files = self.0.lock().expect("not poisoned");
            *files = std::mem::take(&mut *files).with(path, text);
        }
    }

    impl Source for Files {
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            self.0.lock().expect("not poisoned").read(path)
        }

        fn list(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
            self.0.lock().expect("not poisoned").list(pattern)
        }
    }

    const GATEWAY: &str = "include: [conf.d/*.yaml]\nservices: { a: { url: http://127.0.0.1:1 } }\n";
    const ROUTE: &str = "routes: [{ match: { path: / }, service: a }]\n";

    fn origin() -> (Files, Origin) {
        let files = Files::default();
        files.write("/etc/gateway.yaml", GATEWAY);
        files.write("/etc/conf.d/a.yaml", ROUTE);
        let origin =
            Origin { file: "/etc/gateway.yaml".into(), environment: Vec::new(), source: Box::new(files.clone()) };
        (files, origin)
    }

    #[test]
    fn what_is_written_again_as_it_was_is_no_change() {
        let (files, origin) = origin();
        let (loaded, seen) = origin.load();
        assert!(loaded.is_ok());
        files.write("/etc/gateway.yaml", GATEWAY);
        assert!(origin.is_unchanged(&seen));
    }

    #[test]
    fn a_change_of_an_included_file_is_one() {
        let (files, origin) = origin();
        let (_, seen) = origin.load();
        files.write("/etc/conf.d/a.yaml", &ROUTE.replace("path: /", "path: /b"));
        assert!(!origin.is_unchanged(&seen));
    }

    #[test]
    fn a_new_file_that_an_include_means_is_one() {
        let (files, origin) = origin();
        let (_, seen) = origin.load();
        files.write("/etc/conf.d/b.yaml", "routes: [{ match: { path: /b }, service: a }]\n");
        assert!(!origin.is_unchanged(&seen));
        files.write("/etc/other.yaml", "not meant");
    }

    #[test]
    fn a_configuration_that_was_refused_is_looked_at_again_when_its_files_change() {
        let (files, origin) = origin();
        files.write("/etc/conf.d/a.yaml", "routes: [{ match: { path: / }, service: a }");
        let (loaded, seen) = origin.load();
        assert!(loaded.is_err());
        assert!(origin.is_unchanged(&seen));
        files.write("/etc/conf.d/a.yaml", ROUTE);
        assert!(!origin.is_unchanged(&seen));
        assert!(origin.load().0.is_ok());
    }
}
