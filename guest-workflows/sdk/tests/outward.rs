//! What leaves a run: the next run, detached runs, measurements; and attempts that come back.

use std::time::Duration;

use everfold_guest::failure::TimeoutType;
use everfold_guest::testing::{Answer, Closed, TestRun};
use everfold_guest::{Activity, Context, Failure, Payload, Saga, Stop, VersionChoice};
use futures::select_biased;
use serde_json::json;

const WORK: Activity<str, ()> = Activity::new("work").start_to_close(Duration::from_secs(1));

#[test]
fn a_run_goes_on_as_the_same_type_on_the_route() {
    async fn next(ctx: Context, number: u64) -> Result<(), Stop> {
        ctx.sleep(Duration::from_secs(1)).await?;
        Err(ctx.continue_as_new(&(number + 1)).into())
    }

    let mut run = TestRun::start(next, &1);
    assert!(run.fire_next_timer());
    assert_eq!(run.history()[3..], ["4 WorkflowContinuedAsNew test 2"]);
    assert_eq!(
        run.closed(),
        Some(Closed::ContinuedAsNew {
            workflow_type: "test".to_owned(),
            input: json!(2),
            headers: Vec::new(),
            version: VersionChoice::FollowRoute,
        }),
    );
}

#[test]
fn type_headers_and_version_of_the_next_run_can_be_chosen() {
    async fn next(ctx: Context, (): ()) -> Result<(), Stop> {
        let tenant =
            Payload::encode("blue").map_err(|error| Failure::application("No", error.to_string()))?;
        let next = ctx.continue_as_new("again").workflow_type("other").header("tenant", tenant);
        Err(next.version(VersionChoice::StayPinned).into())
    }

    assert_eq!(
        TestRun::start(next, &()).closed(),
        Some(Closed::ContinuedAsNew {
            workflow_type: "other".to_owned(),
            input: json!("again"),
            headers: vec![("tenant".to_owned(), json!("blue"))],
            version: VersionChoice::StayPinned,
        }),
    );
}

#[test]
fn what_is_dropped_when_a_run_continues_is_cancelled_before_its_end() {
    async fn next(ctx: Context, (): ()) -> Result<(), Stop> {
        let mut work = ctx.execute(WORK, "slow");
        let mut timer = ctx.sleep(Duration::from_secs(1));
        select_biased! {
            done = work => Ok(done?),
            fired = timer => {
                fired?;
                Err(ctx.continue_as_new(&()).into())
            }
        }
    }

    let mut run = TestRun::start(next, &());
    assert!(run.fire_next_timer());
    assert_eq!(
        run.history()[3..],
        ["4 TimerFired", "5 ActivityCancelRequested 2", "6 WorkflowContinuedAsNew test null"]
    );
}

#[test]
fn a_stop_is_a_failure_or_a_cancellation_too() {
    async fn wait(ctx: Context, fail: bool) -> Result<(), Stop> {
        if fail {
            Err(Failure::application("No", "not today"))?;
        }
        Ok(ctx.sleep(Duration::from_secs(1)).await?)
    }

    assert_eq!(TestRun::start(wait, &true).failure().application_type(), Some("No"));
    let mut run = TestRun::start(wait, &false);
    run.request_cancel("enough");
    assert_eq!(run.closed(), Some(Closed::Canceled(vec![json!("enough")])));
}

#[test]
fn a_detached_run_starts_at_once() {
    async fn start(ctx: Context, (): ()) -> Result<(), Failure> {
        ctx.start_detached("greet", "greet-7", &json!({"name": "Ada"}));
        Ok(())
    }

    let run = TestRun::start(start, &());
    assert_eq!(
        run.history()[1..],
        ["2 DetachedWorkflowStarted greet greet-7 {\"name\":\"Ada\"}", "3 WorkflowCompleted null"],
    );
}

#[test]
fn measurements_carry_attributes() {
    async fn measure(ctx: Context, (): ()) -> Result<(), Failure> {
        ctx.counter("orders_total").attribute("currency", "EUR").attribute("items", 2).add(1.0);
        ctx.histogram("waiting_seconds").record(0.25);
        Ok(())
    }

    let run = TestRun::start(measure, &());
    assert_eq!(
        run.metrics(),
        ["counter orders_total 1 currency=EUR items=2", "histogram waiting_seconds 0.25"],
    );
}

#[test]
#[should_panic(expected = "`everfold_orders` is not the name of a metric")]
fn a_name_of_the_hosts_own_is_refused_in_tests() {
    async fn measure(ctx: Context, (): ()) -> Result<(), Failure> {
        ctx.counter("everfold_orders").add(1.0);
        Ok(())
    }

    drop(TestRun::start(measure, &()));
}

#[test]
fn a_saga_counts_its_compensations_as_they_end() {
    async fn undo(ctx: Context, (): ()) -> Result<(), Failure> {
        let mut saga = Saga::new(&ctx);
        saga.compensate_with("first", ctx.execute(WORK, "a"));
        saga.compensate_with("second", ctx.execute(WORK, "b"));
        assert_eq!(saga.undo().await.failures.len(), 1);
        Ok(())
    }

    let mut run = TestRun::start(undo, &());
    assert_eq!(run.metrics(), [""; 0]);
    run.answer(2, Answer::refuse("Stuck", "cannot"));
    let failed = "counter saga_compensations_total 1 compensation=second outcome=failed";
    assert_eq!(run.metrics(), [failed]);
    run.complete(4, &());
    let completed = "counter saga_compensations_total 1 compensation=first outcome=completed";
    assert_eq!(run.metrics(), [failed, completed]);
}

#[test]
fn a_call_tells_the_attempt_that_succeeded_and_its_error_the_last_one() {
    async fn call(ctx: Context, (): ()) -> Result<u32, Failure> {
        let ((), attempt) = ctx.execute(WORK, "a").with_attempt().await?;
        let error = ctx.execute(WORK, "b").await.expect_err("it fails");
        assert_eq!(error.attempt(), Some(5));
        let error = ctx.execute(WORK, "c").with_attempt().await.expect_err("it does not decode");
        assert_eq!(error.attempt(), Some(2));
        let error = ctx.execute(WORK, "d").await.expect_err("it times out");
        assert_eq!(error.attempt(), Some(1));
        ctx.cancelled().await;
        let error = ctx.execute(WORK, "e").with_attempt().await.expect_err("it is too late");
        assert_eq!(error.attempt(), None);
        Ok(attempt)
    }

    let mut run = TestRun::start(call, &());
    run.complete_at(2, 3, &());
    run.answer(4, Answer::exhaust("Unavailable", "try tomorrow"));
    run.complete_at(6, 2, "what?");
    run.answer(8, Answer::TimeOut(TimeoutType::StartToClose));
    run.request_cancel("");
    assert_eq!(run.closed(), Some(Closed::Completed(json!(3))));
}
