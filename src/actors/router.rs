//! The door: every byte from outside comes in here and every byte of ours goes out here.

use tokio::sync::mpsc;

use super::mail::heard;
use crate::net;
use crate::protocol::ids::NodeId;
use crate::protocol::query::{AnswerFrame, Ask};

/// From query_dispatcher: put a query to one node. Frames come on the channel until one is last or an error; when the
/// channel is full or closed the query is withdrawn. When the mailbox is full nothing comes and the sender's own deadline
/// ends the attempt.
#[derive(Debug)]
pub struct OpenQuery {
    /// The dispatcher's name for this attempt.
    pub attempt: u64,
    pub to: NodeId,
    pub ask: Ask,
    /// Milliseconds from now.
    pub deadline_ms: u64,
    pub frames: mpsc::Sender<Result<AnswerFrame, net::AskError>>,
}

/// From query_dispatcher: forget an attempt; its miner is told by the closing stream. Lost: the deadline does it.
#[derive(Clone, Copy, Debug)]
pub struct CancelQuery {
    pub attempt: u64,
}

/// From query_dispatcher: one frame of the answer to a query that arrived. Lost: the asker's deadline ends it.
#[derive(Debug)]
pub struct ReplyFrame {
    pub ticket: net::ReplyTicket,
    pub frame: AnswerFrame,
}

heard! { "router": OpenQuery => (), CancelQuery => (), ReplyFrame => () }
