//! Children: asked for when polled, begun and ended by events of their own.

use everfold_guest::testing::{Closed, TestRun};
use everfold_guest::{
    CancellationType, ChildErrorKind, ChildWorkflow, Context, Failure, WORKFLOW_ALREADY_STARTED,
};
use futures::future::join;
use serde_json::json;

const DOUBLE: ChildWorkflow<u64, u64> = ChildWorkflow::new("double");

#[test]
fn beginning_and_end_are_waited_for_apart() {
    async fn two(ctx: Context, (): ()) -> Result<(String, u64), Failure> {
        drop(ctx.start_child(DOUBLE, &0));
        let child = ctx.start_child(DOUBLE.workflow_id("d-1"), &21).await?;
        child.signal("hurry", &()).await?;
        let doubled = child.result().await?;
        Ok((format!("{}/{}", child.workflow_id(), child.run_id()), doubled))
    }

    let mut run = TestRun::start(two, &());
    run.child_started(2);
    run.external_completed(4);
    assert_eq!(run.closed(), None, "it waits for the result");
    run.child_completed(2, &42);
    assert_eq!(
        run.history(),
        [
            "1 WorkflowStarted",
            "2 ChildWorkflowInitiated double d-1 21",
            "3 ChildWorkflowStarted",
            "4 ExternalSignalInitiated d-1 hurry null",
            "5 ExternalRequestCompleted",
            "6 ChildWorkflowCompleted",
            "7 WorkflowCompleted [\"d-1/child-run-2\",42]",
        ],
    );
}

#[test]
fn children_that_end_before_they_are_asked_keep_their_results() {
    async fn sum(ctx: Context, (): ()) -> Result<u64, Failure> {
        let (one, two) = join(ctx.start_child(DOUBLE, &1), ctx.start_child(DOUBLE, &2)).await;
        let (one, two) = (one?, two?);
        Ok(two.result().await? * 10 + one.result().await?)
    }

    let mut run = TestRun::start(sum, &());
    run.child_started(2);
    run.child_completed(2, &2);
    run.child_started(3);
    assert_eq!(run.closed(), None);
    run.child_completed(3, &4);
    assert_eq!(run.closed(), Some(Closed::Completed(json!(42))));
}

async fn execute(ctx: Context, (): ()) -> Result<u64, Failure> {
    Ok(ctx.execute_child(DOUBLE, &21).await?)
}

#[test]
fn a_workflow_id_in_use_is_a_failure_with_a_type() {
    let mut run = TestRun::start(execute, &());
    run.child_start_failed(2);
    assert_eq!(run.failure().application_type(), Some(WORKFLOW_ALREADY_STARTED));
}

#[test]
fn a_childs_failure_is_the_cause_of_its_parents() {
    let mut run = TestRun::start(execute, &());
    run.child_started(2);
    run.child_failed(2, Failure::application("Declined", "no money"));
    let failure = run.failure();
    assert_eq!(failure.application_type(), Some("Declined"));
    assert_eq!(failure.to_string(), "the child workflow failed: no money");
}

#[test]
fn a_cancelled_parent_asks_its_children_and_waits_as_each_says() {
    async fn three(ctx: Context, (): ()) -> Result<Vec<ChildErrorKind>, Failure> {
        let of = |cancellation| ctx.execute_child(DOUBLE.cancellation(cancellation), &1);
        let all = join(
            of(CancellationType::WaitCancellationCompleted),
            join(of(CancellationType::TryCancel), of(CancellationType::Abandon)),
        );
        let (waited, (tried, abandoned)) = all.await;
        let kind =
            |ended: Result<u64, everfold_guest::ChildError>| ended.expect_err("it is cancelled").kind();
        let kinds = [kind(waited), kind(tried), kind(abandoned)];
        assert_eq!(kinds, [ChildErrorKind::Canceled; 3]);
        let late = ctx.execute_child(DOUBLE, &1).await.expect_err("the run is cancelled");
        assert_eq!(late.kind(), ChildErrorKind::NeverAsked);
        Err(late.into())
    }

    let mut run = TestRun::start(|ctx, ()| async move { three(ctx, ()).await.map(|_| ()) }, &());
    run.child_started(2);
    run.child_started(4);
    run.request_cancel("enough");
    assert_eq!(
        run.history()[6..],
        ["7 WorkflowCancelRequested", "8 ChildCancelRequested 2 enough", "9 ChildCancelRequested 3 enough"],
    );
    assert_eq!(run.closed(), None, "the first child is waited for");
    run.child_failed(2, Failure::canceled("stopped", Vec::new()));
    assert!(matches!(run.closed(), Some(Closed::Canceled(_))), "{:?}", run.closed());
}

#[test]
fn a_dropped_call_asks_for_cancellation_and_a_dropped_handle_does_not() {
    async fn drop_both(ctx: Context, (): ()) -> Result<u64, Failure> {
        let kept = ctx.start_child(DOUBLE, &1).await?;
        let mut call = Box::pin(ctx.execute_child(DOUBLE, &2));
        assert!(futures::poll!(&mut call).is_pending());
        drop(call);
        let mut wait = Box::pin(kept.result());
        assert!(futures::poll!(&mut wait).is_pending());
        drop(wait);
        kept.request_cancel("enough");
        kept.request_cancel("still enough");
        drop(kept);
        Ok(ctx.signal("number").recv().await?)
    }

    let mut run = TestRun::start(drop_both, &());
    run.child_started(2);
    assert_eq!(
        run.history()[2..],
        [
            "3 ChildWorkflowStarted",
            "4 ChildWorkflowInitiated double - 2",
            "5 ChildCancelRequested 4 the workflow does not wait for it any more",
            "6 ChildCancelRequested 2 enough",
        ],
    );
    run.child_started(4);
    run.child_failed(4, Failure::canceled("", Vec::new()));
    run.child_completed(2, &2);
    run.signal("number", &5);
    assert_eq!(run.closed(), Some(Closed::Completed(json!(5))));
}
