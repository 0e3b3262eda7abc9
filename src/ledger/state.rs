//! The state: every table as a persistent ordered map, and the tree that commits to them.
//!
//! Cloning is O(1) and shares everything, so the state after each checkpoint that is not final yet is simply a value
//! (L8). Reading is by `get` and `range`; writing goes through a `Draft`, which remembers what it touched and seals into
//! a new state, the changed rows for the store, and the new root. Money is balanced at every seal (L7): a state that
//! does not balance is a violation and never leaves this file.

use std::collections::BTreeSet;
use std::ops::RangeBounds;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::economy::rows::{Attested, Charter, Purse, Queued, Support, Treasury};
use super::incentive::EpochResult;
use super::judging::{Agreed, Close, LogChallenge, ScoreSource, Seat, Window};
use super::models::{Model, Seal};
use super::offence::{Offence, Voter};
use super::records::Records;
use super::rows::{
    Account, Bonds, Chain, Channel, Commit, Due, DueReason, Ending, Member, Move, Owed, Pool, Row, Shares, Subnet,
    Supply, Vector,
};
use super::table::{Key, RowKey, Table};
use super::tree::{Change, Proof, Tree, value_digest};
use crate::protocol::genesis::Genesis;
use crate::protocol::ids::{AccountId, ChainId, Digest, Epoch, Height, MemberId, SubnetId, Term, hash};
use crate::protocol::layout::{LayoutError, Reader};
use crate::protocol::parameters::Parameters;
use crate::protocol::transaction::Role;

/// Heights between two audits that add up every row; in between the sum is kept by its changes.
const FULL_AUDIT_HEIGHTS: u64 = 600;

const CHAIN_TABLE: u8 = 16;
const SUPPLY_TABLE: u8 = 17;
const RECORDS_TABLE: u8 = 18;
const TREASURY_TABLE: u8 = 19;
/// The tables of one row each, whose key is empty.
pub(super) const SINGLES: [u8; 4] = [CHAIN_TABLE, SUPPLY_TABLE, RECORDS_TABLE, TREASURY_TABLE];

/// Declares the tables once: the state's maps, and everything that goes over all of them.
macro_rules! tables {
    ($($id:literal $field:ident: $key:ty => $row:ty $(, $changed:path)?;)*) => {
        /// The whole state at one height.
        #[derive(Clone, Debug)]
        pub struct State {
            $($field: OrdMap<$key, $row>,)*
            pub(super) chain: Chain,
            pub(super) supply: Supply,
            pub(super) records: Records,
            pub(super) treasury: Treasury,
            /// Derived from the members: who an account is in a subnet.
            index: OrdMap<(SubnetId, Role, AccountId), MemberId>,
            /// Derived from the due queue: what was taken out of each pool and is held.
            unbonding: OrdSet<(AccountId, Height, u64)>,
            /// Derived: the channels each account pays from.
            paying: OrdSet<(AccountId, Digest)>,
            /// Results of closes in flight that were worked out beside; never a part of the state.
            ready: OrdMap<(SubnetId, Digest), Arc<EpochResult>>,
            /// Derived: motes in all rows but the supply.
            held: u128,
            pub(super) tree: Tree,
        }

        $(impl Table for $row {
            const ID: u8 = $id;
            type Key = $key;

            fn map(state: &State) -> &OrdMap<Self::Key, Self> {
                &state.$field
            }

            fn map_mut(state: &mut State) -> &mut OrdMap<Self::Key, Self> {
                &mut state.$field
            }

            $(fn changed(state: &mut State, key: &Self::Key, before: Option<&Self>, after: Option<&Self>) {
                $changed(state, key, before, after);
            })?
        })*

        impl State {
            fn empty(chain: Chain) -> Self {
                Self {
                    $($field: OrdMap::new(),)*
                    chain,
                    supply: Supply::default(),
                    records: Records::default(),
                    treasury: Treasury::default(),
                    index: OrdMap::new(),
                    ready: OrdMap::new(),
                    unbonding: OrdSet::new(),
                    paying: OrdSet::new(),
                    held: 0,
                    tree: Tree::default(),
                }
            }

            /// The bytes of one row, by its row key.
            pub(super) fn row(&self, row_key: &[u8]) -> Option<Vec<u8>> {
                let (table, key) = row_key.split_first()?;
                let mut from = Reader::new(key);
                match *table {
                    $($id => <$row as Table>::map(self).get(&<$key as Key>::read(&mut from).ok()?).map(Row::encode),)*
                    CHAIN_TABLE => Some(self.chain.encode()),
                    SUPPLY_TABLE => Some(self.supply.encode()),
                    RECORDS_TABLE => Some(self.records.encode()),
                    TREASURY_TABLE => Some(self.treasury.encode()),
                    _ => None,
                }
            }

            /// Takes in one row of the store.
            fn take(&mut self, row_key: &[u8], bytes: &[u8]) -> Result<(), LayoutError> {
                let mut from = Reader::new(row_key);
                let table = from.u8()?;
                match table {
                    $($id => {
                        let key = <$key as Key>::read(&mut from)?;
                        self.put(&key, Some(<$row as Row>::decode(bytes)?));
                    })*
                    CHAIN_TABLE => self.chain = Chain::decode(bytes)?,
                    SUPPLY_TABLE => self.supply = Supply::decode(bytes)?,
                    RECORDS_TABLE => self.records = Records::decode(bytes)?,
                    TREASURY_TABLE => self.treasury = Treasury::decode(bytes)?,
                    other => return Err(LayoutError::Unknown { what: "table", found: other.into() }),
                }
                from.end()
            }

            /// Every row as the store keeps it, in key order.
            pub fn rows(&self) -> Vec<(RowKey, Vec<u8>)> {
                let mut rows = Vec::new();
                $(rows.extend(self.$field.iter().map(|(key, row)| (<$row as Table>::row_key(key), row.encode())));)*
                rows.push((vec![CHAIN_TABLE], self.chain.encode()));
                rows.push((vec![SUPPLY_TABLE], self.supply.encode()));
                rows.push((vec![RECORDS_TABLE], self.records.encode()));
                rows.push((vec![TREASURY_TABLE], self.treasury.encode()));
                rows.sort_unstable();
                rows
            }

            /// The sum of all rows but the supply and the treasury, added up anew.
            pub(super) fn sum_held(&self) -> u128 {
                0 $(+ self.$field.values().map(Row::held).sum::<u128>())*
            }
        }
    };
}

tables! {
    1 accounts: AccountId => Account;
    2 pools: AccountId => Pool;
    3 subnets: SubnetId => Subnet;
    4 members: (SubnetId, MemberId) => Member, index_member;
    5 commits: (SubnetId, Epoch, MemberId) => Commit;
    6 vectors: (SubnetId, MemberId) => Vector;
    7 bonds: (SubnetId, u8, u32) => Bonds;
    8 dues: (Height, u64) => Due, index_due;
    20 owed: AccountId => Owed;
    21 shares: (AccountId, AccountId) => Shares;
    22 moves: (AccountId, AccountId) => Move;
    23 channels: Digest => Channel, index_channel;
    24 endings: (Height, Digest) => Ending;
    30 purses: SubnetId => Purse;
    31 supports: AccountId => Support;
    32 queued: (SubnetId, u64) => Queued;
    33 charters: SubnetId => Charter;
    34 attested: (SubnetId, MemberId) => Attested;
    40 seats: (SubnetId, MemberId) => Seat;
    41 agreed: (SubnetId, Epoch) => Agreed;
    42 closes: SubnetId => Close;
    43 windows: SubnetId => Window;
    44 sources: (SubnetId, Epoch, MemberId) => ScoreSource;
    45 log_challenges: (Height, u64) => LogChallenge;
    50 models: (SubnetId, Digest) => Model;
    51 seals: (SubnetId, AccountId) => Seal;
    60 voters: (Term, u64) => Voter;
    61 offences: (Term, u64) => Offence;
}

fn index_member(state: &mut State, key: &(SubnetId, MemberId), before: Option<&Member>, after: Option<&Member>) {
    if let Some(member) = before {
        state.index.remove(&(key.0, member.role, member.account));
    }
    if let Some(member) = after {
        state.index.insert((key.0, member.role, member.account), key.1);
    }
}

fn index_due(state: &mut State, key: &(Height, u64), before: Option<&Due>, after: Option<&Due>) {
    let pool = |due: &Due| due.pool.filter(|_| due.reason == DueReason::Unstaked);
    if let Some(pool) = before.and_then(pool) {
        state.unbonding.remove(&(pool, key.0, key.1));
    }
    if let Some(pool) = after.and_then(pool) {
        state.unbonding.insert((pool, key.0, key.1));
    }
}

fn index_channel(state: &mut State, id: &Digest, before: Option<&Channel>, after: Option<&Channel>) {
    if let Some(channel) = before {
        state.paying.remove(&(channel.payer, *id));
    }
    if let Some(channel) = after {
        state.paying.insert((channel.payer, *id));
    }
}

/// Why rows of a store are no state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    #[error("a row of the store does not decode: {0}")]
    Row(#[from] LayoutError),
    #[error("the store holds no row of table {0}")]
    Missing(u8),
    #[error("the money does not balance: {0}")]
    Imbalance(#[from] Imbalance),
}

/// Money appeared or vanished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{held} held + {burned} burned is not {issued} issued")]
pub struct Imbalance {
    pub held: u128,
    pub burned: u64,
    pub issued: u128,
}

/// Where a tree keeps a row (L28).
pub fn tree_key(row_key: &[u8]) -> Digest {
    hash("starling/1 key", &[row_key])
}

/// Where a tree keeps the row of a key.
pub fn tree_key_of<T: Table>(key: &T::Key) -> Digest {
    tree_key(&T::row_key(key))
}

impl State {
    /// The state at height 0.
    pub fn genesis(genesis: &Genesis) -> Self {
        let mut state = Self::empty(Chain {
            chain_id: genesis.chain_id(),
            height: 0,
            timestamp_ms: genesis.timestamp_ms,
            due_seq: 0,
            base_byte: genesis.parameters.fee_byte,
            base_unit: genesis.parameters.fee_unit,
            weight_room: 0,
            parameters: genesis.parameters.clone(),
        });
        for row in &genesis.accounts {
            state.put(&row.account, Some(Account { balance: row.balance, ..Account::default() }));
        }
        for row in &genesis.committee {
            let mut account = state.accounts.get(&row.account).cloned().unwrap_or_default();
            // One for the pool, one for the shares of it.
            account.attached = account.attached.saturating_add(2);
            state.put(&row.account, Some(account));
            let (total, shares, holders) = (row.stake, row.stake, 1);
            state.put(&row.account, Some(Pool { total, shares, holders, ..Pool::default() }));
            state.put(&(row.account, row.account), Some(Shares { shares, moved_until: 0, locked: shares }));
        }
        for row in &genesis.subnets {
            state.put(
                &row.id,
                Some(Subnet {
                    name: row.name.clone(),
                    task: row.task.clone(),
                    rules: row.rules.clone(),
                    next_member: MemberId(0),
                    miners: 0,
                    validators: 0,
                    epoch: 0,
                    opened: 0,
                    next_open: next_open(row.id, row.rules.tempo, 0),
                    settle_at: None,
                    last_settled: None,
                    minted: 0,
                    burned_fees: 0,
                    fee_pot: 0,
                }),
            );
        }
        super::economy::genesis(&mut state, genesis);
        // A genesis whose voters are no committee makes no node; it has nobody to accuse.
        if let Ok(committee) = genesis.first_committee() {
            super::offence::seat(&mut state, &committee);
        }
        // The genesis check bounds the sum by the supply cap, which fits.
        state.supply.genesis = u64::try_from(genesis.issued()).unwrap_or(u64::MAX);
        state.plant();
        state.audit();
        state
    }

    /// The state of a store's rows.
    ///
    /// # Errors
    /// A row does not decode, one that must be there is missing, or the money does not balance.
    pub fn load(rows: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<Self, StateError> {
        let nothing = Chain {
            chain_id: ChainId::ZERO,
            height: 0,
            timestamp_ms: 0,
            due_seq: 0,
            base_byte: 0,
            base_unit: 0,
            weight_room: 0,
            parameters: Parameters::defaults(crate::protocol::parameters::NetworkKind::Public),
        };
        let mut state = Self::empty(nothing);
        let mut single = BTreeSet::from(SINGLES);
        for (key, value) in rows {
            state.take(&key, &value)?;
            if let Some(table) = key.first() {
                single.remove(table);
            }
        }
        if let Some(table) = single.first() {
            return Err(StateError::Missing(*table));
        }
        state.plant();
        state.balance(state.held)?;
        Ok(state)
    }

    /// Builds the tree from nothing.
    fn plant(&mut self) {
        let mut changes: Vec<Change> =
            self.rows().iter().map(|(key, value)| (tree_key(key), Some(value_digest(value)))).collect();
        changes.sort_unstable();
        self.tree = Tree::default().update(&changes);
    }

    pub(super) fn put<T: Table>(&mut self, key: &T::Key, row: Option<T>) {
        let added = row.as_ref().map_or(0, Row::held);
        let after = row.clone();
        let before = match row {
            Some(row) => T::map_mut(self).insert(key.clone(), row),
            None => T::map_mut(self).remove(key),
        };
        // Subtracting first could go below zero for an instant; the sum of both never does.
        self.held = (self.held + added).saturating_sub(before.as_ref().map_or(0, Row::held));
        T::changed(self, key, before.as_ref(), after.as_ref());
    }

    fn balance(&self, held: u128) -> Result<(), Imbalance> {
        let held = held + self.supply.held() + self.treasury.held();
        let (burned, issued) = (self.supply.burned, self.supply.issued());
        if held + u128::from(burned) == issued { Ok(()) } else { Err(Imbalance { held, burned, issued }) }
    }

    /// Stops the node when money appeared or vanished (L7): going on would make the error everybody's truth.
    pub(super) fn audit(&self) {
        let kept = self.balance(self.held);
        assert!(kept.is_ok(), "violation: money at height {}: {kept:?}", self.chain.height);
        if self.chain.height.is_multiple_of(FULL_AUDIT_HEIGHTS) {
            let whole = self.check();
            assert!(whole.is_ok(), "violation: money at height {}: {whole:?}", self.chain.height);
        }
    }

    /// Adds up every row (L7).
    ///
    /// # Errors
    /// The sum is not what was issued.
    pub fn check(&self) -> Result<(), Imbalance> {
        self.balance(self.sum_held())
    }

    /// The digest of everything.
    pub fn root(&self) -> Digest {
        self.tree.root()
    }

    /// A row's bytes, if there are any, with the proof of their presence or absence under `root`.
    pub fn prove<T: Table>(&self, key: &T::Key) -> (Option<Vec<u8>>, Proof) {
        let row_key = T::row_key(key);
        (self.row(&row_key), self.tree.prove(&tree_key(&row_key)))
    }

    pub fn chain_id(&self) -> ChainId {
        self.chain.chain_id
    }

    pub fn height(&self) -> Height {
        self.chain.height
    }

    pub fn timestamp_ms(&self) -> u64 {
        self.chain.timestamp_ms
    }

    pub fn parameters(&self) -> &Parameters {
        &self.chain.parameters
    }

    pub fn params_hash(&self) -> Digest {
        self.chain.parameters.params_hash()
    }

    pub fn record_root(&self) -> Digest {
        self.records.root()
    }

    pub fn supply(&self) -> &Supply {
        &self.supply
    }

    /// The network's own books: the term, and who waits for a place among the subnets.
    pub fn treasury(&self) -> &Treasury {
        &self.treasury
    }

    /// What a subnet has and is owed; nothing where there is no such subnet.
    pub fn purse(&self, id: SubnetId) -> Purse {
        self.get::<Purse>(&id).cloned().unwrap_or_default()
    }

    pub fn get<T: Table>(&self, key: &T::Key) -> Option<&T> {
        T::map(self).get(key)
    }

    pub fn range<T: Table>(&self, range: impl RangeBounds<T::Key>) -> impl Iterator<Item = (&T::Key, &T)> {
        T::map(self).range(range)
    }

    pub fn account(&self, id: &AccountId) -> Option<&Account> {
        self.get(id)
    }

    /// The stake behind an account: its pool with everybody's shares (E18), 0 when it has none.
    pub fn stake(&self, id: &AccountId) -> u64 {
        self.get::<Pool>(id).map_or(0, |pool| pool.total)
    }

    /// The channels an account pays from.
    pub fn channels(&self, payer: &AccountId) -> Vec<Digest> {
        let all = (*payer, Digest::ZERO)..=(*payer, Digest([0xff; 32]));
        self.paying.range(all).map(|(_, id)| *id).collect()
    }

    /// What a transaction pays now for each byte and each unit (E11).
    pub fn base_fees(&self) -> (u64, u64) {
        (self.chain.base_byte, self.chain.base_unit)
    }

    /// Where the due queue holds what was taken out of a pool.
    pub(super) fn unbonding(&self, pool: &AccountId) -> Vec<(Height, u64)> {
        let all = (*pool, 0, 0)..=(*pool, Height::MAX, u64::MAX);
        self.unbonding.range(all).map(|(_, height, seq)| (*height, *seq)).collect()
    }

    pub fn subnet(&self, id: SubnetId) -> Option<&Subnet> {
        self.get(&id)
    }

    pub fn member(&self, subnet: SubnetId, member: MemberId) -> Option<&Member> {
        self.get(&(subnet, member))
    }

    /// How much of the room for weights all heights so far used, each over 10,000 (D3).
    pub fn weight_room(&self) -> u64 {
        self.chain.weight_room
    }

    /// Takes in the result of a close in flight that was worked out beside. It changes no bit, only who waits for it.
    pub fn hand_in(&mut self, subnet: SubnetId, root: Digest, result: Arc<EpochResult>) {
        if self.get::<Close>(&subnet).is_some_and(|close| close.root == root) {
            self.ready.insert((subnet, root), result);
        }
    }

    pub(super) fn take_ready(&mut self, subnet: SubnetId, root: &Digest) -> Option<Arc<EpochResult>> {
        self.ready.remove(&(subnet, *root))
    }

    /// The members of a subnet by id.
    pub fn members(&self, subnet: SubnetId) -> impl Iterator<Item = (MemberId, &Member)> {
        let all = (subnet, MemberId(0))..=(subnet, MemberId(u32::MAX));
        self.range::<Member>(all).map(|(key, member)| (key.1, member))
    }

    /// Which member of a subnet an account is in a role.
    pub fn member_of(&self, subnet: SubnetId, role: Role, account: &AccountId) -> Option<MemberId> {
        self.index.get(&(subnet, role, *account)).copied()
    }
}

/// The first height above `after` that opens an epoch of the subnet: heights ≡ id modulo tempo (L6).
pub fn next_open(subnet: SubnetId, tempo: u64, after: Height) -> Height {
    let tempo = tempo.max(1);
    let phase = u64::from(subnet.0) % tempo;
    let ahead = (phase + tempo - after % tempo) % tempo;
    after + if ahead == 0 { tempo } else { ahead }
}
