//! What happens in the same instant, or hardly happens: Temporal's corner cases, with time that stands still until both are due.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use everfold::runner::api::ApiError;
use everfold::testing::{
    Failure, History, Mock, Restart, RunStatus, TestEnvironment, TestEnvironmentBuilder, TestRun,
};
use serde_json::{Value, json};
use support::component;

const SECOND: Duration = Duration::from_secs(1);
/// How often two things meet: either may come first.
const MEETINGS: usize = 20;

fn samples() -> TestEnvironmentBuilder {
    TestEnvironment::builder()
        .component(component("samples"))
        .mock("noop", Mock::returns(Value::Null))
        .mock("slow", Mock::returns(json!("done")).taking(SECOND))
        .mock("task", Mock::returns(json!("done")).taking(SECOND))
}

/// Where the first event of that type is.
fn place(history: &History, event_type: &str) -> Option<usize> {
    history.events.iter().position(|event| event.kind.type_name() == event_type)
}

/// Lets a second pass, in which the run's activity ends, and does something to the run in that very instant.
async fn meet<T>(environment: &TestEnvironment, what: impl Future<Output = T>) -> T {
    environment.settle().await;
    tokio::join!(environment.advance(SECOND), what).1
}

#[tokio::test]
async fn a_signal_in_the_instant_of_completion_is_in_the_history_or_refused() {
    for _ in 0..MEETINGS {
        let environment = samples().open().await;
        let steps = json!({ "steps": [{ "run": { "id": 1 } }] });
        let run = environment.start("program", "run", &steps).await;
        let sent = meet(&environment, run.signal("a", &1)).await;
        assert_eq!(run.end().await.unwrap().status, RunStatus::Completed);
        let history = run.history().await;
        let received = place(&history, "SignalReceived");
        match sent {
            Ok(_) => {
                assert!(received.is_some(), "it was acknowledged: {history}");
                assert!(received < place(&history, "WorkflowCompleted"), "{history}");
            }
            Err(ApiError::NotFound(_)) => assert_eq!(received, None, "{history}"),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_timer_that_is_due_when_it_is_cancelled_fires_or_is_cancelled_and_not_both() {
    for meeting in 0..MEETINGS {
        let environment = samples().open().await;
        let run = environment.start("race", "run", &json!({ "timeout_ms": 1_000 })).await;
        environment.settle().await;
        environment.advance(SECOND).await;
        if meeting % 4 == 0 {
            // What was taken back does not come from the table either.
            environment.restart(Restart::Killed).await;
        }
        let winner: String = run.result().await;
        environment.advance(60 * SECOND).await;
        let history = run.history().await;
        let (fired, canceled) = (place(&history, "TimerFired"), place(&history, "TimerCanceled"));
        assert_ne!(fired.is_some(), canceled.is_some(), "{history}");
        assert_eq!(fired.is_some(), winner == "timer", "{history}");
    }
}

#[tokio::test]
async fn a_timer_that_fires_later_than_its_cancellation_never_fires() {
    let environment = samples().open().await;
    let run = environment.start("race", "run", &json!({ "timeout_ms": 1_001 })).await;
    assert_eq!(run.result::<String>().await, "activity");
    environment.restart(Restart::Killed).await;
    environment.advance(60 * SECOND).await;
    assert_eq!(place(&run.history().await, "TimerFired"), None);
}

/// What came of a run that was asked to cancel while its activity ended.
async fn cancelled_meanwhile(run: &TestRun) -> (RunStatus, History) {
    let end = run.end().await.unwrap();
    (end.status, run.history().await)
}

#[tokio::test]
async fn a_cancel_in_the_instant_of_a_result_counts_as_it_is_recorded() {
    for _ in 0..MEETINGS {
        let environment = samples().open().await;
        let steps = json!({ "steps": [{ "run": { "id": 1 } }, { "sleep": 1 }] });
        let run = environment.start("program", "run", &steps).await;
        meet(&environment, run.cancel()).await.unwrap();
        let (status, history) = cancelled_meanwhile(&run).await;
        // The sleep behind the task ends it at the latest.
        assert_eq!(status, RunStatus::Canceled, "{history}");
        let (asked, completed) = (
            place(&history, "WorkflowCancelRequested").unwrap(),
            place(&history, "ActivityCompleted").unwrap(),
        );
        let stopped = place(&history, "ActivityCancelRequested");
        // The clean-up is an activity too; what is first is the task's end, if it has one.
        assert_eq!(stopped.is_some(), asked < completed, "whichever is recorded first counts: {history}");
        let cleaned_up = environment.calls_of("noop").len();
        assert_eq!(cleaned_up, 1, "{history}");
    }
}

#[tokio::test]
async fn a_back_off_ends_with_the_run_that_waits_for_it() {
    let environment = samples().open().await;
    let down = || Err(Failure::application("Busy", "try again"));
    environment.mock("task", Mock::sequence([down(), down(), Ok(json!(3))]));
    let steps = json!({ "steps": [{ "race": [{ "id": 1 }, 2_999] }] });
    let run = environment.start("program", "run", &steps).await;
    // The third attempt would come after 3 s: the timer is first, and the back-off ends with it.
    assert_eq!(run.result::<Value>().await, json!([{ "late": 1 }]));
    environment.advance(60 * SECOND).await;
    assert_eq!(environment.calls_of("task").len(), 2, "no attempt begins for a run that is over");
}

#[tokio::test]
async fn an_attempt_that_a_kill_cut_off_counts_also_where_the_next_host_stops_at_once() {
    let environment = samples().open().await;
    let run = environment.start("program", "run", &json!({ "steps": [{ "run": { "id": 1 } }] })).await;
    environment.until_called("task", 1).await;
    environment.restart(Restart::Killed).await;
    // It may not have looked at the run yet.
    environment.restart(Restart::InOrder).await;
    run.end().await.unwrap();
    let attempts: Vec<u32> = environment.calls_of("task").iter().map(|call| call.attempt).collect();
    assert!(attempts.len() >= 2 && attempts.is_sorted_by(|one, next| one < next), "{attempts:?}");
}
