//! What the host takes on at once: the bounds that a caller meets before anything is done for it.
//!
//! ```text
//! connection ─▶ bytes of bodies ─▶ writes under way ─▶ activities under way ─▶ mailbox ─▶ fold ─▶ commit
//! (host/server/listener, bounds)   (here; starts only: the latter)              bounded by what was let in
//! ```
//!
//! - **Writes** (starts, signals, requests to cancel, terminations) are under way from here until their commit
//!   is answered. Mailboxes and the committer's queue hold nothing of callers beyond them.
//! - **Activities** are under way from the commit that schedules them to the one that closes them. Above the
//!   bound no run is *started*; what is open goes on, because only that makes room again.
//! - **A store that cannot be written** takes no write at all, so that what little it can take is for open
//!   runs; what they could not write waits here until it can.
//!
//! A refusal is `Busy`: nothing was done, and the caller may ask again. Nothing here waits for room: a queue
//! before a full host would only be one more thing that grows.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::Parts;
use super::api::ApiError;
use crate::store::{Condition, StoreError};

/// The bounds.
#[derive(Clone, Copy, Debug)]
pub struct LoadLimits {
    /// Writes of callers that are not on disk yet.
    pub writes_under_way: usize,
    /// Activities of all runs that are scheduled and not closed.
    pub activities_under_way: usize,
}

impl Default for LoadLimits {
    fn default() -> Self {
        Self { writes_under_way: 10_000, activities_under_way: 100_000 }
    }
}

/// What was let in, and how the store stands.
#[derive(Debug)]
pub(super) struct Admission {
    limits: LoadLimits,
    writes: Semaphore,
    store: watch::Receiver<Condition>,
    /// Runs in a row that could not be read.
    unread: AtomicU64,
}

impl Admission {
    pub(super) fn new(limits: LoadLimits, store: watch::Receiver<Condition>) -> Self {
        Self { limits, writes: Semaphore::new(limits.writes_under_way), store, unread: AtomicU64::new(0) }
    }

    /// Why the store takes no write, if so.
    pub(super) fn trouble(&self) -> Option<String> {
        match &*self.store.borrow() {
            Condition::Writable => None,
            Condition::Refusing(reason) => Some(format!("the store cannot be written: {reason}")),
            Condition::Lost(reason) => Some(format!("the store is lost to this process: {reason}")),
        }
    }

    /// Waits until the store may take writes again.
    pub(super) async fn writable(&self) {
        let mut store = self.store.clone();
        // A store that has gone says nothing more, and takes nothing more.
        let _ = store.wait_for(|condition| !matches!(condition, Condition::Refusing(_))).await;
    }

    /// Waits for the end of the store; gives the reason.
    pub(super) async fn lost(&self) -> Option<String> {
        let mut store = self.store.clone();
        let condition = store.wait_for(|condition| matches!(condition, Condition::Lost(_))).await;
        match condition.as_deref() {
            Ok(Condition::Lost(reason)) => Some(reason.clone()),
            Ok(Condition::Writable | Condition::Refusing(_)) | Err(_) => None,
        }
    }

    /// A run was read.
    pub(super) fn was_read(&self) {
        if self.unread.load(Ordering::Relaxed) > 0 {
            let failures = self.unread.swap(0, Ordering::Relaxed);
            tracing::info!(failures, "runs can be loaded again");
        }
    }

    /// A run could not be read: said once for all that follow.
    pub(super) fn was_not_read(&self, error: &StoreError) {
        if self.unread.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::error!(%error, "runs cannot be loaded; they are tried again each second");
        }
    }
}

impl Parts {
    /// Lets a write in until the permit is dropped.
    ///
    /// # Errors
    /// `Busy`.
    pub(super) fn admit_write(&self) -> Result<SemaphorePermit<'_>, ApiError> {
        if let Some(reason) = self.admission.trouble() {
            return Err(self.refused("store", reason));
        }
        self.admission.writes.try_acquire().map_err(|_| {
            let most = self.admission.limits.writes_under_way;
            self.refused("writes_under_way", format!("{most} writes are under way already"))
        })
    }

    /// Lets a start in until the permit is dropped.
    ///
    /// # Errors
    /// `Busy`.
    pub(super) fn admit_start(&self) -> Result<SemaphorePermit<'_>, ApiError> {
        let most = self.admission.limits.activities_under_way;
        if self.dispatcher.under_way() >= most {
            let reason = format!("{most} activities are under way already");
            return Err(self.refused("activities_under_way", reason));
        }
        self.admit_write()
    }

    fn refused(&self, bound: &'static str, reason: String) -> ApiError {
        self.telemetry.refused(bound);
        ApiError::Busy(reason)
    }
}
