//! Updates: validated before they are recorded, taken on by handlers beside the workflow, answered by them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use everfold_guest::testing::{Closed, TestRun};
use everfold_guest::{Activity, Context, Failure, INVALID_INPUT, UNKNOWN_UPDATE};
use serde_json::json;

const LOOK_UP: Activity<str, i64> = Activity::new("look-up").start_to_close(Duration::from_secs(1));

/// Adds what it is told, or what an activity knows under a name, until it has 10.
async fn adder(ctx: Context, (): ()) -> Result<i64, Failure> {
    let sum = Rc::new(Cell::new(0));
    ctx.on_validated_update(
        "add",
        |number: &i64| match number {
            0.. => Ok(()),
            _ => Err(Failure::application("Negative", "less than nothing")),
        },
        {
            let sum = Rc::clone(&sum);
            move |number| {
                let sum = Rc::clone(&sum);
                async move {
                    sum.set(sum.get() + number);
                    Ok::<_, Failure>(sum.get())
                }
            }
        },
    );
    ctx.on_update("add-known", {
        let (ctx, sum) = (ctx.clone(), Rc::clone(&sum));
        move |name: String| {
            let (ctx, sum) = (ctx.clone(), Rc::clone(&sum));
            async move {
                let number = ctx.execute(LOOK_UP, &name).await?;
                sum.set(sum.get() + number);
                Ok::<_, Failure>(sum.get())
            }
        }
    });
    let reached = Rc::clone(&sum);
    ctx.wait_condition(move || reached.get() >= 10).await?;
    Ok(sum.get())
}

#[test]
fn an_update_is_accepted_and_answered_and_the_workflow_sees_what_it_did() {
    let mut run = TestRun::start(adder, &());
    run.update("u-1", "add", &4).expect("it is taken");
    run.update("u-2", "add", &7).expect("it is taken");
    assert_eq!(run.update_answer("u-1"), Some(Ok(json!(4))));
    assert_eq!(
        run.history(),
        [
            "1 WorkflowStarted",
            "2 UpdateAdmitted add u-1 4",
            "3 UpdateAccepted 2 add",
            "4 UpdateCompleted 2 add 4",
            "5 UpdateAdmitted add u-2 7",
            "6 UpdateAccepted 5 add",
            "7 UpdateCompleted 5 add 11",
            "8 WorkflowCompleted 11",
        ],
    );
}

#[test]
fn handlers_call_activities_and_each_ends_in_its_own_time() {
    let mut run = TestRun::start(adder, &());
    run.update("u-1", "add-known", "a").expect("it is taken");
    run.update("u-2", "add-known", "b").expect("it is taken");
    run.update("u-3", "add", &1).expect("it is taken");
    let [a, b] = &run.open_activities()[..] else { panic!("{run:?}") };
    let (a, b) = (a.id, b.id);
    run.complete(b, &2);
    assert_eq!(run.update_answer("u-2"), Some(Ok(json!(3))));
    assert_eq!(run.update_answer("u-1"), None);
    run.complete(a, &8);
    assert_eq!(run.update_answer("u-1"), Some(Ok(json!(11))));
    assert_eq!(run.closed(), Some(Closed::Completed(json!(11))));
}

#[test]
fn what_is_refused_leaves_no_trace() {
    let mut run = TestRun::start(adder, &());
    let refused = run.update("u-1", "add", &-1).expect_err("it is negative");
    assert_eq!(refused.application_type(), Some("Negative"));
    let invalid = run.update("u-2", "add", "one").expect_err("it is no number");
    assert_eq!(invalid.application_type(), Some(INVALID_INPUT));
    let unknown = run.update("u-3", "subtract", &1).expect_err("nobody takes it");
    assert_eq!(unknown.application_type(), Some(UNKNOWN_UPDATE));
    assert_eq!(unknown.message(), "there is no update `subtract`; known: `add`, `add-known`");
    assert_eq!(run.history(), ["1 WorkflowStarted"]);
    run.update("u-1", "add", &1).expect("the same id, and another input");
}

#[test]
fn a_handlers_failure_is_its_callers_and_not_the_runs() {
    async fn picky(ctx: Context, (): ()) -> Result<(), Failure> {
        ctx.on_update("please", |(): ()| async { Err::<(), _>(Failure::application("No", "never")) });
        Ok(ctx.signal("go").recv().await?)
    }

    let mut run = TestRun::start(picky, &());
    run.update("u-1", "please", &()).expect("it is taken");
    let answer = run.update_answer("u-1").expect("it is answered");
    assert_eq!(answer.expect_err("it fails").application_type(), Some("No"));
    assert_eq!(run.closed(), None);
}

#[test]
fn an_announced_update_waits_for_its_handler_and_is_validated_then() {
    async fn late(ctx: Context, (): ()) -> Result<Vec<i64>, Failure> {
        ctx.signal::<()>("go").recv().await?;
        let taken = Rc::new(RefCell::new(Vec::new()));
        let (seen, taking) = (Rc::clone(&taken), Rc::clone(&taken));
        ctx.on_validated_update(
            "push",
            move |number: &i64| match seen.borrow().contains(number) {
                false => Ok(()),
                true => Err(Failure::application("Twice", "it is there")),
            },
            move |number| {
                let taken = Rc::clone(&taking);
                async move {
                    taken.borrow_mut().push(number);
                    Ok::<_, Failure>(())
                }
            },
        );
        ctx.all_handlers_finished().await?;
        Ok(taken.borrow().clone())
    }

    let mut run = TestRun::announcing("push").start(late, &());
    for (update_id, number) in [("u-1", 5), ("u-2", 5), ("u-3", 6)] {
        run.update(update_id, "push", &number).expect("it waits");
    }
    assert_eq!(run.unaccepted_updates().len(), 3);
    run.signal("go", &());
    assert_eq!(run.closed(), Some(Closed::Completed(json!([5, 6]))));
    assert_eq!(run.update_answer("u-1"), Some(Ok(json!(null))));
    let twice = run.update_answer("u-2").expect("it is answered").expect_err("it is there");
    assert_eq!(twice.application_type(), Some("Twice"));
}

#[test]
fn a_workflow_that_ends_first_answers_nothing_more() {
    async fn hasty(ctx: Context, (): ()) -> Result<(), Failure> {
        let at_work = ctx.clone();
        ctx.on_update("look", move |(): ()| {
            let ctx = at_work.clone();
            async move { Ok::<_, Failure>(ctx.execute(LOOK_UP, "it").await?) }
        });
        Ok(ctx.signal("go").recv().await?)
    }

    let mut run = TestRun::start(hasty, &());
    run.update("u-1", "look", &()).expect("it is taken");
    run.signal("go", &());
    assert_eq!(run.closed(), Some(Closed::Completed(json!(null))));
    assert_eq!(run.update_answer("u-1"), None);
    assert_eq!(run.history().last().map(String::as_str), Some("7 WorkflowCompleted null"));
}

#[test]
fn cancellation_ends_what_a_handler_waits_for_and_a_condition() {
    let mut run = TestRun::start(adder, &());
    run.update("u-1", "add-known", "a").expect("it is taken");
    run.request_cancel("enough");
    let answer = run.update_answer("u-1").expect("it is answered").expect_err("it was cancelled");
    assert!(answer.is_canceled(), "{answer:?}");
    assert!(matches!(run.closed(), Some(Closed::Canceled(_))), "{run:?}");
}

#[test]
#[should_panic(expected = "a query's answer asked for something")]
fn a_validator_that_asks_for_something_is_a_fault() {
    async fn asking(ctx: Context, (): ()) -> Result<(), Failure> {
        let asks = ctx.clone();
        ctx.on_validated_update(
            "ask",
            move |(): &()| {
                asks.start_detached("other", "other-1", &());
                Ok::<(), Failure>(())
            },
            |(): ()| async { Ok::<_, Failure>(()) },
        );
        Ok(ctx.signal("go").recv().await?)
    }

    let _ = TestRun::start(asking, &()).update("u-1", "ask", &());
}

#[test]
fn a_wait_that_nobody_polls_is_woken_once() {
    async fn stubborn(ctx: Context, (): ()) -> Result<u64, Failure> {
        let is_so = Rc::new(Cell::new(false));
        let seen = Rc::clone(&is_so);
        let mut condition = Box::pin(ctx.wait_condition(move || seen.get()));
        assert!(futures::poll!(&mut condition).is_pending());
        is_so.set(true);
        let number = ctx.signal("number").recv().await?;
        condition.await?;
        Ok(number)
    }

    let mut run = TestRun::start(stubborn, &());
    run.signal("number", &3);
    assert_eq!(run.closed(), Some(Closed::Completed(json!(3))));
}
