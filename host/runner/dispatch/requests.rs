//! What reaches a driver through its desk: operators' wishes, and reports about attempts.

use everfold_core::decision::{Paused, Reset};
use tokio::sync::oneshot;

use super::driver::{Driver, Ended, Stage};
use crate::activity::desk::{Operation, Reply, Report, Request, Said, Wishes};
use crate::activity::{AttemptOutcome, Heartbeats};

/// Whether an attempt is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Between,
    During,
}

impl Driver {
    /// Takes a request while no attempt is under way. False when the run is gone.
    pub(super) async fn between_attempts(&mut self, request: Request) -> bool {
        match request {
            Request::Operate(operation, reply) => self.operate(operation, reply, Moment::Between).await,
            Request::Report(report, reply) => {
                let _ = reply.send(self.about_another(&report));
                true
            }
        }
    }

    /// Takes a request while an attempt is under way; says if that ends it.
    pub(super) async fn during_attempt(
        &mut self,
        request: Request,
        heartbeats: &Heartbeats,
    ) -> Option<Ended> {
        match request {
            Request::Operate(operation, reply) => {
                if !self.operate(operation, reply, Moment::During).await {
                    return Some(Ended::Gone);
                }
                match operation {
                    Operation::Reset | Operation::ResetPaused if self.is_held() => Some(Ended::Again),
                    Operation::Reset | Operation::ResetPaused | Operation::Pause | Operation::Resume => None,
                }
            }
            Request::Report(report, reply) if !self.is_current(&report) => {
                let _ = reply.send(self.about_another(&report));
                None
            }
            Request::Report(report, reply) => self.take_report(report.what, reply, heartbeats),
        }
    }

    /// Takes a report about the attempt under way.
    fn take_report(
        &self,
        said: Said,
        reply: oneshot::Sender<Reply>,
        heartbeats: &Heartbeats,
    ) -> Option<Ended> {
        let cancel_requested = self.task.desk.cancellation().is_cancelled();
        match said {
            Said::Alive(details) => {
                heartbeats.send(details);
                let wishes = Wishes {
                    cancel_requested,
                    paused: self.paused.is_some(),
                    reset: self.reset.is_some_and(|reset| reset.is_due),
                };
                let _ = reply.send(Reply::Alive(wishes));
                None
            }
            Said::Canceled(_) if !cancel_requested => {
                let _ = reply.send(Reply::NotAsked);
                None
            }
            Said::Completed(result) => Some(Ended::Reported(AttemptOutcome::Completed(result), reply)),
            Said::Failed(failure) => Some(Ended::Reported(AttemptOutcome::Failed(failure), reply)),
            Said::Canceled(failure) => Some(Ended::Reported(AttemptOutcome::Canceled(failure), reply)),
        }
    }

    /// Ends the attempt as a report says.
    pub(super) async fn conclude(&mut self, outcome: AttemptOutcome, reply: oneshot::Sender<Reply>) -> Stage {
        self.parts.telemetry.attempt_under_way(&self.task).end(&outcome);
        let stage = match outcome {
            AttemptOutcome::Completed(result) => {
                self.close_completed(result);
                Stage::Over
            }
            AttemptOutcome::Canceled(failure) => {
                self.close_canceled(failure);
                Stage::Over
            }
            AttemptOutcome::Failed(failure) => self.after(failure).await,
            AttemptOutcome::CompletesLater { since } => self.hand_over(since).await,
        };
        // Who reported the end of the activity waits for that to be on disk.
        let _ = reply.send(if stage == Stage::Over { Reply::Ends } else { Reply::Recorded });
        stage
    }

    /// Does what an operator wants, and answers when it is on disk. False when the run is gone.
    async fn operate(&mut self, operation: Operation, reply: oneshot::Sender<()>, moment: Moment) -> bool {
        let now = self.parts.clock.now();
        match operation {
            Operation::Pause => {
                let attempt_under_way = moment == Moment::During;
                self.paused.get_or_insert(Paused { since: now, attempt_under_way });
            }
            Operation::Resume => {
                if self.paused.take().is_some() && moment == Moment::Between {
                    self.attempt_at = self.attempt_at.max(now);
                }
            }
            Operation::Reset | Operation::ResetPaused => {
                if operation == Operation::Reset {
                    self.paused = None;
                }
                self.reset = Some(Reset { at: now, is_due: moment == Moment::During });
                self.task.scheduled_at = now;
                if moment == Moment::Between {
                    self.task.attempt = 1;
                    self.attempt_at = now;
                }
            }
        }
        self.task.desk.set_paused(self.paused.is_some());
        let is_written = self.put().await;
        if is_written {
            let _ = reply.send(());
        }
        is_written
    }

    /// Whether a report is about the attempt under way.
    fn is_current(&self, report: &Report) -> bool {
        let lease_id = match &self.lease {
            Some(lease) => Some(lease.id),
            None => self.task.desk.given_lease_id(),
        };
        report.attempt == self.task.attempt && lease_id == Some(report.lease_id)
    }

    /// The answer to a report about an attempt that is not under way: what is recorded of it already may be said again.
    fn about_another(&self, report: &Report) -> Reply {
        let is_last = report.attempt.checked_add(1) == Some(self.task.attempt);
        match (&report.what, &self.last_failure) {
            (Said::Failed(failure), Some((last, _))) if is_last && failure == last => Reply::Recorded,
            (Said::Completed(_) | Said::Failed(_) | Said::Canceled(_) | Said::Alive(_), _) => Reply::Over,
        }
    }
}
