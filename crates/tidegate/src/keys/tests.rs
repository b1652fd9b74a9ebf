use std::fs;
use std::path::PathBuf;

use super::*;

/// A folder of the test's own.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tidegate-keys-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.join("keys")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn at(path: &Path, second: u64) -> Store<'_> {
    Store { path, wait: true, now: Duration::from_secs(second) }
}

/// What the gateway would say to somebody who presents this key.
pub(crate) fn told(path: &Path, key: &str, second: u64) -> Result<Arc<Record>, KeyError> {
    let digest = digest::digest(&digest::SHA256, key.as_bytes()).as_ref().try_into().expect("32 bytes");
    let journal = read(path).expect("a file of keys");
    journal.index().find(&digest, Duration::from_secs(second)).cloned()
}

fn draft(name: &str) -> Draft {
    Draft { name: name.into(), ..Draft::default() }
}

#[test]
fn a_new_key_is_valid_and_the_file_does_not_have_it() {
    let folder = Folder::new("new");
    let file = folder.file();
    let Issued { key, record } =
        at(&file, 100).create(&Draft { roles: vec!["deploy".into()], ..draft("ci") }).expect("made");
    assert_eq!(told(&file, &key, 100), Ok(Arc::clone(&record)));
    assert_eq!((&*record.name, &*record.roles[0], record.created), ("ci", "deploy", 100));
    assert_eq!(tidegate_core::keys::id_of(key.as_bytes()), Ok(&*record.id));
    let text = fs::read_to_string(&file).expect("a file");
    let secret = key.get(12..55).expect("a secret");
    assert!(!text.contains(secret), "{text}");
    assert!(!shown(&record, Duration::ZERO).to_string().contains(secret));
    assert_ne!(at(&file, 100).create(&draft("ci")).expect("another").key, key);
}

#[test]
fn a_key_goes_through_its_life() {
    let folder = Folder::new("life");
    let file = folder.file();
    let Issued { key: first, record } =
        at(&file, 0).create(&Draft { expires: Ends::At(50), ..draft("ci") }).expect("made");
    let id = &*record.id;
    let Issued { key: second, record } = at(&file, 10).rotate(id, Duration::from_secs(5)).expect("rotated");
    assert_eq!((record.rotated, &*record.id), (Some(10), id));
    assert!(told(&file, &first, 14).is_ok() && told(&file, &second, 14).is_ok());
    assert_eq!(told(&file, &first, 15), Err(KeyError::Expired));
    assert_eq!(told(&file, &second, 50), Err(KeyError::Expired));
    assert!(matches!(at(&file, 50).rotate(id, Duration::ZERO), Err(Refused::Ended(KeyError::Expired))));
    at(&file, 60).expire(id, Ends::Never).expect("it lives again");
    assert!(told(&file, &second, 1_000).is_ok());
    assert_eq!(at(&file, 70).revoke(id).expect("revoked").revoked, Some(70));
    assert_eq!(told(&file, &second, 70), Err(KeyError::Revoked));
    let store = at(&file, 80);
    let after = [store.revoke(id).err(), store.expire(id, Ends::Never).err(), store.rotate(id, Duration::ZERO).err()];
    assert!(after.iter().all(|refused| matches!(refused, Some(Refused::Ended(KeyError::Revoked)))), "{after:?}");
}

#[test]
fn nothing_is_done_to_a_key_that_is_not_there() {
    let folder = Folder::new("none");
    let file = folder.file();
    let store = at(&file, 0);
    assert!(matches!(store.revoke("aaaaaaaa"), Err(Refused::File(_))));
    assert!(!file.exists(), "only a new key makes a file");
    store.create(&draft("ci")).expect("made");
    let refused = [
        store.one("aaaaaaaa").err(),
        store.revoke("aaaaaaaa").err(),
        store.expire("aaaaaaaa", Ends::Never).err(),
        store.rotate("aaaaaaaa", Duration::ZERO).err(),
    ];
    assert!(refused.iter().all(|refused| matches!(refused, Some(Refused::NoSuchKey))), "{refused:?}");
}

#[test]
fn a_draft_that_makes_no_sense_leaves_no_file() {
    let folder = Folder::new("sense");
    let file = folder.file();
    for wrong in [
        draft(""),
        draft("a\nb"),
        Draft { burst: Some(5), ..draft("ci") },
        Draft { expires: Ends::At(99), ..draft("ci") },
        Draft { expires: Ends::In(Duration::ZERO), ..draft("ci") },
    ] {
        assert!(matches!(at(&file, 100).create(&wrong), Err(Refused::Wrong(_))), "{wrong:?}");
    }
    assert!(!file.exists());
}

#[test]
fn another_writer_is_not_waited_for_where_nobody_may_wait() {
    let folder = Folder::new("busy");
    let file = folder.file();
    at(&file, 0).create(&draft("ci")).expect("made");
    let holder = fs::File::open(&file).expect("open");
    holder.lock().expect("locked");
    assert!(matches!(Store { wait: false, ..at(&file, 0) }.create(&draft("ci")), Err(Refused::Busy)));
}
