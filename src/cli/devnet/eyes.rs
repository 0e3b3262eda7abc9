//! One look at every node: its process, and what it says of itself over HTTP. A node that does not answer is a view too.

use std::time::Duration;

use super::processes::{alive, memory_peak};
use super::record::{NodeRecord, Record};
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::protocol::ids::{Height, SubnetId};
use crate::protocol::report::{HeadReport, MetagraphReport, MinerReport, NodeState, NodeStatus};

/// A healthy node on this machine answers in milliseconds; one that is stuck must not hold up the look.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// What is to be seen of one node.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub name: String,
    pub role: String,
    pub pid: Option<u32>,
    pub status: Option<NodeStatus>,
    pub head: Option<HeadReport>,
    /// Of miners, when asked for.
    pub miner: Option<MinerReport>,
}

impl View {
    pub fn height(&self) -> Height {
        self.status.as_ref().map_or(0, |s| s.height)
    }

    /// The state in one word: what the node says, or what its silence means.
    pub fn state(&self) -> String {
        match (&self.pid, &self.status) {
            (None, _) => "down".to_owned(),
            (Some(_), None) => "silent".to_owned(),
            (Some(_), Some(status)) => status.state.to_string(),
        }
    }

    pub fn is_ready(&self) -> bool {
        self.status.as_ref().is_some_and(|s| s.state == NodeState::Ready)
    }
}

/// The nodes of a devnet and a connection to each.
#[derive(Debug)]
pub struct Eyes {
    nodes: Vec<(NodeRecord, Client)>,
}

impl Eyes {
    /// # Errors
    /// An address of the record is no URL.
    pub fn new(record: &Record) -> Result<Self, CliError> {
        let client = |node: &NodeRecord| Ok((node.clone(), Client::new(&node.http, PATIENCE)?));
        Ok(Self { nodes: record.nodes.iter().map(client).collect::<Result<_, CliError>>()? })
    }

    /// Looks at all nodes at once.
    pub fn look(&self, miners: bool) -> Vec<View> {
        std::thread::scope(|scope| {
            let looks: Vec<_> =
                self.nodes.iter().map(|(node, client)| scope.spawn(move || look(node, client, miners))).collect();
            looks
                .into_iter()
                .zip(&self.nodes)
                .map(|(look, (node, _))| look.join().unwrap_or_else(|_| unseen(node)))
                .collect()
        })
    }

    /// The connection to a living node, those of this role first.
    pub fn any(&self, role: &str) -> Option<&Client> {
        let living =
            |wanted: bool| self.nodes.iter().find(move |(n, _)| (n.role == role) == wanted && alive(n).is_some());
        living(true).or_else(|| living(false)).map(|(_, client)| client)
    }

    pub fn of(&self, name: &str) -> Option<&Client> {
        self.nodes.iter().find(|(node, _)| node.name == name).map(|(_, client)| client)
    }

    /// The table of a subnet as a living validator sees it, with its own scores.
    pub fn metagraph(&self, subnet: SubnetId) -> Option<MetagraphReport> {
        self.any("validator")?.get(&format!("/api/v1/subnets/{subnet}/metagraph")).ok()
    }

    /// The most memory that any living node ever had resident.
    pub fn memory_peak(&self) -> u64 {
        self.nodes.iter().filter_map(|(node, _)| memory_peak(alive(node)?)).max().unwrap_or(0)
    }
}

fn unseen(node: &NodeRecord) -> View {
    View { name: node.name.clone(), role: node.role.clone(), pid: alive(node), ..View::default() }
}

fn look(node: &NodeRecord, client: &Client, miners: bool) -> View {
    let view = unseen(node);
    if view.pid.is_none() {
        return view;
    }
    let status = client.get("/api/v1/status").ok();
    // A node that does not tell its status is not asked for more: it would only cost patience.
    let head = status.as_ref().and_then(|_: &NodeStatus| client.get("/api/v1/head").ok());
    let miner =
        (miners && node.miner.is_some() && status.is_some()).then(|| client.get("/api/v1/miner").ok()).flatten();
    View { status, head, miner, ..view }
}
