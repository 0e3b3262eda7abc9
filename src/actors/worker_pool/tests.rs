//! The pool with real and with stubborn engines: permits, batches, cancelling, ends.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tokio::sync::{mpsc, watch};
use tokio::time::advance;

use super::*;
use crate::actors::mail::{ask, mailbox, start, to};
use crate::ml::engine::cpu::CpuEngine;
use crate::ml::engine::random::RandomEngine;
use crate::ml::engine::{Caps, Control, Determinism, EngineError, EvalJob, Evaluated, Inferred, Info, Sink, Trained};
use crate::ml::mark::Mark;
use crate::ml::task::{self, MinerSpec, Task};
use crate::ml::train::TrainJob;
use crate::protocol::ids::Digest;
use crate::protocol::query::{Answer, CLASSES, PIXELS, Query, Usage};

fn world(test: impl Future<Output = ()>) {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    System::with_tokio_rt(runtime).block_on(test);
}

/// What a scripted engine does when asked; the model's first byte picks.
const PASS: u8 = 0;
const WAIT: u8 = 1;
const SPIN: u8 = 2;
const PANIC: u8 = 3;

/// Answers each image with its first pixel, after doing as the model says.
#[derive(Debug)]
struct Scripted {
    gate: Arc<Mutex<Receiver<()>>>,
    began: Arc<AtomicUsize>,
}

impl Engine for Scripted {
    fn info(&self) -> Info {
        RandomEngine::new(0).info()
    }
    fn caps(&self) -> Caps {
        Caps::default()
    }
    fn determinism(&self) -> Determinism {
        Determinism::Opaque
    }
    fn load(&mut self, artifact: &Artifact) -> Result<Handle, EngineError> {
        Ok(artifact.id())
    }
    fn unload(&mut self, _: Handle) -> bool {
        true
    }
    fn export(&self, handle: Handle) -> Result<Artifact, EngineError> {
        Err(EngineError::UnknownModel(handle))
    }
    fn train(&mut self, _: Option<Handle>, _: &TrainJob, _: &Control<'_>) -> Result<Trained, EngineError> {
        Err(EngineError::Diverged { step: 1 })
    }
    fn eval(&mut self, handle: Handle, _: &EvalJob, _: &Control<'_>) -> Result<Evaluated, EngineError> {
        Err(EngineError::UnknownModel(handle))
    }
    fn infer(
        &mut self,
        handle: Handle,
        query: &Query,
        control: &Control<'_>,
        _: &mut Sink<'_>,
    ) -> Result<Inferred, EngineError> {
        self.began.fetch_add(1, Ordering::SeqCst);
        match handle.0[0] {
            WAIT => self.gate.lock().unwrap().recv().unwrap(),
            SPIN => {
                while control.go_on(3).is_ok() {
                    std::thread::yield_now();
                }
            }
            PANIC => panic!("as the script says"),
            _ => {}
        }
        control.go_on(7)?;
        let Query::Classify { images } = query else { return Err(EngineError::UnknownModel(handle)) };
        let probabilities = images.iter().map(|image| vec![u16::from(image[0]); CLASSES]).collect();
        Ok(Inferred { answer: Answer::Classes { probabilities }, usage: Usage::default() })
    }
}

struct Pool {
    address: Addr<WorkerPool>,
    gate: SyncSender<()>,
    began: Arc<AtomicUsize>,
    made: Arc<AtomicUsize>,
}

impl Pool {
    fn scripted(workers: usize, waiting_max: usize) -> Self {
        let (gate, opened) = sync_channel(64);
        let gate_end = Arc::new(Mutex::new(opened));
        let (began, made) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (calls, makes) = (Arc::clone(&began), Arc::clone(&made));
        let engine: EngineMaker = Arc::new(move || {
            makes.fetch_add(1, Ordering::SeqCst);
            Box::new(Scripted { gate: Arc::clone(&gate_end), began: Arc::clone(&calls) })
        });
        let lanes = vec![LaneParams { lane: Lane::Cpu, workers, waiting_max, engine }];
        Self { address: begin(lanes), gate, began, made }
    }

    /// Hands a job over; its reply is to be awaited apart.
    fn run(&self, what: u8, pixel: u8, deadline_ms: u64, cancel: &Cancel) -> Running {
        let query = Query::Classify { images: vec![vec![pixel; PIXELS]] };
        let job = Job::Infer { model: Digest([what; 32]), query, pieces: None };
        let message = RunJob { job, lane: Lane::Cpu, deadline_ms, cancel: cancel.clone() };
        let to = to::<WorkerPool, RunJob>(&self.address);
        tokio::task::spawn_local(async move { ask(&to, message, Duration::from_secs(100_000)).await.unwrap() })
    }

    /// Until so many engine calls have begun.
    async fn begun(&self, calls: usize) {
        while self.began.load(Ordering::SeqCst) < calls {
            tokio::task::yield_now().await;
        }
        self.settled().await;
    }

    /// Until everything sent so far has been heard.
    async fn settled(&self) -> PoolStatus {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        self.address.send(ReadPool).await.unwrap()
    }
}

type Running = tokio::task::JoinHandle<Reply>;

fn begin(lanes: Vec<LaneParams>) -> Addr<WorkerPool> {
    let (address, receiver) = mailbox::<WorkerPool>(MAILBOX);
    start(WorkerPool::new(Params { lanes, model_bytes_max: 1 << 20 }), receiver);
    address
}

fn pixel_of(reply: Reply) -> u16 {
    match reply.unwrap() {
        Done::Answered { inferred: Inferred { answer: Answer::Classes { probabilities }, .. }, .. } => {
            assert_eq!(probabilities.len(), 1);
            probabilities[0][0]
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn waiting_queries_share_a_call_and_each_gets_its_own_answer() {
    world(async {
        let pool = Pool::scripted(1, 8);
        let cancel = Cancel::new();
        let first = pool.run(WAIT, 1, 1_000, &cancel);
        pool.begun(1).await;
        let waiting: Vec<_> = (2..6).map(|pixel| pool.run(PASS, pixel, 1_000, &cancel)).collect();
        assert_eq!(pool.settled().await.lanes[0].waiting, 4);
        pool.gate.send(()).unwrap();
        assert_eq!(pixel_of(first.await.unwrap()), 1);
        for (pixel, waiting) in (2..).zip(waiting) {
            assert_eq!(pixel_of(waiting.await.unwrap()), pixel);
        }
        assert_eq!(pool.began.load(Ordering::SeqCst), 2, "one call for the four");
        let lane = pool.settled().await.lanes.remove(0);
        assert_eq!((lane.done, lane.undone, lane.free), (5, 0, 1));
    });
}

#[test]
fn a_full_queue_refuses_at_once() {
    world(async {
        let pool = Pool::scripted(1, 1);
        let cancel = Cancel::new();
        let running = pool.run(WAIT, 1, 1_000, &cancel);
        pool.begun(1).await;
        let waiting = pool.run(PASS, 2, 1_000, &cancel);
        pool.settled().await;
        let refused = pool.run(PASS, 3, 1_000, &cancel);
        assert_eq!(refused.await.unwrap().unwrap_err(), JobError::Busy);
        pool.gate.send(()).unwrap();
        assert!(running.await.unwrap().is_ok() && waiting.await.unwrap().is_ok());
    });
}

#[test]
fn what_is_late_in_the_queue_never_runs() {
    world(async {
        let pool = Pool::scripted(1, 8);
        let cancel = Cancel::new();
        let running = pool.run(WAIT, 1, 10_000, &cancel);
        pool.begun(1).await;
        let late = pool.run(PASS, 2, 100, &cancel);
        pool.settled().await;
        advance(Duration::from_millis(101)).await;
        assert_eq!(late.await.unwrap().unwrap_err(), JobError::Late);
        pool.gate.send(()).unwrap();
        assert!(running.await.unwrap().is_ok());
        let lane = pool.settled().await.lanes.remove(0);
        assert_eq!((pool.began.load(Ordering::SeqCst), lane.done, lane.undone), (1, 1, 1));
    });
}

#[test]
fn a_running_job_stops_when_cancelled_or_out_of_time() {
    world(async {
        let pool = Pool::scripted(1, 8);
        let cancel = Cancel::new();
        let guard = cancel.on_drop();
        let running = pool.run(SPIN, 1, 10_000, &cancel);
        pool.begun(1).await;
        drop(guard);
        assert_eq!(running.await.unwrap().unwrap_err(), JobError::Cancelled);

        let running = pool.run(SPIN, 1, 200, &Cancel::new());
        pool.begun(2).await;
        advance(Duration::from_millis(201)).await;
        assert_eq!(running.await.unwrap().unwrap_err(), JobError::Late);
        let next = pool.run(PASS, 9, 1_000, &Cancel::new());
        assert_eq!(pixel_of(next.await.unwrap()), 9, "the worker is free again");
    });
}

#[test]
fn a_panic_costs_its_job_and_its_engine_and_nothing_else() {
    world(async {
        let pool = Pool::scripted(1, 8);
        for _ in 0..2 {
            let broken = pool.run(PANIC, 1, 1_000, &Cancel::new());
            assert_eq!(broken.await.unwrap().unwrap_err(), JobError::Failed);
        }
        assert_eq!(pixel_of(pool.run(PASS, 4, 1_000, &Cancel::new()).await.unwrap()), 4);
        assert_eq!(pool.made.load(Ordering::SeqCst), 3);
        let lane = pool.settled().await.lanes.remove(0);
        assert_eq!((lane.done, lane.undone, lane.free, lane.workers), (1, 2, 1, 1));
    });
}

#[test]
fn a_lane_that_is_not_there_says_so() {
    world(async {
        let pool = Pool::scripted(1, 1);
        let job = Job::Quality { task: "vision".to_owned(), model: Digest::ZERO };
        let message = RunJob { job, lane: Lane::Random, deadline_ms: 10, cancel: Cancel::new() };
        assert_eq!(pool.address.send(message).await.unwrap().unwrap_err(), JobError::NoLane(Lane::Random));
    });
}

fn real() -> Addr<WorkerPool> {
    let cpu: EngineMaker = Arc::new(|| Box::new(CpuEngine::new(1 << 26).unwrap()));
    let random: EngineMaker = Arc::new(|| Box::new(RandomEngine::new(3)));
    let lane = |lane, workers, engine| LaneParams { lane, workers, waiting_max: 8, engine };
    begin(vec![lane(Lane::Cpu, 2, cpu), lane(Lane::Random, 1, random)])
}

async fn run(pool: &Addr<WorkerPool>, lane: Lane, job: Job) -> Reply {
    pool.send(RunJob { job, lane, deadline_ms: 600_000, cancel: Cancel::new() }).await.unwrap()
}

#[test]
fn a_model_is_trained_loaded_asked_scored_and_measured() {
    world(async {
        let pool = real();
        let spec = MinerSpec { model: None, samples: 400, steps: 60, width: 16, seed: 1 };
        let (progress, seen) = watch::channel(None);
        let job = Job::Train { task: "vision".to_owned(), spec, progress: Some(progress) };
        let Ok(Done::Trained { artifact, losses, .. }) = run(&pool, Lane::Cpu, job).await else { panic!() };
        assert_eq!(losses.len(), 60);
        assert!(seen.borrow().is_some());

        let vision: Arc<dyn Task> = task::open("vision").unwrap().into();
        let challenge = Arc::new(vision.challenge(Digest([4; 32]), 64));
        let model = artifact.id();
        let infer = || Job::Infer { model, query: challenge.query.clone(), pieces: None };
        let unknown = run(&pool, Lane::Cpu, infer()).await.unwrap_err();
        assert_eq!(unknown, JobError::Engine(EngineError::UnknownModel(model)));
        assert_eq!(pool.send(LoadModel { artifact }).await.unwrap(), Ok(model));
        let Ok(Done::Answered { inferred, .. }) = run(&pool, Lane::Cpu, infer()).await else { panic!() };
        let Ok(Done::Answered { inferred: guessed, .. }) = run(&pool, Lane::Random, infer()).await else { panic!() };

        let given = |answer| Given { answer, arrival: 1 };
        let answers = vec![given(Some(inferred.answer)), given(Some(guessed.answer)), given(None)];
        let score = Job::Score { task: vision, challenge: Arc::clone(&challenge), answers };
        let Ok(Done::Scored(scores)) = run(&pool, Lane::Cpu, score).await else { panic!() };
        assert!(scores[0].score > scores[1].score && scores[1].score > scores[2].score, "{scores:?}");
        assert_eq!(scores[2], Mark::default());

        let Ok(Done::Judged(quality)) = run(&pool, Lane::Cpu, Job::Quality { task: "vision".to_owned(), model }).await
        else {
            panic!()
        };
        assert!(quality.quality > 0.4, "{quality:?}");
        let unknown = run(&pool, Lane::Cpu, Job::Quality { task: "speech".to_owned(), model }).await.unwrap_err();
        assert!(matches!(unknown, JobError::Task(text) if text.contains("speech")));
        let status = pool.send(ReadPool).await.unwrap();
        assert_eq!(status.models, [model]);
    });
}

#[test]
fn pieces_are_joined_while_nobody_reads_and_are_the_text() {
    world(async {
        let pool = real();
        let (stop, prompt) = (vec![], b"x".to_vec());
        let query = Query::Complete { prompt, max_bytes: 300, temperature_milli: 1_000, seed: 5, stop };
        let (pieces, mut seen) = mpsc::channel(2);
        let job = Job::Infer { model: Digest::ZERO, query, pieces: Some(pieces) };
        let Ok(Done::Answered { inferred, .. }) = run(&pool, Lane::Random, job).await else { panic!() };
        let Answer::Text { bytes } = inferred.answer else { panic!() };
        let mut told = Vec::new();
        while let Some(piece) = seen.recv().await {
            told.extend(piece);
        }
        assert!(bytes.len() == 300 && !told.is_empty() && bytes.starts_with(&told));
    });
}

#[test]
fn lanes_are_told_apart() {
    let names: BTreeMap<Lane, &str> = [Lane::Cpu, Lane::Random].map(|lane| (lane, lane.name())).into();
    assert_eq!(names.into_values().collect::<Vec<_>>(), ["cpu", "random"]);
}
