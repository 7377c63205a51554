//! Versions of a change: a new run follows the latest, an old one what it followed before.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use everfold_guest::testing::{Closed, TestRun};
use everfold_guest::{Activity, Context, DEFAULT_VERSION, Failure};
use serde_json::json;

const PAY: Activity<str, ()> = Activity::new("pay").start_to_close(Duration::from_secs(1));
const PACK: Activity<str, ()> = Activity::new("pack").start_to_close(Duration::from_secs(1));

/// Asks at the place of the change, and again behind it.
async fn process(ctx: Context, (): ()) -> Result<[i32; 2], Failure> {
    let first = ctx.version("pack-first", DEFAULT_VERSION..=1);
    let steps = if first == DEFAULT_VERSION { [PAY, PACK] } else { [PACK, PAY] };
    for step in steps {
        ctx.execute(step, "o-1").await?;
    }
    Ok([first, ctx.version("pack-first", DEFAULT_VERSION..=1)])
}

/// All activities done, in the order in which they were asked for.
fn complete(run: &mut TestRun) {
    while let Some(activity) = run.open_activities().first() {
        run.complete(activity.id, &());
    }
}

#[test]
fn a_new_run_follows_the_latest_version_and_its_history_says_so_once() {
    let mut run = TestRun::start(process, &());
    complete(&mut run);
    assert_eq!(
        run.history(),
        [
            "1 WorkflowStarted",
            "2 VersionMarkerRecorded pack-first 1",
            "3 ActivityScheduled pack \"o-1\"",
            "4 ActivityCompleted pack",
            "5 ActivityScheduled pay \"o-1\"",
            "6 ActivityCompleted pay",
            "7 WorkflowCompleted [1,1]",
        ],
    );
}

#[test]
fn a_run_from_before_the_change_goes_on_in_the_old_branch_without_a_marker() {
    let mut run = TestRun::following("pack-first", DEFAULT_VERSION).start(process, &());
    complete(&mut run);
    assert_eq!(
        run.history(),
        [
            "1 WorkflowStarted",
            "2 ActivityScheduled pay \"o-1\"",
            "3 ActivityCompleted pay",
            "4 ActivityScheduled pack \"o-1\"",
            "5 ActivityCompleted pack",
            "6 WorkflowCompleted [-1,-1]",
        ],
    );
}

async fn twice_changed(ctx: Context, (): ()) -> Result<[i32; 2], Failure> {
    Ok([ctx.version("pack-first", DEFAULT_VERSION..=2), ctx.version("gift-wrap", DEFAULT_VERSION..=1)])
}

#[test]
fn each_change_has_a_version_of_its_own() {
    let run = TestRun::following("pack-first", 1).start(twice_changed, &());
    assert_eq!(run.closed(), Some(Closed::Completed(json!([1, 1]))));
    assert_eq!(
        run.history()[1..3],
        ["2 VersionMarkerRecorded pack-first 1", "3 VersionMarkerRecorded gift-wrap 1"]
    );

    let run =
        TestRun::following("gift-wrap", DEFAULT_VERSION).following("pack-first", 2).start(twice_changed, &());
    assert_eq!(run.closed(), Some(Closed::Completed(json!([2, -1]))));
}

#[test]
fn a_turn_of_a_loop_that_wants_an_answer_of_its_own_names_it() {
    async fn turns(ctx: Context, (): ()) -> Result<Vec<i32>, Failure> {
        Ok((0..3).map(|turn| ctx.version(&format!("turn-{turn}"), DEFAULT_VERSION..=1)).collect())
    }
    let run = TestRun::following("turn-0", DEFAULT_VERSION).start(turns, &());
    assert_eq!(run.closed(), Some(Closed::Completed(json!([-1, 1, 1]))));
}

/// What a panic says.
fn panic_of(f: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(f)).expect_err("it must panic");
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn a_version_that_the_code_does_not_know_is_its_fault() {
    async fn raised(ctx: Context, (): ()) -> Result<i32, Failure> {
        Ok(ctx.version("pack-first", 1..=2))
    }
    async fn turned_back(ctx: Context, (): ()) -> Result<i32, Failure> {
        Ok(ctx.version("pack-first", DEFAULT_VERSION..=0))
    }
    assert_eq!(
        panic_of(|| drop(TestRun::following("pack-first", DEFAULT_VERSION).start(raised, &()))),
        "get-version `pack-first`: the run follows version -1, but this code knows only 1 to 2",
    );
    assert_eq!(
        panic_of(|| drop(TestRun::following("pack-first", 1).start(turned_back, &()))),
        "get-version `pack-first`: the run follows version 1, but this code knows only -1 to 0",
    );
    let run = TestRun::following("pack-first", 1).start(raised, &());
    assert_eq!(run.closed(), Some(Closed::Completed(json!(1))));
}

#[test]
fn an_empty_range_is_a_fault_of_the_code() {
    async fn empty(ctx: Context, (): ()) -> Result<i32, Failure> {
        #[expect(clippy::reversed_empty_ranges, reason = "the fault that is tested")]
        Ok(ctx.version("pack-first", 2..=1))
    }
    assert_eq!(
        panic_of(|| drop(TestRun::start(empty, &()))),
        "get-version `pack-first`: the minimum 2 is above the maximum 1",
    );
}

#[test]
fn a_query_cannot_ask_for_a_version() {
    async fn curious(ctx: Context, (): ()) -> Result<(), Failure> {
        let asking = ctx.clone();
        ctx.on_query("version", move |(): ()| asking.version("pack-first", DEFAULT_VERSION..=1));
        Ok(())
    }
    let run = TestRun::start(curious, &());
    let said = panic_of(|| drop(run.query("version", &())));
    assert_eq!(said, "a query's answer asked for something: `get-version `pack-first``");
}
