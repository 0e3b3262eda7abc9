//! `POST /v1/query/{subnet}`: one JSON shape for every kind of task.
//!
//! `{"classify":{"images":[[64 numbers]]}}`, `{"next_byte":{"contexts":["text"]}}`, `{"complete":{"prompt":"text"}}`,
//! `{"forecast":{"series":[[numbers]],"season":24,"horizon":24}}`, each with an optional `deadline_ms`. Unlike the OpenAI shapes, an unknown field is refused here.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::backend::Backend;
use super::error::ApiError;
use super::gate::body;
use super::openai::{Done, Gateway, ask_whole, find, head};
use super::shapes::milli;
use crate::protocol::ids::to_hex;
use crate::protocol::query::{Answer, MICROS_MAX, QUANTILES_MILLI, Query};

/// Text, or bytes that are none.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Blob {
    Text(String),
    Bytes(Vec<u8>),
}

impl Blob {
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.into_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Classify {
    images: Vec<Vec<u8>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NextByte {
    contexts: Vec<Blob>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Complete {
    prompt: Blob,
    #[serde(default = "Complete::max_bytes")]
    max_bytes: u32,
    #[serde(default = "Complete::temperature")]
    temperature: f64,
    seed: Option<u64>,
    #[serde(default)]
    stop: Vec<Blob>,
}

impl Complete {
    fn max_bytes() -> u32 {
        128
    }
    fn temperature() -> f64 {
        1.0
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Forecast {
    series: Vec<Vec<f64>>,
    #[serde(default = "Forecast::day")]
    season: u32,
    #[serde(default = "Forecast::day")]
    horizon: u32,
}

impl Forecast {
    fn day() -> u32 {
        24
    }

    fn query(self) -> Result<Query, ApiError> {
        let series: Result<_, _> = self.series.into_iter().map(|row| row.into_iter().map(micros).collect()).collect();
        Ok(Query::Forecast { series: series?, season: self.season, horizon: self.horizon })
    }
}

/// Whole millionths, as series travel.
const MICROS: f64 = 1e6;

fn micros(value: f64) -> Result<i64, ApiError> {
    let scaled = (value * MICROS).round();
    if scaled.abs() <= MICROS_MAX as f64 {
        #[expect(clippy::cast_possible_truncation, reason = "bounded by the line above")]
        return Ok(scaled as i64);
    }
    let most = MICROS_MAX as f64 / MICROS;
    Err(ApiError::invalid(format!(
        "the value {value} of a series is out of bounds; allowed is up to {most} either way"
    )))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NativeRequest {
    classify: Option<Classify>,
    next_byte: Option<NextByte>,
    complete: Option<Complete>,
    forecast: Option<Forecast>,
    deadline_ms: Option<u64>,
}

impl NativeRequest {
    fn query(self, seed: u64) -> Result<Query, ApiError> {
        let blobs = |list: Vec<Blob>| list.into_iter().map(Blob::bytes).collect();
        Ok(match (self.classify, self.next_byte, self.complete, self.forecast) {
            (Some(c), None, None, None) => Query::Classify { images: c.images },
            (None, Some(n), None, None) => Query::NextByte { contexts: blobs(n.contexts) },
            (None, None, Some(c), None) => Query::Complete {
                prompt: c.prompt.bytes(),
                max_bytes: c.max_bytes,
                temperature_milli: milli(c.temperature)?,
                seed: c.seed.unwrap_or(seed),
                stop: blobs(c.stop),
            },
            (None, None, None, Some(forecast)) => forecast.query()?,
            _ => return Err(ApiError::invalid("give exactly one of classify, next_byte, complete and forecast")),
        })
    }
}

/// 65,535 is certainty.
fn fractions(row: &[u16]) -> Vec<f64> {
    row.iter().map(|p| f64::from(*p) / 65_535.0).collect()
}

fn answer(answer: &Answer) -> (&'static str, Value) {
    match answer {
        Answer::Classes { probabilities } => {
            let label =
                |row: &[u16]| row.iter().enumerate().max_by_key(|(i, p)| (**p, std::cmp::Reverse(*i))).map(|(i, _)| i);
            let rows = probabilities.iter().map(|r| json!({ "label": label(r), "probabilities": fractions(r) }));
            ("classes", rows.collect())
        }
        Answer::Distributions { probabilities } => {
            ("distributions", probabilities.iter().map(|r| json!({ "probabilities": fractions(r) })).collect())
        }
        Answer::Quantiles { steps } => {
            let levels = QUANTILES_MILLI.map(|milli| f64::from(milli) / 1_000.0);
            let value = |v: &i64| *v as f64 / MICROS;
            let step = |step: &[i64]| step.iter().map(value).collect::<Vec<f64>>();
            let row = |row: &Vec<i64>| row.chunks(levels.len()).map(step).collect::<Vec<_>>();
            ("forecasts", steps.iter().map(|r| json!({ "levels": levels, "steps": row(r) })).collect())
        }
        // Bytes need not be text: both are given, and the hex is exact.
        Answer::Text { bytes } => {
            ("completion", json!({ "text": String::from_utf8_lossy(bytes), "bytes": to_hex(bytes) }))
        }
    }
}

fn document(id: &str, subnet: &str, done: &Done) -> Value {
    let (name, value) = answer(&done.answer);
    let mut document = Map::new();
    document.insert("id".into(), json!(id));
    document.insert("subnet".into(), json!(subnet));
    document.insert(name.into(), value);
    document.insert("usage".into(), json!(done.usage));
    let served = &done.served;
    document.insert(
        "served".into(),
        json!({ "member": served.member, "node": served.node, "model": served.model, "attempts": served.attempts }),
    );
    document.insert("compute_ms".into(), json!(done.compute_ms));
    Value::Object(document)
}

pub(super) async fn query(
    node: web::Data<dyn Backend>,
    shared: web::Data<Gateway>,
    subnet: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let bytes = body(&request, payload, shared.params.body_bytes_max).await?;
    let wanted: NativeRequest = serde_json::from_slice(&bytes)
        .map_err(|e| ApiError::invalid(format!("the body is no JSON of this shape: {e}")))?;
    let deadline_ms = shared.deadline_ms(&request, wanted.deadline_ms)?;
    let query = wanted.query(shared.seed())?;
    let model = find(node.get_ref(), &subnet).await?;
    let (id, done) = ask_whole(node.get_ref(), &shared, &request, &model, query, deadline_ms).await?;
    let mut response = HttpResponse::Ok();
    head(&mut response, &id, &model.id, &done.served);
    Ok(response.json(document(&id.to_string(), &model.id, &done)))
}
