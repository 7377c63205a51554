//! A list of runs as a table: id, type, status, start, how long it took or has been running.

use everfold::server::wire::RunSummary;
use everfold_core::ids::Timestamp;
use owo_colors::OwoColorize as _;

use super::{cut, duration, one_line, relative, status_style};

/// Between two columns.
const GAP: &str = "  ";
/// The widest type, where a terminal has room for that.
const WIDEST: usize = 48;
/// The least columns of a type, however narrow the terminal.
const NARROWEST: usize = 12;
/// Columns of the status, the start and the time it took, with their gaps.
const OTHERS: usize = 60;
/// The titles of the columns.
const TITLES: [&str; 5] = ["ID", "TYPE", "STATUS", "STARTED", "TOOK"];

/// The table's lines, titles first, of about `width` columns where the ids leave room.
pub(in crate::cli) fn lines(runs: &[RunSummary], now: Timestamp, width: usize) -> Vec<String> {
    let names = (width.saturating_sub(OTHERS) / 2).clamp(NARROWEST, WIDEST);
    let rows: Vec<[String; 5]> = runs.iter().map(|run| row(run, now, names)).collect();
    let columns: [usize; 5] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([TITLES[column].len()]).max().unwrap_or_default()
    });
    let titles = join(&TITLES.map(str::to_owned), &columns, |_, cell| cell.dimmed().to_string());
    let runs = rows.iter().zip(runs).map(|(row, run)| {
        join(row, &columns, |column, cell| match column {
            0 => cell.bold().to_string(),
            2 if run.blocked.is_some() => cell.red().bold().to_string(),
            2 => cell.style(status_style(run.status)).to_string(),
            _ => cell.to_owned(),
        })
    });
    [titles].into_iter().chain(runs).collect()
}

fn row(run: &RunSummary, now: Timestamp, names: usize) -> [String; 5] {
    let blocked = if run.blocked.is_some() { ", blocked" } else { "" };
    [
        // Whole, however long: it is what every other command wants.
        one_line(&run.workflow_id.0),
        cut(&one_line(&run.workflow_type), names),
        format!("{}{blocked}", run.status.name()),
        relative(run.started_at, now),
        run.closed_at.map_or_else(|| "-".to_owned(), |closed| duration(closed.ms_since(run.started_at))),
    ]
}

/// Pads first and paints then: colours have no width.
fn join(cells: &[String; 5], columns: &[usize; 5], paint: impl Fn(usize, &str) -> String) -> String {
    let padded = cells.iter().zip(columns).enumerate().map(|(column, (cell, width))| {
        let last = column + 1 == columns.len();
        let padding = if last { String::new() } else { " ".repeat(width - cell.chars().count()) };
        paint(column, cell) + &padding
    });
    padded.collect::<Vec<_>>().join(GAP)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn run(changes: Value) -> RunSummary {
        let mut run = json!({
            "workflow_id": "order-1",
            "run_id": "00000000-0000-0000-0000-000000000000",
            "namespace": "default",
            "workflow_type": "order-saga",
            "digest": "ab".repeat(32),
            "status": "running",
            "history_length": 7,
            "started_at": "2026-01-01T00:00:00Z",
            "closed_at": null,
            "blocked": null,
        });
        if let (Value::Object(run), Value::Object(changes)) = (&mut run, changes) {
            run.extend(changes);
        }
        serde_json::from_value(run).expect("a run")
    }

    #[test]
    fn runs_stand_in_columns() {
        let blocked = json!({
            "event": 8, "kind": "trap", "reason": "no", "backtrace": "", "since": "2026-01-01T00:01:00Z",
            "retries": 4, "next_retry_at": "2026-01-01T00:02:13Z",
        });
        let runs = [
            run(json!({ "workflow_id": "order-with-a-name-that-is-much-longer-than-a-narrow-table\n" })),
            run(json!({ "blocked": blocked })),
            run(json!({
                "workflow_type": "order-tracking", "status": "continued_as_new",
                "closed_at": "2026-01-01T00:01:30Z",
            })),
        ];
        let now = "2026-01-01T00:02:05Z".parse().expect("a time");
        let text = |width| anstream::adapter::strip_str(&lines(&runs, now, width).join("\n")).to_string();
        insta::assert_snapshot!(text(120), @r"
        ID                                                          TYPE            STATUS            STARTED        TOOK
        order-with-a-name-that-is-much-longer-than-a-narrow-table   order-saga      running           2 min 5 s ago  -
        order-1                                                     order-saga      running, blocked  2 min 5 s ago  -
        order-1                                                     order-tracking  continued_as_new  2 min 5 s ago  1 min 30 s
        ");
        insta::assert_snapshot!(text(40), @r"
        ID                                                          TYPE          STATUS            STARTED        TOOK
        order-with-a-name-that-is-much-longer-than-a-narrow-table   order-saga    running           2 min 5 s ago  -
        order-1                                                     order-saga    running, blocked  2 min 5 s ago  -
        order-1                                                     order-track…  continued_as_new  2 min 5 s ago  1 min 30 s
        ");
    }
}
