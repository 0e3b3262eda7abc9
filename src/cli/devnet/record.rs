//! `devnet.json`: what runs in a devnet's folder and where, so that every later command finds it.
//!
//! Layout of the folder: `devnet.json`, `genesis.toml`, `chaos.json` while there is trouble on purpose, and a folder for
//! each node with `config.toml`, `genesis.toml`, `keys/`, `log`, `pid` and whatever the node keeps itself.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::plan::{Extra, MinerPlan, Wishes};
use crate::cli::error::CliError;
use crate::protocol::ids::{AccountId, ChainId, NodeId};
use crate::protocol::report::Moment;

const RECORD: &str = "devnet.json";
const VERSION: u32 = 1;
/// The role of a process that is no node: a server that a miner answers with.
pub const ENGINE: &str = "engine";

/// Everything a devnet's folder knows of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub version: u32,
    pub wishes: Wishes,
    pub created: Moment,
    pub chain_id: ChainId,
    pub gateway: Gateway,
    pub nodes: Vec<NodeRecord>,
    /// Servers that miners answer with: processes that are no nodes.
    #[serde(default)]
    pub engines: Vec<NodeRecord>,
    #[serde(skip)]
    pub dir: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
    pub url: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeRecord {
    pub name: String,
    pub role: String,
    pub node: NodeId,
    pub account: AccountId,
    /// A full address that others can dial.
    pub p2p: String,
    /// The URL of its own HTTP.
    pub http: String,
    pub data_dir: PathBuf,
    pub miner: Option<MinerPlan>,
    /// Of validators that are not honest.
    #[serde(default)]
    pub manner: Option<Extra>,
    /// Every port it binds on loopback: links, HTTP, gateway.
    pub ports: Vec<u16>,
}

impl Record {
    pub fn new(
        dir: &Path,
        wishes: Wishes,
        created: Moment,
        chain_id: ChainId,
        gateway: String,
        nodes: Vec<NodeRecord>,
    ) -> Self {
        Self {
            version: VERSION,
            wishes,
            created,
            chain_id,
            gateway: Gateway { url: gateway },
            nodes,
            engines: Vec::new(),
            dir: dir.to_owned(),
        }
    }

    /// The devnet of a folder, if there is one.
    ///
    /// # Errors
    /// The record cannot be read, or is another program's.
    pub fn find(dir: &Path) -> Result<Option<Self>, CliError> {
        let path = dir.join(RECORD);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(CliError::file(&path, &e)),
        };
        let strange = |problem: String| CliError::failed(format!("{}: {problem}", path.display()));
        let record: Self =
            serde_json::from_str(&text).map_err(|e| strange(format!("is no record of a devnet: {e}")))?;
        if record.version != VERSION {
            return Err(strange(format!("was written by another version of this program (layout {})", record.version)));
        }
        Ok(Some(Self { dir: dir.to_owned(), ..record }))
    }

    /// The devnet of a folder.
    ///
    /// # Errors
    /// There is none, or `find` fails.
    pub fn open(dir: &Path) -> Result<Self, CliError> {
        let missing = || {
            let message = format!("there is no devnet in {}", dir.display());
            CliError::not_found(message, "start one with `starling devnet up`, or name its folder with --dir")
        };
        Self::find(dir)?.ok_or_else(missing)
    }

    /// Writes the record whole or not at all.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn save(&self) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(self).map_err(|e| CliError::failed(e.to_string()))?;
        write_whole(&self.dir.join(RECORD), text.as_bytes())
    }

    /// A node by its name.
    ///
    /// # Errors
    /// There is none of that name; those there are are named.
    pub fn node(&self, name: &str) -> Result<&NodeRecord, CliError> {
        self.processes().find(|n| n.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.processes().map(|n| n.name.as_str()).collect();
            CliError::not_found(format!("no node is named \"{name}\""), format!("there are {}", names.join(", ")))
        })
    }

    /// Every process, the nodes first.
    pub fn processes(&self) -> impl Iterator<Item = &NodeRecord> {
        self.nodes.iter().chain(&self.engines)
    }

    pub fn miners(&self) -> impl Iterator<Item = (&NodeRecord, &MinerPlan)> {
        self.nodes.iter().filter_map(|n| n.miner.as_ref().map(|m| (n, m)))
    }
}

impl NodeRecord {
    /// How it behaves, in one word.
    pub fn behaviour(&self) -> String {
        match (&self.miner, self.manner) {
            (Some(miner), _) => miner.behaviour.clone(),
            (None, Some(manner)) => manner.name().to_owned(),
            (None, None) => "honest".to_owned(),
        }
    }

    pub fn log(&self) -> PathBuf {
        self.data_dir.join("log")
    }

    /// The model file of an engine.
    pub fn engine_file(&self) -> PathBuf {
        self.data_dir.join("model.safetensors")
    }

    pub fn is_engine(&self) -> bool {
        self.role == ENGINE
    }

    pub fn pid_file(&self) -> PathBuf {
        self.data_dir.join("pid")
    }
}

/// Writes beside the file and renames, so that a reader sees the old or the new one.
///
/// # Errors
/// The folder cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let beside = path.with_extension("new");
    fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, path)).map_err(|e| CliError::file(path, &e))
}
