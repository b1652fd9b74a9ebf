//! What a route's pattern found in a path: ranges of the path, in the order of the pattern's parameters.

use std::ops::Range;

use tidegate_config::value::{Mixed, PathKind, PathPattern, Segment};

/// How many ranges are kept without an allocation.
const INLINE: usize = 8;

/// The parameters that a path has for a route's pattern.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params {
    inline: [(u32, u32); INLINE],
    length: usize,
    /// The ninth and later ones.
    more: Vec<(u32, u32)>,
    /// What follows a prefix, or stands for `*` or `{name...}`.
    rest: Option<(u32, u32)>,
}

impl Params {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Removes all and keeps the memory.
    pub fn clear(&mut self) {
        self.length = 0;
        self.more.clear();
        self.rest = None;
    }

    /// The text of a parameter in the path that was matched, percent-encoded as it is there. `rest` is also what follows a
    /// prefix, without its slash, or what stands for `*`.
    pub fn value<'p>(&self, pattern: &PathPattern, name: &str, path: &'p str) -> Option<&'p str> {
        let range = match pattern.params().position(|param| **param == *name) {
            Some(position) => self.range(position)?,
            None if name == "rest" => self.rest.map(range_of)?,
            None => return None,
        };
        path.get(range)
    }

    /// What follows a prefix (without its slash) or stands for `*` or `{name...}`.
    pub fn rest<'p>(&self, path: &'p str) -> Option<&'p str> {
        path.get(range_of(self.rest?))
    }

    /// Finds the parameters of `pattern` in a path that it matches.
    pub(crate) fn capture(&mut self, pattern: &PathPattern, path: &str) {
        let mut at = 1;
        for segment in &pattern.segments {
            let left = path.get(at..).unwrap_or_default();
            let length = left.bytes().position(|byte| byte == b'/').unwrap_or(left.len());
            match segment {
                Segment::Literal(_) => {}
                Segment::Param(_) | Segment::Regex(..) => self.push(at, at + length),
                Segment::Mixed(Mixed { prefix, suffix, .. }) => {
                    self.push(at + prefix.len(), at + length.saturating_sub(suffix.len()));
                }
                Segment::Rest(None) => self.rest = Some(narrow(at, path.len())),
                Segment::Rest(Some(_)) => {
                    self.push(at, path.len());
                    self.rest = Some(narrow(at, path.len()));
                }
            }
            at += length + 1;
        }
        if pattern.kind == PathKind::Prefix {
            self.rest = Some(narrow(at.min(path.len()), path.len()));
        }
    }

    fn push(&mut self, start: usize, end: usize) {
        match self.inline.get_mut(self.length) {
            Some(range) => *range = narrow(start, end),
            None => self.more.push(narrow(start, end)),
        }
        self.length += 1;
    }

    fn range(&self, position: usize) -> Option<Range<usize>> {
        if position >= self.length {
            return None;
        }
        let range = self.inline.get(position).or_else(|| self.more.get(position - INLINE))?;
        Some(range_of(*range))
    }
}

/// Targets are far below 4 GiB: `uri_bytes` bounds them. A longer one would only find no parameters.
fn narrow(start: usize, end: usize) -> (u32, u32) {
    (u32::try_from(start).unwrap_or(u32::MAX), u32::try_from(end).unwrap_or(u32::MAX))
}

fn range_of((start, end): (u32, u32)) -> Range<usize> {
    start as usize..end as usize
}
