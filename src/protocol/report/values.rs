//! Values as reports write them: amounts, shares and moments, each with one form for machines and one for people.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::protocol::units::format_star;

/// An amount: a decimal string of motes in JSON, STAR for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Motes(pub u64);

impl fmt::Display for Motes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format_star(self.0))
    }
}

impl Serialize for Motes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Motes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map(Self).map_err(|_| de::Error::custom(format!("\"{text}\" is no whole number of motes")))
    }
}

/// A share in 32.32 fixed point: a plain number in JSON, a percentage for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(pub u64);

impl Share {
    pub const ONE: Self = Self(1 << 32);

    /// `part / whole`, rounded down; 0 of nothing is 0.
    pub fn of(part: u64, whole: u64) -> Self {
        let fixed = (u128::from(part) << 32).checked_div(u128::from(whole)).unwrap_or(0);
        Self(u64::try_from(fixed).unwrap_or(u64::MAX))
    }

    /// Billionths, which is all that is ever printed.
    fn billionths(self) -> u128 {
        (u128::from(self.0) * 1_000_000_000) >> 32
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = (self.billionths() + 50_000) / 100_000;
        f.pad(&format!("{}.{:02} %", hundredths / 100, hundredths % 100))
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        // The one place where a share becomes a float: it is printed, and nothing is computed from it.
        let billionths = self.billionths();
        let whole = u32::try_from(billionths / 1_000_000_000).unwrap_or(u32::MAX);
        let rest = u32::try_from(billionths % 1_000_000_000).unwrap_or(0);
        to.serialize_f64(f64::from(whole) + f64::from(rest) / 1e9)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = f64::deserialize(from)?;
        if !(0.0..4_294_967_296.0).contains(&value) {
            return Err(de::Error::custom(format!("{value} is no share")));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked above")]
        let billionths = (value * 1e9).round() as u64;
        Ok(Self::of(billionths, 1_000_000_000))
    }
}

/// A moment in milliseconds since 1970, written as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, in_day) = (self.0 / 86_400_000, self.0 % 86_400_000);
        let (year, month, day) = civil(days);
        let (seconds, ms) = (in_day / 1_000, in_day % 1_000);
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        f.pad(&format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z"))
    }
}

/// Year, month and day of a count of days since 1970, by the 400-year cycle of the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// Days since 1970 of a date; the inverse of `civil`.
fn days_of(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = year.checked_sub(u64::from(month <= 2))?;
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

impl Moment {
    /// Reads what `Display` writes; other forms of RFC 3339 are not ours and are refused.
    pub fn parse(text: &str) -> Option<Self> {
        let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
        let (clock, ms) = time.split_once('.').unwrap_or((time, "0"));
        let numbers = |part: &str, by: char| -> Option<[u64; 3]> {
            let list: Vec<u64> = part.split(by).map(str::parse).collect::<Result<_, _>>().ok()?;
            list.try_into().ok()
        };
        let ([year, month, day], [hour, minute, second]) = (numbers(date, '-')?, numbers(clock, ':')?);
        let ms: u64 = ms.parse().ok()?;
        let sane = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
        let days = if sane && ms < 1_000 && year < 10_000 { days_of(year, month, day)? } else { return None };
        Some(Self(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1_000 + ms))
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom(format!("\"{text}\" is no moment like {}", Self(0))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_strings_and_read_back() {
        assert_eq!(serde_json::to_string(&Motes(1_500_000_000)).unwrap(), "\"1500000000\"");
        assert_eq!(serde_json::from_str::<Motes>("\"18446744073709551615\"").unwrap(), Motes(u64::MAX));
        assert!(serde_json::from_str::<Motes>("\"-1\"").is_err());
        assert_eq!(Motes(1_500_000_000).to_string(), "1.5 STAR");
    }

    #[test]
    fn shares_print_and_survive_json() {
        for (share, text, json) in [
            (Share::ONE, "100.00 %", "1.0"),
            (Share(0), "0.00 %", "0.0"),
            (Share::of(1, 4), "25.00 %", "0.25"),
            (Share::of(1, 3), "33.33 %", "0.333333333"),
            (Share::of(7, 0), "0.00 %", "0.0"),
        ] {
            assert_eq!((share.to_string().as_str(), serde_json::to_string(&share).unwrap().as_str()), (text, json));
            let back: Share = serde_json::from_str(json).unwrap();
            assert!(back.0.abs_diff(share.0) <= 5, "{share:?} {back:?}");
        }
        assert!(serde_json::from_str::<Share>("-0.1").is_err());
    }

    #[test]
    fn moments_are_rfc_3339_and_read_back() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_375_908_123, "2026-11-22T19:31:48.123Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Moment(ms).to_string(), text);
            assert_eq!(Moment::parse(text), Some(Moment(ms)));
        }
        for wrong in ["", "2026-11-22", "2026-13-01T00:00:00Z", "2026-01-01T25:00:00Z", "x"] {
            assert_eq!(Moment::parse(wrong), None, "{wrong}");
        }
    }
}
