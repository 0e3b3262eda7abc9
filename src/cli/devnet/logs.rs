//! `devnet logs`: what a node wrote, and what it goes on writing.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

use clap::Args;

use super::interrupt::Interrupt;
use super::processes::last_words;
use super::record::Record;
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::output::Reply;

const POLL: Duration = Duration::from_millis(250);
/// Read at once while following.
const CHUNK_BYTES: u64 = 1 << 20;

#[derive(Args, Debug)]
pub struct Logs {
    /// The node's name
    node: String,
    /// Go on until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Lines from the end
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    lines: usize,
}

impl Logs {
    /// # Errors
    /// There is no such node, or its log cannot be read.
    pub fn run(self, context: &Context, record: &Record) -> Result<Option<Reply>, CliError> {
        let node = record.node(&self.node)?;
        let path = node.log();
        let failed = |e: std::io::Error| CliError::file(&path, &e);
        let mut file = File::open(&path).map_err(failed)?;
        let words = last_words(&path, self.lines);
        if !self.follow {
            let lines: Vec<&str> = words.lines().collect();
            return Ok(Some(Reply::of(&lines).line(words.clone())));
        }
        let interrupt = Interrupt::listen()?;
        let mut at = file.seek(SeekFrom::End(0)).map_err(failed)?;
        let mut text = words + "\n";
        loop {
            if context.printer.raw(&text).is_err() || interrupt.wait(POLL) {
                return Ok(None);
            }
            // A log that became shorter was begun anew.
            let length = file.metadata().map_err(failed)?.len();
            at = file.seek(SeekFrom::Start(if length < at { 0 } else { at })).map_err(failed)?;
            let mut bytes = Vec::new();
            at += file.by_ref().take(CHUNK_BYTES).read_to_end(&mut bytes).map_err(failed)? as u64;
            text = String::from_utf8_lossy(&bytes).into_owned();
        }
    }
}
