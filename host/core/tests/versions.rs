//! Versions of changes: code that asks, live and on a replay of what itself or other code recorded.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod fixtures;

use std::sync::Arc;

use everfold_core::command::{ActivityScheduled, Command, DetachedWorkflowStarted, WorkflowCompleted};
use everfold_core::divergence::{Replaying, Strictness};
use everfold_core::event::{Event, EventKind, Input, Note, SignalReceived, VersionMoved};
use everfold_core::fold::{Activated, Activation, Guest, GuestFault, Refused, activations};
use everfold_core::ids::{Digest, EventId, Timestamp, WorkflowId};
use everfold_core::limits::Limits;
use everfold_core::machine::RunState;
use everfold_core::machine::version::DEFAULT_VERSION;
use everfold_core::payload::Payload;
use everfold_core::replay::replay;
use fixtures::{scheduled, started};
use insta::assert_snapshot;

const T0: Timestamp = Timestamp(1_700_000_000_000);

/// The component that a run starts on.
const OLD: Digest = Digest([7; 32]);
/// The component that it may be moved to.
const NEW: Digest = Digest([8; 32]);
/// One more.
const NEWEST: Digest = Digest([9; 32]);

/// A guest that runs the same code at each input.
struct Code<F>(F);

impl<F: FnMut(&mut Activation) -> Result<(), Refused>> Guest for Code<F> {
    type Observations = ();

    fn activate(&mut self, mut activation: Activation) -> Activated<()> {
        let outcome = (self.0)(&mut activation).map_err(|refused| match refused {
            Refused::Nondeterminism(error) => GuestFault::Nondeterminism(error),
            Refused::Illegal(error) => {
                GuestFault::Trap { message: error.to_string(), backtrace: String::new() }
            }
            Refused::Limit(message) => GuestFault::LimitExceeded { message, backtrace: String::new() },
        });
        Activated { activation, outcome, observations: () }
    }
}

/// An input that only wakes the guest.
fn wake() -> Input {
    let input = Payload::default();
    Input::SignalReceived(Arc::new(SignalReceived { name: "wake".to_owned(), input, headers: Vec::new() }))
}

fn schedule(activation: &mut Activation, activity: &str) -> Result<(), Refused> {
    let idempotency_key = activation.idempotency_key();
    let scheduled = ActivityScheduled { idempotency_key, ..scheduled(activity, Payload::default()) };
    activation.command(Command::ActivityScheduled(Arc::new(scheduled))).map(drop)
}

fn detach(activation: &mut Activation) -> Result<(), Refused> {
    let started = DetachedWorkflowStarted {
        workflow_type: "tracking".to_owned(),
        workflow_id: WorkflowId("t-1".to_owned()),
        run_id: activation.new_run_id(),
        input: Payload::default(),
        headers: Vec::new(),
    };
    activation.command(Command::DetachedWorkflowStarted(Box::new(started))).map(drop)
}

/// Folds inputs live behind a history; stops at the first fault.
fn fold_behind(
    mut state: RunState,
    guest: &mut impl Guest<Observations = ()>,
    inputs: impl IntoIterator<Item = Input>,
) -> Result<Vec<Event>, GuestFault> {
    let mut history = Vec::new();
    for input in inputs {
        let activation = Activation::live(state, T0, input, Limits::default()).unwrap();
        let Activated { activation, outcome, .. } = guest.activate(activation);
        outcome?;
        let folded = activation.finish()?;
        history.extend(folded.events);
        state = folded.state;
    }
    Ok(history)
}

/// A history that the code records that a run starts on.
fn recorded(code: impl FnMut(&mut Activation) -> Result<(), Refused>, inputs: &[Input]) -> Vec<Event> {
    fold_behind(RunState::new(), &mut Code(code), inputs.to_vec()).unwrap()
}

fn line(event: &Event) -> String {
    let what = match &event.kind {
        EventKind::Command(Command::VersionMarkerRecorded(marker)) => {
            format!("{} {}", marker.change_id, marker.version)
        }
        EventKind::Command(command) => command.name(),
        EventKind::Input(_) | EventKind::Note(_) => String::new(),
    };
    format!("{} {} {what}", event.id, event.kind.type_name()).trim_end().to_owned()
}

fn lines(events: &[Event]) -> String {
    events.iter().map(|event| line(event) + "\n").collect()
}

/// What a replay of the history on `digest` says, with the versions that are known behind it.
fn verdict(
    digest: Digest,
    history: &[Event],
    code: impl FnMut(&mut Activation) -> Result<(), Refused>,
) -> String {
    match replay(&mut Code(code), activations(history.to_vec()), Replaying::with(digest)) {
        Ok(replayed) => {
            let versions: Vec<_> =
                replayed.state.versions().iter().map(|(id, version)| format!("{id} {version}")).collect();
            let changes = match replayed.changes.len() {
                0 => String::new(),
                count => format!(", {count} changes"),
            };
            format!("holds: {}{changes}", versions.join(", "))
        }
        Err(fault) => fault.to_string(),
    }
}

/// The code before the change: pays at each input.
fn before(activation: &mut Activation) -> Result<(), Refused> {
    schedule(activation, "pay")
}

/// The code behind it, which packs instead where the run follows version 1.
fn behind(activation: &mut Activation) -> Result<(), Refused> {
    let version = activation.get_version("pack", DEFAULT_VERSION, 1)?;
    schedule(activation, if version == DEFAULT_VERSION { "pay" } else { "pack" })
}

fn moved(history: &mut Vec<Event>, from: Digest, to: Digest) {
    let note = EventKind::Note(Note::VersionMoved(VersionMoved { from, to }));
    let id = EventId(history.len() as u64 + 1);
    history.push(Event { id, time: T0, kind: note });
}

/// Replays a history on `digest` and goes on live with these inputs.
fn go_on(
    history: &mut Vec<Event>,
    digest: Digest,
    code: impl FnMut(&mut Activation) -> Result<(), Refused>,
    inputs: &[Input],
) -> Result<(), GuestFault> {
    let mut guest = Code(code);
    let replayed = replay(&mut guest, activations(history.clone()), Replaying::with(digest)).unwrap();
    history.extend(fold_behind(replayed.state, &mut guest, inputs.to_vec())?);
    Ok(())
}

#[test]
fn live_the_first_question_is_answered_with_the_maximum_and_marked() {
    let twice = |activation: &mut Activation| {
        assert_eq!(activation.get_version("pack", DEFAULT_VERSION, 1)?, 1);
        behind(activation)
    };
    let history = recorded(twice, &[started(), wake()]);
    assert_snapshot!(lines(&history), @r"
    1 WorkflowStarted
    2 VersionMarkerRecorded pack 1
    3 ActivityScheduled pack
    4 SignalReceived
    5 ActivityScheduled pack
    ");
    assert_snapshot!(verdict(OLD, &history, twice), @"holds: pack 1");
}

#[test]
fn a_history_without_a_marker_follows_the_default_for_ever() {
    let mut history = recorded(before, &[started(), wake()]);
    assert_snapshot!(verdict(NEW, &history, behind), @"holds: pack -1");
    // And live, behind a move.
    moved(&mut history, OLD, NEW);
    go_on(&mut history, NEW, behind, &[wake(), wake()]).unwrap();
    assert_snapshot!(lines(&history), @r"
    1 WorkflowStarted
    2 ActivityScheduled pay
    3 SignalReceived
    4 ActivityScheduled pay
    5 VersionMoved
    6 SignalReceived
    7 ActivityScheduled pay
    8 SignalReceived
    9 ActivityScheduled pay
    ");
    // And when the whole is replayed once more, wherever.
    assert_snapshot!(verdict(NEW, &history, behind), @"holds: pack -1");
    assert_snapshot!(verdict(NEWEST, &history, behind), @"holds: pack -1");
    assert_snapshot!(verdict(OLD, &history, before), @"holds:");
}

/// Asks when it is woken, and not at the start.
fn asks_when_woken(activation: &mut Activation) -> Result<(), Refused> {
    match activation.input().1 {
        Input::WorkflowStarted(_) => schedule(activation, "validate"),
        _ => behind(activation),
    }
}

fn validates_then_pays(activation: &mut Activation) -> Result<(), Refused> {
    let step = match activation.input().1 {
        Input::WorkflowStarted(_) => "validate",
        _ => "pay",
    };
    schedule(activation, step)
}

#[test]
fn a_run_that_has_not_come_to_the_place_follows_the_change() {
    let mut history = recorded(validates_then_pays, &[started()]);
    moved(&mut history, OLD, NEW);
    go_on(&mut history, NEW, asks_when_woken, &[wake()]).unwrap();
    assert_snapshot!(lines(&history), @r"
    1 WorkflowStarted
    2 ActivityScheduled validate
    3 VersionMoved
    4 SignalReceived
    5 VersionMarkerRecorded pack 1
    6 ActivityScheduled pack
    ");
    assert_snapshot!(verdict(NEW, &history, asks_when_woken), @"holds: pack 1");
    // There is no way back from here, and the record says where.
    assert_snapshot!(verdict(OLD, &history, validates_then_pays), @"nondeterminism: at event 6 the history has ActivityScheduled pack, the workflow did ActivityScheduled pay");
}

#[test]
fn each_part_is_compared_by_who_recorded_it() {
    let mut history = recorded(validates_then_pays, &[started()]);
    moved(&mut history, OLD, NEW);
    go_on(&mut history, NEW, asks_when_woken, &[wake()]).unwrap();
    let quiet = |activation: &mut Activation| match activation.input().1 {
        Input::WorkflowStarted(_) => schedule(activation, "validate"),
        _ => schedule(activation, "pack"),
    };
    // The marker is NEW's own: it must ask for it, another need not.
    assert_snapshot!(verdict(NEW, &history, quiet), @"nondeterminism: at event 5 the history has VersionMarkerRecorded pack, the workflow did ActivityScheduled pack");
    assert_snapshot!(verdict(NEWEST, &history, quiet), @"holds: pack 1");
    let strict = Replaying { digest: NEWEST, strictness: Strictness::Strict };
    assert!(replay(&mut Code(quiet), activations(history.clone()), strict).is_ok(), "nothing else differs");
}

#[test]
fn what_is_remembered_is_not_changed_by_a_marker_that_other_code_recorded_later() {
    let mut history = recorded(validates_then_pays, &[started()]);
    moved(&mut history, OLD, NEW);
    go_on(&mut history, NEW, asks_when_woken, &[wake()]).unwrap();
    let mut answers = Vec::new();
    let asks_at_once = |activation: &mut Activation| {
        answers.push(activation.get_version("pack", DEFAULT_VERSION, 1)?);
        match activation.input().1 {
            Input::WorkflowStarted(_) => schedule(activation, "validate"),
            _ => schedule(activation, "pack"),
        }
    };
    assert_snapshot!(verdict(NEWEST, &history, asks_at_once), @"holds: pack -1");
    assert_eq!(answers, [-1, -1]);
}

/// Asks about two changes, in that order, around a step.
fn two(first: &'static str, second: &'static str) -> impl FnMut(&mut Activation) -> Result<(), Refused> {
    move |activation| {
        activation.get_version(first, DEFAULT_VERSION, 1)?;
        activation.get_version(second, DEFAULT_VERSION, 2)?;
        schedule(activation, "pay")
    }
}

#[test]
fn other_code_may_ask_in_another_order_and_the_same_may_not() {
    let history = recorded(two("a", "b"), &[started()]);
    assert_snapshot!(lines(&history), @r"
    1 WorkflowStarted
    2 VersionMarkerRecorded a 1
    3 VersionMarkerRecorded b 2
    4 ActivityScheduled pay
    ");
    let mut answers = Vec::new();
    let turned = |activation: &mut Activation| {
        answers.push(activation.get_version("b", DEFAULT_VERSION, 2)?);
        answers.push(activation.get_version("a", DEFAULT_VERSION, 2)?);
        answers.push(activation.get_version("b", DEFAULT_VERSION, 2)?);
        schedule(activation, "pay")
    };
    assert_snapshot!(verdict(NEW, &history, turned), @"holds: a 1, b 2");
    assert_eq!(answers, [2, 1, 2]);
    assert_snapshot!(verdict(OLD, &history, two("b", "a")), @"nondeterminism: at event 2 the history has VersionMarkerRecorded a, the workflow did VersionMarkerRecorded b");
    let late = |activation: &mut Activation| {
        schedule(activation, "pay")?;
        activation.get_version("a", DEFAULT_VERSION, 1).map(drop)
    };
    assert_snapshot!(verdict(NEW, &history, late), @"holds: a 1, b 2");
    assert_snapshot!(verdict(OLD, &history, late), @"nondeterminism: at event 2 the history has VersionMarkerRecorded a, the workflow did ActivityScheduled pay");
}

#[test]
fn markers_that_nobody_asks_for_are_skipped_wherever_they_stand() {
    let asks_everywhere = |activation: &mut Activation| {
        activation.get_version("first", DEFAULT_VERSION, 1)?;
        schedule(activation, "pay")?;
        activation.get_version("middle", DEFAULT_VERSION, 1)?;
        schedule(activation, "pack")?;
        activation.get_version("last", DEFAULT_VERSION, 1).map(drop)
    };
    let asks_nothing = |activation: &mut Activation| {
        schedule(activation, "pay")?;
        schedule(activation, "pack")
    };
    let history = recorded(asks_everywhere, &[started()]);
    assert_snapshot!(verdict(NEW, &history, asks_nothing), @"holds: first 1, last 1, middle 1");
    assert_snapshot!(verdict(OLD, &history, asks_nothing), @"nondeterminism: at event 2 the history has VersionMarkerRecorded first, the workflow did ActivityScheduled pay");
    let packs_only = |activation: &mut Activation| schedule(activation, "pack");
    assert_snapshot!(verdict(NEW, &history, packs_only), @"nondeterminism: at event 3 the history has ActivityScheduled pay, the workflow did ActivityScheduled pack");
    let pays_only = |activation: &mut Activation| schedule(activation, "pay");
    assert_snapshot!(verdict(NEW, &history, pays_only), @"nondeterminism: at event 5 the history has ActivityScheduled pack, the workflow did the end of the activation");
}

#[test]
fn the_component_that_recorded_a_history_without_asking_must_not_begin_to() {
    let history = recorded(before, &[started()]);
    assert_snapshot!(verdict(OLD, &history, behind), @"nondeterminism: at event 2 the history has ActivityScheduled pay, the workflow did VersionMarkerRecorded pack");
}

#[test]
fn keys_and_ids_do_not_move_with_skipped_markers() {
    let record = |activation: &mut Activation| {
        activation.get_version("a", DEFAULT_VERSION, 1)?;
        schedule(activation, "pay")?;
        activation.get_version("b", DEFAULT_VERSION, 1)?;
        activation.get_version("c", DEFAULT_VERSION, 1)?;
        detach(activation)?;
        activation.command(Command::WorkflowCompleted(WorkflowCompleted { result: Payload::default() }))?;
        Ok(())
    };
    let mut quiet_ids = Vec::new();
    let quiet = |activation: &mut Activation| {
        quiet_ids.push(activation.idempotency_key());
        schedule(activation, "pay")?;
        quiet_ids.push(activation.new_run_id().to_string());
        detach(activation)?;
        activation.command(Command::WorkflowCompleted(WorkflowCompleted { result: Payload::default() }))?;
        Ok(())
    };
    let history = recorded(record, &[started()]);
    let strict = Replaying { digest: NEW, strictness: Strictness::Strict };
    replay(&mut Code(quiet), activations(history.clone()), strict).unwrap();
    let EventKind::Command(Command::ActivityScheduled(pay)) = &history[2].kind else { panic!("it paid") };
    let EventKind::Command(Command::DetachedWorkflowStarted(begun)) = &history[5].kind else {
        panic!("it began another")
    };
    assert_eq!(quiet_ids, [pay.idempotency_key.clone(), begun.run_id.to_string()]);
    assert!(pay.idempotency_key.ends_with("/3"), "{}", pay.idempotency_key);
}

#[test]
fn a_version_outside_the_range_stops_the_guest() {
    let raised = |activation: &mut Activation| {
        activation.get_version("pack", 1, 2)?;
        schedule(activation, "pay")
    };
    let turned_back = |activation: &mut Activation| {
        activation.get_version("pack", DEFAULT_VERSION, 0)?;
        schedule(activation, "pack")
    };
    let old = recorded(before, &[started()]);
    let new = recorded(behind, &[started()]);
    assert_snapshot!(verdict(NEW, &old, raised), @"get-version `pack`: the run follows version -1, but this code knows only 1 to 2");
    assert_snapshot!(verdict(NEW, &new, turned_back), @"get-version `pack`: the run follows version 1, but this code knows only -1 to 0");
    // Live too: what the run follows was settled before.
    let narrows = |activation: &mut Activation| {
        let minimum = if activation.input().0.id == EventId(1) { DEFAULT_VERSION } else { 2 };
        activation.get_version("pack", minimum, minimum.max(1)).map(drop)
    };
    let fault = fold_behind(RunState::new(), &mut Code(narrows), [started(), wake()]).unwrap_err();
    assert_snapshot!(fault.to_string(), @"get-version `pack`: the run follows version 1, but this code knows only 2 to 2");
}

#[test]
fn an_empty_range_stops_the_guest() {
    let empty = |activation: &mut Activation| activation.get_version("pack", 2, 1).map(drop);
    let fault = fold_behind(RunState::new(), &mut Code(empty), [started()]).unwrap_err();
    assert_snapshot!(fault.to_string(), @"get-version `pack`: the minimum 2 is above the maximum 1");
    let old = recorded(before, &[started()]);
    assert_snapshot!(verdict(NEW, &old, empty), @"get-version `pack`: the minimum 2 is above the maximum 1");
}

#[test]
fn a_marker_counts_as_an_event_of_the_history() {
    let asks = |activation: &mut Activation| {
        for number in 0..60_000 {
            activation.get_version(&number.to_string(), DEFAULT_VERSION, 1)?;
        }
        Ok(())
    };
    let fault = fold_behind(RunState::new(), &mut Code(asks), [started()]).unwrap_err();
    assert_snapshot!(fault.to_string(), @"limit exceeded: a history has at most 51200 events");
}
