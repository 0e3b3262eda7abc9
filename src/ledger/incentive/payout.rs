//! Shares become motes (Y15), and the results of several mechanisms become one (Y17).

use super::fixed::{Q, amount, div, sat_u};
use super::job::{ColumnResult, EpochInput, EpochJob, EpochResult, RowResult};
use super::switches::{Ids, NoMiner, Payout};
use crate::ledger::economy::largest_remainder;
use crate::protocol::ids::MemberId;

/// Divides the pots of a job (Y15, E9, E19).
pub(super) fn pay(job: &EpochJob, result: &mut EpochResult) {
    let input = job.input();
    if input.miner_pot == 0 && input.validator_pot == 0 {
        return;
    }
    match (input.switches.no_miner, input.switches.payout) {
        (NoMiner::Validators, Payout::Floor) => pay_shares(input, result),
        (NoMiner::Validators, Payout::Remainder) => pay_together(input, result),
        (NoMiner::Carried, _) => pay_apart(input, result),
    }
}

/// What one row is paid by when nobody earned anything: its voice, or its stake when nobody has one (Y15).
fn fallback(result: &EpochResult) -> Vec<Q> {
    let voiced = result.rows.iter().any(|row| row.active > 0);
    result.rows.iter().map(|row| if voiced { row.active } else { row.stake }).collect()
}

/// Y15: one pot, shares of both sides floored; dust is lost.
fn pay_shares(input: &EpochInput, result: &mut EpochResult) {
    let pot = input.miner_pot.saturating_add(input.validator_pot);
    let whole = sat_u(
        result
            .columns
            .iter()
            .map(|column| column.incentive)
            .chain(result.rows.iter().map(|row| row.dividend))
            .fold(0_u128, |sum, share| sum + u128::from(share.unsigned_abs())),
    );
    let instead = fallback(result);
    let share = |earned: Q, instead: Q| if whole == 0 { instead } else { div(earned, whole) };
    if input.switches.ids == Ids::Slots {
        // Rows and columns are the same slots in the same order.
        let slots = result.rows.iter().zip(&result.columns).zip(&instead);
        let combined = |((row, column), instead): ((&RowResult, &ColumnResult), &Q)| {
            amount(share(column.incentive + row.dividend, *instead), pot)
        };
        result.combined = slots.map(combined).collect();
    }
    for column in &mut result.columns {
        column.amount = amount(div(column.incentive, whole), pot);
    }
    for (row, instead) in result.rows.iter_mut().zip(instead) {
        row.amount = amount(share(row.dividend, instead), pot);
    }
}

fn weight(share: Q) -> u64 {
    share.max(0).unsigned_abs()
}

/// One pot, divided without dust.
fn pay_together(input: &EpochInput, result: &mut EpochResult) {
    let pot = input.miner_pot.saturating_add(input.validator_pot);
    let mut weights: Vec<u64> = result.columns.iter().map(|column| weight(column.incentive)).collect();
    weights.extend(result.rows.iter().map(|row| weight(row.dividend)));
    if weights.iter().all(|weight| *weight == 0) {
        let instead = fallback(result);
        weights.truncate(result.columns.len());
        weights.extend(instead.into_iter().map(weight));
    }
    hand_out(result, largest_remainder(pot, &weights));
}

/// Two pots; one that nobody earned is carried (E9).
fn pay_apart(input: &EpochInput, result: &mut EpochResult) {
    let miners: Vec<u64> = result.columns.iter().map(|column| weight(column.incentive)).collect();
    let validators: Vec<u64> = result.rows.iter().map(|row| weight(row.dividend)).collect();
    let split = |pot: u64, weights: &[u64]| match input.switches.payout {
        Payout::Remainder => largest_remainder(pot, weights),
        Payout::Floor => weights.iter().map(|weight| amount(sat_u(u128::from(*weight)), pot)).collect(),
    };
    let idle = |pot: u64, weights: &[u64]| if weights.iter().all(|weight| *weight == 0) { pot } else { 0 };
    result.carried_miners = idle(input.miner_pot, &miners);
    result.carried_validators = idle(input.validator_pot, &validators);
    let mut amounts = split(input.miner_pot, &miners);
    amounts.extend(split(input.validator_pot, &validators));
    hand_out(result, amounts);
}

/// Amounts of columns, then of rows.
fn hand_out(result: &mut EpochResult, amounts: Vec<u64>) {
    let mut amounts = amounts.into_iter();
    for column in &mut result.columns {
        column.amount = amounts.next().unwrap_or(0);
    }
    for row in &mut result.rows {
        row.amount = amounts.next().unwrap_or(0);
    }
}

/// Mechanisms of a subnet at most (Y17).
pub const MECHANISMS_MAX: usize = 16;

/// Divides an emission among mechanisms by a vector over 65535 (Y17).
pub fn split_emission(emission: u64, parts: &[u16], payout: Payout) -> Vec<u64> {
    if payout == Payout::Remainder {
        return largest_remainder(emission, &parts.iter().map(|part| u64::from(*part)).collect::<Vec<_>>());
    }
    let share = |part: u16| u128::from(emission) * u128::from(part) / u128::from(u16::MAX);
    let mut out: Vec<u64> = parts.iter().map(|part| u64::try_from(share(*part)).unwrap_or(u64::MAX)).collect();
    let given = out.iter().fold(0_u64, |sum, part| sum.saturating_add(*part));
    if let Some(first) = out.first_mut() {
        *first = first.saturating_add(emission.saturating_sub(given));
    }
    out
}

/// What all mechanisms of a subnet say about one member (Y17).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    pub member: MemberId,
    /// Averages by emission.
    pub stake: Q,
    pub consensus: Q,
    pub incentive: Q,
    pub dividend: Q,
    pub trust: Q,
    /// Whether any mechanism gives it a permit.
    pub permit: bool,
    /// What all mechanisms pay it, as miner and as validator.
    pub miner_amount: u64,
    pub validator_amount: u64,
}

/// Joins the results of a subnet's mechanisms, each with its part of the emission over 65535, by member (Y17).
///
/// Amounts add, permits are or-ed, shares are averaged: one floor of the exact sum over the sum of the parts.
pub fn merge(mechanisms: &[(u16, EpochResult)]) -> Vec<Merged> {
    let mut ids: Vec<MemberId> = Vec::new();
    for (_, result) in mechanisms {
        ids.extend(result.rows.iter().map(|row| row.member));
        ids.extend(result.columns.iter().map(|column| column.member));
    }
    ids.sort_unstable();
    ids.dedup();
    let whole: u128 = mechanisms.iter().map(|(part, _)| u128::from(*part)).sum();
    ids.into_iter().map(|member| merge_one(mechanisms, member, whole)).collect()
}

fn merge_one(mechanisms: &[(u16, EpochResult)], member: MemberId, whole: u128) -> Merged {
    let mut sums = [0_u128; 5];
    let mut out = Merged { member, ..Merged::default() };
    for (part, result) in mechanisms {
        let row = result.rows.binary_search_by_key(&member, |row| row.member).ok();
        let column = result.columns.binary_search_by_key(&member, |column| column.member).ok();
        let row = row.and_then(|at| result.rows.get(at)).copied().unwrap_or_default();
        let column = column.and_then(|at| result.columns.get(at)).copied().unwrap_or_default();
        let shares = [row.stake, column.consensus, column.incentive, row.dividend, row.trust];
        for (sum, share) in sums.iter_mut().zip(shares) {
            *sum += u128::from(*part) * u128::from(share.max(0).unsigned_abs());
        }
        out.permit |= row.permit;
        out.miner_amount = out.miner_amount.saturating_add(column.amount);
        out.validator_amount = out.validator_amount.saturating_add(row.amount);
    }
    let [stake, consensus, incentive, dividend, trust] = sums.map(|sum| sum.checked_div(whole).map_or(0, sat_u));
    Merged { stake, consensus, incentive, dividend, trust, ..out }
}
