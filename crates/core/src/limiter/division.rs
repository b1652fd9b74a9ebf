//! Division by a number that stays the same, without dividing: a processor's own division takes up to ten times as long as what it takes
//! here, and nothing that follows can begin before.

/// A number to divide by, and its share of 2^64.
#[derive(Debug, Clone, Copy)]
pub(super) struct Divisor {
    number: u64,
    inverse: u64,
}

impl Divisor {
    /// `number` must not be 0.
    pub(super) fn new(number: u64) -> Self {
        Self { number, inverse: u64::MAX / number.max(1) }
    }

    pub(super) fn number(self) -> u64 {
        self.number
    }

    /// Rounded up, and by how much the dividend falls short of that quotient's product.
    ///
    /// The product of dividend and share falls short of what is exact by less than `dividend / 2^64`, which is less than 1; so it is
    /// rounded down to the quotient or to one below, and what is left tells which.
    #[inline]
    pub(super) fn divide_up(self, dividend: u64) -> (u64, u64) {
        let close = ((u128::from(dividend) * u128::from(self.inverse)) >> 64) as u64;
        let left = dividend.wrapping_sub(close.wrapping_mul(self.number));
        let up = close + u64::from(left > 0) + u64::from(left > self.number);
        (up, up.wrapping_mul(self.number).wrapping_sub(dividend))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(dividend: u64, number: u64) {
        let divisor = Divisor::new(number);
        assert_eq!(divisor.number(), number);
        let (up, short) = divisor.divide_up(dividend);
        assert_eq!(up, dividend.div_ceil(number), "{dividend} / {number}");
        assert_eq!(u128::from(up) * u128::from(number), u128::from(dividend) + u128::from(short));
        assert!(short < number);
    }

    #[test]
    fn it_is_exact_at_the_edges() {
        let powers = (0..64).map(|bit| 1_u64 << bit);
        let mut edges: Vec<u64> = powers.flat_map(|power| [power - 1, power, power + 1]).collect();
        edges.extend([0, 3, 7, 10, 1_000_000_000, 86_400_000_000_000, u64::MAX - 1, u64::MAX, u64::MAX / 3]);
        for number in edges.iter().copied().filter(|number| *number > 0) {
            let near = |dividend: &u64| {
                [*dividend, (dividend / number) * number, ((dividend / number) * number).wrapping_sub(1)]
            };
            edges.iter().flat_map(near).for_each(|dividend| check(dividend, number));
        }
    }

    proptest! {
        #[test]
        fn it_is_exact(
            dividend in prop_oneof![any::<u64>(), 0_u64..1000, (0_u32..64).prop_map(|bits| u64::MAX >> bits)],
            number in prop_oneof![1_u64..=u64::MAX, 1_u64..1000, (0_u32..64).prop_map(|bits| u64::MAX >> bits)],
            times in any::<u64>(),
        ) {
            check(dividend, number);
            let multiple = number.saturating_mul(times % (u64::MAX / number).max(1));
            for dividend in [multiple, multiple.saturating_sub(1), multiple.saturating_add(1)] {
                check(dividend, number);
            }
        }
    }
}
