//! Other runs of the namespace: sending them signals, and asking them to cancel.
//!
//! A request is made when its future is first polled, and is delivered in the transaction that records it, so that it
//! is neither lost nor doubled. The future is ready when the host has said whether there was such a run. Dropping
//! it takes nothing back.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, ready};

use futures::future::FusedFuture;
use serde::Serialize;

use crate::bindings::everfold::workflow::host::ExternalWorkflow as Target;
use crate::bindings::everfold::workflow::types::EventId;
use crate::cancellation::Canceled;
use crate::failure::Failure;
use crate::payload::Payload;
use crate::run::Run;

/// The type of the failure of a request to a run that is not open.
pub const WORKFLOW_NOT_FOUND: &str = "WorkflowNotFound";

/// Another run: the open one of a workflow id, or a particular one.
#[derive(Clone)]
pub struct ExternalWorkflow {
    run: Rc<Run>,
    target: Target,
}

impl ExternalWorkflow {
    pub(crate) fn new(run: Rc<Run>, workflow_id: &str) -> Self {
        Self { run, target: Target { workflow_id: workflow_id.to_owned(), run_id: None } }
    }

    /// Means that run alone, not whichever is open under the workflow id.
    #[must_use]
    pub fn run_id(mut self, run_id: impl Into<String>) -> Self {
        self.target.run_id = Some(run_id.into());
        self
    }

    /// Sends it a signal.
    ///
    /// # Panics
    ///
    /// When JSON cannot hold the input: a fault of the workflow's code.
    pub fn signal<I: Serialize + ?Sized>(&self, name: &str, input: &I) -> ExternalRequest {
        let input = Payload::of(input, "the input of a signal");
        self.request(Asked::Signal { name: name.to_owned(), input })
    }

    /// Asks it to cancel. It may go on for as long as it likes: nothing tells when it has closed.
    pub fn request_cancel(&self, reason: &str) -> ExternalRequest {
        self.request(Asked::Cancel { reason: reason.to_owned() })
    }

    fn request(&self, asked: Asked) -> ExternalRequest {
        let Self { run, target } = self.clone();
        ExternalRequest { run, target, stage: Stage::Unasked(asked) }
    }
}

impl fmt::Debug for ExternalWorkflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ExternalWorkflow").field(&self.target.workflow_id).finish()
    }
}

/// A request to another run, ready when it was delivered or refused.
#[must_use = "nothing is asked before it is polled"]
pub struct ExternalRequest {
    run: Rc<Run>,
    target: Target,
    stage: Stage,
}

enum Stage {
    Unasked(Asked),
    Open(EventId),
    Done,
}

/// What another run is asked.
enum Asked {
    Signal { name: String, input: Payload },
    Cancel { reason: String },
}

/// Ready with [`ExternalError::Canceled`] only when the run was cancelled before it asked, and the request is not
/// shielded: what was asked is delivered.
impl Future for ExternalRequest {
    type Output = Result<(), ExternalError>;

    fn poll(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let id = match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Unasked(_) if self.run.refuses_new_operations() => {
                return Poll::Ready(Err(ExternalError::Canceled(self.run.canceled())));
            }
            Stage::Unasked(Asked::Signal { name, input }) => {
                self.run.signal_external(&self.target, &name, &input)
            }
            Stage::Unasked(Asked::Cancel { reason }) => self.run.cancel_external(&self.target, &reason),
            Stage::Open(id) => id,
            Stage::Done => panic!("a request to another run was polled after it was ready"),
        };
        self.stage = Stage::Open(id);
        let answer = ready!(self.run.poll_external(id, task));
        self.stage = Stage::Done;
        Poll::Ready(answer.map_err(ExternalError::Failed))
    }
}

impl FusedFuture for ExternalRequest {
    fn is_terminated(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }
}

impl Drop for ExternalRequest {
    fn drop(&mut self) {
        if let Stage::Open(id) = self.stage {
            self.run.drop_external(id);
        }
    }
}

impl fmt::Debug for ExternalRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ExternalRequest").field(&self.target.workflow_id).finish()
    }
}

/// Why another run was not asked.
#[derive(Debug, thiserror::Error)]
pub enum ExternalError {
    /// The run was cancelled. Nothing was asked.
    #[error(transparent)]
    Canceled(#[from] Canceled),
    /// No such run is open: an application failure of type [`WORKFLOW_NOT_FOUND`].
    #[error("{0}")]
    Failed(Failure),
}

impl From<ExternalError> for Failure {
    fn from(error: ExternalError) -> Self {
        match error {
            ExternalError::Canceled(canceled) => canceled.into(),
            ExternalError::Failed(failure) => failure,
        }
    }
}
