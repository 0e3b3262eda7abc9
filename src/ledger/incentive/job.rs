//! What an epoch looks at, and what it comes to.
//!
//! `EpochInput` is plain data, `EpochJob` is an input that was found well-formed: rows and columns by member id, weights
//! strictly ascending, nothing twice. Whatever is malformed is refused here by name, so that the epoch itself never
//! fails. `EpochResult` carries what is stored, paid and explained; shares are Q, 2^32 is the whole.

use std::sync::Arc;

use super::bonds::{BondBlock, BondTable};
use super::fixed::{ONE, Q};
use super::switches::{EpochRules, Ids, Related, Switches, Width, Zeros};
use crate::protocol::ids::{Height, MemberId};

/// Rows of an epoch at most: one less than a `u16` can name.
pub const ROWS_MAX: usize = 65_535;
/// Columns of an epoch at most; what a subnet allows is less (Y17).
pub const COLUMNS_MAX: usize = 1 << 20;

/// A validator's weights as they are kept: miners strictly ascending.
pub type RowWeights = Arc<[(MemberId, u32)]>;

/// One validator of the closing epoch.
#[derive(Clone, Debug)]
pub struct RowInput {
    pub member: MemberId,
    pub stake: u64,
    /// The stored permit (Y3).
    pub permit: bool,
    /// The height of the last valid reveal; with `Activity::Update` of the last update. None: never.
    pub last_activity: Option<Height>,
    /// Committed for this period and did not reveal (D4).
    pub missed: bool,
    /// The height the weights were committed at; only slots need it (Y5).
    pub commit: Option<Height>,
    /// What its dividend is multiplied by (D6); ONE when the gate is off.
    pub gate: Q,
    pub weights: RowWeights,
}

impl RowInput {
    /// A row that holds a permit and spoke at this height.
    pub fn speaking(member: MemberId, stake: u64, at: Height, weights: RowWeights) -> Self {
        Self { member, stake, permit: true, last_activity: Some(at), missed: false, commit: None, gate: ONE, weights }
    }
}

/// One miner of the closing epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnInput {
    pub member: MemberId,
    pub registered: Height,
    /// Its bonds are deleted first (Y12).
    pub reset: bool,
}

/// Everything an epoch of one subnet and mechanism looks at.
#[derive(Clone, Debug)]
pub struct EpochInput {
    pub switches: Switches,
    pub rules: EpochRules,
    pub height: Height,
    /// The height of the epoch before; only slots need it (Y12).
    pub last_close: Option<Height>,
    /// The owner's member; only `Switches::owner` looks at it.
    pub owner: Option<MemberId>,
    /// What is divided here. A caller that pays by `incentive` and `dividend` itself leaves both 0.
    pub miner_pot: u64,
    pub validator_pot: u64,
    pub rows: Vec<RowInput>,
    pub columns: Vec<ColumnInput>,
    /// Which row is related to which column (D8), in any order.
    pub related: Vec<(MemberId, MemberId)>,
    /// Stored bonds, blocks ascending.
    pub bonds: Vec<Arc<BondBlock>>,
    /// The drop threshold of stored bonds in force (1.6).
    pub bond_floor: u32,
}

/// Why an input is no job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    #[error("validator {0} is there twice")]
    RowTwice(MemberId),
    #[error("miner {0} is there twice")]
    ColumnTwice(MemberId),
    #[error("{found} validators; {max} fit")]
    Rows { found: usize, max: usize },
    #[error("{found} miners; {max} fit")]
    Columns { found: usize, max: usize },
    #[error("with slots, validators and miners are the same members")]
    Slots,
    #[error("the weights of validator {0} are not strictly ascending by miner")]
    Order(MemberId),
    #[error("validator {0} weighs more members than there are")]
    Long(MemberId),
    #[error("validator {0} weighs a slot that does not exist")]
    Unknown(MemberId),
    #[error("validator {0} gives a weight of 0")]
    Zero(MemberId),
    #[error("validator {0} gives a weight above 65535")]
    Wide(MemberId),
    #[error("the blocks of bonds are not strictly ascending by miner")]
    Bonds,
}

/// A well-formed input. Rows and columns are in the order of their ids, whatever order they came in.
#[derive(Clone, Debug)]
pub struct EpochJob {
    input: EpochInput,
    /// Per column, where its related rows end; their places, ascending.
    related_ends: Vec<u32>,
    related_rows: Vec<u16>,
}

impl EpochJob {
    /// # Errors
    /// The input is malformed.
    pub fn new(mut input: EpochInput) -> Result<Self, JobError> {
        input.rows.sort_by_key(|row| row.member);
        input.columns.sort_by_key(|column| column.member);
        check(&input)?;
        let mut pairs: Vec<(u32, u16)> = Vec::with_capacity(input.related.len());
        // Without the mask nobody is related (Y6).
        let related = if input.switches.related == Related::Mask { input.related.as_slice() } else { &[] };
        for (row, column) in related {
            let row = input.rows.binary_search_by_key(row, |row| row.member);
            let column = input.columns.binary_search_by_key(column, |column| column.member);
            if let (Ok(row), Ok(column)) = (row, column) {
                pairs.push((u32::try_from(column).unwrap_or(u32::MAX), u16::try_from(row).unwrap_or(u16::MAX)));
            }
        }
        pairs.sort_unstable();
        pairs.dedup();
        let mut related_ends = Vec::new();
        if !pairs.is_empty() {
            let mut at = 0;
            for column in 0..input.columns.len() {
                at += pairs.iter().skip(at).take_while(|pair| usize::try_from(pair.0) == Ok(column)).count();
                related_ends.push(u32::try_from(at).unwrap_or(u32::MAX));
            }
        }
        let related_rows = pairs.into_iter().map(|pair| pair.1).collect();
        Ok(Self { input, related_ends, related_rows })
    }

    pub fn input(&self) -> &EpochInput {
        &self.input
    }

    /// The input again, to change it.
    pub fn into_input(self) -> EpochInput {
        self.input
    }

    /// The places of the rows related to a column, ascending.
    pub(super) fn related(&self, column: usize) -> &[u16] {
        let end = |at: usize| self.related_ends.get(at).map_or(0, |end| usize::try_from(*end).unwrap_or(usize::MAX));
        let start = if column == 0 { 0 } else { end(column - 1) };
        self.related_rows.get(start..end(column)).unwrap_or_default()
    }

    pub(super) fn related_is_empty(&self) -> bool {
        self.related_rows.is_empty()
    }

    /// Entries in all rows.
    pub fn entries(&self) -> usize {
        self.input.rows.iter().map(|row| row.weights.len()).sum()
    }
}

fn check(input: &EpochInput) -> Result<(), JobError> {
    let (rows, columns) = (&input.rows, &input.columns);
    if rows.len() > ROWS_MAX {
        return Err(JobError::Rows { found: rows.len(), max: ROWS_MAX });
    }
    if columns.len() > COLUMNS_MAX {
        return Err(JobError::Columns { found: columns.len(), max: COLUMNS_MAX });
    }
    for (a, b) in rows.iter().zip(rows.iter().skip(1)) {
        if a.member == b.member {
            return Err(JobError::RowTwice(a.member));
        }
    }
    for (a, b) in columns.iter().zip(columns.iter().skip(1)) {
        if a.member == b.member {
            return Err(JobError::ColumnTwice(a.member));
        }
    }
    let slots = input.switches.ids == Ids::Slots;
    if slots && !rows.iter().map(|row| row.member).eq(columns.iter().map(|column| column.member)) {
        return Err(JobError::Slots);
    }
    for row in rows {
        check_row(input, row)?;
    }
    let mut last = None;
    for id in input.bonds.iter().flat_map(|block| block.columns()) {
        if last.is_some_and(|last| last >= id) {
            return Err(JobError::Bonds);
        }
        last = Some(id);
    }
    Ok(())
}

fn check_row(input: &EpochInput, row: &RowInput) -> Result<(), JobError> {
    // Members may have left since the row was admitted; slots cannot.
    let slots = input.switches.ids == Ids::Slots;
    if slots && row.weights.len() > input.columns.len() {
        return Err(JobError::Long(row.member));
    }
    let mut last = None;
    for (id, value) in row.weights.iter() {
        if last.is_some_and(|last| last >= *id) {
            return Err(JobError::Order(row.member));
        }
        last = Some(*id);
        if *value == 0 && input.switches.zeros == Zeros::Refused {
            return Err(JobError::Zero(row.member));
        }
        if *value > u32::from(u16::MAX) && input.switches.width == Width::U16 {
            return Err(JobError::Wide(row.member));
        }
        if slots && input.columns.binary_search_by_key(id, |column| column.member).is_err() {
            return Err(JobError::Unknown(row.member));
        }
    }
    Ok(())
}

/// What became of one validator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowResult {
    pub member: MemberId,
    /// S: its part of all stake above the threshold (Y2).
    pub stake: Q,
    /// A: its part of the stake that had a voice (Y4).
    pub active: Q,
    /// The sum of its weights that counted; a weight over it is W (Y5).
    pub weights: u64,
    /// Tv: the part of its row that the consensus left standing (Y10).
    pub trust: Q,
    /// D (Y13, Y14), after the gate (D6).
    pub dividend: Q,
    /// Whether it may set weights from now on (Y3).
    pub permit: bool,
    /// Its part of the pots.
    pub amount: u64,
}

/// What became of one miner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColumnResult {
    pub member: MemberId,
    /// C (Y7).
    pub consensus: Q,
    /// L (D7); 0 when the lift is off.
    pub lift: Q,
    /// X: the Q64 sum of active stake times what of the weight counts (Y10). R is its upper part.
    pub sum: u128,
    /// P: what R would be without the consensus. Reported, used for nothing.
    pub prerank: Q,
    /// I (Y10).
    pub incentive: Q,
    /// Its part of the pots.
    pub amount: u64,
}

impl ColumnResult {
    /// R (Y10).
    pub fn rank(&self) -> Q {
        super::fixed::sat_u(self.sum >> 32)
    }

    /// How much of what was said of it counts.
    pub fn trust(&self) -> Q {
        super::fixed::div(self.rank(), self.prerank)
    }
}

/// What an epoch comes to: rows and columns by member id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpochResult {
    pub rows: Vec<RowResult>,
    pub columns: Vec<ColumnResult>,
    /// New bonds, rows by their place in `rows`.
    pub bonds: BondTable,
    /// With slots, what each slot earns on both sides, floored once (Y15).
    pub combined: Vec<u64>,
    /// What could not be paid because nobody earned it (E9).
    pub carried_miners: u64,
    pub carried_validators: u64,
    /// The drop threshold of stored bonds for the next epoch (1.6).
    pub bond_floor: u32,
}
