//! A key file as it is read, line by line: what it says up to here, and what cannot be read in it.

use std::sync::Arc;

use super::index::Index;
use super::record::{Entry, Record};

/// So many broken lines are remembered.
const MOST_BROKEN: usize = 100;
/// With fewer lines that say nothing any more, a file is not worth writing anew.
const BORNE: usize = 1000;

/// What the lines of a key file said so far.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    index: Arc<Index>,
    lines: usize,
    broken: Vec<Broken>,
}

/// A line that cannot be read. It is passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Its number; the first is 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

impl Journal {
    /// Takes the next line over, with or without its end.
    pub fn read(&mut self, line: &[u8]) {
        self.lines += 1;
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        // Who looks things up in the index meanwhile keeps the old one.
        let read = Entry::parse(line).and_then(|entry| Arc::make_mut(&mut self.index).apply(entry));
        if let Err(why) = read
            && self.broken.len() < MOST_BROKEN
        {
            self.broken.push(Broken { line: self.lines, why });
        }
    }

    /// The keys.
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// Lines that cannot be read, the first hundred of them.
    pub fn broken(&self) -> &[Broken] {
        &self.broken
    }

    /// Whether most lines say nothing any more. A file with broken lines is left as it is: somebody may mend them.
    pub fn is_wasteful(&self) -> bool {
        if self.lines <= BORNE || !self.broken.is_empty() {
            return false;
        }
        let dead = self.lines - self.living().len();
        dead > BORNE && dead * 2 > self.lines
    }

    /// What a new file must say so that it means the same. Revoked keys are forgotten: they are unknown then.
    pub fn condensed(&self) -> Vec<Entry> {
        let record = |record: &Arc<Record>| Entry::Record(Box::new(Record::clone(record)));
        self.living().into_iter().map(record).collect()
    }

    fn living(&self) -> Vec<&Arc<Record>> {
        let mut records = self.index.records();
        records.retain(|record| record.revoked.is_none());
        records
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::keys::{Digest, KeyError};

    const HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    fn journal(lines: impl IntoIterator<Item = String>) -> Journal {
        let mut journal = Journal::default();
        lines.into_iter().for_each(|line| journal.read(line.as_bytes()));
        journal
    }

    fn record(id: usize) -> String {
        format!(r#"{{"id":"k{id:07}","hash":"{}","name":"n","created":{id}}}"#, format!("{id:08x}").repeat(8))
    }

    fn revocation(id: usize) -> String {
        format!(r#"{{"id":"k{id:07}","revoked":9}}"#)
    }

    #[test]
    fn a_broken_line_is_named_and_the_others_count() {
        let journal =
            journal([record(1), "{\"id\":".into(), String::new(), "\r".into(), record(2) + "\n", "[]".into()]);
        assert_eq!(journal.index().len(), 2);
        assert_eq!(journal.broken().iter().map(|broken| broken.line).collect::<Vec<_>>(), [2, 6]);
        let (unread, zeros) = (&journal.broken()[0].why, HASH);
        assert!(unread.starts_with("EOF while parsing") && !unread.contains(zeros), "{unread}");
    }

    #[test]
    fn a_file_of_rubbish_is_not_remembered_line_by_line() {
        let journal = journal((0..10_000).map(|_| "rubbish".into()));
        assert_eq!((journal.broken().len(), journal.is_wasteful()), (MOST_BROKEN, false));
    }

    #[test]
    fn a_file_is_wasteful_when_most_of_more_than_a_thousand_lines_are_dead() {
        let revoked = |keys| (0..keys).flat_map(|id| [record(id), revocation(id)]);
        assert!(!journal(revoked(500)).is_wasteful(), "a thousand are borne");
        assert!(journal(revoked(501)).is_wasteful());
        assert!(!journal(revoked(501).chain((1000..2002).map(record))).is_wasteful(), "half of them");
        assert!(journal(revoked(501).chain((1000..2001).map(record))).is_wasteful());
        assert!(!journal(revoked(501).chain(["?".into()])).is_wasteful(), "somebody may mend the line");
    }

    #[derive(Debug, Clone)]
    enum Step {
        Put { id: usize, expires: Option<u64> },
        Rotate { id: usize, now: u64, grace: u64 },
        Expire { id: usize, expires: Option<u64> },
        Revoke { id: usize },
        Rubbish,
    }

    fn step() -> impl Strategy<Value = Step> {
        let id = || 0_usize..4;
        let end = || prop::option::of(0_u64..20);
        prop_oneof![
            (id(), end()).prop_map(|(id, expires)| Step::Put { id, expires }),
            (id(), 0_u64..20, 0_u64..10).prop_map(|(id, now, grace)| Step::Rotate { id, now, grace }),
            (id(), end()).prop_map(|(id, expires)| Step::Expire { id, expires }),
            id().prop_map(|id| Step::Revoke { id }),
            Just(Step::Rubbish),
        ]
    }

    /// What is true of a key, said as plainly as possible: each of its secrets, and until when it is good.
    #[derive(Default, Clone)]
    struct Truth {
        secrets: Vec<([u8; 32], Option<u64>)>,
        expires: Option<u64>,
        is_revoked: bool,
    }

    #[derive(Default)]
    struct World {
        truths: BTreeMap<usize, Truth>,
        journal: Journal,
        secrets: Vec<[u8; 32]>,
    }

    impl World {
        fn secret(&mut self) -> [u8; 32] {
            let secret = [u8::try_from(self.secrets.len()).expect("few"); 32];
            self.secrets.push(secret);
            secret
        }

        fn write(&mut self, record: Record) {
            let line = Entry::Record(Box::new(record)).to_line().expect("JSON");
            self.journal.read(&line);
        }

        fn known(&self, id: usize) -> Option<Record> {
            self.journal.index().get(&format!("k{id:07}")).map(|record| Record::clone(record))
        }

        fn take(&mut self, step: &Step) {
            match *step {
                Step::Put { id, expires } => self.put(id, expires),
                Step::Rotate { id, now, grace } => self.rotate(id, (now, grace)),
                Step::Expire { id, expires } => self.expire(id, expires),
                Step::Revoke { id } => {
                    self.journal.read(revocation(id).as_bytes());
                    self.truths.entry(id).and_modify(|truth| truth.is_revoked = true);
                }
                Step::Rubbish => self.journal.read(b"rubbish"),
            }
        }

        fn put(&mut self, id: usize, expires: Option<u64>) {
            let secret = self.secret();
            let Ok(Entry::Record(blank)) = Entry::parse(record(id).as_bytes()) else { panic!("{id}") };
            self.write(Record { hash: Digest(secret), expires, ..*blank });
            self.truths.insert(id, Truth { secrets: vec![(secret, None)], expires, is_revoked: false });
        }

        fn rotate(&mut self, id: usize, (now, grace): (u64, u64)) {
            let secret = self.secret();
            let Some(record) = self.known(id) else { return };
            self.write(record.rotated(Digest(secret), now, grace));
            let truth = self.truths.get_mut(&id).expect("it is known");
            truth.secrets.retain(|(_, until)| until.is_none() && grace > 0);
            truth.secrets.iter_mut().for_each(|(_, until)| *until = Some(now + grace));
            truth.secrets.push((secret, None));
        }

        fn expire(&mut self, id: usize, expires: Option<u64>) {
            let Some(record) = self.known(id) else { return };
            self.write(Record { expires, ..record });
            self.truths.get_mut(&id).expect("it is known").expires = expires;
        }

        fn expected(&self, secret: [u8; 32], second: u64) -> Result<String, KeyError> {
            let truth = self.truths.iter().find_map(|(id, truth)| {
                let (_, until) = truth.secrets.iter().find(|(known, _)| *known == secret)?;
                Some((id, truth, *until))
            });
            let Some((id, truth, until)) = truth else { return Err(KeyError::Unknown) };
            if truth.is_revoked {
                return Err(KeyError::Revoked);
            }
            let ends = [truth.expires, until].into_iter().flatten().min();
            if ends.is_some_and(|end| second >= end) { Err(KeyError::Expired) } else { Ok(format!("k{id:07}")) }
        }
    }

    fn found(journal: &Journal, secret: [u8; 32], second: u64) -> Result<String, KeyError> {
        journal.index().find(&secret, Duration::from_secs(second)).map(|record| record.id.to_string())
    }

    proptest! {
        #[test]
        fn whatever_was_done_to_keys_those_are_valid_that_should_be(steps in prop::collection::vec(step(), 0..40)) {
            let mut world = World::default();
            for step in &steps {
                world.take(step);
            }
            let mut condensed = Journal::default();
            for entry in world.journal.condensed() {
                condensed.read(&entry.to_line().expect("JSON"));
            }
            for secret in world.secrets.iter().copied() {
                for second in 0..32 {
                    let expected = world.expected(secret, second);
                    let forgotten = if expected == Err(KeyError::Revoked) { Err(KeyError::Unknown) } else { expected.clone() };
                    prop_assert_eq!(found(&world.journal, secret, second), expected);
                    prop_assert_eq!(found(&condensed, secret, second), forgotten);
                }
            }
        }
    }
}
