//! How forecasters learn: windows drawn and changed as challenges are, and the pinball loss of quantiles (Koenker and
//! Bassett, 1978), in units of the seasonal difference.

use burn::tensor::{Device, Tensor, TensorData};

use super::TrainJob;
use crate::ml::data::series::{HISTORY, WINDOW, window};
use crate::ml::engine::{Control, EngineError, Progress, Trained};
use crate::ml::model::forecasters::Seasonal;
use crate::ml::model::frame::{Frame, OUTPUTS, SEASON};
use crate::ml::model::{Artifact, Tensor as Plain};
use crate::protocol::chance::Chance;
use crate::protocol::query::QUANTILES_MILLI;

/// Windows the gradient-free model looks at, at most.
const WINDOWS_MAX: u64 = 1 << 13;

/// # Errors
/// No run is as long as a window, or a value is none.
pub fn check_runs(runs: &[Vec<f32>]) -> Result<(), EngineError> {
    if runs.iter().flatten().any(|v| !v.is_finite()) {
        return Err(EngineError::Job("a series holds a value that is no number".to_owned()));
    }
    if runs.iter().all(|run| run.len() < WINDOW) {
        return Err(EngineError::Job(format!("no series is as long as a window of {WINDOW}")));
    }
    Ok(())
}

/// Some windows as a model sees them.
#[derive(Debug, Default)]
pub struct Rows {
    pub differences: Vec<f32>,
    /// The season ahead as corrections.
    pub truth: Vec<f32>,
    pub count: usize,
}

impl Rows {
    pub fn push(&mut self, window: &[f64], seasons: usize) {
        let (history, ahead) = window.split_at_checked(HISTORY).unwrap_or((window, &[]));
        let frame = Frame::new(history, SEASON, seasons);
        self.differences.extend(frame.row(seasons));
        self.truth.extend(frame.truth(ahead));
        self.count += 1;
    }

    pub fn inputs(&self, device: &Device) -> Tensor<2> {
        let width = self.differences.len() / self.count.max(1);
        Tensor::from_data(TensorData::new(self.differences.clone(), [self.count, width]), device)
    }
}

pub(super) fn draw(runs: &[Vec<f32>], seasons: usize, batch: usize, chance: &mut Chance) -> Rows {
    let mut rows = Rows::default();
    for _ in 0..batch {
        rows.push(&window(runs, chance), seasons);
    }
    rows
}

/// The mean pinball loss of each row.
pub fn pinball(outputs: Tensor<2>, rows: &Rows, device: &Device) -> Tensor<1> {
    let (count, quantiles) = (rows.count, QUANTILES_MILLI.len());
    let outputs = outputs.reshape([count, SEASON, quantiles]);
    let truth = Tensor::<3>::from_data(TensorData::new(rows.truth.clone(), [count, SEASON, 1]), device);
    let levels = QUANTILES_MILLI.map(|milli| f32::from(milli) / 1_000.0).to_vec();
    let levels = Tensor::<3>::from_data(TensorData::new(levels, [1, 1, quantiles]), device);
    let over = truth - outputs;
    // Too low a quantile costs its level for each unit, too high a one the rest of 1.
    let cost = over.clone() * levels + over.neg().clamp_min(0.0);
    cost.reshape([count, OUTPUTS]).mean_dim(1).reshape([count])
}

/// The gradient-free one: how the truth lay around the mean of the last seasons in some windows, point by point.
pub(super) fn fit_seasonal(
    job: &TrainJob,
    runs: &[Vec<f32>],
    seasons: usize,
    control: &Control<'_>,
    chance: &mut Chance,
) -> Result<Trained, EngineError> {
    let steps = job.steps.min(control.steps_max).min((WINDOWS_MAX / job.batch.max(1) as u64).max(1));
    let mut around: Vec<Vec<f32>> = vec![Vec::new(); SEASON];
    for step in 0..steps {
        control.go_on(step)?;
        for _ in 0..job.batch {
            let mut rows = Rows::default();
            rows.push(&window(runs, chance), seasons);
            let mean = Seasonal::mean(&rows.differences, seasons);
            for ((around, truth), mean) in around.iter_mut().zip(&rows.truth).zip(mean) {
                around.push(truth - mean);
            }
        }
    }
    let mut spread = Vec::with_capacity(OUTPUTS);
    let (mut loss, mut count) = (0.0_f64, 0_usize);
    for around in &mut around {
        around.sort_by(f32::total_cmp);
        for milli in QUANTILES_MILLI {
            let level = f64::from(milli) / 1_000.0;
            let place = (around.len().saturating_sub(1)) * usize::from(milli) / 1_000;
            let told = around.get(place).copied().unwrap_or(0.0);
            spread.push(told);
            for value in around.iter() {
                let over = f64::from(value - told);
                loss += over * level + (-over).max(0.0);
            }
            count += around.len();
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "a loss, as every job tells it")]
    let loss = (loss / count.max(1) as f64) as f32;
    (control.progress)(Progress { step: steps, steps, loss });
    let spread = Plain { shape: vec![OUTPUTS], values: spread };
    let artifact = Artifact::new(job.architecture, [("spread".to_owned(), spread)].into())?;
    Ok(Trained { artifact, losses: vec![loss] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_is_least_at_the_quantile() {
        // Truth evenly in 0 to 1: the loss of telling q at level l is least at q = l.
        let loss = |told: f64, level: f64| {
            let at = |i: u32| {
                let over = f64::from(i) / 1e3 - told;
                over * level + (-over).max(0.0)
            };
            (0..1_000).map(at).sum::<f64>()
        };
        for level in QUANTILES_MILLI.map(|milli| f64::from(milli) / 1e3) {
            for off in [-0.1, -0.03, 0.03, 0.1] {
                assert!(loss(level, level) < loss(level + off, level), "{level} {off}");
            }
        }
        let device = Device::flex();
        let rows = Rows { differences: vec![], truth: vec![2.0; SEASON], count: 1 };
        let outputs = Tensor::<2>::from_data(TensorData::new(vec![1.0_f32; OUTPUTS], [1, OUTPUTS]), &device);
        let found: Vec<f32> = pinball(outputs, &rows, &device).try_into_vec_as().unwrap();
        assert!((found[0] - 0.5).abs() < 1e-6, "one too low costs the mean level: {found:?}");
    }

    #[test]
    fn runs_too_short_or_with_no_number_are_refused() {
        assert!(check_runs(&[vec![0.0; WINDOW]]).is_ok());
        assert!(check_runs(&[vec![0.0; WINDOW - 1]]).is_err() && check_runs(&[]).is_err());
        assert!(check_runs(&[vec![f32::NAN; WINDOW]]).is_err());
    }
}
