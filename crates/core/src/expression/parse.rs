//! The grammar of expressions, by recursive descent without look-ahead beyond one sign or word.
//!
//! ```text
//! or         := and ("||" and)*
//! and        := not ("&&" not)*
//! not        := "!" not | comparison
//! comparison := value (operator value)?
//! value      := text | number | "true" | "false" | "null" | "[" literals "]" | "has(" variable ")" | variable | "(" or ")"
//! ```

use std::sync::Arc;

use serde_json::{Number, Value as Json};
use tidegate_config::value::closest;

use super::node::{Node, Operator};
use super::{ExprError, Variable, check};

/// Bounds the cost of an evaluation.
const LONGEST: usize = 4096;
/// How many parentheses and `!` may be open, which bounds the stack.
const DEEPEST: usize = 32;

type Parsed<T> = Result<T, ExprError>;

/// Parses a whole text.
pub(super) fn parse(source: &str) -> Parsed<Node> {
    if source.len() > LONGEST {
        return Err(ExprError::new(0, format!("an expression has at most {LONGEST} bytes, this one {}", source.len())));
    }
    let mut parser = Parser { source, at: 0, depth: 0 };
    let root = parser.either()?;
    parser.skip_space();
    if parser.rest().is_empty() { Ok(root) } else { Err(parser.left_over()) }
}

/// What names consist of, unless they stand in `["..."]`.
pub(super) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// Whether this word, or no word, is where a text, a number, a truth value or `null` begins.
fn is_literal(word: &str) -> bool {
    matches!(word, "" | "true" | "false" | "null") || word.starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

/// The ASCII characters at the start of `text` that are such.
fn leading(text: &str, is_part: fn(u8) -> bool) -> &str {
    let end = text.bytes().position(|byte| !is_part(byte));
    end.and_then(|end| text.get(..end)).unwrap_or(text)
}

struct Parser<'a> {
    source: &'a str,
    /// What lies before it is parsed.
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn either(&mut self) -> Parsed<Node> {
        self.chain("||", Self::both, Node::Any)
    }

    fn both(&mut self) -> Parsed<Node> {
        self.chain("&&", Self::negation, Node::All)
    }

    fn chain(&mut self, sign: &str, part: fn(&mut Self) -> Parsed<Node>, join: fn(Vec<Node>) -> Node) -> Parsed<Node> {
        let first = part(self)?;
        if !self.eat(sign) {
            return Ok(first);
        }
        let mut parts = vec![first];
        loop {
            parts.push(part(self)?);
            if !self.eat(sign) {
                return Ok(join(parts));
            }
        }
    }

    fn negation(&mut self) -> Parsed<Node> {
        let at = self.skip_space();
        if self.eat("!") {
            return Ok(Node::Not(Box::new(self.deeper(at, Self::negation)?)));
        }
        let condition = self.comparison()?;
        self.skip_space();
        // Before it is said that a value alone is no condition: `=` may have been meant to make it one.
        if !self.rest().is_empty() && !["&&", "||", ")"].iter().any(|sign| self.rest().starts_with(sign)) {
            return Err(self.left_over());
        }
        check::condition(at, &condition)?;
        Ok(condition)
    }

    fn comparison(&mut self) -> Parsed<Node> {
        let left = self.value()?;
        let operator_at = self.skip_space();
        let Some(operator) = self.operator() else { return Ok(left) };
        let right_at = self.skip_space();
        let right = self.value()?;
        check::comparison((operator_at, operator), left, (right_at, right))
    }

    fn operator(&mut self) -> Option<Operator> {
        let word = self.peek_word();
        let (text, operator) = match Operator::WORDS.iter().find(|(name, _)| *name == word) {
            Some(found) => found,
            None => Operator::SIGNS.iter().find(|(sign, _)| self.rest().starts_with(sign))?,
        };
        self.at += text.len();
        Some(*operator)
    }

    fn value(&mut self) -> Parsed<Node> {
        let at = self.skip_space();
        if self.take("(") {
            let inner = self.deeper(at, Self::either)?;
            self.close(")", at)?;
            return Ok(inner);
        }
        if self.take("[") {
            return Ok(Node::Literal(Json::Array(self.items(at)?)));
        }
        match self.peek_word() {
            "has" => self.has().map(Node::Has),
            word if is_literal(word) => self.literal().map(Node::Literal),
            _ => self.variable().map(Node::Variable),
        }
    }

    /// The rest of a list that began `from` there.
    fn items(&mut self, from: usize) -> Parsed<Vec<Json>> {
        let mut items = Vec::new();
        while !self.eat("]") {
            if !items.is_empty() && !self.eat(",") {
                self.close("]", from)?;
                break;
            }
            self.skip_space();
            let word = self.peek_word();
            if word == "null" || !is_literal(word) {
                return Err(ExprError::new(self.at, format!("a list cannot hold `{word}`"))
                    .help("a list holds texts in quotes, numbers, `true` and `false`; ask for others with `||`"));
            }
            items.push(self.literal()?);
        }
        Ok(items)
    }

    fn literal(&mut self) -> Parsed<Json> {
        let at = self.at;
        if let Some(quote @ ('"' | '\'')) = self.rest().chars().next() {
            return self.text(quote).map(Json::String);
        }
        let word = self.take_while(|byte| is_name_byte(byte) || matches!(byte, b'.' | b'+'));
        match word {
            "true" | "false" => Ok(Json::Bool(word == "true")),
            "null" => Ok(Json::Null),
            "" => Err(ExprError::new(at, format!("a value is missing before {}", self.found()))),
            _ => word
                .parse::<Number>()
                .map(Json::Number)
                .map_err(|_| ExprError::new(at, format!("`{word}` is not a number")).help("texts stand in quotes")),
        }
    }

    /// A text up to the quote that it began with; twice that quote is one inside the text. There are no other escapes, so that
    /// regular expressions are written as they are.
    fn text(&mut self, quote: char) -> Parsed<String> {
        let start = self.at;
        let mut text = String::new();
        self.at += 1;
        loop {
            let Some((before, _)) = self.rest().split_once(quote) else {
                return Err(ExprError::new(start, format!("the text that begins here has no {quote} at its end")));
            };
            text.push_str(before);
            self.at += before.len() + 1;
            if !self.rest().starts_with(quote) {
                return Ok(text);
            }
            text.push(quote);
            self.at += 1;
        }
    }

    fn has(&mut self) -> Parsed<Variable> {
        self.take_word();
        let at = self.skip_space();
        if !self.take("(") {
            return Err(ExprError::new(at, "a `(` is missing after `has`").help("write `has(claims.NAME)`"));
        }
        self.skip_space();
        let variable = self.variable()?;
        self.close(")", at)?;
        Ok(variable)
    }

    /// A first word, then names, without spaces between them.
    fn variable(&mut self) -> Parsed<Variable> {
        let start = self.at;
        let first = self.take_word();
        if first.is_empty() {
            return Err(ExprError::new(start, format!("a value is missing before {}", self.found())));
        }
        let mut names = Vec::new();
        while let Some(name) = self.name()? {
            names.push(name);
        }
        let written = self.source.get(start..self.at).unwrap_or_default();
        Variable::of(written, first, names).map_err(|invalid| ExprError::of(start, invalid))
    }

    /// `.NAME` or `["NAME"]`.
    fn name(&mut self) -> Parsed<Option<Arc<str>>> {
        let at = self.at;
        if self.take(".") {
            let name = self.take_word();
            if !name.is_empty() {
                return Ok(Some(name.into()));
            }
        } else if self.take("[") {
            if let Some(quote @ ('"' | '\'')) = self.rest().chars().next() {
                let name = self.text(quote)?;
                self.close("]", at)?;
                return Ok(Some(name.into()));
            }
        } else {
            return Ok(None);
        }
        Err(ExprError::new(at, format!("a name is missing before {}", self.found()))
            .help("write `claims.NAME`, or `claims[\"NAME\"]` for a name with other signs in it"))
    }

    fn deeper(&mut self, at: usize, part: fn(&mut Self) -> Parsed<Node>) -> Parsed<Node> {
        if self.depth == DEEPEST {
            return Err(ExprError::new(at, format!("parentheses and `!` are nested more than {DEEPEST} deep")));
        }
        self.depth += 1;
        let parsed = part(self);
        self.depth -= 1;
        parsed
    }

    fn rest(&self) -> &'a str {
        self.source.get(self.at..).unwrap_or_default()
    }

    /// Gives where the next thing begins.
    fn skip_space(&mut self) -> usize {
        self.at = self.source.len() - self.rest().trim_ascii_start().len();
        self.at
    }

    fn eat(&mut self, sign: &str) -> bool {
        self.skip_space();
        self.take(sign)
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = self.rest().starts_with(sign);
        if found {
            self.at += sign.len();
        }
        found
    }

    /// The end of what began `from` there.
    fn close(&mut self, sign: &str, from: usize) -> Parsed<()> {
        if self.eat(sign) {
            return Ok(());
        }
        let mut error = self.left_over();
        error.message = format!("{}: a `{sign}` is due for what began at byte {from}", error.message);
        Err(error)
    }

    /// What could be a word or a name here; may be empty.
    fn peek_word(&self) -> &'a str {
        leading(self.rest(), is_name_byte)
    }

    fn take_word(&mut self) -> &'a str {
        self.take_while(is_name_byte)
    }

    fn take_while(&mut self, is_part: fn(u8) -> bool) -> &'a str {
        let part = leading(self.rest(), is_part);
        self.at += part.len();
        part
    }

    /// What is there, for messages.
    fn found(&self) -> String {
        match (self.peek_word(), self.rest().chars().next()) {
            (_, None) => "the end".to_owned(),
            ("", Some(sign)) => format!("`{sign}`"),
            (word, _) => format!("`{word}`"),
        }
    }

    /// Something that does not go on with what is parsed.
    fn left_over(&self) -> ExprError {
        let found = self.found();
        let error = ExprError::new(self.at, format!("{found} is not expected here"));
        let words = Operator::WORDS.iter().map(|(word, _)| *word);
        match found.trim_matches('`') {
            "=" => error.help("equal is `==`"),
            "&" | "and" | "AND" => error.help("and is `&&`"),
            "|" | "or" | "OR" => error.help("or is `||`"),
            "<" | ">" | "!" => error.help("a value is compared once: write `a < b && b < c`"),
            word => match closest(word, words) {
                Some(close) => error.help(format!("did you mean `{close}`?")),
                None => error.help("after a value comes an operator such as `==` or `in`, or `&&`, `||` or the end"),
            },
        }
    }
}
