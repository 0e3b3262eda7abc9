//! A subnet played epoch by epoch: qualities move, agents speak, the ledger's own code closes the epoch.
//!
//! Every rule is asked of `ledger`: the epoch, freshness, what a seat loses. Here is only what the ledger has no part in:
//! what miners are worth, what validators see of it, and which of their words the next epoch can know.

use std::collections::VecDeque;
use std::sync::Arc;

use super::agents::{Public, Seen, View, Word, declared, holds_back, write};
use super::cast::{Miner, Validator, miners, validators};
use super::kinds::{Agent, Kind};
use super::scenario::{QualityLaw, Scenario};
use super::tally::{Figures, Glance, Tally};
use crate::ledger::economy::split::split;
use crate::ledger::incentive::fixed::{ONE, Q};
use crate::ledger::incentive::{
    BOND_FLOOR, BondBlock, ColumnInput, EpochInput, EpochJob, EpochResult, Movement, RowInput, Workspace,
};
use crate::ledger::seats::cut;
use crate::protocol::ids::{Height, MemberId};
use crate::protocol::parameters::{NetworkKind, SubnetRules};
use crate::protocol::units::MOTES_PER_STAR;

/// A world, one seed of one scenario.
struct World<'a> {
    scenario: &'a Scenario,
    validators: Vec<Validator>,
    miners: Vec<Miner>,
    bonds: Vec<Arc<BondBlock>>,
    bond_floor: u32,
    related: Vec<(MemberId, MemberId)>,
    /// Qualities of the last epochs by place of the miner, the newest last.
    past: VecDeque<Vec<f64>>,
    /// What became public in the last epochs, the newest last.
    public: VecDeque<Public>,
    /// The miner that cheats, and what it was worth before.
    cheat: Option<(usize, f64)>,
    /// What a group that may hold back a reveal usually earns, by agent.
    usual: Vec<Option<f64>>,
    /// The height the epoch closes at.
    now: Height,
    workspace: Workspace,
    scores: Vec<f64>,
    tally: Tally,
}

/// Plays a scenario with one seed.
pub fn play(scenario: &Scenario, seed: u64, series: bool) -> Figures {
    let mut world = World::new(scenario, seed, series);
    for epoch in 0..scenario.epochs {
        world.step(epoch);
    }
    world.tally.figures(scenario)
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, seed: u64, series: bool) -> Self {
        let validators = validators(scenario, seed);
        let first = u32::try_from(validators.len()).unwrap_or(u32::MAX);
        let miners = miners(scenario, first, seed);
        let mut related = Vec::new();
        for validator in &validators {
            let kind = scenario.agents.get(validator.agent).map(|agent| &agent.kind);
            if kind.is_some_and(declared) {
                let own = miners.iter().filter(|miner| miner.owner == Some(validator.agent));
                related.extend(own.map(|miner| (validator.member, miner.member)));
            }
        }
        Self {
            scenario,
            tally: Tally::new(scenario, series),
            usual: vec![None; scenario.agents.len()],
            validators,
            miners,
            bonds: Vec::new(),
            bond_floor: BOND_FLOOR,
            related,
            past: VecDeque::new(),
            public: VecDeque::new(),
            cheat: None,
            now: 0,
            workspace: Workspace::new(),
            scores: Vec::new(),
        }
    }

    /// One epoch, from the movement of qualities to what is paid.
    fn step(&mut self, epoch: u32) {
        let seen = self.look(epoch);
        self.now = (u64::from(epoch) + 1).saturating_mul(self.scenario.tempo);
        let words = self.hear(epoch, &seen);
        let result = self.close(&words);
        self.learn(&result);
        let glance = Glance {
            epoch,
            result: &result,
            validators: &self.validators,
            miners: &seen,
            worthless: &self.miners.iter().map(|miner| miner.worthless).collect::<Vec<bool>>(),
            cheat: self.cheat.map(|(place, _)| place),
        };
        self.tally.take(&glance);
    }

    /// Moves the qualities and says what there is to see, miners by id.
    fn look(&mut self, epoch: u32) -> Vec<Seen> {
        let miners = &self.scenario.miners;
        let sigma = miners.quality.sigma;
        // A step of `drift` in the logarithm; what it adds is taken from the rest, so that the law stays the same.
        let part = if sigma > 0.0 { (miners.drift / sigma).min(1.0) } else { 0.0 };
        let keep = (1.0 - part * part).sqrt();
        for miner in &mut self.miners {
            let (step, shock, anew) = (miner.chance.normal(), miner.chance.unit(), miner.chance.normal());
            if epoch > 0 {
                miner.level = keep * miner.level + part * step;
            }
            if shock < miners.shock.rate {
                miner.level = anew;
            }
        }
        let equal = miners.quality.law == QualityLaw::Equal;
        let worth = |miner: &Miner| match miner.fixed {
            Some(fixed) => fixed,
            None if equal => 1.0,
            None => libm::exp(sigma * miner.level),
        };
        let mut now: Vec<f64> = self.miners.iter().map(worth).collect();
        if miners.cheat.is_some_and(|cheat| cheat.at == epoch) {
            let regular = |at: &(usize, &f64)| self.miners.get(at.0).is_some_and(|miner| miner.owner.is_none());
            let best = now.iter().enumerate().filter(regular).max_by(|a, b| a.1.total_cmp(b.1));
            self.cheat = best.map(|(place, worth)| (place, *worth));
        }
        let believed = now.clone();
        if let Some((place, before)) = self.cheat {
            now.get_mut(place).into_iter().for_each(|worth| *worth = 0.0);
            if let Some(miner) = self.miners.get_mut(place) {
                // The believers go on seeing what it was.
                (miner.worthless, miner.fixed) = (true, Some(before));
            }
        }
        let delay = self.scenario.agents.iter().map(|agent| late_by(&agent.kind)).max().unwrap_or(0);
        self.past.push_back(now.clone());
        while self.past.len() > delay + 1 {
            self.past.pop_front();
        }
        let earlier = self.past.front().unwrap_or(&now);
        let all = self.miners.iter().zip(&now).zip(&believed).zip(earlier);
        let seen = |(((miner, quality), believed), earlier): (((&Miner, &f64), &f64), &f64)| Seen {
            member: miner.member,
            quality: *quality,
            earlier: *earlier,
            believed: *believed,
            owner: miner.owner,
            victim: miner.victim,
        };
        all.map(seen).collect()
    }

    /// What every validator hands in.
    fn hear(&mut self, epoch: u32, seen: &[Seen]) -> Vec<Word> {
        let mut words = Vec::with_capacity(self.validators.len());
        for validator in &mut self.validators {
            let Some(agent) = self.scenario.agents.get(validator.agent) else { continue };
            let back = match &agent.kind {
                Kind::Copier { lag, .. } => usize::try_from((*lag).max(self.scenario.subnet.conceal)).unwrap_or(1),
                _ => 1,
            };
            let public = self.public.len().checked_sub(back).and_then(|at| self.public.get(at));
            let view = View {
                agent: validator.agent,
                kind: &agent.kind,
                epoch,
                miners: seen,
                public,
                last: validator.row.as_ref().map(|row| &row.0),
                scores: &mut self.scores,
            };
            validator.errors.turn_to(epoch);
            validator.whims.turn_to(epoch);
            words.push(write(view, &mut validator.errors, &mut validator.whims));
        }
        words
    }

    /// Closes the epoch; groups that may hold back a reveal look at both ways first.
    fn close(&mut self, words: &[Word]) -> EpochResult {
        let holders: Vec<usize> = (0..self.scenario.agents.len())
            .filter(|at| self.scenario.agents.get(*at).is_some_and(|agent| may_hold_back(&agent.kind)))
            .collect();
        let mut missing = vec![false; self.scenario.agents.len()];
        for agent in holders {
            let Some(Kind::NonRevealer { rule, .. }) = self.scenario.agents.get(agent).map(|agent| &agent.kind) else {
                continue;
            };
            let result = self.run(words, &missing);
            let with = self.income(&result, agent);
            if let Some(missing) = missing.get_mut(agent) {
                *missing = true;
            }
            let result = self.run(words, &missing);
            let without = self.income(&result, agent);
            let usual = self.usual.get_mut(agent);
            let holds = holds_back(*rule, with, without, usual.as_deref().copied().flatten());
            if let Some(usual) = usual {
                *usual = Some(usual.map_or(with, |usual| usual + (with - usual) / 16.0));
            }
            if let Some(missing) = missing.get_mut(agent) {
                *missing = holds;
            }
        }
        let result = self.run(words, &missing);
        for (validator, word) in self.validators.iter_mut().zip(words) {
            let missed = missing.get(validator.agent).copied().unwrap_or(false);
            if missed {
                let agent = self.scenario.agents.get(validator.agent);
                let bond = agent.map_or(0, |agent| bond_of(&agent.kind));
                self.tally.miss(validator.agent, cut(bond, validator.misses.count_ones()));
            } else if let Word::Row(row) = word {
                validator.row = Some((row.clone(), self.now));
            }
            validator.misses = (validator.misses << 1) | u16::from(missed);
        }
        result
    }

    fn run(&mut self, words: &[Word], missing: &[bool]) -> EpochResult {
        let height = self.now;
        let gate = self.scenario.subnet.switches.freshness_gate;
        let total: u128 = self.validators.iter().map(|v| u128::from(v.stake)).sum();
        let rows = self.validators.iter().zip(words).map(|(validator, word)| {
            let missed = missing.get(validator.agent).copied().unwrap_or(false);
            let fresh = match word {
                Word::Row(row) if !missed => Some((row, height)),
                _ => validator.row.as_ref().map(|(row, at)| (row, *at)),
            };
            let part = crate::ledger::incentive::fixed::ratio(u128::from(validator.stake), total);
            RowInput {
                member: validator.member,
                stake: validator.stake,
                permit: validator.permit,
                last_activity: fresh.map(|(_, at)| at),
                missed,
                commit: None,
                gate: if gate { validator.fresh.gate(part) } else { ONE },
                weights: fresh.map_or_else(|| [].into(), |(row, _)| row.clone()),
            }
        });
        let parts = split(self.scenario.subnet.grant, SubnetRules::defaults(NetworkKind::Public).owner_bp);
        let column = |m: &Miner| ColumnInput { member: m.member, registered: m.registered, reset: false };
        let input = EpochInput {
            switches: self.scenario.switches(),
            rules: self.scenario.rules(),
            height,
            last_close: height.checked_sub(self.scenario.tempo).filter(|last| *last > 0),
            owner: None,
            miner_pot: parts.miners,
            validator_pot: parts.validators,
            rows: rows.collect(),
            columns: self.miners.iter().map(column).collect(),
            related: self.related.clone(),
            bonds: self.bonds.clone(),
            bond_floor: self.bond_floor,
        };
        let job = EpochJob::new(input);
        assert!(job.is_ok(), "violation: an agent handed in a row the ledger would not admit");
        job.map(|job| job.run(&mut self.workspace)).unwrap_or_default()
    }

    /// What an agent earns in an epoch, its miners counted.
    fn income(&self, result: &EpochResult, agent: usize) -> f64 {
        let rows =
            result.rows.iter().zip(&self.validators).filter(|(_, v)| v.agent == agent).map(|(row, _)| row.amount);
        let own = result.columns.iter().zip(&self.miners).filter(|(_, m)| m.owner == Some(agent));
        rows.chain(own.map(|(column, _)| column.amount)).sum::<u64>() as f64
    }

    /// What the next epoch knows of this one.
    fn learn(&mut self, result: &EpochResult) {
        let consensus: Vec<(MemberId, Q)> = result.columns.iter().map(|c| (c.member, c.consensus)).collect();
        let conceal = usize::try_from(self.scenario.subnet.conceal).unwrap_or(1);
        if let Some(before) = self.public.len().checked_sub(conceal).and_then(|at| self.public.get(at)) {
            let movement = Movement::new(&before.consensus, &consensus);
            for validator in &mut self.validators {
                // Who did not reveal in this period is not judged by it.
                if let Some((row, at)) = &validator.row
                    && *at == self.now
                {
                    validator.fresh.observe(&movement, row);
                }
            }
        }
        let honest = |v: &&Validator| self.scenario.agents.get(v.agent).is_some_and(Agent::is_honest);
        let leader = self.validators.iter().filter(honest).max_by_key(|v| v.stake);
        let leader = leader.and_then(|leader| leader.row.as_ref()).map(|(row, _)| row.clone());
        self.public.push_back(Public { consensus, leader });
        while self.public.len() > 65 {
            self.public.pop_front();
        }
        for (validator, row) in self.validators.iter_mut().zip(&result.rows) {
            validator.permit = row.permit;
        }
        let blocks = result.bonds.blocks(&result.rows, &result.columns);
        self.bonds = blocks.into_iter().map(|(_, block)| Arc::new(block)).collect();
        self.bond_floor = result.bond_floor;
    }
}

fn may_hold_back(kind: &Kind) -> bool {
    matches!(kind, Kind::NonRevealer { .. })
}

/// The bond of a seat, in motes.
fn bond_of(kind: &Kind) -> u64 {
    match kind {
        Kind::NonRevealer { bond, .. } => u64::from(*bond).saturating_mul(MOTES_PER_STAR),
        _ => 0,
    }
}

fn late_by(kind: &Kind) -> usize {
    match kind {
        Kind::LateMover { delay, .. } => usize::try_from(*delay).unwrap_or(0),
        _ => 0,
    }
}
