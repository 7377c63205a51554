//! Resets: what [`everfold_core::reset`] says becomes of a run, as decisions.
//!
//! ```text
//! open run ───▶ its mailbox ─▶ plan ─▶ one decision: a note closes it, the new run begins, its inbox and children go over
//! closed run ────────────────▶ plan ─▶ the new run's mailbox ─▶ one decision: the new run begins, its children go over
//! ```
//!
//! Callers who wait for an open run's end wait for that of the new one, and so does a parent. A version other than the
//! run's own must fold what is copied as it was folded. The new run is folded when it is read, like every run with a full
//! inbox.

use std::sync::Arc;

use everfold_core::decision::{
    Closed, Decision, IdReusePolicy, IfOpen, InboxInput, Kinship, NewRun, NextRun, Operation, Outcome,
    Paused, PendingActivity, Request,
};
use everfold_core::event::{Event, EventKind, Input, Note, RunReset, WorkflowTerminated};
use everfold_core::ids::{Digest, EventId, RunId, RunKey, Timestamp};
use everfold_core::machine::RunStatus;
use everfold_core::reset::{self, Begun, NewRunOf, ResetPoint};
use tokio::sync::oneshot;

use super::act::Done;
use super::api::{ApiError, ResetDone, ResetRequest, RunRef, Started};
use super::block::{self, Fault};
use super::cells::Cell;
use super::position::Position;
use super::run::{Message, Phase, Run};
use super::source::Keep;
use super::talk::{Answer, Ask, Reached, Refusal, check_reason, check_request_id};
use super::{Host, Parts, internal, load};
use crate::store::{RunRow, StoreError};
use crate::telemetry::RunNames;

/// To what a run is reset.
#[derive(Clone, Debug)]
pub(super) struct To {
    /// Its last event that is taken over.
    pub(super) event: EventId,
    pub(super) reason: String,
    /// The component that folds the new run, if it is another one.
    pub(super) digest: Option<Digest>,
}

/// The new run of a closed one.
pub(super) struct ResetStart {
    planned: Planned,
    request: Option<Request>,
    reply: oneshot::Sender<Result<Started, ApiError>>,
}

/// The run that a reset begins.
struct Planned {
    run_id: RunId,
    new_run: NewRun,
    /// What waits for it when it begins.
    inputs: Vec<InboxInput>,
}

impl Run {
    /// Closes the run by a note, and begins the one that goes on from an earlier event of it.
    pub(super) fn reset(
        &mut self,
        parts: &Arc<Parts>,
        cell: &Arc<Cell>,
        at: Position,
        to: &To,
        request: Option<Request>,
        reply: oneshot::Sender<Answer>,
    ) {
        let row = parts.runtime.block_on(parts.store.run(&cell.key)).map_err(|error| busy(&error));
        let planned = row.and_then(|row| row.ok_or(Refusal::Closed)).and_then(|row| plan(parts, &row, to));
        let Planned { run_id, new_run, inputs } = match planned {
            Ok(planned) => planned,
            Err(refusal) => {
                let _ = reply.send(Err(refusal));
                return;
            }
        };
        let why = if to.reason.is_empty() { String::new() } else { format!(": {}", to.reason) };
        let reason = format!("reset to event {} as run {run_id}{why}", to.event);
        let time = parts.clock.now().max(at.time);
        let kind = EventKind::Note(Note::WorkflowTerminated(WorkflowTerminated { reason }));
        let mut decision = at.decision(&cell.key);
        decision.events = vec![Event { id: at.next, time, kind }];
        decision.closed =
            Some(Closed { status: RunStatus::Terminated, at: time, outcome: Outcome::ContinuedAs(run_id) });
        decision.next_runs = vec![NextRun { run_id, new_run, inputs, kinship: Kinship::Reset }];
        decision.request = request;
        *self.phase_mut() = Phase::Closed;
        self.submit(parts, cell, decision, None, Keep::Nothing, Done::Caller { reply });
    }

    /// Writes the new run of a closed one down. It is read behind the commit.
    pub(super) fn start_reset(&mut self, parts: &Arc<Parts>, cell: &Arc<Cell>, start: ResetStart) {
        let ResetStart { planned: Planned { run_id, new_run, inputs }, request, reply } = start;
        let inherits = new_run.inherits.as_deref();
        self.names = inherits.and_then(|inherits| RunNames::of_history(&inherits.events));
        let open_activities = inherits.map_or(0, |inherits| inherits.open_activities);
        let started = Started { workflow_id: new_run.workflow_id.clone(), run_id, is_duplicate: false };
        let mut decision = Decision::empty(cell.key.clone(), EventId::FIRST, open_activities);
        decision.new_run = Some(new_run);
        decision.inbox_put = inputs;
        decision.request = request;
        self.submit(parts, cell, decision, None, Keep::Nothing, Done::Start { started, reply });
    }
}

/// What becomes of a run that is reset. Blocks: it reads the whole history, and folds it where the version changes.
fn plan(parts: &Arc<Parts>, row: &RunRow, to: &To) -> Result<Planned, Refusal> {
    // Of an open run with all that waits for it: what cannot be read is found before anything is written.
    let open = parts.runtime.block_on(parts.store.open_run(&row.key)).map_err(|error| busy(&error))?;
    let (history, attempts) = match open {
        Some(open) => (open.history, open.attempts),
        None => {
            let history = parts.runtime.block_on(load::whole_history(parts.store.as_ref(), &row.key));
            (history.map_err(|error| busy(&error))?, Vec::new())
        }
    };
    let to_event = reset::boundary(&history, ResetPoint::Event(to.event)).map_err(Refusal::ResetPoint)?;
    let (seed, now) = (parts.clock.new_seed(), parts.clock.now());
    let run_id = row.key.run_id.following(&seed, to_event, now);
    let digest = to.digest.unwrap_or(row.digest);
    let new = NewRunOf { run_id, now, reason: &to.reason, digest, seed };
    let begun =
        reset::begin(&history, to_event, new).map_err(|illegal| Refusal::Busy(illegal.to_string()))?;
    let Begun { mut inherits, inputs, state, details } = begun;
    if digest != row.digest {
        match block::folded(parts, digest, &state, inherits.events.clone()) {
            Ok(_) => {}
            Err(Fault::Host(error)) => return Err(Refusal::Busy(error)),
            Err(Fault::Code { event_id, reason, divergence, .. }) => {
                let version = digest.short();
                // A divergence says itself where it is.
                let at = if divergence.is_some() { String::new() } else { format!("at event {event_id}, ") };
                return Err(Refusal::Version(format!(
                    "the run does not replay up to event {to_event} on version {version}: {at}{reason}"
                )));
            }
        }
    }
    let is_open = |attempt: &PendingActivity| state.activities().get(attempt.scheduled_event_id).is_some();
    inherits.attempts =
        attempts.into_iter().filter(is_open).filter_map(|row| still_paused(row, now)).collect();
    let new_run = NewRun {
        workflow_id: row.workflow_id.clone(),
        workflow_type: row.workflow_type.clone(),
        digest,
        started_at: now,
        request_id: None,
        id_reuse: IdReusePolicy::default(),
        if_open: IfOpen::default(),
        parent: row.parent.clone(),
        start_at: None,
        details: details.into_some(),
        inherits: Some(Box::new(inherits)),
    };
    Ok(Planned { run_id, new_run, inputs })
}

/// The row of an activity that begins anew, but not before it is resumed.
fn still_paused(row: PendingActivity, now: Timestamp) -> Option<PendingActivity> {
    let Paused { since, attempt_under_way: _ } = row.paused?;
    Some(PendingActivity {
        attempt: 1,
        next_attempt_at: now,
        last_failure: None,
        last_failure_at: None,
        heartbeat_details: None,
        last_heartbeat_at: None,
        lease: None,
        paused: Some(Paused { since, attempt_under_way: false }),
        reset: None,
        ..row
    })
}

impl Host {
    /// Resets a run to an earlier event: a new run goes on from there under the same workflow id; it is on disk when this
    /// returns. An open run is closed in the same transaction. What the run did behind that event is not undone.
    ///
    /// # Errors
    /// `InvalidInput` where the run cannot be reset to that event; `Conflict` for a run that went on as another one already;
    /// `AlreadyStarted` for a closed run whose workflow id has an open one; `UnknownVersion` and `VersionConflict` for a
    /// version that does not fold what is copied; `NotFound`, `Busy`.
    pub async fn reset(&self, request: ResetRequest) -> Result<ResetDone, ApiError> {
        let ResetRequest { mut run, to: point, reason, digest, request_id, dry_run } = request;
        check_reason(&reason)?;
        check_request_id(request_id.as_deref())?;
        let request = request_id.map(|request_id| Request { operation: Operation::Reset, request_id });
        loop {
            self.readiness()?;
            if let Some(request) = &request {
                let done = self.parts.store.request(&run.namespace, &run.workflow_id, request).await;
                if let Some(run_id) = done.map_err(|error| internal(&error))? {
                    return self.done_before(&run, run_id).await;
                }
            }
            let row = self.row(&run).await?;
            // Its events are those of one run, whatever goes on meanwhile.
            run.run_id = Some(row.key.run_id);
            self.may_be_reset(&run, &row).await?;
            self.must_have(&run.namespace, &row.workflow_type, digest.unwrap_or(row.digest)).await?;
            let event = reset::boundary(&self.history_of(&row.key).await?, point);
            let event = event.map_err(ApiError::InvalidInput)?;
            let to = To { event, reason: reason.clone(), digest };
            let began = if dry_run {
                let _admitted = self.parts.admit_write()?;
                self.planned(row.clone(), to).await?;
                Some((None, false))
            } else if row.status == RunStatus::Running {
                self.reset_open(&run, to, request.as_ref()).await?
            } else {
                Some(self.reset_closed(row.clone(), to, request.clone()).await?)
            };
            match began {
                // Another request with the same id was quicker.
                Some((Some(run_id), true)) => return self.done_before(&run, run_id).await,
                Some((run_id, _)) => {
                    return self.told_of_reset(&run, run_id, row.key.run_id, event, false).await;
                }
                // It closed meanwhile: it is reset as a closed one.
                None => {}
            }
        }
    }

    /// Whether nothing goes on from the run, and no other run stands in its way.
    async fn may_be_reset(&self, run: &RunRef, row: &RunRow) -> Result<(), ApiError> {
        let run_id = row.key.run_id;
        if let Some(Outcome::ContinuedAs(next)) = row.outcome {
            let how = match row.status {
                RunStatus::ContinuedAsNew => "continued as new",
                RunStatus::Terminated => "was reset",
                RunStatus::Running
                | RunStatus::Completed
                | RunStatus::Failed
                | RunStatus::Canceled
                | RunStatus::TimedOut => "was tried again",
            };
            return Err(ApiError::Conflict(format!(
                "run {run_id} {how}: it is run {next} now, and a reset does not go back past that: reset run {next}"
            )));
        }
        let last = self.row(&RunRef { run_id: None, ..run.clone() }).await?;
        if last.key == row.key {
            return Ok(());
        }
        let (workflow_id, last_run) = (run.workflow_id.clone(), last.key.run_id);
        if last.status == RunStatus::Running {
            return Err(ApiError::AlreadyStarted { workflow_id, run_id: last_run });
        }
        Err(ApiError::Conflict(format!(
            "run {run_id} is not the last one of workflow {workflow_id}: reset run {last_run}, which came behind it"
        )))
    }

    /// The run that goes on from an open one, and whether it did before; none if that one has closed meanwhile.
    async fn reset_open(
        &self,
        run: &RunRef,
        to: To,
        request: Option<&Request>,
    ) -> Result<Option<(Option<RunId>, bool)>, ApiError> {
        match self.reach(run, &Ask::Reset(Box::new(to)), request).await? {
            Reached::Taken(taken) => Ok(Some((Some(taken.run_id), taken.is_duplicate))),
            Reached::Closed(_) => Ok(None),
        }
    }

    /// The run that goes on from a closed one, and whether it did before.
    async fn reset_closed(
        &self,
        row: RunRow,
        to: To,
        request: Option<Request>,
    ) -> Result<(Option<RunId>, bool), ApiError> {
        let _admitted = self.parts.admit_start()?;
        let namespace = row.key.namespace.clone();
        let planned = self.planned(row, to).await?;
        let key = RunKey { namespace, run_id: planned.run_id };
        let (reply, answered) = oneshot::channel();
        self.parts.send(&key, Message::StartReset(Box::new(ResetStart { planned, request, reply })));
        let stopping = |_| Err(ApiError::Busy("the host is stopping".to_owned()));
        let started = answered.await.unwrap_or_else(stopping)?;
        Ok((Some(started.run_id), started.is_duplicate))
    }

    async fn planned(&self, row: RunRow, to: To) -> Result<Planned, ApiError> {
        let parts = Arc::clone(&self.parts);
        let planned = tokio::task::spawn_blocking(move || plan(&parts, &row, &to)).await;
        let planned = planned.map_err(|error| ApiError::Internal(error.to_string()))?;
        planned.map_err(|refusal| match refusal.into_error() {
            Some(error) => error,
            None => ApiError::Busy("the run has moved on".to_owned()),
        })
    }

    async fn history_of(&self, key: &RunKey) -> Result<Vec<Event>, ApiError> {
        load::whole_history(self.parts.store.as_ref(), key).await.map_err(|error| internal(&error))
    }

    /// What an earlier request came to, as the run tells that it began.
    async fn done_before(&self, run: &RunRef, run_id: RunId) -> Result<ResetDone, ApiError> {
        let key = RunKey { namespace: run.namespace.clone(), run_id };
        // The inbox first: what leaves it meanwhile is in the history.
        let inbox = self.parts.store.inbox(&key).await.map_err(|error| internal(&error))?;
        let history = self.history_of(&key).await?;
        let noted = history.iter().rev().find_map(|event| match &event.kind {
            EventKind::Note(Note::RunReset(reset)) => Some(reset),
            EventKind::Note(_) | EventKind::Input(_) | EventKind::Command(_) => None,
        });
        let begun = history.first().and_then(|first| match &first.kind {
            EventKind::Input(input) => to_the_start(input),
            EventKind::Command(_) | EventKind::Note(_) => None,
        });
        let waiting = || inbox.inputs.iter().find_map(|(_, waiting)| to_the_start(&waiting.input));
        let reset = noted.or(begun).or_else(waiting);
        let reset = reset.ok_or_else(|| ApiError::Internal(format!("run {key} was begun by no reset")))?;
        self.told_of_reset(run, Some(run_id), reset.from_run_id, reset.to_event_id, true).await
    }

    async fn told_of_reset(
        &self,
        run: &RunRef,
        run_id: Option<RunId>,
        reset_run_id: RunId,
        to_event_id: EventId,
        is_duplicate: bool,
    ) -> Result<ResetDone, ApiError> {
        let from = RunKey { namespace: run.namespace.clone(), run_id: reset_run_id };
        let repeats = reset::repeated(&self.history_of(&from).await?, to_event_id);
        Ok(ResetDone {
            workflow_id: run.workflow_id.clone(),
            run_id,
            reset_run_id,
            to_event_id,
            repeats: repeats.map_err(|illegal| ApiError::Internal(illegal.to_string()))?,
            is_duplicate,
        })
    }
}

/// The reset to the start by which a run began, if it did.
fn to_the_start(first: &Input) -> Option<&RunReset> {
    match first {
        Input::WorkflowStarted(started) => started.reset.as_deref(),
        _ => None,
    }
}

fn busy(error: &StoreError) -> Refusal {
    Refusal::Busy(error.to_string())
}
