//! Whatever is in the file: an answer, never a panic, and within bounds.

mod words;

use proptest::prelude::*;
use tidegate_config::{Inputs, Memory, from_yaml, load};

use words::WORDS;

const FRAGMENTS: [&str; 48] = [
    "services",
    "routes",
    "server",
    "match",
    "path",
    "users",
    ":",
    ": ",
    "\n",
    "\n  ",
    "\n    ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    ", ",
    "\"",
    "'",
    "&a ",
    "*a",
    "<<: ",
    "|\n",
    ">\n",
    "#",
    "---\n",
    "!!str ",
    "${",
    "${A}",
    "${file:x}",
    "$${",
    "off",
    "on",
    "~",
    "30s",
    "10MB",
    "-1",
    "http://a:1",
    "/a/{id}",
    "/{x:[0-9]+}",
    "/*",
    "{path.id}",
    "use",
    "bundles",
    "defaults",
    "x-a",
    "\t",
    "é",
];

fn never_panics(text: &[u8]) {
    let file = std::path::Path::new("gateway.yaml");
    let env = [("A".to_owned(), "b: c".to_owned()), ("TIDEGATE_SERVER_PORT".to_owned(), "x".to_owned())];
    match load(&Inputs { file, source: &Memory::new().with(file, text), env: &env, vocabulary: &WORDS }) {
        Ok(loaded) => assert!(!loaded.document.show().is_empty()),
        Err(failure) => {
            assert!(failure.problems.has_errors());
            assert!(!failure.document.render(&failure.problems, true).is_empty());
            assert!(failure.document.problems_json(&failure.problems).is_array());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        never_panics(&bytes);
    }

    #[test]
    fn arbitrary_pieces_of_yaml_are_answered(pieces in proptest::collection::vec(0..FRAGMENTS.len(), 0..60)) {
        let text: String = pieces.into_iter().filter_map(|piece| FRAGMENTS.get(piece)).copied().collect();
        never_panics(text.as_bytes());
    }

    #[test]
    fn a_valid_file_with_a_piece_replaced_is_answered(upstreams: bool, at in 0..4000_usize, piece in 0..FRAGMENTS.len(), length in 0..20_usize) {
        let text = if upstreams { include_str!("cases/contract_upstreams.yaml") } else { include_str!("cases/everything.yaml") };
        let chars: Vec<char> = text.chars().collect();
        let at = at % chars.len();
        let piece = FRAGMENTS.get(piece).copied().unwrap_or_default();
        let changed: String = chars.iter().take(at).copied().chain(piece.chars()).chain(chars.iter().skip(at + length).copied()).collect();
        never_panics(changed.as_bytes());
    }
}

fn first_problem(text: &str) -> String {
    let problems = from_yaml(text).map_or_else(|failure| failure.problems, |loaded| loaded.warnings);
    problems.iter().next().map(|problem| problem.message.clone()).unwrap_or_default()
}

#[test]
fn deep_nesting_is_refused() {
    let problem = first_problem(&format!("x-deep: {}{}", "[".repeat(100), "]".repeat(100)));
    assert_eq!(problem, "this is nested more than 64 levels deep");
}

#[test]
fn aliases_that_multiply_are_refused() {
    let mut text = String::from("x-0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let previous = format!("*a{}, ", level - 1).repeat(10);
        text.extend([format!("x-{level}: &a{level} [{previous}]\n")]);
    }
    assert_eq!(first_problem(&text), "the file has more than 2000000 values, aliases written out");
}

#[test]
fn control_characters_and_other_encodings_are_refused() {
    assert_eq!(first_problem("a: \u{0}"), "cannot read gateway.yaml: line 1 has a control character");
    let file = std::path::Path::new("gateway.yaml");
    let failure =
        load(&Inputs { file, source: &Memory::new().with(file, &b"a: 1\nb: \xff"[..]), env: &[], vocabulary: &WORDS })
            .expect_err("not UTF-8");
    assert_eq!(failure.problems.to_string(), "cannot read gateway.yaml: line 2 is not UTF-8 text");
}

#[test]
fn a_file_that_is_not_there_is_a_problem_and_is_watched() {
    let file = std::path::Path::new("gateway.yaml");
    let failure = load(&Inputs { file, source: &Memory::new(), env: &[], vocabulary: &WORDS }).expect_err("no file");
    assert_eq!(failure.to_string(), "error: cannot read gateway.yaml: there is no such file\n");
    assert_eq!(failure.files, [file]);
}

#[test]
fn every_file_that_matters_is_watched() {
    let source = Memory::new()
        .with(
            "etc/gateway.yaml",
            "include: conf.d/*.yaml\nadmin: { token: \"${file:../run/token}\" }\nservices: { a: { url: http://a } }",
        )
        .with("etc/conf.d/a.yaml", "routes: [{ service: a }]")
        .with("run/token", "x")
        .with("etc/../run/token", "x");
    let loaded =
        load(&Inputs { file: std::path::Path::new("etc/gateway.yaml"), source: &source, env: &[], vocabulary: &WORDS })
            .expect("valid");
    let files: Vec<String> = loaded.config.files.iter().map(|file| file.display().to_string()).collect();
    assert_eq!(files, ["etc/../run/token", "etc/conf.d/a.yaml", "etc/gateway.yaml"]);
    assert_eq!(loaded.config.patterns, [std::path::Path::new("etc/conf.d/*.yaml")]);
}

#[test]
fn what_is_shown_loads_again_to_the_same() {
    for text in [include_str!("cases/merging.yaml"), include_str!("cases/upstream_merging.yaml")] {
        let loaded = from_yaml(text).expect("valid");
        let shown = loaded.document.show();
        let lines: Vec<&str> = shown.lines().filter(|line| !line.contains(" use: ")).collect();
        let again = from_yaml(&lines.join("\n")).unwrap_or_else(|failure| unreachable!("{failure}"));
        let normal = |config: &tidegate_config::Config| {
            format!("{:#?}{:#?}{:#?}", config.server, config.services, config.routes)
        };
        assert_eq!(normal(&loaded.config), normal(&again.config));
    }
}
