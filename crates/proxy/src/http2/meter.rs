//! Watches the frames of an HTTP/2 connection from outside the `h2` crate, which answers pings and settings for as long as
//! somebody sends them. Frames that cost work and achieve nothing use up credit; time and useful frames earn it. It also sees which
//! streams `h2` refuses by itself, which it tells nobody. It parses frame headers and the codes of resets (RFC 9113, 4.1 and 6.4),
//! no fields, and judges nothing else.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use h2::Reason;
use tidegate_core::clock::Clock;

/// What a peer may do at once without having been useful, and the most that can be saved up.
const CREDIT: u32 = 1000;
/// Earned by every second.
const CREDIT_PER_SECOND: u32 = 10;
/// Earned by a request, a reply and every frame of a body that carries something, in either direction: whoever receives a
/// frame may answer with two window updates and a ping.
const CREDIT_PER_USEFUL_FRAME: u32 = 3;

/// Bytes of bodies sent for which one window update more costs nothing. When to give room back is the receiver's business (RFC 9113,
/// 6.9.1): Go does it for every 4 KiB that are read, of the stream and of the connection.
const BYTES_PER_UPDATE: u32 = 256;
/// Window updates that can be saved up: what was sent may be read, and room given back, long after.
const UPDATES: u32 = 32 * 1024;

/// Requests that a client may abandon as soon as they are made, and the most that can be saved up.
const ABANDONED: u32 = 200;
/// Earned by every second.
const ABANDONED_PER_SECOND: u32 = 20;

/// What is known of a connection's frames.
#[derive(Debug)]
pub(crate) struct Meter {
    inbound: Cell<Scan>,
    outbound: Cell<Scan>,
    credit: Bucket,
    /// Window updates that are free.
    updates: Cell<u32>,
    abandoned: Bucket,
    /// A header block has begun and not ended.
    in_header_block: Cell<bool>,
    unserved: RefCell<Unserved>,
}

/// What `h2` did by itself with a stream that it never handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It answered, and there is one thing that it answers: 431.
    HeadersTooLarge,
    /// It reset the stream.
    Reset(Reason),
}

/// Streams that the peer has opened and nobody was given yet.
#[derive(Debug, Default)]
struct Unserved {
    greatest: u32,
    /// Few, for `h2` hands them over or refuses them in the same turn; the oldest are forgotten rather than kept without bound.
    waiting: Vec<u32>,
    refused: Vec<Refusal>,
}

/// More than the streams that may be open at once wait only while the peer reads nothing.
const WAITING: usize = 1024;

impl Unserved {
    fn opened(&mut self, stream: u32) {
        // A later block on a stream holds trailers (RFC 9113, 8.1).
        if stream <= self.greatest {
            return;
        }
        self.greatest = stream;
        if self.waiting.len() == WAITING {
            self.waiting.remove(0);
        }
        self.waiting.push(stream);
    }

    fn take(&mut self, stream: u32) -> bool {
        let found = self.waiting.iter().position(|waiting| *waiting == stream);
        found.map(|at| self.waiting.remove(at)).is_some()
    }

    fn answered(&mut self, stream: u32, refusal: Refusal) {
        if self.take(stream) {
            self.refused.push(refusal);
        }
    }
}

impl Meter {
    /// `preface`: bytes that come before the first frame that is read.
    pub(crate) fn new(preface: usize, now: Instant) -> Rc<Self> {
        Rc::new(Self {
            inbound: Cell::new(Scan::after(preface)),
            outbound: Cell::default(),
            credit: Bucket::new(CREDIT, CREDIT_PER_SECOND, now),
            updates: Cell::default(),
            abandoned: Bucket::new(ABANDONED, ABANDONED_PER_SECOND, now),
            in_header_block: Cell::new(false),
            unserved: RefCell::default(),
        })
    }

    /// True if the peer has made too much work for nothing.
    pub(crate) fn is_exhausted(&self, clock: &Clock) -> bool {
        self.credit.is_overdrawn(clock) || self.abandoned.is_overdrawn(clock)
    }

    /// Nothing more is read until the credit was looked at.
    pub(super) fn is_overdrawn(&self) -> bool {
        self.credit.level.get() < 0
    }

    /// A request was abandoned by the client as soon as it was made.
    pub(crate) fn abandoned(&self) {
        self.abandoned.pay(1);
    }

    /// A request was served to its end.
    pub(crate) fn completed(&self) {
        self.abandoned.earn(1);
    }

    /// True while the peer is in the middle of a header block, which blocks every other stream.
    pub(crate) fn is_in_header_block(&self) -> bool {
        self.in_header_block.get()
    }

    /// A stream was handed over: whatever is sent on it from now on is ours.
    pub(crate) fn served(&self, stream: u32) {
        self.unserved.borrow_mut().take(stream);
    }

    /// What was refused since this was asked last.
    pub(crate) fn refused(&self) -> Vec<Refusal> {
        std::mem::take(&mut self.unserved.borrow_mut().refused)
    }

    pub(super) fn read(&self, bytes: &[u8]) {
        let mut scan = self.inbound.get();
        scan.feed(bytes, |frame| self.received(frame));
        self.inbound.set(scan);
        self.in_header_block.set(scan.block_open || scan.is_within_headers());
    }

    fn received(&self, frame: Frame) {
        match frame.kind {
            HEADERS => {
                self.unserved.borrow_mut().opened(frame.stream);
                self.credit.earn(CREDIT_PER_USEFUL_FRAME);
            }
            DATA if frame.length > 0 => self.credit.earn(CREDIT_PER_USEFUL_FRAME),
            DATA if frame.flags & END_STREAM != 0 => {}
            WINDOW_UPDATE if self.updates.get() > 0 => self.updates.set(self.updates.get() - 1),
            _ => self.credit.pay(1),
        }
    }

    pub(super) fn wrote(&self, bytes: &[u8]) {
        let mut scan = self.outbound.get();
        scan.feed(bytes, |frame| {
            let mut unserved = self.unserved.borrow_mut();
            match frame.kind {
                HEADERS => unserved.answered(frame.stream, Refusal::HeadersTooLarge),
                RST_STREAM => unserved.answered(frame.stream, Refusal::Reset(frame.code.into())),
                _ => {}
            }
            if matches!(frame.kind, HEADERS | DATA) {
                self.credit.earn(CREDIT_PER_USEFUL_FRAME);
            }
            if frame.kind == DATA {
                self.updates.set(UPDATES.min(self.updates.get() + frame.length / BYTES_PER_UPDATE));
            }
        });
        self.outbound.set(scan);
    }
}

/// Credit that grows with time up to where it began.
#[derive(Debug)]
struct Bucket {
    level: Cell<i64>,
    full: u32,
    per_second: u32,
    /// Up to when time has been paid for.
    since: Cell<Instant>,
}

impl Bucket {
    fn new(full: u32, per_second: u32, now: Instant) -> Self {
        Self { level: Cell::new(full.into()), full, per_second, since: Cell::new(now) }
    }

    fn pay(&self, amount: u32) {
        self.level.set(self.level.get() - i64::from(amount));
    }

    fn earn(&self, amount: u32) {
        self.level.set((self.level.get() + i64::from(amount)).min(self.full.into()));
    }

    fn is_overdrawn(&self, clock: &Clock) -> bool {
        if self.level.get() >= 0 {
            return false;
        }
        let now = clock.now();
        let seconds = now.saturating_duration_since(self.since.get()).as_secs();
        self.since.set(now);
        let earned = seconds.saturating_mul(self.per_second.into()).min(self.full.into());
        self.earn(u32::try_from(earned).unwrap_or(self.full));
        self.level.get() < 0
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const HEADER_LENGTH: usize = 9;
/// The code that a reset carries behind its header.
const CODE_LENGTH: usize = 4;

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    length: u32,
    kind: u8,
    flags: u8,
    stream: u32,
    /// Why, of a reset.
    code: u32,
}

/// Finds the frames in a stream of bytes, however it is cut.
#[derive(Debug, Clone, Copy, Default)]
struct Scan {
    /// Bytes until the next header begins.
    skip: usize,
    header: [u8; HEADER_LENGTH + CODE_LENGTH],
    have: usize,
    /// The kind of the frame that is being skipped.
    kind: u8,
    block_open: bool,
}

impl Scan {
    fn after(preface: usize) -> Self {
        Self { skip: preface, ..Self::default() }
    }

    fn is_within_headers(&self) -> bool {
        self.skip > 0 && matches!(self.kind, HEADERS | CONTINUATION)
    }

    fn feed(&mut self, mut bytes: &[u8], mut found: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let wanted = (self.needs() - self.have).min(bytes.len());
            let (taken, rest) = bytes.split_at(wanted);
            if let Some(room) = self.header.get_mut(self.have..self.have + wanted) {
                room.copy_from_slice(taken);
            }
            self.have += wanted;
            bytes = rest;
            if self.have == self.needs() {
                found(self.complete());
            }
        }
    }

    /// How many bytes of a frame are looked at: its header, and the code of a reset.
    fn needs(&self) -> usize {
        let [a, b, c, kind, ..] = self.header;
        let has_code = kind == RST_STREAM && u32::from_be_bytes([0, a, b, c]) as usize >= CODE_LENGTH;
        if self.have >= HEADER_LENGTH && has_code { HEADER_LENGTH + CODE_LENGTH } else { HEADER_LENGTH }
    }

    fn complete(&mut self) -> Frame {
        let [a, b, c, kind, flags, rest @ ..] = self.header;
        let length = u32::from_be_bytes([0, a, b, c]);
        let (stream, code) = rest.split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
        // The first bit says nothing (RFC 9113, 4.1).
        let stream = u32::from_be_bytes(*stream) & 0x7fff_ffff;
        let code = code.first_chunk().filter(|_| self.have > HEADER_LENGTH).map_or(0, |code| u32::from_be_bytes(*code));
        self.skip = length as usize - (self.have - HEADER_LENGTH);
        self.have = 0;
        self.kind = kind;
        if matches!(kind, HEADERS | CONTINUATION) {
            self.block_open = flags & END_HEADERS == 0;
        }
        Frame { length, kind, flags, stream, code }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidegate_core::clock::ManualClock;

    use super::*;

    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        frame_on(1, kind, flags, payload)
    }

    fn frame_on(stream: u8, kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, stream];
        bytes.resize(HEADER_LENGTH + payload, 0xff);
        bytes
    }

    fn meter() -> (Rc<Meter>, Clock, std::sync::Arc<ManualClock>) {
        let manual = ManualClock::new(Duration::ZERO);
        let clock = Clock::Manual(std::sync::Arc::clone(&manual));
        (Meter::new(0, clock.now()), clock, manual)
    }

    #[test]
    fn frames_are_found_however_their_bytes_are_cut() {
        let reset = [&[0, 0, 4, RST_STREAM, 0, 0, 0, 0, 7][..], &[0, 0, 1, 8]].concat();
        let bytes =
            [vec![b'P'; 24], frame(4, 0, 12), frame(1, 4, 0), reset, frame(0, 1, 300), frame(PING, 0, 8)].concat();
        for size in 1..=bytes.len() {
            let (mut scan, mut found) = (Scan::after(24), Vec::new());
            for part in bytes.chunks(size) {
                scan.feed(part, |frame| found.push((frame.kind, frame.length, frame.stream, frame.code)));
            }
            let expected = [(4, 12, 1, 0), (1, 0, 1, 0), (RST_STREAM, 4, 7, 264), (0, 300, 1, 0), (PING, 8, 1, 0)];
            assert_eq!(found, expected, "in parts of {size}");
        }
    }

    #[test]
    fn a_flood_of_pings_uses_the_credit_up() {
        let (meter, clock, _) = meter();
        for _ in 0..CREDIT {
            meter.read(&frame(PING, 0, 8));
        }
        assert!(!meter.is_exhausted(&clock));
        meter.read(&frame(PING, 0, 8));
        assert!(meter.is_exhausted(&clock));
    }

    #[test]
    fn pings_now_and_then_are_free() {
        let (meter, clock, manual) = meter();
        for _ in 0..10 * CREDIT {
            meter.read(&frame(PING, 0, 8));
            manual.advance(Duration::from_millis(500));
            assert!(!meter.is_exhausted(&clock));
        }
    }

    #[test]
    fn window_updates_for_what_was_sent_are_free() {
        let (meter, clock, _) = meter();
        for _ in 0..10 * CREDIT {
            meter.wrote(&frame(DATA, 0, 5));
            meter.read(&frame(WINDOW_UPDATE, 0, 4));
            meter.read(&frame(WINDOW_UPDATE, 0, 4));
            meter.read(&frame(PING, 0, 8));
        }
        assert!(!meter.is_exhausted(&clock));
    }

    #[test]
    fn room_may_be_given_back_in_small_parts_and_late() {
        let (meter, clock, _) = meter();
        for _ in 0..10 * CREDIT {
            meter.wrote(&frame(DATA, 0, 16 * 1024));
            // As Go does: of the stream and of the connection, for each 4 KiB.
            (0..2 * 4).for_each(|_| meter.read(&frame(WINDOW_UPDATE, 0, 4)));
            assert!(!meter.is_exhausted(&clock));
        }
        (0..4 * CREDIT).for_each(|_| meter.read(&frame(WINDOW_UPDATE, 0, 4)));
        assert!(!meter.is_exhausted(&clock), "what was sent last is read later");
        (0..UPDATES).for_each(|_| meter.read(&frame(WINDOW_UPDATE, 0, 4)));
        assert!(meter.is_exhausted(&clock), "more than was ever sent");
    }

    #[test]
    fn window_updates_for_nothing_use_the_credit_up() {
        let (meter, clock, _) = meter();
        (0..=CREDIT).for_each(|_| meter.read(&frame(WINDOW_UPDATE, 0, 4)));
        assert!(meter.is_exhausted(&clock));
    }

    #[test]
    fn empty_data_is_no_use_unless_it_ends_a_body() {
        let (meter, clock, _) = meter();
        for _ in 0..10 * CREDIT {
            meter.read(&frame(DATA, END_STREAM, 0));
        }
        assert!(!meter.is_exhausted(&clock));
        for _ in 0..=CREDIT {
            meter.read(&frame(DATA, 0, 0));
        }
        assert!(meter.is_exhausted(&clock));
    }

    #[test]
    fn requests_that_are_abandoned_at_once_use_their_own_credit() {
        let (meter, clock, manual) = meter();
        for _ in 0..ABANDONED {
            meter.abandoned();
        }
        assert!(!meter.is_exhausted(&clock));
        meter.abandoned();
        assert!(meter.is_exhausted(&clock));
        manual.advance(Duration::from_secs(1));
        assert!(!meter.is_exhausted(&clock));
    }

    fn reset_of(stream: u8, reason: u8) -> Vec<u8> {
        vec![0, 0, 4, RST_STREAM, 0, 0, 0, 0, stream, 0, 0, 0, reason]
    }

    #[test]
    fn only_streams_that_were_never_handed_over_count_as_refused() {
        let (meter, _, _) = meter();
        for stream in [1, 3, 5, 7] {
            meter.read(&frame_on(stream, HEADERS, END_HEADERS, 5));
        }
        meter.served(3);
        for answer in [
            frame_on(1, HEADERS, END_HEADERS | END_STREAM, 5),
            // What follows an answer is about the same refusal.
            reset_of(1, 1),
            // A reply, and an end that we chose.
            frame_on(3, HEADERS, END_HEADERS, 5),
            reset_of(3, 8),
            reset_of(5, 7),
        ] {
            meter.wrote(&answer);
        }
        assert_eq!(meter.refused(), [Refusal::HeadersTooLarge, Refusal::Reset(Reason::REFUSED_STREAM)]);
        assert_eq!(meter.refused(), []);
        // Trailers open nothing.
        meter.read(&frame_on(3, HEADERS, END_HEADERS | END_STREAM, 5));
        meter.wrote(&reset_of(3, 1));
        assert_eq!(meter.refused(), []);
    }

    #[test]
    fn streams_that_nobody_answers_are_not_remembered_without_bound() {
        let (meter, _, _) = meter();
        for stream in 0..10_000_u32 {
            let mut bytes = frame(HEADERS, END_HEADERS, 0);
            bytes[5..9].copy_from_slice(&(2 * stream + 1).to_be_bytes());
            meter.read(&bytes);
        }
        assert_eq!(meter.unserved.borrow().waiting.len(), WAITING);
    }

    #[test]
    fn an_open_header_block_is_seen() {
        let (meter, _, _) = meter();
        meter.read(&frame(HEADERS, 0, 5));
        assert!(meter.is_in_header_block());
        meter.read(&frame(CONTINUATION, 0, 5));
        assert!(meter.is_in_header_block());
        let last = frame(CONTINUATION, END_HEADERS, 5);
        meter.read(&last[..HEADER_LENGTH + 2]);
        assert!(meter.is_in_header_block());
        meter.read(&last[HEADER_LENGTH + 2..]);
        assert!(!meter.is_in_header_block());
    }
}
