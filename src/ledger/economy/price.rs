//! Prices that fall by half in a fixed span and jump when something is bought (E12).
//!
//! The price is worked out once from the exponent, never by repeated rounding: however often it is asked, it is the same.

use super::super::incentive::fixed::{Q, exp, mul};
use super::rows::Curve;
use crate::protocol::ids::Height;

/// ln 2 in 32.32.
const LN2: Q = 2_977_044_471;
/// Three registrations in a half-life keep the price where it is: 1.26 is about the third root of 2.
const RAISE_PERCENT: u128 = 126;

fn narrow(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

impl Curve {
    /// The price at a height (E12).
    pub fn at(&self, height: Height, half_life: u64, min: u64, max: u64) -> u64 {
        let spans = (u128::from(height.saturating_sub(self.since)) << 32) / u128::from(half_life.max(1));
        let (whole, part) = (spans >> 32, spans & u128::from(u32::MAX));
        let fraction = exp(-mul(Q::try_from(part).unwrap_or(0), LN2));
        let price = match u32::try_from(whole) {
            Ok(whole) if whole < 64 => {
                narrow((u128::from(self.price) * u128::from(fraction.unsigned_abs())) >> (32 + whole))
            }
            _ => 0,
        };
        price.max(min).min(max)
    }

    /// The curve after something was bought at this price (E12).
    pub fn bought(price: u64, at: Height, max: u64) -> Self {
        Self { price: narrow(u128::from(price) * RAISE_PERCENT / 100).min(max), since: at }
    }

    /// The curve after a creation that locked this much (E17).
    pub fn created(lock: u64, at: Height) -> Self {
        Self { price: lock.saturating_mul(2), since: at }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2^(-i/16) times 10^30, worked out elsewhere with 60 digits.
    const TWO_TO_MINUS: [u128; 17] = [
        1_000_000_000_000_000_000_000_000_000_000,
        957_603_280_698_573_646_936_305_635_147,
        917_004_043_204_671_231_743_541_594_794,
        878_126_080_186_649_741_556_080_309_687,
        840_896_415_253_714_543_031_125_476_233,
        805_245_165_974_627_154_089_760_333_678,
        771_105_412_703_970_411_806_145_931_045,
        738_413_072_969_749_655_693_453_740_187,
        707_106_781_186_547_524_400_844_362_104,
        677_127_773_468_446_364_149_007_370_070,
        648_419_777_325_504_832_966_877_058_896,
        620_928_906_036_742_024_296_838_734_363,
        594_603_557_501_360_533_358_749_985_280,
        569_394_317_378_345_826_851_915_141_920,
        545_253_866_332_628_829_603_505_327_880,
        522_136_891_213_706_920_160_983_239_369,
        500_000_000_000_000_000_000_000_000_000,
    ];

    #[test]
    fn e12_the_price_is_the_exact_one_within_a_mote_and_two_to_the_minus_31_of_it() {
        let half_life = 4_320;
        let mut points = 0;
        for price in [1_u64, 999, 1_000_000_007, 10_000_000_000, 123_456_789_012, 10_000_000_000_000] {
            let curve = Curve { price, since: 77 };
            for whole in 0..10_u64 {
                for (i, factor) in (0_u64..).zip(TWO_TO_MINUS) {
                    let height = 77 + whole * half_life + i * half_life / 16;
                    let found = curve.at(height, half_life, 0, u64::MAX);
                    let exact =
                        ((u128::from(price) * (factor / 1_000_000_000_000_000)) / 1_000_000_000_000_000) >> whole;
                    let off = u128::from(found).abs_diff(exact);
                    assert!(off <= 2 + (u128::from(price) >> 31), "{price} at {height}: {found}, exactly {exact}");
                    points += 1;
                }
            }
        }
        assert!(points >= 1_000);
    }

    proptest! {
        #[test]
        fn e12_the_price_never_rises_by_itself(
            price in any::<u64>(), half_life in 1..90_000_u64, height in 0..10_000_000_u64, step in 0..10_000_u64,
        ) {
            let curve = Curve { price, since: 0 };
            let at = |height| curve.at(height, half_life, 0, u64::MAX);
            prop_assert!(at(height + step) <= at(height));
            prop_assert!(at(height) <= price);
        }
    }

    #[test]
    fn e12_three_registrations_in_a_half_life_keep_the_level_and_bounds_hold() {
        let mut curve = Curve { price: 10_000_000_000, since: 0 };
        for i in 1..=30 {
            let height = i * 1_440;
            let price = curve.at(height, 4_320, 1_000_000_000, 10_000_000_000_000);
            curve = Curve::bought(price, height, 10_000_000_000_000);
        }
        assert!((9_900_000_000..10_200_000_000).contains(&curve.price), "{}", curve.price);
        assert_eq!((curve.at(u64::MAX, 1, 5, 9), Curve { price: 100, since: 0 }.at(0, 1, 5, 9)), (5, 9));
        assert_eq!(Curve::bought(100, 7, 110), Curve { price: 110, since: 7 });
    }
}
