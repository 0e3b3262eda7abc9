//! The acceptance lines (S6): a scenario each, and what its figures must come to.
//!
//! A switch of the ledger is turned on by default only after its line passes here. A line that misses says so, with exit
//! code 12; it is not bent until it passes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::attack::{self, Accept, Outcome, Plan, Run, label};
use super::metrics::Summary;
use super::scenario::ScenarioError;
use crate::protocol::parameters::{NetworkKind, SubnetRules};

/// A named line.
pub struct Line {
    pub id: &'static str,
    pub what: &'static str,
    document: &'static str,
    judge: Judge,
    play: fn(&Value, Plan) -> Result<Outcome, ScenarioError>,
}

/// From what was played to the figures of a line.
type Judge = fn(&Outcome) -> Vec<Accept>;

macro_rules! document {
    ($name:literal) => {
        include_str!(concat!("../../../config/sim/", $name, ".json"))
    };
}

/// A line that is played in one subnet.
const fn inside(id: &'static str, what: &'static str, document: &'static str, judge: Judge) -> Line {
    Line { id, what, document, judge, play: attack::run }
}

/// A line that is played between subnets.
const fn between(id: &'static str, what: &'static str, document: &'static str, judge: Judge) -> Line {
    Line { id, what, document, judge, play: attack::run_economy }
}

pub const LINES: &[Line] = &[
    inside("A1", "collusion for a worthless miner", document!("a01"), a01),
    inside("A2", "the same by a majority", document!("a02"), a02),
    inside("A3", "down-weighting", document!("a03"), a03),
    inside("A4", "down-weighting against the lift", document!("a04"), a04),
    inside("A5", "the lift without an attack", document!("a05"), a05),
    inside("A6", "a cheat that some see", document!("a06"), a06),
    inside("A7", "a copier", document!("a07"), a07),
    inside("A8", "a copier that adds noise, against the gate", document!("a08"), a08),
    inside("A9", "the gate where nobody copies", document!("a09"), a09),
    inside("A10", "revealing only when it suits", document!("a10"), a10),
    inside("A11", "one machine behind many registrations", document!("a11"), a11),
    inside("A12", "everything for the own miner", document!("a12"), a12),
    inside("A13", "looking only every eighth epoch", document!("a13"), a13),
    inside("A14", "seeing everything late", document!("a14"), a14),
    between("A15", "a wash trader", document!("a15"), a15),
    between("A16", "a cabal for its own subnet", document!("a16"), a16),
    inside("A17", "one holder behind several seats", document!("a17"), a17),
    inside("A18", "an honest world", document!("a18"), a18),
];

impl Line {
    pub fn named(id: &str) -> Option<&'static Self> {
        LINES.iter().find(|line| line.id.eq_ignore_ascii_case(id))
    }

    /// The scenario as it ships.
    pub fn document(&self) -> Value {
        // A test reads every one of them.
        serde_json::from_str(self.document).unwrap_or(Value::Null)
    }

    /// Plays it.
    ///
    /// # Errors
    /// The shipped scenario does not read.
    pub fn play(&self, plan: Plan) -> Result<Outcome, ScenarioError> {
        (self.play)(&self.document(), plan)
    }

    /// What the line's figures are, each with its target.
    pub fn judge(&self, outcome: &Outcome) -> Vec<Accept> {
        let mut found = (self.judge)(outcome);
        for accept in &mut found {
            accept.id = self.id.to_owned();
            // A figure that could not be measured is no pass.
            if !accept.value.is_finite() {
                accept.pass = accept.pass.map(|_| false);
            }
        }
        found
    }
}

/// A figure and what it is held against.
fn figure(name: impl Into<String>, value: Summary, target: impl Into<String>, pass: Option<bool>) -> Accept {
    let Summary { mean, low, high, .. } = value;
    Accept { id: String::new(), figure: name.into(), value: mean, low, high, target: target.into(), pass }
}

const NOTHING: Summary =
    Summary { runs: 0, mean: f64::NAN, low: f64::NAN, high: f64::NAN, min: f64::NAN, max: f64::NAN };

/// Whether a point has these values.
fn is(at: &BTreeMap<String, Value>, wanted: &[(&str, Value)]) -> bool {
    wanted.iter().all(|(path, value)| at.get(*path) == Some(value))
}

/// The figure of every point that has these values.
fn all<'a>(
    outcome: &'a Outcome,
    metric: &'a str,
    wanted: &'a [(&str, Value)],
) -> impl Iterator<Item = (String, Summary)> {
    let here = outcome.points.iter().filter(|point| is(&point.at, wanted));
    here.map(move |point| (label(&point.at), point.metrics.get(metric).copied().unwrap_or(NOTHING)))
}

/// The figure of the first point that has these values.
fn at(outcome: &Outcome, metric: &str, wanted: &[(&str, Value)]) -> Summary {
    all(outcome, metric, wanted).next().map_or(NOTHING, |(_, summary)| summary)
}

/// The largest of several figures, by mean; what is no number is larger than any.
fn largest(figures: impl Iterator<Item = (String, Summary)>) -> (String, Summary) {
    let worse = |a: &(String, Summary), b: &(String, Summary)| {
        (a.1.mean.is_nan(), a.1.mean).partial_cmp(&(b.1.mean.is_nan(), b.1.mean)).unwrap_or(std::cmp::Ordering::Equal)
    };
    figures.max_by(worse).unwrap_or((String::new(), NOTHING))
}

fn smallest(figures: impl Iterator<Item = (String, Summary)>) -> (String, Summary) {
    let (name, found) = largest(figures.map(|(name, s)| (name, Summary { mean: -s.mean, ..s })));
    (name, Summary { mean: -found.mean, ..found })
}

/// A figure of two points, seed by seed: the same chance on both sides.
fn paired(
    outcome: &Outcome,
    metric: &str,
    [one, other]: [&[(&str, Value)]; 2],
    compare: fn(f64, f64) -> f64,
) -> Summary {
    let place = |wanted| outcome.points.iter().position(|point| is(&point.at, wanted));
    let (Some(one), Some(other)) = (place(one), place(other)) else { return NOTHING };
    let of = |place: usize| outcome.runs.iter().filter(move |run: &&Run| run.point == place);
    let both = of(one).zip(of(other)).filter(|(a, b)| a.seed == b.seed);
    let values = both.filter_map(|(a, b)| Some(compare(*a.metrics.get(metric)?, *b.metrics.get(metric)?)));
    Summary::of(&values.collect::<Vec<f64>>()).unwrap_or(NOTHING)
}

const LIFT: &str = "subnet.switches.lift";
const NOISE: &str = "agents[0].noise";
const DRIFT: &str = "miners.drift";

fn lift() -> Value {
    json!({ "tau": 21_845, "lambda": 65_535 })
}

fn a01(o: &Outcome) -> Vec<Accept> {
    let metric = "own_share.colluder";
    let of = |noise: Value, power: u32| largest(all(o, metric, &[(NOISE, noise), ("agents[0].power", json!(power))]));
    let ((place, noisy), (_, exact)) = (of(json!(0.1), 1), of(json!(0), 1));
    let (_, squared) = of(json!(0.1), 2);
    vec![
        figure(format!("incentive share, noise 10 %, worst at {place}"), noisy, "<= 0.1 %", Some(noisy.mean <= 0.001)),
        figure("the same where rows are squares, as those of the scorers that ship", squared, "reported", None),
        figure("incentive share, noise 0, worst", exact, "0", Some(exact.max == 0.0)),
    ]
}

fn a02(o: &Outcome) -> Vec<Accept> {
    let metric = "own_share.colluder";
    let (masked, part) = ("agents[1].masked", "agents[1].part");
    let of = |hides: bool, how: f64| largest(all(o, metric, &[(masked, json!(!hides)), (part, json!(how))])).1;
    let (half, all_in) = (of(false, 0.5), of(false, 1.0));
    vec![
        figure("incentive share, declared, half of its rows", half, "<= 0.1 %", Some(half.mean <= 0.001)),
        figure("incentive share, declared, all of its rows", all_in, "<= 0.1 %", Some(all_in.mean <= 0.001)),
        figure("incentive share, hidden keys, all of its rows", of(true, 1.0), "reported", None),
    ]
}

fn a03(o: &Outcome) -> Vec<Accept> {
    let one = |stake: f64| {
        let loss = at(o, "victim_loss", &[("agents[1].stake", json!(stake))]);
        let target = format!("{stake} +- 0.03");
        figure(format!("loss of victims, s = {stake}"), loss, target, Some((loss.mean - stake).abs() <= 0.03))
    };
    let mut found = [0.1, 0.2, 0.3, 0.4].map(one).to_vec();
    let behind = at(o, "victim_gap", &[("agents[1].stake", json!(0.4))]);
    found.push(figure("how far they fall behind the others, s = 0.4", behind, "reported", None));
    found
}

/// Of a sweep over all agents, the point whose first has this noise.
fn with_noise(o: &Outcome, noise: f64) -> Value {
    let here = |point: &attack::PointSummary| point.at.get("agents").cloned();
    let fits = |agents: &Value| agents.pointer("/0/noise") == Some(&json!(noise));
    o.points.iter().filter_map(here).find(fits).unwrap_or(Value::Null)
}

fn a04(o: &Outcome) -> Vec<Accept> {
    let mut found = Vec::new();
    for (noise, bound) in [(0.02, 0.03), (0.2, 0.18)] {
        let agents = with_noise(o, noise);
        let on = [("agents", agents.clone()), (LIFT, lift())];
        let off = [("agents", agents), (LIFT, Value::Null)];
        let (loss, without) = (at(o, "victim_loss", &on), at(o, "victim_loss", &off));
        let percent = noise * 100.0;
        let target = format!("<= {} %", bound * 100.0);
        found.push(figure(format!("loss, noise {percent} %"), loss, target, Some(loss.mean <= bound)));
        found.push(figure(format!("loss without the lift, noise {percent} %"), without, "reported", None));
        let lowest = at(o, "victim_low", &on);
        let pass = (noise < 0.1).then_some(lowest.mean <= 0.25);
        let target = if pass.is_some() { "<= 25 % (twice the base rate)" } else { "reported" };
        found.push(figure(format!("P(among the lowest eighth), noise {percent} %"), lowest, target, pass));
    }
    found
}

fn a05(o: &Outcome) -> Vec<Accept> {
    let one = |noise: f64| {
        let on = [(NOISE, json!(noise)), (LIFT, lift())];
        let off = [(NOISE, json!(noise)), (LIFT, Value::Null)];
        let change = paired(o, "spearman", [&on, &off], |on, off| on - off);
        let name = format!("rank correlation with quality, on - off, noise {} %", noise * 100.0);
        figure(name, change, ">= -0.02", Some(change.mean >= -0.02))
    };
    [0.02, 0.1, 0.2].map(one).to_vec()
}

fn a06(o: &Outcome) -> Vec<Accept> {
    let mut found = Vec::new();
    for seen in [0.2, 0.35, 0.5, 0.55] {
        let fits = |agents: &Value| agents.pointer("/1/stake") == Some(&json!(seen));
        let agents = o.points.iter().filter_map(|p| p.at.get("agents").cloned()).find(fits).unwrap_or(Value::Null);
        let (on, off) = ([("agents", agents.clone()), (LIFT, lift())], [("agents", agents), (LIFT, Value::Null)]);
        // Never: as long as there were epochs.
        let never = |metric: f64| if metric.is_nan() { 100.0 } else { metric };
        let (on, off) = (at(o, "dislodge", &on), at(o, "dislodge", &off));
        let (with, without) = (never(on.mean), never(off.mean));
        let shown = Summary { mean: with, low: never(on.low), high: never(on.high), ..on };
        let target = if seen < 0.3 { "reported (100: never)".to_owned() } else { format!("<= {without:.1} (off) + 1") };
        let pass = (seen > 0.3).then_some(with <= without + 1.0);
        found.push(figure(format!("epochs to dislodge, seen by {seen}"), shown, target, pass));
    }
    found
}

fn a07(o: &Outcome) -> Vec<Accept> {
    let (_, copier) = largest(all(o, "freshness.copier", &[]));
    let (place, honest) = smallest(all(o, "freshness_p05.honest", &[]));
    let name = format!("freshness of honest rows, 5th percentile, worst at {place}");
    vec![
        figure("freshness of the copier, worst", copier, "<= -0.9", Some(copier.mean <= -0.9)),
        figure(name, honest, ">= 0.1", Some(honest.mean >= 0.1)),
    ]
}

fn a08(o: &Outcome) -> Vec<Accept> {
    let one = |drift: f64| {
        let (place, gap) = largest(all(o, "gap.copier", &[(DRIFT, json!(drift))]));
        let name = format!("dividend against honest, best noise, {place}");
        figure(name, gap, "<= 0.95", Some(gap.mean <= 0.95))
    };
    [0.02, 0.05].map(one).to_vec()
}

fn a09(o: &Outcome) -> Vec<Accept> {
    let one = |drift: f64| {
        let gated = at(o, "gated", &[(DRIFT, json!(drift))]);
        let name = format!("honest row-epochs with g < 1, drift {} %", drift * 100.0);
        figure(name, gated, "<= 0.5 %", Some(gated.mean <= 0.005))
    };
    [0.02, 0.05, 0.1].map(one).to_vec()
}

fn a10(o: &Outcome) -> Vec<Accept> {
    let rule = |name: &str| [("agents[1].rule", json!(name))];
    let against = |name: &str| {
        paired(o, "profit.non_revealer", [&rule(name), &rule("always")], |held, always| held / always - 1.0)
    };
    let (losing, paying) = (against("if_losing"), against("if_paying"));
    vec![
        figure("profit against always revealing, if losing", losing, "< 0 in every run", Some(losing.max < 0.0)),
        figure("the same, only if the epoch pays more", paying, "<= 0", Some(paying.mean <= 0.0)),
    ]
}

fn a11(o: &Outcome) -> Vec<Accept> {
    let ids = |count: u32| [("agents[1].ids", json!(count))];
    let ratio = |count: u32, metric: &str| paired(o, metric, [&ids(count), &ids(1)], |many, one| many / one);
    let each = |metric: &'static str| {
        largest([2, 4, 8, 16, 32].into_iter().map(move |count| (format!("{count} ids"), ratio(count, metric))))
    };
    let ((place, pay), (worst, net)) = (each("earned.sybil_miner"), each("profit.sybil_miner"));
    vec![
        figure(format!("pay against one registration, worst with {place}"), pay, "<= 1.02", Some(pay.mean <= 1.02)),
        figure(format!("the same net of what is burnt, worst with {worst}"), net, "< 1", Some(net.mean < 1.0)),
    ]
}

fn a12(o: &Outcome) -> Vec<Accept> {
    let mut found = Vec::new();
    for (stake, bound) in [(0.1, 1.03), (0.3, 1.2)] {
        let of = |noise: f64, lift: Value| {
            at(o, "over_merit.self_dealer", &[("agents[1].stake", json!(stake)), (NOISE, json!(noise)), (LIFT, lift)])
        };
        let (exact, off, on) = (of(0.02, Value::Null), of(0.1, Value::Null), of(0.1, lift()));
        let model = 1.0 + stake / (1.0 - stake);
        let name = format!("own share over merit, s = {stake}, lift off");
        let target = format!("{model:.2} +- 0.05");
        found.push(figure(name, off, target, Some((off.mean - model).abs() <= 0.05)));
        let name = format!("the same, noise 2 %, s = {stake}, lift off");
        found.push(figure(name, exact, "reported", None));
        let name = format!("own share over merit, s = {stake}, lift on");
        found.push(figure(name, on, format!("<= {bound}"), Some(on.mean <= bound)));
    }
    found
}

fn a13(o: &Outcome) -> Vec<Accept> {
    let gap = at(o, "gap.lazy", &[]);
    vec![figure("dividend against honest", gap, "<= 0.9", Some(gap.mean <= 0.9))]
}

fn a14(o: &Outcome) -> Vec<Accept> {
    let mut found = Vec::new();
    for rate in [0.01, 0.05] {
        let of = |delay: u32| {
            at(o, "gap.late_mover", &[("agents[1].delay", json!(delay)), ("miners.shock.rate", json!(rate))])
        };
        let [first, one, three, six] = [0, 1, 3, 6].map(of);
        let falls = first.mean > one.mean && one.mean > three.mean && three.mean > six.mean;
        let world = format!("{} % of miners change at once each epoch", rate * 100.0);
        found.push(figure(format!("dividend against honest, one epoch late, {world}"), one, "falling", Some(falls)));
        found.push(figure(format!("three epochs late, {world}"), three, "falling", Some(falls)));
        let pass = falls && six.mean <= 0.95;
        found.push(figure(format!("six epochs late, {world}"), six, "falling, <= 0.95", Some(pass)));
    }
    found
}

fn a15(o: &Outcome) -> Vec<Accept> {
    let (place, profit) = largest(all(o, "profit_per_burnt.washer", &[]));
    let wins = o.points.iter().filter_map(|point| point.metrics.get("profit_per_burnt.washer")).map(|s| s.max);
    let most = wins.fold(f64::NEG_INFINITY, f64::max);
    let name = format!("profit for each mote burnt, worst at {place}");
    vec![figure(name, profit, "< 0 in every run", Some(most < 0.0))]
}

fn a16(o: &Outcome) -> Vec<Accept> {
    let of = |stake: f64| at(o, "support_part.support_cabal", &[("agents[0].stake", json!(stake))]);
    let (small, large) = (of(0.05), of(0.15));
    vec![
        figure("part of the support pot for a cabal of 5 %", small, "0", Some(small.max == 0.0)),
        figure("part of the support pot for a cabal of 15 %", large, "<= 15 %", Some(large.mean <= 0.15)),
    ]
}

fn a17(o: &Outcome) -> Vec<Accept> {
    let of = |pieces: u32, curve: &str| {
        let wanted = [("agents[1].pieces", json!(pieces)), ("subnet.switches.stake_curve", json!(curve))];
        at(o, "voice.whale_split", &wanted)
    };
    let (linear, whole) = (of(1, "linear").mean, of(1, "knee").mean);
    let back = |s: Summary| {
        let part = |voice: f64| (voice - whole) / (linear - whole);
        Summary { mean: part(s.mean), low: part(s.low), high: part(s.high), min: part(s.min), max: part(s.max), ..s }
    };
    let recovered = [2, 4, 8].into_iter().map(|pieces| (format!("{pieces} seats"), back(of(pieces, "knee"))));
    let (place, most) = largest(recovered);
    let name = format!("part of the cut that splitting wins back, worst with {place}");
    vec![
        figure("voice of 30 % of the stake in one seat, knee on", of(1, "knee"), "reported", None),
        figure(name, most, "<= 50 %, or knee is off by default", Some(most.mean <= 0.5 || !knee_by_default())),
    ]
}

/// Whether a subnet bends stake at the knee unless its owner says otherwise.
fn knee_by_default() -> bool {
    [NetworkKind::Devnet, NetworkKind::Public].iter().any(|kind| SubnetRules::defaults(*kind).stake_curve == 1)
}

fn a18(o: &Outcome) -> Vec<Accept> {
    let (paid, ranked) = (at(o, "honest_miner_share", &[]), at(o, "spearman", &[]));
    vec![
        figure("pay that goes to honest miners", paid, ">= 0.99", Some(paid.mean >= 0.99)),
        figure("rank correlation with quality, noise 10 %", ranked, ">= 0.9", Some(ranked.mean >= 0.9)),
    ]
}
