//! Pausing, resuming and resetting open activities: the caller's side. Saying the same again changes nothing.

use everfold_core::command::Command;
use everfold_core::event::EventKind;
use everfold_core::ids::{EventId, RunKey};
use everfold_core::machine::RunStatus;
use tokio::sync::oneshot;

use super::api::{Acknowledged, ActivityOperation, ApiError, OperateRequest};
use super::{Host, internal};
use crate::activity::desk::{Operation, Request};

impl Host {
    /// Does with an open activity what an operator wants; it is on disk when this returns.
    ///
    /// # Errors
    /// `NotFound` when no such run is open, or it has scheduled no such activity; `ActivityClosed`, `Busy`.
    pub async fn operate_activity(&self, request: OperateRequest) -> Result<Acknowledged, ApiError> {
        let OperateRequest { run, scheduled_event_id: id, operation } = request;
        let operation = match operation {
            ActivityOperation::Pause => Operation::Pause,
            ActivityOperation::Resume => Operation::Resume,
            ActivityOperation::Reset { keep_paused: false } => Operation::Reset,
            ActivityOperation::Reset { keep_paused: true } => Operation::ResetPaused,
        };
        let _admitted = self.parts.admit_write()?;
        let row = self.row(&run).await?;
        let (workflow_id, key) = (row.workflow_id, row.key);
        if row.status != RunStatus::Running {
            return Err(ApiError::NotFound(format!(
                "run {} of workflow {workflow_id} has closed",
                key.run_id
            )));
        }
        loop {
            self.readiness()?;
            let Some(desk) = self.desk(&key, id).await? else {
                self.readiness()?;
                return Err(self.not_open(&key, id).await?);
            };
            let (reply, done) = oneshot::channel();
            desk.ask(Request::Operate(operation, reply));
            if done.await.is_ok() {
                return Ok(Acknowledged { workflow_id, run_id: key.run_id, is_duplicate: false });
            }
            // It closes, or an attempt has just ended: then it is asked again.
            if desk.is_closed() {
                self.end_of_activity(&desk).await?;
            }
        }
    }

    /// Why no such activity is open.
    async fn not_open(&self, key: &RunKey, id: EventId) -> Result<ApiError, ApiError> {
        let before = EventId(id.0.saturating_sub(1));
        let page = self.parts.store.history(key, before, 1).await.map_err(|error| internal(&error))?;
        let event = page.into_iter().find(|event| event.id == id);
        Ok(match event.map(|event| event.kind) {
            Some(EventKind::Command(Command::ActivityScheduled(activity))) => {
                let name = &activity.activity_type;
                ApiError::ActivityClosed(format!("activity {name}, which event {id} scheduled, is closed"))
            }
            Some(EventKind::Command(_) | EventKind::Input(_) | EventKind::Note(_)) | None => {
                ApiError::NotFound(format!("event {id} of run {} scheduled no activity", key.run_id))
            }
        })
    }
}
