//! A component's exports: what [`export!`](crate::export!) expands to.
//!
//! Owns the one instance that a component holds, and the panic hook. Everything here is for the
//! macro; authors use [`crate::export!`].

use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::sync::Once;

use crate::bindings::everfold::workflow::host::report_panic;
use crate::bindings::exports::everfold::workflow::workflow::{Description, Event, EventKind, WorkflowType};
use crate::host::ComponentHost;
use crate::instance::Instance;
use crate::workflow::Workflow;

const SDK: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));

thread_local! {
    static INSTANCE: RefCell<Option<Instance>> = const { RefCell::new(None) };
}

/// What the component offers.
#[must_use]
pub fn describe(workflows: &[Workflow]) -> Description {
    report_panics();
    let describe = |workflow: &Workflow| WorkflowType {
        name: workflow.name.to_owned(),
        summary: workflow.summary.trim().to_owned(),
        handlers: Vec::new(),
    };
    Description { workflow_types: workflows.iter().map(describe).collect(), sdk: SDK.to_owned() }
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
            *instance = Some(Instance::start(host, event, workflow.body));
        }
    });
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
    HOOK.call_once(|| std::panic::set_hook(Box::new(report)));
}

fn report(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("a panic without a message");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    report_panic(message, &location);
}
