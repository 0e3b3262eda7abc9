//! The rules of an epoch in the order they are written, cell by cell. Nothing here is clever; nothing is shared.

use starling::ledger::incentive::{
    Activity, Decay, EpochInput, Ids, NoMiner, Payout, Related, StakeCurve, Sums, Tie, Width, Yuma,
};

const ONE: i128 = 1 << 32;

fn sat(x: i128) -> i128 {
    x.clamp(i64::MIN.into(), i64::MAX.into())
}

fn mul(a: i128, b: i128) -> i128 {
    sat((a * b) >> 32)
}

fn div(a: i128, b: i128) -> i128 {
    if b == 0 { 0 } else { sat((a << 32) / b) }
}

fn norm(x: &[i128]) -> Vec<i128> {
    let t: i128 = x.iter().sum();
    if t == 0 { x.to_vec() } else { x.iter().map(|v| div(*v, t)).collect() }
}

fn exp(x: i128) -> i128 {
    const LN2: i128 = 0xB172_17F7_D1CF_79AB;
    let x = x.clamp(-20 * ONE, 20 * ONE) << 32;
    let (k, r) = (x.div_euclid(LN2), x.rem_euclid(LN2) as u128);
    let (mut t, mut s) = (1_u128 << 64, 1_u128 << 64);
    for i in 1..=24 {
        t = ((t * r) >> 64) / i;
        s += t;
    }
    (s >> (32 - k)) as i128
}

fn parameter(p: u16) -> i128 {
    (i128::from(p) << 32) / 65_535
}

/// The smallest score with more than `minority` of the stake at or below it; else the largest; nobody: 0.
fn quantile(rows: &[(i128, i128)], minority: i128) -> i128 {
    let at_most = |w: i128| rows.iter().filter(|r| r.0 <= w).map(|r| r.1).sum::<i128>();
    let mut scores: Vec<i128> = rows.iter().map(|r| r.0).collect();
    scores.sort_unstable();
    scores.iter().copied().find(|w| at_most(*w) > minority).or(scores.last().copied()).unwrap_or(0)
}

fn isqrt(x: u128) -> u128 {
    let (mut low, mut high) = (0_u128, 1 << 64);
    while high - low > 1 {
        let middle = (low + high) / 2;
        if middle.checked_mul(middle).is_some_and(|square| square <= x) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// E19: floors, then a mote each to the largest remainders, the earlier of equals.
fn remainder(pot: i128, weights: &[i128]) -> Vec<i128> {
    let total: i128 = weights.iter().sum();
    if total == 0 {
        return vec![0; weights.len()];
    }
    let mut parts: Vec<i128> = weights.iter().map(|w| pot * w / total).collect();
    let left = pot - parts.iter().sum::<i128>();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|i| -(pot * weights[*i] % total));
    for i in order.into_iter().take(left as usize) {
        parts[i] += 1;
    }
    parts
}

pub struct Slow {
    pub stake: Vec<i128>,
    pub active: Vec<i128>,
    pub trust: Vec<i128>,
    pub dividend: Vec<i128>,
    pub permit: Vec<bool>,
    pub row_amount: Vec<i128>,
    pub consensus: Vec<i128>,
    pub lift: Vec<i128>,
    pub sum: Vec<i128>,
    pub prerank: Vec<i128>,
    pub incentive: Vec<i128>,
    pub column_amount: Vec<i128>,
    pub bonds: Vec<Vec<i128>>,
    pub combined: Vec<i128>,
    pub carried: (i128, i128),
}

type Matrix = Vec<Vec<Option<i128>>>;

impl Slow {
    pub fn close(of: &EpochInput) -> Self {
        let (n, m) = (of.rows.len(), of.columns.len());
        let is_owner = |i: usize| of.switches.owner && of.owner == Some(of.rows[i].member);
        let permitted = |i: usize| of.rows[i].permit || is_owner(i);
        let stake = stake(of, &permitted, &is_owner);
        let permit = permits(of, &stake, &is_owner);
        // Y1, Y4
        let speaks = |i: usize| {
            let row = &of.rows[i];
            let lately = row
                .last_activity
                .is_some_and(|last| u128::from(last) + u128::from(of.rules.cutoff) >= u128::from(of.height));
            let kept_word = of.switches.activity == Activity::Update || !row.missed;
            lately && permitted(i) && kept_word
        };
        let a = norm(&(0..n).map(|i| if speaks(i) { stake[i] } else { 0 }).collect::<Vec<_>>());
        let w = weights(of, &permitted, &is_owner);
        let related = |i: usize, j: usize| {
            of.switches.related == Related::Mask && of.related.contains(&(of.rows[i].member, of.columns[j].member))
        };
        let (consensus, lift) = agree(of, &a, &w, &related);
        // Y8
        let mut clipped: Matrix = vec![vec![None; m]; n];
        for i in 0..n {
            for j in 0..m {
                clipped[i][j] = w[i][j].map(|w| w.min(consensus[j]));
                if consensus[j] == 0 && w[i][j].is_some_and(|w| w > 0) && !of.switches.dense {
                    clipped[i][j] = None;
                }
            }
        }
        // Y9, Y10
        let floored = of.switches.sums == Sums::Floored;
        let product = |a: i128, b: i128| if floored { mul(a, b) << 32 } else { a * b };
        let (mut sum, mut prerank) = (vec![0; m], vec![0; m]);
        for j in 0..m {
            for i in 0..n {
                let plain = clipped[i][j].unwrap_or(0);
                let counted = if related(i, j) { plain } else { plain.max(lift[j]) };
                sum[j] += product(a[i], counted);
                prerank[j] += product(a[i], w[i][j].unwrap_or(0));
            }
        }
        let prerank = prerank.into_iter().map(|p: i128| p >> 32).collect();
        let total: i128 = sum.iter().map(|x| if floored { x >> 32 } else { *x }).sum();
        let part = |x: i128| if total == 0 { 0 } else { ((if floored { x >> 32 } else { x }) << 32) / total };
        let incentive: Vec<i128> = sum.iter().map(|x| part(*x)).collect();
        let trust = (0..n).map(|i| (0..m).map(|j| clipped[i][j].unwrap_or(0)).sum()).collect();
        let (dividend, levels) = bond(of, &a, &w, &clipped, &consensus, &incentive, &related);
        let dividend = gate(of, dividend);
        // Y13, Y14, Y16: what is kept
        let mut bonds = vec![vec![0; m]; n];
        for i in (0..n).filter(|i| permit[*i]) {
            for j in 0..m {
                bonds[i][j] = match of.switches.bonds {
                    Width::U16 => ((levels[i][j] * 65_535) >> 32).clamp(0, 65_535),
                    Width::U32 => {
                        let raw = levels[i][j].min(u32::MAX.into());
                        if raw < of.bond_floor.into() { 0 } else { raw }
                    }
                };
            }
        }
        let (row_amount, column_amount, combined, carried) = pay(of, &stake, &a, &incentive, &dividend);
        Self {
            stake,
            active: a,
            trust,
            dividend,
            permit,
            row_amount,
            consensus,
            lift,
            sum,
            prerank,
            incentive,
            column_amount,
            bonds,
            combined,
            carried,
        }
    }
}

/// Y2, D10
fn stake(of: &EpochInput, permitted: &dyn Fn(usize) -> bool, is_owner: &dyn Fn(usize) -> bool) -> Vec<i128> {
    let n = of.rows.len();
    let raw: Vec<u128> = (0..n)
        .map(|i| if of.rows[i].stake < of.rules.stake_threshold && !is_owner(i) { 0 } else { of.rows[i].stake.into() })
        .collect();
    let all: u128 = raw.iter().sum();
    let held: u128 = (0..n).filter(|i| permitted(*i)).map(|i| raw[i]).sum();
    let bent: Vec<u128> = raw
        .iter()
        .map(|s| match of.switches.stake_curve {
            StakeCurve::Linear => *s,
            StakeCurve::Knee => {
                let k = if of.rules.seats == 0 { 0 } else { held / u128::from(of.rules.seats) * 4 };
                if k == 0 || *s <= k { *s } else { isqrt(4 * s * k) - k }
            }
            StakeCurve::Cap(c) => {
                let cap = all * u128::from(c) / 65_535;
                if cap == 0 { *s } else { (*s).min(cap) }
            }
        })
        .collect();
    let total: u128 = bent.iter().sum();
    bent.iter().map(|s| (s << 32).checked_div(total).unwrap_or(0) as i128).collect()
}

/// Y3
fn permits(of: &EpochInput, stake: &[i128], is_owner: &dyn Fn(usize) -> bool) -> Vec<bool> {
    let n = stake.len();
    let mut order: Vec<usize> = (0..n).collect();
    if of.switches.tie == Tie::Older {
        order.reverse();
    }
    order.sort_by_key(|i| stake[*i]);
    let dropped = n.saturating_sub(of.rules.seats as usize);
    (0..n)
        .map(|i| {
            let place = order.iter().position(|at| *at == i).unwrap();
            (stake[i] > 0 && place >= dropped) || is_owner(i)
        })
        .collect()
}

/// Y5
fn weights(of: &EpochInput, permitted: &dyn Fn(usize) -> bool, is_owner: &dyn Fn(usize) -> bool) -> Matrix {
    let (n, m) = (of.rows.len(), of.columns.len());
    let mut w: Matrix = vec![vec![None; m]; n];
    for i in (0..n).filter(|i| permitted(*i)) {
        let row = &of.rows[i];
        for (id, value) in row.weights.iter() {
            let Some(j) = (0..m).find(|j| of.columns[*j].member == *id) else { continue };
            let registered = of.columns[j].registered;
            if of.switches.related == Related::Diagonal && row.member == *id && !is_owner(i) {
                continue;
            }
            if of.switches.ids == Ids::Slots {
                let outdated = match row.last_activity {
                    None => true,
                    Some(last) => last <= registered,
                };
                if outdated || row.commit.unwrap_or(u64::MAX) < registered {
                    continue;
                }
            }
            w[i][j] = Some((*value).into());
        }
        let t: i128 = w[i].iter().flatten().sum();
        if t > 0 {
            for cell in w[i].iter_mut().flatten() {
                *cell = (*cell << 32) / t;
            }
        }
    }
    if of.switches.dense {
        for cell in w.iter_mut().flatten() {
            *cell = Some(cell.unwrap_or(0));
        }
    }
    w
}

/// Y7, D7
fn agree(of: &EpochInput, a: &[i128], w: &Matrix, related: &dyn Fn(usize, usize) -> bool) -> (Vec<i128>, Vec<i128>) {
    let voice = norm(a);
    let kappa = parameter(of.rules.kappa);
    let (mut consensus, mut lift) = (Vec::new(), Vec::new());
    for (j, _) in of.columns.iter().enumerate() {
        let heard: Vec<usize> = (0..a.len()).filter(|i| a[*i] > 0).collect();
        let value = |i: usize| w[i][j].unwrap_or(0);
        let level = |left_out: &dyn Fn(usize) -> bool| {
            let rows: Vec<(i128, i128)> =
                heard.iter().filter(|i| !left_out(**i)).map(|i| (value(*i), voice[*i])).collect();
            let t: i128 = rows.iter().map(|r| r.1).sum();
            let minority = if of.switches.related == Related::Mask { t - mul(kappa, t) } else { t - kappa };
            let low = of.switches.lift.map(|lift| quantile(&rows, mul(parameter(lift.tau), t)));
            (quantile(&rows, minority), low.unwrap_or(0))
        };
        let own: Vec<usize> = heard.iter().copied().filter(|i| related(*i, j)).collect();
        let (c, low) = if own.len() <= 6 {
            // As the rule says: the least of all choices of related rows to leave out.
            let choice = |chosen: usize| {
                level(&|i| own.iter().position(|of| *of == i).is_some_and(|bit| chosen >> bit & 1 == 1))
            };
            let all = (0..1_usize << own.len()).map(choice);
            all.reduce(|a, b| (a.0.min(b.0), a.1.min(b.1))).unwrap()
        } else {
            // Too many choices: of them, for each score, the one that leaves out who gives more.
            let mut scores: Vec<i128> = heard.iter().map(|i| value(*i)).chain([0]).collect();
            scores.sort_unstable();
            let without = |score: i128| level(&|i| own.contains(&i) && value(i) > score);
            let consensus = scores.iter().copied().find(|score| without(*score).0 <= *score);
            let low = scores.iter().copied().find(|score| without(*score).1 <= *score);
            (consensus.unwrap(), low.unwrap())
        };
        consensus.push(c);
        let lambda = of.switches.lift.map_or(0, |lift| parameter(lift.lambda));
        lift.push(mul(lambda, low.min(c)));
    }
    (consensus, lift)
}

/// Y11-Y14: dividends before the gate, and levels before they are kept.
fn bond(
    of: &EpochInput,
    a: &[i128],
    w: &Matrix,
    clipped: &Matrix,
    consensus: &[i128],
    incentive: &[i128],
    related: &dyn Fn(usize, usize) -> bool,
) -> (Vec<i128>, Vec<Vec<i128>>) {
    let (n, m) = (of.rows.len(), of.columns.len());
    let penalty = parameter(of.rules.bonds_penalty);
    // Y11
    let mut wb: Matrix = vec![vec![None; m]; n];
    for i in 0..n {
        for j in 0..m {
            wb[i][j] = if penalty == 0 {
                w[i][j]
            } else if penalty == ONE {
                clipped[i][j]
            } else {
                let between = |w: i128| sat(w + mul(penalty, sat(w.min(consensus[j]) - w)));
                w[i][j].map(between).filter(|b| *b > 0 || of.switches.dense)
            };
            if related(i, j) {
                wb[i][j] = None;
            }
        }
    }
    // Y12
    let since = of.last_close.map_or(of.height.saturating_sub(of.rules.tempo), |last| last + 1);
    let mut stored = vec![vec![0_i128; m]; n];
    for (i, j, value) in of.bonds.iter().flat_map(|block| block.bonds()) {
        let i = of.rows.iter().position(|row| row.member == i);
        let j = of.columns.iter().position(|column| column.member == j);
        if let (Some(i), Some(j)) = (i, j) {
            let column = &of.columns[j];
            let new = of.switches.ids == Ids::Slots && since <= column.registered;
            if !new && !column.reset {
                stored[i][j] = value.into();
            }
        }
    }
    let step = ONE - (i128::from(of.rules.bonds_average_ppm) << 32) / 1_000_000;
    let column = |b: &[Vec<i128>], j: usize| b.iter().map(|row| row[j]).collect::<Vec<i128>>();
    let mut levels = vec![vec![0_i128; m]; n];
    let floored = of.switches.sums == Sums::Floored;
    let mut earned = vec![0_i128; n];
    for j in 0..m {
        let shares = match of.rules.yuma {
            Yuma::Three => {
                for i in 0..n {
                    levels[i][j] = level(of, wb[i][j], stored[i][j], consensus, j, step);
                }
                norm(&column(&levels, j))
            }
            Yuma::Two => {
                let old = norm(&column(&stored, j));
                let gain = norm(&(0..n).map(|i| mul(a[i], wb[i][j].unwrap_or(0))).collect::<Vec<_>>());
                let e: Vec<i128> = (0..n).map(|i| (mul(step, gain[i]) + mul(ONE - step, old[i])).max(0)).collect();
                let e = norm(&e);
                let most = e.iter().copied().max().unwrap_or(0);
                for i in 0..n {
                    levels[i][j] = if most == 0 { e[i] } else { div(e[i], most) };
                }
                e
            }
        };
        for i in 0..n {
            earned[i] += if floored { mul(shares[i], incentive[j]) } else { shares[i] * incentive[j] };
        }
    }
    let paid: Vec<i128> = (0..n)
        .map(|i| match (of.rules.yuma, floored) {
            (Yuma::Three, true) => mul(earned[i], a[i]),
            (Yuma::Three, false) => (earned[i] * a[i]) >> 32,
            (Yuma::Two, _) => earned[i],
        })
        .collect();
    let total: i128 = paid.iter().sum();
    (paid.iter().map(|y| if total == 0 { 0 } else { (y << 32) / total }).collect(), levels)
}

/// Y13 for one cell.
fn level(of: &EpochInput, wb: Option<i128>, stored: i128, consensus: &[i128], j: usize, step: i128) -> i128 {
    let bond = match of.switches.bonds {
        Width::U16 => div(stored << 32, 65_535 << 32),
        Width::U32 => stored,
    };
    let liquid = of.rules.liquid.filter(|_| consensus.iter().any(|c| *c > 0));
    let Some(liquid) = liquid else {
        return mul(step, wb.unwrap_or(0)) + mul(ONE - step, bond);
    };
    if wb.is_none() && of.switches.decay == Decay::Dropped {
        return 0;
    }
    let weight = wb.unwrap_or(0);
    let d = if weight >= bond { (weight - consensus[j]).clamp(0, ONE) } else { (bond - weight).clamp(0, ONE) };
    let slope = div(i128::from(liquid.steepness) << 32, -100 << 32);
    let g = div(ONE, ONE + exp(mul(slope, d - ONE / 2)));
    let (low, high) = (parameter(liquid.low), parameter(liquid.high));
    let mut a = low + mul(g, high - low);
    if a < low {
        a = low;
    }
    if a > high {
        a = high;
    }
    ONE.min(mul(ONE - a, bond) + mul(a, weight).max(0))
}

/// D6
fn gate(of: &EpochInput, dividend: Vec<i128>) -> Vec<i128> {
    if of.rows.iter().all(|row| i128::from(row.gate) == ONE) {
        return dividend;
    }
    let gated: Vec<i128> = dividend.iter().zip(&of.rows).map(|(d, row)| mul(*d, row.gate.into())).collect();
    norm(&gated)
}

type Paid = (Vec<i128>, Vec<i128>, Vec<i128>, (i128, i128));

/// Y15, E9, E19
fn pay(of: &EpochInput, stake: &[i128], a: &[i128], incentive: &[i128], dividend: &[i128]) -> Paid {
    let (n, m) = (of.rows.len(), of.columns.len());
    let (miners, validators) = (i128::from(of.miner_pot), i128::from(of.validator_pot));
    if miners == 0 && validators == 0 {
        return (vec![0; n], vec![0; m], Vec::new(), (0, 0));
    }
    let pot = miners + validators;
    let z: i128 = incentive.iter().sum::<i128>() + dividend.iter().sum::<i128>();
    let instead = if a.iter().all(|a| *a == 0) { stake } else { a };
    match (of.switches.no_miner, of.switches.payout) {
        (NoMiner::Validators, Payout::Floor) => {
            let row = |i: usize| if z == 0 { instead[i] } else { div(dividend[i], z) };
            let both = |i: usize| if z == 0 { instead[i] } else { div(incentive[i] + dividend[i], z) };
            let combined = if of.switches.ids == Ids::Slots { n } else { 0 };
            (
                (0..n).map(|i| (row(i) * pot) >> 32).collect(),
                (0..m).map(|j| (div(incentive[j], z) * pot) >> 32).collect(),
                (0..combined).map(|i| (both(i) * pot) >> 32).collect(),
                (0, 0),
            )
        }
        (NoMiner::Validators, Payout::Remainder) => {
            let rows = if z == 0 { instead } else { dividend };
            let parts = remainder(pot, &[incentive, rows].concat());
            (parts[m..].to_vec(), parts[..m].to_vec(), Vec::new(), (0, 0))
        }
        (NoMiner::Carried, payout) => {
            let split = |pot: i128, x: &[i128]| match payout {
                Payout::Remainder => remainder(pot, x),
                Payout::Floor => x.iter().map(|x| (x * pot) >> 32).collect(),
            };
            let idle = |pot: i128, x: &[i128]| if x.iter().all(|x| *x == 0) { pot } else { 0 };
            (
                split(validators, dividend),
                split(miners, incentive),
                Vec::new(),
                (idle(miners, incentive), idle(validators, dividend)),
            )
        }
    }
}
