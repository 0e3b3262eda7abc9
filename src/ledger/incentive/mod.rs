//! The machine that pays: what an epoch's weight vectors make of miners and validators.
//!
//! `close` is total and pure: it never fails and never panics, it knows no account balance and moves no money. It is
//! Yuma 3 with plain bonds in exact integers (32.32 fixed point): active stake, row shares, the stake-weighted median as
//! consensus, clipping, incentive, validator trust, bonds, dividends, and the permits of the next epoch. A validator's
//! word on a miner of its own account only counts downward (D8). Rows and columns are ordered by member id; the result
//! does not depend on the order they are given in.

pub mod consensus;
pub mod fixed;

use std::collections::BTreeMap;

use consensus::{Voice, median};
use fixed::{ONE, div, from_u16, mul, sat, share, to_raw32};

use crate::protocol::ids::{AccountId, Height, MemberId};
use crate::protocol::parameters::SubnetRules;
use crate::protocol::transaction::Weight;

/// Bonds below this are dropped: they could never be told from rounding.
const BOND_MIN: u64 = 256;

/// One validator of the closing epoch.
#[derive(Clone, Debug)]
pub struct ValidatorInput {
    pub member: MemberId,
    pub account: AccountId,
    pub stake: u64,
    pub permit: bool,
    pub last_reveal: Option<Height>,
    /// Committed for this epoch and did not reveal (D4).
    pub missed: bool,
    pub weights: Vec<Weight>,
    /// As stored: raw 0.32.
    pub bonds: Vec<(MemberId, u32)>,
}

/// One miner of the closing epoch.
#[derive(Clone, Copy, Debug)]
pub struct MinerInput {
    pub member: MemberId,
    pub account: AccountId,
}

/// Everything `close` looks at.
#[derive(Clone, Debug)]
pub struct EpochInput {
    pub height: Height,
    pub rules: SubnetRules,
    pub validators: Vec<ValidatorInput>,
    pub miners: Vec<MinerInput>,
}

/// What became of one validator. Shares are Q: 2^32 is the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatorOutcome {
    pub member: MemberId,
    /// Its part of all stake above the threshold (Y2).
    pub stake: u64,
    /// Its part of the stake that had a voice (Y4).
    pub active: u64,
    /// The part of its row that the consensus left standing (Y10).
    pub trust: u64,
    pub dividend: u64,
    pub bonds: Vec<(MemberId, u32)>,
    /// Whether it may set weights from now on (Y3).
    pub permit: bool,
}

/// What became of one miner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MinerOutcome {
    pub member: MemberId,
    pub consensus: u64,
    pub incentive: u64,
}

/// What an epoch comes to: rows and columns by member id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpochOutcome {
    pub validators: Vec<ValidatorOutcome>,
    pub miners: Vec<MinerOutcome>,
}

/// An entry of one miner's column.
#[derive(Clone, Copy)]
struct Entry {
    row: usize,
    /// The row's share for this miner, then what the consensus leaves of it (Y8).
    weight: u64,
    clipped: u64,
    related: bool,
}

/// One miner's column and what is found about it.
struct Column {
    miner: MinerInput,
    entries: Vec<Entry>,
    consensus: u64,
    /// Exact Q64 sum of active stake times clipped weight (Y10).
    rank: u128,
    incentive: u64,
}

/// Closes an epoch (Y1-Y16, native mode).
pub fn close(mut input: EpochInput) -> EpochOutcome {
    input.validators.sort_by_key(|row| row.member);
    input.miners.sort_by_key(|column| column.member);
    let stake = stake_shares(&input);
    let active = active_shares(&input, &stake);
    let voice = normalised(&active);
    let kappa = from_u16(u16::try_from(input.rules.kappa).unwrap_or(u16::MAX));
    let mut columns = columns(&input);
    for column in &mut columns {
        judge(column, &input.validators, &active, &voice, kappa);
    }
    let ranks: u128 = columns.iter().map(|column| column.rank).sum();
    for column in &mut columns {
        column.incentive = share(column.rank, ranks);
    }
    let mut trust = vec![0_u64; input.validators.len()];
    for entry in columns.iter().flat_map(|column| &column.entries) {
        if let Some(trust) = trust.get_mut(entry.row) {
            *trust = trust.saturating_add(entry.clipped);
        }
    }
    let (mut bonds, earned) = bonds_and_dividends(&input, &columns);
    let paid: Vec<u128> =
        earned.iter().zip(&active).map(|(earned, active)| (earned * u128::from(*active)) >> 32).collect();
    let total: u128 = paid.iter().sum();
    let permits = permits(&input, &stake);
    let mut validators = Vec::with_capacity(input.validators.len());
    for (row, validator) in input.validators.iter().enumerate() {
        let permit = permits.get(row).copied().unwrap_or(false);
        // Bonds belong to a permit; who loses it starts anew (Y16).
        let bonds = bonds.get_mut(row).map(std::mem::take).filter(|_| permit).unwrap_or_default();
        validators.push(ValidatorOutcome {
            member: validator.member,
            stake: stake.get(row).copied().unwrap_or(0),
            active: active.get(row).copied().unwrap_or(0),
            trust: trust.get(row).copied().unwrap_or(0),
            dividend: paid.get(row).map_or(0, |paid| share(*paid, total)),
            bonds,
            permit,
        });
    }
    let miners = columns
        .iter()
        .map(|c| MinerOutcome { member: c.miner.member, consensus: c.consensus, incentive: c.incentive })
        .collect();
    EpochOutcome { validators, miners }
}

/// Y2: shares of the stake that reaches the threshold.
fn stake_shares(input: &EpochInput) -> Vec<u64> {
    let raw = |row: &ValidatorInput| if row.stake < input.rules.validator_stake { 0 } else { row.stake };
    let total: u128 = input.validators.iter().map(|row| u128::from(raw(row))).sum();
    input.validators.iter().map(|row| share(raw(row).into(), total)).collect()
}

/// Y1, Y4: of those, the part of validators with a permit that revealed lately and kept their commit.
fn active_shares(input: &EpochInput, stake: &[u64]) -> Vec<u64> {
    let cutoff = input.rules.activity_epochs.saturating_mul(input.rules.tempo);
    let speaks = |row: &ValidatorInput| {
        row.permit && !row.missed && row.last_reveal.is_some_and(|last| last.saturating_add(cutoff) >= input.height)
    };
    let kept: Vec<u64> =
        input.validators.iter().zip(stake).map(|(row, stake)| if speaks(row) { *stake } else { 0 }).collect();
    normalised(&kept)
}

fn normalised(values: &[u64]) -> Vec<u64> {
    let total: u128 = values.iter().map(|value| u128::from(*value)).sum();
    values.iter().map(|value| share((*value).into(), total)).collect()
}

/// Y3: the seats of the next epoch go to the largest stakes, ties to the older member.
fn permits(input: &EpochInput, stake: &[u64]) -> Vec<bool> {
    let mut order: Vec<usize> = (0..stake.len()).collect();
    let of = |row: &usize| stake.get(*row).copied().unwrap_or(0);
    order.sort_by_key(|row| std::cmp::Reverse(of(row)));
    let seats = usize::try_from(input.rules.seats).unwrap_or(usize::MAX);
    let mut permits = vec![false; stake.len()];
    for row in order.into_iter().take(seats).filter(|row| of(row) > 0) {
        if let Some(permit) = permits.get_mut(row) {
            *permit = true;
        }
    }
    permits
}

/// Y5, Y6: rows of permitted validators as shares, turned into columns; entries for who is no miner are dropped first.
fn columns(input: &EpochInput) -> Vec<Column> {
    let place: BTreeMap<MemberId, usize> = input.miners.iter().map(|miner| miner.member).zip(0..).collect();
    let mut columns: Vec<Column> = input
        .miners
        .iter()
        .map(|miner| Column { miner: *miner, entries: Vec::new(), consensus: 0, rank: 0, incentive: 0 })
        .collect();
    for (row, validator) in input.validators.iter().enumerate().filter(|(_, validator)| validator.permit) {
        let kept = || validator.weights.iter().filter_map(|(id, w)| Some((*place.get(id)?, u128::from(*w))));
        let total: u128 = kept().map(|(_, weight)| weight).sum();
        for (at, weight) in kept().filter(|(_, weight)| *weight > 0) {
            if let Some(column) = columns.get_mut(at) {
                let related = column.miner.account == validator.account;
                column.entries.push(Entry { row, weight: share(weight, total), clipped: 0, related });
            }
        }
    }
    columns
}

/// Y6-Y10 for one column: the consensus, the clip, the rank. `voice` is each row's part of the stake that has a voice.
fn judge(column: &mut Column, validators: &[ValidatorInput], active: &[u64], voice: &[u64], kappa: u64) {
    let of = |shares: &[u64], row: usize| shares.get(row).copied().unwrap_or(0);
    let total: u64 = voice.iter().sum();
    // A related row that says nothing is as related as one that speaks.
    let is_related = |row: &ValidatorInput| row.account == column.miner.account;
    let related: u64 = validators.iter().zip(voice).filter(|(row, _)| is_related(row)).map(|(_, voice)| voice).sum();
    let agreed = |all: bool| {
        let heard = column.entries.iter().filter(|e| of(voice, e.row) > 0 && e.weight > 0 && (all || !e.related));
        let mut voices: Vec<Voice> = heard.map(|e| Voice { weight: e.weight, stake: of(voice, e.row) }).collect();
        median(&mut voices, if all { total } else { total.saturating_sub(related) }, kappa)
    };
    column.consensus = if related > 0 { agreed(true).min(agreed(false)) } else { agreed(true) };
    for entry in &mut column.entries {
        entry.clipped = entry.weight.min(column.consensus);
        column.rank += u128::from(of(active, entry.row)) * u128::from(entry.clipped);
    }
}

/// Y11: the weight a bond follows: the clipped one, or between it and the row's own by the penalty.
fn bond_weight(entry: &Entry, penalty: u64) -> u64 {
    let cut = u128::from(entry.weight - entry.clipped);
    let left_out = sat((cut * u128::from(penalty)).div_ceil(u128::from(ONE)));
    entry.weight.saturating_sub(left_out)
}

/// Y11-Y13, plain: new bonds per row, and per row the exact Q64 sum of its part of each miner's bonds times incentive.
fn bonds_and_dividends(input: &EpochInput, columns: &[Column]) -> (Vec<Vec<(MemberId, u32)>>, Vec<u128>) {
    let rows = input.validators.len();
    let kept = sat(u128::from(input.rules.bonds_average_ppm) * u128::from(ONE) / 1_000_000).min(ONE);
    let step = ONE - kept;
    let penalty = from_u16(u16::try_from(input.rules.bonds_penalty).unwrap_or(u16::MAX));
    let place: BTreeMap<MemberId, usize> = columns.iter().map(|column| column.miner.member).zip(0..).collect();
    // What each column held, row by row.
    let mut old: Vec<Vec<(usize, u32)>> = vec![Vec::new(); columns.len()];
    for (row, validator) in input.validators.iter().enumerate() {
        for (member, bond) in &validator.bonds {
            if let Some(column) = place.get(member).and_then(|at| old.get_mut(*at)) {
                column.push((row, *bond));
            }
        }
    }
    let (mut bonds, mut earned) = (vec![Vec::new(); rows], vec![0_u128; rows]);
    let mut level = vec![0_u64; rows];
    for (column, old) in columns.iter().zip(old) {
        level.fill(0);
        for (row, bond) in old {
            if let Some(level) = level.get_mut(row) {
                *level = mul(kept, bond.into());
            }
        }
        for entry in column.entries.iter().filter(|entry| !entry.related) {
            if let Some(level) = level.get_mut(entry.row) {
                *level = level.saturating_add(mul(step, bond_weight(entry, penalty)));
            }
        }
        let total: u64 = level.iter().sum();
        for (row, level) in level.iter().enumerate().filter(|(_, level)| **level > 0) {
            if let Some(earned) = earned.get_mut(row) {
                *earned += u128::from(div(*level, total)) * u128::from(column.incentive);
            }
            if let Some(bonds) = bonds.get_mut(row).filter(|_| *level >= BOND_MIN) {
                bonds.push((column.miner.member, to_raw32(*level)));
            }
        }
    }
    (bonds, earned)
}

#[cfg(test)]
mod tests;
