//! Artifacts: any bytes, named by their BLAKE3 hash, moved in chunks that are verified alone (N26).
//!
//! The **chunk list** holds the length and one chaining value per MiB: the BLAKE3 subtree hash of the chunk at its place.
//! Folding the list gives exactly the plain hash of the bytes, so a list from a stranger is checked against the id before
//! the first chunk is asked for, and every chunk is checked against the list when it comes. Refuses lengths over
//! `ARTIFACT_BYTES_MAX` before anything is allocated for them.

pub mod manifest;
pub mod message;
pub mod publish;

use std::io::{self, Read};

use blake3::hazmat::{ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root};

use super::ids::Digest;
use super::layout::{LayoutError, Reader, Writer};

/// Bytes of a chunk; the last of an artifact may be shorter.
pub const CHUNK_BYTES: usize = 1 << 20;
/// The most bytes of one artifact (N27): its list is then 2 MiB.
pub const ARTIFACT_BYTES_MAX: u64 = 64 << 30;
/// The most bytes of a chunk list.
pub const LIST_BYTES_MAX: usize = 8 + 32 * 65_536;

/// Why bytes are no chunk list, or not the one of this artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    #[error("an artifact of {0} bytes; 1 to {ARTIFACT_BYTES_MAX} are allowed")]
    Length(u64),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("the chunk list folds to {found}, not to {wanted}")]
    OtherArtifact { wanted: Digest, found: Digest },
}

/// Why a chunk is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    #[error("chunk {index} is beyond the end: there are {count}")]
    Beyond { index: u32, count: u32 },
    #[error("chunk {index} has {found} bytes, {wanted} are expected")]
    Length { index: u32, found: usize, wanted: usize },
    #[error("chunk {index} is not the one that the artifact's id stands for")]
    Other { index: u32 },
}

/// What each chunk of an artifact must hash to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkList {
    length: u64,
    values: Vec<ChainingValue>,
    id: Digest,
}

fn chunks_of(length: u64) -> u64 {
    length.div_ceil(CHUNK_BYTES as u64)
}

fn value_of(index: u32, bytes: &[u8]) -> ChainingValue {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(u64::from(index) * CHUNK_BYTES as u64);
    hasher.update(bytes).finalize_non_root()
}

/// The hash of `length` bytes whose chunks have these values; `None` for one value, which stands for itself.
fn fold(values: &[ChainingValue], length: u64) -> Option<ChainingValue> {
    match values {
        [] => None,
        [one] => Some(*one),
        _ => {
            let left = left_subtree_len(length);
            let (first, rest) = values.split_at_checked(usize::try_from(chunks_of(left)).ok()?)?;
            Some(merge_subtrees_non_root(&fold(first, left)?, &fold(rest, length - left)?, Mode::Hash))
        }
    }
}

fn root(values: &[ChainingValue], length: u64) -> Option<Digest> {
    let left = left_subtree_len(length);
    let (first, rest) = values.split_at_checked(usize::try_from(chunks_of(left)).ok()?)?;
    let id = merge_subtrees_root(&fold(first, left)?, &fold(rest, length - left)?, Mode::Hash);
    Some(Digest(*id.as_bytes()))
}

impl ChunkList {
    /// Reads bytes to their end and lists their chunks, one chunk in memory at a time.
    ///
    /// # Errors
    /// Reading fails, or there are no bytes or too many.
    pub fn of(mut bytes: impl Read) -> io::Result<Self> {
        let (mut values, mut length, mut whole) = (Vec::new(), 0_u64, blake3::Hasher::new());
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        loop {
            chunk.clear();
            let read = bytes.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
            if read == 0 {
                break;
            }
            length = length.saturating_add(read as u64);
            if length > ARTIFACT_BYTES_MAX {
                break;
            }
            let index = u32::try_from(values.len()).unwrap_or(u32::MAX);
            values.push(value_of(index, &chunk));
            if values.len() == 1 {
                whole.update(&chunk);
            }
        }
        let wrong = |error: ListError| io::Error::new(io::ErrorKind::InvalidInput, error.to_string());
        Self::check_length(length).map_err(wrong)?;
        // Of one chunk the root is the plain hash: a subtree value alone cannot be turned into it.
        let id = if values.len() == 1 { Some(Digest(*whole.finalize().as_bytes())) } else { root(&values, length) };
        let id = id.ok_or_else(|| wrong(ListError::Length(length)))?;
        if let [value] = values.as_mut_slice() {
            *value = [0; 32];
        }
        Ok(Self { length, values, id })
    }

    fn check_length(length: u64) -> Result<(), ListError> {
        if (1..=ARTIFACT_BYTES_MAX).contains(&length) { Ok(()) } else { Err(ListError::Length(length)) }
    }

    /// The list of an artifact of at most one chunk: its id says everything.
    ///
    /// # Errors
    /// No bytes, or more than one chunk.
    pub fn single(id: Digest, length: u64) -> Result<Self, ListError> {
        Self::check_length(length)?;
        if length > CHUNK_BYTES as u64 {
            return Err(ListError::Length(length));
        }
        Ok(Self { length, values: vec![[0; 32]], id })
    }

    /// `length u64 || chaining value per chunk`. Of one chunk: the length and zeros.
    pub fn encode(&self) -> Vec<u8> {
        let values: &[ChainingValue] = if self.values.len() == 1 { &[[0; 32]] } else { &self.values };
        values.iter().fold(Writer::new().u64(self.length), |to, value| to.raw(value)).done()
    }

    /// Reads a list and folds it: what comes back is the list of `id` and of nothing else.
    ///
    /// # Errors
    /// A length out of bounds, short or left-over bytes, or the list of another artifact.
    pub fn decode(id: Digest, bytes: &[u8]) -> Result<Self, ListError> {
        let mut from = Reader::new(bytes);
        let length = from.u64()?;
        Self::check_length(length)?;
        // Before anything is allocated, the bytes must be as many as the length says.
        let count = usize::try_from(chunks_of(length)).unwrap_or(usize::MAX);
        if from.left() != count.saturating_mul(32) {
            let short = count.saturating_mul(32).saturating_sub(from.left());
            let left = from.left().saturating_sub(count.saturating_mul(32));
            let error = if short > 0 { LayoutError::Short { missing: short } } else { LayoutError::LeftOver { left } };
            return Err(error.into());
        }
        let values: Vec<ChainingValue> = (0..count).map(|_| from.array()).collect::<Result<_, _>>()?;
        if let [value] = values.as_slice() {
            if *value != [0; 32] {
                return Err(LayoutError::NotCanonical("the list of one chunk holds no value").into());
            }
            return Self::single(id, length);
        }
        let found = root(&values, length).unwrap_or_default();
        if found != id {
            return Err(ListError::OtherArtifact { wanted: id, found });
        }
        Ok(Self { length, values, id })
    }

    pub fn id(&self) -> Digest {
        self.id
    }

    /// Bytes of the artifact.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// How many chunks there are.
    pub fn count(&self) -> u32 {
        u32::try_from(self.values.len()).unwrap_or(u32::MAX)
    }

    /// Where a chunk stands in the artifact, and its length; `None` beyond the end.
    pub fn place(&self, index: u32) -> Option<(u64, usize)> {
        let start = u64::from(index) * CHUNK_BYTES as u64;
        let left = self.length.checked_sub(start).filter(|left| *left > 0)?;
        Some((start, usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES)))
    }

    /// Whether these bytes are the chunk (N26).
    ///
    /// # Errors
    /// They are not.
    pub fn verify(&self, index: u32, bytes: &[u8]) -> Result<(), ChunkError> {
        let count = self.count();
        let (_, wanted) = self.place(index).ok_or(ChunkError::Beyond { index, count })?;
        if bytes.len() != wanted {
            return Err(ChunkError::Length { index, found: bytes.len(), wanted });
        }
        let holds = match self.values.as_slice() {
            [_] => Digest(*blake3::hash(bytes).as_bytes()) == self.id,
            values => {
                let at = usize::try_from(index).unwrap_or(usize::MAX);
                values.get(at).is_some_and(|value| *value == value_of(index, bytes))
            }
        };
        if holds { Ok(()) } else { Err(ChunkError::Other { index }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::chance::Chance;

    fn bytes(length: usize) -> Vec<u8> {
        let mut out = Vec::new();
        blake3::Hasher::new()
            .update(&(length as u64).to_le_bytes())
            .finalize_xof()
            .take(length as u64)
            .read_to_end(&mut out)
            .unwrap();
        out
    }

    /// N26: the list folds to the plain hash for every shape of tree, and reads back for that id only.
    #[test]
    fn n26_a_list_folds_to_the_plain_hash() {
        let mib = CHUNK_BYTES;
        for length in [
            1,
            1_023,
            1_024,
            1_025,
            mib - 1,
            mib,
            mib + 1,
            2 * mib,
            2 * mib + 1,
            3 * mib,
            5 * mib + 7,
            8 * mib,
            9 * mib + 1_025,
        ] {
            let bytes = bytes(length);
            let list = ChunkList::of(bytes.as_slice()).unwrap();
            assert_eq!(list.id(), Digest(*blake3::hash(&bytes).as_bytes()), "{length}");
            assert_eq!((list.length(), list.count() as usize), (length as u64, length.div_ceil(mib)));
            let read = ChunkList::decode(list.id(), &list.encode()).unwrap();
            for (index, chunk) in (0_u32..).zip(bytes.chunks(mib)) {
                assert_eq!(read.verify(index, chunk), Ok(()), "{length} {index}");
            }
            if list.count() > 1 {
                let other = ChunkList::decode(Digest([7; 32]), &list.encode());
                assert!(matches!(other, Err(ListError::OtherArtifact { .. })));
            }
        }
    }

    #[test]
    fn n26_a_wrong_chunk_is_refused_alone() {
        let mib = CHUNK_BYTES;
        let mut all = bytes(3 * mib + 10);
        let list = ChunkList::of(all.as_slice()).unwrap();
        let mut chance = Chance::from_seed([1; 32]);
        for _ in 0..20 {
            let at = chance.index(all.len());
            all[at] ^= 1;
            for (index, chunk) in (0_u32..).zip(all.chunks(mib)) {
                assert_eq!(list.verify(index, chunk).is_err(), index as usize == at / mib, "byte {at}");
            }
            all[at] ^= 1;
        }
        // The right bytes at the wrong place, too short, or beyond the end.
        assert_eq!(list.verify(1, &all[..mib]), Err(ChunkError::Other { index: 1 }));
        assert!(matches!(list.verify(0, &all[..mib - 1]), Err(ChunkError::Length { .. })));
        assert_eq!(list.verify(4, &[1]), Err(ChunkError::Beyond { index: 4, count: 4 }));
    }

    #[test]
    fn lists_of_strangers_are_bounded_before_they_are_read() {
        let list = ChunkList::of(bytes(3 * CHUNK_BYTES).as_slice()).unwrap();
        let good = list.encode();
        for length in 0..good.len() {
            assert!(ChunkList::decode(list.id(), &good[..length]).is_err(), "{length}");
        }
        assert!(ChunkList::decode(list.id(), &[good.as_slice(), &[0]].concat()).is_err());
        for at in 0..good.len() {
            let mut wrong = good.clone();
            wrong[at] ^= 1;
            assert!(ChunkList::decode(list.id(), &wrong).is_err(), "byte {at}");
        }
        for length in [0, ARTIFACT_BYTES_MAX + 1, u64::MAX] {
            assert_eq!(ChunkList::decode(list.id(), &length.to_le_bytes()), Err(ListError::Length(length)));
        }
        assert!(ChunkList::of(io::empty()).is_err());
    }
}
