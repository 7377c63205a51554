//! Attempts outside the host, from the side of those who make them: polls for tasks, and reports by token.
//!
//! A report goes to the desk of its activity and is answered behind the commit. One that finds nobody there is
//! judged by what is recorded: what is said again is acknowledged again, everything else is too late.

use std::sync::Arc;
use std::time::Duration;

use everfold_core::event::{EventKind, Input};
use everfold_core::failure::{CanceledFailure, Failure, FailureKind};
use everfold_core::ids::{EventId, RunKey};
use everfold_core::machine::RunStatus;
use everfold_core::payload::Payload;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::api::{ActivityTask, ApiError, PollRequest, Wishes};
use super::dispatch::Withdrawn;
use super::run::Message;
use super::{Host, LONGEST_ID, internal, load};
use crate::activity::desk::{Desk, End, Reply, Report, Request, Said};
use crate::activity::token::TaskToken;

/// Activity types that a worker may name.
const MOST_TYPES: usize = 100;
/// Events read at once to find the one that closes an activity.
const PAGE: usize = 1_024;

impl Host {
    /// The next attempt for a worker, leased to it; waits up to `wait` for one. Whoever gives up waiting loses none.
    ///
    /// # Errors
    /// `InvalidInput`, `Busy`.
    pub async fn poll(&self, request: PollRequest, wait: Duration) -> Result<Option<ActivityTask>, ApiError> {
        check(&request)?;
        let deadline = Instant::now() + wait;
        let PollRequest { namespace, task_queue, identity, activity_types } = request;
        let queues = &self.parts.dispatcher.queues;
        loop {
            self.readiness()?;
            let mut polling = queues.poll(&namespace, &task_queue, activity_types.clone(), identity.clone());
            let delivered = tokio::select! {
                biased;
                delivered = polling.delivered() => delivered,
                () = tokio::time::sleep_until(deadline) => match polling.withdraw() {
                    Withdrawn::Yes => return Ok(self.polled(None)),
                    // Its lease is on its way to the disk.
                    Withdrawn::TooLate => match polling.delivered().await {
                        Some(task) => Some(task),
                        None => return Ok(self.polled(None)),
                    },
                },
                () = self.parts.stopping.cancelled() => return Ok(self.polled(None)),
            };
            if let Some(task) = delivered {
                return Ok(self.polled(Some(*task)));
            }
        }
    }

    fn polled(&self, task: Option<ActivityTask>) -> Option<ActivityTask> {
        self.parts.telemetry.polled(if task.is_some() { "task" } else { "empty" });
        task
    }

    /// Completes the attempt that the token names; the result is on disk when this returns.
    ///
    /// # Errors
    /// `NotFound`, `AttemptOver`, `LimitExceeded`, `Busy`.
    pub async fn complete_activity(&self, token: &str, result: Payload) -> Result<(), ApiError> {
        self.check_payload("the result", &result)?;
        self.end_attempt(token, Said::Completed(result)).await
    }

    /// Fails the attempt that the token names; what follows of that is on disk when this returns.
    ///
    /// # Errors
    /// `NotFound`, `AttemptOver`, `LimitExceeded`, `Busy`.
    pub async fn fail_activity(&self, token: &str, failure: Failure) -> Result<(), ApiError> {
        for failure in failure.chain() {
            if let FailureKind::Application(application) = &failure.kind {
                for details in &application.details {
                    self.check_payload("a failure's details", details)?;
                }
            }
        }
        self.end_attempt(token, Said::Failed(failure)).await
    }

    /// Says that the attempt stopped because its activity was asked to.
    ///
    /// # Errors
    /// `CancelNotRequested` if it was not; `NotFound`, `AttemptOver`, `LimitExceeded`, `Busy`.
    pub async fn cancel_activity(&self, token: &str, details: Vec<Payload>) -> Result<(), ApiError> {
        for details in &details {
            self.check_payload("a cancellation's details", details)?;
        }
        let kind = FailureKind::Canceled(CanceledFailure { details });
        self.end_attempt(token, Said::Canceled(Failure::new("the worker stopped on request", kind))).await
    }

    /// Says that the attempt goes on, and hears what is wished of it. Details reach the next attempt; a crash of the
    /// host may lose those of the last seconds.
    ///
    /// # Errors
    /// `NotFound`, `AttemptOver`, `LimitExceeded`, `Busy`.
    pub async fn heartbeat_activity(
        &self,
        token: &str,
        details: Option<Payload>,
    ) -> Result<Wishes, ApiError> {
        if let Some(details) = &details {
            self.check_payload("a heartbeat's details", details)?;
        }
        let token = read(token)?;
        match self.report(&token, &Said::Alive(details)).await? {
            Told::Alive(wishes) => Ok(wishes),
            Told::Recorded => Err(ApiError::AttemptOver("the attempt is over".to_owned())),
        }
    }

    fn check_payload(&self, what: &str, payload: &Payload) -> Result<(), ApiError> {
        self.parts.limits.check_payload(what, payload.size()).map_err(ApiError::LimitExceeded)
    }

    async fn end_attempt(&self, token: &str, said: Said) -> Result<(), ApiError> {
        let _admitted = self.parts.admit_write()?;
        self.report(&read(token)?, &said).await.map(|_| ())
    }

    /// Brings a report to its activity, until it is taken or known to be too late.
    async fn report(&self, token: &TaskToken, said: &Said) -> Result<Told, ApiError> {
        loop {
            self.readiness()?;
            let Some(desk) = self.desk(&token.key, token.scheduled_event_id).await? else {
                self.readiness()?;
                return self.judge(token, said).await;
            };
            let (reply, answered) = oneshot::channel();
            let (attempt, lease_id) = (token.attempt, token.lease_id);
            let report = Report { attempt, lease_id, what: said.clone() };
            desk.ask(Request::Report(report, reply));
            match answered.await {
                Ok(Reply::Alive(wishes)) => return Ok(Told::Alive(wishes)),
                Ok(Reply::Recorded) => return Ok(Told::Recorded),
                Ok(Reply::NotAsked) => {
                    let message = "nobody has asked the activity to stop".to_owned();
                    return Err(ApiError::CancelNotRequested(message));
                }
                Ok(Reply::Over) => {
                    return Err(ApiError::AttemptOver(format!("attempt {attempt} of the activity is over")));
                }
                Ok(Reply::Ends) => match self.end_of_activity(&desk).await? {
                    End::Recorded => return Ok(Told::Recorded),
                    End::Gone => return Err(run_closed()),
                },
                // Nobody took it: the activity ends otherwise, or is about to be asked again.
                Err(_) if desk.is_closed() => {
                    self.end_of_activity(&desk).await?;
                }
                Err(_) => {}
            }
        }
    }

    /// The desk of an open activity; none if it is not open. A run that was not read yet is.
    pub(super) async fn desk(&self, key: &RunKey, id: EventId) -> Result<Option<Arc<Desk>>, ApiError> {
        if let Some(desk) = self.parts.dispatcher.desk(key, id) {
            return Ok(Some(desk));
        }
        let (reply, loaded) = oneshot::channel();
        self.parts.send(key, Message::Load { reply });
        match loaded.await {
            Ok(true) => Ok(self.parts.dispatcher.desk(key, id)),
            Ok(false) => Err(ApiError::Busy("the store does not answer".to_owned())),
            Err(_) => Err(ApiError::Busy("the host is stopping".to_owned())),
        }
    }

    /// Waits for an activity whose end is on its way to the disk.
    pub(super) async fn end_of_activity(&self, desk: &Desk) -> Result<End, ApiError> {
        tokio::select! {
            biased;
            end = desk.ended() => Ok(end),
            () = self.parts.stopping.cancelled() => Err(ApiError::Busy("the host is stopping".to_owned())),
        }
    }

    /// Judges a report about an activity that is not open.
    async fn judge(&self, token: &TaskToken, said: &Said) -> Result<Told, ApiError> {
        let row = self.parts.store.run(&token.key).await.map_err(|error| internal(&error))?;
        let row = row.ok_or_else(no_such_token)?;
        match self.closing_of(&token.key, token.scheduled_event_id).await? {
            Some(input) if says_the_same(&input, token.attempt, said) => Ok(Told::Recorded),
            Some(_) => Err(ApiError::AttemptOver("the activity is closed".to_owned())),
            None if row.status != RunStatus::Running => Err(run_closed()),
            None => Err(no_such_token()),
        }
    }

    /// The input that closed an activity, in the history of its run or in the inbox.
    async fn closing_of(&self, key: &RunKey, id: EventId) -> Result<Option<Input>, ApiError> {
        let store = &self.parts.store;
        let closes = |input: &Input| load::closes_activity(input) == Some(id);
        let mut after = id;
        loop {
            let page = store.history(key, after, PAGE).await.map_err(|error| internal(&error))?;
            let Some(last) = page.last() else { break };
            after = last.id;
            let inputs = page.into_iter().filter_map(|event| match event.kind {
                EventKind::Input(input) => Some(input),
                EventKind::Command(_) | EventKind::Note(_) => None,
            });
            if let Some(input) = inputs.into_iter().find(|input| closes(input)) {
                return Ok(Some(input));
            }
        }
        let inbox = store.inbox(key).await.map_err(|error| internal(&error))?;
        Ok(inbox.inputs.into_iter().map(|(_, waiting)| waiting.input).find(|input| closes(input)))
    }
}

/// What came of a report.
enum Told {
    Alive(Wishes),
    Recorded,
}

fn read(token: &str) -> Result<TaskToken, ApiError> {
    TaskToken::decode(token).ok_or_else(no_such_token)
}

fn no_such_token() -> ApiError {
    ApiError::NotFound("there is no such token".to_owned())
}

fn run_closed() -> ApiError {
    ApiError::AttemptOver("the run has closed".to_owned())
}

/// Whether a report says of an attempt what the activity's end says.
fn says_the_same(input: &Input, reported: u32, said: &Said) -> bool {
    match said {
        Said::Completed(result) => {
            matches!(input, Input::ActivityCompleted(closed) if closed.attempt == reported && closed.result == *result)
        }
        Said::Failed(failure) => matches!(
            input,
            // Of one that ran out of time it is the cause: the retry that it asked for would have come too late.
            Input::ActivityFailed(closed) | Input::ActivityTimedOut(closed)
                if closed.attempt == reported && closed.failure.chain().any(|cause| cause == failure)
        ),
        Said::Canceled(failure) => matches!(
            input,
            Input::ActivityCanceled(closed)
                if closed.attempt == reported && closed.failure.cause.as_deref() == Some(failure)
        ),
        Said::Alive(_) => false,
    }
}

fn check(request: &PollRequest) -> Result<(), ApiError> {
    let names = [("the task queue", &request.task_queue), ("identity", &request.identity)];
    let types = request.activity_types.iter().map(|name| ("an activity type", name));
    for (what, name) in names.into_iter().chain(types) {
        if name.is_empty() || name.len() > LONGEST_ID {
            return Err(ApiError::InvalidInput(format!("{what} must have 1 to {LONGEST_ID} bytes")));
        }
    }
    if request.activity_types.len() > MOST_TYPES {
        return Err(ApiError::InvalidInput(format!("a poll names at most {MOST_TYPES} activity types")));
    }
    Ok(())
}
