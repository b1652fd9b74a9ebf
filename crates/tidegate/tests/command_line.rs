//! The commands as a user meets them: arguments in, two streams and an exit code out. No process is started and no socket opened.

#![expect(clippy::expect_used, reason = "a test may stop where it fails")]

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use serde_json::Value;
use tidegate::cli::{Cli, Console, Outcome, execute};

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tidegate-cli-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("written");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// What a command wrote and how it ended.
struct Ran {
    out: String,
    err: String,
    outcome: Outcome,
}

fn tidegate(args: &[&str], environment: &[(&str, &str)]) -> Ran {
    let cli = Cli::try_parse_from(["tidegate"].iter().chain(args)).expect("a valid command line");
    let environment: Vec<_> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut console = Console { out: Box::new(&mut out), err: Box::new(&mut err), color: false };
    let outcome = execute(cli, &environment, &mut console).expect("written to memory");
    drop(console);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Ran { out: text(out), err: text(err), outcome }
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

const GATEWAY: &str = "\
server: { listeners: [{ name: plain, host: 127.0.0.1, port: 8080 }, { name: public, host: 127.0.0.1, port: 8081, http_to_https: true }], trusted_proxies: [10.0.0.0/8] }
admin: { host: 127.0.0.1, port: 9900, token: s3cret }
services:
  users: { url: \"http://127.0.0.1:9001\" }
  orders: { endpoints: [\"http://127.0.0.1:9002\", \"https://orders.internal\"] }
routes:
  - { name: user, match: { host: api.example.com, path: \"/users/{id:[0-9]+}\", methods: [GET] }, service: users }
  - { name: orders, match: { path_prefix: /orders }, service: orders, timeout: 10s, rewrite: { strip_prefix: /orders, host: orders.internal } }
  - { name: beta, match: { path_prefix: /orders, headers: { x-beta: present } }, split: [{ service: users, weight: 1 }, { service: orders, weight: 3 }] }
  - { name: old, match: { path_prefix: /old }, redirect: { to: \"/orders/{path.rest}\" } }
  - { name: ping, match: { path: /ping, client_ip: 10.0.0.0/8 }, respond: { status: 200, body: pong } }
";

#[test]
fn check_says_what_a_valid_file_holds() {
    let folder = Folder::new("valid");
    let file = folder.write("gateway.yaml", GATEWAY);
    let ran = tidegate(&["check", shown(&file)], &[]);
    assert_eq!(ran.outcome, Outcome::Done, "{}", ran.err);
    assert_eq!(ran.out, format!("{} is valid: 2 listeners, 2 services, 5 routes\n", file.display()));
}

#[test]
fn check_shows_every_problem_at_once_with_its_line() {
    let folder = Folder::new("problems");
    let text = "server: { prot: 8080 }\nservices: { a: { url: http://127.0.0.1:1 } }\nroutes:\n  - { match: { path: /a }, service: b }\n  - { match: { path: a }, service: a }\n";
    let file = folder.write("gateway.yaml", text);
    let ran = tidegate(&["check", shown(&file)], &[]);
    assert_eq!(ran.outcome, Outcome::Problems);
    assert_eq!(ran.out, "");
    for line in [1, 4, 5] {
        assert!(ran.err.contains(&format!("gateway.yaml:{line}:")), "line {line}: {}", ran.err);
    }
    assert!(ran.err.ends_with(&format!("\n{} has 3 problems\n", file.display())), "{}", ran.err);
}

#[test]
fn check_builds_what_run_would_build() {
    let folder = Folder::new("dead");
    let routes = "[{ name: a, match: { path: /a }, service: a }, { name: b, match: { path: /a }, service: a }]";
    let file = folder.write("g.yaml", &format!("services: {{ a: {{ url: http://127.0.0.1:1 }} }}\nroutes: {routes}\n"));
    let ran = tidegate(&["check", shown(&file)], &[]);
    assert_eq!(ran.outcome, Outcome::Problems);
    assert!(ran.err.contains("can never match"), "{}", ran.err);
}

#[test]
fn check_speaks_json_to_programs() {
    let folder = Folder::new("json");
    let good = folder.write("good.yaml", GATEWAY);
    let ran = tidegate(&["check", shown(&good), "--format", "json"], &[]);
    let answer: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!((ran.outcome, &answer["valid"]), (Outcome::Done, &true.into()));
    let bad = folder.write("bad.yaml", "server: { prot: 8080 }\n");
    let ran = tidegate(&["check", shown(&bad), "--format", "json"], &[]);
    let answer: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!((ran.outcome, &answer["valid"]), (Outcome::Problems, &false.into()));
    assert_eq!(answer["problems"][0]["line"], 1);
    assert_eq!(ran.err, "");
}

#[test]
fn check_shows_values_and_origins_but_no_secret() {
    let folder = Folder::new("show");
    let file = folder.write("gateway.yaml", GATEWAY);
    let ran = tidegate(&["check", shown(&file), "--show"], &[("TIDEGATE_LOG_LEVEL", "debug")]);
    assert_eq!(ran.outcome, Outcome::Done, "{}", ran.err);
    assert!(ran.out.contains("debug") && ran.out.contains("TIDEGATE_LOG_LEVEL"), "{}", ran.out);
    assert!(!ran.out.contains("s3cret"), "{}", ran.out);
}

#[test]
fn a_file_that_cannot_be_read_is_a_mistake_of_the_command_line() {
    let folder = Folder::new("unreadable");
    for (path, why) in [(folder.0.join("absent.yaml"), "no such file"), (folder.0.clone(), "folder")] {
        for command in ["check", "run"] {
            let ran = tidegate(&[command, shown(&path)], &[]);
            assert_eq!(ran.outcome, Outcome::Usage);
            assert!(ran.err.contains(why), "{}", ran.err);
        }
    }
}

#[test]
fn run_refuses_a_file_with_problems_before_it_opens_anything() {
    let folder = Folder::new("run");
    let file = folder.write("gateway.yaml", "server: { prot: 8080 }\n");
    let ran = tidegate(&["run", shown(&file)], &[]);
    assert_eq!(ran.outcome, Outcome::Problems);
    assert!(ran.err.contains("gateway.yaml:1:"), "{}", ran.err);
}

/// What `explain` says, without the folder's name.
fn explained(name: &str, args: &[&str]) -> String {
    let folder = Folder::new(name);
    let file = folder.write("gateway.yaml", GATEWAY);
    let args: Vec<_> = ["explain", shown(&file)].iter().chain(args).copied().collect();
    let ran = tidegate(&args, &[]);
    assert_eq!(ran.outcome, Outcome::Done, "{}", ran.err);
    ran.out.replace(&format!("{}/", folder.0.display()), "")
}

fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/explain").join(name);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, text).expect("written");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{name}: run with UPDATE=1 to accept");
}

#[test]
fn explain_shows_routes_phases_and_the_request_that_the_service_gets() {
    let args = [
        "GET",
        "http://api.example.com//orders/./7?x=1",
        "-H",
        "X-Forwarded-For: 6.6.6.6",
        "-H",
        "Connection: x-a",
        "-H",
        "x-a: 1",
    ];
    golden("forwarded.txt", &explained("forwarded", &args));
}

#[test]
fn explain_names_the_one_condition_that_failed() {
    let text = explained("mismatch", &["POST", "http://api.example.com/users/7"]);
    golden("method.txt", &text);
    assert!(text.contains("405 method_not_allowed") && text.contains("GET"), "{text}");
    golden("no-route.txt", &explained("no-route", &["GET", "/ping", "--client-ip", "192.0.2.1"]));
}

#[test]
fn explain_follows_splits_redirects_and_fixed_answers() {
    golden("split.txt", &explained("split", &["GET", "/orders", "-H", "x-beta: 1"]));
    golden("redirect.txt", &explained("redirect", &["GET", "/old/a/b?x=1"]));
    golden("respond.txt", &explained("respond", &["GET", "/ping", "--client-ip", "10.1.2.3"]));
    golden("https.txt", &explained("https", &["GET", "/ping?x=1", "--listener", "public"]));
}

#[test]
fn explain_says_why_a_request_never_reaches_a_route() {
    let text = explained("refused", &["GET", "/a%2fb"]);
    golden("refused.txt", &text);
    assert!(text.contains("Answer: 400"), "{text}");
}

#[test]
fn explain_judges_a_head_as_the_gateway_does() {
    let long = format!("/{}", "a".repeat(9000));
    let large = format!("x-a: {}", "b".repeat(40_000));
    let two = ["POST", "/ping", "-H", "Content-Length: 3", "-H", "Transfer-Encoding: chunked"];
    for (args, answer) in [
        (&["GET", &long][..], "Answer: 414 target_too_long"),
        (&["GET", "/ping", "-H", &large], "Answer: 431 "),
        (&two, "Answer: 400 "),
        (&["GET", "/ping", "-H", "Host: a b"], "Answer: 400 "),
    ] {
        let text = explained("judged", args);
        assert!(text.contains(answer), "{text}");
    }
}

#[test]
fn explain_refuses_what_is_neither_path_nor_url() {
    let folder = Folder::new("no-url");
    let file = folder.write("gateway.yaml", GATEWAY);
    let ran = tidegate(&["explain", shown(&file), "GET", "users/7"], &[]);
    assert_eq!((ran.outcome, &*ran.out), (Outcome::Usage, ""));
    assert!(ran.err.contains("write `/users/7`"), "{}", ran.err);
}

const SHAPED: &str = "\
services: { a: { url: http://127.0.0.1:1 }, b: { url: http://127.0.0.1:2 }, c: { url: http://127.0.0.1:3 }, d: { url: http://127.0.0.1:4 } }
routes:
  - name: split
    match: { path: /split }
    split:
      sticky: cookie:part
      parts: [{ service: a, weight: 9 }, { service: b, weight: 1 }, { service: c, when: { header: x-canary } }]
    mirror: { service: d, share: 12.5% }
    fault: { delay: 2s, abort: 503, share: 10%, when: { header: x-chaos } }
  - { name: key, match: { path: /key, headers: { x-key: \"${file:key}\" } }, respond: { status: 204 } }
  - { name: add, match: { path: /add }, service: a, rewrite: { query: { set: { key: \"${file:key}\" } } } }
";

/// What `explain` says of the shaped gateway, beside which the file `key` holds a secret.
fn explained_shaped(name: &str, args: &[&str]) -> String {
    let folder = Folder::new(name);
    let file = folder.write("gateway.yaml", SHAPED);
    folder.write("key", "hunter/2\"\n");
    let args: Vec<_> = ["explain", shown(&file)].iter().chain(args).copied().collect();
    let ran = tidegate(&args, &[]);
    assert_eq!(ran.outcome, Outcome::Done, "{}", ran.err);
    ran.out
}

#[test]
fn explain_says_what_decides_a_split_and_what_may_come_besides() {
    let text = explained_shaped("by-weight", &["GET", "/split"]);
    assert!(
        text.contains("sends it to one of: a (http://127.0.0.1:1), 9 in 10; b (http://127.0.0.1:2), 1 in 10\n"),
        "{text}"
    );
    assert!(text.contains("copied: 12.5 % of such requests go to d (http://127.0.0.1:4) too"), "{text}");
    assert!(!text.contains("trouble"), "{text}");
    let text = explained_shaped("by-condition", &["GET", "/split", "-H", "x-canary: 1", "-H", "x-chaos: 1"]);
    assert!(text.contains("sends it to c (http://127.0.0.1:3), because its `when` holds\n"), "{text}");
    assert!(text.contains("10 % of such requests wait 2s and get 503 instead of an answer"), "{text}");
    let text = explained_shaped("by-key", &["GET", "/split", "-H", "Cookie: part=x"]);
    assert!(text.contains(", because this client stays with it\n"), "{text}");
}

#[test]
fn explain_covers_what_came_from_files() {
    let text = explained_shaped("secret", &["GET", "/key", "-H", "x-key: other"]);
    assert!(text.contains("expected `***`, found `other`"), "{text}");
    for format in ["text", "json"] {
        let text = explained_shaped("secret-sent", &["GET", "/add", "--format", format]);
        assert!(text.contains("/add?key=***") && !text.contains("hunter"), "{text}");
    }
}

#[test]
fn explain_speaks_json_to_programs() {
    let text = explained("explain-json", &["GET", "http://api.example.com/users/7", "--format", "json"]);
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(answer["answer"]["route"], "user");
    assert_eq!(answer["routes"][0]["taken"], true);
    assert_eq!(answer["answer"]["sent"]["target"], "/users/7");
}

const PROTECTED: &str = "\
server: { host: 127.0.0.1, port: 8080, trusted_proxies: [10.0.0.0/8] }
services: { orders: { url: \"http://127.0.0.1:9001\" }, idp: { url: \"http://127.0.0.1:9002\" } }
auth:
  keys: { api_key: { inline: [{ key: a-key-of-the-build-machine, user: ci, roles: [deploy], rate: 5/s }] } }
  main: { jwt: { audiences: [api], jwks: { service: idp, path: /keys }, claims: { roles: realm.roles } } }
rate_limit:
  per_client: { rate: 10/s, burst: 20, key: client_ip }
defaults:
  route:
    cors: { origins: [https://app.example.com], credentials: on }
bundles:
  known:
    ip: { allow: [10.0.0.0/8, 127.0.0.1], deny: [10.6.6.6] }
routes:
  - name: orders
    match: { path: \"/orders/{tenant}\" }
    service: orders
    use: known
    auth: [keys, main]
    require:
      roles: [admin, deploy]
      when: 'identity.tenant == path.tenant || identity.user == \"ci\"'
      methods: { DELETE: { scopes: [\"orders:delete\"] } }
    rate_limit: { each: { rate: 100/h, key: [identity, \"path:tenant\"], mode: shadow }, per_client: off }
    identity_headers: { user: x-user, roles: x-roles, jwt: { audience: orders } }
    bots: { deny: [curl] }
    shadow: [bots]
  - { name: open, match: { path: /open }, service: orders, cors: off }
limits_store: { redis: { url: \"redis://127.0.0.1:6379\", password: s3cret } }
";

/// What `explain` says of the protected gateway, where a file `caller.json` describes the caller.
fn explained_for(name: &str, caller: &str, args: &[&str]) -> String {
    let folder = Folder::new(name);
    let file = folder.write("gateway.yaml", PROTECTED);
    let caller = folder.write("caller.json", caller);
    let args = ["explain", shown(&file)].into_iter().chain(args.iter().copied());
    let args: Vec<_> = args.map(|arg| if arg == "caller.json" { shown(&caller) } else { arg }).collect();
    let ran = tidegate(&args, &[]);
    assert_eq!(ran.outcome, Outcome::Done, "{}", ran.err);
    assert!(!ran.out.contains("s3cret"), "{}", ran.out);
    let text = ran.out.replace(&format!("{}/", folder.0.display()), "");
    // What the gateway's own token says changes with the time.
    let token =
        |line: &str| line.split_once("x-identity: ey").map(|(space, _)| format!("{space}x-identity: (a token)"));
    text.lines().map(|line| token(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}

#[test]
fn explain_shows_what_each_policy_says_and_where_it_was_written() {
    let args = ["GET", "/orders/t1", "-H", "X-API-Key: a-key-of-the-build-machine", "-H", "X-User: root"];
    let text = explained_for("policies-key", "", &args);
    golden("policies-key.txt", &text);
    assert!(!text.contains("root") && text.contains("x-user: ci"), "{text}");
}

#[test]
fn explain_shows_who_would_be_asked_and_goes_on() {
    let token =
        ["GET", "/orders/t1", "-H", "Authorization: Bearer eyJhbGciOiJFUzI1NiJ9.e30.AAAA", "-H", "User-Agent: curl/8"];
    let text = explained_for("policies-token", "", &token);
    golden("policies-token.txt", &text);
    assert!(text.contains("depends on who calls") && text.contains("sends it to orders"), "{text}");
}

#[test]
fn explain_shows_what_stops_a_request_and_what_else_would_have_been_asked() {
    golden("policies-nobody.txt", &explained_for("policies-nobody", "", &["GET", "/orders/t1"]));
    let text = explained_for("policies-ip", "", &["GET", "/orders/t1", "--client-ip", "192.0.2.7"]);
    assert!(
        text.contains("-> refuses: 403 ip_denied") && text.contains("because the address is not in `allow`"),
        "{text}"
    );
    assert!(text.contains("Answer: 403 ip_denied") && !text.contains("What the service gets"), "{text}");
}

#[test]
fn explain_knows_of_a_body_by_what_the_head_says() {
    let large = explained_for("body-large", "", &["POST", "/open", "-H", "Content-Length: 10485761"]);
    assert!(large.contains("Answer: 413 body_too_large"), "{large}");
    let text = explained_for("body-fits", "", &["POST", "/open", "-H", "Transfer-Encoding: chunked"]);
    assert!(text.contains(": route `open` sends it"), "{text}");
}

#[test]
fn explain_takes_a_caller_as_proved() {
    let claims = r#"{ "sub": "ann", "realm": { "roles": ["reader"] }, "tenant_id": "t1" }"#;
    let args = ["GET", "/orders/t1", "--as", "caller.json"];
    golden("policies-claims.txt", &explained_for("policies-claims", claims, &args));
    let identity = r#"{ "user": "ann", "roles": ["admin"], "tenant": "t1" }"#;
    golden("policies-identity.txt", &explained_for("policies-identity", identity, &args));
    let delete = ["DELETE", "/orders/t1", "--as", "caller.json"];
    let text = explained_for("policies-scope", identity, &delete);
    assert!(text.contains("`methods.DELETE.scopes`: it needs the scope orders:delete; the caller has none"), "{text}");
    let open = explained_for("policies-open", identity, &["GET", "/open", "--as", "caller.json"]);
    assert!(open.contains("This is not used: on this route nobody asks who calls."), "{open}");
}

#[test]
fn explain_answers_preflights_for_the_route_that_they_ask_about() {
    let args = [
        "OPTIONS",
        "/orders/t1",
        "-H",
        "Origin: https://app.example.com",
        "-H",
        "Access-Control-Request-Method: DELETE",
    ];
    golden("policies-preflight.txt", &explained_for("policies-preflight", "", &args));
}

#[test]
fn explain_tells_programs_of_policies() {
    let identity = r#"{ "user": "ann", "roles": ["reader"], "tenant": "t1" }"#;
    let args = ["GET", "/orders/t1", "--as", "caller.json", "--format", "json"];
    let answer: Value = serde_json::from_str(&explained_for("policies-json", identity, &args)).expect("JSON");
    let policy = |name: &str| {
        let mut policies = answer["policies"].as_array().expect("a list").iter();
        policies.find(|policy| policy["policy"] == name).expect("is there").clone()
    };
    assert_eq!((&answer["caller"]["user"], &answer["caller"]["is_asked"]), (&"ann".into(), &true.into()));
    assert_eq!(policy("auth")["says"], "assumed");
    let require = policy("require");
    assert_eq!(
        (&require["says"], &require["status"], &require["level"]),
        (&"refuse".into(), &403.into(), &"route".into())
    );
    assert_eq!(require["cause"], "`roles`: it needs one of the roles admin, deploy; the caller has reader");
    assert_eq!((&policy("ip")["level"], &policy("cors")["level"]), (&"bundle `known`".into(), &"defaults".into()));
    assert_eq!(policy("rate_limit")["says"], "not_reached");
}

#[test]
fn a_caller_that_cannot_be_read_is_a_mistake_of_the_command_line() {
    let folder = Folder::new("as-nobody");
    let file = folder.write("gateway.yaml", PROTECTED);
    for (text, why) in [("[1]", "is no JSON object"), ("{ \"roles\": 7 }", "is no caller"), ("{", "is no JSON object")]
    {
        let caller = folder.write("caller.json", text);
        let ran = tidegate(&["explain", shown(&file), "GET", "/orders/t1", "--as", shown(&caller)], &[]);
        assert_eq!((ran.outcome, ran.err.contains(why)), (Outcome::Usage, true), "{}", ran.err);
    }
    let ran = tidegate(&["explain", shown(&file), "GET", "/orders/t1", "--as", "/no/such/file"], &[]);
    assert_eq!(ran.outcome, Outcome::Usage, "{}", ran.err);
}

#[test]
fn explain_lists_the_routes_that_no_request_reaches() {
    let folder = Folder::new("unreachable");
    let routes = "
  - { name: a, match: { path: /a }, service: a }
  - { name: twin, match: { path: /a }, service: a }
  - { name: closed, priority: 10, match: { path_prefix: /b }, respond: { status: 503, body: closed } }
  - { name: b, match: { path: /b/c }, service: a }
";
    let file = folder.write("g.yaml", &format!("services: {{ a: {{ url: http://127.0.0.1:1 }} }}\nroutes:{routes}"));
    let ran = tidegate(&["explain", shown(&file), "--all"], &[]);
    assert_eq!(ran.outcome, Outcome::Done, "{}", ran.err);
    assert!(ran.out.contains("twin (") && ran.out.contains("b (") && !ran.out.contains("closed ("), "{}", ran.out);
}

#[test]
fn arguments_that_make_no_request_are_a_mistake_of_the_command_line() {
    let folder = Folder::new("arguments");
    let file = folder.write("gateway.yaml", GATEWAY);
    for args in [
        vec!["GET", "/a", "-H", "no colon"],
        vec!["GET", "/a", "-H", "bad name: x"],
        vec!["G T", "/a"],
        vec!["GET", "https://api.example.com/"],
        vec!["GET", "/a", "--listener", "absent"],
    ] {
        let all: Vec<_> = ["explain", shown(&file)].iter().chain(&args).copied().collect();
        let ran = tidegate(&all, &[]);
        assert_eq!(ran.outcome, Outcome::Usage, "{args:?}");
        assert!(ran.err.starts_with("error: "), "{}", ran.err);
    }
}

#[test]
fn the_schema_is_json() {
    let ran = tidegate(&["schema"], &[]);
    let schema: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(ran.outcome, Outcome::Done);
    assert!(schema["properties"]["routes"].is_object());
}

#[test]
fn there_are_completions_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = tidegate(&["completions", shell], &[]);
        assert!(ran.out.contains("explain"), "{shell}");
    }
}

#[test]
fn the_version_tells_how_the_program_was_built() {
    let error = Cli::try_parse_from(["tidegate", "--version"]).expect_err("not a command");
    let text = error.to_string();
    for fact in [env!("CARGO_PKG_VERSION"), "target:", "rustc", "rustls"] {
        assert!(text.contains(fact), "{text}");
    }
}

/// The page is the help texts themselves.
#[test]
fn the_documented_command_line_is_the_one_that_exists() {
    use clap::CommandFactory;

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/command-line.md");
    let page = fs::read_to_string(&path).expect("docs/command-line.md");
    let (intro, _) = page.split_once("<!-- help -->").expect("the mark before the help texts");
    let mut command = Cli::command().term_width(100);
    command.build();
    let expected = format!("{intro}<!-- help -->\n{}", help(&mut command, "tidegate"));
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &expected).expect("written");
    } else {
        assert_eq!(page, expected, "run with UPDATE=1 to write the page anew");
    }
}

/// The help of a command, and of those below it.
fn help(command: &mut clap::Command, name: &str) -> String {
    let long = command.render_long_help().to_string();
    let long: String = long.lines().flat_map(|line| [line.trim_end(), "\n"]).collect();
    let below = command.get_subcommands_mut().filter(|below| below.get_name() != "help");
    let below: String = below.map(|below| help(below, &[name, " ", below.get_name()].concat())).collect();
    format!("\n## {name}\n\n```text\n{long}```\n{below}")
}
