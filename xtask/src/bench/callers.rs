//! What the load's requests show, so that those who must know callers let them pass. The configurations of the subjects have the
//! same key and secret in them; both are good for nothing else.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::subject::Mode;

/// An API key.
const KEY: &str = "a-key-for-the-bench-and-nothing-else";
/// What tokens are signed with.
const SECRET: &str = "a-secret-for-the-bench-and-nothing-else";
/// Ends in the year 2100.
const CLAIMS: &str = r#"{"iss":"bench","aud":"bench","sub":"bench","roles":["reader"],"exp":4102444800}"#;

/// A browser sends more fields than wrk; these, with one that says who it is, make the head an ordinary one.
const FIELDS: [&str; 2] = ["User-Agent: wrk/4", "Accept: */*"];

/// What callers show.
#[derive(Clone)]
pub(crate) struct Callers {
    token: String,
}

impl Callers {
    /// Signs the token that they show.
    pub(crate) fn new() -> Result<Self> {
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#), URL_SAFE_NO_PAD.encode(CLAIMS));
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(hmac(&signed)?));
        Ok(Self { token })
    }

    /// The fields of a request, for all subjects the same.
    pub(crate) fn fields(&self, mode: Mode) -> Vec<String> {
        let own = match mode {
            Mode::Plain | Mode::Log => "Authorization: Bearer 0123456789abcdef0123456789abcdef".to_owned(),
            Mode::Limited => format!("X-API-Key: {KEY}"),
            Mode::Jwt => format!("Authorization: Bearer {}", self.token),
        };
        FIELDS.iter().map(ToString::to_string).chain([own]).collect()
    }
}

/// HMAC with SHA-256, by the program that makes the certificate too.
fn hmac(signed: &str) -> Result<Vec<u8>> {
    let mut command = Command::new("openssl");
    command.args(["dgst", "-sha256", "-hmac", SECRET, "-binary"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().context("running openssl")?;
    child.stdin.take().context("its input is a pipe")?.write_all(signed.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success() && output.stdout.len() == 32, "openssl makes no HMAC: {}", output.status);
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configurations_know_the_key_and_the_secret() {
        let tidegate = include_str!("../../../bench/tidegate.yaml");
        let envoy = include_str!("../../../bench/peers/envoy.yaml");
        assert!(tidegate.contains(KEY) && tidegate.contains(SECRET));
        assert!(envoy.contains(&URL_SAFE_NO_PAD.encode(SECRET)));
    }
}
