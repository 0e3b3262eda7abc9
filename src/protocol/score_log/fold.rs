//! From entries to a board, and from a board to a row, in integers (D13).
//!
//! A board holds what is thought of each miner after an epoch: the mean of the epoch's scores, mixed with the board
//! before. It is a function of the log and the board before and of nothing else, so anybody can make it again.

use std::collections::BTreeMap;

use super::{Echo, Entry, MemberId};
use crate::protocol::commitment::WEIGHTS_MAX;
use crate::protocol::ids::{Digest, hash};
use crate::protocol::layout::{LayoutError, Reader, Writer};

/// The best weight where a weight has two bytes.
pub const FULL_U16: u32 = 65_535;
/// The best weight where it has four.
pub const FULL_U32: u32 = u32::MAX;
/// Miners on one board.
const MEMBERS_MAX: usize = 65_536;

/// The numbers of a scorer that its fold depends on; their digest stands in the opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What an answer without knowledge scores, of 2^32 - 1: weights count from there.
    pub chance: u32,
    /// The weight of the newest epoch against all before, over 65,536.
    pub fresh: u16,
    /// How long a miner has, in milliseconds.
    pub deadline_ms: u32,
    /// Samples of one question.
    pub samples: u32,
    /// The best miner's weight: 65,535 or 2^32 - 1.
    pub full: u32,
    /// Whether members that give equal answers share one member's weight (M16).
    pub echoes_share: bool,
}

impl Rules {
    pub(super) fn write(&self, to: Writer) -> Writer {
        let to = to.u32(self.chance).u16(self.fresh).u32(self.deadline_ms).u32(self.samples).u32(self.full);
        to.u8(self.echoes_share.into())
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        let (chance, fresh) = (from.u32()?, from.u16()?);
        let (deadline_ms, samples, full) = (from.u32()?, from.u32()?, from.u32()?);
        let echoes_share = match from.u8()? {
            0 => false,
            1 => true,
            other => return Err(LayoutError::Unknown { what: "flag", found: other.into() }),
        };
        Ok(Self { chance, fresh, deadline_ms, samples, full, echoes_share })
    }

    pub fn digest(&self) -> Digest {
        hash("starling/1 scorer rules", &[&self.write(Writer::new()).done()])
    }
}

/// What is thought of each miner, of 2^32 - 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Board {
    pub scores: BTreeMap<MemberId, u32>,
}

impl Board {
    pub(super) fn write(&self, to: Writer) -> Writer {
        let to = to.u32(u32::try_from(self.scores.len()).unwrap_or(u32::MAX));
        self.scores.iter().fold(to, |to, (member, score)| to.u32(member.0).u32(*score))
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        let count = super::counted(from, "board", MEMBERS_MAX)?;
        let mut scores = BTreeMap::new();
        for _ in 0..count {
            let (member, score) = (MemberId(from.u32()?), from.u32()?);
            if scores.last_key_value().is_some_and(|(last, _)| *last >= member) {
                return Err(LayoutError::NotCanonical("member ids of a board do not strictly ascend"));
            }
            scores.insert(member, score);
        }
        Ok(Self { scores })
    }

    pub fn digest(&self) -> Digest {
        hash("starling/1 board", &[&self.write(Writer::new()).done()])
    }
}

/// The board after these entries. A miner that was not asked although others were has left; one that was asked for the
/// first time begins with this epoch's mean; where nobody was asked at all nothing changes.
pub fn board(rules: &Rules, before: &Board, entries: &[Entry]) -> Board {
    if entries.is_empty() {
        return before.clone();
    }
    let mut sums: BTreeMap<MemberId, (u64, u64)> = BTreeMap::new();
    for entry in entries {
        let (sum, count) = sums.entry(entry.miner).or_default();
        // At most 2^16 entries below 2^32.
        (*sum, *count) = (sum.saturating_add(entry.score.into()), count.saturating_add(1));
    }
    let mixed = |(member, (sum, count)): (MemberId, (u64, u64))| {
        let mean = sum / count.max(1);
        let score = match before.scores.get(&member) {
            None => mean,
            Some(old) => {
                let (old, fresh) = (u64::from(*old), u64::from(rules.fresh));
                ((old * (65_536 - fresh)) + mean * fresh) >> 16
            }
        };
        (member, u32::try_from(score).unwrap_or(u32::MAX))
    };
    Board { scores: sums.into_iter().map(mixed).collect() }
}

/// The row of a board: the square of what is above chance, the best at `full`; who comes to nothing is left out. Where the
/// rules say so, an answer that several gave is worth to each its part of one. When the board has more miners than a row
/// may name, the heaviest are named, the older of equals first.
pub fn row(rules: &Rules, board: &Board, echoes: &[Echo]) -> Vec<(MemberId, u32)> {
    let part = |echo: &Echo| (echo.member, (echo.answers, echo.givers));
    let parts: BTreeMap<MemberId, (u64, u64)> = echoes.iter().filter(|_| rules.echoes_share).map(part).collect();
    let strength = |member: &MemberId, score: u32| {
        let above = u64::from(score.saturating_sub(rules.chance));
        let (answers, givers) = parts.get(member).copied().unwrap_or((1, 1));
        let shared = u128::from(above * above) * u128::from(answers) / u128::from(givers.max(1));
        u64::try_from(shared).unwrap_or(u64::MAX)
    };
    let most = board.scores.iter().map(|(member, score)| strength(member, *score)).max().unwrap_or(0);
    if most == 0 {
        return Vec::new();
    }
    let weight = |member: &MemberId, score: u32| {
        let weight = u128::from(strength(member, score)) * u128::from(rules.full) / u128::from(most);
        u32::try_from(weight).unwrap_or(u32::MAX)
    };
    let mut row: Vec<(MemberId, u32)> = board
        .scores
        .iter()
        .map(|(member, score)| (*member, weight(member, *score)))
        .filter(|(_, weight)| *weight > 0)
        .collect();
    if row.len() > WEIGHTS_MAX {
        row.sort_by_key(|(member, weight)| (std::cmp::Reverse(*weight), *member));
        row.truncate(WEIGHTS_MAX);
        row.sort_unstable();
    }
    row
}
