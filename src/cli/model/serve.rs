//! `model serve`: one text model behind the interface every serving engine has, for miners with an upstream engine and
//! for anybody's clients. One engine, one answer at a time; the next waits in a bounded queue.
//!
//! A token is a byte here. Probabilities are given in the newer of the two shapes in use, with the bytes themselves,
//! because a byte is not always a text.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use actix_web::web::{Bytes, Data, Payload};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::super::context::Context;
use super::super::error::{CliError, Exit};
use super::super::output::Reply;
use crate::api::shapes::{self, Style, TextAssembler, TextRequest, finish, usage};
use crate::ml::engine::cpu::{CpuEngine, MEMORY_BYTES};
use crate::ml::engine::{Control, Engine, EngineError, Handle, Inferred};
use crate::ml::model::Artifact;
use crate::ml::quantise::from_fixed;
use crate::protocol::query::{Answer, Query};

/// Requests that wait; the next is refused with 429.
const WAITING_MAX: usize = 64;
const BODY_BYTES_MAX: usize = 4 << 20;
/// Probabilities told for a place: all of them.
const TOLD_MAX: usize = 256;

/// What the engine's thread hears, and where it answers.
struct Order {
    query: Query,
    to: mpsc::Sender<Heard>,
}

enum Heard {
    Piece(Vec<u8>),
    Done(Result<Inferred, EngineError>),
}

/// What every handler shares.
struct Served {
    name: String,
    orders: SyncSender<Order>,
}

/// Serves until interrupted.
///
/// # Errors
/// The file is no model, it does not answer text, or the address is taken.
pub fn serve(context: &Context, file: &Path, bind: SocketAddr, name: Option<String>) -> Result<Reply, CliError> {
    let bytes = std::fs::read(file).map_err(|e| CliError::file(file, &e))?;
    let artifact = Artifact::from_bytes(&bytes).map_err(|e| CliError::failed(format!("{}: {e}", file.display())))?;
    let failed = |error: EngineError| CliError::failed(error.to_string());
    let mut engine = CpuEngine::new(MEMORY_BYTES).map_err(failed)?;
    let handle = engine.load(&artifact).map_err(failed)?;
    let probe = Query::NextByte { contexts: vec![b"a".to_vec()] };
    engine.infer(handle, &probe, &Control::FREE, &mut crate::ml::engine::no_sink).map_err(failed)?;
    let name = name.unwrap_or_else(|| artifact.id().short());
    let (orders, taken) = sync_channel(WAITING_MAX);
    std::thread::Builder::new()
        .name("model-serve".to_owned())
        .spawn(move || work(engine, handle, &taken))
        .map_err(|e| CliError::failed(format!("no thread: {e}")))?;
    let data = Data::new(Served { name: name.clone(), orders });
    let server = HttpServer::new(move || {
        App::new()
            .app_data(data.clone())
            .route("/v1/models", web::get().to(models))
            .route("/v1/completions", web::post().to(completions))
            .route("/v1/chat/completions", web::post().to(chat))
    });
    let taken = |e: std::io::Error| {
        CliError::new(Exit::Failed, format!("{bind}: {e}"), "choose another address with --bind").coded("port_in_use")
    };
    let server = server.workers(1).shutdown_timeout(2).bind(bind).map_err(taken)?;
    context.printer.note(&format!("serving {name} at http://{bind}/v1; Ctrl-C ends it"));
    let ended = actix_web::rt::System::new().block_on(server.run());
    ended.map_err(|e| CliError::failed(e.to_string()))?;
    Ok(Reply::of(&json!({ "model": name, "bind": bind.to_string() })).line("Served until interrupted."))
}

/// The engine's life: one order after the other.
fn work(mut engine: CpuEngine, handle: Handle, orders: &Receiver<Order>) {
    while let Ok(Order { query, to }) = orders.recv() {
        let gone = to.clone();
        let should_stop = move || gone.is_closed();
        let control = Control::until(&should_stop);
        let done =
            engine.infer(handle, &query, &control, &mut |piece| to.blocking_send(Heard::Piece(piece.to_vec())).is_ok());
        // Whoever has gone needs no end.
        let _ = to.blocking_send(Heard::Done(done));
    }
}

fn problem(status: u16, message: &str) -> HttpResponse {
    let status = actix_web::http::StatusCode::from_u16(status).unwrap_or(actix_web::http::StatusCode::BAD_REQUEST);
    let kind = if status.is_client_error() { "invalid_request_error" } else { "api_error" };
    HttpResponse::build(status).json(json!({ "error": { "message": message, "type": kind, "code": status.as_u16() } }))
}

async fn models(served: Data<Served>) -> HttpResponse {
    let model = json!({ "id": served.name, "object": "model", "created": 0, "owned_by": "starling" });
    HttpResponse::Ok().json(json!({ "object": "list", "data": [model] }))
}

async fn completions(served: Data<Served>, payload: Payload) -> HttpResponse {
    answer(&served, Style::Completion, payload).await
}

async fn chat(served: Data<Served>, _: HttpRequest, payload: Payload) -> HttpResponse {
    answer(&served, Style::Chat, payload).await
}

async fn answer(served: &Served, style: Style, payload: Payload) -> HttpResponse {
    let Ok(Ok(body)) = payload.to_bytes_limited(BODY_BYTES_MAX).await else {
        return problem(413, "the body is too large or broke off");
    };
    let Ok(document) = serde_json::from_slice::<Value>(&body) else { return problem(400, "the body is no JSON") };
    let asked = document.get("model").and_then(Value::as_str).unwrap_or_default();
    if asked != served.name {
        return problem(404, &format!("no model \"{asked}\"; served is \"{}\"", served.name));
    }
    if let Some(told) = document.get("logprobs").and_then(Value::as_u64) {
        return next_bytes(served, &document, usize::try_from(told).unwrap_or(TOLD_MAX)).await;
    }
    let wanted = match TextRequest::read(&body) {
        Ok(wanted) => wanted,
        Err(error) => return problem(400, &error.message),
    };
    let query = match wanted.query(style, 0) {
        Ok(query) => query,
        Err(error) => return problem(400, &error.message),
    };
    let mut heard = match order(served, query) {
        Ok(heard) => heard,
        Err((status, why)) => return problem(status, why),
    };
    let reply = shapes::Reply { style, id: "serve".to_owned(), created: 0, model: served.name.clone() };
    let max_bytes = wanted.max_bytes();
    if wanted.stream {
        return HttpResponse::Ok().content_type("text/event-stream").streaming(events(reply, heard, max_bytes));
    }
    loop {
        match heard.recv().await {
            Some(Heard::Piece(_)) => {}
            Some(Heard::Done(Ok(Inferred { answer: Answer::Text { bytes }, usage: used }))) => {
                let reason = finish(used.output_bytes, max_bytes);
                return HttpResponse::Ok().json(reply.whole(&String::from_utf8_lossy(&bytes), reason, &usage(&used)));
            }
            Some(Heard::Done(Ok(_))) => return problem(500, "the model answered something that is no text"),
            Some(Heard::Done(Err(error))) => return problem(500, &error.to_string()),
            None => return problem(500, "the engine is gone"),
        }
    }
}

fn order(served: &Served, query: Query) -> Result<mpsc::Receiver<Heard>, (u16, &'static str)> {
    let (to, heard) = mpsc::channel(64);
    match served.orders.try_send(Order { query, to }) {
        Ok(()) => Ok(heard),
        Err(TrySendError::Full(_)) => Err((429, "as many requests as allowed wait here")),
        Err(TrySendError::Disconnected(_)) => Err((500, "the engine is gone")),
    }
}

/// What is left to send, and the text between its pieces.
struct Stream {
    reply: shapes::Reply,
    heard: mpsc::Receiver<Heard>,
    max_bytes: u32,
    text: TextAssembler,
    ended: bool,
}

fn events(
    reply: shapes::Reply,
    heard: mpsc::Receiver<Heard>,
    max_bytes: u32,
) -> impl futures::Stream<Item = Result<Bytes, actix_web::Error>> {
    let stream = Stream { reply, heard, max_bytes, text: TextAssembler::default(), ended: false };
    futures::stream::unfold(stream, |mut stream| async move {
        if stream.ended {
            return None;
        }
        let bytes = stream.next().await;
        Some((Ok(Bytes::from(bytes)), stream))
    })
    .boxed_local()
}

impl Stream {
    async fn next(&mut self) -> String {
        let event = |value: &Value| format!("data: {value}\n\n");
        match self.heard.recv().await {
            Some(Heard::Piece(piece)) => {
                let text = self.text.push(&piece);
                event(&self.reply.chunk(Some(&text), None, &Value::Null))
            }
            Some(Heard::Done(Ok(Inferred { usage: used, .. }))) => {
                self.ended = true;
                let rest = self.text.end();
                let reason = finish(used.output_bytes, self.max_bytes);
                let last = event(&self.reply.chunk(Some(&rest), Some(reason), &Value::Null));
                last + &event(&self.reply.closing(&usage(&used))) + "data: [DONE]\n\n"
            }
            Some(Heard::Done(Err(error))) => self.failed(&error.to_string()),
            None => self.failed("the engine is gone"),
        }
    }

    fn failed(&mut self, why: &str) -> String {
        self.ended = true;
        format!("data: {}\n\n", json!({ "error": { "message": why, "type": "api_error", "code": 500 } }))
    }
}

/// One token with its probabilities after each prompt: what `logprobs` asks for.
async fn next_bytes(served: &Served, document: &Value, told: usize) -> HttpResponse {
    let prompts: Option<Vec<Vec<u8>>> = match document.get("prompt") {
        Some(Value::String(one)) => Some(vec![one.clone().into_bytes()]),
        Some(Value::Array(several)) => several.iter().map(|p| Some(p.as_str()?.as_bytes().to_vec())).collect(),
        _ => None,
    };
    let Some(contexts) = prompts else { return problem(400, "prompt must be a text, or texts") };
    if document.get("max_tokens").and_then(Value::as_u64) != Some(1) {
        return problem(400, "probabilities are given for one token: max_tokens must be 1");
    }
    let query = Query::NextByte { contexts };
    if let Err(error) = query.check() {
        return problem(400, &error.to_string());
    }
    let mut heard = match order(served, query) {
        Ok(heard) => heard,
        Err((status, why)) => return problem(status, why),
    };
    match heard.recv().await {
        Some(Heard::Done(Ok(Inferred { answer: Answer::Distributions { probabilities }, usage: used }))) => {
            let choices: Vec<Value> =
                probabilities.iter().enumerate().map(|(index, row)| choice(index, row, told)).collect();
            HttpResponse::Ok().json(json!({
                "id": "serve", "object": "text_completion", "created": 0, "model": served.name,
                "choices": choices, "usage": usage(&used),
            }))
        }
        Some(Heard::Done(Err(error))) => problem(500, &error.to_string()),
        _ => problem(500, "the engine gave no probabilities"),
    }
}

fn choice(index: usize, row: &[u16], told: usize) -> Value {
    let probabilities = from_fixed(row).unwrap_or_default();
    let mut likely: Vec<(u8, f64)> = (0..=u8::MAX).zip(probabilities).filter(|(_, p)| *p > 0.0).collect();
    likely.sort_by(|a, b| b.1.total_cmp(&a.1));
    likely.truncate(told.clamp(1, TOLD_MAX));
    let token = |(byte, p): &(u8, f64)| json!({ "token": String::from_utf8_lossy(&[*byte]), "bytes": [byte], "logprob": p.ln() });
    let top: Vec<Value> = likely.iter().map(token).collect();
    let first = top.first().cloned().unwrap_or_else(|| json!({}));
    let text = first.get("token").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut content = first;
    if let Some(content) = content.as_object_mut() {
        content.insert("top_logprobs".to_owned(), top.into());
    }
    json!({ "index": index, "text": text, "logprobs": { "content": [content] }, "finish_reason": "length" })
}
