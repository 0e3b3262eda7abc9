//! What the ledger keeps on disk: the rows of the last final state, every final checkpoint, and where each transaction is.
//!
//! One write per final checkpoint, all or nothing (C36); idempotent by height. Refuses a store of another network, and a
//! store whose rows do not have the root that its last checkpoint names.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ledger::apply::Executed;
use crate::ledger::receipt::Receipt;
use crate::ledger::state::{State, StateError};
use crate::protocol::checkpoint::{Certificate, Checkpoint, GenesisHeader, Header};
use crate::protocol::codec::{self, CodecError};
use crate::protocol::committee::Committee;
use crate::protocol::genesis::Genesis;
use crate::protocol::ids::{ChainId, Digest, Height};
use crate::store::kv::{Kv, Pair, StoreError, Table, Write};

const CHAIN: &[u8] = b"chain";
const HEIGHT: &[u8] = b"height";
/// Rows read at a time.
const PAGE: usize = 4_096;
/// A stored checkpoint: a body of at most 1 MiB, its header and certificate.
const STORED_BYTES_MAX: usize = 4 << 20;

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
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the stored state has root {found}, its checkpoint names {expected}; restore a backup or sync anew")]
    Root { expected: Digest, found: Digest },
    #[error("the store lacks its checkpoint {0}")]
    Missing(Height),
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
        self.kv.commit(&batch)
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
}
