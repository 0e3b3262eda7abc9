//! What the face lets in: bounded bodies, known callers, and so many queries at once.
//!
//! Everything held here is bounded: permits by their count, the table of callers by its size. A caller over a limit is
//! told whose limit it is and when it ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::HttpRequest;
use actix_web::http::header::{AUTHORIZATION, CONTENT_LENGTH};
use actix_web::web::{Bytes, BytesMut, Payload};
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::ApiError;

const CALLERS_MAX: usize = 10_000;
const MINUTE: Duration = Duration::from_secs(60);
/// A body that trickles in slower than this is given up: it holds a connection and memory.
const BODY_LIMIT: Duration = Duration::from_secs(30);

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// 413 when it is longer, 400 when it breaks off or comes too slowly.
pub async fn body(request: &HttpRequest, payload: Payload, limit: usize) -> Result<Bytes, ApiError> {
    body_within(request, payload, limit, BODY_LIMIT).await
}

/// `body`, for what is so large that it may take longer.
///
/// # Errors
/// As `body`.
pub async fn body_within(
    request: &HttpRequest,
    mut payload: Payload,
    limit: usize,
    time: Duration,
) -> Result<Bytes, ApiError> {
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(ApiError::too_large(limit));
    }
    let read = async {
        let mut bytes = BytesMut::new();
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|e| ApiError::invalid(format!("the body broke off: {e}")))?;
            if bytes.len() + chunk.len() > limit {
                return Err(ApiError::too_large(limit));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    };
    let late = |_| ApiError::invalid(format!("the body did not arrive within {} s", time.as_secs()));
    tokio::time::timeout(time, read).await.map_err(late)?
}

/// Who may ask, and how much.
#[derive(Debug)]
pub struct Gate {
    /// Digests of the keys, so that comparing takes the same time for every guess.
    keys: Vec<blake3::Hash>,
    queries: Arc<Semaphore>,
    queries_max: usize,
    per_minute: u32,
    callers: Mutex<BTreeMap<String, (Instant, u32)>>,
}

impl Gate {
    pub fn new(api_keys: &[String], queries_max: usize, per_minute: u32) -> Self {
        Self {
            keys: api_keys.iter().map(|k| blake3::hash(k.as_bytes())).collect(),
            queries: Arc::new(Semaphore::new(queries_max)),
            queries_max,
            per_minute,
            callers: Mutex::new(BTreeMap::new()),
        }
    }

    /// Whether the caller shows a key, where keys are asked for.
    ///
    /// # Errors
    /// 401.
    pub fn known(&self, request: &HttpRequest) -> Result<(), ApiError> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let shown = shown_key(request).map(|key| blake3::hash(key.as_bytes()));
        if shown.is_some_and(|shown| self.keys.contains(&shown)) { Ok(()) } else { Err(ApiError::unauthorised()) }
    }

    /// Lets one query in; the permit is held until its last frame is out.
    ///
    /// # Errors
    /// 429: the caller's limit, or the gateway's own.
    pub fn admit(&self, request: &HttpRequest) -> Result<OwnedSemaphorePermit, ApiError> {
        self.count(request, Instant::now())?;
        self.queries.clone().try_acquire_owned().map_err(|_| {
            let message = format!("this gateway answers {} queries at once and all places are taken", self.queries_max);
            ApiError::limited(message, 1)
        })
    }

    fn count(&self, request: &HttpRequest, now: Instant) -> Result<(), ApiError> {
        if self.per_minute == 0 {
            return Ok(());
        }
        let address = || request.peer_addr().map(|a| a.ip().to_string()).unwrap_or_default();
        let by_key = shown_key(request).filter(|_| !self.keys.is_empty());
        let caller = by_key.map_or_else(address, |key| blake3::hash(key.as_bytes()).to_hex().to_string());
        self.charge(caller, now)
    }

    /// A window of a minute for each caller, from its first query on.
    fn charge(&self, caller: String, now: Instant) -> Result<(), ApiError> {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if callers.len() >= CALLERS_MAX {
            callers.retain(|_, (began, _)| now.duration_since(*began) < MINUTE);
        }
        if callers.len() >= CALLERS_MAX && !callers.contains_key(&caller) {
            return Err(ApiError::limited("this gateway has too many callers this minute", MINUTE.as_secs()));
        }
        let window = callers.entry(caller).or_insert((now, 0));
        if now.duration_since(window.0) >= MINUTE {
            *window = (now, 0);
        }
        if window.1 >= self.per_minute {
            let left = MINUTE.saturating_sub(now.duration_since(window.0)).as_secs() + 1;
            let message = format!("your limit is {} queries a minute; it resets in {left} s", self.per_minute);
            return Err(ApiError::limited(message, left));
        }
        window.1 += 1;
        Ok(())
    }
}

fn shown_key(request: &HttpRequest) -> Option<&str> {
    request.headers().get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ").map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_minute_is_its_own_and_ends() {
        let gate = Gate::new(&[], 1, 2);
        let now = Instant::now();
        for _ in 0..2 {
            gate.charge("a".into(), now).unwrap();
        }
        let error = gate.charge("a".into(), now + Duration::from_secs(20)).unwrap_err();
        assert_eq!((error.status.as_u16(), error.retry_after_s), (429, Some(41)));
        gate.charge("b".into(), now).unwrap();
        gate.charge("a".into(), now + MINUTE).unwrap();
    }
}
