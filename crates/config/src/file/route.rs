//! `routes` and what they are made of, as written.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};

use super::{Entries, FaultFile, ListOr, MirrorFile, RetryFile, SplitFile, SplitPartFile, TextOr};
use crate::value::{
    Cidr, Duration, FieldName, FieldText, HostPattern, Invalid, Name, PathPattern, Pattern, Size, Template, text_value,
};

/// One rule: what it matches, and where that goes. Exactly one of `service`, `split`, `redirect` and `respond` says where.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouteFile {
    /// The name for logs and metrics. By default `route-1`, `route-2` and so on.
    pub name: Option<Name>,
    /// Goes before everything else: a higher one wins over a better match.
    pub priority: Option<i32>,
    /// Which requests. Every condition must hold; none matches everything.
    #[serde(rename = "match")]
    pub matches: Option<MatchFile>,
    /// Bundles whose policies the route takes over, later ones win.
    #[serde(rename = "use", default)]
    #[expect(dead_code, reason = "merging has taken them over by now")]
    pub bundles: Vec<Name>,
    /// The service that answers.
    pub service: Option<Name>,
    /// Several services that answer, by weight. The mapping is for a split that keeps clients with their part.
    pub split: Option<ListOr<SplitPartFile, SplitFile>>,
    /// The client is sent elsewhere.
    pub redirect: Option<RedirectFile>,
    /// The gateway answers itself.
    pub respond: Option<RespondFile>,
    /// How long the service may take up to the head of its answer. After it the idle timeouts rule, so streams live. `off` is no limit.
    pub timeout: Option<Duration>,
    /// What a request may ask for here, instead of `server.limits`.
    pub limits: Option<RouteLimitsFile>,
    /// Protocols that a connection may be upgraded to; `off` for none.
    #[serde(default)]
    pub upgrade: Vec<FieldText>,
    /// What the service sees instead of what the client sent.
    pub rewrite: Option<RewriteFile>,
    /// Instead of the service's `retry`; `off` tries once. The budget stays the service's.
    pub retry: Option<RetryFile>,
    /// Sends a copy of requests to another service: its name, or a mapping.
    #[schemars(with = "Option<TextOr<MirrorFile, Name>>")]
    pub mirror: Option<MirrorFile>,
    /// Trouble on purpose, to see how clients take it.
    pub fault: Option<FaultFile>,
    /// Policies that only watch: what they would refuse is logged and counted, and goes on.
    #[serde(default)]
    pub shadow: Vec<Name>,
}

/// What routes can share: `defaults.route` and bundles are made of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read to find mistakes; routes get the values by merging")]
pub(crate) struct PoliciesFile {
    /// How long the service may take up to the head of its answer. After it the idle timeouts rule, so streams live. `off` is no limit.
    pub timeout: Option<Duration>,
    /// What a request may ask for, instead of `server.limits`.
    pub limits: Option<RouteLimitsFile>,
    /// Protocols that a connection may be upgraded to; `off` for none.
    #[serde(default)]
    pub upgrade: Vec<FieldText>,
    /// What the service sees instead of what the client sent.
    pub rewrite: Option<RewriteFile>,
    /// Instead of the service's `retry`; `off` tries once. The budget stays the service's.
    pub retry: Option<RetryFile>,
    /// Sends a copy of requests to another service: its name, or a mapping.
    #[schemars(with = "Option<TextOr<MirrorFile, Name>>")]
    pub mirror: Option<MirrorFile>,
    /// Trouble on purpose, to see how clients take it.
    pub fault: Option<FaultFile>,
    /// Policies that only watch: what they would refuse is logged and counted, and goes on.
    #[serde(default)]
    pub shadow: Vec<Name>,
}

/// Which requests a route is for. Every condition must hold.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MatchFile {
    /// The host, without a port: a name, `*.example.com` for every name below, or `*`. Any of a list.
    #[serde(default)]
    pub host: Vec<HostPattern>,
    /// The whole path. `{id}` is one segment, `{id:[0-9]+}` one that is checked, `{rest...}` all that is left; `/a/*` is what lies below
    /// `/a`. `/a` and `/a/` differ. `{id}` can be used as `{path.id}` in templates.
    pub path: Option<ExactPath>,
    /// The beginning of the path, by segments: `/a` is `/a` and all below, never `/ab`. What follows can be used as `{path.rest}`.
    pub path_prefix: Option<PrefixPath>,
    /// Any of these methods. `GET` includes `HEAD`.
    #[serde(default)]
    pub methods: Vec<MethodName>,
    /// Headers: a value, `present`, `absent` or `{ regex: ... }`.
    pub headers: Option<Entries<FieldName, TextOr<ValueFile>>>,
    /// Query parameters: a value, `present`, `absent` or `{ regex: ... }`.
    pub query: Option<Entries<String, TextOr<ValueFile>>>,
    /// Cookies: a value, `present`, `absent` or `{ regex: ... }`.
    pub cookies: Option<Entries<String, TextOr<ValueFile>>>,
    /// The client's address. Any of a list.
    #[serde(default)]
    pub client_ip: Vec<Cidr>,
    /// The name of the listener. Any of a list.
    #[serde(default)]
    pub listener: Vec<Name>,
    /// The certificate that the client showed.
    pub client_cert: Option<ClientCertFile>,
}

/// What a client's certificate says.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientCertFile {
    /// The common name of its subject. Any of a list.
    #[serde(default)]
    pub subject: Vec<String>,
    /// One of its alternative names: DNS name, URI or email. Any of a list.
    #[serde(default)]
    pub san: Vec<String>,
}

/// The long form of a condition on a value. Exactly one key.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ValueFile {
    /// The whole value, also where it is `present` or `absent` literally.
    pub exact: Option<String>,
    /// A regular expression, which may match anywhere in the value unless it has `^` and `$`.
    pub regex: Option<Pattern>,
}

/// Sends the client elsewhere.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RedirectFile {
    /// A URL or a path, as a template.
    pub to: Option<Template>,
    /// 301, 302, 303, 307 or 308.
    pub status: Option<u16>,
}

/// Answers without a service.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RespondFile {
    /// The status, 200 to 599.
    pub status: Option<u16>,
    /// A text, or a mapping or list that becomes JSON.
    pub body: Option<BodyFile>,
    /// Header fields of the answer.
    pub headers: Option<Entries<FieldName, FieldText>>,
}

/// What a request may ask for here, instead of `server.limits`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouteLimitsFile {
    /// The size of a request's body. `off` is no limit.
    pub body: Option<Size>,
}

/// What the service sees instead of what the client sent.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RewriteFile {
    /// Taken off the front of the path, by segments. Not together with `path`.
    pub strip_prefix: Option<PrefixPath>,
    /// The whole path, as a template. The query stays.
    pub path: Option<Template>,
    /// The host that the service sees, as a template. Without it the client's is kept.
    pub host: Option<Template>,
    /// Changes to the query.
    pub query: Option<QueryFile>,
}

/// Changes to the query.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueryFile {
    /// Parameters to set, in place of those of the same name; templates.
    pub set: Option<Entries<String, Template>>,
    /// Parameters to take out.
    #[serde(default)]
    pub remove: Vec<String>,
}

/// A `path`.
#[derive(Debug, Clone)]
pub(crate) struct ExactPath(pub PathPattern);

/// A `path_prefix`.
#[derive(Debug, Clone)]
pub(crate) struct PrefixPath(pub PathPattern);

/// A method in capitals.
#[derive(Debug, Clone)]
pub struct MethodName(pub http::Method);

impl FromStr for ExactPath {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        PathPattern::exact(text).map(Self)
    }
}

impl FromStr for PrefixPath {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        PathPattern::prefix(text).map(Self)
    }
}

impl FromStr for MethodName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let upper = text.to_ascii_uppercase();
        if upper != text {
            return Err(Invalid::new(format!("methods are written in capitals, `{text}` is not"))
                .help(format!("write `{upper}`")));
        }
        if text == "*" {
            return Err(Invalid::new("`*` is no method").help("leave `methods` out for all of them"));
        }
        http::Method::from_bytes(text.as_bytes())
            .map(Self)
            .map_err(|_| Invalid::new(format!("`{text}` cannot be a method")))
    }
}

text_value!(ExactPath, "a path such as `/users/{id}`", {
    "title": "path",
    "type": "string",
    "pattern": "^/|\\$\\{",
    "examples": ["/users/{id}", "/users/{id:[0-9]+}", "/files/{rest...}", "/static/*"]
});
text_value!(PrefixPath, "a path such as `/api`", {
    "title": "path",
    "type": "string",
    "pattern": "^/|\\$\\{",
    "examples": ["/", "/api"]
});
text_value!(MethodName, "a method such as `GET`", {
    "title": "method",
    "type": "string",
    "pattern": "^[A-Z-]+$|\\$\\{",
    "examples": ["GET", "POST", "PUT", "PATCH", "DELETE"]
});

/// The body of an answer.
#[derive(Debug, Clone)]
pub(crate) enum BodyFile {
    Text(String),
    Json(serde_json::Value),
}

impl<'de> Deserialize<'de> for BodyFile {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> serde::de::Visitor<'de> for Reader {
            type Value = BodyFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or a mapping or list that becomes JSON")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<BodyFile, E> {
                Ok(BodyFile::Text(text.to_owned()))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<BodyFile, A::Error> {
                Deserialize::deserialize(MapAccessDeserializer::new(map)).map(BodyFile::Json)
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, list: A) -> Result<BodyFile, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(list)).map(BodyFile::Json)
            }
        }

        deserializer.deserialize_str(Reader)
    }
}

impl JsonSchema for BodyFile {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Body".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean", "object", "array"] })
    }
}
