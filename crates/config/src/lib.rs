//! What the operator wrote and what it means: YAML, environment and secrets to a checked [`Config`], every problem with
//! its place and advice. Opens no sockets, reads no clock, spawns nothing; files come through a [`Source`].
//!
//! ```
//! let loaded = tidegate_config::from_yaml(
//!     "services: { users: { url: http://127.0.0.1:9001 } }\n\
//!      routes: [{ match: { path_prefix: / }, service: users }]",
//! )
//! .expect("a valid configuration");
//! assert_eq!(loaded.config.routes.len(), 1);
//! ```

pub mod config;
pub mod policy;
pub mod problem;
pub mod source;
pub mod value;

mod de;
mod document;
mod endpoints;
mod env;
mod file;
mod include;
mod later;
mod load;
mod merge;
mod parse;
mod reference;
mod resolve;
mod schema;
mod show;
mod substitute;
mod tree;
mod vocabulary;

pub use config::Config;
pub use document::{Document, Location};
pub use endpoints::{endpoint_list, one_endpoint};
pub use load::{Failure, Inputs, Loaded, from_yaml, load};
pub use problem::{Path, Problem, Problems, Severity};
pub use reference::reference;
pub use resolve::{MAX_WEIGHT, overlap};
pub use schema::schema;
pub use source::{Disk, Memory, Source};

/// A file error without the system's number.
fn file_error(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    let known = [
        (ErrorKind::NotFound, "there is no such file"),
        (ErrorKind::PermissionDenied, "permission denied"),
        (ErrorKind::IsADirectory, "it is a folder"),
    ];
    let text = known.into_iter().find(|(kind, _)| *kind == error.kind()).map(|(_, text)| text.to_owned());
    text.unwrap_or_else(|| error.to_string())
}
