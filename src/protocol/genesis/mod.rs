//! The genesis file: what a network starts from, in TOML, and the digest that names it (C50).
//!
//! The chain id is the digest of the file's bytes: two files that mean the same are two networks. Reading is strict: an
//! unknown key is an error that names the nearest known one, every number has bounds, and a devnet may go below the
//! public ones. `seal` writes a file from values, so that what a tool writes is exactly what a node reads.

mod section;

use std::collections::BTreeSet;

use section::{Section, nearest};
use toml::{Table, Value};

use super::committee::{Committee, CommitteeError, CommitteeMember};
use super::ids::{AccountId, ChainId, NodeId, PublicKey, SubnetId, hash};
use super::parameters::{NetworkKind, OutOfBounds, Parameters, Spec, SubnetRules, Unit};
use super::transaction::SUPPORT_MAX;
use super::units::format_star;

/// The tasks this version knows.
pub const TASKS: [&str; 3] = ["vision", "text", "forecast"];

const FILE_BYTES_MAX: usize = 4 << 20;
const ACCOUNTS_MAX: usize = 16_384;
const COMMITTEE_MAX: usize = 128;
const COMMITTEE_MIN: usize = 4;
const SUBNETS_MAX: usize = 64;
const BOOTNODES_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 32;
const ADDRESS_BYTES_MAX: usize = 256;
/// The sum of voting weights stays below this (C1).
const WEIGHT_MAX: u64 = 1 << 60;

/// Why a genesis file was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    #[error("the genesis file is no TOML: {0}")]
    Syntax(String),
    #[error("{place}: unknown key \"{key}\"{}", near.as_ref().map(|n| format!("; did you mean \"{n}\"?")).unwrap_or_default())]
    UnknownKey { place: String, key: String, near: Option<String> },
    #[error("{place}: \"{key}\" is missing")]
    Missing { place: String, key: &'static str },
    #[error("{place}: \"{key}\" must be {expected}")]
    Type { place: String, key: String, expected: &'static str },
    #[error("{place}: \"{key}\": {reason}")]
    Value { place: String, key: String, reason: String },
    #[error("{place}: {bounds}")]
    Bounds { place: String, bounds: OutOfBounds },
    #[error("{place}: {reason}")]
    Rule { place: String, reason: String },
}

fn rule(place: impl Into<String>, reason: impl Into<String>) -> GenesisError {
    GenesisError::Rule { place: place.into(), reason: reason.into() }
}

/// An account that exists from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenesisAccount {
    pub account: AccountId,
    pub balance: u64,
}

/// A voter of the first committee. Its stake is beside the balance of its account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenesisVoter {
    pub consensus: PublicKey,
    pub account: AccountId,
    /// Its node, when known beforehand: others then keep a connection to it.
    pub node: Option<NodeId>,
    pub stake: u64,
    /// Subnets it supports from the start, in equal parts (E7).
    pub support: Vec<SubnetId>,
}

/// A subnet that is open from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenesisSubnet {
    pub id: SubnetId,
    pub name: String,
    pub task: String,
    /// Who has the owner's part of what it mints; without one, miners and validators share it.
    pub owner: Option<AccountId>,
    pub rules: SubnetRules,
}

/// A whole genesis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    chain_id: ChainId,
    pub name: String,
    pub network: NetworkKind,
    pub timestamp_ms: u64,
    pub parameters: Parameters,
    pub accounts: Vec<GenesisAccount>,
    pub committee: Vec<GenesisVoter>,
    pub subnets: Vec<GenesisSubnet>,
    pub bootnodes: Vec<String>,
}

impl Genesis {
    /// An empty genesis with the defaults of its kind, to be filled and sealed.
    pub fn new(name: &str, network: NetworkKind, timestamp_ms: u64) -> Self {
        Self {
            chain_id: ChainId::ZERO,
            name: name.to_owned(),
            network,
            timestamp_ms,
            parameters: Parameters::defaults(network),
            accounts: Vec::new(),
            committee: Vec::new(),
            subnets: Vec::new(),
            bootnodes: Vec::new(),
        }
    }

    /// The digest of the file's bytes.
    pub fn chain_id(&self) -> ChainId {
        self.chain_id
    }

    /// Voting weight of a voter (C1).
    pub fn weight(&self, voter: &GenesisVoter) -> u64 {
        voter.stake.checked_div(self.parameters.weight_unit).unwrap_or(0)
    }

    /// The committee of the first term.
    ///
    /// # Errors
    /// Too few members, too many, or together too heavy.
    pub fn first_committee(&self) -> Result<Committee, CommitteeError> {
        let member = |voter: &GenesisVoter| CommitteeMember {
            key: voter.consensus,
            weight: self.weight(voter),
            account: voter.account,
        };
        Committee::new(0, self.committee.iter().map(member).filter(|member| member.weight > 0).collect())
    }

    /// Everything there is at height 0, in motes.
    pub fn issued(&self) -> u128 {
        let balances: u128 = self.accounts.iter().map(|a| u128::from(a.balance)).sum();
        balances + self.committee.iter().map(|v| u128::from(v.stake)).sum::<u128>()
    }

    /// Reads and checks a file.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place in the file.
    pub fn parse(bytes: &[u8]) -> Result<Self, GenesisError> {
        if bytes.len() > FILE_BYTES_MAX {
            return Err(rule("genesis", format!("{} bytes, at most {FILE_BYTES_MAX} are allowed", bytes.len())));
        }
        let text = std::str::from_utf8(bytes).map_err(|e| GenesisError::Syntax(e.to_string()))?;
        let table: Table = toml::from_str(text).map_err(|e| GenesisError::Syntax(e.to_string()))?;
        let mut top = Section::new("genesis".to_owned(), &table);
        let network = match top.text("network")?.as_str() {
            "devnet" => NetworkKind::Devnet,
            "public" => NetworkKind::Public,
            _ => return Err(top.wrong("network", "must be \"devnet\" or \"public\"")),
        };
        let mut genesis = Self::new(&top.text("name")?, network, top.integer("timestamp_ms")?);
        genesis.chain_id = ChainId(hash("starling/1 genesis", &[bytes]).0);
        genesis.bootnodes = top.texts("bootnodes")?;
        if let Some(mut section) = top.section("parameters")? {
            section.specs(Parameters::SPECS, &mut genesis.parameters, network)?;
            section.end()?;
        }
        genesis.accounts = top.rows("accounts", ACCOUNTS_MAX, |row| {
            Ok(GenesisAccount { account: row.name("account")?, balance: row.star("balance")? })
        })?;
        genesis.committee = top.rows("committee", COMMITTEE_MAX, |row| {
            let node = if row.has("node") { Some(row.name("node")?) } else { None };
            Ok(GenesisVoter {
                consensus: row.name("consensus")?,
                account: row.name("account")?,
                node,
                stake: row.star("stake")?,
                support: row.ids("support")?,
            })
        })?;
        genesis.subnets = top.rows("subnets", SUBNETS_MAX, |row| {
            let mut rules = SubnetRules::defaults(network);
            let id = u32::try_from(row.integer("id")?).map_err(|_| row.wrong("id", "must fit 32 bits"))?;
            let (name, task) = (row.text("name")?, row.text("task")?);
            let owner = if row.has("owner") { Some(row.name("owner")?) } else { None };
            row.specs(SubnetRules::SPECS, &mut rules, network)?;
            Ok(GenesisSubnet { id: SubnetId(id), name, task, owner, rules })
        })?;
        top.end()?;
        genesis.check()?;
        Ok(genesis)
    }

    /// Writes the file and reads it back, which checks it and gives it its chain id.
    ///
    /// # Errors
    /// The values break a rule.
    pub fn seal(&self) -> Result<(String, Self), GenesisError> {
        let text = self.to_toml();
        let read = Self::parse(text.as_bytes())?;
        Ok((text, read))
    }

    /// The file of these values; every parameter is written out, so that the file alone says what the network is.
    pub fn to_toml(&self) -> String {
        let mut out = format!(
            "# The genesis of a Starling network. Its digest is the network's name: change one byte and it is another network.\n\n\
             name = {}\nnetwork = \"{}\"\ntimestamp_ms = {}\nbootnodes = [",
            quoted(&self.name),
            self.network,
            self.timestamp_ms
        );
        for address in &self.bootnodes {
            out.push_str(&format!("\n  {},", quoted(address)));
        }
        out.push_str(if self.bootnodes.is_empty() { "]\n" } else { "\n]\n" });
        out.push_str("\n[parameters]\n");
        write_specs(&mut out, Parameters::SPECS, &self.parameters, true);
        for row in &self.accounts {
            out.push_str(&format!(
                "\n[[accounts]]\naccount = \"{}\"\nbalance = \"{}\"\n",
                row.account,
                format_star(row.balance)
            ));
        }
        for row in &self.committee {
            out.push_str(&format!(
                "\n[[committee]]\nconsensus = \"{}\"\naccount = \"{}\"\n",
                row.consensus, row.account
            ));
            if let Some(node) = row.node {
                out.push_str(&format!("node = \"{node}\"\n"));
            }
            out.push_str(&format!("stake = \"{}\"\n", format_star(row.stake)));
            if !row.support.is_empty() {
                let ids: Vec<String> = row.support.iter().map(ToString::to_string).collect();
                out.push_str(&format!("support = [{}]\n", ids.join(", ")));
            }
        }
        for (i, row) in self.subnets.iter().enumerate() {
            out.push_str(&format!(
                "\n[[subnets]]\nid = {}\nname = {}\ntask = {}\n",
                row.id,
                quoted(&row.name),
                quoted(&row.task)
            ));
            if let Some(owner) = row.owner {
                out.push_str(&format!("owner = \"{owner}\"\n"));
            }
            write_specs(&mut out, SubnetRules::SPECS, &row.rules, i == 0);
        }
        out
    }

    fn check(&self) -> Result<(), GenesisError> {
        check_name("genesis", &self.name)?;
        if self.parameters.idle_ms < self.parameters.interval_ms {
            return Err(rule("parameters", "idle_ms is below interval_ms"));
        }
        let budget = [self.parameters.committee_bp, self.parameters.usage_bp, self.parameters.support_bp];
        if budget.iter().sum::<u64>() != 10_000 {
            return Err(rule("parameters", "committee_bp, usage_bp and support_bp do not add up to 10000"));
        }
        if self.issued() > u128::from(self.parameters.supply_cap) {
            return Err(rule("genesis", "accounts and stakes hold more than supply_cap"));
        }
        if self.bootnodes.len() > BOOTNODES_MAX {
            return Err(rule("bootnodes", format!("at most {BOOTNODES_MAX} are allowed")));
        }
        for address in &self.bootnodes {
            if !address.starts_with('/') || address.len() > ADDRESS_BYTES_MAX {
                return Err(rule("bootnodes", format!("\"{address}\" is no address like /dns4/boot.example/tcp/9000")));
            }
        }
        self.check_accounts()?;
        self.check_committee()?;
        self.check_subnets()
    }

    fn check_accounts(&self) -> Result<(), GenesisError> {
        let mut seen = BTreeSet::new();
        for row in &self.accounts {
            if !seen.insert(row.account) {
                return Err(rule("accounts", format!("{} is listed twice", row.account)));
            }
        }
        for row in &self.committee {
            if !seen.contains(&row.account) {
                return Err(rule("committee", format!("account {} is not listed under accounts", row.account)));
            }
        }
        Ok(())
    }

    fn check_committee(&self) -> Result<(), GenesisError> {
        let (mut keys, mut accounts) = (BTreeSet::new(), BTreeSet::new());
        let mut total: u128 = 0;
        for row in &self.committee {
            if !keys.insert(row.consensus) || !accounts.insert(row.account) {
                return Err(rule("committee", format!("the key or account of {} is listed twice", row.consensus)));
            }
            if row.stake < self.parameters.min_stake || self.weight(row) == 0 {
                return Err(rule(
                    "committee",
                    format!("the stake of {} is below min_stake or weight_unit", row.account),
                ));
            }
            total += u128::from(self.weight(row));
            let known = |id: &SubnetId| self.subnets.iter().any(|subnet| subnet.id == *id);
            let ascend = row.support.iter().zip(row.support.iter().skip(1)).all(|(a, b)| a < b);
            if !ascend || row.support.len() > SUPPORT_MAX || !row.support.iter().all(known) {
                let place = format!("committee, {}", row.account);
                return Err(rule(
                    place,
                    format!("support lists at most {SUPPORT_MAX} subnets of this file, ascending"),
                ));
            }
        }
        if self.committee.is_empty() {
            return Err(rule("committee", "nobody could vote; list at least one voter"));
        }
        if total > u128::from(WEIGHT_MAX) {
            return Err(rule("committee", "the weights add up to more than 2^60; raise weight_unit"));
        }
        if self.network == NetworkKind::Public {
            if self.committee.len() < COMMITTEE_MIN {
                return Err(rule("committee", format!("a public network starts with at least {COMMITTEE_MIN} voters")));
            }
            if let Some(heavy) = self.committee.iter().find(|row| u128::from(self.weight(row)) * 3 > total) {
                return Err(rule("committee", format!("{} holds more than a third of the weight", heavy.consensus)));
            }
        }
        Ok(())
    }

    fn check_subnets(&self) -> Result<(), GenesisError> {
        let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
        for row in &self.subnets {
            let place = format!("subnets, \"{}\"", row.name);
            check_name(&place, &row.name)?;
            if !ids.insert(row.id) || !names.insert(&row.name) {
                return Err(rule(place, "the id or name is taken twice"));
            }
            if !TASKS.contains(&row.task.as_str()) {
                let near = nearest(&row.task, TASKS).unwrap_or("vision");
                return Err(rule(place, format!("unknown task \"{}\"; did you mean \"{near}\"?", row.task)));
            }
            if row.rules.reveal_window > row.rules.tempo {
                return Err(rule(place, "reveal_window is longer than tempo"));
            }
            if row.rules.price_min > row.rules.price_max {
                return Err(rule(place, "price_min is above price_max"));
            }
        }
        Ok(())
    }
}

fn check_name(place: &str, name: &str) -> Result<(), GenesisError> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(fits) {
        return Err(rule(place, format!("the name is 1 to {NAME_BYTES_MAX} of a-z, 0-9 and -")));
    }
    Ok(())
}

fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

fn write_specs<T>(out: &mut String, specs: &[Spec<T>], of: &T, explained: bool) {
    for spec in specs {
        let value = (spec.get)(of);
        if explained {
            out.push_str(&format!("# {}\n", spec.doc));
        }
        match spec.unit {
            Unit::Motes => out.push_str(&format!("{} = \"{}\"\n", spec.name, format_star(value))),
            _ => out.push_str(&format!("{} = {value}\n", spec.name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::section::distance;
    use super::*;
    use crate::protocol::units::MOTES_PER_STAR as STAR;

    fn key(byte: u8) -> [u8; 32] {
        [byte; 32]
    }

    fn example(network: NetworkKind) -> Genesis {
        let mut genesis = Genesis::new("test-net", network, 1_700_000_000_000);
        genesis.bootnodes = vec!["/dns4/boot.example/tcp/9000".to_owned()];
        genesis.accounts =
            (1..5).map(|i| GenesisAccount { account: AccountId(key(i)), balance: 7 * STAR + 1 }).collect();
        genesis.committee = (1..5)
            .map(|i| GenesisVoter {
                consensus: PublicKey(key(i + 10)),
                account: AccountId(key(i)),
                node: (i == 1).then_some(NodeId(key(99))),
                stake: 20_000 * STAR,
                support: vec![SubnetId(1)],
            })
            .collect();
        genesis.subnets = vec![GenesisSubnet {
            id: SubnetId(1),
            name: "digits".to_owned(),
            task: "vision".to_owned(),
            owner: Some(AccountId(key(1))),
            rules: SubnetRules::defaults(network),
        }];
        genesis
    }

    #[test]
    fn what_is_sealed_is_what_is_read_and_its_bytes_are_its_name() {
        for network in [NetworkKind::Devnet, NetworkKind::Public] {
            let genesis = example(network);
            let (text, read) = genesis.seal().unwrap();
            assert_eq!(Genesis { chain_id: genesis.chain_id, ..read.clone() }, genesis);
            assert_eq!(read.chain_id().0, hash("starling/1 genesis", &[text.as_bytes()]).0);
            let other = Genesis::parse(format!("{text}\n").as_bytes()).unwrap();
            assert_ne!(other.chain_id(), read.chain_id());
            assert_eq!(read.issued(), 4 * u128::from(7 * STAR + 1) + 80_000 * u128::from(STAR));
            assert_eq!(read.weight(&read.committee[0]), 20_000);
        }
    }

    /// What a change of the file leads to, in the words a person reads.
    fn complaint(network: NetworkKind, from: &str, to: &str) -> String {
        let text = example(network).to_toml();
        assert!(text.contains(from), "{from} in {text}");
        Genesis::parse(text.replacen(from, to, 1).as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let devnet = |from, to| complaint(NetworkKind::Devnet, from, to);
        let public = |from, to| complaint(NetworkKind::Public, from, to);
        let cases = [
            (
                devnet("interval_ms =", "intervall_ms ="),
                "parameters: unknown key \"intervall_ms\"; did you mean \"interval_ms\"?",
            ),
            (devnet("network =", "netwrk ="), "genesis: unknown key \"netwrk\"; did you mean \"network\"?"),
            (devnet("tempo = 10", "colour = 10"), "subnets, row 1: unknown key \"colour\""),
            (devnet("name = \"test-net\"\n", ""), "genesis: \"name\" is missing"),
            (devnet("\"devnet\"", "\"testnet\""), "genesis: \"network\": must be \"devnet\" or \"public\""),
            (devnet("\"7.000000001 STAR\"", "7"), "accounts, row 1: \"balance\" must be an amount as a text"),
            (devnet("\"7.000000001 STAR\"", "\"7,5\""), "accounts, row 1: \"balance\": \"7,5\" is no amount"),
            (devnet("account = \"01", "account = \"zz"), "accounts, row 1: \"account\": character 0 is not a hex"),
            (devnet("idle_ms = 1000", "idle_ms = 999"), "parameters: idle_ms is below interval_ms"),
            (devnet("tempo = 10", "tempo = 3"), "subnets, row 1: tempo is 3; it must be 4 to 50400"),
            (public("tempo = 360", "tempo = 10"), "subnets, row 1: tempo is 10; it must be 60 to 50400"),
            (devnet("task = \"vision\"", "task = \"vison\""), "unknown task \"vison\"; did you mean \"vision\"?"),
            (devnet("reveal_window = 4", "reveal_window = 11"), "reveal_window is longer than tempo"),
            (devnet("\"digits\"", "\"Digits!\""), "the name is 1 to 32 of a-z, 0-9 and -"),
            (devnet("\"20000 STAR\"", "\"0.5 STAR\""), "is below min_stake or weight_unit"),
            (public("\"20000 STAR\"", "\"90000 STAR\""), "holds more than a third of the weight"),
            (devnet("\"/dns4", "\"dns4"), "is no address like /dns4/boot.example/tcp/9000"),
            (devnet("supply_cap = \"21000000 STAR\"", "supply_cap = \"10 STAR\""), "hold more than supply_cap"),
            (devnet("name = ", "name = = "), "the genesis file is no TOML"),
        ];
        for (found, want) in cases {
            assert!(found.contains(want), "{found}\nshould say: {want}");
        }
    }

    #[test]
    fn lists_hold_no_doubles_and_every_voter_has_an_account() {
        let check = |change: fn(&mut Genesis)| {
            let mut genesis = example(NetworkKind::Public);
            change(&mut genesis);
            genesis.seal().unwrap_err().to_string()
        };
        assert!(check(|g| g.accounts.push(g.accounts[0].clone())).contains("is listed twice"));
        assert!(check(|g| g.committee[1].consensus = g.committee[0].consensus).contains("is listed twice"));
        assert!(check(|g| g.committee[1].account = AccountId([77; 32])).contains("is not listed under accounts"));
        assert!(check(|g| g.subnets.push(g.subnets[0].clone())).contains("is taken twice"));
        assert!(check(|g| g.committee.truncate(3)).contains("at least 4 voters"));
        assert!(check(|g| g.committee.clear()).contains("nobody could vote"));
        let mut alone = example(NetworkKind::Devnet);
        alone.committee.truncate(1);
        assert!(alone.seal().is_ok(), "a devnet may run on one voter");
    }

    #[test]
    fn the_example_in_config_is_complete_and_commented() {
        let text = include_str!("../../../config/genesis.devnet.toml");
        let genesis = Genesis::parse(text.as_bytes()).unwrap();
        assert_eq!((genesis.network, genesis.committee.len(), genesis.subnets.len()), (NetworkKind::Devnet, 4, 2));
        let names = Parameters::SPECS.iter().map(|spec| (spec.name, spec.doc));
        for (name, doc) in names.chain(SubnetRules::SPECS.iter().map(|spec| (spec.name, spec.doc))) {
            assert!(text.contains(&format!("# {doc}\n{name} = ")), "{name}");
        }
    }

    /// E2: a twentieth of all there can be, to the first committee, which cannot take it out for half a year.
    #[test]
    fn e02_the_public_template_allots_a_twentieth_and_locks_it() {
        let genesis = Genesis::parse(include_bytes!("../../../config/genesis.public.toml")).unwrap();
        assert_eq!(genesis.network, NetworkKind::Public);
        assert_eq!(genesis.issued() * 20, u128::from(genesis.parameters.supply_cap));
        assert_eq!(genesis.parameters.genesis_lock_heights, 180 * 86_400);
        let stake: u64 = genesis.committee.iter().map(|row| row.stake).sum();
        assert!(u128::from(stake) * 1_000 > genesis.issued() * 999, "{stake}");
        assert!(genesis.subnets.iter().all(|subnet| subnet.rules == SubnetRules::defaults(NetworkKind::Public)));
    }

    #[test]
    fn distances_are_edits() {
        assert_eq!((distance("", "abc"), distance("tempo", "tmepo"), distance("a", "a")), (3, 2, 0));
        assert_eq!(nearest("tmpo", ["tempo", "slots"]), Some("tempo"));
        assert_eq!(nearest("colour", ["tempo", "slots"]), None);
    }
}
