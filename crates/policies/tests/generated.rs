//! What is made from the program: the reference page and the JSON Schema. `UPDATE=1 cargo test -p tidegate-policies` writes them.

use std::path::Path;

use tidegate_policies::VOCABULARY;

fn compare(name: &str, content: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(file.parent().unwrap_or(&file)).unwrap_or_default();
        assert!(std::fs::write(&file, content).is_ok(), "cannot write {}", file.display());
        return;
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == content, "{} is out of date: run `UPDATE=1 cargo test -p tidegate-policies`", file.display());
}

#[test]
fn the_reference_page_is_up_to_date() {
    compare("configuration.md", &tidegate_config::reference(&VOCABULARY));
}

#[test]
fn the_json_schema_is_up_to_date() {
    compare("tidegate.schema.json", &format!("{:#}\n", tidegate_config::schema(&VOCABULARY)));
}

#[test]
fn the_schema_knows_every_key_of_the_examples() {
    let schema = tidegate_config::schema(&VOCABULARY).to_string();
    for key in
        ["strip_prefix", "client_auth", "drain_delay", "endpoints", "sample", "\"ip\"", "cache", "\"ServerFile\""]
    {
        assert!(schema.contains(key), "{key}");
    }
}
