//! The WIT interface `host`: a guest's calls become commands and observations.

use std::sync::Arc;

use everfold_core::command::{
    ActivityCancelRequested, ChildCancelRequested, Command, DetachedWorkflowStarted, ExternalCancelInitiated,
    ExternalSignalInitiated, MemoUpserted, SearchAttributesUpserted, TimerCanceled, TimerStarted,
    UpdateOutcome, WorkflowCanceled, WorkflowCompleted, WorkflowContinuedAsNew, WorkflowFailed,
};
use everfold_core::event::SignalReceived;
use everfold_core::ids::{EventId, WorkflowId};
use everfold_core::payload::{Payload, headers_bytes};

use super::bindings::everfold::workflow::host::{
    ChildOptions, ExternalWorkflow as WitExternalWorkflow, Host, LogLevel as WitLogLevel,
    MetricKind as WitMetricKind, Signal, VersionChoice as WitVersionChoice,
};
use super::bindings::everfold::workflow::types;
use super::convert::{lift, lower};
use super::fault::{Panic, Stop};
use super::observation::{LogLevel, MetricKind};
use super::state::GuestState;

/// The interface's name in a component.
pub(super) const INTERFACE: &str = "everfold:workflow/host@0.1.0";
/// The interface of shapes, which a component may import beside it.
pub(super) const TYPES_INTERFACE: &str = "everfold:workflow/types@0.1.0";
/// The interface that a component must export.
pub(super) const WORKFLOW_INTERFACE: &str = "everfold:workflow/workflow@0.1.0";

/// The functions of the interface. wasmtime cannot list what a linker has.
pub(super) const FUNCTIONS: [&str; 22] = [
    "schedule-activity",
    "request-cancel-activity",
    "start-timer",
    "cancel-timer",
    "complete-workflow",
    "fail-workflow",
    "cancel-workflow",
    "take-signal",
    "accept-update",
    "complete-update",
    "continue-as-new",
    "start-detached-workflow",
    "start-child-workflow",
    "request-cancel-child-workflow",
    "signal-external-workflow",
    "request-cancel-external-workflow",
    "upsert-search-attributes",
    "upsert-memo",
    "get-version",
    "log",
    "report-panic",
    "record-metric",
];

/// Bytes of a reported panic's message and of its place.
const PANIC_BYTES: usize = 16 * 1024;

impl types::Host for GuestState {}

impl Host for GuestState {
    fn schedule_activity(
        &mut self,
        activity_type: String,
        input: types::Payload,
        options: types::ActivityOptions,
    ) -> wasmtime::Result<u64> {
        let function = "schedule-activity";
        let activation = self.activation(function)?;
        let activity = lift::activity(activity_type, input, options, || activation.idempotency_key())?;
        let headers = headers_bytes(&activity.headers);
        let types: usize = activity.retry_policy.non_retryable_types.iter().map(String::len).sum();
        let bytes = activity.input.size() + headers + types;
        Ok(self.command(function, bytes, Command::ActivityScheduled(Arc::new(activity)))?.0)
    }

    fn request_cancel_activity(&mut self, scheduled_event_id: u64) -> wasmtime::Result<u64> {
        let scheduled_event_id = EventId(scheduled_event_id);
        let command = Command::ActivityCancelRequested(ActivityCancelRequested { scheduled_event_id });
        Ok(self.command("request-cancel-activity", 0, command)?.0)
    }

    fn start_timer(&mut self, duration_ms: u64, summary: String) -> wasmtime::Result<u64> {
        lift::check_summary(&summary)?;
        let bytes = summary.len();
        let command = Command::TimerStarted(TimerStarted { duration_ms, summary });
        Ok(self.command("start-timer", bytes, command)?.0)
    }

    fn cancel_timer(&mut self, started_event_id: u64) -> wasmtime::Result<u64> {
        let command = Command::TimerCanceled(TimerCanceled { started_event_id: EventId(started_event_id) });
        Ok(self.command("cancel-timer", 0, command)?.0)
    }

    fn complete_workflow(&mut self, result: types::Payload) -> wasmtime::Result<u64> {
        let result = lift::payload(result);
        let bytes = result.size();
        let command = Command::WorkflowCompleted(WorkflowCompleted { result });
        Ok(self.command("complete-workflow", bytes, command)?.0)
    }

    fn fail_workflow(&mut self, failure: types::Failure) -> wasmtime::Result<u64> {
        let failure = lift::failure(failure)?;
        let bytes = failure.bytes();
        let command = Command::WorkflowFailed(WorkflowFailed { failure });
        Ok(self.command("fail-workflow", bytes, command)?.0)
    }

    fn cancel_workflow(&mut self, details: Vec<types::Payload>) -> wasmtime::Result<u64> {
        let details = lift::payloads(details);
        let bytes = details.iter().map(Payload::size).sum();
        let command = Command::WorkflowCanceled(WorkflowCanceled { details });
        Ok(self.command("cancel-workflow", bytes, command)?.0)
    }

    fn take_signal(&mut self, name: String) -> wasmtime::Result<Option<Signal>> {
        let taken = self.activation("take-signal")?.take_signal(&name).map_err(Stop::from)?;
        Ok(taken.map(|(received, signal)| Signal {
            received_event_id: received.0,
            input: lower::payload(&signal.input),
            headers: lower::headers(&signal.headers),
        }))
    }

    fn accept_update(&mut self, admitted_event_id: u64) -> wasmtime::Result<u64> {
        let activation = self.activation("accept-update")?;
        Ok(activation.accept_update(EventId(admitted_event_id)).map_err(Stop::from)?.0)
    }

    fn complete_update(
        &mut self,
        admitted_event_id: u64,
        outcome: Result<types::Payload, types::Failure>,
    ) -> wasmtime::Result<u64> {
        let (outcome, bytes) = match outcome {
            Ok(result) => {
                let result = lift::payload(result);
                let bytes = result.size();
                (UpdateOutcome::Result(result), bytes)
            }
            Err(failure) => {
                let failure = lift::failure(failure)?;
                let bytes = failure.bytes();
                (UpdateOutcome::Failure(failure), bytes)
            }
        };
        let activation = self.spend("complete-update", bytes)?;
        Ok(activation.complete_update(EventId(admitted_event_id), outcome).map_err(Stop::from)?.0)
    }

    fn continue_as_new(
        &mut self,
        workflow_type: String,
        input: types::Payload,
        headers: Vec<types::Header>,
        version: WitVersionChoice,
    ) -> wasmtime::Result<u64> {
        let function = "continue-as-new";
        lift::check_name("a workflow type", &workflow_type)?;
        let (input, headers, bytes) = lift::input(input, headers);
        let command = Command::WorkflowContinuedAsNew(Box::new(WorkflowContinuedAsNew {
            new_run_id: self.activation(function)?.new_run_id(),
            workflow_type,
            input,
            headers,
            version: lift::version(version),
        }));
        Ok(self.command(function, bytes, command)?.0)
    }

    fn start_detached_workflow(
        &mut self,
        workflow_type: String,
        workflow_id: String,
        input: types::Payload,
        headers: Vec<types::Header>,
    ) -> wasmtime::Result<u64> {
        let function = "start-detached-workflow";
        lift::check_name("a workflow type", &workflow_type)?;
        lift::check_name("a workflow id", &workflow_id)?;
        let (input, headers, bytes) = lift::input(input, headers);
        let command = Command::DetachedWorkflowStarted(Box::new(DetachedWorkflowStarted {
            workflow_type,
            workflow_id: WorkflowId(workflow_id),
            run_id: self.activation(function)?.new_run_id(),
            input,
            headers,
        }));
        Ok(self.command(function, bytes, command)?.0)
    }

    fn start_child_workflow(
        &mut self,
        workflow_type: String,
        input: types::Payload,
        options: ChildOptions,
    ) -> wasmtime::Result<u64> {
        let function = "start-child-workflow";
        let run_id = self.activation(function)?.new_run_id();
        let child = lift::child(workflow_type, input, options, run_id)?;
        let bytes = child.input.size() + headers_bytes(&child.headers);
        Ok(self.command(function, bytes, Command::ChildWorkflowInitiated(Box::new(child)))?.0)
    }

    fn request_cancel_child_workflow(
        &mut self,
        command_event_id: u64,
        reason: String,
    ) -> wasmtime::Result<u64> {
        lift::check_reason(&reason)?;
        let bytes = reason.len();
        let command_event_id = EventId(command_event_id);
        let request = ChildCancelRequested { command_event_id, reason };
        let command = Command::ChildCancelRequested(request);
        Ok(self.command("request-cancel-child-workflow", bytes, command)?.0)
    }

    fn signal_external_workflow(
        &mut self,
        to: WitExternalWorkflow,
        name: String,
        input: types::Payload,
        headers: Vec<types::Header>,
    ) -> wasmtime::Result<u64> {
        lift::check_signal(&name)?;
        let to = lift::external(to)?;
        let (input, headers, bytes) = lift::input(input, headers);
        let signal = Arc::new(SignalReceived { name, input, headers });
        let command = Command::ExternalSignalInitiated(Box::new(ExternalSignalInitiated { to, signal }));
        Ok(self.command("signal-external-workflow", bytes, command)?.0)
    }

    fn request_cancel_external_workflow(
        &mut self,
        to: WitExternalWorkflow,
        reason: String,
    ) -> wasmtime::Result<u64> {
        let to = lift::external(to)?;
        lift::check_reason(&reason)?;
        let bytes = reason.len();
        let command = Command::ExternalCancelInitiated(Box::new(ExternalCancelInitiated { to, reason }));
        Ok(self.command("request-cancel-external-workflow", bytes, command)?.0)
    }

    fn upsert_search_attributes(&mut self, changes: Vec<types::Header>) -> wasmtime::Result<u64> {
        let (search_attributes, bytes) = lift::search_attributes(changes)?;
        let command = Command::SearchAttributesUpserted(SearchAttributesUpserted { search_attributes });
        Ok(self.command("upsert-search-attributes", bytes, command)?.0)
    }

    fn upsert_memo(&mut self, changes: Vec<types::Header>) -> wasmtime::Result<u64> {
        let (memo, bytes) = lift::memo(changes)?;
        Ok(self.command("upsert-memo", bytes, Command::MemoUpserted(MemoUpserted { memo }))?.0)
    }

    fn get_version(&mut self, change_id: String, minimum: i32, maximum: i32) -> wasmtime::Result<i32> {
        lift::check_name("a change", &change_id)?;
        let activation = self.activation("get-version")?;
        Ok(activation.get_version(&change_id, minimum, maximum).map_err(Stop::from)?)
    }

    fn log(
        &mut self,
        level: WitLogLevel,
        target: String,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        let level = match level {
            WitLogLevel::Trace => LogLevel::Trace,
            WitLogLevel::Debug => LogLevel::Debug,
            WitLogLevel::Info => LogLevel::Info,
            WitLogLevel::Warn => LogLevel::Warn,
            WitLogLevel::Error => LogLevel::Error,
        };
        self.observations.log(level, target, message, fields);
        Ok(())
    }

    fn record_metric(
        &mut self,
        kind: WitMetricKind,
        name: String,
        value: f64,
        attributes: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        let kind = match kind {
            WitMetricKind::Counter => MetricKind::Counter,
            WitMetricKind::Histogram => MetricKind::Histogram,
        };
        self.observations.metric(kind, name, value, attributes);
        Ok(())
    }

    fn report_panic(&mut self, mut message: String, mut location: String) -> wasmtime::Result<()> {
        message.truncate(message.floor_char_boundary(PANIC_BYTES));
        location.truncate(location.floor_char_boundary(PANIC_BYTES));
        self.panic = Some(Panic { message, location });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_functions_is_that_of_the_wit_package() {
        let wit = include_str!("../../wit/host.wit");
        let functions: Vec<&str> = wit
            .lines()
            .filter_map(|line| line.split_once(": func("))
            .map(|(name, _)| name.trim().trim_start_matches('%'))
            .collect();
        assert_eq!(functions, FUNCTIONS);
    }
}
