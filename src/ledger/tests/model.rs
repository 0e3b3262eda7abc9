//! The ledger against a naive one: plain maps, the rules said once more, row by row.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::apply::split;
use super::super::receipt::Code;
use super::super::rows::{Account, Channel, Due};
use super::*;
use crate::protocol::channel::{Voucher, channel_id};
use crate::protocol::transaction::ALL;

#[derive(Clone, Default)]
struct Person {
    balance: u64,
    nonce: u64,
    /// Pool to what it has there: nothing is minted or taken here, so a share is a mote.
    pools: BTreeMap<u8, u64>,
    seats: Vec<u32>,
    /// Its place in the queue, and what was locked for it.
    waits: Option<u64>,
}

#[derive(Clone, Copy)]
struct Purse {
    payer: u8,
    payee: u8,
    deposit: u64,
    paid: u64,
    /// The height at which it ends, once its payer announced that.
    ends: Option<u64>,
}

/// Everything a body of transfers, stakes and memberships touches; emission is off.
#[derive(Clone, Default)]
struct Model {
    height: u64,
    people: BTreeMap<u8, Person>,
    /// (height, order) to (who, amount).
    due: BTreeMap<(u64, u64), (u8, u64)>,
    /// (pool it left, who) to the height until when.
    moves: BTreeMap<(u8, u8), u64>,
    /// (who, pool it came to) to the height until when it stays.
    bound: BTreeMap<(u8, u8), u64>,
    channels: BTreeMap<Digest, Purse>,
    term: u64,
    pot: u64,
    seq: u64,
    burned: u64,
    next_member: u32,
    leaving: Vec<(u8, u32)>,
    next_place: u64,
}

impl Model {
    fn attached(&self, of: u8) -> usize {
        let person = &self.people[&of];
        let channels = self.channels.values().filter(|of_it| of_it.payer == of || of_it.payee == of);
        person.pools.len()
            + usize::from(self.pool(of) > 0)
            + channels.count()
            + person.seats.len()
            + usize::from(person.waits.is_some())
            + self.due.values().filter(|due| due.0 == of).count()
    }

    fn pool(&self, of: u8) -> u64 {
        self.people.values().filter_map(|person| person.pools.get(&of)).sum()
    }

    /// Puts money into a pool, from wherever.
    fn put(&mut self, of: u8, pool: u8, amount: u64) -> Option<Code> {
        let held = self.people.get_mut(&of).unwrap().pools.entry(pool).or_default();
        *held += amount;
        (*held < STAR).then_some(if of == pool { Code::BelowMinStake } else { Code::BelowMinDelegation })
    }

    /// Takes money out of a pool: what comes out, or why nothing does.
    fn take(&mut self, of: u8, pool: u8, amount: u64) -> Result<u64, Code> {
        if self.pool(pool) == 0 {
            return Err(Code::UnknownPool);
        }
        let pools = &mut self.people.get_mut(&of).unwrap().pools;
        let held = pools.get(&pool).copied().ok_or(Code::StakeTooLow)?;
        let amount = if amount == ALL { held } else { amount };
        let left = held.checked_sub(amount).ok_or(Code::StakeTooLow)?;
        if left > 0 && left < STAR {
            return Err(if of == pool { Code::BelowMinStake } else { Code::BelowMinDelegation });
        }
        if left > 0 {
            pools.insert(pool, left)
        } else {
            pools.remove(&pool)
        };
        Ok(amount)
    }

    fn who(id: &AccountId) -> u8 {
        (0..40).find(|of| account(*of) == *id).unwrap()
    }

    fn staking(&mut self, of: u8, action: &Action) -> Result<(), Code> {
        let pay = |model: &mut Self, amount: u64| {
            let me = model.people.get_mut(&of).unwrap();
            me.balance = me.balance.checked_sub(amount).ok_or(Code::BalanceTooLow)?;
            Ok(())
        };
        match action {
            Action::Stake { amount } => {
                pay(self, *amount)?;
                self.put(of, of, *amount).map_or(Ok(()), Err)
            }
            Action::Delegate { validator, amount } => {
                let pool = Self::who(validator);
                if self.pool(pool) == 0 {
                    return Err(Code::UnknownPool);
                }
                pay(self, *amount)?;
                self.put(of, pool, *amount).map_or(Ok(()), Err)
            }
            Action::Unstake { amount } => {
                let unknown = |code| if code == Code::UnknownPool { Code::StakeTooLow } else { code };
                let amount = self.take(of, of, *amount).map_err(unknown)?;
                self.promise(of, amount, self.height + 7);
                Ok(())
            }
            Action::Undelegate { validator, amount } => {
                let amount = self.take(of, Self::who(validator), *amount)?;
                self.promise(of, amount, self.height + 7);
                Ok(())
            }
            Action::Redelegate { from, to, amount } => {
                let (from, to) = (Self::who(from), Self::who(to));
                if from == to {
                    return Err(Code::SamePool);
                }
                let bound =
                    self.people[&of].pools.contains_key(&from) && self.bound.get(&(of, from)) > Some(&self.height);
                if bound || self.moves.contains_key(&(from, of)) {
                    return Err(Code::MovedTooSoon);
                }
                if to != of && self.pool(to) == 0 {
                    return Err(Code::UnknownPool);
                }
                let amount = self.take(of, from, *amount)?;
                if let Some(code) = self.put(of, to, amount) {
                    return Err(code);
                }
                let until = self.height + 7;
                self.moves.insert((from, of), until);
                self.bound.insert((of, to), until);
                self.promise(of, 0, until);
                Ok(())
            }
            _ => Err(Code::NothingOwed),
        }
    }

    fn paying(&mut self, of: u8, nonce: u64, action: &Action) -> Result<(), Code> {
        match action {
            Action::ChannelOpen { payee, deposit, .. } => {
                let to = Self::who(payee);
                if to == of || !self.people.contains_key(&to) {
                    return Err(Code::BadPayee);
                }
                let me = self.people.get_mut(&of).unwrap();
                me.balance = me.balance.checked_sub(*deposit).ok_or(Code::BalanceTooLow)?;
                let of_it = Purse { payer: of, payee: to, deposit: *deposit, paid: 0, ends: None };
                self.channels.insert(channel_id(&account(of), payee, nonce), of_it);
            }
            Action::ChannelRedeem { voucher } => {
                let channel = self.channels.get(&voucher.channel).copied().ok_or(Code::UnknownChannel)?;
                if channel.payee != of {
                    return Err(Code::NotYours);
                }
                if voucher.cumulative <= channel.paid || voucher.cumulative > channel.deposit {
                    return Err(Code::VoucherSum);
                }
                let due = voucher.cumulative - channel.paid;
                let (burn, pot) = (due.div_ceil(10), due / 10);
                assert_eq!(split(due, 1_000, 1_000), (burn, pot, due - burn - pot));
                self.burned += burn;
                self.pot += pot;
                self.people.get_mut(&of).unwrap().balance += due - burn - pot;
                self.channels.get_mut(&voucher.channel).unwrap().paid = voucher.cumulative;
            }
            Action::ChannelClose { channel: id, .. } => {
                let channel = self.channels.get(id).copied().ok_or(Code::UnknownChannel)?;
                if channel.payee != of && channel.payer != of {
                    return Err(Code::NotYours);
                }
                // The payer announces the end, a term ahead.
                if channel.payee != of {
                    if channel.ends.is_some() {
                        return Err(Code::ChannelClosing);
                    }
                    self.channels.get_mut(id).unwrap().ends = Some(self.height + self.term);
                    return Ok(());
                }
                self.channels.remove(id);
                self.people.get_mut(&channel.payer).unwrap().balance += channel.deposit - channel.paid;
            }
            _ => panic!("not in this model"),
        }
        Ok(())
    }

    fn promise(&mut self, of: u8, amount: u64, at: u64) {
        self.due.insert((at, self.seq), (of, amount));
        self.seq += 1;
    }

    fn scheduled(&mut self) {
        self.height += 1;
        let height = self.height;
        self.moves.retain(|_, until| *until > height);
        for channel in self.channels.extract_if(.., |_, channel| channel.ends == Some(height)).map(|(_, of_it)| of_it) {
            self.people.get_mut(&channel.payer).unwrap().balance += channel.deposit - channel.paid;
        }
        while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= self.height) {
            let (of, amount) = entry.remove();
            self.people.get_mut(&of).unwrap().balance += amount;
        }
        if self.height % 5 == 1 {
            let mut leaving = std::mem::take(&mut self.leaving);
            leaving.sort_by_key(|of| of.1);
            for (of, id) in leaving {
                self.people.get_mut(&of).unwrap().seats.retain(|seat| *seat != id);
                self.promise(of, STAR, self.height + 5);
            }
            // Who has waited longest enters first: all paid the same.
            while self.people.values().map(|person| person.seats.len()).sum::<usize>() < 5 {
                let next = self.people.iter().filter_map(|row| row.1.waits.map(|place| (place, *row.0))).min();
                let Some((_, of)) = next else { break };
                let me = self.people.get_mut(&of).unwrap();
                me.waits = None;
                me.seats.push(self.next_member);
                self.next_member += 1;
            }
        }
    }

    fn effect(&mut self, of: u8, action: &Action) -> Code {
        let balance = self.people[&of].balance;
        match action {
            Action::Transfer { to, amount, .. } => {
                let Some(left) = balance.checked_sub(*amount) else { return Code::BalanceTooLow };
                let to = (0..40).find(|of| account(*of) == *to).unwrap();
                if !self.people.contains_key(&to) {
                    if *amount < STAR / 1_000 {
                        return Code::BelowMinAccount;
                    }
                    let nonce = self.height << 16;
                    self.people.insert(to, Person { nonce, ..Person::default() });
                }
                self.people.get_mut(&of).unwrap().balance = left;
                self.people.get_mut(&to).unwrap().balance += amount;
            }
            Action::Stake { .. }
            | Action::Unstake { .. }
            | Action::Delegate { .. }
            | Action::Undelegate { .. }
            | Action::Redelegate { .. }
            | Action::Claim => {
                let before = self.clone();
                if let Err(code) = self.staking(of, action) {
                    *self = before;
                    return code;
                }
            }
            Action::ChannelOpen { .. } | Action::ChannelRedeem { .. } | Action::ChannelClose { .. } => {
                // The transaction's own nonce is one below the account's by now.
                let nonce = self.people[&of].nonce - 1;
                if let Err(code) = self.paying(of, nonce, action) {
                    return code;
                }
            }
            Action::Register { .. } => {
                if !self.people[&of].seats.is_empty() || self.people[&of].waits.is_some() {
                    return Code::AlreadyMember;
                }
                let Some(left) = balance.checked_sub(STAR) else { return Code::BalanceTooLow };
                let full = self.people.values().map(|person| person.seats.len()).sum::<usize>() >= 5;
                let me = self.people.get_mut(&of).unwrap();
                me.balance = left;
                if full {
                    me.waits = Some(self.next_place);
                    self.next_place += 1;
                } else {
                    me.seats.push(self.next_member);
                    self.next_member += 1;
                }
            }
            Action::Unqueue { place, .. } => {
                let Some(who) = self.people.iter().find(|row| row.1.waits == Some(*place)).map(|row| *row.0) else {
                    return Code::UnknownMember;
                };
                if who != of {
                    return Code::NotYours;
                }
                self.people.get_mut(&of).unwrap().waits = None;
                self.promise(of, STAR, self.height + 5);
            }
            Action::Leave { member, .. } => {
                if self.leaving.contains(&(of, member.0)) {
                    return Code::AlreadyLeaving;
                }
                if self.people[&of].seats != [member.0] {
                    let known = self.people.values().any(|person| person.seats.contains(&member.0));
                    return if known { Code::NotYours } else { Code::UnknownMember };
                }
                self.leaving.push((of, member.0));
            }
            _ => panic!("not in this model"),
        }
        Code::Applied
    }

    fn include(&mut self, of: u8, fee: u64, action: &Action) -> Code {
        let me = self.people.get_mut(&of).unwrap();
        me.balance -= fee;
        me.nonce += 1;
        let code = self.effect(of, action);
        let me = &self.people[&of];
        if me.balance < STAR / 1_000 && self.attached(of) == 0 && me.nonce >> 16 != self.height {
            self.burned += me.balance;
            self.people.remove(&of);
        }
        code
    }
}

/// What somebody does; channels are named by their order, since their ids depend on nonces.
#[derive(Clone, Debug)]
enum Deed {
    Act(Action),
    Redeem(usize, u64),
    Close(usize),
}

impl Deed {
    fn action(&self, chain: &crate::protocol::ids::ChainId, channels: &BTreeMap<Digest, Purse>) -> Action {
        let nth = |n: &usize| channels.keys().nth(*n).copied().unwrap_or(Digest::ZERO);
        match self {
            Self::Act(action) => action.clone(),
            Self::Redeem(n, sum) => Action::ChannelRedeem { voucher: Voucher::sign(chain, nth(n), *sum, &key(60)) },
            Self::Close(n) => Action::ChannelClose { channel: nth(n), voucher: None },
        }
    }
}

fn deed() -> impl Strategy<Value = Deed> {
    let sum = prop_oneof![1..50_u64, 1..50 * STAR];
    let open = (0..12_u8, sum.clone()).prop_map(|(payee, deposit)| Action::ChannelOpen {
        payee: account(payee),
        voucher_key: key(60).public(),
        subnet: VISION,
        deposit,
        expiry: 2_000,
    });
    prop_oneof![
        12 => action().prop_map(Deed::Act),
        2 => open.prop_map(Deed::Act),
        2 => (0..3_usize, sum).prop_map(|(n, sum)| Deed::Redeem(n, sum)),
        1 => (0..3_usize).prop_map(Deed::Close),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let amount = prop_oneof![
        1..5_000_000_u64,
        (1..150_u64).prop_map(|n| n * STAR),
        Just(STAR - 1),
        Just(99_999_000_000_u64),
        (99_990_000_000..100_000_000_000_u64)
    ];
    prop_oneof![
        4 => (0..12_u8, amount.clone()).prop_map(|(to, amount)| transfer(to, amount)),
        2 => amount.clone().prop_map(|amount| Action::Stake { amount }),
        2 => (0..6_u8, amount.clone()).prop_map(|(to, amount)| Action::Delegate { validator: account(to), amount }),
        2 => prop_oneof![amount.clone(), Just(ALL)].prop_map(|amount| Action::Unstake { amount }),
        2 => (0..6_u8, prop_oneof![amount.clone(), Just(ALL)])
            .prop_map(|(from, amount)| Action::Undelegate { validator: account(from), amount }),
        2 => (0..6_u8, 0..6_u8, prop_oneof![amount, Just(ALL)])
            .prop_map(|(from, to, amount)| Action::Redelegate { from: account(from), to: account(to), amount }),
        1 => Just(Action::Claim),
        2 => (0..1_u8).prop_map(|_| register(0, VISION, Role::Miner).1),
        1 => (0..4_u64).prop_map(|place| Action::Unqueue { subnet: VISION, place }),
        2 => (0..8_u32).prop_map(|id| Action::Leave { subnet: VISION, member: MemberId(id) }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn t6_the_ledger_is_the_naive_one(heights in prop::collection::vec(
        prop::collection::vec((0..12_u8, deed()), 0..6), 1..30,
    )) {
        let mut genesis = genesis();
        genesis.parameters.emission_base = 0;
        let mut world = World::of(&genesis.seal().unwrap().1);
        let mut model = Model { term: world.state.parameters().term_heights, ..Model::default() };
        for of in 0..ACCOUNTS {
            let pools = if of < 4 { BTreeMap::from([(of, 10 * STAR)]) } else { BTreeMap::new() };
            model.people.insert(of, Person { balance: 100 * STAR, pools, ..Person::default() });
        }
        for deeds in heights {
            model.scheduled();
            let (mut body, mut want, mut fees) = (Vec::new(), Vec::new(), 0);
            for (of, deed) in deeds {
                let action = deed.action(&world.state.chain_id(), &model.channels);
                let Some(person) = model.people.get(&of) else { continue };
                let nonce = person.nonce;
                let mut transaction = world.transaction(of, action.clone(), 0);
                transaction.nonce = nonce;
                if person.balance < transaction.fee {
                    continue;
                }
                fees += transaction.fee;
                want.push(model.include(of, transaction.fee, &action));
                body.push(world.sign(of, transaction).encode());
            }
            model.burned += fees;
            let executed = super::super::apply::execute(&world.state, &world.context(), &body).unwrap();
            world.take(&executed);
            let got: Vec<Code> = executed.receipts.iter().map(|receipt| receipt.code).collect();
            prop_assert_eq!(got, want);
            let state = &world.state;
            prop_assert_eq!(state.supply().burned, model.burned);
            prop_assert_eq!(state.range::<Account>(..).count(), model.people.len());
            for (of, person) in &model.people {
                let found = state.account(&account(*of)).unwrap();
                prop_assert_eq!((found.balance, found.nonce), (person.balance, person.nonce));
                prop_assert_eq!(state.stake(&account(*of)), model.pool(*of));
                for pool in 0..12 {
                    let want = person.pools.get(&pool).copied().unwrap_or(0);
                    prop_assert_eq!(state.worth(&account(*of), &account(pool)), want);
                }
                prop_assert_eq!(found.attached as usize, model.attached(*of));
                let seats: Vec<u32> = state.member_of(VISION, Role::Miner, &account(*of)).iter().map(|m| m.0).collect();
                prop_assert_eq!(&seats, &person.seats);
            }
            prop_assert_eq!(state.subnet(VISION).unwrap().fee_pot, model.pot);
            let open: Vec<_> = state.range::<Channel>(..).map(|(id, of_it)| (*id, of_it.deposit, of_it.paid)).collect();
            let want: Vec<_> = model.channels.iter().map(|(id, of_it)| (*id, of_it.deposit, of_it.paid)).collect();
            prop_assert_eq!(open, want);
            let due: Vec<_> = state.range::<Due>(..).map(|(key, due)| (*key, (due.account, due.amount))).collect();
            let want: Vec<_> = model.due.iter().map(|(key, due)| (*key, (account(due.0), due.1))).collect();
            prop_assert_eq!(due, want);
        }
    }
}
