//! Every output bit of both machines, by name.

use std::collections::BTreeMap;

use starling::ledger::incentive::{EpochInput, EpochResult};

use crate::reference::Slow;

fn bonds(result: &EpochResult) -> BTreeMap<(u32, u32), u32> {
    let blocks = result.bonds.blocks(&result.rows, &result.columns);
    let bonds = blocks.iter().flat_map(|(_, block)| block.bonds()).map(|(i, j, value)| ((i.0, j.0), value));
    bonds.collect()
}

/// Everything both say, by name; what differs is the failure.
pub fn compare(input: &EpochInput, fast: &EpochResult, slow: &Slow) -> Result<(), String> {
    let mut wrong = String::new();
    let mut check = |what: &str, at: String, got: i128, want: i128| {
        if got != want {
            wrong += &format!("{what} {at}: got {got}, want {want}\n");
        }
    };
    for (i, row) in fast.rows.iter().enumerate() {
        let at = || format!("row {}", row.member.0);
        check("S", at(), row.stake.into(), slow.stake[i]);
        check("A", at(), row.active.into(), slow.active[i]);
        check("Tv", at(), row.trust.into(), slow.trust[i]);
        check("D", at(), row.dividend.into(), slow.dividend[i]);
        check("permit", at(), row.permit.into(), slow.permit[i].into());
        check("amount", at(), row.amount.into(), slow.row_amount[i]);
    }
    for (j, column) in fast.columns.iter().enumerate() {
        let at = || format!("column {}", column.member.0);
        check("C", at(), column.consensus.into(), slow.consensus[j]);
        check("L", at(), column.lift.into(), slow.lift[j]);
        check("X", at(), i128::try_from(column.sum).unwrap(), slow.sum[j]);
        check("P", at(), column.prerank.into(), slow.prerank[j]);
        check("I", at(), column.incentive.into(), slow.incentive[j]);
        check("amount", at(), column.amount.into(), slow.column_amount[j]);
    }
    let got = bonds(fast);
    for (i, row) in fast.rows.iter().enumerate() {
        for (j, column) in fast.columns.iter().enumerate() {
            let bond = got.get(&(row.member.0, column.member.0)).copied().unwrap_or(0);
            check("bond", format!("row {} column {}", row.member.0, column.member.0), bond.into(), slow.bonds[i][j]);
        }
    }
    check("carried", "miners".into(), fast.carried_miners.into(), slow.carried.0);
    check("carried", "validators".into(), fast.carried_validators.into(), slow.carried.1);
    for (i, combined) in fast.combined.iter().enumerate() {
        check("combined", format!("slot {i}"), (*combined).into(), slow.combined[i]);
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("{wrong}{input:#?}")) }
}
