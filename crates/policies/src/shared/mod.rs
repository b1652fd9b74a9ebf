//! What several policies use.

pub mod key_file;
