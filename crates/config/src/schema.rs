//! The JSON Schema of the file, for editors, and the same knowledge for environment names and advice.

use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use crate::file::File;
use crate::later;
use crate::problem::Path;

/// The JSON Schema (2020-12) of a configuration file, for editors.
pub fn schema() -> Value {
    let mut schema = raw().clone();
    loosen(&mut schema);
    for (definition, keys) in later::BY_DEFINITION {
        let object = match definition {
            "" => Some(&mut schema),
            name => schema.get_mut("$defs").and_then(|definitions| definitions.get_mut(name)),
        };
        let properties = object.and_then(|object| object.get_mut("properties")).and_then(Value::as_object_mut);
        if let Some(properties) = properties {
            add_later(properties, keys);
        }
    }
    if let Some(root) = schema.as_object_mut() {
        root.insert("$id".to_owned(), json!("https://tidegate.dev/tidegate.schema.json"));
        root.insert("title".to_owned(), json!("Tidegate configuration"));
        root.insert("patternProperties".to_owned(), json!({ "^x-": { "description": "Free, for YAML anchors." } }));
    }
    schema
}

/// Keys of features to come may say that they are off.
fn add_later(properties: &mut Map<String, Value>, keys: &[&str]) {
    for key in keys {
        let mut values = vec![json!(null), json!("off"), json!(false)];
        if *key == "auth" {
            values.push(json!("none"));
        }
        properties.insert((*key).to_owned(), json!({ "description": "Not supported yet.", "enum": values }));
    }
}

/// As derived from the structs.
pub(crate) fn raw() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| schemars::schema_for!(File).to_value())
}

/// Says what YAML users may write besides the plain shapes: `off` and nothing for what is optional, a scalar for a list of one, `${...}` for
/// numbers.
fn loosen(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(loosen),
        Value::Object(object) => {
            object.values_mut().for_each(loosen);
            loosen_types(object);
            loosen_words(object);
            loosen_null(object);
            loosen_object(object);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn loosen_null(object: &mut Map<String, Value>) {
    if object.get("type") == Some(&json!("null")) {
        object.remove("type");
        object.insert("enum".to_owned(), json!([null, "off", false]));
    }
}

/// A word may come from a variable.
fn loosen_words(object: &mut Map<String, Value>) {
    let variable = json!({ "type": "string", "pattern": "\\$\\{" });
    if let Some(Value::Array(mut words)) = object.remove("oneOf") {
        words.push(variable);
        object.insert("anyOf".to_owned(), Value::Array(words));
    } else if object.get("type") == Some(&json!("string"))
        && let Some(words) = object.remove("enum")
    {
        object.remove("type");
        object.insert("anyOf".to_owned(), json!([{ "enum": words }, variable]));
    }
}

/// `on` is an optional object with its defaults.
fn loosen_object(object: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = object.get_mut("anyOf") else { return };
    let is_object = |choice: &Value| {
        let name = choice.get("$ref").and_then(Value::as_str).and_then(|name| name.rsplit('/').next());
        let definition = name.and_then(|name| raw().get("$defs")?.get(name));
        definition.is_some_and(|definition| definition.get("type") == Some(&json!("object")))
    };
    if choices.iter().any(is_object) {
        choices.push(json!({ "enum": ["on", true] }));
    }
}

fn loosen_types(object: &mut Map<String, Value>) {
    let types = match object.get("type") {
        Some(Value::Array(types)) => types.clone(),
        Some(single @ Value::String(_)) => vec![single.clone()],
        _ => return,
    };
    let has = |name: &str| types.iter().any(|kind| kind == name);
    let mut choices = Vec::new();
    if has("integer") || has("number") || has("boolean") {
        choices.push(json!({ "type": "string", "pattern": "^(on|off)$|\\$\\{" }));
    }
    if has("array") && !has("object") {
        let items = object.get("items").cloned().unwrap_or(json!(true));
        choices.push(items);
        choices.push(json!({ "enum": ["off", false] }));
    }
    if types.len() > 1 && has("null") {
        choices.push(json!({ "enum": [null, "off", false] }));
    }
    if choices.is_empty() {
        return;
    }
    let kept: Vec<Value> = types.into_iter().filter(|kind| kind != "null").collect();
    let mut inner = Map::new();
    let outer = ["description", "default", "examples", "title"];
    for key in object.keys().cloned().collect::<Vec<_>>() {
        if !outer.contains(&key.as_str())
            && let Some(value) = object.remove(&key)
        {
            inner.insert(key, value);
        }
    }
    let kind = if let [one] = kept.as_slice() { one.clone() } else { Value::Array(kept) };
    inner.insert("type".to_owned(), kind);
    choices.insert(0, Value::Object(inner));
    object.insert("anyOf".to_owned(), Value::Array(choices));
}

/// What is known about keys beyond the structs.
pub(crate) struct KnownKeys;

impl crate::de::Keys for KnownKeys {
    fn later(&self, path: &Path) -> &'static [&'static str] {
        later::keys_of(path)
    }

    fn elsewhere(&self, key: &str) -> Option<String> {
        let mut places = Vec::new();
        find_key(raw(), key, "", 0, &mut places);
        places
            .sort_by_key(|place: &String| (place.starts_with("defaults") || place.starts_with("bundles"), place.len()));
        places.into_iter().next()
    }
}

/// The paths of objects that have a key of that name.
fn find_key(schema: &Value, key: &str, place: &str, depth: usize, places: &mut Vec<String>) {
    if depth > 16 {
        return;
    }
    if let Some(name) = schema.get("$ref").and_then(Value::as_str).and_then(|name| name.rsplit('/').next()) {
        if let Some(target) = raw().get("$defs").and_then(|defs| defs.get(name)) {
            find_key(target, key, place, depth + 1, places);
        }
        return;
    }
    for choice in schema.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
        find_key(choice, key, place, depth + 1, places);
    }
    if let Some(items) = schema.get("items") {
        find_key(items, key, &format!("{place}[]"), depth + 1, places);
    }
    if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
        find_key(values, key, &format!("{place}.NAME"), depth + 1, places);
    }
    for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if name == key && !place.is_empty() {
            places.push(place.to_owned());
        }
        let inner_place = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
        find_key(inner, key, &inner_place, depth + 1, places);
    }
}
