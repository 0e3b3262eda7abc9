//! Epochs end to end: commit, reveal, settle, pay.

use super::super::apply::execute;
use super::super::event::Event;
use super::super::receipt::{Code, Refusal};
use super::super::rows::Vector;
use super::*;
use crate::protocol::commitment::canonical_weights;

/// Validators 0 and 1 and miners 5 and 6 in the vision subnet, at height 1 (which opened epoch 1).
fn world() -> World {
    seated(World::new())
}

/// With 20 STAR to mint.
fn seated(mut world: World) -> World {
    world.grant(VISION, 20 * STAR);
    world.step(&[
        register(0, VISION, Role::Validator),
        register(1, VISION, Role::Validator),
        register(5, VISION, Role::Miner),
        register(6, VISION, Role::Miner),
    ]);
    assert_eq!(world.state.subnet(VISION).unwrap().epoch, 1);
    world
}

fn weights(list: &[(u32, u16)]) -> Vec<Weight> {
    canonical_weights(list.iter().map(|(id, weight)| (MemberId(*id), *weight)))
}

fn commit(world: &World, of: u8, epoch: u64, vector: &[Weight]) -> (u8, Action) {
    commit_of(&world.state, VISION, epoch, of, &opening(of, vector))
}

fn reveal(world: &World, of: u8, epoch: u64, vector: &[Weight]) -> (u8, Action) {
    reveal_of(&world.state, VISION, epoch, of, opening(of, vector))
}

/// Why one transaction cannot be in the next body.
fn refused(world: &World, action: (u8, Action)) -> Refusal {
    execute(&world.state, &world.context(), &world.body(&[action])).unwrap_err().refusal
}

#[test]
fn l16_an_epoch_from_commit_to_pay() {
    let mut world = world();
    let vector = weights(&[(2, 65_535), (3, 21_845)]);
    world.step(&[commit(&world, 0, 1, &vector), commit(&world, 1, 1, &vector)]);
    assert_eq!(refused(&world, reveal(&world, 0, 1, &vector)), Refusal::NoEffect(Code::TooEarly));
    assert_eq!(refused(&world, commit(&world, 0, 2, &vector)), Refusal::NoEffect(Code::TooEarly));
    // Epoch 2 opens at height 6, the window is heights 6 and 7, the close begins at 8 and is applied at 11.
    let events = world.run_to(5);
    assert!(events.iter().any(|e| matches!(e, Event::EpochClosed(closed) if closed.epoch == 0)), "{events:?}");
    let opened = world.step(&[reveal(&world, 0, 1, &vector)]).events;
    let Some(Event::EpochOpened(opened)) = opened.first() else { panic!("{opened:?}") };
    assert_eq!((opened.epoch, opened.height, opened.commit_end, opened.reveal_end), (2, 6, 11, 13));
    assert_eq!((opened.previous_reveal_end, opened.members.len()), (8, 4));
    assert_eq!(refused(&world, commit(&world, 0, 1, &vector)), Refusal::NoEffect(Code::TooLate));
    let other = weights(&[(2, 65_535)]);
    assert_eq!(refused(&world, reveal(&world, 1, 1, &other)), Refusal::NoEffect(Code::OtherWeights));
    let said = &world.state.weights_view(VISION).unwrap()[1];
    assert_eq!((said.epoch, &said.weights, &said.commits), (None, &Vec::new(), &vec![(1, false)]));
    world.step(&[reveal(&world, 1, 1, &vector)]);
    let said = &world.state.weights_view(VISION).unwrap()[1];
    assert_eq!((said.epoch, &said.weights, &said.commits), (Some(1), &vector, &vec![(1, true)]));
    // A validator is paid into its pool, a miner is owed (E18, E20); no balance moves.
    let wealth = |world: &World| [0, 1].map(|of| world.state.stake(&account(of))).map(|stake| stake - 10 * STAR);
    let owed = |world: &World| [5, 6].map(|of| world.state.account_view(&account(of)).unwrap().owed);
    let (minted, balances) = (world.state.supply().minted, [0, 1, 5, 6].map(|of| world.balance(of)));
    let events = world.run_to(11);
    let closed = events.iter().find_map(|e| if let Event::EpochClosed(closed) = e { Some(closed) } else { None });
    let closed = closed.expect("a close");
    assert_eq!((closed.epoch, closed.height, closed.missed.len()), (1, 11, 0));
    // Epoch 0 had nobody to pay: its pots were carried (E9).
    assert_eq!((closed.paid_miners, closed.paid_validators), (10 * STAR, 10 * STAR));
    assert_eq!(world.state.supply().minted - minted, 20 * STAR);
    assert_eq!([0, 1, 5, 6].map(|of| world.balance(of)), balances);
    let got = [wealth(&world), owed(&world)].concat();
    assert_eq!(got.iter().sum::<u64>(), 20 * STAR);
    assert_eq!(got[0], got[1], "equal stakes, equal rows, equal dividends");
    assert!(got[2] > 2 * got[3] && got[3] > 0, "{got:?}");
    let row = &world.state.metagraph(VISION).unwrap()[2];
    assert_eq!((row.account, row.earned), (account(5), got[2]));
    assert_eq!(world.state.subnet(VISION).unwrap().minted, 20 * STAR);
    assert!(world.state.supply_view().ok);
    // Claimed, it is in the balance; a second claim has nothing to move.
    let fee = world.transaction(5, Action::Claim, 0).fee;
    let receipts = world.step(&[(5, Action::Claim), (5, Action::Claim)]).receipts;
    assert_eq!([receipts[0].code, receipts[1].code], [Code::Applied, Code::NothingOwed]);
    assert_eq!(world.balance(5), balances[2] + got[2] - 2 * fee);
    // What a member that left has not claimed waits for its account, however long.
    world.step(&[(6, Action::Leave { subnet: VISION, member: MemberId(3) })]);
    world.run_to(30);
    assert!(world.state.member(VISION, MemberId(3)).is_none());
    let owed = world.state.account_view(&account(6)).unwrap().owed;
    assert!(owed >= got[3]);
    let (before, fee) = (world.balance(6), world.transaction(6, Action::Claim, 0).fee);
    world.step(&[(6, Action::Claim)]);
    assert_eq!(world.balance(6), before + owed - fee);
    assert_eq!(world.state.account(&account(6)).unwrap().attached, 0);
}

#[test]
fn d04_who_does_not_reveal_is_not_paid() {
    let mut world = world();
    let vector = weights(&[(2, 10), (3, 10)]);
    world.step(&[commit(&world, 0, 1, &vector), commit(&world, 1, 1, &vector)]);
    world.run_to(5);
    world.step(&[reveal(&world, 0, 1, &vector)]);
    let events = world.run_to(11);
    let closed = events.iter().find_map(|e| match e {
        Event::EpochClosed(closed) if closed.epoch == 1 => Some(closed),
        _ => None,
    });
    assert_eq!(closed.unwrap().missed, [MemberId(1)]);
    let rows = world.state.metagraph(VISION).unwrap();
    assert_eq!((rows[0].earned, rows[1].earned, rows[1].missed), (10 * STAR, 0, 1));
    assert!(rows[1].permit);
    assert_eq!(refused(&world, reveal(&world, 1, 1, &vector)), Refusal::NoEffect(Code::TooLate));
}

#[test]
fn d03_two_commits_are_free_the_last_counts_and_more_are_paid_for() {
    let mut world = world();
    let (first, second) = (weights(&[(2, 1)]), weights(&[(3, 1)]));
    world.step(&[commit(&world, 0, 1, &first), commit(&world, 0, 1, &second)]);
    assert_eq!(refused(&world, commit(&world, 0, 1, &first)), Refusal::NoEffect(Code::CommitsUsedUp));
    let third_state = world.state.clone();
    let third_parent = world.parent;
    world.run_to(6);
    assert_eq!(refused(&world, reveal(&world, 0, 1, &first)), Refusal::NoEffect(Code::OtherWeights));
    assert_eq!(refused(&world, reveal(&world, 1, 1, &first)), Refusal::NoEffect(Code::NoCommit));
    // A further one pays its fee, whatever comes of it, and counts like any other.
    let paid = |world: &World, (of, action): (u8, Action)| {
        let mut transaction = world.transaction(of, action, 0);
        transaction.fee = super::super::apply::full_fee(&world.state, &transaction.action, transaction.signed_bytes());
        vec![world.sign(of, transaction).encode()]
    };
    let mut third = World { state: third_state, parent: third_parent };
    let executed = execute(&third.state, &third.context(), &paid(&third, commit(&third, 0, 1, &first))).unwrap();
    assert_eq!(executed.receipts[0].code, Code::Applied);
    third.take(&executed);
    third.run_to(6);
    let wrong = execute(&third.state, &third.context(), &paid(&third, reveal(&third, 0, 1, &second))).unwrap();
    assert_eq!(wrong.receipts[0].code, Code::OtherWeights);
    assert!(wrong.receipts[0].fee > 0 && wrong.state.member(VISION, MemberId(0)).unwrap().last_reveal.is_none());
    third.step(&[reveal(&third, 0, 1, &first)]);
    world.step(&[reveal(&world, 0, 1, &second)]);
}

#[test]
fn d03_the_same_reveal_again_is_taken_and_changes_nothing() {
    let mut world = world();
    let vector = weights(&[(2, 10), (3, 10)]);
    world.step(&[commit(&world, 0, 1, &vector)]);
    world.run_to(5);
    world.step(&[reveal(&world, 0, 1, &vector)]);
    let before = world.state.get::<Vector>(&(VISION, MemberId(0))).cloned();
    let said = |world: &World| world.state.member(VISION, MemberId(0)).unwrap().last_reveal;
    let height = said(&world);
    world.step(&[reveal(&world, 0, 1, &vector), reveal(&world, 0, 1, &vector)]);
    assert_eq!((world.state.get::<Vector>(&(VISION, MemberId(0))).cloned(), said(&world)), (before, height));
    assert_eq!(refused(&world, reveal(&world, 0, 1, &vector)), Refusal::NoEffect(Code::TooLate));
}

/// Each rule of Y18 by its own code, as the subnet's rules are set.
#[test]
fn y18_each_rule_of_a_row_has_a_code() {
    type Change = fn(&mut SubnetRules);
    type Case = (Change, &'static [(u32, u16)], Code);
    let cases: [Case; 2] = [
        (|rules| rules.min_weights = 2, &[(2, 9)], Code::WeightFew),
        (|rules| rules.weight_limit = 40_000, &[(2, 9), (3, 1)], Code::WeightLimit),
    ];
    for (change, vector, code) in cases {
        let mut genesis = genesis();
        change(&mut genesis.subnets[0].rules);
        let mut world = seated(World::of(&genesis.seal().unwrap().1));
        world.step(&[commit(&world, 0, 1, &weights(vector))]);
        world.run_to(5);
        assert_eq!(refused(&world, reveal(&world, 0, 1, &weights(vector))), Refusal::NoEffect(code));
    }
    let mut genesis = genesis();
    genesis.subnets[0].rules.weights_version = 3;
    let world = seated(World::of(&genesis.seal().unwrap().1));
    assert_eq!(refused(&world, commit(&world, 0, 1, &[])), Refusal::NoEffect(Code::WeightVersion));
    let mut world = self::world();
    let wide = Opening { width: Width::Four, ..opening(0, &[(MemberId(2), 70_000)]) };
    world.step(&[commit_of(&world.state, VISION, 1, 0, &wide)]);
    let (of, Action::WeightsCommit { subnet, epoch, member, version, hash, .. }) = commit(&world, 0, 1, &[]) else {
        panic!("a commit")
    };
    let other = Action::WeightsCommit { subnet, mechanism: 1, epoch, member, version, hash };
    assert_eq!(refused(&world, (of, other)), Refusal::NoEffect(Code::UnknownMechanism));
    world.run_to(5);
    let reveal = reveal_of(&world.state, VISION, 1, 0, wide);
    assert_eq!(refused(&world, reveal), Refusal::NoEffect(Code::WeightWide));
}

/// D1: with a conceal of two, what was said in epoch 1 opens in epoch 3 and no sooner.
#[test]
fn d01_weights_stay_sealed_for_as_many_epochs_as_the_subnet_says() {
    let mut genesis = genesis();
    genesis.subnets[0].rules.conceal = 2;
    let mut world = seated(World::of(&genesis.seal().unwrap().1));
    let vector = weights(&[(2, 10), (3, 10)]);
    world.step(&[commit(&world, 0, 1, &vector)]);
    world.run_to(6);
    assert_eq!(refused(&world, reveal(&world, 0, 1, &vector)), Refusal::NoEffect(Code::TooEarly));
    world.run_to(10);
    world.step(&[reveal(&world, 0, 1, &vector)]);
    let events = world.run_to(16);
    let closed = events.iter().find_map(|e| if let Event::EpochClosed(closed) = e { Some(closed) } else { None });
    let closed = closed.unwrap();
    assert_eq!((closed.epoch, closed.missed.len()), (1, 0));
    assert!(closed.paid_miners > 0);
}

#[test]
fn l16_only_a_permitted_validators_own_account_speaks_and_only_of_miners() {
    let mut world = world();
    let vector = weights(&[(2, 1)]);
    let (_, action) = commit(&world, 0, 1, &vector);
    assert_eq!(refused(&world, (1, action)), Refusal::NoEffect(Code::NotYours));
    let own = Action::WeightsCommit {
        subnet: VISION,
        mechanism: 0,
        epoch: 1,
        member: MemberId(2),
        version: 0,
        hash: Digest::ZERO,
    };
    assert_eq!(refused(&world, (5, own)), Refusal::NoEffect(Code::NoPermit));
    for wrong in [weights(&[(1, 5)]), weights(&[(2, 5), (4, 5)])] {
        let mut world = World { state: world.state.clone(), parent: world.parent };
        world.step(&[commit(&world, 0, 1, &wrong)]);
        world.run_to(6);
        assert_eq!(refused(&world, reveal(&world, 0, 1, &wrong)), Refusal::NoEffect(Code::NoSuchMiner));
    }
    // A miner that has left since is no mistake.
    world.step(&[commit(&world, 0, 1, &vector), (5, Action::Leave { subnet: VISION, member: MemberId(2) })]);
    world.run_to(6);
    assert!(world.state.member(VISION, MemberId(2)).is_none());
    world.step(&[reveal(&world, 0, 1, &vector)]);
}

#[test]
fn d03_a_fee_below_the_full_one_is_refused() {
    let world = world();
    let (of, action) = commit(&world, 0, 1, &weights(&[(2, 1)]));
    let transaction = Transaction { fee: 1, ..world.transaction(of, action, 0) };
    let body = vec![world.sign(of, transaction).encode()];
    let refusal = execute(&world.state, &world.context(), &body).unwrap_err().refusal;
    assert!(matches!(refusal, Refusal::FeeTooLow { found: 1, minimum } if minimum > 1_000), "{refusal:?}");
}

#[test]
fn e03_minting_stops_at_the_cap() {
    let mut genesis = genesis();
    genesis.parameters.supply_cap = 850 * STAR;
    let mut world = World::of(&genesis.seal().unwrap().1);
    world.grant(VISION, 50 * STAR);
    world.step(&[register(0, VISION, Role::Validator), register(5, VISION, Role::Miner)]);
    let vector = weights(&[(1, 9)]);
    for epoch in 1..6 {
        world.step(&[commit(&world, 0, epoch, &vector)]);
        world.run_to(epoch * 5);
        world.step(&[reveal(&world, 0, epoch, &vector)]);
        let at = world.state.height() + 3;
        world.run_to(at);
    }
    let supply = world.state.supply_view();
    assert_eq!((supply.total, supply.ok), (850 * STAR, true));
}

#[test]
fn e09_what_nobody_earned_is_carried_for_sixteen_epochs_and_no_longer() {
    let mut world = World::new();
    world.grant(VISION, 10 * STAR);
    let carried = |world: &World| world.state.subnet_list()[0].carried;
    world.run_to(5);
    assert_eq!(carried(&world), 10 * STAR);
    world.run_to(5 + 5 * 15);
    assert_eq!(carried(&world), 10 * STAR);
    world.run_to(5 + 5 * 16);
    assert_eq!(carried(&world), 0);
    assert_eq!(world.state.supply().minted, 0);
}

/// Six subnets whose epochs fall on the same heights: two are settled at each, nothing is lost (L6).
#[test]
fn l06_at_most_two_subnets_are_settled_at_one_height_and_none_is_skipped() {
    let mut genesis = genesis();
    let rules = genesis.subnets[0].rules.clone();
    genesis.subnets = (0..6)
        .map(|i| GenesisSubnet {
            id: SubnetId(1 + 5 * i),
            name: format!("s{i}"),
            task: "text".to_owned(),
            owner: None,
            rules: rules.clone(),
        })
        .collect();
    genesis.committee.iter_mut().for_each(|voter| voter.support.clear());
    let mut world = World::of(&genesis.seal().unwrap().1);
    let mut closed = std::collections::BTreeMap::new();
    for _ in 0..60 {
        let events = world.step(&[]).events;
        let settled: Vec<_> = events
            .iter()
            .filter_map(|e| if let Event::EpochClosed(closed) = e { Some((closed.subnet, closed.epoch)) } else { None })
            .collect();
        assert!(settled.len() <= 2);
        for (subnet, epoch) in settled {
            let epochs: &mut Vec<u64> = closed.entry(subnet).or_default();
            epochs.push(epoch);
        }
    }
    for epochs in closed.values() {
        assert_eq!(epochs[..10], (0..10).collect::<Vec<u64>>(), "{closed:?}");
    }
    assert_eq!(closed.len(), 6);
}

#[test]
fn l06_at_most_256_payments_at_one_height_and_the_rest_at_the_next() {
    let mut genesis = genesis();
    genesis.accounts[5].balance = 1_000 * STAR;
    let mut world = World::of(&genesis.seal().unwrap().1);
    world.step(&[(5, Action::Stake { amount: 300 * STAR })]);
    let body: Vec<_> = (0..299).map(|_| (5, Action::Unstake { amount: STAR })).collect();
    world.step(&body);
    let due = world.state.height() + 7;
    world.run_to(due - 1);
    let before = world.balance(5);
    world.run_to(due);
    assert_eq!(world.balance(5), before + 256 * STAR);
    world.run_to(due + 1);
    assert_eq!(world.balance(5), before + 299 * STAR);
}
