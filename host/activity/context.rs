//! What an attempt knows and may do.

use everfold_core::failure::{CanceledFailure, Failure, FailureKind};
use everfold_core::ids::{EventId, Namespace, RunId, Timestamp, WorkflowId};
use everfold_core::payload::Payload;
use tokio_util::sync::CancellationToken;

/// Facts about one attempt.
#[derive(Clone, Debug)]
pub struct ActivityInfo {
    /// Where the run lives.
    pub namespace: Namespace,
    /// The run's workflow id.
    pub workflow_id: WorkflowId,
    /// The run.
    pub run_id: RunId,
    /// The run's type.
    pub workflow_type: String,
    /// The activity's type.
    pub activity_type: String,
    /// The command that scheduled it.
    pub scheduled_event_id: EventId,
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// The same for all attempts of this activity.
    pub idempotency_key: String,
    /// When this attempt runs out of time.
    pub deadline: Option<Timestamp>,
    /// Named payloads beside the input.
    pub headers: Vec<(String, Payload)>,
}

/// What an attempt is given beside its input.
#[derive(Clone, Debug)]
pub struct ActivityContext {
    info: ActivityInfo,
    cancellation: CancellationToken,
}

impl ActivityContext {
    /// The context of one attempt.
    #[must_use]
    pub const fn new(info: ActivityInfo, cancellation: CancellationToken) -> Self {
        Self { info, cancellation }
    }

    /// Facts about the attempt.
    #[must_use]
    pub const fn info(&self) -> &ActivityInfo {
        &self.info
    }

    /// The failure by which an activity says that it stopped because it was asked to.
    #[must_use]
    pub fn canceled_failure(&self) -> Failure {
        let message = format!("activity {} stopped on request", self.info.activity_type);
        Failure::new(message, FailureKind::Canceled(CanceledFailure::default()))
    }

    /// Ends when the activity is asked to stop, or its attempt has run out of time.
    pub async fn cancelled(&self) {
        self.cancellation.cancelled().await;
    }

    /// Whether the activity was asked to stop, or its attempt has run out of time.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancellation.is_cancelled()
    }
}
