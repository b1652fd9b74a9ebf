//! Keys by the digest of what a caller presents: one look-up in a hash map, whatever the number of keys. The map's own hash is
//! keyed by the process, and digests are compared in constant time, so that its speed says nothing about what is in it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::record::{Digest, Entry, Record, has_ended};

/// All keys that there are.
#[derive(Debug, Clone, Default)]
pub struct Index {
    records: HashMap<Arc<str>, Arc<Record>>,
    secrets: HashMap<Digest, Secret>,
}

#[derive(Debug, Clone)]
struct Secret {
    record: Arc<Record>,
    /// In seconds since 1970; `None` is as long as the key.
    until: Option<u64>,
}

/// Why a key is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyError {
    /// There is no such key.
    Unknown,
    /// It was valid once, or its secret was.
    Expired,
    /// Somebody has ended it.
    Revoked,
}

impl Index {
    /// The key whose text has this SHA-256, at `now` since 1970.
    pub fn find(&self, digest: &[u8; 32], now: Duration) -> Result<&Arc<Record>, KeyError> {
        let Secret { record, until } = self.secrets.get(&Digest(*digest)).ok_or(KeyError::Unknown)?;
        record.validity(now)?;
        if has_ended(*until, now) { Err(KeyError::Expired) } else { Ok(record) }
    }

    /// The key of this id, valid or not.
    pub fn get(&self, id: &str) -> Option<&Arc<Record>> {
        self.records.get(id)
    }

    /// All keys, valid or not, the oldest first.
    pub fn records(&self) -> Vec<&Arc<Record>> {
        let mut records: Vec<_> = self.records.values().collect();
        records.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        records
    }

    /// How many keys there are, valid or not.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Takes over what a line says. A revocation of what is not there changes nothing. A secret is of one key, because the key's text has
    /// the id in it: what claims one of another key is an error, or a copy of a line could undo its revocation.
    pub fn apply(&mut self, entry: Entry) -> Result<(), String> {
        match entry {
            Entry::Record(record) => {
                if let Some(other) = self.other_owner(&record) {
                    return Err(format!("it has the hash of the key {other}"));
                }
                self.put(*record);
            }
            Entry::Revocation { id, revoked } => {
                if let Some(record) = self.records.get(&id) {
                    self.put(Record { revoked: Some(revoked), ..Record::clone(record) });
                }
            }
        }
        Ok(())
    }

    /// Another key that has a secret of this one.
    fn other_owner(&self, record: &Record) -> Option<&Arc<str>> {
        let hashes = record.former.iter().map(|former| &former.hash).chain([&record.hash]);
        let mut owners = hashes.filter_map(|hash| self.secrets.get(hash)).map(|secret| &secret.record.id);
        owners.find(|owner| **owner != record.id)
    }

    fn put(&mut self, record: Record) {
        let record = Arc::new(record);
        if let Some(old) = self.records.insert(Arc::clone(&record.id), Arc::clone(&record)) {
            self.secrets.remove(&old.hash);
            old.former.iter().for_each(|former| drop(self.secrets.remove(&former.hash)));
        }
        if let Some(former) = &record.former {
            self.secrets.insert(former.hash, Secret { record: Arc::clone(&record), until: Some(former.until) });
        }
        self.secrets.insert(record.hash, Secret { record, until: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Former;

    fn record(id: &str, hash: u8) -> Record {
        let line =
            format!(r#"{{"id":"key0000{id}","hash":"{}","name":"n","created":1}}"#, format!("{hash:02x}").repeat(32));
        let Ok(Entry::Record(record)) = Entry::parse(line.as_bytes()) else { panic!("{line}") };
        *record
    }

    fn index(records: impl IntoIterator<Item = Record>) -> Index {
        let mut index = Index::default();
        records.into_iter().for_each(|record| index.apply(Entry::Record(Box::new(record))).expect("its own secret"));
        index
    }

    fn found(index: &Index, hash: u8, second: u64) -> Result<String, KeyError> {
        index
            .find(&[hash; 32], Duration::from_secs(second))
            .map(|record| record.id.trim_start_matches("key0000").to_owned())
    }

    #[test]
    fn a_key_is_found_by_its_digest_and_by_nothing_else() {
        let index = index([record("a", 1), record("b", 2)]);
        assert_eq!(found(&index, 2, 5), Ok("b".into()));
        assert_eq!(found(&index, 3, 5), Err(KeyError::Unknown));
        let mut nearly = [1; 32];
        nearly[31] = 0;
        assert_eq!(index.find(&nearly, Duration::ZERO), Err(KeyError::Unknown));
    }

    #[test]
    fn a_key_ends_at_its_second_and_not_before() {
        let index = index([Record { expires: Some(10), ..record("a", 1) }]);
        assert!(index.find(&[1; 32], Duration::from_millis(9_999)).is_ok());
        assert_eq!(found(&index, 1, 10), Err(KeyError::Expired));
    }

    #[test]
    fn a_replaced_secret_lives_as_long_as_it_was_given() {
        let index = index([record("a", 1), record("a", 1).rotated(Digest([2; 32]), 10, 5)]);
        assert_eq!(found(&index, 1, 14), Ok("a".into()));
        assert_eq!(found(&index, 1, 15), Err(KeyError::Expired));
        assert_eq!(found(&index, 2, 99), Ok("a".into()));
        let at_once = self::index([record("a", 1), record("a", 1).rotated(Digest([2; 32]), 10, 0)]);
        assert_eq!(found(&at_once, 1, 10), Err(KeyError::Unknown));
    }

    #[test]
    fn a_revoked_key_is_no_more_with_either_secret() {
        let mut index = index([record("a", 1).rotated(Digest([2; 32]), 10, 5)]);
        for id in ["key0000a", "gone"] {
            assert_eq!(index.apply(Entry::Revocation { id: id.into(), revoked: 11 }), Ok(()));
        }
        assert_eq!(found(&index, 1, 11), Err(KeyError::Revoked));
        assert_eq!(found(&index, 2, 11), Err(KeyError::Revoked));
        assert_eq!((index.get("key0000a").and_then(|record| record.revoked), index.len()), (Some(11), 1));
    }

    #[test]
    fn what_was_read_before_stays_as_it_was() {
        let before = index([record("a", 1)]);
        let mut after = before.clone();
        assert_eq!(after.apply(Entry::Revocation { id: "key0000a".into(), revoked: 1 }), Ok(()));
        assert!(found(&before, 1, 2).is_ok() && found(&after, 1, 2).is_err());
    }

    #[test]
    fn a_line_that_is_copied_under_another_id_is_no_second_key() {
        let mut index = index([record("a", 1), record("a", 1).rotated(Digest([2; 32]), 10, 5)]);
        let copy = |hash, former| {
            let former = Some(Former { hash: Digest([former; 32]), until: 99 });
            Entry::Record(Box::new(Record { former, ..record("b", hash) }))
        };
        for (hash, former) in [(1, 3), (2, 3), (3, 1), (3, 2)] {
            assert_eq!(index.apply(copy(hash, former)), Err("it has the hash of the key key0000a".into()));
        }
        assert_eq!(index.apply(Entry::Revocation { id: "key0000a".into(), revoked: 11 }), Ok(()));
        assert!(index.apply(copy(2, 3)).is_err(), "not even of one that is revoked");
        assert_eq!((found(&index, 2, 11), found(&index, 3, 11)), (Err(KeyError::Revoked), Err(KeyError::Unknown)));
        assert_eq!(index.apply(copy(4, 3)), Ok(()));
        assert_eq!((found(&index, 4, 11), index.len()), (Ok("b".into()), 2));
    }
}
