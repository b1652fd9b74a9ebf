//! Conditions that operators write, such as `identity.tenant == path.tenant`: parsed and checked when the configuration is loaded,
//! and then evaluated without being able to fail. The language has no loops and no functions of its users.
//!
//! What it means, in short (all of it is in `docs/expressions.md`):
//!
//! - A condition holds if it is exactly `true`. A variable by itself is asked whether it is `true`. If it has no value, that is
//!   `false`; if it is neither `true` nor `false`, then neither the condition nor its negation holds.
//! - What is not there has no value. It equals the word `null` and nothing else, not even another variable without one.
//! - Values of different types are not equal and have no order. Only numbers have an order.
//! - `in` asks whether a list has a value, or a range of addresses an address; a single value is a list of one. `contains` asks
//!   the same the other way round, and whether a text is a part of another one.
//! - A header, query parameter or cookie may have several values. A comparison must then hold for each of them, because nobody
//!   knows which of them a service will look at, except that on the right of `in` they are a list. If it holds for some alone, or if
//!   both sides have several values, then neither the comparison nor its negation holds.

mod check;
mod node;
mod parse;
mod value;
mod variable;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tidegate_config::value::{Invalid, PathPattern};

use self::node::Node;
pub use self::variable::Variable;
use crate::exchange::Exchange;

/// A condition about a request and whoever sent it.
#[derive(Debug, Clone)]
pub struct Expression {
    root: Node,
    source: Arc<str>,
}

/// What a condition is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The request, and who sent it.
    pub exchange: &'a Exchange,
    /// The path condition of the request's route.
    pub pattern: &'a PathPattern,
    /// The wall time, since 1970.
    pub now: Duration,
}

/// Why a text is not an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExprError {
    /// Where in the text, in bytes.
    pub at: usize,
    /// What is wrong, in plain words.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Expression {
    /// Parses a text of up to 4 KB and checks that no part of it is in vain: a comparison that could never hold, a regular
    /// expression or range of addresses that is none, a variable that does not exist.
    pub fn parse(text: &str) -> Result<Self, ExprError> {
        Ok(Self { root: parse::parse(text)?, source: text.into() })
    }

    /// Whether the condition is exactly `true`.
    pub fn holds(&self, scope: &Scope<'_>) -> bool {
        self.root.truth(scope) == Some(true)
    }

    /// The variables in the order written, as often as they are.
    pub fn variables(&self) -> Vec<&Variable> {
        let mut found = Vec::new();
        self.root.variables(&mut found);
        found
    }
}

/// As written.
impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// The same text means the same.
impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Expression {}

impl ExprError {
    fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into(), help: None }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    fn of(at: usize, invalid: Invalid) -> Self {
        Self { at, message: invalid.message, help: invalid.help }
    }
}

impl fmt::Display for ExprError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {} of the expression)", self.message, self.at)
    }
}

impl std::error::Error for ExprError {}

impl From<ExprError> for Invalid {
    fn from(error: ExprError) -> Self {
        Self { message: error.to_string(), help: error.help }
    }
}
