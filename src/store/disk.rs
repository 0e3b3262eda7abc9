//! A folder of append-only files as the journal sees it: the real one, and one in memory that crashes like a real one.
//!
//! The double loses what was not synced: unsynced bytes survive a crash up to a random point, the last of them possibly
//! torn; a file whose folder was not synced may be gone. It fails on demand, as a full or dying disk does.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::protocol::chance::Chance;

/// What the journal needs of a folder. Names are plain file names.
pub trait Disk {
    /// The names of all files, in any order.
    ///
    /// # Errors
    /// The folder cannot be read.
    fn list(&self) -> io::Result<Vec<String>>;
    /// A whole file.
    ///
    /// # Errors
    /// The file cannot be read.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// A new, empty file.
    ///
    /// # Errors
    /// It exists or cannot be made.
    fn create(&mut self, name: &str) -> io::Result<()>;
    /// Bytes at the end of a file.
    ///
    /// # Errors
    /// They cannot be written whole.
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Cuts a file to a length.
    ///
    /// # Errors
    /// It cannot be cut.
    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()>;
    /// Makes the contents of a file durable.
    ///
    /// # Errors
    /// They may not be durable, and nothing is known about what is.
    fn sync(&mut self, name: &str) -> io::Result<()>;
    /// Makes the existence of files durable.
    ///
    /// # Errors
    /// It may not be durable.
    fn sync_folder(&mut self) -> io::Result<()>;
    /// Deletes a file.
    ///
    /// # Errors
    /// It cannot be deleted.
    fn remove(&mut self, name: &str) -> io::Result<()>;
}

/// A real folder, locked for this process alone (C39).
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    open: BTreeMap<String, File>,
    _lock: File,
}

impl Folder {
    /// Makes the folder if there is none, and takes its lock.
    ///
    /// # Errors
    /// It cannot be made or read, or another process holds the lock.
    pub fn open(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join("lock"))?;
        lock.try_lock().map_err(|_| {
            io::Error::new(io::ErrorKind::WouldBlock, format!("{} is in use by another process", path.display()))
        })?;
        Ok(Self { path: path.to_owned(), open: BTreeMap::new(), _lock: lock })
    }

    fn file(&mut self, name: &str) -> io::Result<&mut File> {
        match self.open.entry(name.to_owned()) {
            std::collections::btree_map::Entry::Occupied(held) => Ok(held.into_mut()),
            std::collections::btree_map::Entry::Vacant(place) => {
                let file = OpenOptions::new().append(true).open(self.path.join(name))?;
                Ok(place.insert(file))
            }
        }
    }
}

impl Disk for Folder {
    fn list(&self) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(&self.path)?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.path.join(name))?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        let file = OpenOptions::new().create_new(true).append(true).open(self.path.join(name))?;
        self.open.insert(name.to_owned(), file);
        Ok(())
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.file(name)?.write_all(bytes)
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        self.file(name)?.set_len(length)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.file(name)?.sync_data()
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.open.remove(name);
        std::fs::remove_file(self.path.join(name))
    }
}

#[derive(Clone, Debug, Default)]
struct Held {
    bytes: Vec<u8>,
    synced: usize,
    /// The folder was synced since the file was made.
    named: bool,
}

#[derive(Debug, Default)]
struct Contents {
    files: BTreeMap<String, Held>,
    syncs: u64,
    fail_after_syncs: Option<u64>,
}

/// A folder in memory; clones share it, so that a world keeps the disk while its node is down.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    contents: Arc<Mutex<Contents>>,
}

impl MemoryDisk {
    pub fn new() -> Self {
        Self::default()
    }

    fn with<T>(&self, act: impl FnOnce(&mut Contents) -> T) -> T {
        act(&mut self.contents.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The power fails: unsynced bytes survive to a random point, the last perhaps torn; unnamed files may be gone.
    pub fn crash(&self, chance: &mut Chance) {
        self.with(|contents| {
            contents.files.retain(|_, file| file.named || chance.one_in(1, 2));
            for file in contents.files.values_mut() {
                let unsynced = file.bytes.len().saturating_sub(file.synced);
                let kept = chance.index(unsynced + 1);
                file.bytes.truncate(file.synced + kept);
                if kept > 0
                    && chance.one_in(1, 3)
                    && let Some(last) = file.bytes.last_mut()
                {
                    *last ^= 0x5A;
                }
                file.synced = file.bytes.len();
                file.named = true;
            }
        });
    }

    /// From the given number of further syncs on, every sync and write fails; `None` heals.
    pub fn fail_after(&self, syncs: Option<u64>) {
        self.with(|contents| contents.fail_after_syncs = syncs.map(|more| contents.syncs + more));
    }

    /// How often anything was synced.
    pub fn syncs(&self) -> u64 {
        self.with(|contents| contents.syncs)
    }

    /// Flips a bit, as a failing medium does.
    pub fn flip(&self, name: &str, at: usize) {
        self.with(|contents| {
            if let Some(byte) = contents.files.get_mut(name).and_then(|file| file.bytes.get_mut(at)) {
                *byte ^= 1;
            }
        });
    }

    fn healthy(contents: &Contents) -> io::Result<()> {
        match contents.fail_after_syncs {
            Some(limit) if contents.syncs >= limit => Err(io::Error::other("the disk fails, as it was told to")),
            _ => Ok(()),
        }
    }
}

fn missing(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, name.to_owned())
}

impl Disk for MemoryDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.with(|contents| contents.files.keys().cloned().collect()))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.with(|contents| contents.files.get(name).map(|file| file.bytes.clone()).ok_or_else(|| missing(name)))
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        self.with(|contents| {
            Self::healthy(contents)?;
            match contents.files.insert(name.to_owned(), Held::default()) {
                None => Ok(()),
                Some(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, name.to_owned())),
            }
        })
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.with(|contents| {
            Self::healthy(contents)?;
            contents.files.get_mut(name).ok_or_else(|| missing(name))?.bytes.extend_from_slice(bytes);
            Ok(())
        })
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        self.with(|contents| {
            Self::healthy(contents)?;
            let file = contents.files.get_mut(name).ok_or_else(|| missing(name))?;
            file.bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
            file.synced = file.synced.min(file.bytes.len());
            Ok(())
        })
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.with(|contents| {
            Self::healthy(contents)?;
            contents.syncs += 1;
            let file = contents.files.get_mut(name).ok_or_else(|| missing(name))?;
            file.synced = file.bytes.len();
            Ok(())
        })
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        self.with(|contents| {
            Self::healthy(contents)?;
            contents.files.values_mut().for_each(|file| file.named = true);
            Ok(())
        })
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.with(|contents| contents.files.remove(name).map(|_| ()).ok_or_else(|| missing(name)))
    }
}
