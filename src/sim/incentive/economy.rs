//! The economy between subnets, term by term: who burns, who supports, what is granted (E4, E6, E7, A15, A16).
//!
//! Grants, budgets and emission are asked of the ledger's own functions. A wash trader is judged in real terms: by the part
//! of all money it ends with, against the same world in which it did not trade with itself.

use std::collections::BTreeMap;

use super::chance::{Chance, Purpose};
use super::network::{Economy, Market, Player};
use super::tally::Figures;
use crate::ledger::economy::grants::{Claimant, Grant, Voice, divide};
use crate::ledger::economy::largest_remainder;
use crate::ledger::economy::split::split;
use crate::ledger::economy::supply::emission;
use crate::protocol::ids::{AccountId, SubnetId};
use crate::protocol::parameters::{NetworkKind, Parameters, SubnetRules};
use crate::protocol::units::MOTES_PER_STAR;

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
    /// What might have been minted, and what was.
    budgets: u64,
    minted: u64,
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
            let Some(agent) = at.checked_sub(markets) else { continue };
            if let (Some(held), Some(player)) = (self.held.get_mut(agent), economy.agents.get(agent)) {
                *held -= *burnt as f64 * player.lost(parameters);
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
        self.budgets = self.budgets.saturating_add(committee).saturating_add(usage).saturating_add(support);
        self.mint(committee);
        for (at, grant) in divide(parameters, usage, support, voices, &claimants).into_iter().enumerate() {
            self.grant(
                at,
                grant,
                at.checked_sub(markets).and_then(|agent| economy.agents.get(agent).map(|p| (agent, p))),
            );
        }
    }

    fn mint(&mut self, amount: u64) {
        self.supply += u128::from(amount);
        self.minted = self.minted.saturating_add(amount);
    }

    fn grant(&mut self, at: usize, grant: Grant, player: Option<(usize, &Player)>) {
        let amount = grant.usage.saturating_add(grant.support);
        self.mint(amount);
        for (sums, amount) in [(&mut self.granted, amount), (&mut self.supported, grant.support)] {
            if let Some(sum) = sums.get_mut(at) {
                *sum = sum.saturating_add(amount);
            }
        }
        let Some((agent, player)) = player else { return };
        let parts = split(amount, SubnetRules::defaults(NetworkKind::Public).owner_bp);
        let kept = player.roles().into_iter().zip([parts.owner, parts.miners, parts.validators]);
        if let Some(held) = self.held.get_mut(agent) {
            *held += kept.filter(|(has, _)| *has).map(|(_, part)| part).sum::<u64>() as f64;
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
        let mut put = |figure: &str, value: f64| metrics.insert(format!("{figure}.{}", player.name()), value);
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
    for at in 0..markets {
        let of = |list: &[u64]| list.get(at).copied().unwrap_or(0) as f64;
        metrics.insert(format!("granted.subnet{at}"), of(&with.granted));
        metrics.insert(format!("support_part.subnet{at}"), of(&with.supported) / (with.support_pots as f64).max(1.0));
        if of(&with.burnt) > 0.0 {
            let usage = of(&with.granted) - of(&with.supported);
            metrics.insert(format!("usage_part.subnet{at}"), usage / of(&with.burnt));
            metrics.insert(format!("burnt.subnet{at}"), of(&with.burnt));
        }
    }
    metrics.insert("granted".to_owned(), with.granted.iter().sum::<u64>() as f64);
    metrics.insert("minted".to_owned(), with.minted as f64);
    metrics.insert("unminted_part".to_owned(), 1.0 - with.minted as f64 / (with.budgets as f64).max(1.0));
    metrics.insert("supply".to_owned(), with.supply as f64);
    Figures { metrics, series: BTreeMap::new() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::network::parse;
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
        let burnt = 1_000.0 * MOTES_PER_STAR as f64;
        let alone = washer(&json!({ "stake": 0.0 }));
        assert!((figure(&alone, "burnt.washer") - burnt).abs() < 1.0);
        // Without any support the gate lets a quarter of three quarters through.
        let back = figure(&alone, "granted.washer") / burnt;
        assert!((back - 0.75 * 0.25).abs() < 0.001, "{back}");
        // With support, all of the three quarters, beside what the support itself brings with or without washing.
        let backed = washer(&json!({ "stake": 0.2 }));
        let idle = washer(&json!({ "stake": 0.2, "burn": 0 }));
        let back = (figure(&backed, "granted.washer") - figure(&idle, "granted.washer")) / burnt;
        assert!((back - 0.75).abs() < 0.001, "{back}");
        assert_eq!(figure(&idle, "profit.washer"), 0.0);
    }

    #[test]
    fn e10_a_washer_loses_what_it_pays_to_others() {
        let profit = |change: Value| figure(&washer(&change), "profit_per_burnt.washer");
        let (all, few) = (profit(json!({ "stake": 0.2 })), profit(json!({ "stake": 0.2, "miners": false })));
        // A quarter of what is burnt, less a fifth of that for its part of all money.
        assert!((all + 0.25 * 0.8).abs() < 0.01, "{all}");
        // Miners have eight times what is burnt, and 41 % of the grant.
        assert!((few - all + 8.0 + 0.41 * 0.75).abs() < 0.02, "{few}");
    }

    #[test]
    fn e04_what_is_minted_is_what_the_supply_gained_and_burnt() {
        let document = washer(&json!({}));
        let of = |name: &str| figure(&document, name);
        let gained = of("supply") - 5e6 * MOTES_PER_STAR as f64;
        let burnt = of("burnt.washer") + of("burnt.subnet0");
        assert!((of("minted") - burnt - gained).abs() < 2.0, "{} {burnt} {gained}", of("minted"));
        // 300 terms of 60 STAR; the committee has a tenth.
        let committee = of("minted") - of("granted");
        assert!((committee - 300.0 * 6.0 * MOTES_PER_STAR as f64).abs() < 2.0, "{committee}");
        assert!((of("unminted_part") - (1.0 - of("minted") / (18_000.0 * MOTES_PER_STAR as f64))).abs() < 1e-9);
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
        let mut two = washer(&json!({}));
        let agents = two["agents"].as_array_mut().unwrap();
        agents.push(agents[0].clone());
        assert!(refusal(&two).contains("one of each kind"));
    }
}
