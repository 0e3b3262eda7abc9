//! `explain`: what a code means and what to do about it.

use clap::Args;
use serde_json::json;

use super::error::{CliError, EXITS};
use super::output::{Reply, Table};
use crate::config::keys;

#[derive(Args, Debug)]
pub struct Explain {
    /// An exit code, the name of an error, a configuration key, or `exits` for the whole table
    code: String,
}

/// Names of errors that are finer than their exit code: name, meaning, remedy.
const CODES: &[(&str, &str, &str)] = &[
    ("invalid_request_error", "The request itself cannot be served as it stands.", "Compare it with the message."),
    ("model_not_found", "No subnet of that name serves queries.", "`starling subnet list`, or GET /v1/models."),
    (
        "rate_limit_exceeded",
        "A limit on queries is reached; the message says whose.",
        "Wait as long as retry-after says.",
    ),
    ("no_capacity", "No miner takes the query now.", "Ask again; `starling subnet metagraph NAME` shows the miners."),
    ("timeout", "The deadline passed without an answer.", "Ask for less, or allow more with deadline_ms."),
    (
        "invalid_api_key",
        "The gateway asks for a key and none of its keys was shown.",
        "Send authorization: Bearer KEY.",
    ),
    ("insufficient_funds", "The account cannot pay the amount and the fee.", "`starling wallet balance`."),
    ("not_synced", "The node is behind the network and cannot judge a transaction.", "`starling status --watch`."),
];

impl Explain {
    pub(super) fn run(self) -> Result<Reply, CliError> {
        let code = self.code.to_lowercase();
        if code == "exits" {
            return Ok(exits());
        }
        let text = |(name, meaning, remedy): (String, &str, &str)| {
            Reply::of(&json!({ "code": name, "meaning": meaning, "remedy": remedy }))
                .line(format!("{name}: {meaning}"))
                .facts([("remedy", remedy.to_owned())])
        };
        let exit = EXITS.iter().find(|(number, name, ..)| number.to_string() == code || *name == code);
        let exit = exit.map(|(number, name, meaning, remedy)| (format!("exit {number}, {name}"), *meaning, *remedy));
        let finer = CODES.iter().find(|(name, ..)| *name == code).map(|(name, m, r)| ((*name).to_owned(), *m, *r));
        if let Some(found) = exit.or(finer) {
            return Ok(text(found));
        }
        if let Some(key) = keys::find(&code) {
            return Ok(super::config::explain(key));
        }
        let names = EXITS.iter().map(|(_, name, ..)| *name).chain(CODES.iter().map(|(name, ..)| *name));
        let near = keys::near(&code, names).map(|n| format!("did you mean `starling explain {n}`?"));
        let help = near.unwrap_or_else(|| "`starling explain exits` lists the exit codes".to_owned());
        Err(CliError::not_found(format!("nothing is known about \"{}\"", self.code), help))
    }
}

fn exits() -> Reply {
    let mut table = Table::new(&[">exit", "name", "meaning", "remedy"]);
    for (number, name, meaning, remedy) in EXITS {
        table.row(vec![number.to_string(), (*name).into(), (*meaning).into(), (*remedy).into()]);
    }
    let rows: Vec<_> = EXITS
        .iter()
        .map(|(number, name, meaning, _)| json!({ "exit": number, "name": name, "meaning": meaning }))
        .collect();
    Reply::of(&rows).table(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_names_and_keys_are_explained_and_slips_are_guessed() {
        let explain = |code: &str| Explain { code: code.into() }.run();
        for code in ["7", "outcome_unknown", "no_capacity", "gateway.bind", "exits"] {
            assert!(explain(code).is_ok(), "{code}");
        }
        assert!(explain("no_capacty").unwrap_err().help.contains("no_capacity"));
    }
}
