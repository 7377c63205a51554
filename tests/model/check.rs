//! The model: what must have come of a program, whatever was done to its host.
//!
//! It knows nothing of folds, commits and inboxes: each step gives the line that follows from the program; each task was asked for once and
//! ended once; signals were taken in the order in which they were sent, none twice. What goes back to an earlier event asks again, so that of its calls
//! less is known; of its history and its log all the same is.

use std::collections::{BTreeMap, BTreeSet};

use everfold::testing::{Call, History, RunStatus};
use everfold_core::command::Command;
use everfold_core::event::{EventKind, Input};
use everfold_core::ids::EventId;
use serde_json::{Value, json};

use super::program::{Plan, Step, Task};

/// What a run left.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) status: RunStatus,
    /// A line for each step that was done.
    pub(crate) log: Vec<Value>,
    pub(crate) chain: Vec<History>,
}

/// What may have come between a run and the end of its tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// Nothing.
    Calm,
    /// Hosts and transactions that failed, cancellation.
    Fails,
    /// The run itself, which went back and asked again.
    GoesBack,
}

/// What a task gives when all is well.
pub(crate) fn given_by(task: &Task) -> Value {
    json!(u64::from(task.id) * 7 + 3)
}

/// Checks a run against its program.
///
/// # Errors
/// What is wrong.
pub(crate) fn run(plan: &Plan, run: usize, left: &Left, calls: &[Call]) -> Result<(), String> {
    let is_cancelled = match left.status {
        RunStatus::Completed => false,
        RunStatus::Canceled if plan.cancels(run) => true,
        other => return Err(format!("it is {other:?}")),
    };
    let program: Vec<&Step> = plan.programs[run].iter().filter(|step| !matches!(step, Step::GoOn)).collect();
    if left.log.len() > program.len() || (!is_cancelled && left.log.len() < program.len()) {
        return Err(format!("{} lines for {} steps", left.log.len(), program.len()));
    }
    let mut taken = BTreeMap::new();
    for (number, (step, line)) in program.iter().zip(&left.log).enumerate() {
        if !is_line_of(step, line, &mut taken, plan.is_calm()) {
            return Err(format!("step {number}, {step:?}, cannot give {line}"));
        }
    }
    let mut asked_for = BTreeSet::new();
    for history in &left.chain {
        well_formed(history, plan)?;
        for task in scheduled(history) {
            if !asked_for.insert(task) {
                return Err(format!("task {task} was asked for twice"));
            }
        }
    }
    let course = match (plan.resets(run), plan.is_calm()) {
        (true, _) => Course::GoesBack,
        (false, true) => Course::Calm,
        (false, false) => Course::Fails,
    };
    for step in &program[..left.log.len()] {
        for task in step.tasks() {
            if !asked_for.contains(&u64::from(task.id)) {
                return Err(format!("task {} was never asked for", task.id));
            }
            attempts(task, step, calls, course)?;
        }
        if let Step::Child { steps, .. } = step {
            let tasks = steps.iter().flat_map(|step| step.tasks().iter().map(move |task| (task, step)));
            tasks.into_iter().try_for_each(|(task, step)| attempts(task, step, calls, course))?;
        }
    }
    Ok(())
}

/// The steps that give a line.
fn told(steps: &[Step]) -> Vec<&Step> {
    steps.iter().filter(|step| !matches!(step, Step::GoOn)).collect()
}

/// Whether a step may give a line. `taken` counts the signals of each name.
fn is_line_of(step: &Step, line: &Value, taken: &mut BTreeMap<String, u64>, is_calm: bool) -> bool {
    match step {
        Step::Run(task) | Step::Shielded(task) => *line == line_of(task),
        Step::Together(tasks) => *line == Value::from(tasks.iter().map(line_of).collect::<Vec<_>>()),
        Step::Race(task, most_ms) => {
            let (in_time, late) = (line_of(task), json!({ "late": task.id }));
            match duration_ms(task).cmp(most_ms) {
                std::cmp::Ordering::Less if is_calm => *line == in_time,
                std::cmp::Ordering::Greater if is_calm => *line == late,
                _ => *line == in_time || *line == late,
            }
        }
        Step::Sleep(ms) => *line == json!({ "slept": ms, "in_full": true }),
        Step::Take(name) => took(name, line, taken),
        Step::TakeWithin(name, _) => *line == json!({ "missed": name }) || took(name, line, taken),
        Step::Version(change) => *line == json!({ "change": change, "version": 1 }),
        Step::Tell { to, .. } => {
            [true, false].map(|is_there| json!({ "told": to, "is_there": is_there })).contains(line)
        }
        Step::Child { id, steps } => {
            let steps = told(steps);
            let log = line["gave"].as_array().map(Vec::as_slice).unwrap_or_default();
            line["child"] == json!(id)
                && line["gave"].is_array()
                && log.len() == steps.len()
                && steps.iter().zip(log).all(|(step, line)| is_line_of(step, line, taken, is_calm))
        }
        Step::GoOn => false,
    }
}

fn took(name: &str, line: &Value, taken: &mut BTreeMap<String, u64>) -> bool {
    let next = taken.entry(name.to_owned()).or_default();
    *next += 1;
    *line == json!({ "took": name, "value": *next - 1 })
}

fn line_of(task: &Task) -> Value {
    if task.is_refused {
        json!({ "task": task.id, "failed": "Refused" })
    } else {
        json!({ "task": task.id, "gave": given_by(task) })
    }
}

/// How long a task takes with all its attempts and the pauses between them: 1 s, 2 s, 4 s.
fn duration_ms(task: &Task) -> u64 {
    let pauses: u64 = (0..task.fails).map(|before| 1_000 << before).sum();
    task.takes_ms * u64::from(task.fails + 1) + pauses
}

/// The calls of a task: numbered upwards under one key, and no more than it needs where all is calm.
fn attempts(task: &Task, step: &Step, calls: &[Call], course: Course) -> Result<(), String> {
    let of_task: Vec<&Call> = calls.iter().filter(|call| call.input["id"] == json!(task.id)).collect();
    let keys: BTreeSet<&str> = of_task.iter().map(|call| call.idempotency_key.as_str()).collect();
    let numbers: Vec<u32> = of_task.iter().map(|call| call.attempt).collect();
    let is_race = matches!(step, Step::Race(..));
    let is_one =
        course == Course::GoesBack || (keys.len() <= 1 && numbers.is_sorted_by(|one, next| one < next));
    if !is_one {
        return Err(format!("task {} was called as attempts {numbers:?} under the keys {keys:?}", task.id));
    }
    let needed = task.fails as usize + 1;
    if course == Course::Calm && !is_race && numbers.len() != needed {
        return Err(format!("task {} was called {} times, not {needed}", task.id, numbers.len()));
    }
    if !is_race && numbers.is_empty() {
        return Err(format!("task {} ended without a call", task.id));
    }
    Ok(())
}

/// The tasks that a history asks for.
fn scheduled(history: &History) -> Vec<u64> {
    let of = |kind: &EventKind| match kind {
        EventKind::Command(Command::ActivityScheduled(activity)) => activity.input.to_value()["id"].as_u64(),
        EventKind::Command(_) | EventKind::Input(_) | EventKind::Note(_) => None,
    };
    history.events.iter().filter_map(|event| of(&event.kind)).collect()
}

/// A history is numbered without gaps, in the order of time; each operation ends once, and a signal comes once.
fn well_formed(history: &History, plan: &Plan) -> Result<(), String> {
    let goes_back = |sender: &str| {
        sender.strip_prefix("told-").and_then(|run| run.parse().ok()).is_some_and(|run| plan.resets(run))
    };
    let mut ended = BTreeSet::new();
    let mut received = BTreeSet::new();
    let mut last = None;
    for (number, event) in (1..).zip(&history.events) {
        if event.id != EventId(number) || Some(event.time) < last {
            return Err(format!("event {number} is {} at {}", event.id, event.time));
        }
        last = Some(event.time);
        if let Some(operation) = ends(&event.kind)
            && !ended.insert(operation)
        {
            return Err(format!("operation {operation} ended twice, the second time in event {number}"));
        }
        if let EventKind::Input(Input::SignalReceived(signal)) = &event.kind
            && !goes_back(&signal.name)
            && !received.insert((signal.name.clone(), signal.input.to_value().to_string()))
        {
            return Err(format!("signal {} came twice, the second time in event {number}", signal.name));
        }
    }
    Ok(())
}

/// The operation that an event ends.
fn ends(kind: &EventKind) -> Option<EventId> {
    match kind {
        EventKind::Input(Input::ActivityCompleted(completed)) => Some(completed.scheduled_event_id),
        EventKind::Input(
            Input::ActivityFailed(closed) | Input::ActivityTimedOut(closed) | Input::ActivityCanceled(closed),
        ) => Some(closed.scheduled_event_id),
        EventKind::Input(Input::TimerFired(timer)) => Some(timer.started_event_id),
        EventKind::Command(Command::TimerCanceled(timer)) => Some(timer.started_event_id),
        EventKind::Input(Input::ExternalRequestCompleted(closed)) => Some(closed.command_event_id),
        EventKind::Input(Input::ExternalRequestFailed(closed)) => Some(closed.command_event_id),
        EventKind::Input(_) | EventKind::Command(_) | EventKind::Note(_) => None,
    }
}
