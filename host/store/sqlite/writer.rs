//! The writer: one thread that owns the one connection that writes. Batches come over a channel,
//! each is one transaction, each is answered once.
//!
//! It never guesses: an answer of `RolledBack` or `EpochOver` means that nothing of the batch is in
//! the store. Where that is not certain the answer is `Uncertain`, and the thread ends. This file is the
//! thread's handle; what the thread does is in [`session`](super::session).

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{Builder, JoinHandle};

use everfold_core::decision::Decision;
use everfold_core::ids::Timestamp;
use tokio::sync::{oneshot, watch};

use super::database::Database;
use super::session::{Session, connect, take_over};
use super::statements::Statements;
use crate::store::condition::{Condition, Reporter};
use crate::store::{
    CommitError, Epoch, NewComponent, OnCommitted, RemovalBounds, Removed, RetiredVersion, Retirement,
    RouteChange, ScheduleKey, ScheduleRow, StoreError, Verdict,
};

type Committed = Result<Vec<Verdict>, CommitError>;

/// What the thread is asked to do.
pub(super) enum Order {
    Commit(Arc<Vec<Decision>>, Answer),
    PutComponent(Box<NewComponent>, oneshot::Sender<Result<bool, StoreError>>),
    SetRoute(Box<RouteChange>, oneshot::Sender<Result<bool, StoreError>>),
    Retire(Box<RetiredVersion>, oneshot::Sender<Result<Retirement, StoreError>>),
    Remove(Timestamp, RemovalBounds, oneshot::Sender<Result<Removed, StoreError>>),
    PutSchedule(Box<ScheduleRow>, oneshot::Sender<Result<bool, StoreError>>),
    DeleteSchedule(Box<ScheduleKey>, oneshot::Sender<Result<bool, StoreError>>),
    Close(oneshot::Sender<Result<(), StoreError>>),
}

/// Where the answer to a batch goes. One that is dropped unanswered answers that nothing is known: the
/// thread ended with the batch.
pub(super) struct Answer(Option<OnCommitted>);

impl Answer {
    pub(super) fn send(mut self, committed: Committed) {
        if let Some(on_committed) = self.0.take() {
            on_committed(committed);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(on_committed) = self.0.take() {
            let reason = "the writer stopped while the batch was with it".to_owned();
            on_committed(Err(CommitError::Uncertain(reason)));
        }
    }
}

/// How the writer found the store when it took it over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    /// The epoch that began.
    pub(super) epoch: Epoch,
    /// Whether the owner before stopped in order.
    pub(super) was_closed_in_order: bool,
}

/// The thread's handle. Dropping it waits for the orders already given.
pub(super) struct Writer {
    /// Taken when the handle is dropped, which ends the thread.
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
    condition: watch::Receiver<Condition>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    /// Opens the connection on a new thread and takes the store over.
    ///
    /// # Errors
    /// When the database cannot be opened or written.
    pub(super) async fn open(database: &Database, now: Timestamp) -> Result<(Self, Taken), StoreError> {
        let database = database.clone();
        let (opened, has_opened) = oneshot::channel();
        let writer = Self::spawn(move |orders, reporter| {
            let turns = database.turns();
            let start = || {
                let connection = connect(&database)?;
                let _turn = turns.writing();
                let taken = take_over(&connection, now)?;
                Ok((connection, taken))
            };
            match start() {
                Ok((connection, taken)) => match Statements::prepare(&connection) {
                    Ok(statements) => {
                        // Nobody waits any more if the opening was given up; the orders end then too.
                        let _ = opened.send(Ok(taken));
                        Session::new(&connection, statements, taken.epoch, turns, reporter).serve(&orders);
                    }
                    Err(error) => _ = opened.send(Err(error)),
                },
                Err(error) => _ = opened.send(Err(error)),
            }
        })?;
        match has_opened.await {
            Ok(Ok(taken)) => Ok((writer, taken)),
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(StoreError::Database("the writer's thread ended at once".to_owned())),
        }
    }

    fn spawn(
        body: impl FnOnce(mpsc::Receiver<Order>, Reporter) + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (orders, receiver) = mpsc::channel();
        let (reporter, condition) = Reporter::new();
        let thread = Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || body(receiver, reporter))
            .map_err(|error| StoreError::Database(format!("cannot start the writer's thread: {error}")))?;
        Ok(Self { orders: Some(orders), thread: Some(thread), condition })
    }

    /// Commits decisions in one transaction.
    ///
    /// # Errors
    /// As [`crate::store::Store::commit`].
    pub(super) async fn commit(&self, decisions: Arc<Vec<Decision>>) -> Committed {
        let (answer, answered) = oneshot::channel();
        // Who gave up waiting is not told.
        self.submit(decisions, Box::new(|committed| _ = answer.send(committed)));
        match answered.await {
            Ok(committed) => committed,
            Err(_) => unreachable!("every batch is answered"),
        }
    }

    /// The same; the answer is told on the writer's thread.
    pub(super) fn submit(&self, decisions: Arc<Vec<Decision>>, on_committed: OnCommitted) {
        let order = Order::Commit(decisions, Answer(Some(on_committed)));
        let refused = match &self.orders {
            Some(orders) => orders.send(order).err().map(|mpsc::SendError(order)| order),
            None => Some(order),
        };
        if let Some(Order::Commit(_, answer)) = refused {
            answer.send(Err(CommitError::RolledBack("the writer has stopped".to_owned())));
        }
    }

    /// Adds a component; false if it is there already.
    ///
    /// # Errors
    /// When it was not written.
    pub(super) async fn put_component(&self, component: NewComponent) -> Result<bool, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.give(Order::PutComponent(Box::new(component), answer));
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Changes a route; false if it has changed meanwhile.
    ///
    /// # Errors
    /// When it was not written.
    pub(super) async fn set_route(&self, change: RouteChange) -> Result<bool, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.give(Order::SetRoute(Box::new(change), answer));
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Retires a version.
    ///
    /// # Errors
    /// When it was not written.
    pub(super) async fn retire(&self, version: RetiredVersion) -> Result<Retirement, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.give(Order::Retire(Box::new(version), answer));
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Writes a schedule; false if it is not at the revision before.
    ///
    /// # Errors
    /// When it was not written.
    pub(super) async fn put_schedule(&self, schedule: ScheduleRow) -> Result<bool, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.give(Order::PutSchedule(Box::new(schedule), answer));
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Forgets a schedule; false if there is none.
    ///
    /// # Errors
    /// When it was not written.
    pub(super) async fn delete_schedule(&self, key: ScheduleKey) -> Result<bool, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.give(Order::DeleteSchedule(Box::new(key), answer));
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Removes runs that closed before a time; a transaction of its own, between two batches.
    ///
    /// # Errors
    /// When it did not happen.
    pub(super) async fn remove_closed(
        &self,
        before: Timestamp,
        bounds: RemovalBounds,
    ) -> Result<Removed, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.give(Order::Remove(before, bounds, answer));
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Notes the orderly stop; the writer takes no further batch.
    ///
    /// # Errors
    /// When it was not written.
    pub(super) async fn close(&self) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        self.give(Order::Close(answer));
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// How the store stands for those who want to write.
    pub(super) fn condition(&self) -> watch::Receiver<Condition> {
        self.condition.clone()
    }

    /// False: the thread has ended and will not see the order.
    fn give(&self, order: Order) -> bool {
        self.orders.as_ref().is_some_and(|orders| orders.send(order).is_ok())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.orders.take());
        // The answer to the last batch may have been all that held the store: then this is the thread itself.
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic of the thread was answered to whoever waited for it.
            let _ = thread.join();
        }
    }
}

fn stopped() -> StoreError {
    StoreError::Database("the writer has stopped".to_owned())
}

fn failed(error: &rusqlite::Error) -> StoreError {
    StoreError::Database(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::fixtures::start;

    #[tokio::test]
    async fn a_writer_that_panics_leaves_its_batch_uncertain_and_takes_no_other() {
        let writer = Writer::spawn(|orders, _reporter| {
            let _order = orders.recv();
            panic!("the test wants it");
        })
        .unwrap();
        let error = writer.commit(Arc::new(vec![start(1)])).await.unwrap_err();
        assert!(matches!(error, CommitError::Uncertain(_)), "{error:?}");
        // Whether the queue is gone already is a race: the later order may have got in.
        let error = writer.commit(Arc::new(vec![start(1)])).await.unwrap_err();
        assert!(matches!(error, CommitError::Uncertain(_) | CommitError::RolledBack(_)), "{error:?}");
        assert!(writer.close().await.is_err());
        assert!(matches!(&*writer.condition().borrow(), Condition::Lost(_)));
    }
}
