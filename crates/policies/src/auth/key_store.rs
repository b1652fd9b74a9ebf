//! A file of API keys, followed while the gateway runs: who their bearers are, as the file says now.

use std::collections::HashMap;
use std::io;
use std::path::Path as FilePath;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tidegate_config::problem::{Path, Problem};
use tidegate_core::identity::Identity;
use tidegate_core::keys::{Index, KeyError, Record};
use tidegate_core::limiter::Limit;
use tidegate_core::policy::{Job, Local, World};

use crate::policy::Setup;
use crate::shared::key_file::Follower;

/// How often it is asked whether the file has changed.
const INTERVAL: Duration = Duration::from_millis(250);

/// A file of keys.
pub(super) struct KeyStore(Arc<Inner>);

struct Inner {
    /// The way whose keys they are.
    way: Arc<str>,
    follower: Mutex<Follower>,
    known: ArcSwap<Known>,
}

/// What the file says.
struct Known {
    index: Arc<Index>,
    /// By the keys' ids. They are made once, so that what is derived from them can be kept with them.
    identities: HashMap<Arc<str>, Arc<Identity>>,
}

impl KeyStore {
    /// The keys in this file. It is followed for as long as any configuration names it for this way.
    pub(super) fn follow(way: &Arc<str>, path: &FilePath, (at, setup): (&Path, &mut Setup<'_>)) -> Option<Arc<Self>> {
        let follower = match Follower::open(path) {
            Ok(follower) => follower,
            Err(error) => {
                let problem =
                    Problem::error(at.clone(), format!("cannot read the keys in {}: {error}", path.display()));
                setup.report(problem.help("`tidegate keys create` makes the file"));
                return None;
            }
        };
        for broken in follower.broken() {
            let text = format!("{}: line {} is passed over: {}", path.display(), broken.line, broken.why);
            setup.report(Problem::warning(at.clone(), text));
        }
        let store = setup.shared.keep(format!("keys {way} {}", path.display()), || Self::of(way, follower));
        setup.job(Arc::<Self>::clone(&store));
        Some(store)
    }

    fn of(way: &Arc<str>, follower: Follower) -> Self {
        let known = ArcSwap::from_pointee(Known::of(way, &follower));
        Self(Arc::new(Inner { way: Arc::clone(way), follower: Mutex::new(follower), known }))
    }

    /// Whose key has this SHA-256; if it is nobody's, why, for the log.
    pub(super) fn find(&self, hash: &[u8; 32], now: Duration) -> Result<Arc<Identity>, &'static str> {
        let known = self.0.known.load();
        let record = known.index.find(hash, now).map_err(|error| match error {
            KeyError::Unknown => "there is no such key",
            KeyError::Expired => "the key has expired",
            KeyError::Revoked => "the key is revoked",
        })?;
        known.identities.get(&record.id).cloned().ok_or("there is no such key")
    }
}

impl Known {
    fn of(way: &Arc<str>, follower: &Follower) -> Self {
        let index = follower.published().load_full();
        let identity = |record: &Arc<Record>| (Arc::clone(&record.id), Arc::new(identity(way, record)));
        let identities = index.records().into_iter().map(identity).collect();
        Self { index, identities }
    }
}

fn identity(way: &Arc<str>, record: &Record) -> Identity {
    Identity {
        way: Arc::clone(way),
        user: Some(Arc::clone(record.user())),
        roles: record.roles.clone(),
        permissions: record.permissions.clone(),
        scopes: record.scopes.clone(),
        tenant: record.tenant.clone(),
        expires: record.expires.map(Duration::from_secs),
        rate: record.rate.and_then(|rate| Limit::bucket(rate, record.burst.map(u64::from))),
        ..Identity::default()
    }
}

impl Inner {
    fn look(&self) -> io::Result<()> {
        let mut follower = self.follower.lock().unwrap_or_else(PoisonError::into_inner);
        if follower.poll()? {
            self.known.store(Arc::new(Known::of(&self.way, &follower)));
        }
        Ok(())
    }
}

impl Job for KeyStore {
    fn run<'a>(&'a self, world: &'a dyn World) -> Local<'a, ()> {
        Box::pin(async move {
            let failing = Arc::new(Mutex::new(false));
            loop {
                world.sleep(world.now() + INTERVAL).await;
                let (inner, failing) = (Arc::clone(&self.0), Arc::clone(&failing));
                world.blocking(Box::new(move || tell(&inner, inner.look(), &failing))).await;
            }
        })
    }
}

/// Says in the log when reading begins to fail, and when it is well again.
fn tell(inner: &Inner, looked: io::Result<()>, failing: &Mutex<bool>) {
    let mut failing = failing.lock().unwrap_or_else(PoisonError::into_inner);
    match looked {
        Err(error) if !*failing => {
            tracing::warn!(way = %inner.way, %error, "the file of keys cannot be read: what was known stays in force");
            *failing = true;
        }
        Ok(()) if *failing => {
            tracing::info!(way = %inner.way, "the file of keys can be read again");
            *failing = false;
        }
        Ok(()) | Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use aws_lc_rs::digest::{SHA256, digest};
    use tidegate_core::keys::{Digest, Entry, Record};

    use super::*;
    use crate::shared::key_file::{Opening, change};
    use crate::testing::{Gateway, WALL, problems};

    /// A folder that is taken away in the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tidegate-key-store-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self) -> PathBuf {
            self.0.join("keys.db")
        }

        /// Writes a key whose text is its id, three times.
        fn put(&self, id: &str, besides: &str) {
            let sum = digest(&SHA256, id.repeat(3).as_bytes());
            let sum = serde_json::to_string(&Digest(sum.as_ref().try_into().unwrap())).unwrap();
            let line = format!(r#"{{"id":"{id}","hash":{sum},"name":"name-{id}","created":1{besides}}}"#);
            self.write(Entry::parse(line.as_bytes()).unwrap());
        }

        fn write(&self, entry: Entry) {
            let opening = Opening { create: true, wait: true };
            change(&self.file(), opening, |_| Ok::<_, io::Error>((entry, ()))).unwrap();
        }

        fn yaml(&self) -> String {
            format!(
                "auth: {{ keys: {{ api_key: {{ store: {}, inline: ['ci:the-key-of-the-build-machine'] }} }} }}
server: {{ host: 127.0.0.1 }}
services: {{ s: {{ url: http://127.0.0.1:9001 }} }}
routes: [{{ match: {{ path_prefix: / }}, service: s, auth: keys }}]",
                self.file().display()
            )
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    /// Who calls with the key of this id, or why nobody does.
    fn who(gateway: &Gateway, id: &str) -> String {
        let sent = gateway.send(&format!("GET /\nX-API-Key: {}", id.repeat(3)));
        let user = sent.exchange.identity.as_ref().and_then(|identity| identity.user.clone());
        user.map_or_else(|| sent.cause.unwrap_or_default(), |user| user.to_string())
    }

    #[test]
    fn a_key_of_the_file_says_who_it_is() {
        let folder = Folder::new("who");
        folder.put("aaaaaaaa", r#","user":"mary","roles":["admin"],"tenant":"t1","rate":"100/s","expires":1900000000"#);
        folder.put("bbbbbbbb", "");
        let gateway = Gateway::of(&folder.yaml());
        let sent = gateway.send("GET /\nX-API-Key: aaaaaaaaaaaaaaaaaaaaaaaa");
        let identity = sent.exchange.identity.unwrap();
        assert_eq!(
            (&*identity.way, identity.user.as_deref(), identity.tenant.as_deref()),
            ("keys", Some("mary"), Some("t1"))
        );
        assert_eq!(
            (&*identity.roles, identity.rate.map(|limit| limit.rate().amount())),
            (&["admin".into()][..], Some(100))
        );
        assert_eq!(identity.expires, Some(Duration::from_secs(1_900_000_000)));
        assert_eq!(who(&gateway, "bbbbbbbb"), "name-bbbbbbbb");
        assert_eq!(who(&gateway, "cccccccc"), "there is no such key");
        assert_eq!(gateway.send("GET /\nX-API-Key: the-key-of-the-build-machine").said, "pass");
        assert_eq!(crate::key_stores(&gateway.config), [folder.file()]);
    }

    #[test]
    fn a_change_is_in_force_within_a_second_and_without_a_reload() {
        let folder = Folder::new("change");
        folder.put("aaaaaaaa", "");
        let gateway = Gateway::of(&folder.yaml());
        let mut jobs = gateway.jobs();
        assert_eq!(jobs.len(), 1);
        let mut pass = || {
            gateway.world.turn(&mut jobs);
            gateway.world.advance(INTERVAL);
            gateway.world.turn(&mut jobs);
        };
        pass();
        assert_eq!(
            (who(&gateway, "aaaaaaaa"), who(&gateway, "bbbbbbbb")),
            ("name-aaaaaaaa".into(), "there is no such key".into())
        );
        folder.put("bbbbbbbb", "");
        folder.write(Entry::Revocation { id: "aaaaaaaa".into(), revoked: 2 });
        pass();
        assert_eq!(
            (who(&gateway, "aaaaaaaa"), who(&gateway, "bbbbbbbb")),
            ("the key is revoked".into(), "name-bbbbbbbb".into())
        );
        fs::remove_file(folder.file()).unwrap();
        pass();
        assert_eq!(who(&gateway, "bbbbbbbb"), "name-bbbbbbbb", "what was known stays in force");
    }

    #[test]
    fn a_key_ends_at_its_time_without_anybody_writing() {
        let folder = Folder::new("end");
        folder.put("aaaaaaaa", &format!(",\"expires\":{}", WALL.as_secs() + 10));
        let gateway = Gateway::of(&folder.yaml());
        assert_eq!(who(&gateway, "aaaaaaaa"), "name-aaaaaaaa");
        gateway.world.advance(Duration::from_secs(10));
        assert_eq!(who(&gateway, "aaaaaaaa"), "the key has expired");
    }

    #[test]
    fn a_reload_goes_on_with_the_same_job() {
        let folder = Folder::new("reload");
        folder.put("aaaaaaaa", "");
        let before = Gateway::of(&folder.yaml());
        let job = Arc::clone(&before.policies.jobs[0]);
        let after = before.reload(&folder.yaml());
        assert!(Arc::ptr_eq(&job, &after.policies.jobs[0]));
    }

    #[test]
    fn a_file_that_is_not_there_is_a_mistake_and_a_broken_line_a_warning() {
        let folder = Folder::new("mistakes");
        assert!(problems(&folder.yaml()).contains("error: auth.keys.api_key.store: cannot read the keys in "));
        folder.put("aaaaaaaa", "");
        fs::write(folder.file(), [fs::read(folder.file()).unwrap(), b"garbage\n".to_vec()].concat()).unwrap();
        assert!(problems(&folder.yaml()).contains("keys.db: line 2 is passed over: "));
    }

    #[test]
    fn an_identity_has_what_the_record_has() {
        let line = br#"{"id":"aaaaaaaa","hash":"0000000000000000000000000000000000000000000000000000000000000000","name":"n","created":1,"permissions":["p"],"scopes":["s"]}"#;
        let Ok(Entry::Record(record)) = Entry::parse(line) else { panic!("a record") };
        let Identity { user, permissions, scopes, expires, .. } = identity(&"w".into(), &Record::clone(&record));
        assert_eq!(
            (user.as_deref(), permissions, scopes, expires),
            (Some("n"), vec!["p".into()], vec!["s".into()], None)
        );
    }
}
