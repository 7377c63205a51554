//! Why an activity's call gave no result.
//!
//! The type answers what a workflow asks of it: may the step have happened, was it a time-out, which
//! failure of the activity's own was it.

use std::fmt;

use crate::cancellation::Canceled;
use crate::failure::{Failure, FailureKind, RetryState};
use crate::payload::DecodeError;

/// An activity's call that gave no result. As a [`Failure`] it is the chain that the host told.
#[derive(Clone, Debug, PartialEq)]
pub struct ActivityError {
    kind: ActivityErrorKind,
    attempt: Option<u32>,
    failure: Failure,
}

/// How an activity's call came to give no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivityErrorKind {
    /// The activity failed, and is not tried again.
    Failed,
    /// A time-out of the activity passed.
    TimedOut,
    /// The activity was cancelled, or the run was and no longer waits for it.
    Canceled,
    /// The run was cancelled before the activity was asked for.
    NeverAsked,
    /// JSON cannot hold the input; the activity was not asked for.
    InvalidInput,
    /// The activity completed, and what it gave is not of the result's type.
    InvalidResult,
}

impl ActivityError {
    pub(crate) fn closed(kind: ActivityErrorKind, attempt: u32, failure: Failure) -> Self {
        Self { kind, attempt: Some(attempt), failure }
    }

    pub(crate) fn given_up(activity_type: &str, canceled: Canceled) -> Self {
        Self {
            kind: ActivityErrorKind::Canceled,
            attempt: None,
            failure: canceled.into_failure(format!("activity `{activity_type}` was cancelled")),
        }
    }

    pub(crate) fn never_asked(activity_type: &str, canceled: Canceled) -> Self {
        let message = format!("activity `{activity_type}` was not asked for: the run is cancelled");
        Self { kind: ActivityErrorKind::NeverAsked, attempt: None, failure: canceled.into_failure(message) }
    }

    pub(crate) fn invalid_input(activity_type: &str, reason: &serde_json::Error) -> Self {
        let message = format!("the input of activity `{activity_type}` is not JSON: {reason}");
        Self {
            kind: ActivityErrorKind::InvalidInput,
            attempt: None,
            failure: Failure::application("InvalidInput", message).non_retryable(),
        }
    }

    pub(crate) fn invalid_result(activity_type: &str, attempt: u32, reason: &DecodeError) -> Self {
        let message = format!("the result of activity `{activity_type}` does not decode: {reason}");
        Self {
            kind: ActivityErrorKind::InvalidResult,
            attempt: Some(attempt),
            failure: Failure::application("InvalidResult", message).non_retryable(),
        }
    }

    /// How the call came to give no result.
    #[must_use]
    pub fn kind(&self) -> ActivityErrorKind {
        self.kind
    }

    /// The last attempt that was made; none if the activity was never asked for, or if the run did not
    /// wait for its end.
    #[must_use]
    pub fn attempt(&self) -> Option<u32> {
        self.attempt
    }

    /// The chain of failures.
    #[must_use]
    pub fn failure(&self) -> &Failure {
        &self.failure
    }

    /// Whether a time-out was the end of it, or of its last attempt.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.failure.is_timeout()
    }

    /// Whether it was cancelled.
    #[must_use]
    pub fn is_canceled(&self) -> bool {
        self.failure.is_canceled()
    }

    /// The type of the activity's own failure.
    #[must_use]
    pub fn application_type(&self) -> Option<&str> {
        self.failure.application_type()
    }

    /// Why it is not tried again, if the host said so.
    #[must_use]
    pub fn retry_state(&self) -> Option<RetryState> {
        match self.failure.kind() {
            FailureKind::Activity(activity) => Some(activity.retry_state),
            FailureKind::Application(_)
            | FailureKind::TimedOut(_)
            | FailureKind::Canceled(_)
            | FailureKind::Terminated
            | FailureKind::ChildWorkflow(_)
            | FailureKind::Other(_) => None,
        }
    }

    /// Whether the activity is known to have changed nothing: it was never asked for, or it failed
    /// with a final failure of its own. After a time-out, a cancellation or the last of several
    /// attempts nobody knows.
    #[must_use]
    pub fn had_no_effect(&self) -> bool {
        match self.kind {
            ActivityErrorKind::NeverAsked | ActivityErrorKind::InvalidInput => true,
            ActivityErrorKind::Failed => {
                self.retry_state() == Some(RetryState::NonRetryableFailure)
                    && matches!(
                        self.failure.links(),
                        [_, cause, ..] if matches!(cause.kind, FailureKind::Application(_))
                    )
            }
            ActivityErrorKind::TimedOut | ActivityErrorKind::Canceled | ActivityErrorKind::InvalidResult => {
                false
            }
        }
    }
}

impl fmt::Display for ActivityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure.fmt(f)
    }
}

impl std::error::Error for ActivityError {}

impl From<ActivityError> for Failure {
    fn from(error: ActivityError) -> Self {
        error.failure
    }
}
