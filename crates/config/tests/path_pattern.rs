//! What path patterns are made of. What they match is the router's business.

use tidegate_config::value::{Mixed, PathKind, PathPattern, Segment};

/// The segments in a short notation: `'a'` is a literal, `<id>` a parameter, `<id~regex>` a checked one, `*` the rest.
fn segments(pattern: &PathPattern) -> String {
    let segments = pattern.segments.iter().map(|segment| match segment {
        Segment::Literal(text) => format!("'{text}'"),
        Segment::Param(name) => format!("<{name}>"),
        Segment::Regex(name, regex) => format!("<{name}~{regex}>"),
        Segment::Mixed(Mixed { prefix, name, regex, suffix }) => {
            let regex = regex.as_ref().map(|regex| format!("~{regex}")).unwrap_or_default();
            format!("'{prefix}'<{name}{regex}>'{suffix}'")
        }
        Segment::Rest(None) => "*".to_owned(),
        Segment::Rest(Some(name)) => format!("*{name}"),
    });
    segments.collect::<Vec<_>>().join(" ")
}

fn exact(text: &str) -> String {
    PathPattern::exact(text).map_or_else(|invalid| format!("error: {invalid}"), |pattern| segments(&pattern))
}

fn prefix(text: &str) -> String {
    PathPattern::prefix(text).map_or_else(|invalid| format!("error: {invalid}"), |pattern| segments(&pattern))
}

#[test]
fn every_kind_of_segment_is_told_apart() {
    assert_eq!(exact("/users/{id}"), "'users' <id>");
    assert_eq!(exact("/users/{id:[0-9]+}/x"), "'users' <id~^(?:[0-9]+)$> 'x'");
    assert_eq!(exact("/v{version:[0-9]+}/{name}.json"), "'v'<version~^(?:[0-9]+)$>'' ''<name>'.json'");
    assert_eq!(exact("/files/{rest...}"), "'files' *rest");
    assert_eq!(exact("/files/*"), "'files' *");
}

#[test]
fn a_trailing_slash_is_a_last_empty_literal() {
    assert_eq!(exact("/"), "''");
    assert_eq!(exact("/a"), "'a'");
    assert_eq!(exact("/a/"), "'a' ''");
    assert_eq!(exact("/{a}/"), "<a> ''");
}

#[test]
fn the_prefix_of_everything_has_no_segments() {
    assert_eq!(prefix("/"), "");
    assert_eq!(prefix("/a/{b}"), "'a' <b>");
    assert_eq!(PathPattern::everything().kind, PathKind::Prefix);
}

#[test]
fn braces_nest_in_a_regular_expression_and_escaped_ones_do_not_count() {
    assert_eq!(exact("/{id:[0-9]{4}}"), "<id~^(?:[0-9]{4})$>");
    assert_eq!(exact(r"/{id:\{[a-z]+\}}"), r"<id~^(?:\{[a-z]+\})$>");
}

#[test]
fn an_expression_cannot_get_out_of_its_anchors() {
    assert_eq!(exact("/{id:a|b}"), "<id~^(?:a|b)$>");
    assert!(exact("/{id:a)|(?:b}").starts_with("error: `a)|(?:b` is not a regular expression"));
}

#[test]
fn the_canonical_spelling_of_other_characters_is_accepted() {
    assert_eq!(exact("/caf%C3%A9/a%20b/~me/a:b@c"), "'caf%C3%A9' 'a%20b' '~me' 'a:b@c'");
    assert_eq!(exact("/..a/.b/...;x"), "'..a' '.b' '...;x'");
}

#[test]
fn a_spelling_that_no_request_keeps_is_refused() {
    for text in [
        "a", "", "//", "/a//b", "/.", "/../a", "/..;x/a", "/%2e", "/%2F", "/%5c", "/%zz", "/%", "/%4", "/\u{e9}",
        "/a?b", "/a#b",
    ] {
        assert!(exact(text).starts_with("error"), "{text}: {}", exact(text));
    }
}

#[test]
fn names_are_listed_in_order_and_rest_is_implied_by_a_prefix_or_a_star() {
    let pattern = PathPattern::exact("/{b}/{a}/{c...}").expect("valid");
    assert_eq!(pattern.params().map(|name| &**name).collect::<Vec<_>>(), ["b", "a", "c"]);
    assert!(pattern.binds("c") && !pattern.binds("rest"));
    assert!(PathPattern::exact("/a/*").is_ok_and(|pattern| pattern.binds("rest")));
    assert!(PathPattern::prefix("/a").is_ok_and(|pattern| pattern.binds("rest")));
    assert!(PathPattern::exact("/a").is_ok_and(|pattern| !pattern.binds("rest")));
    assert!(PathPattern::prefix("/{rest}").is_err());
}
