//! `/keys` of the admin listener: the API keys in the files that the configuration in use names. A key is in the answer to whoever
//! makes or rotates it, and nowhere else.

use std::path::{Path, PathBuf};

use http::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tidegate_config::value;

use super::calls::{self, Answer, Call, Refusal, bad_body, decoded, object};
use super::routes::{Asked, Reply};
use crate::keys::{Draft, Ends, Issued, Refused, Store, shown};
use crate::status::Status;

/// Answers what is asked of these segments below `/keys`.
pub(super) fn answer(asked: &Asked<'_>, path: &[String], status: &Status) -> Reply {
    let segments: Vec<&str> = path.iter().map(String::as_str).collect();
    let within = |then: &dyn Fn(&Store<'_>) -> Answer| {
        let path = file(asked.head.uri.query(), status.key_files())?;
        // The listener serves everybody on one thread: nobody waits here.
        then(&Store { path: &path, wait: false, now: status.wall() })
    };
    let read = || within(&|store| read(&segments, store));
    let write = |method: &Method| within(&|store| write(method, &segments, (store, asked.body)));
    calls::answer(asked, status, &Call { methods: methods(&segments), read: &read, write: &write })
}

/// What may be asked of a path; nothing if there is no such path.
fn methods(segments: &[&str]) -> &'static [Method] {
    match segments {
        [] => &[Method::GET, Method::POST],
        [_] => &[Method::GET, Method::DELETE],
        [_, "rotate"] => &[Method::POST],
        [_, "expires"] => &[Method::PUT],
        _ => &[],
    }
}

/// The file that `?store=PATH` names; it may be left out where there is only one.
fn file(query: Option<&str>, mut files: Vec<PathBuf>) -> Result<PathBuf, Refusal> {
    let named = query.unwrap_or_default().split('&').find_map(|parameter| parameter.strip_prefix("store="));
    if let Some(named) = named.map(decoded) {
        files.retain(|file| *file == Path::new(&named));
    }
    let list = || files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ");
    match (files.as_slice(), named) {
        ([only], _) => Ok(only.clone()),
        ([], Some(_)) => Err(no_store("the configuration in use names no such file of keys")),
        ([], None) => Err(no_store("the configuration in use names no file of keys")),
        ([..], _) => {
            let why = format!("there are several files of keys: add `?store=` and one of {}", list());
            Err(Refusal(StatusCode::BAD_REQUEST, "which_store", why))
        }
    }
}

fn no_store(why: &str) -> Refusal {
    Refusal(StatusCode::NOT_FOUND, "no_key_store", why.to_owned())
}

fn read(segments: &[&str], store: &Store<'_>) -> Answer {
    if let [id] = segments {
        return Ok((StatusCode::OK, shown(&*store.one(id)?, store.now)));
    }
    let journal = store.all()?;
    let keys: Vec<Value> = journal.index().records().into_iter().map(|record| shown(record, store.now)).collect();
    let broken = journal.broken().iter().map(|broken| json!({ "line": broken.line, "why": broken.why }));
    let broken: Vec<Value> = broken.collect();
    Ok((StatusCode::OK, json!({ "store": store.path.display().to_string(), "keys": keys, "broken_lines": broken })))
}

fn write(method: &Method, segments: &[&str], (store, body): (&Store<'_>, &[u8])) -> Answer {
    let record = match segments {
        [] => return Ok((StatusCode::CREATED, issued(&store.create(&typed::<Draft>(body)?)?, store))),
        [id, "rotate"] => {
            let Rotation { grace } = if body.is_empty() { Rotation::default() } else { typed(body)? };
            let grace = grace.map(|grace| grace.0).unwrap_or_default();
            return Ok((StatusCode::OK, issued(&store.rotate(id, grace)?, store)));
        }
        [id, "expires"] => store.expire(id, typed::<End>(body)?.expires)?,
        [id] if *method == Method::DELETE => store.revoke(id)?,
        _ => return Err(Refused::NoSuchKey.into()),
    };
    Ok((StatusCode::OK, shown(&record, store.now)))
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Rotation {
    grace: Option<value::Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    expires: Ends,
}

/// The one time that a key is shown.
fn issued(issued: &Issued, store: &Store<'_>) -> Value {
    let mut value = shown(&issued.record, store.now);
    if let Some(object) = value.as_object_mut() {
        object.insert("key".into(), (&*issued.key).into());
    }
    value
}

fn typed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let value = Value::Object(object(body)?);
    // Values of the configuration part their message from their advice by a NUL.
    serde_json::from_value(value).map_err(|error| bad_body(error.to_string().replace('\0', "; ")))
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let (status, code) = match &refused {
            Refused::NoSuchKey => (StatusCode::NOT_FOUND, "no_such_key"),
            Refused::Ended(_) => (StatusCode::CONFLICT, "key_has_ended"),
            Refused::Wrong(_) => (StatusCode::BAD_REQUEST, "bad_body"),
            Refused::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            Refused::File(_) | Refused::NoRandomness => (StatusCode::INTERNAL_SERVER_ERROR, "key_store"),
        };
        Self(status, code, refused.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tidegate_config::config::Secret;
    use tidegate_core::clock::{Clock, ManualClock};
    use tidegate_proxy::Upstreams;
    use tidegate_proxy::telemetry::Metrics;

    use super::*;
    use crate::admin::calls::testing::{ask, refused};
    use crate::keys::tests::{Folder, told};
    use crate::status::InUse;

    /// A gateway whose configuration names these files of keys, at second 1000 of 1970.
    fn gateway(token: Option<&str>, key_files: &[&Path]) -> Arc<Status> {
        let clock = Clock::Manual(ManualClock::new(Duration::from_secs(1_000)));
        let status = Status::new(Metrics::new(), Upstreams::new(clock.clone()), clock);
        let key_files = key_files.iter().map(|file| file.to_path_buf()).collect();
        status.use_now(InUse { token: token.map(|token| Secret(token.into())), key_files, ..InUse::default() });
        status
    }

    fn text(value: &Value) -> &str {
        value.as_str().unwrap_or_default()
    }

    #[tokio::test]
    async fn a_key_goes_through_its_life_and_is_shown_when_it_is_issued_alone() {
        let folder = Folder::new("admin-life");
        let file = folder.file();
        let status = gateway(Some("t0ken"), &[&file]);
        let body = r#"{"name": "ci", "roles": ["deploy"], "rate": "100/s", "burst": 200, "expires": "1m"}"#;
        let (code, made) = ask(&status, Method::POST, "/keys", body).await;
        assert_eq!((code, text(&made["expires"])), (201, "1970-01-01T00:17:40Z"), "{made}");
        let (first, id) = (text(&made["key"]), text(&made["id"]));
        assert_eq!(told(&file, first, 1_000).expect("it is valid").roles, [std::sync::Arc::<str>::from("deploy")]);

        let (code, rotated) = ask(&status, Method::POST, &format!("/keys/{id}/rotate"), r#"{"grace": "10s"}"#).await;
        let second = text(&rotated["key"]);
        assert_eq!((code, text(&rotated["old_secret_until"])), (200, "1970-01-01T00:16:50Z"));
        assert!(
            told(&file, first, 1_009).is_ok()
                && told(&file, first, 1_010).is_err()
                && told(&file, second, 1_010).is_ok()
        );
        let (code, _) = ask(&status, Method::POST, &format!("/keys/{id}/rotate"), "").await;
        assert!(code == 200 && told(&file, second, 1_000).is_err());

        let (code, lasting) =
            ask(&status, Method::PUT, &format!("/keys/{id}/expires"), r#"{"expires": "never"}"#).await;
        assert_eq!((code, &lasting["expires"]), (200, &Value::Null));
        let (_, shown) = ask(&status, Method::GET, &format!("/keys/{id}"), "").await;
        assert_eq!(shown, lasting);
        let (_, all) = ask(&status, Method::GET, "/keys", "").await;
        assert_eq!(all, json!({ "store": file.display().to_string(), "keys": [shown], "broken_lines": [] }));
        assert!(!all.to_string().contains("tg_"), "{all}");

        let (code, revoked) = ask(&status, Method::DELETE, &format!("/keys/{id}"), "").await;
        assert_eq!((code, text(&revoked["state"])), (200, "revoked"));
        let calls = [(Method::DELETE, &*format!("/keys/{id}"), ""), (Method::POST, &*format!("/keys/{id}/rotate"), "")];
        refused(&status, &calls, (409, "key_has_ended")).await;
    }

    #[tokio::test]
    async fn without_a_token_in_the_configuration_no_key_is_made_or_changed() {
        let folder = Folder::new("admin-token");
        let file = folder.file();
        let calls = [
            (Method::POST, "/keys", r#"{"name": "ci"}"#),
            (Method::DELETE, "/keys/aaaaaaaa", ""),
            (Method::POST, "/keys/aaaaaaaa/rotate", ""),
            (Method::PUT, "/keys/aaaaaaaa/expires", r#"{"expires": "never"}"#),
        ];
        refused(&gateway(None, &[&file]), &calls, (403, "no_admin_token")).await;
        let reads = [(Method::GET, "/keys", ""), (Method::GET, "/keys/aaaaaaaa", "")];
        let other = gateway(Some("another"), &[&file]);
        refused(&other, &calls, (401, "unauthorized")).await;
        refused(&other, &reads, (401, "unauthorized")).await;
        assert!(!file.exists());
    }

    #[tokio::test]
    async fn what_makes_no_sense_is_refused_and_told() {
        let folder = Folder::new("admin-sense");
        let file = folder.file();
        let status = gateway(Some("t0ken"), &[&file]);
        refused(&status, &[(Method::GET, "/keys", "")], (500, "key_store")).await;
        let bodies = [
            "",
            "[]",
            "{}",
            r#"{"name": 7}"#,
            r#"{"name": ""}"#,
            r#"{"name": "a", "role": "b"}"#,
            r#"{"name": "a", "burst": 3}"#,
            r#"{"name": "a", "rate": "5/x"}"#,
            r#"{"name": "a", "expires": "soon"}"#,
            r#"{"name": "a", "expires": "0s"}"#,
        ];
        let calls = bodies.map(|body| (Method::POST, "/keys", body));
        refused(&status, &calls, (400, "bad_body")).await;
        assert!(!file.exists());
        let (_, made) = ask(&status, Method::POST, "/keys", r#"{"name": "a"}"#).await;
        let (rotate, expires) =
            (format!("/keys/{}/rotate", text(&made["id"])), format!("/keys/{}/expires", text(&made["id"])));
        let calls =
            [(Method::POST, &*rotate, r#"{"grace": 5}"#), (Method::PUT, &*expires, "{}"), (Method::PUT, &*expires, "")];
        refused(&status, &calls, (400, "bad_body")).await;
        let calls = [(Method::GET, "/keys/aaaaaaaa", ""), (Method::DELETE, "/keys/aaaaaaaa", "")];
        refused(&status, &calls, (404, "no_such_key")).await;
        refused(&status, &[(Method::GET, "/keys/a/b", "")], (404, "not_found")).await;
        refused(&status, &[(Method::PUT, "/keys", "")], (405, "method_not_allowed")).await;
    }

    #[tokio::test]
    async fn one_of_several_files_is_named_and_no_other_can_be() {
        let folders = [Folder::new("admin-first"), Folder::new("admin-second")];
        let files = [folders[0].file(), folders[1].file()];
        let status = gateway(Some("t0ken"), &[&files[0], &files[1]]);
        let query = format!("/keys?store={}", files[1].display());
        assert_eq!(ask(&status, Method::POST, &query, r#"{"name": "a"}"#).await.0, 201);
        assert!(!files[0].exists() && files[1].exists());
        refused(&status, &[(Method::GET, "/keys", "")], (400, "which_store")).await;
        let others = [(Method::GET, "/keys?store=/etc/passwd", ""), (Method::POST, "/keys?store=", r#"{"name": "a"}"#)];
        refused(&status, &others, (404, "no_key_store")).await;
        refused(&gateway(Some("t0ken"), &[]), &[(Method::GET, "/keys", "")], (404, "no_key_store")).await;
    }

    #[tokio::test]
    async fn the_listener_waits_for_no_other_writer() {
        let folder = Folder::new("admin-busy");
        let status = gateway(Some("t0ken"), &[&folder.file()]);
        assert_eq!(ask(&status, Method::POST, "/keys", r#"{"name": "a"}"#).await.0, 201);
        let holder = std::fs::File::open(folder.file()).expect("open");
        holder.lock().expect("locked");
        refused(&status, &[(Method::POST, "/keys", r#"{"name": "a"}"#)], (503, "busy")).await;
    }
}
