//! The machine alone, step by step: what one member does in the cases that matter one by one.

use std::sync::Arc;

use super::*;
use crate::protocol::checkpoint::{
    Ballot, Body, Candidate, Certificate, Checkpoint, GenesisHeader, Justification, Proposal, Subject, Vote, VoteKind,
    attendance_hash,
};
use crate::protocol::committee::{Bitmap, CommitteeContext, CommitteeMember};
use crate::protocol::ids::{NodeId, View};
use crate::protocol::keys::SecretKey;
use crate::protocol::sync::{Get, Got, Range};

const START: u64 = 1_000_000;

struct Bench {
    params: Params,
    context: CommitteeContext,
    schedule: Schedule,
    keys: Vec<SecretKey>,
    genesis: Header,
}

impl Bench {
    fn new() -> Self {
        let mut keys: Vec<SecretKey> = (1..=4).map(|i| SecretKey::from_seed([i; 32])).collect();
        keys.sort_by_key(SecretKey::public);
        let member = |key: &SecretKey| CommitteeMember { key: key.public(), weight: 1, account: key.public().into() };
        let committee = Committee::new(0, keys.iter().map(member).collect()).unwrap();
        let chain = ChainId([5; 32]);
        let context = CommitteeContext::new(chain, committee.clone());
        let seed = Digest([9; 32]);
        let genesis = Header::genesis(GenesisHeader {
            chain,
            timestamp_ms: START,
            state_root: Digest([1; 32]),
            receipt_root: Digest::ZERO,
            record_root: Digest::ZERO,
            set_hash: context.set_hash(),
            next_set_hash: context.set_hash(),
            params_hash: Digest::ZERO,
        });
        let schedule = Schedule::new(&committee, seed);
        let params = Params {
            chain,
            committee,
            seed,
            interval_ms: 1_000,
            idle_ms: 1_000,
            delta_ms: 500,
            delta_max_ms: 16_000,
            build_ms: 200,
        };
        Self { params, context, schedule, keys, genesis }
    }

    fn machine(&self, member: Option<usize>, records: Vec<Record>) -> Machine {
        let key = member.map(|at| self.keys[at].clone());
        let tip = Tip { header: self.genesis.clone(), certificate: None };
        Machine::new(self.params.clone(), key, tip, records)
    }

    /// A member that does not lead the view.
    fn follower(&self, view: View) -> usize {
        (0..4).find(|at| *at != usize::from(self.schedule.leader(view))).unwrap()
    }

    fn vote(&self, signer: usize, view: View, ballot: Ballot) -> Vote {
        let subject = Subject { term: 0, view, ballot };
        Vote::sign(&self.context, subject, u16::try_from(signer).unwrap(), &self.keys[signer])
    }

    fn certificate(&self, view: View, ballot: Ballot) -> Certificate {
        let subject = Subject { term: 0, view, ballot };
        let signatures = (0_u16..3).map(|at| (at, self.vote(usize::from(at), view, ballot).signature)).collect();
        Certificate::gather(&self.context, subject, &signatures, true).unwrap()
    }

    fn header(&self, parent: &Header, view: View, body: &Body) -> Header {
        Header {
            height: parent.height + 1,
            view,
            timestamp_ms: parent.timestamp_ms + 1_000,
            proposer: self.schedule.leader(view),
            tx_count: u32::try_from(body.transactions.len()).unwrap(),
            parent_hash: parent.hash(),
            body_root: body.root(),
            attendance_hash: attendance_hash(body.attendance.as_bytes()),
            ..parent.clone()
        }
    }

    fn proposal(&self, parent: &Header, view: View, mark: u8, justification: Justification) -> Proposal {
        let attendance = justification.parent.as_ref().map_or(Bitmap::default(), |c| c.signers.clone());
        let body = Body { attendance, transactions: vec![vec![mark]] };
        let header = self.header(parent, view, &body);
        let candidate = Candidate { hash: header.hash(), parent_view: parent.view };
        let vote = self.vote(usize::from(self.schedule.leader(view)), view, Ballot::Notarize(candidate));
        Proposal { header, body, justification, vote }
    }

    fn first(&self, mark: u8) -> Proposal {
        self.proposal(&self.genesis, 1, mark, Justification::default())
    }

    /// Final checkpoints 1 to `count`, one per view, each with its own finalization.
    fn chain(&self, count: u64) -> Vec<Checkpoint> {
        let mut parent = self.genesis.clone();
        (1..=count)
            .map(|view| {
                let body = Body { attendance: Bitmap::default(), transactions: vec![view.to_le_bytes().to_vec()] };
                let header = self.header(&parent, view, &body);
                let candidate = Candidate { hash: header.hash(), parent_view: parent.view };
                parent = header.clone();
                let certificate = Some(self.certificate(view, Ballot::Finalize(candidate)));
                Checkpoint { header, body, certificate }
            })
            .collect()
    }
}

fn at(ms: u64) -> Now {
    Now { mono_ms: ms, wall_ms: START + ms }
}

fn from(peer: u8) -> Source {
    Source { peer: NodeId([peer; 32]), relayed: true }
}

fn hear(machine: &mut Machine, ms: u64, proposal: &Proposal) -> Vec<Effect> {
    machine.step(at(ms), Input::HearProposal { from: from(7), proposal: Box::new(proposal.clone()) })
}

fn hear_certificate(machine: &mut Machine, ms: u64, certificate: Certificate) -> Vec<Effect> {
    machine.step(at(ms), Input::HearCertificate { from: from(7), certificate })
}

fn valid(machine: &mut Machine, ms: u64, proposal: &Proposal) -> Vec<Effect> {
    machine.step(at(ms), Input::Checked { hash: proposal.header.hash(), verdict: Verdict::Valid })
}

fn votes(effects: &[Effect]) -> Vec<Vote> {
    effects.iter().filter_map(|e| if let Effect::SendVote(vote) = e { Some(*vote) } else { None }).collect()
}

fn kinds(effects: &[Effect]) -> Vec<VoteKind> {
    votes(effects).iter().map(|vote| vote.subject.ballot.kind()).collect()
}

fn persisted(effects: &[Effect]) -> Vec<Record> {
    let records =
        effects.iter().filter_map(|e| if let Effect::Persist(records) = e { Some(records.clone()) } else { None });
    records.flatten().collect()
}

fn fires(machine: &mut Machine, ms: u64, kind: TimerKind) -> Vec<Effect> {
    let view = machine.status().view;
    machine.step(at(ms), Input::Timer(TimerId { kind, view }))
}

#[test]
fn a_vote_is_persisted_with_its_body_before_it_is_sent_and_sent_again_verbatim_after_a_crash() {
    let bench = Bench::new();
    let me = bench.follower(1);
    let mut machine = bench.machine(Some(me), vec![]);
    machine.step(at(0), Input::Start);
    let proposal = bench.first(1);
    assert!(hear(&mut machine, 10, &proposal).contains(&Effect::Judge(Validity::Accept)));
    let effects = valid(&mut machine, 20, &proposal);
    assert!(matches!(&effects[0], Effect::Persist(records)
        if matches!(&records[..], [Record::Candidate { .. }, Record::Vote(_)])));
    assert_eq!(kinds(&effects), [VoteKind::Notarize]);

    // X16: the journal was synced, the vote perhaps not sent.
    let records = persisted(&effects);
    let bytes: Vec<Vec<u8>> = records.iter().map(Record::layout).collect();
    let records: Vec<Record> = bytes.iter().map(|bytes| Record::from_layout(bytes).unwrap()).collect();
    let mut again = bench.machine(Some(me), records);
    assert_eq!(votes(&again.step(at(0), Input::Start)), votes(&effects));
    let other = bench.first(2);
    hear(&mut again, 10, &other);
    assert_eq!(kinds(&valid(&mut again, 20, &other)), [], "nothing else in this view");

    // X17: without the sync the vote never left, so another is lawful.
    let mut free = bench.machine(Some(me), vec![]);
    free.step(at(0), Input::Start);
    hear(&mut free, 10, &other);
    assert_eq!(kinds(&valid(&mut free, 20, &other)), [VoteKind::Notarize]);
}

#[test]
fn three_votes_notarize_three_finalize_and_the_checkpoint_is_final_once() {
    let bench = Bench::new();
    let me = bench.follower(1);
    let mut machine = bench.machine(Some(me), vec![]);
    machine.step(at(0), Input::Start);
    let proposal = bench.first(1);
    let candidate = proposal.candidate().unwrap();
    hear(&mut machine, 10, &proposal);
    valid(&mut machine, 20, &proposal);
    let others: Vec<usize> = (0..4).filter(|at| *at != me).collect();
    let say = |machine: &mut Machine, ballot| {
        let votes = others.iter().map(|signer| bench.vote(*signer, 1, ballot));
        votes.flat_map(|vote| machine.step(at(30), Input::HearVote { from: from(7), vote })).collect::<Vec<_>>()
    };
    let notarized = say(&mut machine, Ballot::Notarize(candidate));
    assert_eq!(kinds(&notarized), [VoteKind::Finalize]);
    assert_eq!(machine.status().view, 2);
    let finalized = say(&mut machine, Ballot::Finalize(candidate));
    let finals: Vec<_> = finalized.iter().filter(|effect| matches!(effect, Effect::Finalise(_))).collect();
    assert_eq!((finals.len(), machine.status().height), (1, 1));
    let settled = machine.step(at(40), Input::Finalised { height: 1, hash: candidate.hash });
    assert!(settled.contains(&Effect::DropJournal { mark: 1 }));
}

#[test]
fn an_observer_follows_and_never_votes() {
    let bench = Bench::new();
    let mut machine = bench.machine(None, vec![]);
    machine.step(at(0), Input::Start);
    let proposal = bench.first(1);
    let candidate = proposal.candidate().unwrap();
    let mut effects = hear(&mut machine, 10, &proposal);
    effects.extend(valid(&mut machine, 20, &proposal));
    effects.extend(hear_certificate(&mut machine, 30, bench.certificate(1, Ballot::Finalize(candidate))));
    assert_eq!((votes(&effects), machine.status().height, machine.member()), (vec![], 1, None));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Publish(_))));
}

#[test]
fn timers_give_a_view_up_once_and_late_ones_are_ignored() {
    let bench = Bench::new();
    let mut machine = bench.machine(Some(bench.follower(1)), vec![]);
    machine.step(at(0), Input::Start);
    let early = fires(&mut machine, 1_999, TimerKind::Leader);
    assert!(matches!(early[..], [Effect::SetTimer { after_ms: 1, .. }]), "{early:?}");
    assert_eq!(kinds(&fires(&mut machine, 2_000, TimerKind::Leader)), [VoteKind::Nullify]);
    assert_eq!(kinds(&fires(&mut machine, 3_000, TimerKind::View)), []);
    assert_eq!(kinds(&fires(&mut machine, 3_000, TimerKind::Resend)), [VoteKind::Nullify]);
    hear_certificate(&mut machine, 3_100, bench.certificate(1, Ballot::Nullify));
    let late = TimerId { kind: TimerKind::Resend, view: 1 };
    assert_eq!(machine.step(at(9_000), Input::Timer(late)), []);
    let proposal = bench.first(1);
    assert_eq!(kinds(&hear(&mut machine, 9_001, &proposal)), [], "the view is over");
}

#[test]
fn a_deliverer_answers_for_what_it_can_change_and_the_leader_for_what_it_signed() {
    let bench = Bench::new();
    let good = bench.first(1);
    let penalty = |effects: &[Effect]| {
        effects.iter().find_map(|e| if let Effect::Penalise { fault, .. } = e { Some(*fault) } else { None })
    };
    let outcome = |proposal: &Proposal| {
        let mut machine = bench.machine(Some(bench.follower(1)), vec![]);
        machine.step(at(0), Input::Start);
        let effects = hear(&mut machine, 10, proposal);
        let then = hear(&mut machine, 11, &good);
        (penalty(&effects), kinds(&effects), then.contains(&Effect::Judge(Validity::Accept)))
    };
    let mut body = good.clone();
    body.body.transactions.push(vec![9]);
    assert_eq!(outcome(&body), (Some(Fault::WrongBody), vec![], true));
    let mut forged = good.clone();
    forged.vote.signature.0[5] ^= 1;
    assert_eq!(outcome(&forged), (Some(Fault::BadSignature), vec![], true));
    let mut other = good.clone();
    other.header.timestamp_ms += 1;
    assert_eq!(outcome(&other), (Some(Fault::WrongLeader), vec![], true));
    let mut attended = good.clone();
    attended.body.attendance = Bitmap::of(4, [0]);
    assert_eq!(outcome(&attended), (Some(Fault::WrongBody), vec![], true));

    // Signed by the leader and wrong: nullified at once, whatever comes later.
    let mut lie = bench.first(3);
    lie.header.tx_count = 9;
    let candidate = Candidate { hash: lie.header.hash(), parent_view: 0 };
    lie.vote = bench.vote(usize::from(bench.schedule.leader(1)), 1, Ballot::Notarize(candidate));
    let (fault, said, _) = outcome(&lie);
    assert_eq!((fault, said), (None, vec![VoteKind::Nullify]));

    // X5: views skipped without proof.
    let mut machine = bench.machine(Some(bench.follower(2)), vec![]);
    machine.step(at(0), Input::Start);
    let skips = bench.proposal(&bench.genesis, 2, 1, Justification::default());
    assert_eq!(penalty(&hear(&mut machine, 10, &skips)), Some(Fault::Unjustified));
}

#[test]
fn a_proposal_from_the_future_is_held_until_it_is_not() {
    let bench = Bench::new();
    let me = bench.follower(1);
    let mut machine = bench.machine(Some(me), vec![]);
    let wall = |mono_ms: u64, wall_ms: u64| Now { mono_ms, wall_ms };
    machine.step(wall(0, START - 20_000), Input::Start);
    let proposal = bench.first(1);
    machine.step(wall(10, START - 20_000), Input::HearProposal { from: from(7), proposal: Box::new(proposal.clone()) });
    let checked = Input::Checked { hash: proposal.header.hash(), verdict: Verdict::Valid };
    let held = machine.step(wall(20, START - 20_000), checked);
    let id = TimerId { kind: TimerKind::Hold, view: 1 };
    assert_eq!(held, [Effect::SetTimer { id, after_ms: 11_000 }]);
    let due = machine.step(wall(11_020, START - 9_000), Input::Timer(id));
    assert_eq!(kinds(&due), [VoteKind::Notarize]);
}

#[test]
fn more_skips_than_a_proposal_carries_are_fetched() {
    let bench = Bench::new();
    let leader_of = |view| usize::from(bench.schedule.leader(view));
    let view = 21;
    let skips: Vec<Certificate> = (1..view).rev().map(|view| bench.certificate(view, Ballot::Nullify)).collect();
    let mut machine = bench.machine(Some(bench.follower(view)), vec![]);
    machine.step(at(0), Input::Start);
    machine.step(at(0), Input::Peers(vec![NodeId([1; 32])]));
    let justification = Justification { parent: None, skips: skips[..16].to_vec() };
    let proposal = bench.proposal(&bench.genesis, view, 1, justification);
    assert_eq!(usize::from(proposal.header.proposer), leader_of(view));
    assert!(hear(&mut machine, 10, &proposal).contains(&Effect::Judge(Validity::Accept)));
    assert_eq!((machine.status().view, kinds(&valid(&mut machine, 20, &proposal))), (view, vec![]));
    let timer = |ms| Input::Timer(TimerId { kind: TimerKind::Sync, view: if ms == 250 { 1 } else { view } });
    let asked: Vec<Effect> = [250, 500].into_iter().flat_map(|ms| machine.step(at(ms), timer(ms))).collect();
    let question = asked.iter().find_map(|effect| match effect {
        Effect::Fetch { id, get: Get::Certificates { from: 1, to: 4, .. }, .. } => Some(*id),
        _ => None,
    });
    let extended = fires(&mut machine, 35_000, TimerKind::View);
    assert!(matches!(extended[..], [Effect::SetTimer { .. }]), "the view's time once more: {extended:?}");
    let got = Got::Certificates(skips[16..].to_vec());
    let effects = machine.step(at(35_010), Input::Got { id: question.unwrap(), got });
    assert_eq!(kinds(&effects), [VoteKind::Notarize]);
}

#[test]
fn ranges_are_taken_whole_and_forged_ones_cost_the_peer() {
    let bench = Bench::new();
    let stored = bench.chain(10);
    let ask = |machine: &mut Machine| {
        let peer = NodeId([1; 32]);
        machine.step(at(0), Input::Start);
        machine.step(at(0), Input::Peers(vec![peer]));
        let status = bench.machine(None, vec![]).status();
        let status = crate::protocol::sync::Status { height: 10, view: 11, ..status };
        machine.step(at(1), Input::HearStatus { from: peer, status });
        let effects = machine.step(at(250), Input::Timer(TimerId { kind: TimerKind::Sync, view: 1 }));
        effects.iter().find_map(|effect| match effect {
            Effect::Fetch { id, get: Get::Range { from: 1, count }, .. } => Some((*id, *count)),
            _ => None,
        })
    };
    let mut machine = bench.machine(Some(0), vec![]);
    let (id, count) = ask(&mut machine).unwrap();
    assert_eq!(count, 10);
    let effects = machine.step(at(300), Input::Got { id, got: assemble(stored.clone(), count) });
    let finals = effects.iter().filter(|effect| matches!(effect, Effect::Finalise(_))).count();
    assert_eq!((finals, machine.status().height, machine.status().view), (10, 10, 11));

    let Got::Range(good) = assemble(stored.clone(), 10) else { panic!("a range") };
    let forgeries: [fn(&mut Range); 6] = [
        |range| range.checkpoints[3].body.transactions.push(vec![1]),
        |range| range.checkpoints[3].header.timestamp_ms += 1,
        |range| drop(range.checkpoints.remove(4)),
        |range| range.certificate.signatures[0].0[1] ^= 1,
        |range| range.certificate = range.checkpoints[8].certificate.clone().unwrap(),
        |range| drop(range.checkpoints.pop()),
    ];
    for (case, forge) in forgeries.iter().enumerate() {
        let mut range = good.clone();
        forge(&mut range);
        let mut machine = bench.machine(Some(0), vec![]);
        let (id, _) = ask(&mut machine).unwrap();
        let effects = machine.step(at(300), Input::Got { id, got: Got::Range(range) });
        let blamed = effects.iter().any(|e| matches!(e, Effect::Penalise { fault: Fault::WrongAnswer, .. }));
        assert_eq!((blamed, machine.status().height), (true, 0), "case {case}");
    }
}

#[test]
fn answers_end_at_a_certificate_or_carry_links_to_one() {
    let bench = Bench::new();
    let mut stored = bench.chain(10);
    for checkpoint in &mut stored[1..8] {
        checkpoint.certificate = None;
    }
    let shape = |got| match got {
        Got::Range(range) => Some((range.checkpoints.len(), range.links.len(), range.certificate.subject.view)),
        _ => None,
    };
    assert_eq!(shape(assemble(stored.clone(), 10)), Some((10, 0, 10)));
    assert_eq!(shape(assemble(stored.clone(), 1)), Some((1, 0, 1)));
    assert_eq!(shape(assemble(stored.clone(), 3)), Some((3, 6, 9)));
    assert_eq!(shape(assemble(stored[..8].to_vec(), 3)), None, "nothing proves these");
    assert_eq!(shape(assemble(vec![], 3)), None);

    let mut machine = bench.machine(None, vec![]);
    machine.step(at(0), Input::Start);
    let Got::Range(range) = assemble(stored, 3) else { panic!("a range") };
    machine.planner.keep_range(1, NodeId([1; 32]), range);
    machine.step(at(1), Input::Timer(TimerId { kind: TimerKind::Sync, view: 1 }));
    machine.step(at(250), Input::Timer(TimerId { kind: TimerKind::Sync, view: 1 }));
    assert_eq!(
        (machine.status().height, machine.status().view),
        (3, 10),
        "final to 3, and led on by the links' certificate"
    );
}

#[test]
fn two_finalizations_that_contradict_stop_the_node_for_good() {
    let bench = Bench::new();
    let records = {
        let mut machine = bench.machine(Some(0), vec![]);
        machine.step(at(0), Input::Start);
        let [one, two] = [bench.first(1), bench.first(2)];
        hear(&mut machine, 10, &one);
        let mut records = Vec::new();
        for proposal in [&one, &two] {
            let ballot = Ballot::Finalize(proposal.candidate().unwrap());
            let effects = hear_certificate(&mut machine, 20, bench.certificate(1, ballot));
            records.extend(persisted(&effects));
            let halts = effects.iter().any(|effect| matches!(effect, Effect::Halt(_)));
            assert_eq!((halts, machine.is_halted()), (proposal == &two, proposal == &two));
        }
        assert_eq!(machine.step(at(9_000), Input::Pending(true)), []);
        records
    };
    let mut again = bench.machine(Some(0), records);
    let effects = again.step(at(0), Input::Start);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Halt(_))), "it stays stopped: {effects:?}");
}

#[test]
fn a_diverging_ledger_stops_the_node() {
    let bench = Bench::new();
    let mut machine = bench.machine(Some(0), vec![]);
    machine.step(at(0), Input::Start);
    let halt = Halt::Diverged { height: 4, hash: Digest([4; 32]) };
    let effects = machine.step(at(1), Input::Diverged { height: 4, hash: Digest([4; 32]) });
    assert_eq!(effects, [Effect::Halt(Box::new(halt))]);
}

#[test]
fn a_leader_builds_late_sends_on_time_and_counts_everybody_who_attended() {
    let bench = Bench::new();
    let leader = usize::from(bench.schedule.leader(2));
    let mut machine = bench.machine(Some(leader), vec![]);
    machine.step(at(0), Input::Start);
    let first = bench.first(1);
    let ballot = Ballot::Notarize(first.candidate().unwrap());
    hear(&mut machine, 1_000, &first);
    valid(&mut machine, 1_010, &first);
    let certificate = bench.certificate(1, ballot);
    let effects = hear_certificate(&mut machine, 1_100, certificate);
    let id = TimerId { kind: TimerKind::Propose, view: 2 };
    assert!(effects.contains(&Effect::SetTimer { id, after_ms: 700 }), "{effects:?}");
    machine.step(at(1_200), Input::HearVote { from: from(7), vote: bench.vote(3, 1, ballot) });
    let effects = machine.step(at(1_800), Input::Timer(id));
    let draft =
        effects.iter().find_map(|e| if let Effect::Build(draft) = e { Some(draft.clone()) } else { None }).unwrap();
    assert_eq!((draft.height, draft.timestamp_ms, draft.attendance.count()), (2, START + 2_000, 4));
    let body = draft.body(vec![vec![1; 100]]);
    let header = draft.header(&body, &Roots::default());
    let built = Input::Built { ticket: draft.ticket, header, body: Arc::new(body) };
    assert_eq!(kinds(&machine.step(at(1_850), built)), []);
    let sent = machine.step(at(2_000), Input::Timer(id));
    assert_eq!(kinds(&sent), [VoteKind::Notarize]);
    assert!(sent.iter().any(|effect| matches!(effect, Effect::Publish(Publication::Proposal(_)))));
}

#[test]
fn records_read_back_what_they_write_and_nothing_else() {
    let bench = Bench::new();
    let proposal = bench.first(1);
    let records = [
        Record::Vote(proposal.vote),
        Record::Candidate { header: Box::new(proposal.header.clone()), body: Arc::new(proposal.body.clone()) },
        Record::Certificate(bench.certificate(1, Ballot::Nullify)),
    ];
    for record in records {
        let bytes = record.layout();
        assert_eq!(Record::from_layout(&bytes), Ok(record));
        for length in 0..bytes.len() {
            assert!(Record::from_layout(&bytes[..length]).is_err());
        }
        assert!(Record::from_layout(&[&bytes[..], &[0]].concat()).is_err());
    }
    assert!(Record::from_layout(&[4, 0, 0]).is_err());
}
