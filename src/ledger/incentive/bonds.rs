//! Bonds: who believed in a miner early (Y11-Y14), and how they are kept (1.6).
//!
//! Bonds are column-major: a block holds 64 miners, each with the validators that are bonded to it. A block names its
//! validators once, so a bond is a seat of two bytes and a value of four, and a block needs nothing beside it to be read.
//! Within a column seats ascend; no bond is 0.

use std::ops::Range;

use super::fixed::{Divider, ONE, Q, add, div, exp, int, mul, sub, to_raw32, to_u16};
use super::job::{ColumnResult, RowResult};
use super::switches::{Decay, EpochRules, Liquid, Width, Yuma};
use crate::protocol::ids::MemberId;

/// Miners of one block.
pub const BLOCK_COLUMNS: u32 = 64;
/// Bonds below this are dropped: they could never be told from rounding.
pub const BOND_FLOOR: u32 = 256;
/// Bonds kept beyond this many, or four times the weights if that is more, raise the threshold.
const BONDS_FREE: u64 = 65_536;

/// The bonds on the miners of one block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BondBlock {
    /// Validators by seat, ids ascending.
    pub(super) rows: Vec<MemberId>,
    /// Miners, ids ascending, and where their bonds end.
    pub(super) columns: Vec<(MemberId, u32)>,
    pub(super) seats: Vec<u16>,
    pub(super) values: Vec<u32>,
}

/// One bond: validator, miner, value as stored.
pub type Bond = (MemberId, MemberId, u32);

impl BondBlock {
    /// The number of the block a miner belongs to.
    pub const fn number(column: MemberId) -> u32 {
        column.0 / BLOCK_COLUMNS
    }

    /// Blocks of any bonds, by number. Bonds of 0 are left out; of two on the same pair the larger stays.
    pub fn of(bonds: &[Bond]) -> Vec<(u32, Self)> {
        let mut bonds: Vec<Bond> = bonds.iter().copied().filter(|bond| bond.2 > 0).collect();
        bonds.sort_unstable_by_key(|bond| (bond.1, bond.0, std::cmp::Reverse(bond.2)));
        bonds.dedup_by_key(|bond| (bond.1, bond.0));
        bonds.chunk_by(|a, b| Self::number(a.1) == Self::number(b.1)).filter_map(Self::of_block).collect()
    }

    /// Of bonds of one block, sorted by miner, then validator.
    fn of_block(bonds: &[Bond]) -> Option<(u32, Self)> {
        let number = Self::number(bonds.first()?.1);
        let mut rows: Vec<MemberId> = bonds.iter().map(|bond| bond.0).collect();
        rows.sort_unstable();
        rows.dedup();
        let mut block = Self { rows, ..Self::default() };
        for bond in bonds {
            let seat = block.rows.binary_search(&bond.0).ok()?;
            block.seats.push(u16::try_from(seat).ok()?);
            block.values.push(bond.2);
            let end = u32::try_from(block.values.len()).ok()?;
            match block.columns.last_mut() {
                Some(last) if last.0 == bond.1 => last.1 = end,
                _ => block.columns.push((bond.1, end)),
            }
        }
        Some((number, block))
    }

    /// The miners of this block that somebody is bonded to.
    pub fn columns(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.columns.iter().map(|column| column.0)
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Every bond, by miner, then validator.
    pub fn bonds(&self) -> impl Iterator<Item = Bond> + '_ {
        (0..self.columns.len()).flat_map(move |at| {
            let column = self.columns.get(at).map_or(MemberId(0), |column| column.0);
            self.run(at).filter_map(move |(seat, value)| Some((*self.rows.get(usize::from(seat))?, column, value)))
        })
    }

    /// Seats and values of the `at`th miner of this block.
    pub(super) fn run(&self, at: usize) -> impl Iterator<Item = (u16, u32)> + '_ {
        let range = span(at, |at| self.columns.get(at).map(|column| column.1));
        let seats = self.seats.get(range.clone()).unwrap_or_default();
        seats.iter().copied().zip(self.values.get(range).unwrap_or_default().iter().copied())
    }
}

/// From the end of the one before to the end of this one.
pub(super) fn span(at: usize, end: impl Fn(usize) -> Option<u32>) -> Range<usize> {
    let end = |at: usize| end(at).map_or(0, |end| usize::try_from(end).unwrap_or(usize::MAX));
    let start = if at == 0 { 0 } else { end(at - 1) };
    start..end(at)
}

/// The bonds an epoch ends with: columns in the order of its result, seats are places of its rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BondTable {
    pub(super) ends: Vec<u32>,
    pub(super) seats: Vec<u16>,
    pub(super) values: Vec<u32>,
}

impl BondTable {
    /// Places of validators and values, of the `at`th column.
    pub fn column(&self, at: usize) -> impl Iterator<Item = (u16, u32)> + '_ {
        let range = span(at, |at| self.ends.get(at).copied());
        let seats = self.seats.get(range.clone()).unwrap_or_default();
        seats.iter().copied().zip(self.values.get(range).unwrap_or_default().iter().copied())
    }

    /// Adds the columns of another table after the own.
    pub(super) fn append(&mut self, other: &Self) {
        let before = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        self.ends.extend(other.ends.iter().map(|end| before.saturating_add(*end)));
        self.seats.extend_from_slice(&other.seats);
        self.values.extend_from_slice(&other.values);
    }

    /// As the blocks the state keeps, ascending by number: `columns` and `rows` are those of the result.
    pub fn blocks(&self, rows: &[RowResult], columns: &[ColumnResult]) -> Vec<(u32, BondBlock)> {
        let of = |(at, column): (usize, &ColumnResult)| {
            let member = column.member;
            let bond = move |(seat, value)| Some((rows.get(usize::from(seat))?.member, member, value));
            self.column(at).filter_map(bond).collect::<Vec<Bond>>()
        };
        let mut blocks = Vec::new();
        let mut block: Vec<Bond> = Vec::new();
        for (at, column) in columns.iter().enumerate() {
            let number = BondBlock::number(column.member);
            if block.first().is_some_and(|bond| BondBlock::number(bond.1) != number) {
                blocks.extend(BondBlock::of_block(&std::mem::take(&mut block)));
            }
            block.extend(of((at, column)));
        }
        blocks.extend(BondBlock::of_block(&block));
        blocks
    }

    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// What a row and a column have to do with each other, while the column's bonds are renewed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    pub row: u16,
    /// Whether the row has a bond weight here (Y11).
    pub present: bool,
    /// Wb.
    pub weight: Q,
    /// As stored.
    pub stored: u32,
    /// B', or E of Yuma 2.
    pub level: Q,
    /// The row's part of the column.
    pub share: Q,
}

/// How bonds of an epoch follow the weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth {
    pub yuma: Yuma,
    penalty: Q,
    /// The plain step: how much of the new is taken in.
    step: Q,
    liquid: Option<Alpha>,
    faded: bool,
    width: Width,
    dense: bool,
}

/// Liquid alpha with its fractions as Q.
#[derive(Clone, Copy, Debug)]
struct Alpha {
    low: Q,
    high: Q,
    slope: Q,
}

impl Alpha {
    fn of(liquid: Liquid) -> Self {
        let [low, high] = [liquid.low, liquid.high].map(super::fixed::from_u16);
        Self { low, high, slope: div(int(liquid.steepness.into()), int(-100)) }
    }

    /// How much of a weight a bond takes in, by its distance from the consensus (Y13).
    fn step(self, weight: Q, bond: Q, consensus: Q) -> Q {
        let distance = if weight >= bond { sub(weight, consensus) } else { sub(bond, weight) };
        let bent = mul(self.slope, distance.clamp(0, ONE) - ONE / 2);
        let grade = div(ONE, add(ONE, exp(bent)));
        add(self.low, mul(grade, sub(self.high, self.low))).max(self.low).min(self.high)
    }
}

/// Y11's line: from `a` toward `b` by a ratio.
pub fn interpolate(a: Q, b: Q, ratio: Q) -> Q {
    add(a, mul(ratio, sub(b, a)))
}

/// A bond that takes in `step` of a weight, at most ONE (Y13).
pub fn follow(bond: Q, weight: Q, step: Q) -> Q {
    add(mul(ONE - step, bond), mul(step, weight).max(0)).min(ONE)
}

impl Growth {
    /// `judged`: whether any column has a consensus; without one liquid alpha has nothing to measure by.
    pub fn of(rules: &EpochRules, switches: &super::switches::Switches, judged: bool) -> Self {
        Self {
            yuma: rules.yuma,
            penalty: rules.penalty(),
            step: rules.step(),
            liquid: rules.liquid.filter(|_| judged).map(Alpha::of),
            faded: switches.decay == Decay::Faded,
            width: switches.bonds,
            dense: switches.dense,
        }
    }

    /// Wb, if the row has one here (Y11).
    #[inline]
    pub fn weight(&self, weight: Q, consensus: Q) -> Option<Q> {
        let clipped = weight.min(consensus);
        if self.penalty == 0 {
            return Some(weight);
        }
        if self.penalty == ONE {
            let gone = consensus == 0 && weight > 0 && !self.dense;
            return (!gone).then_some(clipped);
        }
        let between = interpolate(weight, clipped, self.penalty);
        (between > 0 || self.dense).then_some(between)
    }

    /// Renews the bonds of one column: levels and shares (Y13, Y14). `active` is A of a row.
    pub fn renew(&self, held: &mut [Held], consensus: Q, active: impl Fn(u16) -> Q) {
        match self.yuma {
            Yuma::Three => self.renew_levels(held, consensus),
            Yuma::Two => self.renew_shares(held, active),
        }
    }

    #[inline]
    fn renew_levels(&self, held: &mut [Held], consensus: Q) {
        let mut total = 0_i64;
        for of in held.iter_mut() {
            let bond = match self.width {
                Width::U16 => div(int(of.stored.into()), int(65_535)),
                Width::U32 => Q::from(of.stored),
            };
            let level = match self.liquid {
                None => add(mul(self.step, of.weight), mul(ONE - self.step, bond)),
                Some(_) if !of.present && !self.faded => 0,
                Some(alpha) => follow(bond, of.weight, alpha.step(of.weight, bond, consensus)),
            };
            of.level = level.max(0);
            total = add(total, of.level);
        }
        let total = Divider::of(total.unsigned_abs());
        for of in held {
            of.share = total.share(of.level);
        }
    }

    fn renew_shares(&self, held: &mut [Held], active: impl Fn(u16) -> Q) {
        let stored: u64 = held.iter().map(|of| u64::from(of.stored)).sum();
        let gained = |of: &Held| mul(active(of.row), of.weight);
        let gain: Q = held.iter().map(gained).fold(0, add);
        let mut total = 0;
        for of in held.iter_mut() {
            let old = super::fixed::ratio(of.stored.into(), stored.into());
            let new = if gain == 0 { 0 } else { div(gained(of), gain) };
            of.level = add(mul(self.step, new), mul(ONE - self.step, old)).max(0);
            total = add(total, of.level);
        }
        let most = held.iter().map(|of| of.level).max().unwrap_or(0);
        // The largest share of the column is stored as the whole.
        let most = div(most, total);
        for of in held {
            of.share = div(of.level, total);
            of.level = if most == 0 { of.share } else { div(of.share, most) };
        }
    }
}

/// Writes the bonds of columns one after another, and counts them by size.
#[derive(Debug)]
pub(super) struct Ledge {
    pub table: BondTable,
    width: Width,
    floor: u32,
    /// Bonds by their number of bits.
    pub histogram: [u64; 33],
}

impl Default for Ledge {
    fn default() -> Self {
        Self { table: BondTable::default(), width: Width::U32, floor: BOND_FLOOR, histogram: [0; 33] }
    }
}

impl Ledge {
    /// Starts over, with room for as many bonds as the epoch before kept.
    pub fn clear(&mut self, width: Width, floor: u32, columns: usize, room: usize) {
        self.table = BondTable::default();
        self.table.ends.reserve_exact(columns);
        self.table.seats.reserve_exact(room);
        self.table.values.reserve_exact(room);
        (self.width, self.floor, self.histogram) = (width, floor, [0; 33]);
    }

    /// Keeps a bond as the state does (Y13, Y16); what would be 0 or too small is dropped.
    #[inline]
    pub fn keep(&mut self, row: u16, level: Q) {
        let value = match self.width {
            Width::U16 => u32::from(to_u16(level)),
            Width::U32 => to_raw32(level),
        };
        if let Some(count) = self.histogram.get_mut(usize::try_from(u32::BITS - value.leading_zeros()).unwrap_or(0)) {
            *count += 1;
        }
        let least = if self.width == Width::U16 { 1 } else { self.floor.max(1) };
        if value < least {
            return;
        }
        if self.table.values.len() == self.table.values.capacity() {
            // An eighth more: doubling would be most of the memory of a large epoch.
            let more = 1024 + self.table.values.len() / 8;
            self.table.values.reserve_exact(more);
            self.table.seats.reserve_exact(more);
        }
        self.table.seats.push(row);
        self.table.values.push(value);
    }

    pub fn end_column(&mut self) {
        self.table.ends.push(u32::try_from(self.table.values.len()).unwrap_or(u32::MAX));
    }
}

/// The drop threshold of the next epoch: doubled until what is above it is few enough (1.6).
pub fn next_floor(histogram: &[u64; 33], weights: usize) -> u32 {
    let free = u64::try_from(weights).unwrap_or(u64::MAX).max(BONDS_FREE).saturating_mul(4);
    let mut floor = BOND_FLOOR;
    loop {
        let bits = usize::try_from(u32::BITS - floor.leading_zeros()).unwrap_or(32);
        let kept: u64 = histogram.iter().skip(bits).sum();
        if kept <= free || floor > u32::MAX / 2 {
            return floor;
        }
        floor *= 2;
    }
}
