//! What several keys say together: rules that refuse a configuration, and findings that only warn.

use std::net::SocketAddr;

use serde::Serialize;

use super::{Behaviour, Config, ConfigError, EngineKind, Manner, MinerEntry, Origin, Role};
use crate::protocol::units::parse_star;

/// Something that works, and probably is not meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub key: String,
    pub problem: String,
    pub remedy: String,
}

fn refusal(config: &Config, key: &str, problem: impl Into<String>) -> ConfigError {
    let origin = config.origins.get(key).cloned().unwrap_or(Origin::Default);
    ConfigError::Value { origin, key: key.to_owned(), problem: problem.into() }
}

fn is_local(bind: &SocketAddr) -> bool {
    bind.ip().is_loopback()
}

/// Refuses what must not start.
///
/// # Errors
/// The first rule that is broken.
pub fn refuse(config: &Config) -> Result<(), ConfigError> {
    if config.node.roles.is_empty() {
        return Err(refusal(
            config,
            "node.roles",
            "is empty; give at least one of boot, full, validator, miner, gateway",
        ));
    }
    let gateway = &config.gateway;
    if config.has(Role::Gateway) && !is_local(&gateway.bind) && gateway.api_keys.is_empty() && !gateway.insecure {
        let problem = format!(
            "is {}, which others can reach, and no key is asked of them; set gateway.api_keys, or gateway.insecure = true \
             to serve anybody",
            gateway.bind
        );
        return Err(refusal(config, "gateway.bind", problem));
    }
    if let Some(short) = gateway.api_keys.iter().find(|k| k.len() < 8) {
        let problem = format!("holds a key of {} characters; use at least 8", short.len());
        return Err(refusal(config, "gateway.api_keys", problem));
    }
    if config.network.mdns && !config.network.dev {
        return Err(refusal(config, "network.mdns", "is for development; it needs network.dev = true"));
    }
    let dishonest = config.miner.entries.iter().find(|e| e.behaviour != Behaviour::Honest);
    if let (Some(entry), false) = (dishonest, config.network.dev) {
        let problem = format!("asks for a {} miner, which only network.dev = true allows", entry.behaviour.name());
        return Err(refusal(config, "miner.entries", problem));
    }
    let nameless = config.miner.entries.iter().find(|entry| {
        entry.engine == EngineKind::Upstream && (entry.upstream_url.is_empty() || entry.upstream_model.is_empty())
    });
    if let Some(entry) = nameless {
        let problem = format!(
            "asks for an upstream engine in {} and does not name it; give upstream_url and upstream_model",
            entry.subnet
        );
        return Err(refusal(config, "miner.entries", problem));
    }
    let files: Vec<&MinerEntry> = config.miner.entries.iter().filter(|e| e.engine == EngineKind::Gguf).collect();
    if files.len() > 1 || files.iter().any(|entry| entry.gguf_path.is_empty()) {
        let problem = "asks for a GGUF engine without gguf_path, or for several; a node runs one file";
        return Err(refusal(config, "miner.entries", problem));
    }
    let manner = config.validator.behaviour;
    if manner != Manner::Honest && !config.network.dev {
        let problem = format!("asks for a {} validator, which only network.dev = true allows", manner.name());
        return Err(refusal(config, "validator.behaviour", problem));
    }
    if let Err(error) = parse_star(&config.validator.bond_top_up) {
        let problem = format!("must be an amount like \"10 STAR\", or \"0\" for never: {error}");
        return Err(refusal(config, "validator.bond_top_up", problem));
    }
    for (key, list) in [
        ("network.listen", &config.network.listen),
        ("network.announce", &config.network.announce),
        ("network.bootnodes", &config.network.bootnodes),
    ] {
        if let Some(problem) = list.iter().find_map(|text| address_problem(text)) {
            return Err(refusal(config, key, problem));
        }
    }
    match config.network.bootnodes.iter().find(|a| !a.contains("/p2p/") && !a.starts_with("/dnsaddr/")) {
        Some(text) => {
            Err(refusal(config, "network.bootnodes", format!("holds {text}, which lacks /p2p/ and the peer id")))
        }
        None => Ok(()),
    }
}

/// A multiaddr's outer form. What stands inside is judged by the network when it dials.
fn address_problem(text: &str) -> Option<String> {
    let first = text.strip_prefix('/').and_then(|rest| rest.split('/').next());
    match first {
        Some("ip4" | "ip6" | "dns" | "dns4" | "dns6" | "dnsaddr") => None,
        _ => Some(format!("holds \"{text}\", which is no address like /ip4/10.0.0.1/tcp/9470 or /dns4/name/tcp/9470")),
    }
}

/// What works and probably is not meant.
pub fn findings(config: &Config) -> Vec<Finding> {
    let mut list = Vec::new();
    let mut add = |key: &str, problem: &str, remedy: &str| {
        list.push(Finding { key: key.to_owned(), problem: problem.to_owned(), remedy: remedy.to_owned() });
    };
    if config.has(Role::Miner) && config.miner.entries.is_empty() {
        add(
            "miner.entries",
            "the node is a miner and mines in no subnet",
            "add a [[miner.entries]] table with a subnet",
        );
    }
    if !config.has(Role::Miner) && !config.miner.entries.is_empty() {
        add("node.roles", "miners are described and the node is none", "add \"miner\" to node.roles");
    }
    if config.network.listen.is_empty() && config.has(Role::Validator) {
        add("network.listen", "a validator that nobody can reach", "list at least one address");
    }
    if !is_local(&config.http.bind) {
        add(
            "http.bind",
            "anybody who reaches this address reads the node's state and metrics",
            "keep it inside a private network, or bind 127.0.0.1",
        );
    }
    if config.gateway.insecure && config.has(Role::Gateway) && !is_local(&config.gateway.bind) {
        add("gateway.insecure", "anybody may spend this gateway's capacity", "set gateway.api_keys");
    }
    if config.network.bootnodes.is_empty() && !config.has(Role::Boot) && !config.network.dev {
        add("network.bootnodes", "only the genesis' own bootnodes lead into the network", "add a known address");
    }
    list
}

#[cfg(test)]
mod tests {
    use super::super::layers::Sources;
    use super::*;

    fn load(flags: &[(&str, &str)]) -> Result<Config, String> {
        let flags = flags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned(), "--set".to_owned())).collect();
        Config::load(&Sources { flags, ..Sources::default() }).map_err(|e| e.to_string())
    }

    #[test]
    fn a_gateway_open_to_others_needs_a_key_or_the_word_insecure() {
        let open = ("gateway.bind", "0.0.0.0:8080");
        let role = ("node.roles", "gateway");
        assert!(load(&[open, role]).unwrap_err().contains("gateway.insecure = true"));
        assert!(load(&[open, role, ("gateway.insecure", "true")]).is_ok());
        assert!(load(&[open, role, ("gateway.api_keys", "secret-key")]).is_ok());
        assert!(load(&[open, role, ("gateway.api_keys", "short")]).unwrap_err().contains("5 characters"));
        assert!(load(&[role, ("gateway.bind", "[::1]:8080")]).is_ok());
        assert!(load(&[open]).is_ok(), "not a gateway: the address is not used");
    }

    #[test]
    fn rules_that_refuse_say_what_to_change() {
        for (flags, part) in [
            (vec![("node.roles", "")], "is empty"),
            (vec![("network.mdns", "true")], "needs network.dev"),
            (vec![("network.bootnodes", "10.0.0.1:9470")], "no address like"),
            (vec![("network.bootnodes", "/ip4/10.0.0.1/tcp/9470")], "lacks /p2p/"),
        ] {
            let problem = load(&flags).unwrap_err();
            assert!(problem.contains(part), "{problem}");
        }
        let late = ("miner.entries", "[{ subnet = \"vision\", behaviour = \"late\" }]");
        assert!(load(&[late]).unwrap_err().contains("network.dev"));
        assert!(load(&[late, ("network.dev", "true")]).is_ok());
        assert!(load(&[("validator.bond_top_up", "much")]).unwrap_err().contains("amount like"));
        let nameless = ("miner.entries", "[{ subnet = \"text\", engine = \"upstream\", upstream_url = \"http://a\" }]");
        assert!(load(&[nameless]).unwrap_err().contains("upstream_model"));
        let copier = ("validator.behaviour", "copier");
        assert!(load(&[copier]).unwrap_err().contains("copier validator"));
        assert!(load(&[copier, ("network.dev", "true")]).is_ok());
    }

    #[test]
    fn findings_name_what_is_probably_not_meant() {
        let config = load(&[("node.roles", "miner"), ("http.bind", "0.0.0.0:9464")]).unwrap();
        let keys: Vec<String> = findings(&config).into_iter().map(|f| f.key).collect();
        assert_eq!(keys, ["miner.entries", "http.bind", "network.bootnodes"]);
    }
}
