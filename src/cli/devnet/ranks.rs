//! The few figures a summary is made of: rank correlation and quantiles. Pure.

/// The ranks of values, 1 for the smallest; equal values share the mean of their places.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    let value = |i: &usize| values.get(*i).copied().unwrap_or(f64::NAN);
    order.sort_by(|a, b| value(a).total_cmp(&value(b)));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    for run in order.chunk_by(|a, b| value(a).total_cmp(&value(b)).is_eq()) {
        let shared = start as f64 + (run.len() as f64 + 1.0) / 2.0;
        for i in run {
            if let Some(rank) = ranks.get_mut(*i) {
                *rank = shared;
            }
        }
        start += run.len();
    }
    ranks
}

/// Spearman's rank correlation of pairs: 1 when both rise together. `None` below two pairs, or when one side is all equal
/// and hence ranks nothing.
pub fn spearman(pairs: &[(f64, f64)]) -> Option<f64> {
    let (left, right): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let (left, right) = (ranks(&left), ranks(&right));
    let mean = (pairs.len() as f64 + 1.0) / 2.0;
    let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
    let scale = (sum(&left, &left) * sum(&right, &right)).sqrt();
    (pairs.len() > 1 && scale > 0.0).then(|| sum(&left, &right) / scale)
}

/// The smallest sample that at least this share (in hundredths) of all samples does not exceed.
pub fn percentile(samples: &[u64], hundredths: usize) -> Option<u64> {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    let place = (sorted.len() * hundredths).div_ceil(100).max(1) - 1;
    sorted.get(place).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spearman_is_that_of_the_textbook() {
        let pairs = |right: &[f64]| right.iter().enumerate().map(|(i, r)| (i as f64, *r)).collect::<Vec<_>>();
        for (right, expected) in [
            (vec![1.0, 2.0, 3.0], Some(1.0)),
            (vec![3.0, 2.0, 1.0], Some(-1.0)),
            (vec![1.0, 3.0, 2.0], Some(0.5)),
            (vec![5.0, 5.0, 5.0], None),
            (vec![1.0], None),
            (vec![], None),
            // Ties share their rank: 1, 2.5, 2.5, 4 against 1, 2, 3, 4.
            (vec![0.0, 1.0, 1.0, 2.0], Some(0.948_683_298)),
        ] {
            match (spearman(&pairs(&right)), expected) {
                (Some(found), Some(expected)) => assert!((found - expected).abs() < 1e-9, "{right:?}: {found}"),
                (found, expected) => assert_eq!(found, expected, "{right:?}"),
            }
        }
        // IQ and hours of television of ten people: -29/165.
        let iq = [86.0, 97.0, 99.0, 100.0, 101.0, 103.0, 106.0, 110.0, 112.0, 113.0];
        let hours = [2.0, 20.0, 28.0, 27.0, 50.0, 29.0, 7.0, 17.0, 6.0, 12.0];
        let both: Vec<(f64, f64)> = iq.into_iter().zip(hours).collect();
        assert!((spearman(&both).unwrap() + 29.0 / 165.0).abs() < 1e-12);
    }

    #[test]
    fn percentiles_are_samples() {
        let samples: Vec<u64> = (1..=100).rev().collect();
        assert_eq!((percentile(&samples, 50), percentile(&samples, 99)), (Some(50), Some(99)));
        assert_eq!((percentile(&[7], 50), percentile(&[7], 99), percentile(&[], 50)), (Some(7), Some(7), None));
        assert_eq!(percentile(&[1, 2], 50), Some(1));
    }
}
