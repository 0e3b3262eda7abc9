//! How a validator behaves: honestly, or as a development network shows that it does not pay.
//!
//! A conduct changes what is revealed and nothing else: every validator asks and scores alike, so that what it could have
//! said is on its shelf beside what it said.

use crate::ledger::state::State;
use crate::protocol::commitment::{Weight, Width};
use crate::protocol::ids::{AccountId, SubnetId};
use crate::protocol::transaction::Role;

/// What is done with the row that a log gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Conduct {
    #[default]
    Honest,
    /// Says what everybody said last, which anybody can read.
    Copier,
    /// Seals and never opens.
    NonRevealer,
    /// Gives everything to the miners of these accounts.
    SelfDealer { favours: Vec<AccountId> },
}

impl Conduct {
    /// Whether its openings are published.
    pub fn reveals(&self) -> bool {
        *self != Self::NonRevealer
    }

    /// The row it seals, given the one its log gives.
    pub fn row(&self, state: &State, subnet: SubnetId, width: Width, honest: Vec<Weight>) -> Vec<Weight> {
        match self {
            Self::Honest | Self::NonRevealer => honest,
            Self::Copier => consensus(state, subnet, width),
            Self::SelfDealer { favours } => {
                let miners = state.members(subnet).filter(|(_, member)| member.role == Role::Miner);
                let own = miners.filter(|(_, member)| favours.contains(&member.account));
                own.map(|(id, _)| (id, width.most())).collect()
            }
        }
    }
}

/// The last settled consensus as a row, the best at the full weight.
fn consensus(state: &State, subnet: SubnetId, width: Width) -> Vec<Weight> {
    let miners = || state.members(subnet).filter(|(_, member)| member.role == Role::Miner);
    let best = miners().map(|(_, member)| member.consensus).max().unwrap_or(0);
    let weight = |consensus: u32| {
        let weight = u64::from(consensus) * u64::from(width.most()) / u64::from(best.max(1));
        u32::try_from(weight).unwrap_or(u32::MAX)
    };
    miners().map(|(id, member)| (id, weight(member.consensus))).filter(|(_, weight)| *weight > 0).collect()
}
