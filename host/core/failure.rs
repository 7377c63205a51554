//! Failures as data: what an activity or a workflow reports, with its causes. They are persisted,
//! so that every kind and reason has an explicit, never reused value.

use std::fmt;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::ids::EventId;
use crate::payload::Payload;

/// A failure and, nested, its cause.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// For people.
    #[n(0)]
    pub message: String,
    /// For programs.
    #[n(1)]
    pub kind: FailureKind,
    /// Where it arose, one frame a line; empty if unknown.
    #[n(2)]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stack_trace: String,
    /// What led to it.
    #[n(3)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Box<Failure>>,
}

/// What sort of failure it is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FailureKind {
    /// Raised by a workflow's or an activity's own code.
    #[n(0)]
    Application(#[n(0)] ApplicationFailure),
    /// A time-out passed.
    #[n(1)]
    TimedOut(#[n(0)] TimeoutFailure),
    /// The operation was cancelled.
    #[n(2)]
    Canceled(#[n(0)] CanceledFailure),
    /// The run was terminated from outside.
    #[n(3)]
    Terminated,
    /// An activity failed for good; its last failure is the cause.
    #[n(4)]
    Activity(#[n(0)] ActivityFailure),
    /// A child workflow failed; its failure is the cause.
    #[n(5)]
    ChildWorkflow(#[n(0)] ChildWorkflowFailure),
    /// A kind that this version does not name.
    #[n(6)]
    Other(#[n(0)] OtherFailure),
}

/// A failure that code raised.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ApplicationFailure {
    /// Matched exactly by a retry policy's non-retryable types.
    #[n(0)]
    #[serde(rename = "type")]
    pub failure_type: String,
    /// Never tried again, whatever the policy says.
    #[n(1)]
    pub non_retryable: bool,
    /// Overrides the policy's delay before the next attempt.
    #[n(2)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_retry_delay_ms: Option<u64>,
    /// Data for the caller.
    #[n(3)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Payload>,
}

/// Which of an activity's time-outs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum TimeoutType {
    /// Waited too long for a worker.
    #[n(0)]
    ScheduleToStart,
    /// One attempt took too long.
    #[n(1)]
    StartToClose,
    /// All attempts together took too long.
    #[n(2)]
    ScheduleToClose,
    /// No heartbeat in time.
    #[n(3)]
    Heartbeat,
}

/// A time-out that passed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct TimeoutFailure {
    /// Which one.
    #[n(0)]
    pub timeout_type: TimeoutType,
    /// What the last heartbeat said.
    #[n(1)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_heartbeat_details: Vec<Payload>,
}

/// A cancellation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct CanceledFailure {
    /// Why, as the one who cancelled said.
    #[n(0)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Payload>,
}

/// Why an activity was not tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum RetryState {
    /// The failure or its type is marked as not to be retried.
    #[n(0)]
    NonRetryableFailure,
    /// All allowed attempts were made.
    #[n(1)]
    MaximumAttemptsReached,
    /// The next attempt would pass schedule-to-close.
    #[n(2)]
    Timeout,
    /// Cancellation was asked for.
    #[n(3)]
    CancelRequested,
}

/// An activity that failed for good.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ActivityFailure {
    /// The command that scheduled it.
    #[n(0)]
    pub scheduled_event_id: EventId,
    /// Its type.
    #[n(1)]
    pub activity_type: String,
    /// The number of the last attempt, from 1.
    #[n(2)]
    pub attempt: u32,
    /// Why there was no further one.
    #[n(3)]
    pub retry_state: RetryState,
}

/// A child workflow that failed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ChildWorkflowFailure {
    /// Its type.
    #[n(0)]
    pub workflow_type: String,
    /// Its workflow id.
    #[n(1)]
    pub workflow_id: String,
    /// Its run id.
    #[n(2)]
    pub run_id: String,
    /// The command that started it.
    #[n(3)]
    pub started_event_id: EventId,
}

/// A failure of a kind that this version does not name.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct OtherFailure {
    /// The kind's name.
    #[n(0)]
    pub name: String,
    /// What it carries.
    #[n(1)]
    pub attributes: Payload,
}

impl Failure {
    /// Bytes of its texts and payloads, causes included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let details = |payloads: &[Payload]| payloads.iter().map(Payload::size).sum::<usize>();
        let of = |link: &Self| {
            let data = match &link.kind {
                FailureKind::Application(application) => {
                    application.failure_type.len() + details(&application.details)
                }
                FailureKind::TimedOut(timeout) => details(&timeout.last_heartbeat_details),
                FailureKind::Canceled(canceled) => details(&canceled.details),
                FailureKind::Terminated => 0,
                FailureKind::Activity(activity) => activity.activity_type.len(),
                FailureKind::ChildWorkflow(child) => {
                    child.workflow_type.len() + child.workflow_id.len() + child.run_id.len()
                }
                FailureKind::Other(other) => other.name.len() + other.attributes.size(),
            };
            link.message.len() + link.stack_trace.len() + data
        };
        self.chain().map(of).sum()
    }

    /// An application failure.
    #[must_use]
    pub fn application(failure_type: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(
            message,
            FailureKind::Application(ApplicationFailure {
                failure_type: failure_type.into(),
                ..ApplicationFailure::default()
            }),
        )
    }

    /// An application failure that is never retried.
    #[must_use]
    pub fn non_retryable(failure_type: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(
            message,
            FailureKind::Application(ApplicationFailure {
                failure_type: failure_type.into(),
                non_retryable: true,
                ..ApplicationFailure::default()
            }),
        )
    }

    /// A passed time-out.
    #[must_use]
    pub fn timed_out(timeout_type: TimeoutType, message: impl Into<String>) -> Self {
        Self::new(
            message,
            FailureKind::TimedOut(TimeoutFailure { timeout_type, last_heartbeat_details: Vec::new() }),
        )
    }

    /// A failure without cause or stack trace.
    #[must_use]
    pub fn new(message: impl Into<String>, kind: FailureKind) -> Self {
        Self { message: message.into(), kind, stack_trace: String::new(), cause: None }
    }

    /// The same failure with `cause` beneath it.
    #[must_use]
    pub fn caused_by(mut self, cause: Self) -> Self {
        self.cause = Some(Box::new(cause));
        self
    }

    /// This failure and its causes, outermost first.
    pub fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |failure| failure.cause.as_deref())
    }

    /// The failure's type for programs: the application's own, else the kind's name.
    #[must_use]
    pub fn type_name(&self) -> &str {
        match &self.kind {
            FailureKind::Application(application) => &application.failure_type,
            FailureKind::TimedOut(_) => "TimedOut",
            FailureKind::Canceled(_) => "Canceled",
            FailureKind::Terminated => "Terminated",
            FailureKind::Activity(_) => "ActivityFailure",
            FailureKind::ChildWorkflow(_) => "ChildWorkflowFailure",
            FailureKind::Other(other) => &other.name,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, failure) in self.chain().enumerate() {
            if depth > 0 {
                f.write_str(": ")?;
            }
            write!(f, "{}: {}", failure.type_name(), failure.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}
