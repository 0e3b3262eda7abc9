//! Finality among real nodes: silence, lies, crashes, cuts, bad weather, latecomers.

use starling::ledger::offence::Offence;
use starling::net::memory::Weather;
use starling::protocol::chance::Chance;

use super::world::{Plan, World, run};

fn plan(seed: u64) -> Plan {
    Plan { seed, validators: 4, others: 0, weather: Weather::CLEAR }
}

const ALL: [usize; 4] = [0, 1, 2, 3];

#[test]
fn healthy_nodes_finalise_a_height_a_second() {
    run(&plan(1), |world| async move {
        world.start_all();
        world.reach(&ALL, 30, 45).await;
        for of in ALL {
            let voters = world.peers(of).await.voters;
            assert_eq!(voters.len(), 3, "node {of} knows the nodes of {voters:?}");
        }
        world.check().await;
    });
}

#[test]
fn equal_seeds_give_equal_traces() {
    let trace = |seed| {
        let mut trace = None;
        run(&plan(seed), |world| {
            let trace = &mut trace;
            async move {
                world.start_all();
                world.reach(&ALL, 8, 30).await;
                *trace = Some(world.trace());
            }
        });
        trace.expect("a trace")
    };
    assert_eq!(trace(2), trace(2));
    assert_ne!(trace(2), trace(3));
}

#[test]
fn a_silent_leader_costs_time_and_no_height() {
    run(&plan(4), |world| async move {
        [0, 1, 2].into_iter().for_each(|of| world.start(of));
        world.reach(&[0, 1, 2], 12, 90).await;
        world.check().await;
    });
}

#[test]
fn a_key_that_runs_twice_is_accused_and_nothing_forks() {
    let plan = Plan { others: 1, ..plan(5) };
    run(&plan, |world| async move {
        world.twin(4, 3);
        world.start_all();
        world.reach(&[0, 1, 2], 3, 60).await;
        // What only one copy knows makes its proposals differ from the other's.
        for _ in 0..20 {
            world.mutter(4).await;
            world.pass(1_000).await;
        }
        world.reach(&[0, 1, 2], 25, 200).await;
        world.check().await;
        let mut accused = 0;
        for of in [0, 1, 2] {
            accused += world.standing(of).await.evidence.len();
        }
        assert!(accused > 0, "two copies of one key signed for 25 heights and nobody saw a contradiction");
        // Whoever saw it brings it before the ledger, where it costs the stake of that key (C47).
        let before = world.view(0).await.state.stake(&world.account(3));
        for of in [0, 1, 2] {
            world.accuse(of).await;
        }
        let tip = world.height(0).await;
        world.reach(&[0, 1, 2], tip + 4, 60).await;
        let state = world.view(1).await.state;
        assert_eq!(state.range::<Offence>(..).count(), 1, "one signer, one term, one penalty");
        // A quarter of all weight offended: three quarters of it go.
        assert_eq!(state.stake(&world.account(3)), before - before / 4 * 3);
        world.check().await;
        for of in [0, 1, 2] {
            assert_eq!(world.accuse(of).await, 0, "it stands already");
        }
    });
}

#[test]
fn a_crashed_node_comes_back_and_nobody_votes_twice() {
    run(&plan(6), |world| async move {
        world.start_all();
        world.reach(&ALL, 5, 30).await;
        for round in 0..6_u64 {
            let victim = world.chance().index(4);
            let wait = world.chance().below(1_500);
            world.pass(wait).await;
            world.crash(victim);
            let down = world.chance().below(4_000);
            world.pass(down).await;
            world.start(victim);
            world.reach(&ALL, 8 + 3 * round, 90).await;
        }
        world.check().await;
    });
}

#[test]
fn the_whole_network_may_crash_at_once() {
    run(&plan(7), |world| async move {
        world.start_all();
        world.reach(&ALL, 5, 30).await;
        let wait = world.chance().below(1_000);
        world.pass(wait).await;
        ALL.into_iter().for_each(|of| world.crash(of));
        world.pass(2_000).await;
        world.start_all();
        world.reach(&ALL, 12, 120).await;
        world.check().await;
    });
}

#[test]
fn a_network_cut_in_halves_stops_and_goes_on_when_it_is_whole() {
    run(&plan(8), |world| async move {
        world.start_all();
        world.reach(&ALL, 5, 30).await;
        let ids: Vec<_> = ALL.iter().map(|of| world.node_id(*of)).collect();
        world.hub.partition(&[&ids[..2], &ids[2..]]);
        world.pass(3_000).await;
        let stuck = world.height(0).await.max(world.height(2).await);
        world.pass(60_000).await;
        for of in ALL {
            assert!(world.height(of).await <= stuck, "half of the stake finalised something");
        }
        world.hub.heal();
        world.reach(&ALL, stuck + 5, 180).await;
        world.check().await;
    });
}

#[test]
fn a_minority_that_was_cut_off_catches_up() {
    run(&plan(9), |world| async move {
        world.start_all();
        world.reach(&ALL, 4, 30).await;
        let ids: Vec<_> = ALL.iter().map(|of| world.node_id(*of)).collect();
        world.hub.partition(&[&ids[..1], &ids[1..]]);
        world.reach(&[1, 2, 3], 20, 120).await;
        world.hub.heal();
        world.reach(&ALL, 24, 120).await;
        world.check().await;
    });
}

#[test]
fn bad_weather_slows_and_breaks_nothing() {
    let weather = Weather { delay_ms: 40, jitter_ms: 200, loss: 200, duplicate: 300, reorder: 300 };
    run(&Plan { weather, ..plan(10) }, |world| async move {
        world.start_all();
        world.reach(&ALL, 10, 400).await;
        world.hub.set_weather(Weather::CLEAR);
        let tip = world.height(0).await;
        world.reach(&ALL, tip + 8, 90).await;
        world.check().await;
    });
}

#[test]
fn a_latecomer_with_nothing_follows() {
    let plan = Plan { others: 1, ..plan(11) };
    run(&plan, |world| async move {
        ALL.into_iter().for_each(|of| world.start(of));
        world.reach(&ALL, 90, 150).await;
        world.start(4);
        world.reach(&[4], 90, 30).await;
        world.check().await;
    });
}

#[test]
fn a_disk_that_fails_ends_the_node_before_it_says_anything() {
    run(&plan(12), |world| async move {
        world.start_all();
        world.reach(&ALL, 4, 30).await;
        world.outlaw(2);
        world.disk(2).fail_after(Some(0));
        world.reach(&[0, 1, 3], 12, 90).await;
        let failures = world.failures();
        assert!(failures.iter().any(|(of, why)| *of == 2 && why.contains("journal")), "{failures:?}");
        world.crash(2);
        world.disk(2).fail_after(None);
        world.start(2);
        let tip = world.height(0).await;
        world.reach(&ALL, tip + 3, 90).await;
        world.check().await;
    });
}

#[test]
fn an_actor_that_died_is_missed() {
    run(&plan(13), |world| async move {
        world.start_all();
        world.reach(&ALL, 3, 30).await;
        world.outlaw(1);
        assert_eq!(world.lose_the_ledger(1).await, Some("ledger"));
        world.crash(1);
        world.reach(&[0, 2, 3], 8, 60).await;
        world.check().await;
    });
}

/// A seeded life: weather, cuts, crashes and restarts in any order, then calm, then progress.
async fn turmoil(world: World) {
    world.start_all();
    let mut chance = Chance::from_seed(world.chance().bytes32());
    for _ in 0..6 {
        world.pass(500 + chance.below(3_000)).await;
        match chance.below(5) {
            0 => {
                let victim = chance.index(4);
                if world.is_up(victim) { world.crash(victim) } else { world.start(victim) }
            }
            1 => {
                let (a, b) = (chance.index(4), chance.index(4));
                if a != b {
                    world.hub.cut(world.node_id(a), world.node_id(b));
                }
            }
            2 => {
                let (a, b) = (chance.index(4), chance.index(4));
                if a != b {
                    world.hub.cut_one_way(world.node_id(a), world.node_id(b));
                }
            }
            3 => {
                let loss = u16::try_from(chance.below(200)).unwrap_or(0);
                let (duplicate, reorder) = (loss, loss);
                let (delay_ms, jitter_ms) = (1 + chance.below(80), chance.below(300));
                world.hub.set_weather(Weather { delay_ms, jitter_ms, loss, duplicate, reorder });
            }
            _ => world.hub.heal(),
        }
    }
    world.hub.heal();
    world.hub.set_weather(Weather::CLEAR);
    for of in ALL {
        if !world.is_up(of) {
            world.start(of);
        }
    }
    let mut tip = 0;
    for of in ALL {
        tip = tip.max(world.height(of).await);
    }
    world.reach(&ALL, tip + 4, 240).await;
    world.check().await;
}

/// How many seeds, and from which on: `WORLD_SEEDS=first..last` for more, or one alone.
fn seeds() -> std::ops::Range<u64> {
    let wanted = std::env::var("WORLD_SEEDS").unwrap_or_default();
    let parse = |text: &str| text.parse::<u64>().ok();
    match wanted.split_once("..") {
        Some((first, last)) => parse(first).unwrap_or(1_000)..parse(last).unwrap_or(1_200),
        None => parse(&wanted).map_or(1_000..1_200, |one| one..one + 1),
    }
}

#[test]
fn two_hundred_seeded_lives_end_well() {
    for seed in seeds() {
        run(&plan(seed), turmoil);
    }
}
