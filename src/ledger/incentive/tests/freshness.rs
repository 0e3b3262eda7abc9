//! Freshness: a copy, an honest row, and the laws of the sums (D6).

use proptest::prelude::*;

use super::super::fixed::ONE;
use super::super::freshness::{GATE_MIN, PERIODS_MIN};
use super::*;

fn consensus(of: &[i64]) -> Vec<(MemberId, Q)> {
    (0..).map(MemberId).zip(of.iter().map(|part| part << 20)).collect()
}

fn row_of(of: &[u32]) -> Vec<(MemberId, u32)> {
    (0..).map(MemberId).zip(of.iter().copied()).filter(|(_, value)| *value > 0).collect()
}

#[test]
fn d06_a_copy_of_the_past_is_minus_one_and_a_row_of_the_present_is_one() {
    let movement = Movement::new(&consensus(&[3, 1]), &consensus(&[1, 1]));
    assert_eq!(movement.moved(), ONE / 2);
    let (mut copy, mut fresh) = (Freshness::default(), Freshness::default());
    for period in 0..PERIODS_MIN {
        assert_eq!((copy.value(), copy.gate(0)), (None, ONE), "nobody is judged after {period} periods");
        copy.observe(&movement, &row_of(&[300, 100]));
        fresh.observe(&movement, &row_of(&[7, 7]));
    }
    assert_eq!((copy.value(), fresh.value()), (Some(-ONE), Some(ONE)));
    assert_eq!((copy.gate(ONE / 4), fresh.gate(0)), (GATE_MIN, ONE));
    assert_eq!(copy.gate(ONE / 4 + 1), ONE, "a voice above a quarter is not judged");
}

#[test]
fn d06_nothing_is_said_while_nothing_moves_or_nothing_was_public() {
    let mut still = Freshness::default();
    still.observe(&Movement::new(&consensus(&[1000, 1000]), &consensus(&[1000, 1001])), &row_of(&[1, 1]));
    still.observe(&Movement::new(&[], &consensus(&[1, 2])), &row_of(&[1, 1]));
    still.observe(&Movement::new(&consensus(&[1, 2]), &consensus(&[0, 0])), &row_of(&[1, 1]));
    assert_eq!(still, Freshness::default());
}

#[test]
fn d06_who_left_is_no_movement() {
    let before = consensus(&[1, 1, 2]);
    let movement = Movement::new(&before, &before[..2]);
    assert_eq!((movement.moved(), movement.nearer(&row_of(&[5, 5, 90]))), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn d06_freshness_stays_between_minus_one_and_one(
        periods in prop::collection::vec(
            (prop::collection::vec(0..1_000_i64, 6), prop::collection::vec(0..1_000_i64, 6), prop::collection::vec(0..65_536_u32, 6)),
            1..40,
        ),
    ) {
        let mut kept = Freshness::default();
        for (before, now, weights) in periods {
            let movement = Movement::new(&consensus(&before), &consensus(&now));
            prop_assert!((0..=2 * ONE).contains(&movement.moved()));
            kept.observe(&movement, &row_of(&weights));
            prop_assert!(kept.nearer.abs() <= kept.moved);
            prop_assert!(kept.value().is_none_or(|value| (-ONE..=ONE).contains(&value)));
            prop_assert!((GATE_MIN..=ONE).contains(&kept.gate(0)));
        }
    }
}
