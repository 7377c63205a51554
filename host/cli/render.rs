//! What people read: pure functions from wire types to text. Colours are always written; the output
//! strips them where nothing shows them.

pub(super) mod bench;
pub(super) mod deployed;
pub(super) mod description;
pub(super) mod divergence;
mod frames;
pub(super) mod replay;
pub(super) mod report;
pub(super) mod runs;
pub(super) mod schedules;
pub(super) mod timeline;
pub(super) mod versions;

use everfold_core::failure::{Failure, FailureKind};
use everfold_core::ids::Timestamp;
use everfold_core::machine::RunStatus;
use everfold_core::payload::Payload;
use jiff::tz::TimeZone;
use owo_colors::Style;

/// A span of time, readable: `12 ms`, `1.24 s`, `45.3 s`, `2 min 5 s`, `3 h 20 min`, `2 d 4 h`.
pub(super) fn duration(ms: u64) -> String {
    let with_rest = |whole: u64, unit: &str, rest: u64, rest_unit: &str| match rest {
        0 => format!("{whole} {unit}"),
        _ => format!("{whole} {unit} {rest} {rest_unit}"),
    };
    let s = ms / 1_000;
    match s {
        0 => format!("{ms} ms"),
        1..10 => format!("{s}.{:02} s", ms % 1_000 / 10),
        10..60 => format!("{s}.{} s", ms % 1_000 / 100),
        60..3_600 => with_rest(s / 60, "min", s % 60, "s"),
        3_600..86_400 => with_rest(s / 3_600, "h", s % 3_600 / 60, "min"),
        _ => with_rest(s / 86_400, "d", s % 86_400 / 3_600, "h"),
    }
}

/// How far a time is from the present: `in 4 s`, `2 min ago`, `now`.
pub(super) fn relative(at: Timestamp, now: Timestamp) -> String {
    // Nobody needs the fractions of a past or coming second.
    let whole = |ms: u64| match ms {
        1_000..60_000 => format!("{} s", ms / 1_000),
        _ => duration(ms),
    };
    match (at.ms_since(now), now.ms_since(at)) {
        (0, 0) => "now".to_owned(),
        (ahead, 0) => format!("in {}", whole(ahead)),
        (_, ago) => format!("{} ago", whole(ago)),
    }
}

/// A time on the reader's clock.
pub(super) fn local(at: Timestamp, zone: &TimeZone) -> String {
    match jiff::Timestamp::from_millisecond(at.0) {
        Ok(time) => time.to_zoned_datetime(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => at.to_string(),
    }
}

/// A number of bytes.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{} KB", bytes / 1_024),
        _ => format!("{}.{} MB", bytes / 1_048_576, bytes % 1_048_576 * 10 / 1_048_576),
    }
}

/// A number of things: `1 run`, `2 runs`.
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The colour of a status.
pub(super) fn status_style(status: RunStatus) -> Style {
    match status {
        RunStatus::Running => Style::new().blue().bold(),
        RunStatus::Completed | RunStatus::ContinuedAsNew => Style::new().green().bold(),
        RunStatus::Failed | RunStatus::Canceled | RunStatus::Terminated | RunStatus::TimedOut => {
            Style::new().red().bold()
        }
    }
}

/// A payload in one line.
pub(super) fn payload(payload: &Payload) -> String {
    match payload.to_value() {
        serde_json::Value::Null => String::new(),
        value => value.to_string(),
    }
}

/// A failure and its causes in one line. The layer that only says that an activity failed is left
/// out where its cause says why.
pub(super) fn failure(failure: &Failure) -> String {
    let says_more =
        |failure: &&Failure| !matches!(failure.kind, FailureKind::Activity(_)) || failure.cause.is_none();
    let parts = failure.chain().filter(says_more);
    let parts: Vec<String> = parts.map(|part| format!("{}: {}", part.type_name(), part.message)).collect();
    one_line(&parts.join(" ← "))
}

/// How a run ended that was ended by people: `was terminated: the shop is closed`. A cancelled run
/// may have left something behind.
pub(super) fn ended(failure: &Failure) -> Option<String> {
    let what = failure.message.strip_prefix("the workflow ").unwrap_or(&failure.message);
    match &failure.kind {
        FailureKind::Terminated => Some(one_line(what)),
        FailureKind::Canceled(canceled) => {
            let left: Vec<String> = canceled
                .details
                .iter()
                .map(payload)
                .filter(|text| !["", "\"\""].contains(&text.as_str()))
                .collect();
            let left =
                if left.is_empty() { String::new() } else { format!(", and left {}", left.join(", ")) };
            Some(one_line(&format!("{what}{left}")))
        }
        FailureKind::Application(_)
        | FailureKind::TimedOut(_)
        | FailureKind::Activity(_)
        | FailureKind::ChildWorkflow(_)
        | FailureKind::Other(_) => None,
    }
}

/// At most `width` characters, with `…` where something is missing.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// The same without line breaks and other characters that move a terminal's cursor.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_readable() {
        let texts =
            [0, 999, 1_240, 9_999, 10_500, 60_000, 125_000, 3_600_000, 12_000_000, 187_200_000].map(duration);
        insta::assert_snapshot!(texts.join(" | "), @"0 ms | 999 ms | 1.24 s | 9.99 s | 10.5 s | 1 min | 2 min 5 s | 1 h | 3 h 20 min | 2 d 4 h");
        let now = Timestamp(1_000_000);
        let near = [1_000_000, 1_004_300, 1_000_400, 1_130_000, 995_000, 999_999]
            .map(|at| relative(Timestamp(at), now));
        insta::assert_snapshot!(near.join(" | "), @"now | in 4 s | in 400 ms | in 2 min 10 s | 5 s ago | 1 ms ago");
        assert_eq!([512, 70_000, 1_600_000].map(size).join(" | "), "512 B | 68 KB | 1.5 MB");
    }

    #[test]
    fn times_are_the_readers() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(local(Timestamp(1_767_225_600_000), &zone), "2026-01-01 02:00:00");
    }

    #[test]
    fn a_cut_text_shows_that_it_was_cut() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöü…x", 3), "äö…");
        assert_eq!(one_line("a\n\u{1b}[31mb"), "a  [31mb");
    }
}
