//! The records of those who judge: seats with their history, closes in flight, what was agreed, score logs, challenges.
//!
//! Owns layouts only; `seats`, `close` and `apply/challenge` say what they mean. A record whose default is kept away is
//! the same as none, so that a subnet nobody judges holds nothing.

use super::incentive::{Freshness, ROWS_MAX};
use super::rows::Row;
use crate::protocol::ids::{AccountId, Digest, Epoch, Height, MemberId, SubnetId};
use crate::protocol::layout::{LayoutError, Reader, Writer};

/// Periods a seat's misses and dividends are remembered (D4).
pub const REMEMBERED: usize = 16;
/// Pairs of relations of one close at most: twenty delegators of each seat can reach a twentieth (D8).
const RELATED_MAX: usize = 20 * ROWS_MAX;
/// Miners of one subnet at most, and more.
const AGREED_MAX: usize = 1 << 20;
/// Stands for "never" where a height is kept.
const NEVER: u64 = u64::MAX;

/// What is remembered of a validator's seat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seat {
    /// The last sixteen periods, the newest in the lowest bit: 1 where a commit was not opened.
    pub misses: u16,
    /// Motes of dividend of the last periods, the newest last.
    pub dividends: Vec<u64>,
    pub freshness: Freshness,
    /// Its part of the stake that had a voice, the last time (D6).
    pub active: u64,
    /// The bond is below its minimum: no voice until it is not (D4).
    pub suspended: bool,
    /// Challenges of its logs that wait for an answer (D14).
    pub challenges: u8,
    /// The first period in which it is accountable again.
    pub accountable_from: Epoch,
}

impl Row for Seat {
    fn write(&self, to: Writer) -> Writer {
        let to = to.u16(self.misses).u8(u8::try_from(self.dividends.len()).unwrap_or(u8::MAX));
        let to = self.dividends.iter().fold(to, |to, paid| to.u64(*paid));
        let Freshness { nearer, moved, periods } = self.freshness;
        let to = to.raw(&nearer.to_le_bytes()).raw(&moved.to_le_bytes()).u32(periods).u64(self.active);
        to.u8(u8::from(self.suspended)).u8(self.challenges).u64(self.accountable_from)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        let (misses, count) = (from.u16()?, usize::from(from.u8()?));
        if count > REMEMBERED {
            return Err(LayoutError::TooMany { what: "dividends of a seat", found: count, limit: REMEMBERED });
        }
        let dividends = (0..count).map(|_| from.u64()).collect::<Result<_, _>>()?;
        let (nearer, moved) = (i64::from_le_bytes(from.array()?), i64::from_le_bytes(from.array()?));
        let freshness = Freshness { nearer, moved, periods: from.u32()? };
        let (active, suspended) = (from.u64()?, from.u8()?);
        if suspended > 1 {
            return Err(LayoutError::Unknown { what: "flag", found: suspended.into() });
        }
        let (challenges, accountable_from) = (from.u8()?, from.u64()?);
        Ok(Self { misses, dividends, freshness, active, suspended: suspended == 1, challenges, accountable_from })
    }
}

/// What was agreed on in a period: the consensus of each miner (D6), ascending, zeros left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agreed {
    pub shares: Vec<(MemberId, i64)>,
}

impl Row for Agreed {
    fn write(&self, to: Writer) -> Writer {
        let to = to.u32(u32::try_from(self.shares.len()).unwrap_or(u32::MAX));
        self.shares.iter().fold(to, |to, (member, share)| to.u32(member.0).u64(share.unsigned_abs()))
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        let count = read_count(from, "shares of a consensus", AGREED_MAX, 12)?;
        let share = |from: &mut Reader<'_>| {
            let (member, raw) = (MemberId(from.u32()?), from.u64()?);
            let raw = i64::try_from(raw).map_err(|_| LayoutError::NotCanonical("a share above the whole"))?;
            Ok((member, raw))
        };
        Ok(Self { shares: (0..count).map(|_| share(from)).collect::<Result<_, LayoutError>>()? })
    }
}

/// The clock of a subnet's reveals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// The first period that is not closed yet.
    pub next: Epoch,
    /// How much of the room for weights had been used, in all, when the window opened.
    pub mark: u64,
    /// It was made longer because the ledger was short of room (D3).
    pub extended: bool,
}

impl Row for Window {
    fn write(&self, to: Writer) -> Writer {
        to.u64(self.next).u64(self.mark).u8(u8::from(self.extended))
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        let (next, mark, extended) = (from.u64()?, from.u64()?, from.u8()?);
        if extended > 1 {
            return Err(LayoutError::Unknown { what: "flag", found: extended.into() });
        }
        Ok(Self { next, mark, extended: extended == 1 })
    }
}

/// A validator as a close found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voice {
    pub member: MemberId,
    pub stake: u64,
    /// It may speak: a permit, and a seat that is not suspended.
    pub permit: bool,
    /// It sealed a vector and did not open it.
    pub missed: bool,
    pub last_reveal: Option<Height>,
    /// What its dividend is multiplied by (D6).
    pub gate: i64,
}

/// A close in flight: all that may change until it is applied. Vectors and bonds cannot, so they are read where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    pub period: Epoch,
    /// The height it looks at, and the one it is applied at.
    pub height: Height,
    pub apply_at: Height,
    /// Members from this id on came later.
    pub bound: MemberId,
    /// The root of the state it was taken from: names it on every fork.
    pub root: Digest,
    pub voices: Vec<Voice>,
    pub related: Vec<(MemberId, MemberId)>,
}

impl Row for Close {
    fn write(&self, to: Writer) -> Writer {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let to = to.u64(self.period).u64(self.height).u64(self.apply_at).u32(self.bound.0).raw(&self.root.0);
        let to = self.voices.iter().fold(to.u32(count(self.voices.len())), |to, voice| {
            let flags = u8::from(voice.permit) | (u8::from(voice.missed) << 1);
            let to = to.u32(voice.member.0).u64(voice.stake).u8(flags);
            to.u64(voice.last_reveal.unwrap_or(NEVER)).u64(voice.gate.unsigned_abs())
        });
        let to = to.u32(count(self.related.len()));
        self.related.iter().fold(to, |to, (row, column)| to.u32(row.0).u32(column.0))
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        let (period, height, apply_at) = (from.u64()?, from.u64()?, from.u64()?);
        let (bound, root) = (MemberId(from.u32()?), from.digest()?);
        let voices = read_count(from, "voices of a close", ROWS_MAX, 29)?;
        let voices = (0..voices).map(|_| read_voice(from)).collect::<Result<_, _>>()?;
        let related = read_count(from, "relations of a close", RELATED_MAX, 8)?;
        let pair = |from: &mut Reader<'_>| Ok((MemberId(from.u32()?), MemberId(from.u32()?)));
        let related = (0..related).map(|_| pair(from)).collect::<Result<_, LayoutError>>()?;
        Ok(Self { period, height, apply_at, bound, root, voices, related })
    }
}

fn read_voice(from: &mut Reader<'_>) -> Result<Voice, LayoutError> {
    let (member, stake, flags) = (MemberId(from.u32()?), from.u64()?, from.u8()?);
    if flags > 3 {
        return Err(LayoutError::Unknown { what: "flags of a voice", found: flags.into() });
    }
    let (last, gate) = (from.u64()?, from.u64()?);
    let gate = i64::try_from(gate).map_err(|_| LayoutError::NotCanonical("a gate above the whole"))?;
    let last_reveal = (last != NEVER).then_some(last);
    Ok(Voice { member, stake, permit: flags & 1 == 1, missed: flags & 2 == 2, last_reveal, gate })
}

/// A count, and that many items of `least` bytes are there.
pub(super) fn read_count(
    from: &mut Reader<'_>,
    what: &'static str,
    limit: usize,
    least: usize,
) -> Result<usize, LayoutError> {
    let count = from.u32()?;
    from.room_for(what, count, limit, least)
}

/// What a reveal named as its source: whom it can be held to for sixteen epochs (D11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScoreSource {
    pub commitment: Digest,
    pub scorer_digest: Digest,
    pub params_digest: Digest,
    pub log_root: Digest,
    pub log_len: u64,
    pub revealed: Height,
}

impl Row for ScoreSource {
    fn write(&self, to: Writer) -> Writer {
        let to = to.raw(&self.commitment.0).raw(&self.scorer_digest.0).raw(&self.params_digest.0);
        to.raw(&self.log_root.0).u64(self.log_len).u64(self.revealed)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(Self {
            commitment: from.digest()?,
            scorer_digest: from.digest()?,
            params_digest: from.digest()?,
            log_root: from.digest()?,
            log_len: from.u64()?,
            revealed: from.u64()?,
        })
    }
}

/// A challenge of a score log that waits for its answer (D14).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogChallenge {
    pub challenger: AccountId,
    pub subnet: SubnetId,
    pub validator: MemberId,
    pub period: Epoch,
    /// Which leaf of the log.
    pub entry: u64,
    pub deposit: u64,
}

impl Row for LogChallenge {
    fn write(&self, to: Writer) -> Writer {
        let to = to.raw(&self.challenger.0).u32(self.subnet.0).u32(self.validator.0);
        to.u64(self.period).u64(self.entry).u64(self.deposit)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(Self {
            challenger: from.account()?,
            subnet: SubnetId(from.u32()?),
            validator: MemberId(from.u32()?),
            period: from.u64()?,
            entry: from.u64()?,
            deposit: from.u64()?,
        })
    }

    fn held(&self) -> u128 {
        self.deposit.into()
    }
}
