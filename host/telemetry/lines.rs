//! The log: one structured line for each fact, with the same field names everywhere.
//!
//! | target | tells |
//! |---|---|
//! | `everfold::run` | what became of runs |
//! | `everfold::activity` | what became of activities and attempts |
//! | `everfold::workflow` | what workflows say themselves; `fields` holds their own fields |
//! | `everfold::http` | requests |

use everfold_core::decision::{Blocked, Closed, Outcome};
use everfold_core::failure::Failure;
use everfold_core::ids::{Digest, RunId, Timestamp};
use everfold_core::limits::Usage;
use everfold_core::machine::RunStatus;

use super::attempts::AttemptNames;
use super::facts::RunNames;
use crate::activity::AttemptTask;
use crate::guest::LogLevel;

/// The target of workflows' own lines; their field [`FIELDS`] is a JSON object.
pub const WORKFLOW_TARGET: &str = "everfold::workflow";
/// The field of a workflow's own fields.
pub const FIELDS: &str = "fields";

/// A line about a run.
macro_rules! run_line {
    ($level:ident, $names:expr, $($rest:tt)+) => {
        tracing::$level!(
            target: "everfold::run",
            workflow_id = %$names.workflow_id,
            run_id = %$names.run_id,
            workflow_type = $names.workflow_type,
            digest = $names.digest,
            trace_id = %$names.trace.trace_id(),
            $($rest)+
        )
    };
}

pub(super) fn started(names: &RunNames) {
    run_line!(debug, names, "a run started");
}

pub(super) fn closed(names: &RunNames, closed: &Closed) {
    let status = closed.status.name();
    match (&closed.outcome, closed.status) {
        (Outcome::ContinuedAs(next), RunStatus::ContinuedAsNew) => {
            run_line!(debug, names, status, next_run_id = %next, "a run continued as new");
        }
        (Outcome::ContinuedAs(next), RunStatus::Terminated) => {
            run_line!(info, names, status, next_run_id = %next, "a run was reset");
        }
        (Outcome::ContinuedAs(next), _) => {
            run_line!(info, names, status, next_run_id = %next, "a run closed badly and is tried again");
        }
        (Outcome::Failure(failure), RunStatus::Terminated) => {
            run_line!(info, names, status, %failure, "a run was terminated");
        }
        (Outcome::Failure(failure), _) => run_line!(info, names, status, %failure, "a run closed badly"),
        (Outcome::Result(_), _) => run_line!(debug, names, status, "a run closed"),
    }
}

pub(super) fn blocked(names: &RunNames, blocked: &Blocked) {
    run_line!(
        warn,
        names,
        event_id = blocked.event_id.0,
        kind = blocked.kind.name(),
        reason = blocked.reason,
        retries = blocked.retries,
        retry_at = %blocked.retry_at,
        "a run is blocked"
    );
}

pub(super) fn healed(names: &RunNames) {
    run_line!(info, names, "a blocked run goes on");
}

pub(super) fn moved(names: &RunNames, from: Digest) {
    run_line!(info, names, from = from.short(), "a run moved to another version");
}

pub(super) fn near_limit(names: &RunNames, usage: &Usage) {
    let Usage { limit, used, most } = *usage;
    run_line!(warn, names, limit = limit.name(), used, most, reason = %usage, "a run comes near to a limit");
}

pub(super) fn update_admitted(names: &RunNames, update: &str) {
    run_line!(debug, names, update, "a run admitted an update");
}

pub(super) fn signal_received(names: &RunNames, signal: &str) {
    run_line!(debug, names, signal, "a run received a signal");
}

pub(super) fn cancel_requested(names: &RunNames, reason: &str) {
    run_line!(info, names, reason, "a run was asked to cancel");
}

/// A decision of a run whose names are not known here.
pub(super) fn closed_unnamed(run_id: RunId, closed: &Closed) {
    let status = closed.status.name();
    tracing::info!(target: "everfold::run", %run_id, status, "a run closed");
}

/// A workflow's own line.
pub(super) fn said(
    names: &RunNames,
    level: LogLevel,
    module: &str,
    message: &str,
    fields: &[(String, String)],
) {
    let object: serde_json::Map<_, _> =
        fields.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    let fields = serde_json::Value::Object(object);
    // The level of a tracing event is fixed where it stands.
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: WORKFLOW_TARGET,
                workflow_id = %names.workflow_id,
                run_id = %names.run_id,
                workflow_type = names.workflow_type,
                digest = names.digest,
                trace_id = %names.trace.trace_id(),
                module,
                %fields,
                "{message}"
            )
        };
    }
    match level {
        LogLevel::Trace => line!(trace),
        LogLevel::Debug => line!(debug),
        LogLevel::Info => line!(info),
        LogLevel::Warn => line!(warn),
        LogLevel::Error => line!(error),
    }
}

/// A line about an attempt or an activity.
macro_rules! activity_line {
    ($level:ident, $of:expr, $($rest:tt)+) => {
        tracing::$level!(
            target: "everfold::activity",
            workflow_id = %$of.run.workflow_id,
            run_id = %$of.run.run_id,
            workflow_type = $of.run.workflow_type,
            digest = $of.run.digest,
            trace_id = %$of.run.trace.trace_id(),
            activity = $of.activity_type(),
            event_id = $of.scheduled_event_id.0,
            attempt = $of.attempt,
            $($rest)+
        )
    };
}

/// A line about a lease. Tokens are in none.
macro_rules! lease_line {
    ($level:ident, $task:expr, $($rest:tt)+) => {
        tracing::$level!(
            target: "everfold::activity",
            workflow_id = %$task.names.workflow_id,
            run_id = %$task.names.run_id,
            workflow_type = $task.names.workflow_type,
            digest = $task.names.digest,
            trace_id = %$task.names.trace.trace_id(),
            activity = $task.scheduled.activity_type,
            event_id = $task.scheduled_event_id.0,
            attempt = $task.attempt,
            task_queue = $task.scheduled.task_queue,
            $($rest)+
        )
    };
}

pub(super) fn leased(task: &AttemptTask, worker: &str) {
    lease_line!(debug, task, worker, "a worker got an attempt");
}

pub(super) fn lease_returned(task: &AttemptTask, worker: &str) {
    lease_line!(debug, task, worker, "a worker waits for its attempt no longer");
}

pub(super) fn lease_expired(task: &AttemptTask, failure: &Failure) {
    lease_line!(info, task, %failure, "a lease ended by a time-out");
}

pub(super) fn attempt_failed(names: &AttemptNames, failure: &Failure, next: Timestamp) {
    activity_line!(info, names, %failure, next_attempt_at = %next, "an attempt failed and is tried again");
}

pub(super) fn activity_completed(names: &AttemptNames) {
    activity_line!(debug, names, "an activity completed");
}

pub(super) fn activity_canceled(names: &AttemptNames) {
    activity_line!(info, names, "an activity was canceled");
}

pub(super) fn activity_closed_badly(names: &AttemptNames, failure: &Failure) {
    activity_line!(warn, names, %failure, "an activity closed badly");
}
