//! Out of a guest into the core. What breaks a rule of the interface is a fault of the guest.

use everfold_core::attributes::{AttributeValue, Changes, MOST_NAMES, Memo, SearchAttributes};
use everfold_core::command::{
    ActivityScheduled, CancellationType, ChildWorkflowInitiated, DEFAULT_TASK_QUEUE, ExternalWorkflow,
    ParentClosePolicy, VersionChoice,
};
use everfold_core::decision::IdReusePolicy;
use everfold_core::event::ActivityTimeouts;
use everfold_core::failure::{
    ActivityFailure, ApplicationFailure, CanceledFailure, ChildWorkflowFailure, Failure, FailureKind,
    OtherFailure, RetryState, TimeoutFailure, TimeoutType,
};
use everfold_core::ids::{EventId, RunId, WorkflowId};
use everfold_core::lifetime::Terms;
use everfold_core::payload::{Payload, headers_bytes};
use everfold_core::retry::RetryPolicy;

use super::{FAILURE_LINKS, NAME_BYTES, REASON_BYTES, SUMMARY_BYTES};
use crate::guest::bindings::everfold::workflow::host as wit_host;
use crate::guest::bindings::everfold::workflow::types;
use crate::guest::fault::Stop;

/// An activity to be scheduled; `key` makes its idempotency key if the guest names none.
pub(in crate::guest) fn activity(
    activity_type: String,
    input: types::Payload,
    options: types::ActivityOptions,
    key: impl FnOnce() -> String,
) -> Result<ActivityScheduled, Stop> {
    let types::ActivityOptions {
        task_queue,
        timeouts,
        retry_policy,
        cancellation_type,
        headers,
        idempotency_key,
        summary,
    } = options;
    check_name("an activity's type", &activity_type)?;
    if let Some(task_queue) = &task_queue {
        check_name("a task queue", task_queue)?;
    }
    if let Some(key) = &idempotency_key {
        check_name("an idempotency key", key)?;
    }
    check_summary(&summary)?;
    Ok(ActivityScheduled {
        activity_type,
        input: payload(input),
        task_queue: task_queue.unwrap_or_else(|| DEFAULT_TASK_QUEUE.to_owned()),
        timeouts: activity_timeouts(timeouts),
        retry_policy: self::retry_policy(retry_policy),
        cancellation_type: self::cancellation_type(cancellation_type),
        headers: self::headers(headers),
        idempotency_key: idempotency_key.unwrap_or_else(key),
        summary,
    })
}

/// A child to be begun. Its run id is its workflow id if the guest names none.
pub(in crate::guest) fn child(
    workflow_type: String,
    input: types::Payload,
    options: wit_host::ChildOptions,
    run_id: RunId,
) -> Result<ChildWorkflowInitiated, Stop> {
    let wit_host::ChildOptions {
        workflow_id,
        parent_close_policy,
        cancellation_type,
        id_reuse_policy,
        version,
        execution_timeout,
        run_timeout,
        retry_policy,
        headers,
        search_attributes,
        memo,
        summary,
    } = options;
    let (search_attributes, memo) = (described_by(search_attributes)?, noted(memo)?);
    let terms = Terms {
        execution_timeout_ms: execution_timeout,
        run_timeout_ms: run_timeout,
        retry_policy: retry_policy.map(self::retry_policy),
        start_delay_ms: None,
    };
    terms.check().map_err(Stop::illegal)?;
    check_name("a workflow type", &workflow_type)?;
    if let Some(workflow_id) = &workflow_id {
        check_name("a workflow id", workflow_id)?;
    }
    check_summary(&summary)?;
    Ok(ChildWorkflowInitiated {
        workflow_type,
        workflow_id: WorkflowId(workflow_id.unwrap_or_else(|| run_id.to_string())),
        run_id,
        input: payload(input),
        headers: self::headers(headers),
        parent_close_policy: match parent_close_policy {
            wit_host::ParentClosePolicy::Terminate => ParentClosePolicy::Terminate,
            wit_host::ParentClosePolicy::RequestCancel => ParentClosePolicy::RequestCancel,
            wit_host::ParentClosePolicy::Abandon => ParentClosePolicy::Abandon,
        },
        cancellation_type: self::cancellation_type(cancellation_type),
        id_reuse_policy: match id_reuse_policy {
            wit_host::IdReusePolicy::AllowDuplicate => IdReusePolicy::AllowDuplicate,
            wit_host::IdReusePolicy::AllowDuplicateFailedOnly => IdReusePolicy::AllowDuplicateFailedOnly,
            wit_host::IdReusePolicy::RejectDuplicate => IdReusePolicy::RejectDuplicate,
        },
        version: self::version(version),
        summary,
        terms: (terms != Terms::default()).then(|| Box::new(terms)),
        search_attributes,
        memo,
    })
}

/// What a child can be found by when it begins.
fn described_by(values: Vec<types::Header>) -> Result<SearchAttributes, Stop> {
    let mut attributes = SearchAttributes::new();
    attributes.change(&search_attributes(values)?.0);
    attributes.check().map_err(Stop::illegal)?;
    Ok(attributes)
}

/// What is written on a child when it begins.
fn noted(values: Vec<types::Header>) -> Result<Memo, Stop> {
    let mut noted = Memo::new();
    noted.change(&memo(values)?.0);
    noted.check().map_err(Stop::illegal)?;
    Ok(noted)
}

/// Which component folds a run that goes on from another, or is its child.
pub(in crate::guest) const fn version(version: wit_host::VersionChoice) -> VersionChoice {
    match version {
        wit_host::VersionChoice::FollowRoute => VersionChoice::FollowRoute,
        wit_host::VersionChoice::StayPinned => VersionChoice::StayPinned,
    }
}

const fn cancellation_type(cancellation: types::CancellationType) -> CancellationType {
    match cancellation {
        types::CancellationType::TryCancel => CancellationType::TryCancel,
        types::CancellationType::WaitCancellationCompleted => CancellationType::WaitCancellationCompleted,
        types::CancellationType::Abandon => CancellationType::Abandon,
    }
}

/// Another run of the namespace.
pub(in crate::guest) fn external(to: wit_host::ExternalWorkflow) -> Result<ExternalWorkflow, Stop> {
    let wit_host::ExternalWorkflow { workflow_id, run_id } = to;
    check_name("a workflow id", &workflow_id)?;
    let run_id = run_id.map(|run_id| run_id.parse().map_err(Stop::illegal)).transpose()?;
    Ok(ExternalWorkflow { workflow_id: WorkflowId(workflow_id), run_id })
}

/// Changes of what a run can be found by, and their bytes.
pub(in crate::guest) fn search_attributes(
    changes: Vec<types::Header>,
) -> Result<(Changes<AttributeValue>, usize), Stop> {
    check_number(changes.len())?;
    let changes = headers(changes);
    let bytes = headers_bytes(&changes);
    let read = |(name, value): &(String, Payload)| match value.decode::<serde_json::Value>() {
        Ok(value) => Ok((name.clone(), value)),
        Err(error) => Err(Stop::illegal(format!("search attribute `{name}`: its value is no JSON: {error}"))),
    };
    let values: Vec<(String, serde_json::Value)> = changes.iter().map(read).collect::<Result<_, _>>()?;
    let named = values.iter().map(|(name, value)| (name.as_str(), value));
    Ok((SearchAttributes::read_changes(named).map_err(Stop::illegal)?, bytes))
}

/// Changes of what is written on a run, and their bytes.
pub(in crate::guest) fn memo(changes: Vec<types::Header>) -> Result<(Changes<Payload>, usize), Stop> {
    check_number(changes.len())?;
    let changes = headers(changes);
    let bytes = headers_bytes(&changes);
    Ok((Memo::read_changes(changes).map_err(Stop::illegal)?, bytes))
}

fn check_number(changes: usize) -> Result<(), Stop> {
    if changes <= MOST_NAMES {
        return Ok(());
    }
    Err(Stop::limit(format!("{changes} names are changed at once; at most {MOST_NAMES} are allowed")))
}

/// A signal's name, by the rules for callers.
pub(in crate::guest) fn check_signal(name: &str) -> Result<(), Stop> {
    check_name("a signal's name", name)?;
    if name.chars().any(char::is_control) || name == "." || name == ".." {
        return Err(Stop::illegal("a signal's name has a control character, or is `.` or `..`"));
    }
    Ok(())
}

/// Why a run is asked to cancel.
pub(in crate::guest) fn check_reason(reason: &str) -> Result<(), Stop> {
    if reason.len() <= REASON_BYTES {
        return Ok(());
    }
    Err(Stop::limit(format!("a reason has {} bytes; at most {REASON_BYTES} are allowed", reason.len())))
}

/// A line for people.
pub(in crate::guest) fn check_summary(summary: &str) -> Result<(), Stop> {
    if summary.len() <= SUMMARY_BYTES {
        return Ok(());
    }
    Err(Stop::limit(format!("a summary has {} bytes; at most {SUMMARY_BYTES} are allowed", summary.len())))
}

pub(in crate::guest) fn payload(payload: types::Payload) -> Payload {
    Payload { metadata: payload.metadata, data: payload.data }
}

/// An input with what travels beside it, and the bytes of both.
pub(in crate::guest) fn input(
    input: types::Payload,
    headers: Vec<types::Header>,
) -> (Payload, Vec<(String, Payload)>, usize) {
    let (input, headers) = (payload(input), self::headers(headers));
    let bytes = input.size() + headers_bytes(&headers);
    (input, headers, bytes)
}

pub(in crate::guest) fn headers(list: Vec<types::Header>) -> Vec<(String, Payload)> {
    list.into_iter().map(|(name, value)| (name, payload(value))).collect()
}

pub(in crate::guest) fn payloads(list: Vec<types::Payload>) -> Vec<Payload> {
    list.into_iter().map(payload).collect()
}

/// The interface's list of links as a nested failure.
pub(in crate::guest) fn failure(chain: types::Failure) -> Result<Failure, Stop> {
    if chain.len() > FAILURE_LINKS {
        return Err(Stop::limit(format!(
            "a failure's chain has {} links; at most {FAILURE_LINKS} are allowed",
            chain.len()
        )));
    }
    chain
        .into_iter()
        .rev()
        .fold(None, |cause, link| {
            let types::FailureLink { message, kind, stack_trace } = link;
            let kind = failure_kind(kind);
            Some(Failure { message, kind, stack_trace, cause: cause.map(Box::new) })
        })
        .ok_or_else(|| Stop::illegal("a failure's chain is empty: it needs at least one link"))
}

fn failure_kind(kind: types::FailureKind) -> FailureKind {
    match kind {
        types::FailureKind::Application(application) => FailureKind::Application(ApplicationFailure {
            failure_type: application.type_,
            non_retryable: application.non_retryable,
            next_retry_delay_ms: application.next_retry_delay,
            details: payloads(application.details),
        }),
        types::FailureKind::TimedOut(timeout) => FailureKind::TimedOut(TimeoutFailure {
            timeout_type: match timeout.type_ {
                types::TimeoutType::ScheduleToStart => TimeoutType::ScheduleToStart,
                types::TimeoutType::StartToClose => TimeoutType::StartToClose,
                types::TimeoutType::ScheduleToClose => TimeoutType::ScheduleToClose,
                types::TimeoutType::Heartbeat => TimeoutType::Heartbeat,
            },
            last_heartbeat_details: payloads(timeout.last_heartbeat_details),
        }),
        types::FailureKind::Canceled(details) => {
            FailureKind::Canceled(CanceledFailure { details: payloads(details) })
        }
        types::FailureKind::Terminated => FailureKind::Terminated,
        types::FailureKind::Activity(activity) => FailureKind::Activity(ActivityFailure {
            scheduled_event_id: EventId(activity.scheduled_event_id),
            activity_type: activity.activity_type,
            attempt: activity.attempt,
            retry_state: match activity.retry_state {
                types::RetryState::NonRetryableFailure => RetryState::NonRetryableFailure,
                types::RetryState::MaximumAttemptsReached => RetryState::MaximumAttemptsReached,
                types::RetryState::Timeout => RetryState::Timeout,
                types::RetryState::CancelRequested => RetryState::CancelRequested,
            },
        }),
        types::FailureKind::ChildWorkflow(child) => FailureKind::ChildWorkflow(ChildWorkflowFailure {
            workflow_type: child.workflow_type,
            workflow_id: child.workflow_id,
            run_id: child.run_id,
            started_event_id: EventId(child.started_event_id),
        }),
        types::FailureKind::Other((name, attributes)) => {
            FailureKind::Other(OtherFailure { name, attributes: payload(attributes) })
        }
    }
}

fn activity_timeouts(timeouts: types::ActivityTimeouts) -> ActivityTimeouts {
    ActivityTimeouts {
        schedule_to_start_ms: timeouts.schedule_to_start,
        start_to_close_ms: timeouts.start_to_close,
        schedule_to_close_ms: timeouts.schedule_to_close,
        heartbeat_ms: timeouts.heartbeat,
    }
}

/// The core checks its numbers.
fn retry_policy(policy: types::RetryPolicy) -> RetryPolicy {
    RetryPolicy {
        initial_interval_ms: policy.initial_interval,
        backoff_coefficient: policy.backoff_coefficient,
        maximum_interval_ms: policy.maximum_interval,
        maximum_attempts: policy.maximum_attempts,
        non_retryable_types: policy.non_retryable_types,
    }
}

/// A name that stands in tables and in lines of logs.
pub(in crate::guest) fn check_name(what: &str, name: &str) -> Result<(), Stop> {
    if name.is_empty() {
        return Err(Stop::illegal(format!("{what} is empty")));
    }
    if name.len() > NAME_BYTES {
        return Err(Stop::limit(format!(
            "{what} has {} bytes; at most {NAME_BYTES} are allowed",
            name.len()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::lower;
    use super::*;

    #[test]
    fn a_failure_of_every_kind_survives_the_way_into_a_guest_and_back() {
        let details = vec![Payload::json_text(b"1".to_vec())];
        let kinds = [
            FailureKind::Application(ApplicationFailure {
                failure_type: "Declined".to_owned(),
                non_retryable: true,
                next_retry_delay_ms: Some(7),
                details: details.clone(),
            }),
            FailureKind::TimedOut(TimeoutFailure {
                timeout_type: TimeoutType::Heartbeat,
                last_heartbeat_details: details.clone(),
            }),
            FailureKind::Canceled(CanceledFailure { details }),
            FailureKind::Terminated,
            FailureKind::Activity(ActivityFailure {
                scheduled_event_id: EventId(2),
                activity_type: "pay".to_owned(),
                attempt: 3,
                retry_state: RetryState::MaximumAttemptsReached,
            }),
            FailureKind::ChildWorkflow(ChildWorkflowFailure {
                workflow_type: "t".to_owned(),
                workflow_id: "w".to_owned(),
                run_id: "r".to_owned(),
                started_event_id: EventId(9),
            }),
            FailureKind::Other(OtherFailure { name: "new".to_owned(), attributes: Payload::default() }),
        ];
        let nested = kinds.into_iter().enumerate().rev().fold(None, |cause, (depth, kind)| {
            let failure = Failure {
                stack_trace: format!("frame {depth}"),
                ..Failure::new(format!("link {depth}"), kind)
            };
            Some(match cause {
                Some(cause) => failure.caused_by(cause),
                None => failure,
            })
        });
        let nested = nested.expect("there are kinds");
        let chain = lower::failure(&nested);
        assert_eq!(chain.len(), 7);
        assert_eq!(chain[0].message, "link 0");
        assert_eq!(failure(chain).expect("it is well-formed"), nested);
    }

    #[test]
    fn an_empty_and_an_endless_chain_are_refused() {
        let said = |chain| failure(chain).expect_err("it breaks a rule").to_string();
        assert_eq!(said(Vec::new()), "a failure's chain is empty: it needs at least one link");
        let link = types::FailureLink {
            message: String::new(),
            kind: types::FailureKind::Terminated,
            stack_trace: String::new(),
        };
        assert_eq!(
            said(vec![link; FAILURE_LINKS + 1]),
            "a failure's chain has 65 links; at most 64 are allowed"
        );
    }
}
