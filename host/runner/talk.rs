//! Talking to a run: signals, requests to cancel, termination, and how an update gets there.
//!
//! A request goes into the mailbox of the run that is open when it comes, and is answered after the
//! commit that put it into the history or the inbox. A run that closed meanwhile answers that it did; who
//! asked for a workflow, not for a particular run, is then sent on to the run that is open now. So what
//! is acknowledged is with a run, and everything else is told to the caller.

use std::sync::Arc;

use everfold_core::decision::{Operation, Request};
use everfold_core::event::{Input, SignalReceived, WorkflowCancelRequested};
use everfold_core::failure::Failure;
use everfold_core::ids::{EventId, RunId};
use everfold_core::limits::Limits;
use everfold_core::machine::RunStatus;
use everfold_core::payload::Payload;
use tokio::sync::oneshot;

use super::api::{Acknowledged, ApiError, RunRef, SignalRequest, StopRequest};
use super::reset::To;
use super::run::{Message, Talk};
use super::updates::rejected;
use super::{Host, LONGEST_ID, internal};

/// The longest reason, in bytes.
const LONGEST_REASON: usize = 4_096;

/// What a run is asked to do.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    /// To take an input.
    Take(Input),
    /// To close without asking its guest.
    Terminate(String),
    /// To go on from an earlier event, as another run.
    Reset(Box<To>),
}

/// How a run answers who talks to it.
pub(super) type Answer = Result<Taken, Refusal>;

/// The run did, or had done, what it was asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    /// The run, or the one that goes on from it where it was to be reset.
    pub(super) run_id: RunId,
    pub(super) is_duplicate: bool,
    /// No earlier event has anything to say of it.
    pub(super) from: EventId,
}

/// What came of a request to a run.
pub(super) enum Reached {
    /// The run did it.
    Taken(Taken),
    /// No such run is open; this one was meant.
    Closed(RunId),
}

/// The run did nothing.
#[derive(Clone, Debug)]
pub(super) enum Refusal {
    /// It has closed.
    Closed,
    /// Its code refuses the update.
    Rejected(Failure),
    /// It was sent all that it may be sent.
    Limit(String),
    /// It cannot be reset to that event.
    ResetPoint(String),
    /// It cannot be reset on that version.
    Version(String),
    /// The store or the host cannot do it now.
    Busy(String),
}

impl Refusal {
    /// What the caller is told; nothing where another run may be meant.
    pub(super) fn into_error(self) -> Option<ApiError> {
        Some(match self {
            Self::Closed => return None,
            Self::Rejected(failure) => rejected(failure),
            Self::Limit(reason) => ApiError::LimitExceeded(reason),
            Self::ResetPoint(reason) => ApiError::InvalidInput(reason),
            Self::Version(reason) => ApiError::VersionConflict(reason),
            Self::Busy(reason) => ApiError::Busy(reason),
        })
    }
}

impl Host {
    /// Sends a signal; it is on disk when this returns. It is in the history of the run that is
    /// answered, or waits in its inbox, or was taken over by the run that goes on from it.
    ///
    /// # Errors
    /// `NotFound` when no such run is open, `LimitExceeded`, `InvalidInput`, `Busy`.
    pub async fn signal(&self, request: SignalRequest) -> Result<Acknowledged, ApiError> {
        let SignalRequest { run, name, input, headers, request_id } = request;
        check_signal(&self.parts.limits, &name, &input)?;
        let signal = Arc::new(SignalReceived { name, input, headers });
        self.send_signal(&run, signal, request_id).await
    }

    /// The same with a signal that was checked.
    pub(super) async fn send_signal(
        &self,
        run: &RunRef,
        signal: Arc<SignalReceived>,
        request_id: Option<String>,
    ) -> Result<Acknowledged, ApiError> {
        self.talk(run, Ask::Take(Input::SignalReceived(signal)), Operation::Signal, request_id).await
    }

    /// Asks a run to cancel; the request is on disk when this returns. Asking again changes nothing.
    ///
    /// # Errors
    /// `NotFound` when no such run is open, `InvalidInput`, `Busy`.
    pub async fn cancel(&self, request: StopRequest) -> Result<Acknowledged, ApiError> {
        let StopRequest { run, reason, request_id } = request;
        check_reason(&reason)?;
        let input = Input::WorkflowCancelRequested(WorkflowCancelRequested { reason });
        self.talk(&run, Ask::Take(input), Operation::Cancel, request_id).await
    }

    /// Closes a run without asking its guest; nothing is undone.
    ///
    /// # Errors
    /// `NotFound` when no such run is open, `InvalidInput`, `Busy`.
    pub async fn terminate(&self, request: StopRequest) -> Result<Acknowledged, ApiError> {
        let StopRequest { run, reason, request_id } = request;
        check_reason(&reason)?;
        self.talk(&run, Ask::Terminate(reason), Operation::Terminate, request_id).await
    }

    async fn talk(
        &self,
        run: &RunRef,
        ask: Ask,
        operation: Operation,
        request_id: Option<String>,
    ) -> Result<Acknowledged, ApiError> {
        check_request_id(request_id.as_deref())?;
        let request = request_id.map(|request_id| Request { operation, request_id });
        match self.reach(run, &ask, request.as_ref()).await? {
            Reached::Taken(Taken { run_id, is_duplicate, from: _ }) => {
                Ok(Acknowledged { workflow_id: run.workflow_id.clone(), run_id, is_duplicate })
            }
            Reached::Closed(run_id) => self.closed(run, run_id, request.as_ref()).await,
        }
    }

    /// Asks the run that is meant, and the next one if that has closed meanwhile.
    pub(super) async fn reach(
        &self,
        run: &RunRef,
        ask: &Ask,
        request: Option<&Request>,
    ) -> Result<Reached, ApiError> {
        let stopping = || ApiError::Busy("the host is stopping".to_owned());
        let _admitted = self.parts.admit_write()?;
        loop {
            // Asked each time: a host that cannot go on closes its runs, and the store does not.
            self.readiness()?;
            let row = self.row(run).await?;
            if row.status != RunStatus::Running {
                return Ok(Reached::Closed(row.key.run_id));
            }
            let (reply, answered) = oneshot::channel();
            let talk = Talk { ask: ask.clone(), request: request.cloned(), reply };
            self.parts.send(&row.key, Message::Talk(Box::new(talk)));
            match answered.await.map_err(|_| stopping())? {
                Ok(taken) => return Ok(Reached::Taken(taken)),
                Err(refusal) => {
                    if let Some(error) = refusal.into_error() {
                        return Err(error);
                    }
                    // It closed meanwhile: another run may be open under the workflow id now.
                }
            }
        }
    }

    /// No such run is open; a request that was done before is a duplicate all the same.
    async fn closed(
        &self,
        run: &RunRef,
        closed: RunId,
        request: Option<&Request>,
    ) -> Result<Acknowledged, ApiError> {
        if let Some(request) = request {
            let done = self.parts.store.request(&run.namespace, &run.workflow_id, request).await;
            if let Some(run_id) = done.map_err(|error| internal(&error))? {
                let workflow_id = run.workflow_id.clone();
                return Ok(Acknowledged { workflow_id, run_id, is_duplicate: true });
            }
        }
        Err(has_closed(run, closed))
    }
}

/// What a caller is told who means no open run.
pub(super) fn has_closed(run: &RunRef, closed: RunId) -> ApiError {
    ApiError::NotFound(match run.run_id {
        Some(_) => format!("run {closed} of workflow {} has closed", run.workflow_id),
        None => format!("workflow {} has no open run", run.workflow_id),
    })
}

/// Whether a signal may be sent at all.
pub(super) fn check_signal(limits: &Limits, name: &str, input: &Payload) -> Result<(), ApiError> {
    if name.is_empty() || name.len() > LONGEST_ID {
        let message = format!("a signal's name must have 1 to {LONGEST_ID} bytes");
        return Err(ApiError::InvalidInput(message));
    }
    limits.check_payload("the signal's input", input.size()).map_err(ApiError::InvalidInput)
}

pub(super) fn check_reason(reason: &str) -> Result<(), ApiError> {
    if reason.len() <= LONGEST_REASON {
        return Ok(());
    }
    Err(ApiError::InvalidInput(format!("a reason has at most {LONGEST_REASON} bytes")))
}

pub(super) fn check_request_id(request_id: Option<&str>) -> Result<(), ApiError> {
    if request_id.is_none_or(|id| !id.is_empty() && id.len() <= LONGEST_ID) {
        return Ok(());
    }
    Err(ApiError::InvalidInput(format!("request_id must have 1 to {LONGEST_ID} bytes")))
}
