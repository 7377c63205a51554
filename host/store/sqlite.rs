//! The embedded store: one SQLite file in a data folder that one process owns.
//!
//! Writes go through one thread on rusqlite ([`writer`]), reads through a pool of sqlx ([`reads`]), but for those of
//! a run that is to be folded, which are done where they are asked for, on rusqlite ([`loads`]).
//! Both use the same libsqlite3-sys. rusqlite writes because a lone commit took 168 µs on it where
//! sqlx took 372 µs, which hands every statement from one thread to another.

mod folder;
mod listing;
mod loads;
mod reads;
mod removal;
mod schema;
mod session;
mod statements;
#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use everfold_core::decision::{Decision, InboxInput, InboxSeq, PendingActivity, Request};
use everfold_core::event::Event;
use everfold_core::ids::{Digest, EventId, Namespace, RunId, RunKey, Timestamp, WorkflowId};
use everfold_core::query::Query;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::{
    CommitError, ComponentRow, Condition, Epoch, NewComponent, OnCommitted, OpenCount, OpenRun,
    OpenRunFilter, RemovalBounds, Removed, RetiredVersion, Retirement, RouteChange, RouteRow, RunPlace,
    RunRow, Standing, Store, StoreError, TimerRow, Verdict, VersionRow,
};
use crate::clock::Clock;
use folder::DataFolder;
use loads::Loads;
use reads::Reads;
use writer::{Taken, Writer};

/// A store in one SQLite file. Dropping it waits for the batches under way and frees the folder.
#[derive(Debug)]
pub struct SqliteStore {
    reads: Reads,
    loads: Loads,
    writer: Writer,
    taken: Taken,
    /// Dropped last: nothing of this process uses the folder behind its lock.
    folder: DataFolder,
}

impl SqliteStore {
    /// Opens the store in a data folder, making both if there is none, and begins a new epoch.
    ///
    /// # Errors
    /// `InUse`, `SchemaTooNew`, or `Database` when the folder or the file cannot be used.
    pub async fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let folder = DataFolder::take(data_dir)?;
        let database = folder.database();
        schema::migrate(&database).await?;
        let (writer, taken) = Writer::open(&database, Clock::system().now()).await?;
        let reads = Reads::open(&database).await?;
        let loads = Loads::new(&database);
        Ok(Self { reads, loads, writer, taken, folder })
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
        self.reads.components(namespace).await
    }

    async fn component_bytes(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.reads.component_bytes(digest).await
    }

    async fn routes(&self, namespace: &Namespace) -> Result<Vec<RouteRow>, StoreError> {
        self.reads.routes(namespace).await
    }

    async fn route(
        &self,
        namespace: &Namespace,
        workflow_type: &str,
    ) -> Result<Option<RouteRow>, StoreError> {
        self.reads.route(namespace, workflow_type).await
    }

    async fn routed(&self) -> Result<Vec<Digest>, StoreError> {
        self.reads.routed().await
    }

    async fn set_route(&self, change: RouteChange) -> Result<bool, StoreError> {
        self.writer.set_route(change).await
    }

    async fn versions(
        &self,
        namespace: &Namespace,
        workflow_type: &str,
    ) -> Result<Vec<VersionRow>, StoreError> {
        self.reads.versions(namespace, workflow_type).await
    }

    async fn standing(
        &self,
        namespace: &Namespace,
        workflow_type: &str,
        digest: Digest,
    ) -> Result<Standing, StoreError> {
        self.reads.standing(namespace, workflow_type, digest).await
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
        self.reads.open_runs(namespace, filter, after, limit).await
    }

    async fn run(&self, key: &RunKey) -> Result<Option<RunRow>, StoreError> {
        self.reads.run(key).await
    }

    async fn open_run(&self, key: &RunKey) -> Result<Option<OpenRun>, StoreError> {
        self.loads.open_run(key)
    }

    async fn latest_run(
        &self,
        namespace: &Namespace,
        workflow_id: &WorkflowId,
    ) -> Result<Option<RunRow>, StoreError> {
        self.reads.latest_run(namespace, workflow_id).await
    }

    async fn request(
        &self,
        namespace: &Namespace,
        workflow_id: &WorkflowId,
        request: &Request,
    ) -> Result<Option<RunId>, StoreError> {
        self.reads.request(namespace, workflow_id, request).await
    }

    async fn runs(
        &self,
        namespace: &Namespace,
        query: &Query,
        after: Option<&RunPlace>,
        limit: usize,
    ) -> Result<Vec<RunRow>, StoreError> {
        self.reads.runs(namespace, query, after, limit).await
    }

    async fn history(&self, key: &RunKey, after: EventId, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.reads.history(key, after, limit).await
    }

    async fn inbox(&self, key: &RunKey) -> Result<Vec<(InboxSeq, InboxInput)>, StoreError> {
        self.reads.inbox(key).await
    }

    async fn attempts(&self, key: &RunKey) -> Result<Vec<PendingActivity>, StoreError> {
        self.reads.attempts(key).await
    }

    async fn needing_attention(
        &self,
        after: Option<RunKey>,
        limit: usize,
    ) -> Result<Vec<RunKey>, StoreError> {
        self.reads.needing_attention(after, limit).await
    }

    async fn survey(&self) -> Result<Vec<OpenCount>, StoreError> {
        self.reads.survey().await
    }

    async fn timers_due(
        &self,
        until: Timestamp,
        after: Option<TimerRow>,
        limit: usize,
    ) -> Result<Vec<TimerRow>, StoreError> {
        self.reads.timers_due(until, after, limit).await
    }

    async fn remove_closed(&self, before: Timestamp, bounds: RemovalBounds) -> Result<Removed, StoreError> {
        self.writer.remove_closed(before, bounds).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.writer.close().await?;
        // Nothing is written any more; who still reads does not disturb the next owner.
        self.folder.release()
    }

    fn was_closed_in_order(&self) -> bool {
        self.taken.was_closed_in_order
    }

    fn condition(&self) -> watch::Receiver<Condition> {
        self.writer.condition()
    }
}
