//! Doing a competition's epoch again from a validator's log (D12, M2): the answers that it kept are judged anew, side by side.
//!
//! What needs no model is checked: that the questions follow from the checkpoint that opened the epoch, that each entry names
//! a model its miner had shown by then, that the answers score what the log says, and that the verdict follows from the
//! scores. Whether a model gives those answers is for who runs it.

use std::collections::BTreeMap;

use super::judging::opened;
use crate::actors::ledger::View;
use crate::actors::scorer::contest::{QUESTIONS, SAMPLES, age};
use crate::ledger::rows::Subnet;
use crate::ml::competition::{self, question, score_of};
use crate::ml::mark::whole;
use crate::ml::task::{self, Challenge, Task};
use crate::protocol::ids::{Digest, Height, MemberId, SubnetId};
use crate::protocol::query::Answer;
use crate::protocol::score_log::{Entry, ScoreLog, answer_digest};

/// What a competition's log says of one miner.
#[derive(Default)]
struct Said<'a> {
    entries: Vec<(u64, &'a Entry)>,
    scores: Vec<u32>,
}

/// Judges a competition's log again; how many of its entries that were.
///
/// # Errors
/// The first thing that differs, in words.
pub(super) fn judged_again(
    view: &View,
    id: SubnetId,
    subnet: &Subnet,
    log: &ScoreLog,
    tolerance: u64,
) -> Result<u64, String> {
    let task = task::open(&subnet.task).map_err(|error| error.to_string())?;
    let opened = opened(subnet, log.head.epoch);
    let seeds = seeds(view, id, log, opened)?;
    let questions: BTreeMap<Digest, Challenge> =
        seeds.iter().map(|seed| (*seed, task.challenge(*seed, SAMPLES))).collect();
    let answers: BTreeMap<Digest, &Vec<u8>> = log.answers.iter().map(|bytes| (answer_digest(bytes), bytes)).collect();
    let mut of: BTreeMap<MemberId, Said<'_>> = BTreeMap::new();
    for (index, entry) in (1_u64..).zip(&log.entries) {
        let wrong = |what: String| Err(format!("entry {index} of member {}: {what}", entry.miner));
        let Some(challenge) = questions.get(&entry.task_seed) else {
            return wrong("its seed is none of this epoch's".to_owned());
        };
        if challenge.query.digest() != entry.request {
            return wrong("its seed makes another question than the one named".to_owned());
        }
        let said = of.entry(entry.miner).or_default();
        said.entries.push((index, entry));
        if entry.answer == Digest::ZERO {
            continue;
        }
        let Some(bytes) = answers.get(&entry.answer) else {
            return wrong("its answer is not in the log, so nothing can be judged again".to_owned());
        };
        let answer = Answer::from_layout(bytes).map_err(|error| error.to_string())?;
        said.scores.extend(scores(task.as_ref(), challenge, &answer));
    }
    let mut entries = Vec::new();
    for (member, said) in &of {
        entries.extend(entry_of(view, (id, subnet), *member, (said, &seeds), opened)?);
    }
    let verdicts = competition::judge(&entries, whole(task.chance_level()), half_life(subnet));
    let shares: BTreeMap<MemberId, u32> = verdicts.iter().map(|verdict| (verdict.member, verdict.share)).collect();
    let near = |a: u32, b: u32| u64::from(a.abs_diff(b)) <= tolerance;
    for (member, said) in &of {
        let share = shares.get(member).copied().unwrap_or(0);
        for ((index, entry), of_question) in said.entries.iter().zip(said.scores.chunks(SAMPLES.max(1))) {
            let quality = competition::mean(of_question);
            let same = matches!(*entry.raw, [q, s, _] if near(q, quality) && near(s, share));
            if !same || !near(entry.score, score_of(share)) {
                return Err(format!(
                    "entry {index} of member {member}: its answer gives quality {quality}, part {share}"
                ));
            }
        }
    }
    Ok(of.values().map(|said| said.entries.len() as u64).sum())
}

fn half_life(subnet: &Subnet) -> u32 {
    u32::try_from(subnet.rules.crown_epochs).unwrap_or(u32::MAX)
}

fn scores(task: &dyn Task, challenge: &Challenge, answer: &Answer) -> Vec<u32> {
    task.score(challenge, Some(answer), 0, 1).scores.into_iter().map(whole).collect()
}

/// The seeds of the log's epoch, if they follow from a checkpoint around the height at which it opened.
fn seeds(view: &View, id: SubnetId, log: &ScoreLog, opened: Height) -> Result<Vec<Digest>, String> {
    let named = |ground: Digest| (0..QUESTIONS).map(move |index| question(ground, id, log.head.epoch, index));
    let Some(first) = log.entries.first() else { return Ok(Vec::new()) };
    // An epoch may open some heights late, where the close before it took longer.
    for height in opened.saturating_sub(2)..=opened.saturating_add(8) {
        let checkpoint = view.archive.checkpoint(height).map_err(|error| error.to_string())?;
        if let Some(ground) = checkpoint.map(|checkpoint| checkpoint.header.hash())
            && named(ground).any(|seed| seed == first.task_seed)
        {
            return Ok(named(ground).collect());
        }
    }
    Err("its questions follow from no checkpoint at which the epoch opened".to_owned())
}

/// A miner's part in the verdict; none where its model was not run.
fn entry_of(
    view: &View,
    (id, subnet): (SubnetId, &Subnet),
    member: MemberId,
    (said, seeds): (&Said<'_>, &[Digest]),
    opened: Height,
) -> Result<Option<competition::Entry>, String> {
    let Some((index, first)) = said.entries.first() else { return Ok(None) };
    let wrong = |what: &str| Err(format!("entry {index} of member {member}: {what}"));
    let asked = said.entries.iter().map(|(_, entry)| (entry.query, entry.task_seed));
    if !asked.eq(seeds.iter().map(|seed| (first.query, *seed))) {
        return wrong("it was not asked every question of the epoch about one model");
    }
    let Some(model) = view.state.model(id, first.query) else { return wrong("the ledger knows no such model") };
    let owner = view.state.member(id, member).map(|member| member.account);
    if owner.is_some_and(|owner| owner != model.publisher) {
        return wrong("the model is somebody else's");
    }
    if said.scores.is_empty() {
        return Ok(None);
    }
    if said.scores.len() != SAMPLES * seeds.len() {
        return wrong("it was not judged on every sample");
    }
    let told = first.raw.get(2).copied().unwrap_or(u32::MAX);
    if told.abs_diff(age(model.published, opened, subnet.rules.tempo)) > 1 {
        return wrong("the age of its model is another");
    }
    let (artifact, since) = (first.query, model.since);
    Ok(Some(competition::Entry { member, artifact, since, age: told, scores: said.scores.clone() }))
}
