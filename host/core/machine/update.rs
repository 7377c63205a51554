//! Updates: messages that are answered. Each update id is admitted once in a run, and known as long as the run is.
//!
//! ```text
//!           UpdateAccepted            UpdateCompleted
//! admitted ────────────────▶ accepted ────────────────▶ completed
//!     │ WorkflowContinuedAsNew    │ the run closes
//!     │                           └────────────────▶ fails as AcceptedUpdateCompletedWorkflow
//!     ├────────────────────────────▶ waits for the next run
//!     │ the run closes otherwise
//!     └────────────────────────────▶ fails as AdmittedUpdateCompletedWorkflow
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::IllegalEvent;
use crate::command::{UpdateAccepted, UpdateCompleted};
use crate::event::UpdateAdmitted;
use crate::failure::Failure;
use crate::ids::EventId;

/// The type of the failure of an update whose run closed while its handler was at work.
pub const ACCEPTED_UPDATE_COMPLETED_WORKFLOW: &str = "AcceptedUpdateCompletedWorkflow";

/// The type of the failure of an update whose run closed before it was accepted.
pub const ADMITTED_UPDATE_COMPLETED_WORKFLOW: &str = "AdmittedUpdateCompletedWorkflow";

/// How far an update is. Text in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateStage {
    /// It is on disk.
    Admitted,
    /// The guest took it on.
    Accepted,
    /// It is answered.
    Completed,
}

impl UpdateStage {
    /// Every stage.
    pub const ALL: [Self; 3] = [Self::Admitted, Self::Accepted, Self::Completed];

    /// Its name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Accepted => "accepted",
            Self::Completed => "completed",
        }
    }

    /// What the caller gets if the run closes while its update is at this stage; none where it has been answered.
    #[must_use]
    pub fn failure_at_close(self) -> Option<Failure> {
        let (failure_type, message) = match self {
            Self::Admitted => {
                (ADMITTED_UPDATE_COMPLETED_WORKFLOW, "the workflow closed before it accepted the update")
            }
            Self::Accepted => {
                (ACCEPTED_UPDATE_COMPLETED_WORKFLOW, "the workflow closed before it completed the update")
            }
            Self::Completed => return None,
        };
        Some(Failure::non_retryable(failure_type, message))
    }
}

/// The updates of a run: what is known of each id, and those that are not answered.
#[derive(Clone, Debug, Default)]
pub struct Updates {
    ids: BTreeMap<String, EventId>,
    open: BTreeMap<EventId, OpenUpdate>,
}

/// An update that is not answered.
#[derive(Clone, Debug)]
pub struct OpenUpdate {
    /// What was sent; shared with whoever carries it over.
    pub update: Arc<UpdateAdmitted>,
    /// `Admitted` or `Accepted`.
    pub stage: UpdateStage,
}

impl Updates {
    pub(super) const fn new() -> Self {
        Self { ids: BTreeMap::new(), open: BTreeMap::new() }
    }

    /// The event that admitted the update of that id.
    #[must_use]
    pub fn admitted(&self, update_id: &str) -> Option<EventId> {
        self.ids.get(update_id).copied()
    }

    /// The ids of all that the run was sent, each with the event that admitted it.
    pub fn ids(&self) -> impl Iterator<Item = (&str, EventId)> {
        self.ids.iter().map(|(update_id, id)| (update_id.as_str(), *id))
    }

    /// How many are not answered.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.open.len()
    }

    /// Those that are not answered, in the order of arrival.
    pub fn open(&self) -> impl Iterator<Item = (EventId, &OpenUpdate)> {
        self.open.iter().map(|(id, open)| (*id, open))
    }

    /// The update that an event admitted, if it is not answered.
    #[must_use]
    pub fn get(&self, admitted: EventId) -> Option<&OpenUpdate> {
        self.open.get(&admitted)
    }

    pub(super) fn admit(&mut self, id: EventId, update: &Arc<UpdateAdmitted>) -> Result<(), IllegalEvent> {
        if self.ids.contains_key(&update.update_id) {
            return Err(IllegalEvent::new(format!("update `{}` was admitted before", update.update_id)));
        }
        self.ids.insert(update.update_id.clone(), id);
        self.open.insert(id, OpenUpdate { update: Arc::clone(update), stage: UpdateStage::Admitted });
        Ok(())
    }

    pub(super) fn accept(&mut self, accepted: &UpdateAccepted) -> Result<(), IllegalEvent> {
        let id = accepted.admitted_event_id;
        match self.open.get_mut(&id) {
            Some(open) if open.stage == UpdateStage::Admitted => {
                open.stage = UpdateStage::Accepted;
                Ok(())
            }
            Some(_) => Err(IllegalEvent::new(format!("the update of event {id} was accepted before"))),
            None => Err(not_open(id)),
        }
    }

    pub(super) fn complete(&mut self, completed: &UpdateCompleted) -> Result<(), IllegalEvent> {
        let id = completed.admitted_event_id;
        match self.open.get(&id) {
            Some(open) if open.stage == UpdateStage::Accepted => {
                self.open.remove(&id);
                Ok(())
            }
            Some(_) => {
                Err(IllegalEvent::new(format!("the update of event {id} is completed before it is accepted")))
            }
            None => Err(not_open(id)),
        }
    }
}

/// What is wrong with an event that names an update which the run was not sent, or which it has answered.
pub(crate) fn not_open(id: EventId) -> IllegalEvent {
    IllegalEvent::new(format!("event {id} brought no update that is not answered"))
}
