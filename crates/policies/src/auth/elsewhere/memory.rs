//! Answers that are remembered, and those that are awaited. They lie in small sets, so that the workers that use them wait for each
//! other only where they ask about nearly the same, and for no longer than a look takes.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError};

use super::{Judged, Print, Unavailable};

/// Answers that lie in the same place.
const PLACES: usize = 8;

/// All that is known.
pub(super) struct Memory<T> {
    sets: Vec<Mutex<Set<T>>>,
}

struct Set<T> {
    /// The one that was used last comes first.
    entries: Vec<Entry<T>>,
    flights: Vec<(Print, Weak<Flight<T>>)>,
}

impl<T> Set<T> {
    fn makes_room(&mut self, refused: bool) -> bool {
        let entries = &mut self.entries;
        if entries.len() < PLACES {
            return true;
        }
        let least = entries.iter().rposition(|known| known.refused);
        let least = if refused { least } else { least.or(entries.len().checked_sub(1)) };
        least.map(|least| entries.remove(least)).is_some()
    }
}

struct Entry<T> {
    print: Print,
    said: T,
    refused: bool,
    until: Instant,
    /// Time since 1970.
    ends: Option<Duration>,
}

impl<T> Entry<T> {
    fn is_good(&self, now: Instant, wall: Duration) -> bool {
        now < self.until && self.ends.is_none_or(|ends| wall < ends)
    }
}

impl<T: Clone> Memory<T> {
    /// Room for so many answers, or a few more.
    pub(super) fn new(answers: usize) -> Self {
        let set = || Mutex::new(Set { entries: Vec::new(), flights: Vec::new() });
        Self { sets: std::iter::repeat_with(set).take(answers.div_ceil(PLACES).max(1)).collect() }
    }

    /// The answer, if it holds at `now`, which is `wall` since 1970.
    pub(super) fn find(&self, print: &Print, now: Instant, wall: Duration) -> Option<T> {
        self.with(print, |set| {
            let at = set.entries.iter().position(|entry| entry.print == *print)?;
            if !set.entries.get(at)?.is_good(now, wall) {
                set.entries.remove(at);
                return None;
            }
            set.entries.get_mut(..=at)?.rotate_right(1);
            set.entries.first().map(|entry| entry.said.clone())
        })?
    }

    /// Keeps an answer. What has ended makes room, then what proved nothing, then what was not used for longest; but nothing that is proved
    /// makes room for what proved nothing.
    pub(super) fn keep(&self, print: &Print, judged: Judged<T>, (until, now, wall): (Instant, Instant, Duration)) {
        let Judged { said, refused, ends, .. } = judged;
        let entry = Entry { print: *print, said, refused, until, ends };
        if !entry.is_good(now, wall) {
            return;
        }
        self.with(print, |set| {
            set.entries.retain(|known| known.print != entry.print && known.is_good(now, wall));
            if set.makes_room(refused) {
                set.entries.insert(0, entry);
            }
        });
    }

    /// The question that is on its way, or a new one.
    pub(super) fn join(&self, print: &Print) -> Arc<Flight<T>> {
        let joined = self.with(print, |set| {
            let known = set.flights.iter().find(|(known, _)| known == print);
            if let Some(flight) = known.and_then(|(_, flight)| flight.upgrade()) {
                return flight;
            }
            let new = Arc::new(Flight::new());
            set.flights.retain(|(_, flight)| flight.strong_count() > 0);
            set.flights.push((*print, Arc::downgrade(&new)));
            new
        });
        joined.unwrap_or_else(|| Arc::new(Flight::new()))
    }

    /// Ends a question: all who wait for it are told, or that the answer is not for them.
    pub(super) fn land(&self, print: &Print, flight: &Arc<Flight<T>>, found: Option<Result<T, Unavailable>>) {
        self.with(print, |set| {
            set.flights
                .retain(|(_, known)| known.strong_count() > 0 && !std::ptr::eq(known.as_ptr(), &raw const **flight));
        });
        if let Some(found) = found {
            flight.found.get_or_init(|| found);
        }
        flight.turn.close();
    }

    fn with<R>(&self, print: &Print, work: impl FnOnce(&mut Set<T>) -> R) -> Option<R> {
        let number = print.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        let at = usize::try_from(number % u64::try_from(self.sets.len()).ok()?).ok()?;
        self.sets.get(at).map(|set| work(&mut set.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// A question that is on its way.
pub(super) struct Flight<T> {
    /// One of those who ask has it. It is closed when there is an answer.
    turn: Semaphore,
    found: OnceLock<Result<T, Unavailable>>,
    /// Those who wait for it.
    pub(super) waiting: AtomicUsize,
}

/// Whose turn it is to ask.
pub(super) enum Turn<'f> {
    /// The caller's, until this is dropped.
    Mine(SemaphorePermit<'f>),
    /// There was an answer.
    Over,
}

impl<T: Clone> Flight<T> {
    fn new() -> Self {
        Self { turn: Semaphore::new(1), found: OnceLock::new(), waiting: AtomicUsize::new(0) }
    }

    /// Whose turn it is, if that is known at once.
    pub(super) fn turn_now(&self) -> Option<Turn<'_>> {
        match self.turn.try_acquire() {
            Ok(turn) => Some(Turn::Mine(turn)),
            Err(TryAcquireError::Closed) => Some(Turn::Over),
            Err(TryAcquireError::NoPermits) => None,
        }
    }

    /// Waits for the turn or for the answer.
    pub(super) async fn turn(&self) -> Turn<'_> {
        self.turn.acquire().await.map_or(Turn::Over, Turn::Mine)
    }

    /// What came of it, unless that was for one request alone.
    pub(super) fn found(&self) -> Option<Result<T, Unavailable>> {
        self.found.get().cloned()
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::clock::{Clock, ManualClock};

    use super::*;

    const WALL: Duration = Duration::from_secs(1000);

    fn now() -> Instant {
        Clock::Manual(ManualClock::new(WALL)).now()
    }

    fn print(number: u64) -> Print {
        let mut print = [0; 32];
        print[24..].copy_from_slice(&number.to_be_bytes());
        print[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        print
    }

    fn judged(said: u64, refused: bool, ends: Option<u64>) -> Judged<u64> {
        Judged { said, alone: false, refused, ends: ends.map(Duration::from_secs) }
    }

    #[test]
    fn an_answer_holds_until_its_time_is_over_or_the_proof_ends() {
        let (memory, now) = (Memory::new(8), now());
        let minute = now + Duration::from_mins(1);
        memory.keep(&print(1), judged(1, false, Some(1010)), (minute, now, WALL));
        memory.keep(&print(2), judged(2, false, None), (minute, now, WALL));
        memory.keep(&print(3), judged(3, false, Some(1000)), (minute, now, WALL));
        memory.keep(&print(4), judged(4, false, None), (now, now, WALL));
        let found = |number, now, wall| memory.find(&print(number), now, Duration::from_secs(wall));
        assert_eq!([1, 2, 3, 4].map(|number| found(number, now, 1000)), [Some(1), Some(2), None, None]);
        assert_eq!(found(1, now, 1010), None, "the clock on the wall may run ahead");
        assert_eq!(found(1, now, 1000), None, "what has ended is gone");
        assert_eq!(found(2, now + Duration::from_millis(59_999), 9000), Some(2));
        assert_eq!(found(2, minute, 9000), None);
    }

    #[test]
    fn there_is_room_for_so_many_and_refusals_go_first() {
        let (memory, now) = (Memory::new(64), now());
        let minute = now + Duration::from_mins(1);
        let good = |number: u64| number.is_multiple_of(63);
        for number in 0..1000 {
            memory.keep(&print(number), judged(number, !good(number), None), (minute, now, WALL));
        }
        let known: Vec<u64> = (0..1000).filter(|number| memory.find(&print(*number), now, WALL).is_some()).collect();
        assert!(known.len() <= 64, "{}", known.len());
        assert_eq!(
            known.iter().filter(|number| good(**number)).count(),
            16,
            "no refusal drives out a caller who is known"
        );
        let used = print(5000);
        memory.keep(&used, judged(5000, false, None), (minute, now, WALL));
        for number in 10_000..20_000 {
            assert!(memory.find(&used, now, WALL).is_some());
            memory.keep(&print(number), judged(number, false, None), (minute, now, WALL));
        }
    }

    #[test]
    fn questions_that_nobody_asks_any_more_leave_nothing_behind() {
        let memory: Memory<u64> = Memory::new(8);
        for number in 0..1000 {
            drop(memory.join(&print(number)));
        }
        assert_eq!(memory.sets[0].lock().unwrap().flights.len(), 1);
        let flight = memory.join(&print(1));
        assert!(Arc::ptr_eq(&flight, &memory.join(&print(1))));
        memory.land(&print(1), &flight, Some(Ok(1)));
        assert_eq!(memory.sets[0].lock().unwrap().flights.len(), 0);
        assert!(!Arc::ptr_eq(&flight, &memory.join(&print(1))), "who comes later asks anew");
        assert_eq!(flight.found(), Some(Ok(1)));
    }
}
