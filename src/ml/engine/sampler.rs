//! Which token follows from a distribution: drawn by seed and place alone, so that whoever holds the weights can draw again
//! (M15).

use crate::ml::model::layers::unit;
use crate::protocol::chance::Chance;
use crate::protocol::ids::hash;

/// A number in [0, 1) that follows from the seed of an answer and a place in it.
pub fn draw(seed: u64, place: u64) -> f64 {
    unit(&mut Chance::from(hash("starling/1 completion", &[&seed.to_le_bytes(), &place.to_le_bytes()])))
}

/// The likeliest token (the smaller on a tie) at temperature 0, otherwise the one whose share of the distribution, in the
/// order of tokens, holds `drawn`.
pub fn choose(logits: &[f32], temperature_milli: u32, drawn: f64) -> usize {
    let (mut best, mut most) = (0, f32::NEG_INFINITY);
    for (token, &logit) in logits.iter().enumerate() {
        if logit > most {
            (best, most) = (token, logit);
        }
    }
    if temperature_milli == 0 {
        return best;
    }
    let temperature = f64::from(temperature_milli) / 1_000.0;
    let weight = |logit: f32| (f64::from(logit - most) / temperature).exp();
    let total: f64 = logits.iter().map(|&l| weight(l)).sum();
    let mut left = drawn * total;
    for (token, &logit) in logits.iter().enumerate() {
        left -= weight(logit);
        if left < 0.0 {
            return token;
        }
    }
    best
}
