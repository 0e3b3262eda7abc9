//! Between plain tensors and a framework's layers: the only place where weights change their form.

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::nn::{LayerNorm, Linear};
use burn::tensor::{Device, Tensor as Array, TensorData};

use super::{Architecture, Artifact, ArtifactError, Tensor};
use crate::protocol::chance::Chance;
use crate::protocol::ids::hash;

/// One tensor of an artifact as a parameter.
pub(super) fn param<const D: usize>(
    artifact: &Artifact,
    name: &str,
    device: &Device,
) -> Result<Param<Array<D>>, ArtifactError> {
    let tensor = artifact.tensors().get(name).ok_or_else(|| ArtifactError::Missing(name.to_owned()))?;
    if tensor.shape.len() != D {
        return Err(ArtifactError::Tensor {
            name: name.to_owned(),
            what: "rank",
            found: tensor.shape.len().to_string(),
            expected: D.to_string(),
        });
    }
    Ok(Param::from_data(TensorData::new(tensor.values.clone(), tensor.shape.clone()), device))
}

pub(super) fn linear(artifact: &Artifact, name: &str, device: &Device) -> Result<Linear, ArtifactError> {
    Ok(Linear {
        weight: param(artifact, &format!("{name}.weight"), device)?,
        bias: Some(param(artifact, &format!("{name}.bias"), device)?),
    })
}

/// Filters over an image: outputs x inputs x height x width, and one number added for each output.
#[derive(Module, Debug)]
pub(super) struct Filter {
    pub(super) weight: Param<Array<4>>,
    pub(super) bias: Param<Array<1>>,
}

pub(super) fn filter(artifact: &Artifact, name: &str, device: &Device) -> Result<Filter, ArtifactError> {
    let weight = param(artifact, &format!("{name}.weight"), device)?;
    Ok(Filter { weight, bias: param(artifact, &format!("{name}.bias"), device)? })
}

/// Collects the parameters of a model by name.
#[derive(Debug, Default)]
pub(super) struct Weights {
    pub(super) tensors: BTreeMap<String, Tensor>,
}

impl Weights {
    pub(super) fn param<const D: usize>(&mut self, name: &str, param: &Param<Array<D>>) -> Result<(), ArtifactError> {
        let array = param.val();
        let shape = array.dims().to_vec();
        // A device that does not give its numbers back leaves the tensor missing.
        let values = array.try_into_vec_as().map_err(|_| ArtifactError::Missing(name.to_owned()))?;
        self.tensors.insert(name.to_owned(), Tensor { shape, values });
        Ok(())
    }

    pub(super) fn linear(&mut self, name: &str, layer: &Linear) -> Result<(), ArtifactError> {
        self.param(&format!("{name}.weight"), &layer.weight)?;
        layer.bias.as_ref().map_or(Ok(()), |bias| self.param(&format!("{name}.bias"), bias))
    }

    pub(super) fn filter(&mut self, name: &str, filter: &Filter) -> Result<(), ArtifactError> {
        self.param(&format!("{name}.weight"), &filter.weight)?;
        self.param(&format!("{name}.bias"), &filter.bias)
    }

    pub(super) fn norm(&mut self, name: &str, norm: &LayerNorm) -> Result<(), ArtifactError> {
        self.param(&format!("{name}.gamma"), &norm.gamma)?;
        norm.beta.as_ref().map_or(Ok(()), |beta| self.param(&format!("{name}.beta"), beta))
    }
}

/// Fresh weights drawn by a seed: uniform and wider the fewer inputs (He), embeddings and the ways out of a block small,
/// norms one, biases, straight ways and the table of pairs zero. Drawn here and not by the framework, whose generator is one per process.
///
/// # Errors
/// A shaping number is out of bounds.
pub fn fresh(architecture: Architecture, seed: u64) -> Result<Artifact, ArtifactError> {
    architecture.check()?;
    let mut tensors = BTreeMap::new();
    for (name, shape) in architecture.shapes() {
        let count: usize = shape.iter().product();
        let inputs = match shape.as_slice() {
            [_, inputs @ .., _, _] if !inputs.is_empty() => shape.iter().skip(1).product(),
            shape => shape.first().copied().unwrap_or(1),
        };
        let inputs = inputs.max(1) as f32;
        let middle = if name.ends_with(".gamma") { 1.0 } else { 0.0 };
        let spread = match name.as_str() {
            "bigram.weight" | "skip.weight" => 0.0,
            "embedding.weight" => 0.5,
            "position.weight" => 0.1,
            "output.weight" => inputs.recip().sqrt(),
            name if name.ends_with(".project.weight") || name.ends_with(".down.weight") => 0.5 * inputs.recip().sqrt(),
            name if name.ends_with(".weight") => (6.0 / inputs).sqrt(),
            _ => 0.0,
        };
        // A stream per tensor, so that one tensor's size never shifts another's draws.
        let mut chance = Chance::from(hash("starling/1 fresh weights", &[&seed.to_le_bytes(), name.as_bytes()]));
        #[expect(clippy::cast_possible_truncation, reason = "a draw; the nearest float will do")]
        let values = (0..count).map(|_| middle + spread * (2.0 * unit(&mut chance) as f32 - 1.0)).collect();
        tensors.insert(name, Tensor { shape, values });
    }
    Artifact::new(architecture, tensors)
}

/// Uniform in [0, 1) from 53 bits.
pub fn unit(chance: &mut Chance) -> f64 {
    (chance.u64() >> 11) as f64 / (1_u64 << 53) as f64
}
