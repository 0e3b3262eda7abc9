//! Those who judge, end to end: what not opening costs, who is fresh, closes in flight, logs and their challenges.

use std::sync::Arc;

use super::super::apply::execute;
use super::super::close;
use super::super::draft::Draft;
use super::super::economy::rows::Charter;
use super::super::event::Event;
use super::super::incentive::Workspace;
use super::super::incentive::fixed::ONE;
use super::super::judging::{Close, ScoreSource, Seat, Window};
use super::super::receipt::{Code, Refusal};
use super::super::relation;
use super::super::rows::{Commit, Member};
use super::*;
use crate::protocol::commitment::canonical_weights;
use crate::protocol::merkle::{merkle_path, merkle_root};

const TEMPO: u64 = 8;

/// Four validators and three miners, tempo 8, window 2. Epoch e opens at height 8e - 7; its close is looked at at 8e + 3
/// and applied at 8e + 6, or at 8e + 5
/// when nobody ever spoke.
fn world_of(change: impl Fn(&mut Genesis)) -> World {
    let mut genesis = genesis();
    let rules = &mut genesis.subnets[0].rules;
    (rules.tempo, rules.slots) = (TEMPO, 16);
    genesis.parameters.log_challenge_heights = 6;
    change(&mut genesis);
    let mut world = World::of(&genesis.seal().unwrap().1);
    let validators = (0..4).map(|of| register(of, VISION, Role::Validator));
    world.step(&validators.chain((5..8).map(|of| register(of, VISION, Role::Miner))).collect::<Vec<_>>());
    world.grant(VISION, 20 * STAR);
    world
}

fn row(values: &[(u32, u16)]) -> Vec<Weight> {
    canonical_weights(values.iter().map(|(id, weight)| (MemberId(*id), *weight)))
}

/// Commits of an epoch at its last height, and the reveals of those who open at the first of the next; then up to the
/// height at which the close is applied.
fn period(world: &mut World, epoch: u64, rows: &[(u8, Vec<Weight>)], opens: impl Fn(u8) -> bool) -> Vec<Event> {
    world.run_to(TEMPO * epoch - 1);
    let commits: Vec<_> =
        rows.iter().map(|(of, row)| commit_of(&world.state, VISION, epoch, *of, &opening(*of, row))).collect();
    let mut events = world.step(&commits).events;
    let reveals: Vec<_> = rows
        .iter()
        .filter(|(of, _)| opens(*of))
        .map(|(of, row)| reveal_of(&world.state, VISION, epoch, *of, opening(*of, row)))
        .collect();
    events.extend(world.step(&reveals).events);
    events.extend(world.run_to(TEMPO * epoch + 6));
    events
}

fn refused(world: &World, action: (u8, Action)) -> Refusal {
    execute(&world.state, &world.context(), &world.body(&[action])).expect_err("to be refused").refusal
}

fn seat(world: &World, of: u8) -> Seat {
    world.state.seat(VISION, member(of, VISION, Role::Validator, &world.state))
}

fn bond(world: &World, of: u8) -> u64 {
    let id = member(of, VISION, Role::Validator, &world.state);
    world.state.get::<Member>(&(VISION, id)).unwrap().bond
}

/// The price of the option: 1/64, 1/32, … of what is left, and all of it from the seventh miss on.
#[test]
fn d04_each_miss_costs_more_and_the_seventh_all_that_is_left() {
    let mut world = world_of(|genesis| genesis.parameters.seat_bond_min = 0);
    let rows: Vec<_> = (0..4).map(|of| (of, row(&[(4, 9), (5, 5), (6, 1)]))).collect();
    let mut left = STAR;
    for epoch in 1..=8 {
        let burned = world.state.supply().burned;
        let events = period(&mut world, epoch, &rows, |of| of != 3);
        let k = u32::try_from(epoch - 1).unwrap();
        let amount = left >> 6_u32.saturating_sub(k);
        left -= amount;
        let id = member(3, VISION, Role::Validator, &world.state);
        let cut = Event::BondCut { subnet: VISION, epoch, member: id, amount, left };
        assert!(events.contains(&cut), "epoch {epoch}: {events:?}");
        assert_eq!((bond(&world, 3), bond(&world, 0)), (left, STAR));
        assert!(world.state.supply().burned >= burned + amount);
        assert_eq!(world.state.check(), Ok(()));
        let earned = |of| world.state.member(VISION, member(of, VISION, Role::Validator, &world.state)).unwrap().earned;
        assert!(earned(3) == 0 && earned(0) > 0, "no dividend without a reveal");
    }
    assert_eq!((left, seat(&world, 3).misses.count_ones()), (0, 8));
}

#[test]
fn d04_a_bond_below_its_minimum_suspends_from_the_next_opening_until_it_is_topped_up() {
    let mut world = world_of(|genesis| genesis.parameters.seat_bond_min = STAR);
    let rows: Vec<_> = (0..4).map(|of| (of, row(&[(4, 9), (5, 5)]))).collect();
    period(&mut world, 1, &rows, |of| of != 3);
    assert!(bond(&world, 3) < STAR && !seat(&world, 3).suspended, "there is time until the next opening");
    let events = world.run_to(TEMPO + 9);
    let suspended = events.iter().any(|event| matches!(event, Event::Suspended { suspended: true, minimum: STAR, .. }));
    assert!(suspended && seat(&world, 3).suspended);
    let commit = commit_of(&world.state, VISION, 3, 3, &opening(3, &rows[3].1));
    assert_eq!(refused(&world, commit), Refusal::NoEffect(Code::SeatSuspended));
    let id = member(3, VISION, Role::Validator, &world.state);
    let top_up = |amount| (3, Action::ValidatorBond { subnet: VISION, member: id, amount });
    let foreign = (5, Action::ValidatorBond { subnet: VISION, member: id, amount: 1 });
    let low = STAR - bond(&world, 3) - 1;
    let codes: Vec<Code> = world.step(&[top_up(low), foreign]).receipts.iter().map(|receipt| receipt.code).collect();
    assert_eq!(codes, [Code::Applied, Code::NotYours]);
    assert!(seat(&world, 3).suspended, "one mote is missing");
    let events = world.step(&[top_up(1)]).events;
    assert!(events.iter().any(|event| matches!(event, Event::Suspended { suspended: false, .. })), "{events:?}");
    assert!(!seat(&world, 3).suspended && bond(&world, 3) == STAR);
    world.step(&[commit_of(&world.state, VISION, 3, 3, &opening(3, &rows[3].1))]);
}

#[test]
fn d04_a_suspended_seat_has_no_voice() {
    let mut world = world_of(|genesis| genesis.parameters.seat_bond_min = STAR);
    let honest: Vec<_> = (0..4).map(|of| (of, row(&[(4, 9), (5, 5)]))).collect();
    period(&mut world, 1, &honest, |of| of != 3);
    world.run_to(TEMPO + 12);
    let before = world.state.member(VISION, MemberId(3)).unwrap().earned;
    let close = world.state.get::<Close>(&VISION).unwrap();
    let voice = close.voices.iter().find(|voice| voice.member == MemberId(3)).unwrap();
    assert!(!voice.permit && !voice.missed, "{voice:?}");
    world.run_to(TEMPO * 2 + 6);
    assert_eq!(world.state.member(VISION, MemberId(3)).unwrap().earned, before);
}

/// The first miss costs about one mean dividend, as far as a tenth of the own stake goes.
#[test]
fn d04_the_minimum_follows_the_mean_dividend_up_to_a_tenth_of_the_own_stake() {
    let mut world = world_of(|genesis| {
        genesis.parameters.seat_bond_min = 7;
        genesis.parameters.seat_bond_epochs = 64;
    });
    world.grant(VISION, 2_000);
    assert_eq!(world.state.bond_minimum(VISION, MemberId(0)), 7);
    let rows: Vec<_> = (0..4).map(|of| (of, row(&[(4, 9), (5, 5)]))).collect();
    period(&mut world, 1, &rows, |_| true);
    let dividends = seat(&world, 0).dividends;
    assert!(dividends.last().is_some_and(|last| *last > 0), "{dividends:?}");
    let mean = dividends.iter().sum::<u64>() / dividends.len() as u64;
    assert_eq!(world.state.bond_minimum(VISION, MemberId(0)), 64 * mean);
    let mut rich = world_of(|genesis| genesis.parameters.seat_bond_epochs = 64);
    period(&mut rich, 1, &rows, |_| true);
    let own = rich.state.worth(&account(0), &account(0));
    assert_eq!(rich.state.bond_minimum(VISION, MemberId(0)), own / 10);
}

/// D5: a commit keeps nobody alive.
#[test]
fn d05_only_the_reveal_is_activity() {
    let mut world = world_of(|_| ());
    let rows: Vec<_> = (0..4).map(|of| (of, row(&[(4, 9)]))).collect();
    period(&mut world, 1, &rows, |of| of != 3);
    let said = |of: u32| world.state.member(VISION, MemberId(of)).unwrap().last_reveal;
    assert_eq!((said(0), said(3)), (Some(TEMPO + 1), None));
}

#[test]
fn d03_a_window_the_ledger_had_no_room_in_is_made_longer_once() {
    let mut world = world_of(|_| ());
    let rows = row(&[(4, 9)]);
    world.run_to(TEMPO - 1);
    world.step(&[commit_of(&world.state, VISION, 1, 0, &opening(0, &rows))]);
    world.run_to(TEMPO + 2);
    let crowd = |world: &mut World| {
        let mut draft = Draft::new(&world.state);
        draft.chain_mut().weight_room += 2 * 9_000 + 1;
        world.state = draft.seal(&world.state).0;
    };
    crowd(&mut world);
    world.step(&[reveal_of(&world.state, VISION, 1, 0, opening(0, &rows))]);
    assert_eq!(world.state.subnet(VISION).unwrap().settle_at, Some(TEMPO + 5));
    assert!(world.state.get::<Window>(&VISION).unwrap().extended);
    crowd(&mut world);
    world.run_to(TEMPO + 5);
    let close = world.state.get::<Close>(&VISION).expect("extended once only");
    assert_eq!((close.period, close.height, close.apply_at), (1, TEMPO + 5, TEMPO + 8));
    assert!(close.voices.iter().all(|voice| !voice.missed));
}

/// A copier of what is public is at -1, who looks is above 0, and with the gate on the copier is paid less.
#[test]
fn d06_a_copier_of_the_public_consensus_is_at_minus_one_and_the_gate_costs_it() {
    // Pay is small beside stakes, so that nobody comes to more than a quarter of them.
    let mut world = world_of(|genesis| {
        genesis.subnets[0].rules.freshness_gate = 1;
    });
    world.step(&[(4, Action::Stake { amount: 10 * STAR }), register(4, VISION, Role::Validator)]);
    let turns: [[u16; 3]; 4] =
        [[60_000, 20_000, 3_000], [10_000, 50_000, 20_000], [9_000, 30_000, 60_000], [50_000, 9_000, 30_000]];
    let mut copied = row(&[(4, 1), (5, 1), (6, 1)]);
    for epoch in 1..=12 {
        let turn = turns[usize::try_from(epoch % 4).unwrap()];
        let honest =
            |of: u16| row(&[(4, turn[0] + 500 * of), (5, turn[1] + 300 * of), (6, turn[2] + 700 * ((of + 1) % 3))]);
        world.run_to(TEMPO * epoch - 1);
        let of = |id: u32| world.state.member(VISION, MemberId(id)).unwrap().consensus;
        if (4..7).any(|id| of(id) > 0) {
            copied = canonical_weights((4..7).map(|id| (MemberId(id), u16::try_from(of(id) >> 16).unwrap())));
        }
        let mut rows: Vec<_> = [0, 1, 2, 4].map(|v| (v, honest(v.into()))).to_vec();
        rows.push((3, copied.clone()));
        world.grant(VISION, 100_000);
        period(&mut world, epoch, &rows, |_| true);
        let chi = |of: u32| world.state.freshness(VISION, MemberId(of));
        if epoch < 8 {
            assert_eq!(chi(3), None);
        }
    }
    let chi = |of: u32| world.state.freshness(VISION, MemberId(of)).unwrap();
    assert!(chi(3) < -ONE * 99 / 100, "{}", chi(3) as f64 / ONE as f64);
    assert!((0..3).all(|of| chi(of) > ONE / 10), "{:?}", [chi(0), chi(1), chi(2)]);
    let gates: Vec<i64> = {
        world.run_to(TEMPO * 13 + 3);
        world.state.get::<Close>(&VISION).unwrap().voices.iter().map(|voice| voice.gate).collect()
    };
    assert_eq!(gates, [ONE, ONE, ONE, ONE / 4, ONE]);
    let last = |of: u8| *seat(&world, of).dividends.last().unwrap();
    assert!(last(3) * 2 < last(0), "{} {}", last(3), last(0));
}

/// D8: a twentieth of a validator's pool makes a miner its relation, a mote less does not.
#[test]
fn d08_a_miner_with_a_twentieth_of_the_pool_is_related() {
    let world = world_of(|_| ());
    let pairs = |world: &World| relation::pairs(&world.state, VISION, MemberId(u32::MAX));
    assert_eq!(pairs(&world), []);
    // 5.00046 % of a pool of 25 STAR and what comes is 1.3159 STAR.
    let mut world = world;
    world.step(&[(0, Action::Stake { amount: 15 * STAR })]);
    for (amount, want) in [(1_315_500_000, vec![]), (1_316_000_000, vec![(MemberId(0), MemberId(4))])] {
        let mut world = World { state: world.state.clone(), parent: world.parent };
        let executed = world.step(&[(5, Action::Delegate { validator: account(0), amount })]);
        assert_eq!(executed.receipts[0].code, Code::Applied);
        assert_eq!(pairs(&world), want, "{amount}");
    }
    let mut own = World { state: world.state.clone(), parent: world.parent };
    own.step(&[register(1, VISION, Role::Miner)]);
    assert_eq!(pairs(&own), [(MemberId(1), MemberId(7))]);
    assert!(relation::related(&own.state, &account(1), &account(1)));
    assert!(!relation::related(&own.state, &account(1), &account(5)));
}

/// What the owner's own miner would earn is not minted, and nobody else gets it, unless the subnet allows it.
#[test]
fn d08_miners_of_the_subnets_owner_are_not_paid_unless_the_subnet_allows_it() {
    let rows: Vec<_> = (0..4).map(|of| (of, row(&[(4, 9), (5, 9)]))).collect();
    let earned = |allow: u64, owner: Option<u8>| {
        let mut world = world_of(|genesis| {
            let rules = &mut genesis.subnets[0].rules;
            (rules.owner_mining, rules.owner_bp) = (allow, 0);
        });
        let mut draft = Draft::new(&world.state);
        draft.change::<Charter>(&VISION, |charter| charter.owner = owner.map(account));
        world.state = draft.seal(&world.state).0;
        period(&mut world, 1, &rows, |_| true);
        [4, 5].map(|id| world.state.member(VISION, MemberId(id)).unwrap().earned)
    };
    let [first, second] = earned(0, None);
    assert!(first > 0 && second > 0);
    assert_eq!(earned(0, Some(5)), [0, second]);
    assert_eq!(earned(1, Some(5)), [first, second]);
}

/// T8: worked out beside, here and now, or again after a restart at any height of the flight: the same roots.
#[test]
fn t8_a_close_in_flight_comes_to_the_same_however_it_is_worked_out() {
    let mut world = world_of(|_| ());
    let rows: Vec<_> = (0..4).map(|of| (of, row(&[(4, 9), (5, 5 + u16::from(of)), (6, 1)]))).collect();
    period(&mut world, 1, &rows, |_| true);
    world.run_to(TEMPO * 2 - 1);
    let commits: Vec<_> = (0..4).map(|of| commit_of(&world.state, VISION, 2, of, &opening(of, &rows[0].1))).collect();
    world.step(&commits);
    world.step(&(0..4).map(|of| reveal_of(&world.state, VISION, 2, of, opening(of, &rows[0].1))).collect::<Vec<_>>());
    world.run_to(TEMPO * 2 + 3);
    let mut beside = World { state: world.state.clone(), parent: world.parent };
    let closing = beside.state.closing();
    let root = closing.iter().find(|(subnet, _)| *subnet == VISION).expect("a close in flight").1;
    let result = Arc::new(beside.state.close_job(VISION).unwrap().run(&mut Workspace::with_lanes(3)));
    beside.state.hand_in(VISION, Digest::ZERO, Arc::default());
    beside.state.hand_in(VISION, root, Arc::clone(&result));
    let mut roots = Vec::new();
    // Stakes and members change while it is in flight; the close does not see it.
    for height in 0..4_u64 {
        let actions = match height {
            0 => vec![(1, Action::Unstake { amount: 5 * STAR }), register(8, VISION, Role::Miner)],
            1 => vec![(0, transfer(9, STAR)), (6, Action::Leave { subnet: VISION, member: MemberId(5) })],
            _ => Vec::new(),
        };
        let actions: Vec<_> = actions.into_iter().filter(|(of, _)| *of < ACCOUNTS).collect();
        let mut again = World { state: State::load(world.state.rows()).unwrap(), parent: world.parent };
        let want = world.step(&actions).state_root;
        assert_eq!(again.step(&actions).state_root, want, "after a restart, {height}");
        assert_eq!(beside.step(&actions).state_root, want, "beside, {height}");
        roots.push(want);
    }
    assert!(world.state.get::<Close>(&VISION).is_none());
    assert_eq!(world.state.subnet(VISION).unwrap().last_settled, Some(TEMPO * 2 + 6));
    let mut wrong = result.as_ref().clone();
    wrong.columns[0].incentive += 1;
    assert_ne!(&wrong, result.as_ref());
}

/// 1.6: who registers while a close is in flight gets its seat behind it, and who leaves stays until it is applied.
#[test]
fn l06_members_that_come_while_a_close_is_in_flight_queue_behind_it() {
    let mut genesis = genesis();
    (genesis.subnets[0].rules.tempo, genesis.subnets[0].rules.slots, genesis.subnets[0].rules.seats) = (TEMPO, 16, 2);
    let mut world = World::of(&genesis.seal().unwrap().1);
    world.step(&[register(0, VISION, Role::Validator), register(5, VISION, Role::Miner)]);
    world.run_to(TEMPO + 3);
    assert_eq!(world.state.closing().len(), 1);
    world.step(&[register(1, VISION, Role::Validator), register(2, VISION, Role::Validator)]);
    let permit = |world: &World, of: u8| {
        world.state.member(VISION, member(of, VISION, Role::Validator, &world.state)).unwrap().permit
    };
    assert!(!permit(&world, 1) && !permit(&world, 2));
    world.step(&[]);
    assert!(world.state.closing().is_empty());
    assert_eq!((permit(&world, 0), permit(&world, 1), permit(&world, 2)), (true, true, false));
}

/// A log of three leaves, its root, and a reveal that names it.
fn logged(world: &mut World, of: u8) -> (Vec<Vec<u8>>, Digest) {
    let leaves: Vec<Vec<u8>> = (0..3_u8).map(|n| vec![n; 40]).collect();
    let root = merkle_root(leaves.iter().map(Vec::as_slice));
    let opening = Opening { log_root: root, log_len: 3, ..opening(of, &row(&[(4, 9)])) };
    world.run_to(TEMPO - 1);
    world.step(&[commit_of(&world.state, VISION, 1, of, &opening)]);
    world.step(&[reveal_of(&world.state, VISION, 1, of, opening)]);
    (leaves, root)
}

fn challenge(validator: u32, entry: u64) -> Action {
    Action::LogChallenge { subnet: VISION, epoch: 1, member: MemberId(validator), entry }
}

#[test]
fn d11_what_a_row_came_from_is_kept_for_sixteen_periods() {
    let mut world = world_of(|_| ());
    let (_, root) = logged(&mut world, 0);
    let source = |world: &World| world.state.get::<ScoreSource>(&(VISION, 1, MemberId(0))).cloned();
    assert_eq!(source(&world).map(|source| (source.log_root, source.log_len)), Some((root, 3)));
    world.run_to(TEMPO * 17 + 3);
    assert!(source(&world).is_some());
    world.run_to(TEMPO * 18 + 3);
    assert!(source(&world).is_none());
}

#[test]
fn d14_a_challenge_answered_in_time_pays_the_validator() {
    let mut world = world_of(|_| ());
    let (leaves, _) = logged(&mut world, 0);
    let executed = world.step(&[(7, challenge(0, 2)), (7, challenge(0, 3)), (7, challenge(1, 0))]);
    let codes: Vec<Code> = executed.receipts.iter().map(|receipt| receipt.code).collect();
    assert_eq!(codes, [Code::Applied, Code::NoSuchEntry, Code::UnknownLog]);
    let Some(Event::LogChallenged { deadline, number, .. }) = executed.events.last().cloned() else { panic!() };
    assert_eq!((deadline, seat(&world, 0).challenges), (world.state.height() + 6, 1));
    let answer = |leaf: u64, of: u64| {
        let path = merkle_path(leaves.iter().map(Vec::as_slice), of).unwrap();
        Action::LogAnswer { deadline, number, leaf: leaves[usize::try_from(leaf).unwrap()].clone(), path }
    };
    let (before, bond_before) = (world.balance(0), bond(&world, 0));
    let executed =
        world.step(&[(0, answer(1, 1)), (0, answer(1, 2)), (1, answer(2, 2)), (0, answer(2, 2)), (0, answer(2, 2))]);
    let codes: Vec<Code> = executed.receipts.iter().map(|receipt| receipt.code).collect();
    let want = [Code::WrongEntry, Code::WrongEntry, Code::NotYours, Code::Applied, Code::UnknownChallenge];
    assert_eq!(codes, want);
    assert!(world.balance(0) > before + STAR / 2 && bond(&world, 0) == bond_before);
    assert_eq!((seat(&world, 0).challenges, seat(&world, 0).accountable_from), (0, 0));
    assert_eq!(world.state.check(), Ok(()));
}

#[test]
fn d14_a_challenge_without_an_answer_costs_a_part_of_the_bond_and_four_may_be_open() {
    let mut world = world_of(|genesis| genesis.subnets[0].rules.accountable_only = 1);
    logged(&mut world, 0);
    let executed = world.step(&[0, 1, 2, 0, 1].map(|entry| (7, challenge(0, entry))));
    let codes: Vec<Code> = executed.receipts.iter().map(|receipt| receipt.code).collect();
    assert_eq!(codes[3..], [Code::Applied, Code::ChallengesFull]);
    let (before, bond_before) = (world.balance(7), bond(&world, 0));
    let deadline = world.state.height() + 6;
    world.run_to(deadline - 1);
    assert_eq!((world.balance(7), bond(&world, 0)), (before, bond_before));
    let events = world.run_to(deadline);
    let ends = |event: &&Event| matches!(event, Event::LogChallengeEnded { answered: false, .. });
    assert_eq!(events.iter().filter(ends).count(), 4);
    assert_eq!(world.balance(7), before + 4 * STAR);
    let left = (0..4).fold(bond_before, |bond, _| bond - (bond >> 6));
    assert_eq!(bond(&world, 0), left);
    let epoch = world.state.subnet(VISION).unwrap().epoch;
    assert_eq!((seat(&world, 0).challenges, seat(&world, 0).accountable_from), (0, epoch + 16));
    // Where the subnet asks for it, such a row has no voice meanwhile.
    world.run_to(TEMPO * (epoch) + 3);
    let close = world.state.get::<Close>(&VISION).unwrap();
    assert!(!close.voices[0].permit && close.voices[1].permit);
    world.run_to(TEMPO * (epoch + 16) + 3);
    assert!(world.state.get::<Close>(&VISION).unwrap().voices[0].permit);
}

/// D1: where a subnet conceals for less than it did, both periods open at once, and none is lost or forfeited unseen.
#[test]
fn d01_periods_in_the_dark_all_open_when_a_subnet_conceals_for_less() {
    let mut world = world_of(|genesis| genesis.subnets[0].rules.conceal = 2);
    let (old, new) = (row(&[(4, 9)]), row(&[(5, 9)]));
    world.run_to(TEMPO - 1);
    world.step(&[commit_of(&world.state, VISION, 1, 0, &opening(0, &old))]);
    world.run_to(TEMPO * 2 - 1);
    let both = [
        commit_of(&world.state, VISION, 2, 0, &opening(0, &new)),
        commit_of(&world.state, VISION, 2, 1, &opening(1, &new)),
    ];
    world.step(&both);
    // As an owner's change is taken up when an epoch opens.
    let mut draft = Draft::new(&world.state);
    draft.change::<super::super::rows::Subnet>(&VISION, |subnet| subnet.rules.conceal = 1);
    world.state = draft.seal(&world.state).0;
    world.step(&[]);
    let reveal = |epoch, row: &[Weight]| reveal_of(&world.state, VISION, epoch, 0, opening(0, row));
    let reveals = [reveal(2, &new), reveal(1, &old)];
    world.step(&reveals);
    let said = world.state.weights_view(VISION).unwrap();
    assert_eq!((said[0].epoch, &said[0].weights), (Some(2), &new));
    world.run_to(TEMPO * 2 + 3);
    let missed: Vec<bool> =
        world.state.get::<Close>(&VISION).unwrap().voices.iter().map(|voice| voice.missed).collect();
    assert_eq!(missed, [false, true, false, false]);
    assert_eq!(world.state.range::<Commit>(..).count(), 0);
    assert!(close::reveals(&world.state, VISION, world.state.subnet(VISION).unwrap(), 2, TEMPO * 2 + 4).is_err());
}
