//! An OpenAI-compatible server as an engine (M9): vLLM, llama.cpp, Ollama, SGLang, or another program of this one.
//!
//! The engine writes requests and reads replies; who carries them is a [`Carrier`], so that nothing here knows a socket or
//! a clock. Every reply is checked: a server that answers with another model than it was asked for, breaks off in the
//! middle or sends what is no reply is in [`Trouble`], which goes to whoever watches the source, and the job fails. What
//! the server was right to refuse (a prompt too long for it) fails the job alone.

mod reply;
pub mod template;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use self::reply::words;
use self::reply::{Chunk, Text, distributions};
pub use self::template::Template;
use super::{
    Caps, Control, Determinism, Engine, EngineError, EvalJob, Evaluated, Handle, Inferred, Info, Sink, Trained,
};
use crate::ml::model::Artifact;
use crate::ml::quantise::to_fixed;
use crate::ml::train::TrainJob;
use crate::protocol::ids::hash;
use crate::protocol::query::{Answer, Query, Usage};
use crate::protocol::turns;

const NAME: &str = "upstream";
/// How many of the likeliest next tokens a server is asked for; most give no more.
const LOGPROBS: u32 = 20;
/// Bytes of a reply that is no stream.
const WHOLE_BYTES_MAX: usize = 8 << 20;

/// Why a server is not to be asked again until it has proven itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    #[error("{0}")]
    Unreachable(String),
    /// Connected, and nothing came for so long.
    #[error("the server said nothing for {ms} ms")]
    Silent { ms: u64 },
    /// A job ended before anything came.
    #[error("the server had said nothing when the job's time was up")]
    Unanswered,
    #[error("the server answers with status {status}: {text}")]
    Status { status: u16, text: String },
    #[error("the server was asked for the model \"{asked}\" and answers with \"{found}\"")]
    Lying { asked: String, found: String },
    #[error("{0}")]
    Broken(String),
}

impl Trouble {
    /// Whether it is the question's fault, or the moment's, and not the server's.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Status { status: 400 | 408 | 409 | 413 | 422 | 429, .. })
    }
}

/// What comes of a request, piece by piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// One line, without its end.
    Line(String),
    /// Nothing for a short while: time to look whether anybody still waits.
    Quiet,
    /// All was heard.
    End,
    Failed(Trouble),
}

/// A reply under way; dropping it gives the request up.
pub trait Listening: Send {
    /// The next line, or `Quiet` within a twentieth of a second or so.
    fn next(&mut self) -> Heard;
}

/// Brings requests to one server.
pub trait Carrier: Send + Sync + fmt::Debug {
    /// Posts a JSON document, or reads the path when there is none.
    fn ask(&self, path: &str, body: Option<String>) -> Box<dyn Listening>;
}

/// Told after every request: nothing, or the trouble.
pub type Watcher = Arc<dyn Fn(Result<(), Trouble>) + Send + Sync>;

/// One model at one server.
#[derive(Clone)]
pub struct Source {
    pub carrier: Arc<dyn Carrier>,
    /// The model's name there.
    pub model: String,
    pub template: Template,
    /// Tokens of one answer at most.
    pub tokens_max: u32,
    pub watcher: Watcher,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("carrier", &self.carrier).field("model", &self.model).finish_non_exhaustive()
    }
}

/// The name of a model whose weights nobody here has seen: that it is called so is all that is known.
pub fn handle_of(model: &str) -> Handle {
    hash("starling/1 upstream model", &[model.as_bytes()])
}

/// Servers by their models' handles.
#[derive(Debug, Default)]
pub struct UpstreamEngine {
    sources: BTreeMap<Handle, Source>,
}

impl UpstreamEngine {
    pub fn new(sources: impl IntoIterator<Item = Source>) -> Self {
        Self { sources: sources.into_iter().map(|source| (handle_of(&source.model), source)).collect() }
    }
}

impl Source {
    /// What the server lists must hold the model.
    ///
    /// # Errors
    /// It does not, or nothing can be learnt from it.
    pub fn check_list(&self, control: &Control<'_>) -> Result<(), EngineError> {
        let ended = self.whole("/v1/models", None, control);
        let listed = match self.told(ended)? {
            Ok(text) => reply::models(&text),
            // Some servers list nothing; their answers name the model all the same.
            Err(Trouble::Status { status: 404 | 405, .. }) => return Ok(()),
            Err(trouble) => return Err(self.failed(trouble)),
        };
        match listed {
            Some(names) if names.contains(&self.model) => Ok(()),
            Some(names) => {
                let found = names.join(", ");
                Err(self.failed(Trouble::Lying { asked: self.model.clone(), found }))
            }
            None => Err(self.failed(Trouble::Broken("the server's list of models is none".to_owned()))),
        }
    }

    /// The trouble as the job's error; whoever watches hears of it.
    fn failed(&self, trouble: Trouble) -> EngineError {
        let error = EngineError::Upstream(trouble.to_string());
        if !trouble.is_passing() {
            (self.watcher)(Err(trouble));
        }
        error
    }

    /// Sorts an ended request: the caller's own end passes through, trouble is for the caller to judge.
    fn told<T>(&self, ended: Result<T, Ended>) -> Result<Result<T, Trouble>, EngineError> {
        match ended {
            Ok(value) => {
                (self.watcher)(Ok(()));
                Ok(Ok(value))
            }
            Err(Ended::Trouble(trouble)) => Ok(Err(trouble)),
            Err(Ended::Stopped { error, unanswered }) => {
                if unanswered {
                    (self.watcher)(Err(Trouble::Unanswered));
                }
                Err(error)
            }
        }
    }

    /// Every line of a reply, until its end or until `each` has had enough.
    fn lines(
        &self,
        path: &str,
        body: Option<String>,
        control: &Control<'_>,
        mut each: impl FnMut(&str) -> Result<bool, Trouble>,
    ) -> Result<(), Ended> {
        let mut listening = self.carrier.ask(path, body);
        let mut lines = 0;
        loop {
            let stopped = |error| Ended::Stopped { error, unanswered: lines == 0 };
            control.go_on(lines).map_err(stopped)?;
            match listening.next() {
                Heard::Quiet => {}
                Heard::End => return Ok(()),
                Heard::Failed(trouble) => return Err(Ended::Trouble(trouble)),
                Heard::Line(line) => {
                    lines += 1;
                    if !each(&line).map_err(Ended::Trouble)? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// A reply that is one document.
    fn whole(&self, path: &str, body: Option<String>, control: &Control<'_>) -> Result<String, Ended> {
        let mut whole = String::new();
        self.lines(path, body, control, |line| {
            whole.push_str(line);
            whole.push('\n');
            if whole.len() > WHOLE_BYTES_MAX {
                return Err(Trouble::Broken(format!("the reply has over {WHOLE_BYTES_MAX} bytes")));
            }
            Ok(true)
        })?;
        Ok(whole)
    }

    fn complete(
        &self,
        wish: &Completion<'_>,
        control: &Control<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<Answer, EngineError> {
        let (path, body) = wish.request(self);
        let mut text = Text::new(&self.model, wish.max_bytes as usize);
        let ended = self.lines(path, Some(body), control, |line| {
            Ok(match text.read(line)? {
                Chunk::Nothing => true,
                Chunk::Piece(piece) => text.go_on(sink(piece.as_bytes())),
                Chunk::End => false,
            })
        });
        let ended = ended.and_then(|()| text.ended(sink).map_err(Ended::Trouble));
        let bytes = self.told(ended)?.map_err(|trouble| self.failed(trouble))?;
        Ok(Answer::Text { bytes })
    }

    fn next_bytes(&self, contexts: &[Vec<u8>], control: &Control<'_>) -> Result<Answer, EngineError> {
        let prompts: Vec<String> = contexts.iter().map(|context| readable(context)).collect();
        let rows = match self.distributions(&prompts, control)? {
            // A server that takes one prompt at a time.
            Err(trouble) if prompts.len() > 1 && (trouble.is_passing() || matches!(trouble, Trouble::Broken(_))) => {
                let mut rows = Vec::with_capacity(prompts.len());
                for prompt in &prompts {
                    let row = self.distributions(std::slice::from_ref(prompt), control)?;
                    rows.extend(row.map_err(|trouble| self.failed(trouble))?);
                }
                rows
            }
            rows => rows.map_err(|trouble| self.failed(trouble))?,
        };
        if rows.iter().any(Vec::is_empty) {
            return Err(EngineError::Unsupported { engine: NAME, what: "give probabilities: its server sends none" });
        }
        Ok(Answer::Distributions { probabilities: rows.iter().map(|row| to_fixed(row)).collect() })
    }

    /// One row of 256 for each prompt; empty rows when the server gives no probabilities.
    fn distributions(
        &self,
        prompts: &[String],
        control: &Control<'_>,
    ) -> Result<Result<Vec<Vec<f32>>, Trouble>, EngineError> {
        let prompt = match prompts {
            [one] => serde_json::json!(one),
            several => serde_json::json!(several),
        };
        let body = serde_json::json!({
            "model": self.model, "prompt": prompt, "max_tokens": 1, "temperature": 0.0, "logprobs": LOGPROBS,
        });
        let ended = self.whole("/v1/completions", Some(body.to_string()), control);
        let ended = ended.and_then(|text| distributions(&text, &self.model, prompts.len()).map_err(Ended::Trouble));
        self.told(ended)
    }
}

/// A context as the text a server takes: bytes of a character cut in two at its begin or end are left out.
fn readable(context: &[u8]) -> String {
    let text = String::from_utf8_lossy(context);
    let text = text.trim_matches('\u{fffd}');
    // Most servers refuse an empty prompt; a new line says as little.
    if text.is_empty() { "\n".to_owned() } else { text.to_owned() }
}

/// How a request ended that did not give what it should.
enum Ended {
    Trouble(Trouble),
    /// The job's own end.
    Stopped {
        error: EngineError,
        unanswered: bool,
    },
}

/// What a completion is asked to be.
struct Completion<'a> {
    prompt: &'a [u8],
    max_bytes: u32,
    temperature_milli: u32,
    seed: u64,
    stop: &'a [Vec<u8>],
}

impl Completion<'_> {
    fn request(&self, source: &Source) -> (&'static str, String) {
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut stop: Vec<String> = self.stop.iter().map(|stop| lossy(stop)).collect();
        let mut body = serde_json::json!({
            "model": source.model,
            // A token holds at least a byte.
            "max_tokens": self.max_bytes.min(source.tokens_max),
            "temperature": f64::from(self.temperature_milli) / 1_000.0,
            // What every server takes for one.
            "seed": self.seed & 0x7fff_ffff,
            "stream": true,
            "stream_options": { "include_usage": true },
        });
        let turns = turns::split(self.prompt);
        let (path, key, value) = match (turns, source.template) {
            (Some(turns), Template::Server) => ("/v1/chat/completions", "messages", template::messages(&turns)),
            (Some(turns), template) => {
                // Servers take four at most.
                stop.extend(template.end().map(str::to_owned));
                stop.truncate(4);
                ("/v1/completions", "prompt", lossy(&template.render(&turns)).into())
            }
            (None, _) => ("/v1/completions", "prompt", lossy(self.prompt).into()),
        };
        if let Some(body) = body.as_object_mut() {
            body.insert(key.to_owned(), value);
            if !stop.is_empty() {
                body.insert("stop".to_owned(), stop.into());
            }
        }
        (path, body.to_string())
    }
}

impl Engine for UpstreamEngine {
    fn info(&self) -> Info {
        Info {
            name: NAME,
            version: "1",
            device: self.sources.values().map(|source| source.model.as_str()).collect::<Vec<_>>().join(", "),
            isa: "",
            threads: 1,
            memory_free: 0,
            fingerprint: hash("starling/1 engine", &[NAME.as_bytes()]),
        }
    }

    fn caps(&self) -> Caps {
        Caps { generate: true, logprobs: true, honest: true, ..Caps::default() }
    }

    fn determinism(&self) -> Determinism {
        Determinism::Opaque
    }

    fn load(&mut self, artifact: &Artifact) -> Result<Handle, EngineError> {
        let _weights_stay_with_the_server = artifact;
        Err(EngineError::Unsupported { engine: NAME, what: "load weights" })
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
        let source = self.sources.get(&handle).ok_or(EngineError::UnknownModel(handle))?;
        let answer = match query {
            Query::Complete { prompt, max_bytes, temperature_milli, seed, stop } => {
                let (max_bytes, temperature_milli, seed) = (*max_bytes, *temperature_milli, *seed);
                source.complete(&Completion { prompt, max_bytes, temperature_milli, seed, stop }, control, sink)?
            }
            Query::NextByte { contexts } => source.next_bytes(contexts, control)?,
            other => return Err(EngineError::Mismatch { architecture: NAME, query: other.kind() }),
        };
        let usage = Usage::of(query, &answer);
        Ok(Inferred { answer, usage })
    }
}

/// Asks a server to prove itself: it lists the model and writes a word under its name.
///
/// # Errors
/// The trouble it is in, as the watcher heard it, or told to stop.
pub fn probe(source: &Source, control: &Control<'_>) -> Result<(), EngineError> {
    source.check_list(control)?;
    let query =
        Query::Complete { prompt: b"One two".to_vec(), max_bytes: 8, temperature_milli: 0, seed: 1, stop: vec![] };
    let mut engine = UpstreamEngine::new([source.clone()]);
    engine.infer(handle_of(&source.model), &query, control, &mut super::no_sink).map(|_| ())
}
