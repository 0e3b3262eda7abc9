//! Miners between queue and exit: what a place costs, who waits for one, probation, notice, and who goes (E12-E16).
//!
//! Everything here happens when an epoch opens, in one order: who asked to leave is out; clocks of the new go on; the
//! lowest are put on notice while somebody waits, and leave if they still are the lowest two openings later; the queue
//! fills what is free. Refuses to take a place from a miner that had no time to show what it can do.

use super::super::draft::Draft;
use super::super::due;
use super::super::event::Event;
use super::super::judging::Close;
use super::super::money::{self, Note};
use super::super::rows::{Account, Due, DueReason, Member, Subnet, Vector};
use super::super::seats;
use super::super::state::State;
use super::BASIS;
use super::rows::{Attested, Purse, Queued, Standing};
use crate::protocol::ids::{AccountId, Epoch, Height, MemberId, PublicKey, SubnetId};
use crate::protocol::parameters::SubnetRules;
use crate::protocol::statement::{Kind, Purse as Pocket};
use crate::protocol::transaction::Role;

/// Validators that must have seen a miner answer before its probation begins (E14).
pub const ATTESTERS: usize = 2;
/// Openings from notice to exit: the epoch it was given in and the whole one after it (E16).
const NOTICE_EPOCHS: u64 = 2;

/// What a miner's place costs (E12, E13): a part is burned, the rest comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    pub whole: u64,
    pub fee: u64,
    pub bond: u64,
}

impl Price {
    /// The parts of a price; the fee is rounded up.
    pub fn of(whole: u64, entry_fee_bp: u64) -> Self {
        let fee = (u128::from(whole) * u128::from(entry_fee_bp)).div_ceil(BASIS);
        let fee = u64::try_from(fee).unwrap_or(whole).min(whole);
        Self { whole, fee, bond: whole - fee }
    }
}

/// Somebody who takes a place.
#[derive(Clone, Copy, Debug)]
pub struct Entrant {
    pub account: AccountId,
    pub role: Role,
    pub operator: PublicKey,
    pub bond: u64,
}

/// A miner that may lose its place, lowest first (E16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranked {
    pub member: MemberId,
    pub account: AccountId,
    pub score: u64,
    pub standing: Standing,
}

fn queue_of(id: SubnetId) -> std::ops::RangeInclusive<(SubnetId, u64)> {
    (id, 0)..=(id, u64::MAX)
}

impl State {
    /// The price of a miner's place at a height.
    pub fn place_price(&self, id: SubnetId, rules: &SubnetRules, height: Height) -> Price {
        let curve = self.purse(id).price;
        let whole = curve.at(height, rules.price_half_life, rules.price_min, rules.price_max);
        Price::of(whole, rules.entry_fee_bp)
    }

    /// Who waits for a place, who comes first first (E16): by price paid, then height.
    pub fn queue(&self, id: SubnetId) -> Vec<(u64, Queued)> {
        let mut waiting: Vec<(u64, Queued)> =
            self.range::<Queued>(queue_of(id)).map(|(key, row)| (key.1, row.clone())).collect();
        waiting.sort_by_key(|(place, row)| (std::cmp::Reverse(row.paid), row.since, *place));
        waiting
    }

    /// The miners that are past their probation, lowest first: by score, the newer before the older (E16).
    pub fn ranking(&self, id: SubnetId) -> Vec<Ranked> {
        let past = |member: &Member| matches!(member.standing, Standing::Active | Standing::Notice { .. });
        let mut rows: Vec<Ranked> = self
            .members(id)
            .filter(|(_, member)| member.role == Role::Miner && !member.leaving && past(member))
            .map(|(at, m)| Ranked { member: at, account: m.account, score: m.score, standing: m.standing })
            .collect();
        rows.sort_by_key(|row| (row.score, std::cmp::Reverse(row.member)));
        rows
    }

    /// How many of the lowest would have to go at most (E16).
    pub fn places_wanted(&self, id: SubnetId, subnet: &Subnet) -> usize {
        let waiting = self.range::<Queued>(queue_of(id)).count() as u64;
        let limit = (subnet.rules.slots / subnet.rules.exit_share.max(1)).max(1);
        usize::try_from(waiting.saturating_sub(free(subnet)).min(limit)).unwrap_or(usize::MAX)
    }
}

/// Free slots.
fn free(subnet: &Subnet) -> u64 {
    subnet.rules.slots.saturating_sub(u64::from(subnet.miners) + u64::from(subnet.validators))
}

/// Gives a place and the next id; the caller keeps the subnet's row and has locked the bond.
pub fn enter(draft: &mut Draft, id: SubnetId, subnet: &mut Subnet, of: &Entrant, height: Height) -> Event {
    draft.change::<Account>(&of.account, |account| account.attached = account.attached.saturating_add(1));
    let member = subnet.next_member;
    // 2^32 registrations, at least one height for each 2,048, are out of reach.
    subnet.next_member = MemberId(member.0.saturating_add(1));
    let standing = match of.role {
        Role::Miner => Standing::Waiting { heights: 0 },
        Role::Validator => Standing::Active,
    };
    // A close in flight decides the seats first; what it leaves free is given out behind it.
    let deciding = draft.get::<Close>(&id).is_some();
    let permit = of.role == Role::Validator && !deciding && free_seat(draft, id, subnet.rules.seats);
    match of.role {
        Role::Miner => subnet.miners = subnet.miners.saturating_add(1),
        Role::Validator => subnet.validators = subnet.validators.saturating_add(1),
    }
    let row = Member {
        account: of.account,
        role: of.role,
        operator: of.operator,
        bond: of.bond,
        registered: height,
        leaving: false,
        permit,
        last_reveal: None,
        missed: 0,
        consensus: 0,
        incentive: 0,
        dividend: 0,
        trust: 0,
        earned: 0,
        owed: 0,
        score: 0,
        standing,
    };
    draft.put(&(id, member), row);
    Event::Registered { subnet: id, member, role: of.role, account: of.account }
}

fn free_seat(draft: &Draft, subnet: SubnetId, seats: u64) -> bool {
    (draft.members(subnet).filter(|(_, member)| member.permit).count() as u64) < seats
}

/// Takes a member out; its bond waits in the due queue, so its account stays attached to something (E13).
pub fn remove(
    draft: &mut Draft,
    id: SubnetId,
    subnet: &mut Subnet,
    member_id: MemberId,
    height: Height,
) -> Option<Event> {
    let member = draft.member(id, member_id)?.clone();
    draft.remove::<Member>(&(id, member_id));
    draft.remove::<Vector>(&(id, member_id));
    if draft.get::<Attested>(&(id, member_id)).is_some() {
        draft.remove::<Attested>(&(id, member_id));
    }
    seats::gone(draft, id, member_id);
    money::keep_owed(draft, &member);
    refund(draft, (&member.account, Pocket::Bond), member.bond, id, height);
    draft.change::<Account>(&member.account, |account| account.attached = account.attached.saturating_sub(1));
    match member.role {
        Role::Miner => subnet.miners = subnet.miners.saturating_sub(1),
        Role::Validator => subnet.validators = subnet.validators.saturating_sub(1),
    }
    Some(Event::Left { subnet: id, member: member_id, role: member.role, account: member.account })
}

/// A bond is on its way back: whole, after the exit span (E13).
pub fn refund(draft: &mut Draft, (account, from): (&AccountId, Pocket), bond: u64, id: SubnetId, height: Height) {
    if bond == 0 {
        return;
    }
    money::outgo(draft, account, from, bond, Note::of(Kind::BondRefund).subnet(id));
    let at = height.saturating_add(draft.parameters().exit_heights);
    due::push(draft, at, Due { account: *account, amount: bond, reason: DueReason::BondRefund, pool: None });
}

/// What becomes of the members when an epoch opens.
pub fn turn(draft: &mut Draft, id: SubnetId, subnet: &mut Subnet, epoch: Epoch, height: Height) -> Vec<Event> {
    let mut events = Vec::new();
    let leaving: Vec<MemberId> = draft.members(id).filter(|row| row.1.leaving).map(|row| row.0).collect();
    for member in leaving {
        events.extend(remove(draft, id, subnet, member, height));
    }
    for member in clocks(draft, id, subnet, height) {
        events.extend(remove(draft, id, subnet, member, height));
    }
    for member in notices(draft, id, subnet, epoch) {
        events.extend(remove(draft, id, subnet, member, height));
    }
    let mut waiting = draft.queue(id).into_iter();
    while free(subnet) > 0 {
        let Some((place, row)) = waiting.next() else { break };
        draft.remove::<Queued>(&(id, place));
        let note = Note::of(Kind::BondLock).subnet(id);
        money::outgo(draft, &row.account, Pocket::Place, row.bond, note);
        money::income(draft, &row.account, Pocket::Bond, row.bond, note);
        let of = Entrant { account: row.account, role: Role::Miner, operator: row.operator, bond: row.bond };
        events.push(enter(draft, id, subnet, &of, height));
        // The queue had attached the account as the member does now.
        draft.change::<Account>(&row.account, |account| account.attached = account.attached.saturating_sub(1));
    }
    events
}

/// The clocks of the new go on, unless nobody is there to see them (E14). Returns who has waited too long.
fn clocks(draft: &mut Draft, id: SubnetId, subnet: &Subnet, height: Height) -> Vec<MemberId> {
    let revealed = draft.members(id).filter_map(|(_, member)| member.last_reveal).max().unwrap_or(0);
    let seen = draft.purse(id).seen.max(revealed);
    if height.saturating_sub(seen) > draft.parameters().outage_heights {
        return Vec::new();
    }
    let young: Vec<(MemberId, Standing, Height)> = draft
        .members(id)
        .filter(|(_, m)| matches!(m.standing, Standing::Waiting { .. } | Standing::Probation { .. }))
        .map(|(at, member)| (at, member.standing, member.registered))
        .collect();
    let mut late = Vec::new();
    for (member, standing, registered) in young {
        let next = match standing {
            Standing::Waiting { heights } => {
                let heights = heights.saturating_add(height.saturating_sub(subnet.opened.max(registered)));
                if heights > subnet.rules.waiting_heights {
                    late.push(member);
                }
                Standing::Waiting { heights }
            }
            Standing::Probation { epochs } if epochs > 1 => Standing::Probation { epochs: epochs - 1 },
            _ => Standing::Active,
        };
        draft.change::<Member>(&(id, member), |row| row.standing = next);
    }
    late
}

/// Gives notice to the lowest while somebody waits, takes it back from who is no longer among them, and returns who has
/// to go (E16).
fn notices(draft: &mut Draft, id: SubnetId, subnet: &Subnet, epoch: Epoch) -> Vec<MemberId> {
    let (ranking, wanted) = (draft.ranking(id), draft.places_wanted(id, subnet));
    let mut out = Vec::new();
    for (place, row) in ranking.iter().enumerate() {
        let next = match (place < wanted, row.standing) {
            (true, Standing::Notice { epoch: since }) if epoch >= since.saturating_add(NOTICE_EPOCHS) => {
                out.push(row.member);
                continue;
            }
            (true, Standing::Active) => Standing::Notice { epoch },
            (false, Standing::Notice { .. }) => Standing::Active,
            _ => continue,
        };
        draft.change::<Member>(&(id, row.member), |member| member.standing = next);
    }
    out
}

/// Pays for a place and takes it, or waits for one (E12, E13, E16). The caller has judged the price.
///
/// # Errors
/// The balance does not cover it, or too many wait already.
pub fn buy(
    draft: &mut Draft,
    id: SubnetId,
    subnet: &mut Subnet,
    (account, operator): (&AccountId, PublicKey),
    price: Price,
) -> Result<Option<Event>, super::super::receipt::Code> {
    use super::super::receipt::Code;
    let (height, note) = (draft.height(), Note::of(Kind::BondLock).subnet(id));
    let waiting = draft.range::<Queued>(queue_of(id)).count() as u64;
    let queued = free(subnet) == 0;
    if queued && waiting >= subnet.rules.queue_max {
        return Err(Code::QueueFull);
    }
    money::debit(draft, account, price.fee, Note::of(Kind::EntryFee).subnet(id))?;
    money::burn(draft, price.fee);
    money::lock(draft, account, if queued { Pocket::Place } else { Pocket::Bond }, price.bond, note)?;
    let mut purse = draft.purse(id);
    purse.price = super::rows::Curve::bought(price.whole, height, subnet.rules.price_max);
    let place = purse.next_queued;
    if queued {
        purse.next_queued = place.saturating_add(1);
    }
    draft.put::<Purse>(&id, purse);
    if !queued {
        let of = Entrant { account: *account, role: Role::Miner, operator, bond: price.bond };
        return Ok(Some(enter(draft, id, subnet, &of, height)));
    }
    draft.change::<Account>(account, |account| account.attached = account.attached.saturating_add(1));
    let row = Queued { account: *account, operator, paid: price.whole, bond: price.bond, since: height };
    draft.put(&(id, place), row);
    Ok(None)
}
