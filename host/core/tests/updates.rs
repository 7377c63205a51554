//! Updates in the core: which events may follow which, what carries over, and that a replay checks them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod fixtures;

use std::sync::Arc;

use everfold_core::command::{Command, UpdateOutcome, WorkflowCompleted};
use everfold_core::divergence::Replaying;
use everfold_core::event::{Event, EventKind, Input, UpdateAdmitted};
use everfold_core::fold::{Activated, Activation, Guest, GuestFault, Refused, activations};
use everfold_core::history::{pack, unpack};
use everfold_core::ids::{Digest, EventId, Timestamp};
use everfold_core::limits::Limits;
use everfold_core::machine::update::{
    ACCEPTED_UPDATE_COMPLETED_WORKFLOW, ADMITTED_UPDATE_COMPLETED_WORKFLOW, UpdateStage,
};
use everfold_core::machine::{RunState, RunStatus};
use everfold_core::payload::Payload;
use everfold_core::replay::replay;
use fixtures::started;

const T0: Timestamp = Timestamp(1_700_000_000_000);

/// What a guest does to an update.
#[derive(Clone, Copy)]
enum Call {
    Accept(u64),
    Complete(u64),
    End,
}

/// A guest that answers the input of each event with calls.
struct Script<F>(F);

impl<F: Fn(u64) -> Vec<Call>> Guest for Script<F> {
    type Observations = ();

    fn activate(&mut self, mut activation: Activation) -> Activated<()> {
        let calls = (self.0)(activation.input().0.id.0);
        let outcome = calls.into_iter().try_for_each(|call| {
            let done = match call {
                Call::Accept(id) => activation.accept_update(EventId(id)),
                Call::Complete(id) => {
                    activation.complete_update(EventId(id), UpdateOutcome::Result(Payload::json(&7).unwrap()))
                }
                Call::End => activation
                    .command(Command::WorkflowCompleted(WorkflowCompleted { result: Payload::default() })),
            };
            match done {
                Ok(_) => Ok(()),
                Err(Refused::Illegal(error)) => {
                    Err(GuestFault::Trap { message: error.to_string(), backtrace: String::new() })
                }
                Err(Refused::Nondeterminism(error)) => Err(GuestFault::Nondeterminism(error)),
                Err(Refused::Limit(message)) => {
                    Err(GuestFault::LimitExceeded { message, backtrace: String::new() })
                }
            }
        });
        Activated { activation, outcome, observations: () }
    }
}

fn update(update_id: &str) -> Input {
    Input::UpdateAdmitted(Arc::new(UpdateAdmitted {
        update_id: update_id.to_owned(),
        name: "add".to_owned(),
        input: Payload::json(&1).unwrap(),
        headers: Vec::new(),
    }))
}

fn fold(
    guest: &mut impl Guest<Observations = ()>,
    inputs: impl IntoIterator<Item = Input>,
) -> Result<(RunState, Vec<Event>), GuestFault> {
    let (mut state, mut history) = (RunState::new(), Vec::new());
    for input in inputs {
        let activation = Activation::live(state, T0, input, Limits::default()).unwrap();
        let Activated { activation, outcome, .. } = guest.activate(activation);
        outcome?;
        let folded = activation.finish()?;
        history.extend(folded.events);
        state = folded.state;
    }
    Ok((state, history))
}

/// Accepts each update at once, and completes the first one when the second one comes.
fn script(id: u64) -> Vec<Call> {
    match id {
        2 => vec![Call::Accept(2)],
        4 => vec![Call::Accept(4), Call::Complete(2)],
        _ => Vec::new(),
    }
}

#[test]
fn an_update_is_admitted_accepted_and_completed_once() {
    let (state, history) = fold(&mut Script(script), [started(), update("a"), update("b")]).unwrap();
    let types: Vec<_> = history.iter().map(|event| event.kind.type_name()).collect();
    assert_eq!(
        types,
        [
            "WorkflowStarted",
            "UpdateAdmitted",
            "UpdateAccepted",
            "UpdateAdmitted",
            "UpdateAccepted",
            "UpdateCompleted"
        ]
    );
    let open: Vec<_> = state.updates().open().map(|(id, open)| (id.0, open.stage)).collect();
    assert_eq!(open, [(4, UpdateStage::Accepted)]);
    assert_eq!(state.updates().pending(), 1);
    assert_eq!(state.updates().admitted("a"), Some(EventId(2)), "also when it is completed");
    assert!(!state.awaits(&update("a")) && !state.awaits(&update("b")) && state.awaits(&update("c")));
}

#[test]
fn commands_that_break_the_order_are_faults_of_the_code() {
    let breaks: [(&[Call], &str); 5] = [
        (&[Call::Accept(1)], "event 1 brought no update that is not answered"),
        (&[Call::Accept(2), Call::Accept(2)], "the update of event 2 was accepted before"),
        (&[Call::Complete(2)], "the update of event 2 is completed before it is accepted"),
        (
            &[Call::Accept(2), Call::Complete(2), Call::Complete(2)],
            "event 2 brought no update that is not answered",
        ),
        (&[Call::End, Call::Accept(2)], "UpdateAccepted after the run was closed as completed"),
    ];
    for (calls, expected) in breaks {
        let mut guest = Script(|id| if id == 2 { calls.to_vec() } else { Vec::new() });
        let fault = fold(&mut guest, [started(), update("a")]).unwrap_err();
        assert_eq!(fault.to_string(), expected);
    }
}

#[test]
fn updates_survive_packing_and_a_replay_checks_what_was_said_of_them() {
    let (_, history) = fold(&mut Script(script), [started(), update("a"), update("b")]).unwrap();
    let mut unpacked = Vec::new();
    for events in activations(history.clone()) {
        unpack(&pack(&events), &mut unpacked).unwrap();
    }
    assert_eq!(unpacked, history);
    let json = serde_json::to_value(&history).unwrap();
    assert_eq!(serde_json::from_value::<Vec<Event>>(json.clone()).unwrap(), history);
    assert_eq!(json[5]["attributes"]["outcome"], serde_json::json!({ "result": history_result(&history) }));

    let replaying = Replaying::with(Digest([7; 32]));
    assert!(replay(&mut Script(script), activations(history.clone()), replaying).is_ok());
    let mut lazy = Script(|id| if id == 2 { vec![Call::Accept(2)] } else { Vec::new() });
    let fault = replay(&mut lazy, activations(history), replaying).unwrap_err().to_string();
    assert!(fault.contains("UpdateAccepted add"), "{fault}");
}

/// The result of the completed update, as JSON shows it.
fn history_result(history: &[Event]) -> serde_json::Value {
    match &history[5].kind {
        EventKind::Command(Command::UpdateCompleted(completed)) => match &completed.outcome {
            UpdateOutcome::Result(result) => serde_json::to_value(result).unwrap(),
            UpdateOutcome::Failure(failure) => panic!("{failure}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_closed_run_has_not_answered_fails_by_the_stage_that_it_reached() {
    let mut guest = Script(|id| match id {
        2 => vec![Call::Accept(2)],
        4 => vec![Call::End],
        _ => Vec::new(),
    });
    let (state, _) = fold(&mut guest, [started(), update("a"), update("b")]).unwrap();
    assert_eq!(state.status(), RunStatus::Completed);
    let failures: Vec<_> = state
        .updates()
        .open()
        .map(|(_, open)| open.stage.failure_at_close().unwrap().type_name().to_owned())
        .collect();
    assert_eq!(failures, [ACCEPTED_UPDATE_COMPLETED_WORKFLOW, ADMITTED_UPDATE_COMPLETED_WORKFLOW]);
    assert_eq!(UpdateStage::Completed.failure_at_close(), None);
    assert!(!state.awaits(&update("c")));
}
