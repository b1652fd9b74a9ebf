//! The fields of one message in their order and original case. All text lies in one buffer and an entry is a few
//! ranges of it, so a message costs two allocations and a reused one none. Lines lie there as they are written to a
//! connection, so that neighbours are written in one piece.

mod iter;
mod store;

use std::fmt;

pub use self::iter::{Iter, Tokens, Values};
pub(crate) use self::store::{END, Ranges, SEPARATOR, Store, offset};
use self::store::{Entry, Place};
use crate::{Known, Lines, Names, ascii};

/// The fields of a header or trailer section.
///
/// Names are tokens and values hold no control byte but HTAB, whoever made them: that is what makes writing them out
/// safe. Removing leaves the text buffer as it is; the ranges just vanish.
///
/// One pointer, because heads are handed on a lot.
#[derive(Clone, Default)]
pub struct Fields(Option<Box<Store>>);

/// One field line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name in its original case.
    pub name: &'a str,
    /// The name as a known one, if it is.
    pub known: Option<Known>,
    /// The value without the white space around it.
    pub value: &'a [u8],
}

/// A field name to look for, in whatever case: `Known::Host` or `"x-my-field"`.
#[derive(Clone, Copy, Debug)]
pub struct NameRef<'a> {
    known: Option<Known>,
    name: &'a str,
}

/// A field name that is looked for again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldName {
    known: Option<Known>,
    name: Box<str>,
}

/// A name that is no token, a value with control bytes, or more than 4 GiB of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidField {
    /// The name is empty, longer than 65,535 bytes or not a token (RFC 9110 5.1).
    Name,
    /// The value holds CR, LF, NUL or another control byte (RFC 9110 5.5).
    Value,
    /// The text of all fields together passes 4 GiB.
    TooLarge,
}

/// There are several fields of a name of which at most one is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeated;

impl Fields {
    /// No fields, nothing allocated.
    pub const fn new() -> Self {
        Self(None)
    }

    /// Room for this many fields of this many bytes in all.
    pub fn with_capacity(bytes: usize, fields: usize) -> Self {
        let (text, entries) = (String::with_capacity(bytes), Vec::with_capacity(fields));
        Self(Some(Box::new(Store { text, entries, ..Store::EMPTY })))
    }

    /// Removes every field and keeps the memory.
    pub fn clear(&mut self) {
        if let Some(store) = &mut self.0 {
            store.clear();
        }
    }

    /// How many fields there are; repeated names count each time.
    pub fn len(&self) -> usize {
        self.store().entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.store().entries.is_empty()
    }

    /// The bytes of all names and values.
    pub fn bytes(&self) -> usize {
        self.store().entries.iter().map(|e| usize::from(e.name_len) + e.value_len as usize).sum()
    }

    /// The bytes of text for which there is memory.
    pub fn capacity(&self) -> usize {
        self.store().text.capacity()
    }

    /// All fields in their order.
    pub fn iter(&self) -> Iter<'_> {
        self.store().iter()
    }

    /// The first value of this name.
    #[inline]
    pub fn value<'n>(&self, name: impl Into<NameRef<'n>>) -> Option<&[u8]> {
        let store = self.store();
        store.find(name.into()).map(|e| store.value_of(e))
    }

    /// All values of this name, in order.
    pub fn values<'a, 'n>(&'a self, name: impl Into<NameRef<'n>>) -> Values<'a, 'n> {
        let name = name.into();
        let store = self.store();
        let entries = if store.may_have(name) { store.entries.as_slice() } else { &[] };
        Values { store, entries: entries.iter(), name }
    }

    /// The value of a field that may stand once at most.
    pub fn single<'n>(&self, name: impl Into<NameRef<'n>>) -> Result<Option<&[u8]>, Repeated> {
        let store = self.store();
        Ok(store.single_entry(name.into())?.map(|entry| store.value_of(entry)))
    }

    /// The same as text. What is not UTF-8 reads as empty, for fields that must be neither.
    pub(crate) fn single_text(&self, known: Known) -> Result<Option<&str>, Repeated> {
        let store = self.store();
        Ok(store.single_entry(known.into())?.map(|entry| store.text_of(entry).unwrap_or_default()))
    }

    /// Whether there is a field of any of these names.
    #[inline]
    pub fn contains_any(&self, names: Names) -> bool {
        self.store().present.meets(names)
    }

    /// Whether there is a field of this name.
    #[inline]
    pub fn contains<'n>(&self, name: impl Into<NameRef<'n>>) -> bool {
        let (store, name) = (self.store(), name.into());
        match name.known {
            Some(known) => store.present.contains(known),
            None => store.find(name).is_some(),
        }
    }

    /// The first value of this name if it is UTF-8.
    pub fn text<'n>(&self, name: impl Into<NameRef<'n>>) -> Option<&str> {
        let store = self.store();
        store.text_of(store.find(name.into())?)
    }

    /// The members of a comma-separated list over all fields of this name, trimmed, without empty ones (RFC 9110 5.6.1).
    /// Quoted strings are not recognised: for lists of tokens only.
    pub fn tokens<'a, 'n>(&'a self, name: impl Into<NameRef<'n>>) -> Tokens<'a, 'n> {
        Tokens { values: self.values(name), rest: &[] }
    }

    /// Adds a field after all others.
    pub fn append<'n>(&mut self, name: impl Into<NameRef<'n>>, value: &[u8]) -> Result<(), InvalidField> {
        let name = name.into();
        let store = self.store_mut();
        let entry = store.store(name, value)?;
        store.push(entry);
        Ok(())
    }

    /// The same for a known name and a value that is text already.
    #[inline]
    pub fn append_text(&mut self, name: Known, value: &str) -> Result<(), InvalidField> {
        if ascii::find_control(value.as_bytes()).is_some() {
            return Err(InvalidField::Value);
        }
        let store = self.store_mut();
        let entry = store.store_line(name.into(), value)?;
        store.push(entry);
        Ok(())
    }

    /// Adds a line that is the same every time, with its `: ` and CRLF, after all other fields.
    ///
    /// # Errors
    /// It is not written like that.
    pub fn append_line(&mut self, name: Known, line: &'static str) -> Result<(), InvalidField> {
        let value = line.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix(SEPARATOR)?.strip_suffix(END));
        let value = value.ok_or(InvalidField::Value)?;
        let store = self.store_mut();
        let name_at = offset(store.text.len())?;
        let (name_len, value_len) = (name.as_str().len(), value.len());
        let entry = Entry {
            name_at,
            value_at: offset(store.text.len() + name_len + SEPARATOR.len())?,
            value_len: offset(value_len)?,
            name_len: u16::try_from(name_len).map_err(|_| InvalidField::Name)?,
            known: Some(name),
            place: Place::Line,
        };
        store.text.push_str(line);
        store.push(entry);
        Ok(())
    }

    /// Adds lines after all other fields: the cheap way to add what the gateway says itself.
    pub fn append_lines(&mut self, lines: &Lines) -> Result<(), InvalidField> {
        let store = self.store_mut();
        let base = offset(store.text.len())?;
        offset(store.text.len() + lines.text.len())?;
        store.text.push_str(&lines.text);
        for mark in lines.marks() {
            store.push(Entry {
                name_at: base + mark.name_at,
                value_at: base + mark.value_at,
                value_len: mark.value_len,
                name_len: mark.name_len,
                known: Some(mark.name),
                place: Place::Line,
            });
        }
        Ok(())
    }

    /// Replaces all fields of this name by one, at the place of the first, or adds it after all others.
    pub fn set<'n>(&mut self, name: impl Into<NameRef<'n>>, value: &[u8]) -> Result<(), InvalidField> {
        let name = name.into();
        let store = self.store_mut();
        let mut new = Some(store.store(name, value)?);
        if store.may_have(name) {
            let text = &store.text;
            store.entries.retain_mut(|entry| !entry.is(name, text) || new.take().map(|new| *entry = new).is_some());
        }
        if let Some(new) = new {
            store.push(new);
        }
        Ok(())
    }

    /// Removes all fields of this name and says whether there was one.
    pub fn remove<'n>(&mut self, name: impl Into<NameRef<'n>>) -> bool {
        let name = name.into();
        let Some(store) = self.0.as_mut().filter(|store| store.may_have(name)) else { return false };
        store.retain(|entry, text| !entry.is(name, text))
    }

    /// Keeps the fields for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(Field<'_>) -> bool) {
        let Some(store) = &mut self.0 else { return };
        let mut entries = std::mem::take(&mut store.entries);
        entries.retain(|entry| keep(store.field(entry)));
        store.entries = entries;
        store.note_present();
    }

    /// The same where names decide: `keep` is told the known name, or how one is spelt that is not known.
    #[inline]
    pub fn retain_names(&mut self, mut keep: impl FnMut(Result<Known, &str>) -> bool) {
        let Some(store) = self.0.as_deref_mut() else { return };
        store.retain(|entry, text| keep(entry.known.ok_or_else(|| entry.name(text))));
    }

    #[inline]
    fn store(&self) -> &Store {
        static NOTHING: Store = Store::EMPTY;
        self.0.as_deref().unwrap_or(&NOTHING)
    }

    #[inline]
    pub(crate) fn store_mut(&mut self) -> &mut Store {
        self.0.get_or_insert_default()
    }

    /// Writes the lines of the fields for which `keep` says so, as [`encode`](crate::encode) does, neighbours in one piece.
    #[inline]
    pub(crate) fn write_lines(&self, out: &mut Vec<u8>, keep: impl FnMut(Option<Known>) -> bool) {
        self.store().write_lines(out, keep);
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Fields {}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.value.escape_ascii())
    }
}

impl From<Known> for NameRef<'_> {
    #[inline]
    fn from(known: Known) -> Self {
        Self { known: Some(known), name: known.as_str() }
    }
}

impl<'a> From<&'a str> for NameRef<'a> {
    #[inline]
    fn from(name: &'a str) -> Self {
        Self { known: Known::from_bytes(name.as_bytes()), name }
    }
}

impl NameRef<'_> {
    /// The name as a known one, if it is.
    #[inline]
    pub fn known(&self) -> Option<Known> {
        self.known
    }

    /// Whether this is it, in whatever case, of one that is told as in [`Fields::retain_names`].
    #[inline]
    pub fn is(&self, name: Result<Known, &str>) -> bool {
        match name {
            Ok(known) => self.known == Some(known),
            Err(name) => self.name.eq_ignore_ascii_case(name),
        }
    }
}

impl From<&str> for FieldName {
    fn from(name: &str) -> Self {
        Self { known: Known::from_bytes(name.as_bytes()), name: name.into() }
    }
}

impl<'a> From<&'a FieldName> for NameRef<'a> {
    #[inline]
    fn from(name: &'a FieldName) -> Self {
        Self { known: name.known, name: &name.name }
    }
}

impl<'a> From<&'a String> for NameRef<'a> {
    fn from(name: &'a String) -> Self {
        name.as_str().into()
    }
}

/// Knows already what the name is: the cheap way to copy a field.
impl<'a> From<Field<'a>> for NameRef<'a> {
    #[inline]
    fn from(field: Field<'a>) -> Self {
        Self { known: field.known, name: field.name }
    }
}

impl fmt::Display for InvalidField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "a field name must be a token",
            Self::Value => "a field value must not contain control characters",
            Self::TooLarge => "the fields are too large",
        })
    }
}

impl std::error::Error for InvalidField {}

impl fmt::Display for Repeated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the field must not be repeated")
    }
}

impl std::error::Error for Repeated {}
