//! Closes of epochs worked out beside the heights that wait for them (1.6, ADR 0013).
//!
//! A close is looked at when its window ends and applied some heights later. In between its work, which may be long in a
//! large subnet, is done on a thread of its own, and its result handed to every state it may be applied to. A result is named
//! by the state the close was taken from, so it fits all forks or none; one that is not there in time is worked out on the
//! spot, to the same bits.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ledger::incentive::{EpochJob, EpochResult, Workspace};
use crate::ledger::state::State;
use crate::protocol::ids::{Digest, SubnetId};

/// Closes worked out at once; what is beyond them is worked out on the spot.
const BESIDE_MAX: usize = 2;

/// A close by its subnet and the root of the state it was taken from.
pub type Name = (SubnetId, Digest);

/// What is being worked out, and what is ready.
#[derive(Debug, Default)]
pub struct Closes {
    /// None while the work is under way.
    found: BTreeMap<Name, Option<Arc<EpochResult>>>,
}

impl Closes {
    /// Takes a final state's news: forgets what was applied, and says what to work out now.
    pub fn due(&mut self, state: &State) -> Vec<(Name, EpochJob)> {
        let closing = state.closing();
        self.found.retain(|name, _| closing.contains(name));
        let mut jobs = Vec::new();
        for name in closing {
            let busy = self.found.values().filter(|result| result.is_none()).count();
            if busy >= BESIDE_MAX || self.found.contains_key(&name) {
                continue;
            }
            if let Some(job) = state.close_job(name.0) {
                self.found.insert(name, None);
                jobs.push((name, job));
            }
        }
        jobs
    }

    /// Takes a result; one that nobody waits for any more is dropped.
    pub fn worked_out(&mut self, name: Name, result: Arc<EpochResult>) {
        if let Some(found) = self.found.get_mut(&name) {
            *found = Some(result);
        }
    }

    /// The state with every result that fits it.
    pub fn hand_in(&self, state: &State) -> State {
        let mut state = state.clone();
        for ((subnet, root), result) in &self.found {
            if let Some(result) = result {
                state.hand_in(*subnet, *root, Arc::clone(result));
            }
        }
        state
    }
}

/// The work itself.
pub fn work(job: &EpochJob) -> Arc<EpochResult> {
    Arc::new(job.run(&mut Workspace::new()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::draft::Draft;
    use crate::ledger::judging::Close;
    use crate::protocol::genesis::{Genesis, GenesisSubnet};
    use crate::protocol::ids::MemberId;
    use crate::protocol::parameters::{NetworkKind, SubnetRules};

    /// A state with these closes in flight.
    fn state(closing: &[(u32, u8)]) -> State {
        let mut genesis = Genesis::new("testnet", NetworkKind::Devnet, 1_700_000_000_000);
        let names = ["one", "two", "three"];
        genesis.subnets = (1..)
            .zip(names)
            .map(|(id, name)| GenesisSubnet {
                id: SubnetId(id),
                name: name.to_owned(),
                task: "vision".to_owned(),
                owner: None,
                rules: SubnetRules::defaults(NetworkKind::Devnet),
            })
            .collect();
        let state = State::genesis(&genesis);
        let mut draft = Draft::new(&state);
        for (id, root) in closing {
            let close = Close {
                period: 1,
                height: 20,
                apply_at: 22,
                bound: MemberId(9),
                root: Digest([*root; 32]),
                voices: Vec::new(),
                related: Vec::new(),
            };
            draft.put(&SubnetId(*id), close);
        }
        draft.seal(&state).0
    }

    fn names(jobs: &[(Name, EpochJob)]) -> Vec<(u32, u8)> {
        jobs.iter().map(|((subnet, root), _)| (subnet.0, root.0[0])).collect()
    }

    #[test]
    fn closes_are_worked_out_once_a_few_at_a_time_and_forgotten_when_applied() {
        let mut closes = Closes::default();
        let flying = state(&[(1, 7), (2, 7), (3, 7)]);
        let jobs = closes.due(&flying);
        assert_eq!(names(&jobs), [(1, 7), (2, 7)], "two at once");
        assert!(closes.due(&flying).is_empty(), "nothing is begun twice");
        let (name, job) = &jobs[0];
        closes.worked_out(*name, work(job));
        assert_eq!(names(&closes.due(&flying)), [(3, 7)], "the third has its turn");
        // Another close of the same subnet is another name.
        let next = state(&[(1, 8)]);
        assert_eq!(names(&closes.due(&next)), [(1, 8)]);
        closes.worked_out((SubnetId(2), Digest([7; 32])), Arc::default());
        assert_eq!(closes.found.len(), 1, "what was applied is forgotten, and its late result dropped");
        assert_eq!(closes.hand_in(&next).root(), next.root(), "a result is no part of a state");
    }
}
