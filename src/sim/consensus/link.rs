//! Links with latency, jitter, loss and duplicates, cut and healed at will.

use std::collections::BTreeSet;

use crate::protocol::chance::Chance;

/// What every link is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkParams {
    pub latency_ms: u64,
    /// Up to so much more, drawn per message: messages overtake one another.
    pub jitter_ms: u64,
    pub lost_per_mille: u64,
    pub doubled_per_mille: u64,
}

impl LinkParams {
    /// A constant delay and nothing else.
    pub const fn steady(latency_ms: u64) -> Self {
        Self { latency_ms, jitter_ms: 0, lost_per_mille: 0, doubled_per_mille: 0 }
    }
}

/// All links of a world.
#[derive(Debug)]
pub(crate) struct Links {
    pub(crate) params: LinkParams,
    cut: BTreeSet<(usize, usize)>,
}

impl Links {
    pub(crate) fn new(params: LinkParams) -> Self {
        Self { params, cut: BTreeSet::new() }
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    /// One direction only.
    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    /// Nodes of different groups do not hear each other; those in no group hear nobody.
    pub(crate) fn partition(&mut self, groups: &[Vec<usize>], nodes: usize) {
        self.cut.clear();
        for from in 0..nodes {
            for to in 0..nodes {
                let together = groups.iter().any(|group| group.contains(&from) && group.contains(&to));
                if from != to && !together {
                    self.cut(from, to);
                }
            }
        }
    }

    /// After how long each copy of a message arrives; empty when it is lost.
    pub(crate) fn delays(&self, from: usize, to: usize, chance: &mut Chance) -> Vec<u64> {
        if self.cut.contains(&(from, to)) || chance.one_in(self.params.lost_per_mille, 1_000) {
            return Vec::new();
        }
        let copies = if chance.one_in(self.params.doubled_per_mille, 1_000) { 2 } else { 1 };
        (0..copies).map(|_| self.params.latency_ms + chance.below(self.params.jitter_ms + 1)).collect()
    }
}
