//! Look ahead: what a guest would ask for next if what its run waits for ended in a certain way.
//!
//! ```text
//! state behind the history ─▶ imagined input ─▶ fold it live ─▶ calls ─▶ the oldest operation succeeds ─▶ …
//! ```
//!
//! Nothing here is ever recorded. A replay proves agreement with the past only; this imagines one of many
//! ways in which a run may go on.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::Command;
use crate::divergence::Call;
use crate::event::{ActivityClosedBadly, ActivityCompleted, Event, EventKind, Input, TimerFired};
use crate::failure::{ActivityFailure, Failure, FailureKind, RetryState};
use crate::fold::{Activated, Activation, Guest, GuestFault};
use crate::ids::{EventId, Timestamp};
use crate::limits::Limits;
use crate::machine::{RunState, RunStatus};
use crate::payload::Payload;

/// Activity types of one run whose ends are imagined.
const ACTIVITY_TYPES: usize = 8;
/// The type of an imagined failure.
pub const IMAGINED_FAILURE: &str = "ImaginedFailure";
/// Nothing that only a host's settings forbid ends an imagined step.
const GENEROUS: Limits = Limits {
    payload_bytes: usize::MAX,
    history_events: u64::MAX,
    history_bytes: u64::MAX,
    pending_activities: usize::MAX,
    signals: u64::MAX,
    pending_external_requests: usize::MAX,
    pending_children: usize::MAX,
    pending_updates: usize::MAX,
};

/// How an open operation is imagined to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imagined {
    /// The activity that this command scheduled returns a result.
    Completes(EventId),
    /// It fails for good.
    Fails(EventId),
    /// The timer that this command started fires.
    Fires(EventId),
}

/// What a guest would ask for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ahead {
    /// What was imagined, in order.
    pub inputs: Vec<String>,
    /// What the guest asked for, in order. The name of a cancelled activity is its type.
    pub calls: Vec<Call>,
    /// Types of the activities whose results were imagined.
    pub results_of: BTreeSet<String>,
    /// Why there is no more, if the guest failed.
    pub fault: Option<GuestFault>,
}

impl Imagined {
    /// The ends to imagine of what is open in `state`: of the oldest activity of each type a good and a
    /// bad one, and the timer that fires first.
    #[must_use]
    pub fn of(state: &RunState) -> Vec<Self> {
        if state.status() != RunStatus::Running {
            return Vec::new();
        }
        let mut types = BTreeSet::new();
        let oldest = state
            .activities()
            .iter()
            .filter(|(_, activity)| types.insert(activity.scheduled.activity_type.as_str()));
        let mut ends: Vec<Self> =
            oldest.take(ACTIVITY_TYPES).flat_map(|(id, _)| [Self::Completes(id), Self::Fails(id)]).collect();
        let next = state.timers().iter().min_by_key(|(id, fire_at)| (*fire_at, *id));
        ends.extend(next.map(|(id, _)| Self::Fires(id)));
        ends
    }

    /// A good end of what has been open longest; none if nothing is.
    fn of_oldest(state: &RunState) -> Option<Self> {
        if state.status() != RunStatus::Running {
            return None;
        }
        let activity = state.activities().iter().next().map(|(id, _)| id);
        let timer = state.timers().iter().next().map(|(id, _)| id);
        match (activity, timer) {
            (Some(activity), Some(timer)) if timer < activity => Some(Self::Fires(timer)),
            (Some(activity), Some(_) | None) => Some(Self::Completes(activity)),
            (None, Some(timer)) => Some(Self::Fires(timer)),
            (None, None) => None,
        }
    }

    /// What happens, for people.
    #[must_use]
    pub fn told(self, state: &RunState) -> String {
        match self {
            Self::Completes(id) => format!("{} completes", activity_type(state, id)),
            Self::Fails(id) => format!("{} fails", activity_type(state, id)),
            Self::Fires(id) => format!("the timer of event {id} fires"),
        }
    }
}

impl Ahead {
    /// Whether two guests would go on differently: other calls, or another fault. Markers are no calls of
    /// their own, as on a replay.
    #[must_use]
    pub fn differs_from(&self, other: &Self) -> bool {
        let is_own = |call: &&Call| call.event_type.as_deref() != Some(MARKER);
        let fault = |ahead: &Self| ahead.fault.as_ref().map(ToString::to_string);
        fault(self) != fault(other) || !self.calls.iter().filter(is_own).eq(other.calls.iter().filter(is_own))
    }
}

/// The type of the event that records a marker.
const MARKER: &str = "VersionMarkerRecorded";

/// Folds imagined inputs into a guest that has folded the history behind `state`: first the given one, then
/// good ends of what has been open longest, `steps` in all. `results` says what an activity returns.
pub fn look_ahead<G: Guest>(
    guest: &mut G,
    mut state: RunState,
    first: Imagined,
    steps: u32,
    results: impl Fn(&str) -> Payload,
) -> Ahead {
    let mut ahead = Ahead::default();
    let mut next = Some(first);
    let mut activities: BTreeMap<EventId, String> = state
        .activities()
        .iter()
        .map(|(id, activity)| (id, activity.scheduled.activity_type.clone()))
        .collect();
    for _ in 0..steps {
        let Some(imagined) = next else { break };
        ahead.inputs.push(imagined.told(&state));
        if let Imagined::Completes(id) = imagined {
            ahead.results_of.insert(activity_type(&state, id).to_owned());
        }
        let (at, input) = input(&state, imagined, &results);
        let activation = match Activation::live(state, at, input, GENEROUS) {
            Ok(activation) => activation,
            Err(illegal) => unreachable!("what is open may end: {illegal}"),
        };
        let Activated { activation, outcome, observations: _ } = guest.activate(activation);
        // Also what it asked for before a fault.
        match activation.finish() {
            Ok(folded) => {
                ahead.calls.extend(folded.events.iter().filter_map(|event| call(event, &mut activities)));
                state = folded.state;
            }
            Err(fault) => unreachable!("a live step is not compared: {fault}"),
        }
        if let Err(fault) = outcome {
            ahead.fault = Some(fault);
            break;
        }
        next = Imagined::of_oldest(&state);
    }
    ahead
}

/// An imagined input and its time.
fn input(state: &RunState, imagined: Imagined, results: impl Fn(&str) -> Payload) -> (Timestamp, Input) {
    let now = state.time();
    match imagined {
        Imagined::Completes(id) => {
            let result = results(activity_type(state, id));
            let closed = ActivityCompleted { scheduled_event_id: id, attempt: 1, result };
            (now, Input::ActivityCompleted(closed))
        }
        Imagined::Fails(id) => {
            let activity = ActivityFailure {
                scheduled_event_id: id,
                activity_type: activity_type(state, id).to_owned(),
                attempt: 1,
                retry_state: RetryState::NonRetryableFailure,
            };
            let cause = Failure::non_retryable(IMAGINED_FAILURE, "imagined by a look ahead");
            let failure =
                Failure::new("the activity failed", FailureKind::Activity(activity)).caused_by(cause);
            let closed = ActivityClosedBadly { scheduled_event_id: id, attempt: 1, failure };
            (now, Input::ActivityFailed(closed))
        }
        Imagined::Fires(id) => {
            let fires_at = state.timers().fire_at(id).unwrap_or(now);
            (now.max(fires_at), Input::TimerFired(TimerFired { started_event_id: id }))
        }
    }
}

/// What an event says that the guest asked for. Numbers of events are left out: markers shift them.
fn call(event: &Event, activities: &mut BTreeMap<EventId, String>) -> Option<Call> {
    let EventKind::Command(command) = &event.kind else { return None };
    let call = Call::of(Some(command));
    match command {
        Command::ActivityScheduled(activity) => {
            activities.insert(event.id, activity.activity_type.clone());
            Some(call)
        }
        Command::ActivityCancelRequested(request) => {
            let name = activities.get(&request.scheduled_event_id).cloned().unwrap_or_default();
            Some(Call { name, ..call })
        }
        Command::TimerCanceled(_) | Command::ChildCancelRequested(_) => {
            Some(Call { name: String::new(), ..call })
        }
        Command::TimerStarted(_)
        | Command::WorkflowCompleted(_)
        | Command::WorkflowFailed(_)
        | Command::WorkflowCanceled(_)
        | Command::SignalTaken(_)
        | Command::WorkflowContinuedAsNew(_)
        | Command::DetachedWorkflowStarted(_)
        | Command::ExternalSignalInitiated(_)
        | Command::ExternalCancelInitiated(_)
        | Command::ChildWorkflowInitiated(_)
        | Command::SearchAttributesUpserted(_)
        | Command::MemoUpserted(_)
        | Command::UpdateAccepted(_)
        | Command::UpdateCompleted(_)
        | Command::VersionMarkerRecorded(_) => Some(call),
    }
}

fn activity_type(state: &RunState, id: EventId) -> &str {
    state.activities().get(id).map_or("an activity", |activity| &activity.scheduled.activity_type)
}
