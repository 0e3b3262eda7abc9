//! From finalizations to final checkpoints: in height order, each once (C21, S7), and what may be forgotten then (C36).

use std::sync::Arc;

use crate::protocol::checkpoint::{Checkpoint, Header, VoteKind};
use crate::protocol::ids::{Digest, Height};

use super::effect::{Effect, Halt};
use super::machine::{BEHIND_FINAL, Machine};
use super::tree::{NoPath, Standing};

/// Final checkpoints remembered to recognise a conflicting finalization.
const FINALS_MAX: usize = 1_024;

impl Machine {
    /// Makes final whatever a finalization covers and the tree has a path to.
    pub(crate) fn advance_finality(&mut self) {
        let above = self.tree.tip().view.saturating_add(1);
        let finalizations: Vec<_> = self
            .views
            .range(above..)
            .rev()
            .filter_map(|(_, state)| state.certificate(VoteKind::Finalize))
            .filter_map(|certificate| {
                certificate.subject.ballot.candidate().map(|c| (c.hash, certificate.subject.view))
            })
            .collect();
        for (hash, view) in finalizations {
            match self.tree.path(&hash) {
                Ok(path) => {
                    for hash in path {
                        self.finalise_entry(&hash);
                    }
                    return;
                }
                Err(NoPath::Fork) => {
                    let certificate = self.views.get(&view).and_then(|s| s.certificate(VoteKind::Finalize)).cloned();
                    let height = self.tree.tip().height;
                    if let Some(other) = certificate {
                        self.halt(Halt::Conflict { known: None, height, view, hash, other });
                    }
                    return;
                }
                Err(NoPath::Missing(_)) => {}
            }
        }
    }

    fn finalise_entry(&mut self, hash: &Digest) {
        let Some(entry) = self.tree.get(hash).cloned() else { return };
        if self.halted {
            return;
        }
        if entry.standing == Standing::Invalid {
            return self.halt(Halt::Diverged { height: entry.header.height, hash: *hash });
        }
        let certificate = self.at(entry.header.view).and_then(|s| s.certificate(VoteKind::Finalize)).cloned();
        let body = Arc::unwrap_or_clone(entry.body);
        self.finalise(Checkpoint { header: entry.header, body, certificate }, *hash);
    }

    /// Moves the final tip up by one.
    pub(crate) fn finalise(&mut self, checkpoint: Checkpoint, hash: Digest) {
        let header: Header = checkpoint.header.clone();
        let (height, view) = (header.height, header.view);
        self.moves += 1;
        self.last_final_ms = self.now.mono_ms;
        self.tree.advance(header);
        self.tree.prune();
        self.finals.insert(view, hash);
        while self.finals.len() > FINALS_MAX {
            self.finals.pop_first();
        }
        let floor = view.saturating_sub(BEHIND_FINAL);
        self.views = self.views.split_off(&floor);
        self.unsettled.push_back((height, hash, view));
        self.out.push(Effect::Finalise(Arc::new(checkpoint)));
        if self.view <= view {
            self.enter(view + 1, false);
        }
    }

    /// The ledger made a height durable: its records may go (C36).
    pub(crate) fn finalised(&mut self, height: Height, hash: Digest) {
        let mut mark = None;
        while let Some((first, known, view)) = self.unsettled.front().copied() {
            if first > height || (first == height && known != hash) {
                break;
            }
            mark = Some(view);
            self.unsettled.pop_front();
        }
        self.out.extend(mark.map(|mark| Effect::DropJournal { mark }));
        self.catch_up();
    }
}
