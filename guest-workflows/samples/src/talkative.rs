//! A workflow that says and measures what it does.

use everfold_guest::{Context, Failure, info};
use serde::Deserialize;

use crate::activities::NOOP;

#[derive(Deserialize)]
pub(crate) struct Talkative {
    steps: u64,
}

/// Calls `noop` with 1, 2, …; says and counts each one; then waits for the signal `go`.
pub(crate) async fn talkative(ctx: Context, input: Talkative) -> Result<u64, Failure> {
    for step in 1..=input.steps {
        ctx.execute(NOOP, &step).await?;
        info!(ctx, "a step is done", step);
        ctx.counter("sample_steps_total").attribute("sample", "talkative").add(1.0);
    }
    ctx.signal::<()>("go").recv().await?;
    info!(ctx, "all is said");
    ctx.histogram("sample_steps").record(input.steps as f64);
    Ok(input.steps)
}

#[cfg(test)]
mod tests {
    use everfold_guest::testing::{Answer, Closed, TestRun};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn it_ends_when_it_may_go() {
        let mut run = TestRun::start(talkative, &json!({"steps": 2}));
        run.drive(|_| Answer::Complete(Value::Null));
        assert_eq!(run.closed(), None);
        run.signal("go", &());
        assert_eq!(run.closed(), Some(Closed::Completed(json!(2))));
    }
}
