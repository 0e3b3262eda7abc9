//! `text`: how an English text goes on, byte by byte.
//!
//! A challenge asks for distributions over the byte after contexts out of held-out passages; the continuation is never
//! sent. Everybody has the passages, so the last word of each context is another one, moved there by the seed: whoever
//! only remembers the passage does not know how that word goes on (M3). A sample's score is `1 - bits / 8`, cut at 0, of the true byte under the told distribution, mixed with a pinch
//! of the flat one, so that a single zero costs much but not everything. A flat answer scores 0.

use super::{Challenge, MinerSpec, Outcome, Quality, SampleScores, Task, Truth, latency_factor};
use crate::ml::data::{self, DataError, Jargon};
use crate::ml::engine::{Control, Engine, EngineError, EvalJob, Handle};
use crate::ml::model::{Architecture, Kind};
use crate::ml::quantise::from_fixed;
use crate::ml::train::{TrainData, TrainJob};
use crate::protocol::chance::Chance;
use crate::protocol::ids::{Digest, hash};
use crate::protocol::query::{Answer, BYTE_VALUES, ITEMS_MAX, Query};

/// What a random distribution gains by luck alone.
pub const CHANCE_LEVEL: f64 = 0.05;
/// Bytes of context a challenge shows.
pub const CONTEXT_BYTES: usize = 64;
/// Letters of a word that is moved into a context.
const WORD_MIN: usize = 4;
const WORD_MAX: usize = 16;
/// Places looked at for such a word before the context stays as it is.
const WORD_TRIES: usize = 64;
/// The share of the flat distribution that every answer is mixed with: a zero costs 16 bits.
const FLAT_SHARE: f64 = 1.0 / 256.0;
/// Every how many-th byte of the held-out blocks is predicted for the true quality.
const QUALITY_STRIDE: usize = 4;
/// Contexts shown per training step.
const BATCH: usize = 256;
const LEARNING_RATE: f64 = 1.2e-2;
/// The transformer: windows per step, each of which asks for the byte after every place.
const GPT_BATCH: usize = 16;
const GPT_LEARNING_RATE: f64 = 4e-3;
const GPT_LAYERS: usize = 2;
const GPT_HEADS: usize = 4;
/// Bytes the shipped models read, and numbers each becomes.
const MODEL_CONTEXT: usize = 8;
const MODEL_EMBEDDING: usize = 32;

/// The task with its data.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    jargon: &'static Jargon,
}

impl Text {
    /// # Errors
    /// The data in the binary are damaged.
    pub fn new() -> Result<Self, DataError> {
        Ok(Self { jargon: data::jargon()? })
    }

    /// The context before place `at` of a held-out block, and the byte there.
    fn place(&self, block: usize, at: usize) -> (Vec<u8>, u8) {
        let block = self.jargon.held.get(block).map_or(&[][..], Vec::as_slice);
        let context = block.get(at.saturating_sub(CONTEXT_BYTES)..at).unwrap_or_default();
        (context.to_vec(), block.get(at).copied().unwrap_or(0))
    }

    /// A held-out word with what follows it, and how many letters of it are shown.
    fn word(&self, chance: &mut Chance) -> Option<(&[u8], usize)> {
        for _ in 0..WORD_TRIES {
            let block = self.jargon.held.get(chance.index(self.jargon.held.len())).map_or(&[][..], Vec::as_slice);
            let from = block.get(chance.index(block.len().max(1))..).unwrap_or_default();
            // From the next space on: a word has a beginning.
            let Some(space) = from.iter().position(|byte| *byte == b' ') else { continue };
            let word = from.get(space + 1..).unwrap_or_default();
            let letters = word.iter().take_while(|byte| byte.is_ascii_lowercase()).count();
            if (WORD_MIN..=WORD_MAX).contains(&letters) && word.len() > letters {
                return Some((word, 1 + chance.index(letters)));
            }
        }
        None
    }

    /// The context with its last word replaced, and the byte that then follows.
    fn moved(&self, context: Vec<u8>, next: u8, chance: &mut Chance) -> (Vec<u8>, u8) {
        let space = context.iter().rposition(|byte| *byte == b' ');
        let (Some(space), Some((word, shown))) = (space, self.word(chance)) else { return (context, next) };
        let (word, rest) = word.split_at_checked(shown).unwrap_or_default();
        let Some(next) = rest.first() else { return (context, next) };
        let mut moved = context;
        moved.truncate(space + 1);
        moved.extend(word);
        // As long as every context, from the end.
        (moved.split_off(moved.len().saturating_sub(CONTEXT_BYTES)), *next)
    }
}

impl Task for Text {
    fn name(&self) -> &'static str {
        "text"
    }

    fn about(&self) -> &'static str {
        "continue English text byte by byte (the Jargon File)"
    }

    fn accepts(&self, query: &Query) -> bool {
        matches!(query, Query::NextByte { .. } | Query::Complete { .. })
    }

    fn chance_level(&self) -> f64 {
        CHANCE_LEVEL
    }

    fn challenge(&self, seed: Digest, count: usize) -> Challenge {
        let mut chance = Chance::from(hash("starling/1 text challenge", &[&seed.0]));
        let (mut contexts, mut truth) = (Vec::new(), Vec::new());
        for _ in 0..count.clamp(1, ITEMS_MAX) {
            let block = chance.index(self.jargon.held.len());
            let length = self.jargon.held.get(block).map_or(0, Vec::len);
            // Full contexts, unless the block is the short last one.
            let first = CONTEXT_BYTES.min(length.saturating_sub(1));
            let (context, next) = self.place(block, first + chance.index(length - first));
            let (context, next) = self.moved(context, next, &mut chance);
            contexts.push(context);
            truth.push(next);
        }
        Challenge { query: Query::NextByte { contexts }, truth: Truth(truth) }
    }

    fn score(&self, challenge: &Challenge, answer: Option<&Answer>, latency_ms: u64, deadline_ms: u64) -> SampleScores {
        let truth = &challenge.truth.0;
        let Some(answer) = answer else { return SampleScores::none(Outcome::Missing, truth.len()) };
        if latency_ms > deadline_ms {
            return SampleScores::none(Outcome::Late, truth.len());
        }
        let malformed = || SampleScores::none(Outcome::Malformed, truth.len());
        let (Ok(()), Answer::Distributions { probabilities }) = (answer.check(&challenge.query), answer) else {
            return malformed();
        };
        let factor = latency_factor(latency_ms, deadline_ms);
        let score = |(row, &next): (&Vec<u16>, &u8)| {
            let told = from_fixed(row)?.get(usize::from(next)).copied()?;
            Some(factor * sample(told))
        };
        let scores: Option<Vec<f64>> = probabilities.iter().zip(truth).map(score).collect();
        scores.map_or_else(malformed, |scores| SampleScores { outcome: Outcome::Scored, scores })
    }

    fn job(&self, spec: &MinerSpec) -> TrainJob {
        let spec = spec.bounded();
        let mut order: Vec<usize> = (0..self.jargon.train.len()).collect();
        Chance::from(hash("starling/1 text slice", &[&spec.seed.to_le_bytes()])).shuffle(&mut order);
        let mut left = spec.samples;
        let mut passages = Vec::new();
        for passage in order.into_iter().filter_map(|i| self.jargon.train.get(i)) {
            let taken = passage.get(..left.min(passage.len())).unwrap_or_default();
            left -= taken.len();
            passages.push(taken.to_vec());
            if left == 0 {
                break;
            }
        }
        let (architecture, batch, learning_rate) = match spec.model.unwrap_or(Kind::ByteMlp) {
            Kind::ByteMlp => {
                let (context, embedding) = (MODEL_CONTEXT, MODEL_EMBEDDING);
                (Architecture::ByteMlp { context, embedding, hidden: spec.width }, BATCH, LEARNING_RATE)
            }
            Kind::ByteGpt => {
                let (layers, heads) = (GPT_LAYERS, GPT_HEADS);
                let embedding = spec.width.next_multiple_of(heads).min(Architecture::EMBEDDING_MAX);
                let architecture = Architecture::ByteGpt { context: CONTEXT_BYTES, embedding, layers, heads };
                (architecture, GPT_BATCH, GPT_LEARNING_RATE)
            }
            other => (other.smallest(), BATCH, LEARNING_RATE),
        };
        let data = TrainData::Bytes { passages };
        TrainJob { architecture, data, steps: spec.steps, batch, learning_rate, seed: spec.seed }
    }

    fn true_quality(
        &self,
        engine: &mut dyn Engine,
        handle: Handle,
        control: &Control<'_>,
    ) -> Result<Quality, EngineError> {
        let (mut contexts, mut next) = (Vec::new(), Vec::new());
        for (block, bytes) in self.jargon.held.iter().enumerate() {
            for at in (CONTEXT_BYTES..bytes.len()).step_by(QUALITY_STRIDE) {
                let (context, byte) = self.place(block, at);
                contexts.push(context);
                next.push(byte);
            }
        }
        let samples = next.len();
        let done = engine.eval(handle, &EvalJob::Bytes { contexts, next }, control)?;
        let bits = done.loss / std::f64::consts::LN_2;
        Ok(Quality { quality: (1.0 - bits / 8.0).clamp(0.0, 1.0), figure: bits, unit: "bits/byte", samples })
    }
}

/// One sample from the probability told for the true byte.
fn sample(told: f64) -> f64 {
    let mixed = told * (1.0 - FLAT_SHARE) + FLAT_SHARE / BYTE_VALUES as f64;
    (1.0 + mixed.log2() / 8.0).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ml::engine::no_sink;
    use crate::ml::engine::random::RandomEngine;

    #[test]
    fn m3_a_challenge_follows_its_seed_and_ends_in_a_word_that_was_moved_there() {
        let task = Text::new().unwrap();
        let challenge = task.challenge(Digest([3; 32]), 64);
        assert_eq!(challenge, task.challenge(Digest([3; 32]), 64));
        assert_eq!(challenge.query.check(), Ok(()));
        let Query::NextByte { contexts } = &challenge.query else { panic!() };
        let held = |text: &[u8]| task.jargon.held.iter().any(|block| block.windows(text.len()).any(|w| w == text));
        let mut known = 0;
        for (context, &next) in contexts.iter().zip(&challenge.truth.0) {
            assert!((1..=CONTEXT_BYTES).contains(&context.len()), "{}", context.len());
            let with_next = [context.as_slice(), &[next]].concat();
            // A word of the data, with the byte after it.
            let word = context.iter().rposition(|byte| *byte == b' ').unwrap_or(0);
            assert!(held(&with_next[word..]));
            known += usize::from(held(&with_next));
        }
        // Nearly nothing of what is asked stands in the data as it is asked.
        assert!(known <= 3, "{known}");
    }

    #[test]
    fn scores_follow_the_bits() {
        let check = |told: f64, expected: f64| assert!((sample(told) - expected).abs() < 0.01, "{told}");
        check(1.0, 1.0);
        check(0.5, 0.875);
        check(1.0 / 16.0, 0.5);
        check(1.0 / 256.0, 0.0);
        check(0.0, 0.0);
        let task = Text::new().unwrap();
        let challenge = task.challenge(Digest([1; 32]), 8);
        let score = |row: Vec<u16>, latency| {
            let answer = Answer::Distributions { probabilities: vec![row; 8] };
            task.score(&challenge, Some(&answer), latency, 100)
        };
        assert!(score(vec![7; BYTE_VALUES], 0).mean() < 1e-9);
        assert_eq!(score(vec![0; BYTE_VALUES], 0).outcome, Outcome::Malformed);
        assert_eq!(score(vec![7; 255], 0).outcome, Outcome::Malformed);
        assert_eq!(score(vec![7; BYTE_VALUES], 101).outcome, Outcome::Late);
        assert_eq!(task.score(&challenge, None, 0, 100), SampleScores::none(Outcome::Missing, 8));
    }

    #[test]
    fn guessing_scores_at_most_the_chance_level() {
        let task = Text::new().unwrap();
        let mut engine = RandomEngine::new(5);
        let mut sum = 0.0;
        for n in 0..20 {
            let challenge = task.challenge(Digest([n; 32]), 64);
            let answer = engine.infer(Digest::ZERO, &challenge.query, &Control::FREE, &mut no_sink).unwrap().answer;
            sum += task.score(&challenge, Some(&answer), 0, 1_000).mean();
        }
        assert!(sum / 20.0 < CHANCE_LEVEL, "{}", sum / 20.0);
    }
}
