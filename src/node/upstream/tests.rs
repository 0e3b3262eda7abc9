//! Servers as they really are: over sockets of loopback, streaming, dying, silent, refusing, lying; and the miner's side
//! of it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix::prelude::*;
use tokio::sync::mpsc;

use super::*;
use crate::actors::query_dispatcher::Behaviour;
use crate::actors::worker_pool::Lane;
use crate::ml::engine::upstream::{UpstreamEngine, handle_of};
use crate::ml::engine::{Engine as _, EngineError, Inferred};
use crate::protocol::ids::SubnetId;
use crate::protocol::query::{Answer, Query};
use crate::protocol::turns::{Turn, Voice, join};

/// How a server answers a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Well,
    DiesInTheMiddle,
    Hangs,
    HangsInTheMiddle,
    Status(u16),
    Lies,
}

/// What a server heard: the path, the key, the body.
#[derive(Clone, Debug)]
struct Request {
    path: String,
    key: String,
    body: String,
}

struct Server {
    url: String,
    mood: Arc<Mutex<Mood>>,
    heard: Arc<Mutex<Vec<Request>>>,
    /// Connections that the other side closed while we hung on to them.
    left: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
    }
}

impl Server {
    fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            mood: Arc::new(Mutex::new(mood)),
            heard: Arc::default(),
            left: Arc::default(),
            stop: Arc::default(),
        };
        let (mood, heard) = (Arc::clone(&server.mood), Arc::clone(&server.heard));
        let (left, stop) = (Arc::clone(&server.left), Arc::clone(&server.stop));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (mood, heard, left) = (Arc::clone(&mood), Arc::clone(&heard), Arc::clone(&left));
                std::thread::spawn(move || stream.map(|stream| converse(stream, &mood, &heard, &left)));
            }
        });
        server
    }

    fn becomes(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn requests(&self) -> Vec<Request> {
        self.heard.lock().unwrap().clone()
    }

    fn upstream(&self, silence_ms: u64) -> Upstream {
        Upstream::of(&entry(&self.url, silence_ms)).unwrap()
    }
}

fn entry(url: &str, silence_ms: u64) -> MinerEntry {
    let text = format!(
        "subnet = \"text\"\nengine = \"upstream\"\nupstream_url = {url:?}\nupstream_model = \"m\"\n\
         upstream_template = \"chatml\"\nupstream_silence_ms = {silence_ms}\n"
    );
    toml::from_str(&text).unwrap()
}

/// One request per connection, so that a closed one is seen.
fn converse(mut stream: TcpStream, mood: &Mutex<Mood>, heard: &Mutex<Vec<Request>>, left: &AtomicUsize) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut first, mut length, mut key) = (String::new(), 0, String::new());
    reader.read_line(&mut first).unwrap();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap();
        match name.to_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "authorization" => key = value.trim().to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let body = String::from_utf8(body).unwrap();
    heard.lock().unwrap().push(Request { path: path.clone(), key, body: body.clone() });
    let mood = *mood.lock().unwrap();
    let head =
        |status: u16, kind: &str| format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n");
    let mut say = |text: &str| stream.write_all(text.as_bytes()).and_then(|()| stream.flush()).is_ok();
    let piece = |model: &str, text: &str, end: &str| {
        format!(
            "data: {{\"model\":{model:?},\"choices\":[{{\"index\":0,\"text\":{text:?},\"finish_reason\":{end}}}]}}\n\n"
        )
    };
    if let Mood::Status(status) = mood {
        say(&(head(status, "application/json") + "{\"error\":{\"message\":\"no room\"}}"));
        return;
    }
    if path == "/v1/models" {
        say(&(head(200, "application/json") + "{\"data\":[{\"id\":\"m\"}]}"));
        return;
    }
    if body.contains("\"logprobs\"") {
        let row = "{\"logprobs\":{\"top_logprobs\":[{\"th\":-0.1}]}}";
        let count = body.matches("ctx").count().max(1);
        say(&format!(
            "{}{{\"model\":\"m\",\"choices\":[{}]}}",
            head(200, "application/json"),
            vec![row; count].join(",")
        ));
        return;
    }
    if mood == Mood::Hangs {
        hang(&mut reader, left);
        return;
    }
    let model = if mood == Mood::Lies { "smaller" } else { "m" };
    say(&(head(200, "text/event-stream") + ": ping\n\n" + &piece(model, "Hal", "null")));
    match mood {
        Mood::DiesInTheMiddle => {}
        Mood::HangsInTheMiddle => hang(&mut reader, left),
        _ => {
            say(&(piece(model, "lo", "\"stop\"") + "data: [DONE]\n\n"));
        }
    }
}

/// Until the other side closes.
fn hang(reader: &mut BufReader<TcpStream>, left: &AtomicUsize) {
    let mut byte = [0];
    // An end and a reset are the same here: it is gone.
    let _ = reader.read(&mut byte);
    left.fetch_add(1, Ordering::Relaxed);
}

fn chat() -> Query {
    let prompt = join(&[Turn { voice: Voice::User, text: b"hi".to_vec() }]);
    Query::Complete { prompt, max_bytes: 40, temperature_milli: 500, seed: 7, stop: vec![b"\n".to_vec()] }
}

/// Asks once; the pieces that came and the result.
fn asked(upstream: &Upstream, query: &Query, control: &Control<'_>) -> (Vec<String>, Result<Inferred, EngineError>) {
    let mut pieces = Vec::new();
    let mut engine = UpstreamEngine::new([upstream.source.clone()]);
    let result = engine.infer(handle_of("m"), query, control, &mut |piece| {
        pieces.push(String::from_utf8(piece.to_vec()).unwrap());
        true
    });
    (pieces, result)
}

fn trouble(upstream: &Upstream) -> Option<Trouble> {
    upstream.health.borrow().trouble.clone()
}

#[test]
fn a_chat_is_streamed_with_our_own_template_and_the_servers_key() {
    let server = Server::start(Mood::Well);
    let file = std::env::temp_dir().join(format!("starling-key-{}", std::process::id()));
    std::fs::write(&file, "secret\n").unwrap();
    let keyed =
        MinerEntry { upstream_key_file: file.display().to_string(), ..entry(&(server.url.clone() + "/v1"), 3_000) };
    let upstream = Upstream::of(&keyed).unwrap();
    std::fs::remove_file(file).unwrap();
    let (pieces, result) = asked(&upstream, &chat(), &Control::FREE);
    assert_eq!(pieces, ["Hal", "lo"]);
    let Inferred { answer, usage } = result.unwrap();
    assert_eq!(answer, Answer::Text { bytes: b"Hallo".to_vec() });
    assert_eq!(usage.output_bytes, 5);
    assert_eq!(trouble(&upstream), None);
    let request = server.requests().remove(0);
    assert_eq!((request.path.as_str(), request.key.as_str()), ("/v1/completions", "Bearer secret"));
    let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!(body["prompt"], "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
    assert_eq!((&body["max_tokens"], &body["stream"], &body["model"]), (&40.into(), &true.into(), &"m".into()));
    assert_eq!(body["stop"], serde_json::json!(["\n", "<|im_end|>"]));
    assert!(!format!("{upstream:?}").contains("secret"));

    let question = Query::NextByte { contexts: vec![b"ctx one".to_vec(), b"ctx two".to_vec()] };
    let (_, result) = asked(&upstream, &question, &Control::FREE);
    let Answer::Distributions { probabilities } = result.unwrap().answer else { panic!() };
    assert_eq!(probabilities.len(), 2);
    assert!(probabilities[0][usize::from(b't')] > 50_000);
}

#[test]
fn what_a_server_does_wrong_has_a_name_and_closes_it() {
    for (mood, part, closes) in [
        (Mood::DiesInTheMiddle, "broke off", true),
        (Mood::Hangs, "", true),
        (Mood::HangsInTheMiddle, "said nothing for 300 ms", true),
        (Mood::Status(500), "status 500: {\"error\":{\"message\":\"no room\"}}", true),
        (Mood::Status(401), "status 401", true),
        (Mood::Lies, "asked for the model \"m\" and answers with \"smaller\"", true),
        // The question's fault, or the moment's.
        (Mood::Status(400), "status 400", false),
        (Mood::Status(429), "status 429", false),
    ] {
        let server = Server::start(mood);
        let upstream = server.upstream(300);
        let (_, result) = asked(&upstream, &chat(), &Control::FREE);
        let error = result.unwrap_err().to_string();
        assert!(error.contains(part), "{mood:?}: {error}");
        assert_eq!(trouble(&upstream).is_some(), closes, "{mood:?}: {error}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let upstream = Upstream::of(&entry(&format!("http://{nobody}"), 300)).unwrap();
    assert!(asked(&upstream, &chat(), &Control::FREE).1.is_err());
    assert!(matches!(trouble(&upstream), Some(Trouble::Unreachable(_))));
}

#[test]
fn a_job_that_is_given_up_ends_at_once_and_three_without_a_word_close_the_server() {
    let server = Server::start(Mood::HangsInTheMiddle);
    let upstream = server.upstream(2_000);
    let since = Instant::now();
    let stop = || since.elapsed() > Duration::from_millis(200);
    let (pieces, result) = asked(&upstream, &chat(), &Control::until(&stop));
    assert!(matches!(result, Err(EngineError::Stopped { .. })));
    assert!(since.elapsed() < Duration::from_millis(1_500), "{:?}", since.elapsed());
    assert_eq!((pieces.len(), trouble(&upstream)), (1, None), "it had said something");

    server.becomes(Mood::Hangs);
    for n in 1..=3 {
        assert_eq!(trouble(&upstream), None, "{n}");
        let since = Instant::now();
        let stop = || since.elapsed() > Duration::from_millis(100);
        assert!(asked(&upstream, &chat(), &Control::until(&stop)).1.is_err());
    }
    assert_eq!(trouble(&upstream), Some(Trouble::Unanswered));
    // The connections of jobs given up are closed, at the latest when the server has been silent for too long.
    let since = Instant::now();
    while server.left.load(Ordering::Relaxed) < 3 {
        assert!(since.elapsed() < Duration::from_secs(20), "connections stay open");
        std::thread::yield_now();
    }
}

#[test]
fn addresses_and_keys_that_are_none_are_said() {
    let error = |entry: &MinerEntry| Upstream::of(entry).unwrap_err();
    assert!(error(&entry("https://a", 300)).contains("proxy"));
    assert!(
        error(&entry("http://", 300)).contains("no address") || error(&entry("http://", 300)).contains("no server")
    );
    let file = MinerEntry { upstream_key_file: "/nowhere/key".to_owned(), ..entry("http://a", 300) };
    assert!(error(&file).contains("/nowhere/key"));
    let variable = MinerEntry { upstream_key_env: "STARLING_NO_SUCH_KEY".to_owned(), ..entry("http://a", 300) };
    assert!(error(&variable).contains("STARLING_NO_SUCH_KEY"));
}

/// Stands for the query dispatcher.
struct Seen(mpsc::Sender<Option<String>>);

impl Actor for Seen {
    type Context = Context<Self>;
}

impl Handler<ServeModel> for Seen {
    type Result = bool;

    fn handle(&mut self, _: ServeModel, _: &mut Self::Context) -> bool {
        self.0.try_send(None).is_ok()
    }
}

impl Handler<CloseModel> for Seen {
    type Result = bool;

    fn handle(&mut self, CloseModel { reason, .. }: CloseModel, _: &mut Self::Context) -> bool {
        self.0.try_send(Some(reason)).is_ok()
    }
}

#[test]
fn a_server_in_trouble_is_closed_with_the_reason_and_opened_again_by_a_proof() {
    System::new().block_on(async {
        let server = Server::start(Mood::Status(503));
        let upstream = server.upstream(1_000);
        let (to, mut seen) = mpsc::channel(64);
        let dispatcher = Seen(to).start();
        let links = Links { serve: dispatcher.clone().recipient(), close: dispatcher.recipient() };
        let model = handle_of("m");
        let serve = ServeModel { subnet: SubnetId(2), model, lane: Lane::Upstream, behaviour: Behaviour::Honest };
        let tending = actix::spawn(tend(upstream.clone(), serve, links));
        let mut next = async || timeout(Duration::from_secs(20), seen.recv()).await.unwrap().unwrap();
        assert!(next().await.unwrap().contains("not proven"), "closed from the start");
        assert!(next().await.unwrap().contains("503"));
        server.becomes(Mood::Well);
        let mut last = next().await;
        while last.is_some() {
            last = next().await;
        }
        server.becomes(Mood::Lies);
        let other = upstream.clone();
        let result = tokio::task::spawn_blocking(move || asked(&other, &chat(), &Control::FREE).1).await.unwrap();
        assert!(result.is_err());
        assert!(next().await.unwrap().contains("smaller"), "closed with the reason");
        server.becomes(Mood::Well);
        let mut last = next().await;
        while last.is_some() {
            last = next().await;
        }
        tending.abort();
    });
}
