//! The simulator: a format that refuses in words, the same bytes from the same seed, every shipped line, a few of them played.

use serde_json::{Value, json};

use super::accept::{LINES, Line};
use super::attack::{Plan, run};
use super::plot::{Curve, over, picture, pictures, swept, tables};
use super::sweep::points;

fn world(change: &[(&str, Value)]) -> Value {
    let mut document = json!({
        "v": 1, "name": "test", "epochs": 40, "warmup": 10, "miners": { "count": 16 }, "stake": { "validators": 12 },
        "agents": [{ "kind": "honest" }, { "kind": "copier", "stake": 0.1 }],
    });
    for (pointer, value) in change {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        document.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(key.to_owned(), value.clone());
    }
    document
}

fn refusal(change: &[(&str, Value)]) -> String {
    points(&world(change)).unwrap_err().to_string()
}

#[test]
fn s02_the_example_of_the_design_reads() {
    let example = json!({
        "v": 1, "name": "downweight-30", "seed": 7, "epochs": 400, "warmup": 50, "tempo": 360,
        "subnet": { "mode": "native", "switches": { "lift": { "tau": 21845, "lambda": 65535 } }, "kappa": 32767, "yuma": 3,
                    "liquid_alpha": false, "slots": 256, "conceal": 1 },
        "stake": { "law": "pareto", "alpha": 1.2, "validators": 32 },
        "miners": { "count": 64, "quality": { "law": "lognormal", "sigma": 0.3 }, "drift": 0.05, "shock": { "rate": 0.01 } },
        "agents": [{ "kind": "honest", "stake": 0.7, "noise": 0.1 },
                   { "kind": "downweight", "stake": 0.3, "members": 2, "victims": 8 }],
        "registrations": { "rate_per_epoch": 2 }, "sweep": { "agents[1].stake": [0.1, 0.2, 0.3, 0.4] },
    });
    let points = points(&example).unwrap();
    let stakes: Vec<f64> = points.iter().map(|point| point.scenario.agents[1].stake).collect();
    assert_eq!(stakes, [0.1, 0.2, 0.3, 0.4]);
    assert_eq!(points[0].scenario.switches().lift.map(|lift| lift.tau), Some(21_845));
}

#[test]
fn s02_what_is_not_understood_is_refused_in_words() {
    assert!(refusal(&[("/colour", json!(1))]).contains("unknown field `colour`"));
    assert!(refusal(&[("/miners/hue", json!(1))]).contains("unknown field `hue`"));
    assert!(refusal(&[("/agents/1/nose", json!(1))]).contains("agent copier: unknown field `nose`"));
    assert!(refusal(&[("/agents/1/kind", json!("cat"))]).contains("unknown variant `cat`"));
    assert!(refusal(&[("/agents/1/kind", json!("washer"))]).contains("play it with `sim economy`"));
    assert!(refusal(&[("/v", json!(2))]).contains("this program plays version 1"));
    assert!(refusal(&[("/warmup", json!(40))]).contains("warmup is 40"));
    assert!(refusal(&[("/agents/1/stake", json!(1.5))]).contains("stake"));
    assert!(refusal(&[("/agents", json!([{ "kind": "lazy", "stake": 0.5, "every": 2 }]))]).contains("honest"));
    assert!(refusal(&[("/subnet", json!({ "mode": "compat" }))]).contains("sim epoch"));
    assert!(refusal(&[("/sweep", json!({ "agents[7].stake": [1] }))]).contains("the sweep names agents[7].stake"));
    assert!(refusal(&[("/sweep", json!({ "miners.hue": [1] }))]).contains("unknown field `hue`"));
    assert!(refusal(&[("/sweep", json!({ "miners.drift": [] }))]).contains("name at least one value"));
    let two = json!([{ "kind": "honest" }, { "kind": "copier", "stake": 0.1 }, { "kind": "copier", "stake": 0.2 }]);
    assert!(refusal(&[("/agents", two)]).contains("give each its own `name`"));
}

#[test]
fn s01_the_same_file_and_seed_are_the_same_bytes_on_any_number_of_threads() {
    let document = world(&[("/sweep", json!({ "miners.drift": [0.02, 0.1] }))]);
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let outcome = pool.install(|| run(&document, Plan { seeds: 3, series: true, epochs: None })).unwrap();
        (outcome.report().to_string(), tables(&outcome), pictures(&outcome))
    };
    let one = with(1);
    assert_eq!(one, with(4));
    let other = run(&world(&[("/seed", json!(99))]), Plan::seeds(3)).unwrap();
    assert_ne!(one.0, other.report().to_string());
}

#[test]
fn s01_a_world_is_the_same_on_every_machine() {
    let outcome = run(&world(&[]), Plan::seeds(2)).unwrap();
    let mut hasher = blake3::Hasher::new();
    for name in ["spearman", "gap.copier", "earned.copier", "freshness.copier", "freshness.honest"] {
        let bits = outcome.runs.iter().flat_map(|run| run.metrics[name].to_le_bytes()).collect::<Vec<u8>>();
        hasher.update(&bits);
    }
    let digest = hasher.finalize().to_hex();
    assert_eq!(&digest.as_str()[..16], "b2a60db6eee20e35", "or the simulator, or the epoch, was changed on purpose");
}

#[test]
fn s05_pictures_and_tables_show_what_was_swept() {
    let document = world(&[("/sweep", json!({ "agents[1].stake": [0.1, 0.2], "miners.drift": [0.02, 0.1] }))]);
    let outcome = run(&document, Plan { seeds: 2, series: true, epochs: Some(20) }).unwrap();
    assert_eq!(swept(&outcome), ["agents[1].stake", "miners.drift"]);
    let curves = over(&outcome, "gap.copier", "agents[1].stake");
    assert_eq!(
        curves.iter().map(|curve| curve.name.as_str()).collect::<Vec<_>>(),
        ["miners.drift = 0.02", "miners.drift = 0.1"]
    );
    assert!(curves.iter().all(|curve| curve.points.iter().map(|place| place.0).eq([0.1, 0.2])));
    let table = &tables(&outcome)["gap.copier.csv"];
    assert_eq!((table.lines().next(), table.lines().count()), (Some("point,seed,value"), 1 + 4 * 2));
    let svg = picture("t", "x", "y", &curves).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("miners.drift = 0.1"));
    assert!(picture("t", "x", "y", &[Curve { name: String::new(), points: Vec::new() }]).is_err());
}

#[test]
fn s05_targets_of_a_file_are_held_against_every_point() {
    let targets = json!([{ "id": "fresh", "metric": "freshness.copier", "max": -0.9 },
                         { "id": "rich", "metric": "gap.copier", "min": 5 }, { "id": "none", "metric": "what", "max": 1 }]);
    let document = world(&[("/targets", targets)]);
    let found = run(&document, Plan::seeds(2)).unwrap().targets(&document);
    assert_eq!(found.iter().map(|accept| accept.pass).collect::<Vec<_>>(), [Some(true), Some(false), Some(false)]);
}

#[test]
fn s06_every_line_ships_a_scenario_that_reads_and_judges_every_figure() {
    for line in LINES {
        let plan = Plan { seeds: 1, series: false, epochs: Some(2) };
        if let Err(error) = line.play(plan) {
            panic!("{}: {error}", line.id);
        }
        assert_eq!(Line::named(&line.id.to_lowercase()).map(|line| line.id), Some(line.id));
    }
}

/// A line with few seeds and epochs: whether it passes as a whole.
fn quick(id: &str) -> Vec<(String, f64, Option<bool>)> {
    let line = Line::named(id).unwrap();
    let outcome = line.play(Plan { seeds: 2, series: false, epochs: Some(120) }).unwrap();
    let judged = line.judge(&outcome);
    assert!(judged.iter().all(|accept| accept.value.is_finite() && accept.id == line.id), "{judged:?}");
    judged.into_iter().map(|accept| (accept.figure, accept.value, accept.pass)).collect()
}

#[test]
fn s06_a18_an_honest_world_pays_by_quality() {
    let found = quick("A18");
    assert!(found.iter().all(|(_, _, pass)| *pass == Some(true)), "{found:?}");
}

#[test]
fn s06_a03_weight_0_from_a_share_takes_that_share() {
    let found = quick("A3");
    assert!(found.iter().all(|(_, _, pass)| *pass != Some(false)), "{found:?}");
}

#[test]
fn s06_a07_a_copy_shows_and_a_missed_line_says_so() {
    let found = quick("A7");
    assert_eq!(found[0].2, Some(true), "{found:?}");
    assert!(found[1].1 > 0.0, "honest rows are of the present: {found:?}");
}

#[test]
fn s06_a01_a_worthless_miner_gets_nothing_where_scores_are_exact() {
    let found = quick("A1");
    assert_eq!((found[2].1, found[2].2), (0.0, Some(true)), "{found:?}");
    assert!(found[1].1 < found[0].1 / 5.0, "squares leave little of what errors leave: {found:?}");
}

#[test]
fn s06_a15_and_a16_nobody_wins_by_burning_or_by_voting_for_itself() {
    for id in ["A15", "A16"] {
        let found = quick(id);
        assert!(found.iter().all(|(_, _, pass)| *pass == Some(true)), "{found:?}");
    }
}

#[test]
fn s06_a10_who_reveals_only_when_it_suits_pays_for_it() {
    let found = quick("A10");
    assert!(found.iter().all(|(_, _, pass)| *pass == Some(true)), "{found:?}");
}
