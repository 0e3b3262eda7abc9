//! The same epoch as plain dense code: whole matrices, one step after another, as the rules are usually written down.
//!
//! It is the other side of the measurements, exact and without floats, and nothing else uses it. Plain and liquid Yuma 3
//! without relations; it starts from the shares of stake the job has.

use crate::ledger::incentive::fixed::{ONE, Q, add, div, exp, from_u16, int, mul, norm};
use crate::ledger::incentive::{EpochJob, Workspace};

type Matrix = Vec<Vec<Q>>;

/// The dense inputs of an epoch.
pub struct Dense {
    weights: Vec<Vec<u64>>,
    bonds: Matrix,
    active: Vec<Q>,
    kappa: Q,
    step: Q,
    liquid: Option<(Q, Q, Q)>,
}

impl Dense {
    pub fn of(job: &EpochJob) -> Self {
        let input = job.input();
        let (n, m) = (input.rows.len(), input.columns.len());
        let place = |id| input.columns.binary_search_by_key(&id, |column| column.member).ok();
        let mut weights = vec![vec![0; m]; n];
        for (row, of) in weights.iter_mut().zip(&input.rows) {
            for (id, value) in of.weights.iter() {
                if let Some(cell) = place(*id).and_then(|at| row.get_mut(at)) {
                    *cell = u64::from(*value);
                }
            }
        }
        let mut bonds = vec![vec![0; m]; n];
        for (row, column, value) in input.bonds.iter().flat_map(|block| block.bonds()) {
            let row = input.rows.binary_search_by_key(&row, |row| row.member).ok();
            let cell = row.and_then(|row| bonds.get_mut(row)).zip(place(column));
            if let Some(cell) = cell.and_then(|(row, column)| row.get_mut(column)) {
                *cell = Q::from(value);
            }
        }
        let active = job.run(&mut Workspace::new()).rows.iter().map(|row| row.active).collect();
        let liquid = input
            .rules
            .liquid
            .map(|liquid| (from_u16(liquid.low), from_u16(liquid.high), div(int(liquid.steepness.into()), int(-100))));
        let kept = crate::ledger::incentive::fixed::from_ppm(input.rules.bonds_average_ppm.into());
        Self { weights, bonds, active, kappa: from_u16(input.rules.kappa), step: ONE - kept, liquid }
    }

    /// Incentives, dividends and new bonds.
    pub fn run(&self) -> (Vec<Q>, Vec<Q>, Matrix) {
        let mut shares: Matrix = Vec::new();
        for row in &self.weights {
            let total: u64 = row.iter().sum();
            shares.push(row.iter().map(|w| share(*w, total)).collect());
        }
        let columns = transposed(&shares);
        let consensus: Vec<Q> = columns.iter().map(|column| self.median(column)).collect();
        let clipped: Matrix =
            shares.iter().map(|row| row.iter().zip(&consensus).map(|(w, c)| *w.min(c)).collect()).collect();
        let mut incentive = vec![0; consensus.len()];
        for (row, active) in clipped.iter().zip(&self.active) {
            for (rank, weight) in incentive.iter_mut().zip(row) {
                *rank = add(*rank, mul(*active, *weight));
            }
        }
        norm(&mut incentive);
        let mut levels: Matrix = Vec::new();
        for (row, bonds) in clipped.iter().zip(&self.bonds) {
            let cells = row.iter().zip(bonds).zip(&consensus);
            levels.push(cells.map(|((weight, bond), c)| self.level(*weight, *bond, *c)).collect());
        }
        let mut totals = vec![0; consensus.len()];
        for row in &levels {
            for (total, level) in totals.iter_mut().zip(row) {
                *total = add(*total, *level);
            }
        }
        let parts: Matrix =
            levels.iter().map(|row| row.iter().zip(&totals).map(|(b, t)| div(*b, *t)).collect()).collect();
        let earned = parts.iter().map(|row| row.iter().zip(&incentive).map(|(b, i)| mul(*b, *i)).sum::<Q>());
        let mut dividend: Vec<Q> = earned.zip(&self.active).map(|(d, a)| mul(d, *a)).collect();
        norm(&mut dividend);
        (incentive, dividend, levels)
    }

    fn median(&self, column: &[Q]) -> Q {
        let mut order: Vec<(Q, Q)> = column.iter().copied().zip(self.active.iter().copied()).collect();
        order.sort_unstable();
        let total: Q = self.active.iter().sum();
        let minority = total - mul(self.kappa, total);
        let mut below = 0;
        for (weight, stake) in &order {
            below += stake;
            if below > minority {
                return *weight;
            }
        }
        order.last().map_or(0, |last| last.0)
    }

    fn level(&self, weight: Q, bond: Q, consensus: Q) -> Q {
        let Some((low, high, slope)) = self.liquid else {
            return add(mul(self.step, weight), mul(ONE - self.step, bond));
        };
        let distance = if weight >= bond { weight - consensus } else { bond - weight }.clamp(0, ONE);
        let grade = div(ONE, add(ONE, exp(mul(slope, distance - ONE / 2))));
        let step = add(low, mul(grade, high - low)).max(low).min(high);
        add(mul(ONE - step, bond), mul(step, weight)).min(ONE)
    }
}

fn share(value: u64, total: u64) -> Q {
    crate::ledger::incentive::fixed::ratio(value.into(), total.into())
}

fn transposed(rows: &Matrix) -> Matrix {
    let width = rows.first().map_or(0, Vec::len);
    (0..width).map(|j| rows.iter().map(|row| row.get(j).copied().unwrap_or(0)).collect()).collect()
}
