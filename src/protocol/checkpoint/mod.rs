//! Checkpoints and what is said about them: header, body, votes, certificates, proposals, evidence (C8-C12, C33, C45).
//!
//! Everything signed or hashed here is a fixed layout with one encoding per value; serde only frames it. Judging a
//! signature takes a `CommitteeContext`; nothing here knows what a view has seen before.

mod body;
mod certificate;
mod evidence;
mod header;
mod proposal;
mod vote;

pub use body::{BODY_BYTES_MAX, BODY_TRANSACTIONS_MAX, Body};
pub use certificate::{Certificate, CertificateFault};
pub use evidence::{EVIDENCE_BYTES, Evidence, Offence};
pub use header::{GenesisHeader, HEADER_BYTES, HEADER_VERSION, Header, attendance_hash};
pub use proposal::{Checkpoint, Justification, PROPOSAL_BYTES_MAX, Proposal, SKIPS_MAX};
pub use vote::{Ballot, Candidate, Subject, VOTE_BYTES, Vote, VoteKind};
