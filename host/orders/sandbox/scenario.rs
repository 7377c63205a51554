//! How a payment token or a postcode steers the sandbox.

use std::time::Duration;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scenario {
    /// It is done.
    Works,
    /// The gateway does it at once and answers after this long; the carrier says at once that it is
    /// booked and confirms it after this long.
    Slow(Duration),
    /// It is refused for good.
    Refused,
    /// It fails this many times, then is done.
    Flaky(u32),
    /// It always fails.
    Down,
}

impl Scenario {
    /// What a payment token stands for; absent if nobody issued it.
    pub(super) fn of_token(token: &str) -> Option<Self> {
        match token {
            "tok_ok" => Some(Self::Works),
            "tok_declined" => Some(Self::Refused),
            "tok_down" => Some(Self::Down),
            _ => {
                let flaky = token.strip_prefix("tok_flaky_").and_then(number).map(Self::Flaky);
                let slow = || token.strip_prefix("tok_slow_").and_then(number);
                flaky.or_else(|| slow().map(seconds))
            }
        }
    }

    /// What a postcode stands for.
    pub(super) fn of_postcode(postcode: &str) -> Self {
        match postcode {
            "REFUSED" => Self::Refused,
            "DOWN" => Self::Down,
            _ => {
                let flaky = postcode.strip_prefix("FLAKY_").and_then(number).map(Self::Flaky);
                let slow = || postcode.strip_prefix("SLOW_").and_then(number).map(seconds);
                flaky.or_else(slow).unwrap_or(Self::Works)
            }
        }
    }
}

fn seconds(seconds: u32) -> Scenario {
    Scenario::Slow(Duration::from_secs(u64::from(seconds)))
}

/// Digits only: `parse` alone would take a sign.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_postcodes() {
        let tokens = [
            ("tok_ok", Some(Scenario::Works)),
            ("tok_declined", Some(Scenario::Refused)),
            ("tok_flaky_3", Some(Scenario::Flaky(3))),
            ("tok_flaky_0", Some(Scenario::Flaky(0))),
            ("tok_down", Some(Scenario::Down)),
            ("tok_slow_7", Some(Scenario::Slow(Duration::from_secs(7)))),
            ("tok_slow_+7", None),
            ("tok_slow_", None),
            ("tok_flaky_99999999999", None),
            ("tok_OK", None),
            ("", None),
        ];
        for (token, expected) in tokens {
            assert_eq!(Scenario::of_token(token), expected, "{token}");
        }
        let postcodes = [
            ("REFUSED", Scenario::Refused),
            ("DOWN", Scenario::Down),
            ("FLAKY_2", Scenario::Flaky(2)),
            ("FLAKY_x", Scenario::Works),
            ("SLOW_30", Scenario::Slow(Duration::from_secs(30))),
            ("SLOW_-1", Scenario::Works),
            ("80331", Scenario::Works),
        ];
        for (postcode, expected) in postcodes {
            assert_eq!(Scenario::of_postcode(postcode), expected, "{postcode}");
        }
    }
}
