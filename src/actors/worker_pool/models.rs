//! The models a node can answer with, within a bound of bytes; the least recently used make room.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ml::engine::Handle;
use crate::ml::model::Artifact;

/// Why a model is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// It does not fit even alone.
    #[error("a model of {needed} bytes, at most {max} are kept")]
    TooLarge { needed: u64, max: u64 },
    #[error("the model could not be hashed")]
    Failed,
}

#[derive(Debug)]
struct Kept {
    artifact: Arc<Artifact>,
    bytes: u64,
    /// When it was last wanted, counted in wants.
    used: u64,
}

/// Invariant: the sum of the bytes kept is never over the bound.
#[derive(Debug)]
pub(super) struct ModelStore {
    bytes_max: u64,
    bytes: u64,
    wants: u64,
    models: BTreeMap<Handle, Kept>,
}

impl ModelStore {
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max, bytes: 0, wants: 0, models: BTreeMap::new() }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn contains(&self, handle: &Handle) -> bool {
        self.models.contains_key(handle)
    }

    pub fn handles(&self) -> impl Iterator<Item = Handle> + '_ {
        self.models.keys().copied()
    }

    /// Keeps a model; `handle` is its artifact's id. How many others had to go.
    pub fn insert(&mut self, handle: Handle, artifact: Arc<Artifact>) -> Result<usize, LoadError> {
        let needed = artifact.architecture().weight_bytes();
        if needed > self.bytes_max {
            return Err(LoadError::TooLarge { needed, max: self.bytes_max });
        }
        self.wants += 1;
        if let Some(kept) = self.models.get_mut(&handle) {
            kept.used = self.wants;
            return Ok(0);
        }
        let mut gone = 0;
        while self.bytes + needed > self.bytes_max {
            let Some(oldest) = self.models.iter().min_by_key(|(_, kept)| kept.used).map(|(handle, _)| *handle) else {
                break;
            };
            if let Some(kept) = self.models.remove(&oldest) {
                self.bytes = self.bytes.saturating_sub(kept.bytes);
                gone += 1;
            }
        }
        self.bytes += needed;
        self.models.insert(handle, Kept { artifact, bytes: needed, used: self.wants });
        Ok(gone)
    }

    pub fn want(&mut self, handle: &Handle) -> Option<Arc<Artifact>> {
        self.wants += 1;
        let kept = self.models.get_mut(handle)?;
        kept.used = self.wants;
        Some(Arc::clone(&kept.artifact))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ml::model::{Architecture, Tensor};

    fn model(hidden: usize) -> (Handle, Arc<Artifact>) {
        let architecture = Architecture::Mlp { hidden };
        let tensors = architecture.shapes().into_iter().map(|(name, shape)| {
            let values = vec![0.0; shape.iter().product()];
            (name, Tensor { shape, values })
        });
        let artifact = Artifact::new(architecture, tensors.collect()).unwrap();
        (artifact.id(), Arc::new(artifact))
    }

    #[test]
    fn the_least_recently_used_makes_room() {
        let models: Vec<_> = (4..8).map(model).collect();
        let bytes: u64 = models[..3].iter().map(|(_, m)| m.architecture().weight_bytes()).sum();
        let mut store = ModelStore::new(bytes);
        for (handle, artifact) in &models[..3] {
            assert_eq!(store.insert(*handle, Arc::clone(artifact)), Ok(0));
        }
        assert_eq!(store.bytes(), bytes);
        assert!(store.want(&models[0].0).is_some());
        assert_eq!(store.insert(models[3].0, Arc::clone(&models[3].1)), Ok(2));
        assert!(store.contains(&models[0].0) && !store.contains(&models[1].0) && !store.contains(&models[2].0));
        assert_eq!(store.insert(models[3].0, Arc::clone(&models[3].1)), Ok(0), "known already");
        assert!(store.bytes() <= bytes && store.handles().count() == 2);

        let mut small = ModelStore::new(10);
        assert!(matches!(
            small.insert(models[0].0, Arc::clone(&models[0].1)),
            Err(LoadError::TooLarge { max: 10, .. })
        ));
    }
}
