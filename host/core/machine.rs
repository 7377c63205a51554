//! The state of one run after the events so far: which operations are open, and which event may
//! come next. One file for each kind of operation, each with its own diagram.
//!
//! ```text
//!            WorkflowStarted              WorkflowCompleted │ …Failed │ …Canceled │ …ContinuedAsNew
//! (nothing) ────────────────▶ running ───────────────────────────────────────────────────────▶ closed
//!     └──────────────────────────┴─── WorkflowTerminated ──────────────────────────────────────────▶
//! ```
//!
//! An event that no diagram allows is refused. From a guest that is a fault of its code; from
//! outside it is a host fault, because the runner asks before it folds ([`RunState::awaits`]).

pub mod activity;
pub mod child;
pub mod external;
pub mod signal;
pub mod timer;
pub mod update;
pub mod version;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::attributes::Details;
use crate::command::Command;
use crate::event::{Event, EventKind, Input, Note, WorkflowStarted};
use crate::ids::{Digest, EventId, Timestamp};
use crate::lifetime::WorkflowTimeout;
use activity::Activities;
use child::Children;
use external::ExternalRequests;
use signal::Signals;
use timer::Timers;
use update::Updates;
use version::Versions;

/// How a run stands. Text in JSON and in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Not closed; a blocked run is running too.
    Running,
    /// Closed with a result.
    Completed,
    /// Closed with a failure.
    Failed,
    /// Closed because it was asked to stop.
    Canceled,
    /// Closed without asking the guest.
    Terminated,
    /// Closed by a time-out of the whole run.
    TimedOut,
    /// Closed; another run goes on under the same workflow id.
    ContinuedAsNew,
}

impl RunStatus {
    /// Every status.
    pub const ALL: [Self; 7] = [
        Self::Running,
        Self::Completed,
        Self::Failed,
        Self::Canceled,
        Self::Terminated,
        Self::TimedOut,
        Self::ContinuedAsNew,
    ];

    /// Its name in JSON and in the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Terminated => "terminated",
            Self::TimedOut => "timed_out",
            Self::ContinuedAsNew => "continued_as_new",
        }
    }

    /// What a run did that stands so, for people.
    #[must_use]
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Running => "is running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Canceled => "was canceled",
            Self::Terminated => "was terminated",
            Self::TimedOut => "timed out",
            Self::ContinuedAsNew => "continued as new",
        }
    }

    /// The status of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// An event that the state does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct IllegalEvent(pub String);

impl IllegalEvent {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// One run after the events so far.
#[derive(Clone, Debug)]
pub struct RunState {
    next: EventId,
    time: Timestamp,
    status: RunStatus,
    started: Option<Arc<WorkflowStarted>>,
    began_at: Timestamp,
    cancel_requested: bool,
    activities: Activities,
    timers: Timers,
    signals: Signals,
    external: ExternalRequests,
    children: Children,
    updates: Updates,
    bytes: u64,
    largest_payload: usize,
    versions: Versions,
    details: Details,
    digest: Option<Digest>,
}

impl Default for RunState {
    fn default() -> Self {
        Self::new()
    }
}

impl RunState {
    /// A run without history.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            next: EventId::FIRST,
            time: Timestamp(0),
            status: RunStatus::Running,
            started: None,
            began_at: Timestamp(0),
            cancel_requested: false,
            activities: Activities::new(),
            timers: Timers::new(),
            signals: Signals::new(),
            external: ExternalRequests::new(),
            children: Children::new(),
            updates: Updates::new(),
            bytes: 0,
            largest_payload: 0,
            versions: Versions::new(),
            details: Details::new(),
            digest: None,
        }
    }

    /// The state that a history leads to.
    ///
    /// # Errors
    /// The first event that cannot stand where it does.
    pub fn of(history: &[Event]) -> Result<Self, IllegalEvent> {
        let mut state = Self::new();
        for event in history {
            state.apply(event)?;
        }
        Ok(state)
    }

    /// The number that the next event will have.
    #[must_use]
    pub const fn next(&self) -> EventId {
        self.next
    }

    /// The time of the last event. The next one is never earlier, whatever the clock says.
    #[must_use]
    pub const fn time(&self) -> Timestamp {
        self.time
    }

    /// Bytes of its history, as [`EventKind::bytes`] counts them.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of the largest payload in its history.
    #[must_use]
    pub const fn largest_payload(&self) -> usize {
        self.largest_payload
    }

    /// How the run stands.
    #[must_use]
    pub const fn status(&self) -> RunStatus {
        self.status
    }

    /// What the run was started with; absent while its history is empty.
    #[must_use]
    pub fn started(&self) -> Option<&WorkflowStarted> {
        self.started.as_deref()
    }

    /// When the run has taken too long, and which time-out that is.
    #[must_use]
    pub fn deadline(&self) -> Option<(Timestamp, WorkflowTimeout)> {
        self.started.as_ref()?.lifetime.as_ref()?.deadline(self.began_at)
    }

    /// The activities that have not closed.
    #[must_use]
    pub const fn activities(&self) -> &Activities {
        &self.activities
    }

    /// The timers that have neither fired nor been cancelled.
    #[must_use]
    pub const fn timers(&self) -> &Timers {
        &self.timers
    }

    /// The signals that wait until the guest takes them.
    #[must_use]
    pub const fn signals(&self) -> &Signals {
        &self.signals
    }

    /// The requests to other runs that are not answered.
    #[must_use]
    pub const fn external(&self) -> &ExternalRequests {
        &self.external
    }

    /// The children that have not closed.
    #[must_use]
    pub const fn children(&self) -> &Children {
        &self.children
    }

    /// The updates that the run was sent.
    #[must_use]
    pub const fn updates(&self) -> &Updates {
        &self.updates
    }

    /// The versions of changes that the run follows.
    #[must_use]
    pub const fn versions(&self) -> &Versions {
        &self.versions
    }

    /// What the run can be found by, and what is written on it.
    #[must_use]
    pub const fn details(&self) -> &Details {
        &self.details
    }

    /// Notes that the run follows the code before a change: its history has no marker where its code
    /// asks. That is no event; whoever replays the history finds it again.
    pub(crate) fn follow_default(&mut self, change_id: &str) {
        self.versions.follow_default(change_id);
    }

    /// The component that recorded the last event and folds the next one: the one that the run was
    /// started on, or was moved to; absent while its history is empty.
    #[must_use]
    pub const fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Whether somebody asked the run to stop.
    #[must_use]
    pub const fn is_cancel_requested(&self) -> bool {
        self.cancel_requested
    }

    /// Whether an input would be taken: false for a duplicate, or for news of an operation that is
    /// closed. Such an input is dropped, not folded.
    #[must_use]
    pub fn awaits(&self, input: &Input) -> bool {
        if self.status != RunStatus::Running {
            return false;
        }
        match input {
            Input::WorkflowStarted(_) => self.started.is_none(),
            Input::RandomReseeded(_) => self.started.is_some(),
            Input::WorkflowCancelRequested(_) => self.started.is_some() && !self.cancel_requested,
            Input::ActivityCompleted(closed) => self.activities.is_open(closed.scheduled_event_id),
            Input::ActivityFailed(closed)
            | Input::ActivityTimedOut(closed)
            | Input::ActivityCanceled(closed) => self.activities.is_open(closed.scheduled_event_id),
            Input::TimerFired(fired) => self.timers.is_open(fired.started_event_id),
            Input::SignalReceived(_) => self.started.is_some(),
            Input::ExternalRequestCompleted(closed) => self.external.is_open(closed.command_event_id),
            Input::ExternalRequestFailed(closed) => self.external.is_open(closed.command_event_id),
            Input::ChildWorkflowStarted(started) => self.children.awaits_start(started.command_event_id),
            Input::ChildWorkflowStartFailed(failed) => self.children.awaits_start(failed.command_event_id),
            Input::ChildWorkflowCompleted(closed) => self.children.awaits_end(closed.command_event_id),
            Input::ChildWorkflowFailed(closed) => self.children.awaits_end(closed.command_event_id),
            Input::UpdateAdmitted(update) => {
                self.started.is_some() && self.updates.admitted(&update.update_id).is_none()
            }
        }
    }

    /// Takes one event.
    ///
    /// # Errors
    /// When the event cannot stand at this place. The state is unchanged then.
    pub fn apply(&mut self, event: &Event) -> Result<(), IllegalEvent> {
        if event.id != self.next {
            return Err(IllegalEvent::new(format!(
                "event {} stands where event {} should",
                event.id, self.next
            )));
        }
        match &event.kind {
            EventKind::Input(input) => {
                self.apply_input(event.id, input)?;
                if let Input::WorkflowStarted(_) = input {
                    self.began_at = event.time;
                }
            }
            EventKind::Command(command) => self.apply_command(event.id, event.time, command)?,
            EventKind::Note(Note::WorkflowTerminated(_)) => {
                self.must_run("WorkflowTerminated")?;
                self.status = RunStatus::Terminated;
            }
            EventKind::Note(Note::WorkflowTimedOut(_)) => {
                self.must_run("WorkflowTimedOut")?;
                self.status = RunStatus::TimedOut;
            }
            EventKind::Note(Note::VersionMoved(moved)) => {
                self.must_run("VersionMoved")?;
                self.digest = Some(moved.to);
            }
            EventKind::Note(Note::RunReset(_)) => {
                self.must_run("RunReset")?;
                self.began_at = event.time;
                self.activities.begin_anew(event.time);
            }
        }
        self.bytes += event.kind.bytes() as u64;
        self.largest_payload = self.largest_payload.max(event.kind.payload_bytes());
        self.next = self.next.next();
        self.time = self.time.max(event.time);
        Ok(())
    }

    fn apply_input(&mut self, id: EventId, input: &Input) -> Result<(), IllegalEvent> {
        self.must_run(input.type_name())?;
        if self.started.is_none() && !matches!(input, Input::WorkflowStarted(_)) {
            return Err(IllegalEvent::new(format!(
                "a history begins with WorkflowStarted, not {}",
                input.type_name()
            )));
        }
        match input {
            Input::WorkflowStarted(started) => {
                if self.started.is_some() {
                    return Err(IllegalEvent::new("the run has already started"));
                }
                self.digest = Some(started.digest);
                self.details = Details {
                    search_attributes: started.search_attributes.clone(),
                    memo: started.memo.clone(),
                };
                self.started = Some(Arc::clone(started));
            }
            Input::RandomReseeded(_) => {}
            Input::WorkflowCancelRequested(_) => self.cancel_requested = true,
            Input::ActivityCompleted(closed) => self.activities.close(closed.scheduled_event_id)?,
            Input::ActivityFailed(closed)
            | Input::ActivityTimedOut(closed)
            | Input::ActivityCanceled(closed) => self.activities.close(closed.scheduled_event_id)?,
            Input::TimerFired(fired) => self.timers.close(fired.started_event_id)?,
            Input::SignalReceived(signal) => self.signals.receive(id, signal),
            Input::ExternalRequestCompleted(closed) => self.external.close(closed.command_event_id)?,
            Input::ExternalRequestFailed(closed) => self.external.close(closed.command_event_id)?,
            Input::ChildWorkflowStarted(started) => self.children.start(started.command_event_id)?,
            Input::ChildWorkflowStartFailed(failed) => {
                self.children.fail_to_start(failed.command_event_id)?
            }
            Input::ChildWorkflowCompleted(closed) => self.children.close(closed.command_event_id)?,
            Input::ChildWorkflowFailed(closed) => self.children.close(closed.command_event_id)?,
            Input::UpdateAdmitted(update) => self.updates.admit(id, update)?,
        }
        Ok(())
    }

    fn apply_command(&mut self, id: EventId, time: Timestamp, command: &Command) -> Result<(), IllegalEvent> {
        self.must_run(command.type_name())?;
        if self.started.is_none() {
            return Err(IllegalEvent::new("a command before WorkflowStarted"));
        }
        match command {
            Command::ActivityScheduled(activity) => self.activities.schedule(id, time, activity)?,
            Command::ActivityCancelRequested(request) => {
                self.activities.request_cancel(request.scheduled_event_id)?;
            }
            Command::TimerStarted(timer) => self.timers.start(id, time.plus_ms(timer.duration_ms)),
            Command::TimerCanceled(timer) => self.timers.close(timer.started_event_id)?,
            Command::SignalTaken(taken) => self.signals.take(taken)?,
            Command::VersionMarkerRecorded(marker) => self.versions.mark(marker),
            Command::ExternalSignalInitiated(_) | Command::ExternalCancelInitiated(_) => {
                self.external.initiate(id);
            }
            Command::ChildWorkflowInitiated(child) => self.children.initiate(id, time, child),
            Command::ChildCancelRequested(request) => {
                self.children.request_cancel(request.command_event_id)?;
            }
            Command::UpdateAccepted(accepted) => self.updates.accept(accepted)?,
            Command::UpdateCompleted(completed) => self.updates.complete(completed)?,
            Command::DetachedWorkflowStarted(_) => {}
            Command::SearchAttributesUpserted(upserted) => {
                self.details.search_attributes.change(&upserted.search_attributes);
            }
            Command::MemoUpserted(upserted) => self.details.memo.change(&upserted.memo),
            Command::WorkflowContinuedAsNew(_) => self.status = RunStatus::ContinuedAsNew,
            Command::WorkflowCompleted(_) => self.status = RunStatus::Completed,
            Command::WorkflowFailed(_) => self.status = RunStatus::Failed,
            Command::WorkflowCanceled(_) => {
                if !self.cancel_requested {
                    return Err(IllegalEvent::new("a workflow cannot end as canceled: nobody asked it to"));
                }
                self.status = RunStatus::Canceled;
            }
        }
        Ok(())
    }

    fn must_run(&self, what: &str) -> Result<(), IllegalEvent> {
        if self.status == RunStatus::Running {
            return Ok(());
        }
        Err(IllegalEvent::new(format!("{what} after the run was closed as {}", self.status.name())))
    }
}
