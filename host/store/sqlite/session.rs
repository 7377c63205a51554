//! What the writer's thread does: a connection, an epoch, and the orders one by one.
//!
//! An error before the commit record is on its way is a certain rollback: the batch is refused, and the
//! thread goes on. Whatever may have come after it is uncertain: the thread ends, because what it wrote next
//! could be written over the record. The same holds for a flush that failed, even one of a checkpoint: the
//! kernel reports such an error once and then forgets which pages it was about, so that no later flush proves
//! anything.
//!
//! **A full disk** heals without anybody: while the last transaction was rolled back, or the last checkpoint
//! failed, the thread tries again each second that it has nothing else to do: the checkpoint first, since a
//! log that may begin anew needs no more room, then a transaction of one row.

use std::cell::Cell;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use everfold_core::decision::Decision;
use everfold_core::ids::Timestamp;
use rusqlite::hooks::Wal;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use super::database::{Database, Turns};
use super::statements::Statements;
use super::writer::{Order, Taken};
use crate::store::condition::Reporter;
use crate::store::{CommitError, Epoch, StoreError, Verdict, sql};

/// Pages of the write-ahead log (32 MiB) before they are moved to the database. Larger than
/// SQLite's 1,000: pages that many commits change are moved once.
const CHECKPOINT_PAGES: i32 = 8_192;
/// Pages by which the log grows before another checkpoint, where one has not emptied it: it failed, or
/// somebody reads what is in the log.
const CHECKPOINT_AGAIN_PAGES: i32 = 1_024;
/// The write-ahead log is cut to this many bytes when a slow reader made it larger.
const LOG_LIMIT_BYTES: i64 = 64 * 1024 * 1024;
/// The page cache, in SQLite's notation: KiB, negative.
const CACHE: i64 = -64 * 1024;
/// How long a person's own write transaction (the `sqlite3` shell) may hold the host up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a thread that has nothing to do waits before it tries what failed.
const PROBE_PAUSE: Duration = Duration::from_secs(1);

thread_local! {
    /// Pages in the log behind the last commit of this thread's connection.
    static LOG_PAGES: Cell<i32> = const { Cell::new(0) };
}

/// SQLite's own checkpoints keep their errors to themselves; here a commit only tells how long the log is.
fn committed(_: &Wal, pages: i32) -> rusqlite::Result<()> {
    LOG_PAGES.set(pages);
    Ok(())
}

/// Opens the one connection that writes, on the thread that will use it.
pub(super) fn connect(database: &Database) -> rusqlite::Result<Connection> {
    // One thread uses it, so that SQLite's own mutex is not needed.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = database.connect(flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    // In WAL mode FULL flushes the log at each commit: what is answered is on disk.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "cache_size", CACHE)?;
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_LIMIT_BYTES, |_| Ok(()))?;
    connection.wal_hook(Some(committed));
    Ok(connection)
}

/// Begins a new epoch.
pub(super) fn take_over(connection: &Connection, now: Timestamp) -> rusqlite::Result<Taken> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let was_closed_in_order = connection.query_row(sql::WAS_CLOSED_IN_ORDER, [], |row| row.get(0))?;
    let epoch = connection.query_row(sql::TAKE_SHARD, rusqlite::params![owner(), now.0], |row| row.get(0))?;
    connection.execute_batch("COMMIT")?;
    Ok(Taken { epoch: Epoch(epoch), was_closed_in_order })
}

/// This process, for people who look into the database.
fn owner() -> String {
    format!("process {}", std::process::id())
}

/// The thread's work.
pub(super) struct Session<'c> {
    connection: &'c Connection,
    statements: Statements<'c>,
    epoch: Epoch,
    stage: Stage,
    turns: Turns,
    reporter: Reporter,
    /// The length of the log at which the next checkpoint is made.
    checkpoint_at: i32,
    /// How often it was tried whether the store can be written.
    probes: u64,
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
    pub(super) const fn new(
        connection: &'c Connection,
        statements: Statements<'c>,
        epoch: Epoch,
        turns: Turns,
        reporter: Reporter,
    ) -> Self {
        let (stage, checkpoint_at, probes) = (Stage::Open, CHECKPOINT_PAGES, 0);
        Self { connection, statements, epoch, stage, turns, reporter, checkpoint_at, probes }
    }

    /// Serves until the orders end or a commit is uncertain.
    pub(super) fn serve(mut self, orders: &Receiver<Order>) {
        while self.stage != Stage::Broken {
            match self.next(orders) {
                Ok(order) => self.obey(order),
                Err(RecvTimeoutError::Timeout) => self.recover(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn next(&self, orders: &Receiver<Order>) -> Result<Order, RecvTimeoutError> {
        if self.stage == Stage::Open && (self.reporter.is_refusing() || self.reporter.is_postponing()) {
            return orders.recv_timeout(PROBE_PAUSE);
        }
        orders.recv().map_err(|_| RecvTimeoutError::Disconnected)
    }

    /// Does one order. An answer that nobody waits for any more is dropped.
    fn obey(&mut self, order: Order) {
        match order {
            Order::Commit(decisions, answer) => {
                let committed = self.commit(&decisions);
                // Who is answered gets them back.
                drop(decisions);
                answer.send(committed);
            }
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
            Order::PutSchedule(schedule, answer) => {
                _ = answer.send(self.write(|statements| statements.schedules.put(&schedule)));
            }
            Order::DeleteSchedule(key, answer) => {
                _ = answer.send(self.write(|statements| statements.schedules.delete(&key)));
            }
            Order::Close(answer) => _ = answer.send(self.close()),
        }
        // Behind the answer: nobody waits for it but the next order.
        if self.stage == Stage::Open && LOG_PAGES.get() >= self.checkpoint_at {
            self.checkpoint();
        } else if LOG_PAGES.get() < CHECKPOINT_PAGES {
            self.checkpoint_at = CHECKPOINT_PAGES;
        }
    }

    fn commit(&mut self, decisions: &[Decision]) -> Result<Vec<Verdict>, CommitError> {
        self.transaction(|statements| {
            decisions.iter().map(|decision| statements.apply(decision)).collect::<rusqlite::Result<_>>()
        })
    }

    /// Writes something that is no decision.
    fn write<T>(
        &mut self,
        work: impl FnOnce(&mut Statements<'c>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.transaction(work).map_err(|error| match error {
            CommitError::RolledBack(reason) => StoreError::RolledBack(reason),
            CommitError::EpochOver | CommitError::Uncertain(_) => StoreError::Database(error.to_string()),
        })
    }

    fn close(&mut self) -> Result<(), StoreError> {
        if self.stage == Stage::Closed {
            return Ok(());
        }
        let epoch = self.epoch;
        self.write(|statements| statements.close_shard(epoch))?;
        self.stage = Stage::Closed;
        // The next host finds an empty log. It copes with a full one, so that failing is no matter.
        let _ = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        Ok(())
    }

    /// Runs `work` in a transaction of this host's epoch, and reports what that tells of the store.
    fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Statements<'c>) -> rusqlite::Result<T>,
    ) -> Result<T, CommitError> {
        match self.stage {
            Stage::Open => {}
            Stage::Closed => return Err(CommitError::RolledBack("the store is closed".to_owned())),
            Stage::Broken => return Err(CommitError::RolledBack("the writer has stopped".to_owned())),
        }
        let done = self.attempt(work);
        match &done {
            Ok(_) => self.reporter.happened(),
            Err(CommitError::RolledBack(reason)) => self.reporter.rolled_back(reason),
            Err(CommitError::EpochOver | CommitError::Uncertain(_)) => self.stage = Stage::Broken,
        }
        if let (Stage::Broken, Err(error)) = (self.stage, &done) {
            self.reporter.lost(error.to_string());
        }
        done
    }

    fn attempt<T>(
        &mut self,
        work: impl FnOnce(&mut Statements<'c>) -> rusqlite::Result<T>,
    ) -> Result<T, CommitError> {
        let turns = self.turns.clone();
        let _turn = turns.writing();
        self.statements.begin.execute([]).map_err(|error| rolled_back(&error))?;
        let done = match self.statements.epoch() {
            Ok(epoch) if epoch == self.epoch => {
                work(&mut self.statements).map_err(|error| rolled_back(&error))
            }
            Ok(_) => Err(CommitError::EpochOver),
            Err(error) => Err(rolled_back(&error)),
        };
        let done = done.and_then(|done| match self.statements.commit.execute([]) {
            Ok(_) => Ok(done),
            Err(error) => Err(failed_commit(&error)),
        });
        if done.is_err() {
            self.roll_back();
        }
        done
    }

    fn roll_back(&mut self) {
        // Some errors have ended the transaction already. Without a commit record in the log, what
        // it wrote is void in any case; only the connection may be of no more use.
        if !self.connection.is_autocommit() && self.statements.rollback.execute([]).is_err() {
            self.stage = Stage::Broken;
        }
    }

    /// Moves what is in the log to the database, as far as no reader needs it.
    fn checkpoint(&mut self) {
        let done = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        self.checkpoint_at = LOG_PAGES.get().max(CHECKPOINT_PAGES).saturating_add(CHECKPOINT_AGAIN_PAGES);
        match done {
            Ok(()) => self.reporter.checkpointed(),
            Err(error) if is_failed_flush(&error) => {
                self.stage = Stage::Broken;
                self.reporter.lost(format!("a flush of the database failed: {error}"));
            }
            Err(error) => self.reporter.postponed(&error.to_string()),
        }
    }

    /// Tries whether what failed can be done again.
    fn recover(&mut self) {
        self.checkpoint();
        if self.stage == Stage::Open && self.reporter.is_refusing() {
            self.probes += 1;
            let (connection, epoch) = (self.connection, self.epoch);
            // Another text each time: SQLite does not write a page that stays as it is.
            let owner = format!("{} (probe {})", owner(), self.probes);
            // What comes of it is reported like that of any other transaction.
            let _ = self.transaction(|_| connection.execute(sql::PROBE, rusqlite::params![owner, epoch.0]));
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

/// Whether the kernel could not write down what it had taken.
fn is_failed_flush(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    matches!(code, Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC))
}

#[cfg(test)]
mod tests {
    use everfold_core::ids::EventId;
    use everfold_core::payload::Payload;

    use super::*;
    use crate::store::condition::Condition;
    use crate::store::conformance::fixtures::{advance, attempt, start};
    use crate::store::sqlite::schema;

    /// A migrated database.
    async fn database() -> (tempfile::TempDir, Database) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::File(folder.path().join("everfold.db"));
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
        // The writer makes its checkpoints itself.
        assert_eq!(pragma(&connection, "wal_autocheckpoint"), 0.into());
        assert_eq!(pragma(&connection, "foreign_keys"), 1.into());
    }

    #[tokio::test]
    async fn a_full_disk_rolls_the_whole_batch_back() {
        let (_folder, database) = database().await;
        let connection = connect(&database).unwrap();
        let taken = take_over(&connection, Timestamp(0)).unwrap();
        let statements = Statements::prepare(&connection).unwrap();
        let (reporter, condition) = Reporter::new();
        let mut session = Session::new(&connection, statements, taken.epoch, database.turns(), reporter);
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
        assert!(matches!(&*condition.borrow(), Condition::Refusing(reason) if reason.contains("full")));

        connection.pragma_update_and_check(None, "max_page_count", pages + 1_000, |_| Ok(())).unwrap();
        assert_eq!(session.commit(&batch).unwrap(), [Verdict::COMMITTED; 3]);
        assert_eq!((count(&connection, "runs"), count(&connection, "history")), (2, 3));
        assert_eq!(*condition.borrow(), Condition::Writable);
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
