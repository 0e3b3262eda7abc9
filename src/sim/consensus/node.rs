//! One simulated node: what survives a crash (disk, durable ledger), and what does not (machine, timers, questions).

use std::collections::{BTreeMap, BTreeSet};

use crate::consensus::rules::Rules;
use crate::consensus::{Machine, Params, Record, TimerId, TimerKind};
use crate::protocol::chance::Chance;
use crate::protocol::checkpoint::Vote;
use crate::protocol::ids::NodeId;
use crate::protocol::keys::SecretKey;
use crate::store::disk::MemoryDisk;
use crate::store::journal::{Instance, Journal, JournalError};

use super::byzantine::Behaviour;
use super::ledger::Ledger;

/// One node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) key: Option<SecretKey>,
    pub(crate) behaviour: Option<Behaviour>,
    pub(crate) disk: MemoryDisk,
    pub(crate) ledger: Ledger,
    pub(crate) machine: Option<Machine>,
    pub(crate) journal: Option<Journal<MemoryDisk>>,
    /// Rises with every start, so that what belongs to an earlier life is recognised.
    pub(crate) life: u64,
    pub(crate) timers: BTreeMap<TimerKind, (u64, TimerId)>,
    pub(crate) asked: BTreeSet<u64>,
    /// Own votes known to be on the disk.
    pub(crate) durable_votes: BTreeSet<Vote>,
    pub(crate) off_ms: i64,
    pub(crate) started: bool,
}

impl Node {
    pub(crate) fn new(id: NodeId, key: Option<SecretKey>, behaviour: Option<Behaviour>, ledger: Ledger) -> Self {
        Self {
            id,
            key,
            behaviour,
            disk: MemoryDisk::new(),
            ledger,
            machine: None,
            journal: None,
            life: 0,
            timers: BTreeMap::new(),
            asked: BTreeSet::new(),
            durable_votes: BTreeSet::new(),
            off_ms: 0,
            started: false,
        }
    }

    fn instance(&self) -> Instance {
        self.id.0
    }

    /// Starts from what the disk holds.
    pub(crate) fn start(&mut self, params: Params, rules: Rules) -> Result<(), JournalError> {
        let opened = if self.started {
            Journal::open(self.disk.clone(), self.instance())
        } else {
            Journal::create(self.disk.clone(), self.instance()).map(|journal| (journal, Vec::new()))
        };
        let (journal, payloads) = opened?;
        let records: Vec<Record> = payloads.iter().filter_map(|bytes| Record::from_layout(bytes).ok()).collect();
        if records.len() != payloads.len() {
            return Err(JournalError::Missing);
        }
        self.durable_votes.clear();
        self.note_durable(&records);
        self.started = true;
        self.life += 1;
        self.journal = Some(journal.with_segment_bytes(1 << 14));
        self.machine = Some(Machine::with_rules(params, self.key.clone(), self.ledger.tip(), records, rules));
        Ok(())
    }

    /// Dies, between any two effects.
    pub(crate) fn crash(&mut self, chance: &mut Chance) {
        self.machine = None;
        self.journal = None;
        self.timers.clear();
        self.asked.clear();
        self.disk.crash(chance);
        self.ledger.crash();
    }

    pub(crate) fn is_up(&self) -> bool {
        self.machine.is_some()
    }

    pub(crate) fn note_durable(&mut self, records: &[Record]) {
        self.durable_votes.extend(records.iter().filter_map(|record| match record {
            Record::Vote(vote) => Some(*vote),
            _ => None,
        }));
    }
}
