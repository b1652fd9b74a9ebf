//! Policies in the running program: who may call, how much, and what services are told; with keys that change and a Redis that goes away.

use e2e::gateway::tidegate;
use e2e::redis::Redis;
use e2e::{Backend, Gateway, forward_with};

const KEY: &str = "a-key-of-the-build-machine";
const AUTH: &str =
    "auth: { keys: { api_key: { inline: [{ key: a-key-of-the-build-machine, user: ci, roles: [deploy] }] } } }\n";

fn key(value: &str) -> String {
    format!("x-api-key: {value}\r\n")
}

#[test]
fn nobody_passes_without_a_good_key_and_the_service_never_sees_it() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&format!("{AUTH}{}", forward_with(backend.address(), "", "auth: keys")));
    let missing = gateway.connect().get("/");
    assert_eq!((missing.status(), missing.field("www-authenticate")), (401, Some("ApiKey realm=\"keys\"")));
    assert_eq!(missing.json()["code"], "credential_missing");
    assert_eq!(gateway.connect().get_with("/", &key("another-key-of-nobody")).status(), 401);
    assert_eq!(gateway.connect().get_with("/", &format!("{}{}", key(KEY), key("another"))).status(), 401);
    assert!(backend.requests().is_empty());
    let told = gateway.connect().get_with("/", &key(KEY));
    assert_eq!(told.status(), 200);
    assert!(!told.text().contains(KEY), "{}", told.text());
}

#[test]
fn spoofed_identity_headers_never_pass_not_even_where_nobody_is_asked() {
    let backend = Backend::echo();
    let url = backend.address();
    let yaml = format!(
        "{AUTH}services: {{ app: {{ url: \"http://{url}\" }} }}
routes:
  - {{ match: {{ path: /known }}, service: app, auth: keys, identity_headers: {{ context: x-user-context, user: x-user }} }}
  - {{ match: {{ path: /open }}, service: app, auth: none }}
"
    );
    let gateway = Gateway::run(&yaml);
    let forged = "X-User: root\r\nX_User: root\r\nx.user-context: root\r\nConnection: x-user, x-user-context\r\n";
    let open = gateway.connect().get_with("/open", forged).text();
    assert!(!open.contains("root"), "{open}");
    let known = gateway.connect().get_with("/known", &format!("{}{forged}", key(KEY))).text();
    assert!(!known.contains("root") && known.contains("userId") && known.contains("x-user"), "{known}");
}

#[test]
fn roles_are_asked_of_the_route_whatever_the_spelling_of_the_path() {
    let backend = Backend::echo();
    let url = backend.address();
    let yaml = format!(
        "{AUTH}services: {{ app: {{ url: \"http://{url}\" }} }}
routes:
  - {{ match: {{ path_prefix: /admin }}, service: app, auth: keys, require: {{ roles: [admin] }} }}
  - {{ match: {{ path_prefix: / }}, service: app, auth: none }}
"
    );
    let gateway = Gateway::run(&yaml);
    for target in ["/admin", "/admin/", "/admin/1", "/x/../admin/1", "/%61dmin/1", "//admin/1", "/./admin"] {
        let status = gateway.connect().get_with(target, &key(KEY)).status();
        assert!(
            [400, 403, 404].contains(&status) || !target.contains("admin/1") && status != 200,
            "{target}: {status}"
        );
    }
    assert!(backend.requests().iter().all(|seen| !seen.head.target().starts_with("/admin")));
    assert_eq!(gateway.connect().get_with("/", &key(KEY)).status(), 200);
}

#[test]
fn a_client_beyond_its_limit_is_told_when_to_come_back_and_so_is_the_log() {
    let backend = Backend::echo();
    let limit = "rate_limit: { mine: { rate: 2/h, key: client_ip } }";
    let logged = "log: { access: { format: json, to: stdout } }\n";
    let gateway = Gateway::run(&format!("{logged}{}", forward_with(backend.address(), "", limit)));
    let mut client = gateway.connect();
    assert_eq!([client.get("/").status(), client.get("/").status()], [200, 200]);
    let refused = client.get("/");
    assert_eq!((refused.status(), refused.field("retry-after")), (429, Some("1800")));
    assert_eq!(refused.field("ratelimit-policy"), Some("\"mine\";q=2;w=3600"));
    let line = gateway.access_line("the refusal", |line| line["status"] == 429);
    assert_eq!(line["decided_by"], "rate_limit:mine");
}

#[test]
fn a_key_is_good_and_bad_again_without_a_reload() {
    let backend = Backend::echo();
    let folder = e2e::Folder::new();
    let file = folder.path().join("keys.db");
    let file = file.to_str().expect("a path of letters");
    let made = tidegate(&["keys", "create", file, "--name", "ci"], &[]);
    let key_of = made.output.trim().to_owned();
    let yaml = format!("auth: {{ keys: {{ api_key: {{ store: {file} }} }} }}\n");
    let gateway = Gateway::run(&format!("{yaml}{}", forward_with(backend.address(), "", "auth: keys")));
    assert_eq!(gateway.connect().get_with("/", &key(&key_of)).status(), 200);
    let id = key_of.split('_').nth(1).expect("an id").to_owned();
    assert_eq!(tidegate(&["keys", "revoke", file, &id], &[]).code, 0);
    let mut client = gateway.connect();
    assert!((0..20_000).any(|_| client.get_with("/", &key(&key_of)).status() == 401));
}

#[test]
fn a_page_can_read_why_its_upload_is_refused() {
    let backend = Backend::echo();
    let policies = "limits: { body: 1KB }, security_headers: on, cors: { origins: [https://app.test] }";
    let gateway = Gateway::run(&forward_with(backend.address(), "", policies));
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nOrigin: https://app.test\r\nContent-Length: 1025\r\n\r\n");
    let refused = client.reply();
    assert_eq!((refused.status(), refused.field("access-control-allow-origin")), (413, Some("https://app.test")));
    assert_eq!(refused.field("x-content-type-options"), Some("nosniff"));
    assert!(backend.requests().is_empty());
}

#[test]
fn two_gateways_admit_one_limit_together_and_each_its_own_while_redis_is_away() {
    let backend = Backend::echo();
    let mut redis = Redis::run();
    let store = format!("limits_store: {{ redis: {{ url: \"{}\", timeout: 2s }} }}\n", redis.url());
    let limit = "rate_limit: { mine: { rate: 4/h, key: client_ip } }";
    let yaml = format!("{store}{}", forward_with(backend.address(), "", limit));
    let gateways = [Gateway::run(&yaml), Gateway::run(&yaml)];
    let passed = || {
        let each = gateways.iter().cycle().take(12);
        each.filter(|gateway| gateway.connect().get("/").status() == 200).count()
    };
    assert_eq!(passed(), 4);
    redis.kill();
    assert_eq!(passed(), 8);
}
