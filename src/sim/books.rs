//! A subnet with as many members as one is meant to have, to measure what settling it and adding up its books costs.

use std::sync::Arc;

use crate::ledger::draft::Draft;
use crate::ledger::economy::rows::{Purse, Standing};
use crate::ledger::epoch;
use crate::ledger::incentive::fixed::ONE;
use crate::ledger::incentive::{ColumnResult, EpochResult, RowResult};
use crate::ledger::judging::{Close, Voice};
use crate::ledger::rows::{Account, Member};
use crate::ledger::state::{State, StateError};
use crate::ledger::table::Table;
use crate::protocol::genesis::{Genesis, GenesisSubnet};
use crate::protocol::ids::{AccountId, Digest, Height, MemberId, PublicKey, SubnetId};
use crate::protocol::parameters::{NetworkKind, SubnetRules};
use crate::protocol::transaction::Role;

const SUBNET: SubnetId = SubnetId(1);
const VALIDATORS: u32 = 64;
/// The height the close is applied at.
const DUE: Height = 100;
const POT: u64 = 36_000_000_000;

/// Books in which an epoch of one subnet is due.
pub struct Books {
    state: State,
    result: Arc<EpochResult>,
}

fn number(of: u32) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.iter_mut().zip(of.to_le_bytes()).for_each(|(byte, of)| *byte = of);
    bytes
}

fn member(of: u32) -> Member {
    let role = if of < VALIDATORS { Role::Validator } else { Role::Miner };
    Member {
        account: AccountId(number(of)),
        role,
        operator: PublicKey(number(of)),
        bond: 0,
        registered: 0,
        leaving: false,
        permit: role == Role::Validator,
        last_reveal: None,
        missed: 0,
        consensus: 0,
        incentive: 0,
        dividend: 0,
        trust: 0,
        earned: 0,
        owed: 0,
        score: 0,
        standing: Standing::Active,
    }
}

fn row<T: Table>(key: &T::Key, row: &T) -> (Vec<u8>, Vec<u8>) {
    (T::row_key(key), row.encode())
}

impl Books {
    /// So many members, an account each.
    ///
    /// # Errors
    /// The ledger does not take them.
    pub fn of(members: u32) -> Result<Self, StateError> {
        let mut genesis = Genesis::new("bench", NetworkKind::Devnet, 0);
        let rules = SubnetRules::defaults(NetworkKind::Devnet);
        let (name, task) = ("bench".to_owned(), "vision".to_owned());
        genesis.subnets.push(GenesisSubnet { id: SUBNET, name, task, owner: None, rules });
        let empty = State::genesis(&genesis);
        let voice = |of: u32| Voice {
            member: MemberId(of),
            stake: 0,
            permit: true,
            missed: false,
            last_reveal: None,
            gate: ONE,
        };
        let close = Close {
            period: 1,
            height: DUE - 2,
            apply_at: DUE,
            bound: MemberId(members),
            root: Digest::ZERO,
            voices: (0..VALIDATORS).map(voice).collect(),
            related: Vec::new(),
        };
        let mut rows = empty.rows();
        // What was granted and not taken yet is a right to mint, and no money.
        rows.push(row(&SUBNET, &Purse { pending: POT, ..empty.purse(SUBNET) }));
        rows.push(row(&SUBNET, &close));
        for of in 0..members {
            rows.push(row(&(SUBNET, MemberId(of)), &member(of)));
            rows.push(row(&AccountId(number(of)), &Account::default()));
        }
        Ok(Self { state: State::load(rows)?, result: Arc::new(result(members)) })
    }

    /// Settles the epoch: shares and scores are kept, and everybody is paid. How many were paid for.
    pub fn settle(&self) -> usize {
        let mut state = self.state.clone();
        state.hand_in(SUBNET, Digest::ZERO, self.result.clone());
        let mut draft = Draft::new(&state);
        let mut events = Vec::new();
        epoch::run(&mut draft, DUE, &mut events);
        draft.members(SUBNET).filter(|(_, member)| member.earned > 0).count()
    }

    /// Adds up all money there is (E1).
    pub fn audit(&self) -> bool {
        self.state.check().is_ok()
    }
}

/// An outcome in which everybody earns something.
fn result(members: u32) -> EpochResult {
    let share = |of: u32, all: u32| ONE / i64::from(all.max(1)) + i64::from(of % 7);
    let miners = members.saturating_sub(VALIDATORS);
    let column =
        |of: u32| ColumnResult { member: MemberId(of), incentive: share(of, miners), ..ColumnResult::default() };
    let voter = |of: u32| RowResult {
        member: MemberId(of),
        dividend: share(of, VALIDATORS),
        permit: true,
        ..RowResult::default()
    };
    EpochResult {
        rows: (0..VALIDATORS).map(voter).collect(),
        columns: (VALIDATORS..members).map(column).collect(),
        ..EpochResult::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t09_what_is_measured_is_a_settlement() {
        let books = Books::of(300).unwrap();
        assert_eq!(books.settle(), 300);
        assert_eq!(books.settle(), 300, "as often as it is measured");
        assert!(books.audit());
    }
}
