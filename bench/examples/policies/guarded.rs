//! Callers by an API key, and by a token that was verified before. Roles are asked for, and each client is limited.

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tidegate_config::Memory;

use super::route::Route;

/// As in `bench/tidegate.yaml`.
const CONFIG: &str = "
server: { host: 127.0.0.1 }
auth:
  keys: { api_key: { in: ['header:x-api-key'], inline: [{ key: a-key-for-the-bench-and-nothing-else, user: bench, roles: [reader] }] } }
  tokens: { jwt: { issuer: bench, audiences: [bench], secret: a-secret-for-the-bench-and-nothing-else } }
rate_limit: { per_client: { rate: 1000000/s, burst: 1000000, key: client_ip } }
services: { orders: { url: http://127.0.0.1:9001 } }
routes: [{ match: { path_prefix: / }, service: orders, auth: WAY, require: { roles: [reader, editor] } }]
";

/// By a key, so often.
pub(crate) fn key(turns: u64) -> Result<()> {
    pass("keys", "X-API-Key: a-key-for-the-bench-and-nothing-else", turns)
}

/// By a token, so often.
pub(crate) fn token(turns: u64) -> Result<()> {
    pass("tokens", &format!("Authorization: Bearer {}", signed()), turns)
}

fn pass(way: &str, field: &str, turns: u64) -> Result<()> {
    let route = Route::of(&CONFIG.replace("WAY", way), &Memory::new(), field)?;
    (0..turns).try_for_each(|_| route.pass(route.request()?))
}

/// It ends in the year 2100.
fn signed() -> String {
    let claims = r#"{"iss":"bench","aud":"bench","sub":"bench","roles":["reader"],"exp":4102444800}"#;
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"a-secret-for-the-bench-and-nothing-else");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&key, signed.as_bytes())))
}
