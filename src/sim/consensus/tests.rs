//! The scenarios X1-X36 as far as the core alone can show them, many seeds of mixed faults, and the mutants.

use super::*;
use crate::consensus::rules::Rule;

fn check(scenario: &Scenario, seeds: std::ops::Range<u64>) -> Vec<Report> {
    let reports: Vec<Report> = seeds.map(|seed| run(scenario.clone(), seed)).collect();
    for report in &reports {
        let (name, seed) = (report.scenario, report.seed);
        assert_eq!(report.violation, None, "{name} seed {seed}: {:?} {:?}", report.heights, report.views);
    }
    reports
}

fn with(behaviour: Behaviour, members: usize) -> Scenario {
    let faulty = (members - 1) / 3;
    Scenario {
        byzantine: (0..faulty).map(|at| (at, behaviour)).collect(),
        expect_height: 15,
        ..Scenario::calm(members)
    }
}

fn scripted(script: Vec<(u64, Happening)>) -> Scenario {
    Scenario { script, ..Scenario::calm(4) }
}

#[test]
fn finality_is_exactly_three_hops_and_the_pace_is_kept() {
    for members in [1, 4, 7] {
        let report = check(&Scenario::calm(members), 0..1).remove(0);
        // Three hops of 50 ms and the ledger's 2 ms; alone there is nobody to wait for.
        let expected = if members == 1 { 0 } else { 152 };
        assert_eq!(report.finality_percentile_ms(0), Some(expected), "{members} members");
        assert_eq!(report.finality_percentile_ms(100), Some(expected), "{members} members");
        assert!(report.heights.iter().all(|height| (58..=60).contains(height)), "{:?}", report.heights);
        assert_eq!((report.skipped, report.penalties, report.halts), (0, 0, 0));
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let mixed = Scenario::named("mixed", 4).unwrap();
    assert_eq!(run(mixed.clone(), 5), run(mixed.clone(), 5));
    assert_ne!(run(mixed.clone(), 5).trace, run(mixed, 6).trace);
}

#[test]
fn two_hundred_seeds_of_mixed_faults() {
    let reports = check(&Scenario::named("mixed", 4).unwrap(), 0..200);
    assert!(reports.iter().map(|report| report.crashes).sum::<u64>() > 200);
    assert!(reports.iter().any(|report| !report.offenders.is_empty()));
}

#[test]
fn every_named_scenario_holds() {
    for name in Scenario::NAMES {
        check(&Scenario::named(name, 4).unwrap(), 0..6);
    }
    for members in [7, 10] {
        check(&Scenario::named("mixed", members).unwrap(), 0..3);
    }
    assert_eq!(Scenario::named("no such", 4), None);
}

#[test]
fn every_behaviour_holds_for_many_seeds() {
    for turn in 0..8 {
        check(&with(Behaviour::in_turn(turn), 4), 0..6);
    }
}

#[test]
fn x1_x9_a_silent_leader_costs_its_views_and_no_height() {
    let report = check(&with(Behaviour::Silent, 4), 0..1).remove(0);
    assert!(report.skipped > 0 && report.heights[1] >= 40, "{report:?}");
    assert_eq!(report.finality_percentile_ms(90), Some(152), "finality stays three hops");
}

#[test]
fn x2_x8_equivocators_are_proven_guilty() {
    for members in [4, 7] {
        let report = check(&with(Behaviour::Equivocator, members), 1..2).remove(0);
        assert_eq!(report.offenders.len(), (members - 1) / 3, "{report:?}");
    }
}

#[test]
fn x4_a_wrong_state_root_is_nullified_at_once() {
    let report = check(&with(Behaviour::Liar, 4), 0..1).remove(0);
    assert!(report.skipped > 5 && report.heights[1] >= 50, "{:?} {}", report.heights, report.skipped);
}

#[test]
fn x5_a_skip_without_proof_is_refused_and_penalised() {
    let report = check(&with(Behaviour::Conflicter, 4), 0..1).remove(0);
    assert!(report.penalties > 0 && report.skipped > 0);
}

#[test]
fn x10_without_a_quorum_nothing_is_final_and_all_resumes() {
    let script = vec![
        (10_000, Happening::Crash(0)),
        (10_000, Happening::Crash(1)),
        (40_000, Happening::Restart(0)),
        (40_000, Happening::Restart(1)),
        (40_000, Happening::Heal),
    ];
    let report = check(&Scenario { expect_height: 20, ..scripted(script) }, 0..1).remove(0);
    assert!(report.heights[3] <= 31, "{:?}", report.heights);
    assert!(report.resumed_ms.is_some_and(|ms| ms <= 2 * 3_000), "{:?}", report.resumed_ms);
}

#[test]
fn x11_an_hour_of_partition_heals_in_three_views() {
    let hour = 3_600_000;
    let script = vec![(10_000, Happening::Partition(vec![vec![0, 1], vec![2, 3]])), (10_000 + hour, Happening::Heal)];
    let scenario = Scenario { run_ms: hour + 40_000, expect_height: 30, ..scripted(script) };
    let report = check(&scenario, 0..1).remove(0);
    assert!(report.heights[0] < 45 && report.alarms > 0);
    assert!(report.resumed_ms.is_some_and(|ms| ms <= 3 * 3_000), "{:?}", report.resumed_ms);
}

#[test]
fn x12_a_majority_goes_on_and_the_minority_catches_up() {
    let script = vec![(5_000, Happening::Partition(vec![vec![0, 1, 2], vec![3]])), (100_000, Happening::Heal)];
    let scenario = Scenario { run_ms: 115_000, expect_height: 80, ..scripted(script) };
    check(&scenario, 0..3);
}

#[test]
fn x13_one_way_links_do_not_stop_anybody() {
    let script = vec![
        (3_000, Happening::Deafen { from: 0, to: 1 }),
        (3_000, Happening::Deafen { from: 2, to: 3 }),
        (3_000, Happening::Deafen { from: 3, to: 0 }),
    ];
    check(&Scenario { expect_height: 15, expect_spread: 6, ..scripted(script) }, 0..5);
}

#[test]
fn x19_the_whole_network_stops_and_goes_on_from_its_journals() {
    let down = (0..4).map(|node| (20_030 + 11 * node as u64, Happening::Crash(node)));
    let up = (0..4).map(|node| (25_000 + 400 * node as u64, Happening::Restart(node)));
    check(&Scenario { expect_height: 40, ..scripted(down.chain(up).collect()) }, 0..20);
}

#[test]
fn x20_two_nodes_with_one_key_harm_themselves_only() {
    let scenario = Scenario { twin_of: Some(3), expect_height: 30, ..Scenario::calm(4) };
    for report in check(&scenario, 0..4) {
        assert!(report.offenders.len() <= 1);
    }
    let rough = LinkParams { latency_ms: 20, jitter_ms: 300, lost_per_mille: 50, doubled_per_mille: 0 };
    let found = check(&Scenario { links: rough, expect_height: 10, expect_spread: 8, ..scenario }, 0..4);
    assert!(found.iter().any(|report| report.offenders.len() == 1), "a twin is found out sooner or later");
}

#[test]
fn x22_wrong_clocks_cost_views_and_never_safety() {
    let hour = 3_600_000;
    for off_ms in [hour, -hour] {
        let script = vec![
            (5_000, Happening::Clock { node: 1, off_ms }),
            (30_000, Happening::Clock { node: 1, off_ms: 0 }),
            (40_000, Happening::Clock { node: 2, off_ms: -3_000 }),
        ];
        let report = check(&Scenario { expect_height: 35, ..scripted(script) }, 0..1).remove(0);
        assert_eq!(report.halts, 0);
    }
}

#[test]
fn x28_x29_floods_are_dropped_and_memory_is_flat() {
    let report = check(&with(Behaviour::Flooder, 4), 0..1).remove(0);
    assert!(report.dropped > 1_000 && report.penalties > 0, "{report:?}");
    assert!(report.size_max < 40 && report.heights[1] > 50, "{} {:?}", report.size_max, report.heights);
}

#[test]
fn x36_over_the_bound_a_fork_is_seen_stops_the_node_and_names_the_guilty() {
    let fork = Scenario {
        byzantine: vec![(0, Behaviour::Equivocator), (1, Behaviour::Equivocator)],
        expect_height: 0,
        expect_spread: u64::MAX,
        links: LinkParams { latency_ms: 20, jitter_ms: 200, lost_per_mille: 100, doubled_per_mille: 0 },
        ..Scenario::calm(4)
    };
    let reports = check(&fork, 0..20);
    let forked: Vec<&Report> = reports.iter().filter(|report| report.halts > 0).collect();
    assert!(!forked.is_empty(), "two of four can fork");
    assert!(forked.iter().all(|report| report.offenders.len() >= 2), "{forked:?}");
}

#[test]
fn a_late_node_with_an_empty_store_follows() {
    let catch_up = Scenario::named("catch-up", 4).unwrap();
    for report in check(&catch_up, 0..3) {
        assert_eq!((report.penalties, report.halts), (0, 0));
    }
    let lossy = LinkParams { latency_ms: 20, jitter_ms: 100, lost_per_mille: 150, doubled_per_mille: 100 };
    check(&Scenario { links: lossy, expect_spread: 10, expect_height: 15, ..catch_up }, 0..3);
}

/// Where a mutant must be found: scenarios and how many seeds of them.
fn hunting_grounds(rule: Rule) -> Vec<(Scenario, u64)> {
    let calm = Scenario { run_ms: 40_000, expect_height: 0, expect_spread: u64::MAX, ..Scenario::calm(4) };
    let rough = LinkParams { latency_ms: 20, jitter_ms: 400, lost_per_mille: 250, doubled_per_mille: 0 };
    let crashes = Chaos { until_ms: 40_000, crash_per_100k: 2_000, down_ms: 60, partition_every_ms: 0 };
    let byzantine = |behaviour| Scenario { byzantine: vec![(0, behaviour)], ..calm.clone() };
    let mixed = Scenario {
        chaos: Chaos { until_ms: 40_000, crash_per_100k: 0, down_ms: 0, partition_every_ms: 2_000 },
        links: rough,
        ..calm.clone()
    };
    match rule {
        Rule::Quorum | Rule::FinalizeAfterNullify => vec![(mixed, 40)],
        Rule::SkipProof => vec![(Scenario { links: rough, ..byzantine(Behaviour::Conflicter) }, 40)],
        Rule::NotarizeOnce => vec![(byzantine(Behaviour::Equivocator), 20)],
        Rule::RememberVotes | Rule::NullifyAfterFinalize | Rule::FinalizedBeforeCrash => {
            vec![(Scenario { chaos: crashes, links: rough, ..byzantine(Behaviour::Equivocator) }, 400)]
        }
    }
}

#[test]
fn every_mutant_dies_and_where_it_died_the_rules_hold() {
    let rules = [
        Rule::Quorum,
        Rule::FinalizeAfterNullify,
        Rule::NullifyAfterFinalize,
        Rule::SkipProof,
        Rule::RememberVotes,
        Rule::NotarizeOnce,
        Rule::FinalizedBeforeCrash,
    ];
    let mut survivors = Vec::new();
    for rule in rules {
        let died = hunting_grounds(rule).into_iter().find_map(|(scenario, seeds)| {
            let found = (0..seeds)
                .map(|seed| play(scenario.clone(), seed, Some(rule)))
                .find(|report| report.violation.as_ref().is_some_and(|what| what.contains(": S")));
            found.map(|report| (scenario, report))
        });
        match died {
            None => survivors.push(rule),
            Some((scenario, report)) => {
                println!("{rule:?} dies with seed {}: {}", report.seed, report.violation.unwrap_or_default());
                check(&scenario, report.seed..report.seed + 1);
            }
        }
    }
    assert_eq!(survivors, [], "these rules are not missed by anybody");
}
