//! JSON from outside: objects in which no name stands twice and whose values nest only so deep, because two readers of the same
//! text must not find different things in it.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Error, Map, Value};

/// An object: names and values.
pub(crate) type Object = Map<String, Value>;

/// How deep values may nest: what is asked of callers and their keys nests three or four levels.
const DEPTH: u8 = 16;

/// Reads one whole object. An error says where, and has nothing of the text.
pub(crate) fn object(text: &[u8]) -> Result<Object, Error> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Level(DEPTH).deserialize(&mut reader)?;
    reader.end()?;
    let Value::Object(object) = value else { return Err(Error::custom("this is no object")) };
    Ok(object)
}

/// Reads a value that nests at most so many levels.
#[derive(Clone, Copy)]
struct Level(u8);

impl Level {
    fn below<E: serde::de::Error>(self) -> Result<Self, E> {
        self.0.checked_sub(1).map(Self).ok_or_else(|| E::custom("values nest too deep"))
    }
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let level = self.below()?;
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(level)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let level = self.below()?;
        let mut object = Object::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(level)?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a name stands twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_as_serde_json_reads_it() {
        let text = r#"{"a":1,"b":[-2,3.5,null,true,"x\u00e9"],"c":{"d":{"e":[]}},"f":18446744073709551615}"#;
        assert_eq!(Value::Object(object(text.as_bytes()).unwrap()), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn a_name_that_stands_twice_is_refused_on_every_level_and_in_every_spelling() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":{"b":1,"b":2}}"#, r#"{"a":[{"b":1,"b":2}]}"#, r#"{"a":1,"\u0061":2}"#]
        {
            assert!(object(text.as_bytes()).unwrap_err().to_string().starts_with("a name stands twice"), "{text}");
        }
    }

    #[test]
    fn deep_values_are_refused_and_the_stack_is_safe() {
        let nested = |depth: usize| format!("{{\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(object(nested(15).as_bytes()).is_ok());
        for depth in [16, 100, 4000] {
            assert!(object(nested(depth).as_bytes()).unwrap_err().to_string().contains("too deep"), "{depth}");
        }
    }

    #[test]
    fn what_is_no_single_object_is_refused_without_repeating_it() {
        for text in ["", "[]", "\"secret\"", "1", "{} {}", "{\"a\":1e999}", "{\"a\":\"\u{1}\"}", "{'a':1}", "nul"] {
            assert!(!object(text.as_bytes()).unwrap_err().to_string().contains("secret"), "{text}");
        }
        assert!(object(b"{\"a\":\"\xff\"}").is_err());
    }
}
