//! A GGUF file: its weights, its tokens, and how its model is told who speaks.

use std::fmt;
use std::io::Cursor;

use candle_core::Device;
use candle_core::quantized::gguf_file::{self, Content, Value};
use candle_core::quantized::tokenizer::TokenizerFromGguf as _;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_transformers::models::quantized_llama::{MAX_SEQ_LEN, ModelWeights};
use tokenizers::Tokenizer;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;

use super::device_error;
use super::text::byte_of;
use crate::ml::engine::upstream::Template;
use crate::ml::engine::{EngineError, Handle};
use crate::protocol::ids::Digest;
use crate::protocol::turns;

/// Kind of a token that writes nothing.
const CONTROL: u32 = 3;

/// A file, read.
pub struct Gguf {
    handle: Handle,
    weights: ModelWeights,
    tokenizer: Tokenizer,
    /// What each token writes.
    bytes: Vec<Vec<u8>>,
    ends: Vec<usize>,
    template: Template,
    context: usize,
}

impl fmt::Debug for Gguf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gguf").field("handle", &self.handle).field("template", &self.template).finish_non_exhaustive()
    }
}

fn number(content: &Content, key: &str) -> Option<usize> {
    content.metadata.get(key).and_then(|value| value.to_u32().ok()).and_then(|value| usize::try_from(value).ok())
}

fn list<'a>(content: &'a Content, key: &str) -> Result<&'a [Value], EngineError> {
    let missing = || EngineError::Job(format!("the file lacks {key}"));
    let value = content.metadata.get(key).ok_or_else(missing)?;
    value.to_vec().map(Vec::as_slice).map_err(|_| missing())
}

impl Gguf {
    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// It is over `memory_bytes`, no GGUF, of another family than llama, or of another kind of tokens than byte-level BPE.
    pub fn read(bytes: Vec<u8>, memory_bytes: u64) -> Result<Self, EngineError> {
        let failed = |error: candle_core::Error| device_error(&error);
        // The file, what it is requantised to, and the table of embeddings spread out.
        let needed = (bytes.len() as u64).saturating_mul(4);
        if needed > memory_bytes {
            return Err(EngineError::Memory { needed, free: memory_bytes });
        }
        let handle = Digest(*blake3::hash(&bytes).as_bytes());
        let mut reader = Cursor::new(bytes);
        let content = Content::read(&mut reader).map_err(failed)?;
        let family = content.metadata.get("general.architecture").and_then(|value| value.to_string().ok());
        if family.map(String::as_str) != Some("llama") {
            let found = family.map_or("none", String::as_str);
            return Err(EngineError::Job(format!("a model of the family \"{found}\"; known is llama")));
        }
        let mut tokenizer = Tokenizer::from_gguf(&content).map_err(failed)?;
        if content.metadata.get("tokenizer.ggml.pre").and_then(|v| v.to_string().ok()).is_some_and(|p| p == "smollm") {
            let parts = vec![
                PreTokenizerWrapper::from(Digits::new(true)),
                PreTokenizerWrapper::from(ByteLevel::new(false, true, true)),
            ];
            tokenizer.with_pre_tokenizer(Some(Sequence::new(parts)));
        }
        let kinds = list(&content, "tokenizer.ggml.token_type")?;
        let written = |(name, kind): (&Value, &Value)| {
            let steers = kind.to_u32().or_else(|_| kind.to_i32().map(i32::cast_unsigned)).is_ok_and(|k| k == CONTROL);
            let name = name.to_string().map(String::as_str).unwrap_or_default();
            if steers { Vec::new() } else { name.chars().filter_map(byte_of).collect() }
        };
        let written = list(&content, "tokenizer.ggml.tokens")?.iter().zip(kinds).map(written).collect();
        let ends = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"];
        let ends = ends.iter().filter_map(|key| number(&content, key)).collect();
        let template = content.metadata.get("tokenizer.chat_template").and_then(|value| value.to_string().ok());
        let template = template.map_or(Template::Plain, |text| Template::of(text));
        let context = number(&content, "llama.context_length").unwrap_or(MAX_SEQ_LEN).min(MAX_SEQ_LEN);
        let weights = weights(content, reader).map_err(failed)?;
        Ok(Self { handle, weights, tokenizer, bytes: written, ends, template, context })
    }

    pub fn handle(&self) -> Handle {
        self.handle
    }

    pub(super) fn weights(&self) -> ModelWeights {
        self.weights.clone()
    }

    /// Tokens that the model can look at.
    pub(super) fn context(&self) -> usize {
        self.context
    }

    pub(super) fn tokens(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        let encoded = self.tokenizer.encode(text, false).map_err(|error| EngineError::Device(error.to_string()))?;
        Ok(encoded.get_ids().to_vec())
    }

    /// What a token writes; nothing for those that only steer.
    pub(super) fn bytes(&self, token: usize) -> &[u8] {
        self.bytes.get(token).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn is_end(&self, token: usize) -> bool {
        self.ends.contains(&token)
    }

    /// The prompt as the model reads it.
    pub(super) fn prompt(&self, prompt: &[u8]) -> Vec<u8> {
        turns::split(prompt).map_or_else(|| prompt.to_vec(), |turns| self.template.render(&turns))
    }
}

/// The weights, those in Q4_1 requantised.
fn weights(content: Content, mut reader: Cursor<Vec<u8>>) -> candle_core::Result<ModelWeights> {
    let device = Device::Cpu;
    if !content.tensor_infos.values().any(|info| info.ggml_dtype == GgmlDType::Q4_1) {
        return ModelWeights::from_gguf(content, &mut reader, &device);
    }
    let mut names: Vec<&String> = content.tensor_infos.keys().collect();
    names.sort();
    let mut tensors = Vec::with_capacity(names.len());
    for name in names {
        let tensor = content.tensor(&mut reader, name, &device)?;
        let tensor = if tensor.dtype() == GgmlDType::Q4_1 {
            QTensor::quantize(&tensor.dequantize(&device)?, GgmlDType::Q8_0)?
        } else {
            tensor
        };
        tensors.push((name.as_str(), tensor));
    }
    drop(reader);
    let metadata: Vec<(&str, &Value)> = content.metadata.iter().map(|(name, value)| (name.as_str(), value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
    let mut written = Cursor::new(Vec::new());
    gguf_file::write(&mut written, &metadata, &tensors)?;
    drop(tensors);
    written.set_position(0);
    let content = Content::read(&mut written)?;
    ModelWeights::from_gguf(content, &mut written, &device)
}
