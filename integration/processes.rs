//! Real processes on real sockets with real stores: killed, restarted, outnumbered, cut off.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A devnet of this test's own; stopped and removed at the end, however it ends.
struct Swarm {
    dir: PathBuf,
}

impl Swarm {
    fn up(name: &str, sizes: &[&str]) -> Self {
        let dir = std::env::temp_dir().join(format!("starling-processes-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let swarm = Self { dir };
        let mut words = vec!["up", "--detach", "--gateway-port", "0"];
        words.extend(sizes);
        let (code, document) = swarm.devnet(&words);
        assert_eq!(code, 0, "{document}");
        swarm
    }

    fn run(&self, words: &[&str]) -> (i32, Value) {
        let output = Command::new(env!("CARGO_BIN_EXE_starling"))
            .args(words)
            .arg("--json")
            .env("STARLING_DEVNET", &self.dir)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let document = serde_json::from_str(&text)
            .unwrap_or_else(|e| panic!("{words:?}: {e}: {text:?} {}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap_or(-1), document)
    }

    fn devnet(&self, words: &[&str]) -> (i32, Value) {
        let dir = self.dir.to_string_lossy().into_owned();
        let mut all = vec!["devnet", "--dir", &dir];
        all.extend(words);
        self.run(&all)
    }

    /// The heights of the validators that answer, by name.
    fn heights(&self) -> Vec<(String, u64)> {
        let (_, document) = self.devnet(&["status"]);
        let nodes = document["data"]["nodes"].as_array().cloned().unwrap_or_default();
        nodes
            .iter()
            .filter(|node| node["name"].as_str().is_some_and(|name| name.starts_with("validator")))
            .filter_map(|node| Some((node["name"].as_str()?.to_owned(), node["height"].as_u64()?)))
            .collect()
    }

    fn best(&self) -> u64 {
        self.heights().iter().map(|(_, height)| *height).max().unwrap_or(0)
    }

    /// Waits until it holds, and says how long that took.
    fn wait(&self, what: &str, within: Duration, holds: impl Fn(&Self) -> bool) -> Duration {
        let began = Instant::now();
        while !holds(self) {
            assert!(began.elapsed() < within, "{what}: not within {within:?}; heights {:?}", self.heights());
        }
        began.elapsed()
    }

    fn ok(&self, words: &[&str]) {
        let (code, document) = self.devnet(words);
        assert_eq!(code, 0, "{words:?}: {document}");
    }

    fn supply_holds(&self) {
        let (code, document) = self.run(&["chain", "supply"]);
        assert_eq!(code, 0, "{document}");
        assert_eq!(document["data"]["ok"], Value::Bool(true), "{document}");
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        let dir = self.dir.to_string_lossy().into_owned();
        let _down = Command::new(env!("CARGO_BIN_EXE_starling"))
            .args(["devnet", "--dir", &dir, "reset", "--yes"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let _gone = std::fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn validators_are_killed_and_come_back() {
    let swarm = Swarm::up("kill", &["--validators", "4", "--miners", "1"]);
    let tip = swarm.best();
    swarm.ok(&["chaos", "kill", "validator-2", "-9"]);
    let going_on = swarm.wait("heights after one kill", Duration::from_secs(15), |swarm| swarm.best() >= tip + 2);
    swarm.ok(&["chaos", "restart", "validator-2"]);
    let caught_up = swarm.wait("validator-2 after its restart", Duration::from_secs(20), |swarm| {
        let best = swarm.best();
        swarm.heights().iter().any(|(name, height)| name == "validator-2" && height + 2 >= best)
    });
    println!("heights went on after {going_on:?}, the killed one had caught up after {caught_up:?}");

    swarm.ok(&["chaos", "kill", "validator-1", "-9"]);
    swarm.ok(&["chaos", "kill", "validator-3", "-9"]);
    // What was on its way may still become final; then nothing more may.
    let mut stuck = swarm.best();
    let began = Instant::now();
    let mut quiet = Instant::now();
    while quiet.elapsed() < Duration::from_secs(6) {
        assert!(began.elapsed() < Duration::from_secs(30), "half of the stake keeps finalising");
        let best = swarm.best();
        if best > stuck {
            (stuck, quiet) = (best, Instant::now());
        }
    }
    swarm.ok(&["chaos", "restart", "validator-1"]);
    swarm.ok(&["chaos", "restart", "validator-3"]);
    let again = swarm.wait("heights after both are back", Duration::from_secs(60), |swarm| swarm.best() >= stuck + 3);
    println!("heights went on {again:?} after both were back");
    swarm.supply_holds();
}

#[test]
fn a_validator_cut_off_is_missed_by_nobody_and_catches_up() {
    let swarm = Swarm::up("cut", &["--validators", "4", "--miners", "1"]);
    swarm.ok(&["chaos", "partition", "validator-4"]);
    let tip = swarm.best();
    swarm.wait("heights without validator-4", Duration::from_secs(30), |swarm| swarm.best() >= tip + 5);
    swarm.ok(&["chaos", "heal"]);
    swarm.wait("validator-4 after the healing", Duration::from_secs(40), |swarm| {
        let best = swarm.best();
        swarm.heights().iter().any(|(name, height)| name == "validator-4" && height + 2 >= best)
    });
    swarm.supply_holds();
}

/// M13 from end to end: miners put their models on the ledger by themselves, strangers keep them, the publisher is killed,
/// and another node still gets every byte; then somebody publishes a child of it.
#[test]
fn a_model_is_pulled_from_strangers_after_its_publisher_was_killed() {
    let swarm = Swarm::up("models", &["--validators", "4", "--miners", "2"]);
    let (_, status) = swarm.devnet(&["status"]);
    let nodes = status["data"]["nodes"].as_array().cloned().unwrap();
    let urls: Vec<(String, String)> = nodes
        .iter()
        .map(|node| (node["name"].as_str().unwrap().to_owned(), node["http"].as_str().unwrap().to_owned()))
        .collect();
    let url = |name: &str| urls.iter().find(|(other, _)| other == name).map(|(_, url)| url.clone()).unwrap();
    let models = |swarm: &Swarm, node: &str| {
        let (code, document) = swarm.run(&["--node", node, "model", "list"]);
        if code == 0 { document["data"]["models"].as_array().cloned().unwrap_or_default() } else { Vec::new() }
    };
    let asked = url("validator-1");
    swarm.wait("models of both miners on the ledger", Duration::from_secs(300), |swarm| {
        models(swarm, &asked).len() >= 2
    });
    let (code, report) = swarm.run(&["--node", &url("miner-1"), "miner", "status"]);
    assert_eq!(code, 0, "{report}");
    let id = report["data"]["miners"][0]["model"].as_str().unwrap().to_owned();
    let row = models(&swarm, &asked).into_iter().find(|row| row["id"] == id.as_str()).expect("miner-1's model");
    assert!(row["bytes"].as_u64().unwrap() > 1_000 && row["licence"] == "MIT OR Apache-2.0", "{row}");

    let lenders: Vec<String> =
        urls.iter().filter(|(name, _)| !name.starts_with("miner")).map(|(_, url)| url.clone()).collect();
    swarm.wait("three strangers that keep it", Duration::from_secs(120), |swarm| {
        let keeps =
            |node: &&String| models(swarm, node).iter().any(|row| row["id"] == id.as_str() && row["here"] == "whole");
        lenders.iter().filter(keeps).count() >= 3
    });
    swarm.ok(&["chaos", "kill", "miner-1", "-9"]);

    let out = swarm.dir.join("pulled");
    let folder = out.to_string_lossy().into_owned();
    let pull = ["--node", &url("miner-2"), "--timeout", "90", "model", "pull", &id, "--out", &folder];
    let (code, document) = swarm.run(&pull);
    assert_eq!(code, 0, "{document}");
    assert_eq!(document["data"]["id"], id.as_str());
    assert_eq!(document["data"]["bytes"], row["bytes"]);
    assert!(document["data"]["sources"].as_u64().unwrap() >= 1, "{document}");
    assert!(document["data"]["seconds"].is_number());
    let file = out.join(format!("{id}.safetensors"));
    let (code, document) = swarm.run(&["model", "verify", &file.to_string_lossy()]);
    assert_eq!((code, &document["data"]["ok"]), (0, &Value::Bool(true)), "{document}");

    // A child: one bit of the last weight differs.
    let mut bytes = std::fs::read(&file).unwrap();
    let low = bytes.len() - 4;
    bytes[low] ^= 1;
    let child = out.join("child.safetensors");
    std::fs::write(&child, &bytes).unwrap();
    let (code, document) = swarm.run(&["model", "verify", &child.to_string_lossy(), "--id", &id]);
    assert_eq!((code, &document["data"]["ok"]), (12, &Value::Bool(false)), "{document}");
    let home = swarm.dir.join("validator-2");
    let subnet = row["subnet"].as_str().unwrap().to_owned();
    let publish = [
        "--data-dir",
        &home.to_string_lossy(),
        "--yes",
        "--timeout",
        "60",
        "model",
        "publish",
        &child.to_string_lossy(),
        "--subnet",
        &subnet,
        "--parent",
        &id,
        "--claim",
        "accuracy=0.5",
        "--sealed",
    ];
    let (code, document) = swarm.run(&publish);
    assert_eq!(code, 0, "{document}");
    let found = models(&swarm, &asked).into_iter().find(|other| other["parent"] == id.as_str()).expect("the child");
    assert!(found["since"].as_u64() < found["published"].as_u64(), "its age counts from the seal: {found}");
    let (code, document) = swarm.run(&["--node", &asked, "model", "show", found["id"].as_str().unwrap()]);
    assert_eq!((code, &document["data"]["lineage"][0]), (0, &row["id"]), "{document}");
    let (code, document) = swarm.run(&["--node", &asked, "model", "leaderboard", "--subnet", &subnet]);
    assert_eq!(code, 0, "{document}");
}

/// E7, E12-E17 from the command line: a market is opened, supported, changed, joined, left and closed again.
#[test]
fn a_market_is_opened_changed_and_closed_from_the_command_line() {
    let swarm = Swarm::up("market", &["--validators", "1", "--miners", "1", "--pace", "300"]);
    let home = swarm.dir.join("gateway").to_string_lossy().into_owned();
    let act = |words: &[&str]| {
        let mut all = vec!["--data-dir", &home, "--yes", "--timeout", "60"];
        all.extend(words);
        swarm.run(&all)
    };
    let did = |words: &[&str]| {
        let (code, document) = act(words);
        assert_eq!(code, 0, "{words:?}: {document}");
        document["data"].clone()
    };
    let refused = |words: &[&str], exit: i32, part: &str| {
        let (code, document) = act(words);
        let error = &document["error"];
        let said = format!("{} {}", error["message"].as_str().unwrap_or(""), error["help"].as_str().unwrap_or(""));
        assert!(code == exit && said.contains(part), "{words:?}: {code} {document}");
    };

    let before = did(&["chain", "budget"]);
    let lock: u64 = before["lock"].as_str().unwrap().parse().unwrap();
    assert_eq!(before["subnets_open"], before["subnets"].as_array().unwrap().len());
    refused(&["subnet", "create", "digits", "--task", "visoin"], 2, "did you mean \"vision\"");
    refused(&["subnet", "create", "Digits", "--task", "vision"], 2, "a-z, 0-9");
    refused(&["subnet", "create", "digits", "--task", "vision", "--max-lock", "1 STAR"], 8, "--max-lock");
    did(&["subnet", "create", "digits", "--task", "vision", "--tempo", "4"]);
    let shown = did(&["subnet", "show", "digits"]);
    assert_eq!(shown["standing"]["owner"], shown["owner"]);
    assert!(shown["owner"].is_string(), "{shown}");
    let locked: u64 = shown["standing"]["lock"].as_str().unwrap().parse().unwrap();
    assert!(locked > lock / 2 && locked <= lock, "{locked} of {lock}: it falls with time");
    assert_eq!(did(&["chain", "budget"])["subnets_open"], before["subnets_open"].as_u64().unwrap() + 1);
    refused(&["subnet", "create", "digits", "--task", "vision"], 8, "name");

    refused(&["subnet", "update", "digits"], 2, "--set RULE=VALUE");
    refused(&["subnet", "update", "digits", "--set", "slts=9"], 2, "did you mean slots");
    did(&["subnet", "update", "digits", "--set", "price_min=2 STAR", "--set", "slots=1"]);
    let announced = did(&["subnet", "show", "digits"])["standing"]["changes"].clone();
    assert_eq!((&announced[0]["rule"], &announced[1]["then"]), (&"slots".into(), &"2 STAR".into()), "{announced}");
    refused(&["subnet", "update", "digits", "--set", "slots=8"], 8, "");

    refused(&["stake", "support", "digits=0"], 2, "1 to 65535");
    refused(&["stake", "support", "digits=1"], 8, "");
    let validator = swarm.dir.join("validator-1").to_string_lossy().into_owned();
    let support = ["--data-dir", &validator, "--yes", "stake", "support", "digits=3", "vision=1"];
    let (code, document) = swarm.run(&support);
    assert_eq!(code, 0, "{document}");
    let voices = did(&["chain", "budget"])["voices"].clone();
    assert_eq!(voices[0]["parts"][0][1].as_f64(), Some(0.25), "{voices}");

    refused(&["subnet", "register", "digits", "--max-price", "0.1"], 8, "--max-price");
    did(&["subnet", "register", "digits", "--max-price", "5"]);
    let list = did(&["subnet", "eviction-list", "digits"]);
    assert_eq!((&list["miners"][0]["standing"], &list["exits"]), (&"waiting".into(), &0.into()), "{list}");
    // One place from now on: the next has to wait, and may give up again.
    swarm.wait("slots = 1 in force", Duration::from_secs(60), |_| {
        did(&["subnet", "show", "digits"])["standing"]["slots"] == 1
    });
    let queues = ["--data-dir", &validator, "--yes", "subnet", "register", "digits"];
    let (code, document) = swarm.run(&queues);
    assert_eq!(code, 0, "{document}");
    assert_eq!(did(&["subnet", "eviction-list", "digits"])["queue"].as_array().map(Vec::len), Some(1));
    let (code, document) = swarm.run(&["--data-dir", &validator, "--yes", "subnet", "unqueue", "digits"]);
    assert_eq!(code, 0, "{document}");
    refused(&["subnet", "unqueue", "digits"], 4, "no registration");
    did(&["subnet", "leave", "digits"]);
    swarm.wait("its place is free", Duration::from_secs(60), |_| did(&["subnet", "show", "digits"])["miners"] == 0);
    refused(&["subnet", "leave", "digits"], 4, "no such seat");

    refused(&["subnet", "match", "digits"], 8, "nobody wants");
    refused(&["subnet", "cancel"], 4, "no creation");
    did(&["subnet", "close", "digits"]);
    assert!(did(&["subnet", "show", "digits"])["standing"]["closing"].is_u64());
    let gone = |_: &Swarm| act(&["subnet", "show", "digits"]).0 == 4;
    swarm.wait("the end of the subnet", Duration::from_secs(90), gone);
    swarm.supply_holds();
}
