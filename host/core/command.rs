//! Commands: what a guest asks of its host. A command is recorded as an event of the same name.

mod child;

use std::sync::Arc;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::attributes::{AttributeValue, Changes};
use crate::event::{ActivityTimeouts, SignalReceived};
use crate::failure::Failure;
use crate::ids::{EventId, RunId, WorkflowId};
use crate::payload::{Payload, headers_bytes};
use crate::retry::RetryPolicy;

/// The task queue of an activity that names none.
pub const DEFAULT_TASK_QUEUE: &str = "default";

pub use child::{ChildCancelRequested, ChildWorkflowInitiated, ParentClosePolicy};

/// What a guest asked for. The numbers are persisted: none is ever reused.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize, Deserialize)]
#[serde(tag = "type", content = "attributes")]
pub enum Command {
    /// Run an activity.
    #[n(0)]
    ActivityScheduled(#[cbor(n(0), with = "crate::shared")] Arc<ActivityScheduled>),
    /// Ask an activity to stop.
    #[n(1)]
    ActivityCancelRequested(#[n(0)] ActivityCancelRequested),
    /// Start a timer.
    #[n(2)]
    TimerStarted(#[n(0)] TimerStarted),
    /// Take a timer back.
    #[n(3)]
    TimerCanceled(#[n(0)] TimerCanceled),
    /// The workflow ended well.
    #[n(4)]
    WorkflowCompleted(#[n(0)] WorkflowCompleted),
    /// The workflow failed.
    #[n(5)]
    WorkflowFailed(#[n(0)] WorkflowFailed),
    /// The workflow ended because it was asked to.
    #[n(6)]
    WorkflowCanceled(#[n(0)] WorkflowCanceled),
    /// The guest took a signal that waited for it.
    #[n(7)]
    SignalTaken(#[n(0)] SignalTaken),
    /// The workflow goes on in a new run under the same workflow id.
    #[n(8)]
    WorkflowContinuedAsNew(#[n(0)] Box<WorkflowContinuedAsNew>),
    /// A run that goes its own way began.
    #[n(9)]
    DetachedWorkflowStarted(#[n(0)] Box<DetachedWorkflowStarted>),
    /// The guest asked for the first time which version of a change it is to follow.
    #[n(10)]
    VersionMarkerRecorded(#[n(0)] VersionMarkerRecorded),
    /// Send another run a signal.
    #[n(11)]
    ExternalSignalInitiated(#[n(0)] Box<ExternalSignalInitiated>),
    /// Ask another run to cancel.
    #[n(12)]
    ExternalCancelInitiated(#[n(0)] Box<ExternalCancelInitiated>),
    /// Begin a child.
    #[n(13)]
    ChildWorkflowInitiated(#[n(0)] Box<ChildWorkflowInitiated>),
    /// Ask a child to cancel.
    #[n(14)]
    ChildCancelRequested(#[n(0)] ChildCancelRequested),
    /// Change what the run can be found by.
    #[n(17)]
    SearchAttributesUpserted(#[n(0)] SearchAttributesUpserted),
    /// Change what is written on the run.
    #[n(18)]
    MemoUpserted(#[n(0)] MemoUpserted),
    /// The guest took an update on.
    #[n(15)]
    UpdateAccepted(#[n(0)] UpdateAccepted),
    /// The guest answered an update.
    #[n(16)]
    UpdateCompleted(#[n(0)] Box<UpdateCompleted>),
}

/// An activity that the guest asked for.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize, Deserialize)]
pub struct ActivityScheduled {
    /// Which activity.
    #[n(0)]
    pub activity_type: String,
    /// Its input.
    #[n(1)]
    pub input: Payload,
    /// The queue it waits in.
    #[n(2)]
    pub task_queue: String,
    /// Its time-outs.
    #[n(3)]
    #[serde(default)]
    pub timeouts: ActivityTimeouts,
    /// When and how often it is tried again.
    #[n(4)]
    #[serde(default)]
    pub retry_policy: RetryPolicy,
    /// What becomes of it when its cancellation is asked for.
    #[n(5)]
    #[serde(default)]
    pub cancellation_type: CancellationType,
    /// Named payloads beside the input.
    #[n(6)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, Payload)>,
    /// The same for all attempts; the outside world recognises a repeated attempt by it.
    #[n(7)]
    pub idempotency_key: String,
    /// One line for people.
    #[n(8)]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary: String,
}

/// What becomes of an activity whose cancellation is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum CancellationType {
    /// Ask it to stop and do not wait.
    #[n(0)]
    #[default]
    TryCancel,
    /// Ask it to stop and wait until it has closed.
    #[n(1)]
    WaitCancellationCompleted,
    /// Let it run and ignore its result.
    #[n(2)]
    Abandon,
}

/// The request to stop an activity.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ActivityCancelRequested {
    /// Which one.
    #[n(0)]
    pub scheduled_event_id: EventId,
}

/// A timer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct TimerStarted {
    /// From the time of the event being folded until it fires.
    #[n(0)]
    pub duration_ms: u64,
    /// One line for people.
    #[n(1)]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary: String,
}

/// A timer taken back.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct TimerCanceled {
    /// Which one.
    #[n(0)]
    pub started_event_id: EventId,
}

/// A workflow's good end.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct WorkflowCompleted {
    /// What it returned.
    #[n(0)]
    pub result: Payload,
}

/// A workflow's failure.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct WorkflowFailed {
    /// Why.
    #[n(0)]
    pub failure: Failure,
}

/// A workflow's end on request.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct WorkflowCanceled {
    /// What it leaves behind.
    #[n(0)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Payload>,
}

/// A signal that the guest took.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct SignalTaken {
    /// The event that brought it.
    #[n(0)]
    pub received_event_id: EventId,
    /// Which signal.
    #[n(1)]
    pub name: String,
}

/// The end of a run that another one goes on from.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize, Deserialize)]
pub struct WorkflowContinuedAsNew {
    /// The run that goes on.
    #[n(0)]
    pub new_run_id: RunId,
    /// Its type.
    #[n(1)]
    pub workflow_type: String,
    /// Its input.
    #[n(2)]
    pub input: Payload,
    /// Named payloads beside the input.
    #[n(3)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, Payload)>,
    /// Which component folds it.
    #[n(4)]
    #[serde(default)]
    pub version: VersionChoice,
}

/// Which component folds a run that goes on from another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum VersionChoice {
    /// The one that new runs of its type start on.
    #[n(0)]
    #[default]
    FollowRoute,
    /// The one that folded the run before.
    #[n(1)]
    StayPinned,
}

/// The beginning of a run of which this one hears nothing more.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize, Deserialize)]
pub struct DetachedWorkflowStarted {
    /// Its type.
    #[n(0)]
    pub workflow_type: String,
    /// Its workflow id; if that has an open run, none was started.
    #[n(1)]
    pub workflow_id: WorkflowId,
    /// Its id.
    #[n(2)]
    pub run_id: RunId,
    /// Its input.
    #[n(3)]
    pub input: Payload,
    /// Named payloads beside the input.
    #[n(4)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, Payload)>,
}

/// Which version of a change the run follows from here on.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct VersionMarkerRecorded {
    /// The change, named by the code.
    #[n(0)]
    pub change_id: String,
    /// The version that the code was told: the highest that it knew.
    #[n(1)]
    pub version: i32,
}

/// Another run of the same namespace: the open one of a workflow id, or a particular one.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ExternalWorkflow {
    /// Its workflow id.
    #[n(0)]
    pub workflow_id: WorkflowId,
    /// Its id; absent for whichever run is open.
    #[n(1)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
}

/// A signal to another run.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize, Deserialize)]
pub struct ExternalSignalInitiated {
    /// Who is sent it.
    #[n(0)]
    pub to: ExternalWorkflow,
    /// The signal.
    #[cbor(n(1), with = "crate::shared")]
    pub signal: Arc<SignalReceived>,
}

/// A request to another run to cancel.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ExternalCancelInitiated {
    /// Who is asked.
    #[n(0)]
    pub to: ExternalWorkflow,
    /// Why.
    #[n(1)]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// A change of what the run can be found by.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize, Deserialize)]
pub struct SearchAttributesUpserted {
    /// New values by name; an absent one removes what is there.
    #[n(0)]
    pub search_attributes: Changes<AttributeValue>,
}

/// A change of what is written on the run.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct MemoUpserted {
    /// New payloads by name; an absent one removes what is there.
    #[n(0)]
    pub memo: Changes<Payload>,
}

/// An update that the guest took on.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct UpdateAccepted {
    /// The event that brought it.
    #[n(0)]
    pub admitted_event_id: EventId,
    /// The caller's name for it.
    #[n(1)]
    pub update_id: String,
    /// Which update.
    #[n(2)]
    pub name: String,
}

/// The answer to an update.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct UpdateCompleted {
    /// The event that brought it.
    #[n(0)]
    pub admitted_event_id: EventId,
    /// The caller's name for it.
    #[n(1)]
    pub update_id: String,
    /// Which update.
    #[n(2)]
    pub name: String,
    /// What its caller gets.
    #[n(3)]
    pub outcome: UpdateOutcome,
}

/// What the caller of an update gets.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateOutcome {
    /// Its handler returned this.
    #[n(0)]
    Result(#[n(0)] Payload),
    /// Its handler failed with this.
    #[n(1)]
    Failure(#[n(0)] Failure),
}

impl UpdateOutcome {
    /// Bytes of its payload; 0 for a failure.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::Result(result) => result.size(),
            Self::Failure(_) => 0,
        }
    }
}

impl Command {
    /// Bytes of its payload; 0 where it has none of its own size.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::ActivityScheduled(activity) => activity.input.size(),
            Self::WorkflowCompleted(completed) => completed.result.size(),
            Self::WorkflowContinuedAsNew(next) => next.input.size(),
            Self::DetachedWorkflowStarted(started) => started.input.size(),
            Self::ExternalSignalInitiated(request) => request.signal.input.size(),
            Self::ChildWorkflowInitiated(child) => child.input.size(),
            Self::MemoUpserted(upserted) => {
                upserted.memo.iter().flat_map(|(_, value)| value).map(Payload::size).sum()
            }
            Self::UpdateCompleted(completed) => completed.outcome.payload_bytes(),
            Self::ActivityCancelRequested(_)
            | Self::TimerStarted(_)
            | Self::TimerCanceled(_)
            | Self::WorkflowFailed(_)
            | Self::WorkflowCanceled(_)
            | Self::SignalTaken(_)
            | Self::ExternalCancelInitiated(_)
            | Self::ChildCancelRequested(_)
            | Self::SearchAttributesUpserted(_)
            | Self::UpdateAccepted(_)
            | Self::VersionMarkerRecorded(_) => 0,
        }
    }

    /// Bytes that it brings into a history: its payloads, headers and failures.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let beside = match self {
            Self::ActivityScheduled(activity) => headers_bytes(&activity.headers),
            Self::WorkflowFailed(failed) => failed.failure.bytes(),
            Self::WorkflowCanceled(canceled) => canceled.details.iter().map(Payload::size).sum(),
            Self::WorkflowContinuedAsNew(next) => headers_bytes(&next.headers),
            Self::DetachedWorkflowStarted(started) => headers_bytes(&started.headers),
            Self::ExternalSignalInitiated(request) => headers_bytes(&request.signal.headers),
            Self::ChildWorkflowInitiated(child) => headers_bytes(&child.headers),
            Self::UpdateCompleted(update) => match &update.outcome {
                UpdateOutcome::Result(_) => 0,
                UpdateOutcome::Failure(failure) => failure.bytes(),
            },
            Self::ActivityCancelRequested(_)
            | Self::TimerStarted(_)
            | Self::TimerCanceled(_)
            | Self::WorkflowCompleted(_)
            | Self::SignalTaken(_)
            | Self::ExternalCancelInitiated(_)
            | Self::ChildCancelRequested(_)
            | Self::SearchAttributesUpserted(_)
            | Self::MemoUpserted(_)
            | Self::UpdateAccepted(_)
            | Self::VersionMarkerRecorded(_) => 0,
        };
        self.payload_bytes() + beside
    }

    /// The name of the event that records it.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::ActivityScheduled(_) => "ActivityScheduled",
            Self::ActivityCancelRequested(_) => "ActivityCancelRequested",
            Self::TimerStarted(_) => "TimerStarted",
            Self::TimerCanceled(_) => "TimerCanceled",
            Self::WorkflowCompleted(_) => "WorkflowCompleted",
            Self::WorkflowFailed(_) => "WorkflowFailed",
            Self::WorkflowCanceled(_) => "WorkflowCanceled",
            Self::SignalTaken(_) => "SignalTaken",
            Self::WorkflowContinuedAsNew(_) => "WorkflowContinuedAsNew",
            Self::DetachedWorkflowStarted(_) => "DetachedWorkflowStarted",
            Self::VersionMarkerRecorded(_) => "VersionMarkerRecorded",
            Self::ExternalSignalInitiated(_) => "ExternalSignalInitiated",
            Self::ExternalCancelInitiated(_) => "ExternalCancelInitiated",
            Self::ChildWorkflowInitiated(_) => "ChildWorkflowInitiated",
            Self::ChildCancelRequested(_) => "ChildCancelRequested",
            Self::SearchAttributesUpserted(_) => "SearchAttributesUpserted",
            Self::MemoUpserted(_) => "MemoUpserted",
            Self::UpdateAccepted(_) => "UpdateAccepted",
            Self::UpdateCompleted(_) => "UpdateCompleted",
        }
    }

    /// Which operation it concerns, for people and for the check on another digest: an activity's
    /// or a workflow's type, a signal's, an update's or a change's name, the number of the operation that is cancelled, the
    /// workflow id of the run that is to be cancelled.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::ActivityScheduled(activity) => activity.activity_type.clone(),
            Self::ActivityCancelRequested(request) => request.scheduled_event_id.to_string(),
            Self::TimerCanceled(timer) => timer.started_event_id.to_string(),
            Self::SignalTaken(signal) => signal.name.clone(),
            Self::WorkflowContinuedAsNew(next) => next.workflow_type.clone(),
            Self::DetachedWorkflowStarted(started) => started.workflow_type.clone(),
            Self::VersionMarkerRecorded(marker) => marker.change_id.clone(),
            Self::ExternalSignalInitiated(request) => request.signal.name.clone(),
            Self::ExternalCancelInitiated(request) => request.to.workflow_id.0.clone(),
            Self::ChildWorkflowInitiated(child) => child.workflow_type.clone(),
            Self::ChildCancelRequested(request) => request.command_event_id.to_string(),
            Self::UpdateAccepted(update) => update.name.clone(),
            Self::UpdateCompleted(update) => update.name.clone(),
            Self::TimerStarted(_)
            | Self::WorkflowCompleted(_)
            | Self::WorkflowFailed(_)
            | Self::WorkflowCanceled(_)
            | Self::SearchAttributesUpserted(_)
            | Self::MemoUpserted(_) => String::new(),
        }
    }

    /// Whether it closes the run.
    #[must_use]
    pub const fn closes_run(&self) -> bool {
        match self {
            Self::WorkflowCompleted(_)
            | Self::WorkflowFailed(_)
            | Self::WorkflowCanceled(_)
            | Self::WorkflowContinuedAsNew(_) => true,
            Self::ActivityScheduled(_)
            | Self::ActivityCancelRequested(_)
            | Self::TimerStarted(_)
            | Self::TimerCanceled(_)
            | Self::SignalTaken(_)
            | Self::DetachedWorkflowStarted(_)
            | Self::ExternalSignalInitiated(_)
            | Self::ExternalCancelInitiated(_)
            | Self::ChildWorkflowInitiated(_)
            | Self::ChildCancelRequested(_)
            | Self::SearchAttributesUpserted(_)
            | Self::MemoUpserted(_)
            | Self::UpdateAccepted(_)
            | Self::UpdateCompleted(_)
            | Self::VersionMarkerRecorded(_) => false,
        }
    }
}
