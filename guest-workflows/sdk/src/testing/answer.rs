//! What a scripted activity does when it is asked.

use serde_json::Value;

use crate::bindings::everfold::workflow::types as wit;
use crate::failure::{Failure, FailureKind, RetryState, TimeoutType};

/// How a scripted activity closes.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// With a result.
    Complete(Value),
    /// With a result, at that attempt.
    CompleteAt {
        /// The attempt that succeeded.
        attempt: u32,
        /// What it gave.
        result: Value,
    },
    /// With a failure.
    Fail {
        /// Why it is not tried again.
        retry_state: RetryState,
        /// The last attempt's failure.
        failure: Failure,
    },
    /// With a time-out.
    TimeOut(TimeoutType),
    /// As cancelled.
    Cancel,
    /// Not yet.
    LeaveOpen,
}

impl Answer {
    /// Fails with a failure that is final: nothing was done.
    #[must_use]
    pub fn refuse(failure_type: &str, message: &str) -> Self {
        Self::Fail {
            retry_state: RetryState::NonRetryableFailure,
            failure: Failure::application(failure_type, message).non_retryable(),
        }
    }

    /// Fails at the last of several attempts: nobody knows what was done.
    #[must_use]
    pub fn exhaust(failure_type: &str, message: &str) -> Self {
        Self::Fail {
            retry_state: RetryState::MaximumAttemptsReached,
            failure: Failure::application(failure_type, message),
        }
    }
}

pub(super) fn timed_out(timeout: TimeoutType) -> Failure {
    let kind =
        FailureKind::TimedOut(wit::TimeoutFailure { type_: timeout, last_heartbeat_details: Vec::new() });
    Failure::new("a time-out passed", kind)
}
