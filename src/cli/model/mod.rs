//! `model`: models on the ledger and their bytes: list, show, publish, pull, push, verify, rank, remove.

mod publish;
mod pull;
mod serve;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::context::Context;
use super::error::CliError;
use super::output::{Reply, Table, maybe, size};
use super::subnet::segment;
use crate::protocol::ids::Digest;
use crate::protocol::report::{ArtifactState, ModelDetail, ModelRow};

#[derive(Subcommand, Debug)]
pub enum Model {
    /// Models on the ledger, newest first
    List {
        /// Of one subnet, by name or number
        #[arg(long)]
        subnet: Option<String>,
    },
    /// One model: where it comes from, what it claims, what it earned
    Show {
        /// Its id
        id: String,
    },
    /// Share a model file and record it on the ledger
    Publish(Publish),
    /// Fetch a model from whoever holds it, verified
    Pull {
        /// Its id
        id: String,
        /// The folder it is written to
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
    },
    /// Put any file on the node's shelf for others to fetch; nothing is recorded
    Push { file: PathBuf },
    /// Recompute the id of a file and, of a model, check every tensor
    Verify {
        file: PathBuf,
        /// The id it should have
        #[arg(long, value_name = "ID")]
        id: Option<String>,
    },
    /// Models by what the validators make of them
    Leaderboard {
        /// Of one subnet, by name or number
        #[arg(long)]
        subnet: Option<String>,
    },
    /// Serve a text model in the shapes of the OpenAI API, for a miner's upstream engine or any client
    Serve {
        /// A canonical safetensors file
        file: PathBuf,
        /// Address and port
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
        bind: SocketAddr,
        /// What clients call it [default: the begin of its id]
        #[arg(long)]
        name: Option<String>,
    },
    /// Take an artifact off this node's shelf; the ledger's record stays
    Rm {
        /// Its id
        id: String,
    },
}

#[derive(Args, Debug)]
pub struct Publish {
    /// A canonical safetensors file
    pub file: PathBuf,
    /// Name or number
    #[arg(long)]
    pub subnet: String,
    /// The model it was made from
    #[arg(long, value_name = "ID")]
    pub parent: Option<String>,
    /// Its licence, by SPDX name
    #[arg(long, default_value = "MIT OR Apache-2.0")]
    pub licence: String,
    /// What you claim of it, like accuracy=0.93; may be repeated
    #[arg(long = "claim", value_name = "NAME=VALUE")]
    pub claims: Vec<String>,
    /// Seal it first: its age counts from the seal, and nobody can copy it before
    #[arg(long)]
    pub sealed: bool,
}

impl Model {
    pub(super) fn run(self, context: &Context) -> Result<Reply, CliError> {
        match self {
            Self::List { subnet } => list(context, subnet.as_deref()),
            Self::Show { id } => show(context, parse_id(&id)?),
            Self::Publish(publish) => publish::publish(context, &publish),
            Self::Pull { id, out } => pull::pull(context, parse_id(&id)?, &out),
            Self::Push { file } => publish::push(context, &file),
            Self::Verify { file, id } => pull::verify(&file, id.as_deref().map(parse_id).transpose()?),
            Self::Leaderboard { subnet } => leaderboard(context, subnet.as_deref()),
            Self::Serve { file, bind, name } => serve::serve(context, &file, bind, name),
            Self::Rm { id } => remove(context, parse_id(&id)?),
        }
    }
}

fn parse_id(text: &str) -> Result<Digest, CliError> {
    text.parse().map_err(|e| CliError::usage(format!("\"{text}\" is no id of a model: {e}")))
}

fn rows(context: &Context, subnet: Option<&str>) -> Result<Vec<ModelRow>, CliError> {
    let mut rows: Vec<ModelRow> = context.client()?.get("/api/v1/models")?;
    if let Some(wanted) = subnet {
        let wanted = segment(wanted)?;
        rows.retain(|row| row.subnet == wanted || row.subnet_id.to_string() == wanted);
    }
    Ok(rows)
}

/// What `list` promises for each model, and more.
fn document(rows: &[ModelRow]) -> serde_json::Value {
    let model = |row: &ModelRow| {
        let score = row.score.map(|score| score.0 as f64 / 4_294_967_296.0);
        json!({
            "id": row.id, "subnet": row.subnet, "task": row.task, "publisher": row.publisher, "bytes": row.bytes,
            "parent": row.parent, "licence": row.licence, "score": score, "holders": row.holders,
            "manifest": row.manifest, "claims": row.claims, "since": row.since, "published": row.published,
            "member": row.member, "node": row.node, "incentive": row.incentive, "earned": row.earned, "here": row.here,
        })
    };
    json!({ "models": rows.iter().map(model).collect::<Vec<_>>() })
}

fn list(context: &Context, subnet: Option<&str>) -> Result<Reply, CliError> {
    let rows = rows(context, subnet)?;
    let mut table =
        Table::new(&["id", "subnet", "publisher", ">size", "licence", ">score", ">holders", ">height", "here"])
            .or("no model is on the ledger yet: `starling model publish` puts one there");
    for row in &rows {
        table.row(vec![
            row.id.short(),
            row.subnet.clone(),
            row.publisher.short(),
            size(row.bytes),
            row.licence.clone(),
            maybe(row.score),
            maybe(row.holders),
            row.published.to_string(),
            row.here.to_string(),
        ]);
    }
    let reply = Reply::of(&document(&rows)).table(table);
    Ok(match rows.first() {
        Some(row) => reply.hint(format!("starling model show {}   where it comes from", row.id)),
        None => reply,
    })
}

fn leaderboard(context: &Context, subnet: Option<&str>) -> Result<Reply, CliError> {
    let mut rows = rows(context, subnet)?;
    rows.retain(|row| row.score.is_some());
    rows.sort_by_key(|row| (row.subnet_id, std::cmp::Reverse((row.score, row.incentive)), row.published, row.id));
    let mut table = Table::new(&["subnet", ">rank", "id", "publisher", ">score", ">incentive", ">earned", ">claims"])
        .or("no model of a seated miner has a score yet");
    let (mut rank, mut last) = (0, None);
    for row in &rows {
        rank = if last == Some(row.subnet_id) { rank + 1 } else { 1 };
        last = Some(row.subnet_id);
        let claims: Vec<String> = row.claims.iter().map(|(name, value)| format!("{name} {value}")).collect();
        table.row(vec![
            row.subnet.clone(),
            rank.to_string(),
            row.id.short(),
            row.publisher.short(),
            maybe(row.score),
            maybe(row.incentive),
            maybe(row.earned),
            claims.join(", "),
        ]);
    }
    Ok(Reply::of(&document(&rows)).table(table))
}

fn show(context: &Context, id: Digest) -> Result<Reply, CliError> {
    let detail: ModelDetail = context.client()?.get(&format!("/api/v1/models/{id}"))?;
    let row = &detail.model;
    let lineage: Vec<String> = detail.lineage.iter().map(Digest::short).collect();
    let facts = [
        ("subnet", format!("{} ({})", row.subnet, row.task)),
        ("publisher", row.publisher.to_string()),
        ("counts from", format!("height {}, shown at {}", row.since, row.published)),
        ("size", size(row.bytes)),
        ("licence", row.licence.clone()),
        ("made from", if lineage.is_empty() { "nothing: a model of its own".to_owned() } else { lineage.join(" < ") }),
        ("made from it", detail.children.len().to_string()),
        ("member", maybe(row.member)),
        ("score", maybe(row.score)),
        ("incentive", maybe(row.incentive)),
        ("earned", maybe(row.earned)),
        ("holders", maybe(row.holders)),
        ("here", row.here.to_string()),
    ];
    let mut reply = Reply::of(&detail).line(format!("Model {}", row.id)).facts(facts);
    if !row.claims.is_empty() {
        let claims = row.claims.iter().map(|(name, value)| (name.clone(), value.to_string()));
        reply = reply.heading("Claimed by its publisher").facts(claims.collect::<Vec<_>>());
    }
    if let Some(serde_json::Value::Object(manifest)) = &detail.manifest {
        let lines = manifest.iter().filter(|(_, value)| !value.is_null());
        let lines: Vec<(String, String)> = lines.map(|(name, value)| (name.clone(), text(value))).collect();
        reply = reply.heading("Manifest").facts(lines);
    } else if detail.manifest_here != ArtifactState::Whole {
        reply = reply.line("\n  The manifest is being fetched; ask again in a moment.");
    }
    Ok(reply.hint(format!("starling model pull {id} --out DIR   fetch it")))
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn remove(context: &Context, id: Digest) -> Result<Reply, CliError> {
    context.confirm(&format!("Remove artifact {} from this node?", id.short()))?;
    context.client()?.delete(&format!("/api/v1/artifacts/{id}"))?;
    Ok(Reply::of(&json!({ "id": id, "removed": true }))
        .line(format!("Artifact {} is off this node's shelf", id.short())))
}
