//! The JSON of the interface, in both directions: what the routes write and what clients read.
//! Names are snake_case, times RFC 3339, payloads the JSON value itself where they hold JSON.

use everfold_core::decision::Outcome;
use everfold_core::event::Event;
use everfold_core::failure::Failure;
use everfold_core::ids::{Digest, EventId, Namespace, RunId, Timestamp, WorkflowId};
use everfold_core::machine::RunStatus;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::runner::api;
use crate::store::ComponentRow;

/// The body that starts a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with at least `workflow_type`")]
pub struct StartBody {
    /// The run's type.
    pub workflow_type: String,
    /// Its workflow id; without one it gets the `request_id`, or else a new UUIDv7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_id: Option<String>,
    /// Its input; `null` if absent.
    #[serde(default)]
    pub input: Value,
    /// De-duplicates: the same id for the same workflow id names the same run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// A version other than the type's current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Named values beside the input.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub headers: Map<String, Value>,
}

/// A started run, and its end if it was waited for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Started {
    /// Its workflow id.
    pub workflow_id: WorkflowId,
    /// Its id.
    pub run_id: RunId,
    /// How it stands; absent if nobody waited.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Standing>,
}

/// How a run stands, with its end if it has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// The status.
    pub status: RunStatus,
    /// What callers of a closed run get.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
}

/// What callers of a closed run get.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It returned this.
    Result(Value),
    /// It failed with this, was cancelled, was terminated or ran out of time.
    Failure(Failure),
    /// Another run goes on under the same workflow id.
    ContinuedAsRunId(RunId),
}

/// A run's end, or that it is running.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunResult {
    /// Its workflow id.
    pub workflow_id: WorkflowId,
    /// Its id.
    pub run_id: RunId,
    /// How it stands.
    #[serde(flatten)]
    pub standing: Standing,
}

/// A run as its caller sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Description {
    /// Its workflow id.
    pub workflow_id: WorkflowId,
    /// Its id.
    pub run_id: RunId,
    /// Where it lives.
    pub namespace: Namespace,
    /// Its type.
    pub workflow_type: String,
    /// The component that folds it.
    pub digest: Digest,
    /// How it stands.
    #[serde(flatten)]
    pub standing: Standing,
    /// Events in its history.
    pub history_length: u64,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it closed.
    pub closed_at: Option<Timestamp>,
    /// Why it is blocked, or null.
    pub blocked: Option<Blocked>,
    /// Its open activities.
    pub pending_activities: Vec<PendingActivity>,
    /// Its open timers.
    pub timers: Vec<Timer>,
    /// Inputs that wait in its inbox.
    pub inbox_length: u64,
}

/// Why a run is blocked: a fault of its code.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Blocked {
    /// The event that cannot be folded; its number if it has one, else the one it would get.
    pub event: EventId,
    /// `nondeterminism`, `trap`, `limit_exceeded` or `component_unavailable`.
    pub kind: String,
    /// For people.
    pub reason: String,
    /// The guest's frames, one a line, innermost first; may be empty.
    pub backtrace: String,
    /// Since when.
    pub since: Timestamp,
    /// How often it was tried again in vain.
    pub retries: u32,
    /// When it is tried next.
    pub next_retry_at: Timestamp,
}

/// An open activity.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PendingActivity {
    /// The command that scheduled it.
    pub scheduled_event_id: EventId,
    /// Its type.
    pub activity_type: String,
    /// The attempt that is under way or comes next, from 1.
    pub attempt: u32,
    /// The most it may be tried; null means no limit.
    pub maximum_attempts: Option<u32>,
    /// When it was scheduled.
    pub scheduled_at: Timestamp,
    /// Why the last attempt failed.
    pub last_failure: Option<Failure>,
    /// When it failed.
    pub last_failure_at: Option<Timestamp>,
    /// When the attempt begins or began; null for the first.
    pub next_attempt_at: Option<Timestamp>,
    /// Whether it was asked to stop.
    pub cancel_requested: bool,
}

/// An open timer.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Timer {
    /// The command that started it.
    pub started_event_id: EventId,
    /// When it fires.
    pub fire_at: Timestamp,
}

/// A page of a run's history.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct History {
    /// The run's workflow id.
    pub workflow_id: WorkflowId,
    /// The run.
    pub run_id: RunId,
    /// Where it lives.
    pub namespace: Namespace,
    /// Its type.
    pub workflow_type: String,
    /// The component that folds it.
    pub digest: Digest,
    /// How it stands.
    pub status: RunStatus,
    /// In order.
    pub events: Vec<Event>,
    /// Whether the run is closed and `events` reaches its end: nothing will follow.
    pub complete: bool,
}

/// A component that was just deployed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Deployed {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
    /// The workflow types in it.
    pub workflow_types: Vec<String>,
    /// Those of them whose new runs start on this component.
    pub current_for: Vec<String>,
    /// One line for people on each type that has one.
    pub summaries: Map<String, Value>,
    /// Its SDK, for people.
    pub sdk: String,
    /// How long its compilation took; null when its code was there.
    pub compile_ms: Option<u64>,
}

/// All components.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Components {
    /// Oldest first.
    pub components: Vec<Component>,
}

/// A component of the list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Component {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
    /// The workflow types in it.
    pub workflow_types: Vec<String>,
    /// Those of them whose new runs start on this component.
    pub current_for: Vec<String>,
    /// Its SDK, for people.
    pub sdk: String,
    /// When it was deployed.
    pub deployed_at: Timestamp,
}

impl Standing {
    /// How a run stands.
    #[must_use]
    pub fn new(status: RunStatus, outcome: Option<Outcome>) -> Self {
        let end = outcome.map(|outcome| match outcome {
            Outcome::Result(payload) => End::Result(payload.to_value()),
            Outcome::Failure(failure) => End::Failure(failure),
            Outcome::ContinuedAs(run_id) => End::ContinuedAsRunId(run_id),
        });
        Self { status, end }
    }
}

impl From<api::Description> for Description {
    fn from(run: api::Description) -> Self {
        Self {
            workflow_id: run.workflow_id,
            run_id: run.key.run_id,
            namespace: run.key.namespace,
            workflow_type: run.workflow_type,
            digest: run.digest,
            standing: Standing::new(run.status, run.outcome),
            history_length: run.history_length,
            started_at: run.started_at,
            closed_at: run.closed_at,
            blocked: run.blocked.map(|blocked| Blocked {
                event: blocked.event_id,
                kind: blocked.kind.name().to_owned(),
                reason: blocked.reason,
                backtrace: blocked.backtrace,
                since: blocked.since,
                retries: blocked.retries,
                next_retry_at: blocked.retry_at,
            }),
            pending_activities: run.pending_activities.into_iter().map(PendingActivity::from).collect(),
            timers: run
                .timers
                .into_iter()
                .map(|(started_event_id, fire_at)| Timer { started_event_id, fire_at })
                .collect(),
            inbox_length: run.inbox_length,
        }
    }
}

impl From<api::PendingActivityInfo> for PendingActivity {
    fn from(activity: api::PendingActivityInfo) -> Self {
        let attempts = activity.attempts;
        Self {
            scheduled_event_id: activity.scheduled_event_id,
            activity_type: activity.activity_type,
            attempt: attempts.as_ref().map_or(1, |attempts| attempts.attempt),
            maximum_attempts: activity.maximum_attempts,
            scheduled_at: activity.scheduled_at,
            next_attempt_at: attempts.as_ref().map(|attempts| attempts.next_attempt_at),
            last_failure_at: attempts.as_ref().and_then(|attempts| attempts.last_failure_at),
            last_failure: attempts.and_then(|attempts| attempts.last_failure),
            cancel_requested: activity.cancel_requested,
        }
    }
}

impl From<api::HistoryPage> for History {
    fn from(page: api::HistoryPage) -> Self {
        Self {
            workflow_id: page.workflow_id,
            run_id: page.key.run_id,
            namespace: page.key.namespace,
            workflow_type: page.workflow_type,
            digest: page.digest,
            status: page.status,
            events: page.events,
            complete: page.is_complete,
        }
    }
}

impl From<api::Deployed> for Deployed {
    fn from(deployed: api::Deployed) -> Self {
        let types = &deployed.workflow_types;
        let current = types.iter().filter(|workflow_type| workflow_type.is_current);
        let described = types.iter().filter(|workflow_type| !workflow_type.summary.is_empty());
        Self {
            digest: deployed.digest,
            size: deployed.size,
            workflow_types: types.iter().map(|workflow_type| workflow_type.name.clone()).collect(),
            current_for: current.map(|workflow_type| workflow_type.name.clone()).collect(),
            summaries: described
                .map(|workflow_type| (workflow_type.name.clone(), workflow_type.summary.clone().into()))
                .collect(),
            sdk: deployed.sdk,
            compile_ms: deployed.compile_time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

impl From<ComponentRow> for Component {
    fn from(row: ComponentRow) -> Self {
        let current = row.workflow_types.iter().filter(|(_, is_current)| *is_current);
        Self {
            digest: row.digest,
            size: row.size,
            current_for: current.map(|(name, _)| name.clone()).collect(),
            workflow_types: row.workflow_types.iter().map(|(name, _)| name.clone()).collect(),
            sdk: row.sdk,
            deployed_at: row.deployed_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use everfold_core::payload::Payload;

    use super::*;

    #[test]
    fn an_end_stands_beside_the_status_and_reads_back() {
        let outcome = |value: &str| Some(Outcome::Result(Payload::json_text(value.into())));
        let cases = [
            (RunStatus::Running, None, r#"{"status":"running"}"#),
            (RunStatus::Completed, outcome(r#"{"a":1}"#), r#"{"status":"completed","result":{"a":1}}"#),
            (RunStatus::Completed, outcome("null"), r#"{"status":"completed","result":null}"#),
            (
                RunStatus::Failed,
                Some(Outcome::Failure(Failure::application("Declined", "no"))),
                r#"{"status":"failed","failure":{"message":"no","kind":{"kind":"application","type":"Declined","non_retryable":false}}}"#,
            ),
            (
                RunStatus::ContinuedAsNew,
                Some(Outcome::ContinuedAs(RunId([0; 16]))),
                r#"{"status":"continued_as_new","continued_as_run_id":"00000000-0000-0000-0000-000000000000"}"#,
            ),
        ];
        for (status, outcome, expected) in cases {
            let standing = Standing::new(status, outcome);
            let text = serde_json::to_string(&standing).expect("JSON");
            assert_eq!(text, expected);
            assert_eq!(serde_json::from_str::<Standing>(&text).expect("it reads back"), standing);
        }
    }
}
