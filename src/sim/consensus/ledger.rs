//! The simulator's ledger: a hash chain for a state, overlays for what is not final, a durable list for what is.
//!
//! Execution is one hash, so any two nodes that execute the same agree, and whoever skips or repeats a checkpoint does
//! not (S8). A crash loses the overlays and every finalisation that was still on its way to the disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::consensus::{Draft, Roots, Tip, Verdict};
use crate::protocol::chance::Chance;
use crate::protocol::checkpoint::{Body, Checkpoint, Header};
use crate::protocol::ids::{Digest, Height, hash};

/// The state after a body.
pub(crate) fn execute(parent: &Digest, height: Height, timestamp_ms: u64, body: &Body) -> Digest {
    hash("starling/1 sim state", &[&parent.0, &height.to_le_bytes(), &timestamp_ms.to_le_bytes(), &body.root().0])
}

/// The roots a header of this simulator has, from its state.
pub(crate) fn roots(state_root: Digest, set_hash: Digest) -> Roots {
    Roots { state_root, next_set_hash: set_hash, ..Roots::default() }
}

/// One node's ledger.
#[derive(Debug)]
pub(crate) struct Ledger {
    genesis: Header,
    /// Height 1 first.
    durable: Vec<Checkpoint>,
    states: BTreeMap<Digest, Digest>,
}

impl Ledger {
    pub(crate) fn new(genesis: Header) -> Self {
        let states = BTreeMap::from([(genesis.hash(), genesis.state_root)]);
        Self { genesis, durable: Vec::new(), states }
    }

    pub(crate) fn tip(&self) -> Tip {
        match self.durable.last() {
            Some(last) => Tip { header: last.header.clone(), certificate: last.certificate.clone() },
            None => Tip { header: self.genesis.clone(), certificate: None },
        }
    }

    pub(crate) fn height(&self) -> Height {
        self.durable.len() as Height
    }

    pub(crate) fn finals_from(&self, from: Height) -> impl Iterator<Item = Checkpoint> + '_ {
        let skip = usize::try_from(from.saturating_sub(1)).unwrap_or(usize::MAX);
        self.durable.iter().skip(skip).cloned()
    }

    /// What a leader gets for its draft; `None` without the parent's state.
    pub(crate) fn build(&mut self, draft: &Draft, chance: &mut Chance) -> Option<(Header, Arc<Body>)> {
        let parent = *self.states.get(&draft.parent)?;
        let count = if draft.empty { 0 } else { chance.below(3) };
        let body = draft.body((0..count).map(|_| chance.bytes32().to_vec()).collect());
        let state = execute(&parent, draft.height, draft.timestamp_ms, &body);
        let header = draft.header(&body, &roots(state, draft.set_hash));
        self.states.insert(header.hash(), state);
        Some((header, Arc::new(body)))
    }

    pub(crate) fn check(&mut self, header: &Header, body: &Body) -> Verdict {
        let Some(parent) = self.states.get(&header.parent_hash) else { return Verdict::Unavailable };
        let state = execute(parent, header.height, header.timestamp_ms, body);
        if state != header.state_root {
            return Verdict::Invalid;
        }
        self.states.insert(header.hash(), state);
        Verdict::Valid
    }

    /// Makes a checkpoint durable; idempotent by height. False when its roots are not ours.
    pub(crate) fn finalise(&mut self, checkpoint: &Checkpoint) -> bool {
        let header = &checkpoint.header;
        if header.height <= self.height() {
            return true;
        }
        let parent = self.durable.last().map_or(&self.genesis, |last| &last.header);
        let state = execute(&parent.state_root, header.height, header.timestamp_ms, &checkpoint.body);
        if header.parent_hash != parent.hash() || header.state_root != state || header.height != parent.height + 1 {
            return false;
        }
        self.states.insert(header.hash(), state);
        self.durable.push(checkpoint.clone());
        true
    }

    /// What is not durable is gone.
    pub(crate) fn crash(&mut self) {
        let tip = self.tip().header;
        self.states = BTreeMap::from([(tip.hash(), tip.state_root)]);
    }
}
