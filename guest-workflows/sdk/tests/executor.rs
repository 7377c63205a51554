//! The executor: joins, races, drops, time, randomness, and data that does not decode.

use std::time::Duration;

use everfold_guest::testing::{Answer, Closed, SEED, START_MS, TestRun};
use everfold_guest::{
    Activity, ActivityErrorKind, CancellationType, Context, Failure, INVALID_INPUT, RetryPolicy, Timestamp,
    info,
};
use futures::future::{join_all, select};
use futures::{FutureExt, join, select_biased};
use rand_core::Rng;
use serde_json::{Value, json};

const ECHO: Activity<u64, u64> = Activity::new("echo").start_to_close(Duration::from_secs(1));

#[test]
fn a_join_of_a_hundred_asks_for_all_at_once_and_takes_results_in_any_order() {
    async fn sum(ctx: Context, width: u64) -> Result<u64, Failure> {
        let calls = (0..width).map(|number| ctx.execute(ECHO, &number));
        let mut total = 0;
        for result in join_all(calls).await {
            total += result?;
        }
        Ok(total)
    }

    let mut run = TestRun::start(sum, &100);
    let open = run.open_activities();
    assert_eq!(open.len(), 100);
    assert!(open.iter().map(|activity| activity.input.clone()).eq((0..100).map(Value::from)));
    // 37 has no divisor in common with 100, so this visits each once, in an order of its own.
    for step in 0..100 {
        let activity = &open[step * 37 % 100];
        run.complete(activity.id, &activity.input);
    }
    assert_eq!(run.closed(), Some(Closed::Completed(json!(4950))));
}

#[test]
fn joined_branches_go_on_independently() {
    async fn branch(ctx: &Context, first: u64) -> Result<u64, Failure> {
        let second = ctx.execute(ECHO, &first).await?;
        Ok(ctx.execute(ECHO, &(second + 1)).await?)
    }
    async fn both(ctx: Context, (): ()) -> Result<u64, Failure> {
        let (left, right) = join!(branch(&ctx, 10), branch(&ctx, 20));
        Ok(left? + right?)
    }

    let mut run = TestRun::start(both, &());
    run.complete(3, &20);
    run.complete(2, &10);
    run.complete(5, &21);
    run.complete(7, &11);
    assert_eq!(
        run.history(),
        [
            "1 WorkflowStarted",
            "2 ActivityScheduled echo 10",
            "3 ActivityScheduled echo 20",
            "4 ActivityCompleted echo",
            "5 ActivityScheduled echo 21",
            "6 ActivityCompleted echo",
            "7 ActivityScheduled echo 11",
            "8 ActivityCompleted echo",
            "9 ActivityCompleted echo",
            "10 WorkflowCompleted 32",
        ],
    );
}

#[test]
fn the_loser_of_a_race_is_cancelled_when_it_is_dropped() {
    async fn race(ctx: Context, (): ()) -> Result<&'static str, Failure> {
        let winner = {
            let mut slow = ctx.execute(ECHO, &1);
            let mut timer = ctx.sleep(Duration::from_secs(5)).summary("patience");
            select_biased! {
                _ = slow => "activity",
                _ = timer => "timer",
            }
        };
        ctx.execute(ECHO, &2).await?;
        Ok(winner)
    }

    let mut run = TestRun::start(race, &());
    assert!(run.fire_next_timer());
    // The closing event of an activity that nobody waits for changes nothing.
    run.answer(2, Answer::Cancel);
    run.complete(6, &2);
    assert_eq!(
        run.history(),
        [
            "1 WorkflowStarted",
            "2 ActivityScheduled echo 1",
            "3 TimerStarted 5000 ms patience",
            "4 TimerFired",
            "5 ActivityCancelRequested 2",
            "6 ActivityScheduled echo 2",
            "7 ActivityCanceled echo",
            "8 ActivityCompleted echo",
            "9 WorkflowCompleted \"timer\"",
        ],
    );
}

#[test]
fn an_abandoned_activity_is_left_running() {
    async fn race(ctx: Context, (): ()) -> Result<(), Failure> {
        let abandoned = ECHO.cancellation(CancellationType::Abandon);
        drop(select(ctx.execute(abandoned, &1), ctx.sleep(Duration::ZERO)).await);
        Ok(())
    }

    let mut run = TestRun::start(race, &());
    assert!(run.fire_next_timer());
    assert_eq!(run.history()[3..], ["4 TimerFired", "5 WorkflowCompleted null"]);
}

#[test]
fn what_is_never_polled_is_never_asked_for() {
    async fn lazy(ctx: Context, (): ()) -> Result<(), Failure> {
        let _call = ctx.execute(ECHO, &1);
        let _timer = ctx.sleep(Duration::from_secs(1));
        Ok(())
    }

    let run = TestRun::start(lazy, &());
    assert_eq!(run.history(), ["1 WorkflowStarted", "2 WorkflowCompleted null"]);
}

#[test]
fn dropping_an_instance_asks_for_nothing() {
    async fn wait(ctx: Context, (): ()) -> Result<u64, Failure> {
        Ok(ctx.execute(ECHO, &1).await?)
    }

    // The scripted host panics at a command that it does not expect; a run that is dropped while
    // it waits for an activity would make one.
    let run = TestRun::start(wait, &());
    assert_eq!(run.open_activities().len(), 1);
    drop(run);
}

#[test]
fn options_arrive_as_they_were_given() {
    async fn call(ctx: Context, (): ()) -> Result<u64, Failure> {
        let retry = RetryPolicy::new()
            .initial_interval(Duration::from_millis(100))
            .backoff_coefficient(3.0)
            .maximum_attempts(4)
            .non_retryable_types(&["Fatal"]);
        let activity = ECHO
            .schedule_to_close(Duration::from_secs(60))
            .heartbeat(Duration::from_secs(2))
            .retry(retry)
            .task_queue("gpu")
            .idempotency_key("key-1")
            .summary("an echo");
        Ok(ctx.execute(activity, &1).await?)
    }

    let run = TestRun::start(call, &());
    let [activity] = &run.open_activities()[..] else { panic!("one activity is open") };
    let options = &activity.options;
    assert_eq!(options.timeouts.start_to_close, Some(1_000));
    assert_eq!(options.timeouts.schedule_to_close, Some(60_000));
    assert_eq!(options.timeouts.schedule_to_start, None);
    assert_eq!(options.timeouts.heartbeat, Some(2_000));
    assert_eq!(options.retry_policy.initial_interval, Some(100));
    assert_eq!(options.retry_policy.backoff_coefficient, Some(3.0));
    assert_eq!(options.retry_policy.maximum_interval, None);
    assert_eq!(options.retry_policy.maximum_attempts, Some(4));
    assert_eq!(options.retry_policy.non_retryable_types, ["Fatal"]);
    assert_eq!(options.task_queue.as_deref(), Some("gpu"));
    assert_eq!(options.idempotency_key.as_deref(), Some("key-1"));
    assert_eq!(options.cancellation_type, CancellationType::TryCancel);
    assert_eq!(options.summary, "an echo");
}

#[test]
fn time_stands_still_between_events() {
    async fn clock(ctx: Context, (): ()) -> Result<[Timestamp; 3], Failure> {
        let started = ctx.now();
        let still = ctx.now();
        ctx.execute(ECHO, &1).await?;
        Ok([started, still, ctx.now()])
    }

    let mut run = TestRun::start(clock, &());
    run.pass(Duration::from_millis(250));
    run.complete(2, &1);
    let times = json!([START_MS, START_MS, START_MS + 250]);
    assert_eq!(run.closed(), Some(Closed::Completed(times)));
}

#[test]
fn randomness_is_the_stream_that_the_contract_names() {
    async fn draw(ctx: Context, (): ()) -> Result<Value, Failure> {
        let mut random = ctx.random();
        let first = [random.u64(), random.u64()];
        let third = random.next_u64();
        let in_range = (0..200).all(|_| (1..=6).contains(&random.range(1..=6)));
        let fractions = (0..200).all(|_| (0.0..1.0).contains(&random.f64()));
        let mut order: Vec<u8> = (0..10).collect();
        random.shuffle(&mut order);
        order.sort_unstable();
        Ok(json!({
            "words": [first[0], first[1], third],
            "in_range": in_range && fractions,
            "permutation": order == (0..10).collect::<Vec<u8>>(),
            "version": ctx.uuid().get_version_num(),
        }))
    }

    // ChaCha8 with a key of zeros begins with these bytes (test case 1 of
    // draft-strombergson-chacha-test-vectors-01): 3e00ef2f895f40d67f5bb8e81f09a5a1
    // 2c840ec3ce9a7f3b.
    let words = [
        u64::from_le_bytes([0x3e, 0x00, 0xef, 0x2f, 0x89, 0x5f, 0x40, 0xd6]),
        u64::from_le_bytes([0x7f, 0x5b, 0xb8, 0xe8, 0x1f, 0x09, 0xa5, 0xa1]),
        u64::from_le_bytes([0x2c, 0x84, 0x0e, 0xc3, 0xce, 0x9a, 0x7f, 0x3b]),
    ];
    let drawn = TestRun::start_with_seed(draw, &(), [0; 32]).closed();
    let expected = json!({"words": words, "in_range": true, "permutation": true, "version": 4});
    assert_eq!(drawn, Some(Closed::Completed(expected)));
    assert_eq!(TestRun::start_with_seed(draw, &(), SEED).closed(), TestRun::start(draw, &()).closed());
}

#[test]
fn input_that_does_not_decode_fails_the_run() {
    async fn number(_: Context, input: u64) -> Result<u64, Failure> {
        Ok(input)
    }

    let failure = TestRun::start(number, "three").failure();
    assert_eq!(failure.application_type(), Some(INVALID_INPUT));
    let message = failure.message();
    assert!(message.contains("invalid type: string \"three\", expected u64"), "{message}");
}

#[test]
fn a_result_that_does_not_decode_is_the_authors_to_handle() {
    async fn call(ctx: Context, (): ()) -> Result<String, Failure> {
        match ctx.execute(ECHO, &1).await {
            Ok(_) => Ok("decoded".to_owned()),
            Err(error) => {
                assert_eq!(error.kind(), ActivityErrorKind::InvalidResult);
                assert!(!error.had_no_effect(), "it did complete");
                Ok(error.to_string())
            }
        }
    }

    let mut run = TestRun::start(call, &());
    run.complete(2, "one");
    let Some(Closed::Completed(Value::String(message))) = run.closed() else {
        panic!("the author handled it: {run:?}");
    };
    assert!(message.starts_with("the result of activity `echo` does not decode: "), "{message}");
}

#[test]
fn an_activitys_failure_fails_the_run_with_its_whole_chain() {
    async fn call(ctx: Context, (): ()) -> Result<u64, Failure> {
        Ok(ctx.execute(ECHO, &1).await?)
    }

    let mut run = TestRun::start(call, &());
    run.answer(2, Answer::exhaust("Unavailable", "try tomorrow"));
    let failure = run.failure();
    assert_eq!(failure.links().len(), 2);
    assert_eq!(failure.to_string(), "activity `echo` failed: try tomorrow");
}

#[test]
fn log_lines_carry_fields() {
    async fn speak(ctx: Context, name: String) -> Result<(), Failure> {
        info!(ctx, "hello {name}", attempt = ctx.info().attempt, id = ctx.info().workflow_id);
        Ok(())
    }

    let run = TestRun::start(speak, "Ada");
    assert_eq!(run.logs(), ["INFO hello Ada attempt=1 id=test-1"]);
}

#[test]
fn an_operation_that_is_ready_does_not_wake_what_waits_for_others() {
    async fn first_of_many(ctx: Context, (): ()) -> Result<u64, Failure> {
        let calls = (0..50).map(|number| ctx.execute(ECHO, &number).boxed_local());
        let (first, index, rest) = futures::future::select_all(calls).await;
        assert_eq!(rest.len(), 49);
        drop(rest);
        Ok(first? + index as u64)
    }

    let mut run = TestRun::start(first_of_many, &());
    let open = run.open_activities();
    run.complete(open[41].id, &1);
    let history = run.history();
    let canceled = history.iter().filter(|line| line.contains("CancelRequested")).count();
    assert_eq!(canceled, 49);
    assert_eq!(run.closed(), Some(Closed::Completed(json!(42))));
}
