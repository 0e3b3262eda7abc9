//! What a scorer does for its seats at a height: opens and seals vectors, answers challenges, keeps the bond, attests.
//!
//! Each is decided anew from the ledger's state and sent until its effect is there. What costs nothing to leave out is left
//! out where it would cost more to begin: a vector that would likely stay shut, a bond beyond its allowance.

use actix::prelude::*;

use super::errands::{Due, Revealing, Sending};
use super::plan::{RESEND_HEIGHTS, Seat};
use super::shelf::Sealed;
use super::{LEDGER_DEADLINE, Params, Scorer, contest, part};
use crate::actors::ledger::ReadLedger;
use crate::actors::mail::{ask, tell};
use crate::actors::router::{Outbound, Publish};
use crate::ledger::apply;
use crate::ledger::economy::rows::{Attested, Standing};
use crate::ledger::judging::LogChallenge;
use crate::ledger::relation::related;
use crate::ledger::state::State;
use crate::protocol::commitment::{Author, Opening, Width, salt};
use crate::protocol::ids::{AccountId, MemberId};
use crate::protocol::transaction::{Action, Class, Role, Transaction};

/// A transaction that may wait is valid for so many heights.
const VALID_HEIGHTS: u64 = 20;
/// Heights that a pair of validators leaves to the pair before it for attesting a miner: two are enough (E14).
const ATTEST_PAUSE: u64 = 3;
/// Heights for which an attestation is valid.
const ATTEST_HEIGHTS: u64 = 4;

impl Scorer {
    /// The reveal of the vector whose time has come, when it is due and not just sent.
    pub(super) fn reveal(&mut self, seat: &Seat) -> Option<Due> {
        let epoch = seat.opening?;
        if !seat.unrevealed || !self.params.conduct.reveals() {
            return None;
        }
        let desk = self.desks.get_mut(&seat.subnet)?;
        if desk.revealing.is_none_or(|revealing| revealing.epoch != epoch) {
            desk.revealing = Some(Revealing { epoch, first: seat.height, sending: Sending::default() });
        }
        let before = desk.revealing.as_mut()?.sending.again(seat.height)?;
        let Some(Sealed { subnet, opening, .. }) = self.shelf.sealed(seat.subnet, epoch) else {
            metrics::counter!("starling_weights_forfeited_total").increment(1);
            tracing::warn!(subnet = %seat.subnet, epoch, "a commit of ours cannot be opened: its vector is lost");
            return None;
        };
        Some(Due {
            errand: ("weights_reveal", subnet.0.into(), epoch),
            action: Action::WeightsReveal { subnet, mechanism: 0, epoch, member: seat.member, opening },
            valid_until: seat.reveal_until.saturating_add(before),
        })
    }

    /// The commit of this epoch's vector, when it is due and not just sent.
    pub(super) fn commit(&mut self, seat: &Seat, state: &State) -> Option<Due> {
        if !seat.commit_due() || !self.worth_sealing(seat) {
            return None;
        }
        let before = self.desks.get_mut(&seat.subnet)?.committing.again(seat.height)?;
        let Seat { subnet, epoch, member, operator, version, .. } = *seat;
        let Sealed { opening, .. } = match self.shelf.sealed(subnet, epoch) {
            Some(sealed) => sealed,
            None => self.seal(seat, state)?,
        };
        let desk = self.desks.get_mut(&subnet)?;
        desk.last_row = opening.row.iter().copied().collect();
        let chain = self.params.chain;
        let by = Author { chain, subnet, mechanism: 0, period: epoch, validator: member, operator };
        let hash = opening.commitment(&by);
        Some(Due {
            errand: ("weights_commit", subnet.0.into(), epoch),
            action: Action::WeightsCommit { subnet, mechanism: 0, epoch, member, version, hash },
            valid_until: seat.commit_until().saturating_add(before),
        })
    }

    /// Answers to challenges of our logs, those that were not just sent (D14).
    pub(super) fn answers(&mut self, seat: &Seat, state: &State, due: &mut Vec<Due>) {
        let Seat { subnet, member, height, .. } = *seat;
        self.answered.retain(|(deadline, _), _| *deadline >= height);
        let ours = |of: &LogChallenge| of.subnet == subnet && of.validator == member;
        for (key, of) in state.range::<LogChallenge>((height, 0)..).filter(|(_, of)| ours(of)) {
            if self.answered.get(key).is_some_and(|sent| height < sent + RESEND_HEIGHTS) {
                continue;
            }
            self.answered.insert(*key, height);
            let Some((leaf, path)) = self.shelf.log(subnet, of.period).and_then(|log| log.proof(of.entry)) else {
                tracing::warn!(%subnet, epoch = of.period, entry = of.entry, "a challenged log is not on the shelf");
                continue;
            };
            due.push(Due {
                errand: ("log_answer", key.0, key.1),
                action: Action::LogAnswer { deadline: key.0, number: key.1, leaf, path },
                valid_until: height.saturating_add(VALID_HEIGHTS),
            });
        }
    }

    /// Makes this epoch's log and vector, once, and keeps both. `None`: there is nothing to say, or no way to keep it.
    fn seal(&mut self, seat: &Seat, state: &State) -> Option<Sealed> {
        let Seat { subnet, epoch, member, .. } = *seat;
        let of = &state.subnet(subnet)?.rules;
        let width = Width::of(of.width);
        let Params { chain, deadline_ms, samples, .. } = self.params;
        let desk = self.desks.get_mut(&subnet).filter(|desk| !desk.is_sealed())?;
        let samples = if desk.competes { contest::SAMPLES } else { samples };
        let rules = desk.rules(deadline_ms, samples, of);
        let log = desk.seal(chain, subnet, member, rules);
        let echoing = log.echoes().iter().filter(|echo| echo.shared > 0).count();
        #[expect(clippy::cast_precision_loss, reason = "a gauge for people")]
        metrics::gauge!("starling_scorer_echoing_members", "subnet" => subnet.to_string()).set(echoing as f64);
        if !desk.board.scores.is_empty() {
            let sum: f64 = desk.board.scores.values().map(|score| part(*score)).sum();
            let mean = sum / desk.board.scores.len() as f64;
            metrics::gauge!("starling_miner_score_ratio", "subnet" => subnet.to_string()).set(mean);
        }
        let row = self.params.conduct.row(state, subnet, width, log.row());
        if row.is_empty() {
            return None;
        }
        let opening = Opening {
            scorer_digest: log.head.scorer,
            params_digest: rules.digest(),
            log_root: log.root(),
            log_len: log.leaf_count(),
            width,
            row,
            salt: salt(&self.params.operator, &chain, subnet, 0, epoch),
        };
        let sealed = Sealed { subnet, epoch, opening };
        match self.shelf.keep(&sealed, &log) {
            Ok(()) => Some(sealed),
            Err(error) => {
                tracing::warn!(%subnet, epoch, %error, "a vector cannot be kept, so it is not committed");
                None
            }
        }
    }

    /// Whether this epoch's vector is sealed at all; decided once an epoch. Nothing is measured where nothing is opened.
    fn worth_sealing(&mut self, seat: &Seat) -> bool {
        let Some(desk) = self.desks.get_mut(&seat.subnet) else { return false };
        if let Some(seals) = desk.seals {
            return seals;
        }
        let seals = !self.params.conduct.reveals() || desk.past.worth_sealing(seat.misses);
        desk.seals = Some(seals);
        if !seals {
            desk.past.note(None);
            let subnet = seat.subnet.to_string();
            metrics::counter!("starling_weights_skipped_total", "subnet" => subnet).increment(1);
            tracing::warn!(
                subnet = %seat.subnet,
                epoch = seat.epoch,
                misses = seat.misses,
                "reveals came too late: this epoch's weights are left out, so that the bond is not cut"
            );
        }
        seals
    }

    /// Notes what became of the reveal that was under way.
    pub(super) fn look_back(&mut self, seat: &Seat) {
        let Some(desk) = self.desks.get_mut(&seat.subnet) else { return };
        let Some(Revealing { epoch, first, .. }) = desk.revealing else { return };
        let subnet = seat.subnet.to_string();
        if let Some(at) = seat.revealed_at.filter(|at| *at > first) {
            desk.revealing = None;
            desk.past.note(Some(true));
            #[expect(clippy::cast_precision_loss, reason = "a gauge for people")]
            metrics::gauge!("starling_weights_reveal_heights", "subnet" => subnet).set((at - first) as f64);
        } else if !seat.unrevealed || seat.opening != Some(epoch) {
            desk.revealing = None;
            desk.past.note(Some(false));
            metrics::counter!("starling_weights_late_total", "subnet" => subnet).increment(1);
            tracing::warn!(subnet = %seat.subnet, epoch, first, "weights were not opened in time: a part of the bond is lost");
        }
    }

    /// What is missing of the bond, within the allowance and what is there to pay it from (D4).
    pub(super) fn top_up(&mut self, seat: &Seat, state: &State) -> Option<Due> {
        let Seat { subnet, epoch, member, .. } = *seat;
        let missing = seat.bond_missing();
        if missing == 0 || seat.leaving {
            return None;
        }
        let id: AccountId = self.params.account.public().into();
        let account = state.account(&id)?;
        let errand = ("validator_bond", subnet.0.into(), epoch);
        let amount = match self.shelf.top_up(subnet, epoch) {
            // One addition an epoch: a bond is cut at most once in it. Sent again only while the first may be lost.
            Some(amount) if self.outbox.waits(&errand, account.nonce) => amount,
            Some(_) => return None,
            None => missing,
        };
        let valid_until = seat.height.saturating_add(VALID_HEIGHTS);
        let action = Action::ValidatorBond { subnet, member, amount };
        let desk = self.desks.get_mut(&subnet)?;
        if self.shelf.top_up(subnet, epoch).is_none() {
            let mut paper =
                Transaction { account: id, nonce: account.nonce, fee: 0, valid_until, action: action.clone() };
            paper.fee = apply::full_fee(state, &paper.action, paper.signed_bytes());
            let limit = self.params.bond_top_up;
            let spent = self.shelf.topped_up(subnet, epoch);
            let trouble = if spent.saturating_add(amount) > limit {
                Some("limit")
            } else if account.balance < amount.saturating_add(paper.fee) {
                Some("balance")
            } else {
                self.shelf.keep_top_up(subnet, epoch, amount).err().map(|_| "disk")
            };
            if let Some(trouble) = trouble {
                if !std::mem::replace(&mut desk.bond_told, true) {
                    let balance = account.balance;
                    let told = "a seat's bond is too small and is not topped up: `starling validator duties` shows it";
                    tracing::warn!(%subnet, trouble, missing, limit, spent, balance, suspended = seat.suspended, "{told}");
                    metrics::counter!("starling_bond_top_ups_total", "outcome" => trouble).increment(1);
                }
                return None;
            }
            tracing::warn!(%subnet, epoch, amount, spent, limit, "a seat's bond is too small: it is topped up");
            metrics::counter!("starling_bond_top_ups_total", "outcome" => "sent").increment(1);
        }
        desk.topping_up.again(seat.height)?;
        Some(Due { errand, action, valid_until })
    }

    /// Says of waiting miners that answered us that they do (E14). Not while a vector is to be sealed or opened, which must
    /// not wait behind this; and two at a time, as two are enough.
    pub(super) fn attest(&mut self, seat: &Seat, state: &State, due: &mut Vec<Due>) {
        let Seat { subnet, member, height, .. } = *seat;
        let Some(desk) = self.desks.get_mut(&subnet) else { return };
        let id: AccountId = self.params.account.public().into();
        desk.seen.retain(|miner, _| {
            let row = state.member(subnet, *miner);
            row.is_some_and(|row| {
                matches!(row.standing, Standing::Waiting { .. }) && !related(state, &id, &row.account)
            })
        });
        let permitted = state.members(subnet).filter(|(_, row)| row.role == Role::Validator && row.permit);
        let permitted: Vec<MemberId> = permitted.map(|(id, _)| id).collect();
        let Some(rank) = permitted.iter().position(|id| *id == member) else { return };
        if seat.unrevealed || seat.height >= seat.commit_from() {
            return;
        }
        for (miner, (since, sending)) in &mut desk.seen {
            let said = state.get::<Attested>(&(subnet, *miner)).is_some_and(|said| said.by.contains(&member));
            let turn = rank.saturating_add(usize::try_from(miner.0).unwrap_or(0)) % permitted.len().max(1);
            let pause = ATTEST_PAUSE.saturating_mul(u64::try_from(turn / 2).unwrap_or(0));
            if said || height < since.saturating_add(pause) {
                continue;
            }
            let Some(before) = sending.again(height) else { continue };
            due.push(Due {
                errand: ("member_attest", subnet.0.into(), miner.0.into()),
                action: Action::MemberAttest { subnet, member, miner: *miner },
                valid_until: height.saturating_add(ATTEST_HEIGHTS).saturating_add(before),
            });
        }
    }

    /// Signs under the nonces that are theirs and publishes, in order.
    pub(super) fn send(&mut self, due: Vec<Due>, context: &mut Context<Self>) {
        let account = self.params.account.public().into();
        let view = ask(&self.links.read_ledger, ReadLedger { account: Some(account) }, LEDGER_DEADLINE);
        context.spawn(view.into_actor(self).map(move |view, actor, _| {
            let Ok(view) = view else { return };
            let used = view.state.account(&account).map_or(0, |row| row.nonce);
            let nonces = actor.outbox.assign(&due, used, view.next_nonce);
            for (nonce, Due { action, valid_until, .. }) in nonces.into_iter().zip(due) {
                let kind = action.name();
                let mut transaction = Transaction { account, nonce, fee: 0, valid_until, action };
                let weights = transaction.class() == Class::System;
                if !weights {
                    // The fee stands in a field of fixed width: the size does not depend on it.
                    let bytes = transaction.signed_bytes();
                    transaction.fee = apply::full_fee(&view.state, &transaction.action, bytes);
                }
                match transaction.sign(&actor.params.chain, &actor.params.account) {
                    Ok(signed) => {
                        tracing::debug!(kind, nonce, valid_until, "publishing");
                        let bytes = signed.encode();
                        let outbound = if weights { Outbound::Weights(bytes) } else { Outbound::Transaction(bytes) };
                        tell(&actor.links.publish, Publish(outbound));
                    }
                    Err(error) => tracing::warn!(kind, %error, "weights of ours do not make a transaction"),
                }
            }
        }));
    }
}
