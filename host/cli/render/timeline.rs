//! A history as a timeline, one event a line: number, time since the start, type, the operation's
//! name, the essential.

use std::collections::BTreeMap;

use everfold_core::attributes::AttributeValue;
use everfold_core::command::{Command, ExternalWorkflow, UpdateOutcome};
use everfold_core::event::{ActivityClosedBadly, Event, EventKind, Input, Note};
use everfold_core::ids::{EventId, Timestamp};
use everfold_core::payload::Payload;
use owo_colors::{OwoColorize as _, Style};
use serde_json::Value;

use super::{cut, duration, failure, one_line, payload};

/// Columns of a type: the longest is `ExternalRequestCompleted`.
const TYPE_WIDTH: usize = 24;
/// Between two columns.
const GAP: &str = "  ";
/// The least columns of the essential, however narrow the terminal.
const LEAST_ESSENTIAL: usize = 16;
/// The same for what went wrong: its cause stands at the end, so that it may go on in the next line.
const LEAST_FAILURE: usize = 240;

/// Writes the lines of one run, in order.
#[derive(Debug)]
pub(in crate::cli) struct Timeline {
    width: usize,
    began: Option<Timestamp>,
    /// Operations by the command that began them: later events name only that.
    names: BTreeMap<EventId, String>,
}

/// What a line says.
struct Line {
    tone: Tone,
    name: String,
    essential: String,
}

/// What an event means for the run.
#[derive(Clone, Copy)]
enum Tone {
    Began,
    Asked,
    Good,
    Bad,
    Note,
}

impl Timeline {
    /// Lines of at most `width` columns.
    pub(in crate::cli) const fn new(width: usize) -> Self {
        Self { width, began: None, names: BTreeMap::new() }
    }

    /// The line of the next event.
    pub(in crate::cli) fn line(&mut self, event: &Event) -> String {
        let began = *self.began.get_or_insert(event.time);
        let Line { tone, name, essential } = match &event.kind {
            EventKind::Input(input) => self.input(input),
            EventKind::Command(command) => self.command(event.id, command),
            EventKind::Note(note) => note_line(note),
        };
        let name = one_line(&name);
        let number = format!("{:>5}", event.id.0);
        let since = format!("{:>11}", duration(event.time.ms_since(began)));
        let event_type = format!("{:<TYPE_WIDTH$}", event.kind.type_name());
        let used = number.len() + since.len() + TYPE_WIDTH + name.chars().count() + 4 * GAP.len();
        let essential =
            cut(&one_line(&essential), self.width.saturating_sub(used).max(tone.least_essential()));
        let mut line = [
            number.dimmed().to_string(),
            since.dimmed().to_string(),
            event_type.style(tone.style()).to_string(),
        ]
        .join(GAP);
        if !name.is_empty() {
            line += &format!("{GAP}{}", name.bold());
        }
        if !essential.is_empty() {
            line += &format!("{GAP}{}", essential.style(tone.essential_style()));
        }
        line
    }

    fn input(&self, input: &Input) -> Line {
        match input {
            Input::WorkflowStarted(started) => {
                let input = payload(&started.input);
                let essential = match (&started.continued_from_run_id, &started.parent) {
                    (Some(run_id), _) => format!("{input} (continued from {run_id})"),
                    (None, Some(parent)) => format!("{input} (child of {})", parent.workflow_id),
                    (None, None) => input,
                };
                let essential = essential.trim_start().to_owned();
                Line::new(Tone::Began, &started.workflow_type, essential)
            }
            Input::WorkflowCancelRequested(request) => Line::new(Tone::Bad, "", request.reason.clone()),
            Input::ActivityCompleted(completed) => {
                let name = self.name(completed.scheduled_event_id);
                Line::new(Tone::Good, &name, after_attempts(completed.attempt, &payload(&completed.result)))
            }
            Input::ActivityFailed(closed)
            | Input::ActivityTimedOut(closed)
            | Input::ActivityCanceled(closed) => self.closed_badly(closed),
            Input::TimerFired(fired) => {
                Line::new(Tone::Good, &self.name(fired.started_event_id), String::new())
            }
            Input::SignalReceived(signal) => Line::new(Tone::Began, &signal.name, payload(&signal.input)),
            Input::RandomReseeded(_) => {
                Line::new(Tone::Note, "", "other random numbers from here on".to_owned())
            }
            Input::UpdateAdmitted(update) => {
                Line::new(Tone::Began, &update.name, id_and(&update.update_id, &payload(&update.input)))
            }
            Input::ExternalRequestCompleted(closed) => {
                Line::new(Tone::Good, &self.name(closed.command_event_id), String::new())
            }
            Input::ExternalRequestFailed(closed) => {
                Line::new(Tone::Bad, &self.name(closed.command_event_id), failure(&closed.failure))
            }
            Input::ChildWorkflowStarted(started) => {
                Line::new(Tone::Good, &self.name(started.command_event_id), started.run_id.to_string())
            }
            Input::ChildWorkflowCompleted(completed) => {
                Line::new(Tone::Good, &self.name(completed.command_event_id), payload(&completed.result))
            }
            Input::ChildWorkflowStartFailed(closed) | Input::ChildWorkflowFailed(closed) => {
                Line::new(Tone::Bad, &self.name(closed.command_event_id), failure(&closed.failure))
            }
        }
    }

    fn closed_badly(&self, closed: &ActivityClosedBadly) -> Line {
        let why = failure(&closed.failure);
        Line::new(Tone::Bad, &self.name(closed.scheduled_event_id), after_attempts(closed.attempt, &why))
    }

    fn command(&mut self, id: EventId, command: &Command) -> Line {
        match command {
            Command::ActivityScheduled(activity) => {
                self.names.insert(id, activity.activity_type.clone());
                Line::new(Tone::Asked, &activity.activity_type, payload(&activity.input))
            }
            Command::ActivityCancelRequested(request) => {
                Line::new(Tone::Asked, &self.name(request.scheduled_event_id), String::new())
            }
            Command::TimerStarted(timer) => {
                let name = if timer.summary.is_empty() {
                    duration(timer.duration_ms)
                } else {
                    timer.summary.clone()
                };
                self.names.insert(id, name.clone());
                let essential =
                    if timer.summary.is_empty() { String::new() } else { duration(timer.duration_ms) };
                Line::new(Tone::Asked, &name, essential)
            }
            Command::TimerCanceled(timer) => {
                Line::new(Tone::Asked, &self.name(timer.started_event_id), String::new())
            }
            Command::SignalTaken(taken) => {
                Line::new(Tone::Asked, &taken.name, format!("received as #{}", taken.received_event_id))
            }
            Command::UpdateAccepted(update) => {
                let admitted = format!("admitted as #{}", update.admitted_event_id);
                Line::new(Tone::Asked, &update.name, id_and(&update.update_id, &admitted))
            }
            Command::UpdateCompleted(update) => {
                let (tone, answer) = match &update.outcome {
                    UpdateOutcome::Result(result) => (Tone::Good, payload(result)),
                    UpdateOutcome::Failure(error) => (Tone::Bad, failure(error)),
                };
                Line::new(tone, &update.name, id_and(&update.update_id, &answer))
            }
            Command::VersionMarkerRecorded(marker) => {
                Line::new(Tone::Asked, &marker.change_id, format!("version {}", marker.version))
            }
            Command::SearchAttributesUpserted(upserted) => {
                let named = upserted.search_attributes.iter().map(|(name, value)| {
                    (name.clone(), value.as_ref().map_or(Value::Null, AttributeValue::to_json))
                });
                Line::new(Tone::Asked, "", Value::from_iter(named).to_string())
            }
            Command::MemoUpserted(upserted) => {
                let named = upserted.memo.iter().map(|(name, value)| {
                    (name.clone(), value.as_ref().map_or(Value::Null, Payload::to_value))
                });
                Line::new(Tone::Asked, "", Value::from_iter(named).to_string())
            }
            Command::WorkflowContinuedAsNew(next) => {
                let essential = format!("as {} {}", next.new_run_id, payload(&next.input));
                Line::new(Tone::Good, &next.workflow_type, essential.trim_end().to_owned())
            }
            Command::DetachedWorkflowStarted(started) => {
                let essential = format!("{} {}", started.workflow_id, payload(&started.input));
                Line::new(Tone::Asked, &started.workflow_type, essential.trim_end().to_owned())
            }
            Command::ExternalSignalInitiated(request) => {
                let to = external(&request.to);
                self.names.insert(id, format!("{} to {to}", request.signal.name));
                let essential = format!("to {to} {}", payload(&request.signal.input));
                Line::new(Tone::Asked, &request.signal.name, essential.trim_end().to_owned())
            }
            Command::ExternalCancelInitiated(request) => {
                let to = external(&request.to);
                self.names.insert(id, to.clone());
                Line::new(Tone::Asked, &to, request.reason.clone())
            }
            Command::ChildWorkflowInitiated(child) => {
                self.names.insert(id, child.workflow_type.clone());
                let essential = format!("{} {}", child.workflow_id, payload(&child.input));
                Line::new(Tone::Asked, &child.workflow_type, essential.trim_end().to_owned())
            }
            Command::ChildCancelRequested(request) => {
                Line::new(Tone::Asked, &self.name(request.command_event_id), request.reason.clone())
            }
            Command::WorkflowCompleted(completed) => Line::new(Tone::Good, "", payload(&completed.result)),
            Command::WorkflowFailed(failed) => Line::new(Tone::Bad, "", failure(&failed.failure)),
            Command::WorkflowCanceled(canceled) => {
                let details: Vec<String> =
                    canceled.details.iter().map(|details: &Payload| payload(details)).collect();
                Line::new(Tone::Bad, "", details.join(", "))
            }
        }
    }

    fn name(&self, id: EventId) -> String {
        self.names.get(&id).cloned().unwrap_or_else(|| format!("#{id}"))
    }
}

/// An update's id, and what there is to say of it.
fn id_and(update_id: &str, text: &str) -> String {
    format!("({update_id}) {text}").trim_end().to_owned()
}

/// Another run, as people name it.
fn external(to: &ExternalWorkflow) -> String {
    match to.run_id {
        Some(run_id) => format!("{}/{run_id}", to.workflow_id),
        None => to.workflow_id.to_string(),
    }
}

fn note_line(note: &Note) -> Line {
    match note {
        Note::VersionMoved(moved) => {
            Line::new(Tone::Note, "", format!("{} → {}", moved.from.short(), moved.to.short()))
        }
        Note::WorkflowTimedOut(timed_out) => {
            Line::new(Tone::Bad, "", format!("its {} passed", timed_out.timeout.name()))
        }
        Note::WorkflowTerminated(terminated) => Line::new(Tone::Bad, "", terminated.reason.clone()),
        Note::RunReset(reset) => {
            let why = if reset.reason.is_empty() { String::new() } else { format!(": {}", reset.reason) };
            let text = format!("to event {} of run {}{why}", reset.to_event_id, reset.from_run_id);
            Line::new(Tone::Note, "", text)
        }
    }
}

/// Attempts are told only where there was more than one.
fn after_attempts(attempt: u32, text: &str) -> String {
    match (attempt, text) {
        (0 | 1, _) => text.to_owned(),
        (_, "") => format!("after {attempt} attempts"),
        _ => format!("after {attempt} attempts: {text}"),
    }
}

impl Line {
    fn new(tone: Tone, name: &str, essential: String) -> Self {
        Self { tone, name: name.to_owned(), essential }
    }
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Self::Began => Style::new().magenta(),
            Self::Asked => Style::new().blue(),
            Self::Good => Style::new().green(),
            Self::Bad => Style::new().red(),
            Self::Note => Style::new().yellow(),
        }
    }

    const fn least_essential(self) -> usize {
        match self {
            Self::Bad => LEAST_FAILURE,
            Self::Began | Self::Asked | Self::Good | Self::Note => LEAST_ESSENTIAL,
        }
    }

    fn essential_style(self) -> Style {
        match self {
            Self::Bad => Style::new().red(),
            Self::Began | Self::Asked | Self::Good | Self::Note => Style::new().dimmed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(width: usize, events: serde_json::Value) -> String {
        let events: Vec<Event> = serde_json::from_value(events).expect("a history");
        let mut timeline = Timeline::new(width);
        let lines: Vec<String> = events.iter().map(|event| timeline.line(event)).collect();
        anstream::adapter::strip_str(&lines.join("\n")).to_string()
    }

    fn event(id: u64, time: &str, event_type: &str, attributes: serde_json::Value) -> serde_json::Value {
        json!({
            "event_id": id,
            "time": format!("2026-01-01T00:{time}Z"),
            "type": event_type,
            "attributes": attributes,
        })
    }

    fn started() -> serde_json::Value {
        event(
            1,
            "00:00.000",
            "WorkflowStarted",
            json!({
                "workflow_type": "order-saga",
                "workflow_id": "order-1",
                "namespace": "default",
                "run_id": "00000000-0000-0000-0000-000000000000",
                "original_run_id": "00000000-0000-0000-0000-000000000000",
                "digest": "00".repeat(32),
                "input": { "json": { "order_id": "order-1", "amount_cents": 1250 } },
                "seed": "00".repeat(32),
                "attempt": 1,
            }),
        )
    }

    #[test]
    fn a_refused_order_is_undone() {
        let failed = |failure_type: &str, message: &str, cause: serde_json::Value| {
            json!({
                "message": message,
                "kind": { "kind": "application", "type": failure_type, "non_retryable": true },
                "cause": cause,
            })
        };
        let activity_failed = json!({
            "message": "activity arrange-shipping failed",
            "kind": { "kind": "activity", "scheduled_event_id": 4, "activity_type": "arrange-shipping",
                      "attempt": 1, "retry_state": "non_retryable_failure" },
            "cause": failed("ShipmentRefused", "the carrier refuses\nthis address", json!(null)),
        });
        let scheduled = |activity_type: &str| {
            json!({
                "activity_type": activity_type,
                "input": { "json": { "order_id": "order-1" } },
                "task_queue": "default",
                "idempotency_key": "k",
            })
        };
        let history = json!([
            started(),
            event(2, "00:00.000", "ActivityScheduled", scheduled("process-payment")),
            event(
                3,
                "00:03.250",
                "ActivityCompleted",
                json!({
                    "scheduled_event_id": 2, "attempt": 3, "result": { "json": { "payment_id": "p-1" } },
                })
            ),
            event(4, "00:03.250", "ActivityScheduled", scheduled("arrange-shipping")),
            event(
                5,
                "02:05.000",
                "ActivityFailed",
                json!({
                    "scheduled_event_id": 4, "attempt": 1, "failure": activity_failed,
                })
            ),
            event(6, "02:05.000", "TimerStarted", json!({ "duration_ms": 90_000 })),
            event(7, "03:35.000", "TimerFired", json!({ "started_event_id": 6 })),
            event(
                8,
                "03:35.000",
                "WorkflowFailed",
                json!({
                    "failure": failed("OrderFailed", "the order was undone", activity_failed.clone()),
                })
            ),
        ]);
        insta::assert_snapshot!(lines(101, history.clone()), @r#"
        1         0 ms  WorkflowStarted           order-saga  {"order_id":"order-1","amount_cents":1250}
        2         0 ms  ActivityScheduled         process-payment  {"order_id":"order-1"}
        3       3.25 s  ActivityCompleted         process-payment  after 3 attempts: {"payment_id":"p-1"}
        4       3.25 s  ActivityScheduled         arrange-shipping  {"order_id":"order-1"}
        5    2 min 5 s  ActivityFailed            arrange-shipping  ShipmentRefused: the carrier refuses this address
        6    2 min 5 s  TimerStarted              1 min 30 s
        7   3 min 35 s  TimerFired                1 min 30 s
        8   3 min 35 s  WorkflowFailed            OrderFailed: the order was undone ← ShipmentRefused: the carrier refuses this address
        "#);
        insta::assert_snapshot!(lines(10, history), @r#"
        1         0 ms  WorkflowStarted           order-saga  {"order_id":"or…
        2         0 ms  ActivityScheduled         process-payment  {"order_id":"or…
        3       3.25 s  ActivityCompleted         process-payment  after 3 attempt…
        4       3.25 s  ActivityScheduled         arrange-shipping  {"order_id":"or…
        5    2 min 5 s  ActivityFailed            arrange-shipping  ShipmentRefused: the carrier refuses this address
        6    2 min 5 s  TimerStarted              1 min 30 s
        7   3 min 35 s  TimerFired                1 min 30 s
        8   3 min 35 s  WorkflowFailed            OrderFailed: the order was undone ← ShipmentRefused: the carrier refuses this address
        "#);
    }

    #[test]
    fn notes_cancellation_and_unknown_operations_have_their_lines() {
        let history = json!([
            started(),
            event(2, "00:00.000", "VersionMoved", json!({ "from": "00".repeat(32), "to": "ff".repeat(32) })),
            event(3, "00:01.000", "WorkflowCancelRequested", json!({ "reason": "the customer asked" })),
            event(4, "00:01.000", "ActivityCancelRequested", json!({ "scheduled_event_id": 99 })),
            event(5, "00:01.000", "WorkflowCanceled", json!({ "details": [{ "json": "bye" }] })),
        ]);
        insta::assert_snapshot!(lines(100, history), @r#"
        1         0 ms  WorkflowStarted           order-saga  {"order_id":"order-1","amount_cents":1250}
        2         0 ms  VersionMoved              000000000000 → ffffffffffff
        3       1.00 s  WorkflowCancelRequested   the customer asked
        4       1.00 s  ActivityCancelRequested   #99
        5       1.00 s  WorkflowCanceled          "bye"
        "#);
    }

    #[test]
    fn signals_continued_and_detached_runs_have_their_lines() {
        let mut first = started();
        first["attributes"]["continued_from_run_id"] = json!("11111111-1111-1111-1111-111111111111");
        let history = json!([
            first,
            event(
                2,
                "00:01.000",
                "SignalReceived",
                json!({ "name": "note", "input": { "json": { "text": "hi" } } })
            ),
            event(3, "00:01.000", "SignalTaken", json!({ "received_event_id": 2, "name": "note" })),
            event(
                4,
                "00:01.000",
                "DetachedWorkflowStarted",
                json!({
                    "workflow_type": "order-tracking",
                    "workflow_id": "tracking-1",
                    "run_id": "22222222-2222-2222-2222-222222222222",
                    "input": { "json": { "day": 1 } },
                })
            ),
            event(
                5,
                "00:02.000",
                "WorkflowContinuedAsNew",
                json!({
                    "new_run_id": "33333333-3333-3333-3333-333333333333",
                    "workflow_type": "order-saga",
                    "input": { "json": { "day": 2 } },
                })
            ),
            event(6, "00:03.000", "WorkflowTerminated", json!({ "reason": "a test" })),
        ]);
        insta::assert_snapshot!(lines(200, history), @r#"
        1         0 ms  WorkflowStarted           order-saga  {"order_id":"order-1","amount_cents":1250} (continued from 11111111-1111-1111-1111-111111111111)
        2       1.00 s  SignalReceived            note  {"text":"hi"}
        3       1.00 s  SignalTaken               note  received as #2
        4       1.00 s  DetachedWorkflowStarted   order-tracking  tracking-1 {"day":1}
        5       2.00 s  WorkflowContinuedAsNew    order-saga  as 33333333-3333-3333-3333-333333333333 {"day":2}
        6       3.00 s  WorkflowTerminated        a test
        "#);
    }
}
