//! A time series as forecasters read it: 24 points a season, how each differs from the season before, in units of how much
//! such differences are.
//!
//! Whatever pattern repeats is gone in the differences, and so are level and unit; what is left is what a model has to
//! explain. A forecast is a row of corrections to "as in the last season", in the same units. A season of another length is
//! stretched to 24 points and the forecast stretched back. Pure arithmetic; nothing here learns.

use crate::protocol::query::QUANTILES_MILLI;

/// Points of a season as models see it.
pub const SEASON: usize = 24;
/// Numbers a model gives for one season ahead: the quantiles of each point, those of the first point first.
pub const OUTPUTS: usize = SEASON * QUANTILES_MILLI.len();
/// Seasons whose differences set the unit.
const UNIT_SEASONS: usize = 7;
/// The unit is at least this share of the series' own spread, so that a perfect pattern does not divide by zero.
const UNIT_SHARE: f64 = 1e-3;

/// A history, stretched.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// At least two seasons.
    values: Vec<f64>,
    unit: f64,
    /// Points of a model per step of the asker.
    stretch: f64,
}

impl Frame {
    /// The history's last values matter most; one that is too short is continued into the past by its first season.
    pub fn new(history: &[f64], season: usize, seasons: usize) -> Self {
        let stretch = if season <= 1 { 1.0 } else { SEASON as f64 / season as f64 };
        let wanted = (seasons + 1).max(UNIT_SEASONS) * SEASON;
        let at = |place: f64| {
            let left = place.floor();
            let value = |place: f64| history.get(whole(place)).copied();
            let low = value(left).unwrap_or(0.0);
            low + (value(left + 1.0).unwrap_or(low) - low) * (place - left)
        };
        let last = history.len().saturating_sub(1) as f64;
        let mut values: Vec<f64> =
            (0..wanted).map(|back| last - back as f64 / stretch).take_while(|p| *p >= 0.0).map(at).collect();
        values.reverse();
        let missing = wanted.saturating_sub(values.len());
        if missing > 0 {
            let period = SEASON.min(values.len()).max(1);
            let earlier = |back: usize| values.get((period - back % period) % period).copied().unwrap_or(0.0);
            let padding: Vec<f64> = (1..=missing).rev().map(earlier).collect();
            values.splice(0..0, padding);
        }
        let unit = unit(&values);
        Self { values, unit, stretch }
    }

    /// What one is worth in the series' own numbers.
    pub fn unit(&self) -> f64 {
        self.unit
    }

    /// Differences to the season before over the last `seasons` seasons, the oldest first.
    pub fn row(&self, seasons: usize) -> Vec<f32> {
        let count = seasons * SEASON;
        let from = self.values.len().saturating_sub(count);
        let later = self.values.get(from..).unwrap_or_default();
        let before = self.values.get(from.saturating_sub(SEASON)..).unwrap_or_default();
        #[expect(clippy::cast_possible_truncation, reason = "the nearest float will do")]
        later.iter().zip(before).map(|(now, then)| ((now - then) / self.unit) as f32).collect()
    }

    /// The last season: what corrections are added to.
    fn base(&self) -> &[f64] {
        self.values.get(self.values.len().saturating_sub(SEASON)..).unwrap_or_default()
    }

    /// The true season ahead as corrections.
    pub fn truth(&self, ahead: &[f64]) -> Vec<f32> {
        #[expect(clippy::cast_possible_truncation, reason = "the nearest float will do")]
        ahead.iter().zip(self.base()).map(|(truth, base)| ((truth - base) / self.unit) as f32).collect()
    }

    /// A model's row as values, and the frame moved on by a season of their medians.
    fn absorb(&mut self, outputs: &[f32]) -> Vec<[f64; QUANTILES_MILLI.len()]> {
        let steps = outputs.as_chunks::<{ QUANTILES_MILLI.len() }>().0.iter().zip(self.base());
        let ahead: Vec<[f64; QUANTILES_MILLI.len()]> = steps
            .map(|(step, base)| {
                let mut told = step.map(|correction| base + self.unit * f64::from(correction));
                // A model may cross its quantiles; an answer may not.
                told.sort_by(f64::total_cmp);
                told
            })
            .collect();
        let kept = self.values.len();
        self.values.extend(ahead.iter().map(|[_, _, median, _, _]| *median));
        self.values.drain(..self.values.len() - kept);
        ahead
    }
}

/// The mean difference to the season before.
fn unit(values: &[f64]) -> f64 {
    let pairs = || values.iter().skip(SEASON).zip(values);
    let count = pairs().count().max(1) as f64;
    let differences = pairs().map(|(now, then)| (now - then).abs()).sum::<f64>() / count;
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    let spread = values.iter().map(|v| (v - mean).abs()).sum::<f64>() / values.len().max(1) as f64;
    let least = (spread * UNIT_SHARE).max(mean.abs() * 1e-9).max(1e-6);
    differences.max(least)
}

/// Forecasts of several series at once, grown season by season until the horizon is reached.
#[derive(Debug)]
pub struct Forecast {
    frames: Vec<Frame>,
    /// For each series, its last value and then each point ahead.
    ahead: Vec<Vec<[f64; QUANTILES_MILLI.len()]>>,
    horizon: usize,
}

impl Forecast {
    pub fn new(frames: Vec<Frame>, horizon: usize) -> Self {
        let last = |frame: &Frame| vec![[frame.values.last().copied().unwrap_or(0.0); QUANTILES_MILLI.len()]];
        let ahead = frames.iter().map(last).collect();
        Self { frames, ahead, horizon }
    }

    /// The series as they stand.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Whether every series reaches its horizon.
    pub fn is_done(&self) -> bool {
        let stretch = self.frames.first().map_or(1.0, |frame| frame.stretch);
        let needed = whole((self.horizon as f64 * stretch).ceil());
        self.ahead.iter().all(|ahead| ahead.len() > needed)
    }

    /// Adds a season: one row of corrections per series.
    pub fn add(&mut self, outputs: &[f32]) {
        for ((frame, ahead), row) in self.frames.iter_mut().zip(&mut self.ahead).zip(outputs.chunks(OUTPUTS)) {
            ahead.extend(frame.absorb(row));
        }
    }

    /// The quantiles of each step as the asker counts them, the first step first.
    pub fn steps(&self) -> impl Iterator<Item = Vec<f64>> + '_ {
        self.frames.iter().zip(&self.ahead).map(|(frame, ahead)| {
            (1..=self.horizon).flat_map(|step| between(ahead, step as f64 * frame.stretch)).collect()
        })
    }
}

fn between(ahead: &[[f64; QUANTILES_MILLI.len()]], place: f64) -> [f64; QUANTILES_MILLI.len()] {
    let left = place.floor();
    let low = ahead.get(whole(left)).copied().unwrap_or_default();
    let high = ahead.get(whole(left) + 1).copied().unwrap_or(low);
    let mut mixed = low;
    for ((mixed, low), high) in mixed.iter_mut().zip(low).zip(high) {
        *mixed = low + (high - low) * (place - left);
    }
    mixed
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place of a bounded list, not below 0")]
fn whole(place: f64) -> usize {
    place.max(0.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wave of this period with a trend of `slope` a season.
    fn wave(period: usize, count: usize, slope: f64) -> Vec<f64> {
        let turn = std::f64::consts::TAU / period as f64;
        (0..count).map(|t| (t as f64 * turn).sin() + slope * t as f64 / period as f64).collect()
    }

    fn told(history: &[f64], season: usize, horizon: usize, correction: f32) -> Vec<f64> {
        let mut forecast = Forecast::new(vec![Frame::new(history, season, 6)], horizon);
        while !forecast.is_done() {
            forecast.add(&[correction; OUTPUTS]);
        }
        forecast.steps().next().unwrap()
    }

    #[test]
    fn no_correction_repeats_the_last_season_whatever_its_length() {
        for period in [24, 12, 52, 7] {
            let history = wave(period, period * 8, 0.0);
            let told = told(&history, period, period + 3, 0.0);
            assert_eq!(told.len(), (period + 3) * 5);
            for (step, quantiles) in told.chunks(5).enumerate() {
                let expected = history[step % period];
                // Stretching draws straight lines between points: a coarse wave loses a little.
                assert!(
                    quantiles.iter().all(|q| (q - expected).abs() < 0.12),
                    "{period} {step} {quantiles:?} {expected}"
                );
            }
        }
    }

    #[test]
    fn corrections_are_in_units_of_the_seasonal_difference_and_add_up() {
        let history = wave(24, 168, 3.0);
        let frame = Frame::new(&history, 24, 6);
        assert!((frame.unit() - 3.0).abs() < 1e-9);
        assert!(frame.row(6).iter().all(|d| (d - 1.0).abs() < 1e-5) && frame.row(6).len() == 144);
        let ahead: Vec<f64> = wave(24, 192, 3.0)[168..].to_vec();
        assert!(frame.truth(&ahead).iter().all(|d| (d - 1.0).abs() < 1e-5));
        let told = told(&history, 24, 48, 1.0);
        assert!((told[0] - ahead[0]).abs() < 1e-5);
        assert!((told[24 * 5] - ahead[0] - 3.0).abs() < 1e-5, "the second season stands on the first");
        let scaled: Vec<f64> = history.iter().map(|v| v * 50.0 - 9.0).collect();
        let row = Frame::new(&scaled, 24, 6).row(6);
        assert!(row.iter().zip(frame.row(6)).all(|(a, b)| (a - b).abs() < 1e-4), "unit and level are gone");
    }

    #[test]
    fn short_histories_and_flat_ones_hold() {
        for history in [vec![5.0; 48], vec![5.0, 6.0], wave(24, 50, 1.0)] {
            let season = if history.len() < 48 { 1 } else { 24 };
            let frame = Frame::new(&history, season, 6);
            assert_eq!((frame.values.len(), frame.row(6).len()), (168, 144));
            assert!(frame.row(6).iter().all(|v| v.is_finite()));
            assert_eq!(frame.values.last(), history.last());
        }
        let crossing: Vec<f32> = (0..OUTPUTS).map(|i| 5.0 - (i % 5) as f32).collect();
        let mut forecast = Forecast::new(vec![Frame::new(&wave(24, 168, 1.0), 24, 6)], 2);
        forecast.add(&crossing);
        assert!(forecast.steps().next().unwrap().chunks(5).all(|step| step.is_sorted()));
    }
}
