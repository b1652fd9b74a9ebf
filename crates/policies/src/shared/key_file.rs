//! A file of API keys that several processes open at the same time: writers append a line under a lock, readers follow. It must
//! lie on a file system of this machine, for the lock.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tidegate_core::keys::{Broken, Entry, Index, Journal};

/// Bytes of a line. The longest that a valid record can become is shorter.
const LONGEST_LINE: u64 = 64 * 1024;

/// How to open a file for a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// Make it, for its owner alone, if it is not there.
    pub create: bool,
    /// Wait until other writers are done; otherwise they are an error of the kind [`ErrorKind::WouldBlock`].
    pub wait: bool,
}

/// What the file says now.
pub fn read(path: &Path) -> io::Result<Journal> {
    Ok(Reading::default().on(&File::open(path)?)?.journal)
}

/// Adds the line that `decide` makes of what the file says, and gives what else it made. Nobody else changes the file
/// meanwhile, and the line is on the disk when this returns.
pub fn change<T, E: From<io::Error>>(
    path: &Path,
    opening: Opening,
    decide: impl FnOnce(&Index) -> Result<(Entry, T), E>,
) -> Result<T, E> {
    let file = locked(path, opening)?;
    let Reading { mut journal, offset, .. } = Reading::default().on(&file)?;
    if journal.index().is_empty() && !journal.broken().is_empty() {
        return Err(io::Error::new(ErrorKind::InvalidData, "this is not a file of keys").into());
    }
    let (entry, made) = decide(journal.index())?;
    let line = entry.to_line().map_err(io::Error::from)?;
    let is_torn = append(path, &file, (offset, &line))?;
    journal.read(&line);
    if journal.is_wasteful()
        && !is_torn
        && let Err(error) = condense(path, &file, &journal)
    {
        // The change itself is done, and the next one tries again.
        tracing::warn!(file = %path.display(), %error, "a file of keys could not be written anew without its dead lines");
    }
    Ok(made)
}

/// Opens the file and locks it. Who waited for the lock may hold it on a file that was replaced meanwhile: that is no use.
fn locked(path: &Path, opening: Opening) -> io::Result<File> {
    loop {
        let file = OpenOptions::new().read(true).append(true).create(opening.create).mode(0o600).open(path)?;
        if opening.wait {
            file.lock()?;
        } else {
            file.try_lock()?;
        }
        let is_named = |named: fs::Metadata| Ok(identity(&named) == identity(&file.metadata()?));
        match fs::metadata(path).and_then(is_named) {
            Ok(true) => return Ok(file),
            Ok(false) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

/// All of the line or nothing. `offset` is the end of the last whole line. `true` if a line without an end stood there, which a
/// writer that died has left, or an editor: it has one now, and is read the next time.
fn append(path: &Path, mut file: &File, (offset, line): (u64, &[u8])) -> io::Result<bool> {
    let length = file.metadata()?.len();
    let is_torn = length > offset;
    let start: &[u8] = if is_torn { b"\n" } else { b"" };
    if let Err(error) = file.write_all(&[start, line].concat()).and_then(|()| file.sync_all()) {
        file.set_len(length)?;
        return Err(error);
    }
    if length == 0 {
        sync_folder(path)?;
    }
    Ok(is_torn)
}

/// Replaces the file by one that means the same in fewer lines.
fn condense(path: &Path, old: &File, journal: &Journal) -> io::Result<()> {
    // What is replaced is the file itself, not a link to it.
    let path = fs::canonicalize(path)?;
    let mut beside = path.clone().into_os_string();
    beside.push(".tmp");
    let beside = PathBuf::from(beside);
    let written = write_anew(&beside, old, journal).and_then(|()| fs::rename(&beside, &path));
    if written.is_err() {
        fs::remove_file(&beside).ok();
    }
    written.and_then(|()| sync_folder(&path))
}

fn write_anew(path: &Path, old: &File, journal: &Journal) -> io::Result<()> {
    let mut text = Vec::new();
    for entry in journal.condensed() {
        text.extend(entry.to_line()?);
    }
    let before = old.metadata()?;
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // The gateway must be able to read it still, whoever runs this.
    fchown(&file, Some(before.uid()), Some(before.gid()))?;
    file.set_permissions(before.permissions())?;
    file.write_all(&text)?;
    file.sync_all()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// A file whatever it is called.
fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Reads a file of keys again and again, and publishes what it says.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    seen: Seen,
    reading: Reading,
    published: Arc<ArcSwap<Index>>,
}

/// What a file looks like from outside. Files that look the same are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    identity: (u64, u64),
    length: u64,
    modified: (i64, i64),
}

impl Seen {
    fn of(metadata: &fs::Metadata) -> Self {
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Self { identity: identity(metadata), length: metadata.len(), modified }
    }
}

impl Follower {
    /// Reads the file for the first time.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // What is written after this look is found by the next.
        let seen = Seen::of(&file.metadata()?);
        let reading = Reading::default().on(&file)?;
        let published = Arc::new(ArcSwap::new(Arc::clone(reading.journal.index())));
        Ok(Self { path: path.to_owned(), seen, reading, published })
    }

    /// Where the newest keys are found, now and after every look.
    pub fn published(&self) -> Arc<ArcSwap<Index>> {
        Arc::clone(&self.published)
    }

    /// Lines of the file that cannot be read, the first hundred of them.
    pub fn broken(&self) -> &[Broken] {
        self.reading.journal.broken()
    }

    /// Looks whether the file has changed, and publishes what is new. `true` if it has. After an error the keys are those that were
    /// known before, and the next look tries again.
    pub fn poll(&mut self) -> io::Result<bool> {
        if Seen::of(&fs::metadata(&self.path)?) == self.seen {
            return Ok(false);
        }
        let file = File::open(&self.path)?;
        let seen = Seen::of(&file.metadata()?);
        let has_grown = seen.identity == self.seen.identity && seen.length > self.seen.length;
        let goes_on = has_grown && self.reading.is_still_in(&file)?;
        let so_far = if goes_on { self.reading.clone() } else { Reading::default() };
        self.reading = so_far.on(&file)?;
        self.seen = seen;
        self.published.store(Arc::clone(self.reading.journal.index()));
        Ok(true)
    }
}

/// How far a file is read.
#[derive(Debug, Clone, Default)]
struct Reading {
    journal: Journal,
    /// The end of the last whole line.
    offset: u64,
    /// That line.
    last: Vec<u8>,
}

impl Reading {
    /// Whether the file still has the last line where it was read: it may be another in the same place.
    fn is_still_in(&self, mut file: &File) -> io::Result<bool> {
        let mut there = vec![0; self.last.len()];
        file.seek(SeekFrom::Start(self.offset - there.len() as u64))?;
        file.read_exact(&mut there)?;
        Ok(there == self.last)
    }

    /// Reads what is left, line by line. The last line is waited for until it has its end.
    fn on(mut self, mut file: &File) -> io::Result<Self> {
        file.seek(SeekFrom::Start(self.offset))?;
        let mut reader = BufReader::new(file);
        loop {
            let mut line = Vec::new();
            let read = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? as u64;
            if line.last() == Some(&b'\n') {
                self.journal.read(&line);
                self.offset += read;
                self.last = line;
            } else if read == LONGEST_LINE {
                let why = format!("a line is longer than {LONGEST_LINE} bytes: this is not a file of keys");
                return Err(io::Error::new(ErrorKind::InvalidData, why));
            } else {
                return Ok(self);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::thread;
    use std::time::Duration;

    use tidegate_core::keys::KeyError;

    use super::*;

    const MAKE: Opening = Opening { create: true, wait: true };
    const CHANGE: Opening = Opening { create: false, wait: true };

    /// A folder of the test's own.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tidegate-key-file-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).expect("a folder");
            Self(path)
        }

        /// A file of keys with this text in it.
        fn file(&self, text: &str) -> PathBuf {
            let file = self.0.join("keys");
            fs::write(&file, text).expect("written");
            file
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    fn record(id: usize) -> String {
        let hash = format!("{id:08x}").repeat(8);
        format!("{{\"id\":\"k{id:07}\",\"hash\":\"{hash}\",\"name\":\"n\",\"created\":{id}}}\n")
    }

    fn revocation(id: usize) -> String {
        format!("{{\"id\":\"k{id:07}\",\"revoked\":9}}\n")
    }

    /// So much that the next change makes a new file.
    fn waste() -> String {
        (0..501).map(|id| record(id) + &revocation(id)).collect()
    }

    fn add(file: &Path, line: &str) -> io::Result<()> {
        change(file, MAKE, |_| Ok((Entry::parse(line.trim_end().as_bytes()).expect("an entry"), ())))
    }

    fn append_text(file: &Path, text: &str) {
        OpenOptions::new().append(true).open(file).expect("open").write_all(text.as_bytes()).expect("written");
    }

    fn ids(file: &Path) -> Vec<String> {
        read(file).expect("read").index().records().iter().map(|record| record.id.to_string()).collect()
    }

    fn found(follower: &Follower, id: u32) -> Result<String, KeyError> {
        let digest = id.to_be_bytes().repeat(8).try_into().expect("32 bytes");
        let index = follower.published().load_full();
        index.find(&digest, Duration::from_secs(1)).map(|record| record.id.to_string())
    }

    #[test]
    fn a_file_is_made_for_its_owner_alone_and_only_where_that_was_asked_for() {
        let folder = Folder::new("made");
        let file = folder.0.join("keys");
        let refused = change(&file, CHANGE, |_| -> io::Result<(Entry, ())> { panic!("there is no file") });
        assert_eq!(refused.expect_err("no file").kind(), ErrorKind::NotFound);
        add(&file, &record(1)).expect("made");
        assert_eq!(fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o600);
        assert_eq!(ids(&file), ["k0000001"]);
    }

    #[test]
    fn writers_who_come_together_lose_nothing_even_when_the_file_is_replaced_under_them() {
        let folder = Folder::new("together");
        let file = folder.file(&waste());
        thread::scope(|scope| {
            for writer in 1..=4 {
                let file = &file;
                scope.spawn(move || (0..8).for_each(|key| add(file, &record(1000 * writer + key)).expect("added")));
            }
        });
        let expected: Vec<_> =
            (1..=4).flat_map(|writer| (0..8).map(move |key| format!("k{:07}", 1000 * writer + key))).collect();
        assert_eq!(ids(&file), expected);
        assert_eq!(fs::read_to_string(&file).expect("read").lines().count(), 32, "the dead lines are gone");
        assert_eq!(fs::read_dir(&folder.0).expect("a folder").count(), 1, "no rests");
    }

    #[test]
    fn a_writer_who_may_not_wait_is_told_that_the_file_is_busy() {
        let folder = Folder::new("busy");
        let file = folder.file(&record(1));
        let holder = File::open(&file).expect("open");
        holder.lock().expect("locked");
        let opening = Opening { wait: false, ..CHANGE };
        let refused = change(&file, opening, |_| -> io::Result<(Entry, ())> { panic!("it is locked") });
        assert_eq!(refused.expect_err("busy").kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn what_is_refused_leaves_the_file_as_it_was() {
        let folder = Folder::new("refused");
        let file = folder.file(&record(1));
        let refused = change(&file, CHANGE, |index| -> io::Result<(Entry, ())> {
            assert_eq!(index.len(), 1);
            Err(ErrorKind::Other.into())
        });
        assert!(refused.is_err());
        assert_eq!(fs::read_to_string(&file).expect("read"), record(1));
    }

    #[test]
    fn a_file_of_something_else_is_not_written_to() {
        let folder = Folder::new("else");
        for text in ["version: 1\nroutes: []\n".to_owned(), "x".repeat(70_000)] {
            let file = folder.file(&text);
            assert_eq!(add(&file, &record(1)).expect_err("no file of keys").kind(), ErrorKind::InvalidData);
            assert_eq!(fs::read_to_string(&file).expect("read"), text);
        }
    }

    #[test]
    fn a_line_without_an_end_is_given_one_by_the_next_writer() {
        let folder = Folder::new("torn");
        let file = folder.file(&(record(1) + "{\"id\":\"k2\",\"ha"));
        add(&file, &record(3)).expect("added");
        assert_eq!(ids(&file), ["k0000001", "k0000003"]);
        let journal = read(&file).expect("read");
        assert_eq!(journal.broken().iter().map(|broken| broken.line).collect::<Vec<_>>(), [2]);
        let by_an_editor = folder.file(&(waste() + record(7).trim_end()));
        add(&by_an_editor, &record(8)).expect("added");
        add(&by_an_editor, &record(9)).expect("added");
        assert_eq!(ids(&by_an_editor), ["k0000007", "k0000008", "k0000009"]);
    }

    #[test]
    fn a_new_file_takes_the_rights_of_the_old_one_and_a_link_stays_a_link() {
        let folder = Folder::new("rights");
        let file = folder.file(&waste());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("set");
        let link = folder.0.join("link");
        symlink(&file, &link).expect("a link");
        add(&link, &record(9000)).expect("added");
        assert_eq!(fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).expect("it is there").is_symlink());
        assert_eq!(ids(&file), ["k0009000"]);
    }

    #[test]
    fn a_follower_sees_what_others_append() {
        let folder = Folder::new("append");
        let file = folder.file(&record(1));
        let mut follower = Follower::open(&file).expect("open");
        assert!(!follower.poll().expect("a look"), "nothing is new");
        add(&file, &record(2)).expect("added");
        assert!(found(&follower, 2).is_err(), "nobody has looked");
        assert!(follower.poll().expect("a look"));
        assert_eq!(found(&follower, 2), Ok("k0000002".into()));
        add(&file, &revocation(1)).expect("added");
        assert!(follower.poll().expect("a look"));
        assert_eq!(found(&follower, 1), Err(KeyError::Revoked));
        assert!(!follower.poll().expect("a look"));
    }

    #[test]
    fn a_follower_waits_for_the_end_of_a_line() {
        let folder = Folder::new("half");
        let line = record(2);
        let (start, end) = line.split_at(20);
        let file = folder.file(&(record(1) + start));
        let mut follower = Follower::open(&file).expect("open");
        assert_eq!((found(&follower, 1), found(&follower, 2)), (Ok("k0000001".into()), Err(KeyError::Unknown)));
        append_text(&file, &end[..9]);
        assert!(follower.poll().expect("a look") && found(&follower, 2).is_err());
        append_text(&file, &end[9..]);
        assert!(follower.poll().expect("a look") && found(&follower, 2).is_ok());
        assert_eq!(follower.broken(), []);
    }

    #[test]
    fn a_follower_reads_a_replaced_file_from_its_start() {
        let folder = Folder::new("replaced");
        let file = folder.file(&waste());
        let mut follower = Follower::open(&file).expect("open");
        assert_eq!(found(&follower, 7), Err(KeyError::Revoked));
        add(&file, &record(9000)).expect("added");
        assert!(follower.poll().expect("a look"));
        assert_eq!((found(&follower, 7), found(&follower, 9000)), (Err(KeyError::Unknown), Ok("k0009000".into())));
        for in_its_place in [record(5), record(6) + &record(7) + &record(8), String::new(), record(1) + &record(2)] {
            fs::write(&file, &in_its_place).expect("written");
            assert!(follower.poll().expect("a look"));
            let index = follower.published().load_full();
            assert_eq!(index.len(), in_its_place.lines().count(), "{in_its_place}");
            assert_eq!(follower.broken(), []);
        }
    }

    #[test]
    fn a_follower_keeps_what_it_knows_while_the_file_cannot_be_read() {
        let folder = Folder::new("gone");
        let file = folder.file(&record(1));
        let mut follower = Follower::open(&file).expect("open");
        fs::remove_file(&file).expect("removed");
        assert!(follower.poll().is_err() && found(&follower, 1).is_ok());
        fs::write(&file, "x".repeat(70_000)).expect("written");
        assert!(follower.poll().is_err() && follower.poll().is_err() && found(&follower, 1).is_ok());
        fs::write(&file, record(2) + "rubbish\n").expect("written");
        assert!(follower.poll().expect("a look"));
        assert_eq!((found(&follower, 1), found(&follower, 2)), (Err(KeyError::Unknown), Ok("k0000002".into())));
        assert_eq!(follower.broken().len(), 1);
        assert!(Follower::open(&folder.0.join("nothing")).is_err());
    }
}
