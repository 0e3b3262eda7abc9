//! The shelf: artifacts on disk, whole or in part, within a quota (N30, N31).
//!
//! A chunk is verified before it is written and again when it is read, so what leaves the shelf is always what its id says;
//! bytes that have rotted are given up and can be fetched again. A part is a file of the full length's places and a file
//! with one mark a chunk: after a crash a mark is a hint, and its chunk is hashed again before it counts, so neither a torn
//! chunk nor a lost mark does harm. Only whole, synced bytes get the name of a whole artifact. Refuses what does not fit
//! the quota after everything that is neither pinned nor wanted has gone, least recently used first.

mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use place::{Folder, Memory, Place};

use crate::protocol::artifact::{CHUNK_BYTES, ChunkError, ChunkList, LIST_BYTES_MAX, ListError};
use crate::protocol::ids::Digest;

/// A part is made durable after so many chunks: a crash costs at most these again.
const SYNC_CHUNKS: u32 = 64;
const WHOLE: &str = "art";
const PART: &str = "part";
const LIST: &str = "list";
const MARKS: &str = "have";
const PIN: &str = "pin";

/// Why the shelf did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    #[error("artifact {0} is not here")]
    Absent(Digest),
    #[error("{needed} bytes are needed; of {quota} there are {free} free or evictable")]
    Full { needed: u64, free: u64, quota: u64 },
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    #[error(transparent)]
    List(#[from] ListError),
    #[error("the artifact store: {0}")]
    Io(#[from] io::Error),
}

/// What there is of an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    pub id: Digest,
    pub bytes: u64,
    pub chunks: u32,
    /// Chunks that are here.
    pub have: u32,
    pub pinned: bool,
}

impl Holding {
    pub fn whole(&self) -> bool {
        self.have == self.chunks
    }
}

#[derive(Debug)]
struct Entry {
    list: Arc<ChunkList>,
    /// Of a part: what is missing.
    missing: BTreeSet<u32>,
    whole: bool,
    pinned: bool,
    /// When it was last wanted, counted in wants.
    used: u64,
    unsynced: u32,
}

#[derive(Debug, Default)]
struct Index {
    entries: BTreeMap<Digest, Entry>,
    /// Others' wish to keep: not evicted while it is in here.
    wanted: BTreeSet<Digest>,
    wants: u64,
}

impl Index {
    fn bytes(&self) -> u64 {
        self.entries.values().map(|entry| entry.list.length()).fold(0, u64::saturating_add)
    }

    fn touch(&mut self, id: &Digest) -> Option<&mut Entry> {
        self.wants += 1;
        let wants = self.wants;
        let entry = self.entries.get_mut(id)?;
        entry.used = wants;
        Some(entry)
    }
}

/// The shelf. Shared by reference; files are read and written outside its lock.
#[derive(Debug)]
pub struct Shelf {
    place: Box<dyn Place>,
    quota: u64,
    index: Mutex<Index>,
}

fn name(id: &Digest, kind: &str) -> String {
    format!("{id}.{kind}")
}

impl Shelf {
    /// Reads what is there. Parts wait until they are begun again; leftovers without a list are removed.
    ///
    /// # Errors
    /// The place cannot be read.
    pub fn open(place: Box<dyn Place>, quota: u64) -> Result<Self, ShelfError> {
        let files: BTreeMap<String, u64> = place.list()?.into_iter().collect();
        let mut index = Index::default();
        for (file, length) in &files {
            let Some((id, kind)) = file.split_once('.') else { continue };
            let Ok(id) = id.parse::<Digest>() else { continue };
            if kind != WHOLE && kind != PART {
                continue;
            }
            let list = Self::read_list(place.as_ref(), id, files.get(&name(&id, LIST)).copied());
            let usable = list.filter(|list| kind == PART || list.length() == *length);
            let Some(list) = usable else {
                tracing::warn!(artifact = %id, "an artifact without its chunk list was removed");
                place.remove(file)?;
                continue;
            };
            let whole = kind == WHOLE;
            let missing = if whole { BTreeSet::new() } else { (0..list.count()).collect() };
            let pinned = files.contains_key(&name(&id, PIN));
            let entry = Entry { list: Arc::new(list), missing, whole, pinned, used: 0, unsynced: 0 };
            // A whole one counts more than the part it came from.
            if whole || !index.entries.contains_key(&id) {
                index.entries.insert(id, entry);
            }
        }
        Ok(Self { place, quota, index: Mutex::new(index) })
    }

    fn read_list(place: &dyn Place, id: Digest, length: Option<u64>) -> Option<ChunkList> {
        let length = usize::try_from(length?).ok().filter(|length| *length <= LIST_BYTES_MAX)?;
        let bytes = place.read_at(&name(&id, LIST), 0, length).ok()?;
        ChunkList::decode(id, &bytes).ok()
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn quota(&self) -> u64 {
        self.quota
    }

    /// Bytes taken, parts by their full length.
    pub fn bytes(&self) -> u64 {
        self.lock().bytes()
    }

    /// Everything that is here, in part or whole.
    pub fn holdings(&self) -> Vec<Holding> {
        self.lock().entries.iter().map(|(id, entry)| holding(*id, entry)).collect()
    }

    pub fn holding(&self, id: &Digest) -> Option<Holding> {
        self.lock().entries.get(id).map(|entry| holding(*id, entry))
    }

    pub fn is_whole(&self, id: &Digest) -> bool {
        self.lock().entries.get(id).is_some_and(|entry| entry.whole)
    }

    /// The list of a whole artifact.
    pub fn list(&self, id: &Digest) -> Option<Arc<ChunkList>> {
        let mut index = self.lock();
        index.touch(id).filter(|entry| entry.whole).map(|entry| Arc::clone(&entry.list))
    }

    /// These are not evicted, whatever their age.
    pub fn want(&self, wanted: BTreeSet<Digest>) {
        self.lock().wanted = wanted;
    }

    /// Pinned artifacts stay until they are removed by hand.
    ///
    /// # Errors
    /// It is not here, or its pin cannot be written.
    pub fn pin(&self, id: &Digest) -> Result<(), ShelfError> {
        self.lock().entries.get_mut(id).ok_or(ShelfError::Absent(*id))?.pinned = true;
        let pin = name(id, PIN);
        self.place.write_at(&pin, 0, &[1])?;
        Ok(self.place.sync(&pin)?)
    }

    /// Makes room; whatever goes is named in the reply.
    fn reserve(&self, index: &mut Index, needed: u64) -> Result<Vec<Digest>, ShelfError> {
        let fixed = |id: &Digest, entry: &Entry, index: &Index| entry.pinned || index.wanted.contains(id);
        let kept: u64 = index.entries.iter().filter(|(id, e)| fixed(id, e, index)).map(|(_, e)| e.list.length()).sum();
        let free = self.quota.saturating_sub(kept);
        if needed > free {
            return Err(ShelfError::Full { needed, free, quota: self.quota });
        }
        let mut gone = Vec::new();
        while index.bytes().saturating_add(needed) > self.quota {
            let loose = index.entries.iter().filter(|(id, entry)| !fixed(id, entry, index));
            let Some(oldest) = loose.min_by_key(|(_, entry)| entry.used).map(|(id, _)| *id) else { break };
            index.entries.remove(&oldest);
            gone.push(oldest);
        }
        Ok(gone)
    }

    fn clear(&self, ids: &[Digest]) {
        for id in ids {
            for kind in [WHOLE, PART, MARKS, PIN, LIST] {
                // What is not there is gone already.
                let _gone = self.place.remove(&name(id, kind));
            }
        }
    }

    /// Begins an artifact or goes on with it: what is missing. Chunks that an earlier run has marked are hashed again.
    ///
    /// # Errors
    /// No room, or the store fails.
    pub fn begin(&self, list: &ChunkList) -> Result<BTreeSet<u32>, ShelfError> {
        let id = list.id();
        let mut gone = Vec::new();
        {
            let mut index = self.lock();
            match index.touch(&id) {
                Some(entry) if entry.whole => return Ok(BTreeSet::new()),
                Some(_) => {}
                None => {
                    gone = self.reserve(&mut index, list.length())?;
                    let missing = (0..list.count()).collect();
                    let used = index.wants;
                    let list = Arc::new(list.clone());
                    index.entries.insert(id, Entry { list, missing, whole: false, pinned: false, used, unsynced: 0 });
                }
            }
        }
        self.clear(&gone);
        let begun = self.prepare(list);
        if begun.is_err() {
            self.lock().entries.remove(&id);
        }
        begun
    }

    fn prepare(&self, list: &ChunkList) -> Result<BTreeSet<u32>, ShelfError> {
        let id = list.id();
        let (list_name, part, marks) = (name(&id, LIST), name(&id, PART), name(&id, MARKS));
        self.place.write_at(&list_name, 0, &list.encode())?;
        self.place.sync(&list_name)?;
        let count = usize::try_from(list.count()).unwrap_or(usize::MAX);
        let marked = self.place.read_at(&marks, 0, count).unwrap_or_default();
        let mut missing: BTreeSet<u32> = (0..list.count()).collect();
        for index in (0..list.count()).zip(&marked).filter(|(_, mark)| **mark == 1).map(|(index, _)| index) {
            let Some((start, length)) = list.place(index) else { continue };
            let bytes = self.place.read_at(&part, start, length);
            if bytes.is_ok_and(|bytes| list.verify(index, &bytes).is_ok()) {
                missing.remove(&index);
            }
        }
        // The part is there from now on, also while it is empty.
        self.place.write_at(&part, 0, &[])?;
        if let Some(entry) = self.lock().entries.get_mut(&id) {
            entry.missing.clone_from(&missing);
        }
        if missing.is_empty() {
            self.complete(&id)?;
        }
        Ok(missing)
    }

    /// Verifies a chunk and keeps it; how many are missing still. At 0 the artifact is whole, durable and named so.
    ///
    /// # Errors
    /// The chunk is wrong, the artifact was not begun, or the store fails.
    pub fn write(&self, id: &Digest, index: u32, bytes: &[u8]) -> Result<u32, ShelfError> {
        let list = {
            let shelf = self.lock();
            let entry = shelf.entries.get(id).ok_or(ShelfError::Absent(*id))?;
            if entry.whole {
                return Ok(0);
            }
            Arc::clone(&entry.list)
        };
        list.verify(index, bytes)?;
        let (start, _) = list.place(index).unwrap_or_default();
        self.place.write_at(&name(id, PART), start, bytes)?;
        self.place.write_at(&name(id, MARKS), index.into(), &[1])?;
        let (left, sync) = {
            let mut shelf = self.lock();
            let entry = shelf.entries.get_mut(id).ok_or(ShelfError::Absent(*id))?;
            // Of two that bring the last chunk, one completes.
            let new = entry.missing.remove(&index);
            entry.unsynced += 1;
            let left = u32::try_from(entry.missing.len()).unwrap_or(u32::MAX);
            let sync = entry.unsynced >= SYNC_CHUNKS && left > 0;
            if sync {
                entry.unsynced = 0;
            }
            (if new || left > 0 { left } else { return Ok(0) }, sync)
        };
        if sync {
            self.place.sync(&name(id, PART))?;
            self.place.sync(&name(id, MARKS))?;
        }
        if left == 0 {
            self.complete(id)?;
        }
        Ok(left)
    }

    fn complete(&self, id: &Digest) -> Result<(), ShelfError> {
        let part = name(id, PART);
        self.place.sync(&part)?;
        self.place.rename(&part, &name(id, WHOLE))?;
        let _gone = self.place.remove(&name(id, MARKS));
        if let Some(entry) = self.lock().entries.get_mut(id) {
            entry.whole = true;
        }
        Ok(())
    }

    /// Takes in bytes of our own; their list.
    ///
    /// # Errors
    /// No room, no bytes, or the store fails.
    pub fn put(&self, bytes: &[u8]) -> Result<Arc<ChunkList>, ShelfError> {
        let list = ChunkList::of(bytes)?;
        for index in self.begin(&list)? {
            let Some((start, length)) = list.place(index) else { continue };
            let start = usize::try_from(start).unwrap_or(usize::MAX);
            let chunk = bytes.get(start..start.saturating_add(length)).unwrap_or_default();
            self.write(&list.id(), index, chunk)?;
        }
        Ok(Arc::new(list))
    }

    /// A chunk of a whole artifact, verified. When it has rotted, the artifact is given up and named in the log.
    ///
    /// # Errors
    /// It is not here, there is no such chunk, or the store fails.
    pub fn read(&self, id: &Digest, index: u32) -> Result<Vec<u8>, ShelfError> {
        let list = self.list(id).ok_or(ShelfError::Absent(*id))?;
        let beyond = ChunkError::Beyond { index, count: list.count() };
        let (start, length) = list.place(index).ok_or(beyond)?;
        let read = self.place.read_at(&name(id, WHOLE), start, length);
        let held = read.map_err(ShelfError::Io).and_then(|bytes| {
            list.verify(index, &bytes)?;
            Ok(bytes)
        });
        if let Err(error) = &held {
            tracing::error!(artifact = %id, %error, "an artifact is damaged and was given up");
            metrics::counter!("starling_artifact_damaged_total").increment(1);
            self.remove(id);
        }
        held
    }

    /// All bytes of a whole artifact, at most `max`.
    ///
    /// # Errors
    /// Not here, larger, or the store fails.
    pub fn read_whole(&self, id: &Digest, max: usize) -> Result<Vec<u8>, ShelfError> {
        let list = self.list(id).ok_or(ShelfError::Absent(*id))?;
        let length = usize::try_from(list.length()).unwrap_or(usize::MAX);
        if length > max {
            let (needed, free) = (list.length(), max as u64);
            return Err(ShelfError::Full { needed, free, quota: free });
        }
        let mut bytes = Vec::with_capacity(length);
        for index in 0..list.count() {
            self.read(id, index)?.as_slice().take(CHUNK_BYTES as u64).read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    }

    /// Takes an artifact from the shelf, pinned or not; whether it was there.
    pub fn remove(&self, id: &Digest) -> bool {
        let was = self.lock().entries.remove(id).is_some();
        if was {
            self.clear(&[*id]);
        }
        was
    }
}

fn holding(id: Digest, entry: &Entry) -> Holding {
    let chunks = entry.list.count();
    let missing = u32::try_from(entry.missing.len()).unwrap_or(u32::MAX);
    let have = if entry.whole { chunks } else { chunks.saturating_sub(missing).min(chunks.saturating_sub(1)) };
    Holding { id, bytes: entry.list.length(), chunks, have, pinned: entry.pinned }
}

#[cfg(test)]
mod tests;
