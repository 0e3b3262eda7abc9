//! The records of the economy: a subnet's purse and charter, queues, what validators support, the network's treasury.
//!
//! `held` counts only money. A grant, a carried pot and a burn bank are rights to mint, not money: nothing of them exists
//! before a pot takes it (E4, E6, E9).

use super::super::rows::{Row, read_bool, read_text, read_when, write_bool, write_text, write_when};
use crate::protocol::ids::{AccountId, Epoch, Height, MemberId, PublicKey, SubnetId};
use crate::protocol::layout::{LayoutError, Reader, Writer};
use crate::protocol::parameters::NetworkKind;
use crate::protocol::transaction::SUPPORT_MAX;

/// Creations that wait for a place among the subnets at most (E17).
pub const CHALLENGERS_MAX: usize = 16;
/// Changes of one subnet that wait at most; each rule waits at most once (E17).
pub const CHANGES_MAX: usize = 64;

fn count(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

fn many<T>(
    from: &mut Reader<'_>,
    limit: usize,
    what: &'static str,
    one: impl Fn(&mut Reader<'_>) -> Result<T, LayoutError>,
) -> Result<Vec<T>, LayoutError> {
    let found = usize::from(from.u16()?);
    if found > limit {
        return Err(LayoutError::TooMany { what, found, limit });
    }
    (0..found).map(|_| one(from)).collect()
}

fn write_account(to: Writer, account: Option<AccountId>) -> Writer {
    match account {
        Some(account) => write_bool(to, true).raw(&account.0),
        None => write_bool(to, false),
    }
}

fn read_account(from: &mut Reader<'_>) -> Result<Option<AccountId>, LayoutError> {
    if read_bool(from)? { from.account().map(Some) } else { Ok(None) }
}

/// A price that falls by half in a fixed span and jumps when something is bought (E12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Curve {
    /// What it stood at after the last purchase.
    pub price: u64,
    pub since: Height,
}

impl Curve {
    fn write(self, to: Writer) -> Writer {
        to.u64(self.price).u64(self.since)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(Self { price: from.u64()?, since: from.u64()? })
    }
}

/// Where a member stands on its way from the queue to the exit (E14, E16). Validators are always active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Standing {
    #[default]
    Active,
    /// Nobody has seen it answer yet: heights it has waited, outages left out.
    Waiting { heights: u64 },
    /// Seen; safe for so many epochs more.
    Probation { epochs: u64 },
    /// Leaves when the second epoch after this one opens, if it is still among the lowest.
    Notice { epoch: Epoch },
}

impl Standing {
    pub(in crate::ledger) fn write(self, to: Writer) -> Writer {
        match self {
            Self::Active => to.u8(0),
            Self::Waiting { heights } => to.u8(1).u64(heights),
            Self::Probation { epochs } => to.u8(2).u64(epochs),
            Self::Notice { epoch } => to.u8(3).u64(epoch),
        }
    }

    pub(in crate::ledger) fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(match from.u8()? {
            0 => Self::Active,
            1 => Self::Waiting { heights: from.u64()? },
            2 => Self::Probation { epochs: from.u64()? },
            3 => Self::Notice { epoch: from.u64()? },
            other => return Err(LayoutError::Unknown { what: "standing of a member", found: other.into() }),
        })
    }
}

/// What a subnet may mint. Rights, not money: nothing of it is held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purse {
    /// What the current term grants it (E6, E7), accruing by the height.
    pub usage_grant: u64,
    pub support_grant: u64,
    /// What of the current grant has been taken.
    pub taken: u64,
    /// What earlier terms granted and no settlement took yet.
    pub pending: u64,
    /// Pots nobody could be paid from (E9).
    pub carried_miners: u64,
    pub carried_validators: u64,
    pub carried_epochs: u8,
    /// What it was granted for a term on average, newer terms more (E17).
    pub mean_grant: u64,
    /// The pots of its last settlement.
    pub last_miners: u64,
    pub last_validators: u64,
    /// When it last closed an epoch in which a row was revealed and two strangers mined (E7).
    pub worked: Option<Height>,
    /// The last sign of life of its validators: an attestation or a reveal (E14).
    pub seen: Height,
    /// What a miner's place costs (E12).
    pub price: Curve,
    /// The number the next registration in the queue gets.
    pub next_queued: u64,
}

impl Purse {
    pub fn grant(&self) -> u64 {
        self.usage_grant.saturating_add(self.support_grant)
    }
}

impl Row for Purse {
    fn write(&self, to: Writer) -> Writer {
        let to = to.u64(self.usage_grant).u64(self.support_grant);
        let to = to.u64(self.taken).u64(self.pending).u64(self.carried_miners).u64(self.carried_validators);
        let to = write_when(
            to.u8(self.carried_epochs).u64(self.mean_grant).u64(self.last_miners).u64(self.last_validators),
            self.worked,
        );
        self.price.write(to.u64(self.seen)).u64(self.next_queued)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(Self {
            usage_grant: from.u64()?,
            support_grant: from.u64()?,
            taken: from.u64()?,
            pending: from.u64()?,
            carried_miners: from.u64()?,
            carried_validators: from.u64()?,
            carried_epochs: from.u8()?,
            mean_grant: from.u64()?,
            last_miners: from.u64()?,
            last_validators: from.u64()?,
            worked: read_when(from)?,
            seen: from.u64()?,
            price: Curve::read(from)?,
            next_queued: from.u64()?,
        })
    }
}

/// The subnets a validator wants the network to pay (E7): ids ascending, parts above 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Support {
    pub parts: Vec<(SubnetId, u16)>,
}

impl Row for Support {
    fn write(&self, to: Writer) -> Writer {
        self.parts.iter().fold(to.u16(count(self.parts.len())), |to, (subnet, part)| to.u32(subnet.0).u16(*part))
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        let one = |from: &mut Reader<'_>| Ok((SubnetId(from.u32()?), from.u16()?));
        Ok(Self { parts: many(from, SUPPORT_MAX, "support vector", one)? })
    }
}

/// A miner that waits for a place (E16); its bond is locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    pub account: AccountId,
    pub operator: PublicKey,
    /// The price paid: who paid more comes first.
    pub paid: u64,
    /// The part of it that comes back.
    pub bond: u64,
    pub since: Height,
}

impl Row for Queued {
    fn write(&self, to: Writer) -> Writer {
        to.raw(&self.account.0).raw(&self.operator.0).u64(self.paid).u64(self.bond).u64(self.since)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(Self {
            account: from.account()?,
            operator: from.key()?,
            paid: from.u64()?,
            bond: from.u64()?,
            since: from.u64()?,
        })
    }

    fn held(&self) -> u128 {
        self.bond.into()
    }
}

/// A rule that changes when an epoch opens (E17).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    pub rule: u16,
    pub value: u64,
    pub epoch: Epoch,
}

/// Whose a subnet is and how it ends (E17). The row stays when the subnet is gone: names and ids are never reused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Charter {
    pub name: String,
    pub owner: Option<AccountId>,
    /// Locked while the subnet is open; all of it comes back.
    pub lock: u64,
    pub created: Height,
    /// No challenger can put it on notice before.
    pub protected_until: Height,
    /// It closes at this height, because its owner wants to or because a challenger takes its place.
    pub closing: Option<Height>,
    /// Whether a challenger is the reason; the owner may match it then.
    pub challenged: bool,
    pub closed: Option<Height>,
    pub changes: Vec<Change>,
    /// When each rule was last changed, by number.
    pub changed: Vec<(u16, Epoch)>,
}

impl Row for Charter {
    fn write(&self, to: Writer) -> Writer {
        let to = write_account(write_text(to, &self.name), self.owner);
        let to = to.u64(self.lock).u64(self.created).u64(self.protected_until);
        let to = write_when(write_bool(write_when(to, self.closing), self.challenged), self.closed);
        let to = to.u16(count(self.changes.len()));
        let to = self.changes.iter().fold(to, |to, change| to.u16(change.rule).u64(change.value).u64(change.epoch));
        let to = to.u16(count(self.changed.len()));
        self.changed.iter().fold(to, |to, (rule, epoch)| to.u16(*rule).u64(*epoch))
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(Self {
            name: read_text(from)?,
            owner: read_account(from)?,
            lock: from.u64()?,
            created: from.u64()?,
            protected_until: from.u64()?,
            closing: read_when(from)?,
            challenged: read_bool(from)?,
            closed: read_when(from)?,
            changes: many(from, CHANGES_MAX, "changes of a subnet", |from| {
                Ok(Change { rule: from.u16()?, value: from.u64()?, epoch: from.u64()? })
            })?,
            changed: many(from, CHANGES_MAX, "changes of a subnet", |from| Ok((from.u16()?, from.u64()?)))?,
        })
    }

    fn held(&self) -> u128 {
        self.lock.into()
    }
}

/// Who saw a waiting miner answer (E14): validators of its subnet, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attested {
    pub by: Vec<MemberId>,
}

impl Row for Attested {
    fn write(&self, to: Writer) -> Writer {
        self.by.iter().fold(to.u16(count(self.by.len())), |to, member| to.u32(member.0))
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(Self { by: many(from, super::members::ATTESTERS, "attestations", |from| from.u32().map(MemberId))? })
    }
}

/// A creation that waits for the place of a subnet on notice (E17). Its lock is the network's until then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenger {
    pub account: AccountId,
    pub name: String,
    pub task: String,
    pub tempo: u64,
    pub lock: u64,
    pub since: Height,
}

/// The books of the whole network: the term, and who waits for a place among the subnets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Treasury {
    /// A devnet, whose rules may go below the public bounds.
    pub devnet: bool,
    /// The height the current term began after.
    pub term_start: Height,
    /// Voting weight times heights attended in this term, by account (E5).
    pub attended: Vec<(AccountId, u64)>,
    /// What that would be had everybody always attended.
    pub attendable: u64,
    /// What the last boundary found: the budget's parts, and what of each was granted or paid.
    pub budget: Budget,
    /// What creating a subnet locks (E17).
    pub lock: Curve,
    pub next_subnet: u32,
    pub challengers: Vec<Challenger>,
}

/// Parts of one term's budget in motes (E4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Budget {
    pub committee: u64,
    pub usage: u64,
    pub support: u64,
    /// Paid to the committee, and granted to subnets.
    pub paid: u64,
    pub used: u64,
    pub supported: u64,
}

/// Committee members counted at most.
const ATTENDED_MAX: usize = 1_024;

impl Treasury {
    /// The bounds that rules of subnets keep.
    pub fn network(&self) -> NetworkKind {
        if self.devnet { NetworkKind::Devnet } else { NetworkKind::Public }
    }
}

impl Row for Treasury {
    fn write(&self, to: Writer) -> Writer {
        let to = write_bool(to, self.devnet).u64(self.term_start).u16(count(self.attended.len()));
        let to = self.attended.iter().fold(to, |to, (account, times)| to.raw(&account.0).u64(*times));
        let b = &self.budget;
        let to = to.u64(self.attendable).u64(b.committee).u64(b.usage).u64(b.support);
        let to = self.lock.write(to.u64(b.paid).u64(b.used).u64(b.supported)).u32(self.next_subnet);
        self.challengers.iter().fold(to.u16(count(self.challengers.len())), |to, of| {
            let to = write_text(write_text(to.raw(&of.account.0), &of.name), &of.task);
            to.u64(of.tempo).u64(of.lock).u64(of.since)
        })
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(Self {
            devnet: read_bool(from)?,
            term_start: from.u64()?,
            attended: many(from, ATTENDED_MAX, "attendance", |from| Ok((from.account()?, from.u64()?)))?,
            attendable: from.u64()?,
            budget: Budget {
                committee: from.u64()?,
                usage: from.u64()?,
                support: from.u64()?,
                paid: from.u64()?,
                used: from.u64()?,
                supported: from.u64()?,
            },
            lock: Curve::read(from)?,
            next_subnet: from.u32()?,
            challengers: many(from, CHALLENGERS_MAX, "challengers", |from| {
                Ok(Challenger {
                    account: from.account()?,
                    name: read_text(from)?,
                    task: read_text(from)?,
                    tempo: from.u64()?,
                    lock: from.u64()?,
                    since: from.u64()?,
                })
            })?,
        })
    }

    fn held(&self) -> u128 {
        self.challengers.iter().map(|of| u128::from(of.lock)).sum()
    }
}
