//! What the agents say (S3): from what a validator sees to the row it hands in.
//!
//! An agent may use floats; its row is whole numbers before the machine under test sees it.

use super::chance::Chance;
use super::kinds::{Keys, Kind, Pressure, RevealRule, Source};
use crate::ledger::incentive::RowWeights;
use crate::protocol::ids::MemberId;

/// A miner as the world knows it, in the order of ids.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub member: MemberId,
    /// What its answers are worth now; 0 for rubbish.
    pub quality: f64,
    /// What they were worth so many epochs ago as a late validator lags behind; absent miners are 0.
    pub earlier: f64,
    /// What those believe who do not see that it cheats.
    pub believed: f64,
    /// Whose it is; no agent's.
    pub owner: Option<usize>,
    pub victim: bool,
}

/// What is public while a row is written.
#[derive(Clone, Debug, Default)]
pub struct Public {
    /// The consensus of an earlier epoch.
    pub consensus: Vec<(MemberId, i64)>,
    /// The row of the largest honest validator of that epoch.
    pub leader: Option<RowWeights>,
}

/// What one validator writes its row from.
pub struct View<'a> {
    pub agent: usize,
    pub kind: &'a Kind,
    pub epoch: u32,
    pub miners: &'a [Seen],
    pub public: Option<&'a Public>,
    /// What it said last.
    pub last: Option<&'a RowWeights>,
    /// Scores, to be used again for each validator.
    pub scores: &'a mut Vec<f64>,
}

/// What a validator hands in.
pub enum Word {
    Row(RowWeights),
    /// Nothing new: the row it had stays.
    Nothing,
}

/// A validator's view as whole numbers, the largest 65,535; what comes to 0 is left out.
pub fn to_row(miners: &[Seen], scores: &[f64]) -> RowWeights {
    let most = scores.iter().copied().fold(0.0, f64::max);
    if most <= 0.0 {
        return [].into();
    }
    let scale = 65_535.0 / most;
    let whole = |score: f64| whole(score * scale);
    miners.iter().zip(scores).map(|(miner, score)| (miner.member, whole(*score))).filter(|of| of.1 > 0).collect()
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(value: f64) -> u32 {
    value.clamp(0.0, 65_535.0) as u32
}

/// What one look at a miner shows: its worth with an error in proportion, and for rubbish now and then a little, because a
/// score that measures with an error measures nothing with an error, too.
fn look(worth: f64, noise: f64, errors: &mut Chance) -> f64 {
    let error = noise * errors.normal();
    if worth > 0.0 { worth * libm::exp(error) } else { error.max(0.0) }
}

fn noise_of(kind: &Kind) -> f64 {
    match kind {
        Kind::Honest { noise, samples, .. } => noise / f64::from(*samples).sqrt(),
        Kind::Downweight { noise, .. }
        | Kind::Lazy { noise, .. }
        | Kind::LateMover { noise, .. }
        | Kind::NonRevealer { noise, .. }
        | Kind::Abstainer { noise, .. }
        | Kind::WhaleSplit { noise, .. } => *noise,
        // Used only while there is nothing to copy yet, or not at all.
        _ => 0.1,
    }
}

/// Writes a row. Every validator looks at every miner in every epoch, whatever it then says, so that worlds that differ in
/// a switch only see the same errors.
pub fn write(view: View<'_>, errors: &mut Chance, whims: &mut Chance) -> Word {
    let View { agent, kind, epoch, miners, public, last, scores } = view;
    let noise = noise_of(kind);
    let worth = |miner: &Seen| match kind {
        Kind::Honest { sees_cheat: false, .. } => miner.believed,
        Kind::LateMover { .. } => miner.earlier,
        _ => miner.quality,
    };
    scores.clear();
    scores.extend(miners.iter().map(|miner| look(worth(miner), noise, errors)));
    let own = |miner: &Seen| miner.owner == Some(agent);
    match kind {
        Kind::Honest { power, .. } => {
            if (*power - 1.0).abs() > f64::EPSILON {
                scores.iter_mut().for_each(|score| *score = libm::pow(*score, *power));
            }
        }
        Kind::LateMover { .. } | Kind::NonRevealer { .. } | Kind::WhaleSplit { .. } => {}
        Kind::Copier { noise, source, .. } => {
            let Some(public) = public else { return Word::Row(to_row(miners, scores)) };
            copy(public, *source, miners, scores);
            if *noise > 0.0 {
                for score in scores.iter_mut() {
                    *score *= libm::exp(noise * whims.normal());
                }
            }
        }
        Kind::Colluder { part, own_miners, .. } => {
            let others: f64 = miners.iter().zip(scores.iter()).filter(|(m, _)| !own(m)).map(|(_, score)| score).sum();
            let each = if *part < 1.0 { part / (1.0 - part) * others / f64::from(*own_miners) } else { 1.0 };
            for (score, miner) in scores.iter_mut().zip(miners) {
                *score = match own(miner) {
                    true => each,
                    false if *part < 1.0 => *score,
                    false => 0.0,
                };
            }
        }
        Kind::SelfDealer { .. } => {
            for (score, miner) in scores.iter_mut().zip(miners) {
                *score = if own(miner) { 1.0 } else { 0.0 };
            }
        }
        Kind::Downweight { mode, .. } => {
            let chosen = miners.iter().position(|miner| !miner.victim);
            for (at, (score, miner)) in scores.iter_mut().zip(miners).enumerate() {
                match mode {
                    Pressure::Targeted if miner.victim => *score = 0.0,
                    Pressure::AllIn => *score = if Some(at) == chosen { 1.0 } else { 0.0 },
                    Pressure::Targeted => {}
                }
            }
        }
        Kind::Lazy { every, .. } => {
            if let Some(last) = last
                && epoch % every != 0
            {
                return Word::Row(last.clone());
            }
        }
        Kind::Abstainer { fraction, .. } => {
            if whims.unit() < *fraction && last.is_some() {
                return Word::Nothing;
            }
        }
        Kind::SybilMiner { .. } => return Word::Nothing,
    }
    Word::Row(to_row(miners, scores))
}

/// Puts what was public into `scores`.
#[allow(clippy::cast_precision_loss)]
fn copy(public: &Public, source: Source, miners: &[Seen], scores: &mut [f64]) {
    let leader = public.leader.as_ref().filter(|_| source == Source::Validator);
    for (score, miner) in scores.iter_mut().zip(miners) {
        *score = match leader {
            Some(row) => {
                let at = row.binary_search_by_key(&miner.member, |of| of.0);
                at.ok().and_then(|at| row.get(at)).map_or(0.0, |of| f64::from(of.1))
            }
            None => {
                let at = public.consensus.binary_search_by_key(&miner.member, |of| of.0);
                at.ok().and_then(|at| public.consensus.get(at)).map_or(0.0, |of| of.1 as f64)
            }
        };
    }
}

/// Whether the ledger knows that an agent's validators and miners belong together (D8).
pub fn declared(kind: &Kind) -> bool {
    matches!(kind, Kind::Colluder { masked: true, .. } | Kind::SelfDealer { keys: Keys::Declared })
}

/// Whether a group that may hold back a reveal does so: `with` and `without` are what it would earn in this epoch, `usual`
/// what it earns on average.
pub fn holds_back(rule: RevealRule, with: f64, without: f64, usual: Option<f64>) -> bool {
    match rule {
        RevealRule::Always => false,
        RevealRule::Never => true,
        RevealRule::IfLosing => usual.is_some_and(|usual| with < usual),
        RevealRule::IfPaying => without > with,
    }
}

#[cfg(test)]
mod tests {
    use super::super::chance::Purpose;
    use super::*;

    fn miners(qualities: &[f64]) -> Vec<Seen> {
        let seen = |(id, quality): (u32, &f64)| Seen {
            member: MemberId(id),
            quality: *quality,
            earlier: 1.0,
            believed: *quality,
            owner: (id == 2).then_some(1),
            victim: id == 0,
        };
        (0..).zip(qualities).map(seen).collect()
    }

    fn row(kind: &Kind, qualities: &[f64], public: Option<&Public>) -> Vec<(u32, u32)> {
        let mut scores = Vec::new();
        let miners = miners(qualities);
        let view = View { agent: 1, kind, epoch: 1, miners: &miners, public, last: None, scores: &mut scores };
        let mut whims = Chance::new(1, Purpose::Whims(0));
        match write(view, &mut Chance::new(1, Purpose::Errors(0)), &mut whims) {
            Word::Row(row) => row.iter().map(|(id, value)| (id.0, *value)).collect(),
            Word::Nothing => Vec::new(),
        }
    }

    #[test]
    fn s03_each_kind_says_what_it_is_called_for() {
        let kind = |text: &str| serde_json::from_str::<Kind>(text).unwrap();
        let honest = kind(r#"{"kind":"honest","noise":0}"#);
        assert_eq!(row(&honest, &[1.0, 0.5, 0.0], None), [(0, 65_535), (1, 32_767)]);
        let squared = kind(r#"{"kind":"honest","noise":0,"power":2}"#);
        assert_eq!(row(&squared, &[1.0, 0.5, 0.0], None), [(0, 65_535), (1, 16_383)]);
        let down = kind(r#"{"kind":"downweight","victims":1,"noise":0}"#);
        assert_eq!(row(&down, &[1.0, 0.5, 0.5], None), [(1, 65_535), (2, 65_535)]);
        let all_in = kind(r#"{"kind":"downweight","victims":1,"mode":"all_in"}"#);
        assert_eq!(row(&all_in, &[1.0, 0.5, 0.5], None), [(1, 65_535)]);
        assert_eq!(row(&kind(r#"{"kind":"self_dealer","keys":"hidden"}"#), &[1.0; 3], None), [(2, 65_535)]);
        assert_eq!(row(&kind(r#"{"kind":"colluder"}"#), &[1.0; 3], None), [(2, 65_535)]);
        let late = kind(r#"{"kind":"late_mover","delay":3,"noise":0}"#);
        assert_eq!(row(&late, &[0.2, 0.1], None), [(0, 65_535), (1, 65_535)]);
        let public =
            Public { consensus: vec![(MemberId(0), 50), (MemberId(1), 100)], leader: Some([(MemberId(1), 9)].into()) };
        assert_eq!(row(&kind(r#"{"kind":"copier"}"#), &[1.0; 3], Some(&public)), [(0, 32_767), (1, 65_535)]);
        let of_leader = kind(r#"{"kind":"copier","source":"validator"}"#);
        assert_eq!(row(&of_leader, &[1.0; 3], Some(&public)), [(1, 65_535)]);
    }

    #[test]
    fn s03_a_non_revealer_holds_back_by_its_rule() {
        assert!(!holds_back(RevealRule::Always, 1.0, 9.0, Some(5.0)) && holds_back(RevealRule::Never, 1.0, 0.0, None));
        assert!(holds_back(RevealRule::IfLosing, 4.9, 0.0, Some(5.0)));
        assert!(!holds_back(RevealRule::IfLosing, 5.0, 0.0, Some(5.0)));
        assert!(holds_back(RevealRule::IfPaying, 1.0, 1.5, None) && !holds_back(RevealRule::IfPaying, 1.0, 1.0, None));
    }
}
