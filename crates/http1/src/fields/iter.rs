//! Going through fields: all of them, those of one name, and the members of their lists.

use std::slice;

use super::store::{Entry, Store};
use super::{Field, Fields, NameRef};
use crate::ascii;

/// Iterates over all fields.
#[derive(Clone)]
pub struct Iter<'a> {
    pub(super) store: &'a Store,
    pub(super) entries: slice::Iter<'a, Entry>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Field<'a>;

    #[inline]
    fn next(&mut self) -> Option<Field<'a>> {
        self.entries.next().map(|entry| self.store.field(entry))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.entries.size_hint()
    }
}

impl ExactSizeIterator for Iter<'_> {}

/// Iterates over the values of one name.
#[derive(Clone)]
pub struct Values<'a, 'n> {
    pub(super) store: &'a Store,
    pub(super) entries: slice::Iter<'a, Entry>,
    pub(super) name: NameRef<'n>,
}

impl<'a> Iterator for Values<'a, '_> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let entry = self.entries.find(|e| e.is(self.name, &self.store.text))?;
        Some(self.store.value_of(entry))
    }
}

/// Iterates over the members of a list.
#[derive(Clone)]
pub struct Tokens<'a, 'n> {
    pub(super) values: Values<'a, 'n>,
    pub(super) rest: &'a [u8],
}

impl<'a> Iterator for Tokens<'a, '_> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            if self.rest.is_empty() {
                self.rest = self.values.next()?;
            }
            let (member, rest) = match self.rest.iter().position(|&b| b == b',') {
                Some(at) => (self.rest.get(..at)?, self.rest.get(at + 1..)?),
                None => (self.rest, &[][..]),
            };
            self.rest = rest;
            let member = ascii::trim(member);
            if !member.is_empty() {
                return Some(member);
            }
        }
    }
}

impl<'a> IntoIterator for &'a Fields {
    type Item = Field<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}
