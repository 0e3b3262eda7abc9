//! When to try again: delays that double from a floor to a ceiling, with jitter, for ever.
//!
//! Jitter is drawn from given chance: many nodes that lost the same peer at the same moment must not return together.

use crate::protocol::chance::Chance;

/// The delays of one thing that is tried again.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    floor_ms: u64,
    ceiling_ms: u64,
    tries: u32,
}

impl Backoff {
    pub fn new(floor_ms: u64, ceiling_ms: u64) -> Self {
        Self { floor_ms, ceiling_ms, tries: 0 }
    }

    /// The next delay: between half and the whole of the doubled step.
    pub fn next_ms(&mut self, chance: &mut Chance) -> u64 {
        let step = self.floor_ms.saturating_mul(1 << self.tries.min(20)).clamp(1, self.ceiling_ms.max(1));
        self.tries = self.tries.saturating_add(1);
        step / 2 + chance.below(step / 2 + 1)
    }

    /// It worked: start from the floor again.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_ceiling_and_start_again() {
        let mut chance = Chance::from_seed([1; 32]);
        let mut backoff = Backoff::new(100, 5_000);
        for step in [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
            let delay = backoff.next_ms(&mut chance);
            assert!((step / 2..=step).contains(&delay), "{delay} of {step}");
        }
        backoff.reset();
        assert!(backoff.next_ms(&mut chance) <= 100);
    }
}
