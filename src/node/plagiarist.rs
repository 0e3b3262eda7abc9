//! A competitor that makes nothing of its own (development networks only): it waits for the best model of its subnet to be
//! shown, puts noise on the weights so that the bytes are others, and publishes that under its own key. It is here to show
//! that it does not pay.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use actix::Recipient;

use super::miners::Miner;
use super::publish::Publisher;
use crate::actors::artifact_keeper::{PullArtifact, ReadChunk};
use crate::actors::ledger::View;
use crate::actors::mail::ask;
use crate::ledger::models::Model;
use crate::ml::model::{Artifact, Tensor};
use crate::protocol::chance::Chance;
use crate::protocol::ids::{AccountId, Digest, hash};
use crate::protocol::report::ArtifactState;
use crate::protocol::transaction::Role;

const DEADLINE: Duration = Duration::from_secs(30);
/// How often it looks for something to take.
const LOOK: Duration = Duration::from_secs(2);
/// Looks until a model that does not come is given up for now.
const LOOKS: u32 = 60;
/// A weight is moved by at most this part of itself, in ten-thousandths.
const NOISE: u64 = 50;

/// Whom it needs beside a publisher.
#[derive(Clone, Debug)]
pub struct Links {
    pub pull: Recipient<PullArtifact>,
    pub read_chunk: Recipient<ReadChunk>,
}

/// The newest model of whoever earns most beside this account; nobody's while nobody earns.
fn best(view: &View, miner: &Miner, own: &AccountId) -> Option<Digest> {
    let others = view.state.members(miner.subnet).filter(|(_, of)| of.role == Role::Miner && of.account != *own);
    let (_, best) = others.filter(|(_, of)| of.incentive > 0).max_by_key(|(_, of)| of.incentive)?;
    let theirs = |(_, model): &(Digest, &Model)| model.publisher == best.account;
    view.state.models(miner.subnet).filter(theirs).max_by_key(|(_, model)| model.published).map(|(id, _)| id)
}

/// The same model with other bytes.
fn blurred(of: &Artifact, seed: Digest) -> Result<Artifact, String> {
    let mut chance = Chance::from_seed(seed.0);
    let mut moved = |value: &f32| {
        let step = u16::try_from(chance.below(2 * NOISE + 1)).unwrap_or(0);
        let centre = u16::try_from(NOISE).unwrap_or(0);
        value * (1.0 + (f32::from(step) - f32::from(centre)) / 10_000.0)
    };
    let mut tensors = BTreeMap::new();
    for (name, tensor) in of.tensors() {
        let values = tensor.values.iter().map(&mut moved).collect();
        tensors.insert(name.clone(), Tensor { shape: tensor.shape.clone(), values });
    }
    Artifact::new(of.architecture(), tensors).map_err(|error| error.to_string())
}

impl Links {
    async fn fetched(&self, id: Digest) -> Result<Artifact, String> {
        for _ in 0..LOOKS {
            let report = ask(&self.pull, PullArtifact { id }, DEADLINE).await.map_err(|error| error.to_string())?;
            if report.state == ArtifactState::Whole {
                let mut bytes = Vec::new();
                for index in 0..report.chunks {
                    let chunk = ask(&self.read_chunk, ReadChunk { id, index }, DEADLINE).await;
                    bytes.extend(chunk.map_err(|error| error.to_string())??);
                }
                return Artifact::from_bytes(&bytes).map_err(|error| error.to_string());
            }
            tokio::time::sleep(LOOK).await;
        }
        Err("nobody gives it".to_owned())
    }
}

/// Copies whoever leads, for as long as the node runs; each model once.
pub async fn copy(miner: Miner, publisher: Publisher, links: Links) {
    let Some(own) = publisher.account.as_ref().map(|key| AccountId::from(key.public())) else { return };
    let mut taken: BTreeSet<Digest> = BTreeSet::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let Ok(view) = publisher.view(own).await else { continue };
        let Some(id) = best(&view, &miner, &own).filter(|id| !taken.contains(id)) else { continue };
        let copied = match links.fetched(id).await {
            Ok(model) => blurred(&model, hash("starling/1 plagiarist", &[&own.0, &id.0])),
            Err(error) => Err(error),
        };
        taken.insert(id);
        let published = match copied {
            Ok(model) => publisher.publish(&miner, &model).await,
            Err(error) => Err(error),
        };
        match published {
            Ok(()) => tracing::info!(subnet = %miner.subnet, of = %id.short(), "a copy is published"),
            Err(error) => tracing::warn!(subnet = %miner.subnet, of = %id.short(), error, "a model was not copied"),
        }
    }
}
