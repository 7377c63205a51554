//! What the host keeps, behind one small trait. A store knows nothing of guests.
//!
//! Writes go through [`Store::commit`] alone, many decisions in one transaction. Each decision is
//! fenced by its run's next event number, the whole batch by the host's [`Epoch`]: a host that lost
//! its shard can write nothing more. Every backend passes the same suite, `store/conformance.rs`.

mod committer;
mod condition;
#[cfg(test)]
pub(crate) mod conformance;
mod rows;
mod schedules;
mod sql;
mod sqlite;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use everfold_core::attributes::Details;
use everfold_core::decision::{Blocked, Decision, InboxInput, InboxSeq, Outcome, PendingActivity, Request};
use everfold_core::event::{Event, ParentRun, WorkflowTerminated};
use everfold_core::ids::{Digest, EventId, Namespace, RunId, RunKey, Timestamp, WorkflowId};
use everfold_core::machine::RunStatus;
use everfold_core::query::{OrderBy, Query};
use everfold_core::route::Route;
use tokio::runtime::Handle;
use tokio::sync::watch;

pub use committer::{Committed, Committer, OnDone};
pub use condition::Condition;
pub use schedules::{ScheduleKey, ScheduleRow};
pub use sqlite::{SqliteMemory, SqliteStore};

/// Told once what became of a batch, when the store holds it no more. It hands on, it does not work, and it never panics.
pub type OnCommitted = Box<dyn FnOnce(Result<Vec<Verdict>, CommitError>) + Send>;

/// The number of a host's ownership of the store; grows with every opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub i64);

/// A persistent store.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The epoch under which this host writes.
    fn epoch(&self) -> Epoch;

    /// Commits decisions in one transaction, in their order. Each one answers for itself: a refused
    /// decision leaves nothing behind and does not disturb the others.
    ///
    /// # Errors
    /// When the transaction as a whole did not happen, or may or may not have.
    async fn commit(&self, decisions: Arc<Vec<Decision>>) -> Result<Vec<Verdict>, CommitError>;

    /// Commits as [`Store::commit`] does, and tells `on_committed`. A store that has a thread of its own tells
    /// it there; any other does it on `runtime`.
    fn submit(self: Arc<Self>, runtime: &Handle, decisions: Arc<Vec<Decision>>, on_committed: OnCommitted) {
        runtime.spawn(async move { on_committed(self.commit(decisions).await) });
    }

    /// Adds a component, its bytes and its workflow types; a type's first version becomes current.
    /// Adding the same digest again changes nothing. Answers whether it was new.
    ///
    /// # Errors
    /// When it was not written.
    async fn put_component(&self, component: NewComponent) -> Result<bool, StoreError>;

    /// All components without their bytes, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn components(&self, namespace: &Namespace) -> Result<Vec<ComponentRow>, StoreError>;

    /// A component's bytes.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn component_bytes(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError>;

    /// The routes of all workflow types of a namespace, by type.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn routes(&self, namespace: &Namespace) -> Result<Vec<RouteRow>, StoreError>;

    /// The route of one workflow type.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn route(&self, namespace: &Namespace, workflow_type: &str)
    -> Result<Option<RouteRow>, StoreError>;

    /// The components that new runs of some workflow type start on, over all namespaces.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn routed(&self) -> Result<Vec<Digest>, StoreError>;

    /// Changes the route of a workflow type, if it is still at the revision from which the change was
    /// made. Answers whether it was.
    ///
    /// # Errors
    /// When it was not written.
    async fn set_route(&self, change: RouteChange) -> Result<bool, StoreError>;

    /// The versions of a workflow type, oldest first, and the runs on each.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn versions(
        &self,
        namespace: &Namespace,
        workflow_type: &str,
    ) -> Result<Vec<VersionRow>, StoreError>;

    /// How a component stands to a workflow type. Asks for one row, however many runs there are.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn standing(
        &self,
        namespace: &Namespace,
        workflow_type: &str,
        digest: Digest,
    ) -> Result<Standing, StoreError>;

    /// Retires a version of a workflow type, unless new runs start on it or a run on it is open. It
    /// comes back when the same bytes are put again.
    ///
    /// # Errors
    /// When it was not written.
    async fn retire(&self, version: RetiredVersion) -> Result<Retirement, StoreError>;

    /// Open runs that match, by workflow id behind `after`.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn open_runs(
        &self,
        namespace: &Namespace,
        filter: &OpenRunFilter,
        after: Option<&WorkflowId>,
        limit: usize,
    ) -> Result<Vec<RunRow>, StoreError>;

    /// A run's row by its key.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn run(&self, key: &RunKey) -> Result<Option<RunRow>, StoreError>;

    /// All that is kept of a run, for who folds it: nobody else writes it meanwhile. None if there is no such
    /// open run. Call it where blocking is allowed.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn open_run(&self, key: &RunKey) -> Result<Option<OpenRun>, StoreError>;

    /// The run of a workflow id that is open, else the one that was started last.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn latest_run(
        &self,
        namespace: &Namespace,
        workflow_id: &WorkflowId,
    ) -> Result<Option<RunRow>, StoreError>;

    /// The run that did a request before.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn request(
        &self,
        namespace: &Namespace,
        workflow_id: &WorkflowId,
        request: &Request,
    ) -> Result<Option<RunId>, StoreError>;

    /// Runs that a query asks for, in its order, behind `after`.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn runs(
        &self,
        namespace: &Namespace,
        query: &Query,
        after: Option<&RunPlace>,
        limit: usize,
    ) -> Result<Vec<RunRow>, StoreError>;

    /// What runs are described by, of those of them that are described by anything.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn details(&self, run_ids: &[RunId]) -> Result<BTreeMap<RunId, Details>, StoreError>;

    /// A run's events behind `after`, in order: whole rows, at least one event if there is one, at
    /// most about `limit` events.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn history(&self, key: &RunKey, after: EventId, limit: usize) -> Result<Vec<Event>, StoreError>;

    /// A run's inbox.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn inbox(&self, key: &RunKey) -> Result<Inbox, StoreError>;

    /// A run's rows of attempts, by the number of the scheduling command.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn attempts(&self, key: &RunKey) -> Result<Vec<PendingActivity>, StoreError>;

    /// Open runs that need attention at start-up (open activities, inbox rows, or blocked), by key
    /// behind `after`.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn needing_attention(&self, after: Option<RunKey>, limit: usize)
    -> Result<Vec<RunKey>, StoreError>;

    /// How many runs are open, of each type on each component, over all namespaces.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn survey(&self) -> Result<Vec<OpenCount>, StoreError>;

    /// Timers that fire up to `until`, earliest first, behind `after`.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn timers_due(
        &self,
        until: Timestamp,
        after: Option<TimerRow>,
        limit: usize,
    ) -> Result<Vec<TimerRow>, StoreError>;

    /// Removes runs that closed before `before`, the earliest first, with everything that names them: a
    /// batch that is one short transaction. A request that names a run that stays, stays.
    ///
    /// # Errors
    /// When it did not happen.
    async fn remove_closed(&self, before: Timestamp, bounds: RemovalBounds) -> Result<Removed, StoreError>;

    /// Writes a schedule: a new one if its revision is 1, else in place of the revision before. Answers whether that was
    /// possible: not where there is one of that id already, or where it is at another revision or gone.
    ///
    /// # Errors
    /// When it was not written.
    async fn put_schedule(&self, schedule: ScheduleRow) -> Result<bool, StoreError>;

    /// Forgets a schedule. Answers whether there was one.
    ///
    /// # Errors
    /// When it was not written.
    async fn delete_schedule(&self, key: ScheduleKey) -> Result<bool, StoreError>;

    /// A schedule.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn schedule(&self, key: &ScheduleKey) -> Result<Option<ScheduleRow>, StoreError>;

    /// The schedules of a namespace by id, behind `after`.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn schedules(
        &self,
        namespace: &Namespace,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ScheduleRow>, StoreError>;

    /// Schedules that have something to do up to `until`, the earliest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn schedules_due(&self, until: Timestamp, limit: usize) -> Result<Vec<ScheduleKey>, StoreError>;

    /// When the first schedule has something to do.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn schedules_wake(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Schedules that have runs, by key behind `after`.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn schedules_running(
        &self,
        after: Option<&ScheduleKey>,
        limit: usize,
    ) -> Result<Vec<ScheduleRow>, StoreError>;

    /// Notes that this host stops in order: no activity is under way. Returns once it is on disk; from
    /// then on nothing is written any more, and another host may open the store.
    ///
    /// # Errors
    /// When it was not written.
    async fn close(&self) -> Result<(), StoreError>;

    /// Whether the host before this one stopped in order ([`Store::close`]).
    fn was_closed_in_order(&self) -> bool;

    /// How the store stands for those who want to write; one that says nothing of it is always writable.
    fn condition(&self) -> watch::Receiver<Condition> {
        watch::channel(Condition::Writable).1
    }
}

/// Open runs of one type on one component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenCount {
    /// The type.
    pub workflow_type: String,
    /// The component.
    pub digest: Digest,
    /// How many.
    pub open: u64,
    /// How many of them are blocked.
    pub blocked: u64,
}

/// What became of one decision of a committed batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is on disk.
    Committed {
        /// The runs that got messages, its own among them where it got answers.
        reached: Vec<RunId>,
    },
    /// Its run is not where the decision expected it, or is closed.
    Fenced,
    /// It would have begun another run under the workflow id of this one, which is about to be terminated: it is to come
    /// again.
    Postponed(RunId),
    /// It would have created a run under a workflow id that has an open one.
    AlreadyRunning(RunId),
    /// It would have created a run under a `request_id` that already made this one.
    SameRequest(RunId),
    /// It would have created a run under the workflow id of this closed one, which it may not.
    IdTaken(RunId),
}

impl Verdict {
    /// It is on disk, and nothing came of it for anybody else.
    pub const COMMITTED: Self = Self::Committed { reached: Vec::new() };
}

/// A transaction that did not certainly happen.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Nothing of the batch is in the store.
    #[error("the transaction was rolled back: {0}")]
    RolledBack(String),
    /// The host's epoch is over: another host owns the store. Nothing of the batch is in it.
    #[error("another host has taken over the store")]
    EpochOver,
    /// Some or all of the batch may be in the store.
    #[error("the outcome of the transaction is unknown: {0}")]
    Uncertain(String),
}

/// A store that does not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The data folder is in use by another process.
    #[error("{0} is in use by another everfold process")]
    InUse(String),
    /// The schema was made by a newer binary.
    #[error("the store has schema version {found}, newer than this binary's {known}: use a newer everfold")]
    SchemaTooNew {
        /// The store's.
        found: i64,
        /// The newest that this binary knows.
        known: i64,
    },
    /// The database failed.
    #[error("the store failed: {0}")]
    Database(String),
    /// It cannot be read now, or not as much of it at once.
    #[error("{0}")]
    Busy(String),
    /// Nothing was written; it may be tried again.
    #[error("the store cannot be written now: {0}")]
    RolledBack(String),
    /// A row cannot be read.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}

/// A run as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRow {
    /// Its key.
    pub key: RunKey,
    /// Its workflow id.
    pub workflow_id: WorkflowId,
    /// Its type.
    pub workflow_type: String,
    /// The component that folds it.
    pub digest: Digest,
    /// How it stands.
    pub status: RunStatus,
    /// The number its next event will have.
    pub next_event_id: EventId,
    /// Activities that have not closed.
    pub open_activities: u64,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it closed.
    pub closed_at: Option<Timestamp>,
    /// What callers of a closed run get. In lists a large one is left out.
    pub outcome: Option<Outcome>,
    /// Why it is blocked, if it is.
    pub blocked: Option<Blocked>,
    /// The run whose child it is.
    pub parent: Option<ParentRun>,
    /// When it begins, while that is to come or its first event waits.
    pub start_at: Option<Timestamp>,
}

/// The place of a run in a list: what it is ordered by, and its id.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct RunPlace {
    /// Absent in the order of run ids.
    #[n(0)]
    pub value: Option<PlaceValue>,
    /// The run.
    #[n(1)]
    pub run_id: RunId,
}

/// What a run is ordered by.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum PlaceValue {
    /// A time in milliseconds.
    #[n(0)]
    Number(#[n(0)] i64),
    /// A text.
    #[n(1)]
    Text(#[n(0)] String),
}

impl RunPlace {
    /// Where a run stands in a list of that order.
    #[must_use]
    pub fn of(row: &RunRow, by: OrderBy) -> Self {
        let value = match by {
            OrderBy::RunId => None,
            OrderBy::StartTime => Some(PlaceValue::Number(row.started_at.0)),
            OrderBy::CloseTime => Some(PlaceValue::Number(row.closed_at.map_or(i64::MAX, |at| at.0))),
            OrderBy::WorkflowId => Some(PlaceValue::Text(row.workflow_id.0.clone())),
            OrderBy::WorkflowType => Some(PlaceValue::Text(row.workflow_type.clone())),
        };
        Self { value, run_id: row.key.run_id }
    }
}

/// Which open runs are meant: those that match all that is given.
#[derive(Clone, Debug, Default)]
pub struct OpenRunFilter {
    /// Of that type.
    pub workflow_type: Option<String>,
    /// That this component folds.
    pub digest: Option<Digest>,
    /// That are blocked, or are not.
    pub blocked: Option<bool>,
}

/// The route of a workflow type as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRow {
    /// The type.
    pub workflow_type: String,
    /// Where its new runs go.
    pub route: Route,
    /// The number of the last change.
    pub revision: i64,
    /// When that was.
    pub changed_at: Timestamp,
}

/// A change of a route.
#[derive(Clone, Debug)]
pub struct RouteChange {
    /// Where.
    pub namespace: Namespace,
    /// Of which type.
    pub workflow_type: String,
    /// The revision from which it was made.
    pub expected_revision: i64,
    /// The route from now on.
    pub route: Route,
    /// When.
    pub at: Timestamp,
}

/// A version of a workflow type, and the runs that are on it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRow {
    /// The component.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Its SDK, for people.
    pub sdk: String,
    /// When it was deployed.
    pub deployed_at: Timestamp,
    /// When it was retired, if it was.
    pub retired_at: Option<Timestamp>,
    /// When new runs were first sent to it, if they were.
    pub routed_at: Option<Timestamp>,
    /// Runs that are open.
    pub open: u64,
    /// Those of them that are blocked.
    pub blocked: u64,
    /// All runs, open and closed.
    pub runs: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// When the first of them started.
    pub first_started_at: Option<Timestamp>,
    /// When the last of them started.
    pub last_started_at: Option<Timestamp>,
}

/// How a component stands to a workflow type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The type is not in it, or it was never deployed.
    Unknown,
    /// It is a version of the type.
    Version,
    /// It was one, until it was retired.
    Retired(Timestamp),
}

/// A version to retire.
#[derive(Clone, Debug)]
pub struct RetiredVersion {
    /// Where.
    pub namespace: Namespace,
    /// Of which type.
    pub workflow_type: String,
    /// The component.
    pub digest: Digest,
    /// When.
    pub at: Timestamp,
}

/// What became of a version to retire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retirement {
    /// It is retired, now or before.
    Retired,
    /// The type has no such version.
    Unknown,
    /// New runs start on it.
    Routed,
    /// So many runs on it are open.
    InUse(u64),
}

/// What bounds one batch of removals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemovalBounds {
    /// Runs, at least 1.
    pub runs: u64,
    /// Bytes of histories, about; a row counts a few hundred more. At least one row is removed.
    pub bytes: u64,
}

/// What a batch of removals did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Runs that nobody finds any more.
    pub runs: u64,
    /// What is left to remove.
    pub left: Left,
}

/// What is left behind a batch of removals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// There may be more to remove now.
    More,
    /// Nothing that closed before the given time. The earliest of the closed runs that are left, if there
    /// are any, closed then.
    Later(Option<Timestamp>),
}

/// What waits for a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inbox {
    /// Inputs, in order.
    pub inputs: Vec<(InboxSeq, InboxInput)>,
    /// That it is to be closed without asking its guest, whatever else waits.
    pub termination: Option<WorkflowTerminated>,
}

/// How the row of a termination is marked among those of inputs.
pub(crate) const TERMINATION: &str = "WorkflowTerminated";

/// All that is kept of an open run.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenRun {
    /// Its row.
    pub row: RunRow,
    /// All its events.
    pub history: Vec<Event>,
    /// What waits for it.
    pub inbox: Inbox,
    /// Its open activities that were attempted, by the number of the scheduling command.
    pub attempts: Vec<PendingActivity>,
}

/// A timer as the store keeps it; ordered by time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimerRow {
    /// When it fires.
    pub fire_at: Timestamp,
    /// Whose it is.
    pub key: RunKey,
    /// The command that started it.
    pub started_event_id: EventId,
}

/// A component to keep.
#[derive(Clone, Debug)]
pub struct NewComponent {
    /// For whom.
    pub namespace: Namespace,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// The workflow types in it.
    pub workflow_types: Vec<String>,
    /// Its SDK, for people.
    pub sdk: String,
    /// When it was deployed.
    pub deployed_at: Timestamp,
    /// The component itself.
    pub bytes: Vec<u8>,
}

/// A component as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentRow {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
    /// The workflow types in it, and whether new runs of each start on it.
    pub workflow_types: Vec<(String, bool)>,
    /// Its SDK, for people.
    pub sdk: String,
    /// When it was deployed.
    pub deployed_at: Timestamp,
}
