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

use everfold_core::failure::{CanceledFailure, Failure, FailureKind, TimeoutFailure, TimeoutType};
use everfold_core::ids::Timestamp;
use everfold_core::payload::Payload;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::registry::ErasedActivity;
use super::{ActivityContext, ActivityInfo, AttemptOutcome, AttemptTask, Heartbeats, Registry, failure_type};
use crate::clock::Clock;
use crate::telemetry::{AttemptRecord, Telemetry};

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

/// A time-out that is to come.
#[derive(Clone, Copy, Debug)]
struct Deadline {
    at: Timestamp,
    timeout_type: TimeoutType,
    allowed_ms: u64,
}

impl Deadline {
    fn new(timeout_type: TimeoutType, from: Timestamp, allowed_ms: Option<u64>) -> Option<Self> {
        allowed_ms.map(|allowed_ms| Self { at: from.plus_ms(allowed_ms), timeout_type, allowed_ms })
    }

    /// Whichever passes first; of two at once the one that leaves no further attempt.
    fn first(schedule_to_close: Option<Self>, other: Option<Self>) -> Option<Self> {
        [schedule_to_close, other].into_iter().flatten().min_by_key(|deadline| deadline.at)
    }

    fn failure(&self, last_heartbeat_details: Option<Payload>) -> Failure {
        let allowed_ms = self.allowed_ms;
        let message = match self.timeout_type {
            TimeoutType::ScheduleToStart => format!("no slot was free within {allowed_ms} ms"),
            TimeoutType::StartToClose => format!("the attempt took longer than {allowed_ms} ms"),
            TimeoutType::ScheduleToClose => format!("all attempts together took longer than {allowed_ms} ms"),
            TimeoutType::Heartbeat => format!("there was no heartbeat for {allowed_ms} ms"),
        };
        let timeout = TimeoutFailure {
            timeout_type: self.timeout_type,
            last_heartbeat_details: last_heartbeat_details.into_iter().collect(),
        };
        Failure::new(message, FailureKind::TimedOut(timeout))
    }
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
                return AttemptOutcome::Failed(deadline.failure(heartbeats.last().details));
            }
            Slot::Canceled => return AttemptOutcome::Canceled(canceled_before_start(&task)),
        };

        record.begin();
        let started_at = self.clock.now();
        let start_to_close = Deadline::new(TimeoutType::StartToClose, started_at, timeouts.start_to_close_ms);
        let deadline = Deadline::first(schedule_to_close, start_to_close);
        let pulse = Pulse { heartbeats, started_at, allowed_ms: timeouts.heartbeat_ms };
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
            deadline = self.passed(start_by) => Slot::Late(deadline),
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
        let context = ActivityContext::new(
            info(&task, deadline),
            stop.clone(),
            pulse.heartbeats.clone(),
            record.clone(),
        );
        let mut running: BoxFuture<'_, _> =
            Box::pin(record.clone().scope(activity.run(&context, &task.scheduled.input)));
        let ended = tokio::select! {
            biased;
            ended = AssertUnwindSafe(&mut running).catch_unwind() => Ok(ended),
            // Polled, and the timer made, only if the activity did not end at once.
            deadline = self.passed(deadline) => Err(deadline),
            deadline = self.silent(&pulse) => Err(deadline),
        };
        match ended {
            Ok(Ok(Ok(result))) => self.completed(result),
            Ok(Ok(Err(failure))) => match failure.kind {
                FailureKind::Canceled(_) if cancellation.is_cancelled() => AttemptOutcome::Canceled(failure),
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
                AttemptOutcome::Failed(deadline.failure(pulse.heartbeats.last().details))
            }
        }
    }

    /// Waits until a deadline passes; for ever if there is none.
    async fn passed(&self, deadline: Option<Deadline>) -> Deadline {
        match deadline {
            Some(deadline) => {
                self.clock.sleep_until(deadline.at).await;
                deadline
            }
            None => std::future::pending().await,
        }
    }

    /// Waits until no heartbeat has come for as long as is allowed; for ever if that has no limit.
    async fn silent(&self, pulse: &Pulse) -> Deadline {
        let mut from = pulse.started_at;
        while let Some(deadline) = Deadline::new(TimeoutType::Heartbeat, from, pulse.allowed_ms) {
            self.passed(Some(deadline)).await;
            match pulse.heartbeats.last().at {
                Some(at) if at > from => from = at,
                Some(_) | None => return deadline,
            }
        }
        std::future::pending().await
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

/// The heartbeats of an attempt, and how long they may stay away.
struct Pulse {
    heartbeats: Heartbeats,
    started_at: Timestamp,
    allowed_ms: Option<u64>,
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
