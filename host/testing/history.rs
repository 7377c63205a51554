//! A history as a readable snapshot: one event a line, the same on every run of the test.
//!
//! ```text
//! 1 WorkflowStarted order-tracking {"order_id":"o-1"}
//! 2 TimerStarted duration=1d
//! 3 +1d TimerFired 2
//! ```
//!
//! A line has the event's number, the time since the run's start where it differs from the event before, the type, the name or
//! the number of what it is about, and what it carries. Ids that the host makes up are numbered in the order in
//! which they appear (`<id 1>`); seeds, digests, keys and options are left out. It reads the JSON of the export format, so
//! that a new kind of event needs nothing here.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;

use everfold_core::event::Event;
use everfold_core::failure::Failure;
use everfold_core::ids::{RunId, Timestamp};
use everfold_core::payload::Payload;
use serde_json::{Map, Value};

/// What differs from run to run, or says how and not what.
const LEFT_OUT: [&str; 16] = [
    "backtrace",
    "cancellation_type",
    "continued_from_run_id",
    "digest",
    "headers",
    "idempotency_key",
    "namespace",
    "new_run_id",
    "original_run_id",
    "retry_policy",
    "run_id",
    "seed",
    "task_queue",
    "timeouts",
    "version_choice",
    "workflow_id",
];
/// What an event is about, the first that it has.
const NAMES: [&str; 5] = ["activity_type", "workflow_type", "name", "change_id", "to"];
/// The operation to which an event belongs, by the command that began it.
const OPERATIONS: [&str; 4] =
    ["scheduled_event_id", "started_event_id", "command_event_id", "received_event_id"];
/// Payloads and failures.
const CONTENTS: [&str; 4] = ["input", "result", "failure", "details"];

/// The history of one run. It is shown one event a line.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// Whose it is.
    pub run_id: RunId,
    /// In order.
    pub events: Vec<Event>,
}

impl History {
    /// The types of the activities that it schedules, in order.
    #[must_use]
    pub fn activities(&self) -> Vec<String> {
        use everfold_core::command::Command;
        use everfold_core::event::EventKind;
        let scheduled = |event: &Event| match &event.kind {
            EventKind::Command(Command::ActivityScheduled(scheduled)) => {
                Some(scheduled.activity_type.clone())
            }
            EventKind::Command(_) | EventKind::Input(_) | EventKind::Note(_) => None,
        };
        self.events.iter().filter_map(scheduled).collect()
    }

    /// Its lines.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Lines::default();
        self.events.iter().map(|event| lines.line(event)).collect()
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("\n"))
    }
}

/// What the lines before say.
#[derive(Default)]
struct Lines {
    began: Option<Timestamp>,
    last: Option<Timestamp>,
    names: BTreeMap<u64, String>,
    ids: Vec<String>,
}

impl Lines {
    fn line(&mut self, event: &Event) -> String {
        let began = *self.began.get_or_insert(event.time);
        let mut line = event.id.0.to_string();
        if self.last.unwrap_or(began) != event.time {
            _ = write!(line, " +{}", duration(event.time.ms_since(began)));
        }
        self.last = Some(event.time);
        _ = write!(line, " {}", event.kind.type_name());
        if let Ok(Value::Object(mut event_json)) = serde_json::to_value(event)
            && let Some(Value::Object(attributes)) = event_json.remove("attributes")
        {
            self.attributes(event, attributes, &mut line);
        }
        self.numbered(&line)
    }

    fn attributes(&mut self, event: &Event, mut attributes: Map<String, Value>, line: &mut String) {
        // What another run is sent is inside.
        if let Some(Value::Object(signal)) = attributes.remove("signal") {
            attributes.extend(signal);
        }
        let operation = OPERATIONS.into_iter().find_map(|operation| attributes.remove(operation));
        if let Some(name) = NAMES.into_iter().find_map(|name| attributes.remove(name)) {
            let name = text(&name);
            _ = write!(line, " {name}");
            self.names.insert(event.id.0, name);
        } else if let Some(operation) = operation {
            let name = operation.as_u64().and_then(|id| self.names.get(&id));
            _ = write!(line, " {}", name.cloned().unwrap_or_else(|| text(&operation)));
        }
        if attributes.remove("attempt").is_some_and(|attempt| attempt != 1)
            && let Some(attempt) = attempt_of(event)
        {
            _ = write!(line, " attempt={attempt}");
        }
        for content in CONTENTS {
            if let Some(value) = attributes.remove(content) {
                _ = write!(line, " {}", content_text(&value));
            }
        }
        for (name, value) in attributes {
            if !LEFT_OUT.contains(&name.as_str()) {
                let (name, value) = match (name.strip_suffix("_ms"), value.as_u64()) {
                    (Some(name), Some(ms)) => (name, duration(ms)),
                    _ => (name.as_str(), text(&value)),
                };
                _ = write!(line, " {name}={value}");
            }
        }
    }

    /// The line with its made-up ids numbered.
    fn numbered(&mut self, line: &str) -> String {
        let mut numbered = String::new();
        let mut rest = line;
        while let Some(at) = rest.char_indices().map(|(at, _)| at).find(|at| is_uuid(&rest[*at..])) {
            let (id, behind) = rest[at..].split_at(UUID_LENGTH);
            let number = self.ids.iter().position(|known| known == id).unwrap_or_else(|| {
                self.ids.push(id.to_owned());
                self.ids.len() - 1
            });
            _ = write!(numbered, "{}<id {}>", &rest[..at], number + 1);
            rest = behind;
        }
        numbered + rest
    }
}

fn attempt_of(event: &Event) -> Option<u32> {
    use everfold_core::event::{EventKind, Input};
    match &event.kind {
        EventKind::Input(Input::ActivityCompleted(completed)) => Some(completed.attempt),
        EventKind::Input(
            Input::ActivityFailed(closed) | Input::ActivityTimedOut(closed) | Input::ActivityCanceled(closed),
        ) => Some(closed.attempt),
        EventKind::Input(_) | EventKind::Command(_) | EventKind::Note(_) => None,
    }
}

const UUID_LENGTH: usize = 36;

/// Whether a text begins with a UUID.
fn is_uuid(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= UUID_LENGTH
        && bytes[..UUID_LENGTH].iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// A text as it is, anything else as JSON.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A payload's value; a failure and its causes.
fn content_text(value: &Value) -> String {
    if let Ok(failure) = serde_json::from_value::<Failure>(value.clone()) {
        return failure.to_string();
    }
    match serde_json::from_value::<Payload>(value.clone()) {
        Ok(payload) => payload.to_value().to_string(),
        Err(_) => value.to_string(),
    }
}

/// A duration in the largest units that it has.
fn duration(ms: u64) -> String {
    let mut rest = ms;
    let mut text = String::new();
    for (unit, length) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if rest >= length {
            _ = write!(text, "{}{unit}", rest / length);
            rest %= length;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short_and_ids_are_numbered() {
        assert_eq!(duration(0), "0s");
        assert_eq!(duration(93_784_005), "1d2h3m4s5ms");
        let mut lines = Lines::default();
        let (one, other) = ("01a20996-d5ca-7035-90b7-b1838e2dcb25", "01a20996-d5ca-7035-90b7-b184d1f06faa");
        assert_eq!(lines.numbered(&format!("{one}: ä{other}, {one}")), "<id 1>: ä<id 2>, <id 1>");
    }
}
