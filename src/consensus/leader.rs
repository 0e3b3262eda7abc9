//! Who leads a view: slots in proportion to weight, in an order drawn once per term (C29-C31).

use crate::protocol::chance::Chance;
use crate::protocol::committee::Committee;
use crate::protocol::ids::{Digest, View};

/// The leaders of a term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    slots: Vec<u16>,
}

/// The seed of the next term, from this one's and the hash of its last checkpoint (C30).
pub fn next_seed(seed: &Digest, boundary: &Digest) -> Digest {
    crate::protocol::ids::hash("starling/1 seed", &[&seed.0, &boundary.0])
}

impl Schedule {
    /// Draws the order of a term.
    pub fn new(committee: &Committee, seed: Digest) -> Self {
        let mut slots: Vec<u16> = (0_u16..)
            .zip(shares(committee))
            .flat_map(|(index, share)| std::iter::repeat_n(index, usize::try_from(share).unwrap_or(0)))
            .collect();
        Chance::from(seed).shuffle(&mut slots);
        Self { slots }
    }

    /// The committee index that leads a view. Depends on the view alone, whatever certificate led into it (S15).
    pub fn leader(&self, view: View) -> u16 {
        let length = u64::try_from(self.slots.len()).unwrap_or(1).max(1);
        usize::try_from(view % length).ok().and_then(|slot| self.slots.get(slot)).copied().unwrap_or(0)
    }
}

/// Largest-remainder shares of 4n slots by weight, ties by key, and at least one each (C29).
fn shares(committee: &Committee) -> Vec<u64> {
    let members = committee.members();
    let total = u128::from(committee.total()).max(1);
    let wanted = 4 * members.len() as u128;
    let exact: Vec<u128> = members.iter().map(|member| u128::from(member.weight) * wanted).collect();
    let mut shares: Vec<u128> = exact.iter().map(|scaled| scaled / total).collect();
    let left = wanted.saturating_sub(shares.iter().sum());
    let mut by_remainder: Vec<usize> = (0..members.len()).collect();
    by_remainder.sort_by_key(|index| (std::cmp::Reverse(exact.get(*index).map(|scaled| scaled % total)), *index));
    for index in by_remainder.into_iter().take(usize::try_from(left).unwrap_or(0)) {
        if let Some(share) = shares.get_mut(index) {
            *share += 1;
        }
    }
    shares.into_iter().map(|share| u64::try_from(share.max(1)).unwrap_or(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::committee::CommitteeMember;
    use crate::protocol::ids::PublicKey;

    fn committee(weights: &[u64]) -> Committee {
        let members = (1..).zip(weights).map(|(i, &weight)| {
            let key = PublicKey([i; 32]);
            CommitteeMember { key, weight, account: key.into() }
        });
        Committee::new(0, members.collect()).unwrap()
    }

    #[test]
    fn slots_follow_weight_and_nobody_is_left_out() {
        let cases: [(&[u64], &[u64]); 5] = [
            (&[1, 1, 1, 1], &[4, 4, 4, 4]),
            (&[3, 2, 2], &[5, 4, 3]),
            (&[1000, 1, 1, 1], &[16, 1, 1, 1]),
            (&[1 << 58, 1 << 58, 1 << 57], &[5, 5, 2]),
            (&[7], &[4]),
        ];
        for (weights, expected) in cases {
            assert_eq!(shares(&committee(weights)), expected, "{weights:?}");
        }
    }

    #[test]
    fn the_order_is_drawn_by_the_seed_and_repeats() {
        let committee = committee(&[1, 1, 1, 1]);
        let schedule = Schedule::new(&committee, Digest([1; 32]));
        assert_eq!(schedule, Schedule::new(&committee, Digest([1; 32])));
        assert_ne!(schedule, Schedule::new(&committee, Digest([2; 32])));
        let leads: Vec<u16> = (0..16).map(|view| schedule.leader(view)).collect();
        assert_eq!(leads, (16..32).map(|view| schedule.leader(view)).collect::<Vec<_>>());
        assert!((0..4).all(|member| leads.iter().filter(|leader| **leader == member).count() == 4));
        assert_eq!(leads, GOLDEN_ORDER);
    }

    const GOLDEN_ORDER: [u16; 16] = [2, 3, 1, 2, 3, 3, 0, 0, 1, 2, 2, 0, 3, 1, 1, 0];
}
