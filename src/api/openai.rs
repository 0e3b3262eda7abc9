//! `/v1`: the gateway's interface for OpenAI clients, answered by miners over the network.
//!
//! The head of a response waits for the first frame, so that a query nobody takes is an honest status and not a broken
//! stream. Dropping the request drops the query.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::backend::{AnswerStream, Backend, Frame, Served};
use super::error::ApiError;
use super::gate::{Gate, body};
use super::shapes::{Reply, Style, TextRequest, finish, usage};
use super::stream::Events;
use crate::protocol::ids::{Digest, hash};
use crate::protocol::query::{Answer, Ask, DEADLINE_MS_MAX, Query, Usage};
use crate::protocol::report::ModelReport;

/// Milliseconds that an answer may take to reach us after a miner's deadline has passed.
const GRACE_MS: u64 = 1_000;

/// What a gateway is made with.
#[derive(Clone, Debug)]
pub struct GatewayParams {
    pub api_keys: Vec<String>,
    pub body_bytes_max: usize,
    pub queries_max: usize,
    /// For each caller; 0 is no limit.
    pub queries_per_minute: u32,
    pub deadline_ms: u64,
    /// Milliseconds since 1970.
    pub clock: fn() -> u64,
    /// Where the seeds of queries that name none start from.
    pub seed: [u8; 32],
}

/// What all handlers of a gateway share.
#[derive(Debug)]
pub struct Gateway {
    pub params: GatewayParams,
    pub gate: Gate,
    counter: AtomicU64,
}

impl Gateway {
    pub fn new(params: GatewayParams) -> Self {
        let gate = Gate::new(&params.api_keys, params.queries_max, params.queries_per_minute);
        Self { params, gate, counter: AtomicU64::new(0) }
    }

    /// A name that no other request of this process has.
    pub fn request_id(&self) -> Digest {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        hash("starling/1 request", &[&self.params.seed, &number.to_le_bytes()])
    }

    /// A seed for a query that names none.
    pub fn seed(&self) -> u64 {
        self.request_id().0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// The time a query is given: as asked for, within bounds.
    ///
    /// # Errors
    /// It is out of bounds.
    pub fn deadline_ms(&self, request: &HttpRequest, asked: Option<u64>) -> Result<u64, ApiError> {
        let header = request.headers().get("x-starling-deadline-ms").and_then(|v| v.to_str().ok()?.parse().ok());
        let deadline_ms = asked.or(header).unwrap_or(self.params.deadline_ms);
        if (1..=DEADLINE_MS_MAX).contains(&deadline_ms) {
            return Ok(deadline_ms);
        }
        Err(ApiError::invalid(format!("deadline_ms must be 1 to {DEADLINE_MS_MAX}")).param("starling.deadline_ms"))
    }
}

type Node = web::Data<dyn Backend>;
type Shared = web::Data<Gateway>;
type Outcome = Result<HttpResponse, ApiError>;

fn model_json(model: &ModelReport) -> Value {
    json!({
        "id": model.id,
        "object": "model",
        "created": model.created.0 / 1_000,
        "owned_by": "starling",
        "starling": { "subnet": model.subnet, "task": model.task, "miners": model.miners },
    })
}

pub(super) async fn models(node: Node) -> Outcome {
    let models = node.models().await?;
    Ok(HttpResponse::Ok().json(json!({ "object": "list", "data": models.iter().map(model_json).collect::<Vec<_>>() })))
}

/// The model of this name, by which a subnet is meant too.
///
/// # Errors
/// 404 that lists what there is.
pub async fn find(node: &dyn Backend, name: &str) -> Result<ModelReport, ApiError> {
    let models = node.models().await?;
    let known: Vec<String> = models.iter().map(|m| m.id.clone()).collect();
    let found = models.into_iter().find(|m| m.id == name || m.subnet.to_string() == name);
    found.ok_or_else(|| ApiError::model(name, &known))
}

pub(super) async fn model(node: Node, name: web::Path<String>) -> Outcome {
    Ok(HttpResponse::Ok().json(model_json(&find(node.get_ref(), &name).await?)))
}

pub(super) async fn completions(node: Node, shared: Shared, request: HttpRequest, payload: web::Payload) -> Outcome {
    text(&node, &shared, Style::Completion, &request, payload).await
}

pub(super) async fn chat(node: Node, shared: Shared, request: HttpRequest, payload: web::Payload) -> Outcome {
    text(&node, &shared, Style::Chat, &request, payload).await
}

async fn text(node: &Node, shared: &Shared, style: Style, request: &HttpRequest, payload: web::Payload) -> Outcome {
    let wanted = TextRequest::read(&body(request, payload, shared.params.body_bytes_max).await?)?;
    let query = wanted.query(style, shared.seed())?;
    let header = request.headers().get("x-starling-subnet").and_then(|v| v.to_str().ok());
    let name = wanted.starling.subnet.as_deref().or(header).or(wanted.model.as_deref());
    let name = name.ok_or_else(|| ApiError::invalid("model is missing").param("model"))?;
    let model = find(node.get_ref(), name).await?;
    if model.task != "text" {
        let message = format!("{} takes no text: it serves {}; use POST /v1/query/{}", model.id, model.task, model.id);
        return Err(ApiError::invalid(message).param("model"));
    }
    let deadline_ms = shared.deadline_ms(request, wanted.starling.deadline_ms)?;
    let permit = shared.gate.admit(request)?;
    let ask = Ask { subnet: model.subnet, model: None, query, deadline_ms, stream: wanted.stream, receipt: None };
    let until = Instant::now() + Duration::from_millis(deadline_ms + GRACE_MS);
    let mut stream = node.query(ask).await?;
    let prefix = if style == Style::Chat { "chatcmpl" } else { "cmpl" };
    let reply = Reply {
        style,
        id: format!("{prefix}-{}", hex_start(&stream.id)),
        created: (shared.params.clock)() / 1_000,
        model: model.id.clone(),
    };
    if wanted.stream {
        let first = next(&mut stream, until).await?;
        let served = match &first {
            Frame::Failed(error) => return Err(error.clone().into()),
            Frame::Started(served) | Frame::Done { served, .. } => served.clone(),
            Frame::Piece(_) => Served { subnet: model.subnet, ..Served::default() },
        };
        let mut response = HttpResponse::Ok();
        head(&mut response, &stream.id, &model.id, &served);
        response.insert_header((CACHE_CONTROL, "no-cache")).insert_header(("x-accel-buffering", "no"));
        let events =
            Events::new(reply, stream.frames, first, wanted.include_usage(), wanted.max_bytes(), permit).into_stream();
        return Ok(response.content_type("text/event-stream").streaming(events));
    }
    let done = collect(&mut stream, until).await?;
    let Answer::Text { bytes } = &done.answer else {
        return Err(ApiError::internal("the miner answered something that is no text"));
    };
    let text = String::from_utf8_lossy(bytes);
    let reason = finish(done.usage.output_bytes, wanted.max_bytes());
    let mut response = HttpResponse::Ok();
    head(&mut response, &stream.id, &model.id, &done.served);
    Ok(response.json(reply.whole(&text, reason, &usage(&done.usage))))
}

/// Sixteen hex digits: enough to find a query in a log, short enough to read out.
fn hex_start(id: &Digest) -> String {
    id.to_string().get(..16).unwrap_or_default().to_owned()
}

/// A finished answer.
#[derive(Debug)]
pub struct Done {
    pub answer: Answer,
    pub usage: Usage,
    pub served: Served,
    pub compute_ms: u64,
}

async fn next(stream: &mut AnswerStream, until: Instant) -> Result<Frame, ApiError> {
    match timeout_at(until, stream.frames.recv()).await {
        Ok(Some(frame)) => Ok(frame),
        Ok(None) => Err(ApiError::internal("the answer broke off")),
        Err(_) => Err(ApiError::timeout("no miner answered before the deadline")),
    }
}

/// Waits for the end of an answer.
///
/// # Errors
/// It failed, broke off, or took too long.
pub async fn collect(stream: &mut AnswerStream, until: Instant) -> Result<Done, ApiError> {
    loop {
        match next(stream, until).await? {
            Frame::Started(_) | Frame::Piece(_) => {}
            Frame::Failed(error) => return Err(error.into()),
            Frame::Done { answer, usage, served, compute_ms } => return Ok(Done { answer, usage, served, compute_ms }),
        }
    }
}

/// The headers that say who answered.
pub fn head(response: &mut HttpResponseBuilder, id: &Digest, subnet: &str, served: &Served) {
    let mut put = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.insert_header((HeaderName::from_static(name), value));
        }
    };
    put("x-request-id", hex_start(id));
    put("x-starling-subnet", subnet.to_owned());
    put("x-starling-attempts", served.attempts.to_string());
    // Answers are free until channels carry payments.
    put("x-starling-cost", "0".to_owned());
    if let Some(member) = served.member {
        put("x-starling-miner", member.to_string());
    }
    if let Some(node) = served.node {
        put("x-starling-node", node.to_string());
    }
    if let Some(model) = served.model {
        put("x-starling-model-hash", model.to_string());
    }
}

/// One native query, whole.
///
/// # Errors
/// It is out of bounds, not admitted, or not answered.
pub async fn ask_whole(
    node: &dyn Backend,
    shared: &Gateway,
    request: &HttpRequest,
    model: &ModelReport,
    query: Query,
    deadline_ms: u64,
) -> Result<(Digest, Done), ApiError> {
    query.check().map_err(|e| ApiError::invalid(e.to_string()))?;
    let _permit = shared.gate.admit(request)?;
    let until = Instant::now() + Duration::from_millis(deadline_ms + GRACE_MS);
    let mut stream =
        node.query(Ask { subnet: model.subnet, model: None, query, deadline_ms, stream: false, receipt: None }).await?;
    let done = collect(&mut stream, until).await?;
    Ok((stream.id, done))
}

/// A gateway behind an `Arc`, as the server's workers share it.
pub fn shared(params: GatewayParams) -> Arc<Gateway> {
    Arc::new(Gateway::new(params))
}
