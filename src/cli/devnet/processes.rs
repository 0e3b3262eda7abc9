//! Real processes of this program: started apart from the terminal, found again by their pid files, stopped with grace.
//!
//! A pid alone may be another program's by now: a pid file also holds the time the process was started at, and only a
//! process of that very start counts as ours. Whoever starts a node need not be who stops it.

use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use super::interrupt::Interrupt;
use super::plan::ENGINE_MODEL;
use super::record::{NodeRecord, Record, write_whole};
use crate::cli::error::CliError;

/// How long a node has to stop by itself.
pub const GRACE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);

/// Processes started by this one, kept so that they can be reaped; dropping it leaves them running.
#[derive(Debug, Default)]
pub struct Children(Vec<Child>);

impl Children {
    /// Starts a node: its own process group, so that Ctrl-C on the terminal reaches only the orchestrator, which then
    /// stops everybody in order; output to its log; none of our environment's settings.
    ///
    /// # Errors
    /// The program or the log cannot be opened.
    pub fn start(&mut self, node: &NodeRecord) -> Result<u32, CliError> {
        let exe = std::env::current_exe().map_err(|e| CliError::failed(format!("where this program is: {e}")))?;
        let log = node.log();
        let out = OpenOptions::new().create(true).append(true).open(&log).map_err(|e| CliError::file(&log, &e))?;
        let err = out.try_clone().map_err(|e| CliError::file(&log, &e))?;
        let mut command = Command::new(exe);
        if node.is_engine() {
            let bind = node.http.trim_start_matches("http://");
            command.args(["model", "serve", "--name", ENGINE_MODEL, "--bind", bind]).arg(node.engine_file());
        } else {
            command.arg("up").arg("--config").arg(node.data_dir.join("config.toml"));
        }
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        // A setting meant for one node of the person's own must not change eleven others.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("STARLING_")) {
            command.env_remove(name);
        }
        let child = command.spawn().map_err(|e| CliError::failed(format!("{} did not start: {e}", node.name)))?;
        let pid = child.id();
        let started = start_time(pid).unwrap_or(0);
        write_whole(&node.pid_file(), format!("{pid} {started}\n").as_bytes())?;
        self.0.push(child);
        Ok(pid)
    }

    /// Collects those that have ended; without it they would linger as zombies and look alive to others.
    pub fn reap(&mut self) {
        self.0.retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
    }
}

/// Field 22 of `/proc/PID/stat`, the start in clock ticks since boot; `None` when the process is gone or a zombie.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets and may hold anything, so fields are counted behind it.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" { None } else { fields.nth(18)?.parse().ok() }
}

/// The pid of a node's living process.
pub fn alive(node: &NodeRecord) -> Option<u32> {
    let text = fs::read_to_string(node.pid_file()).ok()?;
    let (pid, started) = text.trim().split_once(' ')?;
    let (pid, started): (u32, u64) = (pid.parse().ok()?, started.parse().ok()?);
    (start_time(pid) == Some(started)).then_some(pid)
}

/// Nodes of a devnet that live, with their pids.
pub fn living(record: &Record) -> Vec<(&NodeRecord, u32)> {
    record.processes().filter_map(|node| alive(node).map(|pid| (node, pid))).collect()
}

/// The most memory a process ever had resident, in bytes.
pub fn memory_peak(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1_024)
}

/// Sends a signal; a process that is gone already is no error.
///
/// # Errors
/// It is not ours to signal.
pub fn send(pid: u32, wanted: Signal) -> Result<(), CliError> {
    let target = i32::try_from(pid).map(Pid::from_raw).map_err(|e| CliError::failed(e.to_string()))?;
    match signal::kill(target, wanted) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(e) => Err(CliError::failed(format!("process {pid}: {e}"))),
    }
}

/// How stopping went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    pub asked: usize,
    /// Did not end within the grace and were killed.
    pub killed: usize,
}

impl Stopped {
    /// In words, for people.
    pub fn words(&self) -> String {
        let killed = if self.killed > 0 {
            format!("; {} of them did not stop by themselves", self.killed)
        } else {
            String::new()
        };
        format!("{} nodes stopped{killed}.", self.asked)
    }
}

/// Asks these nodes to stop, waits, kills what stays. A second interrupt ends the patience.
///
/// # Errors
/// A process is not ours to signal.
pub fn stop<'a>(
    nodes: impl IntoIterator<Item = &'a NodeRecord>,
    children: &mut Children,
    interrupt: &Interrupt,
) -> Result<Stopped, CliError> {
    let nodes: Vec<&NodeRecord> = nodes.into_iter().filter(|node| alive(node).is_some()).collect();
    let mut stopped = Stopped { asked: nodes.len(), killed: 0 };
    for pid in nodes.iter().filter_map(|node| alive(node)) {
        send(pid, Signal::SIGTERM)?;
    }
    if !await_end(&nodes, children, interrupt, GRACE) {
        for pid in nodes.iter().filter_map(|node| alive(node)) {
            stopped.killed += 1;
            send(pid, Signal::SIGKILL)?;
        }
        await_end(&nodes, children, interrupt, GRACE);
    }
    for node in nodes {
        let _ = fs::remove_file(node.pid_file());
    }
    Ok(stopped)
}

/// Waits until none of these lives. False when time or patience ran out first.
pub fn await_end(nodes: &[&NodeRecord], children: &mut Children, interrupt: &Interrupt, limit: Duration) -> bool {
    let began = Instant::now();
    loop {
        children.reap();
        if nodes.iter().all(|node| alive(node).is_none()) {
            return true;
        }
        if began.elapsed() > limit || interrupt.wait(POLL) {
            return false;
        }
    }
}

/// The last lines of a log, for an error that must explain itself.
pub fn last_words(log: &Path, lines: usize) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeRecord {
        let dir = std::env::temp_dir().join(format!("starling-process-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        NodeRecord {
            name: name.into(),
            role: "full".into(),
            node: Default::default(),
            account: Default::default(),
            p2p: String::new(),
            http: String::new(),
            data_dir: dir,
            miner: None,
            manner: None,
            ports: vec![],
        }
    }

    #[test]
    fn a_pid_file_counts_only_for_the_process_that_wrote_it() {
        let node = node("stale");
        assert_eq!(alive(&node), None, "no file");
        let own = std::process::id();
        let started = start_time(own).unwrap();
        fs::write(node.pid_file(), format!("{own} {started}\n")).unwrap();
        assert_eq!(alive(&node), Some(own));
        fs::write(node.pid_file(), format!("{own} {}\n", started + 1)).unwrap();
        assert_eq!(alive(&node), None, "another process has the number now");
        fs::write(node.pid_file(), "nonsense").unwrap();
        assert_eq!(alive(&node), None);
        assert!(memory_peak(own).unwrap() > 1 << 20);
    }

    fn running(name: &str, script: &str) -> (NodeRecord, Children) {
        let node = node(name);
        // The shell says when its trap is set; a signal before that would end it.
        let ready = node.data_dir.join("ready");
        let _ = fs::remove_file(&ready);
        let script = script.replace("READY", &format!("touch {}", ready.display()));
        let child = Command::new("sh").args(["-c", &script]).process_group(0).spawn().unwrap();
        let pid = child.id();
        fs::write(node.pid_file(), format!("{pid} {}\n", start_time(pid).unwrap())).unwrap();
        while !ready.exists() {
            Interrupt::never().wait(POLL);
        }
        (node, Children(vec![child]))
    }

    #[test]
    fn a_node_that_listens_stops_and_one_that_does_not_is_not_waited_for_without_end() {
        let interrupt = Interrupt::never();
        let (node, mut children) = running("polite", "trap 'exit 0' TERM; READY; while :; do sleep 0.02; done");
        assert_eq!(stop([&node], &mut children, &interrupt).unwrap(), Stopped { asked: 1, killed: 0 });
        assert_eq!((alive(&node), node.pid_file().exists()), (None, false));
        let (node, mut children) = running("deaf", "trap '' TERM; READY; while :; do sleep 0.02; done");
        let pid = alive(&node).unwrap();
        send(pid, Signal::SIGTERM).unwrap();
        assert!(!await_end(&[&node], &mut children, &interrupt, Duration::from_millis(200)));
        send(pid, Signal::SIGKILL).unwrap();
        assert!(await_end(&[&node], &mut children, &interrupt, GRACE));
        assert_eq!(stop([&node], &mut children, &interrupt).unwrap(), Stopped::default());
    }
}
