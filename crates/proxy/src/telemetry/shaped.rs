//! What traffic shaping counts: copies and faults, on one worker.

use super::cells::Cell;

/// One route's copies to its mirror.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct MirrorCells {
    /// Gauge: copies that are kept or sent now.
    pub under_way: Cell,
    /// Copies that were answered.
    pub sent: Cell,
    /// Copies that were sent and not answered.
    pub failed: Cell,
    /// Copies that were not sent.
    pub dropped: Cell,
}

/// One route's faults.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct FaultCells {
    /// Requests that were delayed.
    pub delays: Cell,
    /// Requests that were refused.
    pub aborts: Cell,
}
