//! The vote journal of a process: which journal belongs to which key, and whether this node may vote (C38 to C40).
//!
//! The key's folder holds `<key>.instance`, the number of the journal that goes with the key. A key whose journal is gone,
//! damaged or another's must not vote: what it said before is not known any more.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::actors::checkpointer::VoteJournal;
use crate::consensus::Record;
use crate::protocol::ids::{View, from_hex, to_hex};
use crate::store::disk::{Disk, Folder};
use crate::store::journal::{Instance, Journal, JournalError};

/// A journal on any disk, as the checkpointer wants it.
pub struct Records<D>(pub Journal<D>);

impl<D: Disk + Send> VoteJournal for Records<D> {
    fn append(&mut self, records: &[Record]) -> Result<(), String> {
        let write = |journal: &mut Journal<D>| {
            for record in records {
                journal.append(record.mark(), &record.layout())?;
            }
            journal.sync()
        };
        write(&mut self.0).map_err(|error: JournalError| error.to_string())
    }

    fn release(&mut self, mark: View) -> Result<(), String> {
        self.0.drop_through(mark).map_err(|error| error.to_string())
    }
}

/// What the journal's folder came to.
pub struct Opened {
    pub journal: Box<dyn VoteJournal>,
    pub records: Vec<Record>,
    /// Why the node must not vote with its key, if so.
    pub observer: Option<String>,
}

/// Why there is no journal at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the vote journal in {path} is in use by another process; two nodes with one key would both be slashed")]
    Locked { path: String },
    #[error("the vote journal in {path} cannot be opened: {problem}")]
    Journal { path: String, problem: String },
}

/// Opens the journal in `folder` that belongs to the instance file; `fresh` numbers a new one.
///
/// # Errors
/// The folder is in use or cannot be written.
pub fn open(folder: &Path, instance_file: &Path, fresh: Instance) -> Result<Opened, OpenError> {
    let problem = |error: String| OpenError::Journal { path: folder.display().to_string(), problem: error };
    let known = read_instance(instance_file).map_err(|error| problem(error.to_string()))?;
    let disk = lock(folder)?;
    let opened = match known {
        None => begin(disk, instance_file, fresh),
        Some(instance) => Journal::open(disk, instance),
    };
    match opened {
        Ok((journal, payloads)) => {
            let records: Result<Vec<Record>, _> = payloads.iter().map(|bytes| Record::from_layout(bytes)).collect();
            match records {
                Ok(records) => Ok(Opened { journal: Box::new(Records(journal)), records, observer: None }),
                Err(error) => observe(folder, fresh, &error.to_string()),
            }
        }
        Err(error @ JournalError::Disk(_)) => Err(problem(error.to_string())),
        Err(error) => observe(folder, fresh, &error.to_string()),
    }
}

fn lock(folder: &Path) -> Result<Folder, OpenError> {
    Folder::open(folder).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => OpenError::Locked { path: folder.display().to_string() },
        _ => OpenError::Journal { path: folder.display().to_string(), problem: error.to_string() },
    })
}

/// The first start of a key: journal and instance file are made so that a crash between the two is made good next time.
fn begin(disk: Folder, instance_file: &Path, fresh: Instance) -> Result<(Journal<Folder>, Vec<Vec<u8>>), JournalError> {
    let journal = Journal::create(disk, fresh)?;
    let draft = instance_file.with_extension("instance.new");
    let mut file = File::create(&draft)?;
    file.write_all(to_hex(&fresh).as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, instance_file)?;
    if let Some(folder) = instance_file.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok((journal, Vec::new()))
}

fn read_instance(path: &Path) -> io::Result<Option<Instance>> {
    match fs::read_to_string(path) {
        Ok(text) => from_hex(text.trim()).map(Some).map_err(|error| io::Error::other(error.to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A journal for a node that only watches: in a folder of its own, begun anew, beside the one that cannot be used.
fn observe(folder: &Path, fresh: Instance, why: &str) -> Result<Opened, OpenError> {
    let path = beside(folder);
    let problem = |error: String| OpenError::Journal { path: path.display().to_string(), problem: error };
    if path.exists() {
        fs::remove_dir_all(&path).map_err(|error| problem(error.to_string()))?;
    }
    let journal = Journal::create(lock(&path)?, fresh).map_err(|error| problem(error.to_string()))?;
    let observer = Some(format!(
        "{why}: what this key signed before is not known, so it must not vote. Register a new consensus key, or restore \
         the folder {} as it was",
        folder.display()
    ));
    Ok(Opened { journal: Box::new(Records(journal)), records: Vec::new(), observer })
}

fn beside(folder: &Path) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push("-observer");
    folder.with_file_name(name)
}
