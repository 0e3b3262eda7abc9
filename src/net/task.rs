//! The one task of the real network: what it takes next, what it tells, and how it ends.
//!
//! The task waits for nobody (N2): actors are told by a sink that never blocks, and tell through bounded queues; streams
//! are tasks of their own. Verdicts come before commands and commands before events, a bounded number of each a turn, so
//! that no flood of one starves another (N3). What the parts do is in the files beside this one, each with its `impl Task`.

use std::collections::HashSet;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use libp2p::metrics::{Metrics, Recorder, Registry};
use libp2p::swarm::{Config, SwarmEvent};
use libp2p::{PeerId, Swarm, ping};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::behaviour::{self, Behaviour, BehaviourEvent};
use super::desk::Desk;
use super::discovery::Discovery;
use super::exchange::Exchange;
use super::gossip::{Gossip, dropped};
use super::guard::Bans;
use super::lag::Lag;
use super::peers::Peers;
use super::providers::Providers;
use super::streams::{News, Streams};
use super::swarm::listen;
use super::votes::{VoteNews, Votes};
use super::{Command, Event, EventSink, NetError, Params, Protocol, Refusal, Validity, identity, tables};
use crate::protocol::ids::NodeId;

/// Between two looks at everything that happens by time alone.
pub(super) const TICK: Duration = Duration::from_millis(250);
/// Events taken after commands, so that neither starves the other (N3).
const EVENTS_PER_TURN: usize = 64;
/// After leaving the topics, so that peers hear of it before the connections close (N9).
const FAREWELL: Duration = Duration::from_millis(150);
/// After the last connection is closed, so that the word of it leaves too: QUIC says it from a task of its own.
const LINGER: Duration = Duration::from_millis(100);
/// The longest an orderly end takes.
pub(super) const STOP: Duration = Duration::from_millis(900);

/// The queues the task hears, in the order of their urgency.
pub(super) struct Inputs {
    pub verdicts: mpsc::Receiver<Command>,
    pub commands: mpsc::Receiver<Command>,
    pub votes: mpsc::Receiver<VoteNews>,
    pub streams: mpsc::Receiver<News>,
}

/// The orderly end: when to close the connections, and when to stop waiting for them.
struct Ending {
    close: Instant,
    closed: bool,
    quiet: Option<Instant>,
    give_up: Instant,
}

/// The swarm and all that is kept beside it.
pub(super) struct Task {
    pub(super) params: Params,
    pub(super) local: NodeId,
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) peers: Peers,
    pub(super) gossip: Gossip,
    pub(super) votes: Votes,
    pub(super) exchange: Exchange,
    pub(super) discovery: Discovery,
    pub(super) providers: Providers,
    pub(super) bans: Bans,
    pub(super) blocked: HashSet<PeerId>,
    sink: EventSink,
    origin: Instant,
    next_tick: Instant,
    lag_ms: u64,
    lag_in: Lag<Command>,
    lag_out: Lag<Event>,
    metrics: Metrics,
    ending: Option<Ending>,
    over: bool,
}

type Built = (Task, Registry, mpsc::Receiver<VoteNews>, mpsc::Receiver<News>);

impl Task {
    pub(super) fn build(params: Params, sink: EventSink) -> Result<Built, NetError> {
        let keypair = identity::keypair(&params.link_seed)?;
        let mut registry = Registry::default();
        let discovery = Discovery::new(&params)?;
        let (transport, relay_client) = behaviour::transport(&params, &keypair)?;
        let behaviour = Behaviour::build(&params, &keypair, relay_client, &mut registry)?;
        let config = Config::with_tokio_executor()
            .with_idle_connection_timeout(Duration::from_millis(params.limits.idle_ms))
            .with_max_negotiating_inbound_streams(64)
            .with_smart_dial();
        let mut swarm = Swarm::new(transport, behaviour, keypair.public().to_peer_id(), config);
        listen(&mut swarm, &params)?;
        let streams = swarm.behaviour().streams.new_control();
        let accept = |name: String| {
            let name = behaviour::protocol_name(name)?;
            let incoming = streams.clone().accept(name.clone()).map_err(|e| NetError::Build(e.to_string()))?;
            Ok::<_, NetError>((name, incoming))
        };
        let (vote_name, vote_streams) = accept(tables::vote_path(&params.chain))?;
        let (query_name, query_streams) = accept(Protocol::Query.path(&params.chain))?;
        let chance = params.chance.clone().fork("votes");
        let lane_max = params.limits.votes_per_member;
        let (votes, votes_in) = Votes::open(streams.clone(), vote_streams, vote_name, lane_max, chance);
        let (queries, queries_in) = Streams::open(streams, query_streams, query_name, params.limits.query_streams);
        let mut task = Self {
            local: params.node(),
            swarm,
            peers: Peers::default(),
            gossip: Gossip::new(params.chain),
            votes,
            exchange: Exchange::new(Desk::new(params.limits.clone()), queries),
            discovery,
            providers: Providers::default(),
            bans: Bans::new(params.limits.bans),
            blocked: HashSet::new(),
            sink,
            origin: Instant::now(),
            next_tick: Instant::now(),
            lag_ms: 0,
            lag_in: Lag::new(params.limits.lag_bytes),
            lag_out: Lag::new(params.limits.lag_bytes),
            metrics: Metrics::new(&mut registry),
            ending: None,
            over: false,
            params,
        };
        task.trust();
        Ok((task, registry, votes_in, queries_in))
    }

    /// Milliseconds since the start, by a clock that only goes forward.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) async fn run(mut self, mut inputs: Inputs) {
        let mut commands_open = true;
        while !self.over {
            let wake = self.next_wake();
            let mut events_waited = true;
            tokio::select! {
                biased;
                Some(verdict) = inputs.verdicts.recv() => {
                    self.take(verdict);
                    self.drain(&mut inputs.verdicts, self.params.limits.awaiting_verdict);
                }
                command = inputs.commands.recv(), if commands_open => match command {
                    Some(command) => {
                        self.take(command);
                        self.drain(&mut inputs.commands, self.params.limits.commands_per_turn.saturating_sub(1));
                    }
                    // Nobody is left to command: leave as if asked to.
                    None => {
                        commands_open = false;
                        self.begin_end();
                    }
                },
                Some(news) = inputs.votes.recv() => self.on_vote(news),
                Some(news) = inputs.streams.recv() => self.on_stream(news),
                event = self.swarm.select_next_some() => {
                    events_waited = false;
                    self.on_event(event);
                }
                () = sleep_until(wake) => {}
            }
            let turn = Instant::now();
            if events_waited {
                self.take_events();
            }
            self.on_time();
            metrics::histogram!("starling_net_swarm_turn_seconds").record(turn.elapsed().as_secs_f64());
        }
        // Closed before the word goes out: who has heard it is told so when it commands on.
        inputs.commands.close();
        self.deliver(Event::Stopped);
    }

    fn drain(&mut self, queue: &mut mpsc::Receiver<Command>, max: usize) {
        for _ in 0..max {
            let Ok(command) = queue.try_recv() else { return };
            self.take(command);
        }
    }

    /// Takes what the swarm has ready now.
    fn take_events(&mut self) {
        for _ in 0..EVENTS_PER_TURN {
            let Some(event) = self.swarm.select_next_some().now_or_never() else { return };
            self.on_event(event);
        }
    }

    fn next_wake(&self) -> Instant {
        let due = [self.exchange.desk.next_due_ms(), self.lag_in.due_ms(), self.lag_out.due_ms()];
        let due = due.into_iter().flatten().min().map(|ms| self.origin + Duration::from_millis(ms));
        due.map_or(self.next_tick, |due| due.min(self.next_tick))
    }

    /// All that happens by time. Called every turn, so that a flood of anything delays none of it.
    fn on_time(&mut self) {
        let now_ms = self.now_ms();
        while let Some(command) = self.lag_in.pop(now_ms) {
            self.obey(command);
        }
        while let Some(event) = self.lag_out.pop(now_ms) {
            self.deliver(event);
        }
        if self.exchange.desk.next_due_ms().is_some_and(|due| due <= now_ms) {
            self.desk_tick();
        }
        let now = Instant::now();
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.peers_tick();
            self.gossip_tick();
            if self.ending.is_none() {
                self.discovery_tick();
                self.providers_tick();
            }
        }
        self.proceed_end(now);
    }

    /// A command has arrived: obeyed now, or after the lag.
    fn take(&mut self, command: Command) {
        let at_once = matches!(command, Command::Chaos { .. } | Command::Shutdown);
        if at_once || (self.lag_ms == 0 && self.lag_in.is_empty()) {
            return self.obey(command);
        }
        let (due_ms, bytes) = (self.now_ms().saturating_add(self.lag_ms), command_bytes(&command));
        if let Err(command) = self.lag_in.push(due_ms, bytes, command) {
            dropped("lag");
            // A verdict must not be lost: its message would wait for it.
            if let Command::Verdict { ticket, .. } = command {
                self.verdict(ticket, Validity::Ignore);
            }
        }
    }

    fn obey(&mut self, command: Command) {
        if self.ending.is_some() && !matches!(command, Command::Verdict { .. }) {
            return;
        }
        match command {
            Command::Dial { node, addresses } => self.dial(node, &addresses, false),
            Command::Disconnect { node, ban_ms } => self.disconnect(node, ban_ms),
            Command::Admit { node } => self.admit(node),
            Command::SetPeerScore { node, score } => {
                if let Some(peer) = identity::peer_of(node) {
                    self.swarm.behaviour_mut().gossip.set_application_score(&peer, score.clamp(-100.0, 100.0));
                }
            }
            Command::Publish { topic, data } => self.publish(topic, data),
            Command::Verdict { ticket, validity } => self.verdict(ticket, validity),
            Command::Ask(ask) => self.ask(ask),
            Command::CancelAsk { id } => self.cancel(id),
            Command::Reply { ticket, data, last } => self.reply(ticket, data, last),
            Command::Refuse { ticket, refusal } => self.refuse(ticket, refusal),
            Command::Provide { id, held } => self.provide(id, held),
            Command::FindProviders { ask, id } => self.find_providers(ask, id),
            Command::SetVoters { nodes } => self.set_voters(&nodes),
            Command::SendVote { data } => self.send_vote(data),
            Command::Chaos { blocked, lag_ms } => {
                if self.params.dev {
                    self.lag_ms = lag_ms;
                    self.block(&blocked);
                } else {
                    tracing::warn!("trouble on purpose is for development networks only; ignored");
                }
            }
            Command::Shutdown => self.begin_end(),
        }
    }

    /// Tells the outside, at once or after the lag.
    pub(super) fn emit(&mut self, event: Event) {
        if self.lag_ms == 0 && self.lag_out.is_empty() {
            return self.deliver(event);
        }
        let (due_ms, bytes) = (self.now_ms().saturating_add(self.lag_ms), event_bytes(&event));
        if let Err(event) = self.lag_out.push(due_ms, bytes, event) {
            self.undelivered(&event);
        }
    }

    fn deliver(&mut self, event: Event) {
        if let Err(event) = (self.sink)(event) {
            self.undelivered(&event);
        }
    }

    /// The receiver is full: a message is ignored, a request told busy, the rest counted and gone (N2).
    fn undelivered(&mut self, event: &Event) {
        match event {
            Event::Gossip { ticket, .. } => {
                dropped("gossip_events");
                self.verdict(*ticket, Validity::Ignore);
            }
            Event::Asked { ticket, .. } => {
                dropped("asked_events");
                self.refuse(*ticket, Refusal::Busy);
            }
            _ => dropped("events"),
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        self.metrics.record(&event);
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_connection(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, endpoint, num_established, cause } => {
                let cause = if cause.is_some() { "error" } else { "closed" };
                self.on_disconnection(peer_id, connection_id, &endpoint, num_established, cause);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                self.dial_ended(connection_id, Some(&error));
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(from = %send_back_addr, %error, "an inbound connection failed");
                metrics::counter!("starling_net_connections_closed_total", "cause" => "refused").increment(1);
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                self.emit(Event::Listening { address: address.to_string() });
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "a listener failed"),
            SwarmEvent::ListenerClosed { addresses, reason: Err(error), .. } => {
                tracing::error!(?addresses, %error, "a listener has closed");
            }
            SwarmEvent::ExternalAddrConfirmed { address } => {
                self.emit(Event::ExternalAddress { address: address.to_string() });
            }
            _ => {}
        }
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gossip(event) => {
                self.metrics.record(&event);
                self.on_gossip(event);
            }
            BehaviourEvent::Kad(event) => {
                self.metrics.record(&event);
                self.on_kad(event);
            }
            BehaviourEvent::Identify(event) => {
                self.metrics.record(&event);
                self.on_identify(event);
            }
            BehaviourEvent::Ping(event) => {
                self.metrics.record(&event);
                // ping reports and does not act; a dead TCP connection would stay for many minutes.
                if matches!(event.result, Err(ping::Failure::Timeout | ping::Failure::Other { .. })) {
                    self.swarm.close_connection(event.connection);
                }
            }
            BehaviourEvent::Dcutr(event) => self.metrics.record(&event),
            BehaviourEvent::RelayServer(event) => self.metrics.record(&event),
            BehaviourEvent::Mdns(event) => self.on_mdns(event),
            BehaviourEvent::Hello(event) => self.on_rpc(Protocol::Hello, event),
            BehaviourEvent::Goodbye(event) => self.on_rpc(Protocol::Goodbye, event),
            BehaviourEvent::Sync(event) => self.on_rpc(Protocol::Sync, event),
            BehaviourEvent::Fetch(event) => self.on_rpc(Protocol::Fetch, event),
            BehaviourEvent::Artifact(event) => self.on_rpc(Protocol::Artifact, event),
            _ => {}
        }
    }

    fn begin_end(&mut self) {
        if self.ending.is_none() {
            self.leave_topics();
            self.swarm.behaviour_mut().guard.shut();
            let now = Instant::now();
            self.ending = Some(Ending { close: now + FAREWELL, closed: false, quiet: None, give_up: now + STOP });
            self.next_tick = self.next_tick.min(now + FAREWELL);
        }
    }

    fn proceed_end(&mut self, now: Instant) {
        let Some(ending) = &mut self.ending else { return };
        if !ending.closed && now >= ending.close {
            ending.closed = true;
            let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
            for peer in peers {
                let _gone = self.swarm.disconnect_peer_id(peer);
            }
        }
        if ending.closed && self.swarm.connected_peers().next().is_none() {
            ending.quiet.get_or_insert(now);
        }
        self.over = ending.quiet.is_some_and(|since| now >= since + LINGER) || now >= ending.give_up;
        if self.over {
            self.lag_ms = 0;
        } else {
            self.next_tick = self.next_tick.min(now + FAREWELL / 3);
        }
    }
}

fn command_bytes(command: &Command) -> usize {
    let data = match command {
        Command::Publish { data, .. } | Command::Reply { data, .. } | Command::SendVote { data } => data.len(),
        Command::Ask(ask) => ask.data.len(),
        _ => 0,
    };
    data + 256
}

fn event_bytes(event: &Event) -> usize {
    let data = match event {
        Event::Gossip { data, .. } | Event::VoteArrived { data, .. } | Event::Asked { data, .. } => data.len(),
        Event::Answered { frame, .. } => frame.len(),
        _ => 0,
    };
    data + 256
}
