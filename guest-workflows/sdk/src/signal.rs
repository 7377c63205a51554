//! Signals: messages to the run, which stay with the host until the workflow takes them.
//!
//! ```text
//! SignalReceived ──▶ wakes whoever waits for that name
//!                       │ poll
//!                       ▼
//!                  take-signal ──▶ SignalTaken ──▶ Ready
//! ```
//!
//! Must never hold a signal: one is taken in the poll that gives it away. So a wait that is dropped
//! loses nothing, and what nobody waits for goes over to the next run on continue-as-new.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, Waker};

use futures::future::FusedFuture;
use serde::de::DeserializeOwned;

use crate::cancellation::Canceled;
use crate::failure::Failure;
use crate::payload::{DecodeError, Payload};
use crate::run::Run;

/// The type of the failure that an [`InvalidSignal`] becomes.
pub const INVALID_SIGNAL: &str = "InvalidSignal";

/// Receives the run's signals of one name, oldest first. Copies take from the same signals.
pub struct SignalReceiver<T> {
    run: Rc<Run>,
    name: Rc<str>,
    input: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> SignalReceiver<T> {
    pub(crate) fn new(run: Rc<Run>, name: &str) -> Self {
        Self { run, name: Rc::from(name), input: PhantomData }
    }

    /// The name of the signals.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits for the next signal and takes it. Of several waits, the one that is polled first gets it.
    pub fn recv(&self) -> Receive<T> {
        Receive {
            run: Rc::clone(&self.run),
            name: Rc::clone(&self.name),
            stage: Stage::Unpolled,
            input: PhantomData,
        }
    }

    /// Takes the next signal, if there is one already. It does so in a cancelled run too.
    ///
    /// # Errors
    ///
    /// When the signal's input is not of type `T`; the signal is taken all the same.
    #[must_use = "the signal is taken, and known only here"]
    pub fn try_recv(&self) -> Option<Result<T, InvalidSignal>> {
        take(&self.run, &self.name)
    }
}

impl<T> Clone for SignalReceiver<T> {
    fn clone(&self) -> Self {
        Self { run: Rc::clone(&self.run), name: Rc::clone(&self.name), input: PhantomData }
    }
}

impl<T> fmt::Debug for SignalReceiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SignalReceiver").field(&self.name).finish()
    }
}

fn take<T: DeserializeOwned>(run: &Run, name: &str) -> Option<Result<T, InvalidSignal>> {
    let signal = run.host.take_signal(name)?;
    Some(signal.input.decode().map_err(|reason| InvalidSignal {
        name: name.to_owned(),
        reason,
        input: signal.input,
    }))
}

/// A wait for a signal. Dropping it before it is ready loses none.
#[must_use = "futures do nothing unless polled"]
pub struct Receive<T> {
    run: Rc<Run>,
    name: Rc<str>,
    stage: Stage,
    input: PhantomData<fn() -> T>,
}

#[derive(Clone, Copy)]
enum Stage {
    Unpolled,
    Waiting(WaiterId),
    Done,
}

/// Ready with [`SignalError::Canceled`] only when the run is cancelled and the wait is not shielded.
impl<T: DeserializeOwned> Future for Receive<T> {
    type Output = Result<T, SignalError>;

    fn poll(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let waiter = match self.stage {
            Stage::Unpolled => None,
            Stage::Waiting(id) => Some(id),
            Stage::Done => panic!("a wait for a signal was polled after it was ready"),
        };
        let received = if self.run.refuses_new_operations() {
            Some(Err(SignalError::Canceled(self.run.canceled())))
        } else {
            take(&self.run, &self.name).map(|result| result.map_err(SignalError::Invalid))
        };
        let mut waiters = self.run.signal_waiters().borrow_mut();
        let (stage, poll) = match received {
            Some(result) => {
                waiter.into_iter().for_each(|id| waiters.remove(id));
                (Stage::Done, Poll::Ready(result))
            }
            None => (Stage::Waiting(waiters.wait(waiter, &self.name, task.waker())), Poll::Pending),
        };
        drop(waiters);
        self.stage = stage;
        poll
    }
}

impl<T: DeserializeOwned> FusedFuture for Receive<T> {
    fn is_terminated(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }
}

impl<T> Drop for Receive<T> {
    fn drop(&mut self) {
        if let Stage::Waiting(id) = self.stage {
            self.run.signal_waiters().borrow_mut().remove(id);
        }
    }
}

impl<T> fmt::Debug for Receive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receive").field(&self.name).finish()
    }
}

/// Why a wait gave no signal's value.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// The run was cancelled. No signal was taken.
    #[error(transparent)]
    Canceled(#[from] Canceled),
    /// A signal was taken, and its input is not of the receiver's type.
    #[error(transparent)]
    Invalid(#[from] InvalidSignal),
}

impl From<SignalError> for Failure {
    fn from(error: SignalError) -> Self {
        match error {
            SignalError::Canceled(canceled) => canceled.into(),
            SignalError::Invalid(invalid) => invalid.into(),
        }
    }
}

/// A signal whose input is not of the type that its receiver takes.
#[derive(Debug, thiserror::Error)]
#[error("the input of signal `{name}` does not decode: {reason}")]
pub struct InvalidSignal {
    name: String,
    #[source]
    reason: DecodeError,
    input: Payload,
}

impl InvalidSignal {
    /// What was sent.
    #[must_use]
    pub fn input(&self) -> &Payload {
        &self.input
    }
}

impl From<InvalidSignal> for Failure {
    fn from(invalid: InvalidSignal) -> Self {
        Self::application(INVALID_SIGNAL, invalid.to_string()).non_retryable()
    }
}

/// Names a wait among those of its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WaiterId(u64);

/// The waits of a run, in the order in which each was first polled.
#[derive(Default)]
pub(crate) struct Waiters {
    waiting: BTreeMap<WaiterId, Waiter>,
    last: u64,
}

struct Waiter {
    name: Rc<str>,
    /// None once it was woken, until it is polled again.
    waker: Option<Waker>,
}

impl Waiters {
    /// Leaves a waker with a wait, which is a new one if it has no id.
    fn wait(&mut self, id: Option<WaiterId>, name: &Rc<str>, waker: &Waker) -> WaiterId {
        let id = id.unwrap_or_else(|| {
            self.last += 1;
            WaiterId(self.last)
        });
        self.waiting.insert(id, Waiter { name: Rc::clone(name), waker: Some(waker.clone()) });
        id
    }

    fn remove(&mut self, id: WaiterId) {
        self.waiting.remove(&id);
    }

    /// The wakers of those who wait for that name.
    pub(crate) fn take(&mut self, name: &str) -> Vec<Waker> {
        let waiters = self.waiting.values_mut().filter(|waiter| &*waiter.name == name);
        waiters.filter_map(|waiter| waiter.waker.take()).collect()
    }

    /// The wakers of all.
    pub(crate) fn take_all(&mut self) -> Vec<Waker> {
        self.waiting.values_mut().filter_map(|waiter| waiter.waker.take()).collect()
    }
}
