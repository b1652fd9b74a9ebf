//! `basic`: who one is by a user name and a password (RFC 7617). Passwords are checked where nobody waits for it but their owner, a few at a
//! time; whoever was right is believed for a minute without another check.

mod htpasswd;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{Context, SHA256, digest};
use aws_lc_rs::rand;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_config::policy::{AnyText, Entries, Reading};
use tidegate_config::problem::{Path, Problem};
use tidegate_core::exchange::Exchange;
use tidegate_core::identity::Identity;
use tidegate_core::policy::World;
use tidegate_core::rejection::{Rejection, RejectionKind};
use tidegate_http1::Known;
use tokio::sync::Semaphore;

use self::htpasswd::{Hash, Users};
use super::credential::authorization;
use super::way::{Bad, Finding, Kind, Meant, Proof, Way};
use crate::policy::Setup;

/// Users and passwords.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BasicFile {
    /// A file with `user:hash` on each line, as `htpasswd -B` writes it: argon2id, bcrypt or sha-crypt. It is read again when it changes.
    file: Option<String>,
    /// What browsers show when they ask for the password. By default the way's name.
    realm: Option<AnyText>,
    /// What users are: `{ mary: [admin] }`.
    roles: Option<Entries<String, Vec<AnyText>>>,
    /// Whether services see the password. By default they do not.
    forward: Option<bool>,
}

struct Meaning {
    users: Arc<HashMap<Arc<str>, User>>,
    /// Changes with the file.
    print: String,
    realm: Arc<str>,
    forward: bool,
}

struct User {
    hash: Hash,
    identity: Arc<Identity>,
}

impl Kind for BasicFile {
    fn mean(self, name: &Arc<str>, at: &Path, reading: &mut Reading<'_, '_>) -> Option<Box<dyn Meant>> {
        let realm = self.realm.map_or_else(|| Arc::clone(name), |AnyText(realm)| realm.into());
        if realm.contains(['"', '\\']) || realm.chars().any(|c| !matches!(c, ' '..='~')) {
            reading.error(&at.join("realm"), "a realm is plain ASCII without quotes and backslashes");
        }
        let Some(file) = &self.file else {
            reading.missing(at, "file", "write the name of a file of users, as `htpasswd -B` makes it");
            return None;
        };
        let path = at.join("file");
        let file = reading.file(&path, file)?;
        let (users, mistakes) = htpasswd::parse(&file.bytes);
        for mistake in &mistakes {
            let problem = Problem::error(path.clone(), format!("{}: {mistake}", file.path.display()));
            reading.report(problem.help("make the line anew with `htpasswd -B FILE USER`"));
        }
        if users.is_empty() && mistakes.is_empty() {
            reading.report(Problem::warning(path, format!("{} has no users, so nobody can call", file.path.display())));
        }
        let print = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, &file.bytes));
        let users = Arc::new(with_roles(users, self.roles, name, (&at.join("roles"), reading)));
        Some(Box::new(Meaning { users, print, realm, forward: self.forward.unwrap_or(false) }))
    }
}

fn with_roles(
    users: Users,
    roles: Option<Entries<String, Vec<AnyText>>>,
    way: &Arc<str>,
    (at, reading): (&Path, &mut Reading<'_, '_>),
) -> HashMap<Arc<str>, User> {
    let mut roles: HashMap<String, Vec<AnyText>> =
        roles.map_or_else(HashMap::new, |roles| roles.0.into_iter().collect());
    let mut user = |(name, hash): (Arc<str>, Hash)| {
        let roles = roles.remove(&*name).unwrap_or_default().into_iter().map(|AnyText(role)| role.into()).collect();
        let identity = Identity { way: Arc::clone(way), user: Some(Arc::clone(&name)), roles, ..Identity::default() };
        (name, User { hash, identity: Arc::new(identity) })
    };
    let users = users.into_iter().map(&mut user).collect();
    for name in roles.into_keys() {
        reading.report(Problem::warning(at.join(&name), format!("there is no user `{name}` in the file")).on_key());
    }
    users
}

impl Meant for Meaning {
    fn build(&self, name: &Arc<str>, at: &Path, setup: &mut Setup<'_>) -> Arc<dyn Way> {
        let identity = format!("basic {name} {}", self.print);
        let checks = setup.shared.keep(identity, Checks::new);
        if checks.secret.is_none() {
            setup.report(Problem::error(at.clone(), "the system has no randomness"));
        }
        // Somebody whom nobody knows shall take as long as anybody else.
        let anybody = self.users.values().next().map(|user| user.hash.clone());
        Arc::new(Basic {
            users: Arc::clone(&self.users),
            anybody,
            checks,
            realm: Arc::clone(&self.realm),
            forward: self.forward,
        })
    }
}

/// Passwords that are checked at the same time.
const AT_ONCE: usize = 4;
/// Passwords that wait for their check.
const QUEUE: usize = 100;
/// How long somebody is believed.
const BELIEVED: Duration = Duration::from_mins(1);
/// How many are believed at the same time.
const MOST_BELIEVED: usize = 1000;
/// Bytes of user and password. Some hashes take time for each of them.
const LONGEST: usize = 512;

/// A digest of a user and a password, which nobody else can make.
type Print = [u8; 32];

/// What is known of passwords, and how many are being checked: it outlives configurations in which the file is the same.
struct Checks {
    /// `None` if there is no randomness, and then no gateway either.
    secret: Option<[u8; 32]>,
    /// Who was right lately, and until when they are believed.
    right: ArcSwap<HashMap<Print, Instant>>,
    turn: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Checks {
    fn new() -> Self {
        let mut secret = [0; 32];
        let secret = rand::fill(&mut secret).ok().map(|()| secret);
        let turn = Arc::new(Semaphore::new(AT_ONCE));
        Self { secret, right: ArcSwap::default(), turn, waiting: AtomicUsize::new(0) }
    }

    fn print(&self, pair: &[u8]) -> Print {
        let mut context = Context::new(&SHA256);
        context.update(&self.secret.unwrap_or_default());
        context.update(pair);
        // Cannot fail: that is how long a SHA-256 is.
        context.finish().as_ref().try_into().unwrap_or_default()
    }

    fn is_believed(&self, print: &Print, now: Instant) -> bool {
        self.right.load().get(print).is_some_and(|until| now < *until)
    }

    fn believe(&self, print: Print, now: Instant) {
        self.right.rcu(|known| {
            let mut known: HashMap<Print, Instant> =
                known.iter().filter(|(_, until)| now < **until).map(|(print, until)| (*print, *until)).collect();
            if known.len() >= MOST_BELIEVED {
                known.clear();
            }
            known.insert(print, now + BELIEVED);
            known
        });
    }
}

/// A place in the queue for a check.
struct Waiting<'c>(&'c AtomicUsize);

impl<'c> Waiting<'c> {
    fn enter(checks: &'c Checks) -> Option<Self> {
        let place = Self(&checks.waiting);
        (checks.waiting.fetch_add(1, Relaxed) < AT_ONCE + QUEUE).then_some(place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The way.
struct Basic {
    users: Arc<HashMap<Arc<str>, User>>,
    /// The hash that is checked for users whom nobody knows.
    anybody: Option<Hash>,
    checks: Arc<Checks>,
    realm: Arc<str>,
    forward: bool,
}

/// What a request shows.
struct Shown {
    user: String,
    password: Vec<u8>,
    print: Print,
}

impl Basic {
    fn shown(&self, exchange: &Exchange) -> Result<Option<Shown>, &'static str> {
        let several = |_| "there are several `Authorization` fields";
        let Some(encoded) = authorization(exchange, "basic").map_err(several)? else { return Ok(None) };
        let malformed = "it is not a user and a password";
        let pair = BASE64_STANDARD.decode(encoded).map_err(|_| malformed)?;
        if pair.len() > LONGEST {
            return Err("user and password are too long");
        }
        let colon = pair.iter().position(|byte| *byte == b':').ok_or(malformed)?;
        let (user, password) = pair.split_at_checked(colon).ok_or(malformed)?;
        let user = String::from_utf8(user.to_vec()).map_err(|_| malformed)?;
        let password = password.get(1..).unwrap_or_default().to_vec();
        Ok(Some(Shown { user, password, print: self.checks.print(&pair) }))
    }

    async fn check(&self, shown: Shown, world: &dyn World) -> Finding {
        let user = self.users.get(&*shown.user);
        let Some(hash) = user.map(|user| &user.hash).or(self.anybody.as_ref()).cloned() else {
            return bad("there are no users");
        };
        let place = Waiting::enter(&self.checks);
        let (Some(_), Ok(turn)) = (place.as_ref(), Arc::clone(&self.checks.turn).acquire_owned().await) else {
            return Finding::Refused(Box::new(busy()));
        };
        let right = Arc::new(OnceLock::new());
        let told = Arc::clone(&right);
        let password = shown.password;
        let work = move || {
            told.get_or_init(|| hash.is_of(&password));
            // Held until the work is done, even if nobody waits for it any more.
            drop(turn);
        };
        world.blocking(Box::new(work)).await;
        match (right.get(), user) {
            (Some(true), Some(user)) => {
                self.checks.believe(shown.print, world.now());
                Finding::Known(Arc::clone(&user.identity))
            }
            (Some(_), _) => bad("the user or the password is wrong"),
            (None, _) => Finding::Refused(Box::new(Rejection::internal("a password's check broke off".to_owned()))),
        }
    }
}

fn bad(cause: &str) -> Finding {
    Finding::Bad(Bad { cause: cause.to_owned(), detail: "Invalid credentials", challenge: None })
}

fn busy() -> Rejection {
    let detail = "Too many passwords are being checked";
    Rejection::new(RejectionKind::Unavailable, "auth_busy", detail).retry_after(1)
}

impl Way for Basic {
    fn prove<'a>(&'a self, exchange: &'a mut Exchange, world: &'a dyn World) -> Proof<'a> {
        let shown = match self.shown(exchange) {
            Ok(Some(shown)) => shown,
            Ok(None) => return Proof::Ready(Finding::Absent),
            Err(cause) => return Proof::Ready(bad(cause)),
        };
        match self.users.get(&*shown.user) {
            Some(user) if self.checks.is_believed(&shown.print, world.now()) => {
                Proof::Ready(Finding::Known(Arc::clone(&user.identity)))
            }
            _ => Proof::Wait(Box::pin(self.check(shown, world))),
        }
    }

    fn conceal(&self, exchange: &mut Exchange) {
        if !self.forward && !matches!(authorization(exchange, "basic"), Ok(None)) {
            exchange.head.fields.remove(Known::Authorization);
        }
    }

    fn challenge(&self) -> Option<String> {
        Some(format!("Basic realm=\"{}\", charset=\"UTF-8\"", self.realm))
    }

    fn describe(&self) -> String {
        "a user and a password".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use tidegate_config::Memory;

    use super::*;
    use crate::testing::Gateway;

    /// `U*U`, at the lowest cost.
    const HASH: &str = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

    const YAML: &str = "auth: { staff: { basic: { file: users, roles: { mary: [admin] }, realm: the office } } }
server: { host: 127.0.0.1 }
services: { s: { url: http://127.0.0.1:9001 } }
routes: [{ match: { path_prefix: / }, service: s, auth: staff }]";

    fn gateway() -> Gateway {
        Gateway::with_files(YAML, &Memory::new().with("users", format!("mary:{HASH}\nbob:{HASH}\n")))
    }

    fn authorization(user: &str, password: &str) -> String {
        format!("Authorization: bAsIc {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
    }

    const INVALID: &str =
        "401 credential_invalid: Invalid credentials\nwww-authenticate: Basic realm=\"the office\", charset=\"UTF-8\"";

    #[test]
    fn a_user_with_the_right_password_is_known_with_the_roles_that_are_written() {
        let gateway = gateway();
        for (user, roles) in [("mary", vec!["admin".into()]), ("bob", vec![])] {
            let sent = gateway.send(&format!("GET /\n{}", authorization(user, "U*U")));
            assert_eq!(sent.said, "pass", "{:?}", sent.cause);
            let identity = sent.exchange.identity.unwrap();
            assert_eq!((identity.user.as_deref(), &identity.roles), (Some(user), &roles));
            assert!(!sent.exchange.head.fields.contains(Known::Authorization));
        }
    }

    #[test]
    fn whatever_is_wrong_is_answered_alike() {
        let gateway = gateway();
        for request in [
            authorization("mary", "wrong"),
            authorization("nobody", "U*U"),
            authorization("", ""),
            authorization("mary", &"x".repeat(LONGEST)),
            "Authorization: Basic".to_owned(),
            "Authorization: Basic !!!".to_owned(),
            "Authorization: Basic bWFyeQ==".to_owned(),
            format!("{}\n{0}", authorization("mary", "U*U")),
        ] {
            assert_eq!(gateway.send(&format!("GET /\n{request}")).said, INVALID, "{request}");
        }
        let nothing = INVALID
            .replace("credential_invalid: Invalid credentials", "credential_missing: Missing authorization header");
        for request in ["GET /", "GET /\nAuthorization: Bearer x"] {
            assert_eq!(gateway.send(request).said, nothing);
        }
    }

    #[test]
    fn who_was_right_is_believed_for_a_minute_and_nobody_else() {
        let checks = Checks::new();
        let (now, mary, bob) = (gateway().world.now(), checks.print(b"mary:a"), checks.print(b"bob:a"));
        checks.believe(mary, now);
        assert!(checks.is_believed(&mary, now) && !checks.is_believed(&bob, now));
        assert!(!checks.is_believed(&mary, now + BELIEVED));
        assert_ne!(Checks::new().print(b"mary:a"), mary, "the digest depends on the process");
        for number in 0..2 * MOST_BELIEVED {
            checks.believe(checks.print(&number.to_be_bytes()), now);
        }
        assert!(checks.right.load().len() <= MOST_BELIEVED);
    }

    #[test]
    fn a_believed_user_is_not_checked_again_and_a_reload_of_the_same_file_changes_nothing() {
        let gateway = gateway();
        let request = format!("GET /\n{}", authorization("mary", "U*U"));
        let checked = || gateway.world.blocked();
        assert_eq!(gateway.send(&request).said, "pass");
        assert_eq!(checked(), 1);
        assert_eq!(gateway.send(&request).said, "pass");
        assert_eq!(checked(), 1);
        gateway.world.advance(BELIEVED);
        assert_eq!(gateway.send(&request).said, "pass");
        assert_eq!(checked(), 2);
    }

    #[test]
    fn an_unknown_user_costs_a_check_like_a_known_one() {
        let gateway = gateway();
        gateway.send(&format!("GET /\n{}", authorization("nobody", "x")));
        assert_eq!(gateway.world.blocked(), 1);
    }

    #[test]
    fn only_so_many_wait_for_their_check() {
        let checks = Checks::new();
        let places: Vec<_> = (0..AT_ONCE + QUEUE).map(|_| Waiting::enter(&checks).unwrap()).collect();
        assert!(Waiting::enter(&checks).is_none());
        drop(places);
        assert!(Waiting::enter(&checks).is_some());
        assert_eq!(busy().fields.text(Known::RetryAfter), Some("1"));
    }

    #[test]
    fn mistakes_in_the_file_and_beside_it_are_told() {
        let problems = |yaml: &str, file: &str| crate::testing::problems_with(yaml, &Memory::new().with("users", file));
        assert_eq!(
            problems(YAML, "mary:plain\n"),
            "error: auth.staff.basic.file: users: line 1: the password is plain, or its hash is of a kind that can be guessed | make the line anew with `htpasswd -B FILE USER`
warning: auth.staff.basic.roles.mary: there is no user `mary` in the file"
        );
        assert!(problems(YAML, "").contains("warning: auth.staff.basic.file: users has no users"));
        assert!(problems(&YAML.replace("file: users, ", ""), "").contains("auth.staff.basic: `file` is missing"));
        assert!(problems(&YAML.replace("the office", "'\"'"), "").contains("a realm is plain ASCII"));
    }
}
