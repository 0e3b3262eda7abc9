//! What the processor's engine promises: equal bytes, known losses, refusals instead of panics, and miners that differ.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::ml::batch::merge;
use crate::ml::engine::no_sink;
use crate::ml::mark::{mark, whole};
use crate::ml::model::{Kind, Tensor as Plain};
use crate::ml::quantise::spearman;
use crate::ml::task::{self, MinerSpec, Task};
use crate::ml::train::TrainData;
use crate::protocol::ids::MemberId;
use crate::protocol::query::{Answer, PIXELS};
use crate::protocol::score_log::{Board, FULL_U16, Rules, row};

fn engine() -> CpuEngine {
    CpuEngine::new(MEMORY_BYTES).unwrap()
}

fn small(name: &str) -> (Box<dyn Task>, TrainJob) {
    let task = task::open(name).unwrap();
    let job = task.job(&MinerSpec { model: None, samples: 4_000, steps: 12, width: 24, seed: 3 });
    (task, job)
}

fn ask(engine: &mut CpuEngine, handle: Handle, query: &Query) -> Answer {
    engine.infer(handle, query, &Control::FREE, &mut no_sink).unwrap().answer
}

#[test]
fn equal_jobs_give_equal_bytes_also_at_the_same_time() {
    for name in task::NAMES {
        let (_, job) = small(name);
        let train = || engine().train(None, &job, &Control::FREE).unwrap().artifact.to_bytes();
        let (one, other) = std::thread::scope(|scope| {
            let both = [scope.spawn(train), scope.spawn(train)];
            let [one, other] = both.map(|thread| thread.join().unwrap());
            (one, other)
        });
        assert!(one == other, "{name}");
        let reseeded = TrainJob { seed: 4, ..job.clone() };
        assert!(one != engine().train(None, &reseeded, &Control::FREE).unwrap().artifact.to_bytes());
    }
}

#[test]
fn losses_are_the_known_ones() {
    let golden = [("vision", [2.262_835, 2.212_093, 2.159_643]), ("text", [5.548_122, 4.416_076, 3.492_199])];
    for (name, expected) in golden {
        let (_, job) = small(name);
        let losses = engine().train(None, &job, &Control::FREE).unwrap().losses;
        let found = [losses[0], losses[5], losses[11]];
        // Other processors round otherwise; the path is the same.
        assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 2e-3 * e), "{name} {found:?}");
    }
}

/// Every kind of model with a task that trains it.
const KINDS: [(&str, Kind); 7] = [
    ("vision", Kind::Mlp),
    ("vision", Kind::Conv),
    ("text", Kind::ByteMlp),
    ("text", Kind::ByteGpt),
    ("forecast", Kind::Seasonal),
    ("forecast", Kind::Linear),
    ("forecast", Kind::Patches),
];

fn job_of(name: &str, kind: Kind) -> TrainJob {
    let spec = MinerSpec { model: Some(kind), samples: 8_000, steps: 6, width: 16, seed: 3 };
    task::open(name).unwrap().job(&spec)
}

#[test]
fn m11_every_kind_of_model_has_the_same_bytes_on_one_thread_and_on_two() {
    for (name, kind) in KINDS {
        let job = job_of(name, kind);
        let start = fresh(job.architecture, job.seed).unwrap();
        let train = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| train::train(&start, &job, &Control::FREE, &Device::flex())).unwrap().artifact
        };
        let one = train(1);
        assert!(one.to_bytes() == train(2).to_bytes(), "{kind:?}");
        assert!(one != start, "{kind:?} learnt nothing");
    }
}

#[test]
fn every_kind_of_model_learns_along_the_known_path() {
    let golden: [[f32; 3]; 7] = [
        [2.329_415, 2.251_677, 2.259_897],
        [2.313_164, 2.301_168, 2.297_126],
        [5.566_43, 4.578_157, 3.913_776],
        [5.739_696, 4.962_294, 4.835_134],
        [0.407_764, 0.407_764, 0.407_764],
        [0.654_029, 0.574_492, 0.558_130],
        [0.603_075, 0.465_765, 0.414_170],
    ];
    for ((name, kind), expected) in KINDS.into_iter().zip(golden) {
        let job = TrainJob { steps: 12, ..job_of(name, kind) };
        let losses = engine().train(None, &job, &Control::FREE).unwrap().losses;
        let found = [losses[0], losses[losses.len() / 2], losses[losses.len() - 1]];
        // Other processors round otherwise; the path is the same.
        assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 2e-3 * e), "{kind:?} {found:?}");
    }
}

#[test]
fn m13_every_kind_of_model_goes_through_its_canonical_bytes_and_answers() {
    for (name, kind) in KINDS {
        let task = task::open(name).unwrap();
        let artifact = engine().train(None, &job_of(name, kind), &Control::FREE).unwrap().artifact;
        let read = Artifact::from_bytes(&artifact.to_bytes()).unwrap();
        assert!(read == artifact && read.architecture().name() == kind.name(), "{kind:?}");
        let mut engine = engine();
        let handle = engine.load(&read).unwrap();
        let challenge = task.challenge(Digest([9; 32]), 4);
        let answer = ask(&mut engine, handle, &challenge.query);
        assert_eq!(answer.check(&challenge.query), Ok(()), "{kind:?}");
        let quality = task.true_quality(&mut engine, handle, &Control::FREE).unwrap();
        assert!((0.0..=1.0).contains(&quality.quality) && quality.samples > 300, "{kind:?} {quality:?}");
    }
}

#[test]
fn a_kind_that_its_task_cannot_train_is_refused_by_name() {
    for name in task::NAMES {
        for (other, kind) in KINDS.into_iter().filter(|(other, _)| *other != name) {
            let error = engine().train(None, &job_of(name, kind), &Control::FREE).unwrap_err().to_string();
            assert!(error.contains(kind.name()), "{name} {other} {error}");
        }
    }
}

#[test]
fn a_forecast_reaches_any_horizon_and_any_season() {
    let mut engine = engine();
    let artifact = engine.train(None, &job_of("forecast", Kind::Linear), &Control::FREE).unwrap().artifact;
    let handle = engine.load(&artifact).unwrap();
    for (season, values, horizon) in [(24, 168, 24), (24, 48, 60), (7, 14, 20), (52, 300, 10), (1, 2, 5)] {
        let series = (0..values).map(|i| i64::from(i % i32::try_from(season).unwrap()) * 1_000_000).collect();
        let query = Query::Forecast { series: vec![series], season, horizon };
        assert_eq!(ask(&mut engine, handle, &query).check(&query), Ok(()), "{season}");
    }
}

#[test]
fn a_model_goes_through_bytes_and_on_with_training() {
    let (task, job) = small("vision");
    let mut engine = engine();
    let first = engine.train(None, &job, &Control::FREE).unwrap();
    let handle = engine.load(&first.artifact).unwrap();
    assert_eq!(handle, first.artifact.id());
    let read = Artifact::from_bytes(&engine.export(handle).unwrap().to_bytes()).unwrap();
    assert_eq!(engine.load(&read).unwrap(), handle);
    let query = task.challenge(handle, 8).query;
    let answer = ask(&mut engine, handle, &query);
    assert_eq!(answer, {
        let mut other = CpuEngine::new(MEMORY_BYTES).unwrap();
        let handle = other.load(&read).unwrap();
        ask(&mut other, handle, &query)
    });
    let more = engine.train(Some(handle), &job, &Control::FREE).unwrap();
    assert!(more.losses.last() < first.losses.first());
    assert!(engine.unload(handle) && !engine.unload(handle));
    assert_eq!(engine.export(handle), Err(EngineError::UnknownModel(handle)));
}

#[test]
fn rows_are_the_same_alone_and_in_company() {
    for name in task::NAMES {
        let (task, job) = small(name);
        let mut engine = engine();
        let artifact = engine.train(None, &job, &Control::FREE).unwrap().artifact;
        let handle = engine.load(&artifact).unwrap();
        let queries: Vec<Query> = (1..6).map(|n| task.challenge(Digest([n; 32]), usize::from(n)).query).collect();
        let [batch] = merge(queries.clone()).try_into().unwrap();
        let inferred = engine.infer(handle, &batch.query, &Control::FREE, &mut no_sink).unwrap();
        for (index, result) in batch.split(inferred).unwrap() {
            let (alone, company) = (ask(&mut engine, handle, &queries[index]), result.answer);
            let flat = |answer: &Answer| match answer {
                Answer::Classes { probabilities } | Answer::Distributions { probabilities } => {
                    probabilities.iter().flatten().map(|p| i64::from(*p)).collect()
                }
                Answer::Quantiles { steps } => steps.concat(),
                Answer::Text { .. } => vec![],
            };
            // A matrix product may sum in another order for another number of rows: one step of the wire's scale for
            // probabilities, a few of the millionths that a forecast is told in.
            let most = if matches!(alone, Answer::Quantiles { .. }) { 50 } else { 1 };
            assert!(flat(&alone).iter().zip(flat(&company)).all(|(a, b)| a.abs_diff(b) <= most), "{name}");
        }
    }
}

#[test]
fn completions_stream_and_follow_their_seed() {
    let (task, job) = small("text");
    let mut engine = engine();
    let artifact = engine.train(None, &job, &Control::FREE).unwrap().artifact;
    let handle = engine.load(&artifact).unwrap();
    let wish = |seed| Query::Complete {
        prompt: b"The".to_vec(),
        max_bytes: 40,
        temperature_milli: 900,
        seed,
        stop: vec![b"zqzq".to_vec()],
    };
    let mut pieces = Vec::new();
    let mut sink = |piece: &[u8]| {
        pieces.extend_from_slice(piece);
        true
    };
    let inferred = engine.infer(handle, &wish(1), &Control::FREE, &mut sink).unwrap();
    assert_eq!(inferred.answer, Answer::Text { bytes: pieces.clone() });
    assert_eq!(inferred.usage, Usage { items: 1, input_bytes: 3, output_bytes: 40 });
    assert_eq!(ask(&mut engine, handle, &wish(1)), inferred.answer);
    assert_ne!(ask(&mut engine, handle, &wish(2)), inferred.answer);
    // The distributions of the same weights agree with what evaluation finds.
    let challenge = task.challenge(handle, 1);
    let Query::NextByte { contexts } = challenge.query.clone() else { panic!() };
    let next = challenge.truth.0.clone();
    let loss = engine.eval(handle, &EvalJob::Bytes { contexts, next: next.clone() }, &Control::FREE).unwrap().loss;
    let Answer::Distributions { probabilities } = ask(&mut engine, handle, &challenge.query) else { panic!() };
    let told = f64::from(probabilities[0][usize::from(next[0])]) / 65_535.0;
    assert!((told - (-loss).exp()).abs() < 1e-4);
}

#[test]
fn what_does_not_fit_is_refused() {
    let (_, job) = small("vision");
    let mut engine = engine();
    let artifact = engine.train(None, &job, &Control::FREE).unwrap().artifact;
    let handle = engine.load(&artifact).unwrap();
    let mut infer = |handle, query: &Query| engine.infer(handle, query, &Control::FREE, &mut no_sink).unwrap_err();
    let contexts = Query::NextByte { contexts: vec![vec![1]] };
    assert_eq!(infer(handle, &contexts), EngineError::Mismatch { architecture: "mlp", query: "next_byte" });
    assert!(matches!(infer(handle, &Query::Classify { images: vec![vec![0; 3]] }), EngineError::Query(_)));
    let images = Query::Classify { images: vec![vec![0; PIXELS]] };
    assert_eq!(infer(Digest::ZERO, &images), EngineError::UnknownModel(Digest::ZERO));
    let bytes = EvalJob::Bytes { contexts: vec![vec![]], next: vec![1] };
    assert!(matches!(engine.eval(handle, &bytes, &Control::FREE), Err(EngineError::Job(_))));
    let bigger = TrainJob { architecture: Architecture::Mlp { hidden: 25 }, ..job.clone() };
    assert!(matches!(engine.train(Some(handle), &bigger, &Control::FREE), Err(EngineError::Job(_))));
    let mut tight = CpuEngine::new(cost(&artifact.architecture())).unwrap();
    tight.load(&artifact).unwrap();
    assert_eq!(tight.info().memory_free, 0);
    let other = tight.train(None, &TrainJob { seed: 9, ..job }, &Control::FREE).unwrap().artifact;
    assert!(matches!(tight.load(&other), Err(EngineError::Memory { free: 0, .. })));
}

#[test]
fn a_job_stops_when_told_and_ends_when_poisoned() {
    let (_, job) = small("vision");
    let mut engine = engine();
    let looks = AtomicU64::new(0);
    let stop = || looks.fetch_add(1, Ordering::Relaxed) >= 5;
    assert_eq!(engine.train(None, &job, &Control::until(&stop)).unwrap_err(), EngineError::Stopped { steps: 5 });
    let told = AtomicU64::new(0);
    let progress = |p: super::super::Progress| told.store(p.step, Ordering::Relaxed);
    let control = Control { steps_max: 7, progress: &progress, ..Control::FREE };
    assert_eq!(engine.train(None, &job, &control).unwrap().losses.len(), 7);
    assert_eq!(told.load(Ordering::Relaxed), 7);
    // Weights near the end of the range overflow in the first step.
    let shapes = job.architecture.shapes().into_iter();
    let huge = shapes.map(|(name, shape)| {
        let count = shape.iter().product();
        (name, Plain { shape, values: vec![3e38; count] })
    });
    let huge = Artifact::new(job.architecture, huge.collect()).unwrap();
    let handle = engine.load(&huge).unwrap();
    let poisoned =
        TrainJob { data: TrainData::Images { images: ndarray::Array2::ones((1, PIXELS)), labels: vec![0] }, ..job };
    assert_eq!(engine.train(Some(handle), &poisoned, &Control::FREE).unwrap_err(), EngineError::Diverged { step: 0 });
}

/// The whole judgement of a row of miners, as an epoch does it: challenges, board, weights.
#[test]
fn weights_rank_miners_as_their_true_quality_does() {
    let of = 4;
    for name in task::NAMES {
        let task = task::open(name).unwrap();
        let mut engine = engine();
        let mut board = Board::default();
        let mut truth = BTreeMap::new();
        let mut guesser = super::super::random::RandomEngine::new(1);
        for index in 0..=of {
            // The best of a text row trains for seconds; the others show the same.
            let spec = MinerSpec::graded(name, index, of);
            let spec = MinerSpec { steps: spec.steps.min(400), ..spec };
            let member = MemberId(u32::try_from(index).unwrap());
            let miner: &mut dyn Engine = if index < of { &mut engine } else { &mut guesser };
            let handle = if index < of {
                let artifact = miner.train(None, &task.job(&spec), &Control::FREE).unwrap().artifact;
                miner.load(&artifact).unwrap()
            } else {
                Digest::ZERO
            };
            truth.insert(member, task.true_quality(miner, handle, &Control::FREE).unwrap().quality);
            let score = |n: u8| {
                let challenge = task.challenge(Digest([n; 32]), 32);
                let answer = miner.infer(handle, &challenge.query, &Control::FREE, &mut no_sink).unwrap().answer;
                mark(task.as_ref(), &challenge, Some(&answer), 1).score / 10
            };
            board.scores.insert(member, (0..10).map(score).sum());
        }
        let chance = whole(task.chance_level());
        let rules = Rules { chance, fresh: 1, deadline_ms: 1, samples: 32, full: FULL_U16, echoes_share: false };
        let row: BTreeMap<MemberId, u32> = row(&rules, &board, &[]).into_iter().collect();
        let weight = |member: &MemberId| f64::from(row.get(member).copied().unwrap_or(0));
        let pairs: Vec<(f64, f64)> = truth.iter().map(|(member, &quality)| (quality, weight(member))).collect();
        assert!(spearman(&pairs).unwrap() >= 0.9, "{name} {pairs:?}");
        let guessing = weight(&MemberId(u32::try_from(of).unwrap()));
        assert!(guessing < 0.05 * f64::from(u16::MAX), "{name} {pairs:?}");
        assert!(truth[&MemberId(0)] > truth[&MemberId(3)] + 0.1, "{name} {truth:?}");
    }
}
