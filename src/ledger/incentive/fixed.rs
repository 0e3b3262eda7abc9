//! Fixed point: Q is signed 32.32 in `i64`, and there is no other number in an epoch (Y 1.1).
//!
//! ONE is 2^32. Products are formed in 128 bits and floored, quotients are truncated, both saturate at the ends of `i64`;
//! a division by 0 is 0. Sums of an epoch stay far below the ends, so they are plain. `exp` is the only exponential the
//! ledger may use: it defines the bits of liquid alpha and of the registration price.

/// A signed 32.32 number.
pub type Q = i64;

/// One, as Q.
pub const ONE: Q = 1 << 32;
/// The largest value of a `u16` parameter: its whole.
const FULL: u64 = 65_535;
/// ln 2 as 0.64.
const LN2: i128 = 0xB172_17F7_D1CF_79AB;
/// 1 / ln 2 as 32.32.
const LN2_INVERSE: i128 = 6_196_328_018;
/// Beyond this `exp` takes its argument for this.
const EXP_MAX: Q = 20 * ONE;

/// The nearest Q of a wide value.
#[inline]
pub fn sat(value: i128) -> Q {
    Q::try_from(value).unwrap_or(if value < 0 { Q::MIN } else { Q::MAX })
}

/// The nearest Q of a wide value that is never negative.
#[inline]
pub fn sat_u(value: u128) -> Q {
    Q::try_from(value).unwrap_or(Q::MAX)
}

/// ADD.
#[inline]
pub fn add(a: Q, b: Q) -> Q {
    a.saturating_add(b)
}

/// SUB.
#[inline]
pub fn sub(a: Q, b: Q) -> Q {
    a.saturating_sub(b)
}

/// MUL: the product, floored, also below 0.
#[inline]
pub fn mul(a: Q, b: Q) -> Q {
    sat((i128::from(a) * i128::from(b)) >> 32)
}

/// DIV: the quotient toward 0; 0 when the divisor is 0.
#[inline]
pub fn div(a: Q, b: Q) -> Q {
    match (u32::try_from(a), u64::try_from(b)) {
        // Nearly always: a share below ONE of something positive, which one machine division does.
        (Ok(a), Ok(b)) => (u64::from(a) << 32).checked_div(b).map_or(0, |q| Q::try_from(q).unwrap_or(Q::MAX)),
        (Err(_), Ok(b)) if a == ONE && b > 0 => one_over(b),
        _ => (i128::from(a) << 32).checked_div(i128::from(b)).map_or(0, sat),
    }
}

/// ONE over a Q above 0: 2^64 does not fit, what is one less does.
fn one_over(b: u64) -> Q {
    let below = u64::MAX / b;
    let exact = below.saturating_add(u64::from(b.is_power_of_two()));
    Q::try_from(exact).unwrap_or(Q::MAX)
}

/// INT: a whole number as Q.
pub fn int(value: i64) -> Q {
    sat(i128::from(value) << 32)
}

/// A part of a whole as Q: `(part << 32) / whole`, 0 when there is no whole. Parts are below 2^96.
///
/// One floor, where the text has two: floors of floors are the same (Y 1.1).
pub fn ratio(part: u128, whole: u128) -> Q {
    match (u32::try_from(part), u64::try_from(whole)) {
        (Ok(part), Ok(whole)) => {
            (u64::from(part) << 32).checked_div(whole).map_or(0, |q| Q::try_from(q).unwrap_or(Q::MAX))
        }
        _ => (part << 32).checked_div(whole).map_or(0, sat_u),
    }
}

/// NORM, in place: each value over the sum; unchanged when the sum is 0.
pub fn norm(values: &mut [Q]) {
    let total: i128 = values.iter().map(|value| i128::from(*value)).sum();
    if total == 0 {
        return;
    }
    for value in values {
        *value = sat((i128::from(*value) << 32) / total);
    }
}

/// A `u16` parameter over 65535 as Q.
pub fn from_u16(value: u16) -> Q {
    Q::try_from((u64::from(value) << 32) / FULL).unwrap_or(ONE)
}

/// Millionths as Q.
pub fn from_ppm(value: u64) -> Q {
    sat_u((u128::from(value) << 32) / 1_000_000)
}

/// U16: a share as the compatible state keeps it.
pub fn to_u16(value: Q) -> u16 {
    u16::try_from(((i128::from(value) * i128::from(FULL)) >> 32).clamp(0, i128::from(FULL))).unwrap_or(u16::MAX)
}

/// A share as the state keeps it: raw 0.32, ONE saturated to the largest value.
pub fn to_raw32(value: Q) -> u32 {
    u32::try_from(value.max(0)).unwrap_or(u32::MAX)
}

/// AMT: a share of a sum of motes.
pub fn amount(share: Q, of: u64) -> u64 {
    let share = u128::from(share.max(0).unsigned_abs());
    u64::try_from((share * u128::from(of)) >> 32).unwrap_or(u64::MAX)
}

/// UPSCALE: values stretched so that the largest is 65535.
pub fn upscale(values: &[Q]) -> Vec<u16> {
    let most = values.iter().copied().max().unwrap_or(0);
    let stretch = |value: Q| {
        let scaled = if most == 0 {
            return 0;
        } else if most > int(32_768) {
            mul(value, div(int(65_535), most))
        } else {
            div(mul(value, int(65_535)), most)
        };
        let whole = (add(scaled, ONE / 2) >> 32).clamp(0, 65_535);
        u16::try_from(whole).unwrap_or(u16::MAX)
    };
    values.iter().map(|value| stretch(*value)).collect()
}

/// EXP: e to the power of `x`, at most 3 raw units from the true value; `x` is cut to ±20.
///
/// The first term of the series is 1, so all the others fit 64 bits.
pub fn exp(x: Q) -> Q {
    let wide = i128::from(x.clamp(-EXP_MAX, EXP_MAX)) << 32;
    let (doublings, rest) = halve(wide);
    let mut term = rest;
    let mut sum = (1_u128 << 64) + u128::from(rest);
    // Written out, each division is by a constant: a multiplication.
    let mut tail = 0_u64;
    macro_rules! terms {
        ($($i:literal)*) => {
            $(
                term = high(term, rest) / $i;
                tail = tail.wrapping_add(term);
            )*
        };
    }
    terms!(2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24);
    sum += u128::from(tail);
    let shift = u32::try_from(32 - doublings).unwrap_or(127);
    sat_u(sum >> shift)
}

/// The quotient and the rest by ln 2, both floored. A product comes within one of the quotient.
fn halve(wide: i128) -> (i128, u64) {
    let mut doublings = ((wide >> 32) * LN2_INVERSE) >> 64;
    let mut rest = wide - doublings * LN2;
    while rest < 0 {
        (doublings, rest) = (doublings - 1, rest + LN2);
    }
    while rest >= LN2 {
        (doublings, rest) = (doublings + 1, rest - LN2);
    }
    (doublings, u64::try_from(rest).unwrap_or(0))
}

/// The upper half of a product.
#[inline]
fn high(a: u64, b: u64) -> u64 {
    u64::try_from((u128::from(a) * u128::from(b)) >> 64).unwrap_or(u64::MAX)
}

/// Division by the same whole many times: `part << 32` over it, exactly as `ratio`, by multiplication.
#[derive(Clone, Copy, Debug)]
pub(super) struct Divider {
    whole: u64,
    inverse: u64,
}

impl Divider {
    pub fn of(whole: u64) -> Self {
        Self { whole, inverse: u64::MAX.checked_div(whole).unwrap_or(0) }
    }

    /// DIV of a Q that is not negative, or of a plain part.
    #[inline]
    pub fn share(self, part: Q) -> Q {
        let Ok(narrow) = u32::try_from(part) else {
            return ratio(u128::from(part.max(0).unsigned_abs()), u128::from(self.whole));
        };
        let wide = u64::from(narrow) << 32;
        let mut found = high(wide, self.inverse);
        // The inverse is less than one short, so this is at most two short.
        let mut left = wide - found * self.whole;
        while left >= self.whole && self.whole > 0 {
            left -= self.whole;
            found += 1;
        }
        Q::try_from(found).unwrap_or(Q::MAX)
    }
}

#[cfg(test)]
mod tests;
