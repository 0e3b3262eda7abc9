//! The manifest: what a model is, in one small JSON text that is itself an artifact (N27, M13).
//!
//! It is hashed as its bytes; the writer has one form, so that equal manifests are equal artifacts. Every list and text
//! of a stranger's manifest has a bound, checked before it is believed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::publish::METRICS_MAX;
use crate::protocol::ids::Digest;

/// The most bytes of a manifest.
pub const MANIFEST_BYTES_MAX: usize = 64 << 10;
const TEXT_BYTES_MAX: usize = 256;
const NUMBERS_MAX: usize = 32;
const DATA_MAX: usize = 32;

/// The version of the format.
pub const FORMAT: u16 = 1;

/// A piece of data a model was trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataRef {
    pub name: String,
    /// The hash of the data, as its own loader checks it; zeros when it has none.
    pub hash: Digest,
    pub licence: String,
}

/// What a model is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: u16,
    pub task: String,
    pub architecture: String,
    /// The numbers that shape the architecture.
    pub numbers: BTreeMap<String, u64>,
    pub tokenizer: Option<String>,
    /// The weights.
    pub artifact: Digest,
    pub bytes: u64,
    pub parent: Option<Digest>,
    pub licence: String,
    pub data: Vec<DataRef>,
    /// What trained it: engine, version, backend, instruction class.
    pub engine: String,
    pub fingerprint: Option<Digest>,
    /// The publisher's word, in millionths.
    pub metrics: BTreeMap<String, i64>,
}

/// Why bytes are no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("a manifest of {0} bytes; at most {MANIFEST_BYTES_MAX} are allowed")]
    TooLarge(usize),
    #[error("no manifest: {0}")]
    Json(#[from] serde_json::Error),
    #[error("manifest format {0} is not known; this is format {FORMAT}")]
    Format(u16),
    #[error("the manifest's {what} holds {found}, at most {limit} are allowed")]
    TooMany { what: &'static str, found: usize, limit: usize },
    #[error("the manifest is not in its one written form")]
    NotCanonical,
}

impl Manifest {
    /// The bytes that are hashed.
    pub fn to_bytes(&self) -> Vec<u8> {
        // A struct of texts and numbers always has a JSON form.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub fn id(&self) -> Digest {
        Digest(*blake3::hash(&self.to_bytes()).as_bytes())
    }

    /// # Errors
    /// Too large, no manifest, a bound is broken, or another form than the written one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLarge(bytes.len()));
        }
        let manifest: Self = serde_json::from_slice(bytes)?;
        if manifest.format != FORMAT {
            return Err(ManifestError::Format(manifest.format));
        }
        manifest.check()?;
        if manifest.to_bytes() != bytes {
            return Err(ManifestError::NotCanonical);
        }
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let most = |what, found: usize, limit| {
            if found > limit { Err(ManifestError::TooMany { what, found, limit }) } else { Ok(()) }
        };
        most("list of numbers", self.numbers.len(), NUMBERS_MAX)?;
        most("list of data", self.data.len(), DATA_MAX)?;
        most("list of metrics", self.metrics.len(), METRICS_MAX)?;
        let texts = [&self.task, &self.architecture, &self.licence, &self.engine];
        let data = self.data.iter().flat_map(|data| [&data.name, &data.licence]);
        let all = texts.into_iter().chain(self.tokenizer.as_ref()).chain(data);
        let all = all.chain(self.numbers.keys()).chain(self.metrics.keys());
        all.map(String::len).try_for_each(|length| most("text", length, TEXT_BYTES_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            format: FORMAT,
            task: "vision".into(),
            architecture: "mlp".into(),
            numbers: BTreeMap::from([("hidden".into(), 64)]),
            tokenizer: None,
            artifact: Digest([1; 32]),
            bytes: 99,
            parent: Some(Digest([2; 32])),
            licence: "MIT".into(),
            data: vec![DataRef { name: "digits".into(), hash: Digest([3; 32]), licence: "CC BY 4.0".into() }],
            engine: "cpu".into(),
            fingerprint: None,
            metrics: BTreeMap::from([("accuracy".into(), 930_000)]),
        }
    }

    #[test]
    fn one_form_and_bounds() {
        let bytes = manifest().to_bytes();
        assert_eq!(Manifest::from_bytes(&bytes).unwrap(), manifest());
        assert_eq!(manifest().id(), Digest(*blake3::hash(&bytes).as_bytes()));
        let spaced = [b" ".as_slice(), &bytes].concat();
        assert!(matches!(Manifest::from_bytes(&spaced), Err(ManifestError::NotCanonical)));
        assert!(matches!(Manifest::from_bytes(&vec![b' '; MANIFEST_BYTES_MAX + 1]), Err(ManifestError::TooLarge(_))));
        let long = Manifest { task: "x".repeat(257), ..manifest() }.to_bytes();
        assert!(matches!(Manifest::from_bytes(&long), Err(ManifestError::TooMany { .. })));
        let other = Manifest { format: 2, ..manifest() }.to_bytes();
        assert!(matches!(Manifest::from_bytes(&other), Err(ManifestError::Format(2))));
    }
}
