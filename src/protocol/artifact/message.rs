//! What nodes ask each other about artifacts, and how an answer is read (N26, N31). Everything has a bound.

use serde::{Deserialize, Serialize};

use super::{CHUNK_BYTES, ChunkList, LIST_BYTES_MAX, ListError};
use crate::protocol::ids::Digest;
use crate::protocol::layout::LayoutError;

/// The most bytes of a question.
pub const WANT_BYTES_MAX: usize = 128;
/// The most bytes of an answer: a list or a chunk, and a byte that says which.
pub const GIVEN_BYTES_MAX: usize = 1 + if LIST_BYTES_MAX > CHUNK_BYTES { LIST_BYTES_MAX } else { CHUNK_BYTES };

/// A question. A chunk is answered with its bytes, known by the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Want {
    /// The chunk list of an artifact, or the artifact itself when it is no longer than a chunk.
    Head(Digest),
    /// One chunk of it.
    Chunk { id: Digest, index: u32 },
}

impl Want {
    pub fn id(&self) -> Digest {
        match self {
            Self::Head(id) | Self::Chunk { id, .. } => *id,
        }
    }
}

/// The answer to `Want::Head`: either is proved by the id alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    List(ChunkList),
    Whole { list: ChunkList, bytes: Vec<u8> },
}

const LIST: u8 = 0;
const WHOLE: u8 = 1;

impl Head {
    /// The answer for an artifact; `whole` are its bytes when it has one chunk.
    pub fn encode(list: &ChunkList, whole: Option<&[u8]>) -> Vec<u8> {
        match whole {
            Some(bytes) => [&[WHOLE], bytes].concat(),
            None => [[LIST].as_slice(), &list.encode()].concat(),
        }
    }

    /// # Errors
    /// It does not prove itself.
    pub fn decode(id: Digest, bytes: &[u8]) -> Result<Self, ListError> {
        let (kind, rest) = bytes.split_first().ok_or(LayoutError::Short { missing: 1 })?;
        match *kind {
            LIST => {
                let list = ChunkList::decode(id, rest)?;
                // Of one chunk a list proves nothing: its length is only claimed.
                if list.count() == 1 { Err(ListError::Length(list.length())) } else { Ok(Self::List(list)) }
            }
            WHOLE => {
                let found = Digest(*blake3::hash(rest).as_bytes());
                let list = ChunkList::single(id, rest.len() as u64)?;
                if found != id {
                    return Err(ListError::OtherArtifact { wanted: id, found });
                }
                Ok(Self::Whole { list, bytes: rest.to_vec() })
            }
            other => Err(LayoutError::Unknown { what: "kind of answer", found: other.into() }.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_proves_itself_or_is_refused() {
        let small = b"small".to_vec();
        let list = ChunkList::of(small.as_slice()).unwrap();
        let whole = Head::encode(&list, Some(&small));
        assert_eq!(Head::decode(list.id(), &whole), Ok(Head::Whole { list: list.clone(), bytes: small }));
        // The length of one chunk cannot be claimed, and other bytes are other bytes.
        assert!(matches!(Head::decode(list.id(), &Head::encode(&list, None)), Err(ListError::Length(5))));
        assert!(Head::decode(list.id(), &Head::encode(&list, Some(b"smell"))).is_err());
        let large = vec![7; CHUNK_BYTES + 1];
        let list = ChunkList::of(large.as_slice()).unwrap();
        assert_eq!(Head::decode(list.id(), &Head::encode(&list, None)), Ok(Head::List(list.clone())));
        assert!(Head::decode(list.id(), &Head::encode(&list, Some(&large))).is_err());
        for wrong in [&[][..], &[2], &[0], &[1]] {
            assert!(Head::decode(list.id(), wrong).is_err());
        }
    }
}
