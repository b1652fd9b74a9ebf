//! The listeners beside the traffic: `admin` for operators and for endpoints that register, `status` for probes and scrapers. They
//! run on the control thread, far from any request.

mod calls;
mod keys;
mod listen;
mod routes;
mod services;
mod show;

pub(crate) use listen::{BindError, Listeners};
