//! A workflow whose activity somebody else makes.

use std::time::Duration;

use everfold_guest::{Activity, CancellationType, Context, Failure, RetryPolicy};
use serde::Deserialize;
use serde_json::Value;

/// An activity, and how it is to be run. What is not given is as the host has it.
#[derive(Deserialize)]
pub(crate) struct Remote {
    activity: String,
    #[serde(default)]
    input: Value,
    task_queue: Option<String>,
    schedule_to_start_ms: Option<u64>,
    start_to_close_ms: Option<u64>,
    schedule_to_close_ms: Option<u64>,
    heartbeat_ms: Option<u64>,
    initial_interval_ms: Option<u64>,
    maximum_attempts: Option<u32>,
}

/// Calls the activity and returns what it gave; when the run is cancelled, waits until the activity has stopped.
pub(crate) async fn remote(ctx: Context, input: Remote) -> Result<Value, Failure> {
    let mut retry = RetryPolicy::new();
    if let Some(ms) = input.initial_interval_ms {
        retry = retry.initial_interval(Duration::from_millis(ms));
    }
    if let Some(attempts) = input.maximum_attempts {
        retry = retry.maximum_attempts(attempts);
    }
    let mut activity = Activity::<Value, Value>::named(input.activity)
        .cancellation(CancellationType::WaitCancellationCompleted)
        .retry(retry);
    if let Some(task_queue) = input.task_queue {
        activity = activity.task_queue(task_queue);
    }
    if let Some(ms) = input.schedule_to_start_ms {
        activity = activity.schedule_to_start(Duration::from_millis(ms));
    }
    if let Some(ms) = input.start_to_close_ms {
        activity = activity.start_to_close(Duration::from_millis(ms));
    }
    if let Some(ms) = input.schedule_to_close_ms {
        activity = activity.schedule_to_close(Duration::from_millis(ms));
    }
    if let Some(ms) = input.heartbeat_ms {
        activity = activity.heartbeat(Duration::from_millis(ms));
    }
    Ok(ctx.execute(activity, &input.input).await?)
}

#[cfg(test)]
mod tests {
    use everfold_guest::testing::{Closed, TestRun};
    use serde_json::json;

    use super::*;

    #[test]
    fn it_returns_what_the_activity_gave() {
        let input = json!({ "activity": "greet", "input": "Ada", "task_queue": "python", "start_to_close_ms": 5_000 });
        let mut run = TestRun::start(remote, &input);
        assert_eq!(run.history()[1..], ["2 ActivityScheduled greet \"Ada\""]);
        run.complete(2, &"Hello, Ada!");
        assert_eq!(run.closed(), Some(Closed::Completed(json!("Hello, Ada!"))));
    }
}
