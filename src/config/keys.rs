//! Every key of the configuration, once: its kind, its default and its meaning.
//!
//! This table is the schema that values are checked against, the list `config schema` prints, and what near matches are
//! drawn from. A key that is not here does not exist.

use toml::Value;

/// What a value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// Relative paths in a file are taken from that file's directory.
    Path,
    /// An IP address and port.
    Socket,
    Flag,
    Whole {
        min: u64,
        max: u64,
    },
    Choice(&'static [&'static str]),
    List,
    ListOf(&'static [&'static str]),
    /// An array of tables with these keys.
    Entries(&'static [Key]),
}

/// One key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub section: &'static str,
    pub name: &'static str,
    pub kind: Kind,
    /// A TOML literal; empty for a key inside entries that must be given.
    pub default: &'static str,
    pub doc: &'static str,
}

impl Key {
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// The variable that sets it.
    pub fn variable(&self) -> String {
        format!("STARLING_{}_{}", self.section.to_uppercase(), self.name.to_uppercase())
    }
}

const ROLES: &[&str] = &["boot", "full", "validator", "miner", "gateway"];
const MODELS: &[&str] = &["auto", "mlp", "conv", "byte_mlp", "byte_gpt", "seasonal", "linear", "patches"];
const ENGINES: &[&str] = &["own", "upstream", "gguf"];
const TEMPLATES: &[&str] = &["server", "plain", "chatml", "llama3", "gemma", "mistral"];
const BEHAVIOURS: &[&str] = &["honest", "random", "silent", "late", "relay", "memoriser", "plagiarist"];
const MANNERS: &[&str] = &["honest", "copier", "non_revealer", "self_dealer"];
const EXTRAS: &[&str] = &[
    "random",
    "silent",
    "late",
    "relay",
    "memoriser",
    "copier",
    "non_revealer",
    "self_dealer",
    "forecast",
    "upstream",
    "competition",
];

const fn key(section: &'static str, name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { section, name, kind, default, doc }
}

const fn whole(min: u64, max: u64) -> Kind {
    Kind::Whole { min, max }
}

/// The keys of one `[[miner.entries]]`.
pub const ENTRY_KEYS: &[Key] = &[
    key("miner.entries", "subnet", Kind::Text, "", "The subnet to mine in, by name or number."),
    key("miner.entries", "behaviour", Kind::Choice(BEHAVIOURS), "\"honest\"", "Other than honest only on a devnet."),
    key(
        "miner.entries",
        "model",
        Kind::Choice(MODELS),
        "\"auto\"",
        "What it trains; auto: what the task is known for.",
    ),
    key("miner.entries", "samples", whole(1, 10_000_000), "1000", "Training samples: images, bytes of text, or hours."),
    key("miner.entries", "steps", whole(0, 10_000_000), "300", "Optimiser steps at start."),
    key("miner.entries", "width", whole(1, 4_096), "32", "Hidden units, or numbers for each place of a transformer."),
    key("miner.entries", "seed", whole(0, i64::MAX as u64), "0", "Seed of the training slice and the first weights."),
    key(
        "miner.entries",
        "engine",
        Kind::Choice(ENGINES),
        "\"own\"",
        "own: trained here; upstream: a server's; gguf: a file's.",
    ),
    key("miner.entries", "upstream_url", Kind::Text, "\"\"", "An OpenAI-compatible server, http:// and its address."),
    key("miner.entries", "upstream_model", Kind::Text, "\"\"", "The model's name at that server."),
    key("miner.entries", "upstream_key_file", Kind::Text, "\"\"", "A file with the server's API key; empty: none."),
    key("miner.entries", "upstream_key_env", Kind::Text, "\"\"", "Or the variable that holds it; empty: none."),
    key(
        "miner.entries",
        "upstream_template",
        Kind::Choice(TEMPLATES),
        "\"server\"",
        "How the model is told who speaks; server: as the server likes.",
    ),
    key("miner.entries", "upstream_silence_ms", whole(100, 600_000), "15000", "A server silent for so long is closed."),
    key("miner.entries", "upstream_tokens_max", whole(1, 65_536), "1024", "Tokens of one answer at most."),
    key("miner.entries", "gguf_path", Kind::Text, "\"\"", "A GGUF file of the llama family, for a build with `llm`."),
    key(
        "miner.entries",
        "gguf_memory_mb",
        whole(1, 1_048_576),
        "4096",
        "Memory for it; needed are four times its size.",
    ),
    key("miner.entries", "upstream_parallel", whole(1, 256), "8", "Requests at the server at once."),
    key("miner.entries", "account_key", Kind::Text, "\"\"", "Account key of this miner; empty: node.account_key."),
];

/// All of them, in the order they are shown.
pub const KEYS: &[Key] = &[
    key("node", "name", Kind::Text, "\"\"", "A name for logs and status; empty: the first digits of the node key."),
    key("node", "roles", Kind::ListOf(ROLES), "[\"full\"]", "What this node does; roles combine freely."),
    key("node", "data_dir", Kind::Path, "\"\"", "Where everything is kept; empty: ~/.starling."),
    key("node", "keys", Kind::Path, "\"\"", "The keystore's directory; empty: <data_dir>/keys."),
    key("node", "node_key", Kind::Text, "\"node\"", "Keystore name of the link identity's key."),
    key("node", "account_key", Kind::Text, "\"account\"", "Keystore name of the key that owns this node's account."),
    key("node", "consensus_key", Kind::Text, "\"consensus\"", "Keystore name of the key that votes."),
    key("node", "passphrase_file", Kind::Path, "\"\"", "A file whose first line opens the keys; empty: ask."),
    key("network", "genesis", Kind::Path, "\"\"", "Path of the genesis file; empty: <data_dir>/genesis.toml."),
    key(
        "network",
        "listen",
        Kind::List,
        "[\"/ip4/0.0.0.0/tcp/9470\", \"/ip4/0.0.0.0/udp/9470/quic-v1\", \"/ip6/::/tcp/9470\", \"/ip6/::/udp/9470/quic-v1\"]",
        "Addresses to accept links on.",
    ),
    key("network", "announce", Kind::List, "[]", "Addresses to tell others; empty: those found out."),
    key(
        "network",
        "bootnodes",
        Kind::List,
        "[]",
        "Multiaddrs to join by, beside those of the genesis; each ends in /p2p/.",
    ),
    key("network", "peers_target", whole(1, 500), "50", "How many peers to keep."),
    key("network", "memory_max_mb", whole(64, 1_048_576), "1024", "New links are refused above this resident size."),
    key("network", "dev", Kind::Flag, "false", "Development: loopback addresses are told, chaos commands obeyed."),
    key("network", "mdns", Kind::Flag, "false", "Find peers on the local network; only with dev."),
    key("http", "bind", Kind::Socket, "\"127.0.0.1:9464\"", "Health, metrics and explorer of this node."),
    key("gateway", "bind", Kind::Socket, "\"127.0.0.1:8080\"", "The OpenAI-shaped interface."),
    key("gateway", "api_keys", Kind::List, "[]", "Callers must show one of these; empty: no key is asked."),
    key("gateway", "insecure", Kind::Flag, "false", "Serve others than this machine although no key is asked."),
    key("gateway", "body_bytes_max", whole(1_024, 67_108_864), "1048576", "Larger requests are refused with 413."),
    key("gateway", "queries_max", whole(1, 65_536), "64", "Queries in flight at once; more are refused with 429."),
    key("gateway", "queries_per_minute", whole(0, 1_000_000), "0", "For each API key or address; 0: no limit."),
    key("gateway", "deadline_ms", whole(100, 600_000), "30000", "How long a caller waits unless it says otherwise."),
    key("miner", "entries", Kind::Entries(ENTRY_KEYS), "[]", "The miners inside this node, one table each."),
    key("validator", "subnets", Kind::List, "[]", "Subnets whose miners this node scores; empty: all."),
    key("validator", "challenges_per_epoch", whole(1, 1_000), "8", "Challenges for each miner and epoch."),
    key(
        "validator",
        "bond_top_up",
        Kind::Text,
        "\"10 STAR\"",
        "What a bond below its least gets from the free balance, per seat and sixteen epochs at most; 0: nothing.",
    ),
    key("validator", "behaviour", Kind::Choice(MANNERS), "\"honest\"", "Another than honest only on a devnet."),
    key("validator", "favours", Kind::List, "[]", "Accounts that a self_dealer gives everything to."),
    key("pool", "threads", whole(0, 1_024), "0", "Threads of the CPU lane; 0: one less than the cores."),
    key("pool", "jobs_max", whole(1, 65_536), "256", "Jobs queued at once; more are refused as busy."),
    key(
        "artifacts",
        "quota_mb",
        whole(16, 67_108_864),
        "4096",
        "Disk for artifacts; when it is full, what nobody needs goes first.",
    ),
    key(
        "artifacts",
        "lend",
        Kind::Flag,
        "true",
        "Keep models of others within the quota; nodes with the roles full, validator or boot.",
    ),
    key(
        "artifacts",
        "serve_mb_s",
        whole(0, 1_048_576),
        "64",
        "Bytes a second given to all peers together, in MB; 0: no limit.",
    ),
    key("artifacts", "survey_s", whole(1, 3_600), "15", "Seconds between two looks at what should be kept."),
    key(
        "artifacts",
        "publish",
        Kind::Flag,
        "true",
        "A miner of this node records its model on the ledger; the account pays a small fee.",
    ),
    key("log", "filter", Kind::Text, "\"info\"", "What is logged: info, or starling=debug,libp2p=warn."),
    key("log", "format", Kind::Choice(&["auto", "human", "json"]), "\"auto\"", "auto: human on a terminal, else JSON."),
    key("devnet", "validators", whole(1, 64), "4", "Validators of `devnet up`."),
    key("devnet", "miners", whole(0, 64), "6", "Miners of `devnet up`."),
    key("devnet", "seed", whole(0, i64::MAX as u64), "1", "All keys and slices of a devnet follow from it."),
    key("devnet", "gateway_port", whole(0, 65_535), "8080", "Port of a devnet's gateway; 0: any free one."),
    key(
        "devnet",
        "with",
        Kind::ListOf(EXTRAS),
        "[]",
        "Further miners and validators; forecast, competition: a subnet.",
    ),
];

/// The row of `section.name`.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|k| k.path() == path)
}

/// Section names, each once, in order.
pub fn sections() -> Vec<&'static str> {
    let mut names: Vec<&'static str> = KEYS.iter().map(|k| k.section).collect();
    names.dedup();
    names
}

/// The known name that a mistyped one most likely meant: at most a third of its letters away.
pub fn near<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed = typed.to_lowercase();
    known
        .into_iter()
        .map(|name| (distance(&typed, &name.to_lowercase()), name))
        .filter(|(d, name)| *d <= name.len().max(typed.len()).div_ceil(3))
        .min_by_key(|(d, _)| *d)
        .map(|(_, name)| name)
}

/// Letters to insert, drop, change or swap with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let at = |row: &[usize], i: usize| row.get(i).copied().unwrap_or(usize::MAX / 2);
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (at(&last, j) + usize::from(x != y)).min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && Some(x) == b.get(j - 1) && a.get(i - 1) == Some(y);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    at(&last, b.len())
}

/// What is wrong with a value of this kind, or `None`.
pub fn problem(kind: Kind, value: &Value) -> Option<String> {
    let one_of = |text: &str, choices: &[&str]| {
        let hint = near(text, choices.iter().copied()).map(|n| format!("; did you mean \"{n}\"?")).unwrap_or_default();
        (!choices.contains(&text)).then(|| format!("is \"{text}\", not one of {}{hint}", choices.join(", ")))
    };
    let list = |value: &Value| -> Result<Vec<String>, String> {
        let texts = value.as_array().and_then(|a| a.iter().map(|v| v.as_str().map(str::to_owned)).collect());
        texts.ok_or_else(|| format!("must be a list of texts, not {}", describe(value)))
    };
    match kind {
        Kind::Text | Kind::Path => value.as_str().is_none().then(|| format!("must be a text, not {}", describe(value))),
        Kind::Flag => value.as_bool().is_none().then(|| format!("must be true or false, not {}", describe(value))),
        Kind::Socket => match value.as_str().map(str::parse::<std::net::SocketAddr>) {
            Some(Ok(_)) => None,
            _ => Some(format!("must be an address and port like \"127.0.0.1:8080\", not {}", describe(value))),
        },
        Kind::Whole { min, max } => match value.as_integer().map(u64::try_from) {
            Some(Ok(n)) if (min..=max).contains(&n) => None,
            _ => Some(format!("must be a whole number from {min} to {max}, not {}", describe(value))),
        },
        Kind::Choice(choices) => match value.as_str() {
            Some(text) => one_of(text, choices),
            None => Some(format!("must be one of {}, not {}", choices.join(", "), describe(value))),
        },
        Kind::List => list(value).err(),
        Kind::ListOf(choices) => match list(value) {
            Ok(texts) => texts.iter().find_map(|text| one_of(text, choices)),
            Err(problem) => Some(problem),
        },
        Kind::Entries(keys) => match value.as_array() {
            Some(entries) => entries.iter().enumerate().find_map(|(i, e)| entry_problem(i, e, keys)),
            None => Some(format!("must be tables, written [[miner.entries]], not {}", describe(value))),
        },
    }
}

fn entry_problem(index: usize, entry: &Value, keys: &[Key]) -> Option<String> {
    let number = index + 1;
    let Some(table) = entry.as_table() else { return Some(format!("number {number} is no table")) };
    for (name, value) in table {
        let Some(key) = keys.iter().find(|k| k.name == name) else {
            let hint = near(name, keys.iter().map(|k| k.name)).map(|n| format!("; did you mean `{n}`?"));
            return Some(format!("number {number} has an unknown key `{name}`{}", hint.unwrap_or_default()));
        };
        if let Some(problem) = problem(key.kind, value) {
            return Some(format!("number {number}: `{name}` {problem}"));
        }
    }
    let missing = keys.iter().find(|k| k.default.is_empty() && !table.contains_key(k.name));
    missing.map(|k| format!("number {number} lacks `{}`", k.name))
}

fn describe(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 60 { format!("a {}", value.type_str()) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_of_its_kind_and_no_key_stands_twice() {
        for key in KEYS.iter().chain(ENTRY_KEYS.iter().filter(|k| !k.default.is_empty())) {
            let table: toml::Table = format!("x = {}", key.default).parse().unwrap();
            assert_eq!(problem(key.kind, &table["x"]), None, "{}", key.path());
            assert!(key.doc.ends_with('.'), "{}", key.path());
        }
        let paths: std::collections::BTreeSet<String> = KEYS.iter().map(Key::path).collect();
        assert_eq!(paths.len(), KEYS.len());
    }

    #[test]
    fn near_matches_are_near() {
        let names = ["listen", "bootnodes", "announce", "dev"];
        for (typed, meant) in [
            ("listn", Some("listen")),
            ("lisetn", Some("listen")),
            ("bootnode", Some("bootnodes")),
            ("Listen", Some("listen")),
            ("dve", Some("dev")),
            ("zzzzzz", None),
        ] {
            assert_eq!(near(typed, names), meant, "{typed}");
        }
    }

    #[test]
    fn wrong_values_are_described() {
        let value = |text: &str| format!("x = {text}").parse::<toml::Table>().unwrap()["x"].clone();
        for (kind, text, part) in [
            (Kind::Flag, "1", "true or false, not 1"),
            (whole(1, 5), "9", "from 1 to 5, not 9"),
            (Kind::Socket, "\"localhost\"", "like \"127.0.0.1:8080\""),
            (Kind::ListOf(ROLES), "[\"miner\", \"validtor\"]", "did you mean \"validator\"?"),
            (Kind::List, "\"a\"", "list of texts"),
            (
                Kind::Entries(ENTRY_KEYS),
                "[{ subnet = \"a\", stepz = 1 }]",
                "unknown key `stepz`; did you mean `steps`?",
            ),
            (Kind::Entries(ENTRY_KEYS), "[{ steps = 1 }]", "number 1 lacks `subnet`"),
        ] {
            let found = problem(kind, &value(text)).unwrap();
            assert!(found.contains(part), "{found}");
        }
    }
}
