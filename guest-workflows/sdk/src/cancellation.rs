//! The run's cancellation as a workflow sees it: a request that arrives, and a shield against it.
//!
//! When cancellation is requested, every operation that is open and not shielded ends as cancelled,
//! and none begins any more outside a shield. The workflow unwinds with `?`; what it must still do,
//! it does in a shield.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll};

use futures::future::{FusedFuture, LocalBoxFuture};

use crate::failure::Failure;
use crate::payload::Payload;
use crate::run::Run;

/// The run was asked to cancel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the run was asked to cancel: {reason}")]
pub struct Canceled {
    reason: String,
}

impl Canceled {
    pub(crate) fn new(reason: String) -> Self {
        Self { reason }
    }

    /// What was said when cancellation was requested.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    pub(crate) fn into_failure(self, message: String) -> Failure {
        // A string is always JSON.
        let details = Payload::encode(&self.reason).into_iter().collect();
        Failure::canceled(message, details)
    }
}

impl From<Canceled> for Failure {
    fn from(canceled: Canceled) -> Self {
        let message = canceled.to_string();
        canceled.into_failure(message)
    }
}

/// Is ready when the run's cancellation has been requested.
#[must_use = "futures do nothing unless polled"]
pub struct Cancellation {
    run: Rc<Run>,
    polled: Polled,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Polled {
    Pending,
    Ready,
}

impl Cancellation {
    pub(crate) fn new(run: Rc<Run>) -> Self {
        Self { run, polled: Polled::Pending }
    }
}

impl Future for Cancellation {
    type Output = Canceled;

    fn poll(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Canceled> {
        let canceled = self.run.poll_cancellation(task);
        if canceled.is_ready() {
            self.polled = Polled::Ready;
        }
        canceled
    }
}

impl FusedFuture for Cancellation {
    fn is_terminated(&self) -> bool {
        self.polled == Polled::Ready
    }
}

impl fmt::Debug for Cancellation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cancellation")
    }
}

/// A future whose operations the run's cancellation does not reach.
#[must_use = "futures do nothing unless polled"]
pub struct Shield<'a, T> {
    run: Rc<Run>,
    inner: LocalBoxFuture<'a, T>,
}

impl<'a, T> Shield<'a, T> {
    pub(crate) fn new(run: Rc<Run>, inner: impl Future<Output = T> + 'a) -> Self {
        Self { run, inner: Box::pin(inner) }
    }
}

impl<T> Future for Shield<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<T> {
        let Self { run, inner } = &mut *self;
        run.shielded(|| inner.as_mut().poll(task))
    }
}

impl<T> fmt::Debug for Shield<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shield")
    }
}
