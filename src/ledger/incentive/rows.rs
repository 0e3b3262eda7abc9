//! Rows: which are admitted (Y18), how they are kept (1.6), and how they become columns (Y5).
//!
//! A stored row names members, not places, so a row stays valid when others leave. An epoch streams the rows twice: to
//! sum what counts, and to lay each entry into its column. Both ask the same `Mask`.

use std::ops::Range;

use super::bonds::span;
use super::consensus::Entry;
use super::fixed::{Divider, Q, from_u16, int, ratio, upscale};
use super::job::{ColumnInput, EpochJob, RowInput, RowWeights};
use super::switches::{Ids, Related, Switches, Width, Zeros};
use crate::protocol::ids::MemberId;
use crate::protocol::layout::{LayoutError, Reader, Writer};

/// What a row must keep to (Y18).
#[derive(Clone, Copy, Debug)]
pub struct RowRules {
    pub switches: Switches,
    /// Miners there are.
    pub miners: usize,
    /// Miners a row must name at least, if there are so many.
    pub min_weights: usize,
    /// The version of the scorer the subnet asks for at least.
    pub version: u64,
    /// The largest share of one miner, over 65535.
    pub max_weight_limit: u16,
}

/// Why a row is refused (Y18).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    #[error("the weights are not strictly ascending by miner")]
    Order,
    #[error("{0} is no miner here")]
    Unknown(MemberId),
    #[error("{0} has a weight of 0; leave it out")]
    Zero(MemberId),
    #[error("the weight of {0} is above 65535")]
    Wide(MemberId),
    #[error("the row names {found} miners; at least {least} are asked for")]
    Few { found: usize, least: usize },
    #[error("the row names {found} miners; there are {most}")]
    Long { found: usize, most: usize },
    #[error("the scorer is of version {found}; the subnet asks for {least}")]
    Version { found: u64, least: u64 },
    #[error("one miner has more than {limit}/65535 of the row")]
    Limit { limit: u16 },
}

impl RowError {
    /// The code `starling explain` knows it by.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Order => "weight_order",
            Self::Unknown(_) => "weight_unknown",
            Self::Zero(_) => "weight_zero",
            Self::Wide(_) => "weight_wide",
            Self::Few { .. } => "weight_few",
            Self::Long { .. } => "weight_long",
            Self::Version { .. } => "weight_version",
            Self::Limit { .. } => "weight_limit",
        }
    }
}

/// Admits a row as it is to be stored (Y18): with slots that keep zeros it is stretched so that its largest is 65535.
///
/// # Errors
/// The row breaks a rule of its subnet.
pub fn admit(
    row: &[(MemberId, u32)],
    version: u64,
    rules: &RowRules,
    is_miner: impl Fn(MemberId) -> bool,
) -> Result<RowWeights, RowError> {
    if version < rules.version {
        return Err(RowError::Version { found: version, least: rules.version });
    }
    if row.len() > rules.miners {
        return Err(RowError::Long { found: row.len(), most: rules.miners });
    }
    let least = rules.min_weights.min(rules.miners);
    if row.len() < least {
        return Err(RowError::Few { found: row.len(), least });
    }
    let mut last = None;
    for (id, value) in row {
        if last.is_some_and(|last| last >= *id) {
            return Err(RowError::Order);
        }
        last = Some(*id);
        if *value == 0 && rules.switches.zeros == Zeros::Refused {
            return Err(RowError::Zero(*id));
        }
        if *value > u32::from(u16::MAX) && rules.switches.width == Width::U16 {
            return Err(RowError::Wide(*id));
        }
        if !is_miner(*id) {
            return Err(RowError::Unknown(*id));
        }
    }
    let values: Vec<u32> = row.iter().map(|(_, value)| *value).collect();
    if !within_limit(&values, rules.max_weight_limit) {
        return Err(RowError::Limit { limit: rules.max_weight_limit });
    }
    if rules.switches.zeros == Zeros::Refused || rules.switches.width == Width::U32 {
        return Ok(row.into());
    }
    let scaled = upscale(&values.iter().map(|value| int(i64::from(*value))).collect::<Vec<Q>>());
    Ok(row.iter().zip(scaled).map(|((id, _), value)| (*id, u32::from(value))).collect())
}

/// Whether no share of a row is above `limit` of 65535; an empty row passes (Y18).
pub fn within_limit(values: &[u32], limit: u16) -> bool {
    let total: u128 = values.iter().map(|value| u128::from(*value)).sum();
    values.iter().all(|value| ratio(u128::from(*value), total) <= from_u16(limit))
}

/// Writes a row: width, count, then ids as differences and values.
pub fn write_row(to: Writer, weights: &[(MemberId, u32)]) -> Writer {
    let wide = weights.iter().any(|(_, value)| *value > u32::from(u16::MAX));
    let to = write_varint(to.u8(if wide { 4 } else { 2 }), u32::try_from(weights.len()).unwrap_or(u32::MAX));
    let mut last = 0;
    weights.iter().fold(to, |to, (id, value)| {
        let to = write_varint(to, id.0.wrapping_sub(last));
        last = id.0;
        match u16::try_from(*value) {
            Ok(value) if !wide => to.u16(value),
            _ => to.u32(*value),
        }
    })
}

/// Reads a row of at most `limit` entries; nothing is reserved before the bytes are seen to be there.
///
/// # Errors
/// The bytes are no row, or not the one encoding it has.
pub fn read_row(from: &mut Reader<'_>, limit: usize) -> Result<Vec<(MemberId, u32)>, LayoutError> {
    let width = from.u8()?;
    if width != 2 && width != 4 {
        return Err(LayoutError::Unknown { what: "width of weights", found: width.into() });
    }
    let count = read_count(from, "a row", limit, 1 + usize::from(width))?;
    let mut weights = Vec::with_capacity(count);
    let (mut last, mut needs) = (None, false);
    for _ in 0..count {
        let id = next_id(from, &mut last)?;
        let value = if width == 2 { from.u16()?.into() } else { from.u32()? };
        needs |= value > u32::from(u16::MAX);
        weights.push((MemberId(id), value));
    }
    if (width == 4) != needs {
        return Err(LayoutError::NotCanonical("a row is wider than its weights"));
    }
    Ok(weights)
}

/// A count, and that many items of at least `least` bytes are there.
pub(super) fn read_count(
    from: &mut Reader<'_>,
    what: &'static str,
    limit: usize,
    least: usize,
) -> Result<usize, LayoutError> {
    let count = read_varint(from)?;
    from.room_for(what, count, limit, least)
}

/// The next id of an ascending list, written as the difference to the one before.
pub(super) fn next_id(from: &mut Reader<'_>, last: &mut Option<u32>) -> Result<u32, LayoutError> {
    let step = read_varint(from)?;
    let id = match *last {
        None => step,
        Some(_) if step == 0 => return Err(LayoutError::NotCanonical("ids do not ascend")),
        Some(last) => last.checked_add(step).ok_or(LayoutError::NotCanonical("an id is too large"))?,
    };
    *last = Some(id);
    Ok(id)
}

/// Seven bits a byte, the lowest first.
pub(super) fn write_varint(mut to: Writer, mut value: u32) -> Writer {
    while value > 0x7f {
        to = to.u8(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    to.u8(u8::try_from(value).unwrap_or(0))
}

pub(super) fn read_varint(from: &mut Reader<'_>) -> Result<u32, LayoutError> {
    let mut value = 0_u64;
    for shift in [0, 7, 14, 21, 28] {
        let byte = from.u8()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            if byte == 0 && shift > 0 {
                return Err(LayoutError::NotCanonical("a number is longer than it needs to be"));
            }
            return u32::try_from(value).map_err(|_| LayoutError::NotCanonical("a number is too large"));
        }
    }
    Err(LayoutError::NotCanonical("a number is too long"))
}

/// Which stored entries count (Y5).
#[derive(Clone, Copy, Debug)]
pub(super) struct Mask {
    slots: bool,
    diagonal: bool,
    owner: Option<MemberId>,
}

impl Mask {
    pub fn of(job: &EpochJob) -> Self {
        let input = job.input();
        let owner = input.owner.filter(|_| input.switches.owner);
        let diagonal = input.switches.related == Related::Diagonal;
        Self { slots: input.switches.ids == Ids::Slots, diagonal, owner }
    }

    pub fn is_owner(&self, member: MemberId) -> bool {
        self.owner == Some(member)
    }

    /// Whether a row has a permit in this epoch (Y3).
    pub fn permits(&self, row: &RowInput) -> bool {
        row.permit || self.is_owner(row.member)
    }

    /// Whether a permitted row's entry for this column counts (Y5).
    pub fn keeps(&self, row: &RowInput, column: &ColumnInput) -> bool {
        if self.diagonal && row.member == column.member && !self.is_owner(row.member) {
            return false;
        }
        // A slot may have had another member when the weights were set, or sealed.
        let old = row.last_activity.is_none_or(|last| last <= column.registered);
        let sealed_before = row.commit.is_some_and(|commit| commit < column.registered);
        !(self.slots && (old || sealed_before))
    }
}

/// The places of columns by id: a plain table where ids lie close enough together, otherwise a search.
#[derive(Debug, Default)]
pub(super) struct Places {
    first: u32,
    table: Vec<u32>,
    dense: bool,
}

/// Ids may be spread over this many times their number before a table is too large.
const SPREAD_MAX: usize = 8;
const NOWHERE: u32 = u32::MAX;

impl Places {
    pub fn set(&mut self, columns: &[ColumnInput]) {
        self.table.clear();
        let (Some(first), Some(last)) = (columns.first(), columns.last()) else {
            self.dense = true;
            return;
        };
        self.first = first.member.0;
        let span = usize::try_from(last.member.0 - self.first).unwrap_or(usize::MAX);
        self.dense = span <= columns.len().saturating_mul(SPREAD_MAX);
        if self.dense {
            self.table.resize(span + 1, NOWHERE);
            for (at, column) in (0_u32..).zip(columns) {
                let id = usize::try_from(column.member.0 - self.first).unwrap_or(usize::MAX);
                if let Some(place) = self.table.get_mut(id) {
                    *place = at;
                }
            }
        }
    }

    #[inline]
    pub fn of(&self, columns: &[ColumnInput], id: MemberId) -> Option<usize> {
        if !self.dense {
            return columns.binary_search_by_key(&id, |column| column.member).ok();
        }
        let at = self.table.get(usize::try_from(id.0.checked_sub(self.first)?).ok()?)?;
        if *at == NOWHERE { None } else { usize::try_from(*at).ok() }
    }
}

/// Calls `each(place, value)` for every entry of a row that counts, columns ascending (Y5).
#[inline]
pub(super) fn kept(
    job: &EpochJob,
    mask: &Mask,
    places: &Places,
    row: &RowInput,
    weights: &[(MemberId, u32)],
    mut each: impl FnMut(usize, u32),
) {
    let columns = &job.input().columns;
    if !mask.permits(row) {
        return;
    }
    let free = !mask.slots && !mask.diagonal;
    for (id, value) in weights {
        if let Some(at) = places.of(columns, *id)
            && (free || columns.get(at).is_some_and(|column| mask.keeps(row, column)))
        {
            each(at, *value);
        }
    }
}

/// W: an entry as a share of its row (Y5).
pub(super) fn share(value: u32, total: u64) -> Q {
    ratio(u128::from(value), u128::from(total))
}

/// The columns of a range of places: entries by column, each column by row.
#[derive(Debug, Default)]
pub(super) struct Columns {
    /// Where each column ends.
    pub ends: Vec<u32>,
    pub entries: Vec<Entry>,
    /// How far each row has been read.
    cursors: Vec<u32>,
}

/// Columns that are filled at once: as many as a processor's cache can keep open.
const OPEN_COLUMNS: usize = 8_192;

/// What the rows of a job are read with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading<'a> {
    pub job: &'a EpochJob,
    pub mask: Mask,
    pub places: &'a Places,
    /// The sum of what counts, per row.
    pub sums: &'a [u64],
}

impl Columns {
    /// Turns rows into the columns of a range (passes 1 and 2 of 1.6).
    pub fn fill(&mut self, from: &Reading<'_>, range: &Range<usize>) {
        let rows = &from.job.input().rows;
        self.ends.clear();
        self.ends.resize(range.len(), 0);
        self.entries.clear();
        self.cursors.clear();
        self.cursors.extend(rows.iter().map(|row| start_of(from, row, range.start)));
        // All of it at once: growing block by block would be most of the memory.
        let most: usize = rows.iter().map(|row| row.weights.len().min(range.len())).sum();
        let dense = from.job.input().switches.dense;
        self.entries.reserve_exact(if dense { rows.len() * range.len() } else { most });
        let mut first = range.start;
        while first < range.end {
            let block = first..range.end.min(first + OPEN_COLUMNS);
            self.fill_block(from, range.start, &block, dense);
            first = block.end;
        }
    }

    /// Fills some columns of the range; all before them are full.
    fn fill_block(&mut self, from: &Reading<'_>, start: usize, block: &Range<usize>, dense: bool) {
        let rows = &from.job.input().rows;
        let Self { ends, entries, cursors } = self;
        let Some(ends) = ends.get_mut(block.start - start..block.end - start) else { return };
        if dense {
            ends.fill(u32::try_from(rows.len()).unwrap_or(u32::MAX));
        } else {
            for (row, cursor) in rows.iter().zip(cursors.iter()) {
                kept(from.job, &from.mask, from.places, row, within(from, row, *cursor, block.end), |at, _| {
                    if let Some(count) = ends.get_mut(at - block.start) {
                        *count += 1;
                    }
                });
            }
        }
        let mut sum = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        for end in ends.iter_mut() {
            // For now where the column starts: filling moves it to its end.
            sum += std::mem::replace(end, sum);
        }
        entries.resize(usize::try_from(sum).unwrap_or(usize::MAX), Entry::default());
        let masked = !from.job.related_is_empty();
        for ((seat, row), cursor) in (0_u16..).zip(rows).zip(cursors) {
            let total = Divider::of(from.sums.get(usize::from(seat)).copied().unwrap_or(0));
            let mut next = block.start;
            let mut put = |at: usize, weight: Q| {
                let related = masked && from.job.related(at).binary_search(&seat).is_ok();
                if let Some(cursor) = ends.get_mut(at - block.start)
                    && let Some(entry) = usize::try_from(*cursor).ok().and_then(|at| entries.get_mut(at))
                {
                    *entry = Entry::new(seat, weight, related);
                    *cursor += 1;
                }
            };
            let weights = within(from, row, *cursor, block.end);
            *cursor += u32::try_from(weights.len()).unwrap_or(0);
            kept(from.job, &from.mask, from.places, row, weights, |at, value| {
                if dense {
                    (next..at).for_each(|absent| put(absent, 0));
                    next = at + 1;
                }
                put(at, total.share(Q::from(value)));
            });
            if dense {
                (next..block.end).for_each(|absent| put(absent, 0));
            }
        }
    }

    pub fn column(&self, at: usize) -> &[Entry] {
        self.entries.get(span(at, |at| self.ends.get(at).copied())).unwrap_or_default()
    }
}

/// Where in a row the columns from this place on begin.
fn start_of(from: &Reading<'_>, row: &RowInput, place: usize) -> u32 {
    let first = from.job.input().columns.get(place).map(|column| column.member);
    let before = row.weights.partition_point(|entry| first.is_none_or(|first| entry.0 < first));
    u32::try_from(before).unwrap_or(u32::MAX)
}

/// What a row says from where it has been read to, up to a column.
fn within<'a>(from: &Reading<'a>, row: &'a RowInput, cursor: u32, end: usize) -> &'a [(MemberId, u32)] {
    let rest = usize::try_from(cursor).ok().and_then(|cursor| row.weights.get(cursor..)).unwrap_or_default();
    let Some(bound) = from.job.input().columns.get(end).map(|column| column.member) else { return rest };
    let count = rest.iter().position(|entry| entry.0 >= bound).unwrap_or(rest.len());
    rest.get(..count).unwrap_or_default()
}
