//! Finality: the checkpoint protocol as a machine that does nothing by itself.
//!
//! Multi-shot Simplex, weighted by stake. In each view one leader proposes; members *notarize* what is valid, *nullify*
//! what does not come, and *finalize* what they saw notarized without ever having given it up. Any certificate of a view
//! leads into the next; a finalization makes its checkpoint and all below it final, three hops after the proposal.
//! `docs/checkpoint.md` tells the whole of it; rules are cited here by their numbers there.
//!
//! The room is pure: `Machine::step` takes the time and one input and returns effects for its driver to perform in order
//! (`effect`). It knows no clock, no chance, no file, no network, and leaves execution to the ledger.
//!
//! | file | what it decides |
//! | --- | --- |
//! | `machine` | the step, entering views (C13), the timers' meaning (C25, C26) |
//! | `rules`, `voting` | when this member speaks (C17-C20, C28) |
//! | `hear`, `votes` | what others say (C15, C21, C35, C45, C49) |
//! | `leader`, `pacing`, `propose` | who leads, when, and with what (C14, C24, C25, C29-C31) |
//! | `tree`, `view` | what is known above the final tip, and about one view |
//! | `finality`, `recovery` | what is final (C21, C48), and starting again (C38) |
//! | `sync`, `planner` | catching up and helping others to (K1, K2, K9-K11) |

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
#[cfg(test)]
mod tests;
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
