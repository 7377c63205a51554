//! Group commit: whatever was submitted while the last transaction was in flight shares the next
//! one. Nothing waits on purpose, so that a lone decision pays for one commit and no more.
//!
//! ```text
//! folding threads ── submit ──▶ queue ──▶ the store's writer: one transaction, one flush
//!        ▲                        └──── while that is in flight, further ones queue up ────┐
//!        └───── told, one by one, by whoever brings the answer; the next batch begins ◀────┘
//! ```
//!
//! It has no thread and no task of its own: the first decision of a quiet store begins a transaction where
//! it is submitted, the others begin where the one before them is answered.
//!
//! The queue has no bound of its own: who submits bounds what is in flight.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use everfold_core::decision::Decision;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::{CommitError, Store, Verdict};
use crate::telemetry::Telemetry;

/// The most that share one transaction.
const MOST_IN_A_TRANSACTION: usize = 1_024;

/// What became of one decision; the error is that of its whole transaction.
pub type Committed = Result<Verdict, Arc<CommitError>>;

/// Told once what became of its decision, and given it back. It runs on the store's own thread: it hands on, it does not
/// work, and it never panics.
pub type OnDone = Box<dyn FnOnce(Committed, Decision) + Send>;

/// The way into the store for decisions: cheap to clone.
#[derive(Clone)]
pub struct Committer {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    telemetry: Telemetry,
    runtime: Handle,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    decisions: Vec<Decision>,
    /// Whom to tell, in the same order.
    waiting: Vec<OnDone>,
    /// Whether a transaction is in flight: its answer begins the next one.
    is_committing: bool,
}

impl fmt::Debug for Committer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Committer").finish_non_exhaustive()
    }
}

impl Committer {
    /// Commits into `store`, whose tasks, if it has any, run on the present runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, telemetry: Telemetry) -> Self {
        let (runtime, queue) = (Handle::current(), Mutex::default());
        Self { inner: Arc::new(Inner { store, telemetry, runtime, queue }) }
    }

    /// Submits a decision. Decisions are committed in the order of their submission, and `on_done`
    /// is told in that order.
    pub fn submit(&self, decision: Decision, on_done: OnDone) {
        let mut queue = self.inner.queue.lock();
        queue.decisions.push(decision);
        queue.waiting.push(on_done);
        if !queue.is_committing {
            queue.is_committing = true;
            let (decisions, waiting) = queue.take();
            drop(queue);
            Inner::commit(Arc::clone(&self.inner), decisions, waiting);
        }
    }
}

impl Queue {
    /// Takes what shares the next transaction, in order.
    fn take(&mut self) -> (Vec<Decision>, Vec<OnDone>) {
        let Self { decisions, waiting, .. } = self;
        if decisions.len() <= MOST_IN_A_TRANSACTION {
            return (std::mem::take(decisions), std::mem::take(waiting));
        }
        let rest = (decisions.split_off(MOST_IN_A_TRANSACTION), waiting.split_off(MOST_IN_A_TRANSACTION));
        (std::mem::replace(decisions, rest.0), std::mem::replace(waiting, rest.1))
    }
}

impl Inner {
    fn commit(self: Arc<Self>, decisions: Vec<Decision>, waiting: Vec<OnDone>) {
        let (store, runtime) = (Arc::clone(&self.store), self.runtime.clone());
        let (count, began) = (decisions.len(), Instant::now());
        let decisions = Arc::new(decisions);
        let in_flight = Arc::clone(&decisions);
        let on_committed = move |outcome: Result<Vec<Verdict>, CommitError>| {
            match &outcome {
                Ok(_) => self.telemetry.transaction(count, began.elapsed()),
                Err(CommitError::RolledBack(_)) => self.telemetry.rolled_back(),
                // The host ends; there is nobody to ask for its metrics.
                Err(CommitError::EpochOver | CommitError::Uncertain(_)) => {}
            }
            tell(waiting, Arc::unwrap_or_clone(in_flight), outcome);
            let mut queue = self.queue.lock();
            if queue.decisions.is_empty() {
                queue.is_committing = false;
                return;
            }
            let (decisions, waiting) = queue.take();
            drop(queue);
            self.commit(decisions, waiting);
        };
        store.submit(&runtime, decisions, Box::new(on_committed));
    }
}

fn tell(waiting: Vec<OnDone>, decisions: Vec<Decision>, outcome: Result<Vec<Verdict>, CommitError>) {
    let all = waiting.into_iter().zip(decisions);
    match outcome {
        Ok(verdicts) => {
            assert_eq!(verdicts.len(), all.len(), "a store answers for each decision");
            for ((on_done, decision), verdict) in all.zip(verdicts) {
                on_done(Ok(verdict), decision);
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for (on_done, decision) in all {
                on_done(Err(Arc::clone(&error)), decision);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use everfold_core::ids::EventId;
    use tokio::sync::{oneshot, watch};

    use super::*;
    use crate::store::SqliteStore;
    use crate::store::conformance::fixtures::{advance, key, start};

    /// A store in a folder of its own, and the folder.
    async fn store() -> (tempfile::TempDir, Arc<SqliteStore>) {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path()).await.unwrap();
        (folder, Arc::new(store))
    }

    /// Collects what each submission was told, with its number.
    #[derive(Clone, Default)]
    struct Told(watch::Sender<Vec<(usize, Committed)>>);

    impl Told {
        fn on_done(&self, number: usize) -> OnDone {
            let told = self.0.clone();
            Box::new(move |committed, _| told.send_modify(|told| told.push((number, committed))))
        }

        /// Waits until so many were told; gives what they were told, in that order.
        async fn all(&self, count: usize) -> Vec<(usize, Committed)> {
            let mut told = self.0.subscribe();
            told.wait_for(|told| told.len() >= count).await.expect("the sender lives").clone()
        }
    }

    #[tokio::test]
    async fn answers_come_in_the_order_of_submission() {
        let (_folder, store) = store().await;
        let committer = Committer::new(store.clone(), Telemetry::default());
        let told = Told::default();
        // More than one transaction holds, and a refused one among them.
        let runs = MOST_IN_A_TRANSACTION + 10;
        for run in 0..runs {
            committer.submit(start(run), told.on_done(run));
        }
        committer.submit(advance(0, EventId(99), 1), told.on_done(runs));
        committer.submit(advance(0, EventId(2), 1), told.on_done(runs + 1));

        let told = told.all(runs + 2).await;
        let verdicts = told.iter().map(|(n, told)| (*n, told.as_ref().expect("it was committed").clone()));
        let mut expected: Vec<_> = (0..runs).map(|run| (run, Verdict::COMMITTED)).collect();
        expected.push((runs, Verdict::Fenced));
        expected.push((runs + 1, Verdict::COMMITTED));
        assert_eq!(verdicts.collect::<Vec<_>>(), expected);
        let row = store.run(&key(0)).await.unwrap().expect("the run is there");
        assert_eq!(row.next_event_id, EventId(3));
    }

    #[tokio::test]
    async fn everybody_in_a_failed_transaction_is_told_why() {
        let (_folder, store) = store().await;
        store.close().await.unwrap();
        let committer = Committer::new(store, Telemetry::default());
        let told = Told::default();
        committer.submit(start(0), told.on_done(0));
        committer.submit(start(1), told.on_done(1));
        let told = told.all(2).await;
        let errors: Vec<_> =
            told.iter().map(|(n, told)| (*n, told.as_ref().unwrap_err().to_string())).collect();
        let closed = "the transaction was rolled back: the store is closed".to_owned();
        assert_eq!(errors, [(0, closed.clone()), (1, closed)]);
    }

    #[tokio::test]
    async fn what_was_submitted_is_done_when_the_committer_is_gone() {
        let (_folder, store) = store().await;
        let committer = Committer::new(store.clone(), Telemetry::default());
        let (done, is_done) = oneshot::channel();
        committer.submit(start(0), Box::new(|committed, _| _ = done.send(committed)));
        drop(committer);
        assert_eq!(is_done.await.unwrap().unwrap(), Verdict::COMMITTED);
    }
}
