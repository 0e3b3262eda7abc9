//! `up`: runs a node in the foreground until it is told to stop.

use clap::Args;

use super::context::Context;
use super::error::{CliError, Exit};
use super::output::Reply;
use crate::config::{Config, Passphrase, Role, check};
use crate::node::{self, StartError};
use crate::store::keystore::{KeyError, KeyKind, Keystore};

#[derive(Args, Debug)]
pub struct Up {
    /// What this node does, like validator,gateway
    #[arg(long, value_name = "ROLES")]
    roles: Option<String>,
    /// The genesis file
    #[arg(long, value_name = "FILE")]
    genesis: Option<String>,
    /// Addresses to accept links on
    #[arg(long, value_name = "MULTIADDR")]
    listen: Vec<String>,
    /// Addresses to join by
    #[arg(long, value_name = "MULTIADDR")]
    bootnode: Vec<String>,
    /// Where health, metrics and explorer are served
    #[arg(long, value_name = "IP:PORT")]
    http: Option<String>,
    /// Serve anybody who reaches the gateway
    #[arg(long)]
    insecure: bool,
}

impl Up {
    pub(super) fn run(self, mut context: Context) -> Result<Option<Reply>, CliError> {
        let config = self.configure(&mut context)?;
        for finding in check::findings(&config) {
            context.printer.note(&format!("warning: {}: {} ({})", finding.key, finding.problem, finding.remedy));
        }
        start(config)?;
        Ok(None)
    }

    /// The configuration with this command's flags, and with what opens the keys.
    fn configure(self, context: &mut Context) -> Result<Config, CliError> {
        let lists = [("network.listen", self.listen, "--listen"), ("network.bootnodes", self.bootnode, "--bootnode")];
        for (key, values, flag) in lists.into_iter().filter(|(_, values, _)| !values.is_empty()) {
            context.set(key, values.join(","), flag);
        }
        let texts = [
            ("node.roles", self.roles, "--roles"),
            ("network.genesis", self.genesis, "--genesis"),
            ("http.bind", self.http, "--http"),
            ("gateway.insecure", self.insecure.then(|| "true".to_owned()), "--insecure"),
        ];
        for (key, value, flag) in texts {
            if let Some(value) = value {
                context.set(key, value, flag);
            }
        }
        match context.globals.verbose {
            0 => {}
            1 => context.set("log.filter", "info,starling=debug", "-v"),
            _ => context.set("log.filter", "debug,starling=trace", "-vv"),
        }
        let mut config = context.config()?;
        let genesis = config.genesis_path();
        if !genesis.is_file() {
            let message = format!("there is no genesis file at {}", genesis.display());
            return Err(CliError::new(Exit::Config, message, "`starling init --network FILE` sets a node up"));
        }
        let sealed = sealed_keys(&config)?;
        if !sealed.is_empty() {
            let prompt = format!("Passphrase of {}: ", sealed.join(", "));
            config.passphrase = Some(Passphrase(context.passphrase(&prompt)?));
        }
        Ok(config)
    }
}

/// The keys that the roles of this node need: name and kind.
pub fn needed_keys(config: &Config) -> Vec<(&str, KeyKind)> {
    let mut needed = vec![(config.node.node_key.as_str(), KeyKind::Node)];
    if config.has(Role::Validator) {
        needed.push((&config.node.consensus_key, KeyKind::Consensus));
    }
    if config.has(Role::Validator) || config.has(Role::Miner) {
        needed.push((&config.node.account_key, KeyKind::Account));
    }
    let miners = config.miner.entries.iter().filter(|_| config.has(Role::Miner));
    needed.extend(miners.filter(|m| !m.account_key.is_empty()).map(|m| (m.account_key.as_str(), KeyKind::Account)));
    needed.sort_unstable_by_key(|(name, _)| *name);
    needed.dedup();
    needed
}

/// Names of the needed keys that a passphrase must open.
///
/// # Errors
/// A needed key is missing, unreadable or of another kind.
fn sealed_keys(config: &Config) -> Result<Vec<String>, CliError> {
    let keystore = Keystore::at(config.keys_dir());
    let mut sealed = Vec::new();
    for (name, kind) in needed_keys(config) {
        let info = keystore.info(name).map_err(|e| match e {
            KeyError::NotFound { .. } => {
                let help =
                    format!("`starling init` makes all keys; `starling key new {name} --kind {kind}` makes this one");
                CliError::new(Exit::NotFound, e.to_string(), help)
            }
            other => other.into(),
        })?;
        if info.kind != kind {
            let message = format!("key \"{name}\" is of kind {}, this node needs one of kind {kind}", info.kind);
            return Err(CliError::new(Exit::Config, message, format!("name another key in node.{kind}_key")));
        }
        if !info.plain {
            sealed.push(name.to_owned());
        }
    }
    Ok(sealed)
}

/// The one door to the composition root.
fn start(config: Config) -> Result<(), CliError> {
    node::run(config).map_err(|error: StartError| {
        let exit = match error.exit {
            3 => Exit::Config,
            4 => Exit::NotFound,
            5 => Exit::KeyLocked,
            6 => Exit::Unreachable,
            13 => Exit::VoteProtection,
            _ => Exit::Failed,
        };
        CliError::new(exit, error.message, error.help)
    })
}
