//! The byte language model that looks back: a small causal transformer with a row of logits of the last byte added, as the
//! other byte model has it.
//!
//! Training asks it for the byte after every place of a context at once; answering only for the one after the last.

use burn::module::{Module, Param};
use burn::nn::{Embedding, LayerNorm, Linear};
use burn::tensor::{Device, Int, Tensor};

use super::block::{self, Block, causal};
use super::layers::{self, Weights};
use super::{Architecture, Artifact, ArtifactError};

/// Its layers on a device.
#[derive(Module, Debug)]
pub struct ByteGpt {
    embedding: Embedding,
    position: Param<Tensor<2>>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    output: Linear,
    bigram: Param<Tensor<2>>,
}

impl ByteGpt {
    /// # Errors
    /// The artifact is of another architecture.
    pub fn from_artifact(artifact: &Artifact, layers: usize, device: &Device) -> Result<Self, ArtifactError> {
        let blocks = (0..layers).map(|layer| Block::from_artifact(artifact, layer, device));
        Ok(Self {
            embedding: Embedding { weight: layers::param(artifact, "embedding.weight", device)? },
            position: layers::param(artifact, "position.weight", device)?,
            blocks: blocks.collect::<Result<_, _>>()?,
            norm: block::norm(artifact, "norm", device)?,
            output: layers::linear(artifact, "output", device)?,
            bigram: layers::param(artifact, "bigram.weight", device)?,
        })
    }

    /// What every place knows, rows x places x numbers.
    fn places(&self, contexts: Tensor<2, Int>, heads: usize) -> Tensor<3> {
        let [_, count] = contexts.dims();
        let mask = causal(count, &contexts.device());
        let mut places = self.embedding.forward(contexts) + self.position.val().unsqueeze();
        for block in &self.blocks {
            places = block.forward(places, heads, Some(mask.clone()));
        }
        self.norm.forward(places)
    }

    fn logits(&self, places: Tensor<2>, bytes: Tensor<1, Int>) -> Tensor<2> {
        self.output.forward(places) + self.bigram.val().select(0, bytes)
    }

    /// Logits of the byte after each context; contexts are of the architecture's length.
    pub fn forward(&self, contexts: Tensor<2, Int>, heads: usize) -> Tensor<2> {
        let [rows, count] = contexts.dims();
        let last = count.saturating_sub(1)..count;
        let bytes = contexts.clone().slice([0..rows, last.clone()]).reshape([rows]);
        let places = self.places(contexts, heads);
        let [_, _, width] = places.dims();
        self.logits(places.slice([0..rows, last, 0..width]).reshape([rows, width]), bytes)
    }

    /// Logits of the byte after each place of each context, row by row.
    pub fn forward_all(&self, contexts: Tensor<2, Int>, heads: usize) -> Tensor<2> {
        let [rows, count] = contexts.dims();
        let bytes = contexts.clone().reshape([rows * count]);
        let places = self.places(contexts, heads);
        let [_, _, width] = places.dims();
        self.logits(places.reshape([rows * count, width]), bytes)
    }

    /// # Errors
    /// The device does not give the numbers back, or one of them is none.
    pub fn to_artifact(&self, architecture: Architecture) -> Result<Artifact, ArtifactError> {
        let mut weights = Weights::default();
        weights.param("embedding.weight", &self.embedding.weight)?;
        weights.param("position.weight", &self.position)?;
        for (layer, block) in self.blocks.iter().enumerate() {
            block.collect(layer, &mut weights)?;
        }
        weights.norm("norm", &self.norm)?;
        weights.linear("output", &self.output)?;
        weights.param("bigram.weight", &self.bigram)?;
        Artifact::new(architecture, weights.tensors)
    }
}
