//! What validators agree a miner is worth: the stake-weighted median, in its closed form (Y7).

use super::fixed::mul;

/// One validator's voice on one miner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voice {
    /// The validator's weight for the miner, as Q, above 0.
    pub weight: u64,
    /// The validator's part of the active stake, as Q.
    pub stake: u64,
}

/// The smallest weight with more than `total - kappa * total` of the stake at or below it, where stake without a voice
/// counts as weight 0; the largest weight when there is none. Equality counts as not above, so stake equal to the
/// minority goes up.
///
/// `voices` is sorted in place; `total` is the stake of all who could have spoken.
pub fn median(voices: &mut [Voice], total: u64, kappa: u64) -> u64 {
    voices.sort_unstable_by_key(|voice| voice.weight);
    let minority = total.saturating_sub(mul(kappa, total));
    let mut below = total.saturating_sub(voices.iter().map(|voice| voice.stake).sum());
    if below > minority && below > 0 {
        return 0;
    }
    for voice in voices.iter() {
        below = below.saturating_add(voice.stake);
        if below > minority {
            return voice.weight;
        }
    }
    voices.last().map_or(0, |voice| voice.weight)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fixed::{ONE, from_u16};
    use super::*;

    /// The definition, tried on every candidate: absent rows hold 0.
    fn brute(rows: &[(u64, u64)], kappa: u64) -> u64 {
        let total: u64 = rows.iter().map(|row| row.1).sum();
        let minority = total - mul(kappa, total);
        let mut candidates: Vec<u64> = rows.iter().map(|row| row.0).collect();
        candidates.sort_unstable();
        let above = |w: &&u64| rows.iter().filter(|row| row.0 <= **w).map(|row| row.1).sum::<u64>() > minority;
        candidates.iter().find(above).or(candidates.last()).copied().unwrap_or(0)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn y07_the_closed_form_is_the_definition(
            rows in prop::collection::vec((0..5_u64, 1..6_u64), 1..12),
            kappa in prop_oneof![Just(0), Just(65_535), Just(32_767), any::<u16>()],
        ) {
            // Multiples of a large unit, so that exact ties with the minority are common.
            let rows: Vec<(u64, u64)> = rows.iter().map(|(w, s)| (w * (ONE / 8), s * (ONE / 64))).collect();
            let kappa = from_u16(kappa);
            let total = rows.iter().map(|row| row.1).sum();
            let mut voices: Vec<Voice> =
                rows.iter().filter(|row| row.0 > 0).map(|row| Voice { weight: row.0, stake: row.1 }).collect();
            prop_assert_eq!(median(&mut voices, total, kappa), brute(&rows, kappa));
        }
    }

    #[test]
    fn half_the_stake_does_not_carry_a_weight_alone() {
        let half = |weight| Voice { weight, stake: ONE / 2 };
        let kappa = from_u16(32_767);
        assert_eq!(median(&mut [half(7)], ONE, kappa), 7, "the minority is a little more than half");
        assert_eq!(median(&mut [Voice { weight: 7, stake: ONE / 2 - 100_000 }], ONE, kappa), 0);
        assert_eq!(median(&mut [], 0, kappa), 0);
        assert_eq!(median(&mut [half(7), half(9)], ONE, 0), 9);
    }
}
