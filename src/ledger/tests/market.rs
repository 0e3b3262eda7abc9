//! The economy end to end: terms and grants, places and their price, probation, notice, exits.

use super::super::economy::rows::{Purse, Standing};
use super::super::event::Event;
use super::super::receipt::Code;
use super::*;
use crate::protocol::commitment::canonical_weights;

fn codes(world: &mut World, actions: &[(u8, Action)]) -> Vec<Code> {
    world.step(actions).receipts.iter().map(|receipt| receipt.code).collect()
}

fn miner(of: u8, most: u64) -> (u8, Action) {
    (of, Action::Register { subnet: VISION, role: Role::Miner, operator: key(of).public(), max_bond: most })
}

/// One epoch of `tempo` heights in which validator 0 says this of the miners.
fn epoch(world: &mut World, weights: &[(u32, u16)]) -> Vec<Event> {
    if world.state.subnet(VISION).unwrap().next_open == world.state.height() + 1 {
        world.step(&[]);
    }
    let subnet = world.state.subnet(VISION).unwrap().clone();
    let row = canonical_weights(weights.iter().map(|(id, weight)| (MemberId(*id), *weight)));
    let mut events = world.step(&[commit_of(&world.state, VISION, subnet.epoch, 0, &opening(0, &row))]).events;
    events.extend(world.run_to(subnet.next_open));
    events.extend(world.step(&[reveal_of(&world.state, VISION, subnet.epoch, 0, opening(0, &row))]).events);
    let is_settled = |e: &Event| matches!(e, Event::EpochClosed(of) if of.subnet == VISION && of.epoch == subnet.epoch);
    while !events.iter().any(is_settled) {
        assert!(world.state.height() < subnet.next_open + 20, "the epoch is not settled");
        events.extend(world.step(&[]).events);
    }
    events
}

#[test]
fn e04_e05_e07_e08_a_term_pays_the_committee_and_what_validators_support() {
    let mut genesis = genesis();
    genesis.parameters.term_heights = 20;
    genesis.subnets[0].owner = Some(account(7));
    let mut world = World::of(&genesis.seal().unwrap().1);
    world.step(&[
        register(0, VISION, Role::Validator),
        register(5, VISION, Role::Miner),
        register(6, VISION, Role::Miner),
    ]);
    epoch(&mut world, &[(1, 3), (2, 1)]);
    world.run_to(19);
    let before = world.balance(1);
    assert_eq!(world.state.supply().minted, 0, "nothing is granted before a term has ended");
    world.run_to(20);
    // 20 heights of 10 STAR: a tenth for the committee, of which everybody attended.
    assert_eq!(world.balance(1) - before, 5 * STAR);
    let budget = world.state.treasury().budget;
    assert_eq!(
        (budget.committee, budget.usage, budget.support, budget.paid),
        (20 * STAR, 120 * STAR, 60 * STAR, 20 * STAR)
    );
    // Everybody gives half to each subnet; nobody worked in the other. A fifth of the pot at most.
    let purse = world.state.purse(VISION);
    assert_eq!((purse.support_grant, purse.usage_grant, budget.used), (12 * STAR, 0, 0));
    assert_eq!(
        (budget.supported, world.state.purse(TEXT)),
        (12 * STAR, Purse { price: world.state.purse(TEXT).price, ..Purse::default() })
    );
    let (minted, owner) = (world.state.supply().minted, world.balance(7));
    epoch(&mut world, &[(1, 3), (2, 1)]);
    let passed = world.state.height() - 20;
    let due = 12 * STAR / 20 * passed;
    assert_eq!(world.state.supply().minted - minted, due);
    assert_eq!(world.balance(7) - owner, due * 18 / 100);
    let owed = |of: u8| world.state.account_view(&account(of)).unwrap().owed;
    assert_eq!(owed(5) + owed(6), due * 41 / 100);
    assert!(world.state.supply_view().ok);
}

#[test]
fn e05_the_absent_leave_their_part_unminted() {
    use super::super::draft::Draft;
    use super::super::economy::committee;
    let world = World::new();
    let mut draft = Draft::new(&world.state);
    for height in 0..10 {
        let there = if height < 5 { vec![(account(0), 10), (account(1), 30)] } else { vec![(account(0), 10)] };
        committee::attend(&mut draft, &there, 40);
    }
    assert_eq!(committee::pay(&mut draft, 4_000), 1_000 + 1_500);
    assert_eq!(draft.supply().minted, 2_500);
    assert_eq!(draft.account(&account(0)).unwrap().balance, 100 * STAR + 1_000);
    assert!(draft.treasury().attended.is_empty() && draft.treasury().attendable == 0);
    assert_eq!(committee::pay(&mut draft, 4_000), 0, "nobody attended");
    assert_eq!(draft.seal(&world.state).0.check(), Ok(()));
}

#[test]
fn e12_e13_a_place_costs_its_price_a_tenth_is_burned_and_the_rest_comes_back() {
    let mut genesis = genesis();
    let of_subnet = SubnetRules { price_half_life: 10, ..SubnetRules::defaults(NetworkKind::Devnet) };
    genesis.subnets[0].rules = SubnetRules { tempo: 5, reveal_window: 2, ..of_subnet };
    let mut world = World::of(&genesis.seal().unwrap().1);
    let (burned, fee) = (world.state.supply().burned, world.transaction(5, miner(5, STAR).1, 0).fee);
    assert_eq!(codes(&mut world, &[miner(5, STAR), miner(6, STAR)]), [Code::Applied, Code::BondAboveMax]);
    assert_eq!(world.balance(5), 99 * STAR - fee);
    assert_eq!(world.state.member(VISION, MemberId(0)).unwrap().bond, STAR / 10 * 9);
    assert!(world.state.supply().burned - burned >= STAR / 10);
    let price = |world: &World| world.state.subnet_list()[0].price;
    assert!(price(&world) > STAR * 11 / 10 && price(&world) < STAR * 126 / 100);
    world.run_to(12);
    assert_eq!(price(&world), STAR, "it has fallen to the least");
    world.step(&[(5, Action::Leave { subnet: VISION, member: MemberId(0) })]);
    let out = world.state.subnet(VISION).unwrap().next_open;
    world.run_to(out);
    let before = world.balance(5);
    world.run_to(out + 5);
    assert_eq!(world.balance(5) - before, STAR / 10 * 9);
}

/// Validators 0 and 1 and miners 4, 5 and 6 fill the subnet; 7 waits.
fn full() -> World {
    let mut world = World::new();
    world.step(&[register(0, VISION, Role::Validator), register(1, VISION, Role::Validator)]);
    let got = codes(&mut world, &[miner(4, STAR), miner(5, STAR), miner(6, STAR), miner(7, STAR), miner(7, STAR)]);
    assert_eq!(got, [Code::Applied, Code::Applied, Code::Applied, Code::Applied, Code::AlreadyMember]);
    assert_eq!(world.state.queue(VISION).len(), 1);
    world
}

#[test]
fn e14_two_strangers_start_the_clock_and_nobody_twice() {
    let mut world = full();
    let attest = |of: u8, validator: u32, miner: u32| {
        (of, Action::MemberAttest { subnet: VISION, member: MemberId(validator), miner: MemberId(miner) })
    };
    let standing = |world: &World, of: u32| world.state.member(VISION, MemberId(of)).unwrap().standing;
    assert_eq!(standing(&world, 2), Standing::Waiting { heights: 0 });
    world.step(&[attest(0, 0, 2)]);
    let refused = |world: &World, action| {
        super::super::apply::execute(&world.state, &world.context(), &world.body(&[action])).unwrap_err().refusal
    };
    use super::super::receipt::Refusal::NoEffect;
    assert_eq!(refused(&world, attest(0, 0, 2)), NoEffect(Code::NoWitness));
    assert_eq!(refused(&world, attest(1, 0, 2)), NoEffect(Code::NotYours));
    assert_eq!(refused(&world, attest(4, 2, 3)), NoEffect(Code::NoPermit));
    assert!(matches!(standing(&world, 2), Standing::Waiting { .. }));
    world.step(&[attest(1, 1, 2)]);
    assert_eq!(standing(&world, 2), Standing::Probation { epochs: 2 });
    assert_eq!(refused(&world, attest(1, 1, 2)), NoEffect(Code::NotWaiting));
    // A first weight of a stranger does the same for the next.
    epoch(&mut world, &[(3, 1)]);
    assert_eq!(standing(&world, 3), Standing::Probation { epochs: 2 });
    assert!(matches!(standing(&world, 4), Standing::Waiting { .. }));
}

#[test]
fn e14_who_is_never_seen_has_its_bond_back_and_an_outage_stops_the_clock() {
    let mut genesis = genesis();
    genesis.parameters.outage_heights = 12;
    genesis.subnets[0].rules.waiting_heights = 16;
    genesis.subnets[0].rules.min_weights = 0;
    let mut world = World::of(&genesis.seal().unwrap().1);
    world.step(&[register(0, VISION, Role::Validator), miner(4, STAR)]);
    world.run_to(60);
    assert!(world.state.member(VISION, MemberId(1)).is_some(), "nobody was there to see it");
    for _ in 0..5 {
        epoch(&mut world, &[]);
    }
    assert!(world.state.member(VISION, MemberId(1)).is_none());
    world.run_to(world.state.height() + 6);
    assert!(world.balance(4) > 99 * STAR, "the bond came back");
}

#[test]
fn e16_t5_14_the_lowest_leaves_after_two_epochs_of_notice_and_the_queue_moves_up() {
    let mut world = full();
    let mut noticed = std::collections::BTreeMap::new();
    let mut gone = None;
    for _ in 0..12 {
        for (id, row) in world.state.members(VISION) {
            if let Standing::Notice { epoch } = row.standing {
                noticed.insert(id, epoch);
            }
        }
        let events = epoch(&mut world, &[(2, 60_000), (3, 40_000), (4, 10_000)]);
        let left = events.iter().find_map(|e| match e {
            Event::Left { member, .. } => Some(*member),
            _ => None,
        });
        if left.is_some() {
            gone = left;
            break;
        }
    }
    assert_eq!(gone, Some(MemberId(4)), "the lowest");
    let opened = world.state.subnet(VISION).unwrap().epoch;
    assert!(noticed[&MemberId(4)] + 2 <= opened, "{noticed:?} {opened}");
    assert_eq!(noticed.len(), 1);
    assert_eq!(member(7, VISION, Role::Miner, &world.state), MemberId(5), "with a new id");
    assert!(world.state.queue(VISION).is_empty());
    assert_eq!(world.state.account(&account(7)).unwrap().attached, 1);
    assert_eq!(world.state.check(), Ok(()));
}

#[test]
fn e16_a_notice_is_taken_back_when_nobody_waits_any_more() {
    let mut world = full();
    let weights = [(2, 60_000), (3, 40_000), (4, 10_000)];
    let on_notice =
        |world: &World| world.state.members(VISION).any(|(_, row)| matches!(row.standing, Standing::Notice { .. }));
    while !on_notice(&world) {
        epoch(&mut world, &weights);
        assert!(world.state.height() < 60, "nobody was put on notice");
    }
    let list = world.state.ranking(VISION);
    assert_eq!(list[0].member, MemberId(4));
    let codes = codes(
        &mut world,
        &[(6, Action::Unqueue { subnet: VISION, place: 0 }), (7, Action::Unqueue { subnet: VISION, place: 0 })],
    );
    assert_eq!(codes, [Code::NotYours, Code::Applied]);
    epoch(&mut world, &weights);
    epoch(&mut world, &weights);
    assert!(!on_notice(&world));
    assert!(world.state.member(VISION, MemberId(4)).is_some());
    assert!(world.balance(7) > 99 * STAR);
}

#[test]
fn e07_support_is_only_for_stake_and_known_subnets() {
    let mut world = World::new();
    let support =
        |of: u8, ids: &[u32]| (of, Action::Support { parts: ids.iter().map(|id| (SubnetId(*id), 1)).collect() });
    let got = codes(&mut world, &[support(5, &[1]), support(0, &[9]), support(0, &[2]), support(1, &[])]);
    assert_eq!(got, [Code::NoStake, Code::UnknownSubnet, Code::Applied, Code::Applied]);
    let supports = |of: u8| world.state.get::<super::super::economy::rows::Support>(&account(of)).cloned();
    assert_eq!(supports(0).unwrap().parts, [(TEXT, 1)]);
    assert_eq!(supports(1), None);
}

fn create(of: u8, name: &str, most: u64) -> (u8, Action) {
    (of, Action::SubnetCreate { name: name.into(), task: "text".into(), tempo: 5, max_lock: most })
}

/// A network in which subnets cost 10 STAR and up, and end soon.
fn markets(limit: u64) -> World {
    let mut genesis = genesis();
    let of_network = &mut genesis.parameters;
    (of_network.lock_min, of_network.lock_half_life, of_network.subnet_limit) = (10 * STAR, 1_000, limit);
    (of_network.protected_heights, of_network.challenge_heights, of_network.close_heights) = (10, 8, 6);
    World::of(&genesis.seal().unwrap().1)
}

#[test]
fn e17_a_subnet_is_created_for_a_lock_that_doubles_and_comes_back_when_it_closes() {
    let mut world = markets(9);
    let tries = [
        create(5, "vision", 50 * STAR),
        create(5, "third", 9 * STAR),
        create(5, "third", 10 * STAR),
        create(6, "third", 50 * STAR),
        create(6, "fourth", 19 * STAR),
        create(6, "fourth", 20 * STAR),
    ];
    let want = [Code::NameTaken, Code::LockAboveMax, Code::Applied, Code::NameTaken, Code::LockAboveMax, Code::Applied];
    assert_eq!(codes(&mut world, &tries), want);
    let third = SubnetId(3);
    assert_eq!(world.state.subnet(third).unwrap().name, "third");
    let join = (7, Action::Register { subnet: third, role: Role::Miner, operator: key(7).public(), max_bond: STAR });
    assert_eq!(codes(&mut world, std::slice::from_ref(&join)), [Code::Applied]);
    let close = |of: u8| (of, Action::SubnetClose { subnet: third });
    assert_eq!(
        codes(&mut world, &[close(6), close(5), close(5)]),
        [Code::NotOwner, Code::Applied, Code::SubnetClosing]
    );
    let late = (4, Action::Register { subnet: third, role: Role::Miner, operator: key(4).public(), max_bond: STAR });
    assert_eq!(codes(&mut world, &[late]), [Code::SubnetClosing]);
    let (at, before) = (world.state.height(), world.balance(5));
    world.run_to(at + 4);
    assert!(world.state.subnet(third).is_some(), "six heights of notice");
    world.run_to(at + 5);
    assert!(world.state.subnet(third).is_none());
    assert_eq!((world.balance(5) - before, world.state.check()), (10 * STAR, Ok(())));
    world.run_to(at + 12);
    assert!(world.balance(7) > 99 * STAR - STAR / 10 - STAR / 100, "the bond came back");
    assert_eq!([5, 7].map(|of| world.state.account(&account(of)).unwrap().attached), [0, 0]);
    assert_eq!(codes(&mut world, &[create(7, "third", 90 * STAR)]), [Code::NameTaken], "a name is never used again");
}

#[test]
fn e17_rules_change_two_openings_later_and_not_twice_in_two_epochs() {
    let mut world = markets(9);
    world.step(&[create(5, "third", 10 * STAR)]);
    let third = SubnetId(3);
    let update = |of: u8, changes: &[(u16, u64)]| {
        (of, Action::SubnetUpdate { subnet: third, owner: None, changes: changes.to_vec() })
    };
    let tries = [
        update(6, &[(4, 9)]),
        update(5, &[(9, 30_000)]),
        update(5, &[(4, 9_999)]),
        update(5, &[(2, 6)]),
        update(5, &[(4, 9), (40, 500)]),
        update(5, &[(4, 10)]),
    ];
    let want = [Code::NotOwner, Code::RuleTooSoon, Code::BadRule, Code::BadRule, Code::Applied, Code::RuleTooSoon];
    assert_eq!(codes(&mut world, &tries), want);
    let (epoch, slots) =
        (world.state.subnet(third).unwrap().epoch, |world: &World| world.state.subnet(third).unwrap().rules.slots);
    while world.state.subnet(third).unwrap().epoch < epoch + 2 {
        assert_eq!(slots(&world), 256);
        world.step(&[]);
    }
    assert_eq!((slots(&world), world.state.subnet(third).unwrap().rules.owner_bp), (9, 500));
    assert_eq!(codes(&mut world, &[update(5, &[(4, 10)])]), [Code::Applied]);
    let give = (5, Action::SubnetUpdate { subnet: third, owner: Some(account(6)), changes: Vec::new() });
    assert_eq!(
        codes(&mut world, &[give, update(5, &[(5, 9)]), update(6, &[(5, 9)])]),
        [Code::Applied, Code::NotOwner, Code::Applied]
    );
}

#[test]
fn e17_a_challenger_takes_the_lowest_place_after_notice_unless_the_owner_matches() {
    let mut world = markets(3);
    assert_eq!(codes(&mut world, &[create(5, "third", 10 * STAR)]), [Code::Applied]);
    // Full: the next waits. Subnets of the genesis are old enough; the first of equals is given notice.
    assert_eq!(codes(&mut world, &[create(6, "fourth", 30 * STAR)]), [Code::Applied]);
    assert_eq!(world.state.treasury().challengers.len(), 1);
    let charter = |world: &World, id: u32| {
        world.state.get::<super::super::economy::rows::Charter>(&SubnetId(id)).unwrap().clone()
    };
    world.step(&[]);
    assert!(charter(&world, 1).challenged);
    let at = charter(&world, 1).closing.unwrap();
    world.run_to(at);
    assert!(world.state.subnet(VISION).is_none() && charter(&world, 1).closed == Some(at));
    assert_eq!(world.state.subnet(SubnetId(4)).unwrap().name, "fourth");
    // The third subnet's owner matches when it is its turn; then nobody is left, and the challenger gives up.
    let due = charter(&world, 3).protected_until;
    world.run_to(due);
    let lock = world.balance(7);
    assert_eq!(codes(&mut world, &[create(7, "fifth", 90 * STAR)]), [Code::Applied]);
    let lock = lock - world.balance(7);
    world.step(&[]);
    assert!(charter(&world, 2).challenged && !charter(&world, 3).challenged, "it has no owner who could match");
    assert_eq!(codes(&mut world, &[(5, Action::SubnetMatch { subnet: SubnetId(3) })]), [Code::NotChallenged]);
    let before = world.balance(7);
    assert_eq!(
        codes(&mut world, &[(7, Action::SubnetCancel), (7, Action::SubnetCancel)]),
        [Code::Applied, Code::UnknownSubnet]
    );
    assert!(world.balance(7) > before + lock - STAR);
    world.step(&[]);
    assert!(!charter(&world, 2).challenged, "the notice is taken back");
    assert_eq!(world.state.check(), Ok(()));
}

#[test]
fn e17_an_owner_matches_a_challenger_and_is_safe_for_a_while() {
    let mut genesis = genesis();
    let of_network = &mut genesis.parameters;
    (of_network.lock_min, of_network.subnet_limit, of_network.protected_heights) = (10 * STAR, 2, 50);
    genesis.subnets[0].owner = Some(account(5));
    let mut world = World::of(&genesis.seal().unwrap().1);
    world.step(&[create(6, "third", 30 * STAR)]);
    world.step(&[]);
    let matched = (5, Action::SubnetMatch { subnet: VISION });
    assert_eq!(codes(&mut world, &[matched.clone(), matched]), [Code::Applied, Code::NotChallenged]);
    let charter = world.state.get::<super::super::economy::rows::Charter>(&VISION).unwrap().clone();
    assert_eq!((charter.lock, charter.closing), (10 * STAR, None));
    world.step(&[]);
    let next = world.state.get::<super::super::economy::rows::Charter>(&TEXT).unwrap();
    assert!(next.challenged, "the notice moves to the next, the challenger keeps its place");
}
