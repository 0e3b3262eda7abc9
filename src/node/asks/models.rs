//! Models as a node sees them: the ledger's records, with what its keeper and its validators know besides.

use std::collections::{BTreeMap, BTreeSet};

use super::{Asks, READ_DEADLINE, reply};
use crate::actors::artifact_keeper::{DropArtifact, PullArtifact, PutArtifact, ReadArtifacts, ReadChunk, placement};
use crate::actors::ledger::View;
use crate::actors::mail::ask;
use crate::api::backend::ReadError;
use crate::ledger::models::Model;
use crate::ledger::rows::{Member, Subnet};
use crate::protocol::artifact::manifest::{MANIFEST_BYTES_MAX, Manifest};
use crate::protocol::artifact::publish::metric_name;
use crate::protocol::ids::{Digest, MemberId, SubnetId};
use crate::protocol::report::{ArtifactReport, ArtifactState, ModelDetail, ModelRow, Motes, Share};
use crate::protocol::transaction::Role;

/// Generations of parents shown.
const LINEAGE_MAX: usize = 64;
/// Rows of a list.
const ROWS_MAX: usize = 4_096;

/// A publisher's seat.
struct SeatOf<'a> {
    id: MemberId,
    member: &'a Member,
    best: u32,
}

fn row(subnet_id: SubnetId, subnet: &Subnet, id: Digest, model: &Model, seat: Option<&SeatOf<'_>>) -> ModelRow {
    let claims = model.claims.iter().map(|(metric, value)| {
        #[expect(clippy::cast_precision_loss, reason = "a claim in millionths, for people")]
        let value = *value as f64 / 1e6;
        (metric_name(*metric), value)
    });
    ModelRow {
        id,
        subnet: subnet.name.clone(),
        subnet_id,
        task: subnet.task.clone(),
        publisher: model.publisher,
        bytes: model.bytes,
        parent: (model.parent != Digest::ZERO).then_some(model.parent),
        licence: model.licence.name().to_owned(),
        manifest: model.manifest,
        claims: claims.collect(),
        since: model.since,
        published: model.published,
        member: seat.map(|seat| seat.id),
        score: seat.map(|seat| Share::of(seat.member.consensus.into(), u64::from(seat.best.max(1)))),
        incentive: seat.map(|seat| Share(u64::from(seat.member.incentive))),
        earned: seat.map(|seat| Motes(seat.member.earned)),
        ..ModelRow::default()
    }
}

/// Every record, newest first.
fn rows_of(view: &View) -> Vec<ModelRow> {
    let mut rows = Vec::new();
    for (subnet_id, subnet) in view.state.range::<Subnet>(..) {
        let newest = placement::newest(&view.state, *subnet_id);
        let miners = view.state.members(*subnet_id).filter(|(_, member)| member.role == Role::Miner);
        let best = miners.map(|(_, member)| member.consensus).max().unwrap_or(0);
        for (id, model) in view.state.models(*subnet_id) {
            let current = newest.get(&model.publisher) == Some(&id);
            let seat = view.state.member_of(*subnet_id, Role::Miner, &model.publisher).filter(|_| current);
            let seat = seat.and_then(|seat| Some((seat, view.state.member(*subnet_id, seat)?)));
            let seat = seat.map(|(id, member)| SeatOf { id, member, best });
            rows.push(row(*subnet_id, subnet, id, model, seat.as_ref()));
        }
    }
    rows.sort_by_key(|row| (std::cmp::Reverse(row.published), row.id));
    rows.truncate(ROWS_MAX);
    rows
}

impl Asks {
    async fn artifacts_of(&self, ids: Vec<Digest>) -> Result<BTreeMap<Digest, ArtifactReport>, ReadError> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let reports = reply(&self.links.artifacts.read, ReadArtifacts { ids }).await?;
        Ok(reports.into_iter().map(|report| (report.id, report)).collect())
    }

    pub(super) async fn rows(&self) -> Result<Vec<ModelRow>, ReadError> {
        let view = self.view(None).await?;
        let mut rows = rows_of(&view);
        let held = self.artifacts_of(rows.iter().map(|row| row.id).collect()).await?;
        let peers = self.peers_now().await?;
        for row in &mut rows {
            if let Some(report) = held.get(&row.id) {
                (row.holders, row.here) = (report.holders, report.state);
            }
            let told = peers.accounts.iter().find(|(account, _)| *account == row.publisher).map(|(_, node)| *node);
            row.node = if self.about.account == Some(row.publisher) { Some(self.about.node) } else { told };
        }
        Ok(rows)
    }

    pub(super) async fn detail(&self, id: Digest) -> Result<ModelDetail, ReadError> {
        let rows = self.rows().await?;
        let none = || ReadError::NotFound(format!("the ledger has no model {id}"));
        let model = rows.iter().find(|row| row.id == id).cloned().ok_or_else(none)?;
        let parents: BTreeMap<Digest, Digest> = rows.iter().filter_map(|row| Some((row.id, row.parent?))).collect();
        let (mut lineage, mut seen, mut at) = (Vec::new(), BTreeSet::from([id]), id);
        while let Some(parent) = parents.get(&at).filter(|parent| lineage.len() < LINEAGE_MAX && seen.insert(**parent))
        {
            lineage.push(*parent);
            at = *parent;
        }
        let children = rows.iter().filter(|row| row.parent == Some(id)).map(|row| row.id).collect();
        // Fetched for the next time, when it is not here.
        let held = reply(&self.links.artifacts.pull, PullArtifact { id: model.manifest }).await?;
        let manifest = if held.state == ArtifactState::Whole { self.manifest(model.manifest).await } else { None };
        Ok(ModelDetail { lineage, children, manifest, manifest_here: held.state, model })
    }

    async fn manifest(&self, id: Digest) -> Option<serde_json::Value> {
        let bytes = self.chunk(id, 0).await.ok().filter(|bytes| bytes.len() <= MANIFEST_BYTES_MAX)?;
        serde_json::to_value(Manifest::from_bytes(&bytes).ok()?).ok()
    }

    pub(super) async fn artifact_now(&self, id: Digest) -> Result<ArtifactReport, ReadError> {
        let mut reports = reply(&self.links.artifacts.read, ReadArtifacts { ids: vec![id] }).await?;
        reports.pop().ok_or_else(|| ReadError::NotFound(format!("no artifact {id}")))
    }

    pub(super) async fn shelf(&self) -> Result<Vec<ArtifactReport>, ReadError> {
        reply(&self.links.artifacts.read, ReadArtifacts { ids: Vec::new() }).await
    }

    pub(super) async fn put(&self, bytes: Vec<u8>) -> Result<ArtifactReport, ReadError> {
        let put = ask(&self.links.artifacts.put, PutArtifact { bytes }, 12 * READ_DEADLINE).await;
        let id = put.map_err(|error| ReadError::Unavailable(error.to_string()))?.map_err(ReadError::Unavailable)?;
        self.artifact_now(id).await
    }

    pub(super) async fn pull(&self, id: Digest) -> Result<ArtifactReport, ReadError> {
        reply(&self.links.artifacts.pull, PullArtifact { id }).await
    }

    pub(super) async fn chunk(&self, id: Digest, index: u32) -> Result<Vec<u8>, ReadError> {
        reply(&self.links.artifacts.read_chunk, ReadChunk { id, index }).await?.map_err(ReadError::NotFound)
    }

    pub(super) async fn drop_artifact(&self, id: Digest) -> Result<bool, ReadError> {
        reply(&self.links.artifacts.drop, DropArtifact { id }).await
    }
}
