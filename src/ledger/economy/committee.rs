//! Pay of the committee by attendance (E5).
//!
//! Who attended a height is in the body of the next one: the signers of its certificate. The header commits to them, so
//! every node counts the same.

use super::super::draft::Draft;
use super::super::money::{self, Note};
use super::{largest_remainder, mintable};
use crate::protocol::ids::AccountId;
use crate::protocol::statement::Kind;

/// Counts a height: the weight of each member that signed for it, and that of the whole committee.
pub fn attend(draft: &mut Draft, attended: &[(AccountId, u64)], whole: u64) {
    let books = draft.treasury_mut();
    books.attendable = books.attendable.saturating_add(whole);
    for (account, weight) in attended {
        match books.attended.binary_search_by_key(account, |row| row.0) {
            Ok(at) => {
                if let Some(row) = books.attended.get_mut(at) {
                    row.1 = row.1.saturating_add(*weight);
                }
            }
            Err(at) => books.attended.insert(at, (*account, *weight)),
        }
    }
}

/// Pays for the term that ends; what the absent would have had is not minted (E5). Returns what was paid.
pub fn pay(draft: &mut Draft, pot: u64) -> u64 {
    let books = draft.treasury_mut();
    let (attended, whole) = (std::mem::take(&mut books.attended), std::mem::take(&mut books.attendable));
    let pot = mintable(pot, draft.supply(), draft.parameters().supply_cap);
    let present = attended.iter().map(|row| row.1).fold(0, u64::saturating_add);
    let mut weights: Vec<u64> = attended.iter().map(|row| row.1).collect();
    // The absent are the last in line: what falls to them stays where it is.
    weights.push(whole.saturating_sub(present));
    let mut paid: u64 = 0;
    for ((account, _), part) in attended.iter().zip(largest_remainder(pot, &weights)) {
        if money::credit(draft, account, part, Note::of(Kind::EmissionCommittee).share(part, pot)) {
            paid = paid.saturating_add(part);
        }
    }
    money::mint(draft, paid);
    paid
}
