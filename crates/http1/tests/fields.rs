//! `Fields`: looking up, changing, and what cannot get in.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use tidegate_http1::{Fields, InvalidField, Known, Repeated};

fn fields(pairs: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in pairs {
        fields.append(*name, value.as_bytes()).unwrap();
    }
    fields
}

fn lines(fields: &Fields) -> Vec<(&str, &[u8])> {
    fields.iter().map(|field| (field.name, field.value)).collect()
}

#[test]
fn names_are_found_in_any_case_and_by_either_kind_of_name() {
    let fields = fields(&[("HOST", "a"), ("X-My-Field", "b")]);
    assert_eq!(fields.value(Known::Host), Some(&b"a"[..]));
    assert_eq!(fields.value("host"), Some(&b"a"[..]));
    assert_eq!(fields.value("x-my-FIELD"), Some(&b"b"[..]));
    assert_eq!(fields.value("x-my"), None);
    assert!(fields.contains("Host") && !fields.contains(Known::Via));
}

#[test]
fn nothing_gets_in_that_could_break_out_of_its_line() {
    let mut fields = Fields::new();
    for name in ["", "a b", "a:", "a\r\nb", "a\0", "\u{e9}", "keep\ralive", "a".repeat(65_536).as_str()] {
        assert_eq!(fields.append(name, b""), Err(InvalidField::Name), "{name:?}");
        assert_eq!(fields.set(name, b""), Err(InvalidField::Name), "{name:?}");
    }
    for value in [&b"a\r\nb: c"[..], b"a\n", b"\r", b"\0", b"\x1b", b"\x7f"] {
        assert_eq!(fields.append("a", value), Err(InvalidField::Value), "{}", value.escape_ascii());
        assert_eq!(fields.set(Known::Host, value), Err(InvalidField::Value), "{}", value.escape_ascii());
    }
    assert!(fields.is_empty());
}

#[test]
fn a_field_whose_name_was_tampered_with_does_not_get_in() {
    let source = fields(&[("Host", "a")]);
    let mut field = source.iter().next().unwrap();
    field.name = "x\r\ny";
    assert_eq!(Fields::new().append(field, b"a"), Err(InvalidField::Name));
}

#[test]
fn values_lose_the_white_space_around_them() {
    assert_eq!(fields(&[("a", " \tb c\t ")]).value("a"), Some(&b"b c"[..]));
}

#[test]
fn setting_replaces_all_at_the_place_of_the_first() {
    let mut fields = fields(&[("Via", "1"), ("X-A", "2"), ("via", "3"), ("x-a", "4")]);
    fields.set(Known::Via, b"new").unwrap();
    assert_eq!(lines(&fields), [("via", &b"new"[..]), ("X-A", b"2"), ("x-a", b"4")]);
    fields.set("X-a", b"only").unwrap();
    assert_eq!(lines(&fields), [("via", &b"new"[..]), ("X-a", b"only")]);
    fields.set("X-New", b"last").unwrap();
    assert_eq!(fields.len(), 3);
}

#[test]
fn removing_takes_all_of_a_name() {
    let mut fields = fields(&[("TE", "1"), ("a", "2"), ("te", "3")]);
    assert!(fields.remove(Known::Te));
    assert!(!fields.remove("te"));
    assert_eq!(lines(&fields), [("a", &b"2"[..])]);
    assert_eq!(fields.bytes(), 2);
}

#[test]
fn a_field_that_must_stand_alone_is_told_from_repeated_ones() {
    let fields = fields(&[("host", "a"), ("te", "b"), ("TE", "b")]);
    assert_eq!(fields.single(Known::Host), Ok(Some(&b"a"[..])));
    assert_eq!(fields.single(Known::Te), Err(Repeated));
    assert_eq!(fields.single(Known::Via), Ok(None));
}

#[test]
fn lists_are_read_over_all_their_fields() {
    let fields = fields(&[("Connection", " close,, X-A ,"), ("a", "b"), ("connection", ""), ("Connection", "te")]);
    let tokens: Vec<_> = fields.tokens(Known::Connection).collect();
    assert_eq!(tokens, [&b"close"[..], b"X-A", b"te"]);
}

#[test]
fn a_line_is_added_as_it_is_written_and_only_if_it_is_one() {
    let mut added = fields(&[("host", "a")]);
    added.append_line(Known::Via, "via: 1.1 me\r\n").unwrap();
    assert_eq!(lines(&added), [("host", &b"a"[..]), ("via", b"1.1 me")]);
    assert_eq!(added.value(Known::Via), Some(&b"1.1 me"[..]));
    for line in ["via: 1.1 me", "via:1.1 me\r\n", "Via: 1.1 me\r\n", "te: 1.1 me\r\n"] {
        assert_eq!(added.append_line(Known::Via, line), Err(InvalidField::Value), "{line:?}");
    }
}

#[test]
fn clearing_forgets_everything() {
    let mut fields = fields(&[("host", "a")]);
    fields.append("x", b"\xff").unwrap();
    fields.clear();
    assert!(fields.is_empty() && !fields.contains(Known::Host));
    assert_eq!(fields.bytes(), 0);
    fields.append("x", b"\xfe").unwrap();
    assert_eq!(lines(&fields), [("x", &b"\xfe"[..])]);
}

#[test]
fn equality_looks_at_lines_and_not_at_how_they_are_stored() {
    let mut one = fields(&[("a", "1"), ("b", "2"), ("c", "3")]);
    one.remove("b");
    assert_eq!(one, fields(&[("a", "1"), ("c", "3")]));
    assert_ne!(one, fields(&[("A", "1"), ("c", "3")]), "the case goes on to the next hop");
    assert_eq!(format!("{one:?}"), "[a: 1, c: 3]");
}
