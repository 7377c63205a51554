//! Waiting until something holds that update handlers, or other branches of the workflow, bring about.
//!
//! ```text
//! polled: does it hold? ── yes ──▶ Ready
//!            │ no
//!            ▼
//!         waits ── nothing else is awake: does it hold? ── yes ──▶ woken
//! ```
//!
//! Owns the table of those who wait. A predicate looks, and must never change anything.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, Waker};

use futures::future::FusedFuture;

use crate::cancellation::Canceled;
use crate::run::Run;

type Predicate = Rc<dyn Fn() -> bool>;

/// A wait until something holds.
#[must_use = "futures do nothing unless polled"]
pub struct Condition {
    run: Rc<Run>,
    holds: Predicate,
    stage: Stage,
}

#[derive(Clone, Copy)]
enum Stage {
    Unpolled,
    Waiting(u64),
    Done,
}

impl Condition {
    pub(crate) fn new(run: Rc<Run>, holds: impl Fn() -> bool + 'static) -> Self {
        Self { run, holds: Rc::new(holds), stage: Stage::Unpolled }
    }
}

/// Ready with [`Canceled`] only when the run is cancelled, the wait is not shielded, and it does not hold.
impl Future for Condition {
    type Output = Result<(), Canceled>;

    fn poll(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let id = match self.stage {
            Stage::Unpolled => None,
            Stage::Waiting(id) => Some(id),
            Stage::Done => panic!("a wait for a condition was polled after it was ready"),
        };
        let result = if (self.holds)() {
            Ok(())
        } else if self.run.refuses_new_operations() {
            Err(self.run.canceled())
        } else {
            let mut waiting = self.run.conditions().borrow_mut();
            let id = waiting.wait(id, &self.holds, task.waker());
            drop(waiting);
            self.stage = Stage::Waiting(id);
            return Poll::Pending;
        };
        if let Some(id) = id {
            self.run.conditions().borrow_mut().remove(id);
        }
        self.stage = Stage::Done;
        Poll::Ready(result)
    }
}

impl FusedFuture for Condition {
    fn is_terminated(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }
}

impl Drop for Condition {
    fn drop(&mut self) {
        if let Stage::Waiting(id) = self.stage {
            self.run.conditions().borrow_mut().remove(id);
        }
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Condition")
    }
}

struct Waiter {
    holds: Predicate,
    /// None once it was woken, until it is polled again.
    waker: Option<Waker>,
}

/// Who waits for a condition, in the order in which each was first polled.
#[derive(Default)]
pub(crate) struct Conditions {
    waiting: BTreeMap<u64, Waiter>,
    last: u64,
}

impl Conditions {
    fn wait(&mut self, id: Option<u64>, holds: &Predicate, waker: &Waker) -> u64 {
        let id = id.unwrap_or_else(|| {
            self.last += 1;
            self.last
        });
        self.waiting.insert(id, Waiter { holds: Rc::clone(holds), waker: Some(waker.clone()) });
        id
    }

    fn remove(&mut self, id: u64) {
        self.waiting.remove(&id);
    }

    /// What is waited for by those that sleep.
    pub(crate) fn asleep(&self) -> Vec<(u64, Predicate)> {
        let asleep = self.waiting.iter().filter(|(_, waiter)| waiter.waker.is_some());
        asleep.map(|(id, waiter)| (*id, Rc::clone(&waiter.holds))).collect()
    }

    /// The waker of a wait.
    pub(crate) fn take(&mut self, id: u64) -> Option<Waker> {
        self.waiting.get_mut(&id)?.waker.take()
    }

    /// The wakers of all.
    pub(crate) fn take_all(&mut self) -> Vec<Waker> {
        self.waiting.values_mut().filter_map(|waiter| waiter.waker.take()).collect()
    }
}
