//! The consensus simulator: real machines and journals, a virtual clock, links and disks that fail, members that lie.
//!
//! `run` plays one scenario with one seed and reports; it never panics over what it finds. The invariants are checked
//! after every effect, and a violation names the moment; the same seed replays it.

mod byzantine;
mod checker;
mod driver;
mod ledger;
mod link;
mod node;
mod scenario;
#[cfg(test)]
mod tests;
mod world;

use std::collections::BTreeMap;

use crate::protocol::ids::Digest;

pub use byzantine::Behaviour;
pub use link::LinkParams;
pub use scenario::{Chaos, Happening, Scenario};

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub scenario: &'static str,
    pub seed: u64,
    /// The first thing that must not happen, with its time.
    pub violation: Option<String>,
    /// Durable final height per node.
    pub heights: Vec<u64>,
    /// Current view per node; 0 when down.
    pub views: Vec<u64>,
    /// Views node 0 entered, and those of them after a nullified one.
    pub entered: u64,
    pub skipped: u64,
    pub crashes: u64,
    pub events: u64,
    pub fetches: u64,
    pub penalties: u64,
    pub dropped: u64,
    pub halts: u64,
    pub alarms: u64,
    /// Committee indices against which evidence was accepted.
    pub offenders: Vec<u16>,
    /// From proposal to finality at each node, sorted.
    pub finality_ms: Vec<u64>,
    /// The largest number of things a machine held.
    pub size_max: usize,
    /// From the last heal to the first finalisation after it.
    pub resumed_ms: Option<u64>,
    /// Digest of everything that happened.
    pub trace: Digest,
    healed_ms: Option<u64>,
    proposed_ms: BTreeMap<u64, u64>,
}

impl Report {
    fn new(scenario: &'static str, seed: u64) -> Self {
        Self {
            scenario,
            seed,
            violation: None,
            heights: Vec::new(),
            views: Vec::new(),
            entered: 0,
            skipped: 0,
            crashes: 0,
            events: 0,
            fetches: 0,
            penalties: 0,
            dropped: 0,
            halts: 0,
            alarms: 0,
            offenders: Vec::new(),
            finality_ms: Vec::new(),
            size_max: 0,
            resumed_ms: None,
            trace: Digest::ZERO,
            healed_ms: None,
            proposed_ms: BTreeMap::new(),
        }
    }

    /// The finality latency that so many per cent of all measured ones stay within.
    pub fn finality_percentile_ms(&self, per_cent: usize) -> Option<u64> {
        let at = self.finality_ms.len().saturating_sub(1) * per_cent.min(100) / 100;
        self.finality_ms.get(at).copied()
    }
}

/// Plays a scenario.
pub fn run(scenario: Scenario, seed: u64) -> Report {
    play(scenario, seed, None)
}

fn play(scenario: Scenario, seed: u64, weak: Option<crate::consensus::rules::Rule>) -> Report {
    let mut report = Report::new(scenario.name, seed);
    match world::World::new(scenario, seed, weak) {
        Ok(world) => world.run(),
        Err(error) => {
            report.violation = Some(format!("the scenario has no committee: {error}"));
            report
        }
    }
}
