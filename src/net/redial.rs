//! Whom we try again: bootnodes while we are few, voters always, remembered peers at the start.
//!
//! Pure: says what to dial at a given time. A target in back-off keeps its place for ever; nothing gives up (a network
//! whose bootnodes were away for a day must find them again).

use super::backoff::Backoff;
use crate::protocol::chance::Chance;
use crate::protocol::ids::NodeId;

/// Why somebody is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Only while we have fewer peers than we need.
    Few,
    /// Whenever it is not connected.
    Always,
}

#[derive(Debug)]
struct Target {
    node: Option<NodeId>,
    addresses: Vec<String>,
    reason: Reason,
    backoff: Backoff,
    next_ms: u64,
}

/// The list of targets.
#[derive(Debug)]
pub struct Redial {
    targets: Vec<Target>,
    chance: Chance,
}

/// Of bootnodes and remembered peers.
const FEW: (u64, u64) = (1_000, 300_000);
/// Of voters: finality waits for them.
const ALWAYS: (u64, u64) = (250, 5_000);

impl Redial {
    pub fn new(chance: Chance) -> Self {
        Self { targets: Vec::new(), chance }
    }

    pub fn add(&mut self, node: Option<NodeId>, addresses: Vec<String>, reason: Reason) {
        let (floor, ceiling) = if reason == Reason::Always { ALWAYS } else { FEW };
        self.targets.push(Target { node, addresses, reason, backoff: Backoff::new(floor, ceiling), next_ms: 0 });
    }

    /// Replaces the set of those wanted always; who stays keeps its back-off.
    pub fn set_always(&mut self, nodes: &[NodeId]) {
        self.targets.retain(|t| t.reason != Reason::Always || t.node.is_some_and(|node| nodes.contains(&node)));
        for node in nodes {
            if !self.targets.iter().any(|t| t.reason == Reason::Always && t.node == Some(*node)) {
                self.add(Some(*node), Vec::new(), Reason::Always);
            }
        }
    }

    /// The node was reached: its next loss starts from the shortest delay again.
    pub fn reached(&mut self, node: NodeId) {
        for target in self.targets.iter_mut().filter(|t| t.node == Some(node)) {
            target.backoff.reset();
            target.next_ms = 0;
        }
    }

    /// What to dial now. Each target handed out enters back-off.
    pub fn due(
        &mut self,
        now_ms: u64,
        few: bool,
        connected: impl Fn(&NodeId) -> bool,
    ) -> Vec<(Option<NodeId>, Vec<String>)> {
        let mut dials = Vec::new();
        for target in &mut self.targets {
            let wanted = target.reason == Reason::Always || few;
            if !wanted || target.next_ms > now_ms || target.node.is_some_and(|node| connected(&node)) {
                continue;
            }
            target.next_ms = now_ms.saturating_add(target.backoff.next_ms(&mut self.chance));
            dials.push((target.node, target.addresses.clone()));
        }
        dials
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bootnodes_are_wanted_while_few_and_voters_always() {
        let mut redial = Redial::new(Chance::from_seed([3; 32]));
        let (boot, voter) = (NodeId([1; 32]), NodeId([2; 32]));
        redial.add(Some(boot), vec!["a".into()], Reason::Few);
        redial.set_always(&[voter]);
        assert_eq!(redial.due(0, true, |_| false).len(), 2);
        assert_eq!(redial.due(0, true, |_| false).len(), 0);
        assert_eq!(redial.due(5_000, false, |_| false), vec![(Some(voter), vec![])]);
        assert_eq!(redial.due(50_000, true, |node| *node == voter), vec![(Some(boot), vec!["a".into()])]);
        redial.set_always(&[]);
        assert_eq!(redial.due(u64::MAX, false, |_| false).len(), 0);
    }
}
