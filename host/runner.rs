//! load → fold → decide → commit → act: the only place where the parts meet.
//!
//! | file | owns |
//! |---|---|
//! | `api` | what callers say and are answered |
//! | `admission` | what the host takes on at once |
//! | `cells`, `lanes` | a mailbox for each run with something to do; the folding threads |
//! | `run`, `position` | one run's phases, a step at a time; where it stands |
//! | `load`, `block`, `suspects` | runs and instances from history; faults, and keeping them apart |
//! | `talk`, `listen` | signals, cancel and terminate: the caller's side and the run's |
//! | `succession` | runs that a step begins |
//! | `queries`, `list` | looking at runs |
//! | `versions`, `check`, `moves` | routes; what a version would do to runs; runs that move to another |
//! | `survey` | counting them, for the metrics |
//! | `act` | what follows a commit |
//! | `dispatch` | activities under way, attempt by attempt |
//! | `sweep`, `folder` | memory that nobody needs; a folder whose components are deployed |
//! | `retention` | runs that closed long ago |
//! | `timers`, `watch`, `residents` | what fires soon, who waits, which instances live |

mod act;
mod admission;
pub mod api;
mod block;
mod cells;
mod check;
mod dispatch;
mod folder;
mod lanes;
mod list;
mod listen;
mod load;
mod moves;
mod position;
mod queries;
mod residents;
mod retention;
mod run;
mod succession;
mod survey;
mod suspects;
mod sweep;
mod talk;
mod timers;
mod versions;
mod watch;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use everfold_core::decision::{NewRun, Outcome};
use everfold_core::event::WorkflowStarted;
use everfold_core::history::Export;
use everfold_core::ids::{Digest, EventId, RunId, RunKey, Timestamp, WorkflowId};
use everfold_core::limits::Limits;
use everfold_core::machine::RunStatus;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::activity::Attempts;
use crate::clock::Clock;
use crate::guest::Engine;

use crate::store::{Committer, RunRow, Store, StoreError};
use crate::telemetry::Telemetry;
use crate::version::Versions;
use admission::Admission;
pub use admission::LoadLimits;
use api::{
    ApiError, Description, HistoryPage, PendingActivityInfo, RunRef, RunResult, StartRequest, Started,
};
use cells::Cells;
use dispatch::Dispatcher;
use queries::Replicas;
pub use residents::ResidentLimits;
use residents::Residents;
use run::{Message, Start};
use survey::Surveyed;
use suspects::Suspects;
use timers::Timers;
use watch::Watchers;

/// The longest workflow id, type, or request id in bytes.
const LONGEST_ID: usize = 1_000;
/// How long something that the store refused waits before it is tried again.
const STORE_PAUSE_MS: u64 = 1_000;
/// How long runs may be folded after their activities have ended, when the host stops.
const SETTLE: Duration = Duration::from_secs(5);
/// Rows read at once at start-up, and messages that may then wait.
const RECOVERY_PAGE: usize = 512;

/// What a host may be told to do differently.
#[derive(Clone, Debug)]
pub struct HostSettings {
    /// Limits of a run.
    pub limits: Limits,
    /// Limits of the live instances.
    pub residents: ResidentLimits,
    /// Threads that fold, beside the one for suspect code. One more than there are cores: a guest that loops
    /// for the first time holds one for as long as an activation may take. Further ones would take turns.
    pub fold_threads: usize,
    /// What the host takes on at once before callers are told that it is busy.
    pub load: LoadLimits,
    /// How long a closed run is kept; absent: for ever.
    pub closed_runs_kept: Option<Duration>,
}

impl Default for HostSettings {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self {
            limits: Limits::default(),
            residents: ResidentLimits::default(),
            fold_threads: cores + 1,
            load: LoadLimits::default(),
            closed_runs_kept: None,
        }
    }
}

/// What a host is made of.
pub struct HostParts {
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// What runs components.
    pub engine: Engine,
    /// What runs activities.
    pub attempts: Attempts,
    /// Time and randomness.
    pub clock: Clock,
    /// What the host tells of itself; the attempts' own.
    pub telemetry: Telemetry,
    /// Called when the host must not go on: the store may hold something else than it thinks, or
    /// belongs to another host. It should end the process.
    pub on_fatal: Box<dyn Fn(&str) + Send + Sync>,
}

/// A running host: cheap to clone, shared by the server and the order application.
#[derive(Clone)]
pub struct Host {
    parts: Arc<Parts>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("is_ready", &self.is_ready()).finish_non_exhaustive()
    }
}

/// What the files of this module share.
struct Parts {
    store: Arc<dyn Store>,
    committer: Committer,
    versions: Versions,
    attempts: Attempts,
    clock: Clock,
    limits: Limits,
    cells: Cells,
    dispatcher: Dispatcher,
    timers: Timers,
    watchers: Watchers,
    residents: Residents,
    replicas: Replicas,
    suspects: Suspects,
    retries: Mutex<HashSet<RunKey>>,
    admission: Admission,
    telemetry: Telemetry,
    survey: Surveyed,
    stopping: CancellationToken,
    runtime: tokio::runtime::Handle,
    on_fatal: Box<dyn Fn(&str) + Send + Sync>,
}

impl Parts {
    fn send(&self, key: &RunKey, message: Message) {
        self.cells.send(key, message);
    }

    /// Sends once the store had time to recover.
    fn send_later(self: &Arc<Self>, key: &RunKey, message: Message) {
        let (parts, key) = (Arc::clone(self), key.clone());
        self.runtime.spawn(async move {
            parts.clock.sleep_until(parts.clock.now().plus_ms(STORE_PAUSE_MS)).await;
            parts.admission.writable().await;
            parts.send(&key, message);
        });
    }

    /// Tries a blocked run again at its time; a run is waited for once.
    fn retry_at(self: &Arc<Self>, key: &RunKey, at: Timestamp) {
        if !self.retries.lock().insert(key.clone()) {
            return;
        }
        let (parts, key) = (Arc::clone(self), key.clone());
        self.runtime.spawn(async move {
            tokio::select! {
                () = parts.clock.sleep_until(at) => {
                    parts.retries.lock().remove(&key);
                    parts.send(&key, Message::Retry);
                }
                () = parts.stopping.cancelled() => {}
            }
        });
    }

    fn end_process(&self, reason: &str) {
        tracing::error!(reason, "the host cannot go on");
        self.stopping.cancel();
        (self.on_fatal)(reason);
    }
}

impl Host {
    /// Starts a host on its parts and goes on with what an earlier one left open. Must be called
    /// within a tokio runtime.
    #[must_use]
    pub fn open(parts: HostParts, settings: &HostSettings) -> Self {
        let HostParts { store, engine, attempts, clock, telemetry, on_fatal } = parts;
        let attempts = attempts.with_telemetry(telemetry.clone());
        let parts = Arc::new(Parts {
            admission: Admission::new(settings.load, store.condition()),
            committer: Committer::new(Arc::clone(&store), telemetry.clone()),
            versions: Versions::new(engine, Arc::clone(&store), clock.clone()),
            store,
            attempts,
            clock,
            limits: settings.limits,
            cells: Cells::new(),
            dispatcher: Dispatcher::default(),
            timers: Timers::default(),
            watchers: Watchers::default(),
            residents: Residents::new(settings.residents),
            replicas: Replicas::new(settings.fold_threads),
            suspects: Suspects::default(),
            retries: Mutex::default(),
            telemetry,
            survey: Surveyed::default(),
            stopping: CancellationToken::new(),
            runtime: tokio::runtime::Handle::current(),
            on_fatal,
        });
        let threads = cells::spawn_threads(&parts, settings.fold_threads.max(1));
        let mut background = vec![
            parts.runtime.spawn(timers::fire_for_ever(Arc::clone(&parts))),
            parts.runtime.spawn(recover(Arc::clone(&parts))),
            parts.runtime.spawn(sweep::sweep_for_ever(Arc::clone(&parts))),
            parts.runtime.spawn(end_with_store(Arc::clone(&parts))),
            parts.runtime.spawn(parts.telemetry.clone().keep_up()),
        ];
        if let Some(kept) = settings.closed_runs_kept {
            background.push(parts.runtime.spawn(retention::remove_for_ever(Arc::clone(&parts), kept)));
        }
        let stopping = parts.stopping.clone();
        parts.runtime.spawn(async move {
            stopping.cancelled().await;
            background.iter().for_each(tokio::task::JoinHandle::abort);
        });
        Self { parts, threads: Arc::new(Mutex::new(threads)) }
    }

    /// Starts a run; it is on disk when this returns.
    ///
    /// # Errors
    /// `UnknownWorkflowType`, `AlreadyStarted`, `InvalidInput` (too large), `Busy`.
    pub async fn start(&self, request: StartRequest) -> Result<Started, ApiError> {
        let key = self.new_key(&request);
        self.start_as(key, request).await
    }

    /// Starts a run and waits up to `wait` for its end, which needs no look at the store. The run is on disk
    /// whatever comes of the waiting.
    ///
    /// # Errors
    /// As [`Host::start`]. An error of the waiting is that of [`Host::result`].
    pub async fn start_and_wait(
        &self,
        request: StartRequest,
        wait: Duration,
    ) -> Result<(Started, Result<RunResult, ApiError>), ApiError> {
        let key = self.new_key(&request);
        // Begun before the run is: its end cannot be missed.
        let mut watch = self.parts.watchers.watch_end(&key);
        let started = self.start_as(key.clone(), request).await?;
        let still_running = RunResult { key: key.clone(), status: RunStatus::Running, outcome: None };
        let closed = if started.is_duplicate {
            None
        } else {
            tokio::select! {
                closed = watch.changed() => closed,
                () = tokio::time::sleep(wait) => return Ok((started, Ok(still_running))),
                () = self.parts.stopping.cancelled() => return Ok((started, Ok(still_running))),
            }
        };
        let result = match closed.map(|closed| (closed.status, closed.outcome.clone())) {
            Some((status, outcome @ (Outcome::Result(_) | Outcome::Failure(_)))) => {
                Ok(RunResult { key, status, outcome: Some(outcome) })
            }
            // Another run goes on, or is meant.
            Some((_, Outcome::ContinuedAs(_))) | None => {
                let (workflow_id, run_id) = (started.workflow_id.clone(), Some(started.run_id));
                self.result(&RunRef { namespace: key.namespace, workflow_id, run_id }, wait).await
            }
        };
        Ok((started, result))
    }

    fn new_key(&self, request: &StartRequest) -> RunKey {
        RunKey { namespace: request.namespace.clone(), run_id: self.parts.clock.new_run_id() }
    }

    async fn start_as(&self, key: RunKey, request: StartRequest) -> Result<Started, ApiError> {
        self.check_start(&request)?;
        let parts = &self.parts;
        let _admitted = parts.admit_start()?;
        let workflow_id = request.workflow_id.clone().unwrap_or_else(|| {
            WorkflowId(request.request_id.clone().unwrap_or_else(|| parts.clock.new_uuid().to_string()))
        });
        let digest = self.digest_for(&request, &workflow_id).await?;
        let started = WorkflowStarted {
            workflow_type: request.workflow_type.clone(),
            workflow_id: workflow_id.clone(),
            namespace: request.namespace,
            run_id: key.run_id,
            original_run_id: key.run_id,
            digest,
            input: request.input,
            headers: request.headers,
            seed: parts.clock.new_seed(),
            attempt: 1,
            continued_from_run_id: None,
        };
        let new_run = NewRun {
            workflow_id,
            workflow_type: request.workflow_type,
            digest,
            started_at: parts.clock.now(),
            request_id: request.request_id,
        };
        let (reply, answered) = oneshot::channel();
        parts.send(&key, Message::Start(Box::new(Start { started, new_run, reply })));
        answered.await.unwrap_or_else(|_| Err(ApiError::Busy("the host is stopping".to_owned())))
    }

    fn check_start(&self, request: &StartRequest) -> Result<(), ApiError> {
        if self.parts.stopping.is_cancelled() {
            return Err(ApiError::Busy("the host is stopping".to_owned()));
        }
        self.parts.limits.check_payload("the input", request.input.size()).map_err(ApiError::InvalidInput)?;
        let ids = [
            ("workflow_id", request.workflow_id.as_ref().map(|id| id.0.as_str())),
            ("workflow_type", Some(request.workflow_type.as_str())),
            ("request_id", request.request_id.as_deref()),
        ];
        for (name, value) in ids {
            if value.is_some_and(|value| value.is_empty() || value.len() > LONGEST_ID) {
                return Err(ApiError::InvalidInput(format!("{name} must have 1 to {LONGEST_ID} bytes")));
            }
        }
        Ok(())
    }

    /// The component that a new run starts on.
    async fn digest_for(&self, request: &StartRequest, workflow_id: &WorkflowId) -> Result<Digest, ApiError> {
        let workflow_type = &request.workflow_type;
        let Some(digest) = request.digest else {
            let routes = self.parts.versions.routes();
            let routed = routes.digest_for(&request.namespace, workflow_type, workflow_id).await?;
            return routed.ok_or_else(|| {
                ApiError::UnknownWorkflowType(format!(
                    "no component with workflow type {workflow_type} is deployed"
                ))
            });
        };
        self.must_have(&request.namespace, workflow_type, digest).await.map(|()| digest)
    }

    /// Describes a run.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn describe(&self, run: &RunRef) -> Result<Description, ApiError> {
        let row = self.row(run).await?;
        let mut description = Description {
            workflow_id: row.workflow_id.clone(),
            workflow_type: row.workflow_type.clone(),
            digest: row.digest,
            status: row.status,
            history_length: row.next_event_id.0 - 1,
            started_at: row.started_at,
            closed_at: row.closed_at,
            outcome: row.outcome.clone(),
            blocked: row.blocked.clone(),
            pending_activities: Vec::new(),
            timers: Vec::new(),
            unread_signals: Vec::new(),
            cancel_requested: false,
            inbox_length: 0,
            key: row.key.clone(),
        };
        if row.status != RunStatus::Running {
            return Ok(description);
        }
        let store = self.parts.store.as_ref();
        let state = load::state(store, &row).await.map_err(|error| internal(&error))?;
        let mut attempts = store.attempts(&row.key).await.map_err(|error| internal(&error))?;
        let inbox = store.inbox(&row.key).await.map_err(|error| internal(&error))?;
        description.inbox_length = inbox.len() as u64;
        description.timers = state.timers().iter().collect();
        description.cancel_requested = state.is_cancel_requested();
        description.unread_signals =
            state.signals().unread().into_iter().map(|(id, signal)| (*id, signal.name.clone())).collect();
        for (id, activity) in state.activities().iter() {
            let row = attempts.iter().position(|row| row.scheduled_event_id == id);
            description.pending_activities.push(PendingActivityInfo {
                scheduled_event_id: id,
                activity_type: activity.scheduled.activity_type.clone(),
                scheduled_at: activity.scheduled_at,
                cancel_requested: activity.cancel_requested,
                maximum_attempts: activity.scheduled.retry_policy.maximum_attempts.filter(|most| *most > 0),
                attempts: row.map(|row| attempts.swap_remove(row)),
            });
        }
        Ok(description)
    }

    /// A run's events behind `after`; waits up to `wait` for one while there is none and the run is
    /// open. A page holds about `limit` events.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn history(
        &self,
        run: &RunRef,
        after: EventId,
        limit: usize,
        wait: Duration,
    ) -> Result<HistoryPage, ApiError> {
        let key = self.row(run).await?.key;
        let mut watch = self.parts.watchers.watch(&key);
        let in_time = tokio::time::sleep(wait);
        tokio::pin!(in_time);
        loop {
            let row = self.row_of(&key).await?;
            let events =
                self.parts.store.history(&key, after, limit).await.map_err(|error| internal(&error))?;
            let reached = events.last().map_or(after, |event| event.id);
            let is_open = row.status == RunStatus::Running;
            let is_over = !is_open || !events.is_empty() || wait.is_zero();
            // A host that stops says how things stand; who waits asks the next one.
            if is_over || in_time.is_elapsed() || self.parts.stopping.is_cancelled() {
                return Ok(HistoryPage {
                    key,
                    workflow_id: row.workflow_id,
                    workflow_type: row.workflow_type,
                    digest: row.digest,
                    status: row.status,
                    events,
                    is_complete: !is_open && reached.next() >= row.next_event_id,
                });
            }
            tokio::select! {
                _ = watch.changed() => {}
                () = &mut in_time => {}
                () = self.parts.stopping.cancelled() => {}
            }
        }
    }

    /// A run's end; waits up to `wait` for it. A run that continued as new is followed.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn result(&self, run: &RunRef, wait: Duration) -> Result<RunResult, ApiError> {
        let mut key = self.row(run).await?.key;
        let in_time = tokio::time::sleep(wait);
        tokio::pin!(in_time);
        loop {
            let mut watch = self.parts.watchers.watch_end(&key);
            let row = self.row_of(&key).await?;
            let (mut status, mut outcome) = (row.status, row.outcome);
            while status == RunStatus::Running && !wait.is_zero() && !in_time.is_elapsed() {
                tokio::select! {
                    progress = watch.changed() => if let Some(closed) = progress {
                        (status, outcome) = (closed.status, Some(closed.outcome.clone()));
                    },
                    () = &mut in_time => {}
                    () = self.parts.stopping.cancelled() => break,
                }
            }
            match outcome {
                Some(Outcome::ContinuedAs(next)) => key.run_id = next,
                outcome => return Ok(RunResult { key, status, outcome }),
            }
        }
    }

    /// A run's whole history, to be replayed anywhere.
    ///
    /// # Errors
    /// `NotFound`; also for a run whose first event could not be folded yet.
    pub async fn export(&self, run: &RunRef) -> Result<Export, ApiError> {
        let row = self.row(run).await?;
        let events = load::whole_history(self.parts.store.as_ref(), &row.key)
            .await
            .map_err(|error| internal(&error))?;
        Export::of(events, row.digest, self.parts.clock.now()).map_err(|_| {
            ApiError::NotFound(format!(
                "run {} has no history yet: its first event waits in the inbox",
                row.key.run_id
            ))
        })
    }

    /// Whether the host takes requests.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.readiness().is_ok()
    }

    /// Whether the host takes requests.
    ///
    /// # Errors
    /// `Busy`, with the reason.
    pub fn readiness(&self) -> Result<(), ApiError> {
        if self.parts.stopping.is_cancelled() {
            return Err(ApiError::Busy("the host is stopping".to_owned()));
        }
        self.parts.admission.trouble().map_or(Ok(()), |reason| Err(ApiError::Busy(reason)))
    }

    /// Stops in order: takes no new work, lets attempts under way end for up to `grace`, records the
    /// rest as interrupted, closes the store.
    pub async fn drain(&self, grace: Duration) {
        let parts = &self.parts;
        parts.stopping.cancel();
        parts.dispatcher.drain(grace).await;
        // Runs that loop may keep their thread busy for long; the next host takes them as it finds them.
        if tokio::time::timeout(SETTLE, parts.cells.idle()).await.is_err() {
            tracing::warn!("some runs were still being folded: the next host tries their activities again");
        } else if let Err(error) = parts.store.close().await {
            tracing::error!(%error, "the store could not be closed in order");
        }
        parts.cells.stop();
        let threads = std::mem::take(&mut *self.threads.lock());
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().map(JoinHandle::join).count());
        let _ = joined.await;
    }

    async fn row(&self, run: &RunRef) -> Result<RunRow, ApiError> {
        let store = &self.parts.store;
        let found = match run.run_id {
            Some(run_id) => {
                let key = RunKey { namespace: run.namespace.clone(), run_id };
                store.run(&key).await.map(|row| row.filter(|row| row.workflow_id == run.workflow_id))
            }
            None => store.latest_run(&run.namespace, &run.workflow_id).await,
        };
        found.map_err(|error| internal(&error))?.ok_or_else(|| not_found(&run.workflow_id, run.run_id))
    }

    async fn row_of(&self, key: &RunKey) -> Result<RunRow, ApiError> {
        let found = self.parts.store.run(key).await.map_err(|error| internal(&error))?;
        found.ok_or_else(|| ApiError::NotFound(format!("run {} is not there any more", key.run_id)))
    }
}

fn not_found(workflow_id: &WorkflowId, run_id: Option<RunId>) -> ApiError {
    ApiError::NotFound(match run_id {
        Some(run_id) => format!("workflow {workflow_id} has no run {run_id}"),
        None => format!("there is no workflow {workflow_id}"),
    })
}

fn internal(error: &StoreError) -> ApiError {
    match error {
        StoreError::RolledBack(_) => ApiError::Busy(error.to_string()),
        StoreError::InUse(_)
        | StoreError::SchemaTooNew { .. }
        | StoreError::Database(_)
        | StoreError::Damaged(_) => ApiError::Internal(error.to_string()),
    }
}

/// Ends the process when the store is lost to it, whoever's write it was.
async fn end_with_store(parts: Arc<Parts>) {
    if let Some(reason) = parts.admission.lost().await {
        parts.end_process(&reason);
    }
}

/// Wakes the runs that an earlier process left with something to do.
async fn recover(parts: Arc<Parts>) {
    let mut after = None;
    let mut found = 0;
    loop {
        match parts.store.needing_attention(after.clone(), RECOVERY_PAGE).await {
            Ok(page) if page.is_empty() => break,
            Ok(page) => {
                found += page.len();
                page.iter().for_each(|key| parts.send(key, Message::Wake));
                after = page.last().cloned();
                parts.cells.below(RECOVERY_PAGE).await;
            }
            Err(error) => {
                tracing::error!(%error, "open runs cannot be read");
                parts.clock.sleep_until(parts.clock.now().plus_ms(STORE_PAUSE_MS)).await;
            }
        }
    }
    if found > 0 {
        tracing::info!(runs = found, "went on with open runs");
    }
}
