//! The face over a node of fixed data: shapes, statuses, streams, limits, and a real socket.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::http::StatusCode;
use actix_web::{App, test, web};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::protocol::ids::{AccountId, Digest, Epoch, Height, MemberId, NodeId, SubnetId};
use crate::protocol::query::{Answer, Ask, Query, Usage};
use crate::protocol::report::*;

/// How the miners behind this node behave.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Miners {
    Good,
    /// Lost after the first piece, and nobody takes over.
    Cut,
    /// Lost after the first piece without a word.
    Gone,
    /// Lost after the first piece; another goes on.
    Relayed,
    None,
    Hung,
}

struct Fixed {
    miners: Miners,
    asked: Mutex<Vec<Ask>>,
    submitted: AtomicUsize,
}

impl Fixed {
    fn with(miners: Miners) -> Arc<Self> {
        Arc::new(Self { miners, asked: Mutex::new(Vec::new()), submitted: AtomicUsize::new(0) })
    }
}

fn missing<T>(what: &str) -> Result<T, ReadError> {
    Err(ReadError::NotFound(format!("no {what} here")))
}

fn served(attempts: u32) -> Served {
    Served {
        subnet: SubnetId(1),
        member: Some(MemberId(4)),
        node: Some(NodeId([7; 32])),
        model: Some(Digest([8; 32])),
        attempts,
    }
}

fn done(query: &Query, attempts: u32) -> Frame {
    let answer = match query {
        Query::Classify { images } => {
            Answer::Classes { probabilities: images.iter().map(|_| vec![0, 0, 0, 65_535, 0, 0, 0, 0, 0, 0]).collect() }
        }
        Query::NextByte { contexts } => {
            Answer::Distributions { probabilities: contexts.iter().map(|_| vec![256; 256]).collect() }
        }
        Query::Complete { .. } => Answer::Text { bytes: "on a tïme".into() },
        Query::Forecast { series, horizon, .. } => {
            let step = [-2_500_000, 0, 1_000_000, 1_250_000, 9_000_000];
            Answer::Quantiles { steps: series.iter().map(|_| step.repeat(*horizon as usize)).collect() }
        }
    };
    let usage = Usage { items: 1, input_bytes: 9, output_bytes: 10 };
    Frame::Done { answer, usage, served: served(attempts), compute_ms: 12 }
}

#[async_trait]
impl Backend for Fixed {
    async fn status(&self) -> Result<NodeStatus, ReadError> {
        Ok(NodeStatus { name: "n".into(), state: NodeState::Ready, height: 5, ..Default::default() })
    }
    async fn readiness(&self) -> Readiness {
        let check = |name: &str, ok| ReadinessCheck { name: name.into(), ok, detail: "d".into() };
        let ready = self.miners != Miners::None;
        Readiness { ready, checks: vec![check("ledger", true), check("peers", ready)] }
    }
    async fn head(&self) -> Result<HeadReport, ReadError> {
        Err(ReadError::Unavailable("the ledger does not answer".into()))
    }
    async fn checkpoint(&self, height: Height) -> Result<CheckpointReport, ReadError> {
        if height > 5 { missing("checkpoint") } else { Ok(CheckpointReport { height, ..Default::default() }) }
    }
    async fn transaction(&self, _: Digest) -> Result<TransactionReport, ReadError> {
        missing("transaction")
    }
    async fn account(&self, account: AccountId) -> Result<AccountReport, ReadError> {
        Ok(AccountReport { account, amount: Motes(5), ..Default::default() })
    }
    async fn stake(&self, account: AccountId) -> Result<StakeReport, ReadError> {
        Ok(StakeReport { account, ..Default::default() })
    }
    async fn statement(&self, account: AccountId, from: Height, to: Height) -> Result<StatementReport, ReadError> {
        Ok(StatementReport { account, from, to, ok: true, ..Default::default() })
    }
    async fn line_proof(&self, _: Height, _: u32) -> Result<LineProofReport, ReadError> {
        missing("line")
    }
    async fn fees(&self) -> Result<FeesReport, ReadError> {
        Ok(FeesReport::default())
    }
    async fn committee(&self) -> Result<CommitteeReport, ReadError> {
        Ok(CommitteeReport::default())
    }
    async fn supply(&self) -> Result<SupplyReport, ReadError> {
        Ok(SupplyReport { ok: true, total: Motes(u64::MAX), ..Default::default() })
    }
    async fn subnets(&self) -> Result<Vec<SubnetReport>, ReadError> {
        let subnet = |id, name: &str| SubnetReport { id: SubnetId(id), name: name.into(), ..Default::default() };
        Ok(vec![subnet(0, "vision"), subnet(1, "text")])
    }
    async fn subnet(&self, subnet: SubnetId) -> Result<SubnetReport, ReadError> {
        self.subnets().await?.into_iter().find(|s| s.id == subnet).map_or_else(|| missing("subnet"), Ok)
    }
    async fn standing(&self, subnet: SubnetId) -> Result<StandingReport, ReadError> {
        Ok(StandingReport { subnet, ..Default::default() })
    }
    async fn budget(&self) -> Result<BudgetReport, ReadError> {
        Ok(BudgetReport::default())
    }
    async fn metagraph(&self, subnet: SubnetId) -> Result<MetagraphReport, ReadError> {
        Ok(MetagraphReport { subnet, ..Default::default() })
    }
    async fn weights(&self, subnet: SubnetId) -> Result<WeightsReport, ReadError> {
        Ok(WeightsReport { subnet, ..Default::default() })
    }
    async fn history(&self, subnet: SubnetId, _: u64) -> Result<HistoryReport, ReadError> {
        Ok(HistoryReport { subnet, ..Default::default() })
    }
    async fn duties(&self, _: Option<AccountId>) -> Result<DutiesReport, ReadError> {
        Ok(DutiesReport::default())
    }
    async fn why(
        &self,
        _: SubnetId,
        member: MemberId,
        epoch: Option<Epoch>,
        logs: bool,
    ) -> Result<WhyReport, ReadError> {
        let found = WhyReport { member, epoch: epoch.unwrap_or(9), ok: true, ..WhyReport::default() };
        if logs { Ok(found) } else { missing("log") }
    }
    async fn replay(&self, _: SubnetId, epoch: Epoch, validator: Option<MemberId>) -> Result<ReplayReport, ReadError> {
        let row = ReplayRow { validator: validator.unwrap_or_default(), ..Default::default() };
        Ok(ReplayReport { epoch, rows: vec![row], ..Default::default() })
    }
    async fn peers(&self) -> Result<PeersReport, ReadError> {
        Ok(PeersReport::default())
    }
    async fn miner(&self) -> Result<MinerReport, ReadError> {
        Ok(MinerReport::default())
    }
    async fn submit(&self, transaction: Vec<u8>) -> Result<SubmitReport, SubmitError> {
        self.submitted.fetch_add(1, Ordering::Relaxed);
        match transaction.first() {
            Some(0) => Err(SubmitError::Malformed("no transaction".into())),
            Some(1) => Err(SubmitError::Refused { code: "nonce_too_low".into(), message: "used".into() }),
            Some(2) => Err(SubmitError::Insufficient("poor".into())),
            Some(3) => Err(SubmitError::Unavailable("behind".into())),
            _ => Ok(SubmitReport { new: true, ..Default::default() }),
        }
    }
    async fn models(&self) -> Result<Vec<ModelReport>, ReadError> {
        let model = |id: &str, subnet, task: &str| ModelReport {
            id: id.into(),
            subnet: SubnetId(subnet),
            task: task.into(),
            created: Moment(1_000),
            miners: 2,
        };
        Ok(vec![model("vision", 0, "vision"), model("text", 1, "text")])
    }
    async fn query(&self, ask: Ask) -> Result<AnswerStream, QueryError> {
        self.asked.lock().unwrap().push(ask.clone());
        if self.miners == Miners::None {
            return Err(QueryError::new(QueryFault::NoCapacity, "no miner serves it").retry_after_s(3));
        }
        let (send, frames) = mpsc::channel(16);
        let miners = self.miners;
        tokio::spawn(async move {
            let piece = |text: &str| Frame::Piece(text.as_bytes().to_vec());
            let mut list = vec![Frame::Started(served(1)), piece("on a "), Frame::Piece(vec![b't', 0xc3])];
            let rest = [Frame::Piece(vec![0xaf]), piece("me"), done(&ask.query, 1)];
            match miners {
                Miners::Good => list.extend(rest),
                Miners::Relayed => {
                    list.extend([
                        Frame::Started(served(2)),
                        Frame::Piece(vec![0xaf]),
                        piece("me"),
                        done(&ask.query, 2),
                    ]);
                }
                Miners::Cut => list.push(Frame::Failed(QueryError::new(QueryFault::NoCapacity, "the miner was lost"))),
                Miners::Gone | Miners::None => {}
                Miners::Hung => {
                    send.closed().await;
                    return;
                }
            }
            for frame in list {
                if send.send(frame).await.is_err() {
                    return;
                }
            }
        });
        Ok(AnswerStream { id: Digest([9; 32]), frames })
    }
}

fn params() -> GatewayParams {
    GatewayParams {
        api_keys: Vec::new(),
        body_bytes_max: 1 << 20,
        queries_max: 4,
        queries_per_minute: 0,
        deadline_ms: 5_000,
        clock: || 1_700_000_000_000,
        seed: [1; 32],
    }
}

/// One request to a gateway: status, headers, body.
async fn gateway(
    node: Arc<Fixed>,
    params: GatewayParams,
    request: test::TestRequest,
) -> (u16, Vec<(String, String)>, String) {
    let (backend, shared) = (web::Data::from(node as Arc<dyn Backend>), web::Data::new(Gateway::new(params)));
    let app = App::new().app_data(backend).app_data(shared).wrap(from_fn(named)).configure(gateway_routes);
    let app = test::init_service(app).await;
    let response = test::call_service(&app, request.to_request()).await;
    let status = response.status().as_u16();
    let headers = response.headers().iter();
    let headers = headers.map(|(k, v)| (k.to_string(), v.to_str().unwrap().to_owned())).collect();
    let body = test::read_body(response).await;
    (status, headers, String::from_utf8(body.to_vec()).unwrap())
}

fn post(path: &str, body: &Value) -> test::TestRequest {
    test::TestRequest::post().uri(path).set_json(body)
}

async fn node(request: test::TestRequest) -> (StatusCode, String) {
    let backend = web::Data::from(Fixed::with(Miners::Good) as Arc<dyn Backend>);
    let page = web::Data::new(MetricsPage::new(|| "starling_net_peers 3\n".into()));
    let app = test::init_service(App::new().app_data(backend).app_data(page).configure(node_routes)).await;
    let response = test::call_service(&app, request.to_request()).await;
    let status = response.status();
    (status, String::from_utf8(test::read_body(response).await.to_vec()).unwrap())
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[actix_web::test]
async fn the_explorer_answers_and_its_errors_have_one_shape() {
    let get = |path: &str| node(test::TestRequest::get().uri(path));
    assert_eq!(get("/livez").await, (StatusCode::OK, "ok\n".into()));
    assert_eq!(get("/metrics").await.1, "starling_net_peers 3\n");
    assert_eq!(get("/readyz?verbose").await.1, "[+] ledger: d\n[+] peers: d\nready\n");
    assert_eq!(value(&get("/api/v1/status").await.1)["state"], "ready");
    assert_eq!(value(&get("/api/v1/supply").await.1)["total"], "18446744073709551615");
    assert_eq!(value(&get("/api/v1/subnets/text").await.1)["id"], 1);
    assert_eq!(value(&get("/api/v1/subnets/1/metagraph").await.1)["subnet"], 1);
    assert_eq!(value(&get("/api/v1/subnets/text/standing").await.1)["subnet"], 1);
    assert_eq!(value(&get("/api/v1/budget").await.1)["unminted"], "0");
    for (path, status, code) in [
        ("/api/v1/checkpoint/9", 404, "not_found"),
        ("/api/v1/checkpoint/x", 400, "invalid_request_error"),
        ("/api/v1/tx/zz", 400, "invalid_request_error"),
        ("/api/v1/subnets/audio", 404, "not_found"),
        ("/api/v1/head", 503, "unavailable"),
        ("/api/v1/nothing", 404, "not_found"),
        ("/nothing", 404, "not_found"),
        ("/api/v1/tx", 405, "method_not_allowed"),
    ] {
        let (found, body) = get(path).await;
        assert_eq!((found.as_u16(), value(&body)["error"]["code"].as_str()), (status, Some(code)), "{path}");
    }
}

#[actix_web::test]
async fn transactions_are_taken_refused_and_bounded() {
    let send = |bytes: Vec<u8>| node(test::TestRequest::post().uri("/api/v1/tx").set_payload(bytes));
    assert_eq!(send(vec![9; 100]).await.0.as_u16(), 202);
    for (bytes, status, code) in [
        (vec![], 400, "invalid_request_error"),
        (vec![0], 400, "malformed_transaction"),
        (vec![1], 422, "nonce_too_low"),
        (vec![2], 422, "insufficient_funds"),
        (vec![3], 503, "not_synced"),
        (vec![9; 20_000], 413, "request_too_large"),
    ] {
        let (found, body) = send(bytes).await;
        assert_eq!((found.as_u16(), value(&body)["error"]["code"].as_str()), (status, Some(code)), "{body}");
    }
}

#[actix_web::test]
async fn models_are_listed_in_the_openai_shape() {
    let get = |path: &str| gateway(Fixed::with(Miners::Good), params(), test::TestRequest::get().uri(path));
    let (status, headers, body) = get("/v1/models").await;
    let list = value(&body);
    assert_eq!((status, &list["object"], &list["data"][1]["id"]), (200, &json!("list"), &json!("text")));
    assert!(headers.iter().any(|(name, id)| name == "x-request-id" && id.len() == 8));
    assert_eq!(value(&get("/v1/models/text").await.2)["object"], "model");
    let (status, _, body) = get("/v1/models/gpt-4").await;
    assert_eq!((status, value(&body)["error"]["code"].as_str()), (404, Some("model_not_found")));
}

#[actix_web::test]
async fn a_completion_has_text_usage_and_says_who_answered() {
    let node = Fixed::with(Miners::Good);
    let body = json!({ "model": "text", "prompt": "once up", "max_tokens": 10, "temperature": 0, "seed": 4 });
    let (status, headers, text) = gateway(node.clone(), params(), post("/v1/completions", &body)).await;
    let reply = value(&text);
    assert_eq!((status, &reply["object"]), (200, &json!("text_completion")));
    assert_eq!(reply["choices"][0]["text"], "on a tïme");
    assert_eq!(reply["choices"][0]["finish_reason"], "length");
    assert_eq!(reply["usage"], json!({ "prompt_tokens": 9, "completion_tokens": 10, "total_tokens": 19 }));
    let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    assert_eq!(header("x-starling-miner"), Some("4"));
    assert_eq!(header("x-starling-subnet"), Some("text"));
    assert_eq!(header("x-starling-attempts"), Some("1"));
    assert_eq!(header("x-starling-model-hash"), Some("08".repeat(32).as_str()));
    assert_eq!(header("x-request-id"), Some("0909090909090909"));
    let asked = node.asked.lock().unwrap().clone();
    assert_eq!((asked[0].subnet, asked[0].deadline_ms, asked[0].stream), (SubnetId(1), 5_000, false));
    assert!(matches!(&asked[0].query, Query::Complete { seed: 4, temperature_milli: 0, max_bytes: 10, .. }));

    let body = json!({ "model": "text", "messages": [{ "role": "user", "content": "hi" }],
        "starling": { "deadline_ms": 700 } });
    let (_, _, text) = gateway(Fixed::with(Miners::Good), params(), post("/v1/chat/completions", &body)).await;
    let reply = value(&text);
    assert_eq!(reply["object"], "chat.completion");
    assert_eq!(reply["choices"][0]["message"]["content"], "on a tïme");
}

#[actix_web::test]
async fn errors_have_the_openai_shape_and_the_promised_status() {
    let good = json!({ "model": "text", "prompt": "a" });
    let mut closed = params();
    closed.api_keys = vec!["right-key-right".into()];
    let mut small = params();
    small.body_bytes_max = 10;
    let mut full = params();
    full.queries_max = 0;
    let raw = |body: &'static str| test::TestRequest::post().uri("/v1/completions").set_payload(body);
    let cases = [
        (Miners::Good, params(), raw("{ this is no json"), 400, "invalid_request_error"),
        (Miners::Good, params(), raw("[]"), 400, "invalid_request_error"),
        (Miners::Good, params(), post("/v1/completions", &json!({ "prompt": "a" })), 400, "invalid_request_error"),
        (
            Miners::Good,
            params(),
            post("/v1/completions", &json!({ "model": "vision", "prompt": "a" })),
            400,
            "invalid_request_error",
        ),
        (
            Miners::Good,
            params(),
            post("/v1/completions", &json!({ "model": "nope", "prompt": "a" })),
            404,
            "model_not_found",
        ),
        (Miners::Good, closed, post("/v1/completions", &good), 401, "invalid_api_key"),
        (Miners::Good, small, post("/v1/completions", &good), 413, "request_too_large"),
        (Miners::Good, full, post("/v1/completions", &good), 429, "rate_limit_exceeded"),
        (Miners::None, params(), post("/v1/completions", &good), 503, "no_capacity"),
        (Miners::Cut, params(), post("/v1/completions", &good), 503, "no_capacity"),
        (Miners::Gone, params(), post("/v1/completions", &good), 500, "internal_error"),
        (Miners::Good, params(), post("/v1/embeddings", &good), 404, "not_found"),
        (Miners::Good, params(), test::TestRequest::get().uri("/v1/completions"), 405, "method_not_allowed"),
        (Miners::Good, params(), post("/v1/query/vision", &json!({})), 400, "invalid_request_error"),
        (
            Miners::Good,
            params(),
            post("/v1/query/vision", &json!({ "classify": { "images": [[1, 2]] } })),
            400,
            "invalid_request_error",
        ),
    ];
    for (i, (miners, params, request, status, code)) in cases.into_iter().enumerate() {
        let (found, headers, body) = gateway(Fixed::with(miners), params, request).await;
        let error = &value(&body)["error"];
        assert_eq!((found, error["code"].as_str()), (status, Some(code)), "case {i}: {body}");
        assert!(error["message"].is_string() && error["type"].is_string() && error.get("param").is_some(), "{body}");
        assert!(headers.iter().any(|(name, _)| name == "x-request-id"), "case {i}");
        assert_eq!(headers.iter().any(|(name, _)| name == "retry-after"), matches!(status, 429 | 503), "case {i}");
    }
}

#[actix_web::test]
async fn a_known_key_is_let_in() {
    let mut closed = params();
    closed.api_keys = vec!["right-key-right".into()];
    let request = test::TestRequest::get().uri("/v1/models").insert_header(("authorization", "Bearer right-key-right"));
    assert_eq!(gateway(Fixed::with(Miners::Good), closed, request).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_silent_miner_is_a_timeout() {
    let body = json!({ "model": "text", "prompt": "a", "starling": { "deadline_ms": 50 } });
    for stream in [false, true] {
        let mut body = body.clone();
        body["stream"] = json!(stream);
        let (status, _, text) = gateway(Fixed::with(Miners::Hung), params(), post("/v1/completions", &body)).await;
        assert_eq!((status, value(&text)["error"]["code"].as_str()), (504, Some("timeout")));
    }
}

/// The events of a stream: the data of each, parsed unless it is `[DONE]`.
async fn events(miners: Miners, path: &str, extra: Value) -> Vec<Value> {
    let mut body = json!({ "model": "text", "prompt": "once up", "messages": [{ "role": "user", "content": "x" }],
        "max_tokens": 99, "stream": true });
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let (status, headers, text) = gateway(Fixed::with(miners), params(), post(path, &body)).await;
    assert_eq!(status, 200, "{text}");
    assert!(headers.contains(&("content-type".into(), "text/event-stream".into())));
    assert!(headers.iter().any(|(name, value)| name == "x-starling-miner" && value == "4"));
    let parse = |data: &str| if data == "[DONE]" { json!("[DONE]") } else { value(data) };
    text.split("\n\n").filter(|e| !e.is_empty()).map(|e| parse(e.strip_prefix("data: ").unwrap())).collect()
}

#[actix_web::test]
async fn a_stream_carries_whole_characters_usage_and_its_end() {
    let events = events(Miners::Good, "/v1/completions", json!({ "stream_options": { "include_usage": true } })).await;
    let text: String = events.iter().filter_map(|e| e["choices"][0]["text"].as_str()).collect();
    assert_eq!(text, "on a tïme");
    let usage = json!({ "prompt_tokens": 9, "completion_tokens": 10, "total_tokens": 19 });
    let [.., last, alone, end] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((&last["choices"][0]["finish_reason"], &last["usage"]), (&json!("stop"), &usage));
    assert_eq!((&alone["choices"], &alone["usage"], end), (&json!([]), &usage, &json!("[DONE]")));
}

#[actix_web::test]
async fn a_chat_stream_opens_with_who_speaks() {
    let events = events(Miners::Relayed, "/v1/chat/completions", json!({})).await;
    assert_eq!(events[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
    assert_eq!(events[0]["object"], "chat.completion.chunk");
    let text: String = events.iter().filter_map(|e| e["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "on a tïme", "another miner goes on where the first was lost");
    assert_eq!(events.last().unwrap(), "[DONE]");
}

#[actix_web::test]
async fn a_stream_that_loses_its_miner_ends_with_an_error_event() {
    for (miners, code) in [(Miners::Cut, "no_capacity"), (Miners::Gone, "internal_error")] {
        let events = events(miners, "/v1/completions", json!({})).await;
        assert_eq!(events.last().unwrap()["error"]["code"], code, "{events:?}");
        assert!(!events.contains(&json!("[DONE]")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_is_kept_open_by_pings() {
    let (send, frames) = mpsc::channel(4);
    let permit = Arc::new(tokio::sync::Semaphore::new(1)).acquire_owned().await.unwrap();
    let reply = shapes::Reply { style: shapes::Style::Completion, id: "i".into(), created: 0, model: "m".into() };
    let events = stream::Events::new(reply, frames, Frame::Started(served(1)), false, 9, permit).into_stream();
    let mut events = std::pin::pin!(events);
    let began = tokio::time::Instant::now();
    for n in 1..=3 {
        let event = futures::StreamExt::next(&mut events).await.unwrap().unwrap();
        assert_eq!((event.as_ref(), began.elapsed().as_secs()), (&b": ping\n\n"[..], 10 * n));
    }
    drop(send);
    let event = futures::StreamExt::next(&mut events).await.unwrap().unwrap();
    assert!(event.starts_with(b"data: {\"error\""));
    assert!(futures::StreamExt::next(&mut events).await.is_none());
}

#[actix_web::test]
async fn native_queries_answer_every_kind_of_task() {
    let ask = |path: &'static str, body: Value| async move {
        let (status, _, text) = gateway(Fixed::with(Miners::Good), params(), post(path, &body)).await;
        assert_eq!(status, 200, "{text}");
        value(&text)
    };
    let image: Vec<u8> = vec![3; 64];
    let reply = ask("/v1/query/vision", json!({ "classify": { "images": [image, image] }, "deadline_ms": 900 })).await;
    assert_eq!((reply["classes"].as_array().unwrap().len(), &reply["classes"][1]["label"]), (2, &json!(3)));
    assert_eq!(reply["classes"][0]["probabilities"][3], 1.0);
    assert_eq!((&reply["served"]["member"], &reply["usage"]["items"]), (&json!(4), &json!(1)));
    let reply = ask("/v1/query/1", json!({ "next_byte": { "contexts": ["ab", [255, 0]] } })).await;
    assert_eq!(reply["distributions"][1]["probabilities"].as_array().unwrap().len(), 256);
    let reply = ask("/v1/query/text", json!({ "complete": { "prompt": "once" } })).await;
    assert_eq!((&reply["completion"]["text"], &reply["compute_ms"]), (&json!("on a tïme"), &json!(12)));
    let series = vec![1.5; 48];
    let reply = ask("/v1/query/1", json!({ "forecast": { "series": [series, series], "horizon": 3 } })).await;
    assert_eq!(reply["forecasts"].as_array().unwrap().len(), 2);
    assert_eq!(reply["forecasts"][1]["levels"], json!([0.1, 0.25, 0.5, 0.75, 0.9]));
    assert_eq!(reply["forecasts"][1]["steps"][2], json!([-2.5, 0.0, 1.0, 1.25, 9.0]));
    let wild = json!({ "forecast": { "series": [[1e12, 0.0]], "season": 1 } });
    let (status, _, text) = gateway(Fixed::with(Miners::Good), params(), post("/v1/query/1", &wild)).await;
    assert_eq!((status, text.contains("1000000000")), (400, true), "{text}");
}

#[actix_web::test]
async fn both_servers_answer_on_a_real_socket_and_a_port_in_use_is_named() {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let face = bind_node(any, Fixed::with(Miners::Good), MetricsPage::new(String::new)).unwrap();
    let front = bind_gateway(any, Fixed::with(Miners::Good), params()).unwrap();
    let taken = bind_node(face.address, Fixed::with(Miners::Good), MetricsPage::new(String::new)).unwrap_err();
    assert!(taken.to_string().starts_with(&face.address.to_string()), "{taken}");
    let handles = [face.server.handle(), front.server.handle()];
    actix_web::rt::spawn(face.server);
    actix_web::rt::spawn(front.server);
    let urls = (format!("http://{}/api/v1/status", face.address), format!("http://{}/v1/completions", front.address));
    let (status, stream) = web::block(move || {
        let status = ureq::get(&urls.0).call().unwrap().body_mut().read_to_string().unwrap();
        let body = json!({ "model": "text", "prompt": "a", "stream": true }).to_string();
        (status, ureq::post(&urls.1).send(body).unwrap().body_mut().read_to_string().unwrap())
    })
    .await
    .unwrap();
    assert_eq!(value(&status)["height"], 5);
    assert!(stream.ends_with("data: [DONE]\n\n"), "{stream}");
    for handle in handles {
        handle.stop(true).await;
    }
}
