//! A component's exports: what [`export!`](crate::export!) expands to.
//!
//! Owns the one instance that a component holds, and the panic hook. Everything here is for the
//! macro; authors use [`crate::export!`].

use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::sync::Once;

use crate::bindings::everfold::workflow::host::report_panic;
use crate::bindings::everfold::workflow::types::{FailureLink, Payload};
use crate::bindings::exports::everfold::workflow::workflow::{Description, Event, EventKind};
use crate::failure::Failure;
use crate::host::ComponentHost;
use crate::instance::Instance;
use crate::workflow::Workflow;

const SDK: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));

/// The type of the failure of a question that was asked before the run's first event.
const NOT_STARTED: &str = "NotStarted";

thread_local! {
    static INSTANCE: RefCell<Option<Instance>> = const { RefCell::new(None) };
}

/// What the component offers.
#[must_use]
pub fn describe(workflows: &[Workflow]) -> Description {
    report_panics();
    let workflow_types = workflows.iter().map(Workflow::describe).collect();
    Description { workflow_types, sdk: SDK.to_owned() }
}

/// Folds one event into the component's run.
///
/// # Panics
///
/// When the run's workflow type is not one of the component's, and when the workflow panics.
pub fn activate(workflows: &[Workflow], event: Event) {
    report_panics();
    INSTANCE.with_borrow_mut(|instance| match instance {
        Some(instance) => instance.activate(event),
        None => {
            let workflow = find(workflows, &event.kind);
            let host = Box::new(ComponentHost);
            *instance = Some(Instance::start(host, event, workflow.announced_updates(), workflow.body));
        }
    });
}

/// Answers a question about the component's run.
///
/// # Errors
///
/// A final failure, when no event was folded yet, nobody answers that question, or its input does not
/// decode.
pub fn query(name: &str, input: &Payload) -> Result<Payload, Vec<FailureLink>> {
    report_panics();
    let answer = INSTANCE.with_borrow(|instance| match instance {
        Some(instance) => instance.query(name, input),
        None => {
            let message = format!("query `{name}` was asked before the run's first event");
            Err(Failure::application(NOT_STARTED, message).non_retryable())
        }
    });
    answer.map_err(Failure::into_links)
}

/// Says whether an update may be admitted to the component's run.
///
/// # Errors
///
/// A final failure, when no event was folded yet, nobody takes that update, its input does not decode, or its validator
/// refuses it.
pub fn validate(name: &str, input: &Payload) -> Result<(), Vec<FailureLink>> {
    report_panics();
    let said = INSTANCE.with_borrow(|instance| match instance {
        Some(instance) => instance.validate(name, input),
        None => {
            let message = format!("update `{name}` came before the run's first event");
            Err(Failure::application(NOT_STARTED, message).non_retryable())
        }
    });
    said.map_err(Failure::into_links)
}

fn find<'a>(workflows: &'a [Workflow], first: &EventKind) -> &'a Workflow {
    let EventKind::WorkflowStarted(started) = first else {
        panic!("the first event of a run was not `workflow-started`");
    };
    let name = started.workflow_type.as_str();
    match workflows.iter().find(|workflow| workflow.name == name) {
        Some(workflow) => workflow,
        None => panic!("this component has no workflow type `{name}`"),
    }
}

fn report_panics() {
    static HOOK: Once = Once::new();
    // Natively there is no host to tell, and the test harness has a hook of its own.
    if cfg!(target_arch = "wasm32") {
        HOOK.call_once(|| std::panic::set_hook(Box::new(report)));
    }
}

fn report(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("a panic without a message");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    report_panic(message, &location);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_before_the_first_event_is_a_failure() {
        let nothing = Payload { metadata: Vec::new(), data: Vec::new() };
        let failure = query("status", &nothing).map_err(Failure::from_links).expect_err("there is no run");
        assert_eq!(failure.application_type(), Some(NOT_STARTED));
        assert_eq!(failure.message(), "query `status` was asked before the run's first event");
    }
}
