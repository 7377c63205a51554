//! Activities that are open.
//!
//! ```text
//!             ActivityCancelRequested
//! scheduled ──────────────────────────▶ canceling
//!     │                                     │
//!     │ ActivityCompleted │ ActivityFailed │ ActivityTimedOut │ ActivityCanceled
//!     ▼                                     ▼
//!   closed                                closed
//! ```
//!
//! Attempts are not events: the closing event carries the last attempt's number.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::IllegalEvent;
use crate::command::ActivityScheduled;
use crate::ids::{EventId, Timestamp};

/// The open activities of a run, by the number of the command that scheduled each.
#[derive(Clone, Debug, Default)]
pub struct Activities {
    open: BTreeMap<EventId, OpenActivity>,
}

/// An activity that has not closed.
#[derive(Clone, Debug)]
pub struct OpenActivity {
    /// What was asked for.
    pub scheduled: Arc<ActivityScheduled>,
    /// When.
    pub scheduled_at: Timestamp,
    /// Whether the guest has asked it to stop.
    pub cancel_requested: bool,
}

impl Activities {
    pub(super) const fn new() -> Self {
        Self { open: BTreeMap::new() }
    }

    /// How many are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The open activity that this command scheduled.
    #[must_use]
    pub fn get(&self, id: EventId) -> Option<&OpenActivity> {
        self.open.get(&id)
    }

    /// All open activities in the order in which they were scheduled.
    pub fn iter(&self) -> impl Iterator<Item = (EventId, &OpenActivity)> {
        self.open.iter().map(|(id, activity)| (*id, activity))
    }

    /// Counts the time-outs of all that are open from now.
    pub(super) fn begin_anew(&mut self, now: Timestamp) {
        self.open.values_mut().for_each(|activity| activity.scheduled_at = now);
    }

    pub(super) fn is_open(&self, id: EventId) -> bool {
        self.open.contains_key(&id)
    }

    pub(super) fn schedule(
        &mut self,
        id: EventId,
        scheduled_at: Timestamp,
        scheduled: &Arc<ActivityScheduled>,
    ) -> Result<(), IllegalEvent> {
        let timeouts = &scheduled.timeouts;
        if timeouts.start_to_close_ms.is_none() && timeouts.schedule_to_close_ms.is_none() {
            return Err(IllegalEvent::new(format!(
                "activity {} has neither a start-to-close nor a schedule-to-close time-out",
                scheduled.activity_type
            )));
        }
        scheduled.retry_policy.check().map_err(IllegalEvent::new)?;
        let activity =
            OpenActivity { scheduled: Arc::clone(scheduled), scheduled_at, cancel_requested: false };
        self.open.insert(id, activity);
        Ok(())
    }

    pub(super) fn request_cancel(&mut self, id: EventId) -> Result<(), IllegalEvent> {
        match self.open.get_mut(&id) {
            None => Err(not_open(id)),
            Some(activity) if activity.cancel_requested => {
                Err(IllegalEvent::new(format!("the cancellation of activity {id} was already requested")))
            }
            Some(activity) => {
                activity.cancel_requested = true;
                Ok(())
            }
        }
    }

    pub(super) fn close(&mut self, id: EventId) -> Result<(), IllegalEvent> {
        self.open.remove(&id).map(|_| ()).ok_or_else(|| not_open(id))
    }
}

fn not_open(id: EventId) -> IllegalEvent {
    IllegalEvent::new(format!("no activity that event {id} scheduled is open"))
}
