//! Chance of the agents: one seed, a stream for each purpose, the same numbers on every machine.
//!
//! Streams do not know of each other, so two worlds that differ in a switch only see the same qualities and the same
//! errors. Logarithms and powers come from `libm`, because those of a system's library differ in the last bit.

use chacha20::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// What a stream of chance is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Stake,
    Victims,
    /// How one miner, by place, fares.
    Quality(u32),
    /// What one validator, by number, gets wrong.
    Errors(u32),
    /// What one validator adds or leaves out on purpose.
    Whims(u32),
}

impl Purpose {
    fn number(self) -> u64 {
        match self {
            Self::Stake => 1,
            Self::Victims => 2,
            Self::Quality(of) => (3 << 32) | u64::from(of),
            Self::Errors(of) => (1 << 32) | u64::from(of),
            Self::Whims(of) => (2 << 32) | u64::from(of),
        }
    }
}

/// A stream of chance.
#[derive(Debug)]
pub struct Chance {
    source: ChaCha8Rng,
    spare: Option<f64>,
}

impl Chance {
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        let mut source = ChaCha8Rng::seed_from_u64(seed);
        source.set_stream(purpose.number());
        Self { source, spare: None }
    }

    /// Where the numbers of an epoch begin, however many were drawn before: one more miner changes nothing for the others.
    pub fn turn_to(&mut self, epoch: u32) {
        self.source.set_word_pos(u128::from(epoch) << 20);
        self.spare = None;
    }

    /// In [0, 1), all 53 bits of it.
    pub fn unit(&mut self) -> f64 {
        const STEP: f64 = 1.0 / (1_u64 << 53) as f64;
        (self.source.next_u64() >> 11) as f64 * STEP
    }

    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.source.next_u64() % end).unwrap_or(0)
    }

    /// Of mean 0 and deviation 1, by the polar method.
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (a, b) = (2.0 * self.unit() - 1.0, 2.0 * self.unit() - 1.0);
            let square = a * a + b * b;
            if square > 0.0 && square < 1.0 {
                let scale = (-2.0 * libm::log(square) / square).sqrt();
                self.spare = Some(b * scale);
                return a * scale;
            }
        }
    }

    /// At least 1, the heavier its tail the smaller `alpha`.
    pub fn pareto(&mut self, alpha: f64) -> f64 {
        libm::pow(1.0 - self.unit(), -1.0 / alpha)
    }

    /// So many different numbers below `end`, ascending.
    pub fn pick(&mut self, count: usize, end: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..end).collect();
        let count = count.min(end);
        for at in 0..count {
            let other = at + self.below(end - at);
            all.swap(at, other);
        }
        all.truncate(count);
        all.sort_unstable();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s01_streams_repeat_and_do_not_know_each_other() {
        let draw = |seed, purpose| {
            let mut chance = Chance::new(seed, purpose);
            (0..4).map(|_| chance.normal().to_bits()).collect::<Vec<u64>>()
        };
        assert_eq!(draw(1, Purpose::Errors(3)), draw(1, Purpose::Errors(3)));
        assert_ne!(draw(1, Purpose::Errors(3)), draw(1, Purpose::Errors(4)));
        assert_ne!(draw(1, Purpose::Quality(0)), draw(2, Purpose::Quality(0)));
    }

    #[test]
    fn s01_normals_have_mean_0_and_deviation_1_and_picks_differ() {
        let mut chance = Chance::new(5, Purpose::Quality(0));
        let drawn: Vec<f64> = (0..20_000).map(|_| chance.normal()).collect();
        let mean = drawn.iter().sum::<f64>() / 20_000.0;
        let square = drawn.iter().map(|x| x * x).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (square - 1.0).abs() < 0.05, "{mean} {square}");
        assert!((0..100).all(|_| chance.pareto(1.2) >= 1.0));
        let picked = chance.pick(5, 9);
        assert!(picked.len() == 5 && picked.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
