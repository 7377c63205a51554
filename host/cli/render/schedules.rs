//! Schedules: one in a line, and one with its next times and what it did.

use std::fmt::Write as _;

use everfold::server::wire::{Schedule, ScheduledRun};
use everfold_core::ids::Timestamp;
use jiff::tz::TimeZone;
use owo_colors::OwoColorize as _;

use super::{counted, local, one_line, relative};

/// Runs and times that are shown.
const SHOWN: usize = 10;

/// A schedule in a list.
pub(in crate::cli) fn line(schedule: &Schedule, now: Timestamp) -> String {
    let next = match schedule.next_times.first() {
        Some(next) => relative(*next, now),
        None if schedule.paused => "paused".yellow().to_string(),
        None => "never again".dimmed().to_string(),
    };
    format!(
        "{}  {}  {}",
        one_line(&schedule.schedule_id).bold(),
        one_line(&schedule.action.workflow_type),
        format!("{next}, {}", times(schedule)).dimmed()
    )
}

/// When it is due, in one line.
fn times(schedule: &Schedule) -> String {
    let spec = &schedule.spec;
    let calendars = spec
        .calendars
        .iter()
        .map(|calendar| serde_json::to_string(calendar).unwrap_or_else(|_| "a calendar".to_owned()));
    let intervals = spec.intervals.iter().map(|interval| match interval.offset {
        Some(offset) => format!("every {} at {offset}", interval.every),
        None => format!("every {}", interval.every),
    });
    let all: Vec<String> = spec.cron.iter().cloned().chain(calendars).chain(intervals).collect();
    let zone = spec.time_zone.as_ref().map_or_else(String::new, |zone| format!(" in {zone}"));
    let except = match spec.exclude.len() {
        0 => String::new(),
        count => format!(", without {}", counted(count as u64, "calendar", "calendars")),
    };
    one_line(&format!("{}{zone}{except}", all.join("; ")))
}

/// The whole text, with a line break behind each line.
pub(in crate::cli) fn text(schedule: &Schedule, now: Timestamp, zone: &TimeZone) -> String {
    let mut text = String::new();
    let state = if schedule.paused { "paused".yellow().to_string() } else { "active".green().to_string() };
    line_of(&mut text, &format!("{}  {state}", one_line(&schedule.schedule_id).bold()));
    let counts = &schedule.counts;
    let left_out = [
        (counts.skipped_overlap, "met an open run"),
        (counts.missed_catchup_window, "were missed"),
        (counts.dropped_from_buffer, "found too many waiting"),
        (counts.failed, "failed"),
    ];
    let left_out = left_out.iter().filter(|(count, _)| *count > 0);
    let left_out: String = left_out.map(|(count, why)| format!(", {count} {why}")).collect();
    let pinned = schedule.action.digest.map_or_else(String::new, |digest| format!(" on {}", digest.short()));
    let workflow_id = schedule.action.workflow_id.as_deref().unwrap_or(&schedule.schedule_id);
    let facts = [
        (
            "starts",
            format!("{}{pinned} as {}-TIME", one_line(&schedule.action.workflow_type), one_line(workflow_id)),
        ),
        ("when", times(schedule)),
        ("overlap", schedule.policies.overlap.name().to_owned()),
        ("note", one_line(&schedule.note)),
        (
            "left",
            schedule.remaining_actions.map_or_else(String::new, |left| counted(left, "start", "starts")),
        ),
        ("started", format!("{}{left_out}", counted(counts.started, "run", "runs"))),
        (
            "waiting",
            match schedule.waiting {
                0 => String::new(),
                waiting => counted(waiting as u64, "start", "starts"),
            },
        ),
        (
            "error",
            schedule
                .last_error
                .as_deref()
                .map_or_else(String::new, |error| one_line(error).red().to_string()),
        ),
    ];
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        line_of(&mut text, &format!("  {}  {value}", format!("{name:<9}").dimmed()));
    }
    if !schedule.next_times.is_empty() {
        line_of(&mut text, "\nnext");
    }
    for next in schedule.next_times.iter().take(SHOWN) {
        line_of(&mut text, &format!("  {} ({})", local(*next, zone), relative(*next, now)));
    }
    runs(&mut text, "running", &schedule.running, now);
    runs(&mut text, "recent", &schedule.recent, now);
    text
}

/// Runs, the latest first.
fn runs(text: &mut String, title: &str, runs: &[ScheduledRun], now: Timestamp) {
    if !runs.is_empty() {
        line_of(text, &format!("\n{title}"));
    }
    for run in runs.iter().rev().take(SHOWN) {
        let started = relative(run.started_at, now);
        line_of(
            text,
            &format!("  {}  {}", one_line(&run.workflow_id.0), format!("started {started}").dimmed()),
        );
    }
}

fn line_of(text: &mut String, line: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{}", line.trim_end());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schedule_is_shown_with_what_comes_and_what_was() {
        let run = json!({
            "workflow_id": "nightly-2026-01-01T00:00:00Z", "run_id": "00000000-0000-0000-0000-000000000000",
            "nominal_time": "2026-01-01T00:00:00Z", "started_at": "2026-01-01T00:00:01Z",
        });
        let schedule: Schedule = serde_json::from_value(json!({
            "schedule_id": "nightly", "namespace": "default", "revision": 4,
            "spec": { "cron": ["0 0 * * *"], "intervals": [{ "every": "1h", "offset": "5m" }],
                      "exclude": [{ "day_of_week": "SUN" }], "time_zone": "Europe/Berlin" },
            "action": { "workflow_type": "report", "digest": "ab".repeat(32) },
            "policies": { "overlap": "buffer_one" },
            "paused": false, "note": "for accounting", "remaining_actions": 3,
            "next_times": ["2026-01-02T00:00:00Z"], "running": [run], "recent": [run],
            "waiting": 1, "backfills": 0,
            "counts": { "started": 7, "missed_catchup_window": 0, "skipped_overlap": 2, "dropped_from_buffer": 0,
                        "failed": 1 },
            "last_error": "no such version", "created_at": "2025-12-01T00:00:00Z",
            "changed_at": "2025-12-01T00:00:00Z",
        }))
        .expect("a schedule");
        let now = "2026-01-01T12:00:00Z".parse().expect("a time");
        let shown = anstream::adapter::strip_str(&text(&schedule, now, &TimeZone::UTC)).to_string();
        insta::assert_snapshot!(shown, @"
        nightly  active
          starts     report on abababababab as nightly-TIME
          when       0 0 * * *; every 1h at 5m in Europe/Berlin, without 1 calendar
          overlap    buffer_one
          note       for accounting
          left       3 starts
          started    7 runs, 2 met an open run, 1 failed
          waiting    1 start
          error      no such version

        next
          2026-01-02 00:00:00 (in 12 h)

        running
          nightly-2026-01-01T00:00:00Z  started 11 h 59 min ago

        recent
          nightly-2026-01-01T00:00:00Z  started 11 h 59 min ago
        ");
        let listed = anstream::adapter::strip_str(&line(&schedule, now)).to_string();
        insta::assert_snapshot!(listed, @"nightly  report  in 12 h, 0 0 * * *; every 1h at 5m in Europe/Berlin, without 1 calendar");
    }
}
