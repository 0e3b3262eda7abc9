//! Chance as an argument: a seeded generator, so that everything drawn can be drawn again.
//!
//! The stream is the BLAKE3 extendable output of the seed. Nodes that must agree on a draw derive the seed from agreed
//! digests; what is private (nonces, challenges) starts from operating-system entropy given by the composition root.

use std::convert::Infallible;

use super::ids::Digest;

/// A stream of bytes fixed by its seed.
#[derive(Clone, Debug)]
pub struct Chance {
    stream: blake3::OutputReader,
}

impl Chance {
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("starling/1 chance");
        hasher.update(&seed);
        Self { stream: hasher.finalize_xof() }
    }

    /// An independent stream for one purpose, so that draws of one part never shift those of another.
    pub fn fork(&mut self, purpose: &str) -> Self {
        let mut seed = [0; 32];
        self.fill(&mut seed);
        Self::from_seed(super::ids::hash("starling/1 chance fork", &[&seed, purpose.as_bytes()]).0)
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.stream.fill(bytes);
    }

    pub fn bytes32(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.fill(&mut bytes);
        bytes
    }

    pub fn u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Uniform in `0..bound` by rejection, hence without modulo bias; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        let limit = u64::MAX - u64::MAX % bound;
        loop {
            let draw = self.u64();
            if draw < limit {
                return draw % bound;
            }
        }
    }

    /// Uniform in `0..bound` as an index; 0 when `bound` is 0.
    pub fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap_or(0)
    }

    /// Whether an event of `numerator / denominator` happens.
    pub fn one_in(&mut self, numerator: u64, denominator: u64) -> bool {
        self.below(denominator) < numerator
    }

    /// Fisher-Yates, from the last place down.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }
}

impl From<Digest> for Chance {
    fn from(seed: Digest) -> Self {
        Self::from_seed(seed.0)
    }
}

impl rand_core::TryRng for Chance {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.fill(bytes);
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Chance {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_and_forks_are_independent() {
        let mut a = Chance::from_seed([1; 32]);
        let mut b = Chance::from_seed([1; 32]);
        assert_eq!(a.u64(), b.u64());
        let (mut left, mut right) = (a.fork("left"), b.fork("right"));
        assert_ne!(left.u64(), right.u64());
        assert_eq!(a.u64(), b.u64());
    }

    #[test]
    fn below_stays_below_and_reaches_every_value() {
        let mut chance = Chance::from_seed([2; 32]);
        let mut seen = [0; 7];
        for _ in 0..7_000 {
            seen[chance.index(7)] += 1;
        }
        assert!(seen.iter().all(|&n| (850..1_150).contains(&n)), "{seen:?}");
        assert_eq!(chance.below(0), 0);
    }
}
