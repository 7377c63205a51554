//! The fold, its record and its replay check: inputs and a scripted guest in, events out.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod fixtures;

use std::sync::Arc;

use everfold_core::command::{
    ActivityCancelRequested, Command, SignalTaken, TimerCanceled, TimerStarted, VersionChoice,
    WorkflowCanceled, WorkflowCompleted, WorkflowContinuedAsNew,
};
use everfold_core::decision::Decision;
use everfold_core::divergence::{Comparison, Replaying, Strictness};
use everfold_core::event::{
    ActivityCompleted, ActivityTimeouts, Event, EventKind, Input, Note, SignalReceived, TimerFired,
    VersionMoved, WorkflowCancelRequested, WorkflowTerminated,
};
use everfold_core::fold::{Activated, Activation, Guest, GuestFault, Refused, activations};
use everfold_core::history::{Export, pack, unpack};
use everfold_core::ids::{Digest, EventId, Namespace, RunId, RunKey, Timestamp};
use everfold_core::limits::Limits;
use everfold_core::machine::{RunState, RunStatus};
use everfold_core::payload::Payload;
use everfold_core::replay::{ReplayFault, replay};
use fixtures::{scheduled, started};
use insta::assert_snapshot;

const T0: Timestamp = Timestamp(1_700_000_000_000);

/// A guest that answers each input with the calls that a function names.
struct Script<F>(F);

impl<F: Fn(EventId, &Input) -> Vec<Command>> Guest for Script<F> {
    type Observations = ();

    fn activate(&mut self, mut activation: Activation) -> Activated<()> {
        let (event, input) = activation.input();
        let calls = (self.0)(event.id, input);
        let outcome = calls.into_iter().try_for_each(|call| match activation.command(call) {
            Ok(_) => Ok(()),
            Err(Refused::Nondeterminism(error)) => Err(GuestFault::Nondeterminism(error)),
            Err(Refused::Illegal(error)) => {
                Err(GuestFault::Trap { message: error.to_string(), backtrace: String::new() })
            }
            Err(Refused::Limit(message)) => {
                Err(GuestFault::LimitExceeded { message, backtrace: String::new() })
            }
        });
        Activated { activation, outcome, observations: () }
    }
}

fn key() -> RunKey {
    RunKey { namespace: Namespace::default(), run_id: RunId([1; 16]) }
}

fn activity(name: &str, input: u32) -> Command {
    Command::ActivityScheduled(Arc::new(scheduled(name, Payload::json(&input).unwrap())))
}

fn completed(id: u64) -> Input {
    Input::ActivityCompleted(ActivityCompleted {
        scheduled_event_id: EventId(id),
        attempt: 1,
        result: Payload::default(),
    })
}

fn timer(duration_ms: u64) -> Command {
    Command::TimerStarted(TimerStarted { duration_ms, summary: String::new() })
}

fn fired(id: u64) -> Input {
    Input::TimerFired(TimerFired { started_event_id: EventId(id) })
}

fn done() -> Command {
    Command::WorkflowCompleted(WorkflowCompleted { result: Payload::default() })
}

/// A workflow: two activities, the second after the first, beside a timer that is taken back.
fn order(id: EventId, input: &Input) -> Vec<Command> {
    match (input, id.0) {
        (Input::WorkflowStarted(_), _) => vec![activity("reserve", 1), timer(5_000)],
        (Input::ActivityCompleted(_), 4) => vec![activity("pay", 2)],
        (Input::ActivityCompleted(_), _) => {
            vec![Command::TimerCanceled(TimerCanceled { started_event_id: EventId(3) }), done()]
        }
        _ => Vec::new(),
    }
}

/// Folds inputs a second apart; stops at the first fault.
fn fold(
    guest: &mut impl Guest<Observations = ()>,
    inputs: impl IntoIterator<Item = Input>,
) -> Result<(RunState, Vec<Event>, Vec<Decision>), GuestFault> {
    let mut state = RunState::new();
    let (mut history, mut decisions) = (Vec::new(), Vec::new());
    for (second, input) in inputs.into_iter().enumerate() {
        let now = T0.plus_ms(second as u64 * 1_000);
        let activation = Activation::live(state, now, input, Limits::default()).unwrap();
        let Activated { activation, outcome, .. } = guest.activate(activation);
        let (decision, next) = Decision::of(key(), outcome.and_then(|()| activation.finish())?);
        history.extend(decision.events.iter().cloned());
        decisions.push(decision);
        state = next;
    }
    Ok((state, history, decisions))
}

fn order_history() -> Vec<Event> {
    fold(&mut Script(order), [started(), completed(2), completed(5)]).unwrap().1
}

fn lines(events: &[Event]) -> String {
    let line = |event: &Event| {
        let name = match &event.kind {
            EventKind::Command(command) => command.name(),
            EventKind::Input(_) | EventKind::Note(_) => String::new(),
        };
        format!("{} +{}s {} {name}", event.id, event.time.ms_since(T0) / 1_000, event.kind.type_name())
    };
    events.iter().map(|event| line(event).trim_end().to_owned() + "\n").collect()
}

/// The replay that compares so what `Digest([7; 32])` recorded.
fn replaying(how: Comparison) -> Replaying {
    let (digest, strictness) = match how {
        Comparison::SameDigest => (Digest([7; 32]), Strictness::Lenient),
        Comparison::OtherDigest => (Digest([8; 32]), Strictness::Lenient),
        Comparison::OtherDigestStrict => (Digest([8; 32]), Strictness::Strict),
    };
    Replaying { digest, strictness }
}

fn verdict<F: Fn(EventId, &Input) -> Vec<Command>>(
    script: F,
    history: Vec<Event>,
    how: Comparison,
) -> String {
    match replay(&mut Script(script), activations(history), replaying(how)) {
        Ok(replayed) => {
            let changes = replayed.changes.iter().map(|change| {
                let fields: Vec<_> = change.fields.iter().map(ToString::to_string).collect();
                format!("; event {} {}: {}", change.event_id, change.call, fields.join(", "))
            });
            format!("holds, {}{}", replayed.state.status().name(), changes.collect::<String>())
        }
        Err(ReplayFault::Malformed(error)) => format!("malformed: {error}"),
        Err(ReplayFault::Guest { event_id, fault }) => format!("while folding {event_id}: {fault}"),
    }
}

#[test]
fn what_the_guest_asks_for_stands_behind_the_event_that_it_folded() {
    assert_snapshot!(lines(&order_history()), @r"
    1 +0s WorkflowStarted
    2 +0s ActivityScheduled reserve
    3 +0s TimerStarted
    4 +1s ActivityCompleted
    5 +1s ActivityScheduled pay
    6 +2s ActivityCompleted
    7 +2s TimerCanceled 3
    8 +2s WorkflowCompleted
    ");
}

#[test]
fn a_decision_says_what_the_tables_need() {
    let (state, _, decisions) = fold(&mut Script(order), [started(), completed(2), completed(5)]).unwrap();
    let lines: String = decisions
        .iter()
        .map(|decision| {
            let effects = &decision.effects;
            format!(
                "at {} → {}: closed {:?} timers +{:?} -{:?} open {} {}\n",
                decision.expected,
                decision.next(),
                effects.activities_closed.iter().map(|id| id.0).collect::<Vec<_>>(),
                effects.timers_started.iter().map(|(id, at)| (id.0, at.ms_since(T0))).collect::<Vec<_>>(),
                effects.timers_closed.iter().map(|id| id.0).collect::<Vec<_>>(),
                decision.open_activities,
                decision.closed.as_ref().map_or("running", |closed| closed.status.name()),
            )
        })
        .collect();
    assert_snapshot!(lines, @r"
    at 1 → 4: closed [] timers +[(3, 5000)] -[] open 1 running
    at 4 → 6: closed [2] timers +[] -[] open 1 running
    at 6 → 9: closed [5] timers +[] -[3] open 0 completed
    ");
    assert_eq!(state.status(), RunStatus::Completed);
}

#[test]
fn the_same_calls_hold_and_the_first_difference_is_named() {
    use Comparison::{OtherDigest, OtherDigestStrict, SameDigest};
    let renamed = |id: EventId, input: &Input| match (input, id.0) {
        (Input::ActivityCompleted(_), 4) => vec![activity("charge", 2)],
        _ => order(id, input),
    };
    let swapped = |id: EventId, input: &Input| match input {
        Input::WorkflowStarted(_) => vec![timer(5_000), activity("reserve", 1)],
        _ => order(id, input),
    };
    let more = |id: EventId, input: &Input| {
        let mut calls = order(id, input);
        if id == EventId(4) {
            calls.push(timer(1));
        }
        calls
    };
    let less = |id: EventId, input: &Input| {
        let mut calls = order(id, input);
        calls.truncate(1);
        calls
    };
    let dearer = |id: EventId, input: &Input| match (input, id.0) {
        (Input::ActivityCompleted(_), 4) => vec![activity("pay", 3)],
        _ => order(id, input),
    };
    let reordered = |id: EventId, input: &Input| {
        let mut calls = order(id, input);
        if let Some(Command::ActivityScheduled(activity)) = calls.first_mut() {
            Arc::make_mut(activity).input = Payload::json_text(br#"{"b":1,"a":2}"#.to_vec());
        }
        calls
    };
    let history = order_history;
    assert_snapshot!(verdict(order, history(), SameDigest), @"holds, completed");
    let ordered = fold(
        &mut Script(|id, input: &Input| {
            let mut calls = order(id, input);
            if let Some(Command::ActivityScheduled(activity)) = calls.first_mut() {
                Arc::make_mut(activity).input = Payload::json_text(br#"{"a":2,"b":1}"#.to_vec());
            }
            calls
        }),
        [started()],
    )
    .unwrap()
    .1;
    assert_snapshot!(verdict(reordered, ordered, SameDigest), @r#"while folding 1: nondeterminism: at event 2 the history has ActivityScheduled reserve, the workflow did ActivityScheduled reserve; attributes: "these bytes" → "the same JSON in other bytes""#);
    assert_snapshot!(verdict(renamed, history(), SameDigest), @"while folding 4: nondeterminism: at event 5 the history has ActivityScheduled pay, the workflow did ActivityScheduled charge");
    assert_snapshot!(verdict(renamed, history(), OtherDigest), @"while folding 4: nondeterminism: at event 5 the history has ActivityScheduled pay, the workflow did ActivityScheduled charge");
    assert_snapshot!(verdict(swapped, history(), OtherDigest), @"while folding 1: nondeterminism: at event 2 the history has ActivityScheduled reserve, the workflow did TimerStarted");
    assert_snapshot!(verdict(more, history(), OtherDigest), @"while folding 4: nondeterminism: at event 6 the history has the end of the activation, the workflow did TimerStarted");
    assert_snapshot!(verdict(less, history(), OtherDigest), @"while folding 1: nondeterminism: at event 3 the history has TimerStarted, the workflow did the end of the activation");
    assert_snapshot!(verdict(dearer, history(), SameDigest), @"while folding 4: nondeterminism: at event 5 the history has ActivityScheduled pay, the workflow did ActivityScheduled pay; attributes.input.json: 2 → 3");
    assert_snapshot!(verdict(dearer, history(), OtherDigest), @"holds, completed; event 5 ActivityScheduled pay: attributes.input.json: 2 → 3");
    assert_snapshot!(verdict(dearer, history(), OtherDigestStrict), @"while folding 4: nondeterminism: at event 5 the history has ActivityScheduled pay, the workflow did ActivityScheduled pay; attributes.input.json: 2 → 3");
}

#[test]
fn every_prefix_of_a_history_replays_and_goes_on_to_the_same_end() {
    let history = order_history();
    let batches: Vec<_> = activations(history.clone()).collect();
    for cut in 0..=batches.len() {
        let replayed =
            replay(&mut Script(order), batches[..cut].to_vec(), replaying(Comparison::SameDigest)).unwrap();
        let mut events: Vec<Event> = batches[..cut].concat();
        let mut state = replayed.state;
        for batch in &batches[cut..] {
            let EventKind::Input(input) = batch[0].kind.clone() else {
                panic!("a batch begins with an input")
            };
            let activation = Activation::live(state, batch[0].time, input, Limits::default()).unwrap();
            let Activated { activation, .. } = Script(order).activate(activation);
            let folded = activation.finish().unwrap();
            state = folded.state;
            events.extend(folded.events);
        }
        assert_eq!(events, history, "restarted behind activation {cut}");
    }
}

#[test]
fn notes_are_neither_fed_nor_checked() {
    let mut history = order_history();
    let moved = Note::VersionMoved(VersionMoved { from: Digest([7; 32]), to: Digest([8; 32]) });
    history.insert(3, Event { id: EventId(4), time: T0, kind: EventKind::Note(moved) });
    history.truncate(4);
    assert_snapshot!(verdict(order, history, Comparison::SameDigest), @"holds, running");
}

#[test]
fn a_call_that_breaks_a_rule_stops_the_guest() {
    let fault = |calls: Vec<Command>| {
        let guest = &mut Script(move |_, input: &Input| match input {
            Input::WorkflowStarted(_) => calls.clone(),
            _ => Vec::new(),
        });
        fold(guest, [started()]).map_or_else(|fault| fault.to_string(), |_| "taken".to_owned())
    };
    let cancel =
        |id| Command::ActivityCancelRequested(ActivityCancelRequested { scheduled_event_id: EventId(id) });
    let mut endless = activity("pay", 1);
    if let Command::ActivityScheduled(activity) = &mut endless {
        Arc::make_mut(activity).timeouts = ActivityTimeouts::default();
    }
    let mut large = activity("pay", 1);
    if let Command::ActivityScheduled(activity) = &mut large {
        Arc::make_mut(activity).input.data = vec![0; 3 << 20];
    }
    let canceled = Command::WorkflowCanceled(WorkflowCanceled { details: Vec::new() });
    assert_snapshot!(fault(vec![cancel(2)]), @"no activity that event 2 scheduled is open");
    assert_snapshot!(fault(vec![activity("pay", 1), cancel(2), cancel(2)]), @"the cancellation of activity 2 was already requested");
    assert_snapshot!(fault(vec![Command::TimerCanceled(TimerCanceled { started_event_id: EventId(9) })]), @"no timer that event 9 started is open");
    assert_snapshot!(fault(vec![done(), timer(1)]), @"TimerStarted after the run was closed as completed");
    assert_snapshot!(fault(vec![endless]), @"activity pay has neither a start-to-close nor a schedule-to-close time-out");
    assert_snapshot!(fault(vec![large]), @"limit exceeded: the input of an activity has 3145746 bytes; at most 2097152 are allowed");
    assert_snapshot!(fault(vec![canceled]), @"a workflow cannot end as canceled: nobody asked it to");
    assert_snapshot!(fault(vec![timer(1); 51_200]), @"limit exceeded: a history has at most 51200 events");
    assert_snapshot!(fault((0..2_001).map(|n| activity("pay", n)).collect()), @"limit exceeded: a run has at most 2000 activities open at once");
}

#[test]
fn an_input_is_awaited_once() {
    let (state, _, _) = fold(&mut Script(order), [started(), completed(2)]).unwrap();
    let cancel = Input::WorkflowCancelRequested(WorkflowCancelRequested { reason: String::new() });
    assert!(!state.awaits(&started()), "a run starts once");
    assert!(!state.awaits(&completed(2)), "it is closed");
    assert!(!state.awaits(&completed(9)), "there is none");
    assert!(state.awaits(&completed(5)));
    assert!(state.awaits(&fired(3)));
    assert!(state.awaits(&cancel));
    assert!(!RunState::new().awaits(&cancel), "nothing comes before the start");
    let closed = RunState::of(&order_history()).unwrap();
    assert!(!closed.awaits(&fired(3)) && !closed.awaits(&cancel), "a closed run awaits nothing");
}

#[test]
fn the_time_of_events_never_goes_back() {
    let state = RunState::of(&order_history()[..3]).unwrap();
    let activation = Activation::live(state, Timestamp(5), completed(2), Limits::default()).unwrap();
    assert_eq!(activation.input().0.time, T0);
}

#[test]
fn malformed_histories_are_refused_by_event() {
    let cut = |from: usize, to: usize| order_history()[from..to].to_vec();
    let check = |history| verdict(order, history, Comparison::SameDigest);
    let mut twice = cut(0, 4);
    twice.push(Event { id: EventId(5), ..twice[3].clone() });
    twice.remove(3);
    assert_snapshot!(check(cut(1, 4)), @"malformed: event 2 (ActivityScheduled) stands where an input should");
    assert_snapshot!(check(cut(3, 4)), @"malformed: event 4 stands where event 1 should");
    assert_snapshot!(check(twice), @"malformed: event 5 stands where event 4 should");
}

#[test]
fn packed_and_exported_histories_read_back() {
    let history = order_history();
    let mut read = Vec::new();
    unpack(&pack(&history), &mut read).unwrap();
    assert_eq!(read, history);

    let export = Export::of(history.clone(), Digest([7; 32]), T0).unwrap();
    let text = serde_json::to_vec_pretty(&export).unwrap();
    assert_eq!(Export::from_json(&text).unwrap(), export);
    assert_snapshot!(serde_json::to_string(&history[3]).unwrap(), @r#"{"event_id":4,"time":"2023-11-14T22:13:21.000Z","type":"ActivityCompleted","attributes":{"scheduled_event_id":2,"attempt":1,"result":{"base64":""}}}"#);
    assert_snapshot!(serde_json::to_string(&history[2]).unwrap(), @r#"{"event_id":3,"time":"2023-11-14T22:13:20.000Z","type":"TimerStarted","attributes":{"duration_ms":5000}}"#);
}

#[test]
fn unreadable_histories_are_refused_with_the_reason() {
    let read = |text: &str| {
        Export::from_json(text.as_bytes()).map_or_else(|error| error.to_string(), |_| "read".to_owned())
    };
    let export = serde_json::to_string(&Export::of(order_history(), Digest([7; 32]), T0).unwrap()).unwrap();
    assert_snapshot!(read("{}"), @"not an exported history: missing field `format` at line 1 column 2");
    assert_snapshot!(read(&export.replace("\"version\":1", "\"version\":2")), @"this is everfold-history version 2; only everfold-history version 1 can be read");
    assert!(
        read(&export.replace("TimerStarted", "TimerBegun")).contains("event 3: unknown variant `TimerBegun`")
    );
    assert_snapshot!(read(&export.replace("\"event_id\":4", "\"event_id\":5")), @"the history is not well-formed: event 5 stands where event 4 should");
    assert_snapshot!(read(&export.replacen("\"workflow_type\":\"order\"", "\"workflow_type\":\"echo\"", 1)), @"the header speaks of echo o-1 (01010101-0101-0101-0101-010101010101), the first event of order o-1 (01010101-0101-0101-0101-010101010101)");
    assert_snapshot!(unpack(&[3], &mut Vec::new()).unwrap_err().to_string(), @"a history body of an unknown version");
    assert_snapshot!(unpack(&[2], &mut Vec::new()).unwrap_err().to_string(), @"a history body is damaged: the compressed data is damaged");
    assert_snapshot!(unpack(&[1, 0x83], &mut Vec::new()).unwrap_err().to_string(), @"a history body is damaged: end of input bytes");
}

fn signal(name: &str, number: u32) -> Input {
    let input = Payload::json(&number).unwrap();
    Input::SignalReceived(Arc::new(SignalReceived { name: name.to_owned(), input, headers: Vec::new() }))
}

fn taken(id: u64, name: &str) -> Command {
    Command::SignalTaken(SignalTaken { received_event_id: EventId(id), name: name.to_owned() })
}

/// A guest that takes one signal `a` at each activation, through the host's own choice, and goes on
/// as new when it took two.
struct Taker(usize);

impl Guest for Taker {
    type Observations = ();

    fn activate(&mut self, mut activation: Activation) -> Activated<()> {
        let nondeterminism = |refused| match refused {
            Refused::Nondeterminism(error) => GuestFault::Nondeterminism(error),
            Refused::Illegal(_) | Refused::Limit(_) => unreachable!("it breaks no rule"),
        };
        let outcome = activation.take_signal("a").map_err(nondeterminism).and_then(|taken| {
            self.0 += usize::from(taken.is_some());
            if self.0 < 2 {
                return Ok(());
            }
            let next = WorkflowContinuedAsNew {
                new_run_id: activation.new_run_id(),
                workflow_type: "order".to_owned(),
                input: Payload::default(),
                headers: Vec::new(),
                version: VersionChoice::FollowRoute,
            };
            let command = Command::WorkflowContinuedAsNew(Box::new(next));
            activation.command(command).map(|_| ()).map_err(nondeterminism)
        });
        Activated { activation, outcome, observations: () }
    }
}

#[test]
fn signals_wait_until_they_are_taken_each_name_in_its_order() {
    let inputs = [started(), signal("b", 1), signal("a", 2), signal("b", 3), signal("a", 4)];
    let (state, history, decisions) = fold(&mut Taker(0), inputs).unwrap();
    assert_snapshot!(lines(&history), @r"
    1 +0s WorkflowStarted
    2 +1s SignalReceived
    3 +2s SignalReceived
    4 +2s SignalTaken a
    5 +3s SignalReceived
    6 +4s SignalReceived
    7 +4s SignalTaken a
    8 +4s WorkflowContinuedAsNew order
    ");
    assert_eq!(state.status(), RunStatus::ContinuedAsNew);
    let unread: Vec<_> =
        state.signals().unread().into_iter().map(|(id, signal)| (id.0, &*signal.name)).collect();
    assert_eq!(unread, [(2, "b"), (5, "b")]);
    assert_eq!(state.signals().received(), 4);
    let Some(EventKind::Command(Command::WorkflowContinuedAsNew(next))) =
        history.last().map(|event| &event.kind)
    else {
        panic!("it went on");
    };
    let closed = decisions.last().and_then(|decision| decision.closed.clone()).unwrap();
    assert_eq!(
        closed.outcome,
        everfold_core::decision::Outcome::ContinuedAs(next.new_run_id),
        "who waits is told where it goes on"
    );
    // The id that was drawn is taken from the record, whatever would be drawn now.
    let mut later = history.clone();
    for event in &mut later {
        if let EventKind::Command(Command::WorkflowContinuedAsNew(next)) = &mut event.kind {
            next.new_run_id = RunId([5; 16]);
        }
    }
    for history in [history, later] {
        replay(&mut Taker(0), activations(history), replaying(Comparison::SameDigest)).unwrap();
    }
}

#[test]
fn a_signal_can_only_be_taken_in_its_turn() {
    let take = |id, name: &'static str| {
        fold(
            &mut Script(
                move |at: EventId, _: &Input| if at.0 == 3 { vec![taken(id, name)] } else { Vec::new() },
            ),
            [started(), signal("a", 1), signal("a", 2)],
        )
    };
    assert!(take(2, "a").is_ok());
    let refused = |id, name| match take(id, name) {
        Err(GuestFault::Trap { message, .. }) => message,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(3, "a"), "event 3 is not the oldest unread signal `a`");
    assert_eq!(refused(2, "b"), "event 2 is not the oldest unread signal `b`");
}

#[test]
fn a_guest_that_takes_otherwise_than_recorded_diverges() {
    let history = fold(&mut Taker(0), [started(), signal("a", 1)]).unwrap().1;
    let nothing = |_: EventId, _: &Input| Vec::new();
    assert_snapshot!(
        verdict(nothing, history, Comparison::OtherDigest),
        @"while folding 2: nondeterminism: at event 3 the history has SignalTaken a, the workflow did the end of the activation"
    );
}

#[test]
fn a_terminated_run_is_closed_and_still_replays() {
    let mut history = fold(&mut Script(order), [started()]).unwrap().1;
    let note = |reason: &str| {
        EventKind::Note(Note::WorkflowTerminated(WorkflowTerminated { reason: reason.to_owned() }))
    };
    history.push(Event { id: EventId(4), time: T0, kind: note("by hand") });
    assert_snapshot!(verdict(order, history.clone(), Comparison::SameDigest), @"holds, terminated");
    let closed = everfold_core::decision::Closed::by(&history[3]).unwrap();
    assert_eq!(closed.status, RunStatus::Terminated);
    let everfold_core::decision::Outcome::Failure(failure) = closed.outcome else { panic!("a failure") };
    assert_eq!(failure.message, "the workflow was terminated: by hand");
    let state = RunState::of(&history).unwrap();
    assert!(!state.awaits(&signal("a", 1)));
    history.push(Event { id: EventId(5), time: T0, kind: note("twice") });
    assert!(RunState::of(&history).is_err());
    let bytes = pack(&history);
    let mut back = Vec::new();
    unpack(&bytes, &mut back).unwrap();
    assert_eq!(back, history);
}
