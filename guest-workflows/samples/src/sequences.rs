//! Workflows that call activities, one after the other or all at once.

use everfold_guest::{Activity, Context, Failure};
use futures::future::try_join_all;
use serde::Deserialize;
use serde_json::Value;

use crate::activities::{NOOP, START_TO_CLOSE};

#[derive(Deserialize)]
pub(crate) struct FourSteps {
    #[serde(default = "noop")]
    activity: String,
}

fn noop() -> String {
    NOOP.name().to_owned()
}

/// Calls the activity with 1, 2, 3 and 4, and returns what it gave.
pub(crate) async fn four_steps(ctx: Context, input: FourSteps) -> Result<Vec<Value>, Failure> {
    let activity = Activity::<u64, Value>::named(input.activity).start_to_close(START_TO_CLOSE);
    let mut results = Vec::new();
    for step in 1..=4 {
        results.push(ctx.execute(activity.clone(), &step).await?);
    }
    Ok(results)
}

#[derive(Deserialize)]
pub(crate) struct Long {
    steps: u64,
}

/// Calls `noop` with 1, 2, …, and returns how often.
pub(crate) async fn long(ctx: Context, input: Long) -> Result<u64, Failure> {
    for step in 1..=input.steps {
        ctx.execute(NOOP, &step).await?;
    }
    Ok(input.steps)
}

#[derive(Deserialize)]
pub(crate) struct FanOut {
    width: u64,
}

/// Calls `noop` with 1, 2, … side by side, and returns what it gave, in that order.
pub(crate) async fn fan_out(ctx: Context, input: FanOut) -> Result<Vec<Value>, Failure> {
    let calls = (1..=input.width).map(|number| ctx.execute(NOOP, &number));
    Ok(try_join_all(calls).await?)
}

#[cfg(test)]
mod tests {
    use everfold_guest::testing::{Answer, Closed, TestRun};
    use serde_json::json;

    use super::*;

    #[test]
    fn four_steps_come_one_after_the_other() {
        let mut run = TestRun::start(four_steps, &json!({"activity": "step"}));
        run.drive(|activity| Answer::Complete(activity.input.clone()));
        assert_eq!(
            run.history(),
            [
                "1 WorkflowStarted",
                "2 ActivityScheduled step 1",
                "3 ActivityCompleted step",
                "4 ActivityScheduled step 2",
                "5 ActivityCompleted step",
                "6 ActivityScheduled step 3",
                "7 ActivityCompleted step",
                "8 ActivityScheduled step 4",
                "9 ActivityCompleted step",
                "10 WorkflowCompleted [1,2,3,4]",
            ],
        );
    }

    #[test]
    fn long_counts_its_steps() {
        let mut run = TestRun::start(long, &json!({"steps": 3}));
        run.drive(|_| Answer::Complete(Value::Null));
        assert_eq!(run.closed(), Some(Closed::Completed(json!(3))));
    }

    #[test]
    fn fan_out_asks_for_all_at_once_and_keeps_their_order() {
        let mut run = TestRun::start(fan_out, &json!({"width": 100}));
        let mut open = run.open_activities();
        assert_eq!(open.len(), 100);
        open.reverse();
        for activity in open {
            run.complete(activity.id, &activity.input);
        }
        let expected: Vec<u64> = (1..=100).collect();
        assert_eq!(run.closed(), Some(Closed::Completed(json!(expected))));
    }
}
