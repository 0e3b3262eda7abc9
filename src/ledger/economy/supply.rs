//! How much a height may mint (E3).

/// What a height may mint at this supply: halved as often as the room under the cap can be doubled (E3).
pub fn emission(supply: u128, base: u64, cap: u64) -> u64 {
    let mut left = u128::from(cap).saturating_sub(supply);
    if left == 0 {
        return 0;
    }
    let mut halvings = 0;
    while left * 2 <= u128::from(cap) {
        left *= 2;
        halvings += 1;
    }
    base.checked_shr(halvings).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T4: one mote before, at and after each halving.
    #[test]
    fn e03_emission_halves_whenever_the_room_under_the_cap_has_halved() {
        const CAP: u64 = 21_000_000_000_000_000;
        const BASE: u64 = 100_000_000;
        let at = |supply: u128| emission(supply, BASE, CAP);
        assert_eq!((at(0), at(CAP.into()), at(u128::from(CAP) + 1), emission(0, 0, CAP)), (BASE, 0, 0, 0));
        let mut room = u128::from(CAP);
        for halvings in 1..20_u32 {
            room /= 2;
            let point = u128::from(CAP) - room;
            let (before, after) = (BASE >> (halvings - 1), BASE >> halvings);
            // An odd room cannot be doubled back to the cap exactly: the mote itself may be either.
            assert_eq!((at(point - 1), at(point + 1)), (before, after), "halving {halvings}");
            assert!(at(point) == before || at(point) == after);
        }
        assert_eq!((at(10_499_999_999_999_999), at(10_500_000_000_000_000)), (BASE, BASE / 2));
        assert_eq!(at(u128::from(CAP) - 1), BASE >> 54, "the last mote");
    }
}
