//! Where a database is, and how connections to it are made: a file, or the memory of this process.
//!
//! **In memory** it is SQLite's own `memdb`: each connection is one of its own, as to a file, and all else of the
//! store is the same code on the same schema, so that nothing can differ from the file but what SQLite
//! does below its locks. It knows no write-ahead log: a reader keeps the writer out and the other way round, and who
//! finds it taken would sleep for milliseconds before he looks again. So they take [`Turns`] before they come to that;
//! SQLite's own locks still guard what is done, and its waiting remains for who gave up a query that is still read.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use sqlx::sqlite::SqliteConnectOptions;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::store::StoreError;

/// SQLite's name of the file system that is memory. Names in it that begin with a slash are shared by all connections of
/// the process (<https://www.sqlite.org/inmemorydb.html>).
const MEMORY: &str = "memdb";

/// A database that exists or is to be made.
#[derive(Clone, Debug)]
pub(super) enum Database {
    /// A file.
    File(PathBuf),
    /// In memory.
    Memory(SqliteMemory),
}

impl Database {
    /// A connection of rusqlite.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) fn connect(&self, flags: OpenFlags) -> rusqlite::Result<Connection> {
        match self {
            Self::File(path) => Connection::open_with_flags(path, flags),
            Self::Memory(memory) => memory.connect(flags),
        }
    }

    /// What a connection of sqlx is made with.
    pub(super) fn options(&self) -> SqliteConnectOptions {
        match self {
            Self::File(path) => SqliteConnectOptions::new().filename(path),
            Self::Memory(memory) => SqliteConnectOptions::new().filename(&memory.inner.name).vfs(MEMORY),
        }
    }

    /// Whose turn it is.
    pub(super) fn turns(&self) -> Turns {
        match self {
            Self::File(_) => Turns(None),
            Self::Memory(memory) => memory.inner.turns.clone(),
        }
    }
}

/// Whether somebody writes or some read. A file needs none: its readers see what was committed before.
#[derive(Clone, Debug)]
pub(super) struct Turns(Option<Arc<RwLock<()>>>);

impl Turns {
    /// Waits until nobody writes, and keeps it so.
    pub(super) async fn reading(&self) -> Option<RwLockReadGuard<'_, ()>> {
        match &self.0 {
            Some(turns) => Some(turns.read().await),
            None => None,
        }
    }

    /// Waits until nobody reads, and keeps it so. Blocks its thread.
    pub(super) fn writing(&self) -> Option<RwLockWriteGuard<'_, ()>> {
        self.0.as_ref().map(|turns| turns.blocking_write())
    }
}

/// The place of one store in the memory of this process: it lives as long as a clone of this does. One
/// [`SqliteStore`](super::SqliteStore) at a time is open on it.
#[derive(Clone, Debug)]
pub struct SqliteMemory {
    inner: Arc<Memory>,
}

#[derive(Debug)]
struct Memory {
    name: PathBuf,
    turns: Turns,
    is_taken: AtomicBool,
    /// Keeps the database, which is gone with its last connection.
    _kept: Mutex<Connection>,
}

impl SqliteMemory {
    /// An empty place.
    ///
    /// # Errors
    /// When SQLite has no memory for it.
    pub fn new() -> Result<Self, StoreError> {
        let name = PathBuf::from(format!("/everfold-{}", uuid::Uuid::new_v4().simple()));
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let kept = Connection::open_with_flags_and_vfs(&name, flags, MEMORY)
            .map_err(|error| StoreError::Database(error.to_string()))?;
        let turns = Turns(Some(Arc::default()));
        let inner = Memory { name, turns, is_taken: AtomicBool::new(false), _kept: Mutex::new(kept) };
        Ok(Self { inner: Arc::new(inner) })
    }

    fn connect(&self, flags: OpenFlags) -> rusqlite::Result<Connection> {
        Connection::open_with_flags_and_vfs(&self.inner.name, flags, MEMORY)
    }

    /// Takes the place for one store.
    ///
    /// # Errors
    /// `InUse` while another one has it.
    pub(super) fn take(&self) -> Result<TakenMemory, StoreError> {
        if self.inner.is_taken.swap(true, Ordering::SeqCst) {
            return Err(StoreError::InUse("the database in memory".to_owned()));
        }
        Ok(TakenMemory { memory: self.clone(), is_released: AtomicBool::new(false) })
    }
}

/// A place in memory that one store has to itself until this is released or dropped.
#[derive(Debug)]
pub(super) struct TakenMemory {
    memory: SqliteMemory,
    is_released: AtomicBool,
}

impl TakenMemory {
    /// Lets another store take the place.
    pub(super) fn release(&self) {
        if !self.is_released.swap(true, Ordering::SeqCst) {
            self.memory.inner.is_taken.store(false, Ordering::SeqCst);
        }
    }
}

impl Drop for TakenMemory {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use everfold_core::ids::EventId;

    use super::*;
    use crate::store::conformance::fixtures::{advance, commit_each, key, start};
    use crate::store::conformance::{Backend, conformance_suite};
    use crate::store::{SqliteStore, Store, Verdict};

    impl Backend for SqliteMemory {
        type Store = SqliteStore;

        async fn open(&self) -> Result<SqliteStore, StoreError> {
            SqliteStore::open_in_memory(self).await
        }
    }

    conformance_suite!(SqliteMemory::new().expect("there is memory"));

    #[tokio::test]
    async fn every_place_is_for_itself() {
        let (one, other) = (SqliteMemory::new().unwrap(), SqliteMemory::new().unwrap());
        commit_each(&one.open().await.unwrap(), vec![start(1)]).await;
        assert_eq!(other.open().await.unwrap().run(&key(1)).await.unwrap(), None);
        assert!(one.open().await.unwrap().run(&key(1)).await.unwrap().is_some(), "it outlives its store");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_reads_and_who_writes_at_once_wait_for_each_other() {
        let place = SqliteMemory::new().unwrap();
        let store = Arc::new(place.open().await.unwrap());
        commit_each(&*store, vec![start(1)]).await;
        let readers: Vec<_> = (0..8)
            .map(|_| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    let mut last = 0;
                    while last < 400 {
                        let row = store.run(&key(1)).await.unwrap().expect("it is there");
                        let loaded = store.open_run(&key(1)).await.unwrap().expect("it is open");
                        assert!(loaded.row.next_event_id >= row.next_event_id);
                        assert_eq!(loaded.history.len() as u64 + 1, loaded.row.next_event_id.0);
                        last = row.next_event_id.0;
                    }
                })
            })
            .collect();
        for event in 2..400 {
            let verdicts = store.commit(Arc::new(vec![advance(1, EventId(event), 1)])).await.unwrap();
            assert_eq!(verdicts, [Verdict::COMMITTED]);
        }
        for reader in readers {
            reader.await.unwrap();
        }
    }
}
