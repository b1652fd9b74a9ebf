//! A parsed expression, and what it says of a request.

use regex::Regex;
use serde_json::Value as Json;

use super::value::{Value, compare};
use super::{Scope, Variable};
use crate::client::Networks;

/// A part of an expression.
#[derive(Debug, Clone)]
pub(super) enum Node {
    /// `||` between these.
    Any(Vec<Node>),
    /// `&&` between these.
    All(Vec<Node>),
    /// `!`.
    Not(Box<Node>),
    /// Two values and what is asked about them.
    Compare(Operator, Box<[Node; 2]>),
    /// `matches`.
    Matches(Box<Node>, Regex),
    /// `client_ip in` ranges that are written there.
    Within(Networks),
    /// `has(...)`.
    Has(Variable),
    /// A variable.
    Variable(Variable),
    /// A text, number, truth value, `null` or a list of them. Lists hold no `null`.
    Literal(Json),
}

/// What may stand between two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
    In,
    Contains,
    StartsWith,
    EndsWith,
    Matches,
}

impl Operator {
    /// Those that are signs; of two that begin alike, the longer one is first.
    pub(super) const SIGNS: [(&str, Self); 6] = [
        ("==", Self::Equal),
        ("!=", Self::Unequal),
        ("<=", Self::AtMost),
        (">=", Self::AtLeast),
        ("<", Self::Less),
        (">", Self::Greater),
    ];

    /// Those that are words.
    pub(super) const WORDS: [(&str, Self); 5] = [
        ("in", Self::In),
        ("contains", Self::Contains),
        ("starts_with", Self::StartsWith),
        ("ends_with", Self::EndsWith),
        ("matches", Self::Matches),
    ];
}

impl Node {
    /// Whether the condition is true or false; `None` if it hangs on a value that is neither, or on
    /// several that differ.
    pub(super) fn truth(&self, scope: &Scope<'_>) -> Option<bool> {
        match self {
            Self::Any(parts) => join(parts, true, scope),
            Self::All(parts) => join(parts, false, scope),
            Self::Not(part) => part.truth(scope).map(|truth| !truth),
            Self::Compare(operator, sides) => {
                let [left, right] = &**sides;
                compare(*operator, &left.value(scope), &right.value(scope))
            }
            Self::Matches(part, regex) => part.value(scope).passes(|text| regex.is_match(text)),
            Self::Within(networks) => Some(networks.contains(scope.exchange.client)),
            Self::Has(variable) => Some(!matches!(variable.read(scope), Value::Absent)),
            Self::Variable(_) | Self::Literal(_) => self.value(scope).truth(),
        }
    }

    fn value<'a>(&'a self, scope: &Scope<'a>) -> Value<'a> {
        match self {
            Self::Variable(variable) => variable.read(scope),
            Self::Literal(Json::Null) => Value::Null,
            Self::Literal(json) => Value::of(json),
            Self::Any(_)
            | Self::All(_)
            | Self::Not(_)
            | Self::Compare(..)
            | Self::Matches(..)
            | Self::Within(_)
            | Self::Has(_) => self.truth(scope).map_or(Value::Opaque, Value::Bool),
        }
    }

    pub(super) fn variables<'a>(&'a self, found: &mut Vec<&'a Variable>) {
        match self {
            Self::Any(parts) | Self::All(parts) => parts.iter().for_each(|part| part.variables(found)),
            Self::Not(part) | Self::Matches(part, _) => part.variables(found),
            Self::Compare(_, sides) => sides.iter().for_each(|side| side.variables(found)),
            Self::Within(_) => found.push(&Variable::ClientIp),
            Self::Has(variable) | Self::Variable(variable) => found.push(variable),
            Self::Literal(_) => {}
        }
    }
}

/// One part that is `decisive` decides; otherwise one that is neither true nor false leaves it open.
fn join(parts: &[Node], decisive: bool, scope: &Scope<'_>) -> Option<bool> {
    let mut result = Some(!decisive);
    for part in parts {
        match part.truth(scope) {
            Some(truth) if truth == decisive => return Some(decisive),
            Some(_) => {}
            None => result = None,
        }
    }
    result
}
