//! What several policies use.

pub(crate) mod claims;
pub(crate) mod fetching;
pub(crate) mod json;
pub(crate) mod jwks;
pub(crate) mod jws;
pub mod key_file;
pub(crate) mod key_set;
pub(crate) mod moment;
pub mod redis;
#[cfg(test)]
pub(crate) mod signing;
pub(crate) mod signing_key;
pub(crate) mod waiting;
