//! Real questions through the gateway, as a stranger would ask them: images of digits, the beginnings of sentences, and weeks of weather.

use std::time::Duration;

use serde_json::{Value, json};

use super::plan::ARENA;
use super::record::Record;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::ml::quantise::from_micros;
use crate::ml::task::{self, Task};
use crate::protocol::chance::Chance;
use crate::protocol::ids::Digest;
use crate::protocol::query::Query;

const PATIENCE: Duration = Duration::from_secs(20);
const IMAGES: usize = 4;
const BYTES: u32 = 48;
const BEGINNINGS: [&str; 6] = [
    "The hacker said ",
    "A bug is ",
    "In the beginning ",
    "The machine was ",
    "It is often said that ",
    "To understand a program ",
];

/// Somebody who asks.
#[derive(Debug)]
pub struct Asker {
    gateway: Client,
    tasks: Vec<Box<dyn Task>>,
    chance: Chance,
    asked: usize,
}

impl Asker {
    /// Asks in turn the subnets that have a miner from the start.
    ///
    /// # Errors
    /// The data of a task cannot be read.
    pub fn new(record: &Record) -> Result<Self, CliError> {
        let mut names: Vec<&str> = record
            .miners()
            .filter(|(_, m)| !m.is_late() && m.subnet != ARENA.0)
            .map(|(_, m)| m.task.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        let open = |name: &&str| task::open(name).map_err(|e| CliError::failed(format!("task {name}: {e}")));
        let mut seed = [0; 32];
        seed.first_chunk_mut::<8>().map(|first| *first = record.wishes.seed.to_le_bytes()).unwrap_or_default();
        Ok(Self {
            gateway: Client::new(&record.gateway.url, PATIENCE)?,
            tasks: names.iter().map(open).collect::<Result<_, _>>()?,
            chance: Chance::from_seed(seed).fork("questions"),
            asked: 0,
        })
    }

    /// How many tasks it asks in turn; 0 when there is nobody to ask.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// The next question.
    ///
    /// # Errors
    /// The gateway gives no answer, or one without content.
    pub fn ask(&mut self) -> Result<(), CliError> {
        let turn = self.asked % self.tasks.len().max(1);
        self.asked += 1;
        let Some(task) = self.tasks.get(turn) else { return Ok(()) };
        let name = task.name();
        let (path, body) = match task.challenge(Digest(self.chance.bytes32()), IMAGES).query {
            Query::Classify { images } => (format!("/v1/query/{name}"), json!({ "classify": { "images": images } })),
            Query::Forecast { series, season, horizon } => {
                let numbers = |row: Vec<i64>| row.into_iter().map(from_micros).collect::<Vec<f64>>();
                let series: Vec<Vec<f64>> = series.into_iter().map(numbers).collect();
                let wish = json!({ "series": series, "season": season, "horizon": horizon });
                (format!("/v1/query/{name}"), json!({ "forecast": wish }))
            }
            _ => {
                let prompt = BEGINNINGS.get(self.chance.index(BEGINNINGS.len())).copied().unwrap_or_default();
                let body = json!({ "model": name, "prompt": prompt, "max_tokens": BYTES, "temperature": 0.7 });
                ("/v1/completions".to_owned(), body)
            }
        };
        let reply = self.gateway.post(&path, "application/json", body.to_string().as_bytes())?;
        let told = match reply.body.pointer("/choices/0/text").and_then(Value::as_str) {
            Some(text) => !text.is_empty(),
            None => reply.body.as_object().is_some_and(|fields| !fields.is_empty()),
        };
        if told { Ok(()) } else { Err(CliError::failed(format!("{name}: an answer without content: {}", reply.body))) }
    }
}
