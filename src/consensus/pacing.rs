//! How long to wait: local policy that can never hurt safety (C22-C25).

use crate::protocol::ids::View;

use super::Params;

/// A header stamped further ahead of our clock than this is held (C16).
pub(crate) const FUTURE_MS: u64 = 10_000;
/// The back-off doubles at most so many times (C25).
const DOUBLINGS: u32 = 5;

/// The distance of checkpoints now: shorter when transactions wait (C24).
pub(crate) fn pace_ms(params: &Params, pending: bool) -> u64 {
    if pending { params.interval_ms } else { params.idle_ms.max(params.interval_ms) }
}

/// The bound of a hop after `nullified` lost views in a row (C25).
pub(crate) fn delta_ms(params: &Params, nullified: View) -> u64 {
    let doublings = u32::try_from(nullified).unwrap_or(u32::MAX).min(DOUBLINGS);
    params.delta_ms.saturating_mul(1 << doublings).min(params.delta_max_ms)
}

/// From entry until the proposal should be here (C25).
pub(crate) fn leader_ms(params: &Params, pending: bool, nullified: View) -> u64 {
    pace_ms(params, pending).saturating_add(delta_ms(params, nullified).saturating_mul(2))
}

/// From entry until the view should be over (C25).
pub(crate) fn view_ms(params: &Params, pending: bool, nullified: View) -> u64 {
    pace_ms(params, pending).saturating_add(delta_ms(params, nullified).saturating_mul(4))
}

/// How long from now until a leader may send: its wall clock reached the parent's stamp and a pace, but no later than
/// one pace after it entered the view, so that a wrong clock cannot stop it (C24).
pub(crate) fn due_in_ms(pace_ms: u64, parent_stamp_ms: u64, wall_ms: u64, since_entry_ms: u64) -> u64 {
    let by_stamp = parent_stamp_ms.saturating_add(pace_ms).saturating_sub(wall_ms);
    by_stamp.min(pace_ms.saturating_sub(since_entry_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_keeps_the_interval_and_survives_a_wrong_clock() {
        // (pace, parent stamp, wall clock, since entry) -> wait
        let cases = [
            ((1_000, 5_000, 5_200, 0), 800),
            ((1_000, 5_000, 5_200, 700), 300),
            ((1_000, 5_000, 9_000, 0), 0),
            ((1_000, 3_600_000, 0, 0), 1_000),
            ((1_000, 3_600_000, 0, 1_500), 0),
            ((1_000, u64::MAX, 0, 0), 1_000),
        ];
        for ((pace, stamp, wall, since), expected) in cases {
            assert_eq!(due_in_ms(pace, stamp, wall, since), expected, "{pace} {stamp} {wall} {since}");
        }
    }
}
