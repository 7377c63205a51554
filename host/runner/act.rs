//! After the commit: only what is on disk is acted on, answered, logged or shown.

use std::sync::Arc;

use everfold_core::command::Command;
use everfold_core::decision::{Decision, Effects, PendingActivity};
use everfold_core::event::{EventKind, Input};
use everfold_core::failure::Failure;
use everfold_core::ids::{EventId, RunKey};
use tokio::sync::oneshot;

use super::Parts;
use super::api::{ApiError, Started};
use super::cells::Cell;
use super::dispatch::Dispatcher;
use super::load;
use super::moves::MoveAnswer;
use super::run::{Committed, Flight, Message, Phase, Ready, Talk};
use super::source::Keep;
use super::talk::{Answer, Ask, Refusal, Taken};
use crate::activity::AttemptTask;
use crate::activity::desk::End;
use crate::store::{CommitError, Verdict};
use crate::telemetry::{Facts, RunNames};

/// Whom to answer when a decision is on disk.
pub(super) enum Done {
    /// Nobody.
    Nothing,
    /// The caller who started the run.
    Start {
        /// The answer.
        started: Started,
        /// Where it goes.
        reply: oneshot::Sender<Result<Started, ApiError>>,
    },
    /// The caller who talks to the run.
    Caller {
        /// Where the answer goes.
        reply: oneshot::Sender<Answer>,
    },
    /// Who moves the run to another version.
    Move {
        /// Where the answer goes.
        reply: oneshot::Sender<MoveAnswer>,
    },
    /// Who asks what became of an update that waited in the inbox.
    UpdateRefused {
        /// The update.
        update_id: String,
        /// Why.
        failure: Failure,
    },
    /// The driver of an activity.
    Attempt {
        /// The row, to be written again if the commit did not happen.
        pending: Box<PendingActivity>,
        /// Where the answer goes.
        reply: oneshot::Sender<bool>,
    },
}

/// Acts on the answer to a decision. `phase` is the one behind what is in flight; it changes when the decision
/// did not come to be.
pub(super) fn after_commit(
    parts: &Arc<Parts>,
    cell: &Arc<Cell>,
    flight: Flight,
    committed: Committed,
    decision: Decision,
    names: Option<&Arc<RunNames>>,
    phase: &mut Phase,
) {
    match committed {
        Ok(Verdict::Committed { reached }) => {
            // Before anybody is told: whoever then talks to one of them comes behind what was sent.
            for run_id in reached {
                let reached = RunKey { namespace: cell.key.namespace.clone(), run_id };
                parts.send(&reached, Message::Wake);
            }
            act(parts, &cell.key, flight, decision, names, phase);
        }
        Ok(Verdict::Fenced) if decision.inbox_known.is_some() => {
            *phase = again(parts, cell, flight, decision);
        }
        Ok(Verdict::Fenced) => {
            tracing::warn!(run_id = %cell.key.run_id, "a decision came too late and is dropped");
            *phase = undo(parts, cell, flight, decision, "the run has moved on");
        }
        Ok(Verdict::Postponed(run_id)) => {
            // That one may be asleep, also for long.
            let doomed = RunKey { namespace: cell.key.namespace.clone(), run_id };
            parts.send(&doomed, Message::Wake);
            *phase = match flight.done {
                Done::Start { .. } => undo(
                    parts,
                    cell,
                    flight,
                    decision,
                    "a run under its child's workflow id is being terminated",
                ),
                Done::Nothing
                | Done::Caller { .. }
                | Done::Move { .. }
                | Done::UpdateRefused { .. }
                | Done::Attempt { .. } => again(parts, cell, flight, decision),
            };
        }
        Ok(Verdict::AlreadyRunning(run_id)) => {
            if let Done::Start { started, reply } = flight.done {
                let workflow_id = started.workflow_id;
                let _ = reply.send(Err(ApiError::AlreadyStarted { workflow_id, run_id }));
            }
            *phase = Phase::Closed;
        }
        Ok(Verdict::IdTaken(run_id)) => {
            if let Done::Start { started, reply } = flight.done {
                let workflow_id = started.workflow_id;
                let _ = reply.send(Err(ApiError::IdTaken { workflow_id, run_id }));
            }
            *phase = Phase::Closed;
        }
        Ok(Verdict::SameRequest(run_id)) => match flight.done {
            Done::Start { started, reply } => {
                let _ = reply.send(Ok(Started { run_id, is_duplicate: true, ..started }));
                *phase = Phase::Closed;
            }
            Done::Caller { reply } => {
                // What was folded past the store goes; the run is read again.
                parts.residents.remove(&cell.key);
                let _ = reply.send(Ok(Taken { run_id, is_duplicate: true, from: EventId::FIRST }));
                *phase = Phase::Unloaded;
            }
            Done::Nothing | Done::Move { .. } | Done::UpdateRefused { .. } | Done::Attempt { .. } => {
                unreachable!("only callers' requests are done once")
            }
        },
        Err(error) => match error.as_ref() {
            CommitError::RolledBack(reason) => *phase = undo(parts, cell, flight, decision, reason),
            CommitError::EpochOver | CommitError::Uncertain(_) => {
                parts.end_process(&error.to_string());
                *phase = Phase::Closed;
            }
        },
    }
}

/// The commit happened. What is begun and stopped is what the decision says; `phase` may be further, or given up.
fn act(
    parts: &Arc<Parts>,
    key: &RunKey,
    flight: Flight,
    decision: Decision,
    names: Option<&Arc<RunNames>>,
    phase: &Phase,
) {
    match flight.done {
        Done::Nothing => {}
        Done::Start { started, reply } => {
            let inherits = decision.new_run.as_ref().and_then(|new_run| new_run.inherits.as_deref());
            if let Some(inherits) = inherits {
                parts.timers.apply(key, &inherits.effects, false);
            }
            if !decision.inbox_put.is_empty() || inherits.is_some() {
                parts.send(key, Message::Wake);
            }
            let _ = reply.send(Ok(started));
        }
        Done::Caller { reply } => {
            let from = decision.expected;
            let run_id = decision.answered_by();
            let _ = reply.send(Ok(Taken { run_id, is_duplicate: false, from }));
        }
        Done::Move { reply } => {
            let _ = reply.send(MoveAnswer::Moved);
        }
        Done::UpdateRefused { update_id, failure } => parts.refusals.remember(key, update_id, failure),
        Done::Attempt { pending, reply } => {
            parts.telemetry.attempt_recorded(key, &pending);
            let _ = reply.send(true);
        }
    }
    let effects = &decision.effects;
    parts.watchers.tell(key, decision.closed.as_ref());
    for id in &effects.activities_closed {
        parts.dispatcher.closed(key, *id, End::Recorded);
    }
    parts.timers.apply(key, effects, decision.closed.is_some() && decision.leaves.timers);
    if decision.closed.is_some() {
        parts.dispatcher.run_closed(key);
        parts.residents.remove(key);
    } else {
        if let Some(names) = names {
            scheduled(key, names, &decision).for_each(|task| Dispatcher::dispatch(parts, task));
        }
        for id in &effects.activities_canceled {
            parts.dispatcher.cancel(key, *id);
        }
    }
    // Behind the end of what this run had under way.
    for next in &decision.next_runs {
        let key = RunKey { namespace: key.namespace.clone(), run_id: next.run_id };
        if let Some(inherits) = &next.new_run.inherits {
            parts.timers.apply(&key, &inherits.effects, false);
        }
        match next.new_run.start_at {
            Some(start_at) => parts.timers.apply(&key, &Effects::alarm(start_at), false),
            None => parts.send(&key, Message::Wake),
        }
    }
    match phase {
        Phase::Ready(ready) => keep_resident(parts, key, ready),
        Phase::Blocked(run) => parts.retry_at(key, run.blocked.retry_at),
        Phase::Delayed(_) | Phase::Closed | Phase::Unloaded => {}
    }
    parts.telemetry.committed(Facts::of(names.cloned(), decision, flight.folded));
}

/// The first attempts of the activities that a decision scheduled.
fn scheduled<'d>(
    key: &'d RunKey,
    names: &'d Arc<RunNames>,
    decision: &'d Decision,
) -> impl Iterator<Item = AttemptTask> + 'd {
    decision.events.iter().filter_map(|event| match &event.kind {
        EventKind::Command(Command::ActivityScheduled(scheduled)) => {
            Some(AttemptTask::first(key, names, event.id, event.time, scheduled))
        }
        EventKind::Command(_) | EventKind::Input(_) | EventKind::Note(_) => None,
    })
}

/// Counts the run's instance among those that stay, and sends away those for which there is no room.
fn keep_resident(parts: &Arc<Parts>, key: &RunKey, ready: &Ready) {
    let Some(instance) = &ready.instance else { return };
    let events = ready.state.next().0;
    let workflow_type = ready.state.started().map_or("", |started| &started.workflow_type);
    let of = (workflow_type, ready.digest);
    for victim in parts.residents.touch(key, of, events, instance.memory_bytes()) {
        parts.telemetry.evicted();
        parts.cells.send_if_present(&victim, Message::Evict);
    }
}

/// The step comes again, because something had reached the run that closes here, which comes first, or because a child's
/// workflow id is not free yet: the run is read again, and what was folded follows behind that.
fn again(parts: &Arc<Parts>, cell: &Arc<Cell>, flight: Flight, mut decision: Decision) -> Phase {
    tracing::debug!(run_id = %cell.key.run_id, "a step comes again: it came too early");
    parts.residents.remove(&cell.key);
    let message = match (decision.take_input(), flight.done) {
        (Some(input), Done::Caller { reply }) => {
            Message::Talk(Box::new(Talk { ask: Ask::Take(input), request: decision.request, reply }))
        }
        (Some(input), _) if flight.keep == Keep::Folded => Message::Input(input),
        // It is in the inbox.
        (Some(_) | None, _) => Message::Wake,
    };
    cell.put_back(None, message);
    Phase::Unloaded
}

/// The commit did not happen: the instance that was folded past it goes, what came from outside is
/// kept and tried again.
fn undo(parts: &Arc<Parts>, cell: &Arc<Cell>, flight: Flight, mut decision: Decision, reason: &str) -> Phase {
    parts.residents.remove(&cell.key);
    match flight.done {
        Done::Start { reply, .. } => {
            let _ = reply.send(Err(ApiError::Busy(format!("the run was not started: {reason}"))));
            return Phase::Closed;
        }
        Done::Caller { reply } => {
            let _ = reply.send(Err(Refusal::Busy(reason.to_owned())));
            parts.send_later(&cell.key, Message::Wake);
        }
        Done::Move { reply } => {
            let _ = reply.send(MoveAnswer::Busy(reason.to_owned()));
            parts.send_later(&cell.key, Message::Wake);
        }
        // A driver that waits no more has written a later row since.
        Done::Attempt { reply, .. } if reply.is_closed() => parts.send_later(&cell.key, Message::Wake),
        Done::Attempt { pending, reply } => {
            parts.send_later(&cell.key, Message::Attempt { pending, reply });
        }
        Done::Nothing | Done::UpdateRefused { .. } => {
            let input = match flight.keep {
                Keep::Nothing => None,
                Keep::Folded => decision.take_input(),
                Keep::Waiting => decision.inbox_put.pop().map(|waiting| waiting.input),
            };
            let message = input.map_or(Message::Wake, Message::Input);
            parts.send_later(&cell.key, message);
        }
    }
    Phase::Unloaded
}

/// Forgets what an input that is not folded was about.
pub(super) fn forget(parts: &Parts, key: &RunKey, input: &Input) {
    if let Some(id) = load::closes_activity(input) {
        parts.dispatcher.closed(key, id, End::Gone);
        parts.telemetry.activity_forgotten(key, id);
    }
}
