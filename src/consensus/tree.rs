//! Candidates above the last final checkpoint: headers, bodies, and how far each is checked.
//!
//! The tree knows the final tip and everything offered above it. A candidate is checked once its parent is; it leaves by
//! becoming final or by the tip passing its view. Bounded; what does not fit is dropped and counted (C49).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::protocol::checkpoint::{Body, Header};
use crate::protocol::ids::{Digest, View};

/// The most candidates held.
const ENTRIES_MAX: usize = 1_024;
/// With more notarized and not final, leaders build empty bodies (C49).
pub(crate) const UNFINAL_MAX: u64 = 32;

/// How far a candidate is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its parent is not checked yet.
    Waiting,
    /// The ledger is at it.
    Checking,
    /// The ledger had no parent state; asked again later.
    Deferred,
    /// Executed; the roots agree.
    Valid,
    Invalid,
}

/// A header with its body.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) header: Header,
    pub(crate) body: Arc<Body>,
    pub(crate) standing: Standing,
    /// In the journal.
    pub(crate) durable: bool,
}

/// Why there is no path from the tip to a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPath {
    Missing(Digest),
    /// It does not descend from the final tip.
    Fork,
}

/// The final tip and the candidates above it.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    tip: Header,
    tip_hash: Digest,
    entries: BTreeMap<Digest, Entry>,
}

impl Tree {
    pub(crate) fn new(tip: Header) -> Self {
        Self { tip_hash: tip.hash(), tip, entries: BTreeMap::new() }
    }

    pub(crate) fn tip(&self) -> &Header {
        &self.tip
    }

    pub(crate) fn tip_hash(&self) -> Digest {
        self.tip_hash
    }

    pub(crate) fn get(&self, hash: &Digest) -> Option<&Entry> {
        self.entries.get(hash)
    }

    pub(crate) fn get_mut(&mut self, hash: &Digest) -> Option<&mut Entry> {
        self.entries.get_mut(hash)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (&Digest, &Entry)> {
        self.entries.iter()
    }

    /// Takes a candidate whose body is known to be the header's; false when there is no room.
    pub(crate) fn insert(&mut self, hash: Digest, entry: Entry) -> bool {
        if entry.header.view <= self.tip.view || self.entries.contains_key(&hash) {
            return true;
        }
        if self.entries.len() >= ENTRIES_MAX {
            return false;
        }
        self.entries.insert(hash, entry);
        true
    }

    /// Whether the checkpoint's post-state is known to be right: the tip's, or a valid candidate's.
    pub(crate) fn is_valid(&self, hash: &Digest) -> bool {
        *hash == self.tip_hash || self.entries.get(hash).is_some_and(|entry| entry.standing == Standing::Valid)
    }

    /// The header of the tip or of a candidate.
    pub(crate) fn header(&self, hash: &Digest) -> Option<&Header> {
        if *hash == self.tip_hash { Some(&self.tip) } else { self.entries.get(hash).map(|entry| &entry.header) }
    }

    /// Candidates that can be checked now: their parent is valid.
    pub(crate) fn checkable(&self) -> Vec<Digest> {
        let waiting = self.entries.iter().filter(|(_, entry)| entry.standing == Standing::Waiting);
        waiting.filter(|(_, e)| self.is_valid(&e.header.parent_hash)).map(|(hash, _)| *hash).collect()
    }

    /// Asks again for what the ledger could not check.
    pub(crate) fn retry_deferred(&mut self) {
        for entry in self.entries.values_mut().filter(|entry| entry.standing == Standing::Deferred) {
            entry.standing = Standing::Waiting;
        }
    }

    /// The hashes from the tip's child up to a candidate.
    pub(crate) fn path(&self, to: &Digest) -> Result<Vec<Digest>, NoPath> {
        let (mut path, mut at) = (Vec::new(), *to);
        while at != self.tip_hash {
            let entry = self.entries.get(&at).ok_or(NoPath::Missing(at))?;
            if entry.header.height <= self.tip.height {
                return Err(NoPath::Fork);
            }
            path.push(at);
            at = entry.header.parent_hash;
            if entry.header.height == self.tip.height + 1 && at != self.tip_hash {
                return Err(NoPath::Fork);
            }
        }
        path.reverse();
        Ok(path)
    }

    /// Makes a checkpoint the tip; its candidate, if held, leaves the tree.
    pub(crate) fn advance(&mut self, tip: Header) -> Option<Entry> {
        self.tip_hash = tip.hash();
        self.tip = tip;
        self.entries.remove(&self.tip_hash)
    }

    /// Drops what the tip has passed: nothing valid builds on a view at or below a final one, but on the tip itself.
    pub(crate) fn prune(&mut self) {
        let passed: View = self.tip.view;
        self.entries.retain(|_, entry| entry.header.view > passed);
    }
}
