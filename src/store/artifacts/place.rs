//! A folder of files that are written anywhere in: the real one, and one in memory that crashes like a real one.
//!
//! The double loses what was not synced: each unsynced write survives a crash, or not, or only in its first part. It stops
//! on demand before any write, which is how a kill at every place is tried.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::protocol::chance::Chance;

/// What the shelf needs of a folder. Names are plain file names.
pub trait Place: Send + Sync + std::fmt::Debug {
    /// Names and lengths of all files.
    ///
    /// # Errors
    /// The folder cannot be read.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// Exactly `length` bytes; of a file that ends before, what there is.
    ///
    /// # Errors
    /// The file is missing or cannot be read.
    fn read_at(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>>;
    /// Bytes at a place; makes the file when it is missing.
    ///
    /// # Errors
    /// They cannot be written whole.
    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes contents and existence of a file durable.
    ///
    /// # Errors
    /// They may not be durable.
    fn sync(&self, name: &str) -> io::Result<()>;
    /// Gives a file another name, durably; one of that name is replaced.
    ///
    /// # Errors
    /// It keeps its name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Deletes a file.
    ///
    /// # Errors
    /// It cannot be deleted.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// A real folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes the folder if there is none.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        Ok(Self { path: path.to_owned() })
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

impl Place for Folder {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let entry = |entry: io::Result<std::fs::DirEntry>| {
            let entry = entry?;
            Ok((entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.len()))
        };
        std::fs::read_dir(&self.path)?.map(entry).collect()
    }

    fn read_at(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut file = File::open(self.path.join(name))?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::with_capacity(length);
        file.take(length as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(self.path.join(name))?;
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(bytes)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        OpenOptions::new().write(true).open(self.path.join(name))?.sync_all()?;
        self.sync_folder()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))?;
        self.sync_folder()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }
}

#[derive(Debug, Default)]
struct Held {
    /// What survives a crash.
    durable: Vec<u8>,
    unsynced: Vec<(u64, Vec<u8>)>,
    named: bool,
}

impl Held {
    fn now(&self) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        self.unsynced.iter().for_each(|(at, more)| lay(&mut bytes, *at, more));
        bytes
    }
}

fn lay(bytes: &mut Vec<u8>, at: u64, more: &[u8]) {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    let end = at.saturating_add(more.len());
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    if let Some(place) = bytes.get_mut(at..end) {
        place.copy_from_slice(more);
    }
}

#[derive(Debug, Default)]
struct Contents {
    files: BTreeMap<String, Held>,
    writes: u64,
    stop_at: Option<u64>,
}

/// A folder in memory; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    contents: Arc<Mutex<Contents>>,
}

impl Memory {
    fn with<T>(&self, act: impl FnOnce(&mut Contents) -> T) -> T {
        act(&mut self.contents.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, act: impl FnOnce(&mut Contents) -> io::Result<T>) -> io::Result<T> {
        self.with(|contents| {
            if contents.stop_at.is_some_and(|stop| contents.writes >= stop) {
                return Err(io::Error::other("the process was killed, as it was told to"));
            }
            contents.writes += 1;
            act(contents)
        })
    }

    /// After this many more writes, syncs and renames nothing happens any more; `None` heals.
    pub fn stop_after(&self, writes: Option<u64>) {
        self.with(|contents| contents.stop_at = writes.map(|more| contents.writes + more));
    }

    /// How much was ever written, synced and renamed.
    pub fn writes(&self) -> u64 {
        self.with(|contents| contents.writes)
    }

    /// The power fails: every unsynced write survives, or not, or only its beginning; unnamed files may be gone.
    pub fn crash(&self, chance: &mut Chance) {
        self.with(|contents| {
            contents.files.retain(|_, held| held.named || chance.one_in(1, 2));
            for held in contents.files.values_mut() {
                for (at, mut bytes) in std::mem::take(&mut held.unsynced) {
                    match chance.index(3) {
                        0 => continue,
                        1 => bytes.truncate(chance.index(bytes.len() + 1)),
                        _ => {}
                    }
                    lay(&mut held.durable, at, &bytes);
                }
                held.named = true;
            }
        });
    }

    /// Flips a bit, as a failing medium does.
    pub fn flip(&self, name: &str, at: usize) {
        self.with(|contents| {
            if let Some(byte) = contents.files.get_mut(name).and_then(|held| held.durable.get_mut(at)) {
                *byte ^= 1;
            }
        });
    }
}

fn missing(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, name.to_owned())
}

impl Place for Memory {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let length = |held: &Held| held.now().len() as u64;
        Ok(self.with(|contents| contents.files.iter().map(|(name, held)| (name.clone(), length(held))).collect()))
    }

    fn read_at(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let bytes = self.with(|contents| contents.files.get(name).map(Held::now)).ok_or_else(|| missing(name))?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let end = start.saturating_add(length).min(bytes.len());
        Ok(bytes.get(start..end).unwrap_or_default().to_vec())
    }

    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write(|contents| {
            contents.files.entry(name.to_owned()).or_default().unsynced.push((offset, bytes.to_vec()));
            Ok(())
        })
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.write(|contents| {
            let held = contents.files.get_mut(name).ok_or_else(|| missing(name))?;
            held.durable = held.now();
            held.unsynced.clear();
            held.named = true;
            Ok(())
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.write(|contents| {
            let held = contents.files.remove(from).ok_or_else(|| missing(from))?;
            contents.files.insert(to.to_owned(), held);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.write(|contents| contents.files.remove(name).map(|_| ()).ok_or_else(|| missing(name)))
    }
}
