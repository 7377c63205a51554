//! What a run that a reset begins takes over from the run that is reset: written in the transaction that begins it.

use super::child::ChildName;
use super::{Effects, PendingActivity};
use crate::event::Event;
use crate::ids::{EventId, RunId, Timestamp, WorkflowId};

/// What a reset takes over.
#[derive(Clone, Debug, PartialEq)]
pub struct Inheritance {
    /// The run that is reset.
    pub from: RunId,
    /// Its last event that is taken over.
    pub to: EventId,
    /// The new run's history: what was copied, and notes.
    pub events: Vec<Event>,
    /// What is open behind them: timers.
    pub effects: Effects,
    /// Activities open behind them.
    pub open_activities: u64,
    /// Rows of those that are paused.
    pub attempts: Vec<PendingActivity>,
    /// The open children whose end the old run's history does not tell.
    pub children: Vec<AwaitedChild>,
    /// The open requests to other runs.
    pub requests: Vec<EventId>,
    /// When the new run begins.
    pub begins_at: Timestamp,
}

/// A child whose end is still to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwaitedChild {
    /// The command that began it.
    pub command_event_id: EventId,
    /// Its type.
    pub workflow_type: String,
    /// Its workflow id.
    pub workflow_id: WorkflowId,
    /// Its first run.
    pub run_id: RunId,
}

impl Inheritance {
    /// The number of the new run's next event.
    #[must_use]
    pub fn next(&self) -> EventId {
        self.events.last().map_or(EventId::FIRST, |event| event.id.next())
    }
}

impl AwaitedChild {
    /// As its parent knows it.
    #[must_use]
    pub fn name(&self) -> ChildName<'_> {
        let Self { command_event_id, workflow_type, workflow_id, run_id } = self;
        ChildName { workflow_type, workflow_id, run_id: *run_id, command_event_id: *command_event_id }
    }
}
