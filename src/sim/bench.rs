//! The measurements in the tree: what the hot parts of the ledger cost on this machine.
//!
//! Inputs come from a fixed seed, so two runs do the same work. Where a claim is a comparison, the other side is measured
//! in the same run. Nothing here is called by a node.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::books::Books;
use super::dense::Dense;
use crate::ledger::economy::largest_remainder;
use crate::ledger::incentive::fixed::{ONE, Q, exp};
use crate::ledger::incentive::rows::{read_row, write_row};
use crate::ledger::incentive::{
    BOND_FLOOR, ColumnInput, EpochInput, EpochJob, EpochRules, Liquid, RowInput, Switches, Workspace, Yuma, quantile,
};
use crate::protocol::commitment::{Author, Opening, Width};
use crate::protocol::ids::{ChainId, MemberId, PublicKey, SubnetId};
use crate::protocol::layout::{Reader, Writer};

/// One measurement. Times are milliseconds or nanoseconds, as `unit` says.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    pub name: &'static str,
    pub unit: &'static str,
    pub median: f64,
    pub min: f64,
    pub max: f64,
    pub runs: usize,
    /// The same work done another way, in the same run; in the same unit.
    pub baseline: Option<f64>,
    /// The baseline over the median.
    pub ratio: Option<f64>,
}

/// What can be measured: name, what it is, how.
type Bench = (&'static str, &'static str, fn(&'static str) -> Figure);

pub const BENCHES: &[Bench] = &[
    ("yuma_256x256", "an epoch of 256 validators and 256 miners, everybody weighing everybody", |name| {
        epoch(name, Shape { rows: 256, columns: 256, each: 256, liquid: false }, true)
    }),
    ("yuma_256x4096_dense", "an epoch of 256 x 4,096, all weights given; baseline: plain dense code", |name| {
        epoch(name, Shape { rows: 256, columns: 4_096, each: 4_096, liquid: false }, true)
    }),
    ("yuma_256x4096_liquid", "the same with liquid alpha; baseline: plain dense code", |name| {
        epoch(name, Shape { rows: 256, columns: 4_096, each: 4_096, liquid: true }, true)
    }),
    ("yuma_1024x65536_10m", "an epoch of 1,024 x 65,536 with 10 million weights", |name| {
        epoch(name, Shape { rows: 1_024, columns: 65_536, each: 9_766, liquid: false }, false)
    }),
    ("yuma_columns_x10", "the same weights over ten times the columns; baseline: yuma_1024x65536_10m", columns_x10),
    ("median_column_1024", "the consensus of one column with 1,024 voices", median_column),
    ("exp_fixed", "one exponential in fixed point", exponential),
    ("row_decode_4096", "reading a stored row of 4,096 weights", row_decode),
    ("commit_hash_4096", "the commitment of a row of 4,096 weights", commitment),
    ("largest_remainder_65536", "dividing a pot among 65,536", remainder),
    ("settle_65536", "settling an epoch of 65,536 members, each of them paid", settle),
    ("supply_audit", "adding up all money of 65,536 members and accounts", audit),
    ("sim_32x256_1000", "1,000 simulated epochs of 32 validators and 256 miners", simulated),
];

/// Measures one; none of that name: none.
pub fn run(name: &str) -> Option<Figure> {
    BENCHES.iter().find(|bench| bench.0 == name).map(|bench| (bench.2)(bench.0))
}

/// Runs until this much time has passed, at least `RUNS_MIN` times.
const LONG_ENOUGH: Duration = Duration::from_millis(1_500);
const RUNS_MIN: usize = 5;
const RUNS_MAX: usize = 200;

/// Measures in milliseconds, after one run that is not counted.
fn time(name: &'static str, mut work: impl FnMut()) -> Figure {
    work();
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < RUNS_MIN || (times.len() < RUNS_MAX && start.elapsed() < LONG_ENOUGH) {
        let begin = Instant::now();
        work();
        times.push(begin.elapsed().as_secs_f64() * 1_000.0);
    }
    times.sort_by(f64::total_cmp);
    let at = |place: usize| times.get(place).copied().unwrap_or(0.0);
    let runs = times.len();
    let (median, min, max) = (at(runs / 2), at(0), at(runs - 1));
    Figure { name, unit: "ms", median, min, max, runs, baseline: None, ratio: None }
}

/// What could not be set up has no figure, and not a small one.
fn nothing(name: &'static str) -> Figure {
    let none = f64::NAN;
    Figure { name, unit: "ms", median: none, min: none, max: none, runs: 0, baseline: None, ratio: None }
}

impl Figure {
    fn against(mut self, baseline: f64) -> Self {
        self.baseline = Some(baseline);
        self.ratio = (self.median > 0.0).then(|| baseline / self.median);
        self
    }

    /// Of so many equal parts of the work, one, in nanoseconds.
    fn one_of(mut self, parts: u32) -> Self {
        let scale = 1e6 / f64::from(parts);
        self.unit = "ns";
        for value in [&mut self.median, &mut self.min, &mut self.max] {
            *value *= scale;
        }
        self
    }
}

/// Splitmix: enough for inputs that only have to be spread out.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u32) -> u32 {
        u32::try_from(self.next() % u64::from(end.max(1))).unwrap_or(0)
    }
}

/// The size of a measured epoch.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub rows: u32,
    pub columns: u32,
    /// Weights of each row, spread over the columns.
    pub each: u32,
    pub liquid: bool,
}

impl Shape {
    /// An epoch of this shape, after another that left bonds.
    pub fn job(self) -> Option<EpochJob> {
        let mut chance = Chance(7);
        let stride = f64::from(self.columns) / f64::from(self.each.max(1));
        let rows: Vec<RowInput> = (0..self.rows)
            .map(|row| {
                let weights = (0..self.each).map(|at| {
                    let first = to_column(f64::from(at) * stride);
                    let next = to_column(f64::from(at + 1) * stride).max(first + 1);
                    let column = first + chance.below(next - first);
                    (MemberId(self.rows + column), 1 + chance.below(65_535))
                });
                let weights = weights.collect();
                RowInput::speaking(MemberId(row), 1_000 + u64::from(chance.below(1_000_000)), 100, weights)
            })
            .collect();
        let column = |at: u32| ColumnInput { member: MemberId(self.rows + at), registered: 0, reset: false };
        let input = EpochInput {
            switches: Switches::native(),
            rules: self.rules(),
            height: 100,
            last_close: Some(90),
            owner: None,
            miner_pot: 0,
            validator_pot: 0,
            rows,
            columns: (0..self.columns).map(column).collect(),
            related: Vec::new(),
            bonds: Vec::new(),
            bond_floor: BOND_FLOOR,
        };
        let job = EpochJob::new(input).ok()?;
        let first = job.run(&mut Workspace::new());
        let blocks = first.bonds.blocks(&first.rows, &first.columns);
        let mut input = job.into_input();
        input.bonds = blocks.into_iter().map(|(_, block)| Arc::new(block)).collect();
        EpochJob::new(input).ok()
    }

    fn rules(self) -> EpochRules {
        EpochRules {
            tempo: 360,
            cutoff: 1_800,
            seats: self.rows,
            stake_threshold: 0,
            kappa: 32_767,
            bonds_penalty: 65_535,
            bonds_average_ppm: 900_000,
            yuma: Yuma::Three,
            liquid: self.liquid.then_some(Liquid { low: 45_875, high: 58_982, steepness: 1_000 }),
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn to_column(place: f64) -> u32 {
    place as u32
}

fn epoch(name: &'static str, shape: Shape, against_dense: bool) -> Figure {
    let mut workspace = Workspace::new();
    let Some(job) = shape.job() else { return nothing(name) };
    let figure = time(name, || {
        black_box(job.run(&mut workspace));
    });
    if !against_dense {
        return figure;
    }
    let dense = Dense::of(&job);
    let plain = time(name, || {
        black_box(dense.run());
    });
    figure.against(plain.median)
}

fn columns_x10(name: &'static str) -> Figure {
    let shape = Shape { rows: 1_024, columns: 65_536, each: 9_766, liquid: false };
    let base = epoch(name, shape, false);
    epoch(name, Shape { columns: 655_360, ..shape }, false).against(base.median)
}

fn median_column(name: &'static str) -> Figure {
    const COLUMNS: u32 = 1_000;
    let mut chance = Chance(11);
    let voices: Vec<(Q, Q)> =
        (0..1_024).map(|_| (Q::from(chance.below(1 << 22)), Q::from(chance.below(1 << 22)))).collect();
    let total = voices.iter().map(|voice| voice.1).sum();
    let mut words = voices.clone();
    time(name, || {
        for _ in 0..COLUMNS {
            words.copy_from_slice(black_box(&voices));
            black_box(quantile(&mut words, total, total / 2));
        }
    })
    .one_of(COLUMNS)
}

fn exponential(name: &'static str) -> Figure {
    const CALLS: u32 = 100_000;
    let mut chance = Chance(13);
    let values: Vec<Q> = (0..CALLS).map(|_| Q::from(chance.below(u32::MAX)) * 40 - 20 * ONE).collect();
    time(name, || {
        for value in &values {
            black_box(exp(black_box(*value)));
        }
    })
    .one_of(CALLS)
}

fn row_decode(name: &'static str) -> Figure {
    const ROWS: u32 = 100;
    let mut chance = Chance(17);
    let mut id = 0;
    let row: Vec<(MemberId, u32)> = (0..4_096)
        .map(|_| {
            id += 1 + chance.below(16);
            (MemberId(id), 1 + chance.below(65_535))
        })
        .collect();
    let bytes = write_row(Writer::new(), &row).done();
    time(name, || {
        for _ in 0..ROWS {
            black_box(read_row(&mut Reader::new(black_box(&bytes)), 4_096).is_ok());
        }
    })
    .one_of(ROWS)
}

fn commitment(name: &'static str) -> Figure {
    const ROWS: u32 = 100;
    let mut chance = Chance(23);
    let row = (0..4_096).map(|id| (MemberId(id), 1 + chance.below(65_535))).collect();
    let opening = Opening::bare(Width::Two, row, [7; 32]);
    let (chain, operator) = (ChainId::ZERO, PublicKey([3; 32]));
    let author = Author { chain, subnet: SubnetId(1), mechanism: 0, period: 9, validator: MemberId(5), operator };
    time(name, || {
        for _ in 0..ROWS {
            black_box(black_box(&opening).commitment(&author));
        }
    })
    .one_of(ROWS)
}

fn settle(name: &'static str) -> Figure {
    let Ok(books) = Books::of(65_536) else { return nothing(name) };
    time(name, || {
        black_box(books.settle());
    })
}

fn audit(name: &'static str) -> Figure {
    let Ok(books) = Books::of(65_536) else { return nothing(name) };
    time(name, || {
        black_box(books.audit());
    })
}

fn remainder(name: &'static str) -> Figure {
    let mut chance = Chance(19);
    let weights: Vec<u64> = (0..65_536).map(|_| u64::from(chance.below(1 << 20))).collect();
    time(name, || {
        black_box(largest_remainder(1_000_000_000_007, black_box(&weights)));
    })
}

fn simulated(name: &'static str) -> Figure {
    let document = serde_json::json!({
        "v": 1, "name": name, "epochs": 1_000, "warmup": 10, "miners": { "count": 256 }, "agents": [{ "kind": "honest" }],
    });
    time(name, || {
        black_box(super::incentive::attack::run(&document, super::incentive::attack::Plan::seeds(1)).is_ok());
    })
}
