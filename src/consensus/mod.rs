//! Finality: the checkpoint protocol as a machine that does nothing by itself.

pub mod effect;
mod finality;
mod hear;
pub mod leader;
mod machine;
mod pacing;
mod planner;
mod propose;
mod recovery;
pub(crate) mod rules;
mod sync;
mod tree;
mod view;
mod votes;
mod voting;

pub use leader::{Schedule, next_seed};
pub use machine::Machine;
pub use sync::{Served, assemble};

pub use effect::{
    Draft, Drop, Effect, Fault, Halt, Input, Note, Now, Publication, Record, Roots, Source, TimerId, TimerKind,
    Validity, Verdict,
};

use crate::protocol::checkpoint::{Certificate, Header};
use crate::protocol::committee::Committee;
use crate::protocol::ids::{ChainId, Digest};

/// What a machine is told once.
#[derive(Clone, Debug)]
pub struct Params {
    pub chain: ChainId,
    pub committee: Committee,
    /// Seed of the leader schedule (C30).
    pub seed: Digest,
    /// Least distance of two checkpoints (C23).
    pub interval_ms: u64,
    /// Distance when no transactions wait; at least the interval.
    pub idle_ms: u64,
    /// Bound of a network hop, assumed at first and after doubling at most (C25).
    pub delta_ms: u64,
    pub delta_max_ms: u64,
    /// How long before it is due a leader starts to build, so that late transactions still get in.
    pub build_ms: u64,
}

/// What the stores hold at a start: the genesis header, or the last final one with its certificate.
#[derive(Clone, Debug)]
pub struct Tip {
    pub header: Header,
    pub certificate: Option<Certificate>,
}
