//! Seats of validators: what they put at risk, what they lose by not opening, and how fresh their rows are (D4, D6).
//!
//! The first miss costs a 64th of the bond, each further one within sixteen periods twice as much, the seventh all that is
//! left: whoever reveals last sees the others and owns an option, and this is its price. A bond below its minimum when an
//! epoch opens suspends the seat until it is topped up. Refuses to punish where nothing was sealed.

use super::draft::Draft;
use super::event::Event;
use super::incentive::EpochResult;
use super::incentive::fixed::Q;
use super::incentive::freshness::{Movement, VOICE_MAX};
use super::judging::{Agreed, Close, REMEMBERED, Seat};
use super::money::{self, Note};
use super::receipt::Code;
use super::rows::{Member, Subnet, Vector};
use super::state::State;
use crate::protocol::ids::{AccountId, Epoch, MemberId, SubnetId};
use crate::protocol::statement::{Kind, Purse};
use crate::protocol::transaction::Role;

/// Misses from which the whole bond goes.
const MISSES_MAX: u32 = 6;
/// The part of its own stake a bond never has to exceed.
const OWN_STAKE_PART: u64 = 10;
/// The part of the bond a challenge without an answer costs (D14).
const UNANSWERED_SHIFT: u32 = 6;
/// Periods a seat is unaccountable after one (D14).
const UNACCOUNTABLE_PERIODS: u64 = 16;

impl State {
    /// What is remembered of a seat.
    pub fn seat(&self, subnet: SubnetId, member: MemberId) -> Seat {
        self.get::<Seat>(&(subnet, member)).cloned().unwrap_or_default()
    }

    /// χ of a row, where there is any (D6): not before enough periods, and not of one that is half of the consensus.
    pub fn freshness(&self, subnet: SubnetId, member: MemberId) -> Option<Q> {
        let seat = self.get::<Seat>(&(subnet, member))?;
        seat.freshness.value().filter(|_| seat.active <= VOICE_MAX.unsigned_abs())
    }

    /// The least bond a seat must have (D4): so that the first miss costs about an epoch's dividend.
    pub fn bond_minimum(&self, subnet: SubnetId, id: MemberId) -> u64 {
        let parameters = self.parameters();
        let Some(account) = self.member(subnet, id).map(|member| member.account) else { return 0 };
        let seat = self.seat(subnet, id);
        let sum: u128 = seat.dividends.iter().map(|paid| u128::from(*paid)).sum();
        let mean = sum.checked_div(seat.dividends.len() as u128).unwrap_or(0);
        let cover = u64::try_from(mean * u128::from(parameters.seat_bond_epochs)).unwrap_or(u64::MAX);
        parameters.seat_bond_min.max(cover.min(self.worth(&account, &account) / OWN_STAKE_PART))
    }

    /// Whether a seat may speak at all: not while its bond is too small, nor, where the subnet says so, while it owes an
    /// answer about its scores (D4, D14).
    pub fn seat_speaks(&self, id: SubnetId, subnet: &Subnet, member: MemberId) -> bool {
        let Some(seat) = self.get::<Seat>(&(id, member)) else { return true };
        let silenced = subnet.rules.accountable_only > 0 && seat.accountable_from > subnet.epoch;
        !seat.suspended && !silenced
    }
}

/// What a miss takes of a bond, after so many in the sixteen periods before (D4).
pub fn cut(bond: u64, before: u32) -> u64 {
    bond >> MISSES_MAX.saturating_sub(before)
}

/// Takes from a seat's bond and burns it. Says how much.
fn burn(draft: &mut Draft, id: SubnetId, member: MemberId, amount: u64, epoch: Epoch) -> u64 {
    let Some(of) = draft.member(id, member).cloned() else { return 0 };
    let amount = amount.min(of.bond);
    draft.change::<Member>(&(id, member), |member| member.bond = member.bond.saturating_sub(amount));
    money::outgo(draft, &of.account, Purse::Bond, amount, Note::of(Kind::Slash).subnet(id).epoch(epoch));
    money::burn(draft, amount);
    amount
}

/// Keeps what a close found about the seats: misses and what they cost, dividends, freshness. `earned` is what each member
/// had earned before the epoch was paid.
pub fn judged(
    draft: &mut Draft,
    id: SubnetId,
    close: &Close,
    outcome: &EpochResult,
    earned: &[(MemberId, u64)],
    events: &mut Vec<Event>,
) {
    let present: Vec<(MemberId, Q)> = outcome.columns.iter().map(|column| (column.member, column.consensus)).collect();
    let conceal = draft.subnet(id).map_or(1, |subnet| subnet.rules.conceal);
    // What was public while this period could still be committed to.
    let past = close.period.checked_sub(conceal).and_then(|period| draft.get::<Agreed>(&(id, period)).cloned());
    let movement = Movement::new(&past.unwrap_or_default().shares, &present);
    for voice in &close.voices {
        let member = voice.member;
        let Some(of) = draft.member(id, member).cloned() else { continue };
        let mut seat = draft.seat(id, member);
        if voice.missed {
            let amount = burn(draft, id, member, cut(of.bond, seat.misses.count_ones()), close.period);
            let left = of.bond.saturating_sub(amount);
            events.push(Event::BondCut { subnet: id, epoch: close.period, member, amount, left });
        }
        seat.misses = (seat.misses << 1) | u16::from(voice.missed);
        let before = earned.binary_search_by_key(&member, |row| row.0).ok().and_then(|at| earned.get(at));
        seat.dividends.push(of.earned.saturating_sub(before.map_or(0, |row| row.1)));
        let surplus = seat.dividends.len().saturating_sub(REMEMBERED);
        seat.dividends.drain(..surplus);
        if let Some(vector) = draft.get::<Vector>(&(id, member)).filter(|vector| vector.epoch == close.period) {
            seat.freshness.observe(&movement, &vector.weights);
        }
        let row = outcome.rows.binary_search_by_key(&member, |row| row.member).ok().and_then(|at| outcome.rows.get(at));
        seat.active = row.map_or(0, |row| row.active.unsigned_abs());
        draft.put(&(id, member), seat);
    }
    let shares = present.into_iter().filter(|(_, consensus)| *consensus > 0).collect();
    draft.put(&(id, close.period), Agreed { shares });
    // As many as the longest conceal could look back.
    let old: Vec<Epoch> =
        draft.range::<Agreed>((id, 0)..(id, close.period.saturating_sub(conceal))).map(|(key, _)| key.1).collect();
    for period in old {
        draft.remove::<Agreed>(&(id, period));
    }
}

/// Suspends the seats whose bond is below its minimum when an epoch opens, and lifts what is no longer so (D4).
pub fn review(draft: &mut Draft, id: SubnetId, events: &mut Vec<Event>) {
    let validators: Vec<MemberId> =
        draft.members(id).filter(|(_, member)| member.role == Role::Validator).map(|(member, _)| member).collect();
    for member in validators {
        reconsider(draft, id, member, true, events);
    }
}

/// Compares a bond with its minimum. A seat is only suspended where `strict`, but freed at once.
pub fn reconsider(draft: &mut Draft, id: SubnetId, member: MemberId, strict: bool, events: &mut Vec<Event>) {
    let Some(bond) = draft.member(id, member).map(|member| member.bond) else { return };
    let (minimum, mut seat) = (draft.bond_minimum(id, member), draft.seat(id, member));
    let low = bond < minimum;
    if low == seat.suspended || (low && !strict) {
        return;
    }
    seat.suspended = low;
    draft.put(&(id, member), seat);
    events.push(Event::Suspended { subnet: id, member, suspended: low, bond, minimum });
}

/// A challenge was not answered: a part of the bond is burned and everybody can see it (D14).
pub fn unanswered(draft: &mut Draft, id: SubnetId, member: MemberId, period: Epoch) -> u64 {
    let Some(bond) = draft.member(id, member).map(|member| member.bond) else { return 0 };
    let epoch = draft.subnet(id).map_or(0, |subnet| subnet.epoch);
    let mut seat = draft.seat(id, member);
    seat.accountable_from = epoch.saturating_add(UNACCOUNTABLE_PERIODS);
    draft.put(&(id, member), seat);
    burn(draft, id, member, bond >> UNANSWERED_SHIFT, period)
}

/// Opens or ends a challenge of a seat in its count.
pub fn count_challenge(draft: &mut Draft, id: SubnetId, member: MemberId, more: bool) {
    if draft.member(id, member).is_none() {
        return;
    }
    let mut seat = draft.seat(id, member);
    seat.challenges = if more { seat.challenges.saturating_add(1) } else { seat.challenges.saturating_sub(1) };
    draft.put(&(id, member), seat);
}

/// Forgets the seat of a member that is gone.
pub fn gone(draft: &mut Draft, id: SubnetId, member: MemberId) {
    if draft.get::<Seat>(&(id, member)).is_some() {
        draft.remove::<Seat>(&(id, member));
    }
}

/// Adds to a bond (D4).
///
/// # Errors
/// The seat is not this account's, or its balance does not cover the amount.
pub fn top_up(
    draft: &mut Draft,
    account: &AccountId,
    (id, member): (SubnetId, MemberId),
    amount: u64,
    events: &mut Vec<Event>,
) -> Result<(), Code> {
    draft.get::<Subnet>(&id).ok_or(Code::UnknownSubnet)?;
    let of = draft.member(id, member).ok_or(Code::UnknownMember)?;
    if of.account != *account {
        return Err(Code::NotYours);
    }
    if of.role != Role::Validator {
        return Err(Code::NoPermit);
    }
    money::lock(draft, account, Purse::Bond, amount, Note::of(Kind::BondLock).subnet(id))?;
    draft.change::<Member>(&(id, member), |member| member.bond = member.bond.saturating_add(amount));
    reconsider(draft, id, member, false, events);
    Ok(())
}
