//! Lists of origins: whose pages may call. An origin is what a browser says of the page that a request comes from: scheme, host and
//! port, in lower case and without the scheme's own port (RFC 6454, 6.2).

use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_config::policy::{Reading, TextOr};
use tidegate_config::problem::Path;
use tidegate_config::value::{Invalid, Pattern};
use tidegate_http1::is_authority;

use crate::patterns::Patterns;

/// An origin, or several: `https://app.example.com`, `https://*.example.com` for every name below, or `{ regex: ... }`.
pub(crate) type OriginFile = TextOr<OriginPattern>;

/// Origins that a regular expression tells.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OriginPattern {
    /// A regular expression for the whole origin. It takes in nothing more than what it says: `^` and `$` are implied.
    regex: Pattern,
}

/// A list of origins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Origins {
    any: bool,
    exact: Vec<String>,
    patterns: Patterns,
}

/// What one text stands for.
enum Meant {
    Any,
    Exact(String),
    Below { scheme: String, name: String },
}

impl Origins {
    /// The origins of the list that stands at `list`; what is wrong with them is reported.
    pub(crate) fn mean(written: &[OriginFile], list: &Path, reading: &mut Reading<'_, '_>) -> Option<Self> {
        let (mut any, mut exact, mut patterns) = (false, Vec::new(), Vec::new());
        for (position, origin) in written.iter().enumerate() {
            let meant = match origin {
                TextOr::Full(pattern) => {
                    patterns.push(format!("^(?:{})$", pattern.regex.0.as_str()));
                    continue;
                }
                TextOr::Text(text) => meant(&text.0),
            };
            match meant {
                Ok(Meant::Any) => any = true,
                Ok(Meant::Exact(origin)) => exact.push(origin),
                Ok(Meant::Below { scheme, name }) => {
                    patterns.push(format!(r"^{scheme}://(?:[a-z0-9_-]+\.)+{name}$"));
                }
                Err(invalid) => {
                    let item = reading.item(list, position);
                    reading.invalid(&item, invalid);
                }
            }
        }
        match Patterns::new(&patterns, false) {
            Ok(patterns) => Some(Self { any, exact, patterns }),
            Err(invalid) => {
                reading.invalid(list, invalid);
                None
            }
        }
    }

    /// Whether this origin is in the list.
    pub(crate) fn has(&self, origin: &[u8]) -> bool {
        self.any || self.exact.iter().any(|known| known.as_bytes() == origin) || self.patterns.has(origin)
    }

    /// Which they are, in words.
    pub(crate) fn words(&self) -> String {
        if self.any {
            return "everybody".to_owned();
        }
        let patterns = match self.patterns.sources().len() {
            0 => None,
            1 => Some("one pattern".to_owned()),
            count => Some(format!("{count} patterns")),
        };
        self.exact.iter().cloned().chain(patterns).collect::<Vec<_>>().join(", ")
    }

    /// Whether `*` is in the list.
    pub(crate) fn has_any(&self) -> bool {
        self.any
    }

    /// Whether everybody is in the list, by `*` or by a pattern that takes in a name which nobody can have (RFC 2606).
    pub(crate) fn has_strangers(&self) -> bool {
        self.has(b"https://a.stranger.invalid")
    }
}

fn meant(text: &str) -> Result<Meant, Invalid> {
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "*" => return Ok(Meant::Any),
        "null" => return Ok(Meant::Exact(lower)),
        _ => {}
    }
    let Some((scheme, rest)) = lower.split_once("://") else {
        return Err(Invalid::new(format!("`{text}` is no origin"))
            .help(format!("an origin begins with its scheme: write `https://{lower}`")));
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, beyond) = rest.split_at(end);
    let (is_below, name) = authority.strip_prefix("*.").map_or((false, authority), |name| (true, name));
    if !is_scheme(scheme) || name.contains('*') || !is_authority(name) {
        return Err(Invalid::new(format!("`{text}` is no origin")).help(
            "write `https://app.example.com`, `https://*.example.com` for every name below, or `{ regex: ... }` for others",
        ));
    }
    if !beyond.is_empty() {
        return Err(Invalid::new(format!("`{text}` is more than an origin"))
            .help(format!("origins end with the host or its port: write `{scheme}://{authority}`")));
    }
    let name = without_default_port(scheme, name);
    if is_below {
        return Ok(Meant::Below { scheme: regex::escape(scheme), name: regex::escape(name) });
    }
    Ok(Meant::Exact(format!("{scheme}://{name}")))
}

/// RFC 3986, 3.1, in lower case.
fn is_scheme(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.');
    text.starts_with(|first: char| first.is_ascii_lowercase()) && text.bytes().all(fits)
}

/// The authority as it stands in an origin of this scheme.
pub(crate) fn without_default_port<'a>(scheme: &str, authority: &'a str) -> &'a str {
    let port = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => return authority,
    };
    authority.strip_suffix(port).unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use crate::testing::problems;

    fn said(origin: &str) -> String {
        problems(&format!(
            "services: {{ a: {{ url: http://127.0.0.1:9001 }} }}\n\
             routes: [{{ service: a, cors: {{ origins: [{origin}] }} }}]"
        ))
    }

    #[test]
    fn what_no_browser_calls_an_origin_is_a_mistake() {
        for (origin, advice) in [
            ("app.example.com", "write `https://app.example.com`"),
            ("https://app.example.com/", "write `https://app.example.com`"),
            ("https://app.example.com/path", "write `https://app.example.com`"),
            ("https://*.example.com/", "write `https://*.example.com`"),
            ("'https://app.*.com'", "`{ regex: ... }` for others"),
            ("'https://*example.com'", "`{ regex: ... }` for others"),
            ("'https://*'", "`{ regex: ... }` for others"),
            ("'*://app.example.com'", "`{ regex: ... }` for others"),
            ("https://me@app.example.com", "`{ regex: ... }` for others"),
            ("https://", "`{ regex: ... }` for others"),
            ("https://bücher.example", "`{ regex: ... }` for others"),
        ] {
            let said = said(origin);
            assert!(said.starts_with("error") && said.contains(advice), "{origin}: {said}");
        }
    }

    #[test]
    fn origins_of_apps_and_with_ports_are_taken() {
        for origin in [
            "http://localhost:3000",
            "capacitor://localhost",
            "chrome-extension://abc",
            "'http://[::1]:8080'",
            "HTTPS://App.Example.com:443",
            "'null'",
        ] {
            assert_eq!(said(origin), "", "{origin}");
        }
    }
}
