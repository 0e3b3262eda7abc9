//! Putting a model on the shelf of a node and its record on the ledger.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::super::client::Client;
use super::super::context::Context;
use super::super::error::{CliError, Exit};
use super::super::mutate;
use super::super::output::{Reply, size};
use super::super::subnet::segment;
use super::{Publish, parse_id};
use crate::ml::model::Artifact;
use crate::node::publish::manifest_of;
use crate::protocol::artifact::publish::{Licence, METRICS_MAX, Metric, ModelPublish, metric_name, metric_named};
use crate::protocol::ids::{AccountId, Digest};
use crate::protocol::report::{ArtifactReport, ModelRow, SubnetReport};

fn read(file: &Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(file).map_err(|e| CliError::file(file, &e))
}

fn store(client: &Client, bytes: &[u8]) -> Result<ArtifactReport, CliError> {
    let reply = client.post("/api/v1/artifacts", "application/octet-stream", bytes)?;
    serde_json::from_value(reply.body)
        .map_err(|e| CliError::new(Exit::Failed, format!("a strange answer: {e}"), "is it a node of the same version?"))
}

/// Puts any file on the node's shelf.
///
/// # Errors
/// The file cannot be read, no node, or no room there.
pub fn push(context: &Context, file: &Path) -> Result<Reply, CliError> {
    let bytes = read(file)?;
    let report = store(&context.client()?, &bytes)?;
    let data = json!({ "id": report.id, "bytes": bytes.len(), "chunks": report.chunks });
    Ok(Reply::of(&data)
        .line(format!("Artifact {}", report.id))
        .facts([("size", size(bytes.len() as u64)), ("kept", "until `starling model rm`".to_owned())])
        .hint(format!("starling model pull {}   from any node", report.id)))
}

/// `accuracy=0.93` in millionths.
fn claims(texts: &[String]) -> Result<Vec<Metric>, CliError> {
    let mut claims: BTreeMap<u16, i64> = BTreeMap::new();
    for text in texts {
        let wrong = |why: String| CliError::usage(format!("--claim {text}: {why}"));
        let (name, value) = text.split_once('=').ok_or_else(|| wrong("write it like accuracy=0.93".to_owned()))?;
        let known: Vec<String> = (1..=5).map(metric_name).collect();
        let number = metric_named(name).ok_or_else(|| wrong(format!("known are {}", known.join(", "))))?;
        let value: f64 = value.parse().map_err(|e| wrong(format!("{e}")))?;
        let millionths = value * 1e6;
        if !(millionths.is_finite() && millionths.abs() < 9e18) {
            return Err(wrong("the number is too large".to_owned()));
        }
        #[expect(clippy::cast_possible_truncation, reason = "bounded above")]
        claims.insert(number, millionths.round() as i64);
    }
    if claims.len() > METRICS_MAX {
        return Err(CliError::usage(format!("at most {METRICS_MAX} claims fit")));
    }
    Ok(claims.into_iter().collect())
}

/// Checks a model, shares it with its manifest, and records it; sealed first if wished.
///
/// # Errors
/// It is no model, the subnet or the parent does not exist, and what `mutate` says.
pub fn publish(context: &Context, wanted: &Publish) -> Result<Reply, CliError> {
    let bytes = read(&wanted.file)?;
    let artifact = Artifact::from_bytes(&bytes).map_err(|e| {
        let help =
            "only canonical safetensors of a known architecture are published; `starling model push` shares any file";
        CliError::new(Exit::Failed, format!("{}: {e}", wanted.file.display()), help)
    })?;
    let licence = Licence::named(&wanted.licence).ok_or_else(|| {
        CliError::usage(format!("--licence {}: known are {}", wanted.licence, Licence::names().join(", ")))
    })?;
    let claims = claims(&wanted.claims)?;
    let parent = wanted.parent.as_deref().map(parse_id).transpose()?;
    let client = context.client()?;
    let subnet: SubnetReport = client.get(&format!("/api/v1/subnets/{}", segment(&wanted.subnet)?))?;
    let id = Digest(*blake3::hash(&bytes).as_bytes());
    let size_bytes = bytes.len() as u64;
    let mut manifest =
        manifest_of(&subnet.task, &artifact, id, size_bytes, concat!("starling/", env!("CARGO_PKG_VERSION")));
    manifest.parent = parent;
    manifest.licence = licence.name().to_owned();
    manifest.data.clear();
    manifest.metrics = claims.iter().map(|(metric, value)| (metric_name(*metric), *value)).collect();
    let known: Vec<ModelRow> = client.get("/api/v1/models")?;
    if known.iter().any(|row| row.id == id && row.subnet_id == subnet.id) {
        let message = format!("model {} is in {} already", id.short(), subnet.name);
        return Err(CliError::new(Exit::Refused, message, format!("`starling model show {id}` tells more")));
    }
    let mut record = ModelPublish {
        subnet: subnet.id,
        manifest: manifest.id(),
        artifact: id,
        bytes: size_bytes,
        parent: parent.unwrap_or_default(),
        licence,
        sealed: false,
        salt: [0; 32],
        claims,
    };
    if wanted.sealed && !context.globals.dry_run {
        getrandom::fill(&mut record.salt)
            .map_err(|e| CliError::new(Exit::Failed, format!("no entropy: {e}"), "try again"))?;
        let account: AccountId = context.account_info()?.public.into();
        let seal = ModelPublish::sealed(subnet.id, &id, &account, &record.salt);
        mutate::model_publish(context, format!("seal a model in {}", subnet.name), seal)?;
    }
    if !context.globals.dry_run {
        // The bytes go first: a record whose bytes nobody has would be an empty promise.
        store(&client, &bytes)?;
        store(&client, &manifest.to_bytes())?;
    }
    let what = format!("publish model {} in {}", id.short(), subnet.name);
    let reply = mutate::model_publish(context, what, record)?;
    Ok(reply.facts([("model", id.to_string()), ("size", size(size_bytes))]).hint(format!("starling model show {id}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_millionths_in_order_and_known() {
        let text = |parts: &[&str]| parts.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
        assert_eq!(claims(&text(&["loss=0.25", "accuracy=0.93"])).unwrap(), [(1, 930_000), (2, 250_000)]);
        for wrong in ["accuracy", "speed=1", "loss=x", "loss=1e30"] {
            assert!(claims(&text(&[wrong])).is_err(), "{wrong}");
        }
    }
}
