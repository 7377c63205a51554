//! From the runner's types to the JSON of runs.

use everfold_core::decision;
use everfold_core::event::ParentRun;
use everfold_core::ids::EventId;
use everfold_core::limits::Usage;
use everfold_core::machine::child::Child;

use super::{
    Blocked, Description, History, NearLimit, Parent, PendingActivity, PendingChild, PendingUpdate,
    RunSummary, Standing, Timer, UnreadSignal,
};
use crate::runner::api;

impl From<api::Description> for Description {
    fn from(run: api::Description) -> Self {
        Self {
            workflow_id: run.workflow_id,
            run_id: run.key.run_id,
            namespace: run.key.namespace,
            workflow_type: run.workflow_type,
            digest: run.digest,
            standing: Standing::new(run.status, run.outcome),
            history_length: run.history_length,
            started_at: run.started_at,
            closed_at: run.closed_at,
            blocked: run.blocked.map(Blocked::from),
            pending_activities: run.pending_activities.into_iter().map(PendingActivity::from).collect(),
            timers: run
                .timers
                .into_iter()
                .map(|(started_event_id, fire_at)| Timer { started_event_id, fire_at })
                .collect(),
            children: run.children.into_iter().map(PendingChild::from).collect(),
            parent: run.parent.map(Parent::from),
            start_at: run.start_at,
            attempt: run.attempt,
            times_out_at: run.deadline.map(|(at, _)| at),
            unread_signals: run
                .unread_signals
                .into_iter()
                .map(|(received_event_id, name)| UnreadSignal { received_event_id, name })
                .collect(),
            pending_updates: run.pending_updates.into_iter().map(PendingUpdate::from).collect(),
            cancel_requested: run.cancel_requested,
            inbox_length: run.inbox_length,
            search_attributes: run.details.search_attributes.to_json(),
            memo: run.details.memo.to_json(),
            near_limits: run.near_limits.into_iter().map(NearLimit::from).collect(),
        }
    }
}

impl From<(EventId, Child)> for PendingChild {
    fn from((initiated_event_id, child): (EventId, Child)) -> Self {
        let Child { workflow_type, workflow_id, run_id, initiated_at, is_started, is_cancel_requested } =
            child;
        Self {
            initiated_event_id,
            workflow_type,
            workflow_id,
            run_id,
            initiated_at,
            started: is_started,
            cancel_requested: is_cancel_requested,
        }
    }
}

impl From<ParentRun> for Parent {
    fn from(parent: ParentRun) -> Self {
        let ParentRun { workflow_id, run_id, command_event_id: _, close_policy } = parent;
        Self { workflow_id, run_id, close_policy }
    }
}

impl From<Usage> for NearLimit {
    fn from(usage: Usage) -> Self {
        let message = usage.to_string();
        let Usage { limit, used, most } = usage;
        Self { limit, used, most, message }
    }
}

impl From<api::PendingUpdate> for PendingUpdate {
    fn from(update: api::PendingUpdate) -> Self {
        let api::PendingUpdate { admitted_event_id, update_id, name, stage } = update;
        Self { admitted_event_id, update_id, name, stage }
    }
}

impl From<decision::Blocked> for Blocked {
    fn from(blocked: decision::Blocked) -> Self {
        Self {
            event: blocked.event_id,
            kind: blocked.kind.name().to_owned(),
            reason: blocked.reason,
            backtrace: blocked.backtrace,
            divergence: blocked.divergence,
            since: blocked.since,
            retries: blocked.retries,
            next_retry_at: blocked.retry_at,
        }
    }
}

impl From<api::RunSummary> for RunSummary {
    fn from(run: api::RunSummary) -> Self {
        Self {
            workflow_id: run.workflow_id,
            run_id: run.key.run_id,
            namespace: run.key.namespace,
            workflow_type: run.workflow_type,
            digest: run.digest,
            status: run.status,
            history_length: run.history_length,
            started_at: run.started_at,
            closed_at: run.closed_at,
            blocked: run.blocked.map(Blocked::from),
            search_attributes: run.details.search_attributes.to_json(),
            memo: run.details.memo.to_json(),
        }
    }
}

impl From<api::HistoryPage> for History {
    fn from(page: api::HistoryPage) -> Self {
        Self {
            workflow_id: page.workflow_id,
            run_id: page.key.run_id,
            namespace: page.key.namespace,
            workflow_type: page.workflow_type,
            digest: page.digest,
            status: page.status,
            events: page.events,
            complete: page.is_complete,
        }
    }
}
