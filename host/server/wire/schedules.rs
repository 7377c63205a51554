//! The JSON of schedules.

use everfold_core::ids::{Digest, Namespace, RunId, Timestamp, WorkflowId};
use everfold_core::retry::RetryPolicy;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::runner::api::{self, OverlapPolicy, ScheduleSpec, Span};
use crate::server::openapi::shapes;

/// The body that makes a schedule.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with at least `schedule_id`, `spec` and `action`")]
pub struct ScheduleBody {
    /// Its id.
    #[schema(min_length = 1, max_length = 250)]
    pub schedule_id: String,
    /// When it is due.
    #[schema(value_type = shapes::ScheduleSpec)]
    pub spec: ScheduleSpec,
    /// What it starts.
    pub action: ScheduleAction,
    /// How it takes what comes between.
    #[serde(default)]
    pub policies: SchedulePolicies,
    /// Whether it begins paused.
    #[serde(default)]
    pub paused: bool,
    /// For people.
    #[serde(default)]
    pub note: String,
    /// How often it starts something; no limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_actions: Option<u64>,
    /// De-duplicates: the same id for the same schedule is one request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 1000)]
    pub request_id: Option<String>,
}

/// The body that changes a schedule: it is so from now on.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with at least `spec` and `action`")]
pub struct ScheduleUpdateBody {
    /// When it is due.
    #[schema(value_type = shapes::ScheduleSpec)]
    pub spec: ScheduleSpec,
    /// What it starts.
    pub action: ScheduleAction,
    /// How it takes what comes between.
    #[serde(default)]
    pub policies: SchedulePolicies,
    /// For people; stays as it is if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// How often it starts something from now on; no limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_actions: Option<u64>,
    /// The revision that was seen: another one is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}

/// The run that a schedule starts.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with at least `workflow_type`")]
pub struct ScheduleAction {
    /// Its type.
    #[schema(min_length = 1, max_length = 1000)]
    pub workflow_type: String,
    /// What its workflow id begins with, the schedule's id if absent; `-` and the nominal time follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 250)]
    pub workflow_id: Option<String>,
    /// Its input; `null` if absent.
    #[serde(default)]
    pub input: Value,
    /// Named values beside the input.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = HashMap<String, Value>)]
    pub headers: Map<String, Value>,
    /// The version that every run starts on. If absent the one that new runs of the type start on at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^[0-9a-f]{64}$")]
    pub digest: Option<Digest>,
    /// How long all runs of the workflow may take together, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub execution_timeout_ms: Option<u64>,
    /// How long each run may take, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub run_timeout_ms: Option<u64>,
    /// How the workflow is tried again when a run fails or passes its run time-out; not at all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<shapes::RetryPolicy>)]
    pub retry_policy: Option<RetryPolicy>,
    /// What it can be found by, beside `scheduled_by` and `scheduled_start_time`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = HashMap<String, Value>)]
    pub search_attributes: Map<String, Value>,
    /// What is written on it.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = HashMap<String, Value>)]
    pub memo: Map<String, Value>,
}

/// How a schedule takes what comes between.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SchedulePolicies {
    /// What becomes of a start that is due while a run of the schedule is open; `skip` if absent.
    #[serde(default)]
    #[schema(value_type = shapes::OverlapPolicy)]
    pub overlap: OverlapPolicy,
    /// A time that passed while the host was down is acted on if it is no longer ago than this, as `10m`; at least `10s`, a
    /// year if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub catchup_window: Option<Span>,
    /// Whether a run that fails or times out pauses the schedule.
    #[serde(default)]
    pub pause_on_failure: bool,
}

/// The body that pauses a schedule or ends its pause; an absent body counts as `{}`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with `note`, `request_id`, or nothing")]
pub struct PauseBody {
    /// For people.
    #[serde(default)]
    pub note: String,
    /// De-duplicates: the same id for the same schedule is one request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 1000)]
    pub request_id: Option<String>,
}

/// The body that starts a schedule's run now; an absent body counts as `{}`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with `overlap`, `request_id`, or nothing")]
pub struct TriggerBody {
    /// In place of the schedule's own policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<shapes::OverlapPolicy>)]
    pub overlap: Option<OverlapPolicy>,
    /// De-duplicates: the same id for the same schedule is one request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 1000)]
    pub request_id: Option<String>,
}

/// The body that acts on a range of times as if it passed now.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with at least `from` and `to`")]
pub struct BackfillBody {
    /// The first time that counts.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// The last time that counts.
    #[schema(value_type = String, format = DateTime)]
    pub to: Timestamp,
    /// In place of the schedule's own policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<shapes::OverlapPolicy>)]
    pub overlap: Option<OverlapPolicy>,
    /// De-duplicates: the same id for the same schedule is one request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 1000)]
    pub request_id: Option<String>,
}

/// A page of the list of schedules.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ScheduleList {
    /// By id.
    pub schedules: Vec<Schedule>,
    /// The `after` of the next page; null on the last one.
    #[schema(required)]
    pub next: Option<String>,
}

/// A schedule as its caller sees it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Schedule {
    /// Its id.
    pub schedule_id: String,
    /// Where it lives.
    #[schema(value_type = String)]
    pub namespace: Namespace,
    /// The number of the last change that a caller made, from 1.
    pub revision: u64,
    /// When it is due.
    #[schema(value_type = shapes::ScheduleSpec)]
    pub spec: ScheduleSpec,
    /// What it starts.
    pub action: ScheduleAction,
    /// How it takes what comes between.
    pub policies: SchedulePolicies,
    /// Whether times pass without a start.
    pub paused: bool,
    /// For people.
    pub note: String,
    /// Starts that are left; null means no limit.
    #[schema(required)]
    pub remaining_actions: Option<u64>,
    /// The next ten times at which it acts, jitter included.
    #[schema(value_type = Vec<String>)]
    pub next_times: Vec<Timestamp>,
    /// Runs that have not ended: of each the first one, also where others go on from it.
    pub running: Vec<ScheduledRun>,
    /// The last ten runs that it started, the latest last.
    pub recent: Vec<ScheduledRun>,
    /// Starts that wait for the end of a run, or for the host.
    pub waiting: usize,
    /// Backfills under way.
    pub backfills: usize,
    /// What was counted.
    pub counts: ScheduleCounts,
    /// Why the last start was not done, or null.
    #[schema(required)]
    pub last_error: Option<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When a caller changed it last.
    #[schema(value_type = String, format = DateTime)]
    pub changed_at: Timestamp,
}

/// A run that a schedule started.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ScheduledRun {
    /// Its workflow id.
    #[schema(value_type = String)]
    pub workflow_id: WorkflowId,
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub run_id: RunId,
    /// The time that it stands for.
    #[schema(value_type = String, format = DateTime)]
    pub nominal_time: Timestamp,
    /// When it was started.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
}

/// What a schedule has counted.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct ScheduleCounts {
    /// Runs started.
    pub started: u64,
    /// Times that were too long ago when the host came to them.
    pub missed_catchup_window: u64,
    /// Starts left out because of an open run.
    pub skipped_overlap: u64,
    /// Starts left out because too many waited.
    pub dropped_from_buffer: u64,
    /// Starts that could not be done.
    pub failed: u64,
}

impl From<SchedulePolicies> for api::Policies {
    fn from(policies: SchedulePolicies) -> Self {
        let SchedulePolicies { overlap, catchup_window, pause_on_failure } = policies;
        Self { overlap, catchup_window, pause_on_failure }
    }
}

impl From<api::ScheduleDescription> for Schedule {
    fn from(schedule: api::ScheduleDescription) -> Self {
        let api::Definition { spec, action, policies } = schedule.definition;
        let api::Policies { overlap, catchup_window, pause_on_failure } = policies;
        let counts = schedule.counts;
        let run = |run: api::Action| ScheduledRun {
            workflow_id: run.workflow_id,
            run_id: run.run_id,
            nominal_time: run.nominal,
            started_at: run.started_at,
        };
        Self {
            schedule_id: schedule.key.schedule_id,
            namespace: schedule.key.namespace,
            revision: schedule.revision,
            spec,
            action: ScheduleAction {
                workflow_type: action.workflow_type,
                workflow_id: Some(action.workflow_id),
                input: action.input.to_value(),
                headers: action
                    .headers
                    .iter()
                    .map(|(name, value)| (name.clone(), value.to_value()))
                    .collect(),
                digest: action.digest,
                execution_timeout_ms: action.terms.execution_timeout_ms,
                run_timeout_ms: action.terms.run_timeout_ms,
                retry_policy: action.terms.retry_policy,
                search_attributes: action.search_attributes.to_json(),
                memo: action.memo.to_json(),
            },
            policies: SchedulePolicies { overlap, catchup_window, pause_on_failure },
            paused: schedule.paused,
            note: schedule.note,
            remaining_actions: schedule.remaining_actions,
            next_times: schedule.next_times,
            running: schedule.running.into_iter().map(run).collect(),
            recent: schedule.recent.into_iter().map(run).collect(),
            waiting: schedule.waiting,
            backfills: schedule.backfills,
            counts: ScheduleCounts {
                started: counts.started,
                missed_catchup_window: counts.missed_catchup_window,
                skipped_overlap: counts.skipped_overlap,
                dropped_from_buffer: counts.dropped_from_buffer,
                failed: counts.failed,
            },
            last_error: schedule.last_error,
            created_at: schedule.created_at,
            changed_at: schedule.changed_at,
        }
    }
}
