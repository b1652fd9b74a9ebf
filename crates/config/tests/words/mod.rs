//! A vocabulary as policies bring it, small: a mapping of names at the top and in routes, a choice of forms with a secret, an object.

use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tidegate_config::policy::{AnyText, Entries, Meaning, Place, Reading, Vocabulary, Word};
use tidegate_config::value::{Cidr, Duration, Name};

pub(crate) static WORDS: Vocabulary = Vocabulary::new(|| {
    let auth = "{ '*': { jwt?: { leeway: 30s, jwks?: { refresh: 10m } }, basic?: { realm: all } } }";
    let limits = "{ global: { rate: 100/s, burst: 200 }, per_client: { rate: 10/s, key: client_ip }, '*': { algorithm: token_bucket } }";
    vec![
        Word {
            built_in: auth,
            secrets: &[["jwt", "secret"], ["users", "password"]],
            ..word::<WaysFile>("auth", Place::Top)
        },
        Word { built_in: limits, short: Some("rate"), ..word::<LimitsFile>("rate_limit", Place::Top) },
        word::<WayNames>("auth", Place::Route),
        Word {
            built_in: "{ '*': { algorithm: token_bucket } }",
            short: Some("rate"),
            ..word::<LimitsFile>("rate_limit", Place::Route)
        },
        Word {
            built_in: "{ max_age: 5s, own?: { strict: on } }",
            short: Some("origin"),
            ..word::<CorsFile>("cors", Place::Route)
        },
    ]
});

/// Named ways to prove who one is.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
struct WaysFile(#[expect(dead_code, reason = "what is read is not looked at")] Entries<Name, WayFile>);

/// One of these.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what is read is not looked at")]
struct WayFile {
    /// A signed token.
    jwt: Option<JwtFile>,
    /// A name and a password.
    basic: Option<BasicFile>,
}

/// A signed token.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what is read is not looked at")]
struct JwtFile {
    /// Its key.
    secret: Option<AnyText>,
    /// How wrong a clock may be.
    leeway: Option<Duration>,
    /// Keys from elsewhere.
    jwks: Option<JwksFile>,
}

/// Keys from elsewhere.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what is read is not looked at")]
struct JwksFile {
    /// Where.
    url: Option<String>,
    /// How often.
    refresh: Option<Duration>,
}

/// A name and a password.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what is read is not looked at")]
struct BasicFile {
    /// What is told.
    realm: Option<String>,
    /// Who there is.
    #[serde(default)]
    users: Vec<UserFile>,
}

/// Somebody.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what is read is not looked at")]
struct UserFile {
    /// Who.
    name: Option<String>,
    /// What only they know.
    password: Option<String>,
}

/// The ways that a route asks, or `none`.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
struct WayNames(#[expect(dead_code, reason = "what is read is not looked at")] Vec<Name>);

/// Named limits.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
struct LimitsFile(#[expect(dead_code, reason = "what is read is not looked at")] Entries<Name, Option<LimitFile>>);

/// A limit.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what is read is not looked at")]
struct LimitFile {
    /// How much.
    rate: Option<AnyText>,
    /// How much at once.
    burst: Option<u64>,
    /// Of whom.
    key: Option<String>,
    /// How.
    algorithm: Option<String>,
}

/// Pages of other origins.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what is read is not looked at")]
struct CorsFile {
    /// Which.
    origin: Option<AnyText>,
    /// How long they may remember.
    max_age: Option<Duration>,
    /// Ranges.
    #[serde(default)]
    from: Vec<Cidr>,
    /// Its own.
    own: Option<OwnFile>,
}

/// Its own.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what is read is not looked at")]
struct OwnFile {
    /// How.
    strict: Option<bool>,
}

fn word<T: DeserializeOwned + JsonSchema>(key: &'static str, place: Place) -> Word {
    let schema: fn(&mut SchemaGenerator) -> Schema = |generator| generator.subschema_for::<T>();
    Word { key, place, schema, built_in: "", short: None, secrets: &[], read: read::<T> }
}

fn read<T: DeserializeOwned>(reading: &mut Reading<'_, '_>) -> Option<Meaning> {
    reading.read::<T>()?;
    Some(Arc::new(()))
}
