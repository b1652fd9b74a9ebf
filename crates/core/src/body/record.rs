//! Bodies that can be sent again: what is read of one is kept, up to a limit, and every further try begins with that. A body
//! that nobody records is not touched.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::{Body, BodyError, Frame, Kind, Stream};

/// Frames that are kept of one body at most, so that a client that sends single bytes costs no more than one that does not.
const FRAMES: usize = 1024;

/// What is known of a body that may have to be sent again.
pub struct Recording(Kept);

enum Kept {
    /// It was in memory from the start.
    Whole(Bytes),
    Tape(Rc<RefCell<Tape>>),
    /// It is known to be longer than the limit.
    Nothing,
}

impl Body {
    /// Keeps what is read of this body from now on, until that is more than `limit` bytes (trailers included): then all of
    /// it is let go. A stream that says that it is longer is not recorded at all, and a body in memory needs no keeping.
    pub fn record(&mut self, limit: u64) -> Recording {
        if self.length().is_some_and(|length| length > limit) && matches!(self.0, Kind::Stream(_)) {
            return Recording(Kept::Nothing);
        }
        Recording(match std::mem::take(&mut self.0) {
            Kind::Empty => Kept::Whole(Bytes::new()),
            Kind::Full(bytes) => {
                self.0 = Kind::Full(bytes.clone());
                Kept::Whole(bytes)
            }
            Kind::Stream(source) => {
                let tape = Tape { frames: Vec::new(), room: limit, broken: false, source: Some(source) };
                let tape = Rc::new(RefCell::new(tape));
                *self = Self::stream(Reader { tape: Rc::clone(&tape), next: 0 });
                Kept::Tape(tape)
            }
        })
    }
}

impl Recording {
    /// The body once more, from its start: what was kept, followed by what is still to come from the same stream.
    ///
    /// `None` if something was let go, if the stream failed, or if it has not ended and another reader of it is left: two
    /// that wait for one stream would take each other's frames. So drop a failed try before asking for the next one.
    pub fn replay(&self) -> Option<Body> {
        match &self.0 {
            Kept::Whole(bytes) => Some(Body::full(bytes.clone())),
            Kept::Tape(tape) => {
                let alone = Rc::strong_count(tape) == 1;
                let playable = {
                    let tape = tape.borrow();
                    !tape.broken && (alone || tape.has_ended())
                };
                playable.then(|| Body::stream(Reader { tape: Rc::clone(tape), next: 0 }))
            }
            Kept::Nothing => None,
        }
    }

    /// True if something was let go, or the stream failed: there is nothing to replay any more.
    pub fn is_torn(&self) -> bool {
        match &self.0 {
            Kept::Whole(_) => false,
            Kept::Tape(tape) => tape.borrow().broken,
            Kept::Nothing => true,
        }
    }

    /// True if all of the body is kept, so that several tries may send it at the same time.
    pub fn is_whole(&self) -> bool {
        match &self.0 {
            Kept::Whole(_) => true,
            Kept::Tape(tape) => {
                let tape = tape.borrow();
                !tape.broken && tape.has_ended()
            }
            Kept::Nothing => false,
        }
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kept::Whole(bytes) => write!(f, "Recording({} bytes, whole)", bytes.len()),
            Kept::Tape(tape) => write!(f, "Recording({} frames)", tape.borrow().frames.len()),
            Kept::Nothing => f.write_str("Recording(nothing)"),
        }
    }
}

struct Tape {
    /// From the first one on, unless it is broken.
    frames: Vec<Frame>,
    /// Bytes that may still be kept.
    room: u64,
    /// Something was let go, or the stream failed.
    broken: bool,
    /// `None` after the end.
    source: Option<Box<dyn Stream>>,
}

impl Tape {
    fn has_ended(&self) -> bool {
        self.source.as_ref().is_none_or(|source| source.is_end())
    }

    /// True if the frame is on the tape.
    fn keep(&mut self, frame: &Frame) -> bool {
        let room = self.room.checked_sub(size(frame)).filter(|_| !self.broken && self.frames.len() < FRAMES);
        match room {
            Some(room) => {
                self.room = room;
                self.frames.push(frame.clone());
            }
            None => self.tear(),
        }
        room.is_some()
    }

    fn tear(&mut self) {
        self.broken = true;
        self.frames = Vec::new();
    }
}

fn size(frame: &Frame) -> u64 {
    match frame {
        Frame::Data(data) => data.len() as u64,
        Frame::Trailers(trailers) => trailers.bytes() as u64,
    }
}

/// Reads a tape to its end and then goes on with the stream, whose frames it adds.
struct Reader {
    tape: Rc<RefCell<Tape>>,
    next: usize,
}

impl Stream for Reader {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let tape = &mut *self.tape.borrow_mut();
        if let Some(frame) = tape.frames.get(self.next) {
            self.next += 1;
            return Poll::Ready(Some(Ok(frame.clone())));
        }
        let Some(source) = &mut tape.source else { return Poll::Ready(None) };
        let frame = ready!(source.poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => self.next += usize::from(tape.keep(frame)),
            Some(Err(_)) => {
                tape.source = None;
                tape.tear();
            }
            None => tape.source = None,
        }
        Poll::Ready(frame)
    }

    fn poll_progress(&mut self, cx: &mut Context<'_>) {
        if let Some(source) = &mut self.tape.borrow_mut().source {
            source.poll_progress(cx);
        }
    }

    fn limit(&mut self, bytes: Option<u64>) {
        if let Some(source) = &mut self.tape.borrow_mut().source {
            source.limit(bytes);
        }
    }

    fn length(&self) -> Option<u64> {
        let tape = self.tape.borrow();
        let to_come = tape.source.as_ref().map_or(Some(0), |source| source.length())?;
        let kept = tape.frames.iter().skip(self.next).map(|frame| match frame {
            Frame::Data(data) => data.len() as u64,
            Frame::Trailers(_) => 0,
        });
        Some(kept.sum::<u64>() + to_come)
    }

    fn is_end(&self) -> bool {
        let tape = self.tape.borrow();
        self.next >= tape.frames.len() && tape.has_ended()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use proptest::prelude::*;
    use tidegate_http1::Fields;

    use super::*;

    /// A client that sends what a test puts into it.
    #[derive(Clone, Default)]
    struct Client(Rc<RefCell<Sent>>);

    #[derive(Default)]
    struct Sent {
        frames: VecDeque<Result<Frame, BodyError>>,
        ended: bool,
        length: Option<u64>,
        limit: Option<u64>,
    }

    impl Client {
        fn sends(&self, text: &str) -> &Self {
            self.0.borrow_mut().frames.push_back(Ok(Frame::Data(Bytes::copy_from_slice(text.as_bytes()))));
            self
        }

        fn ends(&self) {
            self.0.borrow_mut().ended = true;
        }

        fn body(&self) -> Body {
            Body::stream(self.clone())
        }
    }

    impl Stream for Client {
        fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
            let mut sent = self.0.borrow_mut();
            let frame = sent.frames.pop_front();
            if let Some(Ok(Frame::Data(data))) = &frame {
                sent.length = sent.length.map(|length| length - data.len() as u64);
            }
            match frame {
                None if !sent.ended => Poll::Pending,
                frame => Poll::Ready(frame),
            }
        }

        fn limit(&mut self, bytes: Option<u64>) {
            self.0.borrow_mut().limit = bytes;
        }

        fn length(&self) -> Option<u64> {
            self.0.borrow().length
        }

        fn is_end(&self) -> bool {
            let sent = self.0.borrow();
            sent.ended && sent.frames.is_empty()
        }
    }

    fn poll(body: &mut Body) -> Poll<Option<Result<Frame, BodyError>>> {
        body.poll_frame(&mut Context::from_waker(Waker::noop()))
    }

    /// What comes without waiting, as text: `|` is the end, `^` are trailers, `!` is an error.
    fn read(body: &mut Body) -> String {
        let mut text = String::new();
        loop {
            match poll(body) {
                Poll::Ready(Some(Ok(Frame::Data(data)))) => text += std::str::from_utf8(&data).unwrap(),
                Poll::Ready(Some(Ok(Frame::Trailers(_)))) => text.push('^'),
                Poll::Ready(Some(Err(_))) => return text + "!",
                Poll::Ready(None) => return text + "|",
                Poll::Pending => return text,
            }
        }
    }

    #[test]
    fn a_body_in_memory_is_kept_as_it_is() {
        for (mut body, text) in [(Body::empty(), "|"), (Body::full("hello"), "hello|")] {
            let recording = body.record(0);
            assert!(recording.is_whole());
            assert_eq!(read(&mut body), text);
            for _ in 0..2 {
                assert_eq!(read(&mut recording.replay().unwrap()), text);
            }
        }
    }

    #[test]
    fn a_stream_that_was_read_to_its_end_comes_again_and_to_several_at_once() {
        let client = Client::default();
        let mut body = client.body();
        let recording = body.record(10);
        client.sends("01234").sends("56789");
        client.ends();
        assert_eq!(read(&mut body), "0123456789|");
        assert!(recording.is_whole());
        let (mut one, mut two) = (recording.replay().unwrap(), recording.replay().unwrap());
        assert_eq!(one.length(), Some(10));
        assert!(poll(&mut one).is_ready());
        assert_eq!(one.length(), Some(5));
        assert_eq!(read(&mut two), "0123456789|");
        assert_eq!(read(&mut one), "56789|");
    }

    #[test]
    fn what_is_still_to_come_follows_from_the_same_client() {
        let client = Client::default();
        client.0.borrow_mut().length = Some(6);
        let mut body = client.body();
        let recording = body.record(100);
        client.sends("ab");
        assert_eq!((read(&mut body).as_str(), body.length()), ("ab", Some(4)));
        drop(body);
        let mut again = recording.replay().unwrap();
        assert_eq!(again.length(), Some(6));
        client.sends("cd");
        assert_eq!(read(&mut again), "abcd");
        drop(again);
        let mut third = recording.replay().unwrap();
        client.sends("ef");
        client.ends();
        assert_eq!(read(&mut third), "abcdef|");
        assert!(third.is_end());
    }

    #[test]
    fn two_never_wait_for_one_stream() {
        let client = Client::default();
        let mut body = client.body();
        let recording = body.record(100);
        client.sends("ab");
        read(&mut body);
        assert!(recording.replay().is_none(), "the first one still reads");
        client.ends();
        assert!(recording.replay().is_some(), "nothing is left to wait for");
    }

    #[test]
    fn a_stream_beyond_the_limit_goes_on_and_cannot_be_replayed() {
        let client = Client::default();
        let mut body = client.body();
        let recording = body.record(4);
        client.sends("abc").sends("de").sends("f");
        client.ends();
        assert_eq!(read(&mut body), "abcdef|");
        drop(body);
        assert!(recording.replay().is_none());
        assert!(!recording.is_whole());
    }

    #[test]
    fn a_replay_may_run_over_the_limit_too() {
        let client = Client::default();
        let mut body = client.body();
        let recording = body.record(4);
        client.sends("abc");
        assert_eq!(read(&mut body), "abc");
        drop(body);
        let mut again = recording.replay().unwrap();
        client.sends("de").sends("f");
        client.ends();
        assert_eq!(read(&mut again), "abcdef|");
        drop(again);
        assert!(recording.replay().is_none());
    }

    #[test]
    fn a_stream_that_says_it_is_too_long_is_not_wrapped() {
        let client = Client::default();
        client.0.borrow_mut().length = Some(5);
        let recording = client.body().record(4);
        assert!(recording.replay().is_none());
        assert_eq!(Rc::strong_count(&client.0), 1, "the recording holds nothing");
    }

    #[test]
    fn trailers_come_again() {
        let client = Client::default();
        let mut body = client.body();
        let recording = body.record(100);
        let mut trailers = Fields::default();
        trailers.append("x-sum", b"1").unwrap();
        client.sends("a").0.borrow_mut().frames.push_back(Ok(Frame::Trailers(trailers)));
        client.ends();
        assert_eq!(read(&mut body), "a^|");
        assert_eq!(read(&mut recording.replay().unwrap()), "a^|");
    }

    #[test]
    fn a_stream_that_failed_cannot_be_replayed() {
        let client = Client::default();
        let mut body = client.body();
        let recording = body.record(100);
        client.sends("a").0.borrow_mut().frames.push_back(Err(BodyError::ClientGone));
        assert_eq!(read(&mut body), "a!");
        assert!(recording.replay().is_none());
    }

    #[test]
    fn the_limit_of_the_route_reaches_the_client() {
        let client = Client::default();
        let mut body = client.body();
        let recording = body.record(100);
        body.limit(Some(7));
        assert_eq!(client.0.borrow().limit, Some(7));
        drop(body);
        recording.replay().unwrap().limit(Some(9));
        assert_eq!(client.0.borrow().limit, Some(9));
    }

    #[test]
    fn a_client_that_drips_is_not_kept_for_ever() {
        let client = Client::default();
        let mut body = client.body();
        let recording = body.record(1_000_000);
        for _ in 0..=FRAMES {
            client.sends("a");
        }
        client.ends();
        assert_eq!(read(&mut body).len(), FRAMES + 2);
        drop(body);
        assert!(recording.replay().is_none());
    }

    proptest! {
        #[test]
        fn every_try_sees_the_same_bytes_in_the_same_order(
            pieces in prop::collection::vec("[a-z]{1,4}", 0..12),
            tries in prop::collection::vec(0_usize..12, 1..6),
            limit in 0_u64..40,
        ) {
            let client = Client::default();
            for piece in &pieces {
                client.sends(piece);
            }
            client.ends();
            let whole = pieces.concat();
            let mut body = Some(client.body());
            let recording = body.as_mut().unwrap().record(limit);
            let mut most = 0;
            for reads in tries {
                let Some(mut reader) = body.take().or_else(|| recording.replay()) else {
                    let taken: usize = pieces.iter().take(most).map(String::len).sum();
                    prop_assert!(taken as u64 > limit, "{taken} of {limit} bytes were taken");
                    return Ok(());
                };
                let mut seen = String::new();
                for _ in 0..reads.min(pieces.len()) {
                    if let Poll::Ready(Some(Ok(Frame::Data(data)))) = poll(&mut reader) {
                        seen += std::str::from_utf8(&data).unwrap();
                    }
                }
                most = most.max(reads);
                prop_assert!(whole.starts_with(&seen));
                prop_assert_eq!(seen.len(), pieces.iter().take(reads).map(String::len).sum::<usize>());
            }
        }
    }
}
