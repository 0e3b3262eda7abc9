//! The journal: records appended, synced once per step, replayed after a crash (C36, C38, C39).
//!
//! Segment files `journal-<n>` of a head (magic, instance, checksum) and records `{len, crc32c, mark, payload}`. The
//! checksum covers the instance, mark and payload, so bytes of another journal never pass for ours. What a crash tore is
//! at the very end and is cut off; a bad record with a good one after it was damaged later, and then nothing is trusted:
//! the caller must not vote. A mark is a number the caller later names to say that all up to it may go; whole segments
//! go when none of their records has a higher mark.
//!
//! Any failure to write or sync is final: what is on the disk is unknown then, so every later call fails too (C39).

use std::io;

use super::disk::Disk;

const MAGIC: &[u8; 8] = b"STARJNL1";
const HEAD_BYTES: usize = 8 + 32 + 4;
const FRAME_BYTES: usize = 4 + 4 + 8;
/// A segment is closed once it is this long.
const SEGMENT_BYTES: u64 = 8 << 20;
/// The longest payload: a candidate with a full body, and room.
pub const PAYLOAD_BYTES_MAX: usize = 4 << 20;

/// Names a journal, and beside the key that signs what it records: neither is used without the other.
pub type Instance = [u8; 32];

/// Why there is no journal to work with.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("there is no journal here")]
    Missing,
    #[error("there is a journal here already")]
    Exists,
    #[error("the journal belongs to another instance of the key")]
    OtherInstance,
    #[error("{segment} is damaged at byte {offset}; records after it are whole, so this is no torn write")]
    Damaged { segment: String, offset: usize },
    #[error("{segment} is not there, but later segments are")]
    Gap { segment: String },
    #[error("a record of {length} bytes, at most {PAYLOAD_BYTES_MAX} are allowed")]
    TooLong { length: usize },
    #[error("the journal failed before; nothing is known about what is on the disk")]
    Failed,
    #[error("the journal's disk: {0}")]
    Disk(#[from] io::Error),
}

#[derive(Clone, Debug)]
struct Segment {
    number: u64,
    length: u64,
    highest_mark: u64,
}

impl Segment {
    fn name(&self) -> String {
        name(self.number)
    }
}

fn name(number: u64) -> String {
    format!("journal-{number:016x}")
}

/// An open journal.
#[derive(Debug)]
pub struct Journal<D> {
    disk: D,
    instance: Instance,
    /// Ascending; the last is written to.
    segments: Vec<Segment>,
    unsynced: bool,
    failed: bool,
    segment_bytes: u64,
}

/// A journal and what it holds: payloads in the order they were appended.
pub type Opened<D> = (Journal<D>, Vec<Vec<u8>>);

impl<D: Disk> Journal<D> {
    /// Starts an empty journal.
    ///
    /// # Errors
    /// There is one already, or the disk fails.
    pub fn create(disk: D, instance: Instance) -> Result<Self, JournalError> {
        let mut journal =
            Self { disk, instance, segments: Vec::new(), unsynced: false, failed: false, segment_bytes: SEGMENT_BYTES };
        if !numbers(&journal.disk)?.is_empty() {
            return Err(JournalError::Exists);
        }
        journal.begin_segment(1)?;
        Ok(journal)
    }

    /// Opens a journal, cuts what a crash tore off, and gives back what it holds.
    ///
    /// # Errors
    /// None here, another instance's, damaged in the middle, or the disk fails. In all but the last case the key must
    /// not vote with a new journal (C40).
    pub fn open(mut disk: D, instance: Instance) -> Result<Opened<D>, JournalError> {
        let found = numbers(&disk)?;
        let (mut segments, mut payloads, mut cut) = (Vec::new(), Vec::new(), None);
        for (at, number) in found.iter().copied().enumerate() {
            let last = at + 1 == found.len();
            if found.get(at + 1).is_some_and(|next| *next != number + 1) {
                return Err(JournalError::Gap { segment: name(number + 1) });
            }
            let (segment, bytes) = (name(number), disk.read(&name(number))?);
            match head_of(&bytes) {
                Some(found) if found == instance => {}
                Some(_) => return Err(JournalError::OtherInstance),
                None if last && bytes.len() <= HEAD_BYTES && at > 0 => {
                    // The crash came while the segment was begun: nothing was ever written to it.
                    disk.remove(&segment)?;
                    continue;
                }
                None => return Err(JournalError::Damaged { segment, offset: 0 }),
            }
            let (mut offset, mut highest_mark) = (HEAD_BYTES, 0);
            while let Some((mark, payload, end)) = record_at(&bytes, offset, &instance) {
                payloads.push(payload.to_vec());
                highest_mark = mark.max(highest_mark);
                offset = end;
            }
            if offset < bytes.len() {
                let whole_follows = (offset + 1..bytes.len()).any(|at| record_at(&bytes, at, &instance).is_some());
                if !last || whole_follows {
                    return Err(JournalError::Damaged { segment, offset });
                }
                cut = Some((segment, offset as u64));
            }
            segments.push(Segment { number, length: offset as u64, highest_mark });
        }
        if segments.is_empty() {
            return Err(JournalError::Missing);
        }
        if let Some((segment, length)) = cut {
            disk.truncate(&segment, length)?;
            disk.sync(&segment)?;
        }
        disk.sync_folder()?;
        let journal = Self { disk, instance, segments, unsynced: false, failed: false, segment_bytes: SEGMENT_BYTES };
        Ok((journal, payloads))
    }

    /// Appends a record; durable after the next `sync`.
    ///
    /// # Errors
    /// The payload is too long, or the disk fails, which is final.
    pub fn append(&mut self, mark: u64, payload: &[u8]) -> Result<(), JournalError> {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(JournalError::TooLong { length: payload.len() });
        }
        self.guarded(|journal| {
            if journal.segments.last().is_none_or(|segment| segment.length >= journal.segment_bytes) {
                let next = journal.segments.last().map_or(1, |segment| segment.number + 1);
                journal.sync_open()?;
                journal.begin_segment(next)?;
            }
            let record = frame(mark, payload, &journal.instance);
            if let Some(segment) = journal.segments.last_mut() {
                journal.disk.append(&segment.name(), &record)?;
                segment.length += record.len() as u64;
                segment.highest_mark = segment.highest_mark.max(mark);
                journal.unsynced = true;
            }
            Ok(())
        })
    }

    /// Makes everything appended durable: one sync, none if nothing was appended.
    ///
    /// # Errors
    /// The disk fails, which is final: nothing that rests on these records may be sent.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        self.guarded(Self::sync_open)
    }

    /// Deletes the segments whose records all have a mark of at most this; the open one stays.
    ///
    /// # Errors
    /// The disk fails, which is final.
    pub fn drop_through(&mut self, mark: u64) -> Result<(), JournalError> {
        self.guarded(|journal| {
            let open = journal.segments.last().map(|segment| segment.number);
            let (gone, kept) = std::mem::take(&mut journal.segments)
                .into_iter()
                .partition(|segment| segment.highest_mark <= mark && Some(segment.number) != open);
            journal.segments = kept;
            let gone: Vec<Segment> = gone;
            for segment in &gone {
                journal.disk.remove(&segment.name())?;
            }
            if gone.is_empty() { Ok(()) } else { Ok(journal.disk.sync_folder()?) }
        })
    }

    /// Bytes on the disk.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.length).sum()
    }

    /// Closes segments at another length than usual.
    #[must_use]
    pub fn with_segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    fn guarded<T>(&mut self, act: impl FnOnce(&mut Self) -> Result<T, JournalError>) -> Result<T, JournalError> {
        if self.failed {
            return Err(JournalError::Failed);
        }
        let result = act(self);
        self.failed = result.is_err();
        result
    }

    fn sync_open(&mut self) -> Result<(), JournalError> {
        if let Some(segment) = self.segments.last().filter(|_| self.unsynced) {
            self.disk.sync(&segment.name())?;
            self.unsynced = false;
        }
        Ok(())
    }

    fn begin_segment(&mut self, number: u64) -> Result<(), JournalError> {
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&self.instance);
        head.extend_from_slice(&crc32c::crc32c(&head).to_le_bytes());
        let name = name(number);
        self.disk.create(&name)?;
        self.disk.append(&name, &head)?;
        self.disk.sync(&name)?;
        self.disk.sync_folder()?;
        self.segments.push(Segment { number, length: HEAD_BYTES as u64, highest_mark: 0 });
        Ok(())
    }
}

fn numbers(disk: &impl Disk) -> Result<Vec<u64>, JournalError> {
    let names = disk.list()?;
    let mut found: Vec<u64> = names
        .iter()
        .filter_map(|name| name.strip_prefix("journal-"))
        .filter_map(|number| u64::from_str_radix(number, 16).ok())
        .collect();
    found.sort_unstable();
    Ok(found)
}

fn head_of(bytes: &[u8]) -> Option<Instance> {
    let (head, crc) = bytes.get(..HEAD_BYTES)?.split_last_chunk::<4>()?;
    let instance = head.strip_prefix(MAGIC)?;
    (crc32c::crc32c(head) == u32::from_le_bytes(*crc)).then(|| instance.try_into().ok())?
}

fn checksum(mark: u64, payload: &[u8], instance: &Instance) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(instance), &mark.to_le_bytes()), payload)
}

fn frame(mark: u64, payload: &[u8], instance: &Instance) -> Vec<u8> {
    let mut record = Vec::with_capacity(FRAME_BYTES + payload.len());
    record.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    record.extend_from_slice(&checksum(mark, payload, instance).to_le_bytes());
    record.extend_from_slice(&mark.to_le_bytes());
    record.extend_from_slice(payload);
    record
}

/// The whole, good record at an offset: mark, payload, and where the next begins.
fn record_at<'a>(bytes: &'a [u8], offset: usize, instance: &Instance) -> Option<(u64, &'a [u8], usize)> {
    let (length, rest) = bytes.get(offset..)?.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let (mark, rest) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok().filter(|length| *length <= PAYLOAD_BYTES_MAX)?;
    let (payload, mark) = (rest.get(..length)?, u64::from_le_bytes(*mark));
    let good = checksum(mark, payload, instance) == u32::from_le_bytes(*crc);
    good.then_some((mark, payload, offset + FRAME_BYTES + length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::chance::Chance;
    use crate::store::disk::{Folder, MemoryDisk};

    const OURS: Instance = [7; 32];

    fn written(disk: &MemoryDisk, count: u64) -> Journal<MemoryDisk> {
        let mut journal = Journal::create(disk.clone(), OURS).unwrap().with_segment_bytes(400);
        for i in 0..count {
            journal.append(i, &payload(i)).unwrap();
            journal.sync().unwrap();
        }
        journal
    }

    fn payload(i: u64) -> Vec<u8> {
        vec![u8::try_from(i % 251).unwrap(); 20 + usize::try_from(i % 7).unwrap()]
    }

    fn reopened(disk: &MemoryDisk) -> Result<Vec<Vec<u8>>, JournalError> {
        Journal::open(disk.clone(), OURS).map(|(_, payloads)| payloads)
    }

    #[test]
    fn what_was_synced_is_there_after_any_crash_and_what_was_not_is_a_prefix() {
        for seed in 0..300 {
            let mut chance = Chance::from_seed([u8::try_from(seed % 256).unwrap(); 32]);
            let disk = MemoryDisk::new();
            let synced = chance.below(30);
            let mut journal = written(&disk, synced);
            let extra = chance.below(6);
            for i in synced..synced + extra {
                journal.append(i, &payload(i)).unwrap();
            }
            drop(journal);
            disk.crash(&mut chance);
            let found = reopened(&disk).unwrap();
            assert!((synced..=synced + extra).contains(&(found.len() as u64)), "seed {seed}");
            assert!((0..).zip(&found).all(|(i, bytes)| *bytes == payload(i)), "seed {seed}");
            let (mut journal, _) = Journal::open(disk.clone(), OURS).unwrap();
            journal.append(99, b"after").unwrap();
            journal.sync().unwrap();
            assert_eq!(reopened(&disk).unwrap().last().unwrap(), b"after", "seed {seed}");
        }
    }

    #[test]
    fn damage_in_the_middle_is_refused_wherever_it_is() {
        let disk = MemoryDisk::new();
        written(&disk, 8);
        let name = name(1);
        let length = disk.read(&name).unwrap().len();
        let last = FRAME_BYTES + payload(7).len();
        for at in 0..length - last {
            disk.flip(&name, at);
            let found = reopened(&disk);
            assert!(matches!(found, Err(JournalError::Damaged { .. })), "byte {at}: {found:?}");
            disk.flip(&name, at);
        }
        assert_eq!(reopened(&disk).unwrap().len(), 8);
        disk.flip(&name, length - 1);
        assert_eq!(reopened(&disk).unwrap().len(), 7, "the tail is cut");
    }

    #[test]
    fn one_sync_per_step_and_segments_go_when_nothing_in_them_is_needed() {
        let disk = MemoryDisk::new();
        let mut journal = Journal::create(disk.clone(), OURS).unwrap().with_segment_bytes(400);
        let before = disk.syncs();
        for i in 0..5 {
            journal.append(i, &payload(i)).unwrap();
        }
        journal.sync().unwrap();
        journal.sync().unwrap();
        assert_eq!(disk.syncs(), before + 1);
        for i in 5..100 {
            journal.append(i, &payload(i)).unwrap();
        }
        journal.sync().unwrap();
        let files = disk.list().unwrap().len();
        journal.drop_through(50).unwrap();
        assert!(disk.list().unwrap().len() < files);
        let found = reopened(&disk).unwrap();
        assert!((51..100).all(|i| found.contains(&payload(i))));
        journal.drop_through(1_000).unwrap();
        assert_eq!(disk.list().unwrap().len(), 1, "the open segment stays");
    }

    #[test]
    fn a_failing_disk_is_final() {
        let disk = MemoryDisk::new();
        let mut journal = written(&disk, 3);
        disk.fail_after(Some(0));
        journal.append(9, b"x").unwrap_err();
        disk.fail_after(None);
        assert!(matches!(journal.sync(), Err(JournalError::Failed)));
        assert!(matches!(journal.append(9, b"x"), Err(JournalError::Failed)));
    }

    #[test]
    fn journals_know_their_instance() {
        let disk = MemoryDisk::new();
        assert!(matches!(Journal::open(disk.clone(), OURS), Err(JournalError::Missing)));
        written(&disk, 1);
        assert!(matches!(Journal::open(disk.clone(), [8; 32]), Err(JournalError::OtherInstance)));
        assert!(matches!(Journal::create(disk, OURS), Err(JournalError::Exists)));
    }

    #[test]
    fn a_real_folder_does_the_same_and_is_locked() {
        let path = std::env::temp_dir().join(format!("starling-journal-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        let mut journal = Journal::create(Folder::open(&path).unwrap(), OURS).unwrap().with_segment_bytes(200);
        for i in 0..20 {
            journal.append(i, &payload(i)).unwrap();
        }
        journal.sync().unwrap();
        assert_eq!(Folder::open(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        journal.drop_through(5).unwrap();
        drop(journal);
        let last = std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()).filter(|p| !p.ends_with("lock")).max();
        let torn = std::fs::OpenOptions::new().append(true).open(last.unwrap());
        std::io::Write::write_all(&mut torn.unwrap(), &[9; 13]).unwrap();
        let (journal, found) = Journal::open(Folder::open(&path).unwrap(), OURS).unwrap();
        assert!(found.len() < 20 && (6..20).all(|i| found.contains(&payload(i))));
        drop(journal);
        std::fs::remove_file(path.join(name(3))).unwrap();
        assert!(matches!(Journal::open(Folder::open(&path).unwrap(), OURS), Err(JournalError::Gap { .. })));
        std::fs::remove_dir_all(&path).unwrap();
    }
}
