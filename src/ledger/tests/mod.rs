//! The ledger as a whole: a small network in memory, told things height by height.

mod channels;

mod epochs;
mod evidence;
mod judging;
mod market;
mod model;
mod models;
mod naive_seats;
mod pool;
mod random;
mod rules;
mod settlements;
mod stake;

use std::sync::LazyLock;

use super::apply::{Context, Executed, execute, minimum_fee};
use super::draft::Draft;
use super::economy;
use super::money::{held_by, held_by_nobody};
use super::state::State;
use crate::protocol::commitment::{Author, Opening, Weight, Width};
use crate::protocol::genesis::{Genesis, GenesisAccount, GenesisSubnet, GenesisVoter};
use crate::protocol::ids::{AccountId, Digest, MemberId, SubnetId, hash};
use crate::protocol::keys::SecretKey;
use crate::protocol::parameters::{NetworkKind, SubnetRules};
use crate::protocol::statement::Purse;
use crate::protocol::transaction::{Action, Role, SignedTransaction, Transaction};

pub const STAR: u64 = 1_000_000_000;
pub const VISION: SubnetId = SubnetId(1);
pub const TEXT: SubnetId = SubnetId(2);
/// Accounts of a world; the first four are the committee.
pub const ACCOUNTS: u8 = 8;

/// Keys and accounts, worked out once: there are thousands of look-ups.
static PEOPLE: LazyLock<Vec<(SecretKey, AccountId)>> = LazyLock::new(|| {
    let key = |of: u8| SecretKey::from_seed([of + 1; 32]);
    (0..64).map(|of| (key(of), key(of).public().into())).collect()
});

pub fn key(of: u8) -> SecretKey {
    PEOPLE[usize::from(of)].0.clone()
}

pub fn account(of: u8) -> AccountId {
    PEOPLE[usize::from(of)].1
}

pub fn genesis() -> Genesis {
    let mut genesis = Genesis::new("testnet", NetworkKind::Devnet, 1_700_000_000_000);
    genesis.parameters.unbond_heights = 7;
    genesis.parameters.exit_heights = 5;
    genesis.parameters.term_heights = 600;
    genesis.accounts = (0..ACCOUNTS).map(|of| GenesisAccount { account: account(of), balance: 100 * STAR }).collect();
    genesis.committee = (0..4)
        .map(|of| GenesisVoter {
            consensus: SecretKey::from_seed([of + 101; 32]).public(),
            account: account(of),
            node: None,
            stake: 10 * STAR,
            support: vec![VISION, TEXT],
        })
        .collect();
    genesis.subnets = [(VISION, "vision"), (TEXT, "text")]
        .map(|(id, name)| GenesisSubnet {
            id,
            name: name.to_owned(),
            task: name.to_owned(),
            owner: None,
            rules: plain(&SubnetRules {
                tempo: 5,
                reveal_window: 2,
                slots: 5,
                ..SubnetRules::defaults(NetworkKind::Devnet)
            }),
        })
        .to_vec();
    genesis.seal().expect("a good genesis").1
}

/// Every purse of every account changed by exactly its lines, and all money is in a purse or the network's (E21, L7).
pub fn check_lines(parent: &State, executed: &Executed) {
    let (before, after) = (held_by(parent), held_by(&executed.state));
    let mut sums: std::collections::BTreeMap<_, i128> = std::collections::BTreeMap::new();
    for ((account, purse), held) in before {
        *sums.entry((account, purse)).or_default() += held.cast_signed();
    }
    for line in &executed.lines {
        assert!(line.amount != 0 && line.height == executed.state.height(), "{line:?}");
        *sums.entry((line.account, line.purse)).or_default() += i128::from(line.amount);
    }
    let closing = |purse: &(AccountId, Purse)| after.get(purse).copied().unwrap_or(0).cast_signed();
    for (purse, sum) in &sums {
        let lines: Vec<_> = executed.lines.iter().filter(|line| (line.account, line.purse) == *purse).collect();
        assert_eq!(*sum, closing(purse), "{purse:?} at height {}: {lines:#?}", executed.state.height());
    }
    assert!(after.keys().all(|purse| sums.contains_key(purse)), "a purse without a line: {after:?}");
    let held: u128 = after.values().sum();
    assert_eq!(held + held_by_nobody(&executed.state), executed.state.supply().total(), "money in no purse");
}

/// Rules under which a miner's place always costs 1 STAR, all of which comes back.
pub fn plain(rules: &SubnetRules) -> SubnetRules {
    SubnetRules { price_start: STAR, price_min: STAR, price_max: STAR, entry_fee_bp: 0, ..rules.clone() }
}

/// A chain of one node.
pub struct World {
    pub state: State,
    parent: Digest,
}

impl World {
    pub fn new() -> Self {
        Self::of(&genesis())
    }

    pub fn of(genesis: &Genesis) -> Self {
        Self { state: State::genesis(genesis), parent: Digest::ZERO }
    }

    pub fn context(&self) -> Context {
        let height = self.state.height() + 1;
        Context {
            height,
            timestamp_ms: height * 1_000,
            proposer: account(0),
            parent: self.parent,
            attended: (0..4).map(|of| (account(of), 10)).collect(),
            committee: 40,
        }
    }

    /// A transaction as its account would send it now, `ahead` nonces later than the next.
    pub fn transaction(&self, of: u8, action: Action, ahead: u64) -> Transaction {
        let nonce = self.state.account(&account(of)).map_or(0, |account| account.nonce) + ahead;
        let valid_until = self.state.height() + 10;
        let mut transaction = Transaction { account: account(of), nonce, fee: 0, valid_until, action };
        transaction.fee = minimum_fee(&self.state, &transaction.action, transaction.signed_bytes());
        transaction
    }

    pub fn sign(&self, of: u8, transaction: Transaction) -> SignedTransaction {
        transaction.sign(&self.state.chain_id(), &key(of)).expect("a good transaction")
    }

    /// The bytes of actions in body order, with rising nonces of each account.
    pub fn body(&self, actions: &[(u8, Action)]) -> Vec<Vec<u8>> {
        let mut ahead = std::collections::BTreeMap::new();
        actions
            .iter()
            .map(|(of, action)| {
                let next = ahead.entry(*of).or_insert(0);
                *next += 1;
                self.sign(*of, self.transaction(*of, action.clone(), *next - 1)).encode()
            })
            .collect()
    }

    /// Executes a body that must be admissible.
    pub fn step(&mut self, actions: &[(u8, Action)]) -> Executed {
        let body = self.body(actions);
        let executed = execute(&self.state, &self.context(), &body).expect("an admissible body");
        self.take(&executed);
        executed
    }

    pub fn take(&mut self, executed: &Executed) {
        check_lines(&self.state, executed);
        settlements::check_reasons(executed);
        self.state = executed.state.clone();
        self.parent = hash("starling/1 test header", &[&executed.state_root.0]);
    }

    /// Empty heights up to this one.
    pub fn run_to(&mut self, height: u64) -> Vec<super::event::Event> {
        let mut events = Vec::new();
        while self.state.height() < height {
            events.extend(self.step(&[]).events);
        }
        events
    }

    /// Gives a subnet something to mint, as if an earlier term had granted it.
    pub fn grant(&mut self, subnet: SubnetId, amount: u64) {
        let mut draft = Draft::new(&self.state);
        assert!(draft.change::<economy::rows::Purse>(&subnet, |purse| purse.pending = amount));
        self.state = draft.seal(&self.state).0;
    }

    pub fn balance(&self, of: u8) -> u64 {
        self.state.account(&account(of)).map_or(0, |account| account.balance)
    }
}

pub fn transfer(to: u8, amount: u64) -> Action {
    Action::Transfer { to: account(to), amount, memo: Vec::new() }
}

pub fn register(of: u8, subnet: SubnetId, role: Role) -> (u8, Action) {
    (of, Action::Register { subnet, role, operator: key(of).public(), max_bond: STAR })
}

pub fn member(of: u8, subnet: SubnetId, role: Role, state: &State) -> MemberId {
    state.member_of(subnet, role, &account(of)).expect("a member")
}

/// The opening of a vector, by its author's own salt.
pub fn opening(of: u8, row: &[Weight]) -> Opening {
    Opening::bare(Width::Two, row.to_vec(), [of; 32])
}

/// The seat of an account as a commitment names it.
pub fn author(state: &State, subnet: SubnetId, period: u64, of: u8) -> Author {
    let validator = member(of, subnet, Role::Validator, state);
    Author { chain: state.chain_id(), subnet, mechanism: 0, period, validator, operator: key(of).public() }
}

pub fn commit_of(state: &State, subnet: SubnetId, epoch: u64, of: u8, opening: &Opening) -> (u8, Action) {
    let by = author(state, subnet, epoch, of);
    let hash = opening.commitment(&by);
    (of, Action::WeightsCommit { subnet, mechanism: 0, epoch, member: by.validator, version: 0, hash })
}

pub fn reveal_of(state: &State, subnet: SubnetId, epoch: u64, of: u8, opening: Opening) -> (u8, Action) {
    let member = member(of, subnet, Role::Validator, state);
    (of, Action::WeightsReveal { subnet, mechanism: 0, epoch, member, opening })
}
