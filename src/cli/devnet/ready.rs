//! From started processes to a swarm that works: nodes answer, a checkpoint is final, miners have learnt, everybody has a
//! seat, and a question is answered.

use std::time::{Duration, Instant};

use super::enrol::Enrolment;
use super::eyes::{Eyes, View};
use super::interrupt::Interrupt;
use super::plan::MinerPlan;
use super::processes::{Children, last_words};
use super::progress::Progress;
use super::question::Asker;
use super::record::{NodeRecord, Record};
use crate::cli::error::{CliError, Exit};
use crate::protocol::report::MinerReport;

/// A busy machine may be slow; beyond this something is wrong.
const LIMIT: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(250);

/// Everything a wait looks at.
pub struct Scene<'a> {
    pub record: &'a Record,
    pub eyes: &'a Eyes,
    pub children: &'a mut Children,
    pub interrupt: &'a Interrupt,
    pub progress: &'a mut Progress,
    /// Whether somebody stays who lets latecomers in; else they take their seats with all others.
    pub stays: bool,
}

impl std::fmt::Debug for Scene<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scene").field("record", &self.record.dir).finish_non_exhaustive()
    }
}

impl Scene<'_> {
    /// A pause between two looks.
    ///
    /// # Errors
    /// The person interrupted, a node's process has ended, or time is up; the last names what was waited for.
    fn pause(&mut self, began: Instant, views: &[View], missing: impl FnOnce() -> String) -> Result<(), CliError> {
        self.children.reap();
        if let Some(dead) = views.iter().find(|view| view.pid.is_none()) {
            return Err(self.died(&dead.name));
        }
        if began.elapsed() > LIMIT {
            let message = format!("not ready after {} s: {}", LIMIT.as_secs(), missing());
            return Err(CliError::new(Exit::Failed, message, "`starling devnet logs NODE` shows what a node says"));
        }
        if self.interrupt.wait(POLL) { Err(interrupted()) } else { Ok(()) }
    }

    fn died(&self, name: &str) -> CliError {
        let words = self.record.node(name).map(|node| last_words(&node.log(), 6)).unwrap_or_default();
        CliError::failed(format!("{name} has ended:\n{words}"))
    }

    /// Waits for everything.
    ///
    /// # Errors
    /// See `pause`; also when a seat is refused.
    pub fn until_ready(&mut self) -> Result<(), CliError> {
        let began = Instant::now();
        self.nodes_answer(began)?;
        self.first_checkpoint(began)?;
        self.miners_seated(began)?;
        self.first_answers(began)
    }

    fn nodes_answer(&mut self, began: Instant) -> Result<(), CliError> {
        let all = self.record.nodes.len();
        self.progress.stage("starting nodes", all);
        loop {
            let views = self.eyes.look(false);
            let silent: Vec<&str> = views.iter().filter(|v| v.status.is_none()).map(|v| v.name.as_str()).collect();
            self.progress.at(all - silent.len(), all, "");
            if silent.is_empty() {
                self.progress.done(&format!("{all} processes answer"));
                return Ok(());
            }
            let missing = || format!("{} do not answer", silent.join(", "));
            self.pause(began, &views, missing)?;
        }
    }

    fn first_checkpoint(&mut self, began: Instant) -> Result<(), CliError> {
        self.progress.stage("first checkpoint", 1);
        loop {
            let views = self.eyes.look(false);
            let height = views.iter().map(View::height).max().unwrap_or(0);
            if height > 0 {
                self.progress.done(&format!("height {height} is final"));
                return Ok(());
            }
            let peers: u32 = views.iter().filter_map(|v| v.status.as_ref()).map(|s| s.peers).sum();
            self.progress.at(0, 1, &format!("{peers} links"));
            self.pause(began, &views, || "no checkpoint is final".to_owned())?;
        }
    }

    fn miners_seated(&mut self, began: Instant) -> Result<(), CliError> {
        let stays = self.stays;
        let later = |node: &NodeRecord| stays && node.miner.as_ref().is_some_and(MinerPlan::is_late);
        let mut enrolment = Enrolment::new(self.record, |node| !later(node));
        let miners: Vec<String> = self.record.miners().map(|(node, _)| node.name.clone()).collect();
        self.progress.stage("learning, registering", enrolment.total());
        loop {
            let views = self.eyes.look(true);
            let untaught: Vec<&str> =
                views.iter().filter(|v| miners.contains(&v.name) && !has_learnt(v)).map(|v| v.name.as_str()).collect();
            let ready = |name: &str| !untaught.contains(&name);
            if let Some(client) = self.eyes.any("gateway") {
                match enrolment.step(client, ready) {
                    Err(error) if error.retryable => enrolment.trouble = Some(error.message),
                    other => other?,
                }
            }
            let learnt = format!("{} of {} miners have learnt", miners.len() - untaught.len(), miners.len());
            self.progress.at(enrolment.held(), enrolment.total(), &learnt);
            if enrolment.is_done() {
                self.progress.done(&format!("{} seats are taken", enrolment.total()));
                return Ok(());
            }
            let trouble = enrolment.trouble.clone().unwrap_or_default();
            let missing =
                || format!("{} of {} seats are taken; {learnt}; {trouble}", enrolment.held(), enrolment.total());
            self.pause(began, &views, missing)?;
        }
    }

    fn first_answers(&mut self, began: Instant) -> Result<(), CliError> {
        let mut asker = Asker::new(self.record)?;
        self.progress.stage("first answers", asker.tasks());
        let mut answered = 0;
        while answered < asker.tasks() {
            let outcome = asker.ask();
            answered += usize::from(outcome.is_ok());
            self.progress.at(answered, asker.tasks(), "");
            if let Err(error) = outcome {
                let views = self.eyes.look(false);
                self.pause(began, &views, || format!("the gateway gives no answer: {}", error.message))?;
            }
        }
        self.progress.done("the gateway answers");
        Ok(())
    }
}

/// Whether the miners inside a node answer: a node tells of none before it has its model.
fn has_learnt(view: &View) -> bool {
    let serves =
        |report: &MinerReport| !report.miners.is_empty() && report.miners.iter().all(|miner| miner.state == "serving");
    view.miner.as_ref().is_some_and(serves)
}

pub fn interrupted() -> CliError {
    CliError::new(Exit::Interrupted, "interrupted", "")
}
