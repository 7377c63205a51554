//! Why a child gave no result.

use std::fmt;

use crate::cancellation::Canceled;
use crate::failure::{Failure, FailureKind};
use crate::payload::DecodeError;

/// The type of the failure of a child whose workflow id has an open run, or may not be used again.
pub const WORKFLOW_ALREADY_STARTED: &str = "WorkflowAlreadyStarted";

/// A child that gave no result. As a [`Failure`] it is the chain that the host told: the child's, and its cause.
#[derive(Clone, Debug, PartialEq)]
pub struct ChildError {
    kind: ChildErrorKind,
    failure: Failure,
}

/// How a child came to give no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildErrorKind {
    /// It was not started: its workflow id is in use ([`WORKFLOW_ALREADY_STARTED`]).
    NotStarted,
    /// It failed, was terminated or ran out of time; [`ChildError::failure`] says which.
    Failed,
    /// It was cancelled, or its parent was and no longer waits for it.
    Canceled,
    /// The parent was cancelled before the child was asked for.
    NeverAsked,
    /// JSON cannot hold the input; the child was not asked for.
    InvalidInput,
    /// It completed, and what it gave is not of the result's type.
    InvalidResult,
}

impl ChildError {
    pub(crate) fn not_started(failure: Failure) -> Self {
        Self { kind: ChildErrorKind::NotStarted, failure }
    }

    pub(crate) fn closed(failure: Failure) -> Self {
        let kind = if failure.is_canceled() { ChildErrorKind::Canceled } else { ChildErrorKind::Failed };
        Self { kind, failure }
    }

    pub(crate) fn given_up(workflow_type: &str, canceled: Canceled) -> Self {
        let message = format!("child workflow `{workflow_type}` was cancelled");
        Self { kind: ChildErrorKind::Canceled, failure: canceled.into_failure(message) }
    }

    pub(crate) fn never_asked(workflow_type: &str, canceled: Canceled) -> Self {
        let message = format!("child workflow `{workflow_type}` was not asked for: the run is cancelled");
        Self { kind: ChildErrorKind::NeverAsked, failure: canceled.into_failure(message) }
    }

    pub(crate) fn invalid_input(workflow_type: &str, reason: &serde_json::Error) -> Self {
        let message = format!("the input of child workflow `{workflow_type}` is not JSON: {reason}");
        let failure = Failure::application("InvalidInput", message).non_retryable();
        Self { kind: ChildErrorKind::InvalidInput, failure }
    }

    pub(crate) fn invalid_result(workflow_type: &str, reason: &DecodeError) -> Self {
        let message = format!("the result of child workflow `{workflow_type}` does not decode: {reason}");
        let failure = Failure::application("InvalidResult", message).non_retryable();
        Self { kind: ChildErrorKind::InvalidResult, failure }
    }

    /// How the child came to give no result.
    #[must_use]
    pub fn kind(&self) -> ChildErrorKind {
        self.kind
    }

    /// The chain of failures.
    #[must_use]
    pub fn failure(&self) -> &Failure {
        &self.failure
    }

    /// Whether it was cancelled.
    #[must_use]
    pub fn is_canceled(&self) -> bool {
        self.failure.is_canceled()
    }

    /// Whether it was terminated from outside.
    #[must_use]
    pub fn is_terminated(&self) -> bool {
        self.failure.links().iter().any(|link| matches!(link.kind, FailureKind::Terminated))
    }

    /// The type of the child's own failure.
    #[must_use]
    pub fn application_type(&self) -> Option<&str> {
        self.failure.application_type()
    }
}

impl fmt::Display for ChildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure.fmt(f)
    }
}

impl std::error::Error for ChildError {}

impl From<ChildError> for Failure {
    fn from(error: ChildError) -> Self {
        error.failure
    }
}
