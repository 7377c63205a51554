//! A run's own timer: it begins later than it was started, or has taken too long.
//!
//! ```text
//! start ── start delay, back-off ──▶ Delayed ── alarm ──▶ first event ── alarm ──▶ WorkflowTimedOut
//! ```
//!
//! The alarm is a row among the timers ([`ALARM`](everfold_core::lifetime::ALARM)), so that a run which waits costs no
//! memory. What passes a time-out closes by a note: its guest is not asked.

use std::sync::Arc;

use everfold_core::decision::{Closed, Effects, InboxInput, Outcome};
use everfold_core::event::{Event, EventKind, Input, Note, WorkflowTimedOut};
use everfold_core::ids::Timestamp;
use everfold_core::lifetime::WorkflowTimeout;
use everfold_core::machine::RunState;

use super::Parts;
use super::act::Done;
use super::block::Fault;
use super::cells::Cell;
use super::load;
use super::position::Position;
use super::run::{Message, Phase, Run, Start};
use super::source::{Keep, Source};
use super::succession;

impl Run {
    /// Writes a run down that begins at `start_at`.
    pub(super) fn start_later(
        &mut self,
        parts: &Arc<Parts>,
        cell: &Arc<Cell>,
        start_at: Timestamp,
        start: Start,
    ) {
        let Start { started, new_run, sent, reply } = start;
        let at = Position::of(&RunState::new());
        let mut decision = at.decision(&cell.key);
        decision.effects = Effects::alarm(start_at);
        let received_at = parts.clock.now();
        decision.inbox_put = vec![InboxInput { received_at, input: Input::WorkflowStarted(started) }];
        let source = Source::Start { new_run, sent, reply };
        let (done, keep) = source.into_done(&mut decision, &cell.key, Keep::Nothing);
        let waiting = decision.inbox_put.iter().map(|waiting| &waiting.input);
        *self.phase_mut() = Phase::Delayed(at.with_waiting(waiting));
        self.submit(parts, cell, decision, None, keep, done);
    }

    /// Looks whether the run is to begin, or has taken too long.
    pub(super) fn alarm(&mut self, parts: &Arc<Parts>, cell: &Arc<Cell>) {
        if matches!(self.phase(), Phase::Delayed(_)) {
            *self.phase_mut() = Phase::Unloaded;
        }
        if !self.ensure_loaded(parts, cell) {
            return parts.send_later(&cell.key, Message::Alarm);
        }
        let Some(at) = self.position() else { return };
        let passed = at.deadline.filter(|(deadline, _)| *deadline <= parts.clock.now());
        if let Some((_, timeout)) = passed {
            self.time_out(parts, cell, at, timeout);
        }
    }

    fn time_out(&mut self, parts: &Arc<Parts>, cell: &Arc<Cell>, at: Position, timeout: WorkflowTimeout) {
        let event = Event {
            id: at.next,
            time: parts.clock.now().max(at.time),
            kind: EventKind::Note(Note::WorkflowTimedOut(WorkflowTimedOut { timeout })),
        };
        let mut decision = at.decision(&cell.key);
        decision.closed = Closed::by(&event);
        decision.events = vec![event];
        let failure = decision.closed.as_ref().map(|closed| &closed.outcome);
        if let (WorkflowTimeout::Run, Some(Outcome::Failure(failure))) = (timeout, failure) {
            let failure = failure.clone();
            let history = parts.runtime.block_on(load::whole_history(parts.store.as_ref(), &cell.key));
            let state = history.ok().and_then(|history| RunState::of(&history).ok());
            let Some(state) = state else { return parts.send_later(&cell.key, Message::Alarm) };
            match succession::try_again(parts, &mut decision, &state, &failure) {
                Ok(()) => {}
                // There is no code for the next try now: the run waits for it as for its own.
                Err(Fault::Code { .. } | Fault::Host(_)) => {
                    return parts.send_later(&cell.key, Message::Alarm);
                }
            }
        }
        *self.phase_mut() = Phase::Closed;
        self.submit(parts, cell, decision, None, Keep::Nothing, Done::Nothing);
    }
}
