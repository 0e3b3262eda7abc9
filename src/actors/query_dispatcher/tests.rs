//! The dispatcher as an actor: wiring and outcomes; what it decides is tested with its pure halves.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::*;
use crate::actors::mail::{mailbox, start, to};
use crate::actors::peer_manager::AttemptOutcome;
use crate::actors::router;
use crate::actors::worker_pool::{self, EngineMaker, LaneParams, LoadModel, WorkerPool};
use crate::ml::engine::cpu::CpuEngine;
use crate::ml::engine::random::RandomEngine;
use crate::ml::model::layers::fresh;
use crate::ml::model::{Architecture, Artifact};
use crate::protocol::ids::AccountId;
use crate::protocol::query::{Answer, PIXELS, RefusalCode};

const SUBNET: SubnetId = SubnetId(2);
const STREAMED: u32 = 64;

fn world(test: impl Future<Output = ()>) {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    System::with_tokio_rt(runtime).block_on(test);
}

fn node(byte: u8) -> NodeId {
    NodeId([byte; 32])
}

/// What the actors around the dispatchers have heard.
#[derive(Default)]
struct Log {
    ended: Vec<(u8, AttemptOutcome)>,
    withdrawn: Vec<u8>,
    collected: Vec<AnswersCollected>,
    asked: Vec<(u8, Ask)>,
}

/// Router, PeerManager and Scorer of every node at once: carries queries between dispatchers in one thread.
struct Wire {
    log: Rc<RefCell<Log>>,
    miners: BTreeMap<u8, Addr<QueryDispatcher>>,
    /// Breaks off the answers of this node half way.
    cuts: Option<u8>,
    tickets: BTreeMap<ReplyTicket, (u64, u8, mpsc::Sender<FrameResult>)>,
    next: u64,
}

impl Actor for Wire {
    type Context = Context<Self>;
}

impl Handler<PickMiners> for Wire {
    type Result = Vec<Pick>;
    fn handle(&mut self, wish: PickMiners, _: &mut Self::Context) -> Vec<Pick> {
        let wanted = |byte: &u8| {
            let named = wish.members.as_ref().is_none_or(|members| members.contains(&MemberId((*byte).into())));
            named && !wish.exclude.contains(&node(*byte))
        };
        let pick =
            |byte: &u8| Pick { member: MemberId((*byte).into()), account: AccountId([*byte; 32]), node: node(*byte) };
        self.miners.keys().filter(|byte| wanted(byte)).map(pick).take(wish.count).collect()
    }
}

impl Handler<QueryEnded> for Wire {
    type Result = ();
    fn handle(&mut self, ended: QueryEnded, _: &mut Self::Context) {
        self.log.borrow_mut().ended.push((ended.node.0[0], ended.outcome));
    }
}

impl Handler<AnswersCollected> for Wire {
    type Result = ();
    fn handle(&mut self, collected: AnswersCollected, _: &mut Self::Context) {
        self.log.borrow_mut().collected.push(collected);
    }
}

impl Handler<router::OpenQuery> for Wire {
    type Result = ();
    fn handle(&mut self, open: router::OpenQuery, _: &mut Self::Context) {
        let byte = open.to.0[0];
        self.log.borrow_mut().asked.push((byte, open.ask.clone()));
        self.next += 1;
        let ticket = ReplyTicket(self.next);
        self.tickets.insert(ticket, (open.attempt, byte, open.frames));
        self.miners[&byte].try_send(QueryArrived { from: node(99), ask: open.ask, ticket }).unwrap();
    }
}

impl Handler<router::CancelQuery> for Wire {
    type Result = ();
    fn handle(&mut self, cancel: router::CancelQuery, _: &mut Self::Context) {
        let of_attempt = |(_, (attempt, ..)): &(&ReplyTicket, &(u64, u8, _))| *attempt == cancel.attempt;
        let Some(ticket) = self.tickets.iter().find(of_attempt).map(|(ticket, _)| *ticket) else { return };
        if let Some((_, byte, _)) = self.tickets.remove(&ticket) {
            self.log.borrow_mut().withdrawn.push(byte);
            self.miners[&byte].try_send(QueryWithdrawn { ticket }).unwrap();
        }
    }
}

impl Handler<router::ReplyFrame> for Wire {
    type Result = ();
    fn handle(&mut self, reply: router::ReplyFrame, _: &mut Self::Context) {
        let Some((_, byte, frames)) = self.tickets.get(&reply.ticket) else { return };
        if let (true, AnswerFrame::Done { answer: Answer::Text { bytes }, .. }) =
            (self.cuts == Some(*byte), &reply.frame)
        {
            // The worker may have been quicker than the first piece: what was half said is said here.
            let half = AnswerFrame::Piece(bytes[..bytes.len() / 2].to_vec());
            frames.try_send(Ok(half)).unwrap();
            frames.try_send(Err(net::AskError::Closed)).unwrap();
            self.tickets.remove(&reply.ticket);
            return;
        }
        if self.cuts == Some(*byte) && !reply.frame.is_last() {
            return;
        }
        let last = reply.frame.is_last();
        frames.try_send(Ok(reply.frame)).unwrap();
        if last {
            self.tickets.remove(&reply.ticket);
        }
    }
}

/// A gateway and miners with these behaviours, numbered from 1, around one pool and one model.
struct Town {
    gateway: Addr<QueryDispatcher>,
    miners: Vec<Addr<QueryDispatcher>>,
    log: Rc<RefCell<Log>>,
    model: Digest,
}

fn model() -> Artifact {
    fresh(Architecture::ByteMlp { context: 8, embedding: 4, hidden: 8 }, 1).unwrap()
}

impl Town {
    async fn build(behaviours: &[Behaviour], cuts: Option<u8>, params: &Params) -> Self {
        let (wire, wire_mail) = mailbox::<Wire>(1_024);
        let (pool, pool_mail) = mailbox::<WorkerPool>(worker_pool::MAILBOX);
        let cpu: EngineMaker = Arc::new(|| Box::new(CpuEngine::new(1 << 26).unwrap()));
        let random: EngineMaker = Arc::new(|| Box::new(RandomEngine::new(3)));
        let lane = |lane, engine| LaneParams { lane, workers: 1, waiting_max: 16, engine };
        let lanes = vec![lane(Lane::Cpu, cpu), lane(Lane::Random, random)];
        start(WorkerPool::new(worker_pool::Params { lanes, model_bytes_max: 1 << 24 }), pool_mail);
        let links = Links {
            pick_miners: to(&wire),
            query_ended: to(&wire),
            open_query: to(&wire),
            cancel_query: to(&wire),
            reply_frame: to(&wire),
            run_job: to(&pool),
            answers_collected: Some(to(&wire)),
        };
        let dispatcher = || {
            let (address, mail) = mailbox::<QueryDispatcher>(MAILBOX);
            start(QueryDispatcher::new(params.clone(), links.clone()), mail);
            address
        };
        let gateway = dispatcher();
        let miners: Vec<_> = behaviours.iter().map(|_| dispatcher()).collect();
        let log = Rc::new(RefCell::new(Log::default()));
        let by_number = (1..).zip(miners.iter().cloned()).collect();
        let tickets = BTreeMap::new();
        start(Wire { log: Rc::clone(&log), miners: by_number, cuts, tickets, next: 0 }, wire_mail);
        let model = pool.send(LoadModel { artifact: Arc::new(model()) }).await.unwrap().unwrap();
        for (miner, behaviour) in miners.iter().zip(behaviours) {
            let serve = ServeModel { subnet: SUBNET, model, lane: Lane::Cpu, behaviour: *behaviour };
            assert!(miner.send(serve).await.unwrap());
        }
        Self { gateway, miners, log, model }
    }

    async fn of(behaviours: &[Behaviour]) -> Self {
        Self::build(behaviours, None, &Params::new(Chance::from_seed([1; 32]))).await
    }

    async fn submit(&self, ask: Ask, room: usize) -> Result<mpsc::Receiver<Frame>, QueryError> {
        let (frames, heard) = mpsc::channel(room);
        self.gateway.send(SubmitQuery { ask, frames }).await.unwrap().map(|_| heard)
    }

    async fn ask(&self, ask: Ask) -> Vec<Frame> {
        let mut heard = self.submit(ask, 1).await.unwrap();
        let mut frames = Vec::new();
        while let Some(frame) = heard.recv().await {
            frames.push(frame);
        }
        frames
    }

    async fn row(&self, miner: usize) -> MinerRow {
        self.miners[miner].send(ReadServing).await.unwrap().remove(0)
    }

    fn ended(&self) -> Vec<(u8, AttemptOutcome)> {
        self.log.borrow().ended.clone()
    }
}

fn complete(stream: bool) -> Ask {
    let (prompt, stop) = (b"once upon".to_vec(), vec![]);
    let query = Query::Complete { prompt, max_bytes: STREAMED, temperature_milli: 0, seed: 1, stop };
    Ask { subnet: SUBNET, model: None, query, deadline_ms: 8_000, stream, receipt: None }
}

fn next_byte() -> Ask {
    Ask { query: Query::NextByte { contexts: vec![b"ab".to_vec(); 3] }, ..complete(false) }
}

fn text_of(frames: &[Frame]) -> Vec<u8> {
    match frames.last() {
        Some(Frame::Done { answer: Answer::Text { bytes }, .. }) => bytes.clone(),
        other => panic!("{other:?}"),
    }
}

fn pieces_of(frames: &[Frame]) -> Vec<u8> {
    let piece = |frame: &Frame| if let Frame::Piece(bytes) = frame { bytes.clone() } else { vec![] };
    frames.iter().flat_map(piece).collect()
}

#[test]
fn a_query_reaches_a_real_model_and_comes_back() {
    world(async {
        let town = Town::of(&[Behaviour::Honest]).await;
        let frames = town.ask(next_byte()).await;
        let [Frame::Started(started), Frame::Done { answer, served, .. }] = &frames[..] else { panic!("{frames:?}") };
        assert_eq!((started.member, served.model), (Some(MemberId(1)), Some(town.model)));
        assert_eq!(answer.check(&next_byte().query), Ok(()));
        assert_eq!(town.ended(), [(1, AttemptOutcome::Answered)]);
        let row = town.row(0).await;
        assert_eq!((row.answered, row.in_flight, row.behaviour.as_str()), (1, 0, "honest"));
    });
}

#[test]
fn a_stream_is_whole_and_equal_to_its_end() {
    world(async {
        let town = Town::of(&[Behaviour::Honest]).await;
        let frames = town.ask(complete(true)).await;
        assert_eq!(text_of(&frames).len(), STREAMED as usize);
        assert_eq!(pieces_of(&frames), text_of(&frames));
        let whole = town.ask(complete(false)).await;
        assert_eq!((text_of(&whole), pieces_of(&whole)), (text_of(&frames), vec![]));
    });
}

#[test]
fn a_miner_cut_in_mid_stream_is_replaced_and_the_text_goes_on() {
    world(async {
        let params = Params::new(Chance::from_seed([1; 32]));
        let whole = text_of(&Town::of(&[Behaviour::Honest]).await.ask(complete(false)).await);
        let town = Town::build(&[Behaviour::Honest; 2], Some(1), &params).await;
        let frames = town.ask(complete(true)).await;
        // At temperature 0 the second miner says just what the first would have said.
        assert_eq!((text_of(&frames), pieces_of(&frames)), (whole.clone(), whole));
        assert_eq!(town.ended(), [(1, AttemptOutcome::Broken), (2, AttemptOutcome::Answered)]);
        let log = town.log.borrow();
        let Query::Complete { prompt, max_bytes, .. } = &log.asked[1].1.query else { panic!() };
        assert_eq!((prompt.len(), *max_bytes), (b"once upon".len() + 32, 32));
    });
}

#[test]
fn a_cut_without_another_miner_is_told() {
    world(async {
        let params = Params::new(Chance::from_seed([1; 32]));
        let town = Town::build(&[Behaviour::Honest], Some(1), &params).await;
        let frames = town.ask(complete(true)).await;
        assert_eq!(pieces_of(&frames).len(), 32);
        let Some(Frame::Failed(error)) = frames.last() else { panic!("{frames:?}") };
        assert!(error.fault == QueryFault::NoCapacity && error.message.contains("after 32 bytes"), "{error}");
    });
}

#[test]
fn silent_and_late_miners_are_passed_over() {
    world(async {
        let town = Town::of(&[Behaviour::Silent, Behaviour::Late, Behaviour::Honest]).await;
        let begin = Instant::now();
        let frames = town.ask(next_byte()).await;
        assert!(matches!(frames.last(), Some(Frame::Done { served, .. }) if served.attempts == 3));
        assert_eq!(begin.elapsed(), Duration::from_millis(4_000 + 2_000));
        assert_eq!(town.ended(), [(1, AttemptOutcome::Late), (2, AttemptOutcome::Late), (3, AttemptOutcome::Answered)]);
        assert_eq!(town.log.borrow().withdrawn, [1, 2]);
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!((town.row(0).await.in_flight, town.row(1).await.in_flight), (0, 0));
    });
}

#[test]
fn a_caller_that_leaves_withdraws_at_the_miner() {
    world(async {
        let town = Town::of(&[Behaviour::Silent]).await;
        let heard = town.submit(next_byte(), 4).await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(town.row(0).await.in_flight, 1);
        drop(heard);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(town.ended(), [(1, AttemptOutcome::Cancelled)]);
        assert_eq!(town.log.borrow().withdrawn, [1]);
        assert_eq!(town.row(0).await.in_flight, 0);
    });
}

#[test]
fn permits_bound_our_own_queries() {
    world(async {
        let params = Params { queries_max: 3, ..Params::new(Chance::from_seed([1; 32])) };
        let town = Town::build(&[Behaviour::Silent], None, &params).await;
        let mut waiting = Vec::new();
        for _ in 0..3 {
            waiting.push(town.submit(next_byte(), 4).await.unwrap());
        }
        let busy = town.submit(next_byte(), 4).await.unwrap_err();
        assert_eq!((busy.fault, busy.retry_after_s), (QueryFault::Busy, Some(1)));
        let first = waiting[0].recv().await;
        assert!(matches!(&first, Some(Frame::Failed(error)) if error.fault == QueryFault::Timeout), "{first:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(town.submit(next_byte(), 4).await.is_ok(), "permits come back");
    });
}

#[test]
fn permits_bound_what_we_take_in() {
    world(async {
        let params = Params { serving_max: 2, ..Params::new(Chance::from_seed([1; 32])) };
        let town = Town::build(&[Behaviour::Silent], None, &params).await;
        let _first = town.submit(next_byte(), 4).await.unwrap();
        let _second = town.submit(next_byte(), 4).await.unwrap();
        let begin = Instant::now();
        let third = town.ask(next_byte()).await;
        let [Frame::Failed(error)] = &third[..] else { panic!("{third:?}") };
        assert!(error.fault == QueryFault::NoCapacity && error.message.contains("busy"), "{error}");
        assert_eq!(begin.elapsed(), Duration::ZERO, "busy is an answer at once");
        let row = town.row(0).await;
        assert_eq!((row.in_flight, row.refused), (2, 1));
    });
}

#[test]
fn what_the_model_cannot_answer_is_refused_in_words() {
    world(async {
        let town = Town::of(&[Behaviour::Honest]).await;
        let images = Ask { query: Query::Classify { images: vec![vec![0; PIXELS]] }, ..next_byte() };
        let frames = town.ask(images).await;
        let Some(Frame::Failed(error)) = frames.last() else { panic!("{frames:?}") };
        assert_eq!(error.fault, QueryFault::Invalid);
        assert!(error.message.contains("byte_mlp") && error.message.contains(RefusalCode::Unsupported.name()));
        assert_eq!((town.row(0).await.refused, town.row(0).await.failed), (1, 0));
    });
}

#[test]
fn a_challenge_brings_one_entry_for_each_member() {
    world(async {
        use Behaviour::{Honest, Late, Random, Silent};
        let town = Town::of(&[Honest, Silent, Random, Late, Honest]).await;
        let members = [1, 2, 3, 4, 5, 9].map(MemberId).to_vec();
        let (query, deadline_ms) = (next_byte().query, 2_000);
        let begin = Instant::now();
        town.gateway
            .try_send(Challenge { id: 5, name: Digest([5; 32]), subnet: SUBNET, query, deadline_ms, members })
            .unwrap();
        while town.log.borrow().collected.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(begin.elapsed() < Duration::from_millis(2_100));
        let log = town.log.borrow();
        let [AnswersCollected { challenge: 5, answers }] = &log.collected[..] else { panic!() };
        let told: Vec<(u32, bool)> = answers.iter().map(|one| (one.member.0, one.answer.is_some())).collect();
        assert_eq!(told, [(1, true), (2, false), (3, true), (4, false), (5, true), (9, false)]);
        assert_eq!(answers[0].answer, answers[4].answer);
        assert_ne!(answers[0].answer, answers[2].answer, "guessed");
        assert_eq!(answers[1].latency_ms, 2_000);
    });
}

#[test]
fn a_slow_reader_loses_nothing() {
    world(async {
        let town = Town::of(&[Behaviour::Honest]).await;
        let mut heard = town.submit(complete(true), 1).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let mut frames = Vec::new();
        while let Some(frame) = heard.recv().await {
            frames.push(frame);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(pieces_of(&frames), text_of(&frames));
    });
}
