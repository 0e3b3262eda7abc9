//! What a miner runs: architectures, and their weights as plain tensors in one canonical file format.
//!
//! An architecture fixes the name and shape of every tensor, hence the size of its artifact before a byte of it is
//! read. The layers themselves are written once, in `mlp` and `byte_mlp`, for training and for answering.

pub mod artifact;
pub mod byte_mlp;
pub mod layers;
pub mod mlp;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use artifact::{Artifact, ArtifactError, Tensor};

use crate::protocol::query::{BYTE_VALUES, CLASSES, PIXELS};

/// The architectures known here, with the numbers that shape them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "architecture", rename_all = "snake_case")]
pub enum Architecture {
    /// 64 pixels, two hidden layers, ten classes.
    Mlp { hidden: usize },
    /// The bytes before, embedded and joined, two hidden layers, a distribution over the next byte; the last byte adds
    /// its own row of logits.
    ByteMlp { context: usize, embedding: usize, hidden: usize },
}

impl Architecture {
    pub const NAMES: [&str; 2] = ["byte_mlp", "mlp"];
    /// Bounds of the shaping numbers; checked before any size is computed from them.
    pub const CONTEXT_MAX: usize = 256;
    pub const EMBEDDING_MAX: usize = 1_024;
    pub const HIDDEN_MAX: usize = 4_096;

    pub fn name(&self) -> &'static str {
        match self {
            Self::Mlp { .. } => "mlp",
            Self::ByteMlp { .. } => "byte_mlp",
        }
    }

    /// The shaping numbers by name.
    pub fn numbers(&self) -> BTreeMap<&'static str, usize> {
        match *self {
            Self::Mlp { hidden } => BTreeMap::from([("hidden", hidden)]),
            Self::ByteMlp { context, embedding, hidden } => {
                BTreeMap::from([("context", context), ("embedding", embedding), ("hidden", hidden)])
            }
        }
    }

    /// # Errors
    /// Unknown name, or a number that is missing, unknown or out of bounds.
    pub fn from_numbers(name: &str, numbers: &BTreeMap<String, usize>) -> Result<Self, ArtifactError> {
        let take = |key: &'static str| {
            numbers.get(key).copied().ok_or(ArtifactError::Number { name: key.to_owned(), found: 0, most: 0 })
        };
        let architecture = match name {
            "mlp" => Self::Mlp { hidden: take("hidden")? },
            "byte_mlp" => {
                Self::ByteMlp { context: take("context")?, embedding: take("embedding")?, hidden: take("hidden")? }
            }
            other => return Err(ArtifactError::UnknownArchitecture(other.to_owned())),
        };
        let known = architecture.numbers();
        if let Some((key, &found)) = numbers.iter().find(|(key, _)| !known.contains_key(key.as_str())) {
            return Err(ArtifactError::Number { name: key.clone(), found, most: 0 });
        }
        architecture.check()?;
        Ok(architecture)
    }

    /// # Errors
    /// A shaping number is 0 or over its bound.
    pub fn check(&self) -> Result<(), ArtifactError> {
        for (name, found) in self.numbers() {
            let most = match name {
                "context" => Self::CONTEXT_MAX,
                "embedding" => Self::EMBEDDING_MAX,
                _ => Self::HIDDEN_MAX,
            };
            if !(1..=most).contains(&found) {
                return Err(ArtifactError::Number { name: name.to_owned(), found, most });
            }
        }
        Ok(())
    }

    /// The shape of every tensor by name.
    pub fn shapes(&self) -> BTreeMap<&'static str, Vec<usize>> {
        match *self {
            Self::Mlp { hidden } => BTreeMap::from([
                ("hidden1.bias", vec![hidden]),
                ("hidden1.weight", vec![PIXELS, hidden]),
                ("hidden2.bias", vec![hidden]),
                ("hidden2.weight", vec![hidden, hidden]),
                ("output.bias", vec![CLASSES]),
                ("output.weight", vec![hidden, CLASSES]),
            ]),
            Self::ByteMlp { context, embedding, hidden } => BTreeMap::from([
                ("bigram.weight", vec![BYTE_VALUES, BYTE_VALUES]),
                ("embedding.weight", vec![BYTE_VALUES, embedding]),
                ("hidden1.bias", vec![hidden]),
                ("hidden1.weight", vec![context * embedding, hidden]),
                ("hidden2.bias", vec![hidden]),
                ("hidden2.weight", vec![hidden, hidden]),
                ("output.bias", vec![BYTE_VALUES]),
                ("output.weight", vec![hidden, BYTE_VALUES]),
            ]),
        }
    }

    /// How many numbers the weights are.
    pub fn parameters(&self) -> usize {
        self.shapes().values().map(|shape| shape.iter().product::<usize>()).sum()
    }

    /// Bytes of the weights.
    pub fn weight_bytes(&self) -> u64 {
        4 * self.parameters() as u64
    }
}
