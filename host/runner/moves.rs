//! Moves of open runs to another version.
//!
//! ```text
//! upgrade ─▶ Move in the mailbox ─▶ replay the whole history on the new version ─▶ note + digest, committed
//!                                            │ does not hold
//!                                            └─▶ refused: the run goes on as it was
//! ```
//!
//! A run is replayed at the moment of its move, between two of its steps, so that nothing can come in
//! between. Moves are folded on the thread apart: a version that loops holds up nobody but them.

use std::sync::Arc;

use everfold_core::decision::{BlockChange, Decision};
use everfold_core::event::{Event, EventKind, Note, VersionMoved};
use everfold_core::ids::{Digest, Timestamp, WorkflowId};
use everfold_core::machine::RunState;
use futures::StreamExt as _;
use tokio::sync::{oneshot, watch};

use super::act::Done;
use super::api::{ApiError, CheckRequest, Progress, Subject, UpgradeReport, UpgradeRequest, WhoMoves};
use super::block::{self, Fault};
use super::cells::Cell;
use super::load::{self, Trial};
use super::position::Position;
use super::run::{Message, Phase, Ready, Run};
use super::source::Keep;
use super::{Host, Parts, internal};
use crate::store::{OpenRunFilter, RunRow};
use crate::version::findings::{Findings, Found};

/// Moves under way at once, and rows read at once.
const AT_ONCE: usize = 64;

/// A move that a decision is to record.
pub(super) struct Moved {
    pub(super) to: Digest,
    /// Absent where the history is empty: it begins on the new version.
    note: Option<Event>,
}

/// What became of a run that was to move.
#[derive(Debug)]
pub(super) enum MoveAnswer {
    /// It is on the version now, and that is on disk.
    Moved,
    /// It was before.
    AlreadyThere,
    /// Its replay does not hold: it stays.
    Refused(Box<Fault>),
    /// It has ended.
    Closed,
    /// The host could not do it now.
    Busy(String),
}

impl Moved {
    /// The move of a run in `state`, and the state behind it.
    pub(super) fn to(to: Digest, from: Digest, mut state: RunState, now: Timestamp) -> (RunState, Self) {
        if state.started().is_none() {
            return (state, Self { to, note: None });
        }
        let kind = EventKind::Note(Note::VersionMoved(VersionMoved { from, to }));
        let note = Event { id: state.next(), time: now.max(state.time()), kind };
        match state.apply(&note) {
            Ok(()) => (state, Self { to, note: Some(note) }),
            Err(illegal) => unreachable!("an open run may be moved: {illegal}"),
        }
    }

    /// Records the move before whatever else the decision records.
    pub(super) fn record_in(self, decision: &mut Decision) {
        decision.moved_to = Some(self.to);
        if let Some(note) = self.note {
            decision.expected = note.id;
            decision.events.insert(0, note);
        }
    }
}

impl Run {
    /// Moves the run to another version if its replay holds there.
    pub(super) fn move_to(
        &mut self,
        parts: &Arc<Parts>,
        cell: &Arc<Cell>,
        to: Digest,
        reply: oneshot::Sender<MoveAnswer>,
    ) {
        if matches!(self.phase(), Phase::Blocked(_)) {
            *self.phase_mut() = Phase::Unloaded;
        }
        if !self.ensure_loaded_for(parts, cell, Trial::OnItsOwn) {
            let _ = reply.send(MoveAnswer::Busy("the run cannot be read".to_owned()));
            return;
        }
        let ready = match std::mem::take(self.phase_mut()) {
            Phase::Ready(ready) => ready,
            phase @ Phase::Delayed(_) => {
                *self.phase_mut() = phase;
                let _ = reply.send(MoveAnswer::Busy("the run has not begun".to_owned()));
                return;
            }
            phase @ (Phase::Unloaded | Phase::Blocked(_) | Phase::Closed) => {
                *self.phase_mut() = phase;
                let _ = reply.send(MoveAnswer::Closed);
                return;
            }
        };
        if ready.digest == to {
            self.stay(ready);
            let _ = reply.send(MoveAnswer::AlreadyThere);
            return;
        }
        let history = parts.runtime.block_on(load::whole_history(parts.store.as_ref(), &cell.key));
        let folded = history
            .map_err(|error| Fault::Host(error.to_string()))
            .and_then(|history| block::folded(parts, to, &ready.state, history));
        let (instance, state) = match folded {
            Ok(folded) => folded,
            Err(fault) => {
                self.stay(ready);
                let _ = reply.send(match fault {
                    Fault::Host(error) => MoveAnswer::Busy(error),
                    fault @ Fault::Code { .. } => MoveAnswer::Refused(Box::new(fault)),
                });
                return;
            }
        };
        let mut decision = Position::of(&state).decision(&cell.key);
        let (state, moved) = Moved::to(to, ready.digest, state, parts.clock.now());
        moved.record_in(&mut decision);
        if ready.blocked.is_some() {
            decision.blocked = BlockChange::Clear;
        }
        *self.phase_mut() = Phase::Ready(Box::new(Ready {
            state,
            digest: to,
            instance: Some(instance),
            recorded: Vec::new(),
            backlog: ready.backlog,
            blocked: None,
            healer: None,
            moved: None,
        }));
        self.submit(parts, cell, decision, None, Keep::Nothing, Done::Move { reply });
    }

    /// Leaves the run as it was. One that is blocked goes on waiting for its time.
    fn stay(&mut self, ready: Box<Ready>) {
        *self.phase_mut() = if ready.blocked.is_some() { Phase::Unloaded } else { Phase::Ready(ready) };
    }
}

impl Host {
    /// Moves open runs of a workflow type to one of its versions. Each is replayed there first, at the
    /// moment of its move, and moves only if that holds; its history says so.
    ///
    /// # Errors
    /// `UnknownWorkflowType`, `UnknownVersion`, `VersionConflict`; `Incompatible` when none is to move
    /// unless all can, and some cannot.
    pub async fn upgrade(
        &self,
        request: UpgradeRequest,
        progress: &watch::Sender<Progress>,
    ) -> Result<UpgradeReport, ApiError> {
        let UpgradeRequest { namespace, workflow_type, digest, workflow_ids, who_moves } = &request;
        self.must_have(namespace, workflow_type, *digest).await?;
        self.must_be_open(namespace, std::slice::from_ref(workflow_type), workflow_ids).await?;
        match who_moves {
            WhoMoves::Compatible => {}
            WhoMoves::AllOrNone => self.must_hold(&request).await?,
        }
        let parts = &self.parts;
        let mut report = UpgradeReport {
            workflow_type: workflow_type.clone(),
            digest: *digest,
            moved: 0,
            already_there: 0,
            kept: 0,
            closed: 0,
            busy: 0,
            groups: Vec::new(),
        };
        let filter =
            OpenRunFilter { workflow_type: Some(workflow_type.clone()), digest: None, blocked: None };
        let mut findings = Findings::default();
        let mut after: Option<WorkflowId> = None;
        loop {
            let page = parts.store.open_runs(namespace, &filter, after.as_ref(), AT_ONCE).await;
            let page = page.map_err(|error| internal(&error))?;
            let Some(last) = page.last() else { break };
            after = Some(last.workflow_id.clone());
            let wanted = page
                .into_iter()
                .filter(|row| workflow_ids.is_empty() || workflow_ids.contains(&row.workflow_id));
            let mut answers = futures::stream::iter(wanted)
                .map(|row| async move { (self.move_one(&row, *digest).await, row) })
                .buffer_unordered(AT_ONCE);
            while let Some((answer, row)) = answers.next().await {
                match answer {
                    MoveAnswer::Moved => report.moved += 1,
                    MoveAnswer::AlreadyThere => report.already_there += 1,
                    MoveAnswer::Closed => report.closed += 1,
                    MoveAnswer::Busy(reason) => {
                        tracing::warn!(workflow_id = %row.workflow_id, reason, "a run could not be moved now");
                        report.busy += 1;
                    }
                    MoveAnswer::Refused(fault) => {
                        report.kept += 1;
                        findings.add(fault.found(&row));
                    }
                }
                progress.send_modify(|progress| progress.done += 1);
            }
        }
        (report.groups, _) = findings.into_groups();
        Ok(report)
    }

    /// Whether all runs could be moved.
    async fn must_hold(&self, request: &UpgradeRequest) -> Result<(), ApiError> {
        let UpgradeRequest { namespace, workflow_type, digest, workflow_ids, who_moves: _ } = request;
        let check = CheckRequest {
            namespace: namespace.clone(),
            subject: Subject::Deployed(*digest),
            workflow_types: vec![workflow_type.clone()],
            workflow_ids: workflow_ids.clone(),
            closed_from: None,
            strictness: everfold_core::divergence::Strictness::Lenient,
            look_ahead: None,
        };
        let (progress, _) = watch::channel(Progress::default());
        let checked = self.check(check, &progress).await?;
        if checked.holds {
            return Ok(());
        }
        let kept = checked.workflow_types.iter().map(|kind| kind.open.breaking()).sum();
        let found = checked.workflow_types.into_iter().flat_map(|kind| kind.groups);
        let groups: Vec<_> = found.filter(|group| !group.finding.holds()).collect();
        Err(ApiError::Incompatible(Box::new(UpgradeReport {
            workflow_type: workflow_type.clone(),
            digest: *digest,
            moved: 0,
            already_there: 0,
            kept,
            closed: 0,
            busy: 0,
            groups,
        })))
    }

    async fn move_one(&self, row: &RunRow, to: Digest) -> MoveAnswer {
        let (reply, answered) = oneshot::channel();
        self.parts.send(&row.key, Message::Move { to, reply });
        answered.await.unwrap_or_else(|_| MoveAnswer::Busy("the host is stopping".to_owned()))
    }
}

impl Fault {
    /// The fault as a finding about a run.
    fn found(self, run: &RunRow) -> Found {
        match self {
            Self::Host(reason) => Found::unreadable(run, reason),
            Self::Code { event_id, kind: _, reason, backtrace, divergence } => {
                Found::of_code(run, event_id, reason, backtrace, divergence)
            }
        }
    }
}
