//! Writing a state: a draft that can go back to a mark, and seals into a new state and what changed.
//!
//! A draft notes the keys it touched; sealing compares their rows with the parent's, updates the tree once, and audits
//! the money (L7). Dropping a draft leaves no trace.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::economy::rows::Treasury;
use super::incentive::EpochResult;
use super::records::Records;
use super::rows::{Chain, Supply};
use super::state::{SINGLES, State, tree_key};
use super::table::{RowKey, Table};
use super::tree::{Change, value_digest};
use crate::protocol::ids::{Digest, SubnetId};
use crate::protocol::statement::Line;

/// Changes of one row for the store.
pub type RowChange = (RowKey, Option<Vec<u8>>);

/// A state being written. Dropping it leaves the parent as it was.
#[derive(Clone, Debug)]
pub struct Draft {
    state: State,
    touched: BTreeSet<RowKey>,
    lines: Vec<Line>,
}

/// What a draft was at a moment.
#[derive(Clone, Debug)]
pub struct Mark {
    state: State,
    lines: usize,
}

impl std::ops::Deref for Draft {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl Draft {
    pub fn new(parent: &State) -> Self {
        Self { state: parent.clone(), touched: BTreeSet::new(), lines: Vec::new() }
    }

    /// What `restore` goes back to: O(1).
    pub fn mark(&self) -> Mark {
        Mark { state: self.state.clone(), lines: self.lines.len() }
    }

    /// Undoes every write since the mark. What was touched stays noted; `seal` drops rows that did not change.
    pub fn restore(&mut self, mark: Mark) {
        self.state = mark.state;
        self.lines.truncate(mark.lines);
    }

    /// Adds to the statements; `money` is the one who calls this.
    pub(super) fn line(&mut self, line: Line) {
        self.lines.push(line);
    }

    pub fn put<T: Table>(&mut self, key: &T::Key, row: T) {
        self.touched.insert(T::row_key(key));
        self.state.put(key, Some(row));
    }

    pub fn remove<T: Table>(&mut self, key: &T::Key) {
        self.touched.insert(T::row_key(key));
        self.state.put::<T>(key, None);
    }

    /// Changes a row that is there; says whether it was.
    pub fn change<T: Table>(&mut self, key: &T::Key, change: impl FnOnce(&mut T)) -> bool {
        let Some(mut row) = self.state.get::<T>(key).cloned() else { return false };
        change(&mut row);
        self.put(key, row);
        true
    }

    pub fn chain_mut(&mut self) -> &mut Chain {
        &mut self.state.chain
    }

    /// What was worked out beside for a close in flight.
    pub(super) fn take_ready(&mut self, subnet: SubnetId, root: &Digest) -> Option<Arc<EpochResult>> {
        self.state.take_ready(subnet, root)
    }

    pub fn supply_mut(&mut self) -> &mut Supply {
        &mut self.state.supply
    }

    pub fn records_mut(&mut self) -> &mut Records {
        &mut self.state.records
    }

    pub fn treasury_mut(&mut self) -> &mut Treasury {
        &mut self.state.treasury
    }

    /// Ends the writing: the new state with its root, the rows that differ from the parent's, and the lines.
    pub fn seal(mut self, parent: &State) -> (State, Vec<RowChange>, Vec<Line>) {
        self.touched.extend(SINGLES.map(|table| vec![table]));
        let mut diff = Vec::new();
        let mut changes: Vec<Change> = Vec::new();
        for key in self.touched {
            let after = self.state.row(&key);
            if after != parent.row(&key) {
                changes.push((tree_key(&key), after.as_deref().map(value_digest)));
                diff.push((key, after));
            }
        }
        changes.sort_unstable();
        self.state.tree = parent.tree.update(&changes);
        self.state.audit();
        (self.state, diff, self.lines)
    }
}
