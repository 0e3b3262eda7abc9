//! The ledger against a naive one: plain maps, the rules said once more, row by row.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::receipt::Code;
use super::super::rows::{Account, Due};
use super::*;
use crate::protocol::transaction::ALL;

#[derive(Clone, Default)]
struct Person {
    balance: u64,
    nonce: u64,
    stake: u64,
    seats: Vec<u32>,
}

/// Everything a body of transfers, stakes and memberships touches; emission is off.
#[derive(Clone, Default)]
struct Model {
    height: u64,
    people: BTreeMap<u8, Person>,
    /// (height, order) to (who, amount).
    due: BTreeMap<(u64, u64), (u8, u64)>,
    seq: u64,
    burned: u64,
    next_member: u32,
    leaving: Vec<(u8, u32)>,
}

impl Model {
    fn attached(&self, of: u8) -> usize {
        let person = &self.people[&of];
        2 * usize::from(person.stake > 0) + person.seats.len() + self.due.values().filter(|due| due.0 == of).count()
    }

    fn promise(&mut self, of: u8, amount: u64, at: u64) {
        self.due.insert((at, self.seq), (of, amount));
        self.seq += 1;
    }

    fn scheduled(&mut self) {
        self.height += 1;
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
            Action::Stake { amount } => {
                let Some(left) = balance.checked_sub(*amount) else { return Code::BalanceTooLow };
                let me = self.people.get_mut(&of).unwrap();
                if me.stake + amount < STAR {
                    return Code::BelowMinStake;
                }
                (me.balance, me.stake) = (left, me.stake + amount);
            }
            Action::Unstake { amount } => {
                let me = self.people.get_mut(&of).unwrap();
                let amount = if *amount == ALL { me.stake } else { *amount };
                if amount == 0 || amount > me.stake {
                    return Code::StakeTooLow;
                }
                if me.stake > amount && me.stake - amount < STAR {
                    return Code::BelowMinStake;
                }
                me.stake -= amount;
                self.promise(of, amount, self.height + 7);
            }
            Action::Register { .. } => {
                if !self.people[&of].seats.is_empty() {
                    return Code::AlreadyMember;
                }
                if self.people.values().map(|person| person.seats.len()).sum::<usize>() >= 5 {
                    return Code::SubnetFull;
                }
                let Some(left) = balance.checked_sub(STAR) else { return Code::BalanceTooLow };
                let id = self.next_member;
                self.next_member += 1;
                let me = self.people.get_mut(&of).unwrap();
                me.balance = left;
                me.seats.push(id);
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
        2 => prop_oneof![amount, Just(ALL)].prop_map(|amount| Action::Unstake { amount }),
        2 => (0..1_u8).prop_map(|_| register(0, VISION, Role::Miner).1),
        2 => (0..8_u32).prop_map(|id| Action::Leave { subnet: VISION, member: MemberId(id) }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn t6_the_ledger_is_the_naive_one(heights in prop::collection::vec(
        prop::collection::vec((0..12_u8, action()), 0..6), 1..30,
    )) {
        let mut genesis = genesis();
        for subnet in &mut genesis.subnets {
            subnet.rules.emission = 0;
        }
        let mut world = World::of(&genesis.seal().unwrap().1);
        let mut model = Model::default();
        for of in 0..ACCOUNTS {
            let stake = if of < 4 { 10 * STAR } else { 0 };
            model.people.insert(of, Person { balance: 100 * STAR, stake, ..Person::default() });
        }
        for actions in heights {
            model.scheduled();
            let (mut body, mut want, mut fees) = (Vec::new(), Vec::new(), 0);
            for (of, action) in actions {
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
                prop_assert_eq!(state.stake(&account(*of)), person.stake);
                prop_assert_eq!(found.attached as usize, model.attached(*of));
                let seats: Vec<u32> = state.member_of(VISION, Role::Miner, &account(*of)).iter().map(|m| m.0).collect();
                prop_assert_eq!(&seats, &person.seats);
            }
            let due: Vec<_> = state.range::<Due>(..).map(|(key, due)| (*key, (due.account, due.amount))).collect();
            let want: Vec<_> = model.due.iter().map(|(key, due)| (*key, (account(due.0), due.1))).collect();
            prop_assert_eq!(due, want);
        }
    }
}
