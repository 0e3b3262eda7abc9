//! The round of a keeper: what should be here, whether the others really hold theirs, and who holds what.
//!
//! Every round reads the ledger and the peers, fetches what this node is to keep, tries one random chunk of one other
//! keeper, and counts the holders of one model. A network without models is asked nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use actix::fut::wrap_future;
use actix::prelude::*;

use super::placement::{self, COPIES};
use super::{
    ArtifactKeeper, FIND_DEADLINE, FetchArtifact, FindHolders, READ_DEADLINE, ReadLedger, ReadPeers, off_thread,
};
use crate::actors::mail::{ask, tell};
use crate::actors::router::Announce;
use crate::net::AskError;
use crate::protocol::artifact::ChunkList;
use crate::protocol::artifact::message::{Head, Want};
use crate::protocol::ids::{Digest, NodeId};
use crate::store::artifacts::ShelfError;

/// A keeper has so long to fetch what it is to keep before it is asked to show it.
const GRACE_MS: u64 = 120_000;
/// A probe is answered within this, or failed.
const PROBE_MS: u64 = 10_000;
/// Roles whose nodes lend space to others.
const LENDING: [&str; 3] = ["full", "validator", "boot"];

/// What a probe found.
enum Probe {
    Held,
    Failed,
    Lied,
    /// Says nothing about the node: it was busy, or we could not ask.
    Unknown,
}

impl ArtifactKeeper {
    pub(super) fn survey(&mut self, context: &mut Context<Self>) {
        let view = ask(&self.links.read_ledger, ReadLedger { account: None }, READ_DEADLINE);
        let peers = ask(&self.links.read_peers, ReadPeers, READ_DEADLINE);
        let both = async move { (view.await, peers.await) };
        context.spawn(wrap_future::<_, Self>(both).map(|(view, peers), actor, context| {
            let (Ok(view), Ok(peers)) = (view, peers) else { return };
            actor.neighbours = peers.rows.iter().map(|peer| peer.node).collect();
            let lends = |roles: &[String]| roles.iter().any(|role| LENDING.contains(&role.as_str()));
            actor.lenders = peers.rows.iter().filter(|peer| lends(&peer.roles)).map(|peer| peer.node).collect();
            if actor.params.lends {
                actor.lenders.insert(actor.params.node);
            }
            actor.wishes = placement::wishes(&view.state);
            actor.wished = actor.wished_since();
            actor.keep(context);
            actor.probe(context);
            actor.look(context);
            actor.gauge();
        }));
    }

    fn gauge(&self) {
        let bytes = u32::try_from(self.params.shelf.bytes() >> 10).unwrap_or(u32::MAX);
        metrics::gauge!("starling_artifact_disk_bytes").set(f64::from(bytes) * 1_024.0);
    }

    fn wished_since(&self) -> BTreeMap<Digest, u64> {
        let now_ms = self.now_ms();
        self.wishes.iter().map(|wish| (wish.id, self.wished.get(&wish.id).copied().unwrap_or(now_ms))).collect()
    }

    /// Fetches what this node is to keep; the rest may go when room is needed.
    fn keep(&mut self, context: &mut Context<Self>) {
        let (now_ms, node) = (self.now_ms(), self.params.node);
        let ids = self.wishes.iter().flat_map(|wish| [wish.id, wish.manifest]);
        let mine: BTreeSet<Digest> = ids
            .filter(|id| self.params.lends && self.probes.keepers(id, &self.lenders, now_ms).contains(&node))
            .collect();
        let under_way = self.fetches.keys().chain(&self.waiting).copied();
        self.params.shelf.want(mine.iter().copied().chain(under_way).collect());
        for id in mine {
            self.pull(id, context);
        }
        // What has gone from the shelf, by age or by rot, is no longer ours to give.
        let gone: Vec<Digest> = self.announced.iter().filter(|id| !self.params.shelf.is_whole(id)).copied().collect();
        gone.into_iter().for_each(|id| self.withdraw(id));
        let held = self.params.shelf.holdings();
        let new = held.into_iter().filter(|holding| holding.whole()).map(|holding| holding.id);
        new.collect::<Vec<_>>().into_iter().for_each(|id| self.announce(id));
    }

    pub(super) fn withdraw(&mut self, id: Digest) {
        if self.announced.remove(&id) {
            tell(&self.links.announce, Announce { id, held: false });
        }
    }

    /// A random chunk of a random keeper (M13). Only a node that would be the next to keep it asks, so that a failed one
    /// is noticed by those who can replace it.
    fn probe(&mut self, context: &mut Context<Self>) {
        let (now_ms, node) = (self.now_ms(), self.params.node);
        if !self.params.lends || self.wishes.is_empty() {
            return;
        }
        let at = self.params.chance.index(self.wishes.len());
        let Some(id) = self.wishes.get(at).map(|wish| wish.id) else { return };
        if self.wished.get(&id).is_none_or(|since| *since + GRACE_MS > now_ms) {
            return;
        }
        let ranked = placement::ranked(&id, self.lenders.iter().copied());
        if !ranked.iter().take(2 * COPIES).any(|other| *other == node) {
            return;
        }
        let keepers: Vec<NodeId> = ranked.into_iter().take(COPIES).filter(|other| *other != node).collect();
        if keepers.is_empty() {
            return;
        }
        let chosen = self.params.chance.index(keepers.len());
        let Some(to) = keepers.get(chosen).copied() else { return };
        let (fetch, shelf, draw) = (self.links.fetch.clone(), Arc::clone(&self.params.shelf), self.params.chance.u64());
        let probe = async move {
            let question = |want| ask(&fetch, FetchArtifact { to, want, deadline_ms: PROBE_MS }, FIND_DEADLINE);
            let list = match shelf.list(&id) {
                Some(list) => list,
                None => match question(Want::Head(id)).await.unwrap_or(Err(AskError::Timeout)) {
                    Ok(bytes) => match Head::decode(id, &bytes) {
                        Ok(Head::List(list)) => Arc::new(list),
                        Ok(Head::Whole { .. }) => return Probe::Held,
                        Err(_) => return Probe::Lied,
                    },
                    Err(error) => return failed(error),
                },
            };
            let index = u32::try_from(draw % u64::from(list.count().max(1))).unwrap_or(0);
            match question(Want::Chunk { id, index }).await.unwrap_or(Err(AskError::Timeout)) {
                Ok(bytes) => check(list, index, bytes).await,
                Err(error) => failed(error),
            }
        };
        context.spawn(wrap_future::<_, Self>(probe).map(move |found, actor, context| {
            let (result, held) = match found {
                Probe::Unknown => return,
                Probe::Held => ("held", true),
                Probe::Failed => ("failed", false),
                Probe::Lied => {
                    actor.lied(to);
                    ("lied", false)
                }
            };
            metrics::counter!("starling_artifact_probes_total", "result" => result).increment(1);
            let now_ms = actor.now_ms().max(now_ms);
            if actor.probes.ended(id, to, held, now_ms) {
                tracing::info!(artifact = %id.short(), peer = %to.short(), "does not hold what it should; the next takes its place");
                actor.keep(context);
            }
        }));
    }

    /// Counts the holders of one model.
    fn look(&mut self, context: &mut Context<Self>) {
        if self.wishes.is_empty() {
            return;
        }
        let at = self.params.chance.index(self.wishes.len());
        let Some(id) = self.wishes.get(at).map(|wish| wish.id) else { return };
        let found = ask(&self.links.find, FindHolders { id }, FIND_DEADLINE);
        context.spawn(wrap_future::<_, Self>(found).map(move |found, actor, _| {
            if let Ok(nodes) = found {
                actor.count_holders(id, &nodes);
            }
        }));
    }
}

fn failed(error: AskError) -> Probe {
    match error {
        AskError::Busy | AskError::RateLimited | AskError::Unreachable => Probe::Unknown,
        _ => Probe::Failed,
    }
}

async fn check(list: Arc<ChunkList>, index: u32, bytes: Vec<u8>) -> Probe {
    let verified = off_thread(move || list.verify(index, &bytes).map_err(ShelfError::Chunk)).await;
    match verified {
        Ok(()) => Probe::Held,
        Err(ShelfError::Chunk(_)) => Probe::Lied,
        Err(_) => Probe::Unknown,
    }
}
