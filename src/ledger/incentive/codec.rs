//! Blocks of bonds as bytes (1.6): sizes are known to be there before anything is reserved, one encoding per block.

use super::bonds::{BLOCK_COLUMNS, BondBlock};
use super::job::ROWS_MAX;
use super::rows::{next_id, read_count, write_varint};
use crate::protocol::ids::MemberId;
use crate::protocol::layout::{LayoutError, Reader, Writer};

impl BondBlock {
    /// Width, validators, then each miner with its seats and values.
    pub fn write(&self, to: Writer) -> Writer {
        let wide = self.values.iter().any(|value| *value > u32::from(u16::MAX));
        let to = to.u8(if wide { 4 } else { 2 });
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let mut last = 0;
        let to = self.rows.iter().fold(write_varint(to, count(self.rows.len())), |to, row| {
            let to = write_varint(to, row.0.wrapping_sub(last));
            last = row.0;
            to
        });
        let (mut last, mut to) = (0, write_varint(to, count(self.columns.len())));
        for (at, (column, _)) in self.columns.iter().enumerate() {
            to = write_varint(to, column.0.wrapping_sub(last));
            last = column.0;
            to = write_varint(to, count(self.run(at).count()));
            for (seat, value) in self.run(at) {
                to = to.u16(seat);
                to = match u16::try_from(value) {
                    Ok(value) if !wide => to.u16(value),
                    _ => to.u32(value),
                };
            }
        }
        to
    }

    /// # Errors
    /// The bytes are no block, or not the one encoding it has.
    pub fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        let width = from.u8()?;
        if width != 2 && width != 4 {
            return Err(LayoutError::Unknown { what: "width of bonds", found: width.into() });
        }
        let mut block = Self::default();
        let rows = read_count(from, "a block of bonds", ROWS_MAX, 1)?;
        block.rows.reserve_exact(rows);
        let mut last = None;
        for _ in 0..rows {
            block.rows.push(MemberId(next_id(from, &mut last)?));
        }
        let most = usize::try_from(BLOCK_COLUMNS).unwrap_or(0);
        let columns = read_count(from, "miners of a block", most, 2)?;
        let mut last = None;
        for _ in 0..columns {
            let column = MemberId(next_id(from, &mut last)?);
            block.read_column(from, column, usize::from(width))?;
        }
        block.check(width)?;
        Ok(block)
    }

    fn read_column(&mut self, from: &mut Reader<'_>, column: MemberId, width: usize) -> Result<(), LayoutError> {
        let count = read_count(from, "bonds on a miner", self.rows.len(), 2 + width)?;
        let mut last = None;
        for _ in 0..count {
            let seat = from.u16()?;
            if last.is_some_and(|last| last >= seat) {
                return Err(LayoutError::NotCanonical("seats do not ascend"));
            }
            last = Some(seat);
            let value = if width == 2 { from.u16()?.into() } else { from.u32()? };
            if value == 0 || usize::from(seat) >= self.rows.len() {
                return Err(LayoutError::NotCanonical("a bond of nothing, or of nobody"));
            }
            self.seats.push(seat);
            self.values.push(value);
        }
        let end = u32::try_from(self.values.len()).map_err(|_| LayoutError::NotCanonical("too many bonds"))?;
        self.columns.push((column, end));
        Ok(())
    }

    /// What no single field shows.
    fn check(&self, width: u8) -> Result<(), LayoutError> {
        if (width == 4) != self.values.iter().any(|value| *value > u32::from(u16::MAX)) {
            return Err(LayoutError::NotCanonical("a block is wider than its bonds"));
        }
        if self.columns.iter().scan(0, |last, (_, end)| Some(std::mem::replace(last, *end) == *end)).any(|empty| empty)
        {
            return Err(LayoutError::NotCanonical("a miner without bonds"));
        }
        let mut used: Vec<u16> = self.seats.clone();
        used.sort_unstable();
        used.dedup();
        if used.len() != self.rows.len() {
            return Err(LayoutError::NotCanonical("a validator without bonds"));
        }
        let number = |column: &(MemberId, u32)| Self::number(column.0);
        if self.columns.first().map(number) != self.columns.last().map(number) {
            return Err(LayoutError::NotCanonical("miners of two blocks"));
        }
        Ok(())
    }
}
