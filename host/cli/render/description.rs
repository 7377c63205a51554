//! A run's description: how it stands, what it waits for in one sentence, then the details.

use std::fmt::Write as _;

use everfold::server::wire::{Blocked, Description, End, PendingActivity, PendingChild};
use everfold_core::ids::Timestamp;
use everfold_core::machine::update::UpdateStage;
use jiff::tz::TimeZone;
use owo_colors::OwoColorize as _;
use serde_json::{Map, Value};

use super::{counted, cut, duration, ended, failure, frames, local, one_line, relative, status_style};

/// Updates that are named at each stage.
const MOST_UPDATES: usize = 3;
/// Columns of a heartbeat's details.
const LONGEST_DETAILS: usize = 120;
/// Columns of search attributes, and of a memo.
const LONGEST_NAMED: usize = 240;

/// The whole text, with a line break behind each line. `parting` is where a blocked run's code parts from
/// its history.
pub(in crate::cli) fn text(run: &Description, parting: &[String], now: Timestamp, zone: &TimeZone) -> String {
    let mut text = String::new();
    let status = run.standing.status;
    let blocked = if run.blocked.is_some() { format!(", {}", "blocked".red().bold()) } else { String::new() };
    line(
        &mut text,
        &format!("{}  {}{blocked}", run.workflow_id.bold(), status.name().style(status_style(status))),
    );
    let parent = run.parent.as_ref();
    let facts = [
        ("type", run.workflow_type.clone()),
        ("run", run.run_id.to_string()),
        ("component", run.digest.short()),
        ("parent", parent.map_or_else(String::new, |parent| parent.workflow_id.to_string())),
        ("started", format!("{} ({})", local(run.started_at, zone), relative(run.started_at, now))),
        (
            "attempt",
            run.attempt
                .filter(|attempt| *attempt > 1)
                .map_or_else(String::new, |attempt| attempt.to_string()),
        ),
        ("times out", run.times_out_at.map_or_else(String::new, |at| relative(at, now))),
        ("closed", run.closed_at.map_or_else(String::new, |closed| closed_text(run, closed, now, zone))),
        ("history", history_text(run)),
        ("found by", named_text(&run.search_attributes)),
        ("memo", named_text(&run.memo)),
        ("unread", signals_text(run)),
        ("updates", updates_text(run)),
        ("cancel", if run.cancel_requested { "requested".to_owned() } else { String::new() }),
    ];
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        line(&mut text, &format!("  {}  {value}", format!("{name:<9}").dimmed()));
    }
    for near in &run.near_limits {
        line(&mut text, &format!("  {}  {}", "warning  ".yellow(), near.message));
    }
    line(&mut text, "");
    line(&mut text, &sentence(run, now));
    if !parting.is_empty() {
        line(&mut text, "");
        parting.iter().for_each(|parting| line(&mut text, parting));
    } else if let Some(blocked) = run.blocked.as_ref().filter(|blocked| !blocked.backtrace.is_empty()) {
        frames::authors(&blocked.backtrace)
            .into_lines()
            .for_each(|frame| line(&mut text, &format!("  {}", frame.dimmed())));
    }
    details(&mut text, run, now, zone);
    text
}

fn line(text: &mut String, line: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{}", line.trim_end());
}

fn closed_text(run: &Description, closed: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let took = duration(closed.ms_since(run.started_at));
    format!("{} ({}), after {took}", local(closed, zone), relative(closed, now))
}

fn history_text(run: &Description) -> String {
    let events = counted(run.history_length, "event", "events");
    match run.inbox_length {
        0 => events,
        waiting => format!("{events}, {waiting} more in the inbox"),
    }
}

/// Named values in one line: `customer_id = 100, city = "Ulm"`.
fn named_text(values: &Map<String, Value>) -> String {
    let each = values.iter().map(|(name, value)| format!("{} = {value}", one_line(name)));
    cut(&each.collect::<Vec<_>>().join(", "), LONGEST_NAMED)
}

/// Signals that wait, each name once, with its number where there are several.
fn signals_text(run: &Description) -> String {
    let mut names: Vec<(&str, u64)> = Vec::new();
    for signal in &run.unread_signals {
        match names.iter_mut().find(|(name, _)| *name == signal.name) {
            Some((_, count)) => *count += 1,
            None => names.push((&signal.name, 1)),
        }
    }
    if names.is_empty() {
        return String::new();
    }
    let names = names.into_iter().map(|(name, count)| match count {
        1 => one_line(name),
        _ => format!("{count} × {}", one_line(name)),
    });
    let count = counted(run.unread_signals.len() as u64, "signal", "signals");
    format!("{count} ({})", names.collect::<Vec<_>>().join(", "))
}

/// Updates that are not answered, how many at each stage.
fn updates_text(run: &Description) -> String {
    let mut told: Vec<String> = Vec::new();
    for stage in UpdateStage::ALL {
        let at_stage = run.pending_updates.iter().filter(|update| update.stage == stage);
        let named: Vec<String> = at_stage
            .map(|update| format!("{} ({})", one_line(&update.name), one_line(&update.update_id)))
            .collect();
        if !named.is_empty() {
            let more = named.len().saturating_sub(MOST_UPDATES);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let shown: Vec<_> = named.into_iter().take(MOST_UPDATES).collect();
            told.push(format!("{}: {}{more}", stage.name(), shown.join(", ")));
        }
    }
    told.join("; ")
}

/// What matters about the run now.
fn sentence(run: &Description, now: Timestamp) -> String {
    if let Some(end) = &run.standing.end {
        return match end {
            End::Result(value) => format!("It returned {}", one_line(&value.to_string()).green()),
            End::Failure(error) => match ended(error) {
                Some(text) => format!("It {}.", text.red()),
                None => format!("It ended with {}", failure(error).red()),
            },
            End::ContinuedAsRunId(run_id) => format!(
                "It goes on as run {run_id}: see it with `everfold show {} --run-id {run_id}`.",
                run.workflow_id
            ),
        };
    }
    if let Some(blocked) = &run.blocked {
        return blocked_sentence(blocked, now);
    }
    if let Some(start_at) = run.start_at {
        return format!("It begins {}.", relative(start_at, now));
    }
    match (run.pending_activities.as_slice(), run.children.as_slice(), run.timers.as_slice()) {
        ([], [], []) if run.inbox_length > 0 => "It is about to take what is in its inbox.".to_owned(),
        ([], [], []) if !run.pending_updates.is_empty() => {
            let count = counted(run.pending_updates.len() as u64, "update", "updates");
            format!("It waits for nothing that this host will bring, and has {count} to answer.")
        }
        ([], [], []) => "It waits for nothing that this host will bring: no activity, no timer.".to_owned(),
        ([activity], [], []) => format!("It waits for {}.", activity_sentence(activity, now)),
        ([], [child], []) => format!("It waits for {}.", child_sentence(child, now)),
        ([], [], [timer]) => format!("It waits for a timer that fires {}.", relative(timer.fire_at, now)),
        (activities, children, timers) => {
            let names: Vec<&str> =
                activities.iter().map(|activity| activity.activity_type.as_str()).collect();
            let mut parts = Vec::new();
            if !activities.is_empty() {
                let count = counted(activities.len() as u64, "activity", "activities");
                parts.push(format!("{count} ({})", names.join(", ")));
            }
            if !children.is_empty() {
                let names: Vec<&str> = children.iter().map(|child| child.workflow_type.as_str()).collect();
                let count = counted(children.len() as u64, "child", "children");
                parts.push(format!("{count} ({})", names.join(", ")));
            }
            if let Some(next) = timers.iter().map(|timer| timer.fire_at).min() {
                let count = counted(timers.len() as u64, "timer", "timers");
                parts.push(format!("{count} (the next fires {})", relative(next, now)));
            }
            let last = parts.pop().unwrap_or_default();
            let but_last = parts.join(", ");
            let and = if but_last.is_empty() { "" } else { " and " };
            format!("It waits for {but_last}{and}{last}.")
        }
    }
}

fn child_sentence(child: &PendingChild, now: Timestamp) -> String {
    let PendingChild { workflow_type, workflow_id, initiated_at, started, cancel_requested, .. } = child;
    let stop = if *cancel_requested { ", which was asked to cancel" } else { "" };
    let since = relative(*initiated_at, now);
    let how = if *started { "started" } else { "asked for" };
    format!("child workflow {} ({workflow_id}){stop}: {how} {since}", workflow_type.bold())
}

fn blocked_sentence(blocked: &Blocked, now: Timestamp) -> String {
    let why = match blocked.kind.as_str() {
        "nondeterminism" => "its code did something else than its history records",
        "trap" => "its code trapped",
        "limit_exceeded" => "its code passed a limit",
        "component_unavailable" => "a component that it needs is not there",
        _ => "of a fault of its code",
    };
    let due = match blocked.next_retry_at > now {
        true => relative(blocked.next_retry_at, now),
        false => "now".to_owned(),
    };
    format!(
        "It has been blocked at event {} for {}, because {why}: {}. The run has not failed: it is tried again {} \
         ({} so far).",
        blocked.event,
        duration(now.ms_since(blocked.since)),
        one_line(blocked.reason.trim_end_matches('.')).red(),
        due,
        counted(u64::from(blocked.retries), "retry", "retries"),
    )
}

fn activity_sentence(activity: &PendingActivity, now: Timestamp) -> String {
    let name = activity.activity_type.bold();
    let stop = if activity.cancel_requested { ", which was asked to stop" } else { "" };
    let attempt = attempt_text(activity, now);
    let heartbeat = heartbeat_text(activity, now);
    match (&activity.last_failure, activity.last_failure_at) {
        (Some(last), at) => {
            let ago = at.map_or_else(String::new, |at| format!(" {}", relative(at, now)));
            let last = failure(last);
            format!("{name}{stop}: {attempt}{heartbeat}; the one before failed{ago} with {}", last.yellow())
        }
        (None, _) => {
            format!("{name}{stop}: {attempt}, scheduled {}{heartbeat}", relative(activity.scheduled_at, now))
        }
    }
}

/// What keeps the activity from being done: the attempt, and who has it.
fn attempt_text(activity: &PendingActivity, now: Timestamp) -> String {
    let limit = activity.maximum_attempts.filter(|limit| *limit > 0);
    let of = limit.map_or_else(String::new, |limit| format!(" of {limit}"));
    let attempt = format!("attempt {}{of}", activity.attempt);
    let paused = || activity.paused_at.map_or_else(String::new, |at| format!(" {}", relative(at, now)));
    match activity.state.as_str() {
        "waiting_for_worker" => {
            format!("{attempt} waits for a worker on task queue {}", one_line(&activity.task_queue))
        }
        "paused" => format!("it was paused{}, before {attempt}", paused()),
        "pause_requested" => format!(
            "{attempt} {}, and no other follows: it was paused{}",
            under_way_text(activity, now),
            paused()
        ),
        "scheduled" => match activity.next_attempt_at.filter(|next| *next > now) {
            Some(next) => format!("{attempt} begins {}", relative(next, now)),
            None => format!("{attempt} begins now"),
        },
        _ => format!("{attempt} {}", under_way_text(activity, now)),
    }
}

/// Who has the attempt that is under way.
fn under_way_text(activity: &PendingActivity, now: Timestamp) -> String {
    let Some(lease) = &activity.lease else { return "is under way".to_owned() };
    let since = relative(lease.since, now);
    match &lease.worker {
        Some(worker) => format!("was leased by worker {} {since}", one_line(worker)),
        None => format!("began {since} and is to be completed from outside, by its token"),
    }
}

/// What the activity last said of itself, if it ever did.
fn heartbeat_text(activity: &PendingActivity, now: Timestamp) -> String {
    let details = activity.heartbeat_details.as_ref();
    let details = details.map(|details| cut(&one_line(&details.to_string()), LONGEST_DETAILS));
    match (activity.last_heartbeat_at, details) {
        (Some(at), Some(details)) => format!(", last heartbeat {}: {details}", relative(at, now)),
        (Some(at), None) => format!(", last heartbeat {}", relative(at, now)),
        // An attempt before this one said it.
        (None, Some(details)) => format!(", goes on from {details}"),
        (None, None) => String::new(),
    }
}

/// Lists only where the sentence could not say everything.
fn details(text: &mut String, run: &Description, now: Timestamp, zone: &TimeZone) {
    let open = run.pending_activities.len() + run.children.len() + run.timers.len();
    if open < 2 && run.blocked.is_none() {
        return;
    }
    if !run.pending_activities.is_empty() {
        line(text, "\nactivities");
    }
    for activity in &run.pending_activities {
        let number = format!("#{}", activity.scheduled_event_id);
        line(text, &format!("  {:>5}  {}", number.dimmed(), activity_sentence(activity, now)));
    }
    if !run.children.is_empty() {
        line(text, "\nchildren");
    }
    for child in &run.children {
        let number = format!("#{}", child.initiated_event_id);
        line(text, &format!("  {:>5}  {}", number.dimmed(), child_sentence(child, now)));
    }
    if !run.timers.is_empty() {
        line(text, "\ntimers");
    }
    for timer in &run.timers {
        let number = format!("#{}", timer.started_event_id);
        let (fires, at) = (relative(timer.fire_at, now), local(timer.fire_at, zone));
        line(text, &format!("  {:>5}  fires {fires} ({at})", number.dimmed()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(changes: Value) -> String {
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
            "pending_activities": [],
            "timers": [],
            "unread_signals": [],
            "pending_updates": [],
            "cancel_requested": false,
            "inbox_length": 0,
            "near_limits": [],
        });
        if let (Value::Object(run), Value::Object(changes)) = (&mut run, changes) {
            run.extend(changes);
        }
        let run: Description = serde_json::from_value(run).expect("a description");
        let now = "2026-01-01T00:02:05Z".parse().expect("a time");
        anstream::adapter::strip_str(&text(&run, &[], now, &TimeZone::UTC)).to_string()
    }

    fn activity(activity_type: &str, changes: Value) -> Value {
        let mut activity = json!({
            "scheduled_event_id": 6,
            "activity_type": activity_type,
            "attempt": 1,
            "maximum_attempts": 5,
            "scheduled_at": "2026-01-01T00:02:00Z",
            "last_failure": null,
            "last_failure_at": null,
            "next_attempt_at": null,
            "last_heartbeat_at": null,
            "heartbeat_details": null,
            "cancel_requested": false,
            "task_queue": "default",
            "state": "started",
            "lease": null,
            "paused_at": null,
        });
        if let (Value::Object(activity), Value::Object(changes)) = (&mut activity, changes) {
            activity.extend(changes);
        }
        activity
    }

    fn retried() -> Value {
        activity(
            "process-payment",
            json!({
                "attempt": 3,
                "state": "scheduled",
                "last_failure": {
                    "message": "503 from the gateway",
                    "kind": { "kind": "application", "type": "PaymentGatewayUnavailable", "non_retryable": false },
                },
                "last_failure_at": "2026-01-01T00:02:03Z",
                "next_attempt_at": "2026-01-01T00:02:09Z",
            }),
        )
    }

    #[test]
    fn a_waiting_run_says_for_what() {
        insta::assert_snapshot!(shown(json!({ "pending_activities": [retried()] })), @r"
        order-1  running
          type       order-saga
          run        00000000-0000-0000-0000-000000000000
          component  abababababab
          started    2026-01-01 00:00:00 (2 min 5 s ago)
          history    7 events

        It waits for process-payment: attempt 3 of 5 begins in 4 s; the one before failed 2 s ago with PaymentGatewayUnavailable: 503 from the gateway.
        ");
        let timer = json!({ "started_event_id": 9, "fire_at": "2026-01-01T03:02:05Z" });
        let several = json!({ "pending_activities": [retried(), activity("ship", json!({ "cancel_requested": true }))],
            "timers": [timer], "inbox_length": 2 });
        insta::assert_snapshot!(shown(several), @r"
        order-1  running
          type       order-saga
          run        00000000-0000-0000-0000-000000000000
          component  abababababab
          started    2026-01-01 00:00:00 (2 min 5 s ago)
          history    7 events, 2 more in the inbox

        It waits for 2 activities (process-payment, ship) and 1 timer (the next fires in 3 h).

        activities
             #6  process-payment: attempt 3 of 5 begins in 4 s; the one before failed 2 s ago with PaymentGatewayUnavailable: 503 from the gateway
             #6  ship, which was asked to stop: attempt 1 of 5 is under way, scheduled 5 s ago

        timers
             #9  fires in 3 h (2026-01-01 03:02:05)
        ");
        insta::assert_snapshot!(shown(json!({})), @r"
        order-1  running
          type       order-saga
          run        00000000-0000-0000-0000-000000000000
          component  abababababab
          started    2026-01-01 00:00:00 (2 min 5 s ago)
          history    7 events

        It waits for nothing that this host will bring: no activity, no timer.
        ");
    }

    #[test]
    fn children_are_told_on_both_sides() {
        let child = |id: u64, started: bool| {
            json!({
                "initiated_event_id": id,
                "workflow_type": "ship",
                "workflow_id": format!("parcel-{id}"),
                "run_id": "00000000-0000-0000-0000-000000000000",
                "initiated_at": "2026-01-01T00:02:00Z",
                "started": started,
                "cancel_requested": !started,
            })
        };
        let text = shown(json!({ "children": [child(2, true)] }));
        assert!(text.contains("It waits for child workflow ship (parcel-2): started 5 s ago."), "{text}");
        let timer = json!({ "started_event_id": 9, "fire_at": "2026-01-01T03:02:05Z" });
        let parent = json!({ "workflow_id": "sale-1", "run_id": "00000000-0000-0000-0000-000000000000", "close_policy": "abandon" });
        let several =
            json!({ "children": [child(2, true), child(3, false)], "timers": [timer], "parent": parent });
        insta::assert_snapshot!(shown(several), @r"
        order-1  running
          type       order-saga
          run        00000000-0000-0000-0000-000000000000
          component  abababababab
          parent     sale-1
          started    2026-01-01 00:00:00 (2 min 5 s ago)
          history    7 events

        It waits for 2 children (ship, ship) and 1 timer (the next fires in 3 h).

        children
             #2  child workflow ship (parcel-2): started 5 s ago
             #3  child workflow ship (parcel-3), which was asked to cancel: asked for 5 s ago

        timers
             #9  fires in 3 h (2026-01-01 03:02:05)
        ");
    }

    #[test]
    fn signals_cancellation_and_heartbeats_are_told() {
        let shipping = activity(
            "arrange-shipping",
            json!({
                "last_heartbeat_at": "2026-01-01T00:02:02Z",
                "heartbeat_details": { "booked": true },
                "cancel_requested": true,
            }),
        );
        let signal = |id: u64, name: &str| json!({ "received_event_id": id, "name": name });
        let run = json!({
            "pending_activities": [shipping],
            "unread_signals": [signal(4, "order-delivered"), signal(5, "note"), signal(7, "note")],
            "cancel_requested": true,
        });
        insta::assert_snapshot!(shown(run), @r#"
        order-1  running
          type       order-saga
          run        00000000-0000-0000-0000-000000000000
          component  abababababab
          started    2026-01-01 00:00:00 (2 min 5 s ago)
          history    7 events
          unread     3 signals (order-delivered, 2 × note)
          cancel     requested

        It waits for arrange-shipping, which was asked to stop: attempt 1 of 5 is under way, scheduled 5 s ago, last heartbeat 3 s ago: {"booked":true}.
        "#);
        let resumed = activity("arrange-shipping", json!({ "attempt": 2, "heartbeat_details": [3] }));
        let text = shown(json!({ "pending_activities": [resumed] }));
        assert!(text.contains("scheduled 5 s ago, goes on from [3]."), "{text}");
    }

    #[test]
    fn who_has_an_activity_is_told() {
        let since = "2026-01-01T00:02:00Z";
        let worker = json!({ "worker": "box-7:4711", "since": since });
        let cases = [
            json!({ "state": "waiting_for_worker", "task_queue": "python" }),
            json!({ "lease": worker, "attempt": 2 }),
            json!({ "lease": { "worker": null, "since": since } }),
            json!({ "state": "paused", "paused_at": since, "attempt": 3 }),
            json!({ "state": "pause_requested", "paused_at": since, "lease": worker }),
            json!({ "state": "pause_requested", "paused_at": since }),
        ];
        let sentence = |changes| {
            let text = shown(json!({ "pending_activities": [activity("resize", changes)] }));
            text.lines().last().expect("a sentence").to_owned()
        };
        insta::assert_snapshot!(cases.map(sentence).join("\n"), @r"
        It waits for resize: attempt 1 of 5 waits for a worker on task queue python, scheduled 5 s ago.
        It waits for resize: attempt 2 of 5 was leased by worker box-7:4711 5 s ago, scheduled 5 s ago.
        It waits for resize: attempt 1 of 5 began 5 s ago and is to be completed from outside, by its token, scheduled 5 s ago.
        It waits for resize: it was paused 5 s ago, before attempt 3 of 5, scheduled 5 s ago.
        It waits for resize: attempt 1 of 5 was leased by worker box-7:4711 5 s ago, and no other follows: it was paused 5 s ago, scheduled 5 s ago.
        It waits for resize: attempt 1 of 5 is under way, and no other follows: it was paused 5 s ago, scheduled 5 s ago.
        ");
    }

    #[test]
    fn a_blocked_run_says_why() {
        let blocked = json!({
            "event": 8,
            "kind": "trap",
            "reason": "panicked at src/order.rs:10:5: index out of bounds",
            "backtrace": "order::pay\norder::run",
            "since": "2026-01-01T00:01:00Z",
            "retries": 4,
            "next_retry_at": "2026-01-01T00:02:13Z",
        });
        insta::assert_snapshot!(shown(json!({ "blocked": blocked, "inbox_length": 1 })), @r"
        order-1  running, blocked
          type       order-saga
          run        00000000-0000-0000-0000-000000000000
          component  abababababab
          started    2026-01-01 00:00:00 (2 min 5 s ago)
          history    7 events, 1 more in the inbox

        It has been blocked at event 8 for 1 min 5 s, because its code trapped: panicked at src/order.rs:10:5: index out of bounds. The run has not failed: it is tried again in 8 s (4 retries so far).
          order::pay
          order::run
        ");
    }

    #[test]
    fn a_closed_run_says_how_it_ended() {
        let closed_at = "2026-01-01T00:01:30Z";
        let completed =
            json!({ "status": "completed", "closed_at": closed_at, "result": { "payment_id": "p-1" } });
        insta::assert_snapshot!(shown(completed), @r#"
        order-1  completed
          type       order-saga
          run        00000000-0000-0000-0000-000000000000
          component  abababababab
          started    2026-01-01 00:00:00 (2 min 5 s ago)
          closed     2026-01-01 00:01:30 (35 s ago), after 1 min 30 s
          history    7 events

        It returned {"payment_id":"p-1"}
        "#);
        let failure =
            json!({ "message": "the workflow was terminated: no", "kind": { "kind": "terminated" } });
        let terminated = json!({ "status": "terminated", "closed_at": closed_at, "failure": failure });
        insta::assert_snapshot!(shown(terminated), @r"
        order-1  terminated
          type       order-saga
          run        00000000-0000-0000-0000-000000000000
          component  abababababab
          started    2026-01-01 00:00:00 (2 min 5 s ago)
          closed     2026-01-01 00:01:30 (35 s ago), after 1 min 30 s
          history    7 events

        It was terminated: no.
        ");
    }
}
