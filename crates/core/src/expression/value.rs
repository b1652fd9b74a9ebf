//! The values of expressions while they are evaluated, and how they compare. Nothing here can fail: what cannot be compared is
//! not equal and has no order.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde_json::{Number, Value as Json};

use super::node::Operator;

/// What a part of an expression comes to.
#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    /// A variable without a value.
    Absent,
    /// The word `null`.
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    Address(IpAddr),
    List(List<'a>),
    /// Several values of one name, at least two.
    Several(Vec<Cow<'a, str>>),
    /// It is there, but there is nothing that it compares with: an object, or a condition that is neither true nor false.
    Opaque,
}

/// A list where it lies.
#[derive(Debug, Clone, Copy)]
pub(super) enum List<'a> {
    Texts(&'a [Arc<str>]),
    Json(&'a [Json]),
}

impl<'a> Value<'a> {
    /// `null` in a claim is a claim that is not there.
    pub(super) fn of(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Absent,
            Json::Bool(truth) => Self::Bool(*truth),
            Json::Number(number) => Self::Number(number.clone()),
            Json::String(text) => Self::text(text),
            Json::Array(items) => Self::List(List::Json(items)),
            Json::Object(_) => Self::Opaque,
        }
    }

    pub(super) fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    pub(super) fn optional(text: Option<&'a str>) -> Self {
        text.map_or(Self::Absent, Self::text)
    }

    /// All values of one name.
    pub(super) fn all(mut values: impl Iterator<Item = Cow<'a, str>>) -> Self {
        let Some(first) = values.next() else { return Self::Absent };
        let Some(second) = values.next() else { return Self::Text(first) };
        Self::Several([first, second].into_iter().chain(values).collect())
    }

    /// Whether it is true or false; `None` if it is neither.
    pub(super) fn truth(&self) -> Option<bool> {
        if let Self::Bool(truth) = self { Some(*truth) } else { matches!(self, Self::Absent).then_some(false) }
    }

    /// Whether this is text that passes; `None` if there are several values, of which some do and some do not.
    pub(super) fn passes(&self, test: impl Fn(&str) -> bool) -> Option<bool> {
        if let Self::Several(values) = self {
            agreed(values, test)
        } else {
            Some(matches!(self, Self::Text(value) if test(value)))
        }
    }
}

impl<'a> List<'a> {
    fn any(self, mut test: impl FnMut(&Value<'a>) -> bool) -> bool {
        match self {
            Self::Texts(texts) => texts.iter().any(|text| test(&Value::text(text))),
            Self::Json(items) => items.iter().any(|item| test(&Value::of(item))),
        }
    }
}

/// What the operator says of the two; `None` if there are several values, and not the same is to be said of each.
pub(super) fn compare(operator: Operator, left: &Value<'_>, right: &Value<'_>) -> Option<bool> {
    match (left, right) {
        (Value::Several(_), Value::Several(_)) => None,
        (Value::Several(texts), _) => agreed(texts, |text| compare_one(operator, &Value::text(text), right)),
        (_, Value::Several(texts)) if operator == Operator::In => {
            Some(texts.iter().any(|text| is_in(left, &Value::text(text))))
        }
        (_, Value::Several(texts)) => agreed(texts, |text| compare_one(operator, left, &Value::text(text))),
        _ => Some(compare_one(operator, left, right)),
    }
}

/// What is true of every text. Where they differ, nobody knows which of them a service looks at: then neither what is asked nor its
/// negation may hold.
fn agreed(texts: &[Cow<'_, str>], test: impl Fn(&str) -> bool) -> Option<bool> {
    let passed = texts.iter().filter(|text| test(text)).count();
    (passed == 0 || passed == texts.len()).then_some(passed > 0)
}

fn compare_one(operator: Operator, left: &Value<'_>, right: &Value<'_>) -> bool {
    let order = || order(left, right);
    match operator {
        Operator::Equal => equal(left, right),
        Operator::Unequal => !equal(left, right),
        Operator::Less => order() == Some(Ordering::Less),
        Operator::AtMost => order().is_some_and(Ordering::is_le),
        Operator::Greater => order() == Some(Ordering::Greater),
        Operator::AtLeast => order().is_some_and(Ordering::is_ge),
        Operator::In => is_in(left, right),
        Operator::Contains => {
            if let Value::List(list) = left {
                list.any(|item| equal(item, right))
            } else {
                texts(left, right, |text, part| text.contains(part))
            }
        }
        Operator::StartsWith => texts(left, right, |text, part| text.starts_with(part)),
        Operator::EndsWith => texts(left, right, |text, part| text.ends_with(part)),
        // Parsing makes a node of its own of it.
        Operator::Matches => false,
    }
}

fn equal(left: &Value<'_>, right: &Value<'_>) -> bool {
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => left == right,
        (Value::Null, Value::Null | Value::Absent) | (Value::Absent, Value::Null) => true,
        (Value::Bool(left), Value::Bool(right)) => left == right,
        (Value::Address(left), Value::Address(right)) => left == right,
        (Value::Address(address), Value::Text(text)) | (Value::Text(text), Value::Address(address)) => {
            text.parse::<IpAddr>().is_ok_and(|other| other.to_canonical() == *address)
        }
        _ => order(left, right) == Some(Ordering::Equal),
    }
}

/// Whole numbers compare exactly, others as floating-point numbers of 64 bits.
fn order(left: &Value<'_>, right: &Value<'_>) -> Option<Ordering> {
    let (Value::Number(left), Value::Number(right)) = (left, right) else { return None };
    match (left.as_i128(), right.as_i128()) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
}

/// A single value is a list of one.
fn is_in(value: &Value<'_>, list: &Value<'_>) -> bool {
    if let Value::List(list) = list { list.any(|item| is_one_of(value, item)) } else { is_one_of(value, list) }
}

/// To an address, every item may be a range.
fn is_one_of(value: &Value<'_>, item: &Value<'_>) -> bool {
    let range = match (value, item) {
        (Value::Address(address), Value::Text(text)) => text.parse::<IpNet>().ok().map(|range| (address, range)),
        _ => None,
    };
    range.map_or_else(|| equal(value, item), |(address, range)| range.contains(address))
}

fn texts(left: &Value<'_>, right: &Value<'_>, test: impl Fn(&str, &str) -> bool) -> bool {
    matches!((left, right), (Value::Text(left), Value::Text(right)) if test(left, right))
}
