//! What expressions mean: tables of texts over one request, and a model of comparisons that is written in another way.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate_config::config::{self, AcceptRequestId};
use tidegate_config::value::{Invalid, PathPattern};
use tidegate_core::body::Body;
use tidegate_core::clock::{Clock, ManualClock};
use tidegate_core::exchange::{Exchange, Opening};
use tidegate_core::expression::{Expression, Scope, Variable};
use tidegate_core::identity::Identity;
use tidegate_core::route::{Found, Head, Router};

use crate::world::{head, networks, peer, route};

const ROUTE: &str = "r | /t/{tenant}/{rest...}";

/// A request of the tenant `acme`, whose user is an editor.
fn exchange() -> Exchange {
    let nobody = networks(&[]);
    let rule = config::RequestId { header: "x-request-id".into(), accept: AcceptRequestId::Never };
    let now = Clock::Manual(ManualClock::new(Duration::ZERO)).now();
    let opening = Opening { trusted: &nobody, request_id: &rule, random: 1, now };
    let lines = [
        "host: Shop.Test:80",
        "x-one: a",
        "x-two: a",
        "x-two: b",
        "x-same: a",
        "x-same: a",
        "x-empty: ",
        "cookie: c=1; e=a; c=2",
    ];
    let head = head("POST", "/t/acme/a%20b?q=1&q=2&one=a+b&dup=a&dup=a&none", &lines);
    let (mut exchange, opened) = Exchange::open(head, Body::empty(), Rc::new(peer("::ffff:10.1.2.3", &[])), opening);
    assert_eq!(opened, Ok(()));
    let (router, _) = Router::build(&[route(ROUTE)]);
    let mut params = std::mem::take(&mut exchange.params);
    assert_eq!(router.find(&Head::of(&exchange), &mut params), Found::Route(0));
    exchange.params = params;
    exchange.identity = Some(Arc::new(Identity {
        user: Some("ann".into()),
        roles: vec!["editor".into(), "reader".into()],
        scopes: vec!["read".into()],
        tenant: Some("acme".into()),
        claims: claims(),
        ..Identity::default()
    }));
    exchange
}

fn claims() -> Value {
    json!({
        "sub": "ann", "level": 3, "share": 0.5, "big": 9_007_199_254_740_993_u64, "ok": true, "bad": false, "gone": null,
        "one": "a", "ip": "10.1.2.3", "aud": "api", "list": ["a", "b", 3, true, null, ["c"]], "nets": ["192.0.2.0/24", "10.0.0.0/8"],
        "deep": { "er": { "x": "y" } }, "https://a.test/tenant": "acme", "with\"quote": 1, "empty": [], "text": "3",
    })
}

fn parse(text: &str) -> Expression {
    Expression::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn holds_for(text: &str, exchange: &Exchange) -> bool {
    let pattern = PathPattern::exact("/t/{tenant}/{rest...}").expect("a path");
    parse(text).holds(&Scope { exchange, pattern: &pattern, now: Duration::from_millis(1_700_000_000_900) })
}

fn all_hold(texts: &[&str]) {
    let exchange = exchange();
    for text in texts {
        assert!(holds_for(text, &exchange), "{text}");
    }
}

fn none_holds(texts: &[&str]) {
    let exchange = exchange();
    for text in texts {
        assert!(!holds_for(text, &exchange), "{text}");
    }
}

#[test]
fn every_variable_says_what_is_so() {
    all_hold(&[
        "identity.tenant == path.tenant",
        "identity.user == 'ann'",
        r#""editor" in identity.roles && identity.scopes contains "read" && !("x" in identity.permissions)"#,
        r#"claims.deep.er.x == "y""#,
        r#"claims["deep"]["er"].x == 'y'"#,
        r#"claims["https://a.test/tenant"] == identity.tenant"#,
        r#"claims["with""quote"] == 1"#,
        r#"path.rest == "a b""#,
        r#"query.one == "a b" && query.none == """#,
        r#"header.X-One == "a" && header["x-empty"] == """#,
        r#"cookie.e == "a""#,
        r#"method == "POST" && host == "shop.test" && scheme == "http""#,
        r#"request.path == "/t/acme/a%20b""#,
        r#"client_ip == "10.1.2.3" && client_ip == "::ffff:10.1.2.3" && client_ip == claims.ip"#,
        "now == 1700000000",
    ]);
}

#[test]
fn what_is_not_there_equals_the_word_null_and_nothing_else() {
    all_hold(&[
        "header.x-none == null",
        "null == claims.gone",
        "claims.never.so.deep == null",
        "claims.sub.x == null",
        "claims.sub != null",
        "header.x-none != claims.never",
        r#"header.x-none != """#,
        "!has(header.x-none) && !has(claims.gone) && has(header.x-empty) && has(claims.deep) && has(claims.bad)",
    ]);
    none_holds(&[
        "header.x-none == claims.never",
        "claims.never == claims.never",
        "claims.never in claims.list",
        "claims.never in claims.gone",
        "claims.list contains claims.never",
        "claims.never < 1",
        "header.x-none matches '.*'",
        "header.x-none contains ''",
    ]);
}

#[test]
fn without_an_identity_nothing_about_it_holds() {
    let mut exchange = exchange();
    exchange.identity = None;
    for text in [
        "identity.tenant == path.tenant",
        "'editor' in identity.roles",
        "has(identity.roles)",
        "claims.ok",
        "claims.level > 0",
        "identity.tenant == identity.tenant",
    ] {
        assert!(!holds_for(text, &exchange), "{text}");
    }
    assert!(holds_for("identity.user == null && !claims.ok", &exchange));
}

#[test]
fn different_types_are_not_equal_and_have_no_order() {
    all_hold(&[
        "claims.level == 3",
        "claims.level == 3.0",
        "claims.level < 3.5 && claims.level >= 3 && claims.level <= 3 && claims.level > -1e0",
        "claims.share == 0.5",
        "claims.big == 9007199254740993",
        "claims.big != 9007199254740992",
        "claims.big > 9007199254740992",
        "claims.text != 3",
        "claims.ok == true && claims.bad == false",
        "claims.list != claims.list",
        "claims.deep != claims.deep",
    ]);
    none_holds(&[
        "claims.text == 3",
        "claims.text > 2",
        "claims.ok == 1",
        "claims.ok == 'true'",
        "claims.level < claims.sub",
        "claims.deep == 'y'",
        "claims.sub < claims.text",
        "claims.level starts_with '3'",
        "claims.level matches '3'",
    ]);
}

#[test]
fn in_asks_lists_and_ranges_and_contains_asks_the_same_from_the_other_side() {
    all_hold(&[
        "'a' in ['b', 'a']",
        "claims.level in [1, 2, 3]",
        "claims.ok in [true]",
        "'a' in claims.list && 3 in claims.list && claims.list contains true",
        "'api' in claims.aud",
        "identity.user in claims.sub",
        "client_ip in '10.0.0.0/8' && client_ip in ['::1', '10.1.2.3']",
        "client_ip in claims.nets && client_ip in claims.ip",
        "claims.aud contains 'p' && request.path contains '/acme/'",
        "['a', 'b'] contains header.x-one",
    ]);
    none_holds(&[
        "'x' in ['b', 'a']",
        "'a' in []",
        "claims.text in [1, 2, 3]",
        "'ap' in claims.aud",
        "'c' in claims.list",
        "'a' in claims.empty",
        "claims.deep in claims.list",
        "client_ip in '192.0.2.0/24'",
        "client_ip in claims.list",
        "claims.nets contains 'a'",
        "claims.list contains claims.list",
    ]);
}

#[test]
fn texts_are_compared_as_they_are_and_patterns_match_anywhere() {
    all_hold(&[
        "identity.user starts_with 'an' && identity.user ends_with 'nn'",
        r"request.path matches '^/t/[a-z]+/' && request.path matches 'cme'",
        r"path.rest matches '^\w \w$'",
        "claims.sub starts_with identity.user",
    ]);
    none_holds(&["identity.user == 'Ann'", "identity.user starts_with 'n'", "request.path matches '^cme'"]);
}

#[test]
fn a_comparison_must_hold_for_each_of_several_values() {
    all_hold(&[
        "header.x-same == 'a' && 'a' == header.x-same",
        "query.dup == 'a' && query.dup == header.x-one",
        "header.x-two != 'c'",
        "header.x-two in ['a', 'b', 'c']",
        "claims.list contains header.x-two",
        "header.x-two matches '^[ab]$'",
        "'b' in header.x-two && '2' in query.q && '1' in cookie.c",
        "query.q in ['1', '2']",
    ]);
    none_holds(&[
        "header.x-two == 'a'",
        "header.x-two != 'a'",
        "header.x-two in ['a']",
        "header.x-two matches 'a'",
        "header.x-two starts_with 'a'",
        "query.q == '1'",
        "cookie.c == '1'",
        "'c' in header.x-two",
        "header.x-two == query.q",
        "header.x-two != query.q",
        "header.x-same == query.dup",
        "header.x-two in query.q",
        "header.x-two == null",
    ]);
}

#[test]
fn where_several_values_differ_neither_a_comparison_nor_its_negation_holds() {
    all_hold(&[
        "!(header.x-two == 'c') && !(header.x-two in ['c', 'd'])",
        "!(header.x-two != 'c' && header.x-same != 'a')",
        "!(header.x-two matches '^c$') && !(header.x-two starts_with 'c')",
        "!('c' in header.x-two) && !(header.x-two == null)",
    ]);
    none_holds(&[
        "!(header.x-two == 'a')",
        "!(header.x-two != 'a')",
        "!('a' == header.x-two)",
        "!(header.x-two in ['a'])",
        "!(header.x-two matches 'a')",
        "!(query.q == '2') && method == 'GET'",
        "!(cookie.c starts_with '1')",
        "!(header.x-two == query.q)",
        "!(header.x-same == query.dup)",
        "(header.x-two == 'a') == false",
    ]);
}

#[test]
fn neither_a_doubtful_condition_nor_its_negation_holds() {
    all_hold(&["claims.ok", "!claims.bad", "!claims.gone", "claims.sub || claims.ok", "!(claims.sub && claims.bad)"]);
    none_holds(&[
        "claims.sub",
        "!claims.sub",
        "!!claims.level",
        "!(claims.sub && claims.ok)",
        "!(claims.sub || claims.bad)",
        "claims.sub && claims.ok",
        "(claims.sub && claims.ok) == true",
        "(claims.sub && claims.ok) == false",
    ]);
}

#[test]
fn and_binds_tighter_than_or_and_not_tightest() {
    all_hold(&["true || true && false", "!false && true", "!(true && false)", "!!true", "(true || true) && true"]);
    none_holds(&["(true || true) && false", "!true || false", "! true", "false"]);
    all_hold(&["true&&!false", " true\n\t&& ( true ) ", "'a'=='a'&&1<2"]);
}

#[test]
fn quotes_are_doubled_and_backslashes_stand_for_themselves() {
    all_hold(&[
        r"'\d' matches '^\\d$'",
        "'it''s' == \"it's\" && \"say \"\"x\"\"\" == 'say \"x\"' && '''' == \"'\"",
        "'&&' == \"&&\"",
    ]);
}

/// The text with `^` where the error is, the message and the help.
fn refused(text: &str) -> String {
    let error = Expression::parse(text).expect_err(text);
    assert!(Invalid::from(error.clone()).message.ends_with(&format!("(at byte {} of the expression)", error.at)));
    let (before, after) = text.split_at(error.at);
    format!("{before}^{after} | {} | {}", error.message, error.help.unwrap_or_default())
}

#[test]
fn mistakes_are_told_with_their_place_and_what_to_do() {
    let rows = [
        (
            "identity.tennant == 'a'",
            "^identity.tennant == 'a' | there is no variable `identity.tennant` | did you mean `identity.tenant`?",
        ),
        ("'a' in roles", "'a' in ^roles | there is no variable `roles` | did you mean `identity.roles`?"),
        (
            "true && clams.tenant == 'a'",
            "true && ^clams.tenant == 'a' | there is no variable `clams.tenant` | did you mean `claims.tenant`?",
        ),
        (
            "request.method == 'GET'",
            "^request.method == 'GET' | there is no variable `request.method` | did you mean `method`?",
        ),
        ("has(claims)", "has(^claims) | there is no variable `claims` | write which one: `claims.NAME`"),
        ("path.a.b == 'x'", "^path.a.b == 'x' | there is no variable `path.a.b` | did you mean `path[\"a.b\"]`?"),
        (
            "header['a b'] == 'x'",
            "^header['a b'] == 'x' | `a b` cannot be the name of a header | header names are letters, digits and `-`, without a colon",
        ),
        (
            "claims. == 1",
            "claims^. == 1 | a name is missing before ` ` | write `claims.NAME`, or `claims[\"NAME\"]` for a name with other signs in it",
        ),
        ("", "^ | a value is missing before the end | "),
        ("method ==", "method ==^ | a value is missing before the end | "),
        ("method = 'GET'", "method ^= 'GET' | `=` is not expected here | equal is `==`"),
        ("method === 'GET'", "method ==^= 'GET' | a value is missing before `=` | "),
        ("true and true", "true ^and true | `and` is not expected here | and is `&&`"),
        ("true | true", "true ^| true | `|` is not expected here | or is `||`"),
        ("1 < now < 3", "1 < now ^< 3 | `<` is not expected here | a value is compared once: write `a < b && b < c`"),
        (
            "host startswith 'a'",
            "host ^startswith 'a' | `startswith` is not expected here | did you mean `starts_with`?",
        ),
        (
            "(true",
            "(true^ | the end is not expected here: a `)` is due for what began at byte 0 | after a value comes an operator such as `==` or `in`, or `&&`, `||` or the end",
        ),
        (
            "true)",
            "true^) | `)` is not expected here | after a value comes an operator such as `==` or `in`, or `&&`, `||` or the end",
        ),
        ("host == 'a", "host == ^'a | the text that begins here has no ' at its end | "),
        ("now > 1.2.3", "now > ^1.2.3 | `1.2.3` is not a number | texts stand in quotes"),
        ("now > 1e999", "now > ^1e999 | `1e999` is not a number | texts stand in quotes"),
        (
            "host in ['a' 'b']",
            "host in ['a' ^'b'] | `'` is not expected here: a `]` is due for what began at byte 8 | after a value comes an operator such as `==` or `in`, or `&&`, `||` or the end",
        ),
        (
            "host in [null]",
            "host in [^null] | a list cannot hold `null` | a list holds texts in quotes, numbers, `true` and `false`; ask for others with `||`",
        ),
        (
            "host in [identity.user]",
            "host in [^identity.user] | a list cannot hold `identity` | a list holds texts in quotes, numbers, `true` and `false`; ask for others with `||`",
        ),
    ];
    for (text, expected) in rows {
        assert_eq!(refused(text), expected);
    }
}

#[test]
fn texts_that_are_no_regular_expression_range_or_variable_are_refused() {
    let rows = [
        ("has host", "has ^host | a `(` is missing after `has` | write `has(claims.NAME)`"),
        ("host matches '('", "host matches ^'(' | `(` is not a regular expression: unclosed group | "),
        (
            "host matches claims.re",
            "host matches ^claims.re | the regular expression must be written here, as a text | ",
        ),
        (
            "client_ip in '10.0.0.1/8'",
            "client_ip in ^'10.0.0.1/8' | `10.0.0.1/8` has bits beyond its prefix | write `10.0.0.0/8` for the range, or `10.0.0.1` for the one address",
        ),
        (
            "client_ip == '10.0.0.0/8'",
            "client_ip ^== '10.0.0.0/8' | `10.0.0.0/8` is not an address | a range is asked with `in`: `client_ip in \"10.0.0.0/8\"`",
        ),
    ];
    for (text, expected) in rows {
        assert_eq!(refused(text), expected);
    }
}

#[test]
fn what_could_never_hold_is_refused_when_it_is_loaded() {
    let rows = [
        (
            "identity.roles == 'admin'",
            "`==` says nothing of a list and a text | a list is asked with `in`: `\"admin\" in identity.roles`",
        ),
        (
            "identity.roles in ['admin']",
            "`in` says nothing of a list and a list | a list is asked with `in`: `\"admin\" in identity.roles`",
        ),
        (
            "query.page > 10",
            "`>` says nothing of a text and a number | what requests carry is text, even `\"10\"`; only claims can be numbers",
        ),
        (
            "now == '10'",
            "`==` says nothing of a number and a text | what requests carry is text, even `\"10\"`; only claims can be numbers",
        ),
        (
            "host in 'a.test'",
            "`in` says nothing of a text and a text | `in` takes a list, such as `[\"a\", \"b\"]`; `contains` finds a text in a text",
        ),
        (
            "claims.ip in '10.0.0.0/8'",
            "`in` says nothing of a claim and a text | `in` takes a list, such as `[\"a\", \"b\"]`; `contains` finds a text in a text",
        ),
        (
            "null in claims.list",
            "`in` says nothing of `null` and a claim | `null` goes with `==` and `!=`; `has(...)` asks whether there is a value",
        ),
        (
            "null == null",
            "`==` says nothing of `null` and `null` | `null` goes with `==` and `!=`; `has(...)` asks whether there is a value",
        ),
        ("client_ip starts_with '10.'", "`starts_with` says nothing of an address and a text | "),
        ("true < false", "`<` says nothing of a truth value and a truth value | "),
        ("host", "a text by itself is never true | compare it, or ask with `has(...)` whether it is there"),
        ("!identity.roles", "a list by itself is never true | compare it, or ask with `has(...)` whether it is there"),
        (
            "client_ip || true",
            "an address by itself is never true | compare it, or ask with `has(...)` whether it is there",
        ),
        ("null", "`null` by itself is never true | compare it, or ask with `has(...)` whether it is there"),
    ];
    for (text, expected) in rows {
        assert_eq!(refused(text).split_once(" | ").expect("a message").1, expected, "{text}");
    }
}

#[test]
fn length_and_depth_are_bounded() {
    let nested = |depth: usize| format!("{}true{}", "(".repeat(depth), ")".repeat(depth));
    parse(&nested(32));
    assert!(refused(&nested(33)).contains("nested more than 32 deep"));
    parse(&format!("{}true", "!".repeat(32)));
    assert!(refused(&format!("{}true", "!".repeat(33))).contains("nested more than 32 deep"));
    let long = |terms: usize| vec!["true"; terms].join("&&");
    parse(&long(683));
    assert!(refused(&long(684)).starts_with('^') && refused(&long(684)).contains("at most 4096 bytes"));
    let error = Expression::parse(&format!("host matches '{}'", r"\w{500}".repeat(8))).expect_err("too large");
    assert!(error.message.contains("once compiled"), "{error}");
}

#[test]
fn an_expression_tells_its_text_and_what_it_asks_about() {
    let text =
        "  identity.tenant == path.tenant && !has( claims[\"a b\"].c ) || client_ip in '::1'&&header.X-A matches 'x' ";
    let expression = parse(text);
    assert_eq!(expression.to_string(), text);
    assert_eq!(parse(&expression.to_string()), expression);
    let variables: Vec<_> = expression.variables().into_iter().map(ToString::to_string).collect();
    assert_eq!(variables, ["identity.tenant", "path.tenant", "claims[\"a b\"].c", "client_ip", "header.x-a"]);
    let needing = expression.variables().into_iter().filter(|variable| variable.needs_identity()).count();
    assert_eq!(needing, 2);
    assert!(expression.variables().contains(&&Variable::Path("tenant".into())));
}

#[test]
fn every_variable_prints_as_it_is_written() {
    for text in [
        "identity.user",
        "identity.roles",
        "identity.permissions",
        "identity.scopes",
        "identity.tenant",
        "claims.a.b-c",
        "claims[\"x\"\"y\"].z",
        "claims[\"\"]",
        "path.a",
        "query.a",
        "header.x-a",
        "cookie.a",
        "method",
        "host",
        "request.path",
        "client_ip",
        "scheme",
        "now",
    ] {
        let expression = parse(&format!("has({text})"));
        assert_eq!(expression.variables()[0].to_string(), text);
    }
}

/// What a value of the model is: `None` is not there.
type Modelled = Option<Value>;

/// Values as they are written, and what they are.
fn operands() -> Vec<(&'static str, Modelled)> {
    let claims = claims();
    let mut operands: Vec<(&str, Modelled)> = [
        ("claims.sub", "sub"),
        ("claims.level", "level"),
        ("claims.share", "share"),
        ("claims.big", "big"),
        ("claims.ok", "ok"),
        ("claims.bad", "bad"),
        ("claims.gone", "gone"),
        ("claims.never", "never"),
        ("claims.list", "list"),
        ("claims.deep", "deep"),
        ("claims.aud", "aud"),
        ("claims.empty", "empty"),
        ("claims.text", "text"),
    ]
    .map(|(text, name)| (text, claims.get(name).filter(|value| !value.is_null()).cloned()))
    .to_vec();
    operands.extend([
        ("identity.user", Some(json!("ann"))),
        ("identity.roles", Some(json!(["editor", "reader"]))),
        ("identity.permissions", Some(json!([]))),
        ("header.x-one", Some(json!("a"))),
        ("header.x-none", None),
        ("query.one", Some(json!("a b"))),
        ("now", Some(json!(1_700_000_000))),
        ("'a'", Some(json!("a"))),
        ("''", Some(json!(""))),
        ("3", Some(json!(3))),
        ("0.5", Some(json!(0.5))),
        ("true", Some(json!(true))),
        ("['a', 3, true]", Some(json!(["a", 3, true]))),
        ("[]", Some(json!([]))),
    ]);
    operands
}

fn same(left: &Modelled, right: &Modelled) -> bool {
    match (left, right) {
        (Some(Value::Number(left)), Some(Value::Number(right))) => left.as_f64() == right.as_f64(),
        (Some(Value::Array(_) | Value::Object(_)) | None, _) => false,
        _ => left == right,
    }
}

fn model(operator: &str, left: &Modelled, right: &Modelled) -> bool {
    let items = |value: &Modelled| match value {
        Some(Value::Array(items)) => {
            items.iter().map(|item| Some(item.clone()).filter(|item| !item.is_null())).collect()
        }
        single => vec![single.clone()],
    };
    let number = |value: &Modelled| value.as_ref().and_then(Value::as_f64);
    let text = |value: &Modelled| value.as_ref().and_then(Value::as_str).map(str::to_owned);
    let numbers = number(left).zip(number(right));
    let texts = text(left).zip(text(right));
    match operator {
        "==" => same(left, right),
        "!=" => !same(left, right),
        "<" => numbers.is_some_and(|(left, right)| left < right),
        "<=" => numbers.is_some_and(|(left, right)| left <= right),
        ">" => numbers.is_some_and(|(left, right)| left > right),
        ">=" => numbers.is_some_and(|(left, right)| left >= right),
        "in" => items(right).iter().any(|item| same(left, item)),
        "starts_with" => texts.is_some_and(|(left, right)| left.starts_with(&right)),
        "ends_with" => texts.is_some_and(|(left, right)| left.ends_with(&right)),
        "contains" => match left {
            Some(Value::Array(_)) => items(left).iter().any(|item| same(item, right)),
            _ => texts.is_some_and(|(left, right)| left.contains(&right)),
        },
        _ => panic!("no such operator: {operator}"),
    }
}

#[test]
fn every_comparison_is_what_the_model_says_and_refused_ones_would_be_in_vain() {
    let exchange = exchange();
    let mut compared = 0;
    let operators = ["==", "!=", "<", "<=", ">", ">=", "in", "contains", "starts_with", "ends_with"];
    let pairs = operands().into_iter().flat_map(|left| operands().into_iter().map(move |right| (left.clone(), right)));
    for (((left_text, left), (right_text, right)), operator) in
        pairs.flat_map(|pair| operators.map(|operator| (pair.clone(), operator)))
    {
        let text = format!("{left_text} {operator} {right_text}");
        let expected = model(operator, &left, &right);
        if Expression::parse(&text).is_ok() {
            compared += 1;
            assert_eq!(holds_for(&text, &exchange), expected, "{text}");
        } else {
            // A single value is a list of one, but whoever writes one there means something else.
            let is_misleading = operator == "in" && right.is_some_and(|right| !right.is_array());
            assert!(expected == (operator == "!=") || is_misleading, "{text} is refused");
        }
    }
    assert!(compared > 2000, "{compared}");
}

/// A condition as a tree, whose leaves are known to hold or not.
#[derive(Debug, Clone)]
enum Tree {
    Leaf(&'static str, bool),
    Not(Box<Tree>),
    All(Vec<Tree>),
    Any(Vec<Tree>),
}

impl Tree {
    fn holds(&self) -> bool {
        match self {
            Self::Leaf(_, holds) => *holds,
            Self::Not(inner) => !inner.holds(),
            Self::All(parts) => parts.iter().all(Self::holds),
            Self::Any(parts) => parts.iter().any(Self::holds),
        }
    }

    /// With as few parentheses as can be; `tightness` is that of what is around it.
    fn write(&self, tightness: u8, out: &mut String) {
        let (own, sign, parts) = match self {
            Self::Leaf(text, _) => return out.push_str(text),
            Self::Not(inner) => {
                out.push('!');
                return inner.write(3, out);
            }
            Self::All(parts) => (2, " && ", parts),
            Self::Any(parts) => (1, "||", parts),
        };
        let wrapped = own <= tightness;
        out.push_str(if wrapped { "( " } else { "" });
        for (position, part) in parts.iter().enumerate() {
            out.push_str(if position > 0 { sign } else { "" });
            part.write(own, out);
        }
        out.push_str(if wrapped { ")" } else { "" });
    }
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaves = &[
        ("true", true),
        ("false", false),
        ("claims.ok", true),
        ("claims.never", false),
        ("'a' in identity.roles", false),
        ("claims.level<4", true),
        ("has(host)", true),
    ];
    let leaf = prop::sample::select(&leaves[..]).prop_map(|(text, holds)| Tree::Leaf(text, holds));
    leaf.prop_recursive(4, 24, 4, |inner| {
        let parts = prop::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            inner.prop_map(|inner| Tree::Not(Box::new(inner))),
            parts.clone().prop_map(Tree::All),
            parts.prop_map(Tree::Any),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn conditions_are_read_as_they_were_meant(tree in trees()) {
        let mut text = String::new();
        tree.write(0, &mut text);
        prop_assert_eq!(holds_for(&text, &exchange()), tree.holds(), "{}", text);
    }
}
