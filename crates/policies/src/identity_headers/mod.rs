//! `identity_headers`: services are told who calls, in fields that only the gateway can have set. A caller of whom something is not known has no
//! field for it.

mod token;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_config::policy::{AnyText, Entries, Place, Reading};
use tidegate_config::problem::{Path, Problem};
use tidegate_config::value::FieldName;
use tidegate_core::exchange::Exchange;
use tidegate_core::identity::Identity;
use tidegate_core::policy::{Decision, Gate, Phase, World};
use tidegate_core::rejection::Rejection;
use tidegate_http1::Known;

pub use self::token::identity_jwks;
use self::token::{TokenFile, TokenMeaning, Tokens};
use crate::policy::{Policy, Setup};

/// The policy.
pub(crate) struct IdentityHeaders;

/// The fields by which services are told who calls. Clients' own fields of these names are taken out of every request, on every route.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdentityHeadersFile {
    /// The field for `{"userId", "permissions", "tenant"}`, as JSON in ASCII.
    context: Option<FieldName>,
    /// The field for the user.
    user: Option<FieldName>,
    /// The field for the roles, separated by commas.
    roles: Option<FieldName>,
    /// The field for the permissions, separated by commas.
    permissions: Option<FieldName>,
    /// The field for the scopes, separated by commas.
    scopes: Option<FieldName>,
    /// The field for the tenant.
    tenant: Option<FieldName>,
    /// Fields for claims, each with the claim's name, as in `x-email: email`. Names with dots lead into objects.
    claims: Option<Entries<FieldName, AnyText>>,
    /// A short-lived token that the gateway signs, so that services need not trust the network.
    jwt: Option<TokenFile>,
}

/// Which fields a route's service gets.
pub(crate) struct Meaning {
    fields: Vec<(Arc<str>, Source)>,
    token: Option<TokenMeaning>,
}

/// What a field says.
#[derive(Debug, Clone)]
enum Source {
    Context,
    User,
    Roles,
    Permissions,
    Scopes,
    Tenant,
    Claim(Arc<str>),
}

impl Policy for IdentityHeaders {
    const KEY: &'static str = "identity_headers";
    const PLACE: Place = Place::Route;
    const EXAMPLE: &'static str = "\
auth:
  keys: { api_key: { inline: [{ key: a-key-of-the-build-machine, user: ci, roles: [deploy] }] } }
services: { orders: { url: http://127.0.0.1:9001 } }
routes:
  - match: { path_prefix: /orders }
    service: orders
    auth: keys
    identity_headers: { context: x-user-context, roles: x-roles, jwt: { audience: orders } }
";
    type File = IdentityHeadersFile;
    type Meaning = Meaning;

    fn mean(file: IdentityHeadersFile, reading: &mut Reading<'_, '_>) -> Option<Meaning> {
        let path = reading.path();
        let mut wanted: Vec<(Arc<str>, Source, Path)> = Vec::new();
        for (key, name, source) in [
            ("context", file.context, Source::Context),
            ("user", file.user, Source::User),
            ("roles", file.roles, Source::Roles),
            ("permissions", file.permissions, Source::Permissions),
            ("scopes", file.scopes, Source::Scopes),
            ("tenant", file.tenant, Source::Tenant),
        ] {
            wanted.extend(name.map(|FieldName(name)| (name, source, path.join(key))));
        }
        let at = path.join("claims");
        for (FieldName(name), AnyText(claim)) in file.claims.map_or_else(Vec::new, |claims| claims.0) {
            let at = at.join(&name);
            wanted.push((name, Source::Claim(claim.into()), at));
        }
        let at = path.join("jwt");
        let token = file.jwt.and_then(|jwt| jwt.mean(&at, reading));
        let named = wanted.iter().map(|(name, _, at)| (name, at));
        check_names(named.chain(token.as_ref().map(|token| (&token.header, &at))), reading);
        if wanted.is_empty() && token.is_none() && !reading.is_excused(&path) {
            let problem = Problem::error(path, "`identity_headers` names no field");
            reading.report(problem.help("write for instance `{ context: x-user-context }`"));
        }
        Some(Meaning { fields: wanted.into_iter().map(|(name, source, _)| (name, source)).collect(), token })
    }

    fn build(meaning: Option<&Meaning>, at: &Path, setup: &mut Setup<'_>) {
        let Some(Meaning { fields, token }) = meaning else { return };
        let names = fields.iter().map(|(name, _)| name).chain(token.as_ref().map(|token| &token.header));
        setup.guarded.extend(names.map(ToString::to_string));
        let token = token.as_ref().and_then(|token| token.build(at, setup));
        let gate = Tell { fields: fields.clone(), token };
        setup.gate((Phase::Transform, Self::KEY), &"".into(), at, Arc::new(gate));
    }
}

/// No name twice, and none that means something else to HTTP or to the gateway.
fn check_names<'n>(names: impl Iterator<Item = (&'n Arc<str>, &'n Path)>, reading: &mut Reading<'_, '_>) {
    let mut seen: Vec<&Arc<str>> = Vec::new();
    for (name, at) in names {
        if Known::from_bytes(name.as_bytes()).is_some() {
            let problem = Problem::error(at.clone(), format!("`{name}` already means something else"));
            reading.report(
                problem.help("take a name of your own, such as `x-user`: clients' fields of this name are taken away"),
            );
        }
        if seen.contains(&name) {
            reading.error(at, format!("`{name}` is set twice"));
        }
        seen.push(name);
    }
}

/// The gate of a route.
struct Tell {
    fields: Vec<(Arc<str>, Source)>,
    token: Option<Tokens>,
}

/// A field and its value.
type Told = (Arc<str>, Vec<u8>);

impl Gate for Tell {
    fn check<'a>(&'a self, exchange: &'a mut Exchange, world: &'a dyn World) -> Decision<'a> {
        let Some(identity) = exchange.identity.clone() else { return Decision::PASS };
        match self.told(&identity, world) {
            Ok(told) => {
                exchange.told.extend(told);
                Decision::PASS
            }
            Err(cause) => {
                Decision::refuse(Rejection::internal(format!("the service cannot be told who calls: {cause}")))
            }
        }
    }

    fn describe(&self, _: &Exchange) -> String {
        let names = self.fields.iter().map(|(name, _)| name).chain(self.token.as_ref().map(|token| &token.header));
        let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
        format!("tells the service who calls, in {}", names.join(", "))
    }
}

impl Tell {
    /// The fields for this caller, or why there are none.
    fn told(&self, identity: &Arc<Identity>, world: &dyn World) -> Result<Vec<Told>, String> {
        let mut told = Vec::with_capacity(self.fields.len() + 1);
        for (name, source) in &self.fields {
            let Some(value) = source.value(identity).map_err(|cause| format!("`{name}` {cause}"))? else { continue };
            // What a field would not carry as it is must not become something else on its way.
            if value.trim() != value || value.chars().any(char::is_control) {
                return Err(format!("what `{name}` shall say cannot stand in a field"));
            }
            told.push((Arc::clone(name), value.into_bytes()));
        }
        if let Some(token) = &self.token {
            told.push((Arc::clone(&token.header), token.of(identity, world)?.as_bytes().to_vec()));
        }
        Ok(told)
    }
}

impl Source {
    /// What the field says of this caller; `None` if there is nothing to say.
    fn value(&self, identity: &Identity) -> Result<Option<String>, &'static str> {
        let text = |text: &Option<Arc<str>>| Ok(text.as_deref().map(str::to_owned));
        match self {
            Self::Context => Ok(Some(context(identity))),
            Self::User => text(&identity.user),
            Self::Tenant => text(&identity.tenant),
            Self::Roles => list(identity.roles.iter().map(|role| &**role)),
            Self::Permissions => list(identity.permissions.iter().map(|permission| &**permission)),
            Self::Scopes => list(identity.scopes.iter().map(|scope| &**scope)),
            Self::Claim(name) => claim(&identity.claims, name).map_or(Ok(None), of_claim),
        }
    }
}

/// `{"userId", "permissions", "tenant"}`.
fn context(identity: &Identity) -> String {
    ascii(&json!({ "userId": identity.user, "permissions": identity.permissions, "tenant": identity.tenant }))
}

/// JSON in which every character is plain ASCII.
fn ascii(value: &Value) -> String {
    use std::fmt::Write as _;

    let mut out = String::new();
    for character in value.to_string().chars() {
        if matches!(character, ' '..='~') {
            out.push(character);
            continue;
        }
        // Such characters stand in strings alone, where they may be written so (RFC 8259, 7).
        for unit in character.encode_utf16(&mut [0; 2]) {
            // Writing to a String cannot fail.
            write!(out, "\\u{unit:04x}").ok();
        }
    }
    out
}

/// One that has a comma would be read as two.
fn list<'t>(items: impl Iterator<Item = &'t str>) -> Result<Option<String>, &'static str> {
    let mut joined = String::new();
    for item in items {
        if item.contains(',') || item.trim() != item {
            return Err(
                "would have one with a comma or with white space around it: services would read something else",
            );
        }
        let comma = if joined.is_empty() { "" } else { "," };
        joined.extend([comma, item]);
    }
    Ok(Some(joined).filter(|joined| !joined.is_empty()))
}

/// The claim of this name, or else the one to which its parts between dots lead.
fn claim<'c>(claims: &'c Value, name: &str) -> Option<&'c Value> {
    claims.get(name).or_else(|| {
        let (object, rest) = name.split_once('.')?;
        claim(claims.get(object)?, rest)
    })
}

/// A text as it is, a list of texts with commas, anything else as JSON.
fn of_claim(value: &Value) -> Result<Option<String>, &'static str> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Array(items) if items.iter().all(Value::is_string) => list(items.iter().filter_map(Value::as_str)),
        Value::Array(_) | Value::Object(_) | Value::Bool(_) | Value::Number(_) => Ok(Some(ascii(value))),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jsonwebtoken::jwk::JwkSet;
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
    use tidegate_config::Memory;
    use tidegate_http1::Field;

    use super::*;
    use crate::testing::{Gateway, WALL, problems};

    /// A protected route with these `identity_headers`, and a public one without any.
    fn yaml(headers: &str) -> String {
        format!(
            "auth: {{ keys: {{ api_key: {{ inline: [
  {{ key: the-long-key-of-a, user: \"\u{e9}ve \u{1f600}\", roles: [admin, editor], permissions: ['orders:read'], scopes: [read, write], tenant: t1 }},
  {{ key: the-long-key-of-b, user: b }},
  {{ key: the-long-key-of-c, user: \"c\\r\\nX-Role: root\", roles: ['x,root'] }}] }} }} }}
server: {{ host: 127.0.0.1 }}
services: {{ s: {{ url: http://127.0.0.1:9001 }} }}
routes:
  - {{ match: {{ path_prefix: / }}, service: s, auth: keys, identity_headers: {headers} }}
  - {{ match: {{ path_prefix: /open }}, service: s }}"
        )
    }

    /// What the service sees of the fields that only the gateway may send.
    fn seen(gateway: &Gateway, request: &str) -> Vec<String> {
        let guarded = |field: &Field<'_>| gateway.policies.guarded.has(field.name.as_bytes());
        let fields = gateway.forwarded(request);
        fields
            .iter()
            .filter(guarded)
            .map(|field| format!("{}: {}", field.name, String::from_utf8_lossy(field.value)))
            .collect()
    }

    #[test]
    fn services_are_told_who_calls_in_ascii() {
        let gateway = Gateway::of(&yaml("{ context: x-user-context }"));
        assert_eq!(
            seen(&gateway, "GET /\nX-API-Key: the-long-key-of-a"),
            [
                "x-user-context: {\"permissions\":[\"orders:read\"],\"tenant\":\"t1\",\"userId\":\"\\u00e9ve \\ud83d\\ude00\"}"
            ]
        );
        assert_eq!(
            seen(&gateway, "GET /\nX-API-Key: the-long-key-of-b"),
            ["x-user-context: {\"permissions\":[],\"tenant\":null,\"userId\":\"b\"}"]
        );
    }

    #[test]
    fn every_part_may_have_a_field_of_its_own_and_what_is_not_known_has_none() {
        let gateway = Gateway::of(&yaml(
            "{ user: x-user, roles: x-roles, permissions: x-may, scopes: x-scopes, tenant: x-tenant }",
        ));
        assert_eq!(
            seen(&gateway, "GET /\nX-API-Key: the-long-key-of-a"),
            [
                "x-user: \u{e9}ve \u{1f600}",
                "x-roles: admin,editor",
                "x-may: orders:read",
                "x-scopes: read,write",
                "x-tenant: t1"
            ]
        );
        assert_eq!(seen(&gateway, "GET /\nX-API-Key: the-long-key-of-b"), ["x-user: b"]);
    }

    #[test]
    fn a_clients_own_identity_fields_never_pass_on_any_route_in_any_spelling() {
        let gateway = Gateway::of(&yaml("{ user: x-user, tenant: x-tenant, claims: { x-mail: mail }, jwt: {} }"));
        let spoofed = "X-User: root\nx_user: root\nX.User: root\nX-TENANT: t9\nx_tenant: t9\nX-Mail: m\nX-Identity: e30.e30.x\nx.identity: e30.e30.x";
        assert_eq!(seen(&gateway, &format!("GET /open\n{spoofed}")), Vec::<String>::new());
        let request = format!("GET /\nX-API-Key: the-long-key-of-b\n{spoofed}");
        let fields = seen(&gateway, &request);
        assert_eq!(fields.len(), 2, "{fields:?}");
        assert_eq!(fields[0], "x-user: b");
        assert!(fields[1].starts_with("x-identity: ey"));
    }

    #[test]
    fn a_client_cannot_have_them_dropped_by_naming_them_in_connection() {
        let gateway = Gateway::of(&yaml("{ user: x-user, jwt: {} }"));
        let many: Vec<_> = (0..80).map(|number| format!("x-{number}")).collect();
        let request =
            format!("GET /\nX-API-Key: the-long-key-of-b\nConnection: X-User, x-identity, {}", many.join(", "));
        let fields = seen(&gateway, &request);
        assert!(fields[0] == "x-user: b" && fields[1].starts_with("x-identity: ey"), "{fields:?}");
    }

    #[test]
    fn what_cannot_stand_in_a_field_is_never_sent_and_the_log_says_why() {
        for (headers, cause) in [
            ("{ user: x-user }", "what `x-user` shall say cannot stand in a field"),
            ("{ roles: x-roles }", "`x-roles` would have one with a comma or with white space around it"),
        ] {
            let sent = Gateway::of(&yaml(headers)).send("GET /\nX-API-Key: the-long-key-of-c");
            assert_eq!(sent.said, "500 internal: Internal error");
            let told = sent.cause.unwrap();
            assert!(told.starts_with("the service cannot be told who calls: ") && told.contains(cause), "{told}");
        }
        let context = seen(&Gateway::of(&yaml("{ context: x-c }")), "GET /\nX-API-Key: the-long-key-of-c");
        assert!(context[0].contains("c\\r\\nX-Role: root"), "{context:?}");
    }

    #[test]
    fn claims_are_found_by_name_and_by_path_and_written_in_their_own_way() {
        let claims = json!({ "a.b": "exact", "a": { "b": "path", "c": { "d": 1 } }, "list": ["x", "y"], "mixed": ["x", 1], "no": null, "bad": ["x,y"] });
        for (name, told) in [
            ("a.b", Ok(Some("exact"))),
            ("a.c.d", Ok(Some("1"))),
            ("a.c", Ok(Some("{\"d\":1}"))),
            ("list", Ok(Some("x,y"))),
            ("mixed", Ok(Some("[\"x\",1]"))),
            ("no", Ok(None)),
            ("gone.x", Ok(None)),
            ("bad", Err(())),
        ] {
            let identity = Identity { claims: claims.clone(), ..Identity::default() };
            let value = Source::Claim(name.into()).value(&identity);
            assert_eq!(value.as_ref().map(Option::as_deref).map_err(|_| ()), told, "{name}");
        }
        assert_eq!(Source::Claim("a".into()).value(&Identity::default()), Ok(None));
    }

    /// The claims of the one token that a gateway sends, verified with the key set that it publishes.
    fn token(gateway: &Gateway, key: &str) -> (String, Value) {
        let fields = seen(gateway, &format!("GET /\nX-API-Key: {key}"));
        let token = fields[0].strip_prefix("x-identity: ").unwrap();
        let set: JwkSet = serde_json::from_str(&identity_jwks(gateway.shared())).unwrap();
        assert_eq!(set.keys.len(), 1);
        let kid = decode_header(token).unwrap().kid.unwrap();
        let key = DecodingKey::from_jwk(set.find(&kid).unwrap()).unwrap();
        let mut validation = Validation::new(Algorithm::ES256);
        (validation.validate_exp, validation.validate_aud) = (false, false);
        (token.to_owned(), decode::<Value>(token, &key, &validation).unwrap().claims)
    }

    #[test]
    fn a_token_says_who_calls_and_services_can_verify_it() {
        let gateway = Gateway::of(&yaml("{ jwt: { issuer: gw, audience: orders, ttl: 30s } }"));
        let (_, claims) = token(&gateway, "the-long-key-of-a");
        assert_eq!(
            claims,
            json!({
                "iss": "gw", "aud": "orders", "sub": "\u{e9}ve \u{1f600}", "iat": WALL.as_secs(), "exp": WALL.as_secs() + 30,
                "roles": ["admin", "editor"], "permissions": ["orders:read"], "scope": "read write", "tenant": "t1",
            })
        );
    }

    #[test]
    fn a_token_is_used_again_for_half_its_time() {
        let gateway = Gateway::of(&yaml("{ jwt: { ttl: 60s } }"));
        let (first, _) = token(&gateway, "the-long-key-of-b");
        gateway.world.advance(Duration::from_secs(29));
        assert_eq!(token(&gateway, "the-long-key-of-b").0, first);
        gateway.world.advance(Duration::from_secs(1));
        let (second, claims) = token(&gateway, "the-long-key-of-b");
        assert_ne!(second, first);
        assert_eq!(claims["exp"], WALL.as_secs() + 90);
    }

    #[test]
    fn a_reload_keeps_the_key_of_the_process() {
        let yaml = yaml("{ jwt: {} }");
        let gateway = Gateway::of(&yaml);
        let before = identity_jwks(gateway.shared());
        let gateway = gateway.reload(&yaml);
        assert_eq!(identity_jwks(gateway.shared()), before);
        assert!(before.contains("\"kid\""));
    }

    #[test]
    fn a_key_from_a_file_stays_the_same_everywhere() {
        const PKCS8: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2
OF/2NxApJCzGCEDdfSp6VQO30hyhRANCAAQRWz+jn65BtOMvdyHKcvjBeBSDZH2r
1RTwjmYSi9R/zpBnuQ4EiMnCqfMPWiZqB4QdbAd0E7oH50VpuZ1P087G
-----END PRIVATE KEY-----
";
        let yaml = yaml("{ jwt: { key: gw.pem } }");
        let sets = [PKCS8, PKCS8].map(|pem| {
            let gateway = Gateway::with_files(&yaml, &Memory::new().with("gw.pem", pem));
            token(&gateway, "the-long-key-of-b");
            identity_jwks(gateway.shared())
        });
        assert_eq!(sets[0], sets[1]);
        assert!(sets[0].contains("\"x\":\"EVs_o5-uQbTjL3chynL4wXgUg2R9q9UU8I5mEovUf84\""), "{}", sets[0]);
        assert!(problems(&yaml).contains("routes[0].identity_headers.jwt.key: cannot read gw.pem"));
    }

    #[test]
    fn names_that_mean_something_else_are_mistakes() {
        for (headers, problem) in [
            ("{}", "routes[0].identity_headers: `identity_headers` names no field"),
            (
                "{ user: Authorization }",
                "routes[0].identity_headers.user: `authorization` already means something else",
            ),
            ("{ claims: { x-forwarded-for: ip } }", "`x-forwarded-for` already means something else"),
            ("{ user: x-a, roles: X-A }", "routes[0].identity_headers.roles: `x-a` is set twice"),
            ("{ user: x-identity, jwt: {} }", "routes[0].identity_headers.jwt: `x-identity` is set twice"),
            ("{ jwt: { ttl: 2h } }", "routes[0].identity_headers.jwt.ttl: a token holds for 2s to 1h"),
        ] {
            let found = problems(&yaml(headers));
            assert!(found.contains(problem), "{headers}: {found}");
        }
    }
}
