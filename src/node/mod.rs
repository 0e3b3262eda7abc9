//! The composition root: the only place where the parts of a node are joined.
//!
//! `Parts` is everything a node is made of; `Node::start` makes the mailboxes, joins the actors through their `Links` and
//! starts them leaf first. The same function serves a process on real sockets and a node in a world of virtual time: they
//! differ in the transport, the stores and the clock they put into `Parts`, in nothing else.

pub mod accuse;
pub mod asks;
pub mod bench;
pub mod journal;
pub mod judging;
pub mod llm;
pub mod miners;
pub mod plagiarist;
pub mod publish;
mod rejudge;
mod run;
pub mod upstream;
pub mod why;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use zeroize::Zeroizing;

pub use run::{StartError, run};

use crate::actors::artifact_keeper::{self, ArtifactKeeper};
use crate::actors::checkpointer::{self, Checkpointer, VoteJournal};
use crate::actors::clock::Clock;
use crate::actors::ledger::archive::{Archive, Tip};
use crate::actors::ledger::{self, Ledger};
use crate::actors::mail::{Stop, mailbox, start, to};
use crate::actors::peer_manager::{self, PeerManager, Remembered};
use crate::actors::query_dispatcher::{self, QueryDispatcher};
use crate::actors::router::{self, Door, Router};
use crate::actors::scorer::{self, Conduct, Scorer};
use crate::actors::worker_pool::{self, WorkerPool};
use crate::consensus::{self, Machine, Record};
use crate::ledger::state::State;
use crate::net::{Command, EventSink, NetError, Transport};
use crate::protocol::chance::Chance;
use crate::protocol::committee::Committee;
use crate::protocol::genesis::Genesis;
use crate::protocol::hello::Roles;
use crate::protocol::ids::{Digest, NodeId, PublicKey, SubnetId, hash};
use crate::protocol::keys::SecretKey;
use crate::store::artifacts::Shelf;
use crate::store::kv::Kv;

/// Assumed bound of a network hop at first, and after doubling at most (C25).
const DELTA_MS: u64 = 500;
const DELTA_MAX_MS: u64 = 16_000;
/// A leader starts to build so long before its proposal is due.
const BUILD_MS: u64 = 100;

/// The keys of a node (C5).
#[derive(Clone, Debug)]
pub struct Keys {
    /// The link identity.
    pub node: SecretKey,
    /// Funds, and on this version everything its account signs.
    pub account: Option<SecretKey>,
    /// Votes.
    pub consensus: Option<SecretKey>,
}

/// How a validator scores.
#[derive(Clone)]
pub struct Scoring {
    pub subnets: BTreeSet<SubnetId>,
    pub rounds: u64,
    pub samples: usize,
    pub deadline_ms: u64,
    pub conduct: Conduct,
    /// Motes added to one seat's bond in sixteen epochs at most; 0: never.
    pub bond_top_up: u64,
    /// Where what is sealed is kept.
    pub shelf: Arc<dyn Kv>,
}

/// Where artifacts are kept, and how much of it is for others.
#[derive(Clone)]
pub struct Keeping {
    pub shelf: Arc<Shelf>,
    pub lends: bool,
    /// Bytes a second served to all peers together; 0: no limit.
    pub serve_bytes_s: u64,
    /// Between two looks at what should be kept.
    pub survey: Duration,
}

/// Starts a network that gives its events to the sink.
pub type MakeTransport = Box<dyn FnOnce(EventSink) -> Result<Arc<dyn Transport>, NetError>>;

/// Everything a node is made of.
pub struct Parts {
    pub name: String,
    pub genesis: Genesis,
    pub committee: Committee,
    pub keys: Keys,
    pub roles: Roles,
    pub dev: bool,
    pub clock: Clock,
    pub chance: Chance,
    pub archive: Archive,
    pub state: State,
    pub tip: Tip,
    pub journal: Box<dyn VoteJournal>,
    /// What the vote journal held at the start.
    pub records: Vec<Record>,
    pub remembered: Vec<Remembered>,
    pub remember: peer_manager::Remember,
    pub peers_target: usize,
    /// `Some` when the node scores miners.
    pub scoring: Option<Scoring>,
    pub pool: worker_pool::Params,
    pub keeping: Keeping,
    pub queries_max: usize,
    pub transport: MakeTransport,
    /// Ledger and checkpointer on threads of their own; a world keeps everything on one.
    pub threads: bool,
    /// Says why and ends the node.
    pub fatal: Arc<dyn Fn(String) + Send + Sync>,
}

/// A running node.
pub struct Node {
    pub router: Addr<Router>,
    pub ledger: Addr<Ledger>,
    pub checkpointer: Addr<Checkpointer>,
    pub peer_manager: Addr<PeerManager>,
    pub query_dispatcher: Addr<QueryDispatcher>,
    pub scorer: Option<Addr<Scorer>>,
    pub worker_pool: Addr<WorkerPool>,
    pub artifact_keeper: Addr<ArtifactKeeper>,
    pub transport: Arc<dyn Transport>,
    pub about: asks::About,
    arbiters: Vec<Arbiter>,
}

impl Node {
    /// Joins and starts the parts. Call it inside an actix system.
    ///
    /// # Errors
    /// The network cannot be started: a port in use, a malformed address.
    pub fn start(parts: Parts) -> Result<Self, NetError> {
        let (router, router_box) = mailbox::<Router>(router::MAILBOX);
        let (ledger, ledger_box) = mailbox::<Ledger>(ledger::MAILBOX);
        let (checkpointer, checkpointer_box) = mailbox::<Checkpointer>(checkpointer::MAILBOX);
        let (peer_manager, peer_manager_box) = mailbox::<PeerManager>(peer_manager::MAILBOX);
        let (dispatcher, dispatcher_box) = mailbox::<QueryDispatcher>(query_dispatcher::MAILBOX);
        let (scorer, scorer_box) = mailbox::<Scorer>(scorer::MAILBOX);
        let (pool, pool_box) = mailbox::<WorkerPool>(worker_pool::MAILBOX);
        let (keeper, keeper_box) = mailbox::<ArtifactKeeper>(artifact_keeper::MAILBOX);
        let chain = parts.genesis.chain_id();
        let local = NodeId(parts.keys.node.public().0);
        let scores = parts.scoring.is_some();

        let sink = Door::new(parts.committee.members().len()).sink(to(&router));
        let transport = (parts.transport)(sink)?;

        start(WorkerPool::new(parts.pool), pool_box);

        let ledger_actor = Ledger::new(
            ledger::Params {
                committee: parts.committee.clone(),
                clock: parts.clock,
                archive: parts.archive,
                fatal: Arc::clone(&parts.fatal),
            },
            ledger::Links {
                height_finalised: scores.then(|| to(&scorer)),
                registry_changed: to(&peer_manager),
                pending_changed: to(&checkpointer),
            },
            parts.state,
            parts.tip.clone(),
        );
        let machine = Machine::new(
            machine_params(&parts.genesis, &parts.committee),
            parts.keys.consensus.clone(),
            consensus::Tip { header: parts.tip.header, certificate: parts.tip.certificate },
            parts.records,
        );
        let checkpointer_actor = Checkpointer::new(
            checkpointer::Params { clock: parts.clock, machine, journal: parts.journal, fatal: parts.fatal },
            checkpointer::Links {
                build: to(&ledger),
                check: to(&ledger),
                finalise: to(&ledger),
                read_checkpoints: to(&ledger),
                publish: to(&router),
                send_vote: to(&router),
                fetch: to(&router),
                reply_sync: to(&router),
                height_reached: to(&peer_manager),
                misbehaved: to(&peer_manager),
            },
        );
        // Both sync files; on threads of their own they hold nobody else up.
        let mut arbiters = Vec::new();
        if parts.threads {
            let (ledger_thread, checkpointer_thread) = (Arbiter::new(), Arbiter::new());
            ledger_thread.spawn_fn(move || start(ledger_actor, ledger_box));
            checkpointer_thread.spawn_fn(move || start(checkpointer_actor, checkpointer_box));
            arbiters.extend([ledger_thread, checkpointer_thread]);
        } else {
            start(ledger_actor, ledger_box);
            start(checkpointer_actor, checkpointer_box);
        }

        start(
            PeerManager::new(
                peer_manager::Params {
                    chain,
                    clock: parts.clock,
                    chance: parts.chance.clone(),
                    node_key: parts.keys.node.clone(),
                    account_key: parts.keys.account.clone(),
                    consensus_key: parts.keys.consensus.clone(),
                    committee: parts
                        .committee
                        .members()
                        .iter()
                        .map(|member| member.key)
                        .collect::<BTreeSet<PublicKey>>(),
                    roles: parts.roles,
                    software: format!("starling/{}", env!("CARGO_PKG_VERSION")),
                    peers_target: parts.peers_target,
                    remembered: parts.remembered,
                    remember: parts.remember,
                },
                peer_manager::Links {
                    dial: to(&router),
                    drop: to(&router),
                    admit: to(&router),
                    score: to(&router),
                    voters: to(&router),
                    say_hello: to(&router),
                    reply_hello: to(&router),
                    publish: to(&router),
                    peers_admitted: to(&checkpointer),
                },
            ),
            peer_manager_box,
        );

        let account = parts.keys.account.as_ref().map(|key| key.public().into());
        let scorer = match (parts.scoring, parts.keys.account) {
            (Some(scoring), Some(account)) => {
                let params = scorer::Params {
                    chain,
                    account,
                    operator: parts.keys.node.clone(),
                    subnets: scoring.subnets,
                    rounds: scoring.rounds,
                    samples: scoring.samples,
                    deadline_ms: scoring.deadline_ms,
                    conduct: scoring.conduct,
                    bond_top_up: scoring.bond_top_up,
                    shelf: scoring.shelf,
                };
                let links = scorer::Links {
                    run_job: to(&pool),
                    challenge: to(&dispatcher),
                    read_ledger: to(&ledger),
                    publish: to(&router),
                    reply_log: to(&router),
                    pull_artifact: to(&keeper),
                    read_chunk: to(&keeper),
                };
                start(Scorer::new(params, links), scorer_box);
                Some(scorer)
            }
            _ => None,
        };

        start(
            QueryDispatcher::new(
                query_dispatcher::Params {
                    queries_max: parts.queries_max,
                    operator: Some(query_dispatcher::Operator { chain, key: parts.keys.node.clone() }),
                    ..query_dispatcher::Params::new(parts.chance.clone().fork("query dispatcher"))
                },
                query_dispatcher::Links {
                    pick_miners: to(&peer_manager),
                    query_ended: to(&peer_manager),
                    open_query: to(&router),
                    cancel_query: to(&router),
                    reply_frame: to(&router),
                    run_job: to(&pool),
                    answers_collected: scorer.as_ref().map(to),
                },
            ),
            dispatcher_box,
        );

        start(
            ArtifactKeeper::new(
                artifact_keeper::Params {
                    node: local,
                    clock: parts.clock,
                    chance: parts.chance.clone().fork("artifact keeper"),
                    shelf: parts.keeping.shelf,
                    lends: parts.keeping.lends,
                    serve_bytes_s: parts.keeping.serve_bytes_s,
                    survey: parts.keeping.survey,
                },
                artifact_keeper::Links {
                    fetch: to(&router),
                    find: to(&router),
                    announce: to(&router),
                    reply: to(&router),
                    dial: to(&router),
                    misbehaved: to(&peer_manager),
                    read_peers: to(&peer_manager),
                    read_ledger: to(&ledger),
                },
            ),
            keeper_box,
        );

        start(
            Router::new(
                chain,
                Arc::clone(&transport),
                router::Links {
                    peers_seen: to(&peer_manager),
                    misbehaved: to(&peer_manager),
                    addresses_found: to(&peer_manager),
                    trouble_seen: to(&peer_manager),
                    hello_arrived: to(&peer_manager),
                    hear_presence: to(&peer_manager),
                    query_arrived: to(&dispatcher),
                    query_withdrawn: to(&dispatcher),
                    offer: to(&ledger),
                    hear: to(&checkpointer),
                    sync_arrived: to(&checkpointer),
                    artifact_asked: to(&keeper),
                    log_asked: scorer.as_ref().map(to),
                },
            ),
            router_box,
        );

        let about = asks::About {
            name: parts.name,
            network: parts.genesis.name.clone(),
            node: local,
            account,
            roles: parts.roles,
            committee: parts.committee,
            clock: parts.clock,
            rss: Arc::new(crate::telemetry::rss_bytes),
            transport: Arc::clone(&transport),
            dev: parts.dev,
        };
        Ok(Self {
            router,
            ledger,
            checkpointer,
            peer_manager,
            query_dispatcher: dispatcher,
            scorer,
            worker_pool: pool,
            artifact_keeper: keeper,
            transport,
            about,
            arbiters,
        })
    }

    /// The node as the HTTP face sees it.
    pub fn asks(&self) -> asks::Asks {
        let keeper = &self.artifact_keeper;
        let links = asks::Links {
            artifacts: asks::Artifacts {
                put: to(keeper),
                pull: to(keeper),
                read: to(keeper),
                read_chunk: to(keeper),
                drop: to(keeper),
            },
            read_ledger: to(&self.ledger),
            read_pending: to(&self.ledger),
            submit: to(&self.ledger),
            publish: to(&self.router),
            read_peers: to(&self.peer_manager),
            read_consensus: to(&self.checkpointer),
            read_serving: to(&self.query_dispatcher),
            query: to(&self.query_dispatcher),
            read_scores: self.scorer.as_ref().map(to),
            read_log: self.scorer.as_ref().map(to),
            read_care: self.scorer.as_ref().map(to),
            fetch_log: to(&self.router),
        };
        asks::Asks::new(links, self.about.clone())
    }

    /// The first actor found dead: a node must not live on without one.
    pub fn dead(&self) -> Option<&'static str> {
        let alive = [
            ("router", self.router.connected()),
            ("ledger", self.ledger.connected()),
            ("checkpointer", self.checkpointer.connected()),
            ("peer manager", self.peer_manager.connected()),
            ("query dispatcher", self.query_dispatcher.connected()),
            ("scorer", self.scorer.as_ref().is_none_or(Addr::connected)),
            ("worker pool", self.worker_pool.connected()),
            ("artifact keeper", self.artifact_keeper.connected()),
        ];
        alive.into_iter().find(|(_, connected)| !connected).map(|(name, _)| name)
    }

    /// Ends every actor as soon as it gets to it; what they had not made durable is lost, as in a crash.
    pub fn stop_actors(&self) {
        // Whoever cannot take the message is gone, or ends with its thread.
        let _told = (
            self.router.try_send(Stop),
            self.scorer.as_ref().map(|scorer| scorer.try_send(Stop)),
            self.query_dispatcher.try_send(Stop),
            self.peer_manager.try_send(Stop),
            self.checkpointer.try_send(Stop),
            self.ledger.try_send(Stop),
            self.worker_pool.try_send(Stop),
            self.artifact_keeper.try_send(Stop),
        );
    }

    /// Takes leave of the network and lets what is in flight end, at most for `grace`.
    pub async fn stop(self, grace: Duration) {
        // A full command queue means that the network is stuck; the process ends all the same.
        let _left = self.transport.try_command(Command::Shutdown);
        tokio::time::sleep(grace.min(Duration::from_millis(500))).await;
        self.stop_actors();
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
        for arbiter in self.arbiters {
            // A thread that panicked has aborted the process before this.
            let _ended = arbiter.join();
        }
    }
}

fn machine_params(genesis: &Genesis, committee: &Committee) -> consensus::Params {
    consensus::Params {
        chain: genesis.chain_id(),
        committee: committee.clone(),
        seed: seed_of(genesis),
        interval_ms: genesis.parameters.interval_ms,
        idle_ms: genesis.parameters.idle_ms,
        delta_ms: DELTA_MS,
        delta_max_ms: DELTA_MAX_MS,
        build_ms: BUILD_MS,
    }
}

/// The leaders' seed of the first term: fixed by the network's identity.
fn seed_of(genesis: &Genesis) -> Digest {
    hash("starling/1 seed", &[&genesis.chain_id().0])
}

/// A link key as the network wants it.
pub fn link_seed(key: &SecretKey) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(*key.seed())
}
