//! What a validator remembers of its miners: the samples of this epoch, and a memory of the epochs before.
//!
//! Sample scores are made whole numbers before they are summed, so the order in which answers come changes nothing, to
//! the last bit. A miner that does not answer collects zeros and fades; a miner nobody asked keeps what it had; a new
//! one starts with its first epoch. The board has a limit of members and counts what it turns away.

use std::collections::BTreeMap;

use crate::ml::task::{Outcome, SampleScores};
use crate::protocol::ids::MemberId;

/// One in fixed point.
const ONE: f64 = 4_294_967_296.0;

/// How a board remembers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params {
    /// The weight of the epoch just closed against all before, in (0, 1].
    pub fresh_share: f64,
    /// Members remembered at most.
    pub members_max: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self { fresh_share: 0.5, members_max: 4_096 }
    }
}

/// How a miner's challenges ended, over its life on the board.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Outcomes {
    pub scored: u64,
    pub missing: u64,
    pub late: u64,
    pub malformed: u64,
}

/// One miner.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Record {
    /// Sum and count of this epoch's samples.
    sum: u128,
    samples: u64,
    /// The memory, once an epoch has closed with samples.
    memory: Option<f64>,
    pub outcomes: Outcomes,
}

impl Record {
    /// Mean of this epoch's samples so far.
    pub fn current(&self) -> Option<f64> {
        (self.samples > 0).then(|| self.sum as f64 / self.samples as f64 / ONE)
    }

    /// The score after the last closed epoch.
    pub fn score(&self) -> Option<f64> {
        self.memory
    }
}

/// One validator's view of one subnet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Board {
    params: Params,
    members: BTreeMap<MemberId, Record>,
    turned_away: u64,
}

impl Board {
    pub fn new(params: Params) -> Self {
        Self { params, ..Self::default() }
    }

    /// Adds the samples of one challenge; false (and counted) when the board is full and the member new.
    pub fn record(&mut self, member: MemberId, samples: &SampleScores) -> bool {
        if self.members.len() >= self.params.members_max && !self.members.contains_key(&member) {
            self.turned_away = self.turned_away.saturating_add(1);
            return false;
        }
        let record = self.members.entry(member).or_default();
        for score in &samples.scores {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in 0 to 2^32; NaN is 0")]
            let whole = (score.clamp(0.0, 1.0) * ONE).round() as u128;
            record.sum = record.sum.saturating_add(whole);
            record.samples = record.samples.saturating_add(1);
        }
        let outcomes = &mut record.outcomes;
        let count = match samples.outcome {
            Outcome::Scored => &mut outcomes.scored,
            Outcome::Missing => &mut outcomes.missing,
            Outcome::Late => &mut outcomes.late,
            Outcome::Malformed => &mut outcomes.malformed,
        };
        *count = count.saturating_add(1);
        true
    }

    /// Folds this epoch into the memory, begins the next, and gives every known score.
    pub fn close_epoch(&mut self) -> BTreeMap<MemberId, f64> {
        let share = self.params.fresh_share.clamp(0.0, 1.0);
        for record in self.members.values_mut() {
            if let Some(current) = record.current() {
                record.memory = Some(record.memory.map_or(current, |old| old + share * (current - old)));
            }
            (record.sum, record.samples) = (0, 0);
        }
        self.scores()
    }

    /// Every known score, as of the last closed epoch.
    pub fn scores(&self) -> BTreeMap<MemberId, f64> {
        self.members.iter().filter_map(|(&member, record)| Some((member, record.score()?))).collect()
    }

    /// Forgets who is no longer a member.
    pub fn retain(&mut self, mut keep: impl FnMut(MemberId) -> bool) {
        self.members.retain(|&member, _| keep(member));
    }

    pub fn records(&self) -> impl Iterator<Item = (MemberId, &Record)> {
        self.members.iter().map(|(&member, record)| (member, record))
    }

    /// Challenges of new members not recorded because the board was full.
    pub fn turned_away(&self) -> u64 {
        self.turned_away
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scored(scores: &[f64]) -> SampleScores {
        SampleScores { outcome: Outcome::Scored, scores: scores.to_vec() }
    }

    const MINER: MemberId = MemberId(1);

    #[test]
    fn silence_fades_and_a_latecomer_rises() {
        let mut board = Board::new(Params::default());
        let mut close = |samples: &[(u32, SampleScores)]| {
            for (member, samples) in samples {
                assert!(board.record(MemberId(*member), samples));
            }
            board.close_epoch()
        };
        let silent = || SampleScores::none(Outcome::Missing, 4);
        let first = close(&[(1, scored(&[0.8, 0.8]))]);
        assert!((first[&MINER] - 0.8).abs() < 1e-6);
        let later = close(&[(1, silent()), (2, scored(&[0.5]))]);
        assert!((later[&MINER] - 0.4).abs() < 1e-6 && (later[&MemberId(2)] - 0.5).abs() < 1e-6);
        for _ in 0..8 {
            close(&[(1, silent())]);
        }
        let scores = board.scores();
        assert!(scores[&MINER] < 0.002 && (scores[&MemberId(2)] - 0.5).abs() < 1e-6);
        assert_eq!(
            board.records().next().unwrap().1.outcomes,
            Outcomes { scored: 1, missing: 9, ..Outcomes::default() }
        );
        board.retain(|member| member != MINER);
        assert_eq!(board.scores().len(), 1);
    }

    #[test]
    fn a_full_board_turns_new_members_away_and_counts() {
        let mut board = Board::new(Params { members_max: 1, ..Params::default() });
        assert!(board.record(MINER, &scored(&[1.0])));
        assert!(board.record(MINER, &scored(&[f64::NAN])));
        assert!(!board.record(MemberId(2), &scored(&[1.0])));
        assert_eq!(board.turned_away(), 1);
        assert!((board.close_epoch()[&MINER] - 0.5).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn the_order_of_answers_changes_nothing(
            mut answers in prop::collection::vec((0..4_u32, prop::collection::vec(0.0..1.0_f64, 1..6)), 1..40),
            seed: [u8; 32],
        ) {
            let close = |answers: &[(u32, Vec<f64>)]| {
                let mut board = Board::new(Params::default());
                for (member, scores) in answers {
                    board.record(MemberId(*member), &scored(scores));
                }
                board.close_epoch()
            };
            let first = close(&answers);
            crate::protocol::chance::Chance::from_seed(seed).shuffle(&mut answers);
            prop_assert_eq!(first, close(&answers));
        }
    }
}
