//! Workflows that ask for nothing and return at once.

use everfold_guest::{Context, Failure, Timestamp, Uuid};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Returns its input.
pub(crate) async fn echo(_: Context, input: Value) -> Result<Value, Failure> {
    Ok(input)
}

#[derive(Serialize)]
pub(crate) struct Drawn {
    numbers: [u64; 4],
    fraction: f64,
    die: u64,
    uuid: Uuid,
    now: Timestamp,
}

/// Draws from the run's generator.
pub(crate) async fn random(ctx: Context, _: Value) -> Result<Drawn, Failure> {
    let random = ctx.random();
    Ok(Drawn {
        numbers: std::array::from_fn(|_| random.u64()),
        fraction: random.f64(),
        die: random.range(1..=6),
        uuid: ctx.uuid(),
        now: ctx.now(),
    })
}

#[cfg(test)]
mod tests {
    use everfold_guest::testing::{Closed, TestRun};
    use serde_json::json;

    use super::*;

    #[test]
    fn echo_gives_back_what_it_got() {
        let run = TestRun::start(echo, &json!({"a": [1, 2]}));
        assert_eq!(run.closed(), Some(Closed::Completed(json!({"a": [1, 2]}))));
    }

    #[test]
    fn the_seed_decides_what_is_drawn() {
        let draw = |seed| TestRun::start_with_seed(random, &(), seed).closed();
        assert_eq!(draw([1; 32]), draw([1; 32]));
        assert_ne!(draw([1; 32]), draw([2; 32]));
    }
}

/// How a workflow fails that is to be tried again.
#[derive(Debug, Deserialize)]
pub(crate) struct Retried {
    succeeds_at: u32,
    failure_type: String,
    #[serde(default)]
    is_final: bool,
}

pub(crate) async fn retried(ctx: Context, input: Retried) -> Result<(u32, Option<String>), Failure> {
    let Retried { succeeds_at, failure_type, is_final } = input;
    let info = ctx.info();
    if info.attempt >= succeeds_at {
        return Ok((info.attempt, info.last_failure.as_ref().map(ToString::to_string)));
    }
    let failure = Failure::application(failure_type, format!("try {} fails", info.attempt));
    Err(if is_final { failure.non_retryable() } else { failure })
}
