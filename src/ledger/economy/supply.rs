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
