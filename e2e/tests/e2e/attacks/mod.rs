//! One test for each class of attack in `docs/threats.md`, with a table of what is sent and what must come of it, against the running
//! program. Classes that concern messages alone are in `framing`, `http2`, `limits` and `trust`.

mod browsers;
mod identity;
mod load;
mod logins;
mod outside;
mod routes;
mod tokens;
mod written;

use std::collections::BTreeSet;
use std::path::Path;

use e2e::Gateway;
use e2e::wire::Message;

/// The key of a caller `ci` with the role `deploy`.
const KEY: &str = "a-key-of-the-build-machine";

/// One way, `keys`, with that key; any number of bad ones may be tried.
const AUTH: &str = "auth_failures: off
auth: { keys: { api_key: { inline: [{ key: a-key-of-the-build-machine, user: ci, roles: [deploy] }] } } }
";

/// A request with the good key.
fn with_key(gateway: &Gateway, target: &str, fields: &str) -> Message {
    gateway.connect().get_with(target, &format!("X-API-Key: {KEY}\r\n{fields}"))
}

/// The code of a refusal; empty for anything else.
fn code(reply: &Message) -> String {
    let body: serde_json::Value = serde_json::from_str(&reply.text()).unwrap_or_default();
    body["code"].as_str().unwrap_or_default().to_owned()
}

/// The values of a field that the echoing service got.
fn seen(reply: &Message, name: &str) -> Vec<String> {
    let told = reply.json();
    let all = told["fields"].as_array().expect("fields");
    let named = all.iter().filter(|field| field[0].as_str().is_some_and(|known| known.eq_ignore_ascii_case(name)));
    named.filter_map(|field| field[1].as_str().map(str::to_owned)).collect()
}

/// All tests below this folder, as `module::name`.
fn tests_below(folder: &Path, module: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("the tests").flatten() {
        let (path, name) = (entry.path(), entry.file_name().into_string().expect("a plain name"));
        if path.is_dir() {
            found.extend(tests_below(&path, &format!("{module}{name}::")));
        }
        let Some(name) = name.strip_suffix(".rs") else { continue };
        let module = if name == "mod" { module.to_owned() } else { format!("{module}{name}::") };
        let text = std::fs::read_to_string(&path).expect("readable");
        let tests =
            text.split("#[test]\n").skip(1).filter_map(|rest| rest.trim_start().strip_prefix("fn ")?.split('(').next());
        found.extend(tests.map(|test| format!("{module}{test}")));
    }
    found
}

#[test]
fn every_class_of_attack_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("../docs/threats.md")).expect("docs/threats.md");
    let tests = tests_below(&root.join("tests/e2e"), "");
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| ") && line.contains(" | `")).collect();
    assert!(rows.len() > 20, "{} rows", rows.len());
    let named: BTreeSet<_> = rows.iter().flat_map(|row| row.split('`').skip(1).step_by(2)).map(str::to_owned).collect();
    let absent: Vec<_> = named.iter().filter(|name| name.contains("::") && !tests.contains(*name)).collect();
    assert!(absent.is_empty(), "docs/threats.md names tests that are not there: {absent:?}");
    for row in rows {
        assert!(row.split('`').skip(1).step_by(2).any(|name| tests.contains(name)), "no test is named: {row}");
    }
    let own = tests.iter().filter(|test| {
        test.starts_with("attacks::") && !test.ends_with("::every_class_of_attack_names_tests_that_exist")
    });
    let unnamed: Vec<_> = own.filter(|test| !named.contains(*test)).collect();
    assert!(unnamed.is_empty(), "docs/threats.md does not name {unnamed:?}");
}
