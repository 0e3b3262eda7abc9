//! Query streams: one request, many answer frames, each query a stream of its own.
//!
//! The asker writes `items u16 || length u32 || data` and keeps its side open; the other writes frames of
//! `kind u8 || length u32 || data` until one of kind *last* or *refusal*. An asker that closes its side has lost interest,
//! and the work ends. Every stream is a task of its own; the swarm never waits for one, only they for it.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{PeerId, Stream, StreamProtocol};
use libp2p_stream::{Control, IncomingStreams, OpenStreamError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::exchange::{Request, malformed, offence_of, read_block, read_request, write_block, write_request};
use super::gossip::dropped;
use super::task::Task;
use super::{AskError, Offence, Protocol, Refusal, ReplyTicket};

/// Frames of one reply that wait for their stream.
const FRAMES_WAITING: usize = 1_024;
/// Bytes of all replies that wait. An asker that does not read costs at most this, and then its reply ends.
const BYTES_WAITING: usize = 64 << 20;
/// News waiting for the swarm; a stream then waits in turn, which is what makes its sender slow down.
const NEWS_WAITING: usize = 64;
/// How long a stream may stand still: to open, to hear a request, to write a frame.
const STILL_MS: u64 = 10_000;

const KIND_FRAME: u8 = 0;
const KIND_LAST: u8 = 1;
const KIND_REFUSAL: u8 = 2;

/// What a reply sends next.
#[derive(Debug)]
pub enum Reply {
    Frame(Vec<u8>),
    Last(Vec<u8>),
    Refused(Refusal),
}

/// A reply in its queue, counted while it is there.
#[derive(Debug)]
pub struct Waiting {
    reply: Reply,
    bytes: usize,
    total: Arc<AtomicUsize>,
}

impl Waiting {
    /// `None` when too much waits already.
    fn new(reply: Reply, total: &Arc<AtomicUsize>) -> Option<Self> {
        let bytes = match &reply {
            Reply::Frame(data) | Reply::Last(data) => data.len(),
            Reply::Refused(_) => 0,
        };
        let before = total.fetch_add(bytes, Ordering::Relaxed);
        let waiting = Self { reply, bytes, total: Arc::clone(total) };
        (before.saturating_add(bytes) <= BYTES_WAITING).then_some(waiting)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What streams tell the swarm.
#[derive(Debug)]
pub enum News {
    Asked {
        stream: u64,
        peer: PeerId,
        request: Request,
        replies: mpsc::Sender<Waiting>,
    },
    Frame {
        id: u64,
        data: Vec<u8>,
        last: bool,
    },
    Failed {
        id: u64,
        peer: PeerId,
        reason: AskError,
        offence: Option<Offence>,
    },
    /// The asker of an inbound stream has gone.
    Gone {
        stream: u64,
    },
    Misbehaved {
        peer: PeerId,
        offence: Offence,
    },
}

/// The streams under way.
pub struct Streams {
    control: Control,
    protocol: StreamProtocol,
    news: mpsc::Sender<News>,
    asking: HashMap<u64, AbortHandle>,
    replying: HashMap<ReplyTicket, (u64, mpsc::Sender<Waiting>)>,
    waiting: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Streams({} out, {} in)", self.asking.len(), self.replying.len())
    }
}

impl Streams {
    /// Starts to accept streams; the receiver is heard by the swarm.
    pub fn open(
        control: Control,
        incoming: IncomingStreams,
        protocol: StreamProtocol,
        max: usize,
    ) -> (Self, mpsc::Receiver<News>) {
        let (news, heard) = mpsc::channel(NEWS_WAITING);
        tokio::spawn(accept(incoming, news.clone(), Arc::new(Semaphore::new(max))));
        (
            Self { control, protocol, news, asking: HashMap::new(), replying: HashMap::new(), waiting: Arc::default() },
            heard,
        )
    }

    pub fn ask(&mut self, id: u64, peer: PeerId, items: u16, data: Vec<u8>) {
        let (control, protocol, news) = (self.control.clone(), self.protocol.clone(), self.news.clone());
        let task = tokio::spawn(async move {
            let result = question(control, protocol, peer, id, Request { items, data }, &news).await;
            if let Err((reason, offence)) = result {
                // The swarm has stopped when nobody hears this.
                let _stopped = news.send(News::Failed { id, peer, reason, offence }).await;
            }
        });
        self.asking.insert(id, task.abort_handle());
    }

    /// Nobody waits for this answer any more.
    pub fn forget(&mut self, id: u64) {
        if let Some(task) = self.asking.remove(&id) {
            task.abort();
        }
    }

    /// Hands a frame to the stream of a ticket. False: there is no such stream, or it is too slow and now closed.
    pub fn reply(&mut self, ticket: ReplyTicket, reply: Reply) -> bool {
        let more = matches!(reply, Reply::Frame(_));
        let Some((_, frames)) = self.replying.get(&ticket) else { return false };
        let sent = Waiting::new(reply, &self.waiting).is_some_and(|reply| frames.try_send(reply).is_ok());
        if !(sent && more) {
            self.replying.remove(&ticket);
        }
        sent
    }

    pub fn close(&mut self, ticket: ReplyTicket) {
        self.replying.remove(&ticket);
    }

    fn ticket_of(&self, stream: u64) -> Option<ReplyTicket> {
        self.replying.iter().find(|(_, (other, _))| *other == stream).map(|(ticket, _)| *ticket)
    }
}

impl Task {
    pub(super) fn on_stream(&mut self, news: News) {
        match news {
            News::Asked { stream, peer, request, replies } => {
                match self.admit_request(peer, Protocol::Query, request) {
                    Ok((ticket, event)) => {
                        self.exchange.streams.replying.insert(ticket, (stream, replies));
                        self.emit(event);
                    }
                    // A fresh channel has room for one frame.
                    Err(refusal) => {
                        let refusal = Waiting::new(Reply::Refused(refusal), &self.exchange.streams.waiting);
                        drop(refusal.map(|refusal| replies.try_send(refusal)));
                    }
                }
            }
            News::Frame { id, data, last } => self.answered(id, data, last),
            News::Failed { id, peer, reason, offence } => {
                if let Some(offence) = offence {
                    self.misbehaved(peer, offence);
                }
                self.ask_failed(id, reason);
            }
            News::Gone { stream } => {
                let Some(ticket) = self.exchange.streams.ticket_of(stream) else { return };
                self.exchange.streams.close(ticket);
                if self.exchange.desk.close_reply(ticket).is_some() {
                    self.emit(super::Event::AskWithdrawn { ticket });
                }
            }
            News::Misbehaved { peer, offence } => self.misbehaved(peer, offence),
        }
    }
}

async fn still<T>(what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(Duration::from_millis(STILL_MS), what).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

type Failure = (AskError, Option<Offence>);

fn failure(error: &io::Error) -> Failure {
    let reason = match error.kind() {
        io::ErrorKind::TimedOut => AskError::Timeout,
        io::ErrorKind::FileTooLarge => AskError::TooLarge,
        _ => AskError::Closed,
    };
    (reason, offence_of(error))
}

/// Asks and hears the frames. How long it may take is known to the books, which end this task.
async fn question(
    mut control: Control,
    protocol: StreamProtocol,
    peer: PeerId,
    id: u64,
    request: Request,
    news: &mpsc::Sender<News>,
) -> Result<(), Failure> {
    let opened = timeout(Duration::from_millis(STILL_MS), control.open_stream(peer, protocol)).await;
    let mut stream = match opened {
        Ok(Ok(stream)) => stream,
        Ok(Err(OpenStreamError::UnsupportedProtocol(_))) => return Err((AskError::WrongVersion, None)),
        Ok(Err(_)) => return Err((AskError::Closed, None)),
        Err(_) => return Err((AskError::Timeout, None)),
    };
    let sent = async {
        write_request(&mut stream, request.items, &request.data).await?;
        stream.flush().await
    };
    still(sent).await.map_err(|e| failure(&e))?;
    loop {
        let (kind, data) = read_frame(&mut stream).await.map_err(|e| failure(&e))?;
        match (kind, data.first().copied().and_then(Refusal::from_code)) {
            (KIND_FRAME | KIND_LAST, _) => {
                let last = kind == KIND_LAST;
                let told = news.send(News::Frame { id, data, last }).await;
                if last || told.is_err() {
                    return Ok(());
                }
            }
            (KIND_REFUSAL, Some(refusal)) => return Err((refusal.into(), None)),
            _ => return Err(failure(&malformed("an unknown kind of frame"))),
        }
    }
}

async fn read_frame(stream: &mut Stream) -> io::Result<(u8, Vec<u8>)> {
    let mut kind = [0; 1];
    stream.read_exact(&mut kind).await?;
    let [kind] = kind;
    Ok((kind, read_block(stream, Protocol::Query.spec().answer_bytes_max).await?))
}

/// Takes streams as fast as they come: libp2p-stream drops what is not taken at once.
async fn accept(mut incoming: IncomingStreams, news: mpsc::Sender<News>, permits: Arc<Semaphore>) {
    let mut number = 0;
    while let Some((peer, stream)) = incoming.next().await {
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            dropped("query_streams");
            continue;
        };
        number += 1;
        tokio::spawn(serve(stream, peer, number, news.clone(), permit));
    }
}

async fn serve(mut stream: Stream, peer: PeerId, number: u64, news: mpsc::Sender<News>, _permit: OwnedSemaphorePermit) {
    let request = match still(read_request(&mut stream, Protocol::Query.spec().request_bytes_max)).await {
        Ok(request) => request,
        Err(error) => {
            if let Some(offence) = offence_of(&error) {
                let _stopped = news.send(News::Misbehaved { peer, offence }).await;
            }
            return;
        }
    };
    let (replies, mut frames) = mpsc::channel(FRAMES_WAITING);
    if news.send(News::Asked { stream: number, peer, request, replies }).await.is_err() {
        return;
    }
    let (mut read, mut write) = stream.split();
    let mut byte = [0; 1];
    loop {
        tokio::select! {
            reply = frames.recv() => {
                // Without a last frame the reply was given up: the stream breaks, and the asker sees that.
                let Some(reply) = reply else { return };
                let more = matches!(reply.reply, Reply::Frame(_));
                if still(write_reply(&mut write, &reply.reply)).await.is_err() {
                    break;
                }
                if !more {
                    // Either side may be the first to close.
                    let _gone = still(write.close()).await;
                    return;
                }
            }
            // The asker closed its side, or says what it has no right to say: either way it is done.
            _ = read.read(&mut byte) => break,
        }
    }
    let _stopped = news.send(News::Gone { stream: number }).await;
}

async fn write_reply(write: &mut futures::io::WriteHalf<Stream>, reply: &Reply) -> io::Result<()> {
    let code;
    let (kind, data) = match reply {
        Reply::Frame(data) => (KIND_FRAME, data.as_slice()),
        Reply::Last(data) => (KIND_LAST, data.as_slice()),
        Reply::Refused(refusal) => {
            code = [refusal.code()];
            (KIND_REFUSAL, code.as_slice())
        }
    };
    write.write_all(&[kind]).await?;
    write_block(write, data).await?;
    write.flush().await
}
