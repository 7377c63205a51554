//! The writer: one thread that owns the one connection that writes. Batches come over a channel,
//! each is one transaction, each is answered once.
//!
//! It never guesses: an answer of `RolledBack` or `EpochOver` means that nothing of the batch is in
//! the store. Where that is not certain the answer is `Uncertain`, and the thread ends.

use std::fmt;
use std::path::Path;
use std::sync::mpsc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use everfold_core::decision::Decision;
use everfold_core::ids::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::oneshot;

use super::statements::Statements;
use crate::store::{
    CommitError, Epoch, NewComponent, RemovalBounds, Removed, RetiredVersion, Retirement, RouteChange,
    StoreError, Verdict, sql,
};

type Committed = Result<Vec<Verdict>, CommitError>;

/// What the thread is asked to do.
pub(super) enum Order {
    Commit(Vec<Decision>, oneshot::Sender<Committed>),
    PutComponent(Box<NewComponent>, oneshot::Sender<Result<bool, StoreError>>),
    SetRoute(Box<RouteChange>, oneshot::Sender<Result<bool, StoreError>>),
    Retire(Box<RetiredVersion>, oneshot::Sender<Result<Retirement, StoreError>>),
    Remove(Timestamp, RemovalBounds, oneshot::Sender<Result<Removed, StoreError>>),
    Close(oneshot::Sender<Result<(), StoreError>>),
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
    pub(super) async fn open(database: &Path, now: Timestamp) -> Result<(Self, Taken), StoreError> {
        let database = database.to_owned();
        let (opened, has_opened) = oneshot::channel();
        let writer = Self::spawn(move |orders| {
            let start = || {
                let connection = connect(&database)?;
                let taken = take_over(&connection, now)?;
                Ok((connection, taken))
            };
            match start() {
                Ok((connection, taken)) => match Statements::prepare(&connection) {
                    Ok(statements) => {
                        // Nobody waits any more if the opening was given up; the orders end then too.
                        let _ = opened.send(Ok(taken));
                        Session::new(&connection, statements, taken.epoch).serve(&orders);
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

    fn spawn(body: impl FnOnce(mpsc::Receiver<Order>) + Send + 'static) -> Result<Self, StoreError> {
        let (orders, receiver) = mpsc::channel();
        let thread = Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || body(receiver))
            .map_err(|error| StoreError::Database(format!("cannot start the writer's thread: {error}")))?;
        Ok(Self { orders: Some(orders), thread: Some(thread) })
    }

    /// Commits decisions in one transaction.
    ///
    /// # Errors
    /// As [`crate::store::Store::commit`].
    pub(super) async fn commit(&self, decisions: Vec<Decision>) -> Committed {
        let (answer, answered) = oneshot::channel();
        if !self.give(Order::Commit(decisions, answer)) {
            return Err(CommitError::RolledBack("the writer has stopped".to_owned()));
        }
        let gone = || CommitError::Uncertain("the writer stopped while the batch was with it".to_owned());
        answered.await.unwrap_or_else(|_| Err(gone()))
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

    /// False: the thread has ended and will not see the order.
    fn give(&self, order: Order) -> bool {
        self.orders.as_ref().is_some_and(|orders| orders.send(order).is_ok())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
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

/// Pages of the write-ahead log (32 MiB) before a commit moves them to the database. Larger than
/// SQLite's 1,000: pages that many commits change are moved once.
const CHECKPOINT_PAGES: i64 = 8_192;
/// The write-ahead log is cut to this many bytes when a slow reader made it larger.
const LOG_LIMIT_BYTES: i64 = 64 * 1024 * 1024;
/// The page cache, in SQLite's notation: KiB, negative.
const CACHE: i64 = -64 * 1024;
/// How long a person's own write transaction (the `sqlite3` shell) may hold the host up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

fn connect(database: &Path) -> rusqlite::Result<Connection> {
    // One thread uses it, so that SQLite's own mutex is not needed.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    // In WAL mode FULL flushes the log at each commit: what is answered is on disk.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "cache_size", CACHE)?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", CHECKPOINT_PAGES, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_LIMIT_BYTES, |_| Ok(()))?;
    Ok(connection)
}

fn take_over(connection: &Connection, now: Timestamp) -> rusqlite::Result<Taken> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let was_closed_in_order = connection.query_row(sql::WAS_CLOSED_IN_ORDER, [], |row| row.get(0))?;
    let owner = format!("process {}", std::process::id());
    let epoch = connection.query_row(sql::TAKE_SHARD, rusqlite::params![owner, now.0], |row| row.get(0))?;
    connection.execute_batch("COMMIT")?;
    Ok(Taken { epoch: Epoch(epoch), was_closed_in_order })
}

/// The thread's work: a connection, an epoch, and the orders one by one.
struct Session<'c> {
    connection: &'c Connection,
    statements: Statements<'c>,
    epoch: Epoch,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// The orderly stop is on disk: one more batch would make it untrue.
    Closed,
    /// A commit failed in a way that may have reached the disk. Whatever came next could be
    /// written over it, so that nothing does.
    Broken,
}

impl<'c> Session<'c> {
    fn new(connection: &'c Connection, statements: Statements<'c>, epoch: Epoch) -> Self {
        Self { connection, statements, epoch, stage: Stage::Open }
    }

    /// Serves until the orders end or a commit is uncertain. An answer that nobody waits for any
    /// more is dropped.
    fn serve(mut self, orders: &mpsc::Receiver<Order>) {
        while self.stage != Stage::Broken
            && let Ok(order) = orders.recv()
        {
            match order {
                Order::Commit(decisions, answer) => _ = answer.send(self.commit(&decisions)),
                Order::PutComponent(component, answer) => {
                    _ = answer.send(self.write(|statements| statements.put_component(&component)));
                }
                Order::SetRoute(change, answer) => {
                    _ = answer.send(self.write(|statements| statements.set_route(&change)));
                }
                Order::Retire(version, answer) => {
                    _ = answer.send(self.write(|statements| statements.retire(&version)));
                }
                Order::Remove(before, bounds, answer) => {
                    _ = answer.send(self.write(|statements| statements.removal.remove(before, bounds)));
                }
                Order::Close(answer) => _ = answer.send(self.close()),
            }
        }
    }

    fn commit(&mut self, decisions: &[Decision]) -> Committed {
        self.transaction(|statements| {
            decisions.iter().map(|decision| statements.apply(decision)).collect::<rusqlite::Result<_>>()
        })
    }

    /// Writes something that is no decision.
    fn write<T>(
        &mut self,
        work: impl FnOnce(&mut Statements<'c>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.transaction(work).map_err(|error| StoreError::Database(error.to_string()))
    }

    fn close(&mut self) -> Result<(), StoreError> {
        if self.stage == Stage::Closed {
            return Ok(());
        }
        let epoch = self.epoch;
        self.transaction(|statements| statements.close_shard(epoch))
            .map_err(|error| StoreError::Database(error.to_string()))?;
        self.stage = Stage::Closed;
        // The next host finds an empty log. It copes with a full one, so that failing is no matter.
        let _ = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        Ok(())
    }

    /// Runs `work` in a transaction of this host's epoch.
    fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Statements<'c>) -> rusqlite::Result<T>,
    ) -> Result<T, CommitError> {
        match self.stage {
            Stage::Open => {}
            Stage::Closed => return Err(CommitError::RolledBack("the store is closed".to_owned())),
            Stage::Broken => return Err(CommitError::RolledBack("the writer has stopped".to_owned())),
        }
        self.statements.begin.execute([]).map_err(|error| rolled_back(&error))?;
        let done = match self.statements.epoch() {
            Ok(epoch) if epoch == self.epoch => {
                work(&mut self.statements).map_err(|error| rolled_back(&error))
            }
            Ok(_) => Err(CommitError::EpochOver),
            Err(error) => Err(rolled_back(&error)),
        };
        match done {
            Ok(done) => self.end(done),
            Err(error) => {
                self.roll_back();
                Err(error)
            }
        }
    }

    fn end<T>(&mut self, done: T) -> Result<T, CommitError> {
        let Err(error) = self.statements.commit.execute([]) else { return Ok(done) };
        let error = failed_commit(&error);
        self.roll_back();
        if matches!(error, CommitError::Uncertain(_)) {
            self.stage = Stage::Broken;
        }
        Err(error)
    }

    fn roll_back(&mut self) {
        // Some errors have ended the transaction already. Without a commit record in the log, what
        // it wrote is void in any case; only the connection may be of no more use.
        if !self.connection.is_autocommit() && self.statements.rollback.execute([]).is_err() {
            self.stage = Stage::Broken;
        }
    }
}

fn rolled_back(error: &rusqlite::Error) -> CommitError {
    CommitError::RolledBack(error.to_string())
}

/// What a failed COMMIT means.
///
/// `SQLITE_BUSY` comes before anything is written. `SQLITE_FULL` comes from a write to the log that
/// did not fit; the commit record is in the last page written, so it is not whole. Any other error
/// can come after that page: from the flush (`SQLITE_IOERR_FSYNC`), or from memory or the shared
/// index once the record is on disk (`SQLITE_NOMEM`, `SQLITE_IOERR_SHM…`). A restart would find it.
fn failed_commit(error: &rusqlite::Error) -> CommitError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DiskFull) => rolled_back(error),
        Some(_) | None => CommitError::Uncertain(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use everfold_core::ids::EventId;
    use everfold_core::payload::Payload;
    use rusqlite::ffi;

    use super::*;
    use crate::store::conformance::fixtures::{advance, attempt, start};
    use crate::store::sqlite::schema;

    /// A migrated database.
    async fn database() -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("everfold.db");
        schema::migrate(&database).await.unwrap();
        (folder, database)
    }

    fn pragma(connection: &Connection, name: &str) -> rusqlite::types::Value {
        connection.pragma_query_value(None, name, |row| row.get(0)).unwrap()
    }

    fn count(connection: &Connection, table: &str) -> i64 {
        connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }

    #[tokio::test]
    async fn every_commit_is_flushed_to_a_write_ahead_log() {
        let (_folder, database) = database().await;
        let connection = connect(&database).unwrap();
        assert_eq!(pragma(&connection, "journal_mode"), "wal".to_owned().into());
        // 2 is FULL: https://www.sqlite.org/pragma.html#pragma_synchronous
        assert_eq!(pragma(&connection, "synchronous"), 2.into());
        assert_eq!(pragma(&connection, "wal_autocheckpoint"), CHECKPOINT_PAGES.into());
        assert_eq!(pragma(&connection, "foreign_keys"), 1.into());
    }

    #[tokio::test]
    async fn a_full_disk_rolls_the_whole_batch_back() {
        let (_folder, database) = database().await;
        let connection = connect(&database).unwrap();
        let taken = take_over(&connection, Timestamp(0)).unwrap();
        let statements = Statements::prepare(&connection).unwrap();
        let mut session = Session::new(&connection, statements, taken.epoch);
        let mut large = advance(1, EventId(2), 1);
        // Nothing that compression makes small.
        let noise = |n: u64| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32).wrapping_mul(n) as u8;
        let details = Payload { metadata: Vec::new(), data: (0..1_000_000).map(noise).collect() };
        large.attempts = vec![attempt(EventId(2), 1)];
        large.attempts[0].heartbeat_details = Some(details);
        let batch = [start(1), large, start(2)];

        let rusqlite::types::Value::Integer(pages) = pragma(&connection, "page_count") else {
            panic!("a number");
        };
        connection.pragma_update_and_check(None, "max_page_count", pages + 10, |_| Ok(())).unwrap();
        let error = session.commit(&batch).unwrap_err();
        assert!(matches!(&error, CommitError::RolledBack(reason) if reason.contains("full")), "{error:?}");
        assert_eq!((count(&connection, "runs"), count(&connection, "history")), (0, 0));

        connection.pragma_update_and_check(None, "max_page_count", pages + 1_000, |_| Ok(())).unwrap();
        assert_eq!(session.commit(&batch).unwrap(), [const { Verdict::Committed }; 3]);
        assert_eq!((count(&connection, "runs"), count(&connection, "history")), (2, 3));
    }

    #[tokio::test]
    async fn a_writer_that_panics_leaves_its_batch_uncertain_and_takes_no_other() {
        let writer = Writer::spawn(|orders| {
            let _order = orders.recv();
            panic!("the test wants it");
        })
        .unwrap();
        let error = writer.commit(vec![start(1)]).await.unwrap_err();
        assert!(matches!(error, CommitError::Uncertain(_)), "{error:?}");
        // Whether the queue is gone already is a race: the later order may have got in.
        let error = writer.commit(vec![start(1)]).await.unwrap_err();
        assert!(matches!(error, CommitError::Uncertain(_) | CommitError::RolledBack(_)), "{error:?}");
        assert!(writer.close().await.is_err());
    }

    #[test]
    fn only_an_error_before_the_commit_record_is_a_certain_rollback() {
        let meaning = |code| failed_commit(&rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        for code in [ffi::SQLITE_BUSY, ffi::SQLITE_BUSY_SNAPSHOT, ffi::SQLITE_FULL] {
            assert!(matches!(meaning(code), CommitError::RolledBack(_)), "{code}");
        }
        for code in [ffi::SQLITE_IOERR, ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_NOMEM] {
            assert!(matches!(meaning(code), CommitError::Uncertain(_)), "{code}");
        }
    }
}
