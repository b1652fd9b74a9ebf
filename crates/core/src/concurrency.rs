//! How many requests of a service are under way at once in the whole process, and the short queue of those that wait for a
//! place. First come, first served; no clock, and no lock while places are free.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// In [`Limit::state`]: somebody waits, so places change hands under the lock only.
const QUEUED: usize = 1;
/// In [`Limit::state`]: one place that is taken.
const PLACE: usize = 2;

/// A limit that all workers share.
#[derive(Debug)]
pub struct Limit {
    /// Places taken, times [`PLACE`], and [`QUEUED`] exactly while the queue is not empty.
    state: AtomicUsize,
    max: AtomicUsize,
    queue: Mutex<Queue>,
}

#[derive(Debug)]
struct Queue {
    longest: usize,
    next_ticket: u64,
    /// By ticket. Whoever has a ticket that is not here has been given a place.
    waiting: VecDeque<(u64, Waker)>,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Entry {
    /// It has a place.
    Entered(Slot),
    /// It is in the queue. How long it stays there is for its owner's clock.
    Queued(Waiting),
    /// Neither is to be had.
    Full,
}

impl Limit {
    /// `max` at once, and at most `queue` that wait.
    pub fn new(max: usize, queue: usize) -> Arc<Self> {
        let queue = Queue { longest: queue, next_ticket: 0, waiting: VecDeque::new() };
        Arc::new(Self { state: AtomicUsize::new(0), max: AtomicUsize::new(max), queue: Mutex::new(queue) })
    }

    /// Other limits from now on. Nobody loses a place or a turn by it.
    pub fn configure(&self, max: usize, queue: usize) {
        let mut locked = self.lock();
        self.max.store(max, SeqCst);
        locked.longest = queue;
        let woken: Vec<_> = std::iter::from_fn(|| self.admit(&mut locked)).collect();
        drop(locked);
        woken.into_iter().for_each(Waker::wake);
    }

    /// A place, a turn in the queue, or neither.
    pub fn enter(self: &Arc<Self>) -> Entry {
        if self.take_place() {
            return Entry::Entered(Slot(Arc::clone(self)));
        }
        let mut queue = self.lock();
        loop {
            let state = self.state.load(SeqCst);
            if state & QUEUED == 0 && self.take_place() {
                return Entry::Entered(Slot(Arc::clone(self)));
            }
            if queue.waiting.len() >= queue.longest {
                return Entry::Full;
            }
            // From here on a place that is given back is given under the lock, and so finds who waits.
            let full = state & QUEUED != 0 || state / PLACE >= self.max.load(SeqCst);
            if full && self.state.compare_exchange(state, state | QUEUED, SeqCst, SeqCst).is_ok() {
                break;
            }
        }
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        queue.waiting.push_back((ticket, Waker::noop().clone()));
        Entry::Queued(Waiting { limit: Arc::clone(self), ticket: Some(ticket) })
    }

    /// Requests that have a place.
    pub fn inside(&self) -> usize {
        self.state.load(Relaxed) / PLACE
    }

    /// Requests that wait for one.
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Without the lock: a place, if nobody waits for it.
    fn take_place(&self) -> bool {
        let max = self.max.load(SeqCst);
        let enter = |state: usize| (state & QUEUED == 0 && state / PLACE < max).then(|| state + PLACE);
        self.state.fetch_update(SeqCst, SeqCst, enter).is_ok()
    }

    fn leave(&self) {
        let leave = |state: usize| (state & QUEUED == 0).then(|| state - PLACE);
        if self.state.fetch_update(SeqCst, SeqCst, leave).is_ok() {
            return;
        }
        let mut queue = self.lock();
        self.state.fetch_sub(PLACE, SeqCst);
        let woken = self.admit(&mut queue);
        drop(queue);
        if let Some(waker) = woken {
            waker.wake();
        }
    }

    /// Gives a free place to whoever has waited longest, and returns whom to wake.
    fn admit(&self, queue: &mut Queue) -> Option<Waker> {
        if self.state.load(SeqCst) / PLACE >= self.max.load(SeqCst) {
            return None;
        }
        let (_, waker) = queue.waiting.pop_front()?;
        self.state.fetch_add(PLACE, SeqCst);
        self.unmark_empty(queue);
        Some(waker)
    }

    fn unmark_empty(&self, queue: &Queue) {
        if queue.waiting.is_empty() {
            self.state.fetch_and(!QUEUED, SeqCst);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place; dropping it gives it to the next.
#[derive(Debug)]
#[must_use = "dropping a place gives it back"]
pub struct Slot(Arc<Limit>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// A turn in the queue; ready once a place is there. Dropping it gives up the turn, or the place if it has just come.
#[derive(Debug)]
#[must_use = "dropping a turn gives it up"]
pub struct Waiting {
    limit: Arc<Limit>,
    /// `None` once the place was handed over.
    ticket: Option<u64>,
}

impl Future for Waiting {
    type Output = Slot;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Slot> {
        let Some(ticket) = self.ticket else { return Poll::Pending };
        {
            let mut queue = self.limit.lock();
            if let Some((_, waker)) = queue.place_of(ticket).and_then(|index| queue.waiting.get_mut(index)) {
                waker.clone_from(cx.waker());
                return Poll::Pending;
            }
        }
        self.ticket = None;
        Poll::Ready(Slot(Arc::clone(&self.limit)))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut queue = self.limit.lock();
        let Some(index) = queue.place_of(ticket) else {
            drop(queue);
            return self.limit.leave();
        };
        queue.waiting.remove(index);
        self.limit.unmark_empty(&queue);
    }
}

impl Queue {
    fn place_of(&self, ticket: u64) -> Option<usize> {
        self.waiting.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::task::Wake;

    use proptest::prelude::*;

    use super::*;

    fn enter(limit: &Arc<Limit>) -> Slot {
        match limit.enter() {
            Entry::Entered(slot) => slot,
            other @ (Entry::Queued(_) | Entry::Full) => panic!("{other:?}"),
        }
    }

    fn queue(limit: &Arc<Limit>) -> Waiting {
        match limit.enter() {
            Entry::Queued(waiting) => waiting,
            other @ (Entry::Entered(_) | Entry::Full) => panic!("{other:?}"),
        }
    }

    fn poll(waiting: &mut Waiting) -> Option<Slot> {
        match Pin::new(waiting).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(slot) => Some(slot),
            Poll::Pending => None,
        }
    }

    #[test]
    fn places_then_the_queue_then_nothing() {
        let limit = Limit::new(1, 1);
        let first = enter(&limit);
        let mut second = queue(&limit);
        assert!(matches!(limit.enter(), Entry::Full));
        assert!(poll(&mut second).is_none());
        drop(first);
        let second = poll(&mut second).expect("a place");
        assert_eq!((limit.inside(), limit.waiting()), (1, 0));
        drop(second);
        assert_eq!(limit.inside(), 0);
    }

    #[test]
    fn who_comes_later_does_not_go_first() {
        let limit = Limit::new(1, 3);
        let first = enter(&limit);
        let (mut second, mut third) = (queue(&limit), queue(&limit));
        drop(first);
        // The place belongs to the second already, though it has not noticed.
        let _fourth = queue(&limit);
        assert!(poll(&mut third).is_none());
        assert!(poll(&mut second).is_some());
        assert!(poll(&mut third).is_some());
    }

    #[test]
    fn a_turn_that_is_given_up_goes_to_the_next() {
        let limit = Limit::new(1, 3);
        let first = enter(&limit);
        let (second, third, mut fourth) = (queue(&limit), queue(&limit), queue(&limit));
        drop(second);
        drop(first);
        assert!(poll(&mut fourth).is_none(), "it is the third's turn");
        drop(third);
        assert!(poll(&mut fourth).is_some());
        assert_eq!((limit.inside(), limit.waiting()), (0, 0));
        assert!(matches!(limit.enter(), Entry::Entered(_)));
    }

    #[test]
    fn the_one_whose_turn_it_is_is_woken() {
        struct Flag(AtomicBool);
        impl Wake for Flag {
            fn wake(self: Arc<Self>) {
                self.0.store(true, SeqCst);
            }
        }
        let limit = Limit::new(1, 1);
        let first = enter(&limit);
        let mut second = queue(&limit);
        let flag = Arc::new(Flag(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&flag));
        assert!(Pin::new(&mut second).poll(&mut Context::from_waker(&waker)).is_pending());
        drop(first);
        assert!(flag.0.load(SeqCst));
    }

    #[test]
    fn other_limits_hold_at_once_and_take_nothing_away() {
        let limit = Limit::new(1, 2);
        let first = enter(&limit);
        let (mut second, mut third) = (queue(&limit), queue(&limit));
        limit.configure(3, 0);
        let (second, third) = (poll(&mut second).expect("a place"), poll(&mut third).expect("a place"));
        assert!(matches!(limit.enter(), Entry::Full));
        limit.configure(1, 1);
        drop((first, second));
        let mut fourth = queue(&limit);
        assert!(poll(&mut fourth).is_none());
        drop(third);
        assert!(poll(&mut fourth).is_some());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Enter,
        Leave(usize),
        Poll(usize),
        GiveUp(usize),
        Configure(usize, usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => Just(Step::Enter),
            2 => (0_usize..8).prop_map(Step::Leave),
            2 => (0_usize..8).prop_map(Step::Poll),
            1 => (0_usize..8).prop_map(Step::GiveUp),
            1 => (0_usize..4, 0_usize..4).prop_map(|(max, queue)| Step::Configure(max, queue)),
        ];
        prop::collection::vec(step, 0..100)
    }

    /// What the limit promises, said simply: those inside, and those that wait in their order.
    #[derive(Default)]
    struct Model {
        inside: usize,
        waiting: Vec<u32>,
        max: usize,
        longest: usize,
    }

    impl Model {
        fn admit(&mut self) {
            while self.inside < self.max && !self.waiting.is_empty() {
                self.waiting.remove(0);
                self.inside += 1;
            }
        }
    }

    proptest! {
        #[test]
        fn a_limit_does_what_its_model_does(steps in steps()) {
            let limit = Limit::new(2, 2);
            let mut model = Model { max: 2, longest: 2, ..Model::default() };
            let (mut slots, mut turns, mut names) = (Vec::new(), Vec::new(), 0..);
            for step in steps {
                match step {
                    Step::Enter => match limit.enter() {
                        Entry::Entered(slot) => {
                            prop_assert!(model.waiting.is_empty() && model.inside < model.max);
                            model.inside += 1;
                            slots.push(slot);
                        }
                        Entry::Queued(waiting) => {
                            prop_assert!(model.inside >= model.max && model.waiting.len() < model.longest);
                            let name = names.next().unwrap();
                            model.waiting.push(name);
                            turns.push((name, waiting));
                        }
                        Entry::Full => {
                            prop_assert!(model.inside >= model.max && model.waiting.len() >= model.longest);
                        }
                    },
                    Step::Leave(which) if which < slots.len() => {
                        drop(slots.remove(which));
                        model.inside -= 1;
                    }
                    Step::Poll(which) if which < turns.len() => {
                        let (name, turn) = &mut turns[which];
                        let slot = poll(turn);
                        prop_assert_eq!(slot.is_none(), model.waiting.contains(name));
                        if let Some(slot) = slot {
                            drop(turns.remove(which));
                            slots.push(slot);
                        }
                    }
                    Step::GiveUp(which) if which < turns.len() => {
                        let (name, turn) = turns.remove(which);
                        drop(turn);
                        match model.waiting.iter().position(|other| *other == name) {
                            Some(index) => drop(model.waiting.remove(index)),
                            None => model.inside -= 1,
                        }
                    }
                    Step::Configure(max, queue) => {
                        limit.configure(max, queue);
                        (model.max, model.longest) = (max, queue);
                    }
                    Step::Leave(_) | Step::Poll(_) | Step::GiveUp(_) => {}
                }
                model.admit();
                prop_assert_eq!((limit.inside(), limit.waiting()), (model.inside, model.waiting.len()));
            }
        }
    }

    struct Unpark(std::thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    fn block_on(mut waiting: Waiting) -> Slot {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        loop {
            match Pin::new(&mut waiting).poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(slot) => return slot,
                Poll::Pending => std::thread::park(),
            }
        }
    }

    /// Enters and leaves again and again, and gives up its turn now and then.
    fn come_and_go(limit: &Arc<Limit>, inside: &AtomicUsize, thread: usize) {
        for round in 0..2_000 {
            let slot = match limit.enter() {
                Entry::Entered(slot) => slot,
                Entry::Queued(waiting) if (thread + round).is_multiple_of(5) => {
                    drop(waiting);
                    continue;
                }
                Entry::Queued(waiting) => block_on(waiting),
                Entry::Full => panic!("there is room for all to wait"),
            };
            assert!(inside.fetch_add(1, SeqCst) < 2);
            inside.fetch_sub(1, SeqCst);
            drop(slot);
        }
    }

    #[test]
    fn threads_never_exceed_the_limit_and_all_get_their_turn() {
        let limit = Limit::new(2, 8);
        let inside = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..6 {
                let (limit, inside) = (&limit, &inside);
                scope.spawn(move || come_and_go(limit, inside, thread));
            }
        });
        assert_eq!((limit.inside(), limit.waiting()), (0, 0));
    }
}
