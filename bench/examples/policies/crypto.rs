//! Tokens signed with ES256 that are verified each time, by the whole chain of a route, and their signatures by the crypto library alone, in
//! turns. Prints microseconds, and how many times as long the chain takes.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, ParsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use tidegate_config::Memory;

use super::route::Route;

/// Of each kind, before the other one's turn comes.
const TURNS: usize = 100;

const CONFIG: &str = "
server: { host: 127.0.0.1 }
auth: { tokens: { jwt: { issuer: bench, audiences: [bench], public_key: key.pem, algorithms: [ES256], cache: off } } }
services: { orders: { url: http://127.0.0.1:9001 } }
routes: [{ match: { path_prefix: / }, service: orders, auth: tokens, require: { roles: [reader] } }]
";

const CLAIMS: &str = r#"{"iss":"bench","aud":"bench","sub":"bench","roles":["reader"],"exp":4102444800}"#;

/// Verifies so many tokens.
pub(crate) fn signature(turns: u64) -> Result<()> {
    let subject = Subject::new()?;
    (0..turns).try_for_each(|_| subject.route.pass(subject.route.request()?))
}

/// Verifies so many signatures.
pub(crate) fn library(turns: u64) -> Result<()> {
    let subject = Subject::new()?;
    (0..turns).try_for_each(|_| subject.library())
}

/// Both, for so long.
#[expect(clippy::print_stdout, reason = "prints what it has measured")]
pub(crate) fn compare(length: Duration) -> Result<()> {
    let subject = Subject::new()?;
    let (mut tokens, mut library, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let end = Instant::now() + length;
    while ratios.is_empty() || Instant::now() < end {
        let requests = (0..TURNS).map(|_| subject.route.request()).collect::<Result<Vec<_>>>()?;
        let token = timed(|| requests.into_iter().try_for_each(|request| subject.route.pass(request)))?;
        let alone = timed(|| (0..TURNS).try_for_each(|_| subject.library()))?;
        ratios.push(token / alone);
        tokens.push(token);
        library.push(alone);
    }
    let (token, library, ratio) = (median(tokens), median(library), median(ratios));
    println!(
        "{{\"ratio\": {ratio:.4}, \"token\": {token:.2}, \"library\": {library:.2}, \"calibration\": {library:.2}}}"
    );
    Ok(())
}

/// Microseconds for each of so many turns.
#[expect(clippy::cast_precision_loss, reason = "it is a small number")]
fn timed(turns: impl FnOnce() -> Result<()>) -> Result<f64> {
    let began = Instant::now();
    turns()?;
    Ok(began.elapsed().as_secs_f64() * 1e6 / TURNS as f64)
}

fn median(mut series: Vec<f64>) -> f64 {
    series.sort_by(f64::total_cmp);
    series.get(series.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A route that wants tokens, and a token.
struct Subject {
    route: Route,
    key: ParsedPublicKey,
    signed: String,
    signature: Vec<u8>,
}

impl Subject {
    fn new() -> Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
        let der: PublicKeyX509Der<'_> = pair.public_key().as_der()?;
        let pem = STANDARD.encode(der.as_ref());
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{pem}\n-----END PUBLIC KEY-----\n");
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","typ":"JWT"}"#);
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(CLAIMS));
        let signature = pair.sign(&SystemRandom::new(), signed.as_bytes())?.as_ref().to_vec();
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&signature));
        let files = Memory::new().with("key.pem", pem);
        let route = Route::of(CONFIG, &files, &format!("Authorization: Bearer {token}"))?;
        let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref())?;
        Ok(Self { route, key, signed, signature })
    }

    fn library(&self) -> Result<()> {
        let verified = self.key.verify_sig(self.signed.as_bytes(), &self.signature);
        verified.map_err(|_| anyhow!("the signature is good"))
    }
}
