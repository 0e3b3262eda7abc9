//! Which artifacts are kept, by whom, and whether they really are (M13).
//!
//! Pure. Of each subnet the newest model of every miner with incentive, best first, then the last two published; each with
//! its manifest, at `COPIES` nodes nearest to its id. Nearness is the distance of hashes, so nobody chooses what it keeps.
//! A node that fails a probe is passed over for a while, and the next nearest takes its place.

use std::collections::{BTreeMap, BTreeSet};

use crate::ledger::rows::Subnet;
use crate::ledger::state::State;
use crate::protocol::ids::{AccountId, Digest, NodeId, SubnetId, hash};
use crate::protocol::transaction::Role;

/// Nodes that keep an artifact.
pub const COPIES: usize = 3;
/// Models of one subnet that are kept.
pub const PER_SUBNET: usize = 32;
/// Versions that are kept whatever they earn.
const LAST_VERSIONS: usize = 2;
/// A node that failed probes is passed over for so long.
pub const PASSED_OVER_MS: u64 = 600_000;
/// Probes failed in a row until then: one may be bad luck.
const FAILED_MAX: u32 = 2;
const ROWS_MAX: usize = 4_096;

/// A model that others keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    pub subnet: SubnetId,
    pub id: Digest,
    pub manifest: Digest,
}

/// What is to be kept, as of a state.
pub fn wishes(state: &State) -> Vec<Wish> {
    let subnets: Vec<SubnetId> = state.range::<Subnet>(..).map(|(id, _)| *id).collect();
    subnets.into_iter().flat_map(|subnet| wishes_of(state, subnet)).collect()
}

fn wishes_of(state: &State, subnet: SubnetId) -> Vec<Wish> {
    let newest = newest(state, subnet);
    let mut miners: Vec<(u32, AccountId)> = state
        .members(subnet)
        .filter(|(_, member)| member.role == Role::Miner)
        .map(|(_, member)| (member.incentive, member.account))
        .collect();
    miners.sort_by_key(|(incentive, account)| (std::cmp::Reverse(*incentive), *account));
    let mut latest: Vec<_> = state.models(subnet).map(|(id, model)| (model.published, id)).collect();
    latest.sort_by_key(|(published, id)| (std::cmp::Reverse(*published), *id));
    let best = miners.iter().filter(|(incentive, _)| *incentive > 0).filter_map(|(_, account)| newest.get(account));
    let last = latest.iter().take(LAST_VERSIONS).map(|(_, id)| id);
    let (mut seen, mut out) = (BTreeSet::new(), Vec::new());
    for id in last.chain(best) {
        if out.len() < PER_SUBNET
            && seen.insert(*id)
            && let Some(model) = state.model(subnet, *id)
        {
            out.push(Wish { subnet, id: *id, manifest: model.manifest });
        }
    }
    out
}

/// Each publisher's newest model in a subnet.
pub fn newest(state: &State, subnet: SubnetId) -> BTreeMap<AccountId, Digest> {
    let mut newest: BTreeMap<AccountId, (u64, Digest)> = BTreeMap::new();
    for (id, model) in state.models(subnet) {
        let held = newest.entry(model.publisher).or_insert((model.published, id));
        if model.published >= held.0 {
            *held = (model.published, id);
        }
    }
    newest.into_iter().map(|(account, (_, id))| (account, id)).collect()
}

/// Nodes by their distance from an artifact, nearest first.
pub fn ranked(id: &Digest, nodes: impl IntoIterator<Item = NodeId>) -> Vec<NodeId> {
    let distance = |node: &NodeId| {
        let place = hash("starling/1 artifact place", &[&node.0]);
        let mut out = [0; 32];
        for (byte, (a, b)) in out.iter_mut().zip(place.0.iter().zip(id.0)) {
            *byte = a ^ b;
        }
        out
    };
    let mut nodes: Vec<([u8; 32], NodeId)> = nodes.into_iter().map(|node| (distance(&node), node)).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes.into_iter().map(|(_, node)| node).collect()
}

/// What probes have shown.
#[derive(Debug, Default)]
pub struct Probes {
    rows: BTreeMap<(Digest, NodeId), (u32, u64)>,
}

impl Probes {
    /// A probe has ended. True: from now on the node is passed over for this artifact.
    pub fn ended(&mut self, id: Digest, node: NodeId, held: bool, now_ms: u64) -> bool {
        if held {
            self.rows.remove(&(id, node));
            return false;
        }
        if self.rows.len() >= ROWS_MAX {
            self.rows.retain(|_, (_, at)| *at + PASSED_OVER_MS > now_ms);
        }
        if self.rows.len() >= ROWS_MAX {
            return false;
        }
        let row = self.rows.entry((id, node)).or_insert((0, now_ms));
        *row = (row.0.saturating_add(1), now_ms);
        row.0 == FAILED_MAX
    }

    pub fn passed_over(&self, id: &Digest, node: &NodeId, now_ms: u64) -> bool {
        self.rows.get(&(*id, *node)).is_some_and(|(failed, at)| *failed >= FAILED_MAX && *at + PASSED_OVER_MS > now_ms)
    }

    /// Who should hold it now.
    pub fn keepers(&self, id: &Digest, lenders: &BTreeSet<NodeId>, now_ms: u64) -> Vec<NodeId> {
        let mut keepers = ranked(id, lenders.iter().copied().filter(|node| !self.passed_over(id, node, now_ms)));
        keepers.truncate(COPIES);
        keepers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m13_keepers_are_the_nearest_and_a_failed_one_is_replaced() {
        let lenders: BTreeSet<NodeId> = (0..10).map(|of| NodeId([of; 32])).collect();
        let id = Digest([9; 32]);
        let mut probes = Probes::default();
        let first = probes.keepers(&id, &lenders, 0);
        assert_eq!(first, ranked(&id, lenders.iter().copied())[..COPIES]);
        // Another artifact lies elsewhere: the load spreads.
        let places: BTreeSet<NodeId> =
            (0..40).flat_map(|seed| probes.keepers(&hash("starling/1 t", &[&[seed]]), &lenders, 0)).collect();
        assert_eq!(places.len(), 10);
        assert!(!probes.ended(id, first[0], false, 5));
        assert_eq!(probes.keepers(&id, &lenders, 6), first);
        assert!(probes.ended(id, first[0], false, 7));
        let now = probes.keepers(&id, &lenders, 8);
        assert!(!now.contains(&first[0]) && now[..2] == first[1..]);
        assert_eq!(probes.keepers(&id, &lenders, 7 + PASSED_OVER_MS), first);
        assert!(!probes.ended(id, first[0], true, 9));
        assert_eq!(probes.keepers(&id, &lenders, 9), first);
    }
}
