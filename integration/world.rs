//! A network of real nodes on one thread, in virtual time, from one seed.
//!
//! The actors, the ledger, the machine and the journals are the real ones; the network is the in-memory transport, the
//! disks are in memory and tear like real ones. `check` holds every world to the same laws, whatever happened in it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use starling::actors::checkpointer::{ReadConsensus, Standing, VoteJournal};
use starling::actors::clock::Clock;
use starling::actors::ledger::archive::Archive;
use starling::actors::ledger::{ReadLedger, SubmitTransaction, View};
use starling::actors::mail::{Stop, ask, tell, to};
use starling::actors::peer_manager::{Peers, ReadPeers, Remembered};
use starling::actors::query_dispatcher::{self, Frame, SubmitQuery};
use starling::actors::router::{Outbound, Publish};
use starling::actors::scorer::Conduct;
use starling::actors::worker_pool::{self, Lane, LaneParams};
use starling::consensus::Record;
use starling::ml::engine::cpu::{CpuEngine, MEMORY_BYTES};
use starling::ml::engine::random::RandomEngine;
use starling::ml::task::MinerSpec;
use starling::net::memory::{Hub, Weather};
use starling::net::{self, Transport};
use starling::node::accuse::Accuser;
use starling::node::journal::Records;
use starling::node::miners::{self, Miner};
use starling::node::{Keeping, Keys, Node, Parts, Scoring};
use starling::protocol::chance::Chance;
use starling::protocol::genesis::{Genesis, GenesisAccount, GenesisSubnet, GenesisVoter};
use starling::protocol::hello::Roles;
use starling::protocol::ids::{AccountId, Digest, Height, NodeId, SubnetId, View as ViewNumber, hash};
use starling::protocol::keys::SecretKey;
use starling::protocol::parameters::{NetworkKind, SubnetRules};
use starling::protocol::query::Ask;
use starling::protocol::transaction::{Action, Role, Transaction};
use starling::protocol::units::MOTES_PER_STAR;
use starling::store::artifacts::Shelf;
use starling::store::disk::MemoryDisk;
use starling::store::journal::Journal;
use starling::store::kv::{Kv, MemoryKv, Table};

/// The wall time at which every world begins.
const BEGIN_MS: u64 = 1_800_000_000_000;
const DEADLINE: Duration = Duration::from_secs(30);
pub const VISION: SubnetId = SubnetId(1);

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub validators: usize,
    /// Accounts with a node that neither votes nor validates.
    pub others: usize,
    pub weather: Weather,
}

/// A member of the world, up or down.
struct Citizen {
    keys: Keys,
    votes: bool,
    kv: MemoryKv,
    disk: MemoryDisk,
    instance: [u8; 32],
    conduct: Conduct,
    bond_top_up: u64,
    peers: Arc<Mutex<Vec<Remembered>>>,
    node: Option<Node>,
    alive: Arc<AtomicBool>,
    models: std::path::PathBuf,
    artifacts: starling::store::artifacts::Memory,
}

/// The world.
pub struct World {
    pub seed: u64,
    pub hub: Hub,
    pub genesis: Genesis,
    citizens: Vec<RefCell<Citizen>>,
    clock: Clock,
    chance: RefCell<Chance>,
    fatal: Arc<Mutex<Vec<(usize, String)>>>,
    /// Citizens whose faults are on purpose: they may be accused and may fail.
    byzantine: RefCell<BTreeSet<usize>>,
    /// On real sockets: the port of each.
    ports: Option<Vec<u16>>,
}

/// Runs a test in a world of its own. When it panics, the seed is in the message of every check.
pub fn run<F: Future<Output = ()>>(plan: &Plan, test: impl FnOnce(World) -> F) {
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    actix::System::with_tokio_rt(runtime).block_on(async { test(World::new(plan)).await });
}

/// The same, under a genesis of its own.
pub fn run_with<F: Future<Output = ()>>(plan: &Plan, change: impl FnOnce(&mut Genesis), test: impl FnOnce(World) -> F) {
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    actix::System::with_tokio_rt(runtime).block_on(async {
        let mut world = World::new(plan);
        change(&mut world.genesis);
        world.genesis = world.genesis.seal().expect("a genesis").1;
        test(world).await;
    });
}

/// Runs a test in a world of real time, real sockets on loopback and real artifact files. Its network cannot be cut.
pub fn run_on_sockets<F: Future<Output = ()>>(plan: &Plan, test: impl FnOnce(World) -> F) {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    actix::System::with_tokio_rt(runtime).block_on(async {
        let mut world = World::new(plan);
        // Bound all at once, so that they differ; free again when the nodes want them.
        let held = || std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let held: Vec<std::net::TcpListener> = world.citizens.iter().map(|_| held()).collect();
        world.ports = Some(held.iter().map(|port| port.local_addr().expect("a port").port()).collect());
        drop(held);
        test(world).await;
    });
}

/// A shelf that outlives its node: in memory, or in a folder.
fn keeping(place: Box<dyn starling::store::artifacts::Place>, lends: bool) -> Keeping {
    let shelf = Shelf::open(place, 1 << 30).expect("a shelf");
    Keeping { shelf: Arc::new(shelf), lends, serve_bytes_s: 0, survey: Duration::from_secs(5) }
}

fn key(seed: u64, of: usize, kind: &str) -> SecretKey {
    let parts: [&[u8]; 3] = [&seed.to_le_bytes(), &of.to_le_bytes(), kind.as_bytes()];
    SecretKey::from_seed(hash("starling/1 world key", &parts).0)
}

fn genesis(plan: &Plan) -> Genesis {
    let mut genesis = Genesis::new("world", NetworkKind::Devnet, BEGIN_MS);
    for of in 0..plan.validators + plan.others {
        let account = key(plan.seed, of, "account").public().into();
        genesis.accounts.push(GenesisAccount { account, balance: 1_000 * MOTES_PER_STAR });
        if of < plan.validators {
            let consensus = key(plan.seed, of, "consensus").public();
            let node = Some(NodeId(key(plan.seed, of, "node").public().0));
            genesis.committee.push(GenesisVoter {
                consensus,
                account,
                node,
                stake: 1_000 * MOTES_PER_STAR,
                support: vec![VISION],
            });
        }
    }
    // Scores of digits can be computed again bit for bit.
    let rules = SubnetRules { replay: 0, ..SubnetRules::defaults(NetworkKind::Devnet) };
    genesis.subnets.push(GenesisSubnet {
        id: VISION,
        name: "vision".into(),
        task: "vision".into(),
        owner: None,
        rules,
    });
    genesis.seal().expect("a genesis").1
}

impl World {
    fn new(plan: &Plan) -> Self {
        let mut chance = Chance::from_seed(hash("starling/1 world", &[&plan.seed.to_le_bytes()]).0);
        let citizen = |of: usize| {
            let votes = of < plan.validators;
            let keys = Keys {
                node: key(plan.seed, of, "node"),
                account: Some(key(plan.seed, of, "account")),
                consensus: votes.then(|| key(plan.seed, of, "consensus")),
            };
            RefCell::new(Citizen {
                keys,
                votes,
                kv: MemoryKv::new(),
                disk: MemoryDisk::new(),
                instance: [u8::try_from(of).unwrap_or(0); 32],
                conduct: Conduct::Honest,
                bond_top_up: 0,
                peers: Arc::default(),
                node: None,
                alive: Arc::new(AtomicBool::new(false)),
                models: std::env::temp_dir().join(format!("starling-world-{}-{}-{of}", std::process::id(), plan.seed)),
                artifacts: starling::store::artifacts::Memory::default(),
            })
        };
        Self {
            seed: plan.seed,
            hub: Hub::open(chance.fork("hub"), plan.weather),
            genesis: genesis(plan),
            citizens: (0..plan.validators + plan.others).map(citizen).collect(),
            clock: Clock::virtual_from(BEGIN_MS),
            chance: RefCell::new(chance),
            fatal: Arc::default(),
            byzantine: RefCell::default(),
            ports: None,
        }
    }

    pub fn chance(&self) -> std::cell::RefMut<'_, Chance> {
        self.chance.borrow_mut()
    }

    pub fn node_id(&self, of: usize) -> NodeId {
        NodeId(self.citizens[of].borrow().keys.node.public().0)
    }

    pub fn account(&self, of: usize) -> AccountId {
        self.citizens[of].borrow().keys.account.as_ref().expect("an account").public().into()
    }

    pub fn disk(&self, of: usize) -> MemoryDisk {
        self.citizens[of].borrow().disk.clone()
    }

    fn address(&self, of: usize) -> String {
        let port = self.ports.as_ref().map(|ports| ports[of]);
        port.map_or_else(|| format!("/memory/{}", of + 1), |port| format!("/ip4/127.0.0.1/tcp/{port}"))
    }

    /// Declares that a citizen's faults are on purpose.
    pub fn outlaw(&self, of: usize) {
        self.byzantine.borrow_mut().insert(of);
    }

    /// Makes a citizen a second live copy of another's consensus key, with a link key and disks of its own.
    pub fn twin(&self, of: usize, original: usize) {
        let consensus = self.citizens[original].borrow().keys.consensus.clone();
        let mut citizen = self.citizens[of].borrow_mut();
        citizen.keys.consensus = consensus;
        citizen.votes = true;
        self.byzantine.borrow_mut().extend([of, original]);
    }

    /// Has a citizen behave so from its next start on.
    pub fn behave(&self, of: usize, conduct: Conduct) {
        self.citizens[of].borrow_mut().conduct = conduct;
    }

    /// Lets a citizen add so many motes to its seat's bond in sixteen epochs, from its next start on.
    pub fn allow_top_up(&self, of: usize, motes: u64) {
        self.citizens[of].borrow_mut().bond_top_up = motes;
    }

    /// The store of a citizen, for looking into and for tampering with.
    pub fn store(&self, of: usize) -> MemoryKv {
        self.citizens[of].borrow().kv.clone()
    }

    /// A citizen's node as its HTTP face asks it.
    pub fn asks(&self, of: usize) -> starling::node::asks::Asks {
        self.with_node(of, Node::asks)
    }

    pub fn start_all(&self) {
        (0..self.citizens.len()).for_each(|of| self.start(of));
    }

    /// Starts a citizen from what its disks hold.
    pub fn start(&self, of: usize) {
        let mut citizen = self.citizens[of].borrow_mut();
        assert!(citizen.node.is_none(), "seed {}: citizen {of} is up already", self.seed);
        let committee = self.genesis.first_committee().expect("a committee");
        let alive = Arc::new(AtomicBool::new(true));
        let kv: Arc<dyn Kv> = Arc::new(Mortal { inner: citizen.kv.clone(), alive: Arc::clone(&alive) });
        let shelf = Arc::clone(&kv);
        let (archive, state, tip) = Archive::open(kv, &self.genesis, &committee).expect("the archive opens");
        let (journal, records) = match Journal::open(citizen.disk.clone(), citizen.instance) {
            Ok((journal, payloads)) => {
                let records = payloads.iter().map(|bytes| Record::from_layout(bytes).expect("a record")).collect();
                (journal, records)
            }
            Err(starling::store::journal::JournalError::Missing) => {
                (Journal::create(citizen.disk.clone(), citizen.instance).expect("a journal"), Vec::new())
            }
            Err(error) => panic!("seed {}: the journal of {of} does not open: {error}", self.seed),
        };
        let journal = Box::new(MortalJournal { inner: Records(journal), alive: Arc::clone(&alive) });
        let chance = Chance::from_seed(hash("starling/1 citizen", &[&self.seed.to_le_bytes(), &of.to_le_bytes()]).0);
        let mut params = net::Params::new(self.genesis.chain_id(), *citizen.keys.node.seed());
        params.listen = vec![self.address(of)];
        let friends = (0..self.citizens.len().min(3)).filter(|friend| *friend != of);
        params.bootnodes = friends
            .map(|friend| {
                let peer = net::peer_id_text(NodeId(key(self.seed, friend, "node").public().0)).expect("a peer id");
                format!("{}/p2p/{peer}", self.address(friend))
            })
            .collect();
        params.dev = true;
        params.boot = true;
        params.expected_nodes = self.citizens.len();
        params.chance = chance.clone().fork("net");
        let real = self.ports.is_some();
        if real {
            // What is measured is the way, not the quota.
            params.limits.artifact_items = 1_000_000;
        }
        let files: Box<dyn starling::store::artifacts::Place> = if real {
            let folder = citizen.models.join("artifacts");
            Box::new(starling::store::artifacts::Folder::open(&folder).expect("a folder"))
        } else {
            Box::new(citizen.artifacts.clone())
        };
        let hub = self.hub.clone();
        let remember_peers = Arc::clone(&citizen.peers);
        let scoring = citizen.votes.then(|| Scoring {
            subnets: BTreeSet::new(),
            rounds: 2,
            samples: 16,
            deadline_ms: 2_000,
            conduct: citizen.conduct.clone(),
            bond_top_up: citizen.bond_top_up,
            shelf: Arc::clone(&shelf),
        });
        let (fatal, still) = (Arc::clone(&self.fatal), Arc::clone(&alive));
        let parts = Parts {
            name: format!("citizen-{of}"),
            genesis: self.genesis.clone(),
            committee,
            keys: citizen.keys.clone(),
            roles: if citizen.votes { Roles::VALIDATOR } else { Roles::MINER.with(Roles::GATEWAY) },
            dev: true,
            clock: self.clock,
            chance,
            archive,
            state,
            tip,
            journal,
            records,
            remembered: citizen.peers.lock().expect("a lock").clone(),
            remember: Arc::new(move |peers| *remember_peers.lock().expect("a lock") = peers),
            peers_target: 50,
            scoring,
            pool: pool(),
            keeping: keeping(files, citizen.votes),
            queries_max: 64,
            transport: Box::new(move |sink| {
                if real {
                    return Ok(Arc::new(net::swarm::Net::start(params, sink)?));
                }
                Ok(Arc::new(hub.join(params, sink)?) as Arc<dyn Transport>)
            }),
            threads: false,
            fatal: Arc::new(move |why| {
                if still.swap(false, Ordering::SeqCst) {
                    fatal.lock().expect("a lock").push((of, why));
                }
            }),
        };
        citizen.alive = alive;
        citizen.node = Some(Node::start(parts).expect("the node starts"));
    }

    /// The process is killed: nothing more of it reaches a disk or the network, unsynced bytes tear.
    pub fn crash(&self, of: usize) {
        let mut citizen = self.citizens[of].borrow_mut();
        citizen.alive.store(false, Ordering::SeqCst);
        self.hub.crash(NodeId(citizen.keys.node.public().0));
        if let Some(node) = citizen.node.take() {
            if self.ports.is_some() {
                // Sockets close by themselves only with their process.
                let _closing = node.transport.try_command(net::Command::Shutdown);
            }
            node.stop_actors();
        }
        citizen.disk.crash(&mut self.chance.borrow_mut());
    }

    pub fn is_up(&self, of: usize) -> bool {
        self.citizens[of].borrow().node.is_some()
    }

    pub fn up(&self) -> Vec<usize> {
        (0..self.citizens.len()).filter(|of| self.is_up(*of)).collect()
    }

    pub fn with_node<T>(&self, of: usize, act: impl FnOnce(&Node) -> T) -> T {
        let citizen = self.citizens[of].borrow();
        act(citizen.node.as_ref().unwrap_or_else(|| panic!("seed {}: citizen {of} is down", self.seed)))
    }

    pub async fn view(&self, of: usize) -> View {
        let ledger = self.with_node(of, |node| to(&node.ledger));
        let account = Some(self.account(of));
        ask(&ledger, ReadLedger { account }, DEADLINE).await.expect("the ledger answers")
    }

    pub async fn standing(&self, of: usize) -> Standing {
        let checkpointer = self.with_node(of, |node| to(&node.checkpointer));
        ask(&checkpointer, ReadConsensus, DEADLINE).await.expect("the checkpointer answers")
    }

    pub async fn peers(&self, of: usize) -> Peers {
        let peer_manager = self.with_node(of, |node| to(&node.peer_manager));
        ask(&peer_manager, ReadPeers, DEADLINE).await.expect("the peer manager answers")
    }

    pub async fn height(&self, of: usize) -> Height {
        self.view(of).await.tip.header.height
    }

    /// Waits, at most for so many virtual seconds, until all of these have finalised the height.
    pub async fn reach(&self, of: &[usize], height: Height, seconds: u64) {
        let until = self.hub.now_ms() + seconds * 1_000;
        loop {
            let mut heights = BTreeMap::new();
            for citizen in of {
                heights.insert(*citizen, self.height(*citizen).await);
            }
            if heights.values().all(|reached| *reached >= height) {
                return;
            }
            assert!(
                self.hub.now_ms() < until,
                "seed {}: height {height} was not reached in {seconds} s: {heights:?}; failures {:?}",
                self.seed,
                self.fatal.lock().expect("a lock")
            );
            self.pass(200).await;
        }
    }

    /// Lets virtual time pass.
    pub async fn pass(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    /// Signs with a citizen's account, submits at its own node and publishes.
    pub async fn submit(&self, of: usize, action: Action) -> Digest {
        let view = self.view(of).await;
        let account = self.account(of);
        let mut transaction =
            Transaction { account, nonce: view.next_nonce, fee: 0, valid_until: view.tip.header.height + 100, action };
        let parameters = view.state.parameters();
        let bytes = u64::try_from(transaction.signed_bytes()).expect("a length");
        let units = u64::from(transaction.action.units());
        transaction.fee = bytes * parameters.fee_byte + units * parameters.fee_unit;
        let key = self.citizens[of].borrow().keys.account.clone().expect("an account");
        let signed = transaction.sign(&self.genesis.chain_id(), &key).expect("a transaction");
        let (ledger, router) = self.with_node(of, |node| (to(&node.ledger), to(&node.router)));
        let submitted = ask(&ledger, SubmitTransaction { bytes: signed.encode() }, DEADLINE).await.expect("an answer");
        let submitted = submitted.unwrap_or_else(|refusal| panic!("seed {}: refused: {refusal}", self.seed));
        tell(&router, Publish(Outbound::Transaction(signed.encode())));
        submitted.id
    }

    /// Has a citizen bring before the ledger what its consensus saw; how much that was.
    pub async fn accuse(&self, of: usize) -> usize {
        let key = self.citizens[of].borrow().keys.account.clone().expect("an account");
        let accuser = self.with_node(of, |node| Accuser::of(node, self.genesis.chain_id(), key));
        accuser.look().await.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed))
    }

    /// Puts a transfer to itself into a citizen's own pool and tells nobody.
    pub async fn mutter(&self, of: usize) {
        let (view, account) = (self.view(of).await, self.account(of));
        let action = Action::Transfer { to: account, amount: 1, memo: Vec::new() };
        let (nonce, valid_until) = (view.next_nonce, view.tip.header.height + 100);
        let transaction = Transaction { account, nonce, fee: MOTES_PER_STAR / 1_000, valid_until, action };
        let key = self.citizens[of].borrow().keys.account.clone().expect("an account");
        let signed = transaction.sign(&self.genesis.chain_id(), &key).expect("a transaction");
        let ledger = self.with_node(of, |node| to(&node.ledger));
        // A full pool keeps it out; the next one will do.
        let _told = ask(&ledger, SubmitTransaction { bytes: signed.encode() }, DEADLINE).await.expect("an answer");
    }

    /// Waits until a transaction is final at a citizen.
    pub async fn finalised(&self, of: usize, id: Digest, seconds: u64) {
        let until = self.hub.now_ms() + seconds * 1_000;
        while self.view(of).await.archive.place(&id).expect("the store answers").is_none() {
            assert!(self.hub.now_ms() < until, "seed {}: {id:?} was not final in {seconds} s", self.seed);
            self.pass(200).await;
        }
    }

    /// Registers a citizen in the vision subnet and waits for its seat.
    pub async fn register(&self, of: usize, role: Role) {
        // Receipts are signed with the link key.
        let operator = starling::protocol::ids::PublicKey(self.node_id(of).0);
        let action = Action::Register { subnet: VISION, role, operator, max_bond: 1_000 * MOTES_PER_STAR };
        let id = self.submit(of, action).await;
        self.finalised(of, id, 60).await;
    }

    /// Trains and serves vision at a citizen.
    pub async fn mine(&self, of: usize, behaviour: query_dispatcher::Behaviour, spec: MinerSpec) {
        let links = self.with_node(of, |node| miners::Links {
            run_job: to(&node.worker_pool),
            load_model: to(&node.worker_pool),
            serve: to(&node.query_dispatcher),
            close: to(&node.query_dispatcher),
        });
        let miner = Miner {
            subnet: VISION,
            task: "vision".into(),
            behaviour,
            copies: false,
            spec,
            upstream: None,
            standing: None,
        };
        let models = self.citizens[of].borrow().models.clone();
        miners::ready(miner, &links, &models).await.unwrap_or_else(|e| panic!("seed {}: {e}", self.seed));
    }

    /// Puts a query through a citizen's node; its frames.
    pub async fn query(&self, of: usize, query: Ask) -> Vec<Frame> {
        let dispatcher = self.with_node(of, |node| to(&node.query_dispatcher));
        let (sender, mut receiver) = tokio::sync::mpsc::channel(64);
        let submitted = ask(&dispatcher, SubmitQuery { ask: query, frames: sender }, DEADLINE).await;
        submitted.expect("an answer").unwrap_or_else(|e| panic!("seed {}: {e:?}", self.seed));
        let mut frames = Vec::new();
        while let Some(frame) = receiver.recv().await {
            frames.push(frame);
        }
        frames
    }

    /// Ends one actor of a citizen as a panic would, and says which one the watchdog then misses.
    pub async fn lose_the_ledger(&self, of: usize) -> Option<&'static str> {
        self.with_node(of, |node| node.ledger.try_send(Stop).expect("a mailbox with room"));
        self.pass(1_000).await;
        self.with_node(of, Node::dead)
    }

    pub fn failures(&self) -> Vec<(usize, String)> {
        self.fatal.lock().expect("a lock").clone()
    }

    /// The laws of every world.
    pub async fn check(&self) {
        let seed = self.seed;
        let outlaws = self.byzantine.borrow().clone();
        let mut chain: BTreeMap<Height, (Digest, usize)> = BTreeMap::new();
        for (of, citizen) in self.citizens.iter().enumerate() {
            let rows = citizen.borrow().kv.range(Table::Hashes, &[], usize::MAX).expect("rows");
            for (hash, height) in rows {
                let height = u64::from_be_bytes(height.try_into().expect("a height"));
                let hash = Digest(hash.try_into().expect("a hash"));
                let (known, by) = *chain.entry(height).or_insert((hash, of));
                assert_eq!(known, hash, "seed {seed}: height {height} differs between {by} and {of}");
            }
        }
        let heights: Vec<Height> = chain.keys().copied().collect();
        assert!(heights.windows(2).all(|pair| pair[1] == pair[0] + 1), "seed {seed}: a height is missing: {heights:?}");
        for of in self.up() {
            let view = self.view(of).await;
            assert!(view.state.check().is_ok(), "seed {seed}: money at {of}: {:?}", view.state.check());
            let supply = view.state.supply_view();
            assert_eq!(supply.genesis + supply.minted - supply.burned, supply.total, "seed {seed}: supply at {of}");
            let dead = self.with_node(of, Node::dead);
            assert_eq!(dead, None, "seed {seed}: an actor of {of} has died");
            let standing = self.standing(of).await;
            assert!(!standing.halted, "seed {seed}: {of} has halted");
            for evidence in &standing.evidence {
                let committee = self.genesis.first_committee().expect("a committee");
                let accused = committee.get(evidence.signer()).expect("a member").key;
                let by_outlaw = outlaws.iter().any(|outlaw| {
                    self.citizens[*outlaw].borrow().keys.consensus.as_ref().is_some_and(|key| key.public() == accused)
                });
                assert!(by_outlaw, "seed {seed}: an honest member equivocated: {evidence:?}");
            }
        }
        let failures: Vec<_> = self.failures().into_iter().filter(|(of, _)| !outlaws.contains(of)).collect();
        assert!(failures.is_empty(), "seed {seed}: nodes failed: {failures:?}");
    }

    /// Everything delivered, in order: equal seeds give equal traces.
    pub fn trace(&self) -> Digest {
        self.hub.trace()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for citizen in &self.citizens {
            // A world without miners has made no folder.
            let _gone = std::fs::remove_dir_all(&citizen.borrow().models);
        }
    }
}

fn pool() -> worker_pool::Params {
    let cpu = LaneParams {
        lane: Lane::Cpu,
        workers: 1,
        waiting_max: 256,
        engine: Arc::new(|| Box::new(CpuEngine::new(MEMORY_BYTES).expect("an engine"))),
    };
    let random = LaneParams {
        lane: Lane::Random,
        workers: 1,
        waiting_max: 256,
        engine: Arc::new(|| Box::new(RandomEngine::new(1))),
    };
    worker_pool::Params { lanes: vec![cpu, random], model_bytes_max: 64 << 20 }
}

/// A store that a killed process cannot write to any more.
#[derive(Debug)]
struct Mortal {
    inner: MemoryKv,
    alive: Arc<AtomicBool>,
}

impl Kv for Mortal {
    fn commit(&self, batch: &[starling::store::kv::Write]) -> Result<(), starling::store::kv::StoreError> {
        if !self.alive.load(Ordering::SeqCst) {
            return Err(starling::store::kv::StoreError::Io("the process is gone".into()));
        }
        self.inner.commit(batch)
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, starling::store::kv::StoreError> {
        self.inner.get(table, key)
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<starling::store::kv::Pair>, starling::store::kv::StoreError> {
        self.inner.range(table, from, limit)
    }

    fn last(&self, table: Table) -> Result<Option<starling::store::kv::Pair>, starling::store::kv::StoreError> {
        self.inner.last(table)
    }
}

/// A journal that a killed process cannot write to any more.
struct MortalJournal {
    inner: Records<MemoryDisk>,
    alive: Arc<AtomicBool>,
}

impl VoteJournal for MortalJournal {
    fn append(&mut self, records: &[Record]) -> Result<(), String> {
        if self.alive.load(Ordering::SeqCst) { self.inner.append(records) } else { Err("the process is gone".into()) }
    }

    fn release(&mut self, mark: ViewNumber) -> Result<(), String> {
        if self.alive.load(Ordering::SeqCst) { self.inner.release(mark) } else { Err("the process is gone".into()) }
    }
}
