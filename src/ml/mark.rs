//! One answer to one challenge as whole numbers: what a score log holds, and what a replay must come to again (D11, D12).
//!
//! A mark is a function of the task's seed, the answer's bytes and the sixteenth of the deadline in which it came, and of
//! nothing else: the validator that judged and whoever replays it call the same function. Samples become whole numbers
//! before they are summed.

use crate::ml::task::{Challenge, Outcome, Task};
use crate::protocol::query::Answer;
use crate::protocol::score_log::{BUCKETS, bucket_is_late};

/// All of a score.
pub const ONE: u32 = u32::MAX;
/// What is judged, in the order of an entry's raw scores.
pub const CRITERIA: [&str; 2] = ["quality", "speed"];
/// Arrivals up to this part of the deadline cost nothing.
const FREE: u8 = BUCKETS / 2;
/// What an answer at the very deadline loses: slow but right beats fast but wrong (M4).
const SLOW_TENTHS: u32 = 1;

/// How an answer was judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// By criterion; empty where there was nothing to judge.
    pub raw: Vec<u32>,
    pub score: u32,
}

/// A number in [0, 1] as a part of `ONE`; what is no number is 0.
pub fn whole(score: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped into the range; NaN is 0")]
    let whole = (score.clamp(0.0, 1.0) * f64::from(ONE)).round() as u32;
    whole
}

/// What is left of a score for its arrival: all of it up to half the deadline, then straight down.
fn speed(arrival: u8) -> u32 {
    let over = u32::from(arrival.saturating_sub(FREE));
    ONE - ONE / 10 * SLOW_TENTHS / u32::from(FREE) * over
}

/// Judges an answer that came in this sixteenth of its deadline.
pub fn mark(task: &dyn Task, challenge: &Challenge, answer: Option<&Answer>, arrival: u8) -> Mark {
    let (Some(answer), false) = (answer, bucket_is_late(arrival)) else { return Mark::default() };
    // Arrival is judged here, so the task sees an answer that took no time.
    let judged = task.score(challenge, Some(answer), 0, 1);
    if judged.outcome != Outcome::Scored || judged.scores.is_empty() {
        return Mark::default();
    }
    let sum: u64 = judged.scores.iter().map(|score| u64::from(whole(*score))).sum();
    let quality = sum / judged.scores.len() as u64;
    let speed = speed(arrival);
    // Both at most 2^32 - 1, so the product over 2^32 - 1 is as well.
    let score = quality * u64::from(speed) / u64::from(ONE);
    let narrow = |value: u64| u32::try_from(value).unwrap_or(ONE);
    Mark { raw: vec![narrow(quality), speed], score: narrow(score) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ml::task;
    use crate::protocol::ids::Digest;
    use crate::protocol::query::CLASSES;
    use crate::protocol::score_log::NEVER;

    #[test]
    fn d12_a_mark_follows_from_seed_answer_and_arrival() {
        let task = task::open("vision").unwrap();
        let challenge = task.challenge(Digest([1; 32]), 32);
        let flat = Answer::Classes { probabilities: vec![vec![1; CLASSES]; 32] };
        let at = |arrival| mark(task.as_ref(), &challenge, Some(&flat), arrival);
        let first = at(3);
        assert_eq!(first, at(8), "the first half costs nothing");
        assert_eq!(first.raw, [first.score, ONE]);
        let chance = f64::from(first.score) / f64::from(ONE);
        assert!((chance - task.chance_level()).abs() < 1e-6, "{chance}");
        let last = f64::from(at(16).score) / f64::from(first.score);
        assert!((last - 0.9).abs() < 1e-6, "{last}");
        assert_eq!(at(17), Mark::default());
        assert_eq!(mark(task.as_ref(), &challenge, None, NEVER), Mark::default());
        let short = Answer::Classes { probabilities: vec![vec![1; CLASSES]; 31] };
        assert_eq!(mark(task.as_ref(), &challenge, Some(&short), 1), Mark::default());
        let again = task::open("vision").unwrap();
        assert_eq!(mark(again.as_ref(), &again.challenge(Digest([1; 32]), 32), Some(&flat), 3), first);
    }

    #[test]
    fn whole_numbers_keep_to_their_range() {
        assert_eq!([0.0, 1.0, 2.0, -1.0, f64::NAN].map(whole), [0, ONE, ONE, 0, 0]);
        assert_eq!((0..=16).map(speed).filter(|speed| *speed == ONE).count(), 9);
    }
}
