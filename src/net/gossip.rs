//! Gossip: how gossipsub is set up, what happens to a message on its way in and out, and the price of lying.
//!
//! Owns the outbox of what could not be sent yet and the list of messages that await their verdict. It refuses messages of
//! peers that are not admitted before they are remembered as seen, so that the same message may still come from another.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use libp2p::PeerId;
use libp2p::gossipsub::{
    self, Behaviour, ConfigBuilder, Event as GossipEvent, IdentTopic, IdentityTransform, MaxCountSubscriptionFilter,
    MessageAcceptance, MessageAuthenticity, MessageId, PeerScoreParams, PeerScoreThresholds, PublishError,
    TopicScoreParams, ValidationMode, WhitelistSubscriptionFilter,
};
use libp2p::metrics::Registry;

use super::task::Task;
use super::{Event, GossipTicket, NetError, Offence, Params, Topic, Validity, identity, tables};
use crate::protocol::ids::ChainId;

pub type Gossipsub = Behaviour<IdentityTransform, MaxCountSubscriptionFilter<WhitelistSubscriptionFilter>>;

/// Topics a peer may be subscribed to: ours, and as many again in a next version.
const SUBSCRIPTIONS_MAX: usize = 16;
/// What protobuf and the topic name add to a message. gossipsub measures what it sends without it and what it receives
/// with it, so its own limit is the topic's and this; the exact limit is held here, both ways.
const MESSAGE_OVERHEAD: usize = 256;
/// What a whole gossipsub frame may add beside the longest message.
const FRAME_OVERHEAD: usize = 4 << 10;
/// A verdict that has not come after this long will not come: the message is ignored, and that is counted.
const VERDICT_MS: u64 = 30_000;
/// From this many nodes on a silent mesh peer is a fault; in small meshes it hits the honest (N24).
const DEFICIT_NODES: usize = 20;

/// The sum of what a peer can earn: 10 for time and 40 for first deliveries, times each topic's weight.
fn earnings_max() -> f64 {
    Topic::ALL.iter().map(|topic| topic.weight() * 50.0).sum()
}

/// Mesh numbers: target, low, high, outbound minimum.
fn mesh(topic: Topic, nodes: usize) -> [usize; 4] {
    match topic {
        // With fewer than twelve peers the usual numbers leave delivery to the heartbeat's pull.
        _ if nodes < 12 => [4, 2, 6, 1],
        // A body of a megabyte costs uplink times the target.
        Topic::Proposal => [6, 4, 8, 2],
        _ => [8, 5, 12, 3],
    }
}

pub fn build(params: &Params, registry: &mut Registry) -> Result<Gossipsub, NetError> {
    let wrong = |e: &dyn std::fmt::Display| NetError::Build(format!("gossip: {e}"));
    let chain = params.chain;
    let [n, low, high, out] = mesh(Topic::Certificate, params.expected_nodes);
    let mut config = ConfigBuilder::default();
    config
        .mesh_n(n)
        .mesh_n_low(low)
        .mesh_n_high(high)
        .mesh_outbound_min(out)
        .gossip_lazy(6)
        .history_length(6)
        .history_gossip(3)
        .heartbeat_interval(Duration::from_millis(700))
        .heartbeat_initial_delay(Duration::from_millis(300))
        .fanout_ttl(Duration::from_secs(60))
        .max_transmit_size(Topic::Proposal.max_bytes() + FRAME_OVERHEAD)
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(move |m| MessageId::new(&tables::message_id(&chain, m.topic.as_str(), &m.data)))
        .duplicate_cache_time(Duration::from_secs(120))
        .max_publish_messages(500)
        .idontwant_message_size_threshold(1_000)
        .idontwant_on_publish(true)
        .flood_publish(false)
        .connection_handler_queue_len(1_024)
        .publish_queue_duration(Duration::from_secs(5))
        .forward_queue_duration(Duration::from_secs(2));
    for topic in Topic::ALL {
        let hash = IdentTopic::new(topic.path(&chain)).hash();
        let [n, low, high, out] = mesh(topic, params.expected_nodes);
        config
            .max_transmit_size_for_topic(topic.max_bytes() + MESSAGE_OVERHEAD, hash.clone())
            .mesh_n_for_topic(n, hash.clone())
            .mesh_n_low_for_topic(low, hash.clone())
            .mesh_n_high_for_topic(high, hash.clone())
            .mesh_outbound_min_for_topic(out, hash);
    }
    let config = config.build().map_err(|e| wrong(&e))?;
    let known: HashSet<_> = Topic::ALL.iter().map(|topic| IdentTopic::new(topic.path(&chain)).hash()).collect();
    let filter = MaxCountSubscriptionFilter {
        filter: WhitelistSubscriptionFilter(known),
        max_subscribed_topics: SUBSCRIPTIONS_MAX,
        max_subscriptions_per_request: SUBSCRIPTIONS_MAX,
    };
    let mut gossip = Gossipsub::new_with_subscription_filter(MessageAuthenticity::Anonymous, config, filter)
        .map_err(|e| wrong(&e))?
        .with_metrics(registry.sub_registry_with_prefix("libp2p_gossipsub"), gossipsub::MetricsConfig::default());
    gossip.with_peer_score(score_params(params), THRESHOLDS).map_err(|e| wrong(&e))?;
    for topic in &params.topics {
        gossip.subscribe(&IdentTopic::new(topic.path(&chain))).map_err(|e| wrong(&e))?;
    }
    Ok(gossip)
}

const THRESHOLDS: PeerScoreThresholds = PeerScoreThresholds {
    gossip_threshold: -4_000.0,
    publish_threshold: -8_000.0,
    graylist_threshold: -16_000.0,
    accept_px_threshold: 1_000_000.0,
    opportunistic_graft_threshold: 5.0,
};

fn score_params(params: &Params) -> PeerScoreParams {
    let topics = Topic::ALL
        .iter()
        .map(|topic| (IdentTopic::new(topic.path(&params.chain)).hash(), topic_score(*topic, params.expected_nodes)))
        .collect();
    PeerScoreParams {
        topics,
        topic_score_cap: earnings_max(),
        app_specific_weight: 10.0,
        // In a development network everybody is on one address (N25).
        ip_colocation_factor_weight: if params.dev { 0.0 } else { -50.0 },
        ip_colocation_factor_threshold: 8.0,
        ip_colocation_factor_whitelist: HashSet::new(),
        behaviour_penalty_weight: -16.0,
        behaviour_penalty_threshold: 6.0,
        behaviour_penalty_decay: decay(100),
        decay_interval: Duration::from_secs(1),
        decay_to_zero: 0.01,
        retain_score: Duration::from_secs(3_600),
        slow_peer_weight: -10.0,
        slow_peer_threshold: 0.0,
        slow_peer_decay: 0.1,
    }
}

/// The factor by which a counter falls to a hundredth in this many seconds.
fn decay(seconds: u64) -> f64 {
    gossipsub::score_parameter_decay_with_base(Duration::from_secs(seconds), Duration::from_secs(1), 0.01)
}

/// Weights are computed from what a topic carries, so that they hold when the network grows.
fn topic_score(topic: Topic, nodes: usize) -> TopicScoreParams {
    let rate = topic.expected_per_s(nodes);
    let target = f64::from(u32::try_from(mesh(topic, nodes)[0]).unwrap_or(1));
    let first_decay = decay(600);
    // The counter of a peer that delivers twice its share first comes to rest here.
    let first_cap = (2.0 * rate / target / (1.0 - first_decay)).max(1.0);
    let deficit = topic.mesh_deficit() && nodes >= DEFICIT_NODES;
    let mesh_decay = decay(60);
    // A tenth of what passes: an honest peer behind others stays above it.
    let threshold = (rate / (1.0 - mesh_decay) / 10.0).max(1.0);
    let penalty = -earnings_max() / topic.weight();
    TopicScoreParams {
        topic_weight: topic.weight(),
        time_in_mesh_weight: 10.0 / 3_600.0,
        time_in_mesh_quantum: Duration::from_secs(1),
        time_in_mesh_cap: 3_600.0,
        first_message_deliveries_weight: 40.0 / first_cap,
        first_message_deliveries_decay: first_decay,
        first_message_deliveries_cap: first_cap,
        mesh_message_deliveries_weight: if deficit { penalty / (threshold * threshold) } else { 0.0 },
        mesh_message_deliveries_decay: mesh_decay,
        mesh_message_deliveries_cap: threshold * 16.0,
        mesh_message_deliveries_threshold: threshold,
        mesh_message_deliveries_window: Duration::from_secs(2),
        mesh_message_deliveries_activation: Duration::from_secs(60),
        mesh_failure_penalty_weight: 0.0,
        mesh_failure_penalty_decay: mesh_decay,
        // One provably wrong message costs all that can be earned.
        invalid_message_deliveries_weight: penalty,
        invalid_message_deliveries_decay: decay(3_600),
    }
}

/// What waits on this side of gossipsub.
#[derive(Debug)]
pub struct Gossip {
    chain: ChainId,
    topics: HashMap<gossipsub::TopicHash, Topic>,
    /// Messages given out for judgement, and when.
    awaiting: HashMap<[u8; 20], (u64, PeerId)>,
    /// What nobody could be told yet.
    outbox: VecDeque<(u64, Topic, Vec<u8>)>,
}

impl Gossip {
    pub fn new(chain: ChainId) -> Self {
        let topics = Topic::ALL.iter().map(|topic| (IdentTopic::new(topic.path(&chain)).hash(), *topic)).collect();
        Self { chain, topics, awaiting: HashMap::new(), outbox: VecDeque::new() }
    }
}

impl Task {
    /// Says something, and hears it as if a stranger had said it (N21).
    pub(super) fn publish(&mut self, topic: Topic, data: Vec<u8>) {
        let path = topic.path(&self.params.chain);
        let message = tables::message_id(&self.params.chain, &path, &data);
        let waiting = self.gossip.outbox.iter().any(|(_, other, bytes)| *other == topic && *bytes == data);
        if !waiting && self.say(topic, data.clone()) {
            let ticket = GossipTicket { message, from: self.local };
            self.emit(Event::Gossip { topic, from: self.local, data, ticket });
        }
    }

    /// Hands a message to gossipsub, or to the outbox; false when it was said before or can never be.
    pub(super) fn say(&mut self, topic: Topic, data: Vec<u8>) -> bool {
        let path = IdentTopic::new(topic.path(&self.params.chain));
        let length = data.len();
        if length > topic.max_bytes() {
            tracing::warn!(topic = topic.name(), length, "a message of our own is over its limit");
            dropped("oversize");
            return false;
        }
        match self.swarm.behaviour_mut().gossip.publish(path, data.clone()) {
            Ok(_) => {
                let labels = [("topic", topic.name()), ("dir", "out")];
                metrics::counter!("starling_net_gossip_bytes_total", &labels).increment(length as u64);
                true
            }
            Err(PublishError::Duplicate) => false,
            // Normal right after the start, and how overload shows itself: try again for a while.
            Err(error @ (PublishError::NoPeersSubscribedToTopic | PublishError::AllQueuesFull(_))) => {
                let reason = if matches!(error, PublishError::AllQueuesFull(_)) { "queues_full" } else { "no_peers" };
                metrics::counter!("starling_net_gossip_publish_errors_total", "reason" => reason).increment(1);
                if self.gossip.outbox.len() >= self.params.limits.outbox {
                    self.gossip.outbox.pop_front();
                    dropped("outbox");
                }
                let now_ms = self.now_ms();
                self.gossip.outbox.push_back((now_ms, topic, data));
                true
            }
            Err(error) => {
                tracing::warn!(%error, topic = topic.name(), length, "a message of our own cannot be published");
                metrics::counter!("starling_net_gossip_publish_errors_total", "reason" => "refused").increment(1);
                false
            }
        }
    }

    /// Tries the outbox again, and gives up on verdicts that never came.
    pub(super) fn gossip_tick(&mut self) {
        let now_ms = self.now_ms();
        let oldest_ms = now_ms.saturating_sub(self.params.limits.outbox_ms);
        for (since_ms, topic, data) in std::mem::take(&mut self.gossip.outbox) {
            if since_ms < oldest_ms {
                dropped("outbox");
                continue;
            }
            let path = IdentTopic::new(topic.path(&self.params.chain));
            let again = self.swarm.behaviour_mut().gossip.publish(path, data.clone());
            if matches!(again, Err(PublishError::NoPeersSubscribedToTopic | PublishError::AllQueuesFull(_))) {
                self.gossip.outbox.push_back((since_ms, topic, data));
            }
        }
        let late: Vec<_> =
            self.gossip.awaiting.iter().filter(|(_, (at, _))| at + VERDICT_MS < now_ms).map(|(id, _)| *id).collect();
        for message in late {
            dropped("verdict");
            self.judge(message, Validity::Ignore);
        }
        for topic in &self.params.topics {
            let hash = IdentTopic::new(topic.path(&self.gossip.chain)).hash();
            let peers = self.swarm.behaviour().gossip.mesh_peers(&hash).count();
            metrics::gauge!("starling_net_mesh_peers", "topic" => topic.name())
                .set(f64::from(u32::try_from(peers).unwrap_or(u32::MAX)));
        }
    }

    pub(super) fn verdict(&mut self, ticket: GossipTicket, validity: Validity) {
        // What we said ourselves needs no verdict: it left when it was said.
        if ticket.from != self.local {
            self.judge(ticket.message, validity);
        }
    }

    fn judge(&mut self, message: [u8; 20], validity: Validity) {
        let Some((_, peer)) = self.gossip.awaiting.remove(&message) else { return };
        let acceptance = match validity {
            Validity::Accept => MessageAcceptance::Accept,
            Validity::Ignore => MessageAcceptance::Ignore,
            Validity::Reject => MessageAcceptance::Reject,
        };
        let id = MessageId::new(&message);
        self.swarm.behaviour_mut().gossip.report_message_validation_result(&id, &peer, acceptance);
    }

    pub(super) fn on_gossip(&mut self, event: GossipEvent) {
        match event {
            GossipEvent::Message { propagation_source, message_id, message } => {
                self.heard(propagation_source, &message_id, message);
            }
            GossipEvent::SlowPeer { peer_id, .. } => {
                metrics::counter!("starling_net_slow_peers_total").increment(1);
                self.misbehaved(peer_id, Offence::SlowPeer);
            }
            GossipEvent::GossipsubNotSupported { peer_id } => {
                tracing::debug!(peer = %peer_id, "the peer speaks no gossip");
            }
            GossipEvent::Subscribed { .. } | GossipEvent::Unsubscribed { .. } => {}
        }
    }

    fn heard(&mut self, peer: PeerId, id: &MessageId, message: gossipsub::Message) {
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        let named: Option<[u8; 20]> = id.0.as_slice().try_into().ok();
        let (Some(topic), Some(from), Some(named)) =
            (self.gossip.topics.get(&message.topic).copied(), identity::node_of(&peer), named)
        else {
            gossip.report_message_validation_result(id, &peer, MessageAcceptance::Ignore);
            return;
        };
        if message.data.len() > topic.max_bytes() {
            gossip.report_message_validation_result(id, &peer, MessageAcceptance::Reject);
            return self.misbehaved(peer, Offence::Oversize);
        }
        if self.gossip.awaiting.len() >= self.params.limits.awaiting_verdict {
            dropped("awaiting_verdict");
            gossip.report_message_validation_result(id, &peer, MessageAcceptance::Ignore);
            return;
        }
        let labels = [("topic", topic.name()), ("dir", "in")];
        metrics::counter!("starling_net_gossip_bytes_total", &labels).increment(message.data.len() as u64);
        let now_ms = self.now_ms();
        self.gossip.awaiting.insert(named, (now_ms, peer));
        let ticket = GossipTicket { message: named, from };
        self.emit(Event::Gossip { topic, from, data: message.data, ticket });
    }

    /// Leaves every topic, so that peers take us out of their meshes before we go.
    pub(super) fn leave_topics(&mut self) {
        for topic in self.params.topics.clone() {
            self.swarm.behaviour_mut().gossip.unsubscribe(&IdentTopic::new(topic.path(&self.params.chain)));
        }
    }
}

/// Counts something lost to a full queue.
pub fn dropped(queue: &'static str) {
    metrics::counter!("starling_net_queue_dropped_total", "queue" => queue).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_valid_at_every_size_and_a_lie_costs_all_that_can_be_earned() {
        for nodes in [1, 4, 12, 50, 1_000] {
            let mut params = Params::new(ChainId([1; 32]), [1; 32]);
            params.expected_nodes = nodes;
            for topic in Topic::ALL {
                let score = topic_score(topic, nodes);
                score.validate().unwrap();
                let lie = score.topic_weight * score.invalid_message_deliveries_weight;
                assert!((lie + earnings_max()).abs() < 1e-6, "{lie}");
            }
            score_params(&params).validate().unwrap();
            build(&params, &mut Registry::default()).unwrap();
        }
    }
}
