//! One SQLite file: how it is opened, written and read.
//!
//! All writes go through one connection and begin with `BEGIN IMMEDIATE`, so that writers queue
//! here, in order, instead of failing with `SQLITE_BUSY`. A transaction that is dropped rolls back.

use std::path::Path;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool, Transaction};

/// Readers see the last commit and never wait for the writer (WAL), so that a few are enough.
const READERS: u32 = 4;
/// How long a write may queue before it is given up as a failure that can be tried again.
const WRITE_QUEUE_TIMEOUT: Duration = Duration::from_secs(30);
/// Takes the write lock at once.
const BEGIN: &str = "BEGIN IMMEDIATE";
/// For locks of another process (a person with a shell on the file).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A database file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot open {file}: {reason}")]
pub struct DatabaseError {
    file: String,
    reason: String,
}

/// An open file.
#[derive(Clone, Debug)]
pub(super) struct Database {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Database {
    /// Opens `name` in `folder`, making both if need be, and brings its schema up to date.
    pub(super) async fn open(folder: &Path, name: &str, migrator: &Migrator) -> Result<Self, DatabaseError> {
        let file = folder.join(name);
        let failed = |reason: String| DatabaseError { file: file.display().to_string(), reason };
        std::fs::create_dir_all(folder).map_err(|error| failed(error.to_string()))?;
        let options = SqliteConnectOptions::new()
            .filename(&file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = || {
            SqlitePoolOptions::new()
                .acquire_timeout(WRITE_QUEUE_TIMEOUT)
                .test_before_acquire(false)
                .idle_timeout(None)
                .max_lifetime(None)
        };
        let writer = pool()
            .max_connections(1)
            .connect_with(options.clone())
            .await
            .map_err(|error| failed(error.to_string()))?;
        migrator.run(&writer).await.map_err(|error| failed(error.to_string()))?;
        let readers = pool()
            .max_connections(READERS)
            .connect_with(options.read_only(true).create_if_missing(false))
            .await
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self { writer, readers })
    }

    /// Begins a transaction that may write; nothing of it is kept unless it is committed.
    pub(super) async fn write(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        match self.writer.begin_with(BEGIN).await {
            // A COMMIT that found the disk full was rolled back by SQLite itself; sqlx believes that connection to
            // be in its transaction for ever.
            Err(sqlx::Error::InvalidSavePointStatement) => {
                self.writer.acquire().await?.close().await?;
                self.writer.begin_with(BEGIN).await
            }
            begun => begun,
        }
    }

    /// For reading what is committed.
    pub(super) const fn readers(&self) -> &SqlitePool {
        &self.readers
    }
}
