//! Where money comes from and how a sum is divided: emission, the split of fees, the largest remainder.
//!
//! Every division here gives away exactly what there was: the parts of a pot sum to the pot (E19), and a fee is what is
//! burned and what the proposer gets.

pub mod pools;
pub mod supply;

use super::rows::Supply;

/// Hundredths of a percent in a whole.
const BASIS: u128 = 10_000;

/// What an epoch may mint: the subnet's emission while there is room under the cap (E3).
pub fn mintable(wanted: u64, supply: &Supply, cap: u64) -> u64 {
    let room = u128::from(cap).saturating_sub(supply.total());
    wanted.min(u64::try_from(room).unwrap_or(u64::MAX))
}

/// The burned part of a sum of fees, rounded up; the rest is the proposer's.
pub fn burned_part(fees: u64, burn_bp: u64) -> u64 {
    let burned = (u128::from(fees) * u128::from(burn_bp)).div_ceil(BASIS);
    u64::try_from(burned).unwrap_or(fees).min(fees)
}

/// Divides a pot by weights (E19): floors, and what is left goes one mote each to the largest remainders, ties to the
/// earlier. The parts sum to the pot exactly, unless all weights are 0: then nobody gets anything.
pub fn largest_remainder(pot: u64, weights: &[u64]) -> Vec<u64> {
    let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    if total == 0 {
        return vec![0; weights.len()];
    }
    let products = || weights.iter().map(|weight| u128::from(pot) * u128::from(*weight));
    let mut parts: Vec<u64> = products().map(|p| u64::try_from(p / total).unwrap_or(u64::MAX)).collect();
    let given: u64 = parts.iter().sum();
    let mut order: Vec<(u128, usize)> = products().map(|p| p % total).zip(0..).collect();
    order.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    let left = usize::try_from(pot - given).unwrap_or(usize::MAX);
    for (_, place) in order.into_iter().take(left) {
        if let Some(part) = parts.get_mut(place) {
            *part += 1;
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn e19_parts_sum_to_the_pot_and_stay_within_one_of_their_share(
            pot in any::<u64>(),
            weights in prop::collection::vec(0..=u64::from(u32::MAX), 1..40),
        ) {
            let parts = largest_remainder(pot, &weights);
            let total: u128 = weights.iter().map(|w| u128::from(*w)).sum();
            let given = parts.iter().map(|p| u128::from(*p)).sum::<u128>();
            prop_assert_eq!(given, if total == 0 { 0 } else { pot.into() });
            for (part, weight) in parts.iter().zip(&weights) {
                let exact = (u128::from(pot) * u128::from(*weight)).checked_div(total).unwrap_or(0);
                prop_assert!(u128::from(*part) == exact || u128::from(*part) == exact + 1);
                prop_assert!(*weight > 0 || *part == 0);
            }
        }
    }

    #[test]
    fn fees_are_burned_up_and_minting_stops_at_the_cap() {
        assert_eq!(
            (burned_part(5, 5_000), burned_part(0, 5_000), burned_part(7, 0), burned_part(7, 10_000)),
            (3, 0, 0, 7)
        );
        assert_eq!(burned_part(u64::MAX, 10_000), u64::MAX);
        let supply = Supply { genesis: 90, minted: 20, burned: 5, dust: 0 };
        assert_eq!((mintable(10, &supply, 200), mintable(10, &supply, 112), mintable(10, &supply, 100)), (10, 7, 0));
    }

    #[test]
    fn ties_go_to_the_earlier() {
        assert_eq!(largest_remainder(5, &[1, 1, 1]), [2, 2, 1]);
        assert_eq!(largest_remainder(0, &[1, 2]), [0, 0]);
    }
}
