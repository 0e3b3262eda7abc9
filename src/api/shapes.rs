//! The OpenAI shapes: requests as clients send them, and replies as clients read them.
//!
//! A token is a byte here: the text models of the network write byte by byte, and usage counts what they count. Fields
//! of a request that this node does not know are ignored, because clients send many; a known field out of its bounds is
//! refused by name.

use serde::Deserialize;
use serde_json::{Value, json};

use super::error::ApiError;
use crate::protocol::query::{COMPLETION_BYTES_MAX, PROMPT_BYTES_MAX, Query, STOP_BYTES_MAX, STOPS_MAX, Usage};
use crate::protocol::turns::{self, Turn, Voice};

const MAX_TOKENS: u32 = 128;
const TEMPERATURE: f64 = 1.0;
const TEMPERATURE_MAX: f64 = 2.0;

/// Which of the two text interfaces was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Completion,
    Chat,
}

/// A text or several; several are refused, because one query has one prompt.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Texts {
    One(String),
    Many(Vec<String>),
}

/// The part of a message's content that is text.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Clone, Debug, Deserialize)]
pub struct Part {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Message {
    role: String,
    content: Option<Content>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct StreamOptions {
    #[serde(default)]
    pub include_usage: bool,
}

/// What may be asked of this network beyond the OpenAI fields.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Extension {
    pub subnet: Option<String>,
    pub deadline_ms: Option<u64>,
}

/// A request of either interface.
#[derive(Clone, Debug, Deserialize)]
pub struct TextRequest {
    pub model: Option<String>,
    prompt: Option<Texts>,
    messages: Option<Vec<Message>>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    temperature: Option<f64>,
    n: Option<u32>,
    best_of: Option<u32>,
    seed: Option<i64>,
    stop: Option<Texts>,
    #[serde(default)]
    pub stream: bool,
    pub stream_options: Option<StreamOptions>,
    #[serde(default)]
    pub starling: Extension,
}

impl TextRequest {
    /// # Errors
    /// The bytes are no JSON of this shape.
    pub fn read(bytes: &[u8]) -> Result<Self, ApiError> {
        serde_json::from_slice(bytes).map_err(|e| ApiError::invalid(format!("the body is no JSON of this shape: {e}")))
    }

    pub fn include_usage(&self) -> bool {
        self.stream_options.as_ref().is_some_and(|o| o.include_usage)
    }

    pub fn max_bytes(&self) -> u32 {
        self.max_completion_tokens.or(self.max_tokens).unwrap_or(MAX_TOKENS)
    }

    /// The query this request asks for; `seed` stands in where it names none.
    ///
    /// # Errors
    /// A field is missing or out of its bounds; the error names it.
    pub fn query(&self, style: Style, seed: u64) -> Result<Query, ApiError> {
        let prompt = match style {
            Style::Completion => self.plain_prompt()?.into_bytes(),
            Style::Chat => self.chat_prompt()?,
        };
        if prompt.len() > PROMPT_BYTES_MAX {
            let message = format!("the prompt is {} bytes; at most {PROMPT_BYTES_MAX} fit", prompt.len());
            return Err(ApiError::invalid(message).param("prompt"));
        }
        if self.n.unwrap_or(1) != 1 || self.best_of.unwrap_or(1) != 1 {
            return Err(ApiError::invalid("one answer is given to one question: n must be 1").param("n"));
        }
        let max_bytes = self.max_bytes();
        if !(1..=COMPLETION_BYTES_MAX).contains(&max_bytes) {
            let message = format!("max_tokens must be 1 to {COMPLETION_BYTES_MAX}, not {max_bytes}");
            return Err(ApiError::invalid(message).param("max_tokens"));
        }
        Ok(Query::Complete {
            prompt,
            max_bytes,
            temperature_milli: milli(self.temperature.unwrap_or(TEMPERATURE))?,
            seed: self.seed.map_or(seed, i64::cast_unsigned),
            stop: self.stops()?,
        })
    }

    fn plain_prompt(&self) -> Result<String, ApiError> {
        match &self.prompt {
            Some(Texts::One(text)) => Ok(text.clone()),
            Some(Texts::Many(texts)) => match texts.as_slice() {
                [text] => Ok(text.clone()),
                _ => Err(ApiError::invalid("give one prompt; ask several times for several").param("prompt")),
            },
            None => Err(ApiError::invalid("prompt is missing").param("prompt")),
        }
    }

    /// The messages as turns; the engine that knows the model makes of them what that model reads.
    fn chat_prompt(&self) -> Result<Vec<u8>, ApiError> {
        let messages = self.messages.as_deref().unwrap_or_default();
        if messages.is_empty() {
            return Err(ApiError::invalid("messages must hold at least one message").param("messages"));
        }
        let mut said = Vec::new();
        for (i, message) in messages.iter().enumerate() {
            let voice = match message.role.as_str() {
                "system" | "developer" => Voice::System,
                // What a tool said is as good as told by the user.
                "user" | "tool" => Voice::User,
                "assistant" => Voice::Assistant,
                other => {
                    let error = ApiError::invalid(format!("\"{other}\" is no role of a message"));
                    return Err(error.param(&format!("messages[{i}].role")));
                }
            };
            let text = match &message.content {
                Some(Content::Text(text)) => text.clone(),
                Some(Content::Parts(parts)) => {
                    if let Some(other) = parts.iter().find(|p| p.kind != "text") {
                        let error = ApiError::invalid(format!("content of type \"{}\" is not read here", other.kind));
                        return Err(error.param(&format!("messages[{i}].content")));
                    }
                    parts.iter().map(|p| p.text.as_str()).collect()
                }
                None => continue,
            };
            said.push(Turn { voice, text: text.into_bytes() });
        }
        Ok(turns::join(&said))
    }

    fn stops(&self) -> Result<Vec<Vec<u8>>, ApiError> {
        let stops = match &self.stop {
            None => Vec::new(),
            Some(Texts::One(text)) => vec![text.clone()],
            Some(Texts::Many(texts)) => texts.clone(),
        };
        let fits = stops.len() <= STOPS_MAX && stops.iter().all(|s| (1..=STOP_BYTES_MAX).contains(&s.len()));
        if !fits {
            let message = format!("stop takes up to {STOPS_MAX} texts of 1 to {STOP_BYTES_MAX} bytes");
            return Err(ApiError::invalid(message).param("stop"));
        }
        Ok(stops.into_iter().map(String::into_bytes).collect())
    }
}

/// A temperature in thousandths.
///
/// # Errors
/// It is out of bounds.
pub fn milli(temperature: f64) -> Result<u32, ApiError> {
    if !(0.0..=TEMPERATURE_MAX).contains(&temperature) {
        let message = format!("temperature must be 0 to {TEMPERATURE_MAX}, not {temperature}");
        return Err(ApiError::invalid(message).param("temperature"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked above")]
    Ok((temperature * 1_000.0).round() as u32)
}

/// What every reply of one query repeats.
#[derive(Clone, Debug)]
pub struct Reply {
    pub style: Style,
    pub id: String,
    pub created: u64,
    pub model: String,
}

pub fn usage(usage: &Usage) -> Value {
    let (prompt, completion) = (usage.input_bytes, usage.output_bytes);
    let total = u64::from(prompt) + u64::from(completion);
    json!({ "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total })
}

/// `length` when the answer was cut by `max_tokens`.
pub fn finish(written: u32, max_bytes: u32) -> &'static str {
    if written >= max_bytes { "length" } else { "stop" }
}

impl Reply {
    fn object(&self, chunk: bool) -> &'static str {
        match (self.style, chunk) {
            (Style::Completion, _) => "text_completion",
            (Style::Chat, false) => "chat.completion",
            (Style::Chat, true) => "chat.completion.chunk",
        }
    }

    fn document(&self, chunk: bool, choices: &Value, usage: &Value) -> Value {
        json!({
            "id": self.id,
            "object": self.object(chunk),
            "created": self.created,
            "model": self.model,
            "choices": choices,
            "usage": usage,
        })
    }

    /// The whole answer.
    pub fn whole(&self, text: &str, finish: &str, usage: &Value) -> Value {
        let choice = match self.style {
            Style::Completion => json!({ "index": 0, "text": text, "logprobs": null, "finish_reason": finish }),
            Style::Chat => json!({
                "index": 0,
                "message": { "role": "assistant", "content": text, "refusal": null },
                "logprobs": null,
                "finish_reason": finish,
            }),
        };
        self.document(false, &json!([choice]), usage)
    }

    /// One event of a stream: text, or with a reason the last one.
    pub fn chunk(&self, text: Option<&str>, finish: Option<&str>, usage: &Value) -> Value {
        let choice = match self.style {
            Style::Completion => {
                json!({ "index": 0, "text": text.unwrap_or_default(), "logprobs": null, "finish_reason": finish })
            }
            Style::Chat => {
                let delta = text.map_or_else(|| json!({}), |text| json!({ "content": text }));
                json!({ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish })
            }
        };
        self.document(true, &json!([choice]), usage)
    }

    /// The first event of a chat: who speaks.
    pub fn opening(&self) -> Option<Value> {
        let choice = json!({
            "index": 0,
            "delta": { "role": "assistant", "content": "" },
            "logprobs": null,
            "finish_reason": null,
        });
        (self.style == Style::Chat).then(|| self.document(true, &json!([choice]), &Value::Null))
    }

    /// The event after the last text that carries usage alone, for clients that ask for it.
    pub fn closing(&self, usage: &Value) -> Value {
        self.document(true, &json!([]), usage)
    }
}

/// Bytes to text across pieces: a character cut in two waits for its rest, what is no text becomes U+FFFD.
#[derive(Debug, Default)]
pub struct TextAssembler {
    tail: Vec<u8>,
}

impl TextAssembler {
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.tail.extend_from_slice(bytes);
        let mut text = String::new();
        let mut used = 0;
        for chunk in self.tail.utf8_chunks() {
            let end = used + chunk.valid().len() + chunk.invalid().len();
            text += chunk.valid();
            used += chunk.valid().len();
            // At the very end up to three bytes may be the begin of a character whose rest is still to come.
            let unfinished =
                end == self.tail.len() && std::str::from_utf8(chunk.invalid()).is_err_and(|e| e.error_len().is_none());
            if !chunk.invalid().is_empty() && !unfinished {
                text.push('\u{fffd}');
                used = end;
            }
        }
        self.tail.drain(..used.min(self.tail.len()));
        text
    }

    /// What is left when nothing more comes.
    pub fn end(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.tail)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> TextRequest {
        TextRequest::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn requests_become_queries() {
        let query = request(r#"{"model":"text","prompt":"ab","temperature":0.5,"stop":"x","user":"u"}"#);
        let expected = Query::Complete {
            prompt: b"ab".to_vec(),
            max_bytes: 128,
            temperature_milli: 500,
            seed: 9,
            stop: vec![b"x".to_vec()],
        };
        assert_eq!(query.query(Style::Completion, 9).unwrap(), expected);
        let chat = request(
            r#"{"messages":[{"role":"system","content":"be"},{"role":"user","content":[{"type":"text","text":"hi"}]}],"seed":-1}"#,
        );
        let Query::Complete { prompt, seed, .. } = chat.query(Style::Chat, 0).unwrap() else { panic!() };
        assert_eq!((prompt.as_slice(), seed), (&b"\xf8be\xf9hi\xfa"[..], u64::MAX));
    }

    #[test]
    fn wrong_fields_are_named() {
        for (style, text, param) in [
            (Style::Completion, r#"{"prompt":["a","b"]}"#, "prompt"),
            (Style::Completion, r#"{}"#, "prompt"),
            (Style::Completion, r#"{"prompt":"a","n":2}"#, "n"),
            (Style::Completion, r#"{"prompt":"a","max_tokens":0}"#, "max_tokens"),
            (Style::Completion, r#"{"prompt":"a","temperature":3}"#, "temperature"),
            (Style::Completion, r#"{"prompt":"a","stop":["a","b","c","d","e"]}"#, "stop"),
            (Style::Chat, r#"{"messages":[]}"#, "messages"),
            (Style::Chat, r#"{"messages":[{"role":"king","content":"a"}]}"#, "messages[0].role"),
            (Style::Chat, r#"{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}"#, "messages[0].content"),
        ] {
            assert_eq!(request(text).query(style, 0).unwrap_err().param.as_deref(), Some(param), "{text}");
        }
        assert!(TextRequest::read(b"{").is_err());
    }

    #[test]
    fn a_character_cut_in_two_is_whole_again() {
        let mut assembler = TextAssembler::default();
        let bytes = "aé漢🦀".as_bytes();
        let text: String = bytes.iter().map(|b| assembler.push(&[*b])).collect::<String>() + &assembler.end();
        assert_eq!(text, "aé漢🦀");
        assert_eq!(assembler.push(b"a\xffb\xf0\x9f"), "a\u{fffd}b");
        assert_eq!(assembler.push(b"x"), "\u{fffd}x");
        assert_eq!(assembler.push(b"\xe6"), "");
        assert_eq!(assembler.end(), "\u{fffd}");
    }
}
