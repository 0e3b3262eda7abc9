//! What nodes ask one another to catch up: status, certificates, candidates, ranges of checkpoints (K1, K2).

use serde::{Deserialize, Serialize};

use super::checkpoint::{Body, Certificate, Checkpoint, Header, Subject};
use super::ids::{Digest, Height, Term, View};

/// The most checkpoints in one answer.
pub const RANGE_MAX: u16 = 64;
/// The most views one question for certificates spans.
pub const VIEWS_MAX: u64 = 64;
/// The most headers that may lead from the last checkpoint of a range to a certified one.
pub const LINKS_MAX: usize = 512;
/// The most bytes of bodies a server puts into one range.
pub const RANGE_BYTES_MAX: usize = 3 << 20;
/// The most bytes a framed question or answer takes.
pub const SYNC_BYTES_MAX: usize = 4 << 20;

/// Where a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub term: Term,
    /// The view it is in.
    pub view: View,
    /// Its last final checkpoint.
    pub height: Height,
    pub hash: Digest,
    /// What the certificate says by which it entered its view; `None` at the start of a term.
    pub entry: Option<Subject>,
}

/// A question of one node to another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Get {
    /// Where do you stand? Where I stand goes along, so one exchange informs both.
    Status(Status),
    /// The certificate by which you entered your view.
    Entry,
    /// What you hold for the views `from..=to`, at most `VIEWS_MAX` of them.
    Certificates { term: Term, from: View, to: View },
    /// Header and body of a candidate that is not final yet.
    Candidate(Digest),
    /// Final checkpoints from a height on, at most `RANGE_MAX` of them.
    Range { from: Height, count: u16 },
}

impl PartialOrd for Status {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Status {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.term, self.height, self.view, self.hash, self.entry).cmp(&(
            other.term,
            other.height,
            other.view,
            other.hash,
            other.entry,
        ))
    }
}

/// The answer to a question; `Nothing` answers any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Got {
    Nothing,
    Status(Status),
    /// To `Entry` and `Certificates`.
    Certificates(Vec<Certificate>),
    Candidate(Box<(Header, Body)>),
    Range(Box<Range>),
}

/// Consecutive final checkpoints and what makes them final: the certificate covers the last link, or without links the
/// last checkpoint, and the hash links cover the rest (K2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    pub checkpoints: Vec<Checkpoint>,
    /// Headers above the last checkpoint up to the certified one.
    pub links: Vec<Header>,
    pub certificate: Certificate,
}
