//! The fields of one message in their order and original case. All text lies in one buffer and an entry is a few
//! ranges of it, so a message costs two allocations and a reused one none. Lines lie there as they are written to a
//! connection, so that neighbours are written in one piece.

mod iter;

use std::fmt;

pub use self::iter::{Iter, Tokens, Values};
use crate::{Known, Lines, Names, ascii};

/// The fields of a header or trailer section.
///
/// Names are tokens and values hold no control byte but HTAB, whoever made them: that is what makes writing them out
/// safe. Removing leaves the text buffer as it is; the ranges just vanish.
#[derive(Clone, Default)]
pub struct Fields {
    text: String,
    /// Values that are not UTF-8 (obs-text, RFC 9110 5.5), so that everything else can be `str` without a check.
    opaque: Vec<u8>,
    entries: Vec<Entry>,
    /// Which known names may be among the entries: most questions are about names that are absent.
    present: Names,
    /// Which of them may be there more than once.
    repeated: Names,
}

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
        Self {
            text: String::new(),
            opaque: Vec::new(),
            entries: Vec::new(),
            present: Names::NONE,
            repeated: Names::NONE,
        }
    }

    /// Room for this many fields of this many bytes in all.
    pub fn with_capacity(bytes: usize, fields: usize) -> Self {
        Self { text: String::with_capacity(bytes), entries: Vec::with_capacity(fields), ..Self::new() }
    }

    /// Removes every field and keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.opaque.clear();
        self.entries.clear();
        self.present = Names::NONE;
        self.repeated = Names::NONE;
    }

    /// How many fields there are; repeated names count each time.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bytes of all names and values.
    pub fn bytes(&self) -> usize {
        self.entries.iter().map(|e| usize::from(e.name_len) + e.value_len as usize).sum()
    }

    /// The bytes of text for which there is memory.
    pub fn capacity(&self) -> usize {
        self.text.capacity()
    }

    /// All fields in their order.
    pub fn iter(&self) -> Iter<'_> {
        Iter { fields: self, entries: self.entries.iter() }
    }

    /// The first value of this name.
    #[inline]
    pub fn value<'n>(&self, name: impl Into<NameRef<'n>>) -> Option<&[u8]> {
        self.find(name.into()).map(|e| self.value_of(e))
    }

    /// All values of this name, in order.
    pub fn values<'a, 'n>(&'a self, name: impl Into<NameRef<'n>>) -> Values<'a, 'n> {
        let name = name.into();
        let entries = if self.may_have(name) { self.entries.as_slice() } else { &[] };
        Values { fields: self, entries: entries.iter(), name }
    }

    /// The value of a field that may stand once at most.
    pub fn single<'n>(&self, name: impl Into<NameRef<'n>>) -> Result<Option<&[u8]>, Repeated> {
        Ok(self.single_entry(name.into())?.map(|entry| self.value_of(entry)))
    }

    /// The same as text. What is not UTF-8 reads as empty, for fields that must be neither.
    pub(crate) fn single_text(&self, known: Known) -> Result<Option<&str>, Repeated> {
        Ok(self.single_entry(known.into())?.map(|entry| self.text_of(entry).unwrap_or_default()))
    }

    /// Whether there may be a field of any of these names. `false` is certain; `true` may be said of fields that were removed.
    #[inline]
    pub fn may_have_any(&self, names: Names) -> bool {
        self.present.meets(names)
    }

    /// Whether there is a field of this name.
    #[inline]
    pub fn contains<'n>(&self, name: impl Into<NameRef<'n>>) -> bool {
        self.find(name.into()).is_some()
    }

    /// The first value of this name if it is UTF-8.
    pub fn text<'n>(&self, name: impl Into<NameRef<'n>>) -> Option<&str> {
        self.text_of(self.find(name.into())?)
    }

    /// The members of a comma-separated list over all fields of this name, trimmed, without empty ones (RFC 9110 5.6.1).
    /// Quoted strings are not recognised: for lists of tokens only.
    pub fn tokens<'a, 'n>(&'a self, name: impl Into<NameRef<'n>>) -> Tokens<'a, 'n> {
        Tokens { values: self.values(name), rest: &[] }
    }

    /// Adds a field after all others.
    pub fn append<'n>(&mut self, name: impl Into<NameRef<'n>>, value: &[u8]) -> Result<(), InvalidField> {
        let name = name.into();
        let entry = self.store(name, value)?;
        self.push(entry);
        Ok(())
    }

    /// The same for a known name and a value that is text already.
    #[inline]
    pub fn append_text(&mut self, name: Known, value: &str) -> Result<(), InvalidField> {
        if ascii::find_control(value.as_bytes()).is_some() {
            return Err(InvalidField::Value);
        }
        let entry = self.store_line(name.into(), value)?;
        self.push(entry);
        Ok(())
    }

    /// Adds lines after all other fields: the cheap way to add what the gateway says itself.
    pub fn append_lines(&mut self, lines: &Lines) -> Result<(), InvalidField> {
        let base = offset(self.text.len())?;
        offset(self.text.len() + lines.text.len())?;
        self.text.push_str(lines.checked_text()?);
        for mark in lines.marks() {
            self.push(Entry {
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
        let mut new = Some(self.store(name, value)?);
        if self.may_have(name) {
            let text = &self.text;
            self.entries.retain_mut(|entry| !entry.is(name, text) || new.take().map(|new| *entry = new).is_some());
        }
        if let Some(new) = new {
            self.push(new);
        }
        Ok(())
    }

    /// Removes all fields of this name and says whether there was one.
    pub fn remove<'n>(&mut self, name: impl Into<NameRef<'n>>) -> bool {
        let name = name.into();
        if !self.may_have(name) {
            return false;
        }
        let (before, text) = (self.entries.len(), &self.text);
        self.entries.retain(|entry| !entry.is(name, text));
        self.entries.len() < before
    }

    /// Keeps the fields for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(Field<'_>) -> bool) {
        let mut entries = std::mem::take(&mut self.entries);
        entries.retain(|entry| keep(self.field(entry)));
        self.entries = entries;
    }

    /// The same where names decide: `keep` is told the known name, or how one is spelt that is not known.
    #[inline]
    pub fn retain_names(&mut self, mut keep: impl FnMut(Result<Known, &str>) -> bool) {
        let text = &self.text;
        self.entries.retain(|entry| keep(entry.known.ok_or_else(|| entry.name(text))));
    }

    #[inline]
    fn push(&mut self, entry: Entry) {
        if let Some(known) = entry.known
            && self.present.insert(known)
        {
            self.repeated.insert(known);
        }
        self.entries.push(entry);
    }

    #[inline]
    fn may_have(&self, name: NameRef<'_>) -> bool {
        name.known.is_none_or(|known| self.present.contains(known))
    }

    #[inline]
    fn find(&self, name: NameRef<'_>) -> Option<&Entry> {
        if !self.may_have(name) {
            return None;
        }
        self.entries.iter().find(|e| e.is(name, &self.text))
    }

    fn single_entry(&self, name: NameRef<'_>) -> Result<Option<&Entry>, Repeated> {
        if name.known.is_some_and(|known| !self.repeated.contains(known)) {
            return Ok(self.find(name));
        }
        let mut found = self.entries.iter().filter(|entry| entry.is(name, &self.text));
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(Repeated),
            (first, None) => Ok(first),
        }
    }

    #[inline]
    fn text_of(&self, entry: &Entry) -> Option<&str> {
        if entry.place == Place::Opaque { None } else { self.text.get(entry.value_range()) }
    }

    #[inline]
    fn field(&self, entry: &Entry) -> Field<'_> {
        Field { name: entry.name(&self.text), known: entry.known, value: self.value_of(entry) }
    }

    #[inline]
    fn value_of(&self, entry: &Entry) -> &[u8] {
        let text = if entry.place == Place::Opaque { self.opaque.as_slice() } else { self.text.as_bytes() };
        text.get(entry.value_range()).unwrap_or_default()
    }

    fn store(&mut self, name: NameRef<'_>, value: &[u8]) -> Result<Entry, InvalidField> {
        let valid = match name.known {
            Some(known) => known.as_str().eq_ignore_ascii_case(name.name),
            None => ascii::is_token(name.name.as_bytes()),
        };
        if !valid {
            return Err(InvalidField::Name);
        }
        if ascii::find_control(value).is_some() {
            return Err(InvalidField::Value);
        }
        self.store_valid(name, ascii::trim(value))
    }

    fn store_valid(&mut self, name: NameRef<'_>, value: &[u8]) -> Result<Entry, InvalidField> {
        if let Ok(text) = std::str::from_utf8(value) {
            return self.store_line(name, text);
        }
        let entry = Entry {
            name_at: offset(self.text.len())?,
            value_at: offset(self.opaque.len())?,
            value_len: offset(value.len())?,
            name_len: u16::try_from(name.name.len()).map_err(|_| InvalidField::Name)?,
            known: name.known,
            place: Place::Opaque,
        };
        self.text.push_str(name.name);
        self.opaque.extend_from_slice(value);
        Ok(entry)
    }

    #[inline]
    fn store_line(&mut self, name: NameRef<'_>, value: &str) -> Result<Entry, InvalidField> {
        let name_at = self.text.len();
        let value_at = name_at + name.name.len() + SEPARATOR.len();
        let entry = Entry {
            name_at: offset(name_at)?,
            value_at: offset(value_at)?,
            value_len: offset(value.len())?,
            name_len: u16::try_from(name.name.len()).map_err(|_| InvalidField::Name)?,
            known: name.known,
            place: Place::Line,
        };
        offset(value_at + value.len() + END.len())?;
        self.text.reserve(value_at - name_at + value.len() + END.len());
        self.text.push_str(name.name);
        self.text.push_str(SEPARATOR);
        self.text.push_str(value);
        self.text.push_str(END);
        Ok(entry)
    }

    /// Writes the lines of the fields for which `keep` says so, as [`encode`](crate::encode) does, neighbours in one piece.
    #[inline]
    pub(crate) fn write_lines(&self, out: &mut Vec<u8>, mut keep: impl FnMut(Option<Known>) -> bool) {
        let mut run = 0..0;
        for entry in self.entries.iter().filter(|entry| keep(entry.known)) {
            match entry.line_range() {
                Some(line) if line.start == run.end => run.end = line.end,
                Some(line) => {
                    self.write_run(out, std::mem::replace(&mut run, line));
                }
                None => {
                    self.write_run(out, std::mem::replace(&mut run, 0..0));
                    self.write_apart(out, entry);
                }
            }
        }
        self.write_run(out, run);
    }

    #[inline]
    fn write_run(&self, out: &mut Vec<u8>, run: std::ops::Range<usize>) {
        out.extend_from_slice(self.text.as_bytes().get(run).unwrap_or_default());
    }

    #[cold]
    fn write_apart(&self, out: &mut Vec<u8>, entry: &Entry) {
        crate::encode::field(out, entry.name(&self.text), self.value_of(entry));
    }
}

/// What stands between a name and its value.
pub(crate) const SEPARATOR: &str = ": ";

/// What ends a line.
pub(crate) const END: &str = "\r\n";

/// What the reader of a section does while it finds field lines in a block of bytes: it notes ranges of that block
/// first and hands over the text once, when the section is complete.
impl Fields {
    /// Notes a field by its ranges in the block. The caller has checked name and value.
    #[inline]
    pub(crate) fn note(&mut self, known: Option<Known>, ranges: Ranges) {
        self.push(Entry {
            name_at: ranges.name_at,
            value_at: ranges.value_at,
            value_len: ranges.value_len,
            name_len: ranges.name_len,
            known,
            place: if ranges.is_plain { Place::Line } else { Place::Apart },
        });
    }

    /// The block to which all the noted ranges belong.
    pub(crate) fn take_text(&mut self, block: &[u8]) -> Result<(), InvalidField> {
        self.text.clear();
        self.opaque.clear();
        if let Ok(text) = std::str::from_utf8(block) {
            self.text.push_str(text);
            return Ok(());
        }
        let noted = std::mem::take(&mut self.entries);
        for entry in &noted {
            let name = block.get(entry.name_range()).and_then(|name| std::str::from_utf8(name).ok());
            let name = NameRef { known: entry.known, name: name.ok_or(InvalidField::Name)? };
            let value = block.get(entry.value_range()).ok_or(InvalidField::Value)?;
            let entry = self.store_valid(name, value)?;
            self.entries.push(entry);
        }
        Ok(())
    }
}

/// Where a field lies in the block that is being read.
#[derive(Clone, Copy)]
pub(crate) struct Ranges {
    pub(crate) name_at: u32,
    pub(crate) value_at: u32,
    pub(crate) value_len: u32,
    pub(crate) name_len: u16,
    /// The line is written as `encode` would: nothing but `: ` before the value, and CRLF after it.
    pub(crate) is_plain: bool,
}

#[derive(Clone, Copy)]
struct Entry {
    name_at: u32,
    value_at: u32,
    value_len: u32,
    name_len: u16,
    known: Option<Known>,
    place: Place,
}

/// Where the text of a field lies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In `text`, in one line, as it is written out.
    Line,
    /// In `text`, with other white space around the value than is written out.
    Apart,
    /// The value lies in `opaque`.
    Opaque,
}

impl Entry {
    #[inline]
    fn is(&self, name: NameRef<'_>, text: &str) -> bool {
        match name.known {
            Some(_) => self.known == name.known,
            None => self.known.is_none() && self.name(text).eq_ignore_ascii_case(name.name),
        }
    }

    #[inline]
    fn name<'a>(&self, text: &'a str) -> &'a str {
        text.get(self.name_range()).unwrap_or_default()
    }

    #[inline]
    fn name_range(&self) -> std::ops::Range<usize> {
        let at = self.name_at as usize;
        at..at + usize::from(self.name_len)
    }

    /// Where the whole line lies, if it is one.
    #[inline]
    fn line_range(&self) -> Option<std::ops::Range<usize>> {
        (self.place == Place::Line).then(|| self.name_at as usize..self.value_range().end + END.len())
    }

    #[inline]
    fn value_range(&self) -> std::ops::Range<usize> {
        let at = self.value_at as usize;
        at..at + self.value_len as usize
    }
}

pub(crate) fn offset(at: usize) -> Result<u32, InvalidField> {
    u32::try_from(at).map_err(|_| InvalidField::TooLarge)
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
