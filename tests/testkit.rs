//! The article's workflows, tested with the kit as its users would; and what the kit says when a test is wrong.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use everfold::activity::ActivityContext;
use everfold::runner::api::{Progress, RoutingChange, RoutingRequest, UpgradeRequest, WhoMoves};
use everfold::testing::{
    ActivityHarness, BEGINNING, Failure, Mock, Outcome, Problem, Restart, RunStatus, Stuck, TestEnvironment,
    TestEnvironmentBuilder, TimeMoves,
};
use everfold_core::ids::{Digest, Namespace};
use everfold_core::machine::RunStatus as Status;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use support::{component, saga_input};
use tokio::sync::watch;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What `process-payment` is given.
#[derive(Debug, Deserialize)]
struct Charge {
    amount_cents: i64,
    payment_token: String,
}

/// What it returns.
#[derive(Debug, Serialize)]
struct Payment {
    payment_id: String,
}

/// The workflow `order` with all its activities mocked.
fn order() -> TestEnvironmentBuilder {
    TestEnvironment::builder()
        .component(component("order"))
        .mock("validate-order", Mock::returns(json!({ "amount_cents": 2_500 })))
        .mock(
            "process-payment",
            Mock::call(|charge: Charge| {
                assert_eq!(charge.amount_cents, 2_500);
                Ok(Payment { payment_id: format!("paid by {}", charge.payment_token) })
            }),
        )
        .mock("update-inventory", Mock::returns(json!({})))
        .mock("arrange-shipping", Mock::returns(json!({ "shipment_id": "s-1", "tracking_number": "t-1" })))
}

/// The workflow `order-saga`: its steps, and how they are undone.
fn saga() -> TestEnvironmentBuilder {
    order()
        .mock("reserve-inventory", Mock::returns(json!({ "reservation_id": "r-1" })))
        .mock("release-inventory-reservation", Mock::returns(json!({ "released": true })))
        .mock("record-delivery", Mock::returns(json!({})))
}

#[tokio::test]
async fn an_order_is_validated_paid_taken_and_shipped() {
    let environment = order().open().await;
    let run = environment.start("order", "order-1", &saga_input()).await;
    let shipped: Value = run.result().await;
    assert_eq!(shipped["payment_id"], "paid by tok_ok");
    assert_eq!(
        environment.called(),
        ["validate-order", "process-payment", "update-inventory", "arrange-shipping"]
    );
    let charged = &environment.calls_of("process-payment")[0];
    assert_eq!((charged.attempt, charged.at), (1, BEGINNING));
    assert_eq!(charged.input["payment_token"], "tok_ok");
    insta::assert_snapshot!(run.history().await, @r#"
    1 WorkflowStarted order {"customer_id":100,"items":[{"sku":"book","quantity":2,"unit_price_cents":1250}],"currency":"EUR","payment_token":"tok_ok","ship_to":{"name":"Ada","country":"DE","postcode":"10115"},"order_id":"o-1"}
    2 ActivityScheduled validate-order {"order_id":"o-1","customer_id":100,"items":[{"sku":"book","quantity":2,"unit_price_cents":1250}],"currency":"EUR","payment_token":"tok_ok","ship_to":{"name":"Ada","country":"DE","postcode":"10115"}}
    3 ActivityCompleted validate-order {"amount_cents":2500}
    4 ActivityScheduled process-payment {"order_id":"o-1","amount_cents":2500,"currency":"EUR","payment_token":"tok_ok"}
    5 ActivityCompleted process-payment {"payment_id":"paid by tok_ok"}
    6 ActivityScheduled update-inventory {"order_id":"o-1","items":[{"sku":"book","quantity":2}]}
    7 ActivityCompleted update-inventory {}
    8 ActivityScheduled arrange-shipping {"order_id":"o-1","ship_to":{"name":"Ada","country":"DE","postcode":"10115"},"items":[{"sku":"book","quantity":2}]}
    9 ActivityCompleted arrange-shipping {"shipment_id":"s-1","tracking_number":"t-1"}
    10 DetachedWorkflowStarted order-tracking {"order_id":"o-1","shipment_id":"s-1","tracking_number":"t-1","since_ms":1767225600000,"checks":0}
    11 WorkflowCompleted {"order_id":"o-1","amount_cents":2500,"payment_id":"paid by tok_ok","shipment_id":"s-1","tracking_number":"t-1"}
    "#);
}

#[tokio::test]
async fn a_payment_that_fails_twice_is_tried_a_third_time() {
    let environment = order().open().await;
    let down = || Err(Failure::application("PaymentGatewayUnavailable", "try again"));
    environment.mock("process-payment", Mock::sequence([down(), down(), Ok(json!({ "payment_id": "p-3" }))]));
    let run = environment.start("order", "order-1", &saga_input()).await;
    assert_eq!(run.result::<Value>().await["payment_id"], "p-3");
    let attempts = environment.calls_of("process-payment");
    let times: Vec<_> = attempts.iter().map(|call| (call.attempt, call.at.ms_since(BEGINNING))).collect();
    assert_eq!(times, [(1, 0), (2, 1_000), (3, 3_000)], "a second's pause, then two");
    let keys: std::collections::BTreeSet<_> = attempts.iter().map(|call| &call.idempotency_key).collect();
    assert_eq!(keys.len(), 1, "one activity, one key");
}

#[tokio::test]
async fn a_saga_whose_payment_fails_releases_what_it_reserved() {
    let environment = saga().open().await;
    environment.mock("process-payment", Mock::fails(Failure::non_retryable("PaymentDeclined", "no money")));
    let run = environment.start("order-saga", "order-1", &saga_input()).await;
    let failure = run.failure().await;
    assert_eq!(failure.type_name(), "OrderFailed");
    assert!(failure.to_string().contains("PaymentDeclined: no money"), "{failure}");
    assert_eq!(
        environment.called(),
        ["reserve-inventory", "process-payment", "release-inventory-reservation"]
    );
    let (reserved, released) = (
        &environment.calls_of("reserve-inventory")[0],
        &environment.calls_of("release-inventory-reservation")[0],
    );
    assert_eq!(
        released.input["step_key"],
        json!(reserved.idempotency_key),
        "by the key under which it was reserved"
    );
    insta::assert_snapshot!(run.history().await, @r#"
    1 WorkflowStarted order-saga {"customer_id":100,"items":[{"sku":"book","quantity":2,"unit_price_cents":1250}],"currency":"EUR","payment_token":"tok_ok","ship_to":{"name":"Ada","country":"DE","postcode":"10115"},"order_id":"o-1"}
    2 ActivityScheduled reserve-inventory {"order_id":"o-1","items":[{"sku":"book","quantity":2}]}
    3 ActivityCompleted reserve-inventory {"reservation_id":"r-1"}
    4 ActivityScheduled process-payment {"order_id":"o-1","amount_cents":2500,"currency":"EUR","payment_token":"tok_ok"}
    5 ActivityFailed process-payment ActivityFailure: activity process-payment failed: PaymentDeclined: no money
    6 ActivityScheduled release-inventory-reservation {"order_id":"o-1","step_key":"<id 1>"}
    7 ActivityCompleted release-inventory-reservation {"released":true}
    8 WorkflowFailed OrderFailed: order o-1 could not be fulfilled: ActivityFailure: activity process-payment failed: PaymentDeclined: no money
    "#);
}

#[tokio::test]
async fn a_parcel_is_followed_for_three_days_until_a_signal_says_that_it_has_arrived() {
    let environment = saga().open().await;
    let parcel = json!({
        "order_id": "o-1", "shipment_id": "s-1", "tracking_number": "t-1", "since_ms": BEGINNING.0,
    });
    let run = environment.start("order-tracking", "parcel", &parcel).await;
    for day in 0..3 {
        assert_eq!(run.query::<Value>("status").await.unwrap()["checks"], json!(day));
        environment.advance(DAY).await;
    }
    run.signal("order-delivered", &json!({ "delivered_at_ms": 7 })).await.unwrap();
    let delivered: Value = run.result().await;
    assert_eq!(delivered, json!({ "order_id": "o-1", "delivered_at_ms": 7, "checks": 3 }));
    let chain = run.chain().await;
    assert_eq!(chain.len(), 4);
    for (day, history) in (0..).zip(&chain) {
        assert_eq!(history.events[0].time, BEGINNING.plus_ms(day * 86_400_000), "one run a day");
    }
    insta::assert_snapshot!(chain[0], @r#"
    1 WorkflowStarted order-tracking {"order_id":"o-1","shipment_id":"s-1","tracking_number":"t-1","since_ms":1767225600000}
    2 TimerStarted duration=1d summary=until the next check
    3 +1d TimerFired 2
    4 WorkflowContinuedAsNew order-tracking {"order_id":"o-1","shipment_id":"s-1","tracking_number":"t-1","since_ms":1767225600000,"checks":1,"next_check_ms":1767398400000} version=follow_route
    "#);
    insta::assert_snapshot!(chain[3], @r#"
    1 WorkflowStarted order-tracking {"order_id":"o-1","shipment_id":"s-1","tracking_number":"t-1","since_ms":1767225600000,"checks":3,"next_check_ms":1767571200000}
    2 TimerStarted duration=1d summary=until the next check
    3 SignalReceived order-delivered {"delivered_at_ms":7}
    4 SignalTaken order-delivered
    5 TimerCanceled 2
    6 ActivityScheduled record-delivery {"order_id":"o-1","shipment_id":"s-1","delivered_at_ms":7}
    7 ActivityCompleted record-delivery {}
    8 WorkflowCompleted {"order_id":"o-1","delivered_at_ms":7,"checks":3}
    "#);
}

/// Deploys a component, and lets new runs begin on it.
async fn promote(environment: &TestEnvironment, name: &str) -> Digest {
    let namespace = Namespace::default;
    let digest = environment.host().deploy(&namespace(), component(name)).await.unwrap().digest;
    let change = RoutingChange::Promote(Some(digest));
    let request = RoutingRequest { namespace: namespace(), workflow_type: "order".to_owned(), change };
    environment.host().route(request).await.unwrap();
    digest
}

#[tokio::test]
async fn both_branches_of_a_change_are_taken_by_runs_from_before_and_behind_it() {
    let environment = order().open().await;
    environment.mock("process-payment", Mock::returns(json!({ "payment_id": "p-1" })).taking(20 * SECOND));
    let before = environment.start("order", "before", &saga_input()).await;
    environment.until_called("process-payment", 1).await;
    let next = promote(&environment, "order-next").await;
    let request = UpgradeRequest {
        namespace: Namespace::default(),
        workflow_type: "order".to_owned(),
        digest: next,
        workflow_ids: Vec::new(),
        who_moves: WhoMoves::AllOrNone,
    };
    let report = environment.host().upgrade(request, &watch::channel(Progress::default()).0).await.unwrap();
    assert_eq!((report.moved, report.kept), (1, 0));
    environment.mock("process-payment", Mock::returns(json!({ "payment_id": "p-1" })));
    let behind = environment.start("order", "behind", &saga_input()).await;
    let (_, _): (Value, Value) = (before.result().await, behind.result().await);
    let (before, behind) = (before.history().await, behind.history().await);
    assert_eq!(before.activities()[1..3], ["process-payment", "update-inventory"], "{before}");
    assert_eq!(behind.activities()[1..3], ["update-inventory", "process-payment"], "{behind}");
    assert!(
        behind.lines().iter().any(|line| line.ends_with("VersionMarkerRecorded inventory-first version=1"))
    );
}

#[tokio::test]
async fn thirty_days_pass_while_a_test_waits() {
    let environment = TestEnvironment::builder().component(component("samples")).open().await;
    let month = 30 * DAY;
    let run = environment.start("sleeper", "month", &json!({ "sleep_ms": month.as_millis() as u64 })).await;
    let slept: Value = run.result().await;
    assert_eq!(
        slept["after"].as_i64().unwrap() - slept["before"].as_i64().unwrap(),
        month.as_millis() as i64
    );
    assert_eq!(environment.now(), BEGINNING.plus_ms(month.as_millis() as u64));
}

#[tokio::test]
async fn time_that_is_moved_by_hand_stands_until_it_is() {
    let builder = TestEnvironment::builder().component(component("samples")).time_moves(TimeMoves::ByHand);
    let environment = builder.open().await;
    let run = environment.start("sleeper", "run", &json!({ "sleep_ms": 10_000 })).await;
    let stuck = run.end().await.unwrap_err();
    assert!(matches!(stuck, Stuck::Waiting(_)), "{stuck}");
    assert!(
        stuck.to_string().contains("it waits for timer 2, which fires at 2026-01-01T00:00:10"),
        "{stuck}"
    );
    environment.advance(9 * SECOND).await;
    assert_eq!(run.description().await.status, Status::Running);
    environment.advance(SECOND).await;
    let slept: Value = run.result().await;
    assert_eq!(slept["after"], json!(BEGINNING.plus_ms(10_000).0));
}

#[tokio::test]
async fn an_activity_that_nobody_answers_for_is_named_at_once() {
    let environment = TestEnvironment::builder().component(component("order")).open().await;
    let run = environment.start("order", "order-1", &saga_input()).await;
    let stuck = run.end().await.unwrap_err();
    let Stuck::Activity(problem) = &stuck else { panic!("{stuck}") };
    let Problem::NotMocked(call) = &**problem else { panic!("{stuck}") };
    assert_eq!((call.activity_type.as_str(), call.attempt), ("validate-order", 1));
    assert!(stuck.to_string().starts_with("activity validate-order {"), "{stuck}");
    assert!(stuck.to_string().ends_with(" is not mocked"), "{stuck}");
}

#[tokio::test]
#[should_panic(expected = "is not mocked")]
async fn an_activity_that_nobody_answers_for_fails_the_test_that_does_not_wait() {
    let environment = TestEnvironment::builder().component(component("order")).open().await;
    environment.start("order", "order-1", &saga_input()).await;
    environment.until_called("validate-order", 1).await;
    environment.settle().await;
}

#[tokio::test]
async fn a_mock_that_panics_or_has_no_answer_left_fails_the_test() {
    let environment = order().open().await;
    environment.mock("validate-order", Mock::call(|_: Value| -> Result<(), Failure> { panic!("not 2,500") }));
    let stuck = environment.start("order", "order-1", &saga_input()).await.end().await.unwrap_err();
    assert!(stuck.to_string().ends_with(" panicked: not 2,500"), "{stuck}");

    let environment = order().open().await;
    environment.mock("process-payment", Mock::sequence([Err(Failure::application("Down", "later"))]));
    let stuck = environment.start("order", "order-1", &saga_input()).await.end().await.unwrap_err();
    assert!(stuck.to_string().contains("(attempt 2) has no answer: all 1 answers"), "{stuck}");
}

#[tokio::test]
async fn a_run_that_is_blocked_or_waits_for_nobody_ends_the_wait_with_the_reason() {
    let environment = saga().component(component("samples")).open().await;
    promote(&environment, "order-next-broken").await;
    let stuck = environment.start("order", "broken", &saga_input()).await.end().await.unwrap_err();
    assert!(matches!(stuck, Stuck::Blocked(_)), "{stuck}");
    assert!(stuck.to_string().starts_with("the run is blocked at event "), "{stuck}");

    let run = environment.start("signals", "waits", &json!({ "count": 1 })).await;
    run.signal("other", &1).await.unwrap();
    let stuck = run.end().await.unwrap_err();
    let expected = "it waits for a signal or another run; signals that it has not taken: other (signals waits, 2 events)";
    assert!(stuck.to_string().ends_with(expected), "{stuck}");
    run.signal("add", &5).await.unwrap();
    assert_eq!(run.result::<Vec<i64>>().await, [5]);
}

#[tokio::test]
async fn a_time_out_of_a_mock_that_never_answers_is_waited_for() {
    let environment = saga().open().await;
    environment.mock("reserve-inventory", Mock::never());
    environment.mock("cancel-order", Mock::returns(json!({ "canceled": true })));
    let run = environment.start("order-saga", "order-1", &saga_input()).await;
    let failure = run.failure().await;
    assert!(failure.chain().any(|cause| cause.type_name() == "TimedOut"), "{failure}");
    assert_eq!(environment.calls_of("reserve-inventory").len(), 5);
    assert_eq!(environment.called()[5], "release-inventory-reservation", "it may have happened");
}

#[tokio::test]
async fn what_was_recorded_outlives_the_host_and_calls_are_in_one_list() {
    for how in [Restart::Killed, Restart::InOrder] {
        let environment = order().open().await;
        environment
            .mock("process-payment", Mock::returns(json!({ "payment_id": "p-1" })).taking(20 * SECOND));
        let run = environment.start("order", "order-1", &saga_input()).await;
        environment.until_called("process-payment", 1).await;
        environment.restart(how).await;
        let end = run.end().await.unwrap();
        assert_eq!(end.status, RunStatus::Completed, "{how:?}");
        assert!(matches!(end.outcome, Outcome::Result(_)));
        assert_eq!(environment.calls_of("validate-order").len(), 1, "{how:?}: it is recorded");
        let attempts = environment.calls_of("process-payment").len();
        match how {
            Restart::Killed => assert_eq!(attempts, 2, "a new attempt"),
            // A stop in order lets an attempt end that ends in time.
            Restart::InOrder => assert!((1..=2).contains(&attempts), "{attempts}"),
        }
    }
}

/// Copies pages, and says how far it is.
async fn copy(context: ActivityContext, pages: u32) -> Result<u32, Failure> {
    let from = context.heartbeat_details::<u32>().unwrap_or(0);
    for page in from + 1..=pages {
        context.heartbeat(&page)?;
        tokio::task::yield_now().await;
    }
    Ok(pages - from)
}

#[tokio::test]
async fn an_activity_goes_on_where_the_attempt_before_stopped() {
    let attempted = ActivityHarness::of_fn("copy", copy).attempt(2).heartbeat_details(&2).run(&5).await;
    assert_eq!(attempted.result::<u32>(), 3);
    assert_eq!(attempted.heartbeats, [json!(3), json!(4), json!(5)]);
}

#[tokio::test]
async fn an_activity_that_is_asked_to_stop_stops_at_its_next_heartbeat() {
    let mut running = ActivityHarness::of_fn("copy", copy).begin(&1_000_000).await;
    assert!(running.next_heartbeat().await.is_some());
    running.cancel();
    let attempted = running.end().await;
    assert!(attempted.is_canceled(), "{:?}", attempted.outcome);
    assert!(attempted.heartbeats.len() < 1_000_000);
}

#[tokio::test]
async fn an_activity_that_falls_silent_runs_out_of_time() {
    let silent = |context: ActivityContext, (): ()| async move {
        context.heartbeat(&"hello")?;
        context.cancelled().await;
        std::future::pending::<Result<(), Failure>>().await
    };
    let harness = ActivityHarness::of_fn("silent", silent).heartbeat_timeout(10 * SECOND);
    let running = harness.start_to_close(60 * SECOND).begin(&()).await;
    running.advance(10 * SECOND);
    let attempted = running.end().await;
    assert_eq!(attempted.failure().message, "there was no heartbeat for 10000 ms");
    assert_eq!(attempted.heartbeats, [json!("hello")]);
}
