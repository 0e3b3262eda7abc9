//! The records of the state and their bytes (L28).
//!
//! Every record is a fixed layout behind a version byte, with one encoding per value. `held` says how many motes a
//! record holds: the sum over all records, and what was burned, is what was ever issued (L7).

use std::sync::Arc;

use super::economy::rows::Standing;
use super::incentive::rows::{read_row, write_row};
use super::incentive::{BondBlock, RowWeights};
use crate::protocol::commitment::WEIGHTS_MAX;
use crate::protocol::ids::{AccountId, ChainId, Digest, Epoch, Height, MemberId, PublicKey, SubnetId};
use crate::protocol::layout::{LayoutError, Reader, Writer};
use crate::protocol::parameters::{Parameters, SubnetRules};
use crate::protocol::transaction::Role;

const VERSION: u8 = 1;
/// Stands for "never" where a height is kept.
const NEVER: u64 = u64::MAX;

/// A record that knows its bytes and the money in it.
pub trait Row: Clone + PartialEq + std::fmt::Debug + 'static {
    fn write(&self, to: Writer) -> Writer;
    /// # Errors
    /// The bytes are no record of this kind.
    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError>;

    /// Motes in this record.
    fn held(&self) -> u128 {
        0
    }

    fn encode(&self) -> Vec<u8> {
        self.write(Writer::new().u8(VERSION)).done()
    }

    /// # Errors
    /// The bytes are no record of this kind, or of another version.
    fn decode(bytes: &[u8]) -> Result<Self, LayoutError> {
        let mut from = Reader::new(bytes);
        let version = from.u8()?;
        if version != VERSION {
            return Err(LayoutError::Unknown { what: "version of a record", found: version.into() });
        }
        let row = Self::read(&mut from)?;
        from.end()?;
        Ok(row)
    }
}

pub(super) fn write_bool(to: Writer, value: bool) -> Writer {
    to.u8(u8::from(value))
}

pub(super) fn read_bool(from: &mut Reader<'_>) -> Result<bool, LayoutError> {
    match from.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(LayoutError::Unknown { what: "flag", found: other.into() }),
    }
}

pub(super) fn write_when(to: Writer, height: Option<Height>) -> Writer {
    to.u64(height.unwrap_or(NEVER))
}

pub(super) fn read_when(from: &mut Reader<'_>) -> Result<Option<Height>, LayoutError> {
    from.u64().map(|height| (height != NEVER).then_some(height))
}

pub(super) fn write_text(to: Writer, text: &str) -> Writer {
    to.u8(u8::try_from(text.len()).unwrap_or(u8::MAX)).raw(text.as_bytes())
}

pub(super) fn read_text(from: &mut Reader<'_>) -> Result<String, LayoutError> {
    let count = from.u8()?;
    let bytes = from.raw(count.into())?;
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| LayoutError::NotCanonical("a text is not UTF-8"))
}

pub(super) fn write_values(to: Writer, table: &[(u16, u64)]) -> Writer {
    table.iter().fold(to, |to, (_, value)| to.u64(*value))
}

pub(super) fn read_values(from: &mut Reader<'_>, count: usize) -> Result<Vec<u64>, LayoutError> {
    (0..count).map(|_| from.u64()).collect()
}

/// What an account has (L10). It exists while it holds `min_account` or something else is attached to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    pub balance: u64,
    /// The nonce its next transaction must carry (L11).
    pub nonce: u64,
    /// Stake, memberships and waiting payments: while any is left the account stays.
    pub attached: u32,
}

impl Row for Account {
    fn write(&self, to: Writer) -> Writer {
        to.u64(self.balance).u64(self.nonce).u32(self.attached)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(Self { balance: from.u64()?, nonce: from.u64()?, attached: from.u32()? })
    }

    fn held(&self) -> u128 {
        self.balance.into()
    }
}

/// A validator's stake: its own and what others put in (E18). It exists while anybody has a share of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    pub total: u64,
    pub shares: u64,
    /// Accounts that have shares.
    pub holders: u32,
    /// Hundredths of a percent of rewards that the validator keeps.
    pub take_bp: u16,
    /// An announced take and the height from which it counts.
    pub rise: Option<(u16, Height)>,
    /// No rise is announced before this height.
    pub next_rise: Height,
}

impl Row for Pool {
    fn write(&self, to: Writer) -> Writer {
        let to = to.u64(self.total).u64(self.shares).u32(self.holders).u16(self.take_bp);
        let (take, at) = self.rise.unwrap_or((0, NEVER));
        to.u16(take).u64(at).u64(self.next_rise)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        let (total, shares, holders, take_bp) = (from.u64()?, from.u64()?, from.u32()?, from.u16()?);
        let (take, at) = (from.u16()?, from.u64()?);
        let rise = (at != NEVER).then_some((take, at));
        if rise.is_none() && take != 0 {
            return Err(LayoutError::NotCanonical("a take that never counts"));
        }
        Ok(Self { total, shares, holders, take_bp, rise, next_rise: from.u64()? })
    }

    fn held(&self) -> u128 {
        self.total.into()
    }
}

/// An account's shares of a pool (E18); a record exists only while there are any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    pub shares: u64,
    /// Until when what came from another pool may not move on.
    pub moved_until: Height,
    /// Of the shares, those from genesis: they stay until `genesis_lock_heights` (E2).
    pub locked: u64,
}

impl Row for Shares {
    fn write(&self, to: Writer) -> Writer {
        to.u64(self.shares).u64(self.moved_until).u64(self.locked)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(Self { shares: from.u64()?, moved_until: from.u64()?, locked: from.u64()? })
    }
}

/// What an account moved out of a pool and is still liable for that pool's faults (E18).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    pub to: AccountId,
    pub amount: u64,
    pub until: Height,
}

impl Row for Move {
    fn write(&self, to: Writer) -> Writer {
        to.raw(&self.to.0).u64(self.amount).u64(self.until)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(Self { to: from.account()?, amount: from.u64()?, until: from.u64()? })
    }
}

/// A subnet: its rules, its clock, and what it could not pay yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    pub name: String,
    pub task: String,
    pub rules: SubnetRules,
    /// The id the next member gets (L15).
    pub next_member: MemberId,
    pub miners: u32,
    pub validators: u32,
    /// The open epoch, and the height that opened it.
    pub epoch: Epoch,
    pub opened: Height,
    /// The height that opens the next one.
    pub next_open: Height,
    /// The height at which the epoch before the open one is settled; none once it is.
    pub settle_at: Option<Height>,
    pub last_settled: Option<Height>,
    /// Minted for this subnet so far.
    pub minted: u64,
    /// Query fees burned here and not drawn on yet: a counter, not money (E6).
    pub burned_fees: u64,
    /// Query fees that wait for the validators of the next settlement: money (E10).
    pub fee_pot: u64,
}

impl Row for Subnet {
    fn write(&self, to: Writer) -> Writer {
        let to = write_text(write_text(to, &self.name), &self.task);
        let to = write_values(to, &self.rules.table());
        let to = to.u32(self.next_member.0).u32(self.miners).u32(self.validators);
        let to = to.u64(self.epoch).u64(self.opened).u64(self.next_open);
        let to = write_when(write_when(to, self.settle_at), self.last_settled);
        to.u64(self.minted).u64(self.burned_fees).u64(self.fee_pot)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        let (name, task) = (read_text(from)?, read_text(from)?);
        let values = read_values(from, SubnetRules::SPECS.len())?;
        let rules = SubnetRules::from_values(&values).ok_or(LayoutError::NotCanonical("subnet rules"))?;
        Ok(Self {
            name,
            task,
            rules,
            next_member: MemberId(from.u32()?),
            miners: from.u32()?,
            validators: from.u32()?,
            epoch: from.u64()?,
            opened: from.u64()?,
            next_open: from.u64()?,
            settle_at: read_when(from)?,
            last_settled: read_when(from)?,
            minted: from.u64()?,
            burned_fees: from.u64()?,
            fee_pot: from.u64()?,
        })
    }

    fn held(&self) -> u128 {
        self.fee_pot.into()
    }
}

/// A member of a subnet. Fractions are raw 0.32 fixed point: the share times 2^32, saturated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub account: AccountId,
    pub role: Role,
    pub operator: PublicKey,
    pub bond: u64,
    pub registered: Height,
    /// Asked to leave; out when the next epoch opens.
    pub leaving: bool,
    /// A validator that may set weights.
    pub permit: bool,
    pub last_reveal: Option<Height>,
    /// Commits that were not opened in time.
    pub missed: u32,
    pub consensus: u32,
    pub incentive: u32,
    pub dividend: u32,
    pub trust: u32,
    /// Earned by this member so far, whether claimed or not.
    pub earned: u64,
    /// Earned and not claimed yet (E20): money of the account, kept here beside the scores.
    pub owed: u64,
    /// Its smoothed incentive, raw 32.32 (E15).
    pub score: u64,
    /// Where it stands between queue and exit (E14, E16).
    pub standing: Standing,
}

impl Row for Member {
    fn write(&self, to: Writer) -> Writer {
        let to = to.raw(&self.account.0).u8(self.role.byte()).raw(&self.operator.0);
        let to = to.u64(self.bond).u64(self.registered);
        let to = write_when(write_bool(write_bool(to, self.leaving), self.permit), self.last_reveal);
        let to = to.u32(self.missed).u32(self.consensus).u32(self.incentive).u32(self.dividend);
        self.standing.write(to.u32(self.trust).u64(self.earned).u64(self.owed).u64(self.score))
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(Self {
            account: from.account()?,
            role: Role::from_byte(from.u8()?)?,
            operator: from.key()?,
            bond: from.u64()?,
            registered: from.u64()?,
            leaving: read_bool(from)?,
            permit: read_bool(from)?,
            last_reveal: read_when(from)?,
            missed: from.u32()?,
            consensus: from.u32()?,
            incentive: from.u32()?,
            dividend: from.u32()?,
            trust: from.u32()?,
            earned: from.u64()?,
            owed: from.u64()?,
            score: from.u64()?,
            standing: Standing::read(from)?,
        })
    }

    fn held(&self) -> u128 {
        u128::from(self.bond) + u128::from(self.owed)
    }
}

/// What former members of an account earned and it did not claim yet (E20); a record exists only while there is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owed {
    pub amount: u64,
}

impl Row for Owed {
    fn write(&self, to: Writer) -> Writer {
        to.u64(self.amount)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(Self { amount: from.u64()? })
    }

    fn held(&self) -> u128 {
        self.amount.into()
    }
}

/// A payment channel (E10): money that its payer promises away by vouchers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    pub payer: AccountId,
    pub payee: AccountId,
    /// Signs the vouchers.
    pub voucher_key: PublicKey,
    pub subnet: SubnetId,
    pub deposit: u64,
    pub paid: u64,
    /// The height at which it ends by itself.
    pub ends: Height,
    /// Its payer announced the end: vouchers still count, from whoever shows them.
    pub closing: bool,
}

impl Row for Channel {
    fn write(&self, to: Writer) -> Writer {
        let to = to.raw(&self.payer.0).raw(&self.payee.0).raw(&self.voucher_key.0).u32(self.subnet.0);
        write_bool(to.u64(self.deposit).u64(self.paid).u64(self.ends), self.closing)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(Self {
            payer: from.account()?,
            payee: from.account()?,
            voucher_key: from.key()?,
            subnet: SubnetId(from.u32()?),
            deposit: from.u64()?,
            paid: from.u64()?,
            ends: from.u64()?,
            closing: read_bool(from)?,
        })
    }

    fn held(&self) -> u128 {
        u128::from(self.deposit.saturating_sub(self.paid))
    }
}

/// A channel ends at the height in its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending;

impl Row for Ending {
    fn write(&self, to: Writer) -> Writer {
        to
    }

    fn read(_: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(Self)
    }
}

/// A sealed vector: opened by its reveal or forfeited (D3, D4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    pub hash: Digest,
    /// The operator key of the seat when it committed: a key that changes later opens it all the same.
    pub operator: PublicKey,
    /// Miners there were: a row that was long enough then is long enough (Y18).
    pub miners: u32,
    /// Commits of this period so far.
    pub count: u8,
    pub revealed: bool,
    /// The same reveal again, so far.
    pub repeats: u8,
}

impl Row for Commit {
    fn write(&self, to: Writer) -> Writer {
        let to = to.raw(&self.hash.0).raw(&self.operator.0).u32(self.miners).u8(self.count);
        write_bool(to, self.revealed).u8(self.repeats)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(Self {
            hash: from.digest()?,
            operator: from.key()?,
            miners: from.u32()?,
            count: from.u8()?,
            revealed: read_bool(from)?,
            repeats: from.u8()?,
        })
    }
}

/// A validator's last revealed weights; they stay until the next reveal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vector {
    pub epoch: Epoch,
    pub weights: RowWeights,
}

impl Row for Vector {
    fn write(&self, to: Writer) -> Writer {
        write_row(to.u64(self.epoch), &self.weights)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(Self { epoch: from.u64()?, weights: read_row(from, WEIGHTS_MAX)?.into() })
    }
}

/// The bonds on 64 miners of a subnet's mechanism; a record exists only while there are any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bonds {
    pub block: Arc<BondBlock>,
}

impl Row for Bonds {
    fn write(&self, to: Writer) -> Writer {
        self.block.write(to)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        BondBlock::read(from).map(|block| Self { block: Arc::new(block) })
    }
}

/// Money that is paid out by itself when its height comes (L6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    pub account: AccountId,
    pub amount: u64,
    pub reason: DueReason,
    /// The pool it was taken out of: a fault of that pool's validator takes its part of it while it waits (E18).
    pub pool: Option<AccountId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DueReason {
    Unstaked,
    BondRefund,
    /// No money: what was moved between pools is free again.
    Moved,
}

impl Row for Due {
    fn write(&self, to: Writer) -> Writer {
        let reason = match self.reason {
            DueReason::Unstaked => 0,
            DueReason::BondRefund => 1,
            DueReason::Moved => 2,
        };
        to.raw(&self.account.0).u64(self.amount).u8(reason).raw(&self.pool.unwrap_or(AccountId::ZERO).0)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        let (account, amount) = (from.account()?, from.u64()?);
        let reason = match from.u8()? {
            0 => DueReason::Unstaked,
            1 => DueReason::BondRefund,
            2 => DueReason::Moved,
            other => return Err(LayoutError::Unknown { what: "reason of a payment", found: other.into() }),
        };
        let pool = Some(from.account()?).filter(|pool| *pool != AccountId::ZERO);
        Ok(Self { account, amount, reason, pool })
    }

    fn held(&self) -> u128 {
        self.amount.into()
    }
}

/// The network's money, counted. What is burned is no longer held by anyone; dust is held by the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Supply {
    pub genesis: u64,
    pub minted: u64,
    pub burned: u64,
    pub dust: u64,
}

impl Supply {
    /// Everything that ever came into being.
    pub fn issued(&self) -> u128 {
        u128::from(self.genesis) + u128::from(self.minted)
    }

    /// Everything that exists now.
    pub fn total(&self) -> u128 {
        self.issued().saturating_sub(self.burned.into())
    }
}

impl Row for Supply {
    fn write(&self, to: Writer) -> Writer {
        to.u64(self.genesis).u64(self.minted).u64(self.burned).u64(self.dust)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(Self { genesis: from.u64()?, minted: from.u64()?, burned: from.u64()?, dust: from.u64()? })
    }

    fn held(&self) -> u128 {
        self.dust.into()
    }
}

/// Which chain this is and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub chain_id: ChainId,
    pub height: Height,
    pub timestamp_ms: u64,
    /// The number the next item of the due queue gets.
    pub due_seq: u64,
    /// What a transaction pays for each byte and unit: at least the parameters, more while bodies are full (E11).
    pub base_byte: u64,
    pub base_unit: u64,
    /// How much of the room for weights all heights used, each over 10,000 (D3).
    pub weight_room: u64,
    pub parameters: Parameters,
}

impl Row for Chain {
    fn write(&self, to: Writer) -> Writer {
        let to = to.raw(&self.chain_id.0).u64(self.height).u64(self.timestamp_ms).u64(self.due_seq);
        let to = to.u64(self.base_byte).u64(self.base_unit).u64(self.weight_room);
        write_values(to, &self.parameters.table())
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        let (chain_id, height, timestamp_ms, due_seq) = (from.chain()?, from.u64()?, from.u64()?, from.u64()?);
        let (base_byte, base_unit, weight_room) = (from.u64()?, from.u64()?, from.u64()?);
        let values = read_values(from, Parameters::SPECS.len())?;
        let parameters = Parameters::from_values(&values).ok_or(LayoutError::NotCanonical("parameters"))?;
        Ok(Self { chain_id, height, timestamp_ms, due_seq, base_byte, base_unit, weight_room, parameters })
    }
}
