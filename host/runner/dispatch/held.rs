//! Attempts outside the host: the wait for a worker, and leases.
//!
//! ```text
//!   offered ── a poll claims it ──▶ lease on disk ──▶ handed out ── report │ time-out ──▶ ended
//!      ▲                                │ nobody listens any more
//!      └────────────────────────────────┘
//! ```

use std::sync::Arc;

use everfold_core::decision::Lease;
use everfold_core::failure::{CanceledFailure, Failure, FailureKind, TimeoutType};
use everfold_core::ids::Timestamp;

use super::driver::{Driver, Ended, Stage};
use super::queues::Claim;
use crate::activity::AttemptOutcome;
use crate::activity::deadline::{Deadline, Pulse, passed, silent};
use crate::activity::token::TaskToken;
use crate::runner::api::ActivityTask;
use crate::telemetry::AttemptRecord;

/// What an attempt outside waits for before it starts.
const WORKER: &str = "worker";

impl Driver {
    /// Waits in the task queue until a worker takes the attempt.
    pub(super) async fn queue(&mut self) -> Stage {
        let (parts, desk) = (Arc::clone(&self.parts), Arc::clone(&self.task.desk));
        let record = parts.telemetry.attempt_due(&self.task, self.attempt_at);
        let place = parts.dispatcher.queues.place();
        loop {
            if self.paused.is_some() {
                return Stage::Waiting;
            }
            let timeouts = &self.task.scheduled.timeouts;
            let start =
                Deadline::new(TimeoutType::ScheduleToStart, self.attempt_at, timeouts.schedule_to_start_ms);
            let deadline = Deadline::first(self.schedule_to_close(), start);
            let mut offer =
                parts.dispatcher.queues.offer(&self.task.key.namespace, &self.task.scheduled, place);
            tokio::select! {
                biased;
                () = parts.dispatcher.draining.cancelled() => return Stage::Over,
                request = desk.next() => {
                    drop(offer);
                    let Some(request) = request else { return Stage::Over };
                    if !self.between_attempts(request).await {
                        return Stage::Over;
                    }
                }
                () = desk.cancellation().cancelled() => {
                    let failure = canceled_before_start(&self.task.scheduled.activity_type);
                    record.end(&AttemptOutcome::Canceled(failure.clone()));
                    self.close_canceled(failure);
                    return Stage::Over;
                }
                deadline = passed(&parts.clock, deadline) => {
                    let failure = deadline.failure(WORKER, self.task.heartbeat_details.clone());
                    record.end(&AttemptOutcome::Failed(failure.clone()));
                    return self.after(failure).await;
                }
                claim = offer.claimed() => {
                    drop(offer);
                    if let Some(stage) = self.lease_to(claim, &record).await {
                        return stage;
                    }
                }
            }
        }
    }

    /// Leases the attempt to the worker whose poll claims it; nothing comes of that if the poll is gone.
    async fn lease_to(&mut self, claim: Claim, record: &AttemptRecord) -> Option<Stage> {
        if claim.is_gone() {
            return None;
        }
        let (now, due_at) = (self.parts.clock.now(), self.attempt_at);
        let id = self.parts.clock.new_lease_id();
        self.lease = Some(Lease { id, worker: Some(claim.identity.clone()), since: now });
        self.attempt_at = now;
        if !self.put().await {
            return Some(Stage::Over);
        }
        let (task, worker) = (self.handed_out(now), claim.identity.clone());
        if claim.deliver(task) {
            record.begin();
            self.parts.telemetry.leased(&self.task, &worker);
            return Some(Stage::Held);
        }
        // Nobody knows the token.
        self.parts.telemetry.lease_returned(&self.task, &worker);
        self.lease = None;
        self.attempt_at = due_at;
        if self.put().await { None } else { Some(Stage::Over) }
    }

    /// What a worker gets.
    fn handed_out(&self, now: Timestamp) -> ActivityTask {
        let task = &self.task;
        let timeouts = &task.scheduled.timeouts;
        let start_to_close = Deadline::new(TimeoutType::StartToClose, now, timeouts.start_to_close_ms);
        let token = self.lease.as_ref().map(|lease| TaskToken {
            key: task.key.clone(),
            scheduled_event_id: task.scheduled_event_id,
            attempt: task.attempt,
            lease_id: lease.id,
        });
        ActivityTask {
            token: token.map_or_else(String::new, |token| token.encode()),
            workflow_id: task.names.workflow_id.clone(),
            run_id: task.key.run_id,
            workflow_type: task.names.workflow_type.clone(),
            scheduled_event_id: task.scheduled_event_id,
            attempt: task.attempt,
            scheduled: Arc::clone(&task.scheduled),
            heartbeat_details: task.heartbeat_details.clone(),
            scheduled_at: task.scheduled_at,
            started_at: now,
            deadline: Deadline::first(self.schedule_to_close(), start_to_close).map(|deadline| deadline.at),
        }
    }

    /// The native attempt goes on outside; nobody but its holder hears of it before that is on disk.
    pub(super) async fn hand_over(&mut self, since: Timestamp) -> Stage {
        let id = self.task.desk.given_lease_id().unwrap_or_else(|| self.parts.clock.new_lease_id());
        self.lease = Some(Lease { id, worker: None, since });
        self.attempt_at = since;
        if self.put().await { Stage::Held } else { Stage::Over }
    }

    /// Waits for the end of an attempt outside.
    pub(super) async fn hold(&mut self) -> Stage {
        let Some(Lease { since, .. }) = self.lease else { return Stage::Due };
        let parts = Arc::clone(&self.parts);
        let record = parts.telemetry.attempt_under_way(&self.task);
        let heartbeats = parts.attempts.heartbeats(self.task.heartbeat_details.clone());
        let mut news = heartbeats.watch();
        let timeouts = self.task.scheduled.timeouts.clone();
        // Who holds it could not reach a host that was away: its next heartbeat is awaited from the restart on.
        let from = since.max(self.known_at);
        let pulse = Pulse { heartbeats: heartbeats.clone(), from, allowed_ms: timeouts.heartbeat_ms };
        let ended = loop {
            let start_to_close = Deadline::new(TimeoutType::StartToClose, since, timeouts.start_to_close_ms);
            let deadline = Deadline::first(self.schedule_to_close(), start_to_close);
            let ended = tokio::select! {
                biased;
                ended = self.serve(&mut news, &heartbeats) => ended,
                () = parts.dispatcher.draining.cancelled() => Ended::Stopped,
                deadline = passed(&parts.clock, deadline) => Ended::Late(deadline),
                deadline = silent(&parts.clock, &pulse) => Ended::Late(deadline),
            };
            if !matches!(ended, Ended::Again) {
                break ended;
            }
        };
        let last = heartbeats.last();
        match ended {
            Ended::Stopped if last.at.is_some() => {
                // The lease stays; what it said since the last time goes with it.
                self.write_down(last).await;
                Stage::Over
            }
            Ended::Late(deadline) => {
                self.task.heartbeat_details = last.details;
                let failure = deadline.failure(WORKER, self.task.heartbeat_details.clone());
                record.end(&AttemptOutcome::Failed(failure.clone()));
                parts.telemetry.lease_expired(&self.task, &failure);
                self.after(failure).await
            }
            Ended::Reported(outcome, reply) => {
                self.task.heartbeat_details = last.details;
                self.conclude(outcome, reply).await
            }
            Ended::Itself(_) | Ended::Again | Ended::Stopped | Ended::Gone => Stage::Over,
        }
    }
}

fn canceled_before_start(activity_type: &str) -> Failure {
    let message = format!("activity {activity_type} was canceled before it started");
    Failure::new(message, FailureKind::Canceled(CanceledFailure::default()))
}
