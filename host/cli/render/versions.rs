//! Versions and routes: a table of a type's versions, a line for each type, what a change of a route did.

use comfy_table::{CellAlignment, ContentArrangement, Table};
use everfold::server::wire::{Routed, Routing, TypeVersions, Version};
use everfold_core::ids::{Digest, Timestamp};
use owo_colors::OwoColorize as _;

use super::{counted, one_line, relative};

/// One line for each type, titles first.
pub(in crate::cli) fn types(types: &[Routing], now: Timestamp) -> Vec<String> {
    let mut table = plain(["TYPE", "CURRENT", "CANDIDATE", "PREVIOUS", "ROUTED"]);
    for routing in types {
        let candidate = routing.candidate.map(|candidate| {
            format!("{} at {} %", candidate.digest.short(), u8::from(candidate.ramp_percent))
        });
        table.add_row([
            one_line(&routing.workflow_type),
            routing.current.short(),
            candidate.unwrap_or_else(|| "-".to_owned()),
            routing.previous.map_or_else(|| "-".to_owned(), |digest| digest.short()),
            relative(routing.changed_at, now),
        ]);
    }
    lines(&table).collect()
}

/// A type's versions, titles first.
pub(in crate::cli) fn of_type(found: &TypeVersions, now: Timestamp) -> Vec<String> {
    let titles =
        ["VERSION", "STATE", "OPEN", "BLOCKED", "RUNS", "FAILED", "FIRST START", "LAST START", "DEPLOYED"];
    let mut table = plain(titles);
    for column in 2..6 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let when = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), |at| relative(at, now));
    for version in &found.versions {
        table.add_row([
            version.digest.short(),
            state(version, &found.routing),
            version.open.to_string(),
            version.blocked.to_string(),
            version.runs.to_string(),
            version.failed.to_string(),
            when(version.first_started_at),
            when(version.last_started_at),
            relative(version.deployed_at, now),
        ]);
    }
    let mut lines: Vec<String> = lines(&table).collect();
    // The titles are no version.
    for (line, version) in lines.iter_mut().skip(1).zip(&found.versions) {
        *line = match version.state.as_str() {
            _ if version.blocked > 0 => line.red().to_string(),
            "current" => line.green().to_string(),
            "candidate" => line.yellow().to_string(),
            "retired" => line.dimmed().to_string(),
            _ => continue,
        };
    }
    if let Some(way) = way_back(&found.routing) {
        lines.push(way.dimmed().to_string());
    }
    lines
}

/// What a changed route says.
pub(in crate::cli) fn routed(routed: &Routed) -> Vec<String> {
    let routing = &routed.routing;
    let name = one_line(&routing.workflow_type);
    let mut lines = vec![match routing.candidate {
        None => format!("new runs of {} start on {}", name.bold(), routing.current.short().bold()),
        Some(candidate) => format!(
            "new runs of {} start on {}, {} % of them on {}",
            name.bold(),
            routing.current.short().bold(),
            u8::from(candidate.ramp_percent),
            candidate.digest.short().bold()
        ),
    }];
    if routed.blocked_runs > 0 {
        let runs = counted(routed.blocked_runs, "blocked run is", "blocked runs are");
        lines.push(format!("  {}", format!("{runs} tried again").yellow()));
    }
    lines
}

fn state(version: &Version, routing: &Routing) -> String {
    let ramp = routing.candidate.map(|candidate| (candidate.digest, u8::from(candidate.ramp_percent)));
    match ramp {
        Some((digest, percent)) if digest == version.digest => format!("{}, {percent} %", version.state),
        Some((_, percent)) if routing.current == version.digest => {
            format!("{}, {} %", version.state, 100 - percent)
        }
        Some(_) | None => version.state.clone(),
    }
}

/// Where a rollback leads.
fn way_back(routing: &Routing) -> Option<String> {
    let back = |digest: Digest| digest.short();
    match (routing.candidate, routing.previous) {
        (Some(candidate), _) => Some(format!("a rollback withdraws {}", back(candidate.digest))),
        (None, Some(previous)) => Some(format!("a rollback leads to {}", back(previous))),
        (None, None) => None,
    }
}

/// A table without lines, as wide as its content.
fn plain<const N: usize>(titles: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(titles);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

fn lines(table: &Table) -> impl Iterator<Item = String> {
    table.lines().enumerate().map(|(number, line)| {
        let line = line.trim_end();
        if number == 0 { line.dimmed().to_string() } else { line.to_owned() }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-01-01T00:02:05Z";

    fn digest(digit: &str) -> String {
        digit.repeat(64)
    }

    fn routing(changes: Value) -> Value {
        let mut routing = json!({
            "workflow_type": "order-saga", "current": digest("a"), "candidate": null, "previous": null,
            "changed_at": "2026-01-01T00:00:00Z",
        });
        if let (Value::Object(routing), Value::Object(changes)) = (&mut routing, changes) {
            routing.extend(changes);
        }
        routing
    }

    fn version(digit: &str, state: &str, runs: [u64; 4]) -> Value {
        let [open, blocked, runs, failed] = runs;
        let started = (runs > 0).then_some("2026-01-01T00:01:00Z");
        json!({
            "digest": digest(digit), "state": state, "open": open, "blocked": blocked, "runs": runs, "failed": failed,
            "first_started_at": started, "last_started_at": started.map(|_| NOW),
            "deployed_at": "2025-12-31T00:00:00Z", "retired_at": null, "size": 1, "sdk": "", "is_loaded": true,
        })
    }

    fn plain_text(lines: &[String]) -> String {
        anstream::adapter::strip_str(&lines.join("\n")).to_string()
    }

    fn now() -> Timestamp {
        NOW.parse().expect("a time")
    }

    #[test]
    fn versions_stand_in_a_table() {
        let candidate = json!({ "digest": digest("b"), "ramp_percent": 10 });
        let found = json!({
            "routing": routing(json!({ "candidate": candidate, "previous": digest("c") })),
            "versions": [
                version("c", "draining", [12, 1, 3_400, 7]),
                version("a", "current", [120, 0, 9_000, 0]),
                version("b", "candidate", [3, 0, 9, 0]),
                version("d", "candidate", [0; 4]),
            ],
        });
        let found: TypeVersions = serde_json::from_value(found).expect("versions");
        insta::assert_snapshot!(plain_text(&of_type(&found, now())), @r"
        VERSION       STATE            OPEN  BLOCKED  RUNS  FAILED  FIRST START    LAST START  DEPLOYED
        cccccccccccc  draining           12        1  3400       7  1 min 5 s ago  now         1 d ago
        aaaaaaaaaaaa  current, 90 %     120        0  9000       0  1 min 5 s ago  now         1 d ago
        bbbbbbbbbbbb  candidate, 10 %     3        0     9       0  1 min 5 s ago  now         1 d ago
        dddddddddddd  candidate           0        0     0       0  -              -           1 d ago
        a rollback withdraws bbbbbbbbbbbb
        ");
    }

    #[test]
    fn types_stand_in_lines() {
        let candidate = json!({ "digest": digest("b"), "ramp_percent": 50 });
        let types_of = [
            routing(json!({})),
            routing(
                json!({ "workflow_type": "order-tracking", "candidate": candidate, "previous": digest("c") }),
            ),
        ];
        let found = types_of.map(|routing| serde_json::from_value(routing).expect("a route"));
        insta::assert_snapshot!(plain_text(&types(&found, now())), @r"
        TYPE            CURRENT       CANDIDATE             PREVIOUS      ROUTED
        order-saga      aaaaaaaaaaaa  -                     -             2 min 5 s ago
        order-tracking  aaaaaaaaaaaa  bbbbbbbbbbbb at 50 %  cccccccccccc  2 min 5 s ago
        ");
    }

    #[test]
    fn a_changed_route_says_where_runs_start() {
        let candidate = json!({ "digest": digest("b"), "ramp_percent": 10 });
        let told = |changes: Value, blocked_runs: u64| {
            let routing = serde_json::from_value(routing(changes)).expect("a route");
            plain_text(&routed(&Routed { routing, blocked_runs }))
        };
        insta::assert_snapshot!(told(json!({ "candidate": candidate }), 0), @r"
        new runs of order-saga start on aaaaaaaaaaaa, 10 % of them on bbbbbbbbbbbb
        ");
        insta::assert_snapshot!(told(json!({}), 100), @r"
        new runs of order-saga start on aaaaaaaaaaaa
          100 blocked runs are tried again
        ");
    }
}
