//! One admitted query of another node, from the job to its last frame: a future driven beside the actor.
//!
//! Dropping it cancels the work. Pieces leave at most so often and are joined in between; a frame the Router has no room
//! for is kept and sent again, so that nothing of a stream is missing before its end.

use std::time::Duration;

use actix::Recipient;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::frames::Frame;
use super::serving::{End, Plan, refusal};
use crate::actors::mail::{AskError, ask, tell};
use crate::actors::router::ReplyFrame;
use crate::actors::worker_pool::{Cancel, Done, Job, JobError, RunJob};
use crate::ml::engine::Inferred;
use crate::net::ReplyTicket;
use crate::protocol::ids::{ChainId, Digest};
use crate::protocol::keys::{SecretKey, Signature};
use crate::protocol::query::{Answer, AnswerFrame, Ask, ReceiptWish};
use crate::protocol::score_log::{Receipt, answer_digest};

/// Between two pieces on the wire.
const PIECE_EVERY: Duration = Duration::from_millis(20);
/// Pieces between a worker and this future; what is over waits at the worker.
const PIECES: usize = 64;
/// The last frame is offered so often to a Router without room.
const LAST_TRIES: u32 = 10;
/// Beyond the job's own deadline: the pool always replies by then.
const GRACE: Duration = Duration::from_millis(200);

/// To whom it speaks.
#[derive(Clone, Debug)]
pub(super) struct To {
    pub run_job: Recipient<RunJob>,
    pub reply_frame: Recipient<ReplyFrame>,
    pub operator: Option<Operator>,
}

/// Who stands for the answers given here (D11).
#[derive(Clone, Debug)]
pub struct Operator {
    pub chain: ChainId,
    pub key: SecretKey,
}

impl Operator {
    /// Signs the answer to this question, if its asker wants a receipt.
    fn receipts(&self, asked: &Ask) -> impl FnOnce(&Answer) -> Option<Signature> + use<> {
        let Self { chain, key } = self.clone();
        let subnet = asked.subnet;
        let wish = asked.receipt.map(|wish| (wish, asked.query.digest()));
        move |answer: &Answer| {
            let (ReceiptWish { query, member }, request) = wish?;
            let answer = answer_digest(&answer.layout());
            Some(Receipt { chain, subnet, member, query, request, answer }.sign(&key))
        }
    }
}

/// Answers, refuses, or stays silent, as planned.
pub(super) async fn answer(plan: Plan, ticket: ReplyTicket, to: To) -> End {
    if plan.wait_ms > 0 {
        sleep(Duration::from_millis(plan.wait_ms)).await;
    }
    if !plan.answers {
        return End::Failed;
    }
    // The question goes to the worker; what its receipt needs is kept.
    let signed = to.operator.as_ref().map(|operator| operator.receipts(&plan.ask));
    let done = work(plan, ticket, &to).await;
    last(done, signed, ticket, &to).await
}

/// Hands on what another miner says, in this one's name.
pub(super) async fn relay(asked: Ask, mut heard: mpsc::Receiver<Frame>, ticket: ReplyTicket, to: To) -> End {
    let signed = to.operator.as_ref().map(|operator| operator.receipts(&asked));
    let done = loop {
        match heard.recv().await {
            Some(Frame::Done { answer, usage, served, compute_ms }) => {
                let model = served.model.unwrap_or(Digest::ZERO);
                break Ok(Done::Answered { inferred: Inferred { answer, usage }, model, compute_ms });
            }
            Some(Frame::Failed(_)) | None => break Err(JobError::Busy),
            Some(_) => {}
        }
    };
    last(done, signed, ticket, &to).await
}

/// The last frame, signed where it is an answer.
async fn last(
    done: Result<Done, JobError>,
    signed: Option<impl FnOnce(&Answer) -> Option<Signature>>,
    ticket: ReplyTicket,
    to: &To,
) -> End {
    let (frame, end) = match done {
        Ok(Done::Answered { inferred, model, compute_ms }) => {
            let (answer, usage) = (inferred.answer, inferred.usage);
            let receipt = signed.and_then(|sign| sign(&answer));
            (AnswerFrame::Done { answer, usage, model, compute_ms, receipt }, End::Answered)
        }
        Ok(_) => refusal(&JobError::Failed),
        Err(error) => refusal(&error),
    };
    for _ in 0..LAST_TRIES {
        if tell(&to.reply_frame, ReplyFrame { ticket, frame: frame.clone() }) {
            return end;
        }
        sleep(PIECE_EVERY).await;
    }
    End::Failed
}

/// Runs the job and hands its pieces on.
async fn work(plan: Plan, ticket: ReplyTicket, to: &To) -> Result<Done, JobError> {
    let cancel = Cancel::new();
    let _cancelled_with_this = cancel.on_drop();
    let (sender, mut pieces) = mpsc::channel(PIECES);
    let (model, query, deadline_ms) = (plan.model, plan.ask.query, plan.ask.deadline_ms);
    let job = Job::Infer { model, query, pieces: plan.ask.stream.then_some(sender) };
    let run = RunJob { job, lane: plan.lane, deadline_ms, cancel };
    let reply = ask(&to.run_job, run, Duration::from_millis(deadline_ms) + GRACE);
    tokio::pin!(reply);
    let mut kept: Vec<u8> = Vec::new();
    let mut next = Instant::now();
    let mut open = true;
    loop {
        tokio::select! {
            // The reply first: it holds the whole text, so pieces that have not left yet are not needed.
            biased;
            reply = &mut reply => return match reply {
                Ok(result) => result,
                Err(AskError::Late { .. }) => Err(JobError::Late),
                Err(AskError::Gone { .. }) => Err(JobError::Failed),
            },
            piece = pieces.recv(), if open => match piece {
                Some(piece) => kept.extend(piece),
                None => open = false,
            },
            () = sleep_until(next), if !kept.is_empty() => {
                if tell(&to.reply_frame, ReplyFrame { ticket, frame: AnswerFrame::Piece(kept.clone()) }) {
                    kept.clear();
                }
                next = Instant::now() + PIECE_EVERY;
            }
        }
    }
}
