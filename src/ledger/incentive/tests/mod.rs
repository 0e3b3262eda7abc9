//! The epoch: the worked example to the last bit, each rule by itself, the laws of the machine.

use std::sync::Arc;

use super::fixed::Q;
use super::*;
use crate::protocol::ids::MemberId;

mod example;
mod freshness;
mod laws;
mod published;
mod rules;

const STAR: u64 = 1_000_000_000;

fn rules() -> EpochRules {
    EpochRules {
        tempo: 10,
        cutoff: 50,
        seats: 64,
        stake_threshold: 0,
        kappa: 32_767,
        bonds_penalty: 65_535,
        bonds_average_ppm: 900_000,
        yuma: Yuma::Three,
        liquid: None,
    }
}

fn weights(entries: &[(u32, u32)]) -> RowWeights {
    entries.iter().map(|(id, value)| (MemberId(*id), *value)).collect()
}

fn row(id: u32, stake: u64, entries: &[(u32, u32)]) -> RowInput {
    RowInput::speaking(MemberId(id), stake, 100, weights(entries))
}

fn column(id: u32) -> ColumnInput {
    ColumnInput { member: MemberId(id), registered: 0, reset: false }
}

fn bonds(of: &[(u32, u32, u32)]) -> Vec<Arc<BondBlock>> {
    let bonds: Vec<Bond> = of.iter().map(|(row, column, value)| (MemberId(*row), MemberId(*column), *value)).collect();
    BondBlock::of(&bonds).into_iter().map(|(_, block)| Arc::new(block)).collect()
}

fn input(switches: Switches, rows: Vec<RowInput>, columns: Vec<ColumnInput>) -> EpochInput {
    EpochInput {
        switches,
        rules: rules(),
        height: 100,
        last_close: Some(90),
        owner: None,
        miner_pot: STAR / 2,
        validator_pot: STAR / 2,
        rows,
        columns,
        related: Vec::new(),
        bonds: Vec::new(),
        bond_floor: BOND_FLOOR,
    }
}

fn run(input: EpochInput) -> EpochResult {
    EpochJob::new(input).unwrap().run(&mut Workspace::new())
}

fn of_rows<T>(result: &EpochResult, get: impl Fn(&RowResult) -> T) -> Vec<T> {
    result.rows.iter().map(get).collect()
}

fn of_columns<T>(result: &EpochResult, get: impl Fn(&ColumnResult) -> T) -> Vec<T> {
    result.columns.iter().map(get).collect()
}

/// Every bond of a result: validator, miner, value.
fn kept(result: &EpochResult) -> Vec<(u32, u32, u32)> {
    let blocks = result.bonds.blocks(&result.rows, &result.columns);
    let bonds = blocks.iter().flat_map(|(_, block)| block.bonds());
    bonds.map(|(row, column, value)| (row.0, column.0, value)).collect()
}
