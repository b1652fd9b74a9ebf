//! Noticing that files may have changed. It watches folders, because editors and Kubernetes replace files instead of writing to
//! them, and it looks again from time to time, because some file systems tell nothing. Whether anything really changed is
//! decided by whoever reads the files.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::reload::Seen;
use crate::wait::at_most;

/// How long it must be quiet before files are read: a tool that writes several is not read in the middle.
const QUIET: Duration = Duration::from_millis(100);
/// But after this many unquiet moments they are read all the same.
const PATIENCE: usize = 20;
/// How often to look without having been told.
pub(crate) const POLL: Duration = Duration::from_secs(5);

/// Watches the files of a configuration.
pub(crate) struct Watch {
    /// `None` where the system offers no way; then looking from time to time must do.
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    wanted: Arc<Mutex<Wanted>>,
    changes: mpsc::Receiver<()>,
    poll: Duration,
}

impl Watch {
    /// Watches nothing yet.
    pub(crate) fn new(poll: Duration) -> Self {
        let (notice, changes) = mpsc::channel(1);
        let wanted = Arc::<Mutex<Wanted>>::default();
        let names = Arc::clone(&wanted);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let names = names.lock().unwrap_or_else(PoisonError::into_inner);
            if event.is_ok_and(|event| names.concerns(&event)) {
                // A full channel has the same thing to say.
                notice.try_send(()).ok();
            }
        });
        if let Err(error) = &watcher {
            tracing::warn!(%error, ?poll, "files cannot be watched; they are looked at from time to time");
        }
        Self { watcher: watcher.ok(), folders: BTreeSet::new(), wanted, changes, poll }
    }

    /// Watches what was looked at when the configuration was last read, and nothing else.
    pub(crate) fn follow(&mut self, seen: &Seen) {
        let wanted = Wanted::of(seen);
        let folders = wanted.folders.clone();
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = wanted;
        let Some(watcher) = &mut self.watcher else { return };
        // All of them anew: a folder that was replaced keeps its name, but the old one is what is being watched.
        for folder in &self.folders {
            watcher.unwatch(folder).ok();
        }
        self.folders =
            folders.into_iter().filter(|folder| watcher.watch(folder, RecursiveMode::NonRecursive).is_ok()).collect();
    }

    /// Returns when files may have changed and it has been quiet for a moment, or when it is time to look anyway.
    pub(crate) async fn changed(&mut self) {
        if at_most(self.poll, self.changes.recv()).await.is_none() {
            return;
        }
        for _ in 0..PATIENCE {
            if at_most(QUIET, self.changes.recv()).await.is_none() {
                return;
            }
        }
    }
}

/// What to listen for.
#[derive(Debug, Default)]
struct Wanted {
    folders: BTreeSet<PathBuf>,
    /// Names of files and links, in whatever folder: rather one look too many.
    names: BTreeSet<OsString>,
    /// Extensions of patterns such as `conf.d/*.yaml`.
    extensions: BTreeSet<OsString>,
}

impl Wanted {
    fn of(seen: &Seen) -> Self {
        let mut wanted = Self::default();
        for file in seen.files.keys() {
            wanted.add_with_links(file);
        }
        for pattern in seen.lists.keys() {
            wanted.folders.insert(folder_of(pattern));
            wanted.extensions.extend(pattern.extension().map(OsStr::to_owned));
        }
        wanted
    }

    /// A file, and every link on the way to it. The number of links is bounded, as they may form a circle.
    fn add_with_links(&mut self, file: &Path) {
        let mut path = file.to_owned();
        for _ in 0..16 {
            let folder = folder_of(&path);
            self.names.extend(path.file_name().map(OsStr::to_owned));
            self.folders.insert(folder.clone());
            match fs::read_link(&path) {
                Ok(target) => path = folder.join(target),
                Err(_) => break,
            }
        }
        // Links among the folders themselves, such as Kubernetes' `..data`.
        if let Ok(real) = fs::canonicalize(file) {
            self.folders.insert(folder_of(&real));
        }
    }

    fn concerns(&self, event: &Event) -> bool {
        // Reading the files is an event too, and must not be taken for a change.
        let reading = matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write));
        !reading && (event.need_rescan() || event.paths.iter().any(|path| self.names_path(path)))
    }

    fn names_path(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default();
        // Kubernetes swaps the link `..data`; a folder that is watched may itself be moved or removed.
        name == "..data"
            || self.names.contains(name)
            || self.folders.contains(path)
            || path.extension().is_some_and(|extension| self.extensions.contains(extension))
    }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Long enough never to come.
    const NEVER: Duration = Duration::from_hours(1);

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tidegate-watch-{name}-{}", std::process::id()));
            fs::remove_dir_all(&path).ok();
            fs::create_dir_all(&path).expect("a folder");
            Self(path)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(&path, text).expect("written");
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    fn seen(files: &[&Path], lists: &[&Path]) -> Seen {
        let all = |paths: &[&Path]| paths.iter().map(|path| (path.to_path_buf(), None)).collect::<BTreeMap<_, _>>();
        Seen { files: all(files), lists: all(lists) }
    }

    fn watching(seen: &Seen) -> Watch {
        let mut watch = Watch::new(NEVER);
        watch.follow(seen);
        watch
    }

    #[tokio::test]
    async fn a_file_that_an_editor_renames_into_place_is_noticed() {
        let folder = Folder::new("rename");
        let file = folder.write("gateway.yaml", "old");
        let mut watch = watching(&seen(&[&file], &[]));
        let new = folder.write("gateway.yaml.tmp", "new");
        fs::rename(new, &file).expect("renamed");
        watch.changed().await;
    }

    #[tokio::test]
    async fn the_swap_of_a_kubernetes_volume_is_noticed() {
        let folder = Folder::new("kubernetes");
        folder.write("..one/gateway.yaml", "old");
        folder.write("..two/gateway.yaml", "new");
        let at = |name: &str| folder.0.join(name);
        symlink("..one", at("..data")).expect("a link");
        symlink("..data/gateway.yaml", at("gateway.yaml")).expect("a link");
        let mut watch = watching(&seen(&[&at("gateway.yaml")], &[]));
        symlink("..two", at("..data_tmp")).expect("a link");
        fs::rename(at("..data_tmp"), at("..data")).expect("swapped");
        watch.changed().await;
    }

    #[tokio::test]
    async fn the_target_of_a_link_elsewhere_is_watched_too() {
        let (here, there) = (Folder::new("link"), Folder::new("target"));
        let target = there.write("real.yaml", "old");
        let link = here.0.join("gateway.yaml");
        symlink(&target, &link).expect("a link");
        let mut watch = watching(&seen(&[&link], &[]));
        there.write("real.yaml", "new");
        watch.changed().await;
    }

    #[tokio::test]
    async fn a_new_file_that_an_include_means_is_noticed() {
        let folder = Folder::new("include");
        let file = folder.write("gateway.yaml", "old");
        folder.write("conf.d/a.yaml", "a");
        let mut watch = watching(&seen(&[&file], &[&folder.0.join("conf.d/*.yaml")]));
        folder.write("conf.d/b.yaml", "b");
        watch.changed().await;
    }

    #[test]
    fn other_files_and_mere_reading_are_no_change() {
        let wanted = Wanted::of(&seen(&[Path::new("/etc/tidegate/gateway.yaml")], &[]));
        let event = |kind: EventKind, path: &str| Event::new(kind).add_path(path.into());
        let write = EventKind::Modify(notify::event::ModifyKind::Any);
        let open = EventKind::Access(AccessKind::Open(AccessMode::Read));
        assert!(wanted.concerns(&event(write, "/etc/tidegate/gateway.yaml")));
        assert!(!wanted.concerns(&event(write, "/etc/tidegate/access.log")));
        assert!(!wanted.concerns(&event(open, "/etc/tidegate/gateway.yaml")));
    }

    #[tokio::test(start_paused = true)]
    async fn without_any_notice_it_looks_again_after_a_while() {
        let mut watch = Watch::new(POLL);
        watch.changed().await;
    }
}
