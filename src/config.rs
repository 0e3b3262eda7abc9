//! The configuration: what a person may set on a node, where each value came from, and why one is refused.
//!
//! A value comes from, in falling order: a flag, the environment (`STARLING_SECTION_KEY`), the file of `--config`,
//! `<data-dir>/config.toml`, the built-in default. Every key is one row of `keys::KEYS`, which is the schema, the list
//! of defaults and the documentation at once; a key that is no row is an error that names the nearest one. Modules never
//! read this: they are handed plain parameters made from it.

pub mod check;
pub mod keys;
pub mod layers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use check::Finding;
pub use layers::{Origin, Sources};

/// What a node does for the network. Roles combine freely.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Introduces newcomers and relays for nodes behind address translation.
    Boot,
    /// Follows and serves every checkpoint.
    Full,
    /// Votes on checkpoints, scores miners, sets weights.
    Validator,
    /// Answers queries.
    Miner,
    /// Serves the OpenAI-shaped HTTP interface.
    Gateway,
}

impl Role {
    pub const ALL: [Self; 5] = [Self::Boot, Self::Full, Self::Validator, Self::Miner, Self::Gateway];

    pub fn name(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Full => "full",
            Self::Validator => "validator",
            Self::Miner => "miner",
            Self::Gateway => "gateway",
        }
    }
}

/// Why a configuration is no configuration. The text says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("{origin}: unknown key `{key}`{}", near.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    UnknownKey { origin: Origin, key: String, near: Option<String> },
    #[error("{origin}: `{key}` {problem}")]
    Value { origin: Origin, key: String, problem: String },
    #[error("{origin}: {problem}")]
    Syntax { origin: Origin, problem: String },
    #[error("{path}: {problem}")]
    File { path: String, problem: String },
}

/// The whole configuration, checked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub node: NodeSection,
    pub network: NetworkSection,
    pub http: HttpSection,
    pub gateway: GatewaySection,
    pub miner: MinerSection,
    pub validator: ValidatorSection,
    pub pool: PoolSection,
    pub artifacts: ArtifactsSection,
    pub log: LogSection,
    pub devnet: DevnetSection,
    /// Where each set key came from, by `section.key`.
    #[serde(skip)]
    pub origins: BTreeMap<String, Origin>,
    /// What opens the keys, once somebody typed it or a file was read; never part of a file or of what is shown.
    #[serde(skip)]
    pub passphrase: Option<Passphrase>,
}

/// A passphrase at hand; erased on drop, never printed.
#[derive(Clone)]
pub struct Passphrase(pub Zeroizing<String>);

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(hidden)")
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeSection {
    pub name: String,
    pub roles: Vec<Role>,
    pub data_dir: PathBuf,
    /// The keystore's directory; empty means `<data_dir>/keys`.
    pub keys: PathBuf,
    pub node_key: String,
    pub account_key: String,
    pub consensus_key: String,
    /// A file whose first line opens the keys; empty means `STARLING_PASSPHRASE_FILE`, else a prompt.
    pub passphrase_file: PathBuf,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NetworkSection {
    /// Path of the genesis file; empty means `<data_dir>/genesis.toml`.
    pub genesis: String,
    pub listen: Vec<String>,
    /// Addresses to tell others instead of those found out.
    pub announce: Vec<String>,
    pub bootnodes: Vec<String>,
    pub peers_target: u32,
    pub memory_max_mb: u32,
    /// Development: loopback addresses are told to others, mdns may find peers, chaos commands are honoured.
    pub dev: bool,
    pub mdns: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HttpSection {
    pub bind: SocketAddr,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GatewaySection {
    pub bind: SocketAddr,
    pub api_keys: Vec<String>,
    pub insecure: bool,
    pub body_bytes_max: usize,
    /// Queries in flight at once, over all callers.
    pub queries_max: usize,
    /// Queries a minute for one API key, or for one address when there are no keys; 0 is no limit.
    pub queries_per_minute: u32,
    pub deadline_ms: u64,
}

/// How a miner of a devnet behaves; only `honest` exists outside of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behaviour {
    #[default]
    Honest,
    /// Answers at random.
    Random,
    /// Takes queries and never answers.
    Silent,
    /// Answers after the deadline.
    Late,
    /// Hands on what another miner says.
    Relay,
    /// Has learnt the held-out data by heart and nothing else.
    Memoriser,
    /// In a competition: publishes noisy copies of whoever leads.
    Plagiarist,
}

impl Behaviour {
    pub fn name(self) -> &'static str {
        match self {
            Self::Honest => "honest",
            Self::Random => "random",
            Self::Silent => "silent",
            Self::Late => "late",
            Self::Relay => "relay",
            Self::Memoriser => "memoriser",
            Self::Plagiarist => "plagiarist",
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MinerSection {
    pub entries: Vec<MinerEntry>,
}

/// One miner inside this node: a seat in one subnet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinerEntry {
    /// A subnet's name or number.
    pub subnet: String,
    #[serde(default)]
    pub behaviour: Behaviour,
    /// The kind of model it trains; `auto` is the one the task is known for.
    #[serde(default = "MinerEntry::model")]
    pub model: String,
    /// Training samples: images for vision, bytes for text, hours for forecasts.
    #[serde(default = "MinerEntry::samples")]
    pub samples: u32,
    /// Optimiser steps at start.
    #[serde(default = "MinerEntry::steps")]
    pub steps: u32,
    /// Hidden units, or numbers for each place of a transformer.
    #[serde(default = "MinerEntry::width")]
    pub width: u32,
    /// Seed of the training slice and of the first weights.
    #[serde(default)]
    pub seed: u64,
    /// What answers: a model trained here, or a server's.
    #[serde(default)]
    pub engine: EngineKind,
    /// The server, `http://` and its address, with or without `/v1`.
    #[serde(default)]
    pub upstream_url: String,
    /// The model's name at that server.
    #[serde(default)]
    pub upstream_model: String,
    /// A file with the server's API key; empty means none.
    #[serde(default)]
    pub upstream_key_file: String,
    /// The environment variable that holds the key, when no file does; empty means none.
    #[serde(default)]
    pub upstream_key_env: String,
    /// The chat template; `server` leaves it to the server.
    #[serde(default = "MinerEntry::upstream_template")]
    pub upstream_template: String,
    /// A server silent for so long is in trouble.
    #[serde(default = "MinerEntry::upstream_silence_ms")]
    pub upstream_silence_ms: u64,
    /// Tokens of one answer at most.
    #[serde(default = "MinerEntry::upstream_tokens_max")]
    pub upstream_tokens_max: u32,
    /// Requests at the server at once.
    #[serde(default = "MinerEntry::upstream_parallel")]
    pub upstream_parallel: u32,
    /// A GGUF file of the llama family.
    #[serde(default)]
    pub gguf_path: String,
    /// Memory for it, in MiB.
    #[serde(default = "MinerEntry::gguf_memory_mb")]
    pub gguf_memory_mb: u64,
    /// The keystore's name of this miner's account key; empty means `node.account_key`.
    #[serde(default)]
    pub account_key: String,
}

/// Who computes a miner's answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// A model that this node trains and runs.
    #[default]
    Own,
    /// An OpenAI-compatible server.
    Upstream,
    /// A GGUF file in this process; needs a build with the feature `llm`.
    Gguf,
}

impl MinerEntry {
    fn model() -> String {
        "auto".to_owned()
    }
    fn samples() -> u32 {
        1_000
    }
    fn steps() -> u32 {
        300
    }
    fn width() -> u32 {
        32
    }
    fn upstream_template() -> String {
        "server".to_owned()
    }
    fn upstream_silence_ms() -> u64 {
        15_000
    }
    fn upstream_tokens_max() -> u32 {
        1_024
    }
    fn gguf_memory_mb() -> u64 {
        4_096
    }
    fn upstream_parallel() -> u32 {
        8
    }
}

/// How a validator of a devnet behaves; only `honest` exists outside of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Manner {
    #[default]
    Honest,
    /// Says what everybody said last.
    Copier,
    /// Seals weights and never opens them.
    NonRevealer,
    /// Gives everything to accounts it favours.
    SelfDealer,
}

impl Manner {
    pub fn name(self) -> &'static str {
        match self {
            Self::Honest => "honest",
            Self::Copier => "copier",
            Self::NonRevealer => "non_revealer",
            Self::SelfDealer => "self_dealer",
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ValidatorSection {
    /// Names or numbers of the subnets whose miners this node scores; empty means all of them.
    pub subnets: Vec<String>,
    /// Challenges for each miner and epoch.
    pub challenges_per_epoch: u32,
    /// What may be added to one seat's bond in sixteen epochs, in STAR; 0 means never.
    pub bond_top_up: String,
    pub behaviour: Manner,
    /// Accounts whose miners a `self_dealer` gives everything to.
    pub favours: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PoolSection {
    /// Threads of the CPU lane; 0 means one less than the cores, at least one.
    pub threads: usize,
    pub jobs_max: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ArtifactsSection {
    pub quota_mb: u64,
    /// Keeps models of others, when a role of this node lends.
    pub lend: bool,
    /// For all peers together; 0 is no limit.
    pub serve_mb_s: u64,
    pub survey_s: u64,
    /// Miners record their models on the ledger.
    pub publish: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Human on a terminal, JSON lines otherwise.
    Auto,
    Human,
    Json,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogSection {
    /// A filter as `tracing` reads it: `info`, or `starling=debug,libp2p=warn`.
    pub filter: String,
    pub format: LogFormat,
}

/// Read by `starling devnet up` alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DevnetSection {
    pub validators: u32,
    pub miners: u32,
    pub seed: u64,
    pub gateway_port: u16,
    /// Further miners by behaviour: `random`, `silent`, `late`; further validators: `copier`, `non_revealer`,
    /// `self_dealer`; `forecast` adds a subnet.
    pub with: Vec<String>,
}

impl Config {
    /// Reads, merges and checks every source.
    ///
    /// # Errors
    /// A file cannot be read, a key is unknown, a value is of the wrong kind or breaks a rule of `check`.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        layers::merge(sources).and_then(layers::Layered::build)
    }

    pub fn has(&self, role: Role) -> bool {
        self.node.roles.contains(&role)
    }

    /// The genesis file.
    pub fn genesis_path(&self) -> PathBuf {
        if self.network.genesis.is_empty() {
            self.node.data_dir.join("genesis.toml")
        } else {
            PathBuf::from(&self.network.genesis)
        }
    }

    /// The keystore's directory.
    pub fn keys_dir(&self) -> PathBuf {
        if self.node.keys.as_os_str().is_empty() { self.node.data_dir.join("keys") } else { self.node.keys.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [(&str, &str); 5] = [
        ("boot", include_str!("../config/boot.toml")),
        ("validator", include_str!("../config/validator.toml")),
        ("miner", include_str!("../config/miner.toml")),
        ("gateway", include_str!("../config/gateway.toml")),
        ("devnet", include_str!("../config/devnet.toml")),
    ];

    #[test]
    fn every_file_that_ships_loads_and_is_complete() {
        for (name, text) in FILES {
            let dir = std::env::temp_dir().join(format!("starling-ships-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("config.toml"), text).unwrap();
            let config = Config::load(&Sources { data_dir: Some(dir), ..Sources::default() });
            let config = config.unwrap_or_else(|e| panic!("{name}.toml: {e}"));
            assert_eq!(config.node.roles, [Role::ALL.into_iter().find(|r| r.name() == name).unwrap_or(Role::Full)]);
            for key in keys::KEYS.iter().filter(|k| k.section != "devnet" || name == "devnet") {
                let written =
                    [format!("\n{} = ", key.name), format!("\n# {} = ", key.name), format!("[[{}]]", key.path())];
                assert!(written.iter().any(|w| text.contains(w)), "{name}.toml lacks {}", key.path());
                assert!(text.contains(key.doc), "{name}.toml explains {} otherwise", key.path());
            }
            // Uncommenting every default must give a file that loads as well.
            let open: String = text
                .lines()
                .map(|line| match line.strip_prefix("# ") {
                    Some(rest)
                        if rest.starts_with("[[") || rest.split_once(" = ").is_some_and(|(k, _)| !k.contains(' ')) =>
                    {
                        format!("{rest}\n")
                    }
                    _ => format!("{line}\n"),
                })
                .collect();
            layers::Layered::default().add_text(&open, std::path::Path::new(name)).unwrap();
        }
    }

    #[test]
    fn a_passphrase_does_not_print() {
        let passphrase = Passphrase(Zeroizing::new("secret".into()));
        assert!(!format!("{passphrase:?}").contains("secret"));
    }
}
