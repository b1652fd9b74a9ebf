//! What is kept of a key: never its secret, only the digest of it. One record is one line of a key file.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use tidegate_config::value::RequestRate;

use super::index::KeyError;
use super::token::ID_CHARACTERS;

/// Bytes of a name, a user, a tenant, a role, a permission or a scope.
const LONGEST_WORD: usize = 128;
/// Roles of a key, and permissions, and scopes.
const MOST_WORDS: usize = 64;

/// A key, as it is known to the gateway. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What names it: it is part of the key's text, and no secret.
    pub id: Arc<str>,
    /// SHA-256 of the key's whole text.
    pub hash: Digest,
    /// What people call it.
    pub name: Arc<str>,
    /// Who calls with it; `None` is the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Arc<str>>,
    /// What they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Arc<str>>,
    /// What they may do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permissions: Vec<Arc<str>>,
    /// What the key was issued for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<Arc<str>>,
    /// Whose customer they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Arc<str>>,
    /// Its own rate limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RequestRate>,
    /// Requests that may come at once; only with a rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// When it was made.
    pub created: u64,
    /// When it got its present secret, if not when it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated: Option<u64>,
    /// From when on it is not valid any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// When it was revoked: it is not valid any more, and never will be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<u64>,
    /// The secret before this one, as long as both are valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<Former>,
}

/// A secret that was replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Former {
    /// SHA-256 of the key's text with this secret.
    pub hash: Digest,
    /// From when on it is not valid any more, in seconds since 1970.
    pub until: u64,
}

impl Record {
    /// Who calls with it.
    pub fn user(&self) -> &Arc<str> {
        self.user.as_ref().unwrap_or(&self.name)
    }

    /// Whether it is valid at `now` since 1970.
    pub fn validity(&self, now: Duration) -> Result<(), KeyError> {
        if self.revoked.is_some() {
            Err(KeyError::Revoked)
        } else if has_ended(self.expires, now) {
            Err(KeyError::Expired)
        } else {
            Ok(())
        }
    }

    /// The record after a rotation at `now`: the secret that is replaced stays valid for `grace` seconds, one before that does
    /// not.
    #[must_use]
    pub fn rotated(&self, hash: Digest, now: u64, grace: u64) -> Self {
        let until = now.saturating_add(grace);
        let former = (grace > 0).then_some(Former { hash: self.hash, until });
        Self { hash, rotated: Some(now), former, ..self.clone() }
    }

    /// What is wrong with its values. What they hold may end up in a header field, so there is nothing in them that cannot.
    pub fn check(&self) -> Result<(), String> {
        if self.id.len() != ID_CHARACTERS || !self.id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(format!("an id is {ID_CHARACTERS} letters and digits"));
        }
        for (what, words) in [("roles", &self.roles), ("permissions", &self.permissions), ("scopes", &self.scopes)] {
            if words.len() > MOST_WORDS {
                return Err(format!("a key has at most {MOST_WORDS} {what}"));
            }
            words.iter().try_for_each(|word| check_word(what, word))?;
        }
        check_word("name", &self.name)?;
        self.user.iter().try_for_each(|word| check_word("user", word))?;
        self.tenant.iter().try_for_each(|word| check_word("tenant", word))?;
        match self.burst {
            Some(_) if self.rate.is_none() => Err("a burst needs a rate".into()),
            Some(0) => Err("a burst of zero lets no request through".into()),
            _ => Ok(()),
        }
    }
}

/// Whether `end`, in seconds since 1970, has come.
pub(super) fn has_ended(end: Option<u64>, now: Duration) -> bool {
    end.is_some_and(|end| now >= Duration::from_secs(end))
}

fn check_word(what: &str, word: &str) -> Result<(), String> {
    if word.is_empty() {
        return Err(format!("`{what}` has an empty value"));
    }
    if word.len() > LONGEST_WORD {
        return Err(format!("`{what}` has a value of more than {LONGEST_WORD} bytes"));
    }
    if word.chars().any(char::is_control) {
        return Err(format!("`{what}` has a control character in it"));
    }
    Ok(())
}

/// One line of a key file. For each id the last one counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// All that is known of a key from here on.
    Record(Box<Record>),
    /// A key is not valid any more.
    Revocation {
        /// Which.
        id: Arc<str>,
        /// Since when, in seconds since 1970.
        revoked: u64,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Revocation {
    id: Arc<str>,
    revoked: u64,
}

impl Entry {
    /// Reads a line. A key that this version does not know is an error: it may be one that restricts.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        if value.get("hash").is_some() {
            let record: Record = serde_json::from_value(value).map_err(|error| told(&error))?;
            record.check()?;
            return Ok(Self::Record(Box::new(record)));
        }
        let Revocation { id, revoked } = serde_json::from_value(value).map_err(|error| told(&error))?;
        Ok(Self::Revocation { id, revoked })
    }

    /// The line, with its end.
    pub fn to_line(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut line = match self {
            Self::Record(record) => serde_json::to_vec(record)?,
            Self::Revocation { id, revoked } => {
                serde_json::to_vec(&Revocation { id: Arc::clone(id), revoked: *revoked })?
            }
        };
        line.push(b'\n');
        Ok(line)
    }
}

/// Values of the configuration part their message from their advice by a NUL.
fn told(error: &serde_json::Error) -> String {
    error.to_string().replace('\0', "; ")
}

/// SHA-256 of a key's text. A key has 256 random bits, so this is enough to keep it by: there is nothing to guess.
#[derive(Clone, Copy, Eq)]
pub struct Digest(pub [u8; 32]);

/// Takes as long for digests that are nearly the same as for others.
impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).fold(0, |found, (a, b)| black_box(found | (a ^ b))) == 0
    }
}

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// Not for logs.
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut hex = String::with_capacity(64);
        for digit in self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]) {
            hex.extend(char::from_digit(digit.into(), 16));
        }
        serializer.serialize_str(&hex)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hex = String::deserialize(deserializer)?;
        from_hex(&hex).map(Self).ok_or_else(|| D::Error::custom("a hash is 64 hexadecimal digits"))
    }
}

fn from_hex(hex: &str) -> Option<[u8; 32]> {
    let digit = |digit: &u8| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, []) = hex.as_bytes().as_chunks::<2>() else { return None };
    let bytes: Option<Vec<u8>> = pairs.iter().map(|[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect();
    bytes?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = concat!(
        r#"{"id":"abcdefgh","hash":"00ff000000000000000000000000000000000000000000000000000000000001","name":"ci","user":"builder","#,
        r#""roles":["deploy"],"permissions":["p"],"scopes":["s"],"tenant":"t","rate":"100/s","burst":200,"created":10,"rotated":20,"#,
        r#""expires":30,"former":{"hash":"0100000000000000000000000000000000000000000000000000000000000000","until":25}}"#,
        "\n"
    );
    const HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    fn refused(line: &str) -> String {
        Entry::parse(line.as_bytes()).expect_err(line)
    }

    #[test]
    fn a_line_is_written_as_it_was_read() {
        for line in [FULL, "{\"id\":\"abcdefgh\",\"revoked\":7}\n"] {
            let entry = Entry::parse(line.as_bytes()).expect(line);
            assert_eq!(String::from_utf8_lossy(&entry.to_line().expect("JSON")), line);
        }
    }

    #[test]
    fn a_short_record_has_no_rights_and_its_name_is_its_user() {
        let line = format!(r#"{{"id":"abcdefgh","hash":"{HASH}","name":"ci","created":1}}"#);
        let Ok(Entry::Record(record)) = Entry::parse(line.as_bytes()) else { panic!("{line}") };
        assert_eq!(&**record.user(), "ci");
        assert!(record.roles.is_empty() && record.rate.is_none() && record.expires.is_none());
    }

    #[test]
    fn a_line_that_is_not_fully_understood_is_refused() {
        let record = |rest: &str| format!(r#"{{"id":"abcdefgh","hash":"{HASH}","name":"ci","created":1{rest}}}"#);
        assert_eq!(refused(&record(r#","burst":3"#)), "a burst needs a rate");
        assert_eq!(refused(&record(r#","rate":"1/s","burst":0"#)), "a burst of zero lets no request through");
        assert_eq!(refused(&record(r#","tenant":"a\u000d""#)), "`tenant` has a control character in it");
        assert_eq!(refused(&record(r#","roles":[""]"#)), "`roles` has an empty value");
        assert!(refused(&record(r#","only_from":"10.0.0.0/8""#)).starts_with("unknown field `only_from`"));
        assert!(refused(&record(r#","rate":"5/x""#)).contains("the units are /s, /m, /h and /d"));
        assert!(refused(&record("").replace(HASH, "zz")).starts_with("a hash is 64 hexadecimal digits"));
        assert!(refused(&record("").replace(HASH, &HASH[1..])).starts_with("a hash is 64 hexadecimal digits"));
        for id in ["abcdefg", "abcdefghi", "abcd/fgh", "abcdéfg"] {
            assert_eq!(refused(&record("").replace("abcdefgh", id)), "an id is 8 letters and digits");
        }
        for line in ["", "{}", "[]", "7", r#"{"id":"a"}"#, r#"{"id":"a","revoked":1,"why":""}"#, "{\"id\":"] {
            refused(line);
        }
    }

    #[test]
    fn a_line_never_becomes_longer_than_readers_take() {
        let Ok(Entry::Record(mut record)) = Entry::parse(FULL.as_bytes()) else { panic!("{FULL}") };
        let words: Vec<Arc<str>> = vec!["\"".repeat(LONGEST_WORD).into(); MOST_WORDS];
        (record.roles, record.permissions, record.scopes) = (words.clone(), words.clone(), words);
        assert_eq!(record.check(), Ok(()));
        assert!(Entry::Record(record.clone()).to_line().expect("JSON").len() < 64 * 1024);
        record.roles.push("one more".into());
        assert!(record.check().is_err());
        (record.roles, record.tenant) = (vec![], Some("t".repeat(LONGEST_WORD + 1).into()));
        assert!(record.check().is_err());
    }

    #[test]
    fn after_a_rotation_two_secrets_are_valid_at_most() {
        let Ok(Entry::Record(record)) = Entry::parse(FULL.as_bytes()) else { panic!("{FULL}") };
        let with_grace = record.rotated(Digest([9; 32]), 100, 5);
        assert_eq!(with_grace.former, Some(Former { hash: record.hash, until: 105 }));
        assert_eq!((with_grace.hash, with_grace.rotated), (Digest([9; 32]), Some(100)));
        assert_eq!(with_grace.rotated(Digest([8; 32]), 101, 0).former, None);
    }

    #[test]
    fn digests_are_not_printed() {
        assert_eq!(format!("{:?}", Digest([1; 32])), "Digest(..)");
    }
}
