//! Lines of an account's statement: each change of what an account has, with where it came from (E21).
//!
//! A line has one layout of 111 bytes, so that it can be proved under a checkpoint. Over all lines of one account and one
//! purse: what was there before, and their sum, is what is there after, to the mote. The ledger writes them
//! (`ledger/money.rs`); nothing of the past is in its state.

use serde::{Deserialize, Serialize};

use super::ids::{AccountId, Epoch, Height, SubnetId};
use super::layout::{LayoutError, Reader, Writer};

/// Stands for "none" where an epoch is kept.
const NO_EPOCH: u64 = u64::MAX;
/// Stands for "none" where a subnet is kept.
const NO_SUBNET: u32 = u32::MAX;
/// Stands for "none" where a mechanism is kept.
const NO_MECHANISM: u8 = u8::MAX;

/// Declares an enum whose values are bytes, with the names people read.
macro_rules! bytes {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$of:meta])* $value:ident = $byte:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$of])* $value,)*
        }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$value,)*];

            pub fn byte(self) -> u8 {
                match self {
                    $(Self::$value => $byte,)*
                }
            }

            /// # Errors
            /// The byte names nothing.
            pub fn from_byte(byte: u8) -> Result<Self, LayoutError> {
                match byte {
                    $($byte => Ok(Self::$value),)*
                    other => Err(LayoutError::Unknown { what: $what, found: other.into() }),
                }
            }

            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$value => $text,)*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

bytes! {
    /// Where an account's money sits.
    Purse, "purse" {
        /// What it can spend.
        Balance = 0, "balance";
        /// The pool it runs: its own stake and what others delegated to it.
        Pool = 1, "pool";
        /// Taken out of a pool, held and slashable until its height.
        Unbonding = 2, "unbonding";
        /// Bonds of its members.
        Bond = 3, "bond";
        /// Earned by its members and not claimed yet.
        Owed = 4, "owed";
        /// Deposits of the channels it pays from.
        Channel = 5, "channel";
        /// Locks of the subnets it owns.
        Lock = 6, "lock";
        /// Bonds of its registrations that wait for a slot.
        Place = 7, "place";
        /// Deposits of its challenges.
        Challenge = 8, "challenge";
        /// Deposits of its questions.
        Question = 9, "question";
        /// On its way to the balance: paid by itself when its height comes.
        Waiting = 10, "waiting";
        /// Bonds of its validators' seats.
        Seat = 11, "seat";
    }
}

bytes! {
    /// Why an account's money changed.
    Kind, "kind of line" {
        Transfer = 0, "transfer";
        Fee = 1, "fee";
        Tip = 2, "tip";
        EmissionMiner = 3, "emission_miner";
        EmissionValidator = 4, "emission_validator";
        EmissionOwner = 5, "emission_owner";
        EmissionCommittee = 6, "emission_committee";
        /// The part of a reward that a validator keeps before its delegators share.
        Take = 7, "take";
        QueryFee = 8, "query_fee";
        Burn = 9, "burn";
        BondLock = 10, "bond_lock";
        BondRefund = 11, "bond_refund";
        BondForfeit = 12, "bond_forfeit";
        Delegate = 13, "delegate";
        Undelegate = 14, "undelegate";
        Redelegate = 15, "redelegate";
        /// Held long enough: from unbonding to the balance.
        Unbonded = 16, "unbonded";
        Slash = 17, "slash";
        Claim = 18, "claim";
        Lock = 19, "lock";
        LockRefund = 20, "lock_refund";
        GrantCarry = 21, "grant_carry";
        EntryFee = 22, "entry_fee";
        /// Paid for proving somebody's fault.
        Reward = 23, "reward";
        ChannelDeposit = 24, "channel_deposit";
        ChannelRefund = 25, "channel_refund";
        Deposit = 26, "deposit";
        DepositRefund = 27, "deposit_refund";
        DepositForfeit = 28, "deposit_forfeit";
        /// Less than an account may have: burned when it closes.
        Dust = 29, "dust";
        /// What the genesis file gave: the first line of a purse, at height 0.
        Genesis = 30, "genesis";
    }
}

/// One change of one purse of one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub height: Height,
    pub account: AccountId,
    pub purse: Purse,
    pub kind: Kind,
    pub subnet: Option<SubnetId>,
    pub epoch: Option<Epoch>,
    pub mechanism: Option<u8>,
    /// Motes: above 0 came in, below 0 went out. No sum of money exceeds an `i64`.
    pub amount: i64,
    pub counterpart: Option<AccountId>,
    /// The part of the pot that this line is, in the pot's own measure; 0 of 0 where there was none.
    pub share: u64,
    pub pot: u64,
}

impl Line {
    /// The bytes that a checkpoint proves.
    pub fn encode(&self) -> Vec<u8> {
        Writer::new()
            .u64(self.height)
            .raw(&self.account.0)
            .u8(self.purse.byte())
            .u8(self.kind.byte())
            .u32(self.subnet.map_or(NO_SUBNET, |subnet| subnet.0))
            .u64(self.epoch.unwrap_or(NO_EPOCH))
            .u8(self.mechanism.unwrap_or(NO_MECHANISM))
            .raw(&self.amount.to_le_bytes())
            .raw(&self.counterpart.unwrap_or(AccountId::ZERO).0)
            .u64(self.share)
            .u64(self.pot)
            .done()
    }

    /// # Errors
    /// The bytes are no line.
    pub fn decode(bytes: &[u8]) -> Result<Self, LayoutError> {
        let mut from = Reader::new(bytes);
        let line = Self {
            height: from.u64()?,
            account: from.account()?,
            purse: Purse::from_byte(from.u8()?)?,
            kind: Kind::from_byte(from.u8()?)?,
            subnet: Some(from.u32()?).filter(|id| *id != NO_SUBNET).map(SubnetId),
            epoch: Some(from.u64()?).filter(|epoch| *epoch != NO_EPOCH),
            mechanism: Some(from.u8()?).filter(|id| *id != NO_MECHANISM),
            amount: from.array().map(i64::from_le_bytes)?,
            counterpart: Some(from.account()?).filter(|account| *account != AccountId::ZERO),
            share: from.u64()?,
            pot: from.u64()?,
        };
        from.end()?;
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        Line {
            height: 7,
            account: AccountId([1; 32]),
            purse: Purse::Owed,
            kind: Kind::EmissionMiner,
            subnet: Some(SubnetId(2)),
            epoch: Some(3),
            mechanism: Some(0),
            amount: -5,
            counterpart: Some(AccountId([9; 32])),
            share: 1,
            pot: 4,
        }
    }

    #[test]
    fn e21_lines_read_back_and_every_byte_counts() {
        let nothing = Line { subnet: None, epoch: None, mechanism: None, counterpart: None, ..line() };
        for line in [line(), nothing] {
            let bytes = line.encode();
            assert_eq!((bytes.len(), Line::decode(&bytes)), (111, Ok(line)));
            for place in 0..bytes.len() {
                let mut other = bytes.clone();
                other[place] ^= 1;
                assert_ne!(Line::decode(&other), Ok(line), "byte {place}");
            }
            assert!(Line::decode(&bytes[1..]).is_err());
        }
    }

    #[test]
    fn purses_and_kinds_are_their_bytes() {
        for (number, purse) in (0..).zip(Purse::ALL) {
            assert_eq!((purse.byte(), Purse::from_byte(number)), (number, Ok(*purse)));
        }
        for (number, kind) in (0..).zip(Kind::ALL) {
            assert_eq!((kind.byte(), Kind::from_byte(number)), (number, Ok(*kind)));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        assert!(Purse::from_byte(200).is_err() && Kind::from_byte(200).is_err());
    }
}
