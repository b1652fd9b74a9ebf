use tidegate_core::path::{PathProblem, canonicalize};
use tidegate_core::rejection::Rejection;

fn canonical(target: &str) -> Result<String, PathProblem> {
    let mut target = target.to_owned();
    canonicalize(&mut target).map(|_| target)
}

#[test]
fn ordinary_paths_stay_as_they_are() {
    for path in [
        "/",
        "/a",
        "/a/",
        "/a/b.c/d-e_f~g",
        "/.well-known/acme",
        "/a/...",
        "/..a/.b",
        "/a;v=1/b,c=d:e@f!$&'()*+",
        "/%20%C3%A9%3A",
        "/a?b=%zz&c=//../[]{}|^`\"<>\\",
        "*",
    ] {
        assert_eq!(canonical(path).as_deref(), Ok(path));
    }
}

#[test]
fn the_length_of_the_path_is_told() {
    for (target, length) in [("/a/b?x=/y", 4), ("/?x", 1), ("/a", 2), ("/%61/..//?%61", 1), ("*", 1)] {
        let mut target = target.to_owned();
        assert_eq!(canonicalize(&mut target), Ok(length), "{target}");
    }
}

#[test]
fn every_spelling_of_a_path_becomes_the_same_one() {
    for spelling in [
        "/admin/x",
        "//admin/x",
        "/admin//x",
        "/./admin/x",
        "/admin/./x",
        "/a/../admin/x",
        "/a/b/../../admin/x",
        "/%61dmin/x",
        "/%61%64%6D%69%6e/%78",
        "/%2e/admin/x",
        "/a/%2E%2e/admin/x",
        "/a/.%2e/admin/x",
        "/a//../admin/x",
        "///a/..//admin//./x",
    ] {
        assert_eq!(canonical(spelling).as_deref(), Ok("/admin/x"), "{spelling}");
    }
}

#[test]
fn a_trailing_slash_counts() {
    for (target, expected) in
        [("/a//", "/a/"), ("/a/.", "/a/"), ("/a/b/..", "/a/"), ("/a/..", "/"), ("/.", "/"), ("//", "/")]
    {
        assert_eq!(canonical(target).as_deref(), Ok(expected), "{target}");
    }
}

#[test]
fn characters_that_a_path_may_not_hold_are_encoded_in_upper_case() {
    assert_eq!(canonical("/a|b^{c}").as_deref(), Ok("/a%7Cb%5E%7Bc%7D"));
    assert_eq!(canonical("/%c3%a9%3a%7e").as_deref(), Ok("/%C3%A9%3A~"));
}

#[test]
fn ambiguous_paths_are_refused() {
    for (target, problem) in [
        ("", PathProblem::NotOrigin),
        ("a", PathProblem::NotOrigin),
        ("http://a/", PathProblem::NotOrigin),
        ("**", PathProblem::NotOrigin),
        ("/%2F", PathProblem::EncodedSlash),
        ("/a%2fb", PathProblem::EncodedSlash),
        ("/a\\b", PathProblem::Backslash),
        ("/%5c", PathProblem::Backslash),
        ("/%5C..", PathProblem::Backslash),
        ("/%00", PathProblem::Control),
        ("/a%0d%0aSet-Cookie:x", PathProblem::Control),
        ("/%7f", PathProblem::Control),
        ("/a b", PathProblem::Control),
        ("/\u{e9}", PathProblem::Control),
        ("/a?b c", PathProblem::Control),
        ("/a?\u{e9}", PathProblem::Control),
        ("/a\tb", PathProblem::Control),
        ("/%", PathProblem::BadPercent),
        ("/%4", PathProblem::BadPercent),
        ("/%zz", PathProblem::BadPercent),
        ("/%+1", PathProblem::BadPercent),
        ("/%u002e", PathProblem::BadPercent),
        ("/..", PathProblem::AboveRoot),
        ("/a/../..", PathProblem::AboveRoot),
        ("/%2e%2e/etc", PathProblem::AboveRoot),
        ("/a//../../b", PathProblem::AboveRoot),
        ("/%252e%252e/", PathProblem::HiddenByte),
        ("/%252F", PathProblem::HiddenByte),
        ("/%255c", PathProblem::HiddenByte),
        ("/%2500", PathProblem::HiddenByte),
        ("/%25252e", PathProblem::HiddenByte),
        ("/%c0%ae%c0%ae/", PathProblem::HiddenByte),
        ("/%c0%af", PathProblem::HiddenByte),
        ("/%e0%80%af", PathProblem::HiddenByte),
        ("/%f0%80%80%ae", PathProblem::HiddenByte),
        ("/%25c0%25ae%25c0%25ae/", PathProblem::HiddenByte),
        ("/%25c0%ae", PathProblem::HiddenByte),
        ("/%c0%25ae", PathProblem::HiddenByte),
        ("/%2525C1%252525AF", PathProblem::HiddenByte),
        ("/%25e0%2580%25af", PathProblem::HiddenByte),
        ("/%25f0%2580%2580%25ae", PathProblem::HiddenByte),
        ("/a/..;/admin", PathProblem::DotParameter),
        ("/a/..;x=1/admin", PathProblem::DotParameter),
        ("/.;/admin", PathProblem::DotParameter),
        ("/%2e%2e;/admin", PathProblem::DotParameter),
        ("/..%3b/admin", PathProblem::DotParameter),
        ("/a#b", PathProblem::Fragment),
        ("/a?b#c", PathProblem::Fragment),
        ("/%61#b", PathProblem::Fragment),
    ] {
        assert_eq!(canonical(target), Err(problem), "{target}");
    }
}

#[test]
fn a_double_encoding_is_refused_however_its_digits_are_written() {
    for path in [
        "/a/%252%45%252%45/admin",
        "/a/%25%32e%25%32e/admin",
        "/a/%25%32%65/admin",
        "/%25%32f",
        "/%25%35%43",
        "/%25%30%30",
        "/%25%32%35%32%65",
        "/%2525%32%65",
        "/%25%63%30%25%61%65",
        "/%c0%25%61e",
    ] {
        assert_eq!(canonical(path), Err(PathProblem::HiddenByte), "{path}");
    }
    assert_eq!(canonical("/%25%34%31/100%25%7e").as_deref(), Ok("/%2541/100%25~"));
}

#[test]
fn what_is_no_double_encoding_is_kept() {
    for path in
        ["/100%25", "/%25zz", "/%2541", "/%C3%80", "/%E0%A4%A9", "/%25C3%2580", "/%25C0", "/%25C0%25zz", "/%3B%25"]
    {
        assert_eq!(canonical(path).as_deref(), Ok(path));
    }
}

#[test]
fn a_refusal_is_a_bad_request_with_a_code() {
    let rejection = Rejection::from(PathProblem::EncodedSlash);
    assert_eq!(rejection.status(), 400);
    assert_eq!(rejection.code, "path_encoded_slash");
    assert_eq!(rejection.detail, PathProblem::EncodedSlash.to_string());
}

#[test]
fn a_long_path_of_dots_costs_one_pass() {
    let mut target = "/a/..".repeat(100_000);
    assert_eq!(canonicalize(&mut target), Ok(1));
    let mut target = format!("{}{}", "/a".repeat(100_000), "/..".repeat(100_000));
    assert_eq!(canonicalize(&mut target), Ok(1));
}
