//! What is counted while a world is played, and the figures it comes to (S4).

use std::collections::BTreeMap;

use super::agents::Seen;
use super::cast::Validator;
use super::kinds::{Agent, Kind};
use super::metrics::{gini, mean, percentile, spearman, top_ten};
use super::scenario::Scenario;
use crate::ledger::economy::members::Price;
use crate::ledger::economy::rows::Curve;
use crate::ledger::incentive::EpochResult;
use crate::ledger::incentive::fixed::{ONE, Q};
use crate::protocol::parameters::{NetworkKind, SubnetRules};

/// One run's figures by name, and what some of them were in each epoch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    pub metrics: BTreeMap<String, f64>,
    pub series: BTreeMap<String, Vec<f64>>,
}

/// An epoch as the tally sees it. Rows and columns of the result are in the order of validators and miners.
pub struct Glance<'a> {
    pub epoch: u32,
    pub result: &'a EpochResult,
    pub validators: &'a [Validator],
    pub miners: &'a [Seen],
    pub worthless: &'a [bool],
    pub cheat: Option<usize>,
}

/// One side of the game.
#[derive(Clone, Debug, Default)]
struct Side {
    dividends: f64,
    stake: f64,
    voice: f64,
    own: f64,
    merit: f64,
    earned: f64,
    /// What was burnt of its bonds and fees.
    cost: f64,
    freshness: Vec<f64>,
    misses: u32,
}

/// Sums over the measured epochs.
#[derive(Debug)]
pub struct Tally {
    warmup: u32,
    keep_series: bool,
    epochs: u32,
    sides: Vec<Side>,
    honest: Vec<bool>,
    honest_miners: f64,
    correlations: Vec<f64>,
    victims: [f64; 2],
    others: [f64; 2],
    low_victims: f64,
    victim_epochs: f64,
    judged: u64,
    gated: u64,
    unminted: f64,
    minted: f64,
    miner_pay: Vec<f64>,
    validator_pay: Vec<f64>,
    before_cheat: Vec<f64>,
    dislodged: Option<u32>,
    series: BTreeMap<String, Vec<f64>>,
}

/// What is burnt when one machine registers many times at once (E12, E13).
fn entry_fees(agent: &Agent) -> f64 {
    let Kind::SybilMiner { ids, .. } = agent.kind else { return 0.0 };
    let rules = SubnetRules::defaults(NetworkKind::Public);
    let mut curve = Curve { price: rules.price_start, since: 0 };
    let mut burnt = 0.0;
    for _ in 0..ids {
        let price = curve.at(0, rules.price_half_life, rules.price_min, rules.price_max);
        burnt += Price::of(price, rules.entry_fee_bp).fee as f64;
        curve = Curve::bought(price, 0, rules.price_max);
    }
    burnt
}

fn real(share: Q) -> f64 {
    share as f64 / ONE as f64
}

/// A miner below this place, counted from the worst, is among the lowest eighth.
const LOWEST: usize = 8;

impl Tally {
    pub fn new(scenario: &Scenario, keep_series: bool) -> Self {
        Self {
            warmup: scenario.warmup,
            keep_series,
            epochs: 0,
            sides: scenario.agents.iter().map(|agent| Side { cost: entry_fees(agent), ..Side::default() }).collect(),
            honest: scenario.agents.iter().map(Agent::is_honest).collect(),
            honest_miners: 0.0,
            correlations: Vec::new(),
            victims: [0.0; 2],
            others: [0.0; 2],
            low_victims: 0.0,
            victim_epochs: 0.0,
            judged: 0,
            gated: 0,
            unminted: 0.0,
            minted: 0.0,
            miner_pay: Vec::new(),
            validator_pay: Vec::new(),
            before_cheat: Vec::new(),
            dislodged: None,
            series: BTreeMap::new(),
        }
    }

    /// A commitment that was not revealed, and what it took of the bond.
    pub fn miss(&mut self, agent: usize, cut: u64) {
        if let Some(side) = self.sides.get_mut(agent) {
            side.misses += 1;
            side.cost += cut as f64;
        }
    }

    pub fn take(&mut self, glance: &Glance<'_>) {
        self.watch_cheat(glance);
        if glance.epoch < self.warmup {
            return;
        }
        self.epochs += 1;
        self.take_miners(glance);
        self.take_validators(glance);
        let result = glance.result;
        self.unminted += (result.carried_miners + result.carried_validators) as f64;
        let paid = result.rows.iter().map(|row| row.amount).chain(result.columns.iter().map(|column| column.amount));
        self.minted += paid.sum::<u64>() as f64;
    }

    fn note(&mut self, name: &str, value: f64) {
        if self.keep_series {
            self.series.entry(name.to_owned()).or_default().push(value);
        }
    }

    fn take_miners(&mut self, glance: &Glance<'_>) {
        let columns = &glance.result.columns;
        self.miner_pay.resize(columns.len().max(self.miner_pay.len()), 0.0);
        let (mut qualities, mut shares, mut honest) = (Vec::new(), Vec::new(), 0.0);
        let all: f64 = glance.miners.iter().map(|miner| miner.quality).sum();
        let (mut victims, mut others) = ([0.0; 2], [0.0; 2]);
        for (at, (miner, column)) in glance.miners.iter().zip(columns).enumerate() {
            let share = real(column.incentive);
            if let Some(pay) = self.miner_pay.get_mut(at) {
                *pay += column.amount as f64;
            }
            let worthless = glance.worthless.get(at).copied().unwrap_or(false);
            if let Some(side) = miner.owner.and_then(|owner| self.sides.get_mut(owner)) {
                side.own += share;
                side.merit += if all > 0.0 { miner.quality / all } else { 0.0 };
                side.earned += column.amount as f64;
                continue;
            }
            qualities.push(miner.quality);
            shares.push(share);
            honest += if worthless { 0.0 } else { share };
            let side = if miner.victim { &mut victims } else { &mut others };
            *side = [side[0] + share, side[1] + miner.quality];
        }
        self.honest_miners += honest;
        if let Some(correlation) = spearman(&shares, &qualities) {
            self.correlations.push(correlation);
            self.note("spearman", correlation);
        }
        self.note("honest_miner_share", honest);
        for (sum, here) in self.victims.iter_mut().chain(&mut self.others).zip(victims.iter().chain(&others)) {
            *sum += here;
        }
        if let Some(loss) = loss(victims, others) {
            self.note("victim_loss", loss);
            self.take_lowest(glance, &shares);
        }
    }

    /// How often a victim is among the lowest eighth.
    fn take_lowest(&mut self, glance: &Glance<'_>, shares: &[f64]) {
        let mut sorted = shares.to_vec();
        sorted.sort_by(f64::total_cmp);
        let limit = sorted.get(sorted.len() / LOWEST).copied().unwrap_or(0.0);
        let regular = glance.miners.iter().filter(|miner| miner.owner.is_none());
        for (_, share) in regular.zip(shares).filter(|(miner, _)| miner.victim) {
            self.victim_epochs += 1.0;
            self.low_victims += if *share < limit { 1.0 } else { 0.0 };
        }
    }

    fn take_validators(&mut self, glance: &Glance<'_>) {
        self.validator_pay.resize(glance.validators.len(), 0.0);
        let mut here = vec![(0.0, 0.0); self.sides.len()];
        for (at, (validator, row)) in glance.validators.iter().zip(&glance.result.rows).enumerate() {
            if let Some(pay) = self.validator_pay.get_mut(at) {
                *pay += row.amount as f64;
            }
            let (Some(side), Some(here)) = (self.sides.get_mut(validator.agent), here.get_mut(validator.agent)) else {
                continue;
            };
            side.dividends += real(row.dividend);
            side.stake += validator.stake as f64;
            side.voice += real(row.active);
            side.earned += row.amount as f64;
            *here = (here.0 + real(row.dividend), here.1 + validator.stake as f64);
            // A voice above a quarter is not judged (D6).
            if let Some(value) = validator.fresh.value().filter(|_| row.active <= ONE / 4) {
                side.freshness.push(real(value));
            }
            if self.honest.get(validator.agent) == Some(&true) {
                self.judged += 1;
                self.gated += u64::from(validator.fresh.gate(row.active) < ONE);
            }
        }
        let honest = here.iter().zip(&self.honest).filter(|(_, honest)| **honest);
        let (paid, stake) = honest.fold((0.0, 0.0), |sum, (of, _)| (sum.0 + of.0, sum.1 + of.1));
        for (at, (of, honest)) in here.into_iter().zip(self.honest.clone()).enumerate() {
            if !honest && of.1 > 0.0 && paid > 0.0 {
                self.note(&format!("dividend_gap.{at}"), of.0 / of.1 / (paid / stake));
            }
        }
    }

    /// How long a cheat lives on its name: until it has less than a tenth of what it had.
    fn watch_cheat(&mut self, glance: &Glance<'_>) {
        let share = |place: usize| glance.result.columns.get(place).map_or(0.0, |column| real(column.incentive));
        match glance.cheat {
            None => self.before_cheat = glance.result.columns.iter().map(|column| real(column.incentive)).collect(),
            Some(place) if self.dislodged.is_none() => {
                let before = self.before_cheat.get(place).copied().unwrap_or(0.0);
                self.note("cheat_share", if before > 0.0 { share(place) / before } else { 0.0 });
                if share(place) < before / 10.0 {
                    self.dislodged = Some(glance.epoch);
                }
            }
            Some(_) => {}
        }
    }

    /// The figures of the run. What an agent's are called is `figure.name of the agent`.
    pub fn figures(self, scenario: &Scenario) -> Figures {
        let mut metrics = BTreeMap::new();
        let mut put = |name: String, value: Option<f64>| {
            if let Some(value) = value.filter(|value| value.is_finite()) {
                metrics.insert(name, value);
            }
        };
        let epochs = f64::from(self.epochs.max(1));
        put("honest_miner_share".to_owned(), Some(self.honest_miners / epochs));
        put("spearman".to_owned(), mean(&self.correlations));
        put("victim_loss".to_owned(), loss(self.victims, self.others));
        put("victim_gap".to_owned(), gap(self.victims, self.others));
        put("victim_low".to_owned(), (self.victim_epochs > 0.0).then(|| self.low_victims / self.victim_epochs));
        put("gated".to_owned(), (self.judged > 0).then(|| self.gated as f64 / self.judged as f64));
        put("unminted".to_owned(), Some(self.unminted / (self.minted + self.unminted).max(1.0)));
        put("miner_gini".to_owned(), gini(&self.miner_pay));
        put("miner_top10".to_owned(), top_ten(&self.miner_pay));
        put("validator_gini".to_owned(), gini(&self.validator_pay));
        put("validator_top10".to_owned(), top_ten(&self.validator_pay));
        if let Some(cheat) = scenario.miners.cheat {
            put("dislodged".to_owned(), Some(if self.dislodged.is_some() { 1.0 } else { 0.0 }));
            put("dislodge".to_owned(), self.dislodged.map(|at| f64::from(at) - f64::from(cheat.at)));
        }
        let honest: Vec<&Side> =
            self.sides.iter().zip(&self.honest).filter(|(_, h)| **h).map(|(side, _)| side).collect();
        let paid: f64 = honest.iter().map(|side| side.dividends).sum();
        let stake: f64 = honest.iter().map(|side| side.stake).sum();
        let fresh: Vec<f64> = honest.iter().flat_map(|side| side.freshness.iter().copied()).collect();
        put("freshness_p05.honest".to_owned(), percentile(&fresh, 0.05));
        put("freshness.honest".to_owned(), mean(&fresh));
        for (agent, side) in scenario.agents.iter().zip(&self.sides) {
            let name = |figure: &str| format!("{figure}.{}", agent.name);
            if !agent.is_honest() {
                put(
                    name("gap"),
                    (side.stake > 0.0 && paid > 0.0).then(|| side.dividends / side.stake / (paid / stake)),
                );
                put(name("freshness"), mean(&side.freshness));
                put(name("voice"), (side.stake > 0.0).then_some(side.voice / epochs));
                put(name("earned"), Some(side.earned));
                put(name("profit"), Some(side.earned - side.cost));
                put(name("misses"), (side.misses > 0).then(|| f64::from(side.misses)));
            }
            if agent.own_miners() > 0 {
                put(name("own_share"), Some(side.own / epochs));
                put(name("over_merit"), (side.merit > 0.0).then(|| side.own / side.merit));
            }
        }
        Figures { metrics, series: self.series }
    }
}

/// The part of what they are worth that victims are not paid: shares and qualities of both.
fn loss(victims: [f64; 2], others: [f64; 2]) -> Option<f64> {
    let ([share, quality], [of_others, theirs]) = (victims, others);
    (quality > 0.0 && share + of_others > 0.0)
        .then(|| 1.0 - share / (share + of_others) / (quality / (quality + theirs)))
}

/// How far victims fall behind the others, worth for worth.
fn gap(victims: [f64; 2], others: [f64; 2]) -> Option<f64> {
    let ([share, quality], [of_others, theirs]) = (victims, others);
    (quality > 0.0 && of_others > 0.0 && theirs > 0.0).then(|| 1.0 - share / quality / (of_others / theirs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s04_a_loss_is_of_what_a_victim_is_worth() {
        // Two of four equal miners have half of what the others have each: 1/6 each instead of 1/4.
        let (victims, others) = ([1.0 / 3.0, 2.0], [2.0 / 3.0, 2.0]);
        assert!(loss(victims, others).is_some_and(|loss| (loss - 1.0 / 3.0).abs() < 1e-12));
        assert!(gap(victims, others).is_some_and(|gap| (gap - 0.5).abs() < 1e-12));
        assert_eq!((loss([0.0; 2], others), gap(victims, [0.0; 2])), (None, None));
    }
}
