//! The append-only record of the chain: a Merkle mountain range of header digests (L29).
//!
//! The state keeps only the peaks, at most 64 digests; any past header can be proved against the latest root by whoever
//! kept it. A leaf is hashed behind the byte 0 and a node behind 1.

use super::rows::Row;
use crate::protocol::ids::{Digest, hash};
use crate::protocol::layout::{LayoutError, Reader, Writer};

/// The peaks of the range, highest first, and how many leaves they cover.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    leaves: u64,
    peaks: Vec<Digest>,
}

fn node(left: &Digest, right: &Digest) -> Digest {
    hash("starling/1 record", &[&[1], &left.0, &right.0])
}

impl Records {
    pub fn leaves(&self) -> u64 {
        self.leaves
    }

    pub fn append(&mut self, record: &Digest) {
        let mut peak = hash("starling/1 record", &[&[0], &record.0]);
        // One peak for each bit set in the count; adding one carries like the addition does.
        let mut carry = self.leaves;
        while carry & 1 == 1 {
            let Some(left) = self.peaks.pop() else { break };
            peak = node(&left, &peak);
            carry >>= 1;
        }
        self.peaks.push(peak);
        self.leaves = self.leaves.saturating_add(1);
    }

    /// `H("starling/1 records", leaves, bagged peaks)`; the peaks are bagged from the lowest up.
    pub fn root(&self) -> Digest {
        let bagged = self.peaks.iter().rev().copied().reduce(|low, high| node(&high, &low)).unwrap_or(Digest::ZERO);
        hash("starling/1 records", &[&self.leaves.to_le_bytes(), &bagged.0])
    }
}

impl Row for Records {
    fn write(&self, to: Writer) -> Writer {
        self.peaks.iter().fold(to.u64(self.leaves), |to, peak| to.raw(&peak.0))
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        let leaves = from.u64()?;
        let peaks: Result<_, _> = (0..leaves.count_ones()).map(|_| from.digest()).collect();
        Ok(Self { leaves, peaks: peaks? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same range from the whole list: perfect trees over the set bits of the count, largest first.
    fn naive(records: &[Digest]) -> Digest {
        fn perfect(leaves: &[Digest]) -> Digest {
            match leaves {
                [one] => hash("starling/1 record", &[&[0], &one.0]),
                many => {
                    let (left, right) = many.split_at(many.len() / 2);
                    node(&perfect(left), &perfect(right))
                }
            }
        }
        let (mut rest, mut peaks) = (records, Vec::new());
        while !rest.is_empty() {
            let (tree, left) = rest.split_at(1 << rest.len().ilog2());
            peaks.push(perfect(tree));
            rest = left;
        }
        let mut bagged = peaks.pop().unwrap_or(Digest::ZERO);
        while let Some(peak) = peaks.pop() {
            bagged = node(&peak, &bagged);
        }
        hash("starling/1 records", &[&(records.len() as u64).to_le_bytes(), &bagged.0])
    }

    #[test]
    fn peaks_alone_give_the_root_of_the_whole_list() {
        let (mut records, mut list) = (Records::default(), Vec::new());
        for i in 0..70_u8 {
            assert_eq!(records.root(), naive(&list), "{i} records");
            assert_eq!(Records::decode(&records.encode()), Ok(records.clone()));
            let record = hash("starling/1 test", &[&[i]]);
            records.append(&record);
            list.push(record);
        }
    }
}
