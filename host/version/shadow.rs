//! Shadow replay: histories folded into a component beside everything else. Nothing here writes, sends a
//! message to a run, or lets a guest be heard.
//!
//! A history is read page by page, and each page folded and dropped before the next is read, so that no
//! history is ever whole in memory. Folding takes a permit that all checks of the host share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use everfold_core::divergence::{Replaying, Strictness};
use everfold_core::event::Event;
use everfold_core::fold::{self, Activated, Activation, Guest as _, GuestFault};
use everfold_core::ids::EventId;
use everfold_core::limits::Limits;
use everfold_core::machine::RunState;
use everfold_core::replay::{ReplayFault, replay_on};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use super::findings::{Changes, Found};
use super::outlook::Results;
use super::report::Spent;
use crate::guest::{Instance, LoadedComponent, NoInstance};
use crate::store::{RunRow, Store, StoreError};

/// Events read at once; a page ends with a step.
const PAGE: usize = 256;

/// So many times may a limit be passed, by the runs of a type or ahead of them, before no more is tried:
/// each takes as long as an activation may.
pub(crate) const LIMITS_PASSED: u32 = 20;

/// Threads that fold for checks.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
}

/// Where histories come from, and when to stop.
#[derive(Clone)]
pub(crate) struct Shadow {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) runtime: Handle,
    /// What each replay holds while it folds.
    pub(crate) threads: Arc<Semaphore>,
    /// Cancelled when nobody waits for the findings any more.
    pub(crate) stop: CancellationToken,
    pub(crate) clocks: Arc<Clocks>,
}

/// How long which part took, in nanoseconds, over all threads.
#[derive(Debug, Default)]
pub(crate) struct Clocks {
    reading: AtomicU64,
    instantiating: AtomicU64,
    folding: AtomicU64,
}

/// How a run stood when its replay held, and a guest that has folded it.
pub(crate) struct Stood {
    pub(crate) instance: Instance,
    pub(crate) state: RunState,
    pub(crate) changes: Changes,
}

/// A replay that was not brought to its end, or did not hold.
#[derive(Debug)]
pub(crate) enum Fell {
    /// The history, or the guest.
    Fault(ReplayFault),
    /// The store.
    Unread(StoreError),
    /// Nobody waits for it any more.
    Stopped,
}

/// What a shadow replay of one run came to.
pub(crate) struct Shadowed {
    pub(crate) found: Found,
    /// Whether the component passed a limit.
    pub(crate) cost: Cost,
    /// How the run stood, if its replay held.
    pub(crate) state: Option<RunState>,
    /// Events that were folded.
    pub(crate) events: u64,
    /// Results of its activities, if they were asked for.
    pub(crate) results: Results,
    pub(crate) took: Duration,
}

/// How dear a replay was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cost {
    /// As its history is long.
    Usual,
    /// A limit: of time, as a rule.
    Limit,
}

/// Whether results of activities are kept for a look ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Nothing,
    Results,
}

impl Shadow {
    /// Replays one run; none if nobody waits for it any more.
    pub(crate) async fn replay(
        &self,
        component: &LoadedComponent,
        strictness: Strictness,
        row: &RunRow,
        keep: Keep,
    ) -> Option<Shadowed> {
        let began = Instant::now();
        if row.next_event_id == EventId::FIRST && row.blocked.is_none() {
            // Its first event waits in the inbox: the component has nothing to agree with.
            return Some(Shadowed::held(row, Changes::default(), RunState::new()));
        }
        // Read before a thread is taken, so that no thread waits for the store.
        let first = self.page(row, EventId(0)).await;
        let Ok(permit) = Arc::clone(&self.threads).acquire_owned().await else { return None };
        let (shadow, component, row) = (self.clone(), component.clone(), row.clone());
        let replaying = Replaying { digest: component.digest(), strictness };
        let folded = tokio::task::spawn_blocking(move || {
            let mut results = Results::default();
            let kept = match keep {
                Keep::Nothing => None,
                Keep::Results => Some(&mut results),
            };
            let folded = shadow
                .fold(&component, replaying, &row, first, kept)
                .and_then(|stood| shadow.fold_waiting(&row, stood));
            // The permit covers the guest's end too.
            let shadowed = match folded {
                Ok(Stood { instance, state, changes }) => {
                    drop(instance);
                    Some(Shadowed { results, ..Shadowed::held(&row, changes, state) })
                }
                Err(Fell::Stopped) => None,
                Err(Fell::Unread(error)) => Some(Shadowed::fell(Found::unreadable(&row, error.to_string()))),
                Err(Fell::Fault(fault)) => {
                    let (cost, events) = (cost(&fault), reached(&fault));
                    Some(Shadowed { cost, events, results, ..Shadowed::fell(Found::of_fault(&row, fault)) })
                }
            };
            drop(permit);
            shadowed
        });
        let shadowed = came(folded.await).flatten()?;
        Some(Shadowed { took: began.elapsed(), ..shadowed })
    }

    /// Folds the history of a run, as long as it was when `row` was read, into a new instance. Must be
    /// called where blocking is allowed.
    ///
    /// # Errors
    /// When it does not hold, cannot be read, or nobody waits for it any more.
    pub(crate) fn fold(
        &self,
        component: &LoadedComponent,
        replaying: Replaying,
        row: &RunRow,
        first: Result<Vec<Event>, StoreError>,
        mut results: Option<&mut Results>,
    ) -> Result<Stood, Fell> {
        let began = Instant::now();
        let mut instance = component.instantiate().map_err(|none| match none {
            NoInstance::Full(_) => Fell::Unread(StoreError::Database(none.to_string())),
            NoInstance::Fault(fault) => Fell::Fault(ReplayFault::Guest { event_id: EventId::FIRST, fault }),
        })?;
        self.clocks.count(&self.clocks.instantiating, began);
        let mut state = RunState::new();
        let mut changes = Changes::default();
        if row.next_event_id == EventId::FIRST {
            return Ok(Stood { instance, state, changes });
        }
        let mut page = first.map_err(Fell::Unread)?;
        loop {
            if page.is_empty() {
                let reached = state.next().0 - 1;
                return Err(Fell::Unread(StoreError::Damaged(format!(
                    "run {} has no event behind {reached}",
                    row.key
                ))));
            }
            if let Some(results) = &mut results {
                results.gather(row, &state, &page);
            }
            let began = Instant::now();
            let steps = fold::activations(page).take_while(|_| !self.stop.is_cancelled());
            let replayed = replay_on(&mut instance, state, steps, replaying);
            self.clocks.count(&self.clocks.folding, began);
            let replayed = replayed.map_err(Fell::Fault)?;
            if self.stop.is_cancelled() {
                return Err(Fell::Stopped);
            }
            changes.take(replayed.changes);
            state = replayed.state;
            if state.next() >= row.next_event_id {
                return Ok(Stood { instance, state, changes });
            }
            let behind = EventId(state.next().0 - 1);
            page = self.runtime.block_on(self.page(row, behind)).map_err(Fell::Unread)?;
        }
    }

    /// Folds what waits in the inbox of a blocked run: a component that fails at it as well heals nothing.
    ///
    /// # Errors
    /// When it fails, or the inbox cannot be read.
    fn fold_waiting(&self, row: &RunRow, stood: Stood) -> Result<Stood, Fell> {
        if row.blocked.is_none() {
            return Ok(stood);
        }
        let inbox = self.runtime.block_on(self.store.inbox(&row.key)).map_err(Fell::Unread)?;
        let Stood { mut instance, state: reached, changes } = stood;
        let mut state = reached.clone();
        for (_, waiting) in inbox.inputs {
            if !state.awaits(&waiting.input) {
                continue;
            }
            let event_id = state.next();
            let activation = Activation::live(state, waiting.received_at, waiting.input, Limits::default())
                .map_err(|error| Fell::Fault(error.into()))?;
            let Activated { activation, outcome, observations: _ } = instance.activate(activation);
            let folded = outcome.and_then(|()| activation.finish());
            let folded = folded.map_err(|fault| Fell::Fault(ReplayFault::Guest { event_id, fault }))?;
            state = folded.state;
        }
        Ok(Stood { instance, state: reached, changes })
    }

    /// A page of a history, up to where it was when `row` was read.
    ///
    /// # Errors
    /// When the store does not answer or is damaged.
    pub(crate) async fn page(&self, row: &RunRow, behind: EventId) -> Result<Vec<Event>, StoreError> {
        let began = Instant::now();
        let mut events = self.store.history(&row.key, behind, PAGE).await?;
        events.retain(|event| event.id < row.next_event_id);
        self.clocks.count(&self.clocks.reading, began);
        Ok(events)
    }
}

impl Shadowed {
    fn held(row: &RunRow, changes: Changes, state: RunState) -> Self {
        let found = Found::held(row, changes.into_kept());
        Self { events: state.next().0 - 1, state: Some(state), ..Self::fell(found) }
    }

    fn fell(found: Found) -> Self {
        let results = Results::default();
        Self { found, cost: Cost::Usual, state: None, events: 0, results, took: Duration::ZERO }
    }
}

impl Clocks {
    fn count(&self, clock: &AtomicU64, since: Instant) {
        let took = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        clock.fetch_add(took, Ordering::Relaxed);
    }

    /// What they show.
    pub(crate) fn spent(&self) -> Spent {
        let ms = |clock: &AtomicU64| clock.load(Ordering::Relaxed) / 1_000_000;
        Spent {
            reading_ms: ms(&self.reading),
            instantiating_ms: ms(&self.instantiating),
            folding_ms: ms(&self.folding),
        }
    }
}

/// What a thread came to; none if the process is ending. Its panic is ours.
pub(crate) fn came<T>(joined: Result<T, JoinError>) -> Option<T> {
    match joined.map_err(JoinError::try_into_panic) {
        Ok(came) => Some(came),
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(_cancelled)) => None,
    }
}

const fn cost(fault: &ReplayFault) -> Cost {
    match fault {
        ReplayFault::Guest { fault: GuestFault::LimitExceeded { .. }, event_id: _ } => Cost::Limit,
        ReplayFault::Guest {
            fault: GuestFault::Nondeterminism(_) | GuestFault::Trap { .. },
            event_id: _,
        }
        | ReplayFault::Malformed(_) => Cost::Usual,
    }
}

/// How many events were folded before a fault.
const fn reached(fault: &ReplayFault) -> u64 {
    match fault {
        ReplayFault::Guest { event_id, fault: _ } => event_id.0 - 1,
        ReplayFault::Malformed(_) => 0,
    }
}
