//! Cancellation of a run: what it reaches, what a shield keeps from it, and how the run closes.

use std::time::Duration;

use everfold_guest::testing::{Answer, Closed, TestRun};
use everfold_guest::{Activity, ActivityErrorKind, CancellationType, Context, Failure};
use futures::future::{join, join3, select};
use serde_json::json;

const WORK: Activity<str, ()> = Activity::new("work").start_to_close(Duration::from_secs(1));

#[test]
fn what_is_open_ends_as_cancelled_and_the_run_closes_so() {
    async fn work(ctx: Context, (): ()) -> Result<(), Failure> {
        let (call, timer) = join(ctx.execute(WORK, "a"), ctx.sleep(Duration::from_secs(60))).await;
        assert!(call.is_err_and(|error| error.is_canceled()));
        timer?;
        Ok(())
    }

    let mut run = TestRun::start(work, &());
    run.request_cancel("changed my mind");
    assert_eq!(
        run.history(),
        [
            "1 WorkflowStarted",
            "2 ActivityScheduled work \"a\"",
            "3 TimerStarted 60000 ms",
            "4 WorkflowCancelRequested",
            "5 ActivityCancelRequested 2",
            "6 TimerCanceled 3",
            "7 WorkflowCanceled",
        ],
    );
    assert_eq!(run.closed(), Some(Closed::Canceled(vec![json!("changed my mind")])));
}

#[test]
fn each_cancellation_type_is_kept_to() {
    async fn work(ctx: Context, (): ()) -> Result<(), Failure> {
        let (tried, waited, abandoned) = join3(
            ctx.execute(WORK, "try"),
            ctx.execute(WORK.cancellation(CancellationType::WaitCancellationCompleted), "wait"),
            ctx.execute(WORK.cancellation(CancellationType::Abandon), "abandon"),
        )
        .await;
        assert!(tried.is_err_and(|error| error.is_canceled()));
        assert!(abandoned.is_err_and(|error| error.is_canceled()));
        Ok(waited?)
    }

    let mut run = TestRun::start(work, &());
    run.request_cancel("");
    assert_eq!(
        run.history()[4..],
        ["5 WorkflowCancelRequested", "6 ActivityCancelRequested 2", "7 ActivityCancelRequested 3"],
    );
    run.answer(3, Answer::Cancel);
    assert_eq!(run.history().last().map(String::as_str), Some("9 WorkflowCanceled"));
}

#[test]
fn an_activity_that_completes_although_it_was_asked_to_stop_has_completed() {
    async fn work(ctx: Context, (): ()) -> Result<String, Failure> {
        let wait = WORK.cancellation(CancellationType::WaitCancellationCompleted);
        ctx.execute(wait, "wait").await?;
        Ok("done all the same".to_owned())
    }

    let mut run = TestRun::start(work, &());
    run.request_cancel("");
    run.complete(2, &());
    assert_eq!(run.closed(), Some(Closed::Completed(json!("done all the same"))));
}

#[test]
fn a_shield_keeps_cancellation_out() {
    async fn work(ctx: Context, (): ()) -> Result<(), Failure> {
        let shielded = ctx.shield(async {
            ctx.execute(WORK, "one").await?;
            ctx.execute(WORK, "two").await
        });
        let (shielded, exposed) = join(shielded, ctx.execute(WORK, "exposed")).await;
        shielded?;
        exposed?;
        Ok(())
    }

    let mut run = TestRun::start(work, &());
    run.request_cancel("");
    run.complete(2, &());
    run.complete(7, &());
    assert_eq!(
        run.history(),
        [
            "1 WorkflowStarted",
            "2 ActivityScheduled work \"one\"",
            "3 ActivityScheduled work \"exposed\"",
            "4 WorkflowCancelRequested",
            "5 ActivityCancelRequested 3",
            "6 ActivityCompleted work",
            "7 ActivityScheduled work \"two\"",
            "8 ActivityCompleted work",
            "9 WorkflowCanceled",
        ],
    );
}

#[test]
fn nothing_begins_outside_a_shield_once_the_run_is_cancelled() {
    async fn work(ctx: Context, (): ()) -> Result<(), Failure> {
        let canceled = ctx.cancelled().await;
        assert_eq!(canceled.reason(), "enough");
        assert!(ctx.is_cancel_requested());
        let refused = ctx.execute(WORK, "late").await.expect_err("the run is cancelled");
        assert_eq!(refused.kind(), ActivityErrorKind::NeverAsked);
        assert!(refused.had_no_effect());
        ctx.sleep(Duration::from_secs(1)).await?;
        Ok(())
    }

    let mut run = TestRun::start(work, &());
    run.request_cancel("enough");
    assert_eq!(run.history(), ["1 WorkflowStarted", "2 WorkflowCancelRequested", "3 WorkflowCanceled"],);
}

#[test]
fn a_workflow_may_take_notice_and_complete() {
    async fn work(ctx: Context, (): ()) -> Result<&'static str, Failure> {
        drop(select(ctx.shield(ctx.execute(WORK, "a")), ctx.cancelled()).await);
        Ok("wrapped up")
    }

    let mut run = TestRun::start(work, &());
    run.request_cancel("");
    assert_eq!(
        run.history()[2..],
        ["3 WorkflowCancelRequested", "4 ActivityCancelRequested 2", "5 WorkflowCompleted \"wrapped up\"",],
    );
}

#[test]
fn a_cancelled_failure_without_a_request_fails_the_run() {
    async fn work(ctx: Context, (): ()) -> Result<(), Failure> {
        Ok(ctx.execute(WORK, "a").await?)
    }

    let mut run = TestRun::start(work, &());
    run.answer(2, Answer::Cancel);
    assert!(run.failure().is_canceled());
}
