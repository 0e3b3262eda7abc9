//! Votes on direct streams: one hop, one way, and the topic as the way round (N22, N23).
//!
//! Each voter opens a stream to each other voter and only writes on it; it only reads those it accepts. The acceptor says
//! one byte when it takes the stream, so that the writer knows that its votes are heard; until then, and whenever a
//! stream is down, votes also go by the topic. Frames are `length u16 || data`, at most 160 bytes of data.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{PeerId, Stream, StreamProtocol};
use libp2p_stream::{Control, IncomingStreams};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::backoff::Backoff;
use super::gossip::dropped;
use super::quota::{Meter, Rate};
use super::task::Task;
use super::{Event, Offence, Topic, identity, tables};
use crate::protocol::chance::Chance;
use crate::protocol::ids::NodeId;

/// The byte that says: your votes are heard here.
const HEARD: u8 = 1;
/// Inbound vote streams in all: a few of each member while old ones die.
const STREAMS_MAX: usize = 512;
/// Votes waiting for the swarm.
const NEWS_WAITING: usize = 4_096;
const REOPEN: (u64, u64) = (100, 5_000);
const OPEN_MS: u64 = 5_000;

/// What vote streams tell the swarm.
#[derive(Debug)]
pub enum VoteNews {
    Vote { peer: PeerId, data: Vec<u8> },
    Misbehaved { peer: PeerId, offence: Offence },
}

/// The way to one voter.
#[derive(Debug)]
struct Lane {
    queue: Mutex<VecDeque<Arc<[u8]>>>,
    max: usize,
    wake: Notify,
    connected: AtomicBool,
    /// The other side hears us.
    open: AtomicBool,
}

impl Lane {
    /// Queues a vote; the oldest gives way.
    fn push(&self, vote: Arc<[u8]>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() >= self.max {
            queue.pop_front();
            dropped("votes");
        }
        queue.push_back(vote);
        drop(queue);
        self.wake.notify_one();
    }

    fn pop(&self) -> Option<Arc<[u8]>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    async fn run(self: Arc<Self>, mut control: Control, peer: PeerId, protocol: StreamProtocol, mut chance: Chance) {
        let mut backoff = Backoff::new(REOPEN.0, REOPEN.1);
        loop {
            while !self.connected.load(Ordering::Acquire) {
                self.wake.notified().await;
            }
            let opened = timeout(Duration::from_millis(OPEN_MS), async {
                let mut stream = control.open_stream(peer, protocol.clone()).await.ok()?;
                let mut byte = [0; 1];
                stream.read_exact(&mut byte).await.ok()?;
                (byte == [HEARD]).then_some(stream)
            });
            if let Ok(Some(stream)) = opened.await {
                backoff.reset();
                self.open.store(true, Ordering::Release);
                let result = self.pump(stream).await;
                self.open.store(false, Ordering::Release);
                tracing::debug!(%peer, ?result, "a vote stream is down");
            }
            tokio::time::sleep(Duration::from_millis(backoff.next_ms(&mut chance))).await;
        }
    }

    /// Writes votes until the stream breaks or its reader closes it.
    async fn pump(&self, stream: Stream) -> io::Result<()> {
        let (mut read, mut write) = stream.split();
        let mut byte = [0; 1];
        loop {
            while let Some(vote) = self.pop() {
                let length = u16::try_from(vote.len()).unwrap_or(u16::MAX);
                write.write_all(&length.to_le_bytes()).await?;
                write.write_all(&vote).await?;
                write.flush().await?;
                let labels = [("dir", "out"), ("path", "stream")];
                metrics::counter!("starling_net_votes_total", &labels).increment(1);
            }
            tokio::select! {
                () = self.wake.notified() => {}
                _ = read.read(&mut byte) => return Err(io::ErrorKind::ConnectionReset.into()),
            }
        }
    }
}

/// All ways to voters, and the set of those who may come.
pub struct Votes {
    control: Control,
    protocol: StreamProtocol,
    voters: Arc<RwLock<HashSet<PeerId>>>,
    lanes: HashMap<PeerId, (Arc<Lane>, AbortHandle)>,
    lane_max: usize,
    chance: Chance,
}

impl std::fmt::Debug for Votes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Votes({} lanes)", self.lanes.len())
    }
}

impl Votes {
    pub fn open(
        control: Control,
        incoming: IncomingStreams,
        protocol: StreamProtocol,
        lane_max: usize,
        chance: Chance,
    ) -> (Self, mpsc::Receiver<VoteNews>) {
        let (news, heard) = mpsc::channel(NEWS_WAITING);
        let voters = Arc::new(RwLock::new(HashSet::new()));
        tokio::spawn(accept(incoming, news, Arc::clone(&voters)));
        (Self { control, protocol, voters, lanes: HashMap::new(), lane_max, chance }, heard)
    }

    pub fn peers(&self) -> Vec<PeerId> {
        self.lanes.keys().copied().collect()
    }

    /// Tells the way to a voter whether there is a connection to open a stream on.
    pub fn connected(&self, peer: &PeerId, connected: bool) {
        if let Some((lane, _)) = self.lanes.get(peer) {
            lane.connected.store(connected, Ordering::Release);
            lane.wake.notify_one();
        }
    }

    fn set(&mut self, peers: &HashSet<PeerId>, connected: impl Fn(&PeerId) -> bool) {
        self.voters.write().unwrap_or_else(PoisonError::into_inner).clone_from(peers);
        self.lanes.retain(|peer, (_, task)| {
            let stays = peers.contains(peer);
            if !stays {
                task.abort();
            }
            stays
        });
        for peer in peers {
            if self.lanes.contains_key(peer) {
                continue;
            }
            let lane = Arc::new(Lane {
                queue: Mutex::default(),
                max: self.lane_max,
                wake: Notify::new(),
                connected: AtomicBool::new(connected(peer)),
                open: AtomicBool::new(false),
            });
            let chance = self.chance.fork("vote stream");
            let run = Arc::clone(&lane).run(self.control.clone(), *peer, self.protocol.clone(), chance);
            self.lanes.insert(*peer, (lane, tokio::spawn(run).abort_handle()));
        }
    }

    /// Queues a vote for everybody; whether all of them hear us.
    fn send(&self, vote: &Arc<[u8]>) -> bool {
        let mut all = true;
        for (lane, _) in self.lanes.values() {
            all &= lane.open.load(Ordering::Acquire);
            lane.push(Arc::clone(vote));
        }
        all
    }
}

impl Drop for Votes {
    fn drop(&mut self) {
        for (_, task) in self.lanes.values() {
            task.abort();
        }
    }
}

impl Task {
    pub(super) fn set_voters(&mut self, nodes: &[NodeId]) {
        let nodes: Vec<NodeId> = nodes.iter().copied().filter(|node| *node != self.local).collect();
        let peers: HashSet<PeerId> = nodes.iter().filter_map(|node| identity::peer_of(*node)).collect();
        let behaviour = self.swarm.behaviour_mut();
        for old in self.votes.lanes.keys().filter(|peer| !peers.contains(*peer)) {
            behaviour.gossip.remove_explicit_peer(old);
            behaviour.limits.remove_peer_id(old);
        }
        for new in peers.iter().filter(|peer| !self.votes.lanes.contains_key(*peer)) {
            behaviour.gossip.add_explicit_peer(new);
            behaviour.limits.bypass_peer_id(new);
        }
        let known = &self.peers;
        self.votes.set(&peers, |peer| known.is_identified(peer));
        self.discovery.redial.set_always(&nodes);
        self.trust();
    }

    pub(super) fn send_vote(&mut self, data: Vec<u8>) {
        if data.len() > tables::VOTE_FRAME_BYTES_MAX {
            tracing::warn!(length = data.len(), "a vote of our own is over its limit");
            return dropped("oversize");
        }
        if !self.votes.send(&data.clone().into()) {
            // Somebody does not hear us on a stream: once by the topic for all of those (N23).
            let labels = [("dir", "out"), ("path", "topic")];
            metrics::counter!("starling_net_votes_total", &labels).increment(1);
            self.say(Topic::Vote, data);
        }
    }

    pub(super) fn on_vote(&mut self, news: VoteNews) {
        match news {
            VoteNews::Vote { peer, data } => {
                let labels = [("dir", "in"), ("path", "stream")];
                metrics::counter!("starling_net_votes_total", &labels).increment(1);
                if let Some(from) = identity::node_of(&peer) {
                    self.emit(Event::VoteArrived { from, data });
                }
            }
            VoteNews::Misbehaved { peer, offence } => self.misbehaved(peer, offence),
        }
    }
}

/// Takes streams as fast as they come. One of a stranger is dropped without a word: its claim to be a voter may only be
/// on its way, and it will try again.
async fn accept(mut incoming: IncomingStreams, news: mpsc::Sender<VoteNews>, voters: Arc<RwLock<HashSet<PeerId>>>) {
    let permits = Arc::new(Semaphore::new(STREAMS_MAX));
    while let Some((peer, stream)) = incoming.next().await {
        let members = voters.read().unwrap_or_else(PoisonError::into_inner);
        let (known, members) = (members.contains(&peer), members.len() + 1);
        if !known {
            continue;
        }
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            dropped("vote_streams");
            continue;
        };
        let news = news.clone();
        tokio::spawn(async move {
            let offence = listen(stream, peer, members, &news).await;
            if let Some(offence) = offence {
                let _stopped = news.send(VoteNews::Misbehaved { peer, offence }).await;
            }
            drop(permit);
        });
    }
}

fn elapsed_ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Reads votes until the stream ends; what the writer did wrong, if anything.
async fn listen(mut stream: Stream, peer: PeerId, members: usize, news: &mpsc::Sender<VoteNews>) -> Option<Offence> {
    stream.write_all(&[HEARD]).await.ok()?;
    stream.flush().await.ok()?;
    let started = Instant::now();
    let rate = Rate { items: u32::try_from(members * 4).unwrap_or(u32::MAX), period_ms: 500 };
    let mut meter = Meter::default();
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length).await.ok()?;
        let length = usize::from(u16::from_le_bytes(length));
        if length > tables::VOTE_FRAME_BYTES_MAX {
            return Some(Offence::Oversize);
        }
        let mut data = vec![0; length];
        stream.read_exact(&mut data).await.ok()?;
        let mut now_ms = elapsed_ms(started);
        // No faster than the quota, and nobody is blamed: what was held up on the way arrives in a bunch. The writer feels
        // the closed window, and its own queue drops the oldest.
        while let Err(wait_ms) = meter.take(rate, 1, now_ms) {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            now_ms = elapsed_ms(started);
        }
        if news.try_send(VoteNews::Vote { peer, data }).is_err() {
            dropped("votes_in");
        }
    }
}
