//! Loading a run from the store: its state from its history, its inbox, and the activities that an
//! earlier process left open.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use everfold_core::decision::{Blocked, InboxInput, InboxSeq, PendingActivity};
use everfold_core::event::{Event, Input, WorkflowTerminated};
use everfold_core::ids::{Digest, EventId, RunKey};
use everfold_core::machine::RunState;

use super::Parts;
use super::dispatch::{Dispatcher, Left};
use super::position::Position;
use super::run::{BlockedRun, Phase, Ready};
use crate::activity::AttemptTask;
use crate::store::{Inbox, OpenRun, RunRow, Store, StoreError};
use crate::telemetry::RunNames;

/// Events read at once.
const PAGE: usize = 4_096;

/// When a blocked run is tried again, and on which version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trial {
    /// At its time.
    WhenDue,
    /// At once.
    Now,
    /// At once, and only on the version that it is on.
    OnItsOwn,
}

/// A run as it was found.
pub(super) struct Loaded {
    pub(super) phase: Phase,
    pub(super) names: Option<Arc<RunNames>>,
    /// That it is to be closed without asking its guest.
    pub(super) termination: Option<WorkflowTerminated>,
}

/// Reads a run and goes on with what it left open.
///
/// # Errors
/// When the store does not answer or is damaged.
pub(super) async fn load(parts: &Arc<Parts>, key: &RunKey, trial: Trial) -> Result<Loaded, StoreError> {
    let Some(run) = parts.store.open_run(key).await? else {
        return Ok(Loaded { phase: Phase::Closed, names: None, termination: None });
    };
    let OpenRun { row, history: recorded, inbox, attempts } = run;
    let Inbox { inputs: inbox, termination } = inbox;
    let state =
        RunState::of(&recorded).map_err(|error| StoreError::Damaged(format!("run {key}: {error}")))?;
    let names = RunNames::of_history(&recorded).map(|names| names.on(row.digest));
    if let Some(names) = &names {
        resume_activities(parts, key, names, &state, &inbox, attempts);
    }
    let is_due = |blocked: &Blocked| match trial {
        Trial::WhenDue => blocked.retry_at <= parts.clock.now(),
        Trial::Now | Trial::OnItsOwn => true,
    };
    let healer = match trial {
        Trial::WhenDue | Trial::Now => healer(parts, &row).await,
        Trial::OnItsOwn => None,
    };
    let waiting = || inbox.iter().map(|(_, waiting)| &waiting.input);
    let phase = match row.blocked {
        None if recorded.is_empty() && row.start_at.is_some_and(|at| at > parts.clock.now()) => {
            Phase::Delayed(Position::of(&state).with_waiting(waiting()))
        }
        Some(blocked) if !is_due(&blocked) => {
            parts.retry_at(key, blocked.retry_at);
            let at = Position::of(&state).with_waiting(waiting());
            Phase::Blocked(BlockedRun { at, blocked, updates: None })
        }
        blocked => Phase::Ready(Box::new(Ready {
            state,
            digest: row.digest,
            instance: None,
            recorded,
            backlog: inbox.into(),
            blocked,
            healer,
            moved: None,
        })),
    };
    Ok(Loaded { phase, names, termination })
}

/// The version on which a blocked run is tried first: the current one of its type, when new runs do not
/// start on its own any more. A promotion, or a rollback, may be what it waits for.
async fn healer(parts: &Arc<Parts>, row: &RunRow) -> Option<Digest> {
    row.blocked.as_ref()?;
    let routes = parts.versions.routes();
    // Without the route the run is tried on its own version; the next try asks again.
    let route = routes.of(&row.key.namespace, &row.workflow_type).await.ok()??.route;
    (!route.leads_to(row.digest)).then_some(route.current)
}

/// All events of a run.
///
/// # Errors
/// When the store does not answer or is damaged.
pub(super) async fn whole_history(store: &dyn Store, key: &RunKey) -> Result<Vec<Event>, StoreError> {
    let mut events: Vec<Event> = Vec::new();
    loop {
        let after = events.last().map_or(EventId(0), |event| event.id);
        let page = store.history(key, after, PAGE).await?;
        if page.is_empty() {
            return Ok(events);
        }
        events.extend(page);
    }
}

/// The run's state as its history has it; for callers who only look.
///
/// # Errors
/// When the store does not answer or is damaged.
pub(super) async fn state(store: &dyn Store, row: &RunRow) -> Result<RunState, StoreError> {
    let events = whole_history(store, &row.key).await?;
    RunState::of(&events).map_err(|error| StoreError::Damaged(format!("run {}: {error}", row.key)))
}

/// Dispatches the open activities that this process does not have under way and whose end does not
/// wait in the inbox.
fn resume_activities(
    parts: &Arc<Parts>,
    key: &RunKey,
    names: &Arc<RunNames>,
    state: &RunState,
    inbox: &[(InboxSeq, InboxInput)],
    attempts: Vec<PendingActivity>,
) {
    let ended: BTreeSet<EventId> =
        inbox.iter().filter_map(|(_, waiting)| closes_activity(&waiting.input)).collect();
    let unknown = |id: EventId| !parts.dispatcher.is_known(key, id) && !ended.contains(&id);
    let mut rows: BTreeMap<EventId, PendingActivity> =
        attempts.into_iter().map(|row| (row.scheduled_event_id, row)).collect();
    for (id, activity) in state.activities().iter().filter(|(id, _)| unknown(*id)) {
        let task = AttemptTask::first(key, names, id, activity.scheduled_at, &activity.scheduled);
        let left = Left {
            row: rows.remove(&id),
            may_have_run: !parts.store.was_closed_in_order() && activity.scheduled_at <= parts.opened_at,
            cancel_requested: activity.cancel_requested,
        };
        Dispatcher::resume(parts, task, left);
    }
}

/// The activity that an input closes, if it does.
pub(super) const fn closes_activity(input: &Input) -> Option<EventId> {
    match input {
        Input::ActivityCompleted(closed) => Some(closed.scheduled_event_id),
        Input::ActivityFailed(closed) | Input::ActivityTimedOut(closed) | Input::ActivityCanceled(closed) => {
            Some(closed.scheduled_event_id)
        }
        Input::WorkflowStarted(_)
        | Input::WorkflowCancelRequested(_)
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
