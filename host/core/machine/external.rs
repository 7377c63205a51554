//! Requests to other runs that are not answered yet.
//!
//! ```text
//! initiated ── ExternalRequestCompleted │ ExternalRequestFailed ──▶ (gone)
//! ```

use std::collections::BTreeSet;

use super::IllegalEvent;
use crate::ids::EventId;

/// The unanswered requests of a run, by the number of the command that made each.
#[derive(Clone, Debug, Default)]
pub struct ExternalRequests {
    open: BTreeSet<EventId>,
}

impl ExternalRequests {
    pub(super) const fn new() -> Self {
        Self { open: BTreeSet::new() }
    }

    /// How many are not answered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether all are answered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The commands that made them.
    pub fn iter(&self) -> impl Iterator<Item = EventId> {
        self.open.iter().copied()
    }

    pub(super) fn is_open(&self, id: EventId) -> bool {
        self.open.contains(&id)
    }

    pub(super) fn initiate(&mut self, id: EventId) {
        self.open.insert(id);
    }

    pub(super) fn close(&mut self, id: EventId) -> Result<(), IllegalEvent> {
        if self.open.remove(&id) {
            return Ok(());
        }
        Err(IllegalEvent::new(format!("event {id} made no request that is not answered")))
    }
}
