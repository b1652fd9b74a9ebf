//! Who may pass, in one atomic word: a generation, whether passing is free, forbidden or on trial, and the trials left.

use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};

/// The gate before an endpoint, or before a service. Set under the cluster's lock, passed without one.
#[derive(Debug, Default)]
pub(super) struct Gate(AtomicU64);

/// Whom a gate lets pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Free,
    Shut,
    /// Nobody either, but what was let through before may end in peace.
    Drained,
    /// So many, whose results decide what comes next.
    Trial(u32),
}

/// Leave to send one request. Whatever comes of it counts only while its generation lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pass {
    pub(super) generation: u32,
    pub(super) trial: bool,
}

const FREE: u64 = 0;
const SHUT: u64 = 1 << 31;
const TRIAL: u64 = 1 << 30;
const DRAINED: u64 = 1 << 29;
const PERMITS: u64 = DRAINED - 1;

impl Gate {
    /// Begins a new generation.
    pub(super) fn set(&self, mode: Mode) {
        let low = match mode {
            Mode::Free => FREE,
            Mode::Shut => SHUT,
            Mode::Drained => SHUT | DRAINED,
            Mode::Trial(permits) => TRIAL | u64::from(permits) & PERMITS,
        };
        let generation = generation(self.0.load(Relaxed)).wrapping_add(1);
        self.0.store(u64::from(generation) << 32 | low, Relaxed);
    }

    pub(super) fn generation(&self) -> u32 {
        generation(self.0.load(Acquire))
    }

    pub(super) fn is_shut(&self) -> bool {
        self.0.load(Relaxed) & SHUT != 0
    }

    /// Shut because of what its requests met.
    pub(super) fn is_lost(&self) -> bool {
        self.0.load(Relaxed) & (SHUT | DRAINED) == SHUT
    }

    /// Takes a permit if it is a matter of trials; `None` if there is none left, or nobody may pass.
    #[inline]
    pub(super) fn enter(&self) -> Option<Pass> {
        let mut word = self.0.load(Acquire);
        loop {
            let generation = generation(word);
            if word & (SHUT | TRIAL) == FREE {
                return Some(Pass { generation, trial: false });
            }
            if word & SHUT != 0 || word & PERMITS == 0 {
                return None;
            }
            match self.0.compare_exchange_weak(word, word - 1, AcqRel, Acquire) {
                Ok(_) => return Some(Pass { generation, trial: true }),
                Err(other) => word = other,
            }
        }
    }

    /// Gives a trial's permit back: the trial was called off.
    pub(super) fn give_back(&self, pass: Pass) {
        if !pass.trial {
            return;
        }
        let mut word = self.0.load(Acquire);
        while generation(word) == pass.generation {
            match self.0.compare_exchange_weak(word, word + 1, AcqRel, Acquire) {
                Ok(_) => return,
                Err(other) => word = other,
            }
        }
    }
}

#[inline]
fn generation(word: u64) -> u32 {
    u32::try_from(word >> 32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_trials_pass_than_there_are_permits() {
        let gate = Gate::default();
        gate.set(Mode::Trial(2));
        let first = gate.enter().unwrap();
        assert!(first.trial && gate.enter().is_some());
        assert_eq!(gate.enter(), None);
        gate.give_back(first);
        assert!(gate.enter().is_some());
        assert_eq!(gate.enter(), None);
    }

    #[test]
    fn a_permit_of_another_generation_is_worth_nothing() {
        let gate = Gate::default();
        gate.set(Mode::Trial(1));
        let old = gate.enter().unwrap();
        gate.set(Mode::Trial(1));
        assert!(gate.enter().is_some());
        gate.give_back(old);
        assert_eq!(gate.enter(), None);
    }

    #[test]
    fn a_shut_gate_lets_nobody_pass_and_a_free_one_everybody() {
        let gate = Gate::default();
        assert!(gate.enter().is_some_and(|pass| !pass.trial));
        for (mode, lost) in [(Mode::Shut, true), (Mode::Drained, false)] {
            gate.set(mode);
            assert_eq!((gate.enter(), gate.is_lost()), (None, lost));
        }
    }
}
