//! What became of a transaction: refused before it counts, or included with a receipt (L3, L4).
//!
//! A `Refusal` says why a transaction may not be in a body at all; a `Code` in a receipt says why one that was included
//! had no effect although its fee was taken. Both name the rule in words a sender can act on.

use serde::{Deserialize, Serialize};

use crate::protocol::ids::Height;
use crate::protocol::layout::{LayoutError, Writer};
use crate::protocol::units::format_star;

/// The outcome in a receipt; everything but `Applied` means that only fee and nonce were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[repr(u16)]
pub enum Code {
    #[error("applied")]
    Applied = 0,
    #[error("the balance does not cover it")]
    BalanceTooLow = 1,
    #[error("a new account must be opened with at least min_account")]
    BelowMinAccount = 2,
    #[error("the stake would be below min_stake and not zero")]
    BelowMinStake = 3,
    #[error("there is less stake than that")]
    StakeTooLow = 4,
    #[error("there is no such subnet")]
    UnknownSubnet = 5,
    #[error("there is no such member")]
    UnknownMember = 6,
    #[error("the member belongs to another account")]
    NotYours = 7,
    #[error("the account is a member in this role already")]
    AlreadyMember = 8,
    #[error("the subnet has no free slot")]
    SubnetFull = 9,
    #[error("the bond is above max_bond")]
    BondAboveMax = 10,
    #[error("the member is leaving already")]
    AlreadyLeaving = 11,
    #[error("the stake is below what a validator of this subnet needs")]
    ValidatorStake = 12,
    #[error("the member has no permit to set weights")]
    NoPermit = 13,
    #[error("the epoch or its window is over")]
    TooLate = 14,
    #[error("the epoch or its window has not begun")]
    TooEarly = 15,
    #[error("the free commits of this epoch are used up; a further one pays its fee")]
    CommitsUsedUp = 16,
    #[error("there is no commit to open")]
    NoCommit = 17,
    #[error("the weights are not the ones committed to")]
    OtherWeights = 18,
    #[error("the weights of this epoch are revealed already")]
    AlreadyRevealed = 19,
    #[error("the weights name a member that never was or is no miner")]
    NoSuchMiner = 20,
    #[error("there is no such pool: its validator has staked nothing")]
    UnknownPool = 21,
    #[error("one account can have shares of at most 64 pools")]
    TooManyPools = 22,
    #[error("the pool lost nearly everything; it takes no more stake")]
    PoolRuined = 23,
    #[error("the delegation would be below 1 STAR and not zero")]
    BelowMinDelegation = 24,
    #[error("a take is at most 1,800 and rises by at most 100 hundredths of a percent at once")]
    TakeTooHigh = 25,
    #[error("the take was raised not long ago; it can be lowered any time")]
    TakeTooSoon = 26,
    #[error("stake that was moved is bound to its old pool's faults and cannot move on yet; it can be undelegated")]
    MovedTooSoon = 27,
    #[error("it is in that pool already")]
    SamePool = 28,
    #[error("nothing is owed to the account")]
    NothingOwed = 29,
    #[error("there is no such channel, or it has ended")]
    UnknownChannel = 30,
    #[error("the channel is closing")]
    ChannelClosing = 31,
    #[error("the channel is not closing; its payee redeems vouchers")]
    ChannelOpen = 32,
    #[error("the voucher is not signed by the channel's key")]
    BadVoucher = 33,
    #[error("the voucher's sum is not above what was paid, or above the deposit")]
    VoucherSum = 34,
    #[error("one account can pay from at most 256 channels")]
    TooManyChannels = 35,
    #[error("a channel ends 600 to 2,600,000 heights ahead")]
    BadExpiry = 36,
    #[error("the payee does not exist or is the payer")]
    BadPayee = 37,
    #[error("stake of the genesis committee stays for genesis_lock_heights; what was staked later can leave")]
    StakeLocked = 38,
    #[error("only stake supports subnets; stake first")]
    NoStake = 40,
    #[error("the registrations that wait for a slot are too many already")]
    QueueFull = 41,
    #[error("the miner is not waiting to be seen")]
    NotWaiting = 42,
    #[error("the validator is the miner's own, or has said so already")]
    NoWitness = 43,
    #[error("the subnet belongs to another account")]
    NotOwner = 44,
    #[error("the name is or was another subnet's")]
    NameTaken = 45,
    #[error("creating a subnet locks more than max_lock now")]
    LockAboveMax = 46,
    #[error("there are as many subnets as there may be")]
    SubnetLimit = 47,
    #[error("a subnet has no such task or rule, or the value is out of bounds")]
    BadRule = 48,
    #[error("the rule is fixed, or was changed less than two epochs ago")]
    RuleTooSoon = 49,
    #[error("the subnet is closing")]
    SubnetClosing = 50,
    #[error("no challenger wants the subnet's place")]
    NotChallenged = 51,
    #[error("the row names fewer miners than the subnet asks for (weight_few)")]
    WeightFew = 60,
    #[error("the subnet takes weights of two bytes only (weight_wide)")]
    WeightWide = 61,
    #[error("one miner has more of the row than the subnet allows (weight_limit)")]
    WeightLimit = 62,
    #[error("the scorer is older than the subnet asks for (weight_version)")]
    WeightVersion = 63,
    #[error("the subnet has no such mechanism")]
    UnknownMechanism = 64,
    #[error("the seat's bond is below its minimum; top it up with validator_bond")]
    SeatSuspended = 65,
    #[error("no score log of that validator and epoch is held to account")]
    UnknownLog = 66,
    #[error("the score log has no such entry")]
    NoSuchEntry = 67,
    #[error("four challenges of this validator are open; wait for one to end")]
    ChallengesFull = 68,
    #[error("no such challenge is open")]
    UnknownChallenge = 69,
    #[error("that is not the entry of the log, or its path does not lead to the root")]
    WrongEntry = 70,
    #[error("the votes do not contradict each other, or are of no committee that is kept")]
    ProvesNothing = 71,
    #[error("the member was accused in that term already")]
    AccusedAlready = 72,
    #[error("the subnet has this artifact already")]
    ModelKnown = 80,
    #[error("the subnet does not know the parent")]
    UnknownParent = 81,
    #[error("no seal of this account in this subnet opens to this artifact")]
    NoSeal = 82,
    #[error("the seal is too old to be opened")]
    SealExpired = 83,
    #[error("a seal of this account stands; open it or let it expire")]
    SealStands = 84,
}

impl Code {
    pub const ALL: &'static [Self] = &[
        Self::Applied,
        Self::BalanceTooLow,
        Self::BelowMinAccount,
        Self::BelowMinStake,
        Self::StakeTooLow,
        Self::UnknownSubnet,
        Self::UnknownMember,
        Self::NotYours,
        Self::AlreadyMember,
        Self::SubnetFull,
        Self::BondAboveMax,
        Self::AlreadyLeaving,
        Self::ValidatorStake,
        Self::NoPermit,
        Self::TooLate,
        Self::TooEarly,
        Self::CommitsUsedUp,
        Self::NoCommit,
        Self::OtherWeights,
        Self::AlreadyRevealed,
        Self::NoSuchMiner,
        Self::UnknownPool,
        Self::TooManyPools,
        Self::PoolRuined,
        Self::BelowMinDelegation,
        Self::TakeTooHigh,
        Self::TakeTooSoon,
        Self::MovedTooSoon,
        Self::SamePool,
        Self::NothingOwed,
        Self::UnknownChannel,
        Self::ChannelClosing,
        Self::ChannelOpen,
        Self::BadVoucher,
        Self::VoucherSum,
        Self::TooManyChannels,
        Self::BadExpiry,
        Self::BadPayee,
        Self::StakeLocked,
        Self::NoStake,
        Self::QueueFull,
        Self::NotWaiting,
        Self::NoWitness,
        Self::NotOwner,
        Self::NameTaken,
        Self::LockAboveMax,
        Self::SubnetLimit,
        Self::BadRule,
        Self::RuleTooSoon,
        Self::SubnetClosing,
        Self::NotChallenged,
        Self::WeightFew,
        Self::WeightWide,
        Self::WeightLimit,
        Self::WeightVersion,
        Self::UnknownMechanism,
        Self::SeatSuspended,
        Self::UnknownLog,
        Self::NoSuchEntry,
        Self::ChallengesFull,
        Self::UnknownChallenge,
        Self::WrongEntry,
        Self::ModelKnown,
        Self::UnknownParent,
        Self::NoSeal,
        Self::SealExpired,
        Self::SealStands,
    ];

    pub fn number(self) -> u16 {
        self as u16
    }

    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.number() == number)
    }
}

/// What is recorded for each included transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub code: Code,
    pub fee: u64,
    pub units: u32,
}

impl Receipt {
    /// The 14 bytes that the receipt root covers (L4).
    pub fn encode(&self) -> Vec<u8> {
        Writer::new().u16(self.code.number()).u64(self.fee).u32(self.units).done()
    }

    /// # Errors
    /// The bytes are no receipt.
    pub fn decode(bytes: &[u8]) -> Result<Self, LayoutError> {
        let mut from = crate::protocol::layout::Reader::new(bytes);
        let number = from.u16()?;
        let unknown = LayoutError::Unknown { what: "receipt code", found: number.into() };
        let receipt = Self { code: Code::from_number(number).ok_or(unknown)?, fee: from.u64()?, units: from.u32()? };
        from.end()?;
        Ok(receipt)
    }
}

/// Why a transaction may not be in the next body, or not in the pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no transaction: {0}")]
    Layout(#[from] LayoutError),
    #[error("the signature does not match the account and this network")]
    Signature,
    #[error("valid until height {valid_until}, this would be {height}")]
    Expired { valid_until: Height, height: Height },
    #[error("valid until height {valid_until}, at most {limit} is allowed now")]
    ValidTooLong { valid_until: Height, limit: Height },
    #[error("the account does not exist")]
    UnknownAccount,
    #[error("the nonce is {found}, the account is at {expected}")]
    Nonce { expected: u64, found: u64 },
    #[error("the fee is {}, it must be at least {}", format_star(*found), format_star(*minimum))]
    FeeTooLow { found: u64, minimum: u64 },
    #[error("a transaction of this kind is free; the fee must be 0")]
    FeeNotZero,
    #[error("the balance of {} does not cover the fee of {}", format_star(*balance), format_star(*fee))]
    FeeNotPayable { balance: u64, fee: u64 },
    #[error("it would have no effect: {0}")]
    NoEffect(Code),
    #[error("the body has no room for it")]
    BodyFull,
    #[error("the pool is full of better paying transactions")]
    PoolFull,
    #[error("{limit} transactions of this account are waiting already")]
    AccountFull { limit: usize },
    #[error("replacing a waiting transaction takes a fee of at least {}", format_star(*minimum))]
    ReplacementTooLow { minimum: u64 },
}

impl Refusal {
    /// Whether the bytes alone prove that its sender or relay misbehaved, whatever state they had (L26).
    pub fn provable(&self) -> bool {
        matches!(self, Self::Layout(_) | Self::Signature | Self::FeeNotZero)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_read_back_and_numbers_of_codes_ascend() {
        assert!(Code::ALL.windows(2).all(|pair| pair[0].number() < pair[1].number()), "ascending and unique");
        for &code in Code::ALL {
            assert_eq!(Code::from_number(code.number()), Some(code));
            let receipt = Receipt { code, fee: 7, units: 10 };
            assert_eq!(receipt.encode().len(), 14);
            assert_eq!(Receipt::decode(&receipt.encode()), Ok(receipt));
        }
        assert!(Receipt::decode(&[0xff; 14]).is_err());
    }
}
