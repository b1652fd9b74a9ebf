//! What the schema and the reference say of words that policies bring.

mod words;

use serde_json::{Value, json};
use tidegate_config::{reference, schema};

use words::WORDS;

fn at(path: &str) -> Value {
    schema(&WORDS).pointer(path).cloned().unwrap_or_default()
}

#[test]
fn a_word_stands_where_its_place_is() {
    for object in ["RouteFile", "PoliciesFile"] {
        for (key, is_there) in [("cors", true), ("auth", true), ("rate_limit", true), ("jwt", false)] {
            assert_eq!(!at(&format!("/$defs/{object}/properties/{key}")).is_null(), is_there, "{object}: {key}");
        }
    }
    assert!(at("/properties/cors").is_null());
    assert_eq!(at("/properties/rate_limit/description"), "Named limits.");
}

#[test]
fn a_word_may_be_off_or_on_or_written_in_short() {
    let forms = at("/$defs/RouteFile/properties/cors/anyOf");
    assert_eq!(forms.pointer("/0/anyOf/0/type"), Some(&json!(["string", "number", "boolean"])));
    for form in [
        json!({ "$ref": "#/$defs/CorsFile" }),
        json!({ "enum": [null, "off", false] }),
        json!({ "enum": ["on", true] }),
    ] {
        assert!(forms.as_array().is_some_and(|forms| forms.contains(&form)), "{form} is not in {forms:#}");
    }
}

#[test]
fn names_may_be_written_in_short_whichever_words_share_them() {
    let forms = at("/$defs/LimitsFile/additionalProperties/anyOf");
    let forms = forms.as_array().map(Vec::as_slice).unwrap_or_default();
    let short = forms.iter().filter(|form| form.get("$ref").is_none() && form.get("enum").is_none());
    assert_eq!(short.count(), 1, "{forms:#?}");
    assert!(forms.contains(&json!({ "$ref": "#/$defs/LimitFile" })));
}

#[test]
fn the_reference_has_a_section_for_each_object_with_what_is_built_in() {
    let page = reference(&WORDS);
    for line in [
        "| `rate_limit` | text or mapping of names: text or mapping |  | Named limits. |",
        "## `rate_limit.NAME`",
        "| `algorithm` | text | `token_bucket` | How. |",
        "| `leeway` | duration | `30s` | How wrong a clock may be. |",
        "| `refresh` | duration | `10m` | How often. |",
        "## `routes[].cors.own`",
        "| `max_age` | duration | `5s` | How long they may remember. |",
        "| `strict` | `on` or `off` | `on` | How. |",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not in the page");
    }
}
