//! Where a history and the code part, in two columns: the calls on which both agree, then the one where
//! they part, what differs inside it, and where the code was.

use comfy_table::{ContentArrangement, Table};
use everfold_core::divergence::{Call, FieldChange, Nondeterminism};
use everfold_core::event::{Event, EventKind};
use everfold_core::ids::EventId;
use owo_colors::OwoColorize as _;

use super::{cut, frames, one_line};

/// Agreed calls that are shown.
const AGREED: usize = 4;
/// Differing fields that are shown.
const FIELDS: usize = 12;
/// Columns of a differing value.
const LONGEST_VALUE: usize = 200;
/// The least columns, however narrow the terminal.
const NARROWEST: usize = 40;
/// What stands before the row where the two part.
const MARK: &str = "≠";

/// A call on which both agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Agreed {
    /// The event that records it.
    event_id: EventId,
    /// The call.
    call: Call,
}

/// The last calls of a history before an event. Those before the place where the two part are agreed.
pub(in crate::cli) fn agreed(history: &[Event], before: EventId) -> Vec<Agreed> {
    let calls = history.iter().filter(|event| event.id < before).filter_map(|event| match &event.kind {
        EventKind::Command(command) => Some(Agreed { event_id: event.id, call: Call::of(Some(command)) }),
        EventKind::Input(_) | EventKind::Note(_) => None,
    });
    let calls: Vec<Agreed> = calls.collect();
    calls[calls.len().saturating_sub(AGREED)..].to_vec()
}

/// The text's lines, of at most `width` columns. `backtrace` is the code's functions, one a line, of which
/// the author's are shown; that of the divergence itself is taken where it is empty.
pub(in crate::cli) fn lines(
    divergence: &Nondeterminism,
    backtrace: &str,
    agreed: &[Agreed],
    width: usize,
) -> Vec<String> {
    let mut lines = columns(divergence, agreed, width.max(NARROWEST));
    let (shown, more) = divergence.fields.split_at(divergence.fields.len().min(FIELDS));
    if !shown.is_empty() {
        lines.extend(fields(shown, width.max(NARROWEST)));
    }
    if !more.is_empty() {
        lines.push(format!("  and {} more", more.len()).dimmed().to_string());
    }
    let backtrace = if backtrace.is_empty() { &divergence.backtrace } else { backtrace };
    if !backtrace.is_empty() {
        lines.push(format!("  {}", "the code was in".dimmed()));
        let frames = frames::authors(backtrace);
        lines.extend(frames.shown.iter().map(|frame| format!("    {frame}")));
        lines.extend(frames.rest.map(|rest| format!("    {}", rest.dimmed())));
    }
    lines
}

fn columns(divergence: &Nondeterminism, agreed: &[Agreed], width: usize) -> Vec<String> {
    let mut table = plain(width);
    table.set_header(["", "", "the history has", "the code does"]);
    for Agreed { event_id, call } in agreed {
        table.add_row([String::new(), event_id.to_string(), told(call), told(call)]);
    }
    let Nondeterminism { event_id, expected, actual, .. } = divergence;
    table.add_row([MARK.to_owned(), event_id.to_string(), told(expected), told(actual)]);
    let mut parted = false;
    let painted = table.lines().enumerate().map(|(number, line)| {
        let line = line.trim_end();
        parted |= line.trim_start().starts_with(MARK);
        match (number, parted) {
            (0, _) => line.dimmed().to_string(),
            (_, true) => line.red().bold().to_string(),
            (_, false) => line.to_owned(),
        }
    });
    painted.collect()
}

/// The differing fields, with each value in its column.
fn fields(shown: &[FieldChange], width: usize) -> Vec<String> {
    let mut table = plain(width);
    table.set_header(["", "what differs", "the history has", "the code does"]);
    let value = |value: &serde_json::Value| cut(&one_line(&value.to_string()), LONGEST_VALUE);
    for field in shown {
        table.add_row(["", &one_line(&field.path), &value(&field.expected), &value(&field.actual)]);
    }
    let lines = table.lines().enumerate().map(|(number, line)| {
        let line = line.trim_end();
        if number == 0 { line.dimmed().to_string() } else { line.to_owned() }
    });
    lines.collect()
}

/// A table without lines, as wide as its content but at most of `width` columns.
fn plain(width: usize) -> Table {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(width).unwrap_or(u16::MAX));
    table
}

fn told(call: &Call) -> String {
    match &call.event_type {
        None => "nothing more".to_owned(),
        Some(_) => one_line(&call.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(event_type: Option<&str>, name: &str) -> Call {
        Call { event_type: event_type.map(str::to_owned), name: name.to_owned() }
    }

    fn scheduled(name: &str) -> Call {
        call(Some("ActivityScheduled"), name)
    }

    fn other_order() -> (Nondeterminism, Vec<Agreed>) {
        let divergence = Nondeterminism {
            event_id: EventId(9),
            expected: scheduled("process-payment"),
            actual: scheduled("update-inventory"),
            fields: Vec::new(),
            backtrace: String::new(),
        };
        let agreed = [(2, "validate-order"), (5, "reserve-inventory")]
            .map(|(id, name)| Agreed { event_id: EventId(id), call: scheduled(name) });
        (divergence, agreed.to_vec())
    }

    const BACKTRACE: &str = "everfold_guest::run::Run::ask (/everfold/guest-workflows/sdk/src/run.rs:137:28)
order::saga::run (saga.rs:70)
poll (/rustc/59807616e1/library/core/src/future/future.rs:133:9)
order::main";

    fn text(divergence: &Nondeterminism, backtrace: &str, agreed: &[Agreed], width: usize) -> String {
        let lines = lines(divergence, backtrace, agreed, width);
        let text = anstream::adapter::strip_str(&lines.join("\n")).to_string();
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap_or_default();
        assert!(widest <= width, "{widest} columns:\n{text}");
        text
    }

    #[test]
    fn two_orders_of_calls_stand_side_by_side() {
        let (divergence, agreed) = other_order();
        insta::assert_snapshot!(text(&divergence, BACKTRACE, &agreed, 100), @r"
              the history has                      the code does
           2  ActivityScheduled validate-order     ActivityScheduled validate-order
           5  ActivityScheduled reserve-inventory  ActivityScheduled reserve-inventory
        ≠  9  ActivityScheduled process-payment    ActivityScheduled update-inventory
         the code was in
           order::saga::run (saga.rs:70)
           order::main
           and 2 frames of the SDK and of libraries (--json has all)
        ");
    }

    #[test]
    fn a_narrow_terminal_wraps_each_column() {
        let (divergence, agreed) = other_order();
        insta::assert_snapshot!(text(&divergence, "", &agreed, 48), @r"
              the history has      the code does
           2  ActivityScheduled    ActivityScheduled
              validate-order       validate-order
           5  ActivityScheduled    ActivityScheduled
              reserve-inventory    reserve-inventory
        ≠  9  ActivityScheduled    ActivityScheduled
              process-payment      update-inventory
        ");
    }

    #[test]
    fn what_differs_inside_stands_below() {
        let change = |path: &str, expected, actual| FieldChange { path: path.to_owned(), expected, actual };
        let divergence = Nondeterminism {
            event_id: EventId(4),
            expected: scheduled("process-payment"),
            actual: scheduled("process-payment"),
            fields: vec![
                change("attributes.input.json.amount_cents", json!(1250), json!(1200)),
                change("attributes.retry.maximum_attempts", json!(5), json!(null)),
            ],
            backtrace: "order::pay".to_owned(),
        };
        insta::assert_snapshot!(text(&divergence, "", &[], 100), @r"
              the history has                    the code does
        ≠  4  ActivityScheduled process-payment  ActivityScheduled process-payment
           what differs                        the history has  the code does
           attributes.input.json.amount_cents  1250             1200
           attributes.retry.maximum_attempts   5                null
         the code was in
           order::pay
        ");
    }

    #[test]
    fn an_end_is_nothing_more() {
        let divergence = Nondeterminism {
            event_id: EventId(4),
            expected: call(None, ""),
            actual: call(Some("TimerStarted"), ""),
            fields: Vec::new(),
            backtrace: String::new(),
        };
        insta::assert_snapshot!(text(&divergence, "", &[], 100), @r"
              the history has  the code does
        ≠  4  nothing more     TimerStarted
        ");
    }

    #[test]
    fn the_last_calls_before_the_event_are_the_agreed_ones() {
        let event = |id: u64, event_type: &str, attributes: serde_json::Value| -> Event {
            let event = json!({
                "event_id": id, "time": "2026-01-01T00:00:00Z", "type": event_type, "attributes": attributes,
            });
            serde_json::from_value(event).expect("an event")
        };
        let taken =
            |id: u64| event(id, "SignalTaken", json!({ "name": format!("s-{id}"), "received_event_id": 1 }));
        let fired = event(5, "TimerFired", json!({ "started_event_id": 1 }));
        let history = [taken(2), taken(3), taken(4), fired, taken(6), taken(7), taken(8)];
        let ids: Vec<u64> = agreed(&history, EventId(8)).iter().map(|agreed| agreed.event_id.0).collect();
        assert_eq!(ids, [3, 4, 6, 7]);
    }
}
