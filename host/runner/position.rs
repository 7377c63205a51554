//! Where a run stands, what waits in its inbox included: what a decision needs that folds nothing. Must
//! never count an input twice: it is in the history or it waits.

use everfold_core::decision::Decision;
use everfold_core::event::Input;
use everfold_core::ids::{EventId, RunKey, Timestamp};
use everfold_core::lifetime::WorkflowTimeout;
use everfold_core::machine::RunState;

use super::run::Ready;

/// Where a run stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    pub(super) next: EventId,
    /// The time of the last event.
    pub(super) time: Timestamp,
    pub(super) open_activities: u64,
    /// Signals that the run was sent, those that wait in the inbox of a blocked run included.
    pub(super) signals: u64,
    /// Whether the run was asked to cancel, or the request waits in the inbox of a blocked run.
    pub(super) is_cancel_requested: bool,
    /// When it has taken too long, and which time-out that is.
    pub(super) deadline: Option<(Timestamp, WorkflowTimeout)>,
}

impl Position {
    pub(super) fn of(state: &RunState) -> Self {
        Self {
            next: state.next(),
            time: state.time(),
            open_activities: state.activities().len() as u64,
            signals: state.signals().received(),
            is_cancel_requested: state.is_cancel_requested(),
            deadline: state.deadline(),
        }
    }

    /// Where a run stands whose backlog goes on waiting.
    pub(super) fn of_ready(ready: &Ready) -> Self {
        Self::of(&ready.state).with_waiting(ready.backlog.iter().map(|(_, waiting)| &waiting.input))
    }

    /// The same run with inputs that wait in its inbox.
    pub(super) fn with_waiting<'a>(self, inputs: impl IntoIterator<Item = &'a Input>) -> Self {
        inputs.into_iter().fold(self, |at, input| Self {
            signals: at.signals + u64::from(is_signal(input)),
            is_cancel_requested: at.is_cancel_requested || matches!(input, Input::WorkflowCancelRequested(_)),
            ..at
        })
    }

    pub(super) fn decision(&self, key: &RunKey) -> Decision {
        Decision::empty(key.clone(), self.next, self.open_activities)
    }
}

/// Whether an input counts against the limit of signals.
pub(super) const fn is_signal(input: &Input) -> bool {
    match input {
        Input::SignalReceived(_) => true,
        Input::WorkflowStarted(_)
        | Input::WorkflowCancelRequested(_)
        | Input::ActivityCompleted(_)
        | Input::ActivityFailed(_)
        | Input::ActivityTimedOut(_)
        | Input::ActivityCanceled(_)
        | Input::TimerFired(_)
        | Input::ExternalRequestCompleted(_)
        | Input::ExternalRequestFailed(_)
        | Input::ChildWorkflowStarted(_)
        | Input::ChildWorkflowStartFailed(_)
        | Input::ChildWorkflowCompleted(_)
        | Input::ChildWorkflowFailed(_)
        | Input::UpdateAdmitted(_)
        | Input::RandomReseeded(_) => false,
    }
}
