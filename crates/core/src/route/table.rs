//! A map from short texts, written once and then only read. Its keys come from the configuration, so a cheap hash does: a client
//! chooses what is looked up, never what is stored, and a lookup ends at the first free slot.

/// A map from texts to values.
#[derive(Debug)]
pub(super) struct Table<T> {
    entries: Vec<(Box<[u8]>, T)>,
    /// Numbers of entries, plus one, by hash; 0 is free. Empty for a few entries, which are quicker compared one by one.
    slots: Vec<u32>,
}

/// Up to this many entries are compared one by one.
const FEW: usize = 4;

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), slots: Vec::new() }
    }
}

impl<T> Table<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[inline]
    pub(super) fn lookup(&self, key: &[u8]) -> Option<&T> {
        if self.slots.is_empty() {
            return self.entries.iter().find(|(name, _)| **name == *key).map(|(_, value)| value);
        }
        self.entries.get(self.number(key)?).map(|(_, value)| value)
    }

    /// The value of this key, made if it is new.
    pub(super) fn entry(&mut self, key: &[u8]) -> Option<&mut T>
    where
        T: Default,
    {
        let number = if self.slots.is_empty() {
            self.entries.iter().position(|(name, _)| **name == *key)
        } else {
            self.number(key)
        };
        let number = number.unwrap_or_else(|| {
            self.entries.push((key.into(), T::default()));
            self.index_last();
            self.entries.len() - 1
        });
        self.entries.get_mut(number).map(|(_, value)| value)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().map(|(_, value)| value)
    }

    #[inline]
    fn number(&self, key: &[u8]) -> Option<usize> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash(key) & mask;
        loop {
            let number = (*self.slots.get(at)? as usize).checked_sub(1)?;
            if self.entries.get(number).is_some_and(|(name, _)| **name == *key) {
                return Some(number);
            }
            at = (at + 1) & mask;
        }
    }

    /// At most half of the slots are taken, so probing ends soon.
    fn index_last(&mut self) {
        let count = self.entries.len();
        if count <= FEW {
            return;
        }
        if count * 2 <= self.slots.len() {
            return self.take_slot(count - 1);
        }
        self.slots = vec![0; (count * 4).next_power_of_two()];
        for number in 0..count {
            self.take_slot(number);
        }
    }

    fn take_slot(&mut self, number: usize) {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = self.entries.get(number).map_or(0, |(name, _)| hash(name)) & mask;
        while let Some(slot) = self.slots.get_mut(at) {
            if *slot == 0 {
                *slot = u32::try_from(number + 1).unwrap_or(0);
                return;
            }
            at = (at + 1) & mask;
        }
    }
}

/// Multiplies and folds words of eight bytes, the last of which may overlap the one before.
#[inline]
fn hash(key: &[u8]) -> usize {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |state: u64, word: u64| {
        let product = (state ^ word).wrapping_mul(FACTOR);
        product ^ (product >> 29)
    };
    let mut state = mix(FACTOR, key.len() as u64);
    if let Some(last) = key.last_chunk::<8>() {
        for word in key.chunks_exact(8) {
            state = mix(state, word.try_into().map_or(0, u64::from_le_bytes));
        }
        state = mix(state, u64::from_le_bytes(*last));
    } else if let (Some(first), Some(last)) = (key.first_chunk::<4>(), key.last_chunk::<4>()) {
        let word = u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last));
        state = mix(state, word);
    } else {
        let word = key.iter().fold(0, |word, &byte| word << 8 | u64::from(byte));
        state = mix(state, word);
    }
    usize::try_from(state >> 32).unwrap_or_default()
}
