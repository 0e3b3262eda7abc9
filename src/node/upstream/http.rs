//! Requests to an OpenAI-compatible server over plain HTTP, each on a thread of its own that ends with it.
//!
//! The thread reads, whoever asked listens: so a job can be given up while its server is silent. Giving up closes the
//! connection at the next line, or when the server has been silent for too long; threads that hang so are bounded.

use std::fmt;
use std::io::{BufRead as _, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use ureq::Agent;
use zeroize::Zeroizing;

use crate::ml::engine::upstream::{Carrier, Heard, Listening, Trouble, words};

/// How often whoever listens may look up.
const LOOK: Duration = Duration::from_millis(50);
const CONNECT: Duration = Duration::from_secs(5);
/// A request's longest life.
const WHOLE: Duration = Duration::from_secs(610);
/// Lines between the thread and its listener.
const LINES: usize = 64;
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Of a reply that is an error.
const ERROR_BYTES_MAX: u64 = 4 << 10;

/// One server.
pub struct Http {
    base: String,
    agent: Agent,
    key: Option<Zeroizing<String>>,
    silence: Duration,
    /// Requests on threads now, and at most.
    live: Arc<AtomicUsize>,
    live_max: usize,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Http({})", self.base)
    }
}

impl Http {
    /// `url` with or without `/v1`; after `silence_ms` without a byte a request has failed.
    ///
    /// # Errors
    /// The address is no `http://` URL; the text says what to do.
    pub fn new(url: &str, key: Option<Zeroizing<String>>, silence_ms: u64, live_max: usize) -> Result<Self, String> {
        let base = url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        let rest = base.strip_prefix("http://").ok_or_else(|| {
            format!(
                "\"{url}\" is no address like http://127.0.0.1:8000; for https let a proxy on this machine speak it"
            )
        })?;
        if rest.is_empty() {
            return Err(format!("\"{url}\" names no server"));
        }
        let silence = Duration::from_millis(silence_ms.max(1));
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(silence.min(CONNECT)))
            .timeout_recv_response(Some(silence))
            .timeout_global(Some(WHOLE))
            .user_agent(concat!("starling/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { base, agent: config.into(), key, silence, live: Arc::default(), live_max })
    }
}

/// A place among the requests that live; free again when dropped.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Carrier for Http {
    fn ask(&self, path: &str, body: Option<String>) -> Box<dyn Listening> {
        let before = self.live.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(&self.live));
        if before >= self.live_max {
            let text = format!("{before} requests hang at {}; no further one is sent", self.base);
            return Box::new(Nothing(Some(Trouble::Unreachable(text))));
        }
        let (to, from) = sync_channel(LINES);
        let (agent, url, key) = (self.agent.clone(), format!("{}{path}", self.base), self.key.clone());
        let thread = std::thread::Builder::new().name("upstream".to_owned()).spawn(move || {
            let _place = place;
            let last = carry(&agent, &url, key.as_ref(), body, &to);
            // Whoever has given up needs no end.
            let _ = to.send(last);
        });
        match thread {
            Ok(_) => Box::new(Lines { from, quiet: Duration::ZERO, silence: self.silence }),
            Err(error) => Box::new(Nothing(Some(Trouble::Unreachable(format!("no thread for a request: {error}"))))),
        }
    }
}

/// Sends, and hands on line by line; the reply is the last that is heard.
fn carry(
    agent: &Agent,
    url: &str,
    key: Option<&Zeroizing<String>>,
    body: Option<String>,
    to: &SyncSender<Heard>,
) -> Heard {
    let bearer = key.map(|key| Zeroizing::new(format!("Bearer {}", key.as_str())));
    let sent = match body {
        Some(body) => {
            let mut request = agent.post(url).header("content-type", "application/json");
            if let Some(bearer) = &bearer {
                request = request.header("authorization", bearer.as_str());
            }
            request.send(body.as_bytes())
        }
        None => {
            let mut request = agent.get(url);
            if let Some(bearer) = &bearer {
                request = request.header("authorization", bearer.as_str());
            }
            request.call()
        }
    };
    let reply = match sent {
        Ok(reply) => reply,
        Err(error) => return Heard::Failed(Trouble::Unreachable(format!("{url}: {error}"))),
    };
    let status = reply.status();
    let mut reader = BufReader::new(reply.into_body().into_reader());
    if !status.is_success() {
        let mut text = Vec::new();
        // The status alone says enough when the rest does not come.
        let _ = reader.take(ERROR_BYTES_MAX).read_to_end(&mut text);
        let text = words(&String::from_utf8_lossy(&text));
        return Heard::Failed(Trouble::Status { status: status.as_u16(), text });
    }
    loop {
        let mut line = Vec::new();
        match reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) => return Heard::End,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                if to.send(Heard::Line(text.trim_end_matches(['\r', '\n']).to_owned())).is_err() {
                    return Heard::End;
                }
            }
            Err(error) => return Heard::Failed(Trouble::Broken(format!("the server's reply broke off: {error}"))),
        }
    }
}

/// The lines of a reply under way.
struct Lines {
    from: Receiver<Heard>,
    quiet: Duration,
    silence: Duration,
}

impl Listening for Lines {
    fn next(&mut self) -> Heard {
        match self.from.recv_timeout(LOOK) {
            Ok(heard) => {
                self.quiet = Duration::ZERO;
                heard
            }
            Err(RecvTimeoutError::Timeout) => {
                self.quiet += LOOK;
                if self.quiet < self.silence {
                    return Heard::Quiet;
                }
                Heard::Failed(Trouble::Silent { ms: u64::try_from(self.silence.as_millis()).unwrap_or(u64::MAX) })
            }
            Err(RecvTimeoutError::Disconnected) => {
                Heard::Failed(Trouble::Broken("the request ended without a word".to_owned()))
            }
        }
    }
}

/// A request that was never sent.
struct Nothing(Option<Trouble>);

impl Listening for Nothing {
    fn next(&mut self) -> Heard {
        self.0.take().map_or(Heard::End, Heard::Failed)
    }
}
