//! The byte language model: the bytes before, embedded and joined, two hidden layers, a row of logits of the last byte
//! added, after Bengio and others (2003).
//!
//! The row of the last byte makes the model a bigram table before it has learnt anything else, which is most of what a
//! short training can get.

use burn::module::{Module, Param};
use burn::nn::{Embedding, Linear};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor};

use super::layers::{self, Weights};
use super::{Architecture, Artifact, ArtifactError};

/// What stands before the beginning of a text: the end of a paragraph.
pub const BEFORE: u8 = b'\n';

/// Its layers on a device.
#[derive(Module, Debug)]
pub struct ByteMlp {
    embedding: Embedding,
    hidden1: Linear,
    hidden2: Linear,
    output: Linear,
    bigram: Param<Tensor<2>>,
}

impl ByteMlp {
    /// # Errors
    /// The artifact is of another architecture.
    pub fn from_artifact(artifact: &Artifact, device: &Device) -> Result<Self, ArtifactError> {
        let layer = |name| layers::linear(artifact, name, device);
        Ok(Self {
            embedding: Embedding { weight: layers::param(artifact, "embedding.weight", device)? },
            hidden1: layer("hidden1")?,
            hidden2: layer("hidden2")?,
            output: layer("output")?,
            bigram: layers::param(artifact, "bigram.weight", device)?,
        })
    }

    /// Logits of the next byte; one row of bytes per context, all of the architecture's length.
    pub fn forward(&self, contexts: Tensor<2, Int>) -> Tensor<2> {
        let [rows, length] = contexts.dims();
        let last = contexts.clone().slice([0..rows, length.saturating_sub(1)..length]).reshape([rows]);
        let embedded: Tensor<2> = self.embedding.forward(contexts).flatten(1, 2);
        let hidden = relu(self.hidden1.forward(embedded));
        let hidden = relu(self.hidden2.forward(hidden));
        self.output.forward(hidden) + self.bigram.val().select(0, last)
    }

    /// # Errors
    /// The device does not give the numbers back, or one of them is none.
    pub fn to_artifact(&self, architecture: Architecture) -> Result<Artifact, ArtifactError> {
        let mut weights = Weights::default();
        weights.param("embedding.weight", &self.embedding.weight)?;
        weights.linear("hidden1", &self.hidden1)?;
        weights.linear("hidden2", &self.hidden2)?;
        weights.linear("output", &self.output)?;
        weights.param("bigram.weight", &self.bigram)?;
        Artifact::new(architecture, weights.tensors)
    }
}

/// The last `length` bytes of a text, with what stands before its beginning in front.
pub fn window(text: &[u8], length: usize) -> impl Iterator<Item = u8> + '_ {
    let missing = length.saturating_sub(text.len());
    let kept = text.get(text.len().saturating_sub(length)..).unwrap_or_default();
    std::iter::repeat_n(BEFORE, missing).chain(kept.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_always_of_its_length() {
        let check = |text: &[u8], expected: &[u8]| assert_eq!(window(text, 3).collect::<Vec<_>>(), expected);
        check(b"", b"\n\n\n");
        check(b"ab", b"\nab");
        check(b"abcd", b"bcd");
    }
}
