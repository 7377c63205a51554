//! What callers say to the runner and what it answers: the types of the host's public interface.

use std::time::Duration;

use everfold_core::decision::{Blocked, Outcome, PendingActivity};
use everfold_core::event::Event;
use everfold_core::ids::{Digest, EventId, Namespace, RunId, RunKey, Timestamp, WorkflowId};
use everfold_core::machine::RunStatus;
use everfold_core::payload::Payload;

/// Which run is meant: the one named, or the open (else the latest) one of a workflow id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRef {
    /// Where it lives.
    pub namespace: Namespace,
    /// Its workflow id.
    pub workflow_id: WorkflowId,
    /// A particular run.
    pub run_id: Option<RunId>,
}

/// A run to start.
#[derive(Clone, Debug)]
pub struct StartRequest {
    /// Where.
    pub namespace: Namespace,
    /// Its type.
    pub workflow_type: String,
    /// Its workflow id; without one it gets the `request_id`, or else a new UUIDv7.
    pub workflow_id: Option<WorkflowId>,
    /// Its input.
    pub input: Payload,
    /// Named payloads beside the input.
    pub headers: Vec<(String, Payload)>,
    /// De-duplicates: the same id for the same workflow id names the same run.
    pub request_id: Option<String>,
    /// A version other than the type's current one.
    pub digest: Option<Digest>,
}

/// A started run: it is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// Its workflow id.
    pub workflow_id: WorkflowId,
    /// Its id.
    pub run_id: RunId,
    /// Whether an earlier request with the same `request_id` had started it.
    pub is_duplicate: bool,
}

/// A run as its caller sees it.
#[derive(Clone, Debug)]
pub struct Description {
    /// Its key.
    pub key: RunKey,
    /// Its workflow id.
    pub workflow_id: WorkflowId,
    /// Its type.
    pub workflow_type: String,
    /// The component that folds it.
    pub digest: Digest,
    /// How it stands.
    pub status: RunStatus,
    /// Events in its history.
    pub history_length: u64,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it closed.
    pub closed_at: Option<Timestamp>,
    /// What callers of a closed run get.
    pub outcome: Option<Outcome>,
    /// Why it is blocked, if it is.
    pub blocked: Option<Blocked>,
    /// Its open activities.
    pub pending_activities: Vec<PendingActivityInfo>,
    /// Its open timers: the starting command, and when each fires.
    pub timers: Vec<(EventId, Timestamp)>,
    /// Inputs that wait in its inbox.
    pub inbox_length: u64,
}

/// An open activity.
#[derive(Clone, Debug)]
pub struct PendingActivityInfo {
    /// The command that scheduled it.
    pub scheduled_event_id: EventId,
    /// Its type.
    pub activity_type: String,
    /// When it was scheduled.
    pub scheduled_at: Timestamp,
    /// Whether its cancellation was asked for.
    pub cancel_requested: bool,
    /// The most it may be tried, if there is a limit.
    pub maximum_attempts: Option<u32>,
    /// Attempts so far that failed; absent before the first failure.
    pub attempts: Option<PendingActivity>,
}

/// Events of one run.
#[derive(Clone, Debug)]
pub struct HistoryPage {
    /// Whose they are.
    pub key: RunKey,
    /// The run's workflow id.
    pub workflow_id: WorkflowId,
    /// The run's type.
    pub workflow_type: String,
    /// The component that folds it.
    pub digest: Digest,
    /// How the run stands.
    pub status: RunStatus,
    /// In order.
    pub events: Vec<Event>,
    /// Whether the run is closed and `events` reaches its end: nothing will follow.
    pub is_complete: bool,
}

/// How a run stands for somebody who waits for its end.
#[derive(Clone, Debug)]
pub struct RunResult {
    /// Which run.
    pub key: RunKey,
    /// `Running` if it did not end in time.
    pub status: RunStatus,
    /// Present when closed.
    pub outcome: Option<Outcome>,
}

/// A deployed component.
#[derive(Clone, Debug)]
pub struct Deployed {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// False when the same bytes were there already.
    pub is_new: bool,
    /// Size in bytes.
    pub size: u64,
    /// How long its compilation took; absent when its code came from the cache.
    pub compile_time: Option<Duration>,
    /// The workflow types in it, with a line each for people.
    pub workflow_types: Vec<DeployedType>,
    /// Its SDK, for people.
    pub sdk: String,
}

/// A workflow type of a deployed component.
#[derive(Clone, Debug)]
pub struct DeployedType {
    /// Its name.
    pub name: String,
    /// One line for people.
    pub summary: String,
    /// Whether new runs of the type start on this component.
    pub is_current: bool,
}

/// A request that was not done. Each answers what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No such run.
    #[error("{0}")]
    NotFound(String),
    /// No component has that workflow type, or that digest.
    #[error("{0}")]
    UnknownWorkflowType(String),
    /// The workflow id has an open run.
    #[error("workflow {workflow_id} is already running as {run_id}")]
    AlreadyStarted {
        /// The workflow id.
        workflow_id: WorkflowId,
        /// Its open run.
        run_id: RunId,
    },
    /// The request itself is wrong.
    #[error("{0}")]
    InvalidInput(String),
    /// The bytes are no component that can be deployed.
    #[error("{0}")]
    InvalidComponent(String),
    /// The host is full, draining or its store failed: nothing was done, try again later.
    #[error("{0}")]
    Busy(String),
    /// A fault of the host.
    #[error("{0}")]
    Internal(String),
}
