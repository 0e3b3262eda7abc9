//! Money: 1 STAR is 10^9 motes, and motes are whole (C1).
//!
//! People read and write STAR with up to nine decimals; machines read and write motes. Nothing is ever rounded: a text
//! with a tenth decimal is refused.

/// Motes in one STAR.
pub const MOTES_PER_STAR: u64 = 1_000_000_000;

/// Why an amount could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    #[error("\"{0}\" is no amount; write it like 12, 0.5 or 12.000000001")]
    Malformed(String),
    #[error("\"{0}\" has more than nine decimals; one mote is 0.000000001 STAR")]
    TooFine(String),
    #[error("\"{0}\" is more than there can ever be")]
    TooLarge(String),
}

/// Reads STAR into motes.
///
/// # Errors
/// The text is no decimal number, finer than a mote, or does not fit.
pub fn parse_star(text: &str) -> Result<u64, AmountError> {
    let plain = text.strip_suffix("STAR").unwrap_or(text).trim();
    let (whole, fraction) = plain.split_once('.').unwrap_or((plain, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || plain.ends_with('.') {
        return Err(AmountError::Malformed(text.to_owned()));
    }
    if fraction.len() > 9 {
        return Err(AmountError::TooFine(text.to_owned()));
    }
    let too_large = || AmountError::TooLarge(text.to_owned());
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let motes: u64 = format!("{fraction:0<9}").parse().map_err(|_| too_large())?;
    whole.checked_mul(MOTES_PER_STAR).and_then(|m| m.checked_add(motes)).ok_or_else(too_large)
}

/// Motes as STAR, with as many decimals as they need.
pub fn format_star(motes: u64) -> String {
    let (whole, rest) = (motes / MOTES_PER_STAR, motes % MOTES_PER_STAR);
    if rest == 0 {
        return format!("{whole} STAR");
    }
    format!("{whole}.{} STAR", format!("{rest:09}").trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_back_what_they_print() {
        for motes in [0, 1, 999_999_999, MOTES_PER_STAR, 12_000_000_001, u64::MAX] {
            assert_eq!(parse_star(&format_star(motes)), Ok(motes));
        }
        assert_eq!(parse_star("0.5"), Ok(500_000_000));
        for wrong in ["", ".", "1.", ".5", "-1", "1e3", "1,5", "+2", "0x1"] {
            assert!(matches!(parse_star(wrong), Err(AmountError::Malformed(_))), "{wrong}");
        }
        assert!(matches!(parse_star("0.0000000001"), Err(AmountError::TooFine(_))));
        assert!(matches!(parse_star("18446744074"), Err(AmountError::TooLarge(_))));
    }
}
