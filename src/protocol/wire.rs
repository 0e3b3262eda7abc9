//! The frames of gossip and vote streams that are no type of their own elsewhere.

use serde::{Deserialize, Serialize};

use super::checkpoint::{Certificate, Evidence, Vote};
use super::codec::VERSION;
use super::ids::{Digest, Epoch, SubnetId};

/// What travels on the certificate topic.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Certified {
    Certificate(Certificate),
    Evidence(Evidence),
}

/// A vote's frame: the version, then its fixed layout.
pub fn write_vote(vote: &Vote) -> Vec<u8> {
    let mut frame = vec![VERSION];
    frame.extend_from_slice(&vote.layout());
    frame
}

/// Reads a vote's frame; `None` when it is no vote of this version.
pub fn read_vote(frame: &[u8]) -> Option<Vote> {
    let (&version, layout) = frame.split_first()?;
    if version == VERSION { Vote::from_layout(layout).ok() } else { None }
}

/// Bytes of a score log in one answer.
pub const LOG_PIECE_BYTES: usize = 1 << 20;
/// The most an encoded [`LogPiece`] may take.
pub const LOG_PIECE_BYTES_MAX: usize = LOG_PIECE_BYTES + 1_024;
/// The most an encoded [`LogWish`] may take.
pub const LOG_WISH_BYTES_MAX: usize = 256;

/// A piece of the score log that a validator's reveal named by this root, asked of the validator itself (D11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogWish {
    pub subnet: SubnetId,
    pub epoch: Epoch,
    pub root: Digest,
    /// Counted from 0, each `LOG_PIECE_BYTES` long but the last.
    pub piece: u32,
}

/// A piece, and how many bytes there are in all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPiece {
    pub total: u32,
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}
