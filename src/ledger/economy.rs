//! Where money comes from and how a sum is divided: emission, base fees, the largest remainder.
//!
//! Every division here gives away exactly what there was: the parts of a pot sum to the pot (E19).

pub mod committee;
pub mod grants;
pub mod members;
pub mod pools;
pub mod price;
pub mod rows;
pub mod split;
pub mod subnets;
pub mod supply;

use std::cmp::Reverse;

use self::rows::{Charter, Curve, Purse, Support};
use super::rows::Supply;
use super::state::State;
use crate::protocol::genesis::Genesis;
use crate::protocol::parameters::NetworkKind;

/// A byte or a unit never costs more than this: a STAR.
const BASE_MAX: u64 = 1_000_000_000;

/// Hundredths of a percent in a whole.
const BASIS: u128 = 10_000;

/// The books at height 0.
pub(super) fn genesis(state: &mut State, genesis: &Genesis) {
    for row in &genesis.subnets {
        state.put(&row.id, Some(Charter { name: row.name.clone(), owner: row.owner, ..Charter::default() }));
        let price = Curve { price: row.rules.price_start, since: 0 };
        state.put(&row.id, Some(Purse { price, ..Purse::default() }));
    }
    for row in genesis.committee.iter().filter(|row| !row.support.is_empty()) {
        let parts = row.support.iter().map(|subnet| (*subnet, 1)).collect();
        state.put(&row.account, Some(Support { parts }));
    }
    state.treasury.devnet = genesis.network == NetworkKind::Devnet;
    state.treasury.lock = Curve { price: genesis.parameters.lock_min, since: 0 };
    state.treasury.next_subnet = genesis.subnets.iter().map(|row| row.id.0).max().map_or(1, |id| id.saturating_add(1));
}

/// What an epoch may mint: the subnet's emission while there is room under the cap (E3).
pub fn mintable(wanted: u64, supply: &Supply, cap: u64) -> u64 {
    let room = u128::from(cap).saturating_sub(supply.total());
    wanted.min(u64::try_from(room).unwrap_or(u64::MAX))
}

/// A base fee after a height (E11): an eighth up when the body was full, an eighth down when it was empty, in between in
/// proportion, and at least a mote unless it was exactly half full. Never below what the network asks at least.
pub fn next_base(base: u64, used: u64, full: u64, least: u64) -> u64 {
    let half = (full / 2).max(1);
    let step = |off: u64| {
        let step = u128::from(base) * u128::from(off.min(half)) / u128::from(half) / 8;
        u64::try_from(step).unwrap_or(u64::MAX).max(1)
    };
    let next = match used.cmp(&half) {
        std::cmp::Ordering::Less => base.saturating_sub(step(half - used)),
        std::cmp::Ordering::Equal => base,
        std::cmp::Ordering::Greater => base.saturating_add(step(used - half)),
    };
    next.clamp(least, BASE_MAX.max(least))
}

/// Divides a pot by weights (E19): floors, and what is left goes one mote each to the largest remainders, ties to the
/// earlier. The parts sum to the pot exactly, unless all weights are 0: then nobody gets anything.
pub fn largest_remainder(pot: u64, weights: &[u64]) -> Vec<u64> {
    let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    if total == 0 {
        return vec![0; weights.len()];
    }
    let mut parts = Vec::with_capacity(weights.len());
    let mut rests = Vec::with_capacity(weights.len());
    let mut left = pot;
    for (place, weight) in weights.iter().enumerate() {
        let (part, rest) = share(u128::from(pot) * u128::from(*weight), total);
        left -= part;
        parts.push(part);
        rests.push((Reverse(rest), place));
    }
    // What is left is less than there are parts, so nothing has to be sorted: only who is among the first.
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    if (1..rests.len()).contains(&left) {
        rests.select_nth_unstable(left - 1);
    }
    for (_, place) in rests.into_iter().take(left) {
        if let Some(part) = parts.get_mut(place) {
            *part += 1;
        }
    }
    parts
}

/// Quotient and rest; by the processor's own division where both fit it, which is nearly always.
fn share(product: u128, total: u128) -> (u64, u128) {
    match (u64::try_from(product), u64::try_from(total)) {
        (Ok(product), Ok(total)) => (product / total, u128::from(product % total)),
        _ => (u64::try_from(product / total).unwrap_or(u64::MAX), product % total),
    }
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
    fn minting_stops_at_the_cap() {
        let supply = Supply { genesis: 90, minted: 20, burned: 5, dust: 0 };
        assert_eq!((mintable(10, &supply, 200), mintable(10, &supply, 112), mintable(10, &supply, 100)), (10, 7, 0));
    }

    #[test]
    fn e11_base_fees_follow_bodies_by_an_eighth() {
        assert_eq!(next_base(800, 1_000, 1_000, 1), 900);
        assert_eq!(next_base(800, 0, 1_000, 1), 700);
        assert_eq!((next_base(800, 500, 1_000, 1), next_base(800, 750, 1_000, 1)), (800, 850));
        assert_eq!((next_base(800, 0, 1_000, 750), next_base(10, 0, 1_000, 10)), (750, 10));
        // Small fees move too, and no fee moves by more than an eighth or a mote.
        assert_eq!((next_base(3, 501, 1_000, 1), next_base(3, 499, 1_000, 1)), (4, 2));
        assert_eq!(next_base(u64::MAX, 1_000, 1_000, 1), BASE_MAX);
        let climb = (0..100).fold(10, |base, _| next_base(base, 9, 9, 10));
        assert!(climb > 10 * 7_000 && (0..1_000).fold(climb, |base, _| next_base(base, 0, 9, 10)) == 10);
    }

    proptest! {
        /// As it is written: sorted by remainder, ties by place.
        #[test]
        fn e19_what_is_left_goes_to_the_largest_remainders(
            pot in prop_oneof![0..1_000_u64, any::<u64>()],
            weights in prop::collection::vec(prop_oneof![0..9_u64, Just(1 << 40), any::<u64>()], 1..40),
        ) {
            let total: u128 = weights.iter().map(|w| u128::from(*w)).sum();
            prop_assume!(total > 0);
            let product = |at: usize| u128::from(pot) * u128::from(weights[at]);
            let mut wanted: Vec<u128> = (0..weights.len()).map(|at| product(at) / total).collect();
            let left = u128::from(pot) - wanted.iter().sum::<u128>();
            let mut order: Vec<usize> = (0..weights.len()).collect();
            order.sort_by_key(|at| Reverse(product(*at) % total));
            order.into_iter().take(usize::try_from(left).unwrap()).for_each(|at| wanted[at] += 1);
            let parts: Vec<u128> = largest_remainder(pot, &weights).into_iter().map(u128::from).collect();
            prop_assert_eq!(parts, wanted);
        }
    }

    #[test]
    fn ties_go_to_the_earlier() {
        assert_eq!(largest_remainder(5, &[1, 1, 1]), [2, 2, 1]);
        assert_eq!(largest_remainder(0, &[1, 2]), [0, 0]);
    }
}
