//! API keys: what one looks like, what is kept of it, and how it is found again. Hashing, randomness and files are the caller's.

mod index;
mod journal;
mod record;
mod token;

pub use index::{Index, KeyError};
pub use journal::{Broken, Journal};
pub use record::{Digest, Entry, Former, Record};
pub use token::{ID_BYTES, Malformed, SECRET_BYTES, id, id_of, text};
