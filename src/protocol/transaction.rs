//! Transactions: the one kind of thing the ledger can be told, as fixed bytes (T1-T3).
//!
//! A transaction is a length, a payload and a signature. The payload is a hand-written little-endian layout with one
//! encoding per value: what is short, left over, unknown, out of order or could never have an effect is refused here,
//! before any state is asked. The signature covers the domain, the tag 0x10, the chain id and the payload (C8); the id
//! is the digest of the payload alone, so that a second signature makes no second transaction (L20).

use serde::{Deserialize, Serialize};

use super::artifact::publish::ModelPublish;
use super::channel::Voucher;
use super::checkpoint::{EVIDENCE_BYTES, Evidence};
use super::commitment::Opening;
use super::ids::{AccountId, ChainId, Digest, Epoch, Height, MemberId, PublicKey, SubnetId, hash};
use super::keys::{BadSignature, SecretKey, Signature, verify};
use super::layout::{LayoutError, Reader, Writer};

/// The version of the payload layout.
pub const VERSION: u8 = 1;
/// The most bytes of a whole transaction (L21): a vector of the most entries and the wider weights fits.
pub const TRANSACTION_BYTES_MAX: usize = 18 * 1024;
/// The most bytes of a memo.
pub const MEMO_BYTES_MAX: usize = 64;
/// The most bytes of an entry and its path in an answer to a challenge (D14).
pub const ANSWER_BYTES_MAX: usize = 8 * 1024;
/// A path has a node for each doubling of a log's length.
const ANSWER_PATH_MAX: usize = 64;
/// The most bytes of the name of a subnet.
pub const NAME_BYTES_MAX: usize = 32;
/// Rules that one update changes at most.
pub const CHANGES_MAX: usize = 16;
/// Subnets one validator may support (E7).
pub const SUPPORT_MAX: usize = 16;
/// How far ahead of the height `valid_until` may lie (L21).
pub const VALID_HEIGHTS_MAX: u64 = 14_400;
/// Stands for the whole amount in `unstake`.
pub const ALL: u64 = u64::MAX;

const SIGNED_TAG: u8 = 0x10;
const SIGNER_COLD: u8 = 0;
const SIGNATURE_BYTES: usize = 64;
const LENGTH_BYTES: usize = 2;

/// What a member does in a subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Miner,
    Validator,
}

impl Role {
    pub fn byte(self) -> u8 {
        match self {
            Self::Miner => 0,
            Self::Validator => 1,
        }
    }

    /// # Errors
    /// The byte names no role.
    pub fn from_byte(byte: u8) -> Result<Self, LayoutError> {
        match byte {
            0 => Ok(Self::Miner),
            1 => Ok(Self::Validator),
            other => Err(LayoutError::Unknown { what: "role", found: other.into() }),
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Miner => "miner",
            Self::Validator => "validator",
        })
    }
}

/// What stops a kind of transaction from being spam.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The fee, taken even when the effect fails.
    User,
    /// The fee and a deposit that is given back.
    Bonded,
    /// No fee: it must succeed, and only those who staked for the right can send it.
    System,
}

/// What a transaction asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Action {
    Transfer {
        to: AccountId,
        amount: u64,
        memo: Vec<u8>,
    },
    Stake {
        amount: u64,
    },
    /// `ALL` stands for the whole stake.
    Unstake {
        amount: u64,
    },
    /// Stake in another validator's pool.
    Delegate {
        validator: AccountId,
        amount: u64,
    },
    /// `ALL` stands for everything it has there.
    Undelegate {
        validator: AccountId,
        amount: u64,
    },
    /// In hundredths of a percent of rewards.
    SetTake {
        take_bp: u16,
    },
    /// From one pool to another, without a wait; `ALL` stands for everything it has there.
    Redelegate {
        from: AccountId,
        to: AccountId,
        amount: u64,
    },
    /// Everything that is owed to the account's members.
    Claim,
    /// A way to pay a miner of a subnet by vouchers.
    ChannelOpen {
        payee: AccountId,
        voucher_key: PublicKey,
        subnet: SubnetId,
        deposit: u64,
        /// The height at which it ends by itself.
        expiry: Height,
    },
    ChannelTopUp {
        channel: Digest,
        amount: u64,
    },
    ChannelRedeem {
        voucher: Voucher,
    },
    ChannelClose {
        channel: Digest,
        voucher: Option<Voucher>,
    },
    ChannelChallenge {
        voucher: Voucher,
    },
    /// `operator` signs what the member serves; it may be the account's own key.
    Register {
        subnet: SubnetId,
        role: Role,
        operator: PublicKey,
        max_bond: u64,
    },
    Leave {
        subnet: SubnetId,
        member: MemberId,
    },
    /// Opens a subnet, or waits for the place of one; `max_lock` bounds what is locked for it.
    SubnetCreate {
        name: String,
        task: String,
        tempo: u64,
        max_lock: u64,
    },
    /// Changes rules of the sender's subnet, by number and value, with notice; and whose it is, at once.
    SubnetUpdate {
        subnet: SubnetId,
        owner: Option<AccountId>,
        changes: Vec<(u16, u64)>,
    },
    /// Announces the end of the sender's subnet.
    SubnetClose {
        subnet: SubnetId,
    },
    /// Keeps the sender's subnet by matching the lock of who wants its place.
    SubnetMatch {
        subnet: SubnetId,
    },
    /// Gives up the sender's creation that waits for a place.
    SubnetCancel,
    /// Gives up a registration that waits for a slot.
    Unqueue {
        subnet: SubnetId,
        place: u64,
    },
    /// The subnets that the account's stake supports, ids ascending; none take it back.
    Support {
        parts: Vec<(SubnetId, u16)>,
    },
    /// A validator saw a waiting miner answer.
    MemberAttest {
        subnet: SubnetId,
        member: MemberId,
        miner: MemberId,
    },
    /// `version` is that of the scorer; a subnet asks for a least one (Y18).
    WeightsCommit {
        subnet: SubnetId,
        mechanism: u8,
        epoch: Epoch,
        member: MemberId,
        version: u64,
        hash: Digest,
    },
    WeightsReveal {
        subnet: SubnetId,
        mechanism: u8,
        epoch: Epoch,
        member: MemberId,
        opening: Opening,
    },
    /// Two votes of one committee member that exclude each other (C45).
    Accuse(Box<Evidence>),
    /// Records a model, or a seal over one.
    ModelPublish(Box<ModelPublish>),
    /// Adds to the bond of a validator's seat (D4).
    ValidatorBond {
        subnet: SubnetId,
        member: MemberId,
        amount: u64,
    },
    /// Asks a validator for an entry of its score log (D14).
    LogChallenge {
        subnet: SubnetId,
        epoch: Epoch,
        member: MemberId,
        entry: u64,
    },
    /// The entry a challenge asks for, with its path to the root.
    LogAnswer {
        deadline: Height,
        number: u64,
        leaf: Vec<u8>,
        path: Vec<Digest>,
    },
}

impl Action {
    pub fn kind(&self) -> u16 {
        match self {
            Self::Transfer { .. } => 0x01,
            Self::Stake { .. } => 0x10,
            Self::Unstake { .. } => 0x11,
            Self::Delegate { .. } => 0x12,
            Self::Undelegate { .. } => 0x13,
            Self::SetTake { .. } => 0x14,
            Self::Redelegate { .. } => 0x15,
            Self::Claim => 0x16,
            Self::ChannelOpen { .. } => 0x60,
            Self::ChannelTopUp { .. } => 0x61,
            Self::ChannelRedeem { .. } => 0x62,
            Self::ChannelClose { .. } => 0x63,
            Self::ChannelChallenge { .. } => 0x64,
            Self::Register { .. } => 0x33,
            Self::Leave { .. } => 0x34,
            Self::SubnetCreate { .. } => 0x30,
            Self::SubnetUpdate { .. } => 0x31,
            Self::SubnetClose { .. } => 0x32,
            Self::SubnetMatch { .. } => 0x39,
            Self::SubnetCancel => 0x3A,
            Self::Support { .. } => 0x36,
            Self::Unqueue { .. } => 0x37,
            Self::MemberAttest { .. } => 0x38,
            Self::WeightsCommit { .. } => 0x40,
            Self::WeightsReveal { .. } => 0x41,
            Self::ModelPublish(_) => 0x50,
            Self::Accuse(_) => 0x90,
            Self::ValidatorBond { .. } => 0x42,
            Self::LogChallenge { .. } => 0x43,
            Self::LogAnswer { .. } => 0x44,
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Transfer { .. } => "transfer",
            Self::Stake { .. } => "stake",
            Self::Unstake { .. } => "unstake",
            Self::Delegate { .. } => "delegate",
            Self::Undelegate { .. } => "undelegate",
            Self::SetTake { .. } => "set_take",
            Self::Redelegate { .. } => "redelegate",
            Self::Claim => "claim",
            Self::ChannelOpen { .. } => "channel_open",
            Self::ChannelTopUp { .. } => "channel_top_up",
            Self::ChannelRedeem { .. } => "channel_redeem",
            Self::ChannelClose { .. } => "channel_close",
            Self::ChannelChallenge { .. } => "channel_challenge",
            Self::Register { .. } => "register",
            Self::Leave { .. } => "leave",
            Self::SubnetCreate { .. } => "subnet_create",
            Self::SubnetUpdate { .. } => "subnet_update",
            Self::SubnetClose { .. } => "subnet_close",
            Self::SubnetMatch { .. } => "subnet_match",
            Self::SubnetCancel => "subnet_cancel",
            Self::Support { .. } => "support",
            Self::Unqueue { .. } => "unqueue",
            Self::MemberAttest { .. } => "member_attest",
            Self::WeightsCommit { .. } => "weights_commit",
            Self::WeightsReveal { .. } => "weights_reveal",
            Self::ModelPublish(_) => "model_publish",
            Self::Accuse(_) => "evidence_submit",
            Self::ValidatorBond { .. } => "validator_bond",
            Self::LogChallenge { .. } => "log_challenge",
            Self::LogAnswer { .. } => "log_answer",
        }
    }

    pub fn class(&self) -> Class {
        match self {
            Self::Transfer { .. }
            | Self::Stake { .. }
            | Self::Unstake { .. }
            | Self::Delegate { .. }
            | Self::Undelegate { .. }
            | Self::SetTake { .. }
            | Self::Redelegate { .. }
            | Self::Claim
            | Self::ChannelTopUp { .. }
            | Self::ChannelRedeem { .. }
            | Self::ChannelClose { .. }
            | Self::ChannelChallenge { .. }
            | Self::ModelPublish(_)
            | Self::ValidatorBond { .. }
            | Self::LogAnswer { .. }
            | Self::Support { .. }
            | Self::Unqueue { .. }
            | Self::SubnetUpdate { .. }
            | Self::SubnetClose { .. }
            | Self::SubnetMatch { .. }
            | Self::SubnetCancel
            | Self::Leave { .. } => Class::User,
            Self::SubnetCreate { .. }
            | Self::Register { .. }
            | Self::ChannelOpen { .. }
            | Self::LogChallenge { .. } => Class::Bonded,
            Self::Accuse(_) | Self::MemberAttest { .. } | Self::WeightsCommit { .. } | Self::WeightsReveal { .. } => {
                Class::System
            }
        }
    }

    /// Work in units of about 10 microseconds of one core (L5, T3).
    pub fn units(&self) -> u32 {
        match self {
            Self::Transfer { .. } | Self::Stake { .. } | Self::Delegate { .. } | Self::SetTake { .. } => 10,
            Self::Unstake { .. }
            | Self::Undelegate { .. }
            | Self::Leave { .. }
            | Self::Unqueue { .. }
            | Self::Support { .. } => 12,
            Self::Redelegate { .. } | Self::Claim => 20,
            Self::ChannelOpen { .. } | Self::ChannelTopUp { .. } => 15,
            // One more signature is verified.
            Self::ChannelRedeem { .. } | Self::ChannelClose { .. } | Self::ChannelChallenge { .. } => 25,
            Self::ModelPublish(_) => 20,
            Self::Register { .. } | Self::SubnetUpdate { .. } | Self::SubnetClose { .. } => 20,
            Self::SubnetMatch { .. } | Self::SubnetCancel => 20,
            // The price is that of a whole new market.
            Self::SubnetCreate { .. } => 200,
            Self::WeightsCommit { .. } | Self::MemberAttest { .. } => 8,
            Self::ValidatorBond { .. } => 12,
            Self::LogChallenge { .. } => 20,
            // Two signatures are verified, and a penalty touches everything that is held.
            Self::Accuse(_) | Self::LogAnswer { .. } => 40,
            // The vector is at most WEIGHTS_MAX long, so this is at most 42.
            Self::WeightsReveal { opening, .. } => 10 + u32::try_from(opening.row.len()).unwrap_or(u32::MAX) / 64,
        }
    }

    fn write(&self, to: Writer) -> Writer {
        match self {
            // A count that does not fit is caught by `check`, which runs wherever a payload is made or read.
            Self::Transfer { to: payee, amount, memo } => {
                to.raw(&payee.0).u64(*amount).u8(u8::try_from(memo.len()).unwrap_or(u8::MAX)).raw(memo)
            }
            Self::Stake { amount } | Self::Unstake { amount } => to.u64(*amount),
            Self::Delegate { validator, amount } | Self::Undelegate { validator, amount } => {
                to.raw(&validator.0).u64(*amount)
            }
            Self::SetTake { take_bp } => to.u16(*take_bp),
            Self::Redelegate { from, to: pool, amount } => to.raw(&from.0).raw(&pool.0).u64(*amount),
            Self::Claim => to,
            Self::ChannelOpen { payee, voucher_key, subnet, deposit, expiry } => {
                to.raw(&payee.0).raw(&voucher_key.0).u32(subnet.0).u64(*deposit).u64(*expiry)
            }
            Self::ChannelTopUp { channel, amount } => to.raw(&channel.0).u64(*amount),
            Self::ChannelRedeem { voucher } | Self::ChannelChallenge { voucher } => write_voucher(to, voucher),
            Self::ChannelClose { channel, voucher } => match voucher {
                Some(voucher) => write_voucher(to, voucher),
                None => to.raw(&channel.0).u64(0).raw(&[0; SIGNATURE_BYTES]),
            },
            Self::Register { subnet, role, operator, max_bond } => {
                to.u32(subnet.0).u8(role.byte()).raw(&operator.0).u64(*max_bond)
            }
            Self::Leave { subnet, member } => to.u32(subnet.0).u32(member.0),
            Self::Unqueue { subnet, place } => to.u32(subnet.0).u64(*place),
            Self::SubnetCreate { name, task, tempo, max_lock } => {
                write_word(write_word(to, name), task).u64(*tempo).u64(*max_lock)
            }
            Self::SubnetUpdate { subnet, owner, changes } => {
                let to = to.u32(subnet.0).raw(&owner.unwrap_or(AccountId::ZERO).0);
                let to = to.u8(u8::try_from(changes.len()).unwrap_or(u8::MAX));
                changes.iter().fold(to, |to, (rule, value)| to.u16(*rule).u64(*value))
            }
            Self::SubnetClose { subnet } | Self::SubnetMatch { subnet } => to.u32(subnet.0),
            Self::SubnetCancel => to,
            Self::Support { parts } => write_parts(to, parts),
            Self::MemberAttest { subnet, member, miner } => to.u32(subnet.0).u32(member.0).u32(miner.0),
            Self::WeightsCommit { subnet, mechanism, epoch, member, version, hash } => {
                to.u32(subnet.0).u8(*mechanism).u64(*epoch).u32(member.0).u64(*version).raw(&hash.0)
            }
            Self::WeightsReveal { subnet, mechanism, epoch, member, opening } => {
                opening.write(to.u32(subnet.0).u8(*mechanism).u64(*epoch).u32(member.0))
            }
            Self::ModelPublish(model) => model.write(to),
            Self::Accuse(evidence) => to.raw(&evidence.layout()),
            Self::ValidatorBond { subnet, member, amount } => to.u32(subnet.0).u32(member.0).u64(*amount),
            Self::LogChallenge { subnet, epoch, member, entry } => {
                to.u32(subnet.0).u64(*epoch).u32(member.0).u64(*entry)
            }
            Self::LogAnswer { deadline, number, leaf, path } => {
                let to = to.u64(*deadline).u64(*number).u16(u16::try_from(leaf.len()).unwrap_or(u16::MAX)).raw(leaf);
                let to = to.u8(u8::try_from(path.len()).unwrap_or(u8::MAX));
                path.iter().fold(to, |to, node| to.raw(&node.0))
            }
        }
    }

    fn read(kind: u16, from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(match kind {
            0x01 => {
                let (to, amount, count) = (from.account()?, from.u64()?, from.u8()?);
                if usize::from(count) > MEMO_BYTES_MAX {
                    return Err(LayoutError::TooMany { what: "memo", found: count.into(), limit: MEMO_BYTES_MAX });
                }
                Self::Transfer { to, amount, memo: from.raw(count.into())?.to_vec() }
            }
            0x10 => Self::Stake { amount: from.u64()? },
            0x11 => Self::Unstake { amount: from.u64()? },
            0x12 => Self::Delegate { validator: from.account()?, amount: from.u64()? },
            0x13 => Self::Undelegate { validator: from.account()?, amount: from.u64()? },
            0x14 => Self::SetTake { take_bp: from.u16()? },
            0x15 => Self::Redelegate { from: from.account()?, to: from.account()?, amount: from.u64()? },
            0x16 => Self::Claim,
            0x60 => Self::ChannelOpen {
                payee: from.account()?,
                voucher_key: from.key()?,
                subnet: SubnetId(from.u32()?),
                deposit: from.u64()?,
                expiry: from.u64()?,
            },
            0x61 => Self::ChannelTopUp { channel: from.digest()?, amount: from.u64()? },
            0x62 => Self::ChannelRedeem { voucher: read_voucher(from)? },
            0x63 => {
                let voucher = read_voucher(from)?;
                let none = voucher.cumulative == 0 && voucher.signature.0 == [0; SIGNATURE_BYTES];
                Self::ChannelClose { channel: voucher.channel, voucher: (!none).then_some(voucher) }
            }
            0x64 => Self::ChannelChallenge { voucher: read_voucher(from)? },
            0x33 => Self::Register {
                subnet: SubnetId(from.u32()?),
                role: Role::from_byte(from.u8()?)?,
                operator: from.key()?,
                max_bond: from.u64()?,
            },
            0x30 => Self::SubnetCreate {
                name: read_word(from)?,
                task: read_word(from)?,
                tempo: from.u64()?,
                max_lock: from.u64()?,
            },
            0x31 => {
                let subnet = SubnetId(from.u32()?);
                let owner = Some(from.account()?).filter(|owner| *owner != AccountId::ZERO);
                let count = from.u8()?;
                let changes: Result<Vec<_>, LayoutError> = (0..count).map(|_| Ok((from.u16()?, from.u64()?))).collect();
                Self::SubnetUpdate { subnet, owner, changes: changes? }
            }
            0x32 => Self::SubnetClose { subnet: SubnetId(from.u32()?) },
            0x39 => Self::SubnetMatch { subnet: SubnetId(from.u32()?) },
            0x3A => Self::SubnetCancel,
            0x36 => Self::Support { parts: read_parts(from)? },
            0x37 => Self::Unqueue { subnet: SubnetId(from.u32()?), place: from.u64()? },
            0x38 => Self::MemberAttest {
                subnet: SubnetId(from.u32()?),
                member: MemberId(from.u32()?),
                miner: MemberId(from.u32()?),
            },
            0x34 => Self::Leave { subnet: SubnetId(from.u32()?), member: MemberId(from.u32()?) },
            0x40 => Self::WeightsCommit {
                subnet: SubnetId(from.u32()?),
                mechanism: from.u8()?,
                epoch: from.u64()?,
                member: MemberId(from.u32()?),
                version: from.u64()?,
                hash: from.digest()?,
            },
            0x42 => Self::ValidatorBond {
                subnet: SubnetId(from.u32()?),
                member: MemberId(from.u32()?),
                amount: from.u64()?,
            },
            0x43 => Self::LogChallenge {
                subnet: SubnetId(from.u32()?),
                epoch: from.u64()?,
                member: MemberId(from.u32()?),
                entry: from.u64()?,
            },
            0x44 => read_answer(from)?,
            0x41 => Self::WeightsReveal {
                subnet: SubnetId(from.u32()?),
                mechanism: from.u8()?,
                epoch: from.u64()?,
                member: MemberId(from.u32()?),
                opening: Opening::read(from)?,
            },
            0x90 => Self::Accuse(Box::new(Evidence::from_layout(from.raw(EVIDENCE_BYTES)?)?)),
            0x50 => Self::ModelPublish(Box::new(ModelPublish::read(from)?)),
            other => return Err(LayoutError::Unknown { what: "kind of transaction", found: other.into() }),
        })
    }

    /// What can be judged without any state.
    fn check(&self) -> Result<(), LayoutError> {
        match self {
            Self::Transfer { amount: 0, .. }
            | Self::Stake { amount: 0 }
            | Self::Unstake { amount: 0 }
            | Self::Delegate { amount: 0, .. }
            | Self::Undelegate { amount: 0, .. }
            | Self::Redelegate { amount: 0, .. }
            | Self::ChannelOpen { deposit: 0, .. }
            | Self::ChannelTopUp { amount: 0, .. } => Err(LayoutError::NotCanonical("the amount is 0")),
            Self::Transfer { memo, .. } if memo.len() > MEMO_BYTES_MAX => {
                Err(LayoutError::TooMany { what: "memo", found: memo.len(), limit: MEMO_BYTES_MAX })
            }
            Self::ChannelRedeem { voucher } | Self::ChannelChallenge { voucher } if voucher.cumulative == 0 => {
                Err(LayoutError::NotCanonical("the voucher promises nothing"))
            }
            Self::ChannelClose { channel, voucher: Some(voucher) }
                if voucher.channel != *channel || voucher.cumulative == 0 =>
            {
                Err(LayoutError::NotCanonical("the voucher is another channel's or promises nothing"))
            }
            Self::Support { parts } => check_parts(parts),
            Self::SubnetCreate { name, task, .. } => check_word(name).and(check_word(task)),
            Self::SubnetUpdate { owner, changes, .. } => check_changes(owner.is_some(), changes),
            Self::WeightsReveal { opening, .. } => opening.check(),
            Self::ModelPublish(model) => model.check(),
            Self::ValidatorBond { amount: 0, .. } => Err(LayoutError::NotCanonical("the amount is 0")),
            Self::LogAnswer { leaf, path, .. } => check_answer(leaf, path),
            _ => Ok(()),
        }
    }
}

fn write_voucher(to: Writer, voucher: &Voucher) -> Writer {
    to.raw(&voucher.channel.0).u64(voucher.cumulative).raw(&voucher.signature.0)
}

fn read_voucher(from: &mut Reader<'_>) -> Result<Voucher, LayoutError> {
    Ok(Voucher { channel: from.digest()?, cumulative: from.u64()?, signature: from.signature()? })
}

fn check_answer(leaf: &[u8], path: &[Digest]) -> Result<(), LayoutError> {
    let found = leaf.len().saturating_add(path.len().saturating_mul(32));
    if found > ANSWER_BYTES_MAX || path.len() > ANSWER_PATH_MAX {
        return Err(LayoutError::TooMany { what: "answer to a challenge", found, limit: ANSWER_BYTES_MAX });
    }
    Ok(())
}

fn write_word(to: Writer, word: &str) -> Writer {
    to.u8(u8::try_from(word.len()).unwrap_or(u8::MAX)).raw(word.as_bytes())
}

fn read_word(from: &mut Reader<'_>) -> Result<String, LayoutError> {
    let count = from.u8()?;
    let bytes = from.raw(count.into())?;
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| LayoutError::NotCanonical("a name is not UTF-8"))
}

fn check_word(word: &str) -> Result<(), LayoutError> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if word.is_empty() || word.len() > NAME_BYTES_MAX || !word.bytes().all(fits) {
        return Err(LayoutError::NotCanonical("a name is 1 to 32 of a-z, 0-9 and -"));
    }
    Ok(())
}

fn read_answer(from: &mut Reader<'_>) -> Result<Action, LayoutError> {
    let (deadline, number, count) = (from.u64()?, from.u64()?, usize::from(from.u16()?));
    let leaf = from.raw(count)?.to_vec();
    let count = usize::from(from.u8()?);
    let path = (0..count).map(|_| from.digest()).collect::<Result<_, _>>()?;
    Ok(Action::LogAnswer { deadline, number, leaf, path })
}

fn check_changes(given: bool, changes: &[(u16, u64)]) -> Result<(), LayoutError> {
    if changes.len() > CHANGES_MAX {
        return Err(LayoutError::TooMany { what: "changes", found: changes.len(), limit: CHANGES_MAX });
    }
    let ascend = changes.iter().zip(changes.iter().skip(1)).all(|(a, b)| a.0 < b.0);
    if !ascend || (changes.is_empty() && !given) {
        return Err(LayoutError::NotCanonical("changes ascend by rule, and something changes"));
    }
    Ok(())
}

fn write_parts(to: Writer, parts: &[(SubnetId, u16)]) -> Writer {
    let count = u8::try_from(parts.len()).unwrap_or(u8::MAX);
    parts.iter().fold(to.u8(count), |to, (subnet, part)| to.u32(subnet.0).u16(*part))
}

fn read_parts(from: &mut Reader<'_>) -> Result<Vec<(SubnetId, u16)>, LayoutError> {
    let count = from.u8()?;
    (0..count).map(|_| Ok((SubnetId(from.u32()?), from.u16()?))).collect()
}

fn check_parts(parts: &[(SubnetId, u16)]) -> Result<(), LayoutError> {
    if parts.len() > SUPPORT_MAX {
        return Err(LayoutError::TooMany { what: "support vector", found: parts.len(), limit: SUPPORT_MAX });
    }
    let ascend = parts.iter().zip(parts.iter().skip(1)).all(|(a, b)| a.0 < b.0);
    if !ascend || parts.iter().any(|(_, part)| *part == 0) {
        return Err(LayoutError::NotCanonical("subnets of a support vector ascend, and no part is 0"));
    }
    Ok(())
}

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    pub account: AccountId,
    pub nonce: u64,
    /// Paid in full, in motes; 0 for class S.
    pub fee: u64,
    /// The last height at which it may be included.
    pub valid_until: Height,
    pub action: Action,
}

impl Transaction {
    /// What stops it from being spam: weights beyond what is free are paid for like anything else (D3).
    pub fn class(&self) -> Class {
        let weights = matches!(self.action, Action::WeightsCommit { .. } | Action::WeightsReveal { .. });
        if weights && self.fee > 0 { Class::User } else { self.action.class() }
    }

    fn payload(&self) -> Vec<u8> {
        let head = Writer::new().u8(VERSION).u16(self.action.kind()).raw(&self.account.0).u8(SIGNER_COLD);
        self.action.write(head.u64(self.nonce).u64(self.fee).u64(self.valid_until)).done()
    }

    fn read(payload: &[u8]) -> Result<Self, LayoutError> {
        let mut from = Reader::new(payload);
        let version = from.u8()?;
        if version != VERSION {
            return Err(LayoutError::Unknown { what: "version of a transaction", found: version.into() });
        }
        let (kind, account, signer) = (from.u16()?, from.account()?, from.u8()?);
        if signer != SIGNER_COLD {
            return Err(LayoutError::Unknown { what: "signer tag", found: signer.into() });
        }
        let (nonce, fee, valid_until) = (from.u64()?, from.u64()?, from.u64()?);
        let action = Action::read(kind, &mut from)?;
        from.end()?;
        action.check()?;
        Ok(Self { account, nonce, fee, valid_until, action })
    }

    /// Bytes of the whole signed transaction, for working out its fee before it is signed.
    pub fn signed_bytes(&self) -> usize {
        LENGTH_BYTES + self.payload().len() + SIGNATURE_BYTES
    }

    /// Signs for one chain.
    ///
    /// # Errors
    /// The action could never have an effect or is too large.
    pub fn sign(self, chain: &ChainId, key: &SecretKey) -> Result<SignedTransaction, LayoutError> {
        self.action.check()?;
        let payload = self.payload();
        let signature = key.sign(&signing_bytes(chain, &payload));
        Ok(SignedTransaction { id: transaction_id(&payload), transaction: self, payload, signature })
    }
}

fn signing_bytes(chain: &ChainId, payload: &[u8]) -> Vec<u8> {
    Writer::signed(SIGNED_TAG).raw(&chain.0).raw(payload).done()
}

fn transaction_id(payload: &[u8]) -> Digest {
    hash("starling/1 tx", &[payload])
}

/// A transaction with the bytes it was read from; the signature is checked by `verify`, not by reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedTransaction {
    pub transaction: Transaction,
    pub id: Digest,
    pub signature: Signature,
    payload: Vec<u8>,
}

impl SignedTransaction {
    /// Length u16, payload, signature.
    pub fn encode(&self) -> Vec<u8> {
        let length = u16::try_from(self.payload.len()).unwrap_or(u16::MAX);
        Writer::new().u16(length).raw(&self.payload).raw(&self.signature.0).done()
    }

    /// # Errors
    /// The bytes are no transaction in its one encoding.
    pub fn decode(bytes: &[u8]) -> Result<Self, LayoutError> {
        if bytes.len() > TRANSACTION_BYTES_MAX {
            let (found, limit) = (bytes.len(), TRANSACTION_BYTES_MAX);
            return Err(LayoutError::TooMany { what: "transaction", found, limit });
        }
        let mut from = Reader::new(bytes);
        let length = from.u16()?;
        let payload = from.raw(length.into())?.to_vec();
        let signature = from.signature()?;
        from.end()?;
        let transaction = Transaction::read(&payload)?;
        Ok(Self { id: transaction_id(&payload), transaction, signature, payload })
    }

    /// What the signature covers (C8).
    pub fn signing_bytes(&self, chain: &ChainId) -> Vec<u8> {
        signing_bytes(chain, &self.payload)
    }

    /// # Errors
    /// The account's key did not sign these bytes for this chain.
    pub fn verify(&self, chain: &ChainId) -> Result<(), BadSignature> {
        verify(&self.transaction.account.into(), &self.signing_bytes(chain), &self.signature)
    }

    /// Bytes of the encoding.
    pub fn bytes(&self) -> usize {
        LENGTH_BYTES + self.payload.len() + SIGNATURE_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::checkpoint::{Ballot, Candidate, Subject, Vote};
    use crate::protocol::commitment::{Weight, Width, canonical_weights};
    use crate::protocol::ids::to_hex;

    const CHAIN: ChainId = ChainId([0xcc; 32]);

    fn key() -> SecretKey {
        SecretKey::from_seed([1; 32])
    }

    fn of(action: Action) -> Transaction {
        Transaction { account: key().public().into(), nonce: 5, fee: 1_000, valid_until: 600, action }
    }

    fn voucher() -> Voucher {
        Voucher { channel: Digest([0xcc; 32]), cumulative: 8, signature: Signature([0xdd; 64]) }
    }

    /// One of each kind, with distinct values in every field.
    /// Term 0, view 5 above view 4.
    const VIEW: &str = "000000000000000005000000000000000400000000000000";

    fn evidence() -> Evidence {
        let vote = |hash: u8| {
            let ballot = Ballot::Notarize(Candidate { hash: Digest([hash; 32]), parent_view: 4 });
            Vote { subject: Subject { term: 0, view: 5, ballot }, signer: 4, signature: Signature([0xee; 64]) }
        };
        Evidence::new(vote(0x11), vote(0x22)).unwrap()
    }

    fn examples() -> Vec<Action> {
        let (subnet, member) = (SubnetId(2), MemberId(9));
        let row = vec![(MemberId(1), 65_535), (MemberId(3), 1)];
        let opening =
            Opening { log_len: 6, log_root: Digest([0x11; 32]), ..Opening::bare(Width::Two, row, [0xee; 32]) };
        vec![
            Action::Transfer { to: AccountId([0xaa; 32]), amount: 7, memo: b"hi".to_vec() },
            Action::Stake { amount: 11 },
            Action::Unstake { amount: ALL },
            Action::Delegate { validator: AccountId([0xaa; 32]), amount: 12 },
            Action::Undelegate { validator: AccountId([0xab; 32]), amount: ALL },
            Action::SetTake { take_bp: 300 },
            Action::Redelegate { from: AccountId([0xaa; 32]), to: AccountId([0xab; 32]), amount: 3 },
            Action::Claim,
            Action::ChannelOpen {
                payee: AccountId([0xaa; 32]),
                voucher_key: PublicKey([0xbb; 32]),
                subnet,
                deposit: 5,
                expiry: 6,
            },
            Action::ChannelTopUp { channel: Digest([0xcc; 32]), amount: 7 },
            Action::ChannelRedeem { voucher: voucher() },
            Action::ChannelClose { channel: Digest([0xcc; 32]), voucher: Some(voucher()) },
            Action::ChannelClose { channel: Digest([0xcc; 32]), voucher: None },
            Action::ChannelChallenge { voucher: voucher() },
            Action::Register { subnet, role: Role::Validator, operator: PublicKey([0xbb; 32]), max_bond: 13 },
            Action::Leave { subnet, member },
            Action::WeightsCommit { subnet, mechanism: 0, epoch: 4, member, version: 3, hash: Digest([0xdd; 32]) },
            Action::WeightsReveal { subnet, mechanism: 0, epoch: 4, member, opening },
            Action::ModelPublish(Box::new(crate::protocol::artifact::publish::tests::example())),
            Action::ValidatorBond { subnet, member, amount: 15 },
            Action::LogChallenge { subnet, epoch: 4, member, entry: 17 },
            Action::LogAnswer { deadline: 19, number: 21, leaf: vec![0x77; 3], path: vec![Digest([0x99; 32])] },
            Action::Accuse(Box::new(evidence())),
        ]
    }

    /// T3: the bytes of every kind, after the 60 that all share.
    #[test]
    fn golden_vectors() {
        let repeated = |byte: &str| byte.repeat(32);
        let want = [
            format!("{}0700000000000000026869", repeated("aa")),
            "0b00000000000000".to_owned(),
            "ffffffffffffffff".to_owned(),
            format!("{}0c00000000000000", repeated("aa")),
            format!("{}ffffffffffffffff", repeated("ab")),
            "2c01".to_owned(),
            format!("{}{}0300000000000000", repeated("aa"), repeated("ab")),
            String::new(),
            format!("{}{}0200000005000000000000000600000000000000", repeated("aa"), repeated("bb")),
            format!("{}0700000000000000", repeated("cc")),
            format!("{}0800000000000000{}", repeated("cc"), "dd".repeat(64)),
            format!("{}0800000000000000{}", repeated("cc"), "dd".repeat(64)),
            format!("{}{}", repeated("cc"), "00".repeat(72)),
            format!("{}0800000000000000{}", repeated("cc"), "dd".repeat(64)),
            format!("0200000001{}0d00000000000000", repeated("bb")),
            "0200000009000000".to_owned(),
            format!("02000000000400000000000000090000000300000000000000{}", repeated("dd")),
            format!(
                "0200000000040000000000000009000000{}{}{}0600000000000000{}02020001000000ffff030000000100",
                repeated("00"),
                repeated("00"),
                repeated("11"),
                repeated("ee")
            ),
            format!(
                "02000000{}{}0500000000000000{}020000{}020100a0bb0d00000000000200f9ffffffffffffff",
                repeated("01"),
                repeated("02"),
                repeated("03"),
                repeated("04")
            ),
            "02000000090000000f00000000000000".to_owned(),
            "020000000400000000000000090000001100000000000000".to_owned(),
            format!("130000000000000015000000000000000300777777{}{}", "01", repeated("99")),
            ["11", "22"].map(|hash| format!("01{}0400{}", VIEW.to_owned() + &repeated(hash), "ee".repeat(64))).concat(),
        ];
        let account = "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c";
        for (action, fields) in examples().into_iter().zip(want) {
            let kind = to_hex(&action.kind().to_le_bytes());
            let payload = of(action).payload();
            let head = format!("01{kind}{account}000500000000000000e8030000000000005802000000000000");
            assert_eq!(to_hex(&payload), format!("{head}{fields}"));
        }
        // The size, id and signature of a plain transfer, worked out with other libraries as well.
        let plain = of(Action::Transfer { to: AccountId([0xaa; 32]), amount: 7, memo: Vec::new() });
        let signed = plain.sign(&CHAIN, &key()).unwrap();
        assert_eq!(signed.bytes(), 167);
        let found = [signed.id.to_string(), to_hex(&signed.signature.0)];
        let want = [
            "adfde204cf6a5782abecfc976741dca41400a0a39337dabb617f4c70393b7494",
            "160571af393526cd1e081418e6f2c04414b3964c37f9e4aa9d6a8d9ac921a038\
             0bacce79ee9177db1af2914f2d983c83b97f9289c3d00ae260f60e8e4a5c7a09",
        ];
        assert_eq!(found, want);
    }

    #[test]
    fn every_kind_reads_back_and_verifies_on_its_chain_only() {
        for action in examples() {
            let transaction = of(action);
            let size = transaction.signed_bytes();
            let signed = transaction.clone().sign(&CHAIN, &key()).unwrap();
            let bytes = signed.encode();
            assert_eq!((bytes.len(), signed.bytes()), (size, size));
            let read = SignedTransaction::decode(&bytes).unwrap();
            assert_eq!((&read, &read.transaction), (&signed, &transaction));
            assert_eq!(read.verify(&CHAIN), Ok(()));
            assert_eq!(read.verify(&ChainId([0xcd; 32])), Err(BadSignature));
        }
    }

    /// Every truncation is refused, and so is every change of one byte that still reads, by the signature or by being
    /// another transaction; no bytes read as the same transaction (T1).
    #[test]
    fn there_is_one_encoding() {
        for action in examples() {
            let signed = of(action).sign(&CHAIN, &key()).unwrap();
            let bytes = signed.encode();
            for length in 0..bytes.len() {
                assert!(SignedTransaction::decode(&bytes[..length]).is_err(), "{length}");
            }
            assert!(SignedTransaction::decode(&[&bytes[..], &[0]].concat()).is_err());
            for at in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[at] ^= 1;
                if let Ok(read) = SignedTransaction::decode(&changed) {
                    assert_eq!(read.encode(), changed, "byte {at}");
                    assert_ne!(read, signed);
                    assert!(read.verify(&CHAIN).is_err());
                }
            }
        }
    }

    #[test]
    fn what_could_never_have_an_effect_is_refused_in_every_kind() {
        let reveal = |row| Action::WeightsReveal {
            subnet: SubnetId(1),
            mechanism: 0,
            epoch: 1,
            member: MemberId(1),
            opening: Opening::bare(Width::Two, row, [0; 32]),
        };
        let to = AccountId([1; 32]);
        let many = (0..2_049).map(|id| (MemberId(id), 1)).collect();
        let wrong = [
            (Action::Transfer { to, amount: 0, memo: Vec::new() }, "the amount is 0"),
            (Action::Transfer { to, amount: 1, memo: vec![0; 65] }, "memo holds 65, at most 64 are allowed"),
            (Action::Stake { amount: 0 }, "the amount is 0"),
            (Action::Unstake { amount: 0 }, "the amount is 0"),
            (Action::Delegate { validator: to, amount: 0 }, "the amount is 0"),
            (Action::Undelegate { validator: to, amount: 0 }, "the amount is 0"),
            (Action::Redelegate { from: to, to, amount: 0 }, "the amount is 0"),
            (reveal(vec![(MemberId(1), 0)]), "a weight is 0; leave the miner out instead"),
            (reveal(vec![(MemberId(2), 1), (MemberId(1), 1)]), "member ids of a weight vector do not strictly ascend"),
            (reveal(vec![(MemberId(1), 1), (MemberId(1), 1)]), "member ids of a weight vector do not strictly ascend"),
            (reveal(many), "weight vector holds 2049, at most 2048 are allowed"),
        ];
        for (action, want) in wrong {
            let transaction = of(action);
            let payload = transaction.payload();
            assert_eq!(transaction.sign(&CHAIN, &key()).unwrap_err().to_string(), want);
            // Written by somebody without these checks, the bytes are refused as well.
            assert_eq!(Transaction::read(&payload).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn unknown_versions_signers_kinds_and_roles_are_named() {
        let payload = of(Action::Stake { amount: 1 }).payload();
        for (at, value, want) in [
            (0, 2, "2 is not a known version of a transaction"),
            (1, 9, "9 is not a known kind of transaction"),
            (35, 1, "1 is not a known signer tag"),
        ] {
            let mut changed = payload.clone();
            changed[at] = value;
            assert_eq!(Transaction::read(&changed).unwrap_err().to_string(), want);
        }
        assert_eq!(Role::from_byte(2).unwrap_err().to_string(), "2 is not a known role");
    }

    #[test]
    fn the_largest_reveal_fits_and_units_grow_with_it() {
        let row: Vec<Weight> = (0..2_048).map(|id| (MemberId(id), u32::MAX)).collect();
        let (subnet, member) = (SubnetId(1), MemberId(1));
        let opening = Opening::bare(Width::Four, row, [0; 32]);
        let action = Action::WeightsReveal { subnet, mechanism: 0, epoch: 1, member, opening };
        assert_eq!(action.units(), 42);
        let signed = of(action).sign(&CHAIN, &key()).unwrap();
        assert!(signed.bytes() <= TRANSACTION_BYTES_MAX);
        assert!(SignedTransaction::decode(&signed.encode()).is_ok());
        assert!(SignedTransaction::decode(&vec![0; TRANSACTION_BYTES_MAX + 1]).is_err());
        let mixed = [(MemberId(4), 1_u16), (MemberId(2), 0), (MemberId(1), 3)];
        assert_eq!(canonical_weights(mixed), [(MemberId(1), 3), (MemberId(4), 1)]);
    }
}
