//! Limits of a run that the fold itself enforces. They are settings; a recorded history is never
//! measured against them again.

use crate::command::Command;
use crate::ids::EventId;
use crate::machine::RunState;

/// What one run may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one payload.
    pub payload_bytes: usize,
    /// Events of a history.
    pub history_events: u64,
    /// Activities that are open at once.
    pub pending_activities: usize,
    /// Signals that a run may be sent.
    pub signals: u64,
    /// Requests to other runs that are not answered.
    pub pending_external_requests: usize,
    /// Children that are open at once.
    pub pending_children: usize,
}

impl Default for Limits {
    /// DESIGN.md section 6; the events are Temporal's limit.
    fn default() -> Self {
        Self {
            payload_bytes: 2 * 1024 * 1024,
            history_events: 51_200,
            pending_activities: 2_000,
            signals: 10_000,
            pending_external_requests: 2_000,
            pending_children: 2_000,
        }
    }
}

impl Limits {
    /// Says which limit `command` would pass, if any.
    ///
    /// # Errors
    /// The limit and its value.
    pub fn check(&self, state: &RunState, command: &Command) -> Result<(), String> {
        if state.next() > EventId(self.history_events) && !command.closes_run() {
            return Err(format!("a history has at most {} events", self.history_events));
        }
        match command {
            Command::ActivityScheduled(activity) => {
                self.check_payload("the input of an activity", activity.input.size())?;
                if state.activities().len() >= self.pending_activities {
                    return Err(format!(
                        "a run has at most {} activities open at once",
                        self.pending_activities
                    ));
                }
            }
            Command::WorkflowCompleted(completed) => {
                self.check_payload("the result of a workflow", completed.result.size())?;
            }
            Command::WorkflowCanceled(canceled) => {
                for details in &canceled.details {
                    self.check_payload("a cancellation's details", details.size())?;
                }
            }
            Command::WorkflowContinuedAsNew(next) => {
                self.check_payload("the input of the next run", next.input.size())?;
            }
            Command::DetachedWorkflowStarted(started) => {
                self.check_payload("the input of a detached workflow", started.input.size())?;
            }
            Command::ExternalSignalInitiated(request) => {
                self.check_payload("the input of a signal", request.signal.input.size())?;
                self.check_external(state)?;
            }
            Command::ExternalCancelInitiated(_) => self.check_external(state)?,
            Command::SearchAttributesUpserted(upserted) => {
                let mut behind = state.details().search_attributes.clone();
                behind.change(&upserted.search_attributes);
                behind.check()?;
            }
            Command::MemoUpserted(upserted) => {
                let mut behind = state.details().memo.clone();
                behind.change(&upserted.memo);
                behind.check()?;
            }
            Command::ChildWorkflowInitiated(child) => {
                self.check_payload("the input of a child workflow", child.input.size())?;
                if state.children().len() >= self.pending_children {
                    return Err(format!("a run has at most {} children open at once", self.pending_children));
                }
            }
            Command::ActivityCancelRequested(_)
            | Command::TimerStarted(_)
            | Command::TimerCanceled(_)
            | Command::SignalTaken(_)
            | Command::VersionMarkerRecorded(_)
            | Command::ChildCancelRequested(_)
            | Command::WorkflowFailed(_) => {}
        }
        Ok(())
    }

    fn check_external(&self, state: &RunState) -> Result<(), String> {
        if state.external().len() < self.pending_external_requests {
            return Ok(());
        }
        Err(format!("a run has at most {} unanswered requests to other runs", self.pending_external_requests))
    }

    /// Says whether a payload is too large.
    ///
    /// # Errors
    /// Its size and the limit.
    pub fn check_payload(&self, what: &str, size: usize) -> Result<(), String> {
        if size <= self.payload_bytes {
            return Ok(());
        }
        Err(format!("{what} has {size} bytes; at most {} are allowed", self.payload_bytes))
    }
}
