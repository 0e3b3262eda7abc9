//! Fixed point: Q is 32.32 in `u64`, never negative here (Y 1.1).
//!
//! ONE is 2^32. Products are formed in `u128` and floored; a division by 0 is 0. Nothing saturates silently for values
//! of an epoch: shares are at most ONE and sums of shares stay far below 2^64.

/// One, as 32.32.
pub const ONE: u64 = 1 << 32;

/// The value as `u64`, saturated.
pub fn sat(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// Floor of a product.
pub fn mul(a: u64, b: u64) -> u64 {
    sat((u128::from(a) * u128::from(b)) >> 32)
}

/// The quotient as Q; 0 when the divisor is 0.
pub fn div(a: u64, b: u64) -> u64 {
    share(a.into(), b.into())
}

/// A part of a whole as Q, for wide integers: `(part << 32) / whole`, 0 when there is no whole. Parts are below 2^96.
pub fn share(part: u128, whole: u128) -> u64 {
    (part << 32).checked_div(whole).map_or(0, sat)
}

/// A `u16` parameter over 65535 as Q.
pub fn from_u16(value: u16) -> u64 {
    (u64::from(value) << 32) / 65_535
}

/// A share as the state keeps it: raw 0.32, ONE saturated to the largest value.
pub fn to_raw32(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The two nested floors of a stake share equal the single one that is used (Y 1.1).
        #[test]
        fn y01_a_stake_share_needs_one_floor(part in any::<u64>(), more in any::<u32>()) {
            let whole = u128::from(part) + u128::from(more) + 1;
            let nested = (((u128::from(part)) << 64) / whole) >> 32;
            prop_assert_eq!(u128::from(share(part.into(), whole)), nested);
        }
    }

    #[test]
    fn ends_of_the_range() {
        assert_eq!((mul(ONE, ONE), mul(ONE - 1, ONE - 1), div(1, 0), div(3, 2)), (ONE, ONE - 2, 0, ONE + ONE / 2));
        assert_eq!((from_u16(65_535), from_u16(0), to_raw32(ONE), to_raw32(5)), (ONE, 0, u32::MAX, 5));
    }
}
