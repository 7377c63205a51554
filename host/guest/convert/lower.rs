//! From the core into a guest. Fields that the host has nothing for are absent or empty.

use everfold_core::attributes::AttributeValue;
use everfold_core::event::{
    ActivityClosedBadly, ChildWorkflowClosedBadly, Event, Input, RandomReseeded, WorkflowStarted,
};
use everfold_core::failure::{Failure, FailureKind, RetryState, TimeoutType};
use everfold_core::payload::Payload;

use crate::guest::bindings::everfold::workflow::types;
use crate::guest::bindings::exports::everfold::workflow::workflow as wit;

/// An event to be folded.
pub(in crate::guest) fn event(event: &Event, input: &Input) -> wit::Event {
    wit::Event {
        id: event.id.0,
        // No history is older than the epoch.
        time: u64::try_from(event.time.0).unwrap_or(0),
        kind: input_kind(input),
    }
}

fn input_kind(input: &Input) -> wit::EventKind {
    use wit::EventKind as Kind;
    match input {
        Input::WorkflowStarted(started) => Kind::WorkflowStarted(workflow_started(started)),
        Input::WorkflowCancelRequested(request) => {
            Kind::WorkflowCancelRequested(wit::WorkflowCancelRequested { reason: request.reason.clone() })
        }
        Input::ActivityCompleted(closed) => Kind::ActivityCompleted(wit::ActivityCompleted {
            scheduled_event_id: closed.scheduled_event_id.0,
            attempt: closed.attempt,
            result: payload(&closed.result),
        }),
        Input::ActivityFailed(closed) => Kind::ActivityFailed(closed_badly(closed)),
        Input::ActivityTimedOut(closed) => Kind::ActivityTimedOut(closed_badly(closed)),
        Input::ActivityCanceled(closed) => Kind::ActivityCanceled(closed_badly(closed)),
        Input::TimerFired(fired) => {
            Kind::TimerFired(wit::TimerFired { started_event_id: fired.started_event_id.0 })
        }
        Input::SignalReceived(signal) => {
            Kind::SignalReceived(wit::SignalReceived { name: signal.name.clone() })
        }
        Input::RandomReseeded(reseeded) => Kind::Other(wit::UnknownEvent {
            type_: input.type_name().to_owned(),
            attributes: payload(&seed(reseeded)),
        }),
        Input::UpdateAdmitted(update) => Kind::UpdateAdmitted(wit::UpdateAdmitted {
            update_id: update.update_id.clone(),
            name: update.name.clone(),
            input: payload(&update.input),
            headers: headers(&update.headers),
        }),
        Input::ExternalRequestCompleted(closed) => {
            let command_event_id = closed.command_event_id.0;
            Kind::ExternalRequestCompleted(wit::ExternalRequestCompleted { command_event_id })
        }
        Input::ExternalRequestFailed(closed) => Kind::ExternalRequestFailed(wit::ExternalRequestFailed {
            command_event_id: closed.command_event_id.0,
            failure: failure(&closed.failure),
        }),
        Input::ChildWorkflowStarted(started) => Kind::ChildWorkflowStarted(wit::ChildWorkflowStarted {
            command_event_id: started.command_event_id.0,
            run_id: started.run_id.to_string(),
        }),
        Input::ChildWorkflowStartFailed(failed) => Kind::ChildWorkflowStartFailed(child_closed_badly(failed)),
        Input::ChildWorkflowCompleted(closed) => Kind::ChildWorkflowCompleted(wit::ChildWorkflowCompleted {
            command_event_id: closed.command_event_id.0,
            result: payload(&closed.result),
        }),
        Input::ChildWorkflowFailed(closed) => Kind::ChildWorkflowFailed(child_closed_badly(closed)),
    }
}

fn child_closed_badly(closed: &ChildWorkflowClosedBadly) -> wit::ChildWorkflowClosedBadly {
    wit::ChildWorkflowClosedBadly {
        command_event_id: closed.command_event_id.0,
        failure: failure(&closed.failure),
    }
}

/// A reset changes nothing that the guest has been told: its own run id is the original one.
fn workflow_started(started: &WorkflowStarted) -> wit::WorkflowStarted {
    let lifetime = started.lifetime.as_deref();
    wit::WorkflowStarted {
        workflow_type: started.workflow_type.clone(),
        namespace: started.namespace.0.clone(),
        workflow_id: started.workflow_id.0.clone(),
        run_id: started.original_run_id.to_string(),
        original_run_id: started.original_run_id.to_string(),
        attempt: started.attempt,
        input: payload(&started.input),
        headers: headers(&started.headers),
        seed: started.seed.0.to_vec(),
        parent: started.parent.as_ref().map(|parent| wit::WorkflowRef {
            namespace: started.namespace.0.clone(),
            workflow_id: parent.workflow_id.0.clone(),
            run_id: parent.run_id.to_string(),
        }),
        continued_from_run_id: started.continued_from_run_id.map(|run_id| run_id.to_string()),
        last_completion_result: None,
        last_failure: lifetime.and_then(|lifetime| lifetime.last_failure.as_ref()).map(failure),
        execution_timeout: lifetime.and_then(|lifetime| lifetime.execution_timeout_ms),
        run_timeout: lifetime.and_then(|lifetime| lifetime.run_timeout_ms),
        memo: started.memo.iter().map(|(name, value)| (name.to_owned(), payload(value))).collect(),
        search_attributes: started.search_attributes.iter().map(search_attribute).collect(),
    }
}

/// Its attributes, as the WIT package names them.
fn seed(reseeded: &RandomReseeded) -> Payload {
    Payload::json_text(serde_json::json!({ "seed": reseeded.seed.0 }).to_string().into_bytes())
}

fn search_attribute((name, value): (&str, &AttributeValue)) -> types::Header {
    let json = Payload::json_text(value.to_json().to_string().into_bytes());
    (name.to_owned(), payload(&json))
}

fn closed_badly(closed: &ActivityClosedBadly) -> wit::ActivityClosedBadly {
    wit::ActivityClosedBadly {
        scheduled_event_id: closed.scheduled_event_id.0,
        attempt: closed.attempt,
        failure: failure(&closed.failure),
    }
}

pub(in crate::guest) fn payload(payload: &Payload) -> types::Payload {
    types::Payload { metadata: payload.metadata.clone(), data: payload.data.clone() }
}

fn payloads(list: &[Payload]) -> Vec<types::Payload> {
    list.iter().map(payload).collect()
}

pub(in crate::guest) fn headers(headers: &[(String, Payload)]) -> Vec<types::Header> {
    headers.iter().map(|(name, value)| (name.clone(), payload(value))).collect()
}

/// A nested failure as the interface's list: outermost first.
pub(super) fn failure(failure: &Failure) -> types::Failure {
    failure
        .chain()
        .map(|link| types::FailureLink {
            message: link.message.clone(),
            kind: failure_kind(&link.kind),
            stack_trace: link.stack_trace.clone(),
        })
        .collect()
}

fn failure_kind(kind: &FailureKind) -> types::FailureKind {
    match kind {
        FailureKind::Application(application) => types::FailureKind::Application(types::ApplicationFailure {
            type_: application.failure_type.clone(),
            non_retryable: application.non_retryable,
            next_retry_delay: application.next_retry_delay_ms,
            details: payloads(&application.details),
        }),
        FailureKind::TimedOut(timeout) => types::FailureKind::TimedOut(types::TimeoutFailure {
            type_: match timeout.timeout_type {
                TimeoutType::ScheduleToStart => types::TimeoutType::ScheduleToStart,
                TimeoutType::StartToClose => types::TimeoutType::StartToClose,
                TimeoutType::ScheduleToClose => types::TimeoutType::ScheduleToClose,
                TimeoutType::Heartbeat => types::TimeoutType::Heartbeat,
            },
            last_heartbeat_details: payloads(&timeout.last_heartbeat_details),
        }),
        FailureKind::Canceled(canceled) => types::FailureKind::Canceled(payloads(&canceled.details)),
        FailureKind::Terminated => types::FailureKind::Terminated,
        FailureKind::Activity(activity) => types::FailureKind::Activity(types::ActivityFailure {
            scheduled_event_id: activity.scheduled_event_id.0,
            activity_type: activity.activity_type.clone(),
            attempt: activity.attempt,
            retry_state: match activity.retry_state {
                RetryState::NonRetryableFailure => types::RetryState::NonRetryableFailure,
                RetryState::MaximumAttemptsReached => types::RetryState::MaximumAttemptsReached,
                RetryState::Timeout => types::RetryState::Timeout,
                RetryState::CancelRequested => types::RetryState::CancelRequested,
            },
        }),
        FailureKind::ChildWorkflow(child) => types::FailureKind::ChildWorkflow(types::ChildWorkflowFailure {
            workflow_type: child.workflow_type.clone(),
            workflow_id: child.workflow_id.clone(),
            run_id: child.run_id.clone(),
            started_event_id: child.started_event_id.0,
        }),
        FailureKind::Other(other) => {
            types::FailureKind::Other((other.name.clone(), payload(&other.attributes)))
        }
    }
}
