//! One rule, one test: what each kind of transaction may do and what stops it.

use super::super::apply::{Inadmissible, build, execute, execute_trusting};
use super::super::receipt::{Code, Refusal};
use super::super::rows::Account;
use super::super::state::State;
use super::super::state::tree_key_of;
use super::*;
use crate::protocol::transaction::{ALL, VALID_HEIGHTS_MAX};

/// Codes of the receipts of one body.
fn codes(world: &mut World, actions: &[(u8, Action)]) -> Vec<Code> {
    world.step(actions).receipts.iter().map(|receipt| receipt.code).collect()
}

/// The refusal of a one-transaction body.
fn refusal(world: &World, of: u8, transaction: Transaction) -> Refusal {
    let body = vec![world.sign(of, transaction).encode()];
    let Err(Inadmissible { index: 0, refusal }) = execute(&world.state, &world.context(), &body) else {
        panic!("admissible")
    };
    refusal
}

#[test]
fn l03_what_is_inadmissible_spoils_the_whole_body() {
    let world = World::new();
    let good = || world.transaction(5, transfer(6, STAR), 0);
    let height = world.state.height() + 1;
    let minimum = good().fee;
    let cases: Vec<(Transaction, Refusal)> = vec![
        (Transaction { valid_until: 0, ..good() }, Refusal::Expired { valid_until: 0, height }),
        (
            Transaction { valid_until: height + VALID_HEIGHTS_MAX + 1, ..good() },
            Refusal::ValidTooLong { valid_until: height + VALID_HEIGHTS_MAX + 1, limit: height + VALID_HEIGHTS_MAX },
        ),
        (Transaction { nonce: 1, ..good() }, Refusal::Nonce { expected: 0, found: 1 }),
        (Transaction { fee: minimum - 1, ..good() }, Refusal::FeeTooLow { found: minimum - 1, minimum }),
        (Transaction { fee: 101 * STAR, ..good() }, Refusal::FeeNotPayable { balance: 100 * STAR, fee: 101 * STAR }),
    ];
    for (transaction, want) in cases {
        assert_eq!(refusal(&world, 5, transaction), want);
    }
    // Signed by another, for another chain, by nobody known.
    assert_eq!(refusal(&world, 6, good()), Refusal::Signature);
    let foreign = good().sign(&crate::protocol::ids::ChainId([9; 32]), &key(5)).unwrap().encode();
    let found = execute(&world.state, &world.context(), &[foreign]).unwrap_err();
    assert_eq!(found, Inadmissible { index: 0, refusal: Refusal::Signature });
    let stranger = Transaction { account: account(40), ..good() };
    assert_eq!(refusal(&world, 40, stranger), Refusal::UnknownAccount);
    // The good one before the bad one is not executed either.
    let mut body = world.body(&[(5, transfer(6, STAR)), (6, transfer(5, STAR))]);
    body[1][0] ^= 1;
    assert_eq!(execute(&world.state, &world.context(), &body).unwrap_err().index, 1);
    // A leader leaves it out and keeps the rest.
    let (kept, executed) = build(&world.state, &world.context(), body.clone());
    assert_eq!((kept, executed.receipts.len()), (vec![body[0].clone()], 1));
}

#[test]
fn l25_known_bytes_are_not_verified_again() {
    let world = World::new();
    let mut forged = world.sign(5, world.transaction(5, transfer(6, STAR), 0)).encode();
    *forged.last_mut().unwrap() ^= 1;
    let body = vec![forged];
    assert!(execute_trusting(&world.state, &world.context(), &body, |_| false).is_err());
    assert!(execute_trusting(&world.state, &world.context(), &body, |bytes| bytes == body[0]).is_ok());
}

#[test]
fn transfers_move_money_and_failed_ones_only_cost() {
    let mut world = World::new();
    let fee = world.transaction(5, transfer(6, STAR), 0).fee;
    let before = world.state.supply().burned;
    let actions = [(5, transfer(6, 30 * STAR)), (6, transfer(7, 1_000 * STAR)), (5, transfer(5, STAR))];
    assert_eq!(codes(&mut world, &actions), [Code::Applied, Code::BalanceTooLow, Code::Applied]);
    assert_eq!((world.balance(5), world.balance(6)), (70 * STAR - 2 * fee, 130 * STAR - fee));
    assert_eq!(world.balance(7), 100 * STAR);
    let burned = 3 * fee;
    assert_eq!(world.state.supply().burned - before, burned);
    assert_eq!(world.balance(0), 100 * STAR, "nobody tipped the proposer");
}

#[test]
fn l10_l11_accounts_open_with_enough_close_when_spent_and_never_replay() {
    let mut world = World::new();
    let min = world.state.parameters().min_account;
    assert_eq!(codes(&mut world, &[(5, transfer(20, min - 1))]), [Code::BelowMinAccount]);
    assert!(world.state.account(&account(20)).is_none());
    world.step(&[(5, transfer(20, STAR))]);
    let opened = world.state.height();
    assert_eq!(world.state.account(&account(20)).unwrap().nonce, opened << 16);
    let first = world.body(&[(20, transfer(5, STAR / 2))]);
    let executed = execute(&world.state, &world.context(), &first).unwrap();
    world.take(&executed);
    // All but dust goes; the account closes, and what was left is burned.
    let fee = world.transaction(20, transfer(5, 1), 0).fee;
    let all = world.balance(20) - fee - 7;
    let burned = world.state.supply().burned;
    assert_eq!(codes(&mut world, &[(20, transfer(5, all))]), [Code::Applied]);
    assert!(world.state.account(&account(20)).is_none());
    assert_eq!(world.state.supply().burned - burned, 7 + fee);
    // Opened again, the old transaction is as stale as ever.
    world.step(&[(5, transfer(20, STAR))]);
    let found = execute(&world.state, &world.context(), &first).unwrap_err();
    assert!(matches!(found.refusal, Refusal::Nonce { .. }));
}

#[test]
fn l11_an_account_never_closes_at_the_height_that_opened_it() {
    let mut world = World::new();
    let opening = world.body(&[(5, transfer(20, STAR))]);
    let chain = world.state.chain_id();
    let mut spend = world.transaction(20, transfer(5, 1), 0);
    spend.nonce = (world.state.height() + 1) << 16;
    let Action::Transfer { amount, .. } = &mut spend.action else { panic!() };
    *amount = STAR - spend.fee;
    let spend = spend.sign(&chain, &key(20)).unwrap().encode();
    let executed = execute(&world.state, &world.context(), &[opening[0].clone(), spend.clone()]).unwrap();
    assert_eq!(executed.state.get::<Account>(&account(20)).unwrap().balance, 0);
    world.take(&executed);
    world.step(&[(5, transfer(20, STAR))]);
    let found = execute(&world.state, &world.context(), &[spend]).unwrap_err();
    assert!(matches!(found.refusal, Refusal::Nonce { .. }));
}

#[test]
fn stake_has_a_minimum_and_comes_back_by_itself() {
    let mut world = World::new();
    assert_eq!(codes(&mut world, &[(5, Action::Stake { amount: STAR - 1 })]), [Code::BelowMinStake]);
    assert_eq!(codes(&mut world, &[(5, Action::Stake { amount: 3 * STAR })]), [Code::Applied]);
    let tries = [
        (5, Action::Unstake { amount: 4 * STAR }),
        (5, Action::Unstake { amount: 3 * STAR - 1 }),
        (6, Action::Unstake { amount: ALL }),
        (5, Action::Unstake { amount: STAR }),
    ];
    let want = [Code::StakeTooLow, Code::BelowMinStake, Code::StakeTooLow, Code::Applied];
    assert_eq!(codes(&mut world, &tries), want);
    let due = world.state.height() + 7;
    world.step(&[(5, Action::Unstake { amount: ALL })]);
    let view = world.state.account_view(&account(5)).unwrap();
    assert_eq!((view.stake, view.unbonding, view.waiting.len()), (0, 3 * STAR, 2));
    world.run_to(due - 1);
    let before = world.balance(5);
    world.run_to(due);
    assert_eq!(world.balance(5), before + STAR);
    world.run_to(due + 1);
    assert_eq!(world.balance(5), before + 3 * STAR);
    assert_eq!(world.state.account(&account(5)).unwrap().attached, 0);
}

#[test]
fn l15_members_get_ids_in_order_lock_a_bond_and_ids_are_never_reused() {
    let mut world = World::new();
    let greedy = (5, Action::Register { subnet: VISION, role: Role::Miner, operator: key(5).public(), max_bond: 1 });
    let nowhere = register(5, SubnetId(9), Role::Miner);
    let tries = [
        greedy,
        nowhere,
        register(5, VISION, Role::Validator),
        register(5, VISION, Role::Miner),
        register(5, VISION, Role::Miner),
        register(0, VISION, Role::Validator),
        register(0, VISION, Role::Miner),
    ];
    let want = [
        Code::BondAboveMax,
        Code::UnknownSubnet,
        Code::ValidatorStake,
        Code::Applied,
        Code::AlreadyMember,
        Code::Applied,
        Code::Applied,
    ];
    assert_eq!(codes(&mut world, &tries), want);
    let ids: Vec<u32> = world.state.members(VISION).map(|(id, _)| id.0).collect();
    assert_eq!(ids, [0, 1, 2]);
    assert!(world.state.member(VISION, MemberId(1)).unwrap().permit, "a free seat is taken at once");
    let leave = |of: u8, id: u32| (of, Action::Leave { subnet: VISION, member: MemberId(id) });
    let tries = [leave(6, 0), leave(5, 7), leave(5, 0), leave(5, 0)];
    let want = [Code::NotYours, Code::UnknownMember, Code::Applied, Code::AlreadyLeaving];
    assert_eq!(codes(&mut world, &tries), want);
    // Out when the next epoch opens (heights 1 modulo 5), the bond back after the exit span.
    world.run_to(6);
    assert!(world.state.member(VISION, MemberId(0)).is_none());
    let before = world.balance(5);
    world.run_to(6 + 5);
    assert_eq!(world.balance(5), before + STAR);
    world.step(&[register(5, VISION, Role::Miner)]);
    assert_eq!(member(5, VISION, Role::Miner, &world.state), MemberId(3));
    let full = [register(1, VISION, Role::Miner), register(2, VISION, Role::Miner), register(3, VISION, Role::Miner)];
    assert_eq!(codes(&mut world, &full), [Code::Applied, Code::Applied, Code::Applied]);
    assert_eq!(world.state.queue(VISION).len(), 1, "the last one waits (E16)");
    assert_eq!(codes(&mut world, &[register(3, VISION, Role::Validator)]), [Code::SubnetFull]);
}

#[test]
fn l05_a_body_has_a_limit() {
    let world = World::new();
    let one = world.body(&[(5, transfer(6, 1))]);
    let many = vec![one[0].clone(); super::super::apply::PAID_COUNT_MAX + super::super::apply::SYSTEM_COUNT_MAX + 1];
    let found = execute(&world.state, &world.context(), &many).unwrap_err();
    assert_eq!((found.index, found.refusal), (4_608, Refusal::BodyFull));
    // 4,096 transfers are exactly the units of a body.
    let mut room = super::super::apply::Room::default();
    let class = crate::protocol::transaction::Class::User;
    assert!((0..4_096).all(|_| room.take(class, 200, 10).is_ok()));
    assert_eq!(room.take(class, 200, 10), Err(Refusal::BodyFull));
    let system = crate::protocol::transaction::Class::System;
    assert!((0..512).all(|_| room.take(system, 200, 8).is_ok()), "class S has its own room");
    assert_eq!(room.take(system, 200, 8), Err(Refusal::BodyFull));
}

#[test]
fn rows_are_proved_present_and_absent() {
    let mut world = World::new();
    let root = world.step(&[(5, transfer(6, STAR))]).state_root;
    for of in 0..12 {
        let (value, proof) = world.state.prove::<Account>(&account(of));
        assert_eq!(value.is_some(), of < ACCOUNTS);
        let tree_key = tree_key_of::<Account>(&account(of));
        let digest = value.as_deref().map(super::super::tree::value_digest);
        assert_eq!(proof.verify(&root, &tree_key, digest.as_ref()), Ok(()));
    }
    assert_eq!(State::load(world.state.rows()).unwrap().root(), root);
}
