//! A plan made real on disk: folders, keys, configurations, genesis; and free ports for it.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use super::plan::{self, Extra, NodePlan, Place, Wishes};
use super::record::{ENGINE, NodeRecord, Record, write_whole};
use crate::cli::error::{CliError, Exit};
use crate::config::Role;
use crate::ml::engine::cpu::{CpuEngine, MEMORY_BYTES};
use crate::ml::engine::{Control, Engine as _};
use crate::ml::task::{self, MinerSpec};
use crate::net::peer_id_text;
use crate::protocol::chance::Chance;
use crate::protocol::genesis::Genesis;
use crate::protocol::ids::{AccountId, NodeId};
use crate::protocol::report::Moment;
use crate::store::keystore::{KeyKind, Keystore, Protection};

/// Ports are looked for from here on, below those the system hands out by itself.
const PORTS_FROM: u16 = 20_000;
const PORTS_UNTIL: u16 = 32_000;
/// Whom a container runs as; its image has no other user.
const CONTAINER_USER: u32 = 65_532;

/// Whether nobody listens on a port of loopback, neither TCP nor UDP.
pub fn port_is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok()
}

/// So many free ports. Two devnets that start at once look from different places.
///
/// # Errors
/// There are not so many.
pub fn free_ports(count: usize) -> Result<Vec<u16>, CliError> {
    let span = PORTS_UNTIL - PORTS_FROM;
    let start = u16::try_from(std::process::id() * 61 % u32::from(span)).unwrap_or(0);
    let all = (0..span).map(|i| PORTS_FROM + (start + i) % span);
    let free: Vec<u16> = all.filter(|port| port_is_free(*port)).take(count).collect();
    if free.len() < count {
        let message =
            format!("{count} free ports are needed between {PORTS_FROM} and {PORTS_UNTIL}, {} are free", free.len());
        return Err(CliError::new(Exit::Failed, message, "stop what uses them"));
    }
    Ok(free)
}

/// The port of the gateway: the one asked for, or any free one for 0.
///
/// # Errors
/// It is in use.
pub fn gateway_port(wanted: u16) -> Result<u16, CliError> {
    if wanted == 0 {
        return free_ports(1).map(|ports| ports.first().copied().unwrap_or(0));
    }
    if TcpListener::bind(("127.0.0.1", wanted)).is_ok() {
        return Ok(wanted);
    }
    let help = "choose another with --gateway-port, 0 for any free one";
    Err(CliError::new(Exit::Failed, format!("port {wanted} of 127.0.0.1 is in use by another program"), help)
        .coded("port_in_use"))
}

fn make_dir(path: &Path) -> Result<(), CliError> {
    fs::create_dir_all(path).map_err(|e| CliError::file(path, &e))
}

/// Writes one node's folder.
fn write_node(
    dir: &Path,
    seed: u64,
    node: &NodePlan,
    place: &Place,
    bootnodes: &[String],
    genesis: &str,
) -> Result<(), CliError> {
    make_dir(dir)?;
    write_whole(&dir.join("genesis.toml"), genesis.as_bytes())?;
    write_whole(&dir.join("config.toml"), plan::config(seed, node, place, bootnodes).as_bytes())?;
    let keys = Keystore::at(dir.join("keys"));
    // Plain keys draw nothing; sealed ones would.
    let mut chance = Chance::from_seed(*plan::key(seed, &node.name, KeyKind::Node).seed());
    for kind in plan::key_kinds(node) {
        keys.create(kind.name(), kind, &plan::key(seed, &node.name, kind), &Protection::Plain, &mut chance)?;
    }
    Ok(())
}

/// Lays out a swarm of processes on loopback.
///
/// # Errors
/// The folder cannot be written, or there are no free ports.
pub fn processes(dir: &Path, wishes: &Wishes, gateway_port: u16, now: Moment) -> Result<Record, CliError> {
    let nodes = plan::nodes(wishes, false);
    let ports = free_ports(nodes.len() * 2 + 1 + wishes.with.len())?;
    let mut ports = ports.into_iter().filter(|port| *port != gateway_port);
    let mut next = || ports.next().unwrap_or(0);
    let mut placed = Vec::new();
    let mut used = Vec::new();
    let mut engines = Vec::new();
    for mut node in nodes {
        let (p2p, http) = (next(), next());
        if let Some(miner) = node.miner.as_mut().filter(|miner| miner.behaviour == Extra::Upstream.name()) {
            let port = next();
            let engine = engine_of(dir, &node.name, port);
            miner.upstream = Some(engine.http.clone());
            engines.push(engine);
        }
        let gateway = node.is(Role::Gateway).then_some(gateway_port);
        used.push([p2p, http].into_iter().chain(gateway).collect::<Vec<u16>>());
        placed.push((node, Place::loopback(p2p, http, gateway)));
    }
    let (text, genesis) = made(wishes, &placed, now)?;
    let records = placed.iter().zip(used).map(|((node, place), ports)| {
        let http = format!("http://{}", place.http);
        NodeRecord { ports, ..record_of(wishes, node, place, http, dir.join(&node.name)) }
    });
    let url = format!("http://127.0.0.1:{gateway_port}");
    let record = Record::new(dir, wishes.clone(), now, genesis.chain_id(), url, records.collect());
    let record = Record { engines, ..record };
    write_all(dir, &record, wishes, &placed, &text)?;
    Ok(record)
}

/// The server of an upstream miner: a process of this program on a port of loopback.
fn engine_of(dir: &Path, miner: &str, port: u16) -> NodeRecord {
    let name = format!("{miner}-engine");
    NodeRecord {
        role: ENGINE.to_owned(),
        node: NodeId::default(),
        account: AccountId::default(),
        p2p: String::new(),
        http: format!("http://127.0.0.1:{port}"),
        data_dir: dir.join(&name),
        miner: None,
        manner: None,
        ports: vec![port],
        name,
    }
}

/// Gives an engine the model that its miner's numbers make, unless it has one.
///
/// # Errors
/// The model cannot be trained or written.
pub fn teach(record: &Record, engine: &NodeRecord) -> Result<(), CliError> {
    let file = engine.engine_file();
    let wanted = record.miners().find(|(_, miner)| miner.upstream.as_ref() == Some(&engine.http));
    let Some((_, miner)) = wanted.filter(|_| !file.is_file()) else { return Ok(()) };
    make_dir(&engine.data_dir)?;
    let failed = |error: String| CliError::failed(format!("{} cannot be taught: {error}", engine.name));
    let task = task::open(&miner.task).map_err(|e| failed(e.to_string()))?;
    let (model, samples, steps, width, seed) = (miner.model, miner.samples, miner.steps, miner.width, miner.seed);
    let job = task.job(&MinerSpec { model, samples, steps, width, seed });
    let mut cpu = CpuEngine::new(MEMORY_BYTES).map_err(|e| failed(e.to_string()))?;
    let trained = cpu.train(None, &job, &Control::FREE).map_err(|e| failed(e.to_string()))?;
    write_whole(&file, &trained.artifact.to_bytes())
}

fn record_of(wishes: &Wishes, node: &NodePlan, place: &Place, http: String, data_dir: PathBuf) -> NodeRecord {
    let id = plan::node_id(wishes.seed, &node.name);
    NodeRecord {
        name: node.name.clone(),
        role: node.role().to_owned(),
        node: id,
        account: plan::account(wishes.seed, &node.name),
        p2p: format!("{}/p2p/{}", place.dial, peer_id_text(id).unwrap_or_default()),
        http,
        data_dir,
        miner: node.miner.clone(),
        manner: node.manner,
        ports: Vec::new(),
    }
}

/// The record goes first: what is broken off half-way is then known to be ours, and can be reset.
fn write_all(
    dir: &Path,
    record: &Record,
    wishes: &Wishes,
    placed: &[(NodePlan, Place)],
    genesis: &str,
) -> Result<(), CliError> {
    make_dir(dir)?;
    record.save()?;
    write_whole(&dir.join("genesis.toml"), genesis.as_bytes())?;
    for (node, place) in placed {
        let bootnodes = plan::bootnodes(wishes.seed, &node.name, placed);
        write_node(&dir.join(&node.name), wishes.seed, node, place, &bootnodes, genesis)?;
    }
    Ok(())
}

fn made(wishes: &Wishes, placed: &[(NodePlan, Place)], now: Moment) -> Result<(String, Genesis), CliError> {
    let nodes: Vec<NodePlan> = placed.iter().map(|(node, _)| node.clone()).collect();
    plan::genesis(wishes, &nodes, now.0).map_err(|e| CliError::new(Exit::Config, format!("the genesis: {e}"), ""))
}

/// Lays out a swarm of containers: a folder for each, to be mounted at `/data`, and the settings of the compose file.
///
/// # Errors
/// The folder holds something already or cannot be written.
pub fn containers(dir: &Path, wishes: &Wishes, now: Moment) -> Result<Record, CliError> {
    if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        let message = format!("{} is not empty", dir.display());
        return Err(CliError::new(Exit::Failed, message, "name a folder that does not exist yet"));
    }
    let placed: Vec<(NodePlan, Place)> =
        plan::nodes(wishes, true).into_iter().map(|node| (node.clone(), Place::container(&node))).collect();
    let (text, genesis) = made(wishes, &placed, now)?;
    let records = placed.iter().map(|(node, place)| {
        let http = format!("http://{}:{}", node.name, plan::CONTAINER_HTTP);
        record_of(wishes, node, place, http, node.name.clone().into())
    });
    let url = format!("http://{}:{}", plan::GATEWAY, plan::CONTAINER_GATEWAY);
    let record = Record::new(dir, wishes.clone(), now, genesis.chain_id(), url, records.collect());
    write_all(dir, &record, wishes, &placed, &text)?;
    // Root may give the folders to the image's own user; anybody else lets the containers run as themselves.
    let made = fs::metadata(dir).map_err(|e| CliError::file(dir, &e))?;
    let own = (made.uid(), made.gid());
    let (user, group) = if own.0 == 0 { (CONTAINER_USER, CONTAINER_USER) } else { own };
    if own.0 == 0 {
        give(dir, user)?;
    }
    write_whole(&dir.join(".env"), format!("STARLING_UID={user}\nSTARLING_GID={group}\n").as_bytes())?;
    Ok(record)
}

fn give(path: &Path, user: u32) -> Result<(), CliError> {
    let failed = |e: std::io::Error| CliError::file(path, &e);
    chown(path, Some(user), Some(user)).map_err(failed)?;
    if path.is_dir() {
        for entry in fs::read_dir(path).map_err(failed)? {
            give(&entry.map_err(failed)?.path(), user)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("starling-layout-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    #[test]
    fn a_port_in_use_is_said_and_zero_finds_another() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = gateway_port(port).unwrap_err();
        assert!(error.message.contains(&port.to_string()) && error.help.contains("--gateway-port"), "{error:?}");
        assert!(port_is_free(gateway_port(0).unwrap()));
        assert!(!port_is_free(port));
        let ports = free_ports(20).unwrap();
        assert_eq!(ports.iter().collect::<std::collections::BTreeSet<_>>().len(), 20);
    }

    #[test]
    fn the_folder_holds_what_every_node_needs_and_the_record_reads_back() {
        let dir = scratch("processes");
        let wishes = Wishes { validators: 2, miners: 2, seed: 3, with: vec![], tempo: None, pace_ms: None };
        let record = processes(&dir, &wishes, gateway_port(0).unwrap(), Moment(1_700_000_000_000)).unwrap();
        assert_eq!(Record::open(&dir).unwrap(), record);
        assert_eq!(record.nodes.len(), 5);
        for node in &record.nodes {
            assert!(node.data_dir.join("config.toml").is_file() && node.data_dir.join("genesis.toml").is_file());
            let info = Keystore::at(node.data_dir.join("keys")).info("account").unwrap();
            assert_eq!(crate::protocol::ids::AccountId::from(info.public), node.account);
            assert!(node.p2p.contains("/p2p/"), "{}", node.p2p);
        }
        assert!(record.node("miner-9").unwrap_err().help.contains("miner-2"));
        fs::remove_dir_all(&dir).unwrap();
        assert!(Record::open(&dir).unwrap_err().help.contains("devnet up"));
    }

    #[test]
    fn an_upstream_miner_has_a_server_of_its_own() {
        let dir = scratch("upstream");
        let with = vec![Extra::Upstream];
        let wishes = Wishes { validators: 1, miners: 1, seed: 3, with, tempo: None, pace_ms: None };
        let record = processes(&dir, &wishes, gateway_port(0).unwrap(), Moment(1_700_000_000_000)).unwrap();
        let [engine] = record.engines.as_slice() else { panic!("{:?}", record.engines) };
        assert_eq!((record.processes().count(), engine.name.as_str()), (5, "upstream-1-engine"));
        let text = fs::read_to_string(dir.join("upstream-1/config.toml")).unwrap();
        assert!(text.contains("engine = \"upstream\"") && text.contains(&engine.http), "{text}");
        assert_eq!(Record::open(&dir).unwrap(), record);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn containers_join_by_name_and_never_overwrite() {
        let dir = scratch("containers");
        let wishes = Wishes { validators: 4, miners: 4, seed: 3, with: vec![], tempo: None, pace_ms: None };
        let record = containers(&dir, &wishes, Moment(1_700_000_000_000)).unwrap();
        assert_eq!(record.nodes.len(), 10);
        let text = fs::read_to_string(dir.join("miner-1/config.toml")).unwrap();
        assert!(text.contains("/dns4/boot/tcp/9470/p2p/"), "{text}");
        assert!(fs::read_to_string(dir.join(".env")).unwrap().contains("STARLING_UID="));
        assert!(containers(&dir, &wishes, Moment(0)).unwrap_err().message.contains("not empty"));
        fs::remove_dir_all(&dir).unwrap();
    }
}
