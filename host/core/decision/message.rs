//! Messages from run to run: what a step sends, and what its run is told of it.

use super::InboxInput;
use crate::command::ExternalWorkflow;
use crate::event::{Event, ExternalRequestCompleted, ExternalRequestFailed, Input};
use crate::failure::Failure;
use crate::ids::{EventId, Timestamp};

/// The type of the failure of a request to a run that is not open.
pub const WORKFLOW_NOT_FOUND: &str = "WorkflowNotFound";

/// The type of the failure of a request to a run in whose inbox too much waits.
pub const INBOX_FULL: &str = "InboxFull";

/// The type of the failure of a request whose answer went with a run that closed before it was folded.
pub const ANSWER_LOST: &str = "AnswerLost";

/// What a run that goes on from a closed one is told of a request that nobody will answer any more.
#[must_use]
pub fn told_of_lost_answer(command_event_id: EventId, at: Timestamp) -> InboxInput {
    let message = "the run closed before it was told, and was reset: whether this was delivered is not known";
    let failure = Failure::non_retryable(ANSWER_LOST, message);
    let lost = ExternalRequestFailed { command_event_id, failure };
    InboxInput { received_at: at, input: Input::ExternalRequestFailed(lost) }
}

/// What a run sends to another one: it is put into the other one's inbox in the sender's own transaction, and the
/// answer into the sender's, so that neither can be lost or doubled.
#[derive(Clone, Debug, PartialEq)]
pub struct OutgoingMessage {
    /// Who gets it.
    pub to: ExternalWorkflow,
    /// What it gets.
    pub input: InboxInput,
    /// The sender's command.
    pub command_event_id: EventId,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It is in the other run's inbox.
    Delivered,
    /// No such run is open.
    NotFound,
    /// As much waits there as other runs may leave ([`MOST_WAITING`]).
    InboxFull,
}

/// How much may wait in a run's inbox before other runs are refused.
pub const MOST_WAITING: u64 = 10_000;

impl OutgoingMessage {
    /// The message of a command.
    pub(super) fn new(command: &Event, to: &ExternalWorkflow, input: Input) -> Self {
        let input = InboxInput { received_at: command.time, input };
        Self { to: to.clone(), input, command_event_id: command.id }
    }

    /// What the sender is told.
    #[must_use]
    pub fn answer(&self, delivery: Delivery) -> InboxInput {
        let Self { to, input, command_event_id } = self;
        let ExternalWorkflow { workflow_id, run_id } = to;
        let failure = match (delivery, run_id) {
            (Delivery::Delivered, _) => None,
            (Delivery::NotFound, Some(run_id)) => {
                let message = format!("run {run_id} of workflow {workflow_id} is not open");
                Some(Failure::non_retryable(WORKFLOW_NOT_FOUND, message))
            }
            (Delivery::NotFound, None) => {
                let message = format!("workflow {workflow_id} has no open run");
                Some(Failure::non_retryable(WORKFLOW_NOT_FOUND, message))
            }
            (Delivery::InboxFull, _) => {
                let message =
                    format!("{MOST_WAITING} inputs wait in the inbox of workflow {workflow_id} already");
                Some(Failure::application(INBOX_FULL, message))
            }
        };
        let command_event_id = *command_event_id;
        let answer = match failure {
            None => Input::ExternalRequestCompleted(ExternalRequestCompleted { command_event_id }),
            Some(failure) => {
                Input::ExternalRequestFailed(ExternalRequestFailed { command_event_id, failure })
            }
        };
        InboxInput { received_at: input.received_at, input: answer }
    }
}
