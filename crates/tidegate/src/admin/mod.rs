//! The listeners beside the traffic: `admin` for operators, `status` for probes and scrapers. They read and never change anything,
//! and run on the control thread, far from any request.

mod listen;
mod routes;

pub(crate) use listen::{BindError, Listeners};
