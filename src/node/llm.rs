//! The GGUF file of this node's miner, read once at the start; in a build without the feature `llm`, the word that there is
//! none.

use std::fmt;

use super::StartError;
use crate::actors::worker_pool::{EngineMaker, Lane, LaneParams};
use crate::config::MinerEntry;
use crate::ml::engine::Handle;

/// A model that its lane of the pool has from the start.
#[derive(Clone)]
pub struct Standing {
    pub model: Handle,
    engine: EngineMaker,
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standing").field("model", &self.model).finish_non_exhaustive()
    }
}

impl Standing {
    /// Its lane. One answer at a time: the model's own threads use every core.
    pub fn lane(&self, waiting_max: usize) -> LaneParams {
        LaneParams { lane: Lane::Llm, workers: 1, waiting_max, engine: self.engine.clone() }
    }
}

/// # Errors
/// The file cannot be read or run; the text says what to do.
#[cfg(feature = "llm")]
pub fn open(entry: &MinerEntry) -> Result<Standing, StartError> {
    use std::sync::Arc;

    use crate::ml::engine::Control;
    use crate::ml::engine::llm::{Gguf, LlmEngine, prove};

    let path = &entry.gguf_path;
    let help = "name a GGUF file of the llama family with gguf_path, and enough gguf_memory_mb";
    let failed = |error: String| StartError::new(3, format!("{path}: {error}"), help);
    let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let gguf = Gguf::read(bytes, entry.gguf_memory_mb.saturating_mul(1 << 20)).map(Arc::new);
    let gguf = gguf.map_err(|error| failed(error.to_string()))?;
    prove(&gguf, &Control::FREE).map_err(|error| failed(error.to_string()))?;
    let model = gguf.handle();
    tracing::info!(path, model = %model.short(), "read a language model");
    Ok(Standing { model, engine: Arc::new(move || Box::new(LlmEngine::new(Arc::clone(&gguf)))) })
}

/// # Errors
/// Always: this build has no such engine.
#[cfg(not(feature = "llm"))]
pub fn open(entry: &MinerEntry) -> Result<Standing, StartError> {
    let message = format!("the miner of \"{}\" asks for engine = \"gguf\", which this build has not", entry.subnet);
    let help = "build with --features llm, or run a server on the file and use engine = \"upstream\"";
    Err(StartError::new(3, message, help))
}
