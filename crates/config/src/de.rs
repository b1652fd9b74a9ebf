//! serde over the tree. An error knows the path of its value and what kind of mistake it is, and [`read`] goes on after
//! one: it takes the wrong piece out of a copy and tries again, so that one run reports them all.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::{self, Display};

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use crate::problem::{Part, Path, Problem, Problems, Segment};
use crate::tree::{Entry, Map, Node, Scalar, Value, switch};
use crate::value::closest;

/// What a struct is to who writes YAML.
const MAPPING: &str = "a mapping of keys to values";

/// How many mistakes of one object are reported.
const MAX_PROBLEMS: usize = 100;

/// What is known about keys besides the structs: which ones policies read, which ones belong to later versions, and where a key
/// would belong.
pub(crate) trait Keys {
    /// Keys of this object that policies read.
    fn words(&self, object: &Path) -> Vec<&'static str>;
    /// Keys of this object that a later version will know.
    fn later(&self, object: &Path) -> &'static [&'static str];
    /// Where else a key of this name belongs, in words.
    fn elsewhere(&self, key: &str) -> Option<String>;
}

/// Deserialises `node`, which stands at `path`. `None` when nothing could be made of it. `excused` collects the paths of values that
/// were taken out or misspelt, so that nobody reports them as missing.
pub(crate) fn read<T: DeserializeOwned>(
    node: &Node,
    path: &Path,
    keys: &dyn Keys,
    problems: &mut Problems,
    excused: &mut BTreeSet<Path>,
) -> Option<T> {
    let mut scratch: Option<Node> = None;
    for _ in 0..MAX_PROBLEMS {
        let current = scratch.as_ref().unwrap_or(node);
        let error = match T::deserialize(Deserializer { node: current, path: path.clone() }) {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let at = error.path.clone().unwrap_or_else(|| path.clone());
        problems.push(error.into_problem(&at, keys, excused));
        excused.insert(at.clone());
        let inner = at.segments().get(path.segments().len()..).unwrap_or_default();
        let mut copy = scratch.take().unwrap_or_else(|| node.clone());
        if inner.is_empty() || !remove(&mut copy, inner) {
            return None;
        }
        scratch = Some(copy);
    }
    None
}

/// Takes the value out. In a list it leaves a hole, so that the others keep their numbers.
fn remove(node: &mut Node, segments: &[Segment]) -> bool {
    let Some((last, parents)) = segments.split_last() else { return false };
    let Some(parent) = node.find_mut(parents) else { return false };
    match (last, &mut parent.value) {
        (Segment::Key(key), Value::Map(map)) => map.remove(key).is_some(),
        (Segment::Index(index), Value::List(items)) => match items.get_mut(*index) {
            Some(item) if !item.is_hole() => {
                item.value = Value::Map(Map::default());
                item.origin = crate::tree::Origin::Default;
                item.secret = true;
                true
            }
            _ => false,
        },
        _ => false,
    }
}

impl Node {
    /// What [`remove`] leaves in a list: lists of the reader pass over it.
    fn is_hole(&self) -> bool {
        self.secret && self.origin == crate::tree::Origin::Default && self.as_map().is_some_and(|map| map.0.is_empty())
    }
}

/// A mistake, found while a value was read.
#[derive(Debug)]
pub(crate) struct Error {
    path: Option<Path>,
    part: Part,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    UnknownKey { key: String, known: &'static [&'static str] },
    UnknownWord { word: String, known: &'static [&'static str] },
    MissingKey(&'static str),
    Other { message: String, help: Option<String> },
}

impl Error {
    fn new(message: impl Into<String>) -> Self {
        Self { path: None, part: Part::Value, kind: Kind::Other { message: message.into(), help: None } }
    }

    fn help(mut self, text: impl Into<String>) -> Self {
        if let Kind::Other { help, .. } = &mut self.kind {
            *help = Some(text.into());
        }
        self
    }

    /// The innermost place wins.
    fn at(mut self, path: &Path) -> Self {
        self.path.get_or_insert_with(|| path.clone());
        self
    }

    fn on_key(mut self, path: &Path) -> Self {
        if self.path.is_none() {
            self.part = Part::Key;
        }
        self.at(path)
    }

    /// A secret's text must not show up in what is said about it.
    fn without_value(self, secret: bool) -> Self {
        if !secret || self.path.is_some() {
            return self;
        }
        Self::new("the secret value is not valid here")
    }

    fn into_problem(self, path: &Path, keys: &dyn Keys, excused: &mut BTreeSet<Path>) -> Problem {
        let problem = match self.kind {
            Kind::UnknownKey { key, known } => unknown_key(path, &key, known, keys, excused),
            Kind::UnknownWord { word, known } => {
                let problem = Problem::error(path.clone(), format!("`{word}` is none of {}", one_of(known)));
                match closest(&word, known.iter().copied()) {
                    Some(close) => problem.help(format!("did you mean `{close}`?")),
                    None => problem,
                }
            }
            Kind::MissingKey(key) => Problem::error(path.clone(), format!("`{key}` is missing")),
            Kind::Other { message, help } => Problem { help, ..Problem::error(path.clone(), message) },
        };
        Problem { part: self.part, ..problem }
    }
}

fn unknown_key(
    path: &Path,
    key: &str,
    known: &[&'static str],
    keys: &dyn Keys,
    excused: &mut BTreeSet<Path>,
) -> Problem {
    let object = path.parent();
    let known: Vec<&str> = known.iter().copied().chain(keys.words(&object)).collect();
    let candidates = known.iter().chain(keys.later(&object)).copied();
    if let Some(close) = closest(key, candidates.clone()).or_else(|| translated(key, candidates)) {
        excused.insert(object.join(close));
        return Problem::error(path.clone(), format!("unknown key `{key}`, did you mean `{close}`?"));
    }
    let problem = Problem::error(path.clone(), format!("unknown key `{key}`"));
    match keys.elsewhere(key) {
        Some(place) => problem.help(format!("`{key}` belongs in `{place}`")),
        None if known.is_empty() => problem.help("there are no keys here"),
        None => problem.help(format!("the keys here are {}", list(&known))),
    }
}

/// Words of other gateways, and ours for them.
const ELSEWHERE: [(&str, &str); 15] = [
    ("server_name", "host"),
    ("location", "path_prefix"),
    ("prefix", "path_prefix"),
    ("uri", "path"),
    ("uris", "path"),
    ("proxy_pass", "service"),
    ("upstream", "service"),
    ("backend", "service"),
    ("cluster", "service"),
    ("servers", "endpoints"),
    ("targets", "endpoints"),
    ("address", "url"),
    ("listen", "port"),
    ("middlewares", "use"),
    ("plugins", "use"),
];

/// The key of these that means what `key` means elsewhere.
fn translated<'k>(key: &str, mut known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let (_, ours) = ELSEWHERE.iter().find(|(theirs, _)| theirs.eq_ignore_ascii_case(key))?;
    known.find(|known| known == ours)
}

fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn one_of(words: &[&str]) -> String {
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and `{last}`", list(rest)),
        _ => list(words),
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::UnknownKey { key, .. } => write!(f, "unknown key `{key}`"),
            Kind::UnknownWord { word, .. } => write!(f, "unknown word `{word}`"),
            Kind::MissingKey(key) => write!(f, "`{key}` is missing"),
            Kind::Other { message, .. } => f.write_str(message),
        }
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    /// A NUL parts the message from its help: see `value::into_serde`.
    fn custom<T: Display>(text: T) -> Self {
        let text = text.to_string();
        match text.split_once('\0') {
            Some((message, help)) => Self::new(message).help(help),
            None => Self::new(text),
        }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = expected.to_string();
        let expected = if expected.starts_with("struct ") { MAPPING } else { &expected };
        Self::new(format!("expected {expected}, found {}", in_words(found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        Self { path: None, part: Part::Value, kind: Kind::UnknownWord { word: word.to_owned(), known } }
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self { path: None, part: Part::Key, kind: Kind::UnknownKey { key: key.to_owned(), known } }
    }

    fn missing_field(key: &'static str) -> Self {
        Self { path: None, part: Part::Key, kind: Kind::MissingKey(key) }
    }
}

fn in_words(found: Unexpected<'_>) -> Cow<'static, str> {
    match found {
        Unexpected::Bool(value) => format!("`{value}`").into(),
        Unexpected::Unsigned(number) => format!("the number {number}").into(),
        Unexpected::Signed(number) => format!("the number {number}").into(),
        Unexpected::Float(number) => format!("the number {number}").into(),
        Unexpected::Str(text) => format!("`{text}`").into(),
        Unexpected::Map => "a mapping".into(),
        Unexpected::Seq => "a list".into(),
        Unexpected::Unit | Unexpected::Option => "nothing".into(),
        Unexpected::Char(_)
        | Unexpected::Bytes(_)
        | Unexpected::NewtypeStruct
        | Unexpected::Enum
        | Unexpected::UnitVariant
        | Unexpected::NewtypeVariant
        | Unexpected::TupleVariant
        | Unexpected::StructVariant
        | Unexpected::Other(_) => found.to_string().into(),
    }
}

#[derive(Clone)]
struct Deserializer<'a> {
    node: &'a Node,
    path: Path,
}

impl<'a> Deserializer<'a> {
    fn found(&self) -> Cow<'static, str> {
        match &self.node.value {
            _ if self.node.secret => "a secret value".into(),
            Value::Null => "nothing".into(),
            Value::Scalar(scalar) if scalar.plain && is_number(&scalar.text) => {
                format!("the number {}", scalar.text).into()
            }
            Value::Scalar(scalar) => format!("`{}`", scalar.text).into(),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a mapping".into(),
        }
    }

    fn expected(&self, what: &str) -> Error {
        Error::new(format!("expected {what}, found {}", self.found())).at(&self.path)
    }

    fn scalar(&self, what: &str) -> Result<&'a Scalar, Error> {
        match &self.node.value {
            Value::Scalar(scalar) => Ok(scalar),
            Value::Null | Value::List(_) | Value::Map(_) => Err(self.expected(what)),
        }
    }

    /// Runs the visitor; what it finds wrong is wrong with this node.
    fn located<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        result.map_err(|error| error.without_value(self.node.secret).at(&self.path))
    }

    fn whole_number<'de, V: Visitor<'de>>(self, range: (i128, i128), visitor: V) -> Result<V::Value, Error> {
        let (min, max) = range;
        let written = self.node.as_text().and_then(parse_integer);
        let what = || match (min, max) {
            // Whoever comes near the end of these is told of it, and nobody else.
            (0, max) if max >= i128::from(u32::MAX) && written.is_none_or(|number| number <= max) => {
                "a whole number from 0".to_owned()
            }
            (min, max) => format!("a number from {min} to {max}"),
        };
        self.scalar(&what())?;
        let number = written.filter(|number| (min..=max).contains(number));
        match number.map(|number| (u64::try_from(number), i64::try_from(number))) {
            Some((Ok(number), _)) => self.located(visitor.visit_u64(number)),
            Some((_, Ok(number))) => self.located(visitor.visit_i64(number)),
            _ => Err(self.expected(&what())),
        }
    }

    fn list<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let items = match &self.node.value {
            Value::List(items) => items.as_slice(),
            Value::Null => &[],
            Value::Scalar(_) if self.node.is_off() => &[],
            Value::Scalar(_) => std::slice::from_ref(self.node),
            Value::Map(_) => {
                return Err(self.expected("a list").help("begin each item with `- `, or write the list in brackets"));
            }
        };
        let whole = matches!(self.node.value, Value::List(_));
        let access = Items { rest: items.iter().enumerate(), path: &self.path, whole };
        self.located(visitor.visit_seq(access))
    }

    fn map<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let entries = match &self.node.value {
            Value::Map(map) => map.0.as_slice(),
            Value::Null => &[],
            Value::Scalar(_) if self.node.is_on() => &[],
            Value::Scalar(_) | Value::List(_) => return Err(self.expected(MAPPING)),
        };
        let access = Entries { rest: entries.iter(), current: None, path: &self.path };
        self.located(visitor.visit_map(access))
    }
}

/// Decimal, `0x` and `0o`, as the core schema of YAML 1.2 has it.
fn parse_integer(text: &str) -> Option<i128> {
    if let Some(digits) = text.strip_prefix("0x") {
        return i128::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with(['+', '-']));
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return i128::from_str_radix(digits, 8).ok().filter(|_| !digits.starts_with(['+', '-']));
    }
    text.parse().ok()
}

fn is_number(text: &str) -> bool {
    parse_integer(text).is_some() || parse_float(text).is_some()
}

fn parse_float(text: &str) -> Option<f64> {
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E'));
    text.parse().ok().filter(|_| numeric && text.bytes().any(|b| b.is_ascii_digit()))
}

macro_rules! whole_numbers {
    ($($method:ident $type:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.whole_number((i128::from(<$type>::MIN), i128::from(<$type>::MAX)), visitor)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Deserializer<'_> {
    type Error = Error;

    whole_numbers!(
        deserialize_u8 u8, deserialize_u16 u16, deserialize_u32 u32, deserialize_u64 u64,
        deserialize_i8 i8, deserialize_i16 i16, deserialize_i32 i32, deserialize_i64 i64
    );

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let scalar = match &self.node.value {
            Value::Null => return self.located(visitor.visit_unit()),
            Value::List(_) => return self.list(visitor),
            Value::Map(_) => return self.map(visitor),
            Value::Scalar(scalar) => scalar,
        };
        let text = &*scalar.text;
        let result = match text {
            _ if !scalar.plain => visitor.visit_str(text),
            "true" | "True" | "TRUE" => visitor.visit_bool(true),
            "false" | "False" | "FALSE" => visitor.visit_bool(false),
            _ => match (parse_integer(text).map(i64::try_from), parse_float(text)) {
                (Some(Ok(number)), _) => visitor.visit_i64(number),
                (_, Some(number)) => visitor.visit_f64(number),
                _ => visitor.visit_str(text),
            },
        };
        self.located(result)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let scalar = self.scalar("`on` or `off`")?;
        match switch(&scalar.text) {
            Some(value) => self.located(visitor.visit_bool(value)),
            None => Err(self.expected("`on` or `off`")),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let scalar = self.scalar("a number")?;
        match parse_float(&scalar.text) {
            Some(number) => self.located(visitor.visit_f64(number)),
            None => Err(self.expected("a number")),
        }
    }

    /// A text as written: `1.10` stays `1.10`. What is no scalar goes to the visitor, which may know a longer form.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Scalar(scalar) => self.located(visitor.visit_str(&scalar.text)),
            Value::Null => self.located(visitor.visit_unit()),
            Value::List(_) => self.list(visitor),
            Value::Map(_) => self.map(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    /// Nothing, `off` and `false` are none.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.node.is_null() || self.node.is_off() {
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.list(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.map(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let scalar = self.scalar(&format!("one of {}", list(words)))?;
        let text: StrDeserializer<'_, Error> = (*scalar.text).into_deserializer();
        self.located(visitor.visit_enum(text))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        f32 char bytes byte_buf unit unit_struct tuple tuple_struct identifier i128 u128
    }
}

struct Items<'a> {
    rest: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
    path: &'a Path,
    /// Not a scalar that stands for a list of one, which keeps its own path.
    whole: bool,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some((index, node)) = self.rest.find(|(_, node)| !node.is_hole()) else { return Ok(None) };
        let path = if self.whole { self.path.index(index) } else { self.path.clone() };
        seed.deserialize(Deserializer { node, path: path.clone() }).map(Some).map_err(|error| error.at(&path))
    }
}

struct Entries<'a> {
    rest: std::slice::Iter<'a, Entry>,
    current: Option<&'a Entry>,
    path: &'a Path,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.current = self.rest.next();
        let Some(entry) = self.current else { return Ok(None) };
        let key: StrDeserializer<'_, Error> = (*entry.key).into_deserializer();
        seed.deserialize(key).map(Some).map_err(|error| error.on_key(&self.path.join(&entry.key)))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some(entry) = self.current.take() else { return Err(Error::new("a value without its key")) };
        let path = self.path.join(&entry.key);
        seed.deserialize(Deserializer { node: &entry.node, path: path.clone() }).map_err(|error| error.at(&path))
    }
}
