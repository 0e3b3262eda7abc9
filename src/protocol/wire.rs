//! The frames of gossip and vote streams that are no type of their own elsewhere.

use serde::{Deserialize, Serialize};

use super::checkpoint::{Certificate, Evidence, Vote};
use super::codec::VERSION;

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
