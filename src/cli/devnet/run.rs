//! A run with an end: watches the swarm until a height is final, asks it questions meanwhile, and tells how it went.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use super::enrol::Enrolment;
use super::eyes::{Eyes, View};
use super::plan::{Extra, MinerPlan, Wishes, markets};
use super::processes::last_words;
use super::question::Asker;
use super::ready::{Scene, interrupted};
use super::record::{NodeRecord, Record};
use super::summary::{Known, Observed, Tally};
use crate::cli::error::CliError;
use crate::cli::statement;
use crate::ml::engine::cpu::{CpuEngine, MEMORY_BYTES};
use crate::ml::engine::random::RandomEngine;
use crate::ml::engine::{Control, Engine};
use crate::ml::model::Artifact;
use crate::ml::task;
use crate::protocol::ids::{AccountId, Digest, Height};
use crate::protocol::report::{SubnetReport, SupplyReport};

const POLL: Duration = Duration::from_millis(400);
/// Between two questions.
const ASK_EVERY: Duration = Duration::from_millis(1_500);
/// Between two looks at the slower things: tables, supply, memory.
const SLOW_EVERY: Duration = Duration::from_secs(2);
/// Heights are said to have stopped after this long without one.
const STALL: Duration = Duration::from_secs(60);
const REASONS_MAX: usize = 5;
/// The share of the run after which latecomers join.
const LATE_PART: u64 = 3;

/// Asks in the background until told to stop.
struct Asking {
    stop: std::sync::mpsc::SyncSender<()>,
    thread: std::thread::JoinHandle<Tally>,
}

impl Asking {
    fn start(record: &Record) -> Result<Self, CliError> {
        let mut asker = Asker::new(record)?;
        let (stop, stopped) = sync_channel::<()>(1);
        let ask = move || {
            let mut tally = Tally::default();
            while asker.tasks() > 0 && stopped.recv_timeout(ASK_EVERY) == Err(RecvTimeoutError::Timeout) {
                tally.asked += 1;
                match asker.ask() {
                    Ok(()) => tally.answered += 1,
                    Err(error) => {
                        tally.failed += 1;
                        if tally.reasons.len() < REASONS_MAX {
                            tally.reasons.push(error.message);
                        }
                    }
                }
            }
            tally
        };
        let spawned = std::thread::Builder::new().name("asker".into()).spawn(ask);
        let thread = spawned.map_err(|e| CliError::failed(format!("a thread for questions: {e}")))?;
        Ok(Self { stop, thread })
    }

    fn finish(self) -> Tally {
        drop(self.stop);
        let lost = || Tally { failed: 1, reasons: vec!["the asker broke down".to_owned()], ..Tally::default() };
        self.thread.join().unwrap_or_else(|_| lost())
    }
}

/// Watches until `heights` is final.
///
/// # Errors
/// The person interrupted. Everything else that goes wrong is part of what was observed.
pub fn watch(scene: &mut Scene<'_>, heights: Height) -> Result<Observed, CliError> {
    let mut seen = Observed::default();
    let mut late = Enrolment::new(scene.record, |node| node.miner.as_ref().is_some_and(MinerPlan::is_late));
    let asking = Asking::start(scene.record)?;
    let began = Instant::now();
    let (mut slow, mut moved) = (Instant::now().checked_sub(SLOW_EVERY), Instant::now());
    let mut ended = BTreeSet::new();
    let steps = usize::try_from(heights).unwrap_or(usize::MAX);
    scene.progress.stage("running", steps);
    while seen.height < heights {
        let views = scene.eyes.look(false);
        if note_heights(&mut seen, &views) {
            moved = Instant::now();
        }
        note_ends(&mut seen, scene.record, &views, &mut ended);
        if slow.is_none_or(|last| last.elapsed() >= SLOW_EVERY) {
            slow = Some(Instant::now());
            note_tables(&mut seen, &scene.record.wishes, scene.eyes);
        }
        if seen.height >= heights / LATE_PART && !late.is_done() {
            join(&mut late, scene.eyes, &mut seen);
        }
        scene.progress.at(usize::try_from(seen.height).unwrap_or(0), steps, &scene.record.gateway.url);
        if moved.elapsed() > STALL {
            let failure = format!("no height after {} for {} s", seen.height, STALL.as_secs());
            seen.failures.push(failure);
            break;
        }
        scene.children.reap();
        if seen.height < heights && scene.interrupt.wait(POLL) {
            return Err(interrupted());
        }
    }
    note_tables(&mut seen, &scene.record.wishes, scene.eyes);
    note_statements(&mut seen, scene.record, scene.eyes);
    seen.seconds = began.elapsed().as_secs();
    seen.tally = asking.finish();
    scene.progress.done(&format!("height {} is final", seen.height));
    Ok(seen)
}

/// Keeps heights and their times to finality; true when there is a new height.
fn note_heights(seen: &mut Observed, views: &[View]) -> bool {
    let before = seen.height;
    for view in views {
        seen.height = seen.height.max(view.height());
        let Some(head) = &view.head else { continue };
        if let (Some(ms), "validator") = (head.finality_ms, view.role.as_str()) {
            seen.finality_ms.insert((view.name.clone(), head.height), ms);
        }
    }
    seen.height > before
}

fn note_ends(seen: &mut Observed, record: &Record, views: &[View], ended: &mut BTreeSet<String>) {
    for view in views.iter().filter(|view| view.pid.is_none()) {
        if ended.insert(view.name.clone()) {
            let words = record.node(&view.name).map(|node| last_words(&node.log(), 1)).unwrap_or_default();
            seen.failures.push(format!("{} has ended: {words}", view.name));
        }
    }
}

fn note_tables(seen: &mut Observed, wishes: &Wishes, eyes: &Eyes) {
    for (subnet, _) in markets(wishes) {
        if let Some(table) = eyes.metagraph(subnet) {
            seen.remember(table);
        }
    }
    seen.rss_bytes_max = seen.rss_bytes_max.max(eyes.memory_peak());
    let Some(client) = eyes.any("validator") else { return };
    if let Ok(supply) = client.get::<SupplyReport>("/api/v1/supply") {
        // One wrong height is wrong for good.
        let ok = supply.ok && (seen.supply.ok || seen.supply == SupplyReport::default());
        seen.supply = SupplyReport { ok, ..supply };
    }
    if seen.kinds.is_empty()
        && let Ok(subnets) = client.get::<Vec<SubnetReport>>("/api/v1/subnets")
    {
        seen.kinds = subnets.into_iter().map(|s| (s.id, s.kind)).collect();
    }
}

/// Adds up the statement of every account once.
fn note_statements(seen: &mut Observed, record: &Record, eyes: &Eyes) {
    let Some(client) = eyes.any("validator") else { return };
    let accounts: BTreeSet<AccountId> = record.nodes.iter().map(|node| node.account).collect();
    for account in accounts {
        match statement::audit(client, &account) {
            Ok((lines, ok)) => {
                seen.statements.accounts += 1;
                seen.statements.lines += u64::try_from(lines).unwrap_or(u64::MAX);
                seen.statements.differences += u64::from(!ok);
            }
            Err(error) => seen.failures.push(format!("the statement of {} is not told: {error}", account.short())),
        }
    }
}

fn join(late: &mut Enrolment, eyes: &Eyes, seen: &mut Observed) {
    let Some(client) = eyes.any("gateway") else { return };
    match late.step(client, |_| true) {
        Err(error) if !error.retryable => seen.failures.push(format!("a latecomer got no seat: {}", error.message)),
        _ => {}
    }
}

/// What every miner is truly worth: its saved model on the whole held-out set of its task.
///
/// # Errors
/// A model cannot be read or judged; the others are.
pub fn known(record: &Record) -> (BTreeMap<AccountId, Known>, Vec<String>) {
    let mut failures = Vec::new();
    let mut known = BTreeMap::new();
    for (node, miner) in record.miners() {
        let true_quality = quality(record, node, miner).unwrap_or_else(|problem| {
            failures.push(format!("{}: {problem}", node.name));
            0.0
        });
        let behaviour = miner.behaviour.clone();
        known.insert(node.account, Known { node: node.name.clone(), behaviour, true_quality });
    }
    for node in record.nodes.iter().filter(|node| node.role == "validator") {
        let known_as = Known { node: node.name.clone(), behaviour: node.behaviour(), true_quality: 0.0 };
        known.insert(node.account, known_as);
    }
    (known, failures)
}

fn quality(record: &Record, node: &NodeRecord, miner: &MinerPlan) -> Result<f64, String> {
    let task = task::open(&miner.task).map_err(|e| e.to_string())?;
    match Extra::named(&miner.behaviour) {
        // What is never given is worth nothing, whatever the model behind it.
        Some(Extra::Silent | Extra::Relay | Extra::Memoriser) => return Ok(0.0),
        Some(Extra::Random) => {
            let mut guesser = RandomEngine::new(miner.seed);
            let quality = task.true_quality(&mut guesser, Digest::ZERO, &Control::FREE).map_err(|e| e.to_string())?;
            return Ok(quality.quality);
        }
        _ => {}
    }
    let own = node.data_dir.join("models").join(format!("{}.safetensors", miner.subnet));
    let engine = record.engines.iter().find(|engine| miner.upstream.as_ref() == Some(&engine.http));
    let path = engine.map_or(own, NodeRecord::engine_file);
    let bytes = fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let artifact = Artifact::from_bytes(&bytes).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut engine = CpuEngine::new(MEMORY_BYTES).map_err(|e| e.to_string())?;
    let handle = engine.load(&artifact).map_err(|e| e.to_string())?;
    let quality = task.true_quality(&mut engine, handle, &Control::FREE).map_err(|e| e.to_string())?;
    Ok(quality.quality)
}
