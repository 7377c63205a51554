//! How runs begin: by a start, or by the step of another run. Whether they may stands in the same transaction.

use everfold_core::decision::child::ChildStart;
use everfold_core::decision::{
    Closed, Decision, IdReusePolicy, IfOpen, InboxSeq, Inheritance, Kinship, NewRun, NextRun, Operation,
};
use everfold_core::ids::{EventId, RunId, RunKey, WorkflowId};
use everfold_core::lifetime::ALARM;
use everfold_core::machine::RunStatus;
use rusqlite::{OptionalExtension as _, Result, params};

use super::children::Ended;
use super::statements::Statements;
use crate::store::Verdict;
use crate::store::rows::{integer, outcome};

/// How a run stands when its row is written.
struct FirstRow<'a> {
    next: EventId,
    open_activities: u64,
    inbox_length: u64,
    closed: Option<&'a Closed>,
    outcome: Option<Vec<u8>>,
    /// Where its end is told.
    parent: Option<RunId>,
}

impl Statements<'_> {
    /// Begins the run of a start, if it may begin.
    pub(super) fn create(&mut self, decision: &Decision, new_run: &NewRun) -> Result<Verdict> {
        let Decision { key, open_activities, closed, .. } = decision;
        let NewRun { workflow_id, request_id, id_reuse, if_open, details, inherits, parent, .. } = new_run;
        if let Some(run_id) = self.done_before(decision)? {
            return Ok(Verdict::SameRequest(run_id));
        }
        let operations: &[Operation] = match if_open {
            IfOpen::Refused | IfOpen::Used => &[Operation::Start],
            IfOpen::Signalled => &[Operation::Start, Operation::Signal],
            IfOpen::Updated => &[Operation::Start, Operation::Update],
        };
        for operation in operations {
            let Some(request_id) = request_id else { break };
            let request = params![key.namespace.0, workflow_id.0, operation.name(), request_id];
            let run_id = self.request.query_row(request, |row| row.get(0)).optional()?;
            if let Some(run_id) = run_id {
                return Ok(Verdict::SameRequest(RunId(run_id)));
            }
        }
        let start = Operation::Start.name();
        let open_run = params![key.namespace.0, workflow_id.0];
        let run_id = self.open_run.query_row(open_run, |row| row.get(0)).optional()?;
        if let Some(run_id) = run_id {
            if let (IfOpen::Used, Some(request_id)) = (if_open, request_id) {
                self.request_put.execute(params![
                    key.namespace.0,
                    workflow_id.0,
                    start,
                    request_id,
                    run_id
                ])?;
            }
            return Ok(Verdict::AlreadyRunning(RunId(run_id)));
        }
        if let Some(run_id) = self.taken_by(key, workflow_id, *id_reuse)? {
            return Ok(Verdict::IdTaken(run_id));
        }
        let row = FirstRow {
            next: inherits.as_ref().map_or_else(|| decision.next(), |inherits| inherits.next()),
            open_activities: *open_activities,
            inbox_length: 0,
            closed: closed.as_ref(),
            outcome: closed.as_ref().and_then(|closed| outcome(closed, &decision.events)),
            parent: match inherits {
                // A reset of the parent may have made it another one since.
                Some(inherits) => self.parent_of(inherits.from)?,
                None => parent.as_ref().map(|parent| parent.run_id),
            },
        };
        let rows = self.put_run(key, new_run, row)?;
        if rows == 0 {
            return Ok(Verdict::Fenced);
        }
        if let Some(request_id) = request_id {
            let put = params![key.namespace.0, workflow_id.0, start, request_id, key.run_id.0];
            self.request_put.execute(put)?;
        }
        // A step that changes them too has the last word.
        if let (Some(details), None) = (details, &decision.details) {
            self.details.put(key, details)?;
        }
        if let Some(inherits) = inherits {
            self.inherit(key, inherits)?;
        }
        Ok(Verdict::COMMITTED)
    }

    /// The run that is about to be terminated and whose workflow id the step begins another run under: the child of a run
    /// that has closed, as a rule, whose place the new one is to take.
    pub(super) fn meets_a_termination(&mut self, decision: &Decision) -> Result<Option<RunId>> {
        for next in decision.next_runs.iter().filter(|next| next.kinship.is_another_workflow()) {
            let open_run = params![decision.key.namespace.0, next.new_run.workflow_id.0];
            let open: Option<(RunId, i64)> =
                self.open_run.query_row(open_run, |row| Ok((RunId(row.get(0)?), row.get(1)?))).optional()?;
            if let Some((run_id, 1..)) = open
                && self.is_to_be_terminated.exists([run_id.0])?
            {
                return Ok(Some(run_id));
            }
        }
        Ok(None)
    }

    /// The closed run on whose account a workflow id may not be used.
    fn taken_by(&mut self, key: &RunKey, id: &WorkflowId, reuse: IdReusePolicy) -> Result<Option<RunId>> {
        if reuse == IdReusePolicy::AllowDuplicate {
            return Ok(None);
        }
        let last_run = params![key.namespace.0, id.0];
        let last: Option<(RunId, String)> =
            self.last_run.query_row(last_run, |row| Ok((RunId(row.get(0)?), row.get(1)?))).optional()?;
        let is_taken =
            |status: &str| RunStatus::from_name(status).is_some_and(|status| !reuse.allows(status));
        Ok(last.filter(|(_, status)| is_taken(status)).map(|(run_id, _)| run_id))
    }

    /// Writes a run's row; none where its run id is taken.
    fn put_run(&mut self, key: &RunKey, new_run: &NewRun, row: FirstRow<'_>) -> Result<usize> {
        let NewRun { workflow_id, workflow_type, digest, started_at, parent, start_at, .. } = new_run;
        let FirstRow { next, open_activities, inbox_length, closed, outcome, parent: parent_run } = row;
        let parent = parent.as_ref();
        self.run_put.execute(params![
            key.run_id.0,
            key.namespace.0,
            workflow_id.0,
            workflow_type,
            digest.0,
            closed.map_or(RunStatus::Running, |closed| closed.status).name(),
            integer(next.0),
            integer(open_activities),
            integer(inbox_length),
            started_at.0,
            closed.map(|closed| closed.at.0),
            outcome,
            parent_run.map(|run_id| run_id.0),
            parent.map(|parent| parent.workflow_id.0.as_str()),
            parent.map(|parent| integer(parent.command_event_id.0)),
            parent.map(|parent| parent.close_policy.name()),
            start_at.map(|at| at.0),
        ])
    }

    /// Begins a run that the step asks for: its row, and what waits in its inbox.
    pub(super) fn begin(
        &mut self,
        decision: &Decision,
        next: &NextRun,
        ended: Option<&Ended>,
        reached: &mut Vec<RunId>,
    ) -> Result<()> {
        let NextRun { run_id, new_run, inputs, kinship } = next;
        let NewRun { workflow_id, id_reuse, start_at, parent, inherits, .. } = new_run;
        let inherits = inherits.as_deref();
        let from = &decision.key;
        let open_run = params![from.namespace.0, workflow_id.0];
        let open = self.open_run.query_row(open_run, |row| row.get(0).map(RunId)).optional()?;
        let start = match open {
            Some(open) => ChildStart::AlreadyRunning(open),
            None => match self.taken_by(from, workflow_id, *id_reuse)? {
                Some(closed) => ChildStart::IdTaken(closed),
                None => ChildStart::Begun,
            },
        };
        if *kinship == Kinship::Child {
            self.tell_of_start(decision, next, start, reached)?;
        }
        if start != ChildStart::Begun {
            return Ok(());
        }
        let key = RunKey { namespace: from.namespace.clone(), run_id: *run_id };
        let row = FirstRow {
            next: inherits.map_or(EventId::FIRST, Inheritance::next),
            open_activities: inherits.map_or(0, |inherits| inherits.open_activities),
            inbox_length: inputs.len() as u64,
            closed: None,
            outcome: None,
            parent: match kinship {
                // A reset of the parent may have made it another one than the run was begun by.
                Kinship::Successor | Kinship::Reset => ended.map(Ended::parent),
                Kinship::Detached | Kinship::Child => parent.as_ref().map(|parent| parent.run_id),
            },
        };
        self.put_run(&key, new_run, row)?;
        if let Some(details) = &new_run.details {
            self.details.put(&key, details)?;
        }
        if let Some(start_at) = start_at {
            let put = params![run_id.0, from.namespace.0, integer(ALARM.0), start_at.0];
            self.timer_put.execute(put)?;
        }
        for input in inputs {
            self.put_into_inbox(&key, input)?;
        }
        match kinship {
            Kinship::Detached | Kinship::Child => {}
            Kinship::Reset => {
                let Some(inherits) = inherits else { return Ok(()) };
                self.inherit(&key, inherits)?;
                self.hand_over_inbox(from, &key, inherits)?;
                self.take_over(&key, inherits)?;
            }
            Kinship::Successor => {
                // What this very step folded is not handed over.
                for InboxSeq(seq) in &decision.inbox_taken {
                    self.inbox_delete.execute(params![seq, from.run_id.0])?;
                }
                let rows = self.inbox_hand_over.execute(params![run_id.0, from.run_id.0])?;
                if rows > 0 {
                    self.run_inbox_length.execute(params![integer(rows as u64), run_id.0])?;
                }
            }
        }
        Ok(())
    }
}
