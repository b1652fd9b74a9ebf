//! `requests`: which methods and which types of bodies a route takes. How large bodies may be is said by `limits`.

use std::sync::Arc;

use http::Method;
use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_config::policy::{MethodName, Place, Reading};
use tidegate_config::problem::{Path, Problem};
use tidegate_config::value::{FieldText, Invalid};
use tidegate_core::exchange::Exchange;
use tidegate_core::policy::{Decision, Gate, Phase, World};
use tidegate_core::rejection::{Rejection, RejectionKind};
use tidegate_core::route::Methods;
use tidegate_http1::Known;

use crate::policy::{Policy, Setup};

/// The policy.
pub(crate) struct Requests;

/// Which requests are taken at all.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequestsFile {
    /// Only these methods; `GET` includes `HEAD`. By default all that the route matches.
    #[serde(default)]
    methods: Vec<MethodName>,
    /// Only bodies of these types: `application/json`, or `image/*` for all of a kind. By default all.
    #[serde(default)]
    content_types: Vec<FieldText>,
}

/// What is taken. An empty list is all.
#[derive(Debug)]
pub(crate) struct Rules {
    methods: Methods,
    /// Media types in lower case; those of a whole kind end with `/`.
    types: Vec<String>,
    /// The types as the client is told.
    told: String,
}

impl Policy for Requests {
    const KEY: &'static str = "requests";
    const PLACE: Place = Place::Route;
    const EXAMPLE: &'static str = "\
services: { orders: { url: http://127.0.0.1:9001 } }
routes:
  - match: { path_prefix: /orders }
    service: orders
    requests: { methods: [GET, POST], content_types: [application/json] }
";
    type File = RequestsFile;
    type Meaning = Arc<Rules>;

    fn mean(file: RequestsFile, reading: &mut Reading<'_, '_>) -> Option<Arc<Rules>> {
        let path = reading.path();
        if file.methods.is_empty() && file.content_types.is_empty() && !reading.is_excused(&path) {
            let problem = Problem::error(path.clone(), "`requests` says nothing");
            reading.report(problem.help("write `methods`, `content_types` or both"));
        }
        let mut types = Vec::new();
        for (position, written) in file.content_types.iter().enumerate() {
            match media_type(&written.0) {
                Ok(known) => types.push(known),
                Err(invalid) => {
                    let item = reading.item(&path.join("content_types"), position);
                    reading.invalid(&item, invalid);
                }
            }
        }
        let methods: Vec<Method> = file.methods.into_iter().map(|method| method.0).collect();
        let told = file.content_types.iter().map(|known| &*known.0).collect::<Vec<_>>().join(", ");
        Some(Arc::new(Rules { methods: Methods::of(&methods), types, told }))
    }

    fn build(meaning: Option<&Arc<Rules>>, at: &Path, setup: &mut Setup<'_>) {
        if let Some(rules) = meaning {
            setup.gate((Phase::Edge, Self::KEY), &"".into(), at, Arc::<Rules>::clone(rules));
        }
    }
}

/// A media type, or the beginning that a kind of them has.
fn media_type(text: &str) -> Result<String, Invalid> {
    let wrong = || {
        Invalid::new(format!("`{text}` is no media type"))
            .help("write `application/json`, or `image/*` for all of a kind; parameters are not compared")
    };
    let lower = text.to_ascii_lowercase();
    let (kind, name) = lower.split_once('/').ok_or_else(wrong)?;
    // The same characters that methods are made of (RFC 9110, 5.6.2).
    let is_token = |word: &str| word != "*" && Method::from_bytes(word.as_bytes()).is_ok();
    match name {
        "*" if is_token(kind) => Ok(format!("{kind}/")),
        _ if is_token(kind) && is_token(name) => Ok(lower),
        _ => Err(wrong()),
    }
}

impl Gate for Rules {
    fn check<'a>(&'a self, exchange: &'a mut Exchange, _: &'a dyn World) -> Decision<'a> {
        let method = &exchange.head.method;
        if !self.methods.is_empty() && !self.methods.contains(method) {
            return Decision::refuse(Rejection::method_not_allowed(&self.methods.to_string()));
        }
        if !self.types.is_empty() && !exchange.body.is_end() && !self.takes(exchange) {
            return Decision::refuse(self.type_refused(method));
        }
        Decision::PASS
    }

    fn describe(&self, _: &Exchange) -> String {
        let methods = (!self.methods.is_empty()).then(|| format!("methods {}", self.methods));
        let types = (!self.types.is_empty()).then(|| format!("bodies of {}", self.told));
        methods.into_iter().chain(types).collect::<Vec<_>>().join("; ")
    }
}

impl Rules {
    /// Whether the body's type is one of the list. Who names none or several may mean any.
    fn takes(&self, exchange: &Exchange) -> bool {
        let Ok(Some(written)) = exchange.head.fields.single(Known::ContentType) else { return false };
        let essence = written.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        self.types.iter().any(|known| {
            let length = if known.ends_with('/') { known.len().min(essence.len()) } else { essence.len() };
            essence.get(..length).is_some_and(|start| start.eq_ignore_ascii_case(known.as_bytes()))
        })
    }

    /// Tells what would be taken, in the field that the method has for it (RFC 5789, 3.1; RFC 9110, 12.5.1).
    fn type_refused(&self, method: &Method) -> Rejection {
        let name = match *method {
            Method::POST => "accept-post",
            Method::PATCH => "accept-patch",
            _ => "accept",
        };
        let rejection = Rejection::new(
            RejectionKind::UnsupportedMediaType,
            "content_type_refused",
            "Bodies of this type are not taken here",
        );
        let told = rejection.field(name, self.told.as_bytes());
        told.unwrap_or_else(|_| Rejection::internal("the content types are no field value".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{check, problems};

    fn yaml(requests: &str) -> String {
        format!(
            "services: {{ a: {{ url: http://127.0.0.1:9001 }} }}\n\
             routes: [{{ match: {{ path_prefix: / }}, service: a, requests: {requests} }}]"
        )
    }

    #[test]
    fn methods_that_are_not_listed_are_refused_and_the_others_named() {
        let yaml = yaml("{ methods: [GET, POST] }");
        for method in ["GET", "HEAD", "POST"] {
            assert_eq!(check(&yaml, &format!("{method} /")), "pass", "{method}");
        }
        for method in ["DELETE", "TRACE", "OPTIONS", "PROPFIND", "get"] {
            let refused = "405 method_not_allowed: Method not allowed\nallow: GET, HEAD, POST";
            assert_eq!(check(&yaml, &format!("{method} /")), refused, "{method}");
        }
    }

    #[test]
    fn bodies_of_other_types_are_refused_and_the_types_named() {
        let yaml = yaml("{ content_types: [application/json, image/*] }");
        let refused = |field: &str| {
            format!(
                "415 content_type_refused: Bodies of this type are not taken here\n{field}: application/json, image/*"
            )
        };
        let post = |types: &[&str]| {
            let lines = types.iter().map(|text| format!("Content-Type: {text}"));
            let post = ["POST /".to_owned(), "Content-Length: 3".to_owned()].into_iter().chain(lines);
            check(&yaml, &post.collect::<Vec<_>>().join("\n"))
        };
        for taken in ["application/json", "Application/JSON; charset=utf-8", "application/json;x=\"a;b\"", "image/png"]
        {
            assert_eq!(post(&[taken]), "pass", "{taken}");
        }
        for other in
            ["text/plain", "application/jsonp", "application/xml", "imagepng", "image", "", "text/x; application/json"]
        {
            assert_eq!(post(&[other]), refused("accept-post"), "{other}");
        }
        assert_eq!(post(&[]), refused("accept-post"));
        assert_eq!(post(&["application/json", "text/plain"]), refused("accept-post"));
        assert_eq!(check(&yaml, "PATCH /\nContent-Length: 3"), refused("accept-patch"));
        assert_eq!(check(&yaml, "PUT /\nContent-Length: 3"), refused("accept"));
        assert_eq!(check(&yaml, "POST /\nContent-Length: 0"), "pass", "there is no body");
        assert_eq!(check(&yaml, "GET /\nContent-Type: text/plain"), "pass", "there is no body");
    }

    #[test]
    fn what_is_no_media_type_is_a_mistake() {
        for wrong in
            ["json", "'*/*'", "application/", "/json", "application/json; charset=utf-8", "'application/*+json/x'"]
        {
            let said = problems(&yaml(&format!("{{ content_types: [{wrong}] }}")));
            assert!(said.contains("is no media type"), "{wrong}: {said}");
        }
        assert!(problems(&yaml("{}")).contains("`requests` says nothing"));
    }
}
