//! The call of an activity: a future that asks for the activity when it is first polled, and is
//! ready once the activity has closed.
//!
//! ```text
//! Unasked ── first poll ──▶ Open(id) ── closing event, cancellation ──▶ Done
//!    │                        │
//!    └── drop: nothing        └── drop: asks for the activity's cancellation
//! ```

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, ready};

use futures::future::FusedFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Activity, ActivityError, Request};
use crate::bindings::everfold::workflow::types::EventId;
use crate::payload::Payload;
use crate::run::{ActivityOutcome, Run};

/// A call of an activity. Nothing is asked for before it is polled; dropping it before it is ready
/// asks for the activity's cancellation, unless the activity's [cancellation type] is to abandon it.
///
/// [cancellation type]: super::CancellationType
#[must_use = "an activity is not asked for before its call is polled"]
pub struct ActivityCall<O> {
    run: Rc<Run>,
    stage: Stage,
    result: PhantomData<fn() -> O>,
}

enum Stage {
    Unasked(Box<Request>),
    Refused(Box<ActivityError>),
    Open { id: EventId, activity_type: String },
    Done,
}

impl<O> ActivityCall<O> {
    pub(crate) fn new<I: Serialize + ?Sized>(run: Rc<Run>, activity: Activity<I, O>, input: &I) -> Self {
        let stage = match Payload::encode(input) {
            Ok(input) => Stage::Unasked(Box::new(activity.into_request(input))),
            Err(reason) => Stage::Refused(Box::new(ActivityError::invalid_input(&activity.name, &reason))),
        };
        Self { run, stage, result: PhantomData }
    }

    fn ask(run: &Run, request: Request) -> Result<Stage, ActivityError> {
        if run.refuses_new_operations() {
            return Err(ActivityError::never_asked(&request.name, run.canceled()));
        }
        let id = run.schedule_activity(&request);
        Ok(Stage::Open { id, activity_type: request.name.into_owned() })
    }
}

impl<O: DeserializeOwned> ActivityCall<O> {
    /// Gives, beside the result, the attempt that made it; the first is 1.
    pub fn with_attempt(self) -> WithAttempt<O> {
        WithAttempt(self)
    }

    fn poll_closed(&mut self, task: &mut TaskContext<'_>) -> Poll<Result<(O, u32), ActivityError>> {
        if let Stage::Unasked(_) | Stage::Refused(_) = &self.stage {
            match std::mem::replace(&mut self.stage, Stage::Done) {
                Stage::Unasked(request) => self.stage = Self::ask(&self.run, *request)?,
                Stage::Refused(error) => return Poll::Ready(Err(*error)),
                Stage::Open { .. } | Stage::Done => {}
            }
        }
        let Stage::Open { id, activity_type } = &mut self.stage else {
            panic!("an activity's call was polled after it was ready");
        };
        let outcome = ready!(self.run.poll_activity(*id, task));
        let activity_type = std::mem::take(activity_type);
        self.stage = Stage::Done;
        Poll::Ready(match outcome {
            ActivityOutcome::Completed { attempt, result } => match result.decode() {
                Ok(output) => Ok((output, attempt)),
                Err(reason) => Err(ActivityError::invalid_result(&activity_type, attempt, &reason)),
            },
            ActivityOutcome::ClosedBadly { kind, attempt, failure } => {
                Err(ActivityError::closed(kind, attempt, failure))
            }
            ActivityOutcome::Canceled => Err(ActivityError::given_up(&activity_type, self.run.canceled())),
        })
    }
}

impl<O: DeserializeOwned> Future for ActivityCall<O> {
    type Output = Result<O, ActivityError>;

    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Self::Output> {
        self.get_mut().poll_closed(task).map_ok(|(output, _)| output)
    }
}

impl<O: DeserializeOwned> FusedFuture for ActivityCall<O> {
    fn is_terminated(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }
}

impl<O> Drop for ActivityCall<O> {
    fn drop(&mut self) {
        if let Stage::Open { id, .. } = self.stage {
            self.run.drop_activity(id);
        }
    }
}

impl<O> fmt::Debug for ActivityCall<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.stage {
            Stage::Unasked(request) => write!(f, "ActivityCall({}, not asked for)", request.name),
            Stage::Refused(error) => write!(f, "ActivityCall(refused: {error})"),
            Stage::Open { id, activity_type } => write!(f, "ActivityCall({activity_type}, {id})"),
            Stage::Done => f.write_str("ActivityCall(done)"),
        }
    }
}

/// A call of an activity that also tells which attempt made the result.
#[must_use = "an activity is not asked for before its call is polled"]
#[derive(Debug)]
pub struct WithAttempt<O>(ActivityCall<O>);

impl<O: DeserializeOwned> Future for WithAttempt<O> {
    type Output = Result<(O, u32), ActivityError>;

    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Self::Output> {
        self.get_mut().0.poll_closed(task)
    }
}

impl<O: DeserializeOwned> FusedFuture for WithAttempt<O> {
    fn is_terminated(&self) -> bool {
        self.0.is_terminated()
    }
}
