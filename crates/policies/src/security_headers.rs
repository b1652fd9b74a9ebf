//! `security_headers`: what browsers are told about replies so that less can be done with them. They stand on every reply, refusals
//! too.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_config::policy::{Place, Reading};
use tidegate_config::problem::{Path, Problem};
use tidegate_config::value::{Duration, FieldText};
use tidegate_core::client::Scheme;
use tidegate_core::exchange::Exchange;
use tidegate_core::policy::{Decision, Gate, Phase, World};
use tidegate_http1::ResponseHead;

use crate::policy::{Policy, Setup};

/// The policy.
pub(crate) struct SecurityHeaders;

/// Headers that tell browsers to be careful, on every reply. `on` is `nosniff`, `frame_options`, `referrer_policy` and `hsts`; each may be
/// set, or dropped with `off`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecurityHeadersFile {
    /// `X-Content-Type-Options: nosniff`: the type that a reply has is the one that it says.
    #[serde(default)]
    nosniff: bool,
    /// `X-Frame-Options`: whether other pages may show this one in a frame.
    frame_options: Option<FrameOptions>,
    /// `Referrer-Policy`: how much of their address pages tell others.
    referrer_policy: Option<ReferrerPolicy>,
    /// `Strict-Transport-Security`, where the client uses https: browsers do not come without TLS any more.
    hsts: Option<HstsFile>,
    /// `Content-Security-Policy`, as given: what a page may load and run.
    csp: Option<FieldText>,
    /// `Content-Security-Policy-Report-Only`, as given: the same, only to see what it would do.
    csp_report_only: Option<FieldText>,
    /// `Permissions-Policy`, as given: camera, microphone, location and more.
    permissions_policy: Option<FieldText>,
    /// `Cross-Origin-Opener-Policy`: who shares a window's context with pages that it opens.
    cross_origin_opener_policy: Option<OpenerPolicy>,
    /// `Cross-Origin-Embedder-Policy`: a page loads only what agreed to it.
    cross_origin_embedder_policy: Option<EmbedderPolicy>,
    /// `Cross-Origin-Resource-Policy`: which pages may load this reply.
    cross_origin_resource_policy: Option<ResourcePolicy>,
    /// `X-XSS-Protection`, as given. It is obsolete, and no browser of today heeds it.
    xss_protection: Option<FieldText>,
    /// The service's own headers of these names are replaced. `off` lets them stand.
    #[serde(rename = "override", default)]
    replaces: bool,
}

/// Browsers do not come without TLS any more.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HstsFile {
    /// How long they remember it.
    max_age: Option<Duration>,
    /// All names below the host's are meant too.
    #[serde(default)]
    include_subdomains: bool,
    /// The host may be built into browsers. That takes months to undo; it needs `include_subdomains` and a year.
    #[serde(default)]
    preload: bool,
}

/// Words that may stand in a header, as they stand there.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
        enum $name {
            $(#[serde(rename = $word)] $variant,)*
        }

        impl $name {
            fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }
    };
}

words!(FrameOptions {
    Deny = "DENY",
    SameOrigin = "SAMEORIGIN",
});
words!(ReferrerPolicy {
    NoReferrer = "no-referrer",
    NoReferrerWhenDowngrade = "no-referrer-when-downgrade",
    Origin = "origin",
    OriginWhenCrossOrigin = "origin-when-cross-origin",
    SameOrigin = "same-origin",
    StrictOrigin = "strict-origin",
    StrictOriginWhenCrossOrigin = "strict-origin-when-cross-origin",
    UnsafeUrl = "unsafe-url",
});
words!(OpenerPolicy {
    SameOrigin = "same-origin",
    SameOriginAllowPopups = "same-origin-allow-popups",
    NoopenerAllowPopups = "noopener-allow-popups",
    UnsafeNone = "unsafe-none",
});
words!(EmbedderPolicy {
    RequireCorp = "require-corp",
    Credentialless = "credentialless",
    UnsafeNone = "unsafe-none",
});
words!(ResourcePolicy {
    SameOrigin = "same-origin",
    SameSite = "same-site",
    CrossOrigin = "cross-origin",
});

/// What replies are given.
#[derive(Debug, Clone)]
pub(crate) struct Headers {
    fields: Vec<(&'static str, String)>,
    /// The value of `Strict-Transport-Security`.
    hsts: Option<String>,
    replaces: bool,
}

/// A year, in seconds: what browsers ask of hosts that are built into them.
const YEAR: u64 = 365 * 24 * 60 * 60;

impl Policy for SecurityHeaders {
    const KEY: &'static str = "security_headers";
    const PLACE: Place = Place::Route;
    const BUILT_IN: &'static str = "\
nosniff: on
frame_options: DENY
referrer_policy: strict-origin-when-cross-origin
hsts: { max_age: 365d, include_subdomains: off, preload: off }
override: on
";
    const EXAMPLE: &'static str = "\
services: { shop: { url: http://127.0.0.1:9001 } }
routes:
  - match: { path_prefix: / }
    service: shop
    security_headers: { frame_options: SAMEORIGIN, csp: \"default-src 'self'\" }
";
    type File = SecurityHeadersFile;
    type Meaning = Arc<Headers>;

    fn mean(file: SecurityHeadersFile, reading: &mut Reading<'_, '_>) -> Option<Arc<Headers>> {
        let hsts = file.hsts.as_ref().map(|written| hsts(written, reading));
        let text = |text: &Option<FieldText>| text.as_ref().map(|text| text.0.to_string());
        let fields = [
            ("x-content-type-options", file.nosniff.then(|| "nosniff".to_owned())),
            ("x-frame-options", file.frame_options.map(|word| word.as_str().to_owned())),
            ("referrer-policy", file.referrer_policy.map(|word| word.as_str().to_owned())),
            ("content-security-policy", text(&file.csp)),
            ("content-security-policy-report-only", text(&file.csp_report_only)),
            ("permissions-policy", text(&file.permissions_policy)),
            ("cross-origin-opener-policy", file.cross_origin_opener_policy.map(|word| word.as_str().to_owned())),
            ("cross-origin-embedder-policy", file.cross_origin_embedder_policy.map(|word| word.as_str().to_owned())),
            ("cross-origin-resource-policy", file.cross_origin_resource_policy.map(|word| word.as_str().to_owned())),
            ("x-xss-protection", text(&file.xss_protection)),
        ];
        let fields = fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        Some(Arc::new(Headers { fields, hsts, replaces: file.replaces }))
    }

    fn build(meaning: Option<&Arc<Headers>>, at: &Path, setup: &mut Setup<'_>) {
        if let Some(headers) = meaning.cloned().or_else(|| common(setup)) {
            setup.gate((Phase::Edge, Self::KEY), &"".into(), at, headers);
        }
    }
}

/// The value of `Strict-Transport-Security`.
fn hsts(written: &HstsFile, reading: &mut Reading<'_, '_>) -> String {
    let path = reading.path().join("hsts");
    if written.max_age.is_none() {
        reading.missing(&path, "max_age", "say how long browsers shall remember it, or write `hsts: off`");
    }
    let seconds = written.max_age.map_or(YEAR, |age| age.0.as_secs());
    // Who asks for it and does not meet the terms is not taken in, and may learn it months later.
    if written.preload && !(written.include_subdomains && seconds >= YEAR) {
        let at = path.join("preload");
        let problem = Problem::error(at, "browsers take in nobody with less than a year and without the names below");
        reading.report(problem.help("write `hsts: { max_age: 365d, include_subdomains: on, preload: on }`"));
    }
    let below = if written.include_subdomains { "; includeSubDomains" } else { "" };
    let preload = if written.preload { "; preload" } else { "" };
    format!("max-age={seconds}{below}{preload}")
}

/// What all routes agree on that say something, for replies that no route makes. TLS for ever only where every route says so: a host
/// without it would be bound too.
fn common(setup: &Setup<'_>) -> Option<Arc<Headers>> {
    let said: Vec<_> = setup.said_by_routes::<SecurityHeaders>()?.collect();
    let (first, others) = said.split_first()?;
    let mut common = Headers::clone(first);
    common.fields.retain(|field| others.iter().all(|other| other.fields.contains(field)));
    let is_everywhere = said.len() == setup.config.routes.len() && others.iter().all(|other| other.hsts == common.hsts);
    common.hsts = common.hsts.filter(|_| is_everywhere);
    Some(Arc::new(common))
}

impl Gate for Headers {
    fn check<'a>(&'a self, _: &'a mut Exchange, _: &'a dyn World) -> Decision<'a> {
        Decision::PASS
    }

    fn describe(&self, _: &Exchange) -> String {
        "adds to the reply".to_owned()
    }

    fn reply(&self, exchange: &Exchange, reply: &mut ResponseHead) {
        // RFC 6797, 7.2: not where there is no TLS.
        let hsts = self.hsts.iter().filter(|_| exchange.scheme == Scheme::Https);
        let hsts = hsts.map(|value| ("strict-transport-security", value));
        for (name, value) in self.fields.iter().map(|(name, value)| (*name, value)).chain(hsts) {
            if self.replaces || !reply.fields.contains(name) {
                // Cannot fail: the names are constants, the values were checked by the configuration.
                reply.fields.set(name, value.as_bytes()).ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use tidegate_http1::ResponseHead;

    use crate::testing::{Gateway, check, problems};

    fn yaml(headers: &str) -> String {
        format!(
            "server: {{ trusted_proxies: [192.0.2.1] }}\n\
             services: {{ a: {{ url: http://127.0.0.1:9001 }} }}\n\
             routes: [{{ match: {{ path_prefix: /a }}, service: a, security_headers: {headers}, bots: {{ deny: [bot] }} }}]"
        )
    }

    const DEFAULT: &str =
        "x-content-type-options: nosniff\nx-frame-options: DENY\nreferrer-policy: strict-origin-when-cross-origin";
    const HSTS: &str = "strict-transport-security: max-age=31536000";

    #[test]
    fn every_reply_has_them() {
        for written in ["on", "{}"] {
            let gateway = Gateway::of(&yaml(written));
            assert_eq!(gateway.send("GET /a").said, format!("pass\n{DEFAULT}"));
        }
    }

    #[test]
    fn refusals_have_them_too() {
        let refused = "403 bot_refused: This client is not allowed here";
        assert_eq!(check(&yaml("on"), "GET /a\nUser-Agent: bot"), format!("{refused}\n{DEFAULT}"));
    }

    #[test]
    fn replies_of_the_router_have_what_all_routes_agree_on() {
        assert_eq!(check(&yaml("on"), "GET /b\nX-Forwarded-Proto: https"), format!("pass\n{DEFAULT}\n{HSTS}"));
        let several = |second: &str| {
            format!(
                "server: {{ trusted_proxies: [192.0.2.1] }}\n\
                 services: {{ a: {{ url: http://127.0.0.1:9001 }} }}\n\
                 routes:\n\
                 - {{ match: {{ path_prefix: /a }}, service: a, security_headers: on }}\n\
                 - {{ match: {{ path_prefix: /b }}, service: a{second} }}"
            )
        };
        let lost = "GET /c\nX-Forwarded-Proto: https";
        assert_eq!(check(&several(", security_headers: on"), lost), format!("pass\n{DEFAULT}\n{HSTS}"));
        assert_eq!(check(&several(""), lost), format!("pass\n{DEFAULT}"), "one route knows nothing of TLS");
        assert_eq!(
            check(&several(", security_headers: { frame_options: SAMEORIGIN, csp: x }"), lost),
            format!("pass\n{}\n{HSTS}", DEFAULT.replace("x-frame-options: DENY\n", ""))
        );
    }

    #[test]
    fn a_client_without_tls_is_not_told_to_keep_to_it() {
        let gateway = Gateway::of(&yaml("{ hsts: { max_age: 730d, include_subdomains: on, preload: on } }"));
        assert!(!gateway.send("GET /a").said.contains("strict-transport-security"));
        let hsts = "strict-transport-security: max-age=63072000; includeSubDomains; preload";
        assert!(gateway.send("GET /a\nX-Forwarded-Proto: https").said.ends_with(hsts));
    }

    #[test]
    fn each_may_be_set_and_dropped() {
        let off = "{ nosniff: off, frame_options: off, referrer_policy: off, hsts: off }";
        assert_eq!(check(&yaml(off), "GET /a\nX-Forwarded-Proto: https"), "pass");
        let all = "{ nosniff: off, frame_options: SAMEORIGIN, referrer_policy: no-referrer, csp: \"default-src 'self'\", \
                   csp_report_only: \"img-src 'none'\", permissions_policy: camera=(), \
                   cross_origin_opener_policy: same-origin, cross_origin_embedder_policy: require-corp, \
                   cross_origin_resource_policy: same-site, xss_protection: 1; mode=block }";
        assert_eq!(
            check(&yaml(all), "GET /a"),
            "pass\nx-frame-options: SAMEORIGIN\nreferrer-policy: no-referrer\ncontent-security-policy: default-src 'self'\n\
             content-security-policy-report-only: img-src 'none'\npermissions-policy: camera=()\n\
             cross-origin-opener-policy: same-origin\ncross-origin-embedder-policy: require-corp\n\
             cross-origin-resource-policy: same-site\nx-xss-protection: 1; mode=block"
        );
    }

    #[test]
    fn the_services_own_are_replaced_unless_they_shall_stand() {
        for (written, frames) in [("on", "DENY"), ("{ override: off }", "SAMEORIGIN")] {
            let gateway = Gateway::of(&yaml(written));
            let sent = gateway.send("GET /a");
            let mut reply = ResponseHead { status: StatusCode::OK, ..ResponseHead::default() };
            reply.fields.append("X-Frame-Options", b"SAMEORIGIN").unwrap();
            gateway.policies.routes[0].reply(&sent.exchange, &mut reply);
            let values: Vec<_> = reply.fields.values("x-frame-options").collect();
            assert_eq!(values, [frames.as_bytes()], "{written}");
            assert_eq!(reply.fields.value("x-content-type-options"), Some(&b"nosniff"[..]), "{written}");
        }
    }

    #[test]
    fn what_browsers_would_not_heed_is_a_mistake() {
        let wrong = [
            ("{ frame_options: ALLOWALL }", "`ALLOWALL` is none of `DENY` and `SAMEORIGIN`"),
            ("{ referrer_policy: no-referer }", "did you mean `no-referrer`?"),
            ("{ hsts: { preload: on } }", "browsers take in nobody"),
            ("{ hsts: { preload: on, include_subdomains: on, max_age: 30d } }", "browsers take in nobody"),
            ("{ csp: \"a\\nb\" }", "line breaks"),
        ];
        for (written, said) in wrong {
            let problems = problems(&yaml(written));
            assert!(problems.contains(said), "{written}: {problems}");
        }
    }
}
