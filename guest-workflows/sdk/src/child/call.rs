//! A child under way: a future that is ready when it has begun, and one that is ready when it has closed.
//!
//! ```text
//! Unasked ── first poll ──▶ Starting(id) ── started ──▶ a Child, whose result is waited for apart
//!    │                          │
//!    └── drop: nothing          └── drop: asks for the child's cancellation
//! ```

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, ready};

use futures::future::FusedFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ChildError, ChildWorkflow, Request};
use crate::bindings::everfold::workflow::types::EventId;
use crate::external::{ExternalRequest, ExternalWorkflow};
use crate::payload::Payload;
use crate::run::{ChildOutcome, ChildStart, Run};

/// A child that is to begin; ready when it has, or was refused.
///
/// Dropping it before it is ready asks for the child's cancellation, unless the child's cancellation type is to abandon
/// it.
#[must_use = "a child is not asked for before its start is polled"]
pub struct StartChild<O> {
    run: Rc<Run>,
    stage: Stage,
    result: PhantomData<fn() -> O>,
}

enum Stage {
    Unasked(Box<Request>),
    Refused(Box<ChildError>),
    Starting { id: EventId, workflow_type: String, workflow_id: Option<String> },
    Done,
}

impl<O> StartChild<O> {
    pub(crate) fn new<I: Serialize + ?Sized>(run: Rc<Run>, child: ChildWorkflow<I, O>, input: &I) -> Self {
        let stage = match Payload::encode(input) {
            Ok(input) => Stage::Unasked(Box::new(child.into_request(input))),
            Err(reason) => Stage::Refused(Box::new(ChildError::invalid_input(&child.workflow_type, &reason))),
        };
        Self { run, stage, result: PhantomData }
    }

    fn ask(run: &Run, request: Request) -> Result<Stage, ChildError> {
        if run.refuses_new_operations() {
            return Err(ChildError::never_asked(&request.workflow_type, run.canceled()));
        }
        let id = run.start_child(&request);
        let Request { workflow_type, options, input: _ } = request;
        Ok(Stage::Starting {
            id,
            workflow_type: workflow_type.into_owned(),
            workflow_id: options.workflow_id,
        })
    }
}

impl<O> Future for StartChild<O> {
    type Output = Result<Child<O>, ChildError>;

    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Stage::Unasked(_) | Stage::Refused(_) = &this.stage {
            match std::mem::replace(&mut this.stage, Stage::Done) {
                Stage::Unasked(request) => this.stage = Self::ask(&this.run, *request)?,
                Stage::Refused(error) => return Poll::Ready(Err(*error)),
                Stage::Starting { .. } | Stage::Done => {}
            }
        }
        let Stage::Starting { id, .. } = this.stage else {
            panic!("a child's start was polled after it was ready");
        };
        let start = ready!(this.run.poll_child_start(id, task));
        let Stage::Starting { workflow_type, workflow_id, .. } =
            std::mem::replace(&mut this.stage, Stage::Done)
        else {
            unreachable!("it is starting");
        };
        Poll::Ready(match start {
            ChildStart::Started { run_id } => Ok(Child {
                // The host makes it so: see `child-options`.
                workflow_id: workflow_id.unwrap_or_else(|| run_id.clone()),
                run: Rc::clone(&this.run),
                id,
                workflow_type,
                run_id,
                result: PhantomData,
            }),
            ChildStart::Failed(failure) => Err(ChildError::not_started(failure)),
            ChildStart::Canceled => Err(ChildError::given_up(&workflow_type, this.run.canceled())),
        })
    }
}

impl<O> FusedFuture for StartChild<O> {
    fn is_terminated(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }
}

impl<O> Drop for StartChild<O> {
    fn drop(&mut self) {
        if let Stage::Starting { id, .. } = self.stage {
            self.run.drop_child(id);
        }
    }
}

impl<O> fmt::Debug for StartChild<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.stage {
            Stage::Unasked(request) => write!(f, "StartChild({}, not asked for)", request.workflow_type),
            Stage::Refused(error) => write!(f, "StartChild(refused: {error})"),
            Stage::Starting { id, workflow_type, .. } => write!(f, "StartChild({workflow_type}, {id})"),
            Stage::Done => f.write_str("StartChild(done)"),
        }
    }
}

/// A child that has begun. Dropping this changes nothing: the child goes on, and its parent-close policy says what becomes
/// of it in the end.
pub struct Child<O> {
    run: Rc<Run>,
    id: EventId,
    workflow_type: String,
    workflow_id: String,
    run_id: String,
    result: PhantomData<fn() -> O>,
}

impl<O> Child<O> {
    /// Its workflow id.
    #[must_use]
    pub fn workflow_id(&self) -> &str {
        &self.workflow_id
    }

    /// Its first run.
    #[must_use]
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// Waits until it has closed; if it continued as new, until its last run has. Waiting is given up by dropping, and
    /// can be begun again; the result is given once.
    pub fn result(&self) -> ChildResult<O> {
        ChildResult {
            run: Rc::clone(&self.run),
            id: self.id,
            workflow_type: self.workflow_type.clone(),
            taken: false,
            result: PhantomData,
        }
    }

    /// Sends it a signal.
    ///
    /// # Panics
    ///
    /// When JSON cannot hold the input: a fault of the workflow's code.
    pub fn signal<I: Serialize + ?Sized>(&self, name: &str, input: &I) -> ExternalRequest {
        ExternalWorkflow::new(Rc::clone(&self.run), &self.workflow_id).signal(name, input)
    }

    /// Asks it to cancel, at once; asking again changes nothing. Its result tells when it has closed.
    pub fn request_cancel(&self, reason: &str) {
        self.run.cancel_child(self.id, reason);
    }
}

impl<O> fmt::Debug for Child<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Child({}, {})", self.workflow_type, self.workflow_id)
    }
}

/// A child's end. Dropping it only ends the wait.
#[must_use = "futures do nothing unless polled"]
pub struct ChildResult<O> {
    run: Rc<Run>,
    id: EventId,
    workflow_type: String,
    taken: bool,
    result: PhantomData<fn() -> O>,
}

impl<O: DeserializeOwned> Future for ChildResult<O> {
    type Output = Result<O, ChildError>;

    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let outcome = ready!(this.run.poll_child(this.id, task));
        this.taken = true;
        Poll::Ready(match outcome {
            ChildOutcome::Completed(result) => {
                result.decode().map_err(|reason| ChildError::invalid_result(&this.workflow_type, &reason))
            }
            ChildOutcome::ClosedBadly(failure) => Err(ChildError::closed(failure)),
            ChildOutcome::Canceled => Err(ChildError::given_up(&this.workflow_type, this.run.canceled())),
        })
    }
}

impl<O: DeserializeOwned> FusedFuture for ChildResult<O> {
    fn is_terminated(&self) -> bool {
        self.taken
    }
}

impl<O> fmt::Debug for ChildResult<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChildResult({}, {})", self.workflow_type, self.id)
    }
}

/// A child from its beginning to its end. Dropping it before it is ready asks for the child's cancellation, unless its
/// cancellation type is to abandon it.
#[must_use = "a child is not asked for before its call is polled"]
pub struct ChildCall<O>(Call<O>);

enum Call<O> {
    Starting(StartChild<O>),
    Running(ChildResult<O>),
}

impl<O> ChildCall<O> {
    pub(crate) const fn new(start: StartChild<O>) -> Self {
        Self(Call::Starting(start))
    }
}

impl<O: DeserializeOwned> Future for ChildCall<O> {
    type Output = Result<O, ChildError>;

    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let call = &mut self.get_mut().0;
        loop {
            match call {
                Call::Starting(start) => {
                    let child = ready!(Pin::new(start).poll(task))?;
                    *call = Call::Running(child.result());
                }
                Call::Running(result) => return Pin::new(result).poll(task),
            }
        }
    }
}

impl<O: DeserializeOwned> FusedFuture for ChildCall<O> {
    fn is_terminated(&self) -> bool {
        match &self.0 {
            Call::Starting(start) => start.is_terminated(),
            Call::Running(result) => result.is_terminated(),
        }
    }
}

impl<O> Drop for ChildCall<O> {
    fn drop(&mut self) {
        match &self.0 {
            Call::Running(result) if !result.taken => result.run.drop_child(result.id),
            Call::Starting(_) | Call::Running(_) => {}
        }
    }
}

impl<O> fmt::Debug for ChildCall<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Call::Starting(start) => start.fmt(f),
            Call::Running(result) => result.fmt(f),
        }
    }
}
