//! Transactions that wait for a body (L23-L25).
//!
//! Owns a bounded set, ordered per account by nonce and between accounts by fee. Each is checked and its signature
//! verified once, when it is offered; after every final height the rest is checked again. Refuses what could not be
//! included, what pays too little when the pool is full, and more than its share from one account. Class S pays nothing
//! and has a tenth of the room to itself; what waits in vain there gives way to a later word of its sender, as often as
//! heights pass and no oftener. The pool knows heights, no clock. Every transaction that leaves unincluded is
//! counted by its reason.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::apply::{Room, admissible, minimum_fee};
use super::receipt::{Code, Refusal};
use super::state::State;
use crate::protocol::ids::{AccountId, Digest, Height};
use crate::protocol::transaction::{Class, SignedTransaction};

/// Missing nonces before a transaction that may still come (L23).
const GAP_MAX: usize = 3;
/// Heights a transaction waits behind missing nonces.
const GAP_HEIGHTS: u64 = 60;
/// Heights after which a free transaction that is still here gives way to a later one with its nonce.
const FREE_HEIGHTS: u64 = 2;
/// What one height of waiting is worth, in thousandths of a mote per byte.
const AGE_MILLI: i128 = 10;

/// The bounds of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub count_max: usize,
    pub bytes_max: usize,
    pub account_max: usize,
    /// For accounts with at least `min_stake`.
    pub validator_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { count_max: 20_000, bytes_max: 32 << 20, account_max: 16, validator_max: 64 }
    }
}

/// What an accepted offer was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offered {
    pub id: Digest,
    /// Whether it was not in the pool before.
    pub new: bool,
}

/// How many transactions left the pool unincluded, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Pushed out of a full pool.
    pub evicted: u64,
    /// Replaced by one that pays more.
    pub replaced: u64,
    /// Past `valid_until`.
    pub expired: u64,
    /// Their nonce was used by another.
    pub stale: u64,
    /// No longer admissible.
    pub inadmissible: u64,
    /// Waited too long behind a missing nonce.
    pub gap: u64,
}

/// Chooses the counter of a reason.
type Counter = fn(&mut Dropped) -> &mut u64;

#[derive(Clone, Debug)]
struct Entry {
    signed: SignedTransaction,
    bytes: Vec<u8>,
    arrived: Height,
    rank: i128,
}

impl Entry {
    fn class(&self) -> Class {
        self.signed.transaction.class()
    }
}

/// One side's order and size: those who pay by fee and age, class S by age.
#[derive(Clone, Debug, Default)]
struct Side {
    order: BTreeSet<(i128, Digest)>,
    bytes: usize,
}

/// The pool.
#[derive(Clone, Debug, Default)]
pub struct Mempool {
    limits: Limits,
    entries: BTreeMap<Digest, Entry>,
    accounts: BTreeMap<AccountId, BTreeMap<u64, Digest>>,
    paid: Side,
    system: Side,
    dropped: Dropped,
}

impl Mempool {
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.paid.bytes + self.system.bytes
    }

    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// The waiting transaction of an id.
    pub fn get(&self, id: &Digest) -> Option<&[u8]> {
        self.entries.get(id).map(|entry| entry.bytes.as_slice())
    }

    /// Whether exactly these bytes are in the pool, hence their signature was verified.
    pub fn knows(&self, bytes: &[u8]) -> bool {
        SignedTransaction::decode(bytes).is_ok_and(|signed| self.get(&signed.id) == Some(bytes))
    }

    /// The nonce the next transaction of an account should carry: after those that wait without a gap.
    pub fn next_nonce(&self, account: &AccountId, state: &State) -> u64 {
        let mut next = state.account(account).map_or(0, |account| account.nonce);
        if let Some(waiting) = self.accounts.get(account) {
            while waiting.contains_key(&next) {
                next = next.saturating_add(1);
            }
        }
        next
    }

    /// Takes a transaction in, if it could be included on top of `state` or a little later.
    ///
    /// # Errors
    /// Why not; `Refusal::provable` says whether the sender is to blame.
    pub fn offer(&mut self, bytes: &[u8], state: &State) -> Result<Offered, Refusal> {
        let signed = SignedTransaction::decode(bytes)?;
        let id = signed.id;
        if self.get(&id) == Some(bytes) {
            return Ok(Offered { id, new: false });
        }
        let height = state.height().saturating_add(1);
        // Whatever costs little comes before the signature, unless the bytes alone condemn it.
        match admissible(state, &signed.transaction, bytes.len(), height) {
            Ok(()) | Err(Refusal::NoEffect(Code::TooEarly)) => {}
            Err(refusal) => return Err(refusal),
        }
        let replaced = self.place(&signed, state)?;
        signed.verify(&state.chain_id()).map_err(|_| Refusal::Signature)?;
        if self.entries.contains_key(&id) {
            return Ok(Offered { id, new: false });
        }
        let rank = match signed.transaction.class() {
            Class::System => i128::from(height),
            // Ageing moves all alike, so the order is fixed by when each came.
            _ => {
                let rate = u128::from(signed.transaction.fee) * 1_000 / bytes.len().max(1) as u128;
                i128::try_from(rate).unwrap_or(i128::MAX) - i128::from(height) * AGE_MILLI
            }
        };
        let entry = Entry { signed, bytes: bytes.to_vec(), arrived: height, rank };
        self.make_room(&entry, replaced)?;
        if let Some(old) = replaced {
            self.remove(&old);
            self.dropped.replaced += 1;
        }
        self.insert(entry);
        Ok(Offered { id, new: true })
    }

    /// Checks nonce, share and affordability; says which waiting transaction this one would replace.
    fn place(&self, signed: &SignedTransaction, state: &State) -> Result<Option<Digest>, Refusal> {
        let of = &signed.transaction;
        let account = state.account(&of.account).ok_or(Refusal::UnknownAccount)?;
        let wrong = Refusal::Nonce { expected: account.nonce, found: of.nonce };
        let ahead = of.nonce.checked_sub(account.nonce).ok_or(wrong.clone())?;
        let none = BTreeMap::new();
        let waiting = self.accounts.get(&of.account).unwrap_or(&none);
        let before = waiting.range(account.nonce..of.nonce).count();
        if usize::try_from(ahead).map_or(true, |ahead| ahead - before > GAP_MAX) {
            return Err(wrong);
        }
        let replaced = waiting.get(&of.nonce).copied();
        if let Some(old) = replaced.and_then(|id| self.entries.get(&id)) {
            let minimum = minimum_replacement(old.signed.transaction.fee);
            let enough = match of.class() {
                // Or replacing would be free: it is bounded by heights instead, and never goes back.
                Class::System => {
                    let waited = old.arrived.saturating_add(FREE_HEIGHTS) <= state.height().saturating_add(1);
                    let later = of.valid_until > old.signed.transaction.valid_until;
                    old.class() == Class::System && waited && later
                }
                Class::User | Class::Bonded => of.fee >= minimum,
            };
            if old.signed.id != signed.id && !enough {
                return Err(Refusal::ReplacementTooLow { minimum });
            }
        } else {
            let staked = state.stake(&of.account) >= state.parameters().min_stake;
            let limit = if staked { self.limits.validator_max } else { self.limits.account_max };
            if waiting.len() >= limit {
                return Err(Refusal::AccountFull { limit });
            }
        }
        let others = waiting.values().filter(|id| Some(**id) != replaced).filter_map(|id| self.entries.get(id));
        let fees = others.fold(of.fee, |sum, entry| sum.saturating_add(entry.signed.transaction.fee));
        if fees > account.balance {
            return Err(Refusal::FeeNotPayable { balance: account.balance, fee: fees });
        }
        Ok(replaced)
    }

    fn side(&self, class: Class) -> &Side {
        if class == Class::System { &self.system } else { &self.paid }
    }

    /// The most count and bytes of a side.
    fn side_limits(&self, class: Class) -> (usize, usize) {
        let (count, bytes) = (self.limits.count_max / 10, self.limits.bytes_max / 10);
        match class {
            Class::System => (count, bytes),
            _ => (self.limits.count_max - count, self.limits.bytes_max - bytes),
        }
    }

    /// Evicts until the newcomer fits: those who pay less, or the oldest of class S.
    fn make_room(&mut self, entry: &Entry, replaced: Option<Digest>) -> Result<(), Refusal> {
        let class = entry.class();
        let (count_max, bytes_max) = self.side_limits(class);
        let freed = replaced.and_then(|id| self.entries.get(&id)).filter(|old| same_side(old.class(), class));
        let (mut count, mut bytes) = (self.side(class).order.len(), self.side(class).bytes);
        if let Some(old) = freed {
            (count, bytes) = (count - 1, bytes - old.bytes.len());
        }
        let mut victims = Vec::new();
        for (rank, id) in &self.side(class).order {
            if count < count_max && bytes + entry.bytes.len() <= bytes_max {
                break;
            }
            let Some(victim) = self.entries.get(id) else { continue };
            // Its own earlier ones must not make room for it: it could never follow them.
            let own = victim.signed.transaction.account == entry.signed.transaction.account;
            if class != Class::System && (*rank >= entry.rank || own) {
                return Err(Refusal::PoolFull);
            }
            if Some(*id) != replaced {
                victims.push(*id);
                (count, bytes) = (count - 1, bytes - victim.bytes.len());
            }
        }
        if count >= count_max || bytes + entry.bytes.len() > bytes_max {
            return Err(Refusal::PoolFull);
        }
        for id in victims {
            self.remove(&id);
            self.dropped.evicted += 1;
        }
        Ok(())
    }

    fn insert(&mut self, entry: Entry) {
        let (id, of) = (entry.signed.id, &entry.signed.transaction);
        self.accounts.entry(of.account).or_default().insert(of.nonce, id);
        let side = if entry.class() == Class::System { &mut self.system } else { &mut self.paid };
        side.order.insert((entry.rank, id));
        side.bytes += entry.bytes.len();
        self.entries.insert(id, entry);
    }

    fn remove(&mut self, id: &Digest) {
        let Some(entry) = self.entries.remove(id) else { return };
        let of = &entry.signed.transaction;
        if let Some(waiting) = self.accounts.get_mut(&of.account) {
            waiting.remove(&of.nonce);
            if waiting.is_empty() {
                self.accounts.remove(&of.account);
            }
        }
        let side = if entry.class() == Class::System { &mut self.system } else { &mut self.paid };
        side.order.remove(&(entry.rank, *id));
        side.bytes -= entry.bytes.len();
    }

    /// Candidates for a body on top of `state`: class S first, then by fee, each account in nonce order.
    pub fn propose(&self, state: &State) -> Vec<Vec<u8>> {
        let mut heads: BinaryHeap<(bool, i128, std::cmp::Reverse<Digest>)> = BinaryHeap::new();
        let head = |account: &AccountId, nonce: u64| {
            let id = self.accounts.get(account)?.get(&nonce)?;
            let entry = self.entries.get(id)?;
            let system = entry.class() == Class::System;
            // The oldest of class S first, the best paying of the others.
            Some((system, if system { -entry.rank } else { entry.rank }, std::cmp::Reverse(*id)))
        };
        for account in self.accounts.keys() {
            heads.extend(state.account(account).and_then(|of| head(account, of.nonce)));
        }
        let (mut room, mut out) = (Room::default(), Vec::new());
        while let Some((.., std::cmp::Reverse(id))) = heads.pop() {
            let Some(entry) = self.entries.get(&id) else { continue };
            let of = &entry.signed.transaction;
            if of.fee < minimum_fee(state, &of.action, entry.bytes.len()) {
                continue;
            }
            // An account whose next does not fit has nothing further to offer this body.
            if room.take(entry.class(), entry.bytes.len(), of.action.units()).is_ok() {
                out.push(entry.bytes.clone());
                heads.extend(head(&of.account, of.nonce.saturating_add(1)));
            }
        }
        out
    }

    /// Forgets what a final height included and what can no longer be included on top of its state.
    pub fn settle(&mut self, state: &State, included: &[Digest]) {
        for id in included {
            self.remove(id);
        }
        let height = state.height().saturating_add(1);
        let mut gone: Vec<(Digest, Counter)> = Vec::new();
        for (account, waiting) in &self.accounts {
            let found = state.account(account);
            let mut next = found.map_or(0, |found| found.nonce);
            let mut balance = found.map_or(0, |found| found.balance);
            for (nonce, id) in waiting {
                let Some(entry) = self.entries.get(id) else { continue };
                let of = &entry.signed.transaction;
                let judged = admissible(state, of, entry.bytes.len(), height);
                // A base fee that rose above what it pays falls again (E11).
                let later = Err(Refusal::NoEffect(Code::TooEarly));
                let waits = judged.is_ok() || judged == later || matches!(judged, Err(Refusal::FeeTooLow { .. }));
                if *nonce < next {
                    gone.push((*id, |dropped| &mut dropped.stale));
                } else if of.valid_until < height {
                    gone.push((*id, |dropped| &mut dropped.expired));
                } else if !waits || of.fee > balance {
                    gone.push((*id, |dropped| &mut dropped.inadmissible));
                } else if *nonce > next && entry.arrived.saturating_add(GAP_HEIGHTS) < height {
                    gone.push((*id, |dropped| &mut dropped.gap));
                } else {
                    balance -= of.fee;
                    next = if *nonce == next { next.saturating_add(1) } else { next };
                }
            }
        }
        for (id, counter) in gone {
            self.remove(&id);
            *counter(&mut self.dropped) += 1;
        }
    }
}

fn same_side(a: Class, b: Class) -> bool {
    (a == Class::System) == (b == Class::System)
}

/// A replacement pays a tenth more, rounded up (L24).
fn minimum_replacement(fee: u64) -> u64 {
    fee.saturating_add(fee.div_ceil(10).max(1))
}
