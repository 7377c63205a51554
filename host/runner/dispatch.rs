//! Activities that this host has under way: dispatched after the commit that scheduled them, and stopped when
//! their run asks or closes.
//!
//! | file | owns |
//! |---|---|
//! | `driver` | one activity on its way from attempt to attempt; native attempts |
//! | `held` | attempts outside the host: the wait for a worker, leases |
//! | `requests` | what operators and reports do to a driver |
//! | `queues` | task queues: where what waits for a worker and a worker that waits meet |
//!
//! An activity stays known here until the event that closes it is committed. That is how a run that
//! is loaded again tells an activity that is under way from one that an earlier process left behind.

mod driver;
mod held;
mod queues;
mod requests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use everfold_core::decision::PendingActivity;
use everfold_core::failure::{Failure, TimeoutType};
use everfold_core::ids::{EventId, RunKey};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Parts;
use crate::activity::AttemptTask;
use crate::activity::desk::{Desk, End};
use driver::{Driver, Stage};
use queues::TaskQueues;
pub(super) use queues::Withdrawn;

/// The activities under way, by run.
#[derive(Debug, Default)]
pub(super) struct Dispatcher {
    open: Mutex<HashMap<RunKey, BTreeMap<EventId, Arc<Desk>>>>,
    /// How many there are in `open`.
    count: AtomicUsize,
    tasks: TaskTracker,
    /// Set when the host drains: attempts that have not begun do not begin.
    draining: CancellationToken,
    /// Set when one of these would have counted an attempt that an earlier process lost.
    left_lost: AtomicBool,
    /// Set when the drain's grace is over: attempts under way are given up.
    interrupted: CancellationToken,
    /// Where activities wait for workers.
    pub(super) queues: TaskQueues,
}

/// Why an attempt may be the wrong number to begin with: what an earlier process left.
#[derive(Clone, Debug)]
pub(super) struct Left {
    /// The activity's row, if one was written.
    pub(super) row: Option<PendingActivity>,
    /// Whether the process before this one may have had an attempt under way.
    pub(super) may_have_run: bool,
    /// Whether the run has asked the activity to stop.
    pub(super) cancel_requested: bool,
}

impl Dispatcher {
    /// Whether the activity is under way in this process.
    pub(super) fn is_known(&self, key: &RunKey, id: EventId) -> bool {
        self.open.lock().get(key).is_some_and(|activities| activities.contains_key(&id))
    }

    /// The desk of an activity that is under way in this process.
    pub(super) fn desk(&self, key: &RunKey, id: EventId) -> Option<Arc<Desk>> {
        self.open.lock().get(key).and_then(|activities| activities.get(&id)).map(Arc::clone)
    }

    /// How many activities of all runs are under way: scheduled, and not closed.
    pub(super) fn under_way(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether an attempt that an earlier process lost was not counted, because the host drains.
    pub(super) fn has_left_lost_ones(&self) -> bool {
        self.left_lost.load(Ordering::SeqCst)
    }

    /// Begins the first attempt of an activity that was scheduled just now.
    pub(super) fn dispatch(parts: &Arc<Parts>, task: AttemptTask) {
        Self::spawn(parts, Driver::scheduled(parts, task), Stage::Due);
    }

    /// Goes on with an activity that an earlier process left open.
    pub(super) fn resume(parts: &Arc<Parts>, task: AttemptTask, left: Left) {
        let now = parts.clock.now();
        if left.cancel_requested {
            task.desk.cancellation().cancel();
        }
        let is_native = parts.attempts.serves(&task.scheduled);
        let driver = Driver::resumed(parts, task, left.row, now);
        let stage = if driver.is_held() {
            Stage::Held
        } else if is_native && left.may_have_run && driver.may_have_begun(now) {
            Stage::Lost
        } else {
            Stage::Waiting
        };
        Self::spawn(parts, driver, stage);
    }

    fn spawn(parts: &Arc<Parts>, driver: Driver, stage: Stage) {
        let dispatcher = &parts.dispatcher;
        // Who drains waits for what is past the next line.
        let _begins = dispatcher.tasks.token();
        if dispatcher.draining.is_cancelled() {
            dispatcher.left_lost.fetch_or(stage == Stage::Lost, Ordering::SeqCst);
            return;
        }
        let (key, id, desk) = driver.place();
        let before = dispatcher.open.lock().entry(key).or_default().insert(id, desk);
        dispatcher.count.fetch_add(usize::from(before.is_none()), Ordering::Relaxed);
        let mut driving = Box::pin(driver.drive(stage));
        // An activity that ends without waiting for anything needs no task: two changes of threads less.
        let _entered = parts.runtime.enter();
        if driving.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            dispatcher.tasks.spawn_on(driving, &parts.runtime);
        }
    }

    /// Asks an activity to stop.
    pub(super) fn cancel(&self, key: &RunKey, id: EventId) {
        if let Some(desk) = self.desk(key, id) {
            desk.cancellation().cancel();
        }
    }

    /// Forgets an activity whose end is committed, or will not be.
    pub(super) fn closed(&self, key: &RunKey, id: EventId, end: End) {
        let mut open = self.open.lock();
        let Some(activities) = open.get_mut(key) else { return };
        let closed = activities.remove(&id);
        self.count.fetch_sub(usize::from(closed.is_some()), Ordering::Relaxed);
        if activities.is_empty() {
            open.remove(key);
        }
        drop(open);
        if let Some(desk) = closed {
            desk.end(end);
        }
    }

    /// Stops all activities of a run that has closed.
    pub(super) fn run_closed(&self, key: &RunKey) {
        let activities = self.open.lock().remove(key).unwrap_or_default();
        self.count.fetch_sub(activities.len(), Ordering::Relaxed);
        for desk in activities.into_values() {
            desk.end(End::Gone);
            desk.cancellation().cancel();
        }
    }

    /// Lets attempts under way end for up to `grace`, then gives them up. What is under way outside the host goes on.
    pub(super) async fn drain(&self, grace: Duration) {
        self.draining.cancel();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            self.interrupted.cancel();
            self.tasks.wait().await;
        }
    }
}

/// What an attempt fails with that an earlier process had under way when it ended.
fn lost(attempt: u32) -> Failure {
    let message = format!("attempt {attempt} was lost when the host stopped");
    Failure::timed_out(TimeoutType::StartToClose, message)
}
