//! The writer's prepared statements, and what each part of a decision does to the tables.
//!
//! Nothing here begins or ends a transaction. A decision's fence is its first statement that
//! writes: a refused decision has written nothing, so that no savepoint is needed. (A start that is content with the
//! run that it finds open leaves its request, which then names that run.)

use std::slice;

use everfold_core::decision::message::{Delivery, MOST_WAITING, OutgoingMessage};
use everfold_core::decision::{
    BlockChange, Blocked, Decision, Effects, InboxInput, InboxSeq, PendingActivity, Request,
};
use everfold_core::event::Event;
use everfold_core::history;
use everfold_core::ids::{RunId, RunKey};
use everfold_core::route::Route;
use rusqlite::{Connection, OptionalExtension as _, Result, Statement, params};

use super::children::Ended;
use super::details::DetailStatements;
use super::removal::Removal;
use super::schedules::ScheduleStatements;
use crate::store::rows::{encode, integer, outcome, shown};
use crate::store::{Epoch, NewComponent, RetiredVersion, Retirement, RouteChange, Verdict, sql};

/// Every statement that the writer uses, prepared once.
pub(super) struct Statements<'c> {
    pub(super) begin: Statement<'c>,
    pub(super) commit: Statement<'c>,
    pub(super) rollback: Statement<'c>,
    epoch: Statement<'c>,
    close_shard: Statement<'c>,
    pub(super) request: Statement<'c>,
    pub(super) request_put: Statement<'c>,
    workflow_id: Statement<'c>,
    pub(super) open_run: Statement<'c>,
    pub(super) last_run: Statement<'c>,
    pub(super) is_open: Statement<'c>,
    pub(super) is_to_be_terminated: Statement<'c>,
    pub(super) open_child: Statement<'c>,
    pub(super) open_children: Statement<'c>,
    pub(super) run_put: Statement<'c>,
    run_advance: Statement<'c>,
    run_close: Statement<'c>,
    run_block: Statement<'c>,
    run_unblock: Statement<'c>,
    pub(super) run_inbox_length: Statement<'c>,
    history_put: Statement<'c>,
    pub(super) timer_put: Statement<'c>,
    timer_delete: Statement<'c>,
    timers_delete: Statement<'c>,
    attempt_put: Statement<'c>,
    attempt_delete: Statement<'c>,
    attempts_delete: Statement<'c>,
    pub(super) inbox_put: Statement<'c>,
    pub(super) inbox_delete: Statement<'c>,
    inbox_clear: Statement<'c>,
    pub(super) inbox_hand_over: Statement<'c>,
    pub(super) inbox: Statement<'c>,
    pub(super) last_of_child: Statement<'c>,
    pub(super) parent: Statement<'c>,
    pub(super) children_hand_over: Statement<'c>,
    pub(super) last_step: Statement<'c>,
    component_put: Statement<'c>,
    component_bytes_put: Statement<'c>,
    component_type_put: Statement<'c>,
    workflow_type_put: Statement<'c>,
    component_revive: Statement<'c>,
    route_set: Statement<'c>,
    route_forget: Statement<'c>,
    is_routed: Statement<'c>,
    open_on: Statement<'c>,
    version_retire: Statement<'c>,
    version_routed: Statement<'c>,
    run_move: Statement<'c>,
    pub(super) details: DetailStatements<'c>,
    pub(super) removal: Removal<'c>,
    pub(super) schedules: ScheduleStatements<'c>,
}

impl<'c> Statements<'c> {
    /// Prepares all statements.
    pub(super) fn prepare(connection: &'c Connection) -> Result<Self> {
        let prepare = |sql| connection.prepare(sql);
        Ok(Self {
            // The write lock is taken at once: no statement of the batch can fail for want of it.
            begin: prepare("BEGIN IMMEDIATE")?,
            commit: prepare("COMMIT")?,
            rollback: prepare("ROLLBACK")?,
            epoch: prepare(sql::EPOCH)?,
            close_shard: prepare(sql::CLOSE_SHARD)?,
            request: prepare(sql::REQUEST)?,
            request_put: prepare(sql::REQUEST_PUT)?,
            workflow_id: prepare(sql::WORKFLOW_ID)?,
            open_run: prepare(sql::OPEN_RUN)?,
            last_run: prepare(sql::LAST_RUN)?,
            is_open: prepare(sql::IS_OPEN)?,
            is_to_be_terminated: prepare(sql::IS_TO_BE_TERMINATED)?,
            open_child: prepare(sql::OPEN_CHILD)?,
            open_children: prepare(sql::OPEN_CHILDREN)?,
            run_put: prepare(sql::RUN_PUT)?,
            run_advance: prepare(sql::RUN_ADVANCE)?,
            run_close: prepare(sql::RUN_CLOSE)?,
            run_block: prepare(sql::RUN_BLOCK)?,
            run_unblock: prepare(sql::RUN_UNBLOCK)?,
            run_inbox_length: prepare(sql::RUN_INBOX_LENGTH)?,
            history_put: prepare(sql::HISTORY_PUT)?,
            timer_put: prepare(sql::TIMER_PUT)?,
            timer_delete: prepare(sql::TIMER_DELETE)?,
            timers_delete: prepare(sql::TIMERS_DELETE)?,
            attempt_put: prepare(sql::ATTEMPT_PUT)?,
            attempt_delete: prepare(sql::ATTEMPT_DELETE)?,
            attempts_delete: prepare(sql::ATTEMPTS_DELETE)?,
            inbox_put: prepare(sql::INBOX_PUT)?,
            inbox_delete: prepare(sql::INBOX_DELETE)?,
            inbox_clear: prepare(sql::INBOX_CLEAR)?,
            inbox_hand_over: prepare(sql::INBOX_HAND_OVER)?,
            inbox: prepare(sql::INBOX)?,
            last_of_child: prepare(sql::LAST_OF_CHILD)?,
            parent: prepare(sql::PARENT)?,
            children_hand_over: prepare(sql::CHILDREN_HAND_OVER)?,
            last_step: prepare(sql::LAST_STEP)?,
            component_put: prepare(sql::COMPONENT_PUT)?,
            component_bytes_put: prepare(sql::COMPONENT_BYTES_PUT)?,
            component_type_put: prepare(sql::COMPONENT_TYPE_PUT)?,
            workflow_type_put: prepare(sql::WORKFLOW_TYPE_PUT)?,
            component_revive: prepare(sql::COMPONENT_REVIVE)?,
            route_set: prepare(sql::ROUTE_SET)?,
            route_forget: prepare(sql::ROUTE_FORGET)?,
            is_routed: prepare(sql::IS_ROUTED)?,
            open_on: prepare(sql::OPEN_ON)?,
            version_retire: prepare(sql::VERSION_RETIRE)?,
            version_routed: prepare(sql::VERSION_ROUTED)?,
            run_move: prepare(sql::RUN_MOVE)?,
            details: DetailStatements::prepare(connection)?,
            removal: Removal::prepare(connection)?,
            schedules: ScheduleStatements::prepare(connection)?,
        })
    }

    /// The epoch that the store is in.
    pub(super) fn epoch(&mut self) -> Result<Epoch> {
        self.epoch.query_row([], |row| row.get(0).map(Epoch))
    }

    /// Notes that the host of `epoch` stops in order.
    pub(super) fn close_shard(&mut self, epoch: Epoch) -> Result<()> {
        self.close_shard.execute([epoch.0])?;
        Ok(())
    }

    /// Adds a component; false if it is there already.
    pub(super) fn put_component(&mut self, component: &NewComponent) -> Result<bool> {
        let NewComponent { namespace, digest, workflow_types, sdk, deployed_at, bytes } = component;
        let size = integer(bytes.len() as u64);
        let put = params![namespace.0, digest.0, size, sdk, deployed_at.0];
        if self.component_put.execute(put)? == 0 {
            self.component_revive.execute(params![namespace.0, digest.0])?;
            return Ok(false);
        }
        self.component_bytes_put.execute(params![digest.0, bytes])?;
        for workflow_type in workflow_types {
            self.component_type_put.execute(params![namespace.0, digest.0, workflow_type])?;
            let put = params![namespace.0, workflow_type, digest.0, deployed_at.0];
            if self.workflow_type_put.execute(put)? > 0 {
                let routed = params![deployed_at.0, namespace.0, workflow_type, digest.0];
                self.version_routed.execute(routed)?;
            }
        }
        Ok(true)
    }

    /// Changes a route; false if it is at another revision.
    pub(super) fn set_route(&mut self, change: &RouteChange) -> Result<bool> {
        let RouteChange { namespace, workflow_type, expected_revision, route, at } = change;
        let Route { current, candidate, previous } = route;
        let rows = self.route_set.execute(params![
            current.0,
            candidate.map(|candidate| candidate.digest.0),
            candidate.map_or(0, |candidate| u8::from(candidate.ramp)),
            previous.map(|previous| previous.0),
            at.0,
            namespace.0,
            workflow_type,
            expected_revision,
        ])?;
        if rows == 0 {
            return Ok(false);
        }
        for digest in [Some(*current), candidate.map(|candidate| candidate.digest)].into_iter().flatten() {
            self.version_routed.execute(params![at.0, namespace.0, workflow_type, digest.0])?;
        }
        Ok(true)
    }

    /// Retires a version that nothing uses.
    pub(super) fn retire(&mut self, version: &RetiredVersion) -> Result<Retirement> {
        let RetiredVersion { namespace, workflow_type, digest, at } = version;
        let named = params![namespace.0, workflow_type, digest.0];
        if self.is_routed.exists(named)? {
            return Ok(Retirement::Routed);
        }
        let open: i64 = self.open_on.query_row(named, |row| row.get(0))?;
        if open > 0 {
            return Ok(Retirement::InUse(open.unsigned_abs()));
        }
        if self.version_retire.execute(params![at.0, namespace.0, workflow_type, digest.0])? == 0 {
            return Ok(Retirement::Unknown);
        }
        self.route_forget.execute(named)?;
        Ok(Retirement::Retired)
    }

    /// Writes one decision, or nothing of it.
    pub(super) fn apply(&mut self, decision: &Decision) -> Result<Verdict> {
        if let Some(run_id) = self.meets_a_termination(decision)? {
            return Ok(Verdict::Postponed(run_id));
        }
        let (verdict, ended) = match &decision.new_run {
            Some(new_run) => (self.create(decision, new_run)?, None),
            None => match self.done_before(decision)? {
                Some(run_id) => (Verdict::SameRequest(run_id), None),
                None => self.pass_fence(decision)?,
            },
        };
        match verdict {
            Verdict::Committed { .. } => {}
            Verdict::Fenced
            | Verdict::Postponed(_)
            | Verdict::AlreadyRunning(_)
            | Verdict::SameRequest(_)
            | Verdict::IdTaken(_) => return Ok(verdict),
        }
        let key = &decision.key;
        self.append_history(key, &decision.events)?;
        if let Some(digest) = &decision.moved_to {
            self.run_move.execute(params![digest.0, key.run_id.0])?;
        }
        if let Some(details) = &decision.details {
            self.details.put(key, details)?;
        }
        if let Some(request) = &decision.request {
            self.remember(decision, request)?;
        }
        let mut reached = Vec::new();
        for next in &decision.next_runs {
            self.begin(decision, next, ended.as_ref(), &mut reached)?;
        }
        // What this step begins is there for what it sends.
        self.send(decision, &mut reached)?;
        self.cancel_children(decision, &mut reached)?;
        if let Some(closed) = &decision.closed {
            if decision.leaves.children {
                self.leave_children(key, closed, &mut reached)?;
            }
            if let Some(ended) = ended {
                self.tell_parent(key, &ended, closed, &mut reached)?;
            }
        }
        reached.sort_unstable();
        reached.dedup();
        match (&decision.closed, &decision.new_run) {
            (Some(_), None) => self.forget_what_waits(decision)?,
            // What a run begins and closes in its first step was never written.
            (Some(_), Some(_)) => {}
            (None, _) => {
                self.apply_effects(key, &decision.effects, &decision.attempts)?;
                self.change_inbox(key, &decision.inbox_put, &decision.inbox_taken)?;
                self.change_block(key.run_id, &decision.blocked)?;
            }
        }
        if let Some(inherits) = decision.new_run.as_ref().and_then(|new_run| new_run.inherits.as_ref()) {
            self.take_over(key, inherits)?;
        }
        Ok(Verdict::Committed { reached })
    }

    /// The run that did the decision's request before.
    pub(super) fn done_before(&mut self, decision: &Decision) -> Result<Option<RunId>> {
        let (key, Some(Request { operation, request_id })) = (&decision.key, &decision.request) else {
            return Ok(None);
        };
        let workflow_id = match &decision.new_run {
            Some(new_run) => Some(new_run.workflow_id.0.clone()),
            None => self.workflow_id_of(key)?,
        };
        let Some(workflow_id) = workflow_id else { return Ok(None) };
        let request = params![key.namespace.0, workflow_id, operation.name(), request_id];
        self.request.query_row(request, |row| row.get(0).map(RunId)).optional()
    }

    fn remember(&mut self, decision: &Decision, request: &Request) -> Result<()> {
        let Request { operation, request_id } = request;
        let (namespace, workflow_id) = (&decision.key.namespace, self.workflow_id_of(&decision.key)?);
        let put = params![namespace.0, workflow_id, operation.name(), request_id, decision.answered_by().0];
        self.request_put.execute(put)?;
        Ok(())
    }

    fn workflow_id_of(&mut self, key: &RunKey) -> Result<Option<String>> {
        self.workflow_id.query_row([key.run_id.0], |row| row.get(0)).optional()
    }

    /// Puts what the step sends into the inboxes of those who get it, and the answers into its own; whose
    /// inboxes those are is added to `reached`.
    fn send(&mut self, decision: &Decision, reached: &mut Vec<RunId>) -> Result<()> {
        let from = &decision.key;
        for message in &decision.effects.messages {
            let OutgoingMessage { to, input, command_event_id: _ } = message;
            let open_run = params![from.namespace.0, to.workflow_id.0];
            let open: Option<(RunId, i64)> =
                self.open_run.query_row(open_run, |row| Ok((RunId(row.get(0)?), row.get(1)?))).optional()?;
            let delivery = match open {
                Some((open, _)) if to.run_id.is_some_and(|run_id| run_id != open) => Delivery::NotFound,
                Some((_, waiting)) if waiting >= integer(MOST_WAITING) => Delivery::InboxFull,
                Some((run_id, _)) => {
                    let to = RunKey { namespace: from.namespace.clone(), run_id };
                    self.change_inbox(&to, slice::from_ref(input), &[])?;
                    reached.push(run_id);
                    Delivery::Delivered
                }
                None => Delivery::NotFound,
            };
            if decision.closed.is_none() {
                self.change_inbox(from, &[message.answer(delivery)], &[])?;
                reached.push(from.run_id);
            }
        }
        Ok(())
    }

    /// Passes the run's fence; where the step closes a child, says whose.
    fn pass_fence(&mut self, decision: &Decision) -> Result<(Verdict, Option<Ended>)> {
        let Decision { key, expected, open_activities, .. } = decision;
        let (next, open_activities) = (integer(decision.next().0), integer(*open_activities));
        let expected = integer(expected.0);
        let passed = match &decision.closed {
            None => {
                let advance = params![next, open_activities, key.run_id.0, key.namespace.0, expected];
                (self.run_advance.execute(advance)? > 0).then_some(None)
            }
            Some(closed) => {
                let close = params![
                    next,
                    open_activities,
                    closed.status.name(),
                    closed.at.0,
                    outcome(closed, &decision.events),
                    key.run_id.0,
                    key.namespace.0,
                    expected,
                    // Whatever waits, where the step does not say.
                    decision.inbox_known.map_or(i64::MAX, integer),
                ];
                self.run_close.query_row(close, Ended::of).optional()?
            }
        };
        Ok(match passed {
            Some(ended) => (Verdict::COMMITTED, ended),
            None => (Verdict::Fenced, None),
        })
    }

    pub(super) fn append_history(&mut self, key: &RunKey, events: &[Event]) -> Result<()> {
        let Some(first) = events.first() else { return Ok(()) };
        self.history_put.execute(params![
            key.run_id.0,
            key.namespace.0,
            integer(first.id.0),
            integer(events.len() as u64),
            history::pack(events),
        ])?;
        Ok(())
    }

    fn forget_what_waits(&mut self, decision: &Decision) -> Result<()> {
        let Decision { key, leaves, inbox_known, .. } = decision;
        if leaves.timers {
            self.timers_delete.execute([key.run_id.0])?;
        }
        self.attempts_delete.execute([key.run_id.0])?;
        // The fence has seen that no more waits than the run knew.
        if *inbox_known != Some(0) {
            self.inbox_clear.execute([key.run_id.0])?;
        }
        Ok(())
    }

    pub(super) fn apply_effects(
        &mut self,
        key: &RunKey,
        effects: &Effects,
        attempts: &[PendingActivity],
    ) -> Result<()> {
        // One step may start a timer and take it back, so that what closes comes last.
        for (started, fire_at) in &effects.timers_started {
            let started = integer(started.0);
            self.timer_put.execute(params![key.run_id.0, key.namespace.0, started, fire_at.0])?;
        }
        for started in &effects.timers_closed {
            self.timer_delete.execute(params![key.run_id.0, integer(started.0)])?;
        }
        for attempt in attempts {
            self.put_attempt(key, attempt)?;
        }
        for scheduled in &effects.activities_closed {
            self.attempt_delete.execute(params![key.run_id.0, integer(scheduled.0)])?;
        }
        Ok(())
    }

    fn put_attempt(&mut self, key: &RunKey, pending: &PendingActivity) -> Result<()> {
        let failure = pending.last_failure.as_ref();
        self.attempt_put.execute(params![
            key.run_id.0,
            key.namespace.0,
            integer(pending.scheduled_event_id.0),
            pending.activity_type,
            pending.attempt,
            pending.next_attempt_at.0,
            failure.map(encode),
            failure.and_then(shown),
            pending.last_failure_at.map(|at| at.0),
            pending.heartbeat_details.as_ref().map(encode),
            pending.last_heartbeat_at.map(|at| at.0),
            pending.lease.as_ref().map(|lease| lease.id.0),
            pending.lease.as_ref().and_then(|lease| lease.worker.as_deref()),
            pending.lease.as_ref().map(|lease| lease.since.0),
            pending.paused.map(|paused| paused.since.0),
            pending.paused.map(|paused| paused.attempt_under_way),
            pending.reset.map(|reset| reset.at.0),
            pending.reset.map(|reset| reset.is_due),
        ])?;
        Ok(())
    }

    pub(super) fn change_inbox(
        &mut self,
        key: &RunKey,
        put: &[InboxInput],
        taken: &[InboxSeq],
    ) -> Result<()> {
        let mut change = 0_i64;
        for InboxSeq(seq) in taken {
            let rows = self.inbox_delete.execute(params![seq, key.run_id.0])?;
            // Counted rather than assumed: two steps without events may name the same row.
            change -= integer(rows as u64);
        }
        for input in put {
            self.put_into_inbox(key, input)?;
            change += 1;
        }
        if change != 0 {
            self.run_inbox_length.execute(params![change, key.run_id.0])?;
        }
        Ok(())
    }

    pub(super) fn put_into_inbox(&mut self, key: &RunKey, input: &InboxInput) -> Result<()> {
        let InboxInput { received_at, input } = input;
        self.inbox_put.execute(params![
            key.run_id.0,
            key.namespace.0,
            received_at.0,
            input.type_name(),
            encode(input),
        ])?;
        Ok(())
    }

    fn change_block(&mut self, run_id: RunId, change: &BlockChange) -> Result<()> {
        match change {
            BlockChange::Keep => {}
            BlockChange::Clear => {
                self.run_unblock.execute([run_id.0])?;
            }
            BlockChange::Block(blocked) => {
                let Blocked { event_id, kind, reason, backtrace, divergence, since, retries, retry_at } =
                    blocked;
                let divergence =
                    divergence.as_ref().map(|divergence| serde_json::json!(divergence).to_string());
                let event_id = integer(event_id.0);
                self.run_block.execute(params![
                    kind.name(),
                    event_id,
                    reason,
                    backtrace,
                    divergence,
                    since.0,
                    retries,
                    retry_at.0,
                    run_id.0,
                ])?;
            }
        }
        Ok(())
    }
}
