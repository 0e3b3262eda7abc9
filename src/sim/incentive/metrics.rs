//! Figures of a run (S4): ranks, shares, spread, and what many seeds say together.

/// The rank correlation of two lists: 1 when they order alike, -1 when opposite; ties have the mean of their ranks.
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    pearson(&ranks(a), &ranks(b))
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<(f64, usize)> = values.iter().copied().zip(0..).collect();
    order.sort_by(|x, y| x.0.total_cmp(&y.0));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0.0;
    for run in order.chunk_by(|x, y| x.0.total_cmp(&y.0).is_eq()) {
        let length = run.len() as f64;
        for (_, at) in run {
            if let Some(rank) = ranks.get_mut(*at) {
                *rank = first + (length - 1.0) / 2.0;
            }
        }
        first += length;
    }
    ranks
}

fn pearson(a: &[f64], b: &[f64]) -> Option<f64> {
    let (mean_a, mean_b) = (mean(a)?, mean(b)?);
    let (mut both, mut square_a, mut square_b) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        let (x, y) = (x - mean_a, y - mean_b);
        both += x * y;
        square_a += x * x;
        square_b += y * y;
    }
    let scale = (square_a * square_b).sqrt();
    (scale > 0.0).then(|| both / scale)
}

pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// How unequal a division is: 0 when all have the same, towards 1 when one has all.
pub fn gini(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (n, total) = (sorted.len() as f64, sorted.iter().sum::<f64>());
    let weighted: f64 = (1..).zip(&sorted).map(|(rank, value)| f64::from(rank) * value).sum();
    (total > 0.0).then(|| 2.0 * weighted / (n * total) - (n + 1.0) / n)
}

/// The part that the ten largest have.
pub fn top_ten(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(|x, y| y.total_cmp(x));
    let total: f64 = sorted.iter().sum();
    (total > 0.0).then(|| sorted.iter().take(10).sum::<f64>() / total)
}

/// The value below which this part of all lies; between two values in proportion.
pub fn percentile(values: &[f64], part: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = part.clamp(0.0, 1.0) * sorted.len().saturating_sub(1) as f64;
    let (low, high) = (sorted.get(floor(place))?, sorted.get(floor(place.ceil()))?);
    Some(low + (high - low) * (place - place.floor()))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn floor(value: f64) -> usize {
    value as usize
}

/// What many runs say about one figure.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Summary {
    pub runs: usize,
    pub mean: f64,
    /// Where the mean lies with a chance of 95 %.
    pub low: f64,
    pub high: f64,
    pub min: f64,
    pub max: f64,
}

/// Student's factor for 95 %, by degrees of freedom from 1.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

impl Summary {
    pub fn of(values: &[f64]) -> Option<Self> {
        let mean = mean(values)?;
        let n = values.len() as f64;
        let square: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
        let free = values.len() - 1;
        let factor = free.checked_sub(1).map_or(0.0, |at| STUDENT.get(at).copied().unwrap_or(1.984));
        let half = if free == 0 { 0.0 } else { factor * (square / free as f64 / n).sqrt() };
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Some(Self { runs: values.len(), mean, low: mean - half, high: mean + half, min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: Option<f64>, wanted: f64) {
        assert!(found.is_some_and(|found| (found - wanted).abs() < 1e-9), "{found:?} for {wanted}");
    }

    #[test]
    fn s04_ranks_correlate_as_by_hand() {
        near(spearman(&[1.0, 2.0, 3.0], &[10.0, 20.0, 900.0]), 1.0);
        near(spearman(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]), -1.0);
        // Ranks 0 1 2 3 against 1 0 3 2: the differences are all 1, so 1 - 6 * 4 / (4 * 15).
        near(spearman(&[1.0, 2.0, 3.0, 4.0], &[2.0, 1.0, 4.0, 3.0]), 0.6);
        // Ties share 0.5: ranks 0.5 0.5 2 against 0 1 2.
        near(spearman(&[1.0, 1.0, 3.0], &[1.0, 2.0, 3.0]), 0.866_025_403_784_438_6);
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), None);
    }

    #[test]
    fn s04_shares_spread_as_by_hand() {
        near(gini(&[1.0, 1.0, 1.0, 1.0]), 0.0);
        near(gini(&[0.0, 0.0, 0.0, 8.0]), 0.75);
        near(gini(&[1.0, 3.0]), 0.25);
        near(top_ten(&[1.0; 40]), 0.25);
        near(percentile(&[4.0, 1.0, 2.0, 3.0, 5.0], 0.5), 3.0);
        near(percentile(&[0.0, 10.0], 0.05), 0.5);
        assert_eq!((gini(&[0.0]), percentile(&[], 0.5), top_ten(&[])), (None, None, None));
    }

    #[test]
    fn s04_intervals_are_students() {
        let summary = Summary::of(&[1.0, 2.0, 3.0]).unwrap();
        // Deviation 1, three runs: 4.303 / sqrt(3).
        assert!((summary.high - summary.mean - 4.303 / 3.0_f64.sqrt()).abs() < 1e-12);
        assert_eq!((summary.mean, summary.min, summary.max, summary.runs), (2.0, 1.0, 3.0, 3));
        assert_eq!(Summary::of(&[7.0]).map(|one| (one.low, one.high)), Some((7.0, 7.0)));
        assert_eq!(Summary::of(&[]), None);
    }
}
