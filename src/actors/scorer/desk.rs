//! One subnet's desk: what was asked in this epoch, what came back, and the board it goes on from.
//!
//! Pure. A round belongs to the epoch it was put in; what comes later counts nowhere. An answer counts when its miner's
//! operator stands for it, and is kept, up to a bound, so that the log can be done again and not only added up.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Collected;
use super::errands::{Past, Revealing, Sending};
use crate::ml::mark::{Mark, whole};
use crate::ml::task::{self, Task};
use crate::protocol::commitment::Width;
use crate::protocol::ids::{ChainId, Digest, Epoch, Height, MemberId, PublicKey, SubnetId, hash};
use crate::protocol::parameters::SubnetRules;
use crate::protocol::query::Answer;
use crate::protocol::score_log::{
    ANSWER_BYTES_MAX, Board, ENTRIES_MAX, Entry, Head, Receipt, Rules, ScoreLog, answer_digest, bucket,
};

/// The version of what judges: a change in marks, folds or challenges is a new one.
const SCORER: &str = "starling/1 scorer";
/// Half the weight of a board is the newest epoch's.
const FRESH: u16 = 32_768;
/// New miners remembered as seen in one subnet.
const SEEN_MAX: usize = 1_024;
/// Bytes of answers kept for one log; entries beyond them are compared and not judged again.
const ANSWERS_BYTES_MAX: usize = 8 << 20;

/// The digest by which an opening names the scorer of a task and of how its miners compete.
pub fn scorer_digest(task: &str, competes: bool) -> Digest {
    let kind: &[u8] = if competes { b"competition" } else { b"" };
    hash(SCORER, &[task.as_bytes(), kind])
}

/// A challenge put to miners.
#[derive(Clone, Debug)]
pub struct Round {
    pub subnet: SubnetId,
    pub epoch: Epoch,
    pub seed: Digest,
    /// What receipts name it by.
    pub name: Digest,
    pub challenge: Arc<task::Challenge>,
    /// Who was asked, and who stands for their answers.
    pub operators: BTreeMap<MemberId, PublicKey>,
}

impl Round {
    /// The name that a challenge is known by to its miners: closed, so that the seed stays ours until the reveal.
    pub fn name(seed: Digest) -> Digest {
        hash("starling/1 challenge name", &[&seed.0])
    }

    /// What the round's report comes to before it is judged: the entries without their scores, and the answers.
    pub fn entries(&self, chain: ChainId, deadline_ms: u64, collected: Vec<Collected>) -> Vec<(Entry, Option<Answer>)> {
        let request = self.challenge.query.digest();
        let entry = |Collected { member, answer, receipt, latency_ms }| {
            let silent = Entry::silent(self.name, self.seed, member, request);
            let (Some(answer), Some(signature)) = (answer, receipt) else { return (silent, None) };
            let (subnet, query) = (self.subnet, self.name);
            let digest = answer_digest(&answer.layout());
            let receipt = Receipt { chain, subnet, member, query, request, answer: digest };
            let held = self.operators.get(&member).is_some_and(|key| receipt.check(key, &signature).is_ok());
            if !held {
                // What its operator does not stand for is no answer.
                metrics::counter!("starling_scorer_receipts_refused_total").increment(1);
                return (silent, None);
            }
            let arrival = bucket(latency_ms, deadline_ms);
            (Entry { answer: digest, receipt: Some(signature), arrival, ..silent }, Some(answer))
        };
        collected.into_iter().map(entry).collect()
    }
}

/// The desk.
#[derive(Debug)]
pub struct Desk {
    pub task: Arc<dyn Task>,
    pub epoch: Epoch,
    pub rounds_put: u64,
    /// How the commit of this epoch was sent, and whether it is to be at all.
    pub committing: Sending,
    pub seals: Option<bool>,
    /// The reveal that is under way, and what became of those before.
    pub revealing: Option<Revealing>,
    pub past: Past,
    /// How this epoch's addition to the bond was sent, and whether trouble with it was told.
    pub topping_up: Sending,
    pub bond_told: bool,
    /// The height it was last looked at.
    pub at: Height,
    /// Miners that answered and whose clock has not begun: since when, and how that was said (E14).
    pub seen: BTreeMap<MemberId, (Height, Sending)>,
    /// Models are judged here, and not answers to queries (M2).
    pub competes: bool,
    /// After the last epoch that was sealed.
    pub board: Board,
    pub last_row: BTreeMap<MemberId, u32>,
    entries: Vec<Entry>,
    answers: BTreeMap<Digest, Vec<u8>>,
    answers_bytes: usize,
    /// This epoch's log is made: what still comes counts nowhere.
    sealed: bool,
}

impl Desk {
    pub fn new(task: Arc<dyn Task>, epoch: Epoch, board: Board) -> Self {
        Self {
            task,
            epoch,
            rounds_put: 0,
            committing: Sending::default(),
            seals: None,
            revealing: None,
            past: Past::default(),
            topping_up: Sending::default(),
            bond_told: false,
            at: 0,
            seen: BTreeMap::new(),
            competes: false,
            board,
            last_row: BTreeMap::new(),
            entries: Vec::new(),
            answers: BTreeMap::new(),
            answers_bytes: 0,
            sealed: false,
        }
    }

    /// Turns to an epoch.
    pub fn open(&mut self, epoch: Epoch) {
        if self.epoch != epoch {
            (self.epoch, self.rounds_put, self.committing, self.seals) = (epoch, 0, Sending::default(), None);
            (self.topping_up, self.bond_told) = (Sending::default(), false);
            (self.answers_bytes, self.sealed) = (0, false);
            self.entries.clear();
            self.answers.clear();
        }
    }

    /// Remembers who answered; those beyond what fits are seen again later.
    pub fn saw(&mut self, miners: impl Iterator<Item = MemberId>) {
        for miner in miners {
            if self.seen.len() < SEEN_MAX {
                self.seen.entry(miner).or_insert((self.at, Sending::default()));
            }
        }
    }

    /// Puts a judged round into the epoch's log.
    pub fn record(&mut self, epoch: Epoch, judged: Vec<(Entry, Option<Answer>)>, marks: Vec<Mark>) {
        if self.epoch != epoch || self.sealed {
            return;
        }
        for ((entry, answer), mark) in judged.into_iter().zip(marks) {
            if self.entries.len() >= ENTRIES_MAX {
                return;
            }
            if let Some(bytes) = answer.map(|answer| answer.layout()).filter(|bytes| bytes.len() <= ANSWER_BYTES_MAX)
                && self.answers_bytes + bytes.len() <= ANSWERS_BYTES_MAX
            {
                self.answers_bytes += bytes.len();
                self.answers.insert(entry.answer, bytes);
            }
            self.entries.push(Entry { raw: mark.raw, score: mark.score, ..entry });
        }
    }

    /// The rules of this desk's fold (D13).
    pub fn rules(&self, deadline_ms: u64, samples: usize, of: &SubnetRules) -> Rules {
        Rules {
            // The scores of a competition are parts of a row already.
            chance: if self.competes { 0 } else { whole(self.task.chance_level()) },
            fresh: FRESH,
            deadline_ms: u32::try_from(deadline_ms).unwrap_or(u32::MAX),
            samples: u32::try_from(samples).unwrap_or(u32::MAX),
            full: Width::of(of.width).most(),
            // Models are told from their copies by what they get wrong.
            echoes_share: of.echoes == 1 && !self.competes,
        }
    }

    /// Whether this epoch's log is made.
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// Makes the epoch's log and goes on from its board.
    pub fn seal(&mut self, chain: ChainId, subnet: SubnetId, validator: MemberId, rules: Rules) -> ScoreLog {
        let (scorer, none) = (scorer_digest(self.task.name(), self.competes), Digest::ZERO);
        let head = Head { chain, subnet, epoch: self.epoch, validator, scorer, rules, before: none, after: none };
        let (entries, answers) = (std::mem::take(&mut self.entries), std::mem::take(&mut self.answers));
        let log = ScoreLog::new(head, entries, self.board.clone(), answers.into_values().collect());
        self.sealed = true;
        self.board = log.after();
        log
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::keys::SecretKey;
    use crate::protocol::parameters::NetworkKind;
    use crate::protocol::query::CLASSES;
    use crate::protocol::score_log::NEVER;

    const CHAIN: ChainId = ChainId([3; 32]);

    fn came(entry: &Entry) -> bool {
        entry.arrival != NEVER
    }

    fn round(task: &dyn Task) -> (Round, SecretKey) {
        let key = SecretKey::from_seed([5; 32]);
        let seed = Digest([1; 32]);
        let operators = [1, 2, 3].map(|member| (MemberId(member), key.public())).into();
        let challenge = Arc::new(task.challenge(seed, 4));
        (Round { subnet: SubnetId(1), epoch: 7, seed, name: Round::name(seed), challenge, operators }, key)
    }

    fn answered(round: &Round, member: u32, key: &SecretKey) -> Collected {
        let answer = Answer::Classes { probabilities: vec![vec![1; CLASSES]; 4] };
        let receipt = Receipt {
            chain: CHAIN,
            subnet: round.subnet,
            member: MemberId(member),
            query: round.name,
            request: round.challenge.query.digest(),
            answer: answer_digest(&answer.layout()),
        };
        let receipt = Some(receipt.sign(key));
        Collected { member: MemberId(member), answer: Some(answer), receipt, latency_ms: 10 }
    }

    #[test]
    fn d11_an_answer_counts_when_its_operator_stands_for_it() {
        let task: Arc<dyn Task> = Arc::from(task::open("vision").unwrap());
        let (round, key) = round(task.as_ref());
        let other = SecretKey::from_seed([6; 32]);
        let good = answered(&round, 1, &key);
        let bare = Collected { receipt: None, ..answered(&round, 2, &key) };
        let collected = vec![good, bare, answered(&round, 3, &other)];
        let entries = round.entries(CHAIN, 1_000, collected);
        let told: Vec<(u32, bool)> = entries.iter().map(|(entry, _)| (entry.miner.0, came(entry))).collect();
        assert_eq!(told, [(1, true), (2, false), (3, false)]);
        assert!(entries.iter().all(|(entry, answer)| came(entry) == answer.is_some()));
    }

    #[test]
    fn d13_a_desk_goes_on_from_the_board_it_sealed() {
        let task: Arc<dyn Task> = Arc::from(task::open("vision").unwrap());
        let (round, key) = round(task.as_ref());
        let mut desk = Desk::new(Arc::clone(&task), 7, Board::default());
        let judged = round.entries(CHAIN, 1_000, vec![answered(&round, 1, &key)]);
        let mark = Mark { raw: vec![u32::MAX, u32::MAX], score: u32::MAX };
        desk.record(6, judged.clone(), vec![mark.clone()]);
        desk.record(7, judged.clone(), vec![mark.clone()]);
        let rules = desk.rules(1_000, 4, &SubnetRules::defaults(NetworkKind::Devnet));
        let log = desk.seal(CHAIN, SubnetId(1), MemberId(0), rules);
        assert_eq!((log.entries.len(), log.answers.len()), (1, 1), "what belongs to another epoch counts nowhere");
        assert_eq!(log.row(), [(MemberId(1), 65_535)]);
        desk.record(7, judged, vec![mark]);
        desk.open(8);
        let next = desk.seal(CHAIN, SubnetId(1), MemberId(0), rules);
        assert_eq!(next.head.before, log.head.after);
        assert_eq!(next.after(), log.after(), "nobody was asked: nothing changes");
    }
}
