//! What OpenAI-compatible servers send, read with suspicion: event streams, whole documents, and probabilities in the two
//! shapes that are in use.

use serde_json::Value;

use super::Trouble;
use crate::protocol::query::BYTE_VALUES;

/// Bytes of a document that came where a stream was asked for.
const DOCUMENT_BYTES_MAX: usize = 1 << 20;
/// Bytes of a server's own words in a log.
const WORDS_BYTES_MAX: usize = 200;

fn broken(what: &str) -> Trouble {
    Trouble::Broken(format!("the server's reply {what}"))
}

/// A text of somebody else, short enough for a log.
pub fn words(text: &str) -> String {
    let end = text.floor_char_boundary(WORDS_BYTES_MAX);
    text.get(..end).unwrap_or_default().trim().replace(char::is_control, " ")
}

/// The names in a list of models; `None` when it is no such list.
pub(super) fn models(text: &str) -> Option<Vec<String>> {
    let list: Value = serde_json::from_str(text).ok()?;
    let rows = list.get("data")?.as_array()?;
    Some(rows.iter().filter_map(|row| Some(row.get("id")?.as_str()?.to_owned())).collect())
}

/// Refuses a document that is an error or names another model.
fn check(document: &Value, model: &str) -> Result<(), Trouble> {
    if let Some(error) = document.get("error").filter(|error| !error.is_null()) {
        let text = error.get("message").and_then(Value::as_str).or_else(|| error.as_str()).unwrap_or("no reason given");
        let status = error.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
        return Err(Trouble::Status { status: status.unwrap_or(500), text: words(text) });
    }
    match document.get("model").and_then(Value::as_str) {
        Some(found) if !found.is_empty() && found != model => {
            Err(Trouble::Lying { asked: model.to_owned(), found: words(found) })
        }
        _ => Ok(()),
    }
}

/// What one line of a stream brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    Nothing,
    Piece(String),
    End,
}

/// A text as it comes.
#[derive(Debug)]
pub(super) struct Text {
    model: String,
    bytes_max: usize,
    written: Vec<u8>,
    /// The server said that it is done, or nobody wants more.
    finished: bool,
    /// Lines that belong to no stream: a server that does not know how to stream sends one document.
    document: String,
}

impl Text {
    pub fn new(model: &str, bytes_max: usize) -> Self {
        let (written, document) = (Vec::new(), String::new());
        Self { model: model.to_owned(), bytes_max, written, finished: false, document }
    }

    /// Whether to read on, after a piece that its taker wants more after, or not.
    pub fn go_on(&mut self, wanted: bool) -> bool {
        let go_on = wanted && self.written.len() < self.bytes_max;
        self.finished |= !go_on;
        go_on
    }

    /// # Errors
    /// The line is an error, names another model, or is no event.
    pub fn read(&mut self, line: &str) -> Result<Chunk, Trouble> {
        let line = line.trim_end();
        let Some(data) = line.strip_prefix("data:").map(str::trim) else {
            let about = [":", "event:", "id:", "retry:"].iter().any(|field| line.starts_with(field));
            if !about && self.document.len() + line.len() <= DOCUMENT_BYTES_MAX {
                self.document.push_str(line);
            }
            return Ok(Chunk::Nothing);
        };
        if data == "[DONE]" {
            self.finished = true;
            return Ok(Chunk::End);
        }
        let event: Value = serde_json::from_str(data).map_err(|_| broken("holds an event that is no JSON"))?;
        self.take(&event)
    }

    fn take(&mut self, event: &Value) -> Result<Chunk, Trouble> {
        check(event, &self.model)?;
        let Some(choice) = event.pointer("/choices/0") else { return Ok(Chunk::Nothing) };
        self.finished |= choice.get("finish_reason").is_some_and(|reason| !reason.is_null());
        let text = ["/text", "/delta/content", "/message/content"].iter();
        let text = text.filter_map(|place| choice.pointer(place)).find_map(Value::as_str).unwrap_or_default();
        let room = self.bytes_max.saturating_sub(self.written.len());
        let piece = text.get(..text.floor_char_boundary(room)).unwrap_or_default();
        if piece.len() < text.len() {
            // What the next character needs is not there; nothing more will fit.
            (self.finished, self.bytes_max) = (true, self.written.len() + piece.len());
        }
        self.written.extend_from_slice(piece.as_bytes());
        Ok(if piece.is_empty() { Chunk::Nothing } else { Chunk::Piece(piece.to_owned()) })
    }

    /// The whole text, its last piece given to the sink where one came late.
    ///
    /// # Errors
    /// It broke off: a text without its end is no answer.
    pub fn ended(mut self, sink: &mut super::Sink<'_>) -> Result<Vec<u8>, Trouble> {
        if self.written.is_empty() && !self.finished && !self.document.is_empty() {
            let document: Value =
                serde_json::from_str(&self.document).map_err(|_| broken("is no stream and no JSON"))?;
            if let Chunk::Piece(piece) = self.take(&document)? {
                // It is the last piece either way.
                let _ = sink(piece.as_bytes());
            }
        }
        if self.finished { Ok(self.written) } else { Err(broken("broke off before its end")) }
    }
}

/// Rows of 256 probabilities out of a completion of one token for each of `count` prompts; empty where the server gave
/// none.
///
/// # Errors
/// An error, another model, or another count of choices.
pub(super) fn distributions(text: &str, model: &str, count: usize) -> Result<Vec<Vec<f32>>, Trouble> {
    let document: Value = serde_json::from_str(text).map_err(|_| broken("is no JSON"))?;
    check(&document, model)?;
    let mut choices: Vec<&Value> = document.get("choices").and_then(Value::as_array).into_iter().flatten().collect();
    if choices.len() != count {
        return Err(Trouble::Broken(format!("the server gave {} answers to {count} prompts", choices.len())));
    }
    choices.sort_by_key(|choice| choice.get("index").and_then(Value::as_u64));
    Ok(choices.into_iter().map(|choice| row(choice).unwrap_or_default()).collect())
}

/// How likely each byte is to come next: the tokens told, each by its first byte; what they leave is spread evenly.
fn row(choice: &Value) -> Option<Vec<f32>> {
    let told = choice.get("logprobs")?;
    let mut row = vec![0.0_f64; BYTE_VALUES];
    let mut add = |first: Option<u8>, logprob: Option<f64>| {
        let place = first.and_then(|byte| row.get_mut(usize::from(byte)));
        if let (Some(place), Some(logprob)) = (place, logprob.filter(|p| *p <= 0.0)) {
            *place += logprob.exp();
        }
    };
    if let Some(tokens) = told.pointer("/content/0/top_logprobs").and_then(Value::as_array) {
        for token in tokens {
            let bytes = token.pointer("/bytes/0").and_then(Value::as_u64).and_then(|byte| u8::try_from(byte).ok());
            let name = token.get("token").and_then(Value::as_str).unwrap_or_default();
            add(bytes.or_else(|| first_byte(name)), token.get("logprob").and_then(Value::as_f64));
        }
    } else {
        for (name, logprob) in told.pointer("/top_logprobs/0")?.as_object()? {
            add(first_byte(name), logprob.as_f64());
        }
    }
    let sum: f64 = row.iter().sum();
    if sum <= 0.0 {
        return None;
    }
    // Rounding may take the sum a little over one.
    let (scale, rest) = (1.0 / sum.max(1.0), (1.0 - sum).max(0.0) / BYTE_VALUES as f64);
    #[expect(clippy::cast_possible_truncation, reason = "a probability")]
    Some(row.into_iter().map(|p| (p * scale + rest) as f32).collect())
}

/// The first byte that a token writes; none of those that only steer.
fn first_byte(token: &str) -> Option<u8> {
    let steers = token.len() > 3 && token.starts_with('<') && token.ends_with('>');
    token.bytes().next().filter(|_| !steers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str], bytes_max: usize) -> Result<String, Trouble> {
        let mut text = Text::new("m", bytes_max);
        let mut heard = Vec::new();
        for line in lines {
            match text.read(line)? {
                Chunk::Nothing => {}
                Chunk::Piece(piece) => {
                    heard.extend(piece.bytes());
                    if !text.go_on(true) {
                        break;
                    }
                }
                Chunk::End => break,
            }
        }
        let whole = text.ended(&mut |piece| {
            heard.extend_from_slice(piece);
            true
        })?;
        assert_eq!(whole, heard, "the sink hears what the answer holds");
        Ok(String::from_utf8(whole).unwrap())
    }

    #[test]
    fn streams_of_both_interfaces_are_read_and_cut_at_their_bound() {
        let completion = [
            ": ping",
            r#"data: {"model":"m","choices":[{"index":0,"text":"Hal","finish_reason":null}]}"#,
            "",
            r#"data: {"model":"m","choices":[{"index":0,"text":"lö","finish_reason":"stop"}]}"#,
            r#"data: {"choices":[],"usage":{"completion_tokens":2}}"#,
            "data: [DONE]",
        ];
        assert_eq!(read(&completion, 99), Ok("Hallö".to_owned()));
        assert_eq!(read(&completion, 5), Ok("Hall".to_owned()), "no half of a character");
        let chat = [
            r#"data: {"choices":[{"delta":{"role":"assistant"}}]}"#,
            r#"data: {"choices":[{"delta":{"content":"x"}}]}"#,
            "data: [DONE]",
        ];
        assert_eq!(read(&chat, 99), Ok("x".to_owned()));
        let whole = ["{", r#""model":"m","choices":[{"message":{"content":"y"},"finish_reason":"stop"}]"#, "}"];
        assert_eq!(read(&whole, 99), Ok("y".to_owned()), "a server that does not stream");
    }

    #[test]
    fn a_broken_stream_an_error_and_another_model_are_no_answer() {
        let piece = r#"data: {"model":"m","choices":[{"text":"a"}]}"#;
        assert!(matches!(read(&[piece], 99), Err(Trouble::Broken(_))));
        assert!(matches!(read(&[piece, "data: {"], 99), Err(Trouble::Broken(_))));
        assert!(matches!(read(&[], 99), Err(Trouble::Broken(_))));
        let error = r#"data: {"error":{"message":"out of\nmemory","code":503}}"#;
        assert_eq!(read(&[piece, error], 99), Err(Trouble::Status { status: 503, text: "out of memory".to_owned() }));
        let other = r#"data: {"model":"small","choices":[{"text":"a"}]}"#;
        assert!(matches!(read(&[other], 99), Err(Trouble::Lying { found, .. }) if found == "small"));
    }

    #[test]
    fn tokens_become_bytes_and_what_they_leave_is_spread() {
        let near = |row: &[f32], byte: u8, expected: f64| {
            let found = f64::from(row[usize::from(byte)]);
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        };
        // ln 0.5 and ln 0.25; the token that only steers counts to the rest.
        let old = r#"{"model":"m","choices":[
            {"index":1,"logprobs":null},
            {"index":0,"logprobs":{"top_logprobs":[{"the":-0.6931471805599453,"to":-1.3862943611198906,"</s>":-2.0}]}}]}"#;
        let rows = distributions(old, "m", 2).unwrap();
        near(&rows[0], b't', 0.75 + 0.25 / 256.0);
        near(&rows[0], b'<', 0.25 / 256.0);
        assert!(rows[1].is_empty());
        let new = r#"{"choices":[{"logprobs":{"content":[{"top_logprobs":[
            {"token":"\ufffd","bytes":[226],"logprob":-0.6931471805599453},{"token":" a","logprob":-0.6931471805599453}]}]}}]}"#;
        let rows = distributions(new, "m", 1).unwrap();
        near(&rows[0], 226, 0.5);
        near(&rows[0], b' ', 0.5);
        assert!(distributions(new, "m", 2).is_err());
        assert!(matches!(distributions(r#"{"model":"x","choices":[]}"#, "m", 0), Err(Trouble::Lying { .. })));
    }
}
