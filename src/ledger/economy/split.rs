//! How a subnet's grant is split at a settlement (E8).

use super::largest_remainder;

/// Hundredths of a percent in a whole, twice: the rest is shared in halves.
const WHOLE: u64 = 20_000;

/// The parts of one settlement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Split {
    pub owner: u64,
    pub miners: u64,
    pub validators: u64,
}

/// Splits an amount: what the owner does not take goes to miners and validators in halves (E8). The parts sum to it.
pub fn split(amount: u64, owner_bp: u64) -> Split {
    let owner = owner_bp.saturating_mul(2).min(WHOLE);
    let each = (WHOLE - owner) / 2;
    let parts = largest_remainder(amount, &[owner, each, each]);
    let [owner, miners, validators] = <[u64; 3]>::try_from(parts).unwrap_or_default();
    Split { owner, miners, validators }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e08_the_owner_has_its_part_and_the_others_halves_of_the_rest() {
        assert_eq!(split(10_000, 1_800), Split { owner: 1_800, miners: 4_100, validators: 4_100 });
        assert_eq!(split(10_000, 0), Split { owner: 0, miners: 5_000, validators: 5_000 });
        assert_eq!(split(10_001, 1_001), Split { owner: 1_001, miners: 4_500, validators: 4_500 });
        for amount in 0..200 {
            let of = split(amount, 1_799);
            assert_eq!(of.owner + of.miners + of.validators, amount);
        }
    }
}
