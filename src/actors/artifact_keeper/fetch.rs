//! One artifact on its way here, from several holders at once (N30).
//!
//! Pure: inputs carry everything, effects ask for everything. A holder is asked for a few chunks at a time, in order, so
//! that a slow one simply gets fewer. Who gives bytes that do not verify is named and never asked again; who is slow, busy
//! or without it rests or is left. The last chunks are asked of two. Invariant: a chunk is missing, asked for, or being
//! kept; when it is none of these it is on the shelf.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::net::AskError;
use crate::protocol::artifact::ChunkList;
use crate::protocol::artifact::message::{Head, Want};
use crate::protocol::ids::{Digest, NodeId};

/// Holders asked at the same time, and chunks asked of each.
const SOURCES_MAX: usize = 4;
const PER_SOURCE: usize = 4;
/// Holders known at most.
const KNOWN_MAX: usize = 64;
/// So few left: each may be asked of a second holder.
const LAST: usize = 4;
/// A holder that failed so often in a row is left.
const FAULTS_MAX: u32 = 3;
/// First rest after a fault; it doubles.
const REST_MS: u64 = 500;
/// Between two searches for holders.
const FIND_MS: u64 = 2_000;
/// Who has not got it is asked again after this.
const EMPTY_MS: u64 = 15_000;
/// Nothing was kept for so long: the fetch has failed.
const STILL_MS: u64 = 60_000;

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// Nodes that said they hold it, by a search that has ended.
    Sources(Vec<NodeId>),
    /// Nodes that are connected and might.
    Near(Vec<NodeId>),
    Answered {
        from: NodeId,
        want: Want,
        result: Result<Vec<u8>, AskError>,
    },
    /// The shelf has made room: what is missing.
    Begun(Result<BTreeSet<u32>, String>),
    /// The shelf has judged a chunk.
    Kept {
        from: NodeId,
        index: u32,
        verdict: Verdict,
    },
    Woken,
}

/// The shelf on a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Kept,
    Wrong,
    Failed(String),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Find,
    Ask { to: NodeId, want: Want },
    Begin(Arc<ChunkList>),
    Keep { from: NodeId, index: u32, bytes: Vec<u8> },
    Blame { node: NodeId },
    WakeAt(u64),
    Ended(Result<(), String>),
}

#[derive(Debug, Default)]
struct Source {
    in_flight: usize,
    head_asked: bool,
    rest_until_ms: u64,
    faults: u32,
    chunks: u32,
}

/// The state of a fetch.
#[derive(Debug)]
pub struct Fetch {
    id: Digest,
    began_ms: u64,
    list: Option<Arc<ChunkList>>,
    begun: bool,
    missing: BTreeSet<u32>,
    asked: BTreeMap<u32, BTreeSet<NodeId>>,
    keeping: BTreeSet<u32>,
    sources: BTreeMap<NodeId, Source>,
    /// Gave wrong bytes.
    liars: BTreeSet<NodeId>,
    /// Said that they have not got it, and when: they may have it later.
    empty: BTreeMap<NodeId, u64>,
    /// The bytes of an artifact of one chunk, which came with its head.
    whole: Option<(NodeId, Vec<u8>)>,
    found_ms: Option<u64>,
    finding: bool,
    progress_ms: u64,
    givers: BTreeSet<NodeId>,
    ended: bool,
}

impl Fetch {
    pub fn new(id: Digest, now_ms: u64, avoid: BTreeSet<NodeId>) -> Self {
        Self {
            id,
            began_ms: now_ms,
            list: None,
            begun: false,
            missing: BTreeSet::new(),
            asked: BTreeMap::new(),
            keeping: BTreeSet::new(),
            sources: BTreeMap::new(),
            liars: avoid,
            empty: BTreeMap::new(),
            whole: None,
            found_ms: None,
            finding: false,
            progress_ms: now_ms,
            givers: BTreeSet::new(),
            ended: false,
        }
    }

    /// Nodes that gave at least one right chunk.
    pub fn sources(&self) -> usize {
        self.givers.len()
    }

    pub fn began_ms(&self) -> u64 {
        self.began_ms
    }

    pub fn bytes(&self) -> Option<u64> {
        self.list.as_ref().map(|list| list.length())
    }

    pub fn step(&mut self, now_ms: u64, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.ended {
            return effects;
        }
        match input {
            Input::Sources(nodes) => {
                self.finding = false;
                self.found(now_ms, nodes);
            }
            Input::Near(nodes) => self.found(now_ms, nodes),
            Input::Answered { from, want, result } => self.answered(now_ms, from, want, result, &mut effects),
            Input::Begun(Ok(missing)) => {
                self.begun = true;
                self.missing = missing;
                if let Some((from, bytes)) = self.whole.take().filter(|_| self.missing.remove(&0)) {
                    self.keeping.insert(0);
                    effects.push(Effect::Keep { from, index: 0, bytes });
                }
            }
            Input::Begun(Err(why)) => return self.end(Err(why), effects),
            Input::Kept { from, index, verdict } => match verdict {
                Verdict::Kept => {
                    self.keeping.remove(&index);
                    self.missing.remove(&index);
                    // A second answer that nobody needs any more does not hold up the end.
                    self.asked.remove(&index);
                    self.givers.insert(from);
                    self.progress_ms = now_ms;
                    if let Some(source) = self.sources.get_mut(&from) {
                        source.chunks += 1;
                        source.faults = 0;
                    }
                }
                Verdict::Wrong => {
                    self.keeping.remove(&index);
                    if !self.asked.contains_key(&index) {
                        self.missing.insert(index);
                    }
                    self.blame(from, &mut effects);
                }
                Verdict::Failed(why) => return self.end(Err(why), effects),
            },
            Input::Woken => {}
        }
        self.go_on(now_ms, effects)
    }

    fn end(&mut self, how: Result<(), String>, mut effects: Vec<Effect>) -> Vec<Effect> {
        self.ended = true;
        effects.push(Effect::Ended(how));
        effects
    }

    fn found(&mut self, now_ms: u64, nodes: Vec<NodeId>) {
        self.empty.retain(|_, at| *at + EMPTY_MS > now_ms);
        for node in nodes {
            if self.sources.len() < KNOWN_MAX && !self.liars.contains(&node) && !self.empty.contains_key(&node) {
                self.sources.entry(node).or_default();
            }
        }
    }

    fn blame(&mut self, node: NodeId, effects: &mut Vec<Effect>) {
        self.sources.remove(&node);
        if self.liars.insert(node) {
            effects.push(Effect::Blame { node });
        }
    }

    fn answered(
        &mut self,
        now_ms: u64,
        from: NodeId,
        want: Want,
        result: Result<Vec<u8>, AskError>,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(source) = self.sources.get_mut(&from) {
            source.in_flight = source.in_flight.saturating_sub(1);
            source.head_asked = false;
        }
        if let Want::Chunk { index, .. } = want {
            let others = self.asked.get_mut(&index).map(|nodes| {
                nodes.remove(&from);
                nodes.len()
            });
            if others == Some(0) {
                self.asked.remove(&index);
            }
            // Asked of two: the first that came is being judged, or was right.
            if others.is_none() || self.keeping.contains(&index) {
                return self.note(now_ms, from, &result);
            }
            match result {
                Ok(bytes) if !self.liars.contains(&from) => {
                    self.keeping.insert(index);
                    effects.push(Effect::Keep { from, index, bytes });
                }
                other => {
                    if !self.asked.contains_key(&index) {
                        self.missing.insert(index);
                    }
                    self.note(now_ms, from, &other);
                }
            }
            return;
        }
        let Ok(bytes) = &result else { return self.note(now_ms, from, &result) };
        if self.list.is_some() {
            return;
        }
        match Head::decode(self.id, bytes) {
            Ok(Head::List(list)) => self.list = Some(Arc::new(list)),
            Ok(Head::Whole { list, bytes }) => {
                self.list = Some(Arc::new(list));
                self.whole = Some((from, bytes));
            }
            Err(_) => return self.blame(from, effects),
        }
        self.progress_ms = now_ms;
        effects.extend(self.list.clone().map(Effect::Begin));
    }

    /// A failure says something about its source.
    fn note(&mut self, now_ms: u64, from: NodeId, result: &Result<Vec<u8>, AskError>) {
        let Err(error) = result else { return };
        let Some(source) = self.sources.get_mut(&from) else { return };
        match error {
            AskError::NotFound | AskError::WrongVersion | AskError::TooLarge => {
                self.sources.remove(&from);
                self.empty.insert(from, now_ms);
            }
            // Polite: it costs time, not trust.
            AskError::Busy | AskError::RateLimited => source.rest_until_ms = now_ms + REST_MS,
            AskError::Failed | AskError::Timeout | AskError::Unreachable | AskError::Closed => {
                source.faults += 1;
                source.rest_until_ms = now_ms + (REST_MS << source.faults.min(6));
                if source.faults >= FAULTS_MAX {
                    self.sources.remove(&from);
                }
            }
        }
    }

    fn go_on(&mut self, now_ms: u64, mut effects: Vec<Effect>) -> Vec<Effect> {
        if self.begun && self.missing.is_empty() && self.asked.is_empty() && self.keeping.is_empty() {
            return self.end(Ok(()), effects);
        }
        if now_ms >= self.progress_ms + STILL_MS {
            let why = if self.list.is_some() { "no holder gives its chunks" } else { "nobody found has it" };
            return self.end(Err(why.to_owned()), effects);
        }
        if self.list.is_none() {
            self.ask_head(now_ms, &mut effects);
        } else if self.begun {
            self.ask_chunks(now_ms, &mut effects);
        }
        let idle = self.sources.values().all(|source| source.in_flight == 0) && self.keeping.is_empty();
        let due = self.found_ms.is_none_or(|at| now_ms >= at + FIND_MS);
        let few = self.sources.len() < 2;
        if (idle || few) && due && !self.finding {
            self.finding = true;
            self.found_ms = Some(now_ms);
            effects.push(Effect::Find);
        }
        // Whoever rests is asked again; whoever is searched for is searched again.
        let rests = self.sources.values().map(|source| source.rest_until_ms).filter(|at| *at > now_ms);
        let next = rests.chain([now_ms + FIND_MS]).min();
        effects.extend(next.map(Effect::WakeAt));
        effects
    }

    fn ask_head(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        let under_way = self.sources.values().filter(|source| source.head_asked).count();
        let free = self.sources.iter_mut().filter(|(_, s)| !s.head_asked && s.rest_until_ms <= now_ms);
        let mut free: Vec<(&NodeId, &mut Source)> = free.collect();
        free.sort_by_key(|(_, source)| source.faults);
        for (node, source) in free.into_iter().take(2_usize.saturating_sub(under_way)) {
            source.head_asked = true;
            source.in_flight += 1;
            effects.push(Effect::Ask { to: *node, want: Want::Head(self.id) });
        }
    }

    fn ask_chunks(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        let mut best: Vec<(NodeId, u32, u32)> = self
            .sources
            .iter()
            .filter(|(_, source)| source.rest_until_ms <= now_ms)
            .map(|(node, source)| (*node, source.faults, source.chunks))
            .collect();
        best.sort_by_key(|(node, faults, chunks)| (*faults, std::cmp::Reverse(*chunks), *node));
        best.truncate(SOURCES_MAX);
        // One each in turn, so that all are at work before anyone is full.
        for _ in 0..PER_SOURCE {
            for (node, ..) in &best {
                let Some(source) = self.sources.get_mut(node).filter(|source| source.in_flight < PER_SOURCE) else {
                    continue;
                };
                let index = self.missing.pop_first().or_else(|| {
                    let few = self.asked.len() <= LAST;
                    // What has come and is being judged needs no second holder.
                    let other = |(index, nodes): &(&u32, &BTreeSet<NodeId>)| {
                        nodes.len() == 1 && !nodes.contains(node) && !self.keeping.contains(index)
                    };
                    self.asked.iter().filter(|_| few).find(other).map(|(index, _)| *index)
                });
                let Some(index) = index else { continue };
                source.in_flight += 1;
                self.asked.entry(index).or_default().insert(*node);
                effects.push(Effect::Ask { to: *node, want: Want::Chunk { id: self.id, index } });
            }
        }
    }
}

#[cfg(test)]
mod tests;
