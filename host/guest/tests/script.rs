//! A run without a host: inputs are scripted, what the guest asks for is read from the history.

use std::sync::Arc;

use everfold_core::attributes::{Memo, SearchAttributes};
use everfold_core::command::{ActivityScheduled, Command};
use everfold_core::event::{
    ActivityClosedBadly, ActivityCompleted, Event, EventKind, Input, WorkflowStarted,
};
use everfold_core::failure::{ActivityFailure, Failure, FailureKind, RetryState};
use everfold_core::fold::{Activated, Activation, Folded, Guest as _, GuestFault};
use everfold_core::ids::{Digest, EventId, Namespace, RunId, Seed, Timestamp, WorkflowId};
use everfold_core::limits::Limits;
use everfold_core::machine::RunState;
use everfold_core::payload::Payload;
use serde_json::Value;

use crate::guest::{Instance, LoadedComponent, Observation};

/// A run that is folded live.
pub(super) struct Script {
    pub(super) instance: Instance,
    pub(super) state: RunState,
    pub(super) history: Vec<Event>,
    pub(super) observations: Vec<Observation>,
}

impl Script {
    /// A run whose first event is not folded yet.
    pub(super) fn new(component: &LoadedComponent) -> Self {
        Self {
            instance: component.instantiate().expect("the component starts"),
            state: RunState::new(),
            history: Vec::new(),
            observations: Vec::new(),
        }
    }

    /// A run that has folded its first event.
    pub(super) fn start(component: &LoadedComponent, workflow_type: &str, input: &Value) -> Self {
        let mut script = Self::new(component);
        script.feed(started(workflow_type, input)).expect("the workflow starts");
        script
    }

    /// Folds one input a second after the one before. A fault leaves state and history as they were.
    pub(super) fn feed(&mut self, input: Input) -> Result<(), GuestFault> {
        let time = Timestamp(1_700_000_000_000).plus_ms(1_000 * self.state.next().0);
        let activation = Activation::live(self.state.clone(), time, input, Limits::default())
            .expect("the run awaits the input");
        let Activated { activation, outcome, observations } = self.instance.activate(activation);
        self.observations.extend(observations);
        outcome?;
        let Folded { state, events, changes: _ } = activation.finish()?;
        self.state = state;
        self.history.extend(events);
        Ok(())
    }

    /// The only open activity.
    pub(super) fn activity(&self) -> (EventId, &ActivityScheduled) {
        let open: Vec<_> = self.state.activities().iter().collect();
        match open.as_slice() {
            [(id, activity)] => (*id, &activity.scheduled),
            _ => panic!("{} activities are open", open.len()),
        }
    }

    /// Completes the only open activity.
    pub(super) fn complete(&mut self, activity_type: &str, result: &Value) -> Result<(), GuestFault> {
        let (id, activity) = self.activity();
        assert_eq!(activity.activity_type, activity_type);
        let result = Payload::json(result).expect("it is JSON");
        self.feed(Input::ActivityCompleted(ActivityCompleted { scheduled_event_id: id, attempt: 1, result }))
    }

    /// Fails the only open activity for good.
    pub(super) fn fail(&mut self, activity_type: &str, failure: Failure) -> Result<(), GuestFault> {
        let (id, activity) = self.activity();
        assert_eq!(activity.activity_type, activity_type);
        let outer = ActivityFailure {
            scheduled_event_id: id,
            activity_type: activity.activity_type.clone(),
            attempt: 1,
            retry_state: RetryState::NonRetryableFailure,
        };
        let failure = Failure::new("the activity failed", FailureKind::Activity(outer)).caused_by(failure);
        let closed = ActivityClosedBadly { scheduled_event_id: id, attempt: 1, failure };
        self.feed(Input::ActivityFailed(closed))
    }

    /// The history, one event a line: its type, and the command's name.
    pub(super) fn lines(&self) -> Vec<String> {
        self.history
            .iter()
            .map(|event| match &event.kind {
                EventKind::Command(command) => {
                    format!("{} {} {}", event.id, command.type_name(), command.name())
                }
                EventKind::Input(_) | EventKind::Note(_) => {
                    format!("{} {}", event.id, event.kind.type_name())
                }
            })
            .map(|line| line.trim_end().to_owned())
            .collect()
    }

    /// The last command.
    pub(super) fn last_command(&self) -> &Command {
        self.history
            .iter()
            .rev()
            .find_map(|event| match &event.kind {
                EventKind::Command(command) => Some(command),
                EventKind::Input(_) | EventKind::Note(_) => None,
            })
            .expect("the guest made a command")
    }
}

/// The first event of a run.
pub(super) fn started(workflow_type: &str, input: &Value) -> Input {
    let run_id = RunId([7; 16]);
    Input::WorkflowStarted(Arc::new(WorkflowStarted {
        workflow_type: workflow_type.to_owned(),
        workflow_id: WorkflowId("w".to_owned()),
        namespace: Namespace::default(),
        run_id,
        original_run_id: run_id,
        digest: Digest([0; 32]),
        input: Payload::json(input).expect("it is JSON"),
        headers: Vec::new(),
        seed: Seed([3; 32]),
        attempt: 1,
        continued_from_run_id: None,
        parent: None,
        lifetime: None,
        reset: None,
        search_attributes: SearchAttributes::default(),
        memo: Memo::default(),
    }))
}
