//! A competition's epoch at one validator (M2, M3): which models are in it, what they are asked, and what goes into the log.
//!
//! Pure. A model is in an epoch when it was shown before the epoch opened; the questions follow from the checkpoint that
//! opened it, so nobody knew them when the model was made, and every validator asks the same. What a model says is said by
//! the validator that ran it: its operator signs the receipts of such a log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::ledger::rows::Subnet;
use crate::ledger::state::State;
use crate::ml::competition::{self, ENTRIES_MAX, question, score_of};
use crate::ml::mark::Mark;
use crate::ml::task::{Challenge, Task};
use crate::protocol::ids::{AccountId, ChainId, Digest, Epoch, Height, MemberId, SubnetId};
use crate::protocol::keys::SecretKey;
use crate::protocol::query::Answer;
use crate::protocol::score_log::{Entry, Receipt, answer_digest};
use crate::protocol::transaction::Role;

/// Questions put to every model in an epoch, and samples of each.
pub const QUESTIONS: u64 = 4;
pub const SAMPLES: usize = 128;
/// A model larger than this is not run.
pub const MODEL_BYTES_MAX: u64 = 32 << 20;

/// A model that is in the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rival {
    pub member: MemberId,
    pub artifact: Digest,
    pub since: Height,
    /// Epochs since it was shown.
    pub age: u32,
}

/// What became of running a model.
#[derive(Clone, Debug)]
pub struct Ran {
    /// One for each question.
    pub answers: Vec<Answer>,
    /// One for each sample of all questions.
    pub scores: Vec<u32>,
}

/// Epochs from one height to another.
pub fn age(shown: Height, opened: Height, tempo: u64) -> u32 {
    u32::try_from(opened.saturating_sub(shown) / tempo.max(1)).unwrap_or(u32::MAX)
}

/// The models of an epoch: of each miner the one it showed last. Where they are too many, half of the places go to those
/// that earn most, and the rest to the newest.
pub fn rivals(state: &State, id: SubnetId, of: &Subnet) -> Vec<Rival> {
    let miners: BTreeMap<AccountId, (MemberId, u32)> = state
        .members(id)
        .filter(|(_, member)| member.role == Role::Miner)
        .map(|(member, row)| (row.account, (member, row.incentive)))
        .collect();
    let mut newest: BTreeMap<MemberId, (Height, u32, Rival)> = BTreeMap::new();
    for (artifact, model) in state.models(id) {
        let Some((member, incentive)) = miners.get(&model.publisher) else { continue };
        if model.published >= of.opened || model.bytes > MODEL_BYTES_MAX {
            continue;
        }
        let age = age(model.published, of.opened, of.rules.tempo);
        let rival = Rival { member: *member, artifact, since: model.since, age };
        let found = (model.published, *incentive, rival);
        let last = newest.entry(*member).or_insert(found);
        if (last.0, last.2.artifact) < (found.0, artifact) {
            *last = found;
        }
    }
    let mut all: Vec<(Height, u32, Rival)> = newest.into_values().collect();
    if all.len() > ENTRIES_MAX {
        all.sort_by_key(|(_, incentive, rival)| (std::cmp::Reverse(*incentive), rival.since));
        let mut rest = all.split_off(ENTRIES_MAX / 2);
        rest.sort_by_key(|(_, _, rival)| (std::cmp::Reverse(rival.since), rival.member));
        all.extend(rest.into_iter().take(ENTRIES_MAX - ENTRIES_MAX / 2));
        metrics::counter!("starling_net_queue_dropped_total", "queue" => "competitors").increment(1);
    }
    let mut rivals: Vec<Rival> = all.into_iter().map(|(_, _, rival)| rival).collect();
    rivals.sort_by_key(|rival| rival.member);
    rivals
}

/// How far a validator is with an epoch's competition.
#[derive(Clone, Debug, Default)]
pub struct Contest {
    pub epoch: Epoch,
    /// The checkpoint that opened the epoch. A validator that did not see it makes no verdict in this epoch.
    pub ground: Option<Digest>,
    /// It is asked which models are here.
    pub looking: bool,
    /// The models run, or have run.
    pub begun: bool,
}

impl Contest {
    /// Takes a height's news; whether there is something to look at now.
    pub fn height(&mut self, of: &Subnet, height: Height, hash: Digest) -> bool {
        if self.epoch != of.epoch {
            *self = Self { epoch: of.epoch, ..Self::default() };
        }
        if height == of.opened {
            self.ground = Some(hash);
        }
        self.ground.is_some() && !self.begun && !self.looking
    }
}

/// When a validator stops waiting for models that are still on their way: half of the epoch.
pub fn waits(of: &Subnet, height: Height) -> bool {
    height < of.opened + (of.next_open.saturating_sub(of.opened)) / 2
}

/// The questions of an epoch.
pub fn questions(task: &dyn Task, ground: Digest, subnet: SubnetId, epoch: Epoch) -> Vec<(Digest, Challenge)> {
    let one = |index| {
        let seed = question(ground, subnet, epoch, index);
        (seed, task.challenge(seed, SAMPLES))
    };
    (0..QUESTIONS).map(one).collect()
}

/// Whose log it is.
#[derive(Clone, Copy, Debug)]
pub struct Author<'a> {
    pub chain: ChainId,
    pub subnet: SubnetId,
    pub operator: &'a SecretKey,
}

/// An entry of a log, its answer and its mark.
type Line = ((Entry, Option<Answer>), Mark);

/// What goes into the log: for every model and question an entry, with what the verdict gives its miner.
pub fn lines(
    by: &Author<'_>,
    questions: &[(Digest, Challenge)],
    ran: Vec<(Rival, Option<Ran>)>,
    (chance, half_life): (u32, u32),
) -> Vec<Line> {
    let entries: Vec<competition::Entry> = ran
        .iter()
        .filter_map(|(rival, ran)| {
            let Rival { member, artifact, since, age } = *rival;
            Some(competition::Entry { member, artifact, since, age, scores: ran.as_ref()?.scores.clone() })
        })
        .collect();
    let verdicts = competition::judge(&entries, chance, half_life);
    let shares: BTreeMap<MemberId, u32> = verdicts.iter().map(|of| (of.member, of.share)).collect();
    let mut lines = Vec::new();
    for (rival, ran) in ran {
        let share = shares.get(&rival.member).copied().unwrap_or(0);
        let mut said = ran.map(|ran| (ran.answers.into_iter(), ran.scores));
        for (index, (seed, challenge)) in questions.iter().enumerate() {
            let silent = Entry::silent(rival.artifact, *seed, rival.member, challenge.query.digest());
            let Some((answer, scores)) = said.as_mut().and_then(|(answers, scores)| Some((answers.next()?, &*scores)))
            else {
                lines.push(((silent, None), Mark::default()));
                continue;
            };
            let entry = Entry { answer: answer_digest(&answer.layout()), arrival: 0, ..silent };
            let receipt = Some(signed(by, &entry));
            let of_question: Vec<u32> = scores.iter().skip(index * SAMPLES).take(SAMPLES).copied().collect();
            let quality = competition::mean(&of_question);
            let mark = Mark { raw: vec![quality, share, rival.age], score: score_of(share) };
            lines.push(((Entry { receipt, ..entry }, Some(answer)), mark));
        }
    }
    lines
}

fn signed(by: &Author<'_>, entry: &Entry) -> crate::protocol::keys::Signature {
    let Entry { query, request, answer, miner: member, .. } = *entry;
    Receipt { chain: by.chain, subnet: by.subnet, member, query, request, answer }.sign(by.operator)
}

/// The artifacts of an epoch's rivals.
pub fn wanted(rivals: &[Rival]) -> BTreeSet<Digest> {
    rivals.iter().map(|rival| rival.artifact).collect()
}

/// The challenges alone, for the worker that runs the models.
pub fn challenges(questions: &[(Digest, Challenge)]) -> Arc<Vec<Challenge>> {
    Arc::new(questions.iter().map(|(_, challenge)| challenge.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::draft::Draft;
    use crate::ledger::economy::rows::Standing;
    use crate::ledger::models::Model;
    use crate::ledger::rows::Member;
    use crate::protocol::artifact::publish::Licence;
    use crate::protocol::genesis::{Genesis, GenesisSubnet};
    use crate::protocol::ids::PublicKey;
    use crate::protocol::parameters::{NetworkKind, SubnetRules};

    const ARENA: SubnetId = SubnetId(1);

    fn member(of: u8, incentive: u32) -> Member {
        Member {
            account: AccountId([of; 32]),
            role: Role::Miner,
            operator: PublicKey([of; 32]),
            bond: 0,
            registered: 1,
            leaving: false,
            permit: false,
            last_reveal: None,
            missed: 0,
            consensus: 0,
            incentive,
            dividend: 0,
            trust: 0,
            earned: 0,
            owed: 0,
            score: 0,
            standing: Standing::Active,
        }
    }

    fn model(of: u8, since: Height, published: Height) -> Model {
        Model {
            publisher: AccountId([of; 32]),
            manifest: Digest::ZERO,
            bytes: 1_000,
            parent: Digest::ZERO,
            licence: Licence(1),
            claims: Vec::new(),
            since,
            published,
        }
    }

    /// A subnet in its third epoch, opened at height 20, with these miners' models: (miner, incentive, artifact, model).
    fn state(models: &[(u8, u32, u8, Model)]) -> State {
        let mut genesis = Genesis::new("testnet", NetworkKind::Devnet, 1_700_000_000_000);
        let rules = SubnetRules { kind: 1, ..SubnetRules::defaults(NetworkKind::Devnet) };
        let (name, task) = ("arena".to_owned(), "vision".to_owned());
        genesis.subnets = vec![GenesisSubnet { id: ARENA, name, task, owner: None, rules }];
        let state = State::genesis(&genesis);
        let mut draft = Draft::new(&state);
        draft.change::<Subnet>(&ARENA, |of| (of.epoch, of.opened, of.next_open) = (3, 20, 30));
        for (of, incentive, artifact, model) in models {
            draft.put(&(ARENA, MemberId((*of).into())), member(*of, *incentive));
            draft.put(&(ARENA, Digest([*artifact; 32])), model.clone());
        }
        draft.seal(&state).0
    }

    fn chosen(state: &State) -> Vec<(u32, u8)> {
        let rivals = rivals(state, ARENA, state.subnet(ARENA).unwrap());
        rivals.iter().map(|rival| (rival.member.0, rival.artifact.0[0])).collect()
    }

    #[test]
    fn m02_what_was_shown_before_the_epoch_opened_is_in_it_the_last_of_each_miner() {
        let large = Model { bytes: MODEL_BYTES_MAX + 1, ..model(4, 5, 6) };
        let stranger = model(9, 1, 2);
        let state = state(&[
            (1, 0, 11, model(1, 3, 5)),
            (1, 0, 12, model(1, 8, 9)),
            (2, 0, 21, model(2, 10, 20)),
            (3, 0, 31, model(3, 10, 19)),
            (4, 0, 41, large),
            (5, 0, 91, stranger),
        ]);
        assert_eq!(chosen(&state), [(1, 12), (3, 31)]);
        let found = rivals(&state, ARENA, state.subnet(ARENA).unwrap());
        assert_eq!((found[0].since, found[0].age, found[1].age), (8, 1, 0));
    }

    #[test]
    fn m02_sixteen_models_at_most_those_that_earn_and_the_newest() {
        let models: Vec<_> = (1..=30_u8)
            .map(|of| (of, if of <= 10 { 1_000 - u32::from(of) } else { 0 }, of, model(of, (of / 2).into(), 19)))
            .collect();
        let chosen = chosen(&state(&models));
        assert_eq!(chosen.len(), ENTRIES_MAX);
        let members: Vec<u32> = chosen.iter().map(|of| of.0).collect();
        assert_eq!(members, [1, 2, 3, 4, 5, 6, 7, 8, 22, 24, 25, 26, 27, 28, 29, 30]);
    }

    #[test]
    fn m03_questions_follow_from_the_checkpoint_that_opened_the_epoch() {
        let (subnet, mut contest) = (state(&[]).subnet(ARENA).unwrap().clone(), Contest::default());
        assert!(!contest.height(&subnet, 21, Digest([1; 32])), "who did not see the epoch open does not judge it");
        assert!(contest.height(&subnet, 20, Digest([2; 32])));
        assert!(contest.height(&subnet, 22, Digest([3; 32])));
        assert_eq!(contest.ground, Some(Digest([2; 32])));
        contest.begun = true;
        assert!(!contest.height(&subnet, 23, Digest([3; 32])), "once an epoch");
        let next = Subnet { epoch: 4, opened: 30, ..subnet.clone() };
        assert!(contest.height(&next, 30, Digest([4; 32])) && contest.ground == Some(Digest([4; 32])));
        let seeds = |ground: u8, epoch| (0..QUESTIONS).map(move |i| question(Digest([ground; 32]), ARENA, epoch, i));
        let all: BTreeSet<Digest> = seeds(2, 3).chain(seeds(4, 4)).chain(seeds(4, 3)).collect();
        assert_eq!(all.len() as u64, 3 * QUESTIONS);
        assert!(waits(&subnet, 24) && !waits(&subnet, 25));
    }
}
