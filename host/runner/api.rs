//! What callers say to the runner and what it answers: the types of the host's public interface.

use everfold_core::attributes::Details;
use everfold_core::command::UpdateOutcome;
use everfold_core::decision::{Blocked, Outcome};
use everfold_core::event::{Event, ParentRun, SignalReceived};
use everfold_core::failure::Failure;
use everfold_core::ids::{Digest, EventId, Namespace, RunId, RunKey, Timestamp, WorkflowId};
use everfold_core::lifetime::WorkflowTimeout;
use everfold_core::limits::Usage;
use everfold_core::machine::RunStatus;
use everfold_core::machine::child::Child;
use everfold_core::machine::update::UpdateStage;
use everfold_core::payload::Payload;
use serde::{Deserialize, Serialize};

mod activities;
mod schedules;
mod versions;

pub use crate::store::{PlaceValue, RunPlace};
pub use crate::version::report::{
    Ahead, CheckReport, Example, Finding, Group, Outlook, Progress, Spent, Tally, TypeReport, UpgradeReport,
};
pub use activities::{
    ActivityOperation, ActivityState, ActivityTask, OperateRequest, PendingActivityInfo, PollRequest, Wishes,
};
pub use everfold_core::decision::IdReusePolicy;
pub use everfold_core::lifetime::Terms;
pub use everfold_core::query::Query;
pub use everfold_core::reset::{Repeated, ResetPlace, ResetPoint};
pub use schedules::{
    Action, CalendarSpec, Counts, Definition, IntervalSpec, OverlapPolicy, Policies, ScheduleAction,
    ScheduleDescription, ScheduleKey, ScheduleList, ScheduleListRequest, ScheduleOrder, ScheduleRequest,
    ScheduleSpec, ScheduleUpdate, Span,
};
pub use versions::{
    CheckRequest, Deployed, DeployedType, HandlerChange, LookAhead, Routed, RoutingChange, RoutingRequest,
    Subject, TypeChanges, TypeRouting, TypeVersions, UpgradeRequest, Version, VersionState, WhoMoves,
};

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
    /// Whether the workflow id may have been a closed run's.
    pub id_reuse: IdReusePolicy,
    /// What becomes of a run that is open under the workflow id.
    pub id_conflict: IdConflictPolicy,
    /// A signal that the new run is begun with, or that the open one is sent.
    pub signal: Option<SignalReceived>,
    /// How long it may take, when it begins, and whether it is tried again.
    pub terms: Terms,
    /// What it is described by.
    pub details: Details,
    /// An update that the new run is sent behind its beginning, or that the open one is sent; not beside a signal.
    pub update: Option<StartUpdate>,
}

/// The update of a start.
#[derive(Clone, Debug)]
pub struct StartUpdate {
    /// Which update.
    pub name: String,
    /// What it says.
    pub input: Payload,
    /// Named payloads beside the input.
    pub headers: Vec<(String, Payload)>,
    /// De-duplicates: the same id for the same run is one update. If absent the `request_id`, else a new UUIDv7.
    pub update_id: Option<String>,
}

/// What a start makes of a run that is open under its workflow id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdConflictPolicy {
    /// The start is refused.
    #[default]
    Fail,
    /// It is the run that the caller gets.
    UseExisting,
    /// It is terminated, and the new one starts.
    TerminateExisting,
}

/// A started run: it is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// Its workflow id.
    pub workflow_id: WorkflowId,
    /// Its id.
    pub run_id: RunId,
    /// Whether it was there before: an earlier request with the same `request_id` had started it, or it was open
    /// under the workflow id and is what the caller wants then.
    pub is_duplicate: bool,
}

/// A signal to send. It goes to the run named, else to the open run of the workflow id.
#[derive(Clone, Debug)]
pub struct SignalRequest {
    /// To whom.
    pub run: RunRef,
    /// Which signal.
    pub name: String,
    /// What it says.
    pub input: Payload,
    /// Named payloads beside the input.
    pub headers: Vec<(String, Payload)>,
    /// De-duplicates: the same id for the same workflow id is one signal.
    pub request_id: Option<String>,
}

/// A run to cancel or to terminate.
#[derive(Clone, Debug)]
pub struct StopRequest {
    /// Which one.
    pub run: RunRef,
    /// Why; may be empty.
    pub reason: String,
    /// De-duplicates: the same id for the same workflow id is one request.
    pub request_id: Option<String>,
}

/// A run to reset.
#[derive(Clone, Debug)]
pub struct ResetRequest {
    /// Which one.
    pub run: RunRef,
    /// The event that it goes back to.
    pub to: ResetPoint,
    /// Why; may be empty.
    pub reason: String,
    /// The version that the new run goes on on; the run's own one if absent.
    pub digest: Option<Digest>,
    /// De-duplicates: the same id for the same workflow id is one reset.
    pub request_id: Option<String>,
    /// Only say what would come of it.
    pub dry_run: bool,
}

/// A reset that is on disk, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetDone {
    /// The run's workflow id.
    pub workflow_id: WorkflowId,
    /// The run that goes on; absent where that was only asked for.
    pub run_id: Option<RunId>,
    /// The run that was reset.
    pub reset_run_id: RunId,
    /// Its last event that was taken over; 0 if none was.
    pub to_event_id: EventId,
    /// What the run did that its code may do again.
    pub repeats: Vec<Repeated>,
    /// Whether it was done before, by the same `request_id`.
    pub is_duplicate: bool,
}

/// A request to a run that is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The run's workflow id.
    pub workflow_id: WorkflowId,
    /// The run that took it.
    pub run_id: RunId,
    /// Whether it was done before: by the same `request_id`, or because nothing was left to do.
    pub is_duplicate: bool,
}

/// An update to send. It goes to the run named, else to the open run of the workflow id.
#[derive(Clone, Debug)]
pub struct UpdateRequest {
    /// To whom.
    pub run: RunRef,
    /// Which update.
    pub name: String,
    /// What it says.
    pub input: Payload,
    /// Named payloads beside the input.
    pub headers: Vec<(String, Payload)>,
    /// De-duplicates: the same id for the same run is one update. A new UUIDv7 if absent.
    pub update_id: Option<String>,
}

/// An update that is on disk, now or before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmittedUpdate {
    /// The run that has it.
    pub key: RunKey,
    /// The run's workflow id.
    pub workflow_id: WorkflowId,
    /// Its id.
    pub update_id: String,
    /// No earlier event of the run has anything to say of it.
    pub from: EventId,
}

/// How far an update is.
#[derive(Clone, Debug, PartialEq)]
pub struct UpdateProgress {
    /// The run's workflow id.
    pub workflow_id: WorkflowId,
    /// The run that has it.
    pub run_id: RunId,
    /// Its id.
    pub update_id: String,
    /// What it has reached.
    pub stage: UpdateStage,
    /// What the caller gets; present once it is completed.
    pub outcome: Option<UpdateOutcome>,
}

/// A question to a run, open or closed.
#[derive(Clone, Debug)]
pub struct QueryRequest {
    /// Which one.
    pub run: RunRef,
    /// Which question.
    pub name: String,
    /// What is asked with it.
    pub input: Payload,
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryAnswer {
    /// The run's workflow id.
    pub workflow_id: WorkflowId,
    /// The run that was asked.
    pub run_id: RunId,
    /// Its answer.
    pub result: Payload,
}

/// Runs to list.
#[derive(Clone, Debug)]
pub struct ListRequest {
    /// Where.
    pub namespace: Namespace,
    /// Which, and in which order.
    pub query: Query,
    /// Only runs behind this place of the list: that of the last run of the page before.
    pub after: Option<RunPlace>,
    /// At most that many.
    pub limit: usize,
}

/// A page of the list of runs.
#[derive(Clone, Debug)]
pub struct RunPage {
    /// In the order asked for.
    pub runs: Vec<RunSummary>,
    /// The `after` of the next page; absent on the last one.
    pub next: Option<RunPlace>,
}

/// A run in a list.
#[derive(Clone, Debug)]
pub struct RunSummary {
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
    /// Why it is blocked, if it is.
    pub blocked: Option<Blocked>,
    /// What it is described by.
    pub details: Details,
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
    /// Its children that have not closed, as far as it knows.
    pub children: Vec<(EventId, Child)>,
    /// The run whose child it is.
    pub parent: Option<ParentRun>,
    /// When it begins, while that is to come.
    pub start_at: Option<Timestamp>,
    /// Which try of the workflow it is, from 1; absent before its first event.
    pub attempt: Option<u32>,
    /// When it has taken too long, and which time-out that is.
    pub deadline: Option<(Timestamp, WorkflowTimeout)>,
    /// Signals that its guest has not taken: the event that brought each, and its name.
    pub unread_signals: Vec<(EventId, String)>,
    /// Updates that are not answered.
    pub pending_updates: Vec<PendingUpdate>,
    /// Whether somebody asked it to cancel.
    pub cancel_requested: bool,
    /// Inputs that wait in its inbox.
    pub inbox_length: u64,
    /// What it is described by.
    pub details: Details,
    /// The limits that it is near to.
    pub near_limits: Vec<Usage>,
}

/// An update that is not answered.
#[derive(Clone, Debug)]
pub struct PendingUpdate {
    /// The event that brought it; absent while it waits in the inbox.
    pub admitted_event_id: Option<EventId>,
    /// Its id.
    pub update_id: String,
    /// Which update.
    pub name: String,
    /// What it has reached.
    pub stage: UpdateStage,
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
    /// The workflow id was a closed run's, and may not be used again.
    #[error(
        "workflow id {workflow_id} was that of run {run_id}, and the id reuse policy does not allow another one"
    )]
    IdTaken {
        /// The workflow id.
        workflow_id: WorkflowId,
        /// Its last run.
        run_id: RunId,
    },
    /// There is such a thing already.
    #[error("{0}")]
    AlreadyExists(String),
    /// It is not as the caller has seen it.
    #[error("{0}")]
    Conflict(String),
    /// The request itself is wrong.
    #[error("{0}")]
    InvalidInput(String),
    /// The bytes are no component that can be deployed.
    #[error("{0}")]
    InvalidComponent(String),
    /// No workflow type has that version, or there is no such component.
    #[error("{0}")]
    UnknownVersion(String),
    /// The versions of the type are not such that it could be done.
    #[error("{0}")]
    VersionConflict(String),
    /// Open runs would break: nothing was moved.
    #[error("open runs of {} that would break: {}", .0.workflow_type, .0.kept)]
    Incompatible(Box<UpgradeReport>),
    /// The run has no answer to such a question.
    #[error("{0}")]
    UnknownQuery(String),
    /// The run's code could not answer.
    #[error("the query failed: {0}")]
    QueryFailed(Failure),
    /// The run knows no such update.
    #[error("{0}")]
    UnknownUpdate(String),
    /// The run's code refuses the update: nothing was done.
    #[error("the update was rejected: {0}")]
    UpdateRejected(Failure),
    /// The run's code is at fault; it takes no question before it is healed.
    #[error("{0}")]
    Blocked(String),
    /// The attempt that a token names is over: the report changed nothing.
    #[error("{0}")]
    AttemptOver(String),
    /// Nobody has asked the activity to stop.
    #[error("{0}")]
    CancelNotRequested(String),
    /// The activity is not open any more.
    #[error("{0}")]
    ActivityClosed(String),
    /// The run was sent all that it may be sent, or what is sent is too large.
    #[error("{0}")]
    LimitExceeded(String),
    /// The host is full, draining or its store failed: nothing was done, try again later.
    #[error("{0}")]
    Busy(String),
    /// A fault of the host.
    #[error("{0}")]
    Internal(String),
}
