//! The laws of the arithmetic (T4).

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// The two nested floors of a stake share equal the single one that is used (Y 1.1).
    #[test]
    fn y01_a_stake_share_needs_one_floor(part in any::<u64>(), more in any::<u32>()) {
        let whole = u128::from(part) + u128::from(more) + 1;
        let nested = ((u128::from(part) << 64) / whole) >> 32;
        prop_assert_eq!(u128::from(ratio(part.into(), whole).unsigned_abs()), nested);
    }

    /// A row share is DIV of INTs, wherever these do not saturate.
    #[test]
    fn y05_a_row_share_is_a_plain_quotient(value in any::<u16>(), more in 0..0x7fff_0000_u32) {
        let total = u64::from(value) + u64::from(more);
        let literal = div(int(value.into()), int(i64::try_from(total).unwrap()));
        prop_assert_eq!(ratio(value.into(), total.into()), literal);
    }

    #[test]
    fn t04_quotients_are_exact_on_every_path(a in any::<i64>(), b in any::<i64>(), shift in 0..63_u32, other in 0..63_u32) {
        let (a, b) = (a >> shift, b >> other);
        let want = if b == 0 { 0 } else { sat((i128::from(a) << 32) / i128::from(b)) };
        prop_assert_eq!(div(a, b), want);
        let one = if b == 0 { 0 } else { sat((i128::from(ONE) << 32) / i128::from(b)) };
        prop_assert_eq!(div(ONE, b), one);
        let (a, b) = (a.saturating_abs(), b.unsigned_abs());
        let want = if b == 0 { 0 } else { sat((i128::from(a) << 32) / i128::from(b)) };
        prop_assert_eq!(Divider::of(b).share(a), want);
        prop_assert_eq!(ratio(a.unsigned_abs().into(), b.into()), want);
    }

    #[test]
    fn t04_the_largest_is_stretched_to_the_whole(values in prop::collection::vec(0..=Q::MAX, 1..20)) {
        let scaled = upscale(&values);
        let most = values.iter().max().unwrap();
        for (value, scaled) in values.iter().zip(&scaled) {
            prop_assert!(*most == 0 || value != most || *scaled == 65_535);
        }
    }
}

#[test]
fn t04_multiplication_floors_below_zero_too() {
    assert_eq!((mul(-1, 1), mul(1, 1), mul(-ONE, ONE / 2), mul(Q::MAX, Q::MAX)), (-1, 0, -ONE / 2, Q::MAX));
    assert_eq!((div(-1, 2 * ONE), div(-3, 2), div(1, 0), div(Q::MAX, 1)), (0, -ONE - ONE / 2, 0, Q::MAX));
    assert_eq!((add(Q::MAX, 1), sub(Q::MIN, 1), int(i64::MAX), int(-3)), (Q::MAX, Q::MIN, Q::MAX, -3 * ONE));
}

#[test]
fn t04_parameters_and_stored_shares() {
    assert_eq!((from_u16(65_535), from_u16(0), from_ppm(1_000_000), from_ppm(500_000)), (ONE, 0, ONE, ONE / 2));
    assert_eq!((to_u16(ONE), to_u16(-5), to_u16(ONE / 2), to_u16(Q::MAX)), (65_535, 0, 32_767, 65_535));
    assert_eq!((to_raw32(ONE), to_raw32(5), to_raw32(-5)), (u32::MAX, 5, 0));
    assert_eq!((amount(ONE, 7), amount(ONE / 2, 7), amount(0, 7), amount(-1, 7)), (7, 3, 0, 0));
    let mut values = [1, 2, 1];
    norm(&mut values);
    assert_eq!(values, [ONE / 4, ONE / 2, ONE / 4]);
    let mut nothing = [0, 0];
    norm(&mut nothing);
    assert_eq!(nothing, [0, 0]);
}

/// Every line of `exp.txt` is a raw argument and the true value in raw units, with 30 decimals.
#[test]
fn t04_the_exponential_is_within_three_units_of_two_hundred_known_values() {
    let mut lines = 0;
    for line in include_str!("exp.txt").lines() {
        let (x, truth) = line.split_once(' ').unwrap();
        let whole: i64 = truth.split('.').next().unwrap().parse().unwrap();
        let got = exp(x.parse().unwrap());
        // The truth is between whole and whole + 1.
        assert!((whole - 2..=whole + 3).contains(&got), "exp({x}): got {got}, the truth is {truth}");
        lines += 1;
    }
    assert_eq!((lines, exp(0)), (200, ONE));
}

/// The literal form, as the text has it.
fn literal(x: Q) -> Q {
    let wide = i128::from(x.clamp(-20 * ONE, 20 * ONE)) << 32;
    let (k, r) = (wide.div_euclid(LN2), wide.rem_euclid(LN2).unsigned_abs());
    let (mut t, mut s) = (1_u128 << 64, 1_u128 << 64);
    for i in 1..=24 {
        t = ((t * r) >> 64) / i;
        s += t;
    }
    sat_u(s >> (32 - k))
}

#[test]
fn t04_the_exponential_never_falls_and_is_the_literal_one() {
    let mut last = 0;
    for step in 0..=1_000_000_i64 {
        let x = -21 * ONE + step * (42 * ONE / 1_000_000);
        let got = exp(x);
        assert!(got >= last, "exp falls at {x}");
        assert_eq!(got, literal(x), "at {x}");
        last = got;
    }
}
