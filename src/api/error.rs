//! Errors in the one shape every OpenAI client reads: `{"error":{"message","type","param","code"}}`.
//!
//! 409 is never used: clients take it for a reason to send the request again.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use actix_web::{HttpResponse, ResponseError};
use serde_json::{Value, json};

use super::backend::{QueryError, QueryFault, ReadError, SubmitError};

/// An HTTP error with everything its body carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    pub status: StatusCode,
    pub kind: &'static str,
    pub code: String,
    pub message: String,
    pub param: Option<String>,
    pub retry_after_s: Option<u64>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, code: &str, message: impl Into<String>) -> Self {
        Self { status, kind, code: code.to_owned(), message: message.into(), param: None, retry_after_s: None }
    }

    /// 400: the request as it stands.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", "invalid_request_error", message)
    }

    /// 401: no key, or a wrong one.
    pub fn unauthorised() -> Self {
        let message = "this gateway asks for an API key: send the header authorization: Bearer KEY";
        Self::new(StatusCode::UNAUTHORIZED, "authentication_error", "invalid_api_key", message)
    }

    /// 404: no such model.
    pub fn model(name: &str, known: &[String]) -> Self {
        let message = format!("no subnet called \"{name}\" serves queries; there are: {}", known.join(", "));
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", "model_not_found", message).param("model")
    }

    /// 404: no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", "not_found", message)
    }

    /// 405: a path that exists, asked in another way.
    pub fn method() -> Self {
        let message = "this path does not take this method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", "method_not_allowed", message)
    }

    /// 413: more than fits.
    pub fn too_large(limit: usize) -> Self {
        let message = format!("the body is larger than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", "request_too_large", message)
    }

    /// 429: a limit; the message says whose and when it resets.
    pub fn limited(message: impl Into<String>, retry_after_s: u64) -> Self {
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "rate_limit_exceeded", message);
        error.retry_after_s = Some(retry_after_s);
        error
    }

    /// 503: not now.
    pub fn unavailable(code: &str, message: impl Into<String>) -> Self {
        let mut error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "service_unavailable", code, message);
        error.retry_after_s = Some(1);
        error
    }

    /// 504: the deadline passed.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", "timeout", message)
    }

    /// 500: a part of this node failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "internal_error", message)
    }

    /// Names the field that is wrong.
    #[must_use]
    pub fn param(mut self, param: &str) -> Self {
        self.param = Some(param.to_owned());
        self
    }

    pub fn body(&self) -> Value {
        json!({ "error": { "message": self.message, "type": self.kind, "param": self.param, "code": self.code } })
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if let Some(seconds) = self.retry_after_s {
            response.insert_header((RETRY_AFTER, seconds.to_string()));
        }
        response.json(self.body())
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NotFound(message) => Self::not_found(message),
            ReadError::Unavailable(message) => Self::unavailable("unavailable", message),
        }
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        let refused = |code: &str, message: String| {
            Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request_error", code, message)
        };
        match error {
            SubmitError::Malformed(message) => {
                Self { code: "malformed_transaction".to_owned(), ..Self::invalid(message) }
            }
            SubmitError::Refused { code, message } => refused(&code, message),
            SubmitError::Insufficient(message) => refused("insufficient_funds", message),
            SubmitError::Unavailable(message) => Self::unavailable("not_synced", message),
        }
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let QueryError { fault, message, retry_after_s } = error;
        let mut made = match fault {
            QueryFault::Invalid => Self::invalid(message),
            QueryFault::UnknownModel => {
                Self::new(StatusCode::NOT_FOUND, "invalid_request_error", "model_not_found", message).param("model")
            }
            QueryFault::Busy => Self::limited(message, 1),
            QueryFault::NoCapacity => Self::unavailable("no_capacity", message),
            QueryFault::Timeout => Self::timeout(message),
            QueryFault::Internal => Self::internal(message),
        };
        made.retry_after_s = retry_after_s.or(made.retry_after_s);
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_its_status_and_code() {
        for (fault, status, code) in [
            (QueryFault::Invalid, 400, "invalid_request_error"),
            (QueryFault::UnknownModel, 404, "model_not_found"),
            (QueryFault::Busy, 429, "rate_limit_exceeded"),
            (QueryFault::NoCapacity, 503, "no_capacity"),
            (QueryFault::Timeout, 504, "timeout"),
            (QueryFault::Internal, 500, "internal_error"),
        ] {
            let error = ApiError::from(QueryError::new(fault, "m"));
            assert_eq!((error.status.as_u16(), error.code.as_str()), (status, code));
            let fields = error.body()["error"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            assert_eq!(fields, ["code", "message", "param", "type"]);
        }
    }
}
