//! Updates: the caller's side. An update is sent like a signal; what becomes of it is read from the run's history, which
//! is its only record, so that who waits here, who asks again, and who asks another host tomorrow get the same answer.
//!
//! ```text
//! update ─▶ the run's mailbox ─▶ refused by its validator: told, and kept nowhere
//!                             └▶ admitted (history or inbox) ─▶ who waits reads the events behind it
//! ```

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use everfold_core::command::{Command, UpdateOutcome};
use everfold_core::decision::{Outcome, Request};
use everfold_core::event::{Event, EventKind, Input, UpdateAdmitted};
use everfold_core::failure::Failure;
use everfold_core::ids::{EventId, RunKey, WorkflowId};
use everfold_core::limits::Limits;
use everfold_core::machine::RunStatus;
use everfold_core::machine::update::UpdateStage;
use everfold_core::payload::Payload;
use lru::LruCache;
use parking_lot::Mutex;

use super::api::{AdmittedUpdate, ApiError, RunRef, UpdateProgress, UpdateRequest};
use super::talk::{Ask, Reached, has_closed};
use super::{Host, LONGEST_ID, internal};
use crate::store::RunRow;

/// Events read at once.
const PAGE: usize = 4_096;
/// Refusals that are remembered for those who were told that their update waits in an inbox.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(1_000).expect("it is not zero");
/// The type by which a guest says that it does not know the update (wit/update.wit).
const UNKNOWN_UPDATE: &str = "UnknownUpdate";

/// Updates that a run's inbox held and its validator refused. A refusal leaves no trace in the history, so that this
/// is all there is of it, for as long as this process lives.
pub(super) struct Refusals(Mutex<LruCache<(RunKey, String), Failure>>);

impl Refusals {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(REMEMBERED)))
    }

    pub(super) fn remember(&self, key: &RunKey, update_id: String, failure: Failure) {
        self.0.lock().put((key.clone(), update_id), failure);
    }

    /// The update is sent once more.
    pub(super) fn forget(&self, key: &RunKey, update_id: &str) {
        self.0.lock().pop(&(key.clone(), update_id.to_owned()));
    }

    fn of(&self, key: &RunKey, update_id: &str) -> Option<Failure> {
        self.0.lock().get(&(key.clone(), update_id.to_owned())).cloned()
    }
}

impl Host {
    /// Sends an update; it is on disk when this returns. The same update id for the same run is the same update, also
    /// when it is completed, and when the run has closed.
    ///
    /// # Errors
    /// `NotFound` when no such run is open, `UpdateRejected` and `UnknownUpdate` from the run's validator, `Blocked`,
    /// `LimitExceeded`, `InvalidInput`, `Busy`.
    pub async fn update(&self, request: UpdateRequest) -> Result<AdmittedUpdate, ApiError> {
        let UpdateRequest { run, name, input, headers, update_id } = request;
        check_update(&self.parts.limits, &name, &input, update_id.as_deref())?;
        let update_id = update_id.unwrap_or_else(|| self.parts.clock.new_uuid().to_string());
        let update = Arc::new(UpdateAdmitted { update_id, name, input, headers });
        self.send_update(&run, &update, None).await
    }

    /// The same with an update that was checked.
    pub(super) async fn send_update(
        &self,
        run: &RunRef,
        update: &Arc<UpdateAdmitted>,
        request: Option<&Request>,
    ) -> Result<AdmittedUpdate, ApiError> {
        let ask = Ask::Take(Input::UpdateAdmitted(Arc::clone(update)));
        let update_id = update.update_id.clone();
        let namespace = run.namespace.clone();
        let admitted = |run_id, from| AdmittedUpdate {
            key: RunKey { namespace: namespace.clone(), run_id },
            workflow_id: run.workflow_id.clone(),
            update_id: update_id.clone(),
            from,
        };
        match self.reach(run, &ask, request).await? {
            Reached::Taken(taken) => Ok(admitted(taken.run_id, taken.from)),
            Reached::Closed(run_id) => {
                let closed = admitted(run_id, EventId::FIRST);
                let mut progress = Reading::new(closed.from);
                self.read_on(&closed.key, &update_id, &mut progress).await?;
                match progress.stage {
                    Some(_) => Ok(closed),
                    None => Err(has_closed(run, run_id)),
                }
            }
        }
    }

    /// How far an update is, as soon as it has reached `wait_for`, or after `wait`.
    ///
    /// # Errors
    /// `UpdateRejected` and `UnknownUpdate` if it waited in an inbox and was refused since; `NotFound`.
    pub async fn update_progress(
        &self,
        update: &AdmittedUpdate,
        wait_for: UpdateStage,
        wait: Duration,
    ) -> Result<UpdateProgress, ApiError> {
        self.progress_of(update, Knowledge::Admitted, wait_for, wait).await
    }

    /// The same for an update that is known by its id alone.
    ///
    /// # Errors
    /// `NotFound`, else as [`Host::update_progress`].
    pub async fn find_update(
        &self,
        run: &RunRef,
        update_id: &str,
        wait_for: UpdateStage,
        wait: Duration,
    ) -> Result<UpdateProgress, ApiError> {
        check_update_id(Some(update_id))?;
        let row = self.row(run).await?;
        let update = AdmittedUpdate {
            key: row.key,
            workflow_id: row.workflow_id,
            update_id: update_id.to_owned(),
            from: EventId::FIRST,
        };
        self.progress_of(&update, Knowledge::Unknown, wait_for, wait).await
    }

    async fn progress_of(
        &self,
        update: &AdmittedUpdate,
        knowledge: Knowledge,
        wait_for: UpdateStage,
        wait: Duration,
    ) -> Result<UpdateProgress, ApiError> {
        let AdmittedUpdate { key, workflow_id, update_id, from } = update;
        let (mut key, mut reading) = (key.clone(), Reading::new(*from));
        let in_time = tokio::time::sleep(wait);
        tokio::pin!(in_time);
        'runs: loop {
            let mut watch = self.parts.watchers.watch(&key);
            loop {
                let row = self.row_of(&key).await?;
                let waits = reading.stage.is_none() && self.waits_in_inbox(&key, update_id).await?;
                self.read_on(&key, update_id, &mut reading).await?;
                let is_open = row.status == RunStatus::Running;
                let stage = reading.stage.or_else(|| waits.then_some(UpdateStage::Admitted));
                let told = |stage, outcome| {
                    let (workflow_id, update_id) = (workflow_id.clone(), update_id.clone());
                    Ok(UpdateProgress { workflow_id, run_id: key.run_id, update_id, stage, outcome })
                };
                if let Some(outcome) = reading.outcome.take() {
                    return told(UpdateStage::Completed, Some(outcome));
                }
                if stage.is_none()
                    && let Some(failure) = self.parts.refusals.of(&key, update_id)
                {
                    return Err(rejected(failure));
                }
                if !is_open {
                    match (stage, &row.outcome) {
                        // What was not accepted went over; behind a reset, all.
                        (stage, Some(Outcome::ContinuedAs(next)))
                            if stage != Some(UpdateStage::Accepted)
                                || row.status == RunStatus::Terminated =>
                        {
                            (key.run_id, reading) = (*next, Reading::new(EventId::FIRST));
                            continue 'runs;
                        }
                        (None, _) if knowledge == Knowledge::Unknown => return Err(unknown(update_id, &row)),
                        (stage, _) => {
                            let failure = stage.unwrap_or(UpdateStage::Admitted).failure_at_close();
                            let outcome = failure.map(UpdateOutcome::Failure);
                            return told(UpdateStage::Completed, outcome);
                        }
                    }
                }
                let stage = match (stage, knowledge) {
                    (Some(stage), _) => stage,
                    // Its refusal is on disk, and will be told in a moment.
                    (None, Knowledge::Admitted) => UpdateStage::Admitted,
                    (None, Knowledge::Unknown) => return Err(unknown(update_id, &row)),
                };
                let is_over = stage >= wait_for || wait.is_zero() || in_time.is_elapsed();
                // A host that stops says how things stand; who waits asks the next one.
                if is_over || self.parts.stopping.is_cancelled() {
                    return told(stage, None);
                }
                tokio::select! {
                    _ = watch.changed() => {}
                    () = &mut in_time => {}
                    () = self.parts.stopping.cancelled() => {}
                }
            }
        }
    }

    async fn waits_in_inbox(&self, key: &RunKey, update_id: &str) -> Result<bool, ApiError> {
        let inbox = self.parts.store.inbox(key).await.map_err(|error| internal(&error))?;
        let is_it =
            |input: &Input| matches!(input, Input::UpdateAdmitted(update) if update.update_id == update_id);
        Ok(inbox.inputs.iter().any(|(_, waiting)| is_it(&waiting.input)))
    }

    /// Reads what the history says of an update, as far as it goes.
    async fn read_on(&self, key: &RunKey, update_id: &str, reading: &mut Reading) -> Result<(), ApiError> {
        while reading.outcome.is_none() {
            let page = self.parts.store.history(key, reading.reached, PAGE).await;
            let page = page.map_err(|error| internal(&error))?;
            if page.is_empty() {
                return Ok(());
            }
            page.into_iter().for_each(|event| reading.take(event, update_id));
        }
        Ok(())
    }
}

/// What is known of an update before anything is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knowledge {
    /// It was admitted.
    Admitted,
    /// Only its id.
    Unknown,
}

/// What a history says of an update, as far as it is read.
struct Reading {
    /// The last event that was read.
    reached: EventId,
    stage: Option<UpdateStage>,
    outcome: Option<UpdateOutcome>,
}

impl Reading {
    /// Begins with that event.
    const fn new(from: EventId) -> Self {
        Self { reached: EventId(from.0.saturating_sub(1)), stage: None, outcome: None }
    }

    fn take(&mut self, event: Event, update_id: &str) {
        self.reached = event.id;
        match event.kind {
            EventKind::Input(Input::UpdateAdmitted(update)) if update.update_id == update_id => {
                self.stage = Some(UpdateStage::Admitted);
            }
            EventKind::Command(Command::UpdateAccepted(update)) if update.update_id == update_id => {
                self.stage = Some(UpdateStage::Accepted);
            }
            EventKind::Command(Command::UpdateCompleted(update)) if update.update_id == update_id => {
                self.stage = Some(UpdateStage::Completed);
                self.outcome = Some(update.outcome);
            }
            EventKind::Input(_) | EventKind::Command(_) | EventKind::Note(_) => {}
        }
    }
}

fn unknown(update_id: &str, row: &RunRow) -> ApiError {
    let WorkflowId(workflow_id) = &row.workflow_id;
    ApiError::NotFound(format!(
        "run {} of workflow {workflow_id} has no update {update_id}: it was not sent there, or its validator refused it",
        row.key.run_id
    ))
}

/// What a caller is told whose update the run's code refuses.
pub(super) fn rejected(failure: Failure) -> ApiError {
    if failure.type_name() == UNKNOWN_UPDATE {
        return ApiError::UnknownUpdate(failure.message);
    }
    ApiError::UpdateRejected(failure)
}

/// Whether an update may be sent at all.
pub(super) fn check_update(
    limits: &Limits,
    name: &str,
    input: &Payload,
    update_id: Option<&str>,
) -> Result<(), ApiError> {
    if name.is_empty() || name.len() > LONGEST_ID {
        let message = format!("an update's name must have 1 to {LONGEST_ID} bytes");
        return Err(ApiError::InvalidInput(message));
    }
    check_update_id(update_id)?;
    limits.check_payload("the update's input", input.size()).map_err(ApiError::InvalidInput)
}

fn check_update_id(update_id: Option<&str>) -> Result<(), ApiError> {
    if update_id.is_none_or(|id| !id.is_empty() && id.len() <= LONGEST_ID) {
        return Ok(());
    }
    Err(ApiError::InvalidInput(format!("update_id must have 1 to {LONGEST_ID} bytes")))
}
