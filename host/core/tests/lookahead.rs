//! The look ahead: a state and a scripted guest in, imagined inputs and calls out.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod fixtures;

use std::sync::Arc;

use everfold_core::command::{
    ActivityCancelRequested, Command, TimerCanceled, TimerStarted, VersionMarkerRecorded, WorkflowCompleted,
    WorkflowFailed,
};
use everfold_core::event::Input;
use everfold_core::failure::Failure;
use everfold_core::fold::{Activated, Activation, Guest, GuestFault, Refused};
use everfold_core::ids::{EventId, Timestamp};
use everfold_core::limits::Limits;
use everfold_core::lookahead::{Ahead, IMAGINED_FAILURE, Imagined, look_ahead};
use everfold_core::machine::RunState;
use everfold_core::payload::Payload;
use fixtures::{scheduled, started};
use insta::assert_snapshot;

/// A guest that answers each input with the calls that a function names; none means that it traps.
struct Script<F>(F);

impl<F: Fn(EventId, &Input, &RunState) -> Option<Vec<Command>>> Guest for Script<F> {
    type Observations = ();

    fn activate(&mut self, mut activation: Activation) -> Activated<()> {
        let (event, input) = activation.input();
        let trap = |message: &str| GuestFault::Trap { message: message.to_owned(), backtrace: String::new() };
        let calls = (self.0)(event.id, input, activation.state());
        let calls_at_all = calls.is_some();
        let made = calls.into_iter().flatten().try_for_each(|call| match activation.command(call) {
            Ok(_) => Ok(()),
            Err(Refused::Illegal(error)) => Err(trap(&error.to_string())),
            Err(Refused::Nondeterminism(_) | Refused::Limit(_)) => Err(trap("it is live and generous")),
        });
        let outcome = if calls_at_all { made } else { Err(trap("no idea")) };
        Activated { activation, outcome, observations: () }
    }
}

fn activity(name: &str) -> Command {
    Command::ActivityScheduled(Arc::new(scheduled(name, Payload::default())))
}

fn timer(duration_ms: u64) -> Command {
    Command::TimerStarted(TimerStarted { duration_ms, summary: String::new() })
}

fn done() -> Command {
    Command::WorkflowCompleted(WorkflowCompleted { result: Payload::default() })
}

fn marker() -> Command {
    Command::VersionMarkerRecorded(VersionMarkerRecorded { change_id: "faster".to_owned(), version: 1 })
}

/// The state of a run that began with these commands.
fn begun(commands: Vec<Command>) -> RunState {
    let now = Timestamp(1_700_000_000_000);
    let mut activation = Activation::live(RunState::new(), now, started(), Limits::default()).unwrap();
    for command in commands {
        activation.command(command).unwrap();
    }
    activation.finish().unwrap().state
}

fn null(_: &str) -> Payload {
    Payload::json(&()).unwrap()
}

fn lines(ahead: &Ahead) -> String {
    let calls: Vec<String> = ahead.calls.iter().map(ToString::to_string).collect();
    let fault = ahead.fault.as_ref().map(|fault| format!(" !! {fault}")).unwrap_or_default();
    format!("{} => {}{fault}", ahead.inputs.join(", "), calls.join(", "))
}

/// Pays when the stock is reserved, and gives up when something fails; a timer hurries it.
fn order(_: EventId, input: &Input, state: &RunState) -> Option<Vec<Command>> {
    Some(match input {
        Input::ActivityCompleted(closed) if closed.scheduled_event_id == EventId(2) => vec![activity("pay")],
        Input::ActivityCompleted(_) => vec![done()],
        Input::ActivityFailed(closed) => {
            let cause = closed.failure.cause.as_ref().unwrap();
            assert_eq!(cause.type_name(), IMAGINED_FAILURE);
            vec![Command::WorkflowFailed(WorkflowFailed { failure: Failure::application("Sad", "no stock") })]
        }
        Input::TimerFired(_) => {
            assert_eq!(state.time(), Timestamp(1_700_000_005_000), "it fires at its time");
            vec![Command::ActivityCancelRequested(ActivityCancelRequested { scheduled_event_id: EventId(2) })]
        }
        Input::WorkflowStarted(_)
        | Input::WorkflowCancelRequested(_)
        | Input::ActivityTimedOut(_)
        | Input::ActivityCanceled(_)
        | Input::SignalReceived(_)
        | Input::ExternalRequestCompleted(_)
        | Input::ChildWorkflowStarted(_)
        | Input::ChildWorkflowStartFailed(_)
        | Input::ChildWorkflowCompleted(_)
        | Input::ChildWorkflowFailed(_)
        | Input::ExternalRequestFailed(_)
        | Input::UpdateAdmitted(_)
        | Input::RandomReseeded(_) => Vec::new(),
    })
}

#[test]
fn each_end_of_what_is_open_is_followed_for_some_steps() {
    let state = || begun(vec![activity("reserve"), timer(5_000), activity("reserve")]);
    let ends = Imagined::of(&state());
    assert_eq!(
        ends,
        [Imagined::Completes(EventId(2)), Imagined::Fails(EventId(2)), Imagined::Fires(EventId(3))],
        "the oldest of a type stands for all"
    );
    let ahead = |end, steps| lines(&look_ahead(&mut Script(order), state(), end, steps, null));
    assert_snapshot!(ahead(ends[0], 1), @"reserve completes => ActivityScheduled pay");
    assert_snapshot!(ahead(ends[1], 9), @"reserve fails => WorkflowFailed");
    assert_snapshot!(ahead(ends[2], 1), @"the timer of event 3 fires => ActivityCancelRequested reserve");
    assert_snapshot!(ahead(ends[2], 2), @"the timer of event 3 fires, reserve completes => ActivityCancelRequested reserve, ActivityScheduled pay");
}

#[test]
fn results_are_asked_for_by_type_and_noted() {
    let asked = std::cell::RefCell::new(Vec::new());
    let results = |name: &str| {
        asked.borrow_mut().push(name.to_owned());
        null(name)
    };
    let ahead = look_ahead(
        &mut Script(order),
        begun(vec![activity("reserve")]),
        Imagined::Completes(EventId(2)),
        5,
        results,
    );
    assert_snapshot!(lines(&ahead), @"reserve completes, pay completes => ActivityScheduled pay, WorkflowCompleted");
    assert_eq!(asked.into_inner(), ["reserve", "pay"]);
    assert_eq!(ahead.results_of.into_iter().collect::<Vec<_>>(), ["pay", "reserve"]);
}

#[test]
fn a_closed_run_and_one_that_waits_for_nothing_have_no_ends() {
    assert_eq!(Imagined::of(&begun(Vec::new())), []);
    assert_eq!(Imagined::of(&begun(vec![activity("reserve"), done()])), []);
}

#[test]
fn markers_are_no_difference_and_other_calls_and_faults_are() {
    let ask = |calls: fn() -> Option<Vec<Command>>| {
        let state = begun(vec![activity("reserve"), timer(5_000)]);
        look_ahead(
            &mut Script(move |_, _: &Input, _: &RunState| calls()),
            state,
            Imagined::Completes(EventId(2)),
            1,
            null,
        )
    };
    let plain = ask(|| Some(vec![activity("pay"), timer(1)]));
    let marked = ask(|| Some(vec![marker(), activity("pay"), timer(1)]));
    assert_eq!(marked.calls.len(), 3, "it is shown");
    assert!(!plain.differs_from(&marked) && !marked.differs_from(&plain));
    let other = ask(|| Some(vec![activity("pray"), timer(1)]));
    assert!(plain.differs_from(&other));
    let fewer = ask(|| Some(vec![activity("pay")]));
    assert!(plain.differs_from(&fewer));
    let trapped = ask(|| None);
    assert_snapshot!(lines(&trapped), @"reserve completes =>  !! no idea");
    assert!(trapped.differs_from(&plain) && !trapped.differs_from(&ask(|| None)));
    let half = ask(|| {
        Some(vec![activity("pay"), Command::TimerCanceled(TimerCanceled { started_event_id: EventId(9) })])
    });
    assert!(half.fault.is_some());
    assert_eq!(half.calls.len(), 1, "what it asked for before it fell");
}
