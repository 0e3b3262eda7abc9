//! The gate from floats to integers: probabilities and values for the wire. Scores become whole numbers in `mark`.
//!
//! Nothing behind it is ever a float again. It goes item by item and by a maximum, so the order of classes changes nothing.

use crate::protocol::query::MICROS_MAX;

/// Millionths in one.
const MICROS: f64 = 1e6;

/// Probabilities as the wire carries them: 65,535 is certainty. What is no number is 0.
pub fn to_fixed(row: &[f32]) -> Vec<u16> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped into 0 to 65,535; NaN is 0")]
    row.iter().map(|p| (f64::from(*p) * f64::from(u16::MAX)).round().clamp(0.0, f64::from(u16::MAX)) as u16).collect()
}

/// Probabilities from the wire, brought to a sum of 1; `None` when there is nothing in them.
pub fn from_fixed(row: &[u16]) -> Option<Vec<f64>> {
    let sum: u64 = row.iter().map(|&p| u64::from(p)).sum();
    (sum > 0).then(|| row.iter().map(|&p| f64::from(p) / sum as f64).collect())
}

/// Values of a series as the wire carries them: whole millionths, cut at the wire's bound. What is no number is 0.
pub fn to_micros(value: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "a cast to a whole number is cut at its ends; NaN is 0")]
    ((value * MICROS).round() as i64).clamp(-MICROS_MAX, MICROS_MAX)
}

/// Whole millionths as a value.
pub fn from_micros(micros: i64) -> f64 {
    micros as f64 / MICROS
}

/// Spearman's rank correlation of pairs, equal values sharing their mean rank; `None` with fewer than two pairs or when
/// one side is all equal.
pub fn spearman(pairs: &[(f64, f64)]) -> Option<f64> {
    if pairs.len() < 2 {
        return None;
    }
    let left = ranks(&pairs.iter().map(|p| p.0).collect::<Vec<_>>());
    let right = ranks(&pairs.iter().map(|p| p.1).collect::<Vec<_>>());
    let mean = (pairs.len() as f64 + 1.0) / 2.0;
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
    let spread = (product(&left, &left) * product(&right, &right)).sqrt();
    (spread > 0.0).then(|| product(&left, &right) / spread)
}

/// Ranks from 1, equal values sharing the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let rank = |value: &f64| {
        let below = values.iter().filter(|v| v.total_cmp(value).is_lt()).count();
        let equal = values.iter().filter(|v| v.total_cmp(value).is_eq()).count();
        below as f64 + (equal as f64 + 1.0) / 2.0
    };
    values.iter().map(rank).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_cross_the_wire() {
        assert_eq!(to_fixed(&[1.0, 0.5, 0.0, f32::NAN, 7.0]), [65_535, 32_768, 0, 0, 65_535]);
        assert_eq!(from_fixed(&[1, 3]), Some(vec![0.25, 0.75]));
        assert_eq!(from_fixed(&[0, 0]), None);
    }

    #[test]
    fn spearman_knows_order_and_ties() {
        let of = |a: &[f64], b: &[f64]| spearman(&a.iter().copied().zip(b.iter().copied()).collect::<Vec<_>>());
        assert_eq!(of(&[1.0, 2.0, 3.0], &[10.0, 20.0, 90.0]), Some(1.0));
        assert_eq!(of(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]), Some(-1.0));
        assert_eq!(of(&[1.0, 1.0], &[3.0, 2.0]), None);
        assert_eq!(of(&[1.0], &[3.0]), None);
        let tied = of(&[1.0, 2.0, 2.0, 3.0], &[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert!((tied - 0.948_683_298).abs() < 1e-6, "{tied}");
    }
}
