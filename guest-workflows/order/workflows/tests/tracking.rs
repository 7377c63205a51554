//! The workflow `order-tracking`: days without news, news in every form, and none of it lost.

mod support;

use std::time::Duration;

use everfold_guest::failure::TimeoutType;
use everfold_guest::testing::{Answer, Closed, START_MS, TestRun};
use order_workflows::tracking::{ORDER_DELIVERED, order_tracking};
use serde_json::{Value, json};
use support::{open, unnumbered};

const DAY_MS: u64 = 86_400_000;

fn parcel(checks: u32) -> Value {
    json!({
        "order_id": "o-1",
        "shipment_id": "s-1",
        "tracking_number": "t-1",
        "since_ms": START_MS,
        "checks": checks,
    })
}

/// A parcel whose next check is due then.
fn checked(checks: u32, next_check_ms: u64) -> Value {
    let mut parcel = parcel(checks);
    parcel["next_check_ms"] = json!(next_check_ms);
    parcel
}

fn delivered(at_ms: u64, checks: u32) -> Option<Closed> {
    Some(Closed::Completed(json!({"order_id": "o-1", "delivered_at_ms": at_ms, "checks": checks})))
}

#[test]
fn after_three_days_without_news_the_parcel_arrives() {
    let mut run = TestRun::start(order_tracking, &parcel(0));
    for day in 1..=3 {
        assert_eq!(unnumbered(&run)[1], "TimerStarted 86400000 ms until the next check");
        assert!(run.fire_next_timer());
        let Some(Closed::ContinuedAsNew { input, .. }) = run.closed() else { panic!("{run:?}") };
        assert_eq!(input, checked(day, START_MS + u64::from(day + 1) * DAY_MS));
        run = run.next_run(order_tracking);
    }
    run.pass(Duration::from_millis(1));
    run.signal(ORDER_DELIVERED, &());
    let activity = open(&run);
    assert_eq!(activity.activity_type, "record-delivery");
    let now_ms = START_MS + 3 * DAY_MS + 1;
    assert_eq!(activity.input, json!({"order_id": "o-1", "shipment_id": "s-1", "delivered_at_ms": now_ms}),);
    assert_eq!(activity.options.timeouts.start_to_close, Some(10_000));
    assert_eq!(activity.options.timeouts.schedule_to_close, Some(DAY_MS));
    assert_eq!(activity.options.retry_policy.maximum_attempts, None);
    run.pass(Duration::from_secs(5));
    run.complete(activity.id, &json!({}));
    assert_eq!(run.closed(), delivered(now_ms, 3));
    assert_eq!(
        unnumbered(&run)[1..5],
        [
            "TimerStarted 86400000 ms until the next check",
            "SignalReceived order-delivered null",
            "SignalTaken 3 order-delivered",
            "TimerCanceled 2",
        ],
    );
}

#[test]
fn the_news_may_say_when_it_was() {
    let mut run = TestRun::start(order_tracking, &parcel(1));
    run.signal(ORDER_DELIVERED, &json!({"delivered_at_ms": START_MS - 60_000}));
    run.complete(open(&run).id, &json!({}));
    assert_eq!(run.closed(), delivered(START_MS - 60_000, 1));
}

#[test]
fn news_that_cannot_be_read_counts_as_of_now() {
    for nonsense in [json!({"delivered_at_ms": -1}), json!({}), json!("yesterday"), json!([])] {
        let mut run = TestRun::start(order_tracking, &parcel(0));
        run.pass(Duration::from_secs(7));
        run.signal(ORDER_DELIVERED, &nonsense);
        run.complete(open(&run).id, &json!({}));
        assert_eq!(run.closed(), delivered(START_MS + 7_000, 0), "{nonsense}");
        let warned =
            run.logs().iter().any(|line| line.starts_with("WARN the news of a delivery cannot be read"));
        assert!(warned, "{:?}", run.logs());
    }
}

#[test]
fn news_at_the_very_moment_of_the_timer_is_not_lost() {
    // The signal first: the timer is cancelled, and never fires.
    let mut run = TestRun::start(order_tracking, &parcel(0));
    run.pass(Duration::from_millis(DAY_MS));
    run.signal(ORDER_DELIVERED, &());
    assert!(!run.fire_next_timer());
    run.complete(open(&run).id, &json!({}));
    assert_eq!(run.closed(), delivered(START_MS + DAY_MS, 0));

    // The timer first: the signal reaches the next run.
    let mut run = TestRun::start(order_tracking, &parcel(0));
    assert!(run.fire_next_timer());
    let mut next = run.next_run(order_tracking);
    next.signal(ORDER_DELIVERED, &());
    next.complete(open(&next).id, &json!({}));
    assert_eq!(next.closed(), delivered(START_MS + DAY_MS, 1));
}

#[test]
fn days_do_not_drift_however_late_a_run_goes_on() {
    const HOUR: Duration = Duration::from_secs(60 * 60);
    let mut run = TestRun::start(order_tracking, &parcel(0));
    run.pass(HOUR * 27);
    assert!(run.fire_next_timer());
    let mut run = run.next_run(order_tracking);
    assert_eq!(
        unnumbered(&run)[1],
        "TimerStarted 75600000 ms until the next check",
        "the 21 hours that are left"
    );
    // Two days pass at once: the one that was missed is made up for.
    run.pass(HOUR * 48);
    assert!(run.fire_next_timer());
    let mut run = run.next_run(order_tracking);
    assert_eq!(unnumbered(&run)[1], "TimerStarted 0 ms until the next check");
    assert!(run.fire_next_timer());
    let Some(Closed::ContinuedAsNew { input, .. }) = run.closed() else { panic!("{run:?}") };
    assert_eq!(input, checked(3, START_MS + 4 * DAY_MS));
}

#[test]
fn a_second_signal_is_left_alone() {
    let mut run = TestRun::start(order_tracking, &parcel(0));
    run.signal(ORDER_DELIVERED, &());
    run.signal(ORDER_DELIVERED, &json!({"delivered_at_ms": 1}));
    run.complete(open(&run).id, &json!({}));
    assert_eq!(run.closed(), delivered(START_MS, 0));
    assert_eq!(run.unread_signals().len(), 1);
}

#[test]
fn signals_of_other_names_change_nothing() {
    let mut run = TestRun::start(order_tracking, &parcel(0));
    run.signal("order-lost", &());
    assert_eq!(run.open_activities(), []);
    assert!(run.fire_next_timer());
    let next = run.next_run(order_tracking);
    assert_eq!(next.unread_signals().len(), 1);
}

#[test]
fn cancelled_while_waiting_it_closes_as_cancelled() {
    let mut run = TestRun::start(order_tracking, &parcel(0));
    run.request_cancel("enough");
    assert_eq!(unnumbered(&run)[2..], ["WorkflowCancelRequested", "TimerCanceled 2", "WorkflowCanceled"],);
    assert_eq!(run.query("status", &()).map(|status| status["state"].clone()), Ok(json!("canceled")));
}

#[test]
fn cancelled_while_recording_it_still_records() {
    let mut run = TestRun::start(order_tracking, &parcel(0));
    run.signal(ORDER_DELIVERED, &());
    run.request_cancel("too late");
    let recording = open(&run);
    assert!(!recording.cancel_requested);
    run.complete(recording.id, &json!({}));
    assert_eq!(run.closed(), delivered(START_MS, 0));
}

#[test]
fn a_delivery_that_cannot_be_recorded_fails_the_run() {
    let mut run = TestRun::start(order_tracking, &parcel(0));
    run.signal(ORDER_DELIVERED, &());
    run.answer(open(&run).id, Answer::TimeOut(TimeoutType::ScheduleToClose));
    assert!(run.failure().is_timeout());
    assert_eq!(run.query("status", &()).map(|status| status["state"].clone()), Ok(json!("failed")));
}

#[test]
fn the_status_tells_which_parcel_and_since_when() {
    let mut run = TestRun::start(order_tracking, &parcel(2));
    let mut status = json!({
        "state": "running",
        "order_id": "o-1",
        "tracking_number": "t-1",
        "checks": 2,
        "since_ms": START_MS,
    });
    assert_eq!(run.query("status", &()), Ok(status.clone()));
    run.signal(ORDER_DELIVERED, &());
    assert_eq!(run.query("status", &()), Ok(status.clone()));
    run.complete(open(&run).id, &json!({}));
    status["state"] = json!("completed");
    assert_eq!(run.query("status", &()), Ok(status));
}
