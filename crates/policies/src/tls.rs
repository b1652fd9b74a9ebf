//! `require_tls`: what is asked in the clear is not answered.

use std::sync::Arc;

use http::{Method, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_config::policy::{Place, Reading};
use tidegate_config::problem::Path;
use tidegate_core::client::Scheme;
use tidegate_core::exchange::{Exchange, Reply};
use tidegate_core::policy::{Decision, Gate, Phase, Stop, World};
use tidegate_core::rejection::{Rejection, RejectionKind};
use tidegate_core::rewrite::https_location;
use tidegate_http1::Known;

use crate::policy::{Policy, Setup};

/// The policy.
pub(crate) struct RequireTls;

/// Requests must come over TLS: to the gateway, or to a trusted proxy that says so. `on` refuses others.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequireTlsFile {
    /// What becomes of others.
    plain: Option<Plain>,
}

/// What becomes of requests that came in the clear.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Plain {
    /// They are refused.
    Refuse,
    /// `GET` and `HEAD` are sent to the same address with `https`, on its own port; what has been sent in the clear already is refused.
    Redirect,
}

impl Policy for RequireTls {
    const KEY: &'static str = "require_tls";
    const PLACE: Place = Place::Route;
    const BUILT_IN: &'static str = "plain: refuse\n";
    const SHORT: Option<&'static str> = Some("plain");
    const EXAMPLE: &'static str = "\
services: { orders: { url: http://127.0.0.1:9001 } }
routes:
  - match: { path_prefix: /orders }
    service: orders
    require_tls: on
";
    type File = RequireTlsFile;
    type Meaning = Plain;

    fn mean(file: RequireTlsFile, _: &mut Reading<'_, '_>) -> Option<Plain> {
        file.plain.or(Some(Plain::Refuse))
    }

    fn build(meaning: Option<&Plain>, at: &Path, setup: &mut Setup<'_>) {
        if let Some(plain) = meaning {
            setup.gate((Phase::Edge, Self::KEY), &"".into(), at, Arc::new(*plain));
        }
    }
}

impl Gate for Plain {
    fn check<'a>(&'a self, exchange: &'a mut Exchange, _: &'a dyn World) -> Decision<'a> {
        let is_question = matches!(exchange.head.method, Method::GET | Method::HEAD) && !exchange.host.is_empty();
        match self {
            _ if exchange.scheme == Scheme::Https => Decision::PASS,
            Self::Redirect if is_question => redirect(exchange),
            Self::Refuse | Self::Redirect => {
                Decision::refuse(Rejection::new(RejectionKind::Forbidden, "tls_required", "Use https"))
            }
        }
    }

    fn describe(&self, _: &Exchange) -> String {
        match self {
            Self::Refuse => "only over TLS".to_owned(),
            Self::Redirect => "only over TLS; `GET` and `HEAD` are sent there".to_owned(),
        }
    }
}

fn redirect(exchange: &Exchange) -> Decision<'static> {
    let mut reply = Reply::new(StatusCode::PERMANENT_REDIRECT);
    let to = https_location(&exchange.host, &exchange.head.target);
    match reply.head.fields.append(Known::Location, to.as_bytes()) {
        Ok(()) => Decision::Ready(Err(Stop::Answer(Box::new(reply)))),
        Err(_) => Decision::refuse(Rejection::internal("the target cannot stand in `Location`".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Gateway;

    fn gateway(require_tls: &str) -> Gateway {
        Gateway::of(&format!(
            "server: {{ trusted_proxies: [192.0.2.1] }}\n\
             services: {{ a: {{ url: http://127.0.0.1:9001 }} }}\n\
             routes: [{{ match: {{ path_prefix: / }}, service: a, require_tls: {require_tls} }}]"
        ))
    }

    const REFUSED: &str = "403 tls_required: Use https";

    #[test]
    fn what_is_asked_in_the_clear_is_refused() {
        for written in ["on", "true", "{}", "refuse"] {
            let gateway = gateway(written);
            assert_eq!(gateway.send("GET /a").said, REFUSED, "{written}");
            assert_eq!(gateway.send("GET /a\nX-Forwarded-Proto: https").said, "pass", "{written}");
        }
    }

    #[test]
    fn only_a_trusted_proxy_may_say_that_there_was_tls() {
        let mut gateway = gateway("on");
        gateway.client = "203.0.113.9:50000".parse().unwrap();
        assert_eq!(gateway.send("GET /a\nX-Forwarded-Proto: https").said, REFUSED);
        gateway.tls =
            Some(Arc::new(tidegate_core::client::TlsFacts { server_name: None, protocol: "TLSv1.3", client: None }));
        assert_eq!(gateway.send("GET /a").said, "pass");
    }

    #[test]
    fn questions_are_sent_to_https_and_what_was_told_in_the_clear_is_refused() {
        let gateway = gateway("redirect");
        let to = "answer 308\nlocation: https://api.example.com/a?b=c";
        assert_eq!(gateway.send("GET /a?b=c\nHost: API.example.com:8080").said, to);
        assert_eq!(gateway.send("HEAD /a?b=c").said, to);
        for method in ["POST", "DELETE", "OPTIONS"] {
            assert_eq!(gateway.send(&format!("{method} /a")).said, REFUSED, "{method}");
        }
    }
}
