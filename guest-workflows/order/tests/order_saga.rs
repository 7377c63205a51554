//! The order saga with scripted activities: all well, each step refused, each step's outcome unknown,
//! compensations that fail, cancellation.

use everfold_guest::failure::{FailureKind, TimeoutType};
use everfold_guest::testing::{Answer, Closed, OpenActivity, TestRun};
use order::saga::{ORDER_FAILED, order_saga};
use serde_json::{Value, json};

const STEPS: [&str; 4] = ["reserve-inventory", "process-payment", "update-inventory", "arrange-shipping"];
const UNDOS: [&str; 4] =
    ["release-inventory-reservation", "refund-payment", "restock-inventory", "cancel-shipment"];

fn order() -> Value {
    json!({
        "order_id": "o-1",
        "customer_id": 7,
        "items": [
            {"sku": "lamp", "quantity": 2, "unit_price_cents": 1250},
            {"sku": "bulb", "quantity": 4, "unit_price_cents": 300},
        ],
        "currency": "EUR",
        "payment_token": "tok_ok",
        "ship_to": {"name": "Ada", "country": "DE", "postcode": "10115"},
    })
}

/// What the activities give when all is well.
fn well(activity: &OpenActivity) -> Answer {
    Answer::Complete(match activity.activity_type.as_str() {
        "reserve-inventory" => json!({"reservation_id": "r-1"}),
        "process-payment" => json!({"payment_id": "p-1"}),
        "update-inventory" => json!({}),
        "arrange-shipping" => json!({"shipment_id": "s-1", "tracking_number": "t-1"}),
        "release-inventory-reservation" => json!({"released": true}),
        "refund-payment" => json!({"refunded_cents": 3700}),
        "restock-inventory" => json!({"restocked": true}),
        "cancel-shipment" => json!({"canceled": true}),
        other => panic!("the saga asked for `{other}`"),
    })
}

/// Starts an order and lets one activity answer as told, and all others well. Gives the run and
/// the activities in the order in which they were asked for.
fn drive(failing: &str, answer: &Answer) -> (TestRun, Vec<OpenActivity>) {
    let mut asked = Vec::new();
    let mut run = TestRun::start(order_saga, &order());
    run.drive(|activity| {
        asked.push(activity.clone());
        if activity.activity_type == failing { answer.clone() } else { well(activity) }
    });
    (run, asked)
}

fn names(asked: &[OpenActivity]) -> Vec<&str> {
    asked.iter().map(|activity| activity.activity_type.as_str()).collect()
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
    let (_, asked) = drive("process-payment", &Answer::TimeOut(TimeoutType::StartToClose));
    let [reserve, _, refund, ..] = &asked[..] else { panic!("{asked:?}") };
    for (activity, start_to_close, schedule_to_close, attempts) in
        [(reserve, 5_000, None, Some(5)), (refund, 10_000, Some(86_400_000), None)]
    {
        let options = &activity.options;
        assert_eq!(options.timeouts.start_to_close, Some(start_to_close));
        assert_eq!(options.timeouts.schedule_to_close, schedule_to_close);
        assert_eq!(options.retry_policy.initial_interval, Some(1_000));
        assert_eq!(options.retry_policy.backoff_coefficient, Some(2.0));
        assert_eq!(options.retry_policy.maximum_interval, Some(60_000));
        assert_eq!(options.retry_policy.maximum_attempts, attempts);
    }
    let final_types = &reserve.options.retry_policy.non_retryable_types;
    assert_eq!(final_types, &["InvalidOrderError", "PaymentDeclined"]);
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
    let FailureKind::Application(outer) = failure.kind() else { panic!("{failure}") };
    let details: Vec<Value> =
        outer.details.iter().map(|detail| detail.decode().expect("it is JSON")).collect();
    assert_eq!(
        details,
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
fn an_order_that_breaks_a_rule_asks_for_nothing() {
    let mut bad = order();
    bad["items"] = json!([]);
    let run = TestRun::start(order_saga, &bad);
    assert_eq!(run.history(), ["1 WorkflowStarted", "2 WorkflowFailed InvalidOrderError"]);
}

#[test]
fn an_order_that_does_not_decode_fails_by_name() {
    let run = TestRun::start(order_saga, &json!({"order_id": "o-1"}));
    let failure = run.failure();
    assert_eq!(failure.application_type(), Some("InvalidInput"));
    assert!(failure.message().contains("missing field `customer_id`"), "{failure}");
}
