//! Tokens signed with ES256 that are verified each time, by the whole chain of a route, and their signatures by the crypto library alone, in
//! turns. Prints microseconds, and how many times as long the chain takes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
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

/// A public key. Of the private one nothing is left but a signature.
const KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEujJNyui+rCjaCmiGQYzK7P1+VBTe\
    j8TO9Xbkkqso6DY0wKbpU09O+UEKXaTIU+zZ7eYNnR/1arphnKO92r4t5A==";

/// It ends in the year 2100.
const TOKEN: &str = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.\
    eyJpc3MiOiJiZW5jaCIsImF1ZCI6ImJlbmNoIiwic3ViIjoiYmVuY2giLCJyb2xlcyI6WyJyZWFkZXIiXSwiZXhwIjo0MTAyNDQ0ODAwfQ.\
    ZktwG8VdGCXwqmnxA29Vn6MCHM4xo78gk4Bhp9cumlV0hjBJvjNMfECK9BJkjWUp3P8Bhin5afGhLB8r_jOm5w";

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
    signed: &'static str,
    signature: Vec<u8>,
}

impl Subject {
    fn new() -> Result<Self> {
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{KEY}\n-----END PUBLIC KEY-----\n");
        let files = Memory::new().with("key.pem", pem);
        let route = Route::of(CONFIG, &files, &format!("Authorization: Bearer {TOKEN}"))?;
        let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, STANDARD.decode(KEY)?)?;
        let (signed, signature) = TOKEN.rsplit_once('.').context("it has three parts")?;
        Ok(Self { route, key, signed, signature: URL_SAFE_NO_PAD.decode(signature)? })
    }

    fn library(&self) -> Result<()> {
        let verified = self.key.verify_sig(self.signed.as_bytes(), &self.signature);
        verified.map_err(|_| anyhow!("the signature is good"))
    }
}
