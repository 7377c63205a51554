//! Signals that wait until the guest takes them, each name in the order of arrival.
//!
//! ```text
//!            SignalTaken
//! received ───────────────▶ (gone)
//!     │ WorkflowContinuedAsNew
//!     └─────────────────────────▶ waits for the next run
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::IllegalEvent;
use crate::command::SignalTaken;
use crate::event::SignalReceived;
use crate::ids::EventId;

/// The unread signals of a run, and how many it was sent in all.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// Shared with whoever takes one: an input may be large.
    unread: BTreeMap<String, VecDeque<(EventId, Arc<SignalReceived>)>>,
    received: u64,
}

impl Signals {
    pub(super) const fn new() -> Self {
        Self { unread: BTreeMap::new(), received: 0 }
    }

    /// How many the run was sent, read ones included.
    #[must_use]
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// The oldest unread signal of that name.
    #[must_use]
    pub fn oldest(&self, name: &str) -> Option<&(EventId, Arc<SignalReceived>)> {
        self.unread.get(name).and_then(VecDeque::front)
    }

    /// All unread signals in the order of arrival.
    #[must_use]
    pub fn unread(&self) -> Vec<&(EventId, Arc<SignalReceived>)> {
        let mut unread: Vec<_> = self.unread.values().flatten().collect();
        unread.sort_by_key(|(id, _)| *id);
        unread
    }

    pub(super) fn receive(&mut self, id: EventId, signal: &Arc<SignalReceived>) {
        self.received += 1;
        self.unread.entry(signal.name.clone()).or_default().push_back((id, Arc::clone(signal)));
    }

    pub(super) fn take(&mut self, taken: &SignalTaken) -> Result<(), IllegalEvent> {
        let SignalTaken { received_event_id, name } = taken;
        let queue = self.unread.get_mut(name);
        let is_oldest =
            queue.as_ref().and_then(|queue| queue.front()).map(|(id, _)| id) == Some(received_event_id);
        match queue {
            Some(queue) if is_oldest => {
                queue.pop_front();
                if queue.is_empty() {
                    self.unread.remove(name);
                }
                Ok(())
            }
            Some(_) | None => Err(IllegalEvent::new(format!(
                "event {received_event_id} is not the oldest unread signal `{name}`"
            ))),
        }
    }
}
