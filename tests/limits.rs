//! Limits of a run: a warning well before, a clear fault at the limit, and nothing lost.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::path::Path;

use everfold::activity::Registry;
use everfold::guest::EngineSettings;
use everfold::runner::HostSettings;
use everfold::runner::api::ApiError;
use everfold_core::decision::BlockKind;
use everfold_core::limits::{LimitKind, Limits};
use serde_json::json;
use support::server::{Server, text};
use support::{PATIENCE, TestHost, request, returned, run};

async fn samples(folder: &Path, limits: Limits) -> TestHost {
    let settings = HostSettings { limits, ..HostSettings::default() };
    let test = TestHost::open_with(folder, Registry::default(), &settings, EngineSettings::default()).await;
    test.deploy("samples").await;
    test
}

fn counted(test: &TestHost, limit: LimitKind) -> u64 {
    let metrics = test.host.telemetry().render();
    let of = format!("limit=\"{}\"", limit.name());
    let counted = metrics
        .lines()
        .filter(|line| line.starts_with("everfold_run_limit_warnings_total{") && line.contains(&of));
    counted.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// How often a limit was warned of; waits for the first time, which is told behind the answers to callers.
async fn warnings(test: &TestHost, limit: LimitKind) -> u64 {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while counted(test, limit) == 0 {
        assert!(tokio::time::Instant::now() < deadline, "nobody warns of {limit:?}");
        tokio::task::yield_now().await;
    }
    counted(test, limit)
}

/// The limits that a run is near to.
async fn near(test: &TestHost, id: &str) -> Vec<(LimitKind, u64, u64)> {
    let described = test.host.describe(&run(id)).await.unwrap();
    described.near_limits.iter().map(|usage| (usage.limit, usage.used, usage.most)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_comes_near_to_its_limits_says_so_once_and_goes_on_when_they_are_raised() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { history_events: 10, ..Limits::default() };
    let test = samples(folder.path(), limits).await;
    test.start("signals", "run", &json!({ "count": 7 })).await;
    for number in 1..=3 {
        test.signal("run", "add", &json!(number)).await.unwrap();
    }
    assert_eq!(near(&test, "run").await, [], "seven events");
    test.signal("run", "add", &json!(4)).await.unwrap();
    assert_eq!(near(&test, "run").await, [(LimitKind::HistoryEvents, 9, 10)]);
    let message = test.host.describe(&run("run")).await.unwrap().near_limits[0].to_string();
    assert_eq!(message, "its history has 9 of 10 events: continue as new");
    // The eleventh event would be that it is taken.
    for number in 5..=6 {
        test.signal("run", "add", &json!(number)).await.unwrap();
    }
    let blocked = test.until("run", |run| run.blocked.is_some()).await;
    let why = blocked.blocked.clone().unwrap();
    assert_eq!(
        (why.kind, why.reason.as_str()),
        (BlockKind::LimitExceeded, "a history has at most 10 events")
    );
    assert_eq!(warnings(&test, LimitKind::HistoryEvents).await, 1, "once");
    test.kill().await;

    let test = samples(folder.path(), Limits::default()).await;
    test.signal("run", "add", &json!(7)).await.unwrap();
    assert_eq!(returned(&test.end("run").await), json!([1, 2, 3, 4, 5, 6, 7]));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_of_a_history_are_a_limit_too() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { history_bytes: 10_000, payload_bytes: 3_000, ..Limits::default() };
    let test = samples(folder.path(), limits).await;
    test.start("talkative", "run", &json!({ "steps": 0 })).await;
    let note = json!("x".repeat(2_600));
    for _ in 0..3 {
        test.signal("run", "note", &note).await.unwrap();
    }
    let told = near(&test, "run").await;
    let [(LimitKind::PayloadBytes, 2_620, 3_000), (LimitKind::HistoryBytes, used, 10_000)] = told[..] else {
        panic!("{told:?}")
    };
    assert!((8_000..9_000).contains(&used), "{used}");
    assert_eq!(warnings(&test, LimitKind::PayloadBytes).await, 1, "once for the run");
    assert_eq!(warnings(&test, LimitKind::HistoryBytes).await, 1);
    let refused = test.signal("run", "note", &json!("x".repeat(3_000))).await;
    assert!(
        matches!(&refused, Err(ApiError::InvalidInput(why)) if why.contains("at most 3000")),
        "{refused:?}"
    );
    test.signal("run", "note", &note).await.unwrap();
    test.signal("run", "go", &json!(null)).await.unwrap();
    let blocked = test.until("run", |run| run.blocked.is_some()).await.blocked.unwrap();
    assert_eq!(blocked.reason, "a history has at most 10000 bytes");
    test.kill().await;

    let test = samples(folder.path(), Limits::default()).await;
    test.end("run").await;
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_updates_and_activities_are_told_before_they_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { signals: 5, pending_updates: 5, pending_activities: 5, ..Limits::default() };
    let test = samples(folder.path(), limits).await;
    test.host.start(request("cart", "cart", &json!({ "closed_at_first": true }))).await.unwrap();
    for number in 0..4 {
        test.signal("cart", "note", &json!(number)).await.unwrap();
        let change = json!({ "article": "tea", "quantity": 1 });
        let update = support::update("cart", &format!("u-{number}"), "change", &change);
        test.host.update(update).await.unwrap();
    }
    let told = near(&test, "cart").await;
    assert_eq!(told, [(LimitKind::Signals, 4, 5), (LimitKind::PendingUpdates, 4, 5)]);
    assert_eq!(
        (warnings(&test, LimitKind::Signals).await, warnings(&test, LimitKind::PendingUpdates).await),
        (1, 1)
    );
    test.signal("cart", "note", &json!(4)).await.unwrap();
    let refused = test.signal("cart", "note", &json!(5)).await;
    assert!(
        matches!(&refused, Err(ApiError::LimitExceeded(why)) if why.contains("at most 5 signals")),
        "{refused:?}"
    );

    // Activities that nobody serves stay open.
    test.start("fan-out", "fan", &json!({ "width": 4 })).await;
    test.until("fan", |run| !run.near_limits.is_empty() || run.closed_at.is_some()).await;
    assert_eq!(warnings(&test, LimitKind::PendingActivities).await, 1);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_sees_that_a_limit_is_near() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    let config = folder.path().join("everfold.toml");
    std::fs::write(&config, "[limits]\nhistory_events = 5\n").unwrap();
    let server = Server::start_with(&data, &[("EVERFOLD_CONFIG", config.to_str().unwrap())]).await;
    server.deploy("samples");
    assert!(
        server.everfold(&["start", "signals", "--id", "run", "--input", r#"{"count":3}"#]).status.success()
    );
    for number in ["1", "2"] {
        assert!(server.everfold(&["signal", "run", "add", number]).status.success());
    }
    let shown = text(&server.everfold(&["show", "run"]));
    assert!(shown.contains("warning    its history has 5 of 5 events: continue as new"), "{shown}");
    server.says("a run comes near to a limit").await;
}
