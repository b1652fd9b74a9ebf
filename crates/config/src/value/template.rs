//! Texts with parts of the request in them: `/v2/{path.id}`. Parsing knows every variable there is; rendering is core's.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::{Invalid, closest, text_value};

/// A text with variables. `{{` and `}}` are braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// In order; two literals never follow one another.
    pub parts: Vec<TemplatePart>,
    /// As written.
    pub source: Arc<str>,
}

/// A piece of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplatePart {
    /// Copied.
    Literal(Arc<str>),
    /// Taken from the request.
    Value(Variable),
}

/// What a template may take from a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variable {
    /// `{path.NAME}`: a parameter of the route's path; `rest` is also what follows a prefix or stands for its `*`.
    Path(Arc<str>),
    /// `{query.NAME}`: the first parameter of that name.
    Query(Arc<str>),
    /// `{header.NAME}`, lower case.
    Header(Arc<str>),
    /// `{cookie.NAME}`.
    Cookie(Arc<str>),
    /// `{claims.NAME}`, or what lies in it: `{claims.NAME.NAME}`. A name with other signs in it is `{claims["NAME"]}`.
    Claim(Vec<Arc<str>>),
    /// `{identity.user}`: who has proved to send the request.
    User,
    /// `{identity.tenant}`: whose customer that is.
    Tenant,
    /// `{client_ip}`: the client's address, after trusted proxies.
    ClientIp,
    /// `{request_id}`.
    RequestId,
    /// `{request.path}`: the canonical path.
    RequestPath,
    /// `{request.host}`: without a port.
    RequestHost,
    /// `{request.method}`.
    RequestMethod,
    /// `{request.scheme}`: `http` or `https`.
    RequestScheme,
    /// `{request.query}`: without the question mark.
    RequestQuery,
}

/// Every variable without a name of its own.
const FIXED: [(&str, Variable); 9] = [
    ("identity.user", Variable::User),
    ("identity.tenant", Variable::Tenant),
    ("client_ip", Variable::ClientIp),
    ("request_id", Variable::RequestId),
    ("request.path", Variable::RequestPath),
    ("request.host", Variable::RequestHost),
    ("request.method", Variable::RequestMethod),
    ("request.scheme", Variable::RequestScheme),
    ("request.query", Variable::RequestQuery),
];

const FAMILIES: [&str; 5] = ["path", "query", "header", "cookie", "claims"];

/// Of a feature to come.
const LATER: &str = "parts";

impl Template {
    /// The variables, in order.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.parts.iter().filter_map(|part| match part {
            TemplatePart::Value(variable) => Some(variable),
            TemplatePart::Literal(_) => None,
        })
    }

    /// The text of a template without variables.
    pub fn as_literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [TemplatePart::Literal(text)] => Some(text),
            _ => None,
        }
    }
}

impl FromStr for Template {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(rest.get(..at).unwrap_or_default());
            let brace = rest.get(at..at + 1).unwrap_or_default();
            let after = rest.get(at + 1..).unwrap_or_default();
            if let Some(after) = after.strip_prefix(brace) {
                literal.push_str(brace);
                rest = after;
                continue;
            }
            let closed = after.split_once('}').filter(|_| brace == "{");
            let (name, after) = closed.ok_or_else(|| unbalanced(text, brace))?;
            push_literal(&mut parts, &mut literal);
            parts.push(TemplatePart::Value(name.parse()?));
            rest = after;
        }
        literal.push_str(rest);
        push_literal(&mut parts, &mut literal);
        if text.chars().any(char::is_control) {
            return Err(Invalid::new("a template cannot contain line breaks or other control characters"));
        }
        Ok(Self { parts, source: text.into() })
    }
}

fn push_literal(parts: &mut Vec<TemplatePart>, literal: &mut String) {
    if !literal.is_empty() {
        parts.push(TemplatePart::Literal(std::mem::take(literal).into()));
    }
}

fn unbalanced(text: &str, brace: &str) -> Invalid {
    Invalid::new(format!("a `{brace}` without its partner in the template `{text}`"))
        .help(format!("a variable is `{{path.id}}`; the brace itself is `{brace}{brace}`"))
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl FromStr for Variable {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if let Some((_, variable)) = FIXED.iter().find(|(name, _)| *name == text) {
            return Ok(variable.clone());
        }
        if let Some(name) = text.strip_prefix("claims[\"").and_then(|rest| rest.strip_suffix("\"]")) {
            return Ok(Self::Claim(vec![name.into()]));
        }
        match text.split_once('.') {
            Some((LATER, name)) => Err(Invalid::new(format!("`{{{LATER}.{name}}}` is not supported yet"))
                .help("this version of Tidegate does not aggregate; take the value from a header, query or path")),
            Some((family, name)) if !name.is_empty() => Self::of_family(text, family, name),
            _ => Err(unknown(text)),
        }
    }
}

impl Variable {
    fn of_family(text: &str, family: &str, name: &str) -> Result<Self, Invalid> {
        match family {
            "path" => Ok(Self::Path(name.into())),
            "query" => Ok(Self::Query(name.into())),
            "cookie" => Ok(Self::Cookie(name.into())),
            "claims" => Ok(Self::Claim(name.split('.').map(Arc::from).collect())),
            "header" => {
                let name: super::FieldName = name.parse()?;
                Ok(Self::Header(name.0))
            }
            _ => Err(unknown(text)),
        }
    }
}

fn unknown(text: &str) -> Invalid {
    let invalid = Invalid::new(format!("there is no variable `{{{text}}}`"));
    if let Some((family, name)) = text.split_once('.')
        && let Some(family) = closest(family, FAMILIES)
        && !name.is_empty()
    {
        return invalid.help(format!("did you mean `{{{family}.{name}}}`?"));
    }
    if let Some(name) = closest(text, FIXED.iter().map(|(name, _)| *name)) {
        return invalid.help(format!("did you mean `{{{name}}}`?"));
    }
    if !text.contains('.') && !text.is_empty() && !text.contains(char::is_whitespace) {
        return invalid.help(format!("a parameter of the path is `{{path.{text}}}`"));
    }
    invalid.help(
        "there are {path.NAME}, {query.NAME}, {header.NAME}, {cookie.NAME}, {claims.NAME}, {identity.user}, \
         {identity.tenant}, {client_ip}, {request_id} and \
         {request.path}, .host, .method, .scheme, .query",
    )
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(name) => write!(f, "{{path.{name}}}"),
            Self::Query(name) => write!(f, "{{query.{name}}}"),
            Self::Header(name) => write!(f, "{{header.{name}}}"),
            Self::Cookie(name) => write!(f, "{{cookie.{name}}}"),
            Self::Claim(names) => match names.as_slice() {
                [name] if name.contains('.') => write!(f, "{{claims[\"{name}\"]}}"),
                names => write!(f, "{{claims.{}}}", names.join(".")),
            },
            Self::User => f.write_str("{identity.user}"),
            Self::Tenant => f.write_str("{identity.tenant}"),
            Self::ClientIp => f.write_str("{client_ip}"),
            Self::RequestId => f.write_str("{request_id}"),
            Self::RequestPath => f.write_str("{request.path}"),
            Self::RequestHost => f.write_str("{request.host}"),
            Self::RequestMethod => f.write_str("{request.method}"),
            Self::RequestScheme => f.write_str("{request.scheme}"),
            Self::RequestQuery => f.write_str("{request.query}"),
        }
    }
}

text_value!(Template, "a text with variables such as `/v2/{path.id}`", {
    "title": "template",
    "type": "string",
    "description": "A text with parts of the request: `{path.NAME}`, `{query.NAME}`, `{header.NAME}`, `{cookie.NAME}`, `{claims.NAME}`, `{identity.user}`, `{identity.tenant}`, `{client_ip}`, `{request_id}`, `{request.path}`, `{request.host}`, `{request.method}`, `{request.scheme}`, `{request.query}`. `{{` is a brace.",
    "examples": ["/v2/{path.id}"]
});

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let invalid = text.parse::<Template>().expect_err(text);
        format!("{} | {}", invalid.message, invalid.help.unwrap_or_default())
    }

    #[test]
    fn literals_and_variables_alternate() {
        let template: Template = "/v2/{path.id}/{{x}}{query.q}".parse().expect("valid");
        assert_eq!(
            template.parts,
            [
                TemplatePart::Literal("/v2/".into()),
                TemplatePart::Value(Variable::Path("id".into())),
                TemplatePart::Literal("/{x}".into()),
                TemplatePart::Value(Variable::Query("q".into())),
            ]
        );
    }

    #[test]
    fn every_fixed_variable_prints_as_it_is_written() {
        for (name, variable) in FIXED {
            let template: Template = format!("{{{name}}}").parse().expect(name);
            assert_eq!(template.parts, [TemplatePart::Value(variable.clone())]);
            assert_eq!(variable.to_string(), format!("{{{name}}}"));
        }
    }

    #[test]
    fn a_claim_is_named_by_dots_or_in_quotes() {
        for (text, names) in [
            ("{claims.sub}", &["sub"][..]),
            ("{claims.address.country}", &["address", "country"]),
            ("{claims[\"https://a.test/tenant\"]}", &["https://a.test/tenant"]),
        ] {
            let template: Template = text.parse().expect(text);
            let variable = Variable::Claim(names.iter().map(|&name| name.into()).collect());
            assert_eq!(variable.to_string(), text);
            assert_eq!(template.parts, [TemplatePart::Value(variable)]);
        }
    }

    #[test]
    fn an_unknown_variable_is_refused_with_the_likely_one() {
        assert_eq!(refused("{pth.id}"), "there is no variable `{pth.id}` | did you mean `{path.id}`?");
        assert_eq!(refused("{client_id}"), "there is no variable `{client_id}` | did you mean `{client_ip}`?");
        assert_eq!(refused("{id}"), "there is no variable `{id}` | a parameter of the path is `{path.id}`");
        assert_eq!(refused("{claim.a}"), "there is no variable `{claim.a}` | did you mean `{claims.a}`?");
        assert_eq!(
            refused("{identity.usr}"),
            "there is no variable `{identity.usr}` | did you mean `{identity.user}`?"
        );
        assert!(refused("{parts.a}").starts_with("`{parts.a}` is not supported yet"));
    }

    #[test]
    fn a_lonely_brace_is_refused() {
        assert!(refused("/a/{path.id").starts_with("a `{` without its partner"));
        assert!(refused("/a}").starts_with("a `}` without its partner"));
        assert!(refused("{}").starts_with("there is no variable `{}`"));
    }
}
