//! One block of a transformer: every place looks at others, then thinks for itself; both beside a straight way through
//! (Vaswani and others, 2017, with the norms in front).

use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig, Linear};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::{Device, Tensor, TensorData};

use super::layers::{self, Weights};
use super::{Artifact, ArtifactError};

/// Hidden units for each number of a place.
pub const WIDER: usize = 4;
/// What is added to the score of a place that may not be seen.
const HIDDEN: f32 = -1e9;

/// Its layers on a device.
#[derive(Module, Debug)]
pub struct Block {
    norm1: LayerNorm,
    /// Query, key and value side by side.
    look: Linear,
    project: Linear,
    norm2: LayerNorm,
    up: Linear,
    down: Linear,
}

/// The shapes of a block's tensors.
pub(super) fn shapes(layer: usize, embedding: usize) -> impl Iterator<Item = (String, Vec<usize>)> {
    [
        ("down.bias", vec![embedding]),
        ("down.weight", vec![WIDER * embedding, embedding]),
        ("look.bias", vec![3 * embedding]),
        ("look.weight", vec![embedding, 3 * embedding]),
        ("norm1.beta", vec![embedding]),
        ("norm1.gamma", vec![embedding]),
        ("norm2.beta", vec![embedding]),
        ("norm2.gamma", vec![embedding]),
        ("project.bias", vec![embedding]),
        ("project.weight", vec![embedding, embedding]),
        ("up.bias", vec![WIDER * embedding]),
        ("up.weight", vec![embedding, WIDER * embedding]),
    ]
    .into_iter()
    .map(move |(name, shape)| (format!("{}.{name}", name_of(layer)), shape))
}

fn name_of(layer: usize) -> String {
    format!("block{layer:02}")
}

pub(super) fn norm(artifact: &Artifact, name: &str, device: &Device) -> Result<LayerNorm, ArtifactError> {
    let gamma = layers::param(artifact, &format!("{name}.gamma"), device)?;
    let beta = layers::param(artifact, &format!("{name}.beta"), device)?;
    let [width] = gamma.val().dims();
    let mut norm = LayerNormConfig::new(width).init(device);
    (norm.gamma, norm.beta) = (gamma, Some(beta));
    Ok(norm)
}

impl Block {
    pub(super) fn from_artifact(artifact: &Artifact, layer: usize, device: &Device) -> Result<Self, ArtifactError> {
        let block = name_of(layer);
        let linear = |name: &str| layers::linear(artifact, &format!("{block}.{name}"), device);
        Ok(Self {
            norm1: norm(artifact, &format!("{block}.norm1"), device)?,
            look: linear("look")?,
            project: linear("project")?,
            norm2: norm(artifact, &format!("{block}.norm2"), device)?,
            up: linear("up")?,
            down: linear("down")?,
        })
    }

    pub(super) fn collect(&self, layer: usize, weights: &mut Weights) -> Result<(), ArtifactError> {
        let block = name_of(layer);
        weights.norm(&format!("{block}.norm1"), &self.norm1)?;
        weights.linear(&format!("{block}.look"), &self.look)?;
        weights.linear(&format!("{block}.project"), &self.project)?;
        weights.norm(&format!("{block}.norm2"), &self.norm2)?;
        weights.linear(&format!("{block}.up"), &self.up)?;
        weights.linear(&format!("{block}.down"), &self.down)
    }

    /// Places in, places out: rows x places x numbers, with the mask of `causal` or none.
    pub(super) fn forward(&self, places: Tensor<3>, heads: usize, mask: Option<Tensor<4>>) -> Tensor<3> {
        let [rows, count, width] = places.dims();
        let each = width / heads.max(1);
        // Flat for the products: one large one is faster than many small ones.
        let flat = |x: Tensor<3>| -> Tensor<2> { x.reshape([rows * count, width]) };
        let looks = self.look.forward(flat(self.norm1.forward(places.clone())));
        let part = |i: usize| {
            let part = looks.clone().slice([0..rows * count, i * width..(i + 1) * width]);
            part.reshape([rows, count, heads, each]).swap_dims(1, 2)
        };
        let scores = part(0).matmul(part(1).swap_dims(2, 3)) / (each as f64).sqrt();
        let scores = match mask {
            Some(mask) => scores + mask,
            None => scores,
        };
        let seen = softmax(scores, 3).matmul(part(2)).swap_dims(1, 2).reshape([rows * count, width]);
        let places = places + self.project.forward(seen).reshape([rows, count, width]);
        let thought = self.down.forward(relu(self.up.forward(flat(self.norm2.forward(places.clone())))));
        places + thought.reshape([rows, count, width])
    }
}

/// Hides from every place what comes after it.
pub(super) fn causal(count: usize, device: &Device) -> Tensor<4> {
    let hidden = (0..count * count).map(|i| if i % count > i / count { HIDDEN } else { 0.0 }).collect::<Vec<f32>>();
    Tensor::from_data(TensorData::new(hidden, [1, 1, count, count]), device)
}
