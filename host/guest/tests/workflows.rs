//! The guests of `guest-workflows/`: workflows in Rust, through the SDK and the engine.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use everfold_core::command::Command;
use everfold_core::divergence::Replaying;
use everfold_core::event::{Event, EventKind, Input, TimerFired, WorkflowCancelRequested};
use everfold_core::failure::Failure;
use everfold_core::fold::{GuestFault, activations};
use everfold_core::ids::{Digest, EventId};
use everfold_core::payload::Payload;
use everfold_core::replay::{ReplayFault, Replayed, replay};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::script::{Script, started};
use super::{engine, guest};
use crate::guest::{LoadedComponent, Observation};

/// A guest, compiled once for all tests.
pub(super) fn component(name: &str) -> LoadedComponent {
    static LOADED: LazyLock<Mutex<BTreeMap<String, LoadedComponent>>> = LazyLock::new(Mutex::default);
    let mut loaded = LOADED.lock();
    let load = || engine().load(&guest(name)).expect("the guest is sound");
    loaded.entry(name.to_owned()).or_insert_with(load).clone()
}

/// An order of 25.00 EUR.
pub(super) fn order() -> Value {
    json!({
        "order_id": "o-1",
        "customer_id": 7,
        "items": [{"sku": "book", "quantity": 2, "unit_price_cents": 1_250}],
        "currency": "EUR",
        "payment_token": "tok_ok",
        "ship_to": {"name": "Ada", "country": "GB", "postcode": "NW1"},
    })
}

/// The whole way of an order that goes well.
fn shipped(component: &LoadedComponent) -> Script {
    let mut script = Script::start(component, "order-saga", &order());
    for (activity, result) in [
        ("reserve-inventory", json!({"reservation_id": "r-1"})),
        ("process-payment", json!({"payment_id": "p-1"})),
        ("update-inventory", json!({})),
        ("arrange-shipping", json!({"shipment_id": "s-1", "tracking_number": "t-1"})),
    ] {
        script.complete(activity, &result).expect("the saga goes on");
    }
    script
}

/// What the script says that recorded its histories.
pub(super) const SAME: Replaying = Replaying::with(Digest([0; 32]));
/// Another component.
pub(super) const OTHER: Replaying = Replaying::with(Digest([1; 32]));

/// What a replay on a fresh instance says.
pub(super) fn replayed(
    component: &LoadedComponent,
    history: &[Event],
    replaying: Replaying,
) -> Result<Replayed, ReplayFault> {
    let mut instance = component.instantiate().expect("the component starts");
    replay(&mut instance, activations(history.to_vec()), replaying)
}

/// The difference at which a replay of the order saga stops, and the input folded then.
fn divergence(history: &[Event]) -> (EventId, Box<everfold_core::divergence::Nondeterminism>) {
    match replayed(&component("order"), history, SAME) {
        Err(ReplayFault::Guest { event_id, fault: GuestFault::Nondeterminism(difference) }) => {
            (event_id, difference)
        }
        other => panic!("{other:?}"),
    }
}

fn scheduled(event: &mut Event) -> &mut everfold_core::command::ActivityScheduled {
    match &mut event.kind {
        EventKind::Command(Command::ActivityScheduled(scheduled)) => Arc::make_mut(scheduled),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_order_is_shipped_and_its_history_replays() {
    let component = component("order");
    let script = shipped(&component);
    assert_eq!(
        script.lines(),
        [
            "1 WorkflowStarted",
            "2 ActivityScheduled reserve-inventory",
            "3 ActivityCompleted",
            "4 ActivityScheduled process-payment",
            "5 ActivityCompleted",
            "6 ActivityScheduled update-inventory",
            "7 ActivityCompleted",
            "8 ActivityScheduled arrange-shipping",
            "9 ActivityCompleted",
            "10 DetachedWorkflowStarted order-tracking",
            "11 WorkflowCompleted",
        ]
    );
    let Command::WorkflowCompleted(completed) = script.last_command() else {
        panic!("{:?}", script.last_command());
    };
    assert_eq!(
        completed.result.decode::<Value>().expect("it is JSON"),
        json!({
            "order_id": "o-1", "amount_cents": 2_500, "reservation_id": "r-1", "payment_id": "p-1",
            "shipment_id": "s-1", "tracking_number": "t-1",
        })
    );
    let Observation::Log { message, fields, .. } = &script.observations[0] else { panic!("a line") };
    assert_eq!(message, "order accepted");
    assert!(fields.contains(&("amount_cents".to_owned(), "2500".to_owned())), "{fields:?}");

    let replayed = replayed(&component, &script.history, SAME).expect("it holds");
    assert_eq!(replayed.state.next(), EventId(12));
    assert_eq!(replayed.changes, []);
}

#[test]
fn two_live_runs_with_the_same_inputs_have_the_same_history() {
    let one = shipped(&component("order")).history;
    assert_eq!(one, shipped(&component("order")).history);
}

#[test]
fn a_replayed_instance_goes_on_at_every_prefix() {
    let component = component("order");
    let whole = shipped(&component).history;
    let steps: Vec<Vec<Event>> = activations(whole.clone()).collect();
    for known in 1..steps.len() {
        let mut script = Script::new(&component);
        let recorded = steps[..known].to_vec();
        script.history = recorded.concat();
        script.state = replay(&mut script.instance, recorded, SAME).expect("the prefix replays").state;
        for step in &steps[known..] {
            let EventKind::Input(input) = &step[0].kind else { panic!("{:?}", step[0]) };
            script.feed(input.clone()).expect("the saga goes on");
        }
        let times_aside =
            |events: &[Event]| events.iter().map(|event| event.kind.clone()).collect::<Vec<_>>();
        assert_eq!(times_aside(&script.history), times_aside(&whole), "after {known} activations");
    }
}

#[test]
fn a_declined_payment_undoes_the_reservation_and_fails_the_run() {
    let mut script = Script::start(&component("order"), "order-saga", &order());
    script.complete("reserve-inventory", &json!({"reservation_id": "r-1"})).expect("the saga goes on");
    script
        .fail("process-payment", Failure::non_retryable("PaymentDeclined", "no cover"))
        .expect("the saga undoes");
    script.complete("release-inventory-reservation", &json!({"released": true})).expect("the saga ends");
    let Command::WorkflowFailed(failed) = script.last_command() else {
        panic!("{:?}", script.last_command());
    };
    let types: Vec<&str> = failed.failure.chain().map(Failure::type_name).collect();
    assert_eq!(types, ["OrderFailed", "ActivityFailure", "PaymentDeclined"]);
}

#[test]
fn a_cancelled_sleeper_ends_as_canceled() {
    let mut script = Script::start(&component("samples"), "sleeper", &json!({"sleep_ms": 60_000}));
    script
        .feed(Input::WorkflowCancelRequested(WorkflowCancelRequested { reason: "enough".to_owned() }))
        .expect("it unwinds");
    assert!(matches!(script.last_command(), Command::WorkflowCanceled(_)), "{:?}", script.lines());
}

#[test]
fn a_timer_fires_and_time_is_the_events() {
    let mut script = Script::start(&component("samples"), "sleeper", &json!({"sleep_ms": 60_000}));
    let (timer, _) = script.state.timers().iter().next().expect("it sleeps");
    script.feed(Input::TimerFired(TimerFired { started_event_id: timer })).expect("it wakes");
    let Command::WorkflowCompleted(completed) = script.last_command() else {
        panic!("{:?}", script.last_command());
    };
    assert_eq!(
        completed.result.decode::<Value>().expect("it is JSON"),
        json!({"before": script.history[0].time.0, "after": script.history[2].time.0})
    );
}

#[test]
fn another_activity_diverges_there_with_the_guests_backtrace() {
    let mut history = shipped(&component("order")).history;
    scheduled(&mut history[5]).activity_type = "pack".to_owned();
    let (folding, difference) = divergence(&history);
    assert_eq!(folding, EventId(5));
    assert_eq!(
        difference.to_string(),
        "at event 6 the history has ActivityScheduled pack, the workflow did ActivityScheduled \
         update-inventory"
    );
    let frames: Vec<&str> = difference.backtrace.lines().collect();
    assert!(frames[0].contains("host::schedule_activity"), "{frames:#?}");
    let is_place = |frame: &&str| {
        frame.starts_with("order_workflows::saga::order_saga")
            && frame.contains("order/workflows/src/saga.rs:")
    };
    assert!(frames.iter().any(is_place), "the workflow is named with its file and line: {frames:#?}");
    let last = frames.last().copied().unwrap_or_default();
    assert!(last.starts_with("everfold:workflow/workflow@0.1.0#activate"), "{frames:#?}");
}

#[test]
fn other_bytes_diverge_on_the_same_digest_and_are_changes_on_another() {
    let mut history = shipped(&component("order")).history;
    scheduled(&mut history[3]).input = Payload::json(&json!({"amount_cents": 1})).expect("it is JSON");
    let (_, difference) = divergence(&history);
    assert_eq!(difference.event_id, EventId(4));
    assert!(difference.fields.iter().any(|field| field.path.starts_with("attributes.input")), "{difference}");

    let component = component("order");
    let replayed = replayed(&component, &history, OTHER).expect("it is no divergence");
    assert_eq!(replayed.changes.len(), 1);
    assert_eq!(replayed.changes[0].event_id, EventId(4));
}

#[test]
fn a_recorded_call_that_is_not_made_and_one_too_many_diverge() {
    let whole = shipped(&component("order")).history;

    let mut longer = whole[..4].to_vec();
    let more = Event { id: EventId(5), ..longer[3].clone() };
    longer.push(more);
    let (_, difference) = divergence(&longer);
    assert_eq!(
        difference.to_string(),
        "at event 5 the history has ActivityScheduled process-payment, the workflow did the end of the \
         activation"
    );

    let (_, difference) = divergence(&whole[..3]);
    assert_eq!(
        difference.to_string(),
        "at event 4 the history has the end of the activation, the workflow did ActivityScheduled \
         process-payment"
    );
}

#[test]
fn descriptions_and_idempotency_keys() {
    let samples = component("samples");
    let mut names: Vec<&str> = samples
        .description()
        .workflow_types
        .iter()
        .map(|workflow_type| workflow_type.name.as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "canceller",
            "cart",
            "described",
            "echo",
            "family",
            "fan-out",
            "four-steps",
            "long",
            "messenger",
            "program",
            "race",
            "random",
            "remote",
            "retried",
            "signals",
            "sleeper",
            "talkative",
            "versioned"
        ]
    );
    assert!(samples.description().sdk.starts_with("everfold-guest "), "{}", samples.description().sdk);
    assert!(samples.description().workflow_types.iter().all(|known| !known.summary.is_empty()));

    let script = Script::start(&samples, "fan-out", &json!({"width": 2}));
    let keys: Vec<&str> =
        script.state.activities().iter().map(|(_, open)| open.scheduled.idempotency_key.as_str()).collect();
    let run = "07070707-0707-0707-0707-070707070707";
    assert_eq!(keys, [format!("{run}/2"), format!("{run}/3")]);
}

#[test]
fn a_type_that_the_component_does_not_have_is_a_fault() {
    let mut script = Script::new(&component("samples"));
    let fault = script.feed(started("no-such-type", &json!({}))).expect_err("there is none");
    assert!(fault.to_string().ends_with("this component has no workflow type `no-such-type`"), "{fault}");
}

/// The fault with which a hostile workflow stops.
fn stopped(workflow_type: &str) -> GuestFault {
    let mut script = Script::new(&component("hostile"));
    script.feed(started(workflow_type, &json!(null))).expect_err("it must be stopped")
}

#[test]
fn spinning_is_stopped_also_behind_a_step() {
    let time = "limit exceeded: an activation may take at most 50ms";
    let fault = stopped("spin");
    assert_eq!(fault.to_string(), time);
    assert!(
        matches!(fault, GuestFault::LimitExceeded { backtrace, .. } if backtrace.contains("loop_for_ever"))
    );

    let mut script = Script::start(&component("hostile"), "spin-after-step", &json!(null));
    let before = script.lines();
    assert_eq!(script.complete("noop", &json!(null)).expect_err("it must be stopped").to_string(), time);
    assert_eq!(script.lines(), before);
}

#[test]
fn eating_memory_is_stopped_and_costs_the_host_no_more_than_the_limit() {
    let engine = super::engine_with(crate::guest::EngineSettings::default());
    let hostile = engine.load(&guest("hostile")).expect("the guest is sound");
    // Sixteen guests that each reach their 64 MiB: what a stopped one took must be given back.
    for _ in 0..16 {
        let fault =
            Script::new(&hostile).feed(started("eat-memory", &json!(null))).expect_err("it must be stopped");
        assert_eq!(fault.to_string(), "limit exceeded: guest memory limit of 67108864 bytes");
        assert!(
            matches!(fault, GuestFault::LimitExceeded { backtrace, .. } if backtrace.contains("vec::from_elem"))
        );
    }
    let resident = resident_bytes();
    assert!(resident < 700 << 20, "{} MiB are resident", resident >> 20);
}

/// The process's resident memory (proc(5): the second number of `statm`, in pages of 4 KiB).
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string(Path::new("/proc/self/statm")).expect("Linux tells");
    let pages = statm.split(' ').nth(1).expect("it has seven numbers");
    pages.parse::<usize>().expect("it is a number") * 4096
}

#[test]
fn a_panic_says_what_where_and_by_which_way() {
    let GuestFault::Trap { message, backtrace } = stopped("panic") else { panic!("a panic is a trap") };
    assert!(message.starts_with("panicked at "), "{message}");
    assert!(message.contains("panicking.rs:"), "{message}");
    assert!(message.ends_with(": on purpose: the workflow's own fault"), "{message}");
    let places: Vec<Option<usize>> =
        ["inner", "middle", "outer"].map(|name| backtrace.find(&format!("panicking::{name}"))).into();
    assert!(places.iter().all(Option::is_some), "{backtrace}");
    assert!(places.is_sorted(), "innermost first: {backtrace}");
}

#[test]
fn a_panic_in_a_later_step_leaves_the_history_before_it() {
    let mut script = Script::start(&component("hostile"), "panic-third-step", &json!(null));
    script.complete("noop", &json!(null)).expect("the first step is sound");
    let fault = script.complete("noop", &json!(null)).expect_err("it panics");
    assert!(fault.to_string().contains("on purpose"), "{fault}");
    assert_eq!(script.lines().len(), 4);
}

#[test]
fn deep_recursion_traps() {
    let GuestFault::Trap { message, backtrace } = stopped("deep-recursion") else {
        panic!("an exhausted stack is a trap")
    };
    assert!(
        message == "the call stack of 524288 bytes is exhausted: the recursion is too deep"
            || message.contains("out of bounds"),
        "{message}"
    );
    assert!(backtrace.contains("greedy::depth"), "{backtrace}");
}
