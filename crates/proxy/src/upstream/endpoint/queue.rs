//! Those who wait for a connection: first come, first served, and one is called for each connection that may be had.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// How many wait at most.
const LONGEST: usize = 1000;

/// See the module.
#[derive(Default)]
pub(super) struct Queue(RefCell<Waiting>);

#[derive(Default)]
struct Waiting {
    next_ticket: u64,
    /// By ticket. Whoever has a ticket that is not here has been called.
    tickets: VecDeque<(u64, Waker)>,
    /// How many have been called and have not looked yet.
    called: usize,
}

impl Queue {
    /// True if nobody waits, nor has just been called.
    pub(super) fn is_empty(&self) -> bool {
        let waiting = self.0.borrow();
        waiting.tickets.is_empty() && waiting.called == 0
    }

    /// A turn after all others; `None` if too many wait.
    pub(super) fn enter(&self) -> Option<Turn<'_>> {
        let mut waiting = self.0.borrow_mut();
        if waiting.tickets.len() >= LONGEST {
            return None;
        }
        let ticket = waiting.next_ticket;
        waiting.next_ticket += 1;
        waiting.tickets.push_back((ticket, Waker::noop().clone()));
        Some(Turn { queue: self, ticket: Some(ticket) })
    }

    /// Calls whoever has waited longest.
    pub(super) fn call(&self) {
        let mut waiting = self.0.borrow_mut();
        let Some((_, waker)) = waiting.tickets.pop_front() else { return };
        waiting.called += 1;
        drop(waiting);
        waker.wake();
    }
}

impl Waiting {
    fn place_of(&self, ticket: u64) -> Result<usize, usize> {
        self.tickets.binary_search_by_key(&ticket, |(ticket, _)| *ticket)
    }
}

/// A turn in the queue. Dropping it gives it up, and if it was called already, the next one is called instead.
#[must_use = "dropping a turn gives it up"]
pub(super) struct Turn<'a> {
    queue: &'a Queue,
    /// `None` once it was taken.
    ticket: Option<u64>,
}

impl Turn<'_> {
    /// Waits until it is called.
    pub(super) async fn called(&self) {
        poll_fn(|cx| {
            let Some(ticket) = self.ticket else { return Poll::Ready(()) };
            let mut waiting = self.queue.0.borrow_mut();
            let place = waiting.place_of(ticket).ok();
            match place.and_then(|place| waiting.tickets.get_mut(place)) {
                Some((_, waker)) => {
                    waker.clone_from(cx.waker());
                    Poll::Pending
                }
                None => Poll::Ready(()),
            }
        })
        .await;
    }

    /// It was called and found nothing: it keeps its place before those who came later.
    pub(super) fn wait_again(&self) {
        let Some(ticket) = self.ticket else { return };
        let mut waiting = self.queue.0.borrow_mut();
        if let Err(place) = waiting.place_of(ticket) {
            waiting.called -= 1;
            waiting.tickets.insert(place, (ticket, Waker::noop().clone()));
        }
    }

    /// It was called and found what it waited for. The next one is called if there is `more`.
    pub(super) fn take(mut self, more: bool) {
        self.ticket = None;
        self.queue.0.borrow_mut().called -= 1;
        if more {
            self.queue.call();
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut waiting = self.queue.0.borrow_mut();
        if let Ok(place) = waiting.place_of(ticket) {
            waiting.tickets.remove(place);
            return;
        }
        waiting.called -= 1;
        drop(waiting);
        self.queue.call();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::task::{Context, Wake};

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn is_called(turn: &Turn<'_>, waker: &Waker) -> bool {
        pin!(turn.called()).poll(&mut Context::from_waker(waker)).is_ready()
    }

    fn look(turn: &Turn<'_>) -> bool {
        is_called(turn, Waker::noop())
    }

    #[test]
    fn each_call_wakes_one_in_the_order_they_came() {
        let queue = Queue::default();
        let wakes: [Arc<Counter>; 3] = std::array::from_fn(|_| Arc::default());
        let turns: Vec<_> = wakes.iter().map(|_| queue.enter().unwrap()).collect();
        for (turn, wake) in turns.iter().zip(&wakes) {
            // Looking twice registers once.
            assert!(!is_called(turn, &Waker::from(Arc::clone(wake))));
            assert!(!is_called(turn, &Waker::from(Arc::clone(wake))));
        }
        let woken = || wakes.each_ref().map(|wake| wake.0.load(SeqCst));
        queue.call();
        assert_eq!(woken(), [1, 0, 0]);
        queue.call();
        assert_eq!(woken(), [1, 1, 0]);
    }

    #[test]
    fn a_turn_that_is_given_up_goes_to_the_next() {
        let queue = Queue::default();
        let [first, second, third] = std::array::from_fn(|_| queue.enter().unwrap());
        drop(second);
        queue.call();
        assert!(!look(&third), "it is the first's turn");
        drop(first);
        assert!(look(&third));
        third.take(true);
        assert!(queue.is_empty());
    }

    #[test]
    fn who_finds_nothing_stays_before_those_who_came_later() {
        let queue = Queue::default();
        let [first, second, third] = std::array::from_fn(|_| queue.enter().unwrap());
        queue.call();
        queue.call();
        first.wait_again();
        second.wait_again();
        assert!(!look(&first) && !look(&second) && !look(&third));
        queue.call();
        assert!(look(&first) && !look(&second));
        first.take(true);
        assert!(look(&second) && !look(&third));
        second.take(false);
        assert!(!look(&third));
    }

    #[test]
    fn only_so_many_wait() {
        let queue = Queue::default();
        let mut turns: Vec<_> = (0..LONGEST).map(|_| queue.enter().unwrap()).collect();
        assert!(queue.enter().is_none());
        turns.pop();
        assert!(queue.enter().is_some());
        turns.clear();
        assert!(queue.is_empty());
    }
}
