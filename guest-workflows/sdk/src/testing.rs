//! Folds a workflow natively, against a host that a test scripts.
//!
//! Owns the events that a test makes up; the commands come from the workflow, and are held to the
//! rules of the WIT package by [`host`]. Only with the feature `testing`, never in a component.

mod answer;
mod host;
mod prepared;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::bindings::everfold::workflow::types as wit;
use crate::bindings::exports::everfold::workflow::workflow::{
    ActivityClosedBadly, ActivityCompleted, ChildWorkflowClosedBadly, ChildWorkflowCompleted,
    ChildWorkflowStarted, EventKind, ExternalRequestCompleted, ExternalRequestFailed, TimerFired,
    WorkflowCancelRequested, WorkflowStarted,
};
use crate::child::WORKFLOW_ALREADY_STARTED;
use crate::context::Context;
use crate::continue_as_new::Stop;
use crate::external::WORKFLOW_NOT_FOUND;
use crate::failure::Failure;
use crate::instance::Instance;
use crate::payload::Payload;
use crate::time::whole_ms;
use crate::workflow::body;

pub use answer::Answer;
use host::{ChildState, Script, ScriptedHost};
pub use host::{Closed, OpenActivity, UnacceptedUpdate, UnreadSignal};
pub use prepared::Prepared;

/// 2026-01-01T00:00:00Z, the moment at which scripted runs start.
pub const START_MS: u64 = 1_767_225_600_000;

/// The seed of scripted runs, unless a test gives another.
pub const SEED: [u8; 32] = [7; 32];

/// A run of a workflow, folded natively.
pub struct TestRun {
    instance: Instance,
    script: Rc<Script>,
}

impl TestRun {
    /// Starts a run with that input.
    ///
    /// # Panics
    ///
    /// When JSON cannot hold the input.
    pub fn start<I, O, E, F>(
        workflow: impl FnOnce(Context, I) -> F + 'static,
        input: &(impl Serialize + ?Sized),
    ) -> Self
    where
        I: DeserializeOwned + 'static,
        O: Serialize + 'static,
        E: Into<Stop> + 'static,
        F: Future<Output = Result<O, E>> + 'static,
    {
        Self::start_with_seed(workflow, input, SEED)
    }

    /// Starts a run with that input and that seed.
    ///
    /// # Panics
    ///
    /// When JSON cannot hold the input.
    pub fn start_with_seed<I, O, E, F>(
        workflow: impl FnOnce(Context, I) -> F + 'static,
        input: &(impl Serialize + ?Sized),
        seed: [u8; 32],
    ) -> Self
    where
        I: DeserializeOwned + 'static,
        O: Serialize + 'static,
        E: Into<Stop> + 'static,
        F: Future<Output = Result<O, E>> + 'static,
    {
        Self::start_on(Script::new(START_MS), workflow, started(encode(input), seed))
    }

    /// Prepares a run that follows that version of a change: with
    /// [`DEFAULT_VERSION`](crate::DEFAULT_VERSION), one that passed the place before the change.
    ///
    /// Other changes are new to it, and it follows the latest version of each.
    #[must_use]
    pub fn following(change_id: &str, version: i32) -> Prepared {
        Prepared::new().following(change_id, version)
    }

    /// Prepares a run that begins with these search attributes and this memo, both objects.
    ///
    /// # Panics
    ///
    /// When one is no object.
    #[must_use]
    pub fn described_by(search_attributes: &impl Serialize, memo: &impl Serialize) -> Prepared {
        Prepared::new().described_by(search_attributes, memo)
    }

    /// Prepares a run of a workflow that announces an update in [`export!`](crate::export!).
    #[must_use]
    pub fn announcing(update: &'static str) -> Prepared {
        Prepared::new().announcing(update)
    }

    fn start_on<I, O, E, F>(
        script: Rc<Script>,
        workflow: impl FnOnce(Context, I) -> F + 'static,
        started: WorkflowStarted,
    ) -> Self
    where
        I: DeserializeOwned + 'static,
        O: Serialize + 'static,
        E: Into<Stop> + 'static,
        F: Future<Output = Result<O, E>> + 'static,
    {
        script.describe(&started.search_attributes, &started.memo);
        let event = script.input("WorkflowStarted", EventKind::WorkflowStarted(started));
        let host = Box::new(ScriptedHost(Rc::clone(&script)));
        let announced = script.announced();
        let instance = Instance::start(host, event, announced, |ctx, input| body(workflow, ctx, input));
        Self { instance, script }
    }

    /// Starts the run that this one continued as, at the same moment and with what it left unread.
    ///
    /// # Panics
    ///
    /// When this run did not continue as new.
    pub fn next_run<I, O, E, F>(&self, workflow: impl FnOnce(Context, I) -> F + 'static) -> Self
    where
        I: DeserializeOwned + 'static,
        O: Serialize + 'static,
        E: Into<Stop> + 'static,
        F: Future<Output = Result<O, E>> + 'static,
    {
        let Some(Closed::ContinuedAsNew { workflow_type, input, .. }) = self.closed() else {
            panic!("the run did not continue as new: {:?}", self.closed());
        };
        let mut started = started(encode(&input), SEED);
        started.workflow_type = workflow_type;
        started.continued_from_run_id = Some(started.run_id.clone());
        "run-2".clone_into(&mut started.run_id);
        started.search_attributes = self.script.search_attributes().into_iter().collect();
        started.memo = self.script.memo().into_iter().collect();
        let script = Script::new(self.script.now_ms());
        self.script.announced().into_iter().for_each(|update| script.announce(update));
        let mut next = Self::start_on(script, workflow, started);
        for signal in self.unread_signals() {
            next.signal_payload(&signal.name, signal.input);
        }
        for UnacceptedUpdate { update_id, name, input } in self.unaccepted_updates() {
            // As the real host does: a refusal leaves no trace.
            if next.script.querying(|| next.instance.validate(&name, &input)).is_ok() {
                let event = next.script.admit(&update_id, &name, input);
                next.instance.activate(event);
            }
        }
        next
    }

    /// What the run can be found by now, as JSON.
    #[must_use]
    pub fn search_attributes(&self) -> BTreeMap<String, Value> {
        self.script.search_attributes().into_iter().map(|(name, value)| (name, shown(&value))).collect()
    }

    /// What is written on the run now, as JSON.
    #[must_use]
    pub fn memo(&self) -> BTreeMap<String, Value> {
        self.script.memo().into_iter().map(|(name, value)| (name, shown(&value))).collect()
    }

    /// The run's history so far, one event a line: inputs and commands with their numbers.
    #[must_use]
    pub fn history(&self) -> Vec<String> {
        self.script.history()
    }

    /// The log lines so far: `LEVEL message key=value`.
    #[must_use]
    pub fn logs(&self) -> Vec<String> {
        self.script.logs()
    }

    /// The measurements so far: `counter NAME VALUE key=value`.
    #[must_use]
    pub fn metrics(&self) -> Vec<String> {
        self.script.metrics()
    }

    /// The signals that the workflow has not taken, in order of arrival.
    #[must_use]
    pub fn unread_signals(&self) -> Vec<UnreadSignal> {
        self.script.unread_signals()
    }

    /// Asks the run a question, as it stands; also when it has closed.
    ///
    /// # Errors
    ///
    /// The failure that the SDK answers with.
    ///
    /// # Panics
    ///
    /// When the answer asks for something, as the real host does, and when JSON cannot hold the input.
    pub fn query(&self, name: &str, input: &(impl Serialize + ?Sized)) -> Result<Value, Failure> {
        let input = encode(input);
        self.script.querying(|| self.instance.query(name, &input)).map(|answer| shown(&answer))
    }

    /// Sends the run an update under that id. One that its validator refuses leaves no trace.
    ///
    /// # Errors
    ///
    /// The failure that the validator, or the SDK for it, refuses with.
    ///
    /// # Panics
    ///
    /// When the validator asks for something, as the real host does, and when JSON cannot hold the input.
    pub fn update(
        &mut self,
        update_id: &str,
        name: &str,
        input: &(impl Serialize + ?Sized),
    ) -> Result<(), Failure> {
        let input = encode(input);
        self.script.querying(|| self.instance.validate(name, &input))?;
        let event = self.script.admit(update_id, name, input);
        self.instance.activate(event);
        Ok(())
    }

    /// How the update of that id was answered, if it was.
    #[must_use]
    pub fn update_answer(&self, update_id: &str) -> Option<Result<Value, Failure>> {
        self.script.update_answer(update_id)
    }

    /// The updates that the workflow has not accepted, in order of arrival.
    #[must_use]
    pub fn unaccepted_updates(&self) -> Vec<UnacceptedUpdate> {
        self.script.unaccepted_updates()
    }

    /// The activities that were asked for and have not closed, in the order of history.
    #[must_use]
    pub fn open_activities(&self) -> Vec<OpenActivity> {
        self.script.open_activities()
    }

    /// How the run closed, if it has.
    #[must_use]
    pub fn closed(&self) -> Option<Closed> {
        self.script.closed()
    }

    /// The failure that the run closed with.
    ///
    /// # Panics
    ///
    /// When it did not close with one.
    #[must_use]
    pub fn failure(&self) -> Failure {
        match self.closed() {
            Some(Closed::Failed(failure)) => failure,
            other => panic!("the run did not fail: {other:?}"),
        }
    }

    /// Lets time pass: the next event is that much later.
    pub fn pass(&self, duration: Duration) {
        self.script.pass(whole_ms(duration));
    }

    /// Sends the run a signal.
    pub fn signal(&mut self, name: &str, input: &(impl Serialize + ?Sized)) {
        self.signal_payload(name, encode(input));
    }

    /// Sends the run a signal with any bytes.
    pub fn signal_payload(&mut self, name: &str, input: Payload) {
        let event = self.script.receive(name, input);
        self.instance.activate(event);
    }

    /// Completes an open activity at its first attempt.
    pub fn complete(&mut self, scheduled: wit::EventId, result: &(impl Serialize + ?Sized)) {
        self.complete_at(scheduled, 1, result);
    }

    /// Completes an open activity at that attempt.
    pub fn complete_at(&mut self, scheduled: wit::EventId, attempt: u32, result: &(impl Serialize + ?Sized)) {
        let activity = self.script.close_activity(scheduled);
        let completed = ActivityCompleted { scheduled_event_id: scheduled, attempt, result: encode(result) };
        let line = format!("ActivityCompleted {}", activity.activity_type);
        self.fold(&line, EventKind::ActivityCompleted(completed));
    }

    /// Closes an open activity as the answer says.
    pub fn answer(&mut self, scheduled: wit::EventId, answer: Answer) {
        let closed_badly = |retry_state, cause: Failure| {
            let attempt = attempts(retry_state);
            let activity = self.script.close_activity(scheduled);
            let message = format!("activity `{}` failed", activity.activity_type);
            let failure = Failure::new(
                message,
                wit::FailureKind::Activity(wit::ActivityFailure {
                    scheduled_event_id: scheduled,
                    activity_type: activity.activity_type.clone(),
                    attempt,
                    retry_state,
                }),
            );
            let closed = ActivityClosedBadly {
                scheduled_event_id: scheduled,
                attempt,
                failure: failure.with_cause(cause).links().to_vec(),
            };
            (activity.activity_type, closed)
        };
        match answer {
            Answer::Complete(result) => self.complete(scheduled, &result),
            Answer::CompleteAt { attempt, result } => self.complete_at(scheduled, attempt, &result),
            Answer::Fail { retry_state, failure } => {
                let (name, closed) = closed_badly(retry_state, failure);
                self.fold(&format!("ActivityFailed {name}"), EventKind::ActivityFailed(closed));
            }
            Answer::TimeOut(timeout) => {
                let cause = answer::timed_out(timeout);
                let (name, closed) = closed_badly(wit::RetryState::Timeout, cause);
                self.fold(&format!("ActivityTimedOut {name}"), EventKind::ActivityTimedOut(closed));
            }
            Answer::Cancel => {
                let cause = Failure::canceled("the activity was cancelled", Vec::new());
                let (name, closed) = closed_badly(wit::RetryState::CancelRequested, cause);
                self.fold(&format!("ActivityCanceled {name}"), EventKind::ActivityCanceled(closed));
            }
            Answer::LeaveOpen => {}
        }
    }

    /// Answers open activities, earliest first, and fires timers when no activity is left to
    /// answer, until the run has closed or waits for something else.
    pub fn drive(&mut self, mut answer: impl FnMut(&OpenActivity) -> Answer) {
        let mut left_open = Vec::new();
        while self.closed().is_none() {
            let open = self.script.open_activities();
            let next = open.iter().find(|activity| !left_open.contains(&activity.id));
            if let Some(activity) = next {
                match answer(activity) {
                    Answer::LeaveOpen => left_open.push(activity.id),
                    given => self.answer(activity.id, given),
                }
            } else if !self.fire_next_timer() {
                return;
            }
        }
    }

    /// Fires the open timer that is due first, at its time, and says whether there was one.
    pub fn fire_next_timer(&mut self) -> bool {
        let Some((started_event_id, due_ms)) = self.script.close_next_timer() else {
            return false;
        };
        self.script.advance_to(due_ms);
        self.fold("TimerFired", EventKind::TimerFired(TimerFired { started_event_id }));
        true
    }

    /// Says that another run has what this one asked it for.
    pub fn external_completed(&mut self, command_event_id: wit::EventId) {
        self.script.close_external(command_event_id);
        let kind = EventKind::ExternalRequestCompleted(ExternalRequestCompleted { command_event_id });
        self.fold("ExternalRequestCompleted", kind);
    }

    /// Says that there is no such run.
    pub fn external_failed(&mut self, command_event_id: wit::EventId) {
        self.script.close_external(command_event_id);
        let failure = Failure::application(WORKFLOW_NOT_FOUND, "no such run is open").non_retryable();
        let failure = failure.links().to_vec();
        let kind = EventKind::ExternalRequestFailed(ExternalRequestFailed { command_event_id, failure });
        self.fold("ExternalRequestFailed", kind);
    }

    /// Says that a child has begun.
    pub fn child_started(&mut self, command_event_id: wit::EventId) {
        self.script.move_child(command_event_id, ChildState::Initiated, Some(ChildState::Started));
        let run_id = format!("child-run-{command_event_id}");
        let started = ChildWorkflowStarted { command_event_id, run_id };
        self.fold("ChildWorkflowStarted", EventKind::ChildWorkflowStarted(started));
    }

    /// Says that a child's workflow id has an open run.
    pub fn child_start_failed(&mut self, command_event_id: wit::EventId) {
        self.script.move_child(command_event_id, ChildState::Initiated, None);
        let cause = Failure::application(WORKFLOW_ALREADY_STARTED, "the workflow id has an open run");
        let failed = child_closed_badly(command_event_id, "was not started", cause.non_retryable());
        self.fold("ChildWorkflowStartFailed", EventKind::ChildWorkflowStartFailed(failed));
    }

    /// Says that a child returned a result.
    pub fn child_completed(&mut self, command_event_id: wit::EventId, result: &(impl Serialize + ?Sized)) {
        self.script.move_child(command_event_id, ChildState::Started, None);
        let completed = ChildWorkflowCompleted { command_event_id, result: encode(result) };
        self.fold("ChildWorkflowCompleted", EventKind::ChildWorkflowCompleted(completed));
    }

    /// Says that a child closed with a failure.
    pub fn child_failed(&mut self, command_event_id: wit::EventId, failure: Failure) {
        self.script.move_child(command_event_id, ChildState::Started, None);
        let failed = child_closed_badly(command_event_id, "failed", failure);
        self.fold("ChildWorkflowFailed", EventKind::ChildWorkflowFailed(failed));
    }

    /// Asks the run to cancel.
    pub fn request_cancel(&mut self, reason: &str) {
        self.script.note_cancel_request();
        let request = WorkflowCancelRequested { reason: reason.to_owned() };
        self.fold("WorkflowCancelRequested", EventKind::WorkflowCancelRequested(request));
    }

    fn fold(&mut self, line: &str, kind: EventKind) {
        let event = self.script.input(line, kind);
        self.instance.activate(event);
    }
}

impl std::fmt::Debug for TestRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.history()).finish()
    }
}

fn started(input: Payload, seed: [u8; 32]) -> WorkflowStarted {
    WorkflowStarted {
        workflow_type: "test".to_owned(),
        namespace: "default".to_owned(),
        workflow_id: "test-1".to_owned(),
        run_id: "run-1".to_owned(),
        original_run_id: "run-1".to_owned(),
        attempt: 1,
        input,
        headers: Vec::new(),
        seed: seed.to_vec(),
        parent: None,
        continued_from_run_id: None,
        last_completion_result: None,
        last_failure: None,
        execution_timeout: None,
        run_timeout: None,
        memo: Vec::new(),
        search_attributes: Vec::new(),
    }
}

fn child_closed_badly(command_event_id: wit::EventId, how: &str, cause: Failure) -> ChildWorkflowClosedBadly {
    let child = wit::ChildWorkflowFailure {
        workflow_type: "child".to_owned(),
        workflow_id: "child-1".to_owned(),
        run_id: format!("child-run-{command_event_id}"),
        started_event_id: command_event_id,
    };
    let failure = Failure::new(format!("the child workflow {how}"), wit::FailureKind::ChildWorkflow(child));
    ChildWorkflowClosedBadly { command_event_id, failure: failure.with_cause(cause).into_links() }
}

/// The attempt that a scripted activity fails at: the last of several, where that is why it ends.
fn attempts(retry_state: wit::RetryState) -> u32 {
    match retry_state {
        wit::RetryState::MaximumAttemptsReached => 5,
        wit::RetryState::NonRetryableFailure
        | wit::RetryState::Timeout
        | wit::RetryState::CancelRequested => 1,
    }
}

fn encode(value: &(impl Serialize + ?Sized)) -> Payload {
    match Payload::encode(value) {
        Ok(payload) => payload,
        Err(reason) => panic!("a scripted value is not JSON: {reason}"),
    }
}

/// The JSON of a payload, for a person to read.
fn shown(payload: &Payload) -> Value {
    payload.decode().unwrap_or_else(|reason| Value::String(reason.to_string()))
}
