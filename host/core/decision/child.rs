//! What a run is told of its children: whether each began, and how it ended. Rows of the parent's inbox, written in the
//! transaction in which it happened.

use super::{Closed, InboxInput, NewRun, Outcome};
use crate::event::{
    ChildWorkflowClosedBadly, ChildWorkflowCompleted, ChildWorkflowStarted, Input, ParentRun,
};
use crate::failure::{ChildWorkflowFailure, Failure, FailureKind};
use crate::ids::{EventId, RunId, Timestamp, WorkflowId};

/// The type of the failure of a child whose workflow id has an open run, or may not be used again.
pub const WORKFLOW_ALREADY_STARTED: &str = "WorkflowAlreadyStarted";

/// What became of a child that was to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildStart {
    /// It began.
    Begun,
    /// Its workflow id has this open run.
    AlreadyRunning(RunId),
    /// Its workflow id was this closed run's, and may not be used again.
    IdTaken(RunId),
}

/// A child as its parent knows it.
#[derive(Clone, Copy, Debug)]
pub struct ChildName<'a> {
    /// Its type.
    pub workflow_type: &'a str,
    /// Its workflow id.
    pub workflow_id: &'a WorkflowId,
    /// Its run.
    pub run_id: RunId,
    /// The parent's command that began it.
    pub command_event_id: EventId,
}

impl ChildName<'_> {
    fn failure(self, message: String) -> Failure {
        let Self { workflow_type, workflow_id, run_id, command_event_id } = self;
        Failure::new(
            message,
            FailureKind::ChildWorkflow(ChildWorkflowFailure {
                workflow_type: workflow_type.to_owned(),
                workflow_id: workflow_id.0.clone(),
                run_id: run_id.to_string(),
                started_event_id: command_event_id,
            }),
        )
    }
}

/// What the parent is told when its child was to begin.
#[must_use]
pub fn told_of_start(parent: &ParentRun, child: &NewRun, run_id: RunId, start: ChildStart) -> InboxInput {
    let command_event_id = parent.command_event_id;
    let why = match start {
        ChildStart::Begun => {
            let started = Input::ChildWorkflowStarted(ChildWorkflowStarted { command_event_id, run_id });
            return InboxInput { received_at: child.started_at, input: started };
        }
        ChildStart::AlreadyRunning(open) => {
            format!("workflow {} has the open run {open}", child.workflow_id)
        }
        ChildStart::IdTaken(closed) => format!(
            "workflow id {} was that of the closed run {closed}, and the id reuse policy does not allow it again",
            child.workflow_id
        ),
    };
    let NewRun { workflow_type, workflow_id, .. } = child;
    let name = ChildName { workflow_type, workflow_id, run_id, command_event_id };
    let failure = name
        .failure(format!("child workflow `{workflow_type}` was not started"))
        .caused_by(Failure::non_retryable(WORKFLOW_ALREADY_STARTED, why));
    let failed = Input::ChildWorkflowStartFailed(ChildWorkflowClosedBadly { command_event_id, failure });
    InboxInput { received_at: child.started_at, input: failed }
}

/// What the parent is told of a child that is not there any more, so that nobody knows how it ended.
#[must_use]
pub fn told_of_loss(child: ChildName<'_>, at: Timestamp) -> InboxInput {
    let ChildName { workflow_type, command_event_id, .. } = child;
    let message = format!("how child workflow `{workflow_type}` ended is not known any more");
    let failure = child.failure(message);
    let lost = Input::ChildWorkflowFailed(ChildWorkflowClosedBadly { command_event_id, failure });
    InboxInput { received_at: at, input: lost }
}

/// What the parent is told when its child has closed; nothing while the child goes on as another run.
#[must_use]
pub fn told_of_end(child: ChildName<'_>, closed: &Closed) -> Option<InboxInput> {
    let command_event_id = child.command_event_id;
    let input = match &closed.outcome {
        Outcome::ContinuedAs(_) => return None,
        Outcome::Result(result) => {
            Input::ChildWorkflowCompleted(ChildWorkflowCompleted { command_event_id, result: result.clone() })
        }
        Outcome::Failure(cause) => {
            let failure = child
                .failure(format!("child workflow `{}` {}", child.workflow_type, closed.status.verb()))
                .caused_by(cause.clone());
            Input::ChildWorkflowFailed(ChildWorkflowClosedBadly { command_event_id, failure })
        }
    };
    Some(InboxInput { received_at: closed.at, input })
}
