//! A workflow that is made to be cancelled.

use everfold_guest::{CancellationType, Context, Failure};
use serde_json::Value;

use crate::activities::{NOOP, SLOW};

/// Waits for `slow`, to its very end; when the run is cancelled, still calls `noop` to clean up.
pub(crate) async fn canceller(ctx: Context, _: Value) -> Result<Value, Failure> {
    let slow = SLOW.cancellation(CancellationType::WaitCancellationCompleted);
    let result = ctx.execute(slow, &()).await;
    if ctx.is_cancel_requested() {
        ctx.shield(ctx.execute(NOOP, &0)).await?;
    }
    Ok(result?)
}

#[cfg(test)]
mod tests {
    use everfold_guest::testing::{Answer, Closed, TestRun};
    use serde_json::json;

    use super::*;

    #[test]
    fn it_returns_what_slow_gave() {
        let mut run = TestRun::start(canceller, &());
        run.complete(2, &"done");
        assert_eq!(run.closed(), Some(Closed::Completed(json!("done"))));
    }

    #[test]
    fn it_waits_and_cleans_up_when_cancelled() {
        let mut run = TestRun::start(canceller, &());
        run.request_cancel("enough");
        run.answer(2, Answer::Cancel);
        run.complete(6, &());
        assert_eq!(
            run.history()[2..],
            [
                "3 WorkflowCancelRequested",
                "4 ActivityCancelRequested 2",
                "5 ActivityCanceled slow",
                "6 ActivityScheduled noop 0",
                "7 ActivityCompleted noop",
                "8 WorkflowCanceled",
            ],
        );
    }
}
