//! Decisions: what one step of a run changes, as data. A decision is committed in one transaction,
//! fenced by the run's expected next event number; only then is anything in it acted on.

pub mod child;
mod inheritance;
pub mod message;
mod pending;

use std::sync::Arc;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::attributes::Details;
use crate::command::Command;
use crate::divergence::Nondeterminism;
use crate::event::{Event, EventKind, Input, Note, ParentRun, WorkflowCancelRequested, WorkflowTimedOut};
use crate::failure::{CanceledFailure, Failure, FailureKind, TimeoutFailure, TimeoutType};
use crate::fold::Folded;
use crate::ids::{Digest, EventId, RunId, RunKey, Timestamp, WorkflowId};
use crate::lifetime::{ALARM, WorkflowTimeout};
use crate::machine::{RunState, RunStatus};
use crate::payload::Payload;
use message::OutgoingMessage;

pub use inheritance::{AwaitedChild, Inheritance};
pub use pending::{Lease, LeaseId, Paused, PendingActivity, Reset};

/// What one step of a run changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Whose step it is.
    pub key: RunKey,
    /// The run's next event number before the step: the fence. If the store finds another one, or
    /// a closed run, it drops the decision.
    pub expected: EventId,
    /// The run's row, when this step creates the run.
    pub new_run: Option<NewRun>,
    /// Appended to the history; may be empty (an input that only goes to the inbox).
    pub events: Vec<Event>,
    /// What the events mean for the tables.
    pub effects: Effects,
    /// Activities open behind the step; what start-up looks for.
    pub open_activities: u64,
    /// Set by the event that closes the run. Closing deletes the run's timers, attempts and inbox.
    pub closed: Option<Closed>,
    /// What the run may leave when it closes.
    pub leaves: Leaves,
    /// Inputs that could not be folded now, put behind the inbox in this order.
    pub inbox_put: Vec<InboxInput>,
    /// Inbox rows that this step's input came from.
    pub inbox_taken: Vec<InboxSeq>,
    /// Present where the guest closes the run: how many rows of the inbox the run knew before this step, those taken
    /// included. Where there are more the step is refused: what closes a run does not overtake what reached it before.
    /// What waits behind the input that closes the run is left unread.
    pub inbox_known: Option<u64>,
    /// Rows of open activities to insert or replace.
    pub attempts: Vec<PendingActivity>,
    /// Whether the run is blocked behind this step.
    pub blocked: BlockChange,
    /// De-duplicates the caller's request that this step answers; a start's stands in `new_run`.
    pub request: Option<Request>,
    /// Runs that this step begins.
    pub next_runs: Vec<NextRun>,
    /// The component that folds the run from here on, when this step moves it to another one.
    pub moved_to: Option<Digest>,
    /// All that the run is described by from here on, when this step changes it.
    pub details: Option<Box<Details>>,
}

/// What may be there of earlier steps when a run closes: what its state rules out is not looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaves {
    /// Open children.
    pub children: bool,
    /// Timers, its own among them.
    pub timers: bool,
}

impl Leaves {
    /// Nothing is ruled out.
    pub const ANY: Self = Self { children: true, timers: true };

    /// What a state behind a step with these effects does not rule out.
    fn of(state: &RunState, effects: &Effects) -> Self {
        let has_alarm = state.started().is_some_and(|started| started.lifetime.is_some());
        Self {
            children: !state.children().is_empty(),
            timers: has_alarm || !state.timers().is_empty() || !effects.timers_closed.is_empty(),
        }
    }
}

/// A caller's request that is done once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it asks for.
    pub operation: Operation,
    /// The caller's name for it; unique for the workflow id and the operation.
    pub request_id: String,
}

/// What a request asks of a workflow. Names are those of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A run.
    Start,
    /// A signal to be delivered.
    Signal,
    /// The run to be cancelled.
    Cancel,
    /// The run to be terminated.
    Terminate,
    /// An update to be delivered, by a start that found the run open.
    Update,
    /// The run to be reset.
    Reset,
}

impl Operation {
    /// Its name in the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Signal => "signal",
            Self::Cancel => "cancel",
            Self::Terminate => "terminate",
            Self::Update => "update",
            Self::Reset => "reset",
        }
    }
}

/// A run that another one's step begins: its row, and what waits in its inbox, `WorkflowStarted`
/// first. It is folded after the commit, like any run with a full inbox.
#[derive(Clone, Debug, PartialEq)]
pub struct NextRun {
    /// Its id.
    pub run_id: RunId,
    /// Its row.
    pub new_run: NewRun,
    /// Its inbox, in order.
    pub inputs: Vec<InboxInput>,
    /// How it stands to the run that begins it.
    pub kinship: Kinship,
}

/// How a run stands to the one that began it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinship {
    /// It goes on under the same workflow id, and takes over the inbox: signals and requests to
    /// cancel, behind its own inputs.
    Successor,
    /// It goes its own way. If its workflow id has an open run, it is not begun.
    Detached,
    /// It tells the one that began it of its end; that one is told whether it was begun.
    Child,
    /// It goes on in place of that one, from an earlier event of its history, and takes over the inbox.
    Reset,
}

impl Kinship {
    /// Whether the run has a workflow id of its own.
    #[must_use]
    pub const fn is_another_workflow(self) -> bool {
        match self {
            Self::Detached | Self::Child => true,
            Self::Successor | Self::Reset => false,
        }
    }
}

/// The row of a run that a decision creates.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRun {
    /// Its workflow id: at most one open run of a namespace bears it.
    pub workflow_id: WorkflowId,
    /// Its type.
    pub workflow_type: String,
    /// The component that folds it.
    pub digest: Digest,
    /// When it was started.
    pub started_at: Timestamp,
    /// De-duplicates the start: the same id for the same workflow id names the same run.
    pub request_id: Option<String>,
    /// Whether the workflow id may have been a closed run's.
    pub id_reuse: IdReusePolicy,
    /// What the start is content with if a run is open under the workflow id.
    pub if_open: IfOpen,
    /// The run whose child it is.
    pub parent: Option<ParentRun>,
    /// When it begins, where that is later than its start: until then nothing of it is folded.
    pub start_at: Option<Timestamp>,
    /// What it is described by when it begins; absent where there is nothing.
    pub details: Option<Box<Details>>,
    /// What it takes over, if a reset begins it.
    pub inherits: Option<Box<Inheritance>>,
}

/// What a start is content with if a run is open under its workflow id. It is not begun in any case; this is for
/// the request, which is done once whichever way it was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfOpen {
    /// Nothing: who asks is told.
    #[default]
    Refused,
    /// The open run, which is what the `request_id` names from then on.
    Used,
    /// That the open run is signalled, by a request of its own under the same `request_id`.
    Signalled,
    /// That the open run is updated, by a request of its own under the same `request_id`.
    Updated,
}

/// Whether a new run may have the workflow id of a closed one. It speaks of the last closed run that the store
/// still has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum IdReusePolicy {
    /// However that one closed.
    #[n(0)]
    #[default]
    AllowDuplicate,
    /// If it failed, was cancelled, was terminated or ran out of time.
    #[n(1)]
    AllowDuplicateFailedOnly,
    /// Never.
    #[n(2)]
    RejectDuplicate,
}

impl IdReusePolicy {
    /// Whether the workflow id of a run that closed so may be used again.
    #[must_use]
    pub const fn allows(self, closed: RunStatus) -> bool {
        match (self, closed) {
            (Self::AllowDuplicate, _) => true,
            (Self::RejectDuplicate, _) => false,
            (Self::AllowDuplicateFailedOnly, RunStatus::Completed | RunStatus::ContinuedAsNew) => false,
            (
                Self::AllowDuplicateFailedOnly,
                RunStatus::Running
                | RunStatus::Failed
                | RunStatus::Canceled
                | RunStatus::Terminated
                | RunStatus::TimedOut,
            ) => true,
        }
    }
}

/// How and when a run closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The status; not `Running`.
    pub status: RunStatus,
    /// When.
    pub at: Timestamp,
    /// What callers get.
    pub outcome: Outcome,
}

/// What callers of a closed run get.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// It returned this.
    #[n(0)]
    Result(#[n(0)] Payload),
    /// It failed with this, was cancelled, was terminated or ran out of time.
    #[n(1)]
    Failure(#[n(0)] Failure),
    /// Another run goes on under the same workflow id.
    #[n(2)]
    ContinuedAs(#[n(0)] RunId),
}

/// What a step's events mean outside the history. Derived from them alone, in their order; an input
/// that goes to the inbox has its effects too, because what it tells has happened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// Activities to ask to stop once committed.
    pub activities_canceled: Vec<EventId>,
    /// Activities whose rows of attempts go.
    pub activities_closed: Vec<EventId>,
    /// Timers that began, and when each fires; among them the run's own, which is there once.
    pub timers_started: Vec<(EventId, Timestamp)>,
    /// Timers that fired or were taken back.
    pub timers_closed: Vec<EventId>,
    /// What goes to other runs, in order.
    pub messages: Vec<OutgoingMessage>,
    /// Requests to children to cancel, with the command that began each.
    pub children_canceled: Vec<(EventId, InboxInput)>,
}

/// The place of a row in the inbox: the store numbers rows in the order of their commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboxSeq(pub i64);

/// An input that waits for its run. It has no event number yet.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct InboxInput {
    /// When it arrived.
    #[n(0)]
    pub received_at: Timestamp,
    /// What arrived.
    #[n(1)]
    pub input: Input,
}

/// What a decision does to the run's being blocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockChange {
    /// Nothing.
    Keep,
    /// It is blocked from now on, or for another reason, or was tried again in vain.
    Block(Blocked),
    /// It is not blocked any more.
    Clear,
}

/// Why a run is blocked: a fault of its code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The event that cannot be folded; its number if it has one, else the one it would get.
    pub event_id: EventId,
    /// Which sort of fault.
    pub kind: BlockKind,
    /// For people.
    pub reason: String,
    /// The guest's frames; may be empty.
    pub backtrace: String,
    /// What the history has and what the guest did, when they differ.
    pub divergence: Option<Box<Nondeterminism>>,
    /// Since when.
    pub since: Timestamp,
    /// How often it was tried again in vain.
    pub retries: u32,
    /// When it is tried next.
    pub retry_at: Timestamp,
}

/// Which sort of fault blocks a run. Names are those of the store and of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// Its calls differ from the record.
    Nondeterminism,
    /// It trapped or panicked.
    Trap,
    /// It passed a limit.
    LimitExceeded,
    /// Its component is missing or cannot be loaded.
    ComponentUnavailable,
}

impl BlockKind {
    /// Every kind.
    pub const ALL: [Self; 4] =
        [Self::Nondeterminism, Self::Trap, Self::LimitExceeded, Self::ComponentUnavailable];

    /// Its name in JSON and in the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nondeterminism => "nondeterminism",
            Self::Trap => "trap",
            Self::LimitExceeded => "limit_exceeded",
            Self::ComponentUnavailable => "component_unavailable",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl Decision {
    /// A decision that changes nothing yet.
    #[must_use]
    pub fn empty(key: RunKey, expected: EventId, open_activities: u64) -> Self {
        Self {
            key,
            expected,
            new_run: None,
            events: Vec::new(),
            effects: Effects::default(),
            open_activities,
            closed: None,
            leaves: Leaves::ANY,
            inbox_put: Vec::new(),
            inbox_taken: Vec::new(),
            inbox_known: None,
            attempts: Vec::new(),
            blocked: BlockChange::Keep,
            request: None,
            next_runs: Vec::new(),
            moved_to: None,
            details: None,
        }
    }

    /// The decision that records a finished activation, and the state behind it.
    #[must_use]
    pub fn of(key: RunKey, folded: Folded) -> (Self, RunState) {
        let Folded { state, events, changes: _ } = folded;
        let expected = events.first().map_or(state.next(), |event| event.id);
        let effects = Effects::of(&events);
        let decision = Self {
            leaves: Leaves::of(&state, &effects),
            effects,
            closed: events.iter().find_map(Closed::by),
            details: events.iter().any(changes_details).then(|| Box::new(state.details().clone())),
            events,
            ..Self::empty(key, expected, state.activities().len() as u64)
        };
        (decision, state)
    }

    /// Takes the input that the step folded, if it folded one.
    #[must_use]
    pub fn take_input(&mut self) -> Option<Input> {
        match self.events.drain(..).next().map(|event| event.kind) {
            Some(EventKind::Input(input)) => Some(input),
            Some(EventKind::Command(_) | EventKind::Note(_)) | None => None,
        }
    }

    /// Bytes of the payloads of its events.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        let of = |event: &Event| match &event.kind {
            EventKind::Input(input) => input.payload_bytes(),
            EventKind::Command(command) => command.payload_bytes(),
            EventKind::Note(_) => 0,
        };
        self.events.iter().map(of).sum()
    }

    /// The run that a request is remembered by which this step does: the one that a reset begins, else its own.
    #[must_use]
    pub fn answered_by(&self) -> RunId {
        let reset = self.next_runs.iter().find(|next| next.kinship == Kinship::Reset);
        reset.map_or(self.key.run_id, |next| next.run_id)
    }

    /// The run's next event number behind the step.
    #[must_use]
    pub fn next(&self) -> EventId {
        EventId(self.expected.0 + self.events.len() as u64)
    }
}

/// Whether an event changes what its run is described by.
const fn changes_details(event: &Event) -> bool {
    matches!(event.kind, EventKind::Command(Command::SearchAttributesUpserted(_) | Command::MemoUpserted(_)))
}

impl Effects {
    /// What `events` mean outside the history.
    #[must_use]
    pub fn of(events: &[Event]) -> Self {
        let mut effects = Self::default();
        for event in events {
            match &event.kind {
                EventKind::Input(input) => effects.add_input(input, event.time),
                EventKind::Command(command) => effects.add_command(event, command),
                EventKind::Note(_) => {}
            }
        }
        effects
    }

    /// A run's own timer.
    #[must_use]
    pub fn alarm(fire_at: Timestamp) -> Self {
        Self { timers_started: vec![(ALARM, fire_at)], ..Self::default() }
    }

    /// What an input means outside the history, also while it waits in an inbox.
    #[must_use]
    pub fn of_input(input: &Input, at: Timestamp) -> Self {
        let mut effects = Self::default();
        effects.add_input(input, at);
        effects
    }

    fn add_input(&mut self, input: &Input, at: Timestamp) {
        match input {
            Input::WorkflowStarted(started) => {
                let Some(lifetime) = &started.lifetime else { return };
                match lifetime.deadline(at) {
                    Some((deadline, _)) => self.timers_started.push((ALARM, deadline)),
                    None if lifetime.start_at.is_some() => self.timers_closed.push(ALARM),
                    None => {}
                }
            }
            Input::ActivityCompleted(closed) => self.activities_closed.push(closed.scheduled_event_id),
            Input::ActivityFailed(closed)
            | Input::ActivityTimedOut(closed)
            | Input::ActivityCanceled(closed) => {
                self.activities_closed.push(closed.scheduled_event_id);
            }
            Input::TimerFired(fired) => self.timers_closed.push(fired.started_event_id),
            Input::WorkflowCancelRequested(_)
            | Input::SignalReceived(_)
            | Input::ExternalRequestCompleted(_)
            | Input::ExternalRequestFailed(_)
            | Input::ChildWorkflowStarted(_)
            | Input::ChildWorkflowStartFailed(_)
            | Input::ChildWorkflowCompleted(_)
            | Input::ChildWorkflowFailed(_)
            | Input::UpdateAdmitted(_)
            | Input::RandomReseeded(_) => {}
        }
    }

    fn add_command(&mut self, event: &Event, command: &Command) {
        match command {
            Command::ActivityCancelRequested(request) => {
                self.activities_canceled.push(request.scheduled_event_id);
            }
            Command::TimerStarted(timer) => {
                self.timers_started.push((event.id, event.time.plus_ms(timer.duration_ms)));
            }
            Command::TimerCanceled(timer) => self.timers_closed.push(timer.started_event_id),
            Command::ExternalSignalInitiated(request) => {
                let signal = Input::SignalReceived(Arc::clone(&request.signal));
                self.messages.push(OutgoingMessage::new(event, &request.to, signal));
            }
            Command::ExternalCancelInitiated(request) => {
                let reason = request.reason.clone();
                let cancel = Input::WorkflowCancelRequested(WorkflowCancelRequested { reason });
                self.messages.push(OutgoingMessage::new(event, &request.to, cancel));
            }
            Command::ChildCancelRequested(request) => {
                let reason = request.reason.clone();
                let input = Input::WorkflowCancelRequested(WorkflowCancelRequested { reason });
                let cancel = InboxInput { received_at: event.time, input };
                self.children_canceled.push((request.command_event_id, cancel));
            }
            // Dispatched as it stands in the history.
            Command::ActivityScheduled(_)
            | Command::SignalTaken(_)
            | Command::DetachedWorkflowStarted(_)
            | Command::ChildWorkflowInitiated(_)
            | Command::VersionMarkerRecorded(_)
            | Command::SearchAttributesUpserted(_)
            | Command::MemoUpserted(_)
            | Command::UpdateAccepted(_)
            | Command::UpdateCompleted(_)
            | Command::WorkflowContinuedAsNew(_)
            | Command::WorkflowCompleted(_)
            | Command::WorkflowFailed(_)
            | Command::WorkflowCanceled(_) => {}
        }
    }
}

impl Closed {
    /// The close that an event brings about, if any.
    #[must_use]
    pub fn by(event: &Event) -> Option<Self> {
        let (status, outcome) = match &event.kind {
            EventKind::Input(_) | EventKind::Note(Note::VersionMoved(_) | Note::RunReset(_)) => return None,
            EventKind::Command(command) => Self::by_command(command)?,
            EventKind::Note(Note::WorkflowTimedOut(WorkflowTimedOut { timeout })) => {
                let timeout_type = match timeout {
                    WorkflowTimeout::Run => TimeoutType::StartToClose,
                    WorkflowTimeout::Execution => TimeoutType::ScheduleToClose,
                };
                let kind = FailureKind::TimedOut(TimeoutFailure {
                    timeout_type,
                    last_heartbeat_details: Vec::new(),
                });
                let message = format!("the workflow passed its {}", timeout.name());
                (RunStatus::TimedOut, Outcome::Failure(Failure::new(message, kind)))
            }
            EventKind::Note(Note::WorkflowTerminated(terminated)) => {
                let message = match terminated.reason.as_str() {
                    "" => "the workflow was terminated".to_owned(),
                    reason => format!("the workflow was terminated: {reason}"),
                };
                (RunStatus::Terminated, Outcome::Failure(Failure::new(message, FailureKind::Terminated)))
            }
        };
        Some(Self { status, at: event.time, outcome })
    }

    fn by_command(command: &Command) -> Option<(RunStatus, Outcome)> {
        Some(match command {
            Command::WorkflowCompleted(completed) => {
                (RunStatus::Completed, Outcome::Result(completed.result.clone()))
            }
            Command::WorkflowFailed(failed) => (RunStatus::Failed, Outcome::Failure(failed.failure.clone())),
            Command::WorkflowCanceled(canceled) => {
                let kind = FailureKind::Canceled(CanceledFailure { details: canceled.details.clone() });
                (RunStatus::Canceled, Outcome::Failure(Failure::new("the workflow was canceled", kind)))
            }
            Command::WorkflowContinuedAsNew(next) => {
                (RunStatus::ContinuedAsNew, Outcome::ContinuedAs(next.new_run_id))
            }
            Command::ActivityScheduled(_)
            | Command::ActivityCancelRequested(_)
            | Command::TimerStarted(_)
            | Command::TimerCanceled(_)
            | Command::SignalTaken(_)
            | Command::DetachedWorkflowStarted(_)
            | Command::ExternalSignalInitiated(_)
            | Command::ExternalCancelInitiated(_)
            | Command::ChildWorkflowInitiated(_)
            | Command::ChildCancelRequested(_)
            | Command::SearchAttributesUpserted(_)
            | Command::MemoUpserted(_)
            | Command::UpdateAccepted(_)
            | Command::UpdateCompleted(_)
            | Command::VersionMarkerRecorded(_) => return None,
        })
    }
}
