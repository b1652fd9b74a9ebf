//! The JSON Schema of the file, for editors, and the same knowledge for environment names and advice.

use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};

use crate::file::File;
use crate::later;
use crate::policy::{Place, Word};
use crate::problem::Path;
use crate::vocabulary::Vocabulary;

/// The JSON Schema (2020-12) of a configuration file, for editors.
pub fn schema(vocabulary: &'static Vocabulary) -> Value {
    let mut schema = vocabulary.raw().clone();
    loosen(&mut schema, vocabulary);
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
        let nothing = json!({ "description": "Not supported yet.", "enum": [null, "off", false] });
        properties.insert((*key).to_owned(), nothing);
    }
}

/// As derived from the structs, with these words.
pub(crate) fn raw(words: &[Word]) -> Value {
    let mut generator = SchemaGenerator::default();
    let values: Vec<Value> = words.iter().map(|word| (word.schema)(&mut generator).to_value()).collect();
    let mut root = generator.into_root_schema_for::<File>().to_value();
    for (word, value) in words.iter().zip(values) {
        let property = property(&mut root, word, value);
        let objects: &[&str] = match word.place {
            Place::Top => &["/properties"],
            Place::Route => &["/$defs/RouteFile/properties", "/$defs/PoliciesFile/properties"],
        };
        for object in objects {
            if let Some(properties) = root.pointer_mut(object).and_then(Value::as_object_mut) {
                properties.insert(word.key.to_owned(), property.clone());
            }
        }
    }
    root
}

/// What may stand at a word's place: its value, its short form, or nothing. In a mapping of names the short form is taught to the
/// names too.
fn property(root: &mut Value, word: &Word, mut value: Value) -> Value {
    let description = definition(root, &value).get("description").cloned();
    let names = definition(root, &value).get("additionalProperties").filter(|names| names.is_object()).cloned();
    let object = names.as_ref().unwrap_or(&value);
    let short = word.short.and_then(|short| key_of(root, object, short)).cloned().map(undescribed);
    if let (Some(short), Some(names)) = (&short, names) {
        let name = value.get("$ref").and_then(Value::as_str).map(|name| name.trim_start_matches('#').to_owned());
        let object = name.and_then(|name| root.pointer_mut(&name)).unwrap_or(&mut value);
        if let Some(object) = object.as_object_mut() {
            object.insert("additionalProperties".to_owned(), with_form(names, short));
        }
    }
    let choices: Vec<Value> = short.into_iter().chain([value, json!({ "type": "null" })]).collect();
    let mut property = json!({ "anyOf": choices });
    if let (Some(description), Some(property)) = (description, property.as_object_mut()) {
        property.insert("description".to_owned(), description);
    }
    property
}

/// A schema past its reference.
fn definition<'v>(root: &'v Value, schema: &'v Value) -> &'v Value {
    let name = schema.get("$ref").and_then(Value::as_str).map(|name| name.trim_start_matches('#'));
    name.map_or(schema, |name| root.pointer(name).unwrap_or(&Value::Null))
}

/// The schema of a key, in one of the forms that an object may have.
fn key_of<'v>(root: &'v Value, object: &'v Value, key: &str) -> Option<&'v Value> {
    let object = definition(root, object);
    let own = object.get("properties").and_then(|properties| properties.get(key));
    let forms = object.get("anyOf").and_then(Value::as_array);
    own.or_else(|| forms?.iter().find_map(|form| key_of(root, form, key)))
}

/// A schema with one more form, unless it has it: two words may share a struct.
fn with_form(schema: Value, form: &Value) -> Value {
    let mut forms = match schema.get("anyOf") {
        Some(Value::Array(forms)) => forms.clone(),
        _ => vec![schema],
    };
    if !forms.contains(form) {
        forms.insert(0, form.clone());
    }
    json!({ "anyOf": forms })
}

fn undescribed(mut schema: Value) -> Value {
    if let Some(schema) = schema.as_object_mut() {
        schema.remove("description");
    }
    schema
}

/// Says what YAML users may write besides the plain shapes: `off` and nothing for what is optional, a scalar for a list of one, `${...}` for
/// numbers.
fn loosen(schema: &mut Value, vocabulary: &'static Vocabulary) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| loosen(item, vocabulary)),
        Value::Object(object) => {
            object.values_mut().for_each(|value| loosen(value, vocabulary));
            loosen_types(object);
            loosen_words(object);
            loosen_null(object);
            loosen_object(object, vocabulary);
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
fn loosen_object(object: &mut Map<String, Value>, vocabulary: &'static Vocabulary) {
    let Some(Value::Array(choices)) = object.get_mut("anyOf") else { return };
    let is_object = |choice: &Value| {
        choice.get("$ref").is_some() && definition(vocabulary.raw(), choice).get("type") == Some(&json!("object"))
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
pub(crate) struct KnownKeys(pub &'static Vocabulary);

impl crate::de::Keys for KnownKeys {
    fn words(&self, object: &Path) -> Vec<&'static str> {
        self.0.keys_of(object).collect()
    }

    fn later(&self, object: &Path) -> &'static [&'static str] {
        later::keys_of(object)
    }

    fn elsewhere(&self, key: &str) -> Option<String> {
        let mut places = Vec::new();
        find_key((self.0.raw(), self.0.raw()), key, "", 0, &mut places);
        places
            .sort_by_key(|place: &String| (place.starts_with("defaults") || place.starts_with("bundles"), place.len()));
        places.into_iter().next()
    }
}

/// The paths of objects that have a key of that name.
fn find_key((root, schema): (&Value, &Value), key: &str, place: &str, depth: usize, places: &mut Vec<String>) {
    if depth > 16 {
        return;
    }
    let schema = definition(root, schema);
    for choice in schema.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
        find_key((root, choice), key, place, depth + 1, places);
    }
    if let Some(items) = schema.get("items") {
        find_key((root, items), key, &format!("{place}[]"), depth + 1, places);
    }
    if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
        find_key((root, values), key, &format!("{place}.NAME"), depth + 1, places);
    }
    for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if name == key && !place.is_empty() {
            places.push(place.to_owned());
        }
        let inner_place = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
        find_key((root, inner), key, &inner_place, depth + 1, places);
    }
}

/// A schema, as far as the names of what it describes are concerned.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    schema: &'static Value,
    root: &'static Value,
}

impl Shape {
    /// Of the whole file.
    pub(crate) fn root(vocabulary: &'static Vocabulary) -> Self {
        Self { schema: vocabulary.raw(), root: vocabulary.raw() }
    }

    /// What a word may be.
    pub(crate) fn word(self, place: Place, key: &str) -> Option<Self> {
        let object = match place {
            Place::Top => self.root,
            Place::Route => self.root.pointer("/$defs/RouteFile")?,
        };
        object.get("properties")?.get(key).map(|schema| self.of(schema))
    }

    pub(crate) fn properties(self) -> Vec<(&'static str, Self)> {
        let properties =
            self.choices().into_iter().filter_map(|choice| choice.get("properties")?.as_object()).flatten();
        properties.map(|(key, schema)| (key.as_str(), self.of(schema))).collect()
    }

    /// What the values of a mapping of names are.
    pub(crate) fn named(self) -> Option<Self> {
        let mut choices = self.choices().into_iter();
        let schema = choices.find_map(|choice| choice.get("additionalProperties").filter(|schema| schema.is_object()));
        schema.map(|schema| self.of(schema))
    }

    pub(crate) fn is_object(self) -> bool {
        self.is_type("object")
    }

    pub(crate) fn is_text(self) -> bool {
        self.is_type("string")
    }

    pub(crate) fn is_list(self) -> bool {
        self.is_type("array")
    }

    pub(crate) fn is_list_of_objects(self) -> bool {
        let items = |choice: &'static Value| choice.get("items").is_some_and(|items| self.of(items).is_object());
        self.is_list() && self.choices().into_iter().any(items)
    }

    fn of(self, schema: &'static Value) -> Self {
        Self { schema, ..self }
    }

    /// What may stand there, past references; nothing aside.
    fn choices(self) -> Vec<&'static Value> {
        let schema = definition(self.root, self.schema);
        let Some(Value::Array(choices)) = schema.get("anyOf") else { return vec![schema] };
        let useful = |choice: &&'static Value| choice.get("type").and_then(Value::as_str) != Some("null");
        choices.iter().filter(useful).flat_map(|choice| self.of(choice).choices()).collect()
    }

    /// Whether it can be nothing else.
    fn is_type(self, name: &str) -> bool {
        let choices = self.choices();
        let fits = |choice: &&'static Value| match choice.get("type") {
            Some(Value::String(kind)) => kind == name,
            Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == name),
            _ => false,
        };
        !choices.is_empty() && choices.iter().all(fits)
    }
}
