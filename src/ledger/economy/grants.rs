//! What the network grants to its subnets for a term: by fees burned for their queries, and by what validators support.
//!
//! At a term's end its budget is divided (E4): the committee is paid, burn banks are drawn on (E6), and support is counted
//! (E7). A grant is a right to mint that accrues by the height; what is not granted is not minted.

use super::super::draft::Draft;
use super::super::relation::related;
use super::super::rows::{Pool, Subnet};
use super::rows::{Budget, Charter, Purse, Support};
use super::{BASIS, committee, largest_remainder, supply};
use crate::protocol::ids::{AccountId, Height, SubnetId};
use crate::protocol::parameters::Parameters;

const ONE: u128 = 1 << 32;
/// No subnet has more than this part of the usage pot, or of the support pot.
const USAGE_PART: u64 = 4;
const SUPPORT_PART: u64 = 5;

fn narrow(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// One voice in the support of subnets: a validator's stake and the parts it gives.
#[derive(Clone, Debug)]
pub struct Voice {
    pub account: AccountId,
    pub stake: u64,
    pub parts: Vec<(SubnetId, u16)>,
}

/// Everything of a subnet that its grants follow from.
#[derive(Clone, Debug)]
pub struct Claimant {
    pub subnet: SubnetId,
    /// Drawn from its burn bank.
    pub draw: u64,
    /// Worked in the term that ends.
    pub open: bool,
    /// Voices that count for nothing here: the owner's and those related to it.
    pub deaf: Vec<AccountId>,
}

/// What one subnet is granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    pub usage: u64,
    pub support: u64,
}

/// The parts of all stake that name a subnet, with the stake behind each.
fn named<'a>(voices: &'a [Voice], of: &'a Claimant) -> impl Iterator<Item = (u64, u64)> + 'a {
    voices.iter().filter(|voice| !of.deaf.contains(&voice.account)).filter_map(|voice| {
        let whole: u128 = voice.parts.iter().map(|(_, part)| u128::from(*part)).sum();
        let (_, part) = voice.parts.iter().find(|(subnet, part)| *subnet == of.subnet && *part > 0)?;
        Some((narrow((u128::from(*part) << 32) / whole), voice.stake))
    })
}

/// a_n (E7): the stake behind a subnet, each voice cut down to the largest part that a quorum gives. Not normalised.
fn agreed(voices: &[Voice], of: &Claimant, all: u128, quorum_bp: u64) -> u128 {
    let mut rows: Vec<(u64, u64)> = named(voices, of).collect();
    rows.sort_unstable_by_key(|row| std::cmp::Reverse(row.0));
    let mut behind: u128 = 0;
    let consensus = rows.iter().find_map(|(part, stake)| {
        behind += u128::from(*stake);
        (behind * BASIS >= all * u128::from(quorum_bp)).then_some(*part)
    });
    let Some(consensus) = consensus.filter(|_| all > 0) else { return 0 };
    let voice = |stake: u64| (u128::from(stake) << 32) / all;
    rows.iter().map(|(part, stake)| voice(*stake) * u128::from((*part).min(consensus))).sum::<u128>() >> 32
}

/// σ_n (E6): how much of a usage grant the support lets through.
fn gate(voices: &[Voice], of: &Claimant, all: u128, of_network: &Parameters) -> u128 {
    let floor = (u128::from(of_network.usage_gate_bp) << 32) / BASIS;
    let behind: u128 = named(voices, of).map(|(_, stake)| u128::from(stake)).sum();
    let wanted = all * u128::from(of_network.support_quorum_bp);
    let reached = ((behind * BASIS) << 32).checked_div(wanted).unwrap_or(0).min(ONE);
    floor + (((ONE - floor.min(ONE)) * reached) >> 32)
}

/// Divides the two pots among the subnets (E6, E7): one grant for each claimant.
pub fn divide(
    of_network: &Parameters,
    usage: u64,
    support: u64,
    voices: &[Voice],
    claimants: &[Claimant],
) -> Vec<Grant> {
    let all: u128 = voices.iter().map(|voice| u128::from(voice.stake)).sum();
    let wanted: Vec<u64> = claimants
        .iter()
        .map(|of| {
            let drawn = u128::from(of.draw) * u128::from(of_network.usage_theta_bp) / BASIS;
            narrow((drawn * gate(voices, of, all, of_network)) >> 32)
        })
        .collect();
    let whole: u128 = wanted.iter().map(|want| u128::from(*want)).sum();
    let fitting = if whole > u128::from(usage) { largest_remainder(usage, &wanted) } else { wanted };
    claimants
        .iter()
        .zip(fitting)
        .map(|(of, fitting)| {
            let agreed = if of.open { agreed(voices, of, all, of_network.support_quorum_bp) } else { 0 };
            let supported = narrow((u128::from(support) * agreed) >> 32);
            Grant { usage: fitting.min(usage / USAGE_PART), support: supported.min(support / SUPPORT_PART) }
        })
        .collect()
}

fn voices(draft: &Draft) -> Vec<Voice> {
    let of = |(account, pool): (&AccountId, &Pool)| Voice {
        account: *account,
        stake: pool.total,
        parts: draft.get::<Support>(account).map(|support| support.parts.clone()).unwrap_or_default(),
    };
    draft.range::<Pool>(..).map(of).collect()
}

/// Ends a term (E4): pays the committee for it, and grants for the next.
pub fn run(draft: &mut Draft, height: Height) {
    let of_network = draft.parameters().clone();
    let term = of_network.term_heights.max(1);
    if !height.is_multiple_of(term) {
        return;
    }
    let rate = supply::emission(draft.supply().total(), of_network.emission_base, of_network.supply_cap);
    let parts = [of_network.committee_bp, of_network.usage_bp, of_network.support_bp];
    let parts = largest_remainder(rate.saturating_mul(term), &parts);
    let [committee, usage, support] = <[u64; 3]>::try_from(parts).unwrap_or_default();
    let paid = committee::pay(draft, committee);
    let voices = voices(draft);
    let ids: Vec<SubnetId> = draft.range::<Subnet>(..).map(|(id, _)| *id).collect();
    let claimants: Vec<Claimant> = ids.into_iter().map(|id| claimant(draft, id, &voices, &of_network)).collect();
    let grants = divide(&of_network, usage, support, &voices, &claimants);
    let mut budget = Budget { committee, usage, support, paid, ..Budget::default() };
    for (of, grant) in claimants.iter().zip(grants) {
        budget.used = budget.used.saturating_add(grant.usage);
        budget.supported = budget.supported.saturating_add(grant.support);
        draft.change::<Subnet>(&of.subnet, |subnet| {
            subnet.burned_fees = subnet.burned_fees.saturating_sub(of.draw);
        });
        draft.change::<Purse>(&of.subnet, |purse| purse.turn(grant, of_network.mean_terms));
    }
    let books = draft.treasury_mut();
    books.budget = budget;
    books.term_start = height;
}

fn claimant(draft: &Draft, id: SubnetId, voices: &[Voice], of_network: &Parameters) -> Claimant {
    let (purse, bank) = (draft.purse(id), draft.subnet(id).map_or(0, |subnet| subnet.burned_fees));
    let draw = bank.checked_shr(u32::try_from(of_network.usage_draw_shift).unwrap_or(u32::MAX)).unwrap_or(0);
    let owner = draft.get::<Charter>(&id).and_then(|charter| charter.owner);
    let deaf = voices.iter().filter(|voice| owner.is_some_and(|owner| related(draft, &voice.account, &owner)));
    let open = purse.worked.is_some_and(|at| at > draft.treasury().term_start);
    Claimant { subnet: id, draw, open, deaf: deaf.map(|voice| voice.account).collect() }
}

impl Purse {
    /// The next term's grant; what the last one granted and nobody took waits.
    fn turn(&mut self, grant: Grant, mean_terms: u64) {
        self.pending = self.pending.saturating_add(self.grant().saturating_sub(self.taken));
        self.taken = 0;
        (self.usage_grant, self.support_grant) = (grant.usage, grant.support);
        let (terms, new) = (u128::from(mean_terms.max(1)), u128::from(self.grant()));
        self.mean_grant = narrow((u128::from(self.mean_grant) * (terms - 1) + new) / terms);
    }

    /// What of the current grant has accrued (E7).
    pub fn accrued(&self, start: Height, height: Height, term: u64) -> u64 {
        let passed = height.saturating_sub(start).min(term);
        narrow(u128::from(self.grant()) * u128::from(passed) / u128::from(term.max(1)))
    }

    /// Takes everything that has accrued and was not taken yet: a right to mint it.
    pub fn take(&mut self, start: Height, height: Height, term: u64) -> u64 {
        let accrued = self.accrued(start, height, term).max(self.taken);
        let amount = self.pending.saturating_add(accrued - self.taken);
        (self.pending, self.taken) = (0, accrued);
        amount
    }
}

#[cfg(test)]
mod tests;
