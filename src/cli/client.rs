//! Blocking HTTP to a node or a gateway: what the commands read from and post to.
//!
//! Plain HTTP only: a node listens on loopback, or inside a network that carries its own protection. Replies are bounded
//! in time and size.

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::Agent;
use ureq::http::{Response, StatusCode};

use super::error::{CliError, Exit};

const REPLY_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// One line of an event stream.
const LINE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// One server and how long to wait for it.
#[derive(Clone, Debug)]
pub struct Client {
    base: String,
    agent: Agent,
    key: Option<String>,
}

/// A reply that has a body and perhaps an interesting header.
#[derive(Debug)]
pub struct Fetched {
    pub body: Value,
    pub headers: Vec<(String, String)>,
}

impl Fetched {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

impl Client {
    /// # Errors
    /// The address is no `http://` URL.
    pub fn new(base: &str, timeout: Duration) -> Result<Self, CliError> {
        let base = if base.contains("://") { base.to_owned() } else { format!("http://{base}") };
        if !base.starts_with("http://") {
            return Err(CliError::usage(format!("\"{base}\" is no address like http://127.0.0.1:9464")));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(timeout.min(Duration::from_secs(5))))
            .timeout_global(Some(timeout))
            .user_agent(concat!("starling/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { base: base.trim_end_matches('/').to_owned(), agent: config.into(), key: None })
    }

    /// Shows this API key with every request.
    #[must_use]
    pub fn with_key(mut self, key: Option<String>) -> Self {
        self.key = key;
        self
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    /// Reads one document.
    ///
    /// # Errors
    /// Nobody answers, the answer is an error, or it is not of this type.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let reply = request.call().map_err(|e| self.unreachable(&e))?;
        let body = self.document(reply)?.body;
        serde_json::from_value(body).map_err(|e| self.strange(&e.to_string()))
    }

    /// Reads bytes, at most a few MiB.
    ///
    /// # Errors
    /// As for `get`.
    pub fn bytes(&self, path: &str) -> Result<Vec<u8>, CliError> {
        let reply = self.agent.get(format!("{}{path}", self.base)).call().map_err(|e| self.unreachable(&e))?;
        if !reply.status().is_success() {
            return self.document(reply).map(|_| Vec::new());
        }
        let mut bytes = Vec::new();
        let read = reply.into_body().into_reader().take(REPLY_BYTES_MAX).read_to_end(&mut bytes);
        read.map_err(|e| CliError::new(Exit::Unreachable, format!("the answer broke off: {e}"), "ask again"))?;
        Ok(bytes)
    }

    /// Removes something.
    ///
    /// # Errors
    /// As for `get`.
    pub fn delete(&self, path: &str) -> Result<(), CliError> {
        let reply = self.agent.delete(format!("{}{path}", self.base)).call().map_err(|e| self.unreachable(&e))?;
        self.document(reply).map(|_| ())
    }

    /// Posts bytes and reads one document.
    ///
    /// # Errors
    /// As for `get`; when the connection broke after sending, the outcome is unknown.
    pub fn post(&self, path: &str, kind: &str, bytes: &[u8]) -> Result<Fetched, CliError> {
        let reply = self.send(path, kind, bytes)?;
        self.document(reply)
    }

    /// Posts JSON and hands the lines of the reply to `each` until it says stop.
    ///
    /// # Errors
    /// As for `post`, and what `each` returns.
    pub fn stream(
        &self,
        path: &str,
        body: &Value,
        mut each: impl FnMut(&str) -> Result<bool, CliError>,
    ) -> Result<Vec<(String, String)>, CliError> {
        let reply = self.send(path, "application/json", body.to_string().as_bytes())?;
        if reply.status() != StatusCode::OK {
            return self.document(reply).map(|fetched| fetched.headers);
        }
        let headers = headers(&reply);
        let mut reader = BufReader::new(reply.into_body().into_reader());
        let mut line = String::new();
        loop {
            line.clear();
            let read = reader.by_ref().take(LINE_BYTES_MAX).read_line(&mut line);
            match read {
                Ok(0) => return Ok(headers),
                Ok(_) if each(line.trim_end())? => {}
                Ok(_) => return Ok(headers),
                Err(e) => {
                    return Err(CliError::new(Exit::Unreachable, format!("the answer broke off: {e}"), "ask again"));
                }
            }
        }
    }

    fn send(&self, path: &str, kind: &str, bytes: &[u8]) -> Result<Response<ureq::Body>, CliError> {
        let mut request = self.agent.post(format!("{}{path}", self.base)).header("content-type", kind);
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        request.send(bytes).map_err(|e| self.unreachable(&e))
    }

    fn document(&self, mut reply: Response<ureq::Body>) -> Result<Fetched, CliError> {
        let (status, headers) = (reply.status(), headers(&reply));
        let text = reply.body_mut().with_config().limit(REPLY_BYTES_MAX).read_to_string();
        let text = text.map_err(|e| self.unreachable(&e))?;
        // "Done" without a word more is a reply, too.
        let body: Result<Value, _> = if text.is_empty() { Ok(Value::Null) } else { serde_json::from_str(&text) };
        if !status.is_success() {
            return Err(refusal(status, body.ok().as_ref(), &self.base));
        }
        body.map(|body| Fetched { body, headers }).map_err(|e| self.strange(&e.to_string()))
    }

    fn unreachable(&self, error: &ureq::Error) -> CliError {
        let sent =
            matches!(error, ureq::Error::Timeout(t) if !matches!(t, ureq::Timeout::Connect | ureq::Timeout::Resolve));
        let (why, help) = match error {
            _ if sent => ("does not answer in time".to_owned(), "it is busy or stuck; give it longer with --timeout"),
            ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
                ("refuses the connection: nothing listens there".to_owned(), START)
            }
            other => (format!("cannot be reached: {other}"), START),
        };
        let error = CliError::new(Exit::Unreachable, format!("{} {why}", self.base), help);
        if sent { error.coded("timeout") } else { error }
    }

    fn strange(&self, problem: &str) -> CliError {
        let message = format!("{} answers something this program does not understand: {problem}", self.base);
        CliError::new(
            Exit::Failed,
            message,
            "is it a node of the same version? compare `starling version` and `starling status`",
        )
    }
}

const START: &str =
    "start a node with `starling up`, a whole swarm with `starling devnet up`, or name one with --node URL";

fn headers(reply: &Response<ureq::Body>) -> Vec<(String, String)> {
    let text = |value: &ureq::http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
    reply.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

/// What an error reply means for a person: `{"error":{"message","type","code"}}`.
fn refusal(status: StatusCode, body: Option<&Value>, base: &str) -> CliError {
    let field = |name: &str| body.and_then(|b| b.get("error")?.get(name)?.as_str()).unwrap_or_default().to_owned();
    let (message, code, help) = (field("message"), field("code"), field("help"));
    let message = if message.is_empty() { format!("{base} answers {status}") } else { message };
    let (exit, own_help) = match (status.as_u16(), code.as_str()) {
        (_, "insufficient_funds") => (Exit::Insufficient, "`starling wallet balance` shows what there is"),
        (_, "not_synced") => (Exit::NotSynced, "wait; `starling status --watch` shows it catching up"),
        (422, _) => (Exit::Refused, "nothing was changed"),
        (404, "model_not_found") => (Exit::NotFound, "`starling subnet list` shows what can be asked"),
        (404, _) => (Exit::NotFound, "the answer is that of this node; another may know more"),
        (401, _) => (Exit::Failed, "give the gateway's key with --api-key-file FILE or STARLING_API_KEY"),
        (429 | 503 | 504, _) => (Exit::Unreachable, "try again in a moment"),
        _ => (Exit::Failed, ""),
    };
    let error = CliError::new(exit, message, if help.is_empty() { own_help.to_owned() } else { help });
    if code.is_empty() { error } else { error.coded(code) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn error_replies_become_the_promised_exit_codes() {
        for (status, code, exit) in [
            (404, "not_found", Exit::NotFound),
            (422, "nonce_too_low", Exit::Refused),
            (422, "insufficient_funds", Exit::Insufficient),
            (503, "not_synced", Exit::NotSynced),
            (503, "no_capacity", Exit::Unreachable),
            (500, "", Exit::Failed),
        ] {
            let body = json!({ "error": { "message": "m", "code": code } });
            let error = refusal(StatusCode::from_u16(status).unwrap(), Some(&body), "http://x");
            assert_eq!((error.exit, error.message.as_str()), (exit, "m"), "{status} {code}");
        }
        assert!(refusal(StatusCode::BAD_GATEWAY, None, "http://x").message.contains("502"));
    }

    #[test]
    fn nothing_listening_is_exit_6_and_says_how_to_start() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let client = Client::new(&format!("127.0.0.1:{port}"), Duration::from_secs(2)).unwrap();
        let error = client.get::<Value>("/api/v1/status").unwrap_err();
        assert_eq!(error.exit, Exit::Unreachable);
        assert!(error.help.contains("starling up") && error.retryable, "{error:?}");
        assert!(Client::new("https://x", Duration::from_secs(1)).is_err());
    }
}
