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

    #[test]
    fn ties_go_to_the_earlier() {
        assert_eq!(largest_remainder(5, &[1, 1, 1]), [2, 2, 1]);
        assert_eq!(largest_remainder(0, &[1, 2]), [0, 0]);
    }
}
