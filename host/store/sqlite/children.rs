//! What a step means for the run's parent and for its children: rows of their inboxes, in the step's own transaction.
//!
//! ```text
//! parent's step begins a child ─▶ the child's row and inbox │ ChildWorkflowStarted or …StartFailed to the parent
//! child's step closes it ───────▶ ChildWorkflowCompleted or …Failed to the parent, if that run is open
//! parent's step closes it ──────▶ to each open child what its parent-close policy says
//! ```
//!
//! A child that is to be terminated gets a row that is no input: its run closes when it is read, also where the run is
//! blocked.

use everfold_core::command::ParentClosePolicy;
use everfold_core::decision::child::{self, ChildName, ChildStart};
use everfold_core::decision::{Closed, Decision, InboxInput, NextRun};
use everfold_core::event::{Input, WorkflowCancelRequested, WorkflowTerminated};
use everfold_core::ids::{EventId, RunId, RunKey, Timestamp, WorkflowId};
use rusqlite::{OptionalExtension as _, Result, Row, params};

use super::statements::Statements;
use crate::store::TERMINATION;
use crate::store::rows::{encode, integer};

/// A run that has just closed, as its parent knows it.
pub(super) struct Ended {
    parent: RunId,
    command_event_id: EventId,
    workflow_type: String,
    workflow_id: WorkflowId,
}

impl Ended {
    /// The parent.
    pub(super) const fn parent(&self) -> RunId {
        self.parent
    }

    /// Of a row that the statement that closes runs returns; none of a run that is nobody's child.
    pub(super) fn of(row: &Row<'_>) -> Result<Option<Self>> {
        let Some(parent) = row.get(0)? else { return Ok(None) };
        Ok(Some(Self {
            parent: RunId(parent),
            command_event_id: EventId(row.get::<_, i64>(1)?.unsigned_abs()),
            workflow_type: row.get(2)?,
            workflow_id: WorkflowId(row.get(3)?),
        }))
    }
}

impl Statements<'_> {
    /// Tells the step's run what became of a child that it began, unless the step closes it.
    pub(super) fn tell_of_start(
        &mut self,
        decision: &Decision,
        next: &NextRun,
        start: ChildStart,
        reached: &mut Vec<RunId>,
    ) -> Result<()> {
        let (None, Some(parent)) = (&decision.closed, &next.new_run.parent) else { return Ok(()) };
        let told = child::told_of_start(parent, &next.new_run, next.run_id, start);
        self.change_inbox(&decision.key, &[told], &[])?;
        reached.push(decision.key.run_id);
        Ok(())
    }

    /// Tells the parent of a run that has closed, if the parent is open.
    pub(super) fn tell_parent(
        &mut self,
        key: &RunKey,
        ended: &Ended,
        closed: &Closed,
        reached: &mut Vec<RunId>,
    ) -> Result<()> {
        let Ended { parent, command_event_id, workflow_type, workflow_id } = ended;
        let (run_id, command_event_id) = (key.run_id, *command_event_id);
        let name = ChildName { workflow_type, workflow_id, run_id, command_event_id };
        let Some(told) = child::told_of_end(name, closed) else { return Ok(()) };
        if self.is_open.exists([parent.0])? {
            let parent = RunKey { namespace: key.namespace.clone(), run_id: *parent };
            self.change_inbox(&parent, &[told], &[])?;
            reached.push(parent.run_id);
        }
        Ok(())
    }

    /// Asks children to cancel, as the step says.
    pub(super) fn cancel_children(&mut self, decision: &Decision, reached: &mut Vec<RunId>) -> Result<()> {
        let Decision { key, effects, .. } = decision;
        for (command_event_id, cancel) in &effects.children_canceled {
            let of = params![key.run_id.0, integer(command_event_id.0)];
            let child = self.open_child.query_row(of, |row| row.get(0).map(RunId)).optional()?;
            // One that has closed, or never began, has told so.
            let Some(run_id) = child else { continue };
            let child = RunKey { namespace: key.namespace.clone(), run_id };
            self.change_inbox(&child, std::slice::from_ref(cancel), &[])?;
            reached.push(run_id);
        }
        Ok(())
    }

    /// Does to the open children of a run that closes what their parent-close policies say.
    pub(super) fn leave_children(
        &mut self,
        key: &RunKey,
        closed: &Closed,
        reached: &mut Vec<RunId>,
    ) -> Result<()> {
        let children: Vec<(RunId, String, String)> = self
            .open_children
            .query_map([key.run_id.0], |row| Ok((RunId(row.get(0)?), row.get(1)?, row.get(2)?)))?
            .collect::<Result<_>>()?;
        for (run_id, policy, parent) in children {
            let child = RunKey { namespace: key.namespace.clone(), run_id };
            let reason = format!("its parent {parent} {}", closed.status.verb());
            match ParentClosePolicy::from_name(&policy) {
                Some(ParentClosePolicy::Abandon) => continue,
                Some(ParentClosePolicy::RequestCancel) => {
                    let input = Input::WorkflowCancelRequested(WorkflowCancelRequested { reason });
                    self.change_inbox(&child, &[InboxInput { received_at: closed.at, input }], &[])?;
                }
                // What is not known is not left running.
                Some(ParentClosePolicy::Terminate) | None => {
                    self.put_termination(&child, closed.at, &WorkflowTerminated { reason })?;
                }
            }
            reached.push(run_id);
        }
        Ok(())
    }

    pub(super) fn put_termination(
        &mut self,
        key: &RunKey,
        at: Timestamp,
        termination: &WorkflowTerminated,
    ) -> Result<()> {
        let put = params![key.run_id.0, key.namespace.0, at.0, TERMINATION, encode(termination)];
        self.inbox_put.execute(put)?;
        self.run_inbox_length.execute(params![1, key.run_id.0])?;
        Ok(())
    }
}
