//! Children that have not closed: their beginning and their end are told separately.
//!
//! ```text
//! initiated ── ChildWorkflowStarted ──▶ started ── ChildWorkflowCompleted │ ChildWorkflowFailed ──▶ (gone)
//!     └──────── ChildWorkflowStartFailed ──▶ (gone)
//! ```
//!
//! Both may be asked to cancel, once.

use std::collections::BTreeMap;

use super::IllegalEvent;
use crate::command::ChildWorkflowInitiated;
use crate::ids::{EventId, RunId, Timestamp, WorkflowId};

/// The open children of a run, by the number of the command that began each.
#[derive(Clone, Debug, Default)]
pub struct Children {
    open: BTreeMap<EventId, Child>,
}

/// A child that has not closed, as far as its parent knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// Its type.
    pub workflow_type: String,
    /// Its workflow id.
    pub workflow_id: WorkflowId,
    /// Its first run.
    pub run_id: RunId,
    /// When it was asked for.
    pub initiated_at: Timestamp,
    /// Whether its beginning is known.
    pub is_started: bool,
    /// Whether it was asked to cancel.
    pub is_cancel_requested: bool,
}

impl Children {
    pub(super) const fn new() -> Self {
        Self { open: BTreeMap::new() }
    }

    /// How many have not closed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether all have closed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The children that have not closed, in the order of their commands.
    pub fn iter(&self) -> impl Iterator<Item = (EventId, &Child)> {
        self.open.iter().map(|(id, child)| (*id, child))
    }

    /// The child that a command began, unless it has closed.
    #[must_use]
    pub fn get(&self, id: EventId) -> Option<&Child> {
        self.open.get(&id)
    }

    /// Whether a child's beginning, or that it was not begun, is still to be told.
    pub(super) fn awaits_start(&self, id: EventId) -> bool {
        self.open.get(&id).is_some_and(|child| !child.is_started)
    }

    /// Whether a child's end is still to be told.
    pub(super) fn awaits_end(&self, id: EventId) -> bool {
        self.open.get(&id).is_some_and(|child| child.is_started)
    }

    pub(super) fn initiate(&mut self, id: EventId, at: Timestamp, child: &ChildWorkflowInitiated) {
        let child = Child {
            workflow_type: child.workflow_type.clone(),
            workflow_id: child.workflow_id.clone(),
            run_id: child.run_id,
            initiated_at: at,
            is_started: false,
            is_cancel_requested: false,
        };
        self.open.insert(id, child);
    }

    pub(super) fn start(&mut self, id: EventId) -> Result<(), IllegalEvent> {
        let child = self.open.get_mut(&id).filter(|child| !child.is_started);
        let child =
            child.ok_or_else(|| IllegalEvent::new(format!("event {id} began no child that is to start")))?;
        child.is_started = true;
        Ok(())
    }

    pub(super) fn fail_to_start(&mut self, id: EventId) -> Result<(), IllegalEvent> {
        if !self.awaits_start(id) {
            return Err(IllegalEvent::new(format!("event {id} began no child that is to start")));
        }
        self.open.remove(&id);
        Ok(())
    }

    pub(super) fn close(&mut self, id: EventId) -> Result<(), IllegalEvent> {
        if !self.awaits_end(id) {
            return Err(IllegalEvent::new(format!("event {id} began no child that is under way")));
        }
        self.open.remove(&id);
        Ok(())
    }

    pub(super) fn request_cancel(&mut self, id: EventId) -> Result<(), IllegalEvent> {
        let child = self.open.get_mut(&id);
        let child =
            child.ok_or_else(|| IllegalEvent::new(format!("event {id} began no child that is open")))?;
        if child.is_cancel_requested {
            return Err(IllegalEvent::new(format!("child {id} was asked to cancel already")));
        }
        child.is_cancel_requested = true;
        Ok(())
    }
}
