//! Activities that this host has under way: dispatched after the commit that scheduled them, tried
//! again by the core's formula, cancelled when their run asks or closes.
//!
//! An activity stays known here until the event that closes it is committed. That is how a run that
//! is loaded again tells an activity that is under way from one that an earlier process left behind.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use everfold_core::decision::PendingActivity;
use everfold_core::event::{ActivityClosedBadly, ActivityCompleted, Input};
use everfold_core::failure::{
    ActivityFailure, CanceledFailure, Failure, FailureKind, RetryState, TimeoutType,
};
use everfold_core::ids::{EventId, RunKey, Timestamp};
use everfold_core::retry::{self, AfterFailure};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Parts;
use super::run::Message;
use crate::activity::{AttemptOutcome, AttemptTask, Heartbeat};

/// The longest pause between two heartbeats that are written down, in milliseconds.
const LONGEST_HEARTBEAT_PAUSE_MS: u64 = 30_000;

/// The activities under way, by run.
#[derive(Debug, Default)]
pub(super) struct Dispatcher {
    open: Mutex<HashMap<RunKey, BTreeMap<EventId, CancellationToken>>>,
    /// How many there are in `open`.
    count: AtomicUsize,
    tasks: TaskTracker,
    /// Set when the host drains: attempts that have not begun do not begin.
    draining: CancellationToken,
    /// Set when one of these would have counted an attempt that an earlier process lost.
    left_lost: AtomicBool,
    /// Set when the drain's grace is over: attempts under way are given up.
    interrupted: CancellationToken,
}

/// Why an attempt may be the wrong number to begin with: what an earlier process left.
#[derive(Clone, Debug)]
pub(super) struct Left {
    /// The row of attempts, if one was written.
    pub(super) row: Option<PendingActivity>,
    /// Whether the process before this one may have had an attempt under way.
    pub(super) may_have_run: bool,
    /// Whether the run has asked the activity to stop.
    pub(super) cancel_requested: bool,
}

/// With what the driver of an activity begins.
#[derive(Debug, Default)]
struct Begin {
    /// When the first attempt here may begin; at once if absent.
    not_before: Option<Timestamp>,
    /// The failure of an attempt that an earlier process lost.
    lost: Option<Failure>,
    /// How the attempt before failed, and when.
    last_failure: Option<(Failure, Timestamp)>,
    /// Asks it to stop.
    cancellation: CancellationToken,
}

impl Dispatcher {
    /// Whether the activity is under way in this process.
    pub(super) fn is_known(&self, key: &RunKey, id: EventId) -> bool {
        self.open.lock().get(key).is_some_and(|activities| activities.contains_key(&id))
    }

    /// How many activities of all runs are under way: scheduled, and not closed.
    pub(super) fn under_way(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether an attempt that an earlier process lost was not counted, because the host drains.
    pub(super) fn has_left_lost_ones(&self) -> bool {
        self.left_lost.load(Ordering::SeqCst)
    }

    /// Begins the first attempt of an activity that was scheduled just now.
    pub(super) fn dispatch(parts: &Arc<Parts>, task: AttemptTask) {
        Self::spawn(parts, task, Begin::default());
    }

    /// Goes on with an activity that an earlier process left open.
    pub(super) fn resume(parts: &Arc<Parts>, mut task: AttemptTask, left: Left) {
        let now = parts.clock.now();
        let (next_attempt, next_at) =
            left.row.as_ref().map_or((1, now), |row| (row.attempt, row.next_attempt_at));
        let was_due = next_at <= now;
        let cancellation = CancellationToken::new();
        if left.cancel_requested {
            cancellation.cancel();
        }
        let last_failure =
            left.row.as_ref().and_then(|row| row.last_failure.clone().zip(row.last_failure_at));
        task.heartbeat_details = left.row.and_then(|row| row.heartbeat_details);
        if left.may_have_run && was_due {
            // The attempt may have begun: it counts, and its outcome is unknown. Where one after another
            // is lost, the pauses grow, so that a host that dies over and over does not use all of them up.
            let policy = &task.scheduled.retry_policy;
            let pause_ms = if next_attempt > 1 { policy.delay_ms(next_attempt - 1) } else { 0 };
            task.attempt = next_attempt + 1;
            let lost = Failure::timed_out(
                TimeoutType::StartToClose,
                format!("attempt {next_attempt} was lost when the host stopped"),
            );
            let not_before = Some(now.plus_ms(pause_ms));
            Self::spawn(parts, task, Begin { not_before, lost: Some(lost), last_failure, cancellation });
        } else {
            task.attempt = next_attempt;
            let not_before = Some(next_at);
            Self::spawn(parts, task, Begin { not_before, lost: None, last_failure, cancellation });
        }
    }

    fn spawn(parts: &Arc<Parts>, task: AttemptTask, begin: Begin) {
        let Begin { not_before, lost, last_failure, cancellation } = begin;
        let dispatcher = &parts.dispatcher;
        if dispatcher.draining.is_cancelled() {
            dispatcher.left_lost.fetch_or(lost.is_some(), Ordering::SeqCst);
            return;
        }
        let before = dispatcher
            .open
            .lock()
            .entry(task.key.clone())
            .or_default()
            .insert(task.scheduled_event_id, cancellation.clone());
        dispatcher.count.fetch_add(usize::from(before.is_none()), Ordering::Relaxed);
        let driver = Driver { parts: Arc::clone(parts), task, cancellation, last_failure };
        let mut driving = Box::pin(driver.drive(not_before, lost));
        // An activity that ends without waiting for anything needs no task: two changes of threads less.
        let _entered = parts.runtime.enter();
        if driving.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            dispatcher.tasks.spawn_on(driving, &parts.runtime);
        }
    }

    /// Asks an activity to stop.
    pub(super) fn cancel(&self, key: &RunKey, id: EventId) {
        if let Some(token) = self.open.lock().get(key).and_then(|activities| activities.get(&id)) {
            token.cancel();
        }
    }

    /// Forgets an activity whose end is committed.
    pub(super) fn closed(&self, key: &RunKey, id: EventId) {
        let mut open = self.open.lock();
        if let Some(activities) = open.get_mut(key) {
            let closed = activities.remove(&id);
            self.count.fetch_sub(usize::from(closed.is_some()), Ordering::Relaxed);
            if activities.is_empty() {
                open.remove(key);
            }
        }
    }

    /// Stops all activities of a run that has closed.
    pub(super) fn run_closed(&self, key: &RunKey) {
        let activities = self.open.lock().remove(key).unwrap_or_default();
        self.count.fetch_sub(activities.len(), Ordering::Relaxed);
        for token in activities.into_values() {
            token.cancel();
        }
    }

    /// Lets attempts under way end for up to `grace`, then gives them up.
    pub(super) async fn drain(&self, grace: Duration) {
        self.draining.cancel();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            self.interrupted.cancel();
            self.tasks.wait().await;
        }
    }
}

/// One activity on its way from attempt to attempt.
struct Driver {
    parts: Arc<Parts>,
    task: AttemptTask,
    cancellation: CancellationToken,
    last_failure: Option<(Failure, Timestamp)>,
}

impl Driver {
    async fn drive(mut self, mut not_before: Option<Timestamp>, lost: Option<Failure>) {
        if let Some(failure) = lost {
            let attempt = self.task.attempt - 1;
            self.parts.telemetry.attempt_lost(&self.task, attempt, &failure);
            if self.task.scheduled.retry_policy.is_last(attempt) {
                let is_canceled = self.cancellation.is_cancelled();
                let state = if is_canceled {
                    RetryState::CancelRequested
                } else {
                    RetryState::MaximumAttemptsReached
                };
                return self.close_badly(attempt, state, failure);
            }
            let due_at = not_before.unwrap_or_else(|| self.parts.clock.now());
            if !self.record(self.task.attempt, due_at, failure).await {
                return;
            }
        }
        loop {
            if let Some(at) = not_before.take()
                && !self.wait_until(at).await
            {
                return;
            }
            let attempt = self.task.attempt;
            let heartbeats = self.parts.attempts.heartbeats(self.task.heartbeat_details.clone());
            // Watched from before the attempt begins: its first act may be a heartbeat.
            let news = heartbeats.watch();
            let outcome = tokio::select! {
                biased;
                outcome = self.parts.attempts.run(self.task.clone(), self.cancellation.clone(), heartbeats.clone()) => outcome,
                () = self.write_down(news) => return,
                () = self.parts.dispatcher.interrupted.cancelled() => {
                    self.task.heartbeat_details = heartbeats.last().details;
                    let failure = Failure::application("HostStopped", "the host stopped during the attempt");
                    self.record(attempt + 1, self.parts.clock.now(), failure).await;
                    return;
                }
            };
            self.task.heartbeat_details = heartbeats.last().details;
            match outcome {
                AttemptOutcome::Completed(result) => {
                    let id = self.task.scheduled_event_id;
                    let completed = ActivityCompleted { scheduled_event_id: id, attempt, result };
                    return self.send(Input::ActivityCompleted(completed));
                }
                AttemptOutcome::Canceled(failure) => return self.close_canceled(failure),
                AttemptOutcome::Failed(failure) => match self.after(failure).await {
                    Some(at) => not_before = Some(at),
                    None => return,
                },
            }
        }
    }

    /// Decides what follows a failed attempt: the time of the next one, if there is one.
    async fn after(&mut self, failure: Failure) -> Option<Timestamp> {
        let attempt = self.task.attempt;
        if self.cancellation.is_cancelled() {
            self.close_badly(attempt, RetryState::CancelRequested, failure);
            return None;
        }
        let scheduled = &self.task.scheduled;
        let after = retry::after_failure(
            &scheduled.retry_policy,
            &scheduled.timeouts,
            self.task.scheduled_at,
            attempt,
            failure.clone(),
            self.parts.clock.now(),
        );
        match after {
            AfterFailure::Close { state, failure } => {
                self.close_badly(attempt, state, failure);
                None
            }
            AfterFailure::RetryAt(at) => {
                // The next attempt may begin only when its number is on disk.
                if !self.record(attempt + 1, at, failure).await {
                    return None;
                }
                self.task.attempt = attempt + 1;
                Some(at)
            }
        }
    }

    /// Waits for the next attempt's time. False when it will not be made.
    async fn wait_until(&self, at: Timestamp) -> bool {
        tokio::select! {
            biased;
            () = self.parts.dispatcher.draining.cancelled() => false,
            () = self.cancellation.cancelled() => {
                let kind = FailureKind::Canceled(CanceledFailure::default());
                self.close_canceled(Failure::new("canceled while waiting for the next attempt", kind));
                false
            }
            () = self.parts.clock.sleep_until(at) => true,
        }
    }

    /// Writes heartbeats down as they come, the first at once, further ones not more often than
    /// they must: whoever restarts after a crash goes on from the last one written. Returns when the
    /// run is gone.
    async fn write_down(&self, mut news: watch::Receiver<Heartbeat>) {
        let started_at = self.parts.clock.now();
        loop {
            if news.changed().await.is_err() {
                return std::future::pending().await;
            }
            let heartbeat = news.borrow_and_update().clone();
            let pending = PendingActivity {
                heartbeat_details: heartbeat.details,
                last_heartbeat_at: heartbeat.at,
                ..self.pending(self.task.attempt, started_at)
            };
            if !self.put(pending).await {
                return;
            }
            self.parts.clock.sleep_until(self.parts.clock.now().plus_ms(self.heartbeat_pause_ms())).await;
        }
    }

    /// 80 % of the heartbeat time-out, at most 30 s, as Temporal's SDKs have it.
    fn heartbeat_pause_ms(&self) -> u64 {
        let heartbeat_ms = self.task.scheduled.timeouts.heartbeat_ms;
        heartbeat_ms.map_or(LONGEST_HEARTBEAT_PAUSE_MS, |ms| (ms / 5 * 4).min(LONGEST_HEARTBEAT_PAUSE_MS))
    }

    /// Writes down that an attempt failed and when the next one is due. False when the run is gone.
    async fn record(&mut self, next_attempt: u32, next_attempt_at: Timestamp, failure: Failure) -> bool {
        let failed_at = self.parts.clock.now();
        self.last_failure = Some((failure, failed_at));
        self.put(self.pending(next_attempt, next_attempt_at)).await
    }

    /// The row of an attempt that is under way or to come.
    fn pending(&self, attempt: u32, next_attempt_at: Timestamp) -> PendingActivity {
        let (last_failure, last_failure_at) = self.last_failure.clone().unzip();
        PendingActivity {
            scheduled_event_id: self.task.scheduled_event_id,
            activity_type: self.task.scheduled.activity_type.clone(),
            attempt,
            next_attempt_at,
            last_failure,
            last_failure_at,
            heartbeat_details: self.task.heartbeat_details.clone(),
            last_heartbeat_at: None,
        }
    }

    /// Writes a row down. False when the run is gone.
    async fn put(&self, pending: PendingActivity) -> bool {
        let (reply, recorded) = oneshot::channel();
        self.parts.send(&self.task.key, Message::Attempt { pending: Box::new(pending), reply });
        recorded.await.unwrap_or(false)
    }

    fn close_badly(&self, attempt: u32, state: RetryState, failure: Failure) {
        let is_timeout = matches!(failure.kind, FailureKind::TimedOut(_));
        let closed = self.closing(attempt, state, failure);
        self.send(if is_timeout { Input::ActivityTimedOut(closed) } else { Input::ActivityFailed(closed) });
    }

    fn close_canceled(&self, failure: Failure) {
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
