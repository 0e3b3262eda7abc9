//! Tables of bytes with atomic, durable commits (L32, L34).
//!
//! Owns the one database file of a node. A commit is all or nothing and on disk when it returns; readers see whole
//! commits only. Refuses to open a file that another process holds, and says so; every other failure is a typed error
//! too, because a full disk must stop a node in order, not in a panic. There are three stores behind one trait: redb on
//! disk, maps in memory, and one that fails when it is told to.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{Database, ReadableDatabase, TableDefinition};

/// The tables of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Rows of the ledger's state at the last final height.
    State,
    /// Height (big-endian) to header, body and certificate.
    Checkpoints,
    /// Header hash to height.
    Hashes,
    /// Transaction id to height, place and receipt.
    Transactions,
    /// Chain id, final height, layout version.
    Meta,
    /// Nodes that were met.
    Peers,
    /// What a validator sealed: subnet and epoch (big-endian) to openings and score logs.
    Logs,
    /// Height and number below it (big-endian) to a line of somebody's statement.
    Lines,
    /// Account, height and number (big-endian) of each of its lines; no value.
    Statements,
    /// Subnet and epoch (big-endian) to what the epoch was settled on.
    Settlements,
}

impl Table {
    pub const ALL: [Self; 10] = [
        Self::State,
        Self::Checkpoints,
        Self::Hashes,
        Self::Transactions,
        Self::Meta,
        Self::Peers,
        Self::Logs,
        Self::Lines,
        Self::Statements,
        Self::Settlements,
    ];

    fn definition(self) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
        TableDefinition::new(match self {
            Self::State => "state",
            Self::Checkpoints => "checkpoints",
            Self::Hashes => "hashes",
            Self::Transactions => "transactions",
            Self::Meta => "meta",
            Self::Peers => "peers",
            Self::Logs => "logs",
            Self::Lines => "lines",
            Self::Statements => "statements",
            Self::Settlements => "settlements",
        })
    }
}

/// One write: the value of a key, or none to remove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub table: Table,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

impl Write {
    pub fn put(table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self { table, key: key.into(), value: Some(value.into()) }
    }

    pub fn remove(table: Table, key: impl Into<Vec<u8>>) -> Self {
        Self { table, key: key.into(), value: None }
    }
}

/// A row as it is read.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Why a store could not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("the database {path} is in use by another process; stop it or choose another --data-dir")]
    Locked { path: String },
    #[error("the disk is full; free some space and start again, nothing that was final is lost")]
    DiskFull,
    #[error("the database is damaged: {0}")]
    Damaged(String),
    #[error("the database cannot be read or written: {0}")]
    Io(String),
}

/// A store of byte tables.
pub trait Kv: Send + Sync + std::fmt::Debug {
    /// Writes all of the batch durably, or nothing of it; later writes of a key win.
    ///
    /// # Errors
    /// Nothing of the batch counts; on a failure of the disk it is unknown only to the caller of a process that dies.
    fn commit(&self, batch: &[Write]) -> Result<(), StoreError>;

    /// # Errors
    /// The disk fails.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Rows from `from` on, in key order, at most `limit`.
    ///
    /// # Errors
    /// The disk fails.
    fn range(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError>;

    /// The row with the greatest key.
    ///
    /// # Errors
    /// The disk fails.
    fn last(&self, table: Table) -> Result<Option<Pair>, StoreError>;
}

/// redb: one file, copy-on-write, one writer, many readers.
#[derive(Debug)]
pub struct DiskKv {
    database: Database,
}

fn io_error(error: &std::io::Error) -> StoreError {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StoreError::DiskFull,
        _ => StoreError::Io(error.to_string()),
    }
}

fn redb_error(error: redb::Error) -> StoreError {
    match error {
        redb::Error::Io(e) => io_error(&e),
        redb::Error::Corrupted(what) => StoreError::Damaged(what),
        other => StoreError::Io(other.to_string()),
    }
}

impl DiskKv {
    /// Opens or creates the database file; its tables exist afterwards.
    ///
    /// # Errors
    /// Locked by another process, damaged, or not readable and writable.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Database::create(path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => StoreError::Locked { path: path.display().to_string() },
            other => redb_error(other.into()),
        })?;
        let store = Self { database };
        store.commit(&[])?;
        Ok(store)
    }

    fn write(&self, batch: &[Write]) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        // A killed node re-opens at once instead of scanning the file, and a torn commit can never be taken for whole.
        transaction.set_two_phase_commit(true);
        transaction.set_quick_repair(true);
        transaction.set_durability(redb::Durability::Immediate)?;
        for table in Table::ALL {
            let mut open = transaction.open_table(table.definition())?;
            for write in batch.iter().filter(|write| write.table == table) {
                match &write.value {
                    Some(value) => open.insert(write.key.as_slice(), value.as_slice())?,
                    None => open.remove(write.key.as_slice())?,
                };
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn read_range(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Pair>, redb::Error> {
        let open = self.database.begin_read()?.open_table(table.definition())?;
        let mut rows = Vec::new();
        for row in open.range::<&[u8]>((Bound::Included(from), Bound::Unbounded))?.take(limit) {
            let (key, value) = row?;
            rows.push((key.value().to_vec(), value.value().to_vec()));
        }
        Ok(rows)
    }

    fn read_last(&self, table: Table) -> Result<Option<Pair>, redb::Error> {
        use redb::ReadableTable;
        let open = self.database.begin_read()?.open_table(table.definition())?;
        let last = open.last()?;
        Ok(last.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())))
    }

    fn read(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, redb::Error> {
        let open = self.database.begin_read()?.open_table(table.definition())?;
        let found = open.get(key)?;
        Ok(found.map(|value| value.value().to_vec()))
    }
}

impl Kv for DiskKv {
    fn commit(&self, batch: &[Write]) -> Result<(), StoreError> {
        self.write(batch).map_err(redb_error)
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(table, key).map_err(redb_error)
    }

    fn range(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        self.read_range(table, from, limit).map_err(redb_error)
    }

    fn last(&self, table: Table) -> Result<Option<Pair>, StoreError> {
        self.read_last(table).map_err(redb_error)
    }
}

type Tables = BTreeMap<Table, BTreeMap<Vec<u8>, Vec<u8>>>;

/// A store in memory; clones share it, so that a restarted node in a world finds what it had.
#[derive(Clone, Debug, Default)]
pub struct MemoryKv {
    tables: Arc<Mutex<Tables>>,
}

impl MemoryKv {
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        // Nothing under this lock can panic half-way through a batch.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, batch: &[Write]) {
        let mut tables = self.lock();
        for write in batch {
            let table = tables.entry(write.table).or_default();
            match &write.value {
                Some(value) => table.insert(write.key.clone(), value.clone()),
                None => table.remove(&write.key),
            };
        }
    }
}

impl Kv for MemoryKv {
    fn commit(&self, batch: &[Write]) -> Result<(), StoreError> {
        self.apply(batch);
        Ok(())
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.lock().get(&table).and_then(|table| table.get(key).cloned()))
    }

    fn range(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        let tables = self.lock();
        let Some(table) = tables.get(&table) else { return Ok(Vec::new()) };
        let rows = table.range::<[u8], _>((Bound::Included(from), Bound::Unbounded));
        Ok(rows.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn last(&self, table: Table) -> Result<Option<Pair>, StoreError> {
        let tables = self.lock();
        Ok(tables.get(&table).and_then(|table| table.last_key_value()).map(|(k, v)| (k.clone(), v.clone())))
    }
}

/// How a commit goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The commit fails and nothing of it is kept; so does every later one.
    DiskFull,
    /// The commit reports success and is lost with all later ones when the node restarts: a disk that lies.
    Lost,
}

/// A memory store whose commits go wrong from a chosen one on.
#[derive(Debug)]
pub struct FaultyKv {
    /// What survives a restart.
    kept: MemoryKv,
    /// What the running node sees.
    seen: MemoryKv,
    state: Mutex<(u64, Option<(u64, Fault)>)>,
}

impl FaultyKv {
    /// A fresh run on `kept`: the commit with this number, counted from 0, and all after it go wrong.
    pub fn new(kept: &MemoryKv, fault: Option<(u64, Fault)>) -> Self {
        let seen = MemoryKv { tables: Arc::new(Mutex::new(kept.lock().clone())) };
        Self { kept: kept.clone(), seen, state: Mutex::new((0, fault)) }
    }

    /// Commits asked for so far.
    pub fn commits(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Kv for FaultyKv {
    fn commit(&self, batch: &[Write]) -> Result<(), StoreError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let number = state.0;
        state.0 = number.saturating_add(1);
        let fault = state.1.filter(|(from, _)| number >= *from).map(|(_, fault)| fault);
        if fault == Some(Fault::DiskFull) {
            return Err(StoreError::DiskFull);
        }
        self.seen.apply(batch);
        if fault.is_none() {
            self.kept.apply(batch);
        }
        Ok(())
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.seen.get(table, key)
    }

    fn range(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        self.seen.range(table, from, limit)
    }

    fn last(&self, table: Table) -> Result<Option<Pair>, StoreError> {
        self.seen.last(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An own place for one test; removed when the test is done.
    struct Place(std::path::PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("starling-kv-{}-{name}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self) -> std::path::PathBuf {
            self.0.join("store.redb")
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// What every store does alike.
    fn behaves(store: &dyn Kv) {
        assert_eq!(store.get(Table::State, b"a"), Ok(None));
        assert_eq!(store.last(Table::Checkpoints), Ok(None));
        let batch = [
            Write::put(Table::State, *b"a", *b"1"),
            Write::put(Table::State, *b"c", *b"3"),
            Write::put(Table::State, *b"b", *b"2"),
            Write::put(Table::State, *b"a", *b"later wins"),
            Write::put(Table::Meta, *b"a", *b"another table"),
        ];
        assert_eq!(store.commit(&batch), Ok(()));
        assert_eq!(store.get(Table::State, b"a"), Ok(Some(b"later wins".to_vec())));
        assert_eq!(store.get(Table::Meta, b"a"), Ok(Some(b"another table".to_vec())));
        let keys = |from: &[u8], limit| -> Vec<Vec<u8>> {
            store.range(Table::State, from, limit).unwrap().into_iter().map(|(key, _)| key).collect()
        };
        assert_eq!(keys(b"", 9), [b"a", b"b", b"c"]);
        assert_eq!((keys(b"b", 1), keys(b"bb", 9)), (vec![b"b".to_vec()], vec![b"c".to_vec()]));
        assert_eq!(store.last(Table::State), Ok(Some((b"c".to_vec(), b"3".to_vec()))));
        let batch = [Write::remove(Table::State, *b"b"), Write::remove(Table::State, *b"not there")];
        assert_eq!(store.commit(&batch), Ok(()));
        assert_eq!(keys(b"", 9), [b"a", b"c"]);
    }

    #[test]
    fn all_stores_behave_alike() {
        let place = Place::new("alike");
        behaves(&DiskKv::open(&place.file()).unwrap());
        behaves(&MemoryKv::new());
        behaves(&FaultyKv::new(&MemoryKv::new(), None));
    }

    #[test]
    fn what_was_committed_is_there_after_opening_again_and_one_process_holds_the_file() {
        let place = Place::new("again");
        let store = DiskKv::open(&place.file()).unwrap();
        store.commit(&[Write::put(Table::Peers, *b"k", *b"v")]).unwrap();
        let second = DiskKv::open(&place.file()).unwrap_err();
        assert!(matches!(second, StoreError::Locked { .. }), "{second:?}");
        drop(store);
        let store = DiskKv::open(&place.file()).unwrap();
        assert_eq!(store.get(Table::Peers, b"k"), Ok(Some(b"v".to_vec())));
    }

    #[test]
    fn a_file_that_is_no_database_is_a_typed_error() {
        let place = Place::new("damaged");
        std::fs::write(place.file(), vec![7; 8_192]).unwrap();
        assert!(matches!(DiskKv::open(&place.file()), Err(StoreError::Io(_) | StoreError::Damaged(_))));
        assert!(matches!(DiskKv::open(&place.0.join("no/such/folder")), Err(StoreError::Io(_))));
    }

    #[test]
    fn faults_come_when_told_and_only_kept_commits_survive() {
        let kept = MemoryKv::new();
        let put = |value: u8| [Write::put(Table::Meta, *b"k", [value])];
        let store = FaultyKv::new(&kept, Some((1, Fault::DiskFull)));
        assert_eq!(store.commit(&put(1)), Ok(()));
        assert_eq!(store.commit(&put(2)), Err(StoreError::DiskFull));
        assert_eq!((store.get(Table::Meta, b"k"), store.commits()), (Ok(Some(vec![1])), 2));
        let store = FaultyKv::new(&kept, Some((0, Fault::Lost)));
        assert_eq!(store.commit(&put(3)), Ok(()));
        assert_eq!(store.get(Table::Meta, b"k"), Ok(Some(vec![3])), "the running node believes it");
        let store = FaultyKv::new(&kept, None);
        assert_eq!(store.get(Table::Meta, b"k"), Ok(Some(vec![1])));
    }
}
