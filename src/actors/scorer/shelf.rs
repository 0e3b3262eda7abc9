//! Where a validator keeps what it sealed: its openings until they are revealed, and its score logs for others to read.
//!
//! Everything is on disk before a commit goes out, so a crash between the two changes nothing: the same opening is found
//! again (D2). Logs are kept for `EPOCHS_KEPT` epochs (D11) and given out in pieces of a bounded size. What was added to a
//! seat's bond is kept beside them, so that a restart does not begin a new allowance. A row of the store that does not
//! read any more is as none.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::protocol::codec;
use crate::protocol::commitment::Opening;
use crate::protocol::ids::{Epoch, SubnetId};
use crate::protocol::score_log::{LOG_BYTES_MAX, ScoreLog};
use crate::protocol::wire::{LOG_PIECE_BYTES, LogPiece, LogWish};
use crate::store::kv::{Kv, StoreError, Table, Write};

/// Epochs for which a log is kept: those in which it may be challenged, and the one that is open (D11, D14).
pub const EPOCHS_KEPT: u64 = 18;
/// The most bytes of a stored opening.
const OPENING_BYTES_MAX: usize = 64 << 10;
const OPENING: u8 = 0;
const LOG: u8 = 1;
const TOP_UP: u8 = 2;
/// Epochs in which a seat's bond is added to at most once each, and within one allowance.
pub const TOP_UP_EPOCHS: u64 = 16;

/// A vector that is or will be committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    pub subnet: SubnetId,
    pub epoch: Epoch,
    pub opening: Opening,
}

/// The shelf.
#[derive(Clone, Debug)]
pub struct Shelf {
    kv: Arc<dyn Kv>,
}

fn key(subnet: SubnetId, epoch: Epoch, part: u8) -> Vec<u8> {
    [&subnet.0.to_be_bytes()[..], &epoch.to_be_bytes(), &[part]].concat()
}

impl Shelf {
    pub fn new(kv: Arc<dyn Kv>) -> Self {
        Self { kv }
    }

    /// Keeps an opening and its log, and forgets what is too old, in one durable write.
    ///
    /// # Errors
    /// The disk fails: then nothing may be committed.
    pub fn keep(&self, sealed: &Sealed, log: &ScoreLog) -> Result<(), StoreError> {
        let Sealed { subnet, epoch, .. } = *sealed;
        let mut batch = vec![
            Write::put(Table::Logs, key(subnet, epoch, OPENING), codec::encode(sealed)),
            Write::put(Table::Logs, key(subnet, epoch, LOG), log.encode()),
        ];
        let oldest = key(subnet, epoch.saturating_sub(EPOCHS_KEPT), OPENING);
        let from = key(subnet, 0, OPENING);
        let old = self.kv.range(Table::Logs, &from, 64)?;
        batch.extend(old.into_iter().filter(|(key, _)| *key < oldest).map(|(key, _)| Write::remove(Table::Logs, key)));
        self.kv.commit(&batch)
    }

    fn row(&self, subnet: SubnetId, epoch: Epoch, part: u8) -> Option<Vec<u8>> {
        self.kv
            .get(Table::Logs, &key(subnet, epoch, part))
            .inspect_err(|error| {
                tracing::warn!(%error, "the shelf cannot be read");
            })
            .ok()?
    }

    pub fn sealed(&self, subnet: SubnetId, epoch: Epoch) -> Option<Sealed> {
        codec::decode::<Sealed, OPENING_BYTES_MAX>(&self.row(subnet, epoch, OPENING)?).ok()
    }

    pub fn log(&self, subnet: SubnetId, epoch: Epoch) -> Option<ScoreLog> {
        ScoreLog::decode(&self.row(subnet, epoch, LOG)?).ok()
    }

    /// The newest log of an epoch before this one: what a board goes on from after a restart.
    pub fn last_before(&self, subnet: SubnetId, epoch: Epoch) -> Option<ScoreLog> {
        (epoch.saturating_sub(EPOCHS_KEPT)..epoch).rev().find_map(|epoch| self.log(subnet, epoch))
    }

    /// Keeps what is about to be added to a seat's bond in an epoch, in motes.
    ///
    /// # Errors
    /// The disk fails: then nothing may be added.
    pub fn keep_top_up(&self, subnet: SubnetId, epoch: Epoch, amount: u64) -> Result<(), StoreError> {
        self.kv.commit(&[Write::put(Table::Logs, key(subnet, epoch, TOP_UP), codec::encode(&amount))])
    }

    /// What was added to a seat's bond in an epoch, in motes.
    pub fn top_up(&self, subnet: SubnetId, epoch: Epoch) -> Option<u64> {
        codec::decode::<u64, 16>(&self.row(subnet, epoch, TOP_UP)?).ok()
    }

    /// What was added in this epoch and the fifteen before it, in motes.
    pub fn topped_up(&self, subnet: SubnetId, epoch: Epoch) -> u64 {
        let epochs = epoch.saturating_sub(TOP_UP_EPOCHS - 1)..=epoch;
        epochs.filter_map(|epoch| self.top_up(subnet, epoch)).fold(0, u64::saturating_add)
    }

    /// A piece of a log's bytes; `None` when it is not kept here or ends before the piece. The root must be named: nobody
    /// knows it before the reveal, and until then the log, which gives the row away, is nobody's.
    pub fn piece(&self, wish: &LogWish) -> Option<LogPiece> {
        self.sealed(wish.subnet, wish.epoch).filter(|sealed| sealed.opening.log_root == wish.root)?;
        let bytes = self.row(wish.subnet, wish.epoch, LOG).filter(|bytes| bytes.len() <= LOG_BYTES_MAX)?;
        let begin = usize::try_from(wish.piece).ok()?.checked_mul(LOG_PIECE_BYTES)?;
        let end = begin.saturating_add(LOG_PIECE_BYTES).min(bytes.len());
        let total = u32::try_from(bytes.len()).ok()?;
        Some(LogPiece { total, bytes: bytes.get(begin..end).filter(|piece| !piece.is_empty())?.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::commitment::Width;
    use crate::protocol::ids::{ChainId, Digest, MemberId};
    use crate::protocol::score_log::{Board, Entry, FULL_U16, Head, Rules};
    use crate::store::kv::MemoryKv;

    fn log(epoch: Epoch, entries: usize) -> ScoreLog {
        let rules =
            Rules { chance: 1, fresh: 32_768, deadline_ms: 2_000, samples: 32, full: FULL_U16, echoes_share: true };
        let zero = Digest::ZERO;
        let head = Head {
            chain: ChainId([1; 32]),
            subnet: SubnetId(1),
            epoch,
            validator: MemberId(0),
            scorer: zero,
            rules,
            before: zero,
            after: zero,
        };
        let entry = |n: usize| Entry::silent(zero, zero, MemberId(u32::try_from(n).unwrap()), zero);
        ScoreLog::new(head, (0..entries).map(entry).collect(), Board::default(), vec![])
    }

    fn sealed(epoch: Epoch, log: &ScoreLog) -> Sealed {
        let bare = Opening::bare(Width::Two, vec![(MemberId(1), 7)], [9; 32]);
        let opening = Opening { log_root: log.root(), log_len: log.leaf_count(), ..bare };
        Sealed { subnet: SubnetId(1), epoch, opening }
    }

    #[test]
    fn d11_logs_are_kept_for_sixteen_epochs_and_then_forgotten() {
        let shelf = Shelf::new(Arc::new(MemoryKv::new()));
        for epoch in 0..40 {
            let log = log(epoch, 2);
            shelf.keep(&sealed(epoch, &log), &log).unwrap();
        }
        assert_eq!(shelf.sealed(SubnetId(1), 39), Some(sealed(39, &log(39, 2))));
        assert_eq!(shelf.log(SubnetId(1), 39 - 16), Some(log(39 - 16, 2)));
        assert_eq!(shelf.log(SubnetId(1), 39 - 19), None);
        assert_eq!(shelf.sealed(SubnetId(1), 0), None);
        assert_eq!(shelf.last_before(SubnetId(1), 39), Some(log(38, 2)));
        assert_eq!(shelf.last_before(SubnetId(2), 39), None);
    }

    #[test]
    fn what_was_added_to_a_bond_is_remembered_for_sixteen_epochs() {
        let kv = Arc::new(MemoryKv::new());
        Shelf::new(kv.clone()).keep_top_up(SubnetId(1), 20, 7).unwrap();
        let shelf = Shelf::new(kv);
        shelf.keep_top_up(SubnetId(1), 22, 5).unwrap();
        assert_eq!((shelf.top_up(SubnetId(1), 20), shelf.top_up(SubnetId(1), 21)), (Some(7), None));
        let sums = [20, 22, 35, 36, 38].map(|epoch| shelf.topped_up(SubnetId(1), epoch));
        assert_eq!(sums, [7, 12, 12, 5, 0]);
        assert_eq!(shelf.topped_up(SubnetId(2), 22), 0);
    }

    #[test]
    fn a_log_leaves_in_pieces_that_join_to_its_bytes() {
        let shelf = Shelf::new(Arc::new(MemoryKv::new()));
        let log = log(3, 12_000);
        shelf.keep(&sealed(3, &log), &log).unwrap();
        let root = log.root();
        let wish = |piece| LogWish { subnet: SubnetId(1), epoch: 3, root, piece };
        let (mut bytes, mut total) = (Vec::new(), 0);
        for n in 0.. {
            let Some(piece) = shelf.piece(&wish(n)) else { break };
            assert!(piece.bytes.len() <= LOG_PIECE_BYTES);
            total = piece.total as usize;
            bytes.extend(piece.bytes);
        }
        assert!(total > LOG_PIECE_BYTES, "more than one piece: {total}");
        assert_eq!(bytes.len(), total);
        assert_eq!(ScoreLog::decode(&bytes).unwrap(), log);
        assert_eq!(shelf.piece(&LogWish { epoch: 4, ..wish(0) }), None);
        assert_eq!(shelf.piece(&wish(u32::MAX)), None);
        let guessed = LogWish { root: Digest([1; 32]), ..wish(0) };
        assert_eq!(shelf.piece(&guessed), None, "before the reveal nobody knows the root");
    }
}
