//! Folds a workflow natively, against a host that a test scripts.
//!
//! Owns the events that a test makes up; the commands come from the workflow, and are held to the
//! rules of the WIT package by [`host`]. Only with the feature `testing`, never in a component.

mod answer;
mod host;

use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::bindings::everfold::workflow::types as wit;
use crate::bindings::exports::everfold::workflow::workflow::{
    ActivityClosedBadly, ActivityCompleted, EventKind, TimerFired, WorkflowCancelRequested, WorkflowStarted,
};
use crate::context::Context;
use crate::failure::Failure;
use crate::instance::Instance;
use crate::payload::Payload;
use crate::time::whole_ms;
use crate::workflow::body;

pub use answer::Answer;
pub use host::{Closed, OpenActivity};
use host::{Script, ScriptedHost};

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
    pub fn start<I, O, F>(
        workflow: impl FnOnce(Context, I) -> F + 'static,
        input: &(impl Serialize + ?Sized),
    ) -> Self
    where
        I: DeserializeOwned + 'static,
        O: Serialize + 'static,
        F: Future<Output = Result<O, Failure>> + 'static,
    {
        Self::start_with_seed(workflow, input, SEED)
    }

    /// Starts a run with that input and that seed.
    ///
    /// # Panics
    ///
    /// When JSON cannot hold the input.
    pub fn start_with_seed<I, O, F>(
        workflow: impl FnOnce(Context, I) -> F + 'static,
        input: &(impl Serialize + ?Sized),
        seed: [u8; 32],
    ) -> Self
    where
        I: DeserializeOwned + 'static,
        O: Serialize + 'static,
        F: Future<Output = Result<O, Failure>> + 'static,
    {
        let script = Script::new(START_MS);
        let event = script.input("WorkflowStarted", EventKind::WorkflowStarted(started(encode(input), seed)));
        let host = Box::new(ScriptedHost(Rc::clone(&script)));
        let instance = Instance::start(host, event, |ctx, input| body(workflow, ctx, input));
        Self { instance, script }
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

    /// Completes an open activity.
    pub fn complete(&mut self, scheduled: wit::EventId, result: &(impl Serialize + ?Sized)) {
        let activity = self.script.close_activity(scheduled);
        let completed =
            ActivityCompleted { scheduled_event_id: scheduled, attempt: 1, result: encode(result) };
        let line = format!("ActivityCompleted {}", activity.activity_type);
        self.fold(&line, EventKind::ActivityCompleted(completed));
    }

    /// Closes an open activity as the answer says.
    pub fn answer(&mut self, scheduled: wit::EventId, answer: Answer) {
        let closed_badly = |retry_state, cause: Failure| {
            let activity = self.script.close_activity(scheduled);
            let message = format!("activity `{}` failed", activity.activity_type);
            let failure = Failure::new(
                message,
                wit::FailureKind::Activity(wit::ActivityFailure {
                    scheduled_event_id: scheduled,
                    activity_type: activity.activity_type.clone(),
                    attempt: 1,
                    retry_state,
                }),
            );
            let closed = ActivityClosedBadly {
                scheduled_event_id: scheduled,
                attempt: 1,
                failure: failure.with_cause(cause).links().to_vec(),
            };
            (activity.activity_type, closed)
        };
        match answer {
            Answer::Complete(result) => self.complete(scheduled, &result),
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
