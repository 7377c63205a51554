//! One open activity on its way from attempt to attempt: it alone writes the activity's row.
//!
//! ```text
//!             ┌──────────────── a failure that is retried ◀──────────────┐
//!             ▼                                                          │
//!  Lost ─▶ Waiting ──── its time ────▶ Due ─┬─ native attempt ───────────┼─▶ Over
//!           │    ▲                          │     │ completes later      │
//!           └────┘ pause, resume, reset     └─ task queue ─ lease ─▶ Held ──▶ Over
//! ```

use std::sync::Arc;
use std::time::Duration;

use everfold_core::decision::{Lease, Paused, PendingActivity, Reset};
use everfold_core::event::{ActivityClosedBadly, ActivityCompleted, Input};
use everfold_core::failure::{
    ActivityFailure, CanceledFailure, Failure, FailureKind, RetryState, TimeoutType,
};
use everfold_core::ids::{EventId, RunKey, Timestamp};
use everfold_core::payload::Payload;
use everfold_core::retry::{self, AfterFailure};
use tokio::sync::{oneshot, watch};

use super::lost;
use crate::activity::deadline::{Deadline, passed};
use crate::activity::desk::{Desk, Reply};
use crate::activity::{AttemptOutcome, AttemptTask, Heartbeat, Heartbeats};
use crate::runner::Parts;
use crate::runner::run::Message;

/// The longest pause between two heartbeats that are written down.
const LONGEST_HEARTBEAT_PAUSE: Duration = Duration::from_secs(30);

/// Where an activity stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// An earlier process had an attempt under way; what came of it is not known.
    Lost,
    /// Its next attempt is not due yet, or it is paused.
    Waiting,
    /// An attempt is to begin.
    Due,
    /// An attempt is under way outside the host.
    Held,
    /// Nothing more happens here.
    Over,
}

/// What ended, or interrupted, an attempt under way.
pub(super) enum Ended {
    /// It itself.
    Itself(AttemptOutcome),
    /// A report from outside.
    Reported(AttemptOutcome, oneshot::Sender<Reply>),
    /// A time-out of an attempt outside the host.
    Late(Deadline),
    /// Its time-outs are others now: it goes on.
    Again,
    /// The host stops.
    Stopped,
    /// The run has no use for it any more.
    Gone,
}

/// One activity on its way.
pub(super) struct Driver {
    pub(super) parts: Arc<Parts>,
    pub(super) task: AttemptTask,
    /// When this process began with it.
    pub(super) known_at: Timestamp,
    /// When the attempt begins, or began.
    pub(super) attempt_at: Timestamp,
    pub(super) last_failure: Option<(Failure, Timestamp)>,
    pub(super) last_heartbeat_at: Option<Timestamp>,
    pub(super) lease: Option<Lease>,
    pub(super) paused: Option<Paused>,
    pub(super) reset: Option<Reset>,
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.task.desk.close();
    }
}

impl Driver {
    /// An activity whose first attempt is to begin.
    pub(super) fn scheduled(parts: &Arc<Parts>, task: AttemptTask) -> Self {
        Self {
            parts: Arc::clone(parts),
            known_at: task.scheduled_at,
            attempt_at: task.scheduled_at,
            task,
            last_failure: None,
            last_heartbeat_at: None,
            lease: None,
            paused: None,
            reset: None,
        }
    }

    /// An activity as an earlier process left it, with its row, if there is one.
    pub(super) fn resumed(
        parts: &Arc<Parts>,
        mut task: AttemptTask,
        row: Option<PendingActivity>,
        now: Timestamp,
    ) -> Self {
        let Some(row) = row else {
            // A clock that was put back keeps nothing waiting.
            let mut driver = Self::scheduled(parts, task);
            driver.attempt_at = driver.attempt_at.min(now);
            return driver;
        };
        task.attempt = row.attempt;
        task.heartbeat_details = row.heartbeat_details;
        task.scheduled_at = row.reset.map_or(task.scheduled_at, |reset| reset.at);
        task.desk.set_paused(row.paused.is_some());
        Self {
            parts: Arc::clone(parts),
            task,
            known_at: now,
            attempt_at: row.next_attempt_at,
            last_failure: row.last_failure.zip(row.last_failure_at),
            last_heartbeat_at: row.last_heartbeat_at,
            lease: row.lease,
            paused: row.paused,
            reset: row.reset,
        }
    }

    /// Where it is known.
    pub(super) fn place(&self) -> (RunKey, EventId, Arc<Desk>) {
        (self.task.key.clone(), self.task.scheduled_event_id, Arc::clone(&self.task.desk))
    }

    /// Whether an attempt is under way outside the host.
    pub(super) const fn is_held(&self) -> bool {
        self.lease.is_some()
    }

    /// Whether an attempt may have begun that was under way when its process ended.
    pub(super) fn may_have_begun(&self, now: Timestamp) -> bool {
        self.attempt_at <= now && self.paused.is_none_or(|paused| paused.attempt_under_way)
    }

    pub(super) async fn drive(mut self, mut stage: Stage) {
        // The stages that are rare, or wait anyway, have memory of their own.
        loop {
            stage = match stage {
                Stage::Lost => Box::pin(self.go_on_behind_loss()).await,
                Stage::Waiting => Box::pin(self.wait()).await,
                Stage::Due if self.parts.attempts.serves(&self.task.scheduled) => self.native().await,
                Stage::Due => Box::pin(self.queue()).await,
                Stage::Held => Box::pin(self.hold()).await,
                Stage::Over => return,
            };
        }
    }

    /// The attempt counts, and its outcome is unknown. Where one after another is lost, the pauses grow, so that
    /// a host that dies over and over does not use all of them up.
    async fn go_on_behind_loss(&mut self) -> Stage {
        let attempt = self.task.attempt;
        let failure = lost(attempt);
        self.parts.telemetry.attempt_lost(&self.task, attempt, &failure);
        let is_reset = self.take_reset();
        let policy = &self.task.scheduled.retry_policy;
        if policy.is_last(attempt) && !is_reset {
            let is_canceled = self.task.desk.cancellation().is_cancelled();
            let state =
                if is_canceled { RetryState::CancelRequested } else { RetryState::MaximumAttemptsReached };
            self.close_badly(attempt, state, failure);
            return Stage::Over;
        }
        let pause_ms = if attempt > 1 && !is_reset { policy.delay_ms(attempt - 1) } else { 0 };
        let next = if is_reset { 1 } else { attempt + 1 };
        self.next_attempt(next, self.parts.clock.now().plus_ms(pause_ms), failure).await
    }

    /// Waits for the next attempt's time, or for the end of a pause.
    async fn wait(&mut self) -> Stage {
        let (parts, desk) = (Arc::clone(&self.parts), Arc::clone(&self.task.desk));
        loop {
            let is_paused = self.paused.is_some();
            let deadline = if is_paused { self.schedule_to_close() } else { None };
            let due_at = if is_paused { None } else { Some(self.attempt_at) };
            tokio::select! {
                biased;
                () = parts.dispatcher.draining.cancelled() => return Stage::Over,
                request = desk.next() => {
                    let Some(request) = request else { return Stage::Over };
                    if !self.between_attempts(request).await {
                        return Stage::Over;
                    }
                }
                () = desk.cancellation().cancelled() => {
                    let kind = FailureKind::Canceled(CanceledFailure::default());
                    self.close_canceled(Failure::new("canceled while waiting for the next attempt", kind));
                    return Stage::Over;
                }
                deadline = passed(&parts.clock, deadline) => return self.late("", deadline).await,
                () = reached(&parts, due_at) => return Stage::Due,
            }
        }
    }

    /// Makes an attempt of this host's own.
    async fn native(&mut self) -> Stage {
        let (parts, task) = (Arc::clone(&self.parts), self.task.clone());
        let cancellation = task.desk.cancellation().clone();
        task.desk.begin_attempt();
        let heartbeats = parts.attempts.heartbeats(self.task.heartbeat_details.clone());
        // Watched from before the attempt begins: its first act may be a heartbeat.
        let mut news = heartbeats.watch();
        let ended = tokio::select! {
            biased;
            outcome = parts.attempts.run(task, cancellation, heartbeats.clone()) => Ended::Itself(outcome),
            // Few attempts take so long that something reaches them.
            ended = async { Box::pin(self.serve(&mut news, &heartbeats)).await } => ended,
            () = parts.dispatcher.interrupted.cancelled() => Ended::Stopped,
        };
        self.task.heartbeat_details = heartbeats.last().details;
        match ended {
            Ended::Itself(AttemptOutcome::Completed(result)) => self.close_completed(result),
            Ended::Itself(AttemptOutcome::Canceled(failure)) => self.close_canceled(failure),
            Ended::Itself(AttemptOutcome::Failed(failure)) => return self.after(failure).await,
            Ended::Itself(AttemptOutcome::CompletesLater { since }) => return self.hand_over(since).await,
            Ended::Reported(outcome, reply) => return self.conclude(outcome, reply).await,
            Ended::Stopped => {
                let failure = Failure::application("HostStopped", "the host stopped during the attempt");
                let next = if self.take_reset() { 1 } else { self.task.attempt + 1 };
                self.next_attempt(next, self.parts.clock.now(), failure).await;
            }
            Ended::Late(_) | Ended::Again | Ended::Gone => {}
        }
        Stage::Over
    }

    /// Answers requests while an attempt is under way, and writes heartbeats down as they come: the first at once,
    /// further ones not more often than they must, because whoever restarts after a crash goes on from the last one
    /// written. Returns when something of that ends the attempt, or changes its time-outs.
    pub(super) async fn serve(
        &mut self,
        news: &mut watch::Receiver<Heartbeat>,
        heartbeats: &Heartbeats,
    ) -> Ended {
        let (parts, desk) = (Arc::clone(&self.parts), Arc::clone(&self.task.desk));
        let is_native = !self.is_held();
        if is_native {
            self.attempt_at = parts.clock.now();
        }
        let mut quiet_until = None;
        loop {
            tokio::select! {
                biased;
                request = desk.next() => match request {
                    // Native code hears of it by its cancellation, and ends when it wants.
                    None if is_native => return std::future::pending().await,
                    None => return Ended::Gone,
                    Some(request) => {
                        if let Some(ended) = self.during_attempt(request, heartbeats).await {
                            return ended;
                        }
                    }
                },
                Ok(()) = news.changed(), if quiet_until.is_none() => {
                    let heartbeat = news.borrow_and_update().clone();
                    if !self.write_down(heartbeat).await {
                        return Ended::Gone;
                    }
                    quiet_until = Some(parts.clock.now().plus_ms(self.heartbeat_pause_ms()));
                }
                () = reached(&parts, quiet_until) => quiet_until = None,
            }
        }
    }

    /// Writes a heartbeat into the row. False when the run is gone.
    pub(super) async fn write_down(&mut self, heartbeat: Heartbeat) -> bool {
        self.task.heartbeat_details = heartbeat.details;
        self.last_heartbeat_at = heartbeat.at;
        self.put().await
    }

    /// 80 % of the heartbeat time-out, at most 30 s, as Temporal's SDKs have it.
    fn heartbeat_pause_ms(&self) -> u64 {
        let longest = LONGEST_HEARTBEAT_PAUSE.as_secs() * 1_000;
        self.task.scheduled.timeouts.heartbeat_ms.map_or(longest, |ms| (ms / 5 * 4).min(longest))
    }

    /// Decides what follows a failed attempt.
    pub(super) async fn after(&mut self, failure: Failure) -> Stage {
        let attempt = self.task.attempt;
        if self.task.desk.cancellation().is_cancelled() {
            self.close_badly(attempt, RetryState::CancelRequested, failure);
            return Stage::Over;
        }
        let now = self.parts.clock.now();
        if self.take_reset() && !is_final(&failure, &self.task) {
            return self.next_attempt(1, now, failure).await;
        }
        let scheduled = &self.task.scheduled;
        let after = retry::after_failure(
            &scheduled.retry_policy,
            &scheduled.timeouts,
            self.task.scheduled_at,
            attempt,
            failure.clone(),
            now,
        );
        match after {
            AfterFailure::Close { state, failure } => {
                let failure = self.with_cause(failure);
                self.close_badly(attempt, state, failure);
                Stage::Over
            }
            // The next attempt may begin only when its number is on disk.
            AfterFailure::RetryAt(at) => self.next_attempt(attempt + 1, at, failure).await,
        }
    }

    /// The failure of an activity that ran out of time, with that of its last attempt behind it.
    fn with_cause(&self, failure: Failure) -> Failure {
        let FailureKind::TimedOut(timeout) = &failure.kind else { return failure };
        let is_own = matches!(timeout.timeout_type, TimeoutType::StartToClose | TimeoutType::Heartbeat);
        match &self.last_failure {
            Some((last, _)) if !is_own && failure.cause.is_none() => failure.caused_by(last.clone()),
            Some(_) | None => failure,
        }
    }

    /// A time-out passed. `wanted` is what was waited for.
    pub(super) async fn late(&mut self, wanted: &str, deadline: Deadline) -> Stage {
        self.after(deadline.failure(wanted, self.task.heartbeat_details.clone())).await
    }

    /// Writes down that an attempt failed and when the next one is due.
    async fn next_attempt(&mut self, number: u32, at: Timestamp, failure: Failure) -> Stage {
        self.last_failure = Some((failure, self.parts.clock.now()));
        self.task.attempt = number;
        self.attempt_at = at;
        self.lease = None;
        self.last_heartbeat_at = None;
        if let Some(paused) = &mut self.paused {
            paused.attempt_under_way = false;
        }
        if self.put().await { Stage::Waiting } else { Stage::Over }
    }

    /// Whether a reset waits for the end of the attempt; it waits no longer.
    fn take_reset(&mut self) -> bool {
        self.reset.as_mut().is_some_and(|reset| std::mem::take(&mut reset.is_due))
    }

    pub(super) fn schedule_to_close(&self) -> Option<Deadline> {
        let allowed_ms = self.task.scheduled.timeouts.schedule_to_close_ms;
        Deadline::new(TimeoutType::ScheduleToClose, self.task.scheduled_at, allowed_ms)
    }

    /// Writes the row down. False when the run is gone.
    pub(super) async fn put(&self) -> bool {
        let (last_failure, last_failure_at) = self.last_failure.clone().unzip();
        let pending = PendingActivity {
            scheduled_event_id: self.task.scheduled_event_id,
            activity_type: self.task.scheduled.activity_type.clone(),
            attempt: self.task.attempt,
            next_attempt_at: self.attempt_at,
            last_failure,
            last_failure_at,
            heartbeat_details: self.task.heartbeat_details.clone(),
            last_heartbeat_at: self.last_heartbeat_at,
            lease: self.lease.clone(),
            paused: self.paused,
            reset: self.reset,
        };
        let (reply, recorded) = oneshot::channel();
        self.parts.send(&self.task.key, Message::Attempt { pending: Box::new(pending), reply });
        recorded.await.unwrap_or(false)
    }

    pub(super) fn close_completed(&self, result: Payload) {
        let (scheduled_event_id, attempt) = (self.task.scheduled_event_id, self.task.attempt);
        self.send(Input::ActivityCompleted(ActivityCompleted { scheduled_event_id, attempt, result }));
    }

    fn close_badly(&self, attempt: u32, state: RetryState, failure: Failure) {
        let is_timeout = matches!(failure.kind, FailureKind::TimedOut(_));
        let closed = self.closing(attempt, state, failure);
        self.send(if is_timeout { Input::ActivityTimedOut(closed) } else { Input::ActivityFailed(closed) });
    }

    pub(super) fn close_canceled(&self, failure: Failure) {
        let closed = self.closing(self.task.attempt, RetryState::CancelRequested, failure);
        self.send(Input::ActivityCanceled(closed));
    }

    fn closing(&self, attempt: u32, retry_state: RetryState, failure: Failure) -> ActivityClosedBadly {
        let scheduled_event_id = self.task.scheduled_event_id;
        let activity_type = self.task.scheduled.activity_type.clone();
        let message = format!("activity {activity_type} failed");
        let kind = FailureKind::Activity(ActivityFailure {
            scheduled_event_id,
            activity_type,
            attempt,
            retry_state,
        });
        let failure = Failure::new(message, kind).caused_by(failure);
        ActivityClosedBadly { scheduled_event_id, attempt, failure }
    }

    fn send(&self, input: Input) {
        self.parts.telemetry.activity_ends(&self.task, &input);
        self.parts.send(&self.task.key, Message::Input(input));
    }
}

/// Whether no policy would try it again, whatever the number of the attempt.
fn is_final(failure: &Failure, task: &AttemptTask) -> bool {
    match &failure.kind {
        FailureKind::Application(application) => {
            let types = &task.scheduled.retry_policy.non_retryable_types;
            application.non_retryable || types.contains(&application.failure_type)
        }
        FailureKind::TimedOut(_)
        | FailureKind::Canceled(_)
        | FailureKind::Terminated
        | FailureKind::Activity(_)
        | FailureKind::ChildWorkflow(_)
        | FailureKind::Other(_) => false,
    }
}

/// Waits until a time, if there is one.
async fn reached(parts: &Parts, at: Option<Timestamp>) {
    match at {
        Some(at) => parts.clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}
