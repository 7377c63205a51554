//! Resets: a run goes back to an earlier event, as a new run that takes over what came before.
//!
//! ```text
//! old run   1 … N │ N+1 … M          closed, if it was open: it goes on as the new run
//!           copied │ signals, updates, what other runs answered to 1 … N
//!             ▼    ▼
//! new run   1 … N  RunReset │ inbox: RandomReseeded, what comes again
//! ```
//!
//! `N` is a boundary: the last event of a step, behind which the run was open. The copied events stay as they are but for
//! the first, which names the new run and has its deadline counted from now. Seed and original run id are kept, and
//! the original run id is the only one that a guest is told as its own, so that the copied steps fold as they did. Behind
//! them the guest gets another seed: what it draws there names other things than it did in the old run.
//!
//! With `N` = 0, the start, nothing is copied: the new run begins as the old one did, with a seed of its own.
//!
//! Activities that are open at the boundary begin anew under the idempotency keys that they had, timers fire at the time
//! that they had. What the run did behind the boundary is not undone, and is done again if its code asks for it:
//! [`repeated`] lists that.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::attributes::Details;
use crate::command::Command;
use crate::decision::{AwaitedChild, Effects, InboxInput, Inheritance};
use crate::event::{Event, EventKind, Input, Note, RandomReseeded, RunReset, VersionMoved, WorkflowStarted};
use crate::ids::{Digest, EventId, RunId, Seed, Timestamp};
use crate::lifetime::ALARM;
use crate::machine::{IllegalEvent, RunState, RunStatus};

/// The event that a run is reset to. In JSON a number, `"start"` or `"last"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected the number of an event, \"start\" or \"last\"")]
pub enum ResetPoint {
    /// That one.
    Event(EventId),
    /// One that is found by its place.
    Place(ResetPlace),
}

/// A place that each history has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetPlace {
    /// Before the first event.
    Start,
    /// The last boundary behind which the run was open.
    Last,
}

impl FromStr for ResetPoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "start" => Ok(Self::Place(ResetPlace::Start)),
            "last" => Ok(Self::Place(ResetPlace::Last)),
            number => number
                .parse()
                .map(|id| Self::Event(EventId(id)))
                .map_err(|_| "expected the number of an event, `start` or `last`".to_owned()),
        }
    }
}

impl fmt::Display for ResetPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(id) => id.fmt(f),
            Self::Place(ResetPlace::Start) => f.write_str("start"),
            Self::Place(ResetPlace::Last) => f.write_str("last"),
        }
    }
}

/// Something that the run did and that its code may do again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeated {
    /// The command that asked for it.
    pub event_id: EventId,
    /// The command's type.
    pub event_type: &'static str,
    /// An activity's type, a workflow's type or a signal's name; absent for a request to cancel.
    pub name: Option<String>,
    /// The workflow that it concerns, where that is another one.
    pub workflow_id: Option<String>,
    /// Of an activity that is open at the boundary: it begins anew in any case, under this key. What the run did behind the
    /// boundary has another key when it is asked for again, unless the run's code names the keys itself.
    pub idempotency_key: Option<String>,
}

/// Nothing of the run is copied.
pub const START: EventId = EventId(0);

/// The boundary at `point`.
///
/// # Errors
/// Why the run cannot be reset there, and where it can.
pub fn boundary(history: &[Event], point: ResetPoint) -> Result<EventId, String> {
    match history.first().map(|event| &event.kind) {
        Some(EventKind::Input(Input::WorkflowStarted(_))) => {}
        None => return Err("the run has not begun: it has no event to be reset to".to_owned()),
        Some(_) => {
            return Err(
                "the run closed before it began: it has no event to be reset to; start it again".to_owned()
            );
        }
    }
    let found = boundaries(history).map_err(|illegal| illegal.to_string())?;
    let last = found.last().copied().unwrap_or(START);
    let wanted = match point {
        ResetPoint::Place(ResetPlace::Start) | ResetPoint::Event(START) => return Ok(START),
        ResetPoint::Place(ResetPlace::Last) => return Ok(last),
        ResetPoint::Event(wanted) => wanted,
    };
    let before = found.iter().rev().find(|id| **id < wanted).copied().unwrap_or(START);
    match found.iter().find(|id| **id >= wanted) {
        Some(id) if *id == wanted => Ok(wanted),
        Some(behind) => Err(format!(
            "event {wanted} is within a step: a run is reset to the end of one, here {before} or {behind}"
        )),
        None => Err(format!("the last event that the run can be reset to is {last}")),
    }
}

/// The last event of each step behind which the run was open.
fn boundaries(history: &[Event]) -> Result<Vec<EventId>, IllegalEvent> {
    let mut state = RunState::new();
    let mut found = Vec::new();
    for (place, event) in history.iter().enumerate() {
        state.apply(event)?;
        let is_end = history.get(place + 1).is_none_or(|next| !matches!(next.kind, EventKind::Command(_)));
        if is_end && state.status() == RunStatus::Running {
            found.push(event.id);
        }
    }
    Ok(found)
}

/// What the code of a run that is reset to `to` may do again, or does in any case.
///
/// # Errors
/// When the history is not well-formed.
pub fn repeated(history: &[Event], to: EventId) -> Result<Vec<Repeated>, IllegalEvent> {
    let (copied, behind) = split(history, to);
    let state = RunState::of(copied)?;
    let open = state.activities().iter().filter(|(_, activity)| !activity.cancel_requested);
    let open = open.map(|(event_id, activity)| Repeated {
        event_id,
        event_type: "ActivityScheduled",
        name: Some(activity.scheduled.activity_type.clone()),
        workflow_id: None,
        idempotency_key: Some(activity.scheduled.idempotency_key.clone()),
    });
    Ok(open.chain(behind.iter().filter_map(effect)).collect())
}

fn effect(event: &Event) -> Option<Repeated> {
    let EventKind::Command(command) = &event.kind else { return None };
    let (name, workflow_id) = match command {
        Command::ActivityScheduled(activity) => (Some(&activity.activity_type), None),
        Command::DetachedWorkflowStarted(next) => (Some(&next.workflow_type), Some(&next.workflow_id)),
        Command::ChildWorkflowInitiated(child) => (Some(&child.workflow_type), Some(&child.workflow_id)),
        Command::ExternalSignalInitiated(request) => {
            (Some(&request.signal.name), Some(&request.to.workflow_id))
        }
        Command::ExternalCancelInitiated(request) => (None, Some(&request.to.workflow_id)),
        Command::ActivityCancelRequested(_)
        | Command::TimerStarted(_)
        | Command::TimerCanceled(_)
        | Command::SignalTaken(_)
        | Command::VersionMarkerRecorded(_)
        | Command::ChildCancelRequested(_)
        | Command::SearchAttributesUpserted(_)
        | Command::MemoUpserted(_)
        | Command::UpdateAccepted(_)
        | Command::UpdateCompleted(_)
        | Command::WorkflowContinuedAsNew(_)
        | Command::WorkflowCompleted(_)
        | Command::WorkflowFailed(_)
        | Command::WorkflowCanceled(_) => return None,
    };
    Some(Repeated {
        event_id: event.id,
        event_type: command.type_name(),
        name: name.cloned(),
        workflow_id: workflow_id.map(|id| id.0.clone()),
        idempotency_key: None,
    })
}

/// What is delivered again of the inputs behind the boundary, in their order.
fn delivered_again(history: &[Event], to: EventId) -> impl Iterator<Item = Input> {
    let (_, behind) = split(history, to);
    behind.iter().filter_map(move |event| match &event.kind {
        EventKind::Input(input) if comes_again(input, to) => Some(input.clone()),
        EventKind::Input(_) | EventKind::Command(_) | EventKind::Note(_) => None,
    })
}

/// Whether an input that came behind the boundary is delivered again: what people said, and what other runs answered to
/// what was asked up to the boundary. Timers fire anew and activities are done anew; who resets a run does not want it
/// cancelled any more.
fn comes_again(input: &Input, to: EventId) -> bool {
    let asked_by = match input {
        Input::SignalReceived(_) | Input::UpdateAdmitted(_) => return true,
        Input::WorkflowStarted(_)
        | Input::WorkflowCancelRequested(_)
        | Input::ActivityCompleted(_)
        | Input::ActivityFailed(_)
        | Input::ActivityTimedOut(_)
        | Input::ActivityCanceled(_)
        | Input::TimerFired(_)
        | Input::RandomReseeded(_) => return false,
        Input::ExternalRequestCompleted(closed) => closed.command_event_id,
        Input::ExternalRequestFailed(closed) => closed.command_event_id,
        Input::ChildWorkflowStarted(started) => started.command_event_id,
        Input::ChildWorkflowStartFailed(closed) | Input::ChildWorkflowFailed(closed) => {
            closed.command_event_id
        }
        Input::ChildWorkflowCompleted(closed) => closed.command_event_id,
    };
    asked_by <= to
}

/// Whether an input goes over that waits in the inbox of the run that is reset. A request to cancel does, unlike one that was
/// folded behind the boundary: nobody has answered it yet.
#[must_use]
pub fn goes_over(input: &Input, to: EventId) -> bool {
    matches!(input, Input::WorkflowCancelRequested(_)) || comes_again(input, to)
}

/// A run that a reset begins.
#[derive(Clone, Copy, Debug)]
pub struct NewRunOf<'a> {
    /// Its id.
    pub run_id: RunId,
    /// When it begins.
    pub now: Timestamp,
    /// Why; for its history.
    pub reason: &'a str,
    /// The component that folds it.
    pub digest: Digest,
    /// The base of the random numbers that it draws.
    pub seed: Seed,
}

/// What a reset begins with.
#[derive(Debug)]
pub struct Begun {
    /// What is written when the new run begins.
    pub inherits: Inheritance,
    /// What waits for it then, in order.
    pub inputs: Vec<InboxInput>,
    /// The state behind what is copied; that of a run without history if nothing is.
    pub state: RunState,
    /// What it is described by.
    pub details: Details,
}

/// The beginning of the new run.
///
/// # Errors
/// When the history is not well-formed.
pub fn begin(history: &[Event], to: EventId, new: NewRunOf<'_>) -> Result<Begun, IllegalEvent> {
    let NewRunOf { run_id, now, reason, digest, seed } = new;
    let Some(Event { kind: EventKind::Input(Input::WorkflowStarted(before)), .. }) = history.first() else {
        return Err(IllegalEvent::new("a history begins with WorkflowStarted"));
    };
    let from = before.run_id;
    let mut started = WorkflowStarted { run_id, ..before.as_ref().clone() };
    if let Some(lifetime) = &mut started.lifetime {
        lifetime.execution_deadline = lifetime.execution_timeout_ms.map(|ms| now.plus_ms(ms));
        lifetime.start_at = None;
    }
    let reset = RunReset { from_run_id: from, to_event_id: to, reason: reason.to_owned() };
    let mut events = split(history, to).0.to_vec();
    let (first, details) = match events.first_mut() {
        Some(first) => {
            first.kind = EventKind::Input(Input::WorkflowStarted(Arc::new(started)));
            (Input::RandomReseeded(RandomReseeded { seed }), None)
        }
        None => {
            if let Some(lifetime) = &mut started.lifetime {
                lifetime.last_failure = None;
            }
            let started = WorkflowStarted {
                original_run_id: run_id,
                attempt: 1,
                digest,
                seed,
                reset: Some(Box::new(reset.clone())),
                ..started
            };
            let described = started.details().map_or_else(Details::new, |details| *details);
            (Input::WorkflowStarted(Arc::new(started)), Some(described))
        }
    };
    let mut state = RunState::of(&events)?;
    if state.started().is_some() {
        let moved = |before: Digest| VersionMoved { from: before, to: digest };
        let moved = state.digest().filter(|before| *before != digest).map(moved);
        for note in [Some(Note::RunReset(reset)), moved.map(Note::VersionMoved)].into_iter().flatten() {
            let event = Event { id: state.next(), time: now.max(state.time()), kind: EventKind::Note(note) };
            state.apply(&event)?;
            events.push(event);
        }
    }
    let inputs = [first].into_iter().chain(delivered_again(history, to));
    let inputs: Vec<_> = inputs.map(|input| InboxInput { received_at: now, input }).collect();
    let told = told(history, to);
    let alarm = state.deadline().map(|(deadline, _)| (ALARM, deadline));
    let inherits = Inheritance {
        from,
        to,
        effects: Effects {
            timers_started: state.timers().iter().chain(alarm).collect(),
            ..Effects::default()
        },
        open_activities: state.activities().len() as u64,
        attempts: Vec::new(),
        children: awaited(&state, &told),
        requests: state.external().iter().filter(|id| !told.contains(id)).collect(),
        begins_at: now,
        events,
    };
    let details = details.unwrap_or_else(|| state.details().clone());
    Ok(Begun { inherits, inputs, state, details })
}

/// The open children whose end the old run's history does not tell.
fn awaited(state: &RunState, told: &BTreeSet<EventId>) -> Vec<AwaitedChild> {
    let children = state.children().iter().filter(|(id, _)| !told.contains(id));
    let children = children.map(|(command_event_id, child)| AwaitedChild {
        command_event_id,
        workflow_type: child.workflow_type.clone(),
        workflow_id: child.workflow_id.clone(),
        run_id: child.run_id,
    });
    children.collect()
}

/// The commands about other runs whose ends are told behind the boundary.
fn told(history: &[Event], to: EventId) -> BTreeSet<EventId> {
    let (_, behind) = split(history, to);
    let ends = behind.iter().filter_map(|event| match &event.kind {
        EventKind::Input(Input::ChildWorkflowStartFailed(closed) | Input::ChildWorkflowFailed(closed)) => {
            Some(closed.command_event_id)
        }
        EventKind::Input(Input::ChildWorkflowCompleted(closed)) => Some(closed.command_event_id),
        EventKind::Input(Input::ExternalRequestCompleted(closed)) => Some(closed.command_event_id),
        EventKind::Input(Input::ExternalRequestFailed(closed)) => Some(closed.command_event_id),
        EventKind::Input(_) | EventKind::Command(_) | EventKind::Note(_) => None,
    });
    ends.collect()
}

fn split(history: &[Event], to: EventId) -> (&[Event], &[Event]) {
    history.split_at(history.partition_point(|event| event.id <= to))
}
