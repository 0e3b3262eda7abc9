//! `init`: a data directory with configuration, genesis and keys, and the next step in words.
//!
//! Nothing that exists is overwritten: what is there already is kept and said.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::context::Context;
use super::error::{CliError, Exit};
use super::key::{entropy, fresh};
use super::output::Reply;
use super::up::needed_keys;
use crate::config::{Config, Role};
use crate::protocol::genesis::Genesis;
use crate::store::keystore::{Cost, KeyError, KeyKind, Keystore, Protection};

#[derive(Args, Debug)]
pub struct Init {
    /// What the node will do, like miner,gateway
    #[arg(long, value_name = "ROLES", default_value = "full")]
    roles: String,
    /// The genesis file of the network to join
    #[arg(long, value_name = "FILE")]
    network: Option<PathBuf>,
    /// Addresses to join by
    #[arg(long, value_name = "MULTIADDR")]
    bootnode: Vec<String>,
    /// Leave the keys unsealed; for devnets
    #[arg(long)]
    plain_keys: bool,
}

/// The complete, commented files that ship with the program.
const TEMPLATES: [(Role, &str); 4] = [
    (Role::Validator, include_str!("../../config/validator.toml")),
    (Role::Miner, include_str!("../../config/miner.toml")),
    (Role::Gateway, include_str!("../../config/gateway.toml")),
    (Role::Boot, include_str!("../../config/boot.toml")),
];

impl Init {
    pub(super) fn run(self, context: &Context) -> Result<Reply, CliError> {
        let mut trial = context.clone();
        trial.set("node.roles", self.roles.clone(), "--roles");
        if !self.bootnode.is_empty() {
            trial.set("network.bootnodes", self.bootnode.join(","), "--bootnode");
        }
        let config = trial.config()?;
        let dir = config.node.data_dir.clone();
        let genesis = self.genesis(&config)?;
        std::fs::create_dir_all(&dir).map_err(|e| CliError::file(&dir, &e))?;

        let (mut made, mut kept) = (Vec::new(), Vec::new());
        let mut place = |path: &Path, bytes: &[u8]| -> Result<(), CliError> {
            let list = if write_new(path, bytes)? { &mut made } else { &mut kept };
            list.push(path.display().to_string());
            Ok(())
        };
        place(&dir.join("config.toml"), self.configuration(&config).as_bytes())?;
        if let Some((_, bytes)) = &genesis {
            place(&dir.join("genesis.toml"), bytes)?;
        }
        let keys = self.keys(context, &config)?;

        let mut reply = Reply::of(&json!({
            "data_dir": dir.display().to_string(),
            "roles": config.node.roles,
            "chain_id": genesis.as_ref().map(|(genesis, _)| genesis.chain_id()),
            "network": genesis.as_ref().map(|(genesis, _)| genesis.name.clone()),
            "made": made,
            "kept": kept,
            "keys": keys.iter().map(|(name, kind, public, new)| {
                json!({ "name": name, "kind": kind, "public": public, "new": new })
            }).collect::<Vec<_>>(),
        }))
        .line(format!("A {} is set up in {}", self.roles.replace(',', " + "), dir.display()))
        .facts(keys.iter().map(|(name, kind, public, _)| (format!("{kind} key"), format!("{public}  ({name})"))));
        if let Some((genesis, _)) = &genesis {
            reply = reply.facts([("network", genesis.name.clone()), ("chain id", genesis.chain_id().to_string())]);
        }
        reply = kept.iter().fold(reply, |reply, path| reply.warn(format!("{path} was there already and is as it was")));
        if self.plain_keys {
            reply = reply.warn("the keys are not sealed: whoever reads their files has them");
        }
        Ok(self.next(reply, &config, genesis.is_some() || config.genesis_path().is_file()))
    }

    /// The genesis given, read and checked before anything is written.
    fn genesis(&self, config: &Config) -> Result<Option<(Genesis, Vec<u8>)>, CliError> {
        let Some(path) = &self.network else { return Ok(None) };
        let bytes = std::fs::read(path).map_err(|e| CliError::file(path, &e))?;
        let refused =
            |message: String| CliError::new(Exit::Config, message, "the file must be the network's own, byte for byte");
        let genesis = Genesis::parse(&bytes).map_err(|e| refused(format!("{}: {e}", path.display())))?;
        let present = config.node.data_dir.join("genesis.toml");
        if let Some(other) = std::fs::read(&present).ok().filter(|other| *other != bytes) {
            let theirs = Genesis::parse(&other).map(|g| g.chain_id().to_string()).unwrap_or_else(|e| e.to_string());
            let message = format!(
                "{} belongs to another network: {theirs}; the given one is {}",
                present.display(),
                genesis.chain_id()
            );
            return Err(CliError::new(Exit::Config, message, "use another --data-dir for another network"));
        }
        Ok(Some((genesis, bytes)))
    }

    /// The commented file of the first role that has one, with what was asked for put in.
    fn configuration(&self, config: &Config) -> String {
        let template = TEMPLATES.iter().find(|(role, _)| config.has(*role)).map_or(TEMPLATES[3].1, |(_, text)| text);
        let list =
            |items: Vec<String>| toml::Value::Array(items.into_iter().map(toml::Value::String).collect()).to_string();
        let roles = list(config.node.roles.iter().map(|r| r.name().to_owned()).collect());
        let bootnodes = list(config.network.bootnodes.clone());
        let lines = template.lines().map(|line| match line.split_once(" = ").map(|(key, _)| key) {
            Some("roles") => format!("roles = {roles}\n"),
            Some("bootnodes") if !self.bootnode.is_empty() => format!("bootnodes = {bootnodes}\n"),
            _ => format!("{line}\n"),
        });
        lines.collect()
    }

    /// Every key the roles need; those that are there are kept.
    fn keys(&self, context: &Context, config: &Config) -> Result<Vec<(String, KeyKind, String, bool)>, CliError> {
        let keystore = Keystore::at(config.keys_dir());
        let mut protection = None;
        let mut keys = Vec::new();
        // Everybody gets an account: to be paid, to stake, to register.
        let mut wanted = needed_keys(config);
        if !wanted.iter().any(|(_, kind)| *kind == KeyKind::Account) {
            wanted.push((&config.node.account_key, KeyKind::Account));
        }
        for (name, kind) in wanted {
            let (info, new) = match keystore.info(name) {
                Ok(info) => (info, false),
                Err(KeyError::NotFound { .. }) => {
                    let protection = match &mut protection {
                        Some(chosen) => chosen,
                        empty => empty.insert(self.protection(context)?),
                    };
                    (keystore.create(name, kind, &fresh()?, protection, &mut entropy()?)?, true)
                }
                Err(error) => return Err(error.into()),
            };
            keys.push((name.to_owned(), info.kind, info.public.to_string(), new));
        }
        Ok(keys)
    }

    fn protection(&self, context: &Context) -> Result<Protection, CliError> {
        if self.plain_keys {
            return Ok(Protection::Plain);
        }
        Ok(Protection::Sealed { passphrase: context.new_passphrase()?, cost: Cost::default() })
    }

    fn next(&self, reply: Reply, config: &Config, has_genesis: bool) -> Reply {
        let dir = config.node.data_dir.display();
        let reply = if has_genesis {
            reply
        } else {
            reply.hint(format!(
                "put the network's genesis file at {dir}/genesis.toml, or run init again with --network FILE"
            ))
        };
        let reply = reply.hint(format!("starling up --data-dir {dir}"));
        if config.has(Role::Miner) || config.has(Role::Validator) {
            return reply.hint(format!("starling subnet register NAME --data-dir {dir}   once the account holds STAR"));
        }
        reply
    }
}

/// Writes a file that is not there yet; false when it is.
fn write_new(path: &Path, bytes: &[u8]) -> Result<bool, CliError> {
    use std::io::Write;
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    match written {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(CliError::file(path, &e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn init(roles: &str, bootnode: &[&str]) -> Init {
        let bootnode = bootnode.iter().map(|b| (*b).to_owned()).collect();
        Init { roles: roles.into(), network: None, bootnode, plain_keys: true }
    }

    #[test]
    fn what_init_writes_loads_and_says_what_was_asked() {
        let address = "/ip4/10.0.0.1/tcp/9470/p2p/12D3KooWx";
        for roles in ["full", "boot", "validator", "miner,gateway"] {
            let flags = vec![
                ("node.roles".into(), roles.into(), "--roles".into()),
                ("network.bootnodes".into(), address.into(), "--bootnode".into()),
            ];
            let wanted = Config::load(&Sources { flags, ..Sources::default() }).unwrap();
            let text = init(roles, &[address]).configuration(&wanted);
            let dir = std::env::temp_dir().join(format!("starling-init-{roles}-{}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("config.toml"), text).unwrap();
            let read = Config::load(&Sources { data_dir: Some(dir), ..Sources::default() }).unwrap();
            assert_eq!((read.node.roles, read.network.bootnodes), (wanted.node.roles, wanted.network.bootnodes));
        }
    }
}
