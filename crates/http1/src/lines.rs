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
    /// The value holds a control byte (RFC 9110 5.5), there are more than twelve lines, or more than 4 GiB of them. The line is left out.
    #[inline]
    pub fn add(&mut self, name: Known, write: impl FnOnce(&mut Value<'_>)) -> Result<(), InvalidField> {
        let name_at = self.text.len();
        self.text.push_str(name.as_str());
        self.text.push_str(SEPARATOR);
        let value_at = self.text.len();
        write(&mut Value(&mut self.text));
        let marked = self.mark(name, name_at, value_at);
        if marked != Ok(true) {
            self.text.truncate(name_at);
        }
        marked.map(|_| ())
    }

    /// Notes the line that was written, if its value is such as may be sent, and says whether it has one.
    fn mark(&mut self, name: Known, name_at: usize, value_at: usize) -> Result<bool, InvalidField> {
        let value = self.text.as_bytes().get(value_at..).unwrap_or_default();
        let value_len = offset(value.len())?;
        if value_len == 0 {
            return Ok(false);
        }
        if ascii::find_control(value).is_some() {
            return Err(InvalidField::Value);
        }
        self.text.push_str(END);
        offset(self.text.len())?;
        let mark = self.marks.get_mut(self.length).ok_or(InvalidField::TooLarge)?;
        *mark = Mark {
            name,
            name_at: offset(name_at)?,
            value_at: offset(value_at)?,
            value_len,
            name_len: u16::try_from(name.as_str().len()).map_err(|_| InvalidField::Name)?,
        };
        self.length += 1;
        Ok(true)
    }

    pub(crate) fn marks(&self) -> &[Mark] {
        self.marks.get(..self.length).unwrap_or_default()
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
    fn a_value_with_a_control_byte_is_refused_and_leaves_no_trace() {
        for bad in ["a\r\nb: c", "a\0", "a\nb", "\x7f"] {
            let mut lines = Lines::new(String::new());
            lines.add(Known::XGateway, |value| value.push_str("t")).unwrap();
            assert_eq!(lines.add(Known::Via, |value| value.push_str(bad)), Err(InvalidField::Value), "{bad:?}");
            let mut fields = Fields::new();
            fields.append_lines(&lines).unwrap();
            let mut out = Vec::new();
            encode::fields(&mut out, &fields);
            assert_eq!(out, b"x-gateway: t\r\n");
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
