//! What the ledger keeps on disk: the rows of the last final state, every final checkpoint, where each transaction is, the
//! lines of every account's statement, which are only ever added to (E21), and what the last epochs were settled on (E22).
//!
//! One write per final checkpoint, all or nothing (C36); idempotent by height. Refuses a store of another network, and a
//! store whose rows do not have the root that its last checkpoint names.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ledger::apply::{Executed, leaves};
use crate::ledger::event::Event;
use crate::ledger::money::opening;
use crate::ledger::receipt::Receipt;
use crate::ledger::rows::Row;
use crate::ledger::settlement::{SETTLEMENT_BYTES_MAX, SETTLEMENTS_KEPT, Settlement};
use crate::ledger::state::{State, StateError};
use crate::protocol::checkpoint::{Certificate, Checkpoint, GenesisHeader, Header};
use crate::protocol::codec::{self, CodecError};
use crate::protocol::committee::Committee;
use crate::protocol::genesis::Genesis;
use crate::protocol::ids::{AccountId, ChainId, Digest, Epoch, Height, SubnetId};
use crate::protocol::layout::LayoutError;
use crate::protocol::merkle::merkle_path;
use crate::protocol::statement::Line;
use crate::protocol::transaction::SignedTransaction;
use crate::store::kv::{Kv, Pair, StoreError, Table, Write};

const CHAIN: &[u8] = b"chain";
const HEIGHT: &[u8] = b"height";
/// Rows read at a time.
const PAGE: usize = 4_096;
/// A stored checkpoint: a body of at most 1 MiB, its header and certificate.
const STORED_BYTES_MAX: usize = 4 << 20;
/// Settlements looked through at a time: those of one subnet, and a few that a change of its rules left over.
const SETTLEMENTS_PAGE: usize = 24;

/// The last final checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Tip {
    pub header: Header,
    pub hash: Digest,
    pub certificate: Option<Certificate>,
    pub transactions: usize,
}

impl Tip {
    pub fn of(checkpoint: &Checkpoint) -> Self {
        Self {
            header: checkpoint.header.clone(),
            hash: checkpoint.header.hash(),
            certificate: checkpoint.certificate.clone(),
            transactions: checkpoint.body.transactions.len(),
        }
    }

    fn genesis(state: &State, committee: &Committee) -> Self {
        let header = Header::genesis(GenesisHeader {
            chain: state.chain_id(),
            timestamp_ms: state.timestamp_ms(),
            state_root: state.root(),
            receipt_root: crate::protocol::merkle::merkle_root(std::iter::empty()),
            record_root: state.record_root(),
            set_hash: committee.set_hash(),
            next_set_hash: committee.set_hash(),
            params_hash: state.params_hash(),
        });
        Self { hash: header.hash(), header, certificate: None, transactions: 0 }
    }
}

/// Where a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub height: Height,
    pub index: u32,
    pub receipt: Receipt,
}

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "the data directory belongs to the network {theirs}, the genesis file makes {ours}; use another --data-dir or \
         the right genesis file"
    )]
    OtherNetwork { ours: ChainId, theirs: ChainId },
    #[error("a row of the store cannot be read: {0}")]
    Row(#[from] CodecError),
    #[error("a line of the store cannot be read: {0}")]
    Line(#[from] LayoutError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the stored state has root {found}, its checkpoint names {expected}; restore a backup or sync anew")]
    Root { expected: Digest, found: Digest },
    #[error("the store lacks its checkpoint {0}")]
    Missing(Height),
}

/// Lines with their places under the receipt root: after the receipts of their height.
fn put_lines(batch: &mut Vec<Write>, height: Height, receipts: usize, lines: &[Line]) {
    for (index, line) in (u32::try_from(receipts).unwrap_or(u32::MAX)..).zip(lines) {
        let place = [&height.to_be_bytes()[..], &index.to_be_bytes()].concat();
        batch.push(Write::put(Table::Statements, [&line.account.0[..], &place].concat(), []));
        batch.push(Write::put(Table::Lines, place, line.encode()));
    }
}

/// The ledger's store. Cheap to clone: all clones read and write the same one.
#[derive(Clone, Debug)]
pub struct Archive {
    kv: Arc<dyn Kv>,
}

impl Archive {
    /// Opens a store for a network, or begins it with the genesis state.
    ///
    /// # Errors
    /// The disk fails, the store is another network's, or it does not hold what it should.
    pub fn open(kv: Arc<dyn Kv>, genesis: &Genesis, committee: &Committee) -> Result<(Self, State, Tip), ArchiveError> {
        let (ours, archive) = (genesis.chain_id(), Self { kv });
        match archive.kv.get(Table::Meta, CHAIN)? {
            None => {
                let state = State::genesis(genesis);
                let tip = Tip::genesis(&state, committee);
                let mut batch =
                    vec![Write::put(Table::Meta, CHAIN, ours.0), Write::put(Table::Meta, HEIGHT, 0_u64.to_be_bytes())];
                batch.extend(state.rows().into_iter().map(|(key, value)| Write::put(Table::State, key, value)));
                put_lines(&mut batch, 0, 0, &opening(&state));
                archive.kv.commit(&batch)?;
                Ok((archive, state, tip))
            }
            Some(bytes) => {
                let theirs = ChainId(bytes.try_into().unwrap_or_default());
                if theirs != ours {
                    return Err(ArchiveError::OtherNetwork { ours, theirs });
                }
                let state = State::load(archive.rows()?)?;
                let tip = archive.tip(&state, committee)?;
                Ok((archive, state, tip))
            }
        }
    }

    fn rows(&self) -> Result<Vec<Pair>, StoreError> {
        let mut rows: Vec<Pair> = Vec::new();
        let mut from = Vec::new();
        loop {
            let page = self.kv.range(Table::State, &from, PAGE)?;
            let full = page.len() == PAGE;
            rows.extend(page);
            let Some((last, _)) = rows.last().filter(|_| full) else { return Ok(rows) };
            from.clone_from(last);
            // The next key there can be.
            from.push(0);
        }
    }

    fn tip(&self, state: &State, committee: &Committee) -> Result<Tip, ArchiveError> {
        let height = self.kv.get(Table::Meta, HEIGHT)?.and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        let tip = match height {
            None | Some(0) => Tip::genesis(state, committee),
            Some(height) => Tip::of(&self.checkpoint(height)?.ok_or(ArchiveError::Missing(height))?),
        };
        let (expected, found) = (tip.header.state_root, state.root());
        if expected == found { Ok(tip) } else { Err(ArchiveError::Root { expected, found }) }
    }

    /// Makes a checkpoint final: its state's changed rows, itself, and where its transactions are, in one durable write.
    ///
    /// # Errors
    /// The store cannot be written; nothing of it counts.
    pub fn finalise(&self, checkpoint: &Checkpoint, executed: &Executed) -> Result<(), StoreError> {
        let (header, height) = (&checkpoint.header, checkpoint.header.height);
        let mut batch = vec![
            Write::put(Table::Checkpoints, height.to_be_bytes(), codec::encode(checkpoint)),
            Write::put(Table::Hashes, header.hash().0, height.to_be_bytes()),
            Write::put(Table::Meta, HEIGHT, height.to_be_bytes()),
        ];
        let row = |(key, value): &(Vec<u8>, Option<Vec<u8>>)| match value {
            Some(value) => Write::put(Table::State, key.clone(), value.clone()),
            None => Write::remove(Table::State, key.clone()),
        };
        batch.extend(executed.diff.iter().map(row));
        for (index, (id, receipt)) in (0..).zip(executed.ids.iter().zip(&executed.receipts)) {
            let place = Place { height, index, receipt: *receipt };
            batch.push(Write::put(Table::Transactions, id.0, codec::encode(&place)));
        }
        put_lines(&mut batch, height, executed.receipts.len(), &executed.lines);
        for event in &executed.events {
            if let Event::EpochClosed(closed) = event {
                self.settled(&mut batch, &closed.settlement)?;
            }
        }
        self.kv.commit(&batch)
    }

    /// Keeps what an epoch was settled on, and forgets what is too old (E22). One that is too large is dropped: its epoch
    /// is paid like any other and cannot be explained from here.
    fn settled(&self, batch: &mut Vec<Write>, of: &Settlement) -> Result<(), StoreError> {
        let key = |epoch: Epoch| [&of.subnet.0.to_be_bytes()[..], &epoch.to_be_bytes()].concat();
        let (period, bytes) = (of.close.period, of.encode());
        let oldest = key(period.saturating_sub(SETTLEMENTS_KEPT - 1));
        let kept = self.kv.range(Table::Settlements, &key(0), SETTLEMENTS_PAGE)?;
        let old = kept.into_iter().map(|(key, _)| key).filter(|key| *key < oldest);
        batch.extend(old.map(|key| Write::remove(Table::Settlements, key)));
        if bytes.len() > SETTLEMENT_BYTES_MAX {
            metrics::counter!("starling_net_queue_dropped_total", "queue" => "settlements").increment(1);
        } else {
            batch.push(Write::put(Table::Settlements, key(period), bytes));
        }
        Ok(())
    }

    /// What an epoch of a subnet was settled on, the newest when none is named; none when it is not kept here.
    ///
    /// # Errors
    /// The disk fails or the row is damaged.
    pub fn settlement(&self, subnet: SubnetId, epoch: Option<Epoch>) -> Result<Option<Settlement>, ArchiveError> {
        let prefix = subnet.0.to_be_bytes();
        let bytes = match epoch {
            Some(epoch) => self.kv.get(Table::Settlements, &[&prefix[..], &epoch.to_be_bytes()].concat())?,
            None => {
                let rows = self.kv.range(Table::Settlements, &prefix, SETTLEMENTS_PAGE)?;
                rows.into_iter().rfind(|(key, _)| key.starts_with(&prefix)).map(|(_, bytes)| bytes)
            }
        };
        Ok(bytes.map(|bytes| Settlement::decode(&bytes)).transpose()?)
    }

    /// The final checkpoint at a height above 0.
    ///
    /// # Errors
    /// The disk fails or the row is damaged.
    pub fn checkpoint(&self, height: Height) -> Result<Option<Checkpoint>, ArchiveError> {
        let bytes = self.kv.get(Table::Checkpoints, &height.to_be_bytes())?;
        Ok(bytes.map(|bytes| codec::decode::<_, STORED_BYTES_MAX>(&bytes)).transpose()?)
    }

    /// Consecutive final checkpoints from a height on, read as they are taken. A store that fails is as one that has
    /// nothing: the asker turns to another peer.
    pub fn checkpoints_from(&self, from: Height) -> impl Iterator<Item = Checkpoint> + '_ {
        (from.max(1)..).map_while(|height| self.checkpoint(height).ok().flatten())
    }

    /// Where a final transaction is.
    ///
    /// # Errors
    /// The disk fails or the row is damaged.
    pub fn place(&self, id: &Digest) -> Result<Option<Place>, ArchiveError> {
        let bytes = self.kv.get(Table::Transactions, &id.0)?;
        Ok(bytes.map(|bytes| codec::decode::<_, 256>(&bytes)).transpose()?)
    }

    /// The rows of a table whose keys begin so, page by page, until `take` has enough.
    fn walk(
        &self,
        table: Table,
        prefix: &[u8],
        from: &[u8],
        mut take: impl FnMut(Pair) -> Result<bool, ArchiveError>,
    ) -> Result<(), ArchiveError> {
        let mut from = from.to_vec();
        loop {
            let page = self.kv.range(table, &from, PAGE)?;
            let full = page.len() == PAGE;
            for (key, value) in page {
                from.clone_from(&key);
                if !key.starts_with(prefix) || !take((key, value))? {
                    return Ok(());
                }
            }
            if !full {
                return Ok(());
            }
            from.push(0);
        }
    }

    /// The lines of an account from a height on, in order, each with its number at its height, until `take` has enough.
    ///
    /// # Errors
    /// The disk fails or a row is damaged.
    pub fn lines(
        &self,
        account: &AccountId,
        from: Height,
        mut take: impl FnMut(u32, Line) -> bool,
    ) -> Result<(), ArchiveError> {
        let start = [&account.0[..], &from.to_be_bytes()].concat();
        self.walk(Table::Statements, &account.0, &start, |(key, _)| {
            let (_, place) = key.split_at_checked(account.0.len()).unwrap_or_default();
            let (height, index) = place.split_at_checked(8).unwrap_or_default();
            let height = u64::from_be_bytes(height.try_into().unwrap_or_default());
            let index = u32::from_be_bytes(index.try_into().unwrap_or_default());
            let bytes = self.kv.get(Table::Lines, place)?.ok_or(ArchiveError::Missing(height))?;
            Ok(take(index, Line::decode(&bytes)?))
        })
    }

    /// A line with how many leaves the receipt root of its height has, and the path to it; none when there is no such line.
    ///
    /// # Errors
    /// The disk fails or a row is damaged.
    pub fn line_path(&self, height: Height, index: u32) -> Result<Option<(Line, u64, Vec<Digest>)>, ArchiveError> {
        let Some(checkpoint) = self.checkpoint(height)? else { return Ok(None) };
        let mut receipts = Vec::new();
        for bytes in &checkpoint.body.transactions {
            let place = self.place(&SignedTransaction::decode(bytes)?.id)?;
            receipts.push(place.ok_or(ArchiveError::Missing(height))?.receipt);
        }
        let (mut lines, prefix) = (Vec::new(), height.to_be_bytes());
        self.walk(Table::Lines, &prefix, &prefix, |(_, bytes)| {
            lines.push(Line::decode(&bytes)?);
            Ok(true)
        })?;
        let place = usize::try_from(index).unwrap_or(usize::MAX);
        let Some(line) = place.checked_sub(receipts.len()).and_then(|index| lines.get(index)).copied() else {
            return Ok(None);
        };
        let leaves = leaves(&receipts, &lines);
        let path = merkle_path(leaves.iter().map(Vec::as_slice), u64::from(index));
        Ok(path.map(|path| (line, leaves.len() as u64, path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::apply::{Context, execute, minimum_fee};
    use crate::ledger::money::held_by;
    use crate::protocol::checkpoint::Body;
    use crate::protocol::committee::{Bitmap, CommitteeMember};
    use crate::protocol::genesis::{GenesisAccount, GenesisVoter};
    use crate::protocol::keys::SecretKey;
    use crate::protocol::merkle::merkle_holds;
    use crate::protocol::parameters::NetworkKind;
    use crate::protocol::transaction::{Action, Transaction};
    use crate::store::kv::MemoryKv;

    #[test]
    fn e22_the_last_sixteen_settlements_of_each_subnet_are_kept() {
        use crate::ledger::judging::Close;
        use crate::ledger::settlement::Pots;
        use crate::protocol::ids::MemberId;
        use crate::protocol::parameters::SubnetRules;
        let archive = Archive { kv: Arc::new(MemoryKv::default()) };
        let settled = |subnet: u32, period: u64| Settlement {
            subnet: SubnetId(subnet),
            height: period * 10,
            last: period.checked_sub(1).map(|before| before * 10),
            rules: SubnetRules::defaults(NetworkKind::Devnet),
            close: Close {
                period,
                height: period * 10,
                apply_at: period * 10 + 2,
                bound: MemberId(9),
                root: Digest([1; 32]),
                voices: Vec::new(),
                related: Vec::new(),
            },
            miners: Vec::new(),
            rows: Vec::new(),
            pots: Pots::default(),
        };
        for period in 0..40 {
            for subnet in [1, 2] {
                let mut batch = Vec::new();
                archive.settled(&mut batch, &settled(subnet, period)).unwrap();
                archive.kv.commit(&batch).unwrap();
            }
        }
        for subnet in [1, 2] {
            let kept = |period| archive.settlement(SubnetId(subnet), Some(period)).unwrap();
            let periods: Vec<u64> = (0..50).filter(|period| kept(*period).is_some()).collect();
            assert_eq!(periods, (24..40).collect::<Vec<_>>());
            assert_eq!(kept(30), Some(settled(subnet, 30)));
            assert_eq!(archive.settlement(SubnetId(subnet), None).unwrap(), Some(settled(subnet, 39)));
        }
        assert_eq!(archive.settlement(SubnetId(3), None).unwrap(), None);
    }

    /// Some heights of transfers and delegations: every account's lines add up to its purses, and each is proved under the
    /// receipt root of its height.
    #[test]
    fn e21_statements_add_up_and_every_line_is_proved() {
        const STAR: u64 = 1_000_000_000;
        let key = |of: u8| SecretKey::from_seed([of; 32]);
        let account = |of: u8| AccountId::from(key(of).public());
        let mut genesis = Genesis::new("testnet", NetworkKind::Devnet, 1_700_000_000_000);
        genesis.accounts = (1..5).map(|of| GenesisAccount { account: account(of), balance: 100 * STAR }).collect();
        genesis.committee = vec![GenesisVoter {
            consensus: key(9).public(),
            account: account(1),
            node: None,
            stake: 10 * STAR,
            support: Vec::new(),
        }];
        let genesis = genesis.seal().unwrap().1;
        let member = CommitteeMember { key: key(9).public(), weight: 10, account: account(1) };
        let committee = Committee::new(0, vec![member]).unwrap();
        let kv = Arc::new(MemoryKv::default());
        let (archive, mut state, mut tip) = Archive::open(kv, &genesis, &committee).unwrap();
        let mut proved = 0;
        for height in 1..20_u64 {
            let mut transactions = Vec::new();
            for of in 1..5 {
                let action = if height % 3 == 0 {
                    Action::Delegate { validator: account(1), amount: STAR + height }
                } else {
                    Action::Transfer { to: account(1 + of % 4), amount: height, memo: Vec::new() }
                };
                let nonce = state.account(&account(of)).unwrap().nonce;
                let mut transaction =
                    Transaction { account: account(of), nonce, fee: 0, valid_until: height + 5, action };
                transaction.fee = minimum_fee(&state, &transaction.action, transaction.signed_bytes()) + 3;
                transactions.push(transaction.sign(&genesis.chain_id(), &key(of)).unwrap().encode());
            }
            let context = Context {
                height,
                timestamp_ms: height,
                proposer: account(2),
                parent: tip.hash,
                attended: Vec::new(),
                committee: 10,
            };
            let executed = execute(&state, &context, &transactions).unwrap();
            let body = Body { attendance: Bitmap::default(), transactions };
            let header = Header {
                height,
                receipt_root: executed.receipt_root,
                state_root: executed.state_root,
                body_root: body.root(),
                ..tip.header.clone()
            };
            let checkpoint = Checkpoint { header, body, certificate: None };
            archive.finalise(&checkpoint, &executed).unwrap();
            (state, tip) = (executed.state, Tip::of(&checkpoint));
            for of in 1..5 {
                let mut places = Vec::new();
                archive
                    .lines(&account(of), height, |index, line| {
                        places.push((index, line));
                        true
                    })
                    .unwrap();
                assert!(!places.is_empty());
                for (index, line) in places {
                    let (found, count, path) = archive.line_path(height, index).unwrap().unwrap();
                    assert_eq!(found, line);
                    let root = executed.receipt_root;
                    assert!(merkle_holds(&root, count, index.into(), &line.encode(), &path));
                    proved += 1;
                }
            }
            assert_eq!(archive.line_path(height, 0).unwrap(), None, "a receipt is no line");
        }
        let purses = held_by(&state);
        for of in 1..5 {
            let mut sums = std::collections::BTreeMap::new();
            archive
                .lines(&account(of), 0, |_, line| {
                    *sums.entry((line.account, line.purse)).or_insert(0) += i128::from(line.amount);
                    true
                })
                .unwrap();
            for (purse, sum) in sums {
                assert_eq!(purses.get(&purse).copied().unwrap_or(0).cast_signed(), sum, "{purse:?}");
            }
        }
        assert!(proved > 200, "{proved} lines proved");
    }
}
