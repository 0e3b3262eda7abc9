//! One epoch: a job becomes a result (Y1-Y16), and nothing else happens.
//!
//! `run` is pure and total: it never fails, never panics, and touches no state. All buffers live in a `Workspace` and are
//! used again, so a warm epoch allocates little more than its result. Columns are split into lanes that know nothing of
//! each other: whatever crosses a lane is a sum of integers, so the number of lanes and who runs them change no bit.

use std::ops::Range;

use super::bonds::{BondTable, Growth, Held, Ledge, next_floor};
use super::consensus::{Entry, Judge, Judged, Voices};
use super::defence::{Curve, Lifting};
use super::fixed::{ONE, Q, mul, norm, ratio, sat_u};
use super::job::{ColumnResult, EpochJob, EpochResult, RowResult};
use super::payout::pay;
use super::rows::{Columns, Mask, Places, Reading, kept};
use super::switches::{Activity, Ids, Related, Sums, Tie, Yuma};
use crate::protocol::ids::MemberId;

/// Who runs the lanes of an epoch.
pub trait Spread {
    /// Does `work` once on each lane; in any order, at once or in turn.
    fn each(&self, lanes: &mut [Lane], work: &(dyn Fn(&mut Lane) + Sync));
}

/// Runs lanes one after another.
#[derive(Clone, Copy, Debug)]
pub struct InTurn;

impl Spread for InTurn {
    fn each(&self, lanes: &mut [Lane], work: &(dyn Fn(&mut Lane) + Sync)) {
        lanes.iter_mut().for_each(work);
    }
}

/// The buffers of epochs: made once, used for epoch after epoch.
#[derive(Debug)]
pub struct Workspace {
    places: Places,
    /// The sum of what counts, per row (Y5).
    sums: Vec<u64>,
    voices: Voices,
    /// Places of rows by stake.
    order: Vec<u16>,
    lanes: Vec<Lane>,
}

impl Default for Workspace {
    fn default() -> Self {
        Self::new()
    }
}

impl Workspace {
    /// For one thread.
    pub fn new() -> Self {
        Self::with_lanes(1)
    }

    /// With columns in so many parts, at least one.
    pub fn with_lanes(lanes: usize) -> Self {
        let lanes = (0..lanes.max(1)).map(|_| Lane::default()).collect();
        Self { places: Places::default(), sums: Vec::new(), voices: Voices::default(), order: Vec::new(), lanes }
    }
}

/// A range of columns and what is found about it.
#[derive(Debug, Default)]
pub struct Lane {
    range: Range<usize>,
    columns: Columns,
    results: Vec<ColumnResult>,
    /// Tv per row, of these columns.
    trust: Vec<Q>,
    /// What each row earns by its bonds in these columns, as Q64.
    earned: Vec<u128>,
    heard: Vec<Entry>,
    held: Vec<Held>,
    /// Places of rows by the seats of a block of old bonds.
    seats: Vec<Option<u16>>,
    ledge: Ledge,
    /// Bonds this lane kept the last time.
    room: usize,
}

impl EpochJob {
    /// Closes the epoch on this thread.
    pub fn run(&self, workspace: &mut Workspace) -> EpochResult {
        self.run_on(workspace, &InTurn)
    }

    /// Closes the epoch, lanes run by `spread`.
    pub fn run_on(&self, workspace: &mut Workspace, spread: &dyn Spread) -> EpochResult {
        let Workspace { places, sums, voices, order, lanes } = workspace;
        let input = self.input();
        let mask = Mask::of(self);
        places.set(&input.columns);
        let mut rows = stake_rows(self, &mask);
        seat(self, &mask, &mut rows, order);
        speak(self, &mask, &mut rows, voices);
        sum_rows(self, &mask, places, sums);
        for (row, sum) in rows.iter_mut().zip(sums.iter()) {
            row.weights = *sum;
        }
        part(lanes, input.columns.len());
        let judge = Judge {
            voices,
            kappa: input.rules.kappa(),
            of_set: input.switches.related == Related::Mask,
            lifting: input.switches.lift.map(Lifting::of),
            sums: input.switches.sums,
        };
        let reading = Reading { job: self, mask, places, sums };
        spread.each(lanes, &|lane| lane.judge(&reading, &judge));
        incentives(lanes, input.switches.sums);
        let judged = lanes.iter().flat_map(|lane| &lane.results).any(|column| column.consensus > 0);
        let growth = Growth::of(&input.rules, &input.switches, judged);
        let seated = rows.as_slice();
        spread.each(lanes, &|lane| lane.renew(self, &growth, voices, seated));
        dividends(self, lanes, &mut rows);
        let mut result = gather(self, lanes, rows);
        pay(self, &mut result);
        result
    }
}

/// Y2: each row's part of the stake that reaches the threshold.
fn stake_rows(job: &EpochJob, mask: &Mask) -> Vec<RowResult> {
    let input = job.input();
    let counts = |at: usize| {
        let row = input.rows.get(at)?;
        let enough = row.stake >= input.rules.stake_threshold || mask.is_owner(row.member);
        Some(if enough { row.stake } else { 0 })
    };
    let (mut permitted, mut all) = (0_u128, 0_u128);
    for (at, row) in input.rows.iter().enumerate() {
        let stake = u128::from(counts(at).unwrap_or(0));
        all += stake;
        permitted += if mask.permits(row) { stake } else { 0 };
    }
    let curve = Curve::new(input.switches.stake_curve, permitted, all, input.rules.seats);
    let bent = |at: usize| curve.of(counts(at).unwrap_or(0));
    let total: u128 = (0..input.rows.len()).map(|at| u128::from(bent(at))).sum();
    let mut rows = Vec::with_capacity(input.rows.len());
    rows.extend(input.rows.iter().enumerate().map(|(at, row)| RowResult {
        member: row.member,
        stake: ratio(u128::from(bent(at)), total),
        ..RowResult::default()
    }));
    rows
}

/// Y3: the seats of the next epoch go to the largest stakes.
fn seat(job: &EpochJob, mask: &Mask, rows: &mut [RowResult], order: &mut Vec<u16>) {
    let seats = usize::try_from(job.input().rules.seats).unwrap_or(usize::MAX);
    let younger = job.input().switches.tie == Tie::Younger;
    order.clear();
    order.extend((0_u16..).zip(rows.iter()).map(|(at, _)| at));
    let stake = |at: &u16| rows.get(usize::from(*at)).map_or(0, |row| row.stake);
    order.sort_unstable_by_key(|at| (stake(at), if younger { *at } else { u16::MAX - *at }));
    for at in order.iter().skip(rows.len().saturating_sub(seats)) {
        if let Some(row) = rows.get_mut(usize::from(*at)) {
            row.permit = row.stake > 0;
        }
    }
    for row in rows {
        row.permit |= mask.is_owner(row.member);
    }
}

/// Y3's rule on any values: the `k` largest, of equals the later.
pub fn top(values: &[Q], k: usize) -> Vec<bool> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by_key(|at| values.get(*at).copied());
    let mut found = vec![false; values.len()];
    for at in order.into_iter().skip(values.len().saturating_sub(k)) {
        if let Some(found) = found.get_mut(at) {
            *found = true;
        }
    }
    found
}

/// Y1, Y4: the part of those with a permit that spoke lately, and kept their word.
fn speak(job: &EpochJob, mask: &Mask, rows: &mut [RowResult], voices: &mut Voices) {
    let input = job.input();
    let reveals = input.switches.activity == Activity::Reveal;
    voices.active.clear();
    voices.active.extend(input.rows.iter().zip(rows.iter()).map(|(row, found)| {
        let lately = row.last_activity.is_some_and(|last| last.saturating_add(input.rules.cutoff) >= input.height);
        let speaks = lately && mask.permits(row) && !(reveals && row.missed);
        if speaks { found.stake } else { 0 }
    }));
    norm(&mut voices.active);
    for (row, active) in rows.iter_mut().zip(&voices.active) {
        row.active = *active;
    }
    voices.voice.clear();
    voices.voice.extend_from_slice(&voices.active);
    norm(&mut voices.voice);
    voices.total = voices.voice.iter().sum();
}

/// Y5: the sum of what counts in each row.
fn sum_rows(job: &EpochJob, mask: &Mask, places: &Places, sums: &mut Vec<u64>) {
    sums.clear();
    sums.extend(job.input().rows.iter().map(|row| {
        let mut sum = 0;
        kept(job, mask, places, row, &row.weights, |_, value| sum += u64::from(value));
        sum
    }));
}

/// Gives each lane its columns.
fn part(lanes: &mut [Lane], columns: usize) {
    let each = columns.div_ceil(lanes.len().max(1));
    let mut start = 0;
    for lane in lanes {
        let end = columns.min(start + each);
        lane.range = start..end;
        start = end;
    }
}

impl Lane {
    /// Passes 1 to 3: the columns, their consensus, and what it leaves of each (Y5-Y10).
    fn judge(&mut self, reading: &Reading<'_>, judge: &Judge<'_>) {
        let input = reading.job.input();
        self.columns.fill(reading, &self.range);
        self.trust.clear();
        self.trust.resize(input.rows.len(), 0);
        self.results = Vec::with_capacity(self.range.len());
        for (at, column) in self.range.clone().enumerate() {
            let (entries, related) = (self.columns.column(at), reading.job.related(column));
            let (consensus, lift) = judge.agree(entries, related, &mut self.heard);
            let mut found = Judged { consensus, lift, ..Judged::default() };
            judge.rank(entries, related, &mut found, &mut self.trust);
            self.results.push(ColumnResult {
                member: input.columns.get(column).map_or(MemberId(0), |column| column.member),
                consensus,
                lift,
                sum: found.sum,
                prerank: found.prerank,
                ..ColumnResult::default()
            });
        }
    }

    /// Pass 4: bonds of each column, and what they earn (Y11-Y14).
    fn renew(&mut self, job: &EpochJob, growth: &Growth, voices: &Voices, rows: &[RowResult]) {
        let input = job.input();
        let exact = input.switches.sums == Sums::Exact;
        self.earned.clear();
        self.earned.resize(rows.len(), 0);
        self.ledge.clear(input.switches.bonds, input.bond_floor, self.range.len(), self.room);
        let mut old = OldBonds::at(job, self.range.start);
        for at in 0..self.range.len() {
            let Some(result) = self.results.get(at) else { continue };
            old.gather(job, result.member, self.range.start + at, &mut self.seats, &mut self.held);
            merge(&mut self.held, self.columns.column(at), |entry| {
                growth.weight(entry.weight(), result.consensus).filter(|_| !entry.related())
            });
            growth.renew(&mut self.held, result.consensus, |row| voices.active(row));
            for held in self.held.iter().filter(|held| held.level > 0) {
                let product = u128::from(held.share.unsigned_abs()) * u128::from(result.incentive.unsigned_abs());
                if let Some(earned) = self.earned.get_mut(usize::from(held.row)) {
                    *earned += if exact { product } else { (product >> 32) << 32 };
                }
                if rows.get(usize::from(held.row)).is_some_and(|row| row.permit) {
                    self.ledge.keep(held.row, held.level);
                }
            }
            self.ledge.end_column();
        }
        self.room = self.ledge.table.len();
    }
}

/// Walks the stored bonds beside the columns: both ascend by id.
struct OldBonds {
    block: usize,
    column: usize,
    /// The block whose seats are known.
    seated: Option<usize>,
}

impl OldBonds {
    fn at(job: &EpochJob, column: usize) -> Self {
        let first = job.input().columns.get(column).map(|column| column.member);
        let before = |id: Option<MemberId>| id.zip(first).is_some_and(|(id, first)| id < first);
        let block = job.input().bonds.partition_point(|block| before(block.columns.last().map(|column| column.0)));
        Self { block, column: 0, seated: None }
    }

    /// Puts the stored bonds of a column into `held`, rows ascending; bonds of who is gone vanish (Y12).
    fn gather(
        &mut self,
        job: &EpochJob,
        member: MemberId,
        place: usize,
        seats: &mut Vec<Option<u16>>,
        held: &mut Vec<Held>,
    ) {
        held.clear();
        let input = job.input();
        while let Some(block) = input.bonds.get(self.block) {
            let Some((id, _)) = block.columns.get(self.column) else {
                (self.block, self.column) = (self.block + 1, 0);
                continue;
            };
            if *id > member {
                return;
            }
            let here = *id == member;
            if here && !deleted(job, place) {
                if self.seated != Some(self.block) {
                    find_seats(job, &block.rows, seats);
                    self.seated = Some(self.block);
                }
                let place = |seat: u16| seats.get(usize::from(seat)).copied().flatten();
                let run = block.run(self.column).filter_map(|(seat, value)| Some((place(seat)?, value)));
                held.extend(run.map(|(row, stored)| Held { row, stored, ..Held::default() }));
            }
            self.column += 1;
            if here {
                return;
            }
        }
    }
}

/// Whether the stored bonds of a column are deleted first (Y12).
fn deleted(job: &EpochJob, place: usize) -> bool {
    let input = job.input();
    let since = input.last_close.map_or(input.height.saturating_sub(input.rules.tempo), |last| last.saturating_add(1));
    let slots = input.switches.ids == Ids::Slots;
    input.columns.get(place).is_some_and(|column| column.reset || (slots && since <= column.registered))
}

/// Where the validators of a block are among the rows of the job.
fn find_seats(job: &EpochJob, members: &[MemberId], seats: &mut Vec<Option<u16>>) {
    seats.clear();
    let mut rows = (0_u16..).zip(&job.input().rows).peekable();
    for member in members {
        while rows.next_if(|(_, row)| row.member < *member).is_some() {}
        seats.push(rows.next_if(|(_, row)| row.member == *member).map(|(at, _)| at));
    }
}

/// Adds the entries of a column to its old bonds; both are in the order of rows, and so is what comes of it.
fn merge(held: &mut Vec<Held>, entries: &[Entry], weight: impl Fn(Entry) -> Option<Q>) {
    let old = held.len();
    let mut next = 0;
    let mut sorted = true;
    for entry in entries {
        let Some(weight) = weight(*entry) else { continue };
        let row = entry.row();
        while held.get(next).is_some_and(|of| next < old && of.row < row) {
            next += 1;
        }
        match held.get_mut(next) {
            Some(of) if next < old && of.row == row => (of.present, of.weight) = (true, weight),
            _ => {
                sorted &= next == old;
                held.push(Held { row, present: true, weight, ..Held::default() });
            }
        }
    }
    if !sorted {
        held.sort_unstable_by_key(|of| of.row);
    }
}

/// I: each column's part of what all columns have (Y10).
fn incentives(lanes: &mut [Lane], sums: Sums) {
    let of = |column: &ColumnResult| match sums {
        Sums::Exact => column.sum,
        Sums::Floored => column.sum >> 32,
    };
    let total: u128 = lanes.iter().flat_map(|lane| &lane.results).map(of).sum();
    for column in lanes.iter_mut().flat_map(|lane| &mut lane.results) {
        column.incentive = ratio(of(column), total);
    }
}

/// Tv and D (Y10, Y13, Y14), and the gate (D6).
fn dividends(job: &EpochJob, lanes: &[Lane], rows: &mut [RowResult]) {
    let input = job.input();
    let levels = input.rules.yuma == Yuma::Three;
    let exact = input.switches.sums == Sums::Exact;
    let earned = |at: usize, active: Q| {
        let q64: u128 = lanes.iter().filter_map(|lane| lane.earned.get(at)).sum();
        match (levels, exact) {
            (true, true) => (q64 * u128::from(active.unsigned_abs())) >> 32,
            (true, false) => u128::from(mul(sat_u(q64 >> 32), active).unsigned_abs()),
            (false, true) => q64,
            (false, false) => q64 >> 32,
        }
    };
    let total: u128 = rows.iter().enumerate().map(|(at, row)| earned(at, row.active)).sum();
    for (at, row) in rows.iter_mut().enumerate() {
        row.trust = lanes.iter().filter_map(|lane| lane.trust.get(at)).sum();
        row.dividend = ratio(earned(at, row.active), total);
    }
    if input.rows.iter().any(|row| row.gate != ONE) {
        let gated = |at: usize, dividend: Q| input.rows.get(at).map_or(0, |row| mul(dividend, row.gate.max(0)));
        let total: i128 = rows.iter().enumerate().map(|(at, row)| i128::from(gated(at, row.dividend))).sum();
        for (at, row) in rows.iter_mut().enumerate() {
            let gated = gated(at, row.dividend).unsigned_abs();
            row.dividend = ratio(u128::from(gated), total.unsigned_abs());
        }
    }
}

/// Joins what the lanes found.
fn gather(job: &EpochJob, lanes: &mut [Lane], rows: Vec<RowResult>) -> EpochResult {
    let mut histogram = [0_u64; 33];
    let (mut columns, mut bonds) = (Vec::new(), BondTable::default());
    for (first, lane) in lanes.iter_mut().enumerate() {
        for (all, lane) in histogram.iter_mut().zip(lane.ledge.histogram) {
            *all += lane;
        }
        let (found, table) = (std::mem::take(&mut lane.results), std::mem::take(&mut lane.ledge.table));
        if first == 0 {
            (columns, bonds) = (found, table);
        } else {
            columns.extend(found);
            bonds.append(&table);
        }
    }
    let bond_floor = match job.input().switches.bonds {
        super::switches::Width::U16 => super::bonds::BOND_FLOOR,
        super::switches::Width::U32 => next_floor(&histogram, job.entries()),
    };
    EpochResult { rows, columns, bonds, bond_floor, ..EpochResult::default() }
}
