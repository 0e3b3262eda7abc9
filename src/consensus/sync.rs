//! Catching up, and helping others to: what is lacking, what answers are worth, what we answer (K1, K2, K9-K11).
//!
//! Behind in view only: any certificate for a later view suffices to jump. Behind in height: ranges of final checkpoints,
//! verified by hash links from our tip up to one finalization, handed to the ledger in order. Nothing is kept that was
//! not verified first. Nullify needs no state, so it is not bound to being caught up; notarize and finalize need an
//! executed body, so they are (K10).

use std::sync::Arc;

use crate::protocol::checkpoint::{Certificate, Checkpoint, Header, VoteKind};
use crate::protocol::ids::{Digest, NodeId};
use crate::protocol::sync::{Get, Got, LINKS_MAX, RANGE_BYTES_MAX, RANGE_MAX, Range, Status, VIEWS_MAX};

use super::effect::{Drop, Effect, Fault, TimerKind};
use super::machine::Machine;
use super::planner::{Flight, TICK_MS};
use super::tree::{Entry, Standing};

/// Candidates fetched at once (C49).
const CANDIDATES_MAX: usize = 32;
/// Final checkpoints the ledger has not made durable yet; with more, no further range is asked for or taken.
const UNSETTLED_MAX: usize = 256;
/// K9: the least time without a new height that is worth an alarm, and in intervals.
const STALE_MS: u64 = 60_000;
const STALE_INTERVALS: u64 = 30;

/// How a question of a peer is to be answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Served {
    /// With this.
    Now(Got),
    /// From the store: feed the final checkpoints from this height upward to `assemble`.
    Stored { from: u64, count: u16 },
}

/// Makes the answer to `Get::Range` from the store's final checkpoints, given in order from the asked height upward. It
/// takes no more of them than it needs: some for their bodies, then headers up to the next own finalization.
pub fn assemble(stored: impl IntoIterator<Item = Checkpoint>, count: u16) -> Got {
    let (mut checkpoints, mut links, mut bytes) = (Vec::new(), Vec::new(), 0);
    for checkpoint in stored {
        bytes += checkpoint.body.bytes() + 512;
        let fits = checkpoints.len() < usize::from(count.min(RANGE_MAX))
            && (bytes <= RANGE_BYTES_MAX || checkpoints.is_empty());
        let certificate = checkpoint.certificate.clone();
        if fits && links.is_empty() {
            checkpoints.push(checkpoint);
        } else if links.is_empty() && checkpoints.last().is_some_and(|last: &Checkpoint| last.certificate.is_some()) {
            break;
        } else {
            links.push(checkpoint.header);
        }
        if links.len() > LINKS_MAX {
            return Got::Nothing;
        }
        if let Some(certificate) = certificate.filter(|_| !links.is_empty()) {
            return Got::Range(Box::new(Range { checkpoints, links, certificate }));
        }
    }
    let last = checkpoints.last().and_then(|checkpoint| checkpoint.certificate.clone());
    match last {
        Some(certificate) if links.is_empty() => Got::Range(Box::new(Range { checkpoints, links, certificate })),
        _ => Got::Nothing,
    }
}

impl Machine {
    /// Answers a peer's question from what the machine holds. A pure read; a `Get::Status` is to be fed in as
    /// `HearStatus` as well.
    pub fn serve(&self, get: &Get) -> Served {
        match get {
            Get::Status(_) => Served::Now(Got::Status(self.status())),
            Get::Entry => Served::Now(Got::Certificates(self.entry_certificate().cloned().into_iter().collect())),
            Get::Certificates { term, from, to } if *term == self.context.term() => {
                let to = (*to).min(from.saturating_add(VIEWS_MAX - 1));
                let held = if *from <= to { Some(self.views.range(*from..=to)) } else { None };
                let all = held.into_iter().flatten().flat_map(|(_, state)| state.certificates().cloned());
                Served::Now(Got::Certificates(all.collect()))
            }
            Get::Certificates { .. } => Served::Now(Got::Nothing),
            Get::Candidate(hash) => Served::Now(match self.tree.get(hash) {
                Some(entry) if entry.standing != Standing::Invalid => {
                    Got::Candidate(Box::new((entry.header.clone(), entry.body.as_ref().clone())))
                }
                _ => Got::Nothing,
            }),
            Get::Range { from, count } => Served::Stored { from: *from, count: (*count).min(RANGE_MAX) },
        }
    }

    pub(crate) fn meet(&mut self, peers: &[NodeId]) {
        self.planner.meet(peers);
        self.planner.spread_status(self.status(), self.now.mono_ms, &mut self.out);
    }

    pub(crate) fn hear_status(&mut self, from: NodeId, status: Status) {
        if status.term == self.context.term() {
            self.planner.note_status(from, status, self.now.mono_ms);
        }
    }

    /// The tick of catch-up.
    pub(crate) fn look_around(&mut self) {
        self.set_timer(TimerKind::Sync, TICK_MS);
        let now_ms = self.now.mono_ms;
        self.planner.expire(now_ms);
        self.tree.retry_deferred();
        // A finalization without a path to it: `advance_finality` runs in every step, so a body is missing.
        let above = self.tree.tip().view.saturating_add(1);
        if self.views.range(above..).any(|(_, state)| state.certificate(VoteKind::Finalize).is_some()) {
            self.planner.hurry();
        }
        self.planner.spread_status(self.status(), now_ms, &mut self.out);
        self.catch_up();
        let quiet_ms = now_ms.saturating_sub(self.last_final_ms);
        let stale_ms = STALE_MS.max(self.params.idle_ms.saturating_mul(STALE_INTERVALS));
        if quiet_ms >= stale_ms && now_ms.saturating_sub(self.alarmed_ms) >= stale_ms {
            self.alarmed_ms = now_ms;
            self.out.push(Effect::Stale { height: self.tree.tip().height, for_ms: quiet_ms });
        }
    }

    /// Takes what has arrived in order, then asks for what is lacking.
    pub(crate) fn catch_up(&mut self) {
        self.take_ranges();
        if self.halted {
            return;
        }
        let wants = self.wants();
        self.planner.pursue(&wants, self.view, self.now.mono_ms, &mut self.out);
    }

    /// What we lack, read from what we hold.
    fn wants(&self) -> Vec<Get> {
        let (now_ms, tip) = (self.now.mono_ms, self.tree.tip());
        let mut wants = Vec::new();
        if self.unsettled.len() < UNSETTLED_MAX {
            wants.extend(self.planner.wanted_ranges(tip.height, self.planner.best_height(now_ms), now_ms));
        }
        if self.planner.best_view(now_ms) > self.view {
            wants.push(Get::Entry);
        }
        // A view that is neither notarized nor nullified, as we know it, hides what may be built on (C14, C16).
        if let Err(to) = self.choose_parent()
            && self.at(to).is_none_or(|state| state.notarized().is_none())
        {
            let from = to.saturating_sub(VIEWS_MAX - 1).max(tip.view + 1);
            wants.push(Get::Certificates { term: self.context.term(), from, to });
        }
        let notarized = self.views.range(tip.view + 1..).filter_map(|(_, state)| state.notarized().map(|c| c.hash));
        let above = self.tree.entries().filter(|(_, entry)| entry.header.height > tip.height + 1);
        let parents = above.map(|(_, entry)| entry.header.parent_hash);
        let mut lacking: Vec<Digest> =
            notarized.chain(parents).filter(|hash| self.tree.header(hash).is_none()).take(CANDIDATES_MAX).collect();
        lacking.sort();
        lacking.dedup();
        wants.extend(lacking.into_iter().map(Get::Candidate));
        wants
    }

    /// An answer: matched with its question, verified, kept.
    pub(crate) fn got(&mut self, id: u64, got: Got) {
        let Some(flight) = self.planner.land(id) else {
            self.drop_one(Drop::AnswerUnasked);
            return;
        };
        let useful = match (&flight.get, got) {
            (Get::Status(_), Got::Status(status)) => {
                self.hear_status(flight.peer, status);
                true
            }
            (Get::Entry | Get::Certificates { .. }, Got::Certificates(list)) => self.got_certificates(&flight, &list),
            (Get::Candidate(hash), Got::Candidate(pair)) => self.got_candidate(*hash, &flight, *pair),
            (Get::Range { from, count }, Got::Range(range)) => {
                let fits = range.checkpoints.first().is_some_and(|first| first.header.height == *from)
                    && range.checkpoints.len() <= usize::from(*count)
                    && range.links.len() <= LINKS_MAX;
                if fits {
                    self.planner.keep_range(*from, flight.peer, range);
                }
                fits
            }
            (_, Got::Nothing) => false,
            _ => {
                self.penalise([flight.peer], Fault::WrongAnswer);
                false
            }
        };
        if !useful {
            self.fruitless(&flight);
        }
        self.catch_up();
    }

    pub(crate) fn fetch_failed(&mut self, id: u64) {
        if let Some(flight) = self.planner.land(id) {
            self.fruitless(&flight);
            self.catch_up();
        }
    }

    fn fruitless(&mut self, flight: &Flight) {
        if matches!(flight.get, Get::Range { .. } | Get::Entry) {
            self.planner.distrust(&flight.peer);
        }
        self.planner.failed(flight, self.now.mono_ms);
    }

    fn got_certificates(&mut self, flight: &Flight, list: &[Certificate]) -> bool {
        let before = self.moves;
        let most = usize::try_from(3 * VIEWS_MAX).unwrap_or(0);
        for certificate in list.iter().take(most) {
            let held = self.at(certificate.subject.view).is_some_and(|state| state.holds(&certificate.subject));
            if held {
                continue;
            }
            if certificate.verify(&self.context).is_err() {
                self.penalise([flight.peer], Fault::BadCertificate);
                return false;
            }
            self.accept(certificate, false);
        }
        self.moves > before
    }

    fn got_candidate(
        &mut self,
        hash: Digest,
        flight: &Flight,
        pair: (Header, crate::protocol::checkpoint::Body),
    ) -> bool {
        let (header, body) = pair;
        if header.hash() != hash || !body.belongs_to(&header) {
            self.penalise([flight.peer], Fault::WrongAnswer);
            return false;
        }
        let fit = self.is_well_formed(header.view, &header, body.transactions.len()) && body.check_size().is_ok();
        let standing = if fit { Standing::Waiting } else { Standing::Invalid };
        let entry = Entry { header, body: Arc::new(body), standing, durable: false };
        self.moves += 1;
        self.tree.insert(hash, entry)
    }

    fn take_ranges(&mut self) {
        while self.unsettled.len() < UNSETTLED_MAX && !self.halted {
            let Some((peer, range)) = self.planner.take_range(self.tree.tip().height) else { return };
            if self.take_range(*range) {
                self.planner.refresh(peer, self.status(), self.now.mono_ms, &mut self.out);
            } else {
                self.penalise([peer], Fault::WrongAnswer);
                self.planner.distrust(&peer);
            }
        }
    }

    /// K2: links from our tip to a finalization, bodies that are their headers', then final in order. Certificates along
    /// the way are kept only if they hold as well (K11).
    fn take_range(&mut self, range: Range) -> bool {
        let headers: Vec<&Header> = range.checkpoints.iter().map(|c| &c.header).chain(&range.links).collect();
        let (mut hash, mut height, mut view) = (self.tree.tip_hash(), self.tree.tip().height, self.tree.tip().view);
        for header in headers {
            if header.parent_hash != hash || header.height != height + 1 || header.view <= view {
                return false;
            }
            (hash, height, view) = (header.hash(), header.height, header.view);
        }
        let certificate = range.certificate;
        let covers = certificate.kind() == VoteKind::Finalize
            && certificate.subject.view == view
            && certificate.subject.ballot.candidate().is_some_and(|candidate| candidate.hash == hash);
        let bodies = range.checkpoints.iter().all(|c| c.body.belongs_to(&c.header));
        if !covers || !bodies || certificate.verify(&self.context).is_err() {
            return false;
        }
        for mut checkpoint in range.checkpoints {
            let own_hash = checkpoint.header.hash();
            let given = checkpoint.certificate.take().filter(|own| self.certifies(own, own_hash));
            checkpoint.certificate = if own_hash == hash { Some(certificate.clone()) } else { given };
            let hash = own_hash;
            let tip = checkpoint.certificate.clone();
            self.finalise(checkpoint, hash);
            if let Some(tip) = tip {
                self.views.entry(tip.subject.view).or_default().keep(&tip);
            }
        }
        // Above links there is a finalization still to be reached; it leads on like any other.
        self.accept(&certificate, false);
        true
    }

    fn certifies(&self, certificate: &Certificate, hash: Digest) -> bool {
        certificate.kind() == VoteKind::Finalize
            && certificate.subject.ballot.candidate().is_some_and(|candidate| candidate.hash == hash)
            && certificate.verify(&self.context).is_ok()
    }
}
