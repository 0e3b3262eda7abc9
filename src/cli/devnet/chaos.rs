//! `devnet chaos`: trouble on purpose. Kills and restarts real processes; cuts and delays links by asking each node, which
//! obeys only in development. What is in force is kept in `chaos.json`, so that each command changes one thing and a node
//! that is restarted gets its trouble back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use clap::Subcommand;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::interrupt::Interrupt;
use super::processes::{self, Children, GRACE, alive, last_words};
use super::record::{NodeRecord, Record, write_whole};
use crate::cli::client::Client;
use crate::cli::error::{CliError, Exit};
use crate::cli::output::Reply;
use crate::protocol::ids::NodeId;
use crate::protocol::report::NodeStatus;

pub const FILE: &str = "chaos.json";
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a restarted node may take to answer: it reads its journals first.
const RESTART: Duration = Duration::from_secs(30);
const LAG_MAX_MS: u64 = 10_000;

#[derive(Subcommand, Debug)]
pub enum Chaos {
    /// End a node's process
    Kill {
        node: String,
        /// At once (SIGKILL), without a chance to tidy up
        #[arg(short = '9', long = "hard")]
        hard: bool,
    },
    /// Start a node's process again, after ending it if it runs
    Restart { node: String },
    /// Cut the links between groups of nodes; nodes in no group are one more
    Partition {
        /// Names joined by commas, like validator-1,validator-2
        #[arg(required = true, value_name = "A,B")]
        groups: Vec<String>,
    },
    /// Take back every cut and delay
    Heal,
    /// Delay everything a node says and hears
    Lag {
        node: String,
        #[arg(value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=LAG_MAX_MS))]
        ms: u64,
    },
}

/// The trouble of one node: what its development endpoint is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Trouble {
    blocked: BTreeSet<NodeId>,
    lag_ms: u64,
}

type Troubles = BTreeMap<String, Trouble>;

fn read(record: &Record) -> Troubles {
    let text = fs::read_to_string(record.dir.join(FILE)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn write(record: &Record, troubles: &Troubles) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(troubles).map_err(|e| CliError::failed(e.to_string()))?;
    write_whole(&record.dir.join(FILE), text.as_bytes())
}

fn tell(node: &NodeRecord, trouble: &Trouble) -> Result<(), CliError> {
    let client = Client::new(&node.http, PATIENCE)?;
    let body = json!({ "blocked": trouble.blocked, "lag_ms": trouble.lag_ms });
    client.post("/api/v1/dev/chaos", "application/json", body.to_string().as_bytes()).map(|_| ())
}

/// Tells every living node its trouble; all of them, even when one does not listen.
fn tell_all(record: &Record, troubles: &Troubles) -> Result<Vec<String>, CliError> {
    let none = Trouble::default();
    let (mut told, mut deaf) = (Vec::new(), None);
    for node in record.nodes.iter().filter(|node| alive(node).is_some()) {
        match tell(node, troubles.get(&node.name).unwrap_or(&none)) {
            Ok(()) => told.push(node.name.clone()),
            Err(error) => deaf = Some(CliError { message: format!("{}: {}", node.name, error.message), ..error }),
        }
    }
    deaf.map_or(Ok(told), Err)
}

impl Chaos {
    /// # Errors
    /// There is no such node, it does not run, or it does not do as it is told.
    pub fn run(self, record: &Record) -> Result<Reply, CliError> {
        match self {
            Self::Kill { node, hard } => kill(record.node(&node)?, hard),
            Self::Restart { node } => restart(record, record.node(&node)?),
            Self::Partition { groups } => partition(record, &groups),
            Self::Heal => heal(record),
            Self::Lag { node, ms } => lag(record, record.node(&node)?, ms),
        }
    }
}

fn kill(node: &NodeRecord, hard: bool) -> Result<Reply, CliError> {
    let Some(pid) = alive(node) else {
        return Err(CliError::not_found(
            format!("{} does not run", node.name),
            "`starling devnet status` shows what does",
        ));
    };
    let signal = if hard { Signal::SIGKILL } else { Signal::SIGTERM };
    processes::send(pid, signal)?;
    if !processes::await_end(&[node], &mut Children::default(), &Interrupt::never(), GRACE) {
        let message = format!("{} (process {pid}) goes on after {signal}", node.name);
        return Err(CliError::new(Exit::Failed, message, "add -9 to end it at once"));
    }
    let data = json!({ "node": node.name, "pid": pid, "signal": signal.as_str() });
    let reply = Reply::of(&data).line(format!("{} (process {pid}) has ended after {signal}.", node.name));
    Ok(reply.hint(format!("starling devnet chaos restart {}", node.name)))
}

fn restart(record: &Record, node: &NodeRecord) -> Result<Reply, CliError> {
    let (mut children, interrupt) = (Children::default(), Interrupt::listen()?);
    processes::stop([node], &mut children, &interrupt)?;
    let pid = children.start(node)?;
    let client = Client::new(&node.http, PATIENCE)?;
    let began = Instant::now();
    if node.is_engine() {
        // It takes no part in anything that could be waited for.
        let data = json!({ "node": node.name, "pid": pid });
        return Ok(Reply::of(&data).line(format!("{} runs again (process {pid}).", node.name)));
    }
    let status: NodeStatus = loop {
        children.reap();
        if alive(node).is_none() {
            return Err(CliError::failed(format!("{} has ended again:\n{}", node.name, last_words(&node.log(), 6))));
        }
        match client.get("/api/v1/status") {
            Ok(status) => break status,
            Err(error) if began.elapsed() > RESTART => return Err(error),
            Err(_) if interrupt.wait(Duration::from_millis(100)) => return Err(super::ready::interrupted()),
            Err(_) => {}
        }
    };
    if let Some(trouble) = read(record).get(&node.name) {
        tell(node, trouble)?;
    }
    let data = json!({ "node": node.name, "pid": pid, "height": status.height });
    Ok(Reply::of(&data).line(format!("{} runs again as process {pid}, at height {}.", node.name, status.height)))
}

/// Which nodes each node may not talk to when these groups are cut from each other and from all others.
fn cuts(record: &Record, groups: &[String]) -> Result<BTreeMap<String, BTreeSet<NodeId>>, CliError> {
    let mut group_of: BTreeMap<&str, usize> = BTreeMap::new();
    for (i, group) in groups.iter().enumerate() {
        for name in group.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let node = record.node(name)?;
            if group_of.insert(&node.name, i + 1).is_some_and(|before| before != i + 1) {
                return Err(CliError::usage(format!("{name} stands in two groups")));
            }
        }
    }
    let group = |node: &NodeRecord| group_of.get(node.name.as_str()).copied().unwrap_or(0);
    let blocked = |node: &NodeRecord| {
        record.nodes.iter().filter(|other| group(other) != group(node)).map(|other| other.node).collect()
    };
    Ok(record.nodes.iter().map(|node| (node.name.clone(), blocked(node))).collect())
}

fn partition(record: &Record, groups: &[String]) -> Result<Reply, CliError> {
    let mut troubles = read(record);
    for (name, blocked) in cuts(record, groups)? {
        troubles.entry(name).or_default().blocked = blocked;
    }
    write(record, &troubles)?;
    let told = tell_all(record, &troubles)?;
    let data = json!({ "groups": groups, "told": told });
    let reply = Reply::of(&data).line(format!("Cut off from all others: {}.", groups.join(" | ")));
    Ok(reply.hint("starling devnet chaos heal"))
}

fn heal(record: &Record) -> Result<Reply, CliError> {
    write(record, &Troubles::new())?;
    let told = tell_all(record, &Troubles::new())?;
    Ok(Reply::of(&json!({ "told": told })).line("Every link is as it was."))
}

fn lag(record: &Record, node: &NodeRecord, ms: u64) -> Result<Reply, CliError> {
    let mut troubles = read(record);
    let trouble = troubles.entry(node.name.clone()).or_default();
    trouble.lag_ms = ms;
    tell(node, trouble)?;
    write(record, &troubles)?;
    let data = json!({ "node": node.name, "lag_ms": ms });
    Ok(Reply::of(&data).line(format!("{} says and hears everything {ms} ms later.", node.name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::devnet::plan::{Wishes, nodes};
    use crate::protocol::report::Moment;

    fn record() -> Record {
        let wishes = Wishes { validators: 4, miners: 1, seed: 1, with: vec![], tempo: None, pace_ms: None };
        let nodes = nodes(&wishes, false).into_iter().enumerate().map(|(i, plan)| NodeRecord {
            name: plan.name.clone(),
            role: plan.role().into(),
            node: NodeId([u8::try_from(i).unwrap(); 32]),
            account: Default::default(),
            p2p: String::new(),
            http: String::new(),
            data_dir: "/nowhere".into(),
            miner: None,
            manner: None,
            ports: vec![],
        });
        Record::new("/nowhere".as_ref(), wishes.clone(), Moment(0), Default::default(), String::new(), nodes.collect())
    }

    #[test]
    fn a_partition_cuts_both_ways_and_leaves_the_inside_alone() {
        let record = record();
        let cuts = cuts(&record, &["validator-1,validator-2".into(), "miner-1".into()]).unwrap();
        let blocked = |name: &str| cuts[name].iter().map(|node| node.0[0]).collect::<Vec<_>>();
        // gateway 0, validators 1 to 4, miner 5.
        assert_eq!(blocked("validator-1"), [0, 3, 4, 5]);
        assert_eq!(blocked("validator-3"), [1, 2, 5]);
        assert_eq!(blocked("miner-1"), [0, 1, 2, 3, 4]);
        for (name, node) in record.nodes.iter().map(|n| (&n.name, n.node)) {
            for other in &record.nodes {
                assert_eq!(cuts[name].contains(&other.node), cuts[&other.name].contains(&node));
            }
        }
    }

    #[test]
    fn unknown_names_and_double_ones_are_refused() {
        let record = record();
        assert!(cuts(&record, &["validator-9".into()]).unwrap_err().help.contains("validator-4"));
        assert!(cuts(&record, &["miner-1".into(), "miner-1".into()]).unwrap_err().message.contains("two groups"));
        assert_eq!(kill(record.node("miner-1").unwrap(), true).unwrap_err().exit, Exit::NotFound);
    }
}
