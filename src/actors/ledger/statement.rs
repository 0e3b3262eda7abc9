//! Statements for people: an account's lines between two heights, what its purses held before and after, and the proof of a
//! single line (E21).
//!
//! What was held before is summed from the first line on, so that it is checked against what the ledger holds now, and not
//! made to fit.

use std::collections::BTreeMap;

use super::View;
use super::report::ReportError;
use crate::ledger::money::held_by;
use crate::protocol::checkpoint::VoteKind;
use crate::protocol::codec;
use crate::protocol::ids::{AccountId, Height, to_hex};
use crate::protocol::report::{LineProofReport, PurseReport, StatementLine, StatementReport};
use crate::protocol::statement::Purse;

/// Lines of one report; the rest begins at `next`.
const LINES_MAX: usize = 2_000;
/// Headers between a line and the certificate that makes it final.
const HEADERS_MAX: usize = 4_096;

type Sums = BTreeMap<Purse, i128>;

fn told(sums: &Sums) -> Vec<PurseReport> {
    let row =
        |(purse, amount): (&Purse, &i128)| PurseReport { purse: *purse, amount: i64::try_from(*amount).unwrap_or(0) };
    sums.iter().filter(|(_, amount)| **amount != 0).map(row).collect()
}

impl View {
    /// The statement of an account from one height to another, both included. A report ends with a whole height.
    ///
    /// # Errors
    /// The store fails.
    pub fn statement(&self, account: AccountId, from: Height, to: Height) -> Result<StatementReport, ReportError> {
        let now = self.tip.header.height;
        let to = to.min(now);
        let (mut opening, mut later, mut lines, mut next) = (Sums::new(), Sums::new(), Vec::new(), None);
        self.archive.lines(&account, 0, |index, line| {
            // Made final while this was read: not of this view.
            if line.height > now {
                return false;
            }
            if lines.len() >= LINES_MAX && next.is_none() && line.height <= to {
                let last = lines.last().map_or(0, |line: &StatementLine| line.height);
                next = (line.height > last).then_some(line.height);
            }
            let amount = i128::from(line.amount);
            if line.height < from {
                *opening.entry(line.purse).or_default() += amount;
            } else if line.height <= to && next.is_none() {
                lines.push(StatementLine { index, ..StatementLine::of(&line) });
            } else {
                *later.entry(line.purse).or_default() += amount;
            }
            true
        })?;
        let mut closing = opening.clone();
        for line in &lines {
            *closing.entry(line.purse).or_default() += i128::from(line.amount);
        }
        // All lines together are what the ledger holds now.
        let mut whole = closing.clone();
        for (purse, amount) in &later {
            *whole.entry(*purse).or_default() += amount;
        }
        let held = held_by(&self.state);
        let is = |purse: &Purse| held.get(&(account, *purse)).copied().unwrap_or(0).cast_signed();
        let ok = Purse::ALL.iter().all(|purse| whole.get(purse).copied().unwrap_or(0) == is(purse));
        let to = next.map_or(to, |next| next.saturating_sub(1));
        let (opening, closing) = (told(&opening), told(&closing));
        Ok(StatementReport { account, height: now, from, to, opening, closing, lines, next, ok })
    }

    /// What proves a line: its steps to the receipt root of its height, the header, and headers up to one whose
    /// certificate says that it is final.
    ///
    /// # Errors
    /// There is no such line, nothing final above it is kept, or the store fails.
    pub fn line_proof(&self, height: Height, index: u32) -> Result<LineProofReport, ReportError> {
        let nothing = || ReportError::NotFound(format!("there is no line {index} at height {height} here"));
        let (line, leaves, path) = self.archive.line_path(height, index)?.ok_or_else(nothing)?;
        let mut headers = Vec::new();
        for checkpoint in self.archive.checkpoints_from(height).take(HEADERS_MAX) {
            headers.push(to_hex(&checkpoint.header.layout()));
            if let Some(certificate) = checkpoint.certificate.filter(|of| of.kind() == VoteKind::Finalize) {
                let certificate = to_hex(&codec::encode(&certificate));
                return Ok(LineProofReport { line: to_hex(&line.encode()), index, leaves, path, headers, certificate });
            }
        }
        Err(ReportError::NotFound(format!("no certificate that makes height {height} final is kept here")))
    }
}
