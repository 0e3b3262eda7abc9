//! The digit classifier: 64 pixels, two hidden layers, ten classes.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use super::layers::{self, Weights};
use super::{Architecture, Artifact, ArtifactError};

/// Its layers on a device.
#[derive(Module, Debug)]
pub struct Mlp {
    hidden1: Linear,
    hidden2: Linear,
    output: Linear,
}

impl Mlp {
    /// # Errors
    /// The artifact is of another architecture.
    pub fn from_artifact(artifact: &Artifact, device: &Device) -> Result<Self, ArtifactError> {
        let layer = |name| layers::linear(artifact, name, device);
        Ok(Self { hidden1: layer("hidden1")?, hidden2: layer("hidden2")?, output: layer("output")? })
    }

    /// Logits of each class; one row per image, pixels in 0 to 1.
    pub fn forward(&self, pixels: Tensor<2>) -> Tensor<2> {
        let hidden = relu(self.hidden1.forward(pixels));
        let hidden = relu(self.hidden2.forward(hidden));
        self.output.forward(hidden)
    }

    /// # Errors
    /// The device does not give the numbers back, or one of them is none.
    pub fn to_artifact(&self, architecture: Architecture) -> Result<Artifact, ArtifactError> {
        let mut weights = Weights::default();
        weights.linear("hidden1", &self.hidden1)?;
        weights.linear("hidden2", &self.hidden2)?;
        weights.linear("output", &self.output)?;
        Artifact::new(architecture, weights.tensors)
    }
}
