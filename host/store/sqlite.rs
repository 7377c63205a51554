//! The embedded store: one SQLite file in a data folder that one process owns.
//!
//! Writes go through one thread on rusqlite ([`writer`]), reads through a pool of sqlx ([`reads`]), but for those of
//! a run that is to be folded, which are done where they are asked for, on rusqlite ([`loads`]).
//! The database is a file, or in memory ([`database`]), which is for tests.
//! Both use the same libsqlite3-sys. rusqlite writes because a lone commit took 168 µs on it where
//! sqlx took 372 µs, which hands every statement from one thread to another.

mod beginnings;
mod children;
mod database;
mod details;
mod folder;
mod listing;
mod loads;
mod reads;
mod removal;
mod resets;
mod schedules;
mod schema;
mod session;
mod statements;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use everfold_core::attributes::Details;
use everfold_core::decision::{Decision, PendingActivity, Request};
use everfold_core::event::Event;
use everfold_core::ids::{Digest, EventId, Namespace, RunId, RunKey, Timestamp, WorkflowId};
use everfold_core::query::Query;
use tokio::runtime::Handle;
use tokio::sync::{RwLockReadGuard, watch};

use super::{
    CommitError, ComponentRow, Condition, Epoch, Inbox, NewComponent, OnCommitted, OpenCount, OpenRun,
    OpenRunFilter, RemovalBounds, Removed, RetiredVersion, Retirement, RouteChange, RouteRow, RunPlace,
    RunRow, ScheduleKey, ScheduleRow, Standing, Store, StoreError, TimerRow, Verdict, VersionRow,
};
use crate::clock::Clock;
pub use database::SqliteMemory;
use database::{Database, TakenMemory, Turns};
use folder::DataFolder;
use loads::Loads;
use reads::Reads;
use writer::{Taken, Writer};

/// A store in one SQLite database. Dropping it waits for the batches under way and frees the place.
#[derive(Debug)]
pub struct SqliteStore {
    readers: Readers,
    writer: Writer,
    taken: Taken,
    /// Dropped last: nothing of this process uses the place behind its lock.
    place: Place,
}

/// Where the store is; nobody else has it.
#[derive(Debug)]
enum Place {
    Folder(DataFolder),
    Memory(TakenMemory),
}

/// Who reads, each in his turn.
#[derive(Debug)]
struct Readers {
    reads: Reads,
    loads: Loads,
    turns: Turns,
}

/// A reader whose turn it is.
struct Reading<'r> {
    reads: &'r Reads,
    loads: &'r Loads,
    _turn: Option<RwLockReadGuard<'r, ()>>,
}

impl Readers {
    /// Waits for the turn of one who reads.
    async fn turn(&self) -> Reading<'_> {
        let _turn = self.turns.reading().await;
        Reading { reads: &self.reads, loads: &self.loads, _turn }
    }
}

impl SqliteStore {
    /// Opens the store in a data folder, making both if there is none, and begins a new epoch.
    ///
    /// # Errors
    /// `InUse`, `SchemaTooNew`, or `Database` when the folder or the file cannot be used.
    pub async fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let folder = DataFolder::take(data_dir)?;
        let database = Database::File(folder.database());
        Self::open_at(&database, Place::Folder(folder)).await
    }

    /// Opens the store in a place in memory, and begins a new epoch. What was committed is there as long as
    /// the place; nothing is ever on a disk.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub async fn open_in_memory(memory: &SqliteMemory) -> Result<Self, StoreError> {
        let taken = memory.take()?;
        Self::open_at(&Database::Memory(memory.clone()), Place::Memory(taken)).await
    }

    async fn open_at(database: &Database, place: Place) -> Result<Self, StoreError> {
        schema::migrate(database).await?;
        let (writer, taken) = Writer::open(database, Clock::system().now()).await?;
        let reads = Reads::open(database).await?;
        let loads = Loads::new(database);
        let readers = Readers { reads, loads, turns: database.turns() };
        Ok(Self { readers, writer, taken, place })
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn epoch(&self) -> Epoch {
        self.taken.epoch
    }

    async fn commit(&self, decisions: Arc<Vec<Decision>>) -> Result<Vec<Verdict>, CommitError> {
        self.writer.commit(decisions).await
    }

    fn submit(self: Arc<Self>, _: &Handle, decisions: Arc<Vec<Decision>>, on_committed: OnCommitted) {
        self.writer.submit(decisions, on_committed);
    }

    async fn put_component(&self, component: NewComponent) -> Result<bool, StoreError> {
        self.writer.put_component(component).await
    }

    async fn components(&self, namespace: &Namespace) -> Result<Vec<ComponentRow>, StoreError> {
        self.readers.turn().await.reads.components(namespace).await
    }

    async fn component_bytes(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.readers.turn().await.reads.component_bytes(digest).await
    }

    async fn routes(&self, namespace: &Namespace) -> Result<Vec<RouteRow>, StoreError> {
        self.readers.turn().await.reads.routes(namespace).await
    }

    async fn route(
        &self,
        namespace: &Namespace,
        workflow_type: &str,
    ) -> Result<Option<RouteRow>, StoreError> {
        self.readers.turn().await.reads.route(namespace, workflow_type).await
    }

    async fn routed(&self) -> Result<Vec<Digest>, StoreError> {
        self.readers.turn().await.reads.routed().await
    }

    async fn set_route(&self, change: RouteChange) -> Result<bool, StoreError> {
        self.writer.set_route(change).await
    }

    async fn versions(
        &self,
        namespace: &Namespace,
        workflow_type: &str,
    ) -> Result<Vec<VersionRow>, StoreError> {
        self.readers.turn().await.reads.versions(namespace, workflow_type).await
    }

    async fn standing(
        &self,
        namespace: &Namespace,
        workflow_type: &str,
        digest: Digest,
    ) -> Result<Standing, StoreError> {
        self.readers.turn().await.reads.standing(namespace, workflow_type, digest).await
    }

    async fn retire(&self, version: RetiredVersion) -> Result<Retirement, StoreError> {
        self.writer.retire(version).await
    }

    async fn open_runs(
        &self,
        namespace: &Namespace,
        filter: &OpenRunFilter,
        after: Option<&WorkflowId>,
        limit: usize,
    ) -> Result<Vec<RunRow>, StoreError> {
        self.readers.turn().await.reads.open_runs(namespace, filter, after, limit).await
    }

    async fn run(&self, key: &RunKey) -> Result<Option<RunRow>, StoreError> {
        self.readers.turn().await.reads.run(key).await
    }

    async fn open_run(&self, key: &RunKey) -> Result<Option<OpenRun>, StoreError> {
        self.readers.turn().await.loads.open_run(key)
    }

    async fn latest_run(
        &self,
        namespace: &Namespace,
        workflow_id: &WorkflowId,
    ) -> Result<Option<RunRow>, StoreError> {
        self.readers.turn().await.reads.latest_run(namespace, workflow_id).await
    }

    async fn request(
        &self,
        namespace: &Namespace,
        workflow_id: &WorkflowId,
        request: &Request,
    ) -> Result<Option<RunId>, StoreError> {
        self.readers.turn().await.reads.request(namespace, workflow_id, request).await
    }

    async fn runs(
        &self,
        namespace: &Namespace,
        query: &Query,
        after: Option<&RunPlace>,
        limit: usize,
    ) -> Result<Vec<RunRow>, StoreError> {
        self.readers.turn().await.reads.runs(namespace, query, after, limit).await
    }

    async fn details(&self, run_ids: &[RunId]) -> Result<BTreeMap<RunId, Details>, StoreError> {
        self.readers.turn().await.reads.details(run_ids).await
    }

    async fn history(&self, key: &RunKey, after: EventId, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.readers.turn().await.reads.history(key, after, limit).await
    }

    async fn inbox(&self, key: &RunKey) -> Result<Inbox, StoreError> {
        self.readers.turn().await.reads.inbox(key).await
    }

    async fn attempts(&self, key: &RunKey) -> Result<Vec<PendingActivity>, StoreError> {
        self.readers.turn().await.reads.attempts(key).await
    }

    async fn needing_attention(
        &self,
        after: Option<RunKey>,
        limit: usize,
    ) -> Result<Vec<RunKey>, StoreError> {
        self.readers.turn().await.reads.needing_attention(after, limit).await
    }

    async fn survey(&self) -> Result<Vec<OpenCount>, StoreError> {
        self.readers.turn().await.reads.survey().await
    }

    async fn timers_due(
        &self,
        until: Timestamp,
        after: Option<TimerRow>,
        limit: usize,
    ) -> Result<Vec<TimerRow>, StoreError> {
        self.readers.turn().await.reads.timers_due(until, after, limit).await
    }

    async fn remove_closed(&self, before: Timestamp, bounds: RemovalBounds) -> Result<Removed, StoreError> {
        self.writer.remove_closed(before, bounds).await
    }

    async fn put_schedule(&self, schedule: ScheduleRow) -> Result<bool, StoreError> {
        self.writer.put_schedule(schedule).await
    }

    async fn delete_schedule(&self, key: ScheduleKey) -> Result<bool, StoreError> {
        self.writer.delete_schedule(key).await
    }

    async fn schedule(&self, key: &ScheduleKey) -> Result<Option<ScheduleRow>, StoreError> {
        self.readers.turn().await.reads.schedule(key).await
    }

    async fn schedules(
        &self,
        namespace: &Namespace,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ScheduleRow>, StoreError> {
        self.readers.turn().await.reads.schedules(namespace, after, limit).await
    }

    async fn schedules_due(&self, until: Timestamp, limit: usize) -> Result<Vec<ScheduleKey>, StoreError> {
        self.readers.turn().await.reads.schedules_due(until, limit).await
    }

    async fn schedules_wake(&self) -> Result<Option<Timestamp>, StoreError> {
        self.readers.turn().await.reads.schedules_wake().await
    }

    async fn schedules_running(
        &self,
        after: Option<&ScheduleKey>,
        limit: usize,
    ) -> Result<Vec<ScheduleRow>, StoreError> {
        self.readers.turn().await.reads.schedules_running(after, limit).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.writer.close().await?;
        // Nothing is written any more; who still reads does not disturb the next owner.
        match &self.place {
            Place::Folder(folder) => folder.release(),
            Place::Memory(memory) => {
                memory.release();
                Ok(())
            }
        }
    }

    fn was_closed_in_order(&self) -> bool {
        self.taken.was_closed_in_order
    }

    fn condition(&self) -> watch::Receiver<Condition> {
        self.writer.condition()
    }
}
