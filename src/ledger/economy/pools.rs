//! Pools of stake: shares of what a validator and those who trust it have put together (E18).
//!
//! A pool is a total and a number of shares. Putting in buys shares, taking out redeems them, a reward raises the total and
//! so the worth of every share, a penalty lowers it: O(1) however many delegators there are. A million virtual shares and
//! motes on both sides keep the first to come from pricing out the second; every rounding favours the pool. While a share
//! is worth less than a mote, after a penalty, the price is the plain one: all shares together are never worth more than
//! there is.
//!
//! Refuses to sell shares of a pool that lost nearly everything: shares would grow without bound. Invariant: the shares of
//! a pool are the sum of the rows that hold them; a pool without shares does not exist.

use super::super::draft::Draft;
use super::super::due;
use super::super::money::{self, Note, credit, income, outgo};
use super::super::receipt::Code;
use super::super::rows::{Account, Due, DueReason, Move, Pool, Shares};
use super::super::state::State;
use crate::protocol::ids::{AccountId, Height};
use crate::protocol::statement::{Kind, Purse};

/// Shares and motes that every pool has beyond its own.
pub const VIRTUAL: u64 = 1_000_000;
/// Shares are sold while they are at most so many times the motes: what was ever sold then fits 64 bits.
const DILUTION_MAX: u128 = 256;
/// The largest part of a reward that a validator may keep.
pub const TAKE_MAX_BP: u16 = 1_800;
/// How far a take may rise at once, how long a rise is announced, and how long until the next may be: in terms.
pub const TAKE_STEP_BP: u16 = 100;
pub const TAKE_NOTICE_TERMS: u64 = 1_008;
pub const TAKE_PAUSE_TERMS: u64 = 4_320;
/// Pools one account may have shares of.
pub const POOLS_MAX: usize = 64;
/// A penalty's part for who proved the fault; the rest is burned.
const REPORTER_BP: u128 = 500;

fn narrow(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// `a · b / c`, rounded down, or up.
fn part(a: u64, b: u64, c: u64) -> u64 {
    narrow(u128::from(a) * u128::from(b) / u128::from(c.max(1)))
}

fn part_up(a: u64, b: u64, c: u64) -> u64 {
    narrow((u128::from(a) * u128::from(b)).div_ceil(u128::from(c.max(1))))
}

impl Pool {
    /// Motes and shares that make the price: with the virtual ones, except after a penalty has brought it below one. There
    /// virtual motes would promise more than the pool has, and nobody can be priced out.
    fn price(&self) -> (u64, u64) {
        if self.total < self.shares {
            return (self.total, self.shares);
        }
        (self.total.saturating_add(VIRTUAL), self.shares.saturating_add(VIRTUAL))
    }

    /// Whether shares of it may be sold.
    pub fn open(&self) -> bool {
        let (motes, shares) = self.price();
        u128::from(shares) <= u128::from(motes) * DILUTION_MAX
    }

    /// The shares that an amount buys.
    pub fn issue(&self, amount: u64) -> u64 {
        let (motes, shares) = self.price();
        part(amount, shares, motes)
    }

    /// What shares are worth.
    pub fn redeem(&self, shares: u64) -> u64 {
        let (motes, all) = self.price();
        part(shares, motes, all)
    }

    /// The fewest shares that are worth an amount.
    pub fn cost(&self, amount: u64) -> u64 {
        let (motes, shares) = self.price();
        part_up(amount, shares, motes)
    }

    /// The take at a height: an announced rise counts from its height on.
    pub fn take_at(&self, height: Height) -> u16 {
        match self.rise {
            Some((take, at)) if at <= height => take,
            _ => self.take_bp,
        }
    }
}

impl State {
    /// What an account's shares of a pool are worth.
    pub fn worth(&self, account: &AccountId, pool: &AccountId) -> u64 {
        let shares = self.get::<Shares>(&(*account, *pool)).map_or(0, |held| held.shares);
        self.get::<Pool>(pool).map_or(0, |pool| pool.redeem(shares))
    }

    /// The pools an account has shares of, by pool.
    pub fn holdings(&self, account: &AccountId) -> impl Iterator<Item = (AccountId, &Shares)> {
        let all = (*account, AccountId::ZERO)..=(*account, AccountId([0xff; 32]));
        self.range::<Shares>(all).map(|(key, held)| (key.1, held))
    }
}

fn attach(draft: &mut Draft, account: &AccountId, more: bool) {
    draft.change::<Account>(account, |account| {
        account.attached = if more { account.attached.saturating_add(1) } else { account.attached.saturating_sub(1) };
    });
}

/// Gives an account shares for motes that come into the pool; the caller has written where they come from.
fn buy(draft: &mut Draft, account: &AccountId, owner: &AccountId, amount: u64, note: Note) -> Result<u64, Code> {
    let there = draft.get::<Pool>(owner).cloned();
    if there.is_none() {
        attach(draft, owner, true);
    }
    let mut pool = there.unwrap_or_default();
    if !pool.open() {
        return Err(Code::PoolRuined);
    }
    let shares = pool.issue(amount);
    pool.total = pool.total.saturating_add(amount);
    pool.shares = pool.shares.saturating_add(shares);
    let key = (*account, *owner);
    let mut held = draft.get::<Shares>(&key).cloned().unwrap_or_default();
    if held.shares == 0 && shares > 0 {
        attach(draft, account, true);
        pool.holders = pool.holders.saturating_add(1);
    }
    held.shares = held.shares.saturating_add(shares);
    if held.shares > 0 {
        draft.put(&key, held);
    }
    draft.put(owner, pool);
    income(draft, owner, Purse::Pool, amount, note);
    Ok(shares)
}

/// Takes shares of an account out of a pool, for at most what they are worth. The last one's leavings are burned.
fn sell(draft: &mut Draft, account: &AccountId, owner: &AccountId, (shares, amount): (u64, u64), note: Note) {
    let key = (*account, *owner);
    let (Some(mut pool), Some(mut held)) = (draft.get::<Pool>(owner).cloned(), draft.get::<Shares>(&key).cloned())
    else {
        return;
    };
    pool.total = pool.total.saturating_sub(amount);
    pool.shares = pool.shares.saturating_sub(shares);
    held.shares = held.shares.saturating_sub(shares);
    outgo(draft, owner, Purse::Pool, amount, note);
    if held.shares == 0 {
        draft.remove::<Shares>(&key);
        attach(draft, account, false);
        pool.holders = pool.holders.saturating_sub(1);
    } else {
        draft.put(&key, held);
    }
    if pool.shares == 0 {
        outgo(draft, owner, Purse::Pool, pool.total, Note::of(Kind::Dust));
        money::burn(draft, pool.total);
        draft.remove::<Pool>(owner);
        attach(draft, owner, false);
    } else {
        draft.put(owner, pool);
    }
}

/// Puts money from a balance into a pool.
///
/// # Errors
/// The balance does not cover it, or a bound of the pool or of the account does not let it in.
pub fn put_in(draft: &mut Draft, account: &AccountId, owner: &AccountId, amount: u64) -> Result<(), Code> {
    if draft.get::<Shares>(&(*account, *owner)).is_none() && draft.holdings(account).count() >= POOLS_MAX {
        return Err(Code::TooManyPools);
    }
    money::debit(draft, account, amount, Note::of(Kind::Delegate).with(owner))?;
    buy(draft, account, owner, amount, Note::of(Kind::Delegate).with(account))?;
    if draft.worth(account, owner) < least(draft, account, owner) {
        return Err(if account == owner { Code::BelowMinStake } else { Code::BelowMinDelegation });
    }
    Ok(())
}

/// What an account must have in a pool if it has anything. Buying rounds down by less than a mote.
fn least(state: &State, account: &AccountId, owner: &AccountId) -> u64 {
    let least = if account == owner { state.parameters().min_stake } else { crate::protocol::units::MOTES_PER_STAR };
    let even = state.get::<Pool>(owner).is_some_and(|pool| pool.total == pool.shares);
    least - u64::from(!even)
}

/// Sells shares for an amount, or all of them: what comes out.
fn take_out(
    draft: &mut Draft,
    account: &AccountId,
    owner: &AccountId,
    amount: Option<u64>,
    kind: Kind,
) -> Result<u64, Code> {
    let pool = draft.get::<Pool>(owner).ok_or(Code::UnknownPool)?;
    let &Shares { shares: held, locked, .. } = draft.get::<Shares>(&(*account, *owner)).ok_or(Code::StakeTooLow)?;
    let (shares, amount) = match amount {
        None => (held, pool.redeem(held)),
        Some(0) => return Err(Code::StakeTooLow),
        Some(amount) => (pool.cost(amount), amount),
    };
    if shares > held {
        return Err(Code::StakeTooLow);
    }
    if draft.height() < draft.parameters().genesis_lock_heights && held - shares < locked {
        return Err(Code::StakeLocked);
    }
    sell(draft, account, owner, (shares, amount), Note::of(kind).with(account).share(shares, held));
    let left = draft.get::<Shares>(&(*account, *owner)).is_some();
    if left && draft.worth(account, owner) < least(draft, account, owner) {
        return Err(if account == owner { Code::BelowMinStake } else { Code::BelowMinDelegation });
    }
    Ok(amount)
}

/// Takes money out of a pool; it is held for the unbonding span and stays liable for the pool's faults.
///
/// # Errors
/// There is less than that, what stays would be too little, or it is stake of genesis and its span is not over.
pub fn unbond(draft: &mut Draft, account: &AccountId, owner: &AccountId, amount: Option<u64>) -> Result<(), Code> {
    let amount = take_out(draft, account, owner, amount, Kind::Undelegate)?;
    if amount > 0 {
        let at = draft.height().saturating_add(draft.parameters().unbond_heights);
        due::push(draft, at, Due { account: *account, amount, reason: DueReason::Unstaked, pool: Some(*owner) });
    }
    Ok(())
}

/// Moves money from one pool to another at once. It stays liable for the old pool's faults for the unbonding span, and
/// while it is it moves no further.
///
/// # Errors
/// There is less than that, or it is bound to its old pool.
pub fn redelegate(
    draft: &mut Draft,
    account: &AccountId,
    (from, to): (&AccountId, &AccountId),
    amount: Option<u64>,
) -> Result<(), Code> {
    if from == to {
        return Err(Code::SamePool);
    }
    let height = draft.height();
    let bound = |held: &Shares| held.moved_until > height;
    let moved = draft.get::<Move>(&(*from, *account)).is_some();
    if moved || draft.get::<Shares>(&(*account, *from)).is_some_and(bound) {
        return Err(Code::MovedTooSoon);
    }
    if to != account && draft.get::<Pool>(to).is_none() {
        return Err(Code::UnknownPool);
    }
    if draft.get::<Shares>(&(*account, *to)).is_none() && draft.holdings(account).count() > POOLS_MAX {
        return Err(Code::TooManyPools);
    }
    let amount = take_out(draft, account, from, amount, Kind::Redelegate)?;
    buy(draft, account, to, amount, Note::of(Kind::Redelegate).with(account))?;
    if draft.worth(account, to) < least(draft, account, to) {
        return Err(if account == to { Code::BelowMinStake } else { Code::BelowMinDelegation });
    }
    let until = height.saturating_add(draft.parameters().unbond_heights);
    draft.change::<Shares>(&(*account, *to), |held| held.moved_until = until);
    draft.put(&(*from, *account), Move { to: *to, amount, until });
    due::push(draft, until, Due { account: *account, amount: 0, reason: DueReason::Moved, pool: Some(*from) });
    Ok(())
}

/// Sets the part of rewards that a validator keeps. Down at once; up by little, after a long notice, seldom. While
/// nobody else has a share there is nobody to warn.
///
/// # Errors
/// The take is out of its bounds, or was raised not long ago.
pub fn set_take(draft: &mut Draft, owner: &AccountId, take_bp: u16) -> Result<(), Code> {
    let height = draft.height();
    let term = draft.parameters().term_heights;
    let mut pool = draft.get::<Pool>(owner).cloned().ok_or(Code::UnknownPool)?;
    let now = pool.take_at(height);
    let alone = pool.holders == u32::from(draft.get::<Shares>(&(*owner, *owner)).is_some());
    if take_bp > TAKE_MAX_BP {
        return Err(Code::TakeTooHigh);
    }
    if take_bp <= now || alone {
        (pool.take_bp, pool.rise) = (take_bp, None);
    } else {
        if take_bp > now + TAKE_STEP_BP {
            return Err(Code::TakeTooHigh);
        }
        if height < pool.next_rise {
            return Err(Code::TakeTooSoon);
        }
        pool.take_bp = now;
        pool.rise = Some((take_bp, height.saturating_add(term.saturating_mul(TAKE_NOTICE_TERMS))));
        pool.next_rise = height.saturating_add(term.saturating_mul(TAKE_PAUSE_TERMS));
    }
    draft.put(owner, pool);
    Ok(())
}

/// Pays a validator: its take buys it shares, the rest raises what every share is worth. Without a pool the balance has
/// it. Says whether there was anybody to pay; if not, nothing happened.
pub fn reward(draft: &mut Draft, owner: &AccountId, amount: u64, note: Note) -> bool {
    let Some(mut pool) = draft.get::<Pool>(owner).cloned() else { return credit(draft, owner, amount, note) };
    let take = narrow(u128::from(amount) * u128::from(pool.take_at(draft.height())) / 10_000);
    let shared = amount - take;
    pool.total = pool.total.saturating_add(shared);
    draft.put(owner, pool);
    income(draft, owner, Purse::Pool, shared, note);
    if take > 0 && buy(draft, owner, owner, take, Note { kind: Kind::Take, ..note }.share(take, amount)).is_err() {
        // No shares are sold of a ruined pool: everybody has the whole.
        draft.change::<Pool>(owner, |pool| pool.total = pool.total.saturating_add(take));
        income(draft, owner, Purse::Pool, take, note);
    }
    true
}

/// Takes a part of everything that is liable for a validator: its pool, what was taken out of it and is held, what was
/// moved to other pools. A part of it is the reporter's, the rest is burned. What was taken.
pub fn slash(draft: &mut Draft, owner: &AccountId, ppm: u32, reporter: Option<&AccountId>) -> u64 {
    let cut = |amount: u64| narrow(u128::from(amount) * u128::from(ppm.min(1_000_000)) / 1_000_000);
    let note = Note::of(Kind::Slash).with(owner);
    let from_pool = cut(draft.stake(owner));
    draft.change::<Pool>(owner, |pool| pool.total = pool.total.saturating_sub(from_pool));
    outgo(draft, owner, Purse::Pool, from_pool, note);
    let mut taken = u128::from(from_pool);
    for key in draft.unbonding(owner) {
        taken += u128::from(take_held(draft, key, cut, note));
    }
    let moves: Vec<((AccountId, AccountId), Move)> = draft
        .range::<Move>((*owner, AccountId::ZERO)..=(*owner, AccountId([0xff; 32])))
        .map(|(key, of)| (*key, of.clone()))
        .collect();
    for ((_, account), moved) in moves {
        taken += u128::from(take_moved(draft, &account, &moved.to, cut(moved.amount), note));
    }
    let taken = narrow(taken);
    let share = narrow(u128::from(taken) * REPORTER_BP / 10_000);
    let paid = reporter.is_some_and(|reporter| credit(draft, reporter, share, Note::of(Kind::Reward).with(owner)));
    money::burn(draft, if paid { taken - share } else { taken });
    taken
}

/// Takes from one waiting payment.
fn take_held(draft: &mut Draft, key: (Height, u64), cut: impl Fn(u64) -> u64, note: Note) -> u64 {
    let Some(held) = draft.get::<Due>(&key).cloned() else { return 0 };
    let amount = cut(held.amount);
    draft.change::<Due>(&key, |due| due.amount = due.amount.saturating_sub(amount));
    outgo(draft, &held.account, Purse::Unbonding, amount, note);
    amount
}

/// Takes from what was moved: from its shares in the new pool, and if they are gone from what it took out of there.
fn take_moved(draft: &mut Draft, account: &AccountId, to: &AccountId, wanted: u64, note: Note) -> u64 {
    let from_shares = wanted.min(draft.worth(account, to));
    if from_shares > 0 {
        let held = draft.get::<Shares>(&(*account, *to)).map_or(0, |held| held.shares);
        let shares = draft.get::<Pool>(to).map_or(0, |pool| pool.cost(from_shares)).min(held);
        sell(draft, account, to, (shares, from_shares), note);
    }
    let mut taken = from_shares;
    for key in draft.unbonding(to) {
        if taken < wanted && draft.get::<Due>(&key).is_some_and(|due| due.account == *account) {
            taken += take_held(draft, key, |amount| amount.min(wanted - taken), note);
        }
    }
    taken
}
