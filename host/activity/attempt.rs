//! One attempt: a slot, a context, the activity's own code, and whatever ends it first.
//!
//! ```text
//!  scheduled_at          run()            a slot is free           ends
//!      │                   │                    │                   │
//!      │                   ├─ schedule-to-start ┤                   │   first attempt: from scheduled_at
//!      │                                        ├── start-to-close ─┤
//!      │                                        ├─ heartbeat ─┤ …   │   from the last heartbeat
//!      ├──────────────────── schedule-to-close ─────────────────────┤
//! ```

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use everfold_core::command::ActivityScheduled;
use everfold_core::failure::{CanceledFailure, Failure, FailureKind, TimeoutType};
use everfold_core::ids::Timestamp;
use everfold_core::payload::Payload;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::deadline::{Deadline, Pulse, passed, silent};
use super::registry::ErasedActivity;
use super::{ActivityContext, ActivityInfo, AttemptOutcome, AttemptTask, Heartbeats, Registry, failure_type};
use crate::clock::Clock;
use crate::telemetry::{AttemptRecord, Telemetry};

/// What a native attempt waits for before it starts.
const SLOT: &str = "slot";

/// What attempts may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptSettings {
    /// Attempts that run at once; further ones wait.
    pub max_concurrent: usize,
    /// Bytes of one result.
    pub max_result_bytes: usize,
}

impl Default for AttemptSettings {
    /// 1,000 at once; results of 2 MiB (DESIGN.md section 6).
    fn default() -> Self {
        Self { max_concurrent: 1_000, max_result_bytes: 2 * 1024 * 1024 }
    }
}

/// Makes attempts.
#[derive(Debug)]
pub struct Attempts {
    registry: Registry,
    clock: Clock,
    settings: AttemptSettings,
    slots: Semaphore,
    telemetry: Telemetry,
}

impl Attempts {
    /// Attempts at what is registered.
    #[must_use]
    pub fn new(registry: Registry, clock: Clock, settings: AttemptSettings) -> Self {
        let slots = Semaphore::new(settings.max_concurrent.clamp(1, Semaphore::MAX_PERMITS));
        let telemetry = Telemetry::new(clock.clone());
        Self { registry, clock, settings, slots, telemetry }
    }

    /// Tells of attempts through the host's own telemetry.
    #[must_use]
    pub fn with_telemetry(self, telemetry: Telemetry) -> Self {
        telemetry.know_activities(self.registry.types());
        Self { telemetry, ..self }
    }

    /// The activities that can be attempted.
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The heartbeats of an attempt to come; `details` is what the attempt before left.
    #[must_use]
    pub fn heartbeats(&self, details: Option<Payload>) -> Heartbeats {
        Heartbeats::new(self.clock.clone(), details)
    }

    /// Makes one attempt. It waits for a slot first; `cancellation` asks the activity to stop, and
    /// `heartbeats` are those that it sends.
    ///
    /// Dropping the future drops the activity's with it.
    pub async fn run(
        &self,
        task: AttemptTask,
        cancellation: CancellationToken,
        heartbeats: Heartbeats,
    ) -> AttemptOutcome {
        // A later attempt becomes due when it is handed over, not when the activity was scheduled.
        let due_at = if task.attempt <= 1 { task.scheduled_at } else { self.clock.now() };
        let record = self.telemetry.attempt_due(&task, due_at);
        let outcome = self.run_recorded(task, due_at, cancellation, heartbeats, &record).await;
        record.end(&outcome);
        outcome
    }

    /// Whether an activity is native code of this host.
    #[must_use]
    pub fn serves(&self, scheduled: &ActivityScheduled) -> bool {
        self.registry.serves(scheduled)
    }

    async fn run_recorded(
        &self,
        task: AttemptTask,
        due_at: Timestamp,
        cancellation: CancellationToken,
        heartbeats: Heartbeats,
        record: &AttemptRecord,
    ) -> AttemptOutcome {
        let Some(activity) = self.registry.get(&task.scheduled.activity_type) else {
            return AttemptOutcome::Failed(self.not_registered(&task));
        };
        let timeouts = &task.scheduled.timeouts;
        let schedule_to_close =
            Deadline::new(TimeoutType::ScheduleToClose, task.scheduled_at, timeouts.schedule_to_close_ms);
        let now = self.clock.now();
        let schedule_to_start =
            Deadline::new(TimeoutType::ScheduleToStart, due_at, timeouts.schedule_to_start_ms);

        let start_by = Deadline::first(schedule_to_close, schedule_to_start);
        let _slot = match self.slot(start_by, now, &cancellation).await {
            Slot::Taken(slot) => slot,
            Slot::Late(deadline) => {
                return AttemptOutcome::Failed(deadline.failure(SLOT, heartbeats.last().details));
            }
            Slot::Canceled => return AttemptOutcome::Canceled(canceled_before_start(&task)),
        };

        record.begin();
        let started_at = self.clock.now();
        let start_to_close = Deadline::new(TimeoutType::StartToClose, started_at, timeouts.start_to_close_ms);
        let deadline = Deadline::first(schedule_to_close, start_to_close);
        let pulse = Pulse { heartbeats, from: started_at, allowed_ms: timeouts.heartbeat_ms };
        self.run_until(activity, task, deadline, &cancellation, pulse, record).await
    }

    async fn slot(
        &self,
        start_by: Option<Deadline>,
        now: Timestamp,
        cancellation: &CancellationToken,
    ) -> Slot<'_> {
        if cancellation.is_cancelled() {
            return Slot::Canceled;
        }
        if let Some(deadline) = start_by
            && deadline.at <= now
        {
            return Slot::Late(deadline);
        }
        if let Ok(slot) = self.slots.try_acquire() {
            return Slot::Taken(slot);
        }
        tokio::select! {
            biased;
            () = cancellation.cancelled() => Slot::Canceled,
            deadline = passed(&self.clock, start_by) => Slot::Late(deadline),
            slot = self.slots.acquire() => match slot {
                Ok(slot) => Slot::Taken(slot),
                Err(_) => unreachable!("the semaphore is never closed"),
            },
        }
    }

    async fn run_until(
        &self,
        activity: &Arc<dyn ErasedActivity>,
        task: AttemptTask,
        deadline: Option<Deadline>,
        cancellation: &CancellationToken,
        pulse: Pulse,
        record: &AttemptRecord,
    ) -> AttemptOutcome {
        // A child: running out of time stops this attempt and says nothing to the next.
        let stop = cancellation.child_token();
        // An attempt that is given up, or whose end is reported from outside, is dropped.
        let dropped = stop.clone().drop_guard();
        let context = ActivityContext::new(
            info(&task, deadline),
            stop.clone(),
            pulse.heartbeats.clone(),
            record.clone(),
        )
        .at_desk(Arc::clone(&task.desk));
        let mut running: BoxFuture<'_, _> =
            Box::pin(record.clone().scope(activity.run(&context, &task.scheduled.input)));
        let ended = tokio::select! {
            biased;
            ended = AssertUnwindSafe(&mut running).catch_unwind() => Ok(ended),
            // Polled, and the timer made, only if the activity did not end at once.
            deadline = passed(&self.clock, deadline) => Err(deadline),
            deadline = silent(&self.clock, &pulse) => Err(deadline),
        };
        dropped.disarm();
        match ended {
            Ok(Ok(Ok(result))) => self.completed(result),
            Ok(Ok(Err(failure))) => match failure.kind {
                FailureKind::Canceled(_) if cancellation.is_cancelled() => AttemptOutcome::Canceled(failure),
                FailureKind::Application(application)
                    if application.failure_type == failure_type::COMPLETES_LATER
                        && task.desk.completes_later() =>
                {
                    AttemptOutcome::CompletesLater { since: pulse.from }
                }
                FailureKind::Canceled(_)
                | FailureKind::Application(_)
                | FailureKind::TimedOut(_)
                | FailureKind::Terminated
                | FailureKind::Activity(_)
                | FailureKind::ChildWorkflow(_)
                | FailureKind::Other(_) => AttemptOutcome::Failed(failure),
            },
            Ok(Err(panic)) => AttemptOutcome::Failed(panicked(panic.as_ref())),
            Err(deadline) => {
                stop.cancel();
                drop_quietly(running);
                drop(context);
                AttemptOutcome::Failed(deadline.failure(SLOT, pulse.heartbeats.last().details))
            }
        }
    }

    fn completed(&self, result: Payload) -> AttemptOutcome {
        let (size, limit) = (result.size(), self.settings.max_result_bytes);
        if size <= limit {
            return AttemptOutcome::Completed(result);
        }
        AttemptOutcome::Failed(Failure::non_retryable(
            failure_type::RESULT_TOO_LARGE,
            format!("the result has {size} bytes; at most {limit} are allowed"),
        ))
    }

    fn not_registered(&self, task: &AttemptTask) -> Failure {
        let known: Vec<_> = self.registry.types().collect();
        let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
        Failure::application(
            failure_type::NOT_REGISTERED,
            format!("no activity `{}` is registered here; registered: {known}", task.scheduled.activity_type),
        )
    }
}

/// What came of the wait for a slot.
enum Slot<'a> {
    Taken(SemaphorePermit<'a>),
    Late(Deadline),
    Canceled,
}

fn info(task: &AttemptTask, deadline: Option<Deadline>) -> ActivityInfo {
    ActivityInfo {
        namespace: task.key.namespace.clone(),
        workflow_id: task.names.workflow_id.clone(),
        run_id: task.key.run_id,
        workflow_type: task.names.workflow_type.clone(),
        activity_type: task.scheduled.activity_type.clone(),
        scheduled_event_id: task.scheduled_event_id,
        attempt: task.attempt,
        idempotency_key: task.scheduled.idempotency_key.clone(),
        deadline: deadline.map(|deadline| deadline.at),
        headers: task.scheduled.headers.clone(),
    }
}

fn canceled_before_start(task: &AttemptTask) -> Failure {
    let message = format!("activity {} was canceled before it started", task.scheduled.activity_type);
    Failure::new(message, FailureKind::Canceled(CanceledFailure::default()))
}

fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("the panic has no message");
    Failure::application(failure_type::PANICKED, message)
}

/// Drops an activity that ran out of time; its destructors are its own code and may panic too.
fn drop_quietly(running: BoxFuture<'_, Result<Payload, Failure>>) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(running))) {
        let message = panicked(panic.as_ref()).message;
        tracing::warn!(message, "an activity panicked while it was dropped");
    }
}

#[cfg(test)]
mod tests;
