//! Events: one interleaved, numbered list a run. *Inputs* are facts from outside, *commands* are
//! what the guest asked for meanwhile, *notes* are neither fed to a guest nor checked.
//!
//! In JSON an event is `{event_id, time, type, attributes}`. In CBOR it is minicbor's indexed
//! encoding: fields can be added with new numbers; numbers are never reused.

use std::sync::Arc;

use minicbor::{Decode, Encode};
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::attributes::{Details, Memo, SearchAttributes};
use crate::command::{Command, ParentClosePolicy};
use crate::failure::Failure;
use crate::ids::{Digest, EventId, Namespace, RunId, Seed, Timestamp, WorkflowId};
use crate::lifetime::{Lifetime, WorkflowTimeout};
use crate::payload::{Payload, headers_bytes};

/// One entry of a run's history.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Event {
    /// Its number.
    #[n(0)]
    pub id: EventId,
    /// When it was recorded.
    #[n(1)]
    pub time: Timestamp,
    /// What happened.
    #[n(2)]
    pub kind: EventKind,
}

/// The three kinds of event.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum EventKind {
    /// A fact from outside, fed to the guest.
    #[n(0)]
    Input(#[n(0)] Input),
    /// What the guest asked for, checked on replay.
    #[n(1)]
    Command(#[n(0)] Command),
    /// Neither fed nor checked.
    #[n(2)]
    Note(#[n(0)] Note),
}

/// A fact from outside. The numbers are persisted: none is ever reused.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize, Deserialize)]
#[serde(tag = "type", content = "attributes")]
pub enum Input {
    /// The run began.
    #[n(0)]
    WorkflowStarted(#[cbor(n(0), with = "crate::shared")] Arc<WorkflowStarted>),
    /// Somebody asked the run to stop.
    #[n(1)]
    WorkflowCancelRequested(#[n(0)] WorkflowCancelRequested),
    /// An activity returned a result.
    #[n(2)]
    ActivityCompleted(#[n(0)] ActivityCompleted),
    /// An activity failed for good.
    #[n(3)]
    ActivityFailed(#[n(0)] ActivityClosedBadly),
    /// An activity ran out of time for good.
    #[n(4)]
    ActivityTimedOut(#[n(0)] ActivityClosedBadly),
    /// An activity was cancelled.
    #[n(5)]
    ActivityCanceled(#[n(0)] ActivityClosedBadly),
    /// A timer fired.
    #[n(6)]
    TimerFired(#[n(0)] TimerFired),
    /// Somebody sent a signal; it waits until the guest takes it.
    #[n(7)]
    SignalReceived(#[cbor(n(0), with = "crate::shared")] Arc<SignalReceived>),
    /// Another run has what this one asked it for.
    #[n(8)]
    ExternalRequestCompleted(#[n(0)] ExternalRequestCompleted),
    /// There is no such run.
    #[n(9)]
    ExternalRequestFailed(#[n(0)] ExternalRequestFailed),
    /// A child began.
    #[n(10)]
    ChildWorkflowStarted(#[n(0)] ChildWorkflowStarted),
    /// A child was not begun.
    #[n(11)]
    ChildWorkflowStartFailed(#[n(0)] ChildWorkflowClosedBadly),
    /// A child returned a result.
    #[n(12)]
    ChildWorkflowCompleted(#[n(0)] ChildWorkflowCompleted),
    /// A child closed without a result.
    #[n(13)]
    ChildWorkflowFailed(#[n(0)] ChildWorkflowClosedBadly),
    /// Somebody sent an update; it waits until the guest accepts it.
    #[n(14)]
    UpdateAdmitted(#[cbor(n(0), with = "crate::shared")] Arc<UpdateAdmitted>),
    /// The run goes on from an earlier event, and draws other random numbers from here on.
    #[n(15)]
    RandomReseeded(#[n(0)] RandomReseeded),
}

/// The run's beginning.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize, Deserialize)]
pub struct WorkflowStarted {
    /// Its type.
    #[n(0)]
    pub workflow_type: String,
    /// Its workflow id.
    #[n(1)]
    pub workflow_id: WorkflowId,
    /// Its namespace.
    #[n(2)]
    pub namespace: Namespace,
    /// Its own id.
    #[n(3)]
    pub run_id: RunId,
    /// The first run of a chain of resets.
    #[n(4)]
    pub original_run_id: RunId,
    /// The component that folds it.
    #[n(5)]
    pub digest: Digest,
    /// Its input.
    #[n(6)]
    pub input: Payload,
    /// Named payloads beside the input.
    #[n(7)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, Payload)>,
    /// Base of its random numbers.
    #[n(8)]
    pub seed: Seed,
    /// Which try of the workflow's own retry policy it is, from 1.
    #[n(9)]
    pub attempt: u32,
    /// The run that continued as this one.
    #[n(10)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continued_from_run_id: Option<RunId>,
    /// The run whose child it is.
    #[n(11)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentRun>,
    /// How long it may take, and whether it is tried again.
    #[n(12)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Box<Lifetime>>,
    /// The reset to the start by which it began.
    #[n(13)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset: Option<Box<RunReset>>,
    /// What it can be found by.
    #[n(20)]
    #[serde(default, skip_serializing_if = "SearchAttributes::is_empty")]
    pub search_attributes: SearchAttributes,
    /// What is written on it.
    #[n(21)]
    #[serde(default, skip_serializing_if = "Memo::is_empty")]
    pub memo: Memo,
}

impl WorkflowStarted {
    /// What the run is described by when it begins; absent where there is nothing.
    #[must_use]
    pub fn details(&self) -> Option<Box<Details>> {
        if self.search_attributes.is_empty() && self.memo.is_empty() {
            return None;
        }
        let (search_attributes, memo) = (self.search_attributes.clone(), self.memo.clone());
        Some(Box::new(Details { search_attributes, memo }))
    }
}

/// The run whose child a run is, and how they hang together.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ParentRun {
    /// Its workflow id.
    #[n(0)]
    pub workflow_id: WorkflowId,
    /// Its id.
    #[n(1)]
    pub run_id: RunId,
    /// Its command that began the child.
    #[n(2)]
    pub command_event_id: EventId,
    /// What becomes of the child when the parent closes.
    #[n(3)]
    pub close_policy: ParentClosePolicy,
}

/// The request to stop a run.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct WorkflowCancelRequested {
    /// Why.
    #[n(0)]
    pub reason: String,
}

/// An activity's good end.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ActivityCompleted {
    /// The command that scheduled it.
    #[n(0)]
    pub scheduled_event_id: EventId,
    /// The attempt that succeeded, from 1.
    #[n(1)]
    pub attempt: u32,
    /// What it returned.
    #[n(2)]
    pub result: Payload,
}

/// An activity's bad end.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ActivityClosedBadly {
    /// The command that scheduled it.
    #[n(0)]
    pub scheduled_event_id: EventId,
    /// The last attempt, from 1.
    #[n(1)]
    pub attempt: u32,
    /// An activity failure whose cause is the last attempt's.
    #[n(2)]
    pub failure: Failure,
}

/// A timer's end.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct TimerFired {
    /// The command that started it.
    #[n(0)]
    pub started_event_id: EventId,
}

/// A message to the run.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize, Deserialize)]
pub struct SignalReceived {
    /// Which signal.
    #[n(0)]
    pub name: String,
    /// What it says.
    #[n(1)]
    pub input: Payload,
    /// Named payloads beside the input.
    #[n(2)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, Payload)>,
}

/// A message to the run that is answered.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize, Deserialize)]
pub struct UpdateAdmitted {
    /// The caller's name for it, unique in the run.
    #[n(0)]
    pub update_id: String,
    /// Which update.
    #[n(1)]
    pub name: String,
    /// What it says.
    #[n(2)]
    pub input: Payload,
    /// Named payloads beside the input.
    #[n(3)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, Payload)>,
}

/// The good end of a request to another run: it reached that run's inbox while the run was open.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ExternalRequestCompleted {
    /// The command that made it.
    #[n(0)]
    pub command_event_id: EventId,
}

/// The bad end of a request to another run: nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ExternalRequestFailed {
    /// The command that made it.
    #[n(0)]
    pub command_event_id: EventId,
    /// Why.
    #[n(1)]
    pub failure: Failure,
}

/// A child's beginning.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ChildWorkflowStarted {
    /// The command that began it.
    #[n(0)]
    pub command_event_id: EventId,
    /// Its first run.
    #[n(1)]
    pub run_id: RunId,
}

/// A child's good end.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ChildWorkflowCompleted {
    /// The command that began it.
    #[n(0)]
    pub command_event_id: EventId,
    /// What it returned.
    #[n(1)]
    pub result: Payload,
}

/// A child's bad end, or that it was not begun.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ChildWorkflowClosedBadly {
    /// The command that began it, or was to.
    #[n(0)]
    pub command_event_id: EventId,
    /// A child workflow's failure whose cause says why.
    #[n(1)]
    pub failure: Failure,
}

/// Something to know about a run that its guest never sees. The numbers are persisted: none is
/// ever reused.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(tag = "type", content = "attributes")]
pub enum Note {
    /// From here on another component folds the run, from its first event.
    #[n(0)]
    VersionMoved(#[n(0)] VersionMoved),
    /// The events before this one were copied from another run.
    #[n(1)]
    RunReset(#[n(0)] RunReset),
    /// The run was closed from outside, without asking its guest.
    #[n(2)]
    WorkflowTerminated(#[n(0)] WorkflowTerminated),
    /// The run was closed because it took too long.
    #[n(3)]
    WorkflowTimedOut(#[n(0)] WorkflowTimedOut),
}

/// A move to another component.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct VersionMoved {
    /// The component before.
    #[n(0)]
    pub from: Digest,
    /// The component from here on.
    #[n(1)]
    pub to: Digest,
}

/// The base of the random numbers behind a reset: what was copied keeps those that it drew.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct RandomReseeded {
    /// 32 bytes of real randomness.
    #[n(0)]
    pub seed: Seed,
}

/// A reset.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct RunReset {
    /// The run whose events were copied.
    #[n(0)]
    pub from_run_id: RunId,
    /// Its last event that was copied.
    #[n(1)]
    pub to_event_id: EventId,
    /// Why; may be empty.
    #[n(2)]
    pub reason: String,
}

/// The end of a run from outside.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct WorkflowTerminated {
    /// Why.
    #[n(0)]
    pub reason: String,
}

/// The end of a run that took too long.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct WorkflowTimedOut {
    /// Which time-out passed.
    #[n(0)]
    pub timeout: WorkflowTimeout,
}

/// An activity's time-outs. One of start-to-close and schedule-to-close must be given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivityTimeouts {
    /// Each attempt's wait for a worker.
    #[n(0)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_to_start_ms: Option<u64>,
    /// Each attempt.
    #[n(1)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_to_close_ms: Option<u64>,
    /// All attempts and the pauses between them.
    #[n(2)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_to_close_ms: Option<u64>,
    /// Between two heartbeats.
    #[n(3)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_ms: Option<u64>,
}

impl ActivityTimeouts {
    /// When an activity scheduled at `scheduled_at` passes schedule-to-close, if ever.
    #[must_use]
    pub fn deadline(&self, scheduled_at: Timestamp) -> Option<Timestamp> {
        self.schedule_to_close_ms.map(|ms| scheduled_at.plus_ms(ms))
    }
}

/// What an event counts towards the bytes of its history beside its payloads: numbers, names and ids.
pub const EVENT_BYTES: usize = 64;

impl EventKind {
    /// Bytes that it brings into a history, about: its payloads, headers and failures, and [`EVENT_BYTES`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        let own = match self {
            Self::Input(input) => input.bytes(),
            Self::Command(command) => command.bytes(),
            Self::Note(_) => 0,
        };
        own + EVENT_BYTES
    }

    /// Bytes of its largest payload; 0 where it has none of its own size.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::Input(input) => input.payload_bytes(),
            Self::Command(command) => command.payload_bytes(),
            Self::Note(_) => 0,
        }
    }

    /// The event's name.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Input(input) => input.type_name(),
            Self::Command(command) => command.type_name(),
            Self::Note(note) => note.type_name(),
        }
    }
}

impl Input {
    /// All names of inputs.
    pub const TYPES: [&'static str; 16] = [
        "WorkflowStarted",
        "WorkflowCancelRequested",
        "ActivityCompleted",
        "ActivityFailed",
        "ActivityTimedOut",
        "ActivityCanceled",
        "TimerFired",
        "SignalReceived",
        "ExternalRequestCompleted",
        "ExternalRequestFailed",
        "ChildWorkflowStarted",
        "ChildWorkflowStartFailed",
        "ChildWorkflowCompleted",
        "ChildWorkflowFailed",
        "UpdateAdmitted",
        "RandomReseeded",
    ];

    /// Bytes of its payload; 0 where it has none of its own size.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::WorkflowStarted(started) => started.input.size(),
            Self::ActivityCompleted(completed) => completed.result.size(),
            Self::SignalReceived(signal) => signal.input.size(),
            Self::ChildWorkflowCompleted(completed) => completed.result.size(),
            Self::UpdateAdmitted(update) => update.input.size(),
            Self::WorkflowCancelRequested(_)
            | Self::ActivityFailed(_)
            | Self::ActivityTimedOut(_)
            | Self::ActivityCanceled(_)
            | Self::TimerFired(_)
            | Self::ExternalRequestCompleted(_)
            | Self::ExternalRequestFailed(_)
            | Self::ChildWorkflowStarted(_)
            | Self::ChildWorkflowStartFailed(_)
            | Self::ChildWorkflowFailed(_)
            | Self::RandomReseeded(_) => 0,
        }
    }

    /// Bytes that it brings into a history: its payloads, headers and failures.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let beside = match self {
            Self::WorkflowStarted(started) => headers_bytes(&started.headers),
            Self::SignalReceived(signal) => headers_bytes(&signal.headers),
            Self::UpdateAdmitted(update) => headers_bytes(&update.headers),
            Self::ActivityFailed(closed)
            | Self::ActivityTimedOut(closed)
            | Self::ActivityCanceled(closed) => closed.failure.bytes(),
            Self::ExternalRequestFailed(closed) => closed.failure.bytes(),
            Self::ChildWorkflowStartFailed(closed) | Self::ChildWorkflowFailed(closed) => {
                closed.failure.bytes()
            }
            Self::WorkflowCancelRequested(_)
            | Self::ActivityCompleted(_)
            | Self::TimerFired(_)
            | Self::ChildWorkflowStarted(_)
            | Self::ChildWorkflowCompleted(_)
            | Self::ExternalRequestCompleted(_)
            | Self::RandomReseeded(_) => 0,
        };
        self.payload_bytes() + beside
    }

    /// The event's name.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::WorkflowStarted(_) => "WorkflowStarted",
            Self::WorkflowCancelRequested(_) => "WorkflowCancelRequested",
            Self::ActivityCompleted(_) => "ActivityCompleted",
            Self::ActivityFailed(_) => "ActivityFailed",
            Self::ActivityTimedOut(_) => "ActivityTimedOut",
            Self::ActivityCanceled(_) => "ActivityCanceled",
            Self::TimerFired(_) => "TimerFired",
            Self::SignalReceived(_) => "SignalReceived",
            Self::ExternalRequestCompleted(_) => "ExternalRequestCompleted",
            Self::ExternalRequestFailed(_) => "ExternalRequestFailed",
            Self::ChildWorkflowStarted(_) => "ChildWorkflowStarted",
            Self::ChildWorkflowStartFailed(_) => "ChildWorkflowStartFailed",
            Self::ChildWorkflowCompleted(_) => "ChildWorkflowCompleted",
            Self::ChildWorkflowFailed(_) => "ChildWorkflowFailed",
            Self::UpdateAdmitted(_) => "UpdateAdmitted",
            Self::RandomReseeded(_) => "RandomReseeded",
        }
    }
}

impl Note {
    /// All names of notes.
    pub const TYPES: [&'static str; 4] =
        ["VersionMoved", "RunReset", "WorkflowTerminated", "WorkflowTimedOut"];

    /// The event's name.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::VersionMoved(_) => "VersionMoved",
            Self::RunReset(_) => "RunReset",
            Self::WorkflowTerminated(_) => "WorkflowTerminated",
            Self::WorkflowTimedOut(_) => "WorkflowTimedOut",
        }
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error;
        let tagged = match &self.kind {
            EventKind::Input(input) => serde_json::to_value(input),
            EventKind::Command(command) => serde_json::to_value(command),
            EventKind::Note(note) => serde_json::to_value(note),
        };
        let attributes = match tagged.map_err(S::Error::custom)? {
            serde_json::Value::Object(mut object) => object.remove("attributes"),
            _ => None,
        };
        let mut event = serializer.serialize_struct("Event", 4)?;
        event.serialize_field("event_id", &self.id)?;
        event.serialize_field("time", &self.time)?;
        event.serialize_field("type", self.kind.type_name())?;
        event.serialize_field("attributes", &attributes)?;
        event.end()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventShape {
    event_id: EventId,
    time: Timestamp,
    r#type: String,
    attributes: serde_json::Value,
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let EventShape { event_id, time, r#type, attributes } = EventShape::deserialize(deserializer)?;
        let is_input = Input::TYPES.contains(&r#type.as_str());
        let is_note = Note::TYPES.contains(&r#type.as_str());
        let tagged = serde_json::json!({ "type": r#type, "attributes": attributes });
        let kind = if is_input {
            serde_json::from_value(tagged).map(EventKind::Input)
        } else if is_note {
            serde_json::from_value(tagged).map(EventKind::Note)
        } else {
            serde_json::from_value(tagged).map(EventKind::Command)
        };
        kind.map(|kind| Self { id: event_id, time, kind })
            .map_err(|error| D::Error::custom(format!("event {event_id}: {error}")))
    }
}
