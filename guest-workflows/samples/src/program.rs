//! A workflow that does what it is told, step by step, and writes down what came of each: random tests make its programs up.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use everfold_guest::{
    Activity, ActivityError, ChildWorkflow, Context, DEFAULT_VERSION, ExternalError, Failure, Stop,
};
use futures::future::join_all;
use futures::select_biased;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::activities::NOOP;

/// The one activity of all programs. Its input says how it is to end.
const TASK: Activity<Task, Value> = Activity::new("task").start_to_close(Duration::from_secs(60));

/// A program under another one.
const CHILD: ChildWorkflow<Program, Vec<Value>> = ChildWorkflow::new("program");

/// What is left to do, and what was done.
#[derive(Serialize, Deserialize)]
pub(crate) struct Program {
    steps: Vec<Step>,
    /// One line for each step of the runs before this one.
    #[serde(default)]
    log: Vec<Value>,
}

/// The input of the activity. The workflow reads no more of it than what is here.
#[derive(Clone, Serialize, Deserialize)]
struct Task {
    id: u32,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    /// Runs a task.
    Run(Task),
    /// Runs a task, also when the run is cancelled.
    Shielded(Task),
    /// Runs tasks side by side.
    Together(Vec<Task>),
    /// Runs a task, for so many milliseconds at most.
    Race(Task, u64),
    /// Sleeps for so many milliseconds.
    Sleep(u64),
    /// Takes the next signal of that name.
    Take(String),
    /// The same, for so many milliseconds at most.
    TakeWithin(String, u64),
    /// Asks which version of a change it follows.
    Version(String),
    /// Sends another run a signal.
    Tell { to: String, name: String, value: Value },
    /// Begins a child that does these steps, and waits for its log.
    Child { id: String, steps: Vec<Step> },
    /// Goes on as a new run.
    GoOn,
}

/// Does the steps, and returns the log. When it is cancelled it calls `noop` before it closes so.
pub(crate) async fn program(ctx: Context, input: Program) -> Result<Vec<Value>, Stop> {
    let Program { mut steps, log } = input;
    let log = Rc::new(RefCell::new(log));
    ctx.on_query("log", {
        let log = Rc::clone(&log);
        move |(): ()| log.borrow().clone()
    });
    while !steps.is_empty() {
        let step = steps.remove(0);
        if matches!(step, Step::GoOn) {
            if ctx.is_cancel_requested() {
                return Err(clean_up(&ctx, None).await);
            }
            let next = Program { steps, log: log.borrow().clone() };
            return Err(ctx.continue_as_new(&next).into());
        }
        match done(&ctx, step).await {
            Ok(line) => log.borrow_mut().push(line),
            Err(canceled) => return Err(clean_up(&ctx, Some(canceled)).await),
        }
    }
    Ok(log.borrow().clone())
}

/// What the run closes with when it is cancelled.
async fn clean_up(ctx: &Context, canceled: Option<Failure>) -> Stop {
    // Its own failure would be a fault of the test.
    if let Err(error) = ctx.shield(ctx.execute(NOOP, &0)).await {
        return Stop::Failure(error.into());
    }
    Stop::Failure(canceled.unwrap_or_else(|| Failure::canceled("cancelled between two runs", Vec::new())))
}

/// Does a step, and gives its line; fails if the run is cancelled.
async fn done(ctx: &Context, step: Step) -> Result<Value, Failure> {
    match step {
        Step::Run(task) => line_of(&task, ctx.execute(TASK, &task).await),
        Step::Shielded(task) => line_of(&task, ctx.shield(ctx.execute(TASK, &task)).await),
        Step::Together(tasks) => {
            let all = join_all(tasks.iter().map(|task| ctx.execute(TASK, task))).await;
            let lines = tasks.iter().zip(all).map(|(task, result)| line_of(task, result));
            lines.collect::<Result<Vec<_>, _>>().map(Value::from)
        }
        Step::Race(task, most_ms) => {
            let mut running = ctx.execute(TASK, &task);
            let mut time_is_up = ctx.sleep(Duration::from_millis(most_ms));
            select_biased! {
                result = running => line_of(&task, result),
                fired = time_is_up => fired.map(|()| json!({ "late": task.id })).map_err(Failure::from),
            }
        }
        Step::Sleep(ms) => {
            let before = ctx.now().as_unix_ms();
            ctx.sleep(Duration::from_millis(ms)).await?;
            Ok(json!({ "slept": ms, "in_full": ctx.now().as_unix_ms() - before >= ms }))
        }
        Step::Take(name) => {
            let value: Value = ctx.signal(&name).recv().await.map_err(Failure::from)?;
            Ok(json!({ "took": name, "value": value }))
        }
        Step::TakeWithin(name, ms) => {
            let signals = ctx.signal::<Value>(&name);
            let mut taken = signals.recv();
            let mut time_is_up = ctx.sleep(Duration::from_millis(ms));
            select_biased! {
                value = taken => Ok(json!({ "took": name, "value": value.map_err(Failure::from)? })),
                fired = time_is_up => fired.map(|()| json!({ "missed": name })).map_err(Failure::from),
            }
        }
        Step::Version(change) => {
            let version = ctx.version(&change, DEFAULT_VERSION..=1);
            Ok(json!({ "change": change, "version": version }))
        }
        Step::Tell { to, name, value } => match ctx.external_workflow(&to).signal(&name, &value).await {
            Ok(()) => Ok(json!({ "told": to, "is_there": true })),
            Err(ExternalError::Failed(_)) => Ok(json!({ "told": to, "is_there": false })),
            Err(ExternalError::Canceled(canceled)) => Err(canceled.into()),
        },
        Step::Child { id, steps } => {
            let program = Program { steps, log: Vec::new() };
            match ctx.execute_child(CHILD.workflow_id(&id), &program).await {
                Ok(log) => Ok(json!({ "child": id, "gave": log })),
                Err(error) if error.is_canceled() => Err(error.into()),
                Err(error) => Ok(json!({ "child": id, "failed": error.application_type() })),
            }
        }
        Step::GoOn => unreachable!("no step that gives a line"),
    }
}

/// The line of a task that ended by itself.
fn line_of(task: &Task, result: Result<Value, ActivityError>) -> Result<Value, Failure> {
    match result {
        Ok(value) => Ok(json!({ "task": task.id, "gave": value })),
        Err(error) if error.is_canceled() => Err(error.into()),
        Err(error) => Ok(json!({ "task": task.id, "failed": error.application_type() })),
    }
}

#[cfg(test)]
mod tests {
    use everfold_guest::testing::{Closed, TestRun};

    use super::*;

    #[test]
    fn steps_are_done_in_order_and_the_log_goes_on_with_the_run() {
        let steps = json!([{"run": {"id": 1, "fails": 2}}, "go_on", {"take": "a"}, {"version": "v"}]);
        let mut run = TestRun::start(program, &json!({ "steps": steps }));
        run.complete(2, &"one");
        let mut run = run.next_run(program);
        run.signal("a", &7);
        let log = json!([
            {"task": 1, "gave": "one"},
            {"took": "a", "value": 7},
            {"change": "v", "version": 1},
        ]);
        assert_eq!(run.query("log", &()), Ok(log.clone()));
        assert_eq!(run.closed(), Some(Closed::Completed(log)));
    }

    #[test]
    fn it_cleans_up_when_it_is_cancelled() {
        let mut run = TestRun::start(program, &json!({ "steps": [{"sleep": 10}] }));
        run.request_cancel("enough");
        assert_eq!(
            run.history()[2..],
            ["3 WorkflowCancelRequested", "4 TimerCanceled 2", "5 ActivityScheduled noop 0"]
        );
        run.complete(5, &());
        assert!(matches!(run.closed(), Some(Closed::Canceled(..))), "{run:?}");
    }
}
