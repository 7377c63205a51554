//! Requests to other runs: asked when polled, answered by the host, never taken back.

use everfold_guest::testing::{Closed, TestRun};
use everfold_guest::{Context, ExternalError, Failure, WORKFLOW_NOT_FOUND};
use futures::future::join;
use serde_json::json;

async fn tell_two(ctx: Context, (): ()) -> Result<Vec<bool>, Failure> {
    let cart = ctx.external_workflow("cart-7");
    let user = ctx.external_workflow("user-1").run_id("0190");
    let unpolled = cart.signal("never", &1);
    drop(unpolled);
    let (added, canceled) = join(cart.signal("added", &"tea"), user.request_cancel("bankrupt")).await;
    Ok(vec![added.is_ok(), canceled.is_ok()])
}

#[test]
fn each_request_is_answered_by_its_own_event() {
    let mut run = TestRun::start(tell_two, &());
    run.external_failed(3);
    run.external_completed(2);
    assert_eq!(
        run.history(),
        [
            "1 WorkflowStarted",
            "2 ExternalSignalInitiated cart-7 added \"tea\"",
            "3 ExternalCancelInitiated user-1/0190 bankrupt",
            "4 ExternalRequestFailed",
            "5 ExternalRequestCompleted",
            "6 WorkflowCompleted [true,false]",
        ],
    );
}

async fn tell_one(ctx: Context, (): ()) -> Result<(), Failure> {
    Ok(ctx.external_workflow("cart-7").signal("added", &1).await?)
}

#[test]
fn a_run_that_is_not_open_is_a_failure_with_a_type() {
    let mut run = TestRun::start(tell_one, &());
    run.external_failed(2);
    assert_eq!(run.failure().application_type(), Some(WORKFLOW_NOT_FOUND));
}

#[test]
fn a_cancelled_run_hears_of_what_it_has_asked_and_asks_nothing_more() {
    async fn tell_both(ctx: Context, (): ()) -> Result<&'static str, Failure> {
        let cart = ctx.external_workflow("cart-7");
        cart.signal("added", &1).await?;
        match cart.signal("added", &2).await {
            Err(ExternalError::Canceled(_)) => {}
            other => panic!("{other:?}"),
        }
        ctx.shield(cart.signal("abandoned", &())).await?;
        Ok("told")
    }

    let mut run = TestRun::start(tell_both, &());
    run.request_cancel("enough");
    assert_eq!(run.closed(), None, "the answer is on its way");
    run.external_completed(2);
    run.external_completed(5);
    assert_eq!(run.closed(), Some(Closed::Completed(json!("told"))));
    assert_eq!(run.history()[4], "5 ExternalSignalInitiated cart-7 abandoned null");
}

#[test]
fn a_request_that_is_dropped_is_not_taken_back() {
    async fn drop_it(ctx: Context, (): ()) -> Result<u64, Failure> {
        let mut request = Box::pin(ctx.external_workflow("cart-7").signal("added", &1));
        assert!(futures::poll!(&mut request).is_pending());
        drop(request);
        Ok(ctx.signal("number").recv().await?)
    }

    let mut run = TestRun::start(drop_it, &());
    run.external_completed(2);
    run.signal("number", &5);
    assert_eq!(run.closed(), Some(Closed::Completed(json!(5))));
}
