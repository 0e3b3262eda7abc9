//! Who judged what, read from the ledger, and done again from the logs that validators publish (D11, D12).
//!
//! Reveals are found in the final checkpoints of their window, so that history reaches as far back as the archive does.
//! A log is fetched from its author piece by piece, bounded, and believed only after its root is the one on the ledger.

use std::collections::BTreeMap;

use super::asks::{Asks, read_error, reply};
use super::rejudge;
use crate::actors::ledger::View;
use crate::actors::ledger::report::ReportError;
use crate::actors::mail::ask;
use crate::actors::router::FetchLog;
use crate::actors::scorer::{Care, KIND_COMPETITION, ReadCare, ReadLog, Seat};
use crate::api::backend::ReadError;
use crate::ledger::receipt::Code;
use crate::ledger::rows::Subnet;
use crate::ml::mark::{CRITERIA, mark};
use crate::ml::task::{self, Challenge};
use crate::protocol::commitment::Opening;
use crate::protocol::ids::{AccountId, Digest, Epoch, Height, MemberId, NodeId, SubnetId};
use crate::protocol::query::Answer;
use crate::protocol::report::{
    DutiesReport, DutyRow, HistoryReport, HistoryRow, Motes, ReplayReport, ReplayRow, WeightEntry,
};
use crate::protocol::score_log::{Claim, Entry, LOG_BYTES_MAX, ScoreLog, answer_digest, replay};
use crate::protocol::transaction::{Action, SignedTransaction};
use crate::protocol::wire::{LOG_PIECE_BYTES, LogPiece, LogWish};

/// How long a validator has for one piece of a log.
const PIECE_MS: u64 = 10_000;
/// Epochs that one look at the history covers at most.
const EPOCHS_MAX: u64 = 64;
/// Heights of a reveal window that are looked through at most.
const WINDOW_MAX: u64 = 2_048;

/// A reveal that took effect.
#[derive(Clone, Debug)]
pub(super) struct Reveal {
    pub member: MemberId,
    pub height: Height,
    pub opening: Opening,
}

/// How far scores that are computed again may lie from the first: none, when the subnet's cannot be.
fn tolerance(subnet: &Subnet) -> Option<u64> {
    match subnet.rules.replay {
        0 => Some(0),
        1 => Some(subnet.rules.replay_tolerance),
        _ => None,
    }
}

/// The height at which an epoch of a subnet opened or will open, if every one was opened in time.
pub(super) fn opened(subnet: &Subnet, epoch: Epoch) -> Height {
    let back = subnet.epoch.saturating_sub(epoch).saturating_mul(subnet.rules.tempo);
    subnet.opened.saturating_sub(back)
}

/// The reveals of an epoch, as they stand in the checkpoints.
pub(super) fn reveals(view: &View, id: SubnetId, subnet: &Subnet, epoch: Epoch) -> Result<Vec<Reveal>, ReadError> {
    let at = epoch.saturating_add(subnet.rules.conceal);
    if at > subnet.epoch {
        return Ok(Vec::new());
    }
    let from = opened(subnet, at).saturating_sub(subnet.rules.tempo.min(4)).max(1);
    let window = subnet.rules.reveal_window.saturating_mul(2).saturating_add(subnet.rules.tempo).min(WINDOW_MAX);
    let until = from.saturating_add(window).min(view.tip.header.height);
    let mut found: BTreeMap<MemberId, Reveal> = BTreeMap::new();
    for height in from..=until {
        let Some(checkpoint) = view.archive.checkpoint(height).map_err(|e| read_error(e.into()))? else { continue };
        for bytes in &checkpoint.body.transactions {
            let Ok(signed) = SignedTransaction::decode(bytes) else { continue };
            let Action::WeightsReveal { subnet, epoch: of, member, opening, .. } = signed.transaction.action else {
                continue;
            };
            let applied = |place: crate::actors::ledger::archive::Place| place.receipt.code == Code::Applied;
            let place = view.archive.place(&signed.id).map_err(|e| read_error(e.into()))?;
            if subnet == id && of == epoch && place.is_some_and(applied) {
                found.entry(member).or_insert(Reveal { member, height, opening });
            }
        }
    }
    Ok(found.into_values().collect())
}

pub(super) fn subnet_of(view: &View, id: SubnetId) -> Result<&Subnet, ReadError> {
    let missing = || ReportError::NotFound(format!("there is no subnet {id}; `starling subnet list` shows them"));
    view.state.subnet(id).ok_or_else(|| read_error(missing()))
}

impl Asks {
    /// The reveals of the last epochs, the newest first.
    ///
    /// # Errors
    /// No such subnet, or the ledger does not answer.
    pub async fn weights_history(&self, id: SubnetId, epochs: u64) -> Result<HistoryReport, ReadError> {
        let view = self.view(None).await?;
        let subnet = subnet_of(&view, id)?;
        let mut rows = Vec::new();
        for epoch in (subnet.epoch.saturating_sub(epochs.min(EPOCHS_MAX))..subnet.epoch).rev() {
            for Reveal { member, height, opening } in reveals(&view, id, subnet, epoch)? {
                let weights = opening.row.iter().map(|(miner, weight)| WeightEntry { miner: *miner, weight: *weight });
                rows.push(HistoryRow {
                    epoch,
                    validator: member,
                    revealed_at: height,
                    log_root: opening.log_root,
                    log_len: opening.log_len,
                    weights: weights.collect(),
                });
            }
        }
        Ok(HistoryReport { subnet: id, name: subnet.name.clone(), epoch: subnet.epoch, rows })
    }

    /// What an account owes as a validator: its own when none is named.
    ///
    /// # Errors
    /// The ledger does not answer, or nobody is named and this node has no account.
    pub async fn validator_duties(&self, account: Option<AccountId>) -> Result<DutiesReport, ReadError> {
        let account = account.or(self.about().account);
        let account = account
            .ok_or_else(|| ReadError::NotFound("this node has no account; name one with --account".to_owned()))?;
        let view = self.view(None).await?;
        // Only the account's own node knows what it added.
        let care = match &self.links().read_care {
            Some(scorer) if self.about().account == Some(account) => reply(scorer, ReadCare).await?,
            _ => Care::default(),
        };
        let duty = |(id, subnet): (&SubnetId, &Subnet)| {
            let seat = Seat::of(&view.state, *id, &account)?;
            let member = view.state.member(*id, seat.member)?;
            Some(DutyRow {
                subnet: *id,
                name: subnet.name.clone(),
                validator: seat.member,
                permit: member.permit,
                epoch: seat.epoch,
                commit_from: seat.commit_from(),
                commit_until: seat.commit_until(),
                committed: seat.committed,
                reveals: seat.opening,
                reveal_until: subnet.settle_at.map(|end| end.saturating_sub(1)),
                unrevealed: seat.unrevealed,
                missed: member.missed,
                bond: Motes(member.bond),
                bond_minimum: Motes(seat.bond_minimum),
                suspended: seat.suspended,
                topped_up: Motes(care.seats.get(id).map_or(0, |seat| seat.0)),
                top_up_limit: Motes(care.limit),
                left_out: care.seats.get(id).is_some_and(|seat| seat.1),
                challenges: view.state.seat(*id, seat.member).challenges.into(),
                last_reveal: member.last_reveal,
            })
        };
        let rows = view.state.range::<Subnet>(..).filter_map(duty).collect();
        Ok(DutiesReport { account, height: view.state.height(), rows })
    }

    /// Does the sums of an epoch's validators again, from the logs they serve.
    ///
    /// # Errors
    /// No such subnet, nobody revealed, or the ledger does not answer. What a validator does wrong is in its row.
    pub async fn replay_epoch(
        &self,
        id: SubnetId,
        epoch: Epoch,
        validator: Option<MemberId>,
    ) -> Result<ReplayReport, ReadError> {
        let view = self.view(None).await?;
        let subnet = subnet_of(&view, id)?;
        let wanted = |reveal: &Reveal| validator.is_none_or(|member| reveal.member == member);
        let found: Vec<Reveal> = reveals(&view, id, subnet, epoch)?.into_iter().filter(wanted).collect();
        if found.is_empty() {
            let who = validator.map_or_else(|| "nobody".to_owned(), |member| format!("validator {member} has not"));
            let message =
                format!("{who} revealed weights of epoch {epoch} in {}; it is epoch {}", subnet.name, subnet.epoch);
            return Err(ReadError::NotFound(message));
        }
        let before = match epoch.checked_sub(1) {
            Some(before) => reveals(&view, id, subnet, before)?,
            None => Vec::new(),
        };
        let mut rows = Vec::new();
        for reveal in &found {
            let last = before.iter().find(|last| last.member == reveal.member);
            rows.push(self.replayed(&view, id, epoch, reveal, last).await?);
        }
        Ok(ReplayReport { subnet: id, name: subnet.name.clone(), epoch, ok: rows.iter().all(|row| row.ok), rows })
    }

    async fn replayed(
        &self,
        view: &View,
        id: SubnetId,
        epoch: Epoch,
        reveal: &Reveal,
        before: Option<&Reveal>,
    ) -> Result<ReplayRow, ReadError> {
        let subnet = subnet_of(view, id)?;
        let Reveal { member, height, opening } = reveal;
        let mut row = ReplayRow {
            validator: *member,
            revealed_at: *height,
            log_root: opening.log_root,
            entries: opening.log_len.saturating_sub(1),
            ..ReplayRow::default()
        };
        let node = self.node_of(view, id, *member).await?;
        let log = match self.log(node, id, epoch, opening).await {
            Ok(log) => log,
            Err(problem) => return Ok(ReplayRow { difference: problem, ..row }),
        };
        let published = match before {
            // A board that its author does not serve any more cannot be compared; the head still chains it.
            Some(before) => match self.log(node, id, epoch.saturating_sub(1), &before.opening).await {
                Ok(log) if log.root() == before.opening.log_root => Some(log.head.after),
                _ => None,
            },
            None => None,
        };
        row.chained = published.is_some();
        row.echoes = log.echoes().into_iter().filter(|echo| echo.shared > 0).collect();
        let claim = Claim {
            chain: view.state.chain_id(),
            subnet: id,
            epoch,
            validator: *member,
            scorer: opening.scorer_digest,
            rules: opening.params_digest,
            log_root: opening.log_root,
            log_len: opening.log_len,
            row: opening.row.clone(),
        };
        // What a published model says is said by the validator that ran it.
        let competes = subnet.rules.kind == KIND_COMPETITION;
        let signs = |miner: MemberId| if competes { *member } else { miner };
        let operator = |miner: MemberId| view.state.member(id, signs(miner)).map(|member| member.operator);
        if let Err(difference) = replay(&log, &claim, published, operator) {
            return Ok(ReplayRow { difference: difference.to_string(), ..row });
        }
        let Some(tolerance) = tolerance(subnet) else {
            return Ok(ReplayRow { ok: true, ..row });
        };
        let judged = if competes {
            rejudge::judged_again(view, id, subnet, &log, tolerance)
        } else {
            judged_again(&subnet.task, &log, tolerance)
        };
        match judged {
            Ok(judged) => Ok(ReplayRow { ok: true, judged, ..row }),
            Err(difference) => Ok(ReplayRow { difference, ..row }),
        }
    }

    pub(super) async fn node_of(
        &self,
        view: &View,
        id: SubnetId,
        member: MemberId,
    ) -> Result<Option<NodeId>, ReadError> {
        let Some(account) = view.state.member(id, member).map(|member| member.account) else { return Ok(None) };
        if self.about().account == Some(account) {
            return Ok(Some(self.about().node));
        }
        let peers = self.peers_now().await?;
        Ok(peers.accounts.iter().find(|(known, _)| *known == account).map(|(_, node)| *node))
    }

    /// The log that an opening names, whole.
    pub(super) async fn log(
        &self,
        node: Option<NodeId>,
        subnet: SubnetId,
        epoch: Epoch,
        opening: &Opening,
    ) -> Result<ScoreLog, String> {
        if opening.log_root == Digest::ZERO {
            return Err("the reveal names no score log".to_owned());
        }
        let node =
            node.ok_or_else(|| "the validator's node is not known here, so its log cannot be fetched".to_owned())?;
        let (mut bytes, mut total) = (Vec::new(), None);
        for piece in 0.. {
            let wish = LogWish { subnet, epoch, root: opening.log_root, piece };
            let LogPiece { total: whole, bytes: more } = self.piece(node, wish).await?;
            let whole = usize::try_from(whole).unwrap_or(usize::MAX);
            let fits = whole <= LOG_BYTES_MAX && *total.get_or_insert(whole) == whole;
            let left = whole.saturating_sub(bytes.len());
            if !fits || more.len() != left.min(LOG_PIECE_BYTES) || more.is_empty() {
                return Err("the validator serves pieces that are no log".to_owned());
            }
            bytes.extend(more);
            if bytes.len() == whole {
                break;
            }
        }
        ScoreLog::decode(&bytes).map_err(|error| format!("what the validator serves is no log: {error}"))
    }

    async fn piece(&self, node: NodeId, wish: LogWish) -> Result<LogPiece, String> {
        let links = self.links();
        if node == self.about().node {
            let scorer = links.read_log.as_ref().ok_or_else(|| "this node scores nobody".to_owned())?;
            let piece = reply(scorer, ReadLog(wish)).await.map_err(|error| error.to_string())?;
            return piece.ok_or_else(|| "this node does not keep that log any more".to_owned());
        }
        let fetch = FetchLog { to: node, wish, deadline_ms: PIECE_MS };
        let patience = std::time::Duration::from_millis(PIECE_MS + 1_000);
        let fetched = ask(&links.fetch_log, fetch, patience).await.map_err(|error| error.to_string())?;
        fetched.map_err(|error| format!("the validator does not serve its log: {error}"))
    }
}

/// Judges every answer of a log again whose bytes are there; how many that were.
fn judged_again(name: &str, log: &ScoreLog, tolerance: u64) -> Result<u64, String> {
    let task = task::open(name).map_err(|error| error.to_string())?;
    let answers: BTreeMap<Digest, &Vec<u8>> = log.answers.iter().map(|bytes| (answer_digest(bytes), bytes)).collect();
    let samples = usize::try_from(log.head.rules.samples).unwrap_or(usize::MAX);
    let mut challenges: BTreeMap<Digest, Challenge> = BTreeMap::new();
    let mut judged = 0;
    for (index, entry) in (1_u64..).zip(&log.entries) {
        let challenge = challenges.entry(entry.task_seed).or_insert_with(|| task.challenge(entry.task_seed, samples));
        let wrong = |what: String| Err(format!("entry {index} of member {}: {what}", entry.miner));
        if challenge.query.digest() != entry.request {
            return wrong("its seed makes another question than the one named".to_owned());
        }
        let answer = match answers.get(&entry.answer) {
            Some(bytes) => Some(Answer::from_layout(bytes).map_err(|error| error.to_string())?),
            None if entry.answer == Digest::ZERO => None,
            None => continue,
        };
        let again = mark(task.as_ref(), challenge, answer.as_ref(), entry.arrival);
        judged += 1;
        if let Some(what) = differs(entry, &again.raw, again.score, tolerance) {
            return wrong(what);
        }
    }
    Ok(judged)
}

/// How an entry's scores differ from those computed again.
fn differs(entry: &Entry, raw: &[u32], score: u32, tolerance: u64) -> Option<String> {
    let near = |a: u32, b: u32| u64::from(a.abs_diff(b)) <= tolerance;
    if entry.raw.len() != raw.len() {
        return Some(format!("{} raw scores, its answer gives {}", entry.raw.len(), raw.len()));
    }
    let mut pairs = entry.raw.iter().zip(raw).zip(CRITERIA);
    if let Some(((said, again), criterion)) = pairs.find(|((said, again), _)| !near(**said, **again)) {
        return Some(format!("{criterion} {said}, its answer gives {again}"));
    }
    (!near(entry.score, score)).then(|| format!("score {}, its answer gives {score}", entry.score))
}
