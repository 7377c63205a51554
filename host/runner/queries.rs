//! Questions to runs, answered by replicas: instances of their own, folded from the committed history,
//! kept and caught up while they are asked, never promoted.
//!
//! ```text
//! query ─▶ replica of the run (kept, else new) ─▶ fold what was committed since ─▶ ask ─▶ answer
//! ```
//!
//! A replica that faults is dropped. Replicas are bounded by count, the least recently asked goes first,
//! and by time: one that was not asked for some minutes goes. One run's questions are answered one after
//! the other.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use everfold_core::divergence::Replaying;
use everfold_core::event::Event;
use everfold_core::failure::Failure;
use everfold_core::fold;
use everfold_core::ids::{Digest, EventId, RunKey, Timestamp};
use everfold_core::machine::RunState;
use everfold_core::payload::Payload;
use everfold_core::replay::{ReplayFault, Replayed, replay_on};
use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};

use super::api::{ApiError, QueryAnswer, QueryRequest, RunRef};
use super::{Host, internal};
use crate::guest::{LoadedComponent, NoInstance, Replica};
use crate::store::RunRow;
use crate::version::Unavailable;

/// Replicas that are kept.
const KEPT: NonZeroUsize = NonZeroUsize::new(256).expect("it is not zero");
/// How long a replica is kept behind the last question.
const KEPT_FOR: Duration = Duration::from_secs(5 * 60);
/// How long a question may wait for a thread.
const PATIENCE: Duration = Duration::from_secs(10);
/// Events read at once.
const PAGE: usize = 4_096;
/// The type by which a guest says that it does not know the question (wit/query.wit).
const UNKNOWN_QUERY: &str = "UnknownQuery";

/// The replicas of this host.
pub(super) struct Replicas {
    kept: Mutex<LruCache<RunKey, Kept>>,
    threads: Semaphore,
}

/// The place of a run's replica, which is empty while the replica is asked.
pub(super) type Place = Arc<AsyncMutex<Option<Folded>>>;

/// A place, and when it was asked for last.
struct Kept {
    place: Place,
    asked_at: Timestamp,
}

/// A replica and how far it has folded.
pub(super) struct Folded {
    pub(super) replica: Replica,
    pub(super) state: RunState,
    pub(super) digest: Digest,
}

/// Why no replica stands where the run does.
pub(super) enum NoReplica {
    /// The component says nothing of its runs.
    Mute,
    /// There is no instance to be had.
    NoInstance(NoInstance),
    /// The history cannot be folded.
    NotFolded(ReplayFault),
}

/// What asking brought.
enum Asked {
    Answered(Result<Payload, Failure>),
    /// The history cannot be folded.
    NotFolded(String),
    /// The guest failed while it answered.
    Faulted(String),
    /// The component answers no questions.
    Unanswerable,
    /// The host has no room for a replica now.
    NoRoom(String),
}

impl Asked {
    /// What it is counted under.
    fn outcome(&self) -> &'static str {
        match self {
            Self::Answered(Ok(_)) => "answered",
            Self::Answered(Err(failure)) if failure.type_name() == UNKNOWN_QUERY => "unknown",
            Self::Answered(Err(_)) => "failed",
            Self::NotFolded(_) => "blocked",
            Self::Faulted(_) => "faulted",
            Self::Unanswerable => "unanswerable",
            Self::NoRoom(_) => "busy",
        }
    }
}

impl Replicas {
    pub(super) fn new(threads: usize) -> Self {
        Self { kept: Mutex::new(LruCache::new(KEPT)), threads: Semaphore::new(threads.max(1)) }
    }

    /// The place of a run's replica.
    pub(super) fn of(&self, key: &RunKey, now: Timestamp) -> Place {
        let mut kept = self.kept.lock();
        let kept = kept.get_or_insert_mut(key.clone(), || Kept { place: Arc::default(), asked_at: now });
        kept.asked_at = now;
        Arc::clone(&kept.place)
    }

    /// Drops the replicas that nobody asked for some minutes; gives the number of those that are left.
    pub(super) fn expire(&self, now: Timestamp) -> usize {
        let mut kept = self.kept.lock();
        let is_old = |kept: &Kept| u128::from(now.ms_since(kept.asked_at)) >= KEPT_FOR.as_millis();
        while kept.peek_lru().is_some_and(|(_, oldest)| is_old(oldest)) {
            // Who asks just now has the place too, and drops the replica with it.
            let _ = kept.pop_lru();
        }
        kept.len()
    }
}

impl Host {
    /// Asks a run, open or closed. The answer is as of its history when the question was asked.
    ///
    /// # Errors
    /// `NotFound`; `UnknownQuery` and `QueryFailed` from the run's code; `Blocked` when its history
    /// cannot be folded; `InvalidInput`, `Busy`.
    pub async fn query(&self, request: QueryRequest) -> Result<QueryAnswer, ApiError> {
        let QueryRequest { run, name, input } = request;
        let parts = &self.parts;
        parts.limits.check_payload("the query's input", input.size()).map_err(ApiError::InvalidInput)?;
        let row = self.begun(&run).await?;
        let component = parts.versions.component(row.digest).await.map_err(|error| match error {
            Unavailable::Missing(_) | Unavailable::Refused { .. } => ApiError::Blocked(error.to_string()),
            Unavailable::Store(error) => internal(&error),
        })?;
        let Ok(Ok(_thread)) = tokio::time::timeout(PATIENCE, parts.replicas.threads.acquire()).await else {
            return Err(ApiError::Busy("too many queries are being answered".to_owned()));
        };
        let place = parts.replicas.of(&row.key, parts.clock.now());
        parts.versions.loaded().look_again();
        let mut place = place.lock_owned().await;
        let kept = place.take().filter(|folded| folded.digest == row.digest);
        let behind = kept.as_ref().map_or(EventId(0), |folded| EventId(folded.state.next().0 - 1));
        let news = self.events_behind(&row, behind).await?;
        let question = name.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let (kept, asked) = ask(&component, kept, news, &question, &input);
            *place = kept;
            asked
        });
        let asked = asked.await.map_err(|error| ApiError::Internal(format!("a query panicked: {error}")))?;
        parts.telemetry.queried(&row.workflow_type, asked.outcome());
        match asked {
            Asked::Answered(Ok(result)) => {
                Ok(QueryAnswer { workflow_id: row.workflow_id, run_id: row.key.run_id, result })
            }
            Asked::Answered(Err(failure)) if failure.type_name() == UNKNOWN_QUERY => {
                Err(ApiError::UnknownQuery(failure.message))
            }
            Asked::Answered(Err(failure)) => Err(ApiError::QueryFailed(failure)),
            Asked::Faulted(reason) => {
                Err(ApiError::QueryFailed(Failure::application("QueryFaulted", reason)))
            }
            Asked::NotFolded(reason) => Err(ApiError::Blocked(reason)),
            Asked::NoRoom(reason) => Err(ApiError::Busy(reason)),
            Asked::Unanswerable => {
                let digest = row.digest.short();
                Err(ApiError::UnknownQuery(format!("component {digest} answers no queries: {name}")))
            }
        }
    }

    /// The run's row once it has a history: a run that another one began is folded a moment later.
    async fn begun(&self, run: &RunRef) -> Result<RunRow, ApiError> {
        let mut row = self.row(run).await?;
        let mut watch = self.parts.watchers.watch(&row.key);
        let in_time = tokio::time::sleep(PATIENCE);
        tokio::pin!(in_time);
        loop {
            row = self.row_of(&row.key).await?;
            let waits =
                format!("run {} has no history yet: its first event waits in the inbox", row.key.run_id);
            if row.next_event_id != EventId::FIRST {
                return Ok(row);
            }
            if row.blocked.is_some() {
                return Err(ApiError::Blocked(waits));
            }
            tokio::select! {
                _ = watch.changed() => {}
                () = &mut in_time => return Err(ApiError::Busy(waits)),
                () = self.parts.stopping.cancelled() => return Err(ApiError::Busy(waits)),
            }
        }
    }

    /// What was committed of a run since, up to the row.
    async fn events_behind(&self, row: &RunRow, behind: EventId) -> Result<Vec<Event>, ApiError> {
        let mut events: Vec<Event> = Vec::new();
        loop {
            let reached = events.last().map_or(behind, |event| event.id);
            if reached.next() >= row.next_event_id {
                return Ok(events);
            }
            let page = self.parts.store.history(&row.key, reached, PAGE).await;
            let page = page.map_err(|error| internal(&error))?;
            if page.is_empty() {
                return Ok(events);
            }
            events.extend(page);
        }
    }
}

/// Catches a replica up and asks it; gives it back if it is still of use.
fn ask(
    component: &LoadedComponent,
    kept: Option<Folded>,
    news: Vec<Event>,
    name: &str,
    input: &Payload,
) -> (Option<Folded>, Asked) {
    let mut folded = match catch_up(component, kept, news) {
        Ok(folded) => folded,
        Err(NoReplica::Mute) => return (None, Asked::Unanswerable),
        Err(NoReplica::NoInstance(NoInstance::Fault(fault))) => {
            return (None, Asked::NotFolded(fault.to_string()));
        }
        Err(NoReplica::NoInstance(none @ NoInstance::Full(_))) => {
            return (None, Asked::NoRoom(none.to_string()));
        }
        Err(NoReplica::NotFolded(fault)) => {
            return (None, Asked::NotFolded(format!("the history cannot be folded: {fault}")));
        }
    };
    match folded.replica.query(name, input) {
        Ok(Some(answer)) => (Some(folded), Asked::Answered(answer)),
        Ok(None) => (Some(folded), Asked::Unanswerable),
        Err(fault) => (None, Asked::Faulted(fault.to_string())),
    }
}

/// Folds into a replica, a new one if none was kept, what was committed since.
///
/// # Errors
/// When there is none, or it does not take the history.
pub(super) fn catch_up(
    component: &LoadedComponent,
    kept: Option<Folded>,
    news: Vec<Event>,
) -> Result<Folded, NoReplica> {
    let (mut replica, state) = match kept {
        Some(Folded { replica, state, digest: _ }) => (replica, state),
        None => match component.replica() {
            Ok(Some(replica)) => (replica, RunState::new()),
            Ok(None) => return Err(NoReplica::Mute),
            Err(none) => return Err(NoReplica::NoInstance(none)),
        },
    };
    let replaying = Replaying::with(component.digest());
    let replayed = replay_on(&mut replica, state, fold::activations(news), replaying);
    let Replayed { state, changes: _ } = replayed.map_err(NoReplica::NotFolded)?;
    Ok(Folded { replica, state, digest: component.digest() })
}
