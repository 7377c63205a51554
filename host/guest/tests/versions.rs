//! Versions of the order workflows side by side: what one recorded, replayed on another and gone on with.

use std::sync::Arc;

use everfold_core::command::Command;
use everfold_core::divergence::{Nondeterminism, Replaying};
use everfold_core::event::{Event, EventKind, Input, Note, SignalReceived, VersionMoved};
use everfold_core::failure::Failure;
use everfold_core::fold::{GuestFault, activations};
use everfold_core::ids::EventId;
use everfold_core::payload::Payload;
use everfold_core::replay::{ReplayFault, replay};
use serde_json::{Value, json};

use super::script::Script;
use super::workflows::{OTHER, SAME, component, order, replayed};

/// The steps of an order, as the version `order` makes them.
const PAYMENT_FIRST: [&str; 4] =
    ["validate-order", "process-payment", "update-inventory", "arrange-shipping"];

/// The steps of an order, as the next version makes them.
const INVENTORY_FIRST: [&str; 4] =
    ["validate-order", "update-inventory", "process-payment", "arrange-shipping"];

/// What a step gives when all is well.
fn result(step: &str) -> Value {
    match step {
        "validate-order" => json!({"amount_cents": 2_500}),
        "process-payment" => json!({"payment_id": "p-1"}),
        "arrange-shipping" => json!({"shipment_id": "s-1", "tracking_number": "t-1"}),
        _ => json!({}),
    }
}

/// A run of `order` on that component that has made those steps.
fn run(name: &str, steps: &[&str]) -> Script {
    let mut script = Script::start(&component(name), "order", &order());
    complete(&mut script, steps);
    script
}

fn complete(script: &mut Script, steps: &[&str]) {
    for step in steps {
        script.complete(step, &result(step)).expect("the order goes on");
    }
}

/// A run that another component goes on with, replayed there.
fn moved(history: &[Event], to: &str) -> Script {
    let mut script = Script::new(&component(to));
    let replayed =
        replay(&mut script.instance, activations(history.to_vec()), OTHER).expect("the history replays");
    assert_eq!(replayed.changes, [], "nothing differs");
    script.state = replayed.state;
    script.history = history.to_vec();
    let note = Note::VersionMoved(VersionMoved { from: SAME.digest, to: OTHER.digest });
    let event = Event { id: script.state.next(), time: script.state.time(), kind: EventKind::Note(note) };
    script.state.apply(&event).expect("it runs");
    script.history.push(event);
    script
}

/// The difference at which a replay stops.
fn divergence(name: &str, history: &[Event], replaying: Replaying) -> Box<Nondeterminism> {
    match replayed(&component(name), history, replaying) {
        Err(ReplayFault::Guest { fault: GuestFault::Nondeterminism(difference), .. }) => difference,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_version_offers_the_same_workflows() {
    let offered = |name: &str| component(name).description().workflow_types.clone();
    let present = offered("order");
    assert_eq!(present.len(), 3);
    for name in ["order-next", "order-next-plain", "order-next-broken"] {
        assert_eq!(offered(name), present, "{name}");
    }
}

#[test]
fn the_plain_change_diverges_where_it_asks_for_the_inventory_instead_of_the_payment() {
    let open = run("order", &PAYMENT_FIRST[..1]).history;
    for history in [&open, &run("order", &PAYMENT_FIRST).history] {
        let difference = divergence("order-next-plain", history, OTHER);
        assert_eq!(difference.event_id, EventId(4));
        assert_eq!(difference.expected.to_string(), "ActivityScheduled process-payment");
        assert_eq!(difference.actual.to_string(), "ActivityScheduled update-inventory");
        let frames: Vec<&str> = difference.backtrace.lines().collect();
        assert!(frames.iter().any(|frame| frame.contains("order_next_plain::process_order")), "{frames:#?}");
    }
    // Before the place of the change there is nothing to differ.
    replayed(&component("order-next-plain"), &run("order", &[]).history, OTHER).expect("it holds");
}

#[test]
fn with_the_question_every_prefix_replays_and_goes_on_in_the_branch_that_it_was_in() {
    for made in 0..=PAYMENT_FIRST.len() {
        let history = run("order", &PAYMENT_FIRST[..made]).history;
        if made == PAYMENT_FIRST.len() {
            replayed(&component("order-next"), &history, OTHER).expect("a closed run replays too");
            continue;
        }
        let mut script = moved(&history, "order-next");
        let steps = if made == 0 { INVENTORY_FIRST } else { PAYMENT_FIRST };
        complete(&mut script, &steps[made..]);
        assert!(matches!(script.last_command(), Command::WorkflowCompleted(_)), "{:?}", script.lines());
        let marked = script.lines().iter().any(|line| line.contains("VersionMarkerRecorded"));
        assert_eq!(marked, made == 0, "only a run that had not come to the place: {:?}", script.lines());
        let again = replayed(&component("order-next"), &script.history, OTHER).expect("it still replays");
        assert_eq!(again.changes, []);
    }
}

#[test]
fn a_moved_run_undoes_the_steps_of_the_version_before_by_their_keys() {
    let history = run("order", &PAYMENT_FIRST[..3]).history;
    let mut script = moved(&history, "order-next");
    script
        .fail("arrange-shipping", Failure::non_retryable("ShipmentRefused", "the carrier does not go there"))
        .expect("the order is undone");
    let key_of = |step: &str| {
        history.iter().find_map(|event| match &event.kind {
            EventKind::Command(Command::ActivityScheduled(scheduled)) if scheduled.activity_type == step => {
                Some(scheduled.idempotency_key.clone())
            }
            EventKind::Command(_) | EventKind::Input(_) | EventKind::Note(_) => None,
        })
    };
    for (undo, step) in [("restock-inventory", "update-inventory"), ("refund-payment", "process-payment")] {
        let input: Value = script.activity().1.input.decode().expect("it is JSON");
        assert_eq!(input["step_key"].as_str(), key_of(step).as_deref(), "{undo}");
        script.complete(undo, &undone(undo)).expect("the order is undone");
    }
    script.complete("cancel-order", &json!({"canceled": true})).expect("the order is undone");
    assert!(matches!(script.last_command(), Command::WorkflowFailed(_)), "{:?}", script.lines());
}

fn undone(undo: &str) -> Value {
    match undo {
        "refund-payment" => json!({"refunded_cents": 2_500}),
        _ => json!({"restocked": true}),
    }
}

#[test]
fn a_fresh_run_is_marked_and_replays_to_the_byte() {
    let script = run("order-next", &INVENTORY_FIRST);
    assert_eq!(
        script.lines(),
        [
            "1 WorkflowStarted",
            "2 ActivityScheduled validate-order",
            "3 ActivityCompleted",
            "4 VersionMarkerRecorded inventory-first",
            "5 ActivityScheduled update-inventory",
            "6 ActivityCompleted",
            "7 ActivityScheduled process-payment",
            "8 ActivityCompleted",
            "9 ActivityScheduled arrange-shipping",
            "10 ActivityCompleted",
            "11 DetachedWorkflowStarted order-tracking",
            "12 WorkflowCompleted",
        ]
    );
    let replayed = replayed(&component("order-next"), &script.history, SAME).expect("it holds");
    assert_eq!(replayed.state.versions().of("inventory-first"), Some(1));
    assert_eq!(replayed.changes, []);
}

#[test]
fn a_marker_is_passed_over_by_a_version_that_does_not_ask() {
    let marked = run("order-next", &INVENTORY_FIRST).history;
    let plain = replayed(&component("order-next-plain"), &marked, OTHER).expect("it holds");
    assert_eq!(plain.changes, []);
    // The version before does something else there, marker or not.
    let difference = divergence("order", &marked, OTHER);
    assert_eq!(
        difference.to_string(),
        "at event 5 the history has ActivityScheduled update-inventory, the workflow did ActivityScheduled \
         process-payment"
    );
}

#[test]
fn the_bug_shows_behind_the_payment_live_and_on_a_replay_and_the_version_before_goes_on() {
    let said = |fault: &GuestFault| {
        let GuestFault::Trap { message, backtrace } = fault else { panic!("a panic is a trap: {fault}") };
        assert!(message.contains("no shelf has the goods that payment p-1 is for"), "{message}");
        assert!(backtrace.contains("order_next_broken::find_goods"), "{backtrace}");
    };
    // Live: the run stays where it was.
    let mut script = moved(&run("order", &PAYMENT_FIRST[..1]).history, "order-next-broken");
    let before = script.lines();
    said(&script.complete("process-payment", &result("process-payment")).expect_err("it panics"));
    assert_eq!(script.lines(), before);
    // On a replay, of a run that is past it.
    let paid = run("order", &PAYMENT_FIRST[..2]).history;
    let Err(ReplayFault::Guest { event_id, fault }) = replayed(&component("order-next-broken"), &paid, OTHER)
    else {
        panic!("it panics")
    };
    assert_eq!(event_id, EventId(5));
    said(&fault);
    // Rolled back, the blocked run goes on from where it stood.
    let mut back = Script::new(&component("order"));
    back.state =
        replay(&mut back.instance, activations(script.history.clone()), SAME).expect("it holds").state;
    back.history = script.history;
    complete(&mut back, &PAYMENT_FIRST[1..]);
    assert!(matches!(back.last_command(), Command::WorkflowCompleted(_)), "{:?}", back.lines());
}

#[test]
fn markers_replay_at_every_prefix() {
    let versioned = component("samples");
    let change = |id: &str| {
        Input::SignalReceived(Arc::new(SignalReceived {
            name: "change".to_owned(),
            input: Payload::json(&id).expect("it is JSON"),
            headers: Vec::new(),
        }))
    };
    let mut whole = Script::start(&versioned, "versioned", &json!({"count": 4, "latest": 3}));
    for id in ["a", "b", "a", "c"] {
        whole.feed(change(id)).expect("it goes on");
    }
    let markers: Vec<String> =
        whole.lines().into_iter().filter(|line| line.contains("VersionMarkerRecorded")).collect();
    assert_eq!(
        markers,
        ["4 VersionMarkerRecorded a", "7 VersionMarkerRecorded b", "12 VersionMarkerRecorded c"]
    );
    let Command::WorkflowCompleted(completed) = whole.last_command() else { panic!("{:?}", whole.lines()) };
    assert_eq!(completed.result.decode::<Value>().expect("it is JSON"), json!([3, 3, 3, 3]));

    let steps: Vec<Vec<Event>> = activations(whole.history.clone()).collect();
    for known in 1..steps.len() {
        let mut script = Script::new(&versioned);
        script.history = steps[..known].concat();
        let prefix = activations(script.history.clone());
        script.state = replay(&mut script.instance, prefix, SAME).expect("the prefix replays").state;
        for step in &steps[known..] {
            let EventKind::Input(input) = &step[0].kind else { panic!("{:?}", step[0]) };
            script.feed(input.clone()).expect("it goes on");
        }
        assert_eq!(script.history, whole.history, "after {known} activations");
    }
}
