//! The miners inside a node: each gets its model (from the data directory, else by training), then serves.
//!
//! Training is a job of the worker pool like any other. The trained model is kept, so that a restart serves at once; a file
//! that does not load is trained anew and replaced.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use actix::Recipient;
use tokio::sync::watch;

use super::llm::Standing;
use super::upstream::{self, Upstream};
use crate::actors::mail::{ask, tell};
use crate::actors::query_dispatcher::{Behaviour, CloseModel, ServeModel};
use crate::actors::worker_pool::{Cancel, Done, Job, Lane, LoadModel, RunJob};
use crate::ml::engine::Progress;
use crate::ml::engine::upstream::handle_of;
use crate::ml::model::Artifact;
use crate::ml::task::MinerSpec;
use crate::protocol::ids::{Digest, SubnetId};

/// A training may take this long.
const TRAIN_MS: u64 = 3_600_000;
/// The pool and the dispatcher answer within this.
const DEADLINE: Duration = Duration::from_secs(30);

/// One miner, its subnet found in the ledger.
#[derive(Clone, Debug)]
pub struct Miner {
    pub subnet: SubnetId,
    pub task: String,
    pub behaviour: Behaviour,
    /// Publishes noisy copies of whoever leads, and nothing of its own.
    pub copies: bool,
    pub spec: MinerSpec,
    /// Answers with a server's model instead of one of its own.
    pub upstream: Option<Upstream>,
    /// Answers with a model that its lane of the pool has already.
    pub standing: Option<Standing>,
}

/// Whom a miner needs.
#[derive(Clone, Debug)]
pub struct Links {
    pub run_job: Recipient<RunJob>,
    pub load_model: Recipient<LoadModel>,
    pub serve: Recipient<ServeModel>,
    pub close: Recipient<CloseModel>,
}

/// Where the model of a subnet's miner is kept.
pub fn model_path(models: &Path, subnet: SubnetId) -> PathBuf {
    models.join(format!("{subnet}.safetensors"))
}

/// Readies one miner and begins to serve; the reply is its model, when it has one.
///
/// # Errors
/// In words: training failed, or the model cannot be stored.
pub async fn ready(miner: Miner, links: &Links, models: &Path) -> Result<Option<Arc<Artifact>>, String> {
    let Miner { subnet, behaviour, .. } = miner;
    if let Some(upstream) = miner.upstream.clone() {
        let serve = ServeModel { subnet, model: handle_of(&upstream.source.model), lane: Lane::Upstream, behaviour };
        let links = upstream::Links { serve: links.serve.clone(), close: links.close.clone() };
        upstream::tend(upstream, serve, links).await;
        return Ok(None);
    }
    let (model, lane, artifact) = if let Some(standing) = &miner.standing {
        (standing.model, Lane::Llm, None)
    } else if let Some(lane) = behaviour.bare() {
        (Digest::ZERO, lane, None)
    } else {
        let artifact = Arc::new(model_of(&miner, links, models).await?);
        let load = LoadModel { artifact: Arc::clone(&artifact) };
        let loaded = ask(&links.load_model, load, DEADLINE).await.map_err(|e| e.to_string())?;
        (loaded.map_err(|error| error.to_string())?, Lane::Cpu, Some(artifact))
    };
    if !tell(&links.serve, ServeModel { subnet, model, lane, behaviour }) {
        return Err("the query dispatcher is not there".to_owned());
    }
    tracing::info!(%subnet, task = miner.task, model = %model.short(), "serving");
    Ok(artifact)
}

async fn model_of(miner: &Miner, links: &Links, models: &Path) -> Result<Artifact, String> {
    let path = model_path(models, miner.subnet);
    match tokio::fs::read(&path).await {
        Ok(bytes) => match Artifact::from_bytes(&bytes) {
            Ok(artifact) => return Ok(artifact),
            Err(error) => tracing::warn!(path = %path.display(), %error, "the kept model does not load; training anew"),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(format!("{} cannot be read: {error}", path.display())),
    }
    let artifact = train(miner, links).await?;
    keep(&path, artifact.to_bytes()).await.map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    Ok(artifact)
}

async fn train(miner: &Miner, links: &Links) -> Result<Artifact, String> {
    let (progress, mut watched) = watch::channel(None::<Progress>);
    let (subnet, task) = (miner.subnet, miner.task.clone());
    tracing::info!(%subnet, task, steps = miner.spec.steps, samples = miner.spec.samples, "training");
    let reporter = tokio::spawn(async move {
        let mut told = 0;
        while watched.changed().await.is_ok() {
            let seen = *watched.borrow_and_update();
            let Some(Progress { step, steps, loss }) = seen else { continue };
            let tenth = step * 10 / steps.max(1);
            if tenth > told {
                told = tenth;
                tracing::info!(%subnet, step, steps, loss, "training");
            }
        }
    });
    let job = Job::Train { task: miner.task.clone(), spec: miner.spec, progress: Some(progress) };
    let run = RunJob { job, lane: Lane::Cpu, deadline_ms: TRAIN_MS, cancel: Cancel::new() };
    let done = ask(&links.run_job, run, Duration::from_millis(TRAIN_MS)).await;
    reporter.abort();
    match done {
        Ok(Ok(Done::Trained { artifact, .. })) => Ok(Arc::unwrap_or_clone(artifact)),
        Ok(Ok(other)) => Err(format!("training gave {other:?}")),
        Ok(Err(error)) => Err(format!("training failed: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Writes beside and renames, so that a crash leaves the old file or the new one.
async fn keep(path: &Path, bytes: Vec<u8>) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        tokio::fs::create_dir_all(folder).await?;
    }
    let draft = path.with_extension("new");
    tokio::fs::write(&draft, bytes).await?;
    tokio::fs::rename(&draft, path).await
}
