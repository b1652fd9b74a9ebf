//! What the gateway tells about itself: one [`Completed`] event per request feeds the access log and the request metrics.
//! Nothing here decides anything about a request, and nothing here waits on a worker's thread.

mod cells;
mod completed;
mod escape;
mod exposition;
mod log;
mod log_writer;
mod metrics;
mod policies;
mod services;
mod shaped;
mod timestamp;

pub use cells::{Cell, Held, Histogram};
pub use completed::{Completed, End};
pub use exposition::{Description, Kind, descriptions};
pub use log::LogBuffer;
pub use log_writer::{LogCounters, LogSender, LogWriter, Prepared};
pub use metrics::{
    LetGo, ListenerCells, Metrics, Names, PoolCells, Refused, RefusedStream, Series, Shard, WorkerCells,
};
pub use shaped::{FaultCells, MirrorCells};
pub use timestamp::timestamp;
