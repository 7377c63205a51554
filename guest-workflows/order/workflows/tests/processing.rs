//! The workflow `order` with scripted activities: all well, each step failing in each way, undos that
//! fail, cancellation at each step, and what the customer is told.

mod support;

use everfold_guest::Failure;
use everfold_guest::failure::{FailureKind, RetryState, TimeoutType};
use everfold_guest::testing::{Answer, Closed, START_MS, TestRun};
use order_workflows::processing::{ORDER_PROCESSING_FAILED, process_order};
use serde_json::{Value, json};
use support::{details, drive, names, open, order, result, tracking_started, unnumbered};

const STEPS: [&str; 4] = ["validate-order", "process-payment", "update-inventory", "arrange-shipping"];

/// What a handler asks for when its step is known to have done nothing.
const HANDLED: [&[&str]; 4] = [
    &[],
    &["cancel-order"],
    &["refund-payment", "cancel-order"],
    &["restock-inventory", "refund-payment", "cancel-order"],
];

/// The undo of each step; checking an order needs none.
const UNDOS: [Option<&str>; 4] =
    [None, Some("refund-payment"), Some("restock-inventory"), Some("cancel-shipment")];

/// All that is asked for when a step fails whose outcome is known.
fn after_refusal(step: usize) -> Vec<&'static str> {
    STEPS[..=step].iter().chain(HANDLED[step]).copied().collect()
}

/// All that is asked for when nobody knows whether the failed step happened.
fn after_doubt(step: usize) -> Vec<&'static str> {
    STEPS[..=step].iter().chain(&UNDOS[step]).chain(HANDLED[step]).copied().collect()
}

#[test]
fn an_order_goes_through() {
    let mut run = TestRun::start(process_order, &order());
    let asked = drive(&mut run, "none", &Answer::LeaveOpen);
    assert_eq!(names(&asked), STEPS);
    let inputs: Vec<_> = asked.into_iter().map(|activity| activity.input).collect();
    let items = json!([{"sku": "lamp", "quantity": 2}, {"sku": "bulb", "quantity": 4}]);
    assert_eq!(
        inputs,
        [
            order(),
            json!({"order_id": "o-1", "amount_cents": 3700, "currency": "EUR", "payment_token": "tok_ok"}),
            json!({"order_id": "o-1", "items": items}),
            json!({
                "order_id": "o-1",
                "ship_to": {"name": "Ada", "country": "DE", "postcode": "10115"},
                "items": items,
            }),
        ],
    );
    let shipped = json!({
        "order_id": "o-1",
        "amount_cents": 3700,
        "payment_id": "p-1",
        "shipment_id": "s-1",
        "tracking_number": "t-1",
    });
    assert_eq!(run.closed(), Some(Closed::Completed(shipped.clone())));
    let history = unnumbered(&run);
    let [.., tracking, completed] = &history[..] else { panic!("{run:?}") };
    assert_eq!(*tracking, tracking_started(START_MS));
    assert_eq!(*completed, format!("WorkflowCompleted {shipped}"));
    assert_eq!(
        run.metrics(),
        [
            "histogram order_processing_seconds 0 outcome=shipped",
            "counter order_amount_cents_total 3700 currency=EUR",
        ],
    );
}

#[test]
fn a_step_that_is_refused_is_handled() {
    let told = [
        ("InvalidOrder", "Your order is not valid; nothing was charged."),
        ("PaymentDeclined", "Your payment was declined; nothing was charged."),
        ("OutOfStock", "Something that you ordered is out of stock; your payment has been refunded."),
        (
            "ShipmentRefused",
            "Your order cannot be delivered to the address that you gave; your payment has been refunded.",
        ),
    ];
    for (index, (cause, message)) in told.into_iter().enumerate() {
        let mut run = TestRun::start(process_order, &order());
        let asked = drive(&mut run, STEPS[index], &Answer::refuse(cause, "E-4711 at db:5432"));
        assert_eq!(names(&asked), after_refusal(index));
        let failure = run.failure();
        assert_eq!(failure.message(), message);
        let FailureKind::Application(outer) = failure.kind() else { panic!("{failure}") };
        assert_eq!(outer.type_, ORDER_PROCESSING_FAILED);
        assert!(outer.non_retryable);
        assert_eq!(outer.details.len(), 0);
        assert_eq!(
            failure.to_string(),
            format!("{message}: activity `{}` failed: E-4711 at db:5432", STEPS[index]),
            "the cause is kept",
        );
        let measured = run.metrics().pop();
        assert_eq!(measured.as_deref(), Some("histogram order_processing_seconds 0 outcome=failed"));
    }
}

#[test]
fn a_step_whose_outcome_is_unknown_is_undone_by_its_key() {
    let told = [
        "Your order could not be checked; nothing was charged.",
        "Your payment could not be completed; anything that was charged has been refunded.",
        "Your order could not be prepared; your payment has been refunded.",
        "Your order could not be shipped; your payment has been refunded.",
    ];
    for (index, message) in told.into_iter().enumerate() {
        for answer in [
            Answer::TimeOut(TimeoutType::StartToClose),
            Answer::exhaust("Unavailable", "nobody answers"),
            Answer::Complete(json!("not what was agreed")),
        ] {
            let mut run = TestRun::start(process_order, &order());
            let asked = drive(&mut run, STEPS[index], &answer);
            assert_eq!(names(&asked), after_doubt(index), "{answer:?}");
            assert_eq!(run.failure().message(), message);
            for (step, undo) in STEPS.into_iter().zip(UNDOS) {
                let find = |name| asked.iter().find(|activity| Some(activity.activity_type.as_str()) == name);
                if let (Some(step), Some(undo)) = (find(Some(step)), find(undo)) {
                    assert_eq!(undo.input["step_key"].as_str(), step.options.idempotency_key.as_deref());
                }
            }
        }
    }
}

#[test]
fn the_customer_is_never_told_of_anything_inside() {
    let inside = ["activity", "`", "-", "failed", "Unavailable", "Timeout", "E-4711"];
    for step in STEPS {
        for answer in [
            Answer::refuse("OrdersDatabaseUnavailable", "E-4711"),
            Answer::exhaust("CarrierUnavailable", "E-4711"),
            Answer::TimeOut(TimeoutType::Heartbeat),
        ] {
            let mut run = TestRun::start(process_order, &order());
            drive(&mut run, step, &answer);
            let failure = run.failure();
            assert!(!inside.iter().any(|word| failure.message().contains(word)), "{}", failure.message());
        }
    }
}

#[test]
fn the_order_is_closed_with_the_reason_that_the_customer_is_told() {
    let mut run = TestRun::start(process_order, &order());
    let asked = drive(&mut run, "process-payment", &Answer::refuse("PaymentDeclined", "no"));
    let closing = json!({"order_id": "o-1", "reason": "Your payment was declined"});
    assert_eq!(asked.last().map(|activity| activity.input.clone()), Some(closing));
}

#[test]
fn every_undo_that_fails_is_reported_and_the_others_run() {
    let mut run = TestRun::start(process_order, &order());
    let mut asked = Vec::new();
    run.drive(|activity| {
        asked.push(activity.clone());
        match activity.activity_type.as_str() {
            "arrange-shipping" => Answer::refuse("ShipmentRefused", "no such place"),
            "refund-payment" => Answer::TimeOut(TimeoutType::ScheduleToClose),
            "restock-inventory" | "cancel-order" => Answer::refuse("Broken", "the shelf is gone"),
            _ => support::well(activity),
        }
    });
    assert_eq!(names(&asked), after_refusal(3));
    let failure = run.failure();
    assert_eq!(
        failure.message(),
        "Your order cannot be delivered to the address that you gave; \
         your refund is delayed, and we are seeing to it.",
    );
    let gone = |name: &str| {
        let failure = format!("activity `{name}` failed: the shelf is gone");
        json!({"compensation": name, "failure": failure})
    };
    let refund = json!({
        "compensation": "refund-payment",
        "failure": "activity `refund-payment` failed: a time-out passed",
    });
    assert_eq!(details(&failure), [gone("restock-inventory"), refund, gone("cancel-order")]);
    let errors = run.logs().into_iter().filter(|line| line.starts_with("ERROR not undone")).count();
    assert_eq!(errors, 3);
    assert_eq!(
        run.metrics()[..3],
        [
            "counter saga_compensations_total 1 compensation=restock-inventory outcome=failed",
            "counter saga_compensations_total 1 compensation=refund-payment outcome=failed",
            "counter saga_compensations_total 1 compensation=cancel-order outcome=failed",
        ],
    );
}

/// A run that has made the steps before that one.
fn at_step(index: usize) -> TestRun {
    let mut run = TestRun::start(process_order, &order());
    for step in &STEPS[..index] {
        run.complete(open(&run).id, &result(step));
    }
    run
}

#[test]
fn an_order_cancelled_at_a_step_that_gives_way_is_undone_and_closes_as_cancelled() {
    for index in 0..STEPS.len() {
        let mut run = at_step(index);
        run.request_cancel("the customer said so");
        let step = open(&run);
        assert!(step.cancel_requested);
        run.answer(step.id, Answer::Cancel);
        let asked = drive(&mut run, "none", &Answer::LeaveOpen);
        assert_eq!(names(&asked), after_doubt(index)[index + 1..]);
        assert_eq!(run.closed(), Some(Closed::Canceled(Vec::new())));
        let status = run.query("status", &()).expect("it is answered after the end");
        assert_eq!(status["state"], "canceled");
        let told = status["failure"].as_str().unwrap_or_default();
        assert!(told.starts_with("Your order was cancelled; "), "{told}");
    }
}

#[test]
fn an_order_cancelled_at_a_step_that_is_done_all_the_same_is_undone_from_there() {
    for (index, step) in STEPS.into_iter().enumerate() {
        let mut run = at_step(index);
        run.request_cancel("");
        run.complete(open(&run).id, &result(step));
        let asked = drive(&mut run, "none", &Answer::LeaveOpen);
        match HANDLED.get(index + 1) {
            Some(handled) => assert_eq!(names(&asked), *handled),
            None => {
                let all = ["cancel-shipment", "restock-inventory", "refund-payment", "cancel-order"];
                assert_eq!(names(&asked), all);
            }
        }
        assert_eq!(run.closed(), Some(Closed::Canceled(Vec::new())));
    }
}

#[test]
fn a_step_that_fails_and_is_not_tried_again_because_of_the_cancellation_closes_as_cancelled() {
    let mut run = at_step(1);
    run.request_cancel("");
    let failure = Failure::application("PaymentGatewayUnavailable", "nobody answers");
    run.answer(open(&run).id, Answer::Fail { retry_state: RetryState::CancelRequested, failure });
    let asked = drive(&mut run, "none", &Answer::LeaveOpen);
    assert_eq!(names(&asked), ["refund-payment", "cancel-order"]);
    assert_eq!(run.closed(), Some(Closed::Canceled(Vec::new())));
}

#[test]
fn cancellation_while_undoing_changes_nothing() {
    let mut run = at_step(2);
    run.answer(open(&run).id, Answer::refuse("OutOfStock", "none left"));
    assert_eq!(open(&run).activity_type, "refund-payment");
    run.request_cancel("too late");
    assert!(!open(&run).cancel_requested);
    let asked = drive(&mut run, "none", &Answer::LeaveOpen);
    assert_eq!(names(&asked), ["refund-payment", "cancel-order"]);
    assert_eq!(run.failure().application_type(), Some(ORDER_PROCESSING_FAILED));
}

#[test]
fn the_status_tells_each_stage() {
    let ask = |run: &TestRun| run.query("status", &()).expect("it is always answered");
    let mut run = TestRun::start(process_order, &order());
    assert_eq!(ask(&run)["step"], "validate-order");
    run.complete_at(open(&run).id, 2, &result("validate-order"));
    run.answer(open(&run).id, Answer::exhaust("PaymentGatewayUnavailable", "nobody answers"));
    let mut status = json!({
        "state": "compensating",
        "step": "refund-payment",
        "attempts": {"validate-order": 2, "process-payment": 5},
        "done": ["validate-order"],
        "undone": [],
        "failure": "Your payment could not be completed",
    });
    assert_eq!(ask(&run), status);
    run.complete(open(&run).id, &result("refund-payment"));
    status["step"] = json!("cancel-order");
    status["undone"] = json!(["refund-payment"]);
    assert_eq!(ask(&run), status);
    run.complete(open(&run).id, &result("cancel-order"));
    status["state"] = json!("failed");
    status["step"] = Value::Null;
    status["undone"] = json!(["refund-payment", "cancel-order"]);
    status["failure"] =
        json!("Your payment could not be completed; anything that was charged has been refunded.");
    assert_eq!(ask(&run), status);
}
