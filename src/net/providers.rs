//! Who holds what: provider records of kad, given out and taken in (N28, N29).
//!
//! Owns the questions under way and the table of strangers' records. A record is a hint: only the bytes prove anything. The
//! table keeps the newest and is bounded per key, per sender and in all, so neither many ids of one name nor many names of
//! one node can fill it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use libp2p::PeerId;
use libp2p::kad::store::RecordStore;
use libp2p::kad::{GetProvidersOk, InboundRequest, ProviderRecord, QueryId, QueryResult, RecordKey};

use super::task::Task;
use super::{Event, identity};
use crate::protocol::ids::{Digest, NodeId};

/// Keys this node provides itself: announcing one costs about 20 dials.
pub const PROVIDED_MAX: usize = 128;
pub const KEYS_MAX: usize = 4_096;
pub const PER_KEY_MAX: usize = 32;
const PER_SENDER_MAX: usize = 128;
/// How long a record lives, and how often its holder says it again: constants of the network.
pub const LIFE_MS: u64 = 1_800_000;
pub const REPUBLISH_MS: u64 = 600_000;
/// Questions under way; more are answered with nobody.
const FINDS_MAX: usize = 64;
/// A question ends with so many holders.
const ENOUGH: usize = 8;
const ADDRESSES_MAX: usize = 8;

/// The name of an artifact in kad: a multihash of BLAKE3.
pub fn record_key(id: &Digest) -> RecordKey {
    RecordKey::new(&[&[0x1e, 0x20], id.0.as_slice()].concat())
}

fn is_ours(key: &RecordKey) -> bool {
    let bytes = key.as_ref();
    bytes.len() == 34 && bytes.starts_with(&[0x1e, 0x20])
}

/// A question under way: whose, and who was found so far.
type Find = (u64, BTreeSet<NodeId>);
/// What goes out of the table: a key and its sender.
type Gone = (Vec<u8>, PeerId);

/// Strangers' records by age.
#[derive(Debug, Default)]
struct Table {
    rows: BTreeMap<Vec<u8>, BTreeMap<PeerId, u64>>,
    senders: BTreeMap<PeerId, BTreeSet<Vec<u8>>>,
}

impl Table {
    fn drop(&mut self, key: &[u8], peer: &PeerId) -> Gone {
        if let Some(row) = self.rows.get_mut(key) {
            row.remove(peer);
            if row.is_empty() {
                self.rows.remove(key);
            }
        }
        if let Some(keys) = self.senders.get_mut(peer) {
            keys.remove(key);
            if keys.is_empty() {
                self.senders.remove(peer);
            }
        }
        (key.to_vec(), *peer)
    }

    fn oldest<'a>(&self, of: impl Iterator<Item = (&'a Vec<u8>, &'a BTreeMap<PeerId, u64>)>) -> Option<Gone> {
        let all = of.flat_map(|(key, row)| row.iter().map(move |(peer, at)| (*at, key, *peer)));
        all.min_by_key(|(at, ..)| *at).map(|(_, key, peer)| (key.clone(), peer))
    }

    /// Takes a record in; what has to go for it.
    fn add(&mut self, key: &[u8], peer: PeerId, now_ms: u64) -> Vec<Gone> {
        let mut gone = Vec::new();
        let known = self.rows.get(key).is_some_and(|row| row.contains_key(&peer));
        if !known {
            let mine = self.senders.get(&peer).is_some_and(|keys| keys.len() >= PER_SENDER_MAX);
            let oldest = if mine {
                self.senders.get(&peer).and_then(|keys| {
                    let at = |key: &&Vec<u8>| self.rows.get(*key).and_then(|row| row.get(&peer)).copied();
                    keys.iter().min_by_key(at).map(|key| (key.clone(), peer))
                })
            } else if self.rows.get(key).is_some_and(|row| row.len() >= PER_KEY_MAX) {
                self.oldest(self.rows.get_key_value(key).into_iter())
            } else if self.rows.len() >= KEYS_MAX && !self.rows.contains_key(key) {
                let oldest = self.oldest(self.rows.iter());
                // The whole key goes: a place for the new one is a key's place.
                let rest: Vec<PeerId> =
                    oldest.iter().flat_map(|(key, _)| self.rows.get(key)).flat_map(|r| r.keys().copied()).collect();
                if let Some((key, _)) = &oldest {
                    gone.extend(rest.iter().map(|peer| self.drop(key, peer)));
                }
                None
            } else {
                None
            };
            if let Some((key, peer)) = oldest {
                gone.push(self.drop(&key, &peer));
            }
        }
        self.rows.entry(key.to_vec()).or_default().insert(peer, now_ms);
        self.senders.entry(peer).or_default().insert(key.to_vec());
        gone
    }

    fn expire(&mut self, now_ms: u64) -> Vec<Gone> {
        let old = |at: u64| at.saturating_add(LIFE_MS) <= now_ms;
        let gone: Vec<Gone> = self
            .rows
            .iter()
            .flat_map(|(key, row)| row.iter().filter(|(_, at)| old(**at)).map(|(peer, _)| (key.clone(), *peer)))
            .collect();
        gone.iter().map(|(key, peer)| self.drop(key, peer)).collect()
    }
}

/// The state of providing.
#[derive(Debug, Default)]
pub struct Providers {
    finds: HashMap<QueryId, Find>,
    table: Table,
    provided: BTreeSet<Digest>,
    swept_ms: u64,
}

impl Task {
    pub(super) fn provide(&mut self, id: Digest, held: bool) {
        let key = record_key(&id);
        if !held {
            self.providers.provided.remove(&id);
            return self.swarm.behaviour_mut().kad.stop_providing(&key);
        }
        if self.providers.provided.len() >= PROVIDED_MAX && !self.providers.provided.contains(&id) {
            return super::gossip::dropped("provided_keys");
        }
        match self.swarm.behaviour_mut().kad.start_providing(key) {
            Ok(_) => {
                self.providers.provided.insert(id);
            }
            Err(error) => tracing::debug!(artifact = %id, %error, "an artifact cannot be announced now"),
        }
    }

    pub(super) fn find_providers(&mut self, ask: u64, id: Digest) {
        if self.providers.finds.len() >= FINDS_MAX {
            super::gossip::dropped("finds");
            return self.emit(Event::Providers { id: ask, nodes: Vec::new() });
        }
        let query = self.swarm.behaviour_mut().kad.get_providers(record_key(&id));
        self.providers.finds.insert(query, (ask, BTreeSet::new()));
    }

    /// What kad has to say about providers; other results are handed back.
    pub(super) fn on_providers(&mut self, query: QueryId, result: &QueryResult, last: bool) {
        let Some((_, found)) = self.providers.finds.get_mut(&query) else { return };
        if let QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })) = result {
            found.extend(providers.iter().filter_map(identity::node_of));
        }
        let enough = found.len() >= ENOUGH;
        if !(last || enough) {
            return;
        }
        if enough && let Some(mut query) = self.swarm.behaviour_mut().kad.query_mut(&query) {
            query.finish();
        }
        if let Some((ask, found)) = self.providers.finds.remove(&query) {
            let local = self.local;
            let nodes = found.into_iter().filter(|node| *node != local).take(PER_KEY_MAX).collect();
            self.emit(Event::Providers { id: ask, nodes });
        }
    }

    /// A stranger says that it holds something. kad has checked that the sender speaks of itself.
    pub(super) fn on_record(&mut self, request: InboundRequest) {
        let InboundRequest::AddProvider { record: Some(record) } = request else { return };
        if !is_ours(&record.key) {
            return super::gossip::dropped("provider_records");
        }
        let now_ms = self.now_ms();
        let gone = self.providers.table.add(record.key.as_ref(), record.provider, now_ms);
        self.forget_records(gone);
        let ProviderRecord { key, provider, expires, mut addresses } = record;
        addresses.truncate(ADDRESSES_MAX);
        let record = ProviderRecord { key, provider, expires, addresses };
        if self.swarm.behaviour_mut().kad.store_mut().add_provider(record).is_err() {
            super::gossip::dropped("provider_records");
        }
    }

    fn forget_records(&mut self, gone: Vec<Gone>) {
        let store = self.swarm.behaviour_mut().kad.store_mut();
        for (key, peer) in gone {
            store.remove_provider(&RecordKey::from(key), &peer);
        }
    }

    pub(super) fn providers_tick(&mut self) {
        let now_ms = self.now_ms();
        if self.providers.swept_ms + 60_000 <= now_ms {
            self.providers.swept_ms = now_ms;
            let gone = self.providers.table.expire(now_ms);
            self.forget_records(gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n29_the_table_is_bounded_and_the_newest_stays() {
        let mut table = Table::default();
        let peers: Vec<PeerId> = (0..40).map(|_| PeerId::random()).collect();
        // Many ids on one name: the newest 32 stay.
        for (at, peer) in (0..).zip(&peers) {
            table.add(b"key", *peer, at);
        }
        assert_eq!(table.rows[b"key".as_slice()].len(), PER_KEY_MAX);
        assert!(table.rows[b"key".as_slice()].contains_key(&peers[39]));
        assert!(!table.rows[b"key".as_slice()].contains_key(&peers[0]));
        // Many names of one node: its own oldest go, nobody else's.
        for at in 0..500_u64 {
            let gone = table.add(&at.to_le_bytes(), peers[39], 100 + at);
            assert!(gone.iter().all(|(_, peer)| *peer == peers[39]));
        }
        assert_eq!(table.senders[&peers[39]].len(), PER_SENDER_MAX);
        assert!(table.rows.len() <= PER_SENDER_MAX + 1);
        // Saying it again is no second record.
        assert!(table.add(&499_u64.to_le_bytes(), peers[39], 1_000).is_empty());
        assert!(table.expire(LIFE_MS + 599).len() > 100);
        assert_eq!(table.senders[&peers[39]].len(), 1);
        assert_eq!(table.expire(LIFE_MS + 1_000).len(), 1);
        assert!(table.rows.is_empty() && table.senders.is_empty());
    }

    #[test]
    fn n29_the_table_in_all_is_bounded() {
        let mut table = Table::default();
        let peers: Vec<PeerId> = (0..60).map(|_| PeerId::random()).collect();
        for at in 0..6_000_u64 {
            table.add(&at.to_le_bytes(), peers[usize::try_from(at % 60).unwrap()], at);
        }
        assert_eq!(table.rows.len(), KEYS_MAX);
        assert!(table.rows.contains_key(5_999_u64.to_le_bytes().as_slice()));
    }
}
