//! Subnets come, change and go: creation for a lock that comes back, rules that change with notice, an announced end (E17).
//!
//! Refuses: a name that ever was another's, a change nobody could see coming, an end without notice. There is no other way
//! to close a subnet, and no key that could.

use super::super::draft::Draft;
use super::super::event::Event;
use super::super::judging::{Agreed, Close, ScoreSource, Window};
use super::super::money::{self, Note};
use super::super::receipt::Code;
use super::super::rows::{Account, Bonds, Commit, Subnet};
use super::super::state::next_open;
use super::members;
use super::rows::{CHALLENGERS_MAX, CHANGES_MAX, Challenger, Change, Charter, Curve, Purse, Queued};
use crate::protocol::genesis::TASKS;
use crate::protocol::ids::{AccountId, Epoch, Height, MemberId, SubnetId};
use crate::protocol::parameters::{NetworkKind, Spec, SubnetRules};
use crate::protocol::statement::{Kind, Purse as Pocket};

/// Epochs between two changes of one rule (E17).
const CHANGE_PAUSE: u64 = 2;
/// Rules no owner changes: the consensus is the network's (E17).
const FIXED: [&str; 1] = ["kappa"];

/// What a creation asks for.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub name: String,
    pub task: String,
    pub tempo: u64,
    pub max_lock: u64,
}

/// Opens a subnet, or waits for the place of one when there are as many as there may be. What is locked for it comes back
/// when it closes, or when it stops waiting.
///
/// # Errors
/// A bound, a name or a price that is not met, by its code; the draft is to be thrown away then.
pub fn create(draft: &mut Draft, owner: &AccountId, wanted: Wanted) -> Result<(), Code> {
    let (height, of_network) = (draft.height(), draft.parameters().clone());
    let waiting = &draft.treasury().challengers;
    let taken = draft.range::<Charter>(..).any(|(_, charter)| charter.name == wanted.name);
    if taken || waiting.iter().any(|of| of.name == wanted.name) {
        return Err(Code::NameTaken);
    }
    let full = draft.range::<Subnet>(..).count() as u64 >= of_network.subnet_limit;
    if full && (waiting.len() >= CHALLENGERS_MAX || waiting.iter().any(|of| of.account == *owner)) {
        return Err(Code::SubnetLimit);
    }
    let network = draft.treasury().network();
    let rules = SubnetRules { tempo: wanted.tempo, ..SubnetRules::defaults(network) };
    if !TASKS.contains(&wanted.task.as_str()) || !consistent(&rules, network) {
        return Err(Code::BadRule);
    }
    let lock = draft.treasury().lock.at(height, of_network.lock_half_life, of_network.lock_min, of_network.supply_cap);
    if lock > wanted.max_lock {
        return Err(Code::LockAboveMax);
    }
    money::lock(draft, owner, Pocket::Lock, lock, Note::of(Kind::Lock))?;
    draft.change::<Account>(owner, |account| account.attached = account.attached.saturating_add(1));
    let Wanted { name, task, tempo, .. } = wanted;
    let of = Challenger { account: *owner, name, task, tempo, lock, since: height };
    draft.treasury_mut().lock = Curve::created(lock, height);
    if full {
        draft.treasury_mut().challengers.push(of);
    } else {
        found(draft, of, height);
    }
    Ok(())
}

/// Founds a subnet whose lock is held already.
fn found(draft: &mut Draft, of: Challenger, height: Height) {
    let (of_network, network) = (draft.parameters().clone(), draft.treasury().network());
    let rules = SubnetRules { tempo: of.tempo, ..SubnetRules::defaults(network) };
    let books = draft.treasury_mut();
    let id = SubnetId(books.next_subnet);
    books.next_subnet = id.0.saturating_add(1);
    let charter = Charter {
        name: of.name.clone(),
        owner: Some(of.account),
        lock: of.lock,
        created: height,
        protected_until: height.saturating_add(of_network.protected_heights),
        ..Charter::default()
    };
    draft.put(&id, charter);
    let price = Curve { price: rules.price_start, since: height };
    draft.put(&id, Purse { price, seen: height, ..Purse::default() });
    let subnet = Subnet {
        name: of.name,
        task: of.task,
        next_open: next_open(id, rules.tempo, height),
        rules,
        next_member: MemberId(0),
        miners: 0,
        validators: 0,
        epoch: 0,
        opened: height,
        settle_at: None,
        last_settled: None,
        minted: 0,
        burned_fees: 0,
        fee_pot: 0,
    };
    draft.put(&id, subnet);
}

/// Gives up a creation that waits; its lock comes back at once.
///
/// # Errors
/// No creation of this account waits.
pub fn cancel(draft: &mut Draft, owner: &AccountId) -> Result<(), Code> {
    let at = draft.treasury().challengers.iter().position(|of| of.account == *owner).ok_or(Code::UnknownSubnet)?;
    let of = draft.treasury_mut().challengers.remove(at);
    money::release(draft, owner, Pocket::Lock, of.lock, Note::of(Kind::LockRefund));
    draft.change::<Account>(owner, |account| account.attached = account.attached.saturating_sub(1));
    Ok(())
}

/// Adds the first challenger's lock to the subnet's own: it stays, and is safe for a while (E17).
///
/// # Errors
/// The subnet is closed or another account owns it, nobody challenges it, or the balance does not cover the lock.
pub fn matched(draft: &mut Draft, owner: &AccountId, id: SubnetId) -> Result<(), Code> {
    let charter = draft.get::<Charter>(&id).filter(|of| of.closed.is_none()).cloned().ok_or(Code::UnknownSubnet)?;
    if charter.owner != Some(*owner) {
        return Err(Code::NotOwner);
    }
    let more = draft.treasury().challengers.first().filter(|_| charter.challenged).map(|of| of.lock);
    let more = more.ok_or(Code::NotChallenged)?;
    money::lock(draft, owner, Pocket::Lock, more, Note::of(Kind::Lock).subnet(id))?;
    if charter.lock == 0 {
        draft.change::<Account>(owner, |account| account.attached = account.attached.saturating_add(1));
    }
    let protected_until = draft.height().saturating_add(draft.parameters().protected_heights);
    let lock = charter.lock.saturating_add(more);
    draft.put(&id, Charter { lock, protected_until, closing: None, challenged: false, ..charter });
    Ok(())
}

/// Who waits enters where there is room; where there is none, the subnet with the smallest mean grant that is not protected
/// is given notice, one at a time. Nobody waiting takes the notice back (E17).
fn challenges(draft: &mut Draft, height: Height) {
    let limit = draft.parameters().subnet_limit;
    while (draft.range::<Subnet>(..).count() as u64) < limit && !draft.treasury().challengers.is_empty() {
        let of = draft.treasury_mut().challengers.remove(0);
        found(draft, of, height);
    }
    let waits = !draft.treasury().challengers.is_empty();
    let open: Vec<(SubnetId, Charter)> = draft
        .range::<Charter>(..)
        .filter(|(_, charter)| charter.closed.is_none())
        .map(|(id, charter)| (*id, charter.clone()))
        .collect();
    match (waits, open.iter().find(|(_, charter)| charter.challenged)) {
        (true, None) => {
            let old = open.iter().filter(|row| row.1.closing.is_none() && row.1.protected_until <= height);
            if let Some((id, charter)) = old.min_by_key(|(id, _)| (draft.purse(*id).mean_grant, *id)).cloned() {
                let closing = Some(height.saturating_add(draft.parameters().challenge_heights));
                draft.put(&id, Charter { closing, challenged: true, ..charter });
            }
        }
        (false, Some((id, charter))) => {
            let (id, charter) = (*id, charter.clone());
            draft.put(&id, Charter { closing: None, challenged: false, ..charter });
        }
        _ => {}
    }
}

/// Rules within their bounds that fit each other.
fn consistent(rules: &SubnetRules, network: NetworkKind) -> bool {
    rules.check(network).is_ok()
        && rules.reveal_window <= rules.tempo
        && rules.price_min <= rules.price_max
        && rules.alpha_low <= rules.alpha_high
}

fn spec(rule: u16) -> Option<&'static Spec<SubnetRules>> {
    SubnetRules::SPECS.iter().find(|spec| spec.id == rule)
}

fn owned(draft: &Draft, owner: &AccountId, id: SubnetId) -> Result<Charter, Code> {
    let charter = draft.get::<Charter>(&id).filter(|charter| charter.closed.is_none()).ok_or(Code::UnknownSubnet)?;
    if charter.owner != Some(*owner) {
        return Err(Code::NotOwner);
    }
    if charter.closing.is_some() {
        return Err(Code::SubnetClosing);
    }
    Ok(charter.clone())
}

/// Announces changes of rules: each counts from the opening of the second epoch after this one, and a rule changes at most
/// once in two epochs (E17). Another owner owns at once; the lock goes with the subnet.
///
/// # Errors
/// The subnet is closed or another account owns it, or a change is out of bounds or too soon after the last.
pub fn update(
    draft: &mut Draft,
    owner: &AccountId,
    id: SubnetId,
    heir: Option<AccountId>,
    changes: &[(u16, u64)],
) -> Result<(), Code> {
    let mut charter = owned(draft, owner, id)?;
    let subnet = draft.subnet(id).ok_or(Code::UnknownSubnet)?;
    let epoch = subnet.epoch;
    let mut rules = subnet.rules.clone();
    charter.changes.iter().for_each(|change| apply(&mut rules, change));
    for (rule, value) in changes {
        let spec = spec(*rule).ok_or(Code::BadRule)?;
        let recent = charter.changed.iter().any(|row| row.0 == *rule && epoch < row.1.saturating_add(CHANGE_PAUSE));
        if recent || FIXED.contains(&spec.name) {
            return Err(Code::RuleTooSoon);
        }
        let members = u64::from(subnet.miners) + u64::from(subnet.validators);
        if spec.name == "slots" && *value < members {
            return Err(Code::BadRule);
        }
        let change = Change { rule: *rule, value: *value, epoch: epoch.saturating_add(2) };
        apply(&mut rules, &change);
        charter.changed.retain(|row| row.0 != *rule);
        charter.changed.push((*rule, epoch));
        charter.changes.push(change);
    }
    if !consistent(&rules, draft.treasury().network()) || charter.changes.len() > CHANGES_MAX {
        return Err(Code::BadRule);
    }
    if let Some(heir) = heir {
        if draft.account(&heir).is_none() {
            return Err(Code::BadPayee);
        }
        let note = Note::of(Kind::Lock).subnet(id);
        money::outgo(draft, owner, Pocket::Lock, charter.lock, note.with(&heir));
        money::income(draft, &heir, Pocket::Lock, charter.lock, note.with(owner));
        if charter.lock > 0 {
            draft.change::<Account>(owner, |account| account.attached = account.attached.saturating_sub(1));
            draft.change::<Account>(&heir, |account| account.attached = account.attached.saturating_add(1));
        }
        charter.owner = Some(heir);
    }
    draft.put(&id, charter);
    Ok(())
}

fn apply(rules: &mut SubnetRules, change: &Change) {
    if let Some(spec) = spec(change.rule) {
        (spec.set)(rules, change.value);
    }
}

/// Puts announced changes into force when an epoch opens; the caller keeps the subnet's row.
pub fn changes(draft: &mut Draft, id: SubnetId, subnet: &mut Subnet, epoch: Epoch) {
    let Some(charter) = draft.get::<Charter>(&id).filter(|charter| !charter.changes.is_empty()).cloned() else {
        return;
    };
    let (now, later): (Vec<Change>, Vec<Change>) = charter.changes.iter().copied().partition(|c| c.epoch <= epoch);
    now.iter().for_each(|change| apply(&mut subnet.rules, change));
    draft.put(&id, Charter { changes: later, ..charter });
}

/// The owner announces the end; it comes after the notice (E17).
///
/// # Errors
/// The subnet is closed or closing, or another account owns it.
pub fn announce(draft: &mut Draft, owner: &AccountId, id: SubnetId) -> Result<(), Code> {
    let charter = owned(draft, owner, id)?;
    let closing = draft.height().saturating_add(draft.parameters().close_heights);
    draft.put(&id, Charter { closing: Some(closing), ..charter });
    Ok(())
}

/// Closes the subnets whose time has come: the last epoch is settled first, then everybody is out with their bond, the lock
/// is given back, and what the bank holds is gone. Names and ids stay taken.
pub fn run(draft: &mut Draft, height: Height, events: &mut Vec<Event>) {
    let due: Vec<SubnetId> = draft
        .range::<Charter>(..)
        .filter(|(_, charter)| charter.closed.is_none() && charter.closing.is_some_and(|at| at <= height))
        .map(|(id, _)| *id)
        .collect();
    for id in due {
        close(draft, id, height, events);
    }
    challenges(draft, height);
}

fn close(draft: &mut Draft, id: SubnetId, height: Height, events: &mut Vec<Event>) {
    // The last epoch is settled first; nothing opens meanwhile.
    if draft.get::<Close>(&id).is_some() || draft.subnet(id).is_some_and(|subnet| subnet.settle_at.is_some()) {
        return;
    }
    let Some(mut subnet) = draft.subnet(id).cloned() else { return };
    let ids: Vec<MemberId> = draft.members(id).map(|(member, _)| member).collect();
    for member in ids {
        events.extend(members::remove(draft, id, &mut subnet, member, height));
    }
    for (place, row) in draft.queue(id) {
        draft.remove::<Queued>(&(id, place));
        members::refund(draft, (&row.account, Pocket::Place), row.bond, id, height);
        draft.change::<Account>(&row.account, |account| account.attached = account.attached.saturating_sub(1));
    }
    let blocks: Vec<(SubnetId, u8, u32)> =
        draft.range::<Bonds>((id, 0, 0)..=(id, u8::MAX, u32::MAX)).map(|(key, _)| *key).collect();
    blocks.iter().for_each(|key| draft.remove::<Bonds>(key));
    let all = (id, Epoch::MIN, MemberId(0))..=(id, Epoch::MAX, MemberId(u32::MAX));
    let sealed: Vec<(SubnetId, Epoch, MemberId)> = draft.range::<Commit>(all).map(|(key, _)| *key).collect();
    sealed.iter().for_each(|key| draft.remove::<Commit>(key));
    let agreed: Vec<(SubnetId, Epoch)> = draft.range::<Agreed>((id, 0)..=(id, Epoch::MAX)).map(|row| *row.0).collect();
    agreed.iter().for_each(|key| draft.remove::<Agreed>(key));
    let sources: Vec<_> = draft
        .range::<ScoreSource>((id, 0, MemberId(0))..=(id, Epoch::MAX, MemberId(u32::MAX)))
        .map(|row| *row.0)
        .collect();
    sources.iter().for_each(|key| draft.remove::<ScoreSource>(key));
    if draft.get::<Window>(&id).is_some() {
        draft.remove::<Window>(&id);
    }
    // Fees that nobody was there to be paid from have no owner left.
    money::burn(draft, subnet.fee_pot);
    draft.remove::<Subnet>(&id);
    draft.remove::<Purse>(&id);
    let Some(charter) = draft.get::<Charter>(&id).cloned() else { return };
    if let Some(owner) = charter.owner.as_ref().filter(|_| charter.lock > 0) {
        let back = money::release(draft, owner, Pocket::Lock, charter.lock, Note::of(Kind::LockRefund).subnet(id));
        assert!(back, "violation: the owner of subnet {id} does not exist");
        draft.change::<Account>(owner, |account| account.attached = account.attached.saturating_sub(1));
    }
    draft.put(&id, Charter { lock: 0, challenged: false, closed: Some(height), changes: Vec::new(), ..charter });
}
