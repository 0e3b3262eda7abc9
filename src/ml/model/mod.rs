//! What a miner runs: architectures, and their weights as plain tensors in one canonical file format.
//!
//! An architecture fixes the name and shape of every tensor, hence the size of its artifact before a byte of it is
//! read. The layers themselves are written once, for training and for answering: `mlp` and `conv` for images, `byte_mlp`
//! and `byte_gpt` for text, `forecasters` over the differences of `frame` for time series.

pub mod artifact;
pub mod block;
pub mod byte_gpt;
pub mod byte_mlp;
pub mod conv;
pub mod forecasters;
pub mod frame;
pub mod layers;
pub mod mlp;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use artifact::{Artifact, ArtifactError, Tensor};

use self::conv::{FILTER, HALF};
use self::frame::{OUTPUTS, SEASON};
use crate::protocol::query::{BYTE_VALUES, CLASSES, PIXELS};

/// The architectures known here, with the numbers that shape them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "architecture", rename_all = "snake_case")]
pub enum Architecture {
    /// 64 pixels, two hidden layers, ten classes.
    Mlp { hidden: usize },
    /// An 8x8 image, two layers of 3x3 filters, one hidden layer, ten classes.
    Conv { channels: usize, hidden: usize },
    /// The bytes before, embedded and joined, two hidden layers, a distribution over the next byte; the last byte adds
    /// its own row of logits.
    ByteMlp { context: usize, embedding: usize, hidden: usize },
    /// The bytes before, each looking at those before it; the last byte adds its own row of logits.
    ByteGpt { context: usize, embedding: usize, layers: usize, heads: usize },
    /// The mean of the last seasons with the spread seen in training; learns without gradients.
    Seasonal { seasons: usize },
    /// Quantiles as weighted sums of the last seasons' differences.
    Linear { seasons: usize },
    /// The same, and a transformer over the seasons.
    Patches { seasons: usize, embedding: usize, layers: usize, heads: usize },
}

/// The kinds of architecture, as a miner's owner names one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Mlp,
    Conv,
    ByteMlp,
    ByteGpt,
    Seasonal,
    Linear,
    Patches,
}

impl Kind {
    pub const ALL: [Self; 7] =
        [Self::Mlp, Self::Conv, Self::ByteMlp, Self::ByteGpt, Self::Seasonal, Self::Linear, Self::Patches];

    pub fn name(self) -> &'static str {
        self.smallest().name()
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// With every number at its least: for a task that has no use for it, where the data refuse it by its name.
    pub fn smallest(self) -> Architecture {
        match self {
            Self::Mlp => Architecture::Mlp { hidden: 1 },
            Self::Conv => Architecture::Conv { channels: 1, hidden: 1 },
            Self::ByteMlp => Architecture::ByteMlp { context: 1, embedding: 1, hidden: 1 },
            Self::ByteGpt => Architecture::ByteGpt { context: 1, embedding: 1, layers: 1, heads: 1 },
            Self::Seasonal => Architecture::Seasonal { seasons: 1 },
            Self::Linear => Architecture::Linear { seasons: 1 },
            Self::Patches => Architecture::Patches { seasons: 1, embedding: 1, layers: 1, heads: 1 },
        }
    }
}

impl Architecture {
    pub const NAMES: [&str; 7] = ["byte_gpt", "byte_mlp", "conv", "linear", "mlp", "patches", "seasonal"];
    /// Bounds of the shaping numbers; checked before any size is computed from them.
    pub const CONTEXT_MAX: usize = 256;
    pub const EMBEDDING_MAX: usize = 1_024;
    pub const HIDDEN_MAX: usize = 4_096;
    pub const CHANNELS_MAX: usize = 256;
    pub const LAYERS_MAX: usize = 16;
    pub const HEADS_MAX: usize = 64;
    pub const SEASONS_MAX: usize = 16;

    pub fn name(&self) -> &'static str {
        match self {
            Self::Mlp { .. } => "mlp",
            Self::Conv { .. } => "conv",
            Self::ByteMlp { .. } => "byte_mlp",
            Self::ByteGpt { .. } => "byte_gpt",
            Self::Seasonal { .. } => "seasonal",
            Self::Linear { .. } => "linear",
            Self::Patches { .. } => "patches",
        }
    }

    /// The shaping numbers by name.
    pub fn numbers(&self) -> BTreeMap<&'static str, usize> {
        match *self {
            Self::Mlp { hidden } => BTreeMap::from([("hidden", hidden)]),
            Self::Conv { channels, hidden } => BTreeMap::from([("channels", channels), ("hidden", hidden)]),
            Self::ByteMlp { context, embedding, hidden } => {
                BTreeMap::from([("context", context), ("embedding", embedding), ("hidden", hidden)])
            }
            Self::ByteGpt { context, embedding, layers, heads } => {
                BTreeMap::from([("context", context), ("embedding", embedding), ("layers", layers), ("heads", heads)])
            }
            Self::Seasonal { seasons } | Self::Linear { seasons } => BTreeMap::from([("seasons", seasons)]),
            Self::Patches { seasons, embedding, layers, heads } => {
                BTreeMap::from([("seasons", seasons), ("embedding", embedding), ("layers", layers), ("heads", heads)])
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
            "conv" => Self::Conv { channels: take("channels")?, hidden: take("hidden")? },
            "byte_mlp" => {
                Self::ByteMlp { context: take("context")?, embedding: take("embedding")?, hidden: take("hidden")? }
            }
            "byte_gpt" => Self::ByteGpt {
                context: take("context")?,
                embedding: take("embedding")?,
                layers: take("layers")?,
                heads: take("heads")?,
            },
            "seasonal" => Self::Seasonal { seasons: take("seasons")? },
            "linear" => Self::Linear { seasons: take("seasons")? },
            "patches" => Self::Patches {
                seasons: take("seasons")?,
                embedding: take("embedding")?,
                layers: take("layers")?,
                heads: take("heads")?,
            },
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
    /// A shaping number is 0 or over its bound, or heads do not share an embedding evenly.
    pub fn check(&self) -> Result<(), ArtifactError> {
        let numbers = self.numbers();
        for (&name, &found) in &numbers {
            let most = match name {
                "context" => Self::CONTEXT_MAX,
                "embedding" => Self::EMBEDDING_MAX,
                "channels" => Self::CHANNELS_MAX,
                "layers" => Self::LAYERS_MAX,
                "heads" => Self::HEADS_MAX,
                "seasons" => Self::SEASONS_MAX,
                _ => Self::HIDDEN_MAX,
            };
            if !(1..=most).contains(&found) {
                return Err(ArtifactError::Number { name: name.to_owned(), found, most });
            }
        }
        match (numbers.get("embedding"), numbers.get("heads")) {
            (Some(&embedding), Some(&heads)) if embedding % heads != 0 => {
                Err(ArtifactError::Heads { embedding, heads })
            }
            _ => Ok(()),
        }
    }

    /// The shape of every tensor by name.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let named = |shapes: &[(&str, &[usize])]| -> BTreeMap<String, Vec<usize>> {
            shapes.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect()
        };
        match *self {
            Self::Mlp { hidden } => named(&[
                ("hidden1.bias", &[hidden]),
                ("hidden1.weight", &[PIXELS, hidden]),
                ("hidden2.bias", &[hidden]),
                ("hidden2.weight", &[hidden, hidden]),
                ("output.bias", &[CLASSES]),
                ("output.weight", &[hidden, CLASSES]),
            ]),
            Self::Conv { channels, hidden } => named(&[
                ("filter1.bias", &[channels]),
                ("filter1.weight", &[channels, 1, FILTER, FILTER]),
                ("filter2.bias", &[2 * channels]),
                ("filter2.weight", &[2 * channels, channels, FILTER, FILTER]),
                ("hidden.bias", &[hidden]),
                ("hidden.weight", &[2 * channels * HALF * HALF, hidden]),
                ("output.bias", &[CLASSES]),
                ("output.weight", &[hidden, CLASSES]),
            ]),
            Self::ByteMlp { context, embedding, hidden } => named(&[
                ("bigram.weight", &[BYTE_VALUES, BYTE_VALUES]),
                ("embedding.weight", &[BYTE_VALUES, embedding]),
                ("hidden1.bias", &[hidden]),
                ("hidden1.weight", &[context * embedding, hidden]),
                ("hidden2.bias", &[hidden]),
                ("hidden2.weight", &[hidden, hidden]),
                ("output.bias", &[BYTE_VALUES]),
                ("output.weight", &[hidden, BYTE_VALUES]),
            ]),
            Self::ByteGpt { context, embedding, layers, .. } => {
                let mut shapes = named(&[
                    ("bigram.weight", &[BYTE_VALUES, BYTE_VALUES]),
                    ("embedding.weight", &[BYTE_VALUES, embedding]),
                    ("norm.beta", &[embedding]),
                    ("norm.gamma", &[embedding]),
                    ("output.bias", &[BYTE_VALUES]),
                    ("output.weight", &[embedding, BYTE_VALUES]),
                    ("position.weight", &[context, embedding]),
                ]);
                shapes.extend((0..layers).flat_map(|layer| block::shapes(layer, embedding)));
                shapes
            }
            Self::Seasonal { .. } => named(&[("spread", &[OUTPUTS])]),
            Self::Linear { seasons } => {
                named(&[("output.bias", &[OUTPUTS]), ("output.weight", &[seasons * SEASON, OUTPUTS])])
            }
            Self::Patches { seasons, embedding, layers, .. } => {
                let mut shapes = named(&[
                    ("norm.beta", &[embedding]),
                    ("norm.gamma", &[embedding]),
                    ("output.bias", &[OUTPUTS]),
                    ("output.weight", &[seasons * embedding, OUTPUTS]),
                    ("patch.bias", &[embedding]),
                    ("patch.weight", &[SEASON, embedding]),
                    ("position.weight", &[seasons, embedding]),
                    ("skip.weight", &[seasons * SEASON, OUTPUTS]),
                ]);
                shapes.extend((0..layers).flat_map(|layer| block::shapes(layer, embedding)));
                shapes
            }
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
