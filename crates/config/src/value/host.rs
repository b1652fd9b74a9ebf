//! The host condition of a route: a name, an address, `*.` before a name, or `*`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::{Invalid, text_value};

/// Which hosts a route is for. Hosts are compared in lower case and without a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// Exactly this name or address, lower case; IPv6 in brackets and in its shortest form, as in a `Host` field.
    Exact(Arc<str>),
    /// One or more labels before this suffix, which begins with a dot: `*.example.com` holds `.example.com`.
    Wildcard(Arc<str>),
    /// Every host, and none.
    Any,
}

impl HostPattern {
    /// Whether `host` (lower case, without a port) fits.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => **name == *host,
            Self::Wildcard(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
            Self::Any => true,
        }
    }
}

impl FromStr for HostPattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text == "*" {
            return Ok(Self::Any);
        }
        refuse_urls(text)?;
        if let Some(address) = text.strip_prefix('[') {
            return address_in_brackets(text, address);
        }
        if let Ok(address) = text.parse::<std::net::Ipv6Addr>() {
            return Ok(Self::Exact(format!("[{address}]").into()));
        }
        if let Some((host, _port)) = text.split_once(':') {
            return Err(Invalid::new(format!("`{text}` has a port, but hosts are compared without one"))
                .help(format!("write `{host}`; to tell ports apart, name the listeners and use `listener`")));
        }
        let lower = text.to_ascii_lowercase();
        if let Some(suffix) = lower.strip_prefix('*') {
            let name = suffix.strip_prefix('.').ok_or_else(|| misplaced_star(text))?;
            check_name(text, name)?;
            return Ok(Self::Wildcard(suffix.into()));
        }
        check_name(text, &lower)?;
        Ok(Self::Exact(lower.into()))
    }
}

fn refuse_urls(text: &str) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid::new("a host is missing here").help("write `*` for every host, or leave `host` out"));
    }
    let after_scheme = text.split_once("://").map(|(_, rest)| rest);
    let host = after_scheme.unwrap_or(text).split('/').next().unwrap_or_default();
    if host.len() != text.len() {
        return Err(Invalid::new(format!("`{text}` is more than a host")).help(format!("write `{host}`")));
    }
    Ok(())
}

fn address_in_brackets(text: &str, rest: &str) -> Result<HostPattern, Invalid> {
    let Some((address, after)) = rest.split_once(']') else {
        return Err(Invalid::new(format!("`{text}` has no closing bracket")));
    };
    if !after.is_empty() {
        return Err(Invalid::new(format!("`{text}` has a port, but hosts are compared without one"))
            .help(format!("write `[{address}]`")));
    }
    match address.parse::<std::net::Ipv6Addr>() {
        Ok(address) => Ok(HostPattern::Exact(format!("[{address}]").into())),
        Err(_) => Err(Invalid::new(format!("`{address}` is not an IPv6 address"))),
    }
}

fn check_name(text: &str, name: &str) -> Result<(), Invalid> {
    if !name.is_ascii() {
        return Err(Invalid::new(format!("`{text}` has letters outside ASCII"))
            .help("write the name as it is sent: in punycode, such as `xn--bcher-kva.example`"));
    }
    if name.contains('*') {
        return Err(misplaced_star(text));
    }
    if let Some(name) = name.strip_suffix('.') {
        return Err(Invalid::new(format!("`{text}` ends in a dot")).help(format!("write `{name}`")));
    }
    let odd = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if let Some(odd) = name.chars().find(|c| odd(*c)) {
        return Err(Invalid::new(format!("{odd:?} cannot stand in a host name, as in `{text}`")));
    }
    if name.len() > 253 || name.split('.').any(|label| label.is_empty() || label.len() > 63) {
        return Err(Invalid::new(format!("`{text}` is not a host name"))
            .help("labels have 1 to 63 characters, the name at most 253"));
    }
    Ok(())
}

fn misplaced_star(text: &str) -> Invalid {
    Invalid::new(format!("a `*` stands for whole labels at the front of a host, not as in `{text}`"))
        .help("write `*.example.com` for every name below example.com, or list the names")
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(suffix) => write!(f, "*{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

text_value!(HostPattern, "a host such as `api.example.com` or `*.example.com`", {
    "title": "host",
    "type": "string",
    "description": "A host without a port: a name, an address, `*.` before a name (one or more labels), or `*`.",
    "examples": ["api.example.com", "*.example.com", "*"]
});

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<HostPattern, String> {
        text.parse().map_err(|invalid: Invalid| format!("{} | {}", invalid.message, invalid.help.unwrap_or_default()))
    }

    #[test]
    fn names_are_compared_in_lower_case() {
        assert_eq!(parse("API.Example.com"), Ok(HostPattern::Exact("api.example.com".into())));
        assert_eq!(parse("*.Example.com"), Ok(HostPattern::Wildcard(".example.com".into())));
        assert_eq!(parse("*"), Ok(HostPattern::Any));
    }

    #[test]
    fn a_wildcard_stands_for_one_or_more_labels() {
        let pattern = parse("*.example.com").expect("valid");
        assert!(pattern.matches("a.example.com"));
        assert!(pattern.matches("a.b.example.com"));
        assert!(!pattern.matches("example.com"));
        assert!(!pattern.matches(".example.com"));
        assert!(!pattern.matches("badexample.com"));
    }

    #[test]
    fn an_ipv6_address_has_one_spelling() {
        for text in ["::1", "[::1]", "[0:0:0:0:0:0:0:1]"] {
            assert_eq!(parse(text), Ok(HostPattern::Exact("[::1]".into())), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused_with_advice() {
        for (text, expected) in [
            ("", "a host is missing here | write `*` for every host, or leave `host` out"),
            ("https://a.example/x", "`https://a.example/x` is more than a host | write `a.example`"),
            (
                "a.example:80",
                "`a.example:80` has a port, but hosts are compared without one | write `a.example`; \
                 to tell ports apart, name the listeners and use `listener`",
            ),
            ("a.example.", "`a.example.` ends in a dot | write `a.example`"),
            ("a b", "' ' cannot stand in a host name, as in `a b` | "),
            ("a..b", "`a..b` is not a host name | labels have 1 to 63 characters, the name at most 253"),
        ] {
            assert_eq!(parse(text), Err(expected.to_owned()), "{text}");
        }
        for text in ["a.*", "a*.example.com", "*example.com", "*.*.example.com"] {
            assert!(parse(text).is_err_and(|error| error.contains("whole labels")), "{text}");
        }
        assert!(parse("bücher.example").is_err_and(|error| error.contains("punycode")));
    }
}
