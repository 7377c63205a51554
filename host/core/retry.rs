//! The retry formula, and what becomes of an attempt that failed.
//!
//! `delay(n) = min(initial · coefficient^(n−1), maximum)` after attempt `n`; the first try counts as
//! attempt 1 (Temporal's retry policy, names and defaults).

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::event::ActivityTimeouts;
use crate::failure::{Failure, FailureKind, RetryState, TimeoutFailure, TimeoutType};
use crate::ids::Timestamp;

const DEFAULT_INITIAL_INTERVAL_MS: u64 = 1_000;
const DEFAULT_BACKOFF_COEFFICIENT: f64 = 2.0;
const DEFAULT_MAXIMUM_INTERVAL_FACTOR: u64 = 100;

/// When and how often to try again. Absent fields take the defaults.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryPolicy {
    /// Delay after the first attempt; default 1,000 ms.
    #[n(0)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_interval_ms: Option<u64>,
    /// Growth of the delay; at least 1.0, default 2.0.
    #[n(1)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_coefficient: Option<f64>,
    /// The longest delay; default 100 × the initial one.
    #[n(2)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_interval_ms: Option<u64>,
    /// The first try counts; absent or 0 means no limit.
    #[n(3)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_attempts: Option<u32>,
    /// Failure types that are final, matched exactly.
    #[n(4)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub non_retryable_types: Vec<String>,
}

impl RetryPolicy {
    /// The delay after attempt `attempt` (from 1) failed, in milliseconds.
    #[must_use]
    pub fn delay_ms(&self, attempt: u32) -> u64 {
        let initial = self.initial_interval_ms.unwrap_or(DEFAULT_INITIAL_INTERVAL_MS);
        let maximum = self
            .maximum_interval_ms
            .unwrap_or_else(|| initial.saturating_mul(DEFAULT_MAXIMUM_INTERVAL_FACTOR));
        let coefficient = self.backoff_coefficient.unwrap_or(DEFAULT_BACKOFF_COEFFICIENT).max(1.0);
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        // An infinite product is above every maximum.
        #[expect(clippy::cast_precision_loss, reason = "2^53 ms are 285,000 years")]
        let grown = initial as f64 * coefficient.powi(exponent);
        #[expect(clippy::cast_precision_loss, reason = "2^53 ms are 285,000 years")]
        let capped = grown.min(maximum as f64);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "capped by a u64 and not negative"
        )]
        let delay = capped as u64;
        delay.min(maximum)
    }

    /// Whether attempt `attempt` was the last one allowed.
    #[must_use]
    pub fn is_last(&self, attempt: u32) -> bool {
        self.maximum_attempts.is_some_and(|maximum| maximum > 0 && attempt >= maximum)
    }

    /// Says what is wrong with the policy, if anything.
    ///
    /// # Errors
    /// A coefficient below 1.0 or not finite.
    pub fn check(&self) -> Result<(), String> {
        match self.backoff_coefficient {
            Some(coefficient) if !(coefficient.is_finite() && coefficient >= 1.0) => {
                Err(format!("backoff_coefficient must be at least 1.0, not {coefficient}"))
            }
            _ => Ok(()),
        }
    }
}

/// What becomes of an activity after an attempt failed.
#[derive(Clone, Debug, PartialEq)]
pub enum AfterFailure {
    /// The next attempt starts at this time.
    RetryAt(Timestamp),
    /// No further attempt: the activity closes.
    Close {
        /// Why there is none.
        state: RetryState,
        /// What the closing event carries: the last failure, or the schedule-to-close time-out
        /// caused by it.
        failure: Failure,
    },
}

/// Decides whether an activity is tried again after attempt `attempt` failed at `now`.
#[must_use]
pub fn after_failure(
    policy: &RetryPolicy,
    timeouts: &ActivityTimeouts,
    scheduled_at: Timestamp,
    attempt: u32,
    failure: Failure,
    now: Timestamp,
) -> AfterFailure {
    let application = match &failure.kind {
        FailureKind::Application(application) => Some(application),
        _ => None,
    };
    let is_final = application.is_some_and(|application| {
        application.non_retryable || policy.non_retryable_types.contains(&application.failure_type)
    });
    if is_final {
        return AfterFailure::Close { state: RetryState::NonRetryableFailure, failure };
    }
    if let FailureKind::TimedOut(TimeoutFailure { timeout_type, .. }) = failure.kind {
        match timeout_type {
            TimeoutType::ScheduleToClose => {
                return AfterFailure::Close { state: RetryState::Timeout, failure };
            }
            // Another attempt would wait in the same queue (Temporal does not try it again either).
            TimeoutType::ScheduleToStart => {
                return AfterFailure::Close { state: RetryState::NonRetryableFailure, failure };
            }
            TimeoutType::StartToClose | TimeoutType::Heartbeat => {}
        }
    }
    if policy.is_last(attempt) {
        return AfterFailure::Close { state: RetryState::MaximumAttemptsReached, failure };
    }
    let delay_ms = application
        .and_then(|application| application.next_retry_delay_ms)
        .unwrap_or_else(|| policy.delay_ms(attempt));
    let at = now.plus_ms(delay_ms);
    match timeouts.deadline(scheduled_at) {
        Some(deadline) if at >= deadline => AfterFailure::Close {
            state: RetryState::Timeout,
            failure: Failure::timed_out(
                TimeoutType::ScheduleToClose,
                "the next attempt would pass the schedule-to-close time-out",
            )
            .caused_by(failure),
        },
        _ => AfterFailure::RetryAt(at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp(1_000_000);

    fn delays(policy: &RetryPolicy) -> Vec<u64> {
        [1, 2, 3, 4, 8, 100, u32::MAX].map(|attempt| policy.delay_ms(attempt)).to_vec()
    }

    #[test]
    fn the_delay_grows_to_its_maximum() {
        let default = RetryPolicy::default();
        assert_eq!(delays(&default), [1_000, 2_000, 4_000, 8_000, 100_000, 100_000, 100_000]);
        let saga = RetryPolicy { maximum_interval_ms: Some(60_000), ..RetryPolicy::default() };
        assert_eq!(delays(&saga), [1_000, 2_000, 4_000, 8_000, 60_000, 60_000, 60_000]);
        let flat = RetryPolicy { backoff_coefficient: Some(1.0), ..RetryPolicy::default() };
        assert_eq!(delays(&flat), [1_000; 7]);
        let none = RetryPolicy { initial_interval_ms: Some(0), ..RetryPolicy::default() };
        assert_eq!(delays(&none), [0; 7]);
    }

    #[test]
    fn a_final_failure_the_last_attempt_and_the_deadline_close_the_activity() {
        let policy = RetryPolicy {
            maximum_attempts: Some(3),
            non_retryable_types: vec!["Declined".to_owned()],
            ..RetryPolicy::default()
        };
        let timeouts = ActivityTimeouts { schedule_to_close_ms: Some(10_000), ..ActivityTimeouts::default() };
        let decide =
            |attempt, failure, now| match after_failure(&policy, &timeouts, T0, attempt, failure, now) {
                AfterFailure::RetryAt(at) => format!("retry after {} ms", at.ms_since(now)),
                AfterFailure::Close { state, failure } => format!("{state:?}, {failure}"),
            };
        let busy = || Failure::application("Busy", "later");
        assert_eq!(decide(1, busy(), T0), "retry after 1000 ms");
        assert_eq!(decide(2, busy(), T0), "retry after 2000 ms");
        assert_eq!(decide(3, busy(), T0), "MaximumAttemptsReached, Busy: later");
        assert_eq!(
            decide(1, Failure::application("Declined", "no"), T0),
            "NonRetryableFailure, Declined: no"
        );
        assert_eq!(
            decide(1, Failure::application("declined", "no"), T0),
            "retry after 1000 ms",
            "types match exactly"
        );
        assert_eq!(
            decide(1, busy(), T0.plus_ms(9_500)),
            "Timeout, TimedOut: the next attempt would pass the schedule-to-close time-out: Busy: later"
        );
        assert_eq!(
            decide(1, Failure::timed_out(TimeoutType::ScheduleToClose, "over"), T0),
            "Timeout, TimedOut: over"
        );
        assert_eq!(
            decide(1, Failure::timed_out(TimeoutType::ScheduleToStart, "nobody came"), T0),
            "NonRetryableFailure, TimedOut: nobody came"
        );
        for attempt_only in [TimeoutType::StartToClose, TimeoutType::Heartbeat] {
            let failure = Failure::timed_out(attempt_only, "late");
            assert_eq!(decide(1, failure, T0), "retry after 1000 ms", "{attempt_only:?}");
        }
        let mut named = busy();
        if let FailureKind::Application(application) = &mut named.kind {
            application.next_retry_delay_ms = Some(7);
        }
        assert_eq!(decide(1, named, T0), "retry after 7 ms");
    }
}
