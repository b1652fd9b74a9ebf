//! Field lines: header and trailer sections, line by line and in the order of their bytes, so that the first
//! offending byte decides about the error however the bytes arrived.

use crate::{
    Known, Limits, ascii,
    error::FieldLineError,
    fields::{Ranges, Store},
};

/// How far a section goes in the bytes at hand.
pub(crate) enum Progress {
    /// It ends at this place, after the empty line.
    End(usize),
    /// More bytes are needed. The complete lines end at this place, and so many fields were seen.
    Partial { line: usize, fields: usize },
}

/// Reads the field lines at the start of `bytes`, after `seen` earlier ones, and notes them in `fields`, if given.
pub(crate) fn read(
    bytes: &[u8],
    mut seen: usize,
    limits: &Limits,
    mut fields: Option<&mut Store>,
) -> Result<Progress, FieldLineError> {
    if u32::try_from(bytes.len()).is_err() {
        return Err(FieldLineError::TooLarge);
    }
    let mut at = 0;
    loop {
        // Before the line is looked at, so that its first byte decides, and not whether the rest has arrived.
        if seen >= limits.fields && starts_field(bytes.get(at..).unwrap_or_default()) {
            return Err(FieldLineError::TooMany);
        }
        match line(bytes, at)? {
            Line::Partial => return Ok(Progress::Partial { line: at, fields: seen }),
            Line::Empty { next } => return Ok(Progress::End(next)),
            Line::Field { known, ranges, next } => {
                if let Some(fields) = fields.as_deref_mut() {
                    fields.note(known, ranges);
                }
                seen += 1;
                at = next;
            }
        }
    }
}

enum Line {
    Field { known: Option<Known>, ranges: Ranges, next: usize },
    Empty { next: usize },
    Partial,
}

#[inline]
fn line(bytes: &[u8], at: usize) -> Result<Line, FieldLineError> {
    let rest = bytes.get(at..).unwrap_or_default();
    if !starts_field(rest) {
        return not_a_field(rest, at);
    }
    let Some(colon) = ascii::find_name_end(rest) else {
        return partial_name(rest);
    };
    let (name, after) = rest.split_at_checked(colon).unwrap_or_default();
    let known = Known::from_bytes(name);
    if known.is_none() && !ascii::is_token(name) || after.first() != Some(&b':') {
        return Err(FieldLineError::Name);
    }
    let name_len = u16::try_from(colon).map_err(|_| FieldLineError::TooLarge)?;
    let after = after.get(1..).unwrap_or_default();
    let Some(end) = ascii::find_control(after) else {
        return Ok(Line::Partial);
    };
    match after.get(end..) {
        Some([b'\r', b'\n', ..]) => {}
        Some([b'\r']) => return Ok(Line::Partial),
        Some([b'\r' | b'\n', ..]) => return Err(FieldLineError::LineEnd),
        _ => return Err(FieldLineError::Value),
    }
    let value_at = at + colon + 1;
    let (skipped, value_len) = trim(after.get(..end).unwrap_or_default());
    let ranges = Ranges {
        name_at: offset(at),
        value_at: offset(value_at + skipped),
        value_len: offset(value_len),
        name_len,
        is_plain: skipped == 1 && 1 + value_len == end && after.first() == Some(&b' '),
    };
    Ok(Line::Field { known, ranges, next: value_at + end + 2 })
}

#[inline]
fn starts_field(rest: &[u8]) -> bool {
    rest.first().is_some_and(|&b| ascii::is_token_byte(b))
}

/// What stands where a name does not begin: the empty line, or an error.
fn not_a_field(rest: &[u8], at: usize) -> Result<Line, FieldLineError> {
    match rest {
        [] | [b'\r'] => Ok(Line::Partial),
        [b'\r', b'\n', ..] => Ok(Line::Empty { next: at + 2 }),
        [b'\r' | b'\n', ..] => Err(FieldLineError::LineEnd),
        [b' ' | b'\t', ..] => Err(FieldLineError::Folded),
        _ => Err(FieldLineError::Name),
    }
}

fn partial_name(name: &[u8]) -> Result<Line, FieldLineError> {
    if !ascii::is_token(name) {
        return Err(FieldLineError::Name);
    }
    if name.len() > usize::from(u16::MAX) {
        return Err(FieldLineError::TooLarge);
    }
    Ok(Line::Partial)
}

/// How many bytes of OWS come off the front of a value, and how many are left without those at its end. Control bytes
/// other than HTAB were excluded, so that whatever is not above SP is OWS.
#[inline]
fn trim(value: &[u8]) -> (usize, usize) {
    match value {
        // Nearly every field is written as `name: value`.
        [b' ', first, .., last] if *first > b' ' && *last > b' ' => (1, value.len() - 1),
        _ => trim_any(value),
    }
}

fn trim_any(value: &[u8]) -> (usize, usize) {
    let front = value.trim_ascii_start();
    (value.len() - front.len(), ascii::trim(front).len())
}

#[expect(clippy::cast_possible_truncation, reason = "`read` refuses sections that are larger")]
fn offset(at: usize) -> u32 {
    at as u32
}
