//! Schedules: in virtual time over months and both changes of the clock, beside runs that stay open, behind kills and pauses; and
//! the real binary, killed again and again around the times at which it starts runs.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use everfold::activity::Registry;
use everfold::clock::{Clock, TimeSource as _, VirtualTime};
use everfold::guest::EngineSettings;
use everfold::runner::HostSettings;
use everfold::runner::api::{
    ApiError, Definition, ListRequest, OverlapPolicy, Policies, Query, RoutingChange, RoutingRequest,
    ScheduleAction, ScheduleDescription, ScheduleKey, ScheduleOrder, ScheduleRequest, ScheduleUpdate, Span,
    Terms,
};
use everfold_core::attributes::{Memo, SearchAttributes};
use everfold_core::ids::{Namespace, Timestamp};
use everfold_core::machine::RunStatus;
use everfold_core::payload::Payload;
use serde_json::{Value, json};
use support::server::{Server, text};
use support::{PATIENCE, TestHost, component, root, run};

const MINUTE: Duration = Duration::from_secs(60);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A host whose clock stands, and its clock.
async fn open(folder: &Path, time: &VirtualTime) -> TestHost {
    let clock = Clock::from_source(time.clone());
    let (settings, engine) = (HostSettings::default(), EngineSettings::default());
    TestHost::open_at(folder, Registry::default(), &settings, engine, clock).await
}

async fn began(folder: &Path, now: &str) -> (TestHost, VirtualTime) {
    let time = VirtualTime::starting_at(at(now));
    let test = open(folder, &time).await;
    test.deploy("samples").await;
    (test, time)
}

fn key(id: &str) -> ScheduleKey {
    ScheduleKey { namespace: Namespace::default(), schedule_id: id.to_owned() }
}

fn definition(
    workflow_type: &str,
    prefix: &str,
    input: &Value,
    spec: Value,
    policies: Policies,
) -> Definition {
    Definition {
        spec: serde_json::from_value(spec).unwrap(),
        action: ScheduleAction {
            workflow_type: workflow_type.to_owned(),
            workflow_id: prefix.to_owned(),
            input: Payload::json(input).unwrap(),
            headers: Vec::new(),
            digest: None,
            search_attributes: SearchAttributes::new(),
            memo: Memo::new(),
            terms: Terms::default(),
        },
        policies,
    }
}

fn request(id: &str, definition: Definition) -> ScheduleRequest {
    ScheduleRequest {
        key: key(id),
        definition,
        paused: false,
        note: String::new(),
        remaining_actions: None,
        request_id: None,
    }
}

fn every_minute() -> Value {
    json!({ "cron": ["* * * * *"] })
}

fn overlap(overlap: OverlapPolicy) -> Policies {
    Policies { overlap, ..Policies::default() }
}

/// Runs that stay open until they get a number.
fn open_runs(id: &str, policies: Policies) -> ScheduleRequest {
    request(id, definition("signals", id, &json!({ "count": 1 }), every_minute(), policies))
}

/// Runs that end at once.
fn short_runs(id: &str, spec: Value, policies: Policies) -> ScheduleRequest {
    request(id, definition("echo", id, &json!(1), spec, policies))
}

/// Waits until a schedule is as wanted.
async fn until(
    test: &TestHost,
    id: &str,
    is_so: impl Fn(&ScheduleDescription) -> bool,
) -> ScheduleDescription {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let schedule = test.host.describe_schedule(&key(id)).await.unwrap();
        if is_so(&schedule) {
            return schedule;
        }
        assert!(tokio::time::Instant::now() < deadline, "{id}: {schedule:#?}");
        tokio::task::yield_now().await;
    }
}

/// The runs that a schedule has started: workflow id and nominal time, the earliest first.
async fn started(test: &TestHost, id: &str) -> Vec<(String, Timestamp)> {
    let query = Query::parse(&format!("scheduled_by = '{id}' order by run_id")).unwrap();
    let request = ListRequest { namespace: Namespace::default(), query, after: None, limit: 1_000 };
    let page = test.host.list(request).await.unwrap();
    let nominal = |attributes: &SearchAttributes| match attributes.get("scheduled_start_time") {
        Some(everfold_core::attributes::AttributeValue::Time(time)) => *time,
        other => panic!("{other:?}"),
    };
    page.runs.iter().map(|run| (run.workflow_id.0.clone(), nominal(&run.details.search_attributes))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_starts_at_each_time_over_both_changes_of_the_clock() {
    let folder = tempfile::tempdir().unwrap();
    let (test, time) = began(folder.path(), "2026-03-01T12:00:00Z").await;
    let spec = json!({ "cron": ["30 2 * * *"], "time_zone": "Europe/Berlin" });
    let made = test.host.create_schedule(short_runs("nightly", spec, Policies::default())).await.unwrap();
    assert_eq!(made.next_times.len(), 10);
    let mut next = made.next_times[0];
    let mut count = 0;
    while next < at("2026-11-01T12:00:00Z") {
        time.advance_to(next);
        count += 1;
        let now = until(&test, "nightly", |now| now.counts.started == count && now.running.is_empty()).await;
        next = now.next_times[0];
    }
    let runs = started(&test, "nightly").await;
    // 245 days, one of which has no such time and one has it twice.
    assert_eq!((runs.len(), count), (245, 245));
    assert_eq!(runs.iter().map(|(id, _)| id).collect::<BTreeSet<_>>().len(), 245);
    let on =
        |day: &str| runs.iter().map(|(id, _)| id.as_str()).filter(|id| id.contains(day)).collect::<Vec<_>>();
    assert_eq!(on("2026-03-28"), ["nightly-2026-03-28T01:30:00Z"]);
    assert_eq!(on("2026-03-29"), [""; 0]);
    assert_eq!(on("2026-03-30"), ["nightly-2026-03-30T00:30:00Z"]);
    assert_eq!(on("2026-10-25"), ["nightly-2026-10-25T00:30:00Z", "nightly-2026-10-25T01:30:00Z"]);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_overlap_policy_meets_a_run_that_stays_open() {
    let folder = tempfile::tempdir().unwrap();
    let (test, time) = began(folder.path(), "2026-01-01T00:00:00Z").await;
    for policy in OverlapPolicy::ALL {
        test.host.create_schedule(open_runs(policy.name(), overlap(policy))).await.unwrap();
    }
    let first = |id: &str| format!("{id}-2026-01-01T00:01:00Z");
    for minute in 1..=3 {
        time.advance(MINUTE);
        for policy in OverlapPolicy::ALL {
            let passed = time.now().0;
            until(&test, policy.name(), |now| {
                let done = match policy {
                    OverlapPolicy::Skip => now.counts.skipped_overlap == minute - 1,
                    OverlapPolicy::BufferOne => now.counts.skipped_overlap + now.waiting as u64 == minute - 1,
                    OverlapPolicy::BufferAll => now.waiting as u64 == minute - 1,
                    OverlapPolicy::CancelOther | OverlapPolicy::TerminateOther | OverlapPolicy::AllowAll => {
                        now.counts.started == minute
                    }
                };
                done && now.counts.started > 0 && now.next_times[0].0 > passed
            })
            .await;
        }
    }
    let status = async |id: &str| test.host.describe(&run(id)).await.unwrap().status;
    for (id, expected) in [
        ("skip", RunStatus::Running),
        ("buffer_one", RunStatus::Running),
        ("buffer_all", RunStatus::Running),
        ("cancel_other", RunStatus::Canceled),
        ("terminate_other", RunStatus::Terminated),
        ("allow_all", RunStatus::Running),
    ] {
        assert_eq!(status(&first(id)).await, expected, "{id}");
    }
    assert_eq!(status("cancel_other-2026-01-01T00:03:00Z").await, RunStatus::Running);
    assert_eq!(status("terminate_other-2026-01-01T00:03:00Z").await, RunStatus::Running);
    assert_eq!(until(&test, "allow_all", |_| true).await.running.len(), 3);

    // What waits begins when the open run ends.
    for id in ["skip", "buffer_one", "buffer_all"] {
        test.signal(&first(id), "add", &json!(1)).await.unwrap();
    }
    let skip = until(&test, "skip", |now| now.running.is_empty()).await;
    assert_eq!((skip.counts.started, skip.counts.skipped_overlap), (1, 2));
    let one = until(&test, "buffer_one", |now| now.counts.started == 2).await;
    assert_eq!((one.waiting, one.counts.skipped_overlap), (0, 1));
    let all = until(&test, "buffer_all", |now| now.counts.started == 2).await;
    assert_eq!((all.waiting, all.running[0].workflow_id.0.as_str()), (1, "buffer_all-2026-01-01T00:02:00Z"));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passed_while_the_host_was_down_is_caught_up_with_once() {
    let folder = tempfile::tempdir().unwrap();
    let (mut test, time) = began(folder.path(), "2026-01-01T00:00:00Z").await;
    let window = Policies { catchup_window: Some(Span::seconds(150)), ..overlap(OverlapPolicy::AllowAll) };
    test.host
        .create_schedule(short_runs("all", every_minute(), overlap(OverlapPolicy::AllowAll)))
        .await
        .unwrap();
    test.host.create_schedule(short_runs("window", every_minute(), window)).await.unwrap();
    test.host.create_schedule(open_runs("waits", overlap(OverlapPolicy::BufferAll))).await.unwrap();
    for round in 1..=3_u64 {
        time.advance(MINUTE);
        until(&test, "all", |now| now.counts.started == (round - 1) * 10 + 1).await;
        test.kill().await;
        time.advance(9 * MINUTE);
        test = open(folder.path(), &time).await;
        until(&test, "all", |now| now.counts.started == round * 10 && now.running.is_empty()).await;
    }
    let runs = started(&test, "all").await;
    let nominal: Vec<i64> = runs.iter().map(|(_, nominal)| nominal.0).collect();
    let begin = at("2026-01-01T00:00:00Z").0;
    assert_eq!(nominal, (1..=30).map(|n| begin + n * 60_000).collect::<Vec<_>>());
    // Each time the last three of the nine minutes, and the one before the kill.
    let window =
        until(&test, "window", |now| now.counts.started + now.counts.missed_catchup_window == 30).await;
    assert_eq!(window.counts.missed_catchup_window, 18, "{window:#?}");
    // The run that was open is still followed.
    until(&test, "waits", |now| now.waiting == 29).await;
    test.signal("waits-2026-01-01T00:01:00Z", "add", &json!(1)).await.unwrap();
    until(&test, "waits", |now| now.counts.started == 2 && now.waiting == 28).await;
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_of_years_holds_nobody_up_and_can_be_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::open(folder.path(), Registry::default()).await;
    test.deploy("samples").await;
    let every_second = || json!({ "intervals": [{ "every": "1s" }] });
    let mut long = short_runs("long", every_second(), Policies::default());
    long.paused = true;
    test.host.create_schedule(long).await.unwrap();
    let (from, to) = (at("1980-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z"));
    let order = ScheduleOrder::Backfill { from, to, overlap: None };
    test.host.order_schedule(&key("long"), order, None).await.unwrap();
    test.host.create_schedule(short_runs("short", every_second(), Policies::default())).await.unwrap();
    until(&test, "short", |now| now.counts.started >= 2).await;
    assert_eq!(test.host.describe_schedule(&key("long")).await.unwrap().backfills, 1, "it is not done");
    test.kill().await;
    let test = TestHost::open(folder.path(), Registry::default()).await;
    let before = test.host.describe_schedule(&key("short")).await.unwrap().counts.started;
    until(&test, "short", |now| now.counts.started > before).await;
    test.host.delete_schedule(&key("long")).await.unwrap();
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_a_trigger_a_backfill_and_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let (test, time) = began(folder.path(), "2026-01-01T00:00:00Z").await;
    let all = overlap(OverlapPolicy::AllowAll);
    let mut limited = short_runs("s", every_minute(), all);
    limited.remaining_actions = Some(2);
    limited.request_id = Some("made".to_owned());
    test.host.create_schedule(limited.clone()).await.unwrap();
    test.host.create_schedule(limited.clone()).await.unwrap();
    limited.request_id = None;
    assert!(matches!(test.host.create_schedule(limited).await, Err(ApiError::AlreadyExists(_))));
    let order = async |order: ScheduleOrder, request_id: &str| {
        test.host.order_schedule(&key("s"), order, Some(request_id)).await.unwrap()
    };
    let paused = order(ScheduleOrder::Pause { note: "audit".to_owned() }, "p").await;
    assert_eq!((paused.paused, paused.note.as_str(), paused.next_times.len()), (true, "audit", 0));
    time.advance(5 * MINUTE);
    // Twice the same trigger is one.
    order(ScheduleOrder::Trigger { overlap: None }, "t").await;
    let triggered = order(ScheduleOrder::Trigger { overlap: None }, "t").await;
    assert_eq!(triggered.counts.started, 1);
    let (from, to) = (at("2025-12-31T00:00:00Z"), at("2025-12-31T02:00:00Z"));
    order(ScheduleOrder::Backfill { from, to, overlap: None }, "b").await;
    let backfilled = until(&test, "s", |now| now.counts.started == 122).await;
    assert_eq!((backfilled.backfills, backfilled.remaining_actions), (0, Some(2)));
    order(ScheduleOrder::Unpause { note: String::new() }, "u").await;
    for minute in 1..=4 {
        time.advance(MINUTE);
        until(&test, "s", |now| now.counts.started == 122 + u64::min(minute, 2)).await;
    }
    let ended = until(&test, "s", |now| now.remaining_actions == Some(0)).await;
    assert_eq!(ended.next_times, []);
    let runs = started(&test, "s").await;
    assert_eq!(runs.len(), 124);
    assert_eq!(runs[122].0, "s-2026-01-01T00:06:00Z", "what passed during the pause is past");

    // A change counts from now on, and only from what was seen.
    let changed = definition(
        "echo",
        "other",
        &json!(2),
        json!({ "intervals": [{ "every": "1h", "offset": "30m" }] }),
        all,
    );
    let update = ScheduleUpdate {
        key: key("s"),
        definition: changed,
        note: None,
        remaining_actions: None,
        revision: Some(1),
    };
    assert!(matches!(test.host.update_schedule(update.clone()).await, Err(ApiError::Conflict(_))));
    let now =
        test.host.update_schedule(ScheduleUpdate { revision: Some(ended.revision), ..update }).await.unwrap();
    assert_eq!(now.next_times[..2], [at("2026-01-01T00:30:00Z"), at("2026-01-01T01:30:00Z")]);
    time.advance_to(at("2026-01-01T00:30:00Z"));
    until(&test, "s", |now| now.counts.started == 125).await;
    assert_eq!(started(&test, "s").await[124].0, "other-2026-01-01T00:30:00Z");
    test.host.delete_schedule(&key("s")).await.unwrap();
    assert!(matches!(test.host.describe_schedule(&key("s")).await, Err(ApiError::NotFound(_))));
    assert!(matches!(test.host.delete_schedule(&key("s")).await, Err(ApiError::NotFound(_))));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_fails_pauses_its_schedule_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (test, time) = began(folder.path(), "2026-01-01T00:00:00Z").await;
    let policies = Policies { pause_on_failure: true, ..Policies::default() };
    // Its input does not decode.
    let failing = request("f", definition("signals", "f", &json!("no"), every_minute(), policies));
    test.host.create_schedule(failing).await.unwrap();
    time.advance(MINUTE);
    let paused = until(&test, "f", |now| now.paused).await;
    assert_eq!(paused.note, "paused because workflow f-2026-01-01T00:01:00Z failed");
    // One that waits longer than it may.
    let mut late = open_runs("late", policies);
    late.definition.action.terms.run_timeout_ms = Some(90_000);
    test.host.create_schedule(late).await.unwrap();
    time.advance(MINUTE);
    until(&test, "late", |now| now.counts.started == 1).await;
    time.advance(2 * MINUTE);
    let paused = until(&test, "late", |now| now.paused).await;
    assert_eq!(paused.note, "paused because workflow late-2026-01-01T00:02:00Z timed out");
    // A type that nobody deployed is waited for.
    let mut unknown = short_runs("u", every_minute(), Policies::default());
    unknown.definition.action.workflow_type = "order-saga".to_owned();
    test.host.create_schedule(unknown).await.unwrap();
    time.advance(MINUTE);
    let waits = until(&test, "u", |now| now.last_error.is_some()).await;
    assert_eq!((waits.waiting, waits.counts.failed), (1, 0));
    test.deploy("order").await;
    time.advance(MINUTE);
    until(&test, "u", |now| now.counts.started == 1 && now.last_error.is_none()).await;
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_follows_the_version_route_or_stays_pinned() {
    let folder = tempfile::tempdir().unwrap();
    let (test, time) = began(folder.path(), "2026-01-01T00:00:00Z").await;
    let namespace = Namespace::default();
    let first = test.host.deploy(&namespace, component("order")).await.unwrap().digest;
    let second = test.host.deploy(&namespace, component("order-next")).await.unwrap().digest;
    let make = |id: &str, digest| {
        let input = support::saga_input();
        let mut made =
            request(id, definition("order", id, &input, every_minute(), overlap(OverlapPolicy::AllowAll)));
        made.definition.action.digest = digest;
        made
    };
    test.host.create_schedule(make("follows", None)).await.unwrap();
    test.host.create_schedule(make("pinned", Some(first))).await.unwrap();
    time.advance(MINUTE);
    for id in ["follows", "pinned"] {
        until(&test, id, |now| now.counts.started == 1).await;
    }
    let change = RoutingRequest {
        namespace,
        workflow_type: "order".to_owned(),
        change: RoutingChange::Promote(Some(second)),
    };
    test.host.route(change).await.unwrap();
    time.advance(MINUTE);
    for (id, minute, digest) in
        [("follows", 1, first), ("pinned", 1, first), ("follows", 2, second), ("pinned", 2, first)]
    {
        until(&test, id, |now| now.counts.started == 2).await;
        let described = test.host.describe(&run(&format!("{id}-2026-01-01T00:0{minute}:00Z"))).await.unwrap();
        assert_eq!(described.digest, digest, "{id} {minute}");
    }
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_binary_killed_around_its_times_starts_each_run_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(&folder.path().join("data")).await;
    let samples = root().join("target/components/samples.wasm");
    assert!(server.everfold(&["deploy", samples.to_str().unwrap()]).status.success());
    let create =
        ["schedule", "create", "tick", "--type", "echo", "--every", "1s", "--overlap", "allow_all", "--json"];
    let made = server.everfold(&create);
    assert!(made.status.success(), "{}", text(&made));
    for round in 0_u64..8 {
        // Different places between two times, the time itself among them.
        let made: Value = server.get("/api/v1/schedules/tick").await;
        let seen = made["counts"]["started"].as_u64().unwrap();
        loop {
            let now = server.get("/api/v1/schedules/tick").await;
            if now["counts"]["started"].as_u64().unwrap() > seen {
                break;
            }
        }
        let pause = Duration::from_millis(850 + 40 * round);
        tokio::time::sleep(pause).await;
        server.kill();
        server.restart().await;
    }
    let paused = server.everfold(&["schedule", "pause", "tick", "--note", "enough", "--json"]);
    assert!(paused.status.success(), "{}", text(&paused));
    let schedule = server.get("/api/v1/schedules/tick").await;
    let listed = server.everfold(&["list", "--json", "--limit", "1000", "--query", "scheduled_by = 'tick'"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let nominal = |run: &Value| {
        let text = run["search_attributes"]["scheduled_start_time"].as_str().unwrap().to_owned();
        (text.parse::<Timestamp>().unwrap().0 / 1_000, run["workflow_id"].as_str().unwrap().to_owned())
    };
    let mut runs: Vec<(i64, String)> = listed["runs"].as_array().unwrap().iter().map(nominal).collect();
    runs.sort();
    let seconds: Vec<i64> = runs.iter().map(|(second, _)| *second).collect();
    let all: Vec<i64> = (seconds[0]..=*seconds.last().unwrap()).collect();
    assert_eq!(seconds, all, "each second once");
    assert_eq!(schedule["counts"]["started"], json!(runs.len()), "{schedule}");
    assert_eq!(schedule["counts"]["missed_catchup_window"], json!(0));
    assert!(runs.len() > 8, "{}", runs.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_makes_shows_changes_and_deletes_schedules() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data")).await;
    let samples = root().join("target/components/samples.wasm");
    assert!(server.everfold(&["deploy", samples.to_str().unwrap()]).status.success());
    let schedule = |arguments: &[&str]| server.everfold(&[&["schedule"][..], arguments].concat());
    let create = [
        "create",
        "report",
        "--type",
        "echo",
        "--input",
        "{\"a\":1}",
        "--cron",
        "30 9 * * MON-FRI",
        "--time-zone",
        "Europe/Berlin",
        "--overlap",
        "buffer_one",
        "--jitter",
        "5m",
        "--memo",
        "by=\"Ada\"",
        "--search-attribute",
        "team=billing",
        "--note",
        "for accounting",
    ];
    let made = schedule(&create);
    assert!(made.status.success(), "{}", text(&made));
    let again = schedule(&create);
    assert_eq!(again.status.code(), Some(4), "{}", text(&again));
    let shown = text(&schedule(&["show", "report"]));
    for part in [
        "report  active",
        "echo as report-TIME",
        "30 9 * * MON-FRI in Europe/Berlin",
        "buffer_one",
        "for accounting",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let triggered = schedule(&["trigger", "report", "--json"]);
    let triggered: Value = serde_json::from_slice(&triggered.stdout).unwrap();
    let id = triggered["recent"][0]["workflow_id"].as_str().unwrap().to_owned();
    assert_eq!(server.end(&id).await["result"], json!({ "a": 1 }));
    let run = server.get(&format!("/api/v1/workflows/{id}")).await;
    assert_eq!(
        (&run["memo"], &run["search_attributes"]["team"]),
        (&json!({ "by": "Ada" }), &json!("billing"))
    );
    let backfill = ["backfill", "report", "--from", "2026-01-05T00:00:00Z", "--to", "2026-01-12T00:00:00Z"];
    let backfilled = schedule(&[&backfill[..], &["--overlap", "allow_all", "--json"]].concat());
    let backfilled: Value = serde_json::from_slice(&backfilled.stdout).unwrap();
    assert_eq!(backfilled["counts"]["started"], json!(6), "Monday to Friday");
    assert_eq!(backfilled["recent"][1]["workflow_id"], json!("report-2026-01-05T08:30:00Z"));

    let updated = schedule(&["update", "report", "--cron", "@hourly", "--overlap", "skip", "--json"]);
    let updated: Value = serde_json::from_slice(&updated.stdout).unwrap();
    assert_eq!(
        (&updated["spec"]["cron"], &updated["policies"]["overlap"]),
        (&json!(["@hourly"]), &json!("skip"))
    );
    assert_eq!(
        (&updated["spec"]["time_zone"], &updated["note"]),
        (&json!("Europe/Berlin"), &json!("for accounting"))
    );
    assert!(text(&schedule(&["pause", "report", "--note", "audit"])).contains("report  paused"));
    assert!(text(&schedule(&["list"])).contains("report  echo  paused"));
    assert!(text(&schedule(&["unpause", "report"])).contains("report  active"));
    for (arguments, code, why) in [
        (&["create", "x", "--type", "echo"][..], 2, "at least one of cron, calendars and intervals"),
        (&["create", "x", "--type", "echo", "--cron", "61 * * * *"], 2, "minute: 61 is not between 0 and 59"),
        (
            &["create", "x", "--type", "echo", "--cron", "@daily", "--time-zone", "Moon"],
            2,
            "no time zone `Moon`",
        ),
        (&["create", "x", "--cron", "@daily"], 2, "--type says which runs"),
        (&["show", "x"], 3, "there is no schedule x"),
    ] {
        let refused = schedule(arguments);
        assert_eq!(refused.status.code(), Some(code), "{arguments:?}: {}", text(&refused));
        assert!(text(&refused).contains(why), "{arguments:?}: {}", text(&refused));
    }
    assert!(text(&schedule(&["delete", "report"])).contains("deleted report"));
    assert!(text(&schedule(&["list"])).contains("there are no schedules"));
}
