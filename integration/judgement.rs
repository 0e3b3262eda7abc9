//! Judging the judges in a world: logs that replay, logs that were tampered with, validators that cheat, crash, or hide.

use starling::actors::query_dispatcher::Behaviour;
use starling::actors::scorer::Conduct;
use starling::ledger::economy::rows::{Attested, Standing};
use starling::ledger::judging::LogChallenge;
use starling::ledger::rows::{Commit, Member};
use starling::ml::task::MinerSpec;
use starling::net::memory::Weather;
use starling::protocol::ids::{Epoch, MemberId};
use starling::protocol::report::ReplayRow;
use starling::protocol::score_log::ScoreLog;
use starling::protocol::transaction::{Action, Role};
use starling::protocol::units::MOTES_PER_STAR;
use starling::store::kv::{Kv, Table, Write};

use super::world::{Plan, VISION, World, run};

/// Everybody in a seat, a good miner and a lesser one.
async fn settled(world: &World, validators: usize) {
    world.start_all();
    world.reach(&(0..validators).collect::<Vec<_>>(), 3, 60).await;
    for of in 0..validators {
        world.register(of, Role::Validator).await;
    }
    // Two that differ, so that rows have more in them than one name.
    for (of, place) in [(validators, 0), (validators + 1, 2)] {
        world.register(of, Role::Miner).await;
        world.mine(of, Behaviour::Honest, MinerSpec::graded("vision", place, 3)).await;
    }
}

async fn forward(world: &World, heights: u64) {
    let tip = world.height(0).await;
    world.reach(&[0], tip + heights, heights * 4).await;
}

async fn seat(world: &World, of: usize) -> (MemberId, Member) {
    let view = world.view(0).await;
    let id = view.state.member_of(VISION, Role::Validator, &world.account(of)).expect("a seat");
    (id, view.state.member(VISION, id).expect("a member").clone())
}

/// The last epoch whose reveals are over.
async fn revealed(world: &World) -> Epoch {
    let view = world.view(0).await;
    let subnet = view.state.subnet(VISION).expect("a subnet");
    subnet.epoch - subnet.rules.conceal - u64::from(subnet.settle_at.is_some())
}

/// What a citizen's node finds when it does the sums again.
async fn replay(world: &World, of: usize, epoch: Epoch) -> Vec<ReplayRow> {
    world.asks(of).replay_epoch(VISION, epoch, None).await.expect("a report").rows
}

/// At a node that kept every epoch: what each miner was paid is the sum of what each validator's row gave it, to the mote,
/// and the logs say what it answered (E22).
async fn explained(world: &World, of: usize) {
    let view = world.view(of).await;
    let miners: Vec<MemberId> = view.state.members(VISION).filter(|m| m.1.role == Role::Miner).map(|m| m.0).collect();
    let mut pots = Vec::new();
    for member in miners {
        let why = world.asks(of).why_paid(VISION, member, None, true).await.expect("a reason");
        assert!(why.ok && why.amount.0 > 0, "{why:?}");
        assert_eq!(why.rows.iter().map(|row| row.part.0).sum::<u64>(), why.paid.0, "{why:?}");
        assert_eq!((why.rows.len(), why.seen.len()), (4, 4), "{why:?}");
        assert!(why.seen.iter().all(|row| row.problem.is_empty() && row.asked > 0 && row.answered > 0), "{why:?}");
        pots.push((why.epoch, why.pot, why.amount.0));
    }
    let (epoch, pot, _) = pots[0];
    assert!(pots.iter().all(|of| (of.0, of.1) == (epoch, pot)));
    assert_eq!(pots.iter().map(|of| of.2).sum::<u64>(), pot.0, "the miners' parts are the pot");
    assert!(world.asks(of).why_paid(VISION, MemberId(0), Some(epoch), false).await.is_err(), "a validator is no miner");
}

#[test]
fn d12_an_honest_row_replays_anywhere_and_a_tampered_log_is_named() {
    let plan = Plan { seed: 41, validators: 4, others: 2, weather: Weather::CLEAR };
    run(&plan, |world| async move {
        settled(&world, 4).await;
        forward(&world, 45).await;
        let epoch = revealed(&world).await;
        // Asked at a node that scores nobody, so that every log comes over the network.
        let rows = replay(&world, 4, epoch).await;
        assert_eq!(rows.len(), 4, "{rows:?}");
        for row in &rows {
            assert!(row.ok, "{row:?}");
            assert!(row.judged > 0 && row.judged == row.entries && row.chained, "{row:?}");
        }
        explained(&world, 4).await;
        let (cheat, _) = seat(&world, 2).await;
        let key = [&VISION.0.to_be_bytes()[..], &epoch.to_be_bytes(), &[1]].concat();
        let bytes = world.store(2).get(Table::Logs, &key).expect("rows").expect("a log");
        let mut log = ScoreLog::decode(&bytes).expect("a log");
        log.entries[0].score = log.entries[0].score.wrapping_add(1);
        world.store(2).commit(&[Write::put(Table::Logs, key, log.encode())]).expect("a write");
        let rows = replay(&world, 4, epoch).await;
        for row in &rows {
            assert_eq!(row.ok, row.validator != cheat, "{row:?}");
        }
        let named = rows.iter().find(|row| !row.ok).expect("one");
        assert!(named.difference.contains("leaves"), "{}", named.difference);
        assert!(world.asks(4).replay_epoch(VISION, epoch + 50, None).await.is_err(), "nobody revealed that yet");
        world.check().await;
    });
}

#[test]
fn d04_a_validator_that_hides_or_deals_earns_less_and_a_copy_does_not_replay() {
    let plan = Plan { seed: 42, validators: 6, others: 2, weather: Weather::CLEAR };
    run(&plan, |world| async move {
        let (copier, hider, dealer) = (3, 4, 5);
        world.behave(copier, Conduct::Copier);
        world.behave(hider, Conduct::NonRevealer);
        world.behave(dealer, Conduct::SelfDealer { favours: vec![world.account(7)] });
        settled(&world, 6).await;
        forward(&world, 70).await;
        let mut honest = 0;
        for of in 0..3 {
            honest += seat(&world, of).await.1.earned / 3;
        }
        assert!(honest > 0, "honest validators earn nothing");
        let (_, hides) = seat(&world, hider).await;
        assert!(hides.missed >= 3, "missed {}", hides.missed);
        assert_eq!((hides.earned, hides.last_reveal), (0, None));
        let (_, keeps) = seat(&world, 0).await;
        assert!(hides.bond < keeps.bond, "its bond does not melt: {}", hides.bond);
        let (dealer_id, deals) = seat(&world, dealer).await;
        assert!(deals.earned < honest / 2, "the self-dealer earned {}, honest ones {honest}", deals.earned);
        let (copier_id, _) = seat(&world, copier).await;
        let rows = replay(&world, 0, revealed(&world).await).await;
        for row in &rows {
            let honest = row.validator != copier_id && row.validator != dealer_id;
            assert_eq!(row.ok, honest, "{row:?}");
        }
        assert!(
            rows.iter().any(|row| row.validator == copier_id && row.difference.contains("the row that was revealed"))
        );
        world.check().await;
    });
}

/// M16: who hands on others' answers is in every log, and shares with them what one would have.
#[test]
fn m16_a_relay_is_seen_and_shares() {
    let plan = Plan { seed: 47, validators: 4, others: 3, weather: Weather::CLEAR };
    run(&plan, |world| async move {
        let (good, lesser, relay) = (4, 5, 6);
        settled(&world, 4).await;
        world.register(relay, Role::Miner).await;
        world.mine(relay, Behaviour::Relay, MinerSpec::graded("vision", 0, 3)).await;
        forward(&world, 60).await;
        let view = world.view(0).await;
        let member = |of: usize| {
            let id = view.state.member_of(VISION, Role::Miner, &world.account(of)).expect("a seat");
            (id, view.state.member(VISION, id).expect("a member").incentive)
        };
        let ((_, best), (_, second), (id, handed)) = (member(good), member(lesser), member(relay));
        assert!(best > 0 && second > 0, "honest miners have {best} and {second}");
        // Nobody can tell who copies whom, so the two share; at most what it feeds on is left for the relay.
        assert!(handed <= best + best / 8, "the relay has {handed}, the best {best}");
        let rows = replay(&world, 4, revealed(&world).await).await;
        for row in &rows {
            assert!(row.ok, "{row:?}");
            let echo = row.echoes.iter().find(|echo| echo.member == id).expect("the relay echoes");
            assert!(echo.shared > 0 && echo.shared == echo.answers && !echo.with.is_empty(), "{echo:?}");
        }
        world.check().await;
    });
}

#[test]
fn d02_a_validator_that_crashes_after_its_commit_opens_it_all_the_same() {
    let plan = Plan { seed: 43, validators: 4, others: 2, weather: Weather::CLEAR };
    run(&plan, |world| async move {
        settled(&world, 4).await;
        forward(&world, 22).await;
        let (member, _) = seat(&world, 1).await;
        let epoch = loop {
            let view = world.view(0).await;
            let epoch = view.state.subnet(VISION).expect("a subnet").epoch;
            if view.state.get::<Commit>(&(VISION, epoch, member)).is_some() {
                break epoch;
            }
            world.pass(300).await;
        };
        world.crash(1);
        world.pass(1_500).await;
        world.start(1);
        forward(&world, 14).await;
        let (_, row) = seat(&world, 1).await;
        assert_eq!(row.missed, 0, "the commit of epoch {epoch} was not opened");
        let rows = replay(&world, 0, epoch).await;
        assert!(rows.iter().any(|row| row.validator == member && row.ok), "{rows:?}");
        world.check().await;
    });
}

#[test]
fn d14_a_challenge_is_answered_by_itself_and_its_deposit_is_the_validators() {
    let plan = Plan { seed: 44, validators: 4, others: 2, weather: Weather::CLEAR };
    run(&plan, |world| async move {
        settled(&world, 4).await;
        forward(&world, 30).await;
        let (member, before) = seat(&world, 1).await;
        let epoch = revealed(&world).await;
        for entry in [0, 1] {
            let id = world.submit(4, Action::LogChallenge { subnet: VISION, epoch, member, entry }).await;
            world.finalised(0, id, 30).await;
        }
        forward(&world, 8).await;
        let view = world.view(0).await;
        assert_eq!(view.state.range::<LogChallenge>(..).count(), 0, "challenges are left open");
        let (_, after) = seat(&world, 1).await;
        assert_eq!(after.bond, before.bond, "an answered challenge costs nothing");
        assert_eq!(view.state.seat(VISION, member).accountable_from, 0);
        world.check().await;
    });
}

#[test]
fn d04_a_validator_that_is_late_for_a_while_keeps_its_seat_and_earns_again() {
    let plan = Plan { seed: 45, validators: 4, others: 2, weather: Weather::CLEAR };
    run(&plan, |world| async move {
        settled(&world, 4).await;
        forward(&world, 60).await;
        let (_, before) = seat(&world, 1).await;
        assert_eq!(before.missed, 0, "nobody is late yet");
        // What it says takes longer than a reveal window.
        world.hub.lag(world.node_id(1), 6_000);
        forward(&world, 200).await;
        let (member, late) = seat(&world, 1).await;
        assert!(late.missed >= 1, "it was not late at all");
        assert!(late.missed <= 4, "it went on sealing what it could not open: {} misses", late.missed);
        let view = world.view(0).await;
        assert!(!view.state.seat(VISION, member).suspended, "it lost its seat");
        assert!(late.bond > before.bond / 2, "its bond melts: {} of {}", late.bond, before.bond);
        world.hub.lag(world.node_id(1), 0);
        forward(&world, 180).await;
        let (_, after) = seat(&world, 1).await;
        assert!(after.last_reveal > late.last_reveal, "it never came back");
        assert!(after.earned > late.earned, "it earns nothing any more");
        assert!(after.missed <= late.missed + 1, "{} misses", after.missed);
        world.check().await;
    });
}

#[test]
fn d04_a_bond_below_its_least_is_topped_up_within_its_allowance() {
    let plan = Plan { seed: 46, validators: 5, others: 2, weather: Weather::CLEAR };
    run(&plan, |world| async move {
        let (kept, lost) = (3, 4);
        for of in [kept, lost] {
            world.behave(of, Conduct::NonRevealer);
        }
        world.allow_top_up(kept, 5 * MOTES_PER_STAR);
        settled(&world, 5).await;
        let (_, before) = seat(&world, kept).await;
        forward(&world, 110).await;
        let view = world.view(0).await;
        let least = view.state.parameters().seat_bond_min;
        let ((kept_id, keeps), (lost_id, loses)) = (seat(&world, kept).await, seat(&world, lost).await);
        assert!(before.bond >= least && keeps.missed > 6, "{} misses", keeps.missed);
        assert!(loses.bond < least && view.state.seat(VISION, lost_id).suspended, "bond {}", loses.bond);
        assert!(loses.missed < keeps.missed, "a suspended seat seals nothing");
        let duties = world.asks(kept).validator_duties(None).await.expect("duties");
        let row = duties.rows.first().expect("a seat");
        assert!(row.topped_up.0 > 0 && row.topped_up.0 <= 5 * MOTES_PER_STAR, "{row:?}");
        assert_eq!(row.top_up_limit.0, 5 * MOTES_PER_STAR);
        // Both open their vectors from now on: one has a seat to speak from.
        for of in [kept, lost] {
            world.crash(of);
            world.behave(of, Conduct::Honest);
            world.start(of);
        }
        forward(&world, 60).await;
        let view = world.view(0).await;
        let (_, after) = seat(&world, kept).await;
        assert!(after.earned > 0 && !view.state.seat(VISION, kept_id).suspended, "{after:?}");
        assert_eq!(seat(&world, lost).await.1.earned, 0);
        world.check().await;
    });
}

#[test]
fn e14_a_miner_that_answers_is_attested_and_a_silent_one_waits() {
    let plan = Plan { seed: 47, validators: 4, others: 2, weather: Weather::CLEAR };
    run(&plan, |world| async move {
        world.start_all();
        world.reach(&[0, 1, 2, 3], 3, 60).await;
        for of in 0..4 {
            world.register(of, Role::Validator).await;
        }
        // What is said at random earns no weight, so that nothing but a word of the validators begins its clock.
        let (talks, hides) = (4, 5);
        for (of, behaviour) in [(talks, Behaviour::Random), (hides, Behaviour::Silent)] {
            world.register(of, Role::Miner).await;
            world.mine(of, behaviour, MinerSpec::graded("vision", 0, 3)).await;
        }
        forward(&world, 40).await;
        let view = world.view(0).await;
        let standing = |of: usize| {
            let id = view.state.member_of(VISION, Role::Miner, &world.account(of)).expect("a place");
            (
                view.state.member(VISION, id).expect("a member").clone(),
                view.state.get::<Attested>(&(VISION, id)).cloned(),
            )
        };
        let (seen, open) = standing(talks);
        assert!(!matches!(seen.standing, Standing::Waiting { .. }), "{seen:?}");
        assert_eq!(open, None, "what was said is done with");
        let (unseen, none) = standing(hides);
        assert!(matches!(unseen.standing, Standing::Waiting { .. }), "{unseen:?}");
        assert_eq!(none, None, "nobody says that a silent miner answers");
        for of in 0..4 {
            assert_eq!(seat(&world, of).await.1.missed, 0, "an attestation got in the way of a reveal");
        }
        world.check().await;
    });
}
