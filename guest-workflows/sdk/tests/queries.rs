//! Queries: answered from shared state at any time, and without effect on the run.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use everfold_guest::testing::TestRun;
use everfold_guest::{Activity, Context, Failure, INVALID_INPUT, UNKNOWN_QUERY, info};
use serde_json::json;

const WORK: Activity<str, ()> = Activity::new("work").start_to_close(Duration::from_secs(1));

async fn two_steps(ctx: Context, (): ()) -> Result<(), Failure> {
    let done = Rc::new(RefCell::new(Vec::new()));
    ctx.on_query("done", {
        let done = Rc::clone(&done);
        move |(): ()| done.borrow().clone()
    });
    ctx.on_query("nth", {
        let done = Rc::clone(&done);
        move |index: usize| done.borrow().get(index).copied()
    });
    for step in ["one", "two"] {
        ctx.execute(WORK, step).await?;
        done.borrow_mut().push(step);
    }
    Ok(())
}

#[test]
fn a_query_is_answered_at_each_stage_and_after_the_end() {
    let mut run = TestRun::start(two_steps, &());
    assert_eq!(run.query("done", &()), Ok(json!([])));
    run.complete(2, &());
    assert_eq!(run.query("done", &()), Ok(json!(["one"])));
    run.complete(4, &());
    assert!(run.closed().is_some());
    assert_eq!(run.query("done", &()), Ok(json!(["one", "two"])));
    assert_eq!(run.query("nth", &1), Ok(json!("two")));
    assert_eq!(run.history().len(), 6, "a query is not in the history");
}

#[test]
fn an_unknown_query_is_told_which_there_are() {
    async fn silent(_: Context, (): ()) -> Result<(), Failure> {
        Ok(())
    }

    let unknown = TestRun::start(two_steps, &()).query("status", &()).expect_err("nobody answers it");
    assert_eq!(unknown.application_type(), Some(UNKNOWN_QUERY));
    assert_eq!(unknown.message(), "there is no query `status`; known: `done`, `nth`");
    let unknown = TestRun::start(silent, &()).query("status", &()).expect_err("nobody answers anything");
    assert_eq!(unknown.message(), "there is no query `status`; known: none");
}

#[test]
fn input_that_does_not_decode_is_a_failure() {
    let run = TestRun::start(two_steps, &());
    let invalid = run.query("nth", "first").expect_err("it takes a number");
    assert_eq!(invalid.application_type(), Some(INVALID_INPUT));
    assert!(invalid.message().starts_with("the input of query `nth` does not decode: "), "{invalid}");
}

#[test]
fn the_latest_answer_counts() {
    async fn twice(ctx: Context, (): ()) -> Result<(), Failure> {
        ctx.on_query("age", |(): ()| 1);
        ctx.on_query("age", |(): ()| 2);
        Ok(())
    }

    assert_eq!(TestRun::start(twice, &()).query("age", &()), Ok(json!(2)));
}

/// A workflow whose answers do what they must not.
async fn meddlesome(ctx: Context, (): ()) -> Result<(), Failure> {
    let asking = ctx.clone();
    ctx.on_query("start", move |(): ()| asking.start_detached("other", "other-1", &()));
    let taking = ctx.signal::<u64>("add");
    ctx.on_query("take", move |(): ()| taking.try_recv().is_some());
    let drawing = ctx.clone();
    ctx.on_query("draw", move |(): ()| drawing.random().u64());
    let talking = ctx.clone();
    ctx.on_query("talk", move |(): ()| {
        info!(talking, "asked");
        talking.counter("asked_total").add(1.0);
    });
    let dropping = ctx.clone();
    let timer = RefCell::new(None);
    ctx.on_query("drop", move |(): ()| {
        timer.replace(Some(dropping.sleep(Duration::from_secs(1))));
        timer.take().is_some()
    });
    ctx.execute(WORK, "on").await?;
    Ok(())
}

#[test]
#[should_panic(expected = "a query's answer asked for something: `DetachedWorkflowStarted")]
fn a_command_in_an_answer_traps() {
    drop(TestRun::start(meddlesome, &()).query("start", &()));
}

#[test]
#[should_panic(expected = "a query's answer asked for something: `take-signal`")]
fn taking_a_signal_in_an_answer_traps() {
    drop(TestRun::start(meddlesome, &()).query("take", &()));
}

#[test]
#[should_panic(expected = "a query's answer drew a random number")]
fn randomness_in_an_answer_traps() {
    drop(TestRun::start(meddlesome, &()).query("draw", &()));
}

#[test]
fn what_an_answer_observes_or_drops_leaves_no_trace() {
    let run = TestRun::start(meddlesome, &());
    assert_eq!(run.query("talk", &()), Ok(json!(null)));
    assert_eq!(run.query("drop", &()), Ok(json!(true)));
    assert_eq!(run.logs(), [""; 0]);
    assert_eq!(run.metrics(), [""; 0]);
    assert_eq!(run.history().len(), 2);
}
