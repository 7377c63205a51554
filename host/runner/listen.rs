//! A run's side of the talk: what becomes of a caller's request, phase by phase.

use std::sync::Arc;

use everfold_core::decision::{Closed, Effects, InboxInput, Request};
use everfold_core::event::{Event, EventKind, Input, Note, WorkflowTerminated};

use super::Parts;
use super::act::Done;
use super::cells::Cell;
use super::position::{Position, is_signal};
use super::run::{BlockedRun, Message, Phase, Run, Talk};
use super::source::{Keep, Source};
use super::talk::{Ask, Refusal, Taken};

impl Run {
    /// Does what a caller asks, or tells why not.
    pub(super) fn talk(&mut self, parts: &Arc<Parts>, cell: &Arc<Cell>, talk: Talk) {
        if !self.ensure_loaded(parts, cell) {
            let _ = talk.reply.send(Err(Refusal::Busy("the store does not answer".to_owned())));
            return;
        }
        let at = match self.phase() {
            Phase::Ready(ready) if !ready.backlog.is_empty() || ready.blocked.is_some() => {
                // The inbox comes first.
                return parts.send(&cell.key, Message::Talk(Box::new(talk)));
            }
            Phase::Ready(ready) => Position::of(&ready.state),
            Phase::Blocked(blocked) => blocked.at,
            Phase::Delayed(at) => *at,
            Phase::Closed | Phase::Unloaded => {
                let _ = talk.reply.send(Err(Refusal::Closed));
                return;
            }
        };
        match talk.ask {
            Ask::Terminate(reason) => {
                let done = Done::Caller { reply: talk.reply };
                self.terminate(parts, cell, at, WorkflowTerminated { reason }, talk.request, done);
            }
            Ask::Take(input) if is_signal(&input) && at.signals >= parts.limits.signals => {
                let limit = parts.limits.signals;
                let _ = talk.reply.send(Err(Refusal::Limit(format!("a run takes at most {limit} signals"))));
            }
            Ask::Take(Input::WorkflowCancelRequested(_)) if at.is_cancel_requested => {
                let taken = Taken { run_id: cell.key.run_id, is_duplicate: true };
                let _ = talk.reply.send(Ok(taken));
            }
            Ask::Take(input) => {
                let source = Source::Caller { request: talk.request, reply: talk.reply };
                self.take(parts, cell, at, input, source);
            }
        }
    }

    /// Folds the input, or puts it into the inbox of a run that is blocked or has not begun.
    fn take(&mut self, parts: &Arc<Parts>, cell: &Arc<Cell>, at: Position, input: Input, source: Source) {
        match self.phase_mut() {
            Phase::Blocked(BlockedRun { at: waiting, .. }) | Phase::Delayed(waiting) => {
                *waiting = at.with_waiting([&input]);
            }
            Phase::Ready(_) | Phase::Closed | Phase::Unloaded => {
                return self.fold(parts, cell, input, source);
            }
        }
        let mut decision = at.decision(&cell.key);
        decision.effects = Effects::of_input(&input, parts.clock.now());
        decision.inbox_put = vec![InboxInput { received_at: parts.clock.now(), input }];
        let (done, keep) = source.into_done(&mut decision, &cell.key, Keep::Nothing);
        self.submit(parts, cell, decision, None, keep, done);
    }

    /// Closes the run by a note: no guest is asked.
    pub(super) fn terminate(
        &mut self,
        parts: &Arc<Parts>,
        cell: &Arc<Cell>,
        at: Position,
        termination: WorkflowTerminated,
        request: Option<Request>,
        done: Done,
    ) {
        let event = Event {
            id: at.next,
            time: parts.clock.now().max(at.time),
            kind: EventKind::Note(Note::WorkflowTerminated(termination)),
        };
        let mut decision = at.decision(&cell.key);
        decision.closed = Closed::by(&event);
        decision.events = vec![event];
        decision.request = request;
        *self.phase_mut() = Phase::Closed;
        self.submit(parts, cell, decision, None, Keep::Nothing, done);
    }
}
