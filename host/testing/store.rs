//! The store of a test: a real one that fails as it is told. It dies in the middle, some of its commits fail or wait until a test lets
//! them go, and it says whether it is at work.
//!
//! From its death on nothing more is written, read or answered, and its place is free for the next
//! host. What was committed before stays.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use async_trait::async_trait;
use everfold_core::attributes::Details;
use everfold_core::decision::{Decision, PendingActivity, Request};
use everfold_core::event::Event;
use everfold_core::ids::{Digest, EventId, Namespace, RunId, RunKey, Timestamp, WorkflowId};
use everfold_core::query::Query;
use parking_lot::Mutex;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, watch};

use crate::store::{
    CommitError, ComponentRow, Epoch, Inbox, NewComponent, OpenCount, OpenRun, OpenRunFilter, RemovalBounds,
    Removed, RetiredVersion, Retirement, RouteChange, RouteRow, RunPlace, RunRow, ScheduleKey, ScheduleRow,
    SqliteMemory, SqliteStore, Standing, Store, StoreError, TimerRow, Verdict, VersionRow,
};

/// Which commits fail, and how: those of these numbers, from 0.
pub type Failing = Arc<dyn Fn(usize) -> Option<CommitError> + Send + Sync>;

/// A store that can be killed, and whose commits may fail.
pub struct TestStore {
    inner: Arc<RwLock<Option<SqliteStore>>>,
    asked: AtomicUsize,
    commits: AtomicUsize,
    /// Held for reading by each commit.
    gate: Arc<RwLock<()>>,
    fails: Mutex<Failing>,
    /// What is being read or written.
    under_way: Arc<watch::Sender<usize>>,
    begun: AtomicU64,
    /// Set when nobody is left who could act on an answer.
    is_gone: watch::Sender<bool>,
    epoch: Epoch,
    was_closed_in_order: bool,
}

impl std::fmt::Debug for TestStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestStore").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl TestStore {
    /// Opens the store of a data folder.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub async fn open(folder: &Path) -> Result<Self, StoreError> {
        SqliteStore::open(folder).await.map(Self::of)
    }

    /// Opens the store of a place in memory.
    ///
    /// # Errors
    /// As [`SqliteStore::open_in_memory`].
    pub async fn open_in_memory(memory: &SqliteMemory) -> Result<Self, StoreError> {
        SqliteStore::open_in_memory(memory).await.map(Self::of)
    }

    fn of(store: SqliteStore) -> Self {
        let (epoch, was_closed_in_order) = (store.epoch(), store.was_closed_in_order());
        Self {
            inner: Arc::new(RwLock::new(Some(store))),
            asked: AtomicUsize::new(0),
            commits: AtomicUsize::new(0),
            gate: Arc::default(),
            fails: Mutex::new(Arc::new(|_| None)),
            under_way: Arc::default(),
            begun: AtomicU64::new(0),
            is_gone: watch::Sender::new(false),
            epoch,
            was_closed_in_order,
        }
    }

    /// Lets some commits fail from now on, before anything of them is done.
    pub fn fail(&self, fails: impl Fn(usize) -> Option<CommitError> + Send + Sync + 'static) {
        *self.fails.lock() = Arc::new(fails);
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
        // Dropped without `close`, which is not stopping in order; away from threads that must not wait.
        let (dropped, is_dropped) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            drop(store);
            // Who gave up waiting need not know.
            let _ = dropped.send(());
        });
        let _ = is_dropped.await;
    }

    /// Lets those go who wait for an answer of the dead: with an error.
    pub(super) fn bury(&self) {
        self.is_gone.send_replace(true);
    }

    /// Whether nothing is read or written.
    pub(super) fn is_idle(&self) -> bool {
        *self.under_way.borrow() == 0
    }

    /// Waits until nothing is read or written.
    pub(super) async fn idle(&self) {
        // The sender lives as long as `self`.
        let _ = self.under_way.subscribe().wait_for(|under_way| *under_way == 0).await;
    }

    /// How often something was begun to be read or written.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    /// The living store. Nobody hears of a dead one before it is buried.
    async fn alive(&self) -> Result<Alive, StoreError> {
        let under_way = UnderWay::begin(&self.under_way);
        self.begun.fetch_add(1, Ordering::SeqCst);
        let store = Arc::clone(&self.inner).read_owned().await;
        match OwnedRwLockReadGuard::try_map(store, Option::as_ref) {
            Ok(store) => Ok(Alive { store, _under_way: under_way }),
            Err(dead) => {
                drop((dead, under_way));
                let _ = self.is_gone.subscribe().wait_for(|is_gone| *is_gone).await;
                Err(StoreError::Database("the store is dead".to_owned()))
            }
        }
    }
}

/// The store, for as long as something is read or written.
struct Alive {
    store: OwnedRwLockReadGuard<Option<SqliteStore>, SqliteStore>,
    _under_way: UnderWay,
}

impl Deref for Alive {
    type Target = SqliteStore;

    fn deref(&self) -> &SqliteStore {
        &self.store
    }
}

/// Counts what is being read or written.
struct UnderWay(Arc<watch::Sender<usize>>);

impl UnderWay {
    fn begin(count: &Arc<watch::Sender<usize>>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(Arc::clone(count))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[async_trait]
impl Store for TestStore {
    async fn commit(&self, decisions: Arc<Vec<Decision>>) -> Result<Vec<Verdict>, CommitError> {
        let dead = |error: StoreError| CommitError::RolledBack(error.to_string());
        self.asked.fetch_add(1, Ordering::SeqCst);
        let _open = self.gate.read().await;
        let commit = self.commits.fetch_add(1, Ordering::SeqCst);
        let fails = Arc::clone(&self.fails.lock());
        if let Some(error) = fails(commit) {
            return Err(error);
        }
        let verdicts = self.alive().await.map_err(dead)?.commit(decisions).await;
        // It may have died between the commit and the answer.
        self.alive().await.map_err(dead)?;
        verdicts
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    async fn put_component(&self, component: NewComponent) -> Result<bool, StoreError> {
        self.alive().await?.put_component(component).await
    }

    async fn components(&self, namespace: &Namespace) -> Result<Vec<ComponentRow>, StoreError> {
        self.alive().await?.components(namespace).await
    }

    async fn component_bytes(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.alive().await?.component_bytes(digest).await
    }

    async fn routes(&self, namespace: &Namespace) -> Result<Vec<RouteRow>, StoreError> {
        self.alive().await?.routes(namespace).await
    }

    async fn route(&self, namespace: &Namespace, name: &str) -> Result<Option<RouteRow>, StoreError> {
        self.alive().await?.route(namespace, name).await
    }

    async fn routed(&self) -> Result<Vec<Digest>, StoreError> {
        self.alive().await?.routed().await
    }

    async fn set_route(&self, change: RouteChange) -> Result<bool, StoreError> {
        self.alive().await?.set_route(change).await
    }

    async fn versions(&self, namespace: &Namespace, name: &str) -> Result<Vec<VersionRow>, StoreError> {
        self.alive().await?.versions(namespace, name).await
    }

    async fn standing(
        &self,
        namespace: &Namespace,
        name: &str,
        digest: Digest,
    ) -> Result<Standing, StoreError> {
        self.alive().await?.standing(namespace, name, digest).await
    }

    async fn retire(&self, version: RetiredVersion) -> Result<Retirement, StoreError> {
        self.alive().await?.retire(version).await
    }

    async fn open_runs(
        &self,
        namespace: &Namespace,
        filter: &OpenRunFilter,
        after: Option<&WorkflowId>,
        limit: usize,
    ) -> Result<Vec<RunRow>, StoreError> {
        self.alive().await?.open_runs(namespace, filter, after, limit).await
    }

    async fn run(&self, key: &RunKey) -> Result<Option<RunRow>, StoreError> {
        self.alive().await?.run(key).await
    }

    async fn open_run(&self, key: &RunKey) -> Result<Option<OpenRun>, StoreError> {
        self.alive().await?.open_run(key).await
    }

    async fn latest_run(&self, namespace: &Namespace, id: &WorkflowId) -> Result<Option<RunRow>, StoreError> {
        self.alive().await?.latest_run(namespace, id).await
    }

    async fn request(
        &self,
        namespace: &Namespace,
        workflow_id: &WorkflowId,
        request: &Request,
    ) -> Result<Option<RunId>, StoreError> {
        self.alive().await?.request(namespace, workflow_id, request).await
    }

    async fn runs(
        &self,
        namespace: &Namespace,
        query: &Query,
        after: Option<&RunPlace>,
        limit: usize,
    ) -> Result<Vec<RunRow>, StoreError> {
        self.alive().await?.runs(namespace, query, after, limit).await
    }

    async fn details(&self, run_ids: &[RunId]) -> Result<BTreeMap<RunId, Details>, StoreError> {
        self.alive().await?.details(run_ids).await
    }

    async fn history(&self, key: &RunKey, after: EventId, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.alive().await?.history(key, after, limit).await
    }

    async fn inbox(&self, key: &RunKey) -> Result<Inbox, StoreError> {
        self.alive().await?.inbox(key).await
    }

    async fn attempts(&self, key: &RunKey) -> Result<Vec<PendingActivity>, StoreError> {
        self.alive().await?.attempts(key).await
    }

    async fn needing_attention(
        &self,
        after: Option<RunKey>,
        limit: usize,
    ) -> Result<Vec<RunKey>, StoreError> {
        self.alive().await?.needing_attention(after, limit).await
    }

    async fn survey(&self) -> Result<Vec<OpenCount>, StoreError> {
        self.alive().await?.survey().await
    }

    async fn timers_due(
        &self,
        until: Timestamp,
        after: Option<TimerRow>,
        limit: usize,
    ) -> Result<Vec<TimerRow>, StoreError> {
        self.alive().await?.timers_due(until, after, limit).await
    }

    async fn remove_closed(&self, before: Timestamp, bounds: RemovalBounds) -> Result<Removed, StoreError> {
        let removed = self.alive().await?.remove_closed(before, bounds).await;
        // It may have died between the removal and the answer.
        self.alive().await?;
        removed
    }

    async fn put_schedule(&self, schedule: ScheduleRow) -> Result<bool, StoreError> {
        let written = self.alive().await?.put_schedule(schedule).await;
        // It may have died between the writing and the answer.
        self.alive().await?;
        written
    }

    async fn delete_schedule(&self, key: ScheduleKey) -> Result<bool, StoreError> {
        self.alive().await?.delete_schedule(key).await
    }

    async fn schedule(&self, key: &ScheduleKey) -> Result<Option<ScheduleRow>, StoreError> {
        self.alive().await?.schedule(key).await
    }

    async fn schedules(
        &self,
        namespace: &Namespace,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ScheduleRow>, StoreError> {
        self.alive().await?.schedules(namespace, after, limit).await
    }

    async fn schedules_due(&self, until: Timestamp, limit: usize) -> Result<Vec<ScheduleKey>, StoreError> {
        self.alive().await?.schedules_due(until, limit).await
    }

    async fn schedules_wake(&self) -> Result<Option<Timestamp>, StoreError> {
        self.alive().await?.schedules_wake().await
    }

    async fn schedules_running(
        &self,
        after: Option<&ScheduleKey>,
        limit: usize,
    ) -> Result<Vec<ScheduleRow>, StoreError> {
        self.alive().await?.schedules_running(after, limit).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.alive().await?.close().await
    }

    fn was_closed_in_order(&self) -> bool {
        self.was_closed_in_order
    }
}
