//! What an attempt knows and may do.

use std::sync::Arc;

use everfold_core::failure::{CanceledFailure, Failure, FailureKind};
use everfold_core::ids::{EventId, Namespace, RunId, RunKey, Timestamp, WorkflowId};
use everfold_core::payload::Payload;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::heartbeat::Heartbeats;
use super::token::TaskToken;
use super::{Desk, failure_type};
use crate::guest::MetricKind;
use crate::telemetry::{AttemptRecord, ClientSpan};

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
    heartbeats: Heartbeats,
    record: AttemptRecord,
    desk: Arc<Desk>,
}

/// What an activity measures. It is told once the attempt's end is on disk; what passes the bounds is
/// dropped and counted: a name is `[a-z][a-z0-9_]*` and does not begin with `everfold`, with at most five
/// attributes of such names and values of at most 64 bytes. A name keeps the kind that it was first used with.
#[derive(Clone, Copy, Debug)]
pub struct ActivityMetrics<'a>(&'a AttemptRecord);

impl ActivityMetrics<'_> {
    /// Adds to a sum. Names of sums end in `_total`.
    pub fn counter(&self, name: &str, value: f64, attributes: &[(&str, &str)]) {
        self.0.measure(MetricKind::Counter, name, value, attributes);
    }

    /// Counts a value in buckets: those of seconds where the name ends in `_seconds`, else powers of four.
    pub fn histogram(&self, name: &str, value: f64, attributes: &[(&str, &str)]) {
        self.0.measure(MetricKind::Histogram, name, value, attributes);
    }
}

impl ActivityContext {
    /// The context of one attempt.
    #[must_use]
    pub fn new(
        info: ActivityInfo,
        cancellation: CancellationToken,
        heartbeats: Heartbeats,
        record: AttemptRecord,
    ) -> Self {
        Self { info, cancellation, heartbeats, record, desk: Arc::default() }
    }

    /// The same at the activity's own desk.
    pub(super) fn at_desk(self, desk: Arc<Desk>) -> Self {
        Self { desk, ..self }
    }

    /// Facts about the attempt.
    #[must_use]
    pub const fn info(&self) -> &ActivityInfo {
        &self.info
    }

    /// Says that the attempt is alive and how far it is. The details of the last heartbeat reach the
    /// next attempt; a crash of the host may lose those of the last seconds.
    ///
    /// # Errors
    /// [`ActivityContext::canceled_failure`] when the activity was asked to stop, so that `?` stops it;
    /// a final failure when the details are no JSON.
    pub fn heartbeat(&self, details: &impl Serialize) -> Result<(), Failure> {
        let details = Payload::json(details).map_err(|error| {
            Failure::non_retryable(
                failure_type::INVALID_OUTPUT,
                format!("a heartbeat does not encode: {error}"),
            )
        })?;
        self.heartbeats.send(Some(details));
        if self.is_cancelled() { Err(self.canceled_failure()) } else { Ok(()) }
    }

    /// What the last heartbeat said, of this attempt or of the one before; absent where there was none,
    /// or where it said something else than a `T`.
    #[must_use]
    pub fn heartbeat_details<T: DeserializeOwned>(&self) -> Option<T> {
        self.heartbeats.last().details.and_then(|details| details.decode().ok())
    }

    /// Whether an operator has paused the activity: this attempt may go on to its end, and none follows for now.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.desk.is_paused()
    }

    /// This attempt's token: whoever has it can complete, fail and cancel the attempt and send its heartbeats
    /// (`POST /api/v1/activities/{token}/…`). It is good from now on, and until the attempt is over.
    #[must_use]
    pub fn task_token(&self) -> String {
        let info = &self.info;
        let token = TaskToken {
            key: RunKey { namespace: info.namespace.clone(), run_id: info.run_id },
            scheduled_event_id: info.scheduled_event_id,
            attempt: info.attempt,
            lease_id: self.desk.lease_id(self.heartbeats.clock()),
        };
        token.encode()
    }

    /// What an activity returns as its failure that is completed later, by its [token](Self::task_token). The
    /// attempt stays open, also behind a restart of the host, and its time-outs go on.
    #[must_use]
    pub fn completes_later(&self) -> Failure {
        self.desk.complete_later();
        Failure::application(failure_type::COMPLETES_LATER, "the attempt is completed from outside")
    }

    /// What the activity measures.
    #[must_use]
    pub const fn metrics(&self) -> ActivityMetrics<'_> {
        ActivityMetrics(&self.record)
    }

    /// The `traceparent` (W3C Trace Context) of this attempt's span.
    #[must_use]
    pub fn traceparent(&self) -> Option<String> {
        self.record.traceparent()
    }

    /// Begins a call to somebody else: a span of its own, which ends when the answer is dropped and has
    /// the `traceparent` to send with the call.
    pub fn client_span(&self, name: &str) -> ClientSpan {
        self.record.client_span(name)
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
