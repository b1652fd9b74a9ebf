//! What is known of an expression when the configuration is loaded: comparisons that could never hold are refused, and what can be
//! made ready is made ready.

use std::net::IpAddr;

use serde_json::Value as Json;
use tidegate_config::value::{Cidr, Pattern};

use super::node::{Node, Operator};
use super::{ExprError, Variable};
use crate::client::Networks;

/// What a value can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    Truth,
    Number,
    Text,
    /// Text, of which there may be several.
    Texts,
    Address,
    List,
    /// A claim: who knows.
    Any,
}

/// Refuses a condition that is never true because it is not a condition.
pub(super) fn condition(at: usize, node: &Node) -> Result<(), ExprError> {
    let kind = kind(node);
    if matches!(kind, Kind::Truth | Kind::Any) {
        return Ok(());
    }
    Err(ExprError::new(at, format!("{} by itself is never true", kind.name()))
        .help("compare it, or ask with `has(...)` whether it is there"))
}

/// The comparison of two values. Offsets are those of the operator and of what is right of it.
pub(super) fn comparison(
    (at, operator): (usize, Operator),
    left: Node,
    (right_at, right): (usize, Node),
) -> Result<Node, ExprError> {
    let kinds = (kind(&left), kind(&right));
    if !is_possible(operator, kinds) {
        return Err(impossible(at, operator, kinds));
    }
    match (operator, &left, &right) {
        (Operator::Matches, _, Node::Literal(Json::String(text))) => {
            let pattern: Pattern = text.parse().map_err(|invalid| ExprError::of(right_at, invalid))?;
            return Ok(Node::Matches(Box::new(left), pattern.0));
        }
        (Operator::Matches, ..) => {
            return Err(ExprError::new(right_at, "the regular expression must be written here, as a text"));
        }
        (Operator::In, Node::Variable(Variable::ClientIp), Node::Literal(ranges)) => {
            return networks(right_at, ranges).map(Node::Within);
        }
        (_, Node::Variable(Variable::ClientIp), Node::Literal(Json::String(text)))
        | (_, Node::Literal(Json::String(text)), Node::Variable(Variable::ClientIp))
            if text.parse::<IpAddr>().is_err() =>
        {
            return Err(ExprError::new(at, format!("`{text}` is not an address"))
                .help("a range is asked with `in`: `client_ip in \"10.0.0.0/8\"`"));
        }
        _ => {}
    }
    Ok(Node::Compare(operator, Box::new([left, right])))
}

fn networks(at: usize, ranges: &Json) -> Result<Networks, ExprError> {
    let ranges = ranges.as_array().map_or_else(|| std::slice::from_ref(ranges), Vec::as_slice);
    let range = |json: &Json| json.as_str().unwrap_or_default().parse::<Cidr>().map(|range| range.0);
    let ranges: Result<Vec<_>, _> = ranges.iter().map(range).collect();
    Ok(Networks::new(&ranges.map_err(|invalid| ExprError::of(at, invalid))?))
}

fn kind(node: &Node) -> Kind {
    match node {
        Node::Variable(variable) => match variable {
            Variable::Claim(_) => Kind::Any,
            Variable::Roles | Variable::Permissions | Variable::Scopes => Kind::List,
            Variable::Query(_) | Variable::Header(_) | Variable::Cookie(_) => Kind::Texts,
            Variable::ClientIp => Kind::Address,
            Variable::Now => Kind::Number,
            Variable::User
            | Variable::Tenant
            | Variable::Path(_)
            | Variable::Method
            | Variable::Host
            | Variable::RequestPath
            | Variable::Scheme => Kind::Text,
        },
        Node::Literal(Json::Null) => Kind::Null,
        Node::Literal(Json::Number(_)) => Kind::Number,
        Node::Literal(Json::String(_)) => Kind::Text,
        Node::Literal(Json::Array(_)) => Kind::List,
        Node::Literal(Json::Bool(_) | Json::Object(_))
        | Node::Any(_)
        | Node::All(_)
        | Node::Not(_)
        | Node::Compare(..)
        | Node::Matches(..)
        | Node::Within(_)
        | Node::Has(_) => Kind::Truth,
    }
}

/// Whether the comparison can hold for any request (and for `!=`, whether it can fail).
fn is_possible(operator: Operator, (left, right): (Kind, Kind)) -> bool {
    use Kind::{Address, Any, List, Null, Number, Text, Texts};
    let both_may_be = |kinds: &[Kind]| kinds.contains(&left) && kinds.contains(&right);
    match operator {
        Operator::Equal | Operator::Unequal => match (left, right) {
            (Null, Null) | (List, List) => false,
            (Null, _) | (_, Null) => true,
            (List, _) | (_, List) => false,
            (Any, _) | (_, Any) => true,
            _ => left == right || both_may_be(&[Text, Texts, Address]),
        },
        Operator::Less | Operator::AtMost | Operator::Greater | Operator::AtLeast => both_may_be(&[Number, Any]),
        Operator::In if right == Text => left == Address,
        Operator::In => matches!(right, List | Any | Texts) && !matches!(left, List | Null),
        Operator::Contains if matches!(left, List | Any) => !matches!(right, List | Null),
        Operator::Contains | Operator::StartsWith | Operator::EndsWith | Operator::Matches => {
            both_may_be(&[Text, Texts, Any])
        }
    }
}

fn impossible(at: usize, operator: Operator, (left, right): (Kind, Kind)) -> ExprError {
    let signs = Operator::SIGNS.iter().chain(&Operator::WORDS);
    let sign = signs.clone().find(|(_, other)| *other == operator).map_or("", |(sign, _)| sign);
    let error = ExprError::new(at, format!("`{sign}` says nothing of {} and {}", left.name(), right.name()));
    let one_is = |kinds: &[Kind]| kinds.contains(&left) || kinds.contains(&right);
    if one_is(&[Kind::Null]) {
        error.help("`null` goes with `==` and `!=`; `has(...)` asks whether there is a value")
    } else if operator == Operator::In && right != Kind::List {
        error.help("`in` takes a list, such as `[\"a\", \"b\"]`; `contains` finds a text in a text")
    } else if one_is(&[Kind::List]) {
        error.help("a list is asked with `in`: `\"admin\" in identity.roles`")
    } else if one_is(&[Kind::Number]) && one_is(&[Kind::Text, Kind::Texts]) {
        error.help("what requests carry is text, even `\"10\"`; only claims can be numbers")
    } else {
        error
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Null => "`null`",
            Self::Truth => "a truth value",
            Self::Number => "a number",
            Self::Text | Self::Texts => "a text",
            Self::Address => "an address",
            Self::List => "a list",
            Self::Any => "a claim",
        }
    }
}
