//! A replay's report: whether it held, and how the run stood where it stopped.

use everfold::guest::{LogLevel, MetricKind, Observation};
use everfold_core::divergence::{Change, Comparison};
use everfold_core::event::Event;
use everfold_core::fold::GuestFault;
use everfold_core::ids::EventId;
use everfold_core::machine::RunState;
use everfold_core::replay::ReplayFault;
use jiff::tz::TimeZone;
use owo_colors::{OwoColorize as _, Style};
use serde_json::{Map, Value, json};

use super::{divergence, frames, local, one_line, relative, status_style};
use crate::cli::replay::{Answers, Held, Part, Report, Scene};

/// The report as JSON.
pub(in crate::cli) fn to_value(report: &Report) -> Value {
    let mut value = json!({
        "digest": report.digest,
        "comparison": match report.parts.as_slice() {
            [first, rest @ ..] if rest.iter().all(|part| part.comparison == first.comparison) => {
                comparison_name(first.comparison)
            }
            _ => "mixed",
        },
        "parts": report.parts.iter().map(part_value).collect::<Vec<_>>(),
        "events": report.events,
        "held": report.outcome.is_ok(),
    });
    match &report.outcome {
        Ok(held) => {
            value["status"] = json!(held.state.status());
            value["changes"] = json!(held.changes);
            if let (Value::Object(value), Some(scene)) = (&mut value, &held.scene) {
                value.extend(scene_value(scene, &held.state));
            }
        }
        Err(ReplayFault::Malformed(error)) => {
            value["fault"] = json!({ "kind": "malformed_history", "message": error.to_string() });
        }
        Err(ReplayFault::Guest { event_id, fault }) => value["fault"] = fault_value(*event_id, fault),
    }
    value
}

fn part_value(part: &Part) -> Value {
    json!({
        "recorded_by": part.recorded_by,
        "first_event_id": part.from,
        "last_event_id": part.to,
        "comparison": comparison_name(part.comparison),
    })
}

const fn comparison_name(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::SameDigest => "same_digest",
        Comparison::OtherDigest => "other_digest",
        Comparison::OtherDigestStrict => "other_digest_strict",
    }
}

fn scene_value(scene: &Scene, state: &RunState) -> Map<String, Value> {
    let pairs = |pairs: &[(String, String)]| -> Value {
        pairs.iter().map(|(key, value)| (key.clone(), json!(value))).collect::<Map<_, _>>().into()
    };
    let (mut logs, mut metrics) = (Vec::new(), Vec::new());
    for (event_id, observation) in &scene.said {
        match observation {
            Observation::Log { level, target, message, fields } => logs.push(json!({
                "event_id": event_id,
                "level": level_name(*level),
                "target": target,
                "message": message,
                "fields": pairs(fields),
            })),
            Observation::Metric { kind, name, value, attributes } => metrics.push(json!({
                "event_id": event_id,
                "kind": kind_name(*kind),
                "name": name,
                "value": value,
                "attributes": pairs(attributes),
            })),
        }
    }
    let activities = state.activities().iter().map(|(id, activity)| {
        json!({
            "scheduled_event_id": id,
            "activity_type": activity.scheduled.activity_type,
            "scheduled_at": activity.scheduled_at,
            "cancel_requested": activity.cancel_requested,
        })
    });
    let timers = state.timers().iter().map(|(id, at)| json!({ "started_event_id": id, "fire_at": at }));
    let unread = state.signals().unread();
    let unread = unread.iter().map(|(id, signal)| json!({ "received_event_id": id, "name": signal.name }));
    let versions: Map<String, Value> =
        state.versions().iter().map(|(change_id, version)| (change_id.to_owned(), json!(version))).collect();
    let answers: Map<String, Value> = scene.answers.iter().cloned().collect();
    let value = json!({
        "until": scene.until,
        "stopped_behind_event_id": state.next().0 - 1,
        "time": state.time(),
        "logs": logs,
        "metrics": metrics,
        "pending_activities": activities.collect::<Vec<_>>(),
        "timers": timers.collect::<Vec<_>>(),
        "unread_signals": unread.collect::<Vec<_>>(),
        "cancel_requested": state.is_cancel_requested(),
        "versions": versions,
        "queries": answers,
    });
    match value {
        Value::Object(value) => value,
        _ => unreachable!("it is an object"),
    }
}

fn fault_value(event_id: EventId, fault: &GuestFault) -> Value {
    let mut value = match fault {
        GuestFault::Nondeterminism(error) => {
            let mut value = json!(error);
            value["kind"] = json!("nondeterminism");
            value
        }
        GuestFault::Trap { message, backtrace } => {
            json!({ "kind": "trap", "message": message, "backtrace": backtrace })
        }
        GuestFault::LimitExceeded { message, backtrace } => {
            json!({ "kind": "limit_exceeded", "message": message, "backtrace": backtrace })
        }
    };
    value["folding_event_id"] = json!(event_id);
    value
}

/// The report on a history in lines, of at most `width` columns where that can be.
pub(in crate::cli) fn lines(
    report: &Report,
    history: &[Event],
    zone: &TimeZone,
    width: usize,
) -> Vec<String> {
    let (events, digest) = (report.events, report.digest.short());
    match &report.outcome {
        Ok(held) => {
            let verdict = verdict(&report.parts, held);
            let mut lines =
                vec![format!("{} {events} events replayed with {digest}: {verdict}", "held".green().bold())];
            if let [_, _, ..] = report.parts.as_slice() {
                lines.extend(report.parts.iter().map(part_line));
            }
            lines.extend(held.changes.iter().map(change_line));
            if let Some(scene) = &held.scene {
                lines.extend(scene_lines(scene, &held.state, zone));
            }
            lines
        }
        Err(fault) => {
            let mut lines = vec![format!("{} with {digest}: {fault}", headline(fault).red().bold())];
            let ReplayFault::Guest { event_id, fault } = fault else { return lines };
            lines.push(format!("  while event {event_id} was folded"));
            match fault {
                GuestFault::Nondeterminism(parting) => {
                    let agreed = divergence::agreed(history, parting.event_id);
                    lines.extend(divergence::lines(parting, "", &agreed, width));
                }
                GuestFault::Trap { backtrace, .. } | GuestFault::LimitExceeded { backtrace, .. } => {
                    let frames = frames::authors(backtrace).into_lines();
                    lines.extend(frames.map(|frame| format!("  {}", frame.dimmed())));
                }
            }
            lines
        }
    }
}

fn verdict(parts: &[Part], held: &Held) -> &'static str {
    let same = parts.iter().filter(|part| part.comparison == Comparison::SameDigest).count();
    match (same, held.changes.is_empty()) {
        (same, _) if same == parts.len() => "the same component made the same calls, byte for byte",
        (0, true) => "another version of the component made the same calls",
        (_, true) => "it made the same calls; it recorded only a part of them itself",
        (_, false) => "another version made the same calls, with changes (--strict refuses them)",
    }
}

fn part_line(part: &Part) -> String {
    let how = match part.comparison {
        Comparison::SameDigest => "byte for byte",
        Comparison::OtherDigest => "by kind, name and order",
        Comparison::OtherDigestStrict => "another version, byte for byte",
    };
    format!(
        "  events {} to {} were recorded by {}: compared {how}",
        part.from,
        part.to,
        part.recorded_by.short()
    )
}

/// Which sort of end, in a word.
fn headline(fault: &ReplayFault) -> &'static str {
    match fault {
        ReplayFault::Malformed(_) => "unreadable",
        ReplayFault::Guest { fault: GuestFault::Nondeterminism(_), .. } => "diverged",
        ReplayFault::Guest { fault: GuestFault::Trap { .. }, .. } => "trapped",
        ReplayFault::Guest { fault: GuestFault::LimitExceeded { .. }, .. } => "stopped",
    }
}

fn change_line(change: &Change) -> String {
    let fields: Vec<String> = change.fields.iter().map(ToString::to_string).collect();
    format!("  event {} {}: {}", change.event_id, change.call, fields.join("; "))
}

/// How the run stood.
fn scene_lines(scene: &Scene, state: &RunState, zone: &TimeZone) -> Vec<String> {
    let (now, reached) = (state.time(), EventId(state.next().0 - 1));
    let status = state.status();
    let mut lines = vec![
        String::new(),
        format!(
            "behind event {reached}, at {}: {}{}",
            local(now, zone),
            status.name().style(status_style(status)),
            if state.is_cancel_requested() { ", asked to cancel" } else { "" },
        ),
    ];
    if reached > scene.until {
        lines.push(format!(
            "  event {} is in the middle of a step: what the code did in one go ends with event {reached}",
            scene.until
        ));
    }
    let activities = state.activities().iter().map(|(id, activity)| {
        let stop = if activity.cancel_requested { ", asked to stop" } else { "" };
        let name = one_line(&activity.scheduled.activity_type);
        item(id, format!("{}, scheduled {}{stop}", name.bold(), relative(activity.scheduled_at, now)))
    });
    list(&mut lines, "activities", activities);
    let timers = state
        .timers()
        .iter()
        .map(|(id, at)| item(id, format!("fires {} ({})", relative(at, now), local(at, zone))));
    list(&mut lines, "timers", timers);
    let unread = state.signals().unread();
    list(&mut lines, "unread signals", unread.iter().map(|(id, signal)| item(*id, one_line(&signal.name))));
    let versions = state.versions().iter();
    list(
        &mut lines,
        "versions",
        versions.map(|(change_id, version)| format!("         {} {version}", one_line(change_id).bold())),
    );
    list(&mut lines, "said", scene.said.iter().map(|(id, observation)| said(*id, observation)));
    answers(&mut lines, &scene.answers);
    lines
}

fn list(lines: &mut Vec<String>, title: &str, items: impl Iterator<Item = String>) {
    let mut items = items.peekable();
    if items.peek().is_some() {
        lines.extend([String::new(), title.to_owned()]);
        lines.extend(items);
    }
}

fn item(id: EventId, text: impl AsRef<str>) -> String {
    let number = format!("{:>7}", format!("#{id}"));
    format!("{}  {}", number.dimmed(), text.as_ref())
}

/// What the code said; its text is its own, so that nothing of it may move the cursor.
fn said(id: EventId, observation: &Observation) -> String {
    let pairs = |pairs: &[(String, String)]| -> String {
        let pair = |(key, value): &(String, String)| {
            format!("  {}{}", format!("{}=", one_line(key)).dimmed(), one_line(value))
        };
        pairs.iter().map(pair).collect()
    };
    let (word, text) = match observation {
        Observation::Log { level, target: _, message, fields } => {
            let word = format!("{:<6}", level_name(*level)).style(level_style(*level)).to_string();
            (word, format!("{}{}", one_line(message), pairs(fields)))
        }
        Observation::Metric { kind, name, value, attributes } => {
            let verb = match kind {
                MetricKind::Counter => "grows by",
                MetricKind::Histogram => "records",
            };
            let word = format!("{:<6}", "metric").dimmed().to_string();
            (word, format!("{} {verb} {value}{}", one_line(name), pairs(attributes)))
        }
    };
    item(id, format!("{word}  {text}"))
}

fn answers(lines: &mut Vec<String>, answers: &Answers) {
    for (name, answer) in answers {
        lines.extend([String::new(), format!("query {}", one_line(name).bold())]);
        let text = serde_json::to_string_pretty(answer).unwrap_or_else(|_| answer.to_string());
        lines.extend(text.lines().map(|line| format!("  {}", one_line(line))));
    }
}

const fn level_name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    }
}

fn level_style(level: LogLevel) -> Style {
    match level {
        LogLevel::Trace | LogLevel::Debug => Style::new().dimmed(),
        LogLevel::Info => Style::new().green(),
        LogLevel::Warn => Style::new().yellow(),
        LogLevel::Error => Style::new().red(),
    }
}

const fn kind_name(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Counter => "counter",
        MetricKind::Histogram => "histogram",
    }
}
