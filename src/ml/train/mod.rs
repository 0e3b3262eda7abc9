//! How a model comes to be: seeded loops over AdamW, the same bytes from the same job on one kind of machine (M11).
//!
//! What a step shows the model is drawn from the job's seed alone, in the calling thread; nothing depends on how the
//! work inside a step is spread. A loss that is no number ends the job, never the node.

pub mod series;

use std::f64::consts::PI;

use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::ml::data::transform;
use crate::ml::engine::{Control, EngineError, Progress, Trained};
use crate::ml::model::byte_gpt::ByteGpt;
use crate::ml::model::byte_mlp::{ByteMlp, window};
use crate::ml::model::conv::Conv;
use crate::ml::model::forecasters::{Patches, Regression};
use crate::ml::model::mlp::Mlp;
use crate::ml::model::{Architecture, Artifact};
use crate::protocol::chance::Chance;
use crate::protocol::ids::hash;
use crate::protocol::query::{CLASSES, PIXEL_MAX, PIXELS};

/// What a model learns from; ndarray is the currency (M6).
#[derive(Clone, Debug, PartialEq)]
pub enum TrainData {
    /// Rows of 64 pixels with the digit of each; every showing is changed a little, as challenges are.
    Images { images: ndarray::Array2<u8>, labels: Vec<u8> },
    /// Passages of text; a context never reaches across two of them.
    Bytes { passages: Vec<Vec<u8>> },
    /// Runs of hours; windows are drawn from them and changed, as challenges are.
    Series { runs: Vec<Vec<f32>> },
}

/// One training, complete: equal jobs give equal weights.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainJob {
    pub architecture: Architecture,
    pub data: TrainData,
    pub steps: u64,
    /// Samples per step.
    pub batch: usize,
    /// At its peak; warmed up over the first steps, then down a cosine to a tenth.
    pub learning_rate: f64,
    pub seed: u64,
}

/// Samples one step may hold.
pub const BATCH_MAX: usize = 1 << 16;
/// Steps between two words about progress.
const PROGRESS_STEPS: u64 = 10;
/// Share of the steps in which the learning rate rises.
const WARM_UP: f64 = 0.05;
/// Share of the peak at which the learning rate ends.
const COOL_DOWN: f64 = 0.1;

impl TrainJob {
    /// # Errors
    /// Numbers out of bounds, or data of another kind than the architecture reads; says which.
    pub fn check(&self) -> Result<(), EngineError> {
        self.architecture.check()?;
        let wrong = |text: String| Err(EngineError::Job(text));
        if !(1..=BATCH_MAX).contains(&self.batch) {
            return wrong(format!("batch = {}, allowed are 1 to {BATCH_MAX}", self.batch));
        }
        if !(self.learning_rate > 0.0 && self.learning_rate <= 1.0) {
            return wrong(format!("learning_rate = {}, allowed is up to 1", self.learning_rate));
        }
        match (&self.architecture, &self.data) {
            (Architecture::Mlp { .. } | Architecture::Conv { .. }, TrainData::Images { images, labels }) => {
                check_images(images, labels)
            }
            (
                Architecture::Seasonal { .. } | Architecture::Linear { .. } | Architecture::Patches { .. },
                TrainData::Series { runs },
            ) => series::check_runs(runs),
            (Architecture::ByteMlp { .. } | Architecture::ByteGpt { .. }, TrainData::Bytes { passages }) => {
                if passages.iter().all(Vec::is_empty) { wrong("there is no text".to_owned()) } else { Ok(()) }
            }
            (architecture, _) => wrong(format!("the data are not what {} learns from", architecture.name())),
        }
    }
}

/// # Errors
/// No images, rows of another length, labels that do not match.
pub fn check_images(images: &ndarray::Array2<u8>, labels: &[u8]) -> Result<(), EngineError> {
    if images.nrows() == 0 || images.ncols() != PIXELS || labels.len() != images.nrows() {
        let (found, labels) = (images.shape(), labels.len());
        return Err(EngineError::Job(format!(
            "images of shape {found:?} and {labels} labels, expected rows of {PIXELS}"
        )));
    }
    match labels.iter().find(|&&label| usize::from(label) >= CLASSES) {
        Some(label) => Err(EngineError::Job(format!("label {label}, there are {CLASSES} classes"))),
        None => Ok(()),
    }
}

/// Trains from `start` on a plain device; autodiff is added here.
///
/// # Errors
/// A job that does not hold together, told to stop, or no number for a loss.
pub fn train(start: &Artifact, job: &TrainJob, control: &Control<'_>, device: &Device) -> Result<Trained, EngineError> {
    job.check()?;
    if start.architecture() != job.architecture {
        let (found, asked) = (start.architecture(), job.architecture);
        return Err(EngineError::Job(format!("start is {found:?}, the job wants {asked:?}")));
    }
    let device = device.clone().autodiff();
    let mut chance = Chance::from(hash("starling/1 training", &[&job.seed.to_le_bytes()]));
    let architecture = job.architecture;
    let (artifact, losses) = match (architecture, &job.data) {
        (Architecture::Mlp { .. }, TrainData::Images { images, labels }) => {
            let model = Mlp::from_artifact(start, &device)?;
            let (model, losses) = fit(model, job, control, |model: &Mlp| {
                let (pixels, truth) = draw_images(images, labels, job.batch, &mut chance);
                cross_entropy(model.forward(pixel_rows(pixels, &device)), truth, &device).mean()
            })?;
            (model.to_artifact(architecture)?, losses)
        }
        (Architecture::Conv { .. }, TrainData::Images { images, labels }) => {
            let model = Conv::from_artifact(start, &device)?;
            let (model, losses) = fit(model, job, control, |model: &Conv| {
                let (pixels, truth) = draw_images(images, labels, job.batch, &mut chance);
                cross_entropy(model.forward(pixel_rows(pixels, &device)), truth, &device).mean()
            })?;
            (model.to_artifact(architecture)?, losses)
        }
        (Architecture::ByteMlp { context, .. }, TrainData::Bytes { passages }) => {
            let model = ByteMlp::from_artifact(start, &device)?;
            let places = Places::new(passages);
            let (model, losses) = fit(model, job, control, |model: &ByteMlp| {
                let (contexts, truth) = places.draw(context, job.batch, &mut chance);
                cross_entropy(model.forward(byte_rows(contexts, context, &device)), truth, &device).mean()
            })?;
            (model.to_artifact(architecture)?, losses)
        }
        (Architecture::ByteGpt { context, layers, heads, .. }, TrainData::Bytes { passages }) => {
            let model = ByteGpt::from_artifact(start, layers, &device)?;
            let places = Places::new(passages);
            let (model, losses) = fit(model, job, control, |model: &ByteGpt| {
                let (contexts, last) = places.draw(context, job.batch, &mut chance);
                let truth = shifted(&contexts, &last, context);
                cross_entropy(model.forward_all(byte_rows(contexts, context, &device), heads), truth, &device).mean()
            })?;
            (model.to_artifact(architecture)?, losses)
        }
        (Architecture::Linear { seasons }, TrainData::Series { runs }) => {
            let model = Regression::from_artifact(start, &device)?;
            let (model, losses) = fit(model, job, control, |model: &Regression| {
                let rows = series::draw(runs, seasons, job.batch, &mut chance);
                series::pinball(model.forward(rows.inputs(&device)), &rows, &device).mean()
            })?;
            (model.to_artifact(architecture)?, losses)
        }
        (Architecture::Patches { seasons, layers, heads, .. }, TrainData::Series { runs }) => {
            let model = Patches::from_artifact(start, layers, &device)?;
            let (model, losses) = fit(model, job, control, |model: &Patches| {
                let rows = series::draw(runs, seasons, job.batch, &mut chance);
                series::pinball(model.forward(rows.inputs(&device), heads), &rows, &device).mean()
            })?;
            (model.to_artifact(architecture)?, losses)
        }
        (Architecture::Seasonal { seasons }, TrainData::Series { runs }) => {
            return series::fit_seasonal(job, runs, seasons, control, &mut chance);
        }
        _ => return Err(EngineError::Job("the data are not what the model learns from".to_owned())),
    };
    Ok(Trained { artifact, losses })
}

/// The byte after each place of each context: the context itself one place on, then the one after its last.
fn shifted(contexts: &[u8], last: &[u8], context: usize) -> Vec<u8> {
    let rows = contexts.chunks(context.max(1)).zip(last);
    rows.flat_map(|(row, last)| row.iter().skip(1).chain(std::iter::once(last)).copied()).collect()
}

/// The loop: `loss` draws a batch and shows it to the model.
fn fit<M: Module>(
    mut model: M,
    job: &TrainJob,
    control: &Control<'_>,
    mut loss: impl FnMut(&M) -> Tensor<1>,
) -> Result<(M, Vec<f32>), EngineError> {
    let mut optimiser = AdamWConfig::new().with_weight_decay(0.01).with_beta_2(0.99).init();
    let steps = job.steps.min(control.steps_max);
    let mut losses = Vec::new();
    let mut recent = 0.0_f32;
    for step in 0..steps {
        control.go_on(step)?;
        let value = loss(&model);
        let gradients = GradientsParams::from_grads(value.backward(), &model);
        let number: f32 = value.try_into_scalar().map_err(|e| EngineError::Device(e.to_string()))?;
        if !number.is_finite() {
            return Err(EngineError::Diverged { step });
        }
        losses.push(number);
        model = optimiser.step(rate(job.learning_rate, step, job.steps), model, gradients);
        recent = if step == 0 { number } else { recent * 0.9 + number * 0.1 };
        if (step + 1) % PROGRESS_STEPS == 0 || step + 1 == steps {
            (control.progress)(Progress { step: step + 1, steps, loss: recent });
        }
    }
    Ok((model, losses))
}

/// Up a line, then down a cosine.
fn rate(peak: f64, step: u64, steps: u64) -> f64 {
    let (step, steps) = (step as f64, steps.max(1) as f64);
    let warm = (steps * WARM_UP).max(1.0);
    if step + 1.0 < warm {
        return peak * (step + 1.0) / warm;
    }
    let along = ((step - warm) / (steps - warm).max(1.0)).clamp(0.0, 1.0);
    peak * (COOL_DOWN + (1.0 - COOL_DOWN) * 0.5 * (1.0 + (PI * along).cos()))
}

/// Cross-entropy of each row in nats.
pub fn cross_entropy(logits: Tensor<2>, truth: Vec<u8>, device: &Device) -> Tensor<1> {
    let rows = truth.len();
    let truth = Tensor::<2, Int>::from_data(TensorData::new(numbers(truth), [rows, 1]), device);
    log_softmax(logits, 1).gather(1, truth).neg().reshape([rows])
}

/// Rows of pixels as the model reads them, in 0 to 1.
pub fn pixel_rows(pixels: Vec<u8>, device: &Device) -> Tensor<2> {
    let rows = pixels.len() / PIXELS;
    let scaled: Vec<f32> = pixels.into_iter().map(|p| f32::from(p) / f32::from(PIXEL_MAX)).collect();
    Tensor::from_data(TensorData::new(scaled, [rows, PIXELS]), device)
}

/// Rows of context as the model reads them.
pub fn byte_rows(bytes: Vec<u8>, context: usize, device: &Device) -> Tensor<2, Int> {
    let rows = bytes.len() / context.max(1);
    Tensor::from_data(TensorData::new(numbers(bytes), [rows, context]), device)
}

fn numbers(bytes: Vec<u8>) -> Vec<i64> {
    bytes.into_iter().map(i64::from).collect()
}

fn draw_images(images: &ndarray::Array2<u8>, labels: &[u8], batch: usize, chance: &mut Chance) -> (Vec<u8>, Vec<u8>) {
    let (mut pixels, mut truth) = (Vec::with_capacity(batch * PIXELS), Vec::with_capacity(batch));
    while truth.len() < batch {
        let index = chance.index(labels.len());
        let row = images.row(index).to_vec();
        pixels.extend(transform::changed(&row, chance));
        truth.push(labels.get(index).copied().unwrap_or(0));
    }
    (pixels, truth)
}

/// Every byte of some passages as a place to predict.
struct Places<'a> {
    passages: &'a [Vec<u8>],
    /// For each passage, the bytes up to its end.
    ends: Vec<usize>,
}

impl<'a> Places<'a> {
    fn new(passages: &'a [Vec<u8>]) -> Self {
        let ends = passages.iter().scan(0, |end, passage| {
            *end += passage.len();
            Some(*end)
        });
        Self { passages, ends: ends.collect() }
    }

    /// `batch` contexts and the byte after each.
    fn draw(&self, context: usize, batch: usize, chance: &mut Chance) -> (Vec<u8>, Vec<u8>) {
        let total = self.ends.last().copied().unwrap_or(0);
        let (mut contexts, mut truth) = (Vec::with_capacity(batch * context), Vec::with_capacity(batch));
        while truth.len() < batch {
            let place = chance.index(total);
            let which = self.ends.partition_point(|&end| end <= place);
            let passage = self.passages.get(which).map_or(&[][..], Vec::as_slice);
            let begin = which.checked_sub(1).and_then(|w| self.ends.get(w)).copied().unwrap_or(0);
            let (before, after) = passage.split_at_checked(place - begin).unwrap_or_default();
            contexts.extend(window(before, context));
            truth.push(after.first().copied().unwrap_or(0));
        }
        (contexts, truth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_falls_and_stays_positive() {
        let rates: Vec<f64> = (0..200).map(|step| rate(1.0, step, 200)).collect();
        assert!(rates[0] < rates[5] && rates[5] < rates[9]);
        assert!((rates[10] - 1.0).abs() < 1e-9 && rates[100] < 0.7);
        assert!((rates[199] - COOL_DOWN).abs() < 0.01);
        assert!(rate(1.0, 0, 1) > 0.0);
    }

    #[test]
    fn places_never_reach_across_passages() {
        let passages = vec![b"aaaa".to_vec(), vec![], b"bbb".to_vec()];
        let places = Places::new(&passages);
        let (contexts, truth) = places.draw(3, 500, &mut Chance::from_seed([1; 32]));
        for (context, next) in contexts.chunks(3).zip(&truth) {
            assert!(context.iter().all(|b| b == next || *b == b'\n'), "{context:?} {next}");
        }
        let share = truth.iter().filter(|&&b| b == b'a').count();
        assert!((230..340).contains(&share), "{share}");
    }

    #[test]
    fn every_place_of_a_context_is_asked_for_the_byte_after_it() {
        assert_eq!(shifted(b"abcxyz", b"dw", 3), b"bcdyzw");
    }

    #[test]
    fn a_job_that_does_not_hold_together_is_refused() {
        let job = TrainJob {
            architecture: Architecture::Mlp { hidden: 4 },
            data: TrainData::Images { images: ndarray::Array2::zeros((2, PIXELS)), labels: vec![0, 9] },
            steps: 1,
            batch: 2,
            learning_rate: 0.01,
            seed: 0,
        };
        assert_eq!(job.check(), Ok(()));
        let images = |labels: Vec<u8>, width| TrainData::Images { images: ndarray::Array2::zeros((2, width)), labels };
        let bad = [
            (TrainJob { batch: 0, ..job.clone() }, "batch"),
            (TrainJob { learning_rate: f64::NAN, ..job.clone() }, "learning_rate"),
            (TrainJob { architecture: Architecture::Mlp { hidden: 0 }, ..job.clone() }, "hidden"),
            (TrainJob { data: images(vec![0], PIXELS), ..job.clone() }, "1 labels"),
            (TrainJob { data: images(vec![0, 10], PIXELS), ..job.clone() }, "label 10"),
            (TrainJob { data: images(vec![0, 1], 63), ..job.clone() }, "[2, 63]"),
            (TrainJob { data: TrainData::Bytes { passages: vec![] }, ..job }, "not what mlp"),
        ];
        for (job, word) in bad {
            let text = job.check().unwrap_err().to_string();
            assert!(text.contains(word), "{text}");
        }
    }
}
