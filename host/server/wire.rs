//! The JSON of the interface, in both directions: what the routes write and what clients read.
//! Names are snake_case, times RFC 3339, payloads the JSON value itself where they hold JSON.
//! Here are runs; `talk` has what is said to them, `activities` what they wait for, `components` what folds them, `versions` which
//! of those does.

mod activities;
mod components;
mod convert;
mod reset;
mod schedules;
mod talk;
mod versions;

use everfold_core::command::ParentClosePolicy;
use everfold_core::decision::Outcome;
use everfold_core::divergence::Nondeterminism;
use everfold_core::event::Event;
use everfold_core::failure::Failure;
use everfold_core::ids::{Digest, EventId, Namespace, RunId, Timestamp, WorkflowId};
use everfold_core::limits::LimitKind;
use everfold_core::machine::RunStatus;
use everfold_core::machine::update::UpdateStage;
use everfold_core::retry::RetryPolicy;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

pub use crate::version::report::{
    Ahead, CheckReport, Example, Finding, Group, Outlook, Progress, Tally, TypeReport, UpgradeReport,
};
pub use activities::{
    ActivityTask, CancelBody, CompleteBody, FailBody, FailureBody, HeartbeatBody, Lease, PendingActivity,
    PollBody, ResetBody, Wishes,
};
pub use components::{Component, Components, Deployed, DeployedType, Handler, HandlerChange, TypeChanges};
pub use reset::{Repeated, ResetResult, ResetRunBody};
pub use schedules::{
    BackfillBody, PauseBody, Schedule, ScheduleAction, ScheduleBody, ScheduleCounts, ScheduleList,
    SchedulePolicies, ScheduleUpdateBody, ScheduledRun, TriggerBody,
};
pub use talk::{
    Acknowledged, QueryBody, QueryResult, SignalBody, StopBody, UpdateBody, UpdateEnd, UpdateResult,
};
pub use versions::{
    Candidate, PromoteBody, Route, Routed, Routing, RoutingBody, TypeVersions, UpgradeBody, Version,
    WorkflowTypes,
};

use super::openapi::shapes;
use crate::runner::api::{IdConflictPolicy, IdReusePolicy};

/// The body that starts a run.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with at least `workflow_type`")]
pub struct StartBody {
    /// The run's type.
    #[schema(min_length = 1, max_length = 1000)]
    pub workflow_type: String,
    /// Its workflow id; without one it gets the `request_id`, or else a new UUIDv7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 1000)]
    pub workflow_id: Option<String>,
    /// Its input; `null` if absent.
    #[serde(default)]
    pub input: Value,
    /// De-duplicates: the same id for the same workflow id names the same run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 1000)]
    pub request_id: Option<String>,
    /// A version other than the type's current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^[0-9a-f]{64}$")]
    pub digest: Option<Digest>,
    /// Named values beside the input.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = HashMap<String, Value>)]
    pub headers: Map<String, Value>,
    /// Whether the workflow id may have been that of a closed run which the host still keeps: however it closed, only
    /// if it did not complete, or never; `allow_duplicate` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<shapes::IdReusePolicy>)]
    pub id_reuse_policy: Option<IdReusePolicy>,
    /// What becomes of a run that is open under the workflow id: the start is refused, answers with that run, or
    /// terminates it first. If absent `fail`, and `use_existing` with a signal or an update, which
    /// allow no `fail`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<shapes::IdConflictPolicy>)]
    pub id_conflict_policy: Option<IdConflictPolicy>,
    /// A signal that the new run begins with, or that the open one is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<StartSignal>,
    /// How long all runs of the workflow may take together, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub execution_timeout_ms: Option<u64>,
    /// How long each run may take, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub run_timeout_ms: Option<u64>,
    /// How long the run waits before it begins, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_delay_ms: Option<u64>,
    /// How the workflow is tried again when a run fails or passes its run time-out; not at all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<shapes::RetryPolicy>)]
    pub retry_policy: Option<RetryPolicy>,
    /// What it can be found by, by name: texts, numbers, truth values, times (RFC 3339 texts), lists of texts. The names
    /// are not those of a run's fields; limits and types: docs/query.md.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = HashMap<String, Value>)]
    pub search_attributes: Map<String, Value>,
    /// What is written on it, by name: any values.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = HashMap<String, Value>)]
    pub memo: Map<String, Value>,
    /// An update that the new run is sent behind its beginning, or that the open one is sent; not beside a signal.
    /// `wait` is for it then, and not for the run's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<StartUpdate>,
}

/// The signal of a start.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartSignal {
    /// Its name.
    #[schema(min_length = 1, max_length = 1000)]
    pub name: String,
    /// What it says; `null` if absent.
    #[serde(default)]
    pub input: Value,
    /// Named values beside the input.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = HashMap<String, Value>)]
    pub headers: Map<String, Value>,
}

/// The update of a start.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartUpdate {
    /// Its name.
    #[schema(min_length = 1, max_length = 1000)]
    pub name: String,
    /// What it says; `null` if absent.
    #[serde(default)]
    pub input: Value,
    /// Named values beside the input.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = HashMap<String, Value>)]
    pub headers: Map<String, Value>,
    /// De-duplicates: the same id for the same run is one update. If absent the `request_id`, else a new UUIDv7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 1000)]
    pub update_id: Option<String>,
    /// The stage to wait for; `completed` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<shapes::UpdateStage>)]
    pub wait_for: Option<UpdateStage>,
}

/// A started run, and its end if it was waited for.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Started {
    /// Its workflow id.
    #[schema(value_type = String)]
    pub workflow_id: WorkflowId,
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub run_id: RunId,
    /// Whether this request began it; false where it was there: by the same `request_id`, or open under the workflow id.
    pub started: bool,
    /// How it stands; absent if nobody waited.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = shapes::StandingIfWaited)]
    pub standing: Option<Standing>,
    /// How far its update is; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateResult>,
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
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RunResult {
    /// Its workflow id.
    #[schema(value_type = String)]
    pub workflow_id: WorkflowId,
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub run_id: RunId,
    /// How it stands.
    #[serde(flatten)]
    #[schema(value_type = shapes::Standing)]
    pub standing: Standing,
}

/// A run as its caller sees it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Description {
    /// Its workflow id.
    #[schema(value_type = String)]
    pub workflow_id: WorkflowId,
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub run_id: RunId,
    /// Where it lives.
    #[schema(value_type = String)]
    pub namespace: Namespace,
    /// Its type.
    pub workflow_type: String,
    /// The component that folds it.
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub digest: Digest,
    /// How it stands.
    #[serde(flatten)]
    #[schema(value_type = shapes::Standing)]
    pub standing: Standing,
    /// Events in its history.
    pub history_length: u64,
    /// When it was started.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// When it closed.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub closed_at: Option<Timestamp>,
    /// Why it is blocked, or null.
    #[schema(required)]
    pub blocked: Option<Blocked>,
    /// Its open activities.
    pub pending_activities: Vec<PendingActivity>,
    /// Its open timers.
    pub timers: Vec<Timer>,
    /// Its children that have not closed.
    #[serde(default)]
    pub children: Vec<PendingChild>,
    /// The run whose child it is, or null.
    #[serde(default)]
    #[schema(required)]
    pub parent: Option<Parent>,
    /// When it begins, while that is to come, or null.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub start_at: Option<Timestamp>,
    /// Which try of the workflow it is, from 1; null before its first event and behind its end.
    #[serde(default)]
    #[schema(required)]
    pub attempt: Option<u32>,
    /// When it times out, or null.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub times_out_at: Option<Timestamp>,
    /// Signals that its code has not taken, in order.
    pub unread_signals: Vec<UnreadSignal>,
    /// Updates that are not answered, in order; those in the inbox last.
    pub pending_updates: Vec<PendingUpdate>,
    /// Whether somebody asked it to cancel.
    pub cancel_requested: bool,
    /// Inputs that wait in its inbox.
    pub inbox_length: u64,
    /// What it can be found by.
    #[serde(default)]
    #[schema(value_type = HashMap<String, Value>)]
    pub search_attributes: Map<String, Value>,
    /// What is written on it.
    #[serde(default)]
    #[schema(value_type = HashMap<String, Value>)]
    pub memo: Map<String, Value>,
    /// The limits of which it has used 80 % or more. At a limit it blocks, or what it is sent is refused.
    pub near_limits: Vec<NearLimit>,
}

/// Why a run is blocked: a fault of its code.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Blocked {
    /// The event that cannot be folded; its number if it has one, else the one it would get.
    #[schema(value_type = u64, minimum = 1)]
    pub event: EventId,
    /// `nondeterminism`, `trap`, `limit_exceeded` or `component_unavailable`.
    pub kind: String,
    /// For people.
    pub reason: String,
    /// The guest's frames, one a line, innermost first; may be empty.
    pub backtrace: String,
    /// What the history has and what the code did, where they differ, or null.
    #[serde(default)]
    #[schema(value_type = Option<shapes::Divergence>, required)]
    pub divergence: Option<Box<Nondeterminism>>,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// How often it was tried again in vain.
    pub retries: u32,
    /// When it is tried next.
    #[schema(value_type = String, format = DateTime)]
    pub next_retry_at: Timestamp,
}

/// An open timer.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct Timer {
    /// The command that started it.
    #[schema(value_type = u64, minimum = 1)]
    pub started_event_id: EventId,
    /// When it fires.
    #[schema(value_type = String, format = DateTime)]
    pub fire_at: Timestamp,
}

/// A child that has not closed, as far as its parent knows.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PendingChild {
    /// The command that began it.
    #[schema(value_type = u64, minimum = 1)]
    pub initiated_event_id: EventId,
    /// Its type.
    pub workflow_type: String,
    /// Its workflow id.
    #[schema(value_type = String)]
    pub workflow_id: WorkflowId,
    /// Its first run.
    #[schema(value_type = String, format = "uuid")]
    pub run_id: RunId,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub initiated_at: Timestamp,
    /// Whether its beginning is known.
    pub started: bool,
    /// Whether it was asked to cancel.
    pub cancel_requested: bool,
}

/// The run whose child a run is.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Parent {
    /// Its workflow id.
    #[schema(value_type = String)]
    pub workflow_id: WorkflowId,
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub run_id: RunId,
    /// `terminate`, `request_cancel` or `abandon`: what becomes of the child when the parent closes.
    #[schema(value_type = String)]
    pub close_policy: ParentClosePolicy,
}

/// A signal that the run's code has not taken.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UnreadSignal {
    /// The event that brought it.
    #[schema(value_type = u64, minimum = 1)]
    pub received_event_id: EventId,
    /// Which signal.
    pub name: String,
}

/// A limit that a run is near to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NearLimit {
    /// `history_events`, `history_bytes`, `payload_bytes`, `pending_activities`, `signals`,
    /// `pending_external_requests`, `pending_children` or `pending_updates`.
    #[schema(value_type = String)]
    pub limit: LimitKind,
    /// How much of it is used.
    pub used: u64,
    /// The limit itself.
    pub most: u64,
    /// The same for people, with what to do about it.
    pub message: String,
}

/// An update that is not answered.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PendingUpdate {
    /// The event that brought it; null while it waits in the inbox.
    #[schema(value_type = Option<u64>, minimum = 1, required)]
    pub admitted_event_id: Option<EventId>,
    /// Its id.
    pub update_id: String,
    /// Which update.
    pub name: String,
    /// `admitted` or `accepted`.
    #[schema(value_type = shapes::UpdateStage)]
    pub stage: UpdateStage,
}

/// A page of the list of runs.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RunList {
    /// The latest first.
    pub runs: Vec<RunSummary>,
    /// The `page_token` of the next page; null on the last one.
    #[schema(required)]
    pub next_page_token: Option<String>,
}

/// A run in a list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RunSummary {
    /// Its workflow id.
    #[schema(value_type = String)]
    pub workflow_id: WorkflowId,
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub run_id: RunId,
    /// Where it lives.
    #[schema(value_type = String)]
    pub namespace: Namespace,
    /// Its type.
    pub workflow_type: String,
    /// The component that folds it.
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub digest: Digest,
    /// How it stands.
    #[schema(value_type = shapes::RunStatus)]
    pub status: RunStatus,
    /// Events in its history.
    pub history_length: u64,
    /// When it was started.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// When it closed.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub closed_at: Option<Timestamp>,
    /// Why it is blocked, or null.
    #[schema(required)]
    pub blocked: Option<Blocked>,
    /// What it can be found by.
    #[serde(default)]
    #[schema(value_type = HashMap<String, Value>)]
    pub search_attributes: Map<String, Value>,
    /// What is written on it.
    #[serde(default)]
    #[schema(value_type = HashMap<String, Value>)]
    pub memo: Map<String, Value>,
}

/// A page of a run's history.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// The run's workflow id.
    #[schema(value_type = String)]
    pub workflow_id: WorkflowId,
    /// The run.
    #[schema(value_type = String, format = "uuid")]
    pub run_id: RunId,
    /// Where it lives.
    #[schema(value_type = String)]
    pub namespace: Namespace,
    /// Its type.
    pub workflow_type: String,
    /// The component that folds it.
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub digest: Digest,
    /// How it stands.
    #[schema(value_type = shapes::RunStatus)]
    pub status: RunStatus,
    /// In order.
    #[schema(value_type = Vec<shapes::Event>)]
    pub events: Vec<Event>,
    /// Whether the run is closed and `events` reaches its end: nothing will follow.
    pub complete: bool,
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
