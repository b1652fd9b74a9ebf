//! Files of users and hashes of their passwords, as `htpasswd` and `mkpasswd` write them. Only hashes that cost an attacker something are
//! taken.

use std::collections::HashMap;
use std::sync::Arc;

use argon2::password_hash::PasswordVerifier as _;
use argon2::{Argon2, PasswordHash};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use bcrypt::HashParts;
use sha_crypt::{Params, sha256_crypt, sha512_crypt};

/// The hash of a password. Checking one takes long, and that is its purpose.
#[derive(Debug, Clone)]
pub(super) enum Hash {
    /// `$argon2id$...`
    Argon2(Box<PasswordHash>),
    /// `$2y$...`
    Bcrypt(Arc<str>),
    /// `$5$...`
    Sha256 { salt: Arc<str>, rounds: Params, sum: Arc<str> },
    /// `$6$...`
    Sha512 { salt: Arc<str>, rounds: Params, sum: Arc<str> },
}

/// Users, with the hashes of their passwords.
pub(super) type Users = HashMap<Arc<str>, Hash>;

/// Reads a file: `user:hash` on each line, `#` begins a comment. Mistakes are told with the number of their line and never quote it.
pub(super) fn parse(text: &[u8]) -> (Users, Vec<String>) {
    let (mut users, mut mistakes) = (Users::new(), Vec::new());
    let Ok(text) = std::str::from_utf8(text) else { return (users, vec!["it is not text in UTF-8".to_owned()]) };
    for (line, number) in text.lines().map(str::trim).zip(1..) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let hash = match line.split_once(':') {
            Some((user, hash)) if !user.is_empty() => hash.parse().map(|hash| (user, hash)),
            _ => Err("it is not `user:hash`"),
        };
        match hash {
            Ok((user, hash)) => {
                if users.insert(user.into(), hash).is_some() {
                    mistakes.push(format!("line {number}: the user stands there a second time"));
                }
            }
            Err(why) => mistakes.push(format!("line {number}: {why}")),
        }
    }
    (users, mistakes)
}

impl std::str::FromStr for Hash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let is = |prefixes: &[&str]| prefixes.iter().any(|prefix| text.starts_with(prefix));
        if is(&["$argon2id$"]) {
            let hash = PasswordHash::new(text).ok().filter(|hash| hash.salt.is_some() && hash.hash.is_some());
            return hash.map(Box::new).map(Self::Argon2).ok_or("the argon2id hash is not a whole one");
        }
        if is(&["$2y$", "$2b$", "$2a$"]) {
            let checked = text.parse::<HashParts>().map_err(|_| "the bcrypt hash is not a whole one");
            return checked.map(|_| Self::Bcrypt(text.into()));
        }
        if is(&["$5$", "$6$"]) {
            return sha_crypt(text).ok_or("the sha-crypt hash is not a whole one");
        }
        Err(match text {
            _ if is(&["$apr1$", "$1$"]) => "MD5 can be guessed by the billion",
            _ if is(&["{SHA}", "{SSHA}"]) => "SHA-1 can be guessed by the billion",
            _ if is(&["$argon2"]) => "of argon2 only argon2id is taken",
            _ => "the password is plain, or its hash is of a kind that can be guessed",
        })
    }
}

/// `$5$salt$sum` or `$5$rounds=N$salt$sum`; the same for `$6$`.
fn sha_crypt(text: &str) -> Option<Hash> {
    let mut parts = text.split('$').skip(1).peekable();
    let is_short = parts.next()? == "5";
    let rounds = match parts.next_if(|part| part.starts_with("rounds=")) {
        Some(rounds) => rounds.parse().ok()?,
        None => Params::RECOMMENDED,
    };
    let (salt, sum) = (parts.next()?.into(), Arc::<str>::from(parts.next()?));
    let length = if is_short { 43 } else { 86 };
    if parts.next().is_some() || sum.len() != length {
        return None;
    }
    Some(if is_short { Hash::Sha256 { salt, rounds, sum } } else { Hash::Sha512 { salt, rounds, sum } })
}

impl Hash {
    /// Whether this is the password. It takes long.
    pub(super) fn is_of(&self, password: &[u8]) -> bool {
        match self {
            Self::Argon2(hash) => Argon2::default().verify_password(password, &**hash).is_ok(),
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Sha256 { salt, rounds, sum } => {
                let made = in_letters(&sha256_crypt(password, salt.as_bytes(), *rounds), 2);
                verify_slices_are_equal(made.as_bytes(), sum.as_bytes()).is_ok()
            }
            Self::Sha512 { salt, rounds, sum } => {
                let made = in_letters(&sha512_crypt(password, salt.as_bytes(), *rounds), 1);
                verify_slices_are_equal(made.as_bytes(), sum.as_bytes()).is_ok()
            }
        }
    }
}

/// The digest as sha-crypt writes it: one byte each of its three parts makes four letters, the first part a step further on the left each
/// time; what is left over comes last. `turn` is how far the parts are turned each time.
fn in_letters(digest: &[u8], turn: usize) -> String {
    let third = digest.len() / 3;
    let byte = |at: usize| digest.get(at).copied().unwrap_or_default();
    let mut text = String::new();
    for at in 0..third {
        let mut bytes = [byte(at), byte(at + third), byte(at + 2 * third)];
        bytes.rotate_left(turn * at % 3);
        push_letters(bytes, 4, &mut text);
    }
    match digest.len() % 3 {
        2 => push_letters([0, byte(3 * third + 1), byte(3 * third)], 3, &mut text),
        _ => push_letters([0, 0, byte(3 * third)], 2, &mut text),
    }
    text
}

fn push_letters(bytes: [u8; 3], count: usize, text: &mut String) {
    const LETTERS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let [high, middle, low] = bytes.map(usize::from);
    let bits = high << 16 | middle << 8 | low;
    let letter = |at: usize| LETTERS.get(bits >> (6 * at) & 63).map_or('.', |letter| char::from(*letter));
    text.extend((0..count).map(letter));
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: &str = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5";
    const SHORT_ROUNDS: &str = "$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA";
    const LONG: &str =
        "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1";
    const BCRYPT: &str = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

    #[test]
    fn hashes_of_other_programs_are_understood() {
        for (hash, password) in [(SHORT, "Hello world!"), (LONG, "Hello world!"), (BCRYPT, "U*U")] {
            let parsed: Hash = hash.parse().unwrap();
            assert!(parsed.is_of(password.as_bytes()), "{hash}");
            assert!(!parsed.is_of(b"Hello world"), "{hash}");
            assert!(!parsed.is_of(b""), "{hash}");
        }
        assert!(SHORT_ROUNDS.parse::<Hash>().unwrap().is_of(b"Hello world!"));
    }

    #[test]
    fn argon2id_is_understood() {
        use argon2::password_hash::CustomizedPasswordHasher as _;

        let params = argon2::Params::new(64, 1, 1, None).unwrap();
        let made = Argon2::default().hash_password_with_params(b"open", b"saltsaltsalt", params).unwrap();
        let hash: Hash = made.to_string().parse().unwrap();
        assert!(made.to_string().starts_with("$argon2id$"));
        assert!(hash.is_of(b"open") && !hash.is_of(b"opem"));
    }

    #[test]
    fn what_can_be_guessed_or_is_broken_is_refused_and_never_quoted() {
        for (hash, why) in [
            ("secret", "the password is plain"),
            ("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "SHA-1"),
            ("$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/", "MD5"),
            ("$1$abc$def", "MD5"),
            ("rqXexS6ZhobKA", "the password is plain"),
            ("$argon2i$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$c29t", "only argon2id"),
            ("$argon2id$v=19$m=", "not a whole one"),
            ("$2y$05$short", "not a whole one"),
            ("$5$salt$short", "not a whole one"),
            ("$6$rounds=1$salt$x", "not a whole one"),
            ("$5$", "not a whole one"),
        ] {
            let (users, mistakes) = parse(format!("# users\n\nmary:{hash}\n").as_bytes());
            assert!(users.is_empty() && mistakes.len() == 1, "{hash}");
            assert!(mistakes[0].starts_with("line 3: ") && mistakes[0].contains(why), "{hash}: {}", mistakes[0]);
            assert!(!mistakes[0].contains(hash));
        }
    }

    #[test]
    fn a_file_has_a_user_on_each_line() {
        let (users, mistakes) =
            parse(format!("mary:{SHORT}\r\n# a comment\n\n bob:{BCRYPT}\nmary:{LONG}\nnobody\n:x").as_bytes());
        assert_eq!(users.len(), 2);
        let expected = [
            "line 5: the user stands there a second time",
            "line 6: it is not `user:hash`",
            "line 7: it is not `user:hash`",
        ];
        assert_eq!(mistakes, expected);
        assert_eq!(parse(b"\xff").1, ["it is not text in UTF-8"]);
    }
}
