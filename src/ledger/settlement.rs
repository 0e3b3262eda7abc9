//! What an epoch was settled on, kept beside the state so that anybody can see why a miner earned what it earned (E22).
//!
//! A settlement holds the inputs of a close and the pots it was paid from, and nothing that follows from them: `why` runs
//! the epoch again through the code that paid. It is no part of the state. Every node derives the same one from the same
//! checkpoint and keeps the last `SETTLEMENTS_KEPT` of each subnet. Bonds are left out: they move dividends and no miner.

use std::sync::Arc;

use super::economy::largest_remainder;
use super::economy::split::{Split, split};
use super::incentive::fixed::Q;
use super::incentive::rows::{read_row, write_row};
use super::incentive::{
    BOND_FLOOR, BondBlock, ColumnInput, EpochInput, EpochJob, EpochRules, Reason, RowInput, RowWeights, Switches,
    Workspace, explain,
};
use super::judging::{Close, Voice, read_count};
use super::rows::{Member, Row, Vector, read_values, read_when, write_values, write_when};
use super::state::State;
use crate::protocol::commitment::WEIGHTS_MAX;
use crate::protocol::ids::{AccountId, Height, MemberId, SubnetId};
use crate::protocol::layout::{LayoutError, Reader, Writer};
use crate::protocol::parameters::SubnetRules;
use crate::protocol::transaction::Role;

/// Closed epochs of each subnet that can be explained.
pub const SETTLEMENTS_KEPT: u64 = 16;
/// The most bytes of one settlement that is kept; what is larger is not, and is counted.
pub const SETTLEMENT_BYTES_MAX: usize = 16 << 20;
/// Miners of one subnet at most (Y17).
const MINERS_MAX: usize = 1 << 20;

/// A miner as the close found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    pub member: MemberId,
    pub account: AccountId,
    pub registered: Height,
}

/// The money of a settlement, in motes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pots {
    /// What accrued of the subnet's grant and was taken for this epoch (E7).
    pub granted: u64,
    /// The owner's part, in hundredths of a percent; 0 where nobody owns the subnet (E8).
    pub owner_bp: u64,
    /// The miners' pots of earlier epochs in which nobody could be paid (E9).
    pub carried: u64,
    /// What was divided among miners: with what was carried, and no more than the cap left room for.
    pub divided: u64,
    /// Miners of the subnet's owner: their parts were not minted (D8).
    pub deferred: Vec<MemberId>,
}

/// The inputs of a close and what it was paid from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    pub subnet: SubnetId,
    /// The height that paid.
    pub height: Height,
    /// The settlement before.
    pub last: Option<Height>,
    pub rules: SubnetRules,
    pub close: Close,
    /// By member id.
    pub miners: Vec<Judged>,
    /// The vector of each voice of the close, empty where it has none.
    pub rows: Vec<RowWeights>,
    pub pots: Pots,
}

/// Why one miner earned what it earned: parts that sum to the payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    pub split: Split,
    /// I: its share of the miners' pot (Y10).
    pub incentive: Q,
    /// C: what the validators agree on (Y7).
    pub consensus: Q,
    /// X of this miner and of all: the incentive is their ratio.
    pub sum: u128,
    pub whole: u128,
    /// Its place among all miners by incentive, from 1; who has none is behind everybody.
    pub rank: usize,
    /// The incentives of all miners, the largest first.
    pub ladder: Vec<Q>,
    /// Motes: what the division gave it, paid unless `deferred`.
    pub amount: u64,
    pub deferred: bool,
    /// What each validator did to it, with its part of the amount: the parts sum to it (E19).
    pub reasons: Vec<(Reason, u64)>,
}

impl Why {
    /// What was paid.
    pub fn paid(&self) -> u64 {
        if self.deferred { 0 } else { self.amount }
    }
}

impl Settlement {
    /// What a close in flight will be settled on, its money still to come.
    pub fn of(state: &State, id: SubnetId, close: &Close) -> Option<Self> {
        let subnet = state.subnet(id)?;
        let miners = state.members(id).filter(|(member, of)| *member < close.bound && of.role == Role::Miner);
        let judged = |(member, of): (MemberId, &Member)| {
            let Member { account, registered, .. } = *of;
            Judged { member, account, registered }
        };
        let vector = |member| state.get::<Vector>(&(id, member)).map(|vector| Arc::clone(&vector.weights));
        Some(Self {
            subnet: id,
            height: close.apply_at,
            last: subnet.last_settled,
            rules: subnet.rules.clone(),
            close: close.clone(),
            miners: miners.map(judged).collect(),
            rows: close.voices.iter().map(|voice| vector(voice.member).unwrap_or_default()).collect(),
            pots: Pots::default(),
        })
    }

    /// The epoch again, with these bonds. Pots are divided by who pays.
    pub fn input(&self, bonds: Vec<Arc<BondBlock>>) -> EpochInput {
        let row = |(voice, weights): (&Voice, &RowWeights)| RowInput {
            member: voice.member,
            stake: voice.stake,
            permit: voice.permit,
            last_activity: voice.last_reveal,
            missed: voice.missed,
            commit: None,
            gate: voice.gate,
            weights: Arc::clone(weights),
        };
        let column = |of: &Judged| ColumnInput { member: of.member, registered: of.registered, reset: false };
        EpochInput {
            switches: Switches::of(&self.rules),
            rules: EpochRules::of(&self.rules),
            height: self.close.height,
            last_close: self.last,
            owner: None,
            miner_pot: 0,
            validator_pot: 0,
            rows: self.close.voices.iter().zip(&self.rows).map(row).collect(),
            columns: self.miners.iter().map(column).collect(),
            related: self.close.related.clone(),
            bonds,
            bond_floor: BOND_FLOOR,
        }
    }

    /// Why a miner earned what it earned; none when it was no part of this epoch, or the record is of no epoch that
    /// there can be.
    pub fn why(&self, miner: MemberId) -> Option<Why> {
        let job = EpochJob::new(self.input(Vec::new())).ok()?;
        let result = job.run(&mut Workspace::new());
        let at = result.columns.binary_search_by_key(&miner, |column| column.member).ok()?;
        let column = *result.columns.get(at)?;
        let weights: Vec<u64> = result.columns.iter().map(|column| column.incentive.unsigned_abs()).collect();
        let amount = largest_remainder(self.pots.divided, &weights).get(at).copied().unwrap_or(0);
        let reasons = explain(&job, &result, miner)?;
        // A term is at most 2^64; the lowest bits of terms decide no mote.
        let terms: Vec<u64> = reasons.iter().map(|of| u64::try_from(of.term >> 2).unwrap_or(u64::MAX)).collect();
        let parts = largest_remainder(amount, &terms);
        let mut ladder: Vec<Q> = result.columns.iter().map(|column| column.incentive).collect();
        ladder.sort_unstable_by(|a, b| b.cmp(a));
        Some(Why {
            split: split(self.pots.granted, self.pots.owner_bp),
            incentive: column.incentive,
            consensus: column.consensus,
            sum: column.sum,
            whole: result.columns.iter().map(|column| column.sum).sum(),
            rank: ladder.iter().take_while(|of| **of > column.incentive).count() + 1,
            ladder,
            amount,
            deferred: self.pots.deferred.binary_search(&miner).is_ok(),
            reasons: reasons.into_iter().zip(parts).collect(),
        })
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Row for Settlement {
    fn write(&self, to: Writer) -> Writer {
        let to = write_when(to.u32(self.subnet.0).u64(self.height), self.last);
        let to = self.close.write(write_values(to, &self.rules.table()));
        let to = self
            .miners
            .iter()
            .fold(to.u32(count(self.miners.len())), |to, of| to.u32(of.member.0).raw(&of.account.0).u64(of.registered));
        let to = self.rows.iter().fold(to, |to, row| write_row(to, row));
        let Pots { granted, owner_bp, carried, divided, deferred } = &self.pots;
        let to = to.u64(*granted).u64(*owner_bp).u64(*carried).u64(*divided).u32(count(deferred.len()));
        deferred.iter().fold(to, |to, member| to.u32(member.0))
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        let (subnet, height, last) = (SubnetId(from.u32()?), from.u64()?, read_when(from)?);
        let values = read_values(from, SubnetRules::SPECS.len())?;
        let rules = SubnetRules::from_values(&values).ok_or(LayoutError::NotCanonical("subnet rules"))?;
        let close = Close::read(from)?;
        let miners = read_count(from, "miners of a settlement", MINERS_MAX, 44)?;
        let judged = |from: &mut Reader<'_>| {
            Ok(Judged { member: MemberId(from.u32()?), account: from.account()?, registered: from.u64()? })
        };
        let miners = (0..miners).map(|_| judged(from)).collect::<Result<_, LayoutError>>()?;
        let rows = (0..close.voices.len()).map(|_| read_row(from, WEIGHTS_MAX).map(RowWeights::from));
        let rows = rows.collect::<Result<_, _>>()?;
        let (granted, owner_bp, carried, divided) = (from.u64()?, from.u64()?, from.u64()?, from.u64()?);
        let deferred = read_count(from, "deferred miners", MINERS_MAX, 4)?;
        let deferred = (0..deferred).map(|_| from.u32().map(MemberId)).collect::<Result<_, _>>()?;
        let pots = Pots { granted, owner_bp, carried, divided, deferred };
        Ok(Self { subnet, height, last, rules, close, miners, rows, pots })
    }
}
