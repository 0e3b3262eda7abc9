//! The public vectors: every case of `integration/vectors/yuma.json` in the `compat` mode (T1).
//!
//! Integers are exact unless a case says its tolerance; recorded decimals are within the case's own. Epochs and sequences
//! are played by the same code as `starling sim epoch`; the small functions are called by themselves. `every_case_runs`
//! plays all of them and names each that fails; the tests below it play one kind, or one published scenario, each.

use serde_json::Value;
use starling::ledger::incentive::fixed::{ONE, Q, div, from_u16, int, mul, norm, upscale};
use starling::ledger::incentive::rows::within_limit;
use starling::ledger::incentive::{bonds::follow, bonds::interpolate, minority, quantile, top};
use starling::sim::epoch::play;

fn cases() -> Vec<Value> {
    let text = include_str!("../../integration/vectors/yuma.json");
    let document: Value = serde_json::from_str(text).unwrap();
    document["cases"].as_array().unwrap().clone()
}

/// A number of a case as Q: integers exactly, decimals as `f32` unless the case says `f64`.
fn number(value: &Value, wide: bool) -> Q {
    if let Some(whole) = value.as_i64() {
        return int(whole);
    }
    if value == "max" {
        return Q::MAX;
    }
    let given = value.as_f64().unwrap();
    let given = if wide { given } else { f64::from(given as f32) };
    (given * 4_294_967_296.0).round_ties_even() as Q
}

fn numbers(value: &Value, wide: bool) -> Vec<Q> {
    value.as_array().unwrap().iter().map(|value| number(value, wide)).collect()
}

/// What differs, one line each.
struct Check(String);

impl Check {
    fn near(&mut self, at: &str, got: f64, want: f64, tolerance: f64) {
        if (got - want).abs() > tolerance {
            self.0 += &format!("  {at}: got {got}, want {want} within {tolerance}\n");
        }
    }

    fn same(&mut self, at: &str, got: &dyn std::fmt::Debug, want: &dyn std::fmt::Debug) {
        let (got, want) = (format!("{got:?}"), format!("{want:?}"));
        if got != want {
            self.0 += &format!("  {at}: got {got}, want {want}\n");
        }
    }
}

fn check(case: &Value) -> Result<(), String> {
    let mut found = Check(String::new());
    match case["kind"].as_str().unwrap() {
        "epoch" | "sequence" => check_epochs(case, &mut found),
        "weighted_median" => check_median(case, &mut found),
        "weighted_median_col" => check_columns(case, &mut found),
        "topk" => {
            let k = usize::try_from(case["k"].as_u64().unwrap()).unwrap();
            found.same("kept", &top(&numbers(&case["vector"], false), k), &bools(&case["expected"]));
        }
        "max_upscale_u16" => {
            let want: Vec<u64> = case["expected"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect();
            found.same("scaled", &upscale(&numbers(&case["vector"], false)), &want);
        }
        "max_weight_limited" => {
            let values: Vec<u32> =
                case["vector"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect();
            let limit = u16::try_from(case["limit"].as_u64().unwrap()).unwrap();
            found.same("within", &within_limit(&values, limit), &case["expected"].as_bool().unwrap());
        }
        "ema_alpha" => check_ema(case, &mut found),
        "interpolate" => check_interpolate(case, &mut found),
        "liquid_alpha_equal" => check_equal_bounds(case, &mut found),
        "block_emission" => check_emission(case, &mut found),
        other => panic!("no check for {other}"),
    }
    if found.0.is_empty() { Ok(()) } else { Err(format!("{}:\n{}", case["name"], found.0)) }
}

fn bools(value: &Value) -> Vec<bool> {
    value.as_array().unwrap().iter().map(|v| v.as_bool().unwrap()).collect()
}

fn check_epochs(case: &Value, found: &mut Check) {
    let played = play(case).unwrap();
    let got = played[0]["steps"].as_array().unwrap();
    let wanted: Vec<&Value> = match case.get("steps").and_then(Value::as_array) {
        Some(steps) => steps.iter().map(|step| &step["expected"]).collect(),
        None => vec![&case["expected"]],
    };
    assert_eq!(got.len(), wanted.len(), "{}", case["name"]);
    for (step, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        for (name, want) in wanted.as_object().into_iter().flatten() {
            let tolerance = want.get("tol").and_then(Value::as_f64).unwrap_or(0.0);
            let at = |place: &str| format!("step {step} {name} {place}");
            if name.starts_with("bonds") {
                check_bonds(&got[name], &want["values"], tolerance, &at, found);
            } else if name == "new_permits" {
                found.same(&at(""), &bools(&got[name]), &bools(&want["values"]));
            } else {
                let got = values(got, name);
                for (slot, want) in listed(&want["values"]) {
                    found.near(&at(&slot.to_string()), got[slot], want, tolerance);
                }
            }
        }
    }
}

/// The values of a figure by slot. The pruning score is historical: what a slot was removed by.
fn values(got: &Value, name: &str) -> Vec<f64> {
    let of = |name: &str| -> Vec<f64> {
        got[name].as_array().unwrap_or_else(|| panic!("no {name}")).iter().map(|v| v.as_f64().unwrap()).collect()
    };
    if name != "pruning_score_u16" {
        return of(name);
    }
    let best = of("incentive").into_iter().zip(of("dividends")).map(|(a, b)| (a.max(b) * 4_294_967_296.0) as Q);
    upscale(&best.collect::<Vec<Q>>()).into_iter().map(f64::from).collect()
}

/// A list by slot, or a map from slots.
fn listed(values: &Value) -> Vec<(usize, f64)> {
    match values {
        Value::Array(list) => list.iter().map(|v| v.as_f64().unwrap()).enumerate().collect(),
        Value::Object(map) => map.iter().map(|(slot, v)| (slot.parse().unwrap(), v.as_f64().unwrap())).collect(),
        other => panic!("{other} is no list"),
    }
}

fn check_bonds(got: &Value, want: &Value, tolerance: f64, at: &dyn Fn(&str) -> String, found: &mut Check) {
    for bond in want.as_array().unwrap() {
        let (row, column) = (&bond[0], &bond[1]);
        let same = |b: &&Value| b[0] == *row && b[1] == *column;
        let got = got.as_array().unwrap().iter().find(same).map_or(0.0, |b| b[2].as_f64().unwrap());
        found.near(&at(&format!("row {row} column {column}")), got, bond[2].as_f64().unwrap(), tolerance);
    }
}

fn median(rows: &[(Q, Q)], threshold: Q) -> Q {
    let total = rows.iter().map(|row| row.1).sum();
    let mut above: Vec<(Q, Q)> = rows.iter().copied().filter(|row| row.0 > 0).collect();
    quantile(&mut above, total, threshold)
}

fn check_median(case: &Value, found: &mut Check) {
    let mut stake = numbers(&case["stake"], false);
    if case["normalize"].as_bool().unwrap() {
        norm(&mut stake);
    }
    let rows: Vec<(Q, Q)> = numbers(&case["score"], false).into_iter().zip(stake).collect();
    let got = median(&rows, ONE - number(&case["majority"], false));
    found.same("median", &got, &number(&case["expected"], false));
}

fn check_columns(case: &Value, found: &mut Check) {
    let stake = numbers(&case["stake"], false);
    let weights: Vec<Vec<Q>> = case["weights"].as_array().unwrap().iter().map(|row| numbers(row, false)).collect();
    let mut voice: Vec<Q> = stake.iter().copied().filter(|stake| *stake > 0).collect();
    norm(&mut voice);
    for (j, want) in numbers(&case["expected"], false).into_iter().enumerate() {
        let column = weights.iter().zip(&stake).filter(|(_, stake)| **stake > 0).map(|(row, _)| row[j]);
        let rows: Vec<(Q, Q)> = column.zip(voice.iter().copied()).collect();
        let got = median(&rows, minority(voice.iter().sum(), number(&case["majority"], false), false));
        found.same(&format!("column {j}"), &got, &want);
    }
}

/// Within the tolerance of the case, all numbers read as the case's own.
fn near_all(got: &[Q], case: &Value, found: &mut Check) {
    let wide = case["f64"].as_bool().unwrap_or(false);
    let tolerance = number(&case["tol"], wide);
    for (at, (got, want)) in got.iter().zip(numbers(&case["expected"], wide)).enumerate() {
        if (got - want).abs() > tolerance {
            found.same(&format!("value {at}"), got, &want);
        }
    }
}

fn check_ema(case: &Value, found: &mut Check) {
    let wide = case["f64"].as_bool().unwrap_or(false);
    let [old, new, alpha] = ["old", "new", "alpha"].map(|name| numbers(&case[name], wide));
    let got: Vec<Q> = old.iter().zip(&new).zip(&alpha).map(|((old, new), a)| follow(*old, *new, *a)).collect();
    near_all(&got, case, found);
}

fn check_interpolate(case: &Value, found: &mut Check) {
    let ratio = number(&case["ratio"], true);
    let [a, b] = ["a", "b"].map(|name| numbers(&case[name], false));
    let got: Vec<Q> = a.iter().zip(&b).map(|(a, b)| interpolate(*a, *b, ratio)).collect();
    near_all(&got, case, found);
}

/// With both bounds equal, liquid alpha is the plain average of that step.
fn check_equal_bounds(case: &Value, found: &mut Check) {
    let low = from_u16(u16::try_from(case["alpha_low"].as_u64().unwrap()).unwrap());
    let tolerance = case["tol"].as_f64().unwrap();
    for (i, (weights, bonds)) in
        case["weights"].as_array().unwrap().iter().zip(case["bonds"].as_array().unwrap()).enumerate()
    {
        for (j, (w, b)) in numbers(weights, false).into_iter().zip(numbers(bonds, false)).enumerate() {
            let consensus = numbers(&case["consensus"], false)[j];
            let distance = if w >= b { w - consensus } else { b - w };
            // Whatever the grade is, between equal bounds there is one step.
            let grade = div(ONE, ONE + starling::ledger::incentive::fixed::exp(mul(int(-10), distance - ONE / 2)));
            let step = (low + mul(grade, 0)).clamp(low, low);
            let plain = mul(low, w) + mul(ONE - low, b);
            let at = format!("row {i} column {j}");
            found.near(&at, follow(b, w, step) as f64 / ONE as f64, plain as f64 / ONE as f64, tolerance);
        }
    }
}

fn check_emission(case: &Value, found: &mut Check) {
    for point in case["points"].as_array().unwrap() {
        let (supply, want) = (point[0].as_u64().unwrap(), point[1].as_u64().unwrap());
        let got = starling::ledger::economy::supply::emission(supply.into(), 1_000_000_000, 21_000_000_000_000_000);
        found.same(&format!("supply {supply}"), &got, &want);
    }
}

#[test]
fn t01_every_case_runs() {
    let cases = cases();
    assert_eq!(cases.len(), 81, "a vector was lost");
    let wrong: Vec<String> = cases.iter().filter_map(|case| check(case).err()).collect();
    assert!(wrong.is_empty(), "{} of {} cases fail:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// One test each for a case of this name.
macro_rules! published {
    ($($test:ident: $case:literal;)*) => {
        $(#[test]
        fn $test() {
            let cases = cases();
            let case = cases.iter().find(|case| case["name"] == $case).expect("a case of this name");
            check(case).unwrap_or_else(|wrong| panic!("{wrong}"));
        })*
    };
}

published! {
    t02_kappa_moves_first: "yuma3_kappa_moves_first";
    t02_kappa_moves_first_dense: "yuma3_kappa_moves_first_dense";
    t02_kappa_moves_last: "yuma3_kappa_moves_last";
    t02_kappa_moves_last_dense: "yuma3_kappa_moves_last_dense";
    t02_one_epoch_switch: "yuma3_one_epoch_switch";
    t02_one_epoch_switch_dense: "yuma3_one_epoch_switch_dense";
    t02_stable_miner_dense: "yuma3_stable_miner_dense";
    t02_bonds_reset: "yuma3_bonds_reset";
    t02_bonds_reset_dense: "yuma3_bonds_reset_dense";
    y13_plain_bonds_of_the_published_disabled_case: "yuma3_liquid_alpha_disabled_dense";
    y14_published_bonds_first_epoch: "bonds_ema_step1";
    y14_published_bonds_second_epoch: "bonds_ema_step2";
    y14_published_bonds_fifth_epoch: "bonds_ema_step5";
    y14_published_bonds_sixth_epoch: "bonds_ema_step6";
    y05_commits_and_owner_of_the_derived_case: "derived_yuma2_owner_commit_mask";
    y12_new_columns_of_the_derived_case: "derived_yuma3_plain";
    y15_nobody_weighed_of_the_published_case: "zero_weights_self_only";
    y05_the_owner_may_weigh_itself: "owner_self_weight";
    y03_permits_of_the_published_case: "validator_permits_2_1";
}
