//! The record of a published model on the ledger (0x50): who, which bytes, from what, under which licence.
//!
//! What is claimed here (metrics) is the publisher's word and named so; what is measured stands in the epochs.

use serde::{Deserialize, Serialize};

use super::ARTIFACT_BYTES_MAX;
use crate::protocol::ids::{AccountId, Digest, SubnetId, hash};
use crate::protocol::layout::{LayoutError, Reader, Writer};

/// Metrics of one record.
pub const METRICS_MAX: usize = 8;
/// Heights in which a seal may be opened.
pub const SEAL_HEIGHTS: u64 = 600;

/// A licence by its number on the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Licence(pub u16);

impl Licence {
    const NAMES: [(u16, &'static str); 13] = [
        (0, "none"),
        (1, "MIT"),
        (2, "Apache-2.0"),
        (3, "MIT OR Apache-2.0"),
        (4, "BSD-3-Clause"),
        (5, "CC0-1.0"),
        (6, "CC-BY-4.0"),
        (7, "CC-BY-SA-4.0"),
        (8, "CC-BY-NC-4.0"),
        (9, "GPL-3.0-or-later"),
        (10, "AGPL-3.0-or-later"),
        (11, "OpenRAIL-M"),
        (12, "proprietary"),
    ];

    /// The SPDX name, where there is one.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(number, _)| *number == self.0).map_or("unknown", |(_, name)| name)
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(number, _)| Self(*number))
    }

    pub fn names() -> Vec<&'static str> {
        Self::NAMES.iter().map(|(_, name)| *name).collect()
    }
}

/// What a publisher claims about a model: a metric's number and its value in millionths.
pub type Metric = (u16, i64);

const METRIC_NAMES: [(u16, &str); 5] =
    [(1, "accuracy"), (2, "loss"), (3, "bits_per_byte"), (4, "skill"), (5, "parameters")];

/// A metric's name for people.
pub fn metric_name(number: u16) -> String {
    let found = METRIC_NAMES.iter().find(|(known, _)| *known == number);
    found.map_or_else(|| format!("metric {number}"), |(_, name)| (*name).to_owned())
}

/// The number of a metric.
pub fn metric_named(name: &str) -> Option<u16> {
    METRIC_NAMES.iter().find(|(_, known)| *known == name).map(|(number, _)| *number)
}

/// A model, or a seal over one that is opened within `SEAL_HEIGHTS` and then counts from the height of the seal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelPublish {
    pub subnet: SubnetId,
    /// The artifact that describes it: task, architecture, data, engine.
    pub manifest: Digest,
    /// The weights; of a seal, the seal.
    pub artifact: Digest,
    pub bytes: u64,
    /// The model this one was made from; zeros for none.
    pub parent: Digest,
    pub licence: Licence,
    pub sealed: bool,
    /// Opens the seal of this account; zeros: there was none.
    pub salt: [u8; 32],
    pub claims: Vec<Metric>,
}

/// What hides an artifact until it is opened: bound to the account, so that a copied seal opens for nobody else.
pub fn seal(artifact: &Digest, account: &AccountId, salt: &[u8; 32]) -> Digest {
    hash("starling/1 model", &[&artifact.0, &account.0, salt])
}

impl ModelPublish {
    /// Seals an artifact: nothing else is said yet.
    pub fn sealed(subnet: SubnetId, artifact: &Digest, account: &AccountId, salt: &[u8; 32]) -> Self {
        Self {
            subnet,
            manifest: Digest::ZERO,
            artifact: seal(artifact, account, salt),
            bytes: 0,
            parent: Digest::ZERO,
            licence: Licence::default(),
            sealed: true,
            salt: [0; 32],
            claims: Vec::new(),
        }
    }

    pub fn write(&self, to: Writer) -> Writer {
        let count = u8::try_from(self.claims.len()).unwrap_or(u8::MAX);
        let to = to
            .u32(self.subnet.0)
            .raw(&self.manifest.0)
            .raw(&self.artifact.0)
            .u64(self.bytes)
            .raw(&self.parent.0)
            .u16(self.licence.0)
            .u8(u8::from(self.sealed))
            .raw(&self.salt)
            .u8(count);
        write_claims(to, &self.claims)
    }

    /// # Errors
    /// The bytes end short or hold what no record holds.
    pub fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        let subnet = SubnetId(from.u32()?);
        let (manifest, artifact, bytes, parent) = (from.digest()?, from.digest()?, from.u64()?, from.digest()?);
        let (licence, sealed) = (Licence(from.u16()?), from.u8()?);
        let sealed = match sealed {
            0 => false,
            1 => true,
            other => return Err(LayoutError::Unknown { what: "flag", found: other.into() }),
        };
        let (salt, count) = (from.array()?, from.u8()?);
        Ok(Self { subnet, manifest, artifact, bytes, parent, licence, sealed, salt, claims: read_claims(from, count)? })
    }

    /// # Errors
    /// It could never have an effect, or has a second encoding.
    pub fn check(&self) -> Result<(), LayoutError> {
        let wrong = |what| Err(LayoutError::NotCanonical(what));
        if self.claims.len() > METRICS_MAX {
            return Err(LayoutError::TooMany { what: "list of metrics", found: self.claims.len(), limit: METRICS_MAX });
        }
        if self.artifact == Digest::ZERO {
            return wrong("the artifact's id is zero");
        }
        if self.sealed {
            let blank = self.manifest == Digest::ZERO && self.bytes == 0 && self.parent == Digest::ZERO;
            let blank = blank && self.licence == Licence::default() && self.salt == [0; 32] && self.claims.is_empty();
            return if blank { Ok(()) } else { wrong("a seal says nothing but itself") };
        }
        if !(1..=ARTIFACT_BYTES_MAX).contains(&self.bytes) {
            return wrong("the artifact's size is out of bounds");
        }
        if self.manifest == Digest::ZERO || self.manifest == self.artifact {
            return wrong("the model has no manifest of its own");
        }
        if self.parent == self.artifact {
            return wrong("a model is not its own parent");
        }
        if !self.claims.iter().zip(self.claims.iter().skip(1)).all(|(a, b)| a.0 < b.0) {
            return wrong("the metrics' numbers do not strictly ascend");
        }
        Ok(())
    }
}

/// The metrics of a record, without their count.
pub fn write_claims(to: Writer, claims: &[Metric]) -> Writer {
    claims.iter().fold(to, |to, (metric, value)| to.u16(*metric).raw(&value.to_le_bytes()))
}

/// # Errors
/// Too many, or the bytes end short.
pub fn read_claims(from: &mut Reader<'_>, count: u8) -> Result<Vec<Metric>, LayoutError> {
    if usize::from(count) > METRICS_MAX {
        return Err(LayoutError::TooMany { what: "list of metrics", found: count.into(), limit: METRICS_MAX });
    }
    (0..count).map(|_| Ok((from.u16()?, i64::from_le_bytes(from.array()?)))).collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn example() -> ModelPublish {
        ModelPublish {
            subnet: SubnetId(2),
            manifest: Digest([1; 32]),
            artifact: Digest([2; 32]),
            bytes: 5,
            parent: Digest([3; 32]),
            licence: Licence(2),
            sealed: false,
            salt: [4; 32],
            claims: vec![(1, 900_000), (2, -7)],
        }
    }

    #[test]
    fn a_record_reads_back_and_what_makes_no_sense_is_refused() {
        let bytes = example().write(Writer::new()).done();
        assert_eq!(bytes.len(), 4 + 32 * 4 + 8 + 2 + 1 + 1 + 2 * 10);
        let mut from = Reader::new(&bytes);
        assert_eq!(ModelPublish::read(&mut from), Ok(example()));
        assert_eq!(from.end(), Ok(()));
        assert_eq!(example().check(), Ok(()));
        type Wrong = (&'static str, fn(&mut ModelPublish));
        let wrong: [Wrong; 8] = [
            ("the artifact's id is zero", |m| m.artifact = Digest::ZERO),
            ("the artifact's size is out of bounds", |m| m.bytes = 0),
            ("the artifact's size is out of bounds", |m| m.bytes = ARTIFACT_BYTES_MAX + 1),
            ("the model has no manifest of its own", |m| m.manifest = Digest::ZERO),
            ("a model is not its own parent", |m| m.parent = m.artifact),
            ("a seal says nothing but itself", |m| m.sealed = true),
            ("the metrics' numbers do not strictly ascend", |m| m.claims = vec![(2, 1), (2, 1)]),
            ("list of metrics holds 9, at most 8 are allowed", |m| m.claims = (0..9).map(|i| (i, 0)).collect()),
        ];
        for (message, change) in wrong {
            let mut record = example();
            change(&mut record);
            assert_eq!(record.check().unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn a_seal_binds_artifact_account_and_salt() {
        let (artifact, account) = (Digest([1; 32]), AccountId([2; 32]));
        let sealed = ModelPublish::sealed(SubnetId(1), &artifact, &account, &[3; 32]);
        assert_eq!(sealed.check(), Ok(()));
        assert_ne!(sealed.artifact, seal(&artifact, &AccountId([9; 32]), &[3; 32]));
        assert_ne!(sealed.artifact, seal(&artifact, &account, &[9; 32]));
        assert_eq!(Licence::named("apache-2.0"), Some(Licence(2)));
        assert_eq!(Licence(99).name(), "unknown");
    }
}
