//! Runs that a step begins: the one that goes on from it or tries again, its children, and those that go their own way. They are
//! written in the step's own transaction and folded after it.

use std::sync::Arc;

use everfold_core::attributes::Details;
use everfold_core::command::{Command, VersionChoice};
use everfold_core::decision::{
    BlockKind, Decision, IdReusePolicy, IfOpen, InboxInput, Kinship, NewRun, NextRun, Outcome,
};
use everfold_core::event::{Event, EventKind, Input, ParentRun, WorkflowStarted};
use everfold_core::failure::Failure;
use everfold_core::ids::{Digest, RunId, WorkflowId};
use everfold_core::lifetime::Lifetime;
use everfold_core::machine::RunState;
use everfold_core::machine::update::UpdateStage;
use everfold_core::payload::Payload;

use super::Parts;
use super::api::ApiError;
use super::block::Fault;
use crate::telemetry::trace;

/// What a command says of the run to begin.
struct Wanted<'a> {
    run_id: RunId,
    workflow_type: &'a str,
    workflow_id: &'a WorkflowId,
    input: &'a Payload,
    headers: &'a [(String, Payload)],
    version: VersionChoice,
    id_reuse: IdReusePolicy,
    kinship: Kinship,
    parent: Option<ParentRun>,
    lifetime: Option<Box<Lifetime>>,
    attempt: u32,
    /// What it is described by when it begins.
    details: Details,
}

/// Completes a decision by the runs that its events begin. `state` is the one behind the step, and
/// `digest` the component that made it.
///
/// # Errors
/// When no component has a type that is asked for: a fault of the code, or of who deploys it.
pub(super) fn complete(
    parts: &Arc<Parts>,
    decision: &mut Decision,
    state: &RunState,
    digest: Digest,
) -> Result<(), Fault> {
    let Some(started) = state.started() else { return Ok(()) };
    for event in &decision.events {
        if let Some(wanted) = wanted(event, started, state) {
            let next = next_run(parts, event, wanted, state, started, digest)?;
            decision.next_runs.push(next);
        }
    }
    let failure = decision.events.iter().find_map(|event| match &event.kind {
        EventKind::Command(Command::WorkflowFailed(failed)) => Some(failed.failure.clone()),
        EventKind::Command(_) | EventKind::Input(_) | EventKind::Note(_) => None,
    });
    match failure {
        Some(failure) => try_again(parts, decision, state, &failure),
        None => Ok(()),
    }
}

/// Completes a decision that closes its run with a failure by the next try of the workflow, if its retry policy has one: a
/// run under the same workflow id that begins when the back-off is over. Callers then wait for that one.
///
/// # Errors
/// As [`complete`].
pub(super) fn try_again(
    parts: &Arc<Parts>,
    decision: &mut Decision,
    state: &RunState,
    failure: &Failure,
) -> Result<(), Fault> {
    let (Some(started), Some(digest), Some(event)) =
        (state.started(), state.digest(), decision.events.last())
    else {
        return Ok(());
    };
    let lifetime = started.lifetime.as_ref().filter(|_| !state.is_cancel_requested());
    let next = lifetime.and_then(|lifetime| lifetime.after_failure(started.attempt, failure, event.time));
    let Some(lifetime) = next else { return Ok(()) };
    let run_id = started.run_id.following(&started.seed, event.id, event.time);
    let wanted = Wanted {
        run_id,
        workflow_type: &started.workflow_type,
        workflow_id: &started.workflow_id,
        input: &started.input,
        headers: &started.headers,
        version: VersionChoice::FollowRoute,
        id_reuse: IdReusePolicy::default(),
        kinship: Kinship::Successor,
        parent: started.parent.clone(),
        lifetime: lifetime.into_some(),
        attempt: started.attempt.saturating_add(1),
        details: state.details().clone(),
    };
    let next = next_run(parts, event, wanted, state, started, digest)?;
    decision.next_runs.push(next);
    if let Some(closed) = &mut decision.closed {
        closed.outcome = Outcome::ContinuedAs(run_id);
    }
    Ok(())
}

fn wanted<'a>(event: &'a Event, started: &'a WorkflowStarted, state: &RunState) -> Option<Wanted<'a>> {
    match &event.kind {
        EventKind::Command(Command::WorkflowContinuedAsNew(next)) => Some(Wanted {
            run_id: next.new_run_id,
            workflow_type: &next.workflow_type,
            workflow_id: &started.workflow_id,
            input: &next.input,
            headers: &next.headers,
            version: next.version,
            id_reuse: IdReusePolicy::default(),
            kinship: Kinship::Successor,
            parent: started.parent.clone(),
            lifetime: started.lifetime.as_ref().and_then(|lifetime| lifetime.carried().into_some()),
            attempt: 1,
            details: state.details().clone(),
        }),
        EventKind::Command(Command::DetachedWorkflowStarted(next)) => Some(Wanted {
            run_id: next.run_id,
            workflow_type: &next.workflow_type,
            workflow_id: &next.workflow_id,
            input: &next.input,
            headers: &next.headers,
            version: VersionChoice::FollowRoute,
            id_reuse: IdReusePolicy::default(),
            kinship: Kinship::Detached,
            parent: None,
            lifetime: None,
            attempt: 1,
            details: Details::new(),
        }),
        EventKind::Command(Command::ChildWorkflowInitiated(child)) => Some(Wanted {
            run_id: child.run_id,
            workflow_type: &child.workflow_type,
            workflow_id: &child.workflow_id,
            input: &child.input,
            headers: &child.headers,
            version: child.version,
            id_reuse: child.id_reuse_policy,
            kinship: Kinship::Child,
            parent: Some(ParentRun {
                workflow_id: started.workflow_id.clone(),
                run_id: started.run_id,
                command_event_id: event.id,
                close_policy: child.parent_close_policy,
            }),
            lifetime: child.lifetime(event.time),
            attempt: 1,
            details: child.details(),
        }),
        EventKind::Command(_) | EventKind::Input(_) | EventKind::Note(_) => None,
    }
}

fn next_run(
    parts: &Arc<Parts>,
    event: &Event,
    wanted: Wanted<'_>,
    state: &RunState,
    started: &WorkflowStarted,
    digest: Digest,
) -> Result<NextRun, Fault> {
    let Wanted {
        run_id,
        workflow_type,
        workflow_id,
        input,
        headers,
        version,
        id_reuse,
        kinship,
        parent,
        lifetime,
        attempt,
        details,
    } = wanted;
    let digest = match version {
        VersionChoice::StayPinned => digest,
        VersionChoice::FollowRoute => route(parts, event, started, workflow_type, workflow_id)?,
    };
    let now = parts.clock.now();
    let first = WorkflowStarted {
        workflow_type: workflow_type.to_owned(),
        workflow_id: workflow_id.clone(),
        namespace: started.namespace.clone(),
        run_id,
        original_run_id: run_id,
        digest,
        input: input.clone(),
        headers: trace::propagated(headers, started),
        seed: parts.clock.new_seed(),
        attempt,
        continued_from_run_id: match kinship {
            Kinship::Successor => Some(started.run_id),
            Kinship::Detached | Kinship::Child | Kinship::Reset => None,
        },
        parent: parent.clone(),
        lifetime: lifetime.clone(),
        reset: None,
        search_attributes: details.search_attributes,
        memo: details.memo,
    };
    let details = first.details();
    let carried = match kinship {
        Kinship::Successor => carried(state),
        Kinship::Detached | Kinship::Child | Kinship::Reset => Vec::new(),
    };
    let inputs = [Input::WorkflowStarted(Arc::new(first))].into_iter().chain(carried);
    Ok(NextRun {
        run_id,
        new_run: NewRun {
            workflow_id: workflow_id.clone(),
            workflow_type: workflow_type.to_owned(),
            digest,
            started_at: event.time,
            request_id: None,
            id_reuse,
            if_open: IfOpen::default(),
            start_at: lifetime.and_then(|lifetime| lifetime.start_at),
            parent,
            details,
            inherits: None,
        },
        inputs: inputs.map(|input| InboxInput { received_at: now, input }).collect(),
        kinship,
    })
}

/// What the run leaves to the one that goes on from it: signals that were not read and updates that were not accepted,
/// in the order of arrival.
fn carried(state: &RunState) -> Vec<Input> {
    let signals = state.signals().unread().into_iter();
    let signals = signals.map(|(id, signal)| (*id, Input::SignalReceived(Arc::clone(signal))));
    let updates = state.updates().open().filter(|(_, open)| open.stage == UpdateStage::Admitted);
    let updates = updates.map(|(id, open)| (id, Input::UpdateAdmitted(Arc::clone(&open.update))));
    let mut carried: Vec<_> = signals.chain(updates).collect();
    carried.sort_by_key(|(id, _)| *id);
    carried.into_iter().map(|(_, input)| input).collect()
}

/// The component that new runs of a type start on.
fn route(
    parts: &Arc<Parts>,
    event: &Event,
    started: &WorkflowStarted,
    workflow_type: &str,
    workflow_id: &WorkflowId,
) -> Result<Digest, Fault> {
    let routes = parts.versions.routes();
    match parts.runtime.block_on(routes.digest_for(&started.namespace, workflow_type, workflow_id)) {
        Ok(Some(digest)) => Ok(digest),
        Ok(None) => Err(Fault::Code {
            event_id: event.id,
            kind: BlockKind::ComponentUnavailable,
            reason: format!("no component with workflow type {workflow_type} is deployed"),
            backtrace: String::new(),
            divergence: None,
        }),
        Err(error @ ApiError::Internal(_)) => Err(Fault::Host(error.to_string())),
        Err(error) => unreachable!("asking for the current version fails only with the store: {error}"),
    }
}
