//! The API server, played with objects as the documentation of `EndpointSlice` shows them.

use std::time::Duration;

use tidegate_config::config::{Discovery, KubernetesDiscovery};

use super::PAUSE;
use crate::upstream::discovery::testing::{Call, World, api, tell, tell_with};

const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
const NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

fn config() -> KubernetesDiscovery {
    KubernetesDiscovery {
        namespace: Some("shop".into()),
        service: "example".into(),
        port: Some("http".into()),
        api_server: Some(api()),
        token_file: TOKEN.into(),
        endpoint_tls: false,
    }
}

fn tell_kubernetes<F: Future<Output = ()>>(config: KubernetesDiscovery, story: impl FnOnce(World) -> F) {
    tell_with(&Discovery::Kubernetes(config), &[(TOKEN, "secret-1\n"), (NAMESPACE, "own")], story);
}

/// The slice of the documentation, with other names, versions and members.
fn slice(name: &str, version: u64, members: &[String]) -> String {
    format!(
        r#"{{"addressType":"IPv4","apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{{"name":"{name}",
        "namespace":"shop","resourceVersion":"{version}","labels":{{"kubernetes.io/service-name":"example"}}}},
        "ports":[{{"name":"http","protocol":"TCP","port":80}},{{"name":"metrics","protocol":"TCP","port":9090}}],
        "endpoints":[{}]}}"#,
        members.join(",")
    )
    .replace("\n        ", "")
}

fn member(address: &str, conditions: &str) -> String {
    format!(
        r#"{{"addresses":["{address}"],"conditions":{conditions},"hostname":"pod-1","nodeName":"node-1","zone":"us-west2-a"}}"#
    )
}

fn ready(address: &str) -> String {
    member(address, r#"{"ready":true,"serving":true,"terminating":false}"#)
}

fn list(version: u64, slices: &[String]) -> String {
    format!(
        r#"{{"kind":"EndpointSliceList","apiVersion":"discovery.k8s.io/v1","metadata":{{"resourceVersion":"{version}"}},"items":[{}]}}"#,
        slices.join(",")
    )
}

/// Answers the list, and returns what was asked.
async fn answer_list(world: &World, version: u64, slices: &[String]) -> String {
    let mut call = world.call().await;
    let asked = call.request().await;
    assert!(!asked.contains("watch"), "{asked}");
    call.answer(200, "", &list(version, slices)).await;
    asked
}

async fn watch(world: &World, version: u64) -> Call {
    let mut call = world.call().await;
    let asked = call.request().await;
    let wanted = format!("&watch=true&allowWatchBookmarks=true&timeoutSeconds=120&resourceVersion={version} HTTP");
    assert!(asked.contains(&wanted), "{asked}");
    call.begin().await;
    call
}

async fn event(call: &mut Call, kind: &str, object: &str) {
    call.piece(&format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")).await;
}

#[test]
fn slices_are_listed_once_and_then_watched() {
    tell_kubernetes(config(), |world| async move {
        let asked = answer_list(&world, 7, &[slice("one", 5, &[ready("10.1.2.3")])]).await;
        let path = "GET /apis/discovery.k8s.io/v1/namespaces/shop/endpointslices?labelSelector=\
                    kubernetes.io%2Fservice-name%3Dexample HTTP/1.1\r\n";
        assert!(asked.starts_with(path), "{asked}");
        assert!(asked.contains("\r\nauthorization: Bearer secret-1\r\n"), "{asked}");
        assert_eq!(world.endpoints().await, ["http://10.1.2.3 1 us-west2-a 0"]);
        let mut call = watch(&world, 7).await;
        // A service of many pods has several slices.
        event(&mut call, "ADDED", &slice("two", 8, &[ready("10.1.2.4")])).await;
        assert_eq!(world.endpoints().await.len(), 2);
        event(&mut call, "MODIFIED", &slice("two", 9, &[ready("10.1.2.4"), ready("10.1.2.5")])).await;
        assert_eq!(world.endpoints().await.len(), 3);
        event(&mut call, "DELETED", &slice("one", 10, &[])).await;
        assert_eq!(world.endpoints().await, ["http://10.1.2.4 1 us-west2-a 0", "http://10.1.2.5 1 us-west2-a 0"]);
    });
}

#[test]
fn members_that_are_not_ready_or_terminate_are_left_out() {
    tell_kubernetes(config(), |world| async move {
        let members = [
            member("10.0.0.1", r#"{"ready":true,"serving":true,"terminating":false}"#),
            member("10.0.0.2", r#"{"ready":false,"serving":false,"terminating":false}"#),
            member("10.0.0.3", r#"{"ready":false,"serving":true,"terminating":true}"#),
            // With `publishNotReadyAddresses` everybody is called ready.
            member("10.0.0.4", r#"{"ready":true,"serving":true,"terminating":true}"#),
            // Unknown is ready.
            member("10.0.0.5", "{}"),
        ];
        answer_list(&world, 7, &[slice("one", 5, &members), slice("two", 5, &[])]).await;
        assert_eq!(world.endpoints().await, ["http://10.0.0.1 1 us-west2-a 0", "http://10.0.0.5 1 us-west2-a 0"]);
    });
}

#[test]
fn a_watch_that_its_server_ends_goes_on_from_where_it_was() {
    tell_kubernetes(config(), |world| async move {
        answer_list(&world, 7, &[slice("one", 5, &[ready("10.1.2.3")])]).await;
        world.endpoints().await;
        let mut call = watch(&world, 7).await;
        let bookmark =
            r#"{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","metadata":{"resourceVersion":"1200"}}"#;
        event(&mut call, "BOOKMARK", bookmark).await;
        call.end().await;
        world.write(TOKEN, "secret-2");
        world.pass(PAUSE).await;
        let mut call = world.call().await;
        let asked = call.request().await;
        assert!(asked.contains("resourceVersion=1200 "), "{asked}");
        assert!(asked.contains("Bearer secret-2\r\n"), "{asked}");
        assert!(world.is_quiet().await);
    });
}

#[test]
fn a_version_that_is_gone_is_listed_again() {
    tell_kubernetes(config(), |world| async move {
        answer_list(&world, 7, &[slice("one", 5, &[ready("10.1.2.3")])]).await;
        world.endpoints().await;
        let mut call = watch(&world, 7).await;
        let status = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version: 7 (99)","reason":"Expired","code":410}"#;
        event(&mut call, "ERROR", status).await;
        world.pass(PAUSE).await;
        answer_list(&world, 99, &[slice("one", 98, &[ready("10.1.2.9")])]).await;
        assert_eq!(world.endpoints().await, ["http://10.1.2.9 1 us-west2-a 0"]);
        let mut call = world.call().await;
        call.request().await;
        call.answer(410, "", status).await;
        world.pass(PAUSE).await;
        answer_list(&world, 120, &[]).await;
        assert_eq!(world.endpoints().await, [""; 0]);
    });
}

#[test]
fn no_failure_takes_away_what_was_known() {
    tell_kubernetes(config(), |world| async move {
        answer_list(&world, 7, &[slice("one", 5, &[ready("10.1.2.3")])]).await;
        world.endpoints().await;
        drop(watch(&world, 7).await);
        assert!(world.failure().await.starts_with("the API server at api.test:8500: "));
        world.pass(Duration::from_secs(1)).await;
        let mut call = world.call().await;
        call.request().await;
        call.answer(403, "", "{}").await;
        assert!(world.failure().await.ends_with("status 403: {}"));
        world.pass(Duration::from_secs(2)).await;
        answer_list(&world, 8, &[slice("one", 5, &[ready("10.1.2.3")])]).await;
        assert_eq!(world.endpoints().await.len(), 1);
    });
}

#[test]
fn a_port_is_found_by_name_or_number_or_because_it_is_the_only_one() {
    for (port, told) in [("metrics", Some(9090)), ("9090", Some(9090)), ("80", Some(80)), ("grpc", None)] {
        tell_kubernetes(KubernetesDiscovery { port: Some(port.into()), ..config() }, |world| async move {
            answer_list(&world, 7, &[slice("one", 5, &[ready("10.1.2.3")])]).await;
            let authority = |port| if port == 80 { "10.1.2.3".to_owned() } else { format!("10.1.2.3:{port}") };
            let told = told.map(|port| format!("http://{} 1 us-west2-a 0", authority(port)));
            assert_eq!(world.endpoints().await, told.as_slice(), "{port}");
        });
    }
    tell_kubernetes(KubernetesDiscovery { port: None, ..config() }, |world| async move {
        let two = slice("one", 5, &[ready("10.1.2.3")]);
        let only =
            slice("two", 5, &[ready("10.1.2.4")]).replace(r#",{"name":"metrics","protocol":"TCP","port":9090}"#, "");
        answer_list(&world, 7, &[two, only]).await;
        assert_eq!(world.endpoints().await, ["http://10.1.2.4 1 us-west2-a 0"]);
    });
}

#[test]
fn the_pods_own_namespace_is_the_default() {
    tell_kubernetes(KubernetesDiscovery { namespace: None, ..config() }, |world| async move {
        let asked = answer_list(&world, 7, &[]).await;
        assert!(asked.starts_with("GET /apis/discovery.k8s.io/v1/namespaces/own/endpointslices?"), "{asked}");
    });
}

#[test]
fn without_a_token_nobody_is_asked() {
    tell(&Discovery::Kubernetes(config()), |world| async move {
        assert!(world.failure().await.contains(TOKEN));
        assert!(!world.was_called().await);
    });
}
