//! Open activities that an operator pauses, resumes and resets: on disk, behind crashes, with an attempt under way and
//! without. Time is virtual.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use everfold::activity::{ActivityContext, Registry};
use everfold::runner::api::{ActivityOperation, ActivityState};
use everfold_core::failure::Failure;
use everfold_core::ids::EventId;
use everfold_core::machine::RunStatus;
use serde_json::{Value, json};
use support::outside::{Outside, T0, causes, refusal};
use tokio::sync::{mpsc, oneshot};

const SECOND: Duration = Duration::from_secs(1);
const PAUSE: ActivityOperation = ActivityOperation::Pause;
const RESUME: ActivityOperation = ActivityOperation::Resume;
const RESET: ActivityOperation = ActivityOperation::Reset { keep_paused: false };
const RESET_PAUSED: ActivityOperation = ActivityOperation::Reset { keep_paused: true };

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_activity_begins_no_attempt_until_it_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let mut host = Outside::begin(folder.path()).await;
    host.start("run", json!({ "schedule_to_start_ms": 5_000 })).await;
    host.until("run", ActivityState::WaitingForWorker).await;
    host.time.advance(SECOND);
    for _ in 0..2 {
        host.operate("run", PAUSE).await.unwrap();
        host = host.restart(folder.path()).await;
        let row = host.until("run", ActivityState::Paused).await.attempts.unwrap();
        assert_eq!(
            (row.attempt, row.paused.unwrap().since),
            (1, T0.plus_ms(1_000)),
            "said twice, paused once"
        );
    }
    host.nothing().await;
    // It does not wait for a worker meanwhile.
    host.time.advance(SECOND * 60);
    host.nothing().await;
    for _ in 0..2 {
        host.operate("run", RESUME).await.unwrap();
    }
    let task = host.poll().await;
    assert_eq!(task.attempt, 1);
    host.complete(&task.token, json!(1)).await.unwrap();
    assert_eq!(host.test.end("run").await.status, RunStatus::Completed);
    host.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_under_way_goes_on_and_hears_of_the_pause() {
    let folder = tempfile::tempdir().unwrap();
    let host = Outside::begin(folder.path()).await;
    host.start("run", json!({ "initial_interval_ms": 2_000 })).await;
    let first = host.poll().await;
    host.operate("run", PAUSE).await.unwrap();
    assert_eq!(host.activity("run").await.state, ActivityState::PauseRequested);
    let host = host.restart(folder.path()).await;
    assert!(host.heartbeat(&first.token, json!(1)).await.unwrap().paused);
    host.fail(&first.token, "Busy").await.unwrap();
    let open = host.activity("run").await;
    assert_eq!((open.state, open.attempts.unwrap().attempt), (ActivityState::Paused, 2));
    host.time.advance(SECOND * 60);
    host.nothing().await;
    let host = host.restart(folder.path()).await;
    host.until("run", ActivityState::Paused).await;
    host.operate("run", RESUME).await.unwrap();
    let second = host.poll().await;
    assert_eq!(second.attempt, 2, "the pause has cost none");
    assert!(!host.heartbeat(&second.token, json!(1)).await.unwrap().paused);

    // A pause that ends before the next attempt is due changes nothing of when that is.
    host.fail(&second.token, "Busy").await.unwrap();
    let due_at = host.activity("run").await.attempts.unwrap().next_attempt_at;
    host.operate("run", PAUSE).await.unwrap();
    host.operate("run", RESUME).await.unwrap();
    let open = host.activity("run").await;
    assert_eq!((open.state, open.attempts.unwrap().next_attempt_at), (ActivityState::Scheduled, due_at));
    host.test.stop().await;
}

/// Attempts of the native activity `work`: each is told to the test, which answers it.
type Attempts = mpsc::UnboundedReceiver<(ActivityContext, oneshot::Sender<Result<Value, Failure>>)>;

fn played() -> (Registry, Attempts) {
    let (begun, attempts) = mpsc::unbounded_channel();
    let mut registry = Registry::default();
    registry.register_fn("work", move |context: ActivityContext, _: Value| {
        let (answer, answered) = oneshot::channel();
        let _ = begun.send((context, answer));
        async move { answered.await.expect("the test answers") }
    });
    (registry, attempts)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_reaches_native_code_and_outlives_the_attempt_that_a_crash_loses() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, mut attempts) = played();
    let host = Outside::begin_with(folder.path(), registry).await;
    host.start("run", json!({ "task_queue": null, "initial_interval_ms": 1_000 })).await;
    let (first, _answer) = attempts.recv().await.unwrap();
    assert!(!first.is_paused());
    host.operate("run", PAUSE).await.unwrap();
    assert!(first.is_paused());
    assert_eq!(host.activity("run").await.state, ActivityState::PauseRequested);

    let (registry, mut attempts) = played();
    let host = host.restart_with(folder.path(), registry).await;
    let row = host.until("run", ActivityState::Paused).await.attempts.unwrap();
    assert_eq!(row.attempt, 2, "the first one was lost");
    // Another crash loses none: none was under way.
    let (registry, mut later) = played();
    let host = host.restart_with(folder.path(), registry).await;
    host.time.advance(SECOND * 60);
    let row = host.until("run", ActivityState::Paused).await.attempts.unwrap();
    assert_eq!(row.attempt, 2);
    assert!(attempts.try_recv().is_err() && later.try_recv().is_err(), "none begins while it is paused");
    host.operate("run", RESUME).await.unwrap();
    let (second, answer) = later.recv().await.unwrap();
    assert_eq!((second.info().attempt, second.is_paused()), (2, false));
    answer.send(Ok(json!("done"))).unwrap();
    assert_eq!(host.test.end("run").await.status, RunStatus::Completed);
    host.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_counts_from_one_again_and_begins_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let host = Outside::begin(folder.path()).await;
    let options =
        json!({ "initial_interval_ms": 10_000, "maximum_attempts": 3, "schedule_to_close_ms": 100_000 });
    host.start("run", options).await;
    for seconds in [10, 20] {
        host.fail(&host.poll().await.token, "Busy").await.unwrap();
        host.time.advance(SECOND * seconds);
    }
    let third = host.poll().await;
    assert_eq!(third.attempt, 3);
    host.time.advance(SECOND * 50);

    // An attempt is under way: it goes on, and the next one is the first.
    host.operate("run", RESET).await.unwrap();
    let host = host.restart(folder.path()).await;
    assert!(host.heartbeat(&third.token, json!(1)).await.unwrap().reset);
    host.fail(&third.token, "Busy").await.unwrap();
    let first = host.poll().await;
    assert_eq!(
        (first.attempt, first.scheduled_at),
        (1, T0.plus_ms(80_000)),
        "at once, and its time begins anew"
    );
    assert!(!host.heartbeat(&first.token, json!(1)).await.unwrap().reset);
    assert_eq!(refusal(host.complete(&third.token, json!(3)).await), "attempt over");

    // In the back-off it begins at once, too.
    host.fail(&first.token, "Busy").await.unwrap();
    assert_eq!(host.activity("run").await.state, ActivityState::Scheduled);
    host.operate("run", RESET).await.unwrap();
    let again = host.poll().await;
    assert_eq!(again.attempt, 1);
    // Schedule-to-close has begun anew, and passes all the same.
    host.time.advance(SECOND * 50);
    host.heartbeat(&again.token, json!(1)).await.unwrap();
    host.fail_until(&again.token, 40_000).await.unwrap();
    host.time.advance(SECOND * 40);
    assert_eq!(host.poll().await.attempt, 2);
    host.time.advance(SECOND * 10);
    assert_eq!(
        causes(&host.test.end("run").await)[1],
        "TimedOut: all attempts together took longer than 100000 ms"
    );
    host.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_ends_a_pause_unless_that_is_to_stay() {
    let folder = tempfile::tempdir().unwrap();
    let host = Outside::begin(folder.path()).await;
    host.start("run", json!({ "initial_interval_ms": 1_000 })).await;
    host.fail(&host.poll().await.token, "Busy").await.unwrap();
    host.operate("run", PAUSE).await.unwrap();
    host.operate("run", RESET_PAUSED).await.unwrap();
    let open = host.activity("run").await;
    assert_eq!((open.state, open.attempts.unwrap().attempt), (ActivityState::Paused, 1));
    host.time.advance(SECOND * 60);
    host.nothing().await;
    host.operate("run", RESET).await.unwrap();
    assert_eq!(host.poll().await.attempt, 1);
    host.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_activity_is_cancelled_and_runs_out_of_time() {
    let folder = tempfile::tempdir().unwrap();
    let host = Outside::begin(folder.path()).await;
    host.start("canceled", json!({})).await;
    host.until("canceled", ActivityState::WaitingForWorker).await;
    host.operate("canceled", PAUSE).await.unwrap();
    host.test.cancel("canceled").await.unwrap();
    assert_eq!(host.test.end("canceled").await.status, RunStatus::Canceled);

    host.start("late", json!({ "schedule_to_close_ms": 10_000, "initial_interval_ms": 1_000 })).await;
    host.fail(&host.poll().await.token, "Busy").await.unwrap();
    host.operate("late", PAUSE).await.unwrap();
    host.time.advance(SECOND * 10);
    let expected = [
        "ActivityFailure: activity work failed",
        "TimedOut: all attempts together took longer than 10000 ms",
        "Busy: it went wrong",
    ];
    assert_eq!(causes(&host.test.end("late").await), expected);
    host.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_open_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let host = Outside::begin(folder.path()).await;
    host.test.start("long", "run", &json!({ "steps": 1 })).await;
    host.test.end("run").await;
    assert_eq!(refusal(host.operate("run", PAUSE).await), "not found", "the run has closed");
    assert_eq!(refusal(host.operate("nobody", PAUSE).await), "not found");
    // Its first activity is closed, and it waits for a signal.
    host.test.start("talkative", "open", &json!({ "steps": 1 })).await;
    host.test.until("open", |run| run.history_length >= 3 && run.pending_activities.is_empty()).await;
    assert_eq!(refusal(host.operate("open", RESET).await), "activity closed");
    for (event, expected) in [(1, "not found"), (3, "not found"), (99, "not found"), (0, "not found")] {
        assert_eq!(refusal(host.operate_on("open", EventId(event), RESUME).await), expected, "{event}");
    }
    host.test.stop().await;
}
