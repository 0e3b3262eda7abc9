//! What goes into the machine and what it asks for: plain data, the whole contract with its driver.
//!
//! The driver turns happenings into `Input`s, calls `Machine::step` with the time, and performs the returned `Effect`s
//! **in the order given**. It decides nothing. An effect that waits for something (a build, a fetch) is answered later by
//! another input; the driver never blocks on it.

use std::sync::Arc;

use crate::protocol::checkpoint::{
    Body, Certificate, Checkpoint, Evidence, Header, Proposal, Subject, Vote, attendance_hash,
};
use crate::protocol::committee::Bitmap;
use crate::protocol::ids::{ChainId, Digest, Height, NodeId, Term, View};
use crate::protocol::layout::{LayoutError, Reader, Writer};
use crate::protocol::sync::{Get, Got, Status};

/// The time of a step. Timers run on `mono_ms`, which never steps back; `wall_ms` only stamps and judges headers (C22).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    pub mono_ms: u64,
    pub wall_ms: u64,
}

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Who delivered it; our own node for what gossip hands back to us.
    pub peer: NodeId,
    /// Through gossip, hence perhaps not from its author: verified at once instead of in batches (C35).
    pub relayed: bool,
}

/// Everything that can happen to the machine.
#[derive(Clone, Debug)]
pub enum Input {
    /// The first input, once: own votes are sent again, timers start (C38).
    Start,
    /// A timer set by `SetTimer` ran out. Late or cancelled ones are recognised and ignored.
    Timer(TimerId),
    /// A vote arrived, by a direct stream or by gossip. Answered by `Judge`.
    HearVote { from: Source, vote: Vote },
    /// A proposal arrived. Answered by `Judge`.
    HearProposal { from: Source, proposal: Box<Proposal> },
    /// A certificate arrived. Answered by `Judge`.
    HearCertificate { from: Source, certificate: Certificate },
    /// Evidence arrived. Answered by `Judge`.
    HearEvidence { from: Source, evidence: Evidence },
    /// A peer told where it stands, unasked or along with its own `Get::Status`.
    HearStatus { from: NodeId, status: Status },
    /// The peers we are connected to that passed the handshake: the whole set, whenever it changes.
    Peers(Vec<NodeId>),
    /// The answer to `Fetch { id, .. }`, decoded.
    Got { id: u64, got: Got },
    /// `Fetch { id, .. }` came to nothing: busy, timeout, unreachable, undecodable.
    FetchFailed { id: u64 },
    /// The ledger built what `Build` asked for. The header is `Draft::header`, so both sides name the same hash.
    Built { ticket: u64, header: Header, body: Arc<Body> },
    /// The ledger could not build (its parent state is gone).
    Unbuilt { ticket: u64 },
    /// The ledger's verdict on a `Check`.
    Checked { hash: Digest, verdict: Verdict },
    /// The ledger made a `Finalise` durable.
    Finalised { height: Height, hash: Digest },
    /// The ledger executed a final checkpoint and came to other roots: halts the node (C48).
    Diverged { height: Height, hash: Digest },
    /// Whether transactions wait to be included (C24). Sent when it changes.
    Pending(bool),
}

/// What the ledger says about a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Executed on its parent; all roots agree.
    Valid,
    /// A transaction is inadmissible or a root differs.
    Invalid,
    /// The parent's state is not at hand (yet); the machine asks again.
    Unavailable,
}

/// What the machine asks of its driver.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Append all records to the journal in this order, each with its `Record::mark`, then sync **once**, before any
    /// later effect. At most one per step and always the first. A failure is fatal: stop the node, send nothing (C36).
    Persist(Vec<Record>),
    /// Whether the heard message should travel on; exactly one for each `Hear…` input but `HearStatus` (C54).
    Judge(Validity),
    /// Send to every other committee member by its direct stream, by gossip where there is none (C51).
    SendVote(Vote),
    /// Publish by gossip. What comes back to ourselves may be fed in again; it is recognised.
    Publish(Publication),
    /// Feed `Timer(id)` after so many milliseconds of the monotonic clock; replaces the timer of the same kind.
    SetTimer { id: TimerId, after_ms: u64 },
    /// Forget the timer of this kind.
    CancelTimer(TimerKind),
    /// Have the ledger choose transactions and execute them on `parent`; answer `Built` or `Unbuilt`. The ledger keeps
    /// the resulting state under the header's hash: there is no `Check` for our own proposals.
    Build(Draft),
    /// Have the ledger execute `body` on the state after `header.parent_hash` and compare every root; answer `Checked`.
    /// Parents are checked or final before their children. Asked at most once per hash, but for `Unavailable`.
    Check { header: Header, body: Arc<Body> },
    /// Have the ledger make the checkpoint final and durable in one transaction, executing it first if its state is not
    /// at hand; answer `Finalised`, or `Diverged` when the roots differ. In height order, each height once; after a
    /// restart once more if it was not durable. Idempotent by height.
    Finalise(Arc<Checkpoint>),
    /// Ask `peer` over the sync protocol; answer exactly one of `Got` and `FetchFailed` within `deadline_ms`.
    Fetch { id: u64, peer: NodeId, get: Get, deadline_ms: u64 },
    /// A peer did what no honest node does.
    Penalise { peer: NodeId, fault: Fault },
    /// New, verified evidence: hand it to the ledger's pool. Published separately when we found it ourselves.
    Accuse(Evidence),
    /// Journal segments may go whose records all have a mark of at most this: they are final and durable (C36).
    DropJournal { mark: View },
    /// No new final height for so long: raise the alarm, redial other peers (K9).
    Stale { height: Height, for_ms: u64 },
    /// For metrics and the log.
    Note(Note),
    /// The machine has stopped for good and acts on nothing more: write the reason to disk, stop the node (C48).
    Halt(Box<Halt>),
}

/// What goes out by gossip.
#[derive(Clone, Debug, PartialEq)]
pub enum Publication {
    Proposal(Box<Proposal>),
    Certificate(Certificate),
    Evidence(Evidence),
}

/// A verdict for gossip: pass on, drop silently, drop and hold it against the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    Accept,
    Ignore,
    Reject,
}

/// What a peer is held responsible for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A vote, proposal or evidence whose signature does not hold.
    BadSignature,
    /// A certificate that proves nothing.
    BadCertificate,
    /// A proposal from somebody who does not lead its view, or with a vote for something else.
    WrongLeader,
    /// A body that is not the one its header names.
    WrongBody,
    /// A proposal whose justification does not prove what it must.
    Unjustified,
    /// An answer that does not fit the question.
    WrongAnswer,
}

/// Something to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// A view began; `skipped` tells that the one before was nullified.
    Entered { view: View, skipped: bool },
    /// A candidate of ours went out.
    Proposed { view: View, height: Height },
    /// A message or table entry was dropped because its bound was reached or it fell outside the window.
    Dropped(Drop),
}

/// What was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drop {
    VoteOutsideWindow,
    ProposalOutsideWindow,
    CertificateStale,
    CandidateOverBound,
    EvidenceOverBound,
    AnswerUnasked,
}

/// Why the machine stopped (C48).
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "made once in the life of a node")]
pub enum Halt {
    /// Two finalizations that cannot both be on one chain. The first may be lost where only the hash is remembered.
    Conflict { known: Option<Certificate>, height: Height, view: View, hash: Digest, other: Certificate },
    /// Our own execution of a final checkpoint came to other roots.
    Diverged { height: Height, hash: Digest },
}

/// The timers of the machine; one of each kind runs at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimerKind {
    /// The leader's proposal should be here (C25).
    Leader,
    /// The view should be over (C25).
    View,
    /// Send nullify and entry certificate again (C26).
    Resend,
    /// Start to build, or send what was built (C24).
    Propose,
    /// A proposal from the future has become acceptable (C16).
    Hold,
    /// Catch-up looks around (K1).
    Sync,
}

/// A timer as set: the view makes late ones recognisable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimerId {
    pub kind: TimerKind,
    pub view: View,
}

/// What a leader wants built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    pub ticket: u64,
    /// Hash of the checkpoint to build on.
    pub parent: Digest,
    pub chain: ChainId,
    pub term: Term,
    pub height: Height,
    pub view: View,
    pub timestamp_ms: u64,
    /// Our committee index.
    pub proposer: u16,
    pub attendance: Bitmap,
    pub set_hash: Digest,
    /// Too much is notarized and not final: no transactions this time (C49).
    pub empty: bool,
}

/// What execution adds to a draft.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roots {
    pub state_root: Digest,
    pub receipt_root: Digest,
    pub record_root: Digest,
    pub next_set_hash: Digest,
    pub params_hash: Digest,
}

impl Draft {
    /// The body of a draft.
    pub fn body(&self, transactions: Vec<Vec<u8>>) -> Body {
        Body { attendance: self.attendance.clone(), transactions }
    }

    /// The header that a draft, its body and their execution make.
    pub fn header(&self, body: &Body, roots: &Roots) -> Header {
        Header {
            version: crate::protocol::checkpoint::HEADER_VERSION,
            chain: self.chain,
            height: self.height,
            term: self.term,
            view: self.view,
            timestamp_ms: self.timestamp_ms,
            proposer: self.proposer,
            tx_count: u32::try_from(body.transactions.len()).unwrap_or(u32::MAX),
            parent_hash: self.parent,
            body_root: body.root(),
            state_root: roots.state_root,
            receipt_root: roots.receipt_root,
            record_root: roots.record_root,
            set_hash: self.set_hash,
            next_set_hash: roots.next_set_hash,
            params_hash: roots.params_hash,
            attendance_hash: attendance_hash(body.attendance.as_bytes()),
        }
    }
}

/// One record of the journal. Own votes and the bodies they rest on keep a restarted member from voting twice (C36);
/// certificates let a network that stopped as a whole go on from where it stood.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Vote(Vote),
    Candidate { header: Box<Header>, body: Arc<Body> },
    Certificate(Certificate),
}

impl Record {
    /// What the journal needs to know to drop old segments: nothing of a view at or below the final one is needed.
    pub fn mark(&self) -> View {
        match self {
            Self::Vote(Vote { subject: Subject { view, .. }, .. }) => *view,
            Self::Candidate { header, .. } => header.view,
            Self::Certificate(certificate) => certificate.subject.view,
        }
    }

    /// The journal's payload: a tag and fixed layouts.
    pub fn layout(&self) -> Vec<u8> {
        match self {
            Self::Vote(vote) => Writer::new().u8(1).raw(&vote.layout()).done(),
            Self::Candidate { header, body } => {
                let attendance = body.attendance.as_bytes();
                let start = Writer::new()
                    .u8(2)
                    .raw(&header.layout())
                    .u32(length(attendance))
                    .raw(attendance)
                    .u32(u32::try_from(body.transactions.len()).unwrap_or(u32::MAX));
                body.transactions.iter().fold(start, |to, bytes| to.u32(length(bytes)).raw(bytes)).done()
            }
            Self::Certificate(certificate) => {
                let shape = Vote {
                    subject: certificate.subject,
                    signer: 0,
                    signature: crate::protocol::keys::Signature([0; 64]),
                };
                let bitmap = certificate.signers.as_bytes();
                let start = Writer::new().u8(3).raw(&shape.layout()).u32(length(bitmap)).raw(bitmap);
                certificate.signatures.iter().fold(start, |to, signature| to.raw(&signature.0)).done()
            }
        }
    }

    /// Reads a payload back.
    ///
    /// # Errors
    /// The bytes are no record: the journal holds something this program did not write.
    pub fn from_layout(bytes: &[u8]) -> Result<Self, LayoutError> {
        let mut from = Reader::new(bytes);
        let vote = crate::protocol::checkpoint::VOTE_BYTES;
        let record = match from.u8()? {
            1 => Self::Vote(Vote::from_layout(from.raw(vote)?)?),
            2 => {
                let header = Box::new(Header::from_layout(from.raw(crate::protocol::checkpoint::HEADER_BYTES)?)?);
                let attendance = Bitmap::from_bytes(read_bytes(&mut from)?);
                let count = from.u32()?;
                let transactions = (0..count).map(|_| read_bytes(&mut from)).collect::<Result<_, _>>()?;
                Self::Candidate { header, body: Arc::new(Body { attendance, transactions }) }
            }
            3 => {
                let shape = Vote::from_layout(from.raw(vote)?)?;
                let signers = Bitmap::from_bytes(read_bytes(&mut from)?);
                let signatures = (0..signers.count()).map(|_| from.signature()).collect::<Result<_, _>>()?;
                Self::Certificate(Certificate { subject: shape.subject, signers, signatures })
            }
            found => return Err(LayoutError::Unknown { what: "journal record", found: u64::from(found) }),
        };
        from.end()?;
        Ok(record)
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn read_bytes(from: &mut Reader<'_>) -> Result<Vec<u8>, LayoutError> {
    let length = usize::try_from(from.u32()?).unwrap_or(usize::MAX);
    from.raw(length).map(<[u8]>::to_vec)
}
