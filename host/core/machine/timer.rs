//! Timers that are open.
//!
//! ```text
//!            TimerFired │ TimerCanceled
//! started ─────────────────────────────▶ closed
//! ```

use std::collections::BTreeMap;

use super::IllegalEvent;
use crate::ids::{EventId, Timestamp};

/// The open timers of a run and when each fires, by the number of the command that started it.
#[derive(Clone, Debug, Default)]
pub struct Timers {
    open: BTreeMap<EventId, Timestamp>,
}

impl Timers {
    pub(super) const fn new() -> Self {
        Self { open: BTreeMap::new() }
    }

    /// All open timers in the order in which they were started.
    pub fn iter(&self) -> impl Iterator<Item = (EventId, Timestamp)> {
        self.open.iter().map(|(id, fire_at)| (*id, *fire_at))
    }

    /// When the timer fires, if it is open.
    #[must_use]
    pub fn fire_at(&self, id: EventId) -> Option<Timestamp> {
        self.open.get(&id).copied()
    }

    /// Whether none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn is_open(&self, id: EventId) -> bool {
        self.open.contains_key(&id)
    }

    pub(super) fn start(&mut self, id: EventId, fire_at: Timestamp) {
        self.open.insert(id, fire_at);
    }

    pub(super) fn close(&mut self, id: EventId) -> Result<(), IllegalEvent> {
        self.open
            .remove(&id)
            .map(|_| ())
            .ok_or_else(|| IllegalEvent::new(format!("no timer that event {id} started is open")))
    }
}
