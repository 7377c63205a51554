//! Looking at a run: what it is, its history, its end. Nothing here changes one.

use std::collections::BTreeSet;
use std::time::Duration;

use everfold_core::decision::Outcome;
use everfold_core::event::{Input, UpdateAdmitted};
use everfold_core::history::Export;
use everfold_core::ids::{EventId, RunId, RunKey, WorkflowId};
use everfold_core::machine::update::UpdateStage;
use everfold_core::machine::{RunState, RunStatus};
use tokio::time::Instant;

use super::api::{
    ActivityState, ApiError, Description, HistoryPage, PendingActivityInfo, PendingUpdate, RunRef, RunResult,
};
use super::watch::{Progress, Watch};
use super::{Host, internal, load};
use crate::store::RunRow;

impl Host {
    /// Describes a run.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn describe(&self, run: &RunRef) -> Result<Description, ApiError> {
        let row = self.row(run).await?;
        let mut description = Description {
            workflow_id: row.workflow_id.clone(),
            workflow_type: row.workflow_type.clone(),
            digest: row.digest,
            status: row.status,
            history_length: row.next_event_id.0 - 1,
            started_at: row.started_at,
            closed_at: row.closed_at,
            outcome: row.outcome.clone(),
            blocked: row.blocked.clone(),
            pending_activities: Vec::new(),
            timers: Vec::new(),
            children: Vec::new(),
            parent: row.parent.clone(),
            start_at: row.start_at.filter(|_| row.next_event_id == EventId::FIRST),
            attempt: None,
            deadline: None,
            unread_signals: Vec::new(),
            pending_updates: Vec::new(),
            cancel_requested: false,
            inbox_length: 0,
            details: self.details_of(std::slice::from_ref(&row)).await?.pop().unwrap_or_default(),
            near_limits: Vec::new(),
            key: row.key.clone(),
        };
        if row.status != RunStatus::Running {
            return Ok(description);
        }
        let store = self.parts.store.as_ref();
        let state = load::state(store, &row).await.map_err(|error| internal(&error))?;
        let mut attempts = store.attempts(&row.key).await.map_err(|error| internal(&error))?;
        let inbox = store.inbox(&row.key).await.map_err(|error| internal(&error))?;
        description.inbox_length = inbox.inputs.len() as u64;
        description.near_limits = self.parts.limits.near(&state).collect();
        description.timers = state.timers().iter().collect();
        description.children = state.children().iter().map(|(id, child)| (id, child.clone())).collect();
        description.attempt = state.started().map(|started| started.attempt);
        description.deadline = state.deadline();
        description.cancel_requested = state.is_cancel_requested();
        description.unread_signals =
            state.signals().unread().into_iter().map(|(id, signal)| (*id, signal.name.clone())).collect();
        description.pending_updates =
            pending_updates(&state, inbox.inputs.iter().map(|(_, waiting)| &waiting.input));
        // What the inbox ends nobody makes any more.
        let ended: BTreeSet<EventId> =
            inbox.inputs.iter().filter_map(|(_, waiting)| load::closes_activity(&waiting.input)).collect();
        for (id, activity) in state.activities().iter().filter(|(id, _)| !ended.contains(id)) {
            let row = attempts.iter().position(|row| row.scheduled_event_id == id);
            let row = row.map(|row| attempts.swap_remove(row));
            let is_native = self.parts.attempts.serves(&activity.scheduled);
            description.pending_activities.push(PendingActivityInfo {
                scheduled_event_id: id,
                activity_type: activity.scheduled.activity_type.clone(),
                task_queue: activity.scheduled.task_queue.clone(),
                state: ActivityState::of(row.as_ref(), is_native, self.parts.clock.now()),
                scheduled_at: activity.scheduled_at,
                cancel_requested: activity.cancel_requested,
                maximum_attempts: activity.scheduled.retry_policy.maximum_attempts.filter(|most| *most > 0),
                attempts: row,
            });
        }
        Ok(description)
    }

    /// A run's events behind `after`; waits up to `wait` for one while there is none and the run is
    /// open. A page holds about `limit` events.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn history(
        &self,
        run: &RunRef,
        after: EventId,
        limit: usize,
        wait: Duration,
    ) -> Result<HistoryPage, ApiError> {
        let key = self.row(run).await?.key;
        let mut watch = self.parts.watchers.watch(&key);
        let in_time = tokio::time::sleep(wait);
        tokio::pin!(in_time);
        loop {
            let row = self.row_of(&key).await?;
            let events =
                self.parts.store.history(&key, after, limit).await.map_err(|error| internal(&error))?;
            let reached = events.last().map_or(after, |event| event.id);
            let is_open = row.status == RunStatus::Running;
            let is_over = !is_open || !events.is_empty() || wait.is_zero();
            // A host that stops says how things stand; who waits asks the next one.
            if is_over || in_time.is_elapsed() || self.parts.stopping.is_cancelled() {
                return Ok(HistoryPage {
                    key,
                    workflow_id: row.workflow_id,
                    workflow_type: row.workflow_type,
                    digest: row.digest,
                    status: row.status,
                    events,
                    is_complete: !is_open && reached.next() >= row.next_event_id,
                });
            }
            tokio::select! {
                _ = watch.changed() => {}
                () = &mut in_time => {}
                () = self.parts.stopping.cancelled() => {}
            }
        }
    }

    /// A run's end; waits up to `wait` for it. A run that continued as new is followed.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn result(&self, run: &RunRef, wait: Duration) -> Result<RunResult, ApiError> {
        let key = self.row(run).await?.key;
        self.end_of(key, Instant::now() + wait).await
    }

    /// The end of the run, or of the one that went on from it, if it comes by `deadline`.
    pub(super) async fn end_of(&self, mut key: RunKey, deadline: Instant) -> Result<RunResult, ApiError> {
        loop {
            let mut watch = self.parts.watchers.watch_end(&key);
            let row = self.row_of(&key).await?;
            let (mut status, mut outcome) = (row.status, row.outcome);
            if status == RunStatus::Running
                && let Some(closed) = self.ended(&mut watch, deadline).await
            {
                (status, outcome) = (closed.status, Some(closed.outcome.clone()));
            }
            match outcome {
                Some(Outcome::ContinuedAs(next)) => key.run_id = next,
                outcome => return Ok(RunResult { key, status, outcome }),
            }
        }
    }

    /// Waits for a run's end until `deadline`; a host that stops does not wait.
    pub(super) async fn ended(&self, watch: &mut Watch, deadline: Instant) -> Progress {
        tokio::select! {
            biased;
            closed = watch.changed() => closed,
            () = tokio::time::sleep_until(deadline) => None,
            () = self.parts.stopping.cancelled() => None,
        }
    }

    /// A run's whole history, to be replayed anywhere.
    ///
    /// # Errors
    /// `NotFound`; also for a run whose first event could not be folded yet.
    pub async fn export(&self, run: &RunRef) -> Result<Export, ApiError> {
        let row = self.row(run).await?;
        let events = load::whole_history(self.parts.store.as_ref(), &row.key)
            .await
            .map_err(|error| internal(&error))?;
        Export::of(events, row.digest, self.parts.clock.now()).map_err(|_| {
            let run_id = row.key.run_id;
            ApiError::NotFound(match row.status {
                RunStatus::Running => {
                    format!("run {run_id} has no history yet: its first event waits in the inbox")
                }
                _ => format!("run {run_id} closed before its first event: it has no history to be replayed"),
            })
        })
    }

    pub(super) async fn row(&self, run: &RunRef) -> Result<RunRow, ApiError> {
        let store = &self.parts.store;
        let found = match run.run_id {
            Some(run_id) => {
                let key = RunKey { namespace: run.namespace.clone(), run_id };
                store.run(&key).await.map(|row| row.filter(|row| row.workflow_id == run.workflow_id))
            }
            None => store.latest_run(&run.namespace, &run.workflow_id).await,
        };
        found.map_err(|error| internal(&error))?.ok_or_else(|| not_found(&run.workflow_id, run.run_id))
    }

    pub(super) async fn row_of(&self, key: &RunKey) -> Result<RunRow, ApiError> {
        let found = self.parts.store.run(key).await.map_err(|error| internal(&error))?;
        found.ok_or_else(|| ApiError::NotFound(format!("run {} is not there any more", key.run_id)))
    }
}

/// The updates that are not answered, those in the inbox last.
fn pending_updates<'a>(state: &RunState, inbox: impl Iterator<Item = &'a Input>) -> Vec<PendingUpdate> {
    let of = |update: &UpdateAdmitted, admitted_event_id, stage| PendingUpdate {
        admitted_event_id,
        update_id: update.update_id.clone(),
        name: update.name.clone(),
        stage,
    };
    let mut pending: Vec<_> =
        state.updates().open().map(|(id, open)| of(&open.update, Some(id), open.stage)).collect();
    for input in inbox {
        if let Input::UpdateAdmitted(update) = input {
            pending.push(of(update, None, UpdateStage::Admitted));
        }
    }
    pending
}

fn not_found(workflow_id: &WorkflowId, run_id: Option<RunId>) -> ApiError {
    ApiError::NotFound(match run_id {
        Some(run_id) => format!("workflow {workflow_id} has no run {run_id}"),
        None => format!("there is no workflow {workflow_id}"),
    })
}
