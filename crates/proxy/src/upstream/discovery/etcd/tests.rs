//! Etcd's JSON gateway, played with answers as etcd 3.4 gives them.

use std::time::Duration;

use tidegate_config::config::{Discovery, EtcdDiscovery, Secret};

use super::{PAUSE, SILENCE, base64, range};
use crate::upstream::discovery::testing::{Call, World, api, tell};

fn config() -> EtcdDiscovery {
    EtcdDiscovery { addresses: vec![api()], prefix: "/services/app/".into(), user: None }
}

fn tell_etcd<F: Future<Output = ()>>(story: impl FnOnce(World) -> F) {
    tell(&Discovery::Etcd(config()), story);
}

fn pair(key: &str, value: &str) -> String {
    let (key, value) = (base64::encode(key.as_bytes()), base64::encode(value.as_bytes()));
    format!(r#"{{"key":"{key}","create_revision":"5","mod_revision":"5","version":"1","value":"{value}"}}"#)
}

fn header(revision: u64) -> String {
    format!(
        r#""header":{{"cluster_id":"14841639068965178418","member_id":"1","revision":"{revision}","raft_term":"2"}}"#
    )
}

/// Answers the reading of all keys.
async fn read(world: &World, revision: u64, pairs: &[String]) -> String {
    let mut call = world.call().await;
    let asked = call.request().await;
    assert!(asked.starts_with("POST /v3/kv/range HTTP/1.1\r\n"), "{asked}");
    let kvs = if pairs.is_empty() { String::new() } else { format!(r#","kvs":[{}],"count":"1""#, pairs.join(",")) };
    call.answer(200, "", &format!("{{{}{kvs}}}", header(revision))).await;
    asked
}

/// Begins the watch, which goes on.
async fn watch(world: &World, revision: u64) -> Call {
    let mut call = world.call().await;
    let asked = call.request().await;
    assert!(asked.starts_with("POST /v3/watch HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains(&format!(r#""start_revision":"{revision}""#)), "{asked}");
    call.begin().await;
    call.piece(&format!("{{\"result\":{{{},\"created\":true}}}}\n", header(revision))).await;
    call
}

async fn tell_change(call: &mut Call, events: &str) {
    call.piece(&format!("{{\"result\":{{{},\"events\":[{events}]}}}}\n", header(9))).await;
}

#[test]
fn keys_are_read_once_and_then_watched_from_the_next_revision() {
    tell_etcd(|world| async move {
        let asked = read(&world, 7, &[pair("/services/app/1", "http://10.0.0.1:80")]).await;
        assert!(asked.ends_with(r#"{"key":"L3NlcnZpY2VzL2FwcC8=","range_end":"L3NlcnZpY2VzL2FwcDA="}"#), "{asked}");
        assert_eq!(world.endpoints().await, ["http://10.0.0.1 1 - 0"]);
        let mut call = watch(&world, 8).await;
        let full = pair("/services/app/2", r#"{"url":"https://10.0.0.2:8443","weight":5,"zone":"b","priority":1}"#);
        tell_change(&mut call, &format!(r#"{{"kv":{full}}}"#)).await;
        assert_eq!(world.endpoints().await, ["http://10.0.0.1 1 - 0", "https://10.0.0.2:8443 5 b 1"]);
        let key = base64::encode(b"/services/app/1");
        tell_change(&mut call, &format!(r#"{{"type":"DELETE","kv":{{"key":"{key}","mod_revision":"10"}}}}"#)).await;
        assert_eq!(world.endpoints().await, ["https://10.0.0.2:8443 5 b 1"]);
    });
}

#[test]
fn a_change_may_arrive_in_pieces_and_two_in_one() {
    tell_etcd(|world| async move {
        read(&world, 7, &[]).await;
        assert_eq!(world.endpoints().await, [""; 0]);
        let mut call = watch(&world, 8).await;
        let change = |key: &str| {
            let pair = pair(key, &format!("http://{key}.test"));
            format!("{{\"result\":{{{},\"events\":[{{\"kv\":{pair}}}]}}}}\n", header(9))
        };
        let both = change("a") + &change("b");
        let (first, second) = both.split_at(40);
        call.piece(first).await;
        assert!(world.is_quiet().await);
        call.piece(second).await;
        assert_eq!(world.endpoints().await, ["http://a.test 1 - 0"]);
        assert_eq!(world.endpoints().await, ["http://a.test 1 - 0", "http://b.test 1 - 0"]);
    });
}

#[test]
fn a_value_that_is_no_endpoint_is_passed_over() {
    tell_etcd(|world| async move {
        let values = ["", "nonsense", "http://10.0.0.1/path", "[1]", r#"{"weight":1}"#, "http://10.0.0.9"];
        let pairs: Vec<_> = values.iter().enumerate().map(|(n, value)| pair(&format!("k{n}"), value)).collect();
        read(&world, 7, &pairs).await;
        assert_eq!(world.endpoints().await, ["http://10.0.0.9 1 - 0"]);
    });
}

#[test]
fn after_a_compaction_all_is_read_again() {
    tell_etcd(|world| async move {
        read(&world, 7, &[]).await;
        world.endpoints().await;
        let mut call = watch(&world, 8).await;
        call.piece(&format!("{{\"result\":{{{},\"canceled\":true,\"compact_revision\":\"20\"}}}}\n", header(20))).await;
        world.pass(PAUSE).await;
        read(&world, 21, &[pair("1", "http://10.0.0.1")]).await;
        assert_eq!(world.endpoints().await, ["http://10.0.0.1 1 - 0"]);
        watch(&world, 22).await;
    });
}

#[test]
fn a_watch_that_ends_or_is_silent_is_no_failure() {
    tell_etcd(|world| async move {
        read(&world, 7, &[]).await;
        world.endpoints().await;
        let call = watch(&world, 8).await;
        call.end().await;
        world.pass(PAUSE).await;
        read(&world, 7, &[]).await;
        let silent = watch(&world, 8).await;
        world.pass(SILENCE).await;
        read(&world, 7, &[]).await;
        let last = watch(&world, 8).await;
        assert!(world.is_quiet().await);
        drop((silent, last));
    });
}

#[test]
fn the_next_server_is_asked_when_one_fails_and_what_is_known_stays() {
    let mut other = api();
    other.endpoint = crate::upstream::discovery::endpoint(false, "other.test", 2379).unwrap();
    let config = EtcdDiscovery { addresses: vec![api(), other], ..config() };
    tell(&Discovery::Etcd(config), |world| async move {
        read(&world, 7, &[pair("1", "http://10.0.0.1")]).await;
        world.endpoints().await;
        drop(watch(&world, 8).await);
        assert!(world.failure().await.starts_with("etcd at api.test:8500: "));
        world.pass(Duration::from_secs(1)).await;
        let asked = read(&world, 7, &[pair("1", "http://10.0.0.1")]).await;
        assert!(asked.contains("host: other.test:2379\r\n"), "{asked}");
        assert_eq!(world.endpoints().await, ["http://10.0.0.1 1 - 0"]);
    });
}

#[test]
fn a_user_is_authenticated_before_anything_is_read() {
    let config = EtcdDiscovery { user: Some(("me".into(), Secret("pass\"word".into()))), ..config() };
    tell(&Discovery::Etcd(config), |world| async move {
        let mut call = world.call().await;
        let asked = call.request().await;
        assert!(asked.starts_with("POST /v3/auth/authenticate HTTP/1.1\r\n"), "{asked}");
        assert!(asked.ends_with(r#"{"name":"me","password":"pass\"word"}"#), "{asked}");
        call.answer(200, "", &format!(r#"{{{},"token":"abc.7"}}"#, header(7))).await;
        let asked = read(&world, 7, &[]).await;
        assert!(asked.contains("authorization: abc.7\r\n"), "{asked}");
    });
}

#[test]
fn a_prefix_ends_before_the_next_one() {
    let text = |(first, end): (String, String)| (base64::decode(&first).unwrap(), base64::decode(&end).unwrap());
    assert_eq!(text(range(b"a")), (b"a".to_vec(), b"b".to_vec()));
    assert_eq!(text(range(b"a\xff")), (b"a\xff".to_vec(), b"b".to_vec()));
    assert_eq!(text(range(b"\xff")), (b"\xff".to_vec(), b"\0".to_vec()));
    assert_eq!(text(range(b"")), (b"\0".to_vec(), b"\0".to_vec()));
}
