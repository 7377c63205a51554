//! A real store that fails: it dies in the middle, or some of its commits do, or wait until a test lets them go.
//!
//! From its death on nothing more is written, read or answered, and the folder is free for the next
//! host. What was committed before stays.

use std::collections::BTreeMap;
use std::future::pending;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use everfold::store::{
    CommitError, ComponentRow, Epoch, Inbox, NewComponent, OpenCount, OpenRun, OpenRunFilter, RemovalBounds,
    Removed, RetiredVersion, Retirement, RouteChange, RouteRow, RunPlace, RunRow, SqliteStore, Standing,
    Store, StoreError, TimerRow, Verdict, VersionRow,
};
use everfold_core::attributes::Details;
use everfold_core::decision::{Decision, PendingActivity, Request};
use everfold_core::event::Event;
use everfold_core::ids::{Digest, EventId, Namespace, RunId, RunKey, Timestamp, WorkflowId};
use everfold_core::query::Query;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// Which commits fail, and how: those of these numbers, from 0.
pub type Failing = fn(usize) -> Option<CommitError>;

/// A store that can be killed, and whose commits may fail.
#[derive(Debug)]
pub struct Mortal {
    inner: Arc<RwLock<Option<SqliteStore>>>,
    asked: AtomicUsize,
    commits: AtomicUsize,
    /// Held for reading by each commit.
    gate: Arc<RwLock<()>>,
    fails: Failing,
    epoch: Epoch,
    was_closed_in_order: bool,
}

impl Mortal {
    /// Opens a store.
    pub async fn open(folder: &Path) -> Self {
        Self::failing(folder, |_| None).await
    }

    /// Opens a store some of whose commits fail before anything of them is done.
    pub async fn failing(folder: &Path, fails: Failing) -> Self {
        let store = SqliteStore::open(folder).await.unwrap();
        let (epoch, was_closed_in_order) = (store.epoch(), store.was_closed_in_order());
        let inner = Arc::new(RwLock::new(Some(store)));
        let (asked, commits) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { inner, asked, commits, gate: Arc::default(), fails, epoch, was_closed_in_order }
    }

    /// Keeps commits from happening for as long as what it gives is kept.
    pub async fn hold(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.gate).write_owned().await
    }

    /// How many transactions were asked for; those of them that are held have not begun.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// How many transactions were begun.
    pub fn commits(&self) -> usize {
        self.commits.load(Ordering::SeqCst)
    }

    /// Ends it behind the transaction under way, if there is one; whoever waits for an answer gets none.
    pub async fn kill(&self) {
        let store = self.inner.write().await.take();
        // Dropped without `close`: not stopped in order.
        tokio::task::spawn_blocking(move || drop(store)).await.unwrap();
    }

    /// The living store; nobody ever hears of a dead one.
    async fn alive(&self) -> OwnedRwLockReadGuard<Option<SqliteStore>, SqliteStore> {
        let store = Arc::clone(&self.inner).read_owned().await;
        match OwnedRwLockReadGuard::try_map(store, Option::as_ref) {
            Ok(store) => store,
            Err(dead) => {
                drop(dead);
                pending().await
            }
        }
    }
}

#[async_trait]
impl Store for Mortal {
    async fn commit(&self, decisions: Arc<Vec<Decision>>) -> Result<Vec<Verdict>, CommitError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let _open = self.gate.read().await;
        if let Some(error) = (self.fails)(self.commits.fetch_add(1, Ordering::SeqCst)) {
            return Err(error);
        }
        let verdicts = self.alive().await.commit(decisions).await;
        // It may have died between the commit and the answer.
        drop(self.alive().await);
        verdicts
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    async fn put_component(&self, component: NewComponent) -> Result<bool, StoreError> {
        self.alive().await.put_component(component).await
    }

    async fn components(&self, namespace: &Namespace) -> Result<Vec<ComponentRow>, StoreError> {
        self.alive().await.components(namespace).await
    }

    async fn component_bytes(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.alive().await.component_bytes(digest).await
    }

    async fn routes(&self, namespace: &Namespace) -> Result<Vec<RouteRow>, StoreError> {
        self.alive().await.routes(namespace).await
    }

    async fn route(&self, namespace: &Namespace, name: &str) -> Result<Option<RouteRow>, StoreError> {
        self.alive().await.route(namespace, name).await
    }

    async fn routed(&self) -> Result<Vec<Digest>, StoreError> {
        self.alive().await.routed().await
    }

    async fn set_route(&self, change: RouteChange) -> Result<bool, StoreError> {
        self.alive().await.set_route(change).await
    }

    async fn versions(&self, namespace: &Namespace, name: &str) -> Result<Vec<VersionRow>, StoreError> {
        self.alive().await.versions(namespace, name).await
    }

    async fn standing(
        &self,
        namespace: &Namespace,
        name: &str,
        digest: Digest,
    ) -> Result<Standing, StoreError> {
        self.alive().await.standing(namespace, name, digest).await
    }

    async fn retire(&self, version: RetiredVersion) -> Result<Retirement, StoreError> {
        self.alive().await.retire(version).await
    }

    async fn open_runs(
        &self,
        namespace: &Namespace,
        filter: &OpenRunFilter,
        after: Option<&WorkflowId>,
        limit: usize,
    ) -> Result<Vec<RunRow>, StoreError> {
        self.alive().await.open_runs(namespace, filter, after, limit).await
    }

    async fn run(&self, key: &RunKey) -> Result<Option<RunRow>, StoreError> {
        self.alive().await.run(key).await
    }

    async fn open_run(&self, key: &RunKey) -> Result<Option<OpenRun>, StoreError> {
        self.alive().await.open_run(key).await
    }

    async fn latest_run(&self, namespace: &Namespace, id: &WorkflowId) -> Result<Option<RunRow>, StoreError> {
        self.alive().await.latest_run(namespace, id).await
    }

    async fn request(
        &self,
        namespace: &Namespace,
        workflow_id: &WorkflowId,
        request: &Request,
    ) -> Result<Option<RunId>, StoreError> {
        self.alive().await.request(namespace, workflow_id, request).await
    }

    async fn runs(
        &self,
        namespace: &Namespace,
        query: &Query,
        after: Option<&RunPlace>,
        limit: usize,
    ) -> Result<Vec<RunRow>, StoreError> {
        self.alive().await.runs(namespace, query, after, limit).await
    }

    async fn details(&self, run_ids: &[RunId]) -> Result<BTreeMap<RunId, Details>, StoreError> {
        self.alive().await.details(run_ids).await
    }

    async fn history(&self, key: &RunKey, after: EventId, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.alive().await.history(key, after, limit).await
    }

    async fn inbox(&self, key: &RunKey) -> Result<Inbox, StoreError> {
        self.alive().await.inbox(key).await
    }

    async fn attempts(&self, key: &RunKey) -> Result<Vec<PendingActivity>, StoreError> {
        self.alive().await.attempts(key).await
    }

    async fn needing_attention(
        &self,
        after: Option<RunKey>,
        limit: usize,
    ) -> Result<Vec<RunKey>, StoreError> {
        self.alive().await.needing_attention(after, limit).await
    }

    async fn survey(&self) -> Result<Vec<OpenCount>, StoreError> {
        self.alive().await.survey().await
    }

    async fn timers_due(
        &self,
        until: Timestamp,
        after: Option<TimerRow>,
        limit: usize,
    ) -> Result<Vec<TimerRow>, StoreError> {
        self.alive().await.timers_due(until, after, limit).await
    }

    async fn remove_closed(&self, before: Timestamp, bounds: RemovalBounds) -> Result<Removed, StoreError> {
        let removed = self.alive().await.remove_closed(before, bounds).await;
        // It may have died between the removal and the answer.
        drop(self.alive().await);
        removed
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.alive().await.close().await
    }

    fn was_closed_in_order(&self) -> bool {
        self.was_closed_in_order
    }
}
