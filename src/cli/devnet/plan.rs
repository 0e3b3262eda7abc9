//! Which nodes a devnet has, what each is told, and the genesis they share. Pure: equal wishes, places and time give equal
//! files, and nothing here opens a socket or touches a disk.
//!
//! Every key follows from the seed and the node's name, so that a devnet can be made again; such keys guard nothing.

use serde::{Deserialize, Serialize};

use crate::config::{Behaviour, Manner, Role};
use crate::ml::model::Kind;
use crate::ml::task::MinerSpec;
use crate::net::peer_id_text;
use crate::protocol::genesis::{Genesis, GenesisAccount, GenesisError, GenesisSubnet, GenesisVoter};
use crate::protocol::ids::{AccountId, NodeId, SubnetId, hash};
use crate::protocol::keys::SecretKey;
use crate::protocol::parameters::{NetworkKind, SubnetRules};
use crate::protocol::units::MOTES_PER_STAR;
use crate::store::keystore::KeyKind;

/// The markets of every devnet: number, name and task.
pub const SUBNETS: [(SubnetId, &str); 2] = [(SubnetId(1), "vision"), TEXT];
const TEXT: (SubnetId, &str) = (SubnetId(2), "text");
/// What the server of an upstream miner calls its model.
pub const ENGINE_MODEL: &str = "jargon";
/// The market that `--with forecast` adds.
const FORECAST: (SubnetId, &str) = (SubnetId(3), "forecast");
/// The market that `--with competition` adds: models of digits, run by the validators.
pub const ARENA: (SubnetId, &str) = (SubnetId(4), "vision");
const ARENA_NAME: &str = "arena";
/// Those who compete there from the start, the worst first; one that is better than all comes late.
const COMPETITORS: usize = 3;
/// The name of the node that introduces the others and serves the HTTP interface.
pub const GATEWAY: &str = "gateway";
/// Of containers alone: the node that every other joins by.
pub const BOOT: &str = "boot";

/// How far a score of text may lie from the first when it is computed again, over 2^32.
const REPLAY_TOLERANCE: u64 = 4_096;
/// Heights from the end of a reveal window to the next epoch.
const CLOSE_HEIGHTS: u64 = 3;
const STAKE: u64 = 1_000 * MOTES_PER_STAR;
const BALANCE: u64 = 1_000 * MOTES_PER_STAR;
/// What the person at the keyboard has to play with; their key lies with the gateway.
const PURSE: u64 = 100_000 * MOTES_PER_STAR;
/// Nodes that every node knows from the start, so that any of them may be down when another joins.
const BOOTNODES: usize = 3;
/// Ports of a node in its container.
pub const CONTAINER_P2P: u16 = 9470;
pub const CONTAINER_HTTP: u16 = 9464;
pub const CONTAINER_GATEWAY: u16 = 8080;

/// The markets of the devnet that is wished for.
pub fn markets(wishes: &Wishes) -> Vec<(SubnetId, &'static str)> {
    let arena = wishes.with.contains(&Extra::Competition).then_some(ARENA);
    serving(wishes).into_iter().chain(arena).collect()
}

/// A market's name: that of its task, unless another market has it.
fn market_name(id: SubnetId, task: &str) -> &str {
    if id == ARENA.0 { ARENA_NAME } else { task }
}

/// Those in which miners answer queries.
fn serving(wishes: &Wishes) -> Vec<(SubnetId, &'static str)> {
    let further = wishes.with.contains(&Extra::Forecast).then_some(FORECAST);
    SUBNETS.into_iter().chain(further).collect()
}

/// The market whose turn it is.
fn market(markets: &[(SubnetId, &'static str)], turn: usize) -> (SubnetId, &'static str) {
    let [first, ..] = SUBNETS;
    markets.get(turn % markets.len().max(1)).copied().unwrap_or(first)
}

/// Somebody beyond the honest ones, to see what becomes of them; or a market beyond the usual ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extra {
    /// Answers at random.
    Random,
    /// Takes queries and never answers.
    Silent,
    /// Honest, and joins when a third of the run is over.
    Late,
    /// Has no model and hands on what other miners say.
    Relay,
    /// Has learnt the held-out data by heart and nothing else.
    Memoriser,
    /// A validator that says what everybody said last.
    Copier,
    /// A validator that seals weights and never opens them.
    NonRevealer,
    /// A validator that gives everything to a miner of its own, which has an account of its own.
    SelfDealer,
    /// No miner: a third market, among whose miners the honest ones are dealt too.
    Forecast,
    /// A miner of text that answers with a server's model; the server is a process of its own.
    Upstream,
    /// Not a member but a market: models that validators run, and those who compete in it.
    Competition,
}

/// The behaviour and the name of the competitor that copies.
const PLAGIARIST: &str = "plagiarist";
/// The behaviour of a self-dealer's miner.
const FAVOURED: &str = "favoured";

impl Extra {
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Silent => "silent",
            Self::Late => "late",
            Self::Relay => "relay",
            Self::Memoriser => "memoriser",
            Self::Copier => "copier",
            Self::NonRevealer => "non_revealer",
            Self::SelfDealer => "self_dealer",
            Self::Forecast => "forecast",
            Self::Upstream => "upstream",
            Self::Competition => "competition",
        }
    }

    /// A miner without a model of its own: its quality is not its own either, so it stands in no rank of quality.
    pub fn is_hollow(self) -> bool {
        matches!(self, Self::Relay | Self::Memoriser)
    }

    pub fn named(name: &str) -> Option<Self> {
        let miners = [Self::Random, Self::Silent, Self::Late, Self::Relay, Self::Memoriser, Self::Upstream];
        let others = [Self::Copier, Self::NonRevealer, Self::SelfDealer, Self::Forecast, Self::Competition];
        miners.into_iter().chain(others).find(|e| e.name() == name)
    }

    /// What a validator of this kind is told; none of miners.
    pub fn manner(self) -> Option<Manner> {
        match self {
            Self::Random | Self::Silent | Self::Late | Self::Relay | Self::Memoriser => None,
            Self::Upstream | Self::Forecast | Self::Competition => None,
            Self::Copier => Some(Manner::Copier),
            Self::NonRevealer => Some(Manner::NonRevealer),
            Self::SelfDealer => Some(Manner::SelfDealer),
        }
    }
}

/// What a person asked for. A devnet that is started again must be asked for the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wishes {
    pub validators: u32,
    pub miners: u32,
    pub seed: u64,
    pub with: Vec<Extra>,
    /// Heights of an epoch, and milliseconds between two heights, where others than a devnet's own.
    #[serde(default)]
    pub tempo: Option<u64>,
    #[serde(default)]
    pub pace_ms: Option<u64>,
}

/// What one miner is to learn and how it behaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MinerPlan {
    pub subnet: SubnetId,
    pub task: String,
    /// `honest`, or the extra's name.
    pub behaviour: String,
    #[serde(default)]
    pub model: Option<Kind>,
    /// The server whose model it answers with, once its place is known.
    #[serde(default)]
    pub upstream: Option<String>,
    pub samples: usize,
    pub steps: u64,
    pub width: usize,
    pub seed: u64,
}

impl MinerPlan {
    fn new((subnet, task): (SubnetId, &str), spec: MinerSpec, extra: Option<Extra>) -> Self {
        Self {
            subnet,
            task: task.to_owned(),
            behaviour: extra.map_or("honest", Extra::name).to_owned(),
            model: spec.model,
            upstream: None,
            samples: spec.samples,
            steps: spec.steps,
            width: spec.width,
            seed: spec.seed,
        }
    }

    pub fn is_late(&self) -> bool {
        self.behaviour == Extra::Late.name()
    }

    /// What the node itself is told: coming late is the orchestrator's doing, not the node's.
    fn told(&self) -> Behaviour {
        match Extra::named(&self.behaviour) {
            Some(Extra::Random) => Behaviour::Random,
            Some(Extra::Silent) => Behaviour::Silent,
            Some(Extra::Relay) => Behaviour::Relay,
            Some(Extra::Memoriser) => Behaviour::Memoriser,
            _ if self.behaviour == PLAGIARIST => Behaviour::Plagiarist,
            _ => Behaviour::Honest,
        }
    }
}

/// One node before it has a place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodePlan {
    pub name: String,
    pub roles: Vec<Role>,
    pub miner: Option<MinerPlan>,
    /// Of validators that are not honest.
    pub manner: Option<Extra>,
    /// The node whose miner a self-dealer favours.
    pub favours: Option<String>,
}

impl NodePlan {
    fn new(name: impl Into<String>, roles: &[Role]) -> Self {
        Self { name: name.into(), roles: roles.to_vec(), miner: None, manner: None, favours: None }
    }

    pub fn is(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// The role it is here for, in one word.
    pub fn role(&self) -> &'static str {
        let order = [Role::Validator, Role::Miner, Role::Gateway, Role::Boot];
        order.into_iter().find(|r| self.is(*r)).unwrap_or(Role::Full).name()
    }
}

/// Where a node listens and is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Addresses it binds.
    pub listen: Vec<String>,
    /// How others dial it, without its peer id.
    pub dial: String,
    /// `host:port` it binds for its own HTTP.
    pub http: String,
    /// The same for the gateway's interface.
    pub gateway: Option<String>,
}

impl Place {
    /// A place on this machine's loopback.
    pub fn loopback(p2p: u16, http: u16, gateway: Option<u16>) -> Self {
        Self {
            listen: vec![format!("/ip4/127.0.0.1/tcp/{p2p}"), format!("/ip4/127.0.0.1/udp/{p2p}/quic-v1")],
            dial: format!("/ip4/127.0.0.1/tcp/{p2p}"),
            http: format!("127.0.0.1:{http}"),
            gateway: gateway.map(|port| format!("127.0.0.1:{port}")),
        }
    }

    /// A container that others know by its service's name.
    pub fn container(node: &NodePlan) -> Self {
        let port = CONTAINER_P2P;
        Self {
            listen: vec![format!("/ip4/0.0.0.0/tcp/{port}"), format!("/ip4/0.0.0.0/udp/{port}/quic-v1")],
            dial: format!("/dns4/{}/tcp/{port}", node.name),
            http: format!("0.0.0.0:{CONTAINER_HTTP}"),
            gateway: node.is(Role::Gateway).then(|| format!("0.0.0.0:{CONTAINER_GATEWAY}")),
        }
    }
}

/// The nodes of these wishes, in the order in which they are started and shown. Those of a process swarm; containers have
/// a boot node of its own before them.
pub fn nodes(wishes: &Wishes, containers: bool) -> Vec<NodePlan> {
    let mut nodes = if containers {
        vec![NodePlan::new(BOOT, &[Role::Boot, Role::Full]), NodePlan::new(GATEWAY, &[Role::Full, Role::Gateway])]
    } else {
        vec![NodePlan::new(GATEWAY, &[Role::Boot, Role::Full, Role::Gateway])]
    };
    nodes.extend((1..=wishes.validators).map(|i| NodePlan::new(format!("validator-{i}"), &[Role::Validator])));
    let (count, markets) = (wishes.miners as usize, serving(wishes));
    for i in 0..count {
        // The markets take turns; within a market each miner is better than the next.
        let (turn, place) = (i % markets.len(), i / markets.len());
        let of = (count + markets.len() - 1 - turn) / markets.len();
        let market = market(&markets, turn);
        let spec = MinerSpec::graded(market.1, place, of);
        let spec = MinerSpec { seed: spec.seed.wrapping_add(wishes.seed.wrapping_mul(1_000)), ..spec };
        let miner = Some(MinerPlan::new(market, spec, None));
        nodes.push(NodePlan { miner, ..NodePlan::new(format!("miner-{}", i + 1), &[Role::Miner]) });
    }
    let miners = |extra: &Extra| *extra != Extra::Forecast && !(containers && *extra == Extra::Upstream);
    for (i, extra) in wishes.with.iter().enumerate().filter(|(_, extra)| miners(extra)) {
        if *extra == Extra::Competition {
            nodes.extend(competitors(wishes.seed));
            continue;
        }
        let before = wishes.with.iter().take(i).filter(|e| *e == extra).count();
        let name = format!("{}-{}", extra.name().replace('_', "-"), before + 1);
        if extra.manner().is_some() {
            nodes.extend(cheats(*extra, before, &name, market(&markets, before)));
            continue;
        }
        // A late one that is better than most, so that its rise can be seen.
        let market = if *extra == Extra::Upstream { TEXT } else { market(&markets, before) };
        let spec = MinerSpec { seed: 900 + i as u64, ..MinerSpec::graded(market.1, 1, 5) };
        let miner = Some(MinerPlan::new(market, spec, Some(*extra)));
        nodes.push(NodePlan { miner, ..NodePlan::new(name, &[Role::Miner]) });
    }
    nodes
}

/// Who competes: models of different worth, a better one that comes late, and one that copies whoever leads.
fn competitors(seed: u64) -> Vec<NodePlan> {
    let of = COMPETITORS + 2;
    let competitor = |i: usize| {
        let (late, copies) = (i == COMPETITORS, i > COMPETITORS);
        // The last has a model of its own that is worth nothing, and never shows it.
        let place = if copies { of - 1 } else { COMPETITORS - i };
        let spec = MinerSpec::graded(ARENA.1, place, of);
        let spec = MinerSpec { seed: 700 + i as u64 + seed.wrapping_mul(1_000), ..spec };
        let miner = MinerPlan::new(ARENA, spec, late.then_some(Extra::Late));
        let behaviour = if copies { PLAGIARIST.to_owned() } else { miner.behaviour.clone() };
        let name = if copies { PLAGIARIST.to_owned() } else { format!("competitor-{}", i + 1) };
        NodePlan { miner: Some(MinerPlan { behaviour, ..miner }), ..NodePlan::new(name, &[Role::Miner]) }
    };
    (0..of).map(competitor).collect()
}

/// A validator that is not honest, and what goes with it.
fn cheats(extra: Extra, before: usize, name: &str, market: (SubnetId, &str)) -> Vec<NodePlan> {
    let validator = NodePlan { manner: Some(extra), ..NodePlan::new(name, &[Role::Validator]) };
    if extra != Extra::SelfDealer {
        return vec![validator];
    }
    let favoured = format!("{name}-miner");
    // The least of its market: what it is given it does not earn by its answers.
    let spec = MinerSpec { seed: 950 + before as u64, ..MinerSpec::graded(market.1, 5, 6) };
    let miner = MinerPlan { behaviour: FAVOURED.to_owned(), ..MinerPlan::new(market, spec, None) };
    let own = NodePlan { miner: Some(miner), ..NodePlan::new(favoured.clone(), &[Role::Miner]) };
    vec![NodePlan { favours: Some(favoured), ..validator }, own]
}

/// The keystore's name of a kind of key.
pub fn key_name(kind: KeyKind) -> &'static str {
    kind.name()
}

/// The kinds of keys that a node holds.
pub fn key_kinds(node: &NodePlan) -> Vec<KeyKind> {
    let mut kinds = vec![KeyKind::Node, KeyKind::Account];
    if node.is(Role::Validator) {
        kinds.push(KeyKind::Consensus);
    }
    kinds
}

/// The key of one kind of one node.
pub fn key(seed: u64, node: &str, kind: KeyKind) -> SecretKey {
    let digest = hash("starling/1 devnet key", &[&seed.to_le_bytes(), kind.name().as_bytes(), b"/", node.as_bytes()]);
    SecretKey::from_seed(digest.0)
}

pub fn account(seed: u64, node: &str) -> AccountId {
    key(seed, node, KeyKind::Account).public().into()
}

pub fn node_id(seed: u64, node: &str) -> NodeId {
    NodeId(key(seed, node, KeyKind::Node).public().0)
}

/// The genesis of these nodes and its text.
///
/// # Errors
/// The values break a rule of the genesis, which would be a fault of this file.
pub fn genesis(wishes: &Wishes, nodes: &[NodePlan], now_ms: u64) -> Result<(String, Genesis), GenesisError> {
    let mut genesis = Genesis::new("devnet", NetworkKind::Devnet, now_ms);
    for node in nodes {
        let balance = if node.is(Role::Gateway) { PURSE } else { BALANCE };
        genesis.accounts.push(GenesisAccount { account: account(wishes.seed, &node.name), balance });
        if node.is(Role::Validator) {
            genesis.committee.push(GenesisVoter {
                consensus: key(wishes.seed, &node.name, KeyKind::Consensus).public(),
                account: account(wishes.seed, &node.name),
                node: Some(node_id(wishes.seed, &node.name)),
                stake: STAKE,
                support: markets(wishes).into_iter().map(|(id, _)| id).collect(),
            });
        }
    }
    if let Some(pace_ms) = wishes.pace_ms {
        (genesis.parameters.interval_ms, genesis.parameters.idle_ms) = (pace_ms, pace_ms);
    }
    // The markets are those of whoever is at the keyboard.
    let owner = nodes.iter().find(|node| node.is(Role::Gateway)).map(|node| account(wishes.seed, &node.name));
    for (id, task) in markets(wishes) {
        let mut rules = SubnetRules::defaults(NetworkKind::Devnet);
        rules.tempo = wishes.tempo.unwrap_or(rules.tempo);
        // One machine carries everybody, and is late at times: all of an epoch but what its close takes is for opening.
        rules.reveal_window = rules.tempo.saturating_sub(CLOSE_HEIGHTS).max(rules.reveal_window).min(rules.tempo);
        // One program judges here: what it computes again must be the same, and a logarithm nearly so on another machine.
        (rules.replay, rules.replay_tolerance) = if task == "text" { (1, REPLAY_TOLERANCE) } else { (0, 0) };
        rules.kind = u64::from(id == ARENA.0);
        let name = market_name(id, task).to_owned();
        genesis.subnets.push(GenesisSubnet { id, name, task: task.to_owned(), owner, rules });
    }
    genesis.seal()
}

/// The addresses by which a node joins: the first few nodes, itself left out.
pub fn bootnodes(seed: u64, of: &str, nodes: &[(NodePlan, Place)]) -> Vec<String> {
    let boot: Vec<_> = match nodes.iter().find(|(node, _)| node.name == BOOT) {
        Some(boot) => vec![boot],
        None => nodes.iter().filter(|(n, _)| n.is(Role::Boot) || n.is(Role::Validator)).take(BOOTNODES).collect(),
    };
    boot.into_iter()
        .filter(|(node, _)| node.name != of)
        .filter_map(|(node, place)| {
            let peer = peer_id_text(node_id(seed, &node.name))?;
            Some(format!("{}/p2p/{peer}", place.dial))
        })
        .collect()
}

/// The configuration file of a node. Its paths are its own folder, so that the folder can be mounted anywhere.
pub fn config(seed: u64, node: &NodePlan, place: &Place, bootnodes: &[String]) -> String {
    let list = |items: &[String]| items.iter().map(|i| format!("{i:?}")).collect::<Vec<_>>().join(", ");
    let roles: Vec<String> = node.roles.iter().map(|r| r.name().to_owned()).collect();
    let mut text = format!(
        "# {name} of a devnet; written by `starling devnet`, taken away by `starling devnet reset`.\n\n\
         [node]\nname = {name:?}\nroles = [{roles}]\ndata_dir = \".\"\n\n\
         [network]\ngenesis = \"genesis.toml\"\nlisten = [{listen}]\nbootnodes = [{boot}]\ndev = true\n\n\
         [http]\nbind = {http:?}\n",
        name = node.name,
        roles = list(&roles),
        listen = list(&place.listen),
        boot = list(bootnodes),
        http = place.http,
    );
    if let Some(bind) = &place.gateway {
        // A container's gateway is reached from its host alone, by the published port.
        let open = if bind.starts_with("127.") { "" } else { "insecure = true\n" };
        text += &format!("\n[gateway]\nbind = {bind:?}\n{open}");
    }
    if let Some(miner) = &node.miner {
        text += &format!(
            "\n[[miner.entries]]\nsubnet = {:?}\nbehaviour = {:?}\nmodel = {:?}\nsamples = {}\nsteps = {}\nwidth = {}\nseed = {}\n",
            market_name(miner.subnet, &miner.task),
            miner.told().name(),
            miner.model.map_or("auto", Kind::name),
            miner.samples,
            miner.steps,
            miner.width,
            miner.seed
        );
        if let Some(url) = &miner.upstream {
            text += &format!("engine = \"upstream\"\nupstream_url = {url:?}\nupstream_model = {ENGINE_MODEL:?}\n");
            text += "upstream_template = \"plain\"\nupstream_silence_ms = 3000\n";
        }
    }
    if let Some(manner) = node.manner.and_then(Extra::manner) {
        let favours: Vec<String> = node.favours.iter().map(|name| account(seed, name).to_string()).collect();
        text += &format!("\n[validator]\nbehaviour = {:?}\nfavours = [{}]\n", manner.name(), list(&favours));
    }
    // Many nodes share a few cores: one thread of work each.
    text += "\n[pool]\nthreads = 1\n\n[artifacts]\nquota_mb = 256\nsurvey_s = 3\n\n[log]\nfilter = \"info,libp2p_gossipsub=error\"\nformat = \"human\"\n";
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::layers::Layered;

    fn wishes(validators: u32, miners: u32, with: &[Extra]) -> Wishes {
        Wishes { validators, miners, seed: 7, with: with.to_vec(), tempo: None, pace_ms: None }
    }

    fn placed(nodes: &[NodePlan]) -> Vec<(NodePlan, Place)> {
        let place = |(i, node): (usize, &NodePlan)| {
            let port = 20_000 + u16::try_from(i).unwrap() * 2;
            (node.clone(), Place::loopback(port, port + 1, node.is(Role::Gateway).then_some(8_080)))
        };
        nodes.iter().enumerate().map(place).collect()
    }

    #[test]
    fn the_default_devnet_has_eleven_nodes_and_two_graded_markets() {
        let nodes = nodes(&wishes(4, 6, &[]), false);
        let names: Vec<&str> = nodes.iter().map(|n| n.name.as_str()).collect();
        let expected =
            "gateway validator-1 validator-2 validator-3 validator-4 miner-1 miner-2 miner-3 miner-4 miner-5 miner-6";
        assert_eq!(names.join(" "), expected);
        for (_, task) in SUBNETS {
            let row: Vec<&MinerPlan> =
                nodes.iter().filter_map(|n| n.miner.as_ref()).filter(|m| m.task == task).collect();
            assert_eq!(row.len(), 3, "{task}");
            assert!(row.windows(2).all(|pair| pair[0].steps > pair[1].steps && pair[0].samples > pair[1].samples));
        }
    }

    #[test]
    fn a_competition_has_models_that_differ_a_better_late_one_and_a_copy() {
        let wishes = wishes(4, 2, &[Extra::Competition]);
        let nodes = nodes(&wishes, false);
        let in_arena: Vec<(&str, &MinerPlan)> = nodes
            .iter()
            .filter_map(|node| Some((node.name.as_str(), node.miner.as_ref().filter(|m| m.subnet == ARENA.0)?)))
            .collect();
        let names: Vec<(&str, &str)> = in_arena.iter().map(|(name, miner)| (*name, miner.behaviour.as_str())).collect();
        assert_eq!(
            names,
            [
                ("competitor-1", "honest"),
                ("competitor-2", "honest"),
                ("competitor-3", "honest"),
                ("competitor-4", "late"),
                ("plagiarist", "plagiarist")
            ]
        );
        let steps: Vec<u64> = in_arena.iter().map(|(_, miner)| miner.steps).collect();
        assert!(steps.windows(2).take(3).all(|two| two[0] < two[1]) && steps[4] < steps[0], "{steps:?}");
        let genesis = genesis(&wishes, &nodes, 1).unwrap().1;
        let kinds: Vec<(&str, u64)> = genesis.subnets.iter().map(|of| (of.name.as_str(), of.rules.kind)).collect();
        assert_eq!(kinds, [("vision", 0), ("text", 0), ("arena", 1)]);
    }

    #[test]
    fn extras_have_their_behaviour_and_the_late_one_is_told_nothing() {
        let extras = [Extra::Random, Extra::Late, Extra::Random];
        let nodes = nodes(&wishes(1, 0, &extras), false);
        let told: Vec<(&str, &str, &str)> = nodes
            .iter()
            .filter_map(|n| n.miner.as_ref().map(|m| (n.name.as_str(), m.task.as_str(), m.told().name())))
            .collect();
        assert_eq!(
            told,
            [("random-1", "vision", "random"), ("late-1", "vision", "honest"), ("random-2", "text", "random")]
        );
        assert!(Extra::named("lazy").is_none());
    }

    #[test]
    fn validators_that_cheat_are_told_how_and_a_self_dealer_has_a_miner_of_another_account() {
        let extras = [Extra::Copier, Extra::NonRevealer, Extra::SelfDealer];
        let nodes = nodes(&wishes(4, 6, &extras), false);
        let names: Vec<&str> = nodes.iter().skip(11).map(|n| n.name.as_str()).collect();
        assert_eq!(names, ["copier-1", "non-revealer-1", "self-dealer-1", "self-dealer-1-miner"]);
        let places = placed(&nodes);
        let text = |name: &str| {
            let (node, place) = places.iter().find(|(node, _)| node.name == name).unwrap();
            config(7, node, place, &[])
        };
        assert!(text("copier-1").contains("behaviour = \"copier\""));
        assert!(text("self-dealer-1").contains(&account(7, "self-dealer-1-miner").to_string()));
        assert_ne!(account(7, "self-dealer-1"), account(7, "self-dealer-1-miner"));
        let pace = Wishes { tempo: Some(6), pace_ms: Some(250), ..wishes(4, 6, &[]) };
        let (_, made) = genesis(&pace, &nodes, 1_700_000_000_000).unwrap();
        assert_eq!((made.parameters.interval_ms, made.subnets[0].rules.tempo), (250, 6));
    }

    #[test]
    fn a_third_market_is_an_extra_and_takes_its_share_of_the_miners() {
        let wishes = wishes(4, 9, &[Extra::Forecast, Extra::Random]);
        let nodes = nodes(&wishes, false);
        let of = |task: &str| nodes.iter().filter_map(|n| n.miner.as_ref()).filter(|m| m.task == task).count();
        assert_eq!(["vision", "text", "forecast"].map(of), [4, 3, 3], "the guesser is one more");
        assert!(nodes.iter().all(|n| !n.name.starts_with("forecast")));
        let genesis = genesis(&wishes, &nodes, 1_700_000_000_000).unwrap().1;
        assert_eq!(genesis.subnets.last().map(|s| s.task.as_str()), Some("forecast"));
    }

    #[test]
    fn every_configuration_is_one_the_node_reads() {
        for containers in [false, true] {
            let extras = [Extra::Silent, Extra::Copier, Extra::SelfDealer, Extra::Forecast];
            let nodes = nodes(&wishes(4, 4, &extras), containers);
            let places: Vec<(NodePlan, Place)> = if containers {
                nodes.iter().map(|n| (n.clone(), Place::container(n))).collect()
            } else {
                placed(&nodes)
            };
            for (node, place) in &places {
                let text = config(7, node, place, &bootnodes(7, &node.name, &places));
                let mut layered = Layered::default();
                layered.add_text(&text, std::path::Path::new("/swarm/x/config.toml")).unwrap();
                let own: toml::Table = text.parse().unwrap();
                assert_eq!(own["node"]["name"].as_str(), Some(node.name.as_str()));
                let count = own["network"]["bootnodes"].as_array().unwrap().len();
                let expected = match (containers, node.name.as_str()) {
                    (true, BOOT) => 0,
                    (true, _) => 1,
                    (false, "gateway" | "validator-1" | "validator-2") => 2,
                    (false, _) => 3,
                };
                assert_eq!(count, expected, "{} {containers}", node.name);
            }
        }
    }

    #[test]
    fn the_genesis_holds_and_keys_follow_from_the_seed() {
        let wishes = wishes(4, 6, &[Extra::Late]);
        let nodes = nodes(&wishes, false);
        let (text, made) = genesis(&wishes, &nodes, 1_700_000_000_000).unwrap();
        assert_eq!(made.committee.len(), 4);
        assert_eq!(made.accounts.len(), nodes.len());
        assert_eq!(made.subnets.len(), 2);
        assert_eq!(genesis(&wishes, &nodes, 1_700_000_000_000).unwrap().0, text);
        let keys: BTreeSet<_> =
            nodes.iter().flat_map(|n| key_kinds(n).into_iter().map(|kind| key(7, &n.name, kind).public())).collect();
        assert_eq!(keys.len(), nodes.len() * 2 + 4);
        assert_ne!(account(7, "gateway"), account(8, "gateway"));
    }
}
