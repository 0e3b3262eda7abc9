//! The digit classifier that sees neighbours: two layers of 3x3 filters over the image, one hidden layer, ten classes.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::activation::relu;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor};

use super::layers::{self, Filter, Weights};
use super::{Architecture, Artifact, ArtifactError};

/// Pixels of a side.
pub const SIDE: usize = 8;
/// Pixels of a side after the second layer, which takes every second place.
pub const HALF: usize = SIDE / 2;
/// Pixels of a filter's side.
pub const FILTER: usize = 3;

/// Its layers on a device.
#[derive(Module, Debug)]
pub struct Conv {
    filter1: Filter,
    filter2: Filter,
    hidden: Linear,
    output: Linear,
}

impl Conv {
    /// # Errors
    /// The artifact is of another architecture.
    pub fn from_artifact(artifact: &Artifact, device: &Device) -> Result<Self, ArtifactError> {
        Ok(Self {
            filter1: layers::filter(artifact, "filter1", device)?,
            filter2: layers::filter(artifact, "filter2", device)?,
            hidden: layers::linear(artifact, "hidden", device)?,
            output: layers::linear(artifact, "output", device)?,
        })
    }

    /// Logits of each class; one row per image, pixels in 0 to 1.
    pub fn forward(&self, pixels: Tensor<2>) -> Tensor<2> {
        let [rows, _] = pixels.dims();
        let image = pixels.reshape([rows, 1, SIDE, SIDE]);
        let seen = relu(pass(&self.filter1, image, 1));
        let seen: Tensor<2> = relu(pass(&self.filter2, seen, 2)).flatten(1, 3);
        self.output.forward(relu(self.hidden.forward(seen)))
    }

    /// # Errors
    /// The device does not give the numbers back, or one of them is none.
    pub fn to_artifact(&self, architecture: Architecture) -> Result<Artifact, ArtifactError> {
        let mut weights = Weights::default();
        weights.filter("filter1", &self.filter1)?;
        weights.filter("filter2", &self.filter2)?;
        weights.linear("hidden", &self.hidden)?;
        weights.linear("output", &self.output)?;
        Artifact::new(architecture, weights.tensors)
    }
}

fn pass(filter: &Filter, image: Tensor<4>, stride: usize) -> Tensor<4> {
    let options = ConvOptions::new([stride; 2], [FILTER / 2; 2], [1, 1], 1);
    conv2d(image, filter.weight.val(), Some(filter.bias.val()), options)
}
