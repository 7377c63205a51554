//! The JSON of activities: what workers poll and report, and how open activities stand.

use everfold_core::event::ActivityTimeouts;
use everfold_core::failure::{ApplicationFailure, Failure, FailureKind};
use everfold_core::ids::{EventId, RunId, Timestamp, WorkflowId};
use everfold_core::payload::Payload;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::shapes;
use crate::runner::api;
use crate::server::extract::Wait;

/// An open activity.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PendingActivity {
    /// The command that scheduled it.
    #[schema(value_type = u64, minimum = 1)]
    pub scheduled_event_id: EventId,
    /// Its type.
    pub activity_type: String,
    /// The queue in which it waits for a worker, unless it is native code of the host.
    pub task_queue: String,
    /// Whether its next attempt begins at its time, it waits for a worker, an attempt is under way, no attempt begins,
    /// or none does behind the one under way.
    #[schema(value_type = shapes::ActivityState)]
    pub state: String,
    /// The attempt that is under way or comes next, from 1.
    pub attempt: u32,
    /// The most it may be tried; null means no limit.
    #[schema(required)]
    pub maximum_attempts: Option<u32>,
    /// When it was scheduled.
    #[schema(value_type = String, format = DateTime)]
    pub scheduled_at: Timestamp,
    /// Why the last attempt failed.
    #[schema(value_type = Option<shapes::Failure>, required)]
    pub last_failure: Option<Failure>,
    /// When it failed.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub last_failure_at: Option<Timestamp>,
    /// When the attempt begins or began; null for the first.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub next_attempt_at: Option<Timestamp>,
    /// When the attempt under way last sent a heartbeat.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub last_heartbeat_at: Option<Timestamp>,
    /// What its last heartbeat said; the next attempt receives it.
    #[schema(required)]
    pub heartbeat_details: Option<Value>,
    /// Whether it was asked to stop.
    pub cancel_requested: bool,
    /// Who makes the attempt that is under way outside the host, or null.
    #[schema(required)]
    pub lease: Option<Lease>,
    /// Since when no attempt begins, or null.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub paused_at: Option<Timestamp>,
}

/// An attempt that is under way outside the host.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Lease {
    /// The worker that polled it, as it named itself; null where native code has said that it completes later.
    #[schema(required)]
    pub worker: Option<String>,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
}

/// The body of a poll.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with at least `identity`")]
pub struct PollBody {
    /// The worker, as it is to be shown: a host name and a process id, say.
    #[schema(min_length = 1, max_length = 1000)]
    pub identity: String,
    /// The activity types that it runs, at most 100; all if absent or empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 100)]
    pub activity_types: Vec<String>,
}

/// An attempt that a worker is to make. It is leased to it until it is reported or a time-out passes.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ActivityTask {
    /// What the attempt is reported by.
    pub token: String,
    /// The run's workflow id.
    #[schema(value_type = String)]
    pub workflow_id: WorkflowId,
    /// The run.
    #[schema(value_type = String, format = "uuid")]
    pub run_id: RunId,
    /// The run's type.
    pub workflow_type: String,
    /// Which activity.
    pub activity_type: String,
    /// The event that scheduled it.
    #[schema(value_type = u64, minimum = 1)]
    pub activity_id: EventId,
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// Its input.
    pub input: Value,
    /// Named values beside the input.
    #[schema(value_type = HashMap<String, Value>)]
    pub headers: Map<String, Value>,
    /// The same for all attempts of the activity.
    pub idempotency_key: String,
    /// The activity's time-outs; those that it does not have are absent.
    #[schema(value_type = shapes::ActivityTimeouts)]
    pub timeouts: ActivityTimeouts,
    /// What the last heartbeat of an attempt before said, or null.
    pub heartbeat_details: Value,
    /// When the activity was scheduled; behind a reset, when that was.
    #[schema(value_type = String, format = DateTime)]
    pub scheduled_at: Timestamp,
    /// When the attempt began: now.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// When it runs out of time, or null.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub deadline: Option<Timestamp>,
}

/// The body of a completion; an absent body counts as `{}`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with `result`, or nothing")]
pub struct CompleteBody {
    /// What the activity returns; `null` if absent.
    #[serde(default)]
    pub result: Value,
}

/// The body that says that an attempt failed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with at least `failure`")]
pub struct FailBody {
    /// Why.
    pub failure: FailureBody,
}

/// A failure that a worker raises.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with at least `type` and `message`")]
pub struct FailureBody {
    /// Its name, which a retry policy may name as final.
    #[serde(rename = "type")]
    #[schema(max_length = 1000)]
    pub failure_type: String,
    /// For people.
    pub message: String,
    /// Whether the activity is not to be tried again, whatever its policy says.
    #[serde(default)]
    pub non_retryable: bool,
    /// When to try again, as `30s`, `500ms` or `2m`, instead of the policy's delay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "30s")]
    pub next_retry_delay: Option<String>,
    /// Data for the workflow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Value>,
    /// What led to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(no_recursion)]
    pub cause: Option<Box<FailureBody>>,
}

/// The body of a heartbeat; an absent body counts as `{}`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with `details`, or nothing")]
pub struct HeartbeatBody {
    /// How far the attempt is; the next attempt receives it. Without it what was said before stays.
    #[serde(default)]
    pub details: Option<Value>,
}

/// The body that says that an attempt stopped on request; an absent body counts as `{}`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with `details`, or nothing")]
pub struct CancelBody {
    /// Data for the workflow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Value>,
}

/// What is wished of an attempt that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Wishes {
    /// That it stops, and says so by `cancel`.
    pub cancel_requested: bool,
    /// That no other attempt follows for now.
    pub paused: bool,
    /// That the next attempt counts as the first.
    pub reset: bool,
}

/// The body of a reset; an absent body counts as `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with `keep_paused`, or nothing")]
pub struct ResetBody {
    /// Whether a pause stays.
    #[serde(default)]
    pub keep_paused: bool,
}

impl FailureBody {
    /// The failure that it means.
    ///
    /// # Errors
    /// Which member cannot be read.
    pub fn into_failure(self) -> Result<Failure, String> {
        let next_retry_delay_ms = match self.next_retry_delay {
            Some(text) => {
                let delay: jiff::SignedDuration =
                    text.parse().map_err(|_| format!("next_retry_delay: {}", Wait::expected(&text)))?;
                let delay = u64::try_from(delay.as_millis());
                Some(delay.map_err(|_| format!("next_retry_delay: {}", Wait::expected(&text)))?)
            }
            None => None,
        };
        let details = self.details.iter().map(Payload::json).collect::<Result<_, _>>();
        let kind = FailureKind::Application(ApplicationFailure {
            failure_type: self.failure_type,
            non_retryable: self.non_retryable,
            next_retry_delay_ms,
            details: details.map_err(|error| format!("details: {error}"))?,
        });
        let failure = Failure::new(self.message, kind);
        match self.cause {
            Some(cause) => Ok(failure.caused_by(cause.into_failure()?)),
            None => Ok(failure),
        }
    }
}

impl From<api::ActivityTask> for ActivityTask {
    fn from(task: api::ActivityTask) -> Self {
        let scheduled = task.scheduled;
        let header = |(name, value): &(String, Payload)| (name.clone(), value.to_value());
        Self {
            token: task.token,
            workflow_id: task.workflow_id,
            run_id: task.run_id,
            workflow_type: task.workflow_type,
            activity_type: scheduled.activity_type.clone(),
            activity_id: task.scheduled_event_id,
            attempt: task.attempt,
            input: scheduled.input.to_value(),
            headers: scheduled.headers.iter().map(header).collect(),
            idempotency_key: scheduled.idempotency_key.clone(),
            timeouts: scheduled.timeouts.clone(),
            heartbeat_details: task.heartbeat_details.map_or(Value::Null, |details| details.to_value()),
            scheduled_at: task.scheduled_at,
            started_at: task.started_at,
            deadline: task.deadline,
        }
    }
}

impl From<api::Wishes> for Wishes {
    fn from(wishes: api::Wishes) -> Self {
        let api::Wishes { cancel_requested, paused, reset } = wishes;
        Self { cancel_requested, paused, reset }
    }
}

impl From<api::PendingActivityInfo> for PendingActivity {
    fn from(activity: api::PendingActivityInfo) -> Self {
        let row = activity.attempts;
        let of_row = row.as_ref();
        Self {
            scheduled_event_id: activity.scheduled_event_id,
            activity_type: activity.activity_type,
            task_queue: activity.task_queue,
            state: activity.state.name().to_owned(),
            attempt: of_row.map_or(1, |row| row.attempt),
            maximum_attempts: activity.maximum_attempts,
            scheduled_at: activity.scheduled_at,
            next_attempt_at: of_row.map(|row| row.next_attempt_at),
            last_failure_at: of_row.and_then(|row| row.last_failure_at),
            last_heartbeat_at: of_row.and_then(|row| row.last_heartbeat_at),
            heartbeat_details: of_row.and_then(|row| row.heartbeat_details.as_ref()).map(Payload::to_value),
            lease: of_row
                .and_then(|row| row.lease.as_ref())
                .map(|lease| Lease { worker: lease.worker.clone(), since: lease.since }),
            paused_at: of_row.and_then(|row| row.paused).map(|paused| paused.since),
            last_failure: row.and_then(|row| row.last_failure),
            cancel_requested: activity.cancel_requested,
        }
    }
}
