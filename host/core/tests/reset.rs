//! Resets in the core: where a run can be reset to, what is copied and what comes again.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod fixtures;

use std::sync::Arc;

use everfold_core::command::{ActivityScheduled, Command, TimerStarted, WorkflowCompleted};
use everfold_core::divergence::Replaying;
use everfold_core::event::{
    ActivityCompleted, Event, EventKind, Input, Note, RandomReseeded, RunReset, SignalReceived, TimerFired,
    VersionMoved, WorkflowCancelRequested, WorkflowTerminated,
};
use everfold_core::fold::{Activation, activations};
use everfold_core::history::{pack, unpack};
use everfold_core::ids::{Digest, EventId, RunId, Seed, Timestamp};
use everfold_core::lifetime::{ALARM, Lifetime};
use everfold_core::machine::{RunState, RunStatus};
use everfold_core::payload::Payload;
use everfold_core::reset::{self, Begun, NewRunOf, ResetPlace, ResetPoint};
use fixtures::{scheduled, started};

const T0: i64 = 1_700_000_000_000;
const NEW: RunId = RunId([2; 16]);
const SEED: Seed = Seed([5; 32]);

fn with_lifetime() -> Input {
    let Input::WorkflowStarted(mut first) = started() else { unreachable!("it is a start") };
    Arc::make_mut(&mut first).lifetime = Some(Box::new(Lifetime {
        execution_timeout_ms: Some(10_000),
        execution_deadline: Some(Timestamp(T0 + 10_000)),
        run_timeout_ms: Some(60_000),
        ..Lifetime::default()
    }));
    Input::WorkflowStarted(first)
}

fn activity(key: &str) -> Command {
    let scheduled = scheduled("pay", Payload::default());
    Command::ActivityScheduled(Arc::new(ActivityScheduled { idempotency_key: key.to_owned(), ..scheduled }))
}

fn timer(duration_ms: u64) -> Command {
    Command::TimerStarted(TimerStarted { duration_ms, summary: String::new() })
}

fn paid(id: u64) -> Input {
    Input::ActivityCompleted(ActivityCompleted {
        scheduled_event_id: EventId(id),
        attempt: 1,
        result: Payload::default(),
    })
}

fn signal(name: &str) -> Input {
    let name = name.to_owned();
    Input::SignalReceived(Arc::new(SignalReceived { name, input: Payload::default(), headers: Vec::new() }))
}

fn cancel() -> Input {
    Input::WorkflowCancelRequested(WorkflowCancelRequested { reason: String::new() })
}

fn completed() -> Command {
    Command::WorkflowCompleted(WorkflowCompleted { result: Payload::default() })
}

/// Events a second apart.
fn history(kinds: Vec<EventKind>) -> Vec<Event> {
    let numbered = (1..).zip(kinds);
    numbered
        .map(|(id, kind)| Event {
            id: EventId(id),
            time: Timestamp(T0 + i64::try_from(id).unwrap() * 1_000),
            kind,
        })
        .collect()
}

/// Steps 1–3, 4–5, 6, 7 and 8–9; the last one closes the run.
fn order() -> Vec<Event> {
    history(vec![
        EventKind::Input(with_lifetime()),
        EventKind::Command(activity("01010101-0101-0101-0101-010101010101/2")),
        EventKind::Command(timer(60_000)),
        EventKind::Input(paid(2)),
        EventKind::Command(activity("01010101-0101-0101-0101-010101010101/5")),
        EventKind::Input(signal("first")),
        EventKind::Input(cancel()),
        EventKind::Input(paid(5)),
        EventKind::Command(completed()),
    ])
}

fn new(now: i64, digest: Digest) -> NewRunOf<'static> {
    NewRunOf { run_id: NEW, now: Timestamp(now), reason: "why", digest, seed: SEED }
}

#[test]
fn a_run_is_reset_to_the_end_of_a_step_behind_which_it_was_open() {
    let order = order();
    let at = |id| reset::boundary(&order, ResetPoint::Event(EventId(id)));
    for id in [3, 5, 6, 7] {
        assert_eq!(at(id), Ok(EventId(id)));
    }
    assert_eq!(at(1), Err("event 1 is within a step: a run is reset to the end of one, here 0 or 3".into()));
    assert_eq!(at(4), Err("event 4 is within a step: a run is reset to the end of one, here 3 or 5".into()));
    for id in [8, 9, 10] {
        assert_eq!(at(id), Err("the last event that the run can be reset to is 7".into()));
    }
    let place = |place| reset::boundary(&order, ResetPoint::Place(place));
    assert_eq!((place(ResetPlace::Start), place(ResetPlace::Last)), (Ok(EventId(0)), Ok(EventId(7))));
    let none = reset::boundary(&[], ResetPoint::Place(ResetPlace::Last));
    assert_eq!(none, Err("the run has not begun: it has no event to be reset to".into()));
    // An open one, to its very end; one that was terminated, to before that.
    assert_eq!(reset::boundary(&order[..6], ResetPoint::Place(ResetPlace::Last)), Ok(EventId(6)));
    let mut terminated = order[..6].to_vec();
    let note = Note::WorkflowTerminated(WorkflowTerminated { reason: String::new() });
    terminated.push(Event { id: EventId(7), time: Timestamp(T0 + 7_000), kind: EventKind::Note(note) });
    assert_eq!(reset::boundary(&terminated, ResetPoint::Place(ResetPlace::Last)), Ok(EventId(6)));
}

#[test]
fn what_is_copied_is_the_old_run_but_for_its_name_and_its_deadline() {
    let order = order();
    let now = T0 + 100_000;
    let Begun { inherits, state, .. } = reset::begin(&order, EventId(5), new(now, Digest([7; 32]))).unwrap();
    assert_eq!(inherits.events[1..5], order[1..5]);
    let Input::WorkflowStarted(before) = with_lifetime() else { unreachable!("it is a start") };
    let EventKind::Input(Input::WorkflowStarted(first)) = &inherits.events[0].kind else {
        panic!("{:?}", inherits.events[0])
    };
    assert_eq!((first.run_id, first.original_run_id, &first.seed), (NEW, RunId([1; 16]), &before.seed));
    assert_eq!(first.lifetime.as_ref().unwrap().execution_deadline, Some(Timestamp(now + 10_000)));
    assert_eq!(inherits.events[0].time, order[0].time);
    let EventKind::Note(Note::RunReset(note)) = &inherits.events[5].kind else {
        panic!("{:?}", inherits.events)
    };
    assert_eq!(
        (note.from_run_id, note.to_event_id, note.reason.as_str()),
        (RunId([1; 16]), EventId(5), "why")
    );
    assert_eq!((inherits.from, inherits.to, inherits.next()), (RunId([1; 16]), EventId(5), EventId(7)));
    // The timer fires when it would have; the run's own timer counts from now.
    let timers = [(EventId(3), order[2].time.plus_ms(60_000)), (ALARM, Timestamp(now + 10_000))];
    assert_eq!(inherits.effects.timers_started, timers);
    assert_eq!(inherits.open_activities, 1);
    let (id, open) = state.activities().iter().next().unwrap();
    assert_eq!((id, open.scheduled_at), (EventId(5), Timestamp(now)), "its time-outs count from now");
    // Written down and read back it leads to the same.
    let mut read = Vec::new();
    unpack(&pack(&inherits.events), &mut read).unwrap();
    assert_eq!(read, inherits.events);
    let again = RunState::of(&read).unwrap();
    assert_eq!(
        (again.next(), again.deadline(), again.status()),
        (state.next(), state.deadline(), RunStatus::Running)
    );
}

#[test]
fn another_component_is_noted_as_a_move() {
    let Begun { inherits: same, .. } = reset::begin(&order(), EventId(3), new(T0, Digest([7; 32]))).unwrap();
    assert_eq!(same.events.len(), 4);
    let Begun { inherits: moved, state, .. } =
        reset::begin(&order(), EventId(3), new(T0, Digest([8; 32]))).unwrap();
    let note = VersionMoved { from: Digest([7; 32]), to: Digest([8; 32]) };
    assert_eq!(moved.events.last().unwrap().kind, EventKind::Note(Note::VersionMoved(note)));
    assert_eq!(state.digest(), Some(Digest([8; 32])));
    // A clock that was set back does not turn time around.
    assert!(moved.events.iter().is_sorted_by_key(|event| event.time));
}

#[test]
fn what_people_said_comes_again_behind_another_seed_and_what_was_done_does_not() {
    let order = order();
    let inputs = |to| {
        let begun = reset::begin(&order, EventId(to), new(T0 + 100_000, Digest([7; 32]))).unwrap();
        assert!(begun.inputs.iter().all(|input| input.received_at == Timestamp(T0 + 100_000)));
        begun.inputs.into_iter().map(|waiting| waiting.input).collect::<Vec<_>>()
    };
    let reseeded = Input::RandomReseeded(RandomReseeded { seed: SEED });
    assert_eq!(inputs(3), [reseeded.clone(), signal("first")]);
    assert_eq!(inputs(6), [reseeded]);
    let to = EventId(5);
    assert!(reset::goes_over(&cancel(), to), "nobody has answered it");
    assert!(reset::goes_over(&signal("x"), to));
    let fired = Input::TimerFired(TimerFired { started_event_id: EventId(3) });
    for gone in [paid(5), fired, started()] {
        assert!(!reset::goes_over(&gone, to), "{gone:?}");
    }
}

#[test]
fn from_the_start_nothing_is_copied() {
    let begun = reset::begin(&order(), reset::START, new(T0 + 100_000, Digest([8; 32]))).unwrap();
    assert_eq!((begun.inherits.next(), begun.inherits.events.len()), (EventId(1), 0));
    assert_eq!(begun.inherits.effects.timers_started, []);
    let [first, again] = begun.inputs.as_slice() else { panic!("{:?}", begun.inputs) };
    assert_eq!(again.input, signal("first"));
    let (Input::WorkflowStarted(before), Input::WorkflowStarted(started)) = (with_lifetime(), &first.input)
    else {
        panic!("{first:?}")
    };
    let mut expected = before.as_ref().clone();
    (expected.run_id, expected.original_run_id) = (NEW, NEW);
    let (from_run_id, to_event_id, reason) = (before.run_id, EventId(0), "why".to_owned());
    expected.reset = Some(Box::new(RunReset { from_run_id, to_event_id, reason }));
    (expected.digest, expected.seed) = (Digest([8; 32]), SEED);
    expected.lifetime.as_mut().unwrap().execution_deadline = Some(Timestamp(T0 + 110_000));
    assert_eq!(started.as_ref(), &expected);
}

#[test]
fn what_may_be_done_again_is_told() {
    let told = |to| {
        let repeated = reset::repeated(&order(), EventId(to)).unwrap();
        repeated.into_iter().map(|effect| (effect.event_id.0, effect.idempotency_key)).collect::<Vec<_>>()
    };
    let key = |id| Some(format!("01010101-0101-0101-0101-010101010101/{id}"));
    assert_eq!(told(3), [(2, key(2)), (5, None)]);
    assert_eq!(told(5), [(5, key(5))]);
}

#[test]
fn a_copied_command_keeps_its_key_and_a_new_one_names_the_new_run() {
    let Begun { inherits, .. } = reset::begin(&order(), EventId(3), new(T0, Digest([7; 32]))).unwrap();
    let mut steps = activations(inherits.events);
    let copied = Activation::replay(RunState::new(), steps.next().unwrap(), Replaying::with(Digest([7; 32])));
    assert_eq!(copied.unwrap().idempotency_key(), "01010101-0101-0101-0101-010101010101/2");
    let Begun { inherits, state, .. } = reset::begin(&order(), EventId(3), new(T0, Digest([7; 32]))).unwrap();
    assert_eq!(inherits.next(), EventId(5));
    let live =
        Activation::live(state, Timestamp(T0), paid(2), everfold_core::limits::Limits::default()).unwrap();
    assert_eq!(live.idempotency_key(), "02020202-0202-0202-0202-020202020202/6");
}

#[test]
fn a_point_is_a_number_or_a_place() {
    let parsed = |text: &str| text.parse::<ResetPoint>();
    assert_eq!(parsed("7"), Ok(ResetPoint::Event(EventId(7))));
    assert_eq!(parsed("start"), Ok(ResetPoint::Place(ResetPlace::Start)));
    for (text, point) in [("7", parsed("7").unwrap()), ("\"last\"", parsed("last").unwrap())] {
        assert_eq!(serde_json::from_str::<ResetPoint>(text).unwrap(), point);
        assert_eq!(serde_json::to_string(&point).unwrap(), text);
    }
    assert_eq!(parsed("soon"), Err("expected the number of an event, `start` or `last`".to_owned()));
    let error = serde_json::from_str::<ResetPoint>("\"soon\"").unwrap_err().to_string();
    assert!(error.contains("expected the number of an event, \"start\" or \"last\""), "{error}");
}
