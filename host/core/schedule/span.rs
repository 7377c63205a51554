//! Lengths of time as people write them: `30s`, `1h 30m`, `7d`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time in milliseconds; text in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub u64);

/// The units, the longest first.
const UNITS: [(&str, u64); 6] =
    [("w", 7 * 86_400_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Span {
    /// Whole seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000))
    }

    /// Whole days.
    #[must_use]
    pub const fn days(days: u64) -> Self {
        Self::seconds(days.saturating_mul(86_400))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no length of time such as 30s, 1h 30m or 7d");
        let mut total: u64 = 0;
        let mut rest = text.trim_start();
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
            let behind = &rest[digits..];
            let end = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
            let (_, ms) = UNITS.into_iter().find(|(unit, _)| *unit == &behind[..end]).ok_or_else(wrong)?;
            total = number.checked_mul(ms).and_then(|ms| total.checked_add(ms)).ok_or_else(wrong)?;
            rest = behind[end..].trim_start();
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        let mut parts = Vec::new();
        for (unit, ms) in UNITS {
            if rest >= ms && unit != "w" {
                parts.push(format!("{}{unit}", rest / ms));
                rest %= ms;
            }
        }
        if parts.is_empty() { f.write_str("0s") } else { f.write_str(&parts.join(" ")) }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written() {
        let cases = [
            ("30s", 30_000, "30s"),
            ("1h 30m", 5_400_000, "1h 30m"),
            ("90m", 5_400_000, "1h 30m"),
            ("2w", 14 * 86_400_000, "14d"),
            ("1d2h3m4s5ms", 93_784_005, "1d 2h 3m 4s 5ms"),
            ("0s", 0, "0s"),
        ];
        for (text, ms, written) in cases {
            let span: Span = text.parse().expect(text);
            assert_eq!((span.0, span.to_string().as_str()), (ms, written));
        }
        for text in ["", "5", "s", "1y", "-1s", "1.5h", "99999999999999999999d", "18446744073709551615s"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
