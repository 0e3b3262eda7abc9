//! Freshness (D6): whether a row follows the present or only repeats the past.
//!
//! A row that was written without looking is nearer to what its period agreed on than to what was already public, because
//! its errors know nothing of the movement between the two. A copy is nearer to the past. What is kept per validator are
//! two fading sums; what they say is published always and lowers dividends only where a subnet turned the gate on.

use super::fixed::{ONE, Q, div, ratio};
use crate::protocol::ids::MemberId;

/// A period in which the consensus moved less than this says nothing.
pub const MOVE_MIN: Q = ONE >> 10;
/// Periods that must have counted before a row is judged.
pub const PERIODS_MIN: u32 = 8;
/// A larger voice is half of the consensus itself and is not judged.
pub const VOICE_MAX: Q = ONE / 4;
/// The least a gated dividend is multiplied by.
pub const GATE_MIN: Q = ONE / 4;
/// Sums fade by one part in so many each period.
const FADE: i64 = 32;

/// What is remembered about one row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freshness {
    /// N: how much nearer the row was to the past than to the present.
    pub nearer: i64,
    /// M: how much the consensus moved meanwhile. Never less than N, whatever its sign.
    pub moved: i64,
    /// Periods that counted.
    pub periods: u32,
}

impl Freshness {
    /// Takes in a period in which the row was revealed.
    pub fn observe(&mut self, movement: &Movement, weights: &[(MemberId, u32)]) {
        if movement.moved < MOVE_MIN {
            return;
        }
        self.nearer = self.nearer - self.nearer / FADE + movement.nearer(weights);
        self.moved = self.moved - self.moved / FADE + movement.moved;
        self.periods = self.periods.saturating_add(1);
    }

    /// χ in [-1, 1], once enough periods have counted: 1 is wholly of the present, -1 wholly of the past.
    pub fn value(&self) -> Option<Q> {
        (self.periods >= PERIODS_MIN && self.moved > 0).then(|| div(self.nearer, self.moved))
    }

    /// What a dividend is multiplied by where the gate is on; ONE while the row is not judged.
    pub fn gate(&self, active: Q) -> Q {
        match self.value() {
            Some(value) if active <= VOICE_MAX => (ONE + 2 * value).clamp(GATE_MIN, ONE),
            _ => ONE,
        }
    }
}

/// What was public while a period could still be committed, and what the period agreed on.
#[derive(Clone, Debug, Default)]
pub struct Movement {
    /// Miner, its part before, its part now; of those still there.
    parts: Vec<(MemberId, Q, Q)>,
    moved: Q,
}

impl Movement {
    /// Of the consensus of two periods by miner, ids ascending. `now` names every miner there is; who left says nothing.
    pub fn new(before: &[(MemberId, Q)], now: &[(MemberId, Q)]) -> Self {
        let of = |id: MemberId| before.binary_search_by_key(&id, |of| of.0).ok().and_then(|at| before.get(at));
        let mut parts: Vec<(MemberId, Q, Q)> =
            now.iter().map(|(id, q)| (*id, of(*id).map_or(0, |b| b.1), *q)).collect();
        let sum =
            |get: fn(&(MemberId, Q, Q)) -> Q| parts.iter().map(|p| u128::from(get(p).unsigned_abs())).sum::<u128>();
        let (past, present) = (sum(|part| part.1), sum(|part| part.2));
        for part in &mut parts {
            part.1 = ratio(u128::from(part.1.unsigned_abs()), past);
            part.2 = ratio(u128::from(part.2.unsigned_abs()), present);
        }
        // Before there was any consensus nothing can have been copied, and without one now nothing was agreed on.
        let moved = if past == 0 || present == 0 { 0 } else { parts.iter().map(|part| (part.1 - part.2).abs()).sum() };
        Self { parts, moved }
    }

    /// How far the consensus moved: the sum of all differences, at most two.
    pub fn moved(&self) -> Q {
        self.moved
    }

    /// A row's distance to the present taken from its distance to the past; never more than the movement.
    pub fn nearer(&self, weights: &[(MemberId, u32)]) -> Q {
        let place = |id: &MemberId| self.parts.binary_search_by_key(id, |part| part.0).is_ok();
        let total: u64 = weights.iter().filter(|(id, _)| place(id)).map(|(_, value)| u64::from(*value)).sum();
        let mut weights = weights.iter().peekable();
        let mut nearer = 0;
        for (id, past, present) in &self.parts {
            while weights.next_if(|of| of.0 < *id).is_some() {}
            let value = weights.next_if(|of| of.0 == *id).map_or(0, |of| of.1);
            let weight = ratio(u128::from(value), u128::from(total));
            nearer += (weight - past).abs() - (weight - present).abs();
        }
        nearer
    }
}
