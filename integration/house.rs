//! The rules of the house, as tests over the sources: which layer may name which, what nobody may call, that the table of
//! actors is the truth, and the floors of the lock file. Standard library only; it reads text and decides nothing else.
//!
//! Rules hold for what ships: a module's own tests, from its `#[cfg(test)]` on, are read for the few bans that hold there
//! too. A rule that must be broken is changed here, in the same commit, with the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A source file: its path below the repository, and its text without comments and texts in quotes.
struct Source {
    path: String,
    raw: String,
    /// What ships, comments and quoted texts blanked, lines kept.
    code: String,
    /// The same with the tests.
    whole: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn collect(dir: &Path, out: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

fn sources(folder: &str) -> Vec<Source> {
    let mut paths = Vec::new();
    collect(&root().join(folder), &mut paths);
    assert!(!paths.is_empty(), "no sources in {folder}");
    let read = |path: PathBuf| {
        let raw = std::fs::read_to_string(&path).unwrap();
        let whole = blank(&raw);
        let shipped = !path.ends_with("tests.rs") && !path.components().any(|c| c.as_os_str() == "tests");
        let before_tests = whole.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
        let code = if shipped { before_tests.to_owned() } else { String::new() };
        Source { path: path.strip_prefix(root()).unwrap().display().to_string(), raw, code, whole }
    };
    paths.into_iter().map(read).collect()
}

/// Blanks comments and the insides of quoted texts, so that a rule is never broken by prose.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut i = 0;
    while i < chars.len() {
        let end = match (at(i), at(i + 1)) {
            ('/', '/') => (i..chars.len()).find(|&j| at(j) == '\n').unwrap_or(chars.len()),
            ('/', '*') => {
                (i + 2..chars.len()).find(|&j| at(j) == '*' && at(j + 1) == '/').map_or(chars.len(), |j| j + 2)
            }
            ('r', '"' | '#') if raw_text(&chars, i).is_some() && !word(at(i.wrapping_sub(1))) => {
                raw_text(&chars, i).unwrap_or(chars.len())
            }
            ('"', _) => quoted_text(&chars, i),
            // A character, not a lifetime.
            ('\'', '\\') => (i + 3..chars.len()).find(|&j| at(j) == '\'').map_or(chars.len(), |j| j + 1),
            ('\'', _) if at(i + 2) == '\'' => i + 3,
            _ => {
                out.push(at(i));
                i += 1;
                continue;
            }
        };
        out.extend((i..end).map(|j| if at(j) == '\n' { '\n' } else { ' ' }));
        i = end;
    }
    out
}

fn quoted_text(chars: &[char], start: usize) -> usize {
    let mut j = start + 1;
    while j < chars.len() && chars[j] != '"' {
        j += if chars[j] == '\\' { 2 } else { 1 };
    }
    (j + 1).min(chars.len())
}

fn raw_text(chars: &[char], start: usize) -> Option<usize> {
    let hashes = chars[start + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(start + 1 + hashes) != Some(&'"') {
        return None;
    }
    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = start + 2 + hashes;
    let found = chars.get(body..)?.windows(close.len()).position(|w| w == close)?;
    Some(body + found + close.len())
}

fn word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The line numbers where a name stands as a whole path, not as a part of another name.
fn lines_with(code: &str, name: &str) -> Vec<usize> {
    // A letter on both sides of an end makes it the middle of another name.
    let joined = |before: Option<char>, after: Option<char>| before.is_some_and(word) && after.is_some_and(word);
    let whole = |line: &str, at: usize| {
        let (before, after) = (line[..at].chars().next_back(), line[at + name.len()..].chars().next());
        !joined(before, name.chars().next()) && !joined(name.chars().next_back(), after)
    };
    let hit = |line: &str| line.match_indices(name).any(|(at, _)| whole(line, at));
    code.lines().enumerate().filter(|(_, line)| hit(line)).map(|(i, _)| i + 1).collect()
}

/// The layer of a file: its first folder below `src`, or its own name.
fn layer(path: &str) -> &str {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    inside.split(['/', '.']).next().unwrap_or(inside)
}

/// Every layer and those it may name. What is not here may not exist.
const LAYERS: &[(&str, &[&str])] = &[
    ("lib", &[]),
    ("main", &["cli"]),
    ("protocol", &[]),
    ("ledger", &["protocol"]),
    ("consensus", &["protocol"]),
    ("ml", &["protocol"]),
    ("net", &["protocol"]),
    ("store", &["protocol"]),
    ("config", &["protocol"]),
    ("telemetry", &["protocol"]),
    ("actors", &["protocol", "ledger", "consensus", "ml", "net", "store"]),
    ("api", &["protocol", "actors"]),
    ("node", &["protocol", "ledger", "consensus", "ml", "net", "store", "config", "telemetry", "actors", "api"]),
    ("sim", &["protocol", "ledger", "consensus", "ml", "net", "store"]),
    (
        "cli",
        &[
            "protocol",
            "ledger",
            "consensus",
            "ml",
            "net",
            "store",
            "config",
            "telemetry",
            "actors",
            "api",
            "node",
            "sim",
        ],
    ),
];

/// The layers that a piece of code names, with the line: `crate::x`, also inside `use crate::{a, b::c}`.
fn named_layers(code: &str) -> Vec<(usize, String)> {
    let mut out = Vec::new();
    for root in ["crate::", "starling::"] {
        for (at, _) in code.match_indices(root) {
            if word(code[..at].chars().next_back().unwrap_or(' ')) || code[..at].ends_with('$') {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            let rest = &code[at + root.len()..];
            if let Some(group) = rest.strip_prefix('{') {
                out.extend(group_heads(group).into_iter().map(|name| (line, name)));
            } else {
                out.push((line, rest.chars().take_while(|c| word(*c)).collect()));
            }
        }
    }
    out
}

/// The first names of the parts of `{a, b::c, d::{e, f}}`, given from behind its brace.
fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut heads, mut head, mut open) = (0, Vec::new(), String::new(), true);
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                heads.push(std::mem::take(&mut head));
                open = true;
            }
            ':' => open = false,
            c if open && depth == 0 && word(c) => head.push(c),
            _ => {}
        }
    }
    heads.push(head);
    heads.retain(|h| !h.is_empty() && h != "self");
    heads
}

fn report(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}\n  {}\n", broken.join("\n  "));
}

#[test]
fn a_layer_names_only_those_below_it() {
    let allowed: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    let mut broken = Vec::new();
    for source in sources("src") {
        let own = layer(&source.path);
        let Some(may) = allowed.get(own) else {
            broken.push(format!("{}: `{own}` is no room of this house", source.path));
            continue;
        };
        for (line, name) in named_layers(&source.code) {
            if name != own && !may.contains(&name.as_str()) && allowed.contains_key(name.as_str()) {
                broken.push(format!("{}:{line}: `{own}` names `{name}`", source.path));
            }
        }
    }
    report("what may depend on what", &broken);
}

/// A name and the places that may use it: path prefixes below the repository. No prefix: nobody may.
type Ban = (&'static str, &'static [&'static str], &'static str);

const WALLS: &[Ban] = &[
    ("actix", &["src/actors/", "src/node", "src/api/"], "the actor package is walled in"),
    ("actix_web", &["src/api/", "src/node", "src/cli/"], "HTTP lives in api"),
    ("bincode", &["src/protocol/codec.rs"], "one file turns bytes into messages"),
    ("libp2p", &["src/net/"], "only net knows the network library"),
    ("libp2p_stream", &["src/net/"], "only net knows the network library"),
    ("redb", &["src/store/"], "only store knows the database"),
    ("burn", &["src/ml/"], "only ml knows the tensor library"),
    ("candle_core", &["src/ml/engine/llm/"], "one engine knows candle"),
    ("candle_transformers", &["src/ml/engine/llm/"], "one engine knows candle"),
    ("tokenizers", &["src/ml/engine/llm/"], "one engine knows tokens"),
    ("clap", &["src/cli/", "src/main.rs"], "only the command line parses arguments"),
    ("indicatif", &["src/cli/"], "progress bars belong to the command line"),
    ("ureq", &["src/cli/", "src/node/upstream/"], "the blocking HTTP client stays there"),
    ("getrandom", &["src/node", "src/cli/"], "entropy enters at the composition root"),
    ("SystemTime::now", &["src/node", "src/cli/", "src/actors/clock.rs"], "time is an argument"),
    ("mailbox::<", &["src/node", "src/actors/mail.rs"], "only the composition root constructs an actor"),
    ("mail::start", &["src/node", "src/actors/mail.rs"], "only the composition root constructs an actor"),
];

/// What no shipped code and no test may call.
const BANNED: &[(&str, &str)] = &[
    ("do_send", "ignores the mailbox bound; use mail::tell"),
    ("SyncArbiter", "queues without limit"),
    ("unbounded_channel", "every queue has a bound"),
    ("thread::sleep", "wait for a state, with a deadline"),
    ("todo!", "write it"),
    ("unimplemented!", "write it"),
    ("#[ignore", "a test runs or is gone"),
];

/// The core is pure: what none of its shipped code may name.
const IMPURE: &[&str] = &[
    "actix",
    "tokio",
    "libp2p",
    "std::time",
    "std::fs",
    "std::net",
    "std::thread",
    "std::env::var",
    "std::env::args",
    "std::process",
    "Instant",
    "SystemTime",
    "getrandom",
    "thread_rng",
];

const CORE: &[&str] = &["protocol", "ledger", "consensus", "ml"];

#[test]
fn the_core_is_pure() {
    let mut broken = Vec::new();
    for source in sources("src").iter().filter(|s| CORE.contains(&layer(&s.path))) {
        // An engine may own devices and threads.
        let engine = source.path.starts_with("src/ml/engine/");
        for name in IMPURE.iter().filter(|n| !(engine && **n == "std::thread")) {
            broken.extend(lines_with(&source.code, name).iter().map(|l| format!("{}:{l}: {name}", source.path)));
        }
    }
    report("protocol, ledger, consensus and ml name no clock, chance, file, thread or network", &broken);
}

#[test]
fn integers_decide_and_maps_have_an_order() {
    let mut broken = Vec::new();
    for source in sources("src") {
        let floats: &[&str] =
            if ["ledger", "consensus"].contains(&layer(&source.path)) { &["f32", "f64"] } else { &[] };
        let hashed: &[&str] = if ["protocol", "ledger", "consensus"].contains(&layer(&source.path)) {
            &["HashMap", "HashSet"]
        } else {
            &[]
        };
        for name in floats.iter().chain(hashed) {
            broken.extend(lines_with(&source.code, name).iter().map(|l| format!("{}:{l}: {name}", source.path)));
        }
    }
    report("no floats in ledger and consensus; no hash maps in the core", &broken);
}

#[test]
fn walls_hold() {
    let mut broken = Vec::new();
    for source in sources("src") {
        for (name, places, why) in WALLS {
            if places.iter().any(|place| source.path.starts_with(place)) {
                continue;
            }
            let path = [format!("{name}::"), format!("{name};"), format!("use {name}")];
            let lines: BTreeSet<usize> = if name.contains("::") {
                lines_with(&source.code, name).into_iter().collect()
            } else {
                path.iter().flat_map(|p| lines_with(&source.code, p)).collect()
            };
            broken.extend(lines.iter().map(|l| format!("{}:{l}: {name}: {why}", source.path)));
        }
    }
    report("walled packages stay behind their walls", &broken);
}

#[test]
fn nobody_calls_what_is_banned() {
    let mut broken = Vec::new();
    let here = sources("integration").into_iter().filter(|s| !s.path.ends_with("house.rs"));
    for source in sources("src").into_iter().chain(here) {
        for (name, why) in BANNED {
            broken
                .extend(lines_with(&source.whole, name).iter().map(|l| format!("{}:{l}: {name}: {why}", source.path)));
        }
    }
    report("banned calls", &broken);
}

#[test]
fn every_file_says_what_it_is() {
    let silent = |s: &Source| !s.raw.starts_with("//! ");
    let broken = sources("src")
        .iter()
        .chain(&sources("integration"))
        .filter(|s| silent(s))
        .map(|s| s.path.clone())
        .collect::<Vec<String>>();
    report("every file opens with //! and its owner-sentence", &broken);
}

/// Lines before its tests that a file may have at the very most; from `LONG` on it is named.
const LONGEST: usize = 800;
const LONG: usize = 400;

#[test]
fn files_fit_on_a_few_screens() {
    let mut sizes: Vec<(usize, String)> =
        sources("src").iter().map(|s| (s.code.lines().count(), s.path.clone())).collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    for (lines, path) in sizes.iter().take_while(|(lines, _)| *lines > LONG) {
        println!("{path}: {lines} lines before its tests; around {LONG} fit");
    }
    let broken =
        sizes.iter().filter(|(n, _)| *n > LONGEST).map(|(n, p)| format!("{p}: {n} lines")).collect::<Vec<String>>();
    report("what is longer is two things", &broken);
}

/// One row's message of the table in `actors/mod.rs`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    from: String,
    to: String,
    ask: bool,
    message: String,
}

fn graph() -> BTreeSet<Edge> {
    let text = std::fs::read_to_string(root().join("src/actors/mod.rs")).unwrap();
    let mut edges = BTreeSet::new();
    for line in text.lines().filter_map(|l| l.strip_prefix("//! |")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [from, to, messages, ..] = cells.as_slice() else { continue };
        if *from == "from" || from.starts_with('-') {
            continue;
        }
        for message in messages.split(',').map(str::trim) {
            let (kind, name) =
                message.split_once(' ').unwrap_or_else(|| panic!("{message}: write T `Name`, A `Name` or N `Name`"));
            assert!(["T", "A", "N"].contains(&kind), "{message}: write T `Name`, A `Name` or N `Name`");
            // What another node answers makes nobody wait here; it can only go out by the door.
            assert!(kind != "N" || *to == "router", "{message}: the network is asked through the router");
            edges.insert(Edge {
                from: (*from).to_owned(),
                to: (*to).to_owned(),
                ask: kind == "A",
                message: name.trim_matches('`').to_owned(),
            });
        }
    }
    assert!(!edges.is_empty(), "actors/mod.rs has no table");
    edges
}

fn actor_sources() -> BTreeMap<String, String> {
    let mut by_actor: BTreeMap<String, String> = BTreeMap::new();
    for source in sources("src/actors") {
        let inside = source.path.trim_start_matches("src/actors/");
        let actor = inside.split(['/', '.']).next().unwrap_or(inside).to_owned();
        by_actor.entry(actor).or_default().push_str(&source.code);
    }
    by_actor
}

/// The bodies of `struct Links` in an actor's sources.
fn links(code: &str) -> Vec<String> {
    let bodies = code.match_indices("struct Links").filter_map(|(at, _)| {
        let rest = &code[at..];
        let open = rest.find('{')?;
        Some(rest[open..].split('}').next()?.to_owned())
    });
    bodies.collect()
}

/// The message types of every `Recipient<...>`, without their paths.
fn recipients(body: &str) -> BTreeSet<String> {
    let inside = |at: usize| body[at + "Recipient<".len()..].split('>').next().unwrap_or_default();
    let last = |path: &str| path.rsplit("::").next().unwrap_or(path).trim().to_owned();
    body.match_indices("Recipient<").map(|(at, _)| last(inside(at))).collect()
}

#[test]
fn links_are_the_table() {
    let (edges, actors) = (graph(), actor_sources());
    let mut broken = Vec::new();
    let names: BTreeSet<&String> = edges.iter().flat_map(|e| [&e.from, &e.to]).collect();
    for name in names {
        let Some(code) = actors.get(name) else {
            broken.push(format!("{name}: in the table, and there is no such file"));
            continue;
        };
        let told: BTreeSet<String> = edges.iter().filter(|e| e.from == *name).map(|e| e.message.clone()).collect();
        let held: BTreeSet<String> = links(code).iter().flat_map(|body| recipients(body)).collect();
        broken.extend(told.difference(&held).map(|m| format!("{name}: `{m}` is in the table and not in Links")));
        broken.extend(held.difference(&told).map(|m| format!("{name}: `{m}` is in Links and not in the table")));
    }
    for (name, code) in &actors {
        if !links(code).is_empty() && !edges.iter().any(|e| e.from == *name) {
            broken.push(format!("{name}: has Links and no row in the table"));
        }
    }
    report("the type of Links is the graph", &broken);
}

#[test]
fn a_message_lives_with_the_actor_that_hears_it() {
    let actors = actor_sources();
    let declared = |e: &Edge| {
        let code = actors.get(&e.to).map(String::as_str).unwrap_or_default();
        ["struct", "enum"].iter().any(|kind| !lines_with(code, &format!("{kind} {}", e.message)).is_empty())
    };
    let broken = graph()
        .iter()
        .filter(|e| !declared(e))
        .map(|e| format!("`{}` is told to {} and not declared there", e.message, e.to))
        .collect::<Vec<String>>();
    report("one struct each, beside its hearer", &broken);
}

#[test]
fn asks_form_no_cycle() {
    let mut asks: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for edge in graph().into_iter().filter(|e| e.ask) {
        asks.entry(edge.from).or_default().insert(edge.to);
    }
    // Actors that ask nobody who is left can be taken away; what cannot be taken away is a cycle.
    while let Some(done) =
        asks.iter().find(|(_, to)| !to.iter().any(|t| asks.contains_key(t))).map(|(from, _)| from.clone())
    {
        asks.remove(&done);
    }
    let broken = asks
        .iter()
        .map(|(from, to)| format!("{from} asks {}", to.iter().cloned().collect::<Vec<_>>().join(", ")))
        .collect::<Vec<String>>();
    report("asks form no cycle; tells may", &broken);
}

/// Versions below these have published faults that a stranger can reach.
const FLOORS: &[(&str, [u64; 3])] = &[
    ("libp2p-gossipsub", [0, 50, 1]),
    ("yamux", [0, 13, 10]),
    ("hickory-proto", [0, 26, 1]),
    ("quinn-proto", [0, 11, 12]),
];
/// Versions that are kept for a reason.
const PINS: &[(&str, &str)] = &[("bincode", "2.0.1"), ("burn", "0.22.0")];

fn lock() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let value = |block: &str, key: &str| {
        block
            .lines()
            .find_map(|l| l.strip_prefix(key)?.trim().strip_prefix("= \"")?.strip_suffix('"').map(str::to_owned))
    };
    text.split("[[package]]").filter_map(|b| Some((value(b, "name")?, value(b, "version")?))).collect()
}

fn numbers(version: &str) -> [u64; 3] {
    let mut parts = version.split(['.', '-', '+']).map(|p| p.parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

#[test]
fn the_lock_file_keeps_its_floors_and_pins() {
    let lock = lock();
    let mut broken = Vec::new();
    for (name, floor) in FLOORS {
        let found: Vec<&str> = lock.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect();
        assert!(!found.is_empty(), "{name} has left the lock file: take its floor away");
        broken.extend(found.iter().filter(|v| numbers(v) < *floor).map(|v| format!("{name} {v} is below {floor:?}")));
    }
    for (name, pin) in PINS {
        broken.extend(
            lock.iter().filter(|(n, v)| n == name && v != pin).map(|(n, v)| format!("{n} {v}, pinned is {pin}")),
        );
    }
    report("the lock file", &broken);
}

#[test]
fn the_reader_reads_what_it_should() {
    assert_eq!(blank("a // b\nc"), "a     \nc");
    assert_eq!(blank("x(\"a\\\"b\", 'c', &'d str)"), "x(      ,    , &'d str)");
    assert_eq!(blank("r#\"a\"b\"# c"), "         c");
    let code = "use crate::{net::Event, protocol::{ids, keys}, ledger};\nuse crate::ml::x;\n";
    let names: Vec<String> = named_layers(code).into_iter().map(|(_, n)| n).collect();
    assert_eq!(names, ["net", "protocol", "ledger", "ml"]);
    assert_eq!(lines_with("let hashmap = 1;\nHashMap::new();\nMyHashMap", "HashMap"), [2]);
    assert_eq!(
        recipients("{ a: Recipient<Dial>, b: Vec<Recipient<router::Drop>> "),
        ["Dial", "Drop"].map(String::from).into()
    );
    assert!(numbers("0.13.9") < [0, 13, 10]);
}
