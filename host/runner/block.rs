//! Instances built from history, and what it means when that, or a fold, does not work: a fault of
//! the code blocks the run, a fault of the host is tried again. A blocked run is healed here, on its own
//! version or on the one that new runs begin on.

use std::sync::Arc;

use everfold_core::decision::{BlockChange, BlockKind, Blocked, Decision, Effects, InboxInput};
use everfold_core::divergence::{Nondeterminism, Replaying};
use everfold_core::event::{Event, Input};
use everfold_core::fold::{self, GuestFault};
use everfold_core::ids::{Digest, EventId, RunId, Timestamp};
use everfold_core::machine::RunState;
use everfold_core::replay::{self, ReplayFault};
use everfold_core::retry::RetryPolicy;

use super::Parts;
use super::act::Done;
use super::api::ApiError;
use super::cells::Cell;
use super::load::Trial;
use super::moves::Moved;
use super::position::Position;
use super::run::{BlockedRun, Message, Phase, Ready, Run};
use super::source::{Keep, Source};
use super::talk::Refusal;
use crate::guest::{Instance, LoadedComponent, NoInstance};
use crate::version::Unavailable;

/// The longest pause between two tries of a blocked run.
const LONGEST_PAUSE_MS: u64 = 10 * 60 * 1_000;

/// Why an input could not be folded.
#[derive(Debug)]
pub(super) enum Fault {
    /// The run's code is at fault.
    Code {
        event_id: EventId,
        kind: BlockKind,
        reason: String,
        backtrace: String,
        divergence: Option<Box<Nondeterminism>>,
    },
    /// The host is: nothing is known about the code.
    Host(String),
}

impl Fault {
    /// The fault of a guest while it folded `event_id`.
    pub(super) fn guest(event_id: EventId, fault: GuestFault) -> Self {
        let (event_id, kind, reason, backtrace, divergence) = match fault {
            GuestFault::Nondeterminism(mut error) => {
                let backtrace = std::mem::take(&mut error.backtrace);
                (error.event_id, BlockKind::Nondeterminism, error.to_string(), backtrace, Some(error))
            }
            GuestFault::Trap { message, backtrace } => (event_id, BlockKind::Trap, message, backtrace, None),
            GuestFault::LimitExceeded { message, backtrace } => {
                (event_id, BlockKind::LimitExceeded, message, backtrace, None)
            }
        };
        Self::Code { event_id, kind, reason, backtrace, divergence }
    }

    /// For people.
    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Code { reason, .. } | Self::Host(reason) => reason,
        }
    }

    /// What the run's row says about it.
    pub(super) fn into_blocked(self, now: Timestamp, before: Option<&Blocked>) -> Blocked {
        let Self::Code { event_id, kind, reason, backtrace, divergence } = self else {
            unreachable!("a host's fault does not block a run")
        };
        let retries = before.map_or(0, |before| before.retries + 1);
        let policy = RetryPolicy { maximum_interval_ms: Some(LONGEST_PAUSE_MS), ..RetryPolicy::default() };
        let retry_at = now.plus_ms(policy.delay_ms(retries + 1));
        let since = before.map_or(now, |before| before.since);
        Blocked { event_id, kind, reason, backtrace, divergence, since, retries, retry_at }
    }
}

impl Run {
    /// Tries a blocked run again that has no input waiting: it is healed if its replay holds.
    pub(super) fn heal(&mut self, parts: &Arc<Parts>, cell: &Arc<Cell>) {
        let Phase::Ready(mut ready) = std::mem::take(self.phase_mut()) else { return };
        let at = Position::of_ready(&ready);
        let mut decision = at.decision(&cell.key);
        match instance(parts, &mut ready) {
            Ok(instance) => {
                ready.instance = Some(instance);
                ready.blocked = None;
                decision.blocked = BlockChange::Clear;
                if let Some(moved) = ready.moved.take() {
                    moved.record_in(&mut decision);
                }
                *self.phase_mut() = Phase::Ready(ready);
                self.submit(parts, cell, decision, None, Keep::Nothing, Done::Nothing);
            }
            Err(Fault::Host(error)) => {
                tracing::error!(run_id = %cell.key.run_id, error, "a blocked run cannot be tried again");
                parts.send_later(&cell.key, Message::Retry);
            }
            Err(fault @ Fault::Code { .. }) => {
                let before = ready.blocked.take();
                self.submit_block(parts, cell, at, before, fault, decision, Keep::Nothing, Done::Nothing);
            }
        }
    }

    /// The instance could not be had.
    pub(super) fn fault(
        &mut self,
        parts: &Arc<Parts>,
        cell: &Arc<Cell>,
        ready: Ready,
        fault: Fault,
        input: Input,
        source: Source,
    ) {
        self.block(parts, cell, Position::of_ready(&ready), ready.blocked, fault, input, source);
    }

    /// Blocks the run, if its code is at fault; the input waits in its inbox.
    #[expect(clippy::too_many_arguments, reason = "one value for each part of what is blocked")]
    pub(super) fn block(
        &mut self,
        parts: &Arc<Parts>,
        cell: &Arc<Cell>,
        at: Position,
        before: Option<Blocked>,
        fault: Fault,
        input: Input,
        source: Source,
    ) {
        if let Fault::Host(error) = &fault {
            tracing::error!(run_id = %cell.key.run_id, error, "a run cannot be folded now");
            *self.phase_mut() = Phase::Unloaded;
            match source {
                Source::Mailbox => parts.send_later(&cell.key, Message::Input(input)),
                Source::Inbox(_) => parts.send_later(&cell.key, Message::Wake),
                Source::Start { reply, .. } => {
                    let _ = reply.send(Err(ApiError::Busy(error.clone())));
                    *self.phase_mut() = Phase::Closed;
                }
                Source::Caller { reply, .. } => {
                    let _ = reply.send(Err(Refusal::Busy(error.clone())));
                }
            }
            return;
        }
        let mut decision = at.decision(&cell.key);
        let waits_already = matches!(source, Source::Inbox(_));
        // It was taken out of the backlog to be folded, and goes on waiting.
        let at = if waits_already { at.with_waiting([&input]) } else { at };
        if !waits_already {
            decision.effects = Effects::of_input(&input, parts.clock.now());
            decision.inbox_put = vec![InboxInput { received_at: parts.clock.now(), input }];
        }
        let (done, keep) = match source {
            Source::Inbox(_) => (Done::Nothing, Keep::Nothing),
            Source::Mailbox | Source::Start { .. } | Source::Caller { .. } => {
                source.into_done(&mut decision, &cell.key, Keep::Waiting)
            }
        };
        self.submit_block(parts, cell, at, before, fault, decision, keep, done);
    }

    #[expect(clippy::too_many_arguments, reason = "one value for each part of what is submitted")]
    fn submit_block(
        &mut self,
        parts: &Arc<Parts>,
        cell: &Arc<Cell>,
        at: Position,
        before: Option<Blocked>,
        fault: Fault,
        mut decision: Decision,
        keep: Keep,
        done: Done,
    ) {
        let blocked = fault.into_blocked(parts.clock.now(), before.as_ref());
        decision.blocked = BlockChange::Block(blocked.clone());
        parts.residents.remove(&cell.key);
        let at = at.with_waiting(decision.inbox_put.iter().map(|waiting| &waiting.input));
        *self.phase_mut() = Phase::Blocked(BlockedRun { at, blocked, updates: None });
        self.submit(parts, cell, decision, None, keep, done);
    }

    /// The version that was to heal the run does not. Nothing was written, and its own is tried.
    pub(super) fn not_healed(&mut self, parts: &Arc<Parts>, cell: &Arc<Cell>, on: Digest, reason: &str) {
        tell_not_healed(cell.key.run_id, on, reason);
        *self.phase_mut() = Phase::Unloaded;
        if !self.ensure_loaded_for(parts, cell, Trial::OnItsOwn) {
            parts.send_later(&cell.key, Message::Retry);
        }
    }
}

/// Tells why the version on which new runs begin does not heal a blocked run; its row has the fault on its own.
fn tell_not_healed(run_id: RunId, on: Digest, reason: &str) {
    tracing::info!(
        target: "everfold::run",
        %run_id,
        digest = on.short(),
        reason,
        "the current version does not heal a blocked run"
    );
}

/// The run's instance: the live one, or a new one into which the history is folded. A blocked run is
/// tried on the version first that may heal it; if its replay holds there, the run is on it from then on.
///
/// # Errors
/// When there is no such component, or the replay does not hold.
pub(super) fn instance(parts: &Arc<Parts>, ready: &mut Ready) -> Result<Instance, Fault> {
    if let Some(instance) = ready.instance.take() {
        return Ok(instance);
    }
    if let Some(healer) = ready.healer.take() {
        match folded(parts, healer, &ready.state, ready.recorded.clone()) {
            Ok((instance, state)) => {
                let (state, moved) = Moved::to(healer, ready.digest, state, parts.clock.now());
                ready.state = state;
                ready.digest = healer;
                ready.moved = Some(moved);
                ready.recorded = Vec::new();
                return Ok(instance);
            }
            Err(Fault::Host(error)) => return Err(Fault::Host(error)),
            // Then its own version is tried.
            Err(Fault::Code { reason, .. }) => {
                if let Some(started) = ready.state.started() {
                    tell_not_healed(started.run_id, healer, &reason);
                }
            }
        }
    }
    let (instance, state) = folded(parts, ready.digest, &ready.state, std::mem::take(&mut ready.recorded))?;
    // It knows what no event says: which changes the run's code asked about in vain.
    ready.state = state;
    Ok(instance)
}

/// A component, for a run whose next event is `here`.
///
/// # Errors
/// When there is no such component.
pub(super) fn component(parts: &Arc<Parts>, digest: Digest, here: EventId) -> Result<LoadedComponent, Fault> {
    parts.runtime.block_on(parts.versions.component(digest)).map_err(|error| match error {
        Unavailable::Missing(_) | Unavailable::Refused { .. } => Fault::Code {
            event_id: here,
            kind: BlockKind::ComponentUnavailable,
            reason: error.to_string(),
            backtrace: String::new(),
            divergence: None,
        },
        Unavailable::Store(error) => Fault::Host(error.to_string()),
    })
}

/// A new instance of a component into which a history is folded, and the state behind it. `state` is the
/// one that the history leads to.
///
/// # Errors
/// When there is no such component, or the replay does not hold.
pub(super) fn folded(
    parts: &Arc<Parts>,
    digest: Digest,
    state: &RunState,
    history: Vec<Event>,
) -> Result<(Instance, RunState), Fault> {
    let here = state.next();
    let component = component(parts, digest, here)?;
    let mut instance = component.instantiate().map_err(|none| match none {
        NoInstance::Full(_) => Fault::Host(none.to_string()),
        NoInstance::Fault(fault) => Fault::guest(here, fault),
    })?;
    if history.is_empty() {
        return Ok((instance, state.clone()));
    }
    let (events, began) = (history.len(), std::time::Instant::now());
    let replayed = replay::replay(&mut instance, fold::activations(history), Replaying::with(digest));
    let replayed = replayed.map_err(|fault| match fault {
        ReplayFault::Malformed(error) => Fault::Host(error.to_string()),
        ReplayFault::Guest { event_id, fault } => Fault::guest(event_id, fault),
    })?;
    let workflow_type = state.started().map_or("", |started| &started.workflow_type);
    parts.telemetry.replayed(workflow_type, events, began.elapsed());
    Ok((instance, replayed.state))
}
