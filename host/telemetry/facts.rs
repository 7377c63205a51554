//! Facts: what a decision tells once it is on disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use everfold_core::decision::{BlockChange, Blocked, Closed, Decision};
use everfold_core::event::{Event, EventKind, Input, Note, WorkflowStarted};
use everfold_core::ids::{Digest, EventId, RunId, RunKey, Timestamp, WorkflowId};
use everfold_core::limits::Usage;

use super::trace::RunTrace;
use crate::guest::Observation;

/// Who a run is, for everything that is said about it.
#[derive(Clone, Debug)]
pub struct RunNames {
    /// Its workflow id.
    pub workflow_id: WorkflowId,
    /// Its id.
    pub run_id: RunId,
    /// Its type.
    pub workflow_type: String,
    /// The component that folds it, short.
    pub digest: String,
    /// When it was started.
    pub started_at: Timestamp,
    /// Its place in its trace.
    pub trace: RunTrace,
}

impl RunNames {
    /// The names of a run by its first input and the time of that.
    #[must_use]
    pub fn new(started: &WorkflowStarted, started_at: Timestamp) -> Self {
        Self {
            workflow_id: started.workflow_id.clone(),
            run_id: started.run_id,
            workflow_type: started.workflow_type.clone(),
            digest: started.digest.short(),
            started_at,
            trace: RunTrace::of(started),
        }
    }

    /// The names in a history.
    #[must_use]
    pub fn of_history(events: &[Event]) -> Option<Arc<Self>> {
        let first = events.first()?;
        match &first.kind {
            EventKind::Input(input) => Self::of_input(input, first.time),
            EventKind::Command(_) | EventKind::Note(_) => None,
        }
    }

    /// The names in the decision that begins a run, or puts its beginning into its inbox.
    #[must_use]
    pub fn of_decision(decision: &Decision) -> Option<Arc<Self>> {
        Self::of_history(&decision.events).or_else(|| {
            let waiting = decision.inbox_put.first()?;
            Self::of_input(&waiting.input, waiting.received_at)
        })
    }

    /// The same run on another component.
    #[must_use]
    pub fn on(self: Arc<Self>, digest: Digest) -> Arc<Self> {
        let digest = digest.short();
        if self.digest == digest { self } else { Arc::new(Self { digest, ..Self::clone(&self) }) }
    }

    fn of_input(input: &Input, at: Timestamp) -> Option<Arc<Self>> {
        match input {
            Input::WorkflowStarted(started) => Some(Arc::new(Self::new(started, at))),
            Input::WorkflowCancelRequested(_)
            | Input::ActivityCompleted(_)
            | Input::ActivityFailed(_)
            | Input::ActivityTimedOut(_)
            | Input::ActivityCanceled(_)
            | Input::TimerFired(_)
            | Input::SignalReceived(_)
            | Input::ExternalRequestCompleted(_)
            | Input::ExternalRequestFailed(_)
            | Input::ChildWorkflowStarted(_)
            | Input::ChildWorkflowStartFailed(_)
            | Input::ChildWorkflowCompleted(_)
            | Input::ChildWorkflowFailed(_)
            | Input::UpdateAdmitted(_)
            | Input::RandomReseeded(_) => None,
        }
    }
}

impl RunNames {
    /// The names of a run that nobody started.
    pub(crate) fn of_nobody(workflow_id: &str, workflow_type: &str) -> Arc<Self> {
        let run_id = RunId([7; 16]);
        Arc::new(Self {
            workflow_id: WorkflowId(workflow_id.to_owned()),
            run_id,
            workflow_type: workflow_type.to_owned(),
            digest: Digest([7; 32]).short(),
            started_at: Timestamp(1_000_000),
            trace: RunTrace::of_run(run_id),
        })
    }
}

/// When something that is being folded arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrival(Instant);

impl Arrival {
    /// Just now.
    #[must_use]
    pub fn now() -> Self {
        Self(Instant::now())
    }

    /// It has waited for so long.
    #[must_use]
    pub fn ago(ms: u64) -> Self {
        let now = Instant::now();
        Self(now.checked_sub(Duration::from_millis(ms)).unwrap_or(now))
    }
}

/// An activation under way.
#[derive(Clone, Copy, Debug)]
pub struct Folding {
    waited: Duration,
    at: Timestamp,
    began: Instant,
}

impl Folding {
    /// Begins to fold what arrived then.
    #[must_use]
    pub fn begin(arrival: Option<Arrival>, at: Timestamp) -> Self {
        let began = Instant::now();
        let waited = arrival.map_or(Duration::ZERO, |Arrival(arrived)| began.duration_since(arrived));
        Self { waited, at, began }
    }

    /// It is folded; the guest said `observations` meanwhile.
    #[must_use]
    pub fn end(self, observations: Vec<Observation>) -> Folded {
        let took = self.began.elapsed();
        Folded { waited: self.waited, at: self.at, took, observations, near: Vec::new() }
    }
}

/// A finished activation.
#[derive(Debug)]
pub struct Folded {
    pub(super) waited: Duration,
    pub(super) at: Timestamp,
    pub(super) took: Duration,
    pub(super) observations: Vec<Observation>,
    /// Limits that the run came near to by it.
    pub near: Vec<Usage>,
}

/// What an input of a decision tells beside the activation itself.
#[derive(Debug)]
pub(super) enum Told {
    Nothing,
    Started,
    SignalReceived(String),
    UpdateAdmitted(String),
    CancelRequested(String),
}

/// What a decision tells once it is committed.
#[derive(Debug)]
pub struct Facts {
    pub(super) key: RunKey,
    pub(super) names: Option<Arc<RunNames>>,
    pub(super) input: Option<(EventId, &'static str)>,
    pub(super) told: Told,
    pub(super) commands: usize,
    pub(super) folded: Option<Folded>,
    pub(super) closed: Option<Closed>,
    pub(super) blocked: Option<Blocked>,
    pub(super) is_healed: bool,
    /// The component that the run was moved from.
    pub(super) moved_from: Option<Digest>,
    pub(super) activities_closed: Vec<EventId>,
}

impl Facts {
    /// The facts of a decision; `folded` is the activation that it records, if it does.
    #[must_use]
    pub fn of(names: Option<Arc<RunNames>>, decision: Decision, folded: Option<Folded>) -> Self {
        let (notes, folded_events) = notes_first(&decision.events);
        let moved_from = notes.iter().find_map(|event| match &event.kind {
            EventKind::Note(Note::VersionMoved(moved)) => Some(moved.from),
            EventKind::Note(_) | EventKind::Input(_) | EventKind::Command(_) => None,
        });
        let first = folded_events.first();
        let (input, told) = match first.map(|event| (event.id, &event.kind)) {
            Some((id, EventKind::Input(input))) => (Some((id, input.type_name())), Told::by(input)),
            Some((_, EventKind::Command(_) | EventKind::Note(_))) | None => (None, Told::Nothing),
        };
        let commands = folded_events.len().saturating_sub(usize::from(input.is_some()));
        let (blocked, is_healed) = match decision.blocked {
            BlockChange::Keep => (None, false),
            BlockChange::Block(blocked) => (Some(blocked), false),
            BlockChange::Clear => (None, true),
        };
        Self {
            key: decision.key,
            names,
            commands,
            input,
            told,
            folded,
            closed: decision.closed,
            blocked,
            is_healed,
            moved_from,
            activities_closed: decision.effects.activities_closed,
        }
    }
}

/// The notes with which a decision begins, and the rest.
fn notes_first(events: &[Event]) -> (&[Event], &[Event]) {
    let notes = events.iter().take_while(|event| matches!(event.kind, EventKind::Note(_))).count();
    events.split_at(notes)
}

impl Told {
    fn by(input: &Input) -> Self {
        match input {
            // The first input of a run that goes on from an earlier event of another one.
            Input::WorkflowStarted(_) | Input::RandomReseeded(_) => Self::Started,
            Input::SignalReceived(signal) => Self::SignalReceived(signal.name.clone()),
            Input::UpdateAdmitted(update) => Self::UpdateAdmitted(update.name.clone()),
            Input::WorkflowCancelRequested(request) => Self::CancelRequested(request.reason.clone()),
            Input::ActivityCompleted(_)
            | Input::ActivityFailed(_)
            | Input::ActivityTimedOut(_)
            | Input::ActivityCanceled(_)
            | Input::TimerFired(_)
            | Input::ExternalRequestCompleted(_)
            | Input::ExternalRequestFailed(_)
            | Input::ChildWorkflowStarted(_)
            | Input::ChildWorkflowStartFailed(_)
            | Input::ChildWorkflowCompleted(_)
            | Input::ChildWorkflowFailed(_) => Self::Nothing,
        }
    }
}
