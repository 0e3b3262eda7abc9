//! What people and programs read from a state: whole rows with names, in plain serialisable values.

use std::collections::BTreeMap;

use serde::Serialize;

use super::rows::{Channel, Commit, Due, DueReason, Member, Subnet, Vector};
use super::state::State;
use crate::protocol::commitment::Weight;
use crate::protocol::ids::{AccountId, Epoch, Height, MemberId, PublicKey, SubnetId};
use crate::protocol::transaction::Role;

/// The whole that the fractions of a metagraph are parts of.
pub const FRACTION_ONE: u64 = 1 << 32;

/// One member of a subnet. Fractions are parts of `FRACTION_ONE`, saturated one below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MetagraphRow {
    pub member: MemberId,
    pub account: AccountId,
    pub role: Role,
    pub operator: PublicKey,
    /// The account's stake, whole in every subnet it is in.
    pub stake: u64,
    pub bond: u64,
    pub permit: bool,
    pub leaving: bool,
    pub registered: Height,
    pub consensus: u32,
    pub incentive: u32,
    pub dividend: u32,
    pub trust: u32,
    pub last_reveal: Option<Height>,
    pub missed: u32,
    pub earned: u64,
}

/// What a validator last said, and what it has sealed since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WeightsView {
    pub member: MemberId,
    pub account: AccountId,
    /// The epoch of the vector in force; none when nothing was revealed yet.
    pub epoch: Option<Epoch>,
    pub weights: Vec<Weight>,
    /// Commits that are not settled yet, by epoch, and whether they were opened.
    pub commits: Vec<(Epoch, bool)>,
}

/// A subnet without its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SubnetView {
    pub id: SubnetId,
    pub name: String,
    pub task: String,
    pub tempo: u64,
    pub reveal_window: u64,
    /// What it may mint in the current term, and its parts (E6, E7).
    pub grant: u64,
    pub usage_grant: u64,
    pub support_grant: u64,
    pub slots: u64,
    pub validator_stake: u64,
    /// What a miner's place costs at the next height (E12).
    pub price: u64,
    pub validator_bond: u64,
    pub miners: u32,
    pub validators: u32,
    pub epoch: Epoch,
    pub opened: Height,
    /// Commits of the open epoch end, and the next opens, at this height.
    pub next_open: Height,
    /// Reveals of the epoch before end at this height; none when it is settled.
    pub settle_at: Option<Height>,
    pub last_settled: Option<Height>,
    pub minted: u64,
    pub carried: u64,
}

/// An account with everything attached to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountView {
    pub account: AccountId,
    pub balance: u64,
    pub nonce: u64,
    /// What its shares of all pools are worth.
    pub stake: u64,
    /// Earned by its members and not claimed yet.
    pub owed: u64,
    pub unbonding: u64,
    pub memberships: Vec<Membership>,
    pub waiting: Vec<Waiting>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Membership {
    pub subnet: SubnetId,
    pub member: MemberId,
    pub role: Role,
    pub bond: u64,
}

/// Money that is on its way to an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Waiting {
    pub height: Height,
    pub amount: u64,
    pub reason: DueReason,
    /// The pool it was taken out of.
    pub pool: Option<AccountId>,
}

/// Where all the money is. `ok` says that it adds up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SupplyView {
    pub height: Height,
    pub genesis: u64,
    pub minted: u64,
    pub burned: u64,
    /// Genesis and minted less burned.
    pub total: u64,
    pub cap: u64,
    pub balances: u64,
    pub staked: u64,
    pub bonds: u64,
    /// Earned by miners and not claimed yet.
    pub owed: u64,
    pub waiting: u64,
    /// Deposits of channels.
    pub channels: u64,
    /// Query fees that wait for validators.
    pub pots: u64,
    pub dust: u64,
    pub ok: bool,
}

fn row(state: &State, id: MemberId, member: &Member) -> MetagraphRow {
    MetagraphRow {
        member: id,
        account: member.account,
        role: member.role,
        operator: member.operator,
        stake: state.stake(&member.account),
        bond: member.bond,
        permit: member.permit,
        leaving: member.leaving,
        registered: member.registered,
        consensus: member.consensus,
        incentive: member.incentive,
        dividend: member.dividend,
        trust: member.trust,
        last_reveal: member.last_reveal,
        missed: member.missed,
        earned: member.earned,
    }
}

fn subnet_view(state: &State, id: SubnetId, subnet: &Subnet) -> SubnetView {
    let purse = state.purse(id);
    SubnetView {
        id,
        name: subnet.name.clone(),
        task: subnet.task.clone(),
        tempo: subnet.rules.tempo,
        reveal_window: subnet.rules.reveal_window,
        grant: purse.grant(),
        usage_grant: purse.usage_grant,
        support_grant: purse.support_grant,
        slots: subnet.rules.slots,
        validator_stake: subnet.rules.validator_stake,
        price: state.place_price(id, &subnet.rules, state.height().saturating_add(1)).whole,
        validator_bond: subnet.rules.validator_bond,
        miners: subnet.miners,
        validators: subnet.validators,
        epoch: subnet.epoch,
        opened: subnet.opened,
        next_open: subnet.next_open,
        settle_at: subnet.settle_at,
        last_settled: subnet.last_settled,
        minted: subnet.minted,
        carried: purse.carried_miners.saturating_add(purse.carried_validators),
    }
}

/// Sums what always fits: no sum of money exceeds what was ever issued.
fn sum(values: impl Iterator<Item = u64>) -> u64 {
    values.fold(0, u64::saturating_add)
}

impl State {
    /// The members of a subnet by id; none when there is no such subnet.
    pub fn metagraph(&self, subnet: SubnetId) -> Option<Vec<MetagraphRow>> {
        self.subnet(subnet)?;
        Some(self.members(subnet).map(|(id, member)| row(self, id, member)).collect())
    }

    /// The validators of a subnet with their vectors; none when there is no such subnet.
    pub fn weights_view(&self, subnet: SubnetId) -> Option<Vec<WeightsView>> {
        self.subnet(subnet)?;
        let mut commits: BTreeMap<MemberId, Vec<(Epoch, bool)>> = BTreeMap::new();
        let all = (subnet, Epoch::MIN, MemberId(0))..=(subnet, Epoch::MAX, MemberId(u32::MAX));
        for ((_, epoch, member), commit) in self.range::<Commit>(all) {
            commits.entry(*member).or_default().push((*epoch, commit.revealed));
        }
        let validators = self.members(subnet).filter(|(_, member)| member.role == Role::Validator);
        let view = |(id, member): (MemberId, &Member)| {
            let vector = self.get::<Vector>(&(subnet, id));
            WeightsView {
                member: id,
                account: member.account,
                epoch: vector.map(|vector| vector.epoch),
                weights: vector.map(|vector| vector.weights.to_vec()).unwrap_or_default(),
                commits: commits.remove(&id).unwrap_or_default(),
            }
        };
        Some(validators.map(view).collect())
    }

    pub fn subnet_list(&self) -> Vec<SubnetView> {
        self.range::<Subnet>(..).map(|(id, subnet)| subnet_view(self, *id, subnet)).collect()
    }

    pub fn account_view(&self, id: &AccountId) -> Option<AccountView> {
        let account = self.account(id)?;
        let seats = self.range::<Member>(..).filter(|(_, member)| member.account == *id);
        let owed =
            seats.map(|(_, member)| member.owed).chain(self.get::<super::rows::Owed>(id).map(|owed| owed.amount));
        let memberships = self
            .range::<Member>(..)
            .filter(|(_, member)| member.account == *id)
            .map(|((subnet, id), m)| Membership { subnet: *subnet, member: *id, role: m.role, bond: m.bond })
            .collect();
        let waiting: Vec<Waiting> = self
            .range::<Due>(..)
            .filter(|(_, due)| due.account == *id)
            .map(|((height, _), due)| Waiting {
                height: *height,
                amount: due.amount,
                reason: due.reason,
                pool: due.pool,
            })
            .collect();
        let unstaked = waiting.iter().filter(|item| item.reason == DueReason::Unstaked);
        Some(AccountView {
            account: *id,
            balance: account.balance,
            nonce: account.nonce,
            stake: sum(self.holdings(id).map(|(pool, _)| self.worth(id, &pool))),
            owed: sum(owed),
            unbonding: sum(unstaked.map(|item| item.amount)),
            memberships,
            waiting,
        })
    }

    /// Adds up every row: linear in the state, for people rather than for each height.
    pub fn supply_view(&self) -> SupplyView {
        let supply = self.supply();
        SupplyView {
            height: self.height(),
            genesis: supply.genesis,
            minted: supply.minted,
            burned: supply.burned,
            total: u64::try_from(supply.total()).unwrap_or(u64::MAX),
            cap: self.parameters().supply_cap,
            balances: sum(self.range::<super::rows::Account>(..).map(|(_, account)| account.balance)),
            staked: sum(self.range::<super::rows::Pool>(..).map(|(_, pool)| pool.total)),
            bonds: sum(self.range::<Member>(..).map(|(_, member)| member.bond)),
            owed: sum(self.range::<Member>(..).map(|(_, member)| member.owed))
                .saturating_add(sum(self.range::<super::rows::Owed>(..).map(|(_, owed)| owed.amount))),
            waiting: sum(self.range::<Due>(..).map(|(_, due)| due.amount)),
            channels: sum(self.range::<Channel>(..).map(|(_, of)| of.deposit.saturating_sub(of.paid))),
            pots: sum(self.range::<Subnet>(..).map(|(_, subnet)| subnet.fee_pot)),
            dust: supply.dust,
            ok: self.check().is_ok(),
        }
    }
}
