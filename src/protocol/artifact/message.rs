//! What nodes ask each other about artifacts, and how an answer is read (N26, N31). Everything has a bound.

use serde::{Deserialize, Serialize};

use super::{CHUNK_BYTES, LIST_BYTES_MAX};
use crate::protocol::ids::Digest;

/// The most bytes of a question.
pub const WANT_BYTES_MAX: usize = 128;
/// The most bytes of an answer: a list or a chunk, nothing around it.
pub const GIVEN_BYTES_MAX: usize = if LIST_BYTES_MAX > CHUNK_BYTES { LIST_BYTES_MAX } else { CHUNK_BYTES };

/// A question. The answer is the bytes themselves: a list is known by folding to the id, a chunk by the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Want {
    /// The chunk list of an artifact.
    List(Digest),
    /// One chunk of it.
    Chunk { id: Digest, index: u32 },
}

impl Want {
    pub fn id(&self) -> Digest {
        match self {
            Self::List(id) | Self::Chunk { id, .. } => *id,
        }
    }
}
