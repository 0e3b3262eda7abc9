//! Who voted in which term, and what was proven against them (C45, C47).
//!
//! A committee's rows stand for as long as its members can be accused, so that two votes are judged by whoever the signer
//! was then and not by who votes now.

use super::rows::Row;
use crate::protocol::committee::{Committee, CommitteeError, CommitteeMember};
use crate::protocol::ids::{AccountId, Height, PublicKey, Term};
use crate::protocol::layout::{LayoutError, Reader, Writer};

use super::state::State;

/// One voter of a term, by its index in the committee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voter {
    pub key: PublicKey,
    pub weight: u64,
    pub account: AccountId,
}

impl Row for Voter {
    fn write(&self, to: Writer) -> Writer {
        to.raw(&self.key.0).u64(self.weight).raw(&self.account.0)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(Self { key: from.key()?, weight: from.u64()?, account: from.account()? })
    }
}

/// A proven contradiction of one signer in one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offence {
    /// When it was accepted, and who brought it.
    pub height: Height,
    pub reporter: AccountId,
    /// Millionths of everything liable that it has cost so far.
    pub ppm: u32,
}

impl Row for Offence {
    fn write(&self, to: Writer) -> Writer {
        to.u64(self.height).raw(&self.reporter.0).u32(self.ppm)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(Self { height: from.u64()?, reporter: from.account()?, ppm: from.u32()? })
    }
}

impl State {
    /// The committee of a term, while its members can be accused.
    ///
    /// # Errors
    /// Nobody of that term is kept.
    pub fn committee(&self, term: Term) -> Result<Committee, CommitteeError> {
        let member =
            |(_, of): (&(Term, u64), &Voter)| CommitteeMember { key: of.key, weight: of.weight, account: of.account };
        Committee::new(term, self.range::<Voter>((term, 0)..=(term, u64::MAX)).map(member).collect())
    }
}

/// Writes a committee down.
pub(super) fn seat(state: &mut State, committee: &Committee) {
    for (index, of) in (0_u64..).zip(committee.members()) {
        let voter = Voter { key: of.key, weight: of.weight, account: of.account };
        state.put(&(committee.term(), index), Some(voter));
    }
}
