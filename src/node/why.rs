//! Why a miner earned what it earned (E22): the settlement that this node kept, the statement, and the logs of those who
//! judged, put beside each other. Nothing here decides; every figure is made again from public data.

use super::asks::{Asks, read_error};
use super::judging::{Reveal, reveals, subnet_of};
use crate::actors::ledger::View;
use crate::actors::ledger::report::ReportError;
use crate::api::backend::ReadError;
use crate::ledger::incentive::Reason;
use crate::ledger::incentive::fixed::Q;
use crate::ledger::settlement::{SETTLEMENTS_KEPT, Settlement, Why};
use crate::protocol::ids::{AccountId, Epoch, MemberId, SubnetId};
use crate::protocol::report::{Motes, SeenEntry, SeenRow, Share, WhyReport, WhyRow};
use crate::protocol::score_log::{Entry, NEVER, ScoreLog, bucket_is_late};
use crate::protocol::statement::{Kind, Purse};

/// Worst questions shown of each validator's.
const WORST_MAX: usize = 3;
/// Validators whose logs are asked for, those with the most voice first: each may be large.
const LOGS_MAX: usize = 8;
/// A part of the whole that is worth a word, in hundredths.
const NOTABLE: u64 = 10;

fn share(of: Q) -> Share {
    Share(of.max(0).unsigned_abs())
}

/// A score of 2^32 - 1 at most.
fn score(of: u64) -> Share {
    Share(if of >= u64::from(u32::MAX) { 1 << 32 } else { of })
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl View {
    /// What the statement of an account says of its miners' pay for an epoch, at the height that paid.
    fn paid(&self, account: AccountId, of: &Settlement) -> Result<u64, ReportError> {
        let mut sum = 0_i64;
        self.archive.lines(&account, of.height, |_, line| {
            let ours = (line.purse, line.kind, line.subnet, line.epoch)
                == (Purse::Owed, Kind::EmissionMiner, Some(of.subnet), Some(of.close.period));
            if ours && line.height == of.height {
                sum = sum.saturating_add(line.amount);
            }
            line.height == of.height
        })?;
        Ok(u64::try_from(sum).unwrap_or(0))
    }

    /// Why a miner earned what it earned in an epoch, the last one settled when none is named.
    ///
    /// # Errors
    /// No such subnet, the epoch is not kept here, the member was no miner of it, or the store fails.
    pub fn why(&self, id: SubnetId, member: MemberId, epoch: Option<Epoch>) -> Result<WhyReport, ReportError> {
        let missing = |what: String| ReportError::NotFound(what);
        let subnet = self.state.subnet(id);
        let subnet =
            subnet.ok_or_else(|| missing(format!("there is no subnet {id}; `starling subnet list` shows them")))?;
        let name = &subnet.name;
        let of = self.archive.settlement(id, epoch)?.ok_or_else(|| {
            missing(match epoch {
                Some(epoch) => format!(
                    "epoch {epoch} of {name} is not kept here: this node can explain the last {SETTLEMENTS_KEPT} epochs \
                     that it saw settled; {name} is in epoch {}",
                    subnet.epoch
                ),
                None => format!("no epoch of {name} was settled yet; it is in epoch {}", subnet.epoch),
            })
        })?;
        let period = of.close.period;
        let judged = of.miners.iter().find(|judged| judged.member == member);
        let found = judged.and_then(|judged| Some((judged.account, of.why(member)?)));
        let (account, why) = found.ok_or_else(|| {
            missing(match self.state.member(id, member) {
                Some(now) if now.registered > of.close.height => format!(
                    "member {member} was not yet part of epoch {period} of {name}: it registered at height {}, the \
                     epoch was closed at {}",
                    now.registered, of.close.height
                ),
                _ => format!("member {member} is no miner that took part in epoch {period} of {name}"),
            })
        })?;
        let paid = self.paid(account, &of)?;
        let mut report = report(&of, &why, paid);
        (report.name, report.task) = (name.clone(), subnet.task.clone());
        (report.member, report.account) = (member, account);
        Ok(report)
    }
}

fn report(of: &Settlement, why: &Why, paid: u64) -> WhyReport {
    let missed = |member: MemberId| of.close.voices.iter().any(|voice| voice.member == member && voice.missed);
    let row = |(reason, part): &(Reason, u64)| WhyRow {
        validator: reason.validator,
        voice: share(reason.active),
        weight: share(reason.weight),
        counted: share(reason.counted),
        clipped: share(reason.weight - reason.clipped),
        lifted: share(reason.counted - reason.clipped),
        related: reason.related,
        missed: missed(reason.validator),
        part: Motes(*part),
    };
    let parts: u64 = why.reasons.iter().map(|(_, part)| part).sum();
    WhyReport {
        subnet: of.subnet,
        epoch: of.close.period,
        height: of.height,
        granted: Motes(of.pots.granted),
        owner_part: Motes(why.split.owner),
        miners_part: Motes(why.split.miners),
        validators_part: Motes(why.split.validators),
        carried: Motes(of.pots.carried),
        pot: Motes(of.pots.divided),
        incentive: share(why.incentive),
        consensus: share(why.consensus),
        rank: count(why.rank),
        of: count(why.ladder.len()),
        best: share(why.ladder.first().copied().unwrap_or(0)),
        middle: share(why.ladder.get(why.ladder.len() / 2).copied().unwrap_or(0)),
        amount: Motes(why.amount),
        deferred: why.deferred,
        paid: Motes(paid),
        ok: parts == why.amount && why.paid() == paid,
        rows: why.reasons.iter().map(row).collect(),
        ..WhyReport::default()
    }
}

fn outcome(entry: &Entry) -> &'static str {
    match entry.arrival {
        NEVER => "missed",
        arrival if bucket_is_late(arrival) => "late",
        _ if entry.raw.is_empty() => "malformed",
        _ => "answered",
    }
}

/// What an entry's miner showed: its score, or in a competition (three raw scores) what its model scored.
fn worth(entry: &Entry) -> u32 {
    match *entry.raw {
        [quality, _, _] => quality,
        _ => entry.score,
    }
}

/// What a log says of a miner.
fn seen(log: &ScoreLog, member: MemberId) -> SeenRow {
    let of = |wanted: MemberId| log.entries.iter().filter(move |entry| entry.miner == wanted);
    let mean = |member: MemberId| {
        let (sum, asked) = of(member).fold((0_u64, 0_u64), |(sum, asked), e| (sum + u64::from(worth(e)), asked + 1));
        sum.checked_div(asked).unwrap_or(0)
    };
    let counted = |wanted: &str| count(of(member).filter(|entry| outcome(entry) == wanted).count());
    let others: std::collections::BTreeSet<MemberId> = log.entries.iter().map(|entry| entry.miner).collect();
    let mut worst: Vec<(u64, &Entry)> = (1..).zip(&log.entries).filter(|(_, entry)| entry.miner == member).collect();
    worst.sort_by_key(|(index, entry)| (worth(entry), *index));
    let shown = |(entry, of): &(u64, &Entry)| SeenEntry {
        entry: *entry,
        query: of.query,
        outcome: outcome(of).to_owned(),
        arrival: (of.arrival != NEVER).then_some(of.arrival),
        quality: score(of.raw.first().copied().unwrap_or(0).into()),
        score: score(worth(of).into()),
    };
    SeenRow {
        validator: log.head.validator,
        asked: count(of(member).count()),
        answered: counted("answered"),
        late: counted("late"),
        missed: counted("missed"),
        malformed: counted("malformed"),
        mean: score(mean(member)),
        best: score(others.into_iter().map(mean).max().unwrap_or(0)),
        board: score(log.after().scores.get(&member).copied().unwrap_or(0).into()),
        chance: score(log.head.rules.chance.into()),
        part: of(member)
            .find(|entry| entry.raw.len() == 3)
            .and_then(|entry| entry.raw.get(1))
            .map(|part| score((*part).into())),
        worst: worst.iter().take(WORST_MAX).map(shown).collect(),
        problem: String::new(),
    }
}

impl Asks {
    /// Why a miner earned what it earned; with `logs`, what its validators saw of it.
    ///
    /// # Errors
    /// As `View::why`, or the ledger does not answer. What a validator does not serve is said in its row.
    pub async fn why_paid(
        &self,
        id: SubnetId,
        member: MemberId,
        epoch: Option<Epoch>,
        logs: bool,
    ) -> Result<WhyReport, ReadError> {
        let view = self.view(None).await?;
        let mut report = view.why(id, member, epoch).map_err(read_error)?;
        if logs {
            let revealed = reveals(&view, id, subnet_of(&view, id)?, report.epoch)?;
            let mut voices: Vec<(Share, MemberId)> = report.rows.iter().map(|row| (row.voice, row.validator)).collect();
            voices.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
            for (_, validator) in voices.into_iter().take(LOGS_MAX) {
                let reveal = revealed.iter().find(|reveal| reveal.member == validator);
                report.seen.push(self.seen(&view, id, report.epoch, (validator, reveal), member).await?);
            }
            report.seen.sort_by_key(|row| row.validator);
        }
        report.findings = findings(&report);
        Ok(report)
    }

    async fn seen(
        &self,
        view: &View,
        id: SubnetId,
        epoch: Epoch,
        (validator, reveal): (MemberId, Option<&Reveal>),
        member: MemberId,
    ) -> Result<SeenRow, ReadError> {
        let nothing = |problem: String| SeenRow { validator, problem, ..SeenRow::default() };
        let Some(reveal) = reveal else { return Ok(nothing("revealed no weights of this epoch".to_owned())) };
        let node = self.node_of(view, id, validator).await?;
        Ok(match self.log(node, id, epoch, &reveal.opening).await {
            // What is not under the root on the ledger is nobody's word.
            Ok(log) if log.root() == reveal.opening.log_root && log.head.validator == validator => seen(&log, member),
            Ok(_) => nothing("serves another log than the one its reveal names".to_owned()),
            Err(problem) => nothing(problem),
        })
    }
}

fn sum(shares: impl Iterator<Item = Share>) -> Share {
    Share(shares.map(|share| share.0).sum())
}

fn named<'a>(rows: impl Iterator<Item = &'a MemberId>) -> String {
    let names: Vec<String> = rows.map(ToString::to_string).collect();
    match names.as_slice() {
        [one] => format!("validator {one}"),
        many => format!("validators {}", many.join(", ")),
    }
}

/// What to look at first.
fn findings(of: &WhyReport) -> Vec<String> {
    let mut found = Vec::new();
    if of.deferred {
        found.push("this miner belongs to the subnet's owner, so its part was not minted".to_owned());
    }
    if of.pot.0 == 0 && of.granted.0 == 0 {
        found.push("nothing was granted to this subnet for the epoch: there was nothing to divide".to_owned());
    } else if of.pot.0 == 0 {
        found.push("no miner earned anything in this epoch: the pot is carried to the next".to_owned());
    }
    let voiced = || of.rows.iter().filter(|row| row.voice.0 > 0);
    let notable = |part: Share| part.0 * 100 >= Share::ONE.0 * NOTABLE;
    let silent: Vec<&WhyRow> = voiced().filter(|row| row.weight.0 == 0).collect();
    let quiet = sum(silent.iter().map(|row| row.voice));
    if notable(quiet) {
        let who = named(silent.iter().map(|row| &row.validator));
        found.push(format!("{who}, {quiet} of the voice, gave nothing"));
    }
    if of.consensus.0 == 0 && voiced().any(|row| row.weight.0 > 0) {
        found
            .push("less than half of the voice gives it any weight, so what the others give does not count".to_owned());
    }
    let cut: Vec<&WhyRow> =
        voiced().filter(|row| of.consensus.0 > 0 && notable(Share::of(row.clipped.0, row.weight.0.max(1)))).collect();
    if !cut.is_empty() {
        let who = named(cut.iter().map(|row| &row.validator));
        found
            .push(format!("the clip took a part of what {who} gave: more than the others agree on ({})", of.consensus));
    }
    let mute: Vec<&WhyRow> = of.rows.iter().filter(|row| row.voice.0 == 0 && row.weight.0 > 0).collect();
    if !mute.is_empty() {
        let who = named(mute.iter().map(|row| &row.validator));
        found.push(format!("{who} gave it weight without a voice: no permit, too old, or not opened in time"));
    }
    if of.rows.iter().any(|row| row.related) {
        let related = of.rows.iter().filter(|row| row.related);
        found.push(format!("{} belongs to its own side and cannot raise it", named(related.map(|row| &row.validator))));
    }
    found.extend(seen_findings(&of.seen));
    found
}

fn seen_findings(seen: &[SeenRow]) -> Vec<String> {
    let total = |get: fn(&SeenRow) -> u32| seen.iter().map(|row| u64::from(get(row))).sum::<u64>();
    let asked = total(|row| row.asked);
    let mut found = Vec::new();
    if asked == 0 {
        return found;
    }
    for (number, what) in [
        (total(|row| row.missed), "questions got no answer: was the node reachable, and its queue not full?"),
        (total(|row| row.late), "answers came after the deadline: the machine or the line is too slow"),
        (total(|row| row.malformed), "answers were malformed: the wrong shape for the question"),
    ] {
        if number > 0 {
            found.push(format!("{number} of {asked} {what}"));
        }
    }
    let behind = seen.iter().filter(|row| row.asked > 0 && row.mean.0 * 10 < row.best.0 * 9).max_by_key(|row| row.best);
    if let Some(row) = seen.iter().find(|row| row.part.is_some()) {
        let part = row.part.unwrap_or_default();
        found.push(format!("its model scores {}, the best one {}; its part of a row is {part}", row.mean, row.best));
        if part.0 == 0 && row.mean.0 * 10 >= row.best.0 * 9 {
            found.push(
                "so good and yet no part: it errs where a model errs that was sealed before, or four are better"
                    .to_owned(),
            );
        }
    } else if let Some(row) = behind {
        found.push(format!(
            "its answers score {}, the best miner's {} (validator {}); weights go by the square of what is above {}",
            row.mean, row.best, row.validator, row.chance
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::{ChainId, Digest};
    use crate::protocol::keys::Signature;
    use crate::protocol::score_log::{Board, FULL_U16, Head, Rules};

    fn log() -> ScoreLog {
        let rules = Rules {
            chance: 1 << 28,
            fresh: 32_768,
            deadline_ms: 2_000,
            samples: 32,
            full: FULL_U16,
            echoes_share: false,
        };
        let zero = Digest::ZERO;
        let (chain, subnet) = (ChainId([1; 32]), SubnetId(1));
        let validator = MemberId(7);
        let head = Head { chain, subnet, epoch: 3, validator, scorer: zero, rules, before: zero, after: zero };
        let silent = |miner: u32| Entry::silent(Digest([2; 32]), zero, MemberId(miner), zero);
        let came = |miner: u32, arrival: u8, score: u32| {
            let (answer, receipt) = (Digest([4; 32]), Some(Signature([0; 64])));
            let raw = if bucket_is_late(arrival) || score == 0 { Vec::new() } else { vec![score, u32::MAX] };
            Entry { answer, receipt, arrival, raw, score, ..silent(miner) }
        };
        let entries = vec![came(1, 2, u32::MAX), came(5, 3, 1 << 31), silent(5), came(5, 17, 0), came(5, 4, 0)];
        ScoreLog::new(head, entries, Board::default(), vec![])
    }

    #[test]
    fn e22_a_log_tells_what_became_of_each_question() {
        let row = seen(&log(), MemberId(5));
        assert_eq!((row.asked, row.answered, row.late, row.missed, row.malformed), (4, 1, 1, 1, 1));
        assert_eq!((row.mean, row.best, row.validator), (Share(1 << 29), Share::ONE, MemberId(7)));
        let worst: Vec<(u64, &str)> = row.worst.iter().map(|of| (of.entry, of.outcome.as_str())).collect();
        assert_eq!(worst, [(3, "missed"), (4, "late"), (5, "malformed")]);
        let words = seen_findings(&[row]).join("\n");
        for part in
            ["1 of 4 questions", "1 of 4 answers came after", "malformed", "score 12.50 %, the best miner's 100.00 %"]
        {
            assert!(words.contains(part), "{part} in {words}");
        }
        assert_eq!(seen(&log(), MemberId(99)).asked, 0);
        assert!(seen_findings(&[seen(&log(), MemberId(99))]).is_empty());
    }

    #[test]
    fn m02_a_copy_is_told_why_it_has_no_part() {
        let row = SeenRow { asked: 4, part: Some(Share(0)), mean: Share(900), best: Share(905), ..SeenRow::default() };
        assert!(seen_findings(std::slice::from_ref(&row)).join("").contains("errs where a model errs"));
        let first = SeenRow { part: Some(Share(1 << 31)), mean: row.best, ..row };
        let words = seen_findings(&[first]).join("");
        assert!(words.contains("50.00 %") && !words.contains("errs where"), "{words}");
    }

    #[test]
    fn e22_findings_name_who_gave_nothing_and_what_was_cut() {
        let row = |validator: u32, voice: u64, weight: u64, counted: u64| WhyRow {
            validator: MemberId(validator),
            voice: Share(voice),
            weight: Share(weight),
            counted: Share(counted),
            clipped: Share(weight - counted),
            ..WhyRow::default()
        };
        let third = (1 << 32) / 3;
        let rows = vec![row(1, third, 0, 0), row(2, third, 900, 300), row(3, third, 300, 300), row(4, 0, 50, 50)];
        let report =
            WhyReport { consensus: Share(300), pot: Motes(9), granted: Motes(9), rows, ..WhyReport::default() };
        let words = findings(&report).join("\n");
        for part in [
            "validator 1, 33.33 % of the voice, gave nothing",
            "of what validator 2 gave",
            "validator 4 gave it weight without",
        ] {
            assert!(words.contains(part), "{part} in {words}");
        }
        let none = WhyReport { granted: Motes(9), ..WhyReport::default() };
        assert!(findings(&none).join("").contains("carried"));
        assert!(findings(&WhyReport::default()).join("").contains("nothing was granted"));
    }
}
