//! What people do to a file of keys, by the command line or the admin listener: make, show, rotate, end and revoke. A key is in no
//! log and no answer but the one to whoever had it made.

mod ends;
mod moment;
mod show;

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{digest, rand};
use serde::Deserialize;
use tidegate_config::value::RequestRate;
use tidegate_core::keys::{Digest, Entry, ID_BYTES, Index, Journal, KeyError, Record, SECRET_BYTES, id, text};
use tidegate_policies::shared::key_file::{Opening, change, read};

pub(crate) use self::ends::Ends;
pub(crate) use self::moment::{moment, moment_of};
pub(crate) use self::show::shown;

/// What is to be known of a new key: options of the command line, and the body of a call.
#[derive(Debug, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Draft {
    /// What people call it
    #[arg(long)]
    pub(crate) name: Arc<str>,

    /// Who calls with it [default: its name]
    #[arg(long)]
    #[serde(default)]
    pub(crate) user: Option<Arc<str>>,

    /// What the caller is; may be repeated
    #[arg(long = "role", value_name = "ROLE")]
    #[serde(default)]
    pub(crate) roles: Vec<Arc<str>>,

    /// What the caller may do; may be repeated
    #[arg(long = "permission", value_name = "PERMISSION")]
    #[serde(default)]
    pub(crate) permissions: Vec<Arc<str>>,

    /// What the key is issued for; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    #[serde(default)]
    pub(crate) scopes: Vec<Arc<str>>,

    /// Whose customer the caller is
    #[arg(long)]
    #[serde(default)]
    pub(crate) tenant: Option<Arc<str>>,

    /// Its own rate limit: 10/s, 600/m, 1000/h, 1/d
    #[arg(long)]
    #[serde(default)]
    pub(crate) rate: Option<RequestRate>,

    /// How many requests may come at once; only with a rate
    #[arg(long)]
    #[serde(default)]
    pub(crate) burst: Option<u32>,

    /// When it ends: 90d, 2027-01-31, 2027-01-31T12:00:00Z or never
    #[arg(long, default_value = "never")]
    #[serde(default)]
    pub(crate) expires: Ends,
}

/// A file of keys, and the time at which something is done to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Store<'a> {
    pub(crate) path: &'a Path,
    /// Whether to wait for other writers.
    pub(crate) wait: bool,
    /// Since 1970.
    pub(crate) now: Duration,
}

/// A key with a new secret.
pub(crate) struct Issued {
    /// The key itself.
    pub(crate) key: String,
    pub(crate) record: Arc<Record>,
}

/// Why nothing was done.
#[derive(Debug)]
pub(crate) enum Refused {
    NoSuchKey,
    Ended(KeyError),
    /// What was asked for makes no sense.
    Wrong(String),
    /// Somebody else writes to the file.
    Busy,
    File(io::Error),
    NoRandomness,
}

impl Store<'_> {
    /// All keys, valid or not.
    pub(crate) fn all(&self) -> Result<Journal, Refused> {
        Ok(read(self.path)?)
    }

    /// The key of this id, valid or not.
    pub(crate) fn one(&self, id: &str) -> Result<Arc<Record>, Refused> {
        self.all()?.index().get(id).cloned().ok_or(Refused::NoSuchKey)
    }

    /// Makes a key, and the file if there is none.
    pub(crate) fn create(&self, draft: &Draft) -> Result<Issued, Refused> {
        let expires = draft.expires.at(self.now);
        if expires.is_some_and(|expires| expires <= self.seconds()) {
            return Err(Refused::Wrong("the key would end before it begins".into()));
        }
        let id = id(random::<ID_BYTES>()?);
        let (key, hash) = secret(&id)?;
        let record = Record {
            id: id.into(),
            hash,
            name: Arc::clone(&draft.name),
            user: draft.user.clone(),
            roles: draft.roles.clone(),
            permissions: draft.permissions.clone(),
            scopes: draft.scopes.clone(),
            tenant: draft.tenant.clone(),
            rate: draft.rate,
            burst: draft.burst,
            created: self.seconds(),
            rotated: None,
            expires,
            revoked: None,
            former: None,
        };
        record.check().map_err(Refused::Wrong)?;
        let record = self.change(true, |index| match index.get(&record.id) {
            Some(_) => Err(Refused::Wrong("chance has picked an id that is taken: try again".into())),
            None => Ok(record),
        })?;
        Ok(Issued { key, record })
    }

    /// Gives a key a new secret. The old one stays valid for `grace`.
    pub(crate) fn rotate(&self, id: &str, grace: Duration) -> Result<Issued, Refused> {
        let (key, hash) = secret(id)?;
        let record = self.change(false, |index| {
            let record = index.get(id).ok_or(Refused::NoSuchKey)?;
            record.validity(self.now).map_err(Refused::Ended)?;
            Ok(record.rotated(hash, self.seconds(), grace.as_secs()))
        })?;
        Ok(Issued { key, record })
    }

    /// Says when a key ends. It may have ended before.
    pub(crate) fn expire(&self, id: &str, ends: Ends) -> Result<Arc<Record>, Refused> {
        self.change(false, |index| {
            let record = unrevoked(index, id)?;
            Ok(Record { expires: ends.at(self.now), ..Record::clone(record) })
        })
    }

    /// Ends a key for good.
    pub(crate) fn revoke(&self, id: &str) -> Result<Arc<Record>, Refused> {
        let opening = Opening { create: false, wait: self.wait };
        change(self.path, opening, |index| {
            let record = unrevoked(index, id)?;
            let revoked = self.seconds();
            let after = Record { revoked: Some(revoked), ..Record::clone(record) };
            Ok((Entry::Revocation { id: Arc::clone(&record.id), revoked }, Arc::new(after)))
        })
    }

    fn change(
        &self,
        create: bool,
        decide: impl FnOnce(&Index) -> Result<Record, Refused>,
    ) -> Result<Arc<Record>, Refused> {
        change(self.path, Opening { create, wait: self.wait }, |index| {
            let record = decide(index)?;
            Ok((Entry::Record(Box::new(record.clone())), Arc::new(record)))
        })
    }

    fn seconds(&self) -> u64 {
        self.now.as_secs()
    }
}

fn unrevoked<'a>(index: &'a Index, id: &str) -> Result<&'a Arc<Record>, Refused> {
    let record = index.get(id).ok_or(Refused::NoSuchKey)?;
    if record.revoked.is_some() { Err(Refused::Ended(KeyError::Revoked)) } else { Ok(record) }
}

/// A key's text, and what is kept of it.
fn secret(id: &str) -> Result<(String, Digest), Refused> {
    let key = text(id, &random::<SECRET_BYTES>()?);
    let mut hash = Digest([0; 32]);
    hash.0.copy_from_slice(digest::digest(&digest::SHA256, key.as_bytes()).as_ref());
    Ok((key, hash))
}

fn random<const BYTES: usize>() -> Result<[u8; BYTES], Refused> {
    let mut bytes = [0; BYTES];
    rand::fill(&mut bytes).map_err(|_| Refused::NoRandomness)?;
    Ok(bytes)
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        if error.kind() == ErrorKind::WouldBlock { Self::Busy } else { Self::File(error) }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchKey | Self::Ended(KeyError::Unknown) => f.write_str("there is no key of this id"),
            Self::Ended(KeyError::Revoked) => f.write_str("the key was revoked, which is for good: make a new one"),
            Self::Ended(KeyError::Expired) => f.write_str("the key has expired: say first when it shall end"),
            Self::Wrong(why) => f.write_str(why),
            Self::Busy => f.write_str("somebody else writes to the file of keys: try again"),
            Self::File(error) if error.kind() == ErrorKind::NotFound => f.write_str("there is no such file"),
            Self::File(error) if error.kind() == ErrorKind::IsADirectory => f.write_str("it is a folder"),
            Self::File(error) => error.fmt(f),
            Self::NoRandomness => f.write_str("the system gives no randomness"),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
