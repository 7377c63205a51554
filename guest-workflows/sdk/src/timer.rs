//! Timers: futures that are ready once the run's time has passed a moment.
//!
//! Like an activity's call, a timer is asked for when it is first polled; dropping it before it has
//! fired cancels it.

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use futures::future::FusedFuture;

use crate::bindings::everfold::workflow::types::EventId;
use crate::cancellation::Canceled;
use crate::run::{Run, TimerOutcome};
use crate::time::{Timestamp, whole_ms};

/// A timer. It fires that long after the moment at which it was first polled, or at the moment that it is to wait for.
#[must_use = "a timer is not started before it is polled"]
pub struct Timer {
    run: Rc<Run>,
    when: When,
    summary: Cow<'static, str>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum When {
    After(Duration),
    At(Timestamp),
}

#[derive(Clone, Copy)]
enum Stage {
    Unasked,
    Open(EventId),
    Done,
}

impl Timer {
    pub(crate) fn new(run: Rc<Run>, duration: Duration) -> Self {
        Self { run, when: When::After(duration), summary: Cow::Borrowed(""), stage: Stage::Unasked }
    }

    pub(crate) fn at(run: Rc<Run>, moment: Timestamp) -> Self {
        Self { run, when: When::At(moment), summary: Cow::Borrowed(""), stage: Stage::Unasked }
    }

    /// Gives one line for people, shown beside the timer.
    pub fn summary(mut self, line: impl Into<Cow<'static, str>>) -> Self {
        self.summary = line.into();
        self
    }
}

/// Ready with an error only when the run is cancelled and the timer is not shielded.
impl Future for Timer {
    type Output = Result<(), Canceled>;

    fn poll(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let id = match self.stage {
            Stage::Unasked if self.run.refuses_new_operations() => {
                self.stage = Stage::Done;
                return Poll::Ready(Err(self.run.canceled()));
            }
            Stage::Unasked => {
                let duration = match self.when {
                    When::After(duration) => duration,
                    When::At(moment) => moment.duration_since(self.run.now()),
                };
                let id = self.run.start_timer(whole_ms(duration), &self.summary);
                self.stage = Stage::Open(id);
                id
            }
            Stage::Open(id) => id,
            Stage::Done => panic!("a timer was polled after it was ready"),
        };
        let outcome = ready!(self.run.poll_timer(id, task));
        self.stage = Stage::Done;
        Poll::Ready(match outcome {
            TimerOutcome::Fired => Ok(()),
            TimerOutcome::Canceled => Err(self.run.canceled()),
        })
    }
}

impl FusedFuture for Timer {
    fn is_terminated(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Stage::Open(id) = self.stage {
            self.run.drop_timer(id);
        }
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stage {
            Stage::Unasked => write!(f, "Timer({:?}, not started)", self.when),
            Stage::Open(id) => write!(f, "Timer({:?}, {id})", self.when),
            Stage::Done => write!(f, "Timer({:?}, done)", self.when),
        }
    }
}
