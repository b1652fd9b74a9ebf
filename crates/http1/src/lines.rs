//! Lines that the gateway adds to a message, written once in the form in which they are sent. They are made beside the
//! message's own fields, because what they say is often told from those.

use crate::{
    InvalidField, Known, ascii,
    fields::{END, SEPARATOR, offset},
};

/// Lines at most.
const MOST: usize = 12;

/// Field lines with known names.
#[derive(Debug)]
pub struct Lines {
    pub(crate) text: String,
    marks: [Mark; MOST],
    length: usize,
}

/// Where a line lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) name: Known,
    pub(crate) name_at: u32,
    pub(crate) value_at: u32,
    pub(crate) value_len: u32,
    pub(crate) name_len: u16,
}

/// A value while it is written.
#[derive(Debug)]
pub struct Value<'a>(&'a mut String);

impl Value<'_> {
    /// Adds text.
    #[inline]
    pub fn push_str(&mut self, text: &str) {
        self.0.push_str(text);
    }

    /// Adds a character.
    #[inline]
    pub fn push(&mut self, character: char) {
        self.0.push(character);
    }
}

impl Lines {
    /// No lines, in a buffer that is cleared before it is used.
    pub fn new(mut buffer: String) -> Self {
        buffer.clear();
        Self {
            text: buffer,
            marks: [Mark { name: Known::Age, name_at: 0, value_at: 0, value_len: 0, name_len: 0 }; MOST],
            length: 0,
        }
    }

    /// Adds a line whose value `write` writes. One with an empty value is left out.
    ///
    /// # Errors
    /// There are more than twelve lines, or more than 4 GiB of them.
    #[inline]
    pub fn add(&mut self, name: Known, write: impl FnOnce(&mut Value<'_>)) -> Result<(), InvalidField> {
        let name_at = self.text.len();
        self.text.push_str(name.as_str());
        self.text.push_str(SEPARATOR);
        let value_at = self.text.len();
        write(&mut Value(&mut self.text));
        let value_len = self.text.len() - value_at;
        if value_len == 0 {
            self.text.truncate(name_at);
            return Ok(());
        }
        self.text.push_str(END);
        offset(self.text.len())?;
        let mark = self.marks.get_mut(self.length).ok_or(InvalidField::TooLarge)?;
        *mark = Mark {
            name,
            name_at: offset(name_at)?,
            value_at: offset(value_at)?,
            value_len: offset(value_len)?,
            name_len: u16::try_from(name.as_str().len()).map_err(|_| InvalidField::Name)?,
        };
        self.length += 1;
        Ok(())
    }

    /// The buffer, for reuse.
    pub fn into_buffer(self) -> String {
        self.text
    }

    pub(crate) fn marks(&self) -> &[Mark] {
        self.marks.get(..self.length).unwrap_or_default()
    }

    /// The text, if its values are such as may be sent (RFC 9110 5.5).
    pub(crate) fn checked_text(&self) -> Result<&str, InvalidField> {
        let text = self.text.as_bytes();
        let value = |mark: &Mark| text.get(mark.value_at as usize..(mark.value_at + mark.value_len) as usize);
        let valid = |mark: &Mark| value(mark).is_some_and(|value| ascii::find_control(value).is_none());
        if self.marks().iter().all(valid) { Ok(&self.text) } else { Err(InvalidField::Value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fields, encode};

    #[test]
    fn lines_become_fields_and_empty_values_none() {
        let mut lines = Lines::new(String::from("old"));
        lines.add(Known::XRealIp, |value| value.push_str("192.0.2.1")).unwrap();
        lines.add(Known::Via, |_| {}).unwrap();
        lines.add(Known::XGateway, |value| value.push('t')).unwrap();
        let mut fields = Fields::new();
        fields.append("a", b"b").unwrap();
        fields.append_lines(&lines).unwrap();
        assert_eq!(fields.value(Known::XRealIp), Some(&b"192.0.2.1"[..]));
        assert!(!fields.contains(Known::Via));
        let mut out = Vec::new();
        encode::fields(&mut out, &fields);
        assert_eq!(out, b"a: b\r\nx-real-ip: 192.0.2.1\r\nx-gateway: t\r\n");
    }

    #[test]
    fn a_value_with_a_control_byte_is_refused_and_nothing_is_added() {
        for bad in ["a\r\nb: c", "a\0", "a\nb", "\x7f"] {
            let mut lines = Lines::new(String::new());
            lines.add(Known::Via, |value| value.push_str(bad)).unwrap();
            let mut fields = Fields::new();
            assert_eq!(fields.append_lines(&lines), Err(InvalidField::Value), "{bad:?}");
            assert!(fields.is_empty());
        }
    }

    #[test]
    fn more_lines_than_there_is_room_for_are_refused() {
        let mut lines = Lines::new(String::new());
        for _ in 0..MOST {
            lines.add(Known::Via, |value| value.push('v')).unwrap();
        }
        assert_eq!(lines.add(Known::Via, |value| value.push('v')), Err(InvalidField::TooLarge));
    }
}
