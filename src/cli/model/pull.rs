//! Fetching a model through a node, and checking files: nothing is believed that does not hash to its id.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::super::client::Client;
use super::super::context::{Context, pause};
use super::super::error::{CliError, Exit};
use super::super::output::{Reply, size};
use crate::ml::model::Artifact;
use crate::protocol::ids::Digest;
use crate::protocol::report::{ArtifactReport, ArtifactState, ModelRow};

const POLL: Duration = Duration::from_millis(100);
/// Larger files are hashed, not looked into.
const LOOK_BYTES_MAX: u64 = 4 << 30;

/// Lets the node fetch it, then reads and checks every chunk.
///
/// # Errors
/// Exit 4 when nobody has it, 7 when it takes longer than the timeout (the node goes on), 1 when the file cannot be written.
pub fn pull(context: &Context, id: Digest, out: &Path) -> Result<Reply, CliError> {
    let client = context.client()?;
    let began = Instant::now();
    let held = fetch(context, &client, id)?;
    std::fs::create_dir_all(out).map_err(|e| CliError::file(out, &e))?;
    let rows: Vec<ModelRow> = client.get("/api/v1/models")?;
    let record = rows.iter().find(|row| row.id == id);
    let path = out.join(format!("{id}.{}", if record.is_some() { "safetensors" } else { "bin" }));
    let bytes = write(context, &client, &held, &path)?;
    let mut files = vec![path.clone()];
    // The manifest is small and says what the bytes are; without it the bytes are still the bytes.
    if let Some(record) = record
        && let Ok(manifest) = fetch(context, &client, record.manifest)
    {
        let path = out.join(format!("{id}.json"));
        write(context, &client, &manifest, &path)?;
        files.push(path);
    }
    let seconds = began.elapsed().as_secs_f64();
    let data = json!({ "id": id, "bytes": bytes, "seconds": seconds, "sources": held.sources, "files": files,
        "fetched_ms": held.took_ms });
    Ok(Reply::of(&data).line(format!("Model {}", id.short())).facts([
        ("file", path.display().to_string()),
        ("size", size(bytes)),
        (
            "came from",
            if held.sources == 0 { "this node's shelf".to_owned() } else { format!("{} nodes", held.sources) },
        ),
        ("took", format!("{seconds:.2} s")),
    ]))
}

fn fetch(context: &Context, client: &Client, id: Digest) -> Result<ArtifactReport, CliError> {
    let reply = client.post(&format!("/api/v1/artifacts/{id}/pull"), "application/json", b"{}")?;
    let strange = |e: serde_json::Error| CliError::new(Exit::Failed, format!("a strange answer: {e}"), "");
    let mut report: ArtifactReport = serde_json::from_value(reply.body).map_err(strange)?;
    let began = Instant::now();
    let mut told = began;
    loop {
        match report.state {
            ArtifactState::Whole => return Ok(report),
            ArtifactState::Failed => {
                let why = report.error.unwrap_or_default();
                let help = "its holders may be away; try again later, or through another node with --node";
                return Err(CliError::new(Exit::NotFound, format!("artifact {}: {why}", id.short()), help));
            }
            _ => {}
        }
        if began.elapsed() > context.timeout() {
            let message = format!("artifact {}: {} of {} chunks so far", id.short(), report.have, report.chunks);
            return Err(CliError::new(
                Exit::OutcomeUnknown,
                message,
                "the node goes on; pull again, or wait with --timeout",
            ));
        }
        if told.elapsed() > Duration::from_secs(5) {
            told = Instant::now();
            context.printer.note(&format!("{} of {} chunks", report.have, report.chunks));
        }
        pause(POLL);
        report = client.get(&format!("/api/v1/artifacts/{id}"))?;
    }
}

/// Writes beside and renames, once the whole hashes to its id.
fn write(context: &Context, client: &Client, held: &ArtifactReport, path: &Path) -> Result<u64, CliError> {
    let draft = path.with_extension("part");
    let failed = |e: std::io::Error| CliError::file(&draft, &e);
    let mut file = File::create(&draft).map_err(failed)?;
    let (mut hasher, mut bytes) = (blake3::Hasher::new(), 0_u64);
    for index in 0..held.chunks {
        let chunk = client.bytes(&format!("/api/v1/artifacts/{}/chunks/{index}", held.id))?;
        hasher.update(&chunk);
        bytes = bytes.saturating_add(chunk.len() as u64);
        file.write_all(&chunk).map_err(failed)?;
    }
    file.sync_all().map_err(failed)?;
    let found = Digest(*hasher.finalize().as_bytes());
    if found != held.id {
        let message = format!("{} gives bytes that hash to {}", client.base(), found.short());
        return Err(CliError::new(Exit::Failed, message, "this node is broken or lies; use another with --node"));
    }
    std::fs::rename(&draft, path).map_err(|e| CliError::file(path, &e))?;
    context.printer.note(&format!("wrote {}", path.display()));
    Ok(bytes)
}

/// Recomputes a file's id; of safetensors, every tensor is checked as well (M14).
///
/// # Errors
/// The file cannot be read, or is not what was expected: exit 12.
pub fn verify(file: &Path, wanted: Option<Digest>) -> Result<Reply, CliError> {
    let failed = |e: std::io::Error| CliError::file(file, &e);
    let mut source = File::open(file).map_err(failed)?;
    let length = source.metadata().map_err(failed)?.len();
    let (mut hasher, mut buffer, mut all) = (blake3::Hasher::new(), vec![0; 1 << 20], Vec::new());
    let look = length <= LOOK_BYTES_MAX && file.extension().is_some_and(|e| e == "safetensors");
    loop {
        let read = source.read(&mut buffer).map_err(failed)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
        if look {
            all.extend_from_slice(bytes);
        }
    }
    let id = Digest(*hasher.finalize().as_bytes());
    let named = file.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<Digest>().ok());
    // A manifest stands under its model's name.
    let named = named.filter(|_| file.extension().is_none_or(|extension| extension != "json"));
    let wanted = wanted.or(named);
    let model = look.then(|| Artifact::from_bytes(&all));
    let tensors = match &model {
        Some(Ok(artifact)) => format!(
            "{} tensors, all finite, as {} wants them",
            artifact.tensors().len(),
            artifact.architecture().name()
        ),
        Some(Err(error)) => error.to_string(),
        None => "not looked into".to_owned(),
    };
    let same = wanted.is_none_or(|wanted| wanted == id);
    let good = same && !matches!(model, Some(Err(_)));
    let data = json!({ "file": file, "id": id, "bytes": length, "wanted": wanted, "ok": good, "tensors": tensors });
    let verdict = match wanted {
        Some(_) if same => "it is what it should be".to_owned(),
        Some(wanted) => format!("it should be {wanted}"),
        None => "nothing to compare with: give --id".to_owned(),
    };
    let reply =
        Reply::of(&data).line(format!("{id}")).facts([("size", size(length)), ("id", verdict), ("tensors", tensors)]);
    Ok(if good { reply } else { reply.exit(Exit::Findings) })
}
