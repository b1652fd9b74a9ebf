//! Where fields lie: one text, and ranges of it. The reader of a section notes ranges of the block in which it finds lines
//! first, and hands over the text once, when the section is complete.

use super::{Field, InvalidField, Iter, NameRef, Repeated};
use crate::{Known, Names, ascii};

/// The memory of some fields.
#[derive(Clone, Default)]
pub(crate) struct Store {
    pub(super) text: String,
    /// Values that are not UTF-8 (obs-text, RFC 9110 5.5), so that everything else can be `str` without a check.
    pub(super) opaque: Vec<u8>,
    pub(super) entries: Vec<Entry>,
    /// Which known names are among the entries: most questions are about names that are absent.
    pub(super) present: Names,
    /// Which of them may be there more than once.
    pub(super) repeated: Names,
}

/// What stands between a name and its value.
pub(crate) const SEPARATOR: &str = ": ";

/// What ends a line.
pub(crate) const END: &str = "\r\n";

impl Store {
    /// No fields, nothing allocated.
    pub(super) const EMPTY: Self = Self {
        text: String::new(),
        opaque: Vec::new(),
        entries: Vec::new(),
        present: Names::NONE,
        repeated: Names::NONE,
    };

    /// Forgets every field and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.opaque.clear();
        self.entries.clear();
        self.present = Names::NONE;
        self.repeated = Names::NONE;
    }

    #[inline]
    pub(super) fn push(&mut self, entry: Entry) {
        if let Some(known) = entry.known
            && self.present.insert(known)
        {
            self.repeated.insert(known);
        }
        self.entries.push(entry);
    }

    #[inline]
    pub(super) fn may_have(&self, name: NameRef<'_>) -> bool {
        name.known.is_none_or(|known| self.present.contains(known))
    }

    /// Keeps the entries for which `keep` says so, which is told the text that they lie in, and says whether any is gone.
    #[inline]
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Entry, &str) -> bool) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| keep(entry, &self.text));
        let fewer = self.entries.len() < before;
        if fewer {
            self.note_present();
        }
        fewer
    }

    pub(super) fn note_present(&mut self) {
        self.present = Names::NONE;
        for known in self.entries.iter().filter_map(|entry| entry.known) {
            self.present.insert(known);
        }
    }

    #[inline]
    pub(super) fn find(&self, name: NameRef<'_>) -> Option<&Entry> {
        if !self.may_have(name) {
            return None;
        }
        self.entries.iter().find(|e| e.is(name, &self.text))
    }

    pub(super) fn single_entry(&self, name: NameRef<'_>) -> Result<Option<&Entry>, Repeated> {
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
    pub(super) fn text_of(&self, entry: &Entry) -> Option<&str> {
        if entry.place == Place::Opaque { None } else { self.text.get(entry.value_range()) }
    }

    #[inline]
    pub(super) fn field(&self, entry: &Entry) -> Field<'_> {
        Field { name: entry.name(&self.text), known: entry.known, value: self.value_of(entry) }
    }

    #[inline]
    pub(super) fn value_of(&self, entry: &Entry) -> &[u8] {
        let text = if entry.place == Place::Opaque { self.opaque.as_slice() } else { self.text.as_bytes() };
        text.get(entry.value_range()).unwrap_or_default()
    }

    pub(super) fn store(&mut self, name: NameRef<'_>, value: &[u8]) -> Result<Entry, InvalidField> {
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

    pub(super) fn store_valid(&mut self, name: NameRef<'_>, value: &[u8]) -> Result<Entry, InvalidField> {
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
    #[expect(
        clippy::cast_possible_truncation,
        reason = "all of it is below where the line ends, which is looked at first"
    )]
    pub(super) fn store_line(&mut self, name: NameRef<'_>, value: &str) -> Result<Entry, InvalidField> {
        let name_len = u16::try_from(name.name.len()).map_err(|_| InvalidField::Name)?;
        let line_len = name.name.len() + SEPARATOR.len() + value.len() + END.len();
        // All else is less than where the line ends.
        offset(self.text.len() + line_len)?;
        let [name_at, value_len] = [self.text.len(), value.len()].map(|at| at as u32);
        let value_at = name_at + u32::from(name_len) + SEPARATOR.len() as u32;
        self.text.reserve(line_len);
        self.text.push_str(name.name);
        self.text.push_str(SEPARATOR);
        self.text.push_str(value);
        self.text.push_str(END);
        Ok(Entry { name_at, value_at, value_len, name_len, known: name.known, place: Place::Line })
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
    pub(super) fn write_run(&self, out: &mut Vec<u8>, run: std::ops::Range<usize>) {
        out.extend_from_slice(self.text.as_bytes().get(run).unwrap_or_default());
    }

    #[cold]
    pub(super) fn write_apart(&self, out: &mut Vec<u8>, entry: &Entry) {
        crate::encode::field(out, entry.name(&self.text), self.value_of(entry));
    }

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

    /// All fields in their order.
    #[inline]
    pub(super) fn iter(&self) -> Iter<'_> {
        Iter { store: self, entries: self.entries.iter() }
    }

    /// The block to which all the noted ranges belong.
    pub(crate) fn take_text(&mut self, block: &[u8]) -> Result<(), InvalidField> {
        self.opaque.clear();
        // Copied first and checked there, where it lies as memory is allocated: at a multiple of a word.
        let mut text = std::mem::take(&mut self.text).into_bytes();
        text.clear();
        text.extend_from_slice(block);
        match String::from_utf8(text) {
            Ok(text) => {
                self.text = text;
                return Ok(());
            }
            Err(error) => self.text = emptied(error.into_bytes()),
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
pub(super) struct Entry {
    pub(super) name_at: u32,
    pub(super) value_at: u32,
    pub(super) value_len: u32,
    pub(super) name_len: u16,
    pub(super) known: Option<Known>,
    pub(super) place: Place,
}

/// Where the text of a field lies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In `text`, in one line, as it is written out.
    Line,
    /// In `text`, with other white space around the value than is written out.
    Apart,
    /// The value lies in `opaque`.
    Opaque,
}

impl Entry {
    #[inline]
    pub(super) fn is(&self, name: NameRef<'_>, text: &str) -> bool {
        match name.known {
            Some(_) => self.known == name.known,
            None => self.known.is_none() && self.name(text).eq_ignore_ascii_case(name.name),
        }
    }

    #[inline]
    pub(super) fn name<'a>(&self, text: &'a str) -> &'a str {
        text.get(self.name_range()).unwrap_or_default()
    }

    #[inline]
    pub(super) fn name_range(&self) -> std::ops::Range<usize> {
        let at = self.name_at as usize;
        at..at + usize::from(self.name_len)
    }

    /// Where the whole line lies, if it is one.
    #[inline]
    pub(super) fn line_range(&self) -> Option<std::ops::Range<usize>> {
        (self.place == Place::Line).then(|| self.name_at as usize..self.value_range().end + END.len())
    }

    #[inline]
    pub(super) fn value_range(&self) -> std::ops::Range<usize> {
        let at = self.value_at as usize;
        at..at + self.value_len as usize
    }
}

fn emptied(mut bytes: Vec<u8>) -> String {
    bytes.clear();
    String::from_utf8(bytes).unwrap_or_default()
}

pub(crate) fn offset(at: usize) -> Result<u32, InvalidField> {
    u32::try_from(at).map_err(|_| InvalidField::TooLarge)
}
