//! What attempts are made with, on a worker or on the thread that looks after services.

use std::cell::RefCell;
use std::rc::Rc;

use tidegate_core::clock::Clock;

use super::line::Bursts;
use crate::buffers::Buffers;
use crate::net::Net;

/// Cheap to clone; all of it belongs to one thread.
#[derive(Clone)]
pub(crate) struct Means {
    pub(crate) clock: Clock,
    pub(crate) net: Rc<Net>,
    pub(crate) buffers: Rc<Buffers>,
    pub(crate) dice: Rc<RefCell<fastrand::Rng>>,
    pub(crate) bursts: Rc<Bursts>,
}
