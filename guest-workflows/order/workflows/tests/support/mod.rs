//! What the tests of the order workflows share: an order, and activities that answer.

#![allow(dead_code, reason = "each test uses its own part of it")]

use everfold_guest::failure::{Failure, FailureKind};
use everfold_guest::testing::{Answer, OpenActivity, TestRun};
use serde_json::{Value, json};

/// An order of 37.00 EUR.
pub(crate) fn order() -> Value {
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

/// What an activity gives when all is well.
pub(crate) fn result(activity_type: &str) -> Value {
    match activity_type {
        "validate-order" => json!({"amount_cents": 3700}),
        "reserve-inventory" => json!({"reservation_id": "r-1"}),
        "process-payment" => json!({"payment_id": "p-1"}),
        "update-inventory" | "record-delivery" => json!({}),
        "arrange-shipping" => json!({"shipment_id": "s-1", "tracking_number": "t-1"}),
        "release-inventory-reservation" => json!({"released": true}),
        "refund-payment" => json!({"refunded_cents": 3700}),
        "restock-inventory" => json!({"restocked": true}),
        "cancel-shipment" | "cancel-order" => json!({"canceled": true}),
        other => panic!("the workflow asked for `{other}`"),
    }
}

/// Answers well.
pub(crate) fn well(activity: &OpenActivity) -> Answer {
    Answer::Complete(result(&activity.activity_type))
}

/// Lets one activity answer as told and all others well, and gives them in the order in which they were
/// asked for.
pub(crate) fn drive(run: &mut TestRun, failing: &str, answer: &Answer) -> Vec<OpenActivity> {
    let mut asked = Vec::new();
    run.drive(|activity| {
        asked.push(activity.clone());
        if activity.activity_type == failing { answer.clone() } else { well(activity) }
    });
    asked
}

/// The types of activities.
pub(crate) fn names(asked: &[OpenActivity]) -> Vec<&str> {
    asked.iter().map(|activity| activity.activity_type.as_str()).collect()
}

/// The one activity that is open.
pub(crate) fn open(run: &TestRun) -> OpenActivity {
    let [activity] = &run.open_activities()[..] else { panic!("one activity is open: {run:?}") };
    activity.clone()
}

/// The details of the failure's outermost link.
pub(crate) fn details(failure: &Failure) -> Vec<Value> {
    let FailureKind::Application(outer) = failure.kind() else { panic!("{failure}") };
    outer.details.iter().map(|detail| detail.decode().expect("it is JSON")).collect()
}

/// The line of history that starts the tracking of the order.
pub(crate) fn tracking_started(since_ms: u64) -> String {
    let input = json!({
        "order_id": "o-1",
        "shipment_id": "s-1",
        "tracking_number": "t-1",
        "since_ms": since_ms,
        "checks": 0,
    });
    format!("DetachedWorkflowStarted order-tracking order-tracking-o-1 {input}")
}

/// The history without its numbers.
pub(crate) fn unnumbered(run: &TestRun) -> Vec<String> {
    let strip = |line: String| line.split_once(' ').map(|(_, rest)| rest.to_owned());
    run.history().into_iter().filter_map(strip).collect()
}
