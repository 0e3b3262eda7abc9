//! Trouble on purpose, for development networks: everywhere else these paths do not exist.

use actix_web::{HttpResponse, web};
use serde::Deserialize;

use super::backend::{Backend, ReadError};
use super::error::ApiError;
use crate::protocol::ids::NodeId;

/// Nodes to cut off, and how much longer everything shall take; an empty list and 0 heal.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Chaos {
    blocked: Vec<NodeId>,
    lag_ms: u64,
}

async fn chaos(backend: web::Data<dyn Backend>, body: web::Bytes) -> Result<HttpResponse, ApiError> {
    let chaos: Chaos = serde_json::from_slice(&body)
        .map_err(|error| ApiError::invalid(format!("expected {{\"blocked\": [node ids], \"lag_ms\": n}}: {error}")))?;
    match backend.chaos(chaos.blocked, chaos.lag_ms).await {
        Ok(()) => Ok(HttpResponse::NoContent().finish()),
        Err(ReadError::NotFound(what)) => Err(ApiError::not_found(what)),
        Err(ReadError::Unavailable(what)) => Err(ApiError::unavailable("unavailable", what)),
    }
}

/// Under `/api/v1/dev`.
pub fn routes(config: &mut web::ServiceConfig) {
    config.route("/chaos", web::post().to(chaos));
}
