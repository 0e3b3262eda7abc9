//! A node as a process: reads what the configuration names, opens the stores, starts the node and its HTTP servers, and
//! runs until a signal, a dead actor or a failed store ends it.

use std::collections::BTreeSet;
use std::future::pending;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix::System;
use actix_web::dev::ServerHandle;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::mpsc;

use super::accuse::Accuser;
use super::miners::{self, Miner};
use super::plagiarist;
use super::publish::{self, Publisher};
use super::upstream::Upstream;
use super::{Keeping, Keys, Node, Parts, Scoring, journal, link_seed, llm};
use crate::actors::clock::{Clock, wall_now_ms};
use crate::actors::ledger::archive::{Archive, ArchiveError};
use crate::actors::mail::to;
use crate::actors::peer_manager::Remembered;
use crate::actors::query_dispatcher;
use crate::actors::scorer::Conduct;
use crate::actors::worker_pool::{self, EngineMaker, Lane, LaneParams};
use crate::api;
use crate::config::{Behaviour, Config, EngineKind, LogFormat, Manner, Role};
use crate::ledger::state::State;
use crate::ml::engine::cpu::{CpuEngine, MEMORY_BYTES};
use crate::ml::engine::memory::MemoryEngine;
use crate::ml::engine::random::RandomEngine;
use crate::ml::engine::upstream::UpstreamEngine;
use crate::ml::model::Kind;
use crate::ml::task::MinerSpec;
use crate::net::{self, NetError};
use crate::protocol::chance::Chance;
use crate::protocol::codec;
use crate::protocol::genesis::Genesis;
use crate::protocol::hello::Roles;
use crate::protocol::ids::{AccountId, SubnetId};
use crate::protocol::parameters::NetworkKind;
use crate::protocol::units::parse_star;
use crate::store::artifacts::{Folder, Shelf};
use crate::store::keystore::{KeyError, Keystore};
use crate::store::kv::{DiskKv, Kv, StoreError, Table, Write};
use crate::telemetry::{self, LogStyle};

/// How often the watchdog looks at the actors.
const WATCH: Duration = Duration::from_secs(1);
/// A graceful stop takes at most this.
const GRACE: Duration = Duration::from_secs(5);
/// Samples of one challenge, and the time a miner has for it.
const CHALLENGE_SAMPLES: usize = 32;
const CHALLENGE_MS: u64 = 2_000;
/// Bytes of models that the pool keeps.
const MODEL_BYTES_MAX: u64 = 512 << 20;

/// Why a node did not start, or stopped.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StartError {
    pub message: String,
    pub help: String,
    /// The exit code of the process.
    pub exit: u8,
}

impl StartError {
    pub(super) fn new(exit: u8, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into(), exit }
    }
}

/// Runs a node until it is told to stop.
///
/// # Errors
/// It cannot start, or a store, an actor or the network failed while it ran.
pub fn run(config: Config) -> Result<(), StartError> {
    telemetry::abort_on_panic();
    let style = match config.log.format {
        LogFormat::Auto => LogStyle::for_stderr(),
        LogFormat::Human => LogStyle::Human,
        LogFormat::Json => LogStyle::Json,
    };
    telemetry::start_log(&config.log.filter, style).map_err(|error| {
        StartError::new(3, format!("log.filter: {error}"), "write it like `info` or `starling=debug`")
    })?;
    let metrics =
        telemetry::start_metrics().map_err(|error| StartError::new(1, format!("metrics: {error}"), String::new()))?;
    System::new().block_on(live(config, metrics))
}

async fn live(config: Config, metrics: PrometheusHandle) -> Result<(), StartError> {
    let (fatal, mut failed) = mpsc::channel::<String>(4);
    let fatal = Arc::new(move |why: String| {
        tracing::error!(why, "this node stops");
        // The first reason is the one that counts.
        let _first = fatal.try_send(why);
    });
    let (parts, miners) = gather(&config, fatal)?;
    let models = config.node.data_dir.join("models");
    let key = parts.keys.account.clone();
    let account = key.clone().filter(|_| config.artifacts.publish);
    let chain = parts.genesis.chain_id();
    let node = Node::start(parts).map_err(|error| net_error(&error))?;
    tracing::info!(name = config.node.name, node = %node.about.node.short(), network = node.about.network, "started");

    let backend: Arc<dyn api::Backend> = Arc::new(node.asks());
    let transport = Arc::clone(&node.transport);
    let page = api::MetricsPage::new(move || metrics.render() + &transport.metrics_text());
    let servers = serve(&config, &backend, page)?;
    if let Some(account) = key {
        actix::spawn(Accuser::of(&node, chain, account).watch());
    }
    for miner in miners {
        let links = miners::Links {
            run_job: to(&node.worker_pool),
            load_model: to(&node.worker_pool),
            serve: to(&node.query_dispatcher),
            close: to(&node.query_dispatcher),
        };
        let publisher = Publisher {
            chain,
            account: account.clone(),
            links: publish::Links {
                put: to(&node.artifact_keeper),
                read_ledger: to(&node.ledger),
                submit: to(&node.ledger),
                publish: to(&node.router),
            },
        };
        let takes = plagiarist::Links { pull: to(&node.artifact_keeper), read_chunk: to(&node.artifact_keeper) };
        let models = models.clone();
        actix::spawn(async move {
            let subnet = miner.subnet;
            match miners::ready(miner.clone(), &links, &models).await {
                Err(error) => tracing::error!(%subnet, error, "this miner does not serve"),
                Ok(None) => {}
                Ok(Some(_)) if miner.copies => plagiarist::copy(miner, publisher, takes).await,
                Ok(Some(artifact)) => {
                    if let Err(error) = publisher.publish(&miner, &artifact).await {
                        tracing::warn!(%subnet, error, "this miner's model is not on the ledger");
                    }
                }
            }
        });
    }
    let end = tokio::select! {
        why = failed.recv() => Err(why.unwrap_or_default()),
        dead = watch(&node, &config.node.data_dir) => Err(format!("the {dead} has died")),
        signal = told_to_stop() => { tracing::info!(signal, "stopping"); Ok(()) }
    };
    let stopping = async {
        for server in &servers {
            server.stop(true).await;
        }
        node.stop(GRACE).await;
    };
    if tokio::time::timeout(GRACE * 2, stopping).await.is_err() {
        tracing::warn!("not everything stopped in time");
    }
    end.map_err(|why| StartError::new(1, why, "what was final is safe; start the node again once the cause is gone"))
}

/// Starts the HTTP servers that the configuration wants.
fn serve(
    config: &Config,
    backend: &Arc<dyn api::Backend>,
    page: api::MetricsPage,
) -> Result<Vec<ServerHandle>, StartError> {
    let bind_error = |error: std::io::Error| {
        let help = "another program holds that address; choose another with http.bind or gateway.bind";
        StartError::new(1, format!("cannot listen on {error}"), help)
    };
    let mut bound = vec![api::bind_node(config.http.bind, Arc::clone(backend), page).map_err(bind_error)?];
    if config.has(Role::Gateway) {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| StartError::new(1, format!("no entropy: {error}"), ""))?;
        let params = api::GatewayParams {
            api_keys: config.gateway.api_keys.clone(),
            body_bytes_max: config.gateway.body_bytes_max,
            queries_max: config.gateway.queries_max,
            queries_per_minute: config.gateway.queries_per_minute,
            deadline_ms: config.gateway.deadline_ms,
            clock: wall_now_ms,
            seed,
        };
        bound.push(api::bind_gateway(config.gateway.bind, Arc::clone(backend), params).map_err(bind_error)?);
    }
    let mut handles = Vec::new();
    for api::Bound { server, address } in bound {
        tracing::info!(%address, "serving HTTP");
        handles.push(server.handle());
        actix::spawn(server);
    }
    Ok(handles)
}

/// Resolves with the name of an actor that is no more.
async fn watch(node: &Node, data_dir: &Path) -> &'static str {
    loop {
        tokio::time::sleep(WATCH).await;
        telemetry::measure_process(data_dir);
        if let Some(dead) = node.dead() {
            return dead;
        }
    }
}

async fn told_to_stop() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => "interrupt",
        _ = terminate.recv() => "terminate",
    }
}

/// Everything the configuration names, opened and checked.
fn gather(config: &Config, fatal: Arc<dyn Fn(String) + Send + Sync>) -> Result<(Parts, Vec<Miner>), StartError> {
    let genesis = read_genesis(config)?;
    let committee = genesis.first_committee().map_err(|error| StartError::new(3, format!("genesis: {error}"), ""))?;
    let keys = read_keys(config)?;
    let data_dir = &config.node.data_dir;
    std::fs::create_dir_all(data_dir).map_err(|error| {
        StartError::new(3, format!("{} cannot be made: {error}", data_dir.display()), "choose another --data-dir")
    })?;
    let kv: Arc<dyn Kv> = Arc::new(DiskKv::open(&data_dir.join("ledger.redb")).map_err(|e| store_error(&e))?);
    let (archive, state, tip) = Archive::open(Arc::clone(&kv), &genesis, &committee).map_err(|e| archive_error(&e))?;
    let miners = if config.has(Role::Miner) { seats(config, &state)? } else { Vec::new() };
    let mut entropy = [0; 32];
    getrandom::fill(&mut entropy).map_err(|error| StartError::new(1, format!("no entropy: {error}"), ""))?;
    let mut chance = Chance::from_seed(entropy);

    let (journal, records, consensus) = open_journal(config, keys.consensus.clone(), &mut chance)?;
    let keys = Keys { consensus, ..keys };
    let scoring = config.has(Role::Validator).then(|| scoring(config, &state, &kv)).transpose()?;
    let remembered = kept(&kv, b"peers").map_err(|e| store_error(&e))?;
    let store = Arc::clone(&kv);
    let remember = Arc::new(move |peers: Vec<Remembered>| {
        let store = Arc::clone(&store);
        match tokio::runtime::Handle::try_current() {
            // The store syncs; that is not the peer manager's to wait for.
            Ok(runtime) => std::mem::drop(runtime.spawn_blocking(move || keep(&store, b"peers", &peers))),
            // The last word of an actor whose node has stopped: nobody waits for anything any more.
            Err(_) => keep(&store, b"peers", &peers),
        }
    });
    let params = net_params(config, &genesis, &keys, &remembered, chance.fork("net"));
    let parts = Parts {
        name: config.node.name.clone(),
        roles: roles(config),
        dev: is_dev(config, &genesis),
        clock: Clock::system(),
        chance,
        archive,
        state,
        tip,
        journal,
        records,
        remembered,
        remember,
        peers_target: usize::try_from(config.network.peers_target).unwrap_or(50),
        scoring,
        pool: pool(config, &miners),
        keeping: keeping(config)?,
        queries_max: config.gateway.queries_max,
        transport: Box::new(move |sink| Ok(Arc::new(net::swarm::Net::start(params, sink)?))),
        threads: true,
        fatal,
        genesis,
        committee,
        keys,
    };
    Ok((parts, miners))
}

fn read_genesis(config: &Config) -> Result<Genesis, StartError> {
    let path = config.genesis_path();
    let bytes = std::fs::read(&path).map_err(|error| {
        let help = "`starling init --network FILE` puts it there, or name it with network.genesis";
        StartError::new(3, format!("the genesis file {} cannot be read: {error}", path.display()), help)
    })?;
    Genesis::parse(&bytes).map_err(|error| {
        StartError::new(3, format!("the genesis file {}: {error}", path.display()), "get the network's own file")
    })
}

fn read_keys(config: &Config) -> Result<Keys, StartError> {
    let keystore = Keystore::at(config.keys_dir());
    let passphrase = config.passphrase.as_ref().map(|passphrase| passphrase.0.as_str());
    let open = |name: &str| {
        keystore.open_with(name, passphrase).map_err(|error| {
            let exit = if matches!(error, KeyError::Locked(_)) { 5 } else { 3 };
            StartError::new(
                exit,
                error.to_string(),
                "`starling key list` shows what is there; `starling init` makes keys",
            )
        })
    };
    let votes = config.has(Role::Validator);
    let signs = votes || config.has(Role::Miner);
    Ok(Keys {
        node: open(&config.node.node_key)?,
        account: signs.then(|| open(&config.node.account_key)).transpose()?,
        consensus: votes.then(|| open(&config.node.consensus_key)).transpose()?,
    })
}

type OpenJournal = (
    Box<dyn crate::actors::checkpointer::VoteJournal>,
    Vec<crate::consensus::Record>,
    Option<crate::protocol::keys::SecretKey>,
);

/// The vote journal, and the consensus key if it may be used (C40).
fn open_journal(
    config: &Config,
    key: Option<crate::protocol::keys::SecretKey>,
    chance: &mut Chance,
) -> Result<OpenJournal, StartError> {
    let folder = config.node.data_dir.join("votes");
    let instance = match &key {
        Some(_) => config.keys_dir().join(format!("{}.instance", config.node.consensus_key)),
        None => config.node.data_dir.join("observer.instance"),
    };
    let opened = journal::open(&folder, &instance, chance.bytes32())
        .map_err(|error| StartError::new(13, error.to_string(), "stop the other process first"))?;
    let key = match opened.observer {
        Some(why) => {
            tracing::error!(why, "this node observes and does not vote");
            None
        }
        None => key,
    };
    Ok((opened.journal, opened.records, key))
}

fn roles(config: &Config) -> Roles {
    config.node.roles.iter().filter_map(|role| Roles::named(role.name())).fold(Roles::default(), Roles::with)
}

fn is_dev(config: &Config, genesis: &Genesis) -> bool {
    config.network.dev && genesis.network == NetworkKind::Devnet
}

/// A subnet by name or number.
fn find_subnet(state: &State, wanted: &str) -> Option<(SubnetId, String)> {
    let subnets = state.subnet_list();
    let found = subnets.iter().find(|subnet| subnet.name == wanted || subnet.id.to_string() == wanted)?;
    Some((found.id, found.task.clone()))
}

fn need_subnet(state: &State, wanted: &str) -> Result<(SubnetId, String), StartError> {
    find_subnet(state, wanted).ok_or_else(|| {
        let known: Vec<String> = state.subnet_list().into_iter().map(|subnet| subnet.name).collect();
        StartError::new(3, format!("there is no subnet \"{wanted}\""), format!("known are {}", known.join(", ")))
    })
}

fn seats(config: &Config, state: &State) -> Result<Vec<Miner>, StartError> {
    let entries = config.miner.entries.iter();
    entries
        .map(|entry| {
            let (subnet, task) = need_subnet(state, &entry.subnet)?;
            if !entry.account_key.is_empty() && entry.account_key != config.node.account_key {
                let message =
                    format!("the miner of \"{}\" names the account key \"{}\"", entry.subnet, entry.account_key);
                let help = "a node speaks for one account, node.account_key; run a node of its own for another";
                return Err(StartError::new(3, message, help));
            }
            let spec = MinerSpec {
                model: Kind::named(&entry.model),
                samples: usize::try_from(entry.samples).unwrap_or(usize::MAX),
                steps: entry.steps.into(),
                width: usize::try_from(entry.width).unwrap_or(usize::MAX),
                seed: entry.seed,
            };
            let behaviour = match entry.behaviour {
                Behaviour::Honest | Behaviour::Plagiarist => query_dispatcher::Behaviour::Honest,
                Behaviour::Random => query_dispatcher::Behaviour::Random,
                Behaviour::Silent => query_dispatcher::Behaviour::Silent,
                Behaviour::Late => query_dispatcher::Behaviour::Late,
                Behaviour::Relay => query_dispatcher::Behaviour::Relay,
                Behaviour::Memoriser => query_dispatcher::Behaviour::Memoriser,
            };
            let upstream = (entry.engine == EngineKind::Upstream).then(|| Upstream::of(entry)).transpose();
            let upstream = upstream.map_err(|error| {
                let help = "mend this miner's [[miner.entries]] table";
                StartError::new(3, format!("the miner of \"{}\": {error}", entry.subnet), help)
            })?;
            let copies = entry.behaviour == Behaviour::Plagiarist;
            // A file's model stands in the pool's lane from the start.
            let standing = (entry.engine == EngineKind::Gguf).then(|| llm::open(entry)).transpose()?;
            Ok(Miner { subnet, task, behaviour, copies, spec: spec.bounded(), upstream, standing })
        })
        .collect()
}

fn scoring(config: &Config, state: &State, kv: &Arc<dyn Kv>) -> Result<Scoring, StartError> {
    let wanted = config.validator.subnets.iter();
    let subnets: BTreeSet<SubnetId> =
        wanted.map(|name| need_subnet(state, name).map(|(id, _)| id)).collect::<Result<_, _>>()?;
    let conduct = match config.validator.behaviour {
        Manner::Honest => Conduct::Honest,
        Manner::Copier => Conduct::Copier,
        Manner::NonRevealer => Conduct::NonRevealer,
        Manner::SelfDealer => {
            let favours = config.validator.favours.iter().map(|account| account.parse());
            let favours: Result<Vec<AccountId>, _> = favours.collect();
            let error = |e: crate::protocol::ids::NameError| format!("validator.favours holds no account: {e}");
            Conduct::SelfDealer { favours: favours.map_err(|e| StartError::new(3, error(e), "write 64 hex digits"))? }
        }
    };
    let amount = &config.validator.bond_top_up;
    let bond_top_up = parse_star(amount).map_err(|e| {
        StartError::new(
            3,
            format!("validator.bond_top_up = {amount:?}: {e}"),
            "write an amount like \"10 STAR\", or \"0\"",
        )
    })?;
    Ok(Scoring {
        subnets,
        rounds: config.validator.challenges_per_epoch.into(),
        samples: CHALLENGE_SAMPLES,
        deadline_ms: CHALLENGE_MS,
        conduct,
        bond_top_up,
        shelf: Arc::clone(kv),
    })
}

/// A list kept in the store's small table; what does not decode any more is as nothing.
fn kept<T: serde::de::DeserializeOwned>(kv: &Arc<dyn Kv>, name: &[u8]) -> Result<Vec<T>, StoreError> {
    let bytes = kv.get(Table::Peers, name)?;
    Ok(bytes.and_then(|bytes| codec::decode::<Vec<T>, { 16 << 20 }>(&bytes).ok()).unwrap_or_default())
}

fn keep<T: serde::Serialize>(kv: &Arc<dyn Kv>, name: &[u8], value: &T) {
    if let Err(error) = kv.commit(&[Write::put(Table::Peers, name, codec::encode(value))]) {
        tracing::warn!(%error, "a list could not be kept");
    }
}

fn keeping(config: &Config) -> Result<Keeping, StartError> {
    let folder = config.node.data_dir.join("artifacts");
    let section = &config.artifacts;
    let open = || Shelf::open(Box::new(Folder::open(&folder)?), section.quota_mb.saturating_mul(1 << 20));
    let shelf = open().map_err(|error| {
        StartError::new(1, format!("{}: {error}", folder.display()), "it must be a folder this program may write")
    })?;
    let lends = [Role::Full, Role::Validator, Role::Boot].into_iter().any(|role| config.has(role));
    Ok(Keeping {
        shelf: Arc::new(shelf),
        lends: lends && section.lend,
        serve_bytes_s: section.serve_mb_s.saturating_mul(1 << 20),
        survey: Duration::from_secs(section.survey_s.max(1)),
    })
}

fn pool(config: &Config, miners: &[Miner]) -> worker_pool::Params {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = if config.pool.threads == 0 { cores.saturating_sub(1).max(1) } else { config.pool.threads };
    let cpu: EngineMaker = Arc::new(|| match CpuEngine::new(MEMORY_BYTES) {
        Ok(engine) => Box::new(engine),
        // Without a thread of its own the engine cannot run at all; the random one says that it is not honest.
        Err(error) => {
            tracing::error!(%error, "the CPU engine does not start");
            Box::new(RandomEngine::new(0))
        }
    });
    let mut lanes = vec![LaneParams { lane: Lane::Cpu, workers, waiting_max: config.pool.jobs_max, engine: cpu }];
    if config.miner.entries.iter().any(|entry| entry.behaviour == Behaviour::Random) {
        let engine: EngineMaker = Arc::new(|| Box::new(RandomEngine::new(1)));
        lanes.push(LaneParams { lane: Lane::Random, workers: 1, waiting_max: config.pool.jobs_max, engine });
    }
    if config.miner.entries.iter().any(|entry| entry.behaviour == Behaviour::Memoriser) {
        let engine: EngineMaker = Arc::new(|| match MemoryEngine::new() {
            Ok(engine) => Box::new(engine),
            Err(error) => {
                tracing::error!(%error, "the memory engine does not start");
                Box::new(RandomEngine::new(0))
            }
        });
        lanes.push(LaneParams { lane: Lane::Memory, workers: 1, waiting_max: config.pool.jobs_max, engine });
    }
    let upstreams: Vec<Upstream> = miners.iter().filter_map(|miner| miner.upstream.clone()).collect();
    if !upstreams.is_empty() {
        let workers = upstreams.iter().map(|upstream| upstream.parallel).sum();
        let sources: Vec<_> = upstreams.into_iter().map(|upstream| upstream.source).collect();
        let engine: EngineMaker = Arc::new(move || Box::new(UpstreamEngine::new(sources.clone())));
        lanes.push(LaneParams { lane: Lane::Upstream, workers, waiting_max: config.pool.jobs_max, engine });
    }
    lanes.extend(miners.iter().filter_map(|miner| miner.standing.as_ref()).map(|s| s.lane(config.pool.jobs_max)));
    worker_pool::Params { lanes, model_bytes_max: MODEL_BYTES_MAX }
}

fn net_params(
    config: &Config,
    genesis: &Genesis,
    keys: &Keys,
    remembered: &[Remembered],
    chance: Chance,
) -> net::Params {
    let dev = is_dev(config, genesis);
    let mut bootnodes = config.network.bootnodes.clone();
    bootnodes.extend(genesis.bootnodes.iter().cloned());
    net::Params {
        listen: config.network.listen.clone(),
        external: config.network.announce.clone(),
        bootnodes,
        remembered: remembered.iter().map(|peer| (peer.node, peer.addresses.clone())).collect(),
        boot: config.has(Role::Boot),
        public: config.has(Role::Boot) || config.has(Role::Full) || config.has(Role::Validator),
        dev,
        mdns: dev && config.network.mdns,
        expected_nodes: if dev { 12 } else { 50 },
        chance,
        ..net::Params::new(genesis.chain_id(), *link_seed(&keys.node))
    }
}

fn net_error(error: &NetError) -> StartError {
    StartError::new(1, error.to_string(), "choose another address with network.listen, or stop what holds this one")
}

fn store_error(error: &StoreError) -> StartError {
    StartError::new(1, error.to_string(), "")
}

fn archive_error(error: &ArchiveError) -> StartError {
    let exit = if matches!(error, ArchiveError::OtherNetwork { .. }) { 3 } else { 1 };
    StartError::new(exit, error.to_string(), "")
}
