//! Who is there (S2): validators with their stake and miners with their quality, drawn from one seed.

use super::chance::{Chance, Purpose};
use super::kinds::{Agent, Kind};
use super::scenario::{Scenario, StakeLaw};
use crate::ledger::incentive::fixed::Q;
use crate::ledger::incentive::{Freshness, RowWeights, top};
use crate::protocol::ids::{Height, MemberId};

/// All stake there is, in motes.
const STAKE: f64 = 1e15;

/// A validator of the world.
#[derive(Debug)]
pub struct Validator {
    pub member: MemberId,
    pub agent: usize,
    pub stake: u64,
    pub permit: bool,
    pub fresh: Freshness,
    /// What it revealed last, and when.
    pub row: Option<(RowWeights, Height)>,
    /// Of the last sixteen periods, which it did not open.
    pub misses: u16,
    pub errors: Chance,
    pub whims: Chance,
}

/// A miner of the world.
#[derive(Debug)]
pub struct Miner {
    pub member: MemberId,
    pub owner: Option<usize>,
    pub worthless: bool,
    pub victim: bool,
    /// Its quality as a multiple of its law's deviation.
    pub level: f64,
    /// A quality that does not move.
    pub fixed: Option<f64>,
    pub registered: Height,
    pub chance: Chance,
}

/// How many validators each agent has.
fn seats(scenario: &Scenario) -> Vec<u32> {
    let all = scenario.stake.validators;
    let of = |agent: &Agent| match (&agent.kind, agent.members) {
        (Kind::WhaleSplit { pieces, .. }, _) => *pieces,
        (Kind::SybilMiner { .. }, _) => 0,
        (_, Some(members)) => members,
        _ => rounded(agent.stake * f64::from(all)).max(1),
    };
    let mut seats: Vec<u32> = scenario.agents.iter().map(|a| if a.is_honest() { 0 } else { of(a) }).collect();
    let left = all.saturating_sub(seats.iter().sum());
    let honest = honest_parts(scenario);
    let count = honest.iter().filter(|part| **part > 0.0).count();
    let last = honest.iter().rposition(|part| *part > 0.0);
    let mut given = 0;
    for (at, (seat, part)) in seats.iter_mut().zip(&honest).enumerate().filter(|(_, (_, part))| **part > 0.0) {
        let share =
            if count == 1 || Some(at) == last { left.saturating_sub(given) } else { rounded(part * f64::from(left)) };
        let fixed = scenario.agents.get(at).and_then(|agent| agent.members);
        *seat = fixed.unwrap_or(share).max(1);
        given += *seat;
    }
    seats
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn rounded(value: f64) -> u32 {
    value.round().max(0.0) as u32
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn motes(value: f64) -> u64 {
    value.round().max(0.0) as u64
}

/// What part of the honest stake each honest agent has.
fn honest_parts(scenario: &Scenario) -> Vec<f64> {
    let wish = |agent: &Agent| match agent.is_honest() {
        true if agent.stake > 0.0 => agent.stake,
        true => 1e-9,
        false => 0.0,
    };
    let total: f64 = scenario.agents.iter().map(wish).sum();
    scenario.agents.iter().map(|agent| wish(agent) / total).collect()
}

/// Validators agent by agent; stake by the law, each agent's sum exactly its part.
pub fn validators(scenario: &Scenario, seed: u64) -> Vec<Validator> {
    let mut chance = Chance::new(seed, Purpose::Stake);
    let attack: f64 = scenario.agents.iter().filter(|agent| !agent.is_honest()).map(|agent| agent.stake).sum();
    let honest = honest_parts(scenario);
    let mut validators = Vec::new();
    let mut number = 0;
    for (agent, count) in seats(scenario).into_iter().enumerate() {
        let Some(of) = scenario.agents.get(agent) else { continue };
        let part = if of.is_honest() { honest.get(agent).copied().unwrap_or(0.0) * (1.0 - attack) } else { of.stake };
        let equal = scenario.stake.law == StakeLaw::Equal || matches!(of.kind, Kind::WhaleSplit { .. });
        let drawn: Vec<f64> = (0..count).map(|_| chance.pareto(scenario.stake.alpha)).collect();
        let drawn: Vec<f64> = if equal { vec![1.0; drawn.len()] } else { drawn };
        let total: f64 = drawn.iter().sum();
        for share in drawn {
            validators.push(Validator {
                member: MemberId(number),
                agent,
                stake: motes(STAKE * part * share / total),
                permit: false,
                fresh: Freshness::default(),
                row: None,
                misses: 0,
                errors: Chance::new(seed, Purpose::Errors(number)),
                whims: Chance::new(seed, Purpose::Whims(number)),
            });
            number += 1;
        }
    }
    // Seats are held from the start, by those with the most stake.
    let stakes: Vec<Q> = validators.iter().map(|v| Q::try_from(v.stake).unwrap_or(Q::MAX)).collect();
    let permits = top(&stakes, usize::try_from(scenario.subnet.seats).unwrap_or(usize::MAX));
    for (validator, permit) in validators.iter_mut().zip(permits) {
        validator.permit = permit;
    }
    validators
}

/// Regular miners, some of them worthless and some victims; then each agent's own.
pub fn miners(scenario: &Scenario, first: u32, seed: u64) -> Vec<Miner> {
    let regular = usize::try_from(scenario.miners.count).unwrap_or(0);
    let worthless = usize::try_from(scenario.miners.worthless).unwrap_or(0);
    let chosen = scenario.agents.iter().map(|agent| match agent.kind {
        Kind::Downweight { victims, .. } => usize::try_from(victims).unwrap_or(0),
        _ => 0,
    });
    let chosen = Chance::new(seed, Purpose::Victims).pick(chosen.max().unwrap_or(0), regular.saturating_sub(worthless));
    let mut miners: Vec<Miner> = Vec::new();
    let add = |owner: Option<usize>, fixed: Option<f64>, miners: &mut Vec<Miner>| {
        let number = u32::try_from(miners.len()).unwrap_or(u32::MAX);
        let mut chance = Chance::new(seed, Purpose::Quality(number));
        let level = chance.normal();
        miners.push(Miner {
            member: MemberId(first.saturating_add(number)),
            owner,
            worthless: fixed == Some(0.0),
            victim: owner.is_none() && chosen.binary_search(&miners.len()).is_ok(),
            level,
            fixed,
            registered: 0,
            chance,
        });
    };
    for at in 0..regular {
        let rubbish = at >= regular.saturating_sub(worthless);
        add(None, rubbish.then_some(0.0), &mut miners);
    }
    for (agent, of) in scenario.agents.iter().enumerate() {
        for _ in 0..of.own_miners() {
            let fixed = match of.kind {
                Kind::Colluder { .. } => Some(0.0),
                Kind::SelfDealer { .. } => Some(1.0),
                // One machine's capacity, shared by all its registrations: the scorer is additive (D9).
                Kind::SybilMiner { ids, capacity } => Some(capacity / f64::from(ids)),
                _ => None,
            };
            add(Some(agent), fixed, &mut miners);
        }
    }
    miners
}
