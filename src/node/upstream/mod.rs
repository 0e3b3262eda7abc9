//! The servers that this node's miners answer with: watched, closed in trouble, opened again once they have proven
//! themselves.
//!
//! A server first proves that it lists its model and writes under its name. While it is open, any trouble a job meets
//! closes it at once: queries are refused, so that askers go elsewhere, and the operator reads why. Then it is tried
//! again, after a second at first and a minute at most; only one that stayed open for a while starts from a second again.

mod http;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix::Recipient;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use zeroize::Zeroizing;

use self::http::Http;
use crate::actors::mail::{ask, tell};
use crate::actors::query_dispatcher::{CloseModel, ServeModel};
use crate::actors::worker_pool::Cancel;
use crate::config::MinerEntry;
use crate::ml::engine::Control;
use crate::ml::engine::upstream::{Source, Template, Trouble, probe};

/// Between trouble and the first try, and between tries at most.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Open for so long, a server is as good as new.
const PROVEN: Duration = Duration::from_secs(60);
/// A proof may take this long.
const PROBE: Duration = Duration::from_secs(60);
/// Jobs in a row that may end without a word of the server before it is in trouble.
const UNANSWERED_MAX: u32 = 3;
const DEADLINE: Duration = Duration::from_secs(30);
/// Threads for each job that may run at once: those of jobs given up end a little later.
const THREADS_EACH: usize = 4;

/// What is known of a server's health between two proofs.
#[derive(Clone, Debug, Default)]
struct Health {
    trouble: Option<Trouble>,
    unanswered: u32,
}

/// One server with one model.
#[derive(Clone)]
pub struct Upstream {
    pub source: Source,
    /// Jobs at once.
    pub parallel: usize,
    health: Arc<watch::Sender<Health>>,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Whom tending needs.
#[derive(Clone, Debug)]
pub struct Links {
    pub serve: Recipient<ServeModel>,
    pub close: Recipient<CloseModel>,
}

impl Upstream {
    /// The server that a miner's entry names.
    ///
    /// # Errors
    /// In words: an address that is none, or a key that cannot be read.
    pub fn of(entry: &MinerEntry) -> Result<Self, String> {
        let key = key_of(entry)?;
        let parallel = usize::try_from(entry.upstream_parallel).unwrap_or(1).max(1);
        let http = Http::new(&entry.upstream_url, key, entry.upstream_silence_ms, THREADS_EACH * parallel)?;
        let health: Arc<watch::Sender<Health>> = Arc::new(watch::channel(Health::default()).0);
        let told = Arc::clone(&health);
        let source = Source {
            carrier: Arc::new(http),
            model: entry.upstream_model.clone(),
            template: Template::named(&entry.upstream_template).unwrap_or_default(),
            tokens_max: entry.upstream_tokens_max,
            watcher: Arc::new(move |heard| note(&told, heard)),
        };
        Ok(Self { source, parallel, health })
    }

    /// Resolves once the server is in trouble.
    async fn trouble(&self) -> String {
        let mut health = self.health.subscribe();
        match health.wait_for(|health| health.trouble.is_some()).await {
            Ok(found) => found.trouble.as_ref().map(ToString::to_string).unwrap_or_default(),
            Err(_) => "the engine is gone".to_owned(),
        }
    }

    async fn prove(&self) -> Result<(), String> {
        self.health.send_replace(Health::default());
        let (source, cancel) = (self.source.clone(), Cancel::new());
        let _cancelled_with_this = cancel.on_drop();
        let proof = tokio::task::spawn_blocking(move || probe(&source, &Control::until(&|| cancel.is_cancelled())));
        match timeout(PROBE, proof).await {
            Ok(Ok(proof)) => proof.map_err(|error| error.to_string()),
            Ok(Err(error)) => Err(format!("the proof broke down: {error}")),
            Err(_) => Err(format!("no proof within {} s", PROBE.as_secs())),
        }
    }
}

/// What a job tells of the server; trouble stays until the next proof.
fn note(health: &watch::Sender<Health>, heard: Result<(), Trouble>) {
    health.send_if_modified(|health| match heard {
        Ok(()) => {
            health.unanswered = 0;
            false
        }
        Err(Trouble::Unanswered) if health.unanswered + 1 < UNANSWERED_MAX => {
            health.unanswered += 1;
            false
        }
        Err(trouble) => {
            metrics::counter!("starling_upstream_troubles_total").increment(1);
            health.trouble.get_or_insert(trouble);
            true
        }
    });
}

fn key_of(entry: &MinerEntry) -> Result<Option<Zeroizing<String>>, String> {
    if !entry.upstream_key_file.is_empty() {
        let path = &entry.upstream_key_file;
        let text = std::fs::read_to_string(path).map(Zeroizing::new);
        let text = text.map_err(|error| format!("upstream_key_file {path} cannot be read: {error}"))?;
        return Ok(Some(Zeroizing::new(text.trim().to_owned())));
    }
    if !entry.upstream_key_env.is_empty() {
        let name = &entry.upstream_key_env;
        let text = std::env::var(name).map(Zeroizing::new);
        return text.map(Some).map_err(|_| format!("upstream_key_env names {name}, which is not set"));
    }
    Ok(None)
}

/// Serves a subnet with the server for as long as the node lives, whenever it can.
pub async fn tend(upstream: Upstream, serve: ServeModel, links: Links) {
    let (subnet, model) = (serve.subnet, upstream.source.model.clone());
    let open = |is_open: bool| {
        metrics::gauge!("starling_upstream_open", "model" => model.clone()).set(if is_open { 1.0 } else { 0.0 });
    };
    tell(&links.close, CloseModel { serve, reason: "the server has not proven itself yet".to_owned() });
    let mut wait = WAIT_MIN;
    loop {
        let reason = match upstream.prove().await {
            Ok(()) => {
                let since = Instant::now();
                let reason = if ask(&links.serve, serve, DEADLINE).await == Ok(true) {
                    tracing::info!(%subnet, model, "serving with the server");
                    open(true);
                    upstream.trouble().await
                } else {
                    "the query dispatcher does not take it".to_owned()
                };
                if since.elapsed() >= PROVEN {
                    wait = WAIT_MIN;
                }
                reason
            }
            Err(reason) => reason,
        };
        open(false);
        tracing::warn!(%subnet, model, reason, again_s = wait.as_secs(), "the server is closed");
        tell(&links.close, CloseModel { serve, reason });
        sleep(wait).await;
        wait = (wait * 2).min(WAIT_MAX);
    }
}

#[cfg(test)]
mod tests;
