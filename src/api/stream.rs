//! Answers as server-sent events.
//!
//! A stream ends with `data: [DONE]`, or with an error event when the answer breaks off: it is never just cut, because a
//! client takes a cut stream for a whole answer. While nothing comes, `: ping` keeps the connection open.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use actix_web::web::Bytes;
use futures::Stream;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::backend::{Frame, QueryError, QueryFault};
use super::error::ApiError;
use super::shapes::{Reply, TextAssembler, finish, usage};

pub const PING_EVERY: Duration = Duration::from_secs(10);

/// One answer on its way out.
#[derive(Debug)]
pub struct Events {
    reply: Reply,
    frames: mpsc::Receiver<Frame>,
    /// Frames that came before the head of the response was sent.
    early: VecDeque<Frame>,
    text: TextAssembler,
    /// Events made and not yet sent.
    ready: VecDeque<Bytes>,
    ping: Interval,
    include_usage: bool,
    max_bytes: u32,
    ended: bool,
    /// Held until the last event is out.
    _permit: OwnedSemaphorePermit,
}

fn data(value: &Value) -> Bytes {
    Bytes::from(format!("data: {value}\n\n"))
}

impl Events {
    pub fn new(
        reply: Reply,
        frames: mpsc::Receiver<Frame>,
        first: Frame,
        include_usage: bool,
        max_bytes: u32,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let mut ping = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            ready: reply.opening().iter().map(data).collect(),
            reply,
            frames,
            early: VecDeque::from([first]),
            text: TextAssembler::default(),
            ping,
            include_usage,
            max_bytes,
            ended: false,
            _permit: permit,
        }
    }

    fn take(&mut self, frame: Option<Frame>) {
        match frame {
            Some(Frame::Started(_)) => {}
            Some(Frame::Piece(bytes)) => {
                let text = self.text.push(&bytes);
                if !text.is_empty() {
                    self.ready.push_back(data(&self.reply.chunk(Some(&text), None, &Value::Null)));
                }
            }
            Some(Frame::Done { usage: used, .. }) => {
                let rest = self.text.end();
                if !rest.is_empty() {
                    self.ready.push_back(data(&self.reply.chunk(Some(&rest), None, &Value::Null)));
                }
                let reason = finish(used.output_bytes, self.max_bytes);
                let used = usage(&used);
                self.ready.push_back(data(&self.reply.chunk(None, Some(reason), &used)));
                if self.include_usage {
                    self.ready.push_back(data(&self.reply.closing(&used)));
                }
                self.ready.push_back(Bytes::from_static(b"data: [DONE]\n\n"));
                self.ended = true;
            }
            Some(Frame::Failed(error)) => self.fail(error),
            None => self.fail(QueryError::new(QueryFault::Internal, "the answer broke off")),
        }
    }

    fn fail(&mut self, error: QueryError) {
        self.ready.push_back(data(&ApiError::from(error).body()));
        self.ended = true;
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            if let Some(frame) = self.early.pop_front() {
                self.take(Some(frame));
                continue;
            }
            tokio::select! {
                biased;
                frame = self.frames.recv() => self.take(frame),
                _ = self.ping.tick() => return Some(Bytes::from_static(b": ping\n\n")),
            }
        }
    }

    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        futures::stream::unfold(self, |mut events| async move {
            let event = events.next().await?;
            Some((Ok(event), events))
        })
    }
}
