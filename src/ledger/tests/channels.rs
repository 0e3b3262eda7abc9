//! Channels (E10, L17) and fees (E11).

use super::super::apply::{PAID_UNITS_MAX, execute};
use super::super::receipt::Code;
use super::super::rows::Channel;
use super::*;
use crate::protocol::channel::{Voucher, channel_id};

fn codes(world: &mut World, actions: &[(u8, Action)]) -> Vec<Code> {
    world.step(actions).receipts.iter().map(|receipt| receipt.code).collect()
}

fn open_by(of: u8, payee: u8, deposit: u64, expiry: u64) -> (u8, Action) {
    let (payee, voucher_key) = (account(payee), key(of + 50).public());
    (of, Action::ChannelOpen { payee, voucher_key, subnet: VISION, deposit, expiry })
}

fn voucher(world: &World, of: u8, channel: Digest, cumulative: u64) -> Voucher {
    Voucher::sign(&world.state.chain_id(), channel, cumulative, &key(of + 50))
}

/// A channel of 50 STAR from account 5 to account 6, ending 700 heights later.
fn opened() -> (World, Digest) {
    let mut world = World::new();
    let nonce = world.state.account(&account(5)).unwrap().nonce;
    assert_eq!(codes(&mut world, &[open_by(5, 6, 50 * STAR, 701)]), [Code::Applied]);
    (world, channel_id(&account(5), &account(6), nonce))
}

#[test]
fn e10_a_voucher_is_split_between_burn_validators_and_miner() {
    let (mut world, id) = opened();
    let before = (world.balance(6), world.state.supply().burned, world.state.subnet(VISION).unwrap().clone());
    let redeem = |voucher| (6, Action::ChannelRedeem { voucher });
    let first = voucher(&world, 5, id, 10 * STAR + 1);
    let fee = world.transaction(6, redeem(first).1, 0).fee;
    assert_eq!(codes(&mut world, &[redeem(first), redeem(first)]), [Code::Applied, Code::VoucherSum]);
    let subnet = world.state.subnet(VISION).unwrap();
    // Burned: rounded up; validators: rounded down; the miner has the rest.
    assert_eq!(subnet.burned_fees - before.2.burned_fees, STAR + 1);
    assert_eq!(subnet.fee_pot - before.2.fee_pot, STAR);
    assert_eq!(world.balance(6), before.0 + 8 * STAR - 2 * fee);
    assert_eq!(world.state.supply().burned, before.1 + STAR + 1 + 2 * fee);
    // Only the difference counts, only this key's word, only up to the deposit.
    let forged =
        Voucher { signature: voucher(&world, 6, id, 20 * STAR).signature, ..voucher(&world, 5, id, 20 * STAR) };
    let tries = [
        redeem(forged),
        redeem(voucher(&world, 5, id, 50 * STAR + 1)),
        (7, redeem(first).1),
        redeem(voucher(&world, 5, Digest::ZERO, 20 * STAR)),
    ];
    let want = [Code::BadVoucher, Code::VoucherSum, Code::NotYours, Code::UnknownChannel];
    assert_eq!(codes(&mut world, &tries), want);
    let again = voucher(&world, 5, id, 20 * STAR);
    assert_eq!(codes(&mut world, &[redeem(again)]), [Code::Applied]);
    assert_eq!(world.state.get::<Channel>(&id).unwrap().paid, 20 * STAR);
}

#[test]
fn l17_the_payee_settles_at_once_and_the_payer_waits_a_term() {
    let (mut world, id) = opened();
    let before = world.balance(5);
    let close = |of: u8, voucher| (of, Action::ChannelClose { channel: id, voucher });
    let fee = world.transaction(5, close(5, None).1, 0).fee;
    let top_up = (5, Action::ChannelTopUp { channel: id, amount: STAR });
    let top_up_fee = world.transaction(5, top_up.1.clone(), 0).fee;
    let shown = voucher(&world, 5, id, 30 * STAR);
    assert_eq!(
        codes(&mut world, &[(7, Action::ChannelChallenge { voucher: shown }), (6, top_up.1.clone()), close(7, None)]),
        [Code::ChannelOpen, Code::NotYours, Code::NotYours]
    );
    assert_eq!(
        codes(&mut world, &[top_up.clone(), close(5, None), top_up, close(5, None)]),
        [Code::Applied, Code::Applied, Code::ChannelClosing, Code::ChannelClosing]
    );
    let ends = world.state.height() + world.state.parameters().term_heights;
    assert_eq!(world.state.get::<Channel>(&id).unwrap().ends, ends);
    // Anybody shows a later voucher; the payee has it.
    let payee = world.balance(6);
    assert_eq!(codes(&mut world, &[(7, Action::ChannelChallenge { voucher: shown })]), [Code::Applied]);
    assert_eq!(world.balance(6) - payee, 24 * STAR);
    world.run_to(ends - 1);
    assert!(world.state.get::<Channel>(&id).is_some());
    world.run_to(ends);
    assert!(world.state.get::<Channel>(&id).is_none());
    assert_eq!(world.balance(5), before + 20 * STAR - 2 * top_up_fee - 2 * fee);
    assert_eq!([5, 6].map(|of| world.state.account(&account(of)).unwrap().attached), [0, 0]);
    // The payee's close, with its last voucher, ends it in one step.
    let (mut world, id) = opened();
    let last = voucher(&world, 5, id, 50 * STAR);
    assert_eq!(codes(&mut world, &[(6, Action::ChannelClose { channel: id, voucher: Some(last) })]), [Code::Applied]);
    assert!(world.state.get::<Channel>(&id).is_none() && world.state.channels(&account(5)).is_empty());
}

#[test]
fn l17_a_channel_ends_by_itself_and_has_bounds() {
    let mut world = World::new();
    let mut elsewhere = open_by(5, 6, STAR, 601);
    if let Action::ChannelOpen { subnet, .. } = &mut elsewhere.1 {
        *subnet = SubnetId(9);
    }
    let tries = [
        open_by(5, 6, STAR, 600),
        open_by(5, 6, STAR, 2_600_002),
        open_by(5, 5, STAR, 601),
        open_by(5, 30, STAR, 601),
        open_by(5, 6, 200 * STAR, 601),
        elsewhere,
        open_by(5, 6, STAR, 601),
    ];
    let want = [
        Code::BadExpiry,
        Code::BadExpiry,
        Code::BadPayee,
        Code::BadPayee,
        Code::BalanceTooLow,
        Code::UnknownSubnet,
        Code::Applied,
    ];
    assert_eq!(codes(&mut world, &tries), want);
    let before = world.balance(5);
    world.run_to(601);
    assert_eq!(world.balance(5), before + STAR);
    let many: Vec<_> = (0..257).map(|_| open_by(5, 6, STAR / 10, 1_300)).collect();
    let codes = codes(&mut world, &many);
    assert_eq!((codes[255], codes[256]), (Code::Applied, Code::TooManyChannels));
    // 128 of them end at their height, 128 at the next.
    world.run_to(1_300);
    assert_eq!(world.state.channels(&account(5)).len(), 128);
    world.run_to(1_301);
    assert_eq!(world.state.channels(&account(5)).len(), 0);
}

#[test]
fn e11_the_base_is_burned_the_tip_is_the_proposers_and_full_bodies_cost_more() {
    let mut world = World::new();
    let minimum = world.transaction(5, transfer(6, STAR), 0).fee;
    let (burned, proposer) = (world.state.supply().burned, world.balance(0));
    let mut generous = world.transaction(5, transfer(6, STAR), 0);
    generous.fee += 777;
    let body = vec![world.sign(5, generous).encode()];
    let executed = execute(&world.state, &world.context(), &body).unwrap();
    world.take(&executed);
    assert_eq!(world.state.supply().burned - burned, minimum);
    assert_eq!(world.balance(0) - proposer, 777);
    let base = world.state.base_fees();
    assert_eq!(base, (10, 100), "a nearly empty body lowers nothing below the least");
    // Bodies full of units raise the price of a unit by an eighth each, and not that of a byte.
    for _ in 0..4 {
        let count = PAID_UNITS_MAX / 10;
        let body: Vec<_> = (0..count).map(|i| (u8::try_from(i % 8).unwrap(), transfer(1, 1))).collect();
        world.step(&body);
    }
    let (byte, unit) = world.state.base_fees();
    assert_eq!((byte >= 10, unit), (true, 100 + 12 + 14 + 15 + 17));
    let dearer = world.transaction(5, transfer(6, STAR), 0).fee;
    assert!(dearer > minimum + 500, "{dearer}");
    world.run_to(40);
    assert_eq!(world.state.base_fees(), base);
}
