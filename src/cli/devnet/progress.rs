//! How far a long piece of work is: a bar on a terminal, a plain line every few seconds elsewhere, nothing for programs.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::output::{Format, Printer, ago};

/// Between two plain lines.
pub const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// One line of work at a time; a finished one stays as a line of its own.
#[derive(Debug)]
pub struct Progress {
    printer: Printer,
    bars: bool,
    bar: Option<ProgressBar>,
    what: String,
    began: Instant,
    said: Instant,
}

impl Progress {
    pub fn new(printer: Printer) -> Self {
        let words = printer.format == Format::Table && !printer.quiet;
        // Programs get no progress at all.
        let printer = Printer { quiet: !words, ..printer };
        let bars = words && std::io::stderr().is_terminal();
        Self { printer, bars, bar: None, what: String::new(), began: Instant::now(), said: Instant::now() }
    }

    /// Begins a stage of so many steps.
    pub fn stage(&mut self, what: &str, steps: usize) {
        what.clone_into(&mut self.what);
        (self.began, self.said) = (Instant::now(), Instant::now());
        if self.bars {
            let bar = ProgressBar::with_draw_target(Some(steps as u64), ProgressDrawTarget::stderr());
            let style =
                ProgressStyle::with_template("  {prefix:22} {bar:24} {pos:>3}/{len:<3} {elapsed:>4} {wide_msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸ "));
            bar.set_prefix(self.what.clone());
            bar.tick();
            self.bar = Some(bar);
        }
    }

    /// Tells how far the stage is, with a word on what is going on.
    pub fn at(&mut self, step: usize, steps: usize, word: &str) {
        if let Some(bar) = &self.bar {
            bar.set_length(steps as u64);
            bar.set_position(step as u64);
            bar.set_message(word.to_owned());
        } else if self.said.elapsed() >= PLAIN_EVERY {
            self.said = Instant::now();
            let gap = if word.is_empty() { "" } else { ", " };
            self.printer.note(&format!("{}: {step} of {steps}{gap}{word}", self.what));
        }
    }

    /// Ends the stage with its outcome.
    pub fn done(&mut self, outcome: &str) {
        let took = ago(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX));
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.printer.note(&format!("  {:22} {outcome} ({took})", self.what));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
