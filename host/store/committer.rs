//! Group commit: whatever was submitted while the last transaction was in flight shares the next
//! one. Nothing waits on purpose, so that a lone decision pays for one commit and no more.
//!
//! The queue has no bound of its own: who submits bounds what is in flight.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use everfold_core::decision::Decision;
use tokio::sync::{mpsc, oneshot};

use super::{CommitError, Store, Verdict};
use crate::telemetry::Telemetry;

/// The most that share one transaction.
const MOST_IN_A_TRANSACTION: usize = 1_024;

/// What became of one decision; the error is that of its whole transaction.
pub type Committed = Result<Verdict, Arc<CommitError>>;

/// Told once what became of its decision. It runs on the committer's task: it hands on, it does not
/// work, and it never panics.
pub type OnDone = Box<dyn FnOnce(Committed) + Send>;

/// The way into the store for decisions: cheap to clone. It ends with its last clone, after the
/// decisions submitted so far.
#[derive(Clone)]
pub struct Committer {
    queue: mpsc::UnboundedSender<Entry>,
}

enum Entry {
    Commit(Box<Decision>, OnDone),
    /// Answered when everything submitted before it is done.
    Flush(oneshot::Sender<()>),
}

impl fmt::Debug for Committer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Committer").finish_non_exhaustive()
    }
}

impl Committer {
    /// Starts committing into `store` on a task of the present runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, telemetry: Telemetry) -> Self {
        let (queue, entries) = mpsc::unbounded_channel();
        tokio::spawn(commit_all(store, telemetry, entries));
        Self { queue }
    }

    /// Submits a decision. Decisions are committed in the order of their submission, and `on_done`
    /// is told in that order.
    pub fn submit(&self, decision: Decision, on_done: OnDone) {
        let entry = Entry::Commit(Box::new(decision), on_done);
        if let Err(mpsc::error::SendError(Entry::Commit(_, on_done))) = self.queue.send(entry) {
            on_done(Err(Arc::new(CommitError::RolledBack("the committer has stopped".to_owned()))));
        }
    }

    /// Waits until everything submitted so far is done and told.
    pub async fn flush(&self) {
        let (answer, answered) = oneshot::channel();
        // Where the task has ended there is nothing left to wait for.
        if self.queue.send(Entry::Flush(answer)).is_ok() {
            let _ = answered.await;
        }
    }
}

async fn commit_all(
    store: Arc<dyn Store>,
    telemetry: Telemetry,
    mut entries: mpsc::UnboundedReceiver<Entry>,
) {
    let mut batch = Vec::with_capacity(MOST_IN_A_TRANSACTION);
    while entries.recv_many(&mut batch, MOST_IN_A_TRANSACTION).await > 0 {
        let mut decisions = Vec::with_capacity(batch.len());
        let mut waiting = Vec::with_capacity(batch.len());
        let mut flushes = Vec::new();
        for entry in batch.drain(..) {
            match entry {
                Entry::Commit(decision, on_done) => {
                    decisions.push(*decision);
                    waiting.push(on_done);
                }
                Entry::Flush(answer) => flushes.push(answer),
            }
        }
        if !decisions.is_empty() {
            let (count, began) = (decisions.len(), Instant::now());
            let outcome = store.commit(decisions).await;
            match &outcome {
                Ok(_) => telemetry.transaction(count, began.elapsed()),
                Err(CommitError::RolledBack(_)) => telemetry.rolled_back(),
                // The host ends; there is nobody to ask for its metrics.
                Err(CommitError::EpochOver | CommitError::Uncertain(_)) => {}
            }
            tell(waiting, outcome);
        }
        for answer in flushes {
            // Who gave up waiting is not told.
            let _ = answer.send(());
        }
    }
}

fn tell(waiting: Vec<OnDone>, outcome: Result<Vec<Verdict>, CommitError>) {
    match outcome {
        Ok(verdicts) => {
            assert_eq!(verdicts.len(), waiting.len(), "a store answers for each decision");
            for (on_done, verdict) in waiting.into_iter().zip(verdicts) {
                on_done(Ok(verdict));
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for on_done in waiting {
                on_done(Err(Arc::clone(&error)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use everfold_core::ids::EventId;
    use parking_lot::Mutex;

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
    struct Told(Arc<Mutex<Vec<(usize, Committed)>>>);

    impl Told {
        fn on_done(&self, number: usize) -> OnDone {
            let told = Arc::clone(&self.0);
            Box::new(move |committed| told.lock().push((number, committed)))
        }

        fn verdicts(&self) -> Vec<(usize, Verdict)> {
            let told = self.0.lock();
            told.iter().map(|(n, told)| (*n, told.as_ref().expect("it was committed").clone())).collect()
        }
    }

    #[tokio::test]
    async fn answers_come_in_the_order_of_submission_and_flush_waits_for_them() {
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
        committer.flush().await;

        let mut expected: Vec<_> = (0..runs).map(|run| (run, Verdict::Committed)).collect();
        expected.push((runs, Verdict::Fenced));
        expected.push((runs + 1, Verdict::Committed));
        assert_eq!(told.verdicts(), expected);
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
        committer.flush().await;
        let told = told.0.lock();
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
        committer.submit(start(0), Box::new(|committed| _ = done.send(committed)));
        drop(committer);
        assert_eq!(is_done.await.unwrap().unwrap(), Verdict::Committed);
    }

    #[tokio::test]
    async fn flushing_nothing_returns() {
        let (_folder, store) = store().await;
        Committer::new(store, Telemetry::default()).flush().await;
    }
}
