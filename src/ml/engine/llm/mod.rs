//! Language models in this process (M9, feature `llm`): GGUF files of the llama family through candle, on the processor.
//!
//! A file is read once and shared; every engine has its own memory of what it has read. Tokens are picked by the same
//! generator of (seed, place) that byte models use, so that answers can be checked the same way (M15). Weights in Q4_1 are
//! requantised to Q8_0 at load, which candle multiplies three times as fast. Nothing is loaded over the memory budget.

mod file;
mod text;

use std::fmt;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;

pub use self::file::Gguf;
use self::text::Writer;
use super::sampler::{choose, draw};
use super::{
    Caps, Control, Determinism, Engine, EngineError, EvalJob, Evaluated, Handle, Inferred, Info, Sink, Trained, no_sink,
};
use crate::ml::model::Artifact;
use crate::ml::quantise::to_fixed;
use crate::ml::train::TrainJob;
use crate::protocol::ids::hash;
use crate::protocol::query::{Answer, BYTE_VALUES, Query, Usage};

const NAME: &str = "llm";
const VERSION: &str = "1+candle-0.11";
/// Tokens of a prompt read between two looks at the caller.
const CHUNK: usize = 128;

/// One model of one file.
pub struct LlmEngine {
    gguf: Arc<Gguf>,
    weights: ModelWeights,
    device: Device,
}

impl fmt::Debug for LlmEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LlmEngine").field("gguf", &self.gguf).finish_non_exhaustive()
    }
}

fn device_error(error: &candle_core::Error) -> EngineError {
    EngineError::Device(error.to_string())
}

impl LlmEngine {
    /// An engine over a file's weights, which it shares with all others over it.
    pub fn new(gguf: Arc<Gguf>) -> Self {
        let weights = gguf.weights();
        Self { gguf, weights, device: Device::Cpu }
    }

    /// Reads tokens after those read already; the logits of what comes next.
    fn read(&mut self, tokens: &[u32], place: &mut usize, control: &Control<'_>) -> Result<Vec<f32>, EngineError> {
        let mut logits = Vec::new();
        for chunk in tokens.chunks(CHUNK) {
            control.go_on(*place as u64)?;
            let forward = || {
                let input = Tensor::new(chunk, &self.device)?.unsqueeze(0)?;
                self.weights.forward(&input, *place)?.flatten_all()?.to_vec1::<f32>()
            };
            let mut forward = forward;
            logits = forward().map_err(|error| device_error(&error))?;
            *place += chunk.len();
        }
        Ok(logits)
    }

    /// A text as tokens, the front cut off where the model has no room, and begun afresh.
    fn begin(&mut self, text: &[u8], room: usize) -> Result<Vec<u32>, EngineError> {
        self.weights.clear_kv_cache();
        let mut tokens = self.gguf.tokens(&String::from_utf8_lossy(text))?;
        let most = self.gguf.context().saturating_sub(room).max(1);
        if tokens.len() > most {
            tokens.drain(..tokens.len() - most);
        }
        Ok(tokens)
    }

    fn complete(&mut self, wish: &Wish<'_>, control: &Control<'_>, sink: &mut Sink<'_>) -> Result<Answer, EngineError> {
        let tokens_max = (wish.max_bytes as usize).min(self.gguf.context() / 2);
        let prompt = self.gguf.prompt(wish.prompt);
        let tokens = self.begin(&prompt, tokens_max)?;
        let mut place = 0;
        let mut logits = self.read(&tokens, &mut place, control)?;
        let mut writer = Writer::new(wish.max_bytes as usize, wish.stop);
        for number in 0..tokens_max as u64 {
            let token = choose(&logits, wish.temperature_milli, draw(wish.seed, number));
            if self.gguf.is_end(token) || !writer.push(self.gguf.bytes(token), sink) {
                break;
            }
            let Ok(token) = u32::try_from(token) else { break };
            logits = self.read(&[token], &mut place, control)?;
        }
        Ok(Answer::Text { bytes: writer.end(sink) })
    }

    fn next_byte(&mut self, context: &[u8], control: &Control<'_>) -> Result<Vec<u16>, EngineError> {
        let text = String::from_utf8_lossy(context);
        let text = text.trim_matches('\u{fffd}');
        // A model reads at least one token; a new line says as little as nothing.
        let tokens = self.begin(if text.is_empty() { b"\n" } else { text.as_bytes() }, 1)?;
        let logits = self.read(&tokens, &mut 0, control)?;
        Ok(to_fixed(&self.first_bytes(&logits)))
    }

    /// How likely each byte is to come next: every token counts to its first byte, those that only steer to all.
    fn first_bytes(&self, logits: &[f32]) -> Vec<f32> {
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut row = vec![0.0_f64; BYTE_VALUES];
        let (mut total, mut told) = (0.0, 0.0);
        for (token, logit) in logits.iter().enumerate() {
            let weight = f64::from(logit - most).exp();
            total += weight;
            if let Some(place) = self.gguf.bytes(token).first().and_then(|byte| row.get_mut(usize::from(*byte))) {
                *place += weight;
                told += weight;
            }
        }
        let rest = (total - told) / BYTE_VALUES as f64;
        #[expect(clippy::cast_possible_truncation, reason = "a probability")]
        row.into_iter().map(|weight| ((weight + rest) / total) as f32).collect()
    }
}

/// What a completion is asked to be.
struct Wish<'a> {
    prompt: &'a [u8],
    max_bytes: u32,
    temperature_milli: u32,
    seed: u64,
    stop: &'a [Vec<u8>],
}

impl Engine for LlmEngine {
    fn info(&self) -> Info {
        Info {
            name: NAME,
            version: VERSION,
            device: std::env::consts::ARCH.to_owned(),
            isa: "",
            threads: rayon::current_num_threads(),
            memory_free: 0,
            fingerprint: hash("starling/1 engine", &[NAME.as_bytes(), b"\0", VERSION.as_bytes()]),
        }
    }

    fn caps(&self) -> Caps {
        Caps { generate: true, logprobs: true, honest: true, ..Caps::default() }
    }

    fn determinism(&self) -> Determinism {
        Determinism::Tolerance { relative: 1e-4 }
    }

    fn load(&mut self, _: &Artifact) -> Result<Handle, EngineError> {
        Err(EngineError::Unsupported { engine: NAME, what: "load anything but its own file" })
    }

    fn unload(&mut self, _: Handle) -> bool {
        false
    }

    fn export(&self, _: Handle) -> Result<Artifact, EngineError> {
        Err(EngineError::Unsupported { engine: NAME, what: "export weights" })
    }

    fn train(&mut self, _: Option<Handle>, _: &TrainJob, _: &Control<'_>) -> Result<Trained, EngineError> {
        Err(EngineError::Unsupported { engine: NAME, what: "train" })
    }

    fn eval(&mut self, _: Handle, _: &EvalJob, _: &Control<'_>) -> Result<Evaluated, EngineError> {
        Err(EngineError::Unsupported { engine: NAME, what: "evaluate" })
    }

    fn infer(
        &mut self,
        handle: Handle,
        query: &Query,
        control: &Control<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<Inferred, EngineError> {
        query.check()?;
        if handle != self.gguf.handle() {
            return Err(EngineError::UnknownModel(handle));
        }
        let answer = match query {
            Query::Complete { prompt, max_bytes, temperature_milli, seed, stop } => {
                let (max_bytes, temperature_milli, seed) = (*max_bytes, *temperature_milli, *seed);
                self.complete(&Wish { prompt, max_bytes, temperature_milli, seed, stop }, control, sink)?
            }
            Query::NextByte { contexts } => {
                let rows = contexts.iter().map(|context| self.next_byte(context, control));
                Answer::Distributions { probabilities: rows.collect::<Result<_, _>>()? }
            }
            other => return Err(EngineError::Mismatch { architecture: "gguf", query: other.kind() }),
        };
        let usage = Usage::of(query, &answer);
        Ok(Inferred { answer, usage })
    }
}

/// Writes a word, so that a file that cannot be run is known before anything is announced.
///
/// # Errors
/// The engine's.
pub fn prove(gguf: &Arc<Gguf>, control: &Control<'_>) -> Result<(), EngineError> {
    let prompt = b"One two".to_vec();
    let query = Query::Complete { prompt, max_bytes: 8, temperature_milli: 0, seed: 1, stop: vec![] };
    LlmEngine::new(Arc::clone(gguf)).infer(gguf.handle(), &query, control, &mut no_sink).map(|_| ())
}

#[cfg(test)]
mod tests;
