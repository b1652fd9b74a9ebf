//! The hash of keys: SipHash-1-3 by random keys, so that no client can tell or choose which keys share a set. It is the same function as
//! the standard library's, bit by bit, but begins where the limit's number has been hashed, and takes numbers without a detour over bytes.

use std::hash::{BuildHasher, Hash, Hasher};

/// What all hashes of a store begin with.
#[derive(Debug)]
pub(super) struct Keys([u64; 2]);

impl Keys {
    /// Of a hasher with random keys. They cannot be asked for, but what it makes of two numbers is as random.
    pub(super) fn of(hasher: &impl BuildHasher) -> Self {
        Self([hasher.hash_one(0_u64), hasher.hash_one(1_u64)])
    }

    /// What the hashes of a limit's keys begin with.
    pub(super) fn limit(&self, number: u64) -> Start {
        let mut sip = Sip::new(self);
        sip.write_u64(number);
        Start(sip.lanes)
    }
}

/// What the hashes of the keys of one limit begin with: its number has been hashed, eight bytes.
#[derive(Debug)]
pub(super) struct Start([u64; 4]);

impl Start {
    #[inline]
    pub(super) fn hash<K: Hash + ?Sized>(&self, key: &K) -> u64 {
        let mut sip = Sip { lanes: self.0, tail: 0, length: 8 };
        key.hash(&mut sip);
        sip.finish()
    }
}

struct Sip {
    lanes: [u64; 4],
    /// The bytes that do not fill a word yet, the first one lowest.
    tail: u64,
    /// How many bytes have come. The lower three bits are how many are in the tail.
    length: u64,
}

impl Sip {
    /// As "somepseudorandomlygeneratedbytes" has it.
    fn new(Keys([one, two]): &Keys) -> Self {
        let lanes = [
            one ^ 0x736f_6d65_7073_6575,
            two ^ 0x646f_7261_6e64_6f6d,
            one ^ 0x6c79_6765_6e65_7261,
            two ^ 0x7465_6462_7974_6573,
        ];
        Self { lanes, tail: 0, length: 0 }
    }

    /// Takes so many bytes, eight at most, the first one lowest and zeros above the last.
    #[inline]
    fn take(&mut self, bytes: u64, count: u64) {
        let inside = self.length & 7;
        self.length = self.length.wrapping_add(count);
        self.tail |= bytes << (8 * inside);
        if inside + count >= 8 {
            self.lanes = word(self.lanes, self.tail);
            self.tail = if inside == 0 { 0 } else { bytes >> (64 - 8 * inside) };
        }
    }
}

impl Hasher for Sip {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.take(u64::from_le_bytes(*word), 8);
        }
        if !rest.is_empty() {
            self.take(rest.iter().rfold(0, |bytes, byte| bytes << 8 | u64::from(*byte)), rest.len() as u64);
        }
    }

    #[inline]
    fn write_u8(&mut self, number: u8) {
        self.take(number.into(), 1);
    }

    #[inline]
    fn write_u16(&mut self, number: u16) {
        self.take(number.into(), 2);
    }

    #[inline]
    fn write_u32(&mut self, number: u32) {
        self.take(number.into(), 4);
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        self.take(number, 8);
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "one half after the other")]
    fn write_u128(&mut self, number: u128) {
        self.take(number as u64, 8);
        self.take((number >> 64) as u64, 8);
    }

    #[inline]
    fn write_usize(&mut self, number: usize) {
        self.take(number as u64, 8);
    }

    #[inline]
    fn finish(&self) -> u64 {
        let [a, b, c, d] = word(self.lanes, self.length << 56 | self.tail);
        let [a, b, c, d] = round(round(round([a, b, c ^ 0xff, d])));
        a ^ b ^ c ^ d
    }
}

#[inline]
fn word([a, b, c, d]: [u64; 4], word: u64) -> [u64; 4] {
    let [a, b, c, d] = round([a, b, c, d ^ word]);
    [a ^ word, b, c, d]
}

#[inline]
fn round([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    a = a.wrapping_add(b);
    c = c.wrapping_add(d);
    b = b.rotate_left(13) ^ a;
    d = d.rotate_left(16) ^ c;
    a = a.rotate_left(32).wrapping_add(d);
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    d = d.rotate_left(21) ^ a;
    [a, b, c.rotate_left(32), d]
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasherDefault, DefaultHasher, RandomState};
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    /// The standard library's hasher with the keys 0 and 0.
    fn theirs<K: Hash + ?Sized>(limit: u64, key: &K) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(limit);
        key.hash(&mut hasher);
        hasher.finish()
    }

    fn ours<K: Hash + ?Sized>(limit: u64, key: &K) -> u64 {
        Keys([0, 0]).limit(limit).hash(key)
    }

    #[test]
    fn the_keys_come_from_the_hasher_that_is_given() {
        let fixed = BuildHasherDefault::<DefaultHasher>::default();
        assert_eq!(Keys::of(&fixed).0, Keys::of(&fixed).0);
        let (one, other) = (Keys::of(&RandomState::new()), Keys::of(&RandomState::new()));
        assert!(one.0[0] != one.0[1] && one.0 != other.0);
        assert_ne!(one.limit(1).hash("a"), other.limit(1).hash("a"));
        assert_ne!(one.limit(1).hash("a"), one.limit(2).hash("a"));
    }

    #[test]
    fn addresses_hash_as_the_standard_library_hashes_them() {
        let (small, large) = (Ipv4Addr::new(192, 0, 2, 7), Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 3, 4, 5, 6));
        assert_eq!(ours(1, &small), theirs(1, &small));
        assert_eq!(ours(1, &large), theirs(1, &large));
        assert_eq!(
            ours(1, &(IpAddr::V4(small), IpAddr::V6(large))),
            theirs(1, &(IpAddr::V4(small), IpAddr::V6(large)))
        );
    }

    /// What a key may write.
    #[derive(Debug, Clone, Hash)]
    enum Part {
        Byte(u8),
        Two(u16),
        Four(u32),
        Eight(u64),
        Sixteen(u128),
        Signed(i32),
        Size(usize),
        Bytes(Vec<u8>),
        Text(String),
        None,
    }

    fn part() -> impl Strategy<Value = Part> {
        prop_oneof![
            any::<u8>().prop_map(Part::Byte),
            any::<u16>().prop_map(Part::Two),
            any::<u32>().prop_map(Part::Four),
            any::<u64>().prop_map(Part::Eight),
            any::<u128>().prop_map(Part::Sixteen),
            any::<i32>().prop_map(Part::Signed),
            any::<usize>().prop_map(Part::Size),
            prop::collection::vec(any::<u8>(), 0..40).prop_map(Part::Bytes),
            ".{0,20}".prop_map(Part::Text),
            Just(Part::None),
        ]
    }

    /// Writes them without anything between.
    struct Plain<'a>(&'a [Part]);

    impl Hash for Plain<'_> {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.0.iter().for_each(|part| write(part, state));
        }
    }

    fn write(part: &Part, state: &mut impl Hasher) {
        match part {
            Part::Byte(number) => state.write_u8(*number),
            Part::Two(number) => state.write_u16(*number),
            Part::Four(number) => state.write_u32(*number),
            Part::Eight(number) => state.write_u64(*number),
            Part::Sixteen(number) => state.write_u128(*number),
            Part::Signed(number) => state.write_i32(*number),
            Part::Size(number) => state.write_usize(*number),
            Part::Bytes(bytes) => state.write(bytes),
            Part::Text(text) => text.hash(state),
            Part::None => {}
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_hashes_as_the_standard_library_hashes_it(
            limit in any::<u64>(),
            parts in prop::collection::vec(part(), 0..20),
        ) {
            prop_assert_eq!(ours(limit, &parts), theirs(limit, &parts));
            prop_assert_eq!(ours(limit, &Plain(&parts)), theirs(limit, &Plain(&parts)));
        }
    }
}
