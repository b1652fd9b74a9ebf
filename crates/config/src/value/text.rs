//! Texts with a grammar: names, header fields, address ranges, regular expressions.

use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;

use super::{Invalid, part_regex, text_value};

/// What a service, route, listener or bundle is called: letters, digits, `-`, `_` and `.`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(pub Arc<str>);

/// The name of a header field, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldName(pub Arc<str>);

/// The value of a header field: what may be sent as one (RFC 9110 5.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldText(pub Arc<str>);

/// A range of addresses; a bare address is a range of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr(pub IpNet);

/// A regular expression that may match anywhere in a text.
#[derive(Debug, Clone)]
pub struct Pattern(pub regex::Regex);

impl FromStr for Name {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if text.is_empty() {
            return Err(Invalid::new("the name is empty"));
        }
        if text.len() > 100
            || !text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            || !text.chars().all(fits)
        {
            return Err(Invalid::new(format!("`{text}` cannot be a name")).help(
                "names are up to 100 letters, digits, `-`, `_` and `.`, and begin with a letter, a digit or `_`",
            ));
        }
        Ok(Self(text.into()))
    }
}

impl FromStr for FieldName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match http::HeaderName::from_bytes(text.as_bytes()) {
            Ok(name) => Ok(Self(name.as_str().into())),
            Err(_) => Err(Invalid::new(format!("`{text}` cannot be the name of a header"))
                .help("header names are letters, digits and `-`, without a colon")),
        }
    }
}

impl FromStr for FieldText {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.chars().any(|c| c.is_control() && c != '\t') {
            return Err(Invalid::new("a header's value cannot contain line breaks or other control characters"));
        }
        Ok(Self(text.trim_matches([' ', '\t']).into()))
    }
}

impl FromStr for Cidr {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if let Ok(address) = text.parse::<std::net::IpAddr>() {
            return Ok(Self(IpNet::from(address)));
        }
        let Ok(range) = text.parse::<IpNet>() else {
            return Err(Invalid::new(format!("expected an address or a range such as `10.0.0.0/8`, found `{text}`")));
        };
        let trimmed = range.trunc();
        if trimmed != range {
            // Often a typing mistake, and then the range is not the one that is meant.
            return Err(Invalid::new(format!("`{text}` has bits beyond its prefix"))
                .help(format!("write `{trimmed}` for the range, or `{}` for the one address", range.addr())));
        }
        Ok(Self(range))
    }
}

impl FromStr for Pattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        part_regex(text).map(Self)
    }
}

text_value!(Name, "a name", {
    "title": "name",
    "type": "string",
    "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$",
});
text_value!(FieldName, "the name of a header", {
    "title": "header name",
    "type": "string",
    "description": "The name of a header; upper and lower case are the same.",
});
text_value!(FieldText, "the value of a header", { "type": ["string", "number", "boolean"] });
text_value!(Cidr, "an address or a range such as `10.0.0.0/8`", {
    "title": "address range",
    "type": "string",
    "description": "An address, or a range of addresses.",
    "examples": ["10.0.0.0/8", "192.168.1.7", "2001:db8::/32"]
});
text_value!(Pattern, "a regular expression", {
    "title": "regular expression",
    "type": "string",
    "format": "regex",
    "description": "A regular expression, which may match anywhere unless it has `^` and `$`. Matching takes linear time.",
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_address_is_a_range_of_one() {
        assert_eq!("10.0.0.1".parse::<Cidr>().map(|c| c.0.to_string()), Ok("10.0.0.1/32".to_owned()));
        assert_eq!("::1".parse::<Cidr>().map(|c| c.0.to_string()), Ok("::1/128".to_owned()));
        assert_eq!("10.0.0.0/8".parse::<Cidr>().map(|c| c.0.to_string()), Ok("10.0.0.0/8".to_owned()));
    }

    #[test]
    fn a_range_with_bits_beyond_its_prefix_is_refused() {
        let invalid = "10.0.0.1/8".parse::<Cidr>().expect_err("not canonical");
        assert_eq!(
            invalid.help.as_deref(),
            Some("write `10.0.0.0/8` for the range, or `10.0.0.1` for the one address")
        );
        assert!("10.0.0.0/33".parse::<Cidr>().is_err());
        assert!("ten".parse::<Cidr>().is_err());
    }

    #[test]
    fn names_are_plain() {
        for text in ["a", "users-v2", "my_svc", "a.b", "0"] {
            assert!(text.parse::<Name>().is_ok(), "{text}");
        }
        for text in ["", "a b", "-a", "ä", "a/b"] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
    }

    #[test]
    fn header_names_are_lower_case_tokens_and_values_are_one_line() {
        assert_eq!("X-Tenant".parse::<FieldName>().map(|n| n.0), Ok("x-tenant".into()));
        assert!("x:".parse::<FieldName>().is_err());
        assert!("".parse::<FieldName>().is_err());
        assert!("a\r\nb".parse::<FieldText>().is_err());
    }
}
