//! Models and artifacts for people and programs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Motes, Share};
use crate::protocol::ids::{AccountId, Digest, Height, MemberId, NodeId, SubnetId};

/// What a node has of an artifact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactState {
    #[default]
    Absent,
    /// Some chunks, and nothing under way.
    Part,
    Fetching,
    Whole,
    Failed,
}

impl std::fmt::Display for ArtifactState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Absent => "absent",
            Self::Part => "part",
            Self::Fetching => "fetching",
            Self::Whole => "whole",
            Self::Failed => "failed",
        })
    }
}

/// `GET /api/v1/artifacts/{id}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactReport {
    pub id: Digest,
    pub state: ArtifactState,
    /// Known once its chunk list is.
    pub bytes: Option<u64>,
    pub chunks: u32,
    pub have: u32,
    pub pinned: bool,
    /// Nodes that gave right chunks in the last fetch.
    pub sources: u32,
    pub took_ms: Option<u64>,
    /// Nodes that said they hold it when this node last asked around.
    pub holders: Option<u32>,
    pub error: Option<String>,
}

/// One row of `GET /api/v1/models`: a record of the ledger, and what this node knows besides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelRow {
    pub id: Digest,
    /// The subnet's name.
    pub subnet: String,
    pub subnet_id: SubnetId,
    pub task: String,
    pub publisher: AccountId,
    pub bytes: u64,
    pub parent: Option<Digest>,
    pub licence: String,
    pub manifest: Digest,
    /// The publisher's word.
    pub claims: BTreeMap<String, f64>,
    pub since: Height,
    pub published: Height,
    /// The publisher's seat, when it has one and this is its newest model.
    pub member: Option<MemberId>,
    pub node: Option<NodeId>,
    /// What the validators make of it: the member's agreed weight, as a share of the best.
    pub score: Option<Share>,
    pub incentive: Option<Share>,
    pub earned: Option<Motes>,
    pub holders: Option<u32>,
    pub here: ArtifactState,
}

/// `GET /api/v1/models/{id}`: where a model comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelDetail {
    pub model: ModelRow,
    /// Its parents, nearest first, as far as the ledger knows them.
    pub lineage: Vec<Digest>,
    /// Models made from it.
    pub children: Vec<Digest>,
    /// The manifest, when it is here and holds.
    pub manifest: Option<serde_json::Value>,
    pub manifest_here: ArtifactState,
}
