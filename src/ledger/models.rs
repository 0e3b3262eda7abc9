//! The models of a subnet as records: published ones, and seals over ones that are not shown yet (0x50, M13).
//!
//! A record is never changed and never removed: it is what a model's history rests on. Of seals each account has at most
//! one in a subnet, so they are bounded by the accounts.

use crate::protocol::artifact::publish::{Licence, Metric, read_claims, write_claims};
use crate::protocol::ids::{AccountId, Digest, Height, SubnetId};
use crate::protocol::layout::{LayoutError, Reader, Writer};

use super::rows::Row;
use super::state::State;

/// A published model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    pub publisher: AccountId,
    pub manifest: Digest,
    pub bytes: u64,
    /// Zeros for none.
    pub parent: Digest,
    pub licence: Licence,
    pub claims: Vec<Metric>,
    /// Since when it counts: the height of its seal, or of its record.
    pub since: Height,
    /// When it was shown.
    pub published: Height,
}

impl Row for Model {
    fn write(&self, to: Writer) -> Writer {
        let to = to.raw(&self.publisher.0).raw(&self.manifest.0).u64(self.bytes).raw(&self.parent.0);
        let to = to.u16(self.licence.0).u64(self.since).u64(self.published);
        write_claims(to.u8(u8::try_from(self.claims.len()).unwrap_or(u8::MAX)), &self.claims)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        let (publisher, manifest, bytes, parent) = (from.account()?, from.digest()?, from.u64()?, from.digest()?);
        let (licence, since, published, count) = (Licence(from.u16()?), from.u64()?, from.u64()?, from.u8()?);
        let claims = read_claims(from, count)?;
        Ok(Self { publisher, manifest, bytes, parent, licence, claims, since, published })
    }
}

/// A sealed model: opened within its heights, or replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    pub seal: Digest,
    pub height: Height,
}

impl Row for Seal {
    fn write(&self, to: Writer) -> Writer {
        to.raw(&self.seal.0).u64(self.height)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(Self { seal: from.digest()?, height: from.u64()? })
    }
}

impl State {
    pub fn model(&self, subnet: SubnetId, artifact: Digest) -> Option<&Model> {
        self.get(&(subnet, artifact))
    }

    /// The models of a subnet by artifact.
    pub fn models(&self, subnet: SubnetId) -> impl Iterator<Item = (Digest, &Model)> {
        let all = (subnet, Digest::ZERO)..=(subnet, Digest([0xff; 32]));
        self.range::<Model>(all).map(|(key, model)| (key.1, model))
    }
}
