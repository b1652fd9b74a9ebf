//! Endpoints as other programs write them, in a file or as a value of a store: the same words as `endpoints` of a service,
//! so that one entry may be moved to the other place as it is.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::config::Endpoint;
use crate::de;
use crate::file::TextOr;
use crate::parse;
use crate::problem::{Path, Problem, Problems};
use crate::resolve::{MAX_WEIGHT, parse_url};
use crate::schema::KnownKeys;
use crate::tree::Node;
use crate::value::Name;
use crate::vocabulary::Vocabulary;

/// One endpoint, as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    url: String,
    weight: Option<u32>,
    zone: Option<Name>,
    priority: Option<u32>,
}

/// The endpoints of a list in YAML or JSON: a URL each, or a mapping with `url`, `weight`, `zone` and `priority`.
///
/// # Errors
/// What is wrong, with lines, in one sentence: a list is good as a whole or not at all.
pub fn endpoint_list(text: &str) -> Result<Vec<Endpoint>, String> {
    read(text, |node, problems| {
        let Some(items) = node.as_list() else {
            problems.push(Problem::error(Path::root(), "expected a list of endpoints"));
            return Vec::new();
        };
        let numbered = items.iter().enumerate();
        numbered.filter_map(|(position, item)| endpoint(item, &Path::root().index(position), problems)).collect()
    })
}

/// One endpoint: a bare URL, or a mapping as in a list.
///
/// # Errors
/// What is wrong with it, in one sentence.
pub fn one_endpoint(text: &str) -> Result<Endpoint, String> {
    read(text, |node, problems| endpoint(node, &Path::root(), problems))?.ok_or_else(|| "it is empty".to_owned())
}

fn read<T>(text: &str, read: impl FnOnce(&Node, &mut Problems) -> T) -> Result<T, String> {
    let mut problems = Problems::new();
    let Ok(node) = parse::parse(text, 0, &mut problems) else {
        return Err(if problems.is_empty() { "it is empty".to_owned() } else { in_words(&problems, None) });
    };
    let value = read(&node, &mut problems);
    if problems.has_errors() { Err(in_words(&problems, Some(&node))) } else { Ok(value) }
}

fn endpoint(node: &Node, at: &Path, problems: &mut Problems) -> Option<Endpoint> {
    let written = match de::read(node, at, &KnownKeys(Vocabulary::EMPTY), problems, &mut BTreeSet::new())? {
        TextOr::Text(url) => Listed { url, weight: None, zone: None, priority: None },
        TextOr::Full(listed) => listed,
    };
    let weight = written.weight.unwrap_or(1);
    if weight > MAX_WEIGHT {
        problems.push(Problem::error(at.join("weight"), format!("a weight is at most {MAX_WEIGHT}")));
    }
    let zone = written.zone.map(|zone| zone.0);
    match parse_url(&written.url) {
        Ok(endpoint) => Some(Endpoint { weight, zone, priority: written.priority.unwrap_or(0), ..endpoint }),
        Err(invalid) => {
            problems.push(Problem::error(at.clone(), invalid.message));
            None
        }
    }
}

/// The first problems: who wrote a list of a thousand broken entries knows enough after three.
fn in_words(problems: &Problems, node: Option<&Node>) -> String {
    let told = problems.iter().take(3).map(|problem| {
        let place = node.and_then(|node| node.find(&problem.path)?.origin.place());
        let place = place.or_else(|| problem.spot.as_ref()?.origin.as_ref()?.place());
        place.map_or_else(|| problem.message.clone(), |place| format!("line {}: {}", place.line, problem.message))
    });
    told.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_yaml_or_json() {
        let yaml = "- http://10.0.0.1:80\n- { url: \"https://b.test:8443\", weight: 3, zone: a, priority: 1 }\n";
        let json = r#"["http://10.0.0.1:80", {"url": "https://b.test:8443", "weight": 3, "zone": "a", "priority": 1}]"#;
        let endpoints = endpoint_list(yaml).unwrap();
        assert_eq!(endpoints, endpoint_list(json).unwrap());
        let [plain, full] = &endpoints[..] else { panic!("{endpoints:?}") };
        assert_eq!((plain.tls, &*plain.host, plain.port, plain.weight, plain.priority), (false, "10.0.0.1", 80, 1, 0));
        assert_eq!((full.tls, &*full.authority, full.weight, full.priority), (true, "b.test:8443", 3, 1));
        assert_eq!(full.zone.as_deref(), Some("a"));
        assert_eq!(endpoint_list("[]"), Ok(Vec::new()));
    }

    #[test]
    fn a_list_with_a_mistake_is_refused_as_a_whole_and_told_by_line() {
        for (text, told) in [
            ("", "it is empty"),
            ("a: 1", "expected a list of endpoints"),
            ("- http://a.test:80\n- a.test:80\n", "line 2: `a.test:80` is not a URL"),
            ("- http://a.test:80/path\n", "line 1: a service is a host and a port"),
            ("- { url: \"http://a.test\", weight: 10001 }", "line 1: a weight is at most 10000"),
            ("- { url: \"http://a.test\", wieght: 1 }", "unknown key `wieght`"),
            ("- { weight: 1 }", "line 1: `url` is missing"),
            ("- \"http://a.test", "line 1: "),
        ] {
            let error = endpoint_list(text).unwrap_err();
            assert!(error.contains(told), "{text:?}: {error}");
        }
    }

    #[test]
    fn one_endpoint_is_a_bare_url_or_a_mapping() {
        assert_eq!(&*one_endpoint("http://10.0.0.1:8080").unwrap().authority, "10.0.0.1:8080");
        assert_eq!(one_endpoint(r#"{"url":"http://[::1]:8080","weight":0}"#).unwrap().weight, 0);
        assert!(one_endpoint("").is_err());
        assert!(one_endpoint("[1]").is_err());
    }
}
