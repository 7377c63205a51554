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
//! | `updates`, `validation` | updates: the caller's side; what the run's code says of one |
//! | `succession` | runs that a step begins |
//! | `start` | runs that callers begin, and their end |
//! | `look`, `queries`, `list` | looking at runs |
//! | `versions`, `check`, `moves` | routes; what a version would do to runs; runs that move to another |
//! | `survey` | counting them, for the metrics |
//! | `act` | what follows a commit |
//! | `dispatch` | activities under way, attempt by attempt; task queues, leases |
//! | `workers`, `operate` | polls and reports of those who make attempts outside; operators' wishes |
//! | `sweep`, `folder` | memory that nobody needs; a folder whose components are deployed |
//! | `schedules` | runs that are started again and again |
//! | `retention` | runs that closed long ago |
//! | `timers`, `watch`, `residents` | what fires soon, who waits, which instances live |
//! | `under_test` | what only tests do to a host |

mod act;
mod admission;
mod alarm;
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
mod look;
mod moves;
mod operate;
mod position;
mod queries;
mod reset;
mod residents;
mod retention;
mod run;
mod schedules;
mod source;
mod start;
mod succession;
mod survey;
mod suspects;
mod sweep;
mod talk;
mod timers;
mod under_test;
mod updates;
mod validation;
mod versions;
mod watch;
mod workers;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use everfold_core::ids::{RunKey, Timestamp};
use everfold_core::limits::Limits;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::activity::Attempts;
use crate::clock::Clock;
use crate::guest::Engine;
use crate::store::{Committer, Store, StoreError};
use crate::telemetry::Telemetry;
use crate::version::Versions;
use admission::Admission;
pub use admission::LoadLimits;
use api::ApiError;
use cells::Cells;
use dispatch::Dispatcher;
use queries::Replicas;
pub use residents::ResidentLimits;
use residents::Residents;
use run::Message;
use schedules::Schedules;
pub use start::Ending;
use survey::Surveyed;
use suspects::Suspects;
use timers::Timers;
use updates::Refusals;
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
    /// When this host opened: what was asked for later is not of an earlier process.
    opened_at: Timestamp,
    limits: Limits,
    cells: Cells,
    dispatcher: Dispatcher,
    timers: Timers,
    watchers: Watchers,
    residents: Residents,
    replicas: Replicas,
    refusals: Refusals,
    suspects: Suspects,
    retries: Mutex<HashSet<RunKey>>,
    schedules: Schedules,
    /// Messages that wait until the store had time to recover.
    postponed: AtomicUsize,
    admission: Admission,
    telemetry: Telemetry,
    survey: Surveyed,
    stopping: CancellationToken,
    /// Whether all runs that an earlier host left with something to do were woken.
    has_recovered: AtomicBool,
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
        self.postponed.fetch_add(1, Ordering::SeqCst);
        self.runtime.spawn(async move {
            parts.clock.sleep_until(parts.clock.now().plus_ms(STORE_PAUSE_MS)).await;
            parts.admission.writable().await;
            parts.send(&key, message);
            parts.postponed.fetch_sub(1, Ordering::SeqCst);
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
                () = parts.clock.rest_until(at) => {
                    parts.retries.lock().remove(&key);
                    parts.send(&key, Message::Retry);
                }
                () = parts.stopping.cancelled() => {}
            }
        });
    }

    /// Whether every attempt is counted: those that an earlier host may have lost, and its own, none of which waits to be
    /// written down. Otherwise the next host may not think that none was under way.
    fn has_counted_all(&self) -> bool {
        let knows_what_was_left = self.store.was_closed_in_order()
            || self.has_recovered.load(Ordering::SeqCst) && !self.dispatcher.has_left_lost_ones();
        knows_what_was_left && self.postponed.load(Ordering::SeqCst) == 0
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
            opened_at: clock.now(),
            clock,
            limits: settings.limits,
            cells: Cells::new(),
            dispatcher: Dispatcher::default(),
            timers: Timers::default(),
            watchers: Watchers::default(),
            residents: Residents::new(settings.residents),
            replicas: Replicas::new(settings.fold_threads),
            refusals: Refusals::new(),
            suspects: Suspects::default(),
            retries: Mutex::default(),
            schedules: Schedules::default(),
            postponed: AtomicUsize::new(0),
            telemetry,
            survey: Surveyed::default(),
            stopping: CancellationToken::new(),
            has_recovered: AtomicBool::new(false),
            runtime: tokio::runtime::Handle::current(),
            on_fatal,
        });
        let threads = cells::spawn_threads(&parts, settings.fold_threads.max(1));
        let host = Self { parts: Arc::clone(&parts), threads: Arc::new(Mutex::new(threads)) };
        let mut background = vec![
            parts.runtime.spawn(timers::fire_for_ever(Arc::clone(&parts))),
            parts.runtime.spawn(recover(Arc::clone(&parts))),
            parts.runtime.spawn(schedules::run_for_ever(host.clone())),
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
        host
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
        } else if !parts.has_counted_all() {
            tracing::warn!("some attempts are not written down: the next host counts them as lost");
        } else if let Err(error) = parts.store.close().await {
            tracing::error!(%error, "the store could not be closed in order");
        }
        parts.cells.stop();
        let threads = std::mem::take(&mut *self.threads.lock());
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().map(JoinHandle::join).count());
        let _ = joined.await;
    }
}

fn internal(error: &StoreError) -> ApiError {
    match error {
        StoreError::RolledBack(_) | StoreError::Busy(_) => ApiError::Busy(error.to_string()),
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
    parts.has_recovered.store(true, Ordering::SeqCst);
    if found > 0 {
        tracing::info!(runs = found, "went on with open runs");
    }
}
