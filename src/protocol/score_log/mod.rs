//! Score logs: what a validator saw of its miners in an epoch, so that others can do its sums again (D11 to D14).
//!
//! Owns the entries and their bytes, the tree over them, the fold from entries to a row, and the comparison of a row that
//! was revealed with the one its log gives. Refuses floats: everything from a score on is integers. Leaf 0 of the tree
//! is the head, which chains the board of this epoch to the one before; entry i is leaf i + 1.

mod echo;
mod fold;
mod replay;

pub use echo::{Echo, echoes};
pub use fold::{Board, FULL_U16, FULL_U32, Rules, board, row};
pub use replay::{Claim, Difference, replay};

use super::ids::{ChainId, Digest, Epoch, MemberId, PublicKey, SubnetId, hash};
use super::keys::{BadSignature, SecretKey, Signature, verify};
use super::layout::{LayoutError, Reader, Writer};
use super::merkle::{merkle_path, merkle_root};

/// The layout of a log's bytes.
const VERSION: u8 = 1;
const SIGNED_TAG: u8 = 0x24;
const HEAD_TAG: u8 = 0;
const ENTRY_TAG: u8 = 1;
/// Raw scores of one entry.
pub const CRITERIA_MAX: usize = 8;
/// Entries of one log: every miner of a full subnet, sixteen times over.
pub const ENTRIES_MAX: usize = 65_536;
/// The most bytes of a published log, with the answers it holds.
pub const LOG_BYTES_MAX: usize = 32 << 20;
/// The most bytes of one answer kept beside the entries.
pub const ANSWER_BYTES_MAX: usize = 256 << 10;
/// Stands for "no answer" where an entry has its arrival.
pub const NEVER: u8 = u8::MAX;
/// Equal parts of the deadline into which arrivals fall.
pub const BUCKETS: u8 = 16;

/// When an answer came, in sixteenths of its deadline, rounded up; later is `BUCKETS` + 1.
pub fn bucket(latency_ms: u64, deadline_ms: u64) -> u8 {
    let sixteenths = latency_ms.saturating_mul(BUCKETS.into()).div_ceil(deadline_ms.max(1));
    u8::try_from(sixteenths).unwrap_or(u8::MAX).min(BUCKETS + 1)
}

/// Whether nobody waited any more, or nothing came at all.
pub fn bucket_is_late(arrival: u8) -> bool {
    arrival > BUCKETS
}

/// What a miner signs with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub chain: ChainId,
    pub subnet: SubnetId,
    /// As which member it was asked.
    pub member: MemberId,
    pub query: Digest,
    pub request: Digest,
    pub answer: Digest,
}

impl Receipt {
    fn signed_bytes(&self) -> Vec<u8> {
        let head = Writer::signed(SIGNED_TAG).raw(&self.chain.0).u32(self.subnet.0).u32(self.member.0);
        head.raw(&self.query.0).raw(&self.request.0).raw(&self.answer.0).done()
    }

    pub fn sign(&self, operator: &SecretKey) -> Signature {
        operator.sign(&self.signed_bytes())
    }

    /// # Errors
    /// The signature is not this operator's for these values.
    pub fn check(&self, operator: &PublicKey, signature: &Signature) -> Result<(), BadSignature> {
        verify(operator, &self.signed_bytes(), signature)
    }
}

/// What became of one question to one miner (D11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub query: Digest,
    /// The question and its truth follow from it; closed to everybody until the reveal.
    pub task_seed: Digest,
    pub miner: MemberId,
    pub request: Digest,
    /// Zero when no answer came that its miner stands for.
    pub answer: Digest,
    pub receipt: Option<Signature>,
    /// A number of sixteenths of the deadline, or `NEVER`.
    pub arrival: u8,
    /// One per criterion, 2^32 - 1 for all of it.
    pub raw: Vec<u32>,
    pub score: u32,
}

impl Entry {
    /// The entry of a miner that gave no answer.
    pub fn silent(query: Digest, task_seed: Digest, miner: MemberId, request: Digest) -> Self {
        let (answer, receipt, raw) = (Digest::ZERO, None, Vec::new());
        Self { query, task_seed, miner, request, answer, receipt, arrival: NEVER, raw, score: 0 }
    }

    pub fn receipt_of(&self, chain: ChainId, subnet: SubnetId) -> Receipt {
        let Self { query, request, answer, miner: member, .. } = *self;
        Receipt { chain, subnet, member, query, request, answer }
    }

    /// The bytes of its leaf.
    pub fn leaf(&self) -> Vec<u8> {
        let to = Writer::new().u8(ENTRY_TAG).raw(&self.query.0).raw(&self.task_seed.0).u32(self.miner.0);
        let to = to.raw(&self.request.0).raw(&self.answer.0);
        let to = match &self.receipt {
            None => to.u8(0),
            Some(signature) => to.u8(1).raw(&signature.0),
        };
        let to = to.u8(self.arrival).u8(u8::try_from(self.raw.len()).unwrap_or(u8::MAX));
        self.raw.iter().fold(to, |to, raw| to.u32(*raw)).u32(self.score).done()
    }

    /// # Errors
    /// The bytes are no entry, or not the one encoding of it.
    pub fn from_leaf(bytes: &[u8]) -> Result<Self, LayoutError> {
        let mut from = Reader::new(bytes);
        let entry = Self::read(&mut from)?;
        from.end()?;
        Ok(entry)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        expect(from.u8()?, ENTRY_TAG, "leaf")?;
        let (query, task_seed, miner) = (from.digest()?, from.digest()?, MemberId(from.u32()?));
        let (request, answer) = (from.digest()?, from.digest()?);
        let receipt = match from.u8()? {
            0 => None,
            1 => Some(Signature(from.array()?)),
            other => return Err(LayoutError::Unknown { what: "flag", found: other.into() }),
        };
        if receipt.is_none() != (answer == Digest::ZERO) {
            return Err(LayoutError::NotCanonical("an answer stands with its receipt, or neither"));
        }
        let (arrival, count) = (from.u8()?, usize::from(from.u8()?));
        if arrival > BUCKETS + 1 && arrival != NEVER {
            return Err(LayoutError::Unknown { what: "arrival", found: arrival.into() });
        }
        if count > CRITERIA_MAX {
            return Err(LayoutError::TooMany { what: "raw scores", found: count, limit: CRITERIA_MAX });
        }
        let raw = (0..count).map(|_| from.u32()).collect::<Result<_, _>>()?;
        Ok(Self { query, task_seed, miner, request, answer, receipt, arrival, raw, score: from.u32()? })
    }
}

fn expect(found: u8, expected: u8, what: &'static str) -> Result<(), LayoutError> {
    if found == expected { Ok(()) } else { Err(LayoutError::Unknown { what, found: found.into() }) }
}

/// Leaf 0: whose log it is, by which scorer, and between which boards it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub chain: ChainId,
    pub subnet: SubnetId,
    pub epoch: Epoch,
    pub validator: MemberId,
    /// What judges: the scorer by name and version.
    pub scorer: Digest,
    pub rules: Rules,
    /// The board this log goes on from; the digest of the empty one at the start.
    pub before: Digest,
    /// The board it comes to.
    pub after: Digest,
}

impl Head {
    pub fn leaf(&self) -> Vec<u8> {
        let to = Writer::new().u8(HEAD_TAG).raw(&self.chain.0).u32(self.subnet.0).u64(self.epoch);
        let to = self.rules.write(to.u32(self.validator.0).raw(&self.scorer.0));
        to.raw(&self.before.0).raw(&self.after.0).done()
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        expect(from.u8()?, HEAD_TAG, "leaf")?;
        Ok(Self {
            chain: from.chain()?,
            subnet: SubnetId(from.u32()?),
            epoch: from.u64()?,
            validator: MemberId(from.u32()?),
            scorer: from.digest()?,
            rules: Rules::read(from)?,
            before: from.digest()?,
            after: from.digest()?,
        })
    }
}

/// A log as its author publishes it: the tree's leaves, the board before, and answers by their digests as far as the
/// author kept them, so that scores can be recomputed and not only compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScoreLog {
    pub head: Head,
    pub entries: Vec<Entry>,
    pub before: Board,
    pub answers: Vec<Vec<u8>>,
}

/// The digest by which an entry names an answer's bytes.
pub fn answer_digest(bytes: &[u8]) -> Digest {
    hash("starling/1 answer", &[bytes])
}

impl ScoreLog {
    /// The log of an epoch, its boards filled in.
    pub fn new(mut head: Head, entries: Vec<Entry>, before: Board, answers: Vec<Vec<u8>>) -> Self {
        head.before = before.digest();
        head.after = board(&head.rules, &before, &entries).digest();
        Self { head, entries, before, answers }
    }

    fn leaves(&self) -> Vec<Vec<u8>> {
        std::iter::once(self.head.leaf()).chain(self.entries.iter().map(Entry::leaf)).collect()
    }

    /// What the opening of the row names (D2).
    pub fn root(&self) -> Digest {
        merkle_root(self.leaves().iter().map(Vec::as_slice))
    }

    /// Leaves under the root: one more than there are entries.
    pub fn leaf_count(&self) -> u64 {
        self.entries.len() as u64 + 1
    }

    /// A leaf and its path, the answer to a challenge (D14).
    pub fn proof(&self, index: u64) -> Option<(Vec<u8>, Vec<Digest>)> {
        let leaves = self.leaves();
        let leaf = leaves.get(usize::try_from(index).ok()?)?.clone();
        Some((leaf, merkle_path(leaves.iter().map(Vec::as_slice), index)?))
    }

    /// The board after this log.
    pub fn after(&self) -> Board {
        board(&self.head.rules, &self.before, &self.entries)
    }

    /// The row it gives (D13).
    pub fn row(&self) -> Vec<(MemberId, u32)> {
        row(&self.head.rules, &self.after(), &self.echoes())
    }

    /// How far each member's answers of this epoch are also others' (M16).
    pub fn echoes(&self) -> Vec<Echo> {
        echoes(&self.entries)
    }

    pub fn encode(&self) -> Vec<u8> {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let to = Writer::new().u8(VERSION).raw(&self.head.leaf()).u32(count(self.entries.len()));
        let to = self.entries.iter().fold(to, |to, entry| to.raw(&entry.leaf()));
        let to = self.before.write(to).u32(count(self.answers.len()));
        self.answers.iter().fold(to, |to, bytes| to.u32(count(bytes.len())).raw(bytes)).done()
    }

    /// # Errors
    /// The bytes are no log, are over a bound, or have bytes left over.
    pub fn decode(bytes: &[u8]) -> Result<Self, LayoutError> {
        if bytes.len() > LOG_BYTES_MAX {
            return Err(LayoutError::TooMany { what: "score log", found: bytes.len(), limit: LOG_BYTES_MAX });
        }
        let mut from = Reader::new(bytes);
        expect(from.u8()?, VERSION, "version of a score log")?;
        let head = Head::read(&mut from)?;
        let count = counted(&mut from, "score log", ENTRIES_MAX)?;
        let entries = (0..count).map(|_| Entry::read(&mut from)).collect::<Result<_, _>>()?;
        let before = Board::read(&mut from)?;
        let count = counted(&mut from, "answers", ENTRIES_MAX)?;
        let mut answers = Vec::new();
        for _ in 0..count {
            let length = counted(&mut from, "answer", ANSWER_BYTES_MAX)?;
            answers.push(from.raw(length)?.to_vec());
        }
        from.end()?;
        Ok(Self { head, entries, before, answers })
    }
}

fn counted(from: &mut Reader<'_>, what: &'static str, limit: usize) -> Result<usize, LayoutError> {
    let found = usize::try_from(from.u32()?).unwrap_or(usize::MAX);
    if found > limit { Err(LayoutError::TooMany { what, found, limit }) } else { Ok(found) }
}

#[cfg(test)]
mod tests;
