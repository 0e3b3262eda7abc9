//! The economy between subnets, term by term: who burns, who supports, what is granted (E4, E6, E7, A15, A16).
//!
//! Grants, budgets and emission are asked of the ledger's own functions. A wash trader is judged in real terms: by the part
//! of all money it ends with, against the same world in which it did not trade with itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chance::{Chance, Purpose};
use super::scenario::{ScenarioError, range};
use super::tally::Figures;
use crate::ledger::economy::grants::{Claimant, Grant, Voice, divide};
use crate::ledger::economy::largest_remainder;
use crate::ledger::economy::split::split;
use crate::ledger::economy::supply::emission;
use crate::protocol::ids::{AccountId, SubnetId};
use crate::protocol::parameters::{NetworkKind, Parameters};
use crate::protocol::units::MOTES_PER_STAR;

const TERMS_MAX: u32 = 1_000_000;
const SUBNETS_MAX: usize = 256;
/// What the network's owner of a subnet gets by default, in hundredths of a percent (E8).
const OWNER_BP: u64 = 1_800;

/// A network over some terms.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Economy {
    pub v: u32,
    pub name: String,
    #[serde(default = "one")]
    pub seed: u64,
    #[serde(default = "thousand")]
    pub terms: u32,
    /// Money there is at the start, in STAR.
    #[serde(default = "supply")]
    pub supply: u64,
    #[serde(default = "validators")]
    pub validators: u32,
    /// The subnets of everybody else.
    pub subnets: Vec<Market>,
    #[serde(default)]
    pub agents: Vec<Player>,
    #[serde(default)]
    pub sweep: BTreeMap<String, Vec<Value>>,
}

fn one() -> u64 {
    1
}
fn thousand() -> u32 {
    1_000
}
fn supply() -> u64 {
    5_000_000
}
fn validators() -> u32 {
    32
}

/// A subnet somebody uses.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Market {
    /// Fees burnt in a term, in STAR, on average.
    pub burnt: f64,
    /// How much that differs from term to term.
    #[serde(default)]
    pub noise: f64,
    /// The part of the honest stake that supports it.
    #[serde(default)]
    pub support: f64,
}

/// Somebody with a plan.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Player {
    /// Buys from itself in a subnet of its own, until a term.
    Washer {
        /// Its part of all money.
        holding: f64,
        /// Burnt per term, in STAR.
        burn: f64,
        until: u32,
        /// Its part of the stake, all of it behind its own subnet.
        #[serde(default)]
        stake: f64,
        #[serde(default = "yes")]
        owner: bool,
        #[serde(default = "yes")]
        miners: bool,
        #[serde(default = "yes")]
        validators: bool,
    },
    /// Gives all its support to an empty subnet of its own.
    SupportCabal { stake: f64 },
}

fn yes() -> bool {
    true
}

impl Player {
    fn stake(&self) -> f64 {
        match self {
            Self::Washer { stake, .. } | Self::SupportCabal { stake } => *stake,
        }
    }
}

/// Reads one network.
///
/// # Errors
/// It is not understood, or a value is out of range.
pub fn parse(document: &Value) -> Result<Economy, ScenarioError> {
    let economy = Economy::deserialize(document).map_err(|error| ScenarioError::Shape(error.to_string()))?;
    let within = |what: &str, found: f64, low: f64, high: f64| {
        let wanted = format!("{low} to {high} is understood");
        if (low..=high).contains(&found) { Ok(()) } else { Err(range(what, &found, &wanted)) }
    };
    within("v", economy.v.into(), 1.0, 1.0)?;
    within("terms", economy.terms.into(), 1.0, TERMS_MAX.into())?;
    within("validators", economy.validators.into(), 1.0, 1_024.0)?;
    within("supply", economy.supply as f64, 1.0, 21_000_000.0)?;
    within("the number of subnets", economy.subnets.len() as f64, 0.0, SUBNETS_MAX as f64)?;
    for market in &economy.subnets {
        within("burnt", market.burnt, 0.0, 1e6)?;
        within("noise", market.noise, 0.0, 3.0)?;
        within("support", market.support, 0.0, 1.0)?;
    }
    for player in &economy.agents {
        within("the stake of an agent", player.stake(), 0.0, 0.99)?;
        if let Player::Washer { holding, burn, .. } = player {
            within("holding", *holding, 0.0, 1.0)?;
            within("burn", *burn, 0.0, 1e6)?;
        }
    }
    within("the stake of all agents", economy.agents.iter().map(Player::stake).sum(), 0.0, 0.99)?;
    Ok(economy)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn motes(star: f64) -> u64 {
    (star * MOTES_PER_STAR as f64).max(0.0) as u64
}

fn account(number: usize) -> AccountId {
    let mut bytes = [0; 32];
    bytes.iter_mut().zip(number.to_le_bytes()).for_each(|(byte, of)| *byte = of);
    AccountId(bytes)
}

fn subnet(number: usize) -> SubnetId {
    SubnetId(u32::try_from(number).unwrap_or(u32::MAX))
}

/// All money, and what of it was granted where.
#[derive(Debug, Default)]
struct Books {
    supply: u128,
    /// What each agent has.
    held: Vec<f64>,
    banks: Vec<u64>,
    granted: Vec<u64>,
    burnt: Vec<u64>,
    support_pots: u64,
    supported: Vec<u64>,
}

/// Plays a network; `washing` or the same world without it.
fn run(economy: &Economy, seed: u64, washing: bool) -> Books {
    let parameters = Parameters::defaults(NetworkKind::Public);
    let markets = economy.subnets.len();
    let count = markets + economy.agents.len();
    let voices = voices(economy, seed);
    let mut chance = Chance::new(seed, Purpose::Quality(0));
    let supply = u128::from(economy.supply) * u128::from(MOTES_PER_STAR);
    let held = |player: &Player| match player {
        Player::Washer { holding, .. } => holding * supply as f64,
        Player::SupportCabal { .. } => 0.0,
    };
    let mut books = Books {
        supply,
        held: economy.agents.iter().map(held).collect(),
        banks: vec![0; count],
        granted: vec![0; count],
        burnt: vec![0; count],
        supported: vec![0; count],
        ..Books::default()
    };
    for term in 0..economy.terms {
        let mut burnt: Vec<u64> = Vec::with_capacity(count);
        for market in &economy.subnets {
            burnt.push(motes(market.burnt * libm::exp(market.noise * chance.normal())));
        }
        burnt.extend(economy.agents.iter().map(|player| match player {
            Player::Washer { burn, until, .. } if washing && term < *until => motes(*burn),
            _ => 0,
        }));
        books.turn(&parameters, economy, &voices, &burnt);
    }
    books
}

/// Validators: everybody's first, then each agent's.
fn voices(economy: &Economy, seed: u64) -> Vec<Voice> {
    let markets = economy.subnets.len();
    let mut chance = Chance::new(seed, Purpose::Stake);
    let agents: f64 = economy.agents.iter().map(Player::stake).sum();
    let whole: f64 = economy.subnets.iter().map(|market| market.support).sum();
    let drawn: Vec<f64> = (0..economy.validators).map(|_| chance.pareto(1.2)).collect();
    let total: f64 = drawn.iter().sum();
    let stake = |part: f64| motes(part * 1e6);
    // Each honest validator supports the subnets in the same proportion: what they agree on is not the question here.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let part = |market: &Market| if whole > 0.0 { (market.support / whole.max(1.0) * 65_535.0) as u16 } else { 0 };
    let parts: Vec<(SubnetId, u16)> =
        economy.subnets.iter().enumerate().map(|(at, market)| (subnet(at), part(market))).filter(|p| p.1 > 0).collect();
    let honest = drawn.iter().enumerate().map(|(at, share)| Voice {
        account: account(at),
        stake: stake((1.0 - agents) * share / total),
        parts: parts.clone(),
    });
    let own = economy.agents.iter().enumerate().map(|(at, player)| Voice {
        account: account(drawn.len() + at),
        stake: stake(player.stake()),
        parts: vec![(subnet(markets + at), u16::MAX)],
    });
    honest.chain(own).filter(|voice| voice.stake > 0).collect()
}

impl Books {
    /// One term: fees are burnt, banks are drawn on, the budget is granted and minted.
    fn turn(&mut self, parameters: &Parameters, economy: &Economy, voices: &[Voice], burnt: &[u64]) {
        let markets = economy.subnets.len();
        for (at, ((bank, sum), burnt)) in self.banks.iter_mut().zip(&mut self.burnt).zip(burnt).enumerate() {
            *bank = bank.saturating_add(*burnt);
            *sum = sum.saturating_add(*burnt);
            self.supply = self.supply.saturating_sub(u128::from(*burnt));
            if let Some(held) = at.checked_sub(markets).and_then(|agent| self.held.get_mut(agent)) {
                *held -= *burnt as f64;
            }
        }
        let shift = u32::try_from(parameters.usage_draw_shift).unwrap_or(u32::MAX);
        let claimants: Vec<Claimant> = self
            .banks
            .iter_mut()
            .enumerate()
            .map(|(at, bank)| {
                let draw = bank.checked_shr(shift).unwrap_or(0);
                *bank -= draw;
                // Hidden keys: nothing tells the ledger whose subnet it is, and its members look busy.
                Claimant { subnet: subnet(at), draw, open: true, deaf: Vec::new() }
            })
            .collect();
        let rate = emission(self.supply, parameters.emission_base, parameters.supply_cap);
        let parts = [parameters.committee_bp, parameters.usage_bp, parameters.support_bp];
        let parts = largest_remainder(rate.saturating_mul(parameters.term_heights), &parts);
        let [committee, usage, support] = <[u64; 3]>::try_from(parts).unwrap_or_default();
        self.support_pots = self.support_pots.saturating_add(support);
        self.supply += u128::from(committee);
        for (at, grant) in divide(parameters, usage, support, voices, &claimants).into_iter().enumerate() {
            self.grant(
                at,
                grant,
                at.checked_sub(markets).and_then(|agent| economy.agents.get(agent).map(|p| (agent, p))),
            );
        }
    }

    fn grant(&mut self, at: usize, grant: Grant, player: Option<(usize, &Player)>) {
        let amount = grant.usage.saturating_add(grant.support);
        self.supply += u128::from(amount);
        for (sums, amount) in [(&mut self.granted, amount), (&mut self.supported, grant.support)] {
            if let Some(sum) = sums.get_mut(at) {
                *sum = sum.saturating_add(amount);
            }
        }
        let Some((agent, player)) = player else { return };
        let parts = split(amount, OWNER_BP);
        let (owner, miners, validators) = match player {
            Player::Washer { owner, miners, validators, .. } => (*owner, *miners, *validators),
            Player::SupportCabal { .. } => (true, true, true),
        };
        let kept = [(owner, parts.owner), (miners, parts.miners), (validators, parts.validators)];
        if let Some(held) = self.held.get_mut(agent) {
            *held += kept.into_iter().filter(|(has, _)| *has).map(|(_, part)| part).sum::<u64>() as f64;
        }
    }
}

/// The figures of one seed.
pub fn play(economy: &Economy, seed: u64) -> Figures {
    let (with, without) = (run(economy, seed, true), run(economy, seed, false));
    let mut metrics = BTreeMap::new();
    let markets = economy.subnets.len();
    for (agent, player) in economy.agents.iter().enumerate() {
        let of = |list: &[u64]| list.get(markets + agent).copied().unwrap_or(0) as f64;
        let name = match player {
            Player::Washer { .. } => "washer",
            Player::SupportCabal { .. } => "support_cabal",
        };
        let mut put = |figure: &str, value: f64| metrics.insert(format!("{figure}.{name}"), value);
        put("granted", of(&with.granted));
        put("burnt", of(&with.burnt));
        put("support_part", of(&with.supported) / (with.support_pots as f64).max(1.0));
        let held = |books: &Books| books.held.get(agent).copied().unwrap_or(0.0);
        // Its part of all money, in money of the world where it did not wash.
        let real = held(&with) / with.supply as f64 * without.supply as f64;
        put("profit", real - held(&without));
        if of(&with.burnt) > 0.0 {
            put("profit_per_burnt", (real - held(&without)) / of(&with.burnt));
        }
    }
    let all: u64 = with.granted.iter().sum();
    metrics.insert("granted".to_owned(), all as f64);
    metrics.insert("minted_less_burnt".to_owned(), with.supply as f64 - economy.supply as f64 * MOTES_PER_STAR as f64);
    Figures { metrics, series: BTreeMap::new() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn washer(change: &Value) -> Value {
        let mut player = json!({ "kind": "washer", "holding": 0.2, "burn": 10, "until": 100 });
        let object = player.as_object_mut().unwrap();
        object.extend(change.as_object().unwrap().clone());
        json!({ "v": 1, "name": "t", "terms": 300, "subnets": [{ "burnt": 5, "support": 0.5 }], "agents": [player] })
    }

    fn figure(document: &Value, name: &str) -> f64 {
        play(&parse(document).unwrap(), 1).metrics[name]
    }

    #[test]
    fn e06_washing_returns_at_most_three_quarters_of_what_it_burns() {
        let document = washer(&json!({ "stake": 0.2 }));
        let plain = figure(&document, "granted.washer") - 300.0 * 0.0;
        assert!(plain > 0.0);
        let burnt = figure(&document, "burnt.washer");
        assert!((burnt - 1_000.0 * 1e9).abs() < 1.0);
        assert!(figure(&document, "profit.washer") < 0.0);
        let alone = washer(&json!({ "stake": 0.0 }));
        // Without any support the gate lets a quarter of three quarters through.
        let back = figure(&alone, "granted.washer") / burnt;
        assert!((back - 0.75 * 0.25).abs() < 0.001, "{back}");
    }

    #[test]
    fn e07_a_cabal_below_the_quorum_gets_nothing() {
        let of = |stake: f64| {
            let agents = json!([{ "kind": "support_cabal", "stake": stake }]);
            let document = json!({ "v": 1, "name": "t", "terms": 20, "subnets": [{ "burnt": 5, "support": 0.5 }], "agents": agents });
            figure(&document, "support_part.support_cabal")
        };
        assert_eq!(of(0.05), 0.0);
        assert!((of(0.15) - 0.15).abs() < 0.001, "{}", of(0.15));
    }

    #[test]
    fn s02_what_is_no_network_is_refused_in_words() {
        let refusal = |document: &Value| parse(document).unwrap_err().to_string();
        assert!(refusal(&washer(&json!({ "colour": 1 }))).contains("unknown field `colour`"));
        assert!(refusal(&washer(&json!({ "holding": 2 }))).contains("holding is 2"));
        assert!(refusal(&washer(&json!({ "kind": "honest" }))).contains("unknown variant `honest`"));
    }
}
