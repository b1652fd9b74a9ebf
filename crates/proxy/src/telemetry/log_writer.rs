//! A log's one thread: it takes batches of lines from a bounded queue and writes them. Nobody ever waits for it; what cannot be
//! queued or written is dropped and counted.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tidegate_config::config::LogTarget;

/// Batches that may wait, of one line or of many. More means that the disk or the reader of the pipe does not keep up.
const QUEUE: usize = 128;

/// Bytes that may wait.
const WAITING_AT_MOST: usize = 8 * 1024 * 1024;

/// A log's thread and where it writes. Lives as long as the process; `finish` ends it.
#[derive(Debug)]
pub struct LogWriter {
    sender: LogSender,
    target: Mutex<Option<LogTarget>>,
    ended: Receiver<()>,
}

impl LogWriter {
    /// Starts the thread. Without a target it waits for [`adopt`](Self::adopt).
    ///
    /// # Errors
    /// When the file cannot be opened (the error names it), or the system gives no thread.
    pub fn start(target: Option<LogTarget>, counters: Arc<LogCounters>) -> io::Result<Self> {
        let (queue, messages) = sync_channel(QUEUE);
        let control = Arc::new(Control::default());
        let mut thread = WriterThread {
            messages,
            control: Arc::clone(&control),
            counters: Arc::clone(&counters),
            sink: open(target.as_ref())?,
            torn: false,
        };
        let (end, ended) = sync_channel(1);
        thread::Builder::new().name("log-writer".into()).spawn(move || {
            thread.run();
            // Nobody listens when the process ends without `finish`.
            end.try_send(()).ok();
        })?;
        Ok(Self { sender: LogSender { queue, control, counters }, target: Mutex::new(target), ended })
    }

    /// What workers send their batches with.
    pub fn sender(&self) -> LogSender {
        self.sender.clone()
    }

    /// Opens another target without writing to it yet, so that a reload may still be given up.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn prepare(&self, target: Option<&LogTarget>) -> io::Result<Prepared> {
        let same = self.target().as_ref() == target;
        let sink = if same { None } else { Some(Sink(open(target)?)) };
        Ok(Prepared { target: target.cloned(), sink })
    }

    /// Writes to the prepared target from now on.
    pub fn adopt(&self, prepared: Prepared) {
        if let Some(sink) = prepared.sink {
            self.sender.hand_over(sink);
            *self.target() = prepared.target;
        }
    }

    /// Opens the file anew, after it was moved away by whoever rotates logs.
    ///
    /// # Errors
    /// When the file cannot be opened; the old one stays in use.
    pub fn reopen(&self) -> io::Result<()> {
        let sink = Sink(open(self.target().as_ref())?);
        self.sender.hand_over(sink);
        Ok(())
    }

    /// Writes what is queued and ends the thread, but waits no longer than `at_most`: the reader of a pipe may never read on.
    pub fn finish(self, at_most: Duration) {
        self.sender.control.ending.store(true, Ordering::Release);
        self.sender.wake();
        // Timing out is one of the two ways to go on.
        self.ended.recv_timeout(at_most).ok();
    }

    fn target(&self) -> MutexGuard<'_, Option<LogTarget>> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A target that is open; see [`LogWriter::prepare`].
#[derive(Debug)]
pub struct Prepared {
    target: Option<LogTarget>,
    /// `None` is the target that is in use already.
    sink: Option<Sink>,
}

/// How many lines were written, and how many lost.
#[derive(Debug, Default)]
pub struct LogCounters {
    written: AtomicU64,
    dropped: AtomicU64,
}

impl LogCounters {
    /// Lines written.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Lines lost.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// A worker's end of the queue.
#[derive(Debug, Clone)]
pub struct LogSender {
    queue: SyncSender<Message>,
    control: Arc<Control>,
    counters: Arc<LogCounters>,
}

impl LogSender {
    /// Queues one line, which ends with a line feed, or drops and counts it when the queue is full. Never waits.
    pub fn line(&self, line: String) {
        self.send(Batch { bytes: line.into_bytes(), lines: 1, home: None });
    }

    /// Queues a batch, or drops and counts it when the queue is full. Never waits.
    pub(crate) fn send(&self, batch: Batch) {
        let (lines, bytes) = (batch.lines, batch.bytes.len());
        let waiting = &self.control.waiting;
        let fits = waiting.fetch_add(bytes, Ordering::Relaxed) < WAITING_AT_MOST;
        if !fits || self.queue.try_send(Message::Batch(batch)).is_err() {
            waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.counters.dropped.fetch_add(lines, Ordering::Relaxed);
        }
    }

    #[cfg(test)]
    pub(crate) fn for_test(room: usize) -> (Self, Receiver<Message>, Arc<LogCounters>) {
        let (queue, messages) = sync_channel(room);
        let counters = Arc::<LogCounters>::default();
        (Self { queue, control: Arc::default(), counters: Arc::clone(&counters) }, messages, counters)
    }

    fn hand_over(&self, sink: Sink) {
        *self.control.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(sink);
        self.control.changed.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        // A full queue wakes the thread as well: it looks at `Control` before every batch.
        self.queue.try_send(Message::Wake).ok();
    }
}

/// Whole lines.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) lines: u64,
    /// Where the buffer goes when it is written, to be filled again.
    pub(crate) home: Option<SyncSender<Vec<u8>>>,
}

#[derive(Debug)]
pub(crate) enum Message {
    Batch(Batch),
    Wake,
}

#[derive(Debug, Default)]
struct Control {
    changed: AtomicBool,
    /// Where to write from now on, if that has changed.
    next: Mutex<Option<Sink>>,
    ending: AtomicBool,
    /// Bytes in the queue, and in the writer's hands.
    waiting: AtomicUsize,
}

/// `None` is nowhere.
#[derive(Debug)]
struct Sink(Option<File>);

struct WriterThread {
    messages: Receiver<Message>,
    control: Arc<Control>,
    counters: Arc<LogCounters>,
    sink: Option<File>,
    /// The last write ended inside a line.
    torn: bool,
}

impl WriterThread {
    fn run(&mut self) {
        while let Ok(message) = self.messages.recv() {
            self.handle(message);
            if self.control.ending.load(Ordering::Acquire) {
                return self.handle_rest();
            }
        }
    }

    fn handle_rest(&mut self) {
        while let Ok(message) = self.messages.try_recv() {
            self.handle(message);
        }
    }

    fn handle(&mut self, message: Message) {
        if self.control.changed.swap(false, Ordering::Acquire)
            && let Some(Sink(sink)) = self.control.next.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            self.sink = sink;
            self.torn = false;
        }
        match message {
            Message::Batch(mut batch) => {
                self.write(&batch);
                self.control.waiting.fetch_sub(batch.bytes.len(), Ordering::Relaxed);
                if let Some(home) = batch.home {
                    batch.bytes.clear();
                    home.try_send(batch.bytes).ok();
                }
            }
            Message::Wake => {}
        }
    }

    fn write(&mut self, batch: &Batch) {
        let lost = match &self.sink {
            Some(file) => write_lines(file, &mut self.torn, &batch.bytes),
            None => batch.lines,
        };
        self.counters.dropped.fetch_add(lost, Ordering::Relaxed);
        self.counters.written.fetch_add(batch.lines.saturating_sub(lost), Ordering::Relaxed);
    }
}

/// Writes until all is written or an error comes, and tells how many lines were not written whole.
fn write_lines(mut file: impl Write, torn: &mut bool, bytes: &[u8]) -> u64 {
    let mut rest = bytes;
    if *torn && write_some(&mut file, b"\n").is_err() {
        return lines(rest);
    }
    *torn = false;
    while !rest.is_empty() {
        let Ok(written) = write_some(&mut file, rest) else { break };
        let (done, left) = rest.split_at(written.min(rest.len()));
        *torn = !done.ends_with(b"\n");
        rest = left;
    }
    lines(rest)
}

/// `Ok` is at least one byte.
fn write_some(file: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn lines(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

fn open(target: Option<&LogTarget>) -> io::Result<Option<File>> {
    let file = match target {
        None => return Ok(None),
        Some(LogTarget::Stdout) => File::from(io::stdout().as_fd().try_clone_to_owned()?),
        Some(LogTarget::Stderr) => File::from(io::stderr().as_fd().try_clone_to_owned()?),
        Some(LogTarget::File(path)) => open_file(path).map_err(|error| named(path, &error))?,
    };
    Ok(Some(file))
}

/// Files are appended to, so several processes may share one and a rotation by copying works too. A named pipe is opened for
/// reading as well: for writing alone it would only open when somebody reads, which may be never.
fn open_file(path: &Path) -> io::Result<File> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo()) {
        return OpenOptions::new().read(true).write(true).open(path);
    }
    OpenOptions::new().create(true).append(true).open(path)
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot open the log {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `room` bytes in pieces of at most three, and fails from then on.
    struct Disk {
        taken: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = bytes.len().min(3).min(self.room - self.taken.len());
            if n == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.taken.extend_from_slice(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn batch(bytes: &[u8], lines: u64) -> Batch {
        Batch { bytes: bytes.to_vec(), lines, home: None }
    }

    #[test]
    fn a_full_disk_loses_lines_and_the_next_one_starts_on_its_own_line() {
        let mut disk = Disk { taken: Vec::new(), room: 8 };
        let mut torn = false;
        assert_eq!(write_lines(&mut disk, &mut torn, b"one\ntwo\nthree\n"), 1);
        assert_eq!((disk.taken.as_slice(), torn), (b"one\ntwo\n".as_slice(), false));
        disk.room = 10;
        assert_eq!(write_lines(&mut disk, &mut torn, b"four\nfive\n"), 2);
        assert!(torn);
        assert_eq!(write_lines(&mut disk, &mut torn, b"six\n"), 1);
        disk.room = 100;
        assert_eq!(write_lines(&mut disk, &mut torn, b"seven\n"), 0);
        assert_eq!(disk.taken, b"one\ntwo\nfo\nseven\n");
    }

    #[test]
    fn a_batch_that_finds_no_room_in_the_queue_is_dropped_and_counted() {
        let (sender, _messages, counters) = LogSender::for_test(1);
        sender.send(batch(b"a\n", 1));
        sender.send(batch(b"b\nc\n", 2));
        assert_eq!(counters.dropped(), 2);
    }

    #[test]
    fn no_more_bytes_wait_than_may_however_few_batches_they_are_in() {
        let (sender, messages, counters) = LogSender::for_test(QUEUE);
        for _ in 0..40 {
            sender.send(batch(&vec![b'x'; WAITING_AT_MOST / 32], 1));
        }
        assert_eq!((messages.try_iter().count(), counters.dropped()), (32, 8));
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let folder = std::env::temp_dir().join(format!("tidegate-log-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let (path, moved) = (folder.join("access.log"), folder.join("access.log.1"));
        let counters = Arc::<LogCounters>::default();
        let target = LogTarget::File(path.clone());
        let writer = LogWriter::start(Some(target), Arc::clone(&counters)).expect("a thread and a file");
        let sender = writer.sender();
        std::fs::rename(&path, &moved).expect("moved");
        writer.reopen().expect("opened anew");
        sender.send(batch(b"new\n", 1));
        writer.finish(Duration::from_secs(10));
        assert_eq!(std::fs::read(&path).expect("the new file"), b"new\n");
        assert_eq!(std::fs::read(&moved).expect("the old file"), b"");
        assert_eq!((counters.written(), counters.dropped()), (1, 0));
        std::fs::remove_dir_all(&folder).expect("cleaned up");
    }

    #[test]
    fn a_prepared_target_takes_over_when_it_is_adopted_and_not_before() {
        let folder = std::env::temp_dir().join(format!("tidegate-log-targets-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let target = |name: &str| LogTarget::File(folder.join(name));
        let writer = LogWriter::start(Some(target("old")), Arc::default()).expect("a thread and a file");
        drop(writer.prepare(Some(&target("given-up"))).expect("opened"));
        let same = writer.prepare(Some(&target("old"))).expect("nothing to open");
        assert!(same.sink.is_none());
        let new = writer.prepare(Some(&target("new"))).expect("opened");
        writer.adopt(new);
        writer.sender().send(batch(b"line\n", 1));
        writer.finish(Duration::from_secs(10));
        let content = |name: &str| std::fs::read(folder.join(name)).expect("a file");
        assert_eq!([content("old"), content("given-up"), content("new")], [vec![], vec![], b"line\n".to_vec()]);
        std::fs::remove_dir_all(&folder).expect("cleaned up");
    }

    #[test]
    fn a_named_pipe_that_nobody_reads_keeps_nobody_waiting() {
        let path = std::env::temp_dir().join(format!("tidegate-log-pipe-{}", std::process::id()));
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo");
        assert!(made.success());
        let counters = Arc::<LogCounters>::default();
        let writer = LogWriter::start(Some(LogTarget::File(path.clone())), Arc::clone(&counters)).expect("opened");
        // More than a pipe holds, so that the writer gets no further.
        writer.sender().line("x".repeat(1 << 20) + "\n");
        for _ in 0..=QUEUE {
            writer.sender().line("y\n".to_owned());
        }
        assert!(counters.dropped() > 0);
        std::fs::remove_file(&path).expect("cleaned up");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_an_error_that_names_it() {
        let target = LogTarget::File("/nowhere/at/all.log".into());
        let error = LogWriter::start(Some(target), Arc::default()).expect_err("no such folder");
        assert!(error.to_string().contains("/nowhere/at/all.log"), "{error}");
    }
}
