//! Workflows that wait.

use std::time::Duration;

use everfold_guest::{Context, Failure, Timestamp};
use futures::select_biased;
use serde::{Deserialize, Serialize};

use crate::activities::SLOW;

#[derive(Deserialize)]
pub(crate) struct Sleeper {
    #[serde(default)]
    sleep_ms: u64,
    /// Takes the place of `sleep_ms`.
    until: Option<Timestamp>,
}

#[derive(Serialize)]
pub(crate) struct Slept {
    before: Timestamp,
    after: Timestamp,
}

/// Sleeps, and tells the time before and after.
pub(crate) async fn sleeper(ctx: Context, input: Sleeper) -> Result<Slept, Failure> {
    let before = ctx.now();
    match input.until {
        Some(moment) => ctx.sleep_until(moment).await?,
        None => ctx.sleep(Duration::from_millis(input.sleep_ms)).await?,
    }
    Ok(Slept { before, after: ctx.now() })
}

#[derive(Deserialize)]
pub(crate) struct Race {
    timeout_ms: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Winner {
    Activity,
    Timer,
}

/// Waits for `slow` or for the time to be up, and says which came first. The other is cancelled
/// when its future is dropped.
pub(crate) async fn race(ctx: Context, input: Race) -> Result<Winner, Failure> {
    let mut slow = ctx.execute(SLOW, &());
    let mut time_is_up = ctx.sleep(Duration::from_millis(input.timeout_ms));
    select_biased! {
        result = slow => {
            result?;
            Ok(Winner::Activity)
        }
        fired = time_is_up => {
            fired?;
            Ok(Winner::Timer)
        }
    }
}

#[cfg(test)]
mod tests {
    use everfold_guest::testing::{Closed, START_MS, TestRun};
    use serde_json::json;

    use super::*;

    #[test]
    fn time_passes_while_asleep() {
        let mut run = TestRun::start(sleeper, &json!({"sleep_ms": 1500}));
        assert!(run.fire_next_timer());
        let result = json!({"before": START_MS, "after": START_MS + 1500});
        assert_eq!(
            run.history(),
            [
                "1 WorkflowStarted",
                "2 TimerStarted 1500 ms",
                "3 TimerFired",
                &format!("4 WorkflowCompleted {result}"),
            ],
        );
    }

    #[test]
    fn a_moment_is_waited_for_and_one_that_has_passed_is_over_at_once() {
        for (moment, duration) in [(START_MS + 1_500, "1500 ms"), (START_MS - 1, "0 ms")] {
            let mut run = TestRun::start(sleeper, &json!({ "until": moment }));
            assert!(run.fire_next_timer());
            assert_eq!(run.history()[1], format!("2 TimerStarted {duration}"));
            let after = moment.max(START_MS);
            assert_eq!(run.closed(), Some(Closed::Completed(json!({ "before": START_MS, "after": after }))));
        }
    }

    #[test]
    fn a_slow_activity_loses_and_is_cancelled() {
        let mut run = TestRun::start(race, &json!({"timeout_ms": 50}));
        assert!(run.fire_next_timer());
        assert_eq!(
            run.history(),
            [
                "1 WorkflowStarted",
                "2 ActivityScheduled slow null",
                "3 TimerStarted 50 ms",
                "4 TimerFired",
                "5 ActivityCancelRequested 2",
                "6 WorkflowCompleted \"timer\"",
            ],
        );
    }

    #[test]
    fn a_quick_activity_wins_and_the_timer_is_cancelled() {
        let mut run = TestRun::start(race, &json!({"timeout_ms": 50}));
        run.complete(2, &());
        assert_eq!(
            run.history()[3..],
            ["4 ActivityCompleted slow", "5 TimerCanceled 3", "6 WorkflowCompleted \"activity\"",],
        );
    }
}
