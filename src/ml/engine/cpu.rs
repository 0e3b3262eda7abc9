//! The engine every node has: burn's `flex` backend on the processor, one thread per instance (M7, M10).
//!
//! Several instances of one thread each use a machine better than one of many threads, and a busy machine hurts them
//! less. An instance owns a pool of one thread and runs everything there; the caller waits. Models share the instance's
//! memory budget and leave it only by `unload`.

mod network;

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};

use self::network::{Network, host};
use super::{
    Caps, Control, Determinism, Engine, EngineError, EvalJob, Evaluated, Handle, Inferred, Info, Sink, Trained,
};
use crate::ml::data::series::WINDOW;
use crate::ml::model::layers::fresh;
use crate::ml::model::{Architecture, Artifact};
use crate::ml::train::series::{Rows, pinball};
use crate::ml::train::{self, TrainJob, cross_entropy};
use crate::protocol::ids::{Digest, hash};
use crate::protocol::query::{QUANTILES_MILLI, Query, Usage};

const NAME: &str = "cpu";
/// The engine's own version with the backend's: another backend may round otherwise.
const VERSION: &str = "1+burn-flex-0.22";
/// Models of one instance, unless told otherwise.
pub const MEMORY_BYTES: u64 = 256 << 20;
/// Rows of one evaluation step.
const EVAL_ROWS: usize = 512;

#[derive(Debug)]
struct Loaded {
    network: Network,
    artifact: Artifact,
}

/// The processor.
#[derive(Debug)]
pub struct CpuEngine {
    device: Device,
    thread: rayon::ThreadPool,
    models: BTreeMap<Handle, Loaded>,
    memory_bytes: u64,
}

impl CpuEngine {
    /// # Errors
    /// The thread cannot be started.
    pub fn new(memory_bytes: u64) -> Result<Self, EngineError> {
        let thread = rayon::ThreadPoolBuilder::new().num_threads(1).thread_name(|_| "engine-cpu".to_owned()).build();
        let thread = thread.map_err(|e| EngineError::Device(e.to_string()))?;
        Ok(Self { device: Device::flex(), thread, models: BTreeMap::new(), memory_bytes })
    }

    /// The loaded models by id.
    pub fn models(&self) -> impl Iterator<Item = Handle> + '_ {
        self.models.keys().copied()
    }

    fn memory_free(&self) -> u64 {
        let used: u64 = self.models.values().map(|m| cost(&m.artifact.architecture())).sum();
        self.memory_bytes.saturating_sub(used)
    }

    fn loaded(&self, handle: Handle) -> Result<&Loaded, EngineError> {
        self.models.get(&handle).ok_or(EngineError::UnknownModel(handle))
    }
}

/// A model takes its weights twice: on the device, and plain for `export`.
fn cost(architecture: &Architecture) -> u64 {
    2 * architecture.weight_bytes()
}

/// The widest instructions the backend's matrix kernels find here.
fn isa() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            return "avx512";
        }
        if std::arch::is_x86_feature_detected!("fma") {
            return "avx2+fma";
        }
        "sse2"
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        std::env::consts::ARCH
    }
}

impl Engine for CpuEngine {
    fn info(&self) -> Info {
        let isa = isa();
        Info {
            name: NAME,
            version: VERSION,
            device: std::env::consts::ARCH.to_owned(),
            isa,
            threads: self.thread.current_num_threads(),
            memory_free: self.memory_free(),
            fingerprint: fingerprint(isa),
        }
    }

    fn caps(&self) -> Caps {
        Caps { train: true, eval: true, generate: true, classify: true, logprobs: true, forecast: true, honest: true }
    }

    fn determinism(&self) -> Determinism {
        Determinism::BitExact { fingerprint: fingerprint(isa()) }
    }

    fn load(&mut self, artifact: &Artifact) -> Result<Handle, EngineError> {
        let handle = artifact.id();
        if self.models.contains_key(&handle) {
            return Ok(handle);
        }
        let architecture = artifact.architecture();
        let (needed, free) = (cost(&architecture), self.memory_free());
        if needed > free {
            return Err(EngineError::Memory { needed, free });
        }
        let network = Network::from_artifact(artifact, &self.device)?;
        self.models.insert(handle, Loaded { network, artifact: artifact.clone() });
        Ok(handle)
    }

    fn unload(&mut self, handle: Handle) -> bool {
        self.models.remove(&handle).is_some()
    }

    fn export(&self, handle: Handle) -> Result<Artifact, EngineError> {
        self.loaded(handle).map(|loaded| loaded.artifact.clone())
    }

    fn train(&mut self, start: Option<Handle>, job: &TrainJob, control: &Control<'_>) -> Result<Trained, EngineError> {
        let start = match start {
            Some(handle) => self.loaded(handle)?.artifact.clone(),
            None => fresh(job.architecture, job.seed)?,
        };
        let device = &self.device;
        self.thread.install(|| train::train(&start, job, control, device))
    }

    fn eval(&mut self, handle: Handle, job: &EvalJob, control: &Control<'_>) -> Result<Evaluated, EngineError> {
        let network = &self.loaded(handle)?.network;
        let device = &self.device;
        self.thread.install(|| evaluate(network, job, control, device))
    }

    fn infer(
        &mut self,
        handle: Handle,
        query: &Query,
        control: &Control<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<Inferred, EngineError> {
        query.check()?;
        control.go_on(0)?;
        let loaded = self.loaded(handle)?;
        let device = &self.device;
        let answer = self.thread.install(|| loaded.network.answer(query, control, sink, device))?;
        let answer = answer.ok_or_else(|| {
            let architecture = loaded.artifact.architecture().name();
            EngineError::Mismatch { architecture, query: query.kind() }
        })?;
        let usage = Usage::of(query, &answer);
        Ok(Inferred { answer, usage })
    }
}

fn fingerprint(isa: &str) -> Digest {
    hash("starling/1 engine", &[NAME.as_bytes(), b"\0", VERSION.as_bytes(), b"\0", isa.as_bytes()])
}

fn evaluate(
    network: &Network,
    job: &EvalJob,
    control: &Control<'_>,
    device: &Device,
) -> Result<Evaluated, EngineError> {
    let mut tally = Tally::default();
    let mismatch = || EngineError::Job("the questions are not what the model answers".to_owned());
    match job {
        EvalJob::Images { images, labels } => {
            train::check_images(images, labels)?;
            let pixels: Vec<u8> = images.iter().copied().collect();
            let width = images.ncols();
            for (pixels, truth) in pixels.chunks(EVAL_ROWS * width).zip(labels.chunks(EVAL_ROWS)) {
                control.go_on(tally.per_item.len() as u64)?;
                tally.add(network.images(pixels.to_vec(), device).ok_or_else(mismatch)?, truth, device)?;
            }
        }
        EvalJob::Bytes { contexts, next } => {
            if contexts.len() != next.len() || next.is_empty() {
                let (contexts, next) = (contexts.len(), next.len());
                return Err(EngineError::Job(format!("{contexts} contexts and {next} next bytes")));
            }
            for (contexts, truth) in contexts.chunks(EVAL_ROWS).zip(next.chunks(EVAL_ROWS)) {
                control.go_on(tally.per_item.len() as u64)?;
                let contexts = contexts.iter().map(Vec::as_slice);
                tally.add(network.bytes(contexts, device).ok_or_else(mismatch)?, truth, device)?;
            }
        }
        EvalJob::Series { windows } => {
            if windows.is_empty() || windows.iter().any(|window| window.len() != WINDOW) {
                return Err(EngineError::Job(format!("{} windows, each must hold {WINDOW} values", windows.len())));
            }
            let seasons = network.seasons().ok_or_else(mismatch)?;
            for windows in windows.chunks(EVAL_ROWS) {
                control.go_on(tally.per_item.len() as u64)?;
                let mut rows = Rows::default();
                windows.iter().for_each(|window| rows.push(window, seasons));
                tally.add_series(network.series(&rows, device)?.ok_or_else(mismatch)?, &rows, device)?;
            }
        }
    }
    Ok(tally.done())
}

#[derive(Default)]
struct Tally {
    per_item: Vec<f32>,
    right: f64,
}

impl Tally {
    fn add(&mut self, logits: Tensor<2>, truth: &[u8], device: &Device) -> Result<(), EngineError> {
        let [_, width] = logits.dims();
        let losses = cross_entropy(logits.clone(), truth.to_vec(), device);
        let losses: Vec<f32> = losses.try_into_vec_as().map_err(|e| EngineError::Device(e.to_string()))?;
        self.per_item.extend(losses);
        for (row, &truth) in host(logits)?.chunks(width).zip(truth) {
            // The first of the largest, as everywhere.
            let best =
                row.iter().enumerate().fold((0, f32::NEG_INFINITY), |b, (i, &l)| if l > b.1 { (i, l) } else { b });
            self.right += f64::from(u8::from(best.0 == usize::from(truth)));
        }
        Ok(())
    }

    /// Right is here what lies between the outermost quantiles.
    fn add_series(&mut self, outputs: Tensor<2>, rows: &Rows, device: &Device) -> Result<(), EngineError> {
        let losses = pinball(outputs.clone(), rows, device);
        let losses: Vec<f32> = losses.try_into_vec_as().map_err(|e| EngineError::Device(e.to_string()))?;
        self.per_item.extend(losses);
        let told = host(outputs)?;
        let steps = told.chunks(QUANTILES_MILLI.len()).zip(&rows.truth);
        let inside = steps.filter(|(step, truth)| {
            let (low, high) = step.iter().fold((f32::MAX, f32::MIN), |(low, high), q| (low.min(*q), high.max(*q)));
            (low..=high).contains(*truth)
        });
        self.right += inside.count() as f64 / (rows.truth.len() / rows.count.max(1)).max(1) as f64;
        Ok(())
    }

    fn done(self) -> Evaluated {
        let items = self.per_item.len().max(1) as f64;
        let loss = self.per_item.iter().map(|&l| f64::from(l)).sum::<f64>() / items;
        Evaluated { loss, accuracy: self.right / items, per_item: self.per_item }
    }
}

#[cfg(test)]
mod tests;
