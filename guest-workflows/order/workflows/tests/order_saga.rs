//! The order saga with scripted activities: all well, each step refused, each step's outcome unknown,
//! compensations that fail, cancellation.

mod support;

use std::time::Duration;

use everfold_guest::CancellationType;
use everfold_guest::failure::TimeoutType;
use everfold_guest::testing::{Answer, Closed, OpenActivity, START_MS, TestRun};
use order_workflows::saga::{ORDER_FAILED, order_saga};
use serde_json::json;
use support::{details, names, open, order, result, tracking_started, unnumbered, well};

const STEPS: [&str; 4] = ["reserve-inventory", "process-payment", "update-inventory", "arrange-shipping"];
const UNDOS: [&str; 4] =
    ["release-inventory-reservation", "refund-payment", "restock-inventory", "cancel-shipment"];

/// Starts an order and lets one activity answer as told, and all others well. Gives the run and
/// the activities in the order in which they were asked for.
fn drive(failing: &str, answer: &Answer) -> (TestRun, Vec<OpenActivity>) {
    let mut run = TestRun::start(order_saga, &order());
    let asked = support::drive(&mut run, failing, answer);
    (run, asked)
}

/// The steps up to and with `last`, then the undos from `first_undone` backwards.
fn expected(last: usize, undone: usize) -> Vec<&'static str> {
    let steps = STEPS[..=last].iter();
    steps.chain(UNDOS[..undone].iter().rev()).copied().collect()
}

#[test]
fn an_order_goes_through() {
    let (run, asked) = drive("none", &Answer::LeaveOpen);
    assert_eq!(names(&asked), STEPS);
    assert_eq!(
        run.closed(),
        Some(Closed::Completed(json!({
            "order_id": "o-1",
            "amount_cents": 3700,
            "reservation_id": "r-1",
            "payment_id": "p-1",
            "shipment_id": "s-1",
            "tracking_number": "t-1",
        }))),
    );
    assert_eq!(
        asked.iter().map(|activity| activity.input.clone()).collect::<Vec<_>>(),
        [
            json!({"order_id": "o-1", "items": [{"sku": "lamp", "quantity": 2}, {"sku": "bulb", "quantity": 4}]}),
            json!({"order_id": "o-1", "amount_cents": 3700, "currency": "EUR", "payment_token": "tok_ok"}),
            json!({"order_id": "o-1", "reservation_id": "r-1"}),
            json!({
                "order_id": "o-1",
                "ship_to": {"name": "Ada", "country": "DE", "postcode": "10115"},
                "items": [{"sku": "lamp", "quantity": 2}, {"sku": "bulb", "quantity": 4}],
            }),
        ],
    );
}

#[test]
fn a_step_that_is_refused_undoes_those_before_it() {
    for (index, step) in STEPS.into_iter().enumerate() {
        let (run, asked) = drive(step, &Answer::refuse("Refused", "no"));
        assert_eq!(names(&asked), expected(index, index), "{step}");
        let failure = run.failure();
        assert_eq!(failure.application_type(), Some(ORDER_FAILED));
        assert_eq!(
            failure.to_string(),
            format!("order o-1 could not be fulfilled: activity `{step}` failed: no",)
        );
    }
}

#[test]
fn a_step_whose_outcome_is_unknown_is_undone_too_and_first() {
    for (index, step) in STEPS.into_iter().enumerate() {
        for answer in [
            Answer::TimeOut(TimeoutType::StartToClose),
            Answer::exhaust("CarrierUnavailable", "nobody answers"),
            Answer::Complete(json!("not what was agreed")),
        ] {
            let (run, asked) = drive(step, &answer);
            assert_eq!(names(&asked), expected(index, index + 1), "{step}: {answer:?}");
            assert_eq!(run.failure().application_type(), Some(ORDER_FAILED));
        }
    }
}

#[test]
fn an_undo_names_the_key_of_its_step() {
    let (_, asked) = drive("arrange-shipping", &Answer::TimeOut(TimeoutType::StartToClose));
    let (steps, undos) = asked.split_at(STEPS.len());
    let keys: Vec<_> = steps.iter().map(|step| step.options.idempotency_key.clone()).collect();
    let named: Vec<_> =
        undos.iter().rev().map(|undo| undo.input["step_key"].as_str().map(str::to_owned)).collect();
    assert_eq!(named, keys);
    assert!(keys.iter().all(Option::is_some));
}

#[test]
fn options_are_those_of_the_contract() {
    let (_, asked) = drive("arrange-shipping", &Answer::TimeOut(TimeoutType::StartToClose));
    let expected = [
        ("reserve-inventory", 5_000, None),
        ("process-payment", 30_000, None),
        ("update-inventory", 5_000, None),
        ("arrange-shipping", 600_000, Some(10_000)),
    ];
    let (steps, undos) = asked.split_at(STEPS.len());
    for (activity, (name, start_to_close, heartbeat)) in steps.iter().zip(expected) {
        assert_eq!(activity.activity_type, name);
        let options = &activity.options;
        assert_eq!(options.timeouts.start_to_close, Some(start_to_close), "{name}");
        assert_eq!(options.timeouts.heartbeat, heartbeat, "{name}");
        assert_eq!(options.timeouts.schedule_to_close, None);
        assert_eq!(options.retry_policy.maximum_attempts, Some(5));
        assert_eq!(options.retry_policy.non_retryable_types, ["InvalidOrderError", "PaymentDeclined"]);
        assert_eq!(options.cancellation_type, CancellationType::WaitCancellationCompleted);
    }
    for activity in undos {
        let options = &activity.options;
        assert_eq!(options.timeouts.start_to_close, Some(10_000));
        assert_eq!(options.timeouts.schedule_to_close, Some(86_400_000));
        assert_eq!(options.retry_policy.maximum_attempts, None);
    }
    for activity in &asked {
        let policy = &activity.options.retry_policy;
        assert_eq!(policy.initial_interval, Some(1_000));
        assert_eq!(policy.backoff_coefficient, Some(2.0));
        assert_eq!(policy.maximum_interval, Some(60_000));
    }
}

#[test]
fn every_undo_that_fails_is_reported_and_the_others_run() {
    let mut run = TestRun::start(order_saga, &order());
    run.drive(|activity| match activity.activity_type.as_str() {
        "arrange-shipping" => Answer::refuse("ShipmentRefused", "no such place"),
        "refund-payment" => Answer::TimeOut(TimeoutType::ScheduleToClose),
        "restock-inventory" => Answer::refuse("Broken", "the shelf is gone"),
        _ => well(activity),
    });
    let failure = run.failure();
    assert_eq!(
        details(&failure),
        [
            json!({
                "compensation": "restock-inventory",
                "failure": "activity `restock-inventory` failed: the shelf is gone",
            }),
            json!({
                "compensation": "refund-payment",
                "failure": "activity `refund-payment` failed: a time-out passed",
            }),
        ],
    );
    let errors = run.logs().into_iter().filter(|line| line.starts_with("ERROR not undone")).count();
    assert_eq!(errors, 2);
}

#[test]
fn a_cancelled_order_is_undone_and_closes_as_cancelled() {
    let mut run = TestRun::start(order_saga, &order());
    run.complete(2, &json!({"reservation_id": "r-1"}));
    run.request_cancel("the customer said so");
    let [payment] = &run.open_activities()[..] else { panic!("{run:?}") };
    assert!(payment.cancel_requested);
    run.answer(payment.id, Answer::Cancel);
    let mut undone = Vec::new();
    run.drive(|activity| {
        undone.push(activity.activity_type.clone());
        well(activity)
    });
    assert_eq!(undone, ["refund-payment", "release-inventory-reservation"]);
    assert_eq!(run.closed(), Some(Closed::Canceled(Vec::new())));
}

#[test]
fn an_order_can_be_cancelled_at_every_step() {
    for index in 0..STEPS.len() {
        let mut run = TestRun::start(order_saga, &order());
        for step in &STEPS[..index] {
            run.complete(open(&run).id, &result(step));
        }
        run.request_cancel("");
        // The step gives way, or is done all the same: it is undone either way.
        let step = open(&run);
        if index % 2 == 0 {
            run.answer(step.id, Answer::Cancel);
        } else {
            run.complete(step.id, &result(STEPS[index]));
        }
        let asked = support::drive(&mut run, "none", &Answer::LeaveOpen);
        assert!(names(&asked).iter().eq(UNDOS[..=index].iter().rev()), "{asked:?}");
        assert_eq!(run.closed(), Some(Closed::Canceled(Vec::new())));
    }
}

#[test]
fn cancellation_while_undoing_leaves_it_a_failure() {
    let mut run = TestRun::start(order_saga, &order());
    run.complete(2, &result("reserve-inventory"));
    run.answer(open(&run).id, Answer::refuse("PaymentDeclined", "no"));
    run.request_cancel("too late");
    let asked = support::drive(&mut run, "none", &Answer::LeaveOpen);
    assert_eq!(names(&asked), ["release-inventory-reservation"]);
    assert_eq!(run.failure().application_type(), Some(ORDER_FAILED));
}

#[test]
fn a_shipped_order_is_tracked_and_measured() {
    let mut run = TestRun::start(order_saga, &order());
    for step in STEPS {
        run.pass(Duration::from_millis(500));
        run.complete(open(&run).id, &result(step));
    }
    let history = unnumbered(&run);
    let [.., tracking, completed] = &history[..] else { panic!("{run:?}") };
    assert_eq!(*tracking, tracking_started(START_MS + 2_000));
    assert!(completed.starts_with("WorkflowCompleted "), "{completed}");
    assert_eq!(
        run.metrics(),
        [
            "histogram order_processing_seconds 2 outcome=shipped",
            "counter order_amount_cents_total 3700 currency=EUR",
        ],
    );
}

#[test]
fn an_order_that_fails_or_is_cancelled_is_measured_and_not_tracked() {
    let (run, _) = drive("update-inventory", &Answer::refuse("Refused", "no"));
    assert_eq!(
        run.metrics(),
        [
            "counter saga_compensations_total 1 compensation=refund-payment outcome=completed",
            "counter saga_compensations_total 1 compensation=release-inventory-reservation outcome=completed",
            "histogram order_processing_seconds 0 outcome=failed",
        ],
    );
    let mut canceled = TestRun::start(order_saga, &order());
    canceled.request_cancel("");
    support::drive(&mut canceled, "reserve-inventory", &Answer::Cancel);
    assert_eq!(
        canceled.metrics(),
        [
            "counter saga_compensations_total 1 compensation=release-inventory-reservation outcome=completed",
            "histogram order_processing_seconds 0 outcome=canceled",
        ],
    );
    for run in [run, canceled] {
        assert!(!run.history().iter().any(|line| line.contains("DetachedWorkflowStarted")), "{run:?}");
    }
}

#[test]
fn the_status_tells_how_far_it_is() {
    let mut run = TestRun::start(order_saga, &order());
    let mut status = json!({
        "state": "running",
        "step": "reserve-inventory",
        "attempts": {},
        "done": [],
        "undone": [],
        "failure": null,
    });
    assert_eq!(run.query("status", &()), Ok(status.clone()));
    run.complete_at(2, 3, &result("reserve-inventory"));
    status["step"] = json!("process-payment");
    status["attempts"]["reserve-inventory"] = json!(3);
    status["done"] = json!(["reserve-inventory"]);
    assert_eq!(run.query("status", &()), Ok(status.clone()));
    for step in &STEPS[1..] {
        run.complete(open(&run).id, &result(step));
        status["attempts"][*step] = json!(1);
    }
    status["state"] = json!("completed");
    status["step"] = json!(null);
    status["done"] = json!(STEPS);
    assert_eq!(run.query("status", &()), Ok(status));
}

#[test]
fn the_status_tells_what_was_undone_and_why() {
    let mut run = TestRun::start(order_saga, &order());
    run.complete(open(&run).id, &result("reserve-inventory"));
    run.answer(open(&run).id, Answer::exhaust("PaymentGatewayUnavailable", "nobody answers"));
    let mut status = json!({
        "state": "compensating",
        "step": "refund-payment",
        "attempts": {"reserve-inventory": 1, "process-payment": 5},
        "done": ["reserve-inventory"],
        "undone": [],
        "failure": "activity `process-payment` failed: nobody answers",
    });
    assert_eq!(run.query("status", &()), Ok(status.clone()));
    run.complete(open(&run).id, &result("refund-payment"));
    status["step"] = json!("release-inventory-reservation");
    status["undone"] = json!(["refund-payment"]);
    assert_eq!(run.query("status", &()), Ok(status.clone()));
    run.answer(open(&run).id, Answer::refuse("Broken", "the shelf is gone"));
    status["state"] = json!("failed");
    status["step"] = json!(null);
    assert_eq!(run.query("status", &()), Ok(status));
}

#[test]
fn the_status_of_a_cancelled_order_says_so() {
    let mut run = TestRun::start(order_saga, &order());
    run.request_cancel("");
    support::drive(&mut run, "reserve-inventory", &Answer::Cancel);
    let status = run.query("status", &()).expect("it is answered after the end");
    assert_eq!(status["state"], "canceled");
    assert_eq!(status["undone"], json!(["release-inventory-reservation"]));
}

#[test]
fn an_order_that_breaks_a_rule_asks_for_nothing() {
    let mut bad = order();
    bad["items"] = json!([]);
    let run = TestRun::start(order_saga, &bad);
    assert_eq!(run.history(), ["1 WorkflowStarted", "2 WorkflowFailed InvalidOrderError"]);
    let status = run.query("status", &()).expect("it is answered after the end");
    assert_eq!(status["state"], "failed");
    assert_eq!(status["failure"], "the order is invalid: there is nothing in it");
}

#[test]
fn an_order_that_does_not_decode_fails_by_name() {
    let run = TestRun::start(order_saga, &json!({"order_id": "o-1"}));
    let failure = run.failure();
    assert_eq!(failure.application_type(), Some("InvalidInput"));
    assert!(failure.message().contains("missing field `customer_id`"), "{failure}");
}
