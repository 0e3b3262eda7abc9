//! `ask`: a question to the network through a gateway, in the shapes every OpenAI client speaks.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, Fetched};
use super::context::{Context, local_url};
use super::error::{CliError, Exit};
use super::output::{Format, Reply, Table, ago};
use crate::protocol::query::{PIXEL_MAX, PIXELS};

/// Bytes read from standard input at most.
const NUMBERS_BYTES_MAX: u64 = 1 << 20;
const SHADES: &[char] = &[' ', '.', ':', '-', '=', '+', '*', '#', '@'];

#[derive(Args, Debug)]
pub struct Ask {
    /// The text to go on from; for an image subnet 64 numbers from 0 to 16, for a forecasting one the values of a series,
    /// the oldest first; numbers may be typed, in a file, or "-" for standard input
    #[arg(value_name = "TEXT", allow_hyphen_values = true)]
    text: String,
    /// Which subnet to ask [default: the first that takes text]
    #[arg(long, value_name = "NAME")]
    subnet: Option<String>,
    /// Which model to ask; the names of `GET /v1/models`
    #[arg(long, value_name = "ID", conflicts_with = "subnet")]
    model: Option<String>,
    /// Print the answer while it comes
    #[arg(long)]
    stream: bool,
    /// Bytes of the answer at most
    #[arg(long, value_name = "N", default_value_t = 128)]
    max_tokens: u32,
    /// 0 takes the likeliest byte always
    #[arg(long, value_name = "T", default_value_t = 0.7)]
    temperature: f64,
    /// Equal seeds give equal answers of one miner
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Steps after which a series' pattern repeats, for a forecast; 1 when none does
    #[arg(long, value_name = "N", default_value_t = 24)]
    season: u32,
    /// Steps to forecast
    #[arg(long, value_name = "N", default_value_t = 24)]
    horizon: u32,
    /// The gateway [default: the configured one]
    #[arg(long, value_name = "URL", env = "STARLING_GATEWAY")]
    gateway: Option<String>,
    /// A file whose first line is the gateway's API key [default: STARLING_API_KEY]
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
}

/// One row of `GET /v1/models`.
struct Model {
    id: String,
    task: String,
}

impl Ask {
    pub(super) fn run(self, context: &Context) -> Result<Option<Reply>, CliError> {
        let client = self.client(context)?;
        let model = self.choose(&client)?;
        if model.task == "vision" {
            return self.image(context, &client, &model);
        }
        if model.task == "forecast" {
            return self.forecast(context, &client, &model);
        }
        let mut body = json!({
            "model": model.id,
            "prompt": self.text,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "stream": self.stream,
        });
        if let (Some(seed), Some(fields)) = (self.seed, body.as_object_mut()) {
            fields.insert("seed".into(), json!(seed));
        }
        if self.stream { streamed(context, &client, &body) } else { self.whole(context, &client, &body) }
    }

    fn client(&self, context: &Context) -> Result<Client, CliError> {
        let url = match &self.gateway {
            Some(url) => url.clone(),
            None => match context.devnet().and_then(|record| record.gateway) {
                Some(gateway) => gateway.url,
                None => local_url(&context.config()?.gateway.bind),
            },
        };
        let key = match &self.api_key_file {
            Some(path) => Some(super::context::passphrase_of(path)?.to_string()),
            None => std::env::var("STARLING_API_KEY").ok().filter(|k| !k.is_empty()),
        };
        Ok(Client::new(&url, context.timeout())?.with_key(key))
    }

    fn choose(&self, client: &Client) -> Result<Model, CliError> {
        let list: Value = client.get("/v1/models")?;
        let text = |model: &Value, pointer: &str| {
            model.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let rows = list.get("data").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut models = rows.iter().map(|m| Model { id: text(m, "/id"), task: text(m, "/starling/task") });
        let Some(wanted) = self.model.as_ref().or(self.subnet.as_ref()) else {
            let help = "`starling subnet list` shows the subnets; choose one with --subnet";
            return models.find(|m| m.task == "text").ok_or_else(|| CliError::not_found("no subnet takes text", help));
        };
        let names: Vec<String> = rows.iter().map(|m| text(m, "/id")).collect();
        let near = crate::config::keys::near(wanted, names.iter().map(String::as_str));
        let help = match near {
            Some(near) => format!("did you mean {near}?"),
            None => format!("there are: {}", names.join(", ")),
        };
        models.find(|m| m.id == *wanted).ok_or_else(|| {
            CliError::not_found(format!("nothing called \"{wanted}\" can be asked"), help).coded("model_not_found")
        })
    }

    fn whole(&self, context: &Context, client: &Client, body: &Value) -> Result<Option<Reply>, CliError> {
        let began = Instant::now();
        let fetched = client.post("/v1/completions", "application/json", body.to_string().as_bytes())?;
        let text = fetched.body.pointer("/choices/0/text").and_then(Value::as_str).unwrap_or_default().to_owned();
        let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let data = json!({
            "text": text,
            "model": fetched.body.get("model"),
            "usage": fetched.body.get("usage"),
            "finish_reason": fetched.body.pointer("/choices/0/finish_reason"),
            "miner": fetched.header("x-starling-miner"),
            "subnet": fetched.header("x-starling-subnet"),
            "request_id": fetched.header("x-request-id"),
            "elapsed_ms": took,
        });
        let reply = Reply::of(&data).line(format!("{}{text}", self.text));
        answered(context, &reply, &aside(&fetched, took))
    }

    fn image(&self, context: &Context, client: &Client, model: &Model) -> Result<Option<Reply>, CliError> {
        let pixels = pixels(&self.text)?;
        let began = Instant::now();
        let body = json!({ "classify": { "images": [pixels] } });
        let path = format!("/v1/query/{}", super::subnet::segment(&model.id)?);
        let fetched = client.post(&path, "application/json", body.to_string().as_bytes())?;
        let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let rows = fetched.body.pointer("/classes/0/probabilities").and_then(Value::as_array).cloned();
        let mut ranked: Vec<(usize, f64)> =
            rows.unwrap_or_default().iter().enumerate().filter_map(|(i, p)| Some((i, p.as_f64()?))).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        let mut table = Table::new(&[">digit", ">probability"]).or("no answer");
        for (digit, probability) in ranked.iter().take(3) {
            table.row(vec![digit.to_string(), format!("{:.1} %", probability * 100.0)]);
        }
        let reply = picture(&pixels).into_iter().fold(Reply::of(&fetched.body), Reply::line);
        answered(context, &reply.table(table), &aside(&fetched, took))
    }
}

impl Ask {
    fn forecast(&self, context: &Context, client: &Client, model: &Model) -> Result<Option<Reply>, CliError> {
        let values = values(&held(&self.text)?)?;
        let began = Instant::now();
        let wish = json!({ "series": [values], "season": self.season, "horizon": self.horizon });
        let path = format!("/v1/query/{}", super::subnet::segment(&model.id)?);
        let fetched = client.post(&path, "application/json", json!({ "forecast": wish }).to_string().as_bytes())?;
        let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let list = |pointer: &str| fetched.body.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
        // The wire's quantiles, in its order.
        let mut table = Table::new(&[">step", ">10 %", ">25 %", ">50 %", ">75 %", ">90 %"]).or("no answer");
        for (step, row) in (1_u32..).zip(list("/forecasts/0/steps")) {
            let cells = row.as_array().map(Vec::as_slice).unwrap_or_default();
            let cells = cells.iter().filter_map(Value::as_f64).map(|value| format!("{value:.3}"));
            table.row(std::iter::once(step.to_string()).chain(cells).collect());
        }
        answered(context, &Reply::of(&fetched.body).table(table), &aside(&fetched, took))
    }
}

/// The answer first, then who gave it.
fn answered(context: &Context, reply: &Reply, aside: &str) -> Result<Option<Reply>, CliError> {
    context.printer.reply(reply).map_err(|e| CliError::failed(format!("standard output: {e}")))?;
    context.printer.note(aside);
    Ok(None)
}

/// Who answered, for a person's eye.
fn aside(fetched: &Fetched, took: u64) -> String {
    let part = |name: &str| fetched.header(name).unwrap_or("?").to_owned();
    // A stream's head is written before the miner names its model.
    let model = fetched.header("x-starling-model-hash").and_then(|hash| hash.get(..8));
    let model = model.map(|hash| format!(" · model {hash}")).unwrap_or_default();
    let miner = part("x-starling-miner");
    let again = match fetched.header("x-starling-attempts") {
        Some("1") | None => String::new(),
        Some(n) => format!(", asked {n} miners"),
    };
    format!("[{} · miner {miner}{model} · {}{again}]", part("x-starling-subnet"), ago(took))
}

/// Pieces as they come: to standard output for people, one JSON line each for programs.
fn streamed(context: &Context, client: &Client, body: &Value) -> Result<Option<Reply>, CliError> {
    let (printer, words) = (context.printer, context.printer.format == Format::Table);
    let began = Instant::now();
    let mut done = false;
    let closed = |e: &std::io::Error| CliError::failed(format!("standard output: {e}"));
    if words {
        let prompt = body.get("prompt").and_then(Value::as_str).unwrap_or_default();
        printer.raw(prompt).map_err(|e| closed(&e))?;
    }
    let headers = client.stream("/v1/completions", body, |line| {
        let Some(data) = line.strip_prefix("data: ") else { return Ok(true) };
        if data == "[DONE]" {
            done = true;
            return Ok(false);
        }
        let event: Value = serde_json::from_str(data).map_err(|e| CliError::failed(format!("strange event: {e}")))?;
        if let Some(error) = event.get("error") {
            let text = error.get("message").and_then(Value::as_str).unwrap_or("the stream failed");
            return Err(CliError::new(Exit::Unreachable, text, "what came before it stands; ask again for the rest"));
        }
        if let Some(piece) = event.pointer("/choices/0/text").and_then(Value::as_str).filter(|p| !p.is_empty()) {
            if words {
                printer.raw(piece).map_err(|e| closed(&e))?;
            } else {
                printer.event(&json!({ "type": "piece", "text": piece })).map_err(|e| closed(&e))?;
            }
        }
        if let (false, Some(usage)) = (words, event.get("usage").filter(|u| !u.is_null())) {
            printer.event(&json!({ "type": "usage", "usage": usage })).map_err(|e| closed(&e))?;
        }
        Ok(true)
    })?;
    if !done {
        return Err(CliError::new(Exit::Unreachable, "the answer broke off", "ask again"));
    }
    let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    if words {
        // The answer is out; a closed pipe has nothing left to lose.
        let _ = writeln!(std::io::stdout());
        printer.note(&aside(&Fetched { body: Value::Null, headers }, took));
    } else {
        printer.event(&json!({ "type": "done", "elapsed_ms": took })).map_err(|e| closed(&e))?;
    }
    Ok(None)
}

/// What was typed, or what a file or standard input holds.
fn held(text: &str) -> Result<String, CliError> {
    let path = Path::new(text);
    if text == "-" {
        let mut held = String::new();
        let input = std::io::stdin().take(NUMBERS_BYTES_MAX).read_to_string(&mut held);
        return input.map(|_| held).map_err(|e| CliError::file(path, &e));
    }
    if path.is_file() {
        return std::fs::read_to_string(path).map_err(|e| CliError::file(path, &e));
    }
    Ok(text.to_owned())
}

/// Numbers in any separation but the point; of a line with commas, like a table's row, the last one.
fn values(text: &str) -> Result<Vec<f64>, CliError> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let number = |part: &str| part.trim().parse::<f64>().ok().filter(|v| v.is_finite());
    let found: Vec<Option<f64>> = match lines.as_slice() {
        [line] => line.split([',', ';', ' ', '\t']).filter(|p| !p.is_empty()).map(number).collect(),
        // The first row of a table may be its head.
        [head, rows @ ..] => {
            let of = |line: &&str| number(line.rsplit([',', ';', '\t']).next().unwrap_or_default());
            of(head).into_iter().map(Some).chain(rows.iter().map(of)).collect()
        }
        [] => Vec::new(),
    };
    let count = found.len();
    let values: Vec<f64> = found.into_iter().flatten().collect();
    if values.is_empty() || values.len() != count {
        let message = format!("a series is numbers; of {count} parts {} are", values.len());
        return Err(CliError::usage(message));
    }
    Ok(values)
}

/// 64 numbers from 0 to 16 in any separation, typed, in a file or on standard input.
fn pixels(text: &str) -> Result<Vec<u8>, CliError> {
    let held = held(text)?;
    let parts = held.split(|c: char| !c.is_ascii_digit()).filter(|p| !p.is_empty());
    let pixels: Option<Vec<u8>> = parts.map(|p| p.parse().ok().filter(|v| *v <= PIXEL_MAX)).collect();
    pixels.filter(|p| p.len() == PIXELS).ok_or_else(|| {
        CliError::usage(format!("an image is {PIXELS} numbers from 0 to {PIXEL_MAX}, row by row, typed or in a file"))
    })
}

fn picture(pixels: &[u8]) -> Vec<String> {
    let shade = |p: &u8| SHADES.get(usize::from(*p) / 2).copied().unwrap_or('@');
    pixels
        .chunks(8)
        .map(|row| format!("  {}", row.iter().map(|p| shade(p).to_string().repeat(2)).collect::<String>()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_typed_or_the_last_column_of_a_table() {
        assert_eq!(values("1 2.5,-3;4e2").unwrap(), [1.0, 2.5, -3.0, 400.0]);
        assert_eq!(values("time,load\n00:00,1\n01:00,2.5\n\n").unwrap(), [1.0, 2.5]);
        assert_eq!(values("1\n2\n3\n").unwrap(), [1.0, 2.0, 3.0]);
        for wrong in ["", "1 x 3", "1\nnan\n3", "head\n"] {
            assert!(values(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn images_are_64_numbers_and_are_drawn() {
        let line = (0..64).map(|i| (i % 17).to_string()).collect::<Vec<_>>().join(",");
        let image = pixels(&line).unwrap();
        assert_eq!((image.len(), image[16]), (64, 16));
        assert_eq!(picture(&image).len(), 8);
        assert!(picture(&image)[2].starts_with("  @@"));
        for wrong in ["", "1 2 3", &"17 ".repeat(64)] {
            assert!(pixels(wrong).is_err());
        }
    }
}
