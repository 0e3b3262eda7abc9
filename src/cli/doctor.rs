//! `doctor`: looks at everything that stops nodes from working, and says for each finding what to do.

use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::json;

use super::context::Context;
use super::error::{CliError, Exit};
use super::output::{Reply, Table, ago, size};
use super::up::needed_keys;
use crate::config::{Config, EngineKind, MinerEntry, check};
use crate::ml::bench::speed;
use crate::ml::engine::Control;
use crate::ml::engine::upstream::probe;
use crate::node::upstream::Upstream;
use crate::protocol::genesis::Genesis;
use crate::protocol::report::NodeStatus;
use crate::store::keystore::Keystore;

const FREE_BYTES_MIN: u64 = 2 * 1024 * 1024 * 1024;
const SYNC_MS_MAX: u64 = 100;
const CLOCK_OFF_MS_MAX: u64 = 1_000;
const DIAL_LIMIT: Duration = Duration::from_secs(3);
const PROOF_LIMIT: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Area {
    Config,
    Keys,
    Disk,
    Clock,
    Net,
    Gpu,
}

#[derive(Args, Debug)]
pub struct Doctor {
    /// One area [default: all of them]
    #[arg(value_enum)]
    area: Option<Area>,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    area: &'static str,
    what: String,
    ok: bool,
    detail: String,
    remedy: String,
}

#[derive(Debug, Default)]
struct Chart {
    checks: Vec<Check>,
}

impl Chart {
    fn good(&mut self, area: &'static str, what: impl Into<String>, detail: impl Into<String>) {
        self.checks.push(Check { area, what: what.into(), ok: true, detail: detail.into(), remedy: String::new() });
    }

    fn bad(
        &mut self,
        area: &'static str,
        what: impl Into<String>,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.checks.push(Check { area, what: what.into(), ok: false, detail: detail.into(), remedy: remedy.into() });
    }
}

impl Doctor {
    pub(super) fn run(self, context: &Context) -> Result<Reply, CliError> {
        let mut chart = Chart::default();
        let wants = |area: Area| self.area.is_none_or(|chosen| chosen == area);
        let config = match context.config() {
            Ok(config) => config,
            Err(error) => {
                // Without a configuration nothing else can be looked at; that is the finding.
                chart.bad("config", "configuration", error.message, error.help);
                return Ok(reply(&chart));
            }
        };
        if wants(Area::Config) {
            look_at_config(&mut chart, &config);
        }
        if wants(Area::Keys) {
            look_at_keys(&mut chart, &config);
        }
        if wants(Area::Disk) {
            look_at_disk(&mut chart, &config.node.data_dir);
        }
        let status: Option<NodeStatus> = context.client().and_then(|client| client.get("/api/v1/status")).ok();
        if wants(Area::Clock) {
            look_at_clock(&mut chart, status.as_ref());
        }
        if wants(Area::Net) {
            look_at_net(&mut chart, &config, status.as_ref());
        }
        if wants(Area::Gpu) {
            look_at_devices(&mut chart, &config);
        }
        Ok(reply(&chart))
    }
}

/// Where models run here, and how fast.
fn look_at_devices(chart: &mut Chart, config: &Config) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let workers = if config.pool.threads == 0 { cores.saturating_sub(1).max(1) } else { config.pool.threads };
    let began = Instant::now();
    let clock = || u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    match speed(&clock) {
        Ok(speed) => {
            let detail = format!(
                "{workers} workers on {cores} cores, {}; each reads {:.0} contexts of {} bytes/s and trains on {:.0}/s with a \
                 transformer of {:.2} M parameters",
                speed.isa,
                speed.contexts_s,
                speed.context_bytes,
                speed.trained_s,
                speed.parameters as f64 / 1e6
            );
            chart.good("gpu", "CPU lane", detail);
        }
        Err(error) => {
            let remedy = "models cannot run here; report it with this output";
            chart.bad("gpu", "CPU lane", error.to_string(), remedy);
        }
    }
    // This program has no engine for them, but a serving engine on this machine has.
    let found: Vec<&str> =
        GPU_FILES.iter().filter(|(path, _)| Path::new(path).exists()).map(|(_, name)| *name).collect();
    let detail = if found.is_empty() {
        "none is seen; this build runs models on the processor alone".to_owned()
    } else {
        format!(
            "{} is here; this build has no engine for it: run vLLM, llama.cpp or Ollama on it and mine with engine = \
             \"upstream\"",
            found.join(", ")
        )
    };
    chart.good("gpu", "GPU", detail);
    for entry in config.miner.entries.iter().filter(|entry| entry.engine == EngineKind::Upstream) {
        look_at_upstream(chart, entry);
    }
}

/// What the kernel shows of a GPU.
const GPU_FILES: &[(&str, &str)] =
    &[("/dev/nvidia0", "an NVIDIA GPU"), ("/dev/kfd", "an AMD GPU"), ("/dev/dri/renderD128", "a graphics device")];

/// Asks a miner's server to prove itself, as the node does.
fn look_at_upstream(chart: &mut Chart, entry: &MinerEntry) {
    let what = format!("{} at {}", entry.upstream_model, entry.upstream_url);
    let began = Instant::now();
    let late = || began.elapsed() > PROOF_LIMIT;
    let proof = Upstream::of(entry)
        .and_then(|upstream| probe(&upstream.source, &Control::until(&late)).map_err(|error| error.to_string()));
    match proof {
        Ok(()) => chart.good("gpu", what, format!("lists its model and writes, in {} ms", began.elapsed().as_millis())),
        Err(error) => {
            let remedy = "start the server, or mend the upstream_ keys of this miner's [[miner.entries]]";
            chart.bad("gpu", what, error, remedy);
        }
    }
}

fn reply(chart: &Chart) -> Reply {
    let findings = chart.checks.iter().filter(|c| !c.ok).count();
    let mut table = Table::new(&["", "area", "looked at", "found"]);
    for c in &chart.checks {
        table.row(vec![if c.ok { "ok" } else { "!!" }.into(), c.area.into(), c.what.clone(), c.detail.clone()]);
    }
    let reply = Reply::of(&json!({ "findings": findings, "checks": chart.checks })).table(table);
    if findings == 0 {
        return reply.line("\nNothing was found.");
    }
    let reply = chart
        .checks
        .iter()
        .filter(|c| !c.ok)
        .fold(reply.heading("Remedies"), |reply, c| reply.line(format!("  {}: {}", c.what, c.remedy)));
    reply.exit(Exit::Findings)
}

fn look_at_config(chart: &mut Chart, config: &Config) {
    let findings = check::findings(config);
    if findings.is_empty() {
        chart.good("config", "configuration", "is right");
    }
    for f in findings {
        chart.bad("config", f.key, f.problem, f.remedy);
    }
    let path = config.genesis_path();
    match std::fs::read(&path).map_err(|e| e.to_string()).and_then(|b| Genesis::parse(&b).map_err(|e| e.to_string())) {
        Ok(genesis) => {
            chart.good("config", "genesis", format!("{}, chain {}", genesis.name, genesis.chain_id().short()));
        }
        Err(problem) => {
            let detail = format!("{}: {problem}", path.display());
            chart.bad("config", "genesis", detail, "get the network's file, then `starling init --network FILE`");
        }
    }
}

fn look_at_keys(chart: &mut Chart, config: &Config) {
    let keystore = Keystore::at(config.keys_dir());
    for (name, kind) in needed_keys(config) {
        match keystore.info(name) {
            Ok(info) if info.kind != kind => {
                let detail = format!("is of kind {}, needed is {kind}", info.kind);
                chart.bad("keys", name, detail, format!("name another key in node.{kind}_key"));
            }
            Ok(info) if info.plain && !config.network.dev => {
                let remedy = "export it, import it sealed under another name, and shred the plain file";
                chart.bad("keys", name, "is not sealed, and this is no devnet", remedy);
            }
            Ok(info) => chart.good("keys", name, format!("{kind} key {}", info.public.short())),
            Err(error) => {
                let error = CliError::from(error);
                chart.bad("keys", name, error.message, error.help);
            }
        }
    }
}

fn look_at_disk(chart: &mut Chart, dir: &Path) {
    let probe = dir.join(".doctor");
    let began = Instant::now();
    let written = std::fs::File::create(&probe).and_then(|mut file| {
        use std::io::Write;
        file.write_all(&[0; 4_096])?;
        file.sync_all()
    });
    let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let _ = std::fs::remove_file(&probe);
    match written {
        Err(e) => {
            let remedy = "make it a directory that this user may write; `starling init` makes one";
            chart.bad("disk", dir.display().to_string(), e.to_string(), remedy);
            return;
        }
        Ok(()) if took > SYNC_MS_MAX => {
            let remedy = "votes wait for this disk: use a local one that is not shared";
            chart.bad("disk", "sync", format!("takes {}", ago(took)), remedy);
        }
        Ok(()) => chart.good("disk", "sync", format!("takes {}", ago(took))),
    }
    match fs4::available_space(dir) {
        Ok(free) if free < FREE_BYTES_MIN => {
            let remedy = format!("free at least {}; a full disk stops a validator's votes", size(FREE_BYTES_MIN));
            chart.bad("disk", "free space", size(free), remedy);
        }
        Ok(free) => chart.good("disk", "free space", size(free)),
        Err(e) => chart.bad("disk", "free space", e.to_string(), "check the file system"),
    }
}

#[expect(clippy::disallowed_methods, reason = "the clock itself is what is examined")]
fn look_at_clock(chart: &mut Chart, status: Option<&NodeStatus>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let remedy = "run a time service, for example chrony or systemd-timesyncd";
    // What the network agreed on at its last checkpoint, plus how long ago this node saw it.
    match status.filter(|s| s.height > 0 && s.finalised_age_ms < 60_000) {
        Some(status) => {
            let network = status.finalised_at.0.saturating_add(status.finalised_age_ms);
            let off = now.abs_diff(network);
            if off > CLOCK_OFF_MS_MAX {
                chart.bad("clock", "against the network", format!("{} off", ago(off)), remedy);
            } else {
                chart.good("clock", "against the network", format!("within {}", ago(CLOCK_OFF_MS_MAX)));
            }
        }
        // 2026-01-01: before this program was written no clock is right.
        None if now < 1_767_225_600_000 => chart.bad("clock", "date", "lies in the past", remedy),
        None => chart.good("clock", "date", "is plausible; no running node to compare with"),
    }
}

fn look_at_net(chart: &mut Chart, config: &Config, status: Option<&NodeStatus>) {
    match status {
        Some(status) if status.peers == 0 => {
            let remedy = "check network.bootnodes below, and that outgoing connections are allowed";
            chart.bad("net", "peers", "the node runs and has none", remedy);
        }
        Some(status) => chart.good("net", "peers", status.peers.to_string()),
        None => {
            chart.good("net", "node", "none runs here, so the ports are tried");
            config.network.listen.iter().for_each(|address| try_port(chart, address));
        }
    }
    for address in &config.network.bootnodes {
        match dial(address) {
            Some(Ok(took)) => chart.good("net", address.clone(), format!("answers in {}", ago(took))),
            Some(Err(problem)) => {
                chart.bad("net", address.clone(), problem, "ask its operator, or use another bootnode");
            }
            None => chart.good("net", address.clone(), "not tried: only TCP is dialled from here"),
        }
    }
}

/// Host and port of a multiaddr, and whether it is TCP.
fn host_port(address: &str) -> Option<(String, u16, bool)> {
    let mut parts = address.split('/').skip(1);
    let (_, host, transport, port) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    Some((host.to_owned(), port.parse().ok()?, transport == "tcp"))
}

fn try_port(chart: &mut Chart, address: &str) {
    let Some((host, port, tcp)) = host_port(address) else { return };
    let Ok(ip) = host.parse() else { return };
    let at = SocketAddr::new(ip, port);
    let bound = if tcp { TcpListener::bind(at).map(drop) } else { UdpSocket::bind(at).map(drop) };
    match bound {
        Ok(()) => chart.good("net", address, "is free"),
        Err(e) => {
            let remedy = "stop what listens there, or change network.listen";
            chart.bad("net", address, e.to_string(), remedy);
        }
    }
}

/// Tries every address a name resolves to; `None` for what is not TCP.
fn dial(address: &str) -> Option<Result<u64, String>> {
    let (host, port, tcp) = host_port(address)?;
    if !tcp {
        return None;
    }
    let began = Instant::now();
    let addresses = match (host.as_str(), port).to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(e) => return Some(Err(format!("{host} does not resolve: {e}"))),
    };
    let mut problems = Vec::new();
    for at in addresses.take(4) {
        match TcpStream::connect_timeout(&at, DIAL_LIMIT) {
            Ok(_) => return Some(Ok(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX))),
            Err(e) => problems.push(format!("{at}: {e}")),
        }
    }
    Some(Err(problems.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::super::output::Ink;
    use super::*;

    #[test]
    fn findings_exit_with_12_and_name_their_remedies() {
        let mut chart = Chart::default();
        chart.good("disk", "sync", "takes 1 ms");
        assert_eq!(reply(&chart).exit_code(), 0);
        chart.bad("net", "peers", "none", "check bootnodes");
        let shown = reply(&chart);
        assert_eq!((shown.exit_code(), shown.data()["findings"].as_u64()), (12, Some(1)));
        assert!(shown.text(Ink(false)).contains("peers: check bootnodes"));
    }

    #[test]
    fn a_bootnode_that_refuses_says_why_for_each_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = format!("/ip4/127.0.0.1/tcp/{port}/p2p/x");
        assert!(dial(&address).unwrap().is_ok());
        drop(listener);
        assert!(dial(&address).unwrap().unwrap_err().starts_with(&format!("127.0.0.1:{port}: ")));
        assert_eq!(dial("/ip4/127.0.0.1/udp/1/quic-v1"), None);
        assert_eq!(host_port("/dns4/boot/tcp/9470/p2p/x"), Some(("boot".into(), 9470, true)));
    }
}
