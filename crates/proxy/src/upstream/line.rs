//! A connection to an endpoint as its requests are sent on it, and the bursts in which workers send: who has written a whole request
//! leaves the sending to a burst, and needs no further turn before the reply comes.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::attempt::SharedAlarm;
use crate::io::Io;
use crate::outbox::Outbox;
use crate::tasks::at_once;

/// What a connection reads from and writes to, and what waits to be written.
pub(crate) struct Line {
    pub(crate) io: Io,
    pub(crate) outbox: Outbox,
    /// Bytes of the request under way that the connection took.
    pub(crate) sent: usize,
    /// A burst will send what waits.
    left: bool,
    /// Why a burst could not.
    failed: Option<io::Error>,
}

impl Line {
    pub(crate) fn new(io: Io) -> Self {
        Self { io, outbox: Outbox::default(), sent: 0, left: false, failed: None }
    }

    /// Writes what waits, unless a burst will.
    ///
    /// # Errors
    /// It could not be written, now or by a burst before.
    #[inline]
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.left {
            return Poll::Ready(Ok(()));
        }
        match self.failed.take() {
            Some(error) => Poll::Ready(Err(error)),
            None => self.outbox.poll_flush(&mut self.io, cx, &mut self.sent),
        }
    }

    /// Whether nothing of any request is on its way.
    pub(crate) fn is_idle(&self) -> bool {
        !self.left && self.failed.is_none() && self.outbox.is_empty()
    }

    /// Writes what waits for its owner, and says whether all of it was taken.
    fn flush(&mut self, cx: &mut Context<'_>) -> bool {
        self.left = false;
        match self.outbox.poll_flush(&mut self.io, cx, &mut self.sent) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(error)) => {
                self.failed = Some(error);
                false
            }
            Poll::Pending => false,
        }
    }
}

/// The lines of one thread that have a request to send.
#[derive(Default)]
pub(crate) struct Bursts(RefCell<Vec<(Rc<RefCell<Line>>, SharedAlarm)>>);

/// Sends everything that was left to the burst when it is dropped, whatever it is dropped by.
#[must_use = "dropping it sends"]
pub(crate) struct Burst<'a>(&'a Bursts);

impl Bursts {
    /// Leaves the sending of what waits on `line` to the burst under way. Whoever is the first gets it to carry out; that is
    /// best done after others had their turn, see [`crate::tasks::let_others_go_first`]. `owner` is rung only if not all
    /// could be sent.
    pub(crate) fn leave(&self, line: &Rc<RefCell<Line>>, owner: SharedAlarm) -> Option<Burst<'_>> {
        line.borrow_mut().left = true;
        let mut lines = self.0.borrow_mut();
        lines.push((Rc::clone(line), owner));
        (lines.len() == 1).then(|| Burst(self))
    }

    fn send(&self) {
        let sent = at_once(|cx| {
            let mut lines = self.0.borrow_mut();
            // Whose owner is gone has nothing to send.
            let owned = lines.drain(..).filter(|(line, _)| Rc::strong_count(line) > 1 && line.borrow().left);
            let stuck = owned.filter(|(line, _)| !line.borrow_mut().flush(cx));
            stuck.for_each(|(_, owner)| owner.borrow().ring());
            Poll::Ready(())
        });
        debug_assert!(sent.is_ready(), "lines that are stuck are left to their owners");
    }
}

/// Takes back what was left to a burst when it is dropped, unless that is kept.
pub(crate) struct Withdrawal<'a>(Option<&'a RefCell<Line>>);

impl<'a> Withdrawal<'a> {
    pub(crate) fn of(line: &'a RefCell<Line>) -> Self {
        Self(Some(line))
    }

    pub(crate) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Withdrawal<'_> {
    fn drop(&mut self) {
        if let Some(line) = self.0.take() {
            let mut line = line.borrow_mut();
            line.left = false;
            line.outbox.clear();
        }
    }
}

impl Drop for Burst<'_> {
    fn drop(&mut self) {
        self.0.send();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::task::{Wake, Waker};

    use tidegate_core::clock::Clock;
    use tokio::io::{AsyncReadExt, DuplexStream};

    use super::*;
    use crate::alarm::Alarm;
    use crate::io::testing::block_on;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    /// An alarm that wakes it.
    fn alarm(waker: &Waker) -> SharedAlarm {
        let mut alarm = Alarm::new(&Clock::System);
        alarm.attend(&Context::from_waker(waker));
        Rc::new(RefCell::new(alarm))
    }

    /// A line with `text` waiting, and its far end, which takes so many bytes unread.
    fn line(text: &str, room: usize) -> (Rc<RefCell<Line>>, DuplexStream) {
        let (near, far) = tokio::io::duplex(room);
        let mut line = Line::new(Io::Memory(near));
        line.outbox.tail().extend_from_slice(text.as_bytes());
        (Rc::new(RefCell::new(line)), far)
    }

    async fn read(far: &mut DuplexStream, length: usize) -> String {
        let mut text = vec![0; length];
        far.read_exact(&mut text).await.unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn the_first_one_sends_for_all_and_nobody_is_woken() {
        block_on(async {
            let (bursts, woken) = (Bursts::default(), Arc::new(Woken::default()));
            let owner = || alarm(&Arc::clone(&woken).into());
            let ((one, mut far_one), (other, mut far_other)) = (line("one", 100), line("other", 100));
            let burst = bursts.leave(&one, owner()).unwrap();
            assert!(bursts.leave(&other, owner()).is_none());
            assert!(!one.borrow().outbox.is_empty() && !other.borrow().outbox.is_empty());
            drop(burst);
            assert_eq!((read(&mut far_one, 3).await, read(&mut far_other, 5).await), ("one".into(), "other".into()));
            assert_eq!((one.borrow().sent, other.borrow().sent), (3, 5));
            assert_eq!(woken.0.load(SeqCst), 0);
            assert!(bursts.leave(&one, owner()).is_some(), "the next burst is another one");
        });
    }

    #[test]
    fn an_owner_whose_line_takes_no_more_goes_on_itself() {
        block_on(async {
            let (bursts, woken) = (Bursts::default(), Arc::new(Woken::default()));
            let (line, mut far) = line("hello", 3);
            drop(bursts.leave(&line, alarm(&Arc::clone(&woken).into())));
            assert_eq!(woken.0.load(SeqCst), 1);
            assert_eq!((read(&mut far, 3).await, line.borrow().sent), ("hel".into(), 3));
            std::future::poll_fn(|cx| line.borrow_mut().poll_flush(cx)).await.unwrap();
            assert_eq!(read(&mut far, 2).await, "lo");
        });
    }

    #[test]
    fn an_owner_is_told_why_nothing_could_be_sent() {
        block_on(async {
            let (bursts, woken) = (Bursts::default(), Arc::new(Woken::default()));
            let (line, far) = line("hello", 100);
            drop(far);
            drop(bursts.leave(&line, alarm(&Arc::clone(&woken).into())));
            assert_eq!(woken.0.load(SeqCst), 1);
            let told = std::future::poll_fn(|cx| line.borrow_mut().poll_flush(cx)).await;
            assert_eq!(told.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        });
    }

    #[test]
    fn a_burst_whose_owner_is_cancelled_sends_for_the_others_alone() {
        block_on(async {
            let (bursts, waker) = (Bursts::default(), Waker::noop());
            let ((one, mut silent), (other, mut far)) = (line("one", 100), line("other", 100));
            let burst = bursts.leave(&one, alarm(waker));
            assert!(bursts.leave(&other, alarm(waker)).is_none());
            drop(Withdrawal::of(&one));
            drop(burst);
            assert_eq!(read(&mut far, 5).await, "other");
            assert!(one.borrow().is_idle() && other.borrow().is_idle());
            drop(one);
            let mut rest = Vec::new();
            silent.read_to_end(&mut rest).await.unwrap();
            assert!(rest.is_empty());
        });
    }

    #[test]
    fn a_line_is_idle_only_when_all_was_sent() {
        let (bursts, waker) = (Bursts::default(), Waker::noop());
        let (line, _far) = line("hello", 3);
        assert!(!line.borrow().is_idle(), "it waits");
        let burst = bursts.leave(&line, alarm(waker));
        line.borrow_mut().outbox.clear();
        assert!(!line.borrow().is_idle(), "a burst has it");
        line.borrow_mut().outbox.tail().extend_from_slice(b"hello");
        block_on(async { drop(burst) });
        assert!(!line.borrow().is_idle(), "a part was sent");
    }

    #[test]
    fn nothing_is_sent_for_who_is_gone() {
        block_on(async {
            let (bursts, waker) = (Bursts::default(), Waker::noop());
            let ((one, mut far_one), (gone, mut silent)) = (line("one", 100), line("gone", 100));
            let burst = bursts.leave(&one, alarm(waker));
            assert!(bursts.leave(&gone, alarm(waker)).is_none());
            drop(gone);
            drop(burst);
            assert_eq!(read(&mut far_one, 3).await, "one");
            let mut rest = Vec::new();
            silent.read_to_end(&mut rest).await.unwrap();
            assert!(rest.is_empty(), "the connection was closed without a word");
        });
    }
}
