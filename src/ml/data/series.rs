//! Hourly series that were really measured, and windows drawn from them.
//!
//! Everybody has the series, so a challenge never shows one as it is (M3): a window is stretched and shifted, often mixed
//! with a part of another, and made noisy, all by the seed. A forecaster that learnt how such series go on is not
//! disturbed; one that only remembers them finds none again.

use std::sync::OnceLock;

use super::{DataError, is_held, unpack};
use crate::ml::model::layers::unit;
use crate::protocol::chance::Chance;

static SERIES: &[u8] = include_bytes!("../../../data/series.bin.gz");

/// BLAKE3 of the shipped file.
pub const SERIES_HASH: &str = "b2fd285db9fa182ffb8e048b4dbb581ea2d139bc0c36d721fc8dff35dd49aa63";
/// Series in the file: temperature, dew point and sunlight of three places, and the temperature of a sea.
pub const SERIES_COUNT: usize = 10;
/// Hours of each: a year.
pub const HOURS: usize = 8_760;
/// Hours of one block, the unit that is held out.
pub const BLOCK_HOURS: usize = 384;
/// Hours shown.
pub const HISTORY: usize = 168;
/// Hours to forecast.
pub const HORIZON: usize = 24;
/// Both together.
pub const WINDOW: usize = HISTORY + HORIZON;
/// Blocks held out, in 256.
const HELD_SHARE: u8 = 51;
/// Every second window has a part of another in it, at most this share.
const MIXED_MAX: f64 = 0.5;
/// The noise's spread against that of the whole series.
const NOISE: f64 = 0.03;

/// Runs of hours without a gap, each at least a window long; a series' mean is 0 and its spread 1.
#[derive(Clone, Debug)]
pub struct Series {
    pub train: Vec<Vec<f32>>,
    pub held: Vec<Vec<f32>>,
}

/// The series; unpacked once per process.
///
/// # Errors
/// The data in the binary are damaged.
pub fn series() -> Result<&'static Series, DataError> {
    static LOADED: OnceLock<Result<Series, DataError>> = OnceLock::new();
    LOADED.get_or_init(read).as_ref().map_err(Clone::clone)
}

fn read() -> Result<Series, DataError> {
    let name = "series.bin.gz";
    let bytes = unpack(name, SERIES, SERIES_HASH)?;
    let (low, high) = bytes.split_at(bytes.len() / 2);
    let values: Vec<f32> = low.iter().zip(high).map(|(l, h)| f32::from(i16::from_le_bytes([*l, *h]))).collect();
    if values.len() != SERIES_COUNT * HOURS || low.len() != high.len() {
        let expected = 2 * SERIES_COUNT * HOURS;
        return Err(DataError::Length { name, found: bytes.len(), expected });
    }
    let (mut train, mut held): (Vec<Vec<f32>>, Vec<Vec<f32>>) = (Vec::new(), Vec::new());
    for values in values.chunks(HOURS) {
        let values = normal(values);
        let mut joined = false;
        for (block, values) in values.chunks(BLOCK_HOURS).enumerate() {
            // One choice for all series of an hour: places share their weather.
            let is_held = is_held("series", block, HELD_SHARE);
            match train.last_mut().filter(|_| joined && !is_held) {
                Some(run) => run.extend_from_slice(values),
                None if is_held => held.push(values.to_vec()),
                None => train.push(values.to_vec()),
            }
            joined = !is_held;
        }
    }
    train.retain(|run| run.len() >= WINDOW);
    held.retain(|run| run.len() >= WINDOW);
    Ok(Series { train, held })
}

fn normal(values: &[f32]) -> Vec<f32> {
    let count = values.len().max(1) as f64;
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
    let spread = (values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / count).sqrt();
    #[expect(clippy::cast_possible_truncation, reason = "a float of a few units")]
    values.iter().map(|v| ((f64::from(*v) - mean) / spread.max(f64::MIN_POSITIVE)) as f32).collect()
}

/// One window as it is, drawn evenly over every place where one begins.
fn plain<'a>(runs: &'a [Vec<f32>], chance: &mut Chance) -> &'a [f32] {
    let places = |run: &Vec<f32>| (run.len() + 1).saturating_sub(WINDOW);
    let total: usize = runs.iter().map(places).sum();
    if total == 0 {
        return &[];
    }
    let mut place = chance.index(total);
    for run in runs {
        if let Some(window) = run.get(place..place + WINDOW) {
            return window;
        }
        place -= places(run);
    }
    &[]
}

/// A changed window: history and what follows. Empty when no run is long enough.
pub fn window(runs: &[Vec<f32>], chance: &mut Chance) -> Vec<f64> {
    let mut values: Vec<f64> = plain(runs, chance).iter().map(|v| f64::from(*v)).collect();
    if chance.one_in(1, 2) {
        let share = MIXED_MAX * unit(chance);
        for (value, other) in values.iter_mut().zip(plain(runs, chance)) {
            *value += share * f64::from(*other);
        }
    }
    // Only what every machine rounds alike: a challenge may be made again elsewhere.
    let scale = 0.25 + 4.0 * unit(chance).powi(2);
    let shift = 40.0 * (unit(chance) - 0.5);
    for value in &mut values {
        // The sum of four even draws is close to a normal one of spread 1/sqrt(3).
        let noise = (0..4).map(|_| unit(chance)).sum::<f64>() - 2.0;
        *value = scale * (*value + shift + NOISE * 3.0_f64.sqrt() * noise);
    }
    values
}

/// Every `stride`-th window as it is.
pub fn windows(runs: &[Vec<f32>], stride: usize) -> Vec<Vec<f64>> {
    let of = |run: &Vec<f32>| {
        let windows = run.windows(WINDOW).step_by(stride.max(1));
        windows.map(|w| w.iter().map(|v| f64::from(*v)).collect()).collect::<Vec<Vec<f64>>>()
    };
    runs.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_series_are_whole_and_held_hours_are_in_no_training_run() {
        let series = series().unwrap();
        let hours = |runs: &[Vec<f32>]| runs.iter().map(Vec::len).sum::<usize>();
        let (train, held) = (hours(&series.train), hours(&series.held));
        assert_eq!(train + held, SERIES_COUNT * HOURS);
        assert!((12_000..25_000).contains(&held), "{held}");
        assert!(series.train.iter().chain(&series.held).flatten().all(|v| v.abs() < 8.0));
        for run in &series.held {
            let begin = &run[..48];
            assert!(series.train.iter().all(|train| !train.windows(48).any(|w| w == begin)), "{begin:?}");
        }
    }

    #[test]
    fn windows_follow_the_seed_and_are_never_the_plain_ones() {
        let held = &series().unwrap().held;
        let draw = |seed| window(held, &mut Chance::from_seed([seed; 32]));
        assert_eq!(draw(1), draw(1));
        for seed in 0..20 {
            let drawn = draw(seed);
            assert_eq!(drawn.len(), WINDOW);
            assert!(drawn.iter().all(|v| v.is_finite() && v.abs() < 1e3));
        }
        assert!(window(&[vec![0.0; WINDOW - 1]], &mut Chance::from_seed([0; 32])).is_empty());
        assert_eq!(windows(&[vec![1.0; WINDOW + 10]], 5).len(), 3);
    }
}
