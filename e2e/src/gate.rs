//! A door between a test and a backend's script: one waits, the other opens.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::stream::PATIENCE;

/// Closed until opened, then open for good.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// A closed one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets everybody through.
    pub fn open(&self) {
        let (open, changed) = &*self.0;
        *open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }

    /// Waits until it is open.
    ///
    /// # Panics
    /// If nobody opens it.
    pub fn wait(&self) {
        let (open, changed) = &*self.0;
        let open = open.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = changed.wait_timeout_while(open, PATIENCE, |open| !*open);
        let (open, _) = waiting.unwrap_or_else(PoisonError::into_inner);
        assert!(*open, "the gate was never opened");
    }
}
