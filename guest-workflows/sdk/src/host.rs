//! What a run may ask of its host: the `host` interface of the WIT package as a trait, so that a
//! scripted host can stand in for the real one in native tests.
//!
//! Owns the one place where the imports are called. Must never decide anything: every rule about
//! *when* a command is made lives in [`crate::run`].

use crate::bindings::everfold::workflow::host as imports;
use crate::bindings::everfold::workflow::types::{ActivityOptions, EventId, FailureLink, Payload};
use crate::continue_as_new::ContinueAsNew;
use crate::log::Level;

pub(crate) use crate::bindings::everfold::workflow::host::{
    ChildOptions, ExternalWorkflow, MetricKind, Signal,
};

/// The commands and observations of the WIT interface `host`, one method for each function.
pub(crate) trait Host {
    fn schedule_activity(&self, activity_type: &str, input: &Payload, options: &ActivityOptions) -> EventId;

    fn request_cancel_activity(&self, scheduled: EventId);

    fn start_timer(&self, duration_ms: u64, summary: &str) -> EventId;

    fn cancel_timer(&self, started: EventId);

    fn complete_workflow(&self, result: &Payload);

    fn fail_workflow(&self, failure: &[FailureLink]);

    fn cancel_workflow(&self, details: &[Payload]);

    fn take_signal(&self, name: &str) -> Option<Signal>;

    fn accept_update(&self, admitted: EventId);

    fn complete_update(&self, admitted: EventId, outcome: Result<&Payload, &[FailureLink]>);

    fn continue_as_new(&self, next: &ContinueAsNew);

    fn start_detached_workflow(&self, workflow_type: &str, workflow_id: &str, input: &Payload);

    fn start_child_workflow(&self, workflow_type: &str, input: &Payload, options: &ChildOptions) -> EventId;

    fn request_cancel_child_workflow(&self, command: EventId, reason: &str);

    fn signal_external_workflow(&self, to: &ExternalWorkflow, name: &str, input: &Payload) -> EventId;

    fn request_cancel_external_workflow(&self, to: &ExternalWorkflow, reason: &str) -> EventId;

    fn upsert_search_attributes(&self, changes: &[(String, Payload)]);

    fn upsert_memo(&self, changes: &[(String, Payload)]);

    fn get_version(&self, change_id: &str, minimum: i32, maximum: i32) -> i32;

    fn log(&self, level: Level, target: &str, message: &str, fields: &[(String, String)]);

    fn record_metric(&self, kind: MetricKind, name: &str, value: f64, attributes: &[(String, String)]);
}

/// The host that instantiated this component.
pub(crate) struct ComponentHost;

impl Host for ComponentHost {
    fn schedule_activity(&self, activity_type: &str, input: &Payload, options: &ActivityOptions) -> EventId {
        imports::schedule_activity(activity_type, input, options)
    }

    fn request_cancel_activity(&self, scheduled: EventId) {
        imports::request_cancel_activity(scheduled);
    }

    fn start_timer(&self, duration_ms: u64, summary: &str) -> EventId {
        imports::start_timer(duration_ms, summary)
    }

    fn cancel_timer(&self, started: EventId) {
        imports::cancel_timer(started);
    }

    fn complete_workflow(&self, result: &Payload) {
        imports::complete_workflow(result);
    }

    fn fail_workflow(&self, failure: &[FailureLink]) {
        imports::fail_workflow(failure);
    }

    fn cancel_workflow(&self, details: &[Payload]) {
        imports::cancel_workflow(details);
    }

    fn take_signal(&self, name: &str) -> Option<Signal> {
        imports::take_signal(name)
    }

    fn accept_update(&self, admitted: EventId) {
        imports::accept_update(admitted);
    }

    fn complete_update(&self, admitted: EventId, outcome: Result<&Payload, &[FailureLink]>) {
        imports::complete_update(admitted, outcome);
    }

    fn continue_as_new(&self, next: &ContinueAsNew) {
        imports::continue_as_new(&next.workflow_type, &next.input, &next.headers, next.version);
    }

    fn start_detached_workflow(&self, workflow_type: &str, workflow_id: &str, input: &Payload) {
        imports::start_detached_workflow(workflow_type, workflow_id, input, &[]);
    }

    fn start_child_workflow(&self, workflow_type: &str, input: &Payload, options: &ChildOptions) -> EventId {
        imports::start_child_workflow(workflow_type, input, options)
    }

    fn request_cancel_child_workflow(&self, command: EventId, reason: &str) {
        imports::request_cancel_child_workflow(command, reason);
    }

    fn signal_external_workflow(&self, to: &ExternalWorkflow, name: &str, input: &Payload) -> EventId {
        imports::signal_external_workflow(to, name, input, &[])
    }

    fn request_cancel_external_workflow(&self, to: &ExternalWorkflow, reason: &str) -> EventId {
        imports::request_cancel_external_workflow(to, reason)
    }

    fn upsert_search_attributes(&self, changes: &[(String, Payload)]) {
        imports::upsert_search_attributes(changes);
    }

    fn upsert_memo(&self, changes: &[(String, Payload)]) {
        imports::upsert_memo(changes);
    }

    fn get_version(&self, change_id: &str, minimum: i32, maximum: i32) -> i32 {
        imports::get_version(change_id, minimum, maximum)
    }

    fn log(&self, level: Level, target: &str, message: &str, fields: &[(String, String)]) {
        imports::log(level, target, message, fields);
    }

    fn record_metric(&self, kind: MetricKind, name: &str, value: f64, attributes: &[(String, String)]) {
        imports::record_metric(kind, name, value, attributes);
    }
}
