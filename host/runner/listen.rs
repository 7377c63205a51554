//! A run's side of the talk: what becomes of a caller's request, phase by phase.

use std::collections::BTreeMap;
use std::sync::Arc;

use everfold_core::decision::{BlockChange, Closed, Effects, InboxInput, Request};
use everfold_core::event::{Event, EventKind, Input, Note, UpdateAdmitted, WorkflowTerminated};
use everfold_core::failure::Failure;
use everfold_core::ids::EventId;
use everfold_core::machine::RunState;

use super::Parts;
use super::act::Done;
use super::cells::Cell;
use super::position::{Position, is_signal};
use super::run::{BlockedRun, KnownUpdates, Message, Phase, Ready, Run, Talk};
use super::source::{Keep, Source};
use super::talk::{Answer, Ask, Refusal, Taken};
use crate::store::StoreError;

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
            Ask::Reset(to) => self.reset(parts, cell, at, &to, talk.request, talk.reply),
            Ask::Take(input) if is_signal(&input) && at.signals >= parts.limits.signals => {
                let limit = parts.limits.signals;
                let _ = talk.reply.send(Err(Refusal::Limit(format!("a run takes at most {limit} signals"))));
            }
            Ask::Take(Input::WorkflowCancelRequested(_)) if at.is_cancel_requested => {
                let taken = Taken { run_id: cell.key.run_id, is_duplicate: true, from: at.next };
                let _ = talk.reply.send(Ok(taken));
            }
            Ask::Take(Input::UpdateAdmitted(update)) => {
                if let Some(answer) = self.known_update(parts, cell, &update) {
                    let _ = talk.reply.send(answer);
                    return;
                }
                parts.refusals.forget(&cell.key, &update.update_id);
                let source = Source::Caller { request: talk.request, reply: talk.reply };
                self.take(parts, cell, at, Input::UpdateAdmitted(update), source);
            }
            Ask::Take(input) => {
                let source = Source::Caller { request: talk.request, reply: talk.reply };
                self.take(parts, cell, at, input, source);
            }
        }
    }

    /// The answer to an update that is not to be admitted: the run had it before, or has as many as it may have.
    fn known_update(
        &mut self,
        parts: &Arc<Parts>,
        cell: &Arc<Cell>,
        update: &UpdateAdmitted,
    ) -> Option<Answer> {
        let (admitted, pending) = match self.phase_mut() {
            Phase::Ready(ready) => {
                let updates = ready.state.updates();
                (updates.admitted(&update.update_id), updates.pending())
            }
            Phase::Blocked(blocked) => {
                let known = match blocked.updates.take().map_or_else(|| KnownUpdates::read(parts, cell), Ok) {
                    Ok(known) => blocked.updates.insert(known),
                    Err(error) => return Some(Err(Refusal::Busy(error.to_string()))),
                };
                (known.ids.get(&update.update_id).copied(), known.pending)
            }
            Phase::Delayed(_) => match KnownUpdates::read(parts, cell) {
                Ok(known) => (known.ids.get(&update.update_id).copied(), known.pending),
                Err(error) => return Some(Err(Refusal::Busy(error.to_string()))),
            },
            Phase::Unloaded | Phase::Closed => return Some(Err(Refusal::Closed)),
        };
        let limit = parts.limits.pending_updates;
        match admitted {
            Some(from) => Some(Ok(Taken { run_id: cell.key.run_id, is_duplicate: true, from })),
            None if pending >= limit => {
                let message = format!("a run has at most {limit} updates that are not answered");
                Some(Err(Refusal::Limit(message)))
            }
            None => None,
        }
    }

    /// The run's code refuses an update: a caller is told, and what waited in the inbox goes. The run's replay has
    /// held, so that a blocked one goes on.
    pub(super) fn refuse_update(
        &mut self,
        parts: &Arc<Parts>,
        cell: &Arc<Cell>,
        mut ready: Box<Ready>,
        update: &UpdateAdmitted,
        failure: Failure,
        source: Source,
    ) {
        let seq = match source {
            Source::Inbox(seq) => seq,
            Source::Caller { reply, .. } => {
                let _ = reply.send(Err(Refusal::Rejected(failure)));
                *self.phase_mut() = Phase::Ready(ready);
                return;
            }
            Source::Mailbox | Source::Start { .. } => unreachable!("updates come from callers and the inbox"),
        };
        let mut decision = Position::of_ready(&ready).decision(&cell.key);
        decision.inbox_taken = vec![seq];
        if ready.blocked.take().is_some() {
            decision.blocked = BlockChange::Clear;
        }
        if let Some(moved) = ready.moved.take() {
            moved.record_in(&mut decision);
        }
        *self.phase_mut() = Phase::Ready(ready);
        let done = Done::UpdateRefused { update_id: update.update_id.clone(), failure };
        self.submit(parts, cell, decision, None, Keep::Nothing, done);
    }

    /// Folds the input, or puts it into the inbox of a run that is blocked or has not begun.
    fn take(&mut self, parts: &Arc<Parts>, cell: &Arc<Cell>, at: Position, input: Input, source: Source) {
        match self.phase_mut() {
            Phase::Blocked(BlockedRun { at: waiting, updates, .. }) => {
                *waiting = at.with_waiting([&input]);
                if let (Input::UpdateAdmitted(update), Some(known)) = (&input, updates) {
                    known.add(&update.update_id, at.next);
                }
            }
            Phase::Delayed(waiting) => *waiting = at.with_waiting([&input]),
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

impl KnownUpdates {
    /// Reads the updates of a run, nothing of which is on its way to the disk.
    fn read(parts: &Arc<Parts>, cell: &Arc<Cell>) -> Result<Self, StoreError> {
        let Some(run) = parts.runtime.block_on(parts.store.open_run(&cell.key))? else {
            return Ok(Self { ids: BTreeMap::new(), pending: 0 });
        };
        let state = RunState::of(&run.history)
            .map_err(|error| StoreError::Damaged(format!("run {}: {error}", cell.key)))?;
        let ids =
            state.updates().ids().map(|(update_id, admitted)| (update_id.to_owned(), admitted)).collect();
        let mut known = Self { ids, pending: state.updates().pending() };
        for (_, waiting) in &run.inbox.inputs {
            if let Input::UpdateAdmitted(update) = &waiting.input {
                known.add(&update.update_id, state.next());
            }
        }
        Ok(known)
    }

    fn add(&mut self, update_id: &str, from: EventId) {
        if self.ids.insert(update_id.to_owned(), from).is_none() {
            self.pending += 1;
        }
    }
}
