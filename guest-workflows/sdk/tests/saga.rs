//! Sagas: which compensations run, in which order, and what is told of those that fail.

use std::time::Duration;

use everfold_guest::failure::TimeoutType;
use everfold_guest::testing::{Answer, Closed, OpenActivity, TestRun};
use everfold_guest::{Activity, Context, Failure, Saga};
use serde_json::{Value, json};

const DO: Activity<str, ()> = Activity::new("do").start_to_close(Duration::from_secs(1));
const UNDO: Activity<str, ()> = Activity::new("undo").start_to_close(Duration::from_secs(1));

/// Three steps, a, b and c, then the undoing of all that may have happened.
async fn three_steps(ctx: Context, (): ()) -> Result<(), Failure> {
    make(&ctx, Saga::new(&ctx)).await
}

async fn three_steps_side_by_side(ctx: Context, (): ()) -> Result<(), Failure> {
    make(&ctx, Saga::new(&ctx).side_by_side()).await
}

async fn make(ctx: &Context, mut saga: Saga) -> Result<(), Failure> {
    for name in ["a", "b", "c"] {
        let step = ctx.execute(DO, name);
        let undo = ctx.execute(UNDO, name);
        if let Err(error) = saga.step(name, step, undo).await {
            let failure = Failure::application("Undone", "gave up").with_cause(error);
            return Err(saga.undo().await.report_in(failure));
        }
    }
    Ok(())
}

fn asked(run: &TestRun) -> Vec<String> {
    let scheduled = |line: String| {
        let (_, rest) = line.split_once("ActivityScheduled ")?;
        Some(rest.replace('"', ""))
    };
    run.history().into_iter().filter_map(scheduled).collect()
}

/// Answers `activity` with that input as told, and completes everything else.
fn only(activity: &'static str, input: &'static str, answer: Answer) -> impl Fn(&OpenActivity) -> Answer {
    move |open| {
        if open.activity_type == activity && open.input == input {
            answer.clone()
        } else {
            Answer::Complete(Value::Null)
        }
    }
}

#[test]
fn nothing_is_undone_when_all_goes_well() {
    let mut run = TestRun::start(three_steps, &());
    run.drive(|_| Answer::Complete(Value::Null));
    assert_eq!(asked(&run), ["do a", "do b", "do c"]);
    assert_eq!(run.closed(), Some(Closed::Completed(Value::Null)));
}

#[test]
fn a_step_known_to_have_done_nothing_is_not_undone() {
    let cases: [(&str, &[&str]); 3] = [
        ("a", &["do a"]),
        ("b", &["do a", "do b", "undo a"]),
        ("c", &["do a", "do b", "do c", "undo b", "undo a"]),
    ];
    for (step, expected) in cases {
        let mut run = TestRun::start(three_steps, &());
        run.drive(only("do", step, Answer::refuse("No", "not today")));
        assert_eq!(asked(&run), expected, "{step}");
        assert_eq!(run.failure().to_string(), "gave up: activity `do` failed: not today");
    }
}

#[test]
fn a_step_that_may_have_happened_is_undone_first() {
    for answer in [
        Answer::exhaust("Unavailable", "try tomorrow"),
        Answer::TimeOut(TimeoutType::StartToClose),
        Answer::Cancel,
    ] {
        let mut run = TestRun::start(three_steps, &());
        run.drive(only("do", "b", answer));
        assert_eq!(asked(&run), ["do a", "do b", "undo b", "undo a"]);
    }
}

#[test]
fn a_compensation_that_fails_is_reported_and_the_others_still_run() {
    let mut run = TestRun::start(three_steps, &());
    run.drive(|open| match (open.activity_type.as_str(), open.input.as_str()) {
        ("do", Some("c")) => Answer::TimeOut(TimeoutType::ScheduleToClose),
        ("undo", Some("c" | "a")) => Answer::refuse("Stuck", "cannot"),
        _ => Answer::Complete(Value::Null),
    });
    assert_eq!(asked(&run), ["do a", "do b", "do c", "undo c", "undo b", "undo a"]);
    let failure = run.failure();
    let everfold_guest::failure::FailureKind::Application(outer) = failure.kind() else {
        panic!("the outermost link is the workflow's own: {failure}");
    };
    let details: Vec<Value> =
        outer.details.iter().map(|detail| detail.decode().expect("it is JSON")).collect();
    assert_eq!(
        details,
        [
            json!({"compensation": "c", "failure": "activity `undo` failed: cannot"}),
            json!({"compensation": "a", "failure": "activity `undo` failed: cannot"}),
        ],
    );
}

#[test]
fn compensations_run_side_by_side_if_asked() {
    let mut run = TestRun::start(three_steps_side_by_side, &());
    let until_c = |open: &OpenActivity| match open.input.as_str() {
        _ if open.activity_type == "undo" => Answer::LeaveOpen,
        Some("c") => Answer::TimeOut(TimeoutType::StartToClose),
        _ => Answer::Complete(Value::Null),
    };
    run.drive(until_c);
    let open: Vec<_> = run.open_activities().into_iter().map(|open| open.input).collect();
    assert_eq!(open, ["c", "b", "a"]);
    run.drive(|_| Answer::Complete(Value::Null));
    assert_eq!(run.failure().message(), "gave up");
}

#[test]
fn undoing_is_out_of_reach_of_cancellation() {
    let mut run = TestRun::start(three_steps, &());
    run.complete(2, &());
    run.request_cancel("stop");
    // `do b` was open and is cancelled; both undos still run, and the run fails with its own failure.
    run.answer(4, Answer::Cancel);
    run.drive(|_| Answer::Complete(Value::Null));
    assert_eq!(asked(&run), ["do a", "do b", "undo b", "undo a"]);
    assert_eq!(run.failure().application_type(), Some("Undone"));
}

#[test]
fn cancellation_while_undoing_changes_nothing() {
    let mut run = TestRun::start(three_steps, &());
    run.complete(2, &());
    run.answer(4, Answer::TimeOut(TimeoutType::StartToClose));
    run.request_cancel("stop");
    run.drive(|_| Answer::Complete(Value::Null));
    assert_eq!(asked(&run), ["do a", "do b", "undo b", "undo a"]);
    assert!(!run.history().iter().any(|line| line.contains("ActivityCancelRequested")));
}

#[test]
fn a_compensation_may_be_registered_after_its_step() {
    async fn after(ctx: Context, (): ()) -> Result<(), Failure> {
        let mut saga = Saga::new(&ctx);
        ctx.execute(DO, "a").await?;
        saga.compensate_with("a", ctx.execute(UNDO, "a"));
        let forgotten = saga.compensate_with("b", ctx.execute(UNDO, "b"));
        saga.forget(forgotten);
        assert!(saga.undo().await.failures.is_empty());
        Ok(())
    }

    let mut run = TestRun::start(after, &());
    run.drive(|_| Answer::Complete(Value::Null));
    assert_eq!(asked(&run), ["do a", "undo a"]);
}
