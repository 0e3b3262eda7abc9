//! Running a competition's models: fetched, loaded one after the other, asked the epoch's questions, judged side by side.
//!
//! One competition of a subnet at a time, once an epoch. Everything is bounded: models and their bytes by the contest, each
//! run by a deadline, all of it by the epoch, after which its outcome counts nowhere.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

use super::contest::{self, Author, Ran, Rival};
use super::{HeightFinalised, Scorer, Seat};
use crate::actors::artifact_keeper::{PullArtifact, ReadChunk};
use crate::actors::mail::ask;
use crate::actors::worker_pool::{Cancel, Done, Job, Lane, RunJob};
use crate::ml::mark::{Mark, whole};
use crate::ml::task::{Challenge, Task};
use crate::protocol::artifact::CHUNK_BYTES;
use crate::protocol::ids::{Digest, SubnetId};
use crate::protocol::query::Answer;
use crate::protocol::report::{ArtifactReport, ArtifactState};
use crate::protocol::score_log::Entry;

/// The keeper says how things stand within this.
const LOOK_DEADLINE: Duration = Duration::from_secs(5);
/// One model has so long for all questions.
const RUN_MS: u64 = 30_000;

/// Whom a run asks.
#[derive(Clone)]
struct Hands {
    pull: Recipient<PullArtifact>,
    read: Recipient<ReadChunk>,
    run: Recipient<RunJob>,
}

impl Hands {
    /// How an artifact stands here; it is on its way when it is not.
    async fn look(&self, id: Digest) -> Option<ArtifactReport> {
        ask(&self.pull, PullArtifact { id }, LOOK_DEADLINE).await.ok()
    }

    /// The bytes of a whole artifact.
    async fn bytes(&self, id: Digest) -> Result<Vec<u8>, String> {
        let report = self.look(id).await.filter(|report| report.state == ArtifactState::Whole);
        let report = report.ok_or_else(|| "it is not here yet".to_owned())?;
        let room = u64::from(report.chunks) * CHUNK_BYTES as u64;
        if room > contest::MODEL_BYTES_MAX + CHUNK_BYTES as u64 {
            return Err(format!("{} chunks are too many", report.chunks));
        }
        let mut bytes = Vec::new();
        for index in 0..report.chunks {
            let chunk = ask(&self.read, ReadChunk { id, index }, LOOK_DEADLINE).await.map_err(|e| e.to_string())?;
            bytes.extend(chunk?);
        }
        Ok(bytes)
    }

    async fn judged(&self, task: Arc<dyn Task>, challenges: Arc<Vec<Challenge>>, of: &Rival) -> Result<Ran, String> {
        let (model, bytes) = (of.artifact, self.bytes(of.artifact).await?);
        let job = Job::Evaluate { task, challenges, model, bytes };
        let run = RunJob { job, lane: Lane::Cpu, deadline_ms: RUN_MS, cancel: Cancel::new() };
        let done = ask(&self.run, run, Duration::from_millis(RUN_MS + 5_000)).await.map_err(|e| e.to_string())?;
        match done.map_err(|error| error.to_string())? {
            Done::Evaluated { answers, scores } => Ok(Ran { answers, scores }),
            _ => Err("the pool did something else".to_owned()),
        }
    }
}

impl Scorer {
    /// Goes on with a subnet's competition: fetches what is missing, and runs the models when they are here, or when there
    /// is no more time to wait for those that are not.
    pub(super) fn contest(&mut self, seat: &Seat, finalised: &HeightFinalised, context: &mut Context<Self>) {
        let (id, state) = (seat.subnet, &finalised.state);
        let Some(of) = state.subnet(id) else { return };
        let contest = self.contests.entry(id).or_default();
        if !contest.height(of, seat.height, finalised.hash) || seat.commit_due() {
            return;
        }
        let (Some(ground), rivals) = (contest.ground, contest::rivals(state, id, of)) else { return };
        if rivals.is_empty() {
            return;
        }
        contest.looking = true;
        let (epoch, waits) = (of.epoch, contest::waits(of, seat.height));
        let half_life = u32::try_from(of.rules.crown_epochs).unwrap_or(u32::MAX);
        let hands = self.hands();
        let look = async move {
            let mut here = true;
            for id in contest::wanted(&rivals) {
                here &= hands.look(id).await.is_some_and(|report| report.state == ArtifactState::Whole);
            }
            (here, rivals)
        };
        context.spawn(look.into_actor(self).map(move |(here, rivals), actor, context| {
            let Some(contest) = actor.contests.get_mut(&id).filter(|contest| contest.epoch == epoch) else { return };
            contest.looking = false;
            if here || !waits {
                contest.begun = true;
                actor.compete(id, (ground, epoch, half_life), rivals, context);
            }
        }));
    }

    fn hands(&self) -> Hands {
        let links = &self.links;
        Hands { pull: links.pull_artifact.clone(), read: links.read_chunk.clone(), run: links.run_job.clone() }
    }

    /// Runs the models of an epoch and puts the verdict into its log.
    fn compete(
        &mut self,
        id: SubnetId,
        (ground, epoch, half_life): (Digest, u64, u32),
        rivals: Vec<Rival>,
        context: &mut Context<Self>,
    ) {
        let Some(desk) = self.desks.get(&id) else { return };
        let (task, hands) = (Arc::clone(&desk.task), self.hands());
        let questions = contest::questions(task.as_ref(), ground, id, epoch);
        let chance = whole(task.chance_level());
        let runs = async move {
            let challenges = contest::challenges(&questions);
            let mut ran = Vec::with_capacity(rivals.len());
            for rival in rivals {
                let judged = hands.judged(Arc::clone(&task), Arc::clone(&challenges), &rival).await;
                if let Err(error) = &judged {
                    tracing::warn!(subnet = %id, member = %rival.member, model = %rival.artifact.short(), error, "a model was not judged");
                }
                ran.push((rival, judged.ok()));
            }
            (questions, ran)
        };
        context.spawn(runs.into_actor(self).map(move |(questions, ran), actor, _| {
            let by = Author { chain: actor.params.chain, subnet: id, operator: &actor.params.operator };
            let lines = contest::lines(&by, &questions, ran, (chance, half_life));
            if let Some(desk) = actor.desks.get_mut(&id) {
                let (entries, marks): (Vec<(Entry, Option<Answer>)>, Vec<Mark>) = lines.into_iter().unzip();
                desk.saw(entries.iter().filter(|(_, answer)| answer.is_some()).map(|(entry, _)| entry.miner));
                desk.record(epoch, entries, marks);
            }
        }));
    }
}
