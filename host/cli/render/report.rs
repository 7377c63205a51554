//! What a shadow replay found, and what a move did: a verdict for each type, equal reasons together with
//! examples, and what would come next.

use everfold::server::wire::{
    Ahead, CheckReport, Example, Finding, Group, Outlook, Tally, TypeReport, UpgradeReport,
};
use owo_colors::OwoColorize as _;

use super::{counted, divergence, duration, frames, one_line};

/// Columns of what stands below a group.
const INDENT: &str = "      ";

/// What a shadow replay found.
pub(in crate::cli) fn check(report: &CheckReport, width: usize) -> Vec<String> {
    let verdict = match report.holds {
        true => "every open run could move".green().bold().to_string(),
        false => {
            let runs = counted(breaking(report), "open run", "open runs");
            format!("{runs} would break").red().bold().to_string()
        }
    };
    let looked: u64 = report.workflow_types.iter().map(|kind| kind.open.runs + kind.closed.runs).sum();
    let mut lines = vec![format!(
        "{} {verdict}  {}",
        report.digest.short().bold(),
        format!(
            "({}, {} replayed in {})",
            counted(looked, "run", "runs"),
            counted(report.events, "event", "events"),
            duration(report.duration_ms)
        )
        .dimmed()
    )];
    // Types without runs need no words.
    let looked_at = report.workflow_types.iter().filter(|kind| kind.open.runs + kind.closed.runs > 0);
    lines.extend(looked_at.flat_map(|kind| of_type(kind, width)));
    lines.push(format!("  {}", one_line(&report.caveat).dimmed()));
    lines
}

/// Open runs that would break.
pub(in crate::cli) fn breaking(report: &CheckReport) -> u64 {
    report.workflow_types.iter().map(|kind| kind.open.breaking()).sum()
}

/// What a move did.
pub(in crate::cli) fn upgrade(report: &UpgradeReport, width: usize) -> Vec<String> {
    let UpgradeReport { moved, already_there, kept, closed, busy, .. } = *report;
    let parts = [
        (moved, "moved"),
        (already_there, "there before"),
        (kept, "stay on their version"),
        (closed, "ended meanwhile"),
        (busy, "could not be moved now: try again"),
    ];
    let mut lines = vec![format!(
        "{} to {}: {}",
        one_line(&report.workflow_type).bold(),
        report.digest.short().bold(),
        numbers(&parts).unwrap_or_else(|| "no run is open".to_owned())
    )];
    lines.extend(report.groups.iter().flat_map(|group| of_group(group, width)));
    lines
}

/// Whether there was nothing to move.
pub(in crate::cli) fn is_empty(report: &UpgradeReport) -> bool {
    let UpgradeReport { moved, already_there, kept, closed, busy, .. } = *report;
    moved + already_there + kept + closed + busy == 0
}

fn of_type(kind: &TypeReport, width: usize) -> Vec<String> {
    let name = one_line(&kind.workflow_type).bold().to_string();
    let mut lines = vec![format!("  {name}  {}", tally("open", kind.open))];
    if kind.closed.runs > 0 {
        lines.push(format!("    {}", tally("closed", kind.closed) + " (they do not count)"));
    }
    // A compatible run needs no words.
    let told = kind.groups.iter().filter(|group| group.finding != Finding::Compatible);
    lines.extend(told.flat_map(|group| of_group(group, width)));
    if kind.ungrouped > 0 {
        lines.push(format!("    and {} with other reasons", counted(kind.ungrouped, "run", "runs")));
    }
    lines.extend(outlooks(&kind.outlooks));
    lines
}

fn tally(what: &str, tally: Tally) -> String {
    let parts = [
        (tally.already_there, "there already"),
        (tally.compatible, "compatible"),
        (tally.changed, "with changes"),
        (tally.diverged, "diverged"),
        (tally.faulted, "faulted"),
        (tally.unreadable, "unreadable"),
        (tally.blocked_there, "of those there blocked"),
        (tally.not_tried, "not tried after so many that passed a limit"),
    ];
    let runs = counted(tally.runs, &format!("{what} run"), &format!("{what} runs"));
    match numbers(&parts) {
        Some(numbers) => format!("{runs}: {numbers}"),
        None => runs,
    }
}

/// The numbers that are not zero.
fn numbers(parts: &[(u64, &str)]) -> Option<String> {
    let told = parts.iter().filter(|(count, _)| *count > 0);
    let told: Vec<String> = told.map(|(count, what)| format!("{count} {what}")).collect();
    (!told.is_empty()).then(|| told.join(", "))
}

fn of_group(group: &Group, width: usize) -> Vec<String> {
    let reason = one_line(&group.reason);
    let (what, painted) = match group.finding {
        Finding::Diverged => ("diverged", reason.red().to_string()),
        Finding::Faulted => ("faulted", reason.red().to_string()),
        Finding::Unreadable => ("unreadable", reason.red().to_string()),
        Finding::Changed => ("with changes", reason.yellow().to_string()),
        Finding::Compatible => ("compatible", reason.clone()),
    };
    let runs = counted(group.runs, "run", "runs");
    let mut lines = vec![format!("    {} {painted}", format!("{runs} {what}:").bold())];
    let Some((first, others)) = group.examples.split_first() else { return lines };
    let event = first.event_id.map_or_else(String::new, |event_id| format!(" at event {event_id}"));
    lines.push(format!(
        "{INDENT}{}{event} {}",
        one_line(&first.workflow_id.0).bold(),
        format!("(on {}, {})", first.on.short(), counted(first.history_length, "event", "events")).dimmed()
    ));
    lines.extend(inside(first, &reason, width).into_iter().map(|line| format!("{INDENT}{line}")));
    if !others.is_empty() {
        let also: Vec<String> = others.iter().map(|example| one_line(&example.workflow_id.0)).collect();
        let shown = u64::try_from(group.examples.len()).unwrap_or(u64::MAX);
        let more = group.runs.saturating_sub(shown);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        lines.push(format!("{INDENT}{}", format!("also {}{more}", also.join(", ")).dimmed()));
    }
    lines
}

/// What there is to say about an example beyond the reason of its group.
fn inside(example: &Example, reason: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(parting) = &example.divergence {
        return divergence::lines(parting, &example.backtrace, &[], width.saturating_sub(INDENT.len()));
    }
    if example.changes.is_empty() && one_line(&example.message) != reason {
        lines.push(one_line(&example.message));
    }
    for change in &example.changes {
        let fields: Vec<String> = change.fields.iter().map(ToString::to_string).collect();
        let fields = one_line(&fields.join("; "));
        lines.push(format!("event {} {}: {fields}", change.event_id, one_line(&change.call.to_string())));
    }
    let frames = frames::authors(&example.backtrace).into_lines();
    lines.extend(frames.map(|frame| format!("  {}", frame.dimmed())));
    lines
}

fn outlooks(outlooks: &[Outlook]) -> Vec<String> {
    if outlooks.is_empty() {
        return Vec::new();
    }
    let told = "look ahead: this is imagined";
    let mut lines = vec![format!("    {}", told.dimmed())];
    for outlook in outlooks {
        let imagined = one_line(&outlook.imagined.join(", then "));
        let from = match outlook.results_from.as_str() {
            "" => String::new(),
            from => format!(" (results: {})", one_line(from)).dimmed().to_string(),
        };
        let id = one_line(&outlook.workflow_id.0);
        let runs = counted(outlook.runs, "run", "runs");
        lines.push(format!("{INDENT}{runs} like {}, if {imagined}{from}", id.bold()));
        if outlook.differs {
            lines.push(format!("{INDENT}  {} asks for {}", outlook.on.short(), ahead(&outlook.asks)));
            let instead = ahead(&outlook.would_ask).yellow().to_string();
            lines.push(format!("{INDENT}  it would ask for {instead}"));
        } else {
            lines.push(format!("{INDENT}  both ask for {}", ahead(&outlook.asks)));
        }
    }
    lines
}

fn ahead(ahead: &Ahead) -> String {
    let calls: Vec<String> = ahead.calls.iter().map(|call| one_line(&call.to_string())).collect();
    let calls = if calls.is_empty() { "nothing".to_owned() } else { calls.join(", ") };
    match &ahead.fault {
        Some(fault) => format!("{calls}, and fails: {}", one_line(fault)),
        None => calls,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn digest(digit: &str) -> String {
        digit.repeat(64)
    }

    fn example(id: &str, changes: Value) -> Value {
        let mut example = json!({
            "workflow_id": id, "run_id": "00000000-0000-0000-0000-000000000000", "on": digest("a"),
            "history_length": 23, "event_id": null, "message": "", "backtrace": "",
        });
        if let (Value::Object(example), Value::Object(changes)) = (&mut example, changes) {
            example.extend(changes);
        }
        example
    }

    fn groups() -> Value {
        let call = |name: &str| json!({ "type": "ActivityScheduled", "name": name });
        let parting = json!({
            "event_id": 9, "expected": call("process-payment"), "actual": call("update-inventory"), "fields": [],
            "backtrace": "",
        });
        let field = json!({ "path": "attributes.input.json.amount_cents", "expected": 1250, "actual": 1200 });
        let change = json!({ "event_id": 9, "call": call("process-payment"), "fields": [field] });
        json!([
            {
                "finding": "diverged", "runs": 20,
                "reason": "the history has ActivityScheduled process-payment, the component makes ActivityScheduled update-inventory",
                "examples": [
                    example("order-17", json!({
                        "event_id": 9, "divergence": parting, "backtrace": "order::saga::run (saga.rs:70)",
                    })),
                    example("order-18", json!({})), example("order-21", json!({})),
                ],
            },
            {
                "finding": "faulted", "runs": 1, "reason": "panicked at saga.rs:12:9: no",
                "examples": [example("order-3", json!({
                    "event_id": 14, "message": "panicked at saga.rs:12:9: no", "backtrace": "order::undo",
                }))],
            },
            {
                "finding": "changed", "runs": 2, "reason": "ActivityScheduled process-payment: attributes.input.json.amount_cents",
                "examples": [
                    example("order-5", json!({ "event_id": 9, "changes": [change] })), example("order-6", json!({})),
                ],
            },
            { "finding": "compatible", "runs": 90, "reason": "the same calls", "examples": [example("order-1", json!({}))] },
        ])
    }

    fn text(lines: &[String]) -> String {
        anstream::adapter::strip_str(&lines.join("\n")).to_string()
    }

    #[test]
    fn a_check_gives_a_verdict_its_reasons_and_examples() {
        let tally = |runs: [u64; 7]| {
            let [runs, already_there, compatible, changed, diverged, faulted, unreadable] = runs;
            json!({
                "runs": runs, "already_there": already_there, "compatible": compatible, "changed": changed,
                "diverged": diverged, "faulted": faulted, "unreadable": unreadable,
            })
        };
        let call = |name: &str| json!({ "type": "ActivityScheduled", "name": name });
        let outlook = |differs: bool| {
            json!({
                "on": digest("a"), "runs": 12, "workflow_id": "order-1",
                "run_id": "00000000-0000-0000-0000-000000000000", "imagined": ["process-payment completes"],
                "results_from": "order-0", "differs": differs,
                "asks": { "inputs": [], "calls": [call("update-inventory")], "fault": null },
                "would_ask": { "inputs": [], "calls": [call("arrange-shipping"), call("notify")], "fault": differs.then_some("a trap") },
            })
        };
        let report = json!({
            "digest": digest("b"), "holds": false, "duration_ms": 412, "events": 2_599, "caveat": "The past only.",
            "spent": { "reading_ms": 1, "instantiating_ms": 1, "folding_ms": 1 },
            "workflow_types": [
                {
                    "workflow_type": "order-saga", "open": tally([116, 3, 90, 2, 20, 1, 0]),
                    "closed": tally([40, 0, 40, 0, 0, 0, 0]), "groups": groups(), "ungrouped": 4,
                    "outlooks": [outlook(true), outlook(false)],
                },
                {
                    "workflow_type": "order-tracking", "open": tally([0; 7]), "closed": tally([0; 7]), "groups": [],
                    "ungrouped": 0, "outlooks": [],
                },
            ],
        });
        let report: CheckReport = serde_json::from_value(report).expect("a report");
        assert_eq!(breaking(&report), 21);
        insta::assert_snapshot!(text(&check(&report, 110)), @r"
        bbbbbbbbbbbb 21 open runs would break  (156 runs, 2599 events replayed in 412 ms)
          order-saga  116 open runs: 3 there already, 90 compatible, 2 with changes, 20 diverged, 1 faulted
            40 closed runs: 40 compatible (they do not count)
            20 runs diverged: the history has ActivityScheduled process-payment, the component makes ActivityScheduled update-inventory
              order-17 at event 9 (on aaaaaaaaaaaa, 23 events)
                     the history has                    the code does
               ≠  9  ActivityScheduled process-payment  ActivityScheduled update-inventory
                the code was in
                  order::saga::run (saga.rs:70)
              also order-18, order-21 and 17 more
            1 run faulted: panicked at saga.rs:12:9: no
              order-3 at event 14 (on aaaaaaaaaaaa, 23 events)
                order::undo
            2 runs with changes: ActivityScheduled process-payment: attributes.input.json.amount_cents
              order-5 at event 9 (on aaaaaaaaaaaa, 23 events)
              event 9 ActivityScheduled process-payment: attributes.input.json.amount_cents: 1250 → 1200
              also order-6
            and 4 runs with other reasons
            look ahead: this is imagined
              12 runs like order-1, if process-payment completes (results: order-0)
                aaaaaaaaaaaa asks for ActivityScheduled update-inventory
                it would ask for ActivityScheduled arrange-shipping, ActivityScheduled notify, and fails: a trap
              12 runs like order-1, if process-payment completes (results: order-0)
                both ask for ActivityScheduled update-inventory
          The past only.
        ");
    }

    #[test]
    fn a_move_says_what_became_of_the_runs() {
        let report = json!({
            "workflow_type": "order-saga", "digest": digest("b"), "moved": 92, "already_there": 3, "kept": 20, "closed": 1,
            "busy": 0, "groups": [groups()[0]],
        });
        let mut report: UpgradeReport = serde_json::from_value(report).expect("a report");
        insta::assert_snapshot!(text(&upgrade(&report, 110)), @r"
        order-saga to bbbbbbbbbbbb: 92 moved, 3 there before, 20 stay on their version, 1 ended meanwhile
            20 runs diverged: the history has ActivityScheduled process-payment, the component makes ActivityScheduled update-inventory
              order-17 at event 9 (on aaaaaaaaaaaa, 23 events)
                     the history has                    the code does
               ≠  9  ActivityScheduled process-payment  ActivityScheduled update-inventory
                the code was in
                  order::saga::run (saga.rs:70)
              also order-18, order-21 and 17 more
        ");
        (report.moved, report.already_there, report.kept, report.closed) = (0, 0, 0, 0);
        report.groups.clear();
        assert!(is_empty(&report));
        assert_eq!(text(&upgrade(&report, 110)), "order-saga to bbbbbbbbbbbb: no run is open");
    }
}
